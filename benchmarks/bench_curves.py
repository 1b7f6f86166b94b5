"""Explorers of one light curve: another object comes into view.

    python -m benchmarks.bench_curves

From the change of the object in view to everything that the page needs of it, made and encoded:
the light curve, raw and folded, its dm-dt image, the controls and the words. What the browser then
does is measured by tests/browser/test_lightcurve_explorer.py, from the key to the next frame drawn.
The search for periods is not in it: it starts when an object has rested for a while.
"""

import time

import numpy as np
import pandas as pd

from skynb import lightcurves, simulate, widgets

N_CHANGES = 40


def main():
    """Return the table of seconds per change, and print it."""
    tables = {
        "one band, 300 points": simulate.lightcurves(n_per_class=3, seed=1),
        "three bands, 400 points": simulate.lightcurves(n_per_class=3, cadence="ztf", seed=1),
        "one band, 2,000 points": _long(2_000),
        "one band, 20,000 points": _long(20_000),
    }
    rows = {}
    for name, lcs in tables.items():
        explorer = widgets.LightCurveExplorer(lcs)
        rows[name, "LightCurveExplorer"] = _changes(explorer.selection)
        bus = explorer.selection
        widgets.DmDtExplorer(lcs, selection=bus)
        rows[name, "and a DmDtExplorer"] = _changes(bus)
    table = pd.DataFrame(rows, index=["median_s", "worst_s"]).T
    print(f"{N_CHANGES} changes of object, seconds\n{table.round(4).to_string()}")
    return table


def _changes(bus):
    """Return the median and the longest time of a change of the object in view."""
    seconds = []
    for _ in range(N_CHANGES + 3):
        start = time.perf_counter()
        bus.focus = (bus.focus + 1) % len(bus.index)
        seconds.append(time.perf_counter() - start)
    return np.median(seconds[3:]), max(seconds[3:])


def _long(n):
    """Return four simulated light curves of so many points."""
    rng = np.random.default_rng(0)
    frames = []
    for k in range(4):
        mjd = np.sort(rng.uniform(58_000, 60_000, n))
        mag = 15 + 0.3 * np.sin(2 * np.pi * mjd / (0.3 + k)) + rng.normal(0, 0.03, n)
        columns = {"object_id": f"long-{k}", "mjd": mjd, "mag": mag, "magerr": 0.03, "band": "V"}
        frames.append(pd.DataFrame(columns | {"period": 0.3 + k}))
    return lightcurves.from_flat(pd.concat(frames))


if __name__ == "__main__":
    main()
