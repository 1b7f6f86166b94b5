"""Tests of structure functions: pencil, invariants, oracle, recovery, calibration, messages."""

from collections import Counter
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from skynb import dmdt, evaluate, lightcurves, models, simulate, structure
from skynb.structure import StructureFunctions

SMALL = dmdt.Grid(dm=(-1, 0, 1), dt=(0, 2, 10))
CLASSES = ["EW", "RRab", "LPV"]


def table(curves, **columns):
    """Return light curves from pairs of mjd and mag."""
    frames = [
        pd.DataFrame({"object_id": k, "mjd": mjd, "mag": mag, "magerr": 0.05, "band": "V"})
        for k, (mjd, mag) in enumerate(curves)
    ]
    return lightcurves.from_flat(pd.concat(frames, ignore_index=True)).assign(**columns)


def changed(lcs, *, mjd=0.0, mag=0.0, n=None, seed=0):
    """Return the same objects moved in time or magnitude, or with ``n`` random points of each."""
    flat = lcs["lightcurve"].nest.to_flat().reset_index(names="object_id")
    if n is not None:
        flat = flat.sample(frac=1, random_state=seed).groupby("object_id").head(n)
    flat = flat.assign(mjd=flat["mjd"] + mjd, mag=flat["mag"] + mag)
    return lightcurves.from_flat(flat).loc[lcs.index].assign(label=lcs["label"])


def histograms(mjd, mag, grid=SMALL, order="triplets"):
    """Return the counts of pairs and triplets of one light curve, shapes (n_lags, n_cells)."""
    curve = np.array([0, len(mjd)]), np.array(mjd, float), np.array(mag, float)
    return next(structure._histograms(curve, grid, order))


def counts_slow(mjd, mag, grid):
    """Return the counts by going through all pairs and triplets."""

    def cell(i, j):
        dm = np.searchsorted(grid.dm, mag[j] - mag[i], side="right") - 1
        dt = np.searchsorted(grid.dt, mjd[j] - mjd[i], side="right") - 1
        return (dt, dm) if 0 <= dm < n_dm and 0 <= dt < n_dt else None

    n_dm, n_dt = grid.shape
    pairs, triplets = np.zeros((n_dt, n_dm)), np.zeros((n_dt, n_dt, n_dm, n_dm))
    for i, j in combinations(range(len(mjd)), 2):
        if cell(i, j):
            pairs[cell(i, j)] += 1
    for i, j, k in combinations(range(len(mjd)), 3):
        if cell(i, j) and cell(j, k):
            (dt12, dm12), (dt23, dm23) = cell(i, j), cell(j, k)
            triplets[dt12, dt23, dm12, dm23] += 1
    return [pairs, triplets.reshape(n_dt**2, n_dm**2)]


def parity(n_objects, sign, seed):
    """Return curves of 20 visits of three points, bright or faint, with an even number of faint.

    Under ``sign`` -1 bright and faint change places. Any two points of a visit differ by the same
    amounts equally often either way; only all three together tell.
    """
    rng = np.random.default_rng(seed)
    days = np.arange(20)[:, None] * 1000.0 + [0, 1, 2]
    curves = []
    for _ in range(n_objects):
        two = rng.choice([-1, 1], (20, 2))
        visit = np.column_stack([two, two.prod(axis=1)]) * sign
        curves.append((days.ravel(), 15 + (0.4 * visit + rng.normal(0, 0.02, (20, 3))).ravel()))
    return curves


@pytest.fixture(scope="module")
def lcs():
    return simulate.lightcurves(n_per_class=24, classes=CLASSES, seed=5)


@pytest.fixture(scope="module")
def unseen():
    """Other objects of the same classes."""
    return simulate.lightcurves(n_per_class=16, classes=CLASSES, seed=6)


@pytest.fixture(scope="module", params=structure.ORDERS)
def learner(request, lcs):
    return StructureFunctions(request.param).fit(lcs, lcs["label"])


@pytest.fixture(scope="module")
def triplets(lcs):
    return StructureFunctions().fit(lcs, lcs["label"])


def accuracy(learner, lcs):
    scores = evaluate.scores(lcs["label"], learner.predict_proba(lcs), learner.classes_)
    return scores["accuracy"]


# pencil


def test_two_points_are_one_pair():
    pairs, triplets = histograms([0, 3], [15, 15.25])
    assert pairs.tolist() == [[0, 0], [0, 1]]
    assert not triplets.any()


def test_three_points_are_one_triplet():
    pairs, triplets = histograms([0, 1, 5], [15, 15.5, 14.8])
    assert pairs.tolist() == [[0, 1], [2, 0]]
    expected = np.zeros((2, 2, 2, 2))
    expected[0, 1, 1, 0] = 1  # dt12 < 2 <= dt23, dm12 >= 0 > dm23
    assert np.array_equal(triplets.reshape(2, 2, 2, 2), expected)


def test_cells_hold_their_lower_edge_only():
    def cell(dt, dm):
        return np.argwhere(histograms([0, dt], [0, dm])[0]).tolist()

    assert cell(0.5, -1) == [[0, 0]]
    assert cell(2, 0) == [[1, 1]]
    assert cell(0.5, 1) == cell(10, 0) == cell(0.5, -1.01) == []


def test_a_triplet_needs_both_its_pairs_on_the_grid():
    pairs, triplets = histograms([0, 1, 20], [15, 15, 15])
    assert pairs.sum() == 1
    assert not triplets.any()


def test_densities_by_hand():
    """Ten rising and ten falling curves of three pairs: 3/103 of a vote each; 5 go to all cells."""
    t = [0, 0.5, 1]
    curves = [(t, [15, 15.2, 15.4])] * 10 + [(t, [15.4, 15.2, 15])] * 10
    learner = StructureFunctions(grid=SMALL).fit(table(curves), ["rising"] * 10 + ["falling"] * 10)
    most = (30 / 103 + 2.5) / (30 / 103 + 5)
    for label, p in {"falling": [most, 1 - most], "rising": [1 - most, most]}.items():
        assert np.allclose(learner.density(label)[:, 0], p)
        assert np.allclose(learner.density(label)[:, 1], 0.5)  # no pair has these lags
        both = learner.density(label, "triplets")[:, :, 0, 0]
        assert both[0, 0] + both[1, 1] == pytest.approx(1, abs=0.01)


# invariants


def test_densities_are_those_of_cells_given_lags(triplets):
    n_dm, n_dt = structure.GRID.shape
    for label in triplets.classes_:
        pairs, both = triplets.density(label), triplets.density(label, "triplets")
        assert pairs.shape == (n_dm, n_dt)
        assert both.shape == (n_dm, n_dm, n_dt, n_dt)
        assert np.allclose(pairs.sum(axis=0), 1)
        assert np.allclose(both.sum(axis=(0, 1)), 1)


def test_axes_of_the_density_of_triplets():
    """The first point is 0.5 mag brighter, 1 day earlier; the last as faint, 5 days later."""
    curves = [([0, 1, 6], [15, 15.5, 15.5])] * 4 + [([0, 1, 6], [15.5, 15.5, 15])] * 4
    learner = StructureFunctions(grid=SMALL).fit(table(curves), list("aaaabbbb"))
    assert learner.density("a", "triplets")[1, 1, 0, 1] > 0.5
    assert learner.density("b", "triplets")[1, 0, 0, 1] > 0.5


def test_time_and_magnitude_zero_points_do_not_matter(learner, unseen):
    expected = learner.predict_proba(unseen)
    assert np.allclose(learner.predict_proba(changed(unseen, mjd=64.0)), expected, atol=1e-3)
    assert np.allclose(learner.predict_proba(changed(unseen, mag=2.0)), expected, atol=1e-3)


def test_plural_is_the_stack_of_the_singular(learner, unseen):
    together = learner.predict_proba(unseen)
    alone = [learner.predict_proba(unseen.iloc[[k]]) for k in range(len(unseen))]
    assert np.allclose(np.vstack(alone), together)
    assert np.allclose(learner.predict_proba(unseen.iloc[[9, 3]]), together[[9, 3]])


def test_the_same_seed_is_the_same_learner(lcs, triplets, unseen):
    again = StructureFunctions().fit(lcs, lcs["label"].to_numpy())
    assert np.array_equal(again.predict_proba(unseen), triplets.predict_proba(unseen))
    other = StructureFunctions(seed=1).fit(lcs, lcs["label"])
    assert not np.array_equal(other.predict_proba(unseen), triplets.predict_proba(unseen))


def test_parts_and_thinning():
    rng = np.random.default_rng(2)
    n_obs = np.array([200, 1, 2, 3, 50, 0, 7])
    offsets = np.append(0, np.cumsum(n_obs))
    mjd = np.arange(n_obs.sum(), dtype=float)
    kept = []
    for _ in range(200):
        starts, times, mag = structure._thinned((offsets, mjd, mjd + 0.5), rng)
        assert np.array_equal(times + 0.5, mag)
        for k, n in enumerate(np.diff(starts)):
            own = times[starts[k] : starts[k + 1]]
            assert np.all(
                (own >= offsets[k]) & (own < offsets[k + 1]) & (np.diff(own, append=1e9) > 0)
            )
            assert min(structure.MIN_POINTS, n_obs[k]) <= n <= n_obs[k]
        kept.append(np.diff(starts))
    assert np.median(kept, axis=0)[0] == pytest.approx(np.sqrt(3 * 200), rel=0.3)
    assert np.median(kept, axis=0)[1:4].tolist() == [1, 2, 3]


# oracle


@pytest.mark.parametrize("n", [0, 1, 3, 40])
@pytest.mark.parametrize("name", ["own", "small", "from 2 days", "negative"])
def test_kernel_equals_triple_loop(n, name):
    grid = {
        "own": structure.GRID,
        "small": SMALL,
        "from 2 days": dmdt.Grid(dm=(0.1, 0.3, 0.35), dt=(2, 3, 50)),
        "negative": dmdt.Grid(dm=(-3, -1, -0.2), dt=(0, 1, 1e5)),
    }[name]
    rng = np.random.default_rng(n)
    mjd, mag = np.cumsum(rng.gamma(0.3, 5, n)), np.round(rng.normal(15, 0.4, n), 1)
    expected = counts_slow(mjd, mag, grid)
    for found, slow in zip(histograms(mjd, mag, grid), expected, strict=True):
        assert np.array_equal(found, slow)
    assert len(histograms(mjd, mag, grid, "pairs")) == 1


def test_pairs_are_those_of_dmdt(one_band_lcs):
    images = dmdt.images(one_band_lcs, grid=structure.GRID)
    curves = structure._curves(one_band_lcs)
    for image, (pairs,) in zip(
        images, structure._histograms(curves, structure.GRID, "pairs"), strict=True
    ):
        assert np.array_equal(pairs, image.T)


# recovery


def test_simulated_classes_are_told_apart(learner, unseen):
    assert accuracy(learner, unseen) >= 0.8


def test_twenty_points_are_enough_for_most(learner, unseen):
    assert accuracy(learner, changed(unseen, n=20)) > 0.6


def test_learns_from_short_curves_alone(lcs, unseen):
    learner = StructureFunctions().fit(changed(lcs, n=20), lcs["label"])
    assert accuracy(learner, changed(unseen, n=20)) > 0.6


def test_only_triplets_see_what_three_points_do_together():
    grid = dmdt.Grid(dm=(-2, -0.4, 0.4, 2), dt=(0, 1.5, 2.5))
    y = np.repeat(["even", "odd"], 30)
    train = table([*parity(30, 1, 0), *parity(30, -1, 1)])
    test = table([*parity(30, 1, 2), *parity(30, -1, 3)])
    right = {
        order: evaluate.scores(y, learner.predict_proba(test), learner.classes_)["accuracy"]
        for order in structure.ORDERS
        for learner in [StructureFunctions(order, grid=grid).fit(train, y)]
    }
    assert right["triplets"] == 1
    assert 0.25 < right["pairs"] < 0.75


def test_cadence_alone_tells_nothing():
    """The same noise, often and seldom observed: the lags differ, dm given dt does not."""
    rng = np.random.default_rng(4)
    curves = [
        (50_000 + np.cumsum(rng.gamma(1, step, 60)), rng.normal(15, 0.2, 60))
        for step in np.repeat([0.5, 20], 60)
    ]
    y = np.repeat(["dense", "sparse"], 60)
    lcs = table(curves)
    learner = StructureFunctions().fit(lcs.iloc[::2], y[::2])
    for a, b in zip(learner.density("dense").T, learner.density("sparse").T, strict=True):
        assert np.abs(a - b).max() < 0.1


@pytest.mark.real
def test_real_light_curves(mirror):
    """A tenth of Catalina's seven classes: far above the largest class's share, and calibrated."""
    from skynb import datasets, taxonomy

    lcs = datasets.load("crts")
    lcs = lcs[lcs["label"].isin(taxonomy.SEVEN)].iloc[::8]
    y = lcs["label"].to_numpy().astype(str)
    found = {
        order: evaluate.cross_validate(
            lambda seed, order=order: StructureFunctions(order, seed=seed),
            lcs, y, seeds=[0], n_folds=3, progress=False,
        ).scores().loc[0]
        for order in structure.ORDERS
    }  # fmt: skip
    assert found["pairs"]["accuracy"] > 0.55
    assert found["triplets"]["accuracy"] > found["pairs"]["accuracy"]
    assert found["triplets"]["ece"] < 0.1


# calibration


def test_probabilities_sum_to_one(learner, unseen):
    for n in (None, 3, 12):
        probability = learner.predict_proba(changed(unseen, n=n))
        assert probability.shape == (len(unseen), 3)
        assert np.allclose(probability.sum(axis=1), 1)
        assert probability.min() >= 0


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_points_give_the_priors(learner, unseen, n):
    probability = learner.predict_proba(changed(unseen, n=n))
    assert np.array_equal(probability, np.tile(learner.priors_, (len(unseen), 1)))


def test_priors_are_the_shares_of_the_training_set(lcs, unseen):
    some = lcs.iloc[12:]
    learner = StructureFunctions("pairs").fit(some, some["label"])
    shares = Counter(some["label"])
    assert learner.priors_.tolist() == [shares[name] / len(some) for name in learner.classes_]
    off_grid = table([([0, 9000, 18_000], [15, 16, 17])])
    assert learner.predict_proba(off_grid).tolist() == [learner.priors_.tolist()]


def test_short_curves_are_nearer_the_priors(learner, unseen):
    distance = [
        np.abs(learner.predict_proba(changed(unseen, n=n)) - learner.priors_).sum(axis=1).mean()
        for n in (3, 8, 30, None)
    ]
    assert distance == sorted(distance)
    assert distance[0] < 0.6 * distance[-1]


def test_confidence_is_not_more_than_deserved(learner, unseen):
    for n in (5, 10, 30, None):
        lcs = changed(unseen, n=n)
        confidence = learner.predict_proba(lcs).max(axis=1).mean()
        assert confidence < accuracy(learner, lcs) + 0.1
    assert confidence > accuracy(learner, unseen) - 0.15


# parts


def test_parts_survive_a_file(learner, unseen, tmp_path):
    recipe = models.Recipe(
        kind="structure", options={}, seed=0, classes=learner.classes_.tolist(), bands=["V"],
        features=None, grid=None, period_search=None, known=models.known(unseen), training={},
        versions=models.versions(),
    )  # fmt: skip
    path = models.save(learner.to_parts(), recipe, {}, tmp_path / "model.skynb")
    again = StructureFunctions.from_parts(models.load(path)[0])
    assert again.get_params() == learner.get_params()
    assert again.classes_.tolist() == learner.classes_.tolist()
    assert np.array_equal(again.predict_proba(unseen), learner.predict_proba(unseen))


def test_two_classes_survive_too(lcs, unseen):
    two, others = (each[each["label"] != "LPV"] for each in (lcs, unseen))
    learner = StructureFunctions("pairs").fit(two, two["label"])
    again = StructureFunctions.from_parts(learner.to_parts())
    assert np.array_equal(again.predict_proba(others), learner.predict_proba(others))
    assert accuracy(again, others) > 0.65


# messages


def test_parts_that_do_not_fit(triplets):
    parts = triplets.to_parts()
    broken = parts["coef_"].copy()
    broken[0, 0] = np.nan
    for changes in (
        {"order": "pairs"},
        {"grid": SMALL.to_dict()},
        {"classes_": ["EA", "EW"]},
        {"coef_": parts["coef_"][:, 1:]},
        {"coef_": broken},
        {"intercept_": parts["intercept_"][:2]},
        {"priors_": parts["priors_"][:2]},
        {"log_densities_": parts["log_densities_"][:1]},
    ):
        with pytest.raises(ValueError, match=r"these are no \w+ of \d classes on Grid.*train anew"):
            StructureFunctions.from_parts(parts | changes)
    with pytest.raises(ValueError, match="these are no quadruplets of 3 classes"):
        StructureFunctions.from_parts(parts | {"order": "quadruplets"})


def test_messages_of_fit(lcs, ztf_lcs):
    with pytest.raises(ValueError, match="no order 'points'; choose one of pairs, triplets"):
        StructureFunctions("points").fit(lcs, lcs["label"])
    with pytest.raises(ValueError, match=r"found \['g', 'i', 'r'\]; use lightcurves.select_band"):
        StructureFunctions().fit(ztf_lcs, ztf_lcs["label"])
    with pytest.raises(ValueError, match="one label per object, got 72 objects and 3 labels"):
        StructureFunctions().fit(lcs, lcs["label"][:3])
    with pytest.raises(ValueError, match="two classes or more, got only EW"):
        StructureFunctions().fit(lcs, ["EW"] * 72)
    with pytest.raises(ValueError, match="fewer than 2 objects of EA; give more"):
        StructureFunctions().fit(lcs, ["EA"] + ["EW"] * 71)
    far = dmdt.Grid(dm=(50, 60), dt=(0, 1))
    with pytest.raises(ValueError, match=r"no light curve of EW, LPV, RRab has three points and p"):
        StructureFunctions(grid=far).fit(lcs.iloc[::6], lcs["label"][::6])
    curves = [(np.arange(n), 15 + 0.1 * np.arange(n)) for n in (2, 2, 9, 9, 9)]
    with pytest.raises(ValueError, match=r"no light curve of a has three points and pairs on Grid"):
        StructureFunctions().fit(table(curves), list("aabbb"))


def test_messages_of_use(learner, triplets, ztf_lcs, lcs):
    with pytest.raises(ValueError, match=r"use lightcurves\.select_band first"):
        learner.predict_proba(ztf_lcs)
    with pytest.raises(ValueError, match="no density of pairs of 'SN'; there are those of EW, LPV"):
        learner.density("SN")
    pairs = StructureFunctions("pairs").fit(lcs.iloc[::6], lcs["label"][::6])
    with pytest.raises(
        ValueError, match=r"no density of triplets of 'EW'; there are those of EW.*s$"
    ):
        pairs.density("EW", "triplets")
