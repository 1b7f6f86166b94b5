"""Real or bogus: the survey's scores reproduced, a network of one's own, triplets per second.

    python -m benchmarks.bench_realbogus [N_SEEDS]

All of it needs SKYNB_MIRROR but for the speed, which is then that of simulated triplets. One's own
network learns from one exposure of 2018, and from bogus and real sources planted in the same
cutouts; the labels of both are scores of d6_m7. It is judged on other nights. Its recipe was chosen
by the loss on parts of the exposure of 2018 that are held out; the nights that judge were scored
with three shorter recipes before. 5 seeds take an hour on one busy core.
"""

import os
import sys
import time

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from skynb import alerts, datasets, planted, realbogus

NIGHTS = ("ztf-alerts-2020", "ztf-alerts-2023", "ztf-alerts")
"""That judge; the network learns from ztf-alerts-2018."""

N_PLANTED = 9000
KINDS = planted.REAL_KINDS + planted.BOGUS_KINDS + ("seen",) * 6 + ("grafted",) * 9
RECIPE = {"epochs": 18, "patience": 18, "learning_rate": 1e-3, "decay": True, "batch_size": 32}
COST_MISSED = 20
"""Of a real source thrown away, in units of a bogus one kept."""


def main(n_seeds=5):
    """Return the figures as a dict of DataFrames, and print them."""
    found = {}
    if os.environ.get("SKYNB_MIRROR"):
        nights = {name: read(name) for name in NIGHTS}
        found["drb"] = _drb(nights)
        found["own"] = _own(nights, n_seeds)
        found["path"] = _path()
    found["speed"] = _speed()
    return found


def read(name):
    """Return the triplets of a data set and its candidates, each alert once."""
    found = alerts.read(datasets.contents(name), history=False, progress=False)
    return found.triplets, found.candidates


def _drb(nights):
    """Return how far the official network's scores are from the packets' own."""
    rows, official = {}, realbogus.official()
    for name, (triplets, table) in nights.items():
        known = table["drbversion"] == "d6_m7"
        away = np.abs(official.score(triplets[known]) - table["drb"][known])
        rows[name] = (len(away), (away <= 1e-6).sum(), away.max())
    rows = pd.DataFrame(rows, ["alerts", "within_1e-6", "furthest"]).T
    print(rows.to_string(float_format="{:.3g}".format))
    return rows


def quarters(table):
    """Return the part of the exposure, one of 16, that each alert lies in."""
    return sum(4**k * pd.qcut(table[c], 4, labels=False) for k, c in enumerate(("ra", "dec")))


def _own(nights, n_seeds):
    """Return the figures of networks trained on 2018, one row for each seed."""
    triplets, table = read("ztf-alerts-2018")
    label, groups = realbogus.official().score, quarters(table).to_numpy()
    judges = np.concatenate([each for each, _ in nights.values()])
    tables = pd.concat([table.assign(night=name) for name, (_, table) in nights.items()])
    once = ~tables.index.duplicated()
    judges, tables = judges[once], tables[once]
    real, asteroid = tables["drb"].to_numpy() > 0.5, tables["ssdistnr"].between(0, 5).to_numpy()
    rows = []
    for seed in range(n_seeds):
        start = time.perf_counter()
        more, made = planted.triplets(
            N_PLANTED, base=triplets, groups=groups, kinds=KINDS, seed=seed
        )
        x, parts = np.concatenate([triplets, more]), np.r_[groups, groups[made["base"]]]
        own = realbogus.RealBogus(**RECIPE, seed=seed, progress=True)
        own.fit(x, label(x), groups=parts)
        own.set_params(progress=False)
        seconds, said = time.perf_counter() - start, own.score(judges)
        cut = realbogus.threshold(label(x), own.score(x), cost_missed=COST_MISSED)
        rows.append(
            {"auc": roc_auc_score(real, said)}
            | {
                f"auc {name}": roc_auc_score(real[of], said[of])
                for name in NIGHTS
                for of in [(tables["night"] == name).to_numpy()]
            }
            | {"threshold": cut}
            | {
                f"{name} at {at}": np.mean(said[of] > level)
                for at, level in (("0.5", 0.5), ("threshold", cut))
                for name, of in (("asteroids", asteroid), ("real", real), ("bogus", ~real))
            }
            | {"seconds": seconds, "epochs": len(own.losses_)}
        )
        print(pd.Series(rows[-1]).round(4).to_string(), flush=True)
    rows = pd.DataFrame(rows)
    print(f"\n{len(real)} alerts, {(~real).sum()} of drb < 0.5, {asteroid.sum()} asteroids")
    print(f"official: {np.mean(tables['drb'][asteroid] > 0.5):.4f} of the asteroids above 0.5")
    print(rows.agg(["mean", "std", "min", "max"]).T.round(4).to_string())
    return rows


def _path():
    """Return alerts per second from the packets in an archive to their scores."""
    data, model = datasets.contents("ztf-alerts-2023"), realbogus.official()
    model.score(np.ones((1, *model.network_.input_shape[1:])))
    start = time.perf_counter()
    n = sum(
        len(model.score(batch.triplets))
        for batch in alerts.stream(data, history=False, progress=False)
    )
    rate = pd.DataFrame({"alerts_per_s": [n / (time.perf_counter() - start)]}, ["packet to score"])
    print(rate.to_string(float_format="{:.4g}".format))
    return rate


def _speed(n=2048, n_rounds=7):
    """Return triplets per second, every way in turn, the best and the median of the rounds."""
    real = bool(os.environ.get("SKYNB_MIRROR"))
    if real:
        some, model = read("ztf-alerts-2023")[0], realbogus.official()
    else:
        some, table = planted.triplets(256)
        model = realbogus.RealBogus(epochs=1, validation=0).fit(some, table["real"])
    some = np.resize(some, (n, *some.shape[1:]))
    fed = model.inputs(some)
    predict, options = model.network_.predict, {"batch_size": 256, "verbose": 0}
    ways = {
        "Keras predict": lambda: predict(fed, **options),
        "score": lambda: model.score(fed, normalized=model.normalization),
        "normalize, Keras predict": lambda: predict(model.inputs(some), **options),
        "normalize, score": lambda: model.score(some),
    }
    answers, seconds = {name: way().ravel() for name, way in ways.items()}, {n: [] for n in ways}
    for _ in range(n_rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    table = pd.DataFrame(seconds).agg(["min", "median"]).T
    table = (n / table).set_axis(["best", "median"], axis=1)
    peers = table["best"].to_numpy()[[0, 0, 2, 2]]
    table["ratio"] = table["best"] / peers
    first = answers["Keras predict"]
    table["furthest"] = [np.abs(answer - first).max() for answer in answers.values()]
    print(f"\ntriplets per second, {os.cpu_count()} cores")
    print(table.to_string(float_format="{:.4g}".format))
    return table


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
