"""Streaks are planted as the truth says, told from what is none, and found where they lie."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from PIL import Image
from sklearn.metrics import roc_auc_score

from skynb import models, simulate, streaks

FEW = ("asteroid", "satellite", "asteroid", "ghost", "plain", "dementor", "masked star", "plain")


@pytest.fixture(scope="module")
def made():
    return simulate.stamps(400, kinds=FEW, sizes=(63, 131), seed=1)


@pytest.fixture(scope="module")
def new():
    return simulate.stamps(240, sizes=(63, 131), seed=2)


@pytest.fixture(scope="module")
def learner(made):
    return streaks.Streaks(n_networks=1, epochs=10, seed=0).fit(*made)


def turned_by(a, b):
    """Return the angle between lines of angles a and b [deg]."""
    return np.abs((np.asarray(a) - b + 90) % 180 - 90)


# the simulator


def test_a_trail_is_a_segment():
    """On the ridge 1, at its end a half, and beside it what a Gaussian says."""
    level = simulate.trail((21, 41), 20, 10, 0, 20, 1.5)
    assert level[10, 20] == pytest.approx(1)
    assert level[10, 30] == pytest.approx(0.5)
    assert level[13, 20] == pytest.approx(np.exp(-2))
    assert simulate.trail((21, 41), 20, 10, 90, 10, 1.5)[15, 20] == pytest.approx(0.5)


def test_each_stamp_has_its_own_stream():
    few, truth = simulate.stamps(6, seed=4)
    more, all_truth = simulate.stamps(12, seed=4)
    assert all(np.array_equal(a, b) for a, b in zip(few, more, strict=False))
    pd.testing.assert_frame_equal(truth, all_truth.iloc[:6])
    other, _ = simulate.stamps(6, seed=5)
    assert not any(np.array_equal(a, b) for a, b in zip(few, other, strict=True))


def test_stamps_are_what_the_truth_says(new):
    made, truth = new
    assert truth["kind"].value_counts().eq(40).all()
    assert [len(stamp) for stamp in made] == truth["size"].tolist()
    assert [stamp.dtype == np.uint8 for stamp in made] == truth["display"].tolist()
    asteroids = truth[truth["kind"] == "asteroid"]
    assert asteroids["snr"].min() >= 15 - 1e-9
    assert asteroids["length"].between(10, 100).all()
    assert (
        truth.loc[~truth["kind"].isin(["asteroid", "satellite"]), "x":"snr"].isna().all(axis=None)
    )
    long = truth[truth["kind"] == "satellite"]
    assert (long["length"] > long["size"] / 3 - 2).all()


def test_an_asteroid_is_where_the_truth_says():
    made, truth = simulate.stamps(40, kinds=["asteroid"], sizes=[100], display=0, seed=3)
    for stamp, true in zip(made, truth.itertuples(), strict=True):
        noise = 1.4826 * np.median(np.abs(stamp - np.median(stamp)))
        shape = simulate.trail(stamp.shape, true.x, true.y, true.angle, true.length, 1.1)
        snr = (shape * ((stamp - np.median(stamp)) / noise)).sum() / np.sqrt((shape**2).sum())
        assert snr > 0.5 * true.snr


def test_backgrounds_are_used_and_their_gaps_filled():
    rng = np.random.default_rng(0)
    back = rng.normal(100, 7, (3, 63, 63))
    back[1, :, 50:] = np.nan
    made, truth = simulate.stamps(24, backgrounds=list(back), sizes=[63, 131], display=0)
    assert set(truth["background"]) == {0, 1, 2}
    assert all(np.isfinite(stamp).all() for stamp in made)
    plain = [s for s, kind in zip(made, truth["kind"], strict=True) if kind == "plain"]
    assert np.median(plain[0]) == pytest.approx(100, abs=2)


# what networks are fed


def test_inputs_do_not_depend_on_unit_or_level():
    stamp = np.random.default_rng(1).normal(size=(131, 131))
    one, other = streaks.inputs([stamp, 300 + 12 * stamp])
    np.testing.assert_allclose(one, other, atol=1e-3)
    assert one.shape == (96, 96, 4)


def test_pixels_about_a_new_one_are_averaged():
    weights = streaks._resampling(192)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
    assert weights[3, 6] == weights[3, 7] == weights[3].max()


@pytest.mark.parametrize("side", [96, 192])
def test_stamps_of_neighbouring_sizes_are_smoothed_alike(side):
    """A size at which nothing were smoothed would look unlike all others to the networks."""
    noise = np.random.default_rng(0).normal(size=(200, 200)).astype(np.float32)
    near = [noise[: side + more, : side + more] for more in (-2, -1, 0, 1, 2)]
    rough = [np.diff(streaks.inputs([each])[0, ..., 0], axis=1).std() for each in near]
    assert np.ptp(rough) < 0.05 * rough[2]


def test_lines_answer_to_a_streak_at_its_place_and_angle():
    image = np.random.default_rng(0).normal(size=(1, 96, 96)).astype(np.float32)
    image += 3 * simulate.trail((96, 96), 40, 20, 30, 20, 0.9)
    seen = streaks._lines(image)[0]
    row, column = np.unravel_index(seen[..., 1].argmax(), (96, 96))
    assert np.hypot(row - 20, column - 40) < 6
    cosine, sine = seen[row, column, 2:]
    assert turned_by(np.degrees(np.arctan2(sine, cosine)) / 2, 30) < 8


def test_turned_inputs_are_those_of_the_turned_stamp():
    x = streaks._lines(np.random.default_rng(2).normal(size=(40, 96, 96)).astype(np.float32))
    turned = streaks._turned(x, np.random.default_rng(3))
    np.testing.assert_allclose(turned, streaks._lines(turned[..., 0]), atol=1e-3)
    assert len({tuple(each[:2, :2, 0].ravel()) for each in turned}) == 40
    assert not np.array_equal(turned, x)


def test_answers():
    said = streaks.answers(["asteroid", "satellite", "ghost"])
    np.testing.assert_array_equal(said, [[1, 1, 1], [1, 0, 0], [0, np.nan, 0]])


# the learner


def test_asteroids_are_told_from_everything_else(learner, new):
    made, truth = new
    score, kept = learner.score(made), truth["kind"] == "asteroid"
    assert roc_auc_score(kept, score) > 0.93
    assert roc_auc_score(kept, score) > roc_auc_score(kept, streaks.radon(made)["score"])
    assert learner.predict(made)[kept].mean() > 5 * learner.predict(made)[~kept].mean()


def test_one_yes_within_an_ensemble_and_all_three_across(learner, new):
    made = new[0][:20]
    p = learner.predict_proba(made)
    assert p.shape == (20, 3)
    np.testing.assert_allclose(learner.score(made), p.min(axis=1))
    said = np.array([[[3.0, -2, 1]], [[-1, 2, 0]]])
    np.testing.assert_allclose(streaks._questions(said), 1 / (1 + np.exp([[-3.0, -2, -1]])))


def test_describe_finds_the_place_of_a_streak(learner):
    made, truth = simulate.stamps(60, kinds=["asteroid"], sizes=[63, 131, 256], seed=6)
    found = learner.describe(made)
    assert list(found) == ["score", "keep", "rb", "sl", "kd", "x", "y", "angle", "length"]
    assert found["x"].notna().eq(found["rb"] >= 0.5).all()
    seen, truth = found[found["x"].notna()], truth[found["x"].notna()]
    assert len(seen) > 30
    assert np.median(np.hypot(seen["x"] - truth["x"], seen["y"] - truth["y"])) < 1
    assert np.median(turned_by(seen["angle"], truth["angle"])) < 2
    assert np.median(np.abs(seen["length"] / truth["length"] - 1)) < 0.15
    assert found["score"].tolist() == pytest.approx(learner.score(made).tolist())


def test_all_sizes_dtypes_and_edges_are_accepted(learner):
    rng = np.random.default_rng(0)
    odd = [rng.normal(size=shape) for shape in ((63, 63), (63, 43), (144, 144), (256, 256))]
    odd.append(rng.integers(0, 256, (131, 131)).astype(np.uint8))
    odd[0][:, 50:] = np.nan
    odd[1][5, 5], odd[2][7, 7] = 1e30, 1e300
    assert np.isfinite(learner.score(odd)).all()
    assert learner.score(np.zeros((1, 131, 131)) + odd[4]) == pytest.approx(learner.score(odd[4:]))


def test_saved_and_read_again(learner, new, tmp_path):
    read = streaks.Streaks.load(learner.save(tmp_path / "streaks.skynb"))
    np.testing.assert_array_equal(read.score(new[0][:9]), learner.score(new[0][:9]))
    assert (read.threshold_, read.get_params()) == (learner.threshold_, learner.get_params())


def test_a_table_of_files(learner, new, tmp_path):
    """FITS and PNG, in folders; what cannot be judged has its reason; a path must be there."""
    first, second = (np.asarray(each, np.float32) for each in new[0][:2])
    (tmp_path / "night").mkdir()
    fits.PrimaryHDU(first).writeto(tmp_path / "night" / "a.fits.gz")
    scaled = np.clip(255 * (second - second.min()) / np.ptp(second), 0, 255).astype(np.uint8)
    Image.fromarray(scaled).save(tmp_path / "night" / "b.png")
    Image.fromarray(scaled[:40, :40]).convert("RGB").save(tmp_path / "night" / "c.png")
    (tmp_path / "d.fits").write_bytes(b"SIMPLE, but broken")
    (tmp_path / "night" / "folder.fits").mkdir()
    (tmp_path / "night" / "e.png").write_bytes(b"")
    (tmp_path / "night" / "notes.txt").write_text("not an image")
    found = streaks.table([tmp_path / "night", tmp_path / "d.fits"], learner, progress=False)
    assert [Path(path).name for path in found["path"]] == [
        "a.fits.gz",
        "b.png",
        "c.png",
        "e.png",
        "d.fits",
    ]
    assert found["score"][:2].tolist() == pytest.approx(learner.score([first, scaled]).tolist())
    assert found["reason"][:2].tolist() == ["", ""]
    assert "the image has 40 x 40 pixels" in found["reason"][2]
    assert found["reason"][3] == "neither FITS nor an image that Pillow reads"
    assert found["reason"][4].startswith("a stamp that is no FITS image")
    assert found["keep"].isna().tolist() == [False, False, True, True, True]
    broken = streaks.table([tmp_path / "d.fits"], learner, progress=False)
    assert list(broken) == list(found)
    with pytest.raises(FileNotFoundError, match="no image at"):
        streaks.table([tmp_path / "e.png"], learner, progress=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no image in"):
        streaks.table([tmp_path / "empty"], learner, progress=False)


def test_ready_networks_are_taught_once(tmp_path, monkeypatch, new):
    monkeypatch.setenv("SKYNB_CACHE", str(tmp_path))
    options = {"n_stamps": 40, "epochs": 1, "n_networks": 1, "progress": False}
    taught = streaks.ready(**options)
    (path,) = (tmp_path / "models").iterdir()
    before = path.stat().st_mtime_ns
    again = streaks.ready(**options)
    assert path.stat().st_mtime_ns == before
    np.testing.assert_array_equal(again.score(new[0][:5]), taught.score(new[0][:5]))
    monkeypatch.setattr(streaks, "differences", lambda names: [])
    with pytest.raises(ValueError, match="no stamps in here; name ZTF alerts"):
        streaks.ready(["here"], **options)


def test_the_same_seed_the_same_networks(made):
    few = made[0][:64], made[1][:64]
    one, same = (
        streaks.Streaks(n_networks=1, epochs=1, seed=3).fit(*few).score(few[0]) for _ in range(2)
    )
    np.testing.assert_allclose(one, same, atol=1e-5)
    kernels = [streaks.build(seed=seed).get_weights()[0] for seed in (3, 4)]
    assert np.abs(kernels[0] - kernels[1]).max() > 0.01


# the classical detector, and rates


def test_radon_measures_a_clear_streak_and_refuses_a_long_one():
    noise = np.random.default_rng(0).normal(size=(131, 131))
    short = noise + 6 * simulate.trail(noise.shape, 70, 50, 120, 40, 1.1)
    long = noise + 6 * simulate.trail(noise.shape, 70, 50, 120, 400, 1.1)
    found = streaks.radon([short, long])
    assert found["score"][0] > 15
    assert found["score"][1] == 0
    assert np.hypot(found["x"][0] - 70, found["y"][0] - 50) < 3
    assert turned_by(found["angle"][0], 120) <= 180 / 60  # a step of its angles
    assert found["length"][0] == pytest.approx(40, rel=0.2)


def test_rates_with_a_pencil():
    """Of ten others at 0 to 0.9, at most one in ten may be above the threshold."""
    score, kept = np.r_[np.arange(10) / 10, 0.85, 0.95], np.arange(12) >= 10
    at = streaks.threshold(kept, score, 0.1)
    assert (score[~kept] >= at).mean() == 0.1
    assert streaks.rates(kept, score, max_fpr=(0, 0.1)).tolist() == [0.5, 1.0]


# real backgrounds


@pytest.mark.real
def test_on_real_backgrounds_of_another_night(learner):
    made, truth = simulate.stamps(
        240, backgrounds=streaks.differences(["ztf-alerts-2020"]), sizes=(63, 131), seed=7
    )
    assert roc_auc_score(truth["kind"] == "asteroid", learner.score(made)) > 0.9


# messages


def test_bad_input_is_said_in_a_sentence(learner, made, tmp_path):
    noise = np.random.default_rng(0).normal(size=(63, 63))
    for bad, message in (
        (np.zeros((63, 63, 3)), r"stamp 1 is of shape \(63, 63, 3\), not an image"),
        (noise[:40, :40], r"stamp 1 has 40 x 40 pixels; the longer side must be 63 to 256"),
        (np.ones((300, 63)), "stamp 1 has 300 x 63 pixels"),
        (np.full((63, 63), np.nan), "stamp 1 has no finite pixel; leave it out"),
        (np.ones((63, 63)), "stamp 1 has the same value in every pixel; leave it out"),
        (np.full((63, 63), "a"), "stamp 1 is of shape"),
    ):
        with pytest.raises(ValueError, match=message):
            learner.score([noise, bad])
    with pytest.raises(ValueError, match="no stamp is given; give one or more"):
        learner.score([])
    fit = streaks.Streaks().fit
    for call in (lambda: streaks.Streaks().score([noise]), lambda: streaks.Streaks().save("s")):
        with pytest.raises(ValueError, match="Call 'fit' with"):
            call()
    for name, value in {"max_fpr": 1, "n_networks": 0, "epochs": 0}.items():
        with pytest.raises(ValueError, match=f"{name} is {value}; give"):
            streaks.Streaks(**{name: value}).fit(*made)
    with pytest.raises(ValueError, match="the truth of 400 stamps has 9 rows; give one row"):
        fit(made[0], made[1][:9])
    with pytest.raises(ValueError, match="the truth of 400 stamps has no column 'kind'"):
        fit(made[0], made[1].drop(columns="kind"))
    with pytest.raises(ValueError, match="no kind of stamp is called 'ufo'; there are asteroid"):
        fit([noise], pd.DataFrame({"kind": ["ufo"]}))
    with pytest.raises(ValueError, match="0 of 1 stamps are asteroids; some must be and some not"):
        fit([noise], pd.DataFrame({"kind": ["plain"]}))
    (tmp_path / "no model").write_text("none")
    with pytest.raises(models.ModelError, match="is not a model, or damaged"):
        streaks.Streaks.load(tmp_path / "no model")
    for options, message in (
        ({"kinds": ["comet"]}, "cannot plant 'comet'; choose from"),
        ({"sizes": [20]}, "a side of 20 pixels leaves a streak no room; give 32 or more"),
        ({"backgrounds": [noise, noise * np.nan]}, "background 1 is no image with a finite pixel"),
    ):
        with pytest.raises(ValueError, match=message):
            simulate.stamps(3, **options)
