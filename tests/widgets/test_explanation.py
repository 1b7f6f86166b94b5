"""ExplanationViewer without a browser, and what it shows."""

import asyncio
import time

import numpy as np
import pandas as pd
import pytest

from skynb import classify, explain, lightcurves, networks, simulate, trust, verdict
from skynb.widgets import ExplanationViewer, LightCurveExplorer, Selection

CLASSES = ["EW", "RRab", "LPV"]


@pytest.fixture(scope="module")
def known():
    return simulate.lightcurves(classes=CLASSES, n_per_class=8, seed=1)


@pytest.fixture(scope="module")
def new():
    return simulate.lightcurves(classes=CLASSES, n_per_class=2, seed=2)


@pytest.fixture(scope="module")
def held():
    return simulate.lightcurves(classes=CLASSES, n_per_class=8, seed=3)


@pytest.fixture(scope="module")
def cnn(known):
    options = {"n_networks": 1, "epochs": 6, "n_copies": 1, "batch_size": 8}
    return classify.LightCurveClassifier("dmdt_cnn", options=options).fit(known, known["label"])


@pytest.fixture(scope="module")
def boosted(known):
    model = classify.LightCurveClassifier("boosted", options={"n_rounds": 20}, max_frequency=0)
    return model.fit(known, known["label"])


@pytest.fixture
def viewer(new, cnn, known, held):
    viewer = ExplanationViewer(new, cnn, training=known, calibration=held)
    yield viewer
    viewer.close()


def test_what_it_shows_is_what_the_layers_below_say(viewer, new, cnn, known, held):
    viewer.selection.focus = 3
    one, found = new.iloc[3:4], viewer.explanation
    probability = cnn.predict_proba(one)[0]
    first, second = cnn.classes_[np.argsort(-probability)[:2]]
    assert (found.target, found.against) == (first, second)
    np.testing.assert_allclose(found.probability[cnn.classes_], probability)
    expected = explain.attribute(cnn, one, first, against=second)[0]
    np.testing.assert_allclose(found.attribution, expected, atol=1e-7)
    lc = new["lightcurve"].iloc[3]
    share = explain.share(lc["mjd"], lc["mag"], expected)
    np.testing.assert_allclose(found.shares, share.values, atol=1e-7)
    sets = trust.PredictionSets(0.9).fit(held["label"], cnn.predict_proba(held), cnn.classes_)
    names = sets.predict(probability[None]).iloc[0]
    said = found.trust.set_index("about")["said"]
    assert said["set that promises 90%"].startswith(", ".join(names.index[names]) or "empty")
    assert said["the model's recipe"] == (
        cnn.recipe_.flags(one)[0] or "inside what the model knows"
    )
    assert {f"strange, {name}" for name in ("energy", "mahalanobis", "outlier")} <= set(said.index)
    assert found.problem == viewer.message == ""


def test_the_page_shows_the_explanation(viewer):
    found = viewer.explanation
    source = viewer.curves.source.data
    np.testing.assert_array_equal(source["share"], found.shares[viewer.curves.drawn])
    most = np.abs(found.shares).argmax()
    assert np.argmax(source["size"]) == most
    up = np.array(source["marker"]) == "triangle"
    np.testing.assert_array_equal(up, found.shares > 0)
    assert set(np.array(source["role"])[up]) == {f"for {found.target}, not {found.against}"}
    marks = viewer._map.data
    y, x = np.nonzero(found.attribution)
    np.testing.assert_array_equal(marks["value"], found.attribution[y, x])
    np.testing.assert_array_equal(np.asarray(marks["angle"]) == 0, marks["value"] > 0)
    assert viewer._colors[1].high == -viewer._colors[1].low == np.abs(found.attribution).max()
    for name, p in found.probability.items():
        assert f">{name}</th>" in viewer._bars.value
        assert f"{p:.3f}" in viewer._bars.value
    assert "predicted, explained" in viewer._bars.value
    assert f"Predicted {found.target}" in viewer.description
    viewer.selection.hovered = int(most)
    assert f"Its share: {found.shares[most]:+.4g}." in viewer._status.value


def test_another_method_and_another_class(viewer, cnn):
    before = viewer.explanation
    viewer._method.value = "blanking"
    assert viewer.method == "blanking"
    assert "by blanking" in viewer._status.value
    assert np.abs(viewer.explanation.attribution - before.attribution).max() > 0
    viewer.keys_["c"]()
    assert viewer.explained == viewer._class.value == "runner-up"
    swapped = viewer.explanation
    assert (swapped.target, swapped.against) == (before.against, before.target)
    last = before.probability.index[-1]
    viewer._class.value = str(last)
    assert (viewer.explanation.target, viewer.explanation.against) == (last, before.target)
    assert "<td>explained</td>" in viewer._bars.value
    viewer.method = "saliency"  # knows no sign: it does not speak for anything
    assert "looked at" in viewer.curves.source.data["role"]
    viewer.keys_["m"]()
    assert viewer.method == "smoothgrad"
    with pytest.raises(ValueError, match="no method 'mind'; choose one of integrated, "):
        viewer.method = "mind"
    with pytest.raises(ValueError, match="no class 'SN'; choose one of predicted, runner-up, EW"):
        viewer.explained = "SN"


def test_a_training_object_is_its_own_nearest_example(known, cnn, held):
    viewer = ExplanationViewer(known, cnn, training=known, calibration=held)
    for at in (0, 9, 20):
        viewer.selection.focus = at
        nearest = viewer.explanation.nearest
        assert nearest.index[0] == known.index[at]
        assert nearest["distance"].iloc[0] == pytest.approx(0, abs=1e-3)
        assert nearest["distance"].is_monotonic_increasing
        shown = viewer.example.source.data["mjd"]
        np.testing.assert_array_equal(shown, known["lightcurve"].iloc[at]["mjd"])
    viewer._buttons[1].click()
    assert nearest.index[1] in viewer.example.raw.title.text
    second = known["lightcurve"].iloc[nearest["row"].iloc[1]]
    np.testing.assert_array_equal(viewer.example.source.data["mag"], second["mag"])


def test_what_is_strange_is_told(cnn, known, held, new):
    noise = np.random.default_rng(0)
    mjd = np.sort(noise.uniform(53000, 56000, 200))
    wild = {"object_id": "wild", "mjd": mjd, "mag": noise.uniform(8, 22, 200), "magerr": 0.1}
    lcs = lightcurves.from_flat(pd.DataFrame(wild | {"band": "V"}))
    judge = verdict.Judge(cnn, known, held)
    told = judge.explain(lcs["lightcurve"].iloc[0]).trust.set_index("about")
    assert told.loc["strange, outlier", "trusted"] is False
    assert "above 100% of the calibrating objects" in told.loc["strange, outlier", "said"]
    plain = verdict.Judge(cnn).explain(new["lightcurve"].iloc[0])
    assert plain.trust["trusted"].tolist()[:2] == [None, None]
    assert len(plain.nearest) == 0


def test_features_of_trees(boosted, new, known, held):
    viewer = ExplanationViewer(new, boosted, training=known, calibration=held)
    found = viewer.explanation
    shap = explain.trees(boosted, new.iloc[:1])
    expected = shap.of(0, found.target) - shap.of(0, found.against)
    pd.testing.assert_series_equal(
        found.shap.sort_index(), expected.sort_index(), check_names=False
    )
    assert viewer._shap.data["feature"][-1] == found.shap.index[0]
    assert viewer._factors.factors == list(viewer._shap.data["feature"])
    assert viewer.image is None
    assert viewer.method == "shap"
    assert np.isnan(found.shares).all()
    assert len(viewer.still()) > 1000


def test_a_model_that_cannot_be_explained_is_still_trusted_or_not(known, new, held):
    model = classify.LightCurveClassifier("structure").fit(known, known["label"])
    viewer = ExplanationViewer(new, model, training=known, calibration=held)
    assert "a classifier of kind 'structure' is not one set of trees" in viewer.message
    assert "predicted" in viewer._bars.value
    assert "strange, outlier" in viewer._flags.value


def test_bad_input(cnn, known, new, boosted):
    with pytest.raises(ValueError, match="expected a trained LightCurveClassifier, got DmDtCNN"):
        ExplanationViewer(new, networks.DmDtCNN())
    with pytest.raises(ValueError, match="expected a trained LightCurveClassifier, got <"):
        ExplanationViewer(new, classify.LightCurveClassifier())
    with pytest.raises(
        ValueError, match="training has no labelled object; give light curves with a"
    ):
        ExplanationViewer(new, cnn, training=known.drop(columns="label"))
    with pytest.raises(ValueError, match="training has one object; give two or more"):
        ExplanationViewer(new, cnn, training=known.iloc[:1])
    with pytest.raises(ValueError, match="expected 10 or more to calibrate on, got 1"):
        ExplanationViewer(new, cnn, calibration=known.iloc[:1])
    with pytest.raises(ValueError, match="selection is of another table"):
        ExplanationViewer(new, cnn, selection=Selection(["x"]))
    judge, lc = verdict.Judge(cnn), new["lightcurve"].iloc[0]
    with pytest.raises(ValueError, match="no method 'lime'; choose one of integrated"):
        judge.explain(lc, method="lime")
    kept = np.arange(len(lc)) % 2 == 0
    masked, listed = (judge.explain(lc, rows) for rows in (kept, np.flatnonzero(kept)))
    pd.testing.assert_series_equal(masked.probability, listed.probability)
    viewer = ExplanationViewer(new, cnn)
    viewer._went.value = "nobody"
    assert "no object 'nobody' among 6; ids are like" in viewer.message
    viewer.keys_["n"]()
    viewer._receive(None, {"key": "1"}, [])
    assert "no example 1, there are 0; see training=" in viewer.message


@pytest.mark.parametrize("kind", ["cnn", "boosted"])
def test_few_objects_and_few_observations(kind, request, new, known):
    model = request.getfixturevalue(kind)
    empty = ExplanationViewer(new.iloc[:0], model)
    assert empty.message == "the table is empty; give at least one light curve"
    for key in empty.keys_:
        empty._receive(None, {"key": key}, [])
    assert len(empty.still()) > 1000
    single = ExplanationViewer(new.iloc[:1], model, training=known)
    single.next()
    assert single.selection.focus == 0
    assert single.message == ""
    row = {"object_id": "lonely", "mjd": [58000.0], "mag": 16.0, "magerr": 0.1, "band": "V"}
    lonely = ExplanationViewer(lightcurves.from_flat(pd.DataFrame(row)), model, training=known)
    assert "1 observation in V" in lonely.description
    assert "few observations" in lonely._flags.value or "the model knows" in lonely._flags.value
    if kind == "cnn":
        assert lonely.message == "one observation makes no pair: nothing is there to explain"
        assert lonely.explanation.attribution is None
    assert len(lonely.still()) > 1000


def test_training_objects_may_be_in_a_file(cnn, known, new, tmp_path):
    stored = lightcurves.open(lightcurves.write(known, tmp_path / "known.parquet"))
    viewer = ExplanationViewer(new, cnn, training=stored)
    expected = ExplanationViewer(new, cnn, training=known).explanation.nearest
    pd.testing.assert_frame_equal(viewer.explanation.nearest, expected)


def test_another_band_and_several(cnn, new):
    other = new.copy()
    other["lightcurve.band"] = "r"
    viewer = ExplanationViewer(other, cnn)
    assert viewer.message.startswith("light curves in band r, but the model knows V; use")
    assert len(viewer.curves.source.data["mjd"]) == len(new["lightcurve"].iloc[0])
    assert len(viewer.still()) > 1000
    flat = new["lightcurve"].iloc[0].reset_index(drop=True).assign(object_id="two")
    both = pd.concat([flat, flat.iloc[::3].assign(band="r", mjd=flat["mjd"] + 0.01)])
    viewer = ExplanationViewer(lightcurves.from_flat(both), cnn)
    found, band = viewer.explanation, viewer.lc["band"].to_numpy()
    np.testing.assert_array_equal(np.isnan(found.shares), band == "r")
    alone = ExplanationViewer(new, cnn).explanation
    np.testing.assert_allclose(found.shares[band == "V"], alone.shares, atol=1e-7)
    assert "r" in viewer.curves.source.data["role"]


def test_follows_the_bus(new, cnn):
    bus = Selection(new)
    viewer = ExplanationViewer(new, cnn, selection=bus)
    other = LightCurveExplorer(new, selection=bus, image=False)
    whole = viewer.explanation
    other.next()
    assert str(new.index[1]) in viewer.description
    other.previous()
    other._clip.value = 1.0
    clipped = viewer.explanation
    assert np.isnan(clipped.shares).sum() == (~viewer.kept).sum() > 0
    assert np.abs(clipped.attribution - whole.attribution).max() > 0
    other._clip.value = 0.0
    assert viewer.explanation is whole


def test_explains_beside_the_kernels_own_work(new, cnn, known):
    async def live():
        viewer = ExplanationViewer(new, cnn, training=known)
        assert "explaining" in viewer._bars.value
        start = time.monotonic()
        for _ in range(4):
            viewer.next()
        stepped = time.monotonic() - start
        for _ in range(200):
            await asyncio.sleep(0.05)
            if "predicted" in viewer._bars.value:
                break
        return viewer, stepped

    viewer, stepped = asyncio.run(live())
    assert [key[0] for key in viewer._kept] in ([0, 4], [4])  # those passed by are not explained
    np.testing.assert_array_equal(
        viewer.curves.source.data["share"], viewer.explanation.shares[viewer.curves.drawn]
    )
    assert stepped < 2


def test_a_still_made_beside_a_running_loop_is_painted(new, cnn):
    async def made():
        viewer = ExplanationViewer(new, cnn)
        assert not len(viewer._map.data["x"])
        viewer._repr_mimebundle_()
        return viewer

    viewer = asyncio.run(made())
    found = viewer.explanation.attribution
    assert len(viewer._map.data["x"]) == np.count_nonzero(found) > 0
    assert viewer._colors[1].high == np.abs(found).max()
    assert viewer._colors[0].high == np.nanmax(np.abs(viewer.explanation.shares))


def test_the_still_and_the_line_that_revives(viewer):
    data, _ = viewer._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert "data:image/png;base64," in data["text/html"]
    assert "widgets.ExplanationViewer(lcs, model)" in data["text/html"]
