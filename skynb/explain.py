"""Why a network or a forest says what it says, and which observations made it say so.

Maps over dm-dt images come from tf-keras-vis and from methods that it lacks; all are named in
`METHODS` and called by `attribute`. `shares` leads from a map back to the observations.
`skynb.faithfulness` says which maps to believe, `skynb.counterfactuals` what would change the
answer.

References
----------
Simonyan et al. 2014, arXiv:1312.6034 (saliency, activation maximisation); Zeiler & Fergus 2014,
arXiv:1311.2901 (deconvolutional network, occlusion); Smilkov et al. 2017, arXiv:1706.03825
(SmoothGrad); Selvaraju et al. 2017, arXiv:1610.02391 (Grad-CAM); Sundararajan et al. 2017,
arXiv:1703.01365 (integrated gradients); Lundberg et al. 2020, arXiv:1905.04610 (SHAP of trees).
"""

import copy
import dataclasses
import functools
import importlib
import inspect
import warnings
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.ensemble import BaseEnsemble
from sklearn.utils.validation import check_is_fitted, validate_data
from tqdm.auto import tqdm

from skynb import classify, dmdt, lightcurves, networks, realbogus

RECOMMENDED = "integrated"
"""The method for which deletion, insertion and shuffled weights speak: see `METHODS`."""

DRAWN = ("smoothgrad", "random")
"""Methods that depend on the seed."""

BATCH = 128  # images that a network is fed at a time


@dataclass(frozen=True)
class Shares:
    """What the observations did for a class.

    Attributes
    ----------
    values : ndarray, shape (n_obs,)
        Share of each observation; of a table, one object after the other.
    rest : float, or ndarray of shape (n_objects,)
        Attribution of cells that no pair fills. It belongs to no observation; with it the shares
        sum to the attribution.
    """

    values: np.ndarray
    rest: float | np.ndarray


@dataclass(frozen=True)
class TreeShares:
    """SHAP values: what each feature adds to the score of each class.

    Attributes
    ----------
    values : ndarray, shape (n_objects, n_features, n_classes)
        In log-odds for boosting, in probability for forests.
    base : ndarray, shape (n_classes,)
        Score of an object of which nothing is known; with the values it sums to the object's.
    features, classes : list of str
    """

    values: np.ndarray
    base: np.ndarray
    features: list
    classes: list

    def importance(self):
        """Return the mean absolute value of every feature for every class, greatest sum first."""
        mean = pd.DataFrame(np.abs(self.values).mean(axis=0), self.features, self.classes)
        return mean.loc[mean.sum(axis=1).sort_values(ascending=False, kind="stable").index]

    def of(self, row, label):
        """Return the values of one object for one class, a Series, greatest absolute first."""
        column = codes(label, np.asarray(self.classes), len(self.classes))
        each = pd.Series(self.values[row, :, column], self.features)
        return each.sort_values(key=np.abs, ascending=False, kind="stable")


def adapt(model, *, layer=None, relu=None):
    """Return a functional copy of a Keras model that tf-keras-vis takes as it is.

    It ends before the activations of its outputs (in logits, not probabilities), or in ``layer``.
    Inputs and outputs are lists, which is how tf-keras-vis feeds it; Keras would warn otherwise.
    The model may be a Sequential one and have several inputs and outputs; it is left as it is. The
    layers of a model within the model become its own; of two with one name, the second's gets a
    ``_``.

    Parameters
    ----------
    layer : str or int, optional
        Name, or position in ``model.layers``.
    relu : callable, optional
        In place of every ReLU.

    Raises
    ------
    ValueError
        A model, or one within it, that is neither functional nor Sequential, a layer that is not
        there.
    """
    keras = networks.load_keras()
    if not (isinstance(model, keras.Model) and getattr(model, "inputs", None)):
        raise ValueError(
            f"expected a functional or Sequential keras.Model, its input's shape known, got "
            f"{model!r:.80}"
        )
    flat = _flat(model, relu)
    if layer is not None:
        return keras.Model(flat.inputs, [_layer(flat, _named(model, layer)).output])
    outputs = []
    for output in flat.outputs:
        last = output._keras_history.operation
        if type(last).__name__ == "Softmax":  # of keras.layers or keras.ops
            output = last.input
        outputs.append(_linear(output))
    return keras.Model(flat.inputs, outputs)


def _flat(model, relu):
    """Return a copy of a model in which the layers of models within it are its own."""
    keras = networks.load_keras()
    names = [x._keras_history.operation.name for x in model.inputs]
    inputs = [
        keras.Input(batch_shape=x.shape, dtype=x.dtype, name=name)
        for x, name in zip(model.inputs, names, strict=True)
    ]
    made, names = {}, set(names)

    def run(inner, tensors, **_):
        graph = getattr(inner, "_functional", None) or inner
        if not hasattr(graph, "_run_through_graph"):
            raise ValueError(f"{inner.name} is a model of its own class; build it of layers")
        return graph._run_through_graph(tensors, operation_fn=copied)

    def copied(old):
        if isinstance(old, keras.Model):
            return functools.partial(run, old)
        if id(old) not in made:
            made[id(old)] = old, again(old)
        return made[id(old)][1]

    def again(old):
        name = old.name
        while name in names:
            name += "_"
        names.add(name)
        if relu and type(old).__name__ in ("ReLU", "Relu"):
            return keras.layers.Activation(relu, name=name)
        if not isinstance(old, keras.Layer):  # of keras.ops
            new = copy.copy(old)
            new.name, new._inbound_nodes, new._outbound_nodes = name, [], []
            return new
        new = type(old).from_config(old.get_config() | {"name": name})
        if relu and getattr(old, "activation", None) is keras.activations.relu:
            new.activation = relu
        return new

    flat = keras.Model(inputs, keras.tree.flatten(run(model, inputs)))
    for old, new in made.values():
        if isinstance(old, keras.Layer):
            new.set_weights(old.get_weights())
    return flat


def _linear(output):
    """Return what a layer puts out, its activation taken away."""
    last = output._keras_history.operation
    if hasattr(last, "activation"):
        last.activation = networks.load_keras().activations.linear
    return output


def attribute(
    model, images, target=None, *, method=RECOMMENDED, against=None, seed=0, **options
):  # fmt: skip
    """Return what each cell of the images did for a class, shape (n_objects, n_dm, n_dt).

    What is explained is the class's logit, or the difference of two: "why this class", or "why
    this one and not that one".

    Parameters
    ----------
    model : LightCurveClassifier, DmDtCNN, RealBogus or keras.Model
        Of several networks, the mean of their maps.
    images : array, shape (n_objects, n_dm, n_dt)
        A classifier takes light curves or `skynb.classify.Measured`, a RealBogus triplets; a Keras
        model what it is fed, with channels last: of one with several inputs a list, and a list of
        maps is returned.
    target, against : optional
        A class, or one for each object, by name or by place in the output. ``target`` is the
        likeliest by default. Of several outputs a list, with None for one that does not matter.
    method : str or callable
        One of `METHODS`, or a function with the arguments ``model, images, target, seed``.
    seed : int
        Of ``smoothgrad`` and ``random``; the others draw nothing.
    options :
        Of the method. ``baseline`` of ``integrated`` and ``blanking``: the image to compare with,
        as ``images`` are, instead of an empty one. ``n_steps`` of ``integrated``; ``n_samples``
        and ``noise``, in units of the image's range, of ``smoothgrad``; ``layer``, a name or a
        position, of maps of class activation: the last convolution by default.

    Raises
    ------
    ValueError
        An unknown method or option, a class or a layer that is not there, images of another shape
        or recipe or not finite, a model without convolution where one is needed, or with an input
        that is no image.
    """
    if callable(method):
        return np.asarray(method(model, images, target, seed=seed), dtype=float)
    if method not in METHODS:
        raise ValueError(f"no method is called {method!r}; choose one of {', '.join(METHODS)}")
    _check(method, options)
    model, images = unwrap(model, images)
    nets, x = feed(model, images)
    if len(x[0]) == 0:
        maps = [np.zeros(each.shape[:-1]) for each in x]
        return maps if len(maps) > 1 else maps[0]
    if options.get("baseline") is not None:
        shape = np.shape(options["baseline"])
        if isinstance(model, networks.DmDtCNN) and len(shape) != 2:
            raise ValueError(f"a baseline of shape {shape}; give one image, (n_dm, n_dt)")
        options["baseline"] = feed(model, _batch_of_one(options["baseline"]))[1]
    if target is None:
        target = [each.argmax(axis=-1) for each in probabilities(nets, x)]
        target = target if len(target) > 1 else target[0]
    classes, outputs = getattr(model, "classes_", None), nets[0].outputs
    weights = _weights(target, outputs, classes, len(x[0]))
    if against is not None:
        other = _weights(against, outputs, classes, len(x[0]))
        weights = [a - b for a, b in zip(weights, other, strict=True)]
    function = METHODS[method]
    every = [function(net, x, weights, np.random.default_rng(seed), **options) for net in nets]
    maps = [np.mean(each, axis=0, dtype=float) for each in zip(*every, strict=True)]
    return maps if len(maps) > 1 else maps[0]


def _check(method, options):
    """Refuse options that the method lacks, and counts below 1."""
    function = METHODS[method]
    known = inspect.signature(function).parameters.values()
    known = [each.name for each in known if each.kind == each.KEYWORD_ONLY]
    known = [name for name in known if name not in getattr(function, "keywords", ())]
    for name, value in options.items():
        if name not in known:
            there = f"there are {', '.join(known)}" if known else "it has none"
            raise ValueError(f"no option of {method} is called {name!r}; {there}")
        if name in ("n_steps", "n_samples", "size") and value < 1:
            raise ValueError(f"{name} is {value}; give 1 or more")
        if name == "noise" and not value >= 0:
            raise ValueError(f"noise is {value}; give 0 or more")


def maximize(
    model, target, *, layer=None, n_steps=200, variation=0.1, norm=0.5, rate=0.03, seed=0
):  # fmt: skip
    """Return an image that excites a class, or a filter of a layer, most: (n_dm, n_dt), 0 to 1.

    In units of what the network is fed, sqrt p(dm|dt); its columns need not sum to what those of
    an image do. A filter is excited by its mean answer, what is below 0 left out; if it is silent
    everywhere, by its strongest, and stays dark if every cell quiets it. Of several networks the
    first is asked, of a model with several inputs the images are a list.

    Parameters
    ----------
    target : str or int
        Class, or number of the filter.
    layer : str or int, optional
        Name or position; without it a class is meant.
    variation, norm : float
        Weights of the total variation and of the mean square, in units of what the cells do at the
        start: with ``norm`` 0.5 alone, a cell that does as much as the mean is lit fully.
    rate : float
        Of Adam, in units of the image.

    Raises
    ------
    ValueError
        A class, filter or layer that is not there, no step, a target that no cell changes, an image
        that is not finite.
    """
    if n_steps < 1:
        raise ValueError(f"n_steps is {n_steps}; take 1 step or more")
    model, _ = unwrap(model)
    net = adapt(networks_of(model)[0], layer=layer)
    _only_images(net)
    classes = None if layer is not None else getattr(model, "classes_", None)
    weights = _weights(target, net.outputs, classes, 1, what="class" if layer is None else "filter")
    if layer is not None:
        _linear(net.outputs[0])  # a silent filter has a slope, too; its answer is rectified below
    rng, tf = np.random.default_rng(seed), _tensorflow()
    drawn = [rng.uniform(size=(1, *each.shape[1:])).astype(np.float32) for each in net.inputs]
    for top, peak in ((0.1, False), (0.3, False), (1.0, False), (1.0, True)):
        start = [np.float32(top) * each for each in drawn]
        scores = _scores(weights, slice(None), peak=peak, rectified=layer is not None and not peak)
        scale = sum(float(np.abs(each).sum()) for each in _gradient(net, scores, start))
        if scale > 0:
            break
    else:
        raise ValueError(f"no cell changes {target!r}: it is dead; choose another, or train anew")
    penalties = [
        _vis("activation_maximization.regularizers.TotalVariation2D")(variation * scale),
        lambda x: norm * scale * tf.reduce_mean(tf.square(x), axis=(1, 2, 3)),
    ]
    images = _vis("activation_maximization.ActivationMaximization")(net)(
        scores,
        start,
        input_range=(0.0, 1.0),
        input_modifiers=[[lambda x: tf.clip_by_value(x, 0.0, 1.0)] for _ in start],
        regularizers=[penalties for _ in start],
        steps=n_steps,
        optimizer=networks.load_keras().optimizers.Adam(rate),
    )
    images = [np.asarray(each)[0, ..., 0] for each in images]
    if not all(np.isfinite(each).all() for each in images):
        raise ValueError(f"the image of {target!r} is not finite; lower the rate or the penalties")
    return images if len(images) > 1 else images[0]


def project(model, images, *, layer, filter):
    """Return what in each image excites a filter most, by the deconvolutional network.

    The strongest activation of the filter is sent back through unpooling with switches, ReLU and
    transposed convolutions, as in Zeiler & Fergus 2014. Shape (n_objects, n_dm, n_dt).
    """
    nets, x = feed(*unwrap(model, images))
    net = adapt(nets[0], layer=layer, relu=_rectified())
    weights = _weights(filter, net.outputs, None, len(x[0]), what="filter")
    maps = _batches(functools.partial(_gradient, net), x, weights, peak=True)
    maps = [each.sum(axis=-1, dtype=float) for each in maps]
    return maps if len(maps) > 1 else maps[0]


def filters(model, layer=None):
    """Return the kernels of a convolution, the first by default: (n_filters, height, width).

    With several channels (n_filters, height, width, n_channels).
    """
    model = networks_of(unwrap(model)[0])[0]
    net = adapt(model)
    first = _convolutions(net)[0]
    layer = first if layer is None else _layer(net, _named(model, layer))
    if len(getattr(getattr(layer, "kernel", None), "shape", ())) != 4:
        raise ValueError(f"layer {layer.name} has no filters; choose a convolution: {first.name}")
    kernel = np.moveaxis(np.asarray(layer.kernel), -1, 0)
    return kernel[..., 0] if kernel.shape[-1] == 1 else kernel


def trees(model, X, *, progress=False):
    """Return SHAP values of a forest or of boosting, as `TreeShares`.

    Parameters
    ----------
    model : LightCurveClassifier or an estimator of scikit-learn
        Of kind ``forest``, ``extra_trees`` or ``boosted``.
    X : light curves or `skynb.classify.Measured`; for an estimator, the features it was fitted to
        Boosting takes a millisecond an object; a forest of deep trees takes seconds, so ask it
        about a few.

    Raises
    ------
    ValueError
        A learner that is not one set of trees, or knows nothing yet, other features than those it
        was fitted to, no object.
    """
    if not len(X):
        raise ValueError("no object is given; explain one or more")
    if isinstance(model, classify.LightCurveClassifier):
        if not hasattr(model, "learner_"):
            raise ValueError("the classifier is not trained; call fit first")
        learner, classes = model.learner_, model.classes_.tolist()
        estimators = getattr(learner, "estimators", ())
        if len(estimators) != 1:
            raise ValueError(
                f"a classifier of kind {model.kind!r} is not one set of trees; train forest, "
                "extra_trees or boosted"
            )
        data, estimator = model.measure(X), estimators[0]
        features = [n for n, known in zip(data.features, learner.known, strict=True) if known]
        values = learner.matrix(data)
    else:
        estimator, values = model, np.asarray(X, dtype=float)
        if isinstance(model, BaseEstimator):
            validate_data(model, X, reset=False, ensure_all_finite=False)
        classes = [str(name) for name in getattr(model, "classes_", ())]
        features = [str(n) for n in getattr(X, "columns", range(values.shape[1]))]
    import shap

    try:
        explainer = shap.TreeExplainer(estimator)
    except shap.utils._exceptions.InvalidModelError:
        raise ValueError(
            f"{estimator!r:.80} is no set of trees; give forests or boosting"
        ) from None
    size = 1 if isinstance(estimator, BaseEnsemble) else 500
    parts = [
        explainer.shap_values(values[k : k + size], check_additivity=False)
        for k in tqdm(range(0, len(values), size), disable=not progress)
    ]
    said = np.concatenate(parts)
    base = np.atleast_1d(explainer.expected_value)
    if said.ndim == 2:  # boosting of two classes: one score, for the second
        said, base = np.stack([-said, said], axis=-1), np.array([-base[0], base[0]])
    return TreeShares(said, base, features, classes)


def share(mjd, mag, attribution, *, grid=networks.FINE_GRID, n_rounds=3):
    """Return what each observation of a light curve did for a class, as `Shares`.

    The attribution of a cell is shared equally among the pairs that fill it. Of a pair's share,
    each observation at first takes half. Then, ``n_rounds`` times, the two divide it anew, in
    proportion to what each holds, in absolute value, of all its pairs: where one observation
    differs from a hundred others, it is what these hundred pairs have in common.

    Parameters
    ----------
    mjd, mag : array_like, shape (n_obs,)
        Ascending times [day] and magnitudes of one band, as `skynb.dmdt.image` takes them.
    attribution : ndarray, shape (n_dm, n_dt)
        Of their image, by `attribute`.
    grid : Grid
        Of the image; its normalization does not matter.
    n_rounds : int
        0: halves stay halves. Few points that differ from many then hold half at most.

    Raises
    ------
    ValueError
        An attribution that is not of the grid, a grid whose pairs are spread, times that do not
        ascend, rounds below 0.
    """
    mjd, mag, _ = dmdt.as_columns(mjd, mag, None, dataclasses.replace(grid, spread=False))
    shared = _shared(
        np.array([0, len(mjd)]), mjd, mag, np.asarray(attribution)[None], grid, n_rounds
    )
    return Shares(shared.values, float(shared.rest[0]))


def shares(lcs, attributions, *, grid=networks.FINE_GRID, n_rounds=3):
    """Return `share` of all objects, their observations one after the other, as `Shares`.

    ``lcs["lightcurve.share"] = shares(lcs, attributions).values`` keeps them with the light curves.
    """
    if not len(lcs):
        return Shares(np.zeros(0), np.zeros(0))
    lightcurves.one_band(lcs)
    columns = lightcurves.arrays(lcs)
    offsets = np.asarray(columns.offsets, dtype=np.int64)
    return _shared(offsets, columns.mjd, columns.mag, np.asarray(attributions), grid, n_rounds)


def _shared(offsets, mjd, mag, maps, grid, n_rounds):
    wanted = (len(offsets) - 1, *grid.shape)
    if maps.shape != wanted:
        raise ValueError(
            f"attributions of shape {maps.shape}, expected {wanted} for {grid}; explain the images "
            "of these light curves on this grid"
        )
    if not np.isfinite(maps).all():
        raise ValueError("the attribution is not finite; explain the images again")
    if n_rounds < 0:
        raise ValueError(f"n_rounds is {n_rounds}; give 0 or more")
    if grid.spread:
        raise ValueError("a spread pair fills several cells; use a grid with spread=False")
    values, rest = np.zeros(len(mjd)), np.zeros(len(maps))
    edges = np.array(grid.dm), np.array(grid.dt)
    _kernel()(offsets, mjd, mag, *edges, np.ascontiguousarray(maps, float), n_rounds, values, rest)
    return Shares(values, rest)


@functools.cache
def _kernel():
    """Return the compiled `_share`."""
    import numba

    row = numba.types.Array(numba.float64, 1, "C", readonly=True)
    offsets = numba.types.Array(numba.int64, 1, "C", readonly=True)
    out, maps = numba.float64[::1], numba.float64[:, :, ::1]
    signature = numba.void(offsets, row, row, row, row, maps, numba.int64, out, out)
    return dmdt.compiled(_share, signature)


def _share(offsets, mjd, mag, dm_edges, dt_edges, maps, n_rounds, values, rest):
    """Add each object's shares to ``values``: a pass to count pairs, then one for each division."""
    n_dm, n_dt = len(dm_edges) - 1, len(dt_edges) - 1
    for q in range(len(offsets) - 1):
        first, n = offsets[q], offsets[q + 1] - offsets[q]
        t, m = mjd[first : first + n], mag[first : first + n]
        each = np.zeros((n_dm, n_dt))
        held = np.ones(n)
        for turn in range(-1, n_rounds + 1):
            now = np.zeros(n)
            for i in range(n):
                d = 0
                for j in range(i + 1, n):
                    dt = t[j] - t[i]
                    while d <= n_dt and dt >= dt_edges[d]:
                        d += 1
                    if d > n_dt:
                        break
                    k = np.searchsorted(dm_edges, m[j] - m[i], side="right")
                    if d == 0 or k == 0 or k > n_dm:
                        continue
                    if turn < 0:
                        each[k - 1, d - 1] += 1
                        continue
                    value, both = each[k - 1, d - 1], held[i] + held[j]
                    mine = value * held[i] / both if both > 0 else value / 2
                    if turn == n_rounds:
                        values[first + i] += mine
                        values[first + j] += value - mine
                    else:
                        now[i] += abs(mine)
                        now[j] += abs(value - mine)
            if turn >= 0:
                held = now
                continue
            for k in range(n_dm):
                for d in range(n_dt):
                    if each[k, d] > 0:
                        each[k, d] = maps[q, k, d] / each[k, d]
                    else:
                        rest[q] += maps[q, k, d]


# What is asked of a network: weights of its outputs, one row per object.


def unwrap(model, images=None):
    """Return the networks in a classifier, and the images of what it measures."""
    if isinstance(model, realbogus.RealBogus):
        check_is_fitted(model, "network_")
        return model.network_, None if images is None else model.inputs(images)
    if not isinstance(model, classify.LightCurveClassifier):
        return model, images
    if not hasattr(model, "learner_"):
        raise ValueError("the classifier is not trained; call fit first")
    learner = getattr(model.learner_, "learner", None)
    if not isinstance(learner, networks.DmDtCNN):
        raise ValueError(f"a classifier of kind {model.kind!r} has no network; see explain.trees")
    if isinstance(images, np.ndarray | list | tuple):
        raise ValueError(
            "a classifier is asked about light curves, not images; give their table, or explain "
            "its networks, classifier.learner_.learner"
        )
    if images is not None and not len(images):
        return learner, np.zeros((0, *dmdt.Grid.from_dict(model.recipe_.grid).shape))
    return learner, None if images is None else model.measure(images).images


def networks_of(model):
    """Return the Keras models of a `DmDtCNN`, or the one that is given."""
    if not isinstance(model, networks.DmDtCNN):
        return [model]
    if not hasattr(model, "networks_"):
        raise ValueError("the networks are not trained; call fit first")
    return model.networks_


def feed(model, images):
    """Return the Keras models to explain, and a list of what their inputs are fed."""
    nets = networks_of(model)
    if isinstance(model, networks.DmDtCNN):
        return nets, [model.stack(images)[:, 0]]
    if not getattr(model, "inputs", None):
        raise ValueError(
            f"expected a DmDtCNN or a keras.Model whose input's shape is known, got {model!r:.80}"
        )
    images = images if isinstance(images, list | tuple) else [images]
    x = [np.asarray(each, np.float32) for each in images]
    wanted = [tuple(each.shape[1:]) for each in model.inputs]
    _only_images(model)
    if [each.shape[1:] for each in x] != wanted:
        got = ", ".join(str(each.shape) for each in x)
        raise ValueError(f"images of shape {got} for inputs {wanted}; objects first, channels last")
    if len({len(each) for each in x}) > 1:
        numbers = " and ".join(str(len(each)) for each in x)
        raise ValueError(f"inputs of {numbers} objects; give the same objects to each")
    if not all(np.isfinite(each).all() for each in x):
        raise ValueError("the images are not finite; make them with dmdt.images")
    return nets, x


def _only_images(net):
    for shape in (tuple(each.shape[1:]) for each in net.inputs):
        if len(shape) != 3:
            raise ValueError(
                f"an input of shape {shape} is no image (n_dm, n_dt, n_channels); build a model in "
                "which its value is fixed, and explain that"
            )


def _batch_of_one(images):
    if isinstance(images, list | tuple):
        return [np.asarray(each)[None] for each in images]
    return np.asarray(images)[None]


def _outputs(net, x):
    """Return the outputs of a network that takes a list, for all objects, a list of arrays."""
    parts = []
    for k in range(0, len(x[0]), BATCH):
        out = _listed(net([each[k : k + BATCH] for each in x], training=False))
        parts.append([np.asarray(each) for each in out])
    return [np.concatenate(each) for each in zip(*parts, strict=True)]


def _listed(out):
    return list(out) if isinstance(out, list | tuple) else [out]


def probabilities(nets, x):
    """Return what the networks say as they are, their mean, a list with an array per output."""
    keras = networks.load_keras()
    every = [_outputs(keras.Model(net.inputs, net.outputs), x) for net in nets]
    return [np.mean(each, axis=0, dtype=float) for each in zip(*every, strict=True)]


def _weights(target, outputs, classes, n_objects, *, what="class"):
    """Return weights of every output, shape (n_objects, n_units), 1 at the target and else 0."""
    targets = target if len(outputs) > 1 else [target]
    if not isinstance(targets, list | tuple) or len(targets) != len(outputs):
        raise ValueError(
            f"{target!r:.80} for {len(outputs)} outputs; give a list, one or None each"
        )
    weights = []
    for each, output in zip(targets, outputs, strict=True):
        size = output.shape[-1]
        units = 0 if each is None else codes(each, classes, size, what=what)
        if np.ndim(units) and np.shape(units) != (n_objects,):
            raise ValueError(f"{np.size(units)} classes for {n_objects} objects; give one for each")
        rows = np.eye(size, dtype=np.float32)[np.broadcast_to(units, n_objects)]
        weights.append(0 * rows if each is None else rows)
    return weights


def codes(target, classes, size, *, what="class"):
    """Return places in the output: those of names, or numbers if they are in range."""
    target = np.asarray(target)
    if target.dtype.kind in "OUS" and classes is not None:
        names = classes.tolist()
        unknown = sorted(set(np.atleast_1d(target).tolist()) - set(names))
        if unknown:
            raise ValueError(f"no class {unknown[0]!r}; there are {', '.join(map(str, names))}")
        return np.searchsorted(classes, target)
    if not target.size:
        raise ValueError(f"no {what} is named; give one, or one for each object")
    if target.dtype.kind not in "iu" or target.min() < 0 or target.max() >= size:
        wrong = target if target.dtype.kind not in "iu" else target[(target < 0) | (target >= size)]
        raise ValueError(f"no {what} {wrong.ravel()[0]!s}; the output has {size}, from 0 on")
    return target


def _scores(weights, part, *, peak=False, rectified=False):
    """Return what is asked of every output, as functions of the output of these objects."""
    tf = _tensorflow()

    def score(output, weight):
        between = tuple(range(1, output.ndim - 1))
        if between and rectified:
            output = tf.nn.relu(output)
        shape = (len(weight), *[1] * len(between), weight.shape[1])
        value = tf.reduce_sum(output * tf.reshape(tf.constant(weight), shape), axis=-1)
        return (
            (tf.reduce_max if peak else tf.reduce_mean)(value, axis=between) if between else value
        )

    return [functools.partial(score, weight=each[part]) for each in weights]


def _batches(function, x, weights, *, size=BATCH, peak=False):
    """Return the maps of every input from ``function(scores, x)``, some objects at a time."""
    parts = []
    for k in range(0, len(x[0]), size):
        part = slice(k, k + size)
        maps = function(_scores(weights, part, peak=peak), [each[part] for each in x])
        parts.append([np.asarray(each) for each in maps])
    return [np.concatenate(each) for each in zip(*parts, strict=True)]


def _layer(net, layer):
    """Return a layer by name or position."""
    names = [each.name for each in net.layers]
    if isinstance(layer, str) and layer in names:
        return net.layers[names.index(layer)]
    if isinstance(layer, int | np.integer) and -len(names) <= layer < len(names):
        return net.layers[layer]
    raise ValueError(f"no layer {layer!r}; there are {', '.join(names)}")


def _named(model, layer):
    """Return the name of the layer at a position of the model as it was given."""
    return _layer(model, layer).name if isinstance(layer, int | np.integer) else layer


def _convolutions(net):
    found = [layer for layer in net.layers if hasattr(layer, "kernel_size")]
    if not found:
        raise ValueError("the model has no convolution; use a method without: saliency, integrated")
    return found


def _tensorflow():
    networks.load_keras()
    return importlib.import_module("tensorflow")


def _vis(name):
    """Return a class of tf-keras-vis; it imports from deprecated places, which is not shown."""
    _tensorflow()
    module, name = name.rsplit(".", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return getattr(importlib.import_module(f"tf_keras_vis.{module}"), name)


# Methods: a Keras model, a list of what it is fed, the weights of its outputs, a generator.


def _random(model, x, weights, rng):
    return [rng.uniform(size=each.shape[:-1]) for each in x]


def _saliency(model, x, weights, rng):
    view = _vis("saliency.Saliency")(adapt(model))
    return _batches(functools.partial(view, normalize_map=False), x, weights)


def _smoothgrad(model, x, weights, rng, *, n_samples=20, noise=0.2):
    view = _vis("saliency.Saliency")(adapt(model))
    options = {"smooth_samples": n_samples, "smooth_noise": noise, "normalize_map": False}
    with _drawn(rng):
        return _batches(functools.partial(view, **options), x, weights)


@contextmanager
def _drawn(rng):
    """Seed NumPy's global generator, which tf-keras-vis draws from, and put it back."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(rng.integers(2**32))  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def _cam(name, model, x, weights, rng, *, layer=None):
    net = adapt(model)
    convolution = _convolutions(net)[-1]
    chosen = convolution if layer is None else _layer(net, _named(model, layer))
    if chosen.output.ndim < 4:
        raise ValueError(f"layer {chosen.name} has no map; choose {convolution.name} or one before")
    net.predict = lambda x, batch_size: (lambda y: y if len(y) > 1 else y[0])(_outputs(net, x))
    options = {"penultimate_layer": chosen, "seek_penultimate_conv_layer": False}
    view = functools.partial(_vis(name)(net), normalize_cam=False, **options)
    return _batches(view, x, weights, size=16 if "scorecam" in name else BATCH)


def _gradient(net, score, x):
    """Return the gradient of the scores with respect to every input."""
    tf = _tensorflow()
    x = [tf.convert_to_tensor(each) for each in x]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        outputs = _listed(net(x, training=False))
        values = [each(output) for each, output in zip(score, outputs, strict=True)]
    return [np.asarray(each) for each in tape.gradient(values, x, unconnected_gradients="zero")]


def _rectified():
    """Return a ReLU that lets back what is positive, wherever it was silent itself."""
    tf = _tensorflow()
    return tf.custom_gradient(lambda x: (tf.nn.relu(x), tf.nn.relu))


def _deconvnet(model, x, weights, rng):
    net = adapt(model, relu=_rectified())
    return [each.sum(axis=-1) for each in _batches(functools.partial(_gradient, net), x, weights)]


def _gradient_input(model, x, weights, rng):
    maps = _batches(functools.partial(_gradient, adapt(model)), x, weights)
    return [(each * seen).sum(axis=-1) for each, seen in zip(maps, x, strict=True)]


def _integrated(model, x, weights, rng, *, n_steps=16, baseline=None):
    net, n = adapt(model), len(x[0])
    start = baseline or [np.zeros_like(each[:1]) for each in x]
    steps = ((np.arange(n_steps, dtype=np.float32) + 0.5) / n_steps).reshape(1, -1, 1, 1, 1)
    size, maps = max(1, BATCH // n_steps), [np.zeros(each.shape[:-1]) for each in x]
    for k in range(0, n, size):
        part = slice(k, k + size)
        rows = [np.repeat(each[part], n_steps, axis=0) for each in weights]
        away = [each[part] - empty for each, empty in zip(x, start, strict=True)]
        between = [a + steps * b[:, None] for a, b in zip(start, away, strict=True)]
        between = [each.reshape(-1, *each.shape[2:]) for each in between]
        slopes = _gradient(net, _scores(rows, slice(None)), between)
        for each, slope, b in zip(maps, slopes, away, strict=True):
            mean = slope.reshape(len(b), n_steps, *slope.shape[1:]).mean(axis=1)
            each[part] = (mean * b).sum(axis=-1)
    return maps


def _probed(model, x, weights, rng, *, lit, size=1, baseline=None):
    """Return by how much the score falls with a cell blanked, or rises with it alone lit."""
    net = adapt(model)
    start = baseline or [np.zeros_like(each[:1]) for each in x]
    maps, reach = [np.zeros(each.shape[:-1]) for each in x], size // 2
    for q in range(len(x[0])):
        for k, (each, empty) in enumerate(zip(x, start, strict=True)):
            seen, empty = each[q], empty[0]
            cells = np.argwhere((seen != empty).any(axis=-1))
            before, after = (empty, seen) if lit else (seen, empty)
            stack = np.repeat(before[None], len(cells) + 1, axis=0)
            for n, cell in enumerate(cells, 1):
                window = tuple(slice(max(0, i - reach), i + reach + 1) for i in cell)
                stack[n][window] = after[window]
            fed = [np.repeat(other[q : q + 1], len(stack), axis=0) for other in x]
            fed[k] = stack
            outputs = _outputs(net, fed)
            said = sum((out * w[q]).sum(axis=-1) for out, w in zip(outputs, weights, strict=True))
            maps[k][q][tuple(cells.T)] = (said[1:] - said[0]) * (1 if lit else -1)
    return maps


METHODS = {
    "integrated": _integrated,
    "gradient_input": _gradient_input,
    "blanking": functools.partial(_probed, lit=False),
    "lighting": functools.partial(_probed, lit=True),
    "saliency": _saliency,
    "smoothgrad": _smoothgrad,
    "deconvnet": _deconvnet,
    "gradcam": functools.partial(_cam, "gradcam.Gradcam"),
    "gradcam++": functools.partial(_cam, "gradcam_plus_plus.GradcamPlusPlus"),
    "layercam": functools.partial(_cam, "layercam.Layercam"),
    "scorecam": functools.partial(_cam, "scorecam.Scorecam"),
    "random": _random,
}
"""Name -> method of `attribute`. `skynb.faithfulness` says which fail, and how."""
