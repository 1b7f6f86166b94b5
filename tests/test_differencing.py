"""Planted transients come back: painted, in the catalogue, with their flux."""

import numpy as np
import pandas as pd
import pytest

from skynb import differencing, image_pairs, subtraction

FWHM = 3.0


@pytest.fixture(scope="module")
def pairs():
    return image_pairs.plant(image_pairs.skies(40, seed=1), 240, size=48, n_transients=2, seed=1)


@pytest.fixture(scope="module")
def finder(pairs):
    return differencing.TransientFinder(filters=(8, 12, 16), epochs=4, n_views=2).fit(pairs)


def starry(seed=0, size=64, transient=0.0, shift=0.0):
    """Return a reference and a science image of the same stars, with a transient in the middle."""
    rng = np.random.default_rng(seed)
    places, fluxes = rng.uniform(0, size, (30, 2)), 10 ** rng.uniform(3, 4.5, 30)
    images = []
    for k in range(2):
        scene = np.full((size, size), 400.0)
        for (x, y), flux in zip(places, fluxes, strict=True):
            scene += flux * image_pairs.psf(FWHM, scene.shape, x + shift * (k == 0), y)
        if k == 1:
            scene += transient * image_pairs.psf(FWHM, scene.shape, 32.3, 30.8)
        images.append(rng.poisson(scene).astype(float))
    return images


def found_of(*snrs, scores=None):
    """Return detections, the highest first, of sources with these S/N; None is a false one."""
    source = [-1 if snr is None else k for k, snr in enumerate(snrs)]
    scores = np.arange(len(snrs), 0, -1.0)
    return pd.DataFrame(
        {"pair": 0, "score": scores, "source": source, "snr": np.array(snrs, float)}
    )


def pairs_of(*snrs):
    blank = np.zeros((1, 32, 32), np.float32)
    sources = pd.DataFrame({"pair": 0, "x": 8.0 * np.arange(len(snrs)), "y": 9.0, "snr": snrs})
    about = pd.DataFrame({"group": ["a"], "fwhm": [3.0]})
    return image_pairs.Pairs(blank, blank, blank, blank > 1, sources.assign(flux=1.0), about)


# pencil


def test_the_curve_counts_right_and_wrong_and_leaves_out_the_faint():
    """Right, faint, wrong, right; a third bright one is never found."""
    pairs = pairs_of(20, 4, 9, 8)
    found = found_of(20, 4, None, 9).assign(source=[0, 1, -1, 2])
    table = differencing.curve(found, pairs)
    assert table["precision"].tolist() == pytest.approx([1, 1 / 2, 2 / 3])
    assert table["recall"].tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    assert differencing.best_threshold(found, pairs) == 1.0
    assert differencing.best_threshold(found, pairs, 0.9) == 4.0
    assert differencing.best_threshold(found.assign(source=-1, snr=np.nan), pairs, 0.9) == 4.0
    assert differencing.best_threshold(found[:0], pairs) == np.inf
    assert differencing.at_threshold(found, pairs, 3.5).tolist() == pytest.approx([1, 1 / 3, 0.5])
    assert differencing.at_threshold(found, pairs, 9.0)["recall"] == 0


def test_a_source_is_found_once():
    score = np.zeros((32, 32))
    score[9, 8], score[9, 9], score[20, 20], score[0, 5] = 5, 4, 3, 9
    found = differencing.detections(pairs_of(10, 30), [score])
    assert found[["x", "y", "source"]].to_numpy().tolist() == [[8, 9, 1], [20, 20, -1]]


def test_normalized_skies_are_zero_and_fluxes_equal():
    reference, science = starry()
    x, unit = differencing.normalize(3 * reference + 100, science - 7)
    assert unit == pytest.approx(np.sqrt(400), rel=0.15)
    assert np.abs(np.median(x, axis=(0, 1))).max() < 0.35
    bright = x[..., 1] > 4
    assert np.median(x[..., 0][bright] - x[..., 1][bright]) == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("view", range(8))
def test_a_view_is_undone(view):
    x = np.random.default_rng(0).normal(size=(2, 5, 7, 2))
    turned = differencing._turned(x, view)
    assert np.array_equal(differencing._turned(turned, view, back=True), x)


def test_views_differ():
    x = np.arange(9.0).reshape(1, 3, 3, 1)
    assert len({differencing._turned(x, view).tobytes() for view in range(8)}) == 8


@pytest.mark.parametrize("shape", [(40, 56), (256, 300), (600, 257)])
def test_tiles_cover_an_image_once(shape):
    covered = np.zeros(shape, int)
    for outer, inner, place in differencing._tiles(shape):
        assert covered[outer][inner].shape == covered[place].shape
        covered[place] += 1
    assert (covered == 1).all()


# the network


def test_the_network_gives_every_scale():
    network = differencing.build(filters=(4, 6, 8, 8))
    outputs = network(np.zeros((1, 32, 48, 2), np.float32))
    assert [each.shape[1:3] for each in outputs] == [(4, 6), (8, 12), (16, 24), (32, 48)]
    assert differencing.build().count_params() < 200_000


def test_it_finds_what_was_planted_on_skies_that_it_never_saw(finder):
    new = image_pairs.plant(image_pairs.skies(20, seed=9), 40, size=48, n_transients=2, seed=9)
    found = differencing.detections(new, finder.scores(new))
    assert finder.losses_[-1] < 0.8 * finder.losses_[0]
    assert differencing.curve(found, new)["f1"].max() > 0.35
    shuffled = differencing.detections(new, finder.scores(new)[::-1])
    assert differencing.curve(shuffled, new)["f1"].max() < 0.2


def test_any_size_and_any_unit(finder):
    reference, science = starry(transient=4000)
    image = finder.transients(reference[:50, :61], science[:50, :61])
    assert image.shape == (50, 61)
    assert (image >= 0).all()
    scaled = finder.transients(9 * reference[:50, :61] + 5, 7 * science[:50, :61] + 900)
    assert np.allclose(scaled, 7 * image, rtol=0.05, atol=7)


def test_a_large_image_is_judged_in_tiles(finder):
    rng = np.random.default_rng(0)
    reference, science = rng.normal(100, 10, (2, 300, 270))
    science += 3000 * image_pairs.psf(3.0, science.shape, 240, 250)
    image = finder.transients(reference, science)
    assert np.unravel_index(image.argmax(), image.shape) == pytest.approx((250, 240), abs=2)


def test_missing_pixels_are_missing_in_both(finder):
    reference, science = starry(transient=4000)
    whole = finder.transients(reference, science)
    y, x = np.unravel_index(whole.argmax(), whole.shape)
    pixel = science.copy()
    pixel[y, x + 2] = np.nan
    image = finder.transients(reference, pixel)
    assert np.isfinite(image).all()
    assert np.unravel_index(image.argmax(), image.shape) == pytest.approx((y, x), abs=1)
    assert image.sum() == pytest.approx(whole.sum(), rel=0.3)
    gap = reference.copy()
    gap[y - 3 : y + 4] = np.nan
    image = finder.transients(gap, science)
    assert not image[y - 6 : y + 7].any()
    assert np.array_equal(image, finder.transients(gap, np.where(np.isnan(gap), np.nan, science)))


def test_a_flux_beside_missing_pixels_is_that_of_those_there_are():
    reference, science = starry(transient=4000)
    at = pd.DataFrame({"x": [30.0], "y": [30.0], "score": [9.0]})
    painted = np.zeros_like(science)
    y, x = np.unravel_index((science - reference).argmax(), science.shape)
    at[["x", "y"]], painted[y, x] = (x, y), 1.0
    whole = differencing.photometry(reference, science, at, painted, 3.0)["flux"][0]
    science[y, x] = np.nan
    cut = differencing.photometry(reference, science, at, painted, 3.0)["flux"][0]
    assert cut == pytest.approx(whole, rel=0.15)
    science[y - 2 : y + 3, x - 2 : x + 3] = np.nan
    assert np.isnan(differencing.photometry(reference, science, at, painted, 3.0)["flux"][0])


def test_a_finder_is_saved(finder, tmp_path):
    loaded = differencing.TransientFinder.load(finder.save(tmp_path / "finder.npz"))
    pair = starry(transient=4000)
    assert np.allclose(loaded.transients(*pair), finder.transients(*pair), atol=1e-3)
    assert loaded.threshold_ == finder.threshold_
    (tmp_path / "broken.npz").write_bytes(b"no")
    with pytest.raises(ValueError, match="train it anew"):
        differencing.TransientFinder.load(tmp_path / "broken.npz")


# fluxes


@pytest.mark.parametrize("shift", [0.0, 1.4])
def test_a_flux_is_measured_on_a_pair_that_is_not_registered(shift):
    ratios = []
    for seed in range(12):
        pair = starry(seed, transient=5000, shift=shift)
        found = pd.DataFrame({"x": [32.0], "y": [31.0], "score": [1.0]})
        painted = image_pairs.psf(FWHM, pair[0].shape, 32.3, 30.8)
        table = differencing.photometry(*pair, found, painted, FWHM)
        ratios.append(table["flux"].iloc[0] / 5000)
        assert table["snr"].iloc[0] > 10
    assert np.mean(ratios) == pytest.approx(1, abs=0.05)


def test_the_catalogue_has_fluxes_and_is_empty_without_transients(finder):
    pair = starry(transient=8000)
    table = finder.catalogue(*pair, fwhm=FWHM, threshold=1.0)
    assert list(table.columns) == ["x", "y", "flux", "flux_err", "snr", "score"]
    assert np.hypot(table["x"] - 32.3, table["y"] - 30.8).min() < 1
    assert table["flux"].is_monotonic_decreasing
    assert len(finder.catalogue(*pair, fwhm=FWHM, threshold=np.inf)) == 0


def test_the_width_of_stars_is_measured():
    assert differencing.measure_fwhm(starry(3)[1]) == pytest.approx(FWHM, rel=0.1)
    assert differencing.measure_fwhm(np.random.default_rng(0).normal(size=(64, 64))) == 3.0


# messages


def test_what_is_no_pair_is_refused(finder):
    blank = np.zeros((32, 32))
    with pytest.raises(ValueError, match="give two images of one shape"):
        finder.transients(blank, blank[:16])
    with pytest.raises(ValueError, match="a science image without a finite pixel"):
        finder.transients(blank, np.full_like(blank, np.nan))
    with pytest.raises(ValueError, match="choose one of eso085-030"):
        differencing.backgrounds("m31")
    with pytest.raises(ValueError, match="give validation pairs"):
        differencing.split(pairs_of(9), 0.5)
    with pytest.raises(ValueError, match="narrow it"):
        subtraction.matched_difference(blank, blank, width=31)
    for width in (0, 1, 2, -3, 2.5):
        with pytest.raises(ValueError, match=f"width is {width}; give an odd number"):
            subtraction.psf_matched(blank, blank, fwhm=3, width=width)
    noise = np.random.default_rng(0).normal(size=(32, 32))
    for width in (0, -1, np.nan):
        for refused in (
            lambda fwhm: subtraction.naive(noise, noise, fwhm=fwhm),
            lambda fwhm: subtraction.psf_matched(noise, noise, fwhm=fwhm),
            lambda fwhm: subtraction.zogy(noise, noise, fwhm=3, fwhm_reference=fwhm),
            lambda fwhm: differencing.photometry(noise, noise, blank[:0], blank, fwhm),
        ):
            with pytest.raises(ValueError, match="give pixels, above 0"):
                refused(width)
    for call in (lambda new: new.transients(noise, noise), lambda new: new.save("no.npz")):
        with pytest.raises(ValueError, match="call fit first"):
            call(differencing.TransientFinder())


@pytest.mark.parametrize("how", ["naive", "psf_matched", "zogy"])
def test_images_without_noise_have_nothing_new(how):
    flat, options = np.ones((64, 64)), {"fwhm_reference": 3} if how == "zogy" else {}
    noise = np.random.default_rng(0).normal(size=flat.shape)
    assert np.abs(getattr(subtraction, how)(flat, flat, fwhm=3, **options)).max() < 1e-6
    for pair in ((flat, noise), (noise, flat)):
        assert np.isfinite(getattr(subtraction, how)(*pair, fwhm=3, **options)).all()


# subtraction


def test_nothing_is_left_of_a_shifted_and_blurred_reference():
    """Without noise, a free kernel undoes both."""
    from scipy import ndimage

    reference = starry(1)[0]
    science = 2 * ndimage.gaussian_filter(np.roll(reference, 1, axis=1), 1) + 50
    left = subtraction.matched_difference(reference, science, width=9)[8:-8, 8:-8]
    assert np.std(left) < 0.03 * np.std(science)


@pytest.mark.parametrize("how", ["naive", "psf_matched", "zogy"])
def test_subtraction_finds_a_transient_in_a_registered_pair(how):
    pair, options = starry(2, transient=5000), {"fwhm": FWHM}
    options |= {"fwhm_reference": FWHM, "gain": 1.0} if how == "zogy" else {}
    score = getattr(subtraction, how)(*pair, **options)
    y, x = np.unravel_index(score.argmax(), score.shape)
    assert np.hypot(x - 32.3, y - 30.8) < 2
    assert image_pairs.noise(score) == (pytest.approx(0, abs=0.3), pytest.approx(1, abs=0.35))


def test_the_score_of_zogy_is_the_snr():
    """Of a lone source on equal noise in both: S/N of one image / sqrt 2."""
    scores, profile = [], image_pairs.psf(FWHM, (64, 64), 32, 32)
    flux = 20 / np.sqrt(np.sum(profile**2))
    for seed in range(10):
        reference, science = np.random.default_rng(seed).normal(size=(2, 64, 64))
        options = {"fwhm": FWHM, "fwhm_reference": FWHM, "registered": True}
        score = subtraction.zogy(reference, science + flux * profile, **options, astrometry=0)
        scores.append(score[32, 32])
    assert np.mean(scores) == pytest.approx(20 / np.sqrt(2), rel=0.1)


def test_what_one_frame_alone_shows_is_found_and_no_star_that_moved_a_little():
    one, other = np.random.default_rng(0).normal(100, 5, (2, 60, 60))
    for image, x in ((one, 20.0), (other, 20.5)):
        image += 5000 * image_pairs.psf(3.0, image.shape, x, 30)
    one[10, 40], other[50, 45] = 300, -200
    found = differencing._unmatched(one, other, 1.0)
    assert np.argwhere(found).tolist() == [[10, 40]]
    back = differencing._unmatched(other, one, 1.0)
    assert np.argwhere(back).tolist() == [[50, 45]]


# real


@pytest.mark.real
def test_what_the_alignment_left_in_one_frame_is_masked():
    found = {each.group: each for each in differencing.backgrounds("eso085-030")}
    hit = found["eso085-030 2,6"]
    sky, _ = image_pairs.noise(hit.reference)
    assert hit.reference[69, 76] < sky - 1000 < sky < hit.science[69, 76]
    assert hit.masked[69, 76]
    assert np.mean([each.masked.mean() for each in found.values()]) < 0.02


@pytest.mark.real
@pytest.mark.parametrize(("name", "n"), [("eso085-030", 45), ("abell2744", 64)])
def test_frames_are_cut_into_tiles(name, n):
    found = differencing.backgrounds(name)
    assert len(found) == n
    assert {each.science.shape for each in found} == {(112, 112)}
    assert len({each.group for each in found}) == n


@pytest.mark.real
def test_the_middle_of_alerts_is_masked():
    found = differencing.backgrounds("ztf-alerts-2023")
    assert len(found) > 300
    assert all(each.masked[31, 31] and not each.masked[5, 5] for each in found[:1])
    pairs = image_pairs.plant(found, 30, seed=0)
    assert not any(
        pairs.masked[int(p), round(y), round(x)]
        for p, x, y in pairs.sources[["pair", "x", "y"]].to_numpy()
    )
