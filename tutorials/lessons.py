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
