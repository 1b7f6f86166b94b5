"""Alerts: packets in, tables and triplets out; nothing lost, nothing twice, nothing silent."""

import ctypes
import io
import json
import tarfile
import threading
from pathlib import Path

import fastavro
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skynb import alerts, datasets, simulate, stamps
from skynb import packets as packets_
from skynb.simulate import _gzipped_fits


@pytest.fixture(scope="module")
def packets():
    """Twenty-four simulated packets, by file name."""
    return simulate.alerts(n=24, seed=3)


@pytest.fixture(scope="module")
def records(packets):
    return [next(iter(fastavro.reader(io.BytesIO(data)))) for data in packets.values()]


def schema_of(data):
    return json.loads(fastavro.reader(io.BytesIO(data)).metadata["avro.schema"])


def avro(records, schema, **options):
    stream = io.BytesIO()
    fastavro.writer(stream, fastavro.parse_schema(schema), records, **options)
    return stream.getvalue()


def read(source, **options):
    found = alerts.read(source, progress=False, **options)
    assert found.n_read == found.n_kept + found.n_repeated + found.n_skipped
    assert len(found.triplets) == found.n_kept
    return found


def reasons(found):
    return found.skipped["reason"].tolist()


def packed(packets, path, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for name, data in packets.items():
            member = tarfile.TarInfo(f"night/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


# pencil


def test_a_difference_magnitude_is_added_to_the_reference():
    """Twice the reference's flux is 0.7526 mag brighter; half of it taken away, as much fainter."""
    mag, magerr = packets_.apparent(18.0, 0.1, np.array([True, False]), 18.0, 0.2)
    assert mag[0] == pytest.approx(18 - 2.5 * np.log10(2))
    assert magerr[0] == pytest.approx(np.hypot(0.1, 0.2) / 2)
    assert np.isnan(mag[1])
    mag, _ = packets_.apparent(18 + 2.5 * np.log10(2), 0.1, False, 18.0, 0.0)
    assert mag == pytest.approx(18 + 2.5 * np.log10(2))


def one(records, packets, **changes):
    """Return the Alerts of one packet whose candidate and history are as given."""
    record = records[0] | {"prv_candidates": None, "fp_hists": None}
    record["candidate"] = record["candidate"] | changes.pop("candidate", {})
    schema = schema_of(next(iter(packets.values())))
    return read(avro([record | changes], schema))


def test_a_row_of_each_kind(records, packets):
    about = {"distnr": 0.3, "magnr": 17.0, "sigmagnr": 0.0, "fid": 2, "magzpsci": 25.0}
    fluxes = (1000.0, 100.0, 0.3), (-99999.0, -99999.0, 0.3), (100.0, 100.0, 5.0)
    forced = [
        about | {"jd": 2459990.5 - k, "distnr": distnr}
        | {"forcediffimflux": flux, "forcediffimfluxunc": error}
        for k, (flux, error, distnr) in enumerate(fluxes)
    ]  # fmt: skip
    found = one(
        records,
        packets,
        candidate=about | {"magpsf": 17.0, "sigmapsf": 0.1, "isdiffpos": "1", "fid": 3},
        prv_candidates=[{"jd": 2459999.5, "fid": 1, "diffmaglim": 20.5}],
        fp_hists=forced,
    )
    detection, limit, forced, failed, faint = (row for _, row in found.history.iterrows())
    assert found.history["kind"].tolist() == ["detection", "limit", "forced", "forced", "forced"]
    assert (detection["band"], limit["band"], forced["band"]) == ("i", "g", "r")
    assert detection["candid"] == records[0]["candid"]
    assert detection["mag"] == pytest.approx(17 - 2.5 * np.log10(2), abs=1e-6)
    assert detection["corrected"]
    assert (limit["mjd"], limit["diffmaglim"]) == (59999.0, 20.5)
    assert limit["candid"] is pd.NA
    assert np.isnan(limit["mag"])
    assert forced["magpsf"] == pytest.approx(17.5, abs=1e-5)
    assert forced["sigmapsf"] == pytest.approx(0.10857, abs=1e-4)
    assert forced["flux"] == pytest.approx(1000 * 10 ** (0.4 * 6.4), rel=1e-6)
    assert forced["flux"] == pytest.approx(10 * forced["fluxerr"])
    total = 10 ** (-0.4 * 17) + 10 ** (-0.4 * 17.5)
    assert forced["mag"] == pytest.approx(-2.5 * np.log10(total), abs=1e-5)
    assert np.isnan([failed["flux"], failed["mag"], faint["mag"]]).all()
    assert faint["flux"] == pytest.approx(faint["fluxerr"])


def test_light_curves_are_apparent_where_a_reference_is_near():
    row = {"object_id": "a", "candid": 1, "kind": "detection", "mjd": 1.0, "band": "g"}
    row |= {"mag": 15.0, "magerr": 0.1, "corrected": True, "magpsf": 18.0, "sigmapsf": 0.2}
    row |= {"isdiffpos": True, "distnr": 0.5, "ra": 1.0, "dec": 2.0}
    history = pd.DataFrame(
        [
            row,
            row | {"mjd": 0.5, "isdiffpos": False},
            row | {"mjd": 2.0, "corrected": False, "isdiffpos": False},
            row | {"kind": "forced", "mag": 15.5},
            row | {"kind": "forced", "mag": 15.5, "mjd": 3.0},
            row | {"mjd": np.nan},
            row | {"mjd": 4.0, "magerr": np.inf},
            row | {"object_id": "b", "distnr": 6.0, "corrected": False},
            row | {"object_id": "b", "distnr": 6.0, "corrected": False, "isdiffpos": False}
            | {"mjd": 2.0},
        ]
    )  # fmt: skip
    lcs = packets_.lightcurves(history)
    assert lcs.index.tolist() == ["a", "b"]
    assert lcs["corrected"].tolist() == [True, False]
    assert lcs["lightcurve.mjd"].tolist() == [0.5, 1.0, 1.0]
    assert lcs["lightcurve.mag"].tolist() == [15.0, 15.0, 18.0]
    both = packets_.lightcurves(history, kinds=("detection", "forced")).loc["a", "lightcurve"]
    assert both["mag"].tolist() == [15.0, 15.0, 15.5]
    assert both["kind"].tolist() == ["detection", "detection", "forced"]
    assert lcs.attrs["dropped"]["repeated times left out"] == 0
    with pytest.raises(ValueError, match="no light curve of"):
        packets_.lightcurves(history, kinds=("limit",))
    with pytest.raises(ValueError, match="none of 2 observations has a magnitude"):
        packets_.lightcurves(history[history["mjd"] == 2])


# simulated packets


def test_simulated_packets_are_the_same_again():
    few = simulate.alerts(n=4, size=9, seed=1)
    assert few == dict(list(simulate.alerts(n=6, size=9, seed=1).items())[:4])
    assert few.keys().isdisjoint(simulate.alerts(n=4, size=9, seed=2))
    with pytest.raises(ValueError, match="n is 0; ask for 1 or more packets"):
        simulate.alerts(n=0)


def test_simulated_sources_are_where_and_what_they_say():
    found = read(simulate.alerts(n=80, seed=1))
    kinds = found.candidates["object_id"].str.split("-").str[1].to_numpy()
    middle = found.triplets[:, 30:33, 30:33].sum(axis=(1, 2))
    positive = found.candidates["isdiffpos"].to_numpy()
    real = kinds != "bogus"
    assert (middle[real & positive, 2] > 0).all()
    assert (middle[real & ~positive, 2] < 0).all()
    assert (middle[kinds == "variable", 1] > 0).all()
    near = found.candidates["distnr"] < packets_.NEAR
    assert near[kinds == "variable"].all()
    assert not near[kinds == "transient"].any()
    assert (found.candidates["ssdistnr"] >= 0).tolist() == (kinds == "asteroid").tolist()
    assert set(found.lcs.index[found.lcs["corrected"]].str.split("-").str[1]) >= {"variable"}


# every source gives the same


def test_what_a_packet_holds(packets, records):
    found = read(packets)
    assert found.candidates.index.dtype == np.int64
    assert found.candidates.index.tolist() == [r["candid"] for r in records]
    assert found.candidates["object_id"].tolist() == [r["objectId"] for r in records]
    jd = np.array([r["candidate"]["jd"] for r in records])
    assert np.array_equal(found.candidates["mjd"], jd - 2400000.5)
    assert found.candidates["isdiffpos"].dtype == bool
    assert found.candidates["drb"].isna().all()
    assert found.candidates["where"].tolist() == list(packets)
    stamp = stamps.decode(records[5]["cutoutTemplate"]["stampData"])
    assert np.array_equal(found.triplets[5, :, :, 1], stamp)
    n = sum(1 + len(r["prv_candidates"]) + len(r["fp_hists"]) for r in records)
    assert len(found.history) == n
    assert set(found.history["kind"]) == set(packets_.KINDS)
    assert found.lcs["lightcurve.mag"].between(10, 25).all()


@pytest.mark.parametrize(
    "kind",
    [
        *("bytes", "file", "folder", "tar", "tar.gz", "tar bytes", "parquet", "open file"),
        *("one file", "deflate"),
    ],
)
def test_sources_are_alike(kind, packets, records, tmp_path):
    schema = schema_of(next(iter(packets.values())))
    source = {
        "bytes": lambda: list(packets.values()),
        "file": lambda: [folder(tmp_path) / name for name in packets],
        "folder": lambda: folder(tmp_path),
        "tar": lambda: packed(packets, tmp_path / "night.tar", "w"),
        "tar.gz": lambda: str(packed(packets, tmp_path / "night.tar.gz")),
        "tar bytes": lambda: [packed(packets, tmp_path / "night.tar.gz").read_bytes()],
        "parquet": lambda: parquet(records, tmp_path / "night.parquet"),
        "open file": lambda: io.BytesIO(avro(records, schema)),
        "one file": lambda: avro(records, schema),
        "deflate": lambda: avro(records, schema, codec="deflate"),
    }

    def folder(path):
        for name, data in packets.items():
            (path / name).write_bytes(data)
        (path / ".part").write_bytes(b"not finished")
        return path

    found, expected = read(source[kind]()), read(packets)
    assert (found.n_read, found.n_kept) == (24, 24)
    same = ["where"]
    pd.testing.assert_frame_equal(
        found.candidates.drop(columns=same).sort_index(axis=1),
        expected.candidates.drop(columns=same).sort_index(axis=1),
        check_dtype=False,
    )
    pd.testing.assert_frame_equal(found.history, expected.history)
    assert np.array_equal(found.triplets, expected.triplets)


def parquet(records, path):
    pq.write_table(pa.Table.from_pylist(records), path)
    return path


def test_batches_add_up_to_the_whole(packets):
    every = list(alerts.stream([packets, packets], batch=10, progress=False))
    assert [each.n_read for each in every] == [10, 10, 10, 10, 8]
    assert [each.n_kept for each in every] == [10, 10, 4, 0, 0]
    assert sum(each.n_repeated for each in every) == 24
    whole = read([packets, packets])
    assert np.array_equal(np.concatenate([each.triplets for each in every]), whole.triplets)
    ids = [each for part in every for each in part.candidates.index]
    assert ids == whole.candidates.index.tolist()


def test_without_history_only_that_is_missing(packets):
    found, whole = read(packets, history=False), read(packets)
    assert set(found.history["kind"]) == {"detection"}
    assert len(found.history) == 24
    pd.testing.assert_frame_equal(found.candidates, whole.candidates)
    assert np.array_equal(found.triplets, whole.triplets)


def test_a_stream_is_lazy(packets):
    def endless():
        while True:
            yield next(iter(packets.values()))

    found = next(alerts.stream(endless(), batch=3, progress=False))
    assert (found.n_read, found.n_kept, found.n_repeated) == (3, 1, 2)


# bad input: set aside with its reason


@pytest.mark.parametrize("length", [2, 40, 3000, 9000, -20, -1])
def test_a_truncated_packet(length, packets, caplog):
    names = list(packets)
    damaged = packets | {names[4]: packets[names[4]][:length]}
    found = read(damaged)
    assert (found.n_kept, found.n_skipped) == (23, 1)
    assert found.skipped["where"].tolist() == [names[4]]
    assert reasons(found)[0]
    assert "set aside 1 of 24 packets" in caplog.text
    assert int(names[4][:-5]) not in found.candidates.index


def test_damaged_bytes_never_end_a_stream(packets):
    rng, damaged = np.random.default_rng(0), []
    for k in range(150):
        data = bytearray(packets[list(packets)[k % 24]])
        data[rng.integers(len(data)) if k % 3 else rng.integers(5000)] ^= 1 << rng.integers(8)
        damaged.append(bytes(data))
    found = read([*damaged, packets])
    assert found.n_read >= 174
    assert set(map(int, (name[:-5] for name in packets))) <= set(found.candidates.index)


def test_an_unknown_codec(packets):
    data = next(iter(packets.values()))
    found = read([data.replace(b"\x14avro.codec\x08null", b"\x14avro.codec\x08wine")])
    assert found.n_skipped == 1
    assert "wine" in reasons(found)[0]
    assert found.triplets.shape == (0, 63, 63, 3)
    assert found.candidates.columns[:3].tolist() == ["object_id", "mjd", "band"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cutoutTemplate": None}, "a packet without template cutout"),
        ({"cutoutScience": {"fileName": "", "stampData": b"nothing"}}, "no FITS image"),
        (
            {"cutoutDifference": {"fileName": "", "stampData": _gzipped_fits(
                np.full((63, 63), np.nan, np.float32))}},
            "a difference stamp without a finite pixel",
        ),
        (
            {"cutoutDifference": {"fileName": "", "stampData": _gzipped_fits(
                np.zeros((64, 63), np.float32))}},
            "at most 63 x 63 fit",
        ),
        ({"candidate": {"ra": None}}, "a packet whose ra is None"),
        ({"candidate": {"jd": np.nan}}, "a packet whose mjd is nan"),
        ({"candidate": {"jd": None}}, "a packet whose mjd is nan"),
    ],
)  # fmt: skip
def test_a_broken_packet_has_its_reason(changes, reason, records, packets):
    found = one(records, packets, **changes)
    assert found.n_skipped == 1
    assert reason in reasons(found)[0]


def test_an_edge_stamp_is_padded(records, packets):
    image = np.random.default_rng(0).normal(size=(43, 63)).astype(np.float32)
    cutout = {"fileName": "", "stampData": _gzipped_fits(image)}
    found = one(records, packets, **dict.fromkeys(packets_.CUTOUTS, cutout))
    assert np.array_equal(found.triplets[0, :43, :, 2], image)
    assert not found.triplets[0, 43:].any()
    assert not read(packets).triplets[19, 42:].any()


def test_a_value_of_another_type_is_set_aside_alone(records):
    odd = {"magpsf": "faint", "candid": None}
    changed = records[0] | {"prv_candidates": [records[0]["prv_candidates"][0] | odd]}
    large = records[1] | {"candid": 2**63}
    text = records[2] | {"candid": str(records[2]["candid"])}
    with alerts._Collector(63, False) as collector:
        for k, record in enumerate([changed, large, text, records[3]]):
            collector.add(str(k), record)
        found = collector.alerts()
    assert found.skipped["where"].tolist() == ["0", "1"]
    assert reasons(found)[1] == "candid is 9223372036854775808, which is no int64"
    assert found.candidates.index.tolist() == [r["candid"] for r in records[2:4]]


@pytest.mark.parametrize("column", ["candid", "diaSourceId"])
def test_a_float_candid_is_refused(column, records, tmp_path):
    """As two numbers that differ by less than a float can tell are one then."""
    if column == "candid":
        table = pa.Table.from_pylist(records)
        floats = table["candid"].cast(pa.float64(), safe=False)
        table = table.set_column(table.column_names.index("candid"), "candid", floats)
    else:
        rows = [{"diaSource": {"diaSourceId": 1e18, "psfFlux": 1.0}}] * 24
        table = pa.Table.from_pylist(rows)
    pq.write_table(table, tmp_path / "night.parquet")
    found = read(tmp_path / "night.parquet")
    assert (found.n_read, found.n_skipped) == (24, 24)
    assert "a float, which may have lost digits; give int64" in reasons(found)[0]


def test_a_float_candid_in_the_history_is_missing(records, packets):
    history = [each | {"candid": None} for each in records[0]["prv_candidates"]]
    a, b = (
        packets_.history_table(packets_._ztf(records[0] | {"prv_candidates": rows}, 1)[1])
        for rows in (history, [each | {"candid": 1.5e18} for each in history])
    )
    pd.testing.assert_frame_equal(a, b)
    assert a["candid"].notna().sum() == 1


def test_an_observation_that_two_packets_tell_of_is_in_the_history_once(records):
    record = next(r for r in records if any(p["magpsf"] for p in r["prv_candidates"]))
    earlier = next(p for p in record["prv_candidates"] if p["magpsf"])
    first = {"objectId": record["objectId"], "candidate": earlier}
    for same in (earlier, earlier | {"candid": 1.5e18}):
        history = [p if p is not earlier else same for p in record["prv_candidates"]]
        new = packets_._ztf(record | {"prv_candidates": history}, record["candid"])[1]
        old = packets_._ztf(first, earlier["candid"])[1]
        table = packets_.history_table(new + old)
        assert len(table) == len(new)
        assert (table["candid"] == earlier["candid"]).sum() == 1
    other = earlier | {"candid": earlier["candid"] + 1, "magpsf": earlier["magpsf"] + 0.1}
    assert (
        len(packets_.history_table(new + old + packets_._ztf(first | {"candidate": other}, 7)[1]))
        == len(table) + 1
    )


def test_unknown_fields_go_along(records, packets):
    schema = schema_of(next(iter(packets.values())))
    schema["fields"].append({"name": "mood", "type": "string"})
    candidate = next(f for f in schema["fields"] if f["name"] == "candidate")["type"]
    candidate["fields"].append({"name": "charm", "type": "double"})
    new = [r | {"mood": "fair", "candidate": r["candidate"] | {"charm": 0.5}} for r in records[:3]]
    found = read([avro(new, schema), packets])
    assert (found.n_kept, found.n_repeated) == (24, 3)
    assert found.candidates["charm"].notna().sum() == 3
    missing = [f for f in schema["fields"] if f["name"] != "objectId"]
    found = read(avro(new, schema | {"fields": missing}))
    assert reasons(found) == ["a packet without the field 'objectId'"] * 3


def test_what_is_no_packet(tmp_path, packets):
    archive = packed(packets, tmp_path / "a.tar", "w").read_bytes()
    (tmp_path / "a.tar").write_bytes(archive[: len(archive) // 2])
    (tmp_path / "b.sh").write_text("echo")
    (tmp_path / "c.avro").write_text("")
    (tmp_path / "d.tar.gz").write_bytes(b"\x1f\x8bgzip it is not")
    (tmp_path / "e.parquet").write_bytes(b"PAR1 it is not")
    found = read(tmp_path)
    assert 8 < found.n_kept < 14
    assert found.n_skipped == 5
    assert "an archive damaged after" in reasons(found)[0]
    assert reasons(found)[1:3] == ["neither avro, Parquet nor a tar archive", "an empty file"]
    with pytest.raises(FileNotFoundError, match=r"no file or folder .*; check the name"):
        read(tmp_path / "none")
    with pytest.raises(ValueError, match="there is no packet to read"):
        read([])


def test_a_broken_copy_does_not_hide_a_good_one(packets):
    data = next(iter(packets.values()))
    broken = data.replace(b"\x1f\x8b", b"\x1f\x8c")
    found = read([broken, data, data])
    assert (found.n_kept, found.n_repeated, found.n_skipped) == (1, 1, 1)
    assert found.candidates["where"].tolist() == ["[1]"]


# Rubin


RUBIN = {
    "type": "record",
    "name": "alert",
    "fields": [
        {"name": "diaSourceId", "type": "long"},
        {
            "name": "diaSource",
            "type": {
                "type": "record",
                "name": "diaSource",
                "fields": [
                    {"name": "diaSourceId", "type": "long"},
                    *({"name": n, "type": ["null", "long"]} for n in ("diaObjectId", "ssObjectId")),
                    *({"name": n, "type": "double"} for n in ("midpointMjdTai", "ra", "dec")),
                    *({"name": n, "type": ["null", "float"]} for n in ("psfFlux", "psfFluxErr")),
                    {"name": "band", "type": "string"},
                    {"name": "reliability", "type": ["null", "float"]},
                ],
            },
        },
        {"name": "prvDiaSources", "type": ["null", {"type": "array", "items": "diaSource"}]},
        {
            "name": "prvDiaForcedSources",
            "type": [
                "null",
                {
                    "type": "array",
                    "items": {
                        "type": "record",
                        "name": "diaForcedSource",
                        "fields": [
                            {"name": "diaForcedSourceId", "type": "long"},
                            {"name": "midpointMjdTai", "type": "double"},
                            {"name": "psfFlux", "type": "float"},
                            {"name": "psfFluxErr", "type": "float"},
                            {"name": "band", "type": "string"},
                        ],
                    },
                },
            ],
        },
        *({"name": name, "type": ["null", "bytes"]} for name in packets_.CUTOUTS),
    ],
}
"""A part of Rubin's schema, simulated."""


def rubin(k, **changes):
    """Return a simulated packet of Rubin: 3631 nJy, which are 22.5 mag, at 5 %."""
    source = {"diaSourceId": 2**60 + k, "diaObjectId": 2**59 + 1, "ssObjectId": None}
    source |= {"midpointMjdTai": 60_900.0 + k, "ra": 10.0, "dec": -30.0, "band": "z"}
    source |= {"psfFlux": 3631.0, "psfFluxErr": 181.5, "reliability": 0.9}
    image = _gzipped_fits(np.full((51, 51), k, np.float32))
    packet = {"diaSourceId": 2**60 + k, "diaSource": source | changes.pop("diaSource", {})}
    packet |= dict.fromkeys(packets_.CUTOUTS, image)
    forced = {"diaForcedSourceId": 1, "midpointMjdTai": 60_800.0, "psfFlux": -9.0}
    forced |= {"psfFluxErr": 10.0, "band": "y"}
    earlier = source | {"diaSourceId": 2**60 - 1, "midpointMjdTai": 60_700.0, "psfFlux": -3631.0}
    return packet | {"prvDiaSources": [earlier], "prvDiaForcedSources": [forced]} | changes


def wire(packet, number=703):
    stream = io.BytesIO()
    stream.write(b"\0" + number.to_bytes(4))
    fastavro.schemaless_writer(stream, fastavro.parse_schema(RUBIN), packet)
    return stream.getvalue()


@pytest.mark.parametrize("form", ["wire", "folder", "avro"])
def test_rubin_packets(form, tmp_path):
    every = [rubin(k) for k in range(3)]
    (tmp_path / "703.avsc").write_text(json.dumps(RUBIN))
    schemas = {"wire": {703: RUBIN}, "folder": tmp_path, "avro": None}[form]
    source = avro(every, RUBIN) if form == "avro" else [wire(each) for each in every]
    found = read(source, schemas=schemas)
    assert found.candidates.index.tolist() == [2**60 + k for k in range(3)]
    assert found.candidates["object_id"].tolist() == [str(2**59 + 1)] * 3
    assert found.candidates["mjd"].tolist() == [60_900.0, 60_901.0, 60_902.0]
    assert found.triplets.shape == (3, 63, 63, 3)
    assert found.triplets[2, :51, :51].min() == 2
    kinds = found.history.groupby("kind")
    assert kinds.size().to_dict() == {"detection": 4, "forced": 1}
    detections = kinds.get_group("detection")
    assert detections["magpsf"].to_numpy() == pytest.approx(22.5, abs=1e-3)
    assert detections["sigmapsf"].to_numpy() == pytest.approx(0.0543, abs=1e-3)
    assert detections["isdiffpos"].tolist() == [True, False, True, True]
    assert detections["flux"].abs().to_numpy() == pytest.approx(3631)
    assert np.isnan(kinds.get_group("forced")["magpsf"]).all()
    assert found.lcs["lightcurve.mjd"].tolist() == pytest.approx([60_900, 60_901, 60_902])
    assert not found.lcs["corrected"].any()
    assert len(read(source, schemas=schemas, history=False).history) == 3


def test_rubin_packets_without_their_schema():
    data = wire(rubin(0))
    assert "a packet of schema 703, which is not given; pass schemas=" in reasons(read(data))[0]
    found = read(data + b"more", schemas={703: json.dumps(RUBIN)})
    assert "bytes left over; schema 703 is not its own" in reasons(found)[0]
    moving = rubin(1, diaSource={"diaObjectId": None, "ssObjectId": 7})
    assert read(wire(moving), schemas={703: RUBIN}).candidates["object_id"].tolist() == ["7"]


# Kafka: librdkafka's own mock cluster, over a real socket


class Cluster:
    """A mock cluster of one broker, which can go away and come back."""

    def __init__(self):
        import confluent_kafka

        place = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
        self.lib = ctypes.CDLL(str(next(place.glob("librdkafka-*"))))
        for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_mock_cluster_new"):
            getattr(self.lib, name).restype = ctypes.c_void_p
        self.lib.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
        conf, error = ctypes.c_void_p(self.lib.rd_kafka_conf_new()), ctypes.create_string_buffer(99)
        self.kafka = ctypes.c_void_p(self.lib.rd_kafka_new(0, conf, error, 99))
        self.mock = ctypes.c_void_p(self.lib.rd_kafka_mock_cluster_new(self.kafka, 1))
        self.lib.rd_kafka_mock_group_initial_rebalance_delay_ms(self.mock, 0)
        self.servers = self.lib.rd_kafka_mock_cluster_bootstraps(self.mock).decode()

    def down(self):
        self.lib.rd_kafka_mock_broker_set_down(self.mock, 1)

    def up(self):
        self.lib.rd_kafka_mock_broker_set_up(self.mock, 1)

    def close(self):
        self.lib.rd_kafka_mock_cluster_destroy(self.mock)
        self.lib.rd_kafka_destroy(self.kafka)


@pytest.fixture
def cluster():
    cluster = Cluster()
    yield cluster
    cluster.close()


def produce(cluster, values, topic="ztf"):
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": cluster.servers})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(20) == 0


@pytest.fixture(scope="module")
def small():
    """Twenty-four packets small enough for the mock cluster."""
    return list(simulate.alerts(n=24, size=9, seed=5).values())


def listen(cluster, folder, **options):
    fast = {"reconnect.backoff.max.ms": 200, "socket.timeout.ms": 3000}
    fast |= {"session.timeout.ms": 1500, "heartbeat.interval.ms": 300}
    options = {"timeout": 2.0, "batch": 5, "size": 9, "progress": False, "config": fast} | options
    return alerts.listen(cluster.servers, "ztf", folder=folder, **options)


def test_a_topic_is_read_once(cluster, small, tmp_path):
    produce(cluster, [*small, small[3], b"nonsense", b"", small[5][:700]])
    every = list(listen(cluster, tmp_path / "new"))
    assert sum(each.n_read for each in every) == 28
    assert sum(each.n_kept for each in every) == 24
    assert sum(each.n_repeated for each in every) == 1
    assert sum(each.n_skipped for each in every) == 3
    kept = read(tmp_path / "new", size=9)
    assert (kept.n_read, kept.n_kept, kept.n_skipped) == (27, 24, 3)
    ids = [each for part in every for each in part.candidates.index]
    assert sorted(ids) == sorted(read(small, size=9).candidates.index)
    assert sorted(kept.candidates.index) == sorted(ids)
    assert list(listen(cluster, tmp_path / "new")) == []
    assert not list((tmp_path / "new").glob("*.part"))


def test_what_was_not_committed_comes_again_and_is_known(cluster, small, tmp_path, monkeypatch):
    produce(cluster, small)
    monkeypatch.setattr(alerts, "_commit", lambda *_: None)
    first = next(listener := listen(cluster, tmp_path))
    listener.close()
    every = list(listen(cluster, tmp_path))
    assert first.n_kept > 0
    assert sum(each.n_repeated for each in every) == first.n_kept
    assert sum(each.n_kept for each in every) == 24 - first.n_kept
    assert read(tmp_path, size=9).n_read == 24
    monkeypatch.undo()
    again = list(listen(cluster, tmp_path, group="another"))
    assert sum(each.n_repeated for each in again) == sum(each.n_read for each in again) == 24


def test_nothing_is_committed_that_is_not_written(cluster, small, tmp_path, monkeypatch):
    produce(cluster, small[:6])

    def full(*_):
        raise OSError(28, "no space left")

    with monkeypatch.context() as patch:
        patch.setattr(alerts.os, "fsync", full)
        with pytest.raises(OSError, match="free some space or choose another folder"):
            list(listen(cluster, tmp_path))
    assert not list(tmp_path.iterdir())
    every = list(listen(cluster, tmp_path))
    assert sum(each.n_kept for each in every) == 6


def test_a_broker_goes_away_and_comes_back(cluster, small, tmp_path, caplog):
    produce(cluster, small[:12])
    listener = listen(cluster, tmp_path, timeout=20.0)
    every = [next(listener)]
    cluster.down()
    timer = threading.Timer(3.0, lambda: (cluster.up(), produce(cluster, small[12:])))
    timer.start()
    for each in listener:
        every.append(each)
        if sum(part.n_kept for part in every) == 24:
            break
    listener.close()
    timer.join()
    ids = [each for part in every for each in part.candidates.index]
    assert len(ids) == len(set(ids)) == 24
    assert sum(each.n_skipped for each in every) == 0
    stored = read(tmp_path, size=9)
    assert (stored.n_read, stored.n_kept) == (24, 24)


def test_what_else_lies_in_the_folder(cluster, small, tmp_path):
    produce(cluster, small[:3])
    packed({"night.avro": small[0]}, tmp_path / "mine.tar", "w")
    assert sum(each.n_kept for each in listen(cluster, tmp_path)) == 3
    (tmp_path / "mine.tar").write_text("damaged")
    with pytest.raises(ValueError, match=r"mine.tar is damaged .*; move it away"):
        next(listen(cluster, tmp_path))


def test_a_broker_that_stays_away_is_said(cluster, small, tmp_path):
    cluster.down()
    with pytest.raises(ConnectionError, match=r"nothing came from .* for 3 s .*listen again"):
        list(listen(cluster, tmp_path, timeout=3.0))


# real packets


@pytest.mark.real
def test_real_packets_are_read_whole(caplog):
    counts = {"ztf-alerts-2018": (500, 499, 0, 1), "ztf-alerts-2020": (50, 50, 0, 0)}
    counts |= {"ztf-alerts-2023": (561, 558, 3, 0), "ztf-alerts": (321, 264, 57, 0)}
    for name, expected in counts.items():
        found = read(datasets.contents(name))
        assert (found.n_read, found.n_kept, found.n_repeated, found.n_skipped) == expected, name
        assert found.candidates.index.is_unique
        assert np.isfinite(found.triplets).all()
        assert found.candidates["rb"].between(0, 1).all()
        assert (found.candidates["drb"].notna().all()) == (name != "ztf-alerts-2018")
        assert found.history["candid"].dropna().is_unique
        assert not found.history.drop(columns="candid").duplicated(packets_._ONE).any()
        assert found.history.loc[found.history["kind"] == "detection", "magpsf"].notna().all()
        assert len(found.lcs) > 0.3 * found.candidates["object_id"].nunique()


@pytest.mark.real
@pytest.mark.filterwarnings("ignore:Found a SIMPLE card")
def test_real_triplets_are_what_astropy_reads():
    import gzip

    from astropy.io import fits

    contents = dict(list(datasets.contents("ztf-alerts-2023")[0].items())[:20])
    found = read(contents)
    for data in contents.values():
        record = next(iter(fastavro.reader(io.BytesIO(data))))
        row = found.candidates.index.get_loc(record["candid"])
        for k, name in enumerate(packets_.CUTOUTS):
            image = fits.getdata(io.BytesIO(gzip.decompress(record[name]["stampData"])))
            height, width = image.shape
            assert np.array_equal(found.triplets[row, :height, :width, k], np.nan_to_num(image))


def test_a_batch_has_a_packet():
    with pytest.raises(ValueError, match="batch is 0; give 1 packet or more"):
        next(alerts.stream(b"", batch=0))
