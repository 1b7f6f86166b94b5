"""Tests of explanations: pencil, tf-keras-vis itself, finite differences, planted points."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from skynb import classify, dmdt, explain, lightcurves, networks, realbogus, simulate

keras = networks.load_keras()
layers = keras.layers
GRID = dmdt.Grid(dm=np.linspace(-2, 2, 15), dt=np.geomspace(0.01, 3000, 17))
CAMS = {
    "gradcam": "gradcam.Gradcam",
    "gradcam++": "gradcam_plus_plus.GradcamPlusPlus",
    "layercam": "layercam.Layercam",
    "scorecam": "scorecam.Scorecam",
}


def network(relu="relu", pool=layers.MaxPooling2D, end="softmax", bias=True):
    first = keras.Input((14, 16, 1))
    x = layers.Conv2D(4, 3, activation=relu, use_bias=bias, name="one")(first)
    x = layers.Conv2D(5, 3, activation=relu, use_bias=bias, name="two")(pool(2)(x))
    head = layers.Dense(3, activation=end, use_bias=bias, name="head")(layers.Flatten()(x))
    return trained(keras.Model(first, head))


def trained(model, seed=0):
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(0, 0.4, each.shape) for each in model.get_weights()])
    return model


def seen(n=5, seed=1):
    x = np.random.default_rng(seed).uniform(size=(n, 14, 16, 1)).astype(np.float32)
    return x * (x > 0.3)


def learner(n_networks=1, depth="deep", classes=("EA", "EW", "RRab")):
    made = networks.DmDtCNN(depth, n_networks=n_networks)
    made.classes_ = np.array(classes)
    made.networks_ = [
        trained(networks.build(depth, (*GRID.shape, 1), len(classes)), seed)
        for seed in range(n_networks)
    ]
    for net in made.networks_:
        for layer in net.layers:
            if hasattr(layer, "moving_variance"):
                layer.moving_variance.assign(np.abs(np.asarray(layer.moving_variance)) + 0.5)
    return made


@pytest.fixture(scope="module")
def images():
    lcs = simulate.lightcurves(n_per_class=2, classes=["EA", "EW"], seed=3)
    return dmdt.images(lcs, grid=GRID)


# pencil


def test_gradient_times_input_of_a_linear_network_is_weight_times_input():
    first = keras.Input((2, 2, 1))
    net = keras.Model(first, layers.Dense(2, use_bias=False)(layers.Flatten()(first)))
    net.set_weights([np.array([[1, 0], [2, 0], [0, 3], [-4, 0]])])
    x = np.arange(1.0, 5).reshape(1, 2, 2, 1)
    expected = [[[1, 4], [0, -16]]]
    for method in ("gradient_input", "integrated", "blanking", "lighting"):
        np.testing.assert_allclose(explain.attribute(net, x, 0, method=method), expected, atol=1e-5)
    found = explain.attribute(net, x, 0, method="gradient_input", against=1)
    np.testing.assert_allclose(found, [[[1, 4], [-9, -16]]], atol=1e-5)
    np.testing.assert_allclose(explain.attribute(net, x, 0, method="saliency"), [[[1, 2], [0, 4]]])


def test_a_baseline_is_what_an_image_is_compared_with():
    first = keras.Input((2, 2, 1))
    net = keras.Model(first, layers.Dense(1, use_bias=False)(layers.Flatten()(first)))
    net.set_weights([np.array([[1.0], [2], [3], [4]])])
    x, baseline = np.full((1, 2, 2, 1), 5.0), np.array([[5, 4], [6, 5]])[..., None]
    for method in ("integrated", "blanking"):
        found = explain.attribute(net, x, 0, method=method, baseline=baseline)
        np.testing.assert_allclose(found, [[[0, 2], [-3, 0]]], atol=1e-5)


def test_shares_of_three_observations_by_hand():
    grid = dmdt.Grid(dm=(-1, 0, 1), dt=(0, 2, 10))
    halves = explain.share([0, 1, 5], [15.0, 15.5, 14.8], [[9, 8], [6, 7]], grid=grid, n_rounds=0)
    # pair 0-1 alone fills the cell of 6; 0-2 and 1-2 share that of 8; two cells hold no pair
    np.testing.assert_allclose(halves.values, [3 + 2, 3 + 2, 2 + 2])
    assert halves.rest == 9 + 7


def test_one_outlier_takes_over_what_its_pairs_have_in_common():
    mjd, mag = np.arange(10.0), np.full(10, 15.0)
    mag[0] = 14.0
    grid = dmdt.Grid(dm=(-2, 0.5, 2), dt=(0, 100))
    map_ = np.array([[0.0], [9.0]])  # nine pairs with the first observation
    assert explain.share(mjd, mag, map_, grid=grid, n_rounds=0).values[0] == pytest.approx(4.5)
    once = explain.share(mjd, mag, map_, grid=grid, n_rounds=1).values
    np.testing.assert_allclose(once, [9 * 0.9, *[0.1] * 9])


def test_the_image_that_excites_a_linear_class_most_is_lit_where_weights_are_positive():
    first = keras.Input((2, 2, 1))
    net = keras.Model(first, layers.Dense(1, use_bias=False)(layers.Flatten()(first)))
    net.set_weights([np.array([[5.0], [-5], [5], [-5]])])
    found = explain.maximize(net, 0, variation=0, norm=0, rate=0.1, n_steps=60)
    np.testing.assert_allclose(found, [[1, 0], [1, 0]], atol=1e-6)


def small(seed=0, relu=None):
    net = keras.Sequential(
        [
            keras.Input((12, 14, 1)),
            layers.Conv2D(4, 3, activation=relu),
            layers.MaxPooling2D(2),
            layers.Conv2D(6, 3, activation=relu),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    return trained(net, seed)


@pytest.mark.parametrize("seed", range(3))
def test_images_that_excite_are_finite_and_not_blank(seed):
    net = small(seed, relu=[None, "relu", "relu"][seed])
    asked = [(None, unit) for unit in range(3)]
    asked += [(0, unit) for unit in range(4)] + [(2, unit) for unit in range(6)]
    for layer, unit in asked:
        found = explain.maximize(net, unit, layer=layer, seed=seed, n_steps=60)
        assert np.isfinite(found).all()
        assert found.max() > 0.5
        assert found.std() > 0.05


def test_an_image_excites_its_own_class_and_filter_more_than_the_start():
    net = small()
    inner = explain.adapt(net, layer=2)
    for unit in range(3):
        found = explain.maximize(net, unit)[None, ..., None]
        said = explain._outputs(explain.adapt(net), [found])[0][0]
        assert said.argmax() == unit
    for unit in (1, 4):
        found = explain.maximize(net, unit, layer=2)[None, ..., None]
        noise = np.random.default_rng(0).permutation(found.ravel()).reshape(found.shape)
        answers = [explain._outputs(inner, [x])[0][0, ..., unit].clip(0) for x in (found, noise)]
        assert answers[0].mean() > 1.2 * answers[1].mean()


def test_filters_are_the_kernels():
    net = network()
    kernel = net.get_layer("one").get_weights()[0]
    np.testing.assert_array_equal(explain.filters(net)[2], kernel[:, :, 0, 2])
    assert explain.filters(net, "two").shape == (5, 3, 3, 4)


# invariants


def test_integrated_gradients_sum_to_the_change_of_the_logit():
    net, x = network(), seen()
    logits = explain._outputs(explain.adapt(net), [x])[0]
    empty = explain._outputs(explain.adapt(net), [0 * x])[0]
    found = explain.attribute(net, x, 1, n_steps=400).sum(axis=(1, 2))
    np.testing.assert_allclose(found, (logits - empty)[:, 1], rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("method", explain.METHODS)
def test_one_shape_for_every_method_and_objects_alone_or_together(method, images):
    model = learner()
    maps = explain.attribute(model, images, method=method)
    assert maps.shape == images.shape
    assert np.isfinite(maps).all()
    if method not in ("random", "smoothgrad"):
        alone = explain.attribute(model, images[2:3], method=method)
        np.testing.assert_allclose(alone[0], maps[2], atol=1e-4 * np.abs(maps[2]).max() + 1e-7)
    assert explain.attribute(model, images[:0], method=method).shape == (0, *GRID.shape)


def test_the_map_of_an_ensemble_is_the_mean_of_its_networks(images):
    model = learner(2)
    alone = []
    for net in model.networks_:
        one = learner()
        one.networks_ = [net]
        alone.append(explain.attribute(one, images, "EW"))
    np.testing.assert_allclose(explain.attribute(model, images, "EW"), np.mean(alone, axis=0))


def test_names_and_places_and_the_likeliest_are_the_same_targets(images):
    model = learner()
    said = model.predict(images)
    likeliest = explain.attribute(model, images)
    np.testing.assert_array_equal(explain.attribute(model, images, said), likeliest)
    codes = np.searchsorted(model.classes_, said)
    np.testing.assert_array_equal(explain.attribute(model, images, codes), likeliest)


def test_a_function_of_ones_own_is_a_method(images):
    def mine(model, images, target, seed):
        return images * 2

    np.testing.assert_array_equal(explain.attribute(None, images, method=mine), images * 2.0)


def test_the_model_and_global_generators_are_left_alone(images):
    model = learner()
    before = [array.copy() for array in model.networks_[0].get_weights()]
    np.random.seed(5)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first, again = (explain.attribute(model, images, method="smoothgrad", seed=3) for _ in "ab")
    other = explain.attribute(model, images, method="smoothgrad", seed=4)
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0
    for a, b in zip(before, model.networks_[0].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(model.predict_proba(images).sum(axis=1), 1)


def test_no_warning_is_shown(images, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("error", DeprecationWarning)
        for method in explain.METHODS:
            explain.attribute(learner(), images[:1], method=method)
        explain.maximize(learner(), "EA", n_steps=2)
    assert "━" not in capfd.readouterr().out


@pytest.mark.parametrize("n_rounds", [0, 3])
def test_shares_sum_to_the_attribution_and_plural_is_the_stack_of_singular(n_rounds):
    lcs = simulate.lightcurves(n_per_class=2, seed=2)
    maps = np.random.default_rng(0).normal(size=(len(lcs), *networks.FINE_GRID.shape))
    every = explain.shares(lcs, maps, n_rounds=n_rounds)
    columns = lightcurves.arrays(lcs)
    for k, map_ in enumerate(maps):
        part = slice(columns.offsets[k], columns.offsets[k + 1])
        one = explain.share(columns.mjd[part], columns.mag[part], map_, n_rounds=n_rounds)
        np.testing.assert_array_equal(one.values, every.values[part])
        assert one.rest == every.rest[k]
        assert abs(one.values.sum() + one.rest - map_.sum()) < 1e-9
        pairs = dmdt.image(columns.mjd[part], columns.mag[part], grid=networks.FINE_GRID)
        assert one.rest == pytest.approx(map_[pairs == 0].sum())


# oracles


def test_shares_are_those_of_the_pairs_of_every_cell():
    lc = simulate.lightcurves(n_per_class=1, classes=["EA"])["lightcurve"].iloc[0].iloc[:40]
    map_ = np.random.default_rng(0).normal(size=GRID.shape)
    expected = np.zeros(len(lc))
    for row, column in np.ndindex(GRID.shape):
        pairs = dmdt.pairs(lc, row, column, grid=GRID)
        for name in ("i", "j"):
            np.add.at(expected, pairs[name], map_[row, column] / 2 / max(len(pairs), 1))
    found = explain.share(lc["mjd"], lc["mag"], map_, grid=GRID, n_rounds=0)
    np.testing.assert_allclose(found.values, expected, atol=1e-12)


def directly(name, net):
    """Return a method of tf-keras-vis, as its own documentation says to call it."""
    modifiers = explain._vis("utils.model_modifiers.ReplaceToLinear")
    return explain._vis(name)(net, model_modifier=modifiers(), clone=True)


@pytest.mark.filterwarnings("ignore:The structure of")
@pytest.mark.parametrize("method", CAMS)
def test_maps_of_class_activation_are_those_of_tf_keras_vis(method):
    net, x, codes = network(), seen(), [0, 2, 1, 1, 0]
    score = explain._vis("utils.scores.CategoricalScore")(codes)
    expected = directly(CAMS[method], net)(score, x, normalize_cam=False)
    np.testing.assert_allclose(explain.attribute(net, x, codes, method=method), expected, atol=1e-5)
    assert np.abs(expected).max() > 0.01


@pytest.mark.filterwarnings("ignore:The structure of")
def test_saliency_and_smoothgrad_are_those_of_tf_keras_vis():
    net, x, codes = network(), seen(), [0, 2, 1, 1, 0]
    score = explain._vis("utils.scores.CategoricalScore")(codes)
    view = directly("saliency.Saliency", net)
    expected = view(score, x, normalize_map=False)
    found = explain.attribute(net, x, codes, method="saliency")
    np.testing.assert_allclose(found, expected, atol=1e-5)
    with explain._drawn(np.random.default_rng(7)):
        expected = view(score, x, smooth_samples=20, smooth_noise=0.2, normalize_map=False)
    found = explain.attribute(net, x, codes, method="smoothgrad", seed=7)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.filterwarnings("ignore:The structure of")
def test_activation_maximisation_is_that_of_tf_keras_vis():
    import tensorflow as tf

    net, rng = network(), np.random.default_rng(0)
    start = 0.1 * rng.uniform(size=(1, 14, 16, 1)).astype(np.float32)
    score = explain._vis("utils.scores.CategoricalScore")(1)
    slope = explain._gradient(explain.adapt(net), [lambda output: output[:, 1]], [start])[0]
    penalties = "activation_maximization.regularizers."
    expected = directly("activation_maximization.ActivationMaximization", net)(
        score,
        start,
        input_range=(0.0, 1.0),
        input_modifiers=[lambda x: tf.clip_by_value(x, 0.0, 1.0)],
        regularizers=[explain._vis(f"{penalties}TotalVariation2D")(0.1 * np.abs(slope).sum())],
        steps=20,
        optimizer=keras.optimizers.Adam(0.03),
    )
    found = explain.maximize(net, 1, norm=0, n_steps=20)
    np.testing.assert_allclose(found, np.asarray(expected)[0, ..., 0], atol=1e-5)


def test_saliency_is_the_slope_that_finite_differences_find():
    net, x = network("tanh", layers.AveragePooling2D), seen(1)
    step = 1e-2 * np.eye(14 * 16, dtype=np.float32).reshape(-1, 14, 16, 1)
    stack = np.concatenate([x + step, x - step])
    high, low = explain._outputs(explain.adapt(net), [stack])[0][:, 2].reshape(2, 14, 16)
    expected = np.abs(high - low) / 2e-2
    found = explain.attribute(net, x, 2, method="saliency")[0]
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert expected.max() > 0.1


def test_the_deconvnet_of_a_linear_network_is_its_gradient():
    net, x = network(None, layers.AveragePooling2D, None, bias=False), seen()
    found = explain.attribute(net, x, 1, method="deconvnet")
    gradient = explain.attribute(net, x, 1, method="gradient_input")
    np.testing.assert_allclose(found * x[..., 0], gradient, atol=1e-6)
    assert np.abs(gradient).max() > 0.1


def test_the_deconvnet_unpools_with_switches_and_rectifies_on_the_way_back():
    first = keras.Input((6, 6, 1))
    x = layers.MaxPooling2D(2)(layers.Conv2D(2, 3, padding="same", activation="relu")(first))
    net = trained(keras.Model(first, layers.Dense(2)(layers.Flatten()(x))))
    kernel, bias, head, _ = net.get_weights()
    image = np.random.default_rng(3).normal(size=(6, 6))
    back = head[:, 1].reshape(3, 3, 2)
    expected = np.zeros((6, 6))
    for f in range(2):
        before = ndimage.correlate(image, kernel[:, :, 0, f], mode="constant") + bias[f]
        after, placed = before.clip(0), np.zeros((6, 6))
        for i, j in np.ndindex(3, 3):
            block = after[2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            at = np.unravel_index(block.argmax(), (2, 2))
            placed[2 * i + at[0], 2 * j + at[1]] = back[i, j, f]
        expected += ndimage.convolve(placed.clip(0), kernel[:, :, 0, f], mode="constant")
    found = explain.attribute(net, image[None, ..., None], 1, method="deconvnet")[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_filter_is_projected_from_where_it_is_strongest():
    net, x = network(None, layers.AveragePooling2D, bias=False), seen()
    found = explain.project(net, x, layer="one", filter=2)
    kernel = net.get_layer("one").get_weights()[0][:, :, 0, 2]
    for image, map_ in zip(x[..., 0], found, strict=True):
        strong = ndimage.correlate(image, kernel, mode="constant")[1:-1, 1:-1]
        i, j = np.unravel_index(strong.argmax(), strong.shape)
        np.testing.assert_allclose(map_[i : i + 3, j : j + 3], kernel, atol=1e-6)
        assert np.count_nonzero(map_) == 9


def test_tree_shares_sum_to_the_score_of_every_class():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(200, 4)), columns=list("abcd"))
    y = np.where(X["a"] > 0.5, "x", np.where(X["b"] > 0, "y", "z"))
    boosted = HistGradientBoostingClassifier(max_iter=20, random_state=0).fit(X.to_numpy(), y)
    forest = RandomForestClassifier(20, random_state=0).fit(X.to_numpy(), y)
    scores = {
        boosted: boosted.decision_function(X.to_numpy()[:5]),
        forest: forest.predict_proba(X.to_numpy()[:5]),
    }
    for model, score in scores.items():
        found = explain.trees(model, X[:5])
        assert found.values.shape == (5, 4, 3)
        np.testing.assert_allclose(found.values.sum(axis=1) + found.base, score, atol=1e-6)
        assert set(found.importance().index[:2]) == {"a", "b"}
        assert found.of(0, "y").abs().is_monotonic_decreasing
    two = HistGradientBoostingClassifier(max_iter=20).fit(X.to_numpy(), y == "x")
    found = explain.trees(two, X[:5])
    score = two.decision_function(X.to_numpy()[:5])
    np.testing.assert_allclose((found.values.sum(axis=1) + found.base)[:, 1], score, atol=1e-6)


def test_trees_of_a_light_curve_classifier(one_band_lcs):
    model = classify.LightCurveClassifier("boosted", max_frequency=1.0, options={"n_rounds": 10})
    model.fit(one_band_lcs, one_band_lcs["label"])
    data = model.measure(one_band_lcs)
    found = explain.trees(model, data)
    assert found.classes == model.classes_.tolist()
    score = model.learner_.estimators[0].decision_function(model.learner_.matrix(data))
    np.testing.assert_allclose(found.values.sum(axis=1) + found.base, score, atol=1e-6)


def test_features_in_another_order_are_refused():
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 3)), columns=["a", "b", "c"])
    forest = RandomForestClassifier(5, random_state=0).fit(X, X["a"] > 0)
    assert explain.trees(forest, X[:2]).features == ["a", "b", "c"]
    with pytest.raises(ValueError, match="same order as they were in fit"):
        explain.trees(forest, X[["c", "b", "a"]])


# models of other shapes


def test_a_real_bogus_model_is_explained_on_raw_triplets():
    triplets = np.random.default_rng(0).normal(size=(4, 63, 63, 3)) + 10
    model = realbogus.RealBogus(epochs=1, validation=0, batch_size=4)
    model.fit(triplets, [0, 1, 0, 1])
    found = explain.attribute(model, triplets[:2], method="gradient_input")
    x = model.inputs(triplets[:2])
    expected = explain.attribute(model.network_, x, method="gradient_input")
    np.testing.assert_array_equal(found, expected)
    assert found.shape == (2, 63, 63)
    with pytest.raises(ValueError, match="not fitted yet"):
        explain.filters(realbogus.RealBogus())


def test_a_sequential_model_and_one_that_ends_in_a_softmax_layer_are_adapted():
    net, x = network(), seen()
    expected = explain.attribute(net, x, 1, method="gradcam")
    parts = [layers.Conv2D(4, 3, activation="relu"), layers.MaxPooling2D(2)]
    parts += [layers.Conv2D(5, 3, activation="relu"), layers.Flatten()]
    one = keras.Sequential(
        [keras.Input((14, 16, 1)), *parts, layers.Dense(3, activation="softmax")]
    )
    parts = [type(each).from_config(each.get_config()) for each in parts]
    two = keras.Sequential([keras.Input((14, 16, 1)), *parts, layers.Dense(3), layers.Softmax()])
    for other in (one, two):
        other.set_weights(net.get_weights())
        for method in ("gradcam", "saliency", "deconvnet"):
            found = explain.attribute(other, x, 1, method=method)
            expected = explain.attribute(net, x, 1, method=method)
            np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_layers_of_a_model_within_a_model_are_explained():
    net, x = network(), seen()
    first, second = keras.Input((14, 16, 1)), keras.Input((6, 7, 4))
    one = layers.Conv2D(4, 3, activation="relu", name="conv")
    body = keras.Sequential([first, one, layers.MaxPooling2D(2), layers.ReLU()])
    two = layers.Conv2D(5, 3, activation="relu", name="conv")(layers.Activation("relu")(second))
    second = keras.Model(second, two)
    head = keras.Sequential([layers.Flatten(), layers.Dense(3)])
    start = keras.Input((14, 16, 1))
    end = keras.ops.softmax(head(second(keras.ops.relu(body(start)))))
    nested = keras.Model(start, end)
    before = len(nested.operations[-1]._inbound_nodes)
    nested.set_weights(net.get_weights())
    for method in ("gradcam", "saliency", "deconvnet", "integrated"):
        found = explain.attribute(nested, x, 1, method=method)
        expected = explain.attribute(net, x, 1, method=method)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(np.asarray(nested(x)), np.asarray(net(x)), atol=1e-6)
    assert len(nested.operations[-1]._inbound_nodes) == before
    np.testing.assert_array_equal(explain.filters(nested), explain.filters(net))
    found = explain.project(nested, x, layer="conv_", filter=1)
    np.testing.assert_allclose(found, explain.project(net, x, layer="two", filter=1), atol=1e-5)
    assert explain.maximize(nested, 1, n_steps=2).shape == (14, 16)


def test_several_inputs_and_outputs():
    images, numbers = keras.Input((8, 8, 1), name="images"), keras.Input((6, 6, 1), name="more")
    x = layers.Flatten()(layers.Conv2D(3, 3)(images))
    both = layers.Concatenate()([x, layers.Flatten()(numbers)])
    ends = [
        layers.Dense(3, activation="softmax")(both),
        layers.Dense(1, activation="sigmoid")(both),
    ]
    net = trained(keras.Model([images, numbers], ends))
    rng = np.random.default_rng(0)
    fed = [rng.uniform(size=(4, n, n, 1)).astype(np.float32) for n in (8, 6)]
    for method in ("saliency", "integrated", "blanking", "gradient_input", "deconvnet", "gradcam"):
        one, other = explain.attribute(net, fed, [2, None], method=method)
        assert (one.shape, other.shape) == ((4, 8, 8), (4, 6, 6))
        assert np.abs(one).max() > 0
    found = explain.attribute(net, fed, [None, 0], method="blanking")
    weights = ends[1]._keras_history.operation.get_weights()[0]
    expected = fed[1][..., 0] * weights[-36:, 0].reshape(6, 6)
    np.testing.assert_allclose(found[1], expected, atol=1e-5)


# recovery


@pytest.mark.slow
def test_planted_flares_and_eclipses_carry_the_weight():
    train = simulate.planted(n_per_class=150, seed=1)
    model = networks.DmDtCNN(n_networks=1, epochs=20)
    model.fit(networks.augmented(train, n_copies=2), train["label"].to_numpy(str))
    quiet = dmdt.images(train[train["label"] == "quiet"], grid=networks.FINE_GRID).mean(axis=0)
    lcs = simulate.planted(("flare", "eclipse"), n_per_class=30, seed=2)
    images = dmdt.images(lcs, grid=networks.FINE_GRID)
    options = {"against": "quiet", "baseline": quiet}
    maps = explain.attribute(model, images, lcs["label"].to_numpy(str), **options)
    held = []
    for chosen in (maps, explain.attribute(model, images, method="random")):
        columns, shares = lightcurves.arrays(lcs), explain.shares(lcs, chosen).values.clip(0)
        planted = np.asarray(lcs["lightcurve.planted"], dtype=bool)
        total = np.bincount(columns.objects, shares)
        held.append(np.bincount(columns.objects, shares * planted) / total)
    assert np.mean(held[0] >= 0.6) >= 0.85
    assert np.mean(held[1] >= 0.6) <= 0.1


# messages


def test_bad_input_is_said_in_one_sentence(images):
    net, model, x = network(), learner(), seen()
    flat = keras.Sequential([keras.Input((14, 16, 1)), layers.Flatten(), layers.Dense(3)])
    spread = dmdt.Grid(dm=(-1, 0, 1), dt=(0, 9), spread=True)
    forest = classify.LightCurveClassifier("forest")
    forest.learner_ = classify._learner("forest", "", None, 0)
    pair, vector = keras.Input((14, 16, 1)), keras.Input((2,))
    two = keras.Model([pair, keras.Input((4, 4, 1))], layers.Flatten()(pair))
    both = layers.Concatenate()([layers.Flatten()(pair), vector])
    both = keras.Model([pair, vector], layers.Dense(3)(both))
    dead = keras.Sequential([keras.Input((14, 16, 1)), layers.Flatten(), layers.Dense(2)])
    dead.set_weights([0 * each for each in dead.get_weights()])
    tree = DecisionTreeClassifier().fit(np.eye(3), ["a", "b", "a"])
    cnn = classify.LightCurveClassifier("dmdt_cnn")
    cnn.learner_ = classify._learner("dmdt_cnn", "", None, 0)
    cnn.learner_.learner = model
    cases = {
        "no option of integrated is called 'steps'; there are n_steps, baseline": lambda: (
            explain.attribute(net, x, steps=3)
        ),
        "no option of saliency is called 'layer'; it has none": lambda: explain.attribute(
            net, x, method="saliency", layer="one"
        ),
        "no option of blanking is called 'lit'; there are size, baseline": lambda: (
            explain.attribute(net, x, method="blanking", lit=True)
        ),
        "n_steps is 0; give 1 or more": lambda: explain.attribute(net, x, n_steps=0),
        "n_steps is 0; take 1 step or more": lambda: explain.maximize(net, 0, n_steps=0),
        "no cell changes 1: it is dead": lambda: explain.maximize(dead, 1),
        "the image of 1 is not finite": lambda: explain.maximize(net, 1, rate=np.nan, n_steps=2),
        "layer head has no filters; choose a convolution: one": lambda: explain.filters(
            net, "head"
        ),
        "layer max_pooling2d.* has no filters": lambda: explain.filters(net, 2),
        "no class is named; give one": lambda: explain.attribute(net, x, []),
        "no filter 4; the output has 4": lambda: explain.maximize(net, 4, layer="one"),
        "no filter 9; the output has 5": lambda: explain.project(net, x, layer="two", filter=9),
        "inputs of 5 and 3 objects; give the same": lambda: explain.attribute(
            two, (x, np.zeros((3, 4, 4, 1)))
        ),
        "an input of shape .2,. is no image": lambda: explain.attribute(
            both, [x, np.zeros((5, 2))], 0
        ),
        "an input of shape .2,. is no image .n_dm": lambda: explain.maximize(both, 0),
        "the images are not finite; make them": lambda: explain.attribute(net, x * np.nan),
        "images have values below 0 or not finite": lambda: explain.attribute(
            model, images * np.nan
        ),
        "the attribution is not finite": lambda: explain.share(
            [0, 1], [2, 3], np.full(GRID.shape, np.nan), grid=GRID
        ),
        "the classifier is not trained; call fit": lambda: explain.attribute(
            classify.LightCurveClassifier("dmdt_cnn"), images
        ),
        "the networks are not trained; call fit": lambda: explain.attribute(
            networks.DmDtCNN(), images
        ),
        "a classifier is asked about light curves, not images": lambda: explain.attribute(
            cnn, images
        ),
        "no layer 'three'; there are .*one.*two.*head": lambda: explain.attribute(
            net, x, method="gradcam", layer="three"
        ),
        "layer head has no map; choose two or one before": lambda: explain.attribute(
            net, x, method="gradcam", layer="head"
        ),
        "the model has no convolution; use a method without": lambda: explain.attribute(
            flat, x, method="gradcam"
        ),
        "the model has no convolution": lambda: explain.filters(flat),
        "no class 3; the output has 3, from 0 on": lambda: explain.attribute(net, x, 3),
        "no class -1": lambda: explain.attribute(net, x, [0, 1, 2, -1, 0]),
        "no class SN; the output has 3": lambda: explain.attribute(net, x, "SN"),
        "no class 'SN'; there are EA, EW, RRab": lambda: explain.attribute(model, images, "SN"),
        "2 classes for 5 objects; give one for each": lambda: explain.attribute(net, x, [0, 1]),
        "no method is called 'lime'; choose one of": lambda: explain.attribute(
            net, x, method="lime"
        ),
        "images of 22x24 cells, the networks know 14x16": lambda: explain.attribute(
            model, np.ones((1, 22, 24))
        ),
        "images of shape .5, 9, 16, 1. for inputs": lambda: explain.attribute(net, x[:, :9]),
        "expected a DmDtCNN or a keras.Model whose input's shape is known, got": lambda: (
            explain.attribute("net", x)
        ),
        "expected a functional or Sequential": lambda: explain.adapt("net"),
        "1 for 2 outputs; give a list": lambda: explain._weights(1, [x, x], None, 1),
        "kind 'forest' has no network; see explain.trees": lambda: explain.attribute(forest, x),
        "attributions of shape .1, 2, 2., expected .1, 14, 16.": lambda: explain.share(
            [0, 1], [2, 3], np.ones((2, 2)), grid=GRID
        ),
        "a spread pair fills several cells": lambda: explain.share(
            [0, 1], [2, 3], np.ones((2, 1)), grid=spread
        ),
        "mjd does not ascend": lambda: explain.share([1, 0], [2, 3], np.ones((14, 16)), grid=GRID),
        "images of shape .5, 14, 16. for inputs .*; objects first": lambda: explain.attribute(
            net, x[..., 0]
        ),
        "a baseline of shape .5, 14, 16.; give one image": lambda: explain.attribute(
            model, np.ones((5, 14, 16)), baseline=np.ones((5, 14, 16))
        ),
        "noise is -1; give 0 or more": lambda: explain.attribute(
            net, x, method="smoothgrad", noise=-1
        ),
        "n_rounds is -1; give 0 or more": lambda: explain.share(
            [0, 1], [2, 3], np.ones((14, 16)), grid=GRID, n_rounds=-1
        ),
        "X has 2 features, but DecisionTree.* is expecting 3": lambda: explain.trees(
            tree, np.ones((4, 2))
        ),
        "no object is given; explain one or more": lambda: explain.trees(tree, np.ones((0, 3))),
        "the classifier is not trained; call": lambda: explain.trees(
            classify.LightCurveClassifier("forest"), [0]
        ),
        "no class 'ZZ'; there are a, b": lambda: explain.trees(tree, np.ones((1, 3))).of(0, "ZZ"),
        "is no set of trees": lambda: explain.trees(
            LogisticRegression().fit([[0.0], [1]], [0, 1]), [[1.0]]
        ),
    }
    for message, call in cases.items():
        with pytest.raises(ValueError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_a_classifier_refuses_what_was_measured_another_way(one_band_lcs):
    few = one_band_lcs.iloc[:6]
    options = {"n_networks": 1, "epochs": 1, "n_copies": 0}
    model = classify.LightCurveClassifier("dmdt_cnn", options=options)
    model.fit(few, ["a", "b"] * 3)
    assert explain.attribute(model, few).shape == (6, *networks.FINE_GRID.shape)
    none = explain.attribute(model, few.iloc[:0])
    assert none.shape == (0, *networks.FINE_GRID.shape)
    assert explain.shares(few.iloc[:0], none).values.shape == (0,)
    other = networks.FINE_GRID.dm, (*networks.FINE_GRID.dt[:-1], 5000)
    data = classify.measure(few, "dmdt_cnn", grid=dmdt.Grid(*other, "p(dm|dt)"))
    with pytest.raises(ValueError, match="grid"):
        explain.attribute(model, data)
    hybrid = classify.LightCurveClassifier("hybrid")
    hybrid.learner_ = classify._learner("hybrid", "", None, 0)
    hybrid.recipe_ = model.recipe_
    with pytest.raises(ValueError, match="'hybrid' is not one set of trees; train forest"):
        explain.trees(hybrid, few)
