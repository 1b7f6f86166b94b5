"""Labels by keyboard: one object after another, in the order that teaches a machine most."""

import getpass
import html

import ipywidgets
import numpy as np
import traitlets

from skynb import features as measures
from skynb import lightcurves, plots, taxonomy
from skynb.labels import EVERY, STRATEGIES, Log, Proposer
from skynb.widgets import view
from skynb.widgets.object_view import ObjectView, labelled
from skynb.widgets.selection import bus_of, check_rows

KEYS = "1234567890qwertyiopafgjklzxcvbm"
"""Keys of the classes, in their order; the other letters do something else."""

N_MEASURED = 20_000
"""Objects up to which features are measured where none are given."""


class Labeler(view.View):
    """Label one light curve after another by a key; the queue learns which to ask about next.

    ![Labeler](../../docs/Labeler.png)

    Keys: the one written on each class; ``s`` or Space skips, ``u`` or Backspace takes the last
    decision back, ``n`` goes to the object that the queue proposes, ``d`` and ``h`` double and
    halve the period, ``=`` takes the object's own again. Every decision is on the disk before the
    next object comes.

    Another explorer on the same bus may bring another object into view: it is labelled like any
    other, and the log says that it was chosen by hand.

    Parameters
    ----------
    lcs : NestedFrame or lightcurves.Stored
        Light curves.
    classes : sequence of str, optional
        By default those of the table's ``label``, else `skynb.taxonomy.SEVEN`. The table's own
        labels are not shown here, but other explorers on the same bus show them: to label blind,
        give all of them ``lcs.drop(columns="label")``, and the classes.
    selection : Selection, optional
        The bus that other explorers share; by default a new one.
    path : path
        The label log. If it is there already, labelling goes on where it stopped.
    features : DataFrame or ndarray, shape (n_objects, n_features), optional
        What the queue learns from; by default features without periods, which are quickly measured,
        up to `N_MEASURED` objects. Those with periods tell more classes apart.
    strategy : str, optional
        Order of the queue, one of `skynb.labels.STRATEGIES`; by default that of the log's last
        decision, else ``margin``.
    wanted : sequence of str
        Classes that the strategy ``anomaly`` hunts.
    every : int
        Decisions after which the queue learns anew: 0.1 to 0.2 s for thousands of objects.
    seed : int
        Of the queue and its forests.
    labeler : str, optional
        Who labels; by default the name of this system's user.
    curve : bool
        Show the light curve; without, another explorer on the same bus may.

    Attributes
    ----------
    labels : Series
        Label of every labelled object, by ``object_id``; also those of objects not in the table.
    labeler, strategy, wanted : str, str, tuple of str
        As above.
    guessing : bool
        Show what the forest thinks, which may bias who labels: off until asked for.
    notes : str
        What is odd about the log: cut lines, unknown classes or objects. All of it is kept.

    Examples
    --------
    >>> import tempfile
    >>> from skynb import simulate
    >>> folder = tempfile.TemporaryDirectory()
    >>> labeler = Labeler(simulate.lightcurves(n_per_class=1), path=f"{folder.name}/labels.csv")
    >>> labeler.label("EW")
    >>> labeler.skip()
    >>> labeler.undo()
    >>> labeler.labels.tolist()
    ['EW']
    """

    strategy = traitlets.Enum([*STRATEGIES], "margin")
    wanted = traitlets.Tuple()
    labeler = traitlets.Unicode()
    guessing = traitlets.Bool(False)
    notes = traitlets.Unicode()
    labels = traitlets.Any()

    def __init__(
        self, lcs, classes=None, *, selection=None, path="labels.csv", features=None,
        strategy=None, wanted=(), every=EVERY, seed=0, labeler=None, curve=True,
    ):  # fmt: skip
        self._shared, selection = selection is not None, bus_of(lcs, selection)
        self.lcs, self.selection, self.label_log = lcs, selection, Log(path)
        self.classes = _classes(lcs, classes)
        self.proposer, self._blind = _proposer(lcs, features, every=every, seed=seed)
        self.queue, self._standing, self._quiet = None, None, False
        self.curve = _Curve(lcs, selection=selection, image=False) if curve else None
        self._make()
        who = _user() if labeler is None else labeler
        super().__init__(*self._children, labeler=who)
        keys = {key: lambda name=name: self.label(name) for key, name in self._names.items()}
        keys |= {"s": self.skip, " ": self.skip, "u": self.undo, "Backspace": self.undo}
        keys |= {"n": self.next}
        if curve:
            keys |= {"d": self.curve.double, "h": self.curve.halve, "=": self.curve.release}
        self.bind(**keys)
        for name in wanted:
            self._known(name)
        with self.hold_trait_notifications():
            self.wanted = tuple(wanted)
            self.strategy = self._first_strategy() if strategy is None else strategy
        self._learn()
        self.next()
        self._ended = None if len(self.queue.rows) else selection.focus
        self.follow(selection, focus=self._leave)
        self.follow(selection, focus=self._tell)
        if not len(lcs):
            self.message = "the table is empty; give at least one light curve"
        elif features is None and self._blind:
            self.message = f"{len(lcs):,} objects; the queue is by lot until you give features"

    def close(self):
        """Leave the bus, and the page."""
        if self._followed and self.curve is not None:
            self.curve.close()
        super().close()

    @property
    def object_id(self):
        """The id of the object in view; None if there is none."""
        at = self.selection.focus
        return None if at is None else self.selection.index[at]

    def label(self, name):
        """Call the object in view ``name``, one of the classes, and go to the next."""
        self._known(name)
        self._decide("label", name)

    def skip(self):
        """Leave the object in view without a label, and go to the next."""
        self._decide("skip")

    def undo(self):
        """Take back the last decision of who labels, and go back to its object."""
        taken = self.label_log.undo(self.labeler)
        if taken is None:
            raise ValueError(f"nothing of {self.labeler!r} is left to undo")
        self._learn()
        self._news = f"Took back: {taken.object_id} {taken.label or 'skipped'}."
        if taken.object_id in self.selection.index:
            self.selection.look_at(taken.object_id)
        self._tell()

    def next(self):
        """Go to the object that the queue proposes."""
        if len(self.queue.rows):
            self.selection.focus = int(self.queue.rows[0])
        self._tell()

    def to_frame(self):
        """Return the labelled objects: ``label, who, when, proposed, model``, by ``object_id``.

        ``lcs.drop(columns="label").join(labeler.to_frame())`` puts them into the table.
        """
        labelled = self._standing[self._standing["kind"] == "label"]
        return labelled[["label", "who", "when", "proposed", "model"]]

    def draw(self, figure):
        """Draw the present state on a matplotlib figure."""
        parts = figure.subfigures(1, 2, width_ratios=(2.6, 1)) if self.curve else [figure]
        if self.curve:
            self.curve.draw(parts[0])
        counts = self._counts()
        axes = parts[-1].subplots()
        colors = plots.class_colors(counts)
        bars = axes.barh([*counts], [*counts.values()], color=[colors[name] for name in counts])
        axes.bar_label(bars, padding=2)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.15 * max(1, *counts.values()))
        axes.set(xlabel="objects", title=self._progress())

    def revive(self):
        """Return the line of Python that makes this explorer anew."""
        return self._line(f"{self.classes}", f"path={str(self.label_log.path.resolve())!r}")

    # What it is made of

    def _make(self):
        self._names = dict(zip(KEYS, self.classes, strict=False))
        key_of = {name: key for key, name in self._names.items()}
        texts = {name: f"{key_of.get(name, '')} {name}".strip() for name in self.classes}
        self._buttons = {
            name: self.button(
                text, f"label {name}", lambda name=name: self.label(name), min_width="80px"
            )
            for name, text in texts.items()
        }
        others = [
            self.button("s skip", "no label: skip (s or Space)", self.skip),
            self.button("u undo", "take the last decision back (u or Backspace)", self.undo),
            self.button("n proposed", "go to the object that the queue proposes (n)", self.next),
        ]
        self._head, self._why, self._bar, self._noted = (ipywidgets.HTML() for _ in range(4))
        kinds = {about: name for name, about in STRATEGIES.items() if name == "random"}
        if not self._blind:
            kinds = {about: name for name, about in STRATEGIES.items()}
        self._menu = labelled(ipywidgets.Dropdown, "queue", 330, options=kinds)
        self._hunted = labelled(
            ipywidgets.SelectMultiple, "hunted classes", 260, options=self.classes, rows=3
        )
        self._who = labelled(ipywidgets.Text, "who labels", 220, continuous_update=False)
        self._guess = labelled(
            ipywidgets.Checkbox, "show what the machine thinks", 240, indent=False
        )
        ties = {"strategy": self._menu, "wanted": self._hunted}
        ties |= {"labeler": self._who, "guessing": self._guess}
        for name, control in ties.items():
            control.observe(self._typed(name), "value")
        row = {"layout": {"flex_flow": "row wrap"}}
        self._ties = ties
        self._children = [
            self._head,
            self._why,
            *([self.curve] if self.curve is not None else []),
            ipywidgets.HBox([*self._buttons.values()], **row),
            ipywidgets.HBox(others, **row),
            self._bar,
            ipywidgets.HBox([self._menu, self._who, self._guess, self._hunted], **row),
            self._noted,
        ]

    def _typed(self, name):
        guarded = view.reported(lambda self, value: setattr(self, name, value))
        return lambda change: None if self._quiet else guarded(self, change.new)

    def _known(self, name):
        if name not in self.classes:
            raise ValueError(f"no class {name!r}; there are {', '.join(self.classes)}")

    def _first_strategy(self):
        if self._blind:
            return "random"
        used = [each.proposed for each in self.label_log.entries if each.proposed in STRATEGIES]
        return used[-1] if used else "margin"

    # What happens

    def _decide(self, kind, name=""):
        at = self.selection.focus
        if at is None:
            raise ValueError("no object is in view; give at least one light curve")
        if at == self._ended and not len(self.queue.rows):
            raise ValueError(
                "nothing is left to decide; undo, or look at another object to decide anew"
            )
        if not self.labeler.strip():
            raise ValueError("nobody labels; write a name into 'who labels'")
        asked = len(self.queue.rows) and at == self.queue.rows[0]
        self.label_log.append(
            self.selection.index[at], name, who=self.labeler, kind=kind,
            proposed=self.strategy if asked else "by hand", model=self.queue.model if asked else "",
        )  # fmt: skip
        self._news = f"{self.selection.index[at]}: {name or 'skipped'}."
        self._learn()
        self.next()
        self._ended = at

    def _leave(self, _):
        self._ended = None

    def _learn(self):
        """Follow the log: what stands, what is next, what is odd."""
        self._standing = self.label_log.standing()
        rows = self.selection.index.get_indexer(self._standing.index)
        kept = self._standing[rows >= 0]
        said = kept["label"].where(kept["kind"] == "label", "")
        self.queue = self.proposer.queue(
            rows[rows >= 0], said, strategy=self.strategy, wanted=self.wanted
        )
        self.labels = self.label_log.labels()
        self.notes = self._oddities(rows)

    def _oddities(self, rows):
        found = []
        if damaged := self.label_log.damaged:
            where = ", ".join(map(str, damaged))
            found.append(f"{self.label_log.path.name}: line {where} is cut and was set aside.")
        unknown = [name for name in dict.fromkeys(self.labels) if name not in self.classes]
        if unknown:
            n = int(self.labels.isin(unknown).sum())
            found.append(
                f"{n} labels of {', '.join(unknown)}, which has no key here: kept, and learnt from."
            )
        if n := int((rows < 0).sum()):
            found.append(f"{n} decisions on objects that are not in this table: kept in the log.")
        return " ".join(found)

    @traitlets.validate("strategy")
    def _check_strategy(self, proposal):
        if self._blind and proposal["value"] != "random":
            raise ValueError("there are no features to order by; give features=")
        return proposal["value"]

    @traitlets.observe("strategy", "wanted", "labeler", "guessing")
    def _set(self, change):
        before, self._quiet = self._quiet, True
        try:
            self._ties[change.name].value = change.new
        finally:
            self._quiet = before
        self._hunted.layout.display = None if self.strategy == "anomaly" else "none"
        if self.queue is None:
            return
        if change.name in ("strategy", "wanted"):
            waiting = len(self.queue.rows) and self.selection.focus == self.queue.rows[0]
            self._learn()
            if waiting:
                self.next()
        self._tell()

    # What it says

    _news, _ended = "", None

    def _counts(self):
        counts = dict.fromkeys(self.classes, 0)
        return counts | self.labels.value_counts().to_dict()

    def _progress(self):
        there = self._standing[self._standing.index.isin(self.selection.index)]
        n_labels = int((there["kind"] == "label").sum())
        n_skips = len(there) - n_labels
        skipped = f", {n_skips} skipped" if n_skips else ""
        return f"{n_labels} labelled{skipped} of {len(self.lcs):,}"

    def _reason(self):
        at = self.selection.focus
        if at is None:
            return "No object."
        object_id = self.selection.index[at]
        if object_id in self._standing.index:
            about = self._standing.loc[object_id]
            said = f"called {about['label']}" if about["kind"] == "label" else "skipped"
            return f"already {said} by {about['who']}"
        if at not in self.queue.rows:
            return "chosen by hand"
        k = int(np.flatnonzero(self.queue.rows == at)[0])
        why = (self.queue.reasons if self.guessing else self.queue.hints)[k]
        return why if k == 0 else f"number {k + 1} of the queue; {why}"

    def _thought(self):
        if not self.guessing or self.selection.focus is None:
            return ""
        if self._blind:
            return " The machine has no features to think about."
        guess = self.proposer.guess(self.queue, self.selection.focus)
        if guess is None:
            return " The machine knows no two classes yet."
        likely = ", ".join(f"{name} {p:.2f}" for name, p in guess[:3].items())
        return f" The machine thinks: {likely}."

    def _tell(self, _=None):
        """Say the present state in words."""
        at, progress = self.selection.focus, self._progress()
        done = not len(self.queue.rows) and len(self.lcs)
        name = "No object." if at is None else f"Object {self.selection.index[at]}."
        why = f"Why this one: {self._reason()}.{self._thought()}"
        if done:
            why = f"Nothing is left to decide. This one: {self._reason()}.{self._thought()}"
        self.description = f"{name} {progress}. {why}".rstrip(".")
        said = f"{self._news} " if self._news else ""
        self._head.value = f'<div role="status">{html.escape(said)}<b>{html.escape(name)}</b></div>'
        self._why.value = f"<div>{html.escape(why)}</div>"
        counts = ", ".join(f"{name} {n}" for name, n in self._counts().items())
        n_done = len(self._standing.index.intersection(self.selection.index))
        self._bar.value = (
            f'<div><progress aria-label="decided" max="{max(len(self.lcs), 1)}" value="{n_done}">'
            f"</progress> {html.escape(progress)}: {html.escape(counts)}</div>"
        )

    @traitlets.observe("notes")
    def _note(self, _):
        self._noted.value = (
            f'<div role="note">{html.escape(self.notes)}</div>' if self.notes else ""
        )


class _Curve(ObjectView):
    """The light curve of a `Labeler`, raw and folded."""

    def __init__(self, lcs, **options):
        super().__init__(lcs, **options)
        self.keys_ = {}
        self.bind(**{"d": self.double, "h": self.halve, "=": self.release})

    def _controls(self):
        return [self._period_bar()], []

    def _show_object(self):
        self._labels = None  # what the table says would lead who labels


def _classes(lcs, classes):
    if classes is None:
        found = lcs["label"].dropna() if "label" in lcs.columns else []
        classes = sorted(set(map(str, found))) or taxonomy.SEVEN
    if isinstance(classes, str):
        raise ValueError(f"classes are {classes!r}; give a list of them")
    classes = list(dict.fromkeys(classes))
    if not classes or not all(isinstance(name, str) and name.strip() for name in classes):
        raise ValueError(f"classes are {classes}; give at least one, each a name")
    return classes


def _proposer(lcs, features, **options):
    """Return the `Proposer` of a table, and whether it has nothing to order by."""
    if features is not None:
        check_rows("features", features, lcs)
        return Proposer(features, **options), False
    if not 0 < len(lcs) <= N_MEASURED:
        return Proposer(np.zeros((len(lcs), 1)), **options), True
    table = lightcurves.take(lcs, np.arange(len(lcs)))
    X = measures.extract(table, periods=False, progress=False)
    return Proposer(X, **options), False


def _user():
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"
