"""Tests of counterfactuals with classifiers whose answer is known."""

import numpy as np
import pytest

from skynb import counterfactuals, dmdt

GRID = dmdt.Grid(dm=(-2, -0.5, 0.5, 2), dt=(0, 10, 100), normalization="p(dm|dt)")


class Jumpy:
    """Calls a curve ``jump`` if more than a share of its pairs within 10 days differ by 0.5 mag."""

    classes_ = np.array(["calm", "jump"])

    def predict_proba(self, images):
        column = np.asarray(images, dtype=float)[:, :, 0]
        share = 1 - column[:, 1] / column.sum(axis=1).clip(1e-9)
        jump = 1 / (1 + np.exp(-50 * (share - 0.2)))
        return np.column_stack([1 - jump, jump])


def curve(bright=(4, 5, 6)):
    mag = np.full(20, 15.0)
    mag[list(bright)] = 14.0
    return np.arange(20.0) / 4, mag


def test_the_observations_that_jump_are_removed_and_no_others():
    mjd, mag = curve()
    found = counterfactuals.flip(Jumpy(), mjd, mag, 15.0 - mag, grid=GRID)
    assert (found.before, found.after) == ("jump", "calm")
    assert set(found.removed) < {4, 5, 6}
    kept = np.setdiff1d(np.arange(20), found.removed)
    image = dmdt.image(mjd[kept], mag[kept], grid=GRID)
    np.testing.assert_array_equal(found.probability, Jumpy().predict_proba(image[None])[0])


def test_each_observation_removed_is_needed_even_in_a_bad_order():
    mjd, mag = curve()
    shares = np.random.default_rng(0).uniform(size=20)
    found = counterfactuals.flip(Jumpy(), mjd, mag, shares, grid=GRID, most=0.9)
    assert found.after == "calm"
    for each in found.removed:
        kept = np.setdiff1d(np.arange(20), np.setdiff1d(found.removed, each))
        image = dmdt.image(mjd[kept], mag[kept], grid=GRID)
        assert Jumpy().predict_proba(image[None])[0].argmax() == 1


def test_an_answer_that_stays_is_said_to_stay():
    mjd, mag = curve(bright=())
    found = counterfactuals.flip(Jumpy(), mjd, mag, np.ones(20), grid=GRID)
    assert (found.before, found.after, len(found.removed)) == ("calm", "calm", 0)


def test_the_step_to_the_runner_up_is_the_fraction_of_pairs_by_hand():
    calm = np.array([[0, 0], [10, 10], [0, 0]])
    wild = np.array([[4, 0], [2, 10], [4, 0]])
    mild = np.array([[1, 0], [6, 10], [3, 0]])
    examples, y = np.stack([calm, wild, mild]), ["calm", "jump", "jump"]
    found = counterfactuals.towards(Jumpy(), calm, examples, y)
    assert (found.label, found.example) == ("jump", 1)
    assert found.fraction == pytest.approx(0.2 / 0.8, abs=1e-3)
    np.testing.assert_allclose(found.image.sum(axis=0), 1, rtol=1e-6)
    one = counterfactuals.towards(Jumpy(), calm, examples[2:], ["jump"])
    assert one.fraction == pytest.approx(0.2 / 0.4, abs=1e-3)
    np.testing.assert_allclose(one.image[:, 0], [0.05, 0.8, 0.15], atol=1e-3)


def test_bad_input_is_said_in_one_sentence():
    mjd, mag = curve()
    image = dmdt.image(mjd, mag, grid=GRID)
    with pytest.raises(ValueError, match="3 shares for 20 observations; give one for each"):
        counterfactuals.flip(Jumpy(), mjd, mag, [1, 2, 3], grid=GRID)
    with pytest.raises(ValueError, match="the shares are not finite"):
        counterfactuals.flip(Jumpy(), mjd, mag, np.full(20, np.nan), grid=GRID)
    with pytest.raises(ValueError, match="expected a classifier or a DmDtCNN, got 'network'"):
        counterfactuals.flip("network", mjd, mag, np.ones(20), grid=GRID)
    with pytest.raises(ValueError, match="0 nearest of 1 examples with 1 labels; give one or more"):
        counterfactuals.towards(Jumpy(), image, image[None], ["jump"], n_nearest=0)
    with pytest.raises(ValueError, match="5 nearest of 1 examples with 2 labels"):
        counterfactuals.towards(Jumpy(), image, image[None], ["jump", "calm"])
    with pytest.raises(ValueError, match="already called jump; name another class"):
        counterfactuals.towards(Jumpy(), image, image[None], ["jump"], label="jump")
    with pytest.raises(ValueError, match="no class 'EA'; there are calm, jump"):
        counterfactuals.towards(Jumpy(), image, image[None], ["jump"], label="EA")
    with pytest.raises(ValueError, match="no example is labelled calm and called so"):
        counterfactuals.towards(Jumpy(), image, image[None], ["jump"])
