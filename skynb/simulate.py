"""Seeded stand-ins for real light curves: eleven classes of variable object on three cadences.

How far they are from real data: a random forest trained on 60 simulated objects of each of the
seven classes (200 of each), on Lomb-Scargle periods, harmonics at P and 2P and a dozen
non-periodic features, classifies the 5,241 real Catalina light curves of these classes with a
balanced accuracy of 0.80 (0.82). Chance is 0.14; the same forest cross-validated on Catalina itself
reaches 0.86, and on 60 simulated of each 0.88 to 0.90. Blends, artefacts, wrong labels and unequal
class sizes are not simulated; nothing here was compared with real ZTF or Kepler data.
"""

from functools import partial

import numpy as np
import pandas as pd

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


def _star(name, number, cadence, seed):
    rng = np.random.default_rng([seed, CLASSES.index(name), number, CADENCES.index(cadence)])
    ra, dec = rng.uniform(0, 360), np.degrees(np.arcsin(rng.uniform(-0.34, 0.94)))
    sampling, noise = _CADENCES[cadence]
    mjd, band = sampling(ra, rng)
    shape, centre, scatter, bright, faint, g_r, r_i, *strengths = _CLASSES[name]
    mean = np.full(mjd.size, _normal(rng, centre, scatter, bright, faint))
    g_r, r_i = rng.normal((g_r, r_i), 0.08)
    offsets = 0.56 * g_r, -0.44 * g_r, -0.44 * g_r - r_i
    strength = np.ones(mjd.size)
    for key, offset, factor in zip("gri", offsets, strengths, strict=True):
        mean[band == key] += offset
        strength[band == key] = factor
    period, change = shape(mjd, strength, rng)
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
