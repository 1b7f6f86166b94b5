"""Keras networks on dm-dt images: the published one, a deeper one, ensembles of them, transfer.

Mahabal et al. 2017, arXiv:1709.06257 (the shallow network); Lakshminarayanan et al. 2017,
arXiv:1612.01474 (ensembles); Yosinski et al. 2014, arXiv:1411.1792 and Li et al. 2018,
arXiv:1802.01483 (transfer, drawn towards where it started).
"""

import contextlib
import importlib
import logging
import math
import os
import re
import sys

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.metrics import recall_score
from tqdm.auto import tqdm

from skynb import dmdt, lightcurves

_DM = (0.03, 0.07, 0.11, 0.16, 0.23, 0.33, 0.45, 0.63, 0.87, 1.2, 1.65, 2.25, 3.1, 4.25, 5.8, 8)

#: 32 dm bins by 28 dt bins, finer than `skynb.dmdt.GRID` where Catalina's variables differ: below
#: 0.3 mag, within a night, and from one night to the next.
FINE_GRID = dmdt.Grid(
    dm=(*(-dm for dm in reversed(_DM)), 0, *_DM),
    dt=(
        *(0, 0.006, 0.009, 0.012, 0.016, 0.02, 0.03, 0.06, 0.1, 0.2, 0.5, 0.9, 0.96, 1, 1.04, 1.1),
        *(1.5, 2.5, 3.5, 7, 15, 30, 60, 120, 240, 480, 1000, 2000, 4000),
    ),
    normalization="p(dm|dt)",
)

#: Name of a network -> the least number of cells that its images have a side.
DEPTHS = {"shallow": 14, "deep": 8}


def inputs(images):
    """Return what networks are fed: sqrt p(dm|dt) of images in any normalization, float32.

    Every dt column is divided by its sum, and the square root evens out its noise. One axis, of
    length 1, comes last: ``(n_objects, n_dm, n_dt, 1)``. Values below 0 or not finite raise
    ValueError.
    """
    x = np.asarray(images).astype(np.float32)
    if x.ndim not in (3, 4):
        raise ValueError(f"expected images of shape (n_objects, n_dm, n_dt), got {x.shape}")
    if not (np.isfinite(x).all() and (x >= 0).all()):
        raise ValueError("images have values below 0 or not finite; make them with dmdt.images")
    total = x.sum(axis=-2, keepdims=True)
    np.divide(x, total, out=x, where=total > 0)
    return np.sqrt(x)[..., None]


def augmented(lcs, *, grid=FINE_GRID, n_copies=6, scale=0.5, seed=0, progress=False):
    """Return images and copies of them from magnitudes perturbed by their errors.

    Parameters
    ----------
    lcs : NestedFrame, shape (n_objects,)
        Light curves of one band.
    scale : float
        Standard deviation of the perturbation, in units of ``magerr``. Catalina's errors are too
        large for bright stars, and the magnitudes already have errors of their own.

    Returns
    -------
    ndarray, shape (n_objects, 1 + n_copies, n_dm, n_dt), the image itself first
    """
    rng, flat, perturbed = np.random.default_rng(seed), lightcurves.arrays(lcs), lcs.copy()
    stacks = [dmdt.images(lcs, grid=grid)]
    for _ in tqdm(range(n_copies), desc="copies", disable=not progress):
        noise = rng.normal(size=len(flat.mag))
        perturbed["lightcurve.mag"] = flat.mag + scale * flat.magerr * noise
        stacks.append(dmdt.images(perturbed, grid=grid))
    return np.stack(stacks, axis=1)


def build(depth, shape, n_classes, *, seed=0):
    """Return an untrained network, a keras.Model that takes `inputs` and ends in a softmax.

    ``shallow`` is that of Mahabal et al. 2017, two 5x5 convolutions and a dense layer: for images
    of 22x24 cells and 7 classes it has the published 39,527 parameters. ``deep`` has three 3x3
    convolutions (32, 64, 128 filters), each normalized and pooled by 2.

    ``shape`` is that of one input, (n_dm, n_dt, 1), and ``seed`` that of the first weights. An
    unknown depth raises ValueError, and so do images smaller than 14x14 if shallow, 8x8 if deep.
    """
    if depth not in DEPTHS:
        raise ValueError(f"no network is called {depth!r}; choose one of {', '.join(DEPTHS)}")
    if min(shape[:2]) < (least := DEPTHS[depth]):
        small = f"images of {shape[0]}x{shape[1]} cells are too small for the {depth} network"
        raise ValueError(f"{small}; use a grid of {least}x{least} or more")
    keras, layers = load_keras(), load_keras().layers
    seeds = iter(np.random.SeedSequence(seed).generate_state(4) >> 1)

    def seeded(layer, *args, l2, **options):
        start = keras.initializers.GlorotUniform(int(next(seeds)))
        penalty = keras.regularizers.L2(l2)
        return layer(*args, kernel_initializer=start, kernel_regularizer=penalty, **options)

    first = keras.Input(tuple(shape))
    if depth == "shallow":
        l2, x = 0, seeded(layers.Conv2D, 16, 5, activation="relu", l2=0.01)(first)
        x = seeded(layers.Conv2D, 64, 5, activation="relu", l2=0.01)(layers.MaxPooling2D(2)(x))
        last = layers.Flatten()(x)
    else:
        l2, x = 1e-4, first
        for n in (32, 64, 128):
            x = seeded(layers.Conv2D, n, 3, padding="same", use_bias=False, l2=l2)(x)
            x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
            x = layers.MaxPooling2D(2)(x)
        last = layers.Dropout(0.5, seed=seed)(layers.Flatten()(x))
    head = seeded(layers.Dense, n_classes, activation="softmax", l2=l2)
    return keras.Model(first, head(last))


class DmDtCNN(ClassifierMixin, BaseEstimator):
    """Networks on dm-dt images, their probabilities averaged.

    Each network starts from its own seed and holds out its own objects to know when to stop.

    Parameters
    ----------
    depth : str
        ``deep``, or ``shallow`` for the network of Mahabal et al. 2017.
    n_networks : int
    epochs, patience, batch_size : int
        Most epochs; epochs without a better validation after which to stop; objects per step (16
        or an eighth of the objects, if these are fewer).
    learning_rate : float
        Of Adam, at the start; it falls to 0 as a cosine.
    validation : float
        Share of every class that a network holds out; it keeps the weights of the epoch that
        judged these objects best. With 0, every epoch is run.
    balance : float
        Weight of a class: the inverse of its number of objects to this power.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
    networks_ : list of keras.Model
        Feed them `inputs`.
    losses_ : list of ndarray
        Of each network, shape (n_epochs, 2): training, with penalties, and validation.
    """

    def __init__(
        self, depth="deep", *, n_networks=3, epochs=25, patience=10, batch_size=64,
        learning_rate=2e-3, validation=0.12, balance=0.5, seed=0, progress=False,
    ):  # fmt: skip
        self.depth, self.n_networks, self.seed, self.progress = depth, n_networks, seed, progress
        self.epochs, self.patience, self.batch_size = epochs, patience, batch_size
        self.learning_rate, self.validation, self.balance = learning_rate, validation, balance

    def fit(self, images, y, *, callbacks=()):
        """Return itself, trained.

        ``images`` are of shape (n_objects, n_dm, n_dt), in any normalization; or have copies, as
        `augmented` makes them, trained on in turn with the image itself and not validated on.
        ``callbacks`` are Keras's, and hear of the start, the epochs and the end of each network's
        training. What `build` or `inputs` refuses raises ValueError, and so do labels of one class
        only.
        """
        x = _stack(images)
        self.classes_, codes = _coded(y, len(x))
        self.networks_, self.losses_ = [], []
        seeds = np.random.SeedSequence(self.seed).generate_state(self.n_networks) >> 1
        for seed in seeds.tolist():
            network = build(self.depth, x.shape[2:], len(self.classes_), seed=seed)
            self._train(network, x, codes, seed, callbacks)
        return self

    def _train(self, network, x, codes, seed, callbacks=()):
        optimizers, rng = load_keras().optimizers, np.random.default_rng(seed)
        counts = np.maximum(np.bincount(codes, minlength=len(self.classes_)), 1)
        weights = (counts ** -float(self.balance))[codes]
        weights /= weights.mean()
        held = _held(codes, self.validation, seed)
        rows, validated = np.flatnonzero(~held), held.any()
        size = min(self.batch_size, max(16, len(rows) // 8), len(rows))
        steps = len(rows) // size
        rate = optimizers.schedules.CosineDecay(self.learning_rate, steps * self.epochs)
        network.compile(optimizers.Adam(rate), "sparse_categorical_crossentropy", jit_compile=False)
        told = load_keras().callbacks.CallbackList(list(callbacks), model=network)
        losses, best, kept = [], 0, None
        told.on_train_begin()
        for epoch in tqdm(range(self.epochs), desc="epochs", disable=not self.progress):
            loss = []
            for batch in rng.permutation(rows)[: steps * size].reshape(steps, size):
                seen = x[batch, rng.integers(x.shape[1], size=size)]
                heard = network.train_on_batch(seen, codes[batch], sample_weight=weights[batch])
                loss.append(heard)
            said = _judge(network, x[held, 0])[np.arange(held.sum()), codes[held]].clip(1e-9)
            judged = -np.average(np.log(said), weights=weights[held]) if validated else np.nan
            losses.append((float(np.mean(loss)), judged))
            told.on_epoch_end(epoch, {"loss": losses[-1][0], "val_loss": judged})
            if judged <= losses[best][1]:
                best, kept = epoch, network.get_weights()
            if validated and epoch - best >= self.patience:
                break
        told.on_train_end()
        if kept is not None:
            network.set_weights(kept)
        self.networks_.append(network)
        self.losses_.append(np.array(losses))

    def predict_proba(self, images):
        """Return the probability of each class, shape (n_objects, n_classes)."""
        x = self.stack(images)[:, 0]
        total = np.mean([_judge(network, x) for network in self.networks_], axis=0)
        return total / total.sum(axis=1, keepdims=True)

    def stack(self, images):
        x = _stack(images)
        _same_shape(x[:, 0], self.networks_[0].input_shape)
        return x

    def predict(self, images):
        """Return the likeliest class of each object, shape (n_objects,)."""
        return self.classes_[self.predict_proba(images).argmax(axis=1)]

    def to_parts(self):
        """Return the parameters, classes, shape of the images and weights."""
        shape = list(self.networks_[0].input_shape[1:])
        weights = [network.get_weights() for network in self.networks_]
        parts = {"parameters": self.get_params(), "classes": self.classes_}
        return parts | {"shape": shape, "weights": weights}

    @classmethod
    def from_parts(cls, parts):
        """Return the learner that `to_parts` took apart; ValueError if the parts do not fit."""
        self, shape, weights = cls(**parts["parameters"]), parts["shape"], parts["weights"]
        self.classes_, self.networks_, self.losses_ = np.asarray(parts["classes"]), [], []
        n_cells = math.prod(shape) * len(self.classes_)  # before memory is asked for
        sizes = [sum(array.size for array in arrays) for arrays in weights]
        if not 0 < len(weights) == self.n_networks or n_cells > min(sizes):
            wanted = f"{self.n_networks} networks for {shape} and {len(self.classes_)} classes"
            raise ValueError(f"{sizes} weights do not make {wanted}; train the model anew")
        for arrays in weights:
            self.networks_.append(build(self.depth, shape, len(self.classes_)))
            self.networks_[-1].set_weights(arrays)
        return self


def activations(network, images):
    """Return what enters a network's last layer, shape (n_objects, n_units).

    A network that does not end in a dense layer, or knows images of another shape, raises
    ValueError.
    """
    _last(network)
    inner, x = load_keras().Model(network.inputs[0], network.layers[-1].input), inputs(images)
    _same_shape(x, network.input_shape)
    return _judge(inner, x).reshape(len(images), -1)


def logits(network, activations):
    """Return what a network's softmax is taken of, shape (n_objects, n_classes).

    ``activations`` are those of the function of this name.
    """
    kernel, bias = _last(network).get_weights()
    return np.asarray(activations) @ kernel + bias


def _same_shape(x, known):
    if x.shape[1:] != known[1:]:
        cells = f"{x.shape[1]}x{x.shape[2]} cells, the networks know {known[1]}x{known[2]}"
        raise ValueError(f"images of {cells}; make them on the grid of the training images")


def _last(network):
    if not isinstance(network, load_keras().Model):
        raise ValueError(f"expected a keras.Model, as of learner.networks_, got {network!r:.60}")
    layer = network.layers[-1]
    if not isinstance(layer, load_keras().layers.Dense):
        kind = type(layer).__name__
        raise ValueError(
            f"the last layer is a {kind}, not a Dense one; give a classifier's network"
        )
    return layer


def transfer(learner, images, y, *, classes=None, n_trainable=1, pull=0.3, seed=0, progress=False):
    """Return a learner retrained for another survey from few labels; ``learner`` stays as it is.

    Every network keeps its weights but those of its last layers. The last layer starts from the
    source's: a class that the source knows keeps its meaning until labels speak against it, a new
    one starts between all others.

    Parameters
    ----------
    learner, images, y :
        A `DmDtCNN` trained on the source; images, on the same grid, and labels of the target.
    classes : sequence, optional
        Classes to tell apart, of which some may have no label yet: those of ``y`` by default.
    n_trainable : int or None
        Layers with weights to retrain, from the end; None: all. The last alone is a convex
        problem on the fixed activations that enter it, and is solved exactly, in a fraction of a
        second. More are trained with the learner's options.
    pull : float
        How strongly the last layer is held to where it starts: the inverse variance of a normal
        prior, in units of the activations' scatter. Only for ``n_trainable=1``.
    """
    x = learner.stack(images)
    moved = clone(learner).set_params(seed=seed, progress=progress)
    moved.classes_, codes = _coded(y, len(x), classes)
    moved.networks_, moved.losses_ = [], []
    shared, known = np.intersect1d(learner.classes_, moved.classes_, return_indices=True)[1:]
    for k, source in enumerate(learner.networks_):
        network = build(learner.depth, x.shape[2:], len(moved.classes_), seed=seed + k)
        *body, kernel, bias = source.get_weights()
        head = np.zeros((len(kernel) + 1, len(moved.classes_)))
        if len(known):
            head[:, known] = np.vstack([kernel, bias])[:, shared]
            head[:, known] -= head[:, known].mean(axis=1, keepdims=True)
        if n_trainable == 1:
            entering = load_keras().Model(source.input, source.layers[-1].input)
            head = _head(_judge(entering, x[:, 0]), codes, head, pull)
        network.set_weights([*body, head[:-1], head[-1]])
        if n_trainable == 1:
            moved.networks_.append(network)
        else:
            weighted = [layer for layer in network.layers if layer.get_weights()]
            for layer in weighted[: -(n_trainable or len(weighted))]:
                layer.trainable = False
            moved._train(network, x, codes, seed + k)
    return moved


def compare_transfer(
    learner, images, y, *, n_labels=(2, 5, 10, 20), n_draws=20, scratch=None, seed=0,
    progress=True, **options,
):  # fmt: skip
    """Return how far ``n_labels`` of each class go on a target survey, one row for each draw.

    Columns: ``n_labels``, ``draw``, and the balanced accuracies on all other objects of ``none``
    (the source's networks, asked about the target's classes), ``scratch`` (networks that know these
    labels alone; the argument holds their parameters where they differ from the source's, by
    default 60 epochs in batches of 16, no object held out) and ``transfer``, whose arguments are
    taken. A class with too few objects raises ValueError.
    """
    y, rows = _labels(y), []
    classes, counts = np.unique(y, return_counts=True)
    if max(n_labels) >= counts.min():
        few = f"{classes[counts.argmin()]} has {counts.min()} objects"
        raise ValueError(f"{few}, too few to draw {max(n_labels)} and judge others; draw fewer")
    alone = {"epochs": 60, "batch_size": 16, "validation": 0, "progress": False} | (scratch or {})
    asked = learner.predict_proba(images) * np.isin(learner.classes_, classes)
    unmoved = learner.classes_[asked.argmax(axis=1)]
    draws = [(n, draw) for n in n_labels for draw in range(n_draws)]
    for n, draw in tqdm(draws, desc="draws", disable=not progress):
        rng = np.random.default_rng([draw, n, seed])
        chosen = [rng.choice(np.flatnonzero(y == name), n, False) for name in classes]
        train = np.isin(np.arange(len(y)), chosen)
        new = clone(learner).set_params(**alone, seed=draw).fit(images[train], y[train])
        moved = transfer(learner, images[train], y[train], seed=draw, **options)
        said = {"none": unmoved[~train], "scratch": new.predict(images[~train])}
        said["transfer"] = moved.predict(images[~train])
        for name, each in said.items():
            said[name] = recall_score(y[~train], each, average="macro", zero_division=0)
        rows.append({"n_labels": n, "draw": draw} | said)
    return pd.DataFrame(rows)


def load_keras():
    """Return keras; what TensorFlow writes on standard error while it loads is not shown."""
    if "keras" in sys.modules:
        return sys.modules["keras"]
    # every new network is traced, as it must be, and some are exported
    routine = re.compile("retracing|Assets written")
    logging.getLogger("tensorflow").addFilter(lambda said: not routine.search(said.getMessage()))
    with hushed():
        return importlib.import_module("keras")


@contextlib.contextmanager
def hushed():
    """Show nothing of what TensorFlow's own code writes on standard error meanwhile."""
    sys.stderr.flush()
    shown = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(shown, 2)
        os.close(shown)


def _judge(network, x, size=256):
    """Return the output for every row of ``x``, float64; no dropout, nothing is compiled."""
    out = np.empty((len(x), *network.output_shape[1:]))
    for k in range(0, len(x), size):
        out[k : k + size] = network(x[k : k + size], training=False)
    return out


def _stack(images):
    """Return `inputs`, shape (n_objects, 1 + n_copies, n_dm, n_dt, 1)."""
    x = inputs(images)
    return x[:, None] if x.ndim == 4 else x


def _labels(y):
    y = np.asarray(y)
    return y.astype(str) if y.dtype == object else y


def _coded(y, n_objects, classes=None):
    """Return the classes, sorted, and the place of each label among them."""
    labels = _labels(y)
    classes = np.unique(labels if classes is None else _labels(classes))
    if len(labels) != n_objects or len(classes) < 2 or not np.isin(labels, classes).all():
        raise ValueError(
            f"expected one label for each of {n_objects} objects, two classes or more of "
            f"{', '.join(map(str, classes))}, got {len(labels)} labels of "
            f"{', '.join(map(str, np.unique(labels)))}"
        )
    return classes, np.searchsorted(classes, labels)


def _held(codes, share, seed):
    """Return the mask of objects held out: this share of every class, rounded down."""
    held, rng = np.zeros(len(codes), bool), np.random.default_rng(seed)
    for code in np.unique(codes):
        rows = rng.permutation(np.flatnonzero(codes == code))
        held[rows[: int(share * len(rows))]] = True
    return held


def _head(activations, codes, start, pull):
    """Return the softmax layer, kernel over bias, most probable under a normal prior at ``start``.

    Minimises sum -log p + pull / 2 |W - start|**2 for activations scaled to mean square 1 per sum.
    """
    scale = math.sqrt(np.square(activations).sum(axis=1).mean()) or 1.0
    x = np.hstack([activations / scale, np.ones((len(activations), 1))])
    units = np.append(np.full(len(start) - 1, scale), 1.0)[:, None]
    truth = np.eye(start.shape[1])[codes]

    def cost(flat):
        shift = flat.reshape(start.shape)
        log_p = log_softmax(x @ (start * units + shift), axis=1)
        gradient = x.T @ (np.exp(log_p) - truth) + pull * shift
        return -(truth * log_p).sum() + pull / 2 * (flat @ flat), gradient.ravel()

    shift = minimize(cost, np.zeros(start.size), jac=True, method="L-BFGS-B").x
    return start + shift.reshape(start.shape) / units
