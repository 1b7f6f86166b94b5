"""Planted transients are where and as bright as they are said to be."""

import numpy as np
import pytest

from skynb import image_pairs


@pytest.fixture(scope="module")
def backgrounds():
    return image_pairs.skies(6, seed=0)


@pytest.fixture(scope="module")
def pairs(backgrounds):
    return image_pairs.plant(backgrounds, 24, size=48, seed=0)


def test_a_psf_is_centred_and_whole():
    image = image_pairs.psf(3.0, (31, 41), 20.3, 14.6)
    rows, columns = np.indices(image.shape)
    assert image.sum() == pytest.approx(1)
    assert (image * columns).sum() == pytest.approx(20.3, abs=1e-3)
    assert (image * rows).sum() == pytest.approx(14.6, abs=1e-3)


def test_the_noise_of_a_sky_does_not_know_its_stars():
    image = np.random.default_rng(0).normal(100, 5, (200, 200))
    image[:10] += 1e4
    image[50, 50] = np.nan
    assert image_pairs.noise(image) == (pytest.approx(100, abs=0.3), pytest.approx(5, rel=0.05))


def test_the_truth_holds_the_fluxes(pairs):
    for k in range(len(pairs)):
        fluxes = pairs.sources.loc[pairs.sources["pair"] == k, "flux"]
        assert pairs.truth[k].sum() == pytest.approx(fluxes.sum(), rel=0.02, abs=1e-3)


def test_the_snr_is_that_of_the_noise():
    """On empty sky of noise 1 to 2, from a fit to many pairs."""
    rng = np.random.default_rng(0)
    blank = [
        image_pairs.Background(*rng.normal(0, 1, (2, 60, 60)), fwhm=3.0, group=str(k))
        for k in range(40)
    ]
    pairs, pulls = image_pairs.plant(blank, 160, size=48, seed=0), []
    plane = np.column_stack([np.ones(48**2), *np.indices((48, 48)).reshape(2, -1)])
    for row in pairs.sources.itertuples():
        fwhm = pairs.about["fwhm"].iloc[row.pair]
        profile = image_pairs.psf(fwhm, (48, 48), row.x, row.y).ravel()
        left = (pairs.science[row.pair] - pairs.truth[row.pair]).ravel()
        left = left - plane @ np.linalg.lstsq(plane, left)[0]
        error = np.sum(profile * left) / np.sum(profile**2)
        pulls.append(error * row.snr / row.flux)
    assert np.mean(pulls) == pytest.approx(0, abs=0.2)
    assert np.std(pulls) == pytest.approx(1, abs=0.12)


def test_limits_are_kept(pairs):
    assert pairs.sources["snr"].between(3, 50).all()
    assert pairs.about["ratio"].between(1, 2).all()
    assert pairs.about["shift"].between(0, 2).all()
    low, high = image_pairs.MARGIN - 0.5, 47 - image_pairs.MARGIN + 0.5
    assert pairs.sources[["x", "y"]].to_numpy().min() >= low
    assert pairs.sources[["x", "y"]].to_numpy().max() <= high


def test_the_reference_is_moved():
    """A lone star, without blur, turn or noise worth the name."""
    star = 1e6 * image_pairs.psf(3.0, (70, 70), 35, 35)
    star = star + np.random.default_rng(0).normal(0, 0.1, star.shape)
    alone = image_pairs.Background(star, star, fwhm=3.0)
    limits = {"max_turn": 0, "max_ratio": 1, "n_transients": 0}
    pairs = image_pairs.plant([alone], 8, size=40, **limits, seed=1)
    rows, columns = np.indices((40, 40))
    for k in range(8):
        centres = []
        for image in (pairs.reference[k], pairs.science[k]):
            light = image - np.median(image)
            light = np.where(light > 0.05 * light.max(), light, 0)
            centres.append([(light * at).sum() / light.sum() for at in (rows, columns)])
        moved = np.hypot(*np.subtract(*centres))
        assert moved == pytest.approx(pairs.about["shift"].iloc[k], abs=0.1)


def test_the_same_seed_gives_the_same_pairs(backgrounds, pairs):
    again = image_pairs.plant(backgrounds, 24, size=48, seed=0)
    assert np.array_equal(again.science, pairs.science)
    assert not np.array_equal(image_pairs.plant(backgrounds, 24, size=48).science[1:], 0)


def test_some_pairs_are_pairs(pairs):
    some = pairs[[5, 2]]
    assert len(some) == 2
    assert np.array_equal(some.truth[0], pairs.truth[5])
    wanted = pairs.sources.loc[pairs.sources["pair"] == 5, "flux"].tolist()
    assert some.sources.loc[some.sources["pair"] == 0, "flux"].tolist() == wanted


def test_nothing_is_planted_in_masked_pixels(backgrounds):
    masked = np.zeros((80, 80), bool)
    masked[:, :60] = True
    from dataclasses import replace

    pairs = image_pairs.plant([replace(backgrounds[0], masked=masked)], 12, size=56, seed=0)
    for row in pairs.sources.itertuples():
        assert not pairs.masked[row.pair, round(row.y), round(row.x)]


def test_tiles_are_groups_of_their_own(backgrounds):
    tiles = image_pairs.tiles(backgrounds[0], 40)
    assert [each.science.shape for each in tiles] == [(40, 40)] * 4
    assert len({each.group for each in tiles}) == 4
    assert np.array_equal(tiles[3].science, backgrounds[0].science[40:, 40:])


def test_messages(backgrounds):
    with pytest.raises(ValueError, match="no backgrounds"):
        image_pairs.plant([], 3)
    with pytest.raises(ValueError, match="give a smaller size"):
        image_pairs.plant(backgrounds, 3, size=90)
    with pytest.raises(ValueError, match="give a smaller n_pixels"):
        image_pairs.tiles(backgrounds[0], 112)
