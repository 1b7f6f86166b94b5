"""Sweeps: checked as a whole, nothing done twice, nothing lost whatever is killed."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import nbformat
import psutil
import pytest

from skynb import cli, plans, sweep, workflows

CODE, TEXT = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
PARAMETERS = 'n: int = 1  # how many\nname: str = ""  # of it\nseconds: float = 0.0  # [s] of sleep'
WORK = (
    "import time\nfrom skynb import workflows\n"
    "with open('log', 'a') as log:\n    log.write(f'{n}{name}\\n')\n"
    "time.sleep(seconds)\n"
    "(workflows.artifacts() / 'n.txt').write_text(str(n))\n"
    "workflows.record(square=n * n)"
)
SUM = (
    "from pathlib import Path\nfrom skynb import workflows\n"
    "workflows.record(total=sum(int(Path(path).read_text()) for path in files))"
)
DONE = "same notebook, parameters, data and versions"
FAULTS = """import ctypes, os, sys, time
if name == "raises": raise ValueError("no good")
if name == "exits": sys.exit(3)
if name == "dies": os.kill(os.getpid(), 9)
if name == "hangs": time.sleep(600)
if name == "eats": x = b"x" * 700_000_000; time.sleep(60)
if name == "hangs hard": ctypes.PyDLL(None).sleep(600)"""


def write(path, *cells, cost=None):
    """Write a notebook of the cells: the first has the parameters, a string is a code cell."""
    head = CODE(cells[0], metadata={"tags": ["parameters"]})
    cells = [CODE(cell) if isinstance(cell, str) else cell for cell in cells[1:]]
    nb = nbformat.v4.new_notebook(cells=[head, *cells], metadata={"skynb": cost or {}})
    nbformat.write(nb, path)


def plan(text, name="s.yml"):
    Path(name).write_text(text)
    return plans.read(name)


def faults(text):
    with pytest.raises(plans.SweepError) as refused:
        plan(text)
    return refused.value.faults


def ran():
    """The lines that notebooks have written since the last call."""
    with contextlib.suppress(FileNotFoundError):
        lines = sorted(Path("log").read_text().split())
        Path("log").unlink()
        return lines
    return []


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A current directory with notebooks of a few lines."""
    monkeypatch.chdir(tmp_path)
    write("a.ipynb", PARAMETERS, WORK)
    write("sum.ipynb", "files: list = []  # to add up", SUM)
    write(
        "one.ipynb", 'file: str = ""  # to read\nn: int = 0', SUM.replace("in files", "in [file]")
    )
    write("bad.ipynb", 'name: str = ""', TEXT("# Trouble"), FAULTS)
    return tmp_path


# the plan


def test_a_grid_makes_every_combination_and_no_two_share_a_folder(home):
    made = plan("notebook: a.ipynb\ngrid: {n: [1, 2], name: ['a/b', a_b, A_B]}")
    assert [(job.given["n"], job.given["name"]) for job in made.jobs] == [
        (n, name) for n in (1, 2) for name in ("a/b", "a_b", "A_B")
    ]
    assert len({str(job.folder).casefold() for job in made.jobs}) == 6
    assert all(job.folder.parent == home / "runs" / "s" for job in made.jobs)
    assert made.jobs[0].name.startswith("n=1,name=a_b-")


def test_runs_come_from_a_table_with_the_notebooks_types(home):
    Path("t.csv").write_text("n,name,seconds\n5,5,\n6,b,1e-3\n")
    made = plan("notebook: a.ipynb\nparameters: {seconds: 2}\nruns: t.csv")
    assert [job.given for job in made.jobs] == [
        {"seconds": 2, "n": 5, "name": "5"},
        {"seconds": 0.001, "n": 6, "name": "b"},
    ]


def test_paths_are_relative_to_the_file(home, monkeypatch):
    Path("s.yml").write_text("notebook: a.ipynb\nparameters: {name: log}")
    before = plans.read("s.yml").jobs[0].key
    (home / "log").write_text("data")
    monkeypatch.chdir("/")
    job = plans.read(home / "s.yml", out=home / "x").jobs[0]
    assert job.notebook == home / "a.ipynb"
    assert {part for part in before if before[part] != job.key[part]} == {"data"}


def test_limits_take_units_and_replace_the_notebooks_own(home):
    write("c.ipynb", "n: int = 1", cost={"max_seconds": 60, "max_memory_mb": 900})
    own, given = (
        plan(f"notebook: c.ipynb\n{more}").jobs[0].limits
        for more in ("", "timeout: 1.5 h\nmemory: 2 GB")
    )
    assert own == {"max_seconds": 60, "max_memory_mb": 900}
    assert given == {"max_seconds": 5400, "max_memory_mb": 2000}


def test_a_pattern_takes_what_changed_last_first(home):
    def git(*arguments):
        command = ["git", "-c", "user.name=a", "-c", "user.email=a", *arguments]
        subprocess.run(command, check=True, capture_output=True)

    git("init")
    for name in ("one", "bad", "a"):
        git("add", f"{name}.ipynb")
        git("commit", "-m", name)
    Path("bad.ipynb").write_text(Path("bad.ipynb").read_text() + "\n")
    made = plan('notebook: "*.ipynb"')
    assert [job.name for job in made.jobs] == ["bad", "sum", "a", "one"]


def test_all_are_the_notebooks_of_skynb(home):
    made = plan("notebook: all\nparameters: {seed: 1}")
    assert {job.notebook.stem for job in made.jobs} == set(workflows.names())


STEPS = """
steps:
  first: {notebook: a.ipynb, grid: {n: [2, 3]}}
  each: {notebook: one.ipynb, parameters: {file: "${first/n.txt}"}}
  same: {notebook: one.ipynb, parameters: {file: "${first/n.txt}"}, grid: {n: [3]}}
  total: {notebook: sum.ipynb, parameters: {files: "${each}"}}
  last: {notebook: a.ipynb, needs: total}
"""


def test_steps_follow_the_runs_they_need(home):
    jobs = {job.name: job for job in plan(STEPS).jobs}
    each = [job for name, job in jobs.items() if name.startswith("each/")]
    assert [job.varied for job in each] == [{"n": 2}, {"n": 3}]
    assert each[0].needs == (next(name for name in jobs if name.startswith("first/n=2")),)
    assert each[0].given["file"] == str(jobs[each[0].needs[0]].folder / "artifacts" / "n.txt")
    assert [job.varied for name, job in jobs.items() if name.startswith("same/")] == [{"n": 3}]
    assert jobs["total/sum"].given["files"] == [str(job.folder) for job in each]
    assert jobs["last/a"].needs == ("total/sum",)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("notebook: a.ipynb\nparameters: {m: 1}", "a has no parameter 'm'; there are n, name"),
        ("notebook: a.ipynb\ngrid: {nn: [1]}", "a has no parameter 'nn'; did you mean n?"),
        ("notebook: a.ipynb\ngrid: {n: [1, many]}", "parameter n of a takes int, found 'many'"),
        ("notebook: a.ipynb\ngrid: {n: 1}", "grid n is 1; write a list, n: [VALUE, ...]"),
        ("notebook: a.ipynb\ngrid: 3", "grid is 3; write a list for each parameter"),
        ("notebook: a.ipynb\nruns: 3", "runs is 3; write a list of parameters, or a CSV"),
        ("notebook: a.ipynb\nruns: []", "runs is []; write a list of parameters, or a CSV"),
        ("notebook: a.ipynb\nruns: no.csv", "no table of runs no.csv; check the path"),
        ("notebook: a.ipynb\nruns: t.csv", "t.csv line 3: expected 1 values; quote commas"),
        ("notebook: a.ipynb\nruns: twice.csv", "twice.csv has column n 2 times; rename or remove"),
        ("notebook: a.ipynb\nruns: head.csv", "head.csv has no rows below its header; write one"),
        ("notebook: a.ipynb\nruns: latin.csv", "latin.csv is not UTF-8; save it as UTF-8"),
        ("notebook: a.ipynb\nruns: long.csv", "long.csv is no CSV table: field larger than"),
        ("notebook: a.ipynb\nruns: empty.csv", "empty.csv has no rows below its header"),
        ("notebook: d.ipynb\nparameters: {dataset: no.parquet}", "parameter dataset: no file no.p"),
        ("notebook: d.ipynb\nparameters: {dataset: sub/no}", "parameter dataset: no file sub/no"),
        (
            "notebook: a.ipynb\nparameters: {name: m.skynb}",
            "parameter name: no file m.skynb; check",
        ),
        (
            "notebook: sum.ipynb\ngrid: {files: [[t.csv, no.csv]]}",
            "parameter files: no file no.csv",
        ),
        ("notebook: a.ipynb\nparameters: {m: 1, nn: 2}", "a has no parameter 'm', 'nn'; there are"),
        ("notebook: a.ipynb\nruns: [{n: x}]", "run 1: parameter n of a takes int, found 'x'"),
        ("notebook: a.ipynb\nruns: []\ngrid: {}", "there are both grid: and runs:; keep one"),
        ("notebook: gone.ipynb", "no notebook at "),
        ("notebook: lightcurvs", "no notebook named 'lightcurvs'; did you mean lightcurves?"),
        ("notebook: x*.ipynb", "no notebook matches x*.ipynb; check the pattern"),
        ("notebook: a.ipynb\ntimeot: 3", "there is no 'timeot'; did you mean timeout?"),
        (
            "notebook: a.ipynb\ntimeout: soon",
            "timeout is 'soon'; write a number and s, min or h, as in 2 h",
        ),
        ("notebook: a.ipynb\nmemory: -1", "memory is -1; write a number and MB or GB, as in 2 GB"),
        ("notebook: a.ipynb\nretries: many", "retries is 'many'; write a whole number"),
        ("notebook: a.ipynb\nnotebook: b.ipynb", "s.yml has notebook 2 times; rename or remove"),
        ("grid: {n: [1]}", "there is no notebook; write notebook: NAME or PATH"),
        ("- 1", "s.yml holds no sweep; write a line notebook: NAME"),
        ("a: [", "s.yml is not YAML: "),
        ("steps: 3", "steps: takes names, each with a notebook"),
        ("steps: {}", "s.yml has no run; give it a notebook"),
        ("steps: {a/b: {notebook: a.ipynb}}", "step 'a/b' names a folder; use letters"),
        ("steps: {index.html: {notebook: a.ipynb}}", "step 'index.html' names a folder; use lett"),
        (
            "steps: {x: {notebook: a.ipynb}, y: {notebook: one.ipynb, parameters: "
            '{file: "${x/../../z}"}}}',
            "step y: parameter file is '${x/../../z}'; name a file below its artifacts",
        ),
        ("seed: 0\nsteps: {a: {notebook: a.ipynb}}", "beside steps: there is seed:; move it"),
        ("notebook: a.ipynb\nruns: [{n: 1}, {}]", "duplicate output: 2 runs would write into "),
        ("notebook: a.ipynb\ngrid: {n: [1, 1]}", "duplicate output: 2 runs would write into "),
        ("steps: {x: {notebook: a.ipynb}, X: {notebook: a.ipynb}}", "duplicate output: 2 runs"),
        ("notebook: [a.ipynb, sub/a.ipynb]", "duplicate output: 2 runs would write into "),
        (
            "steps: {x: {notebook: a.ipynb, needs: y}, y: {notebook: a.ipynb, needs: [x]}}",
            "steps need each other in a circle: x -> y -> x; remove one of these needs",
        ),
        (
            "steps: {clean: {notebook: a.ipynb}, x: {notebook: a.ipynb, needs: claen}}",
            "step x: it needs 'claen', which is no step; did you mean clean?",
        ),
        (
            'steps: {x: {notebook: a.ipynb}, y: {notebook: a.ipynb, parameters: {n: "${x/n}"}}}',
            "step y: parameter n of a takes int, found '/",
        ),
        (
            'steps: {x: {notebook: a.ipynb}, y: {notebook: a.ipynb, parameters: {name: "a${x}"}}}',
            "step y: parameter name is 'a${x}'; write ${STEP/FILE} and nothing else",
        ),
        (
            "steps: {x: {notebook: a.ipynb, grid: {n: [1]}},"
            ' y: {notebook: one.ipynb, parameters: {file: "${x/f}"}, grid: {n: [2]}}}',
            "step y: no run of x agrees with n=2; vary the same values there",
        ),
    ],
)
def test_a_fault_is_one_line_and_exits_2_before_any_kernel(home, capsys, text, fault):
    Path("t.csv").write_text("n\n1\n2,3\n")
    Path("twice.csv").write_text("n,name,n\n1,a,2\n")
    Path("head.csv").write_text("n\n")
    Path("empty.csv").touch()
    Path("long.csv").write_text(f"name\n{'x' * 140_000}\n")
    Path("latin.csv").write_bytes("name\n\xe9\n".encode("latin-1"))
    write("d.ipynb", 'dataset: str = "simulated"')
    Path("sub").mkdir()
    write("sub/a.ipynb", PARAMETERS)
    found = faults(text)
    assert len(found) == 1
    assert found[0].startswith(fault)
    assert cli.main(["sweep", "s.yml"]) == 2
    assert capsys.readouterr().err == f"skynb: {found[0]}\n"
    assert not Path("runs").exists()


def test_all_faults_are_told_at_once(home, capsys):
    text = """
retrys: 1
steps:
  x: {notebook: gone.ipynb, needs: z}
  y: {notebook: a.ipynb, grid: {n: [a, b]}, parameters: {m: 1}}
"""
    assert len(faults(text)) == 4
    assert cli.main(["sweep", "s.yml"]) == 2
    assert capsys.readouterr().err.count("skynb: ") == 4
    assert cli.main(["sweep", "none.yml"]) == 2
    assert capsys.readouterr().err == "skynb: no sweep file none.yml; check the path\n"


def test_a_cost_that_is_no_number_is_refused(home):
    write("c.ipynb", "n: int = 1", cost={"max_seconds": "60 s"})
    assert faults("notebook: c.ipynb") == [
        "max_seconds in the metadata of c is '60 s'; state a positive number of s"
    ]


def test_a_dry_run_tells_the_plan_and_runs_nothing(home, capsys):
    Path("s.yml").write_text("notebook: a.ipynb\ngrid: {n: [1, 2]}\ntimeout: 5")
    assert cli.main(["sweep", "s.yml", "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "run n=1-" in told
    assert "(new: no finished run; max_seconds 5)" in told
    assert 'a.ipynb {"n": 2}' in told
    assert told.endswith(f"2 of 2 would run, into {home / 'runs' / 's'}\n")
    assert not Path("runs").exists()


# runs


@pytest.mark.slow
def test_what_is_done_is_not_repeated_and_what_changed_is(home, capsys):
    text = "notebook: a.ipynb\nparameters: {name: data.csv}\ngrid: {n: [1, 2]}"
    Path("data.csv").write_text("1")
    Path("s.yml").write_text(text)

    def call(*arguments):
        assert cli.main(["sweep", "s.yml", "--workers", "2", *arguments]) == 0
        return [line[0] for line in ran()], capsys.readouterr().out

    def verdicts():
        return [verdict for *_, verdict in sweep.choose(plans.read("s.yml")).values()]

    again, told = call()
    assert again == ["1", "2"]
    assert "[2/2, 0 failed, " in told
    assert "runs/min, 0 s left] n=" in told
    start = time.perf_counter()
    again, told = call()
    assert time.perf_counter() - start < 5
    assert again == []
    assert told.startswith("skip 2 done: same notebook, parameters, data and versions\n")
    same = verdicts()
    assert len(set(same)) == 1
    Path("data.csv").write_text("2")
    assert verdicts() == ["another data"] * 2
    Path("data.csv").write_text("1")
    nb = nbformat.read("a.ipynb", as_version=4)
    nb.cells[1].outputs = [nbformat.v4.new_output("stream", text="looked at")]
    nb.cells[1].execution_count = 5
    nbformat.write(nb, "a.ipynb")
    assert verdicts() == same
    nb.cells[1].source += " "
    nbformat.write(nb, "a.ipynb")
    assert verdicts() == ["another notebook"] * 2
    nb.cells[1].source = nb.cells[1].source[:-1]
    nbformat.write(nb, "a.ipynb")
    path = next(Path("runs/s").glob("n=2*/results.json"))
    document = json.loads(path.read_text())
    document["versions"]["numpy"], document["key"]["versions"] = "1.0", "old"
    path.write_text(json.dumps(document))
    assert verdicts() == [same[0], "another numpy"]
    next(Path("runs/s").glob("n=1*/a.html")).unlink()
    assert verdicts() == ["its notebook or report is gone", "another numpy"]
    path.write_text("{")
    Path("s.yml").write_text(text.replace("2]", "2, 3]"))
    assert verdicts()[1:] == ["no finished run"] * 2
    again, told = call()
    assert again == ["1", "2", "3"]
    assert told.startswith("run 1 changed: its notebook or report is gone\nrun 2 new\n")
    assert call("--only-failed")[0] == []
    assert call("--rerun")[0] == ["1", "2", "3"]


@pytest.mark.slow
def test_artifacts_pass_from_step_to_step(home):
    text = STEPS.replace('"${each}"', '"${first/n.txt}"')
    finished = sweep.run(plan(text), workers=2)
    results = {name: one.results for name, one in finished.items()}
    assert results["total/sum"] == {"total": 5}
    assert sorted(r["total"] for name, r in results.items() if name.startswith("each/")) == [2, 3]
    write("sum.ipynb", "files: list = []", SUM, "1")
    todo = [name for name, (do, *_) in sweep.choose(plan(text)).items() if do == "run"]
    assert todo == ["total/sum", "last/a"]
    finished = sweep.run(plan(STEPS.replace("n.txt", "missing.txt")), workers=2)
    each = [one for name, one in finished.items() if name.startswith("each/")]
    assert [one.status for one in each] == ["failed", "failed"]
    assert "the step it needs wrote n.txt; mend it" in each[0].error["message"]
    assert finished["total/sum"].status == "blocked"
    assert finished["total/sum"].error["message"].startswith("it needs each/n=2-")
    assert finished["last/a"].error["message"] == "it needs total/sum, which is not done"


@pytest.mark.slow
def test_every_failure_is_told_by_name_and_cell_and_the_others_finish(home, capsys):
    names = ["raises", "exits", "dies", "hangs", "hangs hard", "eats", "fine"]
    Path("s.yml").write_text(
        f"notebook: bad.ipynb\ngrid: {{name: {json.dumps(names)}}}\ntimeout: 8\nmemory: 500 MB"
    )
    assert cli.main(["sweep", "s.yml", "--workers", "3"]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("skynb: 6 of 7 failed: name=")
    expected = {
        "raises": "ValueError: no good",
        "exits": "the cell called exit(3), which ends the notebook",
        "dies": "the kernel was killed, perhaps for its memory",
        "hangs": "past its limit of 8 s (max_seconds); give it less to do, or raise the limit",
        "hangs hard": "past its limit of 8 s (max_seconds)",
        "eats": "past its limit of 500 MB (max_memory_mb)",
    }
    made = plans.read("s.yml")
    for job in made.jobs:
        one, name = workflows.load(job.folder), job.given["name"]
        line = next(line for line in said.out.splitlines() if job.name in line)
        if name == "fine":
            assert one.status == "done"
            assert "done in" in line
        else:
            assert one.error["cell"] == 3
            assert one.error["message"].startswith("Trouble: ")
            assert expected[name] in one.error["message"]
            assert f"bad failed in cell 3: {one.error['message']}" in line
    suite = ElementTree.parse("runs/s/junit.xml").getroot()
    assert suite.attrib == {"tests": "7", "failures": "6", "name": "s"}
    assert suite[0].find("failure").get("message").startswith(f"{made.jobs[0].name}: bad failed")
    assert "ValueError: no good" in suite[0].find("failure").text
    page = Path("runs/s/index.html").read_text()
    assert "Traceback" in page
    assert "\x1b" not in page
    assert sum(do == "run" for do, *_ in sweep.choose(made, only_failed=True).values()) == 6


@pytest.mark.slow
def test_a_failed_run_is_tried_again(home):
    flaky = "from pathlib import Path\nwith open('log', 'a') as f: f.write('x\\n')\n"
    write("f.ipynb", "n: int = 1", flaky + "assert len(Path('log').read_text().split()) > 2")
    made = plan("notebook: f.ipynb\nretries: 1")
    assert sweep.run(made, workers=1)["f"].status == "failed"
    assert sweep.run(made, workers=1, only_failed=True, retry=3)["f"].status == "done"
    assert ran() == ["x"] * 3


@pytest.mark.slow
def test_a_contract_is_held(home, capsys):
    sleep = "import time; time.sleep(seconds)"
    write("c.ipynb", "seconds: float = 4", sleep, cost={"max_seconds": 3})
    assert cli.main(["run", "c.ipynb", "--no-progress"]) == 0
    assert capsys.readouterr().err == "more than it states: max_seconds is 3\n"
    finished = sweep.run(plan("notebook: c.ipynb\ngrid: {seconds: [30, 0]}"), workers=2)
    assert sorted(one.status for one in finished.values()) == ["done", "failed"]
    bad = next(one for one in finished.values() if one.error)
    assert bad.error["cell"] == 2
    assert "past its limit of 3 s (max_seconds); give it less to do, or raise" in bad.failure


@pytest.mark.slow
def test_any_scheduler_will_do_and_a_worker_with_other_code_is_refused(home):
    from distributed import LocalCluster

    options = {"n_workers": 1, "threads_per_worker": 2, "dashboard_address": ":0"}
    made = plan("notebook: a.ipynb\ngrid: {n: [1, 2]}")
    with LocalCluster(**options, silence_logs="CRITICAL") as cluster:
        old = replace(made.jobs[0], name="old", key=made.jobs[0].key | {"skynb": "other"})
        both = replace(made, jobs=(old, made.jobs[1]))
        told = []
        address = cluster.scheduler_address
        finished = sweep.run(both, scheduler=address, tell=told.append)
    assert finished[made.jobs[1].name].results == {"square": 4}
    assert finished["old"].status == "failed"
    failed = next(line for line in told if "old: " in line)
    assert "has another skynb or other versions; install the same" in failed


def test_a_folder_of_ones_own_is_refused(home):
    made = plan("notebook: a.ipynb")
    made.out.mkdir(parents=True)
    (made.out / "index.html").write_text("mine")
    with pytest.raises(ValueError, match=r"index\.html is not from a skynb sweep; move it"):
        sweep.run(made)
    (made.out / "index.html").unlink()
    with workflows.locked(made.out), pytest.raises(ValueError, match="another run is writing"):
        sweep.run(made)
    with pytest.raises(OSError, match=r"no Dask scheduler answers at tcp://127\.0"):
        sweep.run(made, scheduler="tcp://127.0.0.1:1")


def test_a_sweep_of_the_same_name_elsewhere_does_not_mix_in(home, capsys, monkeypatch):
    made = plan("notebook: a.ipynb")
    client = contextlib.nullcontext(SimpleNamespace(dashboard_link=""))
    monkeypatch.setattr(sweep, "_client", lambda *_: client)
    monkeypatch.setattr(sweep, "_carry_out", lambda *_: None)
    sweep.run(made)
    other = home / "other"
    other.mkdir()
    (other / "s.yml").write_text("notebook: ../a.ipynb")
    assert cli.main(["sweep", "other/s.yml"]) == 2
    assert capsys.readouterr().err == (
        f"skynb: {made.out} has the runs of {home / 's.yml'}; choose another folder by --out\n"
    )
    assert plans.read("other/s.yml", out="runs/t").jobs
    Path("s.yml").unlink()
    assert plans.read("other/s.yml").jobs, "moved there"


# stopped, at any moment


def start(*arguments):
    """Start a sweep as the shell does, in a process group of its own."""
    command = [sys.executable, "-m", "skynb.cli", "sweep", "s.yml", "--workers", "2", *arguments]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    )


def leftovers(folder):
    """The processes of sweeps below a folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(folder) in process.environ().get(workflows.ARTIFACTS, ""):
                found.append(process)
    return found


def wait_until(holds, seconds=40):
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert holds()


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_is_clean(home, sent):
    Path("s.yml").write_text("notebook: a.ipynb\ngrid: {n: [1, 2, 3, 4], seconds: [0, 60]}")
    runner = start()
    wait_until(lambda: list(Path("runs/s").glob("n=1,seconds=0-*/results.json")))
    wait_until(lambda: len(list(Path("runs/s").glob("*seconds=60*/artifacts"))) == 2)
    time.sleep(2)
    if sent == signal.SIGINT:
        os.killpg(runner.pid, sent)  # as a terminal does
    else:
        runner.send_signal(sent)
    _, err = runner.communicate(timeout=40)
    assert runner.returncode == 1
    assert err.startswith("skynb: interrupted: ")
    assert err.endswith("; the same command goes on from there\n")
    assert err.count("\n") == 1
    assert leftovers(home) == []
    states = Counter(job.state() for job in plans.read("s.yml").jobs)
    assert states["done", DONE] >= 1
    assert sum(count for (state, _), count in states.items() if state == "interrupted") == 2
    again = sweep.choose(plans.read("s.yml"), only_failed=True)
    assert [do for do, *_ in again.values()] == ["skip"] * 8
    suite = ElementTree.parse("runs/s/junit.xml").getroot()
    assert suite.get("failures") == "0"
    assert len(suite.findall("testcase/skipped")) == 8 - states["done", DONE]
    assert "not run" in Path("runs/s/index.html").read_text()


@pytest.mark.slow
def test_a_stop_of_a_repetition_keeps_what_it_has_not_reached(home):
    slow = WORK.replace("time.sleep(seconds)", "time.sleep(60 if Path('slow').exists() else 0)")
    write("a.ipynb", PARAMETERS, "from pathlib import Path", slow)
    made = plan("notebook: a.ipynb\ngrid: {n: [1, 2, 3, 4]}")
    sweep.run(made, workers=2)
    Path("slow").touch()
    runner = start("--rerun")
    wait_until(lambda: sum(not job.stamp() for job in made.jobs) == 2)
    time.sleep(2)
    runner.send_signal(signal.SIGINT)
    _, err = runner.communicate(timeout=40)
    n_done = sum(job.state() == ("done", DONE) for job in made.jobs)
    assert n_done == 2
    assert err.startswith("skynb: interrupted: 2 of 4 runs are done in ")
    assert err.endswith("; the same command without --rerun goes on from there\n")


@pytest.mark.slow
def test_a_kill_at_any_moment_loses_nothing(home):
    """The runner thrice, then a worker, and a kernel: what was done stays as it was."""
    n_runs = 12
    grid = f"grid: {{n: {list(range(n_runs))}, seconds: [0.3]}}"
    Path("s.yml").write_text(f"notebook: a.ipynb\n{grid}\nretries: 1")
    made, draw, marks = plans.read("s.yml"), random.Random(0), {}
    for killed in ("runner", "runner", "runner", "worker", "kernel"):
        runner = start()
        time.sleep(draw.uniform(1.5, 5))
        family = psutil.Process(runner.pid).children(recursive=True)
        if killed == "runner":
            runner.kill()
        else:
            kernel = [p for p in family if p in leftovers(home)]
            if kernel:
                (kernel[0] if killed == "kernel" else kernel[0].parent()).kill()
        _, err = runner.communicate(timeout=90)
        _, alive = psutil.wait_procs(family, timeout=5)
        assert alive == []
        assert leftovers(home) == []
        for job in made.jobs:
            path = job.folder / "results.json"
            if path.exists():
                one = workflows.load(job.folder)
                mark = marks.setdefault(job.name, path.stat().st_mtime_ns)
                assert mark == path.stat().st_mtime_ns, "a finished run was repeated"
                assert one.results == {"square": job.given["n"] ** 2}
                nbformat.read(one.path, as_version=4)
                assert one.report.read_text().rstrip().endswith("</html>")
        if killed != "runner":
            assert runner.returncode == 0, err
    assert len(marks) == n_runs


@pytest.mark.slow
def test_what_failed_is_repeated_once_it_is_mended(home):
    write("m.ipynb", "n: int = 1", "assert n < 2, 'red \\x1b[31m \\x00'")
    assert sweep.run(plan("notebook: m.ipynb\ngrid: {n: [1, 2]}"), workers=1)
    suite = ElementTree.parse("runs/s/junit.xml").getroot()
    assert suite.get("failures") == "1"
    write("m.ipynb", "n: int = 1", "assert n < 3")
    chosen = sweep.choose(plans.read("s.yml"), only_failed=True)
    assert [do for do, *_ in chosen.values()] == ["skip", "run"]


@pytest.mark.slow
def test_a_run_that_could_not_begin_counts_as_failed(home):
    text = STEPS.replace('"${each}"', '"${first/n.txt}"')
    finished = sweep.run(plan(text.replace("n.txt", "missing.txt")), workers=1)
    lost = [name for name, one in finished.items() if "there is no" in str(one.error)]
    assert lost
    chosen = sweep.choose(plans.read("s.yml"), only_failed=True)
    assert {name for name in lost if chosen[name][0] == "run"} == set(lost)


@pytest.mark.slow
def test_a_scheduler_that_is_not_there_changes_nothing(home):
    made = plan("notebook: a.ipynb")
    sweep.run(made, workers=1)
    before = Path("runs/s/index.html").read_text()
    with pytest.raises(OSError, match="no Dask scheduler answers"):
        sweep.run(made, rerun=True, scheduler="tcp://127.0.0.1:1")
    assert Path("runs/s/index.html").read_text() == before
