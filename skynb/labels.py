"""Labels that people give: a log that nothing is lost from, and what to ask them about next.

The log is a CSV file to which one line per decision is added and none is ever changed. Which object
comes next is a function of the features, the log and a seed: the same three give the same queue.
"""

import hashlib
import os
import re
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import train_test_split
from tqdm.auto import tqdm

from skynb import outliers
from skynb.features import Gaussian

KINDS = ("label", "skip", "undo")
STRATEGIES = {
    "margin": "uncertain: two classes nearly alike",
    "entropy": "uncertain: many classes possible",
    "diversity": "unlike all seen so far",
    "anomaly": "like the hunted classes",
    "random": "by lot",
}
"""Ways to order the queue, and what each means.

``margin`` and ``entropy``: where a forest of the labels so far is least sure (Settles 2009,
Computer Sciences TR 1648, Wisconsin); ``diversity``: farthest from all that was decided (Gonzalez
1985, Theor. Comput. Sci. 38, 293); ``anomaly``: coniferest's active anomaly discovery, as in
`skynb.outliers.hunt`; ``random``, a control.
"""

EVERY = 5
"""Decisions after which the queue is ordered anew."""

N_POOL = 5000
"""Objects that the queue is drawn from at a time; ordering them takes about 0.1 s."""

N_AHEAD = 50
"""Objects of a queue, beyond those decided before it is ordered anew."""


@dataclass(frozen=True)
class Entry:
    """One line of a `Log`: ``when`` in UTC, how the object was ``proposed``, and by what."""

    when: str
    who: str
    object_id: int | str
    label: str
    proposed: str
    model: str
    kind: str


COLUMNS = tuple(Entry.__dataclass_fields__)
_HEADER = ",".join(COLUMNS)
_LINE = re.compile(",".join([r'("(?:[^"]|"")*"|[^",]*)'] * len(COLUMNS)))


class Log:
    """An append-only file of who called which object what, and when.

    Every line is on the disk before `append` returns. Several processes may append at once. A line
    that was cut is left where it is and counts for nothing; the next one begins below it.

    Parameters
    ----------
    path : path
        A CSV file: text in quotes, integer ids without. It need not be there yet.

    Attributes
    ----------
    damaged : dict
        Line number -> text of the lines that hold no decision.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> log = Log(f"{folder.name}/labels.csv")
    >>> _ = log.append(2**60 + 1, "RRab", who="me")
    >>> _ = log.append("star 2", "EW", who="me")
    >>> _ = log.undo("me")
    >>> Log(log.path).labels().to_dict()
    {1152921504606846977: 'RRab'}
    """

    def __init__(self, path):
        self.path = Path(path).expanduser()
        self._forget()
        self.refresh()

    def __len__(self):
        return len(self.entries)

    @property
    def entries(self):
        """The lines so far, as a list of `Entry`."""
        last = _parsed(self._tail)
        return [*self._entries, last] if last else self._entries

    @property
    def damaged(self):
        cut = self._tail and not _parsed(self._tail) and not _HEADER.startswith(self._tail)
        return self._damaged | ({self._n_lines + 1: self._tail} if cut else {})

    def refresh(self):
        """Read what was added since, by whomever."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._end - len(self._seen))
                data = file.read()
                if not data.startswith(self._seen):  # another file is there now
                    self._forget()
                    file.seek(0)
                    data = file.read()
                whole, newline, tail = data[len(self._seen) :].rpartition(b"\n")
        except FileNotFoundError:
            self._forget()
            return
        except OSError as error:
            raise OSError(f"cannot read {self.path}: {error.strerror}") from None
        lines = (whole + newline).decode("utf-8-sig", "replace").split("\n")[:-1]
        self._tail = tail.decode("utf-8-sig", "replace")
        first = (*lines, self._tail)[0].rstrip("\r").replace('"', "")
        if self._n_lines == 0 and not _HEADER.startswith(first):
            raise ValueError(
                f"{self.path} is not a label log: it begins with {first[:40]!r}, not {_HEADER!r};"
                " choose another path"
            )
        self._end += len(whole + newline)
        self._seen = (self._seen + whole + newline)[-500:]
        for line in lines:
            self._n_lines += 1
            if entry := _parsed(line):
                self._entries.append(entry)
            elif line.strip() and line.rstrip("\r").replace('"', "") != _HEADER:
                self._damaged[self._n_lines] = line

    def append(self, object_id, label="", *, who, kind="label", proposed="", model=""):
        """Return the `Entry` of a decision, once it is on the disk.

        Raises
        ------
        ValueError
            If the id is neither int nor str, or a text holds a line break.
        OSError
            If the file cannot be written; the decision does not count then.
        """
        object_id = getattr(object_id, "item", lambda: object_id)()
        if isinstance(object_id, bool) or not isinstance(object_id, int | str):
            raise ValueError(
                f"the object id {object_id!r} is neither int nor str; convert it first"
            )
        if kind not in KINDS or ((kind == "label") != bool(label) and kind != "undo"):
            raise ValueError(f"a {kind} of {label!r}; give a label, or skip without one")
        when = datetime.now(UTC).isoformat(timespec="microseconds")
        entry = Entry(when, who, object_id, label, proposed, model, kind)
        line = _line(entry)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with _alone(self.path) as file:
                self.refresh()
                start = "\n" if self._tail else ""
                if not self._n_lines:
                    start += _HEADER + "\n"
                data = f"{start}{line}\n".encode()
                if os.write(file, data) < len(data):
                    raise OSError(None, "the line was cut; is the disk full?")
                os.fsync(file)
                self.refresh()
        except OSError as error:
            reason = error.strerror or error
            raise OSError(f"cannot write {self.path}: {reason}; nothing was recorded") from None
        return entry

    def undo(self, who):
        """Return the last decision of this person that stands, taken back; None if there is none.

        That is one line more: the one taken back stays.
        """
        self.refresh()
        mine = [e for stack in _standing(self.entries).values() for e in stack if e.who == who]
        if not mine:
            return None
        rank = {id(entry): k for k, entry in enumerate(self.entries)}
        last = max(mine, key=lambda entry: rank[id(entry)])
        about = {"proposed": last.proposed, "model": last.model}
        self.append(last.object_id, last.label, who=who, kind="undo", **about)
        return last

    def standing(self):
        """Return what stands of every object, in the order of their first decision.

        A later label counts instead of an earlier one, whoever gave it; a skip counts if there is
        no label. The index is ``object_id``, the columns are those of `Entry`.
        """
        found = [
            next((entry for entry in reversed(stack) if entry.kind == "label"), stack[-1])
            for stack in _standing(self.entries).values()
        ]
        return pd.DataFrame(map(astuple, found), columns=COLUMNS).set_index("object_id")

    def labels(self):
        """Return the label of every labelled object, as a Series of str."""
        standing = self.standing()
        return standing.loc[standing["kind"] == "label", "label"].astype(str)

    def to_frame(self):
        """Return every line as a row of a DataFrame."""
        return pd.DataFrame(map(astuple, self.entries), columns=COLUMNS)

    def _forget(self):
        self._entries, self._damaged, self._tail = [], {}, ""
        self._end, self._n_lines, self._seen = 0, 0, b""


@contextmanager
def _alone(path):
    """Open a file for appending while no other process appends, where the system has locks."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        except (ImportError, OSError):
            pass  # one write is still whole on a local disk
        yield file
    finally:
        os.close(file)


def _line(entry):
    fields = astuple(entry)
    for name, text in zip(COLUMNS, fields, strict=True):
        if isinstance(text, str) and re.search(r"[\x00-\x1f\x7f\u2028\u2029]", text):
            raise ValueError(f"the {name} {text!r} holds a line break or the like; take it out")
    quoted = ['"{}"'.format(f.replace('"', '""')) if isinstance(f, str) else str(f) for f in fields]
    return ",".join(quoted)


def _parsed(line):
    """Return the `Entry` of a line, None if it is not whole: its last word says so."""
    if not (match := _LINE.fullmatch(line.rstrip("\r"))):
        return None
    values = [f[1:-1].replace('""', '"') if f[:1] == '"' else f for f in match.groups()]
    raw = match[COLUMNS.index("object_id") + 1]
    if values[-1] not in KINDS or not raw:
        return None
    if re.fullmatch(r"-?\d+", raw):
        values[COLUMNS.index("object_id")] = int(raw)
    return Entry(*values)


def _standing(entries):
    """Return object id -> its decisions that were not taken back, oldest first."""
    found = {}
    for entry in entries:
        stack = found.setdefault(entry.object_id, [])
        if entry.kind != "undo":
            stack.append(entry)
        elif mine := [k for k, each in enumerate(stack) if each.who == entry.who]:
            del stack[mine[-1]]
        if not stack:
            del found[entry.object_id]
    return found


@dataclass(frozen=True)
class Queue:
    """What to ask about, in this order.

    ``rows`` are positions in the table; ``reasons`` say why each is there, and ``hints`` the same
    without naming a class, which would bias who answers; ``model`` is the recipe.
    """

    rows: np.ndarray
    reasons: list
    hints: list
    model: str
    forest: ExtraTreesClassifier | None = field(default=None, repr=False)


class Proposer:
    """Orders objects by how much a label of each would teach; equal input gives an equal queue.

    Parameters
    ----------
    X : DataFrame or ndarray, shape (n_objects, n_features)
        Features; NaN is a missing value. Each is made Gaussian.
    every : int
        The queue rests on the first ``every``, ``2 * every``, ... decisions.
    n_trees : int
        Of the forests.
    seed : int
    """

    def __init__(self, X, *, every=EVERY, n_trees=100, seed=0):
        if every < 1:
            raise ValueError(f"expected every >= 1 decisions, got {every}")
        self.every, self.n_trees, self.seed = every, n_trees, seed
        self.X = np.asarray(X, dtype=float)
        self.order_ = np.random.default_rng(seed).permutation(len(self.X))
        pool = self.X[self.order_[:N_POOL]]
        self.scaler_ = Gaussian(seed=seed).fit(pool) if len(pool) else None
        self.Z_ = self.transform(self.order_[:N_POOL])
        self._ranked = None, None
        self.recipe_ = hashlib.sha256(np.ascontiguousarray(pool).tobytes()).hexdigest()[:8]

    def transform(self, rows):
        """Return Gaussian features of some rows, shape (n_rows, n_features)."""
        return self.scaler_.transform(self.X[rows]) if len(rows) else self.X[rows]

    def queue(self, rows, labels, *, strategy="margin", wanted=()):
        """Return the `Queue` after the decisions so far.

        Parameters
        ----------
        rows : sequence of int
            Positions of the objects decided, in the order of decision.
        labels : sequence of str
            What each was called; "" where it was skipped.
        strategy : str
            One of `STRATEGIES`. Where two classes have no label yet, nobody can be uncertain: the
            order is then by ``diversity``.
        wanted : sequence of str
            Classes that ``anomaly`` hunts; all other labels are regular.
        """
        if strategy not in STRATEGIES:
            raise ValueError(f"no strategy {strategy!r}; choose one of {', '.join(STRATEGIES)}")
        rows, labels = np.asarray(rows, dtype=int), np.asarray(labels, dtype=object)
        n_used = len(rows) - len(rows) % self.every
        key = strategy, frozenset(wanted), rows[:n_used].tobytes(), tuple(labels[:n_used])
        if self._ranked[0] != key:
            self._ranked = key, self._rank(rows[:n_used], labels[:n_used], strategy, set(wanted))
        whole = self._ranked[1]
        rest = np.flatnonzero(~np.isin(whole.rows, rows[n_used:]))
        reasons, hints = ([texts[k] for k in rest] for texts in (whole.reasons, whole.hints))
        return replace(whole, rows=whole.rows[rest], reasons=reasons, hints=hints)

    def _rank(self, rows, labels, strategy, wanted):
        free, Z = self._pool(rows)
        named, seen = labels != "", self.transform(rows)
        y, forest, n = labels[named].astype(str), None, min(len(free), self.every + N_AHEAD)
        if len(np.unique(y)) > 1:
            forest = self._forest(seen[named], y)
        if len(free) == 0 or strategy == "random":
            chosen, reasons = np.arange(n), ["drawn by lot"] * n
            hints = reasons
        elif strategy == "anomaly":
            chosen, reasons = self._strangest(Z, seen, labels, wanted, n)
            hints = reasons
        elif strategy == "diversity" or forest is None:
            chosen, distance = farthest_first(Z, seen, n)
            early = "" if strategy == "diversity" else "no two classes labelled yet; "
            reasons = hints = [
                early + (f"unlike all seen: distance {d:.1f}" if d else "the most ordinary")
                for d in distance
            ]
        else:
            chosen, reasons, hints = _uncertain(forest, Z, strategy, n)
        model = f"{strategy} seed={self.seed} n_trees={self.n_trees} n_decided={len(rows)}"
        model += f" features={self.recipe_}"
        return Queue(free[chosen], reasons, hints, model, forest)

    def guess(self, queue, row):
        """Return the probability of each class for one object, likeliest first; None so far."""
        if queue.forest is None:
            return None
        p = queue.forest.predict_proba(self.transform([row]))[0]
        return pd.Series(p, queue.forest.classes_).sort_values(ascending=False, kind="stable")

    def _pool(self, used):
        """Return the undecided rows to choose from, and their features."""
        decided = np.isin(self.order_, used)
        free = np.flatnonzero(~decided)[:N_POOL]
        if len(free) and free[-1] >= len(self.Z_):
            more = self.order_[len(self.Z_) : free[-1] + N_POOL // 10]
            self.Z_ = np.vstack([self.Z_, self.transform(more)])
        return self.order_[free], self.Z_[free]

    def _forest(self, Z, y):
        forest = ExtraTreesClassifier(self.n_trees, class_weight="balanced", random_state=self.seed)
        return forest.fit(Z, y)

    def _strangest(self, Z, seen, said, wanted, n):
        answers = ["unknown" if s == "" else "anomaly" if s in wanted else "regular" for s in said]
        hunter = outliers.Hunter(np.vstack([Z, seen]), n_trees=self.n_trees, seed=self.seed)
        score = hunter.score(np.arange(len(Z), len(Z) + len(seen)), answers)[: len(Z)]
        chosen = np.argsort(-score, kind="stable")[:n]
        told = f"after {answers.count('anomaly')} hunted and {answers.count('regular')} other"
        return chosen, [f"strangest {k + 1} of {len(Z)}, {told}" for k in range(len(chosen))]


def farthest_first(Z, seen, n):
    """Return n rows of Z, each farthest from ``seen`` and the rows before it, and how far.

    With nothing seen the first is the row nearest to the mean.
    """
    Z, seen = np.asarray(Z, dtype=float), np.asarray(seen, dtype=float)
    chosen, far = [], np.full(len(Z), np.inf)
    for each in seen:
        far = np.minimum(far, np.square(Z - each).sum(axis=1))
    distances = []
    for _ in range(min(n, len(Z))):
        if np.isinf(far).all():
            k = int(np.square(Z - Z.mean(axis=0)).sum(axis=1).argmin())
            distances.append(0.0)
        else:
            k = int(far.argmax())
            distances.append(float(np.sqrt(far[k])))
        chosen.append(k)
        far = np.minimum(far, np.square(Z - Z[k]).sum(axis=1))
        far[k] = -1
    return np.array(chosen, dtype=int), np.array(distances)


def margin(probability):
    """Return the difference of the two likeliest classes' probabilities: small is uncertain."""
    two = -np.sort(-np.asarray(probability, dtype=float), axis=1)[:, :2]
    return two[:, 0] - two[:, 1]


def entropy(probability):
    """Return the entropy of each row [nat]: large is uncertain."""
    p = np.asarray(probability, dtype=float)
    return -np.sum(p * np.log(np.where(p > 0, p, 1)), axis=1)


def _uncertain(forest, Z, strategy, n):
    p = forest.predict_proba(Z)
    doubt = entropy(p) if strategy == "entropy" else -margin(p)
    chosen, reasons, hints = np.argsort(-doubt, kind="stable")[:n], [], []
    for k in chosen:
        first, second = np.argsort(-p[k], kind="stable")[:2]
        named, blind = (
            f"{a}{p[k, first]:.2f}, {b}{p[k, second]:.2f}"
            for a, b in ((f"{forest.classes_[first]} ", f"{forest.classes_[second]} "), ("", ""))
        )
        more = f" (entropy {doubt[k]:.2f})" if strategy == "entropy" else ""
        reasons.append(f"uncertain: {named}{more}")
        hints.append(f"uncertain: the two likeliest classes have {blind}{more}")
    return chosen, reasons, hints


def learning_curves(
    X, y, *, strategies=("margin", "random"), n_labels=100, every=EVERY, test_size=0.4,
    seeds=(0, 1, 2), progress=True,
):  # fmt: skip
    """Return how well a forest does on objects never asked about, after so many labels.

    An oracle that knows ``y`` answers the queue of each strategy. Each seed changes the objects
    held back, the queue and the forest; strategies share them.

    Returns
    -------
    DataFrame
        ``strategy, seed, n_labels, accuracy`` (balanced), ``n_classes`` met so far.
    """
    X, y, found = np.asarray(X, dtype=float), np.asarray(y).astype(str), []
    with tqdm(total=len(seeds) * len(strategies), desc="oracle", disable=not progress) as bar:
        for seed in seeds:
            ask, test = train_test_split(
                np.arange(len(y)), test_size=test_size, stratify=y, random_state=seed
            )
            proposer = Proposer(X[ask], every=every, seed=seed)
            judged = proposer.scaler_.transform(X[test])
            for strategy in strategies:
                rows, goal = [], min(n_labels, len(ask))
                while True:
                    known = y[ask[rows]]
                    queue = proposer.queue(rows, known, strategy=strategy)
                    n_classes, accuracy = len(np.unique(known)), np.nan
                    if queue.forest is not None:
                        said = queue.forest.predict(judged)
                        accuracy = balanced_accuracy_score(y[test], said)
                    if rows:
                        found.append((strategy, seed, len(rows), accuracy, n_classes))
                    if len(rows) >= goal:
                        break
                    rows += queue.rows[:every].tolist()
                bar.update()
    columns = ["strategy", "seed", "n_labels", "accuracy", "n_classes"]
    return pd.DataFrame(found, columns=columns)
