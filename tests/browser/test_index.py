"""The front page of the tutorials, as `skynb lab` opens it."""

import os
import re
import socket
import subprocess
import sys
import threading

import pytest

from skynb import workflows

pytestmark = [pytest.mark.browser, pytest.mark.slow]

LESSONS = (
    "1_snapshots_to_movies",
    "2_features_and_periods",
    "3_dmdt_images",
    "4_classifying",
    "5_maps_and_labels",
    "6_why",
    "7_a_night_of_alerts",
)
"""The lessons, in their order."""


@pytest.fixture
def address(tmp_path):
    """The address that ``skynb lab`` prints, of a user who has never used Jupyter before."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    new = {name: str(tmp_path / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR")}
    command = [sys.executable, "-m", "skynb.cli", "lab", str(tmp_path / "mine"), "--no-browser"]
    command += ["--port", str(port), "--allow-root"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=os.environ | new,
    )  # fmt: skip
    said = []
    for line in process.stderr:
        said.append(line)
        if found := re.search(r"http://127\.0\.0\.1\S+", line):
            break
    else:
        pytest.fail("".join(said))
    threading.Thread(target=process.stderr.read, daemon=True).start()  # or the pipe fills up
    yield found[0]
    process.terminate()
    process.wait(60)


def test_all_lessons_are_shown_and_open(address, page, screenshots):
    page.goto(address)
    front = page.locator(".jp-Notebook")
    links = front.locator("td a:has(strong)")
    links.nth(len(LESSONS) - 1).wait_for()
    pictures = front.locator("td img")
    page.wait_for_function(
        """() => [...document.querySelectorAll(".jp-Notebook td img")].filter(
            (img) => img.complete && img.naturalWidth > 0).length == 7"""
    )
    assert all(picture.get_attribute("alt") for picture in pictures.all())
    assert page.locator(".Toastify__toast").count() == 0
    page.screenshot(path=screenshots / "index.png")
    front.locator("h2", has_text="How to get back here").scroll_into_view_if_needed()
    page.screenshot(path=screenshots / "index-end.png")
    for number, name in enumerate(LESSONS):
        assert name in workflows.names()
        links.nth(number).click()
        tab = page.get_by_role("tab", name=f"{name}.ipynb")
        tab.wait_for()
        page.locator(".jp-Notebook:visible .jp-Cell").first.wait_for()
        page.get_by_role("tab", name="index.ipynb").click()
