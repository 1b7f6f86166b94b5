"""Maps, spreading labels and hidden classes: skynb.embed and skynb.outliers on Catalina's features.

    python -m benchmarks.bench_maps [DRAWS]

The seven classes of Catalina if SKYNB_MIRROR is set, else simulated ones. Labels spread from 5 % of
the objects, drawn at random, and are judged on all others, beside a forest that has the labels of
four fifths of them (five folds, seeds 0, 1, 2). Each class in turn is hidden from a detector, which
then has to find it strange. A map is made of the four fifths, and the last fifth is placed on it.
"""

import os
import sys
import time

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier

from skynb import datasets, embed, evaluate, features, outliers, taxonomy

SHARE = 0.05
"""Of the labels that are known."""

SEEDS = (0, 1, 2)


def main(n_draws=20):
    """Return the figures as a dict of DataFrames, and print them."""
    name = "crts" if os.environ.get("SKYNB_MIRROR") else "simulated"
    lcs = datasets.load(name)
    lcs = lcs[lcs["label"].isin(taxonomy.SEVEN)]
    X, y = features.extract(lcs, progress=False), lcs["label"].to_numpy(str)
    print(f"{name}: {len(X)} objects, {X.shape[1]} features")
    return {
        "labels": _spread(X, y, n_draws),
        "hidden": _hidden(X, y),
        "maps": _maps(X, y),
    }


def _spread(X, y, n_draws):
    """Return accuracies of labels that spread, one row per draw, beside the forest's."""
    judged, start = evaluate.cross_validate(_forest, X, y, seeds=SEEDS, progress=False), time.time()
    forest = judged.scores().mean()
    rows = []
    for draw in range(n_draws):
        known = np.random.default_rng(draw).permutation(len(y)) < SHARE * len(y)
        said = embed.propagate(X, np.where(known, y, ""), seed=draw)
        said = said.reindex(columns=judged.classes, fill_value=0.0)[~known]
        few = _forest(draw).fit(X[known], y[known])
        alone = np.mean(few.predict(X[~known]) == y[~known])
        rows.append(evaluate.scores(y[~known], said, said.columns) | {"forest_of_few": alone})
    table, seconds = pd.DataFrame(rows), (time.time() - start) / n_draws
    print(f"\nlabels of {SHARE:.0%} of the objects, {n_draws} draws, {seconds:.1f} s each")
    for measure in ("accuracy", "balanced_accuracy"):
        spread = table[measure]
        print(
            f"{measure:>18} {spread.mean():.3f} ± {spread.std():.3f}, supervised forest "
            f"{forest[measure]:.3f}, ratio {spread.mean() / forest[measure]:.1%}, "
            f"worst draw {spread.min() / forest[measure]:.1%}"
        )
    alone = table["forest_of_few"].mean()
    print(f"a forest of these labels alone: {alone:.3f}, ratio {alone / forest['accuracy']:.1%}")
    return table.assign(supervised=forest["accuracy"])


def _forest(seed):
    return RandomForestClassifier(
        300, class_weight="balanced_subsample", min_samples_leaf=2, random_state=seed
    )


def _hidden(X, y):
    """Return the area under the curve of every hidden class, method and seed."""
    tables = {}
    for method in outliers.METHODS:
        start = time.time()
        tables[method] = outliers.hidden_class(X, y, method=method, seeds=SEEDS, progress=False)
        print(f"\nhidden class, {method}, {time.time() - start:.0f} s: AUROC")
        for name, areas in tables[method].iterrows():
            print(f"{name:>18} {areas.mean():.3f} ± {areas.std():.3f}")
    return pd.concat(tables, names=["method"])


def _maps(X, y):
    """Return how good t-SNE maps of four fifths are, one row per seed."""
    train, test = next(StratifiedKFold(5, shuffle=True, random_state=0).split(X, y))
    maps, rows = [], []
    for seed in SEEDS:
        start = time.time()
        found = embed.tsne(X.iloc[train], seed=seed)
        middle = time.time()
        nearest = KNeighborsClassifier(15).fit(found.embedding, y[train])
        placed = nearest.predict_proba(found.transform(X.iloc[test]))
        row = {"fit_s": middle - start, "transform_s": time.time() - middle}
        row["trustworthiness"] = embed.trustworthiness(X.iloc[train], found.embedding, seed=seed)
        row["purity"] = embed.purity(found.embedding, y[train]).mean()
        placed = evaluate.scores(y[test], placed, nearest.classes_)
        rows.append(row | {"placed_" + each: placed[each] for each in ("accuracy", "mcc")})
        maps.append(found.embedding)
    table, stability = pd.DataFrame(rows, SEEDS), embed.stability(maps)
    print(f"\nt-SNE of {len(train)} objects, {len(test)} placed; stability {stability:.3f}")
    print(table.round(3).to_string())
    return table.assign(stability=stability)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
