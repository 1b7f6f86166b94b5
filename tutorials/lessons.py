"""Exercises of the tutorials: what an answer is checked against, and what is said to a wrong one.

Each check is a function of the answer, and of what else the lesson hands over, that returns what is
wrong in a sentence or, where nothing is, None. `check` finds it by the exercise's name.
"""

import html
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from skynb import dmdt

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
    >>> print(check("nights", 3, mjd=[58000.1, 58000.2, 58001.1]))
    3 is the number of observations; some of them were made in one night: count that night once.
    """
    if exercise not in EXERCISES:
        raise KeyError(f"no exercise is called {exercise!r}; there are {', '.join(EXERCISES)}")
    if answer is None:
        return Verdict(False, "No answer yet: put yours in the place of None and run the cell.")
    if isinstance(answer, list | tuple | np.ndarray | pd.Series) and np.size(answer) == 1:
        answer = np.ravel(answer)[0]
    if isinstance(answer, float | np.floating) and not np.isfinite(answer):
        return Verdict(False, f"{answer} is what comes out of a calculation that went wrong.")
    try:
        wrong = EXERCISES[exercise](answer, **given)
    except (TypeError, ValueError, IndexError, AttributeError, ArithmeticError):
        kind = type(answer).__name__
        wrong = f"An answer of this kind ({kind}) cannot be read; look again at what is asked for."
    return Verdict(wrong is None, wrong or "Right.")


def _exercise(name):
    """Register a check under the name of its exercise."""

    def register(function):
        EXERCISES[name] = function
        return function

    return register


# 1. From snapshots to movies


@_exercise("flux ratio")
def _(answer, lc):
    answer, difference = float(answer), float(np.ptp(lc["mag"]))
    ratio = 10 ** (0.4 * difference)
    if _near(answer, ratio):
        return None
    if _near(answer, difference):
        return "That is a difference of magnitudes; the ratio of fluxes is 10 ** (0.4 * that)."
    if _near(answer, 1 / ratio):
        return "So many times is the faintest as bright as the brightest; turn the ratio over."
    if _near(answer, 10**difference):
        return "A magnitude is not a factor of 10: 2.5 magnitudes are; put 0.4 into the exponent."
    if _near(answer, np.exp(0.4 * difference)):
        return "The base of the power is 10, not e."
    if answer < 1:
        return (
            f"The brightest is brighter than the faintest, so the ratio is above 1, not {answer:g}."
        )
    return (
        f"{answer:.4g} is too {'large' if answer > ratio else 'small'}: 2.5 magnitudes are a "
        f"factor of 10, and from the brightest to the faintest it is {difference:.2f} magnitudes."
    )


@_exercise("nights")
def _(answer, mjd):
    mjd = np.asarray(mjd, float)
    n_nights = len(np.unique(np.floor(mjd)))
    if answer == n_nights:
        return None
    if answer == len(mjd):
        return (
            f"{answer} is the number of observations; some of them were made in one night: "
            "count that night once."
        )
    if np.ndim(answer):
        return "That is a list; the answer is one number: how many different nights are in it?"
    if _near(answer, np.ptp(mjd)) or answer == int(np.ptp(mjd)) + 1:
        return (
            "That is the time from the first night to the last; most nights between had no visit."
        )
    if answer == len(np.unique(np.round(mjd))):
        return "Rounded to the nearest day, a night that lasts past 12 h is cut in two; round down."
    return (
        f"{answer:g} is too {'many' if answer > n_nights else 'few'}; round every time down to a "
        "whole day, and count how many different days there are."
    )


# 2. Features and periods


@_exercise("alias")
def _(answer, period, reported):
    answer, frequency = float(answer), 1 / period
    if _near(answer, period, 1e-3):
        return None
    if _near(answer, reported, 1e-3):
        return "That is what your friend reported; go one cycle per day up or down from there."
    if _near(answer, frequency, 1e-3):
        return "That is the frequency in cycles per day; the period is 1 over it."
    if any(_near(answer, abs(reported + step), 1e-3) for step in (-1, 1)):
        return "Aliases are one cycle per day apart in frequency, not one day apart in period."
    if _near(answer, 24 * period, 1e-3):
        return "That is in hours; the period is asked for in days."
    if any(_near(answer, factor * period, 1e-3) for factor in (0.5, 2)):
        return "That is half or twice the period: this star has one maximum in each cycle."
    if any(_near(answer, 1 / abs(frequency + k), 1e-3) for k in (-3, -2, -1, 1, 2, 3)):
        return "That is an alias, too: fold at it, and the observations are no line."
    if answer <= 0:
        return "A period is a positive number of days."
    if _near(answer, period, 0.02):
        return "Nearly: give more digits, or the cycles of years will smear."
    return (
        f"Folded at {answer:g} d the star is a cloud; try the two frequencies beside 1 / reported."
    )


@_exercise("orbit")
def _(answer, period):
    answer, hours = float(answer), 24 * float(period)
    if _near(answer, hours, 2e-3):
        return None
    asked = "the orbit is asked for in hours. "
    units = {1: "", 24: f"That is in days; {asked}", 1 / 60: f"That is in minutes; {asked}"}
    for unit, said in units.items():
        if _near(answer * unit, hours, 2e-3):
            return said.strip()
        if _near(answer * unit, hours / 2, 2e-3):
            return f"{said}That is half the orbit: a whole one holds two eclipses, not one."
        if _near(answer * unit, 2 * hours, 2e-3):
            return f"{said}That is two orbits: each of the two eclipses comes twice in it."
    return (
        f"{answer:g} hours are not the orbit; find the period at which a cycle holds "
        "one deep and one shallow minimum, and turn it into hours."
    )


def _near(answer, value, tolerance=0.01):
    """Return whether an answer is a value, up to rounding."""
    return bool(np.isclose(answer, value, rtol=tolerance, atol=0))


# 3. dm-dt images


@_exercise("image by hand")
def _(answer, mjd, mag, grid):
    mjd, mag, answer = np.asarray(mjd, float), np.asarray(mag, float), np.asarray(answer)
    if answer.shape != grid.shape:
        return (
            f"The image has {grid.shape[0]} rows of {grid.shape[1]} numbers; "
            f"this answer has the shape {answer.shape}."
        )
    right = dmdt.image(mjd, mag, grid=grid)
    if np.array_equal(answer, right):
        return None
    if np.array_equal(answer, right[::-1]):
        return (
            "It is upside down: dm is the later magnitude less the earlier one, "
            "and the first row is that of the lowest dm."
        )
    if np.array_equal(answer, right.T):
        return "Rows and columns are exchanged: a row has one dm, a column has one dt."
    if np.array_equal(answer, 2 * right):
        return "Every pair is counted twice: take each observation with the later ones only."
    if any(
        np.array_equal(answer, dmdt.image(np.delete(mjd, k), np.delete(mag, k), grid=grid))
        for k in range(len(mjd))
    ):
        return (
            f"An observation is left out: the new one makes {len(mjd) - 1} pairs with the others."
        )
    n_pairs = len(mjd) * (len(mjd) - 1) // 2
    if answer.sum() == len(mjd) - 1:
        return "Those are neighbours in time only; an observation pairs with every later one."
    if answer.sum() != n_pairs:
        return f"{len(mjd)} observations make {n_pairs} pairs; {answer.sum():g} are in your cells."
    cell = tuple(int(k) for k in np.argwhere(answer != right)[0])
    return (
        f"{n_pairs} pairs, as there should be, but not all in their cells: row {cell[0] + 1}, "
        f"column {cell[1] + 1} holds {right[cell]}, not {answer[cell]:g}."
    )


@_exercise("whose cadence")
def _(answer, images, grid):
    answer = answer.replace(",", " ").split() if isinstance(answer, str) else answer
    answer = [str(name).strip().lower() for name in answer]
    if sorted(answer) != ["crts", "kepler", "ztf"]:
        return f"{answer} are not three names, each of crts, ztf and kepler once, for A, B and C."
    dt = np.array(grid.dt)
    for letter, name, filled in zip("ABC", answer, np.any(images, axis=1), strict=True):
        short, long = dt[:-1][filled].min(), dt[:-1][filled].max()
        if name == "kepler" and long >= 90:
            return f"{letter} has pairs more than 90 days apart; kepler looked for 90 days only."
        if name != "kepler" and long < 90:
            return f"{letter} has no pair more than 90 days apart, but {name} looked for years."
        if name == "crts" and short >= 0.01:
            return f"{letter} has no pair a few minutes apart, but crts takes four in half an hour."
        if name == "ztf" and short < 0.01:
            return f"{letter} has pairs minutes apart; ztf looks once a night in each band."
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
