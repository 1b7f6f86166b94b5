"""Tests of networks: the published size, seeds, ensembles, transfer, parts, messages, hazards."""

import json
import subprocess
import sys

import numpy as np
import pytest

from skynb import datasets, dmdt, lightcurves, networks, taxonomy

BRIEF = {"scratch": {"epochs": 2}, "progress": False}
GRID = dmdt.Grid(dm=np.linspace(-2, 2, 17), dt=np.geomspace(0.01, 3000, 17))


def stripes(n_objects, classes="ab", seed=0, shape=(16, 16), shift=0):
    """Return noisy counts with one bright row per class, and the labels."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n_objects) % len(classes)
    images = rng.poisson(3.0, (n_objects, *shape)).astype(np.uint32)
    images[np.arange(n_objects), (4 + 3 * codes + shift) % shape[0]] += 20
    return images, np.array(list(classes))[codes]


def small(depth="deep", **options):
    return networks.DmDtCNN(depth, **{"n_networks": 1, "epochs": 6, "batch_size": 16} | options)


@pytest.fixture(scope="module")
def learner():
    return small(n_networks=2, epochs=8).fit(*stripes(96, "abc"))


def one(learner):
    """Return the first network of a learner, as a learner."""
    parts = learner.to_parts()
    parameters = parts["parameters"] | {"n_networks": 1, "epochs": 2}
    parts |= {"parameters": parameters, "weights": parts["weights"][:1]}
    return networks.DmDtCNN.from_parts(parts)


# pencil


def test_the_published_network_has_39527_parameters():
    network = networks.build("shallow", (22, 24, 1), 7)
    assert network.count_params() == 416 + 25_664 + 13_447 == 39_527
    assert network.layers[-1].input.shape == (None, 1920)


def test_activations_of_another_grid_or_of_no_network_are_refused(learner):
    images, _ = stripes(2)
    assert networks.activations(learner.networks_[0], images).shape[0] == 2
    with pytest.raises(ValueError, match="images of 8x16 cells, the networks know 16x16"):
        networks.activations(learner.networks_[0], images[:, :8])
    with pytest.raises(ValueError, match=r"expected a keras.Model, as of learner.networks_, got"):
        networks.activations(learner, images)


def test_the_deep_network_has_32_64_and_128_filters():
    network = networks.build("deep", (*networks.FINE_GRID.shape, 1), 7)
    filters = [layer.filters for layer in network.layers if hasattr(layer, "filters")]
    assert filters == [32, 64, 128]


def test_a_network_sees_the_root_of_each_columns_share():
    seen = networks.inputs(np.array([[[1, 0], [3, 0]]]))[0, ..., 0]
    np.testing.assert_allclose(seen, [[0.5, 0], [0.75**0.5, 0]])
    assert seen.dtype == np.float32


def test_the_held_out_share_is_of_every_class_and_a_lone_object_is_trained_on():
    codes = np.array([0] * 10 + [1] * 20 + [2])
    held = networks._held(codes, 0.2, 0)
    assert np.bincount(codes[held], minlength=3).tolist() == [2, 4, 0]


# invariants


def test_probabilities_sum_to_one_and_rows_do_not_depend_on_each_other(learner):
    images, _ = stripes(30, "abc", seed=1)
    probability = learner.predict_proba(images)
    assert probability.shape == (30, 3)
    np.testing.assert_allclose(probability.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(learner.predict_proba(images[7:8]), probability[7:8], atol=1e-5)
    assert learner.predict_proba(images[:0]).shape == (0, 3)


def test_the_normalization_of_the_images_does_not_matter(learner):
    images, _ = stripes(10, "abc", seed=1)
    shares = dmdt.normalize(images, 0, grid=GRID.with_normalization("p(dm|dt)"))
    np.testing.assert_allclose(
        learner.predict_proba(shares), learner.predict_proba(images), atol=1e-5
    )


def test_an_ensemble_is_the_mean_of_its_networks(learner):
    images, _ = stripes(10, "abc", seed=1)
    parts = learner.to_parts()
    alone = []
    for weights in parts["weights"]:
        parameters = parts["parameters"] | {"n_networks": 1}
        one = networks.DmDtCNN.from_parts(parts | {"parameters": parameters, "weights": [weights]})
        alone.append(one.predict_proba(images))
    assert np.abs(alone[0] - alone[1]).max() > 1e-3
    np.testing.assert_allclose(np.mean(alone, axis=0), learner.predict_proba(images), atol=1e-6)


def test_a_seed_repeats_and_another_differs_and_global_generators_are_left_alone():
    images, y = stripes(32)
    np.random.seed(5)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first, again, other = (small("shallow", epochs=2, seed=s).fit(images, y) for s in (0, 0, 1))
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
    said = [each.predict_proba(images) for each in (first, again, other)]
    np.testing.assert_allclose(said[0], said[1], atol=1e-4)
    assert np.abs(said[0] - said[2]).max() > 1e-3


def test_parts_are_plain_and_make_the_same_learner(learner):
    parts = learner.to_parts()
    weights = parts.pop("weights")
    assert all(type(array) is np.ndarray for arrays in weights for array in arrays)
    classes = parts.pop("classes")
    parts = json.loads(json.dumps(parts)) | {"weights": weights, "classes": classes}
    images, _ = stripes(10, "abc", seed=1)
    again = networks.DmDtCNN.from_parts(parts)
    np.testing.assert_array_equal(again.predict_proba(images), learner.predict_proba(images))
    assert again.get_params() == learner.get_params()


def test_copies_keep_the_image_first_and_do_not_change_the_table(one_band_lcs):
    before = lightcurves.arrays(one_band_lcs).mag.copy()
    images = networks.augmented(one_band_lcs, grid=GRID, n_copies=2)
    assert images.shape == (21, 3, *GRID.shape)
    np.testing.assert_array_equal(images[:, 0], dmdt.images(one_band_lcs, grid=GRID))
    assert (images[:, 1] != images[:, 0]).any()
    assert (images[:, 1] != images[:, 2]).any()
    np.testing.assert_array_equal(lightcurves.arrays(one_band_lcs).mag, before)
    same = networks.augmented(one_band_lcs, grid=GRID, n_copies=1, scale=0)
    np.testing.assert_array_equal(same[:, 1], same[:, 0])


# recovery


def test_stripes_are_told_apart(learner):
    images, y = stripes(60, "abc", seed=1)
    assert (learner.predict(images) == y).mean() > 0.9


def test_training_stops_when_validation_gets_no_better_and_keeps_the_best_weights():
    images, y = stripes(64)
    y = np.random.default_rng(0).permutation(y)
    learner = small(epochs=60, patience=2, learning_rate=0.01).fit(images, y)
    (losses,) = learner.losses_
    best = losses[:, 1].argmin()
    assert len(losses) == best + 3 < 60


def test_an_epochs_loss_is_the_mean_of_its_batches(monkeypatch):
    model, heard = networks.load_keras().Model, []
    train = model.train_on_batch

    def spy(self, *data, **options):
        heard.append(train(self, *data, **options))
        return heard[-1]

    monkeypatch.setattr(model, "train_on_batch", spy)
    (losses,) = small(epochs=3).fit(*stripes(64)).losses_
    np.testing.assert_allclose(losses[:, 0], np.reshape(heard, (3, -1)).mean(axis=1))


def test_a_rare_class_weighs_more_when_balanced():
    images, y = stripes(100)
    rare = np.flatnonzero(y == "b")[5:]
    images, y = np.delete(images, rare, axis=0), np.delete(y, rare)
    images[:] = 3
    said = [
        small("shallow", balance=b).fit(images, y).predict_proba(images[:1])[0, 1] for b in (0, 1)
    ]
    assert said[1] > said[0] + 0.1


def test_copies_are_trained_on_as_well_as_the_image_itself():
    images, y = stripes(64)
    copies = np.stack([np.ones_like(images), images], axis=1)
    learner = small("shallow", epochs=12, validation=0).fit(copies, y)
    assert (learner.predict(images) == y).mean() > 0.9


def test_transfer_learns_a_shifted_survey_and_a_new_class_from_few_labels(learner):
    images, y = stripes(100, "abcn", seed=2)
    before = learner.to_parts()["weights"]
    moved = networks.transfer(learner, images[:24], y[:24])
    assert moved.classes_.tolist() == ["a", "b", "c", "n"]
    assert (moved.predict(images[24:]) == y[24:]).mean() > 0.8
    for old, kept in zip(before, learner.to_parts()["weights"], strict=True):
        assert all(map(np.array_equal, old, kept))


def test_transfer_under_a_strong_pull_is_the_source_and_frees_only_what_it_says(learner):
    images, y = stripes(12, "abc", seed=2)
    moved = networks.transfer(learner, images, y, pull=1e9)
    np.testing.assert_allclose(
        moved.predict_proba(images), learner.predict_proba(images), atol=1e-4
    )
    for n_trainable, n_changed in ((1, 2), (2, 6), (None, 17)):
        moved = networks.transfer(one(learner), images, y, n_trainable=n_trainable)
        old, new = (each.networks_[0].get_weights() for each in (learner, moved))
        same = [np.array_equal(a, b) for a, b in zip(old, new, strict=True)]
        assert same == [True] * (17 - n_changed) + [False] * n_changed


def test_a_class_without_a_label_yet_can_be_asked_for(learner):
    images, y = stripes(12, "ab", seed=2)
    moved = networks.transfer(learner, images, y, classes=["a", "b", "c", "new"])
    assert moved.predict_proba(images).shape == (12, 4)
    others, _ = stripes(30, "abc", seed=3)
    assert (moved.predict(others[2::3]) == "c").mean() > 0.5


def test_transfer_beats_scratch_and_no_retraining_on_a_shifted_survey(learner):
    images, y = stripes(60, "abc", seed=2, shift=1)
    rows = networks.compare_transfer(one(learner), images, y, n_labels=(6,), n_draws=2, **BRIEF)
    assert rows[["n_labels", "draw"]].to_numpy().tolist() == [[6, 0], [6, 1]]
    assert (rows["transfer"] > rows[["none", "scratch"]].max(axis=1)).all()


def test_a_source_without_a_common_class_is_always_wrong(learner):
    images, y = stripes(12, "xy", seed=2)
    rows = networks.compare_transfer(one(learner), images, y, n_labels=(2,), n_draws=1, **BRIEF)
    assert rows.loc[0, "none"] == 0 < rows.loc[0, "transfer"]


def test_the_last_layer_is_at_its_optimum():
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    x, codes = rng.normal(size=(60, 5)), rng.integers(3, size=60)
    x /= np.sqrt(np.square(x).sum(axis=1).mean())
    head = networks._head(x, codes, np.zeros((6, 3)), pull=0.5)
    ones = np.hstack([x, np.ones((60, 1))])
    oracle = LogisticRegression(C=2, fit_intercept=False, tol=1e-8, max_iter=1000).fit(ones, codes)
    np.testing.assert_allclose(head, oracle.coef_.T, atol=1e-3)


# messages


@pytest.mark.parametrize(
    ("images", "y", "said"),
    [
        (np.ones((3, 16)), "aab", r"expected images of shape \(n_objects, n_dm, n_dt\)"),
        (np.full((2, 16, 16), np.nan), "ab", "below 0 or not finite"),
        (-np.ones((2, 16, 16)), "ab", "below 0 or not finite"),
        (np.ones((2, 16, 16)), "aa", "two classes or more"),
        (np.ones((2, 16, 16)), "abc", "one label for each of 2 objects"),
        (np.ones((2, 6, 16)), "ab", "6x16 cells are too small for the deep network"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused(images, y, said):
    with pytest.raises(ValueError, match=said):
        small().fit(images, list(y))


def test_an_unknown_depth_is_refused(learner):
    parts = learner.to_parts()
    parts["parameters"] = parts["parameters"] | {"depth": "os.system"}
    with pytest.raises(ValueError, match="no network is called 'deeper'; choose one of shallow"):
        small("deeper").fit(*stripes(8))
    with pytest.raises(ValueError, match=r"no network is called 'os\.system'"):
        networks.DmDtCNN.from_parts(parts)


def test_images_of_another_grid_are_refused(learner):
    with pytest.raises(ValueError, match="images of 16x20 cells, the networks know 16x16"):
        learner.predict_proba(np.ones((2, 16, 20)))
    with pytest.raises(ValueError, match="images of 16x20 cells, the networks know 16x16"):
        networks.transfer(learner, np.ones((2, 16, 20)), ["a", "b"])


def test_transfer_refuses_labels_outside_its_classes(learner):
    images, y = stripes(6, "ab")
    with pytest.raises(ValueError, match="two classes or more of a, c, got 6 labels of a, b"):
        networks.transfer(learner, images, y, classes=["a", "c"])


def test_a_class_with_no_object_left_to_judge_is_refused(learner):
    images, y = stripes(9, "abc")
    with pytest.raises(ValueError, match="a has 3 objects, too few to draw 3 and judge others"):
        networks.compare_transfer(learner, images, y, n_labels=(2, 3))


@pytest.mark.parametrize(
    "wrong",
    [
        {"parameters": {"n_networks": 7}},
        {"shape": [10**6, 10**6, 1]},
    ],
)
def test_parts_that_do_not_fit_are_refused_before_memory_is_asked_for(learner, wrong):
    parts = learner.to_parts()
    wrong = {
        key: parts[key] | value if key == "parameters" else value for key, value in wrong.items()
    }
    with pytest.raises(ValueError, match="do not make"):
        networks.DmDtCNN.from_parts(parts | wrong)


# hazards


def test_neither_importing_nor_building_says_anything_or_changes_the_environment():
    source = """
import os, sys
before = dict(os.environ)
from skynb import networks
assert "tensorflow" not in sys.modules and "keras" not in sys.modules
networks.build("shallow", (22, 24, 1), 7)(__import__("numpy").zeros((1, 22, 24, 1)))
os.write(2, b"heard")
new = {key for key in os.environ if os.environ[key] != before.get(key)}
assert not {key for key in new if key.startswith(("TF_CPP", "CUDA"))}, new
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "heard"


# real data


@pytest.mark.real
@pytest.mark.slow
def test_the_deep_network_learns_catalinas_variables():
    lcs = datasets.load("crts", n_per_class=120)
    y = np.array(taxonomy.harmonize(lcs["label"], "crts"))
    lcs, y = lcs[np.isin(y, taxonomy.SEVEN)], y[np.isin(y, taxonomy.SEVEN)]
    images, test = networks.augmented(lcs, n_copies=2), np.arange(len(lcs)) % 4 == 0
    learner = networks.DmDtCNN(n_networks=1).fit(images[~test], y[~test])
    assert (learner.predict(images[test]) == y[test]).mean() > 0.6
