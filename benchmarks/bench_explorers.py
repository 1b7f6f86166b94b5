"""Explorers: a box on the map to all views updated, the first view of a map, the kernel's memory.

    python -m benchmarks.bench_explorers [N_OBJECTS ...]

10^5 and 10^6 objects by default: simulated light curves, thinned to 60 points and repeated under
new ids, in a file of which only what is shown is read. Each size is a process of its own, as fresh
as a kernel after its imports. All views are the bus, the map, the light curves and dm-dt images of
the first chosen objects, and what is said of them, made and encoded for the page; what the browser
does with them is not in it.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from skynb import lightcurves, simulate

N_POINTS = 60
CHILD = """
import json, re, sys, time
import datashader, matplotlib.figure, scipy.ndimage, scipy.spatial, shapely
import numpy as np
from bokeh.core.json_encoder import serialize_json
from skynb import lightcurves, widgets

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

path, sent = sys.argv[1], []
widgets.view.Picture.send = lambda self, content, buffers=None: sent.append(len(str(content)))
figures = {"imported_mb": peak()}
start = time.perf_counter()
lcs = lightcurves.open(path)
figures["open_s"] = time.perf_counter() - start
n = len(lcs)
rng = np.random.default_rng(0)
kind = np.unique(lcs["label"].to_numpy(str), return_inverse=True)[1]
xy = rng.normal(0, 1, (n, 2)) + 3 * np.stack([np.cos(kind), np.sin(kind)], 1)
start = time.perf_counter()
explorer = widgets.MapExplorer(lcs, xy)
explorer._repr_mimebundle_()
for picture in widgets.view._pictures(explorer.child):
    serialize_json(picture._model_to_traits(picture._model))
figures["first_view_s"] = time.perf_counter() - start
seconds, chosen = [], []
for _ in range(20):
    x, y = rng.uniform(-3, 3, 2)
    half = rng.uniform(0.05, 2)
    start = time.perf_counter()
    explorer.choose_between(x - half, x + half, y - half, y + half)
    seconds.append(time.perf_counter() - start)
    chosen.append(len(explorer.selection))
figures |= {"box_median_s": np.median(seconds), "box_worst_s": max(seconds)}
figures |= {"chosen_median": int(np.median(chosen)), "chosen_most": max(chosen)}
angle = np.linspace(0, 2 * np.pi, 300)
start = time.perf_counter()
explorer.choose_inside(2 * np.cos(angle), 2 * np.sin(angle))
figures["lasso_s"] = time.perf_counter() - start
start = time.perf_counter()
explorer.nearest(1.0, 1.0)
figures["first_hover_s"] = time.perf_counter() - start
start = time.perf_counter()
explorer.look(-1, 1, -1, 1)
figures["zoom_s"] = time.perf_counter() - start
explorer.color = "period"
explorer.color = "density"
figures["peak_mb"] = peak()
print(json.dumps(figures))
"""


def main(*sizes):
    """Return one row of figures per number of objects, and print them."""
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for n_objects in sizes or (10**5, 10**6):
            path = _file(n_objects, Path(folder, f"{n_objects}.parquet"))
            done = subprocess.run(
                [sys.executable, "-c", CHILD, str(path)],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            rows[n_objects] = json.loads(done.stdout.splitlines()[-1])
            rows[n_objects]["file_mb"] = path.stat().st_size / 2**20
    table = pd.DataFrame(rows).T.rename_axis("objects")
    print(table.T.round(3).to_string())
    return table


def _file(n_objects, path):
    """Return ``path`` after writing so many simulated objects there, some row groups at a time."""
    lcs = _thinned(simulate.lightcurves(n_per_class=100, seed=0))
    once = pq.read_table(lightcurves.write(lcs, path))
    rows = max(1, lightcurves.GROUP // N_POINTS)
    with pq.ParquetWriter(path, once.schema, compression="zstd") as writer:
        for first in range(0, n_objects, len(once)):
            part = once.slice(0, n_objects - first)
            ids = np.char.add("sim-", np.arange(first, first + len(part)).astype(str))
            ids = pa.array(ids, once.schema.field("object_id").type)
            writer.write_table(part.set_column(0, "object_id", ids), row_group_size=rows)
    return path


def _thinned(lcs):
    """Return the table with `N_POINTS` observations of each object, drawn at random."""
    flat, rng = lightcurves.arrays(lcs), np.random.default_rng(0)
    frame = pd.DataFrame({name: getattr(flat, name) for name in ("mjd", "mag", "magerr")})
    frame["band"] = flat.band.to_pandas()
    for name in ("label", "period"):
        frame[name] = lcs[name].to_numpy()[flat.objects]
    frame["object_id"] = lcs.index.to_numpy()[flat.objects]
    drawn = frame.sample(frac=1, random_state=rng).groupby("object_id").head(N_POINTS)
    return lightcurves.from_flat(drawn.sort_index())


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
