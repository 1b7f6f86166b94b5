import io

import numpy as np
import pandas as pd
import pytest

from skynb import datasets, features, models, outliers

METHODS = pytest.mark.parametrize("method", outliers.METHODS)


def crowd(n=200, n_strange=0, seed=0):
    """A crowd in six features, the last of them ``n_strange`` objects of another kind."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 6)) * [1, 1, 1, 1e-9, 1e9, 1]
    if n_strange:
        X[-n_strange:, :3] += 4
    index = pd.Index([f"star {k}" for k in range(n)], name="object_id")
    return pd.DataFrame(X, index)


# Pencil and invariants


@METHODS
def test_the_one_far_away_is_the_strangest(method):
    X = np.r_[np.linspace(0, 1, 20)[:, None] * [1, 2], [[9, -9]]]
    score = outliers.Detector(method, n_neighbors=5).fit(X).score(X)
    assert score.argmax() == 20
    assert score.shape == (21,)


@METHODS
def test_a_score_is_its_object_s_alone_and_repeats(method):
    X = crowd()
    detector = outliers.Detector(method).fit(X[:150])
    score = detector.score(X[150:])
    assert detector.score(X[150:160]) == pytest.approx(score[:10])
    assert outliers.Detector(method).fit(X[:150].to_numpy()).score(X[150:]) == pytest.approx(score)


@METHODS
def test_units_do_not_matter(method):
    X = crowd()
    scaled = X * np.exp2([-40, -9, 3, 9, 20, 40])
    expected = outliers.Detector(method).fit(X).score(X)
    assert outliers.Detector(method).fit(scaled).score(scaled) == pytest.approx(expected)


# Recovery


@METHODS
def test_planted_objects_are_found(method):
    X = crowd(n_strange=5)
    score = outliers.Detector(method).fit(X[:150]).score(X)
    assert set(score.argsort()[-5:]) == set(range(195, 200))


@METHODS
def test_missing_features_make_nothing_strange(method):
    X = crowd()
    X.iloc[::10, 1], X.iloc[::7, 4] = np.nan, np.inf
    X["empty"] = np.nan
    detector = outliers.Detector(method).fit(X[:150])
    score = detector.score(X[150:].assign(empty=7.0))
    assert score == pytest.approx(detector.score(X[150:]))
    blank = pd.DataFrame(np.nan, index=[0], columns=X.columns)
    assert detector.score(blank) < np.median(score)


@METHODS
def test_what_is_missing_is_filled_from_the_training_objects(method):
    train, new = crowd()[:150], crowd()[150:] + 3
    new.iloc[0, 0] = np.nan
    filled = new.copy()
    filled.iloc[0, 0] = train.iloc[:, 0].median()
    detector = outliers.Detector(method).fit(train)
    assert detector.score(new) == pytest.approx(detector.score(filled), abs=1e-3)


@METHODS
def test_a_hidden_class_stands_out_as_far_as_it_lies_apart(method):
    X = np.vstack([crowd(60, seed=1), crowd(60, seed=2), crowd(60, 60, seed=3)])
    y = np.repeat(["EA", "EW", "LPV"], 60)
    table = outliers.hidden_class(X, y, method=method, seeds=(0, 1), n_folds=2, progress=False)
    assert table.index.tolist() == ["EA", "EW", "LPV"]
    assert table.columns.tolist() == [0, 1]
    assert (table.loc["LPV"] > 0.95).all()
    assert (table.loc[["EA", "EW"]] < 0.6).all(axis=None)


@METHODS
def test_a_detector_is_kept_without_pickle(method, tmp_path):
    X = crowd()
    detector = outliers.Detector(method, n_trees=20, n_neighbors=9, seed=3).fit(X[:150])
    parts = detector.to_parts()
    again = outliers.Detector.from_parts(parts)
    assert again.score(X) == pytest.approx(detector.score(X), rel=1e-12)
    for name, part in [*parts.items(), *parts["scaler"].items()]:
        if isinstance(part, np.ndarray):
            np.save(io.BytesIO(), part, allow_pickle=False)
        elif name == "model":
            assert f"{type(part).__module__}.{type(part).__name__}" in models.ALLOWED


def test_parts_that_do_not_fit_are_refused():
    parts = outliers.Detector(n_trees=5).fit(crowd()).to_parts()
    magic = {"options": parts["options"] | {"method": "magic"}}
    for wrong in ({"model": np.zeros((9, 6))}, {"model": None}, magic):
        with pytest.raises(ValueError, match=r"is no (isolation|magic) forest; train anew"):
            outliers.Detector.from_parts(parts | wrong)
    scaler = parts["scaler"] | {"center": np.zeros(5)}
    with pytest.raises(ValueError, match="a scaler of shapes"):
        outliers.Detector.from_parts(parts | {"scaler": scaler})


# The hunt


@pytest.fixture
def oracle():
    """A function that knows the ten planted objects, and what it was asked."""
    asked = []

    def decide(object_id):
        asked.append(object_id)
        return "anomaly" if int(object_id.split()[1]) >= 290 else "regular"

    return decide, asked


def far_and_wide():
    """Three hundred objects: ten of the wanted kind, and ten that are stranger and not wanted."""
    X = crowd(300, 10)
    X.iloc[:10, 3:] *= -9
    return X


def test_the_hunt_learns_what_is_wanted(oracle):
    decide, asked = oracle
    X = far_and_wide()
    found = outliers.hunt(X, decide, n_questions=25, progress=False)
    assert len(set(asked)) == len(asked) == 25
    assert found.answers.index.tolist() == asked
    assert (found.answers == "anomaly").sum() >= 8
    assert found.score.index.equals(X.index)
    assert (found.score.nlargest(10).index.isin(X.index[-10:])).sum() >= 8


def test_a_hunt_repeats_by_its_seed_and_goes_on_where_it_stopped(oracle):
    decide, _ = oracle
    X = far_and_wide()
    whole = outliers.hunt(X, decide, n_questions=12, progress=False)
    first = outliers.hunt(X, decide, n_questions=5, progress=False)
    rest = outliers.hunt(X, decide, n_questions=7, answers=first.answers, progress=False)
    assert first.answers.equals(whole.answers[:5])
    assert rest.answers.equals(whole.answers)
    assert rest.score.to_numpy() == pytest.approx(whole.score.to_numpy())
    assert len(first.answers) == 5


@pytest.mark.parametrize("end", [StopIteration, KeyboardInterrupt])
def test_a_human_may_leave_and_loses_nothing(end):
    def decide(object_id):
        if len(told) == 3:
            raise end
        told.append(object_id)
        return "unknown"

    told = []
    found = outliers.hunt(far_and_wide(), decide, progress=False)
    assert found.answers.to_dict() == dict.fromkeys(told, "unknown")
    assert found.score.notna().all()


def test_an_unknown_answer_moves_nothing():
    X = far_and_wide()
    silent = outliers.hunt(X, None, n_questions=0, progress=False)
    unsure = outliers.hunt(X, lambda object_id: "unknown", n_questions=4, progress=False)
    assert unsure.score.equals(silent.score)
    assert unsure.answers.index.tolist() == silent.score.nlargest(4).index.tolist()


def test_every_object_is_asked_about_at_most_once():
    X = crowd(8).to_numpy()
    found = outliers.hunt(X, lambda object_id: "regular", n_questions=99, progress=False)
    assert sorted(found.answers.index) == list(range(8))


# Messages


def test_what_cannot_be_scored_is_named():
    X = crowd(20)
    with pytest.raises(ValueError, match="no method is called 'magic'; choose isolation or"):
        outliers.Detector("magic").fit(X)
    with pytest.raises(ValueError, match="three objects or more, got 2"):
        outliers.Detector().fit(X[:2])
    with pytest.raises(ValueError, match="expected 6 features, as when fitted, got 5"):
        outliers.Detector().fit(X).score(X.iloc[:, :5])
    with pytest.raises(ValueError, match=r"at least 5 objects, one per fold, got {'EA': 18, 'EW'"):
        outliers.hidden_class(X, ["EA"] * 18 + ["EW"] * 2)
    with pytest.raises(ValueError, match="two classes or more"):
        outliers.hidden_class(X, ["EA"] * 20)


@pytest.mark.parametrize("answer", [True, -1, "yes", None])
def test_an_answer_that_could_be_misread_is_refused(answer):
    with pytest.raises(ValueError, match="is not one of anomaly, unknown, regular; say one"):
        outliers.hunt(crowd(20), lambda object_id: answer, progress=False)


def test_answers_for_others_and_repeated_ids_are_refused():
    X = crowd(20)
    with pytest.raises(ValueError, match="there are answers for 'star 99', but no features"):
        outliers.hunt(X, None, answers={"star 99": "regular"})
    with pytest.raises(ValueError, match="ids are repeated"):
        outliers.hunt(pd.concat([X, X]), None)


@pytest.mark.real
def test_long_period_variables_are_strange_where_none_was_seen(cache):
    lcs = datasets.load("crts", n_per_class=90)
    lcs = lcs[lcs["label"].isin(["EW", "RRab", "RRc", "LPV"])]
    X = features.extract(lcs, periods=False)
    table = outliers.hidden_class(X, lcs["label"], seeds=(0,), progress=False)
    assert table.loc["LPV", 0] > 0.85


# Out of distribution: by what a network makes of an object


def inside(n, centre, seed):
    """Activations about a class's centre, and logits that are their first two."""
    a = np.random.default_rng(seed).normal(size=(n, 4)) * [1, 1, 1, 0.1] + centre
    return a, 3 * a[:, :2]


@pytest.fixture(scope="module")
def unfamiliar():
    a, b = inside(80, [6, 0, 0, 0], 0)[0], inside(80, [0, 6, 0, 0], 1)[0]
    return outliers.Unfamiliar().fit(np.r_[a, b], ["a"] * 80 + ["b"] * 80)


def test_scores_by_pencil():
    a = np.array([[11.0, 0], [9, 0], [10, 1], [10, -1]] * 2)
    found = outliers.Unfamiliar(n_neighbors=1).fit(a, ["x"] * 8)
    score = found.score([[10.0, 0], [0, 13]], np.log([[3.0, 1], [1, 1]]))
    assert list(score) == list(outliers.SCORES)
    assert score["softmax"].tolist() == pytest.approx([-0.75, -0.5])
    assert score["energy"].tolist() == pytest.approx(-np.log([4, 2]))
    assert score["mahalanobis"].tolist() == pytest.approx([0, 2 * (100 + 169)])
    lengths = 1 / 101**0.5, 10 / 101**0.5  # (10, 1) scaled to 1 lies nearest to (0, 1)
    far = np.hypot(lengths[1], 1 - lengths[0])
    assert score["neighbours"].tolist() == pytest.approx([0, far])


def test_mahalanobis_is_the_distance_in_units_of_the_scatter_within_classes(unfamiliar):
    from scipy.spatial.distance import mahalanobis
    from sklearn.covariance import LedoitWolf

    a, b = inside(80, [6, 0, 0, 0], 0)[0], inside(80, [0, 6, 0, 0], 1)[0]
    within = np.r_[a - a.mean(axis=0), b - b.mean(axis=0)]
    precision = LedoitWolf(assume_centered=True).fit(within).precision_
    new, logits = inside(5, [3, 1, 0, 0], 2)
    expected = [min(mahalanobis(x, c.mean(axis=0), precision) ** 2 for c in (a, b)) for x in new]
    assert unfamiliar.score(new, logits)["mahalanobis"].tolist() == pytest.approx(expected)


def test_of_few_objects_in_many_units_it_is_the_same():
    from sklearn.covariance import LedoitWolf

    rng = np.random.default_rng(0)
    a, y = rng.normal(size=(30, 50)) * np.linspace(0.1, 2, 50), np.repeat(["a", "b"], 15)
    a[15:] += 1
    new, means = rng.normal(size=(7, 50)), np.stack([a[:15].mean(axis=0), a[15:].mean(axis=0)])
    precision = LedoitWolf(assume_centered=True).fit(a - np.repeat(means, 15, axis=0)).precision_
    expected = [min((x - m) @ precision @ (x - m) for m in means) for x in new]
    found = outliers.Unfamiliar().fit(a, y).score(new, new[:, :2])["mahalanobis"]
    assert found.tolist() == pytest.approx(expected)


def test_planted_strangers_are_told_from_new_known_objects(unfamiliar):
    known = unfamiliar.score(*inside(60, [6, 0, 0, 0], 3))
    far = unfamiliar.score(*inside(60, [0, 0, 0, 3], 4))
    areas = outliers.auroc(known, far)
    assert list(areas.index) == list(outliers.SCORES)
    assert areas["mahalanobis"] > 0.99
    assert areas.min() > 0.95
    subtle = unfamiliar.score(*inside(60, [6, 0, 0, 1], 5))
    areas = outliers.auroc(known, subtle)
    assert areas["mahalanobis"] > 0.95
    assert areas["softmax"] < 0.7


def test_a_network_s_activations_and_logits_make_its_probabilities():
    keras = pytest.importorskip("keras")
    from skynb import networks

    images = np.random.default_rng(0).poisson(1, (6, 16, 16))
    for depth in networks.DEPTHS:
        network = networks.build(depth, (16, 16, 1), 3)
        a = networks.activations(network, images)
        z = np.exp(networks.logits(network, a))
        expected = network.predict(networks.inputs(images), verbose=0)
        np.testing.assert_allclose(z / z.sum(axis=1, keepdims=True), expected, atol=1e-6)
    flat = keras.Model(network.input, keras.layers.Flatten()(network.layers[1].output))
    with pytest.raises(ValueError, match="last layer is a Flatten, not a Dense one; give"):
        networks.activations(flat, images)


def test_what_does_not_fit_is_said_in_a_sentence(unfamiliar):
    a, z = inside(20, [0, 0, 0, 0], 0)
    with pytest.raises(ValueError, match="more than 10 objects, got 20 objects and 3 labels"):
        outliers.Unfamiliar().fit(a, ["x"] * 3)
    with pytest.raises(ValueError, match="got 5 objects and 5 labels; give more"):
        outliers.Unfamiliar().fit(a[:5], ["x"] * 5)
    with pytest.raises(ValueError, match=r"got \(20, 4\), 80 not finite"):
        unfamiliar.score(a * np.nan, z)
    with pytest.raises(ValueError, match=r"and 4 activations of each object, got \(20, 3\)"):
        unfamiliar.score(a[:, :3], z)
    with pytest.raises(ValueError, match="nothing was learnt yet; call fit first"):
        outliers.Unfamiliar().score(a, z)
    score = unfamiliar.score(a, z)
    with pytest.raises(ValueError, match="expected the same scores of some objects each"):
        outliers.auroc(score, score[["energy"]])
