"""Explorer in a real JupyterLab: from the map to the pairs behind a cell and to a label."""

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SOURCE = """
import numpy as np
from skynb import simulate, widgets

lcs = simulate.lightcurves(n_per_class=12, cadence="ztf", seed=1)
explorer = widgets.Explorer(lcs, progress=False)
bus = explorer.selection
explorer
"""


def test_from_the_map_to_a_label(lab, screenshots):
    lab.page.set_viewport_size({"width": 1500, "height": 2000})
    lab.open(SOURCE)
    view, mouse = lab.view("Explorer"), lab.page.mouse
    view.locator("[data-name=Labeler] progress").wait_for()
    view.locator("[data-name=DmDtExplorer] .bk-Figure canvas").first.wait_for()
    lab.page.wait_for_timeout(1000)

    x0, x1, y0, y1 = lab.python("list(map(float, explorer.map._whole))")
    x = (x0 + x1) / 2
    corners = [(x0, y0), (x0, y1), (x, y1), (x, y0)]
    mouse.move(*lab.spot("map", *corners[0]))
    mouse.down()
    for corner in corners[1:]:
        mouse.move(*lab.spot("map", *corner), steps=4)
    mouse.up()
    lab.until("len(bus) > 1", True)
    lab.until("bus.focus in bus.rows.tolist()", True)
    n = lab.python("len(bus)")
    lab.until(lambda: f"{n} chosen" in view.get_attribute("aria-label"), True)

    cell = lab.python(
        "list(map(int, np.unravel_index(explorer.dmdt.image.counts.argmax(), (22, 24))))"
    )
    mouse.click(*lab.spot("dmdt", cell[1], cell[0]))
    lab.until("explorer.dmdt.cells", [cell])
    lit = lab.python("int(explorer.dmdt.image.counts.max())")
    lab.until("len(bus.pairs)", lit)
    lab.until(lambda: len(lab.marked("raw", "pairs")["mjd_0"]), min(lit, 2000))
    assert lab.page.locator(".skynb-view .bk-Figure").count() == 5  # one raw, one folded

    curve = view.locator("[data-name=LightCurveExplorer]")
    curve.focus()
    before = lab.python("bus.focus")
    lab.page.keyboard.press("n")
    lab.until(f"bus.focus > {before}", True)
    lab.page.keyboard.press("d")
    lab.until("len(explorer.periods)", 1)

    labeler, here = view.locator("[data-name=Labeler]"), lab.python("bus.focus")
    labeler.focus()
    lab.page.keyboard.press("1")
    lab.until("list(explorer.labels)", lab.python("[explorer.labeler.classes[0]]"))
    assert lab.python("explorer.labels.index[0]") == lab.python(f"lcs.index[{here}]")
    lab.until(f"bus.focus != {here}", True)
    assert lab.violations() == []
    mouse.move(5, 5)
    lab.page.wait_for_timeout(500)
    view.screenshot(path=screenshots / "Explorer.png")
