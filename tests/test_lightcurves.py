import io
import json
import logging
import time
import tracemalloc

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units
from astropy.io import fits
from astropy.table import MaskedColumn, QTable, Table
from astropy.time import Time
from astropy.timeseries import TimeSeries
from nested_pandas import NestedFrame

from skynb import lightcurves

NOTHING = {
    "non-finite": 0,
    "magerr <= 0": 0,
    "outside time range": 0,
    "repeated times merged": 0,
    "objects left empty": 0,
}
CSV = "object_id,mjd,mag,magerr\n7,55000.5,14.25,0.125\n7,55001.5,14.5,0.25\n"


def flat(**columns):
    """Two objects with two observations each, and any column changed."""
    frame = {
        "object_id": [8, 8, 3, 3],
        "mjd": [2.0, 1.0, 5.0, 6.0],
        "mag": [15.0, 16.0, 17.0, 18.0],
        "magerr": [0.1, 0.2, 0.3, 0.4],
        "band": ["r", "g", "g", "g"],
    }
    return pd.DataFrame(frame | columns)


@pytest.fixture
def random_frame():
    """A thousand observations of twenty objects in two bands, shuffled."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 20, 1000)
    return pd.DataFrame(
        {
            "object_id": ids + 10**18,
            "mjd": rng.uniform(50_000, 60_000, 1000),
            "mag": rng.normal(15, 1, 1000),
            "magerr": rng.uniform(0.01, 0.2, 1000),
            "band": rng.choice(["g", "r"], 1000),
            "label": np.array(["EA", "RR"])[ids % 2],
            "ra": ids * 17.0,
            "dec": ids - 10.0,
            "period": np.where(ids % 3, ids + 1.0, np.nan),
        }
    )


def same(left, right):
    """Whether two tables hold the same objects and observations in the same order."""
    bases = [pd.DataFrame(lcs.loc[:, lcs.columns != "lightcurve"]) for lcs in (left, right)]
    pd.testing.assert_frame_equal(*bases)
    a, b = lightcurves.arrays(left), lightcurves.arrays(right)
    for name in ("offsets", "mjd", "mag", "magerr"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert a.band.to_pylist() == b.band.to_pylist()
    return True


# Pencil


def test_the_table_has_one_row_per_object_sorted_by_time():
    lcs = lightcurves.from_flat(flat())
    assert isinstance(lcs, NestedFrame)
    assert lcs.index.name == "object_id"
    assert lcs.index.dtype == "int64"
    assert lcs.index.to_list() == [8, 3]
    assert lcs["lightcurve"].array.field_names == ["mjd", "mag", "magerr", "band"]
    first = lcs.loc[8, "lightcurve"]
    assert first["mjd"].to_list() == [1.0, 2.0]
    assert first["mag"].to_list() == [16.0, 15.0]
    assert first["band"].to_list() == ["g", "r"]
    assert lcs.attrs["dropped"] == NOTHING


def test_nothing_dropped_is_nothing_said(caplog):
    lightcurves.from_flat(flat())
    assert not caplog.records


def test_without_a_band_it_is_clear():
    lcs = lightcurves.from_flat(flat().drop(columns="band"))
    assert lightcurves.bands(lcs) == ["clear"]
    assert lightcurves.one_band(lcs) == "clear"


def test_repeated_times_become_the_inverse_variance_mean():
    frame = flat(object_id=1, mjd=1.0, band=["r", "g", "g", "g"], magerr=[0.1, 0.1, 0.1, 0.2])
    lcs = lightcurves.from_flat(frame)
    flat_g = lightcurves.arrays(lightcurves.select_band(lcs, "g"))
    # weights 100, 100, 25: (1600 + 1700 + 450) / 225
    assert flat_g.mag == pytest.approx([3750 / 225])
    assert flat_g.magerr == pytest.approx([1 / 15])
    flat_r = lightcurves.arrays(lightcurves.select_band(lcs, "r"))
    assert flat_r.mag[0] == 15.0
    assert flat_r.magerr[0] == 0.1
    assert lcs.attrs["dropped"] == NOTHING | {"repeated times merged": 2}


def test_equal_times_of_different_objects_or_bands_stay_apart():
    lcs = lightcurves.from_flat(flat(mjd=1.0, band=["r", "g", "r", "g"]))
    assert len(lightcurves.arrays(lcs).mjd) == 4
    assert lightcurves.arrays(lcs).band.to_pylist() == ["g", "r", "g", "r"]


def test_the_door_counts_and_says_what_it_drops(caplog):
    frame = pd.DataFrame(
        {
            "object_id": [1, 1, 1, 1, 1, 1, 2, 3],
            "mjd": [1.0, 2.0, 3.0, 4.0, -5.0, 6.0, 1.0, np.nan],
            "mag": [15.0, np.nan, 15.0, 15.0, 15.0, 16.0, 15.0, 15.0],
            "magerr": [0.1, 0.1, 0.0, -0.1, 0.1, np.inf, 0.1, 0.1],
        }
    )
    lcs = lightcurves.from_flat(frame)
    assert lcs.index.to_list() == [1, 2]
    assert lightcurves.arrays(lcs).mjd.tolist() == [1.0, 1.0]
    assert lcs.attrs["dropped"] == NOTHING | {
        "non-finite": 3,
        "magerr <= 0": 2,
        "outside time range": 1,
        "objects left empty": 1,
    }
    assert [(r.name, r.levelno) for r in caplog.records] == [("skynb.lightcurves", logging.WARNING)]
    said = caplog.records[0].getMessage()
    assert said == (
        "cleaned 8 observations: 3 non-finite, 2 magerr <= 0, 1 outside time range, "
        "1 objects left empty"
    )


def test_a_time_range_of_ones_own():
    lcs = lightcurves.from_flat(flat(), time_range=(2.0, 5.0))
    assert lightcurves.arrays(lcs).mjd.tolist() == [2.0, 5.0]
    assert lcs.attrs["dropped"]["outside time range"] == 2


def test_arrays_of_two_objects():
    found = lightcurves.arrays(lightcurves.from_flat(flat()))
    assert found.offsets.dtype == np.int64
    assert found.offsets.tolist() == [0, 2, 4]
    assert found.mjd.dtype == found.mag.dtype == found.magerr.dtype == np.float64
    assert found.magerr.tolist() == [0.2, 0.1, 0.3, 0.4]
    assert found.objects.tolist() == [0, 0, 1, 1]
    assert found.band.to_pylist() == ["g", "r", "g", "g"]
    assert found.band_codes(["r", "g"]).tolist() == [1, 0, 1, 1]
    assert found.band_codes(["r"]).tolist() == [-1, 0, -1, -1]


def test_select_band_drops_objects_without_it_and_says_so(caplog):
    lcs = lightcurves.from_flat(flat(label=["EA", "EA", "EW", "EW"]))
    lcs.attrs["dataset"] = "mine"
    red = lightcurves.select_band(lcs, "r")
    assert isinstance(red, NestedFrame)
    assert red.index.to_list() == [8]
    assert red["label"].to_list() == ["EA"]
    assert lightcurves.arrays(red).mag.tolist() == [15.0]
    assert red.attrs["dataset"] == "mine"
    assert red.attrs["dropped"] == NOTHING | {"objects left empty": 1}
    assert lcs.attrs["dropped"] == NOTHING
    assert caplog.messages == ["1 of 2 objects have no observation in band r"]


def test_bands():
    lcs = lightcurves.from_flat(flat())
    assert lightcurves.bands(lcs) == ["g", "r"]
    assert lightcurves.one_band(lightcurves.select_band(lcs, "g")) == "g"


def test_fold():
    phase = lightcurves.fold([10.0, 11.0, 11.5, 9.0], 2.0, epoch=10.0)
    np.testing.assert_array_equal(phase, [0.0, 0.5, 0.75, 0.5])


def test_clip():
    lc = pd.DataFrame({"mag": [15.0, 15.1, 15.2, 19.0, 18.9, 19.0, 19.1], "band": [*"VVVVRRR"]})
    assert lightcurves.clip(lc, 5).tolist() == [True] * 3 + [False] + [True] * 3
    flat = pd.DataFrame({"mag": [15.0, 15.0, 15.0, 16.0], "band": "V"})
    assert lightcurves.clip(flat, 3).all()
    with pytest.raises(ValueError, match="clip at 0 sigma; give a positive number"):
        lightcurves.clip(lc, 0)


def test_binned():
    lc = pd.DataFrame(
        {
            "mjd": [0.1, 0.3, 1.2, 0.2],
            "mag": [15.0, 16.0, 17.0, 12.0],
            "magerr": [0.1, 0.2, 0.3, 0.1],
            "band": [*"VVVR"],
        }
    )
    bins = lightcurves.binned(lc, 1.0)
    assert bins["band"].tolist() == [*"RVV"]
    assert bins["n_obs"].tolist() == [1, 2, 1]
    np.testing.assert_allclose(bins["mjd"], [0.2, 0.2, 1.2])
    np.testing.assert_allclose(bins["mag"], [12.0, (100 * 15 + 25 * 16) / 125, 17.0])
    np.testing.assert_allclose(bins["magerr"], [0.1, 125**-0.5, 0.3])
    assert list(lightcurves.binned(lc.assign(phase=0.5), 0.2, by="phase")) == [
        *("phase", "mag", "magerr", "band", "n_obs")
    ]
    assert len(lightcurves.binned(lc[:0], 1.0)) == 0
    with pytest.raises(ValueError, match="bins of width 0; give a positive number"):
        lightcurves.binned(lc, 0)


def test_a_phase_is_never_one():
    assert lightcurves.fold(np.array([-1e-17]), 1.0)[0] == 0.0
    rng = np.random.default_rng(0)
    phase = lightcurves.fold(rng.uniform(-1e5, 1e5, 10_000), 0.1)
    assert phase.min() >= 0
    assert phase.max() < 1


def test_summary():
    table = lightcurves.summary(lightcurves.from_flat(flat()))
    assert table.index.to_list() == [8, 3]
    assert table["n_obs"].to_list() == [2, 2]
    assert table["n_bands"].to_list() == [2, 1]
    assert table["first_mjd"].to_list() == [1.0, 5.0]
    assert table["span"].to_list() == [1.0, 1.0]
    assert table["median_mag"].to_list() == [15.5, 17.5]
    np.testing.assert_allclose(table["median_magerr"], [0.15, 0.35])


def test_positions_per_epoch_become_their_median_also_across_zero():
    frame = flat(
        object_id=[1, 1, 1, 2], ra=[359.9, 0.1, 0.3, 180.0], dec=[-1.0, -3.0, np.nan, 45.0]
    )
    lcs = lightcurves.from_flat(frame)
    np.testing.assert_allclose(lcs["ra"], [0.1, 180.0], atol=1e-9)
    assert lcs["dec"].to_list() == [-2.0, 45.0]


def test_other_columns_are_kept_if_constant_and_named_if_not(caplog):
    frame = flat(survey="css", field=[1, 1, 2, 2], airmass=[1.0, 1.1, 1.2, 1.3])
    lcs = lightcurves.from_flat(frame)
    assert lcs["survey"].to_list() == ["css", "css"]
    assert lcs["field"].to_list() == [1, 2]
    assert "airmass" not in lcs
    assert lcs.attrs["left_out"] == ["airmass"]
    assert caplog.messages == ["left out columns with several values per object: ['airmass']"]


def test_a_label_given_once_per_object_is_enough():
    lcs = lightcurves.from_flat(flat(label=[None, "EA", "EW", None]))
    assert lcs["label"].to_list() == ["EA", "EW"]
    lcs = lightcurves.from_flat(flat(label=[None, None, "EW", None]))
    assert lcs["label"].isna().to_list() == [True, False]


# Invariants


def test_the_order_of_rows_changes_nothing(random_frame):
    expected = lightcurves.from_flat(random_frame)
    shuffled = lightcurves.from_flat(random_frame.sample(frac=1, random_state=1))
    assert sorted(shuffled.index) == sorted(expected.index)
    assert same(shuffled.loc[expected.index], expected)


def test_the_input_is_left_as_it_was(random_frame):
    before = random_frame.copy()
    lightcurves.from_flat(random_frame)
    pd.testing.assert_frame_equal(random_frame, before)


def test_the_table_does_not_share_memory_with_the_input(random_frame):
    frame = random_frame.sort_values(["object_id", "mjd"], ignore_index=True)
    lcs = lightcurves.from_flat(frame)
    found = lightcurves.arrays(lcs)
    for name in ("mjd", "mag", "magerr"):
        assert not np.shares_memory(getattr(found, name), frame[name].to_numpy())
    frame.loc[0, "mag"] = -99.0
    assert found.mag.min() > 0


def test_cleaning_twice_changes_nothing(random_frame):
    once = lightcurves.from_flat(random_frame)
    again = lightcurves.from_flat(once["lightcurve"].nest.to_flat())
    assert same(again, once[["lightcurve"]])


def test_bands_add_up(random_frame):
    lcs = lightcurves.from_flat(random_frame)
    parts = [lightcurves.select_band(lcs, band) for band in "gr"]
    assert sum(len(lightcurves.arrays(part).mjd) for part in parts) == 1000
    for band, part in zip("gr", parts, strict=True):
        expected = lightcurves.from_flat(random_frame[random_frame["band"] == band])
        assert same(part.sort_index(), expected.sort_index())


def test_arrays_are_views_of_the_table(random_frame):
    lcs = lightcurves.from_flat(random_frame)
    first, second = lightcurves.arrays(lcs), lightcurves.arrays(lcs)
    lists = lcs["lightcurve"].array.list_array.chunk(0)
    for name in ("mjd", "mag", "magerr"):
        column = lists.values.field(name).to_numpy()
        assert np.shares_memory(getattr(first, name), column)
        assert np.shares_memory(getattr(first, name), getattr(second, name))
        assert not getattr(first, name).flags.writeable
    assert np.shares_memory(first.offsets, second.offsets)


@pytest.mark.parametrize("rows", [slice(3, 9), [5, 2, 11], slice(None, None, -1)])
def test_arrays_of_part_of_a_table(random_frame, rows):
    lcs = lightcurves.from_flat(random_frame)
    part = lcs.iloc[rows]
    found = lightcurves.arrays(part)
    assert found.offsets[0] == 0
    for k in range(len(part)):
        lc = part["lightcurve"].iloc[k]
        here = slice(found.offsets[k], found.offsets[k + 1])
        np.testing.assert_array_equal(found.mjd[here], lc["mjd"])
        np.testing.assert_array_equal(found.mag[here], lc["mag"])
        assert found.band[here].to_pylist() == lc["band"].to_list()


def test_arrays_of_joined_tables(random_frame):
    lcs = lightcurves.from_flat(random_frame)
    assert same(pd.concat([lcs.iloc[:7], lcs.iloc[7:]]), lcs)


def test_arrow_lists_that_begin_later_or_hide_values():
    lists = pa.LargeListArray.from_arrays([0, 2, 3, 6], pa.array([1, 2, 3, 4, 5, 6]))
    offsets, values = lightcurves._flat(lists.slice(1))
    assert (offsets.tolist(), values.to_pylist()) == ([0, 1, 4], [3, 4, 5, 6])
    hidden = pa.LargeListArray.from_arrays(
        [0, 2, 3, 6], pa.array([1, 2, 3, 4, 5, 6]), mask=pa.array([True, False, False])
    )
    offsets, values = lightcurves._flat(hidden)
    assert (offsets.tolist(), values.to_pylist()) == ([0, 0, 1, 4], [3, 4, 5, 6])


def test_arrays_of_missing_light_curves():
    lcs = lightcurves.from_flat(flat()).reindex([3, 99, 8])
    found = lightcurves.arrays(lcs)
    assert found.offsets.tolist() == [0, 2, 2, 4]
    assert found.mjd.tolist() == [5.0, 6.0, 1.0, 2.0]


# Oracles


def test_folding_agrees_with_astropy():
    times = Time(np.random.default_rng(0).uniform(50_000, 50_100, 200), format="mjd", scale="tai")
    folded = TimeSeries(time=times).fold(period=3.7 * units.day, epoch_time=times[0])
    expected = (folded.time.to_value("day") / 3.7) % 1
    found = lightcurves.fold(times.mjd, 3.7, epoch=times.mjd[0])
    np.testing.assert_allclose((found - expected + 0.5) % 1, 0.5, rtol=0, atol=1e-9)


def test_the_door_agrees_with_a_loop(random_frame):
    frame = random_frame.copy()
    frame["mjd"] = frame["mjd"].round(-2)
    frame.loc[::37, "mag"] = np.nan
    lcs = lightcurves.from_flat(frame)
    for object_id, rows in frame.dropna(subset="mag").groupby("object_id"):
        expected = []
        for (mjd, band), same_time in rows.groupby(["mjd", "band"]):
            weight = 1 / same_time["magerr"] ** 2
            mean = (weight * same_time["mag"]).sum() / weight.sum()
            expected.append((mjd, mean, weight.sum() ** -0.5, band))
        lc = lcs.loc[object_id, "lightcurve"]
        numbers = np.array([row[:3] for row in expected])
        np.testing.assert_allclose(lc[["mjd", "mag", "magerr"]], numbers, rtol=1e-13)
        assert lc["band"].to_list() == [row[3] for row in expected]


def test_summary_agrees_with_pandas(random_frame):
    lcs = lightcurves.from_flat(random_frame)
    groups = random_frame.groupby("object_id")
    table = lightcurves.summary(lcs).sort_index()
    np.testing.assert_array_equal(table["n_obs"], groups.size())
    np.testing.assert_array_equal(table["n_bands"], groups["band"].nunique())
    np.testing.assert_array_equal(table["span"], groups["mjd"].max() - groups["mjd"].min())
    np.testing.assert_array_equal(table["median_mag"], groups["mag"].median())


# Files


def test_a_written_table_comes_back(tmp_path, random_frame, caplog):
    lcs = lightcurves.from_flat(pd.concat([random_frame, random_frame.iloc[:3]]))
    lcs.attrs["dataset"] = "mine"
    caplog.clear()
    path = lightcurves.write(lcs, tmp_path / "new" / "lcs.parquet")
    back = lightcurves.read(path)
    assert same(back, lcs)
    assert back.attrs == lcs.attrs
    assert back.attrs["dropped"]["repeated times merged"] == 3
    assert not caplog.records
    assert [file.name for file in path.parent.iterdir()] == ["lcs.parquet"]


@pytest.fixture
def stored(tmp_path, random_frame, monkeypatch):
    """The table of `random_frame`, and the same on disk, three objects together."""
    monkeypatch.setattr(lightcurves, "GROUP", 150)
    lcs = lightcurves.from_flat(random_frame)
    lcs.attrs["dataset"] = "mine"
    return lcs, lightcurves.open(lightcurves.write(lcs, tmp_path / "lcs.parquet"))


@pytest.mark.parametrize(
    "rows", [[0], [19, 3, 3, 0, 7], range(20), range(19, -1, -1), [-1, -20], [], 5]
)
def test_taking_from_disk_is_taking_from_memory(stored, rows):
    lcs, on_disk = stored
    assert same(lightcurves.take(on_disk, rows), lightcurves.take(lcs, rows))
    assert lightcurves.take(on_disk, rows).attrs == lcs.attrs


def test_a_table_on_disk_looks_like_one_in_memory(stored):
    lcs, on_disk = stored
    assert len(on_disk) == 20
    assert on_disk.index.equals(lcs.index)
    assert on_disk.columns.equals(lcs.columns)
    assert on_disk.attrs == lcs.attrs
    assert ("label" in on_disk, "redshift" in on_disk) == (True, False)
    pd.testing.assert_series_equal(on_disk["period"], lcs["period"])
    assert "20 light curves in" in repr(on_disk)
    with pytest.raises(KeyError, match=r"on disk; take some with lightcurves\.take"):
        on_disk["lightcurve"]
    with pytest.raises(IndexError):
        on_disk.take([20])


def test_only_the_pieces_asked_for_are_read_and_few_are_kept(stored, monkeypatch):
    _, on_disk = stored
    assert on_disk._file.num_row_groups == 7
    on_disk.take([0, 2])
    on_disk.take([1, 4])
    assert list(on_disk._read) == [0, 1]
    monkeypatch.setattr(lightcurves, "KEPT", 9_000)  # two pieces of some 4,500
    on_disk.take([19])
    assert list(on_disk._read) == [1, 6]


def test_a_file_in_one_piece_is_read_and_said(stored, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(lightcurves, "KEPT", 40_000)
    lcs, _ = stored
    assert "piece" not in caplog.text
    whole = pq.read_table(lightcurves.write(lcs, tmp_path / "pieces.parquet"))
    pq.write_table(whole, tmp_path / "whole.parquet", row_group_size=20)
    assert same(lightcurves.open(tmp_path / "whole.parquet").take([4, 2]), lcs.iloc[[4, 2]])
    assert "20 objects in one piece" in caplog.text
    assert "write it again with lightcurves.write" in caplog.text


def test_an_empty_table_on_disk(tmp_path, random_frame):
    lcs = lightcurves.from_flat(random_frame).iloc[:0]
    on_disk = lightcurves.open(lightcurves.write(lcs, tmp_path / "none.parquet"))
    assert len(on_disk) == 0
    assert len(lightcurves.take(on_disk, [])) == 0


def test_only_what_write_wrote_is_opened(tmp_path, random_frame):
    random_frame.to_parquet(tmp_path / "flat.parquet")
    lcs = lightcurves.from_flat(random_frame)
    lcs.reset_index().to_parquet(tmp_path / "nested.parquet")
    (tmp_path / "text.parquet").write_text(CSV)
    for name in ("flat", "nested", "text"):
        with pytest.raises(ValueError, match=f"{name}.parquet was not written by lightcurves.wr"):
            lightcurves.open(tmp_path / f"{name}.parquet")
    with pytest.raises(FileNotFoundError, match=r"no file .*no.parquet; check the name"):
        lightcurves.open(tmp_path / "no.parquet")


def test_text_ids_come_back_from_parquet(tmp_path):
    lcs = lightcurves.from_flat(flat(object_id=["b", "b", "007", "007"]))
    back = lightcurves.read(lightcurves.write(lcs, tmp_path / "lcs.parquet"))
    assert back.index.to_list() == ["b", "007"]
    assert back.index.dtype == "str"


@pytest.mark.parametrize("suffix", ["parquet", "csv", "ecsv"])
def test_flat_files(tmp_path, random_frame, suffix):
    path = tmp_path / f"lcs.{suffix}"
    if suffix == "parquet":
        random_frame.to_parquet(path)
    elif suffix == "csv":
        random_frame.to_csv(path, index=False)
    else:
        Table.from_pandas(random_frame).write(path)
    assert same(lightcurves.read(path), lightcurves.from_flat(random_frame))


def test_a_time_range_for_a_file(tmp_path):
    path = tmp_path / "lcs.csv"
    path.write_text(CSV)
    assert len(lightcurves.arrays(lightcurves.read(path, time_range=(0, 55_001))).mjd) == 1


@pytest.mark.parametrize("list_struct", [True, False])
def test_nested_parquet_of_others_is_cleaned(tmp_path, list_struct, caplog):
    frame = flat(mag=[15.0, np.nan, 17.0, 18.0]).set_index("object_id")
    frame["chip"] = 5
    lcs = NestedFrame({"label": ["EW", "EA"]}, index=pd.Index([3, 8], name="object_id"))
    lcs = lcs.join_nested(frame, "lightcurve").reset_index()
    lcs.to_parquet(tmp_path / "lcs.parquet", list_struct=list_struct)
    back = lightcurves.read(tmp_path / "lcs.parquet")
    assert back.index.to_list() == [3, 8]
    assert back["label"].to_list() == ["EW", "EA"]
    assert back["lightcurve"].array.field_names == ["mjd", "mag", "magerr", "band"]
    assert lightcurves.arrays(back).mag.tolist() == [17.0, 18.0, 15.0]
    assert back.attrs["dropped"]["non-finite"] == 1
    assert "1 non-finite" in caplog.text


def test_an_object_split_over_two_nested_rows_is_joined(tmp_path):
    one = lightcurves.from_flat(flat(object_id=5))
    two = lightcurves.from_flat(flat(object_id=5, mjd=[20.0, 21.0, 22.0, 23.0]))
    pd.concat([one, two]).reset_index().to_parquet(tmp_path / "lcs.parquet")
    back = lightcurves.read(tmp_path / "lcs.parquet")
    assert len(back) == 1
    assert lightcurves.arrays(back).mjd.tolist() == [1, 2, 5, 6, 20, 21, 22, 23]


def test_csv_with_byte_order_mark_comments_and_spaces(tmp_path):
    path = tmp_path / "lcs.csv"
    text = (
        "# from the telescope\r\n object_id ,mjd, mag,magerr,band\r\n"
        "007,55000.5, 14.25,0.125, g\r\n# clouds\r\n007,55001.5,14.5,0.25,g \r\n"
    )
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    lcs = lightcurves.read(path)
    assert lcs.index.to_list() == ["007"]
    assert lightcurves.bands(lcs) == ["g"]
    assert lightcurves.arrays(lcs).mag.tolist() == [14.25, 14.5]


def test_csv_numbers_are_read_to_the_last_digit(tmp_path, random_frame):
    path = tmp_path / "lcs.csv"
    random_frame.to_csv(path, index=False)
    found = lightcurves.arrays(lightcurves.read(path))
    assert set(found.mjd) == set(random_frame["mjd"])


def test_csv_gaps_are_dropped_and_counted(tmp_path):
    path = tmp_path / "lcs.csv"
    path.write_text(CSV + "7,55002.5,,0.1\n7,55003.5,nan,0.1\n")
    assert lightcurves.read(path).attrs["dropped"] == NOTHING | {"non-finite": 2}


def test_ecsv_units_and_times_are_converted(tmp_path):
    table = QTable(
        {
            "object_id": [7, 7],
            "mjd": Time(["2010-01-01T00:00:00", "2010-01-02T00:00:00"], scale="tai"),
            "mag": MaskedColumn([14250.0, 14500.0], unit="mmag"),
            "magerr": [0.125, 0.25],
            "period": [12.0, 12.0],
        }
    )
    table["period"].unit = "h"
    table.write(tmp_path / "lcs.ecsv")
    lcs = lightcurves.read(tmp_path / "lcs.ecsv")
    found = lightcurves.arrays(lcs)
    assert found.mjd.tolist() == [55197.0, 55198.0]
    np.testing.assert_allclose(found.mag, [14.25, 14.5])
    assert lcs["period"].to_list() == [0.5]


def kepler_file(path, mission="KEPLER", **columns):
    """Write a light curve as the mission does: five cadences, one a day."""
    quality = "SAP_QUALITY" if mission == "KEPLER" else "QUALITY"
    values = {
        "TIME": [100.0, 101.0, np.nan, 103.0, 104.0],
        "SAP_FLUX": [1e4] * 5,
        "SAP_FLUX_ERR": [1e2] * 5,
        "PDCSAP_FLUX": [1e4, 2e4, 1e4, np.nan, 1e4],
        "PDCSAP_FLUX_ERR": [1e2] * 5,
        quality: [0, 8192 if mission == "KEPLER" else 64, 0, 0, 32],
    } | columns
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column(
                name,
                "J" if name == quality else "D",
                array=value,
                unit="e-/s" if "FLUX" in name else None,
            )
            for name, value in values.items()
        ],
        name="LIGHTCURVE",
    )
    reference = 2454833 if mission == "KEPLER" else 2457000
    table.header.update(TIMESYS="TDB", BJDREFI=reference, BJDREFF=0.0, EXTVER=1)
    primary = fits.PrimaryHDU()
    primary.header.update(TELESCOP=mission, OBJECT="KIC 1234567", RA_OBJ=290.5, DEC_OBJ=44.5)
    fits.HDUList([primary, table]).writeto(path)
    return path


@pytest.mark.parametrize(
    ("mission", "band", "start", "zero_point"),
    [("KEPLER", "Kp", 54932.5, 25.10), ("TESS", "TESS", 57099.5, 20.44)],
)
def test_kepler_and_tess_files(tmp_path, caplog, mission, band, start, zero_point):
    lcs = lightcurves.read(kepler_file(tmp_path / "llc.fits", mission))
    assert caplog.messages == [
        "left out 1 cadences that the mission flags as useless",
        "cleaned 4 observations: 2 non-finite",
    ]
    assert lcs.index.to_list() == ["KIC 1234567"]
    assert lcs.loc["KIC 1234567", ["ra", "dec"]].to_list() == [290.5, 44.5]
    assert lightcurves.one_band(lcs) == band
    found = lightcurves.arrays(lcs)
    np.testing.assert_allclose(found.mjd, [start, start + 1], rtol=0, atol=1e-8)
    np.testing.assert_allclose(found.mag, zero_point - np.array([10, 10 + 2.5 * np.log10(2)]))
    np.testing.assert_allclose(found.magerr, 2.5 / np.log(10) * np.array([0.01, 0.005]))
    assert lcs.attrs["dropped"] == NOTHING | {"non-finite": 2, "flagged": 1}
    assert lcs.attrs["time_scale"] == "TDB, barycentric"
    assert lcs.attrs["flux"] == "pdcsap"


def test_kepler_zero_point_is_the_handbooks():
    band, zero_point, *_ = lightcurves.MISSIONS["kepler"]
    assert band == "Kp"
    assert zero_point - 2.5 * np.log10(1.74e5) == pytest.approx(12, abs=0.01)


def test_kepler_file_without_pdcsap_uses_sap(tmp_path):
    path = kepler_file(tmp_path / "llc.fits", PDCSAP_FLUX=[np.nan] * 5)
    lcs = lightcurves.read(path)
    assert lcs.attrs["flux"] == "sap"
    assert len(lightcurves.arrays(lcs).mjd) == 3


def test_negative_flux_is_dropped_without_a_numpy_warning(tmp_path):
    path = kepler_file(tmp_path / "llc.fits", PDCSAP_FLUX=[1e4, -1.0, 1e4, 0.0, 1e4])
    lcs = lightcurves.read(path)
    assert lcs.attrs["dropped"]["non-finite"] == 3


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path, monkeypatch):
    lcs = lightcurves.from_flat(flat())
    path = lightcurves.write(lcs, tmp_path / "lcs.parquet")
    before = path.read_bytes()

    def full(table, where, **options):
        where.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(OSError, match=r"cannot write .*lcs.parquet .*No space left.*; free some"):
        lightcurves.write(lcs, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# Messages


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"mag": ["15", "16", "faint", "18"]},
            "column 'mag' holds 'faint' in row 3, no number; correct it",
        ),
        (
            {"mag": [15, 16.5, "<17", 18]},
            "column 'mag' holds '<17' in row 3, no number",
        ),
        (
            {"mjd": pd.to_datetime(["2020-01-01"] * 4)},
            r"column 'mjd' holds Timestamp\('2020-01-01 00:00:00'\) in row 1, .*astropy.time.Time",
        ),
        ({"magerr": [True] * 4}, "column 'magerr' holds True in row 1, no number"),
        ({"ra": ["12h", "12h", "1", "2"]}, "column 'ra' holds '12h' in row 1, no number"),
        (
            {"mjd": [55000.0, 2455001.5, 55002.0, 55003.0]},
            r"column 'mjd' holds 2455001.5 in row 2, which is no MJD; .* subtract 2400000.5",
        ),
        (
            {"object_id": [1e18, 1e18, 2e18, 2e18]},
            "column 'object_id' holds 1e[+]18 in row 1, a float that may have lost digits; read it",
        ),
        (
            {"object_id": [1, 1, np.nan, 2]},
            "column 'object_id' holds 1.0 in row 1, a float that may have lost digits",
        ),
        (
            {"object_id": ["7", "7", "8.0", "8.0"]},
            "column 'object_id' holds '8.0' in row 3, written from a float .* lost digits",
        ),
        (
            {"object_id": ["1.0318e+18"] * 4},
            "'1.0318e[+]18' in row 1, written from a float that may have lost digits",
        ),
        (
            {"object_id": ["a", "a", None, "b"]},
            "column 'object_id' holds (None|nan) in row 3, which names no object; fill it in",
        ),
        (
            {"object_id": ["a", "a", 7, 7]},
            "column 'object_id' holds 7 in row 3, and ids are all integers or all text",
        ),
        ({"band": ["g", "g", None, "r"]}, "column 'band' holds (None|nan) in row 3, no name"),
        ({"band": ["g", "", "g", "r"]}, "column 'band' holds '' in row 2, no name"),
        ({"band": [1, 2, 2, 1]}, "column 'band' holds 1 in row 1, no name; give text"),
        (
            {"label": ["EA", "EW", "EA", "EA"]},
            "column 'label' holds 'EA' in row 1, but object 8 also has EW; give one label per",
        ),
        (
            {"period": [0.5, 0.5, 1.0, 1.5]},
            "column 'period' holds 1.0 in row 3, but object 3 also has 1.5; give one period",
        ),
        (
            {"mag": np.nan},
            r"no observation is left after cleaning \(4 non-finite, 2 objects left empty\)",
        ),
    ],
)
def test_bad_columns_are_named_with_row_and_remedy(columns, message):
    with pytest.raises(ValueError, match=message) as caught:
        lightcurves.from_flat(flat(**columns))
    assert "\n" not in str(caught.value)


def test_missing_columns_are_named_and_those_there_listed():
    frame = flat().rename(columns={"mjd": "time", "magerr": "err"})
    with pytest.raises(
        ValueError,
        match=r"missing column mjd, magerr; found \['object_id', 'time', .*; rename yours",
    ):
        lightcurves.from_flat(frame)


def test_a_column_given_twice():
    frame = pd.concat([flat(), flat()[["mag"]]], axis=1)
    with pytest.raises(ValueError, match="column 'mag' appears twice; rename or drop one"):
        lightcurves.from_flat(frame)


def test_a_table_without_rows():
    with pytest.raises(ValueError, match="the table has no rows"):
        lightcurves.from_flat(flat().iloc[:0])


def test_a_table_without_rows_in_a_file(tmp_path):
    flat().iloc[:0].to_parquet(tmp_path / "flat.parquet")
    lightcurves.write(lightcurves.from_flat(flat()).iloc[:0], tmp_path / "nested.parquet")
    (tmp_path / "flat.csv").write_text(CSV.splitlines()[0] + "\n")
    for name in ("flat.parquet", "nested.parquet", "flat.csv"):
        with pytest.raises(ValueError, match=rf"{name}: the table has no rows; give at least one"):
            lightcurves.read(tmp_path / name)


def test_mixed_bands_are_refused():
    with pytest.raises(ValueError, match=r"expected one band, found \['g', 'r'\]; use lightcurves"):
        lightcurves.one_band(lightcurves.from_flat(flat()))


def test_an_unknown_band():
    lcs = lightcurves.from_flat(flat())
    with pytest.raises(ValueError, match=r"no observation in band 'z'; the table has \['g', 'r'\]"):
        lightcurves.select_band(lcs, "z")


@pytest.mark.parametrize("period", [0.0, -1.0, np.nan])
def test_a_period_must_be_positive(period):
    with pytest.raises(ValueError, match=f"period is {period}; give a positive number of days"):
        lightcurves.fold([1.0], period)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"1", r"a.txt: unknown kind of file; light curves come as .parquet, .csv, .ecsv"),
        ("a.csv", b"", r"a.csv is empty; write or download it again"),
        ("a.csv", b"# only a comment\n", r"a.csv: not a CSV table .*Empty CSV file.*; one header"),
        ("a.csv", b"object_id,mjd\n1,2,3\n", r"a.csv: not a CSV table .*Expected 2 columns, got 3"),
        ("a.csv", b"mjd;mag\n1;2\n", r"a.csv: missing column object_id, .*found \['mjd;mag'\]"),
        (
            "a.csv",
            CSV.encode() + b"7,55002.5,bright,0.1\n",
            r"a.csv: column 'mag' holds 'bright' in row 3, no number",
        ),
        (
            "a.csv",
            CSV.encode() + b",55002.5,14.5,0.1\n",
            r"a.csv: column 'object_id' holds None in row 3, which names no object",
        ),
        (
            "a.csv",
            CSV.replace("7,", "7.0,").encode(),
            r"a.csv: column 'object_id' holds '7.0' in row 1, written from a float",
        ),
        ("a.parquet", b"PAR1 and then nothing", r"a.parquet: not a Parquet file, or a damaged one"),
        ("a.ecsv", b"object_id mjd\n1 2\n", r"a.ecsv: ECSV header line"),
        ("a.fits", b"SIMPLE", r"a.fits: not a light curve of Kepler, K2 or TESS .*convert it"),
    ],
)
def test_bad_files_are_named_in_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        lightcurves.read(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*lcs.csv; check the name"):
        lightcurves.read(tmp_path / "lcs.csv")


def test_fits_of_another_telescope(tmp_path):
    path = kepler_file(tmp_path / "llc.fits", "WISE")
    with pytest.raises(ValueError, match=r"not a light curve of Kepler, K2 or TESS .*'wise'"):
        lightcurves.read(path)


def test_ecsv_in_the_wrong_unit(tmp_path):
    table = Table(dict(pd.read_csv(io.StringIO(CSV))))
    table["mag"].unit = "Jy"
    table.write(tmp_path / "lcs.ecsv")
    with pytest.raises(ValueError, match="column 'mag' is in Jy; convert it to mag"):
        lightcurves.read(tmp_path / "lcs.ecsv")


def test_nested_parquet_without_a_field(tmp_path):
    lcs = lightcurves.from_flat(flat())
    lcs["lightcurve"] = lcs["lightcurve"].array.view_fields(["mjd", "mag"])
    lcs.reset_index().to_parquet(tmp_path / "lcs.parquet")
    with pytest.raises(ValueError, match=r"missing column magerr; found \['object_id', 'mjd', .*"):
        lightcurves.read(tmp_path / "lcs.parquet")


# Hazards


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_neighbouring_64_bit_ids_stay_apart(tmp_path, suffix):
    ids = [2**60 + 1, 2**60 + 1, 2**60 + 2, 2**60 + 2]
    frame = flat(object_id=ids)
    path = tmp_path / f"lcs.{suffix}"
    frame.to_parquet(path) if suffix == "parquet" else frame.to_csv(path, index=False)
    for lcs in (lightcurves.from_flat(frame), lightcurves.read(path)):
        assert lcs.index.to_list() == [2**60 + 1, 2**60 + 2]
        assert lcs.index.dtype == "int64"


def test_an_empty_64_bit_id_in_parquet_does_not_become_float(tmp_path):
    ids = pa.array([2**60 + 1, None, 2**60 + 2, 2**60 + 2])
    table = pa.Table.from_pandas(flat().drop(columns="object_id"))
    pq.write_table(table.append_column("object_id", ids), tmp_path / "lcs.parquet")
    with pytest.raises(ValueError, match="'object_id' holds None in row 2, which names no object"):
        lightcurves.read(tmp_path / "lcs.parquet")


def test_ids_beyond_int64_are_kept_as_text():
    big = np.array([2**63 + 1, 2**63 + 1, 2**63 + 2, 2**63 + 2], np.uint64)
    assert lightcurves.from_flat(flat(object_id=big)).index.to_list() == [
        "9223372036854775809",
        "9223372036854775810",
    ]
    huge = [10**30, 10**30, 7, 7]
    assert lightcurves.from_flat(flat(object_id=huge)).index.to_list() == ["1" + "0" * 30, "7"]


@pytest.mark.parametrize(
    "kind", ["int64[pyarrow]", "Int64", "category", "object", "int32", "string[pyarrow]"]
)
def test_ids_of_any_storage(kind):
    frame = flat()
    frame["object_id"] = frame["object_id"].astype(kind)
    lcs = lightcurves.from_flat(frame)
    text = kind == "string[pyarrow]"
    assert lcs.index.to_list() == (["8", "3"] if text else [8, 3])
    assert lcs.index.dtype == ("str" if text else "int64")


@pytest.mark.parametrize("kind", ["float32", "Float64", "double[pyarrow]", "object", "str"])
def test_numbers_of_any_storage(kind):
    frame = flat()
    frame["mag"] = frame["mag"].astype(kind)
    assert lightcurves.arrays(lightcurves.from_flat(frame)).mag.tolist() == [16, 15, 17, 18]


def test_an_infinite_time_is_no_julian_date():
    lcs = lightcurves.from_flat(flat(mjd=[np.inf, 1.0, -np.inf, 6.0]))
    assert lcs.attrs["dropped"] == NOTHING | {"non-finite": 2}


def test_columns_of_lists_are_left_out(caplog):
    lcs = lightcurves.from_flat(flat(stamp=[[1], [2], [3], [4]]))
    assert lcs.attrs["left_out"] == ["stamp"]
    assert caplog.messages == ["left out columns with several values per object: ['stamp']"]


def test_the_stray_time_of_catalina_is_dropped():
    lcs = lightcurves.from_flat(flat(mjd=[-2409998.5, 55000.0, 55001.0, 55002.0]))
    assert lightcurves.arrays(lcs).mjd.tolist() == [55000.0, 55001.0, 55002.0]
    assert lcs.attrs["dropped"]["outside time range"] == 1


def test_attrs_that_json_does_not_know_can_be_written(tmp_path):
    lcs = lightcurves.from_flat(flat())
    lcs.attrs["path"] = tmp_path
    back = lightcurves.read(lightcurves.write(lcs, tmp_path / "lcs.parquet"))
    assert back.attrs["path"] == str(tmp_path)
    json.dumps(back.attrs)


def test_a_million_rows_take_seconds_and_little_memory():
    rng = np.random.default_rng(0)
    n_obs = 1_000_000
    frame = pd.DataFrame(
        {
            "object_id": rng.integers(0, 20_000, n_obs),
            "mjd": rng.uniform(50_000, 60_000, n_obs),
            "mag": rng.normal(15, 1, n_obs),
            "magerr": 0.1,
        }
    )
    size = frame.memory_usage(index=False).sum()
    tracemalloc.start()
    start = time.perf_counter()
    lcs = lightcurves.from_flat(frame)
    seconds = time.perf_counter() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(lightcurves.arrays(lcs).mjd) == n_obs
    assert seconds < 10
    assert peak < 3 * size


def test_the_table_of_another_reader_is_cleaned(one_band_lcs):
    flat = one_band_lcs["lightcurve"].nest.to_flat().rename_axis("object_id").reset_index()
    flat = flat.sample(frac=1, random_state=0)
    flat.iloc[:7, flat.columns.get_loc("magerr")] = -1
    base = one_band_lcs.drop(columns="lightcurve")
    other = base.join_nested(flat.set_index("object_id"), "lightcurve")
    clean = lightcurves.clean(other)
    assert clean.attrs["dropped"]["magerr <= 0"] == 7
    known = lightcurves.from_flat(flat).loc[clean.index]
    for name in ("offsets", "mjd", "mag", "magerr"):
        one, two = (getattr(lightcurves.arrays(lcs), name) for lcs in (clean, known))
        np.testing.assert_array_equal(one, two)
    assert clean["label"].equals(one_band_lcs["label"])
