"""What lesson 3 asks its reader to do, done in a real JupyterLab, and what it promises, seen."""

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_what_the_lesson_says_comes_true(lab, screenshots):
    lab.lesson("3_dmdt_images")
    view = lab.page.locator(".skynb-view").first
    view.locator(".bk-Figure canvas").first.wait_for()
    status, press, mouse = view.get_by_role("status"), lab.page.keyboard.press, lab.page.mouse
    lit = "len(explorer.selection.pairs)"
    in_image = "int(sum(explorer.image.counts[cell] for cell in explorer.cells))"
    assert lab.python(lit) == lab.python("len(pairs)")
    view.scroll_into_view_if_needed()
    view.screenshot(path=screenshots / "lesson_3_month.png")

    def seen(cells):
        lab.until("explorer.cells", cells)
        lab.until(f"{lit} == {in_image}", True)
        n = lab.python(lit)
        noun = "pair" if n == 1 else "pairs"
        status.get_by_text(f"In 1 picked cell: {n:,} {noun} of").wait_for()
        lab.until(lambda: len(lab.marked("raw", "pairs")["mjd_0"]), min(n, 2000))
        return n

    # another cell, by the mouse, then by the keyboard
    row, column = lab.python("[row, column]")
    mouse.click(*lab.spot("dmdt", column + 1, row))
    first = seen([[row, column + 1]])
    lab.focus(view)
    press("ArrowRight")
    press("Enter")
    assert seen([[11, 0]]) != first

    # pairs of one night, then of other seasons
    view.get_by_label("dt [d]").fill("0.01")
    view.get_by_label("dm [mag]").fill("0.05")
    lab.focus(view.get_by_role("button", name="pick cell"))
    press("Enter")
    lab.until("explorer.cells", [[11, 1]])
    seen([[11, 1]])
    spans = "np.ptp(explorer.lc['mjd'].to_numpy()[explorer.selection.pairs], axis=1)"
    assert lab.python(f"float({spans}.max())") < 0.5
    view.get_by_label("dt [d]").fill("500")
    lab.focus(view.get_by_role("button", name="pick cell"))
    press("Enter")
    seen([[11, 20]])
    assert lab.python(f"float({spans}.min())") >= 240
    steps = "np.ptp(explorer.lc['mag'].to_numpy()[explorer.selection.pairs], axis=1)"
    assert lab.python(f"float({steps}.max())") < 0.1
    view.screenshot(path=screenshots / "lesson_3_seasons.png")

    # the columns sum to 1, the pairs stay
    before = lab.python(lit)
    view.get_by_label("normalisation").select_option("p(dm|dt)")
    lab.until("explorer.grid.normalization", "p(dm|dt)")
    lab.until(lambda: max(v for v in lab.marked("dmdt", "cells")["value"] if v == v) <= 1, True)
    lab.until(lit, 0)
    lab.focus(view.get_by_role("button", name="pick cell"))
    press("Enter")
    assert seen([[11, 20]]) == before
    view.screenshot(path=screenshots / "lesson_3_normalised.png")

    # the brightest observations are at the rims
    lab.focus(view)
    press("Escape")
    lab.until(lit, 0)
    bright, limit = lab.python("[explorer.lc.mag.min(), float(explorer.lc.mag.quantile(0.05))]")
    start, end = lab.python("[explorer.lc.mjd.min(), explorer.lc.mjd.max()]")
    mouse.move(*lab.spot("raw", start - 1, bright - 0.02))
    mouse.down()
    mouse.move(*lab.spot("raw", end + 1, limit), steps=4)
    mouse.up()
    chosen = f"np.flatnonzero(explorer.lc.mag <= {limit!r}).tolist()"
    lab.until(f"list(explorer.selection.points) == {chosen}", True)
    n_cells = lab.python("int((explorer._share(explorer.selection.points) > 0).sum())")
    lab.until(lambda: len(lab.marked("dmdt", "share")["x"]), n_cells)
    share = lab.marked("dmdt", "share")
    by_row = {}
    for y, size in zip(share["y"], share["size"], strict=True):
        by_row.setdefault(y, []).append(size)
    mean = {y: sum(sizes) / len(sizes) for y, sizes in by_row.items()}
    middle = min(mean, key=lambda y: abs(y - 10.5))
    assert mean[max(mean)] > mean[middle] < mean[min(mean)]
    view.screenshot(path=screenshots / "lesson_3_brightest.png")
    assert lab.violations() == []

    for typed, said in [
        ("[[1, 1, 0], [2, 0, 1], [0, 1, 0]]", "It is upside down"),
        ("[[0, 1, 0], [2, 0, 1], [1, 1, 0]]", "✓ Right."),
    ]:
        lab.answer("answer_1", typed, said)
