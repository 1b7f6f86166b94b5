import numpy as np
import pandas as pd
import pytest

from skynb import lightcurves, simulate
from skynb.widgets import Explorer, Labeler, LightCurveExplorer, MapExplorer, Selection, explorer


@pytest.fixture
def lcs():
    return simulate.lightcurves(n_per_class=2, seed=1)


@pytest.fixture
def whole(lcs, tmp_path):
    return Explorer(lcs, path=tmp_path / "labels.csv", progress=False)


def test_nothing_but_light_curves(whole, lcs):
    assert whole.description.startswith("14 objects, 0 chosen. Object ")
    assert [part.message for part in whole._parts()] == [""] * 4
    assert all(part.selection is whole.selection for part in whole._parts())
    assert whole.map.placed.all()
    assert len(whole._repr_mimebundle_()[0]["text/html"]) > 10_000


def test_what_is_chosen_comes_into_view_and_cells_light_up_pairs(whole):
    rows = np.setdiff1d(np.arange(14), [whole.selection.focus])[[2, 5]]
    whole.selection.choose_rows(rows)
    assert whole.selection.focus == rows[0]
    assert "2 chosen" in whole.description
    whole.lightcurve.next()
    assert whole.selection.focus == rows[1]
    image = whole.dmdt.image
    cell = tuple(map(int, np.unravel_index(image.counts.argmax(), image.counts.shape)))
    whole.dmdt.cells = [cell]
    drawn = whole.lightcurve.curves.pairs.data["mjd_0"]
    assert len(drawn) == min(image.counts.max(), 2000)
    whole.lightcurve.double()
    assert whole.periods.index.tolist() == [whole.lcs.index[rows[1]]]
    whole.labeler.label("EW")
    assert whole.labels.to_dict() == {whole.lcs.index[rows[1]]: "EW"}


@pytest.mark.parametrize("n", [0, 1, 3])
def test_few_objects(lcs, n, tmp_path):
    few = Explorer(lcs.iloc[:n], path=tmp_path / "labels.csv")
    assert ("the table is empty" in few.lightcurve.message) == (n == 0)
    assert len(few.still()) > 1000


def test_more_objects_than_a_map_is_computed_of(lcs, tmp_path, monkeypatch):
    monkeypatch.setattr(explorer, "N_COMPUTED", 5)
    many = Explorer(lcs, path=tmp_path / "labels.csv")
    mag = lcs["lightcurve"].iloc[3]["mag"]
    place = many.map._frame.iloc[3][["x", "y"]].astype(float)
    np.testing.assert_allclose(place, [mag.mean(), np.log10(mag.std(ddof=0))])
    stored = lightcurves.open(lightcurves.write(lcs, tmp_path / "lcs.parquet"))
    with pytest.raises(ValueError, match=r"14 objects on disk are too many .* give an embedding"):
        Explorer(stored)
    xy = np.arange(28.0).reshape(14, 2)
    placed = Explorer(stored, xy, path=tmp_path / "labels.csv")
    assert placed.map._frame[["x", "y"]].to_numpy().tolist() == xy.tolist()


def test_bad_input(lcs, tmp_path):
    with pytest.raises(ValueError, match="expected an embedding of shape"):
        Explorer(lcs, np.zeros((3, 2)), path=tmp_path / "labels.csv", progress=False)
    with pytest.raises(ValueError, match="another table"):
        Explorer(lcs, selection=Selection(["x"]), progress=False)


def test_the_line_that_revives_it(whole, tmp_path):
    assert whole.revive().startswith("widgets.Explorer(lcs, classes=['EA', ")
    assert f"path='{tmp_path.resolve() / 'labels.csv'}'" in whole.revive()


@pytest.mark.parametrize("lcs", ["a.parquet", None, pd.DataFrame({"mjd": [1.0]})])
@pytest.mark.parametrize("cls", [Explorer, LightCurveExplorer, Labeler, MapExplorer])
def test_what_is_no_table_of_light_curves(cls, lcs):
    with pytest.raises(ValueError, match=r"without a column 'lightcurve'; .* lightcurves.open"):
        cls(lcs)


def test_leaves_the_bus(whole):
    whole.close()
    whole.selection.focus = 3
    whole.selection.choose_rows([1, 2])
    assert whole.lightcurve._row != 3
