"""Every exercise of the tutorials: its solution passes its check, and wrong answers fail it."""

import lessons
import pytest

WRONG = [
    ("pairs of three", 4, "3 observations make 3 pairs"),
]
"""Exercise, a wrong answer, and what is said to it."""


@pytest.mark.parametrize(("exercise", "answer", "said"), WRONG)
def test_a_wrong_answer_fails(exercise, answer, said):
    verdict = lessons.check(exercise, answer)
    assert not verdict.right
    assert said in verdict.message


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
