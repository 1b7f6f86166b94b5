"""Lesson 5 in a real JupyterLab: everything that its text asks for, done as it is written."""

import io

import matplotlib.colors
import matplotlib.image
import numpy as np
import pytest

from skynb import labels, plots

pytestmark = [pytest.mark.browser, pytest.mark.slow]

AROUND = """(lambda x, y: [[float(x.min()), float(y.min())], [float(x.max()), float(y.max())]])(
    *xy[near].T)"""


def test_a_clump_is_lassoed_and_stars_are_labelled(lab, screenshots):
    lab.page.set_viewport_size({"width": 1600, "height": 1400})
    lab.lesson("5_maps_and_labels")
    page, press = lab.page, lab.page.keyboard.press
    view = lab.view("MapExplorer")
    view.locator(".bk-Figure canvas").first.wait_for()

    # Do this: a lasso around a clump
    view.scroll_into_view_if_needed()
    (x0, y0), (x1, y1) = lab.python(AROUND)
    corners = [
        (x0 - 0.5, y0 - 0.5),
        (x1 + 0.5, y0 - 0.5),
        (x1 + 0.5, y1 + 0.5),
        (x0 - 0.5, y1 + 0.5),
    ]
    view.get_by_role("button", name="Choose nothing", exact=True).click()
    lab.until("len(chosen)", 0)
    page.mouse.move(*lab.spot("map", *corners[0]))
    page.mouse.down()
    for corner in (*corners[1:], corners[0]):
        page.mouse.move(*lab.spot("map", *corner), steps=6)
    page.mouse.up()
    lab.until("set(map(int, near)) <= set(chosen.rows.tolist())", True)
    n = lab.python("len(chosen)")
    view.get_by_text(f"; {n} chosen").wait_for()
    view.get_by_text(f"Chosen objects 1 to 6 of {n}").wait_for()
    view.get_by_label("Colour by").select_option("log_period")
    lab.until("map_explorer.color", "log_period")
    view.get_by_text("coloured by log_period").wait_for()
    view.screenshot(path=screenshots / "lesson_5_map.png")
    view.get_by_role("button", name="Undo", exact=True).click()
    lab.until("len(chosen)", 0)

    # Do this: eight labels by their keys, the oracle's eyes lent
    labeler = lab.view("Labeler")
    labeler.scroll_into_view_if_needed()
    labeler.locator(".bk-Figure canvas").first.wait_for()
    labeler.get_by_role("status").first.click()
    period = lab.python("labeler.curve.period")
    press("d")
    lab.until("labeler.curve.period", 2 * period)
    press("h")
    lab.until("labeler.curve.period", period)
    for k in range(8):
        star = lab.python("labeler.object_id")
        if k == 7:  # one skipped, one taken back
            press("s")
            lab.until(f"labeler.object_id != {star!r}", True)
            press("u")
            lab.until("labeler.object_id", star)
        press(lab.python("str(names.index(oracle[labeler.object_id]) + 1)"))
        lab.until(f"len(labeler.labels) == {21 + k} and labeler.object_id != {star!r}", True)
        labeler.get_by_text(f"{21 + k} labelled of").wait_for()
    assert lab.python("chosen.focus == labeler.queue.rows[0].item()")
    view.get_by_text(f"in focus: {lab.python('labeler.object_id')}").wait_for()
    assert "The machine thinks" not in labeler.inner_text()
    labeler.get_by_label("show what the machine thinks").click()
    labeler.get_by_text("The machine thinks: ").wait_for()
    n_points = lab.python("len(labeler.curve.lc)")
    lab.until(lambda: len(lab.marked("raw", "points")["mjd"]), n_points)
    curves = labeler.locator(".bk-Figure").first
    lab.until(lambda: _inked(curves.screenshot()), True)
    labeler.screenshot(path=screenshots / "lesson_5_labeler.png")
    (path,) = (lab.folder / "tutorials" / "artifacts").glob("labels_simulated_*_120_12_0.csv")
    log = labels.Log(path)
    assert [entry.who for entry in log.entries].count("me") == 10
    assert lab.violations() == []

    # They are handed in; seven would be too few, and RRc for all of them wrong
    for answer, said in {
        "by_hand.iloc[:7]": "7 labels so far",
        'by_hand.where(by_hand == "none", "RRc")': "are right; 75% are asked for",
        "by_hand": "Right.",
    }.items():
        lab.answer("answer_2", answer, said)
    lab.answer("answer_1", "embed.stability(maps_2, n_neighbors=10) * 10", "divide it by 10")


def _inked(png):
    """Return whether a picture shows points in the colour of band V."""
    image = matplotlib.image.imread(io.BytesIO(png))[..., :3]
    ink = matplotlib.colors.to_rgb(plots.BAND_COLORS["V"])
    return bool((np.abs(image - ink).max(axis=2) < 0.15).sum() > 50)
