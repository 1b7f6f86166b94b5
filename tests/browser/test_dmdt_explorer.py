"""DmDtExplorer in a real JupyterLab, driven with mouse and keyboard."""

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SOURCE = """
import numpy as np
from skynb import simulate, widgets

lcs = simulate.lightcurves(n_per_class=1, cadence="ztf", seed=1)
explorer = widgets.DmDtExplorer(lcs)
bus = explorer.selection

def brute_force(cells):
    lc, found = explorer.lc, set()
    rows = np.flatnonzero(lc["band"] == explorer.band)
    for i in rows:
        for j in rows[rows > i]:
            dm, dt = lc.mag[j] - lc.mag[i], lc.mjd[j] - lc.mjd[i]
            for row, column in cells:
                if (explorer.grid.dm[row] <= dm < explorer.grid.dm[row + 1]
                        and explorer.grid.dt[column] <= dt < explorer.grid.dt[column + 1]):
                    found.add((int(i), int(j)))
    return found

def agree():
    return {tuple(map(int, pair)) for pair in bus.pairs} == brute_force(explorer.cells)

explorer
"""


def test_cells_light_up_pairs_and_observations_light_up_cells(lab, screenshots):
    lab.open(SOURCE)
    view, press = lab.view("DmDtExplorer"), lab.page.keyboard.press
    mouse = lab.page.mouse
    view.locator(".bk-Figure canvas").first.wait_for()
    lab.page.wait_for_timeout(500)
    mouse.click(*lab.spot("dmdt", 15, 11))
    lab.until("explorer.cells", [[11, 15]])
    lab.until("len(bus.pairs) > 0", True)
    lab.until("agree()", True)
    lit = lab.python("len(bus.pairs)")
    view.get_by_role("status").get_by_text(f"In 1 picked cell: {lit} pairs").wait_for()
    lab.until(lambda: len(lab.marked("raw", "pairs")["mjd_0"]), lit)
    lab.until(lambda: len(lab.marked("folded", "pairs")["phase_0"]), lit)
    view.screenshot(path=screenshots / "DmDtExplorer.png")

    mouse.move(*lab.spot("dmdt", 14, 10))
    mouse.down()
    mouse.move(*lab.spot("dmdt", 16, 11), steps=4)
    mouse.up()
    lab.until("sorted(explorer.cells)", [[r, c] for r in (10, 11) for c in (14, 15, 16)])
    lab.until(f"len(bus.pairs) > {lit}", True)
    lab.until("agree()", True)

    view.focus()
    press("Escape")
    lab.until("len(bus.pairs)", 0)
    press("ArrowDown")
    press("ArrowRight")
    press("Enter")
    lab.until("len(explorer.cells)", 1)
    press("ArrowRight")
    press(" ")
    lab.until("len(explorer.cells)", 2)
    lab.until("agree()", True)
    view.get_by_label("dt [d]").fill("50")
    view.get_by_label("dm [mag]").fill("-0.05")
    view.get_by_role("button", name="pick cell").focus()
    press("Enter")
    lab.until("explorer.cells", [[10, 16]])
    lab.until("agree()", True)
    lab.until(lambda: lab.marked("dmdt", "cursor"), {"x": [16], "y": [10], "size": [1]})
    view.get_by_label("dt [d]").fill("50000")
    view.get_by_role("button", name="pick cell").click()  # it may arrive before what was typed
    view.get_by_role("alert").get_by_text("no cell holds dt 50000 d").wait_for()
    assert lab.python("explorer.cells") == [[10, 16]]

    press("Escape")
    low, high = lab.python("[explorer.lc.mjd.min(), explorer.lc.mjd.quantile(0.2)]")
    faint, bright = lab.python("[explorer.lc.mag.max(), explorer.lc.mag.min()]")
    mouse.move(*lab.spot("raw", low - 1, bright - 0.01))
    mouse.down()
    mouse.move(*lab.spot("raw", high, faint + 0.01), steps=4)
    mouse.up()
    chosen = f"np.flatnonzero(explorer.lc.mjd <= {high!r}).tolist()"
    lab.until(f"list(bus.points) == {chosen}", True)
    n_cells = lab.python("int((explorer._share(bus.points) > 0).sum())")
    lab.until(lambda: len(lab.marked("dmdt", "share")["x"]), n_cells)
    view.screenshot(path=screenshots / "share.png")
    assert lab.violations() == []


def test_menus(lab, screenshots):
    lab.open(SOURCE)
    view = lab.view("DmDtExplorer")
    view.locator(".bk-Figure canvas").first.wait_for()
    view.get_by_label("normalisation").select_option("p(dm|dt)")
    lab.until("explorer.grid.normalization", "p(dm|dt)")
    view.get_by_label("grid", exact=True).select_option("SCoPe")
    lab.until("explorer.grid.shape", [26, 26])
    before = lab.python("int(explorer.image.counts.sum())")
    view.get_by_label("band", exact=True).select_option("i")
    lab.until("explorer.band", "i")
    lab.until(f"int(explorer.image.counts.sum()) < {before}", True)
    n_pairs = lab.python("int(explorer.image.counts.sum())")
    lab.until(lambda: sum(lab.marked("dmdt", "cells")["pairs"]), n_pairs)
    assert len(lab.marked("dmdt", "cells")["value"]) == 26 * 26
    assert lab.violations() == []
    view.screenshot(path=screenshots / "menus.png")
