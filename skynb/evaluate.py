"""How good a classifier is: measures, calibration, intervals, another class mix, cross-validation.

Every measure takes the true labels, the probabilities, shape (n_objects, n_classes), and the names
of their columns; the likeliest class is the predicted one. ``weights``, one per object, stand for
another class mix: see `reweight`.
"""

import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn import metrics
from sklearn.model_selection import StratifiedKFold
from tqdm.auto import tqdm

from skynb import taxonomy

PAPER_MIX = dict(zip(taxonomy.SEVEN, (30593, 4658, 2420, 5433, 500, 1514, 512), strict=True))
"""Objects of each class in Mahabal et al. 2017, arXiv:1709.06257."""


@dataclass(frozen=True)
class OutOfFold:
    """What learners said of objects they never saw, once per seed; times are sums over folds [s].

    Shapes: ``y`` (n_objects,), ``classes`` (n_classes,), ``probability`` (n_seeds, n_objects,
    n_classes), ``fold`` (n_seeds, n_objects), ``fit_time`` and ``predict_time`` (n_seeds,).
    """

    y: np.ndarray
    classes: np.ndarray
    seeds: tuple
    probability: np.ndarray
    fold: np.ndarray
    fit_time: np.ndarray
    predict_time: np.ndarray

    def scores(self, *, weights=None):
        """Return `scores` of each seed, one row each; ``.agg(["mean", "std"])`` sums them up."""
        rows = [scores(self.y, each, self.classes, weights=weights) for each in self.probability]
        return pd.DataFrame(rows, index=pd.Index(self.seeds, name="seed"))


def cross_validate(make_learner, X, y, *, seeds=(0, 1, 2), n_folds=5, progress=True):
    """Return the probabilities of every object from a learner trained without it.

    Parameters
    ----------
    make_learner : callable
        ``make_learner(seed)`` returns a new learner: ``fit``, ``predict_proba``, ``classes_``. All
        that is learnt from data belongs inside it.
    X : DataFrame, ndarray or whatever ``X[rows]`` takes objects of, shape (n_objects, ...)
    y : sequence, shape (n_objects,)
    seeds : sequence of int
        Each changes the folds, stratified by class, and the learner.

    Returns
    -------
    OutOfFold

    Raises
    ------
    ValueError
        Unequal lengths, a missing label, one class only, a class with fewer objects than folds.
    """
    y = learnable(y, len(X), fewest=n_folds)
    classes = np.unique(y)
    probability = np.zeros((len(seeds), len(y), len(classes)))
    fold = np.zeros((len(seeds), len(y)), dtype=int)
    times = np.zeros((2, len(seeds)))
    with tqdm(total=len(seeds) * n_folds, desc="folds", disable=not progress) as bar:
        for s, seed in enumerate(seeds):
            splitter = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
            for k, (train, test) in enumerate(splitter.split(y, y)):
                learner, start = make_learner(seed), time.perf_counter()
                learner.fit(_rows(X, train), y[train])
                fitted = time.perf_counter()
                if (columns := pd.Index(classes).get_indexer(learner.classes_)).min() < 0:
                    raise ValueError(f"the learner knows {list(learner.classes_)}, not {classes}")
                probability[s, test[:, None], columns] = learner.predict_proba(_rows(X, test))
                times[:, s] += fitted - start, time.perf_counter() - fitted
                fold[s, test] = k
                bar.update()
    return OutOfFold(y, classes, tuple(seeds), probability, fold, *times)


def scores(y, probability, classes, *, weights=None):
    """Return ``accuracy, balanced_accuracy, macro_f1, mcc, ece``, as a dict.

    Means over classes are over those that ``y`` holds; ``mcc`` is Matthews' coefficient.

    Examples
    --------
    >>> measured = scores(["EA", "EW"], [[0.9, 0.1], [0.9, 0.1]], ["EA", "EW"])
    >>> {name: round(value, 2) for name, value in measured.items()}
    {'accuracy': 0.5, 'balanced_accuracy': 0.5, 'macro_f1': 0.33, 'mcc': 0.0, 'ece': 0.4}
    """
    return _scores(*_judged(y, probability, classes, weights), len(classes))


def per_class(y, probability, classes, *, weights=None):
    """Return ``precision, recall, f1, n_objects`` of every class, as a DataFrame."""
    true, said, _, weights = _judged(y, probability, classes, weights)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        true, said, labels=range(len(classes)), sample_weight=weights, zero_division=0
    )
    columns = {"precision": precision, "recall": recall, "f1": f1}
    columns["n_objects"] = np.bincount(true, minlength=len(classes))
    return pd.DataFrame(columns, index=pd.Index(classes, name="class"))


def confusion(y, probability, classes, *, weights=None):
    """Return the confusion matrix, shape (n_classes, n_classes): true classes are rows."""
    true, said, _, given = _judged(y, probability, classes, weights)
    given = None if weights is None else given
    return metrics.confusion_matrix(true, said, labels=range(len(classes)), sample_weight=given)


def reliability(y, probability, classes, *, n_bins=10, weights=None):
    """Return how often the predicted class is right at each level of confidence, as a DataFrame.

    ``confidence`` (mean), ``accuracy`` and ``share`` (of all objects) of each bin of equal width
    that holds an object: Guo et al. 2017, ICML, arXiv:1706.04599.
    """
    true, said, confidence, weights = _judged(y, probability, classes, weights)
    return _reliability(true == said, confidence, weights, n_bins)


def ece(y, probability, classes, *, n_bins=10, weights=None):
    """Return the expected calibration error: the mean gap between confidence and accuracy."""
    return _ece(reliability(y, probability, classes, n_bins=n_bins, weights=weights))


def bootstrap(y, probability, classes, *, n_resamples=1000, level=0.95, weights=None, seed=0):
    """Return ``value, low, high`` of every measure of `scores`: percentiles over resampled objects.

    The interval covers the choice of test objects, not that of training objects or seed.
    """
    judged, rng = _judged(y, probability, classes, weights), np.random.default_rng(seed)
    draws = (rng.integers(len(y), size=len(y)) for _ in range(n_resamples))
    table = pd.DataFrame([_scores(*(each[d] for each in judged), len(classes)) for d in draws])
    low, high = table.quantile([0.5 - level / 2, 0.5 + level / 2]).to_numpy()
    value = pd.Series(_scores(*judged, len(classes)))
    return pd.DataFrame({"value": value, "low": low, "high": high})


def reweight(y, mix=PAPER_MIX):
    """Return the weight of each object that gives the classes the shares of ``mix``; mean 1.

    A class in ``y`` or in ``mix`` alone raises ValueError.

    Examples
    --------
    >>> reweight(["EW", "EW", "EA"], {"EW": 1, "EA": 1}).tolist()
    [0.75, 0.75, 1.5]
    """
    classes, where, counts = np.unique(_labels(y), return_inverse=True, return_counts=True)
    if alone := set(classes) ^ set(mix):
        raise ValueError(f"the labels and the class mix do not share {_names(alone)}; match them")
    wanted = np.array([mix[name] for name in classes], dtype=float)
    return (wanted / wanted.sum() * len(where) / counts)[where]


def adjust(probability, classes, old, new=PAPER_MIX):
    """Return the probabilities that a learner of one class mix gives under another.

    ``old`` and ``new`` are class -> number: the mix that the learner believes in, equal numbers if
    it weighs its classes equally, and that of the objects it judges. Saerens et al. 2002, Neural
    Computation 14, 21.
    """
    if absent := set(classes) - (set(old) & set(new)):
        raise ValueError(f"the two class mixes do not both have {_names(absent)}; add them")
    shifted = np.asarray(probability) * [new[name] / old[name] for name in classes]
    return shifted / shifted.sum(axis=1, keepdims=True)


def learnable(y, n, *, fewest):
    """Return the labels of n objects as an array, or say why nothing can be learnt from them.

    Raises
    ------
    ValueError
        Not one label for each object, a missing one, one class only, or a class with fewer than
        ``fewest`` objects.
    """
    if len(y) != n:
        raise ValueError(f"expected one label per object, got {n} objects and {len(y)} labels")
    classes, counts = np.unique(y := _labels(y), return_counts=True)
    if len(classes) < 2:
        raise ValueError(f"expected two classes or more, got only {_names(classes) or 'none'}")
    if few := _names(classes[counts < fewest]):
        raise ValueError(f"fewer than {fewest} objects of {few}; give more, or drop these")
    return y


def _rows(X, rows):
    return X.iloc[rows] if hasattr(X, "iloc") else X[rows]


def _names(classes):
    return ", ".join(sorted(map(str, classes)))


def _labels(y):
    if pd.Series(y).isna().any():
        raise ValueError("some labels are missing; drop the objects without one")
    return np.asarray(y, dtype=str if np.asarray(y).dtype == object else None)


def _judged(y, probability, classes, weights):
    """Return the true and predicted column, the confidence and the weight of each object."""
    y, probability = _labels(y), np.asarray(probability)
    weights = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=float)
    if probability.shape != (len(y), len(classes)) or len(weights) != len(y):
        raise ValueError(
            f"expected probabilities of shape {(len(y), len(classes))} and {len(y)} weights, "
            f"got {probability.shape} and {len(weights)}"
        )
    if not np.allclose(probability.sum(axis=1), 1, atol=1e-3):
        raise ValueError("some probabilities do not sum to 1; mend the learner that made them")
    if unknown := set(y) - set(classes):
        raise ValueError(f"no probability is given for {_names(unknown)}; drop these objects")
    true = pd.Index(classes).get_indexer(y)
    return true, probability.argmax(axis=1), probability.max(axis=1), weights


def _scores(true, said, confidence, weights, k):
    """Return `scores` by sklearn's definitions, but fast enough for `bootstrap`."""
    matrix = np.bincount(true * k + said, weights, minlength=k * k).reshape(k, k)
    right, rows, columns = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    n, there = rows.sum(), rows > 0
    spread = np.sqrt((n * n - rows @ rows) * (n * n - columns @ columns))
    mcc = (n * right.sum() - rows @ columns) / spread if spread > 0 else 0.0
    return {
        "accuracy": float(right.sum() / n),
        "balanced_accuracy": float((right[there] / rows[there]).mean()),
        "macro_f1": float((2 * right / (rows + columns).clip(1e-12))[there].mean()),
        "mcc": float(mcc),
        "ece": _ece(_reliability(true == said, confidence, weights, 10)),
    }


def _reliability(right, confidence, weights, n_bins):
    which = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    sums = [np.bincount(which, weights * each, n_bins) for each in (1.0, confidence, right)]
    total, confidence, right = (each[sums[0] > 0] for each in sums)
    columns = {"confidence": confidence / total, "accuracy": right / total}
    return pd.DataFrame({**columns, "share": total / total.sum()})


def _ece(table):
    return float(((table["confidence"] - table["accuracy"]).abs() * table["share"]).sum())
