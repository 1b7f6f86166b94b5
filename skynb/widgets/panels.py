"""Pictures that explorers share: a light curve raw and folded, a dm-dt image, and a fine tuner."""

import anywidget
import numpy as np
import traitlets
from bokeh.models import (
    BasicTicker,
    BoxSelectTool,
    ColorBar,
    ColumnDataSource,
    CustomJS,
    FixedTicker,
    HoverTool,
    LassoSelectTool,
    LinearColorMapper,
    LogColorMapper,
    LogTicker,
    Range1d,
    TapTool,
)
from bokeh.palettes import Viridis256
from bokeh.plotting import figure
from bokeh.transform import dodge

from skynb import dmdt, lightcurves, plots

N_PAIRS = 2000
"""Segments drawn at most for the pairs that are lit."""

_TOOLS = "pan,wheel_zoom,reset,save"
_INK, _LIT, _POINTED = "#222222", "#d81b60", "#000000"


class Curves:
    """A light curve raw and folded: two bokeh figures over one source of observations.

    Parameters
    ----------
    on_points, on_hover : callable
        Called with the positions of the observations chosen in the page, and with that of the one
        under the pointer, or None.
    """

    def __init__(self, on_points, on_hover, *, height=290):
        self.lc, self.drawn, self.phase = None, np.empty(0, int), None
        names = ("mjd", "mag", "low", "high", "phase", "band", "color", "marker", "magerr")
        self.source = ColumnDataSource({name: [] for name in names})
        self.bins = ColumnDataSource({name: [] for name in (*names, "n_obs")})
        ends = ("mjd_0", "mag_0", "phase_0", "mjd_1", "mag_1", "phase_1")
        self.pairs = ColumnDataSource({name: [] for name in ends})
        self.paired, self.pointed = (
            ColumnDataSource({name: [] for name in ("mjd", "mag", "phase")}) for _ in range(2)
        )
        self.pointer = ColumnDataSource({"at": [-1]})
        self.times, self.mags, self.phases = Range1d(0, 1), Range1d(1, 0), Range1d(0, 2)
        self.raw = self._figure("raw", "MJD [day]", self.times, height)
        self.folded = self._figure("folded", "phase", self.phases, height)
        self.raw.yaxis.axis_label = "magnitude"
        self.raw.xaxis.formatter.use_scientific = False
        self.raw.xaxis.ticker.desired_num_ticks = 5
        self._fill(self.raw, "mjd", legend=True)
        self._fill(self.folded, "phase", legend=True)
        self._fill(self.folded, "phase", shift=1.0)
        for each in (self.raw, self.folded):
            each.add_layout(each.legend[0], "above")
            each.legend.update(
                orientation="horizontal", padding=0, margin=0, border_line_alpha=0, visible=False
            )
            points = [r for r in each.renderers if r.name == "points"]
            told = CustomJS(
                args={"pointer": self.pointer},
                code="""const [i = -1] = cb_data.index.indices
                if (pointer.data.at[0] !== i) pointer.data = {at: [i]}""",
            )
            tips = [
                ("MJD", "@mjd{0.00000}"),
                ("magnitude", "@mag{0.000} ± @magerr{0.000}"),
                ("band", "@band"),
            ]
            hover = HoverTool(renderers=points, tooltips=tips, callback=told)
            box, lasso = BoxSelectTool(renderers=points), LassoSelectTool(renderers=points)
            each.add_tools(box, lasso, TapTool(renderers=points), hover)
            each.toolbar.active_drag = box

        def chosen(attr, old, new):
            on_points(tuple(sorted(self.drawn[new].tolist())))

        def hovered(attr, old, new):
            k = int(new["at"][0])
            on_hover(int(self.drawn[k]) if 0 <= k < len(self.drawn) else None)

        self.source.selected.on_change("indices", chosen)
        self.pointer.on_change("data", hovered)

    def _figure(self, name, label, x_range, height):
        return figure(
            name=name,
            height=height,
            sizing_mode="stretch_width",
            min_width=240,
            x_range=x_range,
            y_range=self.mags,
            tools=_TOOLS,
            x_axis_label=label,
            title=name,
            lod_threshold=None,
        )

    def _fill(self, figure, x, *, legend=False, shift=0.0):
        def at(name):
            return dodge(name, shift) if shift else name

        figure.segment(
            at(x), "low", at(x), "high", source=self.source, color="color", alpha=0.4,
            nonselection_alpha=0.1, selection_alpha=0.6,
        )  # fmt: skip
        named = {"legend_field": "band"} if legend else {}
        figure.scatter(
            at(x), "mag", source=self.source, name="points", size=6, marker="marker",
            color="color", alpha=0.8, nonselection_alpha=0.2, selection_line_color=_INK,
            selection_line_width=1.5, **named,
        )  # fmt: skip
        figure.segment(
            at(x), "low", at(x), "high", source=self.bins, color=_INK, line_width=1.5
        )  # fmt: skip
        figure.scatter(
            at(x), "mag", source=self.bins, name="bins", size=9, marker="marker",
            fill_color="color", line_color=_INK,
        )  # fmt: skip
        figure.segment(
            at(f"{x}_0"), "mag_0", at(f"{x}_1"), "mag_1", source=self.pairs, name="pairs",
            color=_LIT, alpha=0.5, line_width=1,
        )  # fmt: skip
        figure.scatter(
            at(x), "mag", source=self.paired, name="paired", size=12, marker="circle",
            fill_alpha=0, line_color=_LIT, line_width=1.5,
        )  # fmt: skip
        figure.scatter(
            at(x), "mag", source=self.pointed, name="pointed", size=20, marker="circle_cross",
            fill_alpha=0, line_color=_POINTED, line_width=1.5,
        )  # fmt: skip

    def show(self, lc, kept):
        """Show the observations of a light curve that are kept, and no period yet."""
        mjd, mag, magerr = (lc[name].to_numpy() for name in ("mjd", "mag", "magerr"))
        band = lc["band"].to_numpy().astype(str)
        self.lc, self.drawn = lc, np.flatnonzero(kept)
        if len(self.drawn) > plots.N_DRAWN:
            first = plots.one_per_pixel(mjd[self.drawn], mag[self.drawn])
            self.drawn = self.drawn[first]
        styles = plots.band_styles(band)
        part = self.drawn
        self.source.selected.indices = []
        self.pointer.data = {"at": [-1]}
        self.phase = np.full(len(lc), np.nan)
        self.source.data = {
            "mjd": mjd[part],
            "mag": mag[part],
            "magerr": magerr[part],
            "low": (mag - magerr)[part],
            "high": (mag + magerr)[part],
            "phase": self.phase[part],
            "band": band[part].tolist(),
            "color": [styles[name]["color"] for name in band[part]],
            "marker": [styles[name]["marker"] for name in band[part]],
        }
        self.raw.legend.visible = self.folded.legend.visible = len(styles) > 1
        span = _padded(mjd[part])
        faint, bright = _padded(mag[part], float(np.median(magerr[part])) if len(part) else 0)[::-1]
        self.times.update(start=span[0], end=span[1], reset_start=span[0], reset_end=span[1])
        self.mags.update(start=faint, end=bright, reset_start=faint, reset_end=bright)
        self.phases.update(start=0, end=2)

    def fold(self, period):
        """Fold at a period [day]; None: no period is known."""
        mjd = self.lc["mjd"].to_numpy()
        self.phase = np.full(len(mjd), np.nan) if period is None else lightcurves.fold(mjd, period)
        self.source.data["phase"] = self.phase[self.drawn]
        self.folded.title.text = "no period" if period is None else f"folded at {period:.7g} d"

    def bin(self, table):
        """Draw bins, columns ``mjd`` or ``phase``, ``mag``, ``magerr``, ``band``, ``n_obs``."""
        styles = plots.band_styles(self.lc["band"].astype(str))
        columns = ("mjd", "phase", "mag", "magerr", "n_obs")
        columns = {
            name: values.to_numpy(float) for name, values in table.reindex(columns=columns).items()
        }
        columns |= {
            "low": columns["mag"] - columns["magerr"],
            "high": columns["mag"] + columns["magerr"],
            "band": table["band"].tolist(),
            "color": [styles[name]["color"] for name in table["band"]],
            "marker": [styles[name]["marker"] for name in table["band"]],
        }
        _put(self.bins, columns)

    def light(self, pairs):
        """Draw the first `N_PAIRS` pairs of observations as lines, and ring all who take part."""
        ends = zip(("0", "1"), np.asarray(pairs[:N_PAIRS], int).T, strict=True)
        columns = {
            f"{name}_{end}": values for end, rows in ends for name, values in self._at(rows).items()
        }
        _put(self.pairs, columns)
        _put(self.paired, self._at(np.unique(pairs)))

    def choose(self, points):
        """Mark the chosen observations."""
        self.source.selected.indices = np.flatnonzero(np.isin(self.drawn, points)).tolist()

    def point(self, at):
        """Mark the observation under the pointer; None: there is none."""
        _put(self.pointed, self._at(np.array([] if at is None else [at], int)))

    def _at(self, rows):
        columns = {"mjd": self.lc["mjd"].to_numpy(), "mag": self.lc["mag"].to_numpy()}
        return {name: values[rows] for name, values in (columns | {"phase": self.phase}).items()}


class Image:
    """A dm-dt image as a bokeh figure whose cells can be picked.

    Parameters
    ----------
    on_cells : callable
        Called with the cells picked in the page, as a tuple of (row, column).
    """

    def __init__(self, on_cells, *, height=290):
        self.grid, self.counts = None, None
        self.source = ColumnDataSource(
            {name: [] for name in (*self._edges(dmdt.GRID), "value", "pairs")}
        )
        self.cursor, self.share, self.pointed = (
            ColumnDataSource({name: [] for name in ("x", "y", "size")}) for _ in range(3)
        )
        self.log = LogColorMapper(palette=Viridis256[::-1], low=1, high=2, nan_color="white")
        self.linear = LinearColorMapper(palette=Viridis256[::-1], low=0, high=1, nan_color="white")
        self.x, self.y = Range1d(-0.5, 0.5), Range1d(-0.5, 0.5)
        self.figure = figure(
            name="dmdt",
            title="dm-dt",
            height=height,
            sizing_mode="stretch_width",
            min_width=260,
            x_range=self.x,
            y_range=self.y,
            tools=_TOOLS,
            x_axis_label="dt",
            y_axis_label="dm [mag]",
        )
        self.figure.grid.visible = False
        self.cells = self.figure.quad(
            "left", "right", "bottom", "top", source=self.source, name="cells",
            fill_color={"field": "value", "transform": self.log}, line_color=None,
            selection_line_color=_LIT, selection_line_width=2.5, nonselection_fill_alpha=1.0,
        )  # fmt: skip
        self.figure.rect(
            "x", "y", "size", "size", source=self.share, name="share", fill_color="white",
            fill_alpha=0.9, line_color=_INK,
        )  # fmt: skip
        self.figure.scatter(
            "x", "y", source=self.pointed, name="pointed", marker="circle", size=5,
            fill_color="white", line_color=_POINTED,
        )  # fmt: skip
        self.figure.rect(
            "x", "y", "size", "size", source=self.cursor, name="cursor", fill_color=None,
            line_color=_POINTED, line_dash="dashed", line_width=2,
        )  # fmt: skip
        self.bar = ColorBar(color_mapper=self.log, width=10, padding=4, title="pairs")
        self.figure.add_layout(self.bar, "right")
        box = BoxSelectTool(renderers=[self.cells])
        tips = [
            ("dt", "@dt_low{0.[0000]} to @dt_high{0.[0000]} d"),
            ("dm", "@dm_low{0.[00]} to @dm_high{0.[00]} mag"),
            ("value", "@value{0.[0000]}"),
            ("pairs", "@pairs"),
        ]
        hover = HoverTool(renderers=[self.cells], tooltips=tips)
        self.figure.add_tools(box, TapTool(renderers=[self.cells]), hover)
        self.figure.toolbar.active_drag = box

        def picked(attr, old, new):
            n_dt = self.grid.shape[1]
            on_cells(tuple(divmod(k, n_dt) for k in sorted(new)))

        self.source.selected.on_change("indices", picked)

    def set_grid(self, grid):
        """Take the edges and the normalisation of a grid; `show` then fills it."""
        if grid == self.grid:
            return
        n_dm, n_dt = grid.shape
        if self.grid is None or (grid.dm, grid.dt) != (self.grid.dm, self.grid.dt):
            self.source.selected.indices = []
            blank = dict.fromkeys(("value", "pairs"), np.zeros(n_dm * n_dt))
            self.source.data = self._edges(grid) | blank
            self.x.update(end=n_dt - 0.5, reset_end=n_dt - 0.5, reset_start=-0.5, start=-0.5)
            self.y.update(end=n_dm - 0.5, reset_end=n_dm - 0.5, reset_start=-0.5, start=-0.5)
            for axis, edges, text, gap in (
                (self.figure.xaxis, grid.dt, plots.time_text, max(3, n_dt // 6)),
                (self.figure.yaxis, grid.dm, "{:g}".format, max(1, n_dm // 11)),
            ):
                marks = dict(plots.ticks(np.array(edges), text, gap=gap))
                axis.ticker = FixedTicker(ticks=list(marks))
                axis.major_label_overrides = marks
        counts = grid.normalization == "counts"
        mapper = self.log if counts else self.linear
        self.cells.glyph.fill_color = {"field": "value", "transform": mapper}
        for glyph in (self.cells.selection_glyph, self.cells.nonselection_glyph):
            glyph.fill_color = {"field": "value", "transform": mapper}
        self.bar.update(
            color_mapper=mapper,
            ticker=LogTicker() if counts else BasicTicker(),
            title="pairs" if counts else grid.normalization,
        )
        self.grid = grid

    def show(self, image, counts):
        """Show an image, shape (n_dm, n_dt), and how many pairs each cell holds."""
        self.counts = counts
        value = np.where(image > 0, image, np.nan).astype(float)
        if self.grid.normalization == "counts":
            high = max(2.0, float(image.max(initial=2)))
            self.log.update(low=min(1.0, float(image.min(initial=1, where=image > 0))), high=high)
        else:
            self.linear.high = float(image.max(initial=0)) or 1.0
        self.source.data.update(value=value.ravel(), pairs=np.asarray(counts).ravel())

    def pick(self, cells):
        """Outline the picked cells."""
        n_dt = self.grid.shape[1]
        self.source.selected.indices = [row * n_dt + column for row, column in cells]

    def move(self, cell):
        """Put the cursor on a cell; None: nowhere."""
        at = [] if cell is None else [cell]
        self.cursor.data = {
            "x": [c[1] for c in at],
            "y": [c[0] for c in at],
            "size": [1.0 for _ in at],
        }

    def light(self, share, *, pointed=False):
        """Mark the cells that hold these pairs, shape (n_dm, n_dt), by squares or by dots.

        The area of a square is the share of the cell's pairs.
        """
        row, column = np.nonzero(share)
        size = np.sqrt(share[row, column] / self.counts[row, column])
        source = self.pointed if pointed else self.share
        _put(source, {"x": column, "y": row, "size": np.maximum(0.9 * size, 0.2)})

    def _edges(self, grid):
        row, column = (index.ravel() for index in np.indices(grid.shape))
        dm, dt = np.array(grid.dm), np.array(grid.dt)
        return {
            "left": column - 0.5, "right": column + 0.5, "bottom": row - 0.5, "top": row + 0.5,
            "dt_low": dt[column], "dt_high": dt[column + 1],
            "dm_low": dm[row], "dm_high": dm[row + 1],
        }  # fmt: skip


class Tuner(anywidget.AnyWidget):
    """A labelled range input: ``value`` from ``min`` to ``max``; ``text`` says what it means."""

    _esm = """
    export default { render({ model, el }) {
      const label = document.createElement("label")
      const input = document.createElement("input")
      const said = document.createElement("span")
      label.className = "skynb-tuner"
      Object.assign(input, { type: "range" })
      const follow = () => {
        for (const name of ["min", "max", "step"]) input[name] = model.get(name)
        input.value = model.get("value")
        input.setAttribute("aria-valuetext", model.get("text"))
        input.disabled = model.get("disabled")
      }
      input.addEventListener("input", () => {
        model.set("value", Number(input.value))
        model.save_changes()
      })
      said.textContent = model.get("label")
      follow()
      for (const name of ["min", "max", "step", "value", "text", "disabled"])
        model.on(`change:${name}`, follow)
      label.append(said, input)
      el.append(label)
    } }
    """
    _css = """
    .skynb-tuner {
      display: flex; gap: 8px; margin: 2px 8px; min-height: 28px; align-items: center;
      font-size: var(--jp-widgets-font-size, 13px);
    }
    .skynb-tuner input { width: 180px; }
    """
    label = traitlets.Unicode().tag(sync=True)
    value = traitlets.Float(0.0).tag(sync=True)
    min = traitlets.Float(-1.0).tag(sync=True)
    max = traitlets.Float(1.0).tag(sync=True)
    step = traitlets.Float(0.01).tag(sync=True)
    text = traitlets.Unicode().tag(sync=True)
    disabled = traitlets.Bool(False).tag(sync=True)


def _put(source, columns):
    """Set the columns of a source, unless it is empty and stays so."""
    if any(len(values) for held in (source.data, columns) for values in held.values()):
        source.data = columns


def _padded(values, more=0.0):
    """Return the limits of an axis that shows these values, whatever they are."""
    low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
    margin = more + 0.05 * (high - low) or 0.5
    return float(low - margin), float(high + margin)
