"""Data sets: the right table by name, and nothing corrupt whatever goes wrong on the way."""

import hashlib
import http.server
import io
import logging
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from skynb import datasets, lightcurves, taxonomy

CSV = b"object_id,mjd,mag,magerr,label\n" + b"".join(
    b"%d,%d.5,15.%03d,0.01,%s\n" % (i // 50, 55000 + i, i % 997, b"EW" if i < 4000 else b"EA")
    for i in range(8000)
)
FILE = datasets.File("owner/repo/commit/tiny.csv", f"sha256:{hashlib.sha256(CSV).hexdigest()}")
FOLDER = {
    "1-EW.csv": b"mjd,mag,magerr\n1,15,0.1\n2,16,0.1\n",
    "2-EA.csv": b"mjd,mag,magerr\n3,17,1\n",
}
ARCHIVE = datasets.File(
    "owner/repo/archive/commit.tar.gz", f"tree:{datasets.git_tree(FOLDER)}", "data/raw"
)


def read_csv(data):
    return pd.read_csv(io.BytesIO(data))


def read_folder(members):
    flat, rows = datasets._stack(list(members.values()), ["mjd", "mag", "magerr"], n_header=1)
    return flat.assign(object_id=rows)


def entry(name, file, reader):
    about = {"summary": "", "n_objects": 1, "bands": ("V",), "time_scale": "MJD"}
    cited = {"licence": "none", "citation": "nobody"}
    return datasets.Entry(name, files=(file,), reader=reader, **about, **cited)


def archive(folder=None):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, data in (folder or FOLDER).items():
            member = tarfile.TarInfo(f"repo-commit/data/raw/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return stream.getvalue()


class Server(http.server.ThreadingHTTPServer):
    """A web server that can stall half-way, be out of order, or send something else."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {f"/{FILE.address}": CSV, f"/{ARCHIVE.address}": archive()}
        self.requests, self.failures, self.stall = [], 0, threading.Event()
        self.stall.set()
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        if self.server.failures:
            self.server.failures -= 1
            self.send_error(503)
            return
        if self.path not in self.server.files:
            self.send_error(404)
            return
        body = self.server.files[self.path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2])
        self.wfile.flush()
        self.server.stall.wait(25)
        self.wfile.write(body[len(body) // 2 :])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch, cache):
    """A local server as the public address of two small data sets, and an empty cache."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("SKYNB_MIRROR", raising=False)
    monkeypatch.setattr(datasets, "RAW", server.url)
    monkeypatch.setattr(datasets, "ARCHIVES", server.url)
    monkeypatch.setattr(datasets, "RETRIES", 0)
    monkeypatch.setattr(datasets, "REGISTRY", registry())
    yield server
    server.stall.set()
    server.shutdown()
    server.server_close()


def registry():
    entries = [entry("tiny", FILE, read_csv), entry("packed", ARCHIVE, read_folder)]
    return {one.name: one for one in entries}


@pytest.fixture
def local_mirror(server, tmp_path, monkeypatch):
    """A mirror with both small data sets; the server is out of reach."""
    folder = tmp_path / "mirror"
    for path, data in server.files.items():
        (folder / path[1:]).parent.mkdir(parents=True)
        (folder / path[1:]).write_bytes(data)
    server.files.clear()
    monkeypatch.setenv("SKYNB_MIRROR", str(folder))
    return folder


def flip(path, position=100):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def tables(cache):
    return sorted((cache / "tables").glob("*.parquet"))


# pencil


def test_a_git_tree_id_is_git_s_own():
    contents = {"b.txt": b"hello\n", "a.csv": b"x,y\n1,2\n"}
    assert datasets.git_tree(contents) == "c1de59b806ffdba9917cbea45343d4c4628d29ab"


def test_small_files_are_stacked_with_each_row_s_file():
    flat, rows = datasets._stack([b"a,b\n1,2\n3,4", b"a,b\n5,6\n"], ["a", "b"], n_header=1)
    assert flat.to_numpy().tolist() == [[1, 2], [3, 4], [5, 6]]
    assert rows.tolist() == [0, 0, 1]


def test_a_period_is_taken_from_within_three_arcseconds():
    places = pd.DataFrame({"ra": [10.0, 10.0, 200.0], "dec": [20.0, 20.0 + 4 / 3600, 0.0]})
    catalogue = b"J1 10.0002 20.0001 0.25 a,b\nJ2 200.0 0.0 nan c\n"
    np.testing.assert_array_equal(datasets._periods(places, catalogue), [0.25, np.nan, np.nan])


@pytest.mark.parametrize("name", datasets.names())
def test_every_entry_says_what_a_report_needs(name):
    about = datasets.info(name)
    for key in ("summary", "n_objects", "bands", "time_scale", "licence", "citation", "defects"):
        assert about[key], key
    assert len(about["addresses"]) == len(about["checksums"])
    assert all(address.startswith("https://") for address in about["addresses"])
    cited = datasets.provenance(name)[name]
    assert cited["simulated"] == (name == "simulated")
    assert cited["checksum"] == " + ".join(about["checksums"]) or cited["simulated"]


def test_a_file_s_provenance_is_its_sha256(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_bytes(CSV)
    cited = datasets.provenance(path)
    assert cited["mine.csv"]["checksum"] == FILE.checksum


# invariants


def test_the_default_is_sixty_simulated_objects_of_each_of_seven_classes():
    lcs = datasets.load("simulated")
    assert lcs["label"].value_counts().to_dict() == dict.fromkeys(taxonomy.SEVEN, 60)
    assert len(lcs) == datasets.info("simulated")["n_objects"]
    assert lcs.attrs["dataset"] == "simulated"


def test_a_draw_takes_at_most_n_of_each_label_in_order_and_the_same_for_a_seed(local_mirror):
    lcs = datasets.load("tiny", n_per_class=7, seed=3)
    assert lcs["label"].value_counts().to_dict() == {"EW": 7, "EA": 7}
    assert list(lcs.index) == sorted(lcs.index)
    assert list(datasets.load("tiny", n_per_class=7, seed=3).index) == list(lcs.index)
    assert list(datasets.load("tiny", n_per_class=7, seed=4).index) != list(lcs.index)
    assert len(datasets.load("tiny", n_per_class=10_000)) == 160


def test_one_s_own_file_is_read_by_its_path(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_bytes(CSV)
    lcs = datasets.load(str(path))
    assert len(lcs) == 160
    assert lcs.attrs["dataset"] == "mine.csv"
    assert len(datasets.load(path, n_per_class=3)) == 6


def test_the_table_from_the_cache_is_the_one_first_read(server, cache):
    first, second = datasets.load("tiny"), datasets.load("tiny")
    assert len(tables(cache)) == 1
    pd.testing.assert_series_equal(first["label"], second["label"])
    for name in ("offsets", "mjd", "mag", "magerr"):
        one, other = (getattr(lightcurves.arrays(lcs), name) for lcs in (first, second))
        np.testing.assert_array_equal(one, other)
    assert first.attrs == second.attrs
    assert server.requests == [f"/{FILE.address}"]


def test_an_older_reader_s_table_is_not_used(server, cache, monkeypatch):
    datasets.load("tiny")
    newer = datasets.Entry(**{**vars(datasets.REGISTRY["tiny"]), "version": 2})
    monkeypatch.setitem(datasets.REGISTRY, "tiny", newer)
    datasets.load("tiny")
    assert len(tables(cache)) == 2


# downloads


@pytest.mark.parametrize(("name", "file"), [("tiny", FILE), ("packed", ARCHIVE)])
def test_a_download_is_verified_cached_and_not_repeated(server, cache, name, file, capfd):
    (path,) = datasets.fetch(name)
    assert path == cache / "files" / file.address
    assert "100%" in capfd.readouterr().err
    datasets.fetch(name)
    assert len(datasets.load(name)) == (160 if name == "tiny" else 2)
    assert server.requests == [f"/{file.address}"]


def test_a_server_out_of_order_is_asked_again(server, monkeypatch):
    monkeypatch.setattr(datasets, "RETRIES", 2)
    server.failures = 1
    assert datasets.fetch("tiny")[0].read_bytes() == CSV
    assert len(server.requests) == 2


def test_an_archive_may_be_packed_otherwise_but_not_hold_otherwise(server, cache):
    server.files[f"/{ARCHIVE.address}"] = archive(dict(reversed(FOLDER.items())))
    datasets.fetch("packed")
    datasets.clear()
    server.files[f"/{ARCHIVE.address}"] = archive(FOLDER | {"1-EW.csv": b"mjd,mag,magerr\n"})
    with pytest.raises(datasets.DataError, match="not what was registered: its check sum is tree:"):
        datasets.fetch("packed")
    server.files[f"/{ARCHIVE.address}"] = archive()[:-50]
    with pytest.raises(datasets.DataError, match="not what was registered: it cannot be unpacked"):
        datasets.fetch("packed")
    assert not any(path.is_file() for path in cache.rglob("*"))


def test_clear_leaves_the_others_and_what_is_not_ours(server, cache):
    datasets.load("tiny")
    datasets.load("packed")
    (cache / "mine.txt").write_text("keep")
    datasets.clear("tiny")
    assert [path.name.split("-")[0] for path in tables(cache)] == ["packed"]
    assert (cache / "files" / ARCHIVE.address).is_file()
    datasets.clear()
    assert [path.name for path in cache.rglob("*")] == ["mine.txt"]
    datasets.clear()


def test_the_cache_is_where_the_environment_says(monkeypatch):
    monkeypatch.setenv("SKYNB_CACHE", "~/somewhere")
    assert datasets.cache_dir() == Path.home() / "somewhere"
    monkeypatch.delenv("SKYNB_CACHE")
    assert datasets.cache_dir().name == "skynb"


def test_a_mirror_may_be_relative_and_is_never_written_to(local_mirror, monkeypatch, cache):
    monkeypatch.chdir(local_mirror.parent)
    monkeypatch.setenv("SKYNB_MIRROR", "mirror")
    assert datasets.fetch("tiny") == [local_mirror / FILE.address]
    assert not cache.exists()


def test_only_classes_with_enough_members_are_labelled(one_band_lcs, caplog):
    lcs = one_band_lcs.assign(label=["EA"] * 5 + ["EW"] * 4 + ["mine"] * 2 + [None] * 10)
    counts = datasets.labelled(lcs)["label"].value_counts().to_dict()
    assert counts == {"EA": 5, "EW": 4, "mine": 2}
    assert caplog.messages == ["left out, without a label: 10"]
    assert set(datasets.labelled(lcs, at_least=4)["label"]) == {"EA", "EW"}
    assert "of fewer than 4 objects: 2 mine" in caplog.text
    assert set(datasets.labelled(lcs, ["EA", "mine", "QSO"])["label"]) == {"EA", "mine"}
    assert set(datasets.labelled(lcs, ["QSO"], at_least=3)["label"]) == {"EA", "EW"}
    said = "two classes or more of 5 objects each, found 5 EA, 4 EW, 2 mine; name two"
    with pytest.raises(ValueError, match=said):
        datasets.labelled(lcs, at_least=5)
    with pytest.raises(ValueError, match="found no label; give light curves with a column label"):
        datasets.labelled(lcs.drop(columns="label"))


# faults


CHILD = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_datasets as here
from skynb import datasets
datasets.RAW = datasets.ARCHIVES = sys.argv[1]
datasets.REGISTRY = here.registry()
datasets.RETRIES = 0
def sleep(path):
    print("about to commit", flush=True)
    time.sleep(60)
if sys.argv[2] == "stall":
    datasets._sync = sleep
print(len(getattr(datasets, sys.argv[3])("tiny")))
"""


def child(server, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, server.url, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(condition, *processes, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        for process in processes:
            assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.01)


def test_kill_9_during_a_download(server, cache, monkeypatch):
    server.stall.clear()
    process = child(server, "", "fetch")
    folder = (cache / "files" / FILE.address).parent
    until(lambda: any(path.stat().st_size for path in folder.glob("*")), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    server.stall.set()
    assert not (cache / "files" / FILE.address).exists()
    assert len(datasets.load("tiny")) == 160
    assert (cache / "files" / FILE.address).read_bytes() == CSV
    monkeypatch.setattr(datasets, "STALE", -1)
    datasets._sweep(folder)
    assert [path.name for path in folder.glob("*")] == ["tiny.csv"]


def test_kill_9_during_the_cache_write(local_mirror, server, cache):
    process = child(server, "stall", "load")
    assert process.stdout.readline() == "about to commit\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert [path.name[:3] for path in tables(cache)] == ["tmp"]
    assert len(datasets.load("tiny")) == 160
    assert len(tables(cache)) == 2
    datasets.clear()
    assert not cache.exists() or not any(cache.iterdir())


def test_two_processes_at_once(server, cache):
    server.stall.clear()
    both = [child(server, "", "load") for _ in range(2)]
    until(lambda: len(server.requests) == 2, *both)
    server.stall.set()
    assert [process.communicate()[0] for process in both] == ["160\n", "160\n"]
    assert len(tables(cache)) == 1
    assert not list(cache.rglob("*tmp*"))


def test_a_flipped_byte_in_a_cached_file_is_noticed(server, cache, caplog):
    (path,) = datasets.fetch("tiny")
    flip(path)
    datasets.fetch("tiny")
    assert path.read_bytes() == CSV
    assert f"the cached file {path} is damaged; downloading it again" in caplog.text


def test_a_flipped_byte_in_a_cached_table_is_noticed(local_mirror, cache, caplog):
    datasets.load("tiny")
    (path,) = tables(cache)
    flip(path, position=path.stat().st_size // 2)
    assert len(datasets.load("tiny")) == 160
    assert f"the cached table {path} is damaged; making it again" in caplog.text
    caplog.clear()
    datasets.load("tiny")
    assert not caplog.records


@pytest.fixture
def mount(tmp_path, monkeypatch):
    """A small file system of its own as the cache: ``mount("ro")``, ``mount("size=64k")``."""
    folder = tmp_path / "mounted"
    folder.mkdir()

    def mount(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("there is no mount command here")
        if done.returncode:
            pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
        monkeypatch.setenv("SKYNB_CACHE", str(folder))
        return folder

    yield mount
    if os.path.ismount(folder):
        subprocess.run(["umount", str(folder)], check=True)


FULL = [("ro", "Read-only file system"), ("size=64k", "No space left on device")]


@pytest.mark.parametrize(("options", "reason"), FULL)
def test_no_place_for_a_download_is_one_sentence(server, mount, options, reason):
    folder = mount(options)
    with pytest.raises(
        datasets.DataError, match=f"cannot write .*{reason}.*set SKYNB_CACHE"
    ) as told:
        datasets.fetch("tiny")
    assert "\n" not in str(told.value)
    assert not any(path.is_file() for path in folder.rglob("*"))


@pytest.mark.parametrize(("options", "reason"), FULL)
def test_no_place_for_a_table_is_a_warning(local_mirror, mount, options, reason, caplog):
    folder = mount(options)
    if options != "ro":
        (folder / "ballast").write_bytes(bytes(64 * 1024))
    assert len(datasets.load("tiny")) == 160
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "tiny will have to be read again next time" in record.getMessage()
    assert reason in record.getMessage()
    assert not tables(folder)


def test_a_cache_below_a_file_is_one_sentence(server, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SKYNB_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(
        datasets.DataError, match=r"cannot write .*\(Not a directory\).*SKYNB_CACHE"
    ):
        datasets.fetch("tiny")


# messages


def test_no_network_and_no_cache_is_one_sentence(server, monkeypatch):
    monkeypatch.setattr(datasets, "RAW", "http://127.0.0.1:9")
    with pytest.raises(datasets.DataError, match=r"cannot download http.*not in the cache") as told:
        datasets.load("tiny")
    assert "\n" not in str(told.value)
    assert "connect to the network, or set SKYNB_MIRROR" in str(told.value)


def test_no_network_does_not_matter_once_cached(server, monkeypatch):
    datasets.load("tiny")
    monkeypatch.setattr(datasets, "RAW", "http://127.0.0.1:9")
    assert len(datasets.load("tiny")) == 160
    assert datasets.fetch("tiny")


def test_an_address_that_is_gone_is_named(server):
    server.files.clear()
    with pytest.raises(datasets.DataError, match=r"tiny.csv answers 404; try later, or set SKYNB"):
        datasets.fetch("tiny")


def test_other_contents_are_refused_and_not_kept(server, cache):
    server.files[f"/{FILE.address}"] = CSV.replace(b"EW", b"EB")
    with pytest.raises(
        datasets.DataError, match="not what was registered: its check sum is sha256"
    ):
        datasets.load("tiny")
    assert not any(path.is_file() for path in cache.rglob("*"))


def test_a_file_missing_from_the_mirror_is_named(local_mirror):
    (local_mirror / FILE.address).unlink()
    with pytest.raises(datasets.DataError, match=f"the mirror .* has no {FILE.address}; add it or"):
        datasets.load("tiny")


def test_a_damaged_mirror_is_named(local_mirror):
    flip(local_mirror / FILE.address)
    with pytest.raises(datasets.DataError, match=r"is damaged: its check sum is .*; copy it there"):
        datasets.load("tiny")


@pytest.mark.parametrize("ask", [datasets.info, datasets.fetch, datasets.clear])
def test_an_unknown_name_is_named(ask):
    with pytest.raises(ValueError, match="no data set is called 'lsst'; choose one of simulated"):
        ask("lsst")


@pytest.mark.parametrize("ask", [datasets.load, datasets.provenance])
def test_neither_a_name_nor_a_file(ask):
    with pytest.raises(FileNotFoundError, match=r"'crtss' is neither .*did you mean 'crts'"):
        ask("crtss")
    with pytest.raises(FileNotFoundError, match=r"'a/b.csv' is neither .*there are simulated"):
        ask("a/b.csv")


def test_a_negative_number_is_refused():
    with pytest.raises(ValueError, match="n_per_class is -1; give 0"):
        datasets.load("simulated", n_per_class=-1)


def test_a_draw_without_labels_is_of_all(tmp_path):
    path = tmp_path / "mine.csv"
    rows = "".join(f"{k},55000,15,0.1\n" for k in range(9))
    path.write_text("object_id,mjd,mag,magerr\n" + rows)
    assert len(datasets.load(path, n_per_class=3)) == 3


def test_what_the_door_dropped_is_said_again_from_the_cache(server, cache, caplog):
    datasets.load("tiny")
    caplog.clear()
    lcs = datasets.load("tiny")
    dropped = any(lcs.attrs["dropped"].values())
    assert ("tiny, cleaned when first read:" in caplog.text) == dropped


# real data


@pytest.fixture(scope="module")
def real_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def real(mirror, real_cache, monkeypatch):
    """Load from the mirror, with one cache for all the tests on real data."""
    monkeypatch.setenv("SKYNB_CACHE", str(real_cache))

    def load(name):
        lcs = datasets.load(name)
        about = datasets.info(name)
        assert len(lcs) == about["n_objects"]
        assert lightcurves.bands(lcs) == list(about["bands"])
        return lcs

    return load


@pytest.mark.real
@pytest.mark.slow
def test_crts(real):
    lcs = real("crts")
    counts = lcs["label"].value_counts()
    assert len(counts) == 16
    assert counts[list(taxonomy.SEVEN)].tolist() == [994, 996, 994, 994, 250, 757, 256]
    assert lcs.index[0] == "1001004003261"
    assert lcs.loc["1001004003261", "label"] == "EB"
    assert lcs.loc["1001004003261", ["ra", "dec"]].tolist() == pytest.approx(
        [10.79, -2.65], abs=0.01
    )
    assert lcs["period"].notna().sum() > 5740
    rrab = lcs["period"][lcs["label"] == "RRab"]
    assert rrab.median() == pytest.approx(0.586, abs=0.01)
    mjd = lightcurves.arrays(lcs).mjd
    assert mjd.min() > 53000
    assert mjd.max() < 57000
    assert lcs.attrs["dropped"]["outside time range"] == 4
    assert lcs.attrs["dropped"]["repeated times merged"] == 2548
    assert sum(lcs.attrs["dropped"].values()) + mjd.size == 1_654_339
    start = time.perf_counter()
    assert datasets.load("crts").attrs == lcs.attrs
    assert time.perf_counter() - start < 4


@pytest.mark.real
def test_asas(real):
    lcs = real("asas")
    assert lcs.index.dtype == "int64"
    assert lcs["label"].nunique() == 28
    assert lcs.loc[215153, "label"] == "MIRA"
    mjd = lightcurves.arrays(lcs).mjd
    assert 51860 < mjd.min() < mjd.max() < 55200


@pytest.mark.real
def test_ztf_examples(real):
    lcs = real("ztf-examples")
    assert lcs["label"].nunique() == 14
    assert lcs.loc["RRlyr_ab", "label"] == "RRab"
    assert lcs.loc["RRlyr_ab", "period"] == pytest.approx(0.6299452)
    assert lcs.loc["RRlyr_c", "dec"] == pytest.approx(32.834112)
    medians = lightcurves.summary(lcs)["median_mag"]
    assert medians.abs().max() < 0.1
    assert 58100 < lightcurves.arrays(lcs).mjd.min() < 58300


@pytest.mark.real
@pytest.mark.parametrize("name", datasets.FILES)
def test_files_of_alerts_images_and_weights(name, real):
    contents = datasets.contents(name)
    assert len(contents) == len(datasets.info(name)["checksums"])
    assert all(contents)
    with pytest.raises(ValueError, match=rf"'{name}' has no light curves; read it by datasets"):
        datasets.load(name)


def test_a_tree_depends_on_what_may_be_executed():
    empty = {"a.sh": b"", "b": b""}
    assert datasets.git_tree(empty) != datasets.git_tree(empty, {"a.sh"})
    assert datasets.git_tree(empty, {"c"}) == datasets.git_tree(empty)


@pytest.mark.real
def test_fetch_names_the_mirror_s_own_files(mirror):
    first = datasets.REGISTRY["ztf-examples"].files[0]
    assert datasets.fetch("ztf-examples")[0].samefile(mirror / first.address)
