"""The lesson on explanations in a real JupyterLab: every "Do this" done, every "Expect" met."""

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_do_this_expect_that(lab, screenshots):
    lab.lesson("6_why")
    press = lab.page.keyboard.press
    every = lab.page.locator(".skynb-view[data-name=ExplanationViewer]")
    view, other = every.nth(0), every.nth(1)
    for each in (view, other):
        each.locator(".bk-Figure canvas").first.wait_for()

    # the new objects, one after the other
    view.get_by_role("status").get_by_text("Explained: EA, not ").first.wait_for()
    first = lab.python("viewer.selection.focus")
    view.scroll_into_view_if_needed()
    lab.focus(view)
    for k in (1, 2):
        press("n")
        lab.until("viewer.selection.focus", first + k)
        shown = lab.python("str(viewer.lcs.index[viewer.selection.focus])")
        view.get_by_role("status").get_by_text(f"Object {shown}").first.wait_for()
        view.get_by_role("status").get_by_text("Predicted ").first.wait_for()
    assert lab.python("bool(np.isfinite(viewer.explanation.shares).all())")

    # another method
    signs = "[float(f(viewer.explanation.attribution)) < 0 for f in (np.min, np.max)]"
    before = lab.python("viewer.explanation.attribution.tolist()")
    press("m")
    lab.until("viewer.method", "gradient_input")
    lab.until(view.get_by_label("method").input_value, "gradient_input")
    view.get_by_role("status").get_by_text("by gradient_input").first.wait_for()
    alike = "np.corrcoef(viewer.explanation.attribution.ravel(), np.ravel({}))[0, 1] > 0.5"
    assert lab.python(f"bool({alike.format(before)})")
    assert lab.python(signs) == [True, False]
    view.get_by_label("method").select_option("saliency")
    lab.until("viewer.method", "saliency")
    view.get_by_role("status").get_by_text("by saliency").first.wait_for()
    assert lab.python(signs) == [False, False]

    # another class
    view.get_by_label("method").select_option("integrated")
    lab.until("viewer.method", "integrated")
    last = lab.python("viewer.explanation.probability.index[-1]")
    view.get_by_label("explain class").select_option(last)
    lab.until("viewer.explained", last)
    against = lab.python("viewer.explanation.against")
    view.get_by_role("status").get_by_text(f"Explained: {last}, not {against}").first.wait_for()
    assert lab.python("float(viewer.explanation.attribution.sum())") < 0
    view.screenshot(path=screenshots / "lesson_6.png")

    # a supernova, called something else with confidence; then another one
    other.scroll_into_view_if_needed()
    called = lab.python("others.explanation.target")
    assert called in lab.python("list(classifier.classes_)")
    other.get_by_role("status").get_by_text(f"Predicted {called}").first.wait_for()
    other.get_by_role("row").filter(has_text="strange, outlier").first.wait_for()
    assert lab.python("float(others.explanation.probability.iloc[0])") > 0.9
    other.screenshot(path=screenshots / "lesson_6_stranger.png")
    field = other.get_by_label("go to object")
    field.fill("sim-SN-0000")
    field.press("Enter")
    lab.until("str(others.lcs.index[others.selection.focus])", "sim-SN-0000")
    other.get_by_role("status").get_by_text("Object sim-SN-0000").first.wait_for()
    assert lab.violations() == []

    # an exercise, first done wrongly
    right = lab.python("answer_1")
    for answer, said in (("0.5", "That is a fraction"), (right, "Right.")):
        lab.answer("answer_1", answer, said)
