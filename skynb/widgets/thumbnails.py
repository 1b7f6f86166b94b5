"""Small pictures of a few objects: each a light curve beside its dm-dt image."""

import numpy as np
from bokeh import events
from bokeh.models import ColumnDataSource, LinearColorMapper, Range1d
from bokeh.palettes import Viridis256
from bokeh.plotting import figure as bokeh_figure

from skynb import dmdt, plots

N_CELLS = 6
"""Objects that are shown at a time."""


class Thumbnails:
    """A bokeh ``figure`` of up to `N_CELLS` objects, one below the other.

    Parameters
    ----------
    on_tap : callable
        Is told which of them was tapped, the first is 0.
    height : int
        [pixel]
    """

    def __init__(self, on_tap, *, height):
        self._texts, self._on_tap = [], on_tap
        self.figure = plot = bokeh_figure(
            name="thumbnails", width=440, height=height,
            x_range=Range1d(0, 1), y_range=Range1d(0, N_CELLS),
            tools="", toolbar_location=None, min_border=0, outline_line_color=None,
        )  # fmt: skip
        plot.axis.visible = plot.grid.visible = False
        empty = {
            "points": ("x", "y", "color", "marker"), "bars": ("x", "low", "high", "color"),
            "images": ("image", "y"), "texts": ("y", "text", "fill"),
        }  # fmt: skip
        self.sources = source = {
            name: ColumnDataSource({column: [] for column in columns})
            for name, columns in empty.items()
        }
        frame = {"fill_color": "fill", "line_color": "#bbbbbb"}
        plot.rect(0.5, "y", 0.998, 0.96, source=source["texts"], **frame)
        mapper = LinearColorMapper(
            palette=Viridis256[::-1], low=0, high=1, nan_color="rgba(0, 0, 0, 0)"
        )
        plot.image("image", 0.68, "y", 0.3, 0.68, source=source["images"], color_mapper=mapper)
        bars = {"source": source["bars"], "line_color": "color", "line_alpha": 0.4}
        plot.segment("x", "low", "x", "high", **bars)
        points = {"marker": "marker", "color": "color", "size": 4, "alpha": 0.8}
        plot.scatter("x", "y", source=source["points"], **points)
        text = {"text_font_size": "8.5pt", "text_color": "black", "y_offset": -26}
        plot.text(0.012, "y", "text", source=source["texts"], **text)
        plot.on_event(events.Tap, self._tapped)

    def show(self, lcs, names):
        """Show a few light curves under their names."""
        found = cells(lcs)
        for name in ("points", "bars", "images"):
            self.sources[name].data = found[name]
        self._texts = ["   ".join(words) for words in zip(names, found["texts"], strict=True)]

    def mark(self, lit):
        """Write the names, those that are lit marked; one bool for each object."""
        self.sources["texts"].data = {
            "y": [N_CELLS - 0.5 - k for k in range(len(lit))],
            "text": ["▶ " * on + text for on, text in zip(lit, self._texts, strict=True)],
            "fill": ["#fff4d6" if on else "#ffffff" for on in lit],
        }

    def draw(self, axes):
        """Draw what is shown on matplotlib axes."""
        points, bars, images, texts = (source.data for source in self.sources.values())
        axes.vlines(bars["x"], bars["low"], bars["high"], bars["color"], lw=0.5, alpha=0.4)
        axes.scatter(points["x"], points["y"], s=1.5, c=points["color"])
        for image, y in zip(*images.values(), strict=True):
            place = (0.68, 0.98, y, y + 0.68)
            axes.imshow(image, "viridis_r", extent=place, aspect="auto", origin="lower")
        for y, text, _ in zip(*texts.values(), strict=True):
            axes.text(0.01, y + 0.25, text, fontsize=6)
        axes.set(xlim=(0, 1), ylim=(0, N_CELLS))
        axes.axis("off")

    def _tapped(self, event):
        k = N_CELLS - 1 - int(event.y)
        if 0 <= k < len(self._texts):
            self._on_tap(k)


def cells(lcs):
    """Return the light curves and dm-dt images of a few objects, each in a cell, as columns.

    Cells lie one upon the other from `N_CELLS` down, each as wide and high as 1: the light curve on
    the left, brighter upwards, the counts of its dm-dt image in the commonest band on the right,
    by their logarithm, the highest 1 and an empty cell NaN.
    """
    points = {"x": [], "y": [], "color": [], "marker": []}
    bars = {"x": [], "low": [], "high": [], "color": []}
    images, texts = {"image": [], "y": []}, []
    for k in range(len(lcs)):
        lc, floor = lcs["lightcurve"].iloc[k], N_CELLS - 1 - k
        mjd, mag, magerr = (lc[name].to_numpy() for name in ("mjd", "mag", "magerr"))
        band = lc["band"].to_numpy().astype(str)
        names, n_obs = np.unique(band, return_counts=True)
        first, span, faint, bright = mjd.min(), np.ptp(mjd) or 1.0, mag.max(), mag.min()
        drawn = plots.one_per_pixel(mjd, mag) if len(mjd) > plots.N_DRAWN / N_CELLS else slice(None)
        x = 0.02 + 0.62 * (mjd[drawn] - first) / span
        scale = 0.62 / ((faint - bright) or 1.0)
        y = floor + 0.06 + (faint - mag[drawn]) * scale
        off = np.minimum(magerr[drawn] * scale, 0.3)
        styles = plots.band_styles(names)
        colors, markers = ([styles[b][k] for b in band[drawn]] for k in ("color", "marker"))
        columns = (x, y, colors, markers)
        for part, column in zip(points.values(), columns, strict=True):
            part.extend(column)
        columns = (x, np.maximum(y - off, floor + 0.03), np.minimum(y + off, floor + 0.72), colors)
        for part, column in zip(bars.values(), columns, strict=True):
            part.extend(column)
        most = band == names[np.argmax(n_obs)]
        counts = np.log1p(dmdt.image(mjd[most], mag[most]).astype(np.float32))
        images["image"].append(np.where(counts > 0, counts / max(counts.max(), 1e-9), np.nan))
        images["y"].append(floor + 0.05)
        texts.append(f"{bright:.1f} to {faint:.1f} mag, {np.ptp(mjd):,.0f} d, {'/'.join(names)}")
    return {"points": points, "bars": bars, "images": images, "texts": texts}
