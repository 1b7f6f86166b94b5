"""Tests of dm-dt images: pencil, invariants, oracles, recovery, messages, hazards."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import light_curve
import numpy as np
import pandas as pd
import psutil
import pytest
from scipy.special import ndtr

from skynb import dmdt, lightcurves

SMALL = dmdt.Grid(dm=(-1, 0, 0.5, 1), dt=(0, 1, 10))
SPREAD = dataclasses.replace(SMALL, spread=True)


def counts_slow(mjd, mag, magerr=None, *, grid):
    """One light curve's counts, shape (n_dm, n_dt), by plain NumPy: the oracle of the kernels."""
    mjd, mag, magerr = dmdt.as_columns(mjd, mag, magerr, grid)
    cells = np.zeros(grid.shape, float if grid.spread else np.uint32)
    for i in range(len(mjd) - 1):
        dt, dm = mjd[i + 1 :] - mjd[i], mag[i + 1 :] - mag[i]
        column = np.searchsorted(grid.dt, dt, side="right") - 1
        inside = (column >= 0) & (column < grid.shape[1])
        if grid.spread:
            sigma = np.hypot(magerr[i], magerr[i + 1 :])
            share = np.diff(ndtr((np.array(grid.dm)[:, None] - dm) / sigma), axis=0)
            np.add.at(cells.T, column[inside], share.T[inside])
        else:
            row = np.searchsorted(grid.dm, dm, side="right") - 1
            inside &= (row >= 0) & (row < grid.shape[0])
            np.add.at(cells, (row[inside], column[inside]), 1)
    return cells


def peer(grid, *columns, **options):
    """light-curve's counts, shape (n_dm, n_dt)."""
    maker = light_curve.DmDt(
        np.array(grid.dt), np.array(grid.dm), dt_type="asis", dm_type="asis", **options
    )
    make = maker.gausses if len(columns) == 3 else maker.points
    return make(*columns, sorted=True).T


def curve(n, seed, digits=None):
    rng = np.random.default_rng(seed)
    mjd = 50_000 + np.cumsum(rng.gamma(0.3, 5, n) + 1e-4)
    mag = rng.normal(15, 0.6, n)
    if digits is not None:
        mjd, mag = np.unique(np.round(mjd, digits)), np.round(mag, digits)
    return mjd, mag[: len(mjd)]


def table(curves):
    frames = [
        pd.DataFrame({"object_id": k, "mjd": mjd, "mag": mag, "magerr": 0.05, "band": "V"})
        for k, (mjd, mag) in enumerate(curves)
    ]
    return lightcurves.from_flat(pd.concat(frames))


# pencil


def test_one_pair_one_cell():
    assert dmdt.image([0, 3], [15, 15.25], grid=SMALL).tolist() == [[0, 0], [0, 1], [0, 0]]


def test_cells_hold_their_lower_edge_only():
    def cell(dt, dm):
        return np.argwhere(dmdt.image([0, dt], [0, dm], grid=SMALL)).tolist()

    assert cell(0.5, -1) == [[0, 0]]
    assert cell(0.5, 0) == [[1, 0]]
    assert cell(1, 0.5) == [[2, 1]]
    assert cell(0.5, 1) == cell(10, 0) == cell(0.5, -1.01) == []


def test_published_grids():
    assert dmdt.GRID.shape == (22, 24)
    assert dmdt.SCOPE_GRID.shape == (26, 26)
    assert dmdt.GRID.dm[11] == 0
    assert dmdt.GRID.dt[:2] == (0, 1 / 145)


def test_normalizations_by_hand():
    counts = np.array([[3, 0], [1, 0], [0, 4]], np.uint32)
    expected = {
        "counts": counts,
        "pairs255": 255 * counts / 10,
        "p(dm|dt)": [[0.75, 0], [0.25, 0], [0, 1]],
        "max": counts / 4,
        "l2": counts / np.sqrt(26),
    }
    assert tuple(expected) == dmdt.NORMALIZATIONS
    for name, values in expected.items():
        grid = SMALL.with_normalization(name)
        assert np.allclose(dmdt.normalize(counts, 10, grid=grid), values, rtol=1e-6)
        assert grid.check(dmdt.normalize(counts, 10, grid=grid)[None]).shape == (1, 3, 2)


def test_spread_pair_is_a_gaussian():
    image = dmdt.image([0, 3], [15, 15.5], [0.3, 0.4], grid=SPREAD)
    assert np.allclose(image[:, 1], [0.15731, 0.34134, 0.34134], atol=1e-5)
    assert not image[:, 0].any()


# invariants


@pytest.mark.parametrize("normalization", dmdt.NORMALIZATIONS)
@pytest.mark.parametrize("spread", [False, True])
def test_plural_is_the_stack_of_the_singular(one_band_lcs, normalization, spread):
    grid = dataclasses.replace(dmdt.GRID, normalization=normalization, spread=spread)
    images = dmdt.images(one_band_lcs, grid=grid)
    stack = [
        dmdt.image(lc["mjd"], lc["mag"], lc["magerr"], grid=grid)
        for lc in one_band_lcs["lightcurve"]
    ]
    assert images.dtype == stack[0].dtype
    assert np.array_equal(images, np.stack(stack))
    assert grid.check(images) is images


def test_chunks_and_threads_do_not_matter(one_band_lcs, monkeypatch, capsys):
    expected = dmdt.images(one_band_lcs)
    monkeypatch.setattr(dmdt, "CHUNK_CELLS", 2 * np.prod(dmdt.GRID.shape))
    assert np.array_equal(dmdt.images(one_band_lcs, progress=True), expected)
    assert "21/21" in capsys.readouterr().err


def test_shift_in_time_and_magnitude_changes_nothing():
    mjd, mag = np.arange(40.0) * 2, np.arange(40.0) % 7 / 8
    assert np.array_equal(dmdt.image(mjd, mag), dmdt.image(mjd + 512, mag + 4))


def test_every_pair_is_somewhere():
    mjd, mag = curve(700, 0)
    wide = dmdt.Grid(dm=(-100, 0, 100), dt=(0, 1, 1e6))
    assert dmdt.image(mjd, mag, grid=wide).sum() == 700 * 699 // 2


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_points(n):
    for grid in (SMALL, SPREAD, SMALL.with_normalization("l2")):
        image = dmdt.image(np.arange(n), np.zeros(n), np.ones(n), grid=grid)
        assert image.shape == SMALL.shape
        assert image.any() == (n == 2)
        assert np.all(np.isfinite(image))


def test_inputs_are_not_changed():
    mjd, mag = curve(50, 1)
    before = mag.copy()
    mag.flags.writeable = mjd.flags.writeable = False
    dmdt.image(mjd, mag)
    assert np.array_equal(mag, before)


def test_grid_is_a_value():
    again = dmdt.Grid.from_dict(json.loads(json.dumps(SPREAD.to_dict())))
    assert again == SPREAD
    assert hash(again) == hash(SPREAD)
    assert again != SMALL
    assert repr(again).startswith("Grid(3 dm from -1 to 1 mag, 2 dt from 0 to 10 d, counts")
    assert "spread" in repr(again)


# oracles


GRIDS = {
    "paper": dmdt.GRID,
    "scope": dmdt.SCOPE_GRID,
    "log": dmdt.log_grid(dt_min=0.5, dt_max=300, n_dt=9, dm_max=0.7, n_dm=6),
    "without 0, dt from 2": dmdt.Grid(dm=(0.1, 0.3, 0.35), dt=(2, 3, 50)),
    "one cell": dmdt.Grid(dm=(-0.25, 0.25), dt=(0, 7)),
    "all negative": dmdt.Grid(dm=(-3, -1, -0.2), dt=(0, 1, 1e5)),
    "out of reach": dmdt.Grid(dm=(50, 60), dt=(0, 1e5)),
}


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("digits", [None, 1])
@pytest.mark.parametrize("n", [3, 200, 512, 513, 1300])
def test_kernel_equals_slow_twin_and_peer(name, digits, n):
    grid = GRIDS[name]
    mjd, mag = curve(n, seed=n, digits=digits)
    image = dmdt.image(mjd, mag, grid=grid)
    assert np.array_equal(image, counts_slow(mjd, mag, grid=grid))
    assert np.array_equal(image, peer(grid, mjd, mag))


@pytest.mark.parametrize("mag", [[3.0] * 9, [0, 5e-324] * 4, [0, 8e307, -8e307], [9, 9, 9, 1]])
def test_odd_magnitudes(mag):
    mjd = np.arange(len(mag))
    grid = dmdt.Grid(dm=(-1e308, -1, 0, 5e-324, 1, 1e308), dt=(0, 2, 100))
    assert np.array_equal(dmdt.image(mjd, mag, grid=grid), counts_slow(mjd, mag, grid=grid))


def test_edges_that_rounding_decides():
    mag = np.round(np.arange(14, 16, 0.1), 1)
    image = dmdt.image(np.arange(20), mag)
    assert np.array_equal(image, peer(dmdt.GRID, np.arange(20.0), mag))
    assert np.count_nonzero(image.sum(axis=1)) > 3


@pytest.mark.parametrize("name", GRIDS)
def test_spread_equals_slow_twin_and_peer(name):
    grid = dataclasses.replace(GRIDS[name], spread=True)
    mjd, mag = curve(120, 3)
    magerr = np.random.default_rng(4).uniform(0.001, 0.3, 120)
    image = dmdt.image(mjd, mag, magerr, grid=grid)
    assert np.allclose(image, counts_slow(mjd, mag, magerr, grid=grid), atol=1e-4)
    # the peer's argument is the 1-sigma error, although its Rust documentation says variance
    assert np.allclose(image, peer(grid, mjd, mag, magerr), atol=1e-4)


def test_conditional_probability_equals_peer():
    mjd, mag = curve(300, 5)
    image = dmdt.image(mjd, mag, grid=dmdt.GRID.with_normalization("p(dm|dt)"))
    assert np.allclose(image, peer(dmdt.GRID, mjd, mag, norm=["dt"]), atol=1e-6)


@pytest.mark.real
@pytest.mark.slow
def test_every_crts_curve_equals_peer(mirror):
    from skynb import datasets

    lcs = datasets.load("crts")
    columns = lightcurves.arrays(lcs)
    assert columns.mjd.min() > 50_000
    assert columns.mjd.max() < 60_000
    assert len(lcs) == 5757
    curves = [
        (columns.mjd[a:b], columns.mag[a:b])
        for a, b in zip(columns.offsets[:-1], columns.offsets[1:], strict=True)
    ]
    maker = light_curve.DmDt(
        np.array(dmdt.GRID.dt), np.array(dmdt.GRID.dm), dt_type="asis", dm_type="asis", n_jobs=2
    )
    expected = maker.points_many(curves, sorted=True).transpose(0, 2, 1)
    assert np.array_equal(dmdt.images(lcs), expected)


# recovery


def test_pairs_are_those_of_the_cell():
    lc = pd.DataFrame(dict(zip(("mjd", "mag"), curve(150, 6), strict=True)))
    image = dmdt.image(lc["mjd"], lc["mag"])
    for row, column in np.argwhere(image)[::9]:
        found = dmdt.pairs(lc, row, column)
        assert len(found) == image[row, column]
        assert np.array_equal(
            found["dt"], lc["mjd"].values[found["j"]] - lc["mjd"].values[found["i"]]
        )
        assert found["dm"].between(dmdt.GRID.dm[row], dmdt.GRID.dm[row + 1]).all()
        assert found["dt"].between(dmdt.GRID.dt[column], dmdt.GRID.dt[column + 1]).all()
    empty = dmdt.pairs(lc, 0, 0)
    assert list(empty.columns) == ["i", "j", "dt", "dm"]
    assert len(empty) == 0


@pytest.mark.parametrize(("n", "digits"), [(0, None), (1, None), (150, 2), (400, None), (2500, 1)])
def test_pairs_of_several_cells_are_those_of_a_loop(n, digits):
    lc = pd.DataFrame(dict(zip(("mjd", "mag"), curve(n, 7, digits), strict=True)))
    mjd, mag, grid = lc["mjd"].to_numpy(), lc["mag"].to_numpy(), dmdt.GRID
    rows, columns = [9, 11, 11, 12, 0], [3, 3, 12, 20, 23]
    expected = []
    for i in range(len(mjd)):
        dt, dm = mjd[i + 1 :] - mjd[i], mag[i + 1 :] - mag[i]
        inside = np.zeros(len(dt), bool)
        for row, column in zip(rows, columns, strict=True):
            inside |= (
                (grid.dm[row] <= dm) & (dm < grid.dm[row + 1])
                & (grid.dt[column] <= dt) & (dt < grid.dt[column + 1])
            )  # fmt: skip
        expected += [(i, int(j)) for j in i + 1 + np.flatnonzero(inside)]
    found = dmdt.pairs(lc, rows, columns)
    assert list(zip(found["i"], found["j"], strict=True)) == expected
    assert len(dmdt.pairs(lc, [], [])) == 0


def test_pairs_of_a_table_row(one_band_lcs):
    lc = one_band_lcs["lightcurve"].iloc[0]
    image = dmdt.images(one_band_lcs)[0]
    row, column = np.unravel_index(image.argmax(), image.shape)
    assert len(dmdt.pairs(lc, row, column)) == image.max()


def test_images_read_a_slice_of_the_table(one_band_lcs):
    assert np.array_equal(dmdt.images(one_band_lcs.iloc[5:9]), dmdt.images(one_band_lcs)[5:9])
    assert dmdt.images(one_band_lcs.iloc[[7, 2]]).shape == (2, 22, 24)


# messages


def test_messages_of_grids():
    with pytest.raises(ValueError, match=r"dm edges \[1.0, 1.0\]; give two or more, ascending"):
        dmdt.Grid(dm=(1, 1), dt=(0, 1))
    with pytest.raises(ValueError, match=r"dt edges \[0.0\]"):
        dmdt.Grid(dm=(0, 1), dt=(0,))
    with pytest.raises(ValueError, match=r"dm edges \[nan, 1.0\]|dm edges \[-inf, 1.0\]"):
        dmdt.Grid(dm=(-np.inf, 1), dt=(0, 1))
    with pytest.raises(ValueError, match=r"first dt edge -1\.0 is negative"):
        dmdt.Grid(dm=(0, 1), dt=(-1, 1))
    with pytest.raises(ValueError, match="no normalization 'sum'; there are counts, pairs255"):
        SMALL.with_normalization("sum")
    with pytest.raises(ValueError, match="dt from 0 to 1; a logarithmic grid needs"):
        dmdt.log_grid(dt_min=0, dt_max=1)


def test_check_refuses_other_images():
    counts = np.array([[[2, 1], [1, 0], [0, 4]]], np.uint32)
    with pytest.raises(ValueError, match=r"shape \(1, 2, 3\) are not \(n_objects, 3, 2\)"):
        SMALL.check(counts.transpose(0, 2, 1))
    with pytest.raises(ValueError, match=r"shape \(3, 2\) are not"):
        SMALL.check(counts[0])
    made = {
        name: dmdt.normalize(counts, [10], grid=SMALL.with_normalization(name))
        for name in dmdt.NORMALIZATIONS
    }
    for name in ("counts", "p(dm|dt)", "max", "l2"):
        for other in set(made) - {name}:
            with pytest.raises(ValueError, match="these values cannot be"):
                SMALL.with_normalization(name).check(made[other])
    with pytest.raises(ValueError, match="cannot be 'pairs255'"):
        SMALL.with_normalization("pairs255").check(100 * counts)
    with pytest.raises(ValueError, match="cannot be 'counts'"):
        SMALL.check(np.full((1, 3, 2), np.nan))


def test_check_refuses_raw_counts_that_are_promised_to_be_more():
    counts = np.array([[[2, 1], [1, 0], [0, 400]]], np.uint32)
    with pytest.raises(ValueError, match="cannot be 'counts' spread by errors; make the images"):
        SPREAD.check(counts)
    with pytest.raises(ValueError, match="cannot be 'counts' spread"):
        SPREAD.check(counts.astype(np.float32))
    for many in (counts, counts.clip(max=200)):
        with pytest.raises(ValueError, match="cannot be 'pairs255'"):
            SMALL.with_normalization("pairs255").check(many)


def test_check_compares_grids():
    moved = dataclasses.replace(SMALL, dm=(-1, 0, 0.6, 1))
    assert repr(moved) != repr(SMALL)
    assert SMALL.check(SMALL) is SMALL
    assert SMALL.check(SMALL.to_dict()) == SMALL.to_dict()
    for other in (moved, SPREAD, SMALL.with_normalization("l2")):
        for given in (other, other.to_dict()):
            with pytest.raises(ValueError, match="is not Grid") as said:
                SMALL.check(given)
            assert repr(SMALL) in str(said.value)
            assert repr(other) in str(said.value)


def test_messages_of_images(ztf_lcs):
    with pytest.raises(ValueError, match=r"expected one band, found \['g', 'i', 'r'\]"):
        dmdt.images(ztf_lcs)
    with pytest.raises(ValueError, match=r"expected one band, .*use lightcurves.select_band first"):
        dmdt.pairs(ztf_lcs["lightcurve"].iloc[0], 0, 0)
    with pytest.raises(ValueError, match=r"no cell \(3, 0\); the grid has shape \(3, 2\)"):
        dmdt.pairs(pd.DataFrame({"mjd": [0.0], "mag": [1.0]}), 3, 0, grid=SMALL)
    with pytest.raises(ValueError, match="magerr is missing"):
        dmdt.image([0, 1], [0, 1], grid=SPREAD)
    with pytest.raises(ValueError, match=r"columns of shape \(2,\), \(3,\)"):
        dmdt.image([0, 1], [0, 1, 2])
    for odd in (np.nan, np.inf, -1e308):
        with pytest.raises(ValueError, match="mjd or mag is not finite; clean with"):
            dmdt.image([0, 1], [0, odd])
    with pytest.raises(ValueError, match="mjd does not ascend"):
        dmdt.image([0, 0], [0, 1])
    with pytest.raises(ValueError, match="a light curve has 92,682 points; bin it to fewer"):
        dmdt.image(np.arange(92_682), np.zeros(92_682))


# hazards


def test_import_is_light():
    code = "import sys, skynb.dmdt; print('numba' in sys.modules, 'light_curve' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["False", "False"]


@pytest.mark.slow
def test_nowhere_to_keep_the_compiled_kernel(tmp_path):
    source = Path(dmdt.__file__).parent
    package = tmp_path / "skynb"
    package.mkdir()
    for name in ("__init__.py", "lightcurves.py", "dmdt.py"):
        shutil.copy(source / name, package)
    (package / "__pycache__").write_text("a file where a folder should be")
    nowhere = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR"), os.devnull + "/none")
    code = "from skynb import dmdt; print(dmdt.__file__, dmdt.image([0, 1], [2, 2]).sum())"
    said = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | nowhere | {"PYTHONPATH": str(tmp_path)},
        check=False,
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.split() == [str(package / "dmdt.py"), "1"]


@pytest.mark.slow
def test_full_disk_when_the_compiled_kernel_is_kept(tmp_path, monkeypatch):
    from numba.core import caching, config

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(caching.Cache, "save_overload", full)
    kernel = dmdt._kernel.__wrapped__(True)
    assert kernel.signatures


def test_memory_beyond_input_and_output():
    rng = np.random.default_rng(8)
    curves = [curve(n, n) for n in rng.integers(100, 900, 400)]
    lcs = table(curves)
    process, stop, peak = psutil.Process(), threading.Event(), [0]

    def watch():
        while not stop.wait(0.001):
            peak[0] = max(peak[0], process.memory_info().rss)

    for grid in (dmdt.GRID, dmdt.GRID.with_normalization("l2")):
        dmdt.images(lcs.iloc[:3], grid=grid)
        before = peak[0] = process.memory_info().rss
        watcher = threading.Thread(target=watch)
        watcher.start()
        images = dmdt.images(lcs, grid=grid)
        stop.set()
        watcher.join()
        stop.clear()
        assert images.shape == (400, 22, 24)
        assert peak[0] - before - images.nbytes < 50e6
