"""Data sets by name: fetched, verified, cached whole or not at all, read into one table.

Real data comes from permanent public addresses, or from the folder that the environment variable
``SKYNB_MIRROR`` names, laid out as the addresses' paths. Files and parsed tables are kept in
`cache_dir`; a damaged one is noticed by its check sum and made again.
"""

import hashlib
import io
import json
import logging
import os
import secrets
import tarfile
import time
import tomllib
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
import pooch
import pyarrow as pa
import pyarrow.csv
from tqdm.auto import tqdm

from skynb import __version__, lightcurves, simulate, taxonomy

RAW, ARCHIVES = "https://raw.githubusercontent.com", "https://github.com"
RETRIES = 2
STALE = 86_400.0  # age at which a temporary file belongs to no running process [s]

logger = logging.getLogger(__name__)


class DataError(OSError):
    """A data set that cannot be had, or is not what was registered; the message says the remedy."""


class _Damaged(ValueError):
    """Contents whose check sum is not the registered one."""


@dataclass(frozen=True)
class File:
    """One file of a data set.

    ``checksum`` is ``sha256:...`` of the file or, of an archive whose compressed bytes may change,
    ``tree:...``, the git tree id of its ``folder``.
    """

    address: str
    checksum: str
    folder: str = ""

    @property
    def url(self):
        """Return the public address."""
        return f"{ARCHIVES if '/archive/' in self.address else RAW}/{self.address}"


@dataclass(frozen=True)
class Entry:
    """What is known of a data set; ``reader`` makes a flat table from its files' contents.

    Raise ``version`` when the reader changes, so that no older parsed table is used.
    """

    name: str
    summary: str
    n_objects: int
    time_scale: str
    licence: str
    citation: str
    bands: tuple[str, ...] = ()
    files: tuple[File, ...] = ()
    reader: Callable | None = None
    time_range: tuple[float, float] = lightcurves.TIME_RANGE
    n_per_class: int = 0
    defects: tuple[str, ...] = ()
    version: int = 1


def names():
    """Return the names of the data sets, as a list of str.

    Examples
    --------
    >>> names()
    ['simulated', 'crts', 'asas', 'ztf-examples']
    """
    return list(REGISTRY)


def info(name):
    """Return what is known of a data set, as a dict.

    Keys: ``name, summary, n_objects, bands, time_scale, licence, citation, n_per_class`` (the
    default; 0 is all), ``defects, addresses, checksums``. An unknown name raises ValueError.
    """
    entry = _entry(name)
    hidden = ("files", "reader", "time_range", "version")
    about = {key: value for key, value in vars(entry).items() if key not in hidden}
    addresses = [file.url for file in entry.files]
    return about | {"addresses": addresses, "checksums": [file.checksum for file in entry.files]}


def provenance(name_or_path):
    """Return what a report cites: ``{name: {"checksum", "licence", "citation", "simulated"}}``.

    The check sums of several files are joined by `` + ``. One's own file has its sha256, simulated
    data the version of skynb that makes it. What is neither a name nor a file raises
    FileNotFoundError.
    """
    if name_or_path in REGISTRY | FILES:
        entry = _entry(name_or_path)
        checksum = " + ".join(file.checksum for file in entry.files) or f"skynb {__version__}"
        about = {"licence": entry.licence, "citation": entry.citation, "simulated": not entry.files}
        return {entry.name: {"checksum": checksum, **about}}
    path = _own_file(name_or_path)
    about = {"licence": "not stated", "citation": "a file of one's own", "simulated": False}
    return {path.name: {"checksum": f"sha256:{pooch.file_hash(path)}", **about}}


def load(name_or_path, *, n_per_class=0, seed=0):
    """Return the light curves of a data set, or of one's own file.

    Parameters
    ----------
    name_or_path : str or Path
        One of `names`, or a file that `lightcurves.read` understands.
    n_per_class : int
        At most so many objects of each label (those without one count as a class), drawn at
        random; 0 is the data set's own default: 60 of the simulated, all of the others.
    seed : int
        Of the draw, and of simulated data.

    Returns
    -------
    lcs : NestedFrame
        With ``label, ra, dec`` [deg] and ``period`` [day] where known; ``lcs.attrs["dataset"]``
        names the source.

    Raises
    ------
    FileNotFoundError
        For what is neither a name nor a file.
    DataError
        No network and no cache, a file not in the mirror, damaged data, no place to write.
    ValueError
        If ``n_per_class`` is negative.
    """
    if n_per_class < 0:
        raise ValueError(f"n_per_class is {n_per_class}; give 0 for the default, or more")
    entry = REGISTRY.get(name_or_path)
    name, wanted = name_or_path, n_per_class or (entry.n_per_class if entry else 0)
    if entry is None:
        path = _own_file(name_or_path)
        name, lcs = path.name, lightcurves.read(path)
    elif entry.files:
        lcs = _table(entry)
    else:
        lcs = simulate.lightcurves(n_per_class=wanted, seed=seed)
    attrs = {**lcs.attrs, "dataset": name}
    if wanted:
        lcs = lcs.iloc[_draw(lcs, wanted, seed)]
    lcs.attrs = attrs
    return lcs


def labelled(lcs, classes=(), *, at_least=2):
    """Return the objects of some classes, those with fewer than ``at_least`` members left out.

    Of ``classes``, or of all if none of these is there. What is left out is logged.

    Raises
    ------
    ValueError
        If no two classes are left.
    """
    counts = lcs["label"].value_counts() if "label" in lcs else pd.Series(dtype=int)
    wanted = counts[counts.index.isin(list(classes))] if len(classes) else counts
    wanted = wanted if len(wanted) else counts
    kept = wanted.index[wanted >= at_least]
    if len(kept) < 2:
        found = ", ".join(f"{n} {name}" for name, n in counts.items()) or "no label"
        remedy = "name two or give more" if len(counts) else "give light curves with a column label"
        raise ValueError(
            f"expected two classes or more of {at_least} objects each, found {found}; {remedy}"
        )
    if others := [f"{n} {name}" for name, n in counts.items() if name not in kept]:
        asked = f"of other classes than asked for, or of fewer than {at_least} objects"
        logger.warning("left out, %s: %s", asked, ", ".join(others))
    if n_unlabelled := len(lcs) - counts.sum():
        logger.warning("left out, without a label: %d", n_unlabelled)
    return lcs[lcs["label"].isin(kept)]


def _own_file(path):
    if path in FILES:
        raise ValueError(f"{path!r} has no light curves; read it by datasets.contents({path!r})")
    if not Path(path).expanduser().is_file():
        close = get_close_matches(str(path), REGISTRY, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(REGISTRY)}"
        raise FileNotFoundError(f"{str(path)!r} is neither a data set nor a file; {hint}")
    return Path(path).expanduser()


def _entry(name):
    known = REGISTRY | FILES
    if name not in known:
        raise ValueError(f"no data set is called {name!r}; choose one of {', '.join(known)}")
    return known[name]


def _draw(lcs, n_per_class, seed):
    """Return the sorted positions of at most ``n_per_class`` objects of each label."""
    order = np.random.default_rng(seed).permutation(len(lcs))
    labels = lcs.get("label", pd.Series("", lcs.index)).fillna("").to_numpy()[order]
    return np.sort(order[pd.Series(labels).groupby(labels).cumcount() < n_per_class])


# The cache: files under their addresses, parsed tables under name-recipe-checksum.parquet.


def cache_dir():
    """Return the folder of the cache: ``SKYNB_CACHE``, or the system's place for caches."""
    own = os.environ.get("SKYNB_CACHE")
    return Path(own).expanduser().absolute() if own else Path(pooch.os_cache("skynb"))


def fetch(name):
    """Return the paths of a data set's files, downloaded unless there, and verified.

    With ``SKYNB_MIRROR`` they are the mirror's own; simulated data has none. Raises as `info` and
    `load` do.
    """
    entry = _entry(name)
    for file in entry.files:
        _contents(file)
    return [_location(file) for file in entry.files]


def contents(name):
    """Return what is in a data set's files, verified, as a list; downloaded unless there.

    Of a file its bytes, of an archive {name: bytes} of the files in its registered folder. Raises
    as `fetch`.
    """
    return [_contents(file) for file in _entry(name).files]


def clear(name=None):
    """Remove the files and table of one data set from the cache, or all that is in it.

    Raises as `info`.
    """
    entries = [_entry(name)] if name else [*REGISTRY.values(), *FILES.values()]
    doomed = [_cached(file) for entry in entries for file in entry.files]
    doomed += [path for entry in entries for path in _tables().glob(f"{entry.name}-????????-*")]
    if not name:
        doomed += (cache_dir() / "models").glob("*")
    for folder in {path.parent for path in doomed}:
        doomed += folder.glob("*tmp*")
    for path in doomed:
        path.unlink(missing_ok=True)
        with suppress(OSError):
            for folder in path.relative_to(cache_dir()).parents:
                (cache_dir() / folder).rmdir()


def _tables():
    return cache_dir() / "tables"


def _cached(file):
    return cache_dir() / "files" / file.address


def _mirror():
    folder = os.environ.get("SKYNB_MIRROR")
    return Path(folder).expanduser().absolute() if folder else None


def _location(file):
    return _mirror() / file.address if _mirror() else _cached(file)


def _sweep(folder):
    """Remove what killed processes left behind."""
    for old in folder.glob("*tmp*"):
        with suppress(OSError):
            if time.time() - old.stat().st_mtime > STALE:
                old.unlink()


def _sync(path):
    with open(path, "rb+") as stream:
        os.fsync(stream.fileno())


def _table(entry):
    """Return the parsed table, from the cache if it is there and unharmed."""
    recipe = repr((entry.version, entry.time_range, [file.checksum for file in entry.files]))
    stem = f"{entry.name}-{hashlib.sha256(recipe.encode()).hexdigest()[:8]}"
    for path in _tables().glob(f"{stem}-*.parquet"):
        if pooch.file_hash(path).startswith(path.stem.rpartition("-")[2]):
            lcs = lightcurves.read(path)
            dropped = [f"{n} {reason}" for reason, n in lcs.attrs["dropped"].items() if n]
            if dropped:
                logger.warning("%s, cleaned when first read: %s", entry.name, ", ".join(dropped))
            return lcs
        logger.warning("the cached table %s is damaged; making it again from its source", path)
        with suppress(OSError):
            path.unlink()
    flat = entry.reader(*[_contents(file) for file in entry.files])
    lcs = lightcurves.from_flat(flat, time_range=entry.time_range)
    try:
        _store(lcs, stem)
    except OSError as error:
        logger.warning(
            "%s will have to be read again next time, for its table cannot be cached in %s (%s); "
            "set SKYNB_CACHE to a folder that can be written and has space",
            *(entry.name, _tables(), os.strerror(error.errno or 0)),
        )
    return lcs


def _store(lcs, stem):
    """Write a table under a name that ends in its check sum, so that one rename commits both."""
    _tables().mkdir(parents=True, exist_ok=True)
    _sweep(_tables())
    part = _tables() / f"tmp{secrets.token_hex(4)}.parquet"
    try:
        lightcurves.write(lcs, part)
        _sync(part)
        part.replace(_tables() / f"{stem}-{pooch.file_hash(part)[:16]}.parquet")
    finally:
        part.unlink(missing_ok=True)


# Contents: the bytes of a file, or {name: bytes} of an archive's folder, always verified.


def _contents(file):
    path, mirror = _location(file), _mirror()
    if path.is_file():
        try:
            return _verified(file, path)
        except _Damaged as error:
            if mirror:
                raise DataError(f"{path} is damaged: {error}; copy it there again") from None
            logger.warning("the cached file %s is damaged; downloading it again", path)
    elif mirror:
        raise DataError(f"the mirror {mirror} has no {file.address}; add it or unset SKYNB_MIRROR")
    return _download(file, path)


def _download(file, path):
    import requests

    contents = []

    def stream(url, part, _):
        pooch.HTTPDownloader(progressbar=True, chunk_size=1 << 16)(url, part, None)
        contents.append(_verified(file, Path(part)))
        _sync(part)

    pooch.get_logger().setLevel(logging.WARNING)
    remedy = "or set SKYNB_MIRROR to a folder that holds it"
    wrong = f"{file.url} is not what was registered"
    files = pooch.create(
        cache_dir() / "files", "", registry={file.address: None}, urls={file.address: file.url},
        retry_if_failed=RETRIES,
    )  # fmt: skip
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        path.unlink(missing_ok=True)
        files.fetch(file.address, downloader=stream)
    except _Damaged as error:
        raise DataError(f"{wrong}: {error}; try later, {remedy}") from None
    except requests.HTTPError as error:
        status = error.response.status_code
        raise DataError(f"{file.url} answers {status}; try later, {remedy}") from None
    except requests.RequestException as error:
        raise DataError(
            f"cannot download {file.url} (no or broken connection: {type(error).__name__}), and it "
            f"is not in the cache {cache_dir()}; connect to the network, {remedy}"
        ) from None
    except OSError as error:
        raise DataError(
            f"cannot write {path} ({os.strerror(error.errno or 0)}); "
            "free some space, or set SKYNB_CACHE to a folder that can be written"
        ) from None
    return contents[-1] if contents else _verified(file, path)


def _verified(file, path):
    kind, _, expected = file.checksum.partition(":")
    contents = data = path.read_bytes()
    if kind == "tree":
        contents, executable = _members(data, file.folder)
        found = git_tree(contents, executable)
    else:
        found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise _Damaged(f"its check sum is {kind}:{found}, not {file.checksum}")
    return contents


def _members(data, folder):
    """Return {name: bytes} of the files in a folder below an archive's top folder.

    And the names of those that may be executed, on which a git tree id depends.
    """
    contents, executable = {}, set()
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in tqdm(archive, desc="unpacking", unit=" files", leave=False, disable=None):
                inside = PurePosixPath(*PurePosixPath(member.name).parts[1:])
                if member.isfile() and inside.parent == PurePosixPath(folder):
                    contents[inside.name] = archive.extractfile(member).read()
                    if member.mode & 0o100:
                        executable.add(inside.name)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise _Damaged(f"it cannot be unpacked ({error})") from None
    return contents, executable


def git_tree(contents, executable=()):
    """Return the git tree id of a folder's {file name: bytes}: sha1 over git's objects.

    ``executable`` are the names of the files that may be executed.

    Examples
    --------
    >>> git_tree({})
    '4b825dc642cb6eb9a060e54bf8d69288fbee4904'
    """

    def sha1(kind, data):
        return hashlib.sha1(b"%s %d\0" % (kind, len(data)) + data, usedforsecurity=False)

    lines = [
        b"100%s %s\0%s"
        % (b"755" if name in executable else b"644", name.encode(), sha1(b"blob", data).digest())
        for name, data in sorted(contents.items())
    ]
    return sha1(b"tree", b"".join(lines)).hexdigest()


# The readers: contents in, a flat table out.


def _stack(files, columns, *, n_header):
    """Return the rows of many small CSV files as one float64 table, and the file of each row."""
    bodies = [data.split(b"\n", n_header)[n_header].rstrip() + b"\n" for data in files]
    types = dict.fromkeys(columns, pa.float64())
    table = pyarrow.csv.read_csv(
        pa.BufferReader(b"".join(bodies)),
        read_options=pyarrow.csv.ReadOptions(column_names=columns),
        convert_options=pyarrow.csv.ConvertOptions(column_types=types),
    )
    return table.to_pandas(), np.repeat(np.arange(len(bodies)), [b.count(b"\n") for b in bodies])


def _crts(members, catalogue):
    stems = sorted(name.removesuffix(".csv") for name in members)
    ids, labels = zip(*(stem.split("-", 1) for stem in stems), strict=True)
    columns = ["object_id", "mjd", "mag", "magerr", "ra", "dec"]
    flat, rows = _stack([members[f"{stem}.csv"] for stem in stems], columns, n_header=1)
    places = flat[["ra", "dec"]].groupby(rows).median()
    return flat.assign(
        object_id=pd.array(ids, dtype="str")[rows],
        band="V",
        label=pd.array(taxonomy.harmonize(labels, "crts"), dtype="str")[rows],
        period=_periods(places, catalogue)[rows],
    )


def _periods(places, catalogue):
    """Return the period [day] listed within 3 arcsec of each place, NaN where there is none."""
    from astropy.coordinates import SkyCoord

    stars = pd.read_csv(io.BytesIO(catalogue), sep=r"\s+", header=None, usecols=[1, 2, 3])
    known = SkyCoord(stars[1], stars[2], unit="deg")
    ours = SkyCoord(places["ra"], places["dec"], unit="deg")
    nearest, apart, _ = ours.match_to_catalog_sky(known)
    return np.where(apart.arcsec < 3, stars[3].to_numpy()[nearest], np.nan)


def _asas(archive, classes):
    members, _ = _members(archive, ".")
    labels = pd.read_csv(io.BytesIO(classes), index_col="filename")["class"]
    files = [members[f"{number}.dat"] for number in labels.index]
    flat, rows = _stack(files, ["mjd", "mag", "magerr"], n_header=0)
    return flat.assign(
        object_id=labels.index.to_numpy()[rows],
        mjd=flat["mjd"] + 49_999.5,
        band="V",
        label=pd.array(taxonomy.harmonize(labels, "asas"), dtype="str")[rows],
    )


def _ztf_examples(guide, *curves):
    places = pd.read_csv(io.BytesIO(guide), index_col=0)
    places.index = places.index.str.replace(" ", "_")
    parts = []
    names = [Path(file.address).stem for file in REGISTRY["ztf-examples"].files[1:]]
    for name, curve in zip(names, curves, strict=True):
        for series in json.loads(curve)["data"]["scatterPlot"]["data"]:
            part = pd.DataFrame(series["seriesData"]).set_axis(["mjd", "mag", "magerr"], axis=1)
            part["band"] = series["seriesOptions"]["label"].removesuffix("-band")
            part["object_id"], part["label"] = name, taxonomy.harmonize([name], "ztf")[0]
            part["ra"], part["dec"], part["period"] = places.loc[name].astype(float)
            parts.append(part)
    flat = pd.concat(parts, ignore_index=True)
    return flat.assign(mjd=flat["mjd"] - 2_400_000.5)


# The registry, whose entries stand in datasets.toml.

_READERS = {"crts": _crts, "asas": _asas, "ztf-examples": _ztf_examples}


def _entries():
    text = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
    for name, about in tomllib.loads(text).items():
        about = {k: tuple(v) if isinstance(v, list) else v for k, v in about.items()}
        about["files"] = tuple(File(**file) for file in about.get("files", ()))
        yield Entry(name=name, reader=_READERS.get(name), **about)


_ENTRIES = {entry.name: entry for entry in _entries()}
REGISTRY = {name: entry for name, entry in _ENTRIES.items() if entry.reader or not entry.files}
"""Name -> light curves, which `load` returns."""

FILES = {name: entry for name, entry in _ENTRIES.items() if name not in REGISTRY}
"""Name -> what has no light curves of its own; `contents` reads it."""
