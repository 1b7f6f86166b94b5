"""The reference made from docstrings, and the gallery that says what notebooks cost."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from skynb import workflows

ROOT = Path(__file__).parents[1]


@pytest.fixture
def gallery():
    """The script docs/gallery.py, as a module."""
    spec = importlib.util.spec_from_file_location("gallery", ROOT / "docs" / "gallery.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_reference_is_whole_quiet_and_offline(tmp_path):
    command = [sys.executable, "-m", "pdoc", "--docformat", "numpy", "--template-directory"]
    done = subprocess.run(
        [*command, str(ROOT / "docs"), "--output-directory", str(tmp_path), "skynb"],
        capture_output=True, text=True, cwd=ROOT, env=os.environ | {"PDOC_ALLOW_EXEC": "1"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    modules = {path.stem for path in (ROOT / "skynb").glob("[a-z]*.py")} | {"widgets"}
    assert {path.stem for path in (tmp_path / "skynb").glob("*.html")} == modules
    widgets = (tmp_path / "skynb" / "widgets.html").read_text()
    assert widgets.count('src="data:image/png') >= 7
    assert "img{max-width:100%;}" in widgets
    pages = "".join(page.read_text() for page in tmp_path.rglob("*.html"))
    assert 'src="http' not in pages
    assert 'rel="stylesheet"' not in pages


def test_a_gallery_has_the_costs_and_keeps_all_else(gallery, tmp_path, monkeypatch):
    head = '"**Question.** Why?\\n",\n "**Goals.** Know.\\n",\n '
    head += '"*Measured: 00 s and 000 MB on one core, here.*"'
    cells = '{"cells": [{"cell_type": "markdown", "metadata": {}, "source": [\n %s\n]}],\n%s'
    rest = '   "metadata": {}, "nbformat": 4, "nbformat_minor": 4}\n'
    paths = [tmp_path / name for name in ("notebooks/a.ipynb", "tutorials/1_b.ipynb")]
    for path in paths:
        path.parent.mkdir()
        path.write_text(cells % (head, rest))
    run = {"notebook": "1_b", "cells": [{"seconds": 13.6, "peak_memory_mb": 617.2}]}
    (tmp_path / "runs" / "1_b").mkdir(parents=True)
    (tmp_path / "runs" / "1_b" / "results.json").write_text(json.dumps(run))
    readme = tmp_path / "README.md"
    table = "x\n<!-- gallery -->\n| [a](n) | Which? | 3 s | 4 MB |\n{}<!-- /gallery -->\ny\n"
    readme.write_text(table.format("| [gone](n) | Where? |\n"))
    monkeypatch.setattr(workflows, "names", lambda: {path.stem: path for path in paths})
    assert gallery.main(tmp_path / "runs", readme) == 0
    lesson = "| [1_b](tutorials/1_b.ipynb) | Why? | 14 s | 620 MB |\n"
    other = "| [a](notebooks/a.ipynb) | Which? | 3 s | 4 MB |\n"
    written = f"x\n<!-- gallery -->\n{gallery.HEAD}{lesson}{other}<!-- /gallery -->\ny\n"
    assert readme.read_text() == written
    new = head.replace("00 s and 000", "14 s and 620").replace("here", "with the defaults")
    assert [path.read_text() for path in paths] == [cells % (head, rest), cells % (new, rest)]
    gallery.main(tmp_path / "runs", readme)
    assert readme.read_text() == written


def test_readme_has_a_row_for_each_notebook(gallery):
    rows = gallery.ROW.findall(gallery.TABLE.search((ROOT / "README.md").read_text())[0])
    assert {name for name, *_ in rows} == set(workflows.names())
