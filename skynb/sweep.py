"""Many runs of notebooks, never one done twice.

`run` carries out a `skynb.plans.Plan` through ``dask.distributed``, one kernel per run, and leaves
an index of all runs. The folder of each run is the only memory: its ``results.json``, renamed into
place last, holds what the run was made from.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import signal
import socket
import threading
import time
from collections import Counter, defaultdict
from dataclasses import replace

from skynb import overview, workflows
from skynb.plans import MARK, house

THREADS = (
    *("OMP_NUM", "OPENBLAS_NUM", "MKL_NUM", "NUMBA_NUM", "NUMEXPR_NUM", "RAYON_NUM"),
    *("TF_NUM_INTRAOP", "TF_NUM_INTEROP"),
)
QUIET = ("failed", "interrupted", "new")  # states whose reasons are not counted
REFRESH = 20.0  # age at which the index of a sweep that goes on is written anew [s]


def choose(plan, *, rerun=False, only_failed=False) -> dict[str, tuple[str, str, str]]:
    """Return what the next `run` would do: job name -> ``run`` or ``skip``, the state, and why."""
    chosen = {}
    for job in plan.jobs:
        state, why = job.state()
        wanted = rerun or state != "done"
        if only_failed:  # and what waited for it
            wanted = state == "failed" or (
                state != "done" and any(chosen[need][0] == "run" for need in job.needs)
            )
        chosen[job.name] = ("run" if wanted else "skip", state, why)
    return chosen


def run(
    plan,
    *,
    workers=None,
    scheduler=None,
    rerun=False,
    only_failed=False,
    retry=None,
    tell=lambda line: None,
) -> dict[str, workflows.Run]:
    """Return the finished run of each job by name, whether from this call or an earlier one.

    A run that is done is not repeated unless what it was made from has changed: the notebook's
    source, parameters, files they name, skynb, versions, the runs it needs. One that needs a run
    which is not done has the status ``blocked``; one that was not asked for and has not run before
    is missing. Ctrl-C and SIGTERM end the kernels, keep what there is and raise KeyboardInterrupt.

    Parameters
    ----------
    workers : int, optional
        Processes on this machine, each with its share of the cores; all cores by default.
    scheduler : str, optional
        Address of a Dask scheduler, whose workers see the same files and have the same skynb.
    rerun, only_failed : bool
        Repeat also what is done, whose results stay until its run begins again; only what failed
        before, not what was interrupted.
    retry : int, optional
        Tries after a failed one, instead of the plan's ``retries``.
    tell : callable
        Takes one line for each run that ends, and for what is skipped.

    Raises
    ------
    ValueError
        If another sweep is writing into the same folder, or its ``index.html`` is not ours.
    OSError
        If the folder cannot be written, or there is no scheduler at the address.
    """
    page = plan.out / "index.html"
    if page.exists() and overview.GENERATOR not in page.read_text(
        encoding="utf-8", errors="replace"
    ):
        raise ValueError(f"{page} is not from a skynb sweep; move it, or choose another folder")
    with workflows.locked(plan.out), workflows.terminable():
        chosen = choose(plan, rerun=rerun, only_failed=only_failed)
        if plan.file:
            workflows.write(plan.out / MARK, json.dumps({"file": str(plan.file)}) + "\n")
        finished, todo = {}, []
        for job in plan.jobs:
            do, state, _ = chosen[job.name]
            if do == "run":
                retries = job.retries if retry is None else retry
                todo.append(replace(job, retries=retries, repeats=job.stamp()))
            elif state == "done":
                finished[job.name] = workflows.load(job.folder)
        told = [(do, st, "" if st in QUIET else why) for do, st, why in chosen.values()]
        for (do, state, why), count in Counter(told).items():
            tell(f"{do} {count} {state}{': ' if why else ''}{why}")
        again = " without --rerun" if rerun else " without --only-failed" if only_failed else ""
        with contextlib.ExitStack() as stack:
            client = todo and stack.enter_context(_client(workers, scheduler, len(todo)))
            try:
                if todo:
                    tell(f"dashboard: {client.dashboard_link}")
                    _carry_out(plan, todo, finished, client, tell, again)
            finally:
                _keep_failures(finished.values())
                overview.index(plan, finished)
                overview.junit(plan, finished)
    return finished


def _keep_failures(runs) -> None:
    """Write down what failed before its notebook ran, or with its worker, as a failure."""
    for one in runs:
        path = one.folder / "results.json"
        if one.status == "failed" and not path.exists():
            with contextlib.suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                workflows.write(path, json.dumps(one.to_dict(), indent=1) + "\n")


@contextlib.contextmanager
def _client(workers, scheduler, n_jobs):
    """Yield a client of the scheduler at an address, or of processes on this machine."""
    from distributed import Client, LocalCluster, WorkerPlugin

    class Deaf(WorkerPlugin):
        """A worker leaves Ctrl-C, which the terminal sends to all, to the process that runs it."""

        def setup(self, worker):
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            logging.getLogger("tornado").setLevel(logging.CRITICAL)  # of kernels that are ended

    if scheduler:
        try:
            client = Client(scheduler, timeout=5)
        except (OSError, ValueError) as error:
            raise OSError(
                f"no Dask scheduler answers at {scheduler} ({error}); start one, or leave it out"
            ) from None
        with client:
            yield client
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    workers = min(workers or cores, n_jobs)
    threads = {f"{name}_THREADS": str(max(1, cores // workers)) for name in THREADS}
    cluster = LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        dashboard_address=":0",
        memory_limit=0,
        silence_logs="CRITICAL",
        env={name: os.environ.get(name, share) for name, share in threads.items()},
    )
    with cluster, Client(cluster) as client:
        client.register_plugin(Deaf())
        yield client


def _carry_out(plan, todo, finished, client, tell, again) -> None:
    """Submit the jobs, take their runs as they end, and stop them all if interrupted."""
    from distributed import as_completed, wait

    sweep, began, futures = secrets.token_hex(8), time.monotonic(), {}
    shown, failed = began, 0
    for rank, job in enumerate(todo):
        needed = [futures.get(need) or finished.get(need) for need in job.needs]
        futures[job.name] = client.submit(
            _one, job, plan.folder, sweep, needed, key=f"{job.name}-{sweep}", priority=-rank
        )
    jobs = {futures[job.name].key: job for job in todo}
    try:
        for n_ended, future in enumerate(as_completed(futures.values()), 1):
            job = jobs[future.key]
            finished[job.name] = _result(job, future)
            failed += finished[job.name].status != "done"
            pace = (time.monotonic() - began) / n_ended
            left = f"{60 / pace:.3g} runs/min, {overview.clock(pace * (len(todo) - n_ended))} left"
            told = overview.line(job, finished[job.name])
            tell(f"[{n_ended}/{len(todo)}, {failed} failed, {left}] {told}")
            if time.monotonic() - shown > REFRESH:
                overview.index(plan, finished)
                shown = time.monotonic()
    except KeyboardInterrupt:
        client.run(_interrupt, sweep, on_error="ignore")
        with contextlib.suppress(TimeoutError):
            wait(list(futures.values()), timeout=30)
        for job in todo:
            ended = futures[job.name].done() and _result(job, futures[job.name])
            if job.name not in finished and (ended or job.state()[0] == "done"):
                finished[job.name] = ended or workflows.load(job.folder)
        n_done = sum(one.status == "done" for one in finished.values())
        raise KeyboardInterrupt(
            f"interrupted: {n_done} of {len(plan.jobs)} runs are done in {plan.out};"
            f" the same command{again} goes on from there"
        ) from None


def _result(job, future) -> workflows.Run:
    """Return a future's run; what Dask raises, when its worker has died too often, is a failure."""
    try:
        return future.result()
    except Exception as error:
        reason = f"its worker died or lost touch: {type(error).__name__}"
        return _not_run(job, "failed", reason)


def _not_run(job, status, reason) -> workflows.Run:
    error = {"cell": None, "message": reason}
    return workflows.Run(job.folder, job.notebook.stem, status, dict(job.given), error=error)


# in the workers


_stops = defaultdict(threading.Event)  # one for each sweep


def _interrupt(sweep) -> None:
    _stops[sweep].set()


def _one(job, folder, sweep, needed) -> workflows.Run | None:
    """Run one job, in a worker; one that ended just before its worker died is only read.

    None if the sweep was interrupted before.
    """
    missing = [
        name
        for name, one in zip(job.needs, needed, strict=True)
        if one is None or one.status != "done"
    ]
    if missing:
        return _not_run(job, "blocked", f"it needs {', '.join(missing)}, which is not done")
    lost = [path for path in job.takes if not path.exists()]
    if lost:
        left = ", ".join(sorted(p.name for p in lost[0].parent.glob("*"))) or "nothing"
        reason = f"there is no {lost[0]}; the step it needs wrote {left}; mend it, or delete its "
        return _not_run(job, "failed", f"{reason}results.json if the file was lost")
    if not house().items() <= job.key.items():
        host = socket.gethostname()
        reason = f"the worker on {host} has another skynb or other versions; install the same"
        return _not_run(job, "failed", reason)
    if job.state()[0] == "done" and job.stamp() != job.repeats:
        return workflows.load(job.folder)
    finished = None
    for _ in range(job.retries + 1):
        if _stops[sweep].is_set():
            return finished
        try:
            finished = workflows.run(
                job.notebook,
                job.given,
                out=job.folder,
                progress=False,
                folder=folder,
                limits=job.limits,
                key=job.key,
                stop=_stops[sweep],
            )
        except (ValueError, OSError) as error:
            finished = _not_run(job, "failed", str(error))
        if finished.status == "done":
            break
    return finished
