"""StampExplorer without a browser."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from bokeh.models import HoverTool

from skynb import explain, networks, stamps
from skynb.alerts import Alerts
from skynb.widgets import Selection, StampExplorer

N = 6
CANDIDS = np.array([1095578115815010000 + k for k in range(N)])  # beyond 2^53


@pytest.fixture
def alerts():
    """Alerts of three objects, two of each."""
    rng = np.random.default_rng(0)
    triplets = rng.normal(size=(N, 63, 63, 3)).astype(np.float32)
    triplets[:, 30:33, 30:33] += 20
    candidates = pd.DataFrame(
        {
            "object_id": [f"ZTF{k // 2}" for k in range(N)], "mjd": 59000.0 + np.arange(N),
            "band": ["g", "r"] * 3, "magpsf": 18.0 + np.arange(N), "sigmapsf": 0.1,
            "drb": [0.9, 0.1, 0.5, 0.99, 0.2, 0.3], "ssdistnr": [-999.0, 0.5, *[-999.0] * 4],
        },
        index=pd.Index(CANDIDS, name="candid"),
    )  # fmt: skip
    seen = candidates[["object_id", "mjd", "band"]].assign(
        magpsf=candidates["magpsf"], sigmapsf=0.1
    )
    seen = seen.assign(kind="detection", isdiffpos=True, diffmaglim=20.5, candid=candidates.index)
    limits = seen.assign(mjd=seen["mjd"] - 10, magpsf=np.nan, kind="limit", candid=pd.NA)
    history = pd.concat([seen, limits], ignore_index=True)
    nothing = pd.DataFrame({"where": [], "reason": []})
    return Alerts(candidates, triplets, history, nothing, N, 0)


class Model:
    """What the explorer asks of a real/bogus model."""

    normalization = "per_row"

    def __init__(self):
        keras = networks.load_keras()
        keras.utils.set_random_seed(0)
        layers = [keras.Input((63, 63, 3)), keras.layers.Conv2D(2, 5, activation="relu")]
        layers += [keras.layers.Flatten(), keras.layers.Dense(1, activation="sigmoid")]
        self.network_ = keras.Sequential(layers)

    def score(self, triplets):
        x = stamps.normalize(triplets, self.normalization)
        return np.asarray(self.network_(x))[:, 0]


def test_it_goes_through_the_alerts_in_any_order(alerts):
    explorer = StampExplorer(alerts)
    assert explorer.description.startswith(f"Alert {CANDIDS[0]} of ZTF0, 1 of 6 as given: g, MJD")
    for order, expected in (
        ("likeliest real first", [3, 0, 2, 5, 4, 1]),
        ("likeliest bogus first", [1, 4, 5, 2, 0, 3]),
        ("newest first", [5, 4, 3, 2, 1, 0]),
    ):
        explorer.order = order
        seen = []
        for _ in range(N + 1):
            seen.append(explorer.selection.focus)
            explorer.next()
        assert seen == [*expected, expected[-1]]
    explorer.previous()
    assert explorer.selection.focus == 1
    explorer.selection.choose_rows([0, 2, 4])
    explorer.order = "likeliest real first"
    assert explorer.ordered().tolist() == [0, 2, 4]
    assert "1 of 3" in explorer.description


def test_it_shows_the_stamps_the_history_and_what_the_packet_says(alerts):
    explorer = StampExplorer(alerts)
    explorer.go_to(str(CANDIDS[1]))
    for k, frame in enumerate(explorer._frames):
        shown = frame.source.data["image"][0]
        np.testing.assert_allclose(shown, stamps.stretch(alerts.triplets[1][..., k]), atol=1e-6)
    drawn = explorer._curve.source.data
    assert sorted(drawn["kind"]) == ["detection"] * 2 + ["limit"] * 2
    limit = np.asarray(drawn["kind"]) == "limit"
    np.testing.assert_array_equal(np.asarray(drawn["fill"]) == 0, limit)  # hollow
    assert explorer._curve.ring.data["mag"].tolist() == [19.0]
    assert "drb 0.1, ssdistnr 0.5" in explorer._status.value
    explorer.go_to("ZTF2")
    assert explorer.selection.focus == 4
    assert "ssdistnr" not in explorer._status.value
    explorer.stretch = "linear"
    shown = explorer._frames[0].source.data["image"][0]
    np.testing.assert_allclose(
        shown, stamps.stretch(alerts.triplets[4][..., 0], "linear"), atol=1e-6
    )


def test_a_model_gives_scores_and_the_pixels_they_hang_on(alerts):
    model = Model()
    explorer = StampExplorer(alerts, model=model)
    assert np.array_equal(explorer.scores, model.score(alerts.triplets))
    explorer.selection.focus = 2
    x = stamps.normalize(alerts.triplets[2:3], "per_row")
    expected = explain.attribute(model.network_, x, 0, method="saliency")[0]
    np.testing.assert_allclose(explorer.saliency(), expected, atol=1e-6)
    np.testing.assert_allclose(explorer._frames[3].source.data["image"][0], expected, atol=1e-6)
    assert f"score {explorer.scores[2]:.3f}" in explorer.description


def test_a_still_and_a_line_that_revives_it(alerts):
    explorer = StampExplorer(alerts, model=Model())
    before = explorer.still()
    assert before[:4] == b"\x89PNG"
    explorer.next()
    assert explorer.still() != before
    again = eval(explorer.revive().removeprefix("widgets."), {
        "StampExplorer": StampExplorer, "alerts": alerts, "model": explorer.model,
    })  # fmt: skip
    assert again.description.startswith(f"Alert {CANDIDS[0]}")


def test_explorers_share_a_bus(alerts):
    bus = Selection(alerts.candidates)
    one, other = (StampExplorer(alerts, selection=bus) for _ in range(2))
    one.next()
    assert str(CANDIDS[1]) in other.description
    other.close()
    one.next()
    assert str(CANDIDS[1]) in other.description


def test_the_pointer_is_told_what_the_history_holds(alerts):
    curve = StampExplorer(alerts)._curve
    (tool,) = curve.figure.select({"type": HoverTool})
    columns = re.findall(r"@(\w+)", " ".join(text for _, text in tool.tooltips))
    assert set(columns) == {"kind", "band", "mjd", "mag", "sign"} <= set(curve.source.data)
    limits = curve.source.data["kind"] == "limit"
    assert set(curve.source.data["sign"][limits]) == {"upper limit"}
    assert set(curve.source.data["sign"][~limits]) == {"brighter"}


def test_bad_input_is_said(alerts):
    with pytest.raises(ValueError, match="there is no alert; give at least one"):
        StampExplorer(replace(alerts, candidates=alerts.candidates[:0]))
    with pytest.raises(ValueError, match="selection is of other alerts"):
        StampExplorer(alerts, selection=Selection([1, 2]))
    explorer = StampExplorer(alerts)
    with pytest.raises(ValueError, match="no order 'best'; choose from as given"):
        explorer.order = "best"
    explorer._receive(None, {"key": "n"}, [])
    explorer.go_to(CANDIDS[2])
    with pytest.raises(ValueError, match="no object 7 among 6"):
        explorer.go_to("7")


def test_no_alert_in_focus_is_said(alerts):
    explorer = StampExplorer(alerts)
    explorer.selection.focus = None
    assert explorer.message == "no alert is looked at; press n"
    explorer.next()
    assert explorer.message == ""
