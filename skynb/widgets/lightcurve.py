"""A light curve raw and folded, its period in one's own hands."""

import html
from pathlib import Path

import ipywidgets
import numpy as np
import pandas as pd
import traitlets

from skynb import dmdt, lightcurves
from skynb.widgets.object_view import ObjectView, in_row, labelled
from skynb.widgets.selection import checked_clip

N_BUTTONS = 8
"""Candidate periods shown as buttons."""

BINS = ("none", "time [d]", "phase")


class LightCurveExplorer(ObjectView):
    """One light curve raw and folded side by side, with its dm-dt image and the period to edit.

    ![LightCurveExplorer](../../docs/LightCurveExplorer.png)

    Keys, where the explorer has the focus: ``n`` and ``p`` next and previous object, ``d`` and
    ``h`` double and halve the period, ``=`` takes the object's own again, ``1`` to ``8``
    take a candidate period, ``,`` and ``.`` move the pointer to the observation before and after,
    ``s`` chooses it, arrows move the cursor in the image, Enter picks its cell and Space one more,
    Escape clears.

    Parameters
    ----------
    lcs : NestedFrame or lightcurves.Stored
        Light curves; ``period`` and ``label`` are used where they are there.
    selection : Selection, optional
        The bus that other explorers share; by default a new one.
    grid : skynb.dmdt.Grid
        Of the dm-dt image.
    image : bool
        Show the dm-dt image; without, another explorer on the same bus may.

    Attributes
    ----------
    period : float or None
        At which the light curve is folded [day]: the one fixed for this object, else the table's,
        else the best that was found. Set it to fix it, None to take that back.
    clip : float
        Observations farther than this many sigma from the median of their band are left out; 0:
        none are.
    hidden : tuple of str
        Bands that are not shown.
    bin_by, bin_width : str, float
        ``none``, ``time [d]`` or ``phase``, and the width of the bins.
    band, cells : str, tuple of (int, int)
        Band of the image, and the cells (row, column) picked in it.

    Examples
    --------
    >>> from skynb import simulate
    >>> explorer = LightCurveExplorer(simulate.lightcurves(n_per_class=1))
    >>> explorer.period = 0.25
    >>> explorer.double()
    >>> explorer.periods.tolist()
    [0.5]
    """

    clip = traitlets.Float(0.0)
    bin_by = traitlets.Enum(BINS, "none")
    bin_width = traitlets.Float(0.05)

    def __init__(self, lcs, *, selection=None, grid=dmdt.GRID, image=True):
        super().__init__(lcs, selection=selection, grid=grid, image=image)
        self.bind(**{str(k + 1): lambda k=k: self.take_candidate(k) for k in range(N_BUTTONS)})
        self.clip = self.selection.clip
        self.follow(self.selection, clip=lambda change: setattr(self, "clip", change["new"]))
        self.observe(lambda change: setattr(self.selection, "clip", change["new"]), "clip")

    @property
    def periods(self):
        """The periods that were fixed [day], a Series by ``object_id``."""
        fixed = self.selection.periods
        index = self.lcs.index[list(fixed)].rename("object_id")
        return pd.Series(fixed.values(), index=index, name="period", dtype=float)

    def save_periods(self, path):
        """Return ``path`` after writing `periods` there as CSV, whole or not at all."""
        with lightcurves.whole(path) as part:
            self.periods.to_csv(part)
        return Path(path).expanduser()

    def load_periods(self, path):
        """Fix the periods that `save_periods` wrote; ValueError if an id is not there."""
        kind = self.lcs.index.dtype if pd.api.types.is_integer_dtype(self.lcs.index) else str
        table = pd.read_csv(
            Path(path).expanduser(), dtype={"object_id": kind}, keep_default_na=False
        )
        rows = map(self.selection.position, table["object_id"])
        loaded = dict(zip(rows, table["period"].astype(float), strict=True))
        self.selection.periods = {**self.selection.periods, **loaded}

    def take_candidate(self, k):
        """Fold at the candidate at position ``k``."""
        found = self.candidates()
        if k < len(found):
            self.selection.fix_period(found["period"].iloc[k])

    def _controls(self):
        self._buttons = [
            self.button("", f"fold here (key {k + 1})", lambda k=k: self.take_candidate(k))
            for k in range(N_BUTTONS)
        ]
        self._about = ipywidgets.HTML()
        self._candidates = in_row(self._about)
        self._clip = self._setting(
            labelled(ipywidgets.BoundedFloatText, "clip at [sigma], 0: none", 220, step=None),
            "clip",
        )
        self._by = self._setting(
            labelled(ipywidgets.Dropdown, "bins in", 150, options=BINS), "bin_by"
        )
        self._width = self._setting(
            labelled(ipywidgets.FloatText, "width of bins", 160, step=None, value=0.05), "bin_width"
        )
        self._checks, self._band_row = {}, in_row()
        settings = in_row(self._by, self._width, self._clip, self._band_row)
        return [self._navigation(), self._period_bar(), self._candidates], [settings]

    def _show_object(self):
        found = self._found.get(self._key())
        table = found if isinstance(found, pd.DataFrame) else None
        n = 0 if table is None else min(len(table), N_BUTTONS)
        for button, (_, row) in zip(
            self._buttons, [] if table is None else table[:n].iterrows(), strict=False
        ):
            button.description = f"{row['period']:.6g} d, {row['relation']}"
        said = "likely periods:" if n else found or "likely periods: searching …"
        self._about.value = html.escape(said)
        self._candidates.children = [self._about, *self._buttons[:n]]
        for band in self._bands:
            if band not in self._checks:
                self._checks[band] = labelled(ipywidgets.Checkbox, f"band {band}", 90, indent=False)
                self._checks[band].observe(self._on_check, "value")
            self._checks[band].value = band not in self.hidden
        several = len(self._bands) > 1
        self._band_row.children = [self._checks[band] for band in self._bands if several]

    def _bin(self):
        table = self.lc[self.kept].assign(phase=self.curves.phase[self.kept])
        if self.bin_by == "none" or (self.bin_by == "phase" and self.period is None):
            self.curves.bin(table[:0])
        elif self.bin_by == "phase":
            self.curves.bin(lightcurves.binned(table, self.bin_width, by="phase"))
        else:
            bins = lightcurves.binned(table, self.bin_width)
            if self.period is not None:
                bins["phase"] = lightcurves.fold(bins["mjd"], self.period)
            self.curves.bin(bins)

    def _on_check(self, _):
        if not self._quiet:
            others = [band for band in self.hidden if band not in self._bands]
            now = [band for band in self._bands if not self._checks[band].value]
            self.hidden = (*others, *now)

    @traitlets.validate("clip")
    def _check_clip(self, proposal):
        return checked_clip(proposal["value"])

    @traitlets.validate("bin_width")
    def _check_width(self, proposal):
        if not (np.isfinite(proposal["value"]) and proposal["value"] > 0):
            raise ValueError(f"bins of width {proposal['value']}; give a positive number")
        return proposal["value"]

    @traitlets.observe("clip", "bin_by", "bin_width")
    def _on_setting(self, change):
        with self._quietly():
            self._clip.value, self._by.value = self.clip, self.bin_by
            self._width.value = self.bin_width
        if change.name != "clip":
            with self.picture.together():
                self._bin()
