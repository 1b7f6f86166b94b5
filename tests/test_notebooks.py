"""Every notebook keeps the house's form, and runs with its defaults within a small machine."""

import json
import os
import re
import time
import tomllib
from pathlib import Path

import nbformat
import pytest

from skynb import cli, lint, plans, sweep, workflows

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = workflows.names()
ON_DATA = [
    path.stem
    for path in NOTEBOOKS.values()
    if path.parent == FOLDER and "datasets.load(" in path.read_text()
]
"""Those on light curves that are no tutorial."""

TUTORIALS = [name for name, path in NOTEBOOKS.items() if path.parent != FOLDER]

by_name = pytest.mark.parametrize("name", NOTEBOOKS)


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """The folder that all workers of pytest-xdist share: SKYNB_RUNS, else a temporary one."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    folder = Path(os.environ.get("SKYNB_RUNS", folder / "notebooks")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def swept(plan):
    """Return the runs of a plan, in two processes; another worker that has it now is waited for."""
    while True:
        try:
            return sweep.run(plan, workers=2, tell=print)
        except ValueError as error:
            if "another run is writing" not in str(error):
                raise
            time.sleep(1)


@pytest.fixture(scope="session")
def defaults(runs):
    """The finished run of each notebook with its defaults."""
    return swept(plans.read(FOLDER / "all.yml", out=runs / "all"))


@pytest.fixture(scope="session")
def few(runs, one_band_lcs):
    """The finished run of each notebook on four objects without labels, the first seen once."""
    lcs = one_band_lcs.iloc[:4]
    flat = lcs["lightcurve"].nest.to_flat().reset_index(names="object_id")
    flat = flat[(flat["object_id"] != lcs.index[0]) | ~flat["object_id"].duplicated()]
    table = workflows.write(runs / "my few.csv", flat.to_csv(index=False))
    document = {"notebook": ON_DATA, "parameters": {"dataset": str(table)}, "timeout": "10 min"}
    path = workflows.write(runs / "few.yml", json.dumps(document))
    return swept(plans.read(path, out=runs / "few"))


@by_name
def test_form(name):
    assert lint.faults(name) == []


def test_form_is_checked(tmp_path, capsys):
    nb = nbformat.read(FOLDER / "atlas.ipynb", as_version=4)
    nb.cells[4].source = "import os\n%pip install x\n" + "x = 1\n" * 20
    del nb.cells[3]
    nb.cells[1].source += "\nn = 3"
    assert any(fault.startswith("not plain Python (invalid syntax") for fault in lint.faults(nb))
    nb.cells[3].source = nb.cells[3].source.replace("%pip install x\n", "open('/data')\n")
    nb.cells[-1].execution_count = 3
    nb.metadata["skynb"] = {"max_seconds": 900}
    found = "; ".join(lint.faults(nb))
    for fault in (
        "no sentence", "20 lines", "absolute path", "outside the import", "explained: n",
        "with outputs", "skynb.max_seconds, at most 60 s", "skynb.max_memory_mb, at most 1500 MB",
    ):  # fmt: skip
        assert fault in found
    nbformat.write(nb, tmp_path / "bad.ipynb")
    assert cli.main(["lint", "atlas", str(tmp_path / "bad.ipynb")]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == len(lint.faults(nb))
    assert all("bad.ipynb: " in line for line in said.splitlines())
    assert lint.faults(nbformat.v4.new_notebook())[0].startswith("fewer than four cells")


@by_name
@pytest.mark.slow
def test_defaults_run(name, defaults):
    """The defaults run, keep the promises under Outputs, and fit a small machine."""
    run = defaults[name]
    assert run.status == "done", run.failure or run.error
    outputs = workflows.read(NOTEBOOKS[name]).cells[0].source.split("**Outputs.**")[1]
    promised = re.findall(r"`([\w.]+)`", outputs)
    recorded = [name for name in promised if "." not in name]
    written = [name for name in promised if "." in name]
    assert set(recorded) == set(run.results)
    assert all((run.artifacts / name).stat().st_size for name in written)
    assert run.peak_memory_mb < workflows.info(name)["cost"]["max_memory_mb"]
    cells = [cell for cell in workflows.read(run.path).cells if cell.cell_type == "code"]
    errors = [each.text for cell in cells for each in cell.outputs if each.get("name") == "stderr"]
    assert [text for text in errors if not text.startswith("left out")] == []


@pytest.mark.parametrize("name", TUTORIALS)
def test_a_tutorial_has_its_parts(name):
    text = "\n".join(cell.source for cell in workflows.read(NOTEBOOKS[name]).cells)
    for part in ("**Goals.**", "*About 20 minutes", "*Measured: ", "simulated"):
        assert part in text
    for part in ("## Exercise 1", "## Exercise 2", "## Summary", "## Where to go next"):
        assert f"\n{part}" in text
    assert "\n## References" in text
    assert text.count("**Do this.**") == text.count("**Expect.**") >= 2


@pytest.mark.parametrize("name", TUTORIALS)
@pytest.mark.slow
def test_solutions_pass_and_nothing_is_given_away(name, defaults):
    cells = workflows.read(defaults[name].path).cells
    for tag, verdict in (("exercise", "✗ No answer yet"), ("solution", "✓ Right.")):
        tagged = [cell for cell in cells if tag in cell.metadata.get("tags", [])]
        shown = ["".join(str(one.get("data")) for one in cell.outputs) for cell in tagged]
        assert [verdict in each for each in shown] == [True, True]
    folded = {"source_hidden": True, "outputs_hidden": True}
    assert all(cell.metadata.get("jupyter") == folded for cell in tagged)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["asas", "ztf-examples"])
@pytest.mark.real
def test_atlas_takes_real_data(name, tmp_path):
    parameters = {"dataset": name, "n_per_class": 15, "n_trees": 50}
    run = workflows.run(FOLDER / "atlas.ipynb", parameters, out=tmp_path, progress=False)
    assert run.status == "done", run.failure


@pytest.mark.parametrize("name", ON_DATA)
@pytest.mark.slow
def test_takes_a_small_file_without_labels(name, few):
    """There is nothing to classify, rank or map.

    A notebook that is about labels says in one sentence that there are none.
    """
    run = few[name]
    if run.status == "done":
        assert run.results["n_objects"] == 4
    else:
        assert "datasets.labelled" in NOTEBOOKS[name].read_text()
        assert "objects each, found no label; give light" in run.failure


@pytest.mark.slow
def test_atlas_takes_labels_of_ones_own(tmp_path, one_band_lcs):
    from skynb import lightcurves

    mine = one_band_lcs.assign(label=["mine", "yours", "theirs"] * 7)
    lightcurves.write(mine, tmp_path / "mine.parquet")
    given = {"dataset": str(tmp_path / "mine.parquet"), "n_trees": 20, "n_folds": 3}
    run = workflows.run(FOLDER / "atlas.ipynb", given, out=tmp_path / "run", progress=False)
    assert run.status == "done", run.failure
    assert run.results["n_classes"] == 3


# the front page of the tutorials


@pytest.fixture(scope="module")
def front():
    """The page that JupyterLab opens."""
    return workflows.read(FOLDER.parent / "tutorials" / "index.ipynb")


def test_the_front_page_is_text(front):
    assert {cell.cell_type for cell in front.cells} == {"markdown"}
    assert "index" not in NOTEBOOKS


def test_the_front_page_shows_all_that_there_is(front):
    text = "\n".join(cell.source for cell in front.cells)
    links = {Path(link).stem for link in re.findall(r"\]\(([^)]+\.ipynb)\)", text)}
    assert links == set(NOTEBOOKS)
    pictures = [Path(link) for link in re.findall(r'src="([^"]+)"', text)]
    assert len(pictures) == 7
    assert all((FOLDER / picture).is_file() for picture in pictures)
    carried = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text())
    carried = carried["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert all(carried[f"docs/{p.name}"] == f"skynb/docs/{p.name}" for p in pictures)


def test_same_environment_for_conda_and_binder():
    conda = (FOLDER.parent / "environment.yml").read_text()
    binder = (FOLDER.parent / "binder" / "environment.yml").read_text()
    assert "\n      - -r requirements.lock\n" in conda
    assert conda.split("  - pip")[0] == binder.split("  - pip")[0]
    built = (FOLDER.parent / "binder" / "postBuild").read_text()
    assert "pip install " in built
    locked = (FOLDER.parent / "requirements.lock").read_text()
    left_out = re.search(r'unused="(.*)"', built)[1].split("|")
    assert all(f"\n{name}==" in locked for name in left_out)
    started = (FOLDER.parent / "binder" / "start").read_text()
    assert "export NUMBA_CPU_NAME=generic\n" in built
    assert "export NUMBA_CPU_NAME=generic\n" in started
