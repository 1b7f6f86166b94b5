"""The lesson on alerts in a real JupyterLab: every "Do this" done, every "Expect" met."""

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_do_this_expect_that(lab, screenshots):
    lab.lesson("7_a_night_of_alerts")
    press = lab.page.keyboard.press
    every = lab.page.locator(".skynb-view[data-name=StampExplorer]")
    night, tour = every.nth(0), every.nth(1)
    for view in (night, tour):
        view.locator(".bk-Figure canvas").first.wait_for()

    # from alert to alert: other stamps, another history, other words
    night.scroll_into_view_if_needed()
    lab.focus(night)
    stamp = "float(explorer._frames[0].image.sum())"
    seen = {lab.python(stamp)}
    for k in (1, 2, 3):
        press("n")
        lab.until("explorer.selection.focus", k)
        seen.add(lab.python(stamp))
        object_id = lab.python(f"str(candidates['object_id'].iloc[{k}])")
        night.get_by_role("status").get_by_text(f" of {object_id}, ").wait_for()
        night.get_by_role("status").get_by_text("The packet says: rb ").wait_for()
        limits = lab.python("int((explorer._curve.table['kind'] == 'limit').sum())")
        assert limits > 0
        assert lab.python("len(explorer._curve.ring.data['mjd'])") == 1
    assert len(seen) == 4

    # the order: most real, then most bogus, and on
    for order, best in (("likeliest real first", "idxmax"), ("likeliest bogus first", "idxmin")):
        press("o")
        lab.until("explorer.order", order)
        lab.until(night.get_by_label("order").input_value, order)
        expected = lab.python(f"int(candidates['rb'].{best}())")
        lab.until("int(candidates.index[explorer.selection.focus])", expected)
        night.get_by_role("status").get_by_text(f"1 of 120 {order}").wait_for()
        if order == "likeliest real first":
            night.screenshot(path=screenshots / "lesson_7.png")
    press("n")
    night.get_by_role("status").get_by_text("2 of 120 likeliest bogus first").wait_for()

    # down the list of tonight, and another stretch of the same pixels
    tour.scroll_into_view_if_needed()
    lab.focus(tour)
    mags = [lab.python("float(follow['magpsf'].iloc[0])")]
    for k in (1, 2):
        press("n")
        lab.until("tour.selection.focus", k)
        tour.get_by_role("status").get_by_text(f"{k + 1} of {lab.python('len(follow)')}").wait_for()
        mags.append(lab.python(f"float(follow['magpsf'].iloc[{k}])"))
        score = lab.python(f"float(follow['rb'].iloc[{k}])")
        tour.get_by_role("status").get_by_text(f"The packet says: rb {score:.4g}").wait_for()
    assert mags == sorted(mags)
    tour.get_by_label("order").select_option("likeliest bogus first")
    lab.until("tour.order", "likeliest bogus first")
    expected = lab.python("int(follow['rb'].idxmin())")
    lab.until("int(follow.index[tour.selection.focus])", expected)
    tour.get_by_label("stretch").select_option("minmax")
    lab.until("tour.stretch", "minmax")
    difference = "np.sort(tour._frames[2].image.ravel())[-2:].tolist()"
    lab.until(f"{difference}[1]", 1.0)
    assert lab.python(difference)[0] < 0.2  # one pixel is bright, all others are dark
    tour.screenshot(path=screenshots / "lesson_7_tour.png")
    assert lab.violations() == []

    # an exercise: a typical mistake, then the right answer
    right = lab.python("answer_1")
    for answer, said in (
        ("star['magnr'] + star['magpsf']", "Magnitudes do not add"),
        (right, "Right."),
    ):
        lab.answer("answer_1", answer, said)
