"""Why a classifier says what it says of one object, and whether to believe it, on one screen."""

import asyncio
import html
import threading

import ipywidgets
import numpy as np
import traitlets
from bokeh.core.properties import field
from bokeh.layouts import row
from bokeh.models import ColorBar, ColumnDataSource, FactorRange, HoverTool, LinearColorMapper
from bokeh.palettes import Greys256
from bokeh.plotting import figure
from holoviews.plotting.util import process_cmap

from skynb import dmdt, explain, verdict
from skynb.widgets import view
from skynb.widgets.object_view import ObjectView, in_row, labelled, read_curve
from skynb.widgets.panels import Curves

N_KEPT = 200
"""Explanations remembered."""

_PAUSE = 0.05  # seconds of rest on an object before it is explained, so that stepping stays fast
_ROLES = {1: ("triangle", "^"), -1: ("inverted_triangle", "v"), 0: ("circle", "o")}
_CAPTION = 'style="text-align: left; font-weight: bold"'
_STYLE = 'style="border-spacing: 8px 1px; line-height: 1.35; text-align: left"'


class ExplanationViewer(ObjectView):
    """Why this class, which observations decided, and whether to trust it: object after object.

    ![ExplanationViewer](../../docs/ExplanationViewer.png)

    Observations and cells are red where they speak for the class explained rather than for the
    likeliest other one, and blue where they speak against it; triangles that point up and upright
    squares say *for*, triangles that point down and squares on their corner *against*, and size
    says how much. Below: the probabilities, what is known of when to trust them, and the nearest
    training examples. Keys, where the explorer has the focus: ``n`` and ``p`` next and previous
    object, ``m`` next method, ``c`` next class, ``1`` to ``3`` look at a training example, and
    those of `LightCurveExplorer` for period, pointer and cells.

    Parameters
    ----------
    lcs : NestedFrame or lightcurves.Stored
        Light curves to explain; ``period`` and ``label`` are used where they are there.
    model : LightCurveClassifier
        Of kind ``dmdt_cnn``; for ``forest``, ``extra_trees`` and ``boosted`` the SHAP values of
        features take the place of the map. Other kinds show all but what decided.
    selection : Selection, optional
        The bus that other explorers share; by default a new one.
    training : NestedFrame or skynb.classify.Measured, optional
        The objects that the model was trained on, with ``label``, for the nearest examples and the
        network's scores. Measured ones save a search for periods.
    calibration : NestedFrame or skynb.classify.Measured, optional
        Objects with ``label`` that the model was not trained on, better not those of ``lcs``: they
        calibrate the prediction sets and say which scores are usual.
    level : float
        Of the prediction sets, in (0, 1).

    Attributes
    ----------
    method : str
        One of `skynb.explain.METHODS`; ``shap`` for trees. `skynb.faithfulness` says which to
        believe: the first, ``integrated``, is recommended.
    explained : str
        ``predicted``, ``runner-up`` or a class.
    explanation : skynb.verdict.Explanation
        Of the object in focus.

    Raises
    ------
    ValueError
        No trained classifier, training or calibrating objects without ``label``, too few of them.

    Examples
    --------
    >>> from skynb import classify, simulate
    >>> lcs = simulate.lightcurves(classes=["EW", "LPV"], n_per_class=4)
    >>> model = classify.LightCurveClassifier("boosted", max_frequency=0).fit(lcs, lcs["label"])
    >>> viewer = ExplanationViewer(lcs, model, training=lcs)
    >>> viewer.explanation.nearest["label"].iloc[0]
    'EW'
    """

    method = traitlets.Unicode()
    explained = traitlets.Unicode(verdict.TARGETS[0])

    def __init__(self, lcs, model, *, selection=None, training=None, calibration=None, level=0.9):
        self.judge = verdict.Judge(model, training, calibration, level)
        self.model, self._kept, self._job = model, {}, None
        self._busy = threading.Lock()
        self._mapped = model.kind == "dmdt_cnn"
        self.targets = [*verdict.TARGETS, *model.recipe_.classes]
        self.methods = [*explain.METHODS] if self._mapped else ["shap"]
        grid = dmdt.Grid.from_dict(model.recipe_.grid) if self._mapped else dmdt.GRID
        super().__init__(lcs, selection=selection, grid=grid, image=self._mapped)
        self.bind(m=lambda: self._turn("method", self.methods))
        self.bind(c=lambda: self._turn("explained", self.targets))
        self.bind(**{str(k + 1): lambda k=k: self.look(k) for k in range(verdict.N_NEAREST)})

    @property
    def explanation(self):
        """What there is to say of the object in focus; ValueError if there is nothing."""
        found = self._explained(*self._asked())
        if isinstance(found, str):
            raise ValueError(found)
        return found

    def look(self, k):
        """Show the light curve of a training example, the nearest is 0."""
        nearest = self.explanation.nearest
        if not 0 <= k < len(nearest):
            raise ValueError(f"no example {k + 1}, there are {len(nearest)}; see training=")
        each, curves, at = self.judge.training, self.example, int(nearest["row"].iloc[k])
        lc = read_curve(each, at)
        period = each["period"].iloc[at] if "period" in each.columns else np.nan
        with self._examples.together():
            curves.show(lc, np.ones(len(lc), bool))
            curves.fold(float(period) if period > 0 else None)
            name = f"{nearest.index[k]}, {nearest['label'].iloc[k]}"
            curves.raw.title.text = f"training example {name}"

    def draw(self, figure):
        """Draw the present state on a matplotlib figure."""
        found = self._explained(*self._asked())
        self._paint(None if isinstance(found, str) else found)
        figure.set_size_inches(9.6, 6)
        ratios = (1, 2.2) if self._mapped else (1, 1, 1.8)
        above, below = figure.subfigures(2, 1, height_ratios=(3, 2.6))
        super().draw(above)
        bars, *others, said = below.subplots(1, 3 - self._mapped, width_ratios=ratios)
        said.axis("off")
        if isinstance(found, str):
            bars.axis("off")
            return said.text(0, 1, found, va="top", wrap=True)
        names = found.probability.index[::-1]
        drawn = bars.barh(names, found.probability[::-1], color="#0072b2")
        bars.bar_label(drawn, fmt="%.2f", padding=2)
        bars.set(xlim=(0, 1.2), title="probability")
        for axes in others:
            top = np.zeros(0) if found.shap is None else found.shap[:8][::-1]
            axes.barh(getattr(top, "index", []), top, color=_signed(top))
            axes.set(title=f"SHAP, for {found.target}")
            axes.tick_params(labelsize=7)
        lines = [*self._words()[1:3], ""]
        lines += [f"{_mark(e.trusted)}, {e.about}: {e.said}" for e in found.trust.itertuples()]
        lines += ["", "Nearest training examples: " + ("; ".join(_nearest(found)) or "not given")]
        return said.text(0, 1, "\n".join(lines), va="top", fontsize=8, wrap=True)

    def revive(self):
        """Return the line of Python that makes this explorer anew."""
        return self._line("model")

    @traitlets.default("method")
    def _first(self):
        return self.methods[0]

    @traitlets.validate("method", "explained")
    def _known(self, proposal):
        name, value = proposal["trait"].name, proposal["value"]
        every = self.methods if name == "method" else self.targets
        if value not in every:
            what = "method" if name == "method" else "class"
            raise ValueError(f"no {what} {value!r}; choose one of {', '.join(every)}")
        return value

    def _turn(self, name, values):
        setattr(self, name, values[(values.index(getattr(self, name)) + 1) % len(values)])

    def _controls(self):
        with self.curves.raw.document.models.freeze():
            self._style()
        self._method = labelled(ipywidgets.Dropdown, "method", 200, options=self.methods)
        self._class = labelled(ipywidgets.Dropdown, "explain class", 200, options=self.targets)
        menus = self._setting(self._method, "method"), self._setting(self._class, "explained")
        self.example = Curves(lambda points: None, lambda at: None, height=190)
        self.example.raw.name, self.example.folded.name = "example", "example folded"
        figures = row(self.example.raw, self.example.folded, sizing_mode="stretch_width")
        self._examples = view.Picture(figures)
        self._bars, self._flags, self._near = (ipywidgets.HTML() for _ in range(3))
        self._buttons = [
            self.button("", f"look at training example (key {k + 1})", lambda k=k: self.look(k))
            for k in range(verdict.N_NEAREST)
        ]
        self._examples.layout.display = "none" if self.judge.training is None else ""
        below = [
            in_row(self._bars, self._flags),
            in_row(self._near, *self._buttons),
            self._examples,
        ]
        if not self._mapped:
            below.insert(0, view.Picture(self._shap_figure()))
        return [self._navigation(), self._period_bar(), in_row(*menus)], below

    def _style(self):
        """Let the figures of the light curve and the image show attributions."""
        palette = process_cmap("coolwarm", 256)
        self._colors = [
            LinearColorMapper(palette, low=-1, high=1, nan_color="#bbbbbb") for _ in range(2)
        ]
        look = {"fill_color": field("share", self._colors[0]), "line_color": "#555555"}
        for each in (self.curves.raw, self.curves.folded):
            for drawn in (r for r in each.renderers if r.name == "points"):
                for glyph in (drawn.glyph, drawn.selection_glyph, drawn.nonselection_glyph):
                    glyph.update(size=field("size"), line_width=0.6, **look)
            each.legend[0].items[0].label = field("role")
            each.toolbar_location = "below"
            each.select_one(HoverTool).tooltips.append(("share", "@share{+0.0000}"))
        if not self._mapped:
            return
        bar = {"width": 8, "padding": 2}
        self.curves.folded.add_layout(ColorBar(color_mapper=self._colors[0], **bar), "right")
        shown = self.image.figure
        shown.update(min_width=400, toolbar_location="above")
        self.image.linear.palette = self.image.log.palette = Greys256[:90:-1]
        self._map = ColumnDataSource({name: [] for name in ("x", "y", "size", "angle", "value")})
        shown.rect(
            "x", "y", "size", "size", angle="angle", source=self._map, name="attribution",
            fill_color=field("value", self._colors[1]), line_color="#555555", line_width=0.5,
        )  # fmt: skip
        cells, *others, last = shown.renderers
        shown.renderers = [cells, last, *others]
        shown.select_one(HoverTool).tooltips.append(("attribution", "@attribution{+0.0000}"))
        shown.add_layout(ColorBar(color_mapper=self._colors[1], title="did", **bar), "right")

    def _shap_figure(self):
        names = ("feature", "value", "color", "text", "align", "offset")
        self._shap = ColumnDataSource({name: [] for name in names})
        self._factors = FactorRange()
        shown = figure(
            name="shap", title="SHAP values", height=260, sizing_mode="stretch_width",
            y_range=self._factors, tools="save", x_axis_label="for and against",
        )  # fmt: skip
        shown.hbar("feature", 0.7, "value", source=self._shap, color="color")
        shown.text(
            0, "feature", "text", source=self._shap, text_baseline="middle", text_align="align",
            x_offset="offset", text_font_size="12px",
        )  # fmt: skip
        return shown

    def _show_image(self):
        shown, known = set(self.lc["band"][self.kept]), self.model.recipe_.bands
        bands = [band for band in known if band in shown]
        if bands and self.band not in bands:
            self.band = bands[0]
        try:
            super()._show_image()
        finally:
            self._paint(None)
        if len(self.lc):
            self._explain_soon()

    def _asked(self):
        """Return what is asked now: a key to remember the answer by, and the observations."""
        known = self.model.recipe_.bands[:1] if self._mapped else self.model.recipe_.bands
        rows = np.flatnonzero(self.kept & self.lc["band"].isin(known).to_numpy())
        return (*self._key(), self.method, self.explained), self.lc, rows

    def _explained(self, key, lc, rows):
        """Return the `verdict.Explanation`, or why there is none; made once and remembered."""
        if key not in self._kept:
            try:
                found = self.judge.explain(lc, rows, method=key[-2], explained=key[-1])
            except ValueError as error:
                found = str(error)
            self._kept = dict([*self._kept.items()][1 - N_KEPT :]) | {key: found}
        return self._kept[key]

    def _explain_soon(self):
        """Explain the object beside the kernel's own work, or at once where there is no loop."""
        if self._job is not None:
            self._job.cancel()
        self._job, asked = None, self._asked()
        if asked[0] not in self._kept:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                pass
            else:
                self._bars.value = '<div role="status">explaining …</div>'
                self._job = loop.create_task(self._explain_later(asked))
                return
        self._present()

    async def _explain_later(self, asked):
        def work():
            with self._busy:
                if asked[0] == self._asked()[0]:
                    self._explained(*asked)

        await asyncio.sleep(_PAUSE)
        await asyncio.to_thread(work)
        if asked[0] == self._asked()[0]:
            view.reported(type(self)._present)(self)

    def _present(self):
        """Show the explanation of the object in focus."""
        found = self._explained(*self._asked())
        with self.picture.together(), self._quietly():
            self._paint(None if isinstance(found, str) else found)
            self._tell()
        problem = found if isinstance(found, str) else found.problem
        if problem:
            raise ValueError(problem)

    def _paint(self, found):
        """Colour observations and cells, and fill the tables; None: nothing is known yet."""
        part = np.full(len(self.lc), np.nan) if found is None else found.shares
        part = part[self.curves.drawn]
        sign, size = np.sign(np.nan_to_num(part)).astype(int), _sizes(part)
        role = self._role(found)
        bands = self.curves.source.data["band"]
        names = [
            role[s] if np.isfinite(v) else b for s, v, b in zip(sign, part, bands, strict=True)
        ]
        self._limit(self._colors[0], part)
        self.curves.source.data.update(
            share=part, size=5 + 9 * size, role=names, marker=[_ROLES[s][0] for s in sign]
        )
        for each in (self.curves.raw, self.curves.folded):
            each.legend.visible = found is not None
        if self._mapped:
            values = np.zeros(self.grid.shape)
            values = values if found is None or found.attribution is None else found.attribution
            y, x = np.nonzero(values)
            self._limit(self._colors[1], values)
            self.image.source.data["attribution"] = values.ravel()
            value = values[y, x]
            self._map.data = {
                "x": x, "y": y, "value": value, "size": 0.15 + 0.8 * _sizes(value),
                "angle": np.where(value > 0, 0, np.pi / 4),
            }  # fmt: skip
        elif found is not None and found.shap is not None:
            top = found.shap.iloc[:10][::-1]
            self._factors.factors = top.index.tolist()
            texts = [f"{value:+.3g}" for value in top]
            columns = {"feature": top.index, "value": top.to_numpy(), "color": _signed(top)}
            align = np.where(top > 0, "right", "left")  # beside the bar, not on it
            columns |= {"text": texts, "align": align, "offset": np.where(top > 0, -4, 4)}
            self._shap.data = columns
        self._tabulate(found)

    def _words(self):
        lines, found = super()._words(), self._kept.get(self._asked()[0])
        if self._row is None or not isinstance(found, verdict.Explanation):
            return lines
        (first, p), (second, q) = found.probability.iloc[:2].items()
        bad = found.trust["about"][found.trust["trusted"] == False].tolist()  # noqa: E712
        said = f"Predicted {first} ({p:.2f}), then {second} ({q:.2f})"
        said += f"; beware of: {', '.join(bad)}." if bad else "; nothing speaks against trust."
        what = "no explanation" if found.problem else f"by {self.method}"
        lines[1:1] = [said, f"Explained: {found.target}, not {found.against}; {what}."]
        at = self.selection.hovered
        if at is not None and np.isfinite(found.shares[at]):
            lines.append(f"Its share: {found.shares[at]:+.4g}.")
        return lines

    def _draw_curve(self, axes, x, label):
        found, x, mag = self._explained(*self._asked()), np.asarray(x), self.lc["mag"].to_numpy()
        shares = np.full(len(x), np.nan) if isinstance(found, str) else found.shares
        sign, size = np.sign(np.nan_to_num(shares)), 8 + 60 * _sizes(shares) ** 2
        limits = {"vmin": self._colors[0].low, "vmax": self._colors[0].high, "cmap": "coolwarm"}
        names = self._role(None if isinstance(found, str) else found)
        for which, (_, marker) in _ROLES.items():
            part = (sign == which) & self.kept
            if not part.any():
                continue
            axes.scatter(
                x[part], mag[part], size[part], np.nan_to_num(shares[part]), marker=marker,
                edgecolors="#555555", linewidths=0.4, label=names[which], **limits,
            )  # fmt: skip
        axes.set(xlabel=label, ylabel="magnitude")
        axes.yaxis.set_inverted(True)

    def _draw_image(self, figure, axes):
        super()._draw_image(figure, axes)
        axes.images[0].set_cmap("Greys")
        axes.images[0].set_alpha(0.6)
        marks, colors = self._map.data, self._colors[1]
        value, area = np.asarray(marks["value"]), 40 * np.asarray(marks["size"]) ** 2
        for part, marker in ((value > 0, "s"), (value < 0, "D")):
            shown = axes.scatter(
                np.asarray(marks["x"])[part], np.asarray(marks["y"])[part], area[part],
                value[part], marker=marker, cmap="coolwarm", vmin=colors.low, vmax=colors.high,
                edgecolors="#555555", linewidths=0.4,
            )  # fmt: skip
        figure.colorbar(shown, ax=axes, label=self.method)

    def _role(self, found):
        """Return what observations of either sign did, in words."""
        if found is None:
            return dict.fromkeys(_ROLES, "")
        signed = found.attribution is not None and (found.attribution < 0).any()
        for_ = f"for {found.target}, not {found.against}" if signed else "looked at"
        return {1: for_, -1: f"against {found.target}", 0: "nothing"}

    def _limit(self, mapper, values):
        top = float(np.nanmax(np.abs(values), initial=0)) if np.isfinite(values).any() else 0
        mapper.update(low=-(top or 1.0), high=top or 1.0)

    def _tabulate(self, found):
        self._bars.value = self._flags.value = self._near.value = ""
        examples = [] if found is None else _nearest(found)
        for button, text in zip(
            self._buttons, [*examples, *[""] * verdict.N_NEAREST], strict=False
        ):
            button.description, button.layout.display = text, "" if text else "none"
        if found is None:
            return
        self._bars.value = _probabilities(found)
        self._flags.value = _trusts(found)
        self._near.value = "nearest training examples:"
        if examples:
            self.look(0)
        else:
            self._near.value += " none, give <code>training=</code>"

    @traitlets.observe("method", "explained")
    @view.reported
    def _on_choice(self, _):
        with self._quietly():
            self._method.value, self._class.value = self.method, self.explained
        if len(self.lc):
            self._explain_soon()


def _sizes(values):
    """Return the sizes of marks, 0 to 1: their areas are as the absolute values."""
    values = np.abs(np.nan_to_num(values))
    return np.sqrt(values / (values.max(initial=0) or 1.0))


def _signed(values):
    return np.where(values > 0, "#b40426", "#3b4cc0")


def _mark(trusted):
    return {True: "✓ fine", False: "⚠ beware"}.get(trusted, "– unknown")


def _nearest(found):
    """Return the training examples in words."""
    return [f"{e.Index}: {e.label}, distance {e.distance:.3g}" for e in found.nearest.itertuples()]


def _probabilities(found):
    """Return a table of bars and numbers, in HTML."""
    names = dict(zip(found.probability.index, ("predicted", "runner-up"), strict=False))

    def said(name):
        return names.get(name, ""), "explained" if name == found.target else ""

    bar = "display: block; height: 11px; background: #0072b2; width:"
    cells = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th><td style="width: 160px">'
        f'<span style="{bar} {160 * p:.0f}px"></span></td><td>{p:.3f}</td>'
        f"<td>{', '.join(part for part in said(name) if part)}</td></tr>"
        for name, p in found.probability.items()
    )
    return f"<table {_STYLE}><caption {_CAPTION}>probabilities</caption>{cells}</table>"


def _trusts(found):
    """Return a table of when to trust, in HTML."""
    cells = "".join(
        f'<tr><td>{_mark(each.trusted)}</td><th scope="row">{html.escape(each.about)}</th>'
        f"<td>{html.escape(each.said)}</td></tr>"
        for each in found.trust.itertuples()
    )
    return f"<table {_STYLE}><caption {_CAPTION}>when to trust</caption>{cells}</table>"
