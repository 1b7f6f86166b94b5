"""Stamps: bytes of FITS in, triplets out."""

import gzip
import io

import numpy as np
import pytest
from astropy.io import fits

from skynb import stamps

RNG = np.random.default_rng(0)
IMAGE = RNG.normal(size=(63, 63)).astype(np.float32)
SMALL = np.arange(12, dtype=np.int16).reshape(3, 4)


def fits_bytes(image, cards=()):
    buffer = io.BytesIO()
    fits.PrimaryHDU(image, fits.Header(cards)).writeto(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("pack", [bytes, gzip.compress, memoryview])
@pytest.mark.parametrize(
    "image", [IMAGE, IMAGE[:43, :50], np.arange(12, dtype=np.int16).reshape(3, 4)]
)
@pytest.mark.parametrize("n_cards", [0, 70])
def test_decode_is_what_astropy_reads(pack, image, n_cards):
    data = fits_bytes(image, [(f"KEY{k}", k) for k in range(n_cards)])
    assert np.array_equal(stamps.decode(pack(data)), image.astype(np.float32))


def test_a_scaled_image_is_in_its_units():
    hdu = fits.PrimaryHDU(IMAGE)
    hdu.header["BSCALE"] = 2.0
    buffer = io.BytesIO()
    hdu.writeto(buffer)
    written = buffer.getvalue()
    read = fits.open(io.BytesIO(written))[0].data
    assert np.array_equal(stamps.decode(written), read.astype(np.float32))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (gzip.compress(fits_bytes(IMAGE))[:-500], "gzip is damaged"),
        (fits_bytes(IMAGE)[:5000], "too few for 63 x 63"),
        (fits_bytes(IMAGE)[:300], "no FITS image"),
        (fits_bytes(IMAGE)[:450], "no end"),
        (b"not an image", "no FITS image"),
        (b"", "no FITS image"),
        (fits_bytes(np.zeros((2, 3, 4), np.float32)), "without an image of two dimensions"),
        (fits_bytes(None), "without an image of two dimensions"),
    ],
)
def test_what_is_no_stamp_is_said(data, message):
    with pytest.raises(ValueError, match=message):
        stamps.decode(data)


def test_a_triplet_has_no_missing_pixel_and_is_padded_where_the_edge_cuts():
    cut = IMAGE[:57, :43].copy()
    cut[3, 4], cut[5, 6] = np.nan, -np.inf
    triplet = stamps.triplet(cut, cut, cut)
    assert triplet.shape == (63, 63, 3)
    assert triplet.dtype == np.float32
    known = np.nan_to_num(cut, neginf=0)
    assert np.array_equal(triplet[:57, :43], np.stack([known] * 3, -1))
    assert not triplet[57:].any()
    assert not triplet[:, 43:].any()


def test_a_triplet_that_cannot_be_is_said():
    with pytest.raises(ValueError, match="a difference stamp without a finite pixel"):
        stamps.triplet(IMAGE, IMAGE, np.full((63, 63), np.nan))
    with pytest.raises(ValueError, match="a science stamp of 63 x 63 pixels; at most 43 x 43 fit"):
        stamps.triplet(IMAGE, IMAGE, IMAGE, size=43)


@pytest.mark.parametrize(("how", "axis"), [("per_row", 2), ("per_frame", (1, 2))])
def test_norms_are_one_or_zero(how, axis):
    triplets = RNG.normal(size=(5, 9, 9, 3)).astype(np.float32)
    triplets[0, 2] = 0
    triplets[1, 3, 0] = 1e30  # an overflow of braai's, which is 0 there
    said = stamps.normalize(triplets, how)
    norms = np.linalg.norm(said.astype(float), axis=axis)
    assert said.dtype == np.float32
    assert set(np.round(norms.ravel(), 6)) <= {0, 1}
    assert not said[1, 3].any()
    assert np.allclose(stamps.normalize(triplets[2:] * 7, how), said[2:], atol=1e-7)
    assert norms[2:].min() > 0.99


def test_an_unknown_normalization_is_said():
    with pytest.raises(ValueError, match="no normalization 'l1'; choose from per_row, per_frame"):
        stamps.normalize(np.ones((1, 2, 2, 3)), "l1")


def test_augmented_triplets_are_the_same_turned():
    triplets = RNG.normal(size=(200, 6, 6, 3)).astype(np.float32)
    turned = stamps.augment(triplets, np.random.default_rng(1))
    eight = [
        np.rot90(each, k, axes=(1, 2)) for k in range(4) for each in (triplets, triplets[:, ::-1])
    ]
    same = np.array([(turned == each).all(axis=(1, 2, 3)) for each in eight])
    assert (same.sum(axis=0) == 1).all()
    assert (same.sum(axis=1) > 5).all()


@pytest.mark.parametrize("how", stamps.STRETCHES)
def test_what_is_drawn_keeps_the_order_of_pixels(how):
    image = IMAGE.copy()
    image[20:25, 20:25] += 50
    image[0, 0] = np.nan
    shown = stamps.stretch(image, how)
    assert np.isnan(shown[0, 0])
    known = np.isfinite(image)
    assert shown[known].min() == 0
    assert shown[known].max() == 1
    assert (np.diff(shown[known][np.argsort(image[known])]) >= 0).all()


def test_stretches_of_odd_stamps():
    assert np.isnan(stamps.stretch(np.full((3, 3), np.nan))).all()
    assert not stamps.stretch(np.ones((3, 3))).any()
    with pytest.raises(ValueError, match="no stretch 'log'; choose from asinh, linear"):
        stamps.stretch(IMAGE, "log")
