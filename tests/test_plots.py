from types import SimpleNamespace

import holoviews as hv
import numpy as np
import pandas as pd
import pytest
from bokeh.models import GridPlot, ImportedStyleSheet, UIElement

from skynb import dmdt, faithfulness, networks, plots, stamps, taxonomy


@pytest.fixture
def lc():
    """Four observations in two bands."""
    return pd.DataFrame(
        {
            "mjd": [53000.0, 53000.25, 53000.5, 53001.0],
            "mag": [15.0, 15.5, 16.0, 15.2],
            "magerr": 0.1,
            "band": ["g", "r", "g", "r"],
        }
    )


@pytest.fixture
def lcs():
    """Four one-band objects of two classes: a period for the first two; no simulator needed."""
    rng = np.random.default_rng(0)
    curves = [
        pd.DataFrame({"mjd": np.sort(rng.uniform(0, 900, 30)), "mag": rng.normal(15, 0.2, 30)})
        for _ in range(4)
    ]
    column = pd.Series([each.assign(magerr=0.1, band="V") for each in curves], index=list("abcd"))
    return pd.DataFrame(
        {
            "label": ["EW", "LPV", "EW", "LPV"],
            "period": [0.5, 300, 0.4, np.nan],
            "lightcurve": column,
        }
    )


def _elements(picture, kind):
    return picture.traverse(lambda element: element, [kind])


def _figures(picture):
    """The bokeh figures, row by row."""
    drawn = hv.render(picture)
    if isinstance(drawn, GridPlot):
        return [each for each, row, column in sorted(drawn.children, key=lambda child: child[1:])]
    return [drawn]


def _values(picture, kind, name):
    return np.concatenate([each.dimension_values(name) for each in _elements(picture, kind)])


def _ticks(picture):
    (drawn,) = _figures(picture)
    return [axis.major_label_overrides for axis in (drawn.below[0], drawn.left[0])]


def test_a_light_curve_has_points_and_error_bars_per_band(lc):
    picture = plots.lightcurve(lc)
    points = {each.label: each for each in _elements(picture, hv.Scatter)}
    assert list(points) == ["g", "r"]
    assert points["g"].dimension_values("mag").tolist() == [15.0, 16.0]
    assert _values(picture, hv.ErrorBars, "magerr").tolist() == [0.1] * 4


def test_bands_differ_in_colour_and_in_marker(lc):
    styles = [
        hv.Store.lookup_options("bokeh", each, "style").kwargs
        for each in _elements(plots.lightcurve(lc), hv.Scatter)
    ]
    assert [style["color"] for style in styles] == [plots.BAND_COLORS["g"], plots.BAND_COLORS["r"]]
    assert styles[0]["marker"] != styles[1]["marker"]


@pytest.mark.parametrize("bands", [["g", "r"], ["g"]])
def test_a_legend_only_where_bands_must_be_told_apart(lc, bands):
    (drawn,) = _figures(plots.lightcurve(lc[lc["band"].isin(bands)]))
    assert any(legend.items for legend in drawn.legend) == (len(bands) > 1)


def test_an_unknown_band_is_drawn(lc):
    picture = plots.lightcurve(lc.assign(band="F814W"))
    assert _figures(picture)[0].left[0].axis_label == "magnitude (F814W)"


def test_magnitudes_point_up_bright_and_axes_say_their_units(lc):
    for picture in (plots.lightcurve(lc), plots.lightcurve(lc) * plots.lightcurve(lc)):
        (drawn,) = _figures(picture)
        assert drawn.y_range.start > drawn.y_range.end
        assert drawn.below[0].axis_label == "MJD [day]"
        assert drawn.left[0].axis_label == "magnitude"


def test_a_folded_curve_shows_two_cycles(lc):
    picture = plots.folded(lc, 0.5)
    phase = np.sort(_values(picture, hv.Scatter, "phase"))
    assert phase.tolist() == [0, 0, 0, 0.5, 1, 1, 1, 1.5]
    (drawn,) = _figures(picture)
    assert (drawn.x_range.start, drawn.x_range.end) == (0, 2)
    assert drawn.title.text == "period 0.5 d"


def test_the_epoch_is_phase_zero(lc):
    phase = _values(plots.folded(lc[:1], 4.0, epoch=52999.0), hv.Scatter, "phase")
    assert phase.tolist() == [0.25, 1.25]


def test_a_dense_curve_keeps_every_pixel_it_touches():
    n = 40_000
    mjd = np.linspace(55000, 55090, n)
    mag = 15 + 0.1 * np.sin(mjd)
    mag[n // 2] = 18
    dense = pd.DataFrame({"mjd": mjd, "mag": mag, "magerr": 0.01, "band": "Kp"})
    picture = plots.lightcurve(dense)
    drawn = _values(picture, hv.Scatter, "mag")
    assert 400 < len(drawn) <= n / 4
    assert drawn.max() == 18
    assert drawn.min() == pytest.approx(mag.min(), abs=3.1 / 200)
    assert _elements(picture, hv.ErrorBars) == []


def test_a_curve_of_one_repeated_value_is_drawn():
    flat = pd.DataFrame({"mjd": np.arange(6000.0), "mag": 15.0, "magerr": 0.1, "band": "V"})
    assert len(_values(plots.lightcurve(flat), hv.Scatter, "mag")) == 400


def test_dmdt_cells_are_where_their_bins_are():
    image = np.zeros(dmdt.GRID.shape)
    image[11, 4] = 7
    picture = plots.dmdt(image)
    table = picture.dframe().dropna()
    assert table[["dt", "dm", "value"]].to_numpy().tolist() == [[4, 11, 7]]
    low_high = table[["dt_low", "dt_high", "dm_low", "dm_high"]].to_numpy()[0]
    assert low_high == pytest.approx([4 / 145, 1 / 25, 0, 0.1])


def test_dmdt_edges_are_labelled_for_a_reader():
    dt, dm = _ticks(plots.dmdt(np.ones(dmdt.GRID.shape)))
    assert dt[-0.5] == "0"
    assert dt[2.5] == "30 min"
    assert dt[15.5] == "30 d"
    assert dt[23.5] == "11 yr"
    assert dm[-0.5] == "-8"
    assert dm[10.5] == "0"
    assert dm[15.5] == "1"


@pytest.mark.parametrize("grid", [dmdt.SCOPE_GRID, dmdt.Grid((-1, 0, 1), (0, 1e-4, 1))])
def test_dmdt_draws_any_grid(grid):
    dt, dm = _ticks(plots.dmdt(np.ones(grid.shape), grid=grid))
    assert len(dt) > 1
    assert "0" in dm.values()


def test_dmdt_counts_are_logarithmic_and_other_normalisations_linear():
    image = np.ones(dmdt.GRID.shape)
    grid = dmdt.GRID.with_normalization("p(dm|dt)")
    for picture, log, title in (
        (plots.dmdt(image), True, "pairs"),
        (plots.dmdt(image / 22, grid=grid), False, "p(dm|dt)"),
    ):
        options = hv.Store.lookup_options("bokeh", picture, "plot").kwargs
        assert options["logz"] is log
        assert options["clabel"] == title


def test_a_mean_of_counts_is_drawn_below_one():
    image = np.zeros(dmdt.GRID.shape)
    image[5, 5], image[6, 6] = 0.01, 30
    assert plots.dmdt(image).range("value") == (0.01, 30)
    assert plots.dmdt(image * 100).range("value") == (1, 3000)


def test_an_empty_dmdt_image_is_drawn():
    assert len(_figures(plots.dmdt(np.zeros(dmdt.GRID.shape)))) == 1


def test_a_periodogram_keeps_its_peak_in_few_points():
    frequency = np.linspace(0.01, 12, 100_000)
    power = np.full(frequency.size, 0.1)
    power[77_777] = 0.9
    picture = plots.periodogram(SimpleNamespace(frequency=frequency, power=power))
    (curve,) = _elements(picture, hv.Curve)
    assert len(curve) == 2000
    assert curve.dimension_values("power").max() == 0.9
    (peak,) = _elements(picture, hv.Scatter)
    assert peak.dimension_values("frequency").tolist() == [frequency[77_777]]
    assert _figures(picture)[0].title.text == f"best period {1 / frequency[77_777]:.6g} d"


def test_a_short_periodogram_is_drawn_whole():
    p = SimpleNamespace(frequency=np.array([1.0, 2.0, 3.0]), power=np.array([0.1, 0.5, 0.2]))
    assert _elements(plots.periodogram(p), hv.Curve)[0]["power"].tolist() == [0.1, 0.5, 0.2]


def test_a_confusion_matrix_shows_numbers_and_shares_of_the_true_class():
    picture = plots.confusion([[3, 1], [0, 0]], ["EW", "EA"])
    (numbers,) = _elements(picture, hv.Labels)
    text = {
        (t, p): text for p, t, text in numbers.dframe()[["predicted", "true", "text"]].to_numpy()
    }
    assert text == {(0, 0): "3\n75%", (0, 1): "1\n25%", (1, 0): "0", (1, 1): "0"}
    (cells,) = _elements(picture, hv.HeatMap)
    assert sorted(cells.dimension_values("fraction")) == [0, 0, 0.25, 0.75]
    predicted, true = _ticks(picture)
    assert list(predicted.values()) == list(true.values()) == ["EW", "EA"]
    (drawn,) = _figures(picture)
    assert (drawn.below[0].axis_label, drawn.left[0].axis_label) == ("predicted", "true")
    assert drawn.y_range.start > drawn.y_range.end


def test_a_map_names_each_class_at_a_member_in_its_colour():
    rng = np.random.default_rng(0)
    xy = np.concatenate([rng.normal(0, 1, (50, 2)), rng.normal(20, 1, (51, 2))])
    labels = ["EW"] * 50 + ["new"] * 51
    picture = plots.embedding(xy, labels)
    (names,) = _elements(picture, hv.Labels)
    table = names.dframe().set_index("label")
    off = np.hypot(*(xy[50:] - np.median(xy[50:], axis=0)).T)
    assert table.loc["new", ["x", "y"]].tolist() == xy[50:][off.argmin()].tolist()
    assert table.loc["EW", "color"] == plots.CLASS_COLORS["EW"]
    (shaded,) = _elements(picture, hv.RGB)
    red, green, blue, alpha = (
        shaded.dimension_values(channel, flat=False) for channel in ("R", "G", "B", "A")
    )
    row, column = np.argwhere(alpha > 0)[0]
    drawn = "#" + "".join(f"{int(c[row, column]):02x}" for c in (red, green, blue))
    assert drawn in plots.class_colors(labels).values()
    (canvas,) = _figures(picture)
    assert (canvas.below[0].axis_label, canvas.left[0].axis_label) == ("t-SNE 1", "t-SNE 2")


def test_the_name_of_a_ring_lies_on_it():
    angle = np.linspace(0, 2 * np.pi, 40)
    picture = plots.embedding(np.stack([np.cos(angle), np.sin(angle)], axis=1), ["EW"] * 40)
    (name,) = _elements(picture, hv.Labels)
    assert np.hypot(name["x"], name["y"]) == pytest.approx([1])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n_objects", [1, 30])
def test_a_map_of_one_class_is_drawn_in_its_colour(n_objects):
    xy = np.random.default_rng(0).normal(size=(n_objects, 2))
    (shaded,) = _elements(plots.embedding(xy, ["EW"] * n_objects), hv.RGB)
    seen = shaded["A"] > 0
    assert seen.sum() >= 9 * n_objects / 2
    rgb = np.stack([shaded[channel][seen] for channel in "RGB"])
    drawn = {f"#{r:02x}{g:02x}{b:02x}" for r, g, b in rgb.T}
    assert drawn == {plots.CLASS_COLORS["EW"]}


def test_names_on_a_map_do_not_cover_each_other():
    xy = np.random.default_rng(0).normal(size=(700, 2))
    labels = np.arange(700) % 7
    (names,) = _elements(plots.embedding(xy, [f"class {k}" for k in labels]), hv.Labels)
    y = np.sort(names.dimension_values("y"))
    assert np.diff(y).min() > 0.04 * np.ptp(xy[:, 1])


def test_a_name_does_not_hide_the_few_members_of_its_class():
    xy = np.random.default_rng(0).normal(size=(300, 2))
    labels = ["EA"] * 4 + ["RRc"] * 5 + ["EW"] * 291
    assert set(plots.class_places(xy, labels)) == {"RRc", "EW"}
    assert set(plots.class_places(xy[:12], labels[:12])) == {"EA", "RRc", "EW"}
    assert len(plots.class_places(xy, range(300))) == 300


def test_points_of_a_small_map_can_be_seen():
    (shaded,) = _elements(plots.embedding([[0, 0], [1, 1], [1, 0]]), hv.RGB)
    assert (shaded.dimension_values("A") > 0).sum() >= 3 * 9


def test_a_map_tells_what_is_under_the_pointer():
    picture = plots.embedding([[0, 0], [1, 1]], ["EW", "EA"], object_id=[11, 22])
    (seen,) = _elements(picture, hv.Points)
    assert seen.dimension_values("object_id").tolist() == ["11", "22"]
    assert seen.dimension_values("label").tolist() == ["EW", "EA"]


def test_objects_without_a_label_are_mapped_too():
    picture = plots.embedding([[0, 0], [1, 1], [0, 1]], pd.Series(["EW", None, np.nan]))
    (names,) = _elements(picture, hv.Labels)
    assert sorted(names.dimension_values("label")) == ["EW", "unlabelled"]


def test_a_class_has_the_same_colour_in_every_picture():
    assert plots.class_colors(["LPV", "new"])["LPV"] == plots.CLASS_COLORS["LPV"]
    many = plots.class_colors([*plots.CLASS_COLORS, *"abcdefghijkl"])
    assert len(set(many.values())) == len(many)


def test_a_class_grid_has_a_row_for_each_class(lcs):
    picture = plots.class_grid(lcs)
    titles = [drawn.title.text for drawn in _figures(picture)]
    assert titles[::3] == ["EW   a", "LPV   b"]
    assert titles[1::3] == ["period 0.5 d", "period 300 d"]
    assert titles[2::3] == ["dm-dt (V)"] * 2
    assert len(plots.class_grid(lcs, n=2)) == 12


def test_a_class_grid_takes_images_and_periods_aligned_with_the_table(lcs):
    images = np.stack([np.full(dmdt.GRID.shape, k + 1) for k in range(4)])
    periods = pd.Series([1.0, 2.0, 3.0, 4.0], index=lcs.index)
    picture = plots.class_grid(lcs.iloc[::-1], images=images[::-1], periods=periods[::-1])
    assert [np.nanmax(each["value"]) for each in _elements(picture, hv.Image)] == [4, 3]
    titles = [drawn.title.text for drawn in _figures(picture)]
    assert titles[1::3] == ["period 4 d", "period 3 d"]


def test_lines_lie_on_both_sides_of_a_streak_and_rows_go_upwards():
    stamp = np.zeros((66, 66))
    stamp[10, 20:41] = 9
    found = pd.DataFrame({"x": [30, np.nan], "y": [10, np.nan], "angle": [0, np.nan]})
    picture = plots.streaks([stamp, stamp], found.assign(length=20.0), titles=["a", "b"])
    assert isinstance(hv.render(picture), GridPlot)
    image, lines = picture.values()[0]
    assert [image[30, 10], image[30, 55]] == [9, 0]
    assert [line[:, 1].tolist() for line in lines.split(datatype="array")] == [[7, 7], [13, 13]]
    assert [line[:, 0].tolist() for line in lines.split(datatype="array")] == [[20, 40]] * 2
    assert not len(picture.values()[1].values()[1].data)


def test_a_gallery_keeps_the_order_of_the_table_and_admits_a_missing_period(lcs):
    picture = plots.gallery(lcs.drop(columns="label")[::-1])
    titles = [drawn.title.text for drawn in _figures(picture)]
    assert titles[::3] == ["d", "c", "b", "a"]
    assert [each.data[2] for each in _elements(picture, hv.Text)] == ["no period"]
    assert len(plots.gallery(lcs.drop(columns="period"))) == 12


def test_the_tree_shows_every_class_once():
    (names,) = _elements(plots.taxonomy(), hv.Labels)
    shown = [text.split("   ")[0] for text in names.dimension_values("name")]
    assert len(set(shown)) == len(shown)
    assert set(taxonomy.CLASSES) | {"intrinsic", "pulsating"} <= set(shown)
    (dots,) = _elements(plots.taxonomy(), hv.Points)
    assert set(dots.dimension_values("color")) == set(plots.CLASS_COLORS.values())


def test_pictures_compose_and_need_no_kernel(lc):
    picture = plots.lightcurve(lc) + plots.folded(lc, 0.5) * plots.folded(lc, 0.5)
    picture += plots.dmdt(np.ones(dmdt.GRID.shape)) + plots.embedding([[0, 0], [1, 1]], ["a", "b"])
    assert len(_figures(picture)) == 4
    assert _elements(picture, hv.DynamicMap) == []


def test_extension_leaves_no_style_sheet_to_fetch(lc):
    from panel.pane import HoloViews
    from panel.viewable import Viewable

    before = list(Viewable._preprocessing_hooks)
    try:
        plots.extension()
        plots.extension()
        assert Viewable._preprocessing_hooks == [*before, plots._inline_stylesheets]
        root = HoloViews(plots.lightcurve(lc)).get_root()
    finally:
        Viewable._preprocessing_hooks[:] = before
    sheets = [sheet for model in root.select({"type": UIElement}) for sheet in model.stylesheets]
    assert len(sheets) > 0
    assert [sheet for sheet in sheets if isinstance(sheet, ImportedStyleSheet)] == []


@pytest.mark.parametrize("period", [0, -1.0, np.nan, np.inf])
def test_folding_needs_a_period(lc, period):
    with pytest.raises(ValueError, match=r"expected a positive period \[day\], got"):
        plots.folded(lc, period)


def test_a_light_curve_needs_an_observation(lc):
    with pytest.raises(ValueError, match="no observation to draw"):
        plots.lightcurve(lc[:0])


def test_an_image_of_another_grid_is_refused():
    with pytest.raises(ValueError, match=r"of shape .3, 4. is not of Grid.22 dm .* own grid="):
        plots.dmdt(np.ones((3, 4)))


def test_a_confusion_matrix_needs_a_row_per_class():
    with pytest.raises(ValueError, match=r"expected a matrix of shape \(3, 3\)"):
        plots.confusion(np.eye(2), ["EW", "EA", "LPV"])


def test_a_map_needs_two_columns_and_a_label_per_object():
    with pytest.raises(ValueError, match=r"\(n_objects, 2\), got \(4, 3\)"):
        plots.embedding(np.ones((4, 3)))
    with pytest.raises(ValueError, match=r"got \(2, 2\), 1 not finite"):
        plots.embedding([[0, 1], [np.nan, 2]])
    with pytest.raises(ValueError, match="expected 4 labels, one per object, got 2"):
        plots.embedding(np.ones((4, 2)), ["EW", "EA"])


def test_a_class_grid_needs_labels(lcs):
    with pytest.raises(ValueError, match=r"no column 'label'; use plots.gallery"):
        plots.class_grid(lcs.drop(columns="label"))


def test_attributions_are_drawn_about_zero_and_empty_cells_are_blank():
    map_ = np.zeros(networks.FINE_GRID.shape)
    map_[3, 4], map_[5, 6] = 2.0, -1.0
    image = plots.attribution(map_)
    assert image.range("attribution") == (-2, 2)
    values = image.dimension_values("attribution", flat=False)
    assert values[3, 4] == 2
    assert values[5, 6] == -1
    assert np.isnan(values).sum() == values.size - 2
    hv.render(image)
    with pytest.raises(ValueError, match=r"is not of .*; give its own grid="):
        plots.attribution(np.ones((2, 2)))


def test_shares_colour_and_size_the_observations(one_band_lcs):
    lc = one_band_lcs["lightcurve"].iloc[0]
    values = np.linspace(-1, 0.5, len(lc))
    points = plots.shares(lc, values)
    table = points.dframe().sort_values("mjd")
    np.testing.assert_allclose(table["share"], values)
    assert table["size"].max() == 12
    assert points.range("share") == (-1, 1)
    hv.render(points)
    with pytest.raises(ValueError, match="2 shares for"):
        plots.shares(lc, [1, 2])


def test_filters_are_laid_out_row_by_row():
    kernels = np.arange(1.0, 28).reshape(3, 3, 3)
    image = plots.filters(kernels, n_columns=2)
    sheet = image.dimension_values("weight", flat=False)
    np.testing.assert_array_equal(sheet[4:7, 0:3], kernels[0])
    np.testing.assert_array_equal(sheet[4:7, 4:7], kernels[1])
    np.testing.assert_array_equal(sheet[0:3, 0:3], kernels[2])
    hv.render(image)
    with pytest.raises(ValueError, match="give those of one channel"):
        plots.filters(np.ones((2, 3, 3, 4)))


def test_bars_of_one_object_and_of_classes():
    one = plots.bars(pd.Series([3.0, -2, 1], ["a", "b", "c"]), n=2)
    assert one.dimension_values("name").tolist() == ["b", "a"]
    several = plots.bars(pd.DataFrame([[3, 2], [1, 1]], ["f", "g"], ["EA", "EW"]))
    for picture in (one, several):
        hv.render(picture)


def test_curves_of_deletion_carry_their_areas():
    fraction = np.array([0, 0.5, 1])
    curves = faithfulness.Curves(fraction, np.array([[1, 0, 0]]), np.array([[0, 1, 1]]))
    deletion, insertion = plots.cuts({"mine": curves})
    assert [curve.label for curve in deletion] == ["mine 0.25"]
    assert [curve.label for curve in insertion] == ["mine 0.75"]
    hv.render(deletion)


def test_triplets_show_every_plane():
    triplets = np.random.default_rng(0).normal(size=(2, 9, 9, 3)).astype(np.float32)
    triplets[0, 7:] = 0
    triplets[0, 2, 3, 2] = -50
    triplets[1, ..., 0] = 0
    layout = plots.triplets(triplets, ["a"])
    titles = [picture.opts.get().kwargs["title"] for picture in layout]
    assert titles == ["a", "template", "difference", "science", *titles[1:3]]
    shown = layout.values()[2].dimension_values("brightness", flat=False)
    assert np.array_equal(shown, stamps.stretch(triplets[0, ..., 2]))
    assert shown[2, 3] == 0  # row 0 is at the bottom
    hv.render(layout)


def test_panels_have_a_column_for_each_name():
    pixels = np.random.default_rng(0).normal(size=(2, 8, 9))
    rings = [pd.DataFrame({"x": [3.0], "y": [2.0]})] * 2
    picture = plots.panels({"science": pixels, "blank": 0 * pixels, "truth": pixels}, rings)
    assert len(picture) == 6
    assert [list(each)[1].dimension_values("x").tolist() for each in picture] == [[3.0]] * 6
    hv.render(picture)
    with pytest.raises(ValueError, match="give each name the same number"):
        plots.panels({"a": pixels, "b": pixels[:1]})
