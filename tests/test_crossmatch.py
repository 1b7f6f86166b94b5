"""Matching by place, against brute force and what CDS said."""

import io

import numpy as np
import pandas as pd
import pytest

from skynb import crossmatch, datasets

RNG = np.random.default_rng(0)


def sky(n, index=None):
    ra, dec = RNG.uniform(0, 360, n), np.degrees(np.arcsin(RNG.uniform(-1, 1, n)))
    return pd.DataFrame({"ra": ra, "dec": dec}, index=index)


def separation(one, other):
    """Return the angles [arcsec] between all places of two tables, shape (n_one, n_other)."""
    a, b = (
        np.stack([
            np.cos(np.radians(t.dec)) * np.cos(np.radians(t.ra)),
            np.cos(np.radians(t.dec)) * np.sin(np.radians(t.ra)),
            np.sin(np.radians(t.dec)),
        ], -1)
        for t in (one, other)
    )  # fmt: skip
    chord = np.linalg.norm(a[:, None] - b[None], axis=-1)
    return np.degrees(2 * np.arcsin(chord / 2)) * 3600


def test_all_pairs_within_the_radius_and_no_other():
    left, right = sky(300, [f"o{k}" for k in range(300)]), sky(200)
    left.iloc[:4] = [[359.9999, 0.0], [0.0001, 0.0], [10.0, 90.0], [200.0, 90.0]]
    right.iloc[:2] = [[0.0, 0.0], [77.0, 90.0]]
    radius, brute = 36_000.0, separation(left, right)
    found = crossmatch.match(left, right, radius=radius, nearest=False)
    rows = left.index.get_indexer(found["left"]), right.index.get_indexer(found["right"])
    asked = np.zeros(brute.shape, bool)
    asked[rows] = True
    assert np.array_equal(asked, brute <= radius)
    assert np.allclose(found["separation"], brute[rows], atol=1e-6)
    one = crossmatch.match(left, right, radius=radius)
    near = brute.min(axis=1) <= radius
    assert one["left"].tolist() == left.index[near].tolist()
    assert one["right"].tolist() == right.index[brute.argmin(axis=1)[near]].tolist()


@pytest.mark.parametrize(("n", "m"), [(0, 5), (5, 0), (0, 0), (1, 1)])
def test_few_rows(n, m):
    assert crossmatch.match(sky(n), sky(m), radius=1e-3).empty


def test_bad_tables_are_said():
    good = sky(3)
    with pytest.raises(ValueError, match="the right table has no column 'dec'; rename yours"):
        crossmatch.match(good, good.drop(columns="dec"))
    with pytest.raises(ValueError, match=r"2 rows of the left .* no place on the sky, the first"):
        crossmatch.match(good.assign(dec=[91, 0, np.nan], ra=[0, 1, 2]), good)
    with pytest.raises(ValueError, match="1 rows of the right table have no place"):
        crossmatch.match(good, good.assign(ra=[1e9, 1, 2]))
    for radius in (0, -1, np.nan, np.inf):
        with pytest.raises(ValueError, match="give arcseconds, above 0"):
            crossmatch.match(good, good, radius=radius)


@pytest.mark.real
def test_the_allwise_matches_of_cds():
    ours, theirs = (
        pd.read_csv(io.BytesIO(data), index_col=k)
        for k, data in zip(("id", "id_in"), datasets.contents("allwise-matches"), strict=True)
    )
    allwise = theirs.reset_index().rename(columns={"RAJ2000": "ra", "DEJ2000": "dec"})
    found = crossmatch.match(ours, allwise.set_index("AllWISE")).set_index("left")
    assert len(found) == len(theirs) == 5440
    assert (found["right"] == theirs["AllWISE"].reindex(found.index)).all()
    assert np.abs(found["separation"] - theirs["angDist"].reindex(found.index)).max() < 0.001
