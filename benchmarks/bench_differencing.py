"""Transients without subtraction, beside three ways of subtracting, on the same simulated pairs.

    python -m benchmarks.bench_differencing [PAIRS] [EPOCHS] [SEEDS] [TEST_PAIRS]

Transients are simulated, their backgrounds are real if SKYNB_MIRROR is set. Learnt from: the left
two thirds of the frames of ESO 085-030, and ZTF's cutouts of 2018. Every threshold and the scale
of the fluxes are chosen on backgrounds of these held out: of greatest F1, but for the network that
of greatest F1 at a precision of 0.93; for comparison, "network, F1" is the network as the others.
Judged on: the right third of the frames, ZTF's cutouts of 2023 (another night, other fields) and
the pair of JWST. Without the mirror, everything is on simulated skies.
"""

import os
import sys
import time

import numpy as np
import pandas as pd

from skynb import differencing, image_pairs, subtraction

N_COLUMNS = 6
"""Of tiles of the frames that are learnt from; the others judge."""


def main(n_pairs=5000, n_epochs=12, n_seeds=1, n_test=300):
    """Return the figures as DataFrames, one row for a seed, a test set and a method; print them."""
    train, tests = _backgrounds()
    rng = np.random.default_rng(0)
    mixed = [each[rng.integers(len(each))] for each in train for _ in range(n_pairs // len(train))]
    pairs = image_pairs.plant(mixed, len(mixed), seed=10)
    learnt, held = differencing.split(pairs, 0.15)
    tests = {
        n: image_pairs.plant(each, n_test, seed=20 + k) for k, (n, each) in enumerate(tests.items())
    }
    chosen, rows = _thresholds(held), []
    for name, test in tests.items():
        for how, scores in _subtracted(test).items():
            rows.append(_judged(test, scores, chosen[how], name, how))
    fluxes = []
    for seed in range(n_seeds):
        start = time.perf_counter()
        finder = differencing.TransientFinder(epochs=n_epochs, seed=seed).fit(learnt, held)
        seconds = time.perf_counter() - start
        found = differencing.detections(held, finder.scores(held))
        greatest = differencing.best_threshold(found, held)
        print(f"seed {seed}: {len(learnt)} pairs, {n_epochs} epochs, {seconds:.0f} s")
        for name, test in tests.items():
            start = time.perf_counter()
            scores = finder.scores(test)
            seconds = (time.perf_counter() - start) / len(test)
            about = {"seed": seed, "ms": 1e3 * seconds}
            for how, threshold in {"network": finder.threshold_, "network, F1": greatest}.items():
                rows.append(_judged(test, scores, threshold, name, how) | about)
            fluxes.append({"test": name, "seed": seed} | _fluxes(finder, test))
    table, fluxes = pd.DataFrame(rows), pd.DataFrame(fluxes)
    print(f"\n{n_test} pairs a set, S/N of {differencing.COMPLETE:g} and more, mean of the seeds")
    values = table.drop(columns="seed").groupby(["test", "method"], sort=False)
    print(values.mean().round(3).to_string())
    if n_seeds > 1:
        print("\nstandard deviation over the seeds")
        print(values.std().dropna(how="all").round(3).to_string())
    print("\nflux found / true, at S/N of 5 and more")
    print(fluxes.round(3).to_string(index=False))
    return table, fluxes


def _backgrounds():
    """Return lists of backgrounds to learn from, and those to judge by, named."""
    if not os.environ.get("SKYNB_MIRROR"):
        return [image_pairs.skies(300)], {"simulated": image_pairs.skies(100, seed=1)}
    frames = differencing.backgrounds("eso085-030")
    column = [int(each.group.rpartition(",")[2]) for each in frames]
    left = [each for each, k in zip(frames, column, strict=True) if k < N_COLUMNS]
    right = [each for each, k in zip(frames, column, strict=True) if k >= N_COLUMNS]
    return [left, differencing.backgrounds("ztf-alerts-2018")], {
        "eso085-030": right,
        "ztf-alerts-2023": differencing.backgrounds("ztf-alerts-2023"),
        "abell2744": differencing.backgrounds("abell2744"),
    }


def _subtracted(pairs):
    """Return the scores of every way of subtracting."""
    scores = {"naive": [], "psf_matched": [], "zogy": []}
    for k, row in enumerate(pairs.about.itertuples()):
        pair, width = (pairs.reference[k], pairs.science[k]), {"fwhm": row.fwhm}
        scores["naive"].append(subtraction.naive(*pair, **width))
        scores["psf_matched"].append(subtraction.psf_matched(*pair, **width))
        width["fwhm_reference"] = row.fwhm_reference
        scores["zogy"].append(subtraction.zogy(*pair, **width, gain=row.gain))
    return scores


def _thresholds(held):
    found = {how: differencing.detections(held, each) for how, each in _subtracted(held).items()}
    return {how: differencing.best_threshold(each, held) for how, each in found.items()}


def _judged(pairs, scores, threshold, name, how):
    """Return precision, recall and F1 at the threshold, and the precision at a recall of 0.76."""
    found = differencing.detections(pairs, scores)
    table = differencing.curve(found, pairs)
    reached = table.loc[table["recall"] >= 0.76, "precision"].max()
    values = differencing.at_threshold(found, pairs, threshold).to_dict()
    return (
        {"test": name, "method": how}
        | values
        | {"p at r 0.76": reached, "best f1": table["f1"].max()}
    )


def _fluxes(finder, pairs):
    """Return the ratio of the flux found to the true one, and how honest its error is."""
    found = differencing.match(finder.catalogues(pairs), pairs)
    found = found[found["snr_true"] >= differencing.COMPLETE]
    ratio, faint = found["flux"] / found["flux_true"], found["snr_true"] < 10
    pull = (found["flux"] - found["flux_true"]) / found["flux_err"]
    spread = pull.quantile([0.16, 0.84]).diff().iloc[1] / 2
    weights = found["flux_true"] / found["flux_err"] ** 2
    weighted = np.sum(weights * found["flux"]) / np.sum(weights * found["flux_true"])
    return {
        "n": len(found), "median": ratio.median(), "mean": ratio.mean(), "weighted": weighted,
        "S/N 5-10": ratio[faint].median(), "S/N 10-50": ratio[~faint].median(), "pull": spread,
    }  # fmt: skip


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
