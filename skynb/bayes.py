"""A Bayesian network that classifies from whatever is known: missing values are summed out.

The class points to every feature, and features that tell much of each other are joined by trees
(a tree-augmented naive Bayes network; the trees are Chow and Liu's). Features are discretised; a
context such as the galactic latitude is a feature like any other, and may be absent.

pyAgrum learns no edges from missing values, and its own expectation maximisation and inference
take minutes where arrays take seconds; `BayesNet.to_pyagrum` hands it the network.
"""

import html
from copy import copy

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree
from scipy.special import log_softmax, softmax, xlogy
from sklearn.model_selection import StratifiedKFold

_DAMPING = 0.2  # evidence is divided by this and the share of values known, together
_N_FOLDS = 4  # of the calibration
_PENALTIES = 20.0, 1.0  # of the calibration's weights and matrix
_TOLERANCE = 1e-3  # least gain of an iteration in log-likelihood per object
_WEIGHT = 0.3  # of a group, where the calibration starts


class BayesNet:
    """Bayesian network over discretised features, in which any value may be missing.

    ``fit`` cuts each feature at its quantiles, learns the edges between features from the pairs of
    values that are known and fixes them, and fits the tables by expectation maximisation, which
    uses what is known of every object. A value that is not finite is missing.

    Groups of features that no edge joins overlap in what they tell all the same, so `predict_proba`
    weighs their log-likelihoods, fitted to training objects that were left out of the tables, whole
    and with values taken away; `posterior` is the network without this calibration. A notebook
    shows the network's picture: a dot is a feature, larger the more it tells of the class.

    Parameters
    ----------
    n_bins : int
        States of a feature, at most.
    min_information : float
        Of two features given the class, beyond chance, for an edge [nat]; ``inf``: naive Bayes.
    smoothing : float
        Prior of each row of a table [objects], shaped like the feature's distribution in the class.
    max_iterations : int
        Steps of expectation maximisation, at most; fewer if the likelihood settles.
    seed : int
        Of the parts of the calibration, and of what it takes away.

    References
    ----------
    Friedman, Geiger & Goldszmidt 1997, Machine Learning 29, 131 (tree-augmented naive Bayes);
    Chow & Liu 1968, IEEE Trans. Inf. Theory 14, 462; Dempster, Laird & Rubin 1977, JRSS B 39, 1.
    """

    def __init__(self, *, n_bins=7, min_information=0.25, smoothing=5.0, max_iterations=10, seed=0):
        self.n_bins, self.min_information, self.smoothing = n_bins, min_information, smoothing
        self.max_iterations, self.seed = max_iterations, seed

    def fit(self, X, y):
        """Return self, trained on ``X``, shape (n_objects, n_features), and labels ``y``.

        Raises
        ------
        ValueError
            Unequal lengths, no two classes of two objects, a name twice, an option out of range.
        """
        if self.n_bins < 2 or not self.smoothing > 0:
            raise ValueError(f"n_bins {self.n_bins}, smoothing {self.smoothing}; try 2, 5 or more")
        X = X if isinstance(X, pd.DataFrame) else pd.DataFrame(np.atleast_2d(X)).add_prefix("x")
        self.features_ = [str(name) for name in X]
        if not self.features_ or len({"class", *self.features_}) <= len(self.features_):
            raise ValueError("no feature, two of the same name, or one called class; rename it")
        values, y = self._values(X), np.asarray(y)
        if y.shape != (len(values),):
            raise ValueError(f"labels of shape {y.shape} for {len(values)} objects; give one each")
        self.classes_, codes, sizes = np.unique(
            y.astype(str) if y.dtype == object else y, return_inverse=True, return_counts=True
        )
        if len(sizes) < 2 or sizes.min() < 2:
            few = dict(zip(self.classes_.tolist(), sizes.tolist(), strict=True))
            raise ValueError(f"classes {few}; give two or more, of two or more objects each")
        self._learn(values, codes)
        rng = np.random.default_rng(self.seed)
        less = np.where(rng.random(values.shape) < rng.random((len(values), 1)), np.nan, values)
        folds = StratifiedKFold(min(_N_FOLDS, sizes.min()), shuffle=True, random_state=self.seed)
        left_out = []
        for train, test in folds.split(values, codes):
            part = copy(self)._learn(values[train], codes[train], self.parent_)
            left_out += [(*part._evidence(each[test]), codes[test]) for each in (values, less)]
        left_out = map(np.concatenate, zip(*left_out, strict=True))
        self.calibration_ = _calibration(*left_out, np.log(self.prior_))
        return self

    def predict_proba(self, X):
        """Return the calibrated probability of each class, shape (n_objects, n_classes).

        A column that ``X`` lacks is missing for every object; one that is unknown is refused.
        """
        logit = _calibrated(*self._evidence(self._values(X)), *self.calibration_)
        return softmax(logit + np.log(self.prior_), axis=1)

    def posterior(self, X):
        """Return the probability of each class that the network itself gives, not calibrated."""
        return softmax(self._likelihood(self._values(X)).sum(2) + np.log(self.prior_), axis=1)

    def to_pyagrum(self):
        """Return the network as a `pyagrum.BayesNet`; state k of a feature is above k ``cuts_``."""
        import pyagrum

        net = pyagrum.BayesNet("skynb")
        net.add(pyagrum.LabelizedVariable("class", "class", [str(name) for name in self.classes_]))
        net.cpt("class")[:] = self.prior_
        for i in self.order_:
            name, parent, table = self.features_[i], self.parent_[i], self.tables_[i]
            net.add(pyagrum.RangeVariable(name, name, 0, table.shape[2] - 1))
            net.addArc("class", name)
            if parent >= 0:
                net.addArc(self.features_[parent], name)
            net.cpt(name)[:] = table.swapaxes(0, 1).copy() if parent >= 0 else table[:, 0]
        return net

    def edges(self):
        """Return ``source, target`` and mutual ``information`` [nat] (given the class) of edges."""
        marginals, rows = [None] * len(self.features_), []
        for i in self.order_:
            p, table, name = self.parent_[i], self.tables_[i], self.features_[i]
            marginals[i] = table[:, 0] if p < 0 else np.einsum("kp,kps->ks", marginals[p], table)
            rows.append(("class", name, _information(self.prior_, marginals[i])))
            if p >= 0:
                each = [_information(*pair) for pair in zip(marginals[p], table, strict=True)]
                rows.append((self.features_[p], name, self.prior_ @ each))
        return pd.DataFrame(rows, columns=["source", "target", "information"])

    def _repr_svg_(self):
        """Return the picture of the network that a notebook shows; None before `fit`."""
        if not hasattr(self, "tables_"):
            return None
        turns = 360 * np.arange(len(self.order_)) / len(self.order_)
        turn = {self.features_[i]: angle for i, angle in zip(self.order_, turns, strict=True)}
        at = {name: 0.33 * np.exp(1j * np.radians(angle)) for name, angle in turn.items()}
        rays, curves, dots = [], [], []
        for source, name, information in self.edges().itertuples(index=False):
            z, text = at[name], html.escape(name)
            if source != "class":
                line = [f"{p.real:.3f} {p.imag:.3f}" for p in (at[source], (at[source] + z) / 3, z)]
                curves.append('<path d="M{}Q{} {}" stroke="#2b6ca3"/>'.format(*line))
                continue
            rays.append(f'<path d="M0 0L{z.real:.3f} {z.imag:.3f}" stroke="#ddd"/>')
            side, anchor = (1, "start") if z.real >= 0 else (-1, "end")
            dots.append(
                f'<circle cx="{z.real:.3f}" cy="{z.imag:.3f}" fill="#2b6ca3" '
                f'r="{0.003 + 0.006 * information**0.5:.4f}"><title>{text}: {information:.2f} nat'
                f'</title></circle><text x="{0.35 * side}" dy="0.004" fill="#222" '
                f'transform="rotate({turn[name] + 90 - 90 * side:.1f})" text-anchor="{anchor}">'
                f"{text}</text>"
            )
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" width="800" height="800" fill="none" '
            'viewBox="-0.58 -0.58 1.16 1.16" font-family="sans-serif" font-size="0.0125" '
            'stroke-width="0.0015"><rect x="-1" y="-1" width="2" height="2" fill="#fff"/>'
            f'{"".join(rays + curves + dots)}<circle r="0.035" fill="#222"/>'
            '<text text-anchor="middle" dy="0.005" fill="#fff" font-size="0.018">class</text></svg>'
        )

    def to_parts(self):
        """Return the names, cuts, edges, tables and calibration: values and arrays."""
        names = ("features", "classes", "prior", "cuts", "parent", "tables", "calibration")
        return {name: getattr(self, f"{name}_") for name in names}

    @classmethod
    def from_parts(cls, parts):
        """Return the network that `to_parts` took apart; ValueError if the parts do not fit."""
        self = cls()
        try:
            self.features_ = [str(name) for name in parts["features"]]
            for name in ("cuts", "tables", "calibration"):
                setattr(self, f"{name}_", [np.asarray(each, float) for each in parts[name]])
            self.classes_, self.prior_ = map(np.asarray, (parts["classes"], parts["prior"]))
            self._arrange(np.asarray(parts["parent"]))
            n, n_states = len(self.classes_), [len(cuts) + 1 for cuts in self.cuts_]
            before = [n_states[p] if p >= 0 else 1 for p in self.parent_]
            shapes = [(n,), *((n, *pair) for pair in zip(before, n_states, strict=True))]
            tables = [self.prior_, *self.tables_]
            fits = len(set(self.features_)) == len(self.tables_) > 0
            fits &= [table.shape for table in tables] == shapes
            fits &= all(np.all(t > 0) and np.allclose(t.sum(-1), 1) for t in tables)
            fits &= all(c.ndim == 1 and np.all(np.diff([*c, np.inf]) > 0) for c in self.cuts_)
            shapes = [(self.group_.max() + 1,), (n, n), (n,)]
            fits &= [each.shape for each in self.calibration_] == shapes
            fits &= all(np.isfinite(each).all() for each in self.calibration_)
        except (AttributeError, LookupError, TypeError, ValueError):
            fits = False
        if not fits:
            raise ValueError("the parts of the network do not fit each other; train it anew")
        return self

    def _values(self, X):
        """Return the features by the names of `fit`, as an array; NaN where missing."""
        if isinstance(X, pd.DataFrame):
            X = X.rename(columns=str)
            unknown = [name for name in X if name not in self.features_]
            if unknown:
                raise ValueError(f"the network has no feature {unknown[0]!r}; drop the column")
            return X.reindex(columns=self.features_).to_numpy(float, na_value=np.nan)
        values, n = np.atleast_2d(np.asarray(X, float)), len(self.features_)
        if values.shape[1] != n:
            raise ValueError(f"got {values.shape[1]} features, not {n}; a DataFrame may lack some")
        return values

    def _states(self, values):
        """Return the states, -1 where missing, and a last column of zeros: the parent of none."""
        states = np.zeros((len(values), len(self.cuts_) + 1), int)
        for i, cuts in enumerate(self.cuts_):
            states[:, i] = np.searchsorted(cuts, values[:, i], side="right")
        states[:, :-1][~np.isfinite(values)] = -1
        return states

    def _learn(self, values, codes, parent=None):
        """Return self with cuts, edges (unless given) and tables, by expectation maximisation."""
        n = len(self.classes_)
        self.prior_ = np.bincount(codes, minlength=n) / len(codes)
        self.cuts_ = [_cuts(column, self.n_bins) for column in values.T]
        states, n_states = self._states(values), [*(len(cuts) + 1 for cuts in self.cuts_), 1]
        self._arrange(self._chow_liu(states, codes, max(n_states)) if parent is None else parent)
        nothing, counts, priors = states[:, -1], [], []
        for i, p in enumerate(self.parent_):
            own = _counts(codes, nothing, states[:, i], (n, 1, n_states[i]))
            base = _rows(own.sum(0, keepdims=True) + 1)
            if p >= 0:
                base = _rows(own + self.smoothing * base)
            priors.append(self.smoothing * base)
            counts.append(_counts(codes, states[:, p], states[:, i], (n, n_states[p], n_states[i])))
        previous = -np.inf
        for _ in range(self.max_iterations + 1):
            self.tables_ = [_rows(both) for both in map(np.add, counts, priors)]
            likelihood, counts = self._expect(states, codes)
            if likelihood - previous < _TOLERANCE * len(codes):
                break
            previous = likelihood
        return self

    def _chow_liu(self, states, codes, n_states):
        """Return the parent of every feature, -1 for none, learnt where both are known."""
        n_features = states.shape[1] - 1
        known = np.eye(n_states + 1, n_states)[states[:, :-1]]
        excess = np.zeros((n_features, n_features))
        for k, share in enumerate(self.prior_):
            each = known[codes == k].reshape(-1, n_features * n_states)
            joint = (each.T @ each).reshape(n_features, n_states, n_features, n_states)
            total = np.maximum(joint.sum((1, 3)), 1)
            a, b = joint.sum(3, keepdims=True), joint.sum(1, keepdims=True)
            ratio = joint * total[:, None, :, None] / np.maximum(a * b, 1e-9)
            chance = ((a > 0).sum((1, 3)) - 1) * ((b > 0).sum((1, 3)) - 1) / 2
            excess += share * (xlogy(joint, ratio).sum((1, 3)) - chance) / total
        excess = np.where(excess > self.min_information, excess, 0)
        np.fill_diagonal(excess, 0)
        tree, parent = minimum_spanning_tree(-excess), np.full(n_features, -2)
        for root in np.argsort(-excess.max(1), kind="stable"):
            if parent[root] == -2:
                reached, above = breadth_first_order(tree, root, directed=False)
                parent[reached] = np.maximum(above[reached], -1)
        return parent

    def _arrange(self, parent):
        """Set ``parent_``, the group of every feature, and an order in which parents come first."""
        root, depth = np.arange(len(parent)), np.zeros(len(parent), int)
        for _ in parent:
            above = parent[root]
            depth += above >= 0
            root = np.where(above >= 0, above, root)
        if np.any(parent[root] >= 0) or np.any(parent < -1):
            raise ValueError("the edges make a loop")
        self.parent_, self.group_ = parent, np.unique(root, return_inverse=True)[1]
        self.order_ = np.lexsort([depth, self.group_])

    def _evidence(self, values):
        """Return log-likelihoods about their mean, damped by the share known, and that share."""
        likelihood, known = self._likelihood(values), np.isfinite(values).mean(1)[:, None]
        likelihood -= likelihood.mean(1, keepdims=True)
        return likelihood / (_DAMPING + known[:, None]), known

    def _likelihood(self, values):
        """Return the log-likelihoods, shape (n_objects, n_classes, n_groups)."""
        states = self._states(values)
        return np.stack([self._up(states, k)[0] for k in range(len(self.classes_))], axis=1)

    def _up(self, states, k):
        """Return the log-likelihood of every group, and up to factors the probability of what is
        known at each feature and beneath, given its state, and given the state of its parent.
        """
        total = np.zeros((len(states), self.group_.max() + 1))
        below = [
            np.vstack([np.eye(table.shape[2]), np.ones(table.shape[2])])[states[:, i]]
            for i, table in enumerate(self.tables_)
        ]
        message = [None] * len(below)
        for i in reversed(self.order_):
            sent = below[i] @ self.tables_[i][k].T
            scale = sent.max(1, keepdims=True)
            total[:, self.group_[i]] += np.log(scale[:, 0])
            message[i] = sent / scale
            if self.parent_[i] >= 0:
                below[self.parent_[i]] *= message[i]
        return total, below, message

    def _expect(self, states, codes):
        """Return the log-likelihood of all objects, and the counts expected in every table."""
        counts, likelihood = [np.zeros_like(table) for table in self.tables_], 0.0
        for k in range(len(self.classes_)):
            total, below, message = self._up(states[codes == k], k)
            likelihood += total.sum()
            above = [None] * len(counts)
            for i in self.order_:
                p, table = self.parent_[i], self.tables_[i][k]
                rest = above[p] * below[p] / message[i] if p >= 0 else message[i]
                above[i] = rest @ table
                norm = (above[i] * below[i]).sum(1, keepdims=True)
                counts[i][k] = table * ((rest / norm).T @ below[i])
                above[i] /= norm
        return likelihood, counts


def _cuts(column, n_bins):
    """Return what divides the known values of a feature: quantiles, or midpoints of few values."""
    known = column[np.isfinite(column)]
    distinct = np.unique(known)
    if len(distinct) <= n_bins:
        return (distinct[1:] + distinct[:-1]) / 2
    return np.unique(np.maximum(np.quantile(known, np.arange(1, n_bins) / n_bins), distinct[1]))


def _counts(codes, above, states, shape):
    """Return how often each class, state of the parent and state meet, where all are known."""
    known = (above >= 0) & (states >= 0)
    cell = np.ravel_multi_index((codes[known], above[known], states[known]), shape)
    return np.bincount(cell, minlength=np.prod(shape)).reshape(shape).astype(float)


def _rows(counts):
    return counts / counts.sum(-1, keepdims=True)


def _information(weights, rows):
    """Return the mutual information [nat] of a row's number and what it distributes."""
    return float(weights @ xlogy(rows, rows / (weights @ rows)).sum(1))


def _calibrated(evidence, known, weights, matrix, offsets):
    """Return logits beside the prior: the weighted sum over groups, mixed between classes."""
    total = evidence @ weights
    return total + total @ matrix + known * offsets


def _calibration(evidence, known, codes, prior):
    """Return the weights of groups, matrix and offsets of least cross-entropy, and small."""
    n, n_groups = evidence.shape[1:]
    truth = np.eye(n)[codes]

    def split(x):
        return x[:n_groups], x[n_groups:-n].reshape(n, n), x[-n:]

    def loss(x):
        weights, matrix, _ = split(x)
        logit = log_softmax(prior + _calibrated(evidence, known, *split(x)), axis=1)
        excess = np.exp(logit) - truth
        on_weights, on_matrix = _PENALTIES[0] * (weights - _WEIGHT), _PENALTIES[1] * matrix
        value = on_weights @ (weights - _WEIGHT) / 2 + (on_matrix * matrix).sum() / 2
        slopes = (
            np.tensordot(excess + excess @ matrix.T, evidence, 2) + on_weights,
            ((evidence @ weights).T @ excess + on_matrix).ravel(),
            (known * excess).sum(0),
        )
        return value - (truth * logit).sum(), np.concatenate(slopes)

    start = np.concatenate([np.full(n_groups, _WEIGHT), np.zeros(n * n + n)])
    return split(minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500}).x)
