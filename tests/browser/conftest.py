"""A real Chromium, with the outside world shut off and every complaint of the page noted."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
]
INSIDE = ("file", "data", "blob", "about")
HERE = ("127.0.0.1", "localhost")


def _on_path():
    """The browser that is there already."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        raise FileNotFoundError(f"none of {', '.join(NAMES)} is on the PATH")
    return found


def _from_playwright():
    """Playwright's own build, downloaded once; None is where Playwright looks by itself."""
    _quietly(sys.executable, "-m", "playwright", "install", "chromium")


def _from_debian():
    """Debian's package, where this process may install it."""
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise PermissionError("apt-get is missing, or this is not root")
    _quietly("apt-get", "update")
    _quietly("apt-get", "install", "--yes", "--no-install-recommends", "chromium")
    return shutil.which("chromium")


def _quietly(*command):
    """Run a command; the first line that speaks of an error is the message if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise OSError(next((line for line in lines if "rror" in line), lines[-1]))


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium or Chrome, found or installed; where there is none, CI fails."""
    from playwright.sync_api import Error, sync_playwright

    failures = []
    with sync_playwright() as playwright:
        for source in (_on_path, _from_playwright, _from_debian):
            try:
                found = playwright.chromium.launch(executable_path=source(), args=ARGUMENTS)
            except (Error, OSError, subprocess.TimeoutExpired) as error:
                failures.append(f"{source.__name__.strip('_')}: {str(error).strip()[:300]}")
                continue
            yield found
            found.close()
            return
    reason = "no browser could be had; " + "; ".join(failures)
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def page(browser):
    """A page that cannot reach beyond this machine; it must not try, nor report an error."""
    complaints = []

    def guard(route):
        address = urlsplit(route.request.url)
        if address.scheme in INSIDE or address.hostname in HERE:
            route.continue_()
        else:
            complaints.append(f"asked for {route.request.url}")
            route.abort()

    context = browser.new_context(viewport={"width": 1500, "height": 1000})
    context.route("**/*", guard)
    context.set_default_timeout(120_000)
    page = context.new_page()
    page.on("console", lambda m: m.type == "error" and complaints.append(f"console: {m.text}"))
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    yield page
    context.close()
    assert complaints == []


@pytest.fixture
def screenshots(tmp_path):
    """The folder for pictures of the browser: SKYNB_SCREENSHOTS, else a temporary one."""
    folder = Path(os.environ.get("SKYNB_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
