"""skynb predict: light curves per second and core, and peak memory, for short and long files.

    python -m benchmarks.bench_predict [LONG]

Catalina curves if SKYNB_MIRROR is set, else simulated ones, repeated under new ids up to LONG
objects (10^5 by default) for the dm-dt network and a tenth of that for the hybrid with its period
search. Each run is a process of its own, on one thread; start-up is the run on ten objects.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from skynb import classify, datasets, lightcurves, taxonomy

CHILD = """
import re, sys, time
from skynb import cli
cli.main(sys.argv[1:])
peak = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())
print(time.process_time(), int(peak[1]) / 1024)
"""
ONE = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"), "1")


def main(n_long=100_000):
    """Return one row of figures per run, and print them."""
    lcs = datasets.load("crts" if os.environ.get("SKYNB_MIRROR") else "simulated", n_per_class=40)
    lcs = datasets.labelled(lcs, taxonomy.SEVEN)
    y, rows = lcs["label"].to_numpy(str), []
    with tempfile.TemporaryDirectory() as folder:
        for kind, n_objects in (("dmdt_cnn", n_long), ("hybrid", n_long // 10)):
            model = Path(folder, "model.skynb")
            classify.LightCurveClassifier(kind).fit(lcs, y).save(model)
            start = _run(model, _file(lcs, 10, folder))
            for n in (n_objects // 10, n_objects):
                seconds, memory = _run(model, _file(lcs, n, folder))
                rows.append((kind, n, n / (seconds - start[0]), memory))
                print(
                    f"{kind}: {n} objects, {rows[-1][2]:.0f} per second and core, {memory:.0f} MB"
                )
    return rows


def _file(lcs, n_objects, folder):
    """Return the path of a nested file of so many objects, written a piece at a time."""
    path = Path(folder, f"{n_objects}.parquet")
    if path.exists():
        return path
    once = pq.read_table(lightcurves.write(lcs, Path(folder, "once.parquet")))
    once = once.select(["object_id", "lightcurve"])
    with pq.ParquetWriter(path, once.schema) as writer:
        for first in range(0, n_objects, len(once)):
            part = once.slice(0, n_objects - first)
            ids = np.char.add(np.arange(first, first + len(part)).astype(str), "-again")
            writer.write_table(part.set_column(0, "object_id", pa.array(ids, once.schema[0].type)))
    return path


def _run(model, path):
    """Return the CPU seconds and the peak memory [MB] of ``skynb predict``."""
    arguments = ["predict", str(model), str(path), "-o", str(path.with_suffix(".out.parquet"))]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *arguments],
        env={**os.environ, **ONE}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    seconds, memory = done.stdout.split()[-2:]
    return float(seconds), float(memory)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
