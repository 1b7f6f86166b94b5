"""Are the explanations true? Tests that a map over dm-dt images must pass to be believed.

`table` puts any method of `skynb.explain.attribute` through all of them. On 100 held-out Catalina
light curves and one deep network (``python -m benchmarks explain``), by area under the curves:

- ``integrated``, ``gradient_input`` and ``blanking`` pass all: deletion better than chance by 0.28
  to 0.29 and insertion by 0.38 to 0.41; with shuffled weights the rank correlation is 0.01 or less.
  That of absolute values is 0.2 to 0.3: how much a cell can do depends on how full it is,
  whatever the weights; whether it speaks for or against does not. Read the signs.
- ``smoothgrad`` is better than chance by less (0.11 and 0.25). Whether it forgets shuffled weights
  depends on the network: 0.15 to 0.47 were seen, and 0.2 is good. Its noise decides a part, too:
  between seeds the rank correlation is 0.78.
- ``deconvnet`` (0.46) and ``layercam`` (0.31) fail with shuffled weights: they show the image more
  than the network. ``random`` does not look at the network, and fails by construction.
- Networks that differ by their seed alone give maps of the same objects whose rank correlation is
  0.5 to 0.6 (``integrated``, ``gradient_input``): explain an ensemble.
- ``saliency`` and ``lighting`` forget shuffled weights but deletion gains less than 0.1.
- ``gradcam``, ``gradcam++`` and ``scorecam`` fail deletion, where they are worse than chance: the
  last convolution sees 8x7 places, and a dm-dt image changes from one cell to the next.

References
----------
Adebayo et al. 2018, arXiv:1810.03292 (weights at random); Samek et al. 2017, arXiv:1509.06321 and
Petsiuk et al. 2018, arXiv:1806.07421 (deletion and insertion).
"""

import time
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from tqdm.auto import tqdm

from skynb import explain, networks


@dataclass(frozen=True)
class Curves:
    """How the probability of the class explained changes while cells are taken away, or put back.

    Attributes
    ----------
    fraction : ndarray, shape (n_steps + 1,)
        Of the filled cells.
    deletion, insertion : ndarray, shape (n_objects, n_steps + 1)
        Probability with this fraction emptied, the highest attribution first; and with nothing but
        this fraction.
    """

    fraction: np.ndarray
    deletion: np.ndarray
    insertion: np.ndarray

    def area(self):
        """Return the areas under both curves, averaged over objects: low and high are good."""
        mean = {name: getattr(self, name).mean(axis=0) for name in ("deletion", "insertion")}
        return {name: float(np.trapezoid(each, self.fraction)) for name, each in mean.items()}


def curves(model, images, attributions, target=None, *, n_steps=20):
    """Return the `Curves` of deletion and insertion.

    Only cells with pairs are ordered, so that chance is not helped by cells where nothing changes;
    equal attributions keep the order of the cells. An emptied cell is 0 in what the network is
    fed, whose columns are not divided by their sums anew.

    Parameters
    ----------
    model, images, target :
        As of `skynb.explain.attribute`; of a model with one input and one output.
    attributions : ndarray, shape (n_objects, n_dm, n_dt)
    """
    nets, x, codes = _asked(model, images, target)
    attributions = np.asarray(attributions, dtype=float)
    if attributions.shape != x.shape[:3]:
        raise ValueError(
            f"attributions {attributions.shape} of images {x.shape[:3]}; give one each"
        )
    if not np.isfinite(attributions).all():
        raise ValueError("the attribution is not finite; explain the images again")
    fraction = np.linspace(0, 1, n_steps + 1)
    out = np.empty((2, len(x), n_steps + 1))
    for q, (seen, code) in enumerate(zip(x, codes, strict=True)):
        filled = seen.any(axis=-1)
        value = np.where(filled, -attributions[q], np.inf).ravel()
        place = np.argsort(np.argsort(value, kind="stable"), kind="stable").reshape(filled.shape)
        first = place < np.round(fraction * filled.sum())[:, None, None]
        stack = np.concatenate([np.where(first[..., None], 0, seen), first[..., None] * seen])
        said = explain.probabilities(nets, [stack.astype(np.float32)])[0][:, code]
        out[:, q] = said.reshape(2, -1)
    return Curves(fraction, *out)


def shuffled(model, *, n_layers=None, seed=0):
    """Return a copy of a model, the weights of its last ``n_layers`` shuffled; None: of all.

    Each array keeps its values, in another order, so that activations keep their size.
    """
    rng = np.random.default_rng(seed)
    keras = networks.load_keras()
    copies = []
    for net in explain.networks_of(explain.unwrap(model)[0]):
        copy = keras.models.clone_model(net)
        copy.set_weights(net.get_weights())
        weighted = [layer for layer in copy.layers if layer.weights]
        for layer in weighted[-n_layers if n_layers else 0 :]:
            arrays = [np.asarray(each) for each in layer.get_weights()]
            layer.set_weights([rng.permuted(a.ravel()).reshape(a.shape) for a in arrays])
        copies.append(copy)
    return _with_networks(model, copies)


def randomization(model, images, method=explain.RECOMMENDED, target=None, *, seed=0, **options):
    """Return how maps forget the weights, shuffled from the last layer to the first, a DataFrame.

    One row for each number of layers, ``n_layers``: ``layer``, the last one shuffled;
    ``spearman``, the mean rank correlation with the maps of the trained network, over filled
    cells; ``magnitudes``, that of absolute values.
    """
    nets, x, codes = _asked(model, images, target)
    model, images = explain.unwrap(model, images)
    options = {"method": method, "seed": seed} | options
    trained, rows = explain.attribute(model, images, codes, **options), []
    names = [layer.name for layer in nets[0].layers if layer.weights][::-1]
    for n, name in enumerate(names, 1):
        maps = explain.attribute(shuffled(model, n_layers=n, seed=seed), images, codes, **options)
        spearman, magnitudes = (_alike(f(trained), f(maps), x) for f in (np.asarray, np.abs))
        rows.append({"layer": name, "spearman": spearman, "magnitudes": magnitudes})
    return pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1, name="n_layers"))


def table(
    model, images, methods=tuple(explain.METHODS), target=None, *, n_steps=20, n_seeds=3,
    options=None, seed=0, progress=False,
):  # fmt: skip
    """Return how true the maps of each method are, a DataFrame with one row for each.

    Columns: ``deletion``, ``insertion``, areas under the curves; ``deletion_gain``,
    ``insertion_gain``, by how much they are better than those of cells in random order;
    ``shuffled``, rank correlation with the maps of a network whose weights are all shuffled, and
    ``magnitudes``, that of absolute values; ``seeds``, rank correlation of the maps of different
    seeds of the method; ``networks``, that of the single networks of an ensemble, else NaN;
    ``seconds``, for an object.

    Parameters
    ----------
    methods : sequence of str or callable, or dict of name -> either
        As ``method`` of `skynb.explain.attribute`.
    options : dict of name -> dict, optional
        Further arguments of some methods.
    """
    if not isinstance(methods, dict):
        methods = {getattr(each, "__name__", str(each)): each for each in methods}
    if unknown := set(options or {}) - set(methods):
        raise ValueError(f"options of {min(unknown)!r}, which is none of {', '.join(methods)}")
    nets, x, codes = _asked(model, images, target)
    model, images = explain.unwrap(model, images)
    other = shuffled(model, seed=seed)
    alone = [_with_networks(model, [net]) for net in nets] if len(nets) > 1 else []
    chance = explain.attribute(model, images, codes, method="random", seed=seed + 1000)
    others = range(seed + 1, seed + n_seeds)
    chance, rows = curves(model, images, chance, codes, n_steps=n_steps).area(), {}
    for name, method in tqdm(methods.items(), disable=not progress):
        given = {"method": method} | (options or {}).get(name, {})

        def maps(model, seed=seed, given=given):
            return explain.attribute(model, images, codes, seed=seed, **given)

        start = time.perf_counter()
        own = maps(model)
        seconds = (time.perf_counter() - start) / len(x)
        area = curves(model, images, own, codes, n_steps=n_steps).area()
        random = maps(other)
        drawn = callable(method) or method in explain.DRAWN
        alike = [_alike(own, maps(model, k), x) for k in others if drawn]
        rows[name] = area | {
            "deletion_gain": chance["deletion"] - area["deletion"],
            "insertion_gain": area["insertion"] - chance["insertion"],
            "shuffled": _alike(own, random, x),
            "magnitudes": _alike(np.abs(own), np.abs(random), x),
            "seeds": np.mean(alike or [np.nan]) if drawn else 1.0,
            "networks": _mutual([maps(each) for each in alone], x),
            "seconds": seconds,
        }
    return pd.DataFrame(rows).T.rename_axis("method")


def _asked(model, images, target):
    """Return the networks, what they are fed, and the place of the class explained."""
    model, images = explain.unwrap(model, images)
    nets, x = explain.feed(model, images)
    if len(x) > 1 or len(nets[0].outputs) > 1:
        raise ValueError("the model has several inputs or outputs; give one with one of each")
    if not len(x[0]):
        raise ValueError("no object is given; judge one or more")
    said = explain.probabilities(nets, x)[0]
    if target is None:
        return nets, x[0], said.argmax(axis=1)
    codes = explain.codes(target, getattr(model, "classes_", None), said.shape[1])
    if np.ndim(codes) and len(codes) != len(said):
        raise ValueError(f"{len(codes)} classes for {len(said)} objects; give one for each")
    return nets, x[0], np.broadcast_to(codes, len(said))


def _with_networks(model, nets):
    """Return a learner like ``model`` of these networks, or the network itself."""
    model = explain.unwrap(model)[0]
    if not isinstance(model, networks.DmDtCNN):
        return nets[0]
    copy = networks.DmDtCNN(**model.get_params() | {"n_networks": len(nets)})
    copy.classes_, copy.networks_, copy.losses_ = model.classes_, list(nets), []
    return copy


def _alike(a, b, x):
    """Return the mean rank correlation of two sets of maps over filled cells; constant maps: 0."""
    every = []
    for one, other, seen in zip(a, b, x, strict=True):
        filled = seen.any(axis=-1)
        ranks = [rankdata(each[filled]) for each in (one, other)]
        ranks = [each - each.mean() for each in ranks]
        size = np.sqrt((ranks[0] @ ranks[0]) * (ranks[1] @ ranks[1]))
        every.append(ranks[0] @ ranks[1] / size if size > 0 else 0.0)
    return float(np.mean(every))


def _mutual(maps, x):
    pairs = list(combinations(maps, 2))
    return float(np.mean([_alike(a, b, x) for a, b in pairs])) if pairs else np.nan
