"""A trained classifier over a file of light curves of any length, a chunk at a time."""

import io
import json
import logging
import re
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from nested_pandas.series.ext_array import NestedExtensionArray
from tqdm.auto import tqdm

from skynb import lightcurves, models

CHUNK_ROWS = 200_000
"""Observations that are held at a time."""

MAX_UNSORTED = 5_000_000
"""Most rows of a file in which those of an object may lie apart, for it is then read whole."""

MISSING = ["", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "<NA>", "-nan"]
"""What stands for a missing value in a CSV file; an ``object_id`` is missing only if empty."""

COLUMNS = ("object_id", *lightcurves.OBSERVED)


def file(model, path, out, *, progress=True):
    """Return counts after judging every object of a file of light curves, in constant memory.

    ``out`` (Parquet) gets one row per object that went in: ``object_id, label``,
    ``probability_<class>`` of each, ``outlier_score`` (how unlike the training objects; it does not
    reliably find classes that the model never saw), and ``flag``: whether its number of points,
    time span, magnitude or band lie outside what the model knows, empty if not. An object without
    the model's band is judged in the band that it has most of (not at all by a model of several
    bands); one without any usable observation has a flag and no label. A file that states no band
    is taken to be in the model's first.

    Parameters
    ----------
    model : LightCurveClassifier
    path : str or Path
        What `lightcurves.read` understands. The rows of an object lie together, unless there are
        fewer than `MAX_UNSORTED`. ``.ecsv`` and ``.fits`` are read whole.
    out : str or Path
        Written whole or not at all.

    Returns
    -------
    dict
        ``n_objects``, ``n_flagged``, ``n_unlabelled`` and ``dropped``: reason -> observations.

    Raises
    ------
    FileNotFoundError, ValueError
        As `lightcurves.read`, and for a long file in which the rows of an object lie apart.
    """
    path, out, recipe = Path(path).expanduser(), Path(out).expanduser(), model.recipe_
    if out.suffix.lower() != ".parquet":
        raise ValueError(f"predictions go to a .parquet file, not to {out}; change the name")
    if out.exists() and path.exists() and out.samefile(path):
        raise ValueError(f"{out} holds the light curves; choose another name for the predictions")
    n_objects, id_type, together = _scan(path)
    about = {"kind": recipe.kind, "training": recipe.training, "versions": models.versions()}
    types = {"object_id": id_type, "label": pa.string()}
    types |= dict.fromkeys(_numbers(model), pa.float64()) | {"flag": pa.string()}
    schema = pa.schema(types, {"skynb": json.dumps(about)})
    counts, dropped = dict.fromkeys(("n_objects", "n_flagged", "n_unlabelled"), 0), {}
    with (
        lightcurves.whole(out) as part,
        pq.ParquetWriter(part, schema, compression="zstd") as writer,
        _quiet(),
        tqdm(total=n_objects, unit="object", disable=not progress) as bar,
    ):
        for ids, frame, n_before in _objects(path, id_type, together):
            try:
                table, lost = judge(model, ids, frame)
            except ValueError as error:
                counted = f"after row {n_before}" if together else "sorted by object_id"
                raise ValueError(f"{path}, {counted}: {error}") from error
            writer.write_table(pa.Table.from_pandas(table, schema, preserve_index=False))
            counts["n_objects"] += len(table)
            counts["n_flagged"] += int((table["flag"] != "").sum())
            counts["n_unlabelled"] += int(table["label"].isna().sum())
            dropped = {why: dropped.get(why, 0) + lost.get(why, 0) for why in dropped | lost}
            bar.update(len(table))
    return counts | {"dropped": {why: count for why, count in dropped.items() if count}}


@contextmanager
def _quiet():
    """Keep the door from saying of every chunk what is said once at the end."""

    def silent(record):
        return False

    logging.getLogger("skynb.lightcurves").addFilter(silent)
    try:
        yield
    finally:
        logging.getLogger("skynb.lightcurves").removeFilter(silent)


def objects(model, lcs):
    """Return the rows that `file` writes, of a table in the model's bands; indexed like it."""
    data = model.measure(lcs)
    probability = model.predict_proba(data)
    numbers = np.column_stack([probability, model.outlier_score(data)])
    table = pd.DataFrame(numbers, index=lcs.index, columns=_numbers(model))
    table.insert(0, "label", model.classes_[probability.argmax(axis=1)].astype(object))
    return table.assign(flag=pd.Series(model.recipe_.flags(lcs), lcs.index, dtype=object))


def judge(model, ids, frame):
    """Return one row of predictions for each of ``ids``, and reason -> observations dropped.

    The rows are those that `file` writes.

    Parameters
    ----------
    model : LightCurveClassifier
    ids : array_like, shape (n_objects,)
    frame : DataFrame
        One row per observation, as `lightcurves.from_flat` takes them.
    """
    n_rows, bands, numbers = len(frame), model.recipe_.bands, _numbers(model)
    frame, others = _in_band(frame, bands)
    dropped = {"in other bands": n_rows - len(frame)}
    table = pd.DataFrame(np.nan, index=pd.Index(ids, name="object_id"), columns=numbers)
    label = pd.Series(None, index=table.index, dtype=object)
    flag = pd.Series("no usable observation", index=table.index, dtype=object)
    try:
        lcs = lightcurves.from_flat(frame) if len(frame) else None
    except ValueError as error:
        if "no observation is left" not in str(error):
            raise
        lcs = None
    if lcs is None:
        dropped["unusable"] = len(frame)
    else:
        dropped |= lcs.attrs["dropped"]
        said = objects(model, lcs)
        table.loc[lcs.index] = said[numbers]
        label[lcs.index], flag[lcs.index] = said["label"], said["flag"]
    for name, band in others.items():
        said = f"another band ({band}, the model knows {', '.join(bands)})"
        flag[name] = "; ".join([said, flag[name]] if flag[name] else [said])
    table.insert(0, "label", label)
    return table.assign(flag=flag).reset_index(), dropped


def _numbers(model):
    """Return the names of the columns of predictions that are numbers."""
    return [*(f"probability_{name}" for name in model.recipe_.classes), "outlier_score"]


def _in_band(frame, bands):
    """Return the rows to judge, and object -> band of those objects that have none of ``bands``."""
    if "band" not in frame:
        return frame.assign(band=bands[0]), {}
    known = frame["band"].isin(bands) | frame["band"].isna()
    if known.all():
        return frame, {}
    band, object_id = frame["band"].astype(object), frame["object_id"]
    stranger = ~object_id.isin(object_id[known].unique())
    others = band[stranger].groupby(object_id[stranger]).agg(lambda each: each.mode()[0])
    if len(bands) == 1:
        chosen = stranger & (band == object_id.map(others))
        known, frame = known | chosen, frame.assign(band=band.where(~stranger, bands[0]))
    return frame[known], others.to_dict()


def _scan(path):
    """Return how many objects a file has, the type of their ids, and whether their rows touch."""
    starts, n_rows, last, text = [], 0, None, False
    for ids, _ in _chunks(path, ("object_id",)):
        if len(ids) == 0:
            break
        if ids.isna().any():
            row = n_rows + int(ids.isna().to_numpy().argmax()) + 1
            raise ValueError(f"{path}: column 'object_id' names no object in row {row}; fill it in")
        first = ids[(ids != ids.shift()).to_numpy() & ~((ids.index == 0) & (ids == last))]
        starts.append(pd.util.hash_pandas_object(first, index=False).to_numpy())
        whole = pd.api.types.is_integer_dtype(ids.dtype)
        if path.suffix.lower() == ".csv":
            whole = ids.str.fullmatch(r"0|-?[1-9]\d{0,17}").all()
        text |= not whole
        n_rows, last = n_rows + len(ids), ids.iloc[-1]
    starts = np.concatenate(starts) if starts else np.empty(0)
    n_objects = len(np.unique(starts))
    if n_objects == 0:
        raise ValueError(f"{path} has no rows; write or download it again")
    if n_objects < len(starts) and n_rows > MAX_UNSORTED:
        raise ValueError(f"{path}: the rows of an object lie apart; sort it by object_id first")
    return n_objects, pa.string() if text else pa.int64(), n_objects == len(starts)


def _objects(path, id_type, together):
    """Yield ids, rows and the number of rows before, of whole objects, about a chunk at a time."""

    def cast(ids):
        return ids.astype("int64") if id_type == pa.int64() else ids

    def joined(chunks):
        ids, frame = (pd.concat(each, ignore_index=True) for each in zip(*chunks, strict=True))
        return cast(ids), frame.assign(object_id=cast(frame["object_id"]))

    n_before, held = 0, []
    if not together:
        ids, frame = joined(_chunks(path, COLUMNS))
        names = pd.Index(ids.unique())
        codes = names.get_indexer(frame["object_id"])
        order = codes.argsort(kind="stable")
        for k in range(0, len(names), 1000):
            rows = order[slice(*codes[order].searchsorted([k, k + 1000]))]
            yield names[k : k + 1000], frame.iloc[rows], 0
        return
    for chunk in _chunks(path, COLUMNS):
        held.append(chunk)
        last = chunk[0].iloc[-1]
        if held[0][0].iloc[0] == last:
            continue
        ids, frame = joined(held)
        last = ids.iloc[-1]
        rest = frame["object_id"] == last
        yield ids[ids != last].unique(), frame[~rest], n_before
        n_before += len(frame) - int(rest.sum())
        held = [(ids[ids == last], frame[rest])]
    ids, frame = joined(held)
    yield ids.unique(), frame, n_before


def _chunks(path, columns):
    """Yield the ids (of rows, or of nested objects) and the rows of a file, in its order."""
    kind = path.suffix.lower()
    if path.is_file() and path.stat().st_size and kind == ".csv":
        options = {"dtype": {"object_id": "str", "band": "str"}, "skipinitialspace": True}
        with _Uncommented(path) as lines:
            found = pd.read_csv(lines, nrows=0, skipinitialspace=True).columns.str.strip()
        if "object_id" not in found:
            raise ValueError(f"{path}: missing column object_id, found {list(found)}; rename yours")
        options |= {"names": list(found), "header": 0, "keep_default_na": False}
        options["na_values"] = {name: MISSING for name in found} | {"object_id": [""]}
        options["usecols"] = [name for name in found if name in columns]
        with _Uncommented(path) as lines:
            for frame in pd.read_csv(lines, chunksize=CHUNK_ROWS, **options):
                yield _ids(frame), frame.reset_index(drop=True)
    elif path.is_file() and path.stat().st_size and kind == ".parquet":
        yield from _parquet(path, columns)
    else:
        lcs = lightcurves.read(path)
        arrays = lightcurves.arrays(lcs)
        frame = pd.DataFrame({name: getattr(arrays, name) for name in ("mjd", "mag", "magerr")})
        frame = frame.assign(band=arrays.band, object_id=lcs.index[arrays.objects])
        ids = pd.Series(lcs.index)
        if kind == ".ecsv":
            from astropy.table import Table

            ids = Table.read(path, format="ascii.ecsv").to_pandas()["object_id"]
        yield ids.astype(ids.dtype), frame


class _Uncommented(io.TextIOBase):
    """A CSV file without the lines that start with ``#``, as `lightcurves.read` takes it."""

    def __init__(self, path):
        self.path, self.file = path, open(path, "rb")  # noqa: SIM115
        self.file.seek(3 if self.file.read(3) == b"\xef\xbb\xbf" else 0)

    def read(self, _=-1):
        """Return some whole lines, "" at the end."""
        while block := self.file.read(2**18) + self.file.readline():
            try:
                kept = re.sub(rb"(?m)^#.*\n?", b"", block).decode()
            except UnicodeDecodeError as error:
                raise ValueError(f"{self.path} is not UTF-8 ({error}); convert it") from error
            if kept:
                return kept
        return ""

    def close(self):
        """Close the file too."""
        self.file.close()
        super().close()


def _ids(frame):
    if "object_id" not in frame:
        raise ValueError(f"missing column object_id; found {list(frame)}; rename yours")
    return frame["object_id"].reset_index(drop=True)


def _parquet(path, columns):
    try:
        parquet = pq.ParquetFile(path, buffer_size=2**20)
        about, names = parquet.metadata, parquet.schema_arrow.names
        n_rows = CHUNK_ROWS
        if "lightcurve" in names:
            paths = [about.schema.column(k).path.split(".") for k in range(about.num_columns)]
            inside = [k for k, path in enumerate(paths) if "mjd" in path]
            groups = [about.row_group(k) for k in range(about.num_row_groups)]
            n_obs = sum(group.column(k).num_values for group in groups for k in inside)
            n_rows = int(np.clip(CHUNK_ROWS * about.num_rows / max(n_obs, 1), 1, 5000))
            columns = ("object_id", "lightcurve") if len(columns) > 1 else columns
        wanted = [name for name in columns if name in names]
        n_groups = about.num_row_groups
        step = max(1, n_rows * n_groups // max(1, about.num_rows))
        pieces = (range(k, min(k + step, n_groups)) for k in range(0, n_groups, step))
        batches = (parquet.iter_batches(n_rows, row_groups=p, columns=wanted) for p in pieces)
        for batch in chain.from_iterable(batches):
            table = pa.Table.from_batches([batch])
            frame = table.drop_columns("lightcurve") if "lightcurve" in wanted else table
            frame = frame.to_pandas(integer_object_nulls=True)
            ids = _ids(frame)
            ids = ids.astype("str") if ids.dtype == np.uint64 else ids
            if "lightcurve" in wanted:
                lists = NestedExtensionArray(table["lightcurve"]).list_array.combine_chunks()
                rows = pc.list_flatten(lists)
                names = [field.name for field in rows.type]
                frame = pa.Table.from_arrays(rows.flatten(), names).to_pandas()
                frame = frame[[name for name in COLUMNS if name in names]]
                frame.insert(0, "object_id", ids.take(pc.list_parent_indices(lists)).to_numpy())
            yield ids, frame.assign(object_id=ids) if "lightcurve" not in wanted else frame
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is not Parquet, or damaged ({error}); get it again") from error
