"""Transfer: networks moved to another survey with few labels, beside scratch and no retraining.

    python -m benchmarks.bench_transfer [DRAWS] [NETWORKS] [LABELS ...]

Catalina to ASAS, and one half of Catalina to the other at one exposure a night (about a quarter of
the observations), if SKYNB_MIRROR is set; else from the simulated Catalina cadence to ZTF's r band.
`skynb.networks.compare_transfer` says what is compared; ``in domain`` are the target's own networks
with all labels, in five folds. Figures are balanced accuracies, ± over draws.
"""

import hashlib
import os
import sys

import numpy as np
import pandas as pd

from skynb import datasets, evaluate, lightcurves, networks, simulate, taxonomy

LABELS = (2, 5, 10, 20)
ASAS = {"MIRA": "LPV"}
FEW = {"epochs": 60, "batch_size": 16, "validation": 0}  # in domain, below 1,000 objects


def main(n_draws=20, n_networks=1, *n_labels):
    """Return one row per target, number of labels and draw, as a DataFrame, and print a summary.

    ``won`` counts the draws in which transfer is better; ``share`` is that of in domain.
    """
    tables, alone = [], {"n_networks": n_networks}
    for name, source, (images, y) in _surveys():
        learner = networks.DmDtCNN(**alone).fit(*source)
        least = np.unique(y, return_counts=True)[1].min()
        kept = [n for n in n_labels or LABELS if 1.5 * n <= least]
        rows = networks.compare_transfer(learner, images, y, n_labels=kept, n_draws=n_draws)
        fit = alone | (FEW if len(y) < 1000 else {})
        own = evaluate.cross_validate(
            lambda seed, fit=fit: networks.DmDtCNN(seed=seed, **fit), images, y, seeds=(0,)
        )
        in_domain = own.scores()["balanced_accuracy"].iloc[0]
        tables.append(rows.assign(target=name, in_domain=in_domain))
        print(f"{name}: {len(y)} objects, {n_draws} draws, in domain {in_domain:.3f}")
        print(
            "labels  none   scratch          transfer         - none (won)   - scratch (won)  share"
        )
        for n, part in rows.groupby("n_labels"):
            shown = [f"{n:6d}  {part['none'].mean():.3f}"]
            shown += [
                f"{part[c].mean():8.3f} ± {part[c].std():.3f}" for c in ("scratch", "transfer")
            ]
            for other in ("none", "scratch"):
                gain = part["transfer"] - part[other]
                shown.append(f"{gain.mean():+.3f} ({(gain > 0).sum()}/{n_draws})")
            print("  ".join(shown), f"{part['transfer'].mean() / in_domain:8.0%}", flush=True)
    return pd.concat(tables, ignore_index=True)


def _surveys():
    """Yield the name of each target, and images and labels of its source and of itself."""
    if not os.environ.get("SKYNB_MIRROR"):
        source = simulate.lightcurves(n_per_class=60)
        target = simulate.lightcurves(n_per_class=40, cadence="ztf", seed=1)
        target = lightcurves.select_band(target, "r")
        yield "simulated ztf r", _measured(source), _measured(target, n_copies=0)
        return
    lcs = _seven(datasets.load("crts"), "crts")
    asas = datasets.load("asas")
    asas["label"] = [ASAS.get(name, name) for name in taxonomy.harmonize(asas["label"], "asas")]
    asas = asas[asas["label"].isin(taxonomy.SEVEN) & (asas["label"] != "RRd")]
    yield "crts -> asas", _measured(lcs), _measured(asas, n_copies=0)
    half = np.array([int(hashlib.sha1(i.encode()).hexdigest(), 16) % 2 == 0 for i in lcs.index])
    other = _measured(_nightly(lcs[~half]), n_copies=0)
    yield "crts -> crts, one exposure a night", _measured(lcs[half]), other


def _seven(lcs, survey):
    lcs["label"] = taxonomy.harmonize(lcs["label"], survey)
    return lcs[lcs["label"].isin(taxonomy.SEVEN)]


def _nightly(lcs):
    """Return the table with the first observation of every night."""
    flat = lcs["lightcurve"].nest.to_flat().reset_index()
    first = ~flat.assign(night=np.floor(flat["mjd"])).duplicated(["object_id", "night"])
    return lightcurves.from_flat(flat[first].join(lcs["label"], on="object_id"))


def _measured(lcs, n_copies=6):
    return networks.augmented(lcs, n_copies=n_copies), lcs["label"].to_numpy(str)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
