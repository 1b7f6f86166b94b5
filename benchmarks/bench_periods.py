"""Periods: curves per second beside nifty-ls and astropy, and what is found of the catalogue's.

    python -m benchmarks.bench_periods [SEEDS]

All Catalina curves if SKYNB_MIRROR is set, else simulated ones. Speeds are of one thread, in turns,
on the same 60 curves and grid: the whole search (two periodograms, fits, aliases) beside one bare
periodogram of nifty-ls, and of astropy ("fast") on the first ten. Recovery is counted over all
curves with a known period P, to within 1.5 / (time span) in frequency. With SEEDS > 0, a random
forest in five folds is given all features, the periodic ones and the others (minutes).
"""

import os
import sys
import time

import nifty_ls
import numpy as np
import pandas as pd
from astropy.timeseries import LombScargle

from skynb import datasets, features, lightcurves, periods, taxonomy

OUTCOMES = ("P", "P/2", "2P", "alias", "missed")


def main(n_seeds=1):
    """Return the tables ``{"speed", "recovery", "accuracy"}``, and print them."""
    name = "crts" if os.environ.get("SKYNB_MIRROR") else "simulated"
    lcs = datasets.load(name)
    speed = _speed(lcs.iloc[:: max(len(lcs) // 60, 1)][:60])
    start = time.perf_counter()
    found = periods.search(lcs)
    searched = time.perf_counter()
    X = features.extract(lcs, periods=found)
    speed["skynb, all curves, all cores"] = len(lcs) / (searched - start)
    speed["features of the folded curves"] = len(lcs) / (time.perf_counter() - searched)
    print(f"periods, {name}: curves per second\n" + pd.Series(speed).round(1).to_string())
    tables = {"speed": speed}
    for column in ("period", "peak_period"):
        outcome = _outcomes(lcs, found[column])
        known = outcome.notna()
        label = lcs["label"].astype(str)[known]
        table = pd.crosstab(label, outcome[known], normalize="index", margins=True)
        table = table.reindex(columns=list(OUTCOMES), fill_value=0.0).assign(
            n=label.value_counts().reindex(table.index, fill_value=len(label))
        )
        print(f"\nfound, as {column}\n" + table.round(3).to_string())
        tables[f"recovery of {column}"] = table
    if n_seeds:
        tables["accuracy"] = _accuracy(lcs, X, n_seeds)
        print("\nforest, five folds\n" + tables["accuracy"].round(4).to_string())
    return tables


def _speed(lcs):
    """Return curves per second of one thread, the best of three turns."""
    curves = [
        tuple(lc[column].to_numpy() for column in ("mjd", "mag", "magerr"))
        for lc in lcs["lightcurve"]
    ]
    grids = [periods.periodogram(*curve) for curve in curves]

    def nifty():
        for (mjd, mag, magerr), grid in zip(curves, grids, strict=True):
            nifty_ls.lombscargle(
                mjd, mag, magerr, fmin=grid.frequency[0], fmax=grid.frequency[-1],
                Nf=len(grid.frequency), nthreads=1, backend="finufft",
            )  # fmt: skip

    def astropy():
        for curve, grid in zip(curves[:10], grids, strict=False):
            LombScargle(*curve).power(grid.frequency, method="fast", assume_regular_frequency=True)

    contestants = {
        "skynb search": (lambda: periods.search(lcs, n_jobs=1, progress=False), len(curves)),
        "nifty-ls, one periodogram": (nifty, len(curves)),
        "astropy, one periodogram": (astropy, len(curves[:10])),
    }
    best = dict.fromkeys(contestants, 0.0)
    for _ in range(3):
        for name, (call, n_curves) in contestants.items():
            start = time.perf_counter()
            call()
            best[name] = max(best[name], n_curves / (time.perf_counter() - start))
    return best


def _outcomes(lcs, period):
    """Return which of `OUTCOMES` each object is; missing where no period is known."""
    truth, frequency = 1.0 / lcs["period"], 1.0 / period
    arrays = lightcurves.arrays(lcs)
    width = 1.5 / (arrays.mjd[arrays.offsets[1:] - 1] - arrays.mjd[arrays.offsets[:-1]])
    outcome = pd.Series("missed", index=lcs.index, dtype=object)
    for multiple in (1, 2):
        for days in (-3, -2, -1, 1, 2, 3):
            for day in (1.0, periods.SIDEREAL):
                alias = np.abs(multiple * truth + days * day)
                outcome[np.abs(frequency - alias) < width] = "alias"
    for name, multiple in (("2P", 0.5), ("P/2", 2.0), ("P", 1.0)):
        outcome[np.abs(frequency - multiple * truth) < width] = name
    return outcome.where(truth.notna())


def _accuracy(lcs, X, n_seeds):
    """Return accuracy and balanced accuracy by set of features, mean and spread over seeds."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import accuracy_score, balanced_accuracy_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    label = lcs["label"].astype(str).to_numpy()
    used = np.isin(label, taxonomy.SEVEN)
    periodic = X.columns.get_loc("log_period")
    rows = []
    for name, columns in (
        ("all", X.columns),
        ("periodic", X.columns[periodic:]),
        ("non-periodic", X.columns[:periodic]),
    ):
        for seed in range(n_seeds):
            guess = cross_val_predict(
                RandomForestClassifier(
                    300, class_weight="balanced_subsample", n_jobs=-1, random_state=seed
                ),
                X.loc[used, columns].fillna(-999.0).to_numpy(np.float32),
                label[used],
                cv=StratifiedKFold(5, shuffle=True, random_state=seed),
            )
            rows.append(
                (
                    name,
                    accuracy_score(label[used], guess),
                    balanced_accuracy_score(label[used], guess),
                )
            )
    table = pd.DataFrame(rows, columns=["features", "accuracy", "balanced_accuracy"])
    return table.groupby("features", sort=False).agg(["mean", "std"])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
