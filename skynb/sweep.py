"""Many runs of notebooks from one readable file: checked as a whole, never one done twice.

`read` makes a plan of a YAML file; `run` carries it out through ``dask.distributed``, one kernel
per run, and leaves an index of all runs. The folder of each run is the only memory: its
``results.json``, renamed into place last, holds what the run was made from.

```yaml
notebook: atlas                  # a name, a path or a pattern such as notebooks/*.ipynb; or a list
parameters: {dataset: crts}      # the same in all runs
grid: {n_trees: [100, 300], seed: [0, 1, 2]}  # one run for each combination
retries: 1                       # a run that fails is tried again so often
timeout: 10 min                  # of one run; h, min or s
memory: 2 GB                     # of one kernel and its children; GB or MB
```

Instead of a grid, ``runs:`` lists the parameters of each run, or names a CSV table with a row for
each. Several notebooks stand under ``steps:``, each with a name. A parameter of the form
``${STEP/FILE}`` is the file that the step left among its artifacts, and ``${STEP}`` its folder:
each run of that step gets one that follows it, or, where the parameter is a list, all go into one;
what two steps both vary must agree. ``needs:`` names steps to wait for without taking a file.
Paths are relative to the sweep's file, whose folder is also the kernels' current one. A parameter
that ends as a file of light curves or a model, .csv or .skynb, names one that must be there.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import graphlib
import hashlib
import itertools
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path

from skynb import __version__, workflows

KEYS = ("notebook", "parameters", "grid", "runs", "needs", "retries", "timeout", "memory")
FOR_ALL = ("retries", "timeout", "memory")
UNITS = {
    "timeout": ("max_seconds", {"": 1, "s": 1, "min": 60, "h": 3600}),
    "memory": ("max_memory_mb", {"": 1, "MB": 1, "GB": 1000}),
}
THREADS = ("OMP", "OPENBLAS", "MKL", "NUMBA", "NUMEXPR", "TF_NUM_INTRAOP", "TF_NUM_INTEROP")
REFERENCE = r"\$\{([^/}]+)/?([^}]*)\}"
LOAD, EXEC = "application/vnd.holoviews_load.v0+json", "application/vnd.holoviews_exec.v0+json"
GENERATOR = "skynb sweep"
FILES = re.compile(r"\.(parquet|csv|ecsv|fits|skynb)(\.gz)?$", re.I)
MARK = "sweep.json"  # in the folder of all runs: whose they are
QUIET = ("failed", "interrupted", "new")  # states whose reasons are not counted
N_PICTURES = 24  # in an index; all are in the reports
REFRESH = 20.0  # age at which the index of a sweep that goes on is written anew [s]


class SweepError(ValueError):
    """What is wrong with a sweep, one line for each fault."""

    def __init__(self, faults):
        self.faults = list(dict.fromkeys(" ".join(str(fault).split()) for fault in faults))
        super().__init__("\n".join(self.faults))


@dataclass(frozen=True)
class Job:
    """One run to come: what it runs, where to, and what it is made from (``key``)."""

    name: str
    notebook: Path
    given: dict
    folder: Path
    varied: dict = field(default_factory=dict)
    limits: dict = field(default_factory=dict)
    retries: int = 0
    needs: tuple[str, ...] = ()
    takes: tuple[Path, ...] = ()
    key: dict = field(default_factory=dict)
    repeats: int = 0  # the time stamp of results.json that are not to be kept [ns]

    def state(self) -> tuple[str, str]:
        """Return ``done``, ``failed``, ``interrupted``, ``changed`` or ``new``, and why."""
        try:
            before = workflows.load(self.folder)
        except (OSError, ValueError, TypeError):
            return "new", "no finished run"
        changed = [part for part in self.key if before.key.get(part) != self.key[part]]
        if changed == ["versions"]:
            now = _versions()
            names = sorted(now.keys() | before.versions.keys())
            changed = [name for name in names if now.get(name) != before.versions.get(name)]
        if changed:
            return "changed", f"another {', '.join(changed)}"
        if before.status != "done":
            return before.status, before.error["message"]
        if not (before.path.is_file() and before.report.is_file()):
            return "changed", "its notebook or report is gone"
        return "done", "same notebook, parameters, data and versions"

    def stamp(self) -> int:
        """Return when the results of the run before were written [ns]; 0 if there are none."""
        with contextlib.suppress(OSError):
            return (self.folder / "results.json").stat().st_mtime_ns
        return 0


@dataclass(frozen=True)
class Plan:
    """The runs of a sweep, each after those it needs."""

    name: str
    folder: Path
    out: Path
    jobs: tuple[Job, ...]
    file: Path | None = None


# the plan


def read(path, *, out=None) -> Plan:
    """Return the plan of a sweep file, checked as a whole; nothing has run then.

    Parameters
    ----------
    path : str or Path
        A YAML file, as in the module's example.
    out : str or Path, optional
        The folder of all runs and their index (``runs/NAME``); not that of another sweep file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    SweepError
        If anything is wrong with it; ``faults`` has one line for each.
    """
    path = Path(path)
    document = _document(path)
    out = Path(out or Path("runs", path.stem)).resolve()
    faults, digests = _taken(path.resolve(), out), {}
    steps = _steps(document, faults)
    done = {name: [] for name in steps}
    for name in _ordered(steps, faults):
        try:
            if "notebook" in steps[name]:
                done[name] = _jobs(
                    name, steps[name], path.resolve().parent, out, done, digests, faults
                )
        except (ValueError, OSError, TypeError) as error:
            faults.append(f"{_where(name)}{error}")
    jobs = [job for group in done.values() for job in group]
    places = defaultdict(list)
    for job in jobs:
        places[str(job.folder).casefold()].append(job)
    for same in places.values():
        if len(same) > 1:
            faults.append(
                f"duplicate output: {len(same)} runs would write into {same[0].folder}"
                f" ({_shown(same[0].varied) or same[0].notebook}); remove all but one"
            )
    if not jobs and not faults:
        faults.append(f"{path} has no run; give it a notebook")
    if faults:
        raise SweepError(faults)
    return Plan(path.stem, path.resolve().parent, out, tuple(jobs), path.resolve())


def _taken(path, out) -> list[str]:
    """Return what is wrong if another sweep file, which is still there, has its runs in ``out``."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        other = Path(json.loads((out / MARK).read_text(encoding="utf-8"))["file"])
        if other != path and other.is_file():
            return [f"{out} has the runs of {other}; choose another folder by --out"]
    return []


def _document(path) -> dict:
    import yaml

    class Loader(yaml.SafeLoader):
        """YAML that refuses the same key twice."""

        def construct_mapping(self, node, deep=False):
            keys = Counter(str(key.value) for key, _ in node.value)
            for key, count in keys.items():
                if count > 1:
                    raise ValueError(f"{path} has {key} {count} times; rename or remove one")
            return super().construct_mapping(node, deep)

    if not path.is_file():
        raise FileNotFoundError(f"no sweep file {path}; check the path")
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SweepError([f"{path} is not YAML: {error}"]) from None
    except ValueError as error:
        raise SweepError([error]) from None
    if not isinstance(document, dict):
        raise SweepError([f"{path} holds no sweep; write a line notebook: NAME"])
    return document


def _steps(document, faults) -> dict[str, dict]:
    """Return the steps by name, the only one's is empty, with what holds for all filled in."""
    if "steps" not in document:
        steps, common = {"": document}, {}
    elif not isinstance(document["steps"], dict):
        raise SweepError(["steps: takes names, each with a notebook; write NAME: {notebook: ...}"])
    else:
        steps = {str(name): step for name, step in document["steps"].items()}
        common = {key: value for key, value in document.items() if key != "steps"}
    for key in common.keys() - {*FOR_ALL}:
        faults.append(f"beside steps: there is {key}:; move it into a step")
    for name, step in steps.items():
        if not isinstance(step, dict) or "notebook" not in step:
            faults.append(f"{_where(name)}there is no notebook; write notebook: NAME or PATH")
            step = steps[name] = {}
        if name and not re.fullmatch(r"[\w-]*\w", name):
            faults.append(f"step {name!r} names a folder; use letters, digits, - and _")
        for key in step:
            if key not in KEYS:
                faults.append(f"{_where(name)}there is no {key!r}{workflows.choices(key, KEYS)}")
        steps[name] = {key: common[key] for key in FOR_ALL if key in common} | step
        needs = step.get("needs") or []
        waits = [str(need) for need in (needs if isinstance(needs, list) else [needs])]
        taken = re.findall(REFERENCE, str([step.get(key) for key in KEYS[1:4]]))
        steps[name] |= {"waits": waits, "needs": {*waits, *(need for need, _ in taken)}}
        for need in steps[name]["needs"] - steps.keys():
            close = workflows.choices(need, [key for key in steps if key])
            faults.append(f"{_where(name)}it needs {need!r}, which is no step{close}")
    return steps


def _ordered(steps, faults) -> list[str]:
    """Return the names of steps, each after those it needs; none if they need each other."""
    graph = {name: sorted(step["needs"] & steps.keys()) for name, step in steps.items()}
    try:
        return list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        faults.append(f"steps need each other in a circle: {circle}; remove one of these needs")
        return []


def _jobs(name, step, folder, out, done, digests, faults) -> list[Job]:
    """Return the runs of a step; ``done`` holds those of the steps before it."""
    notebooks, rows = _notebooks(step["notebook"], folder), _rows(step, folder)
    limits, retries = _limits(step), step.get("retries", 0)
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise ValueError(f"retries is {retries!r}; write a whole number, 0 or more")
    varied = list(dict.fromkeys(key for _, row in rows for key in row))
    jobs = []
    for notebook, (where, row) in itertools.product(notebooks, rows):
        about, source = _about(notebook, digests)
        known = about["parameters"]
        try:
            given = _given(known, step, row, notebook.stem)
            _there(given, folder)
            values = {key: p.default for key, p in known.items()} | given
            own = {"notebook": notebook.stem} if len(notebooks) > 1 else {}
            own |= {key: values[key] for key in varied}
            for resolved, axes, needed, takes in _matches(given, own, step["waits"], known, done):
                place = _place(axes, notebook.stem)
                key = {
                    "notebook": source,
                    "parameters": digest(values),
                    "data": digest(_data(values, folder, out, digests)),
                    "needs": digest([job.key for job in needed]),
                }
                jobs.append(
                    Job(
                        name=f"{name}/{place}" if name else place,
                        notebook=notebook,
                        given=workflows.check(known, resolved, notebook.stem),
                        folder=out / name / place,
                        varied=axes,
                        limits=about["cost"] | limits,
                        retries=retries,
                        needs=tuple(job.name for job in needed),
                        takes=tuple(takes),
                        key=key | house(),
                    )
                )
        except (ValueError, TypeError, OSError) as error:
            faults.append(f"{_where(name)}{where}{error}")
    return jobs


def _about(notebook, digests):
    """Return what a notebook says of itself, and the digest of its source, read once."""
    if notebook not in digests:
        cells = workflows.read(notebook).cells
        source = [[cell.cell_type, cell.source, cell.metadata.tags] for cell in cells]
        digests[notebook] = workflows.info(notebook), digest(source)
    return digests[notebook]


def _notebooks(named, folder) -> list[Path]:
    """Return the notebooks by name, path or pattern; of a pattern the last changed first."""
    found = []
    for one in map(str, named if isinstance(named, list) else [named]):
        local = folder / one
        if one == "all":
            found += _last_changed_first(workflows.names().values())
        elif "*" in one:
            found += _last_changed_first(p for p in folder.glob(one) if p.suffix == ".ipynb")
            if not found:
                raise FileNotFoundError(f"no notebook matches {one}; check the pattern")
        else:
            found.append(workflows.find(local if local.suffix == ".ipynb" else one).resolve())
    return list(dict.fromkeys(found))


def _last_changed_first(paths) -> list[Path]:
    """Return paths as git knows them: those not committed, then by the age of the last change."""
    paths = sorted(path.resolve() for path in paths)

    def git(*arguments):
        command = ["git", "-c", "core.quotepath=off", "-C", str(paths[0].parent), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return []
        return [Path(line).name for line in done.stdout.splitlines() if line]

    if len(paths) < 2:
        return paths
    order = git("diff", "--name-only", "HEAD") + git("ls-files", "--others", "--exclude-standard")
    order += git("log", "--format=", "--name-only")
    rank = {name: k for k, name in reversed(list(enumerate(order)))}
    return sorted(paths, key=lambda path: rank.get(path.name, len(order)))


def _rows(step, folder) -> list[tuple[str, dict]]:
    """Return the parameters that vary, run by run, and where they stand."""
    grid, runs = step.get("grid"), step.get("runs")
    if grid is not None and runs is not None:
        raise ValueError("there are both grid: and runs:; keep one")
    if grid is not None:
        if not isinstance(grid, dict):
            raise ValueError(f"grid is {grid!r}; write a list for each parameter, n: [1, 2]")
        for key, values in grid.items():
            if not isinstance(values, list) or not values:
                raise ValueError(f"grid {key} is {values!r}; write a list, {key}: [VALUE, ...]")
        combined = itertools.product(*grid.values())
        return [("", dict(zip(grid, row, strict=True))) for row in combined]
    if isinstance(runs, str):
        table = folder / runs
        if not table.is_file():
            raise FileNotFoundError(f"no table of runs {runs}; check the path")
        try:
            with table.open(newline="", encoding="utf-8-sig") as lines:
                reader = csv.DictReader(lines, skipinitialspace=True)
                columns = reader.fieldnames or []
                rows = [(f"{runs} line {reader.line_num}: ", row) for row in reader]
        except UnicodeDecodeError:
            raise ValueError(f"{runs} is not UTF-8; save it as UTF-8") from None
        for key, count in Counter(columns).items():
            if count > 1:
                raise ValueError(f"{runs} has column {key} {count} times; rename or remove one")
        if not rows:
            raise ValueError(f"{runs} has no rows below its header; write one for each run")
        for where, row in rows:
            if None in row or None in row.values():
                raise ValueError(f"{where}expected {len(columns)} values; quote commas")
        runs = [{key: value for key, value in row.items() if value != ""} for _, row in rows]
        rows = list(zip((where for where, _ in rows), runs, strict=True))
    elif runs is None:
        return [("", {})]
    else:
        runs = runs if isinstance(runs, list) else [runs]
        rows = [(f"run {k}: ", row) for k, row in enumerate(runs, 1)]
    if not rows or not all(isinstance(row, dict) for row in runs):
        raise ValueError(f"runs is {step['runs']!r}; write a list of parameters, or a CSV table")
    return rows


def _limits(step) -> dict:
    limits = {}
    for key, (limit, units) in UNITS.items():
        if key in step:
            found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([a-zA-Z]*)", str(step[key]))
            if not found or found[2] not in units or not float(found[1]) > 0:
                *most, last = filter(None, units)
                known = f"{', '.join(most)} or {last}"
                raise ValueError(
                    f"{key} is {step[key]!r}; write a number and {known}, as in 2 {last}"
                )
            limits[limit] = float(found[1]) * units[found[2]]
    return limits


def _given(known, step, row, notebook) -> dict:
    """Return a run's own parameters, of the notebook's types; references stay as they stand."""
    fixed = step.get("parameters") or {}
    if not isinstance(fixed, dict):
        raise ValueError(f"parameters: takes lines of the form key: value, found {fixed!r}")
    given = {str(key): value for key, value in (fixed | row).items()}
    plain = {}
    for key, value in given.items():
        if key in known and (found := _reference(value)):
            if found[2].startswith("/") or ".." in Path(found[2]).parts:
                raise ValueError(f"parameter {key} is {value!r}; name a file below its artifacts")
            continue
        if "${" in str(value):
            raise ValueError(f"parameter {key} is {value!r}; write ${{STEP/FILE}} and nothing else")
        text = key in known and isinstance(value, str)
        plain[key] = known[key].from_text(value) if text else value
    return given | workflows.check(known, plain, notebook)


def _there(given, folder) -> None:
    """Refuse parameters that name a file which is not there, be they ``dataset`` or end as one."""
    for key, value in given.items():
        for text in map(str, value if isinstance(value, list) else [value]):
            named = FILES.search(text) or (key == "dataset" and "/" in text)
            if not named or "://" in text or _reference(text):
                continue
            if not (folder / Path(text).expanduser()).exists():
                raise FileNotFoundError(f"parameter {key}: no file {text}; check the path")


def _reference(value):
    return re.fullmatch(REFERENCE, value) if isinstance(value, str) else None


def _matches(given, own, waits, known, done):
    """Yield ``(parameters, varied, runs needed, paths taken)`` for each choice of the runs needed.

    That is one run of each step whose file goes into a parameter that takes one, and all runs where
    it takes a list; runs agree on what they both vary.
    """
    references = {key: _reference(v).groups() for key, v in given.items() if _reference(v)}
    lists = {key for key in references if known[key].type.startswith("list")}
    single = list(dict.fromkeys(references[key][0] for key in references.keys() - lists))
    others = dict.fromkeys([*waits, *(references[key][0] for key in sorted(lists))])
    n_found = 0
    for chosen in itertools.product(*(done.get(step, []) for step in single)):
        axes = dict(own)
        for job in chosen:
            if not _agree(job, axes):
                break
            axes |= job.varied
        else:
            jobs = {s: [job for job in done.get(s, []) if _agree(job, axes)] for s in others}
            jobs |= {step: [job] for step, job in zip(single, chosen, strict=True)}
            if not all(jobs.values()):
                continue
            resolved, takes = dict(given), []
            for key, (step, file) in references.items():
                inside = Path("artifacts", file) if file else ""
                paths = [job.folder / inside for job in jobs[step]]
                takes += paths
                resolved[key] = [str(path) for path in paths]
                if key not in lists:
                    resolved[key] = resolved[key][0]
            n_found += 1
            yield resolved, axes, [job for group in jobs.values() for job in group], takes
    if not n_found and all(done.get(step) for step in [*single, *others]):
        names = ", ".join([*single, *others])
        raise ValueError(f"no run of {names} agrees with {_shown(own)}; vary the same values there")


def _agree(job, axes) -> bool:
    return all(axes.get(key, value) == value for key, value in job.varied.items())


def _place(axes, stem) -> str:
    """Return a folder's name: what varies, readable, and what keeps it apart from all others."""
    if axes.keys() <= {"notebook"}:
        return axes.get("notebook", stem)
    text = re.sub(r"[^\w.=+,-]+", "_", _shown(axes))[:80]
    return f"{text}-{digest(axes)[:8]}"


def _shown(axes) -> str:
    return ",".join(str(v) if key == "notebook" else f"{key}={v}" for key, v in axes.items())


def _where(name) -> str:
    return f"step {name}: " if name else ""


def _data(values, folder, out, digests) -> dict:
    """Return the check sums of the files and folders that parameters name."""
    found = {}
    for value in values.values():
        for text in value if isinstance(value, list) else [value]:
            if not isinstance(text, str) or not text or _reference(text) or len(text) > 1000:
                continue
            path = (folder / Path(text).expanduser()).resolve()
            if path not in digests and path.is_file():
                with path.open("rb") as content:
                    digests[path] = hashlib.file_digest(content, "sha256").hexdigest()
            elif path not in digests and path.is_dir():
                inside = (
                    p for p in sorted(path.rglob("*")) if p.is_file() and out not in p.parents
                )
                stats = [(str(p.relative_to(path)), p.stat()) for p in inside]
                digests[path] = digest([[name, s.st_size, s.st_mtime_ns] for name, s in stats])
            if path in digests:
                found[text] = digests[path]
    return found


def digest(value) -> str:
    """Return the first half of the sha256 of a value's JSON."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]


@functools.cache
def house() -> dict:
    """Return the digests of skynb's version and code, and of the versions of what it requires."""
    code = sorted(Path(__file__).parent.rglob("*.py"))
    sources = [[path.name, path.read_text(encoding="utf-8")] for path in code]
    return {"skynb": digest([__version__, sources]), "versions": digest(_versions())}


_versions = functools.cache(workflows.versions)


# the runs


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
    if page.exists() and GENERATOR not in page.read_text(encoding="utf-8", errors="replace"):
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
        try:
            if todo:
                with _client(workers, scheduler, len(todo)) as client:
                    tell(f"dashboard: {client.dashboard_link}")
                    _carry_out(plan, todo, finished, client, tell, again)
        finally:
            index(plan, finished)
            junit(plan, finished)
    return finished


@contextlib.contextmanager
def _client(workers, scheduler, n_jobs):
    """Yield a client of the scheduler at an address, or of processes on this machine."""
    from distributed import Client, LocalCluster, WorkerPlugin

    class Deaf(WorkerPlugin):
        """A worker leaves Ctrl-C, which the terminal sends to all, to the process that runs it."""

        def setup(self, worker):
            signal.signal(signal.SIGINT, signal.SIG_IGN)

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
    threads = {f"{name}_NUM_THREADS": str(max(1, cores // workers)) for name in THREADS}
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
            left = f"{60 / pace:.3g} runs/min, {_clock(pace * (len(todo) - n_ended))} left"
            told = _told(job, finished[job.name])
            tell(f"[{n_ended}/{len(todo)}, {failed} failed, {left}] {told}")
            if time.monotonic() - shown > REFRESH:
                index(plan, finished)
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


def _told(job, finished) -> str:
    cost = f"{_clock(finished.seconds)}, {finished.peak_memory_mb:.0f} MB"
    if finished.status == "done":
        return f"{job.name}: done in {cost}"
    return f"{job.name}: {finished.failure if finished.cells else finished.error['message']}"


def _clock(seconds) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


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
        return _not_run(job, "failed", f"there is no {lost[0]}; the step it needs wrote {left}")
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


# the index


def index(plan, finished) -> Path:
    """Return the path of the plan's ``index.html``: its runs in one file that needs no network.

    The head counts, a table that sorts has status, parameters, results and cost of each run and a
    link to its report; failed cells follow with their tracebacks, and a picture of each run.
    """
    import jinja2

    rows, failures, figures, loaders, looks = [], [], [], [], N_PICTURES
    for job in plan.jobs:
        one = finished.get(job.name)
        shown = one or workflows.Run(job.folder, job.notebook.stem, "not run")
        report = shown.report.relative_to(plan.out).as_posix() if shown.report.is_file() else ""
        rows.append({"name": job.name, "run": shown, "report": report, "varied": job.varied})
        if shown.status not in ("done", "not run", "interrupted"):
            failures.append(rows[-1] | {"traceback": _traceback(shown)})
        if shown.cells and looks:
            looks -= 1
            picture, scripts = _picture(shown)
            loaders = loaders or scripts
            if picture:
                figures.append(rows[-1] | {"picture": picture})
    fixed = {}
    for job in plan.jobs:
        same = {key: value for key, value in job.given.items() if key not in job.varied}
        if not job.takes:
            fixed |= {f"{job.notebook.stem}: {key} = {_cell(same[key])}": None for key in same}
    environment = jinja2.Environment(autoescape=True)
    template = environment.from_string(Path(__file__).with_name("sweep.html.j2").read_text("utf-8"))
    page = template.render(
        plan=plan,
        generator=GENERATOR,
        counts=Counter(row["run"].status for row in rows),
        fixed=list(fixed),
        rows=rows,
        failures=failures,
        figures=figures,
        loaders=loaders,
        varied=list(dict.fromkeys(key for row in rows for key in row["varied"])),
        results=list(dict.fromkeys(key for row in rows for key in row["run"].results)),
        seconds=_clock(sum(row["run"].seconds for row in rows)),
        cell=_cell,
    )
    return workflows.write(plan.out / "index.html", page)


def _cell(value) -> str:
    """Return a value as a table shows it."""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:18]}...{text[-18:]}"


def _outputs(one):
    """Yield the outputs of each code cell of an executed notebook, as JSON has them."""
    with contextlib.suppress(OSError, ValueError):
        for cell in json.loads(one.path.read_text(encoding="utf-8"))["cells"]:
            yield cell.get("outputs", [])


def _traceback(one) -> str:
    for outputs in _outputs(one):
        for output in outputs:
            if output["output_type"] == "error":
                return re.sub(r"\x1b\[[\d;]*m", "", "\n".join(output["traceback"]))
    return one.error["message"]


def _picture(one):
    """Return a run's first picture as HTML, and the scripts that it takes to draw such pictures."""
    scripts = []
    for outputs in _outputs(one):
        bundles = [output.get("data", {}) for output in outputs]
        if any(LOAD in bundle for bundle in bundles):
            kinds = ("application/javascript", "text/html")
            scripts += [_joined(b[kind]) for b in bundles for kind in kinds if kind in b]
            continue
        for bundle in bundles:
            for kind in ("image/png", "image/jpeg"):
                if kind in bundle:
                    image = _joined(bundle[kind])
                    return f'<img alt="" src="data:{kind};base64,{image}">', scripts
            for kind in ("image/svg+xml", "text/html"):
                if kind in bundle and (kind != "text/html" or EXEC in bundle):
                    return _joined(bundle[kind]), scripts
    return "", scripts


def _joined(text) -> str:
    return text if isinstance(text, str) else "".join(text)


def junit(plan, finished) -> Path:
    """Return the path of the plan's ``junit.xml``: a case for each run, failures by cell."""
    from xml.etree import ElementTree

    n_failed = sum(one.status == "failed" for one in finished.values())
    counts = {"tests": str(len(plan.jobs)), "failures": str(n_failed)}
    suite = ElementTree.Element("testsuite", counts, name=plan.name)
    for job in plan.jobs:
        one = finished.get(job.name)
        case = ElementTree.SubElement(suite, "testcase", classname=plan.name, name=job.name)
        case.set("time", str(one.seconds if one else 0))
        if one is None or one.status in ("blocked", "interrupted"):
            ElementTree.SubElement(case, "skipped", message=one.error["message"] if one else "")
        elif one.status != "done":
            bad = ElementTree.SubElement(case, "failure", message=_told(job, one))
            bad.text = _xml(_traceback(one))
    return workflows.write(plan.out / "junit.xml", ElementTree.tostring(suite, encoding="unicode"))


def _xml(text) -> str:
    """Return text without the control characters that XML forbids."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\U0010ffff]", "", text)
