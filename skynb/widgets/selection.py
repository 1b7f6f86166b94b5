"""The bus between explorers: which objects are chosen, which one is looked at, and the way back."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import traitlets

from skynb import lightcurves

N_STEPS = 100
"""Steps that can be undone."""


class Selection(traitlets.HasTraits):
    """A set of objects shared by every explorer; any of them writes it and all follow.

    Parameters
    ----------
    index : Index, DataFrame or sequence
        The ids of the objects that there are, or a table indexed by them.

    Attributes
    ----------
    rows : ndarray of int
        Positions of the chosen objects in ``index``, ascending. Observe it; write with `choose`.
    focus : int or None
        Position of the object that is looked at.
    points : tuple of int
        Positions of the chosen observations in the light curve of that object.
    hovered : int or None
        Position of the observation under the pointer.
    pairs : ndarray of int, shape (n_pairs, 2)
        Positions of the two observations of each pair that is lit.
    periods : dict
        Period [day] of the objects whose period was edited, by their position in ``index``.
    clip : float
        Observations farther from their band's median than this many sigma are left out; 0: none.
    n_undo, n_redo : int
        Steps that there are back and forth.

    Examples
    --------
    >>> chosen = Selection(["a", "b", "c"])
    >>> chosen.choose(["c", "a"])
    >>> chosen.ids.tolist()
    ['a', 'c']
    >>> chosen.undo()
    >>> len(chosen)
    0
    """

    rows = traitlets.Any()
    focus = traitlets.Int(allow_none=True, default_value=None)
    points = traitlets.Tuple()
    hovered = traitlets.Int(allow_none=True, default_value=None)
    pairs = traitlets.Any()
    periods = traitlets.Dict()
    clip = traitlets.Float(0.0)
    n_undo, n_redo = traitlets.Int(), traitlets.Int()

    def __init__(self, index):
        held = getattr(index, "index", index)  # a list has a method of that name
        index = pd.Index(index if callable(held) else held)
        if not index.is_unique:
            again = index[index.duplicated()].tolist()[0]
            raise ValueError(f"object {again!r} appears twice; give every object one row")
        self.index, self._undo, self._redo = index, [], []
        none = np.empty((0, 2), int)
        super().__init__(rows=none[:, 0], pairs=none, focus=0 if len(index) else None)

    def __len__(self):
        return len(self.rows)

    def __contains__(self, object_id):
        return object_id in self.index and self.position(object_id) in self.rows

    @property
    def ids(self):
        """The ids of the chosen objects, in the order of the table."""
        return self.index[self.rows]

    def position(self, object_id):
        """Return the position of one object; ValueError if there is none."""
        return int(self._positions([object_id])[0])

    def look_at(self, object_id):
        """Make one object the one that is looked at."""
        self.focus = self.position(object_id)

    def choose(self, ids, *, how="replace"):
        """Choose objects by id: ``replace``, ``add``, ``remove``, or ``keep`` only these of them.

        Raises
        ------
        ValueError
            If an id is not there, or ``how`` is another word; nothing has changed then.
        """
        self.choose_rows(self._positions(ids), how=how)

    def choose_rows(self, rows, *, how="replace"):
        """Choose objects by their positions in ``index``, or a mask, as `choose` does."""
        rows = self._within(rows)
        ways = {
            "replace": lambda: rows,
            "add": lambda: np.union1d(self.rows, rows),
            "remove": lambda: np.setdiff1d(self.rows, rows),
            "keep": lambda: np.intersect1d(self.rows, rows),
        }
        if how not in ways:
            raise ValueError(f"no way {how!r} to choose; there are {', '.join(ways)}")
        chosen = ways[how]()
        if np.array_equal(chosen, self.rows):
            return
        self._undo, self._redo = [*self._undo, self.rows][-N_STEPS:], []
        self._show(chosen)

    def fix_period(self, period):
        """Give the object that is looked at a period [day]; ValueError if it cannot be one."""
        if not (period is not None and np.isfinite(period) and period > 0):
            raise ValueError(f"period is {period}; give a positive number of days")
        self.periods = {**self.periods, self.focus: float(period)}

    def release_period(self):
        """Take the fixed period of the object that is looked at back."""
        self.periods = {row: fixed for row, fixed in self.periods.items() if row != self.focus}

    def clear(self):
        """Choose nothing."""
        self.choose_rows([])

    def undo(self):
        """Go back one step; nothing happens at the first."""
        if self._undo:
            self._redo.append(self.rows)
            self._show(self._undo.pop())

    def redo(self):
        """Take back one `undo`."""
        if self._redo:
            self._undo.append(self.rows)
            self._show(self._redo.pop())

    def to_frame(self, lcs=None):
        """Return the chosen rows of ``lcs``; without it a DataFrame of ids alone."""
        if lcs is None:
            return pd.DataFrame(index=self.ids)
        return lightcurves.take(lcs, Selection(lcs)._positions(self.ids))

    def save(self, path):
        """Return ``path`` after writing the chosen ids there as JSON, whole or not at all."""
        with lightcurves.whole(path) as part:
            part.write_text(json.dumps({"object_id": self.ids.tolist()}) + "\n", encoding="utf-8")
        return Path(path).expanduser()

    def load(self, path):
        """Choose the ids that `save` wrote; ValueError if the file holds something else."""
        try:
            ids = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))["object_id"]
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{path} holds no selection; save one with Selection.save") from None
        self.choose(ids)

    def _positions(self, ids):
        try:
            ids = pd.Index(ids)
        except TypeError:
            raise ValueError(f"ids are {ids!r}; give a list of them") from None
        if ids.dtype.kind == "f" and self.index.dtype.kind in "iu" and len(ids):
            raise ValueError(f"ids are floats, as {ids[0]}, which merge long ones; give integers")
        rows = self.index.get_indexer(ids) if len(ids) else np.empty(0, int)
        missing = ids[rows < 0].tolist()
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            some = self.index[:1].tolist()
            like = f"ids are like {some[0]!r}" if some else "the table is empty"
            raise ValueError(f"no object {missing[0]!r}{more} among {len(self.index)}; {like}")
        return rows

    def _show(self, rows):
        with self.hold_trait_notifications():
            self.rows = rows
            self.n_undo, self.n_redo = len(self._undo), len(self._redo)

    def _within(self, rows):
        rows = np.asarray(rows)
        if rows.dtype == bool and rows.shape == self.index.shape:
            rows = np.flatnonzero(rows)
        if rows.size and rows.dtype.kind not in "iu":
            raise ValueError(f"rows are {rows!r:.60}; give positions, or a mask of all objects")
        rows = np.unique(rows.astype(int))
        if len(rows) and not (rows[0] >= 0 and rows[-1] < len(self.index)):
            raise ValueError(f"rows {rows[0]} to {rows[-1]}; there are {len(self.index)} objects")
        return rows

    @traitlets.validate("rows")
    def _check_rows(self, proposal):
        return self._within(proposal["value"])

    @traitlets.validate("focus")
    def _check_focus(self, proposal):
        return checked_row("focus", proposal["value"], self.index)

    @traitlets.validate("clip")
    def _check_clip(self, proposal):
        return checked_clip(proposal["value"])

    @traitlets.observe("focus")
    def _leave(self, _):
        self.points, self.hovered, self.pairs = (), None, np.empty((0, 2), int)


def bus_of(lcs, selection):
    """Return the selection, a new one if None; ValueError if it or the light curves are none."""
    if "lightcurve" not in getattr(lcs, "columns", ()):
        raise ValueError(
            f"lcs is a {type(lcs).__name__} without a column 'lightcurve'; give what"
            " lightcurves.read or lightcurves.open returns"
        )
    selection = Selection(lcs) if selection is None else selection
    if not selection.index.equals(lcs.index):
        raise ValueError("selection is of another table; make it with widgets.Selection(lcs)")
    return selection


def check_rows(what, given, lcs):
    """ValueError if a table given beside the light curves has other rows than they."""
    index = getattr(given, "index", None)
    if len(given) != len(lcs) or (isinstance(index, pd.Index) and not index.equals(lcs.index)):
        raise ValueError(
            f"{what} of {len(given)} objects, but {len(lcs)} light curves, or in another"
            " order; give one row for each, with the same index"
        )


def checked_row(what, row, objects):
    """Return the position of an object, or None; ValueError if there is none there."""
    if row is not None and not 0 <= row < len(objects):
        raise ValueError(f"{what} is {row}; there are {len(objects)} objects, from 0")
    return row


def checked_clip(clip):
    """Return how many sigmas are kept; ValueError if it is no number for that."""
    if not (np.isfinite(clip) and clip >= 0):
        raise ValueError(f"clip is {clip}; give a number of sigmas, 0: none are left out")
    return clip
