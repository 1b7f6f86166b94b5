import numpy as np
import pandas as pd
import pytest
import traitlets
from matplotlib.figure import Figure

from skynb import dmdt, embed, lightcurves, plots
from skynb.widgets import MapExplorer, Selection, map, thumbnails


@pytest.fixture
def xy(one_band_lcs):
    """Places on a grid of seven columns, one for each class, and three rows."""
    n = len(one_band_lcs)
    return np.column_stack([np.arange(n) // 3, np.arange(n) % 3]).astype(float)


@pytest.fixture
def explorer(one_band_lcs, xy):
    return MapExplorer(one_band_lcs, xy)


def lit(explorer, x, y):
    """Return the colour of a place on the map, and whether anything is drawn there."""
    x0, x1, y0, y1 = explorer.extent
    image = explorer.image(explorer.extent)
    n = len(image)
    pixel = image[int(n * (y - y0) / (y1 - y0)), int(n * (x - x0) / (x1 - x0))]
    return "#" + "".join(f"{(int(pixel) >> 8 * k) & 255:02x}" for k in range(3)), pixel >> 24 > 0


def test_every_object_is_drawn_in_the_colour_of_its_class(explorer, xy, one_band_lcs):
    colors = plots.class_colors(sorted(set(one_band_lcs["label"])))
    for (x, y), label in zip(xy, one_band_lcs["label"], strict=True):
        assert lit(explorer, x, y) == (colors[label], True)
    assert not lit(explorer, 0.5, 0.5)[1]


def test_a_box_and_a_lasso_choose_what_lies_in_them(explorer):
    explorer.choose_between(0.5, 2, -1, 1)
    assert explorer.selection.rows.tolist() == [3, 4, 6, 7]
    explorer.choose_inside([-0.5, 0.6, -0.5], [-0.5, 0.5, 1.5])
    assert explorer.selection.rows.tolist() == [0, 1]
    explorer.selection.undo()
    assert explorer.selection.rows.tolist() == [3, 4, 6, 7]


def test_a_lasso_agrees_with_a_loop_and_may_cross_itself(one_band_lcs):
    from matplotlib.path import Path

    rng = np.random.default_rng(0)
    xy = rng.normal(size=(len(one_band_lcs), 2))
    explorer = MapExplorer(one_band_lcs, xy)
    angle = np.linspace(0, 2 * np.pi, 30)
    x, y = (1 + 0.3 * np.cos(5 * angle)) * (np.cos(angle), np.sin(angle))
    explorer.choose_inside(x, y)
    expected = np.flatnonzero(Path(np.column_stack([x, y])).contains_points(xy))
    assert explorer.selection.rows.tolist() == expected.tolist()
    explorer.choose_inside([-9, 9, -9, 9], [-9, 9, 9, -9])
    bow_tie = np.abs(xy[:, 1]) > np.abs(xy[:, 0])
    assert explorer.selection.rows.tolist() == np.flatnonzero(bow_tie).tolist()


def test_the_way_of_choosing(explorer):
    explorer.choose_between(0, 1, 0, 0)
    explorer.how = "add"
    explorer.choose_between(2, 2, 0, 0)
    assert explorer.selection.rows.tolist() == [0, 3, 6]
    explorer._how.value = "remove"
    explorer.choose_between(1, 9, 0, 0)
    assert explorer.selection.rows.tolist() == [0]
    explorer.choose_between(4, 4, 0, 2, how="replace")
    assert explorer.selection.rows.tolist() == [12, 13, 14]


def test_the_four_fields_are_a_box(explorer):
    for field, value in zip(explorer._range, (1, 2, 0, 0.5), strict=True):
        field.value = str(value)
    explorer.press("Enter")
    assert explorer.selection.rows.tolist() == [3, 6]
    explorer._range[0].value = "7"
    explorer.press("Enter")
    assert "a range from 7.0 to 2.0" in explorer.message
    for text in ("", "x"):
        explorer._range[0].value = text
        explorer.press("Enter")
        assert explorer.message == f"'x from' is {text!r}; give a number"
    assert explorer.selection.rows.tolist() == [3, 6]


def test_what_is_chosen_is_outlined_and_the_rest_fades(explorer):
    before, drawn = lit(explorer, 0, 0), explorer.image(explorer.extent) >> 24
    explorer.selection.choose_rows([0])
    after = explorer.image(explorer.extent)
    assert lit(explorer, 0, 0) == before
    assert np.count_nonzero(after == 0xFF000000) > 20
    faded = (after >> 24) == drawn // 2
    assert np.count_nonzero(faded & (drawn > 0)) > 20 * 20  # dots of 29 pixels, 20 of them
    assert lit(explorer, 6, 2)[1]


def test_a_hidden_class_is_neither_drawn_nor_chosen(explorer, one_band_lcs):
    name = one_band_lcs["label"].iloc[0]
    explorer._filters[name].value = False
    assert name not in explorer.shown
    assert not lit(explorer, 0, 0)[1]
    explorer.choose_between(-9, 9, -9, 9)
    assert explorer.selection.rows.tolist() == list(range(3, 21))
    explorer.selection.choose_rows([0, 5])
    assert "2 chosen, 1 of them not drawn" in explorer.description
    assert f"classes hidden: {name}" in explorer.description
    assert explorer.nearest(0.0, 0.0) is None
    explorer.shown = tuple(explorer.classes)
    assert explorer._filters[name].value
    with pytest.raises(traitlets.TraitError, match="no class 'RR'; there are EA, EW"):
        explorer.shown = ("RR",)


@pytest.mark.parametrize("color", ["density", "period", "score"])
def test_colours_say_density_or_a_column(one_band_lcs, xy, color):
    score = pd.DataFrame({"score": np.linspace(0, 1, 21), "text": "a"}, index=one_band_lcs.index)
    explorer = MapExplorer(one_band_lcs, xy, features=score)
    explorer.color = color
    assert explorer._color.value == color
    assert f"coloured by {color}" in explorer.description
    shades = {lit(explorer, 0, 0), lit(explorer, 6, 2)}
    assert len(shades) == (1 if color == "density" else 2)
    figure = Figure()
    explorer.draw(figure)
    bars = [axes.get_ylabel() for axes in figure.axes if axes.get_label() == "<colorbar>"]
    assert bars == ([] if color == "density" else [color])
    with pytest.raises(traitlets.TraitError, match="no 'text' to colour by; there are class"):
        explorer.color = "text"
    MapExplorer(one_band_lcs, xy, features=score[["score"]].to_numpy()).color = "0"


def test_the_nearest_object(explorer):
    assert explorer.nearest(3.01, 1.01) == 10
    assert explorer.nearest(3.5, 1.5) is None
    explorer._pointed_at("data", None, {"x": [3.01], "y": [1.0]})
    assert explorer.under == 10
    assert explorer._name(10) in explorer._pointed.value


def test_an_id_is_found_and_brought_into_the_middle(explorer, one_band_lcs):
    wanted = one_band_lcs.index[17]
    explorer._id.value = str(wanted)
    assert explorer.selection.focus == 17
    x0, x1, y0, y1 = explorer.extent
    assert ((x0 + x1) / 2, (y0 + y1) / 2) == pytest.approx((5, 2))
    explorer.press("w")
    assert explorer.extent == explorer._whole
    explorer.find("nobody")
    assert "no object 'nobody' among 21" in explorer.message
    assert explorer.selection.focus == 17


def test_whole_numbers_are_found_as_text(one_band_lcs, xy):
    numbered = one_band_lcs.set_index(pd.Index(np.arange(21) + 2**60, name="object_id"))
    explorer = MapExplorer(numbered, xy)
    explorer._id.value = str(2**60 + 4)
    assert explorer.selection.focus == 4
    explorer.find("abc")
    assert "no object 'abc'" in explorer.message


def test_pages_of_light_curves(explorer):
    assert explorer.paged().tolist() == [0]
    explorer.selection.choose_rows(range(3, 17))
    assert explorer.paged().tolist() == [3, 4, 5, 6, 7, 8]
    explorer.press("n")
    explorer.press("n")
    explorer.press("n")
    assert explorer.page == 2
    explorer.page = 99
    assert explorer.page == 2
    assert explorer.paged().tolist() == [15, 16]
    assert [row for _, row in explorer._list.options] == [15, 16]
    explorer._list.value = 16
    assert explorer.selection.focus == 16
    explorer.press("p")
    assert explorer.page == 1
    explorer.press("Escape")
    assert explorer.page == 0
    assert explorer.paged().tolist() == [16]


def test_thumbnails_show_the_light_curve_and_its_image(one_band_lcs):
    cells = thumbnails.cells(one_band_lcs.iloc[:2])
    lc = one_band_lcs["lightcurve"].iloc[1]
    n_first = len(one_band_lcs["lightcurve"].iloc[0])
    y, mag = np.array(cells["points"]["y"])[n_first:], lc["mag"].to_numpy()
    assert np.argmax(y) == np.argmin(mag)
    assert ((y > thumbnails.N_CELLS - 2) & (y < thumbnails.N_CELLS - 1)).all()
    counts = dmdt.image(lc["mjd"], mag)
    image = cells["images"]["image"][1]
    np.testing.assert_array_equal(np.isnan(image), counts == 0)
    assert np.nanmax(image) == 1
    assert np.nanargmax(image) == np.argmax(counts)


def test_thumbnails_of_several_bands_tell_them_by_marker(ztf_lcs):
    cells = thumbnails.cells(ztf_lcs.iloc[:1])
    assert len(set(cells["points"]["marker"])) == 3
    assert len(set(cells["points"]["color"])) == 3


def test_other_explorers_are_followed(one_band_lcs, xy):
    shared = Selection(one_band_lcs)
    explorer = MapExplorer(one_band_lcs, xy, selection=shared)
    shared.choose_rows([4, 9])
    shared.focus = 9
    assert explorer.paged().tolist() == [4, 9]
    assert "; 2 chosen" in explorer.description
    assert f"in focus: {one_band_lcs.index[9]}" in explorer.description
    assert explorer._sources["focus"].data["x"] == [3.0]


def test_light_curves_on_disk_are_read_when_shown(one_band_lcs, xy, tmp_path, monkeypatch):
    monkeypatch.setattr(lightcurves, "GROUP", 3 * 300)
    on_disk = lightcurves.open(lightcurves.write(one_band_lcs, tmp_path / "lcs.parquet"))
    explorer = MapExplorer(on_disk, xy)
    assert len(on_disk._read) == 1
    explorer.choose_between(6, 6, 0, 2)
    assert len(on_disk._read) <= 3
    in_memory = MapExplorer(one_band_lcs, xy)
    in_memory.choose_between(6, 6, 0, 2)
    assert explorer._cells.sources["points"].data == in_memory._cells.sources["points"].data


def test_a_map_is_computed_of_a_small_table_and_refused_of_a_large(one_band_lcs, monkeypatch):
    before = one_band_lcs.copy()
    explorer = MapExplorer(one_band_lcs)
    assert explorer.placed.all()
    pd.testing.assert_index_equal(one_band_lcs.columns, before.columns)
    monkeypatch.setattr(map, "N_COMPUTED", 20)
    with pytest.raises(
        ValueError, match=r"21 objects are too many .* \(up to 20\); give one, e.g."
    ):
        MapExplorer(one_band_lcs)


def test_an_embedding_is_taken_as_it_is(one_band_lcs, xy):
    given = embed.Embedding(xy, lambda new: new)
    assert MapExplorer(one_band_lcs, given).extent == MapExplorer(one_band_lcs, xy).extent


def test_objects_without_a_place_are_said_and_never_chosen(one_band_lcs, xy):
    xy[4], xy[7, 1] = np.nan, np.inf
    explorer = MapExplorer(one_band_lcs, xy)
    assert "2 of 21 objects have no place on the map (NaN): not drawn" in explorer.message
    assert "2 without a place" in explorer.description
    explorer.choose_between(-9, 9, -9, 9)
    assert len(explorer.selection) == 19
    explorer.selection.focus = 4
    explorer.press("c")
    assert f"{one_band_lcs.index[4]} " in explorer.message
    assert "has no place on the map" in explorer.message
    nowhere = MapExplorer(one_band_lcs, np.full((21, 2), np.nan))
    assert nowhere.extent == (0, 1, 0, 1)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_small_tables(one_band_lcs, n):
    explorer = MapExplorer(one_band_lcs.iloc[:n])
    word = "the table is empty" if n == 0 else f"{n} of the 4 objects that a map needs"
    assert word in explorer.message
    explorer.choose_between(-9, 9, -9, 9)
    assert len(explorer.selection) == n
    explorer.press("c")
    assert ("no object" in explorer.message) == (n == 0)
    assert explorer.still()[:4] == b"\x89PNG"


def test_labels_of_ones_own_unknown_missing_and_many(one_band_lcs, xy):
    labels = ["no such class", None, np.nan, *["EW"] * 18]
    explorer = MapExplorer(one_band_lcs, xy, labels=labels)
    assert explorer.classes == {"EW": 18, "no such class": 1, "unlabelled": 2}
    many = MapExplorer(one_band_lcs, xy, labels=[f"c{k:02}" for k in range(21)])
    assert len(many.classes) == map.N_CLASSES
    assert many.classes["other classes"] == 2
    bare = MapExplorer(one_band_lcs.drop(columns="label"), xy)
    assert bare.color == "density"
    assert bare.classes == {"unlabelled": 21}


def test_what_does_not_fit_is_refused(one_band_lcs, xy):
    with pytest.raises(
        ValueError, match=r"expected an embedding of shape \(21, 2\).*got \(20, 2\)"
    ):
        MapExplorer(one_band_lcs, xy[1:])
    with pytest.raises(ValueError, match="labels of 1 objects, but 21 light curves"):
        MapExplorer(one_band_lcs, xy, labels=["EW"])
    with pytest.raises(ValueError, match="features of 2 objects, but 21 light curves"):
        MapExplorer(one_band_lcs, xy, features=pd.DataFrame({"a": [1, 2]}))
    with pytest.raises(ValueError, match="selection is of another table"):
        MapExplorer(one_band_lcs, xy, selection=Selection([1, 2]))


@pytest.mark.parametrize("what", ["embedding", "labels", "features"])
def test_tables_of_another_order_are_refused(one_band_lcs, xy, what):
    index = one_band_lcs.index
    given = {
        "embedding": pd.DataFrame(xy, index),
        "labels": pd.Series("EW", index),
        "features": pd.DataFrame({"a": np.arange(21)}, index),
    }
    MapExplorer(one_band_lcs, **given)
    for other in (given[what][::-1], given[what].reset_index(drop=True)):
        with pytest.raises(ValueError, match=f"{what} of 21 objects, but 21 .* another order"):
            MapExplorer(one_band_lcs, **given | {what: other})


def test_nothing_is_under_the_pointer_out_of_the_table(explorer):
    explorer.under = 3
    with pytest.raises(ValueError, match="under is 21; there are 21 objects"):
        explorer.under = 21
    assert explorer.under == 3


def test_a_still_and_the_line_that_revives_it(explorer):
    bundle, _ = explorer._repr_mimebundle_()
    assert "run its cell again, or a line like" in bundle["text/html"]
    assert "widgets.MapExplorer(lcs, embedding)" in bundle["text/html"]
    shared = MapExplorer(explorer.lcs, selection=explorer.selection)
    assert shared.revive() == "widgets.MapExplorer(lcs, selection=selection)"
    assert "map of 21 objects coloured by class" in bundle["text/html"]


def test_a_few_pixels_become_dots_and_many_stay():
    image = np.zeros((200, 200), np.uint32)
    image[50, 60] = 0xFF0000FF
    image[0, 199] = 0xFF00FF00
    dots = map.spread(image)
    assert np.count_nonzero(dots == 0xFF0000FF) == 29
    assert dots[53, 60] == 0xFF0000FF
    assert np.count_nonzero(dots == 0xFF00FF00) == 11
    full = np.full((200, 200), 0xFF0000FF, np.uint32)
    np.testing.assert_array_equal(map.spread(full), full)


def test_a_closed_map_leaves_the_bus(explorer):
    said = explorer.description
    explorer.close()
    explorer.close()
    explorer.selection.choose_rows([1, 2])
    explorer.selection.focus = 3
    assert explorer.description == said


def test_classes_are_shown_as_asked_from_python(explorer):
    explorer.shown = ("EW", "RRc")
    assert explorer.shown == ("EW", "RRc")
    assert {n for n, box in explorer._filters.items() if box.value} == {"EW", "RRc"}
    explorer.choose_between(-9, 9, -9, 9)
    assert len(explorer.selection) == 6
    explorer._filters["EW"].value = False
    assert explorer.shown == ("RRc",)
    explorer.shown = ()
    assert explorer.shown == ()


def test_labels_may_be_called_as_the_map_calls_what_has_none(one_band_lcs, xy):
    labels = ["unlabelled", None, "other classes", "EW", "EA", 1, "1"] * 3
    explorer = MapExplorer(one_band_lcs, xy, labels=labels)
    assert explorer.classes == {
        "1": 6, "EA": 3, "EW": 3, "other classes": 3, "unlabelled": 6,
    }  # fmt: skip


def test_a_part_without_extent_is_refused_and_the_map_goes_on(explorer):
    for wrong in ((0, 0, 0, 0), (np.nan, 1, 0, 1), (1, 0, 0, 1)):
        with pytest.raises(ValueError, match="is no part of the map"):
            explorer.look(*wrong)
    explorer.show_all()
