"""Alerts one by one: the stamps, the history, the scores, and what a score hangs on."""

import html

import ipywidgets
import numpy as np
import pandas as pd
import traitlets
from bokeh.layouts import row
from bokeh.models import ColumnDataSource, HoverTool, LinearColorMapper, Range1d, Whisker
from bokeh.palettes import Greys256, Viridis256
from bokeh.plotting import figure

from skynb import explain, realbogus, stamps
from skynb.plots import band_styles
from skynb.widgets import view
from skynb.widgets.object_view import MARKERS, in_row, labelled
from skynb.widgets.selection import Selection

ORDERS = ("as given", "likeliest real first", "likeliest bogus first", "newest first")

SHOWN = ("rb", "drb", "ssdistnr", "ssnamenr", "fwhm", "elong", "nbad", "classtar", "sgscore1")
"""Columns of ``candidates`` that are told, where they are there."""

MISSING = -999  # in ZTF's packets

_SIDE = 180


class StampExplorer(view.View):
    """Alerts one by one: science, template and difference, the history of the object, the scores.

    ![StampExplorer](../../docs/StampExplorer.png)

    The history is of magnitudes on the difference images, upper limits (hollow triangles) as well.
    With a real/bogus model, its score, and the pixels on which that hangs (saliency). Keys: ``n``
    and ``p`` next and previous alert of the order, of those chosen if there are several; ``o`` next
    order, ``t`` next stretch.

    Parameters
    ----------
    alerts : skynb.alerts.Alerts
        Of the candidates the columns of `SHOWN` are told, where they are there.
    model : skynb.realbogus.RealBogus, optional
    selection : Selection, optional
        The bus that other explorers of these alerts share.

    Attributes
    ----------
    order : str
        One of `ORDERS`.
    stretch : str
        One of `skynb.stamps.STRETCHES`.
    scores : ndarray, shape (n,)
        The model's, without one ``drb`` or ``rb`` of the packets, else NaN.

    Raises
    ------
    ValueError
        No alert.
    """

    order = traitlets.Unicode(ORDERS[0])
    stretch = traitlets.Unicode(stamps.STRETCHES[0])

    def __init__(self, alerts, *, model=None, selection=None):
        if not alerts.n_kept:
            raise ValueError("there is no alert; give at least one")
        self._shared = selection is not None
        self.candidates, self.triplets = alerts.candidates, alerts.triplets
        self.history, self.model = alerts.history, model
        self.selection = Selection(self.candidates) if selection is None else selection
        if not self.selection.index.equals(self.candidates.index):
            raise ValueError(
                "selection is of other alerts; make it by Selection(alerts.candidates)"
            )
        self.scores, self._said_by = self._score()
        self._kept = {}
        self._frames = [_Frame(name) for name in stamps.PLANES]
        self._frames += [] if model is None else [_Frame("saliency", Viridis256)]
        self._curve = _History()
        figures = [*(each.figure for each in self._frames), self._curve.figure]
        self.picture = view.Picture(row(figures, sizing_mode="stretch_width", spacing=6))
        self._status = ipywidgets.HTML()
        super().__init__(*self._controls(), self.picture, self._status)
        self.bind(
            n=self.next, p=self.previous,
            o=lambda: self._turn("order", ORDERS),
            t=lambda: self._turn("stretch", stamps.STRETCHES),
        )  # fmt: skip
        self.follow(self.selection, focus=self._show)
        self._show()

    def next(self):
        """Look at the next alert of the order, of those chosen if there are several."""
        self._step(1)

    def previous(self):
        """Look at the alert before."""
        self._step(-1)

    def go_to(self, candid):
        """Look at one alert; text will do. An object's id leads to its first alert."""
        ids = self.candidates["object_id"].astype(str)
        if isinstance(candid, str) and (ids == candid).any():
            self.selection.focus = int(np.argmax(ids == candid))
        else:
            self.selection.look_at(int(candid) if str(candid).isdigit() else candid)

    def saliency(self):
        """Return how much the score hangs on each pixel of the alert in focus, all planes added.

        None without a model.
        """
        at = self.selection.focus
        if self.model is None or at is None:
            return None
        if at not in self._kept:
            x = stamps.normalize(self.triplets[at : at + 1], self.model.normalization)
            found = explain.attribute(self.model.network_, x, 0, method="saliency")[0]
            self._kept = dict([*self._kept.items()][-99:]) | {at: found}
        return self._kept[at]

    def draw(self, figure):
        """Draw the present state on a matplotlib figure."""
        axes = figure.subplots(1, len(self._frames) + 1, width_ratios=[1] * len(self._frames) + [2])
        for each, place in zip(self._frames, axes, strict=False):
            cmap = "viridis" if each.name == "saliency" else "gray"
            place.imshow(each.image, origin="lower", cmap=cmap)
            place.set_title(each.name, fontsize="small")
            place.set(xticks=[], yticks=[])
        self._curve.draw(axes[-1])
        figure.suptitle(self._words()[0], fontsize="small")

    def revive(self):
        """Return the line of Python that makes this explorer anew."""
        given = [", model=model"] * (self.model is not None)
        given += [", selection=selection"] * self._shared
        return f"widgets.StampExplorer(alerts{''.join(given)})"

    def _score(self):
        """Return the scores by which alerts are ordered, and who says so."""
        if self.model is not None:
            return realbogus.raw_scores(self.model, self.triplets), "model"
        for name in ("drb", "rb"):
            if name in self.candidates and self.candidates[name].notna().any():
                return self.candidates[name].to_numpy(float), name
        return np.full(len(self.candidates), np.nan), ""

    def _controls(self):
        back = self.button("previous", "previous alert (key p)", self.previous, width="80px")
        on = self.button("next", "next alert (key n)", self.next, width="80px")
        went = labelled(ipywidgets.Text, "go to candid or object", 330, continuous_update=False)
        typed = view.reported(lambda self, change: change.new and self.go_to(change.new.strip()))
        went.observe(lambda change: typed(self, change), "value")
        self._order = labelled(ipywidgets.Dropdown, "order", 220, options=ORDERS)
        self._stretch = labelled(ipywidgets.Dropdown, "stretch", 150, options=stamps.STRETCHES)
        traitlets.link((self, "order"), (self._order, "value"))
        traitlets.link((self, "stretch"), (self._stretch, "value"))
        return in_row(back, on, went), in_row(self._order, self._stretch)

    @traitlets.validate("order", "stretch")
    def _known(self, proposal):
        name, value = proposal["trait"].name, proposal["value"]
        every = ORDERS if name == "order" else stamps.STRETCHES
        if value not in every:
            raise ValueError(f"no {name} {value!r}; choose from {', '.join(every)}")
        return value

    def _turn(self, name, values):
        setattr(self, name, values[(values.index(getattr(self, name)) + 1) % len(values)])

    def ordered(self):
        """Return the positions of the alerts, of those chosen if there are several, in order."""
        keys = {
            ORDERS[0]: np.arange(len(self.scores)), ORDERS[1]: -self.scores,
            ORDERS[2]: self.scores, ORDERS[3]: -self.candidates["mjd"].to_numpy(),
        }  # fmt: skip
        rows = np.argsort(keys[self.order], kind="stable")
        chosen = self.selection.rows
        return rows[np.isin(rows, chosen)] if len(chosen) > 1 else rows

    def _step(self, by):
        rows = self.ordered()
        at = np.flatnonzero(rows == self.selection.focus)
        self.selection.focus = int(rows[np.clip(at[0] + by, 0, len(rows) - 1) if len(at) else 0])

    @traitlets.observe("order")
    def _on_order(self, _):
        if self._followed:
            self.selection.focus = int(self.ordered()[0])
            self._tell()

    @traitlets.observe("stretch")
    def _on_stretch(self, _):
        if self._followed:
            self._show()

    @view.reported
    def _show(self, _=None):
        """Show the alert in focus."""
        at = self.selection.focus
        if at is None:
            raise ValueError("no alert is looked at; press n")
        about = self.candidates.iloc[at]
        with self.picture.together():
            for k, frame in enumerate(self._frames[:3]):
                frame.show(stamps.stretch(self.triplets[at][..., k], self.stretch))
            if self.model is not None:
                self._frames[3].show(self.saliency())
            self._curve.show(self.history[self.history["object_id"] == about["object_id"]], about)
        self._tell()

    def _tell(self):
        lines = self._words()
        self.description = lines[0]
        text = "<br>".join(map(html.escape, lines))
        self._status.value = f'<div role="status">{text}</div>'

    def _words(self):
        at = self.selection.focus
        about, rows = self.candidates.iloc[at], self.ordered()
        place = np.flatnonzero(rows == at)
        rank = f", {place[0] + 1} of {len(rows)} {self.order}" if len(place) else ", not chosen"
        said = f"Alert {self.candidates.index[at]} of {about['object_id']}{rank}"
        said += f": {about['band']}, MJD {about['mjd']:.5f}"
        if "magpsf" in about:
            error = about.get("sigmapsf", np.nan)
            said += f", {about['magpsf']:.2f} ± {error:.2f} mag of difference"
        if self._said_by == "model":
            said += f"; score {self.scores[at]:.3f}"
        known = {name: about[name] for name in SHOWN if name in about and _known(about[name])}
        told = ", ".join(
            f"{name} {value:.4g}" if isinstance(value, float | np.floating) else f"{name} {value}"
            for name, value in known.items()
        )
        return [f"{said}.", *([f"The packet says: {told}."] if told else [])]


def _known(value):
    return not (pd.isna(value) or value in (MISSING, "null", ""))


class _Frame:
    """One stamp as a bokeh figure."""

    def __init__(self, name, palette=Greys256):
        self.name, self.image = name, np.zeros((1, 1))
        self.source = ColumnDataSource({"image": [self.image], "n_x": [1], "n_y": [1]})
        self.mapper = LinearColorMapper(palette, low=0, high=1, nan_color="#8fb5d6")
        self.figure = figure(
            name=name, title=name, width=_SIDE, height=_SIDE + 70, sizing_mode="fixed", tools="",
            x_axis_location=None, y_axis_location=None, toolbar_location=None,
            x_range=Range1d(0, 1), y_range=Range1d(0, 1), min_border=0, outline_line_color=None,
        )  # fmt: skip
        self.figure.grid.visible = False
        self.figure.image("image", 0, 0, "n_x", "n_y", source=self.source, color_mapper=self.mapper)

    def show(self, image):
        self.image = image
        height, width = image.shape
        self.mapper.high = float(np.nanmax(image, initial=0)) or 1.0
        self.figure.x_range.end, self.figure.y_range.end = width, height
        self.source.data = {"image": [image.astype(np.float32)], "n_x": [width], "n_y": [height]}


class _History:
    """Detections and upper limits of one object as a bokeh figure; the alert is ringed."""

    def __init__(self):
        names = "mjd mag low high color marker band kind sign size fill legend"
        self.source = ColumnDataSource({name: [] for name in names.split()})
        self.ring = ColumnDataSource({"mjd": [], "mag": []})
        self.table = pd.DataFrame()
        self.figure = figure(
            name="history", title="history", height=_SIDE + 60, min_width=320,
            sizing_mode="stretch_width", tools="pan,wheel_zoom,reset,save",
            x_axis_label="MJD [day]", y_axis_label="difference magnitude",
        )  # fmt: skip
        self.figure.y_range.flipped = True
        self.figure.xaxis.formatter.use_scientific = False
        self.figure.xaxis.ticker.desired_num_ticks = 4
        self.figure.add_layout(
            Whisker(source=self.source, base="mjd", lower="low", upper="high", line_color="color")
        )
        drawn = self.figure.scatter(
            "mjd", "mag", source=self.source, color="color", marker="marker", size="size",
            fill_alpha="fill", legend_field="legend",
        )  # fmt: skip
        self.figure.scatter(
            "mjd", "mag", source=self.ring, size=15, marker="circle", line_color="black",
            fill_color=None, line_width=2,
        )  # fmt: skip
        tips = [
            ("", "@kind in @band"),
            ("MJD", "@mjd{0.00000}"),
            ("mag", "@mag{0.000} (@sign)"),
        ]
        self.figure.add_tools(HoverTool(renderers=[drawn], tooltips=tips))
        self.figure.legend.location = "top_left"

    def show(self, table, alert):
        part = table.sort_values("mjd")
        limits = part["kind"] == "limit"
        part = part.assign(
            mag=part["magpsf"].where(~limits, part["diffmaglim"]), magerr=part["sigmapsf"]
        )
        self.table = part = part[np.isfinite(part["mag"])]
        limit, styles = (part["kind"] == "limit").to_numpy(), band_styles(part["band"])
        error = np.where(limit, np.nan, part["magerr"].to_numpy(float))
        sign = np.where(part["isdiffpos"].fillna(True), "brighter", "fainter")
        self.source.data = {
            "mjd": part["mjd"], "mag": part["mag"], "low": part["mag"] - error,
            "high": part["mag"] + error, "band": part["band"], "kind": part["kind"],
            "sign": np.where(limit, "upper limit", sign),
            "color": [styles[band]["color"] for band in part["band"]],
            "marker": [
                "inverted_triangle" if lim else styles[band]["marker"]
                for band, lim in zip(part["band"], limit, strict=True)
            ],
            "size": np.where(limit, 6, 8), "fill": np.where(limit, 0.0, 0.6),
            "legend": part["band"].mask(limit, "upper limit"),
        }  # fmt: skip
        now = part[(part["candid"] == alert.name).fillna(False).to_numpy(bool)]
        self.ring.data = {"mjd": now["mjd"], "mag": now["mag"]}

    def draw(self, axes):
        part, limit = self.table, (self.table["kind"] == "limit").to_numpy()
        named = {*part["band"][limit][:1]}  # the legend names upper limits once
        for band, style in band_styles(part["band"]).items():
            here = (part["band"] == band).to_numpy()
            seen, not_seen = part[here & ~limit], part[here & limit]
            options = {"color": style["color"], "ms": 4, "lw": 0.6}
            axes.errorbar(
                seen["mjd"], seen["mag"], seen["magerr"], fmt=MARKERS[style["marker"]],
                label=band if len(seen) else None, **options,
            )  # fmt: skip
            label = "upper limit" if band in named else None
            axes.plot(not_seen["mjd"], not_seen["mag"], "v", mfc="none", label=label, **options)
        axes.plot(self.ring.data["mjd"], self.ring.data["mag"], "o", ms=11, mfc="none", mec="black")
        axes.set(xlabel="MJD [day]", ylabel="difference magnitude")
        axes.ticklabel_format(axis="x", useOffset=False, style="plain")
        axes.tick_params(labelsize="x-small")
        axes.locator_params(axis="x", nbins=4)
        axes.yaxis.set_inverted(True)
        if len(part):
            axes.legend(fontsize="x-small")
