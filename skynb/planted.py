"""Triplets with something planted: real sources and what is taken for them, seeded.

Planted in simulated fields, or in real triplets: then background, neighbours, masks and noise are
those of the survey. Of 600 planted in ZTF's triplets of one exposure, d6_m7 calls real 87 % of the
new stars, 80 % of the variable ones, 32 % of the residuals and 0 to 15 % of the other kinds; in
simulated fields also 38 % of the empty and 47 % of the shifted ones. Ghosts, crosstalk and trails
of satellites are not planted.
"""

import numpy as np
import pandas as pd
from scipy import ndimage

from skynb import stamps

REAL_KINDS = ("new star", "variable star")
BOGUS_KINDS = (
    "residual",
    "cosmic ray",
    "masked star",
    "bad column",
    "negative",
    "empty",
    "shifted",
)


def triplets(n, *, base=None, groups=None, kinds=REAL_KINDS + BOGUS_KINDS, seed=0):
    """Return simulated triplets, shape (n, size, size, 3), and a table with a row for each.

    Into fields, or into real triplets, something is planted at the centre of the science stamp and
    seen in the difference. ``base`` is moved, magnified, given another sky and more noise, and may
    lose an edge, so that one exposure stands for several.

    Parameters
    ----------
    n : int
    base : ndarray, shape (n_base, size, size, 3), optional
        Raw triplets to plant in; simulated fields of stars by default.
    groups : array, shape (n_base,), optional
        Set of each; only members of one set are grafted on each other.
    kinds : sequence of str
        Any of `REAL_KINDS` and `BOGUS_KINDS`, in equal numbers, and two where nothing is planted
        and a judge must say what is real: "seen", ``base`` itself under another sky, and
        "grafted", its middle, turned and scaled, on the field of another.

    Returns
    -------
    triplets : ndarray, float32
    table : DataFrame
        ``kind``; ``real``, True if of `REAL_KINDS`; ``base``, the row of ``base`` (-1: simulated).

    Raises
    ------
    ValueError
        For an unknown kind.

    Examples
    --------
    >>> images, table = triplets(4, kinds=["new star", "cosmic ray"])
    >>> images.shape, table["real"].tolist()
    ((4, 63, 63, 3), [True, False, True, False])
    """
    known = ", ".join((*REAL_KINDS, *BOGUS_KINDS, "seen", "grafted"))
    if unknown := set(kinds) - {*REAL_KINDS, *BOGUS_KINDS, "seen", "grafted"}:
        raise ValueError(f"no kind {unknown.pop()!r} of triplet; choose from {known}")
    groups = np.zeros(len(base) if base is not None else 0) if groups is None else groups
    near = [np.flatnonzero(np.asarray(groups) == each) for each in groups]
    out, rows = [], []
    for k in range(n):
        rng, kind = np.random.default_rng([seed, k]), kinds[k % len(kinds)]
        row = -1 if base is None else int(rng.integers(len(base)))
        image = _field(rng) if base is None else base[row].astype(float)
        if kind == "grafted":
            field = _field(rng) if base is None else base[rng.choice(near[row])].astype(float)
            image = _grafted(_elsewhere(field, rng), image, rng)
        out.append(_plant(image, kind, rng, own=base is None))
        rows.append((kind, kind in REAL_KINDS, row))
    table = pd.DataFrame(rows, columns=["kind", "real", "base"])
    most = np.finfo(np.float32).max  # some masked pixels of ZTF come close to it
    return np.clip(out, -most, most).astype(np.float32), table


def _field(rng, size=stamps.SIZE):
    """Return a field of stars, subtracted but for the noise, with or without one at the centre."""
    sky, image = rng.uniform(60, 100), np.zeros((size, size, 3))
    seeing, depth = rng.uniform(1.8, 3.5), rng.uniform(0.5, 2)
    places = rng.uniform(0, size, (rng.poisson(4), 2))
    if rng.random() < 0.5:
        places = np.vstack([places, size // 2 + rng.normal(0, 0.5, 2)])
    for place in places:
        flux = 10 ** rng.uniform(2.3, 5.3)
        image[..., 0] += flux * _psf(size, place, seeing)
        image[..., 1] += flux * _psf(size, place, 2.2)
    image[..., 2] = rng.normal(0, 5, (size, size)) * np.sqrt(1 + image[..., 0] / 400)
    image[..., 0] += image[..., 2] + sky
    image[..., 1] += rng.normal(0, depth, (size, size)) + sky
    return image


def _psf(size, place, fwhm, stretch=1.0, angle=0.0):
    """Return a star of flux 1, Gaussian, ``place`` in (row, column)."""
    y, x = np.indices((size, size)) - np.reshape(place, (2, 1, 1))
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    sigma = fwhm / 2.355
    star = np.exp(-0.5 * ((along / stretch) ** 2 + across**2) / sigma**2)
    return star / (2 * np.pi * sigma**2 * stretch)


def _plant(image, kind, rng, own):
    """Return a triplet with something of a kind at its centre."""
    size, middle = len(image), len(image) // 2
    if kind not in ("seen", "grafted", "residual", "variable star", "negative", "shifted"):
        image = _elsewhere(image, rng)
    if not own:
        image = _magnified(image, np.exp(rng.uniform(-0.3, 0.3)))
    unseen = image == 0
    noise = 1.48 * np.median(np.abs(image[..., 2] - np.median(image[..., 2]))) + 1e-3
    here, fwhm = middle + rng.normal(0, 0.35, 2), rng.uniform(1.6, 4)
    peak = noise * 10 ** rng.uniform(0.6, 2)
    star = _psf(size, here, fwhm, rng.uniform(1, 1.3), rng.uniform(0, np.pi))
    star *= peak / star.max()
    if kind in REAL_KINDS:
        image[..., [0, 2]] += star[..., None]
        if kind == "variable star":
            constant = _psf(size, here, fwhm) / _psf(size, here, fwhm).max()
            constant *= peak * 10 ** rng.uniform(-0.5, 1)
            image[..., [0, 1]] += constant[..., None]
    elif kind == "residual":
        image = _residual(image, here, fwhm, noise, rng)
    elif kind == "cosmic ray":
        image[..., [0, 2]] += _cosmic_ray(size, middle, peak + 5 * noise, rng)[..., None]
    elif kind == "bad column":
        line = np.zeros((size, size))
        line[:, middle + rng.integers(-1, 2) :][:, : rng.integers(1, 3)] = peak
        line[: rng.integers(0, middle - 2)] = 0
        line = line if rng.random() < 0.7 else line.T
        image[..., [0, 2]] += (line * rng.choice([1, 1, -1]))[..., None]
    elif kind == "negative":
        image[..., 2] *= -1
        image[..., 2] -= star
    elif kind == "shifted":
        move = rng.integers(6, 20, 2) * rng.choice([-1, 1], 2)
        image = np.roll(image, move, axis=(0, 1))
    image[unseen & (kind != "shifted")] = 0
    if kind == "masked star":
        image = _masked_star(image, star, middle, noise, rng)
    return _worn(image, noise, rng)


def _elsewhere(image, rng):
    """Return a triplet about another place, its own source moved out of the middle."""
    move = rng.integers(10, 26, 2) * rng.choice([-1, 1], 2)
    return np.roll(image, move, axis=(0, 1))


def _grafted(field, image, rng, radius=12):
    """Return a field with the middle of another triplet in its own, turned and scaled."""
    image = np.rot90(image[:, ::-1] if rng.random() < 0.5 else image, rng.integers(4))
    away = np.hypot(*(np.indices(image.shape[:2]) - len(image) // 2))
    share = np.clip((radius - away) / 4 + 1, 0, 1)[..., None]
    sky, scale = np.median(image, axis=(0, 1)), 10 ** rng.uniform(-0.5, 0.5)
    gap = (image == 0).all(axis=-1, keepdims=True) & (share > 0)
    unseen = (field == 0) | gap
    return np.where(unseen, 0, field + share * scale * (image - sky))


def _magnified(image, factor):
    """Return a triplet seen under another seeing and scale, its centre kept."""
    shrink, middle = [1 / factor] * 2, len(image) // 2
    options = {"order": 1, "mode": "reflect", "offset": middle * (1 - 1 / factor)}
    planes = [
        ndimage.affine_transform(each, shrink, **options) for each in image.transpose(2, 0, 1)
    ]
    gap = ndimage.affine_transform((image == 0).all(-1).astype(float), shrink, **options)
    return np.where(gap[..., None] > 0.01, 0, np.stack(planes, -1))


def _residual(image, here, fwhm, noise, rng):
    """Return a triplet whose star is badly subtracted: displaced, of another width and flux."""
    size, bright = len(image), noise * 10 ** rng.uniform(1.5, 3.5)
    away = here + rng.normal(0, 1, 2) * rng.uniform(0.05, 0.6)
    other = fwhm * rng.uniform(0.85, 1.15)
    one, two = _psf(size, here, fwhm), _psf(size, away, other)
    scale = bright / one.max()
    image[..., 0] += scale * one
    image[..., 1] += scale * _psf(size, here, 2.2)
    grain = rng.normal(0, 0.02, one.shape) * scale * one
    left = scale * (one - two * rng.uniform(0.97, 1.03)) + grain
    most = np.abs(left).max()
    image[..., 2] += left * min(1, noise * rng.uniform(4, 40) / most)
    return image


def _cosmic_ray(size, middle, peak, rng):
    image, angle = np.zeros((size, size)), rng.uniform(0, np.pi)
    for step in np.arange(0, rng.choice([1, 1, 2, 4, 8]), 0.5):
        row, column = middle + np.round(step * np.array([np.sin(angle), np.cos(angle)])).astype(int)
        image[row, column] = peak * rng.uniform(0.5, 1.5)
    return image


def _masked_star(image, star, middle, noise, rng):
    """Return a triplet with a saturated star cut out of every plane, and what it leaves."""
    size, half = len(image), rng.integers(4, 13)
    centre = middle + rng.integers(-half - 4, half + 5, 2)
    glow = _psf(size, centre, 2.5 * half)
    image[..., :2] += (glow / glow.max() * noise * 10 ** rng.uniform(1, 2.5))[..., None]
    spike = _psf(size, centre, 5, rng.uniform(2, 8), 0 if rng.random() < 0.8 else np.pi / 2)
    wave = np.sin(np.arange(size) * rng.uniform(0.5, 2) + rng.uniform(0, 6))[:, None]
    image[..., 2] += spike / spike.max() * noise * rng.uniform(3, 25) * wave + 0.5 * star
    box = np.clip([centre - half, centre + half], 0, size)
    image[box[0, 0] : box[1, 0], box[0, 1] : box[1, 1]] = 0
    return image


def _worn(image, noise, rng):
    """Return a triplet under another sky, with more noise, now and then cut by an edge."""
    known = image != 0
    sky = np.median(image[..., 0])
    image = image + known * [sky * np.expm1(rng.uniform(-0.7, 0.7)), 0, 0]
    sky = np.median(image[..., 1])
    image = image + known * [0, sky * np.expm1(rng.uniform(-0.7, 0.7)), 0]
    if rng.random() < 0.5:
        more = rng.normal(0, noise * rng.uniform(0.2, 1.5), image.shape[:2])
        image = image + known * more[..., None] * [1, 0.2, 1]
    if rng.random() < 0.1:
        size = len(image)
        image[size - rng.integers(2, size // 2 - 4) :] = 0
    return image
