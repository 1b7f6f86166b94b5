"""MapExplorer in a real JupyterLab: lasso, box, keyboard twin, hover, filter, search, undo."""

import io
from itertools import pairwise

import matplotlib.image
import numpy as np
import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SOURCE = """
import numpy as np
from skynb import simulate, widgets
lcs = simulate.lightcurves(n_per_class=15, seed=1)
angle = 2 * np.pi * np.unique(lcs["label"], return_inverse=True)[1] / 7
rng = np.random.default_rng(0)
xy = 5 * np.column_stack([np.cos(angle), np.sin(angle)]) + rng.normal(0, 0.7, (len(lcs), 2))
xy[3] = np.nan
explorer = widgets.MapExplorer(lcs, xy, axes=("east", "north"))
explorer
"""


class Map:
    """The explorer in the page, and the mouse on its map."""

    def __init__(self, lab):
        self.lab, self.view = lab, lab.view("MapExplorer")
        self.view.locator(".bk-Figure canvas").first.wait_for()
        self.figure = self.view.locator(".bk-Figure").first
        lab.page.wait_for_timeout(500)

    def drag(self, *places):
        """Press at the first of these places on the map, move along, and let go at the last."""
        page, spots = self.lab.page, [self.lab.spot("map", *place) for place in places]
        page.mouse.move(*spots[0])
        page.mouse.down()
        for first, last in pairwise(spots):
            for step in (0.25, 0.5, 0.75, 1):  # a busy page sees one move in each of its frames
                page.mouse.move(*(a + step * (b - a) for a, b in zip(first, last, strict=True)))
                page.evaluate("() => new Promise((done) => requestAnimationFrame(done))")
        page.mouse.up()

    def tool(self, name):
        self.figure.get_by_title(name, exact=True).click()

    def labelled(self, name):
        return self.view.get_by_label(name, exact=True)

    def button(self, name):
        return self.view.get_by_role("button", name=name, exact=True)


@pytest.fixture
def shown(lab):
    lab.page.set_viewport_size({"width": 1500, "height": 1500})
    lab.open(SOURCE, name="map")
    return Map(lab)


def test_lasso_box_and_their_keyboard_twin_choose_the_same(shown, lab, screenshots):
    corners = [(3.0, -1.9), (6.7, -1.9), (6.7, 1.9), (3.0, 1.9)]
    shown.drag(*corners, corners[0])
    lab.until("len(explorer.selection) > 0", True)
    ids = lab.python("explorer.selection.ids.tolist()")
    brute = "lcs.index[(xy[:, 0] > 3) & (xy[:, 0] < 6.7) & (abs(xy[:, 1]) < 1.9)].tolist()"
    assert ids == lab.python(brute)
    assert len(ids) > 8
    assert lab.python("explorer.selection.n_undo") == 1
    shown.view.get_by_text(f"; {len(ids)} chosen").wait_for()
    shown.view.get_by_text(f"Chosen objects 1 to 6 of {len(ids)}").wait_for()
    shown.view.screenshot(path=screenshots / "MapExplorer.png")
    assert lab.violations() == []

    shown.button("Choose nothing").click()
    lab.until("len(explorer.selection)", 0)
    shown.tool("Box Select")
    shown.drag((3.0, -1.9), (6.7, 1.9))
    lab.until("explorer.selection.ids.tolist()", ids)

    shown.button("Choose nothing").click()
    names = ("east from", "east to", "north from", "north to")
    for name, value in zip(names, (3.0, 6.7, -1.9, 1.9), strict=True):
        shown.labelled(name).fill(str(value))
    shown.labelled("north to").press("Tab")
    button = shown.button("Choose this range")
    assert button.evaluate("button => button === document.activeElement")
    lab.page.keyboard.press("Enter")
    lab.until("explorer.selection.ids.tolist()", ids)

    lab.page.keyboard.down("Shift")
    shown.drag((-6, -6), (0, 0))
    lab.page.keyboard.up("Shift")
    lab.until(f"set(explorer.selection.ids) > set({ids})", True)
    shown.view.focus()
    lab.page.keyboard.press("u")
    lab.until("explorer.selection.ids.tolist()", ids)
    shown.labelled("Choosing").select_option("remove")
    shown.drag((3.0, -1.9), (6.7, 0))
    lab.until("len(explorer.selection) in range(1, 12)", True)
    assert lab.python("float(xy[explorer.selection.rows, 1].min())") > 0


def test_hover_filter_search_and_back_to_the_place(shown, lab, screenshots):
    x, y = lab.python("xy[20].tolist()")
    name = lab.python("lcs.index[20]")
    lab.page.mouse.move(*lab.spot("map", x, y + 1), steps=3)
    lab.page.mouse.move(*lab.spot("map", x, y), steps=3)
    lab.until("explorer.under", 20)
    shown.view.get_by_text(f"Under the pointer: {name} (").wait_for()
    lab.page.mouse.click(*lab.spot("map", x, y))
    lab.until("explorer.selection.focus", 20)
    shown.view.get_by_text(f"in focus: {name} (").wait_for()

    box = shown.view.get_by_role("checkbox", name="RRab (15)", exact=True)
    box.focus()
    lab.page.keyboard.press("Space")
    shown.view.get_by_text("classes hidden: RRab").wait_for()
    shown.tool("Box Select")
    shown.drag((-6.6, -6.4), (6.8, 6.5))
    lab.until("len(explorer.selection) in range(80, 91)", True)
    assert "RRab" not in lab.python("lcs['label'].iloc[explorer.selection.rows].tolist()")

    found = lab.python("lcs.index[50]")
    shown.labelled("Find id").fill(found)
    lab.page.keyboard.press("Enter")
    lab.until("explorer.selection.focus", 50)
    x, y = lab.python("xy[50].tolist()")
    lab.until("[round(sum(explorer.extent[k:k + 2]) / 2, 6) for k in (0, 2)]",
              [round(x, 6), round(y, 6)])  # fmt: skip
    shown.labelled("Find id").fill("none such")
    lab.page.keyboard.press("Enter")
    alert = shown.view.get_by_role("alert")
    alert.wait_for()
    assert "no object 'none such' among 105" in alert.inner_text()
    assert lab.python("len(explorer.selection)") in range(80, 91)

    shown.button("Whole map").click()
    lab.until("explorer.extent == explorer._whole", True)
    middle = lab.spot("map", 0, 0)
    lab.page.mouse.move(*middle)
    lab.page.mouse.wheel(0, -200)
    lab.until("explorer.extent[1] < 6", True)
    shown.labelled("Colour by").select_option("density")
    lab.until("explorer.color", "density")
    shown.button("Next page").click()
    shown.view.get_by_text("Chosen objects 7 to 12 of").wait_for()
    looked = shown.labelled("Look at")
    looked.select_option(index=2)
    lab.until("explorer.selection.focus == int(explorer.selection.rows[8])", True)
    shown.view.screenshot(path=screenshots / "map_zoomed.png")
    assert lab.violations() == []


def test_thumbnails_are_drawn_and_a_click_looks_at_one(shown, lab):
    lab.python("explorer.selection.choose_rows([5, 10, 15])")
    shown.view.get_by_text("Chosen objects 1 to 3 of 3").wait_for()
    lab.page.wait_for_timeout(500)
    thumbs = shown.view.locator(".bk-Figure").nth(1)
    box = thumbs.bounding_box()
    drawn = thumbs.screenshot()
    lab.page.mouse.click(box["x"] + 100, box["y"] + box["height"] * 2.5 / 6)
    lab.until("explorer.selection.focus", 15)
    lab.page.wait_for_timeout(300)
    assert _inked(drawn, 0, 3) > 20 * _inked(drawn, 4, 6)
    assert thumbs.screenshot() != drawn


def _inked(png, first, last):
    """Return the share of pixels that are not white, from one cell to another."""
    image = matplotlib.image.imread(io.BytesIO(png))[..., :3]
    n = len(image) // 6
    return np.mean((image[first * n : last * n] < 0.9).any(axis=2)) + 1e-6
