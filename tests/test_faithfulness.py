"""Tests of the tests that explanations must pass: pencil, chance, shuffled weights, messages."""

import numpy as np
import pandas as pd
import pytest

from skynb import classify, dmdt, explain, faithfulness, networks

keras = networks.load_keras()
GRID = dmdt.Grid(dm=np.linspace(-2, 2, 17), dt=np.geomspace(0.01, 3000, 17))


def stripes(n_objects, seed=0):
    """Return noisy counts with one bright row per class, and the labels."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n_objects) % 3
    images = rng.poisson(3.0, (n_objects, 16, 16)).astype(np.uint32)
    images[np.arange(n_objects), 4 + 3 * codes] += 20
    return images, np.array(["a", "b", "c"])[codes]


@pytest.fixture(scope="module")
def model():
    made = networks.DmDtCNN("deep", n_networks=2, epochs=12, batch_size=16)
    return made.fit(*stripes(96))


def softmax_of_a_sum():
    """Return a network whose first probability is the logistic function of the sum of the cells."""
    first = keras.Input((1, 4, 1))
    head = keras.layers.Dense(2, activation="softmax")
    net = keras.Model(first, head(keras.layers.Flatten()(first)))
    net.set_weights([np.array([[1.0, 0], [1, 0], [1, 0], [1, 0]]), np.zeros(2)])
    return net


# pencil


def test_curves_by_hand():
    x = np.array([4.0, 2, 1, 0]).reshape(1, 1, 4, 1)
    found = faithfulness.curves(softmax_of_a_sum(), x, x[..., 0], 0, n_steps=3)
    p = 1 / (1 + np.exp(-np.array([7.0, 3, 1, 0])))  # the fourth cell is empty and does not count
    np.testing.assert_allclose(found.deletion, [p], atol=1e-6)
    q = 1 / (1 + np.exp(-np.array([0, 4.0, 6, 7])))
    np.testing.assert_allclose(found.insertion, [q], atol=1e-6)
    area = (p[0] / 2 + p[1] + p[2] + p[3] / 2) / 3
    assert found.area()["deletion"] == pytest.approx(area, abs=1e-6)
    worst = faithfulness.curves(softmax_of_a_sum(), x, -x[..., 0], 0, n_steps=3)
    assert worst.area()["deletion"] > found.area()["deletion"]
    assert worst.area()["insertion"] < found.area()["insertion"]


def test_rank_correlation_over_filled_cells_by_hand():
    x = np.array([1, 1, 1, 0]).reshape(1, 1, 4, 1)
    a, b = np.array([[[1, 2, 3, 9]]]), np.array([[[10, 30, 20, -9]]])
    assert faithfulness._alike(a, a, x) == pytest.approx(1)
    assert faithfulness._alike(a, b, x) == pytest.approx(0.5)
    assert faithfulness._alike(a, np.ones((1, 1, 4)), x) == 0


# invariants


def test_curves_start_at_the_answer_and_end_at_the_empty_image_and_the_other_way(model):
    images, _ = stripes(6, seed=1)
    said = model.predict_proba(images)
    found = faithfulness.curves(model, images, explain.attribute(model, images))
    np.testing.assert_allclose(found.deletion[:, 0], said.max(axis=1), atol=1e-5)
    np.testing.assert_allclose(found.insertion[:, -1], said.max(axis=1), atol=1e-5)
    np.testing.assert_allclose(found.deletion[:, -1], found.insertion[:, 0], atol=1e-5)


def test_shuffled_weights_are_the_same_numbers_from_the_last_layer_on(model):
    images, _ = stripes(6, seed=1)
    before = model.predict_proba(images)
    copy = faithfulness.shuffled(model, n_layers=1)
    for net, other in zip(model.networks_, copy.networks_, strict=True):
        *body, kernel, bias = net.get_weights()
        *rest, mixed, _ = other.get_weights()
        for a, b in zip(body, rest, strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(np.sort(kernel.ravel()), np.sort(mixed.ravel()))
        assert (kernel != mixed).mean() > 0.9
        assert len(bias) == 3
    whole = faithfulness.shuffled(model)
    first = [each.networks_[0].get_weights()[0] for each in (model, whole)]
    assert (first[0] != first[1]).any()
    np.testing.assert_array_equal(model.predict_proba(images), before)


def test_one_layer_more_is_shuffled_in_each_row(model):
    images, _ = stripes(12, seed=1)
    found = faithfulness.randomization(model, images)
    layers = [layer.name for layer in model.networks_[0].layers if layer.weights]
    assert found["layer"].tolist() == layers[::-1]
    assert abs(found["spearman"].iloc[-1]) < 0.3


# recovery


def test_the_table_tells_true_maps_from_chance(model):
    images, _ = stripes(12, seed=1)

    def backwards(model, images, target, seed):
        return -explain.attribute(model, images, target)

    methods = {"integrated": "integrated", "backwards": backwards, "random": "random"}
    methods["smoothgrad"] = "smoothgrad"
    options = {"smoothgrad": {"n_samples": 3}}
    found = faithfulness.table(model, images, methods, n_steps=6, options=options)
    assert found.index.tolist() == list(methods)
    assert (found.loc["integrated", ["deletion_gain", "insertion_gain"]] > 0.1).all()
    assert (found.loc["backwards", ["deletion_gain", "insertion_gain"]] < -0.05).all()
    assert (found.loc["random", ["deletion_gain", "insertion_gain"]].abs() < 0.1).all()
    assert found.loc["random", "shuffled"] == pytest.approx(1)  # it does not look at the network
    assert abs(found.loc["random", "seeds"]) < 0.1
    assert found.loc["integrated", "seeds"] == 1
    assert 0 < found.loc["smoothgrad", "seeds"] < 1
    assert found.loc["integrated", "networks"] > found.loc["random", "networks"] - 1
    assert (found["seconds"] > 0).all()
    alone = networks.DmDtCNN.from_parts(
        model.to_parts()
        | {"weights": model.to_parts()["weights"][:1]}
        | {"parameters": model.get_params() | {"n_networks": 1}}
    )
    one = faithfulness.table(alone, images[:3], ["integrated"], n_steps=4)
    assert pd.isna(one.loc["integrated", "networks"])


def test_a_light_curve_classifier_is_judged_as_its_networks(one_band_lcs):
    few = one_band_lcs.iloc[:6]
    options = {"n_networks": 1, "epochs": 1, "n_copies": 0}
    whole = classify.LightCurveClassifier("dmdt_cnn", options=options).fit(few, ["a", "b"] * 3)
    learner, images = explain.unwrap(whole, few)
    for judge in (faithfulness.table, faithfulness.randomization):
        options = {"methods": ["integrated"]} if judge is faithfulness.table else {}
        ours, theirs = judge(whole, few, **options), judge(learner, images, **options)
        seconds = {"columns": "seconds", "errors": "ignore"}
        pd.testing.assert_frame_equal(ours.drop(**seconds), theirs.drop(**seconds))


def test_one_seed_says_nothing_of_seeds(model):
    found = faithfulness.table(model, stripes(3)[0], ["random"], n_steps=2, n_seeds=1)
    assert np.isnan(found.loc["random", "seeds"])


# messages


def test_bad_input_is_said_in_one_sentence(model):
    images, _ = stripes(3)
    with pytest.raises(ValueError, match=r"attributions .3, 2, 2. of images .3, 16, 16.; give one"):
        faithfulness.curves(model, images, np.ones((3, 2, 2)))
    with pytest.raises(ValueError, match="no class 'd'; there are a, b, c"):
        faithfulness.table(model, images, target="d")
    with pytest.raises(ValueError, match="no object is given; judge one or more"):
        faithfulness.table(model, images[:0])
    with pytest.raises(ValueError, match="the attribution is not finite"):
        faithfulness.curves(model, images, np.full((3, 16, 16), np.nan))
    with pytest.raises(ValueError, match="options of 'smooth', which is none of smoothgrad"):
        faithfulness.table(model, images, ["smoothgrad"], options={"smooth": {}})
    with pytest.raises(ValueError, match="2 classes for 3 objects; give one for each"):
        faithfulness.curves(model, images, np.ones((3, 16, 16)), ["a", "b"])
    first = keras.Input((16, 16, 1))
    flat = keras.layers.Flatten()(first)
    two = keras.Model(first, [keras.layers.Dense(2)(flat), keras.layers.Dense(2)(flat)])
    with pytest.raises(ValueError, match="several inputs or outputs"):
        faithfulness.curves(two, images[..., None], np.ones((3, 16, 16)))
