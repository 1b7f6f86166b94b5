"""When values are missing: the Bayesian network beside imputation and a random forest.

    python -m benchmarks.bench_bayes [SEED ...]

Features of the Catalina light curves of seven classes if SKYNB_MIRROR is set, else of simulated
ones; or those of a Parquet file named by SKYNB_FEATURES, with a last column ``label``. Five folds
by object; each seed changes the folds, the learners and what is knocked out, which is the same for
both. ``25 %`` of the values, each by itself; ``block``: for half of the objects all that is known
from folding at a period; ``test only``: half the values of the objects judged, none in training.
"""

import os
import sys

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.model_selection import StratifiedKFold

from skynb import bayes, datasets, evaluate, features, taxonomy

SHARES = {"complete": 0, "25 %": 0.25, "50 %": 0.5, "75 %": 0.75}


class Imputed(RandomForestClassifier):
    """The peer: the median of what is known in training, then a forest."""

    def fit(self, X, y):
        self.imputer_ = SimpleImputer(keep_empty_features=True).set_params(strategy="median")
        return super().fit(self.imputer_.fit_transform(X), y)

    def predict_proba(self, X):
        return super().predict_proba(self.imputer_.transform(X))


def peer(seed):
    return Imputed(300, min_samples_leaf=2, class_weight="balanced_subsample", random_state=seed)


LEARNERS = {"network": lambda seed: bayes.BayesNet(seed=seed), "imputation + forest": peer}


def data():
    """Return features and labels."""
    if os.environ.get("SKYNB_FEATURES"):
        X = pd.read_parquet(os.environ["SKYNB_FEATURES"])
        return X.drop(columns="label"), X["label"].to_numpy(str)
    lcs = datasets.load("crts" if os.environ.get("SKYNB_MIRROR") else "simulated")
    lcs = datasets.labelled(lcs, taxonomy.SEVEN)
    return features.extract(lcs), lcs["label"].to_numpy(str)


def knocked_out(X, case, rng):
    """Return training and test values, NaN where knocked out."""
    values, draw = X.to_numpy(float), rng.random(X.shape)
    if case == "block":
        folded = np.arange(X.shape[1]) >= X.columns.get_loc("log_period")
        less = np.where((draw[:, :1] < 0.5) & folded, np.nan, values)
        return less, less
    less = np.where(draw < SHARES.get(case, 0.5), np.nan, values)
    return (values if case == "test only" else less), less


def main(*seeds):
    """Print a row per case and learner: mean and spread over the seeds; return the table."""
    X, y = data()
    rows = []
    for case in (*SHARES, "block", "test only"):
        for seed in seeds or (0, 1, 2):
            train, test = knocked_out(X, case, np.random.default_rng(seed))
            folds = list(StratifiedKFold(5, shuffle=True, random_state=seed).split(train, y))
            for name, make in LEARNERS.items():
                said = np.zeros((len(y), len(np.unique(y))))
                for a, b in folds:
                    learner = make(seed).fit(train[a], y[a])
                    said[b] = learner.predict_proba(test[b])
                row = evaluate.scores(y, said, learner.classes_)
                rows.append({"missing": case, "learner": name, "seed": seed} | row)
        table = pd.DataFrame(rows).drop(columns="seed").groupby(["missing", "learner"], sort=False)
        print(f"\nmissing: {case}")
        print(table.agg(["mean", "std"]).loc[case].round(4).to_string(), flush=True)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
