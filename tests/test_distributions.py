"""Percentiles are TensorBoard's; the callback keeps, shows and writes them."""

import base64
import gzip
import re

import holoviews as hv
import nbformat
import numpy as np
import pytest

from skynb import distributions, networks, plots, workflows

keras = pytest.importorskip("keras")
compressor = pytest.importorskip("tensorboard.plugins.distribution.compressor")


def theirs(values, n_buckets=30):
    """Return TensorBoard's own figures, the largest first."""
    from tensorboard.plugins.histogram.summary_v2 import histogram_pb
    from tensorboard.util import tensor_util

    proto = histogram_pb("tag", values, buckets=n_buckets)
    rows = tensor_util.make_ndarray(proto.value[0].tensor)
    return np.array([value for _, value in compressor.compress_histogram(rows)])[::-1]


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 5)).astype(np.float32)
    return x, (x[:, 0] > 0).astype(int)


def network(**options):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(4, activation="relu", name="hidden"), keras.layers.Dropout(0.5)]
    layers = [keras.Input((5,)), *layers, keras.layers.Dense(2, activation="softmax", name="head")]
    model = keras.Sequential(layers)
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False, **options)
    return model


def test_pencil():
    assert distributions.buckets([0, 1, 2], n_buckets=2).tolist() == [[0, 1, 1], [1, 2, 2]]
    median = distributions.percentiles([0, 1, 2], n_buckets=2)[4]
    assert median == pytest.approx(1 + (1 / 2 - 1 / 3) / (2 / 3))


@pytest.mark.parametrize("n_buckets", [1, 30, 200])
def test_equal_to_tensorboard(n_buckets):
    rng = np.random.default_rng(1)
    arrays = {
        "normal": rng.normal(size=(7, 300)),
        "small floats": rng.normal(size=999).astype(np.float32) * 1e-8,
        "relu": np.maximum(rng.normal(size=2000), 0),
        "heavy tails": rng.standard_cauchy(1500),
        "one value": np.full(12, -3.25),
        "one number": np.array(2.5),
        "integers": rng.integers(0, 3, 40),
        "gap": np.r_[np.zeros(999), 1e6],
    }
    for name, values in arrays.items():
        expected = theirs(values, n_buckets)
        scale = np.abs(expected).max()
        ours = distributions.percentiles(values, n_buckets=n_buckets)
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-9 * scale, err_msg=name)


def test_the_compressor_knows_these_levels():
    points = compressor.NORMAL_HISTOGRAM_BPS
    named = [float(name) for name in distributions.LEVELS[1:-1]]
    assert named == pytest.approx([b / 100 for b in points[-2:0:-1]], abs=0.06)


def test_many_buckets_come_near_the_exact_percentiles():
    values = np.random.default_rng(2).normal(size=10_000)
    exact = np.quantile(values, np.array(compressor.NORMAL_HISTOGRAM_BPS[::-1]) / 10_000)
    ours = distributions.percentiles(values, n_buckets=5000)
    np.testing.assert_allclose(ours, exact, atol=np.ptp(values) / 5000)


def test_parts_of_a_large_array_are_added(monkeypatch):
    values = np.random.default_rng(3).normal(size=1000)
    whole = distributions.buckets(values)
    monkeypatch.setattr(distributions, "_CHUNK", 64)
    assert (distributions.buckets(values) == whole).all()


def test_what_is_not_finite_is_left_out():
    values = [0, 1, np.nan, 2, np.inf, -np.inf]
    assert (distributions.buckets(values) == distributions.buckets([0, 1, 2])).all()
    for nothing in ([], [np.nan]):
        assert np.isnan(distributions.percentiles(nothing)).all()
    with pytest.raises(ValueError, match="n_buckets is 0; count in 1"):
        distributions.buckets([1], n_buckets=0)


def test_the_callback_keeps_every_layer_and_epoch(problem):
    x, y = problem
    seen, model = distributions.Distributions(x, y, n_objects=50), network()
    before = model.get_weights()
    model.fit(x, y, epochs=2, verbose=0, callbacks=[seen])
    table = seen.table
    assert table["epoch"].unique().tolist() == [0, 1, 2]
    assert table["layer"].unique().tolist() == ["hidden", "head"]
    assert table["kind"].unique().tolist() == list(distributions.KINDS)
    assert len(table) == 3 * 2 * 4
    assert (table["n_bad"] == 0).all()
    table = table.set_index(["epoch", "layer", "kind"])
    assert table["n_values"].loc[1].tolist() == [20, 4, 24, 50 * 4, 8, 2, 10, 50 * 2]
    levels = list(distributions.LEVELS)
    first, last = table.loc[(0, "hidden", "weights")], table.loc[(2, "head", "biases")]
    np.testing.assert_allclose(first[levels].to_numpy(float), theirs(before[0]), rtol=1e-9)
    np.testing.assert_allclose(last[levels].to_numpy(float), theirs(model.get_weights()[3]))


def test_gradients_and_activations_are_those_of_the_network(problem):
    import tensorflow as tf

    x, y = problem
    seen, model = distributions.Distributions(x, y, n_objects=80), network()
    seen.set_model(model)
    seen.on_train_begin()
    table = seen.table.set_index(["layer", "kind"])[list(distributions.LEVELS)]
    kernel, bias, head, shift = (tf.Variable(w) for w in model.get_weights())
    with tf.GradientTape() as tape:
        hidden = tf.nn.relu(x @ kernel + bias)
        said = tf.nn.log_softmax(hidden @ head + shift)
        loss = -tf.reduce_mean(tf.gather(said, y, batch_dims=1))
    slopes = np.concatenate([np.ravel(each) for each in tape.gradient(loss, [kernel, bias])])
    for kind, values in {"gradients": slopes, "activations": hidden.numpy()}.items():
        ours = table.loc[("hidden", kind)].to_numpy(float)
        np.testing.assert_allclose(ours, theirs(values), atol=1e-6)


def test_a_frozen_layer_shows_its_weights_and_no_gradients(problem):
    x, y = problem
    model = network()
    model.get_layer("hidden").trainable = False
    seen = distributions.Distributions(x, y)
    seen.set_model(model)
    seen.on_train_begin()
    kinds = seen.table.groupby("layer")["kind"].agg(set)
    assert kinds["hidden"] == {"weights", "biases", "activations"}
    assert kinds["head"] == set(distributions.KINDS)
    layers = [keras.Input((14, 14, 1)), keras.layers.BatchNormalization(), keras.layers.Flatten()]
    model = keras.Sequential([*layers, keras.layers.Dense(2, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    seen = distributions.Distributions(np.zeros((4, 14, 14, 1)), np.zeros(4))
    seen.set_model(model)
    seen.on_train_begin()
    first = seen.table.set_index("kind").iloc[:2]
    assert first["n_values"].to_dict() == {"weights": 1, "biases": 1}  # no moving mean


def test_a_network_of_two_inputs(problem):
    x, y = problem
    one, two = keras.Input((5,)), keras.Input((3,))
    both = keras.layers.Concatenate()([one, two])
    model = keras.Model([one, two], keras.layers.Dense(2, activation="softmax", name="head")(both))
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    fed = [x, x[:, :3]]
    seen = distributions.Distributions(fed, y)
    model.fit(fed, y, epochs=1, verbose=0, callbacks=[seen])
    table = seen.table.set_index(["layer", "kind", "epoch"])
    assert table.loc[("head", "weights", 1), "n_values"] == 16
    with pytest.raises(ValueError, match=r"and 1 outputs is given .*; give each"):
        distributions.Distributions(x, y).set_model(model)
    with pytest.raises(ValueError, match="one target per object, got 3, 80 and 80"):
        distributions.Distributions([x, x[:3]], y)


def test_a_network_that_diverged_is_seen(problem):
    x, y = problem
    model, seen = network(), distributions.Distributions(x, y)
    weights = model.get_weights()
    weights[0][0, 0] = np.nan
    model.set_weights(weights)
    seen.set_model(model)
    seen.on_train_begin()
    table = seen.table.set_index(["layer", "kind"])
    assert table.loc[("hidden", "weights"), "n_bad"] == 1
    assert np.isfinite(table.loc[("hidden", "weights"), "max"])
    model.set_weights([each * np.nan for each in weights])
    seen.on_train_begin()
    assert seen.table[list(distributions.LEVELS)].isna().all(axis=None)
    hv.render(plots.distributions(seen.table))


def test_training_is_not_changed(problem):
    x, y = problem
    ends = []
    for callbacks in ([], [distributions.Distributions(x, y)]):
        model = network()
        model.fit(x, y, epochs=2, verbose=0, shuffle=False, callbacks=callbacks)
        ends.append(model.get_weights())
    for a, b in zip(*ends, strict=True):
        np.testing.assert_array_equal(a, b)


def test_tensorboard_opens_the_logs(problem, tmp_path):
    """Its reader, and the plugin that draws distributions, find what the table holds."""
    from tensorboard.backend.event_processing import data_provider, event_accumulator
    from tensorboard.backend.event_processing import plugin_event_multiplexer as multiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.distribution.distributions_plugin import DistributionsPlugin
    from tensorboard.util import tensor_util

    x, y = problem
    seen, folder = distributions.Distributions(x, y, folder=tmp_path / "run"), tmp_path / "run"
    network().fit(x, y, epochs=3, verbose=0, callbacks=[seen])
    read = event_accumulator.EventAccumulator(str(folder), {"tensors": 0}).Reload()
    tags = {f"{layer}/{kind}" for layer in ("hidden", "head") for kind in distributions.KINDS}
    assert set(read.Tags()["tensors"]) == tags
    assert {read.SummaryMetadata(tag).plugin_data.plugin_name for tag in tags} == {"histograms"}
    events = read.Tensors("hidden/weights")
    assert [event.step for event in events] == [0, 1, 2, 3]
    table = seen.table.set_index(["layer", "kind"]).loc[("hidden", "weights")]
    levels = table[list(distributions.LEVELS)].to_numpy()
    for event, row in zip(events, levels, strict=True):
        drawn = compressor.compress_histogram(tensor_util.make_ndarray(event.tensor_proto))
        np.testing.assert_allclose([value for _, value in drawn][::-1], row, rtol=1e-9)
    runs = multiplexer.EventMultiplexer(tensor_size_guidance={"histograms": 0})
    runs.AddRunsFromDirectory(str(tmp_path)).Reload()
    context = TBContext(data_provider=data_provider.MultiplexerDataProvider(runs, str(tmp_path)))
    plugin = DistributionsPlugin(context)
    body, _ = plugin.distributions_impl(RequestContext(), "hidden/weights", "run", "")
    drawn = [[value for _, value in points][::-1] for _, _, points in body]
    np.testing.assert_allclose(drawn, levels, rtol=1e-9)


def test_bad_input_is_said_in_a_sentence(problem):
    x, y = problem
    with pytest.raises(ValueError, match="one target per object, got 80 and 3"):
        distributions.Distributions(x, y[:3])
    with pytest.raises(ValueError, match="n_objects is 0; watch 1 or more"):
        distributions.Distributions(x, y, n_objects=0)
    with pytest.raises(ValueError, match="a target is EW; give the places of classes"):
        distributions.Distributions(x, np.full(len(y), "EW"))
    assert distributions.Distributions(x, y).table.empty

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.head = keras.layers.Dense(2, activation="softmax")

        def call(self, x):
            return self.head(x)

    with pytest.raises(ValueError, match="have no outputs to look at; build a functional"):
        distributions.Distributions(x, y).set_model(Own())
    with pytest.raises(AttributeError, match="has no shine"):
        distributions.Distributions(x, y).shine  # noqa: B018


def test_dmdt_networks_take_it():
    rng = np.random.default_rng(0)
    images, y = rng.poisson(1, (40, 14, 14)), np.repeat(["EA", "EW"], 20)
    seen = distributions.Distributions(networks.inputs(images), (y == "EW").astype(int))
    learner = networks.DmDtCNN("shallow", n_networks=2, epochs=3, validation=0)
    learner.fit(images, y, callbacks=[seen])
    assert seen.table["epoch"].unique().tolist() == [0, 1, 2, 3]
    assert {"weights", "biases"} < set(seen.table["kind"])
    again = networks.DmDtCNN("shallow", n_networks=2, epochs=3, validation=0).fit(images, y)
    assert (again.predict_proba(images) == learner.predict_proba(images)).all()


CELLS = [
    "import numpy as np\nfrom skynb import distributions, networks, plots",
    "plots.extension()",
    "rng = np.random.default_rng(0)\nx = networks.inputs(rng.poisson(1, (64, 14, 14)))",
    "y = rng.integers(0, 2, 64)\nmodel = networks.build('shallow', (14, 14, 1), 2)",
    "model.compile('adam', 'sparse_categorical_crossentropy', jit_compile=False)",
    "seen = distributions.Distributions(x, y, show=plots.distributions)\n"
    "model.fit(x, y, epochs=4, verbose=0, callbacks=[seen]);",
]


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    folder = tmp_path_factory.mktemp("live")
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    nbformat.write(notebook, folder / "live.ipynb")
    return workflows.run(folder / "live.ipynb", out=folder / "run", progress=False)


@pytest.mark.slow
def test_a_run_keeps_the_last_picture_alone(live):
    """The picture is replaced in place, without a click: one output, of the last epoch."""
    assert live.status == "done", live.failure
    nb = nbformat.read(next(live.report.parent.glob("*.ipynb")), as_version=4)
    outputs = [each for each in nb.cells[-1].outputs if "text/html" in each.get("data", {})]
    assert len(outputs) == 1
    packed = re.findall(r'"epoch",\{[^}]*?"data":"([^"]+)"', outputs[0].data["text/html"])
    assert len(packed) == 3 * 4
    for each in packed:  # of the medians
        epochs = np.frombuffer(gzip.decompress(base64.b64decode(each)), np.int32)
        assert epochs.tolist() == [0, 1, 2, 3, 4]


def test_the_picture_of_a_table(problem):
    import holoviews as hv

    x, y = problem
    seen, model = distributions.Distributions(x, y), network()
    model.fit(x, y, epochs=1, verbose=0, callbacks=[seen])
    picture = plots.distributions(seen.table)
    assert isinstance(picture, hv.Layout)
    assert len(picture) == 8
    assert len(plots.distributions(seen.table, layers=["head"])) == 4
    with pytest.raises(ValueError, match="no layer is called 'tail'; choose from hidden, head"):
        plots.distributions(seen.table, layers=["tail"])
    with pytest.raises(ValueError, match="no layer has weights; choose"):
        plots.distributions(seen.table.iloc[:0])
