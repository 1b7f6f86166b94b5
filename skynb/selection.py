"""Which features carry the classes: strategies that rank them, compared; and tuning of a learner.

A strategy sees only the objects it is given: there, values that are not finite are filled with the
median of the feature, and every feature is made Gaussian. `compare` gives it the training fold.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.feature_selection import mutual_info_classif
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.model_selection import StratifiedKFold, StratifiedShuffleSplit
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import QuantileTransformer
from sklearn.svm import l1_min_c
from tqdm.auto import tqdm

from skynb import evaluate

FEWEST = 3
"""Objects of a class that a strategy needs."""


def _mutual_information(X, y, seed):
    return mutual_info_classif(X, y, random_state=seed)


def _recursive_elimination(X, y, seed):
    left, score = np.arange(X.shape[1]), np.zeros(X.shape[1])
    while len(left):
        order = left[np.argsort(_forest(seed).fit(X[:, left], y).feature_importances_)]
        worst, left = np.split(order, [max(1, len(left) // 5)])
        score[worst] = X.shape[1] - len(left) - np.arange(len(worst))[::-1]
    return score


def _l1(X, y, seed):
    survived, options = np.zeros(X.shape[1]), {"solver": "liblinear", "random_state": seed}
    for C in l1_min_c(X, y, loss="log") * 2.0 ** np.arange(1, 11):
        sparse = LogisticRegression(C=C, l1_ratio=1, tol=1e-3, max_iter=1000, **options)
        models = OneVsRestClassifier(sparse).fit(X, y).estimators_
        weight = np.abs([model.coef_[0] for model in models]).max(axis=0)
        survived += weight > 0
    return survived + weight / (1 + weight)


def _permutation(X, y, seed):
    options, lost = {"scoring": "neg_brier_score", "n_repeats": 1, "random_state": seed}, 0
    for train, test in _folds(y, FEWEST, seed):
        forest = _forest(seed).fit(X[train], y[train])
        lost += permutation_importance(forest, X[test], y[test], **options).importances_mean
    return lost


STRATEGIES = {
    "mutual_information": _mutual_information,
    "recursive_elimination": _recursive_elimination,
    "l1": _l1,
    "permutation": _permutation,
    "random": lambda X, y, seed: np.zeros(X.shape[1]),
}
"""How to rank features, by name.

``mutual_information`` of each feature alone with the class (Ross 2014, PLoS ONE 9, e87357);
``recursive_elimination`` of the fifth that a forest needs least, again and again (after Guyon et
al. 2002, Machine Learning 46, 389); ``l1``, by the strongest penalty that a feature's weight in a
logistic regression survives (Tibshirani 1996, JRSS B 58, 267); ``permutation``, by what a forest
loses on objects it never saw when the feature is shuffled (Breiman 2001, Machine Learning 45, 5);
``random``, a control.
"""


def rank(X, y, strategy, *, seed=0):
    """Return the rank of every feature, 1 for the best, as a Series; ties are broken by lot.

    X has the shape (n_objects, n_features), y is a label each, ``strategy`` one of `STRATEGIES`.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"no strategy {strategy!r}; choose one of {', '.join(STRATEGIES)}")
    X, y = _checked(X, y, FEWEST)
    options = {"output_distribution": "normal", "random_state": seed}
    gaussian = QuantileTransformer(n_quantiles=min(1000, len(X)), **options)
    Z = gaussian.fit_transform(_filled(X, _medians(X)))
    score = STRATEGIES[strategy](Z - Z.mean(axis=0), y, seed)
    order = np.lexsort((np.random.default_rng(seed).random(len(score)), -score))
    return pd.Series(np.argsort(order) + 1, X.columns, name=strategy)


class Selector(TransformerMixin, BaseEstimator):
    """A step of a pipeline that keeps the ``n_features`` best by `rank`, medians for their NaN."""

    def __init__(self, strategy="recursive_elimination", n_features=20, seed=0):
        self.strategy, self.n_features, self.seed = strategy, n_features, seed

    def fit(self, X, y):
        """Return itself, fitted to these objects only."""
        ranks = rank(X, y, self.strategy, seed=self.seed)
        self.medians_ = _medians(pd.DataFrame(X))[ranks <= self.n_features]
        return self

    def transform(self, X):
        """Return the features kept, in their order in X, as a DataFrame."""
        return _filled(pd.DataFrame(X)[self.medians_.index], self.medians_)


def resampled_ranks(X, y, *, strategies=tuple(STRATEGIES), n_resamples=20, seed=0, progress=True):
    """Return the ranks of the features in random halves of the objects, drawn class by class.

    Halves, because a bootstrap repeats objects, which mutual information takes for knowledge and
    permutation for objects it never saw (Meinshausen & Bühlmann 2010, JRSS B 72, 417). The table
    is indexed by (strategy, resample), with a column per feature.
    """
    X, y = _checked(X, y, 2 * FEWEST)
    halves = StratifiedShuffleSplit(n_resamples, train_size=0.5, random_state=seed).split(y, y)
    ranks = {}
    with tqdm(total=n_resamples * len(strategies), desc="halves", disable=not progress) as bar:
        for k, (half, _) in enumerate(halves):
            for strategy in strategies:
                ranks[strategy, k] = rank(X.iloc[half], y[half], strategy, seed=seed + k)
                bar.update()
    return pd.DataFrame(ranks).T.rename_axis(["strategy", "resample"])


def stability(ranks, *, n_kept=10):
    """Return the ``stability`` of what every strategy keeps, and its standard ``error``.

    1: the same features in every resample; 0: as many in common as by chance. ``ranks`` are those
    of `resampled_ranks`. Nogueira, Sechidis & Brown 2018, JMLR 18, 174: definition 4, theorem 7.
    """
    if not 0 < n_kept < (d := ranks.shape[1]):
        raise ValueError(f"expected to keep from 1 to {d - 1} of {d} features, got {n_kept}")
    rows, chance = {}, n_kept / d * (1 - n_kept / d)
    for strategy, table in ranks.groupby(level="strategy", sort=False):
        kept = table.to_numpy() <= n_kept
        shared = kept @ kept.mean(axis=0) / d / chance
        value = 1 - kept.var(axis=0, ddof=1).mean() / chance
        rows[strategy] = {"stability": value, "error": 2 * shared.std() / np.sqrt(len(kept))}
    return pd.DataFrame(rows).T.rename_axis("strategy")


def compare(
    X, y, make_learner, *, n_kept=(5, 10, 20, 40), strategies=tuple(STRATEGIES), n_folds=5,
    seeds=(0,), progress=True,
):  # fmt: skip
    """Return how well a learner does with the best features of every strategy.

    Features are ranked, filled and learnt from inside each training fold; the objects that judge
    them have no part in it.

    Parameters
    ----------
    make_learner : callable
        ``make_learner(seed)`` returns a new learner: ``fit``, ``predict_proba``, ``classes_``.
    seeds : sequence of int
        Each changes the folds, stratified by class, the ranking and the learner.

    Returns
    -------
    DataFrame
        ``strategy, n_features, seed, accuracy, balanced_accuracy``; the strategy ``all`` keeps all.
    """
    X, y = _checked(X, y, max(n_folds, 2 * FEWEST))
    numbers = {name: [n for n in n_kept if n < X.shape[1]] for name in strategies}
    numbers["all"], said = [X.shape[1]], {}
    with tqdm(total=len(seeds) * n_folds * len(numbers), desc="folds", disable=not progress) as bar:
        for seed in seeds:
            for train, test in _folds(y, n_folds, seed):
                filled, ranks = _filled(X, _medians(X.iloc[train])), pd.Series(0, X.columns)
                for strategy, ns in numbers.items():
                    if strategy != "all":
                        ranks = rank(X.iloc[train], y[train], strategy, seed=seed)
                    for n in ns:
                        kept = filled[ranks.nsmallest(n).index]
                        answers = said.setdefault((strategy, n, seed), np.empty_like(y))
                        answers[test] = _said(make_learner(seed), kept, y, train, test)
                    bar.update()
    table = pd.DataFrame(said.keys(), columns=["strategy", "n_features", "seed"])
    table["accuracy"] = [accuracy_score(y, each) for each in said.values()]
    table["balanced_accuracy"] = [balanced_accuracy_score(y, each) for each in said.values()]
    return table


def tune(make_learner, space, X, y, *, path, n_trials=30, n_folds=3, seed=0, progress=True):
    """Return the optuna study of a learner's parameters by cross-validated balanced accuracy.

    Every finished trial is kept in the SQLite file ``path``: call again after a crash, or with more
    ``n_trials`` in all, and the study goes on as if it had never stopped. Its ``best_params`` are
    the answer; its ``best_value``, the best of many, is flattered: judge on other objects.

    Parameters
    ----------
    make_learner : callable
        ``make_learner(seed, **parameters)`` returns a new learner: ``fit``, ``predict_proba``,
        ``classes_``. It is given X as it is, with NaN.
    space : dict
        Parameter -> a list of choices, ``(low, high)`` or ``(low, high, "log")``; two ints give
        ints.
    """
    import optuna

    X, y = _checked(X, y, n_folds)
    distributions = {name: _distribution(name, given) for name, given in space.items()}
    data = X.to_numpy(float).tobytes() + json.dumps([*map(str, X.columns), *y]).encode()
    made_for = {"space": space, "data": hashlib.sha256(data).hexdigest(), "folds": [n_folds, seed]}
    study = _study(Path(path).expanduser(), json.loads(json.dumps(made_for)))
    finished = {"deepcopy": False, "states": [optuna.trial.TrialState.COMPLETE]}
    n_done = len(study.get_trials(**finished))
    with tqdm(total=n_trials, initial=n_done, desc="trials", disable=not progress) as bar:
        for k in range(n_done, n_trials):
            study.sampler = optuna.samplers.TPESampler(seed=1000 * seed + k)
            trial, said = study.ask(distributions), np.empty_like(y)
            for train, test in _folds(y, n_folds, seed):
                said[test] = _said(make_learner(seed, **trial.params), X, y, train, test)
            study.tell(trial, balanced_accuracy_score(y, said))
            bar.set_postfix(best=f"{study.best_value:.3f}", refresh=False)
            bar.update()
    return study


def _study(path, made_for):
    """Return the study in a file, begun if there is none, or say why it is not this one."""
    import optuna
    from sqlalchemy import URL

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    file = URL.create("sqlite", database=str(path)).render_as_string()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        study = optuna.create_study(
            storage=file, study_name="skynb", direction="maximize", load_if_exists=True
        )
    except Exception as error:  # whatever the file may be
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} is not a study ({reason}); choose another path") from None
    finally:
        optuna.logging.set_verbosity(verbosity)
    was = study.user_attrs.get("made_for", made_for)
    if other := [name for name in made_for if made_for[name] != was.get(name)]:
        raise ValueError(f"the study {path} was made for other {other[0]}; choose another path")
    study.set_user_attr("made_for", made_for)
    return study


def _distribution(name, given):
    from optuna import distributions as known

    try:
        if isinstance(given, list):
            return known.CategoricalDistribution(given)
        low, high, *log = given
        if log not in ([], ["log"]):
            raise ValueError
        ints = isinstance(low, int) and isinstance(high, int)
        kind = known.IntDistribution if ints else known.FloatDistribution
        return kind(low, high, log=bool(log))
    except (TypeError, ValueError):
        raise ValueError(
            f"the range of {name} is {given!r}; give [choices], (low, high) or (low, high, 'log')"
        ) from None


def _forest(seed):
    return ExtraTreesClassifier(60, min_samples_leaf=2, class_weight="balanced", random_state=seed)


def _folds(y, n_folds, seed):
    return StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(y, y)


def _said(learner, X, y, train, test):
    """Return what a learner says of the rows ``test``, trained on the rows ``train``."""
    learner.fit(X.iloc[train], y[train])
    return np.asarray(learner.classes_)[learner.predict_proba(X.iloc[test]).argmax(axis=1)]


def _checked(X, y, fewest):
    """Return features as a DataFrame and labels as str, or say what is wrong with them."""
    X = pd.DataFrame(X)
    return X, evaluate.learnable(y, len(X), fewest=fewest).astype(str)


def _medians(X):
    """Return the median of each feature's finite values, 0 where there is none."""
    return X.where(np.isfinite(X)).median().fillna(0)


def _filled(X, medians):
    return X.where(np.isfinite(X), medians, axis=1)
