"""Features: one row of numbers per light curve, the same for every object, for any learner.

Non-periodic features come from the light-curve package in one call over the table's own Arrow
buffers, and from a kernel here where it has none; percentiles are of fluxes relative to the median,
so that a shift of the magnitudes changes nothing; periodic ones from `skynb.periods`.
"""

import math
import warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, pairwise

import light_curve
import numba
import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.preprocessing import QuantileTransformer, RobustScaler

from skynb import lightcurves
from skynb.periods import SHAPE, search
from skynb.periods import features as folded

BAND_ORDER = "ugrizy"
"""Order of bands in colours; other bands follow, sorted."""

_RICHARDS = "Richards et al. 2011, ApJ 733, 10"
_KIM = "Kim et al. 2014, A&A 566, A43"
_DISANTO = "D'Isanto et al. 2016, MNRAS 457, 3119"
_STETSON = "Stetson 1996, PASP 108, 851"
_LIGHT_CURVE = "light-curve package, Malanchev et al. 2021, MNRAS 502, 5147"
_OTSU = "Otsu 1979, IEEE Trans. SMC 9, 62"

EXTRACTED = {
    light_curve.Amplitude(): [("half of the range [mag]", _RICHARDS)],
    light_curve.AndersonDarlingNormal(): [("unbiased statistic against normality", _KIM)],
    light_curve.BeyondNStd(1): [("share beyond 1 std of the unweighted mean", _RICHARDS)],
    light_curve.BeyondNStd(2): [("share beyond 2 std of the unweighted mean", _DISANTO)],
    light_curve.Cusum(): [("range of cumulative sums over n std", _KIM)],
    light_curve.Eta(): [("von Neumann eta, steps of order, not of time", _KIM)],
    light_curve.EtaE(): [("von Neumann eta of slopes, normalised as light-curve does", _KIM)],
    light_curve.InterPercentileRange(0.02): [("2 % to 98 % [mag]", _LIGHT_CURVE)],
    light_curve.InterPercentileRange(0.1): [("10 % to 90 % [mag]", _LIGHT_CURVE)],
    light_curve.InterPercentileRange(0.25): [("25 % to 75 % [mag]", _KIM)],
    light_curve.Kurtosis(): [("excess, unbiased G2", _RICHARDS)],
    light_curve.LinearTrend(): [
        ("slope, errors ignored [mag/day]", _RICHARDS),
        ("error of that slope [mag/day]", _LIGHT_CURVE),
        ("scatter about that line [mag]", _LIGHT_CURVE),
    ],
    light_curve.LinearFit(): [
        ("slope weighted by the errors [mag/day]", _LIGHT_CURVE),
        ("error of that slope [mag/day]", _LIGHT_CURVE),
        ("reduced chi-squared about that line", _LIGHT_CURVE),
    ],
    light_curve.MaximumSlope(): [("largest step over its time [mag/day]", _RICHARDS)],
    light_curve.Mean(): [("unweighted [mag]", _LIGHT_CURVE)],
    light_curve.Median(): [("[mag]", _LIGHT_CURVE)],
    light_curve.MedianAbsoluteDeviation(): [("not scaled to a sigma [mag]", _RICHARDS)],
    light_curve.MedianBufferRangePercentage(0.1): [("share within range/20 of it", _RICHARDS)],
    light_curve.MedianBufferRangePercentage(0.2): [("share within range/10 of it", _DISANTO)],
    light_curve.PercentAmplitude(): [("largest distance from the median [mag]", _RICHARDS)],
    light_curve.ReducedChi2(): [("reduced, about the weighted mean", _LIGHT_CURVE)],
    light_curve.Roms(): [("mean distance from the median over magerr", "Enoch et al. 2003, AJ")],
    light_curve.Skew(): [("unbiased G1; positive for faint excursions", _RICHARDS)],
    light_curve.StandardDeviation(): [("n - 1 [mag]", _RICHARDS)],
    light_curve.StetsonK(): [("about the weighted mean", _STETSON)],
    light_curve.OtsuSplit(): [
        ("difference of the means of the two groups [mag]", _OTSU),
        ("standard deviation of the brighter [mag]", _OTSU),
        ("standard deviation of the fainter [mag]", _OTSU),
        ("share of the brighter", _OTSU),
    ],
}
"""light-curve's feature of magnitudes -> (convention, source) of each of its columns."""

FROM_FLUX = {
    **{
        light_curve.MagnitudePercentageRatio(0.5 - wide / 200, 0.05): (
            f"flux_percentile_ratio_mid{wide}",
            f"middle {wide} % over 5 % to 95 %, of fluxes",
        )
        for wide in (20, 35, 50, 65, 80)
    },
    light_curve.PercentDifferenceMagnitudePercentile(0.05): (
        "percent_difference_flux_percentile",
        "5 % to 95 % over the median, of fluxes",
    ),
}
"""light-curve's feature, given 10 ** (-0.4 (mag - median)) for magnitudes -> (name, convention)."""

_EXTRACTOR = light_curve.Extractor(*EXTRACTED)
_FLUX_EXTRACTOR = light_curve.Extractor(*FROM_FLUX)
_MEDIAN = _EXTRACTOR.names.index("median")
_OWN = {
    "stetson_J": ("consecutive pairs closer than 1 day, equal weights", _STETSON),
    "pair_slope_trend": ("rising less falling share of the last 30 steps", _RICHARDS),
}
_NAMES = [*_EXTRACTOR.names, *(name for name, _ in FROM_FLUX.values()), *_OWN]
_FOUND = {
    "log_period": "log10 of the period [day]",
    "log_peak_period": "log10 of the period P of the strongest sine [day]",
    "log_alias_1": "log10 of the second most likely period [day]",
    "log_alias_2": "log10 of the third [day]",
    "alias_step": "frequency of the second less that of the first [1/day]",
    "log_second_ratio": "log10 of the period left after the fit over P",
    "day_distance": "distance of the frequency from a whole number [1/day]",
    "power": "share of chi-squared explained by the likeliest number of harmonics",
    "lead": "criterion per observation by which the first period leads the second",
    "slow_power": "highest Lomb-Scargle power beyond 20 days",
    "second_power": "highest power after the fit",
    "double_mode": "highest power after the fit at the period ratio of an RRd star",
}

CONVENTIONS = {
    **dict(zip(_EXTRACTOR.names, chain(*EXTRACTED.values()), strict=True)),
    **{name: (text, _RICHARDS) for name, text in FROM_FLUX.values()},
    **_OWN,
    **{name: (text, "skynb.periods") for name, text in (_FOUND | SHAPE).items()},
}
"""Column of `extract` -> (convention, source)."""


def extract(lcs, *, periods=None, bands=None, progress=True):
    """Return the features of every object, indexed like ``lcs``; NaN where there is none.

    With several bands, non-periodic columns are per band (``amplitude_g``), differences of
    neighbouring medians are added (``color_g_r``) and the period is that of all bands together.

    Parameters
    ----------
    lcs : NestedFrame, shape (n_objects,)
    periods : DataFrame, optional
        What `skynb.periods.search` returned, else it is called here; False: no periodic columns.
    bands : sequence of str, optional
        Those to make columns for, present or not, so that several tables have the same columns;
        by default those of the table.

    Returns
    -------
    DataFrame, shape (n_objects, n_features)
        Columns are described in `CONVENTIONS`.
    """
    present = lightcurves.bands(lcs)
    names = sorted(bands or present, key=lambda name: (BAND_ORDER.find(name) % 99, name))
    tables = [_without_period(_select(lcs, name, present)) for name in names]
    if not names:
        tables = [_without_period(lcs)]
    elif len(names) > 1:
        medians = [table["median"].rename(None) for table in tables]
        tables = [t.add_suffix(f"_{name}") for name, t in zip(names, tables, strict=True)]
        colors = {
            f"color_{names[k]}_{names[k + 1]}": a - b for k, (a, b) in enumerate(pairwise(medians))
        }
        tables.append(pd.DataFrame(colors))
    if periods is not False:
        found = search(lcs, progress=progress) if periods is None else periods
        tables.append(folded(lcs, found))
    tables = [t if t.index is lcs.index else t.reindex(lcs.index) for t in tables]
    return pd.concat(tables, axis=1)


def _select(lcs, name, present):
    """Return the table in one of its bands, which are ``present``; empty in any other."""
    if present == [name]:
        return lcs
    return lightcurves.select_band(lcs, name) if name in present else lcs.iloc[:0]


class Gaussian:
    """Makes each feature Gaussian by its ranks, so that no unit and no single wild number decides.

    ``fit`` and ``transform`` take a table or an array, shape (n_objects, ...); what is not finite
    is a missing value, and is put at the median of the objects fitted to.
    """

    def __init__(self, *, seed=0):
        self.seed = seed

    def fit(self, X, y=None):
        """Return itself, fitted to the objects of X."""
        self.units_ = RobustScaler()
        self.ranks_ = QuantileTransformer(
            n_quantiles=min(1000, len(X)), output_distribution="normal", random_state=self.seed
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "All-NaN slice")
            self.ranks_.fit(self.units_.fit_transform(_matrix(X)))
        return self

    def transform(self, X):
        """Return Gaussian features, shape (n_objects, n_features)."""
        X, known = _matrix(X), len(self.units_.center_)
        if X.shape[1] != known:
            raise ValueError(f"expected {known} features, as when fitted, got {X.shape[1]}")
        return np.nan_to_num(self.ranks_.transform(self.units_.transform(X)))

    def to_parts(self):
        """Return what was learnt, for `skynb.models.save`."""
        units = {"center": self.units_.center_, "scale": self.units_.scale_}
        return {"seed": self.seed, **units, "quantiles": self.ranks_.quantiles_}

    @classmethod
    def from_parts(cls, parts):
        """Return what `to_parts` took apart; ValueError if the parts do not fit together."""
        center, scale, ranks = (np.asarray(parts[k]) for k in ("center", "scale", "quantiles"))
        if ranks.ndim != 2 or not center.shape == scale.shape == ranks.shape[1:]:
            raise ValueError(f"a scaler of shapes {center.shape}, {scale.shape}, {ranks.shape}")
        self = cls(seed=parts["seed"])
        self.units_, self.ranks_ = RobustScaler(), QuantileTransformer(output_distribution="normal")
        self.units_.center_, self.units_.scale_, self.ranks_.quantiles_ = center, scale, ranks
        self.ranks_.references_ = np.linspace(0, 1, len(ranks))
        self.units_.n_features_in_ = self.ranks_.n_features_in_ = len(center)
        return self


def _matrix(X):
    """Return a float table, shape (n_objects, n_features), in which a missing value is NaN."""
    X = np.asarray(X, dtype=float).reshape(len(X), -1)
    return np.where(np.isfinite(X), X, np.nan)


def _without_period(lcs):
    """Return the non-periodic features of a table in one band."""
    if len(lcs) == 0:
        return pd.DataFrame(columns=_NAMES, index=lcs.index, dtype=float)
    arrays = lightcurves.arrays(lcs)
    own = np.full((len(lcs), len(_OWN)), np.nan)
    options = {"fill_value": np.nan, "sorted": True, "check": False}
    options["n_jobs"] = numba.get_num_threads()
    with ThreadPoolExecutor(1) as beside:
        measured = beside.submit(
            _measure, arrays.offsets, arrays.mjd, arrays.mag, arrays.magerr, own
        )
        extracted = _EXTRACTOR.many(
            lcs["lightcurve"].array.list_array,
            arrow_fields={"t": "mjd", "m": "mag", "sigma": "magerr"},
            **options,
        )
        from_flux = _FLUX_EXTRACTOR.many(
            _fluxes(arrays, extracted[:, _MEDIAN]), arrow_fields={"t": "t", "m": "m"}, **options
        )
        measured.result()
    table = np.hstack([extracted, from_flux, own])
    table[~np.isfinite(table)] = np.nan
    return pd.DataFrame(table, index=lcs.index, columns=_NAMES)


def _fluxes(arrays, median):
    """Return times and fluxes over that of the median magnitude, as light-curve takes them."""
    flux = arrays.mag - np.repeat(median, np.diff(arrays.offsets))
    flux *= -0.4 * math.log(10)
    with np.errstate(over="ignore"):
        np.exp(flux, out=flux)
    rows = pa.StructArray.from_arrays([pa.array(arrays.mjd), pa.array(flux)], ["t", "m"])
    return pa.LargeListArray.from_arrays(arrays.offsets, rows)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _measure(offsets, mjd, mag, magerr, own):
    sigmas = np.empty(np.diff(offsets).max())
    for k in range(offsets.size - 1):
        a, b = offsets[k], offsets[k + 1]
        if b - a < 2:
            continue
        total, weight, first = 0.0, 0.0, mag[a]
        for i in range(a, b):
            inverse = 1.0 / magerr[i]
            sigmas[i - a] = inverse
            total += (mag[i] - first) * inverse * inverse
            weight += inverse * inverse
        mean, total, n_pairs = first + total / weight, 0.0, 0
        for i in range(a, b):
            sigmas[i - a] *= mag[i] - mean
        i = a
        while i < b - 1:
            if mjd[i + 1] - mjd[i] < 1.0:
                product = sigmas[i - a] * sigmas[i + 1 - a]
                total += math.copysign(math.sqrt(abs(product)), product)
                n_pairs += 1
                i += 1
            i += 1
        own[k, 0] = total / n_pairs * math.sqrt((b - a) / (b - a - 1)) if n_pairs else np.nan
        rising, n_steps = 0, min(b - a - 1, 30)
        for i in range(b - n_steps, b):
            rising += (mag[i] > mag[i - 1]) - (mag[i] < mag[i - 1])
        own[k, 1] = rising / n_steps
