"""What is in an alert packet of ZTF or Rubin: its candidate, its history and its triplet as tables.

`skynb.alerts` reads packets; here a record, the dict that avro or Parquet hold, becomes a row, and
rows become tables.
"""

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from skynb import lightcurves as _lightcurves
from skynb import stamps

BANDS = {1: "g", 2: "r", 3: "i"}
"""ZTF's ``fid``."""

NEAR = 1.4
"""Distance within which a source of the reference image is the object itself [arcsec]."""

SNR = 3.0
"""Signal to noise from which a difference flux has a magnitude."""

ZERO_POINT = 31.4
"""AB magnitude of 1 nJy."""

KINDS = ("detection", "limit", "forced")
"""What a row of the history is: a detection, an upper limit, or photometry forced at the place."""

_JD = 2_400_000.5
CUTOUTS = ("cutoutScience", "cutoutTemplate", "cutoutDifference")
HISTORY = ("prv_candidates", "fp_hists", "prvDiaSources", "prvDiaForcedSources")
_ZTF = (
    *("candid", "jd", "fid", "isdiffpos", "magpsf", "sigmapsf", "diffmaglim", "distnr", "magnr"),
    *("sigmagnr", "ra", "dec", "rb", "drb", "forcediffimflux", "forcediffimfluxunc", "magzpsci"),
)
_RUBIN = dict(zip(_ZTF, _ZTF, strict=True)) | {
    "candid": "diaSourceId",
    "jd": "midpointMjdTai",
    "fid": "band",
    "forcediffimflux": "psfFlux",
    "forcediffimfluxunc": "psfFluxErr",
}


def lightcurves(history, *, kinds=("detection",)):
    """Return the light curves in a history, as the table ``lcs`` of one row per object.

    An object of which the reference image has a source within `NEAR` in most observations is
    variable: only its corrected, apparent magnitudes are kept. Of any other, the positive
    difference magnitudes are. The column ``corrected`` says which it is, and
    ``lightcurve.kind`` what each observation is. Of those of one band and time the first is kept,
    detections before forced ones; the others are counted in ``attrs["dropped"]``.

    Raises
    ------
    ValueError
        For an unknown kind, upper limits, or if no observation can be used.

    References
    ----------
    Förster et al. 2021, AJ 161, 242.
    """
    if not set(kinds) <= {"detection", "forced"}:
        raise ValueError(f"no light curve of {kinds}; choose of 'detection' and 'forced'")
    rows = history[history["kind"].isin(kinds)]
    near = (rows["distnr"] < NEAR).groupby(rows["object_id"]).transform("mean") >= 0.5
    mag, magerr = (rows[a].where(near, rows[b]) for a, b in zip(_MAGS, _DIFFERENCES, strict=True))
    usable = (rows["corrected"] & near) | (rows["isdiffpos"] & ~near)
    usable &= np.isfinite(mag) & (magerr > 0) & np.isfinite(magerr)
    usable &= rows["mjd"].between(*_lightcurves.TIME_RANGE)
    rows = rows.assign(mag=mag, magerr=magerr, corrected=near)[usable]
    if rows.empty:
        raise ValueError(f"none of {len(history)} observations has a magnitude; read more packets")
    rows = rows.assign(first=pd.factorize(rows["object_id"])[0])
    rows = rows.sort_values(["first", "mjd", "band", "kind"], kind="stable")
    n_usable, rows = len(rows), rows.drop_duplicates(["object_id", "mjd", "band"])
    names = ["object_id", "mjd", "mag", "magerr", "band", "ra", "dec", "corrected"]
    lcs = _lightcurves.from_flat(rows[names])
    lcs["lightcurve.kind"] = rows["kind"].to_numpy()
    lcs.attrs["dropped"] = lcs.attrs["dropped"] | {"repeated times left out": n_usable - len(rows)}
    return lcs


def apparent(magpsf, sigmapsf, isdiffpos, magnr, sigmagnr):
    """Return the apparent magnitude, and its error, of a difference and a reference magnitude.

    NaN where the sum of both fluxes is not positive. The errors are taken as independent; as the
    reference image is part of the difference, they are a little too large.

    References
    ----------
    Förster et al. 2021, AJ 161, 242.

    Examples
    --------
    A source as bright as its reference:

    >>> mag, magerr = apparent(18.0, 0.1, True, 18.0, 0.0)
    >>> round(float(mag), 3), round(float(magerr), 3)
    (17.247, 0.05)
    """
    difference, reference = 10 ** (-0.4 * np.asarray(magpsf)), 10 ** (-0.4 * np.asarray(magnr))
    total = reference + np.where(isdiffpos, 1, -1) * difference
    total = np.where(total > 0, total, np.nan)
    return -2.5 * np.log10(total), np.hypot(difference * sigmapsf, reference * sigmagnr) / total


@dataclass(frozen=True)
class Packet:
    candid: int
    row: dict
    history: list
    triplet: np.ndarray


def read(record, size, seen):
    """Return the packet in a record; None if it is one that was seen."""
    if isinstance(record, Exception):
        raise record
    if record is None:
        return None
    candid = _number(record)
    if candid in seen:
        return None
    row, history = (_rubin if "diaSource" in record else _ztf)(record, candid)
    for name in ("mjd", "ra", "dec"):
        if not isinstance(row[name], float) or not np.isfinite(row[name]):
            raise ValueError(f"a packet whose {name} is {row[name]!r}")
    np.array([(each[3], *each[6:]) for each in history], np.float64)  # else a batch would fail
    cutouts = [record.get(name) for name in CUTOUTS]
    cutouts = [each["stampData"] if isinstance(each, dict) else each for each in cutouts]
    for name, each in zip(stamps.PLANES, cutouts, strict=True):
        if not each:
            raise ValueError(f"a packet without {name} cutout")
    return Packet(candid, row, history, stamps.triplet(*map(stamps.decode, cutouts), size=size))


def _number(record):
    """Return the number of a packet; a float has lost digits of it."""
    if "diaSource" in record:
        candid = record["diaSource"]["diaSourceId"]
    else:
        candid = record.get("candid", (record.get("candidate") or {}).get("candid"))
    if isinstance(candid, str) and re.fullmatch(r"-?\d+", candid):
        candid = int(candid)
    if isinstance(candid, bool) or not isinstance(candid, int):
        kind = type(candid).__name__
        raise ValueError(f"candid is {candid!r}, a {kind}, which may have lost digits; give int64")
    if not _fits(candid):
        raise ValueError(f"candid is {candid}, which is no int64")
    return candid


def _fits(number):
    return -(2**63) <= number < 2**63


def reason(error):
    if isinstance(error, KeyError):
        return f"a packet without the field {error}"
    return " ".join(str(error).split()) or type(error).__name__


def _ztf(record, candid):
    """Return the row and the history of a ZTF packet."""
    candidate, object_id = record["candidate"], str(record["objectId"])
    jd = np.nan if candidate["jd"] is None else candidate["jd"]
    if not candidate.get("drbversion"):
        candidate = candidate | {"drb": None, "drbversion": None}
    row = {
        "object_id": object_id,
        "mjd": jd - _JD,
        "band": BANDS.get(candidate["fid"], str(candidate["fid"])),
        "ra": candidate["ra"],
        "dec": candidate["dec"],
        **candidate,
        "isdiffpos": _positive(candidate["isdiffpos"]),
    }
    for name in ("jd", "fid", "candid"):
        row.pop(name, None)
    history = [_observed("detection", object_id, candidate | {"candid": candid})]
    for each in record.get("prv_candidates") or ():
        kind = "limit" if each.get("magpsf") is None else "detection"
        history.append(_observed(kind, object_id, each))
    for each in record.get("fp_hists") or ():
        history.append(_observed("forced", object_id, each))
    return row, history


def _observed(kind, object_id, entry):
    return (kind, object_id, *map(entry.get, _ZTF))


def _positive(sign):
    return None if sign is None else sign in ("t", "1", "T", "true", True)


def _rubin(record, candid):
    """Return the row and the history of a Rubin packet."""
    source = record["diaSource"]
    known = source.get("diaObjectId") or source.get("ssObjectId") or candid
    flux = source["psfFlux"]
    row = {
        "object_id": str(known),
        "mjd": source["midpointMjdTai"],
        "band": source["band"],
        "ra": source["ra"],
        "dec": source["dec"],
        "isdiffpos": flux is not None and flux > 0,
        **{name: value for name, value in source.items() if not isinstance(value, dict | list)},
    }
    for name in ("midpointMjdTai", "diaSourceId"):
        row.pop(name, None)
    history = []
    for kind, entries in (
        ("detection", [source, *(record.get("prvDiaSources") or ())]),
        ("forced", record.get("prvDiaForcedSources") or ()),
    ):
        for each in entries:
            values = {ours: each.get(theirs) for ours, theirs in _RUBIN.items()}
            values |= {"jd": each["midpointMjdTai"] + _JD, "magzpsci": ZERO_POINT}
            history.append(_observed(kind, str(known), values))
    return row, history


def candidate_table(rows):
    """Return the rows as a table; what a packet lacks is missing in its row."""
    names = (name for row in rows.values() for name in row)
    order = dict.fromkeys(["object_id", "mjd", "band", "ra", "dec", *names]) | {"where": None}
    columns = {name: _column([row.get(name) for row in rows.values()]) for name in order}
    return pd.DataFrame(columns, index=pd.Index(list(rows), dtype=np.int64, name="candid"))


def _column(values):
    """Return values as a column: integers keep all their digits, also where some are missing."""
    kinds = {type(value) for value in values}
    missing = type(None) in kinds
    kinds.discard(type(None))
    if kinds <= {float} or kinds == {float, int}:
        return np.array(values, np.float64)
    for kind, full, gaps in ((int, "int64", "Int64"), (bool, "bool", "boolean")):
        if kinds == {kind} and (kind is bool or all(_fits(v) for v in values if v is not None)):
            return pd.array(values, dtype=gaps if missing else full)
    if kinds == {str}:
        return pd.array(values, dtype="str")
    return pd.array(values, dtype=object)


_MAGS, _DIFFERENCES = ("mag", "magerr"), ("magpsf", "sigmapsf")
_ONE = ["object_id", "kind", "mjd", "band", "magpsf", "diffmaglim"]
_FLOATS = ("mjd", *_ZTF[4:])
_SHOWN = (
    *("object_id", "candid", "kind", "mjd", "band", "mag", "magerr", "corrected"),
    *("magpsf", "sigmapsf", "isdiffpos", "diffmaglim", "distnr", "magnr", "sigmagnr"),
    *("ra", "dec", "rb", "drb", "flux", "fluxerr"),
)


def history_table(rows):
    """Return the observations as a table, each once, magnitudes corrected where they can be."""
    names = ("kind", "object_id", "candid", "mjd", "band", "isdiffpos", *_ZTF[4:])
    table = dict(zip(names, zip(*rows, strict=True) if rows else [()] * len(names), strict=True))
    for name in _FLOATS:
        table[name] = np.array(table[name], np.float64)
    for name in _ZTF[4:-3]:
        table[name][table[name] < -900] = np.nan
    flux, fluxerr, zero_point = (table.pop(name) for name in _ZTF[-3:])
    good = (flux != -99999) & (fluxerr > 0) & (zero_point > -900)
    flux, fluxerr = (np.where(good, each, np.nan) for each in (flux, fluxerr))
    scale = 10 ** (-0.4 * (np.where(good, zero_point, np.nan) - ZERO_POINT))
    table["flux"], table["fluxerr"] = flux * scale, fluxerr * scale
    table["mjd"] = table["mjd"] - _JD
    table["band"] = [BANDS.get(each, str(each)) for each in table["band"]]
    candid = [each if isinstance(each, int) and _fits(each) else None for each in table["candid"]]
    table["candid"] = pd.array(candid, dtype="Int64")
    positive = np.array([bool(_positive(each)) for each in table["isdiffpos"]], bool)
    with np.errstate(divide="ignore", invalid="ignore"):
        measured = np.isfinite(flux)
        magnitude = ZERO_POINT - 2.5 * np.log10(np.abs(table["flux"]))
        table["magpsf"] = np.where(measured, magnitude, table["magpsf"])
        error = 2.5 / np.log(10) * fluxerr / np.abs(flux)
        table["sigmapsf"] = np.where(measured, error, table["sigmapsf"])
        table["isdiffpos"] = positive | (flux > 0)
        given = ("magpsf", "sigmapsf", "isdiffpos", "magnr", "sigmagnr")
        mag, magerr = apparent(*(table[name] for name in given))
        corrected = (table["distnr"] < NEAR) & np.isfinite(mag) & np.isfinite(magerr)
        faint = measured & (np.abs(flux) < SNR * fluxerr)
        for name in _DIFFERENCES:
            table[name][faint] = np.nan
    table["corrected"] = corrected
    table["mag"] = np.where(corrected, mag, table["magpsf"])
    table["magerr"] = np.where(corrected, magerr, table["sigmapsf"])
    for name in ("kind", "object_id", "band"):
        table[name] = pd.array(list(table[name]), dtype="str")
    table = pd.DataFrame({name: table[name] for name in _SHOWN})
    ordered = table.sort_values("candid", kind="stable")
    repeated = ordered.duplicated(_ONE)
    repeated |= ordered["candid"].notna() & ordered["candid"].duplicated()
    return table[~repeated.sort_index()].reset_index(drop=True)
