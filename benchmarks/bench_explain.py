"""Explanations: which maps are true, whether planted points carry the weight, how long it takes.

    python -m benchmarks.bench_explain [OBJECTS] [NETWORKS]

The deep network learns from four fifths of Catalina's seven classes if SKYNB_MIRROR is set, else
from simulated ones, and is explained on OBJECTS (100) of the last fifth. A second one learns to
tell quiet stars from those with a planted flare or eclipses, and is explained on 200 others.
"""

import os
import sys
import time

import numpy as np
import pandas as pd
import psutil

from skynb import datasets, dmdt, explain, faithfulness, lightcurves, networks, simulate, taxonomy

GRADIENT = (
    *("integrated", "gradient_input", "saliency", "smoothgrad", "deconvnet"),
    *("gradcam", "gradcam++", "layercam"),
)


def main(n_objects=100, n_networks=1):
    """Return the table of methods, that of planted observations and that of times; print them."""
    print(f"others may be working: load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    model, images = _learnt(n_networks)
    some = np.random.default_rng(1).permutation(len(images))[:n_objects]
    tables = [faithfulness.table(model, images[some])]
    print(f"\n{len(some)} held-out objects; areas under curves, rank correlations")
    print(tables[0].drop(columns="seconds").astype(float).round(3).to_string(), flush=True)
    print(f"\nweights shuffled from the last layer on, {explain.RECOMMENDED}")
    print(faithfulness.randomization(model, images[some]).round(3).to_string())
    tables.append(_timed(model, images))
    print("\nseconds; memory that 1,000 objects add [MB]")
    print(tables[1].round(3).to_string(), flush=True)
    tables.append(planted())
    print("\nplanted flares and eclipses: share of the weight on the planted observations")
    print(tables[2].round(3).to_string())
    return tables


def _learnt(n_networks):
    """Return a network and images that it has not seen."""
    lcs = datasets.load("crts" if os.environ.get("SKYNB_MIRROR") else "simulated")
    lcs["label"] = taxonomy.harmonize(lcs["label"], "crts")
    lcs = lcs[lcs["label"].isin(taxonomy.SEVEN)]
    held, y = np.random.default_rng(0).uniform(size=len(lcs)) < 0.2, lcs["label"].to_numpy(str)
    model = networks.DmDtCNN(n_networks=n_networks).fit(networks.augmented(lcs[~held]), y[~held])
    images = dmdt.images(lcs[held], grid=networks.FINE_GRID)
    right = np.mean(model.predict(images) == y[held])
    print(f"{len(lcs)} objects, {n_networks} network, {right:.3f} of {len(images)} right")
    return model, images


def _timed(model, images):
    """Return seconds for one object (best of 5) and for 1,000, and the memory that is kept."""
    many, rows, process = np.resize(images, (1000, *images.shape[1:])), {}, psutil.Process()
    for name in explain.METHODS:
        explain.attribute(model, many[:2], method=name)
        row = {"one object": min(_seconds(model, many[:1], name) for _ in range(5))}
        if name in GRADIENT:
            before = process.memory_info().rss
            row["1,000 objects"] = _seconds(model, many, name)
            row["memory"] = (process.memory_info().rss - before) / 1e6
        rows[name] = row
    return pd.DataFrame(rows).T


def _seconds(model, images, name):
    start = time.perf_counter()
    explain.attribute(model, images, method=name)
    return time.perf_counter() - start


def planted(n_per_class=100):
    """Return by kind and method: median share, and part of the objects where it is 0.6 or more.

    The weight is what of the shares is above 0. ``halves``: a pair's share is halved.
    """
    grid = networks.FINE_GRID
    train = simulate.planted(n_per_class=200, seed=1)
    model = networks.DmDtCNN(n_networks=1, epochs=30)
    model.fit(networks.augmented(train, n_copies=3), train["label"].to_numpy(str))
    quiet = dmdt.images(train[train["label"] == "quiet"], grid=grid).mean(axis=0)
    lcs = simulate.planted(("flare", "eclipse"), n_per_class=n_per_class, seed=20)
    images, y = dmdt.images(lcs, grid=grid), lcs["label"].to_numpy(str)
    right = np.mean(model.predict(images) == y)
    marked = np.asarray(lcs["lightcurve.planted"], dtype=bool)
    objects = lightcurves.arrays(lcs).objects
    part = np.bincount(objects, marked) / np.bincount(objects)
    print(f"\n{right:.3f} of {len(y)} right; planted are at most {part.max():.3f} of the points")
    why = {"against": "quiet", "baseline": quiet}
    ways = {
        "integrated, against quiet": ("integrated", why, 3),
        "the same, halves": ("integrated", why, 0),
        "integrated": ("integrated", {}, 3),
        "blanking, against quiet": ("blanking", why, 3),
        "saliency": ("saliency", {}, 3),
        "random": ("random", {}, 3),
    }
    rows = []
    for name, (method, options, n_rounds) in ways.items():
        maps = explain.attribute(model, images, y, method=method, **options)
        weight = explain.shares(lcs, maps, n_rounds=n_rounds).values.clip(0)
        held = np.bincount(objects, weight * marked) / np.bincount(objects, weight)
        for kind in ("flare", "eclipse", "both"):
            chosen = held[(y == kind) | (kind == "both")]
            enough = np.mean(chosen >= 0.6)
            rows.append((name, kind, np.median(chosen), enough))
    return pd.DataFrame(rows, columns=["map", "kind", "median", "0.6 or more"])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
