"""Simulated image pairs: transients planted on backgrounds, real or simulated, seen twice.

Everything that a real pair suffers from is put on top: the reference is shifted, turned and scaled,
one of the two is blurred, and both get a sky and noise of their own.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.special import erf
from tqdm.auto import tqdm

FWHM_TO_SIGMA = 1 / np.sqrt(8 * np.log(2))

MARGIN = 4
"""Pixels at the edge of a pair where no transient is planted."""


@dataclass(frozen=True)
class Background:
    """What is seen twice without a transient.

    Attributes
    ----------
    reference, science : ndarray, shape (n_rows, n_columns)
        Aligned, of any unit and sky.
    fwhm : float
        Of the science image's point-spread function [pixel].
    gain : float
        Electrons per unit; infinity where the noise of the sky is all there is.
    group : str
        Backgrounds of one group are never parted between training and test.
    masked : ndarray of bool or None
        Pixels where something real may change; nothing is planted or judged there.
    """

    reference: np.ndarray
    science: np.ndarray
    fwhm: float
    gain: float = np.inf
    group: str = ""
    masked: np.ndarray | None = None


@dataclass(frozen=True)
class Pairs:
    """Simulated image pairs, and what is true of them.

    Attributes
    ----------
    reference, science, truth : ndarray, shape (n, size, size), float32
        ``truth`` is the transients alone, without noise, in the science image's unit.
    masked : ndarray of bool, shape (n, size, size)
    sources : DataFrame
        ``pair, x, y`` [pixel], ``flux`` and ``snr`` of every transient. The S/N is that of a fit of
        the point-spread function to the science image alone, its own photons not counted.
    about : DataFrame, shape (n, ...)
        ``group, fwhm, fwhm_reference`` [pixel], ``gain``, ``shift`` [pixel] and ``ratio`` (of
        the wider point-spread function to the narrower).
    """

    reference: np.ndarray
    science: np.ndarray
    truth: np.ndarray
    masked: np.ndarray
    sources: pd.DataFrame
    about: pd.DataFrame

    def __len__(self):
        return len(self.science)

    def __getitem__(self, rows):
        """Return some of the pairs, by their rows."""
        rows = np.arange(len(self))[rows]
        arrays = (getattr(self, name)[rows] for name in ("reference", "science", "truth", "masked"))
        place = pd.Series(np.arange(len(rows)), index=rows)
        sources = self.sources[self.sources["pair"].isin(rows)]
        sources = sources.assign(pair=place.loc[sources["pair"]].to_numpy())
        return Pairs(*arrays, sources.reset_index(drop=True), self.about.iloc[rows])


def psf(fwhm, shape, x, y):
    """Return a Gaussian point-spread function of sum 1 centred on ``x, y``, shape ``shape``.

    Examples
    --------
    >>> image = psf(3.0, (21, 21), 10, 10)
    >>> round(float(image.sum()), 6), int(image.argmax()) == 10 * 21 + 10
    (1.0, True)
    """
    scale = np.sqrt(0.5) / (fwhm * FWHM_TO_SIGMA)
    rows, columns = (
        np.diff(erf((np.arange(n + 1) - 0.5 - place) * scale)) / 2
        for n, place in zip(shape, (y, x), strict=True)
    )
    return np.outer(rows, columns)


def noise(image):
    """Return the level and the standard deviation of an image's sky, by clipping at 3 sigma."""
    values = np.asarray(image, float)
    values = values[np.isfinite(values)]
    for _ in range(5):
        centre = np.median(values)
        scatter = 1.4826 * np.median(np.abs(values - centre))
        kept = values[np.abs(values - centre) <= 3 * scatter]
        if len(kept) in (0, len(values)):
            break
        values = kept
    return float(centre), float(scatter)


def skies(n, *, size=80, seed=0):
    """Return ``n`` simulated `Background`: stars, galaxies and the noise of photons.

    Each is seen twice through the same point-spread function, of 2 to 4 pixels; ``size`` is its
    number of rows and columns.
    """
    seeds = np.random.SeedSequence(seed).spawn(n)
    return [_one_sky(size, k, np.random.default_rng(each)) for k, each in enumerate(seeds)]


def _one_sky(size, number, rng):
    fwhm, level, shape = rng.uniform(2, 4), 10 ** rng.uniform(2, 3.5), (size, size)
    scene = np.zeros(shape)
    unit = np.sqrt(level) * fwhm * 1.5  # flux of S/N 1
    for _ in range(rng.poisson(size**2 / 200)):
        flux = unit * min(3 * rng.pareto(0.7) + 2, 3000)
        scene += flux * psf(fwhm, shape, *rng.uniform(-3, size + 3, 2))
    for _ in range(rng.poisson(size**2 / 1500)):
        scene += unit * 10 ** rng.uniform(1, 2.7) * _galaxy(fwhm, shape, rng)
    seen = [rng.poisson(scene + level).astype(float) for _ in range(2)]
    return Background(*seen, fwhm=float(fwhm), gain=1.0, group=f"simulated {number}")


def _galaxy(fwhm, shape, rng):
    """Return an inclined exponential disk or a de Vaucouleurs profile of sum 1, blurred."""
    rows, columns = np.indices(shape) - rng.uniform(0, shape[0], 2)[:, None, None]
    angle, axis, radius = rng.uniform(0, np.pi), rng.uniform(0.3, 1), rng.uniform(1.5, 6)
    along = columns * np.cos(angle) + rows * np.sin(angle)
    across = (rows * np.cos(angle) - columns * np.sin(angle)) / axis
    index = rng.choice([1, 0.25])
    steep = {1: 1.678, 0.25: 7.669}[index]
    profile = np.exp(-steep * (np.hypot(np.hypot(along, across), 0.3) / radius) ** index)
    return ndimage.gaussian_filter(profile / profile.sum(), fwhm * FWHM_TO_SIGMA)


def tiles(background, n_pixels=112):
    """Return a large `Background` cut into squares, each a group of its own."""
    rows, columns = (n // n_pixels for n in background.science.shape)
    if not rows * columns:
        raise ValueError(
            f"an image of shape {background.science.shape}; it has no tile of {n_pixels} pixels, "
            "give a smaller n_pixels"
        )
    cut = []
    for row in range(rows):
        for column in range(columns):
            at = np.s_[row * n_pixels :, column * n_pixels :]
            at = tuple(slice(each.start, each.start + n_pixels) for each in at)
            masked = None if background.masked is None else background.masked[at]
            images = background.reference[at], background.science[at]
            group = f"{background.group} {row},{column}"
            new = replace(background, group=group, masked=masked)
            cut.append(replace(new, reference=images[0], science=images[1]))
    return cut


def plant(
    backgrounds, n, *, size=56, n_transients=1.5, snr=(3, 50), max_shift=2.0, max_turn=0.5,
    max_ratio=2.0, seed=0, progress=False,
):  # fmt: skip
    """Return ``n`` simulated `Pairs`, their backgrounds taken in turn.

    Parameters
    ----------
    backgrounds : sequence of Background
        At least ``size`` + 4 rows and columns each.
    size : int
        Rows and columns of a pair.
    n_transients : float
        Mean number in a pair.
    snr : (float, float)
        Least and greatest S/N, even in its logarithm. A quarter of the transients are placed on the
        light of the background, the others anywhere.
    max_shift, max_turn, max_ratio : float
        Greatest misregistration [pixel], rotation [degree] and ratio of the full widths at half
        maximum of the two point-spread functions.

    Raises
    ------
    ValueError
        If there is no background, or one is too small.
    """
    if not backgrounds:
        raise ValueError("no backgrounds to plant transients on; give image_pairs.skies(100)")
    small = [each.group for each in backgrounds if min(each.science.shape) < size + 4]
    if small:
        raise ValueError(
            f"background {small[0]!r} has fewer than {size + 4} rows or columns; give a smaller "
            "size, or larger backgrounds"
        )
    rng, made = np.random.default_rng(seed), []
    limits = (max_shift, max_turn, max_ratio)
    for k in tqdm(range(n), desc="pairs", disable=not progress):
        background = backgrounds[k % len(backgrounds)]
        made.append(_one_pair(_crop(background, size, rng), size, n_transients, snr, limits, rng))
    *images, sources, about = zip(*made, strict=True)
    images = [np.stack(each) for each in images]
    sources = [each.assign(pair=k) for k, each in enumerate(sources)]
    return Pairs(*images, pd.concat(sources, ignore_index=True), pd.DataFrame(list(about)))


def _crop(background, size, rng):
    """Return a random part of a background, some pixels larger than a pair, turned at random."""
    wanted = min(size + 12, *background.science.shape)
    row, column = (rng.integers(n - wanted + 1) for n in background.science.shape)
    at, turn, mirror = np.s_[row : row + wanted, column : column + wanted], rng.integers(4), (1, -1)
    mirror = mirror[rng.integers(2)]
    masked = background.masked
    masked = np.zeros(background.science.shape, bool) if masked is None else masked
    cut = (
        np.rot90(each[at], turn)[:, ::mirror]
        for each in (background.reference, background.science, masked)
    )
    reference, science, masked = cut
    return replace(background, reference=reference, science=science, masked=masked)


def _one_pair(background, size, n_transients, snr, limits, rng):
    max_shift, max_turn, max_ratio = limits
    shift, angle = max_shift * np.sqrt(rng.uniform()), rng.uniform(0, 2 * np.pi)
    offset = shift * np.array([np.sin(angle), np.cos(angle)])
    turn = np.deg2rad(rng.uniform(-max_turn, max_turn))
    ratio, blurred = rng.uniform(1, max_ratio), rng.integers(2)
    width = background.fwhm * np.sqrt(ratio**2 - 1) * FWHM_TO_SIGMA
    fwhms = [background.fwhm * (ratio if k == blurred else 1) for k in range(2)]
    images = []
    for k, image in enumerate((background.reference, background.science)):
        level, sigma = noise(image)
        image = np.nan_to_num(np.asarray(image, float) - level)
        if k == 0:
            image = _moved(image, offset, turn)
        if k == blurred:
            image = ndimage.gaussian_filter(image, width)
        edge = (np.array(image.shape) - size) // 2
        at = tuple(slice(e, e + size) for e in edge)
        images.append((image[at], sigma, noise(image)[1]))
    masked = background.masked[at]
    (reference, *sigmas), (science, *_) = images
    reference, *_ = _noisy(reference, *sigmas, background.gain, rng)
    science, variance, own = _noisy(science, *images[1][1:], background.gain, rng)
    sources, truth = _transients(
        science,
        (variance, own, width if blurred else 0.0),
        fwhms[1],
        masked,
        n_transients,
        snr,
        rng,
    )
    if np.isfinite(background.gain):
        science = science + rng.normal(size=truth.shape) * np.sqrt(truth / background.gain)
    scale, sky = rng.uniform(0.7, 1.4), noise(science)[1]
    reference = reference * scale + _sky(size, sky * scale, rng)
    science = science + truth + _sky(size, sky, rng)
    about = {"group": background.group, "fwhm": fwhms[1], "fwhm_reference": fwhms[0]}
    about |= {"shift": shift, "ratio": ratio, "gain": background.gain}
    images = (each.astype(np.float32) for each in (reference, science, truth))
    return *images, masked, sources, about


def _moved(image, offset, turn):
    """Return an image turned about its centre and shifted by ``offset`` (rows, columns)."""
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    centre = (np.array(image.shape) - 1) / 2
    start = centre - matrix @ (centre + offset)
    return ndimage.affine_transform(image, matrix, start, order=3, mode="reflect")


def _noisy(image, sigma, left, gain, rng):
    """Return an image with noise added up to 1 to 2 times its own, and the variance of each pixel:
    of the noise added, and of that before blurring, which has left ``left`` of ``sigma``.
    """
    wanted = sigma * rng.uniform(1, 2)
    light = np.maximum(ndimage.gaussian_filter(image, 1), 0)
    shape = 1 + light / (gain * sigma**2 or 1)
    added = max(wanted**2 - left**2, 0)
    image = image + rng.normal(size=image.shape) * np.sqrt(added * shape)
    return image, added * shape, sigma**2 * shape


def _sky(size, sigma, rng):
    """Return a plane: a level, and a slope of some sigma from side to side."""
    rows, columns = np.indices((size, size)) / size - 0.5
    slope = rng.normal(0, 0.5, 2) * sigma
    return rng.uniform(0, 100) * sigma + slope[0] * rows + slope[1] * columns


def _transients(science, noises, fwhm, masked, n_transients, snr, rng):
    variance, own, width = noises
    wide = np.hypot(fwhm, width / FWHM_TO_SIGMA)
    size, truth, rows = len(science), np.zeros(science.shape), []
    near = ndimage.binary_dilation(masked, iterations=4) if masked.any() else masked
    free = np.zeros(science.shape, bool)
    free[MARGIN : size - MARGIN, MARGIN : size - MARGIN] = True
    free &= ~near
    light = np.clip(science / np.sqrt(variance + own), 0, 20) * free
    for _ in range(rng.poisson(n_transients)):
        weight = (light if rng.uniform() < 0.25 and light.any() else free).ravel().astype(float)
        if not weight.any():
            break
        y, x = divmod(rng.choice(weight.size, p=weight / weight.sum()), size)
        x, y = x + rng.uniform(-0.5, 0.5), y + rng.uniform(-0.5, 0.5)
        profile, wanted = psf(fwhm, science.shape, x, y), np.exp(rng.uniform(*np.log(snr)))
        seen = np.sum(profile**2 * variance) + np.sum(psf(wide, science.shape, x, y) ** 2 * own)
        flux = wanted * np.sqrt(seen) / np.sum(profile**2)
        truth += flux * profile
        rows.append((x, y, flux, wanted))
        free[np.hypot(*(np.indices(free.shape) - np.array([y, x])[:, None, None])) < 8] = False
        light *= free
    return pd.DataFrame(rows, columns=["x", "y", "flux", "snr"], dtype=float), truth
