"""The form of a notebook that serves as a function: what the house forbids, cell by cell."""

from __future__ import annotations

import ast
import re

from skynb import workflows

HOUSE = {"max_seconds": 60, "max_memory_mb": 1500}  # what a notebook's defaults may cost at most
WORDS = ("# ", "**Question.**", "**Inputs.**", "**Outputs.**")


def faults(notebook) -> list[str]:
    """Return what a notebook, given by name, path or as nbformat's node, has against the form."""
    is_node = hasattr(notebook, "cells")
    return list(_faults(notebook if is_node else workflows.read(workflows.find(notebook))))


def _faults(nb):
    if len(nb.cells) < 4:
        yield "fewer than four cells: head, parameters, imports and what records the results"
        return
    head, parameters, imports, *body = nb.cells
    if not all(word in head.source for word in WORDS):
        yield "the first cell lacks title, Question, Inputs or Outputs"
    if parameters.metadata.get("tags") != ["parameters"]:
        yield "the second cell is not tagged parameters"
    if not re.search(r"^seed: int = 0", parameters.source, re.M):
        yield "there is no parameter seed"
    for line in parameters.source.splitlines():
        if not re.fullmatch(r"\w+: [\w\[\], |]+ = .+  # .+", line):
            yield f"not annotated and explained: {line}"
    if not any(line.startswith("from skynb import") for line in imports.source.splitlines()):
        yield "the third cell does not import skynb"
    for before, cell in zip([imports, *body], body, strict=False):
        if cell.cell_type == "code":
            yield from _faults_of_code(cell.source, before)
    if "workflows.record(" not in nb.cells[-1].source:
        yield "the last cell records nothing"
    if "widgets" in nb.metadata or any(
        cell.get("outputs") or cell.get("execution_count") for cell in nb.cells
    ):
        yield "it was committed with outputs, counts or the state of widgets"
    stated = nb.metadata.get("skynb", {})
    for limit, most in HOUSE.items():
        if not 0 < stated.get(limit, 0) <= most:
            unit = workflows.LIMITS[limit]
            yield f"the metadata do not state skynb.{limit}, at most {most} {unit}, of the defaults"


def _faults_of_code(source, before):
    if before.cell_type != "markdown":
        yield f"no sentence before: {source[:40]}"
    if len(source.splitlines()) > 20:
        yield f"a cell of more than 20 lines: {source[:40]}"
    if re.search(r"^\s*[%!]|[\"'](/|~|[A-Z]:\\)", source, re.M):
        yield f"a magic, a shell call or an absolute path: {source[:40]}"
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except SyntaxError as error:
        yield f"not plain Python ({error.msg}): {source[:40]}"
        return
    for node in nodes:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield f"an import outside the import cell: {source[:40]}"
        if isinstance(node, ast.ClassDef) or (
            isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno > 4
        ):
            yield f"a class or a long function: {node.name}"
