"""A trained model on a file of light curves: one row per object that went in, whatever happens."""

import logging
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from skynb import classify, cli, lightcurves, predict, simulate

CLASSES = ("EA", "RRab")


@pytest.fixture(scope="module")
def model():
    lcs = simulate.lightcurves(n_per_class=12, classes=CLASSES, seed=3)
    options = {"n_trees": 10}
    trained = classify.LightCurveClassifier("extra_trees", options=options, max_frequency=2.0)
    return trained.fit(lcs, lcs["label"])


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    return model.save(tmp_path_factory.mktemp("model") / "model.skynb")


@pytest.fixture(scope="module")
def lcs():
    return simulate.lightcurves(n_per_class=6, classes=CLASSES, seed=4)


@pytest.fixture(scope="module")
def flat(lcs):
    """The same objects, one row per observation."""
    arrays = lightcurves.arrays(lcs)
    columns = {name: getattr(arrays, name) for name in ("mjd", "mag", "magerr")}
    return pd.DataFrame({"object_id": lcs.index[arrays.objects], **columns, "band": "V"})


@pytest.fixture
def small(monkeypatch):
    """Chunks so small that objects straddle them."""
    monkeypatch.setattr(predict, "CHUNK_ROWS", 700)


def run(model, path):
    out = path.parent / "out.parquet"
    told = predict.file(model, path, out, progress=False)
    return pq.read_table(out).to_pandas().set_index("object_id"), told


def as_file(frame, path):
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    elif path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        Table.from_pandas(frame).write(path, format="ascii.ecsv")
    return path


def test_one_row_per_object(model, lcs, tmp_path):
    found, told = run(model, lightcurves.write(lcs, tmp_path / "lcs.parquet"))
    assert found.index.tolist() == lcs.index.tolist()
    names = ["label", "probability_EA", "probability_RRab", "outlier_score", "flag"]
    assert list(found) == names
    data = model.measure(lcs)
    np.testing.assert_allclose(found[names[1:3]], model.predict_proba(data))
    assert found["label"].tolist() == model.predict(data).tolist()
    np.testing.assert_allclose(found["outlier_score"], model.outlier_score(data))
    assert found["flag"].tolist() == model.recipe_.flags(lcs)
    n_flagged = (found["flag"] != "").sum()
    assert told == {"n_objects": 12, "n_flagged": n_flagged, "n_unlabelled": 0, "dropped": {}}


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".ecsv"])
def test_every_kind_of_file_in_chunks_or_whole(model, lcs, flat, tmp_path, suffix, small):
    whole, _ = run(model, lightcurves.write(lcs, tmp_path / "lcs.parquet"))
    found, _ = run(model, as_file(flat, tmp_path / f"flat{suffix}"))
    pd.testing.assert_frame_equal(found, whole)


@pytest.mark.parametrize("rows", [1, 3, 700])
def test_the_size_of_chunks_changes_nothing(model, lcs, flat, tmp_path, rows, monkeypatch):
    expected, _ = run(
        model, as_file(flat[flat["object_id"].isin(lcs.index[:3])], tmp_path / "a.csv")
    )
    monkeypatch.setattr(predict, "CHUNK_ROWS", rows)
    nested, _ = run(model, lightcurves.write(lcs[:3], tmp_path / "nested.parquet"))
    pd.testing.assert_frame_equal(nested, expected)
    if rows > 1:
        found, _ = run(
            model, as_file(flat[flat["object_id"].isin(lcs.index[:3])], tmp_path / "b.csv")
        )
        pd.testing.assert_frame_equal(found, expected)


def test_a_chunk_of_nested_objects_holds_few_observations(lcs, tmp_path, monkeypatch):
    path = lightcurves.write(lcs, tmp_path / "lcs.parquet")
    monkeypatch.setattr(predict, "CHUNK_ROWS", len(lightcurves.arrays(lcs).mjd) // 4)
    sizes = [len(ids) for ids, _ in predict._chunks(path, predict.COLUMNS)]
    assert len(sizes) >= 4
    assert max(sizes) <= len(lcs) // 3


def test_rows_that_lie_apart(model, flat, tmp_path, monkeypatch):
    sorted_by_time = flat.sort_values("mjd")
    found, _ = run(model, as_file(sorted_by_time, tmp_path / "apart.parquet"))
    assert found.index.tolist() == sorted_by_time["object_id"].unique().tolist()
    expected, _ = run(model, as_file(flat, tmp_path / "flat.parquet"))
    pd.testing.assert_frame_equal(found.loc[expected.index], expected)
    monkeypatch.setattr(predict, "MAX_UNSORTED", 1000)
    with pytest.raises(ValueError, match="lie apart; sort it by object_id first"):
        run(model, tmp_path / "apart.parquet")


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".ecsv"])
def test_an_object_that_the_door_leaves_empty_has_a_row(model, flat, tmp_path, suffix, small):
    bad = flat.copy()
    names = bad["object_id"].unique()
    bad.loc[bad["object_id"] == names[2], "mag"] = np.nan
    found, told = run(model, as_file(bad, tmp_path / f"bad{suffix}"))
    assert found.index.tolist() == names.tolist()
    assert found["flag"].tolist()[2] == "no usable observation"
    assert pd.isna(found["label"].iloc[2])
    assert found.iloc[2, 1:4].isna().all()
    assert found["label"].drop(names[2]).notna().all()
    assert told["n_unlabelled"] == 1
    if suffix != ".ecsv":
        lost = sum(count for why, count in told["dropped"].items() if "empty" not in why)
        assert lost == (bad["object_id"] == names[2]).sum()


def test_a_file_with_nothing_usable(model, flat, tmp_path):
    found, told = run(model, as_file(flat.assign(magerr=-1.0), tmp_path / "bad.csv"))
    assert (found["flag"] == "no usable observation").all()
    assert told["n_unlabelled"] == 12


def test_an_empty_nested_light_curve_has_a_row(model, lcs, tmp_path, small):
    table = pq.read_table(lightcurves.write(lcs, tmp_path / "lcs.parquet"))
    lists = table["lightcurve"].to_pylist()
    lists[0], lists[5] = {name: [] for name in lists[0]}, None
    table = table.set_column(
        table.column_names.index("lightcurve"),
        "lightcurve",
        pa.array(lists, table.schema.field("lightcurve").type),
    )
    pq.write_table(table, tmp_path / "holes.parquet")
    found, _ = run(model, tmp_path / "holes.parquet")
    assert found.index.tolist() == lcs.index.tolist()
    assert np.flatnonzero(found["label"].isna()).tolist() == [0, 5]


def test_flags_say_what_is_not_known(model, flat, tmp_path):
    names = flat["object_id"].unique()
    first, second = (flat["object_id"] == name for name in names[:2])
    odd = flat.copy()
    odd.loc[first, "band"] = "r"
    odd.loc[second, "mag"] += 9
    odd = pd.concat([odd[~second], odd[second], flat[second].assign(band="g", mag=5.0)])
    odd = odd[(odd["object_id"] != names[2]) | (odd.groupby("object_id").cumcount() < 4)]
    found, told = run(model, as_file(odd, tmp_path / "odd.parquet"))
    plain, _ = run(model, as_file(flat, tmp_path / "flat.parquet"))
    assert found["flag"][names[0]].startswith("another band (r, the model knows V)")
    assert found["label"][names[0]] == plain["label"][names[0]]
    assert "magnitude range" in found["flag"][names[1]]
    assert "another band" not in found["flag"][names[1]]
    assert "too few points (4, the model knows" in found["flag"][names[2]]
    assert told["dropped"] == {"in other bands": second.sum()}


def test_a_file_that_states_no_band_is_taken_to_be_in_the_models(model, flat, tmp_path):
    found, _ = run(model, as_file(flat.drop(columns="band"), tmp_path / "no.csv"))
    expected, _ = run(model, as_file(flat, tmp_path / "flat.csv"))
    pd.testing.assert_frame_equal(found, expected)


def test_a_model_of_several_bands_judges_no_other(ztf_lcs, flat, tmp_path):
    lcs = pd.concat([ztf_lcs, ztf_lcs.set_index(ztf_lcs.index + "b")])
    model = classify.LightCurveClassifier("extra_trees", options={"n_trees": 5}, max_frequency=2.0)
    model.fit(lcs, np.tile(["a", "b", "b", "a", "a", "b", "b"], 2))
    found, _ = run(model, as_file(flat, tmp_path / "flat.csv"))
    assert found["label"].isna().all()
    assert found["flag"].str.startswith("another band (V, the model knows g, i, r); no us").all()
    path = lightcurves.write(ztf_lcs, tmp_path / "ztf.parquet")
    found, _ = run(model, path)
    assert found["label"].tolist() == model.predict(ztf_lcs).tolist()


@pytest.mark.parametrize(
    ("ids", "kind"),
    [
        (["7", "8"], pa.int64()),
        (["007", "8"], pa.string()),
        ([9007199254740993, 2], pa.int64()),
        (["a", "b"], pa.string()),
    ],
)
def test_ids_keep_every_digit(model, flat, tmp_path, ids, kind, small):
    names = flat["object_id"].unique()[:2]
    two = flat[flat["object_id"].isin(names)]
    two = two.assign(object_id=two["object_id"].map(dict(zip(names, ids, strict=True))))
    found, _ = run(model, as_file(two, tmp_path / "ids.csv"))
    assert [str(each) for each in found.index] == [str(each) for each in ids]
    assert pq.read_schema(tmp_path / "out.parquet").field("object_id").type == kind
    assert found["label"].notna().all()


def test_the_door_says_nothing_twice(model, flat, tmp_path, small, caplog):
    bad = flat.copy()
    bad.loc[::50, "mag"] = np.nan
    with caplog.at_level(logging.WARNING):
        _, told = run(model, as_file(bad, tmp_path / "bad.csv"))
    assert not caplog.records
    assert told["dropped"] == {"non-finite": len(bad[::50])}
    assert not logging.getLogger("skynb.lightcurves").filters


def test_bad_input_is_one_sentence_and_leaves_no_file(model, flat, tmp_path, small):
    late = flat.copy().astype({"mag": object})
    late.loc[late.index[-1], "mag"] = "bright"
    cases = {
        "late.csv": (late, "after row .*column 'mag' holds 'bright' in row"),
        "missing.csv": (flat.drop(columns="magerr"), "missing column magerr"),
        "nameless.csv": (flat.drop(columns="object_id"), "missing column object_id, found .*mjd"),
        "float.parquet": (flat.assign(object_id=1.5), "a float that may have lost digits"),
        "none.csv": (flat.assign(object_id=None), "names no object in row 1; fill it in"),
        "empty.csv": (flat[:0], "has no rows"),
    }
    for name, (frame, match) in cases.items():
        path = as_file(frame, tmp_path / name)
        with pytest.raises(ValueError, match=match) as said:
            run(model, path)
        assert "\n" not in str(said.value)
        assert not (tmp_path / "out.parquet").exists()
        path.unlink()
    for name, content, match in [
        ("damaged.parquet", b"PAR1 nothing PAR1", "not Parquet, or damaged"),
        ("zero.parquet", b"", "is empty; write or download it again"),
        ("strange.xyz", b"x", "unknown kind of file"),
        ("latin.csv", b"object_id,mjd,mag,magerr\n\xe9,1,2,3\n", r"latin.csv is not UTF-8"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=match):
            run(model, tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"no file .*gone\.csv"):
        run(model, tmp_path / "gone.csv")
    with pytest.raises(ValueError, match=r"go to a \.parquet file, not to .*out\.csv"):
        predict.file(model, tmp_path / "a.csv", tmp_path / "out.csv")


def test_only_a_line_that_starts_with_a_hash_is_a_comment(model, flat, tmp_path, small):
    plain = as_file(
        flat.assign(object_id=flat["object_id"].map("CSS#{}".format)), tmp_path / "a.csv"
    )
    expected, _ = run(model, plain)
    header, *rows = plain.read_text().splitlines(keepends=True)
    noted = tmp_path / "b.csv"
    noted.write_text("\ufeff# note\n" + header.replace(",", " ,") + "# more, of it\n".join(rows))
    pd.testing.assert_frame_equal(run(model, noted)[0], expected)
    assert expected.index.nunique() == flat["object_id"].nunique()


def test_the_light_curves_are_not_written_over(model, lcs, tmp_path):
    path = lightcurves.write(lcs, tmp_path / "lcs.parquet")
    with pytest.raises(ValueError, match="holds the light curves; choose another name"):
        predict.file(model, path, path)
    assert len(lightcurves.read(path)) == 12


def test_an_older_result_stays_if_a_chunk_fails(model, flat, tmp_path, small):
    run(model, as_file(flat, tmp_path / "good.csv"))
    before = (tmp_path / "out.parquet").read_bytes()
    late = flat.astype({"mag": object})
    late.loc[late.index[-1], "mag"] = "bright"
    with pytest.raises(ValueError, match="bright"):
        run(model, as_file(late, tmp_path / "late.csv"))
    assert (tmp_path / "out.parquet").read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_the_command(saved, lcs, tmp_path, capsys):
    path, out = lightcurves.write(lcs, tmp_path / "lcs.parquet"), tmp_path / "p" / "out.parquet"
    assert cli.main(["predict", str(saved), str(path), "-o", str(out)]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"{out}: 12 objects, ")
    assert len(pd.read_parquet(out)) == 12
    for arguments, match in [
        ([tmp_path / "no.skynb", path], "no model .*no.skynb"),
        ([path, path], "is not a model, or damaged"),
        ([saved, tmp_path / "no.csv"], "no file .*no.csv"),
    ]:
        assert cli.main(["predict", *map(str, arguments), "-o", str(out)]) == 2
        said = capsys.readouterr()
        assert not said.out
        assert len(said.err.splitlines()) == 1
        assert re.search(match, said.err)
