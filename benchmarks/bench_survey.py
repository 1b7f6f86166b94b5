"""skynb.survey: one million simulated light curves as a HATS catalogue, on one and two workers.

    python -m benchmarks.bench_survey [N_OBJECTS]

Simulated, ZTF-like, one band: a pool of `skynb.simulate` curves in r, each drawn many times with
other epochs left out (median about 60 remain), fresh noise, another start and another place on the
sky. Measured in one pass: dm-dt images, non-periodic features, and what a forest on these says.
The bare kernels are the same calls on the same tables, already in memory, on one thread; the
overhead is all CPU time of the worker over theirs. Files of a whole run and of one whose worker is
killed half-way are compared with each other, and each row with the bare calls.
"""

import functools
import json
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import lsdb
import numba
import numpy as np
import pandas as pd
import pooch
import pyarrow as pa
import pyarrow.parquet as pq
from nested_pandas import NestedDtype, NestedFrame

from skynb import classify, dmdt, features, lightcurves, predict, simulate, survey

MEDIAN = 60
EXTRACT = functools.partial(features.extract, periods=False)


def main(n_objects=1_000_000):
    """Return the figures as a dict, and print them."""
    said = {"n_objects": n_objects}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        pool = simulate.lightcurves(n_per_class=100, cadence="ztf")
        pool = lightcurves.write(lightcurves.select_band(pool, "r"), folder / "pool.parquet")
        model = _model(pool, folder / "model.skynb")
        places = _places(folder / "places", n_objects)
        with survey.workers(2) as client:
            said["build_seconds"] = _build(pool, places, folder / "survey")
            whole = _run(client, folder, model, "two")
            killed = _run(client, folder, model, "killed", disturb=True)
        with survey.workers(1) as client:
            alone = _run(client, folder, model, "one")
        bare, n_obs, same = _bare(folder, model)
        said |= {
            "median_n_obs": float(np.median(n_obs)),
            "input_gigabytes": _bytes(folder / "survey"),
            "output_gigabytes": _bytes(folder / "two"),
            "light_curves_per_second": n_objects / whole["seconds"],
            "peak_memory_mb": max(whole["peak_memory_mb"], alone["peak_memory_mb"]),
            "bare_cpu_seconds": bare,
            "one_worker_cpu_seconds": alone["cpu"],
            "overhead": alone["cpu"] / bare,
            "seconds_one_worker": alone["seconds"],
            "seconds_two_workers": whole["seconds"],
            "scaling": alone["seconds"] / whole["seconds"],
            "scaling_without_writing": alone["kernel"] / whole["kernel"],
            "seconds_with_a_worker_killed": killed["seconds"],
            "killed_run_is_the_same": _same_files(folder / "two", folder / "killed"),
            "rows_are_those_of_the_bare_calls": same,
        }
    costs = survey.cost(said["light_curves_per_second"] / 2, n_cores=2)
    ztf = costs[(costs["survey"] == "ZTF DR1") & costs["what"].str.startswith("r, 20")]
    said["ztf_dr1_r_20_core_hours"] = float(ztf["core_hours"].iloc[0])
    print(json.dumps(said, indent=1))
    print(costs.round(1).to_string(index=False))
    return said


def _model(pool, path):
    """Return the path of a forest on non-periodic features of curves like those of the survey."""
    part = pd.DataFrame({"object_id": np.arange(2000), "ra": 0.0, "dec": 0.0})
    lcs = lightcurves.clean(_curves(part, pool, -1, label=True))
    forest = classify.LightCurveClassifier("forest", max_frequency=0)
    return forest.fit(lcs, lcs["label"].to_numpy(str)).save(path)


def _curves(part, pool, seed, label=False):
    """Return objects with light curves drawn from the pool, the same for the same first object."""
    first = int(part["object_id"].iloc[0]) if len(part) else 0
    pool = _pool(pool)
    rng, known = np.random.default_rng([seed + 1, first]), lightcurves.arrays(pool)
    chosen = rng.integers(0, len(pool), len(part))
    n_obs = np.diff(known.offsets)[chosen]
    rows = np.repeat(known.offsets[chosen] - np.append(0, np.cumsum(n_obs)[:-1]), n_obs)
    rows += np.arange(len(rows))
    wanted = np.clip(rng.lognormal(np.log(MEDIAN), 0.6, len(part)), 5, None)
    kept = rng.random(len(rows)) < np.repeat(wanted / n_obs, n_obs)
    kept[np.cumsum(n_obs) - 1] = True
    objects = np.repeat(np.arange(len(part)), n_obs)[kept]
    rows, magerr = rows[kept], known.magerr[rows[kept]]
    mjd = known.mjd[rows] + rng.uniform(0, 365, len(part))[objects]
    mag = known.mag[rows] + magerr * rng.normal(size=len(rows))
    offsets = np.append(0, np.cumsum(np.bincount(objects, minlength=len(part)))).astype(np.int32)
    columns = {"mjd": mjd, "mag": mag, "magerr": magerr * np.sqrt(2)}
    columns["band"] = pa.repeat(pa.scalar("r"), len(rows))
    observed = pa.StructArray.from_arrays([pa.array(c) for c in columns.values()], [*columns])
    lists = pa.ListArray.from_arrays(pa.array(offsets), observed)
    out = NestedFrame(part)
    if label:
        out["label"] = pool["label"].to_numpy()[chosen]
    out["lightcurve"] = pd.Series(lists, out.index, dtype=NestedDtype(lists.type))
    return out


@functools.lru_cache(1)
def _pool(path):
    return lightcurves.read(path)


def _places(path, n_objects):
    """Write a catalogue of objects all over the sky, without light curves."""
    rng = np.random.default_rng(0)
    dec = np.degrees(np.arcsin(rng.uniform(-1, 1, n_objects)))
    sky = {"object_id": np.arange(n_objects), "ra": rng.uniform(0, 360, n_objects), "dec": dec}
    rows = min(survey.PARTITION_ROWS, n_objects // 10)
    sky = lsdb.from_dataframe(pd.DataFrame(sky), partition_rows=rows, margin_threshold=None)
    return survey.write(sky, path, progress=False)


def _build(pool, places, path):
    """Return the seconds that writing the catalogue took, its curves drawn by the workers."""
    begin = time.perf_counter()
    drawn = survey.open(places).map_partitions(_curves, pool, 0)
    survey.write(drawn, path, progress=False)
    return time.perf_counter() - begin


def _run(client, folder, model, name, disturb=False):
    """Return the figures of one run; ``disturb``: a worker is killed when half is done."""
    lcs = survey.open(folder / "survey")
    measured = survey.apply(lcs, dmdt.images, EXTRACT, model)
    client.run(_warm, model)
    measured.partitions[:2].compute(progress_bar=False)
    pids = list(client.run(os.getpid).values())
    before = sum(client.run(time.process_time).values())
    if disturb:
        marks = folder / f".{name}.part" / "done"
        arguments = (pids[0], marks, lcs.npartitions // 2)
        threading.Thread(target=_kill, args=arguments, daemon=True).start()
    begin = time.perf_counter()
    survey.write(measured, folder / name, progress=False)
    seconds = time.perf_counter() - begin
    cpu = sum(client.run(time.process_time).values()) - before
    peak = max(survey.peak_memory(client).values())
    begin = time.perf_counter()
    measured.map_partitions(_count).compute(progress_bar=False)
    kernel = time.perf_counter() - begin
    return {"seconds": seconds, "cpu": cpu, "peak_memory_mb": peak, "kernel": kernel}


def _warm(model):
    """Compile the kernels and read the model, which a worker does once."""
    lcs = lightcurves.select_band(simulate.lightcurves(n_per_class=1, cadence="ztf"), "r")
    model = survey._load(model, pooch.file_hash(model))
    return dmdt.images(lcs), EXTRACT(lcs), predict.objects(model, lcs)


def _count(part):
    """Return the number of objects: all is measured, nothing written."""
    return pd.DataFrame({"n": [len(part)]})


def _kill(pid, marks, n_done):
    while len(list(marks.glob("*"))) < n_done:
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)


def _bare(folder, path):
    """Return the CPU seconds of the bare calls, points per object, whether rows are the same."""
    numba.set_num_threads(1)
    model, seconds, n_obs, same = classify.load(path), 0.0, [], True
    _warm(path)
    for file in sorted((folder / "survey" / "dataset").glob("*/*/*.parquet")):
        lcs = lightcurves.read(file)
        ids = lcs.index
        begin = time.process_time()
        images, X, said = dmdt.images(lcs), EXTRACT(lcs), predict.objects(model, lcs)
        seconds += time.process_time() - begin
        n_obs.append(np.diff(lightcurves.arrays(lcs).offsets))
        table = pq.read_table(folder / "two" / file.relative_to(folder / "survey"))
        numbers = said.drop(columns=["label", "flag"])
        written = [table["images"].combine_chunks().flatten().to_numpy()]
        written += [table[name].to_numpy() for name in ["object_id", *X, *numbers]]
        made = [images.ravel(), ids.to_numpy(), *X.to_numpy().T, *numbers.to_numpy().T]
        same &= all(map(_equal, written, made))
        same &= all(table[name].to_pylist() == said[name].tolist() for name in ("label", "flag"))
    return seconds, np.concatenate(n_obs), bool(same)


def _equal(one, other):
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def _bytes(folder):
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e9


def _same_files(one, other):
    """Return whether two catalogues have the same partitions with the same rows."""
    files = [file.relative_to(one) for file in sorted((one / "dataset").glob("*/*/*.parquet"))]
    number = len(list((other / "dataset").glob("*/*/*.parquet")))
    tables = ((pq.read_table(one / file), pq.read_table(other / file)) for file in files)
    return number == len(files) and all(a.equals(b) for a, b in tables)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
