"""A report opened in a real browser with the network cut shows every picture."""

import io
import re

import nbformat
import numpy as np
import pytest
from PIL import Image

from skynb import plans, sweep, workflows

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CELLS = [
    "from skynb import dmdt, lightcurves, periods, plots, simulate\nimport numpy as np",
    "plots.extension()",
    "lcs = simulate.lightcurves(n_per_class=2, seed=1)\nlc = lcs['lightcurve'].iloc[0]",
    "mjd, mag, magerr = (lc[name].to_numpy() for name in ('mjd', 'mag', 'magerr'))",
    "plots.lightcurve(lc) + plots.folded(lc, 0.25)",
    "plots.dmdt(dmdt.image(mjd, mag))",
    "plots.periodogram(periods.periodogram(mjd, mag, magerr))",
    "plots.confusion(np.eye(3, dtype=int), ['EW', 'EA', 'LPV'])",
    "xy = np.random.default_rng(0).normal(size=(len(lcs), 2))",
    "plots.embedding(xy, lcs['label'], object_id=lcs.index)",
    "plots.taxonomy()",
    "plots.class_grid(lcs)",
    "plots.class_grid(simulate.lightcurves(n_per_class=1, cadence='ztf', classes=['EW', 'SN']))",
    "plots.lightcurve(lc) + plots.dmdt(dmdt.image(mjd, mag))",
]


# Panel's link to the kernel, absent from a report, is the one document that never rests.
DRAWN = """() => Bokeh.documents.every(
    (d) => d.is_idle || d.roots().some((root) => root.type.endsWith("CommManager")))"""


def _figures(page, report):
    """Open a report offline and return the pictures of its figures, once all are drawn."""
    text = report.read_text(encoding="utf-8")
    expected = len(re.findall(r'"type": ?"object", ?"name": ?"Figure"', text))
    page.context.set_offline(True)
    page.goto(report.resolve().as_uri())
    figures = page.locator(".bk-Figure")
    figures.nth(expected - 1).wait_for(state="attached")
    page.wait_for_function(DRAWN)
    assert figures.count() == expected
    page_right = _right(page.locator("main"))
    assert [k for k, each in enumerate(figures.all()) if _right(each) > page_right] == []
    return [Image.open(io.BytesIO(each.screenshot())) for each in figures.all()]


def _right(element):
    box = element.bounding_box()
    return box["x"] + box["width"]


def _has_content(picture):
    """Whether anything is drawn in the middle of a figure, away from its axes and tools."""
    pixels = np.asarray(picture.convert("RGB"))
    height, width, _ = pixels.shape
    inside = pixels[height // 5 : -height // 4, width // 5 : -width // 3].reshape(-1, 3)
    return len(inside) > 0 and len(np.unique(inside, axis=0)) > 3


def _check(page, run, screenshots, *, at_least):
    assert run.status == "done", run.error
    pictures = _figures(page, run.report)
    for k, picture in enumerate(pictures):
        picture.save(screenshots / f"{run.notebook}-{k:02d}.png")
    assert len(pictures) >= at_least
    assert [k for k, picture in enumerate(pictures) if not _has_content(picture)] == []
    assert run.report.stat().st_size < 25e6


def test_every_plot_is_shown_offline(page, screenshots, tmp_path):
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    path = tmp_path / "plots.ipynb"
    nbformat.write(notebook, path)
    run = workflows.run(path, out=tmp_path / "run", progress=False)
    _check(page, run, screenshots, at_least=7 + 3 * 7 + 3 * 2 + 2)


def test_atlas_is_shown_offline(page, screenshots, tmp_path):
    run = workflows.run("atlas", {"n_per_class": 12}, out=tmp_path, progress=False)
    _check(page, run, screenshots, at_least=12)


def test_the_index_of_a_sweep_is_shown_offline_and_sorts(page, screenshots, tmp_path):
    code = nbformat.v4.new_code_cell
    cells = [
        code("n: int = 1", metadata={"tags": ["parameters"]}),
        code("from skynb import plots, simulate, workflows\nplots.extension()"),
        code("lcs = simulate.lightcurves(n_per_class=1, seed=n)\nassert n < 30, 'too many'"),
        code("plots.lightcurve(lcs['lightcurve'].iloc[0])"),
        code("workflows.record(largest=100 - n, name=f'<b>{n}</b>')"),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "a.ipynb")
    (tmp_path / "s.yml").write_text("notebook: a.ipynb\ngrid: {n: [3, 20, 100]}\n")
    sweep.run(plans.read(tmp_path / "s.yml", out=tmp_path / "out"), workers=2)
    pictures = _figures(page, tmp_path / "out" / "index.html")
    assert len(pictures) == 2
    assert all(map(_has_content, pictures))
    page.screenshot(path=screenshots / "sweep.png", full_page=True)

    def column(k):
        return page.locator(f"tbody td:nth-child({k})").all_inner_texts()

    assert column(2) == ["done", "done", "failed"]
    assert page.locator("section p").inner_text().startswith("failed n=100-")
    assert ", cell 3: " in page.locator("section p").inner_text()
    assert "AssertionError: too many" in page.locator("section pre").inner_text()
    page.get_by_role("button", name="largest").click()
    assert column(6) == ["80", "97", ""]
    page.get_by_role("button", name="largest").click()
    assert column(6) == ["97", "80", ""]
    assert column(7) == ["<b>3</b>", "<b>20</b>", ""]
    page.get_by_role("link", name="n=20-").first.click()
    page.locator(".bk-Figure").wait_for()
    assert page.title() == "a"


@pytest.mark.parametrize(
    ("name", "given", "explorers"),
    [
        ("label", {"n_per_class": 9, "n_least": 9, "n_labels": 10, "n_seeds": 1}, ["Labeler"]),
        (
            "explore",
            {"n_per_class": 5},
            ["MapExplorer", "LightCurveExplorer", "DmDtExplorer", "Labeler", "Explorer"],
        ),
        ("alerts", {"n_packets": 20}, ["StampExplorer"]),
    ],
)
def test_explorers_leave_stills_in_a_report(name, given, explorers, page, screenshots, tmp_path):
    run = workflows.run(name, given, out=tmp_path, progress=False)
    assert run.status == "done", run.failure
    page.context.set_offline(True)
    page.goto(run.report.resolve().as_uri())
    for explorer in explorers:
        still = page.get_by_alt_text(re.compile(f"^{explorer}: "))
        still.scroll_into_view_if_needed()
        assert still.is_visible()
        assert still.evaluate("image => image.naturalWidth") > 300
        assert _has_content(Image.open(io.BytesIO(still.screenshot())))
        line = page.locator("figcaption").get_by_text(
            re.compile(rf"^widgets\.{explorer}\((lcs|alerts)")
        )
        assert line.is_visible()
    text = page.locator("main").inner_text()
    assert "Traceback" not in text
    assert "A live widget" not in text
    assert "revives it" not in text  # the plain text, for where there is neither
    page.locator("main").screenshot(path=screenshots / f"report-{name}.png")
    assert "widgets" not in nbformat.read(run.path, as_version=4).metadata
    assert run.path.stat().st_size < 9e6


def test_a_report_runs_its_scripts_and_folds_its_code(page, tmp_path):
    code, output = nbformat.v4.new_code_cell, nbformat.v4.new_output
    script = {"application/javascript": "element.textContent = 'drawn'"}
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [code("import numpy"), code("js", outputs=[output("display_data", script)])]
    nbformat.write(notebook, tmp_path / "js.ipynb")
    report = workflows.report(tmp_path / "js.ipynb", tmp_path / "js.html")
    page.goto(report.as_uri())
    assert page.get_by_text("drawn").is_visible()
    assert not page.get_by_text("import numpy").first.is_visible()
    page.locator("summary").first.click()
    assert page.get_by_text("import numpy").first.is_visible()


def test_a_report_that_asks_for_the_outside_is_caught(browser, tmp_path):
    html = tmp_path / "bad.html"
    html.write_text("<img src='https://example.org/a.png'>")
    context, asked = browser.new_context(), []
    context.route("**/*", lambda route: (asked.append(route.request.url), route.continue_()))
    context.set_offline(True)
    context.new_page().goto(html.as_uri())
    context.close()
    assert "https://example.org/a.png" in asked
