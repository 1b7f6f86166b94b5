"""Cutouts of images: decoded, padded, put together as triplets, normalized, turned.

A stamp is an image, shape (n_rows, n_columns), float32. A triplet is the science, template and
difference stamps of one alert, shape (size, size, 3); ``triplets`` has objects on axis 0.
"""

import re
import zlib

import numba
import numpy as np
from isal import isal_zlib

SIZE = 63
"""Rows and columns of a ZTF stamp, unless the edge of the detector cuts it."""

PLANES = ("science", "template", "difference")

NORMALIZATIONS = ("per_row", "per_frame")
"""What is divided by its L2 norm: each row of each plane (braai d6_m7), or each plane (d6_m9)."""

STRETCHES = ("asinh", "linear", "sqrt", "minmax")

OVERFLOW = float(np.sqrt(np.finfo(np.float32).max))
"""A norm that float32 cannot hold; there, braai sees 0."""

_HEADER = re.compile(
    rb"BITPIX  = +-32 .*?NAXIS   = +2 .*?NAXIS1  = +(\d+) .*?NAXIS2  = +(\d+) ", re.S
)


def decode(data):
    """Return the stamp in the bytes of a FITS file, gzipped or not.

    What is not FITS, or is cut short, raises ValueError.
    """
    data = bytes(data)
    if data[:2] == b"\x1f\x8b":
        try:
            data = isal_zlib.decompress(data, 31)
        except (isal_zlib.error, zlib.error, EOFError) as error:
            raise ValueError(f"a stamp whose gzip is damaged ({error})") from None
    simple = _HEADER.match(data, 80) if data[:6] == b"SIMPLE" else None
    if simple is None:
        return _decode_any(data)
    end = _end_card(data)
    if b"BSCALE" in data[:end] or b"BZERO" in data[:end]:
        return _decode_any(data)
    width, height = map(int, simple.groups())
    begin = 2880 * (1 + end // 2880)
    if len(data) < begin + 4 * width * height:
        raise ValueError(f"a stamp of {len(data)} bytes, too few for {height} x {width} pixels")
    pixels = np.frombuffer(data, ">f4", width * height, begin)
    return pixels.reshape(height, width).astype(np.float32)


def _end_card(data):
    """Return where the card END begins."""
    place = data.find(b"END" + b" " * 77)
    while place % 80:
        place = data.find(b"END" + b" " * 77, place + 1)
        if place < 0:
            raise ValueError("a stamp whose FITS header has no end")
    return place


def _decode_any(data):
    """Return the first image of any FITS file."""
    import io
    import warnings

    from astropy.io import fits

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            images = [hdu.data for hdu in fits.open(io.BytesIO(data)) if hdu.data is not None]
    except Exception as error:  # astropy's own and others', for damaged headers
        raise ValueError(f"a stamp that is no FITS image ({error})") from None
    if not images or images[0].ndim != 2:
        raise ValueError("a stamp without an image of two dimensions")
    return images[0].astype(np.float32)


def triplet(science, template, difference, *, size=SIZE):
    """Return three stamps as a triplet, shape (size, size, 3), float32.

    A missing pixel (NaN, infinite) is 0, and so are those beyond an edge that cuts the stamps: as
    in braai they are added at the bottom and at the right. A larger stamp raises ValueError, also
    one of which no pixel is finite.
    """
    out = np.zeros((size, size, 3), np.float32)
    for k, stamp in enumerate((science, template, difference)):
        height, width = np.shape(stamp)
        if max(height, width) > size:
            raise ValueError(
                f"a {PLANES[k]} stamp of {height} x {width} pixels; at most {size} x {size} fit"
            )
        known = np.isfinite(stamp)
        if not known.any():
            raise ValueError(f"a {PLANES[k]} stamp without a finite pixel")
        out[:height, :width, k] = np.where(known, stamp, 0)
    return out


def normalize(triplets, how):
    """Return triplets, shape (n, size, size, 3), divided by their L2 norms; float32.

    Parameters
    ----------
    how : str
        One of `NORMALIZATIONS`; it is part of a model and travels with it.

    References
    ----------
    Duev et al. 2019, MNRAS 489, 3582.

    Examples
    --------
    >>> normalize(np.full((1, 2, 2, 3), 3.0), "per_frame")[0, 0, 0].tolist()
    [0.5, 0.5, 0.5]
    """
    if how not in NORMALIZATIONS:
        raise ValueError(f"no normalization {how!r}; choose from {', '.join(NORMALIZATIONS)}")
    triplets = np.ascontiguousarray(triplets)
    n, height, width, planes = triplets.shape
    parts = (n * height, width) if how == "per_row" else (n, height * width)
    out = np.empty((*parts, planes), np.float32)
    _divide_by_norms(triplets.reshape(out.shape), out)
    return out.reshape(triplets.shape)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _divide_by_norms(values, out):
    """Divide along the middle axis by the L2 norm; doubles throughout, as braai's own scores."""
    for k in range(values.shape[0]):
        for plane in range(values.shape[2]):
            total = 0.0
            for j in range(values.shape[1]):
                total += np.float64(values[k, j, plane]) ** 2
            norm = np.sqrt(total)
            norm = 1.0 if norm == 0 else np.inf if norm > OVERFLOW else norm
            for j in range(values.shape[1]):
                out[k, j, plane] = np.float64(values[k, j, plane]) / norm


def augment(triplets, rng):
    """Return triplets each mirrored and turned by a quarter at random, all planes alike."""
    out, drawn = np.empty_like(triplets), rng.integers(0, 8, len(triplets))
    for k in range(8):
        chosen = triplets[drawn == k]
        out[drawn == k] = np.rot90(chosen[:, ::-1] if k >= 4 else chosen, k % 4, axes=(1, 2))
    return out


def stretch(stamp, how="asinh"):
    """Return a stamp as brightness, 0 to 1: what to draw; NaN where a pixel is missing.

    Parameters
    ----------
    stamp : array, shape (n_rows, n_columns)
    how : str
        One of `STRETCHES`: between the limits of IRAF's zscale, for ``linear``, ``sqrt`` and
        ``asinh``; ``minmax`` shows the whole range.
    """
    from astropy.visualization import (
        AsinhStretch,
        LinearStretch,
        MinMaxInterval,
        SqrtStretch,
        ZScaleInterval,
    )

    if how not in STRETCHES:
        raise ValueError(f"no stretch {how!r}; choose from {', '.join(STRETCHES)}")
    stamp = np.asarray(stamp, float)
    interval = MinMaxInterval() if how == "minmax" else ZScaleInterval()
    curves = {"asinh": AsinhStretch(), "sqrt": SqrtStretch()}
    out = np.full(stamp.shape, np.nan)
    known = np.isfinite(stamp)
    if known.any():
        low, high = interval.get_limits(stamp[known])
        scaled = np.clip((stamp[known] - low) / ((high - low) or 1.0), 0, 1)
        out[known] = curves.get(how, LinearStretch())(scaled)
    return out
