"""Exercises of the tutorials: what an answer is checked against, and what is said to a wrong one.

Each check is a function of the answer, and of what else the lesson hands over, that returns what is
wrong in a sentence or, where nothing is, None. `check` finds it by the exercise's name.
"""

import html
from dataclasses import dataclass

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
