"""Every notebook keeps the house's form, and runs with its defaults within a small machine."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

from skynb import workflows

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
by_name = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def faults(nb):
    """Return what a notebook has that the house forbids."""
    head, parameters, imports, *body = nb.cells
    if not all(
        word in head.source for word in ("# ", "**Question.**", "**Inputs.**", "**Outputs.**")
    ):
        yield "the first cell lacks title, Question, Inputs or Outputs"
    if parameters.metadata.get("tags") != ["parameters"]:
        yield "the second cell is not tagged parameters"
    if not re.search(r"^seed: int = 0", parameters.source, re.M):
        yield "there is no parameter seed"
    for line in parameters.source.splitlines():
        if not re.fullmatch(r"\w+: [\w\[\], ]+ = .+  # .+", line):
            yield f"not annotated and explained: {line}"
    if not any(line.startswith("from skynb import") for line in imports.source.splitlines()):
        yield "the third cell does not import skynb"
    for before, cell in zip([imports, *body], body, strict=False):
        if cell.cell_type == "code":
            yield from faults_of_code(cell.source, before)
    if "workflows.record(" not in nb.cells[-1].source:
        yield "the last cell records nothing"
    for cell in nb.cells:
        if cell.get("outputs") or cell.get("execution_count") or "widgets" in nb.metadata:
            yield "it was committed with outputs"


def faults_of_code(source, before):
    if before.cell_type != "markdown":
        yield f"no sentence before: {source[:40]}"
    if len(source.splitlines()) > 20:
        yield f"a cell of more than 20 lines: {source[:40]}"
    if re.search(r"^\s*[%!]|[\"'](/|~|[A-Z]:\\)", source, re.M):
        yield f"a magic, a shell call or an absolute path: {source[:40]}"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield f"an import outside the import cell: {source[:40]}"
        if isinstance(node, ast.ClassDef) or (
            isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno > 4
        ):
            yield f"a class or a long function: {node.name}"


@by_name
def test_form(path):
    assert list(faults(nbformat.read(path, as_version=4))) == []


def test_form_is_checked():
    nb = nbformat.read(FOLDER / "atlas.ipynb", as_version=4)
    nb.cells[4].source = "import os\n%pip install x\n" + "x = 1\n" * 20
    del nb.cells[3]
    nb.cells[1].source += "\nn = 3"
    with pytest.raises(SyntaxError):
        list(faults(nb))
    nb.cells[3].source = nb.cells[3].source.replace("%pip install x\n", "open('/data')\n")
    found = "; ".join(faults(nb))
    for fault in ("no sentence", "20 lines", "absolute path", "outside the import", "explained: n"):
        assert fault in found


@by_name
@pytest.mark.slow
def test_defaults_run(path, tmp_path):
    """The defaults run, keep the promises under Outputs, and fit a small machine."""
    run = workflows.run(path, out=tmp_path, progress=False)
    assert run.status == "done", run.failure
    outputs = nbformat.read(path, as_version=4).cells[0].source.split("**Outputs.**")[1]
    promised = re.findall(r"`([\w.]+)`", outputs)
    recorded = [name for name in promised if "." not in name]
    written = [name for name in promised if "." in name]
    assert set(recorded) == set(run.results)
    assert all((run.artifacts / name).stat().st_size for name in written)
    assert run.peak_memory_mb < 1500
    print(f"{path.stem}: {run.seconds:.0f} s, {run.peak_memory_mb:.0f} MB")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["asas", "ztf-examples"])
@pytest.mark.real
def test_atlas_takes_real_data(name, tmp_path):
    parameters = {"dataset": name, "n_per_class": 15, "n_trees": 50}
    run = workflows.run(FOLDER / "atlas.ipynb", parameters, out=tmp_path, progress=False)
    assert run.status == "done", run.failure


@by_name
@pytest.mark.slow
def test_takes_a_small_file_without_labels(path, tmp_path, one_band_lcs):
    """Four objects, the first with one observation: nothing to classify, rank or map.

    A notebook that is about labels says in one sentence that there are none.
    """
    few = one_band_lcs.iloc[:4].copy()
    flat = few["lightcurve"].nest.to_flat().reset_index(names="object_id")
    flat = flat[(flat["object_id"] != few.index[0]) | ~flat["object_id"].duplicated()]
    flat.to_csv(tmp_path / "my few.csv", index=False)
    given = {"dataset": str(tmp_path / "my few.csv")}
    run = workflows.run(path, given, out=tmp_path / "run", progress=False)
    if run.status == "done":
        assert run.results["n_objects"] == 4
    else:
        assert "datasets.labelled" in path.read_text()
        assert "labelled objects each, found no label; give light" in run.failure


@pytest.mark.slow
def test_atlas_takes_labels_of_ones_own(tmp_path, one_band_lcs):
    from skynb import lightcurves

    mine = one_band_lcs.assign(label=["mine", "yours", "theirs"] * 7)
    lightcurves.write(mine, tmp_path / "mine.parquet")
    given = {"dataset": str(tmp_path / "mine.parquet"), "n_trees": 20, "n_folds": 3}
    run = workflows.run(FOLDER / "atlas.ipynb", given, out=tmp_path / "run", progress=False)
    assert run.status == "done", run.failure
    assert run.results["n_classes"] == 3


def test_same_environment_for_conda_and_binder():
    conda = (FOLDER.parent / "environment.yml").read_text()
    binder = (FOLDER.parent / "binder" / "environment.yml").read_text()
    assert binder == conda.replace("-r requirements.lock", "-r ../requirements.lock")
