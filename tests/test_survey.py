"""A survey, partition by partition: the rows are those of one machine, whatever happens."""

import functools
import os
import signal
import subprocess
import sys
from pathlib import Path

import dask
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from skynb import classify, dmdt, features, lightcurves, periods, predict, survey

WITHOUT_PERIODS = functools.partial(features.extract, periods=False)


@pytest.fixture
def one_process():
    with dask.config.set(scheduler="sync"):
        yield


@pytest.fixture(scope="module")
def lcs(one_band_lcs):
    """Twenty-one objects with integer ids, all over the sky."""
    return one_band_lcs.set_axis(pd.RangeIndex(100, 121, name="object_id"))


def catalogue_of(lcs, path, rows=4):
    with dask.config.set(scheduler="sync"):
        written = survey.write(survey.catalogue(lcs, partition_rows=rows), path, progress=False)
    return survey.open(written)


@pytest.fixture(scope="module")
def catalogue(lcs, tmp_path_factory):
    return catalogue_of(lcs, tmp_path_factory.mktemp("survey") / "lcs")


@pytest.fixture(scope="module")
def model(lcs):
    forest = classify.LightCurveClassifier("forest", options={"n_trees": 10}, max_frequency=0)
    return forest.fit(lcs, lcs["label"].to_numpy(str))


def rows(path, lcs):
    """Return what was written of the objects, in their order."""
    return survey.open(path).compute(progress_bar=False).set_index("object_id").loc[lcs.index]


def measured(catalogue, path, lcs, *measures, **options):
    applied = survey.apply(catalogue, *measures, **options)
    return rows(survey.write(applied, path, progress=False), lcs)


def assert_same(table, expected, rtol=0.0):
    for name, column in expected.items():
        if column.dtype.kind == "f":
            found = table[name].to_numpy(float, na_value=np.nan)
            np.testing.assert_allclose(found, column.to_numpy(), rtol=rtol, err_msg=name)
        else:
            assert table[name].to_numpy(object, na_value=None).tolist() == column.tolist(), name


def partitions(path):
    return sorted((path / "dataset").glob("*/*/*.parquet"))


def test_with_a_pencil(one_process, tmp_path):
    flat = {"object_id": [7, 7, 7, 8], "mjd": [1.0, 2, 5, 1], "mag": [15.0, 16, 15, 14]}
    flat |= {"magerr": 0.1, "ra": [10.0, 10, 10, 200], "dec": [5.0, 5, 5, -40]}
    lcs = lightcurves.from_flat(pd.DataFrame(flat))
    catalogue = catalogue_of(lcs, tmp_path / "two", rows=1)
    assert catalogue.npartitions == 2

    def n_obs(lcs):
        return lightcurves.summary(lcs)["n_obs"].to_numpy()

    table = measured(catalogue, tmp_path / "out", lcs, n_obs)
    assert table["n_obs"].tolist() == [3, 1]
    assert list(table) == ["ra", "dec", "n_obs"]
    assert table["dec"].tolist() == [5.0, -40.0]


def test_rows_are_those_of_the_single_machine(one_process, catalogue, lcs, model, tmp_path):
    path = model.save(tmp_path / "model.skynb")
    measures = (dmdt.images, WITHOUT_PERIODS, periods.search, path)
    table = measured(catalogue, tmp_path / "out", lcs, *measures)
    images = np.stack(table["images"].tolist()).reshape(-1, *dmdt.GRID.shape)
    np.testing.assert_array_equal(images, dmdt.images(lcs))
    assert_same(table, features.extract(lcs, periods=False))
    assert_same(table, periods.search(lcs, progress=False), rtol=1e-10)
    file = lightcurves.write(lcs, tmp_path / "lcs.parquet")
    predict.file(model, file, tmp_path / "said.parquet", progress=False)
    said = pd.read_parquet(tmp_path / "said.parquet").set_index("object_id")
    assert_same(table, said.loc[lcs.index])


def test_a_model_and_its_path_say_the_same(one_process, catalogue, lcs, model, tmp_path):
    path = model.save(tmp_path / "model.skynb")
    one, two = (
        measured(catalogue, tmp_path / name, lcs, each)
        for name, each in (("object", model), ("path", str(path)))
    )
    pd.testing.assert_frame_equal(one, two)


def test_options_and_kept_columns(one_process, catalogue, lcs, tmp_path):
    grid = dmdt.Grid(dm=(-1, 0, 1), dt=(0, 2, 10), normalization="max")
    images = functools.partial(dmdt.images, grid=grid)
    table = measured(catalogue, tmp_path / "out", lcs, images, keep=["label"])
    assert table["label"].tolist() == lcs["label"].tolist()
    found = np.stack(table["images"].tolist()).reshape(-1, *grid.shape)
    np.testing.assert_array_equal(found, dmdt.images(lcs, grid=grid))


def test_nothing_is_computed_before_it_is_asked_for(one_process, catalogue, tmp_path):
    seen = []

    def noted(lcs):
        seen.append(len(lcs))
        return np.zeros(len(lcs))

    applied = survey.apply(catalogue, noted)
    assert seen == [1]  # the curve that tells the columns
    survey.write(applied, tmp_path / "out", progress=False)
    assert sum(seen) == 1 + 21
    assert len(seen) == 1 + catalogue.npartitions


def logged(log, stop=lambda n: None):
    """Return a measure that writes to a file which objects it measured, then calls ``stop``."""

    def noted(lcs):
        if lcs.index[0] == 0:
            return np.zeros(len(lcs))
        stop(len(log.read_text().splitlines()) if log.exists() else 0)
        with open(log, "a") as file:
            file.write(" ".join(map(str, lcs.index)) + "\n")
        return lightcurves.summary(lcs)["span"].to_numpy()

    return noted


def test_goes_on_after_an_error_and_repeats_nothing(one_process, catalogue, lcs, tmp_path):
    log, mended = tmp_path / "log", tmp_path / "mended"

    def stop(n_done):
        if n_done == 3 and not mended.exists():
            raise OSError("the disk is full")

    applied = survey.apply(catalogue, logged(log, stop))
    with pytest.raises(RuntimeError, match="the disk is full"):
        survey.write(applied, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()
    assert len(log.read_text().splitlines()) == 3
    mended.touch()
    table = rows(survey.write(applied, tmp_path / "out", progress=False), lcs)
    assert_same(table, pd.DataFrame({"noted": lightcurves.summary(lcs)["span"]}))
    assert sorted(log.read_text().split()) == sorted(map(str, lcs.index))  # each once
    survey.write(applied, tmp_path / "out", progress=False)
    assert len(log.read_text().split()) == 21
    assert [file.name for file in tmp_path.iterdir() if file.name.endswith(".part")] == []


KILLED = """
import os, signal, sys, dask
from pathlib import Path
from skynb import dmdt, survey
dask.config.set(scheduler="sync")
import lsdb.io
to_hats = sys.modules["lsdb.io.to_hats"]
where, folder, out = sys.argv[1], *map(Path, sys.argv[2:])
def kill(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)
def third(call, after=None):
    n = 0
    def counted(*args, **kwargs):
        nonlocal n
        n += 1
        if n == 3:
            after and after(*args, **kwargs)
            kill()
        return call(*args, **kwargs)
    return counted
def half(df, path, *args, **kwargs):
    Path(str(path)).write_bytes(b"PAR1 half a file")
if where == "in the file":
    to_hats.write_partition_parquet = third(to_hats.write_partition_parquet, half)
elif where == "before the mark":
    to_hats.write_done_pixel = third(to_hats.write_done_pixel)
elif where == "in the end":
    to_hats.remove_done_files = kill
survey.write(survey.apply(survey.open(folder), dmdt.images), out, progress=False)
"""


@pytest.mark.parametrize(
    ("where", "n_done"), [("in the file", 2), ("before the mark", 2), ("in the end", None)]
)
def test_goes_on_after_kill_9(one_process, catalogue, lcs, where, n_done, tmp_path):
    folder, out = Path(str(catalogue.hc_structure.catalog_path)), tmp_path / "out"

    def run(where):
        return subprocess.run([sys.executable, "-c", KILLED, where, folder, out]).returncode

    assert run(where) == -signal.SIGKILL
    part = tmp_path / ".out.part"
    assert part.exists()
    assert not out.exists()
    before = {file: file.stat().st_mtime_ns for file in partitions(part)}
    marks = {file.name for file in (part / "done").iterdir()}
    assert len(marks) == (n_done or catalogue.npartitions)
    table = measured(catalogue, out, lcs, dmdt.images)
    for file, written in before.items():
        order, pixel = (part_.split("=")[1] for part_ in (file.parts[-3], file.stem))
        if f"{order}_{pixel}_done" in marks:
            assert (out / file.relative_to(part)).stat().st_mtime_ns == written
    images = np.stack(table["images"].tolist()).reshape(-1, *dmdt.GRID.shape)
    np.testing.assert_array_equal(images, dmdt.images(lcs))


def test_another_result_is_not_mixed_in(one_process, catalogue, lcs, tmp_path):
    images, other = survey.apply(catalogue, dmdt.images), survey.apply(catalogue, WITHOUT_PERIODS)
    path = survey.write(images, tmp_path / "out", progress=False)
    with pytest.raises(FileExistsError, match="holds another result; choose another folder, or"):
        survey.write(other, path, progress=False)
    survey.write(other, path, overwrite=True, progress=False)
    assert "amplitude" in survey.open(path).columns
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match="mine is no catalogue; choose another folder"):
        survey.write(images, mine, overwrite=True, progress=False)
    assert (mine / "thesis.tex").exists()
    os.rename(path, tmp_path / ".out.part")
    with pytest.raises(FileExistsError, match="the beginnings of another result"):
        survey.write(images, path, progress=False)


def test_overwriting_loses_neither_the_catalogue_read_nor_the_old_result(
    one_process, lcs, tmp_path, monkeypatch
):
    catalogue = catalogue_of(lcs, tmp_path / "lcs")
    applied = survey.apply(catalogue, WITHOUT_PERIODS)
    for path in (tmp_path / "lcs", tmp_path):
        with pytest.raises(ValueError, match="holds the catalogue that is read; choose another"):
            survey.write(applied, path, overwrite=True, progress=False)
    assert len(survey.open(tmp_path / "lcs").compute(progress_bar=False)) == len(lcs)
    path = survey.write(applied, tmp_path / "out", progress=False)
    other = survey.apply(catalogue, dmdt.images)
    with monkeypatch.context() as patched:
        patched.setattr(type(other), "write_catalog", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            survey.write(other, path, overwrite=True, progress=False)
    assert "amplitude" in survey.open(path).columns
    survey.write(other, path, overwrite=True, progress=False)
    assert "amplitude" not in survey.open(path).columns
    assert sorted(one.name for one in tmp_path.iterdir()) == ["lcs", "out"]


def test_a_name_keeps_columns_apart(one_process, catalogue, lcs, tmp_path):
    def power(lcs):
        return np.arange(len(lcs))

    with pytest.raises(ValueError, match="'power' comes twice; name a measure, as in apply"):
        survey.apply(catalogue, power, periods.search)
    table = measured(catalogue, tmp_path / "out", lcs, power, second=power)
    assert table["power"].tolist() == table["second_power"].tolist()
    both = survey.apply(catalogue, dmdt.images, features.extract, period=periods.search)
    assert {"images", "power", "period_power"} <= set(both.columns)


def test_a_catalogue_made_anew_is_another(one_process, lcs, tmp_path):
    for n in (21, 20):
        catalogue = survey.catalogue(lcs.iloc[:n], partition_rows=30)
        survey.write(catalogue, tmp_path / "lcs", overwrite=True, progress=False)
        applied = survey.apply(survey.open(tmp_path / "lcs"), WITHOUT_PERIODS)
        if n == 21:
            survey.write(applied, tmp_path / "out", progress=False)
    with pytest.raises(FileExistsError, match="another result"):
        survey.write(applied, tmp_path / "out", progress=False)


def test_two_workers_one_killed(catalogue, lcs, model, tmp_path):
    """A worker that dies in the middle changes nothing; one thread each; memory stays bounded."""
    path, died = model.save(tmp_path / "model.skynb"), tmp_path / "died"

    def dies_once(lcs):
        import numba

        if 110 in lcs.index and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return np.full(len(lcs), numba.get_num_threads())

    def large(lcs):
        return np.ones((len(lcs), 4_000_000), np.float32)

    with survey.workers(2) as client:
        assert client.dashboard_link.startswith("http")
        applied = survey.apply(catalogue, dies_once, WITHOUT_PERIODS, path)
        survey.write(applied, tmp_path / "out", progress=False)
        client.wait_for_workers(2)
        before = survey.peak_memory(client)
        assert len(before) == 2
        survey.write(survey.apply(catalogue, large), tmp_path / "large", progress=False)
        grown = [after - before[w] for w, after in survey.peak_memory(client).items()]
    assert died.exists()
    table = rows(tmp_path / "out", lcs)
    assert table["dies_once"].tolist() == [1] * 21
    assert_same(table, features.extract(lcs, periods=False))
    assert_same(table, predict.objects(model, lcs))
    sizes = [pq.read_metadata(file).num_rows for file in partitions(tmp_path / "large")]
    assert sum(sizes) == 21
    assert max(grown) < 5 * 16 * max(sizes) < 21 * 16 * 2, grown  # MB: of partitions, not of all


def test_the_door_is_at_every_partition(one_process, lcs, tmp_path):
    """What comes from another reader is cleaned: unsorted, not finite, no usable observation."""
    flat = lcs["lightcurve"].nest.to_flat().reset_index()
    flat = flat.sample(frac=1, random_state=0)
    flat.loc[flat["object_id"] == 103, "mag"] = np.nan
    flat.iloc[:9, flat.columns.get_loc("magerr")] = [np.nan, 0, -1] * 3
    dirty = lcs.drop(columns="lightcurve").join_nested(flat.set_index("object_id"), "lightcurve")
    catalogue = catalogue_of(dirty, tmp_path / "dirty", rows=1)
    table = measured(catalogue, tmp_path / "out", lcs, dmdt.images, WITHOUT_PERIODS)
    clean = lightcurves.from_flat(flat)
    assert len(clean) == 20
    assert_same(table.loc[clean.index], features.extract(clean, periods=False))
    assert table.loc[103, ["images", "amplitude"]].isna().all()
    assert table["images"].isna().sum() == 1


def test_a_model_says_of_every_object_what_skynb_predict_does(one_process, lcs, model, tmp_path):
    flat = lcs["lightcurve"].nest.to_flat().reset_index()
    flat["band"] = flat["band"].where(flat["object_id"] > 104, "g")
    flat.loc[flat["object_id"] == 110, "mag"] = np.nan
    odd = lcs.drop(columns="lightcurve").join_nested(flat.set_index("object_id"), "lightcurve")
    catalogue = catalogue_of(odd, tmp_path / "odd")
    table = measured(catalogue, tmp_path / "out", lcs, model)
    flat.to_parquet(tmp_path / "flat.parquet")
    predict.file(model, tmp_path / "flat.parquet", tmp_path / "said.parquet", progress=False)
    said = pd.read_parquet(tmp_path / "said.parquet").set_index("object_id").loc[lcs.index]
    assert_same(
        table, said.assign(label=said["label"].astype(object).where(said["label"].notna(), None))
    )
    assert table["flag"].str.contains("another band").sum() == 5
    assert table["flag"][110] == "no usable observation"


def test_several_bands(one_process, ztf_lcs, tmp_path):
    ztf_lcs = ztf_lcs.set_axis(pd.RangeIndex(1, len(ztf_lcs) + 1, name="object_id"))
    flat = ztf_lcs["lightcurve"].nest.to_flat().reset_index()
    flat = flat[(flat["object_id"] != 2) | (flat["band"] == "r")]
    lcs = ztf_lcs.drop(columns="lightcurve").join_nested(flat.set_index("object_id"), "lightcurve")
    catalogue = catalogue_of(lcs, tmp_path / "bands", rows=1)
    with pytest.raises(RuntimeError, match=r"expected one band, found \['g', 'i', 'r'\]"):
        measured(catalogue, tmp_path / "mixed", lcs, dmdt.images)
    with pytest.raises(RuntimeError, match="or fix them by bands= of features"):
        measured(catalogue, tmp_path / "columns", lcs, WITHOUT_PERIODS)
    table = measured(catalogue, tmp_path / "g", lcs, WITHOUT_PERIODS, band="g")
    expected = features.extract(lightcurves.select_band(lcs, "g"), periods=False)
    assert_same(table.loc[expected.index], expected)
    assert table.loc[2, "amplitude"] is pd.NA
    all_bands = functools.partial(features.extract, periods=False, bands=["r", "g", "i"])
    table = measured(catalogue, tmp_path / "all", lcs, all_bands)
    assert_same(table, features.extract(lightcurves.clean(lcs), periods=False))


def test_a_model_that_changes_on_the_way(one_process, catalogue, model, tmp_path):
    path = model.save(tmp_path / "model.skynb")
    applied = survey.apply(catalogue, path)
    survey._load.cache_clear()
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(RuntimeError, match="has changed since the survey began"):
        survey.write(applied, tmp_path / "out", progress=False)


def test_an_empty_partition(one_process, catalogue, lcs, model, tmp_path):
    """A cone may leave partitions without an object; LSDB's own resume trips over those."""
    first = lcs.iloc[0]
    cone = catalogue.cone_search(first["ra"], first["dec"], 3600 * 25)
    inside = cone.compute(progress_bar=False).set_index("object_id")
    assert 0 < len(inside) < 21
    table = measured(cone, tmp_path / "out", inside, WITHOUT_PERIODS, model)
    assert_same(table, features.extract(lcs.loc[inside.index], periods=False))
    assert_same(table, predict.objects(model, lcs.loc[inside.index]))


def test_messages(one_process, catalogue, lcs, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no HATS catalogue at .*nowhere; check the path"):
        survey.open(tmp_path / "nowhere")
    bare = lcs.drop(columns="lightcurve").assign(lightcurve="a curve")
    bare = catalogue_of(bare, tmp_path / "bare").rename({"object_id": "name"})
    with pytest.raises(ValueError, match=r"no column object_id, lightcurve\.mjd, .*, only name,"):
        survey.apply(bare, dmdt.images)
    with pytest.raises(ValueError, match="no column colour, only"):
        survey.apply(catalogue, dmdt.images, keep=["colour"])
    with pytest.raises(ValueError, match="nothing to measure"):
        survey.apply(catalogue)
    with pytest.raises(ValueError, match="42 measures nothing; give functions such as features"):
        survey.apply(catalogue, 42)
    with pytest.raises(FileNotFoundError, match=r"no model images; check the path"):
        survey.apply(catalogue, "images")
    with pytest.raises(ValueError, match="column 'period' comes twice"):
        survey.apply(catalogue, periods.search, keep=["period"])
    with pytest.raises(ValueError, match=r"gives an array of shape \(3,\) for 1 objects"):
        survey.apply(catalogue, lambda lcs: [1, 2, 3])
    with pytest.raises(ValueError, match="gives other rows than it gets"):
        survey.apply(catalogue, lambda lcs: pd.DataFrame({"x": [1]}, index=[9]))
    with pytest.raises(ValueError, match="objects without 'dec' have no partition"):
        survey.catalogue(lcs.drop(columns="dec"))
    twice = pd.concat([lcs, lcs.iloc[:1]])
    with pytest.raises(RuntimeError, match="object_id 100 comes twice; keep one row"):
        measured(catalogue_of(twice, tmp_path / "twice"), tmp_path / "out", lcs, WITHOUT_PERIODS)


def test_cost():
    table = survey.cost(1000.0, n_cores=2, night=5.0)
    assert len(table) == 12
    lsst = table[(table["survey"] == "LSST") & (table["what"] == "all sources")].iloc[0]
    assert lsst["core_hours"] == pytest.approx(37e9 / 1000 / 3600)
    assert lsst["nights"] == pytest.approx(lsst["core_hours"] / 10)
    with pytest.raises(ValueError, match=r"0 per second on 1 cores in nights of 10.0 h"):
        survey.cost(0)
