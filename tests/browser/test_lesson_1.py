"""What lesson 1 asks its reader to do, done in a real JupyterLab, and what it promises, seen."""

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

DRAWN = """() => [...Bokeh.documents].map((each) => each.get_model_by_name("raw"))
    .filter((each) => each)
    .map((each) => each.renderers.find((one) => one.name === "points").data_source.data)
    .map((data) => [...new Set(data.get ? data.get("band") : data.band)].sort())
"""  # the bands that each explorer of the page draws


def test_what_the_lesson_says_comes_true(lab, screenshots):
    lab.lesson("1_snapshots_to_movies")
    press = lab.page.keyboard.press
    three, every = (lab.page.locator(".skynb-view").nth(k) for k in (0, 1))
    for view in (three, every):
        view.locator(".bk-Figure canvas").first.wait_for()

    # next, twice: another survey each time, more observations, the same period
    period = lab.python("surveys.period")
    seen = [lab.python("len(surveys.lc)")]
    for name in ("ztf", "kepler"):
        three.get_by_role("button", name="next").click()
        lab.until("surveys.lcs.index[surveys.selection.focus]", name)
        three.get_by_role("status").get_by_text(f"Object {name} (RRab)").wait_for()
        seen.append(lab.python("len(surveys.lc)"))
        assert lab.python("surveys.period") == period
    assert seen == sorted(set(seen))

    # back to ztf, without band g
    three.get_by_role("button", name="previous").click()
    lab.until("surveys.lcs.index[surveys.selection.focus]", "ztf")
    three.get_by_label("band g").click()
    lab.until("list(surveys.hidden)", ["g"])
    n_left_out = lab.python("int((surveys.lc['band'] == 'g').sum())")
    three.get_by_role("status").get_by_text(f"{n_left_out} left out").wait_for()
    lab.until(lambda: ["i", "r"] in lab.page.evaluate(DRAWN), True)
    three.screenshot(path=screenshots / "lesson_1_surveys.png")

    # the pointer walks in time, and jumps in phase
    lab.focus(three)
    at = []
    for k in range(4):
        press(".")
        lab.until(f"surveys.selection.hovered not in {[None, *at]}", True)
        at.append(lab.python("surveys.selection.hovered"))
        three.get_by_role("status").get_by_text(f"Pointer on observation {at[k] + 1}:").wait_for()
    assert at == sorted(at)
    phases = lab.python(f"surveys.curves.phase[{at}].tolist()")
    assert phases != sorted(phases)
    assert lab.violations() == []

    # at one day, all points are in the hours of night; = gives the period back; n leads on
    name = lab.python("object_id")
    own = lab.python("everything.period")
    field = every.get_by_label("period [d]")
    field.fill("1")
    field.press("Enter")
    lab.until("everything.period", 1.0)
    every.get_by_role("status").get_by_text("period 1 d, fixed here").wait_for()
    assert lab.python("bool((np.histogram(everything.curves.phase, 10, (0, 1))[0] == 0).any())")
    every.scroll_into_view_if_needed()
    every.screenshot(path=screenshots / "lesson_1_one_day.png")
    lab.focus(every)
    press("=")
    lab.until("everything.period", own)
    every.get_by_role("status").get_by_text("from the table").wait_for()
    press("n")
    lab.until(f"everything.lcs.index[everything.selection.focus] != {name!r}", True)
    assert lab.violations() == []

    for typed, said in [
        ("lc['mag'].max() - lc['mag'].min()", "That is a difference of magnitudes"),
        ("10 ** (0.4 * (lc['mag'].max() - lc['mag'].min()))", "✓ Right."),
    ]:
        cell = lab.answer("answer_1", typed, said)
    cell.screenshot(path=screenshots / "lesson_1_answer.png")
