"""The same measures and models over a whole survey: an LSDB/HATS catalogue of light curves.

A catalogue is a folder of partitions of the sky. It is opened lazily, measured partition by
partition by the workers of Dask, and written back; what was written before an interruption is not
made again::

    from skynb import dmdt, survey

    with survey.workers(2):
        lcs = survey.open("ztf")
        survey.write(survey.apply(lcs, dmdt.images, "model.skynb"), "ztf_predictions")

Without `workers`, or another ``dask.distributed.Client``, Dask computes in the threads of this
process.
"""

import functools
import hashlib
import inspect
import json
import logging
import os
import re
import shutil
import time
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pooch
import pyarrow as pa

from skynb import __version__, classify, lightcurves, predict

PARTITION_ROWS = 25_000
"""Objects of a partition; their dm-dt images are 53 MB before they are written."""

COMPRESSION_LEVEL = 3
"""Of zstd; the 15 of HATS makes results some 3 % smaller in several times the time."""

BEFORE_START = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), 1)
"""Environment of a worker instead of Dask's, whose MALLOC_TRIM_THRESHOLD_ costs a fifth of time."""


ZTF_DR1 = {
    "g": {2: 704_000_504, 5: 589_547_084, 10: 508_917_850, 20: 391_041_883},
    "r": {2: 1_334_687_993, 5: 1_142_671_302, 10: 1_013_283_728, 20: 852_773_692},
}
"""Light curves of ZTF's first data release by band and least number of observations."""

SOURCES = {"ZTF": 1_000_000_000, "LSST": 37_000_000_000}
ALERTS = {"ZTF": 1_000_000, "LSST": 10_000_000}
"""Sources of a survey, and its alerts of one night (Graham et al. 2019)."""


@contextmanager
def workers(n_workers=2, *, memory="2GB"):
    """Give a client of so many Dask workers here, one thread and at most ``memory`` each.

    A worker that needs more is ended and begun again. ``client.dashboard_link`` shows them at work,
    on any port that is free.
    """
    import dask
    from distributed import Client

    options = {"threads_per_worker": 1, "memory_limit": memory, "dashboard_address": ":0"}
    one = dict.fromkeys(("NUMBA_NUM_THREADS", "RAYON_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"), "1")
    before = dask.config.set({"distributed.nanny.pre-spawn-environ": BEFORE_START})
    nanny = logging.getLogger("distributed.nanny")
    with before, Client(n_workers=n_workers, env=one, **options) as client:
        nanny.setLevel(logging.NOTSET)
        yield client
        nanny.setLevel(logging.ERROR)  # that a worker ends late is no news


def peak_memory(client):
    """Return worker -> the largest memory that it has held [MB]."""
    return client.run(_peak)


def _peak():
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes


def catalogue(lcs, *, partition_rows=PARTITION_ROWS):
    """Return a table with ``ra`` and ``dec`` as a catalogue, for `write` to keep."""
    import lsdb

    for name in ("ra", "dec"):
        if name not in lcs or lcs[name].isna().any():
            raise ValueError(f"objects without {name!r} have no partition; drop or complete them")
    frame = lcs.rename_axis("object_id").reset_index()
    return lsdb.from_dataframe(frame, partition_rows=partition_rows, margin_threshold=None)


def open(path, *, columns=None):
    """Return the HATS catalogue at ``path``, an `lsdb.catalog.Catalog`; nothing is read yet.

    ``columns`` are those to read, ``_healpix_29`` aside; all by default.
    """
    import lsdb

    try:
        return lsdb.open_catalog(path, columns=columns)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"no HATS catalogue at {path}; check the path, or make one of a table: "
            "survey.write(survey.catalogue(lcs), path)"
        ) from None


def apply(catalogue, *measures, keep=(), band=None, **named):
    """Return a catalogue of what was measured of each object, lazily: nothing is computed yet.

    Row for row it is what the measures say of the light curves on a single machine, to the last
    digit or two of a period search. Every partition goes through the door of `skynb.lightcurves`;
    of an object without a usable observation all is missing. Two measures may have columns of the
    same name if one of them is given a name::

        survey.apply(lcs, dmdt.images, features.extract, period=periods.search)  # period_power

    Parameters
    ----------
    catalogue : lsdb.catalog.Catalog
        With the columns ``object_id`` and ``lightcurve``, in which ``mjd, mag, magerr[, band]`` are
        nested.
    *measures
        Functions of light curves, such as `dmdt.images`, `periods.search` and `features.extract`,
        that return a DataFrame indexed like these or an array, shape (n_objects, ...); options go
        in by `functools.partial`. Images become a column of flattened ones. A classifier, or the
        path of one, gives what ``skynb predict`` does. In a cluster give the path, on a file system
        that all workers see: it is sent instead of the model, and read once per worker.
    keep : sequence of str
        Columns to keep besides ``object_id`` and the position.
    band : str, optional
        Measure only the observations in this band; all is missing where an object has none in it.
        Not for classifiers, which choose by themselves.
    **named
        Measures as above, under a name that goes before each of their columns: ``NAME_COLUMN``.

    Raises
    ------
    ValueError
        A missing column, what is no measure, two measures with a column of the same name.
    """
    about, have = catalogue.hc_structure.catalog_info, catalogue.exploded_columns
    keep = [*dict.fromkeys(["object_id", about.ra_column, about.dec_column, *keep])]
    nested = [f"lightcurve.{name}" for name in lightcurves.OBSERVED[:3]]
    missing = [name for name in [*keep, *nested] if name not in have]
    if missing:
        raise ValueError(
            f"the catalogue has no column {', '.join(missing)}, only {', '.join(have)}; rename "
            "yours, by catalogue.rename or catalogue.map_partitions"
        )
    if not measures and not named:
        raise ValueError("nothing to measure; give functions of light curves, or models")
    steps = [
        _Judge(each, prefix) if hasattr(each, "recipe_") or isinstance(each, str | Path)
        else _Function(each, band, prefix)
        for prefix, each in [*(("", each) for each in measures),
                             *((f"{name}_", each) for name, each in named.items())]
    ]  # fmt: skip
    tables = [_typed(step.empty).add_prefix(step.prefix) for step in steps]
    names = [*keep, *(name for table in tables for name in table)]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(
            f"column {twice[0]!r} comes twice; name a measure, as in apply(lcs, features.extract, "
            "period=periods.search), and its columns begin with period_"
        )
    meta = pd.concat([catalogue.meta[keep], *tables], axis=1)
    meta.index = catalogue.meta.index
    return catalogue[[*keep, "lightcurve"]].map_partitions(_partition, steps, keep, meta=meta)


def _partition(part, steps, keep):
    """Return what was measured of the objects of one partition, in one thread."""
    import numba

    ids = part["object_id"]
    if ids.duplicated().any():
        raise ValueError(f"object_id {ids[ids.duplicated()].iloc[0]} comes twice; keep one row")
    n_threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        curves = part[["object_id", "lightcurve"]]
        lcs = _cleaned(curves)
        measured = [_typed(step(curves, lcs)).add_prefix(step.prefix) for step in steps]
    finally:
        numba.set_num_threads(n_threads)
    return pd.concat([part[keep], *(each.set_axis(part.index) for each in measured)], axis=1)


def _cleaned(curves):
    """Return the table of a partition, None where no observation is usable."""
    try:
        return lightcurves.clean(curves)
    except ValueError as error:
        if not re.search("no observation is left|no rows", str(error)):
            raise
    return None


class _Step:
    """One measure, known to Dask by what decides its result: ``token``.

    Attributes
    ----------
    empty : DataFrame
        Its table without a row, from one curve that everything can be measured of.
    prefix : str
        What goes before the names of its columns in the catalogue.
    """

    def __init__(self, band, prefix):
        mjd, mag = np.arange(12.0), np.tile([15.0, 16.0, 15.2], 4)
        probe = {"object_id": 0, "mjd": mjd, "mag": mag, "magerr": 0.1, "band": band or "r"}
        probe = lightcurves.from_flat(pd.DataFrame(probe)).reset_index()
        self.band, self.prefix, self.empty = band, prefix, None
        self.empty = self(probe, lightcurves.clean(probe)).iloc[:0]

    def __dask_tokenize__(self):
        from dask.base import normalize_token

        return normalize_token((type(self).__name__, self.token, self.band, self.prefix))


class _Function(_Step):
    """A function of light curves."""

    def __init__(self, function, band, prefix):
        if not callable(function):
            raise ValueError(
                f"{function!r} measures nothing; give functions such as features.extract, "
                "dmdt.images, periods.search, or models"
            )
        self.function = self.token = function
        if "progress" in inspect.signature(function).parameters:
            self.function = functools.partial(function, progress=False)
        super().__init__(band, prefix)

    def __call__(self, curves, lcs):
        """Return the table of a partition's objects, in their order."""
        known = [] if lcs is None else lightcurves.bands(lcs)
        if lcs is None or self.band not in (None, *known):
            return self.empty.reindex(curves["object_id"])
        if self.band is not None and len(known) > 1:
            lcs = lightcurves.select_band(lcs, self.band)
        table, name = self.function(lcs), _name(self.function)
        if not isinstance(table, pd.DataFrame):
            table = _columns(name, table, lcs.index)
        if not table.index.equals(lcs.index):
            raise ValueError(f"{name} gives other rows than it gets; index them like lcs")
        if self.empty is not None and list(table) != list(self.empty):
            raise ValueError(
                f"{name} gives other columns in the bands {', '.join(lightcurves.bands(lcs))}; "
                "choose one by band=, or fix them by bands= of features.extract"
            )
        return table if len(table) == len(curves) else table.reindex(curves["object_id"])


class _Judge(_Step):
    """A classifier, or the path of one, which alone is then sent to the workers."""

    def __init__(self, model, prefix):
        self.path, self.model = None, model
        if isinstance(model, str | Path):
            self.path = Path(model).expanduser().resolve()
            if not self.path.is_file():
                raise FileNotFoundError(f"no model {model}; check the path")
            self.token, self.model = pooch.file_hash(self.path), None
        else:
            self.token = json.dumps(asdict(model.recipe_), sort_keys=True)
        super().__init__(None, prefix)

    def __call__(self, curves, lcs):
        """Return what ``skynb predict`` says of a partition's objects, in their order."""
        model = self.model or _load(self.path, self.token)
        known = lcs is not None and set(lightcurves.bands(lcs)) <= set(model.recipe_.bands)
        if known and len(lcs) == len(curves):
            return predict.objects(model, lcs)
        ids = pd.Index(curves["object_id"].tolist())
        frame = curves.set_index("object_id")["lightcurve"].nest.to_flat().reset_index()
        return predict.judge(model, ids, frame)[0].set_index("object_id")


@functools.lru_cache(4)
def _load(path, sha256):
    """Return the classifier in a file, read once in a process."""
    if pooch.file_hash(path) != sha256:
        raise ValueError(f"{path} has changed since the survey began; write the survey anew")
    return classify.load(path)


def _name(measure):
    while isinstance(measure, functools.partial):
        measure = measure.func
    return getattr(measure, "__name__", type(measure).__name__)


def _columns(name, values, index):
    """Return an array, shape (n_objects, ...), as a column: of lists if it has more dimensions."""
    values = np.asarray(values)
    if values.shape[:1] != (len(index),):
        raise ValueError(
            f"{name} gives an array of shape {values.shape} for {len(index)} objects; a measure "
            "returns a DataFrame indexed like lcs, or an array, shape (n_objects, ...)"
        )
    if values.ndim > 1:
        flat = values.reshape(len(values), -1)
        offsets = np.arange(0, flat.size + 1, max(flat.shape[1], 1), dtype=np.int32)
        lists = pa.ListArray.from_arrays(offsets, pa.array(flat.ravel()))
        values = pd.Series(lists, index, dtype=pd.ArrowDtype(lists.type))
    return pd.DataFrame({name: values}, index=index)


def _typed(table):
    """Return a table whose types do not depend on its rows, nor on whether some are missing."""

    def typed(column):
        if column.dtype.kind == "f" or isinstance(column.dtype, pd.ArrowDtype):
            return column
        kind = pa.string() if column.dtype.kind == "O" or column.dtype == "str" else None
        values = pa.array(column, kind, from_pandas=True)
        return pd.Series(values, column.index, dtype=pd.ArrowDtype(values.type))

    return pd.DataFrame({name: typed(column) for name, column in table.items()}, table.index)


def write(catalogue, path, *, overwrite=False, progress=True):
    """Return ``path`` after computing a catalogue, lazy so far, and writing it there in HATS.

    It grows in a hidden folder beside ``path``, and is renamed when whole. After any interruption,
    kill -9 and lost workers too, the same call goes on: a partition that is complete is not made
    again. Neither is a catalogue that is there already, if it was made by the same operations of
    the same catalogue with the same skynb; a function of your own is known by its name. Only when a
    worker dies while others live, Dask makes again all that it made.

    Parameters
    ----------
    catalogue : lsdb.catalog.Catalog
    path : str or Path
        A folder that all workers see.
    overwrite : bool
        Drop what is begun there, and what is whole once the new one is.

    Raises
    ------
    FileExistsError
        Another result, or something else, is there already.
    ValueError
        It is the catalogue that is read, or holds that.
    """
    path = Path(path).expanduser()
    part, old = (path.with_name(f".{path.name}.{end}") for end in ("part", "old"))
    source, key = catalogue.hc_structure.catalog_path, _key(catalogue)
    if source is not None:
        source = Path(str(source).removeprefix("file://")).resolve()
        if {path.resolve(), part.resolve()} & {source, *source.parents}:
            raise ValueError(f"{path} holds the catalogue that is read; choose another folder")
    if overwrite:
        for folder in (part, path):
            if folder.exists() and not {"skynb.json", "hats.properties"} & set(os.listdir(folder)):
                raise FileExistsError(f"{folder} is no catalogue; choose another folder")
        shutil.rmtree(part, ignore_errors=True)
    for folder in () if overwrite else (path, part):
        if folder.exists() and _stored(folder) != key:
            begun = "the beginnings of " if folder == part else ""
            raise FileExistsError(
                f"{folder} holds {begun}another result; choose another folder, or overwrite=True"
            )
    if path.exists() and not overwrite:
        return path
    part.mkdir(parents=True, exist_ok=True)
    with lightcurves.whole(part / "skynb.json") as file:
        file.write_text(json.dumps({"key": key, "skynb": __version__}))
    if not _finished(part):
        for last in (False, True):
            try:
                catalogue.write_catalog(
                    part, as_collection=False, resume=True, progress_bar=progress,
                    catalog_name=path.name,
                    write_table_kwargs={"compression_level": COMPRESSION_LEVEL},
                )  # fmt: skip
                break
            except pa.ArrowInvalid:  # it read a partition that was being made again
                if last:
                    raise
                _settle()
        _settle()
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.replace(path, old)
    os.replace(part, path)
    shutil.rmtree(old, ignore_errors=True)
    return path


def _settle():
    """Wait until no worker makes a partition again whose first maker died; LSDB does not."""
    from distributed import get_client

    try:
        client = get_client()
    except ValueError:
        return
    while any(client.run(_n_writing).values()):
        time.sleep(0.2)


def _n_writing(dask_worker):
    return sum("perform_write" in str(task.key) for task in dask_worker.state.executing)


def _key(catalogue):
    """Return what a result is known by: its operations and their code, and the catalogue read."""
    first = catalogue.partitions[:1].to_delayed()[0].key[0]
    pixels = [(pixel.order, pixel.pixel) for pixel in catalogue.get_healpix_pixels()]
    folder, written = catalogue.hc_structure.catalog_path, None
    if folder is not None and (about := Path(str(folder), "hats.properties")).exists():
        written = about.stat().st_mtime_ns
    text = json.dumps([first, [[int(k) for k in pixel] for pixel in pixels], written, __version__])
    return hashlib.sha256(text.encode()).hexdigest()


def _stored(folder):
    """Return the key of the result in a folder, None if there is none."""
    try:
        return json.loads((folder / "skynb.json").read_text())["key"]
    except (OSError, ValueError, KeyError):
        return None


def _finished(part):
    """Return whether all was written but the marks of LSDB remain; drop marks that are not whole.

    LSDB marks a partition when its file is complete: first with its histogram, then as done. It
    refuses to go on if it was ended in between, and forgets that an empty one has no file. In the
    end it writes the properties, then removes the histograms, then the rest.
    """
    from hats.io.paths import pixel_catalog_file
    from hats.pixel_math import HealpixPixel

    marks = {}
    for folder, suffix in (("hists", "histogram.npz"), ("done", "done")):
        for file in (part / folder).glob(f"*_{suffix}"):
            marks.setdefault(tuple(map(int, file.name.split("_")[:2])), []).append(file)
    begun = [pixel for pixel, files in marks.items() if len(files) < 2]
    if (part / "hats.properties").exists() and (begun or not marks):
        for folder in ("hists", "done"):
            shutil.rmtree(part / folder, ignore_errors=True)
        return True
    for pixel, files in marks.items():
        if pixel in begun or not Path(str(pixel_catalog_file(part, HealpixPixel(*pixel)))).exists():
            for file in files:
                file.unlink()
    return False


def cost(per_second, *, n_cores=1, night=10.0):
    """Return what a throughput means for whole surveys, one row for each.

    Parameters
    ----------
    per_second : float
        Light curves per second and core, as measured.
    n_cores : int
        Cores at work.
    night : float
        Length of a night [hour].

    Returns
    -------
    DataFrame
        ``survey``, ``what``, ``n`` light curves (of alerts: each has one), ``core_hours``, and
        ``nights``, how many pass while ``n_cores`` are at it.

    References
    ----------
    ZTF DR1: counts of the release, Masci et al. 2019, PASP 131, 018003. Sources and alerts:
    Graham et al. 2019, PASP 131, 078001, table 1.

    Examples
    --------
    >>> hours = cost(1000.0).set_index(["survey", "what"])["core_hours"]
    >>> float(hours["ZTF DR1", "r, 20 observations or more"].round(1))
    236.9
    """
    if not (np.isfinite(per_second) and per_second > 0 and n_cores >= 1 and night > 0):
        raise ValueError(
            f"{per_second} per second on {n_cores} cores in nights of {night} h; give what was "
            "measured, above 0"
        )
    rows = [
        ("ZTF DR1", f"{band}, {least} observations or more", n)
        for band, counts in ZTF_DR1.items()
        for least, n in counts.items()
    ]
    rows += [(name, "all sources", n) for name, n in SOURCES.items()]
    rows += [(name, "alerts of a night", n) for name, n in ALERTS.items()]
    table = pd.DataFrame(rows, columns=["survey", "what", "n"])
    table["core_hours"] = table["n"] / per_second / 3600
    table["nights"] = table["core_hours"] / n_cores / night
    return table
