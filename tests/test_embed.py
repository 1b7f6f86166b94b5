import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier

from skynb import datasets, embed, evaluate, features, networks, periods

CLASSES = ["EA", "EW", "LPV"]


def clusters(n, seed=0, width=1.0):
    """Three classes in ten features: one in units of a million, one worthless."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    X = rng.normal(3.0 * (y[:, None] == np.arange(10) % 3), width)
    X[:, 0] *= 1e6
    X[:, 9] = rng.standard_cauchy(n)
    columns = [f"feature_{k}" for k in range(10)]
    index = pd.Index(np.arange(n) + 1000, name="object_id")
    return pd.DataFrame(X, index, columns), np.array(CLASSES)[y]


@pytest.fixture(scope="module")
def mapped():
    """A map of 120 objects, their features and labels."""
    X, y = clusters(120)
    return embed.tsne(X, n_jobs=1), X, y


# Pencil


def test_purity_by_hand():
    xy = [[0, 0], [0, 1], [0, 2], [9, 0], [9, 1], [9, 2]]
    pure = embed.purity(xy, ["EA", "EA", "EW", "LPV", "LPV", "LPV"], n_neighbors=2)
    assert pure.to_dict() == {"EA": 0.5, "EW": 0.0, "LPV": 1.0}
    assert pure.index.name == "class"


def test_stability_by_hand():
    line, other = [[0.0], [1.0], [2.1], [3.3]], [[0.0], [9.0], [1.0], [9.5]]
    assert embed.stability([line, line], n_neighbors=1) == 1
    assert embed.stability([line, other], n_neighbors=1) == 0
    assert embed.stability([line, line, other], n_neighbors=1) == pytest.approx(1 / 3)


def test_a_map_that_is_its_own_truth_is_trusted():
    X, _ = clusters(60)
    good = embed.trustworthiness(X, X.to_numpy()[:, :3], scale=False)
    assert embed.trustworthiness(X, X, scale=False) == 1
    chance = embed.trustworthiness(X, np.random.default_rng(0).normal(size=(60, 2)))
    assert 0.4 < chance < 0.65 < good


# Invariants


def test_a_seed_gives_the_map_again(mapped):
    found, X, _ = mapped
    again = embed.tsne(X, n_jobs=1)
    assert (again.embedding == found.embedding).all()
    assert (embed.tsne(X, n_jobs=1, seed=1).embedding != found.embedding).any()


def test_units_do_not_matter_and_a_table_is_its_array(mapped):
    found, X, _ = mapped
    scaled = X.to_numpy() * np.exp2([-40, -30, -20, -10, -5, 5, 10, 20, 30, 40])
    assert embed.tsne(scaled, n_jobs=1).embedding == pytest.approx(found.embedding)


def test_each_new_object_is_placed_alone_and_the_old_stay(mapped):
    found, X, _ = mapped
    before = found.embedding.copy()
    together = found.transform(X.iloc[:6])
    assert found.transform(X.iloc[:1]) == pytest.approx(together[:1])
    assert together == pytest.approx(found.embedding[:6], abs=1)
    assert (found.embedding == before).all()


# Recovery


def test_classes_gather_and_new_objects_join_them(mapped):
    found, X, y = mapped
    assert found.embedding.shape == (120, 2)
    assert embed.purity(found.embedding, y, n_neighbors=10).min() > 0.9
    assert embed.trustworthiness(X, found.embedding, n_neighbors=10) > 0.8
    new, truth = clusters(60, seed=9)
    nearest = KNeighborsClassifier(5).fit(found.embedding, y)
    assert nearest.score(found.transform(new), truth) > 0.9


def test_a_missing_or_infinite_feature_is_put_at_its_median(mapped):
    found, X, _ = mapped
    holed = X.iloc[:3].copy()
    holed.iloc[:, 9] = [np.nan, np.inf, X["feature_9"].median()]
    again = X.iloc[:3].copy()
    again.iloc[:, 9] = X["feature_9"].median()
    assert found.transform(holed) == pytest.approx(found.transform(again), abs=1e-3)
    empty = X.assign(feature_8=np.nan)
    assert np.isfinite(embed.tsne(empty, n_jobs=1).embedding).all()


@pytest.mark.parametrize("n", [4, 9])
def test_a_handful_of_objects_makes_a_map(n):
    X, _ = clusters(n)
    found = embed.tsne(X, n_jobs=1)
    assert np.isfinite(found.embedding).all()
    assert found.transform(X.iloc[:2]).shape == (2, 2)


def test_images_make_a_map_as_they_are():
    images = np.random.default_rng(0).random((12, 3, 4))
    found = embed.tsne(images, scale=False, n_jobs=1)
    assert found.embedding.shape == (12, 2)
    flat, holed = images.reshape(12, 12).copy(), images.copy()
    flat[0, :3], holed[0, 0, :3] = 0, [np.nan, np.inf, -np.inf]
    holed = embed.tsne(holed, scale=False, n_jobs=1)
    assert holed.embedding == pytest.approx(embed.tsne(flat, scale=False, n_jobs=1).embedding)


def test_umap_is_fetched_when_asked_and_told_what_was_said(monkeypatch):
    class UMAP:
        def __init__(self, **options):
            self.options = options

        def fit(self, Z):
            self.embedding_ = Z[:, : self.options["n_components"]]
            return self

        def transform(self, Z):
            return Z[:, : self.options["n_components"]]

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=UMAP))
    X, _ = clusters(12)
    found = embed.umap(X, n_dims=3, seed=5)
    assert found.embedding.shape == (12, 3)
    assert found.transform(X.iloc[:4]) == pytest.approx(found.embedding[:4])


@pytest.mark.slow
def test_umap_gathers_the_classes():
    X, y = clusters(60)
    found = embed.umap(X)
    assert embed.purity(found.embedding, y, n_neighbors=10).min() > 0.9


def test_a_forest_embeds_by_its_leaves():
    X, y = clusters(120, width=1.5)
    forest = RandomForestClassifier(30, random_state=0).fit(X[::2], y[::2])
    found = embed.from_model(forest, X[1::2], n_dims=4)
    assert found.embedding.shape == (60, 4)
    assert found.transform(X[1::2]) == pytest.approx(found.embedding)
    assert embed.purity(found.embedding, y[1::2], n_neighbors=5).mean() > 0.8


def test_a_network_embeds_by_its_last_layer_but_one():
    keras = pytest.importorskip("keras")
    inputs = keras.Input((2, 2, 1))
    inner = keras.layers.Dense(5, name="inner")(keras.layers.Flatten()(inputs))
    network = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(inner))
    images = np.random.default_rng(0).random((6, 2, 2, 1))
    found = embed.from_model(network, images)
    weights, bias = network.get_layer("inner").get_weights()
    assert found.embedding == pytest.approx(images.reshape(6, 4) @ weights + bias, abs=1e-5)
    assert found.transform(images[:2]) == pytest.approx(found.embedding[:2], abs=1e-5)


def test_networks_on_images_embed_what_they_are_fed():
    pytest.importorskip("keras")
    network = networks.build("deep", (8, 8, 1), 3)
    images = np.random.default_rng(0).integers(0, 9, (5, 8, 8))
    found = embed.from_model(network, networks.inputs(images))
    assert found.embedding.shape == (5, 128)
    doubled = found.transform(networks.inputs(2 * images[:2]))
    assert doubled == pytest.approx(found.embedding[:2], abs=1e-4)


# Labels


def few(y, n, seed=0):
    labels = np.full(len(y), None, dtype=object)
    rows = np.random.default_rng(seed).choice(len(y), n, replace=False)
    labels[rows] = y[rows]
    return labels


def test_few_labels_reach_all_objects():
    X, y = clusters(300, width=1.5)
    labels = few(y, 15)
    probability = embed.propagate(X, labels)
    assert probability.index.equals(X.index)
    assert probability.columns.tolist() == CLASSES
    assert probability.sum(axis=1).to_numpy() == pytest.approx(np.ones(300))
    assert (probability.to_numpy() >= 0).all()
    spread = probability.idxmax(axis=1).to_numpy()
    given = labels != None  # noqa: E711
    assert (spread[given] == y[given]).all()
    alone = KNeighborsClassifier(3).fit(X.to_numpy()[given, :9], y[given])
    assert (spread == y).mean() > max(0.9, alone.score(X.to_numpy()[:, :9], y))


def test_every_way_to_write_no_label_is_the_same():
    X, y = clusters(60)
    labels = few(y, 12)
    expected = embed.propagate(X, labels)
    for nothing in ("", np.nan):
        written = [nothing if label is None else label for label in labels]
        assert embed.propagate(X, written).equals(expected)
    assert embed.propagate(X, pd.Series(labels, X.index)).equals(expected)


def test_labels_of_all_objects_are_kept():
    X, y = clusters(30)
    assert (embed.propagate(X, y).idxmax(axis=1) == y).all()


def test_one_object_of_a_class_is_enough():
    X, y = clusters(60)
    labels = np.where((np.arange(60) < 3) | (np.arange(60) < 20) & (y != "LPV"), y, "")
    assert (labels == "LPV").sum() == 1
    assert (embed.propagate(X, labels).idxmax(axis=1) == y).mean() > 0.8


# Messages


def test_what_cannot_be_embedded_is_named(mapped):
    found, X, _ = mapped
    with pytest.raises(ValueError, match="four objects or more, got 3"):
        embed.tsne(X[:3])
    with pytest.raises(ValueError, match="expected 10 features, as when fitted, got 9"):
        found.transform(X.iloc[:, :9])
    with pytest.raises(ValueError, match="KNeighborsClassifier has no layers and no leaves"):
        embed.from_model(KNeighborsClassifier(), X)
    with pytest.raises(ValueError, match="two maps or more to compare, got 1"):
        embed.stability([found.embedding])
    with pytest.raises(ValueError, match="got 2 for 120"):
        embed.propagate(X, ["EA", None])
    with pytest.raises(ValueError, match="found 120 labels of 1 classes"):
        embed.propagate(X, ["EA"] * 120)
    with pytest.raises(ValueError, match="found 2 labels of 2 classes"):
        embed.propagate(X, ["EA", "EW"] + [""] * 118)


@pytest.mark.real
def test_a_tenth_of_the_labels_reaches_most_of_what_all_of_them_do(cache):
    lcs = datasets.load("crts", n_per_class=60)
    lcs = lcs[lcs["label"].isin(evaluate.PAPER_MIX)]
    found = periods.search(lcs, max_frequency=5, progress=False)
    X, y = features.extract(lcs, periods=found), lcs["label"].to_numpy().astype(str)
    labels = few(y, len(y) // 10)
    hidden = labels != y
    probability = embed.propagate(X, labels)
    spread = evaluate.scores(y[hidden], probability[hidden], probability.columns)
    forest = evaluate.cross_validate(
        lambda seed: RandomForestClassifier(100, random_state=seed),
        X,
        y,
        seeds=(0,),
        progress=False,
    )
    ratio = spread["accuracy"] / forest.scores()["accuracy"][0]
    assert ratio > 0.85
