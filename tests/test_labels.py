import csv
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from skynb import labels, outliers

IDS = [3, 2**60 + 1, -5, "0012", 'star, the "2nd"', "α Lyr", "7"]


@pytest.fixture
def log(tmp_path):
    return labels.Log(tmp_path / "labels.csv")


# The log


def test_ids_and_labels_come_back_as_they_were(log):
    for k, object_id in enumerate(IDS):
        log.append(object_id, f'class {k}, ä "x"', who='Ann "A", B', proposed="margin", model="m=1")
    log.append(np.int64(2**62 + 3), "EW", who="me")
    again = labels.Log(log.path)
    assert [e.object_id for e in again.entries] == [*IDS, 2**62 + 3]
    assert list(map(type, IDS)) == [type(e.object_id) for e in again.entries[:-1]]
    assert again.entries == log.entries
    assert again.entries[0].who == 'Ann "A", B'
    assert again.labels().tolist() == [*(f'class {k}, ä "x"' for k in range(len(IDS))), "EW"]


def test_integer_ids_stay_integers_and_join(log):
    for object_id in (2**60 + 1, 2**60 + 2):
        log.append(object_id, "EW", who="me")
    assert log.labels().index.dtype == np.int64
    table = pd.DataFrame({"x": 1}, index=[2**60, 2**60 + 2]).assign(label=log.labels())
    assert table["label"].isna().tolist() == [True, False]


def test_any_program_reads_it(log):
    log.append("a, b", "EW", who="me")
    log.append(2**60 + 1, kind="skip", who="me")
    with log.path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["object_id"], r["label"], r["kind"]) for r in rows] == [
        ("a, b", "EW", "label"),
        (str(2**60 + 1), "", "skip"),
    ]
    assert pd.to_datetime(rows[0]["when"]).utcoffset().total_seconds() == 0


def test_a_spreadsheet_may_have_written_it_anew(log):
    log.append(12, "EW", who="me")
    log.append("a, b", "EA", who="me")
    table = pd.read_csv(log.path)
    log.path.write_text("\ufeff" + table.to_csv(index=False, lineterminator="\r\n"), newline="")
    again = labels.Log(log.path)
    assert again.labels().to_dict() == {"a, b": "EA", 12: "EW"}
    assert again.damaged == {}
    again.append(13, "LPV", who="me")
    assert labels.Log(log.path).labels().to_dict() == {"a, b": "EA", 12: "EW", 13: "LPV"}


def test_a_file_that_was_replaced_is_read_anew(log, tmp_path):
    log.append("a", "EW", who="me")
    other = labels.Log(tmp_path / "other.csv")
    for name in "xyz":
        other.append(name, "EA", who="you")
    log.path.write_bytes(other.path.read_bytes())
    log.refresh()
    assert log.labels().to_dict() == dict.fromkeys("xyz", "EA")
    assert log.damaged == {}


def test_a_line_cut_anywhere_costs_that_line_only(log):
    log.append("α 1", "EW", who="me")
    log.append("α 2", 'EA "old"', who="you", model="forest, seed=0")
    whole = log.path.read_bytes()
    first = whole.index(b"\n", whole.index(b"\n") + 1) + 1
    for size in range(first, len(whole)):
        log.path.write_bytes(whole[:size])
        cut = labels.Log(log.path)
        complete = size == len(whole) - 1  # all but the line's end
        assert len(cut) == (2 if complete else 1)
        assert bool(cut.damaged) == (first < size and not complete)
        cut.append("α 3", "LPV", who="me")
        for each in (cut, labels.Log(log.path)):
            expected = ["EW", 'EA "old"', "LPV"] if complete else ["EW", "LPV"]
            assert each.labels().tolist() == expected
            assert list(each.damaged) == ([3] if first < size and not complete else [])
        assert log.path.read_bytes().startswith(whole[:size])


def test_a_cut_first_line(log):
    log.append(1, "EW", who="me")
    whole = log.path.read_bytes()
    for size in range(len("when,who,object_id,label,proposed,model,kind") + 1):
        log.path.write_bytes(whole[:size])
        cut = labels.Log(log.path)
        assert len(cut) == 0
        cut.append(2, "EA", who="me")
        assert labels.Log(log.path).labels().to_dict() == {2: "EA"}


def test_undo_takes_back_ones_own_last_decision_and_keeps_the_line(log):
    log.append("a", "EW", who="me")
    log.append("b", kind="skip", who="me")
    log.append("a", "EA", who="you")
    assert log.labels().to_dict() == {"a": "EA"}
    assert log.standing()["kind"].to_dict() == {"a": "label", "b": "skip"}
    assert log.undo("me").object_id == "b"
    assert log.undo("me").label == "EW"
    assert log.undo("me") is None
    assert log.labels().to_dict() == {"a": "EA"}
    assert log.undo("you").label == "EA"
    assert len(log.labels()) == 0
    assert [e.kind for e in labels.Log(log.path).entries] == [
        *["label", "skip", "label"],
        *["undo"] * 3,
    ]


def test_a_later_label_counts_and_a_later_skip_does_not(log):
    log.append("a", "EW", who="me")
    log.append("a", "EA", who="me")
    log.append("a", kind="skip", who="me")
    assert log.labels().to_dict() == {"a": "EA"}
    log.undo("me")
    log.undo("me")
    assert log.labels().to_dict() == {"a": "EW"}


def test_several_processes_append_at_once(log):
    source = (
        "import sys; from skynb.labels import Log; log = Log(sys.argv[1]); k = int(sys.argv[2])\n"
        "for n in range(40): log.append(100 * k + n, 'EW', who=f'process {k}')"
    )
    command = [sys.executable, "-c", source, log.path]
    running = [subprocess.Popen([*command, str(k)]) for k in range(2)]
    assert [each.wait(120) for each in running] == [0, 0]
    log.refresh()
    assert sorted(log.labels().index) == sorted(100 * k + n for k in range(2) for n in range(40))
    assert log.damaged == {}
    assert log.path.read_text().count("when,who") == 1
    for k in range(2):
        mine = [e.object_id for e in log.entries if e.who == f"process {k}"]
        assert mine == sorted(mine)


def test_a_log_sees_what_others_add_and_a_file_made_anew(log):
    other = labels.Log(log.path)
    other.append("a", "EW", who="you")
    log.append("b", "EA", who="me")
    assert log.labels().to_dict() == {"a": "EW", "b": "EA"}
    log.path.unlink()
    log.refresh()
    assert len(log) == 0
    other.append("c", "EW", who="you")
    assert labels.Log(log.path).labels().to_dict() == {"c": "EW"}


def test_a_decision_is_on_the_disk_before_it_counts(log, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(log.path.read_text()))
    log.append("a", "EW", who="me")
    assert len(synced) == 1
    assert '"a"' in synced[0]


def test_a_full_disk_loses_that_decision_only(log, monkeypatch):
    log.append("a", "EW", who="me")
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[: len(data) // 2]))
    with pytest.raises(OSError, match=r"cannot write .*labels.csv.*; nothing was recorded"):
        log.append("b", "EA", who="me")
    monkeypatch.undo()
    assert log.labels().to_dict() == {"a": "EW"}
    log.append("c", "EA", who="me")
    assert labels.Log(log.path).labels().to_dict() == {"a": "EW", "c": "EA"}


def test_bad_input(log, tmp_path):
    for bad in (1.0, None, True):
        with pytest.raises(ValueError, match="is neither int nor str; convert it first"):
            log.append(bad, "EW", who="me")
    with pytest.raises(ValueError, match=r"the label 'E\\nW' holds a line break"):
        log.append("a", "E\nW", who="me")
    with pytest.raises(ValueError, match="a label of ''; give a label, or skip"):
        log.append("a", who="me")
    with pytest.raises(ValueError, match="a skip of 'EW'"):
        log.append("a", "EW", kind="skip", who="me")
    assert not log.path.exists()
    (tmp_path / "table.csv").write_text("object_id,mjd\n1,2\n")
    with pytest.raises(ValueError, match="is not a label log: it begins with 'object_id,mjd'"):
        labels.Log(tmp_path / "table.csv")
    with pytest.raises(OSError, match="cannot read"):
        labels.Log(tmp_path)
    with pytest.raises(OSError, match="cannot read"):
        labels.Log(tmp_path / "table.csv" / "x.csv")


# The queue


def blobs(n=60, seed=0):
    """Three classes of n objects in five features, two of them close to each other."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(3 * n, 5))
    X[n : 2 * n, 0] += 3
    X[2 * n :, 1] += 12
    return X, np.repeat(["EW", "EA", "LPV"], n)


def test_margin_and_entropy_by_hand():
    p = [[0.5, 0.5, 0], [1, 0, 0], [0.2, 0.7, 0.1]]
    assert labels.margin(p) == pytest.approx([0, 1, 0.5])
    assert labels.entropy(p)[:2] == pytest.approx([np.log(2), 0])


def test_farthest_first_by_hand():
    Z = np.array([[0.0], [1.0], [5.0], [9.0], [10.0]])
    chosen, distance = labels.farthest_first(Z, [[0.0]], 3)
    assert chosen.tolist() == [4, 2, 1]
    assert distance.tolist() == [10, 5, 1]
    chosen, distance = labels.farthest_first(Z, np.empty((0, 1)), 2)
    assert chosen.tolist() == [2, 0]
    assert sorted(labels.farthest_first(Z, [[0.0]], 99)[0]) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("strategy", labels.STRATEGIES)
def test_a_queue_holds_the_undecided_once_and_repeats(strategy):
    X, y = blobs()
    X[::7, 2] = np.nan
    rows = np.random.default_rng(1).permutation(len(X))[:23]
    said = np.where(np.arange(23) % 6 == 0, "", y[rows])
    given = {"strategy": strategy, "wanted": ["LPV"]}
    queue = labels.Proposer(X, seed=3).queue(rows, said, **given)
    assert not set(queue.rows) & set(rows)
    assert len(set(queue.rows)) == len(queue.rows) >= labels.N_AHEAD
    assert len(queue.rows) == len(queue.reasons) == len(queue.hints)
    proposer = labels.Proposer(X, seed=3)
    proposer.queue(rows[:11], said[:11], strategy="margin")  # a past of its own changes nothing
    again = proposer.queue(rows, said, **given)
    assert again.rows.tolist() == queue.rows.tolist()
    assert again.reasons == queue.reasons
    assert again.model == queue.model
    assert f"{strategy} seed=3" in queue.model
    other = labels.Proposer(X, seed=4).queue(rows, said, **given)
    if strategy != "diversity":
        assert other.rows.tolist() != queue.rows.tolist()


def test_between_two_trainings_the_queue_only_gets_shorter():
    X, y = blobs()
    proposer = labels.Proposer(X, every=5)
    rows = proposer.queue([], []).rows[:10].tolist()
    before = proposer.queue(rows, y[rows])
    rows += before.rows[:4].tolist()
    after = proposer.queue(rows, y[rows])
    assert after.rows.tolist() == before.rows[4:].tolist()
    assert after.reasons == before.reasons[4:]
    rows += after.rows[:1].tolist()
    learnt = proposer.queue(rows, y[rows])
    assert learnt.rows.tolist() != after.rows[1:].tolist()
    assert "n_decided=15" in learnt.model


def test_the_uncertain_lie_between_the_classes():
    X, y = blobs()
    rows = [0, 60, 120, 1, 61, 121, 2, 62, 122, 3]
    for strategy in ("margin", "entropy"):
        queue = labels.Proposer(X).queue(rows, y[rows], strategy=strategy)
        assert (y[queue.rows[:10]] != "LPV").sum() >= 8
        assert queue.reasons[0].startswith("uncertain: E")
        assert not any(name in queue.hints[0] for name in ("EW", "EA", "LPV"))


def test_without_two_classes_the_queue_is_by_diversity():
    X, y = blobs()
    proposer = labels.Proposer(X)
    queue = proposer.queue([0, 1, 2, 3, 4], y[:5])
    other = proposer.queue([0, 1, 2, 3, 4], y[:5], strategy="diversity")
    assert queue.rows.tolist() == other.rows.tolist()
    assert queue.reasons[0].startswith("no two classes labelled yet; unlike all seen")
    assert proposer.guess(queue, 7) is None


def test_the_guess_is_the_forest_s_likeliest_first():
    X, y = blobs()
    proposer, rows = labels.Proposer(X), np.arange(0, 180, 6)
    guess = proposer.guess(proposer.queue(rows, y[rows]), 125)
    assert guess.index[0] == "LPV"
    assert guess.sum() == pytest.approx(1)
    assert guess.is_monotonic_decreasing


def test_the_anomaly_queue_asks_what_the_hunt_asks():
    X, y = blobs()
    proposer = labels.Proposer(X, every=1)
    rows = [5, 70, 130, 6, 71, 131, 7, 72, 132]
    queue = proposer.queue(rows, y[rows], strategy="anomaly", wanted=["LPV"])
    Z = proposer.transform(np.arange(len(X)))
    order = np.r_[[k for k in proposer.order_ if k not in rows], rows]
    hunter = outliers.Hunter(Z[order], seed=0)
    score = hunter.score(range(171, 180), ["regular", "regular", "anomaly"] * 3)
    assert score[:171][[order[:171].tolist().index(k) for k in queue.rows]] == pytest.approx(
        np.sort(score[:171])[::-1][: len(queue.rows)]
    )
    assert (y[queue.rows[:20]] == "LPV").sum() >= 16
    assert "after 3 hunted and 6 other" in queue.reasons[0]


def test_a_table_larger_than_the_pool(monkeypatch):
    monkeypatch.setattr(labels, "N_POOL", 20)
    X, y = blobs()
    proposer, rows = labels.Proposer(X, n_trees=5), []
    assert len(proposer.Z_) == 20
    while len((queue := proposer.queue(rows, y[rows])).rows):
        rows += queue.rows[:5].tolist()
    assert sorted(rows) == list(range(180))
    fresh = labels.Proposer(X, n_trees=5).queue(rows[:60], y[rows[:60]])
    assert fresh.rows[:5].tolist() == rows[60:65]


@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.parametrize("strategy", labels.STRATEGIES)
def test_few_objects(n, strategy):
    X = np.full((n, 3), np.nan)
    queue = labels.Proposer(X).queue([], [], strategy=strategy)
    assert sorted(queue.rows) == list(range(n))
    rows = np.arange(n)
    assert len(labels.Proposer(X, every=1).queue(rows, ["EW"] * n, strategy=strategy).rows) == 0


def test_bad_strategies():
    X, _ = blobs()
    with pytest.raises(ValueError, match="no strategy 'hope'; choose one of margin"):
        labels.Proposer(X).queue([], [], strategy="hope")
    with pytest.raises(ValueError, match="expected every >= 1 decisions, got 0"):
        labels.Proposer(X, every=0)


def test_asking_the_uncertain_teaches_more():
    """Where classes are of unequal size; the means of three seeds, well apart."""
    X, y = blobs(300)
    few = np.r_[0:300, 300:330, 600:620]
    curves = labels.learning_curves(X[few], y[few], n_labels=40, every=10, progress=False)
    mean = curves[curves["n_labels"] >= 20].groupby("strategy")["accuracy"].mean()
    assert mean["margin"] > mean["random"]
    assert set(curves["seed"]) == {0, 1, 2}
    assert curves["n_labels"].max() == 40
    assert curves["accuracy"].dropna().between(0, 1).all()
