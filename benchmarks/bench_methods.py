"""The table of methods: every classifier on the same objects, in the same folds.

    python -m benchmarks.bench_methods [METHOD ...]

The 5,241 Catalina light curves of seven classes if SKYNB_MIRROR is set, else simulated ones. Five
folds by object; three seeds, each of which changes the folds and the learner. Learning and judging
are timed without the measuring (features, periods, images), which is done once and timed by itself.
On real data a row goes into docs/methods.csv as soon as its method is done, and the table into the
README.
"""

import os
import re
import sys
import time
from pathlib import Path

import pandas as pd

from skynb import classify, datasets, evaluate, periods, taxonomy

METHODS = {
    "structure functions, pairs": ("structure", {"order": "pairs"}),
    "structure functions, triplets": ("structure", {"order": "triplets"}),
    "dm-dt CNN, the paper's": ("dmdt_cnn", {"depth": "shallow"}),
    "dm-dt CNN, deeper": ("dmdt_cnn", {"depth": "deep"}),
    "Bayesian network": ("bayes_net", {}),
    "random forest": ("forest", {}),
    "extra trees": ("extra_trees", {}),
    "boosting": ("boosted", {}),
    "boosting along the tree": ("hierarchical", {}),
    "hybrid": ("hybrid", {}),
}
SEEDS = (0, 1, 2)
DOCS, README = Path("docs/methods.csv"), Path("README.md")


def main(*names):
    """Print and keep a row for every method, in the order of `METHODS`."""
    lcs = datasets.load("crts" if os.environ.get("SKYNB_MIRROR") else "simulated")
    lcs = datasets.labelled(lcs, taxonomy.SEVEN)
    y = lcs["label"].to_numpy(str)
    start = time.perf_counter()
    found = periods.search(lcs)
    print(f"{len(lcs)} objects; period search {time.perf_counter() - start:.0f} s")
    for name in names or METHODS:
        kind, options = METHODS[name]
        data = classify.measure(lcs, kind, found=found)
        result = evaluate.cross_validate(
            lambda seed: classify.LightCurveClassifier(kind, options=options, seed=seed),  # noqa: B023
            data, y, seeds=SEEDS,
        )  # fmt: skip
        row = _row(result, kind)
        print(name, row.to_dict())
        if os.environ.get("SKYNB_MIRROR"):
            _keep(name, row)


def _row(result, kind):
    """Return mean ± spread over the seeds of every figure, as text."""
    table = result.scores()
    names, mix = result.classes, classify.believed_mix(kind, result.y)
    if set(names) == set(evaluate.PAPER_MIX):
        weights = evaluate.reweight(result.y)
        adjusted = [evaluate.adjust(each, names, mix) for each in result.probability]
        mixed = [evaluate.scores(result.y, each, names, weights=weights) for each in adjusted]
        for name in ("accuracy", "mcc"):
            table[f"{name}, paper's mix"] = [each[name] for each in mixed]
    recall = [evaluate.per_class(result.y, each, names)["recall"] for each in result.probability]
    table["lowest recall"] = pd.DataFrame(recall).mean().min()
    said = table.agg(["mean", "std"])
    row = {name: f"{m:.3f} ± {s:.3f}" for name, (m, s) in said.items()}
    row["lowest recall"] = f"{recall[0].idxmin()} {table['lowest recall'].iloc[0]:.2f}"
    n_folds = 1 + result.fold.max()
    row["learn [s]"] = f"{result.fit_time.mean() / n_folds:.1f}"
    row["judge [objects/s]"] = f"{len(result.y) / result.predict_time.mean():.0f}"
    return pd.Series(row)


def _keep(name, row):
    """Write the row to the table, and the table to the README."""
    table = pd.read_csv(DOCS, index_col=0, dtype=str) if DOCS.exists() else pd.DataFrame()
    table = table.drop(index=name, errors="ignore")
    table = pd.concat([table, row.to_frame(name).T]).rename_axis("method")
    table = table.loc[[each for each in METHODS if each in table.index]]
    table.to_csv(DOCS)
    lines = [
        " | ".join(["", *cells, ""]).strip() for cells in table.reset_index().fillna("").values
    ]
    head = "| method | " + " | ".join(table) + " |\n|---|" + "---|" * table.shape[1] + "\n"
    shown = re.sub(
        r"(<!-- methods -->\n).*(<!-- /methods -->)",
        lambda found: found[1] + head + "\n".join(lines) + "\n" + found[2],
        README.read_text(),
        flags=re.S,
    )
    README.write_text(shown)


if __name__ == "__main__":
    main(*sys.argv[1:])
