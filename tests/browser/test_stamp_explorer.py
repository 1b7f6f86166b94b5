"""StampExplorer in a real JupyterLab: through the alerts by key, button and id; a still after."""

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SOURCE = """
import numpy as np
import pandas as pd
from skynb import alerts, widgets
rng = np.random.default_rng(0)
n = 5
triplets = rng.normal(size=(n, 63, 63, 3)).astype(np.float32)
y, x = np.mgrid[:63, :63]
star = 60 * np.exp(-((x - 31) ** 2 + (y - 31) ** 2) / 8)
triplets[..., 0] += star
triplets[..., 2] += star
candidates = pd.DataFrame(
    {"object_id": [f"ZTF{k // 2}" for k in range(n)], "mjd": 59000.25 + np.arange(n),
     "band": ["g", "r", "g", "r", "g"], "magpsf": 18 + np.arange(n) / 10, "sigmapsf": 0.08,
     "drb": [0.9, 0.1, 0.5, 0.99, 0.2]},
    index=1095578115815010000 + np.arange(n),
)
seen = candidates[["object_id", "mjd", "band", "magpsf", "sigmapsf"]]
seen = seen.assign(kind="detection", isdiffpos=True, diffmaglim=20.5, candid=candidates.index)
limits = seen.assign(mjd=seen["mjd"] - 3, magpsf=np.nan, kind="limit", candid=pd.NA)
history = pd.concat([seen, limits], ignore_index=True)
nothing = pd.DataFrame({"where": [], "reason": []})
packets = alerts.Alerts(candidates, triplets, history, nothing, n, 0)
explorer = widgets.StampExplorer(packets)
explorer
"""


def test_alerts_one_by_one(lab, screenshots):
    lab.open(SOURCE)
    view, press = lab.view("StampExplorer"), lab.page.keyboard.press
    view.locator(".bk-Figure canvas").first.wait_for()
    view.get_by_role("status").get_by_text("Alert 1095578115815010000 of ZTF0").wait_for()
    view.focus()
    press("n")
    lab.until("explorer.selection.focus", 1)
    press("p")
    lab.until("explorer.selection.focus", 0)
    press("o")
    lab.until("explorer.order", "likeliest real first")
    lab.until("explorer.selection.focus", 3)
    view.get_by_role("status").get_by_text("1 of 5 likeliest real first").wait_for()
    view.get_by_role("button", name="next").click()
    lab.until("explorer.selection.focus", 0)
    field = view.get_by_label("go to candid or object")
    field.fill("1095578115815010002")
    field.press("Enter")
    lab.until("explorer.selection.focus", 2)
    field.fill("nothing")
    field.press("Enter")
    alert = view.get_by_role("alert")
    alert.wait_for()
    assert "no object 'nothing' among 5" in alert.inner_text()
    view.get_by_label("stretch").select_option("minmax")
    lab.until("explorer.stretch", "minmax")
    view.get_by_label("stretch").select_option("asinh")
    lab.until("explorer.stretch", "asinh")
    assert lab.violations() == []
    view.screenshot(path=screenshots / "StampExplorer.png")
