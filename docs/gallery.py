"""Write what each notebook costs, as measured, into README and the tutorials: ``make gallery``."""

import os
import re
import sys
from pathlib import Path

from skynb import cli, workflows

HEAD = """| notebook or tutorial | the question it answers | time | memory |
|---|---|---|---|
"""
ROW = re.compile(r"^\| \[(\w+)\]\(.*?\) \| (.*?) \|(?: (.*?) \| (.*?) \|)?$", re.M)
TABLE = re.compile(r"(?<=<!-- gallery -->\n).*?(?=<!-- /gallery -->)", re.S)
MEASURED = re.compile(r"\*Measured: [^*]*\*")


def main(folder=None, readme="README.md"):
    """Take the runs in a folder, else run all on one core, where the system can hold them to it."""
    if folder is None:
        folder = "runs/gallery"
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
        if code := cli.main(["sweep", "notebooks/all.yml", "--workers", "1", "--out", folder]):
            return code
    text = Path(readme).read_text(encoding="utf-8")
    rows = {name: row for name, *row in ROW.findall(TABLE.search(text)[0])}
    paths = workflows.names()
    lessons = [name for name, path in paths.items() if path.parent.name == "tutorials"]
    table = HEAD
    for name in dict.fromkeys([*lessons, *(name for name in rows if name in paths), *paths]):
        question, *cost = rows.get(name) or [workflows.info(name)["question"], "", ""]
        if Path(folder, name, "results.json").is_file():
            run = workflows.load(Path(folder, name))
            cost = [f"{run.seconds:.0f} s", f"{round(run.peak_memory_mb, -1):.0f} MB"]
            _measured(paths[name], " and ".join(cost))
        table += f"| [{name}]({paths[name].parent.name}/{name}.ipynb) | {question} "
        table += "| " + " | ".join(cost) + " |\n"
    workflows.write(Path(readme), TABLE.sub(lambda _: table, text))
    return 0


def _measured(path, cost):
    """Put the cost into the line that a tutorial has for it, and leave all else as it is."""
    text = path.read_text(encoding="utf-8")
    line = f"*Measured: {cost} on one core, with the defaults.*"
    if (new := MEASURED.sub(line, text, count=1)) != text:
        workflows.write(path, new)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
