"""The light-curve table ``lcs``: how observations come in, are cleaned once, and go out as arrays.

One row per object (index ``object_id``, int64 or str), observations nested in the column
``lightcurve`` with the fields ``mjd`` [day], ``mag`` [mag], ``magerr`` [mag, 1 sigma] and ``band``.
"""

import json
import logging
import os
import re
from collections import OrderedDict
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from nested_pandas import NestedFrame
from nested_pandas.series.ext_array import NestedExtensionArray

TIME_RANGE = (0.0, 100_000.0)
REQUIRED = ("object_id", "mjd", "mag", "magerr")
OBSERVED = ("mjd", "mag", "magerr", "band")
NO_BAND = "clear"
LATEST = 2_400_000.0
GROUP = 2**14
"""Observations that are written, and read back, together."""
KEPT = 2**26
"""Bytes of light curves that a `Stored` table keeps in memory."""
UNITS = {"mjd": "day", "mag": "mag", "magerr": "mag", "ra": "deg", "dec": "deg", "period": "day"}
# Band, magnitude of 1 electron/s, quality column, flags that make a cadence useless. Zero points:
# Kepler and TESS Instrument Handbooks (Van Cleve & Caldwell 2016; Vanderspek et al. 2018); flags:
# the defaults of lightkurve (Lightkurve Collaboration 2018).
MISSIONS = {
    "kepler": ("Kp", 25.10, "sap_quality", 1130799),
    "tess": ("TESS", 20.44, "quality", 175),
}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Arrays:
    """The observations of a table as flat, read-only arrays.

    Those of object ``k`` are ``mjd[offsets[k]:offsets[k + 1]]``, sorted by time.
    """

    offsets: np.ndarray
    mjd: np.ndarray
    mag: np.ndarray
    magerr: np.ndarray
    band: pa.Array

    @property
    def objects(self):
        """Return the row of the table that each observation belongs to, shape (n_obs,)."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def band_codes(self, names):
        """Return the position of each observation's band in ``names``, -1 if absent, (n_obs,)."""
        codes = pc.index_in(self.band, pa.array(list(names), self.band.type))
        return pc.fill_null(codes, -1).to_numpy()


def from_flat(frame, *, time_range=TIME_RANGE):
    """Return the table of light curves from a flat one with one row per observation.

    Rows that are not finite, have ``magerr <= 0`` or lie outside ``time_range`` are dropped; those
    of one object, band and time are merged to their inverse-variance mean; the rest is sorted.
    What was dropped is counted in ``lcs.attrs["dropped"]`` and said in one logged warning.
    Objects stay in the order in which they first appear, and ``frame.attrs`` go along.

    Parameters
    ----------
    frame : DataFrame
        Columns ``object_id, mjd, mag, magerr`` and, if known, ``band, label, ra, dec, period``.
        ``ra`` and ``dec`` may differ per epoch: their median is kept. Any other column is kept if
        it is constant within each object, and otherwise named in ``lcs.attrs["left_out"]``.
    time_range : tuple of float
        First and last MJD to keep [day].

    Raises
    ------
    ValueError
        For a missing or repeated column, text where numbers belong, ids that lost digits as float,
        Julian dates, a label or period that varies within an object, and when nothing is left.
    """
    return _door(frame, frame, None, time_range)


def clean(lcs, *, time_range=TIME_RANGE):
    """Return a table that another reader made, cleaned as :func:`from_flat` does."""
    return _nested(lcs.drop(columns="lightcurve"), lcs["lightcurve"].array.list_array, time_range)


def _nested(base, lists, time_range):
    """Return the table from columns per object and the Arrow lists of its observations."""
    offsets, rows = _flat(lists.combine_chunks())
    names = [field.name for field in rows.type]
    observed = _frame(pa.Table.from_arrays(rows.flatten(), names))
    return _door(base, observed, np.diff(offsets), time_range)


def _door(base, observed, lengths, time_range):
    """Return the table from columns per object row and per observation, checked and cleaned.

    ``lengths`` has the number of observations of each row of ``base``; None: one.
    """
    attrs = base.attrs
    if base.index.name == "object_id" and "object_id" not in base.columns:
        base = base.reset_index()
    found = list(dict.fromkeys([*base.columns, *observed.columns]))
    missing = [name for name in REQUIRED if name not in found]
    if missing:
        raise ValueError(
            f"missing column {', '.join(missing)}; found {found}; rename yours to "
            "object_id, mjd, mag, magerr and, if known, band, label, ra, dec, period"
        )
    if not base.columns.is_unique:
        name = base.columns[base.columns.duplicated()][0]
        raise ValueError(f"column {name!r} appears twice; rename or drop one")
    if len(base) == 0:
        raise ValueError("the table has no rows; give at least one observation")
    ids, codes = _identify(base["object_id"])
    others = base.loc[:, ~base.columns.isin(["object_id", *OBSERVED])]
    base, left_out = _base(others, codes, ids)
    codes = codes if lengths is None else np.repeat(codes, lengths)
    mjd, mag, magerr = (_numbers(observed[name]) for name in ("mjd", "mag", "magerr"))
    band, names = _bands(observed.get("band"), len(codes))
    late = np.isfinite(mjd) & (mjd > LATEST)
    if late.any():
        remedy = "which is no MJD; if it is a Julian date, subtract 2400000.5"
        raise _fault(observed["mjd"], late, remedy)
    (rows, *columns, band), dropped = _clean(codes, mjd, mag, magerr, band, time_range)
    n_obs = np.bincount(rows, minlength=len(ids))
    dropped["objects left empty"] = int((n_obs == 0).sum())
    said = ", ".join(f"{count} {reason}" for reason, count in dropped.items() if count)
    if len(rows) == 0:
        raise ValueError(f"no observation is left after cleaning ({said}); check the columns")
    lcs = _table(base, n_obs, *columns, pa.array(names).take(pa.array(band)))
    lcs.attrs = attrs | {"dropped": _sum(attrs.get("dropped", {}), dropped)}
    if said:
        logger.warning("cleaned %d observations: %s", len(codes), said)
    if left_out:
        logger.warning("left out columns with several values per object: %s", left_out)
        lcs.attrs["left_out"] = left_out
    return lcs


def _sum(dropped, more):
    """Return two accounts of what was dropped as one."""
    return {k: dropped.get(k, 0) + more.get(k, 0) for k in dropped | more}


def _fault(column, where, remedy):
    """Return the error that shows the first value where the mask ``where`` is true."""
    row = int(np.argmax(where))
    value = column.iloc[row]
    value = value.item() if isinstance(value, np.generic) else value
    return ValueError(f"column {column.name!r} holds {value!r} in row {row + 1}, {remedy}")


def _identify(column):
    """Return the distinct ids, in order of appearance, and each row's position among them."""
    remedy = "read it as int64 or str, e.g. pandas.read_csv(path, dtype={'object_id': str})"
    lost = f"a float that may have lost digits; {remedy}"
    column = column.rename("object_id")
    if pd.api.types.is_float_dtype(column.dtype):
        raise _fault(column, np.ones(1, bool), lost)
    codes, ids = pd.factorize(column)
    if (codes < 0).any():
        raise _fault(column, codes < 0, "which names no object; fill it in")
    ids = pd.Index(ids.tolist(), name="object_id")
    if pd.api.types.infer_dtype(ids) == "integer":  # those beyond int64 become text
        return ids if ids.dtype == np.int64 else ids.astype(object).map(str), codes
    odd = [k for k, value in enumerate(ids) if not isinstance(value, str)]
    if odd:
        raise _fault(column, codes == odd[0], f"and ids are all integers or all text; {remedy}")
    was_float = ids.str.fullmatch(r"-?\d+\.0|-?\d(\.\d+)?[eE]\+\d+")
    if was_float.any():
        raise _fault(column, codes == np.argmax(was_float), f"written from {lost}")
    return ids, codes


def _numbers(column):
    """Return a column as float64, missing values as NaN."""
    kind, types = column.dtype, pd.api.types
    if types.is_numeric_dtype(kind) and not types.is_bool_dtype(kind):
        return column.to_numpy(np.float64, na_value=np.nan)
    if not types.is_string_dtype(kind):
        raise _fault(column, np.ones(1, bool), "no number; for dates use astropy.time.Time")
    values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    text = np.isnan(values) & column.notna().to_numpy()
    text[text] = ~column[text].astype("str").str.strip().str.lower().isin(["", "nan"])
    if text.any():
        raise _fault(column, text, "no number; correct it, or empty it to have the row dropped")
    return values


def _bands(column, n_obs):
    """Return each row's position among the sorted band names, and those names."""
    if column is None:
        return np.zeros(n_obs, np.int32), [NO_BAND]
    codes, names = pd.factorize(column)
    odd = [k for k, name in enumerate(names) if not isinstance(name, str) or not name]
    nameless = (codes < 0) | np.isin(codes, odd)
    if nameless.any():
        raise _fault(column, nameless, "no name; give text, e.g. by map({1: 'g', 2: 'r', 3: 'i'})")
    names, ranks = np.unique(np.asarray(names, object), return_inverse=True)
    return ranks.astype(np.int32)[codes], names


def _base(frame, codes, ids):
    """Return one row per object from columns that repeat it, and the names of those left out."""
    base, left_out = {}, []
    for name, column in frame.items():
        if name in ("ra", "dec", "period"):
            column = pd.Series(_numbers(column), name=name)
        if name in ("ra", "dec"):
            base[name] = _position(column, codes)
            continue
        try:
            value_codes, values = pd.factorize(column)
        except (TypeError, NotImplementedError):
            left_out.append(str(name))
            continue
        kept = np.full(len(ids), -1)
        present = value_codes >= 0
        kept[codes[present]] = value_codes[present]
        varies = present & (value_codes != kept[codes])
        if not varies.any():
            base[name] = pd.Series(values).array.take(kept, allow_fill=True)
        elif name in ("label", "period"):
            k = codes[np.argmax(varies)]
            also = f"but object {ids[k]} also has {values[kept[k]]}"
            raise _fault(column, varies, f"{also}; give one {name} per object")
        else:
            left_out.append(str(name))
    return NestedFrame(base, index=ids), left_out


def _position(angle, codes):
    """Return each object's median ``ra`` or ``dec`` [deg]; ra wraps at 360."""
    known = angle.notna()
    some = np.zeros(codes.max() + 1)
    some[codes[known]] = angle[known]
    median = some + ((angle - some[codes] + 180) % 360 - 180).groupby(codes).median().to_numpy()
    return median % 360 if angle.name == "ra" else median


def _clean(codes, mjd, mag, magerr, band, time_range):
    """Return the observations to keep, sorted and merged, and how many were dropped and why."""
    keep, dropped = np.ones(len(codes), bool), {}
    for reason, good in (
        ("non-finite", np.isfinite(mjd) & np.isfinite(mag) & np.isfinite(magerr)),
        ("magerr <= 0", magerr > 0),
        ("outside time range", (mjd >= time_range[0]) & (mjd <= time_range[1])),
    ):
        dropped[reason] = int((keep & ~good).sum())
        keep &= good
    columns = codes, mjd, mag, magerr, band
    if not keep.all():
        columns = [column[keep] for column in columns]
    order = _order(columns[0], columns[1], columns[-1])
    codes, mjd, mag, magerr, band = (np.array(column[order]) for column in columns)
    repeats = np.all([column[1:] == column[:-1] for column in (codes, mjd, band)], axis=0)
    dropped["repeated times merged"] = int(repeats.sum())
    if repeats.any():
        starts = np.flatnonzero(np.append(True, ~repeats))
        mag, magerr = _means(mag, magerr, starts)
        codes, mjd, band = codes[starts], mjd[starts], band[starts]
    return (codes, mjd, mag, magerr, band), dropped


def _order(codes, mjd, band):
    """Return what sorts the rows by object, time and band: a full slice if they are sorted."""
    follows = (mjd[1:] > mjd[:-1]) | (mjd[1:] == mjd[:-1]) & (band[1:] >= band[:-1])
    follows = (codes[1:] > codes[:-1]) | (codes[1:] == codes[:-1]) & follows
    return slice(None) if follows.all() else np.lexsort((band, mjd, codes))


def _means(mag, magerr, starts):
    """Return the inverse-variance mean and its error of the runs that begin at ``starts``."""
    weight = magerr**-2.0
    total = np.add.reduceat(weight, starts)
    mean = np.add.reduceat(weight * mag, starts) / total
    single = np.diff(starts, append=len(mag)) == 1
    return np.where(single, mag[starts], mean), np.where(single, magerr[starts], total**-0.5)


def _table(base, n_obs, *columns):
    """Return the table of the objects in ``base`` with observations: ``mjd, mag, magerr, band``."""
    rows = pa.StructArray.from_arrays([pa.array(column) for column in columns], names=OBSERVED)
    filled = n_obs > 0
    offsets = pa.array(np.append(0, np.cumsum(n_obs[filled])), pa.int64())
    lists = NestedExtensionArray(pa.LargeListArray.from_arrays(offsets, rows))
    lcs = NestedFrame(base[filled])
    lcs["lightcurve"] = pd.Series(lists, index=lcs.index, copy=False)
    return lcs


def _flat(lists):
    """Return the offsets, shape (n_lists + 1,), and values of an Arrow list array, not copied."""
    offsets = lists.offsets.to_numpy().astype(np.int64, copy=False)
    if lists.null_count or offsets[0]:
        lengths = pc.fill_null(pc.list_value_length(lists), 0)
        offsets = np.append(0, np.cumsum(lengths))
    return offsets, lists.flatten()


def arrays(lcs):
    """Return the observations of the table as :class:`Arrays`, views of its Arrow buffers."""
    lists = lcs["lightcurve"].array.list_array
    lists = lists.chunk(0) if lists.num_chunks == 1 else lists.combine_chunks()
    offsets, rows = _flat(lists)
    numbers = [rows.field(name).to_numpy(zero_copy_only=False) for name in ("mjd", "mag", "magerr")]
    return Arrays(offsets, *numbers, rows.field("band"))


def bands(lcs):
    """Return the distinct bands of the table, sorted, as a list of str."""
    band = arrays(lcs).band
    if len(band) and pc.all(pc.equal(band, band[0])).as_py():  # thrice as fast as unique
        return [band[0].as_py()]
    return sorted(pc.unique(band).to_pylist())


def one_band(lcs):
    """Return the table's only band; several raise ValueError."""
    found = bands(lcs)
    if len(found) != 1:
        raise ValueError(f"expected one band, found {found}; use lightcurves.select_band first")
    return found[0]


def select_band(lcs, band):
    """Return the table with only the observations in ``band``.

    Objects that have none are dropped, counted in ``attrs["dropped"]`` and said in a warning.
    """
    flat = arrays(lcs)
    mask = flat.band_codes([str(band)]) == 0
    if not mask.any():
        raise ValueError(f"no observation in band {band!r}; the table has {bands(lcs)}")
    n_obs = np.bincount(flat.objects[mask], minlength=len(lcs))
    columns = [column[mask] for column in (flat.mjd, flat.mag, flat.magerr)]
    base = lcs.loc[:, lcs.columns != "lightcurve"]
    chosen = _table(base, n_obs, *columns, flat.band.filter(pa.array(mask)))
    n_empty = len(lcs) - len(chosen)
    if n_empty:
        logger.warning("%d of %d objects have no observation in band %s", n_empty, len(lcs), band)
    dropped = _sum(lcs.attrs.get("dropped", {}), {"objects left empty": n_empty})
    chosen.attrs = lcs.attrs | {"dropped": dropped}
    return chosen


def clip(lc, n_sigma):
    """Return which observations lie within ``n_sigma`` of the median of their band, shape (n_obs,).

    Sigma is 1.4826 times the median absolute deviation; a band where that is 0 stays whole.

    Examples
    --------
    >>> clip(pd.DataFrame({"mag": [15.0, 15.1, 15.2, 19.0], "band": "V"}), 5)
    array([ True,  True,  True, False])
    """
    if not n_sigma > 0:
        raise ValueError(f"clip at {n_sigma} sigma; give a positive number")
    groups = lc["band"].astype(str).to_numpy()
    off = (lc["mag"] - lc["mag"].groupby(groups).transform("median")).abs()
    sigma = 1.4826 * off.groupby(groups).transform("median")
    return ((off <= n_sigma * sigma) | (sigma == 0)).to_numpy()


def binned(lc, width, *, by="mjd"):
    """Return the inverse-variance means of ``mag`` in bins of one band: one row per filled bin.

    Columns: ``by`` (the mean of those in the bin), ``mag``, ``magerr``, ``band``, ``n_obs``.

    Parameters
    ----------
    lc : DataFrame
        One object's observations.
    width : float
        Of a bin, in the unit of the column ``by``.
    """
    if not (np.isfinite(width) and width > 0):
        raise ValueError(f"bins of width {width}; give a positive number")
    weight = lc["magerr"].to_numpy() ** -2.0
    table = pd.DataFrame({by: lc[by].to_numpy(), "mag": weight * lc["mag"], "weight": weight})
    groups = [lc["band"].astype(str).to_numpy(), np.floor(table[by].to_numpy() / width)]
    groups = table.groupby(groups)
    total = groups["weight"].sum()
    return pd.DataFrame(
        {
            by: groups[by].mean(),
            "mag": groups["mag"].sum() / total,
            "magerr": total**-0.5,
            "band": total.index.get_level_values(0),
            "n_obs": groups.size(),
        }
    ).reset_index(drop=True)


def fold(mjd, period, *, epoch=0.0):
    """Return the phase in [0, 1) of times ``mjd`` [day] for ``period`` [day], 0 at ``epoch`` [day].

    Examples
    --------
    >>> fold([10.0, 10.5, 12.25], 1.0)
    array([0.  , 0.5 , 0.25])
    """
    if not np.all(np.isfinite(period) & (np.asarray(period) > 0)):
        raise ValueError(f"period is {period!r}; give a positive number of days")
    phase = ((np.asarray(mjd, np.float64) - epoch) / period) % 1.0
    return np.where(phase < 1.0, phase, 0.0)


def summary(lcs):
    """Return one row per object: counts, time span [day] and median brightness [mag]."""
    flat = arrays(lcs)
    columns = {"mjd": flat.mjd, "mag": flat.mag, "magerr": flat.magerr}
    observed = pd.DataFrame(columns | {"band": flat.band_codes(bands(lcs))})
    table = observed.groupby(flat.objects).agg(
        n_obs=("mjd", "size"),
        n_bands=("band", "nunique"),
        first_mjd=("mjd", "first"),
        span=("mjd", "last"),
        median_mag=("mag", "median"),
        median_magerr=("magerr", "median"),
    )
    table["span"] -= table["first_mjd"]
    return table.set_index(lcs.index)


@contextmanager
def whole(path):
    """Give a path to write to; what was written there becomes ``path`` only if nothing fails."""
    path = Path(path).expanduser()
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, path)
    except OSError as error:
        raise OSError(
            error.errno, f"cannot write {path} ({error}); free some space or choose another folder"
        ) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write(lcs, path):
    """Return ``path`` after writing the table there as nested Parquet, whole or not at all.

    ``lcs.attrs`` (what was dropped, the data set's name) go along as JSON.
    """
    table = lcs.rename_axis("object_id").reset_index().to_pyarrow(large_list=True)
    table = table.replace_schema_metadata({"skynb": json.dumps(lcs.attrs, default=str)})
    rows = max(1, GROUP * len(lcs) // max(1, len(arrays(lcs).mjd)))
    with whole(path) as part:
        pq.write_table(table, part, compression="zstd", row_group_size=rows)
    return Path(path).expanduser()


def read(path, *, time_range=TIME_RANGE):
    """Return the table in a file, cleaned as :func:`from_flat` does.

    ``.parquet`` is flat or nested (as :func:`write` makes it), ``.csv`` and ``.ecsv`` are flat,
    ``.fits`` is a light curve of Kepler, K2 or TESS: its PDCSAP flux (SAP where there is none)
    becomes magnitudes with the mission's zero point, cadences that the mission flags as useless are
    dropped, and ``mjd`` is barycentric TDB, as ``attrs["time_scale"]`` says.
    """
    path = Path(path).expanduser()
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{path}: unknown kind of file; light curves come as {', '.join(READERS)}")
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; check the name")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty; write or download it again")
    try:
        return reader(path, time_range)
    except ValueError as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from error


class Stored:
    """A table whose light curves stay on disk until `take` asks for some; made by :func:`open`.

    Everything else is in memory, and as in a table: ``index``, ``columns``, ``attrs``,
    ``stored["label"]``, ``"label" in stored``, ``len(stored)``.
    """

    def __init__(self, path):
        self.path, self._read = path, OrderedDict()
        self._file = pq.ParquetFile(path)
        self.columns = pd.Index([name for name in self._file.schema_arrow.names])
        self.columns = self.columns.drop("object_id")
        base = _frame(self._file.read(["object_id", *self.columns.drop("lightcurve")]))
        self._base = NestedFrame(base.set_index("object_id"))
        self.attrs = json.loads(self._file.schema_arrow.metadata[b"skynb"])
        groups = map(self._file.metadata.row_group, range(self._file.num_row_groups))
        lengths = [group.num_rows for group in groups]
        self._starts = np.append(0, np.cumsum(lengths, dtype=int))
        self._type = self._file.schema_arrow.field("lightcurve").type

    @property
    def index(self):
        """The ids of the objects."""
        return self._base.index

    def __len__(self):
        return len(self._base)

    def __contains__(self, name):
        return name in self.columns

    def __getitem__(self, name):
        if name == "lightcurve":
            raise KeyError("the light curves are on disk; take some with lightcurves.take")
        return self._base[name]

    def __repr__(self):
        return f"<{len(self):,} light curves in {self.path}, columns {list(self.columns)}>"

    def take(self, rows):
        """Return the table of the objects at positions ``rows``, in that order."""
        rows = np.arange(len(self))[np.atleast_1d(np.asarray(rows, int))]
        groups = np.searchsorted(self._starts, rows, side="right") - 1
        order = np.argsort(groups, kind="stable")
        found, first = np.unique(groups[order], return_index=True)
        parts = [pa.array([], self._type)]
        for group, part in zip(found, np.split(order, first[1:]), strict=False):
            inside = pa.array(rows[part] - self._starts[group])
            parts.append(self._group(group).take(inside))
        lists = pa.concat_arrays(parts).take(pa.array(np.argsort(order)))
        lcs = self._base.iloc[rows]
        lcs["lightcurve"] = pd.Series(NestedExtensionArray(lists), index=lcs.index, copy=False)
        lcs.attrs = dict(self.attrs)
        return lcs[list(self.columns)]

    def _group(self, group):
        """Return the light curves of one row group; those asked for last stay in memory."""
        if group not in self._read:
            column = self._file.read_row_group(group, ["lightcurve"])["lightcurve"]
            self._read[group] = column.combine_chunks()
            while len(self._read) > 1 and sum(each.nbytes for each in self._read.values()) > KEPT:
                self._read.popitem(last=False)
        self._read.move_to_end(group)
        return self._read[group]


def open(path):
    """Return the table in a file that :func:`write` made, its light curves left on disk: `Stored`.

    Nothing is cleaned: :func:`write` was given a clean table.

    Raises
    ------
    ValueError
        If something else wrote the file.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; check the name")
    try:
        schema = pq.read_schema(path)
        fields = {field.name for field in schema.field("lightcurve").type}
        ours = b"skynb" in schema.metadata and "object_id" in schema.names
    except (pa.ArrowInvalid, KeyError, AttributeError, TypeError):
        ours, fields = False, set()
    if not ours or not fields.issuperset(OBSERVED):
        raise ValueError(
            f"{path} was not written by lightcurves.write; "
            "read it with lightcurves.read, and write it again with lightcurves.write"
        )
    stored = Stored(path)
    about = stored._file.metadata
    groups = [about.row_group(k) for k in range(about.num_row_groups)]
    together = [group.num_rows for group in groups if group.total_byte_size > KEPT / 4]
    if max(together, default=1) > 1:
        said = "%s holds %d objects in one piece, so that reading one reads all; %s"
        logger.warning(said, path, max(together), "write it again with lightcurves.write")
    return stored


def take(lcs, rows):
    """Return the objects of a table, also a `Stored` one, at positions ``rows``, in that order."""
    return lcs.take(np.atleast_1d(np.asarray(rows, int)))


def _read_parquet(path, time_range):
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"not a Parquet file, or a damaged one ({error}); get it again") from error
    if "lightcurve" not in table.column_names:
        return from_flat(_frame(table), time_range=time_range)
    base = _frame(table.drop_columns("lightcurve"))
    base.attrs = json.loads((table.schema.metadata or {}).get(b"skynb", b"{}"))
    return _nested(base, NestedExtensionArray(table["lightcurve"]).list_array, time_range)


def _frame(table):
    """Return an Arrow table as a DataFrame in which integers with gaps keep all their digits."""
    return table.to_pandas(integer_object_nulls=True, split_blocks=True)


def _read_csv(path, time_range):
    data = re.sub(rb"(?m)^#.*\n?", b"", path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    header, _, rows = data.partition(b"\n")
    data = b"\n".join([re.sub(rb"\s*,\s*", b",", header.strip()), rows])
    text = dict.fromkeys(("object_id", "band", "label"), pa.string())
    # One block, so that a column's type is found from all its rows.
    whole = pa.csv.ReadOptions(block_size=min(len(data) + 1, 2**31 - 1))
    convert = pa.csv.ConvertOptions(column_types=text, strings_can_be_null=True)
    try:
        table = pa.csv.read_csv(pa.BufferReader(data), whole, convert_options=convert)
    except pa.ArrowInvalid as error:
        raise ValueError(f"not a CSV table ({error}); one header, then one line per row") from error
    for k, name in enumerate(table.column_names):
        if name in text:
            column = pc.utf8_trim_whitespace(table.column(k))
            column = _integers(column) if name == "object_id" else column
            table = table.set_column(k, name, column)
    return from_flat(_frame(table), time_range=time_range)


def _integers(text):
    """Return text ids as int64 if each is the plain writing of one, else as they are."""
    with suppress(pa.ArrowInvalid):
        numbers = text.cast(pa.int64())
        return numbers if numbers.cast(pa.string()).equals(text) else text
    return text


def _read_ecsv(path, time_range):
    from astropy.table import Table
    from astropy.time import Time

    table = Table.read(path, format="ascii.ecsv")
    for name in [name for name in UNITS if name in table.colnames]:
        column = table[name]
        if isinstance(column, Time):
            table[name] = column.mjd
        elif column.unit is not None:
            unit = getattr(column.unit, "function_unit", column.unit)
            if not unit.is_equivalent(UNITS[name]):
                raise ValueError(f"column {name!r} is in {unit}; convert it to {UNITS[name]}")
            table[name] = column * unit.to(UNITS[name])
    return from_flat(table.to_pandas(), time_range=time_range)


def _read_fits(path, time_range):
    from astropy.io import fits

    try:
        with fits.open(path) as hdus:
            about, header, data = hdus[0].header, hdus[1].header, hdus[1].data
            band, zero_point, quality, useless = MISSIONS[about["TELESCOP"].lower()]
            kind = "pdcsap" if np.isfinite(data["pdcsap_flux"]).any() else "sap"
            names = ("time", f"{kind}_flux", f"{kind}_flux_err")
            time, flux, fluxerr = (np.asarray(data[name], np.float64) for name in names)
            flagged = (data[quality] & useless) > 0
            mjd = time + (header["BJDREFI"] - 2_400_000.5) + header["BJDREFF"]
    except (KeyError, IndexError, TypeError, OSError) as error:
        raise ValueError(
            f"not a light curve of Kepler, K2 or TESS ({error!r}); convert it to CSV"
        ) from error
    with np.errstate(divide="ignore", invalid="ignore"):
        mag, magerr = zero_point - 2.5 * np.log10(flux), 2.5 / np.log(10) * fluxerr / flux
    frame = pd.DataFrame({"mjd": mjd, "mag": mag, "magerr": magerr, "band": band})
    frame["object_id"] = str(about.get("OBJECT") or path.stem)
    frame["ra"], frame["dec"] = (about.get(name, np.nan) for name in ("ra_obj", "dec_obj"))
    n_flagged = int(flagged.sum())
    if n_flagged:
        logger.warning("left out %d cadences that the mission flags as useless", n_flagged)
    dropped = {"flagged": n_flagged}
    frame.attrs = {"time_scale": "TDB, barycentric", "flux": kind, "dropped": dropped}
    return from_flat(frame[~flagged], time_range=time_range)


READERS = {".parquet": _read_parquet, ".csv": _read_csv, ".ecsv": _read_ecsv, ".fits": _read_fits}
