"""What a model file keeps, and what it refuses."""

import io
import json
import pickle
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
)
from sklearn.preprocessing import FunctionTransformer
from sklearn.tree import DecisionTreeClassifier

from skynb import dmdt, lightcurves, models

X = np.random.default_rng(1).normal(size=(80, 4))
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)
GRID = dmdt.Grid(dm=(-1, 0, 1), dt=(0, 1, 10))


def recipe(**changes):
    return models.Recipe(
        **{
            "kind": "forest",
            "options": {"node": "boosted", "options": {}},
            "seed": 0,
            "classes": ["EA", "EW"],
            "bands": ["V"],
            "features": ["mean", "skew"],
            "grid": GRID.to_dict(),
            "period_search": {"max_frequency": 12.0},
            "known": {"n_obs": [10, 300], "span": [100, 2000], "median_mag": [13, 19]},
            "training": {"n_objects": 2, "sha256": "0" * 64},
            "versions": models.versions(),
        }
        | changes
    )


@pytest.fixture
def saved(tmp_path):
    forest = RandomForestClassifier(3, random_state=0).fit(X, Y)
    parts = {"forest": forest, "edges": np.arange(3.0)}
    return models.save(parts, recipe(), {"accuracy": 0.5}, tmp_path / "model.skynb")


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewrite(path, changes):
    """Write the members of a model again, some changed or added; None leaves one out."""
    kept = members(path) | changes
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in kept.items():
            if data is not None:
                archive.writestr(name, data)
        archive.comment = models._seal(archive)
    return path


class Bomb:
    """Unpickling it leaves a trace."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_what_goes_in_comes_out(tmp_path):
    parts = {
        "numbers": np.arange(6, dtype=np.float32).reshape(2, 3),
        "names": np.array(["EW", "RS CVn"]),
        "weights": [np.zeros(2), np.ones((1, 2))],
        "nested": {"deep": [1, 2.5, None, "text", [True]]},
    }
    path = models.save(parts, recipe(), {"cite": "Drake et al."}, tmp_path / "m.skynb")
    found, about, card = models.load(path)
    assert found["numbers"].dtype == np.float32
    assert found["numbers"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["names"].tolist() == ["EW", "RS CVn"]
    assert [each.tolist() for each in found["weights"]] == [[0, 0], [[1, 1]]]
    assert found["nested"] == parts["nested"]
    assert about == recipe()
    assert about.classes == ("EA", "EW")
    assert card == {"cite": "Drake et al."}


def test_estimators_come_out_alike(tmp_path):
    holes = np.where(np.random.default_rng(2).random(X.shape) < 0.1, np.nan, X)
    fitted = [
        RandomForestClassifier(5, random_state=0).fit(holes, Y),
        ExtraTreesClassifier(5, random_state=0).fit(holes, Y),
        HistGradientBoostingClassifier(max_iter=5, max_features=0.5, random_state=0).fit(holes, Y),
        HistGradientBoostingClassifier(max_iter=5, random_state=0).fit(holes, Y > 0),
    ]
    detector = IsolationForest(n_estimators=5, random_state=0).fit(X)
    path = models.save({"all": [*fitted, detector]}, recipe(), {}, tmp_path / "m.skynb")
    *found, found_detector = models.load(path)[0]["all"]
    for before, after in zip(fitted, found, strict=True):
        assert np.array_equal(before.predict_proba(holes), after.predict_proba(holes))
    assert np.array_equal(detector.score_samples(X), found_detector.score_samples(X))


def test_a_file_is_one_zip_without_a_pickle(saved):
    names = sorted(members(saved))
    assert names == ["0.skops", "1.npy", "card.json", "parts.json", "recipe.json"]
    assert json.loads(members(saved)["card.json"]) == {"accuracy": 0.5}
    assert json.loads(members(saved)["recipe.json"])["grid"]["normalization"] == "counts"


def test_what_cannot_be_kept_leaves_no_file(tmp_path):
    with pytest.raises(TypeError, match="not JSON serializable"):
        models.save({"a": object()}, recipe(), {}, tmp_path / "m.skynb")
    with pytest.raises(ValueError, match="allow_pickle"):
        models.save({"a": np.array([{}])}, recipe(), {}, tmp_path / "m.skynb")
    assert not list(tmp_path.iterdir())


def test_a_failed_write_keeps_the_older_file(saved):
    before = saved.read_bytes()

    def fill():
        with lightcurves.whole(saved) as part:
            part.write_bytes(b"half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"cannot write .*m.* free some space"):
        fill()
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["model.skynb"]


# A stranger's file.


def refused(path, match):
    with pytest.raises(models.ModelError, match=match) as caught:
        models.load(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model .*nothing.skynb; check the name"):
        models.load(tmp_path / "nothing.skynb")


@pytest.mark.parametrize("keep", [0, 1, 30, 0.5, 0.9, -1])
def test_a_file_cut_short(saved, keep):
    data = saved.read_bytes()
    saved.write_bytes(data[: int(keep * len(data)) if 0 < keep < 1 else keep])
    refused(saved, "is not a model, or damaged .*; get it again")


def test_a_flipped_bit(saved):
    data = bytearray(saved.read_bytes())
    data[len(data) // 3] ^= 1
    saved.write_bytes(data)
    refused(saved, "is not a model, or damaged")


def test_a_pickle(saved, tmp_path):
    trace = tmp_path / "trace"
    saved.write_bytes(pickle.dumps(Bomb(trace)))
    refused(saved, "is not a model")
    assert not trace.exists()


def test_a_pickle_among_the_members(saved, tmp_path):
    trace = tmp_path / "trace"
    refused(rewrite(saved, {"2.pkl": pickle.dumps(Bomb(trace))}), "it holds '2.pkl'")
    assert not trace.exists()


@pytest.mark.parametrize("shape", ["pickle", "array"])
def test_a_pickle_in_an_array(saved, tmp_path, shape):
    trace, buffer = tmp_path / "trace", io.BytesIO()
    if shape == "array":
        np.save(buffer, np.array([Bomb(trace)]), allow_pickle=True)
    else:
        buffer.write(pickle.dumps(Bomb(trace)))
    refused(rewrite(saved, {"1.npy": buffer.getvalue()}), "allow_pickle=False|magic string")
    assert not trace.exists()


@pytest.mark.parametrize("name", ["../evil.npy", "/etc/evil.npy", "a/b.npy", "0.py", "..\\1.npy"])
def test_a_member_that_wants_out(saved, name):
    refused(rewrite(saved, {name: b"evil"}), "as no model does")
    assert [path.name for path in saved.parent.iterdir()] == ["model.skynb"]


def test_a_name_twice(saved):
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(saved, "a") as archive:
        archive.writestr("1.npy", b"another")
    refused(saved, "a name twice")


def test_a_file_that_unpacks_to_too_much(saved, monkeypatch):
    monkeypatch.setattr(models, "MAX_BYTES", 1000)
    refused(saved, "unpacks to more than 1000 bytes")
    monkeypatch.undo()
    monkeypatch.setattr(models, "MAX_JSON", 100)
    refused(saved, "unpacks to more than")


def hostile_schema(trace):
    """A skops file that would call Path.touch."""

    def json_node(value):
        kind = {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode"}
        return kind | {"content": json.dumps(value), "is_json": True}

    path = {"__class__": "PosixPath", "__module__": "pathlib"}
    args = {"__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode"}
    args["content"] = [json_node(str(trace))]
    path |= {"__loader__": "ConstructorFromReduceNode", "content": args}
    method = {
        "__class__": "methodcaller",
        "__module__": "operator",
        "__loader__": "OperatorFuncNode",
    }
    method["attrs"] = args | {"content": [json_node("touch")]}
    content = {"__class__": "list", "__module__": "builtins", "__loader__": "ListNode"}
    schema = content | {"content": [path, method], "protocol": 2, "_skops_version": "0.16.0"}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("schema.json", json.dumps(schema))
    return buffer.getvalue()


def test_an_estimator_with_a_type_not_allowed(saved, tmp_path):
    trace = tmp_path / "trace"
    refused(rewrite(saved, {"0.skops": hostile_schema(trace)}), "not one of models.ALLOWED")
    # skops itself trusts these: any estimator of scikit-learn, any function of numpy
    trusted = skops.io.dumps(FunctionTransformer(np.log))
    assert skops.io.get_untrusted_types(data=trusted) == []
    refused(rewrite(saved, {"0.skops": trusted}), "FunctionTransformer|FunctionNode")
    assert not trace.exists()


@pytest.mark.parametrize("harm", ["child", "feature", "loop", "count"])
def test_a_forest_whose_trees_lead_outside(saved, harm):
    forest = RandomForestClassifier(2, random_state=0).fit(X, Y)
    tree = forest.estimators_[1].tree_
    if harm == "count":
        tree.capacity = tree.node_count - 1
        with pytest.raises(models.ModelError, match="points outside itself"):
            models._check_trees(forest)
        return
    state = tree.__getstate__()
    nodes = state["nodes"].copy()
    column, value = {
        "child": ("right_child", 10**6),
        "feature": ("feature", 10**6),
        "loop": ("left_child", 0),
    }[harm]
    nodes[column][0] = value
    tree.__setstate__(state | {"nodes": nodes})
    refused(rewrite(saved, {"0.skops": skops.io.dumps(forest)}), "a tree in it points outside")


@pytest.mark.parametrize(
    ("column", "value"), [("left", 10**6), ("feature_idx", 4), ("is_categorical", 1)]
)
def test_boosting_whose_trees_lead_outside(saved, column, value):
    boosted = HistGradientBoostingClassifier(max_iter=2, random_state=0).fit(X, Y)
    boosted._predictors[1][2].nodes[column][0] = value
    refused(rewrite(saved, {"0.skops": skops.io.dumps(boosted)}), "a tree in it points outside")


def test_a_lone_tree_no_nodes_and_a_step_before_the_trees(saved):
    tree = DecisionTreeClassifier().fit(X, Y)
    state = tree.tree_.__getstate__()
    nodes = state["nodes"].copy()
    nodes["left_child"][0] = 10**6
    tree.tree_.__setstate__(state | {"nodes": nodes})
    empty = HistGradientBoostingClassifier(max_iter=2, random_state=0).fit(X, Y)
    empty._predictors[0][0].nodes = empty._predictors[0][0].nodes[:0]
    stepped = HistGradientBoostingClassifier(max_iter=2, random_state=0).fit(X, Y)
    stepped._preprocessor = PCA(2)
    for estimator in (tree, empty, stepped):
        refused(rewrite(saved, {"0.skops": skops.io.dumps(estimator)}), "points outside itself")


def test_a_file_changed_by_hand(saved):
    text = members(saved)["recipe.json"].replace(b"EA", b"EB")
    kept = members(saved) | {"recipe.json": text}
    with zipfile.ZipFile(saved) as archive:
        comment = archive.comment
    with zipfile.ZipFile(saved, "w") as archive:
        for name, data in kept.items():
            archive.writestr(name, data)
        archive.comment = comment
    refused(saved, "was changed after it was written")


def changed(saved, **changes):
    text = json.loads(members(saved)["recipe.json"]) | changes
    text = {key: value for key, value in text.items() if value != "gone"}
    return rewrite(saved, {"recipe.json": json.dumps(text)})


def test_another_format_or_version(saved, tmp_path):
    for key, value, match in [
        ("format", 99, "another format than 1"),
        ("versions", models.versions() | {"scikit-learn": "0.1.2"}, "made with scikit-learn 0.1.2"),
        ("versions", models.versions() | {"skynb": "99.0.0"}, "made with skynb 99.0.0, here is"),
        ("grid", "gone", "recipe lacks an entry"),
        ("extra", 1, "has one more"),
    ]:
        copy = shutil.copy(saved, tmp_path / "copy.skynb")
        refused(changed(Path(copy), **{key: value}), match)
    patch = models.versions()["skynb"].rsplit(".", 1)[0] + ".999"
    models.load(changed(saved, versions=models.versions() | {"skynb": patch}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("classes", "ABC"),
        ("classes", ["EA", "EA"]),
        ("classes", [1, 2]),
        ("bands", "V"),
        ("seed", "x"),
        ("known", {}),
        ("known", {"n_obs": [1, 2], "span": [1, 2], "more": [1, 2]}),
        ("known", {"n_obs": [2, 1], "span": [1, 2], "median_mag": [1, 2]}),
        ("period_search", {"max_frequency": -1}),
        ("period_search", {"max_frequency": 1e15}),
        ("period_search", {"max_frequency": "12"}),
        ("known", {"n_obs": ["a", "b"], "span": [1, 2], "median_mag": [1, 2]}),
        ("period_search", None),
        ("period_search", {"max_frequency": True}),
        ("seed", -1),
        ("options", []),
    ],
)
def test_a_recipe_that_makes_no_sense(saved, name, value):
    refused(changed(saved, **{name: value}), f"its recipe has {name} ")


@pytest.mark.parametrize(
    "parts",
    ["[1", '{"unknown": 1}', '{"array": "9.npy"}', '{"array": "../x"}', "[" * 9999, "null", "{}"],
)
def test_parts_that_make_no_sense(saved, parts):
    refused(rewrite(saved, {"parts.json": parts}), "is not a model, or damaged")


# The recipe.


def table(n_obs=20, span=500.0, mag=16.0, band="V"):
    mjd = np.linspace(0, span, n_obs)
    frame = {"object_id": "a", "mjd": mjd, "mag": mag, "magerr": 0.1, "band": band}
    return lightcurves.from_flat(pd.DataFrame(frame))


def test_the_recipe_refuses_data_made_another_way():
    recipe().check(bands=["V"], grid=GRID, features=["skew", "mean", "more"])
    with pytest.raises(ValueError, match=r"in band r, but the model knows V; use .*select_band"):
        recipe().check(bands=["r"])
    with pytest.raises(ValueError, match="images on another grid than the model's, Grid"):
        recipe().check(grid=GRID.with_normalization("max"))
    with pytest.raises(ValueError, match=r"1 of the model's 2 features are missing.*'skew'"):
        recipe().check(features=["mean"])


def test_flags_say_why():
    assert recipe().flags(table()) == [""]
    assert recipe().flags(table(n_obs=4)) == ["too few points (4, the model knows 10 and more)"]
    assert recipe().flags(table(n_obs=4000)) == [""]
    assert recipe().flags(table(span=3000)) == ["time span (3000, the model knows 100 to 2000)"]
    (said,) = recipe().flags(table(span=50, mag=21))
    assert said == (
        "time span (50, the model knows 100 to 2000); "
        "magnitude range (21, the model knows 13 to 19)"
    )


def test_what_is_known_are_the_ranges_of_the_training_objects():
    found = models.known(table())
    assert found == {"n_obs": [20, 20], "span": [500, 500], "median_mag": [16, 16]}
    assert replace(recipe(), known=found).flags(table()) == [""]


def test_the_fingerprint_knows_data_and_labels():
    first = models.fingerprint(table(), ["EW"])
    assert first == models.fingerprint(table(), np.array(["EW"]))
    assert first["n_objects"] == 1
    others = [models.fingerprint(table(), ["EA"]), models.fingerprint(table(mag=16.1), ["EW"])]
    others.append(models.fingerprint(table(band="r"), ["EW"]))
    assert len({each["sha256"] for each in [first, *others]}) == 4
