"""Seeded stand-ins for real light curves, and for alert packets.

Eleven classes of variable object on three cadences.

How far they are from real data: a random forest trained on 60 simulated objects of each of the
seven classes (200 of each), on Lomb-Scargle periods, harmonics at P and 2P and a dozen
non-periodic features, classifies the 5,241 real Catalina light curves of these classes with a
balanced accuracy of 0.80 (0.82). Chance is 0.14; the same forest cross-validated on Catalina itself
reaches 0.86, and on 60 simulated of each 0.88 to 0.90. Blends, artefacts, wrong labels and unequal
class sizes are not simulated; nothing here was compared with real ZTF or Kepler data.
"""

import io
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter
from scipy.special import erf

from skynb import lightcurves as _lightcurves
from skynb import taxonomy


def lightcurves(*, n_per_class=60, classes=taxonomy.SEVEN, cadence="crts", seed=0):
    """Return simulated light curves, the same for the same arguments.

    Periods, amplitudes and magnitudes are drawn from ranges like those of the Catalina survey
    (Drake et al. 2014). Each object has a random stream of its own, so that ``sim-EW-0003`` does
    not depend on ``n_per_class`` or ``classes``.

    Parameters
    ----------
    n_per_class, seed : int
    classes : sequence of str
        Any of `CLASSES`.
    cadence : {"crts", "ztf", "kepler"}
        ``crts``: four exposures in 30 minutes, every few weeks in season, 8 years, band V.
        ``ztf``: g, r and i every few nights in season, 3 years.
        ``kepler``: every 29.4 minutes for 90 days, band Kp.
        ``magerr`` is the reported 1-sigma error [mag]; like Catalina's own it is too large for
        bright stars on the ``crts`` cadence.

    Returns
    -------
    lcs : NestedFrame
        One row per object: ``label, ra, dec`` [deg], ``period`` [day] (the orbit's for EA and EW,
        the first overtone's for RRd, NaN where there is none), and the observations.

    Raises
    ------
    ValueError
        For an unknown class or cadence, or ``n_per_class`` below 1.

    References
    ----------
    Drake et al. 2014, ApJS 213, 9 (survey); Rucinski 1997, AJ 113, 407 (contact binaries);
    Mikulasek 2015, A&A 584, A8 (eclipses); Jurcsik & Kovacs 1996, A&A 312, 111 (RR Lyrae);
    Davenport et al. 2014, ApJ 797, 122 (flares); Kelly et al. 2009, ApJ 698, 895 and
    MacLeod et al. 2010, ApJ 721, 1014 (quasars).

    Examples
    --------
    >>> lcs = lightcurves(n_per_class=2, classes=["EW", "LPV"])
    >>> list(lcs.index)
    ['sim-EW-0000', 'sim-EW-0001', 'sim-LPV-0000', 'sim-LPV-0001']
    """
    for name in classes:
        if name not in CLASSES:
            raise ValueError(f"cannot simulate the class {name!r}; choose from {list(CLASSES)}")
    if cadence not in CADENCES:
        raise ValueError(f"unknown cadence {cadence!r}; choose from {list(CADENCES)}")
    if n_per_class < 1:
        raise ValueError(f"n_per_class is {n_per_class}; ask for 1 or more objects per class")
    parts = [_star(name, i, cadence, seed) for name in classes for i in range(n_per_class)]
    return _lightcurves.from_flat(pd.concat(parts, ignore_index=True))


def one_star(label="RRab", *, cadences=None, number=0, seed=0):
    """Return one simulated star as several surveys see it: one row per cadence, called after it.

    Star, place, period and phase are the same in every row; times, bands and noise are the
    survey's own. Only classes that repeat can be looked at twice.

    Parameters
    ----------
    label : str
        One of `taxonomy.SEVEN`.
    cadences : sequence of str, optional
        Any of `CADENCES`; by default all.
    number, seed : int
        Other numbers are other stars of the class.

    Raises
    ------
    ValueError
        For another class or cadence.

    Examples
    --------
    >>> one_star("EW", cadences=["crts", "kepler"])["period"].nunique()
    1
    """
    if label not in taxonomy.SEVEN:
        raise ValueError(f"no one star of {label!r}; choose from {list(taxonomy.SEVEN)}")
    cadences = CADENCES if cadences is None else cadences
    if unknown := [name for name in cadences if name not in CADENCES]:
        raise ValueError(f"unknown cadence {unknown[0]!r}; choose from {list(CADENCES)}")
    parts = [
        _star(label, number, cadence, seed, same=True).assign(object_id=cadence)
        for cadence in cadences
    ]
    return _lightcurves.from_flat(pd.concat(parts, ignore_index=True))


def planted(kinds=("quiet", "flare", "eclipse"), *, n_per_class=60, seed=0):
    """Return quiet stars, and such ones with one flare or with eclipses, to test explanations on.

    The nested column ``lightcurve.planted`` says which observations the flare or the eclipses move
    by more than 0.05 mag: 3 or more, and at most a tenth of all. Cadence and noise are ``crts``, a
    star is not fainter than 17.5 mag, and what is planted has 0.3 mag or more at its peak, which
    no exposure need meet.

    Raises
    ------
    ValueError
        For an unknown kind.
    """
    if unknown := [kind for kind in kinds if kind not in _PLANTS]:
        raise ValueError(f"cannot plant {unknown[0]!r}; choose from {list(_PLANTS)}")
    parts, marks = [], []
    for kind in kinds:
        for number in range(n_per_class):
            rng = np.random.default_rng([seed, list(_PLANTS).index(kind), number])
            mjd, band = _crts(rng.uniform(0, 360), rng)
            while True:
                change = _PLANTS[kind](mjd, rng)
                marked = np.abs(change) > 0.05
                if kind == "quiet" or 3 <= marked.sum() <= 0.1 * mjd.size:
                    break
            mag, magerr, _ = _crts_noise(_normal(rng, 15.8, 1.0, 14.0, 17.5) + change, mjd, rng)
            about = {"object_id": f"sim-{kind}-{number:04d}", "label": kind, "band": band}
            parts.append(pd.DataFrame({**about, "mjd": mjd, "mag": mag, "magerr": magerr}))
            marks.append(marked)
    lcs = _lightcurves.from_flat(pd.concat(parts, ignore_index=True))
    lcs["lightcurve.planted"] = np.concatenate(marks)
    return lcs


def alerts(*, n=120, size=63, seed=0):
    """Return simulated alert packets in the form of ZTF's, ``{file name: bytes of avro}``.

    A quarter each are variable stars, transients without a source in the reference image,
    asteroids and bogus detections (hot pixels and residuals of subtraction); the name of the object
    says which. A packet has a part of the fields of schema 4.02, a history of detections, upper
    limits and forced photometry, and three gzipped FITS cutouts: Gaussian stars, of one width in
    the science image and another in the template, on Gaussian noise. Every 20th is cut by an edge.
    There is no ``drb``, and no noise of real detectors.

    Raises
    ------
    ValueError
        If ``n`` is below 1.
    """
    import fastavro

    if n < 1:
        raise ValueError(f"n is {n}; ask for 1 or more packets")
    schema = fastavro.schema.load_schema(Path(__file__).with_suffix(".avsc"))
    kinds, packets = list(_ALERTS), {}
    for k in range(n):
        rng, kind = np.random.default_rng([seed, k]), kinds[k % len(kinds)]
        candid = 2_500_000_000_015_000_000 + 1_000_000 * seed + k
        packet = _alert(kind, f"sim-{kind}-{k // len(kinds):04d}", candid, rng)
        cut = (size * 2 // 3, size) if k % 20 == 19 else (size, size)
        snr = 1.0857 / packet["candidate"]["sigmapsf"]
        for name, image in zip(_CUTOUTS, _stamps(kind, size, snr, packet, rng), strict=True):
            data = _gzipped_fits(image[: cut[0], : cut[1]])
            packet[name] = {"fileName": f"{candid}.fits.gz", "stampData": data}
        stream = io.BytesIO()
        fastavro.writer(stream, schema, [packet], sync_marker=rng.bytes(16))
        packets[f"{candid}.avro"] = stream.getvalue()
    return packets


_CUTOUTS = ("cutoutScience", "cutoutTemplate", "cutoutDifference")
# Per kind: chance that an earlier visit detects it, distance of the nearest reference source
# [arcsec] and its magnitude, chance of a positive difference, rb.
_ALERTS = {
    "variable": (0.6, (0.02, 0.4), (15.5, 18.5), 0.5, (0.6, 0.95)),
    "transient": (0.3, (3.0, 12.0), (19.0, 22.0), 1.0, (0.6, 0.95)),
    "asteroid": (0.0, (5.0, 25.0), (18.0, 22.0), 1.0, (0.6, 0.95)),
    "bogus": (0.05, (0.1, 20.0), (14.0, 21.0), 0.6, (0.0, 0.5)),
}


def _alert(kind, object_id, candid, rng):
    """Return a packet without cutouts."""
    chance, apart, reference, positive, rb = _ALERTS[kind]
    nights = np.sort(rng.choice(np.arange(1, 31), rng.integers(8, 20), replace=False))[::-1]
    jd, ra, dec = 2_460_000.75, rng.uniform(0, 360), rng.uniform(-25, 80)
    place = {
        "distnr": rng.uniform(*apart),
        "magnr": rng.uniform(*reference),
        "sigmagnr": 0.02,
        "magzpsci": 26.2,
        "field": int(rng.integers(200, 900)),
        "rcid": int(rng.integers(64)),
    }
    faint = 19.8 if kind != "variable" else min(19.8, place["magnr"] + 2.5)
    peak, decline = rng.uniform(faint - 2, faint), rng.uniform(0, 0.04)
    sign = "t" if rng.random() < positive else "f"

    def visit(night, number, detected):
        band = int(rng.integers(1, 3))
        about = {"jd": jd - night + rng.normal(0, 0.05), "fid": band, "pid": candid // 1000 - night}
        about |= {"diffmaglim": rng.normal(20.4, 0.2), "nid": 2500 - int(night)}
        if not detected:
            return about | {"field": place["field"], "rcid": place["rcid"]}
        mag = min(peak + decline * night + rng.normal(0, 0.1), 20.3)
        return about | place | {
            "candid": number,
            "magpsf": mag,
            "sigmapsf": 0.2 * 10 ** (0.4 * (mag - 20.4)) + 0.01,
            "isdiffpos": sign,
            "ra": ra + rng.normal(0, 2e-5),
            "dec": dec + rng.normal(0, 2e-5),
            "rb": rng.uniform(*rb),
            "rbversion": "simulated",
        }  # fmt: skip

    earlier = [
        visit(night, candid - 1_000_000_000 * int(night), rng.random() < chance) for night in nights
    ]
    candidate = visit(0, candid, True) | {
        "ssdistnr": rng.uniform(0, 3) if kind == "asteroid" else -999.0,
        "ssnamenr": "simulated" if kind == "asteroid" else "null",
        "fwhm": rng.uniform(1.8, 2.6),
        "ndethist": 1 + sum("magpsf" in each for each in earlier),
    }
    forced = []
    for each in earlier:
        signed = {"t": 1, "f": -1, None: 0}[each.get("isdiffpos")]
        flux = signed * 10 ** (-0.4 * (each.get("magpsf", 30.0) - 26.2))
        failed = rng.random() < 0.05
        forced.append(
            {name: each[name] for name in ("jd", "fid", "pid", "diffmaglim")}
            | place
            | {
                "forcediffimflux": -99999.0 if failed else flux + rng.normal(0, 40),
                "forcediffimfluxunc": -99999.0 if failed else 40.0,
                "procstatus": "61" if failed else "0",
            }
        )
    packet = {"schemavsn": "4.02", "publisher": "skynb (simulated)", "objectId": object_id}
    packet |= {"candid": candid, "candidate": candidate}
    return packet | {"prv_candidates": earlier or None, "fp_hists": forced or None}


def _stamps(kind, size, snr, packet, rng):
    """Return science, template and difference, float32, of one alert."""
    candidate, y_x = packet["candidate"], np.mgrid[:size, :size]
    widths, noise = (candidate["fwhm"] / 2.355, 0.9), 10.0

    def star(place, width):
        r2 = (y_x[0] - place[0]) ** 2 + (y_x[1] - place[1]) ** 2
        return np.exp(-0.5 * r2 / width**2) / (2 * np.pi * width**2)

    science, template = (rng.normal(0, noise * s, (size, size)) for s in (1, 0.3))
    difference = science - template
    for flux in 10 ** rng.uniform(2.5, 4.5, rng.integers(3, 12)):
        place = rng.uniform(0, size, 2)
        science, template = (
            image + flux * star(place, width)
            for image, width in zip((science, template), widths, strict=True)
        )
    middle = size // 2 + rng.uniform(-0.5, 0.5, 2)
    sign = 1 if candidate["isdiffpos"] == "t" else -1
    source = sign * snr * noise * 2 * np.sqrt(np.pi) * widths[0] * star(middle, widths[0])
    if kind == "bogus":
        pixel = np.zeros((size, size))
        pixel[tuple(middle.astype(int))] = 4 * snr * noise
        dipole = star(middle - 0.7, widths[0]) - star(middle + 0.7, widths[0])
        source = pixel if rng.random() < 0.5 else 40 * snr * noise * dipole
    if kind == "variable":
        flux = 2 * np.abs(source).sum()
        science, template = (
            science + flux * star(middle, widths[0]),
            template + flux * star(middle, widths[1]),
        )
    return [each.astype(np.float32) for each in (science + source, template, difference + source)]


def _gzipped_fits(image):
    """Return the bytes of a gzipped FITS file of one float32 image."""
    import gzip

    from astropy.io import fits

    buffer = io.BytesIO()
    fits.PrimaryHDU(image).writeto(buffer)
    return gzip.compress(buffer.getvalue(), 6, mtime=0)


def _one_flare(mjd, rng):
    x = (mjd - rng.choice(mjd) + rng.uniform(0, 0.01)) / 10 ** rng.uniform(-2.2, -1.3)
    return -2.5 * np.log10(1 + rng.uniform(0.6, 3) * _flare_profile(x))


def _eclipses(mjd, rng):
    phase = mjd / _lognormal(rng, 0.9, 0.62, 0.35, 12.0) + rng.uniform()
    return rng.uniform(0.3, 1.2) * _eclipse(phase, rng.uniform(0.008, 0.03), rng)


_PLANTS = {
    "quiet": lambda mjd, rng: np.zeros(mjd.size),
    "flare": _one_flare,
    "eclipse": _eclipses,
}


STAMPS = ("asteroid", "satellite", "ghost", "dementor", "masked star", "plain")
"""Kinds of stamp that `stamps` plants; a streak finder keeps the first alone."""

STAMP_SIZES = (63, 80, 100, 131, 131, 160, 256)
"""Sides [pixel] that `stamps` draws from unless told."""

_PLACE = ("x", "y", "angle", "length")


def stamps(n=600, *, backgrounds=None, kinds=STAMPS, sizes=STAMP_SIZES, display=0.5, seed=0):
    """Return simulated difference stamps, a list, and the truth of each, a DataFrame.

    Noise, slightly correlated, with residuals of stars; with ``backgrounds``, real difference
    stamps, mirrored and turned. Where a stamp is larger than the real one, the real one is
    blended into noise of its own level. On it is planted, in units of the noise:

    ``asteroid``: a segment as wide as the PSF (FWHM 1.7 to 3.5 pixels) that lies within the stamp,
    10 pixels (in a large stamp, 0.08 of the side) to 0.76 of the side long; its ridge is 2 to 15
    sigma, or more where the whole would not reach S/N 15. ``satellite``: a line across the whole
    stamp, in a fifth of the cases with another one beside it, in a third masked on one side.
    ``ghost``: a ring or disk out of focus. ``dementor``: a broad curved plume. ``masked star``: a
    blanked disk with a halo, spikes and a bleed trail. ``plain``: nothing more than residuals,
    dipoles and short hits of cosmic rays. The detector's edge cuts a tenth of the stamps; what is
    missing has the value of the sky.

    Parameters
    ----------
    n : int
        Stamps, of the kinds in turn.
    backgrounds : sequence of ndarray, optional
        Real difference stamps; NaN where there is no pixel.
    sizes : sequence of int
        Sides [pixel] to draw from.
    display : float
        Share scaled as for a display, to 8 bits, by zscale or by percentiles; others stay float32
        in units of the detector.

    Returns
    -------
    stamps : list of ndarray, shape (size, size)
    truth : DataFrame
        ``kind``; of an asteroid and a satellite ``x, y`` (middle of what is within the stamp,
        column and row [pixel]), ``angle`` (from the columns' axis to the rows', 0 to 180) [deg],
        ``length`` [pixel] and ``snr`` (of all pixels, weighted best); ``background`` (place in
        ``backgrounds``, -1 if none), ``size`` and ``display``.

    Raises
    ------
    ValueError
        For an unknown kind, a side below 32 pixels, or a background without a finite pixel.

    References
    ----------
    Duev et al. 2019, MNRAS 486, 4158 (the kinds); Veres et al. 2012, PASP 124, 1197 (a trailed
    PSF).
    """
    if unknown := [kind for kind in kinds if kind not in STAMPS]:
        raise ValueError(f"cannot plant {unknown[0]!r}; choose from {list(STAMPS)}")
    if min(sizes) < 32:
        raise ValueError(f"a side of {min(sizes)} pixels leaves a streak no room; give 32 or more")
    backgrounds = [] if backgrounds is None else [np.asarray(b, np.float32) for b in backgrounds]
    for k, each in enumerate(backgrounds):
        if each.ndim != 2 or not np.isfinite(each).any():
            raise ValueError(f"background {k} is no image with a finite pixel; leave it out")
    made, rows = [], []
    for number in range(n):
        rng, kind = np.random.default_rng([seed, 77, number]), kinds[number % len(kinds)]
        size = int(rng.choice(sizes))
        row = {"kind": kind, "x": np.nan, "y": np.nan, "angle": np.nan, "length": np.nan}
        row |= {"snr": np.nan, "background": -1, "size": size, "display": rng.random() < display}
        if backgrounds:
            row["background"] = int(rng.integers(len(backgrounds)))
            image = _on_real(backgrounds[row["background"]], size, rng)
        else:
            image = _difference(size, rng)
        image, planted = _PLANTS_ON_STAMPS[kind](image, rng)
        if kind != "satellite" and rng.random() < 0.1:
            image = _cut(image, planted, rng)
        made.append(_displayed(image, rng) if row["display"] else image.astype(np.float32))
        rows.append(row | planted)
    return made, pd.DataFrame(rows)


def _difference(size, rng):
    """Return correlated noise with residuals of stars, in units of the noise."""
    image = gaussian_filter(rng.normal(size=(size, size)), rng.uniform(0, 0.6))
    image /= image.std()
    for _ in range(rng.poisson(1.2 * (size / 63) ** 2)):
        x, y = rng.uniform(0, size, 2)
        _add_residual(image, x, y, rng)
    return image * rng.uniform(3, 20)


def _add_residual(image, x, y, rng):
    """Add a star's residual: a point, or a dipole of a shift and a different PSF."""
    width, peak = rng.uniform(0.8, 1.5), np.exp(rng.uniform(np.log(2), np.log(40)))
    dx, dy = rng.normal(0, 0.6, 2)
    left = rng.uniform(0.8, 1.2) if rng.random() < 0.6 else 0
    spot = _blob(image.shape, x, y, width) - left * _blob(
        image.shape, x + dx, y + dy, width * rng.uniform(0.85, 1.2)
    )
    image += peak * rng.choice([1, 1, -1]) * spot


def _on_real(background, size, rng):
    """Return a real stamp, mirrored and turned, in noise of its level where it does not reach."""
    turned = np.rot90(background[:, ::-1] if rng.random() < 0.5 else background, rng.integers(4))
    level = np.nanmedian(turned)
    sigma = 1.4826 * np.nanmedian(np.abs(turned - level)) or 1.0
    if turned.shape == (size, size) and rng.random() < 0.5:
        return np.where(np.isfinite(turned), turned, level)
    image = _difference(size, rng)
    image *= sigma / (1.4826 * np.median(np.abs(image - np.median(image))))
    n_pasted = 1 if size <= 100 else int(rng.integers(1, 4))
    for k in range(n_pasted):
        patch = turned if k == 0 else np.rot90(turned, k)
        height, width = np.minimum(patch.shape, size)
        top, left = rng.integers(0, size - height + 1), rng.integers(0, size - width + 1)
        patch = patch[:height, :width] - level
        taper = np.outer(*(np.sin(np.linspace(0, np.pi, m + 2)[1:-1]) * 3 for m in patch.shape))
        known = np.where(np.isfinite(patch), taper.clip(0, 1), 0)
        part = image[top : top + height, left : left + width]
        part[:] = np.sqrt(1 - known**2) * part + known * np.nan_to_num(patch)
    return image + level


def _blob(shape, x, y, width):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return np.exp(-((columns - x) ** 2) / (2 * width**2)) * np.exp(
        -((rows - y) ** 2) / (2 * width**2)
    )


def trail(shape, x, y, angle, length, width):
    """Return a segment seen through a Gaussian PSF, 1 on the ridge of a long one.

    ``x, y`` [pixel] is its middle, ``angle`` [deg] goes from the columns' axis to the rows', and
    ``width`` [pixel] is the PSF's standard deviation.
    """
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    along, across = (columns - x) * c + (rows - y) * s, (rows - y) * c - (columns - x) * s
    ends = [erf((along + k * length / 2) / (np.sqrt(2) * width)) for k in (1, -1)]
    return 0.5 * (ends[0] - ends[1]) * np.exp(-(across**2) / (2 * width**2))


def _sigma(image):
    return 1.4826 * np.median(np.abs(image - np.median(image))) or 1.0


def _asteroid(image, rng):
    size, sigma, width = len(image), _sigma(image), rng.uniform(1.7, 3.5) / 2.355
    length = np.exp(rng.uniform(np.log(max(10, 0.08 * size)), np.log(0.76 * size)))
    angle = rng.uniform(0, 180)
    room = [
        max(1.0, size / 2 - 3 - abs(length / 2 * f(np.radians(angle)))) for f in (np.cos, np.sin)
    ]
    shift = [rng.uniform(-r, r) if rng.random() < 0.6 else rng.uniform(-r, r) * 0.1 for r in room]
    x, y = (size - 1) / 2 + np.array(shift)
    shape = trail(image.shape, x, y, angle, length, width)
    ridge = max(np.exp(rng.uniform(np.log(2), np.log(15))), 15 / np.sqrt(np.square(shape).sum()))
    snr = ridge * np.sqrt(np.square(shape).sum())
    about = {"x": x, "y": y, "angle": angle, "length": length, "snr": snr}
    return image + ridge * sigma * shape, about


def _satellite(image, rng):
    size, sigma, width = len(image), _sigma(image), rng.uniform(1.7, 5) / 2.355
    angle, centre = rng.uniform(0, 180), (size - 1) / 2
    x, y = centre + rng.uniform(-0.3, 0.3, 2) * size
    shape = trail(image.shape, x, y, angle, 4 * size, width)
    if rng.random() < 0.2:
        gap = rng.uniform(5, 20)
        away = gap * -np.sin(np.radians(angle)), gap * np.cos(np.radians(angle))
        shape += rng.uniform(0.4, 1) * trail(
            image.shape, x + away[0], y + away[1], angle, 4 * size, width
        )
    if rng.random() < 0.3:  # a tumbling one flashes
        rows, columns = np.indices(image.shape)
        shape *= 1 + 0.6 * np.sin((columns + rows) / rng.uniform(3, 20))
    ridge = np.exp(rng.uniform(np.log(1.5), np.log(40)))
    out, seen = image + ridge * sigma * shape, trail(image.shape, x, y, angle, 4 * size, 0.7) > 0.5
    if rng.random() < 1 / 3:
        blank = _half(image.shape, rng)
        while (seen & ~blank).sum() < size / 3:
            blank = _half(image.shape, rng)
        out, shape, seen = np.where(blank, np.median(image), out), shape * ~blank, seen & ~blank
    rows, columns = np.nonzero(seen)
    along = columns * np.cos(np.radians(angle)) + rows * np.sin(np.radians(angle))
    about = {"x": columns.mean(), "y": rows.mean(), "angle": angle, "length": np.ptp(along)}
    return out, about | {"snr": ridge * np.sqrt(np.square(shape).sum())}


def _half(shape, rng, most=0.5):
    """Return a mask that blanks up to half of a stamp, from a side inwards."""
    depth, side = int(rng.uniform(0.1, most) * shape[0]), rng.integers(4)
    blank = np.zeros(shape, bool)
    np.rot90(blank, side)[:depth] = True
    return blank


def _cut(image, planted, rng):
    """Return a stamp that the detector's edge cuts, unless it would cut the streak."""
    blank, place = _half(image.shape, rng, 0.3), [planted.get(name) for name in _PLACE]
    if planted and (blank & (trail(image.shape, *place, 1.5) > 0.1)).any():
        return image
    return np.where(blank, np.median(image), image)


def _ghost(image, rng):
    size, sigma = len(image), _sigma(image)
    x, y = rng.uniform(0.1, 0.9, 2) * size
    radius = rng.uniform(0.12, 0.7) * size
    rows, columns = np.indices(image.shape)
    r = np.hypot(columns - x, (rows - y) * rng.uniform(0.8, 1.2)) / radius
    soft = rng.uniform(0.03, 0.12)
    ring = 0.5 * (1 - erf((r - 1) / soft))
    if rng.random() < 0.7:
        ring *= 0.5 * (1 + erf((r - rng.uniform(0.3, 0.8)) / soft))
    return image + sigma * np.exp(rng.uniform(np.log(1), np.log(8))) * rng.choice(
        [1, 1, -1]
    ) * ring, {}


def _dementor(image, rng):
    size, sigma = len(image), _sigma(image)
    t = np.linspace(0, 1, 40)
    angle, bend = rng.uniform(0, 2 * np.pi), rng.normal(0, 1.2)
    reach, width = rng.uniform(0.3, 1.0) * size, rng.uniform(0.04, 0.12) * size
    heading = angle + bend * t
    start = rng.uniform(0.15, 0.85, 2) * size
    xs = start[0] + np.cumsum(np.cos(heading)) * reach / len(t)
    ys = start[1] + np.cumsum(np.sin(heading)) * reach / len(t)
    plume = np.zeros_like(image)
    for x, y, wide, bright in zip(
        xs, ys, width * (0.3 + t), np.exp(rng.normal(0, 0.4, len(t))), strict=True
    ):
        plume += bright * (1 - 0.5 * rng.random()) * _blob(image.shape, x, y, max(wide, 1.5))
    plume /= plume.max()
    return image + sigma * rng.uniform(2, 15) * rng.choice([1, 1, -1]) * plume, {}


def _masked_star(image, rng):
    size, sigma = len(image), _sigma(image)
    x, y = rng.uniform(0.15, 0.85, 2) * size
    rows, columns = np.indices(image.shape)
    r = np.hypot(columns - x, rows - y)
    radius, peak = rng.uniform(0.05, 0.2) * size, np.exp(rng.uniform(np.log(3), np.log(60)))
    halo = peak * (1 + (r / radius) ** 2) ** -rng.uniform(1, 2)
    turn = rng.choice([0, 45]) + rng.normal(0, 2)
    if rng.random() < 0.6:
        for each in (turn, turn + 90):
            long = rng.uniform(2, 8) * radius
            spike = trail(image.shape, x, y, each, long, rng.uniform(0.7, 1.5))
            halo = halo + peak * rng.uniform(0.2, 1) * spike
    out = image + sigma * rng.choice([1, 1, -1]) * halo * (1 + 0.3 * rng.normal(size=image.shape))
    low = np.median(image) - rng.choice([0, 0, 5, 30]) * sigma
    if rng.random() < 0.4:
        bleed = (np.abs(columns - x) < rng.uniform(0.6, 2)) & (np.abs(rows - y) < radius * 4)
        out = np.where(bleed, low if rng.random() < 0.5 else out + 20 * sigma, out)
    return np.where(r < radius, low, out), {}


def _plain(image, rng):
    out, sigma = image.copy(), _sigma(image)
    for _ in range(rng.integers(0, 4)):
        spot = np.zeros_like(image)
        _add_residual(spot, *rng.uniform(0, len(image), 2), rng)
        out += sigma * spot
    if rng.random() < 0.25:
        x, y = rng.uniform(0.1, 0.9, 2) * len(image)
        hit = trail(image.shape, x, y, rng.uniform(0, 180), rng.uniform(1, 5), 0.4)
        out += sigma * rng.uniform(5, 60) * hit
    return out, {}


def _displayed(image, rng):
    """Return a stamp as a display shows it: cut by zscale or at percentiles, 256 levels."""
    if rng.random() < 0.5:
        from astropy.visualization import ZScaleInterval

        low, high = ZScaleInterval(contrast=rng.choice([0.25, 0.15, 0.5])).get_limits(image)
    else:
        low, high = np.percentile(image, [rng.uniform(0.2, 5), rng.uniform(98.5, 99.9)])
    high = max(high, low + _sigma(image))
    return np.round(255 * np.clip((image - low) / (high - low), 0, 1)).astype(np.uint8)


_PLANTS_ON_STAMPS = dict(
    zip(STAMPS, (_asteroid, _satellite, _ghost, _dementor, _masked_star, _plain), strict=True)
)


def _star(name, number, cadence, seed, *, same=False):
    """Return the observations of a star; with ``same`` it is one star on every cadence."""
    stream = [seed, CLASSES.index(name), number]
    rng = np.random.default_rng([*stream, CADENCES.index(cadence)])
    own = np.random.default_rng(stream) if same else rng
    ra, dec = own.uniform(0, 360), np.degrees(np.arcsin(own.uniform(-0.34, 0.94)))
    sampling, noise = _CADENCES[cadence]
    mjd, band = sampling(ra, rng)
    shape, centre, scatter, bright, faint, g_r, r_i, *strengths = _CLASSES[name]
    mean = np.full(mjd.size, _normal(own, centre, scatter, bright, faint))
    g_r, r_i = own.normal((g_r, r_i), 0.08)
    offsets = 0.56 * g_r, -0.44 * g_r, -0.44 * g_r - r_i
    strength = np.ones(mjd.size)
    for key, offset, factor in zip("gri", offsets, strengths, strict=True):
        mean[band == key] += offset
        strength[band == key] = factor
    period, change = shape(mjd, strength, own)
    mag, magerr, limit = noise(mean + change, mjd, rng)
    keep = mag < limit
    seen = {"mjd": mjd[keep], "mag": mag[keep], "magerr": magerr[keep], "band": band[keep]}
    about = {"label": name, "ra": ra, "dec": dec, "period": period}
    return pd.DataFrame({"object_id": f"sim-{name}-{number:04d}", **about, **seen})


def _normal(rng, centre, scatter, low, high):
    """Return a normal draw within limits: drawn again, not clipped, until it is."""
    while not low <= (value := rng.normal(centre, scatter)) <= high:
        pass
    return value


def _lognormal(rng, centre, scatter, low, high):
    return np.exp(_normal(rng, np.log(centre), scatter, np.log(low), np.log(high)))


# --- the shapes: (mjd, strength of each observation's band, rng) -> period, change in magnitude


def _ew(mjd, strength, rng):
    """Contact binary: cosine coefficients near Rucinski's contact line, minima nearly equal."""
    period = _lognormal(rng, 0.33, 0.27, 0.21, 1.2)
    a2 = -rng.uniform(0.04, 0.24)
    a4 = a2 * (0.125 - a2) * rng.uniform(0.2, 1.2)
    a1, b1 = -rng.uniform(0, 0.2) * abs(a2), rng.normal(0, 0.008)
    angle = 2 * np.pi * (mjd / period + rng.uniform())
    flux = 1 + a1 * np.cos(angle) + a2 * np.cos(2 * angle) + a4 * np.cos(4 * angle)
    return period, -2.5 * strength * np.log10(flux + b1 * np.sin(angle))


def _ea(mjd, strength, rng):
    """Detached binary: Mikulasek's eclipse profile twice, unequal, and a little ellipticity."""
    period = _lognormal(rng, 0.9, 0.62, 0.35, 12.0)
    phase = mjd / period + rng.uniform()
    primary = _lognormal(rng, 0.38, 0.45, 0.12, 1.5)
    secondary = primary * rng.uniform(0.1, 1.0)
    width = np.clip(0.042 * (period / 0.9) ** -0.45 * rng.uniform(0.7, 1.4), 0.008, 0.075)
    eccentric = rng.normal(0, 0.02) if period > 1.5 else 0.0
    change = primary * _eclipse(phase, width, rng)
    change += secondary * _eclipse(phase + 0.5 + eccentric, width * rng.uniform(0.85, 1.15), rng)
    ellipticity = 0.05 * rng.uniform() * min(1.0, 0.7 / period)
    return period, strength * (change + ellipticity * np.cos(4 * np.pi * phase))


def _eclipse(phase, width, rng):
    distance = (phase + 0.5) % 1 - 0.5
    core = 1 - np.exp(1 - np.cosh(np.clip(distance / width, -6, 6)))
    return 1 - core ** rng.uniform(0.75, 1.4)


def _sines(mjd, period, amplitudes, phases, rng):
    angle = 2 * np.pi * (mjd / period + rng.uniform())
    return np.sin(np.outer(angle, 1 + np.arange(len(phases))) + phases) @ np.array(amplitudes)


def _rrab(mjd, strength, rng):
    """Sawtooth: sine-series phases of V light curves, amplitude falling with period."""
    period = _normal(rng, 0.575, 0.075, 0.38, 0.85)
    swing = _normal(rng, 0.70 - 2.8 * (period - 0.56), 0.18, 0.2, 1.3)
    r21, r31 = rng.normal(0.45, 0.06), rng.normal(0.30, 0.07)
    ratios = [1, r21, r31, 0.62 * r31, 0.4 * r31]
    p21, p31 = rng.normal(2.4, 0.15), rng.normal(5.0, 0.25)
    shape = _sines(mjd, period, ratios, [0, p21, p31, 2 * p31 - p21, 2 * p31], rng)
    return period, strength * swing / 2.35 * shape


def _rrc(mjd, strength, rng):
    """Nearly a sine that rises faster: the first overtone, sine-series phases as Catalina has."""
    period = _normal(rng, 0.33, 0.04, 0.21, 0.46)
    amplitude = _normal(rng, 0.19, 0.045, 0.07, 0.32)
    ratios = [1, *np.abs(rng.normal([0.12, 0.06], [0.05, 0.03]))]
    phases = [0, *rng.normal([3.2, 6.2], [0.4, 0.8])]
    return period, strength * amplitude * _sines(mjd, period, ratios, phases, rng)


def _rrd(mjd, strength, rng):
    """First overtone and fundamental beating, period ratio 0.744 to 0.747, and their sum."""
    fundamental = _normal(rng, 0.475, 0.045, 0.40, 0.58)
    period = fundamental * rng.uniform(0.744, 0.747)
    amplitude = _normal(rng, 0.17, 0.035, 0.08, 0.28)
    ratio = rng.uniform(0.2, 0.8)
    both = 1 / (1 / period + 1 / fundamental)
    change = _sines(mjd, period, [1, 0.15], [0, 3.2], rng)
    change += ratio * _sines(mjd, fundamental, [1, 0.2], [0, 2.4], rng)
    change += ratio * _sines(mjd, both, [0.2], [0], rng)
    return period, strength * amplitude * change


def _rs_cvn(mjd, strength, rng):
    """Spots: a modulation of slowly changing amplitude and phase, and a slow activity cycle."""
    period = _lognormal(rng, 6.0, 1.1, 1.0, 60.0)
    amplitude = _lognormal(rng, 0.085, 0.4, 0.035, 0.25)
    size, lag, cycle = (_drift(mjd, days, rng) for days in (500.0, 900.0, 1500.0))
    angle = 2 * np.pi * (mjd / period + rng.uniform()) + 0.6 * lag
    wave = np.cos(angle) + rng.uniform(0, 0.35) * np.cos(2 * angle + rng.uniform(0, 6.28))
    return period, strength * amplitude * (np.exp(0.25 * size) * wave + rng.uniform(0, 0.6) * cycle)


def _drift(mjd, days, rng):
    """Return a smooth random curve of unit variance that changes over about ``days``."""
    frequency = np.abs(rng.normal(0, 1 / days, 6))[:, None]
    waves = np.sin(2 * np.pi * (frequency * mjd + rng.uniform(size=(6, 1))))
    return waves.sum(axis=0) / np.sqrt(3)


def _lpv(mjd, strength, rng):
    """Mira or semi-regular: a large slow swing whose depth and length differ by cycle."""
    period = _lognormal(rng, 205, 0.4, 80, 600)
    swing = _lognormal(rng, 1.3 * (period / 205) ** 0.4, 0.45, 0.4, 4.0)
    angle = 2 * np.pi * (mjd / period + rng.uniform()) + 0.3 * _drift(mjd, 4 * period, rng)
    skew = rng.uniform(0, 0.35)
    wave = np.sin(angle + skew * np.cos(angle))
    depth = np.exp(rng.uniform(0.05, 0.4) * _drift(mjd, 2 * period, rng))
    slow = rng.uniform(0, 0.25) * _drift(mjd, 6 * period, rng)
    return period, strength * swing * (0.5 * depth * wave + slow)


def _flare(mjd, strength, rng):
    """Red dwarf: fast rise, two-speed decay (Davenport); one flare is made to meet a visit."""
    number = rng.poisson(min(0.25 * np.ptp(mjd), 400))
    peaks = np.append(rng.uniform(mjd[0], mjd[-1], number), rng.choice(mjd) - rng.uniform(0, 0.01))
    widths = 10 ** rng.uniform(-2.5, -1.3, peaks.size)
    heights = np.minimum(0.08 * (1 - rng.uniform(size=peaks.size)) ** -0.9, 6.0)
    heights[-1] = max(heights[-1], rng.uniform(0.4, 3.0))
    excess = _flare_profile((mjd[:, None] - peaks) / widths) @ heights
    return np.nan, -2.5 * np.log10(1 + strength * excess)


def _flare_profile(x):
    decay = 0.689 * np.exp(-1.6 * x.clip(0)) + 0.303 * np.exp(-0.278 * x.clip(0))
    return np.where(x < 0, (1 + x).clip(0), decay)


def _dwarf_nova(mjd, strength, rng):
    """Outbursts of 2 to 5 mag: rise in about a day, plateau, decline; flickering in between."""
    wait, swing = 10 ** rng.uniform(1.3, 2.4), rng.uniform(2.0, 5.0)
    change = rng.normal(0, rng.uniform(0.08, 0.25), mjd.size)
    now = mjd.min() - wait * rng.uniform()
    while now < mjd.max():
        length, height = rng.uniform(2, 12), swing * rng.uniform(0.7, 1.0)
        x = mjd - now
        change -= height * x.clip(0, 1) * np.exp(-(x - length).clip(0) / 2)
        now += length + wait * rng.uniform(0.6, 1.4)
    return np.nan, strength * change


def _supernova(mjd, strength, rng):
    """Type Ia-like rise and decline, or a plateau, over a constant host galaxy."""
    peak = rng.choice(mjd) + rng.uniform(-15, 10)
    x = (mjd - peak) / rng.uniform(0.85, 1.15)
    if rng.uniform() < 0.7:
        fade = np.where(x < 0, (x / 14) ** 2, np.minimum(0.07 * x, 0.9 + 0.018 * x))
    else:
        fade = np.where(x < 0, (x / 8) ** 2, 0.008 * x + 1.6 / (1 + np.exp((95 - x) / 5)))
    excess = 10 ** (0.4 * (rng.uniform(0.8, 3.2) - fade))
    return np.nan, -2.5 * np.log10(1 + strength * excess)


def _quasar(mjd, strength, rng):
    """Damped random walk, exact on the given times; tau [day] and the long-term scatter [mag]."""
    tau, scatter = 10 ** rng.uniform(1.7, 3.1), _lognormal(rng, 0.17, 0.4, 0.06, 0.5)
    decay = np.exp(-np.diff(mjd, prepend=-np.inf) / tau)
    walk = np.sqrt(1 - decay**2) * rng.normal(size=mjd.size)
    for i in range(1, mjd.size):
        walk[i] += decay[i] * walk[i - 1]
    return np.nan, strength * scatter * walk


# shape; centre, scatter, brightest and faintest mean magnitude; g - r, r - i; how strongly g, r and
# i vary against V: pulsation, spots, flares and disks are strongest in blue
_CLASSES = {
    "EW": (_ew, 15.8, 1.5, 13.0, 18.5, 0.60, 0.22, 1.04, 0.97, 0.94),
    "EA": (_ea, 15.8, 1.5, 13.0, 18.5, 0.55, 0.20, 1.03, 0.98, 0.96),
    "RRab": (_rrab, 17.0, 1.6, 13.5, 19.0, 0.28, 0.08, 1.20, 0.85, 0.67),
    "RRc": (_rrc, 16.4, 1.5, 13.2, 18.8, 0.18, 0.04, 1.20, 0.85, 0.67),
    "RRd": (_rrd, 15.4, 1.4, 13.0, 18.0, 0.20, 0.05, 1.20, 0.85, 0.67),
    "RS CVn": (_rs_cvn, 15.1, 1.2, 13.0, 17.5, 0.85, 0.35, 1.10, 0.90, 0.75),
    "LPV": (_lpv, 13.9, 1.3, 12.5, 16.8, 1.50, 1.30, 1.20, 0.85, 0.67),
    "flare": (_flare, 16.8, 1.0, 14.0, 18.5, 1.45, 1.20, 1.80, 0.50, 0.20),
    "DN": (_dwarf_nova, 18.2, 0.7, 16.5, 19.2, 0.20, 0.15, 1.10, 0.90, 0.75),
    "SN": (_supernova, 19.0, 0.5, 18.0, 19.8, 0.60, 0.30, 1.00, 1.00, 0.85),
    "QSO": (_quasar, 18.2, 0.8, 16.0, 19.2, 0.22, 0.15, 1.10, 0.90, 0.80),
}
CLASSES = tuple(_CLASSES)

# --- the cadences: (ra, rng) -> mjd, band; nights are those when the Sun is far from ``ra``


def _nights(ra, first, days, number, season, rng):
    midnight = first + np.arange(days)
    sun = 360 * (midnight - 51623.8) / 365.2422
    away = np.abs((sun - ra) % 360 - 180)
    clear = midnight[(away < season) & (rng.uniform(size=days) < 0.7)]
    return np.sort(rng.choice(clear, min(number, clear.size), replace=False))


def _crts(ra, rng):
    number = int(_normal(rng, 76, 23, 24, 115))
    nights = _nights(ra, 53464.0, 2922, number, rng.uniform(60, 100), rng)
    start = nights + rng.uniform(0.10, 0.48, nights.size)
    exposures = start[:, None] + np.arange(4) * rng.uniform(0.004, 0.011, (nights.size, 1))
    mjd = exposures[rng.uniform(size=exposures.shape) < 0.97]
    return mjd, np.full(mjd.size, "V")


def _ztf(ra, rng):
    number = {"g": rng.integers(110, 200), "r": rng.integers(130, 230), "i": rng.integers(20, 45)}
    parts = [_nights(ra, 58200.0, 1095, count, 120, rng) for count in number.values()]
    mjd = np.concatenate([part + rng.uniform(0.12, 0.50, part.size) for part in parts])
    band = np.repeat(list(number), [part.size for part in parts])
    order = np.argsort(mjd)
    return mjd[order], band[order]


def _kepler(ra, rng):
    days = np.arange(0, 90, 29.4244 / 1440)
    mjd = 55000.0 + days[days % 31 < 30.1]
    return mjd, np.full(mjd.size, "Kp")


# --- the noise: (mag, mjd, rng) -> observed mag, reported magerr, faintest mag that is seen


def _crts_noise(mag, mjd, rng):
    error = np.hypot(0.008, 0.028 * 10 ** (0.26 * (mag - 16))) * rng.lognormal(0.25, 0.35)
    error = np.where(rng.uniform(size=mag.size) < rng.uniform(0, 0.02), 5 * error + 0.05, error)
    night = np.unique(np.floor(mjd), return_inverse=True)[1]
    mag = mag + error * rng.normal(size=mag.size) + rng.normal(0, 0.02, mjd.size)[night]
    reported = np.hypot(0.05, 0.0423 * 10 ** (0.2 * (mag - 16)))
    return mag, reported * np.exp(rng.normal(0, 0.04, mag.size)), 20.5


def _honest_noise(floor, scale, slope, reference, limit, mag, mjd, rng):
    magerr = np.hypot(floor, scale * 10 ** (slope * (mag - reference)))
    return mag + magerr * rng.normal(size=mag.size), magerr, limit


_CADENCES = {
    "crts": (_crts, _crts_noise),
    "ztf": (_ztf, partial(_honest_noise, 0.012, 0.10, 0.3, 19.5, 21.0)),
    "kepler": (_kepler, partial(_honest_noise, 1e-4, 2e-4, 0.25, 14.0, 25.0)),
}
CADENCES = tuple(_CADENCES)
