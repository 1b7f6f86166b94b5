"""Layers point one way: a module imports only from the rows above its own."""

import ast
from pathlib import Path

import pytest

import skynb

PACKAGE = Path(skynb.__file__).parent
LAYERS = [
    ["lightcurves", "taxonomy", "stamps"],
    ["simulate", "packets", "planted", "image_pairs"],
    ["datasets", "alerts"],
    ["dmdt", "periods", "crossmatch", "subtraction", "evaluate"],
    ["features", "structure"],
    ["models"],
    ["networks", "distributions", "bayes", "selection", "embed", "outliers", "trust"],
    ["classify", "labels", "realbogus", "streaks", "differencing"],
    ["predict", "explain"],
    ["survey", "faithfulness", "counterfactuals", "verdict"],
    ["plots"],
    ["widgets"],
    ["cli"],
]
PACKAGES = ["widgets"]  # whose modules may import each other
ALONE = {
    "workflows": set(),
    "lint": {"workflows"},
    "plans": {"workflows"},
    "overview": {"workflows"},
    "sweep": {"workflows", "plans", "overview"},
}  # and what they may import
ROW = {module: row for row, modules in enumerate(LAYERS) for module in modules}
PATHS = sorted(
    path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem != "__init__"
)


def module_of(path):
    """Return the module or package right below skynb that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def skynb_imports(source):
    """Return the skynb modules that a source imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("skynb.")}
    return found - {"__version__"}


def wrong_imports(module, imported):
    if module in ALONE:
        return imported - ALONE[module]
    if module == "cli":
        return set()
    allowed = {name for name in imported if ROW.get(name, len(LAYERS)) < ROW[module]}
    return imported - allowed - ({module} & set(PACKAGES))


def test_every_module_has_a_layer():
    assert {*ROW, *ALONE} == {module_of(path) for path in PATHS}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_upwards(path):
    assert not wrong_imports(module_of(path), skynb_imports(path.read_text()))


def test_an_import_against_the_grain_is_seen():
    source = "def f():\n    from skynb import plots\n"
    assert wrong_imports("dmdt", skynb_imports(source)) == {"plots"}
    assert wrong_imports("workflows", skynb_imports("import skynb.dmdt")) == {"dmdt"}
    assert wrong_imports("sweep", {"workflows", "dmdt"}) == {"dmdt"}


def test_the_package_holds_its_version_only():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    kinds = [type(node).__name__ for node in tree.body]
    assert kinds == ["Expr", "Assign"]


def code_lines(source):
    """Return the number of lines that hold code: no blank lines, comments or docstrings."""
    lines = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if isinstance(node, ast.expr | ast.stmt):
            lines |= {node.lineno, node.end_lineno}
    return len(lines)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_stays_short(path):
    assert code_lines(path.read_text()) < 700


def test_the_package_stays_thin():
    assert sum(code_lines(path.read_text()) for path in PATHS) < 15_000
