"""All runs of a sweep at a glance: a page that needs no network, JUnit's file, a line each."""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from pathlib import Path

from skynb import workflows

LOAD, EXEC = "application/vnd.holoviews_load.v0+json", "application/vnd.holoviews_exec.v0+json"
GENERATOR = "skynb sweep"
N_PICTURES = 24  # in an index; all are in the reports


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
    source = Path(__file__).with_name("overview.html.j2").read_text("utf-8")
    template = environment.from_string(source)
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
        seconds=clock(sum(row["run"].seconds for row in rows)),
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
            why = _xml(one.error["message"]) if one else ""
            ElementTree.SubElement(case, "skipped", message=why)
        elif one.status != "done":
            bad = ElementTree.SubElement(case, "failure", message=_xml(line(job, one)))
            bad.text = _xml(_traceback(one))
    return workflows.write(plan.out / "junit.xml", ElementTree.tostring(suite, encoding="unicode"))


def _xml(text) -> str:
    """Return text without the control characters that XML forbids."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\U0010ffff]", "", text)


def line(job, finished) -> str:
    """Return one line on how a run ended and what it cost."""
    cost = f"{clock(finished.seconds)}, {finished.peak_memory_mb:.0f} MB"
    if finished.status == "done":
        return f"{job.name}: done in {cost}"
    return f"{job.name}: {finished.failure if finished.cells else finished.error['message']}"


def clock(seconds) -> str:
    """Return a time in the unit that suits it: s, min or h."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
