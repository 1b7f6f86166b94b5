"""Real or bogus: the survey's own scores, what is refused, and a network of one's own."""

import importlib
import io
import json
import pickle

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from skynb import alerts, datasets, models, planted, realbogus, simulate, stamps

KINDS = ("new star", "bad column")
NIGHTS = ("ztf-alerts-2020", "ztf-alerts-2023", "ztf-alerts")


@pytest.fixture(scope="module")
def told():
    """Simulated triplets, half of them real, of four nights, and a network that saw them."""
    x, table = planted.triplets(160, kinds=KINDS, seed=3)
    y, nights = table["real"].to_numpy(int), np.arange(160) // 40
    model = realbogus.RealBogus(
        epochs=10, batch_size=8, learning_rate=1e-3, validation=0.25, patience=10
    )
    return x, y, nights, model.fit(x, y, groups=nights)


@pytest.fixture(scope="module")
def d6_m7():
    return realbogus.official()


# the network


def test_the_network_has_the_published_parameters():
    network = realbogus.network()
    assert network.count_params() == 312_081
    assert [tuple(each.shape) for each in network.weights][:8:2] == [
        (3, 3, 3, 16),
        (3, 3, 16, 16),
        (3, 3, 16, 32),
        (3, 3, 32, 32),
    ]
    drops = [layer.rate for layer in network.layers if hasattr(layer, "rate")]
    assert drops == [0.25, 0.25, 0.5]
    pools = [layer.pool_size for layer in network.layers if hasattr(layer, "pool_size")]
    assert pools == [(2, 2), (4, 4)]


def test_a_seed_gives_its_weights():
    one, same, other = (realbogus.network(seed=seed).get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not np.array_equal(one[0], other[0])


def test_scores_are_what_keras_predicts(told):
    """The last three rows and columns are dropped by the poolings, and so not computed."""
    x, _, _, model = told
    said = model.network_.predict(model.inputs(x), verbose=0)[:, 0]
    assert np.allclose(model.score(x), said, atol=1e-6)
    given = stamps.normalize(x, "per_row")
    assert np.array_equal(model.score(given, normalized="per_row"), model.score(x))
    assert np.array_equal(model.score(x.astype(">f4")), model.score(x))
    with pytest.raises(ValueError, match="expected triplets of numbers, got object"):
        model.score(x.astype(object))
    mixed = np.concatenate([given] * 8)
    mixed[-1] *= 7
    with pytest.raises(ValueError, match="not normalized per_row; give raw ones"):
        model.score(mixed, normalized="per_row")
    given[:, 60:], given[:, :, 60:] = 1, 1
    assert np.allclose(model.network_.predict(given, verbose=0)[:, 0], said, atol=1e-6)
    assert len(model.score(x[:0])) == 0


def test_probabilities_and_answers_follow_the_score(told):
    x, y, _, model = told
    score = model.score(x)
    assert np.allclose(model.predict_proba(x), np.column_stack([1 - score, score]))
    assert np.array_equal(model.predict(x), score > 0.5)
    assert model.score(x, y) == np.mean((score > 0.5) == y)


# training


def test_it_learns_to_tell_stars_from_bad_columns(told):
    _, _, _, model = told
    new, table = planted.triplets(60, kinds=KINDS, seed=4)
    score, real = model.score(new), table["real"].to_numpy()
    above = score[real][:, None] > score[~real]
    assert above.mean() > 0.9
    assert len(model.losses_) <= 10
    assert model.losses_[-1, 0] < model.losses_[0, 0]


def test_a_whole_night_is_held_out():
    model, real = realbogus.RealBogus(validation=0.25), np.tile([True, False], 20)
    nights = np.repeat(["a", "b", "c", "d"], 10)
    rows, held = model._split(real, nights)
    assert len(held) == 10
    assert not set(nights[rows]) & set(nights[held])


def test_the_same_seed_trains_the_same(told):
    x, y = told[0][:24], told[1][:24]
    options = {"epochs": 1, "batch_size": 8, "validation": 0}
    one, same = (realbogus.RealBogus(**options, seed=1).fit(x, y).score(x) for _ in range(2))
    assert np.allclose(one, same, atol=1e-6)


def test_early_stopping_keeps_the_best(told):
    x, y, nights, _ = told
    model = realbogus.RealBogus(
        epochs=30, patience=1, batch_size=8, learning_rate=0.3, validation=0.25
    )
    model.fit(x, y, groups=nights)
    assert len(model.losses_) < 30


def test_transfer_starts_from_given_weights_and_trains_the_last_layers(told):
    x, y, _, start = told
    options = {"epochs": 1, "validation": 0, "batch_size": 8}
    moved = realbogus.RealBogus(start=start, n_trainable=1, **options).fit(x, y)
    before, after = start.network_.get_weights(), moved.network_.get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(before[:-2], after[:-2], strict=True))
    assert not np.array_equal(before[-2], after[-2])
    other = realbogus.RealBogus("per_frame", start=start, **options)
    with pytest.raises(ValueError, match="start is normalized per_row, not per_frame"):
        other.fit(x, y)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y, g: (x, y, None), "expected the night or set of each triplet"),
        (lambda x, y, g: (x, y, np.zeros(160)), "two of them or more"),
        (lambda x, y, g: (x, y, y), "one class is left"),
        (lambda x, y, g: (x, y * 0, g), "of both classes, got 160 with 0 real"),
        (lambda x, y, g: (x, y * 2, g), "a label from 0 to 1"),
        (lambda x, y, g: (x, y[:-1], g), "each of 160 triplets"),
        (lambda x, y, g: (x * np.nan, y, g), "not finite"),
        (lambda x, y, g: (x[:, :43], y, g), r"of shape \(n, 63, 63, 3\), got \(160, 43, 63, 3\)"),
        (lambda x, y, g: (stamps.normalize(x, "per_row"), y, g), "already normalized per_row"),
    ],
)
def test_what_cannot_be_learnt_from_is_said(told, change, message):
    x, y, nights, _ = told
    x, y, groups = change(x, y, nights)
    with pytest.raises(ValueError, match=message):
        realbogus.RealBogus(epochs=1).fit(x, y, groups=groups)


# normalization travels with the model


@pytest.mark.parametrize("how", stamps.NORMALIZATIONS)
def test_normalized_triplets_are_refused_unless_declared(told, how):
    x, _, _, model = told
    some = x.copy()
    some[3:] = stamps.normalize(some[3:], how)
    with pytest.raises(ValueError, match=f"already normalized {how}; the model normalizes raw"):
        model.score(some)


def test_another_normalization_is_refused_by_name(told):
    x, _, _, model = told
    with pytest.raises(ValueError, match="normalized per_frame, but the model knows per_row"):
        model.score(stamps.normalize(x, "per_frame"), normalized="per_frame")
    with pytest.raises(ValueError, match="no normalization 'l1'; choose from per_row, per_frame"):
        realbogus.RealBogus("l1").inputs(x)


def test_a_blank_or_a_faint_triplet_is_raw(told):
    x, _, _, model = told
    model.score(np.stack([x[0] * 0, x[1] / np.abs(x[1]).max()]))


# files


def test_a_model_comes_back_as_it_was(told, tmp_path):
    x, _, _, model = told
    path = model.save(tmp_path / "own.skynb", data="simulated")
    again = realbogus.load(path)
    assert np.array_equal(again.score(x), model.score(x))
    assert again.get_params() == model.get_params()
    with np.load(path, allow_pickle=False) as file:
        assert json.loads(str(file["recipe"]))["card"] == {"data": "simulated"}


def test_a_file_that_is_no_model_is_said(told, tmp_path):
    path = told[3].save(tmp_path / "own.skynb")
    with np.load(path) as file:
        parts = dict(file)

    def changed(**new):
        stream = io.BytesIO()
        np.savez(stream, **(parts | new))
        return stream.getvalue()

    recipe = json.loads(str(parts["recipe"]))
    options = recipe["options"] | {"normalization": "l1"}
    wrong = {
        "own.skynb is no real/bogus model, or damaged": path.read_bytes()[:-100],
        "another network": changed(w00=parts["w00"][:2]),
        "format 'other'": changed(recipe=json.dumps(recipe | {"format": "other"})),
        "normalization 'l1'": changed(recipe=json.dumps(recipe | {"options": options})),
        "allow_pickle": changed(w00=np.array([object()])),
        "too large": changed(w99=np.zeros(2**22)),
    }
    for message, data in wrong.items():
        path.write_bytes(data)
        with pytest.raises(models.ModelError, match=message):
            realbogus.load(path)
    with pytest.raises(FileNotFoundError, match="no model"):
        realbogus.load(tmp_path / "none")


def test_a_packet_normalized_already_is_set_aside_alone(monkeypatch):
    made = alerts.read(simulate.alerts(n=5), progress=False)
    made.triplets[2] = stamps.normalize(made.triplets[2:3], "per_row")[0]
    monkeypatch.setattr(alerts, "stream", lambda *_, **__: [made])
    model = realbogus.RealBogus()._set(realbogus.network().get_weights(), "own")
    found = realbogus.table(["night"], model, progress=False)
    assert found["score"].notna().tolist() == [True, True, False, True, True]
    assert found["reason"][2] == "its triplet is already normalized"
    assert found["candid"].tolist() == made.candidates.index.tolist()


# the threshold


def test_the_threshold_costs_least():
    """Bogus at 0.1 and 0.3, real at 0.2 and 0.9: dear misses keep all, dear false ones only 0.9."""
    y, score = [0, 0, 1, 1], [0.1, 0.3, 0.2, 0.9]
    assert realbogus.threshold(y, score, cost_missed=10) == pytest.approx(0.15)
    assert realbogus.threshold(y, score, cost_false=10) == pytest.approx(0.6)
    rng = np.random.default_rng(0)
    y = rng.random(200) < 0.5
    score = np.clip(0.5 * y + rng.random(200) * 0.6, 0, 1)
    cut = realbogus.threshold(y, score, cost_missed=3)
    costs = [
        3 * (y & (score <= each)).sum() + (~y & (score > each)).sum()
        for each in (cut, *np.linspace(0, 1, 301))
    ]
    assert costs[0] == min(costs)


@pytest.mark.parametrize(
    ("y", "options", "message"),
    [
        ([1, 1], {}, "of both classes"),
        ([0, 1, 1], {}, "got 3 and 2"),
        ([0, 1], {"cost_missed": 0}, "costs of 0 and 1.0"),
    ],
)
def test_a_threshold_that_cannot_be_is_said(y, options, message):
    with pytest.raises(ValueError, match=message):
        realbogus.threshold(y, [0.2, 0.8], **options)


# saliency


def test_saliency_is_that_of_the_pixels_that_count(told):
    from skynb import explain

    x, _, _, model = told
    maps = explain.attribute(model.network_, model.inputs(x[:2]), method="saliency")
    assert maps.shape == (2, 63, 63)
    assert np.isfinite(maps).all()
    assert maps.any(axis=(1, 2)).all()
    assert not maps[:, 60:].any()


# the survey's own


def test_unknown_weights_are_said():
    with pytest.raises(ValueError, match="no weights are called 'd7'; choose from d6_m7, d6_m9"):
        realbogus.official("d7")


@pytest.mark.real
def test_the_packets_own_scores_are_reproduced(mirror, d6_m7):
    bench = importlib.import_module("benchmarks.bench_realbogus")
    away = []
    for name in NIGHTS:
        triplets, table = bench.read(name)
        assert set(table["drbversion"]) == {"d6_m7"}
        away.append(np.abs(d6_m7.score(triplets) - table["drb"]))
    away = np.concatenate(away)
    assert len(away) == 872
    assert np.mean(away <= 1e-6) >= 0.999


@pytest.mark.real
def test_the_wrong_normalization_would_not_reproduce_them(mirror, d6_m7):
    bench = importlib.import_module("benchmarks.bench_realbogus")
    triplets, table = bench.read("ztf-alerts-2020")
    wrong = stamps.normalize(triplets, "per_frame")
    with pytest.raises(ValueError, match="the model knows per_row"):
        d6_m7.score(wrong, normalized="per_frame")
    with pytest.raises(ValueError, match="triplets that are not normalized per_row; give raw ones"):
        d6_m7.score(wrong, normalized="per_row")
    other = realbogus.official("d6_m9")
    assert other.normalization == "per_frame"
    agreed = (other.score(triplets) > 0.5) == (table["drb"] > 0.5)
    assert 0.8 < agreed.mean() < 1


@pytest.mark.real
def test_weights_of_another_network_are_said(mirror, monkeypatch):
    monkeypatch.setattr(datasets, "contents", lambda name: [_weights((3, 3, 3, 8))])
    with pytest.raises(ValueError, match="weights of another network than braai's"):
        realbogus.official()


def _weights(shape):
    import h5py

    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.attrs["layer_names"] = ["conv"]
        file.create_group("conv").attrs["weight_names"] = ["kernel"]
        file["conv"]["kernel"] = np.zeros(shape)
    return stream.getvalue()


def test_what_cannot_be_trained_or_judged_is_said(told):
    x, y, groups, _ = told
    for given in ({"epochs": 0}, {"n_trainable": 0}, {"n_trainable": 7}):
        with pytest.raises(ValueError, match="give 1 epoch or more and 1 to 6 layers"):
            realbogus.RealBogus(**given).fit(x, y, groups=groups)
    with pytest.raises(NotFittedError, match="not fitted"):
        realbogus.RealBogus().score(x)


def test_a_pickled_model_judges_the_same(told):
    x, _, _, model = told
    assert np.array_equal(pickle.loads(pickle.dumps(model)).score(x), model.score(x))
