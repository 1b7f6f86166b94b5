"""Classifiers of light curves: from observations to probabilities, kept with their recipe.

`LightCurveClassifier` measures light curves (features, periods, dm-dt images), learns from that,
and refuses to judge what was made another way. `skynb.predict` applies one to a file of any length.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from nested_pandas import NestedFrame
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from threadpoolctl import threadpool_limits

from skynb import (
    dmdt,
    evaluate,
    features,
    lightcurves,
    models,
    networks,
    outliers,
    periods,
    taxonomy,
)

INPUTS = {
    "forest": ("features",),
    "extra_trees": ("features",),
    "boosted": ("features",),
    "hybrid": ("features", "images"),
    "dmdt_cnn": ("images",),
    "structure": (),
    "bayes_net": ("features",),
}
"""Kind of learner -> what is measured for it."""

KINDS = (*INPUTS, "hierarchical")

BELIEF = {"structure": 1.0, "bayes_net": 1.0, "dmdt_cnn": 0.5}
"""Kind of learner -> power of the class sizes in its class mix; 0 where classes weigh the same."""

FEW = 2000
"""Objects below which one thread learns faster than several."""

GRID = dmdt.GRID.with_normalization("p(dm|dt)")


@dataclass(frozen=True, eq=False)
class Measured:
    """Light curves and what was measured of them, row by row; ``measured[rows]`` takes some."""

    lcs: NestedFrame
    features: pd.DataFrame | None = None
    images: np.ndarray | None = None
    grid: dmdt.Grid | None = None

    def __len__(self):
        return len(self.lcs)

    def __getitem__(self, rows):
        X = None if self.features is None else self.features.iloc[rows]
        images = None if self.images is None else self.images[rows]
        return Measured(self.lcs.iloc[rows], X, images, self.grid)


def measure(
    lcs, kind="hybrid", *, node="boosted", found=None, grid=None,
    max_frequency=periods.MAX_FREQUENCY, progress=True,
):  # fmt: skip
    """Return what a kind of learner needs to know of light curves, as `Measured`.

    Every object is measured by itself, so this may be done once, before any split.

    Parameters
    ----------
    lcs : NestedFrame, shape (n_objects,)
    kind, node : str
        As in `LightCurveClassifier`.
    found : DataFrame, optional
        Of `periods.search`, which is called here otherwise.
    grid : Grid, optional
        Of the dm-dt images; `GRID`, or `skynb.networks.FINE_GRID` for networks.
    max_frequency : float
        Of the period search [1/day]; 0: none, and features without a period.
    """
    X, images, inputs = None, None, _inputs(kind, node)
    if "images" in inputs:
        grid = grid or (networks.FINE_GRID if "dmdt_cnn" in (kind, node) else GRID)
        images = dmdt.images(lcs, grid=grid, progress=False)
    if "features" in inputs:
        if found is None and max_frequency:
            found = periods.search(lcs, max_frequency=max_frequency, progress=progress)
        found = False if found is None else found
        X = features.extract(lcs, periods=found, progress=False)
    return Measured(lcs, X, images, None if images is None else grid)


def _inputs(kind, node):
    """Return what is measured for a kind of learner, or for those at the nodes of a hierarchy."""
    name = node if kind == "hierarchical" else kind
    if name not in INPUTS:
        raise ValueError(f"no classifier is called {name!r}; choose one of {', '.join(KINDS)}")
    return INPUTS[name]


def believed_mix(kind, y, *, node="boosted"):
    """Return class -> share: the class mix that a kind of learner, trained on ``y``, believes in.

    For `skynb.evaluate.adjust`, where the objects to judge come in another mix.

    Examples
    --------
    >>> believed_mix("hybrid", ["EW", "EW", "EW", "EA"])
    {'EA': 0.5, 'EW': 0.5}
    """
    classes, counts = np.unique(y, return_counts=True)
    belief = counts ** BELIEF.get(node if kind == "hierarchical" else kind, 0.0)
    return dict(zip(classes.tolist(), (belief / belief.sum()).tolist(), strict=True))


class LightCurveClassifier:
    """A classifier of light curves that carries its recipe, ``recipe_``.

    Parameters
    ----------
    kind : str
        ``forest``, ``extra_trees``, ``boosted``: trees on features. ``hybrid``: boosting and
        extra trees on features and dm-dt images together, averaged. ``dmdt_cnn``: networks on dm-dt
        images. ``structure``: probabilistic structure functions. ``bayes_net``: a Bayesian network
        on features. ``hierarchical``: one learner of the kind ``node`` at every branch of
        `skynb.taxonomy` where classes part.
    node : str
    options : dict, optional
        Of the learner: ``n_trees``, ``n_rounds`` of trees; ``n_copies`` and the arguments of
        `skynb.networks.DmDtCNN`; ``order`` of `skynb.structure.StructureFunctions`; the arguments
        of `skynb.bayes.BayesNet`.
    grid, max_frequency :
        As in `measure`.
    seed : int
    progress : bool
    """

    def __init__(
        self, kind="hybrid", *, node="boosted", options=None, grid=None,
        max_frequency=periods.MAX_FREQUENCY, seed=0, progress=False,
    ):  # fmt: skip
        self.kind, self.node, self.options = kind, node, options
        self.grid, self.max_frequency = grid, max_frequency
        self.seed, self.progress = seed, progress

    def fit(self, lcs, y):
        """Return itself, trained on light curves, or `Measured` ones, and their labels.

        Raises
        ------
        ValueError
            An unknown kind, a missing label, one class only, a class with one object, labels that
            the tree of `hierarchical` does not hold, several bands where images are needed.
        """
        y = evaluate.learnable(y, len(lcs), fewest=2).astype(str)
        if self.kind == "hierarchical":
            _check_tree(np.unique(y))
        inputs = _inputs(self.kind, self.node)
        data = self._measured(lcs)
        self.recipe_ = models.Recipe(
            kind=self.kind,
            options={"node": self.node, "options": self.options or {}},
            seed=self.seed,
            classes=np.unique(y).tolist(),
            bands=lightcurves.bands(data.lcs),
            features=list(data.features) if "features" in inputs else None,
            grid=data.grid.to_dict() if "images" in inputs else None,
            period_search={"max_frequency": self.max_frequency} if "features" in inputs else None,
            known=models.known(data.lcs),
            training=models.fingerprint(data.lcs, y),
            versions=models.versions(),
        )
        with threadpool_limits(1 if len(y) < FEW else None):
            self.learner_ = _learner(self.kind, self.node, self.options, self.seed).fit(data, y)
        self.detector_ = outliers.Detector(n_trees=100, seed=self.seed).fit(_described(data))
        return self

    @property
    def classes_(self):
        """Return the classes, in the order of the columns of `predict_proba`."""
        return np.array(self.recipe_.classes)

    def predict_proba(self, lcs):
        """Return the probability of each class, shape (n_objects, n_classes).

        Raises
        ------
        ValueError
            Light curves in another band, images on another grid, features that are missing.
        """
        data = self.measure(lcs)
        probability = np.asarray(self.learner_.predict_proba(data), dtype=float)
        return probability / probability.sum(axis=1, keepdims=True)

    def predict(self, lcs):
        """Return the likeliest class of each object, shape (n_objects,)."""
        return self.classes_[self.predict_proba(lcs).argmax(axis=1)]

    def outlier_score(self, lcs):
        """Return how unlike the training objects each one is, in (0, 1): higher is stranger."""
        return self.detector_.score(_described(self.measure(lcs)))

    def measure(self, lcs):
        """Return light curves measured as the recipe says, to ask for several things of them."""
        return self._measured(lcs, self.recipe_)

    def save(self, path, *, card=None):
        """Return ``path`` after writing the model there; ``card`` is a dict for people to read."""
        parts = {"learner": self.learner_.to_parts(), "detector": self.detector_.to_parts()}
        return models.save(parts, self.recipe_, card or {}, path)

    def _measured(self, lcs, recipe=None):
        """Return ``lcs`` measured as the recipe wants; refuse what was measured another way."""
        inputs = _inputs(self.kind, self.node)
        if recipe:
            recipe.check(bands=lightcurves.bands(getattr(lcs, "lcs", lcs)))
        if not isinstance(lcs, Measured):
            lcs = measure(
                lcs, self.kind, node=self.node, grid=self.grid,
                max_frequency=self.max_frequency, progress=self.progress,
            )  # fmt: skip
        for name in inputs:
            if getattr(lcs, name) is None:
                raise ValueError(f"measured without {name}; use classify.measure(lcs, kind)")
        X = lcs.features if "features" in inputs else None
        if recipe:
            recipe.check(grid=lcs.grid if "images" in inputs else None)
            if X is not None:
                X = _columns(X, recipe, lcs.lcs)
        return Measured(lcs.lcs, X, lcs.images if "images" in inputs else None, lcs.grid)


def load(path):
    """Return the classifier in a file, with its ``card_``; `models.load` says what is refused."""
    parts, recipe, card = models.load(path)
    try:
        self = LightCurveClassifier(
            recipe.kind,
            **recipe.options,
            grid=dmdt.Grid.from_dict(recipe.grid) if recipe.grid else None,
            max_frequency=(recipe.period_search or {}).get("max_frequency", periods.MAX_FREQUENCY),
            seed=recipe.seed,
        )
        self.recipe_, self.card_ = recipe, card
        untrained = _learner(self.kind, self.node, self.options, self.seed)
        self.learner_ = untrained.restore(parts["learner"])
        self.detector_ = outliers.Detector.from_parts(parts["detector"])
        probe = _probe(recipe, self.grid)
        probability, score = self.predict_proba(probe), self.outlier_score(probe)
        if probability.shape != (1, len(recipe.classes)) or score.shape != (1,):
            raise ValueError(f"probabilities of shape {probability.shape}")
        if not np.isfinite([*probability[0], *score]).all():
            raise ValueError("it gives no number")
    except Exception as error:  # whatever a stranger's file may cause
        raise models.ModelError(
            f"{path}: its weights are not those of its recipe, another grid or other features "
            f"({' '.join(str(error).split())}); train it anew"
        ) from None
    return self


def _probe(recipe, grid):
    """Return one object measured as the recipe says, to try a model on."""
    flat = {"object_id": "probe", "mjd": np.arange(6.0), "mag": [15, 16] * 3, "magerr": 0.1}
    lcs = lightcurves.from_flat(pd.DataFrame(flat | {"band": recipe.bands[0]}))
    columns = list(recipe.features or ())
    X = pd.DataFrame(np.zeros((1, len(columns))), index=lcs.index, columns=columns)
    images = np.zeros((1, *grid.shape), np.float32) if grid else None
    return Measured(lcs, X if recipe.features else None, images, grid)


def _check_tree(classes):
    try:
        for name in classes.tolist():
            taxonomy.path(name)
    except ValueError as error:
        raise ValueError(
            f"{error}; rename the labels to classes of skynb.taxonomy, whose tree hierarchical "
            "follows, or choose another kind"
        ) from None


def _described(data):
    """Return what outliers are told by: features, or the mean and scatter of dm at every dt, or
    the number of points, their span and their magnitude.
    """
    if data.features is not None:
        return data.features
    if data.images is None:
        return lightcurves.summary(data.lcs)[list(models.REASONS)]
    dm = np.convolve(data.grid.dm, (0.5, 0.5), "valid")[:, None]
    p = data.images / data.images.sum(axis=1, keepdims=True).clip(1e-9)
    mean, square = (p * dm).sum(axis=1), (p * dm**2).sum(axis=1)
    return np.hstack([mean, np.sqrt((square - mean**2).clip(0))])


def _columns(X, recipe, lcs):
    """Return the recipe's features: where it knows several bands, those of other bands are NaN."""
    bands = lightcurves.bands(lcs)
    if len(recipe.bands) == 1:
        recipe.check(features=X)
    elif len(bands) == 1:
        known = set(recipe.features)
        X = X.rename(columns={n: f"{n}_{bands[0]}" for n in X if f"{n}_{bands[0]}" in known})
    return X.reindex(columns=list(recipe.features))


# Learners: `Measured` in, probabilities out.


def _learner(kind, node, options, seed):
    """Return the untrained learner of a `LightCurveClassifier`."""
    options = options or {}
    if kind == "hierarchical":
        return _Hierarchy(node, options, seed)
    if kind == "dmdt_cnn":
        return _Networks(options, seed)
    if kind == "structure":
        from skynb.structure import StructureFunctions

        return _Single("lcs", StructureFunctions(seed=seed, **options))
    if kind == "bayes_net":
        from skynb.bayes import BayesNet

        return _Single("features", BayesNet(seed=seed, **options))
    return _Trees(kind, seed, **options)


class _Single:
    """A learner of another module, fed with one field of `Measured`."""

    def __init__(self, field, learner):
        self.field, self.learner = field, learner

    def fit(self, data, y):
        self.learner.fit(getattr(data, self.field), y)
        return self

    def predict_proba(self, data):
        return self.learner.predict_proba(getattr(data, self.field))

    def to_parts(self):
        return self.learner.to_parts()

    def restore(self, parts):
        self.learner = type(self.learner).from_parts(parts)
        return self


class _Networks(_Single):
    """Networks on dm-dt images, trained also on copies perturbed by the errors."""

    def __init__(self, options, seed):
        self.n_copies, self.seed = options.get("n_copies", 6), seed
        options = {name: value for name, value in options.items() if name != "n_copies"}
        super().__init__("images", networks.DmDtCNN(seed=seed, **options))

    def fit(self, data, y):
        copies = {"grid": data.grid, "n_copies": self.n_copies, "seed": self.seed}
        self.learner.fit(networks.augmented(data.lcs, **copies), y)
        return self


class _Trees:
    """Forests and boosting on features; ``hybrid``: both, also on the main components of images."""

    def __init__(self, kind, seed, *, n_trees=300, n_rounds=150, n_components=20):
        forest = {"n_estimators": n_trees, "min_samples_leaf": 2, "random_state": seed}
        boosted = HistGradientBoostingClassifier(
            max_iter=n_rounds, learning_rate=0.06, max_leaf_nodes=12, max_features=0.3,
            l2_regularization=1.0, class_weight="balanced", early_stopping=False, random_state=seed,
        )  # fmt: skip
        extra = ExtraTreesClassifier(max_features=0.3, class_weight="balanced", **forest)
        random = RandomForestClassifier(class_weight="balanced_subsample", **forest)
        every = {"forest": [random], "extra_trees": [extra], "boosted": [boosted]}
        self.estimators = every.get(kind, [boosted, extra])
        self.pca = PCA(n_components, random_state=seed) if kind == "hybrid" else None

    def fit(self, data, y):
        if self.pca is not None:
            self.pca.n_components = min(self.pca.n_components, len(data))
            self.pca.fit(_roots(data))
        X = _numbers(data.features)
        self.known = ~np.isnan(X).all(axis=0)
        X = self.matrix(data)
        for estimator in self.estimators:
            if isinstance(estimator, HistGradientBoostingClassifier):
                estimator.min_samples_leaf = int(np.clip(len(X) // 50, 2, 15))
            estimator.fit(X, np.unique(y, return_inverse=True)[1])
        return self

    def predict_proba(self, data):
        X = self.matrix(data)
        return np.mean([estimator.predict_proba(X) for estimator in self.estimators], axis=0)

    def matrix(self, data):
        """Return what the trees are fed of measured objects, shape (n_objects, n_columns)."""
        X = _numbers(data.features)[:, self.known]
        return X if self.pca is None else np.hstack([X, self.pca.transform(_roots(data))])

    def to_parts(self):
        return {"estimators": self.estimators, "known": self.known, "pca": self.pca}

    def restore(self, parts):
        self.estimators, self.known, self.pca = parts["estimators"], parts["known"], parts["pca"]
        return self


def _numbers(X):
    """Return features as float64, what is not finite as NaN, shape (n_objects, n_features)."""
    X = X.to_numpy(np.float64)
    return np.where(np.isfinite(X), X, np.nan)


def _roots(data):
    """Return the square roots of images, whose noise is even, shape (n_objects, n_cells)."""
    return np.sqrt(data.images.reshape(len(data), -1))


class _Hierarchy:
    """One learner at every branch of the variability tree where the classes part."""

    def __init__(self, kind, options, seed):
        self.make = lambda: _learner(kind, None, options, seed)

    def fit(self, data, y):
        self.classes = np.unique(y).tolist()
        steps = [self._steps(name) for name in y.tolist()]
        self.nodes = {}
        for node in dict.fromkeys(node for path in steps for node in path):
            rows = np.array([k for k, path in enumerate(steps) if node in path])
            below = np.array([steps[k][node] for k in rows])
            children = np.unique(below)
            if len(children) > 1:
                self.nodes[node] = children.tolist(), self.make().fit(data[rows], below)
        return self

    @staticmethod
    def _steps(name):
        """Return node -> child on the way from the root to a class."""
        return dict(pairwise(taxonomy.path(name)))

    def predict_proba(self, data):
        probability = np.ones((len(data), len(self.classes)))
        for node, (children, learner) in self.nodes.items():
            said = learner.predict_proba(data)
            for k, name in enumerate(self.classes):
                if child := self._steps(name).get(node):
                    probability[:, k] *= said[:, children.index(child)]
        return probability

    def to_parts(self):
        nodes = {node: [names, each.to_parts()] for node, (names, each) in self.nodes.items()}
        return {"classes": self.classes, "nodes": nodes}

    def restore(self, parts):
        self.classes = parts["classes"]
        self.nodes = {
            node: (names, self.make().restore(each))
            for node, (names, each) in parts["nodes"].items()
        }
        return self
