"""Probabilistic structure functions: what pairs and triplets of points say about a class.

A pair of observations i < j of one band has a lag ``dt`` [day] and a difference ``dm`` [mag], later
minus earlier; a triplet i < j < k has those of (i, j) and of (j, k). A class is described by
p(dm|dt) and p(dm12, dm23|dt12, dt23): given the lags, so that the cadence says nothing. A light
curve is scored by its mean log-likelihood under each class, once for each cell of lags. Pairs and
triplets that share points are not independent: a logistic regression learns how much these scores
are worth, and how that depends on the number of points.

References
----------
Mahabal et al. 2011, BASI, 39, 387 (dm and dt of pairs). The scores of triplets and the calibration
are this module's own.
"""

import functools
from itertools import pairwise

import numpy as np
from scipy.special import softmax
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression

from skynb import dmdt, evaluate, lightcurves

ORDERS = ("pairs", "triplets")
MIN_POINTS = 3  # a shorter curve gets the priors
_N_FOLDS, _N_THIN = 5, 4  # of the calibration: parts, and thinned copies of each curve
_PSEUDO = 5.0  # light curves of all classes together, added to each class
_DAMPING = 100.0  # pairs (triplets) at which a light curve counts one half in a cell of lags
_LEARNT = ("priors_", "log_densities_", "coef_", "intercept_")

GRID = dmdt.Grid(
    dm=(-8, -0.7, -0.45, -0.3, -0.2, -0.1, -0.05, 0, 0.05, 0.1, 0.2, 0.3, 0.45, 0.7, 8),
    dt=(0, 0.012, 0.1, 60, 4000),
)
"""Fourteen dm bins; lags within half a visit, a visit, a season, and beyond."""


class StructureFunctions(BaseEstimator):
    """A classifier of light curves by the histograms of their pairs, or of pairs and triplets.

    The calibration sees only scores of training curves that were left out of the histograms, whole
    and thinned to fewer points, and so knows how far to believe a short one. A curve of fewer than
    three points, or without a pair on the grid, gets the classes' shares in the training set.

    Parameters
    ----------
    order : {"pairs", "triplets"}
        ``triplets`` uses the pairs too.
    grid : Grid
        Edges in dm and dt, the same for pairs and triplets. Its normalization is not used.
    seed : int
        Of the parts that are left out and of the thinning.

    Attributes
    ----------
    classes_, priors_ : ndarray, shape (n_classes,)
    log_densities_ : list of ndarray, shape (n_classes, n_lags, n_cells)
        Of pairs and, if used, triplets: see `density`.
    coef_, intercept_ : ndarray, shape (n_classes, n_scores) and (n_classes,)
        The calibration.
    """

    def __init__(self, order="triplets", *, grid=GRID, seed=0):
        self.order, self.grid, self.seed = order, grid, seed

    def fit(self, lcs, y):
        """Return the classifier, fitted to a table of one band and its labels (n_objects,).

        Raises
        ------
        ValueError
            An unknown order, several bands, not one label for each curve, one class only, a class
            with one light curve, or without one that has three points and pairs on the grid.
        """
        if self.order not in ORDERS:
            raise ValueError(f"no order {self.order!r}; choose one of {', '.join(ORDERS)}")
        curves, y = _curves(lcs), evaluate.learnable(y, len(lcs), fewest=2)
        self.classes_, codes, sizes = np.unique(y, return_inverse=True, return_counts=True)
        self.priors_, rng = sizes / len(y), np.random.default_rng(self.seed)
        fold = np.lexsort((rng.random(len(y)), codes)).argsort() % _N_FOLDS
        votes = [np.zeros((_N_FOLDS, *shape)) for shape in self._shapes()]
        for k, histograms in enumerate(_histograms(curves, self.grid, self.order)):
            for vote, counts in zip(votes, histograms, strict=True):
                vote[fold[k], codes[k]] += counts / (counts.sum(-1, keepdims=True) + _DAMPING)
        self.log_densities_ = [_log_density(vote.sum(axis=0)) for vote in votes]
        others = [
            [_log_density(np.delete(vote, k, axis=0).sum(axis=0)) for vote in votes]
            for k in range(_N_FOLDS)
        ]
        samples = [curves, *(_thinned(curves, rng) for _ in range(_N_THIN))]
        X = np.vstack([self._scores(sample, others, fold) for sample in samples])
        known, target = X.any(axis=1), np.tile(codes, len(samples))
        if unseen := set(self.classes_) - set(self.classes_[target[known]]):
            names = ", ".join(sorted(map(str, unseen)))
            raise ValueError(f"no light curve of {names} has three points and pairs on {self.grid}")
        X, target, scale = X[known], target[known], X[known].std(axis=0) + 1e-9
        C = min(0.1, len(y) / 3000)  # believe less of what few objects say
        model = LogisticRegression(C=C, max_iter=300, tol=1e-3).fit(X / scale, target)
        both = [[-0.5], [0.5]] if len(sizes) == 2 else [[1]]
        self.coef_, self.intercept_ = model.coef_ * both / scale, model.intercept_ * np.ravel(both)
        return self

    def predict_proba(self, lcs):
        """Return the probability of each class, shape (n_objects, n_classes)."""
        X = self._scores(_curves(lcs), [self.log_densities_], np.zeros(len(lcs), int))
        probability = softmax(X @ self.coef_.T + self.intercept_, axis=1)
        return np.where(X.any(axis=1)[:, None], probability, self.priors_)

    def density(self, label, order="pairs"):
        """Return what a class looks like: the probability of each cell given its lags.

        Of pairs p(dm|dt), shape (n_dm, n_dt), as a dm-dt image; of triplets p(dm12, dm23|dt12,
        dt23), shape (n_dm, n_dm, n_dt, n_dt). At lags that no curve has it is uniform.

        Raises
        ------
        ValueError
            A class or an order that was not learnt.
        """
        learnt = dict(zip(ORDERS, self.log_densities_, strict=False))
        if label not in self.classes_ or order not in learnt:
            known = f"{', '.join(map(str, self.classes_))}; {', '.join(learnt)}"
            raise ValueError(f"no density of {order} of {label!r}; there are those of {known}")
        density = np.exp(learnt[order][self.classes_ == label][0])
        power = 1 + ORDERS.index(order)
        return density.T.reshape([n for n in self.grid.shape for _ in range(power)])

    def to_parts(self):
        """Return the parameters and what was learnt: plain values and arrays."""
        parts = {"order": self.order, "grid": self.grid.to_dict(), "seed": self.seed}
        learnt = {name: getattr(self, name) for name in _LEARNT}
        return {**parts, "classes_": self.classes_.tolist(), **learnt}

    @classmethod
    def from_parts(cls, parts):
        """Return the classifier that `to_parts` took apart; ValueError if the parts do not fit."""
        grid = dmdt.Grid.from_dict(parts["grid"])
        self = cls(parts["order"], grid=grid, seed=parts["seed"])
        self.classes_ = np.asarray(parts["classes_"])
        vars(self).update({name: parts[name] for name in _LEARNT})
        arrays = [*self.log_densities_, self.priors_, self.coef_, self.intercept_]
        shapes = self._shapes() if self.order in ORDERS else []
        n = len(self.classes_)
        shapes += [(n,), (n, 2 * n * sum(shape[1] for shape in shapes)), (n,)]
        fits = [np.shape(each) for each in arrays] == shapes
        if not (fits and all(np.isfinite(each).all() for each in arrays)):
            raise ValueError(f"these are no {self.order} of {n} classes on {grid}; train anew")
        return self

    def _shapes(self):
        n_dm, n_dt = self.grid.shape
        powers = range(1, 2 + ORDERS.index(self.order))
        return [(len(self.classes_), n_dt**power, n_dm**power) for power in powers]

    def _scores(self, curves, models, fold):
        """Return the calibration's input, shape (n_objects, n_scores); 0 where nothing is known.

        The mean log-likelihoods under the object's model, less their mean over the classes, and the
        same times the logarithm of the number of points.
        """
        n_obs = np.diff(curves[0])[:, None]
        histograms = _histograms(curves, self.grid, self.order)
        scores = np.array(
            [
                np.concatenate([_mean(*each) for each in zip(counts, models[k], strict=True)])
                for counts, k in zip(histograms, fold, strict=True)
            ]
        )
        scores *= n_obs >= MIN_POINTS
        return np.hstack([scores, scores * np.log(n_obs.clip(MIN_POINTS) / 30)])


def _log_density(votes):
    """Return log p(cell|lags) from votes of shape (n_classes, n_lags, n_cells)."""
    everyone = votes.sum(axis=0) + 1e-3 / votes.shape[-1]
    smooth = votes + _PSEUDO * everyone / everyone.sum(axis=-1, keepdims=True)
    return np.log(smooth / smooth.sum(axis=-1, keepdims=True))


def _mean(counts, log_density):
    """Return one object's damped mean log-likelihoods, shape (n_classes * n_lags,)."""
    mean = np.einsum("lc,klc->kl", counts, log_density) / (counts.sum(axis=-1) + _DAMPING)
    return (mean - mean.mean(axis=0)).ravel()


def _curves(lcs):
    """Return offsets (n_objects + 1,), mjd and mag (n_obs,) of a table of one band."""
    lightcurves.one_band(lcs)
    columns = lightcurves.arrays(lcs)
    return columns.offsets, np.array(columns.mjd), np.array(columns.mag)


def _thinned(curves, rng):
    """Return the curves without random points; how many are kept is uniform in its logarithm."""
    offsets, mjd, mag = curves
    n_obs = np.diff(offsets)
    n_kept = MIN_POINTS * (n_obs.clip(MIN_POINTS) / MIN_POINTS) ** rng.random(len(n_obs))
    n_kept = np.minimum(n_obs, np.rint(n_kept).astype(int))
    objects = np.repeat(np.arange(len(n_obs)), n_obs)
    rank = np.lexsort((rng.random(len(mjd)), objects)).argsort()
    kept = rank - offsets[objects] < n_kept[objects]
    return np.append(0, np.cumsum(n_kept)), mjd[kept], mag[kept]


def _histograms(curves, grid, order):
    """Yield each object's counts of pairs and, if asked for, triplets, shapes (n_lags, n_cells).

    The triplets around a middle point are every earlier point with every later one, so their
    histogram is the outer product of the histograms of its pairs on either side.
    """
    offsets, mjd, mag = curves
    n_dm, n_dt = grid.shape
    edges, count = (np.array(grid.dm), np.array(grid.dt)), _kernel()
    for first, last in pairwise(offsets):
        before, after = np.zeros((2, last - first, n_dt * n_dm))
        count(mjd[first:last], mag[first:last], *edges, before, after)
        histograms = [before.sum(axis=0).reshape(n_dt, n_dm)]
        if order == "triplets":
            cells = (before.T @ after).reshape(n_dt, n_dm, n_dt, n_dm).swapaxes(1, 2)
            histograms.append(cells.reshape(n_dt**2, n_dm**2))
        yield histograms


@functools.cache
def _kernel():
    return dmdt.compiled(_count, "void(f8[::1], f8[::1], f8[::1], f8[::1], f8[:, ::1], f8[:, ::1])")


def _count(mjd, mag, dm_edges, dt_edges, before, after):
    """Add each pair to its cell, dt * n_dm + dm, of the points that have one before and after."""
    n_dm, n_dt = len(dm_edges) - 1, len(dt_edges) - 1
    for i in range(len(mjd)):
        column = -1
        for j in range(i + 1, len(mjd)):
            while column < n_dt and mjd[j] - mjd[i] >= dt_edges[column + 1]:
                column += 1
            if column == n_dt:
                break
            dm = mag[j] - mag[i]
            if column >= 0 and dm_edges[0] <= dm < dm_edges[n_dm]:
                cell = column * n_dm
                for k in range(1, n_dm):
                    cell += dm >= dm_edges[k]
                before[j, cell] += 1
                after[i, cell] += 1
