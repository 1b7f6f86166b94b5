"""Transients in a pair of images by subtraction: plain, through a fitted kernel, and ZOGY.

Alard & Lupton 1998, ApJ 503, 325 and Bramich 2008, MNRAS 386, L77 (fitted kernels); Zackay, Ofek &
Gal-Yam 2016, ApJ 830, 27 (ZOGY).

Each takes a reference and a science image, shape (n_rows, n_columns), and gives an image of the S/N
of a point source at every pixel. Widths are full widths at half maximum [pixel].
"""

import numpy as np
from scipy import ndimage

from skynb import image_pairs


def checked(reference, science, **widths):
    """Return a pair as float64, NaN where a pixel of either is missing.

    What is no pair, or has no pixel in common, raises ValueError, and so do ``widths`` [pixel] that
    are not above 0.
    """
    for name, width in widths.items():
        if not 0 < width < np.inf:
            raise ValueError(f"{name} is {width}; give pixels, above 0")
    reference, science = np.asarray(reference, float), np.asarray(science, float)
    if reference.shape != science.shape or science.ndim != 2:
        raise ValueError(
            f"a reference of shape {reference.shape} and a science image of {science.shape}; give "
            "two images of one shape (n_rows, n_columns)"
        )
    for each, name in ((reference, "reference"), (science, "science image")):
        if not np.isfinite(each).any():
            raise ValueError(f"a {name} without a finite pixel; leave this pair out")
    known = np.isfinite(reference) & np.isfinite(science)
    if not known.any():
        raise ValueError("two images without a finite pixel in common; leave this pair out")
    return [np.where(known, each, np.nan) for each in (reference, science)]


def flux_ratio(reference, science, r_noise, s_noise):
    """Return the flux of a star in the science image over that in the reference.

    Both without sky; the median where a smoothed reference is well above its noise, and where there
    are too few such pixels the ratio of the noises.
    """
    smooth = [ndimage.gaussian_filter(each, 3) for each in (reference, science)]
    bright = smooth[0] > max(5 * image_pairs.noise(smooth[0])[1], r_noise / 2)
    noises = s_noise / r_noise if s_noise and r_noise else 1.0
    if bright.sum() < 30:
        return noises
    ratio = np.median(smooth[1][bright] / smooth[0][bright])
    return float(ratio) if ratio > 0 else noises


def _significance(difference, fwhm):
    """Return the S/N of a point source at every pixel of a difference image."""
    matched = ndimage.gaussian_filter(np.nan_to_num(difference), fwhm * image_pairs.FWHM_TO_SIGMA)
    level, sigma = image_pairs.noise(matched)
    return (matched - level) / (sigma or 1.0)


def naive(reference, science, *, fwhm):
    """Return the S/N of the difference after sky and flux have been scaled, and nothing else."""
    reference, science = checked(reference, science, fwhm=fwhm)
    (r_sky, r_noise), (s_sky, s_noise) = map(image_pairs.noise, (reference, science))
    reference, science = np.nan_to_num(reference - r_sky), np.nan_to_num(science - s_sky)
    scale = flux_ratio(reference, science, r_noise, s_noise)
    return _significance(science - scale * reference, fwhm)


def psf_matched(reference, science, *, fwhm, width=11):
    """Return the S/N of the difference from the reference convolved with a fitted kernel.

    The kernel is free in each of ``width`` x ``width`` pixels; so it also shifts and scales.

    References
    ----------
    Bramich 2008, MNRAS 386, L77.
    """
    pair = checked(reference, science, fwhm=fwhm)
    return _significance(matched_difference(*pair, width=width), fwhm)


def matched_difference(reference, science, *, width=11, masked=None, n_clips=2, degree=1):
    """Return the science image less the reference convolved with a fitted kernel, and less a sky.

    Pixels far from the fit are left out of it, as are those of ``masked``. A kernel of more pixels
    than are left raises ValueError.
    """
    if width < 3 or width % 2 != 1:
        raise ValueError(f"width is {width}; give an odd number of pixels, 3 or more")
    reference, science = checked(reference, science)
    (r_sky, _), (s_sky, s_noise) = map(image_pairs.noise, (reference, science))
    reference, science = np.nan_to_num(reference - r_sky), np.nan_to_num(science - s_sky)
    half, s_noise = width // 2, s_noise or 1.0
    views = np.lib.stride_tricks.sliding_window_view(np.pad(reference, half), (width, width))
    rows, columns = (np.indices(science.shape) / max(science.shape) - 0.5).reshape(2, -1)
    sky = [np.ones(science.size), rows, columns][: 1 + 2 * degree]
    design = np.column_stack([views.reshape(science.size, -1), *(s_noise * each for each in sky)])
    used = np.zeros(science.shape, bool)
    used[half:-half, half:-half] = True
    if masked is not None:
        used &= ~masked
    used, target = used.ravel(), science.ravel()
    for _ in range(1 + n_clips):
        if used.sum() < 2 * design.shape[1]:
            raise ValueError(f"{used.sum()} pixels to fit a kernel of {width}x{width}; narrow it")
        normal = design[used].T @ design[used]
        ridge = 1e-6 * (np.trace(normal) / len(normal) or 1.0) * np.eye(len(normal))
        kernel = np.linalg.solve(normal + ridge, design[used].T @ target[used])
        left = target - design @ kernel
        used &= np.abs(left) <= 5 * 1.4826 * np.median(np.abs(left[used]))
    return left.reshape(science.shape)


def zogy(
    reference, science, *, fwhm, fwhm_reference, gain=np.inf, registered=False, astrometry=0.1,
):  # fmt: skip
    """Return the S/N image of ZOGY, S_corr of its equation 25.

    Both point-spread functions are taken as Gaussians. The noise of the sources and of their
    places is allowed for.

    Parameters
    ----------
    gain : float
        Electrons per unit, for the noise of the sources.
    registered : bool
        If not, the reference is first shifted to where its cross-correlation is greatest.
    astrometry : float
        Error of the registration that is left [pixel].

    References
    ----------
    Zackay, Ofek & Gal-Yam 2016, ApJ 830, 27.
    """
    from skimage.registration import phase_cross_correlation

    reference, science = checked(reference, science, fwhm=fwhm, fwhm_reference=fwhm_reference)
    (r_sky, r_noise), (s_sky, s_noise) = map(image_pairs.noise, (reference, science))
    r_noise, s_noise = r_noise or 1.0, s_noise or 1.0
    R, N = np.nan_to_num(reference - r_sky), np.nan_to_num(science - s_sky)
    if not registered and R.any() and N.any():
        shift = phase_cross_correlation(
            *(ndimage.gaussian_filter(each, 1) for each in (N, R)),
            upsample_factor=20, normalization=None,
        )[0]  # fmt: skip
        if np.abs(shift).max() <= 5:
            R = ndimage.shift(R, shift, order=3, mode="reflect")
    flux = 1 / flux_ratio(R, N, r_noise, s_noise)
    R, N = (np.pad(each, 16, mode="reflect") for each in (R, N))
    at = [n // 2 for n in N.shape]
    seen = [image_pairs.psf(each, N.shape, at[1], at[0]) for each in (fwhm, fwhm_reference)]
    P_n, P_r = (np.fft.fft2(np.fft.ifftshift(each)) for each in seen)
    noise = s_noise**2 * flux**2 * np.abs(P_r) ** 2 + r_noise**2 * np.abs(P_n) ** 2
    noise += 1e-9 * noise.max()
    kernels = (
        flux**2 * np.conj(P_n) * np.abs(P_r) ** 2 / noise,
        flux * np.conj(P_r) * np.abs(P_n) ** 2 / noise,
    )
    parts, variance = [], 0.0
    for image, kernel, sigma, units in zip(
        (N, R), kernels, (s_noise, r_noise), (gain, gain * flux), strict=True
    ):
        part = np.fft.ifft2(np.fft.fft2(image) * kernel).real
        spread = np.fft.fft2(np.fft.ifft2(kernel).real ** 2)
        light = sigma**2 + np.maximum(image, 0) / units
        variance = variance + np.fft.ifft2(np.fft.fft2(light) * spread).real
        variance = variance + astrometry**2 * sum(each**2 for each in np.gradient(part))
        parts.append(part)
    S = (parts[0] - parts[1]) / np.sqrt(np.maximum(variance, 1e-12 * variance.max()))
    return S[16:-16, 16:-16]
