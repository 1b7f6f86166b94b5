"""What lesson 2 asks its reader to do, done in a real JupyterLab, and what it promises, seen."""

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ROUGH = """(lambda lc, period: float(
    np.abs(np.diff(lc["mag"].to_numpy()[np.argsort(lightcurves.fold(lc["mjd"], period))])).mean()
))"""  # mean step from one phase to the next: small for a line, large for a smear or a cloud

MINIMA = """(lambda lc, period: [
    float(lc["mag"][(lightcurves.fold(lc["mjd"], period) * 40).astype(int) == k].median())
    for k in range(40)
])"""


def test_what_the_lesson_says_comes_true(lab, screenshots):
    lab.lesson("2_features_and_periods")
    folding, orbits = (lab.page.locator(".skynb-view").nth(k) for k in (0, 1))
    for view in (folding, orbits):
        view.locator(".bk-Figure canvas").first.wait_for()
    press = lab.page.keyboard.press

    def rough():
        return lab.python(f"{ROUGH}(lc, folding.period)")

    # fine tuning smears, the best period mends, a daily alias is no line
    line, start = rough(), lab.python("folding.period")
    lab.focus(folding)
    slider = folding.get_by_label("fine tuning")
    for _ in range(20):
        if slider.evaluate("each => each === document.activeElement"):
            break
        press("Tab")
    for _ in range(30):
        press("ArrowRight")
    lab.until("round(folding.tuner.value, 2)", 0.3)
    lab.until(f"folding.period != {start!r}", True)
    smear = rough()
    assert smear > 1.5 * line
    folding.scroll_into_view_if_needed()
    folding.screenshot(path=screenshots / "lesson_2_smear.png")
    best = folding.get_by_role("button", name=", best")
    best.click()
    lab.until(f"abs(folding.period / {start!r} - 1) < 1e-4", True)
    assert rough() < 1.3 * line
    folding.get_by_role("button", name="daily alias").first.click()
    lab.until(f"abs(folding.period / {start!r} - 1) > 0.1", True)
    assert rough() > 1.5 * line
    folding.screenshot(path=screenshots / "lesson_2_alias.png")

    # d: two minima; once more: twice the same two; h: one orbit again
    sine = lab.python("orbits.period")
    lab.focus(orbits)
    press("d")
    lab.until("orbits.period", 2 * sine)
    orbits.get_by_role("status").get_by_text("fixed here").wait_for()
    depths = lab.python(f"{MINIMA}(eclipses, orbits.period)")
    first, second = max(depths[:20]), max(depths[20:])
    assert abs(first - second) > 0.1
    orbits.scroll_into_view_if_needed()
    orbits.screenshot(path=screenshots / "lesson_2_orbit.png")
    press("d")
    lab.until("orbits.period", 4 * sine)
    twice = lab.python(f"{MINIMA}(eclipses, orbits.period)")
    minima = [max(twice[10 * k : 10 * k + 10]) for k in range(4)]
    assert abs(minima[0] - minima[2]) < 0.1 > abs(minima[1] - minima[3])
    press("h")
    lab.until("orbits.period", 2 * sine)
    orbits.get_by_role("button", name="×2").click()
    lab.until("orbits.period", 4 * sine)
    assert lab.violations() == []

    for name, typed, said in [
        ("answer_1", "reported", "what your friend reported"),
        ("answer_1", "1 / (1 - 1 / reported)", "✗"),
        ("answer_1", "1 / (1 + 1 / reported)", "✓ Right."),
        ("answer_2", "24 * sine_period", "That is half the orbit"),
        ("answer_2", "48 * sine_period", "✓ Right."),
    ]:
        cell = lab.answer(name, typed, said)
    cell.screenshot(path=screenshots / "lesson_2_answer.png")
