"""Lesson 4 in a real JupyterLab: everything that its text asks for, done as it is written."""

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

INSIDE = "list(map(int, np.flatnonzero((of_truth <= {}) & (sure >= {}))))"


def test_mistakes_are_boxed_folded_and_answered(lab, screenshots):
    lab.page.set_viewport_size({"width": 1600, "height": 1400})
    lab.lesson("4_classifying")
    page = lab.page
    view = lab.view("MapExplorer")
    view.locator(".bk-Figure canvas").first.wait_for()
    boxed, typed = (lab.python(INSIDE.format(*corner)) for corner in ((0.495, 0.505), (0.49, 0.5)))
    assert boxed
    assert lab.python(f"(named != truth)[{typed}].all().item()")

    # Do this: Box Select, and a box left of 0.5, above 0.5
    view.scroll_into_view_if_needed()
    view.locator(".bk-Figure").first.get_by_title("Box Select", exact=True).click()
    page.mouse.move(*lab.spot("map", -0.03, 1.02))
    page.mouse.down()
    page.mouse.move(*lab.spot("map", 0.3, 0.7), steps=4)
    page.mouse.move(*lab.spot("map", 0.495, 0.505), steps=4)
    page.mouse.up()
    lab.until("list(map(int, chosen.rows))", boxed)
    view.get_by_text(f"; {len(boxed)} chosen").wait_for()
    listed = view.get_by_label("Look at", exact=True).locator("option")
    names = lab.python("[f'{judged.index[k]} ({verdict[k]})' for k in chosen.rows[:6]]")
    lab.until(lambda: [text.replace("\xa0", " ") for text in listed.all_text_contents()], names)
    assert all(" → " in name and "recognised" not in name for name in names)
    view.screenshot(path=screenshots / "lesson_4_mistakes.png")

    # Or typed
    view.get_by_role("button", name="Choose nothing", exact=True).click()
    lab.until("len(chosen)", 0)
    fields = {"p(true) from": "0", "p(true) to": "0.49", "p(named) from": "0.5", "p(named) to": "1"}
    for name, value in fields.items():
        view.get_by_label(name, exact=True).fill(value)
    view.get_by_label("p(named) to", exact=True).press("Tab")
    lab.focus(view.get_by_role("button", name="Choose this range", exact=True))
    page.keyboard.press("Enter")
    lab.until("list(map(int, chosen.rows))", typed)

    # Do this: p, n, d, h on the light curve
    curve = lab.view("LightCurveExplorer")
    curve.scroll_into_view_if_needed()
    before = lab.python("chosen.focus")
    curve.get_by_role("status").last.click()
    page.keyboard.press("p")
    lab.until(f"chosen.focus < {before} and chosen.focus in chosen.rows.tolist()", True)
    page.keyboard.press("n")
    lab.until("chosen.focus", before)
    period = lab.python("light_curve.period")
    page.keyboard.press("d")
    lab.until("light_curve.period", 2 * period)
    curve.get_by_text("fixed here").first.wait_for()
    page.keyboard.press("h")
    lab.until("light_curve.period", period)
    curve.get_by_text("fixed here").first.wait_for()
    curve.screenshot(path=screenshots / "lesson_4_folded.png")
    assert lab.violations() == []

    # An answer, wrong and then right
    lab.answer("answer_1", "matrix.diagonal().sum() / matrix.sum()", "That is the accuracy")
    lab.answer("answer_1", "np.mean(matrix.diagonal() / matrix.sum(axis=1))", "Right.")
    solution = page.locator(".jp-CodeCell", has_text="answer_1 = (matrix.diagonal()")
    assert not solution.locator(".cm-content").is_visible()
