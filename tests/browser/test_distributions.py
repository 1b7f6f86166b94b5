"""In a real JupyterLab the picture of a training replaces itself, and the last one stays."""

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

BEFORE = """
import numpy as np
from skynb import distributions, networks, plots
plots.extension()
rng = np.random.default_rng(0)
x, y = networks.inputs(rng.poisson(1, (64, 14, 14))), rng.integers(0, 2, 64)
model = networks.build("shallow", (14, 14, 1), 2)
model.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
drawn = []
def show(table):
    drawn.append(int(table["epoch"].max()))
    return plots.distributions(table)
seen = distributions.Distributions(x, y, show=show)
"""

TRAINING = "model.fit(x, y, epochs=30, verbose=0, callbacks=[seen]);"


def test_the_picture_replaces_itself(lab, screenshots):
    lab.open(BEFORE, TRAINING)
    lab.until("drawn[-1]", 30, seconds=120)
    drawn = lab.python("drawn")
    assert drawn[0] == 0
    assert len(drawn) >= 2
    figures = lab.page.locator(".jp-Cell .bk-Figure")
    figures.nth(11).locator("canvas").first.wait_for()
    assert figures.count() == 3 * 4
    lab.page.screenshot(path=screenshots / "distributions.png")
