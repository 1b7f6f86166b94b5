"""The Bayesian network: exact with values missing, equal to pyAgrum's, calibrated, drawn, kept."""

import copy

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from skynb import bayes, models
from skynb.bayes import BayesNet


def chain(n=600, seed=0, missing=0.0):
    """Two classes; a -> b -> c depend on each other given the class, d on nothing, e is rare."""
    rng = np.random.default_rng(seed)
    code = rng.integers(0, 2, n)
    a = rng.normal(1.5 * code)
    b = rng.normal(a)
    c = rng.normal(b - 0.5 * code)
    columns = {"a": a, "b": b, "c": c, "d": rng.normal(size=n), "e": rng.random(n) < 0.05 * code}
    X = pd.DataFrame(columns).astype(float)
    return X.mask(rng.random(X.shape) < missing), np.array(["EA", "EW"])[code]


@pytest.fixture(scope="module")
def fitted():
    X, y = chain(missing=0.3)
    return BayesNet(n_bins=4, min_information=0.05).fit(X, y), X, y


# A pencil.


def by_hand():
    """Two classes, u with two states, v with two that depend on u."""
    parts = {
        "features": ["u", "v"],
        "classes": np.array(["A", "B"]),
        "prior": np.array([0.25, 0.75]),
        "cuts": [np.array([0.5]), np.array([10.0])],
        "parent": np.array([-1, 0]),
        "tables": [
            np.array([[[0.5, 0.5]], [[0.9, 0.1]]]),
            np.array([[[0.8, 0.2], [0.4, 0.6]], [[0.5, 0.5], [0.5, 0.5]]]),
        ],
        "calibration": [np.ones(1), np.zeros((2, 2)), np.zeros(2)],
    }
    return parts


def test_two_features_by_hand():
    net = BayesNet.from_parts(by_hand())
    X = [[0, 9], [1, 11], [0, np.nan], [np.nan, 9], [np.nan, np.nan], [np.inf, -np.inf]]
    joint = np.array(
        [
            [0.25 * 0.5 * 0.8, 0.75 * 0.9 * 0.5],
            [0.25 * 0.5 * 0.6, 0.75 * 0.1 * 0.5],
            [0.25 * 0.5, 0.75 * 0.9],
            [0.25 * (0.5 * 0.8 + 0.5 * 0.4), 0.75 * 0.5],
            [0.25, 0.75],
            [0.25, 0.75],
        ]
    )
    assert net.posterior(X) == pytest.approx(joint / joint.sum(axis=1, keepdims=True), abs=1e-12)


def test_calibration_by_hand():
    """Weight 1: the evidence over 0.2 + the share known, times the prior; offsets by that share."""
    net = BayesNet.from_parts(by_hand())
    expected = softmax(np.log([0.5, 0.9]) / (0.2 + 0.5) + np.log([0.25, 0.75]))
    assert net.predict_proba([[0, np.nan]])[0] == pytest.approx(expected)
    mute = {"calibration": [np.zeros(1), np.ones((2, 2)), np.log([1, 3])]}
    net = BayesNet.from_parts(by_hand() | mute)
    assert net.predict_proba([[0, 9]])[0] == pytest.approx([0.1, 0.9])
    assert net.predict_proba([[np.nan, np.nan]])[0] == pytest.approx([0.25, 0.75])


def test_edges_by_hand():
    edges = BayesNet.from_parts(by_hand()).edges().set_index(["source", "target"])["information"]
    assert list(edges.index) == [("class", "u"), ("class", "v"), ("u", "v")]
    of_u = sum(
        p * q * np.log(q / mean)
        for p, row in ((0.25, (0.5, 0.5)), (0.75, (0.9, 0.1)))
        for q, mean in zip(row, (0.8, 0.2), strict=True)
    )
    assert edges["class", "u"] == pytest.approx(of_u)
    in_a = 0.5 * sum(q * np.log(q / m) for q, m in ((0.8, 0.6), (0.2, 0.4), (0.4, 0.6), (0.6, 0.4)))
    assert edges["u", "v"] == pytest.approx(0.25 * in_a)


def test_cuts():
    assert bayes._cuts(np.array([np.nan, np.inf, 0, 1, 1]), 7).tolist() == [0.5]
    assert bayes._cuts(np.array([3.0, 3, np.nan]), 7).tolist() == []
    assert bayes._cuts(np.full(3, np.nan), 7).tolist() == []
    assert bayes._cuts(np.arange(100.0), 4).tolist() == [24.75, 49.5, 74.25]
    rare = np.r_[np.zeros(95), np.arange(1.0, 6)]  # all quantiles are zero
    assert bayes._cuts(rare, 4).tolist() == [1]


# Invariants.


def test_the_order_of_columns_says_nothing(fitted):
    net, X, _ = fitted
    turned = X[["e", "c", "a", "d", "b"]]
    assert np.array_equal(net.predict_proba(turned), net.predict_proba(X))
    assert np.array_equal(net.predict_proba(X.to_numpy()), net.predict_proba(X))


def test_a_missing_column_is_one_of_missing_values(fitted):
    net, X, _ = fitted
    expected = net.predict_proba(X.assign(b=np.nan))
    assert np.array_equal(net.predict_proba(X.drop(columns="b")), expected)
    assert np.array_equal(net.predict_proba(X.assign(b=np.inf)), expected)
    assert net.predict_proba(X[[]].iloc[:1])[0] == pytest.approx(net.prior_)
    assert net.posterior(X[[]].iloc[:1])[0] == pytest.approx(net.prior_)


def test_many_are_the_stack_of_one(fitted):
    net, X, _ = fitted
    stacked = np.vstack([net.predict_proba(X.iloc[[k]]) for k in range(20)])
    assert net.predict_proba(X.iloc[:20]) == pytest.approx(stacked, abs=1e-12)
    assert net.predict_proba(X.iloc[0].to_numpy()) == pytest.approx(stacked[:1], abs=1e-12)
    assert net.predict_proba(X.iloc[:0]).shape == (0, 2)


def test_the_same_seed_gives_the_same_network(fitted):
    net, X, y = fitted
    again = BayesNet(n_bins=4, min_information=0.05).fit(X.astype("Float64"), y.astype(object))
    assert np.array_equal(again.predict_proba(X), net.predict_proba(X))
    other = BayesNet(n_bins=4, min_information=0.05, seed=1).fit(X, y)
    assert not np.array_equal(other.predict_proba(X), net.predict_proba(X))
    assert np.array_equal(other.posterior(X), net.posterior(X))


@pytest.mark.parametrize("value", [3.0, np.nan, np.inf])
def test_a_feature_that_says_nothing_changes_nothing(fitted, value):
    net, X, y = fitted
    more = BayesNet(n_bins=4, min_information=0.05).fit(X.assign(f=value), y)
    assert more.posterior(X) == pytest.approx(net.posterior(X))
    assert more.posterior(X.assign(f=7.0)) == pytest.approx(net.posterior(X))
    assert np.isfinite(more.predict_proba(X.assign(f=7.0))).all()


# Oracles.


def test_the_posterior_is_pyagrums(fitted):
    import pyagrum

    net, X, _ = fitted
    assert (net.parent_ >= 0).tolist() == [True, True, False, False, False]
    asked = pyagrum.LazyPropagation(net.to_pyagrum())
    states = net._states(X.to_numpy())[:100, :-1]
    for row, expected in zip(states, net.posterior(X), strict=False):
        asked.setEvidence({f: int(s) for f, s in zip(net.features_, row, strict=True) if s >= 0})
        asked.makeInference()
        assert asked.posterior("class").toarray() == pytest.approx(expected, abs=1e-9)


def test_expectation_maximisation_is_pyagrums(monkeypatch):
    """Without a prior, pyAgrum comes from elsewhere to the same tables."""
    import pyagrum

    monkeypatch.setattr(bayes, "_TOLERANCE", 1e-12)
    X, y = chain(500, seed=3, missing=0.4)
    X = X[["a", "b", "c"]]
    net = BayesNet(n_bins=2, min_information=0.02, smoothing=1e-9, max_iterations=500).fit(X, y)
    expected = net.to_pyagrum()
    states = net._states(X.to_numpy())[:, :-1]
    table = pd.DataFrame(states, columns=net.features_).astype(str).replace("-1", "?")
    table.insert(0, "class", y)
    start = net.to_pyagrum()
    pyagrum.initRandom(1)
    pyagrum.setNumberOfThreads(1)
    start.generateCPTs()
    learner = pyagrum.BNLearner(table, start, ["?"])
    learner.useNoPrior()
    learner.useEMWithDiffCriterion(1e-7, 0.1)
    found = learner.learnParameters(start)
    for name in expected.names():
        cpt = found.cpt(name).reorganize(expected.cpt(name).names)
        assert cpt.toarray() == pytest.approx(expected.cpt(name).toarray(), abs=1e-3)


# Recovery.


def test_a_known_distribution_comes_back_with_values_missing():
    X, y = chain(6000, seed=1)
    options = {"n_bins": 3, "min_information": 0.05, "smoothing": 0.5}
    truth = BayesNet(**options).fit(X[["a", "b"]], y)
    rng = np.random.default_rng(2)
    less = X[["a", "b"]].mask(rng.random((6000, 2)) < 0.4)
    # the same cuts, so that the tables compare
    found = copy.copy(truth)._learn(
        less.to_numpy(), np.searchsorted(truth.classes_, y), truth.parent_
    )
    for one, other in zip(found.tables_, truth.tables_, strict=True):
        assert one == pytest.approx(other, abs=0.06)


def test_edges_are_where_features_depend_on_each_other(fitted):
    net, _, _ = fitted
    edges = net.edges()
    between = edges[edges["source"] != "class"]
    assert sorted(map(sorted, between[["source", "target"]].to_numpy())) == [["a", "b"], ["b", "c"]]
    assert edges.loc[edges["source"] == "class", "target"].sort_values().tolist() == list("abcde")
    naive = BayesNet(min_information=np.inf).fit(*chain(100))
    assert (naive.parent_ == -1).all()


def test_what_is_missing_for_a_reason_that_is_known():
    """b is missing where c is high: what is left of b is too low, what EM says of it is not."""
    import pyagrum

    X, y = chain(6000, seed=4)
    X = (X[["b", "c"]] > 0).astype(float)
    truth = X[y == "EA"].mean()["b"]
    less = X.assign(b=X["b"].where((X["c"] == 0) | (np.arange(len(X)) % 4 == 0)))
    assert less[y == "EA"].mean()["b"] < truth - 0.05
    net = BayesNet(min_information=0.02, smoothing=0.1, max_iterations=50).fit(less, y)
    assert net.edges()["source"].tolist() != ["class", "class"]
    asked = pyagrum.LazyPropagation(net.to_pyagrum())
    asked.setEvidence({"class": "EA"})
    assert asked.posterior("b").toarray()[1] == pytest.approx(truth, abs=0.025)


def test_probabilities_are_calibrated_and_beat_those_of_the_bare_network():
    X, y = chain(1500, seed=5, missing=0.3)
    X = X.assign(b2=X["b"] + 1e-3, a2=X["a"] * 2)  # told twice
    net = BayesNet(min_information=np.inf).fit(X[:1000], y[:1000])
    true = np.searchsorted(net.classes_, y[1000:])
    loss = [
        -np.log(said[np.arange(500), true]).mean()
        for said in (net.predict_proba(X[1000:]), net.posterior(X[1000:]))
    ]
    assert loss[0] < loss[1]


def test_few_objects_and_three_classes():
    X, _ = chain(9)
    net = BayesNet().fit(X, np.repeat([1, 2, 3], 3))
    assert net.classes_.tolist() == [1, 2, 3]
    assert net.predict_proba(X).sum(axis=1) == pytest.approx(1)


# Messages.


@pytest.mark.parametrize(
    ("options", "change", "match"),
    [
        ({"n_bins": 1}, {}, "n_bins 1, smoothing 5.0; try 2, 5 or more"),
        ({"smoothing": 0}, {}, "n_bins 7, smoothing 0; try"),
        ({}, {"X": np.zeros((8, 0))}, "no feature, two of the same name"),
        ({}, {"X": pd.DataFrame(np.zeros((8, 2)), columns=["u", "u"])}, "two of the same name"),
        ({}, {"X": pd.DataFrame(np.zeros((8, 1)), columns=["class"])}, "or one called class"),
        ({}, {"y": ["A"] * 5}, r"labels of shape \(5,\) for 8 objects; give one each"),
        ({}, {"y": ["A"] * 8}, "classes {'A': 8}; give two or more, of two or more"),
        ({}, {"y": ["A"] * 7 + ["B"]}, "classes {'A': 7, 'B': 1}; give two"),
    ],
)
def test_what_cannot_be_learnt(options, change, match):
    given = {"X": np.arange(16.0).reshape(8, 2), "y": ["A", "B"] * 4} | change
    with pytest.raises(ValueError, match=match):
        BayesNet(**options).fit(given["X"], given["y"])


def test_what_cannot_be_judged(fitted):
    net, X, _ = fitted
    with pytest.raises(ValueError, match="the network has no feature 'z'; drop the column"):
        net.predict_proba(X.assign(z=1))
    with pytest.raises(ValueError, match="got 4 features, not 5; a DataFrame may lack some"):
        net.predict_proba(X.to_numpy()[:, :4])


# Kept, and drawn.


def test_what_goes_in_comes_out(fitted):
    net, X, _ = fitted
    again = BayesNet.from_parts(net.to_parts())
    assert np.array_equal(again.predict_proba(X), net.predict_proba(X))
    assert np.array_equal(again.posterior(X), net.posterior(X))
    assert again.edges().equals(net.edges())


def test_it_fits_in_a_model_file(fitted, tmp_path):
    net, X, _ = fitted
    known = {name: [0, 1] for name in models.REASONS}
    about = (["a", "b"], ["V"], None, None, None, known, {}, models.versions())
    recipe = models.Recipe("bayes_net", {}, 0, *about)
    path = models.save(net.to_parts(), recipe, {}, tmp_path / "m.skynb")
    again = BayesNet.from_parts(models.load(path)[0])
    assert np.array_equal(again.predict_proba(X), net.predict_proba(X))


def tables(second):
    return [by_hand()["tables"][0], np.asarray(second, float)]


@pytest.mark.parametrize(
    "change",
    [
        {"features": ["u"]},
        {"features": ["u", "u"]},
        {"features": [], "cuts": [], "tables": [], "parent": np.array([], int)},
        {"classes": np.array(["A", "B", "C"])},
        {"prior": np.array([0.5, 0.6])},
        {"prior": np.array([1.0, 0.0])},
        {"prior": np.array(["a", "b"])},
        {"cuts": [np.array([0.5])]},
        {"cuts": [np.array([0.5]), np.array([10.0, 5.0])]},
        {"cuts": [np.array([0.5]), np.array([np.nan])]},
        {"cuts": [np.array([0.5]), np.array([[10.0]])]},
        {"parent": np.array([1, 0])},
        {"parent": np.array([-1, 1])},
        {"parent": np.array([-1, 2])},
        {"parent": np.array([-1, -2])},
        {"parent": np.array([-1, -1])},
        {"parent": np.array([-1.0, 0.0])},
        {"parent": None},
        {"tables": tables(np.full((2, 2, 2), 0.4))},
        {"tables": tables(np.full((2, 2, 2), np.nan))},
        {"tables": tables(np.stack([np.eye(2)] * 2))},
        {"tables": tables(np.full((2, 2, 3), 1 / 3))},
        {"tables": "none"},
        {"calibration": [np.ones(2), np.zeros((2, 2)), np.zeros(2)]},
        {"calibration": [np.ones(1), np.full((2, 2), np.inf), np.zeros(2)]},
        {"calibration": [np.ones(1)]},
    ],
    ids=lambda change: ",".join(change),
)
def test_hostile_parts(change):
    with pytest.raises(ValueError, match="do not fit each other; train it anew"):
        BayesNet.from_parts(by_hand() | change)


@pytest.mark.parametrize("gone", list(by_hand()))
def test_parts_that_lack_one(gone):
    parts = by_hand()
    del parts[gone]
    with pytest.raises(ValueError, match="do not fit each other; train it anew"):
        BayesNet.from_parts(parts)


def test_it_draws_itself():
    from xml.etree import ElementTree

    parts = by_hand() | {"features": ["u<script>", "v"]}
    picture = BayesNet.from_parts(parts)._repr_svg_()
    root = ElementTree.fromstring(picture)
    kinds = [each.tag.split("}")[1] for each in root.iter()]
    assert kinds.count("circle") == 3  # two features and the class
    assert kinds.count("path") == 3  # two rays and an edge
    assert "<script>" not in picture
    assert "u&lt;script&gt;" in picture
    assert BayesNet()._repr_svg_() is None


@pytest.mark.real
def test_objects_that_lack_half_their_values():
    """A part of the Catalina objects, without the period search: above imputation and a forest."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline

    from skynb import datasets, evaluate, features, taxonomy

    lcs = datasets.labelled(datasets.load("crts", n_per_class=200), taxonomy.SEVEN)
    X, y = features.extract(lcs, periods=False), lcs["label"].to_numpy(str)
    rng = np.random.default_rng(0)
    train, less = rng.random(len(y)) < 0.7, X.mask(rng.random(X.shape) < 0.5)
    forest = RandomForestClassifier(200, min_samples_leaf=2, random_state=0)
    scores = []
    for learner in (BayesNet(), make_pipeline(SimpleImputer(strategy="median"), forest)):
        said = learner.fit(X[train], y[train]).predict_proba(less[~train])
        scores.append(evaluate.scores(y[~train], said, learner.classes_))
    ours, theirs = scores
    assert ours["accuracy"] > theirs["accuracy"] + 0.05
    assert ours["ece"] < theirs["ece"]
