"""ExplanationViewer in a real JupyterLab, driven with mouse and keyboard."""

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SOURCE = """
import numpy as np
from skynb import classify, simulate, widgets

options = {"n_networks": 1, "epochs": 12, "n_copies": 1, "batch_size": 8}
kinds = {"classes": ["EW", "EA", "RRab", "LPV"]}
known = simulate.lightcurves(**kinds, n_per_class=10, seed=1)
held = simulate.lightcurves(**kinds, n_per_class=5, seed=3)
lcs = simulate.lightcurves(**kinds, n_per_class=2, seed=2)
model = classify.LightCurveClassifier("dmdt_cnn", options=options).fit(known, known["label"])
explorer = widgets.ExplanationViewer(lcs, model, training=known, calibration=held)
bus = explorer.selection

def most():
    return int(np.nanargmax(np.abs(explorer.explanation.shares)))

explorer
"""


def test_objects_methods_and_classes(lab, screenshots):
    lab.open(SOURCE)
    view, press = lab.view("ExplanationViewer"), lab.page.keyboard.press
    view.locator(".bk-Figure canvas").first.wait_for()

    def agrees():
        """The page shows the shares, the map and the probabilities of the object in focus."""
        shares = lab.python("np.nan_to_num(explorer.explanation.shares).tolist()")
        lab.until(lambda: lab.marked("raw", "points").get("share"), pytest.approx(shares))
        values = lab.python(
            "explorer.explanation.attribution[explorer.explanation.attribution != 0].tolist()"
        )
        lab.until(lambda: lab.marked("dmdt", "attribution")["value"], pytest.approx(values))
        for name, p in lab.python("list(explorer.explanation.probability.items())"):
            line = view.get_by_role("row").filter(
                has=lab.page.get_by_role("rowheader", name=name, exact=True)
            )
            line.get_by_text(f"{p:.3f}").wait_for()

    agrees()
    assert view.get_by_text("set that promises 90%").count() >= 1
    nearest = lab.python("explorer.explanation.nearest.index.tolist()")
    view.get_by_role("button", name=f"{nearest[1]}:").click()
    second = lab.python(
        "known['lightcurve'].loc[explorer.explanation.nearest.index[1]]['mag'].tolist()"
    )
    lab.until(lambda: lab.marked("example", "points")["mag"], second)

    view.get_by_role("button", name="next").click()
    lab.until("bus.focus", 1)
    agrees()
    view.focus()
    press("n")
    lab.until("bus.focus", 2)
    agrees()
    lab.page.mouse.move(0, 0)
    view.screenshot(path=screenshots / "ExplanationViewer.png")

    before = lab.marked("dmdt", "attribution")["value"]
    view.get_by_label("method").select_option("saliency")
    lab.until("explorer.method", "saliency")
    agrees()
    assert lab.marked("dmdt", "attribution")["value"] != before
    view.get_by_role("status").get_by_text("by saliency").wait_for()
    view.focus()
    press("m")
    lab.until("explorer.method", "smoothgrad")
    view.get_by_label("method").select_option("integrated")
    lab.until("explorer.method", "integrated")
    view.get_by_label("explain class").select_option("LPV")
    lab.until("explorer.explained", "LPV")
    agrees()
    other = lab.python("explorer.explanation.against")
    view.get_by_role("status").get_by_text(f"Explained: LPV, not {other}").wait_for()
    view.focus()
    press("c")
    lab.until("explorer.explained", "RRab")

    at = lab.python("most()")
    lab.page.mouse.move(
        *lab.spot("raw", *lab.python(f"explorer.lc[['mjd', 'mag']].iloc[{at}].tolist()"))
    )
    lab.until("bus.hovered is not None", True)
    view.get_by_role("status").get_by_text("Its share:").wait_for()

    view.get_by_label("go to object").fill("nobody")
    press("Enter")
    view.get_by_role("alert").get_by_text("no object 'nobody' among 8").wait_for()
    assert lab.python("bus.focus") == 2
    assert lab.violations() == []


def test_trees_show_features(lab, screenshots):
    trees = "classify.LightCurveClassifier('boosted', options={'n_rounds': 20}, max_frequency=0)"
    lab.open(SOURCE.replace('classify.LightCurveClassifier("dmdt_cnn", options=options)', trees))
    view = lab.view("ExplanationViewer")
    view.locator(".bk-Figure canvas").first.wait_for()
    top = lab.python("explorer.explanation.shap.iloc[:10].tolist()")
    lab.page.wait_for_timeout(500)
    view.focus()
    lab.page.keyboard.press("n")
    lab.until("bus.focus", 1)
    again = lab.python("explorer.explanation.shap.iloc[:10].tolist()")
    assert again != top
    view.get_by_label("explain class").select_option("runner-up")
    lab.until("explorer.explained", "runner-up")
    view.screenshot(path=screenshots / "features.png")
    assert lab.violations() == []
