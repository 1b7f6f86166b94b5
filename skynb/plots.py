"""Pictures of light curves, dm-dt images, maps and classes: HoloViews objects that compose.

Every function returns a static object of the bokeh backend: ``a + b`` and ``a * b`` work, and an
executed notebook shows it with no kernel and no network. Call `extension` once in a notebook,
before the first picture.
"""

import holoviews as hv
import holoviews.plotting.bokeh  # the backend of the options below, the current one from here on
import numpy as np
import pandas as pd

import skynb.distributions
import skynb.dmdt
import skynb.lightcurves
import skynb.networks
import skynb.stamps
import skynb.taxonomy

BAND_COLORS = {
    "u": "#6a3d9a",
    "g": "#009e73",
    "r": "#d55e00",
    "i": "#a6761d",
    "z": "#882255",
    "y": "#444444",
    "V": "#0072b2",
    "clear": "#333333",
    "Kp": "#0072b2",
}
BAND_MARKERS = {"u": "diamond", "g": "circle", "r": "square", "i": "triangle", "z": "star"}
CLASS_COLORS = {
    "EW": "#0072b2",
    "EA": "#d55e00",
    "RRab": "#009e73",
    "RRc": "#56b4e9",
    "RRd": "#cc79a7",
    "RS CVn": "#e69f00",
    "LPV": "#882255",
    "flare": "#332288",
    "DN": "#44aa99",
    "SN": "#999933",
    "QSO": "#555555",
}
OTHER_COLORS = (  # far from those above and each other, also to eyes without red or green cones
    *("#662200", "#0077ff", "#886633", "#77bb66", "#992288", "#8899ff"),
    *("#335533", "#bb1100", "#7744cc", "#cc33bb", "#dd5566", "#55bbcc"),
)
OTHER_MARKERS = ("circle", "square", "triangle", "diamond", "inverted_triangle", "star", "hex")
N_DRAWN = 5000  # observations of one band drawn one by one
_AGAINST, _FOR = "#3b4cc0", "#b40426"  # the ends of coolwarm
_FRAME = {"frame_width": 360, "frame_height": 230, "axiswise": True}


def extension():
    """Load the JavaScript of HoloViews and Panel into the notebook, asking nothing of a CDN."""
    from panel.viewable import Viewable

    hv.extension("bokeh", inline=True, logo=False)
    if _inline_stylesheets not in Viewable._preprocessing_hooks:
        Viewable._preprocessing_hooks.append(_inline_stylesheets)


def class_colors(classes):
    """Return a dict with a colour for each class: `CLASS_COLORS`, then `OTHER_COLORS` in turn."""
    others = [name for name in dict.fromkeys(classes) if name not in CLASS_COLORS]
    turn = {name: OTHER_COLORS[k % len(OTHER_COLORS)] for k, name in enumerate(others)}
    return {name: (CLASS_COLORS | turn)[name] for name in classes}


def band_styles(bands):
    """Return each band, blue to red, with the ``color`` and the ``marker`` that it is drawn in."""
    bands = sorted(set(bands), key=lambda band: ("ugrizy".find(band[:1]), band))
    return {
        band: {
            "color": BAND_COLORS.get(band) or OTHER_COLORS[k % len(OTHER_COLORS)],
            "marker": BAND_MARKERS.get(band) or OTHER_MARKERS[k % len(OTHER_MARKERS)],
        }
        for k, band in enumerate(bands)
    }


def lightcurve(lc):
    """Return ``mag`` against ``mjd`` with 1-sigma error bars per ``band``, brighter upwards.

    Beyond `N_DRAWN` observations a band shows one point per pixel and no error bars, which hides
    nothing that could be seen.

    Parameters
    ----------
    lc : DataFrame
        One object's observations: ``mjd`` [day], ``mag`` and ``magerr`` [mag], ``band``.

    Raises
    ------
    ValueError
        If there is no observation.
    """
    options = {"title": "light curve", "xlabel": "MJD [day]", "xformatter": "%.9g", "xticks": 5}
    return _magnitudes(lc, "mjd", lc["mjd"].to_numpy(), options)


def folded(lc, period, *, epoch=0.0):
    """Return ``mag`` against phase over two cycles, brighter upwards.

    Parameters
    ----------
    lc : DataFrame
        One object's observations, as in `lightcurve`.
    period : float
        Period [day].
    epoch : float
        Time of phase 0, MJD [day].

    Raises
    ------
    ValueError
        If the period is not a positive number, or there is no observation.
    """
    if not (np.isfinite(period) and period > 0):
        raise ValueError(f"expected a positive period [day], got {period}; use plots.lightcurve")
    phase = skynb.lightcurves.fold(lc["mjd"].to_numpy(), period, epoch=epoch)
    twice = pd.concat([lc, lc], ignore_index=True)
    options = {"title": f"period {period:.6g} d", "xlim": (0, 2), "xlabel": "phase"}
    return _magnitudes(twice, "phase", np.concatenate([phase, phase + 1]), options)


def dmdt(image, *, grid=skynb.dmdt.GRID):
    """Return a dm-dt image with cells of equal size and the bin edges written on the axes.

    Counts are coloured by their logarithm, other normalisations linearly; an empty cell is blank.

    Parameters
    ----------
    image : ndarray, shape (n_dm, n_dt)
        Rows of ascending dm [mag], columns of ascending dt [day]; also a mean of images.
    grid : skynb.dmdt.Grid
        Edges and normalisation of the image.

    Raises
    ------
    ValueError
        If the image has another shape than the grid.
    """
    image = np.asarray(image, dtype=float)
    if image.shape != grid.shape:
        raise ValueError(f"an image of shape {image.shape} is not of {grid}; give its own grid=")
    n_dm, n_dt = image.shape
    dm, dt = np.array(grid.dm), np.array(grid.dt)
    counts = grid.normalization == "counts"
    value = "pairs" if counts else grid.normalization
    low = image.min(initial=1, where=image > 0) if counts else 0
    top = image.max(initial=2 if counts else 0) or 1
    layers = np.array(
        [
            np.where(image > 0, image, np.nan),
            *np.meshgrid(dt[:-1], dm[:-1]),
            *np.meshgrid(dt[1:], dm[1:]),
        ],
        dtype=np.float32,
    )
    colored = hv.Dimension("value", range=(low, top))
    names = [colored, "dt_low", "dm_low", "dt_high", "dm_high"]
    return hv.Image((np.arange(n_dt), np.arange(n_dm), *layers), ["dt", "dm"], names).opts(
        **_FRAME,
        title="dm-dt",
        xticks=ticks(dt, time_text, gap=max(2, n_dt // 8)),
        yticks=ticks(dm, "{:g}".format, gap=max(1, n_dm // 11)),
        xlabel="dt",
        ylabel="dm [mag]",
        cmap="viridis_r",
        logz=counts,
        colorbar=True,
        clabel=value,
        bgcolor="white",
        tools=["hover"],
        hover_tooltips=[
            ("dt", "@dt_low{0.[0000]} to @dt_high{0.[0000]} d"),
            ("dm", "@dm_low{0.[00]} to @dm_high{0.[00]} mag"),
            (value, "@value{0.[0000]}"),
        ],
    )


def attribution(attribution, *, grid=skynb.networks.FINE_GRID):
    """Return a map of what the cells of a dm-dt image did for a class: red for, blue against.

    A cell that did nothing is blank.

    Parameters
    ----------
    attribution : ndarray, shape (n_dm, n_dt)
        Of `skynb.explain.attribute`.
    grid : skynb.dmdt.Grid
        Of the image that was explained.
    """
    values = np.asarray(attribution, dtype=float)
    top = np.abs(values).max(initial=0) or 1.0
    filled = dmdt(np.ones(values.shape), grid=grid.with_normalization("max"))
    layers = [filled.dimension_values(name, flat=False) for name in filled.vdims[1:]]
    names = [hv.Dimension("attribution", range=(-top, top)), *filled.vdims[1:]]
    axes = (np.arange(grid.shape[1]), np.arange(grid.shape[0]))
    values = np.where(values == 0, np.nan, values).astype(np.float32)
    edges = filled.opts.get("plot").kwargs
    return hv.Image((*axes, values, *layers), ["dt", "dm"], names).opts(
        **{name: edges[name] for name in ("xticks", "yticks", "xlabel", "ylabel")},
        **_FRAME,
        title="attribution",
        cmap="coolwarm",
        colorbar=True,
        bgcolor="white",
        tools=["hover"],
    )


def shares(lc, values, *, title="what the observations did"):
    """Return a light curve whose observations are coloured by their shares: red for, blue against.

    An observation is the larger, the greater its share, so that the picture is readable without
    colour.

    Parameters
    ----------
    lc : DataFrame
        One object's observations, as in `lightcurve`.
    values : ndarray, shape (n_obs,)
        Of `skynb.explain.share`.
    """
    values = np.asarray(values, dtype=float)
    if values.shape != (len(lc),) or len(lc) == 0:
        raise ValueError(f"{values.size} shares for {len(lc)} observations; give one for each")
    top = np.abs(values).max() or 1.0
    table = pd.DataFrame({"mjd": lc["mjd"].to_numpy(), "mag": lc["mag"].to_numpy()})
    table["share"], table["size"] = values, 4 + 8 * np.sqrt(np.abs(values) / top)
    table = table.sort_values("size")
    names = ["mag", hv.Dimension("share", range=(-top, top)), "size"]
    return hv.Scatter(table, "mjd", names).opts(
        **_FRAME,
        title=title,
        xlabel="MJD [day]",
        ylabel="magnitude",
        xformatter="%.9g",
        xticks=5,
        invert_yaxis=True,
        color="share",
        cmap="coolwarm",
        colorbar=True,
        size="size",
        line_color="#555555",
        line_width=0.4,
        tools=["hover"],
    )


def filters(kernels, *, n_columns=8):
    """Return the kernels of a convolution side by side: red is positive, blue negative.

    Parameters
    ----------
    kernels : ndarray, shape (n_filters, height, width)
        Of `skynb.explain.filters`.
    """
    kernels = np.asarray(kernels, dtype=float)
    if kernels.ndim != 3:
        raise ValueError(f"kernels of shape {kernels.shape}; give those of one channel")
    n, height, width = kernels.shape
    n_rows = -(-n // n_columns)
    sheet = np.full((n_rows * (height + 1), n_columns * (width + 1)), np.nan)
    for k, kernel in enumerate(kernels):
        row, column = n_rows - 1 - k // n_columns, k % n_columns
        top, left = row * (height + 1), column * (width + 1)
        sheet[top : top + height, left : left + width] = kernel
    top = np.abs(kernels).max() or 1.0
    axes = (np.arange(sheet.shape[1]), np.arange(sheet.shape[0]))
    image = hv.Image((*axes, sheet), ["x", "y"], hv.Dimension("weight", range=(-top, top)))
    return image.opts(
        frame_width=480,
        aspect="equal",
        cmap="coolwarm",
        colorbar=True,
        bgcolor="white",
        xaxis=None,
        yaxis=None,
        title=f"{n} filters of {height}x{width}",
        axiswise=True,
    )


def bars(values, *, title="", n=15):
    """Return horizontal bars of the ``n`` first values of a Series, the first on top.

    For a DataFrame the bars of a row are stacked, one colour a column, as of classes.
    """
    values = values.iloc[:n][::-1]
    options = {
        "invert_axes": True,
        "frame_width": 420,
        "frame_height": max(120, 22 * len(values)),
        "title": title,
        "tools": ["hover"],
        "axiswise": True,
        "xlabel": "",
    }
    if values.ndim == 1:
        colors = np.where(values > 0, _FOR, _AGAINST)
        table = pd.DataFrame({"name": values.index.astype(str), "value": values.to_numpy()})
        return hv.Bars(table.assign(color=colors), "name", ["value", "color"]).opts(
            **options, color="color", ylabel="value"
        )
    table = values.rename_axis("name").reset_index().melt("name", var_name="class")
    colors = class_colors(values.columns)
    return hv.Bars(table, ["name", "class"], "value").opts(
        **options, stacked=True, cmap=colors, legend_position="right", ylabel="value"
    )


def cuts(curves):
    """Return deletion and insertion curves, the mean over objects, with the areas under them.

    Parameters
    ----------
    curves : dict of str -> skynb.faithfulness.Curves
        Several methods, or chance, by name.
    """
    pictures = []
    for kind in ("deletion", "insertion"):
        lines = []
        for k, (name, each) in enumerate(curves.items()):
            line = hv.Curve(
                (each.fraction, getattr(each, kind).mean(axis=0)),
                "part of the filled cells",
                "probability of the class",
                label=f"{name} {each.area()[kind]:.2f}",
            )
            dash = ("solid", "dashed", "dotted", "dotdash")[k % 4]
            lines.append(line.opts(color=OTHER_COLORS[k % len(OTHER_COLORS)], line_dash=dash))
        drawn = hv.Overlay(lines).opts(title=kind, ylim=(0, 1), show_grid=True, axiswise=True)
        pictures.append(drawn.opts(frame_width=230, frame_height=230, legend_position="right"))
    return hv.Layout(pictures).opts(shared_axes=False)


def periodogram(p, *, n_points=2000):
    """Return power against frequency [1/day], the highest peak marked and its period written.

    Parameters
    ----------
    p : skynb.periods.Periodogram
        Its ``frequency`` [1/day] and ``power``.
    n_points : int
        Points drawn at most: of each run of frequencies the one with the highest power.
    """
    frequency, power = np.asarray(p.frequency), np.asarray(p.power)
    runs = np.array_split(np.arange(len(power)), min(n_points, len(power)))
    drawn = [run[np.argmax(power[run])] for run in runs]
    best = [np.argmax(power)]
    options = {
        **_FRAME,
        "xlabel": "frequency [1/day]",
        "title": f"best period {1 / frequency[best[0]]:.6g} d",
        "padding": (0.02, 0.1),
    }
    curve = hv.Curve((frequency[drawn], power[drawn]), "frequency", "power")
    peak = hv.Scatter((frequency[best], power[best]), "frequency", "power")
    return curve.opts(**options, color="#333333", line_width=1, tools=["hover"]) * peak.opts(
        **options, color="#d55e00", marker="inverted_triangle", size=11
    )


def confusion(matrix, classes):
    """Return a confusion matrix: objects in the cells, coloured by the fraction of the true class.

    Parameters
    ----------
    matrix : ndarray, shape (n_classes, n_classes)
        Number of objects by true class (rows) and predicted class (columns).
    classes : sequence of str
        Names of the rows and columns.

    Raises
    ------
    ValueError
        If the matrix does not have one row and one column per class.
    """
    matrix, classes = np.asarray(matrix), list(classes)
    n = len(classes)
    if matrix.shape != (n, n):
        raise ValueError(f"expected a matrix of shape {(n, n)} for {classes}, got {matrix.shape}")
    fraction = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    true, predicted = np.indices((n, n))
    columns = {"predicted": predicted, "true": true, "fraction": fraction, "objects": matrix}
    table = pd.DataFrame({name: column.ravel() for name, column in columns.items()})
    table["ink"] = np.where(table["fraction"] > 0.5, "white", "black")
    table["text"] = [
        f"{objects:g}" + (f"\n{share:.0%}" if objects and n <= 12 else "")
        for objects, share in zip(table["objects"], table["fraction"], strict=True)
    ]
    side, ticks = max(360, min(52 * n, 680)), list(enumerate(classes))
    cells = hv.HeatMap(table, ["predicted", "true"], ["fraction", "objects"])
    numbers = hv.Labels(table, ["predicted", "true"], ["text", "ink"])
    return (
        cells.opts(
            cmap="Blues",
            clim=(0, 1),
            colorbar=True,
            clabel="share of the true class",
            tools=["hover"],
        )
        * numbers.opts(text_color="ink", text_font_size="9pt")
    ).opts(
        frame_width=side,
        frame_height=side,
        xticks=ticks,
        yticks=ticks,
        xrotation=45,
        xlim=(-0.5, n - 0.5),
        ylim=(-0.5, n - 0.5),
        invert_yaxis=True,
        axiswise=True,
    )


def embedding(xy, labels=None, *, axes=("t-SNE 1", "t-SNE 2"), object_id=None, side=560):
    """Return a map of objects drawn by datashader, each class named where its members lie.

    Parameters
    ----------
    xy : ndarray, shape (n_objects, 2)
        Coordinates on the map.
    labels : sequence of str, optional
        Class of each object; without it the map shows the density of objects.
    axes : (str, str)
        Names of the two coordinates.
    object_id : sequence, optional
        Shown with the class under the pointer.
    side : int
        Width and height of the map [pixel].

    Raises
    ------
    ValueError
        If the coordinates or the labels have another shape, or a coordinate is not finite.
    """
    import datashader
    from holoviews.operation.datashader import datashade, dynspread

    xy = np.asarray(xy, dtype=float)
    if xy.ndim != 2 or xy.shape[1] != 2 or len(xy) == 0 or not np.isfinite(xy).all():
        n_bad = np.count_nonzero(~np.isfinite(xy))
        raise ValueError(f"expected finite xy (n_objects, 2), got {xy.shape}, {n_bad} not finite")
    if labels is not None and len(labels) != len(xy):
        raise ValueError(f"expected {len(xy)} labels, one per object, got {len(labels)}")
    table = pd.DataFrame(xy, columns=["x", "y"])
    kdims = [hv.Dimension("x", label=axes[0]), hv.Dimension("y", label=axes[1])]
    how = {"aggregator": datashader.count(), "cmap": ["#9ecae1", "#08306b"]}
    if labels is not None:
        named = pd.Series(np.asarray(labels, dtype=object)).fillna("unlabelled").astype(str)
        table["label"] = named.astype("category")
        colors = class_colors(table["label"].cat.categories)
        how = {"aggregator": datashader.count_cat("label"), "color_key": colors}
        if len(colors) == 1:  # which datashader would leave blank
            how = {"aggregator": datashader.count(), "cmap": list(colors.values())}
    margin = 32 / side * np.ptp(xy, axis=0) + 1e-9  # room for half of a name
    x_range, y_range = zip(xy.min(axis=0) - margin, xy.max(axis=0) + margin, strict=True)
    how |= {"x_range": x_range, "y_range": y_range, "width": side, "height": side}
    points = hv.Points(table, kdims, list(table.columns[2:]))
    picture = datashade(points, **how, min_alpha=120, dynamic=False)
    picture = dynspread(picture, max_px=3, threshold=0.8, dynamic=False)
    if object_id is not None:
        table["object_id"] = np.asarray(object_id).astype(str)
        seen = hv.Points(table, kdims, list(table.columns[2:]))
        picture = picture * seen.opts(alpha=0, size=7, tools=["hover"])
    if labels is not None:
        picture = picture * _class_names(table, kdims, colors, side)
        picture = picture.opts(legend_position="right")
    return picture.opts(frame_width=side, frame_height=side, axiswise=True)


def percentiles(levels, epochs=None):
    """Return nine percentiles against the epoch as nested bands about the median.

    The darkest band holds the middle 38 % of the values, the others 68 %, 87 % and all: 0.5, 1 and
    1.5 sigma of a normal distribution on either side.

    Parameters
    ----------
    levels : ndarray, shape (n_epochs, 9)
        From the largest to the smallest, as `skynb.distributions.percentiles` returns them.
    epochs : sequence, optional
        By default 0, 1, 2, ...

    Raises
    ------
    ValueError
        If the shape is another.
    """
    levels = np.asarray(levels, dtype=float)
    if levels.ndim != 2 or levels.shape[1] != 9:
        raise ValueError(f"expected percentiles of shape (n_epochs, 9), got {levels.shape}")
    epochs = np.arange(len(levels)) if epochs is None else np.asarray(epochs)
    around = np.concatenate([epochs, epochs[::-1]])
    bands = [
        {"epoch": around, "value": np.concatenate([levels[:, k], levels[::-1, 8 - k]]), "shade": s}
        for k, s in enumerate(("#deebf7", "#9ecae1", "#4a90c4", "#1d5a96"))
    ]
    bands = hv.Polygons(bands, ["epoch", "value"], "shade").opts(color="shade", line_width=0)
    median = hv.Curve((epochs, levels[:, 4]), "epoch", "value").opts(color="black")
    return (bands * median).opts(**_FRAME, show_legend=False)


def distributions(table, *, layers=None):
    """Return `percentiles` of every layer (rows) and kind (columns) that a callback has kept.

    Parameters
    ----------
    table : DataFrame
        Of `skynb.distributions.Distributions`.
    layers : sequence of str, optional
        By default those with weights.

    Raises
    ------
    ValueError
        If there is no such layer.
    """
    known = list(dict.fromkeys(table["layer"]))
    if layers is None:
        layers = list(dict.fromkeys(table["layer"][table["kind"] == "weights"]))
    if not layers or (unknown := [name for name in layers if name not in known]):
        wrong = f"no layer is called {unknown[0]!r}" if layers else "no layer has weights"
        raise ValueError(f"{wrong}; choose from {', '.join(known) or 'a network that has some'}")
    parts = dict(list(table.groupby(["layer", "kind"])))
    kinds = [kind for kind in skynb.distributions.KINDS if any((n, kind) in parts for n in layers)]
    pictures = []
    for name in layers:
        for kind in kinds:
            part = parts.get((name, kind), table[:0])
            values = part[list(skynb.distributions.LEVELS)].to_numpy()
            if np.isfinite(values).any():
                pictures.append(percentiles(values, part["epoch"].to_numpy()))
            else:
                pictures.append(_blank("not finite" if len(part) else "none"))
            title = f"{name}\n{kind}"
            pictures[-1].opts(title=title, frame_width=178, frame_height=110, ylabel=kind)
            pictures[-1].opts(fontsize={"title": "9pt", "ticks": "7pt"}, xticks=4, yticks=4)
    return hv.Layout(pictures).cols(len(kinds)).opts(shared_axes=False)


def streaks(stamps, found, *, titles=None, n_columns=6, side=130):
    """Return stamps in grey with the streak found in each, two lines beside it.

    Parameters
    ----------
    stamps : sequence of ndarray
        Rows upwards; grey from 2 sigma of the noise below the median to 6 above.
    found : DataFrame
        ``x, y, angle, length`` as in `skynb.streaks.Streaks.describe`; NaN where there is none.
    titles : sequence of str, optional
    """
    pictures = []
    for k, (stamp, place) in enumerate(zip(stamps, found.itertuples(), strict=True)):
        stamp = np.asarray(stamp, float)
        height, width = stamp.shape
        level = np.nanmedian(stamp)
        sigma = 1.4826 * np.nanmedian(np.abs(stamp - level)) or 1.0
        shown = hv.Image(stamp[::-1], bounds=(-0.5, -0.5, width - 0.5, height - 0.5)).opts(
            cmap="gray", clim=(level - 2 * sigma, level + 6 * sigma), xaxis=None, yaxis=None,
            frame_width=side, frame_height=side, title=titles[k] if titles else "",
            fontsize={"title": 9}, axiswise=True, toolbar=None, default_tools=[],
        )  # fmt: skip
        lines = []
        if np.isfinite(place.angle):
            c, s = np.cos(np.radians(place.angle)), np.sin(np.radians(place.angle))
            for away in (-width / 22, width / 22):
                x, y = place.x - away * s, place.y + away * c
                half = np.array([-0.5, 0.5]) * place.length
                lines.append(np.column_stack([x + half * c, y + half * s]))
        pictures.append(shown * hv.Path(lines).opts(color="#e69f00", line_width=2))
    return hv.Layout(pictures).cols(n_columns).opts(shared_axes=False, toolbar=None)


def gallery(lcs, *, images=None, periods=None, grid=skynb.dmdt.GRID):
    """Return one row per object of the table: light curve, folded light curve, dm-dt image.

    Parameters
    ----------
    lcs : NestedFrame
        Light curves.
    images : ndarray, shape (n_objects, n_dm, n_dt), optional
        Their images on ``grid``; by default counted here, in the band with most observations.
    periods : sequence, optional
        Period [day] of each object, NaN where there is none; by default the table's own.
    grid : skynb.dmdt.Grid
        Grid of the images.
    """
    if periods is None:
        periods = lcs["period"] if "period" in lcs else np.full(len(lcs), np.nan)
    rows = []
    for k, period in enumerate(np.asarray(periods, dtype=float)):
        lc = lcs["lightcurve"].iloc[k]
        label = f"{lcs['label'].iloc[k]}   " if "label" in lcs else ""
        phased = folded(lc, period) if np.isfinite(period) else _blank()
        band = lc["band"].mode().iloc[0]
        image = _counts(lc, band, grid) if images is None else images[k]
        width = 240 if lc["band"].nunique() == 1 else 175  # the legend of several bands takes 65
        title = f"dm-dt ({band})" if images is None else "dm-dt"
        rows += [
            lightcurve(lc).opts(title=f"{label}{lcs.index[k]}", frame_width=width, xticks=3),
            phased.opts(show_legend=False, frame_width=170),
            dmdt(image, grid=grid).opts(title=title, frame_width=280, colorbar=False),
        ]
    rows = [picture.opts(frame_height=170) for picture in rows]
    return hv.Layout(rows).cols(3).opts(shared_axes=False)


def triplets(triplets, titles=(), *, stretch="asinh"):
    """Return one row per triplet: its science, template and difference stamps, row 0 below.

    Parameters
    ----------
    triplets : ndarray, shape (n, size, size, 3)
        As of `skynb.stamps`.
    titles : sequence of str, optional
        One per triplet, over its science stamp.
    stretch : str
        As of `skynb.stamps.stretch`.
    """
    options = {"cmap": "gray", "frame_width": 170, "frame_height": 170, "clim": (0, 1)}
    options |= {"xaxis": None, "yaxis": None, "fontsize": {"title": 9}}
    pictures = []
    for k, triplet in enumerate(triplets):
        for plane, name in enumerate(skynb.stamps.PLANES):
            stamp = skynb.stamps.stretch(triplet[..., plane], stretch)
            places = [np.arange(n) + 0.5 for n in stamp.shape[::-1]]
            picture = hv.Image((*places, stamp), ["x", "y"], "brightness")
            title = titles[k] if plane == 0 and k < len(titles) else name
            pictures.append(picture.opts(title=title, **options))
    return hv.Layout(pictures).cols(3).opts(shared_axes=False)


def class_grid(lcs, *, images=None, periods=None, n=1, grid=skynb.dmdt.GRID):
    """Return `gallery` of the first ``n`` objects of each class in ``label``.

    ``images`` and ``periods`` are aligned with ``lcs``.

    Raises
    ------
    ValueError
        If the table has no ``label``.
    """
    if "label" not in lcs:
        raise ValueError("the table has no column 'label'; use plots.gallery instead")
    labels = lcs["label"].to_numpy()
    rows = [k for name in dict.fromkeys(labels) for k in np.flatnonzero(labels == name)[:n]]
    images, periods = (None if a is None else np.asarray(a)[rows] for a in (images, periods))
    return gallery(lcs.iloc[rows], images=images, periods=periods, grid=grid)


def panels(images, circles=None, *, side=112):
    """Return images side by side, a column for each name and a row for each of its images.

    Each is shown in its own stretch, from below its sky to its brightest pixels.

    Parameters
    ----------
    images : dict
        Name -> images, shape (n, n_rows, n_columns).
    circles : sequence of DataFrame, optional
        ``x, y`` [pixel] of what is circled in each row.
    """
    shown, n = [], {len(each) for each in images.values()}
    if len(n) != 1 or 0 in n:
        raise ValueError(f"columns of {sorted(n)} images; give each name the same number")
    for k in range(n.pop()):
        for name, each in images.items():
            pixels = np.nan_to_num(np.asarray(each[k], float))
            low, middle, high = np.percentile(pixels, [2, 50, 99.7])
            scale = max(middle - low, (high - middle) / 10) or 1.0
            grey = np.arcsinh((pixels - middle) / scale)
            top = max(np.percentile(grey, 99.7), 1.0)
            axes = np.arange(pixels.shape[1]), np.arange(pixels.shape[0])
            limits = hv.Dimension("value", range=(max(-1.5, grey.min()), top))
            options = {"frame_width": side, "frame_height": side, "xaxis": None, "yaxis": None}
            options |= {"title": name if k == 0 else "", "fontsize": {"title": 9}}
            options |= {"axiswise": True}
            picture = hv.Image((*axes, grey), ["x", "y"], limits).opts(cmap="gray", **options)
            if circles is not None:
                rings = hv.Points(circles[k][["x", "y"]].to_numpy(), ["x", "y"])
                rings.opts(size=15, fill_alpha=0, line_color="#e69f00", line_width=1.5)
                picture = (picture * rings).opts(**options)
            shown.append(picture)
    return hv.Layout(shown).cols(len(images)).opts(shared_axes=False, toolbar=None)


def taxonomy():
    """Return the variability tree of `skynb.taxonomy`: the root on the left, classes on the right.

    A dot carries the colour that the class has in every other picture.
    """
    leaves = [tuple(skynb.taxonomy.path(name)) for name in skynb.taxonomy.CLASSES]
    nodes = dict.fromkeys(leaf[:depth] for leaf in leaves for depth in range(1, len(leaf) + 1))
    at = {
        node: (
            len(node),
            np.mean([k for k, leaf in enumerate(leaves) if leaf[: len(node)] == node]),
        )
        for node in nodes
    }
    lines = [(*at[node[:-1]], *at[node]) for node in nodes if len(node) > 1]
    dots = [(*at[leaf], CLASS_COLORS[leaf[-1]]) for leaf in leaves if leaf[-1] in CLASS_COLORS]
    names = [(*at[node], node[-1] + _description(node)) for node in nodes]
    depth, axes = max(map(len, leaves)), ["depth", "row"]
    return (
        hv.Segments(lines, [*axes, "depth2", "row2"]).opts(color="#999999")
        * hv.Points(dots, axes, "color").opts(color="color", size=10)
        * hv.Labels(names, axes, "name").opts(
            text_align="left",
            text_color="black",
            text_font_size="9pt",
            xoffset=0.04,
            background_fill_color="white",
        )
    ).opts(
        frame_width=880,
        frame_height=17 * len(leaves),
        xlim=(0.9, depth + 3.9),
        ylim=(-1, len(leaves)),
        invert_yaxis=True,
        xaxis=None,
        yaxis=None,
        show_frame=False,
        axiswise=True,
    )


def _inline_stylesheets(viewable, root):
    """Replace each style sheet that would be fetched by its text; a hook of Panel's rendering."""
    from bokeh.models import UIElement
    from panel.io.notebook import patch_inline_stylesheets

    for model in root.select({"type": UIElement}):
        patch_inline_stylesheets(model)


def _magnitudes(lc, name, x, options):
    """Return error bars and points per band against ``x`` [day or phase]."""
    if len(lc) == 0:
        raise ValueError("the light curve has no observation to draw; choose another object")
    table = pd.DataFrame({name: x, "mag": lc["mag"].to_numpy(), "magerr": lc["magerr"].to_numpy()})
    observed = lc["band"].to_numpy().astype(str)
    styles = band_styles(observed)
    bands = list(styles)
    ylabel = "magnitude" if len(bands) > 1 else f"magnitude ({bands[0]})"
    options = {**_FRAME, **options, "ylabel": ylabel, "invert_yaxis": True}
    bars, points = [], []
    for band, style in styles.items():
        part, style = table[observed == band], {**style, "size": 4}
        if len(part) > N_DRAWN:
            part = part.iloc[one_per_pixel(part[name].to_numpy(), part["mag"].to_numpy())]
            style["size"] = 2
        else:
            bar = hv.ErrorBars(part, name, ["mag", "magerr"], label=band)
            heads = {"lower_head": None, "upper_head": None}
            bars.append(bar.opts(**options, **heads, color=style["color"], alpha=0.4))
        drawn = hv.Scatter(part, name, ["mag", "magerr"], label=band)
        points.append(drawn.opts(**options, **style, alpha=0.8, tools=["hover"]))
    legend = {"show_legend": len(bands) > 1, "legend_position": "right"}
    return hv.Overlay(bars + points).opts(**legend)


def one_per_pixel(x, y, shape=(400, 200)):
    """Return the positions of the first point in each pixel that any point falls in."""
    column, row = (
        ((values - values.min()) / (np.ptp(values) or 1) * (n - 1)).astype(int)
        for values, n in zip((x, y), shape, strict=True)
    )
    return np.unique(column * shape[1] + row, return_index=True)[1]


def _counts(lc, band, grid):
    """Return the dm-dt image of one object in one band."""
    lc = lc[lc["band"] == band]
    return skynb.dmdt.image(*(lc[name] for name in ("mjd", "mag", "magerr")), grid=grid)


def _blank(text="no period"):
    """Return a frame that says why it is empty."""
    words = hv.Text(0.5, 0.5, text).opts(text_color="#777777", xlim=(0, 1), ylim=(0, 1))
    return words.opts(title=" ", xlabel=" ", ylabel=" ", xticks=0, yticks=0)


def class_places(xy, labels, side=560):
    """Return where to write each class on a map of so many pixels: name -> (x, y), apart in y.

    That is at the member nearest to the median of all members. A class of less than five members
    is not named among many objects: its name would hide it.
    """
    table = pd.DataFrame(np.asarray(xy), columns=["x", "y"])
    table["label"] = getattr(labels, "array", labels)
    least = min(5, 0.025 * len(table), table["label"].value_counts().max())
    spots = {}
    for name, members in table.groupby("label", observed=True)[["x", "y"]]:
        if len(members) < least:
            continue
        at = members.to_numpy()
        spots[name] = at[np.argmin(((at - np.median(at, axis=0)) ** 2).sum(axis=1))].tolist()
    width, height = (n / side * np.ptp(table[axis]) for axis, n in (("x", 90), ("y", 28)))
    places = {}
    for name, (x, y) in sorted(spots.items(), key=lambda spot: spot[1][1]):
        near = [other[1] for other in places.values() if abs(other[0] - x) < width]
        places[name] = (x, max([y, *(v + height for v in near)]))
    return places


def _class_names(table, kdims, colors, side):
    """Return the names of the classes as labels at their `class_places`."""
    places = class_places(table[["x", "y"]], table["label"], side)
    names = [(*place, name, colors[name]) for name, place in places.items()]
    return hv.Labels(names, kdims, ["label", "color"]).opts(
        text_color="black",
        text_font_size="10pt",
        text_font_style="bold",
        background_fill_color="white",
        background_fill_alpha=0.75,
        border_line_color="color",
        border_line_width=2,
        backend_opts={"glyph.padding": 3},
    )


def _description(node):
    """Return what `skynb.taxonomy.TREE` says of a class, to follow its name; "" for a branch."""
    below = skynb.taxonomy.TREE
    for name in node[1:]:
        below = below[name]
    return f"   {below}" if isinstance(below, str) else ""


def time_text(days):
    """Return a time in the unit that suits it: 9.9 min, 1.9 h, 30 d, 2.6 yr."""
    for unit, length in (("yr", 365.25), ("d", 1.0), ("h", 1 / 24), ("min", 1 / 1440)):
        if days >= length:
            return f"{float(f'{days / length:.2g}'):g} {unit}"
    return f"{days * 86400:.2g} s" if days else "0"


def ticks(edges, text, *, gap):
    """Return (position, text) of edges at least ``gap`` cells apart, the shortest texts first."""
    texts = [text(edge) for edge in edges]
    chosen = []
    for k in sorted(range(len(edges)), key=lambda k: (len(texts[k].lstrip("-")), abs(edges[k]))):
        if all(abs(k - other) >= gap for other in chosen):
            chosen.append(k)
    return [(k - 0.5, texts[k]) for k in sorted(chosen)]
