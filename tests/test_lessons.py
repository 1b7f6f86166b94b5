"""Every exercise of the tutorials: its solution passes its check, and wrong answers fail it."""

import lessons
import numpy as np
import pandas as pd
import pytest

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

WRONG = [
    ("pairs of three", 4, "3 observations make 3 pairs", {}),
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
]
"""Exercise, a wrong answer, what is said to it, and what the lesson hands over."""

RIGHT = [
    # 4
    ("balanced accuracy", 0.7083, MATRIX),
    ("rare class", 0.0535, RARE),
    # 5
    ("stability", 0.4, MAPS),
    ("labels", pd.Series("EW", STARS), TRUTH),
    ("labels", dict.fromkeys(STARS, "EW"), TRUTH),
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
    verdict = lessons.check("pairs of three", None)
    assert not verdict.right
    assert "No answer yet" in verdict.message


def test_unreadable_and_unknown():
    with pytest.raises(KeyError, match="no exercise is called 'x'; there are "):
        lessons.check("x", 1)


def test_verdict_is_shown():
    verdict = lessons.check("pairs of three", 3)
    assert verdict.right
    assert str(verdict) == "Right."
    assert "✓ Right." in verdict._repr_html_()
