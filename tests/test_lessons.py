"""Every exercise of the tutorials: its solution passes its check, and wrong answers fail it."""

import lessons
import pytest

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
    ("pairs of three", 4, "3 observations make 3 pairs", {}),
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
