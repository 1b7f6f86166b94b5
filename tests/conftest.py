"""Fixtures shared by the tests, and the account of what ran on real data."""

import os
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items):
    if os.environ.get("SKYNB_MIRROR"):
        return
    for item in items:
        if item.get_closest_marker("real"):
            item.add_marker(pytest.mark.skip(reason="SKYNB_MIRROR is not set"))


def pytest_terminal_summary(terminalreporter):
    def count(outcome):
        reports = terminalreporter.stats.get(outcome, [])
        return sum("real" in report.keywords for report in reports)

    ran, skipped = count("passed") + count("failed"), count("skipped")
    terminalreporter.write_line(f"tests on real data: {ran} ran, {skipped} skipped")


@pytest.fixture(scope="session")
def mirror():
    """The folder of real public data."""
    return Path(os.environ["SKYNB_MIRROR"]).expanduser().resolve()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of its own."""
    path = tmp_path / "cache"
    monkeypatch.setenv("SKYNB_CACHE", str(path))
    return path


@pytest.fixture(scope="session")
def one_band_lcs():
    """Twenty-one simulated light curves, three of each of the seven classes, one band."""
    from skynb import simulate

    return simulate.lightcurves(n_per_class=3, seed=1)


@pytest.fixture(scope="session")
def ztf_lcs():
    """Seven simulated light curves in g, r and i."""
    from skynb import simulate

    return simulate.lightcurves(n_per_class=1, cadence="ztf", seed=1)
