"""All that there is to say of one object's classification: why, how sure, and when not to trust it.

What `skynb.explain`, `skynb.outliers` and `skynb.trust` say, asked together of one light curve.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from skynb import classify, dmdt, explain, features, lightcurves, networks, outliers, trust

TARGETS = ("predicted", "runner-up")
"""What may be explained besides a class by its name."""

FAR = 0.95
"""Share of the calibrating objects beyond which a score is called strange."""

N_NEAREST = 3
"""Training examples named."""

N_NEIGHBORS = 10


@dataclass(frozen=True, eq=False)
class Explanation:
    """What there is to say of one object.

    Attributes
    ----------
    probability : Series
        Of each class, the likeliest first.
    target, against : str
        The class that is explained, and the likeliest of the others.
    attribution : ndarray, shape (n_dm, n_dt), or None
        What the cells of the image did for ``target`` rather than ``against``.
    shares : ndarray, shape (n_obs,)
        What the observations did; NaN where they were not judged.
    shap : Series or None
        What the features did, where the model is a set of trees; greatest first.
    nearest : DataFrame
        Training examples by id: ``label``, ``distance``, ``row``, the nearest first.
    trust : DataFrame
        ``about``, ``said``, and ``trusted``: True, False, or None where nothing can be said.
    problem : str
        Why there is no attribution; "" where there is one.
    """

    probability: pd.Series
    target: str
    against: str
    attribution: np.ndarray | None
    shares: np.ndarray
    shap: pd.Series | None
    nearest: pd.DataFrame
    trust: pd.DataFrame
    problem: str


class Judge:
    """What a classifier, its training objects and others that it never saw say of a light curve.

    Parameters
    ----------
    model : LightCurveClassifier
        Trained. Of kind ``dmdt_cnn`` its maps are explained, of ``forest``, ``extra_trees`` and
        ``boosted`` its features; of other kinds all but that is said.
    training : NestedFrame or skynb.classify.Measured, optional
        The objects that the model was trained on, with ``label``: for the nearest examples and the
        scores of a network.
    calibration : NestedFrame or skynb.classify.Measured, optional
        Objects with ``label`` that it was not trained on: for prediction sets, and to say which
        scores are usual.
    level : float
        Of the prediction sets, in (0, 1).

    Raises
    ------
    ValueError
        No trained classifier, objects without ``label``, too few of them.
    """

    def __init__(self, model, training=None, calibration=None, level=0.9):
        if not isinstance(model, classify.LightCurveClassifier) or not hasattr(model, "recipe_"):
            raise ValueError(
                f"expected a trained LightCurveClassifier, got {model!r:.80}; fit or load one"
            )
        self.model, self.training, self.level = model, None, level
        self.network = None
        if model.kind == "dmdt_cnn":
            self.network = model.learner_.learner.networks_[0]
        self.unfamiliar = self.sets = self.usual = self.near = self.gaussian = None
        if training is not None:
            data, y = self._measured(training, "training")
            if len(y) < 2:
                raise ValueError("training has one object; give two or more")
            self.training = data.lcs
            if self.network is not None:
                inside = networks.activations(self.network, data.images)
                n = min(N_NEIGHBORS, len(y) - 1)
                self.unfamiliar = outliers.Unfamiliar(n_neighbors=n).fit(inside, y)
            elif data.features is not None:
                self.gaussian = features.Gaussian().fit(data.features)
            place = self._place(data)
            if place is not None:
                self.near = NearestNeighbors(n_neighbors=min(N_NEAREST, len(y))).fit(place)
        if calibration is not None:
            data, y = self._measured(calibration, "calibration")
            said = model.predict_proba(data)
            self.sets = trust.PredictionSets(level).fit(y, said, model.classes_)
            self.usual = self.scores(data)

    def scores(self, data):
        """Return how strange measured objects are, a column per score; higher is stranger."""
        table = pd.DataFrame({"outlier": self.model.outlier_score(data)})
        if self.unfamiliar is None:
            return table
        inside = networks.activations(self.network, data.images)
        inner = self.unfamiliar.score(inside, networks.logits(self.network, inside))
        return pd.concat([inner, table], axis=1)

    def explain(self, lc, rows=None, *, method=explain.RECOMMENDED, explained=TARGETS[0]):
        """Return the `Explanation` of one object.

        Parameters
        ----------
        lc : DataFrame
            Its observations: ``mjd, mag, magerr, band``, as in ``lcs["lightcurve"].iloc[k]``.
        rows : sequence of int or bool, optional
            Positions of those to judge, or a mask; by default all.
        method : str
            One of `skynb.explain.METHODS`, where the model is a network.
        explained : str
            One of `TARGETS`, or a class.

        Raises
        ------
        ValueError
            No observation in a band of the model, an unknown method or class.
        """
        rows = np.arange(len(lc))[slice(None) if rows is None else np.asarray(rows)]
        if self.network is not None and method not in explain.METHODS:
            raise ValueError(f"no method {method!r}; choose one of {', '.join(explain.METHODS)}")
        if not len(rows):
            self.model.recipe_.check(bands=sorted(set(lc["band"])))
            raise ValueError("no observation is left to judge; show more of them")
        part = lc.iloc[rows]
        data = self.model.measure(lightcurves.from_flat(part.assign(object_id=0)))
        said = pd.Series(self.model.predict_proba(data)[0], self.model.classes_)
        said = said.sort_values(ascending=False, kind="stable")
        target = dict(zip(TARGETS, said.index, strict=False)).get(explained, explained)
        if target not in said.index:
            known = ", ".join([*TARGETS, *self.model.classes_])
            raise ValueError(f"no class {target!r}; choose one of {known}")
        against = next(name for name in said.index if name != target)
        shares, found, shap, problem = np.full(len(lc), np.nan), None, None, ""
        try:
            if self.network is None:
                shap = explain.trees(self.model, data)
                shap = shap.of(0, target).sub(shap.of(0, against))
                shap = shap.sort_values(key=np.abs, ascending=False, kind="stable")
            elif len(rows) < 2:
                problem = "one observation makes no pair: nothing is there to explain"
            else:
                found = explain.attribute(self.model, data, target, against=against, method=method)
                found, grid = found[0], dmdt.Grid.from_dict(self.model.recipe_.grid)
                shares[rows] = explain.share(part["mjd"], part["mag"], found, grid=grid).values
        except ValueError as error:
            problem = str(error)
        nearest, said_of = self._nearest(data), self._trust(data, said)
        return Explanation(said, target, against, found, shares, shap, nearest, said_of, problem)

    def _measured(self, lcs, name):
        if isinstance(lcs, lightcurves.Stored):
            lcs = lcs.take(np.arange(len(lcs)))
        table = getattr(lcs, "lcs", lcs)
        if "label" not in table.columns or not len(table):
            raise ValueError(
                f"{name} has no labelled object; give light curves with a column label"
            )
        return self.model.measure(lcs), table["label"].to_numpy(str)

    def _place(self, data):
        """Return where objects lie, to find those that the model finds alike, or None."""
        if self.network is not None:
            return normalize(networks.activations(self.network, data.images))
        return None if self.gaussian is None else self.gaussian.transform(data.features)

    def _nearest(self, data):
        distance, rows = np.empty((1, 0)), np.empty((1, 0), int)
        index, label = pd.Index([], dtype=object), []
        if self.near is not None:
            distance, rows = self.near.kneighbors(self._place(data))
            index, label = self.training.index[rows[0]], self.training["label"].iloc[rows[0]]
        columns = {"label": np.asarray(label, object), "distance": distance[0], "row": rows[0]}
        return pd.DataFrame(columns, index=index)

    def _trust(self, data, said):
        lines = []
        if self.sets is None:
            lines += [("prediction set", "needs calibrating objects", None)]
        else:
            held = self.sets.predict(said[self.model.classes_].to_numpy()[None])
            names = held.columns[held.iloc[0]].tolist()
            text = ", ".join(names) or "empty: no class is as likely as that of a usual object"
            lines += [(f"set that promises {self.level:.0%}", text, len(names) == 1)]
        for name, value in self.scores(data).iloc[0].items():
            text, fine = f"{value:.3g}", None
            if self.usual is not None:
                below = float((self.usual[name] < value).mean())
                text += f", above {below:.0%} of the calibrating objects"
                fine = below <= FAR
            lines += [(f"strange, {name}", text, fine)]
        flag = self.model.recipe_.flags(data.lcs)[0]
        lines += [("the model's recipe", flag or "inside what the model knows", not flag)]
        return pd.DataFrame(lines, columns=["about", "said", "trusted"]).astype({"trusted": object})
