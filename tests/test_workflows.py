"""Notebooks as functions: parameters in, results and a report out, nothing lost on the way."""

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import nbformat
import numpy as np
import psutil
import pytest

from skynb import workflows

CODE = nbformat.v4.new_code_cell
TEXT = nbformat.v4.new_markdown_cell
PARAMETERS = """# a comment
n_objects: int = 3  # how many = how many
name: str = "x"
classes: list[str] = ["EW", "EA"]
fraction = 0.5
limit: float | None = None  # [mag]
deep: bool = False"""
DATA = {
    "sim": {
        "checksum": "skynb 0.1.0",
        "licence": "CC0 <1.0>",
        "citation": "A & B (2020)",
        "simulated": True,
    }
}
LOADS = re.compile(r"""(?:<(?:script|link|img|iframe)[^>]*\s(?:src|href)=|url\(|@import)\s*["']?""")


def write(path, *cells):
    """Write a notebook of the cells; a string is a code cell."""
    cells = [CODE(cell) if isinstance(cell, str) else cell for cell in cells]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def parameters_cell(source=PARAMETERS):
    return CODE(source, metadata={"tags": ["parameters"]})


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One run, beside a kernel called python3 that is not this Python."""
    folder = tmp_path_factory.mktemp("done")
    (folder / "kernels" / "python3").mkdir(parents=True)
    spec = {"argv": ["false", "{connection_file}"], "display_name": "trap", "language": "python"}
    (folder / "kernels" / "python3" / "kernel.json").write_text(json.dumps(spec))
    write(
        folder / "tiny.ipynb",
        TEXT("# Tiny\n\n**Question.** Does it\nrun? **Inputs.** none. **Outputs.** `n`"),
        parameters_cell(),
        TEXT("## Work\n\n![a picture](https://example.org/a.png)"),
        "import os, sys\nimport numpy as np\nfrom skynb import workflows",
        "from tqdm.notebook import tqdm\nfor _ in tqdm(range(2)): pass",
        "import subprocess, time\nx = b'x' * 150_000_000\ntime.sleep(0.3)\ndel x",
        "child = \"import time; x = b'x' * 200_000_000; time.sleep(1.5)\"\n"
        "subprocess.run([sys.executable, '-c', child])\nNone",
        "(workflows.artifacts() / 'a.txt').write_text('kept')\nNone",
        "workflows.record(python=sys.executable, cwd=os.getcwd())",
        f"workflows.record(data={DATA}, n=np.int64(n_objects), mean=np.float32(0.5),\n"
        "    nan=float('nan'), rows=[(1, 2)], table={'EW': {'EA': 1}}, name=name, classes=classes)",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("JUPYTER_PATH", str(folder))
        given = {"n_objects": np.int64(7)}
        return workflows.run("tiny.ipynb", given, out=folder / "out", progress=False)


# parameters


def test_parameters_are_read_from_the_cell(home):
    path = write(home / "a.ipynb", TEXT("# A"), parameters_cell())
    found = workflows.parameters(path)
    assert [(p.name, p.type, p.default, p.help) for p in found.values()] == [
        ("n_objects", "int", 3, "how many = how many"),
        ("name", "str", "x", ""),
        ("classes", "list[str]", ["EW", "EA"], ""),
        ("fraction", "float", 0.5, ""),
        ("limit", "float | None", None, "[mag]"),
        ("deep", "bool", False, ""),
    ]
    assert [p.unit for p in found.values()] == ["", "", "", "", "mag", ""]
    assert workflows.Parameter("x", "list", [], "[] = all, in [0, 1]").unit == ""


@pytest.mark.parametrize(
    ("hint", "text", "value"),
    [
        ("int", "5", 5),
        ("str", "5", "5"),
        ("str", "null", "null"),
        ("str | None", "None", None),
        ("float", "1e-3", 0.001),
        ("float", "2", 2),
        ("float | None", "null", None),
        ("bool", "true", True),
        ("list[str]", "[EW, RS CVn]", ["EW", "RS CVn"]),
        ("dict", "{a: 1}", {"a": 1}),
        ("any", "5", 5),
        ("any", "crts", "crts"),
        ("int", "many", "many"),
        ("bool", "1", "1"),
        ("list[str]", "[unclosed", "[unclosed"),
    ],
)
def test_text_becomes_the_type(hint, text, value):
    found = workflows.Parameter("x", hint, None).from_text(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("hint", "value", "accepted"),
    [
        ("int", True, False),
        ("int", 1.5, False),
        ("float", 1, True),
        ("bool", 0, False),
        ("list[str]", ["a", 1], False),
        ("list[list[int]]", [[1], [2]], True),
        ("int | None", None, True),
        ("dict[str, int]", {"a": 1}, True),
        ("dict[str, int]", [], False),
        ("Anything", object, True),
    ],
)
def test_a_type_accepts(hint, value, accepted):
    assert workflows.Parameter("x", hint, None).accepts(value) is accepted


def test_info_tells_what_a_notebook_asks_and_may_cost(home):
    path = write(home / "a.ipynb", TEXT("# A\n\n**Question.** What\nis it? **Inputs.** x"))
    nb = nbformat.read(path, as_version=4)
    nb.metadata["skynb"] = {"max_seconds": 60}
    nbformat.write(nb, path)
    about = workflows.info(path)
    assert about["title"] == "A"
    assert about["question"] == "What is it?"
    assert about["cost"] == {"max_seconds": 60}
    assert about["parameters"] == {}


# a run


def test_results_json_is_what_the_design_says(finished):
    document = json.loads((finished.folder / "results.json").read_text())
    keys = "notebook status parameters results versions data cells error key"
    assert list(document) == keys.split()
    assert document == finished.to_dict()
    assert document["status"] == "done"
    assert document["error"] is None
    assert document["notebook"] == "tiny"
    assert document["data"] == {"sim": "skynb 0.1.0"}
    assert {"python", "skynb", "numpy", "tf-keras-vis"} <= set(document["versions"])
    assert "pytest" not in document["versions"]
    assert workflows.load(finished.folder) == finished


def test_parameters_given_join_the_defaults(finished):
    assert finished.parameters["n_objects"] == 7
    assert finished.parameters["classes"] == ["EW", "EA"]


def test_recorded_values_come_back_as_json(finished):
    found = workflows.results(finished.folder)
    assert found["n"] == 7
    assert found["mean"] == 0.5
    assert found["nan"] is None
    assert found["rows"] == [[1, 2]]
    assert found["table"] == {"EW": {"EA": 1}}


def test_the_kernel_is_this_python_in_the_current_directory(finished):
    assert finished.results["python"] == sys.executable
    assert Path(finished.results["cwd"]) == finished.folder.parent


def test_artifacts_are_the_runs_own(finished):
    assert (finished.artifacts / "a.txt").read_text() == "kept"


def test_each_cell_has_its_seconds_and_peak_memory(finished):
    cells = {cell["index"]: cell for cell in finished.cells}
    assert len(cells) == 9
    before, spike, child = (cells[index]["peak_memory_mb"] for index in (5, 6, 7))
    assert spike > before + 140
    assert child > before + 190
    assert 0.3 < cells[6]["seconds"] < 5
    assert finished.peak_memory_mb == max(spike, child)


def test_progress_shows_cells(home, capsys):
    path = write(home / "a.ipynb", TEXT("# A"), "1", TEXT("## Last words"), "2")
    finished = workflows.run(path)
    assert finished.status == "done"
    assert finished.folder == Path("runs/a")
    assert "4/4" in (shown := capsys.readouterr().err)
    assert "Last words" in shown


# the report


def test_a_report_loads_nothing_from_elsewhere(finished):
    page = finished.report.read_text()
    sources = [page[m.end() : m.end() + 60] for m in LOADS.finditer(page)]
    outside = [source for source in sources if not source.startswith(("data:", "#"))]
    assert outside == ["https://example.org/a.png" + outside[0][25:]]
    assert "default-src 'none'" in page
    assert "cdnjs" not in page
    assert "unpkg" not in page


def test_a_report_reads_like_one(finished):
    page = finished.report.read_text()
    assert "<title>Tiny</title>" in page
    assert page.count('<details class="code">') == 9
    assert "<code>n_objects = 7</code>" in page
    assert "sim (simulated)" in page
    assert "A &amp; B (2020)" in page
    assert "Licence: CC0 &lt;1.0&gt;. Made by skynb 0.1.0." in page
    assert "<span>simulated data</span>" in page
    assert re.search(r"\d s, peak memory \d+ MB</span>", page)
    head = re.findall(r"<span><code>(\w+) = ", page)
    assert head == ["n_objects", "name", "classes", "fraction", "limit", "deep"]
    assert '<td style="text-align: left">EW, EA</td>' in page
    assert f"numpy {np.__version__}" in page
    assert page.index("Results</h2>") < page.index("Data</h2>") < page.index('class="skynb-foot"')


def test_a_report_shows_no_dead_widget(finished, tmp_path):
    assert "%|" in finished.path.read_text()
    assert "%|" not in finished.report.read_text()
    nb = nbformat.read(finished.path, as_version=4)
    view = {workflows.WIDGET: {"model_id": "1"}, "text/plain": "IntSlider(value=3)"}
    nb.cells.append(CODE("w", outputs=[nbformat.v4.new_output("display_data", view)]))
    nb.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    nbformat.write(nb, tmp_path / "w.ipynb")
    page = workflows.report(tmp_path / "w.ipynb", tmp_path / "w.html").read_text()
    assert "A live widget" in page
    assert "IntSlider" not in page
    assert "html-manager" not in page


# record and artifacts


def test_record_refuses_what_json_cannot_hold():
    with pytest.raises(TypeError, match=r"table\['a'\] is of type ndarray; give numbers"):
        workflows.record(table={"a": np.zeros(3)})


def test_artifacts_outside_a_run_lie_here(home, monkeypatch):
    monkeypatch.delenv(workflows.ARTIFACTS, raising=False)
    assert workflows.artifacts() == Path("artifacts")
    assert (home / "artifacts").is_dir()


# messages, before any kernel starts


def test_an_unknown_parameter_lists_those_there_are(home):
    path = write(home / "a.ipynb", parameters_cell())
    message = r"a has no parameter 'n_object'; did you mean n_objects\? there are n_objects, name"
    with pytest.raises(ValueError, match=message):
        workflows.run(path, {"n_object": 3})
    assert not Path("runs").exists()


def test_a_notebook_without_parameters_says_so(home):
    path = write(home / "a.ipynb", "1")
    with pytest.raises(ValueError, match="a has no parameter 'x'; there are none"):
        workflows.run(path, {"x": 3})


def test_a_wrong_type_is_refused(home):
    path = write(home / "a.ipynb", parameters_cell())
    message = r"parameter n_objects of a takes int, found 'many' \(str\); its default is 3"
    with pytest.raises(ValueError, match=message):
        workflows.run(path, {"n_objects": "many"})
    assert not Path("runs").exists()


@pytest.mark.parametrize("default", ["{1, 2}", "1e400", "b'x'", "2j", "[{3}]"])
def test_a_default_that_json_cannot_hold_is_refused(home, default):
    cell = nbformat.v4.new_code_cell(f"f = {default}", metadata={"tags": ["parameters"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), "odd.ipynb")
    with pytest.raises(ValueError, match=r"parameter f of odd is .*, which JSON cannot hold; use"):
        workflows.info("odd.ipynb")


def test_a_derived_parameter_is_refused(home):
    path = write(home / "a.ipynb", parameters_cell("a = 1\nb = 2 * a"))
    with pytest.raises(ValueError, match=r"parameter b of a is derived \(2 \* a\)"):
        workflows.parameters(path)


def test_a_parameters_cell_with_magic_is_refused(home):
    path = write(home / "a.ipynb", parameters_cell("%matplotlib inline"))
    with pytest.raises(ValueError, match="parameters cell of a is not plain Python"):
        workflows.parameters(path)


def test_a_file_that_is_no_notebook_is_refused(home):
    (home / "a.ipynb").write_text("no")
    with pytest.raises(ValueError, match=r"a\.ipynb is not a Jupyter notebook"):
        workflows.run("a.ipynb")


def test_an_unknown_notebook_is_refused(monkeypatch):
    monkeypatch.setattr(workflows, "names", lambda: {"atlas": Path("x"), "dmdt_images": Path("y")})
    with pytest.raises(
        FileNotFoundError, match=r"'atlsa'; did you mean atlas\? there are atlas, d"
    ):
        workflows.find("atlsa")
    with pytest.raises(FileNotFoundError, match=r"no notebook at gone\.ipynb"):
        workflows.find("gone.ipynb")
    assert workflows.find("atlas") == Path("x")


def test_a_notebook_is_not_overwritten_by_its_own_run(home):
    path = write(home / "a.ipynb", "1")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"a\.ipynb is the notebook itself"):
        workflows.run(path, out=".")
    assert path.read_bytes() == before


@pytest.mark.parametrize("own", ["a.ipynb", "a.html", "artifacts/a.txt"])
def test_a_file_of_ones_own_is_not_replaced(home, own):
    path = write(home / "a.ipynb", "1")
    mine = home / "out" / own
    mine.parent.mkdir(parents=True)
    mine.write_text('{"metadata": {"papermill": {}}}')
    with pytest.raises(ValueError, match=r"out/a.* is not from a skynb run; move it, or choose"):
        workflows.run(path, out="out")
    assert mine.read_text() == '{"metadata": {"papermill": {}}}'
    assert not (home / "out" / ".lock").exists()


def test_two_runs_into_one_folder_are_refused(home):
    inner = "from skynb import workflows; workflows.run('b/a.ipynb', out='out')"
    write(home / "a.ipynb", inner)
    (home / "b").mkdir()
    write(home / "b" / "a.ipynb", "1")
    for _ in range(2):
        finished = workflows.run("a.ipynb", out="out", progress=False)
        message = "another run is writing into out; wait, or choose another folder"
        assert finished.error["message"].endswith(f"ValueError: {message}")
    assert workflows.run("b/a.ipynb", out="out", progress=False).status == "done"


def test_a_folder_without_a_run_is_refused(home):
    with pytest.raises(FileNotFoundError, match="no finished run in nowhere"):
        workflows.results("nowhere")


def test_an_output_that_is_a_file_is_refused(home):
    path = write(home / "a.ipynb", "1")
    (home / "out").write_text("mine")
    with pytest.raises(OSError, match=r"cannot write out: .*choose another folder"):
        workflows.run(path, out="out")


KERNEL = """
import ipykernel, json, logging
from skynb import workflows
about = json.loads(ipykernel.get_connection_info())
workflows.record(transport=about["transport"], socket=about["ip"])
logging.getLogger("tornado.general").error("of a socket that is closed already")
"""


def test_kernels_share_no_ports_and_end_in_silence(home):
    finished = workflows.run(write(home / "a.ipynb", KERNEL), progress=False)
    assert finished.results["transport"] == "ipc"
    assert not Path(finished.results["socket"]).parent.exists()
    assert "closed already" not in "".join(
        map(str, nbformat.read(finished.path, 4).cells[0].outputs)
    )


# faults


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("raise ValueError('two\\n lines')", "Bad: ValueError: two lines"),
        ("import sys; sys.exit(0)", "Bad: the cell called exit(0), which ends the notebook"),
        ("exit()", "Bad: the cell called exit(), which ends the notebook"),
        ("import os; os._exit(3)", "Bad: the kernel died with exit status 3"),
        ("import os; os.kill(os.getpid(), 9)", "Bad: the kernel was killed, perhaps for its"),
    ],
)
def test_a_failing_cell_is_named_and_everything_kept(home, source, message):
    path = write(
        home / "a.ipynb",
        "from skynb import workflows; workflows.record(early=1)",
        TEXT("# Bad"),
        source,
        "(workflows.artifacts() / 'late').touch()",
    )
    finished = workflows.run(path, progress=False)
    assert finished.status == "failed"
    assert finished.error["cell"] == 2
    assert finished.error["message"].startswith(message)
    assert "a failed in cell 2: Bad: " in finished.failure
    assert finished.results == {"early": 1}
    assert [cell["index"] for cell in finished.cells] == [0, 2]
    assert "early" in finished.path.read_text()
    assert 'href="#cell-id=' in finished.report.read_text()
    assert workflows.load(finished.folder) == finished
    assert not (finished.artifacts / "late").exists()


def test_a_cell_that_is_meant_to_fail_does_not_fail_the_run(home):
    expected = CODE("1 / 0", metadata={"tags": ["raises-exception"]})
    finished = workflows.run(write(home / "a.ipynb", expected, "1"), progress=False)
    assert finished.status == "done"


@pytest.mark.parametrize(
    ("limits", "source", "message"),
    [
        (
            {"max_seconds": 1},
            "import time; time.sleep(60)",
            "the run took 1.* s, past its limit of 1",
        ),
        (
            {"max_memory_mb": 200},
            "x = b'x' * 400_000_000",
            "the run held .* MB, past its limit of 200",
        ),
    ],
)
def test_a_run_past_its_limit_is_told_by_cell(home, limits, source, message):
    path = write(home / "a.ipynb", "import time", TEXT("# Greedy"), source)
    finished = workflows.run(path, limits=limits, progress=False)
    assert finished.error["cell"] == 2
    assert re.match(f"Greedy: {message}", finished.error["message"])
    assert workflows.load(finished.folder) == finished


def test_a_cost_is_a_positive_number(home):
    path = write(home / "a.ipynb", "1")
    nb = nbformat.read(path, as_version=4)
    nb.metadata["skynb"] = {"max_memory_mb": True}
    nbformat.write(nb, path)
    with pytest.raises(ValueError, match="max_memory_mb in the metadata of a is True; state a pos"):
        workflows.info(path)


def test_a_run_can_be_stopped_from_another_thread_and_ends_its_children(home):
    child = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'])"
    path = write(
        home / "a.ipynb",
        f"import subprocess, sys, time\nfrom skynb import workflows\nchild = {child}",
        "(workflows.artifacts() / 'pid').write_text(str(child.pid))",
        "time.sleep(300)",
    )
    stop = threading.Event()
    threading.Timer(5, stop.set).start()
    finished = workflows.run(path, stop=stop, progress=False)
    assert finished.error["message"].endswith("interrupted")
    assert finished.status == "interrupted"
    pid = int((finished.artifacts / "pid").read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie"


def test_what_lies_beside_the_notebook_can_be_imported(home):
    (home / "lessons").mkdir()
    (home / "lessons" / "words.py").write_text('said = "heard"')
    write(home / "lessons" / "first.ipynb", "import words\nassert words.said == 'heard'")
    assert workflows.run(home / "lessons" / "first.ipynb", progress=False).status == "done"


def test_a_run_may_have_another_folder(home):
    (home / "there").mkdir()
    path = write(
        home / "a.ipynb",
        "import os\nfrom skynb import workflows\nworkflows.record(here=os.getcwd())",
    )
    finished = workflows.run(path, folder="there", key={"a": "b"}, progress=False)
    assert finished.results["here"] == str(home / "there")
    assert workflows.load("runs/a").key == {"a": "b"}


def test_a_report_that_cannot_be_made_loses_no_results(home, monkeypatch):
    def broken(*_):
        raise RuntimeError("no template")

    monkeypatch.setattr(workflows, "report", broken)
    path = write(home / "a.ipynb", "from skynb import workflows; workflows.record(n=1)")
    finished = workflows.run(path, progress=False)
    assert finished.failure.startswith("a failed: no report: no template")
    assert workflows.results(finished.folder) == {"n": 1}


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.txt"
    workflows.write(path, "old")
    with pytest.raises(UnicodeEncodeError):
        workflows.write(path, "new \ud800")
    assert path.read_text() == "old"


SLEEPER = (
    "import os; from skynb import workflows",
    "part = workflows.artifacts() / 'part'\npart.write_text(str(os.getpid()))\n"
    "part.rename(workflows.artifacts() / 'pid')",
    TEXT("# Asleep"),
    "import time; time.sleep(seconds)",
)


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_leaves_no_kernel_and_nothing_corrupt(home, sent):
    path = write(home / "a.ipynb", parameters_cell("seconds = 60"), *SLEEPER)
    (home / "runs" / "a").mkdir(parents=True)
    (home / "runs" / "a" / "results.json").write_text('{"status": "done"}')
    command = [sys.executable, "-m", "skynb.cli", "run", "a.ipynb"]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background
    runner = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    mark = home / "runs" / "a" / "artifacts" / "pid"
    deadline = time.monotonic() + 30
    while not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    kernel = psutil.Process(int(mark.read_text()))
    time.sleep(0.5)
    runner.send_signal(sent)
    said = runner.communicate(timeout=60)[1]
    _, alive = psutil.wait_procs([kernel], timeout=8)
    assert not alive
    nb = nbformat.read(home / "runs" / "a" / "a.ipynb", as_version=4)
    assert nb.cells[2].execution_count == 3
    if sent != signal.SIGKILL:
        assert runner.returncode == 1
        assert said == (
            "skynb: a failed in cell 4: Asleep: interrupted;"
            " the notebook up to there is runs/a/a.ipynb\n"
        )
        assert workflows.load("runs/a").error["cell"] == 4
    else:
        assert not (home / "runs" / "a" / "results.json").exists()
        finished = workflows.run(path, {"seconds": 0}, progress=False)
        assert finished.status == "done"
        left = [entry.name for entry in finished.folder.iterdir()]
        assert sorted(left) == [".lock", "a.html", "a.ipynb", "artifacts", "results.json"]


@pytest.mark.parametrize("before", [signal.SIG_DFL, signal.SIG_IGN])
def test_a_run_leaves_the_handler_of_sigterm_as_it_was(before):
    mine = signal.signal(signal.SIGTERM, before)
    try:
        with pytest.raises(KeyboardInterrupt), workflows.terminable():
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) == before
    finally:
        signal.signal(signal.SIGTERM, mine)


def test_a_stop_before_the_kernel_starts_is_no_success(home, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(workflows, "_execute", stopped)
    with pytest.raises(KeyboardInterrupt, match="a failed: interrupted; "):
        workflows.run(write(home / "a.ipynb", "1"))
    assert workflows.load("runs/a").status == "interrupted"


def on_a_mount(options, folder, *arguments):
    """Run skynb in a mount namespace of its own, with a tmpfs over ``folder``."""
    script = (
        f'mount -t tmpfs -o {options} none "{folder}" || exit 77; "$@"; code=$?; ls "{folder}"/*'
    )
    command = ["unshare", "-rm", "sh", "-c", f"{script}; exit $code", "sh"]
    if not shutil.which("unshare"):
        pytest.skip("no unshare, which mounts without being root")
    done = subprocess.run(
        [*command, sys.executable, "-m", "skynb.cli", "run", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip("mounting is not allowed here")
    return done


def test_a_read_only_mount_is_one_line(home):
    write(home / "a.ipynb", "1")
    (home / "mount").mkdir()
    done = on_a_mount("ro", home / "mount", "a.ipynb", "--out", "mount/a")
    lines = [line for line in done.stderr.splitlines() if not line.startswith("ls:")]
    assert lines == ["skynb: cannot write mount/a: Read-only file system; choose another folder"]
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("n_bytes", "where"), [(1_000_000, " in cell 0: print.*: "), (100_000, ": no report: ")]
)
def test_a_full_disk_is_one_line(home, n_bytes, where):
    write(home / "a.ipynb", f"print('x' * {n_bytes})", "later = 1")
    (home / "mount").mkdir()
    done = on_a_mount("size=400k", home / "mount", "a.ipynb", "--out", "mount/a")
    assert done.returncode == 1
    assert re.fullmatch(
        f"skynb: a failed{where}cannot write mount/a/a.*: No space left on device; make room .*\n",
        done.stderr,
    )
    assert ".part" not in done.stdout
    assert "a.ipynb" in done.stdout
