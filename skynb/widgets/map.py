"""A map of up to millions of objects: lasso a clump, and see the light curves behind it."""

import asyncio
import html

import ipywidgets
import numpy as np
import pandas as pd
import traitlets
from bokeh import events
from bokeh.models import (
    BoxSelectTool,
    ColorBar,
    ColumnDataSource,
    CustomJS,
    LassoSelectTool,
    LinearColorMapper,
    PanTool,
    Range1d,
    ResetTool,
    WheelZoomTool,
)
from bokeh.palettes import Viridis256
from bokeh.plotting import figure as bokeh_figure

from skynb import lightcurves, plots
from skynb.widgets import view
from skynb.widgets.object_view import labelled
from skynb.widgets.selection import bus_of, check_rows, checked_row
from skynb.widgets.thumbnails import N_CELLS, Thumbnails

N_COMPUTED = 5000
"""Objects up to which a map is computed where none is given."""

N_CLASSES = 20
"""Classes told apart, the most frequent; the rest is `OTHERS`."""

SIDE = 500
"""Width and height of the map [pixel]."""

DENSITY, UNLABELLED, OTHERS = "density", "unlabelled", "other classes"
BLUES = ["#9ecae1", "#08306b"]
QUIET = 0.1
"""Time without a move after which a zoomed map is drawn anew [s]."""

NEAR = 15
"""Distance at which the pointer finds an object [pixel]."""

WAYS = {"replace": "replace", "add": "add", "remove": "remove", "keep only these": "keep"}
MODIFIED = {(True, False): "add", (False, True): "keep", (True, True): "remove"}

# The page tells where the pointer is, at most every 60 ms.
POINT = """
pointer.at = [cb_obj.x, cb_obj.y];
pointer.timer ??= setTimeout(() => {
  pointer.timer = undefined;
  pointer.data = {x: [pointer.at[0]], y: [pointer.at[1]]};
}, 60);
"""


class MapExplorer(view.View):
    """A map of all objects, drawn by datashader, and the light curves of those chosen on it.

    Lasso or box objects with the mouse (with shift: add, ctrl: keep only these, both: remove), or
    give the range in the four fields. A click looks at the nearest object. Keys: ``u`` undo, ``r``
    redo, ``c`` centre on the object that is looked at, ``w`` the whole map, ``n`` and ``p`` the
    next and previous page of light curves.

    ![MapExplorer](../../docs/MapExplorer.png)

    Parameters
    ----------
    lcs : NestedFrame or skynb.lightcurves.Stored
        Light curves; of one on disk only those shown are read.
    embedding : ndarray, shape (n_objects, 2), or skynb.embed.Embedding, optional
        Coordinates, NaN for an object that has none. By default a t-SNE map of the features
        without periods, which takes a while, up to `N_COMPUTED` objects.
    selection : Selection, optional
        Shared with other explorers.
    labels : sequence of str, optional
        Class of each object; by default the table's ``label``.
    features : DataFrame or ndarray, shape (n_objects, n_features), optional
        More columns to colour by, beside the numeric ones of ``lcs``.
    axes : (str, str)
        Names of the coordinates.

    Attributes
    ----------
    color : str
        What colours say: ``class``, ``density``, or the name of a column.
    how : str
        What the next lasso or box does: ``replace``, ``add``, ``remove``, or ``keep``.
    shown : tuple of str
        Classes that are drawn, and can be chosen.
    extent : tuple of float
        Part of the map in view: x from, x to, y from, y to.
    page : int
        Page of light curves.
    under : int or None
        Position of the object under the pointer.

    Raises
    ------
    ValueError
        If embedding, labels, features or selection are not of these objects, or a map is to be
        computed of too many.
    """

    color = traitlets.Unicode(DENSITY)
    how = traitlets.Enum(list(WAYS.values()), "replace")
    shown = traitlets.Tuple()
    extent = traitlets.Tuple()
    page = traitlets.Int()
    under = traitlets.Int(allow_none=True, default_value=None)

    def __init__(
        self, lcs, embedding=None, *, selection=None, labels=None, features=None, axes=("x", "y")
    ):
        self._shared, self._given = selection is not None, embedding is not None
        self.lcs, self.selection = lcs, bus_of(lcs, selection)
        self._at_work, self._held = None, {}
        self._axes, self._tree, self._base, self._page = axes, None, {}, ()
        xy = _coordinates(lcs, embedding)
        self.placed = np.isfinite(xy).all(axis=1)
        self._frame = pd.DataFrame(xy, columns=["x", "y"], copy=False)
        self._frame["class"] = _classes(lcs, labels)
        self._columns = _numeric(lcs, features)
        counts = self._frame["class"].value_counts()
        self.classes = {name: int(counts[name]) for name in self._frame["class"].cat.categories}
        self._colors = plots.class_colors(self.classes)
        self._whole = _extent(xy[self.placed])
        self._make()
        super().__init__(*self._children)
        labelled = [*self.classes] != [UNLABELLED]
        self.set_trait("shown", tuple(self.classes))
        self.set_trait("color", "class" if labelled and self.classes else DENSITY)
        self.set_trait("extent", self._whole)
        self._link()
        self._filter()
        self._follow()
        self._tell_missing(embedding)

    # What there is to see

    def _make(self):
        """Make the pictures and the controls."""
        menu = (["class"] if self.classes else []) + [DENSITY, *self._columns]
        self._color = labelled(ipywidgets.Dropdown, "Colour by", 230, options=menu)
        self._how = labelled(ipywidgets.Dropdown, "Choosing", 230, options=[*WAYS.items()])
        self._id = labelled(ipywidgets.Text, "Find id", 230, continuous_update=False)
        names = (f"{axis} {end}" for axis in self._axes for end in ("from", "to"))
        self._range = [
            labelled(ipywidgets.Text, name, 150, value=str(round(at, 3)), continuous_update=False)
            for name, at in zip(names, self._whole, strict=True)
        ]
        self._filters = {
            name: ipywidgets.Checkbox(
                True, description=f"{name} ({n:,})", indent=False, layout={"width": "max-content"}
            )
            for name, n in self.classes.items()
        }
        self._status, self._pointed, self._shelf = (ipywidgets.HTML() for _ in range(3))
        self._list = labelled(ipywidgets.Select, "Look at", 430, options=[], rows=N_CELLS)
        self._map = view.Picture(self._map_figure())
        self._cells = Thumbnails(self._tapped_thumb, height=SIDE + 30)
        self._thumbs = view.Picture(self._cells.figure)
        legend = [
            ipywidgets.HBox([ipywidgets.HTML(_swatch(self._colors[name])), box])
            for name, box in self._filters.items()
        ]
        flow = ipywidgets.Layout(flex_flow="row wrap", grid_gap="0 14px")
        pages = [self._button("Previous page", "p"), self._button("Next page", "n")]
        chosen = [self._shelf, self._thumbs, ipywidgets.HBox(pages), self._list]
        ways = [self._button("Undo", "u"), self._button("Redo", "r")]
        ways += [self._button("Choose nothing", "Escape")]
        typed = self._button("Choose this range", "Enter")
        find = [self._button("Centre on it", "c"), self._button("Whole map", "w")]
        both = [ipywidgets.VBox([self._map, self._pointed]), ipywidgets.VBox(chosen)]
        self._children = [
            ipywidgets.HBox([self._color, self._how, *ways], layout=flow),
            ipywidgets.HBox([self._id, *find], layout=flow),
            ipywidgets.HBox([*self._range, typed], layout=flow),
            ipywidgets.HBox(legend, layout=flow),
            self._status,
            ipywidgets.HBox(both, layout=flow),
        ]

    def _button(self, text, key):
        about = f"{text} (key {key})"
        return self.button(text, about, lambda: self.keys_[key](), width="max-content")

    @view.reported
    def press(self, key):
        """Do what a key does."""
        self.keys_[key]()

    def _map_figure(self):
        x0, x1, y0, y1 = self._whole
        plot = bokeh_figure(
            name="map", width=SIDE + 60, height=SIDE + 60,
            x_range=Range1d(x0, x1), y_range=Range1d(y0, y1),
            x_axis_label=self._axes[0], y_axis_label=self._axes[1], toolbar_location="above",
            tools=[PanTool(), WheelZoomTool(), BoxSelectTool(renderers=[]),
                   LassoSelectTool(renderers=[]), ResetTool()],
        )  # fmt: skip
        self._ranges = plot.x_range, plot.y_range
        plot.toolbar.logo = None
        plot.toolbar.active_scroll, plot.toolbar.active_drag = plot.tools[1], plot.tools[3]
        plot.grid.visible = False
        names = ("image", "names", "focus", "under", "pointer")
        self._sources = {name: ColumnDataSource({}) for name in names}
        empty = {"x": [], "y": []}
        self._sources["image"].data = empty | {"image": [], "dw": [], "dh": []}
        for name in ("names", "focus", "under"):
            self._sources[name].data = empty | {"text": [], "color": []}
        self._sources["pointer"].data = empty
        plot.image_rgba("image", "x", "y", "dw", "dh", source=self._sources["image"])
        text = {
            "background_fill_color": "white", "background_fill_alpha": 0.8, "padding": 3,
            "text_font_size": "9pt", "text_color": "black", "border_line_width": 2,
        }  # fmt: skip
        plot.text(
            "x", "y", "text", source=self._sources["names"], border_line_color="color",
            text_align="center", text_baseline="middle", **text,
        )  # fmt: skip
        for name, marker, size in (("focus", "circle_cross", 22), ("under", "square", 14)):
            source = self._sources[name]
            for color, width in (("white", 5), ("black", 2)):
                plot.scatter(
                    "x", "y", source=source, marker=marker, size=size, fill_color=None,
                    line_color=color, line_width=width,
                )  # fmt: skip
            plot.text("x", "y", "text", source=source, x_offset=12, y_offset=-8, **text)
        self._mapper = LinearColorMapper(palette=Viridis256, low=0, high=1)
        self._bar = ColorBar(color_mapper=self._mapper, visible=False, width=10)
        plot.add_layout(self._bar, "right")
        plot.on_event(events.SelectionGeometry, self._drawn_around)
        plot.on_event(events.PanStart, self._begin)
        plot.on_event(events.Tap, self._tapped)
        plot.on_event(events.MouseLeave, lambda _: self.set_trait("under", None))
        pointer = self._sources["pointer"]
        plot.js_on_event("mousemove", CustomJS(args={"pointer": pointer}, code=POINT))
        pointer.on_change("data", self._pointed_at)
        for axis in self._ranges:
            for end in ("start", "end"):
                axis.on_change(end, self._moved)
        return plot

    def _link(self):
        """Tie the controls to the state, and the state to what is seen."""
        traitlets.link((self, "color"), (self._color, "value"))
        traitlets.link((self, "how"), (self._how, "value"))
        for box in self._filters.values():
            box.observe(self._ticked, "value")
        self._id.observe(lambda change: change["new"] and self.find(change["new"]), "value")
        self._list.observe(self._listed, "value")
        self.observe(self._alone(self._repaint), "color")
        self.observe(self._alone(self._filter), "shown")
        self.observe(self._alone(self._show_page), "page")
        self.observe(self._alone(self._show_under), "under")
        self.follow(
            self.selection, rows=self._alone(self._follow), focus=self._alone(self._refocus)
        )
        self.bind(
            u=self.selection.undo, r=self.selection.redo, c=self.centre, w=self.show_all,
            n=lambda: self.turn(1), p=lambda: self.turn(-1), Escape=self.selection.clear,
        )  # fmt: skip
        self.keys_["Enter"] = self.choose_range

    def _alone(self, method):
        """Return a method as a handler; JupyterLab runs those of cells and widgets side by side."""

        def handler(_=None):
            with view.LOCK:
                method()

        return handler

    # What a scientist does

    def choose_inside(self, x, y, *, how=None):
        """Choose the objects shown within a polygon, given by the x and y of its corners."""
        import shapely

        if len(x) < 3:
            return
        rows = self._rows_between(min(x), max(x), min(y), max(y))
        polygon = shapely.make_valid(shapely.Polygon(np.column_stack([x, y])))
        shapely.prepare(polygon)
        at = self._frame.loc[rows, ["x", "y"]].to_numpy()
        self.selection.choose_rows(rows[shapely.intersects_xy(polygon, at)], how=how or self.how)

    def choose_between(self, x0, x1, y0, y1, *, how=None):
        """Choose the objects shown in a rectangle, its border included."""
        self.selection.choose_rows(self._rows_between(x0, x1, y0, y1), how=how or self.how)

    def choose_range(self):
        """Choose the objects shown in the range of the four fields."""
        for field in self._range:
            if not np.isfinite(pd.to_numeric(field.value.strip() or "nan", errors="coerce")):
                raise ValueError(f"{field.description!r} is {field.value!r}; give a number")
        x0, x1, y0, y1 = (float(field.value) for field in self._range)
        if x0 > x1 or y0 > y1:
            raise ValueError(f"a range from {x0} to {x1}, {y0} to {y1} is empty; give from < to")
        self.choose_between(x0, x1, y0, y1)

    @view.reported
    def find(self, object_id):
        """Look at one object, and bring it into view."""
        whole = pd.api.types.is_integer_dtype(self.lcs.index.dtype)
        text = str(object_id).strip()
        self.selection.look_at(int(text) if whole and text.lstrip("-").isdigit() else text)
        self.centre()

    def centre(self):
        """Bring the object that is looked at into the middle of the map."""
        focus = self.selection.focus
        if focus is None or not self.placed[focus]:
            raise ValueError(f"{self._name(focus)} has no place on the map")
        x0, x1, y0, y1 = self.extent
        x, y = self._at(focus)
        self.look(x - (x1 - x0) / 2, x + (x1 - x0) / 2, y - (y1 - y0) / 2, y + (y1 - y0) / 2)

    def show_all(self):
        """Show the whole map."""
        self.look(*self._whole)

    def look(self, x0, x1, y0, y1):
        """Show one part of the map; ValueError if it has no extent."""
        if not (np.isfinite([x0, x1, y0, y1]).all() and x0 < x1 and y0 < y1):
            raise ValueError(f"from {x0} to {x1}, {y0} to {y1} is no part of the map")
        across, up = self._ranges
        across.update(start=x0, end=x1)
        up.update(start=y0, end=y1)
        self._draw_moved()

    def turn(self, pages):
        """Turn so many pages of light curves forwards."""
        self.page += pages

    def paged(self):
        """Return the positions of the objects whose light curves are shown."""
        rows = self.selection.rows[self.page * N_CELLS : (self.page + 1) * N_CELLS]
        focus = self.selection.focus
        return rows if len(rows) or focus is None else np.array([focus])

    # What the page says

    @view.reported
    def _drawn_around(self, event):
        if not event.final:  # a lasso tells of itself at every move
            return
        held, self._held = tuple(self._held.get(key, False) for key in ("shift", "ctrl")), {}
        about, how = event.geometry, MODIFIED.get(held)
        if about["type"] == "rect":
            self.choose_between(*(about[name] for name in ("x0", "x1", "y0", "y1")), how=how)
        else:
            self.choose_inside(*(np.asarray(about[name], float) for name in "xy"), how=how)

    def _begin(self, event):
        self._held = dict(event.modifiers or {})

    @view.reported
    def _tapped(self, event):
        row = self.nearest(event.x, event.y)
        if row is not None:
            self.selection.focus = row

    @view.reported
    def _tapped_thumb(self, k):
        self.selection.focus = int(self._page[k])

    def _pointed_at(self, attr, old, new):
        self.under = self.nearest(new["x"][0], new["y"][0])

    def nearest(self, x, y):
        """Return the position of the object nearest to a place on the map, None if none is near."""
        from scipy.spatial import cKDTree

        x0, x1, y0, y1 = self.extent
        unit = np.array([x1 - x0, y1 - y0])
        if self._tree is None:
            rows = np.flatnonzero(self._visible)
            scale = np.array([self._whole[1] - self._whole[0], self._whole[3] - self._whole[2]])
            at = self._frame[["x", "y"]].to_numpy()[rows] / scale
            self._tree = rows, scale, cKDTree(at, balanced_tree=False, compact_nodes=False)
        rows, scale, tree = self._tree
        reach = NEAR / SIDE * (unit / scale).max()
        _, found = tree.query(np.array([x, y]) / scale, distance_upper_bound=reach)
        return int(rows[found]) if found < len(rows) else None

    def _moved(self, attr, old, new):
        """Draw anew once the map has been still for a while; at once where no loop runs."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return self._draw_moved()
        if self._at_work is not None:
            self._at_work.cancel()
        self._at_work = loop.call_later(QUIET, self._alone(self._draw_moved))

    def _draw_moved(self):
        across, up = self._ranges
        extent = tuple(float(end) for end in (across.start, across.end, up.start, up.end))
        if extent != self.extent:
            self.extent = extent
            self._paint()

    def _ticked(self, change):
        name = next(name for name, box in self._filters.items() if box is change["owner"])
        if change["new"] != (name in self.shown):
            self.shown = tuple(n for n in self.classes if (n in self.shown) != (n == name))

    def _listed(self, change):
        if change["new"] is not None and not self._listing:
            self.selection.focus = int(change["new"])

    # What follows from the state

    @traitlets.validate("color")
    def _known(self, proposal):
        there = ["class", DENSITY, *self._columns]
        if proposal["value"] not in there:
            some = ", ".join(there[:20])
            raise traitlets.TraitError(f"no {proposal['value']!r} to colour by; there are {some}")
        return proposal["value"]

    @traitlets.validate("page")
    def _within(self, proposal):
        return int(np.clip(proposal["value"], 0, max(0, len(self.selection) - 1) // N_CELLS))

    @traitlets.validate("under")
    def _check_under(self, proposal):
        return checked_row("under", proposal["value"], self.lcs)

    @traitlets.validate("shown")
    def _there(self, proposal):
        odd = [name for name in proposal["value"] if name not in self.classes]
        if odd:
            raise traitlets.TraitError(f"no class {odd[0]!r}; there are {', '.join(self.classes)}")
        return proposal["value"]

    def _filter(self):
        for name, box in self._filters.items():
            box.value = name in self.shown
        shown = [name in self.shown for name in self.classes]
        self._visible = self.placed & np.array([*shown, False])[self._frame["class"].cat.codes]
        self._tree = None
        self._repaint()

    def _repaint(self):
        self._base = {}
        values = self._columns.get(self.color)
        self._bar.visible = values is not None
        if values is not None:
            known = values[self._visible & np.isfinite(values)]
            low, high = np.quantile(known, [0.01, 0.99]) if len(known) else (0, 1)
            self._mapper.update(low=float(low), high=float(high if high > low else low + 1))
            self._bar.title = self.color
            self._frame["value"] = values
        self._names()
        self._show_focus()
        self._paint()
        self._describe()

    def _follow(self):
        with self._map.together(), self._thumbs.together():
            self._paint()
            if self.page:
                self.page = 0
            else:
                self._show_page()
        self._describe()

    def _refocus(self):
        self._show_focus()
        self._mark() if len(self.selection) else self._show_page()
        self._describe()

    def _paint(self):
        x0, x1, y0, y1 = self.extent
        image = self.image(self.extent)
        self._sources["image"].data = {
            "image": [image], "x": [x0], "y": [y0], "dw": [x1 - x0], "dh": [y1 - y0],
        }  # fmt: skip

    def image(self, extent, *, side=SIDE):
        """Return a part of the map as RGBA in one uint32 per pixel, rows upwards."""
        from scipy.ndimage import binary_dilation

        key = (extent, side)
        if key not in self._base:
            self._base = {key: self._shade(self._visible, extent, side)}
        rows = self.selection.rows
        image = self._base[key].copy()
        rows = rows[self._visible[rows]]
        if not len(rows):
            return image
        parts = image.view(np.uint8).reshape(*image.shape, 4)
        parts[..., 3] //= 2
        chosen = self._shade(rows, extent, side)
        on = chosen > 0xFFFFFF
        image[binary_dilation(on, np.ones((3, 3)), iterations=2) & ~on] = 0xFF000000
        image[on] = chosen[on] | 0xFF000000
        return image

    def _shade(self, rows, extent, side):
        """Return some objects of the map in their colours, by datashader."""
        import datashader
        from datashader import transfer_functions

        canvas = datashader.Canvas(side, side, extent[:2], extent[2:])
        frame = self._frame[rows] if rows.dtype == bool else self._frame.iloc[rows]
        how = {"cmap": BLUES}
        counted = datashader.count()
        if self.color == "class" and len(self.shown) == 1:  # which datashader would leave blank
            how = {"cmap": [self._colors[self.shown[0]]]}
        elif self.color == "class":
            how = {"color_key": [self._colors[name] for name in self.classes], "min_alpha": 160}
            counted = datashader.count_cat("class")
        elif self.color in self._columns:
            how = {"cmap": Viridis256, "how": "linear", "min_alpha": 255}
            how["span"] = (self._mapper.low, self._mapper.high)
            counted = datashader.mean("value")
        found = transfer_functions.shade(canvas.points(frame, "x", "y", counted), **how)
        return spread(found.to_numpy())

    def _names(self):
        """Write each class where its members lie."""
        found = {"x": [], "y": [], "text": [], "color": []}
        if self.color == "class" and self._visible.any():
            seen = self._frame[self._visible]
            places = plots.class_places(seen[["x", "y"]], seen["class"])
            found["x"], found["y"] = zip(*places.values(), strict=True)
            found |= {"text": list(places), "color": [self._colors[name] for name in places]}
        self._sources["names"].data = found

    def _show_focus(self):
        focus = self.selection.focus
        self._sources["focus"].data = self._marker(focus)

    def _show_under(self):
        self._sources["under"].data = self._marker(self.under)
        text = "" if self.under is None else f"Under the pointer: {self._name(self.under)}"
        self._pointed.value = html.escape(text)

    def _marker(self, row):
        """Return where one object is and what it is called, as columns; none where it is not."""
        there = row is not None and self.placed[row]
        x, y = self._at(row) if there else (0.0, 0.0)
        columns = {"x": x, "y": y, "text": self._name(row), "color": "black"}
        return {name: [value] if there else [] for name, value in columns.items()}

    def _at(self, row):
        return tuple(float(self._frame[name].iat[row]) for name in ("x", "y"))

    def _name(self, row):
        """Return an object's id and class."""
        if row is None:
            return "no object"
        kind = self._frame["class"].iat[row]
        return f"{self.lcs.index[row]}" + ("" if kind == UNLABELLED else f" ({kind})")

    def _show_page(self):
        rows = self.paged()
        self._cells.show(lightcurves.take(self.lcs, rows), list(map(self._name, rows)))
        self._page = rows
        first, n = self.page * N_CELLS, len(self.selection)
        said = f"Chosen objects {first + 1:,} to {first + len(rows):,} of {n:,}"
        self._shelf.value = f"{said if n else 'The object in focus'}: light curve, dm-dt image"
        self._mark()

    def _mark(self):
        """Mark the object in focus among those whose light curves are shown."""
        rows, focus = self._page, self.selection.focus
        self._cells.mark([int(row) == focus for row in rows])
        self._listing = True
        options = tuple((self._name(row), int(row)) for row in rows)
        if options != self._list.options:
            self._list.options = options
        self._list.value = focus if focus in rows else None
        self._listing = False

    def _describe(self):
        n, chosen = len(self.lcs), self.selection.rows
        parts = [f"map of {n:,} objects coloured by {self.color}", f"{len(chosen):,} chosen"]
        hidden = int(np.count_nonzero(~self._visible[chosen]))
        parts[1] += f", {hidden:,} of them not drawn" if hidden else ""
        parts.append(f"in focus: {self._name(self.selection.focus)}")
        absent = n - int(np.count_nonzero(self.placed))
        parts += [f"{absent:,} without a place on the map"] if absent else []
        away = [name for name in self.classes if name not in self.shown]
        parts += [f"classes hidden: {', '.join(away)}"] if away else []
        self.description = "; ".join(parts)
        text = html.escape(self.description)
        self._status.value = f'<span role="status">{text[0].upper()}{text[1:]}</span>'

    def _tell_missing(self, embedding):
        n, absent = len(self.lcs), np.count_nonzero(~self.placed)
        if n == 0:
            self.message = "the table is empty; there is nothing to put on a map"
        elif embedding is None and n < 4:
            self.message = f"{n} of the 4 objects that a map needs at least: they lie side by side"
        elif absent:
            self.message = f"{absent:,} of {n:,} objects have no place on the map (NaN): not drawn"

    def _rows_between(self, x0, x1, y0, y1):
        x, y = self._frame["x"].to_numpy(), self._frame["y"].to_numpy()
        return np.flatnonzero((x >= x0) & (x <= x1) & (y >= y0) & (y <= y1) & self._visible)

    def revive(self):
        """Return the line of Python that makes this explorer anew."""
        return self._line(*["embedding"] * self._given)

    def draw(self, figure):
        """Draw the map, and the light curves and dm-dt images shown, on a matplotlib figure."""
        from matplotlib import cm, colors

        left, right = figure.subplots(1, 2, width_ratios=(1, 1.4))
        image = self.image(self.extent, side=400)
        where = {"extent": self.extent, "aspect": "auto", "origin": "lower"}
        left.imshow(image.view(np.uint8).reshape(*image.shape, 4), **where)
        left.set(xlabel=self._axes[0], ylabel=self._axes[1])
        left.set_title(f"{len(self.lcs):,} objects, {len(self.selection):,} chosen", fontsize=9)
        box = {"facecolor": "white", "alpha": 0.8, "pad": 1}
        for x, y, text, color in zip(*self._sources["names"].data.values(), strict=True):
            left.text(
                x, y, text, fontsize=7, ha="center", bbox=box | {"edgecolor": color}, clip_on=True
            )
        if self._bar.visible:
            norm = colors.Normalize(self._mapper.low, self._mapper.high)
            figure.colorbar(cm.ScalarMappable(norm, "viridis"), ax=left, label=self.color)
        for x, y, text, _ in zip(*self._sources["focus"].data.values(), strict=True):
            left.plot(x, y, "o", ms=10, mfc="none", mec="black")
            left.annotate(text, (x, y), (6, 6), textcoords="offset points", fontsize=7)
        left.set(xlim=self.extent[:2], ylim=self.extent[2:])
        self._cells.draw(right)


def spread(image):
    """Return an RGBA image whose lit pixels are dots, the larger the fewer there are.

    As datashader's dynspread does, which in a fresh kernel first compiles for some seconds.
    """
    n_lit = np.count_nonzero(image >> 24)
    radius = sum(n_lit < fewer for fewer in (image.size / 160, image.size / 40, image.size / 10))
    grown = np.pad(np.where(image >> 24, image, 0), radius)
    steps = np.arange(-radius, radius + 1)
    near = [(i, j) for i in steps for j in steps if 0 < i * i + j * j <= radius**2]
    source = grown.copy()
    for step in sorted(near, key=lambda step: step[0] ** 2 + step[1] ** 2):
        np.copyto(grown, np.roll(source, step, (0, 1)), where=grown == 0)
    return grown[radius : radius + len(image), radius : radius + image.shape[1]]


def _coordinates(lcs, embedding):
    """Return the place of every object, shape (n_objects, 2), NaN where it has none."""
    n = len(lcs)
    if embedding is None:
        return _computed(lcs)
    given = getattr(embedding, "embedding", embedding)
    xy = np.asarray(given)
    if xy.shape != (n, 2):
        raise ValueError(
            f"expected an embedding of shape ({n}, 2), a row for each object, got {xy.shape}"
        )
    check_rows("an embedding", given, lcs)
    return np.where(np.isfinite(xy), xy, np.nan).astype(float)


def _computed(lcs):
    """Return a t-SNE map of the features of a small table; fewer than four lie side by side."""
    from skynb import embed, features

    n = len(lcs)
    if n < 4:
        return np.column_stack([np.arange(n, dtype=float), np.zeros(n)])
    if n > N_COMPUTED:
        raise ValueError(
            f"no embedding, and {n:,} objects are too many to compute one of here (up to "
            f"{N_COMPUTED:,}); give one, e.g. embed.tsne(features.extract(lcs))"
        )
    X = features.extract(lightcurves.take(lcs, np.arange(n)), periods=False, progress=False)
    return np.asarray(embed.tsne(X, n_jobs=1).embedding, dtype=float)


def _classes(lcs, labels):
    """Return the class of every object as a Categorical, the rare ones together."""
    n = len(lcs)
    if labels is None:
        labels = lcs["label"] if "label" in lcs.columns else np.full(n, None)
    check_rows("labels", labels, lcs)
    labels = pd.Series(np.asarray(labels, dtype=object)).map(str, na_action="ignore")
    codes, names = pd.factorize(labels.mask(labels == UNLABELLED))
    common = np.argsort(-np.bincount(codes[codes >= 0], minlength=len(names)), kind="stable")
    common = np.array([k for k in common if names[k] != OTHERS], int)
    if len(names) > N_CLASSES:
        common = common[: N_CLASSES - 1]
    order = sorted(common, key=lambda k: names[k])
    place = np.full(len(names) + 1, len(order))
    place[order], place[-1] = np.arange(len(order)), len(order) + 1
    kinds = [*(names[k] for k in order), OTHERS, UNLABELLED]
    found = pd.Categorical.from_codes(place[codes], kinds)
    return found.remove_unused_categories()


def _numeric(lcs, features):
    """Return the columns of numbers that a map can be coloured by, as arrays."""
    if features is not None:
        check_rows("features", features, lcs)
    features, found = pd.DataFrame(features), {}
    names = [name for name in lcs.columns if name != "lightcurve"]
    for table, columns in ((lcs, names), (features, features.columns)):
        for name in columns:
            column = table[name]
            if pd.api.types.is_numeric_dtype(column) and column.notna().any():
                found[str(name)] = column.to_numpy(np.float32, na_value=np.nan)
    return found


def _extent(xy):
    """Return the ranges of a map that shows every object: x from, x to, y from, y to."""
    if not len(xy):
        return (0.0, 1.0, 0.0, 1.0)
    low, high = xy.min(axis=0), xy.max(axis=0)
    margin = np.where(high > low, 0.05 * (high - low), 0.5)
    (x0, y0), (x1, y1) = (low - margin).tolist(), (high + margin).tolist()
    return (x0, x1, y0, y1)


def _swatch(color):
    return f'<span aria-hidden="true" style="color: {color}">⬤</span>'
