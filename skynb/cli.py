"""The command ``skynb``: thin, and quick to start, for each command imports what it needs."""

import argparse
import json
import os
import sys
from pathlib import Path

from skynb import __version__

EXAMPLES = """examples:
  skynb run atlas                              the main job, on simulated light curves
  skynb run atlas -p dataset=crts              the same on 5,757 light curves of the Catalina survey
  skynb run atlas -p dataset=my.parquet        the same on your own
  skynb info atlas                             what a notebook asks, its parameters and its cost
  skynb sweep fields.yml                       many runs, none repeated that is done
  skynb results runs/atlas                     what a run recorded, as JSON
  skynb predict m.skynb my.csv -o out.parquet  a trained model on your own light curves
  skynb alerts score night.tar.gz -o scores.parquet   real or bogus?
  skynb streaks score stamps/ -o streaks.parquet      an asteroid's streak?
  skynb data list                              the data sets
"""


SWEEP = """a sweep is a file such as

  notebook: atlas              # name, path, pattern (notebooks/*.ipynb), list of these, or all
  parameters: {dataset: crts}  # the same in all runs
  grid: {n_trees: [100, 300], seed: [0, 1, 2]}  # or runs: [{seed: 0}, ...], or runs: table.csv
  retries: 1                   # of a run that fails
  timeout: 10 min              # of a run; default: the notebook's own max_seconds
  memory: 2 GB                 # of a run; default: the notebook's own max_memory_mb

and of notebooks that need each other

  steps:
    clean: {notebook: lightcurves, grid: {dataset: [crts, asas]}}
    learn: {notebook: classify, parameters: {dataset: "${clean/lightcurves.parquet}"}}

A second call runs what is new, changed or failed, and says why it skips the rest.
"""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = Parser(
        prog="skynb",
        description="Explore the changing sky: notebooks as workflows, data by name.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"skynb {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    def add(name, function, summary, to=commands, epilog=None):
        command = to.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.set_defaults(function=function)
        return command

    run = add("run", run_notebook, "run one notebook into a folder with its report and results")
    run.add_argument("notebook", metavar="NAME|PATH")
    run.add_argument(
        "-p",
        dest="parameters",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="set a parameter; repeat for more (skynb info NAME lists them)",
    )
    run.add_argument("-f", dest="file", metavar="PARAMS.yml", help="read parameters from a file")
    run.add_argument("--out", metavar="DIR", help="where everything goes (default: runs/NAME)")
    run.add_argument("--no-progress", action="store_true", help="show no progress bar")

    info = add("info", show_info, "show what a notebook asks, its parameters and its cost")
    info.add_argument("notebook", metavar="NAME|PATH")

    sweep = add("sweep", run_sweep, "run notebooks many times, from a file", epilog=SWEEP)
    sweep.add_argument("file", metavar="FILE.yml")
    sweep.add_argument("--out", metavar="DIR", help="where everything goes (default: runs/FILE)")
    where = sweep.add_mutually_exclusive_group()
    about = "processes on this machine (default: its cores)"
    where.add_argument("--workers", metavar="N", type=_count(1), help=about)
    where.add_argument(
        "--scheduler", metavar="ADDRESS", help="a Dask scheduler, as tcp://HOST:8786"
    )
    sweep.add_argument(
        "--dry-run", action="store_true", help="check all, print the plan, run nothing"
    )
    which = sweep.add_mutually_exclusive_group()
    which.add_argument("--rerun", action="store_true", help="repeat also what is done")
    which.add_argument("--only-failed", action="store_true", help="repeat only what failed")
    sweep.add_argument(
        "--retry", metavar="N", type=_count(0), help="tries after a failed one (default: retries:)"
    )

    lint = add("lint", lint_notebooks, "check the form of notebooks")
    lint.add_argument(
        "notebooks", metavar="NAME|PATH", nargs="*", help="default: all that come with skynb"
    )

    results = add("results", show_results, "print the recorded results of a run as JSON")
    results.add_argument("folder", metavar="DIR")

    predict = add("predict", predict_file, "apply a trained model to a file of light curves")
    predict.add_argument(
        "model", metavar="MODEL", help="a model.skynb, made by the notebook classify"
    )
    predict.add_argument(
        "lightcurves", metavar="LIGHTCURVES", help="Parquet or CSV of any length, ECSV, FITS"
    )
    predict.add_argument(
        "-o", dest="out", metavar="PREDICTIONS.parquet", required=True,
        help="one row per object: label, probabilities, outlier_score, and flag, the reason why "
        "an object is outside what the model knows",
    )  # fmt: skip
    predict.add_argument("--no-progress", action="store_true", help="show no progress bar")

    def scoring(name, summary, function, what):
        verbs = commands.add_parser(name, help=summary)
        verbs = verbs.add_subparsers(metavar="COMMAND", required=True)
        score = add("score", function, what, verbs)
        score.add_argument("--no-progress", action="store_true", help="show no progress bar")
        return score

    what = "tell real sources from bogus ones"
    score = scoring("alerts", "score alert packets", score_alerts, what)
    score.add_argument(
        "paths", metavar="PATH", nargs="+",
        help="avro, Parquet with cutouts, tar archives, folders, or names such as ztf-alerts-2023",
    )  # fmt: skip
    score.add_argument(
        "-o", dest="out", metavar="SCORES.parquet", required=True,
        help="one row per packet: candid, object_id, mjd, band, drb, score, where, and the reason "
        "why there is no score",
    )  # fmt: skip
    score.add_argument(
        "--model", metavar="NAME|PATH", default="d6_m7",
        help="d6_m7 (ZTF's own, the default), d6_m9, or what RealBogus.save wrote",
    )  # fmt: skip

    what = "tell asteroids' streaks from everything else"
    score = scoring("streaks", "find the streaks of asteroids in images", score_streaks, what)
    score.add_argument(
        "paths", metavar="IMAGE", nargs="+",
        help="difference stamps of 63 to 256 pixels a side, FITS or PNG, or folders of them",
    )  # fmt: skip
    score.add_argument(
        "-o", dest="out", metavar="STREAKS.parquet", required=True,
        help="one row per image: score, keep, the three answers rb, sl, kd, the streak's middle "
        "x, y [pixel], angle [deg] and length [pixel], and the reason why there is no score",
    )  # fmt: skip
    which = score.add_mutually_exclusive_group()
    which.add_argument("--model", metavar="PATH", help="what Streaks.save wrote")
    which.add_argument(
        "--learn-on", metavar="NAME", action="append", default=[],
        help="ZTF alerts, as ztf-alerts-2018, on whose stamps streaks are planted to learn from; "
        "repeat for more (default: simulated noise); learnt once, in minutes, and kept",
    )  # fmt: skip

    data = commands.add_parser("data", help="list, describe, fetch or clear data sets")
    verbs = data.add_subparsers(metavar="COMMAND", required=True)
    add("list", list_data, "list the data sets", verbs)
    for verb, function, what, number in (
        ("info", show_data, "describe a data set: source, licence, citation", None),
        ("fetch", fetch_data, "download a data set into the cache", None),
        ("clear", clear_data, "empty the cache, or one data set's part of it", "?"),
    ):
        add(verb, function, what, verbs).add_argument("name", metavar="NAME", nargs=number)

    lab = add("lab", open_lab, "open JupyterLab on the tutorials and notebooks")
    copies = "for copies of your own (default: none from a checkout, else skynb-notebooks)"
    lab.add_argument("folder", metavar="DIR", nargs="?", help=copies)
    lab.add_argument("--port", metavar="N", type=_count(1), help="default: 8888, or the next free")
    lab.add_argument("--no-browser", action="store_true", help="print the address, open nothing")
    lab.add_argument("--allow-root", action="store_true", help="start even as root")
    return top


def run_notebook(options) -> int:
    from skynb import workflows

    given = {}
    if options.file:
        given |= _read_parameters(options.file)
    for text in options.parameters:
        key, separator, value = text.partition("=")
        if not separator:
            raise ValueError(f"-p {text} has no value; write -p {text}=VALUE")
        given[key.strip()] = value
    finished = workflows.run(
        options.notebook,
        workflows.parse(options.notebook, given),
        out=options.out,
        progress=sys.stderr.isatty() and not options.no_progress,
    )
    name, cost = finished.notebook, f"{finished.seconds:.0f} s, {finished.peak_memory_mb:.0f} MB"
    if finished.status == "failed":
        return _fail(finished.failure, 1)
    print(f"{name}: done in {cost}\nreport: {finished.report}")
    stated = {} if given else workflows.info(options.notebook)["cost"]
    spent = {"max_seconds": finished.seconds, "max_memory_mb": finished.peak_memory_mb}
    for limit, most in stated.items():
        if spent[limit] > most:
            print(f"more than it states: {limit} is {most:g}", file=sys.stderr)
    for key, value in finished.results.items():
        text = f"{value:.6g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
        print(f"  {key}: {text if len(text) <= 100 else text[:97] + '...'}")
    return 0


def run_sweep(options) -> int:
    from skynb import plans, sweep

    try:
        plan = plans.read(options.file, out=options.out)
    except plans.SweepError as error:
        return max(_fail(fault, 2) for fault in error.faults)
    which = {"rerun": options.rerun, "only_failed": options.only_failed}
    if options.dry_run:
        chosen = sweep.choose(plan, **which)
        for job in plan.jobs:
            do, state, why = chosen[job.name]
            limits = ", ".join(f"{key} {n:g}" for key, n in job.limits.items()) or "no limit"
            print(f"{do} {job.name} ({state}: {why}; {limits})")
            print(f"    {job.notebook.name} {json.dumps(job.given, ensure_ascii=False)}")
        n_runs = sum(do == "run" for do, *_ in chosen.values())
        print(f"{n_runs} of {len(plan.jobs)} would run, into {plan.out}")
        return 0
    finished = sweep.run(
        plan,
        workers=options.workers,
        scheduler=options.scheduler,
        retry=options.retry,
        tell=lambda line: print(line, flush=True),
        **which,
    )
    print(f"index: {plan.out / 'index.html'}")
    bad = [name for name, one in finished.items() if one.status != "done"]
    if bad:
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        return _fail(f"{len(bad)} of {len(plan.jobs)} failed: {', '.join(bad[:5])}{more}", 1)
    return 0


def lint_notebooks(options) -> int:
    from skynb import lint, workflows

    code = 0
    for notebook in options.notebooks or workflows.names():
        for fault in lint.faults(notebook):
            code = _fail(f"{notebook}: {fault}", 1)
    return code


def show_info(options) -> int:
    from skynb import workflows

    about = workflows.info(options.notebook)
    print(about["title"])
    if about["question"]:
        print(about["question"])
    rows = [(p.name, f"{p.type} = {p.default!r}", p.help) for p in about["parameters"].values()]
    _print_table(rows or [("it has no parameters",)])
    if about["cost"]:
        cost = (f"{n:g} {workflows.LIMITS[key]}" for key, n in about["cost"].items())
        print("cost: at most", ", ".join(cost))
    return 0


def show_results(options) -> int:
    from skynb import workflows

    finished = workflows.load(options.folder)
    print(json.dumps(finished.results, indent=1, ensure_ascii=False))
    return _fail(finished.failure, 1) if finished.error else 0


def predict_file(options) -> int:
    from skynb import classify, predict

    progress = sys.stderr.isatty() and not options.no_progress
    model = classify.load(options.model)
    told = predict.file(model, options.lightcurves, options.out, progress=progress)
    print(f"{options.out}: {told['n_objects']} objects", end="")
    print(f", {told['n_flagged']} flagged, {told['n_unlabelled']} without a label")
    for reason, count in told["dropped"].items():
        print(f"  {count} {reason}")
    return 0


def score_alerts(options) -> int:
    from skynb import datasets, realbogus

    _check_output(options.out, options.paths)
    known = options.model in realbogus.VERSIONS
    model = (realbogus.official if known else realbogus.load)(options.model)
    paths = [datasets.contents(p) if p in datasets.FILES else p for p in options.paths]
    progress = sys.stderr.isatty() and not options.no_progress
    table = realbogus.table(paths, model, progress=progress)
    n_without = _write_scores(table, options.out)
    print(f"{options.out}: {len(table)} packets, {n_without} without a score")
    return int(n_without == len(table))


def score_streaks(options) -> int:
    from skynb import streaks

    _check_output(options.out, options.paths)
    streaks.files_in(options.paths)
    progress = sys.stderr.isatty() and not options.no_progress
    if options.model:
        model = streaks.Streaks.load(options.model)
    else:
        model = streaks.ready(options.learn_on, progress=progress)
    table = streaks.table(options.paths, model, progress=progress)
    n_without = _write_scores(table, options.out)
    print(f"{options.out}: {len(table)} images, {table['keep'].sum()} kept, {n_without} not read")
    return int(n_without == len(table))


def _check_output(path, sources) -> None:
    out = Path(path).resolve()
    if out.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file to write")
    read = {out, *out.parents} & {Path(source).resolve() for source in sources}
    if out.exists() and read:
        raise FileExistsError(f"{path} is among what is read; choose another name to write to")
    if out.suffix.lower() != ".parquet":
        raise ValueError(f"scores go to a .parquet file, not to {path}; change the name")


def _write_scores(table, path) -> int:
    """Write a table of scores, whole or not at all; how many rows have none."""
    from skynb import lightcurves

    with lightcurves.whole(path) as part:
        table.to_parquet(part, index=False)
    return int(table["score"].isna().sum())


def list_data(options) -> int:
    from skynb import datasets

    about = [datasets.info(name) for name in [*datasets.names(), *datasets.FILES]]
    _print_table([(one["name"], str(one["n_objects"]), one["summary"]) for one in about])
    print(f"cache: {datasets.cache_dir()}")
    return 0


def show_data(options) -> int:
    from skynb import datasets

    for key, value in datasets.info(options.name).items():
        print(f"{key}: {value if isinstance(value, str) else json.dumps(value, default=str)}")
    print(f"cache: {datasets.cache_dir()}")
    return 0


def fetch_data(options) -> int:
    from skynb import datasets

    fetched = datasets.fetch(options.name)
    for path in fetched or [f"{options.name}: made on the spot, there is nothing to fetch"]:
        print(path)
    return 0


def clear_data(options) -> int:
    from skynb import datasets

    def n_bytes():
        return sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())

    cache = datasets.cache_dir()
    before = n_bytes()
    datasets.clear(options.name)
    print(f"{(before - n_bytes()) / 1e6:.1f} MB freed in {cache}")
    return 0


def open_lab(options) -> int:
    from jupyterlab.labapp import LabApp

    from skynb import workflows

    home = workflows.home()
    folder = Path(options.folder or "skynb-notebooks").expanduser().resolve()
    if not options.folder and home != Path(workflows.__file__).parent and os.access(home, os.W_OK):
        folder = home
    elif folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; name a folder for the copies")
    else:
        _copy(home, folder)
    paths = [str(Path(__file__).with_name("jupyter")), os.environ.get("JUPYTER_CONFIG_PATH")]
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, paths))
    given = ["--no-browser"] * options.no_browser + ["--allow-root"] * options.allow_root
    given += [f"--port={options.port}"] if options.port else []
    page = "--LabApp.default_url=/lab/tree/tutorials/index.ipynb"
    LabApp.launch_instance([f"--ServerApp.root_dir={folder}", page, *given])
    return 0


def _copy(home, folder) -> None:
    """Copy notebooks, tutorials and their pictures, but nothing over what is there already."""
    for pattern in ("docs/*.png", "notebooks/*.ipynb", "tutorials/*.ipynb", "tutorials/*.py"):
        for source in home.glob(pattern):
            target = folder / source.relative_to(home)
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():
                continue
            content = source.read_bytes()
            if source.suffix == ".ipynb":
                nb = json.loads(content)
                for cell in nb["cells"]:  # what its owner's runs have left is not handed on
                    cell |= {"outputs": [], "execution_count": None} if "outputs" in cell else {}
                content = (json.dumps(nb, indent=1, ensure_ascii=False) + "\n").encode()
            target.write_bytes(content)
    print(f"{folder}: copies of the tutorials and notebooks; what you change in them stays")


def main(argv=None) -> int:
    """Return the exit code of the command: 0 done, 1 failed, 2 bad usage or bad input."""
    options = parser().parse_args(argv)
    try:
        code = options.function(options)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt as interrupt:
        return _fail(str(interrupt) or "interrupted", 1)
    except BrokenPipeError as error:
        return _unread(error)
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        return _fail(error, 2)


def _unread(error) -> int:
    """Return the exit code for a broken pipe: in silence if who read the output left, as head."""
    try:
        print(flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return _fail(error, 2)


def _fail(reason, code) -> int:
    print(f"skynb: {' '.join(str(reason).split())}", file=sys.stderr)
    return code


def _count(least):
    """Return what reads a whole number that is not below ``least``."""

    def count(text) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(
                f"expected a whole number, {least} or more, found {text!r}"
            )
        return int(text)

    return count


def _read_parameters(path) -> dict:
    import yaml

    if not Path(path).is_file():
        raise FileNotFoundError(f"no parameters file {path}; check the path")
    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no parameters; write lines of the form key: value")
    return found


def _print_table(rows) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print("  " + "  ".join(cells).rstrip())


if __name__ == "__main__":
    sys.exit(main())
