"""Periods: Fast Lomb-Scargle, harmonics, daily aliases, and the shape of the folded curve.

The search goes in four steps. (1) The Lomb-Scargle power on a fine grid gives the highest peaks.
(2) At each of them one, two and four harmonics are fitted by weighted least squares and weighed by
the Bayesian information criterion: a curve that is no sine is then told from its daily aliases.
Peaks within `DAY_WIDTH` of a whole number of cycles per day are damped. (3) The fit is taken off,
and what is left searched again, for a second mode. (4) Eclipsing binaries are found at half their
orbit: `period` is twice `peak_period` where the minima are sharper than the maxima, as told in
`search`.
"""

import logging
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import finufft
import nifty_ls
import numba
import numpy as np
import pandas as pd
from scipy.special import gammaln
from tqdm.auto import tqdm

from skynb import lightcurves

MAX_FREQUENCY = 12.0
"""Highest frequency searched [1/day]: half the orbit of the shortest contact binaries, 0.17 day."""

SAMPLES_PER_PEAK = 4
"""Frequencies per 1 / (time span); peaks are refined between them."""

MAX_N_FREQ = 2_000_000
"""Cap of the frequency grid, some 40,000 days to 12 per day; one bad time would ask for 10^8."""

MIN_POINTS = 5
"""Fewest observations for a period: a sine on a mean has four parameters."""

MIN_CYCLES = 2.0
"""Fewest cycles within the time span: anything slower is a trend."""

MIN_N_FREQ = int(4 * MIN_CYCLES * SAMPLES_PER_PEAK)

N_CANDIDATES = 20
N_PHASES = 64
N_ALIASES = 3
DAY_WIDTH, DAY_DAMPING = 0.02, 0.9
SIDEREAL = 1.0027379
"""Sidereal days per day, the step of the daily aliases besides 1 [1/day]."""

RIDGE = 1e-3
_COMPILED = {"nogil": True, "cache": True, "error_model": "numpy"}
_logger = logging.getLogger(__name__)
_kept = threading.local()


@dataclass(frozen=True, eq=False)
class Periodogram:
    """Lomb-Scargle ``power``, the share of chi-squared that a sine explains, by ``frequency``."""

    frequency: np.ndarray
    power: np.ndarray

    def best(self):
        """Return the period of the highest power [day]."""
        return float(1.0 / self.frequency[np.argmax(self.power)])


def periodogram(mjd, mag, magerr, *, max_frequency=MAX_FREQUENCY):
    """Return the Lomb-Scargle periodogram of one light curve in one band.

    Parameters
    ----------
    mjd, mag, magerr : array, shape (n_obs,)
        Sorted times [day], magnitudes, 1-sigma errors.
    max_frequency : float
        [1/day]

    Raises
    ------
    ValueError
        If there are fewer than `MIN_POINTS` observations, they are all alike or span too little
        time, or the grid would hold more than `MAX_N_FREQ` frequencies.

    References
    ----------
    Garrison et al. 2024, RNAAS 8, 250 (nifty-ls).
    """
    t, y, _, error, step, n_freq = _one(mjd, mag, magerr, max_frequency)
    power = nifty_ls.lombscargle(
        t, y, error, fmin=step, fmax=step * n_freq, Nf=n_freq, nthreads=1, backend="finufft"
    ).power
    return Periodogram(step * np.arange(1, n_freq + 1), power)


def candidates(mjd, mag, magerr, band=None, *, max_frequency=MAX_FREQUENCY):
    """Return the likely periods of one light curve, the best first, with how each relates to it.

    With ``band`` given, several bands are joined after taking off the median of each.

    Columns: ``period`` [day], ``power`` (share of chi-squared explained by ``n_harmonics``),
    ``score`` (difference of the Bayesian information criterion to no variation; higher is more
    likely) and ``relation``: "best", "half", "double", "daily alias" or "other".

    Raises
    ------
    ValueError
        As `periodogram`.
    """
    if band is not None:
        mag = np.asarray(mag, np.float64)
        mag = mag - pd.Series(mag).groupby(np.asarray(band, str)).transform("median").to_numpy()
    t, y, w, _, step, n_freq = _one(mjd, mag, magerr, max_frequency)
    table = _ranked(_plan(n_freq).spectrum(t, y, w, step), step, t, y, w)
    frequency, width = table[:, 0], 1.5 / np.ptp(t)
    best = frequency[0] if len(table) else np.nan
    relation = np.full(len(table), "other", dtype=object)
    for days in (1, 2, 3):
        for near in (days, days * SIDEREAL):
            for alias in (best + near, abs(best - near)):
                relation[np.abs(frequency - alias) < width] = "daily alias"
    relation[np.abs(frequency - 2 * best) < width] = "half"
    relation[np.abs(frequency - best / 2) < width] = "double"
    relation[:1] = "best"
    return pd.DataFrame(
        {
            "period": 1.0 / frequency,
            "power": table[:, 1],
            "n_harmonics": table[:, 2].astype(int),
            "score": table[:, 3],
            "relation": relation,
        }
    )


def search(lcs, *, max_frequency=MAX_FREQUENCY, n_jobs=None, progress=True):
    """Return the period of every object, indexed like ``lcs``; NaN where none can be told.

    Bands are joined after taking off the median of each. No observation weighs more than the one
    with the median error, for the smallest errors are often the least true.

    Columns: ``period`` and ``period_error`` [day]; ``power``, the share of chi-squared that
    ``n_harmonics`` explain; ``false_alarm``, the chance that noise alone gives the highest
    Lomb-Scargle peak; ``peak_period``, the period of the strongest sine, which is ``period`` or
    half of it; ``alias_1`` to ``alias_3``, the next likely periods; ``lead``, by how much the
    first is likelier than the second (criterion per observation); ``slow_power``, the highest
    power beyond 20 days; ``second_period`` and ``second_power``, from what the fit leaves;
    ``double_mode``, the highest such power where the ratio of periods is that of an RRd star,
    0.735 to 0.755.

    ``period`` is twice ``peak_period`` if the fitted curve has minima sharper than its maxima
    (skewness above 0.3) and ``peak_period`` is below 2.5 d, or it is below 0.25 d and the maxima
    are not sharper (skewness above -0.2, no pulsation).

    Parameters
    ----------
    lcs : NestedFrame, shape (n_objects,)
    max_frequency : float
        [1/day]
    n_jobs : int, optional
        Threads; as many as numba has (``NUMBA_NUM_THREADS``) by default.

    References
    ----------
    Garrison et al. 2024, RNAAS 8, 250 (nifty-ls); Baluev 2008, MNRAS 385, 1279 (false alarms);
    Montgomery & O'Donoghue 1999, DSSN 13, 28 (errors of frequencies).
    """
    offsets, t, y, w, _ = _joined(lcs)
    parts = [slice(a, b) for a, b in pairwise(offsets)]
    size = np.zeros(len(lcs), np.int64)
    for k, part in enumerate(parts):
        if part.stop - part.start >= MIN_POINTS and np.ptp(t[part]) > 0 and y[part].any():
            size[k] = _grid(np.ptp(t[part]), max_frequency)[1]
    too_long = np.flatnonzero(size > MAX_N_FREQ)
    if len(too_long):
        first = too_long[0]
        _logger.warning(
            f"no period for {len(too_long)} objects, the first is {lcs.index[first]!r}: its "
            f"{np.ptp(t[parts[first]]):.0f} days ask for {size[first]} frequencies, more than "
            f"{MAX_N_FREQ}; drop stray times (lightcurves.from_flat, time_range) or lower "
            "max_frequency"
        )
    # neighbours share a grid, and with it a transform that is planned once
    rows = np.flatnonzero((size >= MIN_N_FREQ) & (size <= MAX_N_FREQ))
    rows = rows[np.argsort(size[rows], kind="stable")]
    found = np.full((len(lcs), len(FOUND)), np.nan)

    def work(chunk):
        for k in chunk:
            found[k] = _found(t[parts[k]], y[parts[k]], w[parts[k]], max_frequency)
        return len(chunk)

    chunks = [rows[k : k + 32] for k in range(0, len(rows), 32)]
    bar = tqdm(total=len(rows), desc="periods", unit="object", disable=not progress)
    with bar, ThreadPoolExecutor(n_jobs or numba.get_num_threads()) as pool:
        for n_done in pool.map(work, chunks):
            bar.update(n_done)
    return pd.DataFrame(found, index=lcs.index, columns=list(FOUND))


def features(lcs, found):
    """Return the shape of the curves folded at the periods found, indexed like ``lcs``.

    Columns are those of `SHAPE`, whose values say what each one is, and of ``found`` as
    logarithms. All but ``period`` may be missing from ``found``: any table of periods will do.

    Parameters
    ----------
    lcs : NestedFrame, shape (n_objects,)
    found : DataFrame
        Of `search`, or with a column ``period`` [day], indexed like ``lcs``.

    Raises
    ------
    ValueError
        If the index of ``found`` is not that of ``lcs``.
    """
    if not lcs.index.equals(found.index):
        raise ValueError("found has another index than lcs; search the same table for periods")
    offsets, t, y, w, _ = _joined(lcs)
    found = found.reindex(columns=list(FOUND)).astype(float)
    period = found["peak_period"].fillna(found["period"]).to_numpy()
    columns = {
        "log_period": np.log10(found["period"]),
        "log_peak_period": np.log10(period),
        "log_alias_1": np.log10(found["alias_1"]),
        "log_alias_2": np.log10(found["alias_2"]),
        "alias_step": 1.0 / found["alias_1"] - 1.0 / period,
        "log_second_ratio": np.log10(found["second_period"] / period),
        "day_distance": np.abs(1.0 / period - np.round(1.0 / period)),
        **found[["power", "lead", "slow_power", "second_power", "double_mode"]],
    }
    share, once, twice = (np.full((len(lcs), n), np.nan) for n in (5, 9, 17))
    rest = np.zeros(len(t))
    _harmonics(offsets, t, y, w, 1.0 / period, share, once, twice, rest)
    with np.errstate(divide="ignore", invalid="ignore"):
        columns |= dict(zip(SHAPE, _shape(share, once, twice), strict=False))
        columns |= _scatter(offsets, t, y, rest, period)
    table = pd.DataFrame(columns, index=lcs.index)
    table.loc[~np.isfinite(share[:, 0])] = np.nan
    return table


FOUND = (
    "period", "period_error", "power", "false_alarm", "n_harmonics", "peak_period",
    *(f"alias_{k + 1}" for k in range(N_ALIASES)),
    "lead", "slow_power", "second_period", "second_power", "double_mode",
)  # fmt: skip

SHAPE = {
    "power_1": "share of chi-squared explained by a sine at the peak period P",
    "power_2": "by two harmonics at P",
    "power_4": "by four harmonics at P",
    "double_power_4": "by four harmonics at 2P",
    "double_power_8": "by eight harmonics at 2P",
    "double_gain": "log of the residual at P over that at 2P",
    "amplitude_1": "amplitude of the first harmonic at P [mag]",
    "ratio_21": "amplitude of the second over the first harmonic at P",
    "ratio_31": "third over first",
    "ratio_41": "fourth over first",
    "phase_21": "phase of the second harmonic less twice that of the first [rad]",
    "phase_31": "third less three times the first [rad]",
    "phase_41": "fourth less four times the first [rad]",
    "rise": "part of the cycle from faintest to brightest",
    "fit_skew": "skewness of the fitted curve: positive if the minima are sharper",
    "fit_range": "range of the fitted curve [mag]",
    "minimum_1": "depth of the deeper minimum at 2P, over the range",
    "minimum_2": "depth of the other",
    "minimum_difference": "difference of the two",
    "width_1": "part of the orbit fainter than half the depth of the deeper minimum",
    "width_2": "of the other",
    "maximum_difference": "difference of the two maxima at 2P, over the range",
    "median_level": "median of the fitted curve above its brightest, over the range",
    "minimum_offset": "distance of the second minimum from phase 0.5",
    "residual_std": "standard deviation about the fit at P, over that of the magnitudes",
    "residual_mad": "median absolute deviation about the fit at P, over that of the magnitudes",
    "residual_eta": "von Neumann ratio, in time, of what the fit at P leaves",
    "string_1": "Lafler-Kinman string length at P",
    "string_2": "at 2P",
    "string_half": "at P/2",
}
"""Meaning of the columns that `features` measures on the folded curve."""


def _joined(lcs):
    """Return offsets and prepared observations of a table, its bands joined at their medians."""
    arrays = lightcurves.arrays(lcs)
    mag, names = arrays.mag, lightcurves.bands(lcs)
    if len(names) > 1:
        group = arrays.objects * len(names) + arrays.band_codes(names)
        mag = mag - pd.Series(mag).groupby(group).transform("median").to_numpy()
    return arrays.offsets, *_prepared(arrays.offsets, arrays.mjd, mag, arrays.magerr)


def _prepared(offsets, mjd, mag, magerr):
    """Return times about mid-span, magnitudes about the weighted mean, weights (sum 1), errors."""
    offsets, n_obs = np.asarray(offsets), np.diff(offsets)
    mjd, mag, magerr = (np.asarray(x, np.float64) for x in (mjd, mag, magerr))
    ends = np.array([offsets[:-1], offsets[1:] - 1])[:, n_obs > 0]
    middle = np.repeat((mjd[ends[0]] + mjd[ends[1]]) / 2, n_obs[n_obs > 0])
    objects = np.repeat(np.arange(len(n_obs)), n_obs)
    error = np.maximum(magerr, pd.Series(magerr).groupby(objects).transform("median"))
    error = error.to_numpy()
    w = error**-2.0
    w /= _total(w, offsets)[objects]
    y = mag - np.repeat(mag[ends[0]], n_obs[n_obs > 0])
    return mjd - middle, y - _total(w * y, offsets)[objects], w, error


def _total(x, offsets):
    """Return the sum over each object."""
    if len(offsets) < 2:
        return np.zeros(0)
    return np.add.reduceat(np.append(x, 0.0), offsets[:-1]) * (np.diff(offsets) > 0)


def _grid(span, max_frequency):
    """Return the frequency step [1/day] and the number of frequencies for a time span [day].

    Spans are rounded up to eighths of a power of two, so that objects share grids.
    """
    step = 1.0 / (SAMPLES_PER_PEAK * 2.0 ** (math.ceil(8.0 * math.log2(span)) / 8.0))
    return step, int(max_frequency / step)


def _one(mjd, mag, magerr, max_frequency):
    """Return one light curve prepared, the step and number of frequencies, or say why not."""
    t, y, w, error = _prepared(np.array([0, len(mjd)]), mjd, mag, magerr)
    span = float(np.ptp(t)) if len(t) else 0.0
    step, n_freq = _grid(span, max_frequency) if span > 0 else (0.0, 0)
    if len(t) < MIN_POINTS or n_freq < MIN_N_FREQ or not y.any():
        raise ValueError(
            f"no period in {len(t)} observation{'s' * (len(t) != 1)} over {span:g} days to "
            f"{max_frequency:g} per day; give at least {MIN_POINTS} that differ, over "
            f"{MIN_CYCLES:g} cycles or more"
        )
    if n_freq > MAX_N_FREQ:
        raise ValueError(
            f"{span:.0f} days to {max_frequency:g} per day ask for {n_freq} frequencies, more than "
            f"{MAX_N_FREQ}; drop stray times or lower max_frequency"
        )
    return t, y, w, error, step, n_freq


class _Plan:
    """The transforms of nifty-ls with their plan kept, which takes half of its time."""

    def __init__(self, n_freq):
        self.n_freq = n_freq
        self.plan = finufft.Plan(
            1, (n_freq,), eps=1e-6, nthreads=1, upsampfac=1.25, fftw=nifty_ls.finufft.FFTW_ESTIMATE
        )
        self.y, self.w, self.w2 = (np.empty(n_freq, np.complex128) for _ in range(3))

    def spectrum(self, t, y, w, step, *, same_times=False):
        """Return the power at ``step * (1 ... n_freq)``; ``same_times`` as in the last call."""
        angle = 2 * np.pi * step * t
        shift = w * np.exp(1j * (self.n_freq // 2 + 1) * angle)
        if not same_times:
            self.plan.setpts(2 * angle)
            self.plan.execute(shift**2 / w, out=self.w2)
            self.plan.setpts(angle)
            self.plan.execute(shift, out=self.w)
        else:
            self.plan.setpts(angle)
        self.plan.execute(y * shift, out=self.y)
        power = np.empty(self.n_freq)
        _power(self.y, self.w, self.w2, w @ y**2, power)
        return power


def _plan(n_freq):
    """Return this thread's plan for ``n_freq`` frequencies."""
    if getattr(_kept, "plan", None) is None or _kept.plan.n_freq != n_freq:
        _kept.plan = _Plan(n_freq)
    return _kept.plan


def _ranked(power, step, t, y, w):
    """Return frequency, power, number of harmonics, score of the candidates, the best first."""
    table = np.zeros((N_CANDIDATES, 4))
    n_found = _fit_peaks(power, step, t, y, w, table)
    return table[:n_found][np.argsort(-table[:n_found, 3], kind="stable")]


def _found(t, y, w, max_frequency):
    """Return one row of `search`."""
    step, n_freq = _grid(t[-1] - t[0], max_frequency)
    plan = _plan(n_freq)
    power = plan.spectrum(t, y, w, step)
    table = _ranked(power, step, t, y, w)
    row = dict.fromkeys(FOUND, np.nan)
    row["false_alarm"] = _false_alarm(power.max(), max_frequency, t, w)
    slowest = int(MIN_CYCLES / np.ptp(t) / step)
    row["slow_power"] = power[slowest : max(int(0.05 / step), slowest + 1)].max()
    if len(table) == 0:
        return list(row.values())
    frequency, row["power"], row["n_harmonics"], _ = table[0]
    frequency, b, rest = _leftover(t, y, w, frequency)
    skew = _skew(_on_circle(b))
    row["peak_period"] = row["period"] = 1.0 / frequency
    if (skew > 0.3 and frequency > 0.4) or (skew > -0.2 and frequency > 4.0):
        row["period"] = 2.0 / frequency
    noise = math.sqrt(max(1.0 - row["power"], 0.0) / (2.0 * max(row["power"], 1e-12)))
    row["period_error"] = (
        row["period"] * noise * math.sqrt(6.0 / len(t)) / (math.pi * np.ptp(t) * frequency)
    )
    for k, other in enumerate(table[1 : 1 + N_ALIASES, 0]):
        row[f"alias_{k + 1}"] = 1.0 / other
    if len(table) > 1:
        row["lead"] = (table[0, 3] - table[1, 3]) / len(t)
    left = plan.spectrum(t, rest, w, step, same_times=True)
    strongest = slowest + np.argmax(left[slowest:])
    row["second_period"], row["second_power"] = 1.0 / (step * (strongest + 1)), left[strongest]
    row["double_mode"] = max(
        left[int(low * frequency / step) - 1 : int(high * frequency / step) + 1].max(initial=0.0)
        for low, high in ((0.735, 0.755), (1 / 0.755, 1 / 0.735))
    )
    return list(row.values())


def _false_alarm(power, max_frequency, t, w):
    """Return the chance that noise gives a peak this high (Baluev 2008)."""
    n, rest = len(t), 1.0 - min(power, 1.0)
    width = max_frequency * math.sqrt(4 * math.pi * np.average((t - w @ t) ** 2, weights=w))
    gamma = math.sqrt(2 / (n - 1)) * math.exp(gammaln((n - 1) / 2) - gammaln((n - 2) / 2))
    expected = gamma * width * rest ** ((n - 4) / 2) * math.sqrt((n - 1) * power / 2)
    return 1.0 - (1.0 - rest ** ((n - 3) / 2)) * math.exp(-expected)


def _shape(share, once, twice):
    """Return the columns of `SHAPE` that follow from harmonics at P and 2P, by object."""
    amplitude = np.hypot(once[:, 1:5], once[:, 5:])
    angle = np.arctan2(once[:, 5:], once[:, 1:5])
    phases = (angle[:, 1:] - angle[:, :1] * np.arange(2, 5)) % (2 * np.pi)
    curve = _on_circle(once)
    rise = (curve.argmin(axis=1) - curve.argmax(axis=1)) % N_PHASES / N_PHASES
    orbit = _on_circle(twice)
    orbit = np.take_along_axis(
        orbit, (orbit.argmax(axis=1)[:, None] + np.arange(N_PHASES)) % N_PHASES, axis=1
    )
    level, height = np.median(orbit, axis=1), np.maximum(np.ptp(orbit, axis=1), 1e-12)
    quarter = N_PHASES // 4
    other = quarter + orbit[:, quarter : 3 * quarter + 1].argmax(axis=1)
    second = np.take_along_axis(orbit, other[:, None], axis=1)[:, 0]
    around = np.arange(-quarter, quarter)
    near = np.take_along_axis(orbit, (other[:, None] + around) % N_PHASES, axis=1)
    return [
        *share.T,
        np.log((1 - share[:, 2]) / (1 - share[:, 4])),
        amplitude[:, 0],
        *(amplitude[:, 1:] / amplitude[:, :1]).T,
        *phases.T,
        rise,
        _skew(curve),
        np.ptp(curve, axis=1),
        (orbit[:, 0] - level) / height,
        (second - level) / height,
        (orbit[:, 0] - second) / height,
        (orbit[:, around] > (level + orbit[:, 0])[:, None] / 2).mean(axis=1) / 2,
        (near > (level + second)[:, None] / 2).mean(axis=1) / 2,
        np.abs(orbit[:, : N_PHASES // 2].min(axis=1) - orbit[:, N_PHASES // 2 :].min(axis=1))
        / height,
        (level - orbit.min(axis=1)) / height,
        np.abs(other / N_PHASES - 0.5),
    ]


def _scatter(offsets, t, y, rest, period):
    """Return the columns of `SHAPE` that follow from the observations, by object."""
    n_obs = np.diff(offsets)
    objects = np.repeat(np.arange(len(n_obs)), n_obs)

    def squares(x):
        return _total((x - (_total(x, offsets) / n_obs)[objects]) ** 2, offsets)

    def mad(x):
        group = pd.Series(x).groupby(objects)
        return (group.obj - group.transform("median")).abs().groupby(objects).median()

    def string(cycles):
        x = y[np.lexsort((cycles % 1.0, objects))]
        following = np.append(x[1:], 0.0)
        following[offsets[1:][n_obs > 0] - 1] = x[offsets[:-1][n_obs > 0]]
        return _total((following - x) ** 2, offsets) / squares(x)

    cycles = t / period[objects]
    steps = np.append(np.diff(rest), 0.0) ** 2
    steps[offsets[1:][n_obs > 0] - 1] = 0.0
    some = np.arange(len(n_obs))
    return {
        "residual_std": np.sqrt(squares(rest) / squares(y)),
        "residual_mad": (mad(rest) / mad(y).clip(lower=1e-12)).reindex(some).to_numpy(),
        "residual_eta": _total(steps, offsets) / (n_obs - 1) * n_obs / squares(rest),
        "string_1": string(cycles),
        "string_2": string(cycles / 2),
        "string_half": string(cycles * 2),
    }


def _on_circle(b):
    """Return harmonics ``b`` of `_solve`, shape (..., 2 n + 1), at phases around the circle."""
    angle = 2 * np.pi * np.outer(np.arange(1, b.shape[-1] // 2 + 1), np.arange(N_PHASES) / N_PHASES)
    return b @ np.vstack([np.ones(N_PHASES), np.cos(angle), np.sin(angle)])


def _skew(x):
    x = x - x.mean(axis=-1, keepdims=True)
    return (x**3).mean(axis=-1) / (x.std(axis=-1) ** 3 + 1e-12)


@numba.njit(**_COMPILED)
def _power(fy, fw, f2, total, power):
    """Fill the power from the transforms of w y and w, and of w at twice the frequency."""
    for i in range(power.size):
        yc, ys, c, s = fy[i].real, fy[i].imag, fw[i].real, fw[i].imag
        cc, ss = 0.5 * (1 + f2[i].real) - c * c, 0.5 * (1 - f2[i].real) - s * s
        cs = 0.5 * f2[i].imag - c * s
        det = cc * ss - cs * cs
        power[i] = (
            (ss * yc * yc + cc * ys * ys - 2 * cs * yc * ys) / (total * det) if det > 1e-9 else 0.0
        )


@numba.njit(**_COMPILED)
def _sums(t, y, w, frequency, sums):
    """Fill the rows of ``sums`` with those of w cos, w sin, w y cos and w y sin, by harmonic."""
    sums[:] = 0.0
    for i in range(t.size):
        x = frequency * t[i]
        x = 2 * math.pi * (x - math.floor(x))
        c1, s1, c, s = math.cos(x), math.sin(x), 1.0, 0.0
        wy = w[i] * y[i]
        for k in range(sums.shape[1]):
            sums[0, k] += w[i] * c
            sums[1, k] += w[i] * s
            sums[2, k] += wy * c
            sums[3, k] += wy * s
            c, s = c * c1 - s * s1, s * c1 + c * s1


@numba.njit(**_COMPILED)
def _solve(sums, step, n_harmonics, total):
    """Fit harmonics ``step * (1 ... n)``; return the share explained and mean, cosines, sines.

    A small ridge, growing as the square of the order, keeps high harmonics from filling gaps.
    """
    h = n_harmonics
    A, right = np.empty((2 * h + 1, 2 * h + 1)), np.empty(2 * h + 1)
    for i in range(h + 1):
        p = i * step
        right[i], right[h + max(i, 1)] = sums[2, p], sums[3, max(p, step)]
        for j in range(h + 1):
            q = j * step
            A[i, j] = (sums[0, abs(p - q)] + sums[0, p + q]) / 2
            if j > 0:
                odd = sums[1, q - p] if q > p else -sums[1, p - q]
                A[i, h + j] = A[h + j, i] = (sums[1, p + q] + odd) / 2
            if i > 0 and j > 0:
                A[h + i, h + j] = (sums[0, abs(p - q)] - sums[0, p + q]) / 2
        if i > 0:
            A[i, i] += RIDGE * i * i
            A[h + i, h + i] += RIDGE * i * i
    b = right.copy()
    for k in range(b.size):  # no pivots: A is positive definite; LAPACK's takes 4 s to compile
        for i in range(k + 1, b.size):
            factor = A[i, k] / A[k, k]
            b[i] -= factor * b[k]
            for j in range(k + 1, b.size):
                A[i, j] -= factor * A[k, j]
    for k in range(b.size - 1, -1, -1):
        for j in range(k + 1, b.size):
            b[k] -= A[k, j] * b[j]
        b[k] /= A[k, k]
    return min((b * right).sum() / total, 1.0 - 1e-9), b


@numba.njit(**_COMPILED)
def _curve(t, frequency, b):
    """Return the harmonics of `_solve` at times ``t``."""
    h, out = b.size // 2, np.empty(t.size)
    for i in range(t.size):
        x = frequency * t[i]
        x = 2 * math.pi * (x - math.floor(x))
        c1, s1 = math.cos(x), math.sin(x)
        c, s, out[i] = c1, s1, b[0]
        for k in range(1, h + 1):
            out[i] += b[k] * c + b[h + k] * s
            c, s = c * c1 - s * s1, s * c1 + c * s1
    return out


@numba.njit(**_COMPILED)
def _peaks(power, slowest, where):
    """Fill ``where`` with the indices of the highest local maxima; return their number."""
    n_found = 0
    for i in range(max(slowest, 1), power.size - 1):
        if power[i] >= power[i - 1] and power[i] > power[i + 1]:
            j = min(n_found, where.size)
            while j > 0 and power[where[j - 1]] < power[i]:
                if j < where.size:
                    where[j] = where[j - 1]
                j -= 1
            if j < where.size:
                where[j] = i
                n_found = min(n_found + 1, where.size)
    return n_found


@numba.njit(**_COMPILED)
def _fit_peaks(power, step, t, y, w, table):
    """Fill ``table`` with frequency, power, harmonics, score of the highest peaks, refined."""
    n, total, sums = t.size, (w * y * y).sum(), np.empty((4, 9))
    where = np.zeros(len(table), np.int64)
    n_found = _peaks(power, int(MIN_CYCLES / (t[-1] - t[0]) / step), where)
    for k in range(n_found):
        low, mid, high = power[where[k] - 1 : where[k] + 2]
        centre = (where[k] + 1 + (low - high) / (low - 2 * mid + high) / 2) * step
        table[k, 3] = -np.inf
        for d in range(-2, 3):
            f = centre + 0.15 * d * step
            _sums(t, y, w, f, sums)
            day = min(abs(f - round(f)), abs(f / SIDEREAL - round(f / SIDEREAL)))
            damping = DAY_DAMPING if f > 0.5 and day < DAY_WIDTH else 1.0
            for h in (1, 2, 4):
                if h == 1 or n >= 2 * (2 * h + 1):
                    share, _ = _solve(sums, 1, h, total)
                    score = damping * (-n * math.log(1 - share) - (2 * h + 1) * math.log(n))
                    if score > table[k, 3]:
                        table[k, 0], table[k, 1], table[k, 2], table[k, 3] = f, share, h, score
    return n_found


@numba.njit(**_COMPILED)
def _leftover(t, y, w, frequency):
    """Return the frequency of the strongest sine, the harmonics fitted to it, what they leave."""
    h = 4 if t.size >= 18 else 1
    sums, total = np.empty((4, 2 * h + 1)), (w * y * y).sum()
    _sums(t, y, w, frequency, sums)
    b = _solve(sums, 1, h, total)[1]
    if h > 1 and math.hypot(b[2], b[h + 2]) > math.hypot(b[1], b[h + 1]):
        frequency *= 2
        _sums(t, y, w, frequency, sums)
        b = _solve(sums, 1, h, total)[1]
    rest = y - _curve(t, frequency, b)
    return frequency, b, rest - (w * rest).sum()


_MODELS = np.array([[2, 1], [2, 2], [2, 4], [1, 4], [1, 8]])
"""Step in harmonics of 2P, and their number, of the models whose shares are features."""


@numba.njit(**_COMPILED)
def _harmonics(offsets, t, y, w, frequency, share, once, twice, rest):
    """Fill shares explained, four harmonics at P, eight at 2P, and what is left at P."""
    sums = np.empty((4, 17))
    for k in range(offsets.size - 1):
        a, b, total = offsets[k], offsets[k + 1], 0.0
        for i in range(a, b):
            total += w[i] * y[i] ** 2
        if b - a >= MIN_POINTS and frequency[k] > 0 and total > 0:
            _sums(t[a:b], y[a:b], w[a:b], frequency[k] / 2, sums)
            for i in range(len(_MODELS)):
                share[k, i], fit = _solve(sums, _MODELS[i, 0], _MODELS[i, 1], total)
                if i == 2:
                    once[k] = fit
                    curve = _curve(t[a:b], frequency[k], fit)
            twice[k] = fit
            for i in range(a, b):
                rest[i] = y[i] - curve[i - a]
