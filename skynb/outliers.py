"""Strange objects: far from all others, or found by asking a human about one after another.

Strange means rare, mislabelled or badly measured; a score says how strange, not which of these.
Features are made Gaussian one by one, so that no single wild number decides.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.spatial.distance import cdist
from scipy.special import log_softmax, logsumexp
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from tqdm.auto import tqdm

from skynb.features import Gaussian

METHODS = ("isolation", "density")
SCORES = ("softmax", "energy", "mahalanobis", "neighbours")
"""Columns of `Unfamiliar.score`."""

ANSWERS = {"anomaly": -1, "unknown": 0, "regular": 1}
"""What a human may say of an object, and coniferest's number for it."""


class Detector:
    """Scores how strange objects are, compared with those it was fitted to.

    Parameters
    ----------
    method : str
        ``isolation``: how few random cuts set an object apart (isolation forest; Liu et al. 2008,
        ICDM). ``density``: how much emptier its surroundings are than its neighbours' (local
        outlier factor; Breunig et al. 2000, SIGMOD), finer but slower.
    n_trees, n_neighbors : int
        Of the forest; of the surroundings.
    seed : int
    """

    def __init__(self, method="isolation", *, n_trees=300, n_neighbors=35, seed=0):
        self.method, self.n_trees, self.n_neighbors, self.seed = method, n_trees, n_neighbors, seed

    def fit(self, X, y=None):
        """Return itself, fitted to X, shape (n_objects, n_features); NaN is a missing value."""
        if self.method not in METHODS:
            raise ValueError(f"no method is called {self.method!r}; choose {' or '.join(METHODS)}")
        if len(X) < 3:
            raise ValueError(f"expected three objects or more, got {len(X)}; nothing is strange")
        self.scaler_ = Gaussian(seed=self.seed).fit(X)
        return self._learn(self.scaler_.transform(X))

    def _learn(self, Z):
        if self.method == "isolation":
            model = IsolationForest(n_estimators=self.n_trees, random_state=self.seed)
        else:
            k = min(self.n_neighbors, len(Z) - 1)
            model = LocalOutlierFactor(n_neighbors=k, algorithm="brute", novelty=True)
        self.seen_, self.model_ = Z, model.fit(Z)
        return self

    def score(self, X):
        """Return how strange each object is, shape (n_objects,): higher is stranger.

        ``isolation`` gives values in (0, 1), ``density`` about 1 and more.
        """
        return -self.model_.score_samples(self.scaler_.transform(X))

    def to_parts(self):
        """Return what was learnt, for `skynb.models.save`."""
        options = {name: value for name, value in vars(self).items() if not name.endswith("_")}
        model = self.model_ if self.method == "isolation" else self.seen_
        return {"options": options, "scaler": self.scaler_.to_parts(), "model": model}

    @classmethod
    def from_parts(cls, parts):
        """Return the detector that `to_parts` took apart; ValueError if the parts do not fit."""
        detector, model = cls(**parts["options"]), parts["model"]
        detector.scaler_ = Gaussian.from_parts(parts["scaler"])
        if detector.method == "density":
            return detector._learn(np.asarray(model, dtype=float))
        if detector.method != "isolation" or not isinstance(model, IsolationForest):
            raise ValueError(f"a {type(model).__name__} is no {detector.method} forest; train anew")
        detector.model_ = model
        return detector


def hidden_class(X, y, *, method="isolation", seeds=(0, 1, 2), n_folds=5, progress=True):
    """Return how well each class stands out from all others where it was never seen.

    For every class a `Detector` is fitted to the other classes without one fold, and scores that
    fold and the hidden class.

    Returns
    -------
    DataFrame, shape (n_classes, n_seeds)
        Area under the curve of true against false alarms, mean over folds: 1 is found at once, 0.5
        is chance, less is hidden among the others.
    """
    X, y = np.asarray(X), np.asarray(y).astype(str)
    classes, counts = np.unique(y, return_counts=True)
    if len(classes) < 2 or counts.min() < n_folds:
        raise ValueError(
            f"expected two classes or more of at least {n_folds} objects, one per fold, "
            f"got {dict(zip(classes.tolist(), counts.tolist(), strict=True))}"
        )
    table = pd.DataFrame(0.0, index=pd.Index(classes, name="class"), columns=list(seeds))
    table.columns.name = "seed"
    with tqdm(total=table.size * n_folds, desc="hidden", disable=not progress) as bar:
        for name in classes:
            known, hidden = np.flatnonzero(y != name), np.flatnonzero(y == name)
            for seed in seeds:
                splitter = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
                for train, test in splitter.split(known, y[known]):
                    detector = Detector(method, seed=seed).fit(X[known[train]])
                    score = detector.score(X[np.r_[known[test], hidden]])
                    area = roc_auc_score(np.arange(len(score)) >= len(test), score)
                    table.loc[name, seed] += area / n_folds
                    bar.update()
    return table


class Hunter:
    """One step of active anomaly discovery: a forest that answers turn (coniferest's AADForest).

    ``Z`` are Gaussian features of all objects, shape (n_objects, n_features).
    """

    def __init__(self, Z, *, n_trees=100, seed=0):
        from coniferest.aadforest import AADForest

        self.Z = np.asarray(Z, dtype=float)
        self.forest_ = AADForest(n_trees, min(256, len(self.Z)), random_seed=seed)

    def score(self, rows, answers):
        """Return how promising every object is after ``answers``, one of `ANSWERS` per row."""
        said = np.array([_number(each) for each in answers], dtype=int)
        known = self.Z[np.asarray(rows, dtype=int)]
        return -self.forest_.fit_known(self.Z, known, said).score_samples(self.Z)


class Unfamiliar:
    """Scores how far objects lie from what a network was trained on, by what it makes of them.

    A network may throw away what sets a new class apart: then none of these scores sees it, where
    a `Detector` on features may. Mahalanobis distances over all convolutions and the images, as Lee
    et al. combine them, do not mend this: of simulated supernovae and flares they tell 0.87 and
    0.45 (AUROC), where the best score of the last layer tells 0.83 and 0.72, and features 1.00
    and 0.99.

    Parameters
    ----------
    n_neighbors : int

    References
    ----------
    Hendrycks & Gimpel 2017, arXiv:1610.02136 (softmax); Liu et al. 2020, arXiv:2010.03759 (energy);
    Lee et al. 2018, arXiv:1807.03888 (Mahalanobis); Sun et al. 2022, arXiv:2204.06507 (neighbours).
    """

    def __init__(self, *, n_neighbors=10):
        self.n_neighbors = n_neighbors

    def fit(self, activations, y):
        """Return itself, fitted to the training objects.

        Parameters
        ----------
        activations : ndarray, shape (n_objects, n_units)
            What enters the network's last layer: `skynb.networks.activations`.
        y : sequence, shape (n_objects,)
            Their labels.

        Raises
        ------
        ValueError
            Unequal lengths, values that are not finite, not more objects than neighbours.
        """
        a, y = _finite(activations), np.asarray(y).astype(str)
        if len(a) != len(y) or len(a) <= self.n_neighbors:
            raise ValueError(
                f"expected one label for each of more than {self.n_neighbors} objects, "
                f"got {len(a)} objects and {len(y)} labels; give more, or ask for fewer neighbours"
            )
        classes, codes = np.unique(y, return_inverse=True)
        self.means_ = np.stack([a[codes == k].mean(axis=0) for k in range(len(classes))])
        within = a - self.means_[codes]
        shrunk = ledoit_wolf_shrinkage(within, assume_centered=True)
        floor = max(shrunk * np.square(within).mean(), 1e-12)  # variance where nothing was seen
        _, lengths, self.axes_ = np.linalg.svd(within, full_matrices=False)
        self.scale_ = ((1 - shrunk) * lengths**2 / len(a) + floor) ** -0.5
        self.outside_ = 0.0 if len(lengths) == a.shape[1] else 1 / floor
        near = NearestNeighbors(n_neighbors=self.n_neighbors, algorithm="brute")
        self.near_ = near.fit(_unit(a))
        return self

    def score(self, activations, logits):
        """Return `SCORES` of each object, a DataFrame: higher is stranger.

        Parameters
        ----------
        activations : ndarray, shape (n_objects, n_units)
        logits : ndarray, shape (n_objects, n_classes)
            What the softmax is taken of: `skynb.networks.logits`.

        Returns
        -------
        DataFrame
            ``softmax``: minus the highest probability. ``energy``: minus the logarithm of the sum
            of exp(logits). ``mahalanobis``: squared distance to the nearest class's mean, in units
            of the scatter within classes. ``neighbours``: distance to the ``n_neighbors``-th
            nearest training object, of activations scaled to length 1.
        """
        if not hasattr(self, "means_"):
            raise ValueError("nothing was learnt yet; call fit first")
        a, z, known = _finite(activations), _finite(logits), self.means_.shape[1]
        if len(a) != len(z) or a.shape[1] != known:
            raise ValueError(
                f"expected logits and {known} activations of each object, got {a.shape} and "
                f"{z.shape}; take both from the network that was fitted"
            )
        columns = {
            "softmax": -np.exp(log_softmax(z, axis=1).max(axis=1)),
            "energy": -logsumexp(z, axis=1),
            "mahalanobis": self._mahalanobis(a).min(axis=1),
            "neighbours": self.near_.kneighbors(_unit(a))[0][:, -1],
        }
        return pd.DataFrame(columns)

    def _mahalanobis(self, a):
        """Return the squared distance to every class, by the covariance that Ledoit & Wolf shrink.

        In the directions that the training objects span, and what is left outside, where its
        variance is the same everywhere: no matrix of n_units x n_units is made.
        """
        x, m = a @ self.axes_.T, self.means_ @ self.axes_.T
        left = cdist(a, self.means_, "sqeuclidean") - cdist(x, m, "sqeuclidean")
        inside = cdist(x * self.scale_, m * self.scale_, "sqeuclidean")
        return inside + self.outside_ * left.clip(0)


def auroc(known, strange):
    """Return how well each score tells strange objects from known ones, as a Series.

    Area under the curve of true against false alarms: 1 is found at once, 0.5 is chance.

    Parameters
    ----------
    known, strange : DataFrame, shape (n_objects, n_scores)
        Of objects that nothing was fitted to.

    Examples
    --------
    >>> auroc(pd.DataFrame({"energy": [0, 1]}), pd.DataFrame({"energy": [2, 3]})).to_dict()
    {'energy': 1.0}
    """
    if list(known) != list(strange) or not len(known) or not len(strange):
        raise ValueError(
            f"expected the same scores of some objects each, got {list(known)} of {len(known)} "
            f"and {list(strange)} of {len(strange)}"
        )
    truth = np.arange(len(known) + len(strange)) >= len(known)
    return pd.concat([known, strange]).apply(lambda score: roc_auc_score(truth, score))


def _finite(values):
    values = np.asarray(values, dtype=float)
    if values.ndim != 2 or not np.isfinite(values).all():
        n_bad = np.count_nonzero(~np.isfinite(values))
        got = f"got {values.shape}, {n_bad} not finite"
        raise ValueError(f"expected finite values of shape (n_objects, n), {got}")
    return values


def _unit(a):
    return a / np.linalg.norm(a, axis=1, keepdims=True).clip(1e-12)


@dataclass(frozen=True)
class Hunt:
    """What `hunt` was told, and what it makes of it; both are indexed by ``object_id``.

    ``answers`` come in the order asked; the higher ``score``, the more like the anomalies.
    """

    answers: pd.Series
    score: pd.Series


def hunt(X, decide, *, n_questions=30, answers=None, n_trees=100, seed=0, progress=True):
    """Return what a human answered who is shown one promising object after another.

    Each answer turns the forest (coniferest's active anomaly discovery) towards what this human
    calls anomalous, and so the next question.

    Parameters
    ----------
    X : DataFrame or ndarray, shape (n_objects, n_features)
        The index holds the object ids; those of an ndarray are its row numbers.
    decide : callable
        ``decide(object_id)`` returns one of `ANSWERS`. StopIteration, or an interrupt, ends the
        hunt early and loses nothing.
    answers : Series or dict, optional
        Of an earlier hunt, to go on from: object_id -> answer.

    Returns
    -------
    Hunt

    References
    ----------
    Das et al. 2017, arXiv:1708.09441; Kornilov et al. 2025, Astronomy and Computing 52, 100960.
    """
    ids = X.index if isinstance(X, pd.DataFrame) else pd.RangeIndex(len(X))
    if not ids.is_unique:
        raise ValueError("some object ids are repeated; give every object one row")
    answers = dict({} if answers is None else answers)
    if strange := [each for each in answers if each not in ids]:
        raise ValueError(f"there are answers for {strange[0]!r}, but no features; drop them")
    hunter = Hunter(Gaussian(seed=seed).fit(X).transform(X), n_trees=n_trees, seed=seed)
    goal = min(len(ids), len(answers) + n_questions)
    with tqdm(total=goal - len(answers), desc="questions", disable=not progress) as bar:
        while True:
            rows = ids.get_indexer(list(answers))
            strangeness = hunter.score(rows, answers.values())
            if len(answers) == goal:
                break
            unseen = np.setdiff1d(np.arange(len(ids)), rows)
            object_id = ids[unseen[strangeness[unseen].argmax()]]
            try:
                answer = decide(object_id)
            except (StopIteration, KeyboardInterrupt):
                break
            _number(answer)
            answers[object_id] = answer
            bar.update()
    index = ids[rows]
    return Hunt(pd.Series(answers.values(), index, dtype=str), pd.Series(strangeness, ids))


def _number(answer):
    if not isinstance(answer, str) or answer not in ANSWERS:
        raise ValueError(f"the answer {answer!r} is not one of {', '.join(ANSWERS)}; say one")
    return ANSWERS[answer]
