"""Labeler in a real JupyterLab, driven by the keyboard."""

import pytest

from skynb import labels

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SOURCE = """
import numpy as np
from skynb import simulate, widgets

lcs = simulate.lightcurves(n_per_class=6, seed=1)
lcs = lcs.set_axis(2**60 + np.arange(len(lcs)))
labeler = widgets.Labeler(lcs, path="night.csv", labeler="Ann", every=4)
labeler
"""

SEEN = "int(labeler.selection.index[labeler.selection.focus])"


def test_keys_label_skip_and_take_back(lab, screenshots):
    lab.open(SOURCE)
    view, keyboard = lab.view("Labeler"), lab.page.keyboard
    view.locator(".bk-Figure canvas").first.wait_for()
    path, asked = lab.folder / "night.csv", []

    def press(key, n_entries):
        asked.append(lab.python(SEEN))
        keyboard.press(key)
        moved = f"{SEEN} != {asked[-1]} and f'Object {{{SEEN}}}.' in labeler.description"
        lab.until(f"len(labeler.label_log) == {n_entries} and {moved}", True)

    view.focus()
    for n, key in enumerate(["1", "2", "s", "7", "Space", "5"], start=1):
        press(key, n)
    expected = {asked[0]: "EA", asked[1]: "EW", asked[3]: "RS CVn", asked[5]: "RRc"}
    assert labels.Log(path).labels().to_dict() == expected
    view.get_by_text("4 labelled, 2 skipped of 42").wait_for()
    view.get_by_text(f"Object {lab.python(SEEN)}.", exact=True).wait_for()
    assert view.get_by_role("progressbar", name="decided").get_attribute("value") == "6"
    assert "EA 1, EW 1, LPV 0" in view.inner_text()

    press("u", 7)
    assert lab.python(SEEN) == asked[5]
    press("Backspace", 8)
    assert lab.python(SEEN) == asked[4]
    view.get_by_text("4 labelled, 1 skipped of 42").wait_for(state="detached")
    view.get_by_text("3 labelled, 1 skipped of 42").wait_for()
    view.get_by_role("button", name="3 LPV").click()
    lab.until("len(labeler.labels)", 4)
    assert labels.Log(path).labels()[asked[4]] == "LPV"
    assert {entry.who for entry in labels.Log(path).entries} == {"Ann"}

    keyboard.press("6")  # the mouse was last, the keys still work
    lab.until("len(labeler.labels)", 5)
    button = view.get_by_role("button", name="2 EW")
    button.focus()
    keyboard.press("Space")  # on a button this presses it and skips nothing
    lab.until("labeler.labels.iloc[-1]", "EW")
    lab.until("len(labeler.labels)", 6)

    field = view.get_by_label("who labels")
    field.fill("u1 Bob")  # letters typed into a field decide nothing
    field.press("Enter")
    lab.until("labeler.labeler", "u1 Bob")
    assert lab.python("len(labeler.labels)") == 6
    field.fill("")
    field.press("Enter")
    lab.until("labeler.labeler", "")
    view.focus()
    keyboard.press("1")
    view.get_by_role("alert").wait_for()
    assert "nobody labels" in view.get_by_role("alert").inner_text()
    field.fill("Bob")
    field.press("Enter")
    lab.until("labeler.labeler", "Bob")
    check = view.get_by_label("show what the machine thinks")
    assert "The machine thinks" not in view.inner_text()
    check.focus()
    keyboard.press("Space")
    view.get_by_text("The machine thinks: ").wait_for()
    view.get_by_label("queue").select_option("like the hunted classes")
    lab.until("labeler.strategy", "anomaly")
    hunted = view.get_by_label("hunted classes")
    hunted.select_option("LPV")
    lab.until("list(labeler.wanted)", ["LPV"])
    view.get_by_text("strangest 1 of").wait_for()
    assert lab.violations() == []
    view.screenshot(path=screenshots / "Labeler.png")


def test_a_killed_kernel_and_a_cut_line_lose_nothing(lab):
    log = labels.Log(lab.folder / "night.csv")
    log.path.unlink(missing_ok=True)
    lab.open(SOURCE)
    view = lab.view("Labeler")
    view.locator(".bk-Figure canvas").first.wait_for()
    view.focus()
    for n, key in enumerate("12345", start=1):
        lab.page.keyboard.press(key)
        lab.until("len(labeler.labels)", n)
    lab.until("int(labeler.queue.rows[0]) == labeler.selection.focus", True)
    queue = lab.python("labeler.queue.rows[:20].tolist()")
    seen = lab.python(SEEN)
    pid = lab.python("__import__('os').getpid()")
    lab.page.keyboard.press("Control+s")
    with log.path.open("a") as file:
        file.write('"2030-01-01T00:00:00+00:00","An')
    lab.open(SOURCE, name="again")
    assert lab.python("__import__('os').getpid()") != pid
    view = lab.view("Labeler")
    view.get_by_text("line 7 is cut and was set aside").wait_for()
    assert lab.python("labeler.queue.rows[:20].tolist()") == queue
    assert lab.python(SEEN) == seen
    view.focus()
    lab.page.keyboard.press("7")
    lab.until("len(labeler.labels)", 6)
    log.refresh()
    assert [entry.label for entry in log.entries] == ["EA", "EW", "LPV", "RRab", "RRc", "RS CVn"]
    assert list(log.damaged) == [7]


def test_without_a_kernel_a_still(lab):
    lab.open(SOURCE, name="shown")
    lab.view("Labeler").locator(".bk-Figure canvas").first.wait_for()
    lab.show_saved_without_a_kernel("shown.ipynb")
    still = lab.page.get_by_alt_text("Labeler: Object")
    still.wait_for()
    assert still.evaluate("image => image.naturalWidth") > 300
    assert lab.page.get_by_text("night.csv').").is_visible()
