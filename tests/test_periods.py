"""Periods: pencil, oracles, planted periods, aliases, and one bad time."""

import logging

import numpy as np
import pandas as pd
import pytest
from astropy.timeseries import LombScargle

from skynb import lightcurves, periods


def nights(seed, n_nights=75, span=2000.0):
    """Return the times of four exposures in half an hour, every few weeks, as Catalina's."""
    rng = np.random.default_rng(seed)
    first = 55_000 + np.sort(rng.choice(int(span), n_nights, replace=False)) + 0.3
    return np.sort((first + rng.uniform(0, 0.2, n_nights))[:, None] + np.arange(4) / 144, axis=None)


def pulsator(phase):
    """A saw-tooth like an RRab star's."""
    k = np.arange(1, 5)
    return 0.3 * (np.sin(2 * np.pi * np.outer(phase, k)) / k).sum(axis=1)


def contact(phase):
    """An EW binary's two minima, the second 0.06 mag shallower, sharper than the maxima."""
    cos = np.cos(2 * np.pi * phase)
    return 0.5 * np.abs(cos) ** 3 + 0.03 * cos


def table(curves, magerr=0.02):
    """Return the table of ``{object_id: (mjd, mag)}``."""
    rng = np.random.default_rng(9)
    flat = [
        pd.DataFrame(
            {
                "object_id": name,
                "mjd": mjd,
                "mag": mag + rng.normal(0, magerr, len(mjd)),
                "magerr": magerr,
                "band": "V",
            }
        )
        for name, (mjd, mag) in curves.items()
    ]
    return lightcurves.from_flat(pd.concat(flat, ignore_index=True))


def planted(shape, period, seed=1):
    mjd = nights(seed)
    return mjd, 15 + shape(mjd / period % 1.0)


@pytest.fixture(scope="module")
def lcs():
    curves = {
        "RRab": planted(pulsator, 0.5723, 1),
        "EW": planted(contact, 0.3127, 2),
        "slow": planted(lambda phase: 0.4 * np.sin(2 * np.pi * phase), 173.0, 3),
        "RRc": planted(lambda phase: 0.2 * np.sin(2 * np.pi * phase), 0.3211, 4),
    }
    return table(curves)


@pytest.fixture(scope="module")
def found(lcs):
    return periods.search(lcs, progress=False)


# pencil


def test_sine_of_two_days_has_power_one_at_two_days():
    mjd = np.arange(0.0, 40.0, 0.3)
    mag = 12 + np.sin(np.pi * mjd)
    result = periods.periodogram(mjd, mag, np.full(len(mjd), 0.1), max_frequency=1.5)
    assert result.best() == pytest.approx(2.0, rel=0.01)
    assert result.power.max() == pytest.approx(1.0, abs=0.01)
    assert result.frequency[-1] == pytest.approx(1.5, rel=0.01)


def test_harmonics_by_pencil():
    """Amplitudes 0.3 and 0.15, the second a quarter cycle behind: ratio 0.5, phase pi/2."""
    phase = np.arange(400) / 400
    mag = 0.3 * np.cos(2 * np.pi * phase) + 0.15 * np.sin(4 * np.pi * phase)
    one = table({1: (55_000 + 4 * phase, mag)}, magerr=1e-4)
    row = periods.features(one, pd.DataFrame({"period": [4.0]}, index=one.index)).iloc[0]
    assert row["amplitude_1"] == pytest.approx(0.3, rel=0.01)
    assert row["ratio_21"] == pytest.approx(0.5, rel=0.02)
    # relative phases do not depend on where phase 0 is
    assert row["phase_21"] == pytest.approx(np.pi / 2, abs=0.02)
    assert row["ratio_31"] == pytest.approx(0.0, abs=0.01)
    assert row["fit_range"] == pytest.approx(np.ptp(mag), rel=0.05)


def test_weights_are_capped_at_the_median_error():
    magerr = np.array([0.001, 0.1, 0.1, 0.2, 0.1])
    _, _, w, error = periods._prepared([0, 5], np.arange(5.0), np.ones(5), magerr)
    np.testing.assert_allclose(error, [0.1, 0.1, 0.1, 0.2, 0.1])
    np.testing.assert_allclose(w, np.array([4, 4, 4, 1, 4]) / 17)


# invariants


def test_plural_is_the_stack_of_the_singular(lcs, found):
    for name, lc in lcs["lightcurve"].items():
        ranked = periods.candidates(lc["mjd"], lc["mag"], lc["magerr"])
        assert ranked["relation"].iloc[0] == "best"
        assert ranked["score"].is_monotonic_decreasing
        assert found.loc[name, "power"] == ranked["power"].iloc[0]
        assert found.loc[name, "alias_1"] == ranked["period"].iloc[1]


def test_a_table_of_one_object_gives_the_same(lcs, found):
    alone = periods.search(lcs.iloc[[1]], progress=False, n_jobs=1)
    pd.testing.assert_frame_equal(alone, found.iloc[[1]])


def test_a_shift_in_time_or_magnitude_changes_nothing(lcs, found):
    flat = lcs["lightcurve"].nest.to_flat().reset_index(names="object_id")
    flat = flat.assign(mjd=flat["mjd"] + 1024.0, mag=flat["mag"] - 3.0)
    moved = periods.search(lightcurves.from_flat(flat), progress=False)
    np.testing.assert_allclose(moved["period"], found["period"], rtol=1e-6)
    np.testing.assert_allclose(moved["power"], found["power"], rtol=1e-6)


def test_order_and_errors_of_the_table_stay(lcs, found):
    assert found.index.equals(lcs.index)
    assert list(found.columns) == list(periods.FOUND)
    again = periods.search(lcs.iloc[::-1], progress=False)
    pd.testing.assert_frame_equal(again, found.iloc[::-1])


# oracles


def test_power_equals_astropy_and_nifty(lcs):
    lc = lcs["lightcurve"].iloc[0]
    mjd, mag, magerr = (lc[name].to_numpy() for name in ("mjd", "mag", "magerr"))
    quick = periods.periodogram(mjd, mag, magerr)
    astropy = LombScargle(mjd, mag, magerr).power(quick.frequency[:5000], method="cython")
    np.testing.assert_allclose(quick.power[:5000], astropy, atol=1e-6)
    t, y, w, _, step, n_freq = periods._one(mjd, mag, magerr, 12.0)
    kept = periods._plan(n_freq).spectrum(t, y, w, step)
    np.testing.assert_allclose(kept, quick.power, atol=1e-4)
    kept = periods._plan(n_freq).spectrum(t, y, w, step, same_times=True)
    np.testing.assert_allclose(kept, quick.power, atol=1e-4)


@pytest.mark.parametrize("power", [0.02, 0.05, 0.3])
def test_false_alarm_equals_astropy(power):
    mjd = nights(5)
    error = np.full(len(mjd), 0.1)
    t, _, w, _ = periods._prepared([0, len(mjd)], mjd, np.zeros(len(mjd)), error)
    theirs = LombScargle(mjd, np.zeros(len(mjd)), error).false_alarm_probability(
        power, method="baluev", maximum_frequency=12.0
    )
    assert periods._false_alarm(power, 12.0, t, w) == pytest.approx(float(theirs), rel=1e-6)


def test_harmonic_fit_equals_least_squares():
    rng = np.random.default_rng(3)
    t, y = np.sort(rng.uniform(-50, 50, 300)), rng.normal(size=300)
    w = rng.uniform(0.5, 1, 300)
    w /= w.sum()
    y -= w @ y
    sums = np.empty((4, 9))
    periods._sums(t, y, w, 0.7, sums)
    share, b = periods._solve(sums, 1, 4, w @ y**2)
    angle = 2 * np.pi * 0.7 * np.outer(t, np.arange(1, 5))
    design = np.column_stack([np.ones(300), np.cos(angle), np.sin(angle)])
    ridge = periods.RIDGE * np.diag([0, 1, 4, 9, 16, 1, 4, 9, 16])
    right = design.T @ (w * y)
    truth = np.linalg.solve(design.T @ (w[:, None] * design) + ridge, right)
    np.testing.assert_allclose(b, truth, atol=1e-12)
    assert share == pytest.approx(truth @ right / (w @ y**2))
    np.testing.assert_allclose(periods._curve(t, 0.7, b), design @ truth, atol=1e-12)


# recovery


@pytest.mark.parametrize(
    ("name", "period"), [("RRab", 0.5723), ("EW", 0.3127), ("slow", 173.0), ("RRc", 0.3211)]
)
def test_planted_period_comes_back(found, name, period):
    row = found.loc[name]
    assert row["period"] == pytest.approx(period, rel=2e-3 if name == "slow" else 1e-4)
    assert abs(row["period"] - period) < 6 * row["period_error"]
    assert row["false_alarm"] < 1e-6
    assert row["power"] > 0.9


def test_binary_is_found_at_half_its_orbit_and_doubled(found, lcs):
    assert found.loc["EW", "peak_period"] == pytest.approx(0.3127 / 2, rel=1e-4)
    assert found.loc["RRc", "peak_period"] == found.loc["RRc", "period"]
    shape = periods.features(lcs, found)
    # 0.06 of a range of 0.53
    assert shape.loc["EW", "minimum_difference"] == pytest.approx(0.06 / 0.53, abs=0.04)
    assert shape.loc["EW", "double_gain"] > 10 * shape.loc["RRab", "double_gain"]
    assert shape.loc["EW", "fit_skew"] > 0.2


@pytest.mark.parametrize(("sharper", "times"), [(0.0, 1), (0.1, 1), (0.2, 2)])
def test_a_little_sharper_minimum_does_not_double(sharper, times):
    """Skewness is about 3/sqrt(2) times the second harmonic over the first: 0, 0.21, 0.40."""
    mjd = nights(4)
    angle = 2 * np.pi * mjd / 0.3211
    lcs = table({1: (mjd, 15 + 0.4 * (np.cos(angle) + sharper * np.cos(2 * angle)))})
    row = periods.search(lcs, progress=False).iloc[0]
    assert row["peak_period"] == pytest.approx(0.3211, rel=1e-4)
    assert row["period"] == pytest.approx(times * row["peak_period"])


def test_simulated_pulsators_are_not_doubled():
    from skynb import simulate

    lcs = simulate.lightcurves(n_per_class=12, classes=["RRc", "RRd", "EW"], seed=2)
    found = periods.search(lcs, progress=False)
    right = np.abs(found["period"] / lcs["period"] - 1) < 2e-3
    assert (right.groupby(lcs["label"].astype(str)).mean() > 0.8).all()


def test_daily_alias_is_named():
    mjd, mag = planted(lambda phase: 0.2 * np.sin(2 * np.pi * phase), 0.3211, 4)
    ranked = periods.candidates(mjd, mag, np.full(len(mjd), 0.02))
    aliases = 1 / ranked.loc[ranked["relation"] == "daily alias", "period"]
    assert np.min(np.abs(aliases - (1 / 0.3211 - 1))) < 0.005
    assert ranked["period"].iloc[0] == pytest.approx(0.3211, rel=1e-4)


def test_candidates_of_bands_joined_at_their_medians():
    mjd, mag = planted(lambda phase: 0.2 * np.sin(2 * np.pi * phase), 0.3211, 4)
    band = np.where(np.arange(len(mjd)) % 3 == 0, "g", "r")
    magerr = np.full(len(mjd), 0.02)
    ranked = periods.candidates(mjd, mag + (band == "g"), magerr, band)
    assert ranked["period"].iloc[0] == pytest.approx(0.3211, rel=1e-4)
    same = periods.candidates(mjd, mag, magerr, np.full(len(mjd), "g"))
    assert same.equals(periods.candidates(mjd, mag, magerr))


def test_second_mode_of_an_rrd_star():
    mjd = nights(6)
    mag = 0.2 * np.sin(2 * np.pi * mjd / 0.36) + 0.1 * np.sin(2 * np.pi * mjd / (0.36 / 0.745))
    lcs = table({"RRd": (mjd, mag), "RRc": planted(lambda p: 0.2 * np.sin(2 * np.pi * p), 0.36, 6)})
    found = periods.search(lcs, progress=False)
    assert found.loc["RRd", "second_period"] == pytest.approx(0.36 / 0.745, rel=1e-3)
    assert found.loc["RRd", "double_mode"] > 0.7 > 0.3 > found.loc["RRc", "double_mode"]


def test_bands_are_joined_at_their_medians():
    rng = np.random.default_rng(8)
    mjd, mag = planted(pulsator, 0.6123, 7)
    band = rng.choice(["g", "r"], len(mjd))
    flat = {"object_id": 1, "mjd": mjd, "mag": mag + 3.0 * (band == "g"), "magerr": 0.02}
    lcs = lightcurves.from_flat(pd.DataFrame({**flat, "band": band}))
    row = periods.search(lcs, progress=False).iloc[0]
    assert row["period"] == pytest.approx(0.6123, rel=1e-4)
    assert row["power"] > 0.95


# messages


def test_too_few_points_say_so():
    with pytest.raises(ValueError, match="no period in 2 observations over 1 days"):
        periods.periodogram([1.0, 2.0], [3.0, 4.0], [0.1, 0.1])
    with pytest.raises(ValueError, match="give at least 5 that differ"):
        periods.candidates(np.arange(9.0), np.ones(9), np.ones(9))


def test_one_bad_time_is_capped():
    mjd = np.append(np.arange(20.0), 2_400_000.0)
    with pytest.raises(ValueError, match="more than 2000000; drop stray times"):
        periods.periodogram(mjd, np.sin(mjd), np.ones(21))


def test_other_index_is_refused(lcs, found):
    with pytest.raises(ValueError, match="found has another index than lcs"):
        periods.features(lcs, found.iloc[::-1])


# hazards


def test_unusable_objects_give_nan_rows_and_no_exception(lcs, caplog):
    mjd, mag = planted(pulsator, 0.5723)
    curves = {f"{n} points": (mjd[:n], mag[:n]) for n in (1, 2, 3, 4)}
    curves |= {"a minute": (55_000 + np.arange(9) / 1e5, np.arange(9.0)), "good": (mjd, mag)}
    curves["stray"] = (np.append(mjd, 99_999.0), np.append(mag, 15.0))
    few = table(curves)
    flat = {"object_id": "zzz", "mjd": mjd, "mag": 15.0, "magerr": 0.02, "band": "V"}
    constant = lightcurves.from_flat(pd.DataFrame(flat))
    few = lightcurves.from_flat(
        pd.concat([x["lightcurve"].nest.to_flat().reset_index(names="object_id")
                   for x in (few, constant)])
    )  # fmt: skip
    with caplog.at_level(logging.WARNING, "skynb.periods"):
        found = periods.search(few, progress=False)
    assert found.loc["good"].notna().all()
    assert found.drop(index="good").isna().all(axis=None)
    assert "no period for 1 objects, the first is 'stray'" in caplog.text
    shape = periods.features(few, found)
    assert shape.loc["good"].notna().all()
    assert shape.drop(index="good").isna().all(axis=None)


@pytest.mark.parametrize("n_points", [5, 6, 9, 17, 18])
def test_few_points_are_finite(n_points):
    mjd, mag = planted(pulsator, 0.5723)
    few = table({1: (mjd[::12][:n_points], mag[::12][:n_points])})
    found = periods.search(few, progress=False)
    assert np.isfinite(found[["period", "period_error", "power", "false_alarm"]]).all(axis=None)
    assert found["n_harmonics"].iloc[0] <= n_points // 4
    assert np.isfinite(periods.features(few, found)[list(periods.SHAPE)]).all(axis=None)


def test_empty_table():
    mjd, mag = planted(pulsator, 0.5723)
    empty = table({1: (mjd, mag)}).iloc[:0]
    assert periods.search(empty, progress=False).shape == (0, len(periods.FOUND))
