"""When to trust a classifier: sets that hold the true class as often as they say, drift between
surveys, and objects that it is sure about and wrong.

What is promised holds for new objects like those that it was calibrated on: ask `drift` first.
"""

import warnings
from dataclasses import dataclass
from math import ceil

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.cluster import AgglomerativeClustering
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score, silhouette_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from threadpoolctl import threadpool_limits

FEW = 2000
"""Objects below which one thread learns faster than several."""

MAX_GROUPS = 8
"""Of confident errors."""


class PredictionSets:
    """Sets of classes that hold the true one with a stated probability: conformal prediction.

    Parameters
    ----------
    level : float
        Share of objects whose set holds the true class, in (0, 1).
    by_class : bool
        Keep the level in each class, and not only in the mean over objects, where a common class
        pays for a rare one. The sets grow.

    Notes
    -----
    A set holds all classes above a threshold: the smallest sets on average, some of them empty.
    Those that go on until their sum reaches a threshold (aps) hold more than they promise if the
    last class is kept (94 % instead of 90 % on Catalina), and else depend on a draw.

    References
    ----------
    Sadinle et al. 2019, JASA 114, 223; Cordier et al. 2023, PMLR 204, 549 (MAPIE, which does the
    work).
    """

    def __init__(self, level=0.9, *, by_class=False):
        self.level, self.by_class = level, by_class

    def fit(self, y, probability, classes):
        """Return itself, calibrated on objects that the learner was not trained on.

        Parameters
        ----------
        y : sequence, shape (n_objects,)
            True labels.
        probability : ndarray, shape (n_objects, n_classes)
            What the learner says of these objects.
        classes : sequence
            Names of the columns.

        Raises
        ------
        ValueError
            A level outside (0, 1), shapes or labels that do not fit, too few
            objects for the level.
        """
        if not 0 < self.level < 1:
            raise ValueError(
                f"the level is {self.level}; give a share between 0 and 1, such as 0.9"
            )
        self.classes_ = np.asarray(classes).astype(str)
        y, probability = _checked(y, probability, self.classes_)
        groups = {name: y == name for name in self.classes_} if self.by_class else {"all": y != ""}
        least = ceil(1 / min(self.level, 1 - self.level) - 1e-9)
        for name, rows in groups.items():
            if (n := rows.sum()) < least:
                few = f"{n} objects ({name}) for a level of {self.level}"
                raise ValueError(f"expected {least} or more to calibrate on, got {few}; give more")
        with warnings.catch_warnings():  # that one class alone is there is meant
            warnings.filterwarnings("ignore", "WARNING: your conformalization dataset")
            self._models = {
                name: self._calibrated(y[rows], probability[rows]) for name, rows in groups.items()
            }
        return self

    def _calibrated(self, y, probability):
        from mapie.classification import SplitConformalClassifier

        model = SplitConformalClassifier(
            _Said(self.classes_),
            confidence_level=self.level,
            conformity_score="lac",
            random_state=0,
        )
        return model.conformalize(probability, y)

    def predict(self, probability):
        """Return which classes each object may be of, shape (n_objects, n_classes), as booleans.

        An empty set says that the learner was less sure of any class than it used to be.
        """
        if not hasattr(self, "_models"):
            raise ValueError("the sets are not calibrated; call fit first")
        probability = _checked(None, probability, self.classes_)[1]
        sets = {
            name: each.predict_set(probability)[1][..., 0] for name, each in self._models.items()
        }
        if self.by_class:
            columns = [sets[name][:, k] for k, name in enumerate(self.classes_)]
            return pd.DataFrame(np.column_stack(columns), columns=self.classes_)
        return pd.DataFrame(sets["all"], columns=self.classes_)


class _Said(ClassifierMixin, BaseEstimator):
    """Hands probabilities through, as the fitted classifier that MAPIE asks for."""

    def __init__(self, classes):
        self.classes = self.classes_ = classes

    def fit(self, X, y=None):
        return self

    def predict_proba(self, X):
        return X

    def predict(self, X):
        return self.classes_[X.argmax(axis=1)]


def coverage(y, sets):
    """Return how often sets hold the true class, and how large they are.

    Parameters
    ----------
    y : sequence, shape (n_objects,)
    sets : DataFrame, shape (n_objects, n_classes)
        Of `PredictionSets.predict`.

    Returns
    -------
    DataFrame
        A row for each class in ``y`` and one for ``all``: ``coverage``, ``size`` (mean number of
        classes), ``single`` and ``empty`` (shares of the sets), ``n_objects``.

    Examples
    --------
    >>> sets = pd.DataFrame({"EA": [True, True], "EW": [True, False]})
    >>> coverage(["EA", "EW"], sets).loc["all"].tolist()
    [0.5, 1.5, 0.5, 0.0, 2.0]
    """
    y = np.asarray(y).astype(str)
    if len(y) != len(sets) or not np.isin(y, sets.columns).all():
        raise ValueError(
            f"expected {len(sets)} labels of {', '.join(sets)}, got {len(y)} of "
            f"{', '.join(np.unique(y))}; judge the objects of the sets"
        )
    held = sets.to_numpy()[np.arange(len(y)), sets.columns.get_indexer(y)]
    size = sets.to_numpy().sum(axis=1)
    columns = {"coverage": held, "size": size, "single": size == 1, "empty": size == 0}
    table = pd.DataFrame(columns).astype(float)
    rows = table.groupby(y).mean()
    rows.loc["all"] = table.mean()
    rows["n_objects"] = [*np.unique(y, return_counts=True)[1], len(y)]
    return rows.rename_axis("class")


@dataclass(frozen=True)
class Drift:
    """How far two samples differ.

    ``auroc`` is that of a classifier which tells them apart, on objects it has not seen: 0.5 if
    they are alike, 1 if any object shows where it comes from; ``error`` is its standard error.
    ``shifts`` has a row per feature, the one that differs most first: ``ks`` (largest distance of
    the two cumulative distributions, 0 to 1) and ``shift`` of the median, in units of the first
    sample's scatter (interquartile range / 1.349).
    """

    auroc: float
    error: float
    shifts: pd.DataFrame


def drift(X, other, *, n_folds=5, seed=0):
    """Return how far ``other`` differs from ``X``, a `Drift`: the two-sample test by a classifier.

    Parameters
    ----------
    X, other : DataFrame or ndarray, shape (n_objects, ...)
        The same measures of two surveys' objects; NaN is a missing value. Compare like with like:
        where the surveys hold other shares of the classes, they differ by that alone.

    Raises
    ------
    ValueError
        Other features, fewer objects than folds.

    References
    ----------
    Lopez-Paz & Oquab 2017, arXiv:1610.06545; Hanley & McNeil 1982, Radiology 143, 29 (the error).
    """
    a, b = (
        each
        if isinstance(each, pd.DataFrame)
        else pd.DataFrame(np.reshape(each, (len(each), int(np.prod(np.shape(each)[1:])))))
        for each in (X, other)
    )
    if list(a) != list(b):
        odd = ", ".join(map(str, a.columns.symmetric_difference(b.columns, sort=False)))
        odd = odd or "their order"
        raise ValueError(f"the two samples do not share {odd}; measure both the same way")
    if min(len(a), len(b)) < n_folds:
        raise ValueError(f"expected {n_folds} objects or more of each, got {len(a)} and {len(b)}")
    Z, source = pd.concat([a, b]).to_numpy(float), np.arange(len(a) + len(b)) >= len(a)
    Z = np.where(np.isfinite(Z), Z, np.nan)
    Z = Z[:, ~np.isnan(Z).all(axis=0)]
    if not Z.shape[1]:
        raise ValueError("no feature has a finite value; measure the objects first")
    learner = HistGradientBoostingClassifier(
        max_iter=100, max_leaf_nodes=12, class_weight="balanced", early_stopping=False,
        random_state=seed,
    )  # fmt: skip
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    with threadpool_limits(1 if len(Z) < FEW else None):
        said = cross_val_predict(learner, Z, source, cv=folds, method="predict_proba")[:, 1]
    auroc = float(roc_auc_score(source, said))
    m, n = len(b), len(a)
    more, less = auroc / (2 - auroc) - auroc**2, 2 * auroc**2 / (1 + auroc) - auroc**2
    variance = (auroc * (1 - auroc) + (m - 1) * more + (n - 1) * less) / (m * n)
    shifts = pd.DataFrame([_shift(a[name], b[name]) for name in a], index=a.columns)
    shifts = shifts.rename_axis("feature").sort_values("ks", ascending=False, kind="stable")
    return Drift(auroc, float(np.sqrt(variance)), shifts)


def _shift(a, b):
    """Return ks and shift of one feature, NaN where it is missing in all of a sample."""
    a, b = (each.to_numpy(float)[np.isfinite(each.to_numpy(float))] for each in (a, b))
    if not len(a) or not len(b):
        return {"ks": np.nan, "shift": np.nan}
    low, middle, high = np.quantile(a, [0.25, 0.5, 0.75])
    moved = np.median(b) - middle
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = np.divide(moved * 1.349, high - low) if moved else 0.0
    return {"ks": float(ks_2samp(a, b, method="asymp").statistic), "shift": float(shift)}


def confident_errors(y, probability, classes, *, at_least=0.9, embedding=None):
    """Return the objects that a learner is sure about and wrong: natural adversarial examples.

    They are where a label may be wrong, or where the learner looks at the wrong thing: look at them
    (`skynb.plots.gallery`).

    Parameters
    ----------
    y : sequence, shape (n_objects,)
        Labels; the index of a Series is kept.
    probability : ndarray, shape (n_objects, n_classes)
        Of a learner that has not seen these objects.
    at_least : float
        Least probability of the wrong class.
    embedding : ndarray, shape (n_objects, n_dims), optional
        Where the objects lie, to group the errors that are alike (Ward's method), into the clearest
        groups (silhouette), at most `MAX_GROUPS`: the activations of a network, or features made
        Gaussian.

    Returns
    -------
    DataFrame
        ``label``, ``said``, ``confidence``, ``row`` (its position in ``y``) and, with an
        ``embedding``, ``group``, 0 the largest; the most confident first, group by group.

    References
    ----------
    Hendrycks et al. 2021, arXiv:1907.07174.
    """
    classes, index = np.asarray(classes).astype(str), y.index if isinstance(y, pd.Series) else None
    y, probability = _checked(y, probability, classes)
    said, confidence = classes[probability.argmax(axis=1)], probability.max(axis=1)
    rows = np.flatnonzero((said != y) & (confidence >= at_least))
    columns = {"label": y[rows], "said": said[rows], "confidence": confidence[rows], "row": rows}
    table = pd.DataFrame(columns, index=rows if index is None else index[rows])
    if embedding is None:
        return table.sort_values("confidence", ascending=False, kind="stable")
    if len(embedding) != len(y):
        raise ValueError(f"expected one place per object, got {len(embedding)} for {len(y)}")
    embedding = np.asarray(embedding, dtype=float)
    if embedding.ndim != 2 or not np.isfinite(embedding).all():
        raise ValueError(f"embedding {embedding.shape}; give (n_objects, n_dims), finite numbers")
    table["group"] = _grouped(embedding[rows])
    return table.sort_values(["group", "confidence"], ascending=[True, False], kind="stable")


def groups(errors):
    """Return the commonest pair of label and what was said in each group of errors.

    Parameters
    ----------
    errors : DataFrame
        Of `confident_errors`, with an embedding.

    Returns
    -------
    DataFrame
        A row per group: ``label``, ``said``, ``n_pair`` (objects of this pair), ``n_objects``.

    Examples
    --------
    >>> said = {"label": ["EA", "EA", "EW"], "said": ["EW", "EW", "EA"], "group": 0}
    >>> groups(pd.DataFrame(said)).to_dict("records")
    [{'label': 'EA', 'said': 'EW', 'n_pair': 2, 'n_objects': 3}]
    """
    each = errors.groupby(["group", "label", "said"], as_index=False).size()
    each = each.sort_values(["group", "size"], ascending=[True, False], kind="stable")
    table = each.drop_duplicates("group").set_index("group").rename(columns={"size": "n_pair"})
    return table.assign(n_objects=errors["group"].value_counts())


def _grouped(Z):
    """Return the number of each object's group, 0 the largest."""
    if len(Z) < 4:
        return np.zeros(len(Z), dtype=int)
    counts = range(2, min(MAX_GROUPS, len(Z) - 1) + 1)
    found = [AgglomerativeClustering(k).fit_predict(Z) for k in counts]
    group = max(found, key=lambda each: silhouette_score(Z, each))
    return np.argsort(np.argsort(-np.bincount(group), kind="stable"))[group]


def _checked(y, probability, classes):
    """Return labels as str and probabilities as float, or say what does not fit."""
    probability = np.asarray(probability, dtype=float)
    n = len(probability) if y is None else len(y)
    if probability.shape != (n, len(classes)) or not np.isfinite(probability).all():
        raise ValueError(
            f"expected finite probabilities of shape {(n, len(classes))}, got {probability.shape}, "
            f"{np.count_nonzero(~np.isfinite(probability))} not finite"
        )
    if not np.allclose(total := probability.sum(axis=1, keepdims=True), 1, atol=1e-3):
        raise ValueError("some probabilities do not sum to 1; mend the learner that made them")
    if y is not None:
        y = np.asarray(y).astype(str)
        if len(unknown := np.setdiff1d(y, classes)):
            raise ValueError(
                f"no probability is given for {', '.join(unknown)}; drop these objects"
            )
    return y, probability / total
