import json

import numpy as np
import pytest

from skynb.widgets import Selection


@pytest.fixture
def chosen():
    return Selection(["a", "b", "c", "d"])


def test_chooses_adds_removes_and_keeps(chosen):
    chosen.choose(["d", "a"])
    assert chosen.ids.tolist() == ["a", "d"]
    assert chosen.rows.tolist() == [0, 3]
    chosen.choose(["b"], how="add")
    chosen.choose(["a"], how="remove")
    assert chosen.ids.tolist() == ["b", "d"]
    chosen.choose(["a", "d"], how="keep")
    assert chosen.ids.tolist() == ["d"]
    assert len(chosen) == 1
    assert "d" in chosen
    assert "a" not in chosen
    assert "z" not in chosen


def test_the_order_and_repetition_of_ids_do_not_matter(chosen):
    chosen.choose(["c", "a", "c"])
    assert chosen.ids.tolist() == ["a", "c"]


def test_goes_back_and_forth(chosen):
    chosen.choose(["a"])
    chosen.choose(["b"])
    chosen.clear()
    assert (chosen.n_undo, chosen.n_redo) == (3, 0)
    chosen.undo()
    assert chosen.ids.tolist() == ["b"]
    chosen.undo()
    chosen.redo()
    assert chosen.ids.tolist() == ["b"]
    assert (chosen.n_undo, chosen.n_redo) == (2, 1)
    chosen.choose(["c"])
    assert chosen.n_redo == 0
    for _ in range(9):
        chosen.undo()
    assert len(chosen) == 0


def test_choosing_the_same_again_is_no_step(chosen):
    chosen.choose(["a"])
    chosen.choose(["a"])
    assert chosen.n_undo == 1


def test_all_who_watch_are_told_once(chosen):
    seen = []
    chosen.observe(lambda change: seen.append(change["new"].tolist()), "rows")
    chosen.choose(["a", "b"])
    chosen.choose(["a", "b"])
    chosen.undo()
    assert seen == [[0, 1], []]


def test_another_object_in_view_has_other_points(chosen):
    chosen.points, chosen.hovered, chosen.pairs = (1, 2), 2, np.array([[0, 1]])
    chosen.look_at("c")
    assert (chosen.focus, chosen.points, chosen.hovered) == (2, (), None)
    assert chosen.pairs.shape == (0, 2)


def test_fixes_the_period_of_the_object_in_view(chosen):
    chosen.fix_period(0.5)
    chosen.look_at("c")
    chosen.fix_period(2)
    assert chosen.periods == {0: 0.5, 2: 2.0}
    for bad in (np.nan, 0, -1, np.inf, None):
        with pytest.raises(ValueError, match="give a positive number of days"):
            chosen.fix_period(bad)
    assert chosen.periods == {0: 0.5, 2: 2.0}


def test_takes_a_fixed_period_back(chosen):
    chosen.fix_period(0.5)
    chosen.look_at("c")
    chosen.fix_period(2)
    chosen.release_period()
    chosen.release_period()
    assert chosen.periods == {0: 0.5}


@pytest.mark.parametrize("focus", [4, 99, -1])
def test_nothing_changes_by_a_position_out_of_the_table(chosen, focus):
    seen = []
    chosen.observe(seen.append)
    with pytest.raises(ValueError, match=f"focus is {focus}; there are 4 objects"):
        chosen.focus = focus
    with pytest.raises(ValueError, match="there are 4 objects"):
        chosen.rows = [1, focus]
    assert (chosen.focus, chosen.rows.tolist(), seen) == (0, [], [])


@pytest.mark.parametrize("clip", [-1, np.nan, np.inf])
def test_no_clipping_at_less_than_nothing(chosen, clip):
    with pytest.raises(ValueError, match="give a number of sigmas"):
        chosen.clip = clip
    assert chosen.clip == 0


def test_gives_a_table(chosen, one_band_lcs):
    chosen.choose(["b"])
    assert chosen.to_frame().index.tolist() == ["b"]
    both = Selection(one_band_lcs)
    both.choose(one_band_lcs.index[[4, 2]])
    assert both.to_frame(one_band_lcs).index.equals(one_band_lcs.index[[2, 4]])


@pytest.mark.parametrize("ids", [["a", "d"], [3, 2**60 + 1]])
def test_saves_and_loads(ids, tmp_path):
    chosen = Selection([*ids, *ids[:0], "x"] if isinstance(ids[0], str) else ids)
    chosen.choose(ids)
    path = chosen.save(tmp_path / "chosen.json")
    chosen.clear()
    chosen.load(path)
    assert chosen.ids.tolist() == ids
    assert [each.name for each in tmp_path.iterdir()] == ["chosen.json"]


def test_loading_into_another_table_changes_nothing(chosen, tmp_path):
    chosen.choose(["a"])
    path = chosen.save(tmp_path / "chosen.json")
    other = Selection(["b", "c"])
    other.choose(["b"])
    with pytest.raises(ValueError, match="no object 'a' among 2; ids are like 'b'"):
        other.load(path)
    assert other.ids.tolist() == ["b"]


@pytest.mark.parametrize("text", ["", "[1, 2]", json.dumps({"ids": []})])
def test_a_file_of_something_else(chosen, tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match="holds no selection; save one"):
        chosen.load(tmp_path / "x.json")


def test_a_binary_file(chosen, tmp_path):
    (tmp_path / "x.json").write_bytes(bytes(range(256)))
    with pytest.raises(ValueError, match="holds no selection; save one"):
        chosen.load(tmp_path / "x.json")


def test_bad_input(chosen):
    with pytest.raises(ValueError, match="ids are 'text'; give a list of them"):
        chosen.choose("text")
    with pytest.raises(ValueError, match="no object 'y' and 1 more among 4"):
        chosen.choose(["a", "y", "z"])
    with pytest.raises(ValueError, match="no object 'z' among 4"):
        chosen.look_at("z")
    with pytest.raises(ValueError, match="no way 'xor' to choose; there are replace, add"):
        chosen.choose(["a"], how="xor")
    with pytest.raises(ValueError, match="rows 2 to 9; there are 4 objects"):
        chosen.choose_rows([2, 9])
    with pytest.raises(ValueError, match="object 1 appears twice"):
        Selection([1, 1])
    assert len(chosen) == 0


def test_an_empty_table():
    empty = Selection([])
    assert empty.focus is None
    with pytest.raises(ValueError, match="no object 1 among 0; the table is empty"):
        empty.choose([1])


def test_a_million_objects():
    many = Selection(np.arange(10**6))
    many.choose_rows(np.arange(0, 10**6, 2))
    many.choose(np.arange(10), how="remove")
    assert len(many) == 499_995


def test_a_mask_chooses_what_it_marks_and_what_is_no_position_is_refused(chosen):
    chosen.choose_rows(np.array([False, True, False, True]))
    assert chosen.ids.tolist() == ["b", "d"]
    for wrong in ([1.7], [True, False], None, ["a"]):
        with pytest.raises(ValueError, match="give positions, or a mask of all objects"):
            chosen.choose_rows(wrong)
    assert chosen.ids.tolist() == ["b", "d"]


def test_a_float_is_no_id_of_a_long_integer():
    chosen = Selection([2**60 + 1, 2**60 + 3])
    with pytest.raises(ValueError, match=r"ids are floats, .*; give integers"):
        chosen.choose([float(2**60)])
    chosen.choose([2**60 + 3])
    assert chosen.rows.tolist() == [1]
