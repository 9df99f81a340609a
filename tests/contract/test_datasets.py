"""Downloads over a real connection to a server on this machine, and the two ways of splitting."""

import gzip
import hashlib
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY
from hypothesis import given
from hypothesis import strategies as st

from harness import DataError, datasets, stratified, windows
from harness.datasets import fetch, read_idx

CONTENT = np.random.default_rng(0).bytes(600_000)  # more than two chunks of a download; gzip cannot shrink it
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Site:
    """Content of the server: ``pages`` maps paths to bodies, ``lies`` maps paths to false lengths; ``asked`` lists the requests."""

    def __init__(self, address):
        self.address, self.pages, self.lies, self.asked = address, {}, {}, []

    def url(self, path):
        return f"{self.address}/{path}"


@pytest.fixture
def site():
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path.lstrip("/")
            served.asked.append(path)
            if path not in served.pages:
                return self.send_error(404)
            body = served.pages[path]
            self.send_response(200)
            self.send_header("Content-Length", str(served.lies.get(path, len(body))))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served = Site(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        server.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Cache folder of the data set "set", without a proxy and without other sources."""
    for name in ("BAKEOFF_DATA", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "bakeoff" / "set"


@contextmanager
def refused(url, place, *says):
    """Check for a DataError in one line with the address, the hash, the place to put the file, and these words."""
    with pytest.raises(DataError) as error:
        yield
    message = str(error.value)
    assert "\n" not in message
    for part in (url, SHA256, str(place), *says):
        assert part in message


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


# Downloads -------------------------------------------------------------------------------------------------------------------


def test_a_good_download_is_cached(site, cache):
    site.pages["a.bin"] = CONTENT
    path = fetch("set", site.url("a.bin"), SHA256)
    assert path == cache / "a.bin"
    assert path.read_bytes() == CONTENT
    assert fetch("set", site.url("a.bin"), SHA256) == path
    assert site.asked == ["a.bin"]
    assert files(cache) == ["a.bin"]


def test_a_hidden_progress_bar_changes_nothing(site, cache, monkeypatch):
    """Run in a process of its own: tqdm reads TQDM_DISABLE at import."""
    monkeypatch.setenv("TQDM_DISABLE", "1")
    site.pages["a.bin"] = CONTENT
    code = f"from harness.datasets import fetch; fetch('set', {site.url('a.bin')!r}, {SHA256!r})"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)
    assert (cache / "a.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("body", [b"<html>moved</html>", b"", CONTENT[:-1], CONTENT + b"\n"])
def test_other_content_is_refused(site, cache, body):
    site.pages["a.bin"] = body
    with refused(site.url("a.bin"), cache / "a.bin", hashlib.sha256(body).hexdigest()):
        fetch("set", site.url("a.bin"), SHA256)
    assert files(cache) == []


def test_a_body_cut_short_is_refused(site, cache):
    site.pages["a.bin"], site.lies["a.bin"] = CONTENT[:400_000], len(CONTENT)
    with refused(site.url("a.bin"), cache / "a.bin", "400000 of 600000 bytes"):
        fetch("set", site.url("a.bin"), SHA256)
    assert files(cache) == []


def test_a_missing_page_is_refused(site, cache):
    with refused(site.url("a.bin"), cache / "a.bin", "Not Found"):
        fetch("set", site.url("a.bin"), SHA256)
    assert files(cache) == []


def test_a_closed_port_is_refused(site, cache):
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        url = f"http://127.0.0.1:{server.server_port}/a.bin"  # no process listens here once the server is closed
    with refused(url, cache / "a.bin", "refused"):
        fetch("set", url, SHA256)
    assert files(cache) == []


def test_a_server_that_speaks_no_http_is_refused(cache):
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer():
            connection, _ = listening.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"220 ready\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/a.bin"
        with refused(url, cache / "a.bin", "could not be downloaded"):
            fetch("set", url, SHA256)
        thread.join()
    assert files(cache) == []


# Files in the cache -----------------------------------------------------------------------------------------------------------


def test_a_corrupt_file_in_the_cache_is_replaced_by_a_good_download(site, cache):
    cache.mkdir(parents=True)
    (cache / "a.bin").write_bytes(b"corrupt")
    site.pages["a.bin"] = CONTENT
    assert fetch("set", site.url("a.bin"), SHA256).read_bytes() == CONTENT
    assert files(cache) == ["a.bin"]


def test_a_corrupt_file_is_kept_and_named_when_no_good_one_can_be_had(site, cache):
    cache.mkdir(parents=True)
    (cache / "a.bin").write_bytes(b"corrupt")
    with refused(site.url("a.bin"), cache / "a.bin", hashlib.sha256(b"corrupt").hexdigest()[:12]):
        fetch("set", site.url("a.bin"), SHA256)
    assert (cache / "a.bin").read_bytes() == b"corrupt"
    assert files(cache) == ["a.bin"]


def test_a_file_where_the_cache_should_be_is_refused(site, cache):
    cache.parent.parent.mkdir(parents=True)
    cache.parent.write_text("in the way")
    site.pages["a.bin"] = CONTENT
    with refused(site.url("a.bin"), cache / "a.bin", "cannot be written"):
        fetch("set", site.url("a.bin"), SHA256)


def test_bakeoff_data_is_read_first(site, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("BAKEOFF_DATA", str(tmp_path / "given"))
    given_file = tmp_path / "given" / "set" / "a.bin"
    given_file.parent.mkdir(parents=True)
    given_file.write_bytes(CONTENT)
    cache.mkdir(parents=True)
    (cache / "a.bin").write_bytes(CONTENT)
    assert fetch("set", site.url("a.bin"), SHA256) == given_file
    given_file.write_bytes(b"other")
    assert fetch("set", site.url("a.bin"), SHA256) == cache / "a.bin"
    assert given_file.read_bytes() == b"other"
    assert site.asked == []


def test_a_wrong_file_under_bakeoff_data_is_named_when_nothing_else_is_there(site, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("BAKEOFF_DATA", str(tmp_path / "given"))
    given_file = tmp_path / "given" / "set" / "a.bin"
    given_file.parent.mkdir(parents=True)
    given_file.write_bytes(b"other")
    with refused(site.url("a.bin"), cache / "a.bin", str(given_file), hashlib.sha256(b"other").hexdigest()[:12]):
        fetch("set", site.url("a.bin"), SHA256)


def test_an_unreadable_file_is_skipped(site, cache):
    unreadable = Path("/proc/self/mem")  # a plain file that refuses even root
    if not unreadable.is_file():
        pytest.skip("needs Linux")
    cache.mkdir(parents=True)
    (cache / "a.bin").symlink_to(unreadable)
    with refused(site.url("a.bin"), cache / "a.bin", "cannot be read"):
        fetch("set", site.url("a.bin"), SHA256)
    site.pages["a.bin"] = CONTENT
    assert fetch("set", site.url("a.bin"), SHA256).read_bytes() == CONTENT


# Compressed files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [1, 9])
def test_the_hash_of_a_gz_file_is_that_of_its_content(site, cache, level):
    site.pages["a.gz"] = gzip.compress(CONTENT, level, mtime=level)
    path = fetch("set", site.url("a.gz"), SHA256)
    assert path.read_bytes() == site.pages["a.gz"]


def spoilt(body, place):
    return body[:place] + bytes([body[place] ^ 0xA5]) + body[place + 1 :]


PACKED = gzip.compress(CONTENT, mtime=0)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not gzip at all",
        PACKED[: len(PACKED) // 2],
        PACKED[:-4],
        spoilt(PACKED, 10),  # type of the first block
        spoilt(PACKED, len(PACKED) // 2),
        spoilt(PACKED, len(PACKED) - 6),  # checksum
    ],
    ids=["empty", "text", "half", "no length", "block", "middle", "checksum"],
)
def test_a_gz_file_that_cannot_be_decompressed_is_refused_wherever_it_lies(site, cache, body):
    site.pages["a.gz"] = body
    with refused(site.url("a.gz"), cache / "a.gz"):
        fetch("set", site.url("a.gz"), SHA256)
    assert files(cache) == []
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "a.gz").write_bytes(body)
    site.pages["a.gz"] = PACKED
    assert fetch("set", site.url("a.gz"), SHA256).read_bytes() == PACKED


def test_an_idx_file_is_read_as_it_was_written(tmp_path):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    (tmp_path / "a.gz").write_bytes(gzip.compress(header + array.tobytes()))
    np.testing.assert_array_equal(read_idx(tmp_path / "a.gz"), array)


def test_shipped_files_equal_what_libraries_load(monkeypatch):
    """Files that libraries ship are read directly; a library is imported only if its file is elsewhere."""
    from sklearn.datasets import load_digits
    from statsmodels.datasets import sunspots

    images, labels = datasets.digits()
    assert images.dtype == np.float64 and labels.dtype == np.int64
    series = sunspots.load_pandas().data[["SUNACTIVITY"]].to_numpy()
    for found in (datasets.digits(), (load_digits().images, load_digits().target)):
        np.testing.assert_array_equal(found[0], images)
        np.testing.assert_array_equal(found[1], labels)
    np.testing.assert_array_equal(datasets.sunspots(), series)
    assert datasets.shipped_file("sklearn", "no/such.file") is datasets.shipped_file("no_such_package", "file") is None
    monkeypatch.setattr(datasets, "shipped_file", lambda package, file: None)
    np.testing.assert_array_equal(datasets.digits()[0], images)
    np.testing.assert_array_equal(datasets.sunspots(), series)


@pytest.mark.parametrize("task", ["digits", "digit-rows", "digit-images", "sunspots"])
def test_no_library_is_imported_for_its_files(task):
    code = f"""
import sys
from harness.plugins.registry import find_task
find_task("{task}").task.load()
print([name for name in ("sklearn", "statsmodels", "scipy", "pandas") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr


# Splits ----------------------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=200),
    st.floats(0, 0.5),
    st.floats(0, 0.5),
    st.integers(0, 1000),
)
def test_stratified_keeps_the_class_shares_in_each_split(classes, valid, test, seed):
    y = np.array(classes)
    x = np.arange(len(y))
    data = stratified(x, y, valid=valid, test=test, seed=seed)
    parts = (data.train, data.valid, data.test)
    assert sorted(np.concatenate([part.x for part in parts])) == x.tolist()
    for part, share in zip(parts, (1 - valid - test, valid, test), strict=True):
        np.testing.assert_array_equal(part.labels, y[part.x])
        for label in np.unique(y):
            assert abs((part.labels == label).sum() - share * (y == label).sum()) <= 1 + 1e-6
    again = stratified(x, y, valid=valid, test=test, seed=seed)
    assert again.sha256() == data.sha256()


def test_stratified_depends_on_the_seed_and_mixes_the_classes():
    x, y = np.arange(300), np.arange(300) // 100
    one, two = (stratified(x, y, valid=0.2, test=0.3, seed=seed) for seed in (0, 1))
    assert one.sha256() != two.sha256()
    assert len(np.unique(one.train.labels[:20])) == 3


def test_stratified_by_something_else_than_the_target():
    y = np.arange(200.0).reshape(100, 2)
    by = np.arange(100) % 4
    data = stratified(by, y, by=by, valid=0.2, test=0.2)
    np.testing.assert_array_equal(np.bincount(data.test.x), [5, 5, 5, 5])
    assert data.test.labels.shape == (20, 2)


@given(st.integers(1, 12), st.integers(1, 6), st.lists(st.integers(0, 12), min_size=3, max_size=3), st.integers(0, 5))
def test_targets_of_windows_stay_inside_their_split_and_cover_it(lookback, horizon, extra, rest):
    bounds = np.cumsum([lookback + horizon + extra[0], horizon + extra[1], horizon + extra[2]]).tolist()
    series = np.arange(bounds[-1] + rest, dtype=np.float32)[:, None]  # each value is its own time step
    data = windows(series, lookback=lookback, horizon=horizon, bounds=bounds)
    starts = [lookback, bounds[0], bounds[1]]
    for part, start, end in zip((data.train, data.valid, data.test), starts, bounds, strict=True):
        assert part.x.shape[1:] == (lookback, 1)
        assert part.labels.shape[1:] == (horizon, 1)
        np.testing.assert_array_equal(part.labels[:, 0, 0], np.arange(start, end - horizon + 1))
        joined = np.concatenate([part.x, part.labels], axis=1)[..., 0]
        np.testing.assert_array_equal(np.diff(joined, axis=1), 1)


@pytest.mark.parametrize(
    "bounds",
    [(6, 20, 30), (10, 10, 30), (10, 9, 30), (10, 20, 41), (10, 20), (10, 11, 30), (10, 20, 21)],
    ids=["train short", "valid empty", "falling", "beyond the end", "two bounds", "valid short", "test short"],
)
def test_splits_too_short_for_a_window_are_refused(bounds):
    with pytest.raises(DataError) as error:
        windows(np.zeros((40, 1)), lookback=5, horizon=3, bounds=bounds)
    assert "\n" not in str(error.value)


def test_a_series_without_variables_is_refused():
    with pytest.raises(DataError, match=r"\(t, variables\)"):
        windows(np.zeros(40), lookback=5, horizon=3, bounds=(10, 20, 30))
