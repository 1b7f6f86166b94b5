import getpass
import time

import numpy as np
import pandas as pd
import pytest

from skynb import features, labels, simulate
from skynb.widgets import Labeler, Selection


@pytest.fixture
def path(tmp_path):
    return tmp_path / "labels.csv"


@pytest.fixture
def make(one_band_lcs, path):
    """A function that makes a Labeler on the same log, without its light curve."""

    def make(lcs=one_band_lcs, classes=None, **options):
        return Labeler(lcs, classes, **{"curve": False, "path": path} | options)

    return make


def seen(labeler):
    return labeler.selection.index[labeler.selection.focus]


def press(labeler, *keys):
    for key in keys:
        labeler._receive(labeler, {"key": key}, [])


def truth(labeler, lcs):
    """The key of the right answer for the object in view."""
    key_of = {name: key for key, name in labeler._names.items()}
    return key_of[lcs["label"].loc[seen(labeler)]]


def test_keys_label_skip_and_take_back(make, path):
    labeler = make()
    assert labeler.classes == ["EA", "EW", "LPV", "RRab", "RRc", "RRd", "RS CVn"]
    assert {"1", "7", "s", " ", "u", "Backspace", "n"} <= set(labeler.hotkeys)
    first = seen(labeler)
    press(labeler, "2")
    second = seen(labeler)
    assert second != first
    press(labeler, "s")
    third = seen(labeler)
    press(labeler, "7", " ")
    assert labeler.labels.to_dict() == {first: "EW", third: "RS CVn"}
    assert "2 labelled, 2 skipped of 21" in labeler.description
    press(labeler, "u")
    press(labeler, "Backspace")
    assert seen(labeler) == third
    assert labeler.labels.to_dict() == {first: "EW"}
    assert [e.kind for e in labels.Log(path).entries] == [
        *("label", "skip", "label", "skip", "undo", "undo")
    ]
    press(labeler, "u", "u")
    assert seen(labeler) == first
    assert labeler.message == ""
    press(labeler, "u")
    assert "is left to undo" in labeler.message


def test_the_log_says_who_what_how_and_by_which_model(make, path):
    labeler = make(labeler="Ann", seed=4)
    labeler.label("EW")
    labeler.selection.look_at(labeler.selection.index[labeler.queue.rows[7]])
    labeler.label("EA")
    first, second = labels.Log(path).entries
    assert (first.who, first.label, first.proposed, first.kind) == ("Ann", "EW", "margin", "label")
    assert "margin seed=4" in first.model
    assert (second.proposed, second.model) == ("by hand", "")
    assert make().labeler == getpass.getuser()


def test_goes_on_where_it_stopped_with_the_same_queue(make, one_band_lcs):
    labeler = make(every=4)
    for k in range(14):
        press(labeler, "s" if k % 5 == 3 else truth(labeler, one_band_lcs))
    labeler.strategy = "entropy"
    press(labeler, truth(labeler, one_band_lcs), "u", truth(labeler, one_band_lcs))
    again = make(every=4)
    assert again.strategy == "entropy"
    assert again.queue.rows.tolist() == labeler.queue.rows.tolist()
    assert again.queue.reasons == labeler.queue.reasons
    assert seen(again) == seen(labeler)
    assert again.labels.equals(labeler.labels)
    assert again.description == labeler.description


@pytest.mark.parametrize("strategy", labels.STRATEGIES)
def test_a_replayed_log_gives_the_same_next_twenty(strategy, tmp_path):
    lcs = simulate.lightcurves(n_per_class=9, seed=2)
    X = features.extract(lcs, periods=False)
    options = {"features": X, "strategy": strategy, "wanted": ["LPV"], "curve": False, "seed": 3}
    labeler = Labeler(lcs, path=tmp_path / "a.csv", **options)
    for k in range(17):
        press(labeler, "s" if k == 6 else truth(labeler, lcs))
        if k == 9:
            press(labeler, "u")
    (tmp_path / "b.csv").write_bytes((tmp_path / "a.csv").read_bytes())
    again = Labeler(lcs, path=tmp_path / "b.csv", **options)
    assert len(again.queue.rows) >= 20
    assert again.queue.rows[:20].tolist() == labeler.queue.rows[:20].tolist()
    other = Labeler(lcs, path=tmp_path / "b.csv", **options | {"seed": 5})
    if strategy in ("margin", "entropy", "random", "anomaly"):
        assert other.queue.rows[:20].tolist() != labeler.queue.rows[:20].tolist()


def test_undo_brings_the_queue_back(make, one_band_lcs):
    labeler = make(every=3)
    for _ in range(5):
        press(labeler, truth(labeler, one_band_lcs))
    before = labeler.queue.rows.tolist()
    press(labeler, truth(labeler, one_band_lcs), "u")
    assert labeler.queue.rows.tolist() == before


def test_a_cut_line_is_set_aside_with_a_message(make, path):
    labeler = make()
    press(labeler, "1", "2", "3")
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    again = make()
    assert "labels.csv: line 4 is cut and was set aside." in again.notes
    assert len(again.labels) == 2
    press(again, "4")
    assert path.read_bytes().startswith(whole[:-20] + b"\n")
    assert again.labels.tolist() == ["EA", "EW", "RRab"]
    assert make().labels.tolist() == ["EA", "EW", "RRab"]
    assert "line 4" in make().notes
    assert "line 4" in again._noted.value


def test_labels_of_unknown_classes_and_objects_are_kept_and_said(make, path, one_band_lcs):
    log = labels.Log(path)
    log.append(one_band_lcs.index[0], "Mira <i>", who="you")
    log.append("elsewhere", "EW", who="you")
    labeler = make(classes=["EW", "EA"])
    assert "1 labels of Mira <i>, which has no key here: kept, and learnt from." in labeler.notes
    assert "1 decisions on objects that are not in this table" in labeler.notes
    assert "Mira &lt;i&gt; 1" in labeler._bar.value
    assert "1 labelled of 21" in labeler.description
    assert 0 not in labeler.queue.rows
    press(labeler, "1")
    assert labeler.labels.iloc[:2].to_dict() == {
        one_band_lcs.index[0]: "Mira <i>",
        "elsewhere": "EW",
    }


def test_shares_a_selection(make, one_band_lcs):
    selection = Selection(one_band_lcs)
    labeler = make(selection=selection)
    assert selection.focus == labeler.queue.rows[0]
    selection.look_at(one_band_lcs.index[labeler.queue.rows[3]])
    assert f"Object {seen(labeler)}." in labeler.description
    assert "number 4 of the queue" in labeler.description
    labeler.label("EW")
    assert selection.focus == labeler.queue.rows[0]
    selection.focus = int(one_band_lcs.index.get_loc(labeler.labels.index[0]))
    assert f"already called EW by {labeler.labeler}" in labeler.description
    press(labeler, "n")
    assert selection.focus == labeler.queue.rows[0]
    labeler.close()
    selection.focus = 0
    with pytest.raises(ValueError, match="selection is of another table"):
        make(selection=Selection(["a"]))


def test_no_class_is_named_before_it_is_asked_for(make, one_band_lcs):
    lcs = one_band_lcs.set_axis(np.arange(21))
    labeler = make(lcs, curve=True, every=2)
    for _ in range(8):
        press(labeler, truth(labeler, lcs))
    shown = " ".join([labeler._head.value, labeler._why.value, labeler.curve.description])
    assert "uncertain: the two likeliest classes have" in shown
    last = labeler.labels.iloc[-1]
    assert not any(name in shown.replace(f": {last}.", "") for name in ("RR", "EW", "EA", "LPV"))
    labeler.guessing = True
    assert "The machine thinks: " in labeler._why.value
    assert any(f"uncertain: {name}" in labeler._why.value for name in labeler.classes)


def test_joins_the_table(make, one_band_lcs):
    labeler = make(labeler="Ann")
    press(labeler, "1", "s", "3")
    table = labeler.to_frame()
    assert table["label"].tolist() == ["EA", "LPV"]
    assert table["who"].tolist() == ["Ann", "Ann"]
    joined = one_band_lcs.drop(columns="label").join(table)
    assert joined["label"].notna().sum() == 2
    assert (
        one_band_lcs.assign(label=labeler.labels)["label"]
        .dropna()
        .equals(labeler.labels.reindex(one_band_lcs.index).dropna())
    )


def test_whole_numbers_as_ids(make, one_band_lcs, path):
    lcs = one_band_lcs.set_axis(np.arange(21) + 2**60)
    labeler = make(lcs)
    press(labeler, "1", "2")
    assert labeler.labels.index.dtype == np.int64
    again = make(lcs)
    assert again.labels.equals(labeler.labels)
    assert again.notes == ""
    assert lcs.drop(columns="label").join(again.to_frame())["label"].notna().sum() == 2


def test_everything_decided(make, one_band_lcs):
    labeler = make(one_band_lcs[:3], ["EW", "EA"])
    press(labeler, "1", "1", "1")
    assert "Nothing is left to decide." in labeler.description
    assert labeler.message == ""
    for one in (labeler, make(one_band_lcs[:3], ["EW", "EA"])):
        press(one, "2", "s")
        assert "nothing is left to decide" in one.message
        assert one.labels.tolist() == ["EW"] * 3
    other = (labeler.selection.focus + 1) % 3
    labeler.selection.focus = other
    press(labeler, "2")
    assert labeler.labels.loc[one_band_lcs.index[other]] == "EA"
    press(labeler, "u", "u", "2")
    assert "nothing" not in labeler.message
    assert sorted(labeler.labels) == ["EA", "EW", "EW"]


def test_small_and_odd_tables(make, one_band_lcs):
    empty = make(one_band_lcs[:0], classes=["EW"], curve=True)
    assert empty.message == "the table is empty; give at least one light curve"
    press(empty, "1")
    assert "no object is in view" in empty.message
    assert empty.still()[:4] == b"\x89PNG"
    one = make(one_band_lcs[:1], curve=True)
    press(one, "1")
    assert "1 labelled of 1" in one.description
    flat = one_band_lcs["lightcurve"].nest.to_flat().reset_index(names="object_id")
    from skynb import lightcurves

    single = lightcurves.from_flat(flat.groupby("object_id").head(1))
    labeler = make(single, classes=["EW", "EA"], curve=True)
    press(labeler, "1", "2")
    assert labeler.message == ""
    assert labeler.still()[:4] == b"\x89PNG"


def test_many_objects_without_features_are_asked_by_lot(make, one_band_lcs, monkeypatch):
    from skynb.widgets import label

    monkeypatch.setattr(label, "N_MEASURED", 20)
    labeler = make()
    assert labeler.strategy == "random"
    assert "21 objects; the queue is by lot until you give features" in labeler.message
    with pytest.raises(ValueError, match="there are no features to order by"):
        labeler.strategy = "margin"
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(21, 4)), one_band_lcs.index)
    assert make(features=X, strategy="margin").strategy == "margin"


def test_bad_input(make, path, one_band_lcs):
    labeler = make()
    with pytest.raises(ValueError, match="no class 'Mira'; there are EA, EW"):
        labeler.label("Mira")
    labeler.labeler = " "
    press(labeler, "1")
    assert "nobody labels; write a name into 'who labels'" in labeler.message
    assert len(labeler.labels) == 0
    with pytest.raises(ValueError, match="features of 20 objects, but 21 light curves"):
        make(features=np.zeros((20, 2)))
    with pytest.raises(ValueError, match="classes are"):
        make(classes=[])
    with pytest.raises(ValueError, match="classes are 'EW'; give a list"):
        make(classes="EW")
    with pytest.raises(ValueError, match="no class 'Mira'"):
        make(wanted=["Mira"])
    path.write_text("x,y\n")
    with pytest.raises(ValueError, match="is not a label log"):
        make()


def test_more_classes_than_keys(make):
    labeler = make(classes=[f"class {k}" for k in range(40)])
    assert len(labeler._names) == 31
    assert not set(labeler._names) & set("sundh")
    labeler.label("class 39")
    assert labeler.labels.tolist() == ["class 39"]


def test_a_log_that_cannot_be_written_stops_there(make, path):
    labeler = make()
    at = seen(labeler)
    path.mkdir()
    press(labeler, "1")
    assert "nothing was recorded" in labeler.message
    assert seen(labeler) == at


def test_the_still_and_the_line_that_revives_it(make, path, monkeypatch):
    monkeypatch.chdir(path.parent)
    labeler = make(curve=True, path=path.name)
    monkeypatch.chdir("/")
    press(labeler, "1")
    data, _ = labeler._repr_mimebundle_()
    assert "Labeler: Object" in data["text/html"]
    assert "widgets.Labeler(lcs, [" in data["text/html"]
    again = eval(
        labeler.revive(),
        {"widgets": __import__("skynb.widgets", fromlist=["x"]), "lcs": labeler.lcs},
    )
    assert again.labels.equals(labeler.labels)


@pytest.mark.slow
def test_a_key_answers_quickly_among_thousands(tmp_path):
    """The median is far below; the worst of these includes the learning."""
    n = 4000
    one = simulate.lightcurves(n_per_class=1, seed=1)
    lcs = one.iloc[np.arange(n) % len(one)].set_axis(np.arange(n))
    X = np.random.default_rng(0).normal(size=(n, 80))
    labeler = Labeler(lcs, features=X, path=tmp_path / "l.csv", curve=False)
    seconds = []
    for k in range(40):
        start = time.perf_counter()
        press(labeler, str(1 + k % 7))
        seconds.append(time.perf_counter() - start)
    print(f"median {np.median(seconds):.3f} s, worst {max(seconds):.3f} s")
    assert np.median(seconds) < 0.3
