"""Notebooks as functions: literal parameters in, recorded results and a report out.

`run` executes a parameterised notebook in a fresh kernel of this Python and leaves a folder that
explains itself; inside the notebook, `record` says what was found and `artifacts` where files go.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import errno
import html
import io
import json
import math
import os
import platform
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import tokenize
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

from skynb import __version__

ARTIFACTS = "SKYNB_ARTIFACTS"
RECORD = "application/vnd.skynb.record+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
LIMITS = {"max_seconds": "s", "max_memory_mb": "MB"}
MORTAL = """import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)  # Linux's PR_SET_PDEATHSIG, SIGKILL: dies with who started it
if os.getppid() == int(os.environ["JPY_PARENT_PID"]):
    os.execv(sys.argv[1], sys.argv[1:])"""
CALM = "__import__('logging').getLogger('tornado').setLevel('CRITICAL')"
_TYPES = {"int": int, "float": (int, float), "str": str, "list": list, "dict": dict}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a notebook: its name, type as written, default, help and unit.

    The help is the comment behind it, the unit what that says in brackets: ``# [day] the longest``.
    """

    name: str
    type: str
    default: object
    help: str = ""

    @property
    def unit(self) -> str:
        """The unit; empty if the help names none."""
        found = re.search(r"\[([^\],]+)\]", self.help)
        return found[1] if found else ""

    def accepts(self, value) -> bool:
        """Return whether ``value`` is of the parameter's type (an int serves as a float)."""
        return self.type == "any" or _is_of(value, ast.parse(self.type, mode="eval").body)

    def from_text(self, text):
        """Return what ``text`` means for this type; the text itself if it means nothing else.

        >>> Parameter("seed", "int", 0).from_text("5"), Parameter("name", "str", "").from_text("5")
        (5, '5')
        """
        import yaml

        if self.type != "any" and self.accepts(text):
            return None if text in ("None", "null") and self.accepts(None) else text
        for convert in (int, float, yaml.safe_load):
            with contextlib.suppress(ValueError, yaml.YAMLError):
                value = convert(text)
                if self.accepts(value):
                    return value
        return text


@dataclass
class Run:
    """What a run left in ``folder``; `asdict` without ``folder`` is its ``results.json``."""

    folder: Path
    notebook: str
    status: str = "failed"
    parameters: dict = field(default_factory=dict)
    results: dict = field(default_factory=dict)
    versions: dict = field(default_factory=dict)
    data: dict = field(default_factory=dict)
    cells: list = field(default_factory=list)
    error: dict | None = None
    key: dict = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The executed notebook."""
        return self.folder / f"{self.notebook}.ipynb"

    @property
    def report(self) -> Path:
        """The report, one HTML file that needs nothing else."""
        return self.folder / f"{self.notebook}.html"

    @property
    def artifacts(self) -> Path:
        """The folder of the files that the notebook wrote."""
        return self.folder / "artifacts"

    @property
    def seconds(self) -> float:
        """The time spent in the cells [s]."""
        return round(sum(cell["seconds"] for cell in self.cells), 3)

    @property
    def peak_memory_mb(self) -> float:
        """The largest resident memory of the kernel and its children [MB]."""
        return max((cell["peak_memory_mb"] for cell in self.cells), default=0.0)

    @property
    def failure(self) -> str:
        """One sentence on what failed and where; empty if nothing did."""
        if not self.error:
            return ""
        where = "" if self.error["cell"] is None else f" in cell {self.error['cell']}"
        kept = f"the notebook up to there is {self.path}"
        return f"{self.notebook} failed{where}: {self.error['message']}; {kept}"

    def to_dict(self) -> dict:
        """Return the content of ``results.json``."""
        return {key: value for key, value in asdict(self).items() if key != "folder"}


def home() -> Path:
    """Return the folder of notebooks/, tutorials/ and docs/: a checkout, or the package itself."""
    package = Path(__file__).parent
    return package.parent if (package.parent / "pyproject.toml").is_file() else package


def names() -> dict[str, Path]:
    """Return the notebooks and tutorials that come with skynb, by name.

    The tutorials' front page, ``tutorials/index.ipynb``, is no workflow.
    """
    paths = [*home().glob("notebooks/*.ipynb"), *home().glob("tutorials/[0-9]*.ipynb")]
    return {path.stem: path for path in sorted(paths)}


def find(notebook) -> Path:
    """Return the path of a notebook given by path or by name.

    Raises
    ------
    FileNotFoundError
        If there is neither such a file nor such a name.
    """
    path, known = Path(notebook).expanduser(), names()
    if path.is_file():
        return path
    if path.suffix == ".ipynb":
        raise FileNotFoundError(f"no notebook at {notebook}; check the path")
    if str(notebook) not in known:
        raise FileNotFoundError(f"no notebook named {notebook!r}{choices(str(notebook), known)}")
    return known[str(notebook)]


def parameters(notebook) -> dict[str, Parameter]:
    """Return the parameters of a notebook, by name, from its cell tagged ``parameters``.

    The type is the annotation, else the default's own.

    Raises
    ------
    ValueError
        If the file is not a notebook, or a default is not a literal.
    """
    path = find(notebook)
    return _parameters(read(path), path.stem)


def info(notebook) -> dict:
    """Return a notebook's ``title``, ``question``, ``parameters`` and the ``cost`` it states.

    The cost of a run with its defaults, ``max_seconds`` and ``max_memory_mb``, stands in the
    notebook's metadata under ``skynb``.

    Raises
    ------
    ValueError
        If the file is not a notebook, a default no literal, or the cost no positive number.
    """
    path = find(notebook)
    nb = read(path)
    first = nb.cells[0].source if nb.cells else ""
    question = re.search(r"\*\*Question\.?\*\*(.*?)(?=\*\*|\Z)", first, re.S)
    return {
        "title": _title(nb) or path.stem,
        "question": " ".join(question[1].split()) if question else "",
        "parameters": _parameters(nb, path.stem),
        "cost": _cost(nb, path.stem),
    }


def parse(notebook, texts) -> dict:
    """Return parameters given as text (``{"seed": "5"}``) as values of the notebook's types.

    Values that are not text pass unchanged, and so do names that the notebook lacks: `run` checks.
    """
    known = parameters(notebook)
    return {
        name: known[name].from_text(value) if name in known and isinstance(value, str) else value
        for name, value in texts.items()
    }


def run(
    notebook,
    parameters=None,
    *,
    out=None,
    progress=True,
    folder=None,
    limits=None,
    key=None,
    stop=None,
) -> Run:
    """Return the finished run of a notebook, executed with ``parameters`` in a fresh kernel.

    The kernel is this very Python, in ``folder`` (the current one); modules that lie beside the
    notebook can be imported, as in Jupyter. The folder ``out``
    (``runs/NAME``) receives the executed notebook, saved after each cell, the report, the artifacts
    and, last and whole, ``results.json``: where it lies the run is over. What an earlier run left
    there is replaced. A notebook that fails does not raise: ``status`` and ``error`` say so, and
    everything up to there is kept. Ctrl-C and SIGTERM are recorded the same way and then raised
    again, as KeyboardInterrupt.

    Parameters
    ----------
    limits : dict, optional
        ``max_seconds`` and ``max_memory_mb``, as the cost in `info`: a run past either is killed
        and has failed.
    key : dict, optional
        What the run is made from, kept in ``results.json`` for who asks whether to repeat it.
    stop : threading.Event, optional
        Interrupts the run once another thread sets it; the run then says so and does not raise.

    Raises
    ------
    FileNotFoundError
        If there is no such notebook.
    ValueError
        If a parameter is unknown or of the wrong type, or ``out`` holds files of one's own or is
        being written by another run; nothing has run then.
    OSError
        If ``out`` cannot be written; nothing has run then.
    """
    source = find(notebook)
    nb = read(source)
    known = _parameters(nb, source.stem)
    given = check(known, parameters or {}, source.stem)
    finished = Run(Path(out or Path("runs", source.stem)), source.stem, versions=versions())
    finished.key = key or {}
    finished.parameters = {p.name: p.default for p in known.values()} | given
    nb = _parameterize(nb, given)
    _refuse_foreign(finished, source)
    with locked(finished.folder), terminable():
        _empty(finished)
        _save(nb, finished)
        try:
            _execute(nb, finished, progress, source, folder, limits or {}, stop)
        except KeyboardInterrupt:
            _blame(finished, "interrupted", "interrupted")
            raise KeyboardInterrupt(finished.failure) from None
        finally:
            _finish(finished, nb)
    return finished


def load(folder) -> Run:
    """Return the run that left ``results.json`` in ``folder``.

    Raises
    ------
    FileNotFoundError
        If the folder holds no finished run.
    """
    path = Path(folder) / "results.json"
    if not path.is_file():
        raise FileNotFoundError(f"no finished run in {folder}: {path} is missing; run it first")
    return Run(Path(folder), **json.loads(path.read_text(encoding="utf-8")))


def results(folder) -> dict:
    """Return what the notebook that ran into ``folder`` recorded."""
    return load(folder).results


def artifacts() -> Path:
    """Return the folder for the files a notebook writes: the run's own, else ``artifacts`` here."""
    path = Path(os.environ.get(ARTIFACTS, "artifacts"))
    path.mkdir(parents=True, exist_ok=True)
    return path


def record(data=None, **values) -> None:
    """Record a notebook's results, and the data they rest on, in its last cell.

    Parameters
    ----------
    data : dict, optional
        What `datasets.provenance` returns: name -> ``checksum, licence, citation, simulated``.
    **values
        Numbers, strings, lists and dicts, under the names promised in the notebook's first cell.
        NumPy scalars are converted; NaN and infinities, which JSON lacks, become null.

    Raises
    ------
    TypeError
        If a value is of another type.
    """
    from IPython.display import display

    plain = {name: _plain(name, value) for name, value in values.items()}
    data = _plain("data", data or {})
    bundle = {
        "text/plain": json.dumps(plain, indent=1, ensure_ascii=False),
        "text/html": _record_html(plain, data),
        RECORD: {"results": plain, "data": data},
    }
    display(bundle, raw=True)


def report(notebook_path, html_path) -> Path:
    """Return ``html_path``, written from an executed notebook as one file that needs no network.

    Code is folded; the head names status and parameters, the foot versions and cost. Everything is
    inline, and a content security policy forbids the page to load anything from elsewhere.
    Formulas stay as typed: the program that typesets them would have to be fetched.
    """
    import nbformat
    from nbconvert import HTMLExporter

    nb = nbformat.read(notebook_path, as_version=4)
    nb.metadata["title"] = _title(nb) or Path(notebook_path).stem
    nb.metadata.pop("widgets", None)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs = [o for o in map(_without_widget, cell.outputs) if o is not None]
    exporter = HTMLExporter(
        template_file=str(Path(__file__).with_name("report.html.j2")),
        embed_images=True,
        exclude_anchor_links=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    resources = {"metadata": {"path": str(Path(notebook_path).parent)}}
    page, _ = exporter.from_notebook_node(nb, resources=resources)
    return write(Path(html_path), page)


def _is_of(value, hint) -> bool:
    match hint:
        case ast.Constant(value=None):
            return value is None
        case ast.BinOp(left=left, right=right):
            return _is_of(value, left) or _is_of(value, right)
        case ast.Name(id="bool"):
            return isinstance(value, bool)
        case ast.Name(id=name) if name in _TYPES:
            return isinstance(value, _TYPES[name]) and not isinstance(value, bool)
        case ast.Subscript(value=ast.Name(id="list"), slice=item):
            return isinstance(value, list) and all(_is_of(element, item) for element in value)
        case ast.Subscript(value=outer):
            return _is_of(value, outer)
    return True


def choices(name, known) -> str:
    """Return the end of a message on an unknown name: the closest of the known, and all."""
    close = difflib.get_close_matches(name, known, n=1)
    meant = f"; did you mean {close[0]}?" if close else ";"
    return f"{meant} there are {', '.join(known)}" if known else "; there are none"


def read(path):
    """Return a notebook as nbformat's node; a file that is none raises ValueError."""
    import nbformat

    try:
        nb = nbformat.read(path, as_version=4)
    except OSError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:100]
        raise ValueError(f"{path} is not a Jupyter notebook: {reason}") from None
    for cell in nb.cells:
        cell.metadata.setdefault("tags", [])
    return nb


def _parameters(nb, name) -> dict[str, Parameter]:
    source = next((cell.source for cell in nb.cells if "parameters" in cell.metadata.tags), "")
    try:
        body = ast.parse(source).body
    except SyntaxError as error:
        raise ValueError(f"the parameters cell of {name} is not plain Python: {error}") from None
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    helps = {t.start[0]: t.string.strip("# ") for t in tokens if t.type == tokenize.COMMENT}
    found = {}
    for node in body:
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
            continue
        key = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
        try:
            default = ast.literal_eval(node.value)
        except ValueError:
            raise ValueError(
                f"parameter {key} of {name} is derived ({ast.unparse(node.value)});"
                " give it a literal default and derive in a later cell"
            ) from None
        try:
            json.dumps(default, allow_nan=False)
        except (TypeError, ValueError):
            raise ValueError(
                f"parameter {key} of {name} is {ast.unparse(node.value)}, which JSON cannot hold;"
                " use numbers, text, lists or dicts"
            ) from None
        hint = "any" if default is None else type(default).__name__
        if isinstance(node, ast.AnnAssign):
            hint = ast.unparse(node.annotation)
        found[key] = Parameter(key, hint, default, helps.get(node.end_lineno, ""))
    return found


def _cost(nb, name) -> dict:
    stated = nb.metadata.get("skynb", {})
    cost = {limit: stated[limit] for limit in LIMITS if limit in stated}
    for limit, value in cost.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
            raise ValueError(
                f"{limit} in the metadata of {name} is {value!r}; state a positive number of"
                f" {LIMITS[limit]}"
            )
    return cost


def check(known, given, name) -> dict:
    """Return parameters as plain values, once each is known to the notebook and of its type.

    Raises
    ------
    ValueError
        If a parameter is unknown or of the wrong type.
    TypeError
        If a value is neither number, string, list nor dict.
    """
    values = {}
    if unknown := [key for key in given if key not in known]:
        named = ", ".join(map(repr, unknown))
        raise ValueError(f"{name} has no parameter {named}{choices(unknown[0], known)}")
    for key, value in given.items():
        value = _plain(key, os.fspath(value) if isinstance(value, os.PathLike) else value)
        if not known[key].accepts(value):
            listed = isinstance(value, str) and known[key].type.startswith("list")
            raise ValueError(
                f"parameter {key} of {name} takes {known[key].type},"
                f" found {value!r} ({type(value).__name__}); its default is {known[key].default!r}"
                + (f"; write -p '{key}=[{value.strip('[] ')}]'" if listed else "")
            )
        values[key] = value
    return values


def _parameterize(nb, values):
    import nbformat
    from papermill.parameterize import parameterize_notebook

    nb = nbformat.v4.upgrade(nb)
    nb.metadata["papermill"] = {}
    nb.metadata.setdefault("skynb", {})["run"] = {"status": "running"}  # marks it as ours
    if values:
        nb = parameterize_notebook(nb, values, kernel_name="python3", language="python")
    return nb


def _refuse_foreign(finished, source) -> None:
    """Refuse a folder where the run would replace what no run of this notebook has written."""
    if finished.path.exists() and finished.path.samefile(source):
        raise ValueError(f"{finished.path} is the notebook itself; choose another folder")
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        if json.loads(finished.path.read_text(encoding="utf-8"))["metadata"]["skynb"]["run"]:
            return
    for path in (finished.path, finished.report, finished.artifacts):
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise ValueError(f"{path} is not from a skynb run; move it, or choose another folder")


@contextlib.contextmanager
def locked(folder):
    """Hold a folder for one run alone; the system lets go of it however the process ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise OSError(_unwritable(folder, error)) from None
    with lock:
        try:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"another run is writing into {folder}; wait, or choose another folder"
            ) from None
        except (ImportError, OSError):
            pass  # a system or a file system without locks
        yield


@contextlib.contextmanager
def terminable():
    """Let SIGTERM interrupt as Ctrl-C does, in the main thread, which alone may ask for it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _empty(finished) -> None:
    """Remove what an earlier run left, but for its notebook, which is replaced next."""
    try:
        (finished.folder / "results.json").unlink(missing_ok=True)
        finished.report.unlink(missing_ok=True)
        if finished.artifacts.is_dir():
            shutil.rmtree(finished.artifacts)
        finished.artifacts.mkdir()
    except OSError as error:
        raise OSError(_unwritable(finished.folder, error)) from None


def _execute(nb, finished, progress, source, folder, limits, stop) -> None:
    """Run the cells, writing what happened into ``finished``."""
    import zmq
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from jupyter_core.utils import ensure_event_loop
    from nbclient.exceptions import DeadKernelError
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NotebookExecutionManager

    memory = _Memory()
    current, kernel, started, ended = None, None, 0.0, ""
    began = time.perf_counter()

    def on_start(notebook):
        nonlocal kernel, began
        kernel, began = manager.provisioner.process, time.perf_counter()
        memory.watch(kernel.pid, guard)

    def guard():
        nonlocal ended
        seconds, megabytes = time.perf_counter() - began, memory.now / 1e6
        if stop is not None and stop.is_set():
            ended = ended or "interrupted"
            finished.status = ended if ended == "interrupted" else "failed"
        elif seconds > limits.get("max_seconds", math.inf):
            ended = ended or _past("max_seconds", seconds, limits)
        elif megabytes > limits.get("max_memory_mb", math.inf):
            ended = ended or _past("max_memory_mb", megabytes, limits)
        if ended:
            _kill(kernel)

    def on_cell_start(cell, cell_index):
        if cell.cell_type == "code":
            _save(nb, finished)
        if book.pbar:
            book.pbar.set_postfix_str(_heading(nb, cell_index)[:40])

    def on_cell_execute(cell, cell_index):
        nonlocal current, started
        current, started = cell_index, time.perf_counter()
        memory.take()

    def on_cell_end(execute_reply=None, **_):
        seconds = round(time.perf_counter() - started, 3)
        cost = {"index": current, "seconds": seconds, "peak_memory_mb": memory.take()}
        finished.cells.append(cost)
        content = execute_reply["content"] if execute_reply else {}
        if any(payload["source"] == "ask_exit" for payload in content.get("payload", [])):
            content |= {"status": "error", "ename": "SystemExit", "evalue": "", "traceback": []}

    def fail(message):
        where = f"{_heading(nb, current)}: " if current is not None else ""
        finished.error = {"cell": current, "message": where + " ".join(message.split())[:500]}

    # no kernel folders: the native spec, this Python, whatever "python3" is elsewhere. Files as
    # sockets, in a folder that is ours alone: of ports, two kernels may be given the same
    sockets = tempfile.TemporaryDirectory(prefix="skynb-", ignore_cleanup_errors=True)
    manager = AsyncKernelManager(
        kernel_name="python3",
        kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
        transport="ipc" if zmq.has("ipc") else "tcp",
        connection_file=f"{sockets.name}/kernel.json",
    )
    if platform.system() == "Linux":
        manager.kernel_spec.argv[:0] = [sys.executable, "-ISc", MORTAL]
    bar = {"desc": finished.notebook, "unit": "cell", "disable": not progress}
    book = NotebookExecutionManager(nb, progress_bar=bar, autosave_cell_every=0)
    client = PapermillNotebookClient(
        book,
        km=manager,
        kernel_name="python3",
        store_widget_state=False,  # which shows nothing without a kernel; explorers leave stills
        extra_arguments=["--IPKernelApp.log_level=CRITICAL", f"--IPKernelApp.exec_lines={CALM}"],
        on_notebook_start=on_start,
        on_cell_start=on_cell_start,
        on_cell_execute=on_cell_execute,
        on_cell_executed=on_cell_end,
    )
    fail("the kernel did not start")
    book.notebook_start()
    try:
        beside = [str(source.parent.resolve()), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | {
            ARTIFACTS: str(finished.artifacts.resolve()),
            "PYTHONPATH": os.pathsep.join(beside),
        }
        client.execute(env=environment, cleanup_kc=True, cwd=str(folder or Path.cwd()))
        finished.error = None
        if finished.peak_memory_mb > limits.get("max_memory_mb", math.inf):
            current = max(finished.cells, key=lambda cell: cell["peak_memory_mb"])["index"]
            fail(_past("max_memory_mb", finished.peak_memory_mb, limits))
        if current is not None and nb.cells[current].metadata.papermill.exception:
            fail(_exception(nb.cells[current]))
    except DeadKernelError:
        if current is not None:
            on_cell_end()
            book.cell_exception(nb.cells[current])
        fail(ended or _death(kernel.poll(), finished.peak_memory_mb))
    except OSError as error:
        fail(ended or str(error))
    except Exception as error:
        fail(ended or f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        fail("interrupted")
        ensure_event_loop().set_exception_handler(lambda *_: None)  # the cell's task is given up
        raise
    finally:
        memory.stop()
        book.notebook_complete()
        _kill(getattr(manager.provisioner, "process", None))
        sockets.cleanup()


def _finish(finished, nb) -> None:
    """Write the notebook, the report and, last, the mark that the run is over."""
    simulated = False
    for output in (output for cell in nb.cells for output in cell.get("outputs", [])):
        found = output.get("data", {}).get(RECORD, {"results": {}, "data": {}})
        finished.results |= found["results"]
        finished.data |= {name: about.get("checksum") for name, about in found["data"].items()}
        simulated |= any(about.get("simulated") for about in found["data"].values())
    finished.status = finished.status if finished.error else "done"
    nb.metadata.skynb["run"] = finished.to_dict() | {
        "seconds": finished.seconds,
        "peak_memory_mb": finished.peak_memory_mb,
        "simulated": simulated,
        "order": list(finished.parameters),  # which a saved notebook's sorted keys lose
    }
    try:
        _save(nb, finished)
        report(finished.path, finished.report)
    except Exception as error:
        _blame(finished, f"no report: {error}")
    try:
        text = json.dumps(finished.to_dict(), indent=1, ensure_ascii=False)
        write(finished.folder / "results.json", text + "\n")
    except OSError as error:
        _blame(finished, str(error))


def _blame(finished, message, status="failed") -> None:
    finished.status, finished.error = status, finished.error or {"cell": None, "message": message}


def _record_html(results, data) -> str:
    """Return the tables of results and of data, with its licences and citations."""

    def row(*cells):
        texts = [f"{c:.6g}" if isinstance(c, float) else _text(c) for c in cells]
        cell = '<td style="text-align: left">{}</td>'.format
        return "<tr>" + "".join(cell(html.escape(text)) for text in texts) + "</tr>"

    page = "<h2>Results</h2><table>" + "".join(row(*item) for item in results.items()) + "</table>"
    if data:
        page += "<h2>Data</h2>"
    for name, about in data.items():
        kind = " (simulated)" if about.get("simulated") and name != "simulated" else ""
        origin = "Made by" if about.get("simulated") else "Check sum:"
        lines = [about["citation"], f"Licence: {about['licence']}", f"{origin} {about['checksum']}"]
        told = " ".join(html.escape(line.rstrip(".")) + "." for line in lines)
        page += f"<p><strong>{html.escape(name)}{kind}.</strong> {told}</p>"
    return page


def _text(value) -> str:
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _without_widget(output):
    """Return an output that shows without a kernel: progress bars go, live widgets leave a note."""
    bundle = output.get("data", {})
    if WIDGET not in bundle:
        return output if bundle or "data" not in output else None
    if "%|" in bundle.get("text/plain", "") or "FloatProgress" in bundle.get("text/plain", ""):
        return None
    if not {"text/html", "image/png", "image/svg+xml"} & set(bundle):
        bundle["text/html"] = "<p><em>A live widget: open the notebook to use it.</em></p>"
    del bundle[WIDGET]
    return output


def _exception(cell) -> str:
    error = next((o for o in cell.outputs if o.output_type == "error"), None)
    if error is None or error.ename == "SystemExit":
        return f"the cell called exit({error.evalue if error else ''}), which ends the notebook"
    return f"{error.ename}: {error.evalue}"


def _past(limit, value, limits) -> str:
    did = "took" if limit == "max_seconds" else "held"
    return (
        f"the run {did} {value:.4g} {LIMITS[limit]}, past its limit of"
        f" {limits[limit]:g} {LIMITS[limit]} ({limit}); give it less to do, or raise the limit,"
        f" in a sweep by {'timeout' if limit == 'max_seconds' else 'memory'}:"
    )


def _kill(kernel) -> None:
    """End a kernel, if there is one, and the processes it started, which are its group."""
    if kernel is not None:
        kernel.kill()
        with contextlib.suppress(OSError, AttributeError):
            os.killpg(kernel.pid, signal.SIGKILL)


def _death(status, peak_memory_mb) -> str:
    if status == -9:
        return f"the kernel was killed, perhaps for its memory; it held {peak_memory_mb:.0f} MB"
    cause = f"by {signal.Signals(-status).name}" if status < 0 else f"with exit status {status}"
    return f"the kernel died {cause}"


def _heading(nb, index) -> str:
    """Return the last heading at or above a cell, else the cell's first line."""
    for cell in reversed(nb.cells[: index + 1]):
        lines = re.findall(r"^#+ +(.+)$", cell.source, re.M)
        if cell.cell_type == "markdown" and lines:
            return lines[-1].strip()
    return next(iter(nb.cells[index].source.strip().splitlines()), "")


def _title(nb) -> str:
    return _heading(nb, 0) if nb.cells and nb.cells[0].cell_type == "markdown" else ""


def _save(nb, finished) -> None:
    import nbformat

    write(finished.path, nbformat.writes(nb))


def write(path, text) -> Path:
    """Write a file whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise OSError(_unwritable(path, error)) from None
    return path


def _unwritable(path, error) -> str:
    room = "make room there, or " if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    return f"cannot write {path}: {error.strerror}; {room}choose another folder"


def versions() -> dict:
    """Return the versions of Python, skynb and what it requires, as installed."""
    found = {"python": platform.python_version(), "skynb": __version__}
    for requirement in metadata.requires("skynb") or []:
        name = re.match(r"[\w.-]+", requirement)[0]
        if 'extra == "dev"' not in requirement.replace("'", '"'):
            with contextlib.suppress(metadata.PackageNotFoundError):
                found[name] = metadata.version(name)
    return found


def _plain(name, value):
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(f"{name}[{key!r}]", item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(f"{name}[{i}]", item) for i, item in enumerate(value)]
    raise TypeError(
        f"{name} is of type {type(value).__name__}; give numbers, strings, lists or dicts,"
        " and write anything larger into workflows.artifacts()"
    )


class _Memory:
    """The peak resident memory of a process and its children, sampled from a thread."""

    def __init__(self, interval=0.05):
        self.interval = interval
        self.peak = self.now = self.highest = 0
        self.process, self.family, self.looks = None, [], 0
        self.stopped = threading.Event()

    def watch(self, pid, guard=lambda: None) -> None:
        """Sample from now on, and call ``guard`` after each look."""
        import psutil

        self.process, self.guard = psutil.Process(pid), guard
        self.take()
        threading.Thread(target=self._sample, daemon=True).start()

    def stop(self) -> None:
        self.stopped.set()

    def take(self) -> float:
        """Return the peak since the last call [MB]."""
        self._look()
        own = self._high_water()
        if own > self.highest:
            self.highest, self.peak = own, max(self.peak, own)
        peak, self.peak = self.peak, self.now
        return round(peak / 1e6, 1)

    def _sample(self) -> None:
        while not self.stopped.wait(self.interval):
            self._look()
            self.guard()

    def _look(self) -> None:
        import psutil

        total = 0
        with contextlib.suppress(psutil.Error):
            if self.looks % 10 == 0:
                self.family = [self.process, *self.process.children(recursive=True)]
        self.looks += 1
        for process in self.family:
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
        self.now, self.peak = total, max(self.peak, total)

    def _high_water(self) -> int:
        """Return the kernel's own peak since it started [byte], which no sampling misses."""
        with contextlib.suppress(OSError, TypeError):
            status = Path(f"/proc/{self.process.pid}/status").read_text()
            return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024
        return 0
