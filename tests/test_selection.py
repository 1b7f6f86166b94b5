import signal
import sqlite3
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from skynb import datasets, evaluate, features, selection

RANKING = [name for name in selection.STRATEGIES if name != "random"]
ranking = pytest.mark.parametrize("strategy", RANKING)
SPACE = {"n_neighbors": (1, 40), "p": (1.0, 4.0), "weights": ["uniform", "distance"]}


def stars(n=120, seed=0):
    """Three classes told apart by the features ``a`` and ``b``, hidden among six others."""
    rng = np.random.default_rng(seed)
    y = np.array(["EA", "EW", "LPV"])[np.arange(n) % 3]
    X = pd.DataFrame(rng.normal(size=(n, 8)), columns=[*"cdefgh", "a", "b"])
    X["a"] += 3.0 * (y == "EA")
    X["b"] += 3.0 * (y == "EW")
    return X, y


def neighbours(seed, **parameters):
    return KNeighborsClassifier(**parameters)


def trials(study):
    """Return the finished trials as a table: parameters and value."""
    rows = [t.params | {"value": t.value} for t in study.trials if t.state.name == "COMPLETE"]
    return pd.DataFrame(rows)


# Pencil


def ranks_of(*resamples):
    index = pd.MultiIndex.from_product([["l1"], range(len(resamples))])
    return pd.DataFrame(resamples, index.set_names(["strategy", "resample"]), list("abcd"))


@pytest.mark.parametrize(
    ("second", "expected"),
    [([2, 1, 4, 3], 1.0), ([2, 3, 1, 4], 0.0), ([3, 4, 1, 2], -1.0)],
    ids=["the same two", "one of two, as by chance", "the other two"],
)
def test_stability_by_hand(second, expected):
    table = selection.stability(ranks_of([1, 2, 3, 4], second), n_kept=2)
    assert table.loc["l1", "stability"] == pytest.approx(expected)
    assert table.loc["l1", "error"] == pytest.approx(0)


def test_the_error_of_a_stability_by_its_theorem():
    rng = np.random.default_rng(0)
    ranks = ranks_of(*[rng.permutation(4) + 1 for _ in range(9)])
    value, error = selection.stability(ranks, n_kept=1).loc["l1"]
    z, k, d = ranks.to_numpy() <= 1, 1, 4
    size = k / d
    shift = value / 2 * (2 * size**2 - 2 * size + 1) - size**2
    phi = [((row * z.mean(axis=0)).mean() + shift) / (size * (1 - size)) for row in z]
    assert error == pytest.approx(np.sqrt(4 / 9**2 * ((phi - np.mean(phi)) ** 2).sum()))


# Invariants


@pytest.mark.parametrize("strategy", selection.STRATEGIES)
def test_ranks_are_a_permutation_and_repeat(strategy):
    X, y = stars()
    ranks = selection.rank(X, y, strategy, seed=1)
    assert sorted(ranks) == list(range(1, 9))
    assert ranks.name == strategy
    assert ranks.index.equals(X.columns)
    assert ranks.tolist() == selection.rank(X.to_numpy(), y, strategy, seed=1).tolist()


@ranking
def test_the_unit_of_a_feature_changes_nothing(strategy):
    X, y = stars()
    other = X.assign(a=np.exp(X["a"]), c=1e9 * X["c"] - 1)
    assert selection.rank(other, y, strategy).equals(selection.rank(X, y, strategy))


def test_ties_are_broken_by_lot():
    X, y = stars()
    drawn = [selection.rank(X, y, "random", seed=seed) for seed in range(9)]
    assert len({tuple(ranks) for ranks in drawn}) == 9


def test_resampled_ranks_are_those_of_halves_and_random_choice_is_unstable():
    X, y = stars()
    ranks = selection.resampled_ranks(
        X, y, strategies=("l1", "random"), n_resamples=12, progress=False
    )
    assert ranks.shape == (24, 8)
    assert (np.sort(ranks) == np.arange(1, 9)).all()
    measured = selection.stability(ranks, n_kept=2)
    assert measured.index.tolist() == ["l1", "random"]
    assert measured.loc["l1", "stability"] > 0.9
    assert abs(measured.loc["random", "stability"]) < 0.3


# Oracle


def test_all_features_give_what_evaluate_measures():
    X, y = stars()
    table = selection.compare(
        X, y, lambda seed: LogisticRegression(), n_kept=(2, 99), strategies=("l1",), n_folds=3,
        seeds=(0, 1), progress=False,
    )  # fmt: skip
    expected = evaluate.cross_validate(
        lambda seed: LogisticRegression(), X, y, n_folds=3, seeds=(0, 1), progress=False
    ).scores()
    whole = table[table["strategy"] == "all"].set_index("seed")
    assert whole["n_features"].tolist() == [8, 8]
    for name in ("accuracy", "balanced_accuracy"):
        assert whole[name].tolist() == pytest.approx(expected[name].tolist())
    assert table[table["strategy"] == "l1"]["n_features"].tolist() == [2, 2]


def test_a_selector_in_a_pipeline_does_as_compare_does():
    X, y = stars()
    steps = (selection.Selector("l1", 2), LogisticRegression())
    measured = evaluate.cross_validate(
        lambda seed: make_pipeline(*steps), X, y, n_folds=3, seeds=(0,), progress=False
    ).scores()
    table = selection.compare(
        X, y, lambda seed: LogisticRegression(), n_kept=(2,), strategies=("l1",), n_folds=3,
        progress=False,
    )  # fmt: skip
    assert table["accuracy"][0] == pytest.approx(measured["accuracy"][0])


# Recovery


@ranking
def test_the_features_that_matter_come_first(strategy):
    X, y = stars()
    assert set(selection.rank(X, y, strategy).nsmallest(2).index) == {"a", "b"}


@ranking
def test_missing_values_are_filled(strategy):
    X, y = stars()
    X.iloc[::7, 7] = np.nan
    X.iloc[3, 0], X["nothing"] = np.inf, np.nan
    ranks = selection.rank(X, y, strategy)
    assert set(ranks.nsmallest(2).index) == {"a", "b"}


def test_a_selector_fills_with_the_medians_of_its_training():
    X, y = stars()
    X.iloc[::7, 7] = np.nan
    kept = selection.Selector("l1", 2).fit(X, y).transform(X[:8])
    assert kept.columns.tolist() == ["a", "b"]
    assert kept["a"].equals(X["a"][:8])
    assert kept["b"][0] == pytest.approx(X["b"].median())


def test_two_features_are_enough_and_chance_is_not():
    X, y = stars()
    table = selection.compare(
        X, y, lambda seed: RandomForestClassifier(30, random_state=seed), n_kept=(2,),
        strategies=("mutual_information", "random"), n_folds=3, seeds=(0, 1), progress=False,
    )  # fmt: skip
    by = table.groupby("strategy")["balanced_accuracy"].mean()
    assert by["mutual_information"] > 0.8
    assert by["mutual_information"] > by["random"] + 0.1


def test_tuning_finds_what_works(tmp_path):
    X, y = stars()
    space = {"C": (1e-6, 10.0, "log"), "fit_intercept": [True, False]}
    study = selection.tune(
        lambda seed, **given: LogisticRegression(**given), space, X, y, path=tmp_path / "s.db",
        n_trials=5, progress=False,
    )  # fmt: skip
    assert study.best_value == trials(study)["value"].max() > 0.8
    assert study.best_params["C"] > 1e-4


# Hazards


def test_noise_chosen_outside_the_fold_looks_like_knowledge_and_here_does_not():
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 400)))
    y, folds = np.tile(["EA", "EW"], 30), {"seeds": (0, 1), "progress": False}
    best = selection.rank(X, y, "l1").nsmallest(10).index
    outside = evaluate.cross_validate(lambda seed: LogisticRegression(), X[best], y, **folds)
    inside = selection.compare(
        X, y, lambda seed: LogisticRegression(), n_kept=(10,), strategies=("l1",), **folds
    )
    assert outside.scores()["accuracy"].mean() > 0.7
    assert inside["accuracy"][inside["strategy"] == "l1"].mean() == pytest.approx(0.5, abs=0.1)


def test_the_judges_have_no_part_in_the_training():
    """However wild the objects of a fold are, what is learnt without them stays the same."""
    X, y = stars(30)
    X.iloc[::5, 7] = np.nan
    learnt = []

    class Keeps(KNeighborsClassifier):
        def fit(self, X, y):
            learnt.append(X)
            return super().fit(X, y)

    options = {"n_kept": (3,), "strategies": ("l1",), "n_folds": 3, "progress": False}
    selection.compare(X, y, lambda seed: Keeps(3), **options)
    wild = X.copy()
    wild.loc[~wild.index.isin(learnt[0].index)] = 1e9
    selection.compare(wild, y, lambda seed: Keeps(3), **options)
    pd.testing.assert_frame_equal(learnt[0], learnt[6])
    assert not learnt[2].equals(learnt[8])


def test_a_study_goes_on_where_it_stopped(tmp_path):
    X, y = stars()
    options = {"progress": False, "seed": 3}
    whole = selection.tune(neighbours, SPACE, X, y, path=tmp_path / "1.db", n_trials=12, **options)
    path = tmp_path / "a new #folder?" / "2 %20.db"
    for n_trials in (5, 12, 3):
        study = selection.tune(neighbours, SPACE, X, y, path=path, n_trials=n_trials, **options)
    assert path.is_file()
    assert len(study.trials) == 12
    pd.testing.assert_frame_equal(trials(study), trials(whole))
    assert trials(whole)["n_neighbors"].nunique() > 7
    assert all(type(trial.params["n_neighbors"]) is int for trial in study.trials)


CHILD = """
import sys
import numpy as np
from sklearn.neighbors import KNeighborsClassifier
from skynb import selection

made = []

def make(seed, **parameters):
    made.append(parameters)
    if len(made) == 3 + 2:
        print("in the second trial", flush=True)
        sys.stdin.read()
    return KNeighborsClassifier(**parameters)

X, y = (np.load(f"{folder}/{{name}}.npy") for name in "Xy")
selection.tune(make, {space}, X, y, path="{folder}/s.db", n_trials=3, progress=False)
"""


def test_a_study_survives_sigkill(tmp_path):
    X, y = stars()
    X = X.to_numpy()
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD.format(folder=tmp_path, space=SPACE)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with child:
        assert child.stdout.readline() == "in the second trial\n"
        child.kill()
    assert child.returncode == -signal.SIGKILL
    made = []

    def make(seed, **parameters):
        made.append(parameters)
        return neighbours(seed, **parameters)

    options = {"n_trials": 3, "progress": False}
    study = selection.tune(make, SPACE, X, y, path=tmp_path / "s.db", **options)
    whole = selection.tune(neighbours, SPACE, X, y, path=tmp_path / "whole.db", **options)
    assert len(made) == 3 * 2
    pd.testing.assert_frame_equal(trials(study), trials(whole))


def test_a_trial_that_fails_is_told_and_tried_again(tmp_path):
    X, y = stars()

    def fails(seed, **parameters):
        raise RuntimeError("out of stars")

    with pytest.raises(RuntimeError, match="out of stars"):
        selection.tune(fails, SPACE, X, y, path=tmp_path / "s.db", n_trials=2, progress=False)
    study = selection.tune(
        neighbours, SPACE, X, y, path=tmp_path / "s.db", n_trials=2, progress=False
    )
    assert len(trials(study)) == 2


def test_tuning_says_nothing_but_its_bar(tmp_path, capfd):
    import optuna

    X, y = stars(30)
    before = optuna.logging.get_verbosity()
    selection.tune(neighbours, {"n_neighbors": (1, 3)}, X, y, path=tmp_path / "s.db", n_trials=2)
    said = capfd.readouterr()
    assert said.out == ""
    assert "trials: 100%" in said.err
    assert "[I" not in said.err
    assert optuna.logging.get_verbosity() == before


# Messages


def test_a_study_of_something_else_is_refused(tmp_path):
    X, y = stars(30)
    path, options = tmp_path / "s.db", {"n_trials": 1, "progress": False}
    space = {"n_neighbors": (1, 3)}
    selection.tune(neighbours, space, X, y, path=path, **options)
    with pytest.raises(ValueError, match=r"s\.db was made for other space; choose another"):
        selection.tune(neighbours, {"n_neighbors": (1, 4)}, X, y, path=path, **options)
    for other in (X * 2, X.rename(columns={"a": "A"})):
        with pytest.raises(ValueError, match="made for other data"):
            selection.tune(neighbours, space, other, y, path=path, **options)
    with pytest.raises(ValueError, match="made for other data"):
        selection.tune(neighbours, space, X, y[::-1], path=path, **options)
    with pytest.raises(ValueError, match="made for other folds"):
        selection.tune(neighbours, space, X, y, path=path, seed=1, **options)


def test_a_file_that_is_no_study_is_refused(tmp_path):
    X, y = stars(30)
    (tmp_path / "text.db").write_text("my notes\n" * 99)
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("create table studies (stars int)")
    (tmp_path / "folder.db").mkdir()
    for name in ("text.db", "other.db", "folder.db"):
        with pytest.raises(ValueError, match=rf"{name} is not a study \(.*\); choose another path"):
            selection.tune(neighbours, {}, X, y, path=tmp_path / name, progress=False)
    assert (tmp_path / "text.db").read_text() == "my notes\n" * 99


@pytest.mark.parametrize(
    "given", [[], (3,), 3, (2, 1), (0, 1, "log"), (1, 2, "square"), "ab", None]
)
def test_a_range_that_is_none_is_named(given, tmp_path):
    X, y = stars(30)
    with pytest.raises(ValueError, match=r"the range of k is .*; give \[choices\], \(low, high\)"):
        selection.tune(neighbours, {"k": given}, X, y, path=tmp_path / "s.db")
    assert not (tmp_path / "s.db").exists()


def test_what_cannot_be_ranked_is_named():
    X, y = stars(30)
    with pytest.raises(
        ValueError, match="no strategy 'magic'; choose one of mutual_information, r"
    ):
        selection.rank(X, y, "magic")
    with pytest.raises(ValueError, match="got 30 objects and 29 labels"):
        selection.rank(X, y[1:], "l1")
    with pytest.raises(ValueError, match="some labels are missing; drop"):
        selection.rank(X, [None, *y[1:]], "l1")
    with pytest.raises(ValueError, match="two classes or more, got only EA"):
        selection.compare(X, ["EA"] * 30, neighbours)
    with pytest.raises(ValueError, match="fewer than 3 objects of LPV; give"):
        selection.rank(X, ["EA"] * 28 + ["LPV"] * 2, "l1")
    with pytest.raises(ValueError, match="fewer than 6 objects of EW, LPV; give"):
        selection.resampled_ranks(X, ["EA"] * 20 + ["LPV"] * 5 + ["EW"] * 5)
    with pytest.raises(ValueError, match="fewer than 10 objects of LPV"):
        selection.compare(X, ["EA"] * 23 + ["LPV"] * 7, neighbours, n_folds=10)
    with pytest.raises(ValueError, match="expected to keep from 1 to 3 of 4 features, got 4"):
        selection.stability(ranks_of([1, 2, 3, 4]), n_kept=4)


@pytest.mark.real
def test_the_period_carries_the_classes_of_catalina(cache):
    lcs = datasets.load("crts", n_per_class=40)
    lcs = lcs[lcs["label"].isin(["EA", "EW", "RRab", "RRc", "LPV"])]
    X = features.extract(lcs, progress=False)
    for strategy in ("mutual_information", "permutation"):
        best = selection.rank(X, lcs["label"], strategy).nsmallest(8).index
        assert {"log_period", "log_peak_period"} & set(best)
