import numpy as np
import pandas as pd
import pytest
from sklearn import metrics
from sklearn.calibration import calibration_curve
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyClassifier

from skynb import classify, evaluate, taxonomy

CLASSES = ["EA", "EW", "LPV"]


@pytest.fixture
def judged():
    """Labels and probabilities of 400 objects, right about two times in three."""
    rng = np.random.default_rng(0)
    y = rng.choice(CLASSES, 400, p=[0.6, 0.3, 0.1])
    probability = rng.dirichlet([1, 1, 1], 400)
    probability += 0.7 * (y[:, None] == CLASSES)
    return y, probability / probability.sum(axis=1, keepdims=True)


class Counting(DummyClassifier):
    """Answers with the shares of the classes; keeps what it was trained on."""

    seen: list = []  # noqa: RUF012

    def fit(self, X, y):
        Counting.seen.append(X)
        return super().fit(X, y)


# Pencil


def test_two_objects_by_hand():
    measured = evaluate.scores(["EA", "EW"], [[0.8, 0.2], [0.4, 0.6]], ["EA", "EW"])
    assert measured["accuracy"] == measured["macro_f1"] == measured["mcc"] == 1
    assert measured["ece"] == pytest.approx((0.2 + 0.4) / 2)


def test_reliability_by_hand():
    probability = [[0.95, 0.05], [0.95, 0.05], [0.45, 0.55], [1.0, 0.0]]
    table = evaluate.reliability(["EA", "EW", "EW", "EA"], probability, ["EA", "EW"])
    assert table["share"].tolist() == [0.25, 0.75]
    assert table["accuracy"].tolist() == pytest.approx([1, 2 / 3])
    assert table["confidence"].tolist() == pytest.approx([0.55, 2.9 / 3])
    wrong = evaluate.ece(["EA", "EW", "EW", "EA"], probability, ["EA", "EW"])
    assert wrong == pytest.approx(0.25 * 0.45 + 0.75 * 0.3)


def test_another_mix_by_hand():
    mix = {"EA": 1, "EW": 9}
    y, probability = ["EA", "EW"], [[0.9, 0.1], [0.9, 0.1]]
    weights = evaluate.reweight(y, mix)
    assert weights.tolist() == pytest.approx([0.2, 1.8])
    assert evaluate.scores(y, probability, list(mix), weights=weights)["accuracy"] == pytest.approx(
        0.1
    )
    shifted = evaluate.adjust(probability, list(mix), {"EA": 1, "EW": 1}, mix)
    assert shifted == pytest.approx(np.full((2, 2), 0.5))


def test_the_paper_has_45630_objects():
    assert sum(evaluate.PAPER_MIX.values()) == 45630


# Invariants


def test_a_mix_that_is_there_changes_nothing(judged):
    y, probability = judged
    mix = dict(zip(*np.unique(y, return_counts=True), strict=True))
    weights = evaluate.reweight(y, mix)
    assert weights == pytest.approx(np.ones(400))
    plain = evaluate.scores(*judged, CLASSES)
    assert evaluate.scores(*judged, CLASSES, weights=weights) == pytest.approx(plain)
    assert evaluate.adjust(probability, CLASSES, mix, mix) == pytest.approx(probability)


def test_weights_count_objects(judged):
    y, probability = judged
    weights = evaluate.reweight(y, {"EA": 1, "EW": 2, "LPV": 3})
    matrix = evaluate.confusion(*judged, CLASSES, weights=weights)
    assert matrix.sum() == pytest.approx(400)
    assert matrix.sum(axis=1) / 400 == pytest.approx([1 / 6, 2 / 6, 3 / 6])
    measured = evaluate.scores(*judged, CLASSES, weights=weights)
    assert measured["accuracy"] == pytest.approx(np.trace(matrix) / 400)
    doubled = evaluate.scores(np.repeat(y, 2), np.repeat(probability, 2, axis=0), CLASSES)
    assert evaluate.scores(*judged, CLASSES, weights=np.full(400, 2.0)) == pytest.approx(doubled)


def test_the_order_of_objects_and_of_columns_does_not_matter(judged):
    y, probability = judged
    order = np.random.default_rng(1).permutation(400)
    turned = evaluate.scores(y[order], probability[order][:, ::-1], CLASSES[::-1])
    assert turned == pytest.approx(evaluate.scores(*judged, CLASSES))


# Oracle


def test_measures_are_those_of_sklearn(judged):
    y, probability = judged
    said = np.array(CLASSES)[probability.argmax(axis=1)]
    weights = np.random.default_rng(2).uniform(0.1, 3, 400)
    for given in (None, weights):
        measured = evaluate.scores(*judged, CLASSES, weights=given)
        expected = {
            "accuracy": metrics.accuracy_score(y, said, sample_weight=given),
            "balanced_accuracy": metrics.balanced_accuracy_score(y, said, sample_weight=given),
            "macro_f1": metrics.f1_score(y, said, average="macro", sample_weight=given),
            "mcc": metrics.matthews_corrcoef(y, said, sample_weight=given),
        }
        assert {name: measured[name] for name in expected} == pytest.approx(expected)


def test_per_class_and_confusion_are_those_of_sklearn(judged):
    y, probability = judged
    said = np.array(CLASSES)[probability.argmax(axis=1)]
    table = evaluate.per_class(*judged, CLASSES)
    assert table["recall"].to_list() == pytest.approx(
        metrics.recall_score(y, said, labels=CLASSES, average=None)
    )
    assert table["n_objects"].tolist() == [(y == name).sum() for name in CLASSES]
    matrix = evaluate.confusion(*judged, CLASSES)
    assert matrix.dtype.kind == "i"
    assert (matrix == metrics.confusion_matrix(y, said, labels=CLASSES)).all()


def test_reliability_is_that_of_sklearn(judged):
    y, probability = judged
    right = np.array(CLASSES)[probability.argmax(axis=1)] == y
    table = evaluate.reliability(*judged, CLASSES, n_bins=7)
    accuracy, confidence = calibration_curve(right, probability.max(axis=1), n_bins=7)
    assert table["accuracy"].to_list() == pytest.approx(accuracy)
    assert table["confidence"].to_list() == pytest.approx(confidence)


def test_another_mix_is_the_same_as_another_sample():
    rng = np.random.default_rng(3)

    def sample(n_ea, n_ew):
        y = np.repeat(["EA", "EW"], [n_ea, n_ew])
        x = rng.normal(np.where(y == "EA", 0, 1.5))
        density = np.exp(-0.5 * (x[:, None] - [0, 1.5]) ** 2)
        return y, density / density.sum(axis=1, keepdims=True)

    y, even = sample(40000, 40000)
    mix = {"EA": 1, "EW": 9}
    predicted = evaluate.scores(
        y,
        evaluate.adjust(even, list(mix), {"EA": 1, "EW": 1}, mix),
        list(mix),
        weights=evaluate.reweight(y, mix),
    )
    y, even = sample(8000, 72000)
    uneven = evaluate.adjust(even, list(mix), {"EA": 1, "EW": 1}, mix)
    assert predicted == pytest.approx(evaluate.scores(y, uneven, list(mix)), abs=0.02)
    assert predicted["ece"] < 0.01


# Recovery


def test_the_interval_holds_the_truth_as_often_as_it_says():
    rng, held = np.random.default_rng(4), 0
    for seed in range(60):
        y = rng.choice(["EA", "EW"], 100)
        right = rng.random(100) < 0.8
        probability = np.where((y == "EA") == right, 0.8, 0.2)
        probability = np.column_stack([probability, 1 - probability])
        table = evaluate.bootstrap(y, probability, ["EA", "EW"], n_resamples=60, seed=seed)
        low, high = table.loc["accuracy", ["low", "high"]]
        held += low <= 0.8 <= high
    assert 51 <= held <= 60


def test_a_bootstrap_repeats_by_its_seed(judged):
    tables = [evaluate.bootstrap(*judged, CLASSES, n_resamples=20, seed=s) for s in (1, 1, 2)]
    assert tables[0].equals(tables[1])
    assert not tables[0].equals(tables[2])
    assert tables[0]["value"].to_dict() == pytest.approx(evaluate.scores(*judged, CLASSES))


def test_a_rare_class_may_be_absent_from_a_resample():
    y = np.array(["EA"] * 20 + ["EW"])
    probability = np.tile([0.9, 0.1], (21, 1))
    table = evaluate.bootstrap(y, probability, ["EA", "EW"], n_resamples=50)
    assert table.loc["balanced_accuracy", "value"] == 0.5
    assert table.loc["balanced_accuracy", "high"] == 1


# Cross-validation


def gaussians(n=60):
    rng = np.random.default_rng(5)
    y = np.repeat(["EW", "EA", "LPV"], n)
    return rng.normal(size=(3 * n, 2)) + 3 * np.eye(3)[:, :2].repeat(n, axis=0), y


def test_every_object_is_judged_once_per_seed_by_a_learner_that_never_saw_it():
    X, y = gaussians()
    Counting.seen = []
    X = pd.DataFrame(X, index=pd.Index(np.arange(len(X)) + 1000, name="object_id"))
    out = evaluate.cross_validate(
        lambda seed: Counting(), X, y, seeds=(0, 1), n_folds=4, progress=False
    )
    assert out.probability.shape == (2, 180, 3)
    assert out.probability.sum(axis=2) == pytest.approx(np.ones((2, 180)))
    for s in range(2):
        for k in range(4):
            seen = Counting.seen[4 * s + k].index
            assert set(X.index[out.fold[s] == k]) == set(X.index) - set(seen)
    assert (out.fold[0] != out.fold[1]).any()
    assert (out.fit_time > 0).all()
    assert (out.predict_time > 0).all()


def test_a_seed_reaches_the_learner_and_repeats():
    X, y = gaussians(8)
    seeds = []

    def make(seed):
        seeds.append(seed)
        return Counting()

    first = evaluate.cross_validate(make, X, y, seeds=(7, 8), n_folds=2, progress=False)
    assert seeds == [7, 7, 8, 8]
    again = evaluate.cross_validate(make, X, y, seeds=(7, 8), n_folds=2, progress=False)
    assert (first.probability == again.probability).all()


def test_separate_classes_are_told_apart():
    X, y = gaussians()
    out = evaluate.cross_validate(
        lambda seed: LinearDiscriminantAnalysis(), X, y, seeds=(0, 1), progress=False
    )
    table = out.scores()
    assert table.index.tolist() == [0, 1]
    assert (table["accuracy"] > 0.9).all()
    assert out.classes.tolist() == ["EA", "EW", "LPV"]
    assert out.scores(weights=evaluate.reweight(y, {"EA": 1, "EW": 1, "LPV": 1})).equals(table)


@pytest.mark.parametrize("form", ["DataFrame", "ndarray", "images"])
def test_arrays_and_tables_give_the_same(form):
    X, y = gaussians(20)
    if form == "images":
        X = X.reshape(60, 1, 2)
    given = pd.DataFrame(X, index=np.arange(60)[::-1]) if form == "DataFrame" else X

    class Flat(LinearDiscriminantAnalysis):
        def fit(self, X, y):
            return super().fit(np.asarray(X).reshape(len(X), -1), y)

        def predict_proba(self, X):
            return super().predict_proba(np.asarray(X).reshape(len(X), -1))

    out = evaluate.cross_validate(lambda seed: Flat(), given, y, seeds=(0,), progress=False)
    assert out.scores()["accuracy"][0] == pytest.approx(0.95, abs=0.05)


def test_a_table_of_light_curves_is_split_by_object(one_band_lcs):
    class Ids(DummyClassifier):
        def fit(self, X, y):
            assert X["label"].tolist() == y.tolist()
            assert len(X["lightcurve"].iloc[0]) > 2
            return super().fit(np.zeros((len(y), 1)), y)

    y = one_band_lcs["label"]
    out = evaluate.cross_validate(
        lambda seed: Ids(), one_band_lcs, y, seeds=(0,), n_folds=3, progress=False
    )
    assert out.probability == pytest.approx(np.full((1, 21, 7), 1 / 7))


def test_whatever_takes_rows_is_split():
    class Rows:
        def __init__(self, values):
            self.values = values

        def __len__(self):
            return len(self.values)

        def __getitem__(self, rows):
            return Rows(self.values[rows])

    class Inner(LinearDiscriminantAnalysis):
        def fit(self, X, y):
            return super().fit(X.values, y)

        def predict_proba(self, X):
            return super().predict_proba(X.values)

    X, y = gaussians(20)
    options = {"seeds": (0,), "n_folds": 3, "progress": False}
    out = evaluate.cross_validate(lambda seed: Inner(), Rows(X), y, **options)
    plain = evaluate.cross_validate(lambda seed: LinearDiscriminantAnalysis(), X, y, **options)
    assert (out.probability == plain.probability).all()


def test_light_curves_measured_once_are_split(one_band_lcs):
    y = one_band_lcs["label"].to_numpy(str)
    data = classify.measure(one_band_lcs, "structure")

    def make(seed):
        return classify.LightCurveClassifier("structure", seed=seed)

    out = evaluate.cross_validate(make, data, y, seeds=(0,), n_folds=3, progress=False)
    assert out.probability.sum(axis=2) == pytest.approx(np.ones((1, 21)))
    assert out.classes.tolist() == sorted(taxonomy.SEVEN)


# Messages


def test_bad_probabilities_are_named(judged):
    y, probability = judged
    with pytest.raises(ValueError, match=r"shape \(400, 2\) and 400 weights, got \(400, 3\)"):
        evaluate.scores(y, probability, CLASSES[:2])
    with pytest.raises(ValueError, match=r"400 weights, got .* and 3"):
        evaluate.scores(y, probability, CLASSES, weights=[1, 2, 3])
    with pytest.raises(ValueError, match="do not sum to 1"):
        evaluate.scores(y, np.full_like(probability, np.nan), CLASSES)
    with pytest.raises(ValueError, match="do not sum to 1"):
        evaluate.confusion(y, 2 * probability, CLASSES)
    with pytest.raises(ValueError, match="no probability is given for LPV; drop"):
        evaluate.scores(y, probability, ["EA", "EW", "RRd"])
    with pytest.raises(ValueError, match="labels are missing"):
        evaluate.scores([None, *y[1:]], probability, CLASSES)
    with pytest.raises(ValueError, match="labels are missing"):
        evaluate.scores([float("nan"), *y[1:]], probability, CLASSES)


def test_a_mix_of_other_classes_is_refused(judged):
    y, probability = judged
    with pytest.raises(ValueError, match="do not share LPV; match them"):
        evaluate.reweight(y, {"EA": 1, "EW": 1})
    with pytest.raises(ValueError, match="do not share RRd; match them"):
        evaluate.reweight(y, {"EA": 1, "EW": 1, "LPV": 1, "RRd": 1})
    with pytest.raises(ValueError, match="do not both have LPV; add"):
        evaluate.adjust(probability, CLASSES, {"EA": 1, "EW": 1, "LPV": 1}, {"EA": 1, "EW": 1})


def test_what_cannot_be_cross_validated_is_refused():
    X = np.zeros((6, 1))

    def make(seed):
        return DummyClassifier()

    with pytest.raises(ValueError, match="6 objects and 2 labels"):
        evaluate.cross_validate(make, X, ["EA", "EW"])
    with pytest.raises(ValueError, match="expected two classes or more, got only EA"):
        evaluate.cross_validate(make, X, ["EA"] * 6)
    with pytest.raises(ValueError, match="fewer than 3 objects of EW; give more, or drop these"):
        evaluate.cross_validate(make, X, ["EA"] * 5 + ["EW"], n_folds=3)
    with pytest.raises(ValueError, match="labels are missing"):
        evaluate.cross_validate(make, X, ["EA"] * 5 + [None])
    numbers = DummyClassifier().fit(X, [0, 1] * 3)
    numbers.fit = lambda X, y: numbers
    with pytest.raises(ValueError, match=r"the learner knows .*0.*1.*, not .*EA.*EW"):
        evaluate.cross_validate(lambda seed: numbers, X, ["EA", "EW"] * 3, n_folds=3)
