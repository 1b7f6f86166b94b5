"""Simulated light curves: the right shapes, on the right nights, the same every time."""

import numpy as np
import pytest
from astropy.timeseries import LombScargle

from skynb import datasets, lightcurves, simulate, taxonomy


def curves(*classes, n=8, cadence="kepler", seed=3):
    return simulate.lightcurves(n_per_class=n, classes=classes, cadence=cadence, seed=seed)


def each(lcs):
    flat = lightcurves.arrays(lcs)
    for i, (start, stop) in enumerate(zip(flat.offsets[:-1], flat.offsets[1:], strict=True)):
        yield lcs.index[i], flat.mjd[start:stop], flat.mag[start:stop], flat.magerr[start:stop]


def folded(mjd, mag, period, n_bins=50):
    """Return the mean magnitude in phase bins, the faintest first."""
    phase = lightcurves.fold(mjd, period)
    means = np.bincount((phase * n_bins).astype(int), mag, n_bins)
    means /= np.bincount((phase * n_bins).astype(int), minlength=n_bins)
    return np.roll(means, -np.argmax(means))


# pencil


def test_an_eclipse_is_full_in_its_middle_and_nothing_far_away():
    rng = np.random.default_rng(0)
    np.testing.assert_allclose(simulate._eclipse(np.array([0.0, 1.0, 0.5]), 0.05, rng), [1, 1, 0])


def test_a_table_has_ids_labels_places_and_periods():
    lcs = simulate.lightcurves(n_per_class=2)
    assert list(lcs["label"]) == list(np.repeat(taxonomy.SEVEN, 2))
    assert lcs.index[3] == "sim-EA-0001"
    assert lcs["ra"].between(0, 360).all()
    assert lcs["dec"].between(-20, 71).all()
    assert (lcs["period"] > 0).all()
    assert lcs["ra"].is_unique
    assert lightcurves.bands(lcs) == ["V"]


def test_what_does_not_repeat_has_no_period():
    lcs = curves("flare", "DN", "SN", "QSO", n=1, cadence="crts")
    assert lcs["period"].isna().all()


def test_every_label_is_a_class_of_the_tree():
    assert taxonomy.harmonize(simulate.CLASSES, "simulated") == list(simulate.CLASSES)


# invariants


@pytest.mark.parametrize("cadence", simulate.CADENCES)
def test_the_same_seed_makes_the_same_curves(cadence):
    first, second = (lightcurves.arrays(curves("EW", "SN", n=1, cadence=cadence)) for _ in "ab")
    np.testing.assert_array_equal(first.mag, second.mag)
    other = lightcurves.arrays(curves("EW", "SN", n=1, cadence=cadence, seed=4))
    assert other.mag.size != first.mag.size or not np.array_equal(other.mag, first.mag)


def test_an_object_does_not_depend_on_its_company():
    alone = curves("RRc", n=2, cadence="ztf")
    among = curves("EW", "RRc", "QSO", n=3, cadence="ztf").loc[alone.index]
    np.testing.assert_array_equal(lightcurves.arrays(alone).mag, lightcurves.arrays(among).mag)


@pytest.mark.parametrize("cadence", simulate.CADENCES)
def test_the_door_has_nothing_to_clean(cadence):
    lcs = curves(*simulate.CLASSES, n=2, cadence=cadence)
    assert len(lcs) == 2 * len(simulate.CLASSES)
    assert not any(lcs.attrs["dropped"].values())


# recovery: cadence and noise


def test_crts_takes_four_exposures_in_half_an_hour_for_eight_years():
    lcs = curves("RRab", "LPV", n=20, cadence="crts")
    counts = lightcurves.summary(lcs)["n_obs"]
    assert counts.between(80, 460).all()
    assert 240 < counts.median() < 340
    typical = []
    for _, mjd, _, _ in each(lcs):
        gaps = np.diff(mjd)
        typical.append(np.median(gaps[gaps > 0.5]))
        assert np.mean(gaps < 0.5 / 24) > 0.7
        assert mjd[-1] - mjd[0] < 8.1 * 365.25
        assert np.sum(gaps > 100) >= 4
    assert 7 < np.median(typical) < 28


def test_kepler_is_dense_and_ztf_has_three_bands():
    _, mjd, _, _ = next(each(curves("EA", n=1)))
    assert np.median(np.diff(mjd)) == pytest.approx(0.0204336, abs=1e-6)
    assert lightcurves.bands(curves("EA", n=1, cadence="ztf")) == ["g", "i", "r"]


def test_reported_errors_grow_with_magnitude_as_crts_s_do():
    flat = lightcurves.arrays(curves("RRab", n=60, cadence="crts"))
    for mag, expected in [(14.5, 0.055), (16.5, 0.073), (18.5, 0.143)]:
        near = np.abs(flat.mag - mag) < 0.1
        assert np.median(flat.magerr[near]) == pytest.approx(expected, rel=0.1)


def test_crts_errors_are_too_large_for_bright_stars_and_nights_differ():
    rng = np.random.default_rng(0)
    mjd = np.repeat(np.arange(1000.0), 4) + np.tile([0, 0.007, 0.014, 0.021], 1000)
    for mag, low, high in [(14.0, 0.2, 0.8), (18.5, 0.8, 2.5)]:
        runs = [simulate._crts_noise(np.full(4000, mag), mjd, rng) for _ in range(20)]
        scatter = [1.4826 * np.median(np.abs(seen - mag)) for seen, _, _ in runs]
        reported = [np.median(magerr) for _, magerr, _ in runs]
        assert low < np.median(scatter) / np.median(reported) < high
    nightly = np.std(
        np.median(simulate._crts_noise(np.full(4000, 13.0), mjd, rng)[0].reshape(-1, 4), 1)
    )
    assert nightly == pytest.approx(0.02, rel=0.25)


def test_ztf_and_kepler_errors_are_honest():
    rng = np.random.default_rng(0)
    mag, mjd = np.linspace(14, 19, 4000), np.arange(4000.0)
    for cadence in ("ztf", "kepler"):
        seen, magerr, _ = simulate._CADENCES[cadence][1](mag, mjd, rng)
        assert np.std((seen - mag) / magerr) == pytest.approx(1, abs=0.05)


def test_an_rr_lyrae_varies_more_and_is_fainter_in_g():
    lcs = curves("RRab", n=10, cadence="ztf")
    spread, median = {}, {}
    for band in "gri":
        rows = [np.ptp(np.percentile(mag, [5, 95])) for _, _, mag, _ in each(_only(lcs, band))]
        spread[band] = np.median(rows)
        median[band] = np.median([np.median(mag) for _, _, mag, _ in each(_only(lcs, band))])
    assert spread["g"] > spread["r"] > spread["i"]
    assert median["g"] > median["r"] > median["i"]


def _only(lcs, band):
    return lightcurves.select_band(lcs, band)


# recovery: shapes


def test_an_ew_has_two_near_equal_round_minima():
    lcs = curves("EW")
    for name, mjd, mag, _ in each(lcs):
        curve = folded(mjd, mag, lcs["period"][name])
        depth, second = curve[0] - curve.min(), curve[20:31].max() - curve.min()
        assert 0.7 < second / depth <= 1
        assert curve[10:16].min() < curve[0] - 0.7 * depth


def test_an_ea_is_flat_between_unequal_eclipses():
    lcs = curves("EA")
    for name, mjd, mag, _ in each(lcs):
        curve = folded(mjd, mag, lcs["period"][name], n_bins=60)
        depth = curve[0] - curve.min()
        assert np.median(curve) < curve.min() + 0.3 * depth
        assert depth > 0.08


def test_an_rrab_rises_faster_than_it_falls_and_an_rrc_does_not():
    lcs = curves("RRab", "RRc", n=12)
    rise = {"RRab": [], "RRc": []}
    for name, mjd, mag, _ in each(lcs):
        curve = folded(mjd, mag, lcs["period"][name])
        rise[lcs["label"][name]].append(np.argmin(curve) / 50)
    assert np.median(rise["RRab"]) < 0.3
    assert 0.35 < np.median(rise["RRc"]) < 0.6


def test_a_pulsator_s_minima_are_not_sharper_than_its_maxima():
    lcs = curves("RRab", "RRc", n=20)
    skew = {"RRab": [], "RRc": []}
    for name, mjd, mag, _ in each(lcs):
        curve = folded(mjd, mag, lcs["period"][name])
        skew[lcs["label"][name]].append(np.mean(((curve - curve.mean()) / curve.std()) ** 3))
    assert np.median(skew["RRab"]) < -0.2
    assert abs(np.median(skew["RRc"])) < 0.1
    assert np.max(skew["RRc"]) < 0.4


def test_an_rrd_has_two_periods_of_ratio_0_745():
    lcs = curves("RRd", n=3)
    for name, mjd, mag, magerr in each(lcs):
        overtone = lcs["period"][name]
        frequency = np.linspace(0.6, 0.9, 6000) / overtone
        first = LombScargle(mjd, mag, magerr, nterms=3)
        left = mag - first.model(mjd, 1 / overtone)
        power = LombScargle(mjd, left, magerr).power(frequency)
        assert frequency[np.argmax(power)] * overtone == pytest.approx(0.7455, abs=0.0025)


@pytest.mark.parametrize(("name", "harmonic"), [("RRc", 1), ("RRab", 1), ("EW", 2), ("LPV", 1)])
def test_the_planted_period_is_found_on_the_crts_cadence(name, harmonic):
    lcs = curves(name, n=6, cadence="crts")
    found = 0
    for star, mjd, mag, magerr in each(lcs):
        planted = harmonic / lcs["period"][star]
        frequency = planted * np.linspace(0.8, 1.2, 20_000)
        power = LombScargle(mjd, mag, magerr).power(frequency)
        found += abs(frequency[np.argmax(power)] / planted - 1) < 0.03
    assert found >= 5


def test_spots_wander_and_a_giant_s_cycles_differ():
    for name, cadence in [("RS CVn", "ztf"), ("LPV", "ztf")]:
        lcs = curves(name, n=6, cadence=cadence)
        for star, mjd, mag, magerr in each(lightcurves.select_band(lcs, "r")):
            model = LombScargle(mjd, mag, magerr, nterms=2).model(mjd, 1 / lcs["period"][star])
            assert np.std(mag - model) > 1.2 * np.median(magerr)


def test_a_long_period_variable_swings_by_a_magnitude_in_months():
    lcs = curves("LPV", n=20, cadence="crts")
    assert lcs["period"].between(80, 600).all()
    swings = [np.ptp(np.percentile(mag, [5, 95])) for _, _, mag, _ in each(lcs)]
    assert 0.8 < np.median(swings) < 2.5


def test_flares_are_brief_and_bright():
    for _, mjd, mag, magerr in each(curves("flare", n=6)):
        bright = np.median(mag) - mag > 5 * magerr
        assert 0 < bright.mean() < 0.3
        assert np.median(mag) - mag.min() > 0.2
        assert mag.max() - np.median(mag) < 0.05
        assert np.all(np.diff(mjd) > 0)


def test_dwarf_novae_go_off_by_magnitudes():
    rises = [np.median(mag) - mag.min() for _, _, mag, _ in each(curves("DN", cadence="ztf"))]
    assert np.median(rises) > 1.5


def test_a_supernova_comes_once():
    for _, mjd, mag, _ in each(curves("SN", cadence="ztf")):
        bright = np.flatnonzero(np.median(mag) - mag > 0.8)
        assert bright.size
        assert np.ptp(mjd[bright]) < 250


def test_a_quasar_is_a_damped_random_walk():
    rng = np.random.default_rng(1)
    mjd = np.arange(0, 40_000.0, 10.0)
    _, walk = simulate._quasar(mjd, np.ones(mjd.size), rng)
    near, far = (np.std(walk[lag:] - walk[:-lag]) for lag in (1, 1000))
    assert near < 0.7 * far
    assert far == pytest.approx(np.sqrt(2) * np.std(walk), rel=0.2)


# how far it is from real data


@pytest.mark.real
@pytest.mark.slow
def test_a_forest_trained_on_it_is_far_above_chance_on_crts(mirror, cache):
    import light_curve
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import balanced_accuracy_score

    extract = light_curve.Extractor(
        light_curve.Amplitude(), light_curve.Skew(), light_curve.Kurtosis(), light_curve.Median(),
        light_curve.BeyondNStd(1), light_curve.EtaE(), light_curve.StetsonK(),
        light_curve.StandardDeviation(), light_curve.InterPercentileRange(0.05),
        light_curve.MagnitudePercentageRatio(0.4, 0.05), light_curve.ReducedChi2(),
    )  # fmt: skip

    def table(lcs):
        lcs = lcs[lcs["label"].isin(taxonomy.SEVEN)]
        return np.array([extract(*one[1:], sorted=True) for one in each(lcs)]), lcs["label"]

    forest = RandomForestClassifier(200, random_state=0)
    forest.fit(*table(simulate.lightcurves(n_per_class=100, seed=1)))
    X, y = table(datasets.load("crts", n_per_class=100))
    assert balanced_accuracy_score(y, forest.predict(X)) > 0.35


# messages


def test_one_star_is_the_same_on_every_cadence():
    for label in taxonomy.SEVEN:
        lcs = simulate.one_star(label, number=2)
        assert list(lcs.index) == list(simulate.CADENCES)
        assert (lcs[["label", "ra", "dec", "period"]].nunique() == 1).all()
    for label in ("EW", "EA", "RRab", "RRc"):
        lcs = simulate.one_star(label)
        period, curves = lcs["period"].iloc[0], lcs["lightcurve"]
        sparse, _, dense = (lc.assign(phase=lightcurves.fold(lc["mjd"], period)) for lc in curves)
        dense = dense.sort_values("phase")
        expected = np.interp(sparse["phase"], dense["phase"], dense["mag"])
        assert np.median(np.abs(sparse["mag"] - expected)) < 1.5 * sparse["magerr"].median()
    one = simulate.one_star("EW", cadences=["ztf"])["lightcurve"].iloc[0]
    assert one.equals(simulate.one_star("EW")["lightcurve"].loc["ztf"])
    other = simulate.one_star("EW", number=1)["period"]
    assert other.iloc[0] != simulate.one_star("EW")["period"].iloc[0]


def test_one_star_repeats_and_its_cadences_are_known():
    with pytest.raises(ValueError, match="no one star of 'SN'; choose from"):
        simulate.one_star("SN")
    with pytest.raises(ValueError, match="unknown cadence 'lsst'; choose from"):
        simulate.one_star(cadences=["crts", "lsst"])


def test_an_unknown_class_is_named():
    with pytest.raises(ValueError, match="cannot simulate the class 'Mira'; choose from"):
        simulate.lightcurves(classes=["EW", "Mira"])


def test_an_unknown_cadence_is_named():
    with pytest.raises(ValueError, match="unknown cadence 'lsst'; choose from"):
        simulate.lightcurves(cadence="lsst")


def test_no_objects_are_refused():
    with pytest.raises(ValueError, match="n_per_class is 0; ask for 1 or more"):
        simulate.lightcurves(n_per_class=0)


def test_what_is_planted_is_marked_few_and_moved():
    lcs = simulate.planted(n_per_class=12, seed=4)
    again = simulate.planted(("eclipse",), n_per_class=12, seed=4)
    assert lcs["label"].value_counts().to_dict() == {"quiet": 12, "flare": 12, "eclipse": 12}
    for name, lc, label in zip(lcs.index, lcs["lightcurve"], lcs["label"], strict=True):
        marked = lc["planted"].to_numpy(bool)
        moved = (lc["mag"] - lc["mag"][~marked].median())[marked]
        if label == "quiet":
            assert not marked.any()
            continue
        assert 3 <= marked.sum() <= 0.1 * len(lc)
        assert moved.mean() < -0.03 if label == "flare" else moved.mean() > 0.03
        if label == "eclipse":
            np.testing.assert_array_equal(lc["mag"], again["lightcurve"].loc[name]["mag"])
    with pytest.raises(ValueError, match="cannot plant 'SN'; choose from"):
        simulate.planted(["SN"])
