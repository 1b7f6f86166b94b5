"""One object at a time: its light curve, its period, its dm-dt image, and the way to the next."""

import asyncio
import contextlib
import html
import threading

import ipywidgets
import numpy as np
import pandas as pd
import traitlets
from bokeh.layouts import row

from skynb import dmdt, lightcurves, periods
from skynb.plots import band_styles, ticks, time_text
from skynb.widgets import view
from skynb.widgets.panels import Curves, Image, Tuner
from skynb.widgets.selection import bus_of

PAUSE = 0.3
"""Seconds of rest on an object before its period is searched, so that stepping stays fast."""

N_CYCLES = 5.0
"""Reach of the fine tuner: cycles more or less over the time span of the light curve."""

N_FOUND = 500
"""Objects whose candidate periods are remembered."""


class ObjectView(view.View):
    """What the explorers of one object share; each adds controls of its own.

    Attributes
    ----------
    period : float or None
        At which the light curve is folded [day]: the one fixed for this object, else the table's,
        else the best that was found. Set it to fix it, None to `release` it.
    hidden : tuple of str
        Bands that are not shown.
    band : str
        Of the dm-dt image: that with most observations, until another is chosen.
    grid : skynb.dmdt.Grid
        Edges and normalisation of the dm-dt image.
    cells : tuple of (int, int)
        Cells (row, column) picked in the image; their pairs are lit.
    """

    period = traitlets.Float(None, allow_none=True)
    hidden = traitlets.Tuple()
    band = traitlets.Unicode()
    grid = traitlets.Instance(dmdt.Grid)
    cells = traitlets.Tuple()

    def __init__(self, lcs, *, selection=None, grid=dmdt.GRID, curves=True, image=True):
        self._shared, selection = selection is not None, bus_of(lcs, selection)
        self.lcs, self.selection = lcs, selection
        self._saved, self._labels = (
            lcs[name] if name in lcs.columns else None for name in ("period", "label")
        )
        self.lc, self.kept = read_curve(lcs, None), np.empty(0, bool)
        self._row, self._in_band, self._cursor = None, np.empty(0, int), None
        self._base, self._silent, self._tuning, self._task = np.nan, None, False, None
        self._found, self._bands = {}, []
        self.curves = Curves(self._choose_points, self._hover) if curves else None
        self.image = Image(self._pick) if image else None
        figures = [self.curves.raw, self.curves.folded] if curves else []
        figures += [self.image.figure] if image else []
        self.picture = view.Picture(row(figures, sizing_mode="stretch_width"))
        self._status = ipywidgets.HTML()
        above, below = self._controls()
        super().__init__(*above, self.picture, *below, self._status, grid=grid)
        self.follow(selection, focus=self._show, clip=self._show, periods=self._on_periods)
        self.follow(selection, **dict.fromkeys(("points", "hovered", "pairs"), self._on_light))
        keys = {",": lambda: self.step_pointer(-1), ".": lambda: self.step_pointer(1)}
        keys |= {"s": self.toggle_point, "Escape": self.clear}
        if curves:
            keys |= {"n": self.next, "p": self.previous, "d": self.double, "h": self.halve}
            keys |= {"=": self.release}
        if image:
            moves = {"Up": (1, 0), "Down": (-1, 0), "Left": (0, -1), "Right": (0, 1)}
            keys |= {f"Arrow{name}": lambda by=by: self.move(*by) for name, by in moves.items()}
            keys |= {"Enter": self.pick, " ": lambda: self.pick(add=True)}
        self.bind(**keys)
        self._show()

    def next(self):
        """Look at the next object, of those chosen if there are several."""
        self._step(1)

    def previous(self):
        """Look at the object before, of those chosen if there are several."""
        self._step(-1)

    def go_to(self, object_id):
        """Look at the object of this id; text will do where ids are numbers."""
        if isinstance(object_id, str) and pd.api.types.is_integer_dtype(self.lcs.index):
            with contextlib.suppress(ValueError):
                object_id = int(object_id)
        self.selection.look_at(object_id)

    def double(self):
        """Double the period."""
        self._scale(2.0)

    def halve(self):
        """Halve the period."""
        self._scale(0.5)

    def release(self):
        """Take the fixed period back: the table's holds again, else the best that is found."""
        self.selection.release_period()

    def candidates(self):
        """Return the likely periods of what is shown of the object, as `periods.candidates`."""
        found = self._search()
        if isinstance(found, str):
            raise ValueError(found)
        return found

    def step_pointer(self, by):
        """Move the pointer to the next observation that is shown, or the one before."""
        shown, at = np.flatnonzero(self.kept), self.selection.hovered
        if len(shown):
            k = np.searchsorted(shown, at, side="left") + by if at is not None else min(by, 0)
            self.selection.hovered = int(shown[k % len(shown)])

    def toggle_point(self):
        """Choose the observation under the pointer, or leave it out again."""
        if self.selection.hovered is not None:
            points = set(self.selection.points) ^ {self.selection.hovered}
            self.selection.points = tuple(sorted(points))

    def clear(self):
        """Choose no observation and pick no cell."""
        self.selection.points, self.selection.hovered, self.cells = (), None, ()

    def move(self, n_rows, n_columns):
        """Move the cell cursor in the image."""
        shape = self.grid.shape
        at = np.add(self._cursor or (shape[0] // 2, -1), (n_rows, n_columns))
        self._put_cursor(np.clip(at, 0, np.subtract(shape, 1)))

    def pick(self, *, add=False):
        """Pick the cell under the cursor; with ``add``, besides those picked, or drop it again."""
        if self._cursor is None:
            self.move(0, 1)
        at = {self._cursor}
        self.cells = tuple(sorted(set(self.cells) ^ at if add else at))

    def draw(self, figure):
        """Draw the present state on a matplotlib figure."""
        self._search()
        axes = iter(np.atleast_1d(figure.subplots(1, 2 * bool(self.curves) + bool(self.image))))
        if self.curves:
            self._draw_curve(next(axes), self.lc["mjd"], "MJD [day]")
            folded, phase = next(axes), self.curves.phase
            self._draw_curve(folded, phase, "phase")
            self._draw_curve(folded, phase + 1, "phase")
            folded.set_title(self.curves.folded.title.text)
            handles, names = folded.get_legend_handles_labels()
            if self._bands:
                once = dict(zip(names, handles, strict=True))
                folded.legend(once.values(), once.keys(), loc="upper right", fontsize="small")
        if self.image:
            self._draw_image(figure, next(axes))

    def _controls(self):
        """Return the widgets above and those below the picture."""
        raise NotImplementedError

    def _navigation(self):
        """Return the row of widgets that lead to other objects."""
        back = self.button("previous", "previous object (key p)", self.previous, width="80px")
        on = self.button("next", "next object (key n)", self.next, width="80px")
        self._went = labelled(ipywidgets.Text, "go to object", 260, continuous_update=False)
        self._went.observe(self._typed_id, "value")
        return in_row(back, on, self._went)

    def _period_bar(self):
        """Return the row of widgets that change the period."""
        self._period = labelled(ipywidgets.FloatText, "period [d]", 200, step=None)
        self._period.observe(self._typed_period, "value")
        half = self.button("×½", "half the period (key h)", self.halve)
        twice = self.button("×2", "twice (key d)", self.double)
        about = "the object's own period: the table's, else that found (key =)"
        own = self.button("own", about, self.release)
        self.tuner = Tuner(label="fine tuning", min=-N_CYCLES, max=N_CYCLES)
        self.tuner.observe(self._tuned, "value")
        return in_row(self._period, half, twice, own, self.tuner)

    def _setting(self, control, name):
        """Tie a control and a trait of this view; a value that is refused is put back."""

        def typed(self, change):
            try:
                setattr(self, name, change.new)
            finally:
                control.value = getattr(self, name)

        guarded = view.reported(typed)
        control.observe(lambda change: None if self._quiet else guarded(self, change), "value")
        return control

    @contextlib.contextmanager
    def _quietly(self):
        """Set controls from state without hearing of it."""
        with view.LOCK:
            before, self._silent = self._silent, threading.get_ident()
            try:
                yield
            finally:
                self._silent = before

    @property
    def _quiet(self):
        return self._silent == threading.get_ident()

    @view.reported
    def _show(self, _=None):
        """Show the object in focus."""
        at = self.selection.focus
        if at != self._row:
            with self._quietly():
                self.cells = ()
        self.lc, self._row = read_curve(self.lcs, at), at
        self._bands = list(band_styles(self.lc["band"]))
        self.kept = ~np.isin(self.lc["band"].to_numpy(), self.hidden)
        if self.selection.clip and len(self.lc):
            self.kept &= lightcurves.clip(self.lc, self.selection.clip)
        counted = self.lc["band"][self.kept].value_counts()
        with self.picture.together(), self._quietly():
            if self.band not in counted.index:
                self.band = str(counted.index[0]) if len(counted) else ""
            if self.curves:
                self.curves.show(self.lc, self.kept)
            self._fold()
            self._show_object()
            try:
                self._show_image()
            finally:
                self._light()
                self._tell()
        self._search_soon()
        if at is None:
            raise ValueError("the table is empty; give at least one light curve")
        if not len(self.lc):
            raise ValueError(f"object {self.lcs.index[at]!r} has no observation; see another")

    def _show_object(self):
        """Set the controls that depend on the object; explorers have some of their own."""

    def _show_image(self):
        """Count the pairs of what is shown in the band and draw them."""
        self._in_band = np.flatnonzero(self.kept & (self.lc["band"] == self.band).to_numpy())
        if not self.image:
            return
        self.image.set_grid(self.grid)
        self.image.pick(self.cells)
        try:
            counts = self._count(self._in_band)
        except ValueError:
            blank = np.zeros(self.grid.shape, np.uint32)
            self.image.show(blank, blank)
            raise
        if self.grid.spread:
            part = self.lc.iloc[self._in_band]
            image = dmdt.image(part["mjd"], part["mag"], part["magerr"], grid=self.grid)
        else:
            n = len(self._in_band)
            image = dmdt.normalize(counts, n * (n - 1) / 2, grid=self.grid)
        self.image.show(image, counts)
        self.image.figure.title.text = f"dm-dt ({self.band})" if self.band else "dm-dt"

    def _count(self, rows):
        """Return how many pairs of these observations lie in each cell."""
        part, plain = self.lc.iloc[rows], dmdt.Grid(self.grid.dm, self.grid.dt)
        return dmdt.image(part["mjd"], part["mag"], grid=plain)

    def _share(self, points):
        """Return how many pairs in each cell one of these observations takes part in."""
        if not (self.image.counts.any() and np.isin(self._in_band, points).any()):
            return np.zeros(self.grid.shape, np.uint32)
        return self.image.counts - self._count(np.setdiff1d(self._in_band, points))

    def _fold(self):
        """Fold at the period that holds for this object."""
        period = self._effective()
        with self.picture.together(), self._quietly():
            self.period = period
            if not self.curves:
                return
            self.curves.fold(period)
            self._bin()
            self._period.value = float(f"{period or 0:.10g}")
            self.tuner.text = f"{period:.8g} d" if period else "no period"
            self.tuner.disabled = not period
            if not self._tuning:
                self.tuner.value, self._base = 0.0, 1 / period if period else np.nan

    def _bin(self):
        """Draw bins, where an explorer has some."""

    def _effective(self):
        """Return the period of the object in focus: fixed, saved or found; None: unknown."""
        if self._row in self.selection.periods:
            return self.selection.periods[self._row]
        if self._saved is not None and self._row is not None:
            saved = float(self._saved.iloc[self._row])
            if np.isfinite(saved) and saved > 0:
                return saved
        found = self._found.get(self._key())
        return float(found["period"].iloc[0]) if isinstance(found, pd.DataFrame) else None

    def _key(self):
        return self._row, self.selection.clip, self.hidden

    def _search(self):
        """Return the candidate periods, or why there are none; searched once and remembered."""
        key = self._key()
        if key not in self._found:
            self._keep(key, _candidates(self.lc[self.kept]))
        return self._found[key]

    def _keep(self, key, found):
        self._found = dict([*self._found.items()][1 - N_FOUND :]) | {key: found}
        if key == self._key():
            self._on_periods()

    def _search_soon(self):
        """Search for periods once nothing has moved for a while, beside the kernel's own work."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self.curves is None or self._key() in self._found:
            return
        with contextlib.suppress(RuntimeError):  # without a loop the search waits to be asked for
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._search_later(self._key(), self.lc[self.kept]))

    async def _search_later(self, key, lc):
        await asyncio.sleep(PAUSE)
        found = await asyncio.to_thread(_candidates, lc)
        if key not in self._found:
            self._keep(key, found)

    def _light(self, names=("pairs", "points", "hovered")):
        """Show what the bus says of the observations."""
        bus = self.selection
        hovered = () if bus.hovered is None else (bus.hovered,)
        if self.curves:
            if "pairs" in names:
                self.curves.light(bus.pairs)
            if "points" in names:
                self.curves.choose(bus.points)
            if "hovered" in names:
                self.curves.point(bus.hovered)
        if self.image:
            if "points" in names:
                self.image.light(self._share(bus.points))
            if "hovered" in names:
                self.image.light(self._share(hovered), pointed=True)

    def _on_light(self, change):
        with self.picture.together():
            if self._row == self.selection.focus:  # else the next object is on its way
                self._light([change.name])
                self._tell()

    def _on_periods(self, _=None):
        with self.picture.together(), self._quietly():
            self._fold()
            self._light(["pairs", "hovered"])
            self._show_object()
            self._tell()

    def _choose_points(self, points):
        self.selection.points = points

    def _hover(self, at):
        self.selection.hovered = at

    def _pick(self, cells):
        self.cells = cells

    @traitlets.observe("cells")
    @view.reported
    def _on_cells(self, _):
        if self._quiet or not self.image:
            return
        rows, columns = zip(*self.cells, strict=True) if self.cells else ((), ())
        found = dmdt.pairs(self.lc.iloc[self._in_band], rows, columns, grid=self.grid)
        with self.picture.together():
            self.image.pick(self.cells)
        self.selection.pairs = self._in_band[found[["i", "j"]].to_numpy()]

    @traitlets.observe("grid", "band", "hidden")
    def _on_image(self, change):
        if self._row is None or self._quiet:
            return
        if change.name == "grid" and change.old.shape != change.new.shape:
            self._put_cursor(None)
        self.clear()
        self._show()

    @traitlets.validate("period")
    def _check_period(self, proposal):
        period = proposal["value"]
        if period is not None and not (np.isfinite(period) and period > 0):
            raise ValueError(f"period is {period}; give a positive number of days")
        return period

    @traitlets.observe("period")
    def _on_period(self, change):
        if self._quiet:
            return
        if change.new is None:
            self.release()
            self._on_periods()
        else:
            self.selection.fix_period(change.new)

    @view.reported
    def _typed_period(self, change):
        if not self._quiet:
            try:
                self.selection.fix_period(change.new)
            finally:
                self._fold()

    @view.reported
    def _typed_id(self, change):
        if change.new.strip():
            self.go_to(change.new.strip())

    @view.reported
    def _tuned(self, change):
        if self._quiet or not np.isfinite(self._base):
            return
        span = np.ptp(self.lc["mjd"]) or 1.0
        self._tuning = True
        try:
            self.selection.fix_period(1 / max(self._base + change.new / span, self._base / 2))
        finally:
            self._tuning = False

    def _scale(self, factor):
        if self.period is None:
            self._search()
        if self.period is None:
            raise ValueError("no period is known; type one")
        self.selection.fix_period(self.period * factor)

    def _step(self, by):
        rows = self.selection.rows if len(self.selection) > 1 else np.arange(len(self.lcs))
        if len(rows):
            side = "right" if by > 0 else "left"
            k = np.searchsorted(rows, self._row, side=side) - (by < 0)
            self.selection.focus = int(rows[np.clip(k, 0, len(rows) - 1)])

    def _put_cursor(self, at):
        self._cursor = None if at is None else tuple(map(int, at))
        self.image.move(self._cursor)
        self._tell()

    def _tell(self):
        """Say the present state in words."""
        lines = self._words()
        self.description = " ".join(lines[:2])
        shown = lines if self.curves or self._row is None else lines[1:]
        text = "<br>".join(html.escape(line) for line in shown)
        self._status.value = f'<div role="status">{text}</div>'

    def _words(self):
        """Return the state in sentences."""
        if self._row is None:
            return ["No object."]
        bus, n_shown = self.selection, int(self.kept.sum())
        label = None if self._labels is None else self._labels.iloc[self._row]
        label = "" if pd.isna(label) else f" ({label})"
        left_out = f", {len(self.lc) - n_shown} left out" if n_shown < len(self.lc) else ""
        period = "no period"
        if self.period is not None:
            fixed = self._row in bus.periods
            source = "fixed here" if fixed else "from the table" if self._is_saved() else "found"
            period = f"period {self.period:.7g} d, {source}"
        lines = [
            f"Object {self.lcs.index[self._row]}{label}, {self._row + 1} of {len(self.lcs)}: "
            f"{_several(len(self.lc), 'observation')} in {', '.join(self._bands) or 'no band'}"
            f"{left_out}; {period}."
        ]
        if len(bus.pairs):
            n = len(np.unique(bus.pairs))
            where = f"In {_several(len(self.cells), 'picked cell')}: " if self.cells else ""
            lines.append(f"{where}{_several(len(bus.pairs), 'pair')} of {n} observations.")
        elif self.cells:
            lines.append(f"In {_several(len(self.cells), 'picked cell')}: no pair.")
        if bus.points:
            share = self._share(bus.points) if self.image else None
            text = "" if share is None else f": {share.sum()} of {self.image.counts.sum()} pairs"
            lines.append(f"{_several(len(bus.points), 'observation')} chosen{text}.")
        if bus.hovered is not None:
            mjd, mag, magerr, band = self.lc.iloc[bus.hovered]
            lines.append(
                f"Pointer on observation {bus.hovered + 1}: MJD {mjd:.5f}, "
                f"{mag:.3f} ± {magerr:.3f} mag in {band}."
            )
        if self._cursor is not None and self.image:
            k, c = self._cursor
            dm, dt, n = self.grid.dm, self.grid.dt, int(self.image.counts[k, c])
            lines.append(
                f"Cursor on dt {time_text(dt[c])} to {time_text(dt[c + 1])}, "
                f"dm {dm[k]:g} to {dm[k + 1]:g} mag: {_several(n, 'pair')}."
            )
        return lines

    def _is_saved(self):
        return self._saved is not None and self._saved.iloc[self._row] == self.period

    def _draw_curve(self, axes, x, label):
        x, lc = np.asarray(x), self.lc
        for band, style in band_styles(lc["band"]).items():
            part = self.kept & (lc["band"] == band).to_numpy()
            axes.errorbar(
                x[part], lc["mag"][part], lc["magerr"][part], fmt=MARKERS[style["marker"]],
                color=style["color"], ms=3, lw=0.6, label=band,
            )  # fmt: skip
        pairs = self.selection.pairs
        mag, look = lc["mag"].to_numpy(), {"color": "#d81b60", "marker": "o", "mfc": "none"}
        axes.plot(x[pairs.T], mag[pairs.T], lw=0.6, **look)
        points = list(self.selection.points)
        axes.plot(x[points], lc["mag"].iloc[points], "o", mfc="none", mec="black", ms=7)
        axes.set(xlabel=label, ylabel="magnitude")
        axes.yaxis.set_inverted(True)

    def _draw_image(self, figure, axes):
        from matplotlib.colors import LogNorm
        from matplotlib.patches import Rectangle

        value = self.image.source.data["value"].reshape(self.grid.shape)
        log = self.grid.normalization == "counts" and np.isfinite(value).any()
        shown = axes.imshow(
            value, origin="lower", aspect="auto", cmap="viridis_r", norm=LogNorm() if log else None
        )
        figure.colorbar(shown, ax=axes, label="pairs" if log else self.grid.normalization)
        for axis, edges, text in (
            (axes.xaxis, self.grid.dt, time_text),
            (axes.yaxis, self.grid.dm, "{:g}".format),
        ):
            marks = ticks(np.array(edges), text, gap=max(2, len(edges) // 6))
            axis.set_ticks([at for at, _ in marks], [text for _, text in marks])
        for row_, column in self.cells:
            lower = column - 0.5, row_ - 0.5
            axes.add_patch(Rectangle(lower, 1, 1, fill=False, ec="#d81b60", lw=2))
        axes.set(xlabel="dt", ylabel="dm [mag]", title=self.image.figure.title.text)


MARKERS = {
    "circle": "o", "square": "s", "triangle": "^", "diamond": "D", "inverted_triangle": "v",
    "star": "*", "hex": "h",
}  # fmt: skip


def read_curve(lcs, at):
    """Return the light curve of the object at a position; without one an empty one."""
    columns = {"mjd": [], "mag": [], "magerr": [], "band": []}
    if at is not None:
        flat = lightcurves.arrays(lightcurves.take(lcs, [at]))
        columns = {name: getattr(flat, name) for name in ("mjd", "mag", "magerr")}
        columns["band"] = flat.band.to_numpy(zero_copy_only=False)
    lc = pd.DataFrame(columns)
    return lc.astype({"mjd": float, "mag": float, "magerr": float, "band": object})


def _candidates(lc):
    """Return the candidate periods of a light curve, or in words why there are none."""
    try:
        found = periods.candidates(
            *(lc[name].to_numpy() for name in ("mjd", "mag", "magerr", "band"))
        )
    except ValueError as error:
        return str(error)
    return found if len(found) else "no period stands out"


def _several(n, noun):
    return f"{n:,} {noun}" + "s" * (n != 1)


def in_row(*controls):
    """Return controls side by side, in several lines where the page is narrow."""
    return ipywidgets.HBox(controls, layout={"flex_flow": "row wrap", "align_items": "center"})


def labelled(kind, description, width, **options):
    """Return a control of ipywidgets whose description has the room that it takes."""
    return kind(
        description=description,
        layout={"width": f"{width}px"},
        style={"description_width": "initial"},
        **options,
    )
