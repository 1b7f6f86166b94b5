"""The light-curve table ``lcs``: how observations come in, are cleaned once, and go out as arrays.

One row per object (index ``object_id``, int64 or str), observations nested in the column
``lightcurve`` with the fields ``mjd`` [day], ``mag`` [mag], ``magerr`` [mag, 1 sigma] and ``band``.
"""

import json
import logging
import os
import re
import warnings
from contextlib import suppress
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
    Objects stay in the order in which they first appear.

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
        Julian dates, a label or period that varies within an object, a table without rows, and
        when no observation is left. Rows are counted from 1.
    """
    return _door(frame, frame, None, time_range)


def _door(base, observed, lengths, time_range, dropped=None):
    """Return the table from columns per object row and per observation, checked and cleaned.

    ``lengths`` has the number of observations of each row of ``base``; None: one.
    """
    if base.index.name == "object_id" and "object_id" not in base.columns:
        base = base.reset_index()
    _require(list(dict.fromkeys([*base.columns, *observed.columns])), base.columns)
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
        raise _fault(
            observed["mjd"], late, "which is no MJD; if it is a Julian date, subtract 2400000.5"
        )
    columns, counts = _clean(codes, mjd, mag, magerr, band, time_range)
    rows, *columns, band = columns
    n_obs = np.bincount(rows, minlength=len(ids))
    filled = n_obs > 0
    counts["objects left empty"] = np.count_nonzero(~filled)
    dropped = dropped or {}
    for reason, count in dropped.items():
        counts[reason] = counts.get(reason, 0) + count
    said = ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)
    if not filled.any():
        raise ValueError(f"no observation is left after cleaning ({said}); check the columns")
    if said:
        logger.warning("cleaned %d observations: %s", len(codes) + sum(dropped.values()), said)
    if left_out:
        logger.warning("left out columns with several values per object: %s", left_out)
    offsets = np.concatenate([[0], np.cumsum(n_obs[filled])])
    lcs = _table(base[filled], offsets, *columns, _text(band, names))
    lcs.attrs["dropped"] = {reason: int(count) for reason, count in counts.items()}
    if left_out:
        lcs.attrs["left_out"] = left_out
    return lcs


def _require(found, columns):
    missing = [name for name in REQUIRED if name not in found]
    if missing:
        raise ValueError(
            f"missing column {', '.join(missing)}; found {found}; rename yours to "
            "object_id, mjd, mag, magerr and, if known, band, label, ra, dec, period"
        )
    if not columns.is_unique:
        name = columns[columns.duplicated()][0]
        raise ValueError(f"column {name!r} appears twice; rename or drop one")


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
    ids = pd.Index(np.asarray(ids))
    kind = pd.api.types.infer_dtype(ids)
    if kind == "integer":
        try:
            return pd.Index(pa.array(ids).cast(pa.int64()).to_numpy(), name="object_id"), codes
        except (pa.ArrowInvalid, OverflowError):
            kind, ids = "string", ids.astype(object).map(str)
    if kind != "string":
        odd = next((k for k, value in enumerate(ids) if not isinstance(value, str)), 0)
        raise _fault(column, codes == odd, f"and ids are all integers or all text; {remedy}")
    ids = pd.Index(ids, dtype="str", name="object_id")
    was_float = ids.str.fullmatch(r"-?\d+\.0|-?\d(\.\d+)?[eE]\+\d+")
    if was_float.any():
        raise _fault(column, codes == np.argmax(was_float), f"written from {lost}")
    return ids, codes


def _numbers(column):
    """Return a column as float64, missing values as NaN."""
    kind = column.dtype
    if pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind):
        return column.to_numpy(np.float64, na_value=np.nan)
    if not (pd.api.types.is_string_dtype(kind) or pd.api.types.is_object_dtype(kind)):
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
    order = np.argsort(np.asarray(names, object))
    rank = np.empty(len(names), np.int32)
    rank[order] = np.arange(len(names))
    return rank[codes], [names[k] for k in order]


def _base(frame, codes, ids):
    """Return one row per object from columns that repeat it, and the names of those left out."""
    base, left_out = {}, []
    for name, column in frame.items():
        if name in ("ra", "dec", "period"):
            column = pd.Series(_numbers(column), name=name)
        if name in ("ra", "dec"):
            base[name] = _position(column, codes, len(ids))
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


def _position(angle, codes, n_objects):
    """Return each object's median ``ra`` or ``dec`` [deg], shape (n_objects,); ra wraps at 360."""
    first = np.zeros(n_objects)
    if angle.name == "ra":
        first[codes[angle.notna()]] = angle.dropna()
        angle = (angle - first[codes] + 180) % 360 - 180
    median = first + angle.groupby(codes).median().reindex(np.arange(n_objects)).to_numpy()
    return median % 360 if angle.name == "ra" else median


def _clean(codes, mjd, mag, magerr, band, time_range):
    """Return the observations to keep, sorted and merged, and how many were dropped and why."""
    finite = np.isfinite(mjd) & np.isfinite(mag) & np.isfinite(magerr)
    positive = finite & (magerr > 0)
    keep = positive & (mjd >= time_range[0]) & (mjd <= time_range[1])
    n_finite, n_positive, n_kept = (np.count_nonzero(mask) for mask in (finite, positive, keep))
    columns = codes, mjd, mag, magerr, band
    if n_kept < len(mjd):
        columns = tuple(column[keep] for column in columns)
    columns = _merged(*_sorted(*columns))
    return columns, {
        "non-finite": len(mjd) - n_finite,
        "magerr <= 0": n_finite - n_positive,
        "outside time range": n_positive - n_kept,
        "repeated times merged": n_kept - len(columns[0]),
    }


def _sorted(codes, mjd, mag, magerr, band):
    """Return copies of the columns by object, time and band."""
    same = codes[1:] == codes[:-1]
    rising = (codes[1:] > codes[:-1]) | (same & (mjd[1:] > mjd[:-1]))
    rising |= same & (mjd[1:] == mjd[:-1]) & (band[1:] >= band[:-1])
    columns = codes, mjd, mag, magerr, band
    if rising.all():
        return tuple(column.copy() for column in columns)
    order = np.lexsort((band, mjd, codes))
    return tuple(column[order] for column in columns)


def _merged(codes, mjd, mag, magerr, band):
    """Return sorted columns, which are changed, with repeated times in one band averaged."""
    repeats = (codes[1:] == codes[:-1]) & (mjd[1:] == mjd[:-1]) & (band[1:] == band[:-1])
    if not repeats.any():
        return codes, mjd, mag, magerr, band
    first = np.concatenate([[True], ~repeats])
    several = ~first
    several[:-1] |= repeats
    starts = np.flatnonzero(first[several])
    weight = magerr[several] ** -2.0
    total = np.add.reduceat(weight, starts)
    mean = np.add.reduceat(weight * mag[several], starts) / total
    mag[several & first] = mean
    magerr[several & first] = total**-0.5
    return tuple(column[first] for column in (codes, mjd, mag, magerr, band))


def _text(codes, names):
    """Return band names as an Arrow string array from codes, shape (n_obs,)."""
    wide = len(codes) * max(len(name.encode()) for name in names) > 2**31 - 1
    kind = pa.large_string() if wide else pa.string()
    return pa.array(names, kind).take(pa.array(codes))


def _table(base, offsets, mjd, mag, magerr, band):
    values = [pa.array(column) for column in (mjd, mag, magerr)] + [band]
    rows = pa.StructArray.from_arrays(values, names=OBSERVED)
    lists = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), rows)
    lcs = NestedFrame(base)
    lcs["lightcurve"] = pd.Series(NestedExtensionArray(lists), index=base.index, copy=False)
    return lcs


def _flat(lists):
    """Return the offsets, shape (n_lists + 1,), and values of an Arrow list array, not copied."""
    if lists.null_count:
        lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    else:
        offsets = lists.offsets.to_numpy().astype(np.int64, copy=False)
        offsets = offsets - offsets[0] if offsets[0] else offsets
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
    return sorted(pc.unique(arrays(lcs).band).to_pylist())


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
    offsets = np.concatenate([[0], np.cumsum(mask)])[flat.offsets]
    filled = np.diff(offsets) > 0
    base = lcs.loc[filled, lcs.columns != "lightcurve"]
    columns = [column[mask] for column in (flat.mjd, flat.mag, flat.magerr)]
    band_column = flat.band.filter(pa.array(mask))
    chosen = _table(base, np.append(0, offsets[1:][filled]), *columns, band_column)
    n_empty = int(np.count_nonzero(~filled))
    if n_empty:
        logger.warning("%d of %d objects have no observation in band %s", n_empty, len(lcs), band)
    chosen.attrs = dict(lcs.attrs) | {"dropped": _added(lcs, {"objects left empty": n_empty})}
    return chosen


def _added(lcs, counts):
    """Return the table's account of what was dropped plus ``counts``."""
    before = lcs.attrs.get("dropped", {})
    return {reason: before.get(reason, 0) + counts.get(reason, 0) for reason in before | counts}


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
    names = bands(lcs)
    pairs = flat.objects * len(names) + flat.band_codes(names)
    groups = pd.DataFrame({"mag": flat.mag, "magerr": flat.magerr}).groupby(flat.objects)
    medians = groups.median().reindex(np.arange(len(lcs))).to_numpy()
    first, last = flat.mjd[flat.offsets[:-1]], flat.mjd[flat.offsets[1:] - 1]
    return pd.DataFrame(
        {
            "n_obs": np.diff(flat.offsets),
            "n_bands": np.bincount(np.unique(pairs) // len(names), minlength=len(lcs)),
            "first_mjd": first,
            "span": last - first,
            "median_mag": medians[:, 0],
            "median_magerr": medians[:, 1],
        },
        index=lcs.index,
    )


def write(lcs, path):
    """Return ``path`` after writing the table there as nested Parquet, whole or not at all.

    ``lcs.attrs`` (what was dropped, the data set's name) go along as JSON.
    """
    path = Path(path).expanduser()
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    table = lcs.rename_axis("object_id").reset_index().to_pyarrow(large_list=True)
    table = table.replace_schema_metadata({"skynb": json.dumps(lcs.attrs, default=str)})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, part, compression="zstd")
        os.replace(part, path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise OSError(
            error.errno, f"cannot write {path} ({error}); free some space or choose another folder"
        ) from error
    return path


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


def _read_parquet(path, time_range):
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"not a Parquet file, or a damaged one ({error}); get it again") from error
    if "lightcurve" not in table.column_names:
        return from_flat(_frame(table), time_range=time_range)
    lists = NestedExtensionArray(table["lightcurve"]).list_array.combine_chunks()
    offsets, rows = _flat(lists)
    observed = _frame(pa.Table.from_arrays(rows.flatten(), [field.name for field in rows.type]))
    base = _frame(table.drop_columns("lightcurve"))
    lcs = _door(base, observed, np.diff(offsets), time_range)
    attrs = json.loads((table.schema.metadata or {}).get(b"skynb", b"{}"))
    dropped = attrs.pop("dropped", {})
    lcs.attrs["dropped"] = _added(lcs, dropped)
    lcs.attrs |= attrs
    return lcs


def _frame(table):
    """Return an Arrow table as a DataFrame in which integers with gaps keep all their digits."""
    return table.to_pandas(integer_object_nulls=True, split_blocks=True)


def _read_csv(path, time_range):
    data = re.sub(rb"(?m)^#.*\n?", b"", path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    as_text = dict.fromkeys(("object_id", "band", "label"), pa.string())
    header, _, rows = data.partition(b"\n")
    data = b"\n".join([re.sub(rb"\s*,\s*", b",", header.strip()), rows])
    try:
        # One block, so that a column's type is found from all its rows.
        table = pa.csv.read_csv(
            pa.BufferReader(data),
            read_options=pa.csv.ReadOptions(block_size=min(len(data) + 1, 2**31 - 1)),
            convert_options=pa.csv.ConvertOptions(column_types=as_text, strings_can_be_null=True),
        )
    except pa.ArrowInvalid as error:
        raise ValueError(f"not a CSV table ({error}); one header, then one line per row") from error
    for k, name in enumerate(table.column_names):
        if name in as_text:
            text = pc.utf8_trim_whitespace(table[name])
            table = table.set_column(k, name, _integers(text) if name == "object_id" else text)
    return from_flat(_frame(table), time_range=time_range)


def _integers(text):
    """Return text ids as int64 if each is the plain writing of one, else as they are."""
    try:
        numbers = text.cast(pa.int64())
    except pa.ArrowInvalid:
        return text
    return numbers if numbers.cast(pa.string()).equals(text) else text


def _read_ecsv(path, time_range):
    from astropy import units
    from astropy.table import Table
    from astropy.time import Time

    table = Table.read(path, format="ascii.ecsv")
    for name in [name for name in UNITS if name in table.colnames]:
        column = table[name]
        if isinstance(column, Time):
            table[name] = column.mjd
        elif column.unit is not None:
            unit = getattr(column.unit, "function_unit", column.unit)
            try:
                table[name] = column * unit.to(UNITS[name])
            except units.UnitConversionError:
                wanted = UNITS[name]
                raise ValueError(f"column {name!r} is in {unit}; convert it to {wanted}") from None
    return from_flat(table.to_pandas(), time_range=time_range)


def _read_fits(path, time_range):
    from astropy.io import fits
    from astropy.timeseries import TimeSeries

    try:
        with fits.open(path) as hdus:
            header, n_rows = hdus[0].header, len(hdus[1].data)
        mission = header["TELESCOP"].lower()
        band, zero_point, quality, useless = MISSIONS[mission]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            series = TimeSeries.read(path, format=f"{mission}.fits", unit_parse_strict="silent")
        kind = "pdcsap" if np.isfinite(np.asarray(series["pdcsap_flux"])).any() else "sap"
        flux = np.asarray(series[f"{kind}_flux"], np.float64)
        fluxerr = np.asarray(series[f"{kind}_flux_err"], np.float64)
        flagged = (np.asarray(series[quality]) & useless) > 0
    except (KeyError, IndexError, TypeError, OSError, NotImplementedError) as error:
        raise ValueError(
            f"not a light curve of Kepler, K2 or TESS ({error!r}); convert it to CSV"
        ) from error
    with np.errstate(divide="ignore", invalid="ignore"):
        mag, magerr = zero_point - 2.5 * np.log10(flux), 2.5 / np.log(10) * fluxerr / flux
    frame = pd.DataFrame({"mjd": series.time.mjd, "mag": mag, "magerr": magerr, "band": band})
    frame["object_id"] = str(header.get("OBJECT") or path.stem)
    for name in ("ra", "dec"):
        frame[name] = header.get(f"{name}_obj", np.nan)
    dropped = {"non-finite": n_rows - len(series), "flagged": np.count_nonzero(flagged)}
    frame = frame[~flagged]
    lcs = _door(frame, frame, None, time_range, dropped)
    lcs.attrs |= {"time_scale": "TDB, barycentric", "flux": kind}
    return lcs


READERS = {".parquet": _read_parquet, ".csv": _read_csv, ".ecsv": _read_ecsv, ".fits": _read_fits}
