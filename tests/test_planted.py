"""What is planted lies where it should, and the rest of a triplet is what it was."""

import numpy as np
import pytest

from skynb import planted

KINDS = planted.REAL_KINDS + planted.BOGUS_KINDS


@pytest.fixture(scope="module")
def base():
    """Fields without a source: noise about a sky of 80, and none of it in the difference."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 5, (4, 63, 63, 1))
    return (noise * [1, 0.2, 1] + [80, 80, 0]).astype(np.float32)


def middle(triplets, plane):
    """Return how far the brightest of the middle 7x7 pixels is above the rest, in its scatter."""
    image = triplets[..., plane]
    rest = image[:, :20].reshape(len(image), -1)
    spread = rest.std(axis=1) + 1e-6
    return (image[:, 28:35, 28:35].max(axis=(1, 2)) - np.median(rest, axis=1)) / spread


def test_triplets_are_finite_raw_and_of_every_kind():
    triplets, table = planted.triplets(45, seed=1)
    assert triplets.shape == (45, 63, 63, 3)
    assert triplets.dtype == np.float32
    assert np.isfinite(triplets).all()
    assert table["kind"].value_counts().to_dict() == dict.fromkeys(KINDS, 5)
    assert (table["real"] == table["kind"].isin(planted.REAL_KINDS)).all()
    assert (table["base"] == -1).all()


def test_the_seed_makes_them_and_more_do_not_change_the_first(base):
    few, _ = planted.triplets(9, base=base, seed=5)
    assert np.array_equal(planted.triplets(18, base=base, seed=5)[0][:9], few)
    assert not np.array_equal(planted.triplets(9, base=base, seed=6)[0], few)


@pytest.mark.parametrize(("kind", "in_template"), [("new star", False), ("variable star", True)])
def test_a_star_is_in_science_and_difference(base, kind, in_template):
    triplets, table = planted.triplets(30, base=base, kinds=[kind], seed=2)
    assert set(table["base"]) == {0, 1, 2, 3}
    assert np.median(middle(triplets, 2)) > 6
    assert np.median(middle(triplets, 0)) > 6
    assert (np.median(middle(triplets, 1)) > 6) == in_template


def test_empty_ones_hold_nothing_and_what_is_seen_stays(base):
    triplets, _ = planted.triplets(30, base=base, kinds=["empty"], seed=3)
    assert np.median(middle(triplets, 2)) < 4
    bright = base.copy()
    bright[:, 31, 31] += 1000
    assert middle(planted.triplets(8, base=bright, kinds=["seen"])[0], 2).min() > 10
    assert np.median(middle(planted.triplets(30, base=bright, kinds=["new star"])[0], 1)) < 6


def test_negative_ones_are_dark_masked_ones_have_a_hole_and_columns_are_long(base):
    def made(kind):
        return planted.triplets(20, base=base, kinds=[kind], seed=4)[0]

    assert np.median(-made("negative")[:, 31, 31, 2]) > 10
    holes = (made("masked star")[:, 10:53, 10:53] == 0).all(axis=-1).sum(axis=(1, 2))
    assert holes.min() >= 25
    lines = made("bad column")[..., 2]
    sums = np.abs(np.concatenate([lines.sum(axis=1), lines.sum(axis=2)], axis=1)).max(axis=1)
    assert np.median(sums) > 3 * 5 * 63**0.5


def test_masked_pixels_stay_masked(base):
    cut = base.copy()
    cut[:, :, 55:] = 0
    triplets, _ = planted.triplets(20, base=cut, kinds=["seen"], seed=5)
    assert (triplets[:, :, 62] == 0).mean() > 0.8


def test_a_middle_is_grafted_on_another_field_of_its_set(base):
    """Fields are told by their sky, 80 or 800, middles by their star."""
    stars = base.copy()
    stars[2:, ..., :2] += 720
    stars[:, 30:33, 30:33] += 1000
    options = {"groups": ["a", "a", "b", "b"], "kinds": ["grafted"], "seed": 7}
    triplets, table = planted.triplets(16, base=stars, **options)
    assert np.median(middle(triplets, 2)) > 10
    sky = np.median(triplets[:, 5:20, 5:20, 0], axis=(1, 2))
    assert ((sky > 300) == (table["base"] >= 2)).all()


def test_an_overflow_stays_finite(base):
    wild = base.copy()
    wild[:, 3, 3] = 3e38
    triplets, _ = planted.triplets(8, base=wild, kinds=["seen", "grafted"])
    assert np.isfinite(triplets).all()


def test_an_unknown_kind_is_said():
    with pytest.raises(ValueError, match="no kind 'ghost' of triplet; choose from new star"):
        planted.triplets(1, kinds=["ghost"])
