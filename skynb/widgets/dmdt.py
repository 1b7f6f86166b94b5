"""A dm-dt image, and the pairs of observations behind its cells."""

import ipywidgets
import numpy as np

from skynb import dmdt
from skynb.widgets import view
from skynb.widgets.object_view import ObjectView, in_row, labelled

GRIDS = {
    "Mahabal et al. 2017": dmdt.GRID,
    "SCoPe": dmdt.SCOPE_GRID,
    "logarithmic": dmdt.log_grid(),
    "logarithmic, small dm": dmdt.log_grid(dm_max=1.0),
}
"""The grids of the menu, besides the one that an explorer is made with."""


class DmDtExplorer(ObjectView):
    """The dm-dt image of one light curve: pick cells and see which pairs of observations fill them.

    ![DmDtExplorer](../../docs/DmDtExplorer.png)

    Click on a cell, or draw a box over several: their pairs light up on the light curve, raw and
    folded. Choose observations there: squares in the image show their share of each cell. Keys,
    where the explorer has the focus: arrows move the cursor, Enter picks its cell, Space one more,
    ``,`` and ``.`` move the pointer to the observation before and after, ``s`` chooses it, Escape
    clears, ``n`` and ``p`` next and previous object, ``d`` and ``h`` double and halve the period,
    ``=`` takes the object's own again.

    Parameters
    ----------
    lcs : NestedFrame or lightcurves.Stored
        Light curves; ``period`` and ``label`` are used where they are there.
    selection : Selection, optional
        The bus that other explorers share; by default a new one.
    grid : skynb.dmdt.Grid
        Edges and normalisation of the image at first.
    curves : bool
        Show the light curve; without, another explorer on the same bus may.

    Attributes
    ----------
    band : str
        Of the image: that with most observations, until another is chosen.
    grid : skynb.dmdt.Grid
        Edges and normalisation of the image.
    cells : tuple of (int, int)
        Cells (row, column) picked in the image; their pairs are ``selection.pairs``.
    period : float or None
        At which the light curve is folded [day].

    Examples
    --------
    >>> from skynb import simulate
    >>> explorer = DmDtExplorer(simulate.lightcurves(n_per_class=1))
    >>> explorer.cells = [(11, 12), (11, 13)]
    >>> len(explorer.selection.pairs) == int(explorer.image.counts[11, 12:14].sum())
    True
    """

    def __init__(self, lcs, *, selection=None, grid=dmdt.GRID, curves=True):
        self._grids = dict(GRIDS)
        if grid.with_normalization("counts") not in self._grids.values():
            self._grids = {"own": grid.with_normalization("counts"), **GRIDS}
        super().__init__(lcs, selection=selection, grid=grid, curves=curves)

    def pick_at(self, dt, dm):
        """Pick the cell that holds a time lag [day] and a difference of magnitudes [mag].

        Raises
        ------
        ValueError
            If there is none on the grid.
        """
        at = [
            np.searchsorted(edges, x, side="right") - 1
            for edges, x in ((self.grid.dm, dm), (self.grid.dt, dt))
        ]
        if not all(0 <= k < n for k, n in zip(at, self.grid.shape, strict=True)):
            raise ValueError(f"no cell holds dt {dt:g} d and dm {dm:g} mag; see {self.grid}")
        self._put_cursor(at)
        self.pick()

    def _controls(self):
        self._grid = labelled(ipywidgets.Dropdown, "grid", 220, options=list(self._grids))
        self._norm = labelled(
            ipywidgets.Dropdown, "normalisation", 200, options=dmdt.NORMALIZATIONS
        )
        self._band = labelled(ipywidgets.Dropdown, "band", 110)
        for menu in (self._grid, self._norm):
            menu.observe(self._chosen_grid, "value")
        self._band.observe(self._chosen_band, "value")
        self._dt, self._dm = (
            labelled(ipywidgets.FloatText, text, 130, step=None) for text in ("dt [d]", "dm [mag]")
        )
        go = self.button("pick cell", "that of this dt and dm", self._pick_typed, width="90px")
        for field in (self._dt, self._dm):  # a value may arrive after the click on the button
            field.observe(lambda _: go.click(), "value")
        clear = self.button("clear", "pick and choose nothing (Escape)", self.clear, width="70px")
        above = [self._navigation(), self._period_bar()] if self.curves else []
        menus = in_row(self._grid, self._norm, self._band)
        return [*above, menus], [in_row(self._dt, self._dm, go, clear)]

    def _pick_typed(self):
        self.pick_at(self._dt.value, self._dm.value)

    def _show_object(self):
        plain = self.grid.with_normalization("counts")
        self._norm.value = self.grid.normalization
        known = [name for name, grid in self._grids.items() if grid == plain]
        if not known:
            self._grids["own"], known = plain, ["own"]
            self._grid.options = list(self._grids)
        self._grid.value = known[0]
        self._band.options = self._bands
        self._band.value = self.band if self.band in self._bands else None

    def _chosen_grid(self, _):
        if not self._quiet:
            grid = self._grids[self._grid.value]
            self.grid = grid.with_normalization(self._norm.value)

    @view.reported
    def _chosen_band(self, change):
        if not self._quiet and change.new:
            self.band = change.new
