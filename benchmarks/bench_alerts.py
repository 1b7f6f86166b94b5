"""Alert packets: how fast they are read against a plain FITS parse, and how flat the memory stays.

    python -m benchmarks.bench_alerts [PACKETS]

ZTF's of 2018 and 2023 if SKYNB_MIRROR is set, else simulated ones. The plain parse is fastavro's
reader and astropy's FITS, file by file, stamps padded to triplets. Speed is per second of the wall
clock, and per second of processor time, which other programs on the machine change less. Memory is
that of one stream of so many packets (100,000): the same files again and again, each time under
new numbers, so that none is recognised as a repetition.
"""

import gzip
import io
import itertools
import os
import sys
import time
import warnings

import fastavro
import numpy as np
import pandas as pd
import psutil
from astropy.io import fits

from skynb import alerts, datasets, simulate, stamps

ROUNDS = 3
CUTOUTS = ("cutoutScience", "cutoutTemplate", "cutoutDifference")


def main(n_packets=100_000):
    """Return the figures as a dict of DataFrames, and print them."""
    if os.environ.get("SKYNB_MIRROR"):
        names = ("ztf-alerts-2018", "ztf-alerts-2023")
        sets = {name: datasets.contents(name)[0] for name in names}
        sets = {n: [v for k, v in each.items() if k.endswith(".avro")] for n, each in sets.items()}
    else:
        sets = {"simulated": list(simulate.alerts(n=500).values())}
    return {"speed": _speed(sets), "memory": _memory(next(iter(sets.values())), n_packets)}


def _plain(packets):
    """Return triplets, packet by packet with fastavro and astropy."""
    triplets = []
    for data in packets:
        for record in fastavro.reader(io.BytesIO(data)):
            triplet = np.zeros((stamps.SIZE, stamps.SIZE, 3), np.float32)
            for k, name in enumerate(CUTOUTS):
                with gzip.open(io.BytesIO(record[name]["stampData"])) as file:
                    image = fits.open(io.BytesIO(file.read()))[0].data
                triplet[: image.shape[0], : image.shape[1], k] = np.nan_to_num(image)
            triplets.append(triplet)
    return np.stack(triplets)


def _ours(packets, **options):
    parts = [each.triplets for each in alerts.stream(packets, progress=False, **options)]
    return np.concatenate(parts)


def _speed(sets):
    """Return packets per second, the best of three rounds in turns."""
    ways = {
        "plain FITS parse": _plain,
        "skynb, candidates and triplets": lambda packets: _ours(packets, history=False),
        "skynb, with history": _ours,
    }
    rows = []
    for name, packets in sets.items():
        for way, _ in itertools.product(ways, range(ROUNDS)):
            wall, processor = time.perf_counter(), time.process_time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                n_packets = len(packets)
                found = ways[way](packets)
            wall, processor = time.perf_counter() - wall, time.process_time() - processor
            rows.append((name, way, len(found), n_packets / wall, n_packets / processor))
    columns = ["packets", "read by", "triplets", "per second", "per processor second"]
    table = pd.DataFrame(rows, columns=columns).groupby(columns[:2], sort=False).max()
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"{os.cpu_count()} cores, load {load}")
    print(table.round(0).astype(int).to_string())
    return table


def _varint(number):
    """Return how avro writes a positive integer."""
    number, out = number << 1, bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _renumbered(packets, n_packets):
    """Give ``n_packets`` packets, each under a number of its own."""
    candids = alerts.read(packets, history=False, progress=False).candidates
    places = candids["where"].str.strip("[]").astype(int)
    old = dict(zip(places, candids.index, strict=True))
    for k in range(n_packets):
        row = list(old)[k % len(old)]
        new = old[row] + 10_000_000_000_000 * (k // len(old))
        yield packets[row].replace(_varint(old[row]), _varint(new))


def _memory(packets, n_packets):
    """Return the resident memory [MB] in every tenth of a long stream."""
    process, rows, kept = psutil.Process(), [], 0
    start, n_read = time.perf_counter(), 0
    for each in alerts.stream(_renumbered(packets, n_packets), progress=False):
        n_read, kept = n_read + each.n_read, kept + each.n_kept
        tenth = min(9, 10 * n_read // n_packets)
        rows.append((tenth, process.memory_info().rss / 1e6))
    seconds = time.perf_counter() - start
    table = pd.DataFrame(rows, columns=["tenth", "rss_mb"]).groupby("tenth")["rss_mb"]
    table = table.agg(["mean", "max"])
    print(f"\nmemory [MB] over {n_read} packets, {kept} kept, {n_read / seconds:.0f} per second")
    print(table.round(0).T.to_string())
    return table


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
