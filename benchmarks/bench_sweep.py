"""skynb sweep against two bare papermills side by side, called again, and killed at random.

    python -m benchmarks.bench_sweep [N_RUNS] [N_KILLS]

The same short notebook, N_RUNS times (60) on two processes, one thread each. Then the same sweep is
killed with SIGKILL N_KILLS times (20) at random moments; what was done must stay as it was.
"""

import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import psutil

from skynb import plans, workflows

ONE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
CELLS = (
    "import numpy as np\nfrom skynb import workflows",
    "x = np.random.default_rng(n).normal(size=(600, 600))\nvalues = np.linalg.eigvalsh(x @ x.T)",
    "(workflows.artifacts() / 'values.txt').write_text(str(values.sum()))",
    "workflows.record(n=n, largest=values[-1])",
)


def main(n_runs=60, n_kills=20):
    """Return the seconds of each way to run and the faults after the kills, and print them."""
    with tempfile.TemporaryDirectory() as folder:
        code = nbformat.v4.new_code_cell
        head = code("n: int = 0", metadata={"tags": ["parameters"]})
        spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nb = nbformat.v4.new_notebook(cells=[head, *map(code, CELLS)])
        nb.metadata["kernelspec"] = spec
        nbformat.write(nb, Path(folder, "short.ipynb"))
        Path(folder, "s.yml").write_text(
            f"notebook: short.ipynb\ngrid: {{n: {[*range(n_runs)]}}}\n"
        )
        seconds = {"two papermills": _clock(_papermills(n_runs), folder)}
        seconds["skynb sweep"] = _clock(_sweep("timed"), folder)
        seconds["skynb sweep again"] = _clock(_sweep("timed"), folder)
        for name, value in seconds.items():
            print(f"{name}: {n_runs} runs in {value:.1f} s")
        print(f"sweep / papermill: {seconds['skynb sweep'] / seconds['two papermills']:.2f}")
        faults = _killed(folder, n_kills, seconds["skynb sweep"] / 3)
    return seconds, faults


def _papermills(n_runs):
    one = f"{sys.executable} -m papermill --no-progress-bar short.ipynb pm-{{}}.ipynb -p n {{}}"
    return ["sh", "-c", f"seq 0 {n_runs - 1} | xargs -P 2 -I{{}} {one}"]


def _sweep(out):
    return [sys.executable, "-m", "skynb.cli", "sweep", "s.yml", "--workers", "2", "--out", out]


def _clock(command, folder):
    begun = time.perf_counter()
    subprocess.run(command, cwd=folder, env=os.environ | ONE, check=True, capture_output=True)
    return time.perf_counter() - begun


def _killed(folder, n_kills, longest):
    """Return what is wrong after each of so many kills of the runner, and print it."""
    draw, marks, faults, n_done = random.Random(0), {}, [], []
    jobs = plans.read(Path(folder, "s.yml"), out=Path(folder, "killed")).jobs
    for _ in range(n_kills):
        runner = subprocess.Popen(
            _sweep("killed"),
            cwd=folder,
            env=os.environ | ONE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(draw.uniform(0, longest))
        family = [psutil.Process(runner.pid)]
        family += family[0].children(recursive=True)
        runner.kill()
        runner.wait()
        psutil.wait_procs(family, timeout=5)
        faults += [f"orphan {p.pid}" for p in family if p.is_running()] + _orphans(folder)
        faults += _changed(jobs, marks)
        n_done.append(len(marks))
        if len(marks) == len(jobs):
            for job in jobs:  # all is done before the last kill: begin anew
                (job.folder / "results.json").unlink()
            marks.clear()
    subprocess.run(_sweep("killed"), cwd=folder, check=True, capture_output=True)
    faults += _changed(jobs, marks) + [job.name for job in jobs if job.name not in marks]
    print(f"killed {n_kills} times, with so many runs done: {n_done}; faults: {faults or 'none'}")
    return faults


def _changed(jobs, marks):
    """Return the runs that were repeated, lost or corrupt; ``marks`` learns those that are new."""
    faults = []
    for job in jobs:
        path = job.folder / "results.json"
        if not path.exists():
            faults += [f"{job.name} lost"] if job.name in marks else []
            continue
        mark = path.stat().st_mtime_ns
        if marks.setdefault(job.name, mark) != mark:
            faults.append(f"{job.name} repeated")
        one = workflows.load(job.folder)
        whole = one.report.read_text().rstrip().endswith("</html>")
        if one.results.get("n") != job.given["n"] or not whole or not workflows.read(one.path):
            faults.append(f"{job.name} corrupt")
    return faults


def _orphans(folder):
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(folder) in process.environ().get(workflows.ARTIFACTS, ""):
                found.append(f"orphan {process.pid}")
    return found


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
