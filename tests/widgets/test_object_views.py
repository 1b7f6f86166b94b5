"""LightCurveExplorer and DmDtExplorer without a browser."""

import asyncio
import threading

import numpy as np
import pandas as pd
import pytest
from ipywidgets.widgets.widget import _instances
from matplotlib.figure import Figure

from skynb import dmdt, lightcurves, plots
from skynb.widgets import DmDtExplorer, LightCurveExplorer, Selection, object_view

EXPLORERS = [LightCurveExplorer, DmDtExplorer]


def brute_force(explorer):
    """The pairs within the picked cells, by looking at every pair of the band."""
    mjd, mag = (explorer.lc[name].to_numpy() for name in ("mjd", "mag"))
    grid, found = explorer.grid, set()
    rows = np.flatnonzero(explorer.kept & (explorer.lc["band"] == explorer.band))
    for i in rows:
        later = rows[rows > i]
        dm, dt = mag[later] - mag[i], mjd[later] - mjd[i]
        for row, column in explorer.cells:
            inside = (grid.dm[row] <= dm) & (dm < grid.dm[row + 1])
            inside &= (grid.dt[column] <= dt) & (dt < grid.dt[column + 1])
            found |= {(int(i), int(j)) for j in later[inside]}
    return found


def lit(explorer):
    return {tuple(pair) for pair in explorer.selection.pairs.tolist()}


def planted(object_id, period, n, seed=1, band="V"):
    rng = np.random.default_rng(seed)
    mjd = np.sort(rng.uniform(58000, 58400, n))
    mag = 16 + 0.3 * np.sin(2 * np.pi * mjd / period) + rng.normal(0, 0.02, n)
    columns = {"object_id": object_id, "mjd": mjd, "mag": mag, "magerr": 0.02, "band": band}
    return pd.DataFrame(columns)


@pytest.fixture
def few():
    frames = [planted("a", 0.3712, 60), planted("b", 0.61, 40), planted("lonely", 1.0, 1)]
    return lightcurves.from_flat(pd.concat(frames))


def test_an_object_without_a_label_has_none_in_words(few):
    explorer = LightCurveExplorer(few.assign(label=["EW", None, "EA"]))
    assert explorer.description.startswith("Object a (EW), 1 of 3")
    explorer.next()
    assert explorer.description.startswith("Object b, 2 of 3")


@pytest.mark.parametrize("cls", EXPLORERS)
def test_shows_what_is_in_the_table(cls, ztf_lcs):
    explorer = cls(ztf_lcs)
    explorer.selection.focus = 3
    lc = ztf_lcs["lightcurve"].iloc[3]
    source = explorer.curves.source.data
    for name in ("mjd", "mag", "magerr"):
        np.testing.assert_array_equal(source[name], lc[name])
    assert source["band"] == lc["band"].tolist()
    styles = plots.band_styles(lc["band"])
    assert source["marker"] == [styles[band]["marker"] for band in lc["band"]]
    period = ztf_lcs["period"].iloc[3]
    assert explorer.period == period
    np.testing.assert_array_equal(source["phase"], lightcurves.fold(lc["mjd"], period))
    one = lc[lc["band"] == explorer.band]
    image = dmdt.image(one["mjd"], one["mag"])
    np.testing.assert_array_equal(explorer.image.counts, image)
    assert explorer.curves.mags.start > explorer.curves.mags.end  # bright is up
    assert f"{len(lc)} observations in g, r, i" in explorer.description
    assert "from the table" in explorer.description


@pytest.mark.parametrize("cls", EXPLORERS)
def test_pairs_of_cells_are_those_of_brute_force(cls, ztf_lcs):
    explorer = cls(ztf_lcs)
    for cells in ([(11, 15)], [(10, 14), (11, 14), (11, 20), (0, 0)], []):
        explorer.cells = cells
        assert lit(explorer) == brute_force(explorer)
    explorer.cells = [(11, 15)]
    assert len(explorer.curves.pairs.data["mjd_0"]) == len(brute_force(explorer)) > 0
    explorer.selection.focus = 1
    assert explorer.cells == ()
    assert len(explorer.selection.pairs) == 0


def test_cells_of_a_clipped_band_under_another_grid(ztf_lcs):
    explorer = DmDtExplorer(ztf_lcs, grid=dmdt.log_grid(dm_max=1))
    explorer.selection.clip = 1.5
    explorer.band = "g"
    assert 0 < explorer.kept.sum() < len(explorer.lc)
    explorer.cells = [(row, column) for row in range(22) for column in (14, 19)]
    assert lit(explorer) == brute_force(explorer) != set()
    explorer.grid = dmdt.SCOPE_GRID.with_normalization("max")
    assert explorer.cells == ()
    assert explorer.image.source.data["value"][explorer.image.counts.argmax()] == 1
    assert (explorer._grid.value, explorer._norm.value) == ("SCoPe", "max")


def test_more_pairs_than_are_drawn(ztf_lcs, monkeypatch):
    monkeypatch.setattr("skynb.widgets.panels.N_PAIRS", 10)
    explorer = DmDtExplorer(ztf_lcs)
    explorer.cells = [(11, 20)]
    assert len(explorer.curves.pairs.data["mjd_0"]) == 10
    assert lit(explorer) == brute_force(explorer)
    n = len(np.unique(explorer.selection.pairs))
    assert len(explorer.curves.paired.data["mjd"]) == n
    assert f"{len(explorer.selection.pairs):,} pairs of {n} observations" in explorer._status.value


def test_chosen_observations_light_up_their_share(ztf_lcs):
    explorer = DmDtExplorer(ztf_lcs)
    in_band = np.flatnonzero(explorer.lc["band"] == explorer.band)
    explorer.selection.points = tuple(in_band[[3, 8]].tolist())
    share = np.zeros(explorer.grid.shape, int)
    n_cells = explorer.grid.shape
    explorer.cells = [(row, c) for row in range(n_cells[0]) for c in range(n_cells[1])]
    grid, lc = explorer.grid, explorer.lc
    for i, j in brute_force(explorer):
        if {i, j} & set(explorer.selection.points):
            dm, dt = lc["mag"][j] - lc["mag"][i], lc["mjd"][j] - lc["mjd"][i]
            row = np.searchsorted(grid.dm, dm, side="right") - 1
            share[row, np.searchsorted(grid.dt, dt, side="right") - 1] += 1
    drawn = explorer.image.share.data
    assert set(zip(drawn["y"], drawn["x"], strict=True)) == set(
        zip(*np.nonzero(share), strict=True)
    )
    assert f"2 observations chosen: {share.sum()} of" in explorer._status.value
    explorer.selection.points = ()
    assert len(explorer.image.share.data["x"]) == 0


def test_what_happens_in_the_page_reaches_the_bus(ztf_lcs):
    explorer = LightCurveExplorer(ztf_lcs)
    explorer.image.source.selected.indices = [11 * 24 + 15]
    assert explorer.cells == ((11, 15),)
    explorer.curves.source.selected.indices = [4, 2]
    assert explorer.selection.points == (2, 4)
    explorer.curves.pointer.data = {"at": [7]}
    assert explorer.selection.hovered == 7
    assert explorer.curves.pointed.data["mjd"] == [explorer.lc["mjd"][7]]
    assert len(explorer.image.pointed.data["x"]) > 0
    explorer.curves.pointer.data = {"at": [-1]}
    assert explorer.selection.hovered is None


def test_two_explorers_on_one_bus(ztf_lcs):
    bus = Selection(ztf_lcs)
    curves = LightCurveExplorer(ztf_lcs, selection=bus, image=False)
    image = DmDtExplorer(ztf_lcs, selection=bus, curves=False)
    curves.next()
    image.cells = [(11, 15)]
    assert len(curves.curves.pairs.data["mjd_0"]) == len(brute_force(image)) > 0
    curves.curves.source.selected.indices = [3]
    assert len(image.image.share.data["x"]) > 0 or image.band != image.lc["band"][3]
    curves.close()
    bus.focus = 5
    assert len(image.lc) == len(ztf_lcs["lightcurve"].iloc[5])
    assert len(curves.lc) != len(image.lc)


def test_a_planted_period_is_found_doubled_and_halved(few):
    explorer = LightCurveExplorer(few)
    assert explorer.period is None
    assert "no period" in explorer.description
    found = explorer.candidates()
    assert explorer.period == found["period"][0] == pytest.approx(0.3712, rel=1e-3)
    assert explorer._buttons[0].description == f"{found['period'][0]:.6g} d, best"
    explorer.keys_["d"]()
    assert explorer.period == 2 * found["period"][0]
    explorer.keys_["h"]()
    explorer.keys_["h"]()
    assert explorer.period == found["period"][0] / 2
    explorer._buttons[1].click()
    assert explorer.period == found["period"][1]
    assert explorer.periods.to_dict() == {"a": found["period"][1]}
    explorer.next()
    assert explorer.period is None
    explorer.previous()
    assert explorer.period == found["period"][1]


def test_bands_are_joined_in_the_search():
    shifted = planted("a", 0.3712, 40, seed=2, band="r").assign(mag=lambda t: t["mag"] + 1)
    both = lightcurves.from_flat(pd.concat([planted("a", 0.3712, 40, band="g"), shifted]))
    assert LightCurveExplorer(both).candidates()["period"][0] == pytest.approx(0.3712, rel=1e-3)


def test_the_search_runs_when_the_object_rests(few, monkeypatch):
    monkeypatch.setattr(object_view, "PAUSE", 0.05)
    searched, search = [], object_view._candidates

    def counted(lc):
        searched.append((len(lc), threading.current_thread() is threading.main_thread()))
        return search(lc)

    monkeypatch.setattr(object_view, "_candidates", counted)

    async def step():
        explorer = LightCurveExplorer(few)
        explorer.next()
        for _ in range(100):
            await asyncio.sleep(0.05)
            if explorer.period is not None:
                break
        return explorer

    explorer = asyncio.run(step())
    assert explorer.period == pytest.approx(0.61, rel=1e-3)
    assert searched == [(40, False)]


def test_fine_tuning_is_about_the_period(few):
    explorer = LightCurveExplorer(few)
    explorer.period = 0.5
    span = np.ptp(explorer.lc["mjd"])
    explorer.tuner.value = 2.0
    assert 1 / explorer.period == pytest.approx(2 + 2 / span)
    explorer.tuner.value = -1.0
    assert 1 / explorer.period == pytest.approx(2 - 1 / span)
    explorer.double()
    assert explorer.tuner.value == 0
    explorer.period = 1e6
    explorer.tuner.value = -5.0
    assert explorer.period == pytest.approx(2e6)


def test_periods_are_saved_and_loaded(few, tmp_path):
    explorer = LightCurveExplorer(few)
    explorer.period = 0.1 + 0.2
    explorer.go_to("b")
    explorer.period = 7.0
    path = explorer.save_periods(tmp_path / "periods.csv")
    again = LightCurveExplorer(few)
    again.load_periods(path)
    pd.testing.assert_series_equal(again.periods, explorer.periods)
    assert again.period == 0.1 + 0.2
    other = LightCurveExplorer(few.iloc[:1])
    with pytest.raises(ValueError, match="no object 'b' among 1"):
        other.load_periods(path)
    assert len(other.periods) == 0


def test_periods_of_objects_named_by_numbers(few, tmp_path):
    lcs = few.set_index(pd.Index([2**60 + 1, 5, 7], name="object_id"))
    explorer = LightCurveExplorer(lcs)
    explorer.period = 3.0
    explorer.go_to("7")
    assert explorer.selection.focus == 2
    again = LightCurveExplorer(lcs)
    again.load_periods(explorer.save_periods(tmp_path / "periods.csv"))
    assert again.periods.to_dict() == {2**60 + 1: 3.0}


def test_bands_bins_and_clipping(ztf_lcs):
    explorer = LightCurveExplorer(ztf_lcs)
    lc = explorer.lc
    explorer._checks["g"].value = False
    assert explorer.hidden == ("g",)
    assert set(explorer.curves.source.data["band"]) == {"r", "i"}
    explorer.clip = 1.0
    kept = (lc["band"] != "g").to_numpy() & lightcurves.clip(lc, 1.0)
    np.testing.assert_array_equal(explorer.kept, kept)
    assert f"{len(lc) - kept.sum()} left out" in explorer.description
    explorer._by.value = "phase"
    explorer._width.value = 0.1
    drawn = explorer.curves.bins.data
    table = lc[kept].assign(phase=lightcurves.fold(lc["mjd"][kept], explorer.period))
    bins = lightcurves.binned(table, 0.1, by="phase")
    np.testing.assert_array_equal(drawn["phase"], bins["phase"])
    assert np.isnan(drawn["mjd"]).all()
    explorer._width.value = -1
    assert "bins of width -1" in explorer.message
    assert explorer.bin_width == explorer._width.value == 0.1
    explorer.bin_by, explorer.bin_width = "time [d]", 50.0
    assert len(explorer.curves.bins.data["mjd"]) < 60
    explorer.bin_by = "none"
    assert len(explorer.curves.bins.data["mjd"]) == 0


def test_steps_among_the_chosen_objects(ztf_lcs):
    explorer = LightCurveExplorer(ztf_lcs)
    explorer.previous()
    assert explorer.selection.focus == 0
    explorer.selection.choose_rows([1, 4, 6])
    for row in (1, 4, 6, 6):
        explorer.next()
        assert explorer.selection.focus == row
    explorer.previous()
    assert explorer.selection.focus == 4


def test_the_pointer_and_the_cursor_by_keyboard(ztf_lcs):
    explorer = DmDtExplorer(ztf_lcs)
    press = explorer.keys_
    press["."]()
    assert explorer.selection.hovered == 0
    press["."]()
    press["s"]()
    press[","]()
    press["s"]()
    assert explorer.selection.points == (0, 1)
    press["s"]()
    assert explorer.selection.points == (1,)
    press["ArrowRight"]()
    press["ArrowUp"]()
    press["Enter"]()
    assert explorer.cells == ((12, 0),)
    press["ArrowRight"]()
    press[" "]()
    assert explorer.cells == ((12, 0), (12, 1))
    press[" "]()
    assert explorer.cells == ((12, 0),)
    for _ in range(40):
        press["ArrowUp"]()
    assert "dm 5 to 8 mag" in explorer._status.value
    press["Escape"]()
    assert (explorer.cells, explorer.selection.points) == ((), ())
    explorer.pick_at(1.0, -0.15)
    assert explorer.cells == ((9, 7),)
    with pytest.raises(ValueError, match="no cell holds dt 1 d and dm 99 mag"):
        explorer.pick_at(1.0, 99)


@pytest.mark.parametrize("cls", EXPLORERS)
def test_bad_input(cls, few):
    explorer = cls(few)
    with pytest.raises(ValueError, match="period is nan; give a positive number of days"):
        explorer.period = np.nan
    explorer.period = 0.37
    explorer._period.value = -1
    assert explorer.message == "period is -1.0; give a positive number of days"
    assert explorer._period.value == explorer.period == 0.37
    explorer._went.value = "nobody"
    assert explorer.message == "no object 'nobody' among 3; ids are like 'a'"
    assert explorer.selection.focus == 0
    explorer._went.value = "lonely"
    assert (explorer.message, explorer.selection.focus) == ("", 2)
    assert "1 observation in V" in explorer.description
    with pytest.raises(ValueError, match="no period in 1 observation over"):
        explorer.candidates()
    explorer.cells = [(11, 15)]
    assert "no pair" in explorer._status.value
    explorer.cells = [(11, 99)]
    assert "no cell (11, 99)" in explorer.message
    with pytest.raises(ValueError, match="selection is of another table"):
        cls(few, selection=Selection(["x"]))


@pytest.mark.parametrize("cls", EXPLORERS)
def test_an_empty_table(cls, few):
    explorer = cls(few.iloc[:0])
    assert explorer.message == "the table is empty; give at least one light curve"
    for key in explorer.keys_:
        explorer._receive(None, {"key": key}, [])
    assert len(explorer.still()) > 1000


@pytest.mark.parametrize("cls", EXPLORERS)
def test_saved_periods_of_which_some_are_nan(cls, few):
    explorer = cls(few.assign(period=[np.nan, 0.61, -1.0]))
    assert explorer.period is None
    explorer.next()
    assert explorer.period == 0.61


def test_a_long_light_curve(monkeypatch):
    monkeypatch.setattr(plots, "N_DRAWN", 100)
    explorer = LightCurveExplorer(lightcurves.from_flat(planted("long", 1.7, 100_000)))
    assert len(explorer.curves.source.data["mjd"]) == len(explorer.curves.drawn) < 100_000
    assert "bin it to fewer than 92,682" in explorer.message
    assert "100,000 observations" in explorer.description
    k = int(explorer.curves.drawn[-1])
    explorer.curves.source.selected.indices = [len(explorer.curves.drawn) - 1]
    assert explorer.selection.points == (k,)


@pytest.mark.parametrize("cls", EXPLORERS)
def test_the_still_and_the_line_that_revives(cls, few):
    explorer = cls(few)
    explorer.cells = [(11, 15)]
    data, _ = explorer._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert "data:image/png;base64," in data["text/html"]
    assert f"widgets.{cls.__name__}(lcs)" in data["text/html"]
    assert explorer.period is not None  # a still does not wait for the object to rest


@pytest.mark.parametrize("cls", EXPLORERS)
def test_a_fixed_period_is_taken_back(cls, few):
    explorer = cls(few.assign(period=[0.3712, np.nan, np.nan]))
    for back in (lambda: setattr(explorer, "period", None), lambda: explorer.keys_["="]()):
        explorer.period = 0.5
        back()
        assert explorer.period == explorer._period.value == 0.3712
        assert explorer.selection.periods == {}
        assert "period 0.3712 d, from the table" in explorer.description
    explorer.period = None  # where none is fixed
    assert explorer.period == 0.3712
    explorer.next()
    explorer.period = 0.7
    explorer.period = None
    assert (explorer.period, explorer.selection.periods) == (None, {})


def test_a_refused_clip_changes_nothing(few):
    explorer = LightCurveExplorer(few)
    for clip in (-1, np.nan):
        with pytest.raises(ValueError, match="give a number of sigmas"):
            explorer.clip = clip
    assert explorer.clip == explorer.selection.clip == explorer._clip.value == 0


def test_a_still_is_drawn_without_a_warning(few):
    explorer = LightCurveExplorer(few)
    explorer.draw(figure := Figure())
    assert figure.axes[1].get_legend()._loc_real == 1  # upper right


def test_two_threads_do_not_silence_each_other(few):
    explorer = LightCurveExplorer(few)
    explorer.period = 0.5

    def step():
        for _ in range(8):
            explorer.next()
            explorer.previous()

    thread = threading.Thread(target=step)
    thread.start()
    for k in range(16):
        explorer._clip.value = 3 + k / 100
        assert explorer.selection.clip == 3 + k / 100
    thread.join()
    assert not explorer._quiet


def test_periods_of_objects_with_names_that_mean_nothing_to_pandas(few, tmp_path):
    lcs = few.set_index(pd.Index(["NA", "null", "x"], name="object_id"))
    explorer = LightCurveExplorer(lcs)
    explorer.period = 0.3
    again = LightCurveExplorer(lcs)
    again.load_periods(explorer.save_periods(tmp_path / "periods.csv"))
    assert again.periods.to_dict() == {"NA": 0.3}


def test_a_dollar_in_a_name_is_no_formula(few):
    lcs = few.set_index(pd.Index(["$a$b$^", "$^{$", "x"], name="object_id"))
    assert DmDtExplorer(lcs).still()[:4] == b"\x89PNG"


@pytest.mark.parametrize("cls", EXPLORERS)
def test_a_closed_explorer_takes_its_widgets_along(few, cls):
    bus, before = Selection(few), set(_instances)
    explorer = cls(few, selection=bus)
    explorer.close()
    explorer.close()
    left = {type(widget).__name__ for key, widget in _instances.items() if key not in before}
    assert not left & {cls.__name__, "Picture", "VBox", "HBox", "HTML"}
    bus.clip = 3.0
    if cls is LightCurveExplorer:
        assert explorer.clip == 0
