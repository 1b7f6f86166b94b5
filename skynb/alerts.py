"""Alert packets as tables and triplets: ZTF and Rubin, from files, archives, Parquet and Kafka.

A packet holds one candidate, the history of its place and three cutouts. `read` and `stream` take
packets from wherever they lie, `listen` from a Kafka topic; out come :class:`Alerts`. A packet that
cannot be read is set aside with its reason.
"""

import io
import json
import logging
import os
import re
import tarfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import fastavro
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from skynb import lightcurves, packets, stamps

BATCH = 256
"""Packets that a stream reads before it hands them out."""

JOIN = 60.0
"""Time in which Kafka lets a member into a group, beyond that without messages [s]."""

logger = logging.getLogger(__name__)

_HEADER = fastavro.parse_schema(
    {
        "type": "record",
        "name": "header",
        "fields": [
            {"name": "magic", "type": {"type": "fixed", "name": "magic", "size": 4}},
            {"name": "meta", "type": {"type": "map", "values": "bytes"}},
            {"name": "sync", "type": {"type": "fixed", "name": "sync", "size": 16}},
        ],
    }
)
_ARCHIVES = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")


@dataclass(frozen=True, eq=False)
class Alerts:
    """Packets that were read, and an account of those that were not kept.

    Attributes
    ----------
    candidates : DataFrame
        One row per packet, index ``candid`` (int64): ``object_id, mjd`` [day], ``band, ra, dec``
        [deg], ``isdiffpos`` (bool), everything else of ZTF's ``candidate`` (Rubin's ``diaSource``)
        under its own name, -999 where ZTF says so, and ``where`` it was found. A ``drb`` without
        version is NaN.
    triplets : ndarray, shape (n_kept, size, size, 3)
        Science, template and difference, float32, one per candidate.
    history : DataFrame
        One row per observation, of `packets.KINDS` in ``kind``: ``object_id, candid`` (Int64,
        missing but for detections, and where it came as a float), ``mjd, band, mag, magerr,
        corrected``, the difference magnitude ``magpsf, sigmapsf, isdiffpos``, ``diffmaglim,
        distnr, magnr, sigmagnr, ra, dec, rb, drb``, and ``flux, fluxerr`` [nJy] where there is a
        flux. ``mag`` is apparent where ``corrected``, and ``magpsf`` elsewhere.
    skipped : DataFrame
        ``where`` and ``reason`` of what was set aside, and its ``candid`` where it has one.
    n_read, n_repeated : int
        ``n_read = n_kept + n_repeated + n_skipped``.
    """

    candidates: pd.DataFrame
    triplets: np.ndarray
    history: pd.DataFrame
    skipped: pd.DataFrame
    n_read: int
    n_repeated: int

    @property
    def n_kept(self):
        """Return the number of packets in the tables."""
        return len(self.candidates)

    @property
    def n_skipped(self):
        """Return the number of packets that were set aside."""
        return len(self.skipped)

    @property
    def lcs(self):
        """Return the light curves of the detections; see `packets.lightcurves`."""
        return packets.lightcurves(self.history)


def read(source, **options):
    """Return all packets of a source as one :class:`Alerts`.

    Parameters
    ----------
    source, **options
        As for :func:`stream`, but for ``batch``.

    Raises
    ------
    FileNotFoundError
        If there is no such file or folder.
    ValueError
        If the source holds nothing at all.
    """
    found = next(stream(source, batch=None, **options), None)
    if found is None:
        raise ValueError("there is no packet to read; give a file, a folder or some bytes")
    return found


def stream(source, *, batch=BATCH, size=stamps.SIZE, schemas=None, history=True, progress=True):
    """Return an iterator of :class:`Alerts`, each of at most ``batch`` packets, memory bounded.

    A ``candid`` comes once, whichever copy could be read first; about 70 bytes per packet are kept
    in memory to know it again. The history of an object that alerts in several batches is
    in each of them.

    Parameters
    ----------
    source : path, bytes, mapping or iterable
        An avro file, a Parquet file with cutouts, a tar archive (compressed or not) or a folder of
        these; the bytes of such a file, or what is open; ``{name: bytes}``; or several of these.
        What `datasets.contents` returns is one. Hidden files of a folder are left alone.
    batch : int
        Packets to read at a time.
    size : int
        Rows and columns of a triplet; smaller stamps are padded.
    schemas : mapping or path, optional
        Of packets in the wire format of a schema registry (Rubin): ``{id: schema}``, or a folder
        of ``<id>.avsc``.
    history : bool
        Without it packets are read faster, and the table ``history`` has the candidates alone.

    References
    ----------
    Masci et al. 2019, PASP 131, 018003 (ZTF); LSST DMTN-093 (Rubin).
    """
    if batch is not None and batch < 1:
        raise ValueError(f"batch is {batch}; give 1 packet or more")
    records = _Opener(schemas, history).records(source)
    with _Collector(size, progress) as collector:
        for where, record in records:
            collector.add(where, record)
            if collector.n_read == batch:
                yield collector.alerts()
        if collector.n_read:
            yield collector.alerts()


def listen(
    servers,
    topic,
    *,
    folder,
    group="skynb",
    batch=BATCH,
    timeout=60.0,
    size=stamps.SIZE,
    schemas=None,
    history=True,
    config=None,
    progress=True,
):
    """Return an iterator of :class:`Alerts` from a Kafka topic, each already safe on disk.

    Messages are written to a tar archive in ``folder``, whole or not at all, before their offsets
    are committed: what a broker or this process loses is delivered again. What is in the folder
    already, by place in the topic or by ``candid``, is not written or handed out again, also after
    a restart; ``read(folder)`` has all. Broken packets are kept there too. While a broker is away
    it is waited for.

    Parameters
    ----------
    servers, topic : str
        ``host:port``, several separated by commas; the topic's name.
    folder : path
        Made if it is not there. One process at a time.
    group : str
        Kafka's consumer group, which remembers how far it has read.
    timeout : float
        End after so long without a message [s]; joining the group is not counted.
    config : dict, optional
        More of librdkafka's settings, such as those of passwords.
    size, schemas, history
        As for :func:`stream`.

    Raises
    ------
    ConnectionError
        If nothing came for ``timeout`` while the broker was away.
    OSError
        If the folder cannot be written; nothing is committed then.
    ValueError
        If an archive in the folder is damaged.
    """
    from confluent_kafka import Consumer

    folder, errors = Path(folder).expanduser(), []
    placed, seen = _kept(folder)
    settings = {
        "bootstrap.servers": servers,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "error_cb": errors.append,
    }
    consumer = Consumer(settings | (config or {}) | {"enable.auto.commit": False})
    opener = _Opener(schemas, history)
    try:
        consumer.subscribe([topic])
        with _Collector(size, progress, seen) as collector:
            while messages := _messages(consumer, batch, timeout, errors):
                for message in messages:
                    place, data = _place(message), message.value() or b""
                    known = place in placed
                    for pair in [(place, None)] if known else opener.records(data, place):
                        collector.add(*pair)
                found = collector.alerts()
                placed |= _archive(folder, topic, messages, found)
                _commit(consumer, messages)
                yield found
    finally:
        consumer.close()
    if errors:
        raise ConnectionError(
            f"nothing came from {servers} for {timeout:g} s ({errors[-1].str()}); what came before "
            f"is in {folder}; listen again to go on"
        )


# From Kafka to disk.


def _place(message):
    return f"{message.topic()}-{message.partition()}-{message.offset()}"


def _kept(folder):
    """Return the places in the topic, and the candids, of what is in a folder already."""
    placed, seen = set(), set()
    for path in folder.glob("*.tar"):
        try:
            with tarfile.open(path, "r:") as archive:
                names = archive.getnames()
        except tarfile.TarError as error:
            raise ValueError(
                f"{path} is damaged ({error}); move it away to go on without"
            ) from None
        for name in names:
            if found := re.fullmatch(r"(.+-\d+-\d+)(?:_(-?\d+))?\.avro", name):
                placed.add(found[1])
                seen |= {int(found[2])} if found[2] else set()
    return placed, seen


def _messages(consumer, n, timeout, errors):
    """Return up to ``n`` messages; none if none came in time, once the group has been joined."""
    start = time.monotonic()
    end = start + timeout
    while time.monotonic() < end:
        messages = []
        for message in consumer.consume(n, min(1.0, timeout)):
            if message.error() is None:
                messages.append(message)
            else:
                errors.append(message.error())
                logger.warning("Kafka says: %s", message.error().str())
        if messages:
            errors.clear()
            return messages
        if not consumer.assignment() and not errors:
            end = min(time.monotonic(), start + JOIN) + timeout
    return []


def _archive(folder, topic, messages, found):
    """Return the places of messages, those not there before now in an archive, safe on disk.

    A member's name is its place in the topic and, of a packet that was kept, the ``candid``.
    """
    candids = dict(zip(found.candidates["where"], found.candidates.index, strict=True))
    names = dict.fromkeys(found.skipped["where"], "") | {k: f"_{v}" for k, v in candids.items()}
    fresh = {_place(message): message.value() or b"" for message in messages}
    path = folder / f"{topic}-{time.time_ns()}.tar"
    if names:
        with lightcurves.whole(path) as part, open(part, "wb") as file:
            with tarfile.open(fileobj=file, mode="w") as archive:
                for place, suffix in names.items():
                    member = tarfile.TarInfo(f"{place}{suffix}.avro")
                    member.size = len(fresh[place])
                    archive.addfile(member, io.BytesIO(fresh[place]))
            file.flush()
            os.fsync(file.fileno())
    return fresh.keys()


def _commit(consumer, messages):
    from confluent_kafka import KafkaException, TopicPartition

    last = {}
    for message in messages:
        key = message.topic(), message.partition()
        last[key] = max(last.get(key, 0), message.offset() + 1)
    try:
        offsets = [TopicPartition(*key, offset) for key, offset in last.items()]
        consumer.commit(offsets=offsets, asynchronous=False)
    except KafkaException as error:
        logger.warning("cannot tell the broker what was read (%s); it may send it again", error)


# From a source to records: what avro or Parquet hold, or the exception that says why not.


class _Opener:
    """Gives ``(where, record or exception)`` of every packet in a source."""

    def __init__(self, schemas, history):
        self.schemas, self.history = schemas, history

    def records(self, source, where=""):
        if isinstance(source, bytes | bytearray | memoryview):
            yield from self._file(io.BytesIO(source), where or "bytes")
        elif hasattr(source, "read"):
            yield from self.records(source.read(), where)
        elif isinstance(source, str | os.PathLike):
            path = Path(source).expanduser()
            if not path.exists():
                raise FileNotFoundError(f"no file or folder {path}; check the name")
            paths = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
            for each in paths:
                if path.is_dir() and each.name.startswith("."):
                    continue
                try:
                    file = open(each, "rb")  # noqa: SIM115
                except OSError as error:
                    yield str(each), error
                    continue
                with file:
                    yield from self._file(file, str(each))
        elif isinstance(source, Mapping):
            for name, each in source.items():
                yield from self.records(each, f"{where}:{name}" if where else str(name))
        else:
            for k, each in enumerate(source):
                yield from self.records(each, f"{where}[{k}]")

    def _file(self, file, where):
        """Give the records of one open file; an error ends it, and is given too."""
        try:
            head = file.read(262)
            file.seek(0)
            if head[:4] == b"Obj\x01":
                yield from ((where, record) for record in self._avro(file))
            elif head[:4] == b"PAR1":
                yield from self._parquet(file, where)
            elif head[:1] == b"\0" and len(head) > 5:
                yield where, self._wire(file)
            elif head[257:262] == b"ustar" or head.startswith(_ARCHIVES):
                yield from self._tar(file, where)
            elif head:
                raise ValueError("neither avro, Parquet nor a tar archive")
            else:
                raise ValueError("an empty file")
        except Exception as error:  # whatever damaged bytes make a library raise
            yield where, error

    def _avro(self, file):
        header = fastavro.schemaless_reader(file, _HEADER)
        if header["meta"].get("avro.codec", b"null") != b"null":
            file.seek(0)
            yield from fastavro.reader(file)
            return
        writer, reader = _schema(header["meta"]["avro.schema"], self.history)
        while byte := file.read(1):
            file.seek(-len(byte), os.SEEK_CUR)
            n_records, n_bytes = (fastavro.schemaless_reader(file, "long") for _ in range(2))
            block = file.read(max(n_bytes, 0) + 16)
            if len(block) != n_bytes + 16 or block[-16:] != header["sync"]:
                raise ValueError("an avro file that is cut short or damaged")
            block = io.BytesIO(block)
            for _ in range(n_records):
                yield fastavro.schemaless_reader(block, writer, reader)

    def _wire(self, file):
        number = int.from_bytes(file.read(5)[1:])
        writer, reader = _schema(self._registered(number), self.history)
        record = fastavro.schemaless_reader(file, writer, reader)
        if file.read(1):
            raise ValueError(f"a packet with bytes left over; schema {number} is not its own")
        return record

    def _registered(self, number):
        """Return a registry's schema as JSON."""
        if isinstance(self.schemas, Mapping):
            schema = self.schemas.get(number)
        else:
            path = Path(self.schemas or "").expanduser() / f"{number}.avsc"
            schema = path.read_bytes() if self.schemas and path.is_file() else None
        if schema is None:
            raise ValueError(
                f"a packet of schema {number}, which is not given; pass schemas={{{number}: ...}} "
                f"or a folder with {number}.avsc"
            )
        return schema if isinstance(schema, bytes | str) else json.dumps(schema)

    def _tar(self, file, where):
        n_members = 0
        try:
            with tarfile.open(fileobj=file, mode="r|*") as archive:
                for member in archive:
                    archive.members = []  # else it keeps all of them
                    if member.isfile():
                        data = archive.extractfile(member).read()
                        n_members += 1
                        yield from self._file(io.BytesIO(data), f"{where}:{member.name}")
        except Exception as error:  # any that damaged archives raise
            raise ValueError(f"an archive damaged after {n_members} files ({error})") from None

    def _parquet(self, file, where):
        import pyarrow.parquet as pq

        table, k = pq.ParquetFile(file), 0
        names = [n for n in table.schema_arrow.names if n in _COLUMNS]
        names = [n for n in names if self.history or n not in packets.HISTORY]
        for part in table.iter_batches(64, columns=names):
            for record in part.to_pylist():
                k += 1
                yield f"{where}:row {k}", record


_COLUMNS = {"candid", "objectId", "candidate", "diaSource", "diaSourceId", "diaObject", "ssSource"}
_COLUMNS |= {*packets.CUTOUTS, *packets.HISTORY}


@lru_cache(64)
def _schema(raw, history):
    """Return an avro schema in JSON, and what to read of it: None is all."""
    schema = json.loads(raw)
    if history:
        return fastavro.parse_schema(schema), None
    less = [field for field in schema["fields"] if field["name"] not in packets.HISTORY]
    return fastavro.parse_schema(schema), fastavro.parse_schema(schema | {"fields": less})


# From records to tables.


class _Collector:
    """Opens packets, two at a time, and makes tables of them; ``seen`` are the candids it had."""

    def __init__(self, size, progress, seen=()):
        self.size, self.seen, self.pending = size, set(seen), []
        self.pool = ThreadPoolExecutor(2)
        self.bar = tqdm(desc="alerts", unit=" packets", disable=not progress)
        self.counts = dict.fromkeys(("kept", "repeated", "skipped"), 0)
        self._empty()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.pool.shutdown(cancel_futures=True)
        self.bar.close()

    def _empty(self):
        self.rows, self.triplets, self.history, self.skipped = {}, [], [], []
        self.n_read = self.n_repeated = 0

    def add(self, where, record):
        opened = self.pool.submit(packets.read, record, self.size, self.seen)
        candid = record.get("candid") if isinstance(record, dict) else None
        candid = candid if isinstance(candid, int) and abs(candid) < 2**63 else pd.NA
        self.pending.append((where, candid, opened))
        self.n_read += 1
        if len(self.pending) >= BATCH:
            self._drain()

    def _drain(self):
        for where, candid, opened in self.pending:
            error = opened.exception()
            packet = None if error else opened.result()
            if error:
                self.skipped.append((where, packets.reason(error), candid))
            elif packet is None or packet.candid in self.seen:
                self.n_repeated += 1
            else:
                self.seen.add(packet.candid)
                self.rows[packet.candid] = packet.row | {"where": where}
                self.triplets.append(packet.triplet)
                self.history += packet.history
        self.bar.update(len(self.pending))
        self.pending = []

    def alerts(self):
        """Return what was added since this was last asked."""
        self._drain()
        n_kept, n_skipped, shape = len(self.rows), len(self.skipped), (0, self.size, self.size, 3)
        for key, n in zip(self.counts, (n_kept, self.n_repeated, n_skipped), strict=True):
            self.counts[key] += n
        self.bar.set_postfix(self.counts, refresh=False)
        if n_skipped:
            said = "set aside %d of %d packets; the first, %s: %s"
            logger.warning(said, n_skipped, self.n_read, *self.skipped[0][:2])
        found = Alerts(
            candidates=packets.candidate_table(self.rows),
            triplets=np.stack(self.triplets) if n_kept else np.zeros(shape, np.float32),
            history=packets.history_table(self.history),
            skipped=pd.DataFrame(self.skipped, columns=["where", "reason", "candid"]).astype(
                {"where": "str", "reason": "str", "candid": "Int64"}
            ),
            n_read=self.n_read,
            n_repeated=self.n_repeated,
        )
        self._empty()
        return found
