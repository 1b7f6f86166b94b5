"""Every exercise of the tutorials: its solution passes its check, and wrong answers fail it."""

import lessons
import numpy as np
import pandas as pd
import pytest

from skynb import dmdt

# 1. From snapshots to movies: two magnitudes, and five observations in three nights

SWING = {"lc": pd.DataFrame({"mag": [15.0, 17.0, 16.2]})}
VISITS = {"mjd": [100.2, 100.3, 103.45, 103.55, 104.3]}

# 2. Features and periods: 1.9 cycles per day, reported as 0.9

ALIAS = {"period": 1 / 1.9, "reported": 1 / 0.9}

# 3. dm-dt images: four observations, and in which of three columns three surveys have pairs

BY_HAND = dmdt.Grid(dm=(-1, -0.2, 0.2, 1), dt=(0, 1.5, 2.5, 4))
FOUR = {"mjd": [0, 1, 2, 3], "mag": [15.0, 15.4, 15.25, 15.1], "grid": BY_HAND}
COLUMNS = dmdt.Grid(dm=(-1, 1), dt=(0, 0.01, 90, 900))
LAGS = {"images": np.array([[[1, 1, 1]], [[0, 1, 1]], [[0, 1, 0]]]), "grid": COLUMNS}
OTHERS = {"images": LAGS["images"][[1, 2, 0]], "grid": COLUMNS}

# 4. Classifying: three classes of 10, 40 and 2 objects; EA is 1 in 100 in the survey

MATRIX = {"matrix": [[8, 2, 0], [6, 33, 1], [0, 1, 1]], "classes": ["EA", "EW", "RRd"]}
RARE = MATRIX | {"wanted": "EA", "share": 0.01}
UNSEEN = RARE | {"matrix": np.diag([0, 9, 9]) + np.eye(3, k=1)}

# 5. Maps and labels: five stars, of which one keeps no neighbour; twelve stars and their classes

BEFORE = [[0, 0], [1, 0], [5, 0], [7, 0], [9, 1]]
AFTER = [[0, 0], [5, 0], [1.5, 0], [7, 0], [3, 3]]
MAPS = {"maps": [BEFORE, AFTER], "n_neighbors": 2}
STARS = [f"star {k}" for k in range(12)]
TRUTH = {"truth": dict.fromkeys(STARS, "EW") | {"star 10": "RRc", "star 11": "LPV"}}

# 6. Why?: shares of weights 5, 4, 3, 2, 1, and what ten objects say of their true class

SHARES = {"shares": [1, -4, 5, -2, 3]}
P_TRUE = {"p_true": [0.05, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.95]}

# 7. A night of alerts: a star that lost half of its light, and six sources

STAR = {"star": {"magpsf": 18.0, "magnr": 17.2474, "isdiffpos": False}}  # 2 - 1 fluxes of 18 mag
NIGHT = {
    "real": [True, True, True, False, False, False],
    "score": [0.2, 0.7, 0.9, 0.1, 0.3, 0.6],
    "cost_missed": 40,
}

WRONG = [
    # 1
    ("flux ratio", 2.0, "a difference of magnitudes", SWING),
    ("flux ratio", 10**-0.8, "turn the ratio over", SWING),
    ("flux ratio", 100, "A magnitude is not a factor of 10", SWING),
    ("flux ratio", np.exp(0.8), "The base of the power is 10, not e", SWING),
    ("flux ratio", -2, "above 1, not -2", SWING),
    ("flux ratio", 7, "7 is too large: 2.5 magnitudes are", SWING),
    ("flux ratio", 6, "6 is too small", SWING),
    ("flux ratio", "much", "cannot be read", SWING),
    ("nights", 5, "5 is the number of observations", VISITS),
    ("nights", [100, 103, 104], "That is a list", VISITS),
    ("nights", 4.1, "from the first night to the last", VISITS),
    ("nights", 4, "Rounded to the nearest day", {"mjd": [1.2, 3.45, 3.55, 9.6, 9.7]}),
    ("nights", 2, "2 is too few; round every time down", VISITS),
    ("nights", 9, "9 is too many", VISITS),
    # 2
    ("alias", 1 / 0.9, "what your friend reported", ALIAS),
    ("alias", 1.9, "the frequency in cycles per day", ALIAS),
    ("alias", 1 / 0.9 - 1, "not one day apart in period", ALIAS),
    ("alias", 24 / 1.9, "in hours", ALIAS),
    ("alias", 2 / 1.9, "half or twice the period", ALIAS),
    ("alias", 1 / 2.9, "an alias, too", ALIAS),
    ("alias", -0.5, "a positive number", ALIAS),
    ("alias", 0.53, "more digits", ALIAS),
    ("alias", 3, "Folded at 3 d the star is a cloud", ALIAS),
    ("orbit", 6, "half the orbit", {"period": 0.5}),
    ("orbit", 24, "two orbits", {"period": 0.5}),
    ("orbit", 0.5, "That is in days", {"period": 0.5}),
    ("orbit", 0.25, "in days; the orbit is asked for in hours. That is half", {"period": 0.5}),
    ("orbit", 720, "in minutes", {"period": 0.5}),
    ("orbit", 7, "7 hours are not the orbit", {"period": 0.5}),
    # 3
    ("image by hand", [[0, 0], [1, 1]], "has the shape (2, 2)", FOUR),
    ("image by hand", [[1, 1, 0], [2, 0, 1], [0, 1, 0]], "It is upside down", FOUR),
    ("image by hand", [[0, 2, 1], [1, 0, 1], [0, 1, 0]], "Rows and columns", FOUR),
    ("image by hand", [[0, 2, 0], [4, 0, 2], [2, 2, 0]], "counted twice", FOUR),
    ("image by hand", [[0, 1, 0], [0, 0, 1], [1, 0, 0]], "An observation is left out", FOUR),
    ("image by hand", [[0, 0, 0], [2, 0, 0], [1, 0, 0]], "neighbours in time only", FOUR),
    ("image by hand", [[0, 1, 0], [6, 0, 1], [1, 1, 0]], "make 6 pairs; 10 are in", FOUR),
    ("image by hand", [[0, 1, 0], [1, 1, 1], [1, 1, 0]], "row 2, column 1 holds 2, not 1", FOUR),
    ("whose cadence", ["crts", "ztf"], "are not three names", LAGS),
    ("whose cadence", ["crts", "crts", "ztf"], "are not three names", LAGS),
    ("whose cadence", ["kepler", "crts", "ztf"], "A has pairs more than 90 days apart", LAGS),
    ("whose cadence", ["crts", "kepler", "ztf"], "B has pairs more than 90 days", LAGS),
    ("whose cadence", ["ztf", "crts", "kepler"], "A has pairs minutes apart", LAGS),
    ("whose cadence", ["crts", "ztf", "kepler"], "A has no pair a few minutes apart", OTHERS),
    ("whose cadence", ["ztf", "crts", "kepler"], "B has no pair more than 90 days apart", OTHERS),
    # 4
    ("balanced accuracy", 42 / 52, "That is the accuracy", MATRIX),
    ("balanced accuracy", 0.663, "divides by the columns", MATRIX),
    ("balanced accuracy", 2.125, "sum of the recalls; divide it by the 3", MATRIX),
    ("balanced accuracy", 70.833, "in percent", MATRIX),
    ("balanced accuracy", 0.8, "median of the recalls", MATRIX),
    ("balanced accuracy", -3, "-3 is no share", MATRIX),
    ("balanced accuracy", 0.3, "The recalls run from 0.50 (RRd) to 0.8", MATRIX),
    ("balanced accuracy", [0.8, 0.825, 0.5], "cannot be read", MATRIX),
    ("rare class", 8 / 14, "precision among these test objects, of which 19% are EA", RARE),
    ("rare class", 0.8, "That is the recall", RARE),
    ("rare class", 5.35, "in percent", RARE),
    ("rare class", 0.9465, "something else; 1 minus it?", RARE),
    ("rare class", 0.008, "all stars that are EA and called so", RARE),
    ("rare class", 0.1494, "all stars that are called EA; how many", RARE),
    ("rare class", 0.3, "Of 10,000 stars 100 are EA, and 80 of these are called so", RARE),
    ("rare class", 0, "Nothing was called EA", UNSEEN),
    # 5
    ("stability", 0.8, "how many neighbours a star keeps, on average; divide it by 2", MAPS),
    ("stability", 40, "in percent", MAPS),
    ("stability", 7, "7 is no share", MAPS),
    ("stability", 0.5, "each star as its own nearest neighbour", MAPS),
    ("stability", 4 / 15, "divides by all stars near it on either map", MAPS),
    ("stability", 0.6, "neighbours that a star loses", MAPS),
    ("stability", 0.1, "The first star keeps 1 of 2 and the last one 1; the mean over all 5", MAPS),
    ("labels", dict.fromkeys(STARS[:7], "EW"), "7 labels so far; give 8", TRUTH),
    ("labels", {"star 99": "EW"}, "No star is called 'star 99'", TRUTH),
    ("labels", {"star 1": "cow"}, "No class is called 'cow'", TRUTH),
    ("labels", dict.fromkeys(STARS, "RRc"), "1 of 12 are right; 75% are asked for", TRUTH),
    ("labels", dict.fromkeys(STARS, "RRc"), "star 0 is no RRc. Fold it at twice", TRUTH),
    ("labels", dict.fromkeys(STARS, "LPV"), "star 0 is no LPV. Look at it again", TRUTH),
    ("labels", 3, "cannot be read", TRUTH),
    # 6
    ("half the weight", 0.5, "That is a fraction", SHARES),
    ("half the weight", 1, "is that a position", SHARES),
    ("half the weight", 5, "if the weakest come first", {"shares": [1, -4, 6, -3, 2, 1]}),
    ("half the weight", 1, "the shares with their signs", {"shares": [3, 3, 3, 3, -6, -2]}),
    ("half the weight", 4, "who holds half of the weight", {"shares": [9, 2, 2, 2, 1, 1, 1, 1]}),
    ("half the weight", 5, "5 is too many: the strongest 5 hold 100%", SHARES),
    ("half the weight", 1, "1 is too few: the strongest 1 hold 20%", {"shares": [1] * 5}),
    ("threshold", 90, "90 is no probability", P_TRUE),
    ("threshold", 0.9, "0.9 is the promise", P_TRUE),
    ("threshold", 0.88, "take the quantile at the other end", P_TRUE),
    ("threshold", 0.5, "60% of them keep their true class, which is too few", P_TRUE),
    ("threshold", 0.01, "the sets are larger than needed", P_TRUE),
    # 7
    ("apparent", 16.807, "so the star became fainter: its flux is taken away", STAR),
    ("apparent", -18.0, "the minus sign is missing", {"star": STAR["star"] | {"magpsf": 18.001}}),
    ("apparent", 41.446, "the natural logarithm", STAR),
    ("apparent", 20.0, "of the difference alone", {"star": STAR["star"] | {"magpsf": 20.0}}),
    ("apparent", 17.2474, "before tonight", STAR),
    ("apparent", 17.6237, "have no mean to take", STAR),
    ("apparent", 35.2474, "Magnitudes do not add", STAR),
    ("apparent", -0.7526, "Magnitudes do not subtract", STAR),
    ("apparent", 15, "15 mag is too bright; turn both", STAR),
    ("apparent", 21, "21 mag is too faint; turn both", STAR),
    ("dearer miss", 40, "40 is no score", NIGHT),
    ("dearer miss", 0.65, "it is the other way round", NIGHT),
    ("dearer miss", 0.4, "1 are missed and 1 bogus ones kept, which costs 41", NIGHT),
    ("dearer miss", 0.4, "the cheapest threshold costs 2. Go lower", NIGHT),
    ("dearer miss", 0.0, "which costs 3; the cheapest threshold costs 2. Go higher", NIGHT),
]
"""Exercise, a wrong answer, what is said to it, and what the lesson hands over."""

RIGHT = [
    # 1
    ("flux ratio", 6.31, SWING),
    ("nights", 3, VISITS),
    # 2
    ("alias", 0.5263, ALIAS),
    ("orbit", 12.0, {"period": 0.5}),
    # 3
    ("image by hand", [[0, 1, 0], [2, 0, 1], [1, 1, 0]], FOUR),
    ("whose cadence", ["CRTS", "ztf", "kepler"], LAGS),
    # 4
    ("balanced accuracy", 0.7083, MATRIX),
    ("rare class", 0.0535, RARE),
    # 5
    ("stability", 0.4, MAPS),
    ("labels", pd.Series("EW", STARS), TRUTH),
    ("labels", dict.fromkeys(STARS, "EW"), TRUTH),
    # 6
    ("half the weight", 2, SHARES),
    ("half the weight", 1, {"shares": [3, -1, 1]}),
    ("threshold", 0.2, P_TRUE),
    ("threshold", 0.21, P_TRUE),
    ("threshold", 0.07, P_TRUE),
    # 7
    ("apparent", 18.0, STAR),
    ("apparent", 16.8069, {"star": STAR["star"] | {"isdiffpos": True}}),
    ("dearer miss", 0.15, NIGHT),
    ("dearer miss", 0.65, NIGHT | {"cost_missed": 0.1}),
]
"""Exercise, a right answer, and what the lesson hands over."""


@pytest.mark.parametrize(("exercise", "answer", "said", "given"), WRONG)
def test_a_wrong_answer_fails(exercise, answer, said, given):
    verdict = lessons.check(exercise, answer, **given)
    assert not verdict.right
    assert said in verdict.message


@pytest.mark.parametrize(("exercise", "answer", "given"), RIGHT)
def test_a_right_answer_passes(exercise, answer, given):
    assert lessons.check(exercise, answer, **given).message == "Right."


def test_every_exercise_is_given_a_wrong_answer():
    assert {exercise for exercise, *_ in WRONG} == set(lessons.EXERCISES)


def test_no_answer_yet():
    verdict = lessons.check("image by hand", None)
    assert not verdict.right
    assert "No answer yet" in verdict.message


@pytest.mark.parametrize("exercise", lessons.EXERCISES)
@pytest.mark.parametrize(
    "answer", [np.nan, float("inf"), 10**400, "much", {}, [], [1, 2], np.ones((2, 2)), object()]
)
def test_an_odd_answer_gets_a_sentence(exercise, answer):
    given = {name: given for name, _, given in RIGHT}[exercise]
    verdict = lessons.check(exercise, answer, **given)
    assert not verdict.right
    assert verdict.message[-1] in ".?"
    assert "ufunc" not in verdict.message


def test_one_number_in_an_array_is_a_number():
    assert lessons.check("nights", np.array([3]), **VISITS).right
    assert lessons.check("whose cadence", "crts, ztf, kepler", **LAGS).right


def test_unreadable_and_unknown():
    with pytest.raises(KeyError, match="no exercise is called 'x'; there are "):
        lessons.check("x", 1)


def test_verdict_is_shown():
    verdict = lessons.check("nights", 3, **VISITS)
    assert verdict.right
    assert str(verdict) == "Right."
    assert "✓ Right." in verdict._repr_html_()
