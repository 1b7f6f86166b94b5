"""Exercises of the tutorials: what an answer is checked against, and what is said to a wrong one.

Each check is a function of the answer, and of what else the lesson hands over, that returns what is
wrong in a sentence or, where nothing is, None. `check` finds it by the exercise's name.
"""

import html
from dataclasses import dataclass

import numpy as np

EXERCISES = {}
"""The checks, by the name of their exercise."""


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is right, and why not."""

    right: bool
    message: str

    def __str__(self):
        return self.message

    def _repr_html_(self):
        mark, ink = ("✓", "#1b5e20") if self.right else ("✗", "#7a1b15")
        return f'<p role="status" style="color: {ink}">{mark} {html.escape(self.message)}</p>'


def check(exercise, answer, **given) -> Verdict:
    """Return the verdict on an answer to an exercise of a tutorial; None is no answer yet.

    Parameters
    ----------
    exercise : str
        Name of the exercise, a key of `EXERCISES`.
    answer : object
        What the exercise asks for.
    **given
        What else the check needs of the lesson, such as its light curves.

    Raises
    ------
    KeyError
        If there is no such exercise.

    Examples
    --------
    >>> print(check("pairs of three", 4))
    3 observations make 3 pairs: each with each later one, none with itself; 4 are not that.
    """
    if exercise not in EXERCISES:
        raise KeyError(f"no exercise is called {exercise!r}; there are {', '.join(EXERCISES)}")
    if answer is None:
        return Verdict(False, "No answer yet: put yours in the place of None and run the cell.")
    try:
        wrong = EXERCISES[exercise](answer, **given)
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        wrong = f"This answer cannot be read ({error}); look again at what is asked for."
    return Verdict(wrong is None, wrong or "Right.")


def _exercise(name):
    """Register a check under the name of its exercise."""

    def register(function):
        EXERCISES[name] = function
        return function

    return register


# 3. dm-dt images


@_exercise("pairs of three")
def _(answer):
    if answer != 3:
        return (
            "3 observations make 3 pairs: each with each later one, none with itself; "
            f"{answer} are not that."
        )
    return None


# 6. Why?


@_exercise("half the weight")
def _(answer, shares):
    shares = np.asarray(shares, float)
    weight = np.sort(np.abs(shares))[::-1]
    number = _until_half(weight)
    if answer == number:
        return None
    if 0 < answer < 1:
        return "That is a fraction; count the observations."
    if answer == number - 1:
        return (
            f"{answer} hold a little less than half; is that a position, which Python counts "
            "from 0? The observation at that position belongs to them."
        )
    if answer == _until_half(weight[::-1]):
        return "That many are needed if the weakest come first; begin with the strongest."
    if answer == _until_half(np.sort(shares)[::-1]):
        return (
            "So many are needed of the shares with their signs; what speaks against the class has "
            "weight, too: take absolute values."
        )
    if answer in (len(shares) // 2, (len(shares) + 1) // 2):
        return "That is half of the observations; asked is who holds half of the weight."
    return (
        f"{answer:g} is too {'many' if answer > number else 'few'}: the strongest {answer:g} hold "
        f"{weight[: max(int(answer), 0)].sum() / weight.sum():.0%} of the weight."
    )


def _until_half(values):
    """Return how many of the values, in this order, it takes to reach half of their sum."""
    return int(np.argmax(np.cumsum(values) >= np.sum(values) / 2)) + 1


@_exercise("threshold")
def _(answer, p_true, level=0.9):
    answer, p_true = float(answer), np.sort(np.asarray(p_true, float))
    kept, n = np.mean(p_true >= answer), len(p_true)
    few = int(n * (1 - level) + 1e-9)  # that may fall out
    if (answer > p_true[few - 1] if few else answer >= 0) and kept >= level - 1 / n:
        return None
    if not 0 <= answer <= 1:
        return f"{answer:g} is no probability; the threshold lies between 0 and 1."
    said = f"At {answer:.3g}, {kept:.0%} of them keep their true class"
    if np.isclose(answer, level):
        return f"{said}: {level:g} is the promise, not the probability that fulfils it."
    if np.isclose(kept, 1 - level, atol=1.5 / n):
        return f"{said}, and {1 - kept:.0%} lose it; take the quantile at the other end."
    if kept < level:
        return f"{said}, which is too few; lower the threshold."
    return f"{said}, more than was promised, and the sets are larger than needed; raise it."


# 7. A night of alerts


@_exercise("apparent")
def _(answer, star):
    answer, sign = float(answer), 1 if star["isdiffpos"] else -1
    difference, before = 10 ** (-0.4 * star["magpsf"]), 10 ** (-0.4 * star["magnr"])
    right, opposite = (
        -2.5 * np.log10(max(before + each * difference, 1e-30)) for each in (sign, -sign)
    )
    if abs(answer - right) < 0.005:
        return None
    if abs(answer - opposite) < 0.005:
        became = "brighter: its flux is added" if sign > 0 else "fainter: its flux is taken away"
        return f"isdiffpos is {bool(star['isdiffpos'])}, so the star became {became}."
    if abs(answer + right) < 0.005:
        return "A magnitude is -2.5 times the logarithm of the flux; the minus sign is missing."
    if abs(answer - right * np.log(10)) < 0.005:
        return "That is the natural logarithm; a magnitude takes the one to base 10."
    for value, said in (
        (star["magpsf"], "That is the magnitude of the difference alone."),
        (star["magnr"], "That is the magnitude before tonight."),
        ((star["magpsf"] + star["magnr"]) / 2, "Magnitudes have no mean to take; add fluxes."),
        (star["magpsf"] + star["magnr"], "Magnitudes do not add; turn them into fluxes first."),
        (star["magnr"] - star["magpsf"], "Magnitudes do not subtract; turn them into fluxes."),
    ):
        if abs(answer - value) < 0.005:
            return said
    wrong = "bright" if answer < right else "faint"
    return (
        f"{answer:.5g} mag is too {wrong}; turn both magnitudes into fluxes, "
        f"{'add' if sign > 0 else 'subtract'} them, and turn the result back."
    )


@_exercise("dearer miss")
def _(answer, real, score, cost_missed):
    answer, real, score = float(answer), np.asarray(real, bool), np.asarray(score, float)
    if not 0 <= answer <= 1:
        return f"{answer:g} is no score; the threshold lies between 0 and 1."

    def cost(threshold, missed=cost_missed, kept=1):
        return missed * (score[real] <= threshold).sum() + kept * (score[~real] > threshold).sum()

    cuts = np.r_[0, np.unique(score)]
    least = min(map(cost, cuts))
    if cost(answer) <= 1.02 * least:
        return None
    n_missed, n_kept = (score[real] <= answer).sum(), (score[~real] > answer).sum()
    if cost(answer, 1, cost_missed) <= min(cost(each, 1, cost_missed) for each in cuts):
        return "There a bogus one kept is dear, and a miss cheap; it is the other way round."
    said = (
        f"At {answer:.3g}, {n_missed} are missed and {n_kept} bogus ones kept, which costs "
        f"{cost(answer):g}; the cheapest threshold costs {least:g}"
    )
    cheapest = [each for each in cuts if cost(each) == least]
    return f"{said}. Go {'lower' if answer > min(cheapest) else 'higher'}."
