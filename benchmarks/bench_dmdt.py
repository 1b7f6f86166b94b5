"""dm-dt counts: skynb.dmdt.images beside light-curve's DmDt.points_many.

    python -m benchmarks.bench_dmdt [REPEATS]

The paper's grid over all Catalina curves if SKYNB_MIRROR is set, else over simulated ones, at one
and two threads. The two take turns; the best of the repeats counts, reading and compiling do not.
"""

import os
import sys
import threading
import time

import light_curve
import numba
import numpy as np
import psutil

from skynb import datasets, dmdt, lightcurves

THREADS = (1, 2)


def main(repeats=5):
    """Return one row per number of threads, as a list of dict, and print them."""
    name = "crts" if os.environ.get("SKYNB_MIRROR") else "simulated"
    lcs = datasets.load(name)
    columns = lightcurves.arrays(lcs)
    curves = [
        (columns.mjd[start:stop], columns.mag[start:stop])
        for start, stop in zip(columns.offsets[:-1], columns.offsets[1:], strict=True)
    ]
    n_obs = np.diff(columns.offsets)
    n_pairs = int((n_obs * (n_obs - 1) // 2).sum())
    dmdt.images(lcs.iloc[:1])
    rows = [_compare(lcs, curves, n_pairs, n, repeats) for n in THREADS if n <= _most_threads()]

    print(f"dm-dt, {name}: {len(lcs)} objects, {n_pairs:,} pairs, best of {repeats}, ns per pair")
    print(
        f"{'threads':>7} {'skynb':>7} {'light-curve':>11} {'ratio':>6} {'equal':>6} {'extra MB':>8}"
    )
    for row in rows:
        print(
            f"{row['threads']:7d} {row['skynb_ns']:7.2f} {row['light_curve_ns']:11.2f} "
            f"{row['ratio']:6.1f} {row['equal']!s:>6} {row['extra_mb']:8.1f}"
        )
    return rows


def _compare(lcs, curves, n_pairs, n_threads, repeats):
    """Return the times, equality and memory of both at one number of threads."""
    dm, dt = np.array(dmdt.GRID.dm), np.array(dmdt.GRID.dt)
    peer = light_curve.DmDt(dt, dm, dt_type="asis", dm_type="asis", n_jobs=n_threads)
    before = numba.get_num_threads()
    numba.set_num_threads(n_threads)
    try:
        ours, theirs = [], []
        for _ in range(repeats):
            images, seconds = _timed(lambda: dmdt.images(lcs))
            ours.append(seconds)
            expected, seconds = _timed(lambda: peer.points_many(curves, sorted=True))
            theirs.append(seconds)
        equal = bool(np.array_equal(images, expected.transpose(0, 2, 1)))
        del images, expected
        extra = _extra_memory(lambda: dmdt.images(lcs))
    finally:
        numba.set_num_threads(before)
    return {
        "threads": n_threads,
        "skynb_ns": min(ours) / n_pairs * 1e9,
        "light_curve_ns": min(theirs) / n_pairs * 1e9,
        "ratio": min(theirs) / min(ours),
        "equal": equal,
        "extra_mb": extra / 1e6,
    }


def _most_threads():
    return numba.config.NUMBA_NUM_THREADS


def _timed(call):
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def _extra_memory(call):
    """Return by how many bytes the process grows during a call, beyond what the call returns."""
    process, stop = psutil.Process(), threading.Event()
    before = process.memory_info().rss
    peak = [before]

    def watch():
        while not stop.wait(0.001):
            peak[0] = max(peak[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        result = call()
    finally:
        stop.set()
        watcher.join()
    return max(0, peak[0] - before - result.nbytes)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
