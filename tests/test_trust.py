"""Sets hold what they promise, drift is seen, errors said with confidence are found and grouped."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from skynb import datasets, features, taxonomy, trust

CLASSES = ["EA", "EW", "LPV"]


def judged(n, seed, shares=(0.6, 0.3, 0.1)):
    """Return labels and what a learner says of them, which is true on the average."""
    rng = np.random.default_rng(seed)
    codes = rng.choice(3, n, p=shares)
    said = rng.dirichlet([1, 1, 1], n) + 0.8 * np.eye(3)[codes]
    return np.array(CLASSES)[codes], said / said.sum(axis=1, keepdims=True)


# pencil


def test_the_threshold_is_a_quantile_of_what_was_said_of_the_truth():
    """Nine objects of probability 0.1 to 0.9: at 80 % the 8th largest of 1 - p, 0.8, is kept."""
    p = np.arange(1, 10) / 10
    sets = trust.PredictionSets(0.8).fit(["a"] * 5 + ["b"] * 4, _two(p), ["a", "b"])
    new = sets.predict([[0.21, 0.79], [0.19, 0.81], [0.5, 0.5]])
    assert new.to_numpy().tolist() == [[True, True], [False, True], [True, True]]


def _two(p):
    """Probabilities of two classes, p of the true one: five objects of a, then of b."""
    a = np.where(np.arange(len(p)) < 5, p, 1 - p)
    return np.column_stack([a, 1 - a])


def test_coverage_counts():
    sets = pd.DataFrame({"a": [1, 0, 1, 0], "b": [0, 0, 1, 1]}, dtype=bool)
    table = trust.coverage(["a", "a", "b", "b"], sets)
    assert table.loc["a"].tolist() == [0.5, 0.5, 0.5, 0.5, 2]
    assert table.loc["b"].tolist() == [1, 1.5, 0.5, 0, 2]
    assert table.loc["all"].tolist() == [0.75, 1, 0.5, 0.25, 4]


def test_a_shift_is_in_units_of_the_scatter():
    a = pd.DataFrame({"x": np.linspace(0, 1.349 * 2, 101), "y": 0.0})
    found = trust.drift(a, a.assign(x=a["x"] + 3)).shifts
    assert found.loc["x"].tolist() == pytest.approx([1, 3])
    assert found.loc["y"].tolist() == [0, 0]


# what is promised


@pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
def test_sets_hold_the_true_class_as_often_as_they_say(level):
    reached = []
    for seed in range(10):
        sets = trust.PredictionSets(level).fit(*judged(1000, seed), CLASSES)
        y, said = judged(2000, seed + 100)
        reached.append(trust.coverage(y, sets.predict(said)).loc["all", "coverage"])
    assert np.mean(reached) == pytest.approx(level, abs=0.01)


def test_by_class_a_rare_class_gets_its_share():
    y, said = judged(3000, 0)
    said = said * [1, 1, 0.3]
    said /= said.sum(axis=1, keepdims=True)
    mean = trust.PredictionSets(0.9).fit(y[:1500], said[:1500], CLASSES)
    each = trust.PredictionSets(0.9, by_class=True).fit(y[:1500], said[:1500], CLASSES)
    y, said = y[1500:], said[1500:]
    mean, each = (trust.coverage(y, sets.predict(said))["coverage"] for sets in (mean, each))
    assert mean["LPV"] < 0.75
    assert each[CLASSES].min() > 0.85


def test_a_higher_level_makes_larger_sets():
    y, said = judged(1000, 4)
    small, large = (
        trust.PredictionSets(level).fit(y[:500], said[:500], CLASSES).predict(said[500:])
        for level in (0.7, 0.95)
    )
    assert (small.to_numpy() <= large.to_numpy()).all()
    assert small.to_numpy().sum() < large.to_numpy().sum()


@pytest.mark.real
@pytest.mark.slow
def test_on_catalina_the_coverage_is_within_two_points():
    """By object, mean over splits; features without a period, a linear learner, seven classes."""
    lcs = datasets.labelled(datasets.load("crts"), taxonomy.SEVEN)
    X = features.Gaussian().fit(found := features.extract(lcs, periods=False, progress=False))
    X, y = X.transform(found), lcs["label"].to_numpy(str)
    reached = []
    for seed in range(3):
        train, rest = np.split(np.random.default_rng(seed).permutation(len(y)), [2500])
        learner = LogisticRegression(max_iter=200).fit(X[train], y[train])
        held, test = rest[:1300], rest[1300:]
        sets = trust.PredictionSets(0.9)
        sets.fit(y[held], learner.predict_proba(X[held]), learner.classes_)
        table = trust.coverage(y[test], sets.predict(learner.predict_proba(X[test])))
        reached.append(table.loc["all", "coverage"])
    assert np.mean(reached) == pytest.approx(0.9, abs=0.02)


# drift


def test_drift_is_seen_where_there_is_one():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(400, 4)), columns=list("abcd"))
    same = trust.drift(X[:200], X[200:])
    assert same.auroc == pytest.approx(0.5, abs=3 * same.error)
    moved = X[200:].assign(c=X["c"][200:] * 3, d=np.nan)
    moved = trust.drift(X[:200], moved)
    assert moved.auroc > 0.95
    assert moved.shifts.index[0] == "c"
    assert moved.shifts.loc["d"].isna().all()


def test_drift_of_images():
    rng = np.random.default_rng(1)
    a, b = rng.poisson(1, (60, 4, 5)), rng.poisson(2, (60, 4, 5))
    assert trust.drift(a, b).auroc > 0.8
    assert len(trust.drift(a, b).shifts) == 20


def test_the_error_of_an_auroc_is_its_scatter():
    rng = np.random.default_rng(2)
    draws = [trust.drift(rng.normal(size=(80, 1)), rng.normal(0.8, 1, (80, 1))) for _ in range(12)]
    scatter = np.std([each.auroc for each in draws])
    assert 0.5 < scatter / np.mean([each.error for each in draws]) < 2


# errors


def test_errors_said_with_confidence_are_found_and_grouped():
    rng, y = np.random.default_rng(0), pd.Series(["EA"] * 30 + ["EW"] * 30)
    y.index = [f"star {k}" for k in range(60)]
    said = np.where(y.to_numpy()[:, None] == ["EA", "EW"], 0.8, 0.2)
    said[[1, 2, 3, 4, 5]] = [[0.05, 0.95]] * 5
    said[[40, 41, 42]] = [[0.92, 0.08], [0.97, 0.03], [0.99, 0.01]]
    said[50] = [0.6, 0.4]
    places = rng.normal(size=(60, 2)) + 20 * (np.arange(60) < 30)[:, None]
    table = trust.confident_errors(y, said, ["EA", "EW"], embedding=places)
    assert table["group"].tolist() == [0] * 5 + [1] * 3
    assert table.index[5:].tolist() == ["star 42", "star 41", "star 40"]
    assert table.loc["star 42"].tolist() == ["EW", "EA", 0.99, 42, 1]
    plain = trust.confident_errors(y, said, ["EA", "EW"])
    assert plain.index[0] == "star 42"
    assert len(trust.confident_errors(y, said, ["EA", "EW"], at_least=0.5)) == 9


def test_a_group_is_named_by_its_commonest_pair():
    """The commonest label and the commonest answer are the same class: no pair has both."""
    label = ["RS CVn", "RS CVn", "EW", "EW", "EA", "RS CVn"]
    said = ["EA", "EA", "RS CVn", "RS CVn", "RS CVn", "EW"]
    errors = pd.DataFrame({"label": label, "said": said, "group": [0] * 5 + [1]})
    table = trust.groups(errors)
    assert table["label"].tolist() == ["EW", "RS CVn"]
    assert table["said"].tolist() == ["RS CVn", "EW"]
    assert table["n_pair"].tolist() == [2, 1]
    assert table["n_objects"].tolist() == [5, 1]
    assert len(trust.groups(errors[:0])) == 0


def test_no_error_and_few_errors_are_no_trouble():
    y, said = ["EA", "EW", "EA"], [[0.1, 0.9], [0.1, 0.9], [0.9, 0.1]]
    places = np.zeros((3, 2))
    one = trust.confident_errors(y, said, ["EA", "EW"], embedding=places)
    assert one["row"].tolist() == [0]
    assert one["group"].tolist() == [0]
    none = trust.confident_errors(y, said, ["EA", "EW"], embedding=places, at_least=0.95)
    assert len(none) == 0


# messages


def test_bad_input_is_said_in_a_sentence():
    y, said = judged(30, 0)
    fit = trust.PredictionSets(0.9).fit
    for options, message in (({"level": 90}, "the level is 90; give a share"),):
        with pytest.raises(ValueError, match=message):
            trust.PredictionSets(**options).fit(y, said, CLASSES)
    with pytest.raises(ValueError, match=r"expected 10 or more to calibrate on, got 9 objects"):
        fit(y[:9], said[:9], CLASSES)
    with pytest.raises(ValueError, match=r"got \d objects \(LPV\) for a level of 0.9; give more"):
        trust.PredictionSets(0.9, by_class=True).fit(y, said, CLASSES)
    with pytest.raises(ValueError, match=r"of shape \(30, 2\), got \(30, 3\)"):
        fit(y, said, CLASSES[:2])
    with pytest.raises(ValueError, match="some probabilities do not sum to 1"):
        fit(y, said * 2, CLASSES)
    with pytest.raises(ValueError, match="1 not finite"):
        fit(y, np.where(said == said.max(), np.nan, said), CLASSES)
    with pytest.raises(ValueError, match="no probability is given for SN; drop these objects"):
        fit(np.r_[y[1:], ["SN"]], said, CLASSES)
    sets = fit(y, said, CLASSES).predict(said)
    with pytest.raises(ValueError, match="expected 30 labels of EA, EW, LPV, got 2 of EA"):
        trust.coverage(["EA", "EA"], sets)
    with pytest.raises(ValueError, match="the sets are not calibrated; call fit first"):
        trust.PredictionSets(0.9).predict(said)
    X = pd.DataFrame(np.zeros((9, 2)), columns=["a", "b"])
    with pytest.raises(ValueError, match="no feature has a finite value; measure"):
        trust.drift(X * np.nan, X * np.nan)
    for empty in (X[:0], np.zeros((0, 2)), np.zeros((0, 4, 5))):
        with pytest.raises(ValueError, match="expected 5 objects or more of each, got 0 and 0"):
            trust.drift(empty, empty)
    with pytest.raises(ValueError, match="do not share b, c; measure both the same way"):
        trust.drift(X, X.rename(columns={"b": "c"}))
    with pytest.raises(ValueError, match="expected 5 objects or more of each, got 9 and 4"):
        trust.drift(X, X[:4])
    with pytest.raises(ValueError, match="one place per object, got 2 for 30"):
        trust.confident_errors(y, said, CLASSES, embedding=np.zeros((2, 2)))
    for wrong in (np.zeros(30), np.full((30, 2), np.nan)):
        with pytest.raises(ValueError, match=r"give \(n_objects, n_dims\), finite numbers"):
            trust.confident_errors(y, said, CLASSES, embedding=wrong)
