"""Features: pencil, oracles against light-curve, bands, and curves of 1, 2, 3 observations."""

import light_curve
import numpy as np
import pandas as pd
import pytest

from skynb import features, lightcurves, periods


def table(mjd, mag, magerr=0.1, band="V", object_id=1):
    flat = {"object_id": object_id, "mjd": mjd, "mag": mag, "magerr": magerr, "band": band}
    return lightcurves.from_flat(pd.DataFrame(flat))


@pytest.fixture(scope="module")
def X(one_band_lcs):
    return features.extract(one_band_lcs, progress=False)


# pencil


def test_five_points_by_pencil():
    row = features.extract(
        table([1.0, 2.5, 4.0, 5.5, 7.0], [10.0, 11.0, 12.0, 11.0, 11.0]), periods=False
    ).iloc[0]
    assert row["amplitude"] == 1.0
    assert row["mean"] == row["median"] == 11.0
    assert row["standard_deviation"] == pytest.approx(np.sqrt(2 / 4))
    assert row["maximum_slope"] == pytest.approx(1 / 1.5)
    assert row["beyond_1_std"] == pytest.approx(2 / 5)
    assert row["chi2"] == pytest.approx(2 / 0.1**2 / 4)
    # two steps up, one down, one level
    assert row["pair_slope_trend"] == pytest.approx(1 / 4)
    # no two observations within a day
    assert np.isnan(row["stetson_J"])


def test_stetson_j_by_pencil():
    """Means 0: pairs (1, 1) and (-1, -1) sigma; the night's third observation stands alone."""
    mjd = [0.0, 0.1, 5.0, 5.1, 5.2]
    lcs = table(mjd, [10.1, 10.1, 9.9, 9.9, 10.0])
    row = features.extract(lcs, periods=False).iloc[0]
    assert row["stetson_J"] == pytest.approx(np.sqrt(5 / 4))


# invariants


def test_every_column_has_a_convention_and_the_other_way_round(X):
    assert list(X.columns) == list(features.CONVENTIONS)
    assert all(text and source for text, source in features.CONVENTIONS.values())
    assert X.columns.is_unique


def test_rows_do_not_depend_on_each_other(one_band_lcs, X):
    alone = features.extract(one_band_lcs.iloc[[4]], progress=False)
    pd.testing.assert_frame_equal(alone, X.iloc[[4]])
    assert X.index.equals(one_band_lcs.index)


def test_periods_may_be_given_or_left_out(one_band_lcs, X):
    found = periods.search(one_band_lcs, progress=False)
    pd.testing.assert_frame_equal(features.extract(one_band_lcs, periods=found), X)
    without = features.extract(one_band_lcs, periods=False)
    pd.testing.assert_frame_equal(without, X[without.columns])
    assert "log_period" not in without


def test_simulated_curves_have_every_feature(X):
    assert np.isfinite(X.to_numpy()).all()


# oracles


def test_equal_to_light_curve_one_at_a_time(one_band_lcs, X):
    for name, lc in one_band_lcs["lightcurve"].iloc[:5].items():
        mjd, mag, magerr = (lc[c].to_numpy() for c in ("mjd", "mag", "magerr"))
        for feature in (light_curve.Amplitude(), light_curve.StetsonK(), light_curve.LinearFit()):
            theirs = feature(mjd, mag, magerr)
            np.testing.assert_array_equal(X.loc[name, feature.names], theirs)


def test_slope_equals_least_squares(one_band_lcs, X):
    lc = one_band_lcs["lightcurve"].iloc[0]
    slope = np.polyfit(lc["mjd"] - lc["mjd"].mean(), lc["mag"], 1)[0]
    assert X["linear_trend"].iloc[0] == pytest.approx(slope)


def test_flux_percentiles_equal_numpy_s(one_band_lcs, X):
    """To the interpolation of quantiles: light-curve's is Hazen's."""
    for name, lc in one_band_lcs["lightcurve"].iloc[:5].items():
        flux = 10 ** (-0.4 * lc["mag"].to_numpy())
        low, lower, middle, upper, high = np.quantile(
            flux, [0.05, 0.325, 0.5, 0.675, 0.95], method="hazen"
        )
        row = X.loc[name]
        assert row["flux_percentile_ratio_mid35"] == pytest.approx((upper - lower) / (high - low))
        assert row["percent_difference_flux_percentile"] == pytest.approx(
            (high - low) / middle, rel=1e-3
        )


def test_a_shift_in_magnitude_leaves_flux_percentiles(one_band_lcs, X):
    flat = one_band_lcs["lightcurve"].nest.to_flat().reset_index(names="object_id")
    medians = flat.groupby("object_id")["mag"].transform("median")
    moved = lightcurves.from_flat(flat.assign(mag=flat["mag"] - medians))
    moved = features.extract(moved, periods=False).loc[X.index]
    names = [name for name in X if "flux" in name]
    assert len(names) == 6
    np.testing.assert_allclose(moved[names], X[names], rtol=1e-6)
    assert X[names].max(axis=None) < 10


# several bands


def test_a_column_per_band_and_colours(ztf_lcs):
    X = features.extract(ztf_lcs, progress=False)
    assert {"amplitude_g", "amplitude_r", "amplitude_i", "color_g_r", "color_r_i"} <= set(X.columns)
    assert "amplitude" not in X
    assert X.index.equals(ztf_lcs.index)
    green = features.extract(lightcurves.select_band(ztf_lcs, "g"), periods=False)
    np.testing.assert_array_equal(X.loc[green.index, "amplitude_g"], green["amplitude"])
    np.testing.assert_allclose(X["color_g_r"], X["median_g"] - X["median_r"])


def test_an_object_without_a_band_has_nan_there():
    flat = pd.DataFrame(
        {
            "object_id": [1, 1, 2],
            "mjd": [1.0, 2.0, 3.0],
            "mag": [15.0, 16.0, 17.0],
            "magerr": 0.1,
            "band": ["g", "r", "r"],
        }
    )
    X = features.extract(lightcurves.from_flat(flat), progress=False)
    assert X.loc[1, "color_g_r"] == -1.0
    assert np.isnan(X.loc[2, "color_g_r"])
    assert X.loc[2, "median_r"] == 17.0


# hazards


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("constant", [True, False])
def test_few_observations_give_nan_not_an_exception(n, constant):
    mag = np.full(n, 15.0) if constant else 15.0 + np.arange(n)
    X = features.extract(table(55_000.0 + np.arange(n), mag), progress=False)
    assert list(X.columns) == list(features.CONVENTIONS)
    assert X["median"].iloc[0] == np.median(mag)
    assert not np.isinf(X.to_numpy()).any()
    assert np.isnan(X["log_period"].iloc[0])


def test_no_object_at_all(one_band_lcs):
    X = features.extract(one_band_lcs.iloc[:0], progress=False)
    assert X.shape == (0, len(features.CONVENTIONS))


# real data


@pytest.mark.real
@pytest.mark.slow
def test_forest_on_a_part_of_crts(cache, mirror):
    """Sixty curves of each class, a tenth of the data, already beat FATS features on all of it."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import cross_val_predict

    from skynb import datasets, taxonomy

    lcs = datasets.load("crts", n_per_class=60)
    lcs = lcs[lcs["label"].isin(taxonomy.SEVEN)]
    found = periods.search(lcs, progress=False)
    ratio = lcs["period"] / found["period"]
    same = np.abs(np.log2(ratio) - np.round(np.log2(ratio))) < 0.003
    assert (same & (ratio > 0.4) & (ratio < 2.5)).mean() > 0.7
    X = features.extract(lcs, periods=found)
    assert np.isfinite(X.to_numpy()).all()
    forest = RandomForestClassifier(200, random_state=0, n_jobs=2)
    labels = lcs["label"].astype(str).to_numpy()
    assert (cross_val_predict(forest, X, labels, cv=5) == labels).mean() > 0.76


# Gaussian features


def test_ranks_become_a_normal_distribution_by_pencil():
    """Of five values the quartiles are the second and the fourth; those of a normal are known."""
    Z = features.Gaussian().fit([[1], [2], [3], [4], [900]]).transform([[2], [3], [4], [-5], [1e9]])
    assert Z[:3, 0] == pytest.approx([-0.6745, 0, 0.6745], abs=1e-4)
    assert -Z[3, 0] == pytest.approx(Z[4, 0]) == pytest.approx(5.2, abs=0.01)


def test_units_do_not_matter_and_what_is_missing_is_at_the_median():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    Z = features.Gaussian().fit(X).transform(X)
    scaled = X * [1e-12, 1e12, 7] + [0, 0, 3]
    assert features.Gaussian().fit(scaled).transform(scaled) == pytest.approx(Z, abs=1e-6)
    assert Z.std(axis=0) == pytest.approx(1, abs=0.2)
    holed, empty = X.copy(), X.copy()
    holed[:4, 1], empty[:, 2] = [np.nan, np.inf, -np.inf, np.nan], np.nan
    gaussian = features.Gaussian().fit(holed)
    assert (gaussian.transform(holed)[:4, 1] == 0).all()
    assert gaussian.transform([np.nanmedian(holed[4:], axis=0)])[0, 1] == pytest.approx(0, abs=0.02)
    assert (features.Gaussian().fit(empty).transform(X)[:, 2] == 0).all()


def test_gaussian_features_are_kept_and_what_does_not_fit_is_refused(X):
    gaussian = features.Gaussian(seed=3).fit(X)
    parts = gaussian.to_parts()
    again = features.Gaussian.from_parts(parts)
    assert again.seed == 3
    np.testing.assert_array_equal(again.transform(X), gaussian.transform(X.to_numpy()))
    with pytest.raises(ValueError, match=r"expected \d+ features, as when fitted, got 2"):
        again.transform(X.iloc[:, :2])
    for name in ("center", "scale", "quantiles"):
        with pytest.raises(ValueError, match="a scaler of shapes"):
            features.Gaussian.from_parts(parts | {name: parts[name][..., :2]})


def test_fixed_bands_give_every_table_the_same_columns(ztf_lcs):
    bands = ["i", "g", "r"]
    whole = features.extract(ztf_lcs, periods=False, bands=bands)
    pd.testing.assert_frame_equal(whole, features.extract(ztf_lcs, periods=False))
    red = lightcurves.select_band(ztf_lcs, "r")
    part = features.extract(red, periods=False, bands=bands)
    assert list(part) == list(whole)
    assert part.filter(regex="_(g|i)$|color").isna().all(axis=None)
    columns = [name for name in whole if name.endswith("_r") and not name.startswith("color")]
    pd.testing.assert_frame_equal(part[columns], whole[columns])
    alone = features.extract(ztf_lcs, periods=False, bands=["r"])
    pd.testing.assert_frame_equal(alone, features.extract(red, periods=False))


def test_threads_are_those_of_numba(one_band_lcs):
    """As Dask workers need: one thread gives the same numbers."""
    import numba

    X = features.extract(one_band_lcs, periods=False)
    n_threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        pd.testing.assert_frame_equal(features.extract(one_band_lcs, periods=False), X)
    finally:
        numba.set_num_threads(n_threads)
