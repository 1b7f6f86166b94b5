"""The command: quick to start, one line when something is wrong, exit codes that mean something."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest

from skynb import __version__, cli, datasets, workflows

HEAVY = [
    "datashader",
    "holoviews",
    "lsdb",
    "numba",
    "numpy",
    "pandas",
    "panel",
    "papermill",
    "tensorflow",
]
PARAMETERS = "n: int = 3  # how many\nname: str = 'x'\nclasses: list[str] = ['EW']"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A current directory with one notebook, whose only work is to record its parameters."""
    monkeypatch.chdir(tmp_path)
    cells = [
        nbformat.v4.new_markdown_cell("# Tiny\n\n**Question.** How many? **Inputs.** `n`"),
        nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(
            "from skynb import workflows\n"
            "workflows.record(n=n, inverse=1 / n, name=name, classes=classes)"
        ),
    ]
    cost = {"skynb": {"max_seconds": 60, "max_memory_mb": 1500}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=cost), "tiny.ipynb")
    return tmp_path


def fails(capsys, code, *arguments):
    """Return the one line that a command leaves on standard error, without its ``skynb: ``."""
    assert cli.main([*arguments]) == code
    line = capsys.readouterr().err
    assert line.startswith("skynb: ")
    assert line.count("\n") == 1
    return line[len("skynb: ") : -1]


def refused(capsys, *arguments):
    """Return what the parser says before it exits with 2."""
    with pytest.raises(SystemExit) as stop:
        cli.main([*arguments])
    assert stop.value.code == 2
    return capsys.readouterr().err


# start


@pytest.mark.parametrize("command", ["import skynb", "import skynb.cli", "import skynb.workflows"])
def test_an_import_loads_nothing_heavy(command):
    code = f"{command}\nimport sys\nprint([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_help_loads_nothing_heavy(record_property):
    code = (
        "import atexit, sys\n"
        f"atexit.register(lambda: print([m for m in {HEAVY} if m in sys.modules]))\n"
        "from skynb import cli\ncli.main(['--help'])"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    record_property("seconds", time.perf_counter() - start)
    assert "skynb run atlas -p dataset=crts" in done.stdout
    assert done.stdout.endswith("[]\n")


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"skynb {__version__}\n"


# run and results


def test_a_run_tells_where_things_are(home, capsys):
    Path("params.yml").write_text("n: 4\nname: 5\nclasses: [EA, EW]\n")
    given = ["-p", "n=8", "-p", "name=a=b"]
    assert cli.main(["run", "tiny.ipynb", "-f", "params.yml", *given, "--no-progress"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.splitlines()[0].startswith("tiny: done in ")
    assert said.out.splitlines()[1:] == [
        "report: runs/tiny/tiny.html",
        "  n: 8",
        "  inverse: 0.125",
        '  name: "a=b"',
        '  classes: ["EA", "EW"]',
    ]
    assert cli.main(["results", "runs/tiny"]) == 0
    recorded = {"n": 8, "inverse": 0.125, "name": "a=b", "classes": ["EA", "EW"]}
    assert json.loads(capsys.readouterr().out) == recorded


def test_a_failed_run_exits_1_and_names_the_cell(home, capsys):
    line = fails(capsys, 1, "run", "tiny.ipynb", "-p", "n=0", "--out", "here")
    expected = "tiny failed in cell 3: Tiny: ZeroDivisionError: division by zero"
    assert line == f"{expected}; the notebook up to there is here/tiny.ipynb"
    assert cli.main(["results", "here"]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out) == {}
    assert expected in said.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "tinny"], "no notebook named 'tinny'; "),
        (["run", "gone.ipynb"], "no notebook at gone.ipynb; check the path"),
        (["run", "tiny.ipynb", "-p", "m=1"], "tiny has no parameter 'm'"),
        (["run", "tiny.ipynb", "-p", "n=a"], "parameter n of tiny takes int, found 'a' (str)"),
        (
            ["run", "tiny.ipynb", "-p", "classes=EW, EA"],
            "parameter classes of tiny takes list[str], found 'EW, EA' (str);"
            " its default is ['EW']; write -p 'classes=[EW, EA]'",
        ),
        (["run", "tiny.ipynb", "-p", "n"], "-p n has no value; write -p n=VALUE"),
        (["run", "tiny.ipynb", "-f", "none.yml"], "no parameters file none.yml"),
        (["run", "tiny.ipynb", "-f", "list.yml"], "list.yml holds no parameters"),
        (["run", "tiny.ipynb", "-f", "bad.yml"], "bad.yml is not YAML: "),
        (
            ["run", "tiny.ipynb", "-f", "type.yml"],
            "parameter name of tiny takes str, found 5 (int)",
        ),
        (["results", "nowhere"], "no finished run in nowhere"),
        (["info", "list.yml"], "list.yml is not a Jupyter notebook"),
        (["data", "info", "crtss"], "no data set is called 'crtss'"),
    ],
)
def test_bad_input_is_one_line_and_exits_2(home, capsys, arguments, message):
    Path("list.yml").write_text("- 1\n")
    Path("bad.yml").write_text("a: [\n")
    Path("type.yml").write_text("name: 5\n")
    assert fails(capsys, 2, *arguments).startswith(message)
    assert not Path("runs").exists()


def test_bad_usage_is_one_line_and_exits_2(capsys):
    said = refused(capsys, "run")
    assert said == (
        "skynb run: the following arguments are required: NAME|PATH; see skynb run --help\n"
    )
    assert refused(capsys, "fly").count("\n") == 1
    assert refused(capsys).count("\n") == 1


@pytest.mark.parametrize(("option", "least"), [("--workers", 1), ("--retry", 0)])
def test_a_count_has_a_least(capsys, option, least):
    said = refused(capsys, "sweep", "s.yml", option, str(least - 1))
    assert f"{option}: expected a whole number, {least} or more, found '{least - 1}'" in said
    assert cli.parser().parse_args(["sweep", "s.yml", option, str(least)])


def test_an_interrupt_is_one_line_and_exits_1(monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(workflows, "info", interrupted)
    assert fails(capsys, 1, "info", "tiny") == "interrupted"


# the other commands


def test_info_shows_title_question_and_parameters(home, capsys):
    assert cli.main(["info", "tiny.ipynb"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Tiny",
        "How many?",
        "  n        int = 3             how many",
        "  name     str = 'x'",
        "  classes  list[str] = ['EW']",
        "cost: at most 60 s, 1500 MB",
    ]


def test_data_list_and_info_describe(cache, capsys):
    assert cli.main(["data", "list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in datasets.names())
    assert listed.splitlines()[-1] == f"cache: {cache}"
    assert cli.main(["data", "info", "crts"]) == 0
    said = capsys.readouterr().out
    assert "licence: " in said
    assert said.endswith(f"cache: {cache}\n")


def test_data_fetch_and_clear_say_what_happened(cache, monkeypatch, capsys):
    assert cli.main(["data", "fetch", "simulated"]) == 0
    assert capsys.readouterr().out == "simulated: made on the spot, there is nothing to fetch\n"
    monkeypatch.setattr(datasets, "fetch", lambda name: [Path(name, "a"), Path(name, "b")])
    cleared = []
    monkeypatch.setattr(
        datasets, "clear", lambda name: cleared.append(name) or (cache / "a").unlink(True)
    )
    cache.mkdir()
    (cache / "a").write_bytes(bytes(2_500_000))
    assert cli.main(["data", "fetch", "crts"]) == 0
    assert capsys.readouterr().out == "crts/a\ncrts/b\n"
    assert cli.main(["data", "clear"]) == cli.main(["data", "clear", "crts"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told == [f"2.5 MB freed in {cache}", f"0.0 MB freed in {cache}"]
    assert cleared == [None, "crts"]


@pytest.fixture
def started(monkeypatch):
    """What JupyterLab would be started with, instead of starting it."""
    from jupyterlab.labapp import LabApp

    calls = []
    monkeypatch.setattr(LabApp, "launch_instance", calls.append)
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "/mine")
    return calls


FRONT = "--LabApp.default_url=/lab/tree/tutorials/index.ipynb"


def test_lab_opens_on_the_tutorials(started, capsys):
    assert cli.main(["lab"]) == 0
    ours, mine = os.environ["JUPYTER_CONFIG_PATH"].split(os.pathsep)
    assert cli.main(["lab", "--no-browser", "--port", "9000", "--allow-root"]) == 0
    root = f"--ServerApp.root_dir={workflows.home()}"
    others = ["--no-browser", "--allow-root", "--port=9000"]
    assert started == [[root, FRONT], [root, FRONT, *others]]
    assert capsys.readouterr().out == ""
    overrides = Path(ours, "labconfig", "default_setting_overrides.json").read_text()
    quiet = json.loads(overrides)["@jupyterlab/apputils-extension:notification"]
    assert quiet == {"checkForUpdates": False, "fetchNews": "false"}
    assert mine == "/mine"


def test_lab_of_an_installed_skynb_opens_copies(started, tmp_path, monkeypatch, capsys):
    home = tmp_path / "site-packages" / "skynb"
    for name in ("docs/a.png", "notebooks/atlas.ipynb", "tutorials/index.ipynb", "tutorials/l.py"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("ours")
    run = {"cell_type": "code", "outputs": [{"text": "mine"}], "execution_count": 3}
    for name in ("notebooks/atlas.ipynb", "tutorials/index.ipynb"):
        (home / name).write_text(json.dumps({"cells": [run, {"cell_type": "markdown"}]}))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(workflows, "home", lambda: home)
    monkeypatch.setattr(workflows, "__file__", str(home / "workflows.py"))
    folder = tmp_path / "work" / "skynb-notebooks"
    assert cli.main(["lab"]) == 0
    assert capsys.readouterr().out.startswith(f"{folder}: copies of the tutorials and notebooks;")
    assert sorted(path.name for path in folder.rglob("*.*")) == sorted(
        path.name for path in home.rglob("*.*")
    )
    copied = json.loads((folder / "notebooks" / "atlas.ipynb").read_text())["cells"]
    assert copied[0] == {"cell_type": "code", "outputs": [], "execution_count": None}
    assert copied[1] == {"cell_type": "markdown"}
    (folder / "notebooks" / "atlas.ipynb").write_text("mine")
    (folder / "docs" / "a.png").unlink()
    assert cli.main(["lab"]) == 0
    assert (folder / "docs" / "a.png").read_text() == "ours"
    assert (folder / "notebooks" / "atlas.ipynb").read_text() == "mine"
    assert started == [[f"--ServerApp.root_dir={folder}", FRONT]] * 2


def test_lab_makes_copies_where_it_is_told(started, tmp_path):
    assert cli.main(["lab", str(tmp_path / "class")]) == 0
    copied = {path.name for path in (tmp_path / "class").rglob("*.*")}
    assert {"atlas.ipynb", "index.ipynb", "lessons.py", "atlas.png"} <= copied
    (tmp_path / "a file").write_text("not a folder")
    assert cli.main(["lab", str(tmp_path / "a file")]) == 2


def test_streaks_are_scored(tmp_path, capsys):
    from astropy.io import fits

    from skynb import simulate, streaks

    made, truth = simulate.stamps(40, seed=1)
    model = streaks.Streaks(n_networks=1, epochs=1).fit(made, truth).save(tmp_path / "s.skynb")
    fits.PrimaryHDU(made[0]).writeto(tmp_path / "a.fits")
    given, out = ["--model", str(model), "-o", str(tmp_path / "out.parquet")], "out.parquet"
    assert cli.main(["streaks", "score", str(tmp_path), *given]) == 0
    assert f"{out}: 1 images, " in capsys.readouterr().out
    table = pd.read_parquet(tmp_path / out)
    assert table["score"].notna().all()
    assert cli.main(["streaks", "score", str(tmp_path / "no"), *given]) == 2
    assert "no image at" in capsys.readouterr().err


def test_alerts_are_scored_and_the_broken_have_a_reason(tmp_path, capsys):
    from skynb import alerts, realbogus, simulate

    made = simulate.alerts(n=5)
    for name, data in made.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "cut.avro").write_bytes(data[:3000])
    model = realbogus.RealBogus()._set(realbogus.network().get_weights(), "own")
    model.save(tmp_path / ".model")
    out, given = tmp_path / "scores.parquet", ["--model", str(tmp_path / ".model")]
    assert cli.main(["alerts", "score", str(tmp_path), "-o", str(out), *given]) == 0
    assert capsys.readouterr().out == f"{out}: 6 packets, 1 without a score\n"
    table, found = pd.read_parquet(out), alerts.read(made)
    kept = table[table["reason"] == ""].set_index("candid")
    assert kept.index.tolist() == found.candidates.index.tolist()
    np.testing.assert_allclose(kept["score"], model.score(found.triplets), atol=1e-6)
    assert table[table["reason"] != ""]["where"].str.endswith("cut.avro").tolist() == [True]
    assert cli.main(["alerts", "score", str(tmp_path / "no"), "-o", str(out)]) == 2
    assert cli.main(["alerts", "score", str(tmp_path), "-o", str(out), "--model", "d7"]) == 2
    assert cli.main(["alerts", "score", str(tmp_path), "-o", str(tmp_path), *given]) == 2
    assert "is a folder; name a file" in capsys.readouterr().err
    packet = str(next(tmp_path.glob("*.avro")))
    before = Path(packet).read_bytes()
    for source, wrong in ((packet, packet), (str(tmp_path), packet), (str(tmp_path), str(out))):
        assert cli.main(["alerts", "score", source, "-o", wrong, *given]) == 2
        assert "is among what is read; choose another name" in capsys.readouterr().err
    assert Path(packet).read_bytes() == before
    assert cli.main(["alerts", "score", str(tmp_path), "-o", "scores.csv", *given]) == 2
    assert "go to a .parquet file, not to scores.csv; change" in capsys.readouterr().err
    cut = str(tmp_path / "cut.avro")
    assert cli.main(["alerts", "score", cut, "-o", str(out), *given]) == 1
    assert "1 packets, 1 without a score" in capsys.readouterr().out


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_who_reads_along_may_leave(unbuffered):
    command = [sys.executable, "-c", "from skynb import cli; exit(cli.main(['info', 'atlas']))"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
    ) as told:
        told.stdout.close()
        assert told.stderr.read() == b""
    assert told.returncode == 1


def test_another_broken_pipe_is_told(monkeypatch, capsys):
    def lose(name):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(workflows, "info", lose)
    assert cli.main(["info", "atlas"]) == 2
    assert "Broken pipe" in capsys.readouterr().err


@pytest.mark.real
def test_alerts_by_name_have_their_drb(mirror, tmp_path):
    out = tmp_path / "scores.parquet"
    assert cli.main(["alerts", "score", "ztf-alerts-2020", "-o", str(out)]) == 0
    table = pd.read_parquet(out)
    assert len(table) == 50
    assert np.abs(table["score"] - table["drb"]).max() <= 1e-6
