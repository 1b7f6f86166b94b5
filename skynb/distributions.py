"""How weights, biases, gradients and activations are distributed while a network learns.

The figures are those of TensorBoard: values are counted in buckets of equal width between the
smallest and the largest (30, as ``tf.summary.histogram`` does), and taken as evenly spread within
each. A percentile is off by at most the width of a bucket.
"""

import time
from pathlib import Path

import numpy as np
import pandas as pd

LEVELS = ("max", "93.3", "84.1", "69.1", "50", "30.9", "15.9", "6.7", "min")
"""Names of the percentiles, in the order of `percentiles`."""

KINDS = ("weights", "biases", "gradients", "activations")
BIASES = ("bias", "beta")
"""Names of a layer's variables that are added; all others are weights, frozen or not."""

STATISTICS = ("moving_", "seed_generator_state")
"""How names of variables begin that are neither: what a layer has seen, or draws from."""

N_BUCKETS = 30
_CHUNK = 1 << 20  # values counted at a time


def buckets(values, *, n_buckets=N_BUCKETS):
    """Return the histogram of an array of any shape, as TensorBoard keeps it: left, right, count.

    Shape (n_buckets, 3). Values that are not finite are left out; without any other, all is 0. If
    all are equal, they lie in the last bucket.
    """
    if n_buckets < 1:
        raise ValueError(f"n_buckets is {n_buckets}; count in 1 bucket or more")
    flat, table = np.asarray(values).ravel(), np.zeros((n_buckets, 3))
    parts = [flat[k : k + _CHUNK] for k in range(0, len(flat), _CHUNK)]
    parts = [part if (kept := np.isfinite(part)).all() else part[kept] for part in parts]
    parts = [part for part in parts if len(part)]
    if not parts:
        return table
    low, high = (float(of(map(of_part, parts))) for of, of_part in ((min, np.min), (max, np.max)))
    edges = np.linspace(low, high, n_buckets + 1)
    table[:, 0], table[:, 1] = edges[:-1], edges[1:]
    if (width := (high - low) / n_buckets) == 0:
        table[-1, 2] = sum(map(len, parts))
        return table
    for part in parts:
        places = np.floor((part.astype(float) - low) / width).astype(int)
        table[:, 2] += np.bincount(places.clip(0, n_buckets - 1), minlength=n_buckets)
    return table


def percentiles(values, *, n_buckets=N_BUCKETS):
    """Return the nine percentiles `LEVELS` of an array of any shape, NaN if nothing is finite.

    Those that TensorBoard's distributions show; the more buckets, the closer to the exact ones.

    Examples
    --------
    >>> percentiles(np.arange(10001.0)).round(-2).tolist()
    [10000.0, 9300.0, 8400.0, 6900.0, 5000.0, 3100.0, 1600.0, 700.0, 0.0]
    """
    return _compress(buckets(values, n_buckets=n_buckets))


def _compress(table):
    """Return where the sum over buckets reaches each percentile, the largest first."""
    from tensorboard.plugins.distribution.compressor import compress_histogram

    if not table[:, 2].any():
        return np.full(len(LEVELS), np.nan)
    return np.array(compress_histogram(table))[::-1, 1]


class Distributions:
    """A Keras callback that keeps the percentiles of every layer before and after each epoch.

    Gradients, of a layer's weights and biases together, and activations are those of the objects
    watched, without dropout and with the normalizations as they are at prediction.

    Parameters
    ----------
    x, y : ndarray, shape (n_objects, ...)
        Inputs and targets, as the network takes them; of a network of several inputs a list.
    n_objects : int
        At most so many of them are watched, drawn at random.
    show : callable, optional
        ``show(table)`` returns a picture, such as `skynb.plots.distributions`, which replaces
        whatever the notebook's cell showed before; drawing takes no more than about a tenth of the
        time. The last epoch is always drawn.
    folder : str or Path, optional
        Where to write logs for TensorBoard; one folder for each training.
    n_buckets, seed : int

    Attributes
    ----------
    table : DataFrame
        One row for each ``epoch`` (0 is before the first), ``layer`` and ``kind`` (one of `KINDS`):
        ``n_values``, ``n_bad`` (not finite), and `LEVELS`. A new training starts a new table.

    Examples
    --------
    ``network.fit(x, y, callbacks=[Distributions(x, y, show=plots.distributions)])``
    """

    async_safe = True  # nothing is done after a batch, so Keras need not wait

    def __init__(self, x, y, *, n_objects=32, show=None, folder=None, n_buckets=N_BUCKETS, seed=0):
        x = [np.asarray(each) for each in (x if isinstance(x, list | tuple) else [x])]
        lengths = {len(each) for each in x}
        if lengths != {len(y)} or not len(y):
            numbers = ", ".join(map(str, sorted(lengths)))
            raise ValueError(f"expected one target per object, got {numbers} and {len(y)}")
        if n_objects < 1:
            raise ValueError(f"n_objects is {n_objects}; watch 1 or more")
        rows = np.sort(np.random.default_rng(seed).permutation(len(y))[:n_objects])
        self._x, self._y = [each[rows] for each in x], np.asarray(y)[rows]
        self._show, self._folder, self._n_buckets = show, folder, n_buckets
        self._writer, self._rows = None, []
        if self._y.dtype.kind in "OUS":
            raise ValueError(f"a target is {self._y[0]}; give the places of classes, from 0")

    def __getattr__(self, name):
        """Keras's other hooks do nothing; a subclass of its own would import it with this file."""
        if name.startswith("on_"):
            return lambda *_, **__: None
        raise AttributeError(f"a Distributions has no {name}")

    def set_params(self, params):
        """Keras says how long it will train; nothing is made of it."""

    def set_model(self, model):
        """Find the layers; a network whose layers have no outputs to look at raises ValueError."""
        import keras

        self._model = model
        skipped = ("Input", "Flatten", "Reshape", "Dropout", "Pooling")  # nothing of their own
        self._layers = [
            each for each in model.layers if not any(s in type(each).__name__ for s in skipped)
        ]
        try:
            outputs = [each.output for each in self._layers]
            self._inner = keras.Model(model.inputs, [*outputs, *model.outputs])
        except (AttributeError, TypeError, ValueError):
            raise ValueError(
                f"the layers of {model.name!r} have no outputs to look at; "
                "build a functional or Sequential network, the shape of its inputs given"
            ) from None
        shapes, given = ([x.shape[1:] for x in each] for each in (model.inputs, self._x))
        if shapes != given or len(model.outputs) != 1:
            there = f"inputs {shapes} and {len(model.outputs)} outputs"
            raise ValueError(f"a network of {there} is given {given}; give each, for one output")

    def on_train_begin(self, logs=None):
        """Keep what the network is before it learns."""
        self._rows, self._pause = [], 0.0
        if self._folder is not None:
            self._writer = _Writer(self._folder)
        self._keep(0)

    def on_epoch_end(self, epoch, logs=None):
        """Keep what the network is now."""
        self._keep(epoch + 1)

    def on_train_end(self, logs=None):
        """Draw the last epoch, and close the logs."""
        self._draw()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    @property
    def table(self):
        """Return what was kept so far."""
        names = ["epoch", "layer", "kind", "n_values", "n_bad", *LEVELS]
        return pd.DataFrame(self._rows, columns=names)

    def _keep(self, epoch):
        for layer, kind, values in self._measure():
            counted = buckets(values, n_buckets=self._n_buckets)
            n_bad = values.size - int(counted[:, 2].sum())
            self._rows.append((epoch, layer, kind, values.size, n_bad, *_compress(counted)))
            if self._writer is not None:
                self._writer.add(f"{layer}/{kind}", epoch, counted)
        if self._writer is not None:
            self._writer.flush()
        if self._show is not None and time.monotonic() >= self._pause:
            self._draw()

    def _measure(self):
        """Yield layer, kind and values."""
        import tensorflow as tf

        variables = self._model.trainable_variables
        with tf.GradientTape() as tape:
            *outputs, said = self._inner(self._x, training=False)
            loss = self._model.compute_loss(x=self._x, y=self._y, y_pred=said, training=False)
        slopes = tape.gradient(loss, variables)
        gradients = {v.path: each for v, each in zip(variables, slopes, strict=True)}
        for layer, output in zip(self._layers, outputs, strict=True):
            own = [v for v in layer.weights if not v.name.startswith(STATISTICS)]
            slopes = [gradients.get(v.path) for v in own]  # frozen ones have none
            found = {
                "weights": [v for v in own if v.name not in BIASES],
                "biases": [v for v in own if v.name in BIASES],
                "gradients": [each for each in slopes if each is not None],
                "activations": [output],
            }
            for kind, arrays in found.items():
                if arrays:
                    yield layer.name, kind, np.concatenate([np.ravel(each) for each in arrays])

    def _draw(self):
        from IPython import get_ipython
        from IPython.display import clear_output, display

        if self._show is None or get_ipython() is None:
            return
        start, picture = time.monotonic(), self._show(self.table)
        clear_output(wait=True)  # JupyterLab cannot update a HoloViews picture by its id
        display(picture)
        self._pause = time.monotonic() + 9 * (time.monotonic() - start)


class _Writer:
    """Writes histograms into a folder as TensorBoard reads them."""

    def __init__(self, folder):
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        Path(folder).mkdir(parents=True, exist_ok=True)
        self.events = EventFileWriter(str(folder))
        self.flush, self.close = self.events.flush, self.events.close

    def add(self, tag, step, counted):
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.plugins.histogram.metadata import create_summary_metadata
        from tensorboard.util.tensor_util import make_tensor_proto

        event = Event(wall_time=time.time(), step=step)
        about = create_summary_metadata(display_name=None, description=None)
        tensor = make_tensor_proto(counted, dtype=np.float64)
        event.summary.value.add(tag=tag, metadata=about, tensor=tensor)
        self.events.add_event(event)
