"""What every explorer does in a real JupyterLab: it comes up, takes keys, and leaves a still."""

import json

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SOURCE = """
import ipywidgets
from bokeh.plotting import figure
from skynb.widgets import view

class Square(view.View):
    def __init__(self):
        ranges = {"x_range": (0, 4), "y_range": (0, 10)}
        plot = figure(name="square", width=300, height=200, tools="", **ranges)
        plot.scatter([1, 2, 3], [1, 4, 9])
        self.n = ipywidgets.IntText(3, description="number")
        super().__init__(view.Picture(plot), self.n, description="three squares")
        self.bind(a=self.more, x=self.fail)

    def more(self):
        self.n.value += 1

    def fail(self):
        raise ValueError("no <such> thing; try another")

    def draw(self, figure):
        figure.subplots().plot([1, 4, 9])

square = Square()
square
"""


def test_comes_up_takes_keys_and_says_what_is_wrong(lab, screenshots):
    lab.open(SOURCE)
    view = lab.view("Square")
    view.locator(".bk-Figure canvas").first.wait_for()
    assert view.get_attribute("aria-label") == "three squares"
    view.focus()
    lab.page.keyboard.press("a")
    lab.until("square.n.value", 4)
    lab.page.keyboard.press("x")
    alert = view.get_by_role("alert")
    alert.wait_for()
    assert alert.inner_text() == "no <such> thing; try another"
    lab.page.keyboard.press("a")
    alert.wait_for(state="detached")
    view.locator("input").fill("7")
    lab.page.keyboard.press("a")
    assert lab.python("square.n.value") in (5, 7)
    path = lab.folder / "notebook.ipynb"
    assert not json.loads(path.read_text())["cells"][0]["outputs"]
    view.focus()
    lab.page.keyboard.press("a")
    lab.until("square.n.value > 5", True)
    lab.page.keyboard.press("Control+s")
    lab.page.wait_for_function("() => !document.querySelector('.jp-mod-dirty')")
    assert json.loads(path.read_text())["cells"][0]["outputs"]
    lab.page.keyboard.press("x")  # which cuts the cell where JupyterLab hears of it
    alert.wait_for()
    assert lab.violations() == []
    view.screenshot(path=screenshots / "view.png")


HEARD = """
heard, picture = [], square.child.children[0]
picture.on_msg(lambda _, content, buffers: heard.append([content["attr"], content["new"]]))
"""

RANGE = "() => Bokeh.documents.at(-1).get_model_by_name('square').x_range"


def test_a_picture_does_not_send_back_what_it_heard(lab):
    """An older state that comes back late would undo a newer one."""
    lab.open(SOURCE, HEARD)
    lab.view("Square").locator(".bk-Figure canvas").first.wait_for()
    lab.python("[setattr(picture._model.x_range, 'end', 5 + k) for k in range(20)]")
    lab.page.wait_for_function(f"({RANGE})().end === 24")
    lab.page.evaluate(f"({RANGE})().start = -1")
    lab.until("[each for each in heard if each[0] in ('start', 'end')]", [["start", -1]])
    assert lab.python("[picture._model.x_range.start, picture._model.x_range.end]") == [-1, 24]


def test_after_a_reload_it_is_there_again_and_without_a_kernel_a_still(lab):
    lab.open(SOURCE, name="saved")
    lab.view("Square").locator(".bk-Figure canvas").first.wait_for()
    lab.page.keyboard.press("Control+s")
    lab.page.wait_for_function("() => !document.querySelector('.jp-mod-dirty')")
    lab.show("saved.ipynb")
    lab.view("Square").locator(".bk-Figure canvas").first.wait_for()
    lab.show_saved_without_a_kernel("saved.ipynb")
    still = lab.page.get_by_alt_text("Square: three squares")
    still.wait_for()
    assert still.evaluate("image => image.naturalWidth") > 300
    assert lab.page.get_by_text(
        "run its cell again, or a line like widgets.Square(lcs)."
    ).is_visible()
