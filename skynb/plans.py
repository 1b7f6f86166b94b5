"""What a sweep file asks for: many runs of notebooks, checked as a whole before any of them.

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
import re
import subprocess
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from skynb import __version__, workflows

KEYS = ("notebook", "parameters", "grid", "runs", "needs", "retries", "timeout", "memory")
FOR_ALL = ("retries", "timeout", "memory")
UNITS = {
    "timeout": ("max_seconds", {"": 1, "s": 1, "min": 60, "h": 3600}),
    "memory": ("max_memory_mb", {"": 1, "MB": 1, "GB": 1000}),
}
REFERENCE = r"\$\{([^/}]+)/?([^}]*)\}"
FILES = re.compile(r"\.(parquet|csv|ecsv|fits|skynb)(\.gz)?$", re.I)
MARK = "sweep.json"  # in the folder of all runs: whose they are


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
        if before.status == "failed":
            return "failed", before.error["message"]
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
        except csv.Error as error:
            raise ValueError(f"{runs} is no CSV table: {error}; mend it") from None
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
