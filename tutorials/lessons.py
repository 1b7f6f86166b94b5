"""Exercises of the tutorials: what an answer is checked against, and what is said to a wrong one.

Each check is a function of the answer, and of what else the lesson hands over, that returns what is
wrong in a sentence or, where nothing is, None. `check` finds it by the exercise's name.
"""

import html
import math
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


# 4. Classifying


@_exercise("balanced accuracy")
def _(answer, matrix, classes):
    matrix = np.asarray(matrix, dtype=float)
    right, sizes = matrix.diagonal(), matrix.sum(axis=1)
    recall = right[sizes > 0] / sizes[sizes > 0]
    called = matrix.sum(axis=0)
    answer = float(answer)
    if math.isclose(answer, recall.mean(), abs_tol=0.003):
        return None
    if math.isclose(answer, recall.sum(), abs_tol=0.003):
        return f"That is the sum of the recalls; divide it by the {len(recall)} classes."
    if math.isclose(answer, 100 * recall.mean(), abs_tol=0.003):
        return "That is in percent; give a number between 0 and 1."
    if not 0 <= answer <= 1:
        return f"{answer:.4g} is no share of anything; the answer lies between 0 and 1."
    if math.isclose(answer, right.sum() / matrix.sum(), abs_tol=0.003):
        return (
            "That is the accuracy, in which every object counts the same. Divide each cell of the "
            "diagonal by the sum of its own row first."
        )
    if math.isclose(answer, (right / called.clip(1e-12))[sizes > 0].mean(), abs_tol=0.003):
        return (
            "That divides by the columns: of those called so, how many are (precision). "
            "The objects of a true class are a row."
        )
    if math.isclose(answer, np.median(recall), abs_tol=0.003):
        return "That is the median of the recalls; take their mean."
    worst = np.asarray(classes)[sizes > 0][recall.argmin()]
    return (
        f"The recalls run from {recall.min():.2f} ({worst}) to {recall.max():.2f}, "
        f"and their mean is not {answer:.3f}."
    )


@_exercise("rare class")
def _(answer, matrix, classes, wanted, share):
    matrix, k = np.asarray(matrix, dtype=float), list(classes).index(wanted)
    found, members, called = matrix[k, k], matrix[k].sum(), matrix[:, k].sum()
    recall, alarm = found / members, (called - found) / (matrix.sum() - members)
    true, false = share * recall, (1 - share) * alarm
    answer = float(answer)
    if not true + false:
        return f"Nothing was called {wanted} here; run the lesson with another seed."
    precision = true / (true + false)
    if math.isclose(answer, precision, abs_tol=0.003):
        return None
    if math.isclose(answer, 100 * precision, abs_tol=0.5):
        return "That is in percent; give a number between 0 and 1."
    if math.isclose(answer, found / called, abs_tol=0.003):
        return (
            "That is the precision among these test objects, of which "
            f"{members / matrix.sum():.0%} are {wanted}. In the survey only {share:.0%} are."
        )
    if math.isclose(answer, recall, abs_tol=0.003):
        return (
            f"That is the recall: of those that are {wanted}, how many are called so. "
            "It is asked the other way round."
        )
    if math.isclose(answer, 1 - precision, abs_tol=0.003):
        return f"That is the share of those called {wanted} that are something else; 1 minus it?"
    if math.isclose(answer, true, abs_tol=5e-4):
        return (
            f"That is the share of all stars that are {wanted} and called so. "
            f"Divide it by the share of all stars that are called {wanted}."
        )
    if math.isclose(answer, true + false, abs_tol=1e-3):
        return f"That is the share of all stars that are called {wanted}; how many of them are it?"
    return (
        f"Of 10,000 stars {10_000 * share:.0f} are {wanted}, and {10_000 * true:.0f} of these are "
        f"called so; of the {10_000 * (1 - share):.0f} others {10_000 * false:.0f} are, too. "
        f"These numbers do not make {answer:.3g}."
    )


# 5. Maps and labels

ALIKE = {
    frozenset(("EW", "RRc")): (
        "Fold it at twice the period (key d): two minima of unlike depth are a binary's; "
        "and a pulsating star rises faster than it falls."
    ),
    frozenset(("EW", "EA")): (
        "Between its eclipses an EA is flat, an EW is always on the way up or down."
    ),
    frozenset(("RRab", "RRc")): (
        "An RRab shoots up and falls slowly, mostly in more than 0.45 days; an RRc is nearly a "
        "sine, mostly of less."
    ),
    frozenset(("RRc", "RRd")): "An RRd has two periods: folded at one, it stays thick.",
    frozenset(("RS CVn", "LPV")): (
        "An LPV moves by more than a magnitude, an RS CVn by a few tenths, with days or weeks."
    ),
}
"""Two classes that are mistaken for each other -> how to tell them apart."""


@_exercise("stability")
def _(answer, maps, n_neighbors):
    answer, n = float(answer), n_neighbors
    near, with_self = ([_nearest(each, n, own) for each in maps] for own in (False, True))
    both = np.array([len(set(a) & set(b)) for a, b in zip(*near, strict=True)])
    own = np.array([len(set(a) & set(b)) for a, b in zip(*with_self, strict=True)])
    if math.isclose(answer, both.mean() / n, abs_tol=0.002):
        return None
    if math.isclose(answer, both.mean(), abs_tol=0.02):
        return f"That is how many neighbours a star keeps, on average; divide it by {n}."
    if math.isclose(answer, 100 * both.mean() / n, abs_tol=0.2):
        return "That is in percent; give a number between 0 and 1."
    if not 0 <= answer <= 1:
        return f"{answer:.4g} is no share of anything; the answer lies between 0 and 1."
    if math.isclose(answer, own.mean() / n, abs_tol=0.002):
        return (
            "This counts each star as its own nearest neighbour, which it keeps on any map. "
            f"Take {n + 1} and leave the first out."
        )
    if math.isclose(answer, (both / (2 * n - both)).mean(), abs_tol=0.002):
        return (
            f"This divides by all stars near it on either map. Of its {n} neighbours on the "
            "first, what share is among those on the second?"
        )
    if math.isclose(answer, 1 - both.mean() / n, abs_tol=0.002):
        return "That is the share of neighbours that a star loses."
    return (
        f"The first star keeps {both[0]} of {n} and the last one {both[-1]}; "
        f"the mean over all {len(both)}, divided by {n}, is not {answer:.3f}."
    )


def _nearest(places, n, own):
    """Return the n nearest rows of every row of ``places``, its own among them or not."""
    places = np.asarray(places, dtype=float)
    apart = np.square(places[:, None] - places).sum(axis=-1)
    np.fill_diagonal(apart, -1 if own else np.inf)
    return np.argsort(apart, axis=1)[:, :n]


@_exercise("labels")
def _(answer, truth, n_least=8, share=0.75):
    given, truth = dict(answer), dict(truth)
    if unknown := [name for name in given if name not in truth]:
        return f"No star is called {unknown[0]!r}. The names are those of the Labeler, as 'star 5'."
    if unknown := sorted({str(label) for label in given.values()} - set(map(str, truth.values()))):
        return f"No class is called {unknown[0]!r} here; use the Labeler, whose keys cannot err."
    if len(given) < n_least:
        return f"{len(given)} labels so far; give {n_least} or more, then run this cell again."
    wrong = [name for name in given if str(given[name]) != str(truth[name])]
    n_right = len(given) - len(wrong)
    if n_right >= share * len(given):
        return None
    called = str(given[wrong[0]])
    hint = ALIKE.get(frozenset((called, str(truth[wrong[0]]))), "Look at it again, folded and not.")
    return (
        f"{n_right} of {len(given)} are right; {share:.0%} are asked for. "
        f"{wrong[0]} is no {called}. {hint}"
    )
