"""What every explorer shares: keys, messages, its pictures in the page, and a still without it."""

import base64
import contextlib
import functools
import html
import io
import json
import threading
from pathlib import Path

import anywidget
import ipywidgets
import traitlets
from bokeh.protocol import Protocol
from jupyter_bokeh.widgets import BokehModel

LOCK = threading.RLock()
"""Held while an explorer changes: a kernel runs cells in one thread and widgets in another."""


class View(anywidget.AnyWidget):
    """A group of controls and pictures that takes keys, says what is wrong, and leaves a still.

    A subclass fills ``child`` with ipywidgets and `Picture`, sets ``description`` to what a screen
    reader should say of its state, lists its keys in ``keys_``, and draws itself in `draw`.

    Attributes
    ----------
    message : str
        What went wrong last, shown in the widget and read out; "" where nothing did.
    """

    _esm = Path(__file__).with_name("view.js")
    _css = """
    .skynb-view:focus-visible { outline: 2px solid #0072b2; outline-offset: 2px; }
    .skynb-view .skynb-message { color: #7a1b15; }
    """
    name = traitlets.Unicode().tag(sync=True)
    description = traitlets.Unicode().tag(sync=True)
    hotkeys = traitlets.List(traitlets.Unicode()).tag(sync=True)
    child = traitlets.Instance(ipywidgets.Widget).tag(sync=True, **ipywidgets.widget_serialization)
    message = traitlets.Unicode()
    _still_size, _shared, _followed = (9.6, 3.2), False, ()

    def __init__(self, *children, **traits):
        self._said = ipywidgets.HTML()
        self.keys_ = {}
        child = ipywidgets.VBox([*children, self._said])
        super().__init__(name=type(self).__name__, child=child, **traits)
        self.on_msg(self._receive)

    def bind(self, **keys):
        """Take keys: the name of each, as a browser gives it, and the method that it calls."""
        self.keys_ |= keys
        self.hotkeys = list(self.keys_)

    def button(self, text, about, action, *, width="auto", min_width="44px"):
        """Return a button that does something, and shows what that raises."""
        layout = {"width": width, "min_width": min_width}
        button = ipywidgets.Button(description=text, tooltip=about, layout=layout)
        button.on_click(lambda _: reported(lambda self: action())(self))
        return button

    def follow(self, bus, **handlers):
        """Call handlers when what they are named after changes in a `Selection`, until `close`."""
        for name, handler in handlers.items():
            bus.observe(handler, name)
            self._followed += ((bus, handler, name),)

    def close(self):
        """Leave the bus, and the page."""
        for bus, handler, name in self._followed:
            bus.unobserve(handler, name)
        self._followed = ()
        for each in _inside(self._trait_values.get("child")):
            each.close()
        super().close()

    def draw(self, figure):
        """Draw the present state on a matplotlib figure; every explorer has its own way."""
        raise NotImplementedError

    def revive(self):
        """Return the line of Python that makes this explorer anew."""
        return self._line()

    def _line(self, *given):
        given = ["lcs", *given, *["selection=selection"] * self._shared]
        return f"widgets.{type(self).__name__}({', '.join(given)})"

    def still(self):
        """Return a picture of the present state, as bytes of a PNG file."""
        from matplotlib import rc_context
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure, picture = Figure(figsize=self._still_size, layout="constrained"), io.BytesIO()
        FigureCanvasAgg(figure)
        with rc_context({"text.parse_math": False}):  # a $ in a name is no formula
            self.draw(figure)
            figure.savefig(picture, format="png", dpi=100)
        return picture.getvalue()

    def _receive(self, _, content, buffers):
        if content.get("ask") == "bokeh":
            from bokeh.resources import Resources

            self.send({"bokeh": "\n".join(Resources(mode="inline", components=["bokeh"]).js_raw)})
        if content.get("ask") == "pictures":
            for each in _pictures(self.child):
                each.render_bundle = each._model_to_traits(each._model)
            self.send({"pictures": "fresh"})
        if content.get("key") in self.keys_:
            reported(type(self)._press)(self, content["key"])

    def _press(self, key):
        self.keys_[key]()

    @traitlets.observe("message")
    def _say(self, _):
        text = html.escape(self.message)
        said = f'<span class="skynb-message" role="alert">{text}</span>'
        self._said.value = said if text else ""

    def _repr_mimebundle_(self, **options):
        bundle = super()._repr_mimebundle_(**options)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        still = base64.b64encode(self.still()).decode()
        line = html.escape(self.revive())
        text = f"{self.name}: {self.description.rstrip('.')}"
        about = html.escape(text)
        data["text/plain"] = f"{text}; its cell, or a line like {self.revive()}, revives it"
        data["text/html"] = (
            f'<figure style="margin: 0"><img alt="{about}" style="max-width: 100%"'
            f' src="data:image/png;base64,{still}"><figcaption>A still of the {about}.'
            f" To revive it run its cell again, or a line like <code>{line}</code>.</figcaption>"
            "</figure>"
        )
        return data, metadata


class Picture(BokehModel):
    """A bokeh figure or layout as an ipywidget; `together` sends many changes as one."""

    _held = None

    def close(self):
        """Leave the page; also a second time, as when it is forgotten."""
        if self.comm is not None:
            super().close()

    @contextlib.contextmanager
    def together(self):
        """Pass what changes meanwhile on at the end, so that the page is drawn once."""
        with LOCK:
            if self._held is not None:
                yield
                return
            self._held = []
            try:
                yield
            finally:
                events, self._held = self._held, None
                if events:
                    self._pass_on(events)

    def _document_patched(self, event):
        if event.setter is not self:
            self._pass_on([event]) if self._held is None else self._held.append(event)

    def _pass_on(self, events):
        message = Protocol().create("PATCH-DOC", events)
        texts = [message.header_json, message.metadata_json, message.content_json]
        for text in texts:
            self.send({"msg": "patch", "payload": text})
        for buffer in message.buffers:
            self.send({"msg": "patch", "payload": json.dumps(buffer.ref)})
            self.send({"msg": "patch"}, [buffer.to_bytes()])


def _inside(widget):
    """Yield a widget and all within it, views and what is theirs too."""
    if widget is not None:
        yield from (each for child in getattr(widget, "children", ()) for each in _inside(child))
        yield widget


def _pictures(widget):
    """Yield the pictures of a view, but for those of other views within it."""
    if isinstance(widget, Picture):
        yield widget
    for child in getattr(widget, "children", ()):
        yield from _pictures(child)


def reported(method):
    """Return a method of a `View` that shows what it raises as the view's message."""

    @functools.wraps(method)
    def guarded(self, *args, **options):
        try:
            with LOCK:
                result = method(self, *args, **options)
        except (ValueError, KeyError, OSError, RuntimeError) as error:
            self.message = str(error.args[0] if error.args else error)
            return None
        self.message = ""
        return result

    return guarded
