"""When to trust: coverage of prediction sets, unfamiliar objects, drift, confident errors.

    python -m benchmarks.bench_trust [OBJECTS_PER_CLASS]

The seven classes of Catalina if SKYNB_MIRROR is set, else simulated ones. Forests on features are
trained on half of the objects; the other half is divided into calibration and test again and again.
Networks are small ones, for time: at most so many objects of each class (200), one network, 12
epochs. Supernovae and flares are simulated, and so are the seven classes that they are told from:
against real ones, a score could tell simulated from real instead. That is shown for comparison.
"""

import os
import sys
import time
from functools import partial

import numpy as np
import pandas as pd
import psutil
from sklearn.model_selection import train_test_split

from skynb import (
    classify,
    datasets,
    distributions,
    evaluate,
    features,
    networks,
    outliers,
    simulate,
    taxonomy,
    trust,
)

LEVEL = 0.9
SEEDS = (0, 1, 2)
N_SPLITS = 20
"""Of the objects that a forest has not seen into calibration and test."""

STRANGE = ("SN", "flare")
SIMULATED_SEED = 20_000
"""Of objects made for this table alone."""


def main(n_per_class=200):
    """Return the figures as a dict of DataFrames, and print them."""
    real = bool(os.environ.get("SKYNB_MIRROR"))
    lcs = datasets.labelled(datasets.load("crts" if real else "simulated"), taxonomy.SEVEN)
    start = time.perf_counter()
    data = classify.measure(lcs, "forest", progress=False)
    y = lcs["label"].to_numpy(str)
    print(f"{len(y)} objects, features in {time.perf_counter() - start:.0f} s")
    forests = [_forest(data, y, seed) for seed in SEEDS]
    found = {"coverage": _coverage(y, forests)}
    found["hidden"] = _hidden(data, y, n_per_class)
    found["simulated"] = _simulated(data, y, n_per_class)
    if real:
        found["drift"] = _drift(data, y, forests[0])
    found["errors"] = _errors(data, y)
    found["overhead"] = _overhead(data, y, n_per_class)
    return found


def _forest(data, y, seed):
    """Return the forest, the rows it has not seen, and what it says of them."""
    train, rest = train_test_split(np.arange(len(y)), train_size=0.5, stratify=y, random_state=seed)
    forest = classify.LightCurveClassifier("forest", options={"n_trees": 200}, seed=seed)
    forest.fit(data[train], y[train])
    return forest, rest, forest.predict_proba(data[rest])


def _coverage(y, forests):
    """Return the coverage of every method: mean and spread over splits, and each class's."""
    ways = {"in the mean": {}, "by class": {"by_class": True}}
    rows = []
    for forest, rest, said in forests:
        for split in range(N_SPLITS):
            halves = train_test_split(
                np.arange(len(rest)), test_size=0.5, stratify=y[rest], random_state=split
            )
            for name, options in ways.items():
                sets = trust.PredictionSets(LEVEL, **options)
                sets.fit(y[rest][halves[0]], said[halves[0]], forest.classes_)
                table = trust.coverage(y[rest][halves[1]], sets.predict(said[halves[1]]))
                by_class = table["coverage"].to_dict()
                rows.append(
                    {"method": name} | by_class | table.loc["all", "size":"empty"].to_dict()
                )
    table = pd.DataFrame(rows).groupby("method", sort=False)
    spread = table["all"].agg(["mean", "std", "min", "max"])
    print(f"\nprediction sets, {LEVEL:.0%}, {len(SEEDS)} forests, {N_SPLITS} splits each")
    print(pd.concat([spread, table.mean().drop(columns="all")], axis=1).round(3).to_string())
    return table.mean()


def _network(lcs, y, **options):
    """Return a small network and the scores that were fitted to its training objects."""
    images = networks.augmented(lcs, n_copies=1)
    learner = networks.DmDtCNN("deep", n_networks=1, epochs=12, patience=6, **options)
    network = learner.fit(images, y).networks_[0]
    return network, outliers.Unfamiliar().fit(networks.activations(network, images[:, 0]), y)


def _scores(network, unfamiliar, detector, data, images):
    """Return every score of some objects: the network's own four, and of their features."""
    inside = networks.activations(network, images)
    table = unfamiliar.score(inside, networks.logits(network, inside))
    return table.assign(features=detector.score(data.features))


def _capped(y, n_per_class, seed=0):
    """Return the rows of at most so many objects of each class, and the rows of the others."""
    order = np.random.default_rng(seed).permutation(len(y))
    first = pd.Series(y[order]).groupby(y[order]).cumcount() < n_per_class
    return np.sort(order[first]), np.sort(order[~first])


def _hidden(data, y, n_per_class):
    """Return the AUROC of every score for every class that was left out of the training."""
    images, rows, start = networks.augmented(data.lcs, n_copies=0)[:, 0], {}, time.perf_counter()
    half, rest = train_test_split(np.arange(len(y)), train_size=0.5, stratify=y, random_state=0)
    for name in np.unique(y):
        known = half[y[half] != name]
        train = known[_capped(y[known], n_per_class)[0]]
        network, unfamiliar = _network(data.lcs.iloc[train], y[train])
        detector = outliers.Detector("density").fit(data.features.iloc[train])
        scores = partial(_scores, network, unfamiliar, detector)
        new, strange = rest[y[rest] != name], np.flatnonzero(y == name)
        rows[name] = outliers.auroc(
            scores(data[new], images[new]), scores(data[strange], images[strange])
        )
    table = pd.DataFrame(rows).T.rename_axis("class left out")
    print(f"\nleft-out class, AUROC; {time.perf_counter() - start:.0f} s")
    print(table.round(2).to_string())
    return table


def _simulated(data, y, n_per_class):
    """Return the AUROC of supernovae and flares against seven classes, simulated and real."""
    start, make = time.perf_counter(), partial(simulate.lightcurves, cadence="crts")
    parts = {
        "train": make(n_per_class=n_per_class, seed=SIMULATED_SEED),
        "seven": make(n_per_class=max(20, n_per_class // 4), seed=SIMULATED_SEED + 1),
        **{n: make(n_per_class=100, classes=[n], seed=SIMULATED_SEED + 2) for n in STRANGE},
    }
    measured = {n: classify.measure(lcs, "forest", progress=False) for n, lcs in parts.items()}
    images = {n: networks.augmented(lcs, n_copies=0)[:, 0] for n, lcs in parts.items()}
    half, rest = _capped(y, n_per_class)
    rest = rest[_capped(y[rest], 100)[0]]
    real, known = data[rest], networks.augmented(data.lcs.iloc[rest], n_copies=0)[:, 0]
    rows = {}
    for name, train, labels in (
        ("simulated", measured["train"], parts["train"]["label"].to_numpy(str)),
        ("real", data[half], y[half]),
    ):
        network, unfamiliar = _network(train.lcs, labels)
        detector = outliers.Detector("density").fit(train.features)
        scores = partial(_scores, network, unfamiliar, detector)
        judged = {each: scores(measured[each], images[each]) for each in parts if each != "train"}
        against = judged.pop("seven")
        if name == "real":
            judged["seven, simulated"] = against
            against = scores(real, known)
        for each, table in judged.items():
            rows[f"{each} against seven, {name}"] = outliers.auroc(against, table)
    table = pd.DataFrame(rows).T
    print(f"\nsupernovae and flares, AUROC; {time.perf_counter() - start:.0f} s")
    print(table.round(3).to_string())
    return table


def _drift(data, y, forest):
    """Return what tells ASAS from Catalina, in the classes that both have, in equal numbers."""
    classifier, rest, said = forest
    asas = datasets.load("asas")
    asas["label"] = asas["label"].replace("MIRA", "LPV")
    there = asas["label"].to_numpy()
    shared = [n for n in np.unique(y) if (there == n).sum() >= 20]
    asas = classify.measure(asas[asas["label"].isin(shared)], "forest", progress=False)
    there, rng = asas.lcs["label"].to_numpy(str), np.random.default_rng(0)
    here = [
        rng.choice(np.flatnonzero(y == n), min((there == n).sum(), (y == n).sum()), False)
        for n in shared
    ]
    here = np.concatenate(here)
    a, b = data.features.iloc[here], asas.features
    halves = train_test_split(np.arange(len(a)), test_size=0.5, stratify=y[here], random_state=0)
    found = {
        "ASAS against Catalina": trust.drift(a, b),
        "Catalina against itself": trust.drift(*(a.iloc[rows] for rows in halves)),
        "without magnitudes": trust.drift(*(_colourless(each) for each in (a, b))),
    }
    print(f"\ndrift: {len(b)} objects of {', '.join(shared)}")
    for name, each in found.items():
        print(f"{name:>24} AUROC {each.auroc:.3f} ± {each.error:.3f}")
    print(found["ASAS against Catalina"].shifts.head(8).round(2).to_string())
    sets = trust.PredictionSets(LEVEL).fit(y[rest], said, classifier.classes_)
    moved = trust.coverage(there, sets.predict(classifier.predict_proba(asas)))
    print("Catalina's sets on ASAS")
    print(moved.round(3).to_string())
    return moved


def _colourless(X):
    """Return features without those of brightness, which tell how deep a survey looks."""
    return X.drop(columns=[n for n in X if n in ("mean", "median")])


def _errors(data, y):
    """Return what was said with confidence and is wrong, out of fold, in groups."""
    result = evaluate.cross_validate(
        lambda seed: classify.LightCurveClassifier("boosted", seed=seed), data, y,
        seeds=(0,), progress=False,
    )  # fmt: skip
    Z, labels = features.Gaussian().fit(data.features).transform(data.features), data.lcs["label"]
    said = result.probability[0]
    table = trust.confident_errors(labels, said, result.classes, embedding=Z)
    sure = (said.max(axis=1) >= 0.9).sum()
    print(f"\n{len(table)} of {sure} objects said with 90 % and more are wrong")
    print(trust.groups(table).to_string())
    return table


def _overhead(data, y, n_per_class):
    """Return the time and memory of training with and without the percentiles of every layer."""
    rows = _capped(y, n_per_class)[0]
    x, codes = networks.augmented(data.lcs.iloc[rows], n_copies=0), np.unique(y[rows])
    process, table = psutil.Process(), []
    for depth in networks.DEPTHS:
        seen = distributions.Distributions(
            networks.inputs(x[:, 0]), np.searchsorted(codes, y[rows])
        )
        learner = networks.DmDtCNN(depth, n_networks=1, epochs=6, validation=0)
        learner.fit(x, y[rows], callbacks=[seen])
        for callbacks in ([], [seen]):
            before, start = process.memory_info().rss, time.perf_counter()
            learner.fit(x, y[rows], callbacks=callbacks)
            seconds = time.perf_counter() - start
            grown = (process.memory_info().rss - before) / 1e6
            table.append((depth, bool(callbacks), seconds, grown))
    table = pd.DataFrame(table, columns=["network", "percentiles", "seconds", "grown_mb"])
    print(f"\npercentiles of every layer, {len(rows)} objects, 6 epochs")
    print(table.round(1).to_string(index=False))
    return table


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
