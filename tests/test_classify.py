"""Classifiers of light curves: what they learn, keep, and refuse."""

import json
import os
import zipfile

import numpy as np
import pandas as pd
import pytest

from skynb import classify, dmdt, evaluate, features, lightcurves, models, periods, simulate

CLASSES = ("EA", "RRab", "LPV")
SMALL = {"n_trees": 30, "n_rounds": 15}
TREES = ["forest", "extra_trees", "boosted", "hybrid"]


@pytest.fixture(scope="module")
def lcs():
    return simulate.lightcurves(n_per_class=16, classes=CLASSES, seed=3)


@pytest.fixture(scope="module")
def data(lcs):
    return classify.measure(lcs, "hybrid", max_frequency=4.0, progress=False)


@pytest.fixture(scope="module")
def y(lcs):
    return lcs["label"].to_numpy().astype(str)


def classifier(kind, **changes):
    options = {"options": SMALL, "max_frequency": 4.0} | changes
    return classify.LightCurveClassifier(kind, **options)


@pytest.fixture(scope="module")
def hybrid(data, y):
    return classifier("hybrid").fit(data, y)


def test_measured_is_what_the_measures_say(lcs, data):
    found = periods.search(lcs, max_frequency=4.0, progress=False)
    pd.testing.assert_frame_equal(data.features, features.extract(lcs, periods=found))
    grid = dmdt.GRID.with_normalization("p(dm|dt)")
    assert np.array_equal(data.images, dmdt.images(lcs, grid=grid))
    assert len(data) == len(lcs)
    some = data[[5, 2]]
    assert some.lcs.index.tolist() == lcs.index[[5, 2]].tolist()
    assert some.features.index.equals(some.lcs.index)
    assert np.array_equal(some.images, data.images[[5, 2]])
    assert classify.measure(lcs[:2], "dmdt_cnn").features is None


LEARNERS = {
    **dict.fromkeys([*TREES, "hierarchical"], (SMALL, 0.8)),
    "structure": ({"order": "pairs"}, 0.6),
    "bayes_net": ({}, 0.6),
    "dmdt_cnn": ({"n_networks": 1, "epochs": 2, "n_copies": 1}, 0.2),
}


@pytest.mark.parametrize("kind", LEARNERS)
def test_a_classifier_learns_and_is_kept(kind, lcs, data, y, tmp_path):
    train, test = np.arange(len(y)) % 2 == 0, np.arange(len(y)) % 2 == 1
    options, least = LEARNERS[kind]
    model = classifier(kind, options=options)
    data = classify.measure(lcs, "dmdt_cnn", progress=False) if kind == "dmdt_cnn" else data
    model.fit(data[train], y[train])
    probability = model.predict_proba(data[test])
    assert model.classes_.tolist() == sorted(CLASSES)
    assert probability.shape == (test.sum(), 3)
    np.testing.assert_allclose(probability.sum(axis=1), 1)
    assert (model.predict(data[test]) == y[test]).mean() > least
    score = model.outlier_score(data[test])
    assert ((score > 0) & (score < 1)).all()
    again = classify.load(model.save(tmp_path / "m.skynb", card={"n": 3}))
    np.testing.assert_allclose(again.predict_proba(data[test]), probability, atol=1e-6)
    assert np.array_equal(again.outlier_score(data[test]), score)
    assert again.recipe_ == model.recipe_
    assert again.card_ == {"n": 3}


def test_light_curves_or_measured_makes_no_difference(lcs, data, hybrid):
    np.testing.assert_allclose(hybrid.predict_proba(lcs[:5]), hybrid.predict_proba(data[:5]))


def test_an_object_is_judged_by_itself(data, hybrid):
    together = hybrid.predict_proba(data)
    for rows in ([3], [40, 3]):
        np.testing.assert_allclose(hybrid.predict_proba(data[rows]), together[rows])


def test_the_seed_decides(data, y):
    first, again, other = (
        classifier("extra_trees", seed=seed).fit(data, y).predict_proba(data) for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_recipe_says_how(lcs, data, y, hybrid):
    recipe = hybrid.recipe_
    assert (recipe.kind, recipe.seed, recipe.bands) == ("hybrid", 0, ("V",))
    assert recipe.classes == tuple(sorted(CLASSES))
    assert recipe.features == tuple(data.features)
    assert dmdt.Grid.from_dict(recipe.grid) == classify.GRID
    assert recipe.period_search == {"max_frequency": 4.0}
    assert recipe.training == models.fingerprint(lcs, y)
    assert recipe.known["n_obs"] == [
        lightcurves.summary(lcs)["n_obs"].min(),
        lightcurves.summary(lcs)["n_obs"].max(),
    ]
    assert hybrid.options == SMALL
    forest = classifier("forest").fit(data, y).recipe_
    assert forest.grid is None


def test_what_is_not_finite_is_missing(data, y):
    X = data.features.copy()
    X["skew"] = np.nan
    X.iloc[::3, 0] = np.nan
    X.iloc[1, 1] = np.inf
    holes = classify.Measured(data.lcs, X, data.images, data.grid)
    for kind in TREES:
        model = classifier(kind).fit(holes, y)
        assert np.isfinite(model.predict_proba(holes)).all()
        assert np.isfinite(model.predict_proba(data)).all()
        assert np.isfinite(model.outlier_score(holes)).all()


def test_cross_validation_takes_measured(data, y):
    found = evaluate.cross_validate(
        lambda seed: classifier("extra_trees", seed=seed), data, y, seeds=(0,), n_folds=2
    )
    assert found.scores()["accuracy"].item() > 0.8


def test_branches_of_the_tree_multiply(data, y):
    model = classifier("hierarchical", node="forest").fit(data, y)
    nodes = model.learner_.nodes
    assert {name: children for name, (children, _) in nodes.items()} == {
        "variable": ["extrinsic", "intrinsic"],
        "pulsating": ["LPV", "RRab"],
    }
    root, pulsating = (nodes[name][1].predict_proba(data) for name in ("variable", "pulsating"))
    expected = np.column_stack([root[:, 0], *(root[:, 1:] * pulsating).T])
    np.testing.assert_allclose(model.predict_proba(data), expected)


def test_several_bands(ztf_lcs):
    lcs = pd.concat([ztf_lcs, ztf_lcs.set_index(ztf_lcs.index + "b")])
    y = np.tile(["a", "b", "b", "a", "a", "b", "b"], 2)
    model = classifier("forest").fit(lcs, y)
    assert model.recipe_.bands == ("g", "i", "r")
    assert "amplitude_r" in model.recipe_.features
    one_band = model.measure(lightcurves.select_band(ztf_lcs, "r")).features
    assert one_band["amplitude_r"].notna().all()
    assert one_band["amplitude_g"].isna().all()
    assert one_band["color_g_r"].isna().all()
    with pytest.raises(ValueError, match=r"expected one band, found \['g', 'i', 'r'\]"):
        classifier("hybrid").fit(lcs, y)


# What is refused, in one sentence.


def test_labels_to_learn_nothing_from(data, y):
    forest = classifier("forest")
    for labels, match in [
        (np.full(len(y), "EA"), "expected two classes or more, got only EA"),
        (["odd", *y[1:]], "fewer than 2 objects of odd; give more, or drop these"),
        ([None, *y[1:]], "some labels are missing"),
        (y[1:], "one label per object, got 48 objects and 47 labels"),
    ]:
        with pytest.raises(ValueError, match=match):
            forest.fit(data, labels)


def test_names_not_known(data, y):
    with pytest.raises(ValueError, match="no classifier is called 'oracle'; choose one of forest"):
        classifier("oracle").fit(data, y)
    with pytest.raises(ValueError, match="no classifier is called 'oracle'"):
        classifier("hierarchical", node="oracle").fit(data, y)
    with pytest.raises(ValueError, match=r"unknown class 'RRxy'; nearest known: .*'RRab'"):
        classifier("hierarchical").fit(data, np.where(y == "RRab", "RRxy", y))
    with pytest.raises(ValueError, match="no classifier is called 'oracle'"):
        classify.measure(data.lcs, "oracle")


def test_data_made_another_way(data, y, hybrid, ztf_lcs):
    with pytest.raises(ValueError, match="in band r, but the model knows V"):
        hybrid.predict_proba(lightcurves.select_band(ztf_lcs, "r"))
    with pytest.raises(ValueError, match=r"measured without images; use classify.measure"):
        hybrid.predict_proba(classify.Measured(data.lcs, data.features))
    other = classify.measure(data.lcs, "dmdt_cnn", grid=dmdt.GRID)
    other = classify.Measured(data.lcs, data.features, other.images, other.grid)
    with pytest.raises(ValueError, match="images on another grid than the model's"):
        hybrid.predict_proba(other)
    fewer = data.features.drop(columns="skew")
    with pytest.raises(ValueError, match=r"1 of the model's .* missing, the first is 'skew'"):
        hybrid.predict_proba(classify.Measured(data.lcs, fewer, data.images, data.grid))


def changed(path, **changes):
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["recipe.json"] = json.dumps(json.loads(members["recipe.json"]) | changes)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.comment = models._seal(archive)
    return path


def test_weights_that_are_not_those_of_the_recipe(hybrid, tmp_path):
    coarse = dmdt.Grid(dm=(-1, 0, 1), dt=(0, 1, 10), normalization="p(dm|dt)").to_dict()
    for changes in [
        {"grid": coarse},
        {"features": ["mean"]},
        {"kind": "forest", "grid": None, "features": None, "period_search": None},
        {"kind": "oracle"},
        {"options": {"node": "boosted", "options": {"evil": 1}}},
        {"classes": ["EA", "EW", "LPV", "RRab"]},
    ]:
        path = changed(hybrid.save(tmp_path / "m.skynb"), **changes)
        with pytest.raises(models.ModelError, match="weights are not those of its recipe") as said:
            classify.load(path)
        assert "\n" not in str(said.value)


def test_a_model_cut_in_half(hybrid, tmp_path):
    path = hybrid.save(tmp_path / "m.skynb")
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(models.ModelError, match="not a model, or damaged"):
        classify.load(path)


def test_a_classifier_without_a_period_search(lcs, y, tmp_path, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("a period was searched")

    monkeypatch.setattr(periods, "search", never)
    monkeypatch.setattr(features, "search", never)
    forest = classifier("forest", max_frequency=0).fit(lcs, y)
    assert forest.recipe_.features == tuple(features.extract(lcs[:1], periods=False))
    assert forest.recipe_.period_search == {"max_frequency": 0}
    again = classify.load(forest.save(tmp_path / "model.skynb"))
    assert np.array_equal(again.predict_proba(lcs), forest.predict_proba(lcs))
    assert (forest.predict(lcs) == y).mean() > 0.8
