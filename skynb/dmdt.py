"""dm-dt images: how the magnitude differences of a light curve's pairs depend on their time lags.

For every pair of observations j > i of one light curve in one band, ``dt = mjd[j] - mjd[i]`` [day]
and ``dm = mag[j] - mag[i]`` [mag] fall into one cell of a :class:`Grid`. An image has shape
(n_dm, n_dt), dm ascending along the rows and dt along the columns. Cells hold their lower edge and
not their upper one, as in light-curve's ``DmDt``, whose counts are reproduced exactly.

References
----------
Mahabal et al. 2011, BASI, 39, 387; Mahabal et al. 2017, arXiv:1709.06257; Soraisam et al. 2020,
ApJ, 892, 112 (the error-aware images).
"""

import dataclasses
import functools
import hashlib
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

from skynb import lightcurves

NORMALIZATIONS = ("counts", "pairs255", "p(dm|dt)", "max", "l2")
BLOCK = 512  # points counted at a time; their table of 0.5 MB stays in a core's cache
CHUNK_CELLS = 2**15  # image cells that a thread fills at a time
MAX_POINTS = 92_682  # more have 2**32 pairs or more, and counts are 32-bit


@dataclasses.dataclass(frozen=True, repr=False)
class Grid:
    """The edges of the cells, and what a cell's value means: the recipe of a dm-dt image.

    Attributes
    ----------
    dm, dt : tuple of float
        Ascending edges [mag] and [day]; dt starts at 0 or later.
    normalization : str
        ``counts``: pairs in the cell. ``pairs255``: 255 * count / n_pairs with
        n_pairs = n (n - 1) / 2, on the grid or not (Mahabal et al. 2017's code, before it rounds).
        ``p(dm|dt)``: each dt column divided by its sum over the grid. ``max``: divided by the
        image's largest value. ``l2``: divided by the root of the image's summed squares.
        Empty columns and images stay 0.
    spread : bool
        Spread each pair over the dm cells by a Gaussian of sigma sqrt(magerr_i**2 + magerr_j**2),
        instead of counting it in one.

    Raises
    ------
    ValueError
        Edges that do not ascend, a dt edge below 0, or an unknown normalization.

    Examples
    --------
    >>> Grid(dm=(-1, 0, 1), dt=(0, 1, 10, 100))
    Grid(2 dm from -1 to 1 mag, 3 dt from 0 to 100 d, counts, 931f88)
    """

    dm: tuple
    dt: tuple
    normalization: str = "counts"
    spread: bool = False

    def __post_init__(self):
        for name in ("dm", "dt"):
            edges = np.asarray(getattr(self, name), dtype=float)
            ascending = edges.ndim == 1 and len(edges) > 1 and bool(np.all(np.diff(edges) > 0))
            if not (ascending and np.all(np.isfinite(edges))):
                raise ValueError(f"{name} edges {edges.tolist()}; give two or more, ascending")
            object.__setattr__(self, name, tuple(edges.tolist()))
        if self.dt[0] < 0:
            raise ValueError(f"first dt edge {self.dt[0]} is negative; lags start at 0")
        if self.normalization not in NORMALIZATIONS:
            raise ValueError(
                f"no normalization {self.normalization!r}; there are {', '.join(NORMALIZATIONS)}"
            )

    def __repr__(self):
        edges = hashlib.sha1(repr((self.dm, self.dt)).encode(), usedforsecurity=False).hexdigest()
        return (
            f"Grid({self.shape[0]} dm from {self.dm[0]:g} to {self.dm[-1]:g} mag, "
            f"{self.shape[1]} dt from {self.dt[0]:g} to {self.dt[-1]:g} d, "
            f"{self.normalization}{' spread by errors' if self.spread else ''}, {edges[:6]})"
        )

    @property
    def shape(self):
        """The shape of one image, (n_dm, n_dt)."""
        return len(self.dm) - 1, len(self.dt) - 1

    def with_normalization(self, normalization):
        """Return the same edges under another normalization."""
        return dataclasses.replace(self, normalization=normalization)

    def to_dict(self):
        """Return the grid as JSON can hold it."""
        return dataclasses.asdict(self) | {"dm": list(self.dm), "dt": list(self.dt)}

    @classmethod
    def from_dict(cls, saved):
        """Return the grid that :meth:`to_dict` wrote."""
        return cls(**saved)

    def check(self, other):
        """Return ``other``, images or a grid, if it is of this grid.

        Values show only gross differences: another normalization mostly, other edges never. So
        models and files carry the grid itself (`to_dict`), and it is the grids to compare.

        Parameters
        ----------
        other : Grid, dict of to_dict, or array, shape (n_objects, n_dm, n_dt)

        Raises
        ------
        ValueError
            Another grid; images of another shape, or with values that this grid cannot give:
            integers under all but plain counts, fractions under these, wrong sums or maxima.
        """
        if isinstance(other, Grid | dict):
            grid = Grid.from_dict(other) if isinstance(other, dict) else other
            if grid != self:
                raise ValueError(f"{grid} is not {self}; make the images with one of them")
            return other
        images = np.asarray(other)
        if images.ndim != 3 or images.shape[1:] != self.shape:
            raise ValueError(
                f"images of shape {images.shape} are not (n_objects, {self.shape[0]}, "
                f"{self.shape[1]}) of {self}; make them with this grid"
            )
        if not (np.all(images >= 0) and _possible(images, self)):
            spread = " spread by errors" if self.spread else ""
            raise ValueError(
                f"these values cannot be {self.normalization!r}{spread}; make the images with "
                f"{self}"
            )
        return images


def _possible(images, grid):
    """Return whether the values keep what the normalization promises."""
    flat = images.reshape(len(images), -1)
    if grid.normalization == "counts" and not grid.spread:
        return bool(np.all(images == np.floor(images)))
    if images.dtype.kind in "iub":
        return False
    if grid.normalization == "counts":  # few pairs, or a single dm cell, may give whole numbers
        few = grid.shape[0] == 1 or flat.sum(dtype=float) < 100
        return few or not np.all(images == np.floor(images))
    if grid.normalization == "pairs255":
        return bool(np.all(flat.sum(axis=1, dtype=float) <= 255.01))
    total = {
        "p(dm|dt)": lambda: images.sum(axis=1, dtype=float),
        "max": lambda: flat.max(axis=1),
        "l2": lambda: np.sqrt(np.square(flat, dtype=float).sum(axis=1)),
    }[grid.normalization]()
    return bool(np.all((total == 0) | (np.abs(total - 1) < 1e-3)))


def _mirrored(edges):
    return *(-edge for edge in reversed(edges)), 0, *edges


#: Mahabal et al. 2017, 22 dm bins by 24 dt bins.
GRID = Grid(
    dm=_mirrored((0.1, 0.2, 0.3, 0.5, 1, 1.5, 2, 2.5, 3, 5, 8)),
    dt=(
        *(0, 1 / 145, 2 / 145, 3 / 145, 4 / 145, 1 / 25, 2 / 25, 3 / 25, 1.5, 2.5, 3.5, 4.5, 5.5),
        *(7, 10, 20, 30, 60, 90, 120, 240, 600, 960, 2000, 4000),
    ),
)

#: The ZTF Source Classification Project (SCoPe), 26 by 26 bins.
SCOPE_GRID = Grid(
    dm=_mirrored((0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.25, 1.5, 2, 2.5, 3, 4.5, 8)),
    dt=(
        *(0, 0.02759, 0.04, 0.08, 0.12, 0.3, 0.75, 1, 1.5, 2.5, 3.5, 4.5, 5.5, 7, 10, 20, 30, 45),
        *(60, 90, 120, 180, 240, 360, 500, 650, 2000),
    ),
)


def log_grid(*, dt_min=0.01, dt_max=4000.0, n_dt=24, dm_max=8.0, n_dm=22, normalization="counts"):
    """Return a grid logarithmic in dt [day] and linear in dm [mag] from -dm_max to dm_max.

    Examples
    --------
    >>> log_grid(dt_min=1, dt_max=100, n_dt=2, dm_max=1, n_dm=4).dt
    (1.0, 10.0, 100.0)

    Raises
    ------
    ValueError
        Limits that leave no logarithmic range.
    """
    if not 0 < dt_min < dt_max:
        raise ValueError(f"dt from {dt_min} to {dt_max}; a logarithmic grid needs 0 < min < max")
    dm, dt = np.linspace(-dm_max, dm_max, n_dm + 1), np.geomspace(dt_min, dt_max, n_dt + 1)
    return Grid(tuple(dm), tuple(dt), normalization)


def image(mjd, mag, magerr=None, *, grid=GRID):
    """Return the dm-dt image of one light curve, shape (n_dm, n_dt): uint32 counts, else float32.

    Parameters
    ----------
    mjd, mag, magerr : array_like, shape (n_obs,)
        Ascending times [day], magnitudes, 1-sigma errors [mag], of one band. ``magerr`` is used
        (and needed) only if ``grid.spread``.
    grid : Grid
        Edges, normalization, and whether pairs are spread.

    Raises
    ------
    ValueError
        Times that do not ascend, columns that differ in length, non-finite values, no errors.

    Examples
    --------
    >>> image([0, 1, 5], [15.0, 15.5, 14.8], grid=Grid(dm=(-1, 0, 1), dt=(0, 2, 10)))
    array([[0, 2],
           [1, 0]], dtype=uint32)
    """
    mjd, mag, magerr = as_columns(mjd, mag, magerr, grid)
    return _images(np.array([0, len(mjd)]), mjd, mag, magerr, grid, progress=False)[0]


def images(lcs, *, grid=GRID, progress=False):
    """Return the dm-dt images of a table, shape (n_objects, n_dm, n_dt).

    As :func:`image` of each object, in as many threads as numba has (``NUMBA_NUM_THREADS``).

    Raises
    ------
    ValueError
        Several bands, or a light curve of MAX_POINTS points or more.
    """
    lightcurves.one_band(lcs)
    columns = lightcurves.arrays(lcs)
    return _images(columns.offsets, columns.mjd, columns.mag, columns.magerr, grid, progress)


def as_columns(mjd, mag, magerr, grid):
    """Return the arrays of one light curve as float64, checked."""
    if grid.spread and magerr is None:
        raise ValueError("magerr is missing; give it, or a grid with spread=False")
    given = [mjd, mag] if magerr is None else [mjd, mag, magerr]
    mjd, *rest = (np.ascontiguousarray(column, dtype=np.float64) for column in given)
    if mjd.ndim != 1 or any(column.shape != mjd.shape for column in rest):
        shapes = ", ".join(str(column.shape) for column in (mjd, *rest))
        raise ValueError(f"columns of shape {shapes}; give one value of each per observation")
    if np.any(np.diff(mjd) <= 0):
        raise ValueError("mjd does not ascend; sort it and merge repeated times")
    return mjd, rest[0], rest[1] if len(rest) > 1 else rest[0]


def _images(offsets, mjd, mag, magerr, grid, progress):
    """Return the images of all objects, chunks of objects shared out among the threads."""
    import numba
    from tqdm.auto import tqdm

    if not (np.all(np.isfinite(mjd)) and np.all(np.abs(mag) < np.finfo(float).max / 2)):
        raise ValueError("mjd or mag is not finite; clean with lightcurves.from_flat")
    n_obs = np.diff(offsets)
    if n_obs.max(initial=0) >= MAX_POINTS:
        raise ValueError(
            f"a light curve has {n_obs.max():,} points; bin it to fewer than {MAX_POINTS:,}"
        )
    kernel = _kernel(grid.spread)
    columns = (mjd, mag, magerr) if grid.spread else (mjd, mag)
    dm, dt = np.array(grid.dm), np.array(grid.dt)
    kind = float if grid.spread else np.uint32
    counted = grid.normalization == "counts" and not grid.spread
    out = np.zeros((len(n_obs), *grid.shape), kind if counted else np.float32)
    step = max(1, CHUNK_CELLS // math.prod(grid.shape))

    def fill(first):
        part = slice(first, min(first + step, len(out)))
        cells = out[part] if counted else np.zeros(out[part].shape, kind)
        kernel(offsets[part.start : part.stop + 1], *columns, dm, dt, cells)
        if not counted:
            n = n_obs[part].astype(float)
            out[part] = normalize(cells, n * (n - 1) / 2, grid=grid)
        return len(cells)

    chunks = range(0, len(out), step)
    with (
        ThreadPoolExecutor(min(numba.get_num_threads(), max(1, len(chunks)))) as pool,
        tqdm(total=len(out), unit="object", disable=not progress) as bar,
    ):
        for n_filled in pool.map(fill, chunks):
            bar.update(n_filled)
    return out


def normalize(counts, n_pairs, *, grid=GRID):
    """Return counts of pairs, shape (..., n_dm, n_dt), under the grid's normalization.

    ``n_pairs``, shape (...), is n (n - 1) / 2 of each light curve, on the grid or not; only
    ``pairs255`` uses it.
    """
    if grid.normalization == "counts":
        return counts
    cells = np.asarray(counts, dtype=float)
    if grid.normalization == "pairs255":
        cells, total = 255 * cells, np.asarray(n_pairs, dtype=float)[..., None, None]
    elif grid.normalization == "p(dm|dt)":
        total = cells.sum(axis=-2, keepdims=True)
    elif grid.normalization == "max":
        total = cells.max(axis=(-2, -1), keepdims=True)
    else:
        total = np.sqrt(np.square(cells).sum(axis=(-2, -1), keepdims=True))
    return (cells / np.where(total > 0, total, 1)).astype(np.float32)


def pairs(lc, dm_bin, dt_bin, *, grid=GRID):
    """Return the pairs of observations of ``lc`` that fill a cell, or any of several cells.

    The columns of this DataFrame: ``i``, ``j`` (positions in ``lc``, j > i), ``dt`` [day], ``dm``
    [mag].

    Parameters
    ----------
    lc : DataFrame
        One object's observations in one band.
    dm_bin, dt_bin : int or sequence of int
        Row and column of each cell.
    grid : Grid
        Its edges; pairs are not spread.

    Raises
    ------
    ValueError
        Several bands, or a cell outside the grid.
    """
    bands = sorted(lc["band"].unique()) if "band" in lc else []
    if len(bands) > 1:
        raise ValueError(f"expected one band, found {bands}; use lightcurves.select_band first")
    dm_bin, dt_bin = np.atleast_1d(dm_bin).astype(int), np.atleast_1d(dt_bin).astype(int)
    for cell in zip(dm_bin.tolist(), dt_bin.tolist(), strict=True):
        if not (0 <= cell[0] < grid.shape[0] and 0 <= cell[1] < grid.shape[1]):
            raise ValueError(f"no cell {cell}; the grid has shape {grid.shape}")
    mjd, mag, _ = as_columns(lc["mjd"], lc["mag"], None, dataclasses.replace(grid, spread=False))
    wanted = np.zeros(np.add(grid.shape, 2), bool)  # with a rim for what is off the grid
    wanted[dm_bin + 1, dt_bin + 1] = True
    chosen = [np.empty((2, 0), int)]
    if len(dt_bin):
        # a little wider than the cells, for mjd + edge is rounded, and mjd[j] - mjd[i] otherwise
        low, high = grid.dt[dt_bin.min()] - 1e-6, grid.dt[dt_bin.max() + 1] + 1e-6
        first = np.maximum(np.searchsorted(mjd, mjd + low), np.arange(1, len(mjd) + 1))
        n_near = np.maximum(np.searchsorted(mjd, mjd + high) - first, 0)
        n_before = np.cumsum(n_near) - n_near
        for part in np.split(np.arange(len(mjd)), np.flatnonzero(np.diff(n_before // 10**6)) + 1):
            i = np.repeat(part, n_near[part])
            j = np.arange(len(i)) + np.repeat((first - n_before)[part], n_near[part])
            j += n_before[part[0]] if len(part) else 0
            row = np.searchsorted(grid.dm, mag[j] - mag[i], side="right")
            column = np.searchsorted(grid.dt, mjd[j] - mjd[i], side="right")
            inside = wanted[row, column]
            chosen.append(np.array([i[inside], j[inside]]))
    i, j = np.concatenate(chosen, axis=1)
    return pd.DataFrame({"i": i, "j": j, "dt": mjd[j] - mjd[i], "dm": mag[j] - mag[i]})


@functools.cache
def _kernel(spread):
    """Return the compiled kernel."""
    import numba

    function = _spread if spread else _count
    offsets, column = (
        numba.types.Array(kind, 1, "C", readonly=True) for kind in (numba.int64, numba.float64)
    )
    cells = (numba.float64 if spread else numba.uint32)[:, :, ::1]
    signature = numba.void(offsets, *[column] * (5 if spread else 4), cells)
    return compiled(function, signature)


def compiled(function, signature):
    """Return a kernel compiled by numba, kept on disk where numba finds a place to write."""
    import numba

    try:
        return numba.njit(signature, nogil=True, cache=True)(function)
    except (RuntimeError, OSError):  # a read-only installation without a home, a full disk
        return numba.njit(signature, nogil=True)(function)


def _count(offsets, mjd, mag, dm_edges, dt_edges, images):
    """Add the pairs of each object to its image: exact, and without looking at every pair.

    Rounding keeps order: with the magnitudes sorted, those with ``mag[j] - mag[i] < edge`` in
    floating point are always the first ``below[i, edge]`` ones, and with ascending times those in
    a dt bin are consecutive. Both borders are found by walking, as they only move forward with i.
    The pairs of i in a cell are then points that lie between two times and between two ranks, and
    one table, ``table[j, rank]`` = how many of the first j points have a smaller rank, gives their
    number as a difference. The cost grows with points times filled cells, not with pairs.

    The table holds at most BLOCK points: a longer light curve is taken in blocks of j, and for
    each of them in blocks of i. Edges that a block's own magnitudes cannot reach are left out.
    A block is sorted by putting its magnitudes into as many equal buckets, which leaves little
    for a sort by insertion to do: half the time of numba's np.argsort.
    """
    n_dm, n_dt = len(dm_edges), len(dt_edges)
    longest = 0
    for q in range(len(offsets) - 1):
        longest = max(longest, offsets[q + 1] - offsets[q])
    size = max(1, min(longest, BLOCK))
    order = np.empty(longest, np.int64)
    sorted_mag = np.empty(longest)
    rank = np.empty(size, np.int64)
    placed = np.empty(size + 1, np.int64)
    table = np.zeros((size + 1, size + 1), np.uint16)
    below = np.empty((size, n_dm), np.uint16)
    start = np.empty(n_dt, np.int64)
    total = np.empty((n_dt - 1, n_dm), np.uint32)
    for q in range(len(offsets) - 1):
        t = mjd[offsets[q] : offsets[q + 1]]
        m = mag[offsets[q] : offsets[q + 1]]
        n = len(t)
        for j0 in range(0, n, size):
            n_j = min(size, n - j0)
            j1 = j0 + n_j
            low, high = m[j0:j1].min(), m[j0:j1].max()
            width = (high - low) if high > low else 1.0
            placed[: n_j + 1] = 0
            for j in range(n_j):
                rank[j] = int((m[j0 + j] - low) / width * (n_j - 1))  # for now, its bucket
                placed[rank[j] + 1] += 1
            for bucket in range(n_j):
                placed[bucket + 1] += placed[bucket]
            for j in range(n_j):
                r = placed[rank[j]]
                placed[rank[j]] += 1
                sorted_mag[j0 + r], order[j0 + r] = m[j0 + j], j
            for a in range(j0 + 1, j1):
                m_a, j = sorted_mag[a], order[a]
                while a > j0 and sorted_mag[a - 1] > m_a:
                    sorted_mag[a], order[a] = sorted_mag[a - 1], order[a - 1]
                    a -= 1
                sorted_mag[a], order[a] = m_a, j
            for r in range(n_j):
                rank[order[j0 + r]] = r
            for j in range(n_j):
                r_j = rank[j]
                before, after = table[j], table[j + 1]
                for r in range(n_j + 1):
                    after[r] = before[r] + (r > r_j)
            for i0 in range(0, j1, size):
                i1 = min(i0 + size, j1)
                if t[j0] - t[i1 - 1] >= dt_edges[-1] or t[j1 - 1] - t[i0] < dt_edges[0]:
                    continue
                lowest = sorted_mag[j0] - sorted_mag[i1 - 1]
                highest = sorted_mag[j1 - 1] - sorted_mag[i0]
                first, last = 0, n_dm - 1
                while first < last - 1 and dm_edges[first + 1] <= lowest:
                    first += 1
                while last > first + 1 and dm_edges[last - 1] > highest:
                    last -= 1
                n_edges = last - first + 1
                for k in range(n_edges):
                    edge = dm_edges[first + k]
                    r = 0
                    for a in range(i0, i1):
                        m_i = sorted_mag[a]
                        while r < n_j and sorted_mag[j0 + r] - m_i < edge:
                            r += 1
                        below[order[a], k] = r
                start[:] = j0
                total[:] = 0
                for i in range(i0, i1):
                    t_i = t[i]
                    ranks = below[i - i0]
                    j = max(start[0], i + 1)
                    while j < j1 and t[j] - t_i < dt_edges[0]:
                        j += 1
                    start[0] = j
                    for d in range(n_dt - 1):
                        begin = j
                        j = max(start[d + 1], begin)
                        while j < j1 and t[j] - t_i < dt_edges[d + 1]:
                            j += 1
                        start[d + 1] = j
                        if begin < j:
                            for k in range(n_edges):
                                r = ranks[k]
                                total[d, k] += table[j - j0, r] - table[begin - j0, r]
                for d in range(n_dt - 1):
                    for k in range(n_edges - 1):
                        images[q, first + k, d] += total[d, k + 1] - total[d, k]


def _spread(offsets, mjd, mag, magerr, dm_edges, dt_edges, images):
    """Add to each object's image the share of every pair's Gaussian in every dm cell."""
    n_dm, n_dt = len(dm_edges), len(dt_edges)
    for q in range(len(offsets) - 1):
        for i in range(offsets[q], offsets[q + 1]):
            d = 0
            for j in range(i + 1, offsets[q + 1]):
                dt = mjd[j] - mjd[i]
                while d < n_dt and dt >= dt_edges[d]:
                    d += 1
                if d == n_dt:
                    break
                if d == 0:
                    continue
                dm = mag[j] - mag[i]
                scale = 1 / math.sqrt(2 * (magerr[i] ** 2 + magerr[j] ** 2))
                share = math.erf((dm_edges[0] - dm) * scale)
                for k in range(1, n_dm):
                    if share == 1:
                        break
                    lower, z = share, (dm_edges[k] - dm) * scale
                    if z > -6:  # erf is -1 to the last digit below
                        share = math.erf(z)
                        images[q, k - 1, d - 1] += (share - lower) / 2
