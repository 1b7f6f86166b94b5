"""Maps on which similar objects lie side by side, how far to trust them, and labels that spread.

Features are made Gaussian one by one, as they are in the objects given, and a missing one is put at
its median (`skynb.features.Gaussian`); with ``scale=False``, for the activations of a network, they
are taken as they are, and a missing one is 0.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.sparse.csgraph import laplacian
from sklearn.decomposition import TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.manifold import trustworthiness as _trustworthiness
from sklearn.neighbors import NearestNeighbors, kneighbors_graph
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.semi_supervised import SelfTrainingClassifier

from skynb.features import Gaussian

N_EXACT = 20_000
"""Objects up to which neighbours are exact, so that a map depends on its seed alone."""


@dataclass(frozen=True)
class Embedding:
    """Coordinates ``embedding``, shape (n_objects, n_dims), and the way to those of new objects."""

    embedding: np.ndarray
    _place: Callable = field(repr=False)

    def transform(self, X):
        """Return the coordinates of new objects, shape (n_objects, n_dims)."""
        return np.asarray(self._place(X))


def tsne(X, *, perplexity=30, n_dims=2, initialization="pca", scale=True, seed=0, n_jobs=-1):
    """Return a t-SNE map, an `Embedding` (openTSNE: Poličar et al. 2024, J. Stat. Software 109, 3).

    Distances between groups, and sizes of groups, mean little.

    Parameters
    ----------
    X : DataFrame or ndarray, shape (n_objects, ...)
    perplexity : float
        About how many neighbours count; at most a third of the objects.
    initialization : str
        ``pca``, which keeps the large-scale order, or ``random``.
    """
    from openTSNE import TSNE

    prepare = _preparation(X, scale, seed)
    Z = prepare(X)
    model = TSNE(
        n_dims,
        perplexity=min(perplexity, (len(Z) - 1) / 3),
        initialization=initialization,
        neighbors="exact" if len(Z) <= N_EXACT else "auto",
        random_state=seed,
        n_jobs=n_jobs,
    ).fit(Z)
    nearby = min(5, (len(Z) - 1) / 3)
    return Embedding(np.array(model), lambda new: model.transform(prepare(new), perplexity=nearby))


def umap(X, *, n_neighbors=15, min_dist=0.1, n_dims=2, scale=True, seed=0):
    """Return a UMAP map, an `Embedding` (McInnes et al. 2018, arXiv:1802.03426).

    In a fresh kernel it first compiles for half a minute.
    """
    from umap import UMAP

    prepare = _preparation(X, scale, seed)
    Z = prepare(X)
    model = UMAP(
        n_neighbors=min(n_neighbors, len(Z) - 1),
        min_dist=min_dist,
        n_components=n_dims,
        random_state=seed,
        n_jobs=1,
    ).fit(Z)
    return Embedding(model.embedding_, lambda new: model.transform(prepare(new)))


def from_model(model, X, *, n_dims=32, seed=0):
    """Return what a trained model makes of its inputs before it decides, an `Embedding`.

    Objects that the model was trained on lie tidier than new ones would.

    Parameters
    ----------
    model : keras.Model or forest of scikit-learn
        Of a network, the activations of the last layer but one, flattened; of a forest, which
        leaves objects share, in ``n_dims`` dimensions (truncated SVD).
    X : as the model takes it
        A network on dm-dt images takes `skynb.networks.inputs`.
    """
    if hasattr(model, "layers"):
        import keras

        inner = keras.Model(model.inputs, model.layers[-2].output)

        def place(new):
            return inner.predict(np.asarray(new), verbose=0).reshape(len(new), -1)

    elif hasattr(model, "apply"):
        svd = TruncatedSVD(n_dims, random_state=seed)
        leaves = make_pipeline(OneHotEncoder(handle_unknown="ignore"), svd).fit(model.apply(X))

        def place(new):
            return leaves.transform(model.apply(new))

    else:
        raise ValueError(f"a {type(model).__name__} has no layers and no leaves to embed with")
    return Embedding(place(X), place)


def trustworthiness(X, embedding, *, n_neighbors=15, n_objects=3000, scale=True, seed=0):
    """Return how far neighbours on a map are neighbours in truth: 1 all, 0.5 by chance.

    Of at most ``n_objects``, drawn at random, for it needs the square of that in memory. Venna &
    Kaski 2001, ICANN.
    """
    Z = _preparation(X, scale, seed)(X)
    rows = np.random.default_rng(seed).permutation(len(Z))[:n_objects]
    return float(_trustworthiness(Z[rows], np.asarray(embedding)[rows], n_neighbors=n_neighbors))


def purity(embedding, labels, *, n_neighbors=15):
    """Return the mean share of an object's neighbours that are of its class, by class."""
    labels = np.asarray(labels).astype(str)
    same = labels[_neighbours(embedding, n_neighbors)] == labels[:, None]
    return pd.Series(same.mean(axis=1)).groupby(labels).mean().rename_axis("class")


def stability(embeddings, *, n_neighbors=15):
    """Return the mean share of neighbours that two maps of the same objects have in common.

    Parameters
    ----------
    embeddings : sequence of ndarray, shape (n_objects, n_dims)
        Of different seeds, or of different methods.
    """
    if len(embeddings) < 2:
        raise ValueError(f"expected two maps or more to compare, got {len(embeddings)}")
    maps = [_neighbours(each, n_neighbors) for each in embeddings]
    common = [
        np.mean([len(np.intersect1d(*rows)) for rows in zip(a, b, strict=True)]) / n_neighbors
        for a, b in combinations(maps, 2)
    ]
    return float(np.mean(common))


def propagate(X, labels, *, n_neighbors=10, alpha=0.7, scale=True, seed=0):
    """Return the probability of each class, spread from few labelled objects to all.

    A linear discriminant trains itself on what it is sure of (Yarowsky 1995, ACL); what it says
    spreads over the graph of nearest neighbours (Zhou et al. 2004, NIPS 16). Given labels stay.

    Parameters
    ----------
    X : DataFrame or ndarray, shape (n_objects, ...)
    labels : sequence, shape (n_objects,)
        None, NaN or "" where there is none.
    alpha : float
        Weight of the neighbours, in [0, 1).

    Returns
    -------
    DataFrame, shape (n_objects, n_classes)
    """
    labels = np.asarray(labels, dtype=object)
    given = ~pd.isna(labels) & (labels != "")
    if len(X) != len(labels):
        raise ValueError(f"expected one label or none per object, got {len(labels)} for {len(X)}")
    classes, known = np.unique(labels[given].astype(str), return_inverse=True)
    if not 1 < len(classes) < len(known):
        raise ValueError(
            f"found {len(known)} labels of {len(classes)} classes; "
            "add labels until there are two classes or more, and more labels than classes"
        )
    y = np.full(len(X), -1)
    y[given] = known
    Z = _preparation(X, scale, seed)(X)
    learner = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    if not given.all():
        learner = SelfTrainingClassifier(learner, threshold=0.9)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Only one sample available")
        start = learner.fit(Z, y).predict_proba(Z)
    start[given] = np.eye(len(classes))[known]
    graph = kneighbors_graph(Z, min(n_neighbors, len(Z) - 1))
    apart = laplacian(graph.maximum(graph.T), normed=True)
    probability = start
    for _ in range(50):
        probability = alpha * (probability - apart @ probability) + (1 - alpha) * start
    probability[given] = start[given]
    probability /= probability.sum(axis=1, keepdims=True)
    index = X.index if isinstance(X, pd.DataFrame) else None
    return pd.DataFrame(probability, index=index, columns=classes)


def _neighbours(embedding, n_neighbors):
    near = NearestNeighbors(n_neighbors=n_neighbors).fit(np.asarray(embedding))
    return near.kneighbors(return_distance=False)


def _preparation(X, scale, seed):
    """Return a function that prepares features as they are in X."""
    if len(X) < 4:
        raise ValueError(f"expected four objects or more, got {len(X)}; a map needs company")
    if scale:
        return Gaussian(seed=seed).fit(X).transform
    return lambda new: np.nan_to_num(np.reshape(new, (len(new), -1)), posinf=0, neginf=0)
