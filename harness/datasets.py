"""Sources of data: downloads with verified hashes, files that libraries ship, and the two ways to split that most tasks need."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import importlib.util
import os
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from harness.contract import Array, Data, Split
from harness.errors import DataError

CHUNK_BYTES = 1 << 18
TIMEOUT_SECONDS = 30.0
"""Seconds without data from the server after which a download fails."""
FASHION_MNIST_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
FASHION_MNIST_SHA256 = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""SHA-256 of each decompressed file of Fashion-MNIST, by the name of the gzipped file."""
CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR10_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"


def cache_folder() -> Path:
    """Return the folder that keeps downloaded files: ``$XDG_CACHE_HOME/bakeoff`` or ``~/.cache/bakeoff``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bakeoff"


def data_folders() -> list[Path]:
    """Return the folders that data sets are read from or downloaded to. They hold hidden labels too, so no sandbox may see them."""
    given = os.environ.get("BAKEOFF_DATA")
    return [cache_folder(), *([Path(given)] if given else [])]


def fetch(dataset: str, url: str, sha256: str) -> Path:
    """Return the path of the file with this SHA-256 of a data set. The file is downloaded if there is no copy.

    ``sha256`` is the hash of the content. For ``.gz`` files it is that of the decompressed content, because mirrors recompress; an
    archive (``.tar.gz``) is hashed as it is. The file is looked for in ``$BAKEOFF_DATA/<dataset>/``, then in the cache, then at
    ``url``. A copy with other content is never used and never overwrites a good one.

    Raises DataError if the file cannot be had. The message gives the address, the hash and the place to put the file.
    """
    file = url.rsplit("/", 1)[-1]
    kept = cache_folder() / dataset / file
    given = [Path(os.environ["BAKEOFF_DATA"]) / dataset / file] if os.environ.get("BAKEOFF_DATA") else []
    wrong = []
    for path in (*given, kept):
        if path.is_file():
            try:
                found = content_sha256(path)
            except OSError as error:
                wrong.append(f"{path} cannot be read: {error.strerror}")
                continue
            if found == sha256:
                return path
            wrong.append(f"{path} has SHA-256 {found[:12]}…")
    advice = f"put a file with SHA-256 {sha256} at {kept}, or under $BAKEOFF_DATA/{dataset}/"
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=kept.parent, prefix=f".{file}.", suffix=file, delete=False) as out:
            part = Path(out.name)
    except OSError as error:
        raise DataError(
            f"{url} cannot be kept: the data cache {kept.parent} cannot be written ({error.strerror}); {advice}"
        ) from error
    try:
        _download(url, part)
        found = content_sha256(part)
        if found != sha256:
            raise DataError(
                f"{url} sent a file with SHA-256 {found} where {sha256} was expected (truncated, corrupt or changed); {advice}"
            )
        part.replace(kept)
    except (OSError, http.client.HTTPException) as error:
        reason = " ".join(str(getattr(error, "reason", None) or error).split())
        also = f" ({'; '.join(wrong)})" if wrong else ""
        raise DataError(f"{url} could not be downloaded: {reason}{also}; {advice}") from error
    finally:
        part.unlink(missing_ok=True)
    return kept


def _download(url: str, part: Path) -> None:
    from tqdm import tqdm

    with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as reply, part.open("wb") as out:
        size = int(reply.headers.get("Content-Length") or 0)
        with tqdm(
            total=size or None, unit="B", unit_scale=True, desc=url.rsplit("/", 1)[-1], file=sys.stderr, leave=False
        ) as bar:
            while chunk := reply.read(CHUNK_BYTES):
                out.write(chunk)
                bar.update(len(chunk))
        if size and out.tell() != size:  # not the bar's count, which stands still under TQDM_DISABLE
            raise OSError(f"the connection ended after {out.tell()} of {size} bytes")


def content_sha256(path: Path) -> str:
    """Return the SHA-256, in hex, of a file's content, decompressed for ``.gz``; "unreadable: ..." if gzip cannot read the file.

    A ``.tar.gz`` is hashed as it is, because archives are published with the hash of the whole file.
    """
    digest = hashlib.sha256()
    packed = path.suffix == ".gz" and not path.name.endswith(".tar.gz")
    try:
        with gzip.open(path, "rb") if packed else path.open("rb") as content:
            while chunk := content.read(CHUNK_BYTES):
                digest.update(chunk)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return "unreadable: not a whole gzip file"
    return digest.hexdigest()


def shipped_file(package: str, file: str) -> Path | None:
    """Return the path of ``file`` inside an installed package, found without an import of the package; None if there is none."""
    spec = importlib.util.find_spec(package)
    places = [Path(place) / file for place in (spec.submodule_search_locations or [])] if spec else []
    return next((path for path in places if path.is_file()), None)


def digits() -> tuple[Array, Array]:
    """Return scikit-learn's digits (Alpaydin and Kaynak 1998): images float64 (1797, 8, 8) in 0..16, labels int64 (1797,).

    The data file is read directly: an import of scikit-learn takes longer than all else that a command does before training. If the
    file has moved, scikit-learn is imported.
    """
    path = shipped_file("sklearn", "datasets/data/digits.csv.gz")
    if path is None:
        from sklearn.datasets import load_digits

        found = load_digits()
        return found.images, found.target.astype(np.int64)
    table = np.loadtxt(path, delimiter=",")
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)


def sunspots() -> Array:
    """Return yearly sunspot numbers 1700-2008 (SIDC), float64 (309, 1).

    The data file of statsmodels is read directly; statsmodels is imported only if the file has moved.
    """
    path = shipped_file("statsmodels", "datasets/sunspots/sunspots.csv")
    if path is None:
        from statsmodels.datasets import sunspots as theirs

        series: Array = theirs.load_pandas().data[["SUNACTIVITY"]].to_numpy()
        return series
    return np.loadtxt(path, delimiter=",", skiprows=1, usecols=[1], ndmin=2)


def read_idx(path: Path) -> Array:
    """Return the array in a gzipped IDX file, the format of MNIST and Fashion-MNIST: uint8, of any rank."""
    with gzip.open(path, "rb") as content:
        raw = content.read()
    rank = raw[3]
    shape = np.frombuffer(raw, ">u4", count=rank, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def fetch_mnist(dataset: str, source: str, sha256: Mapping[str, str]) -> Data:
    """Return a data set with the layout of MNIST: four gzipped IDX files at ``source``, train before test, images before labels.

    Images are uint8 (n, height, width, 1), labels int64 (n,). The test split is as published. The validation split is 5,000 of the
    60,000 training rows, with the same share of every class. ``sha256`` maps the names of the four files, in the order above, to
    the hashes of their decompressed content. Raises DataError if a file cannot be had.
    """
    images, labels, test_images, test_labels = (
        read_idx(fetch(dataset, source + file, sha256[file])) for file in sha256
    )
    fitting = stratified(images[..., None], labels.astype(np.int64), valid=5_000 / 60_000, test=0)
    return Data(fitting.train, fitting.valid, Split(test_images[..., None], test_labels.astype(np.int64)))


def fashion_mnist() -> Data:
    """Return Fashion-MNIST (Xiao, Rasul and Vollgraf 2017), as `fetch_mnist` does. Raises DataError if a file cannot be had."""
    return fetch_mnist("fashion-mnist", FASHION_MNIST_URL, FASHION_MNIST_SHA256)


def cifar10() -> tuple[Split, Split]:
    """Return the training and the test split of CIFAR-10 (Krizhevsky 2009), downloaded if there is no copy; see `read_cifar`.

    Raises DataError if the archive cannot be had or read.
    """
    return read_cifar(fetch("cifar10", CIFAR10_URL, CIFAR10_SHA256))


def read_cifar(path: Path) -> tuple[Split, Split]:
    """Return 50,000 training and 10,000 test rows of the archive of CIFAR-10's "binary version" at ``path``.

    Images are uint8 (n, 32, 32, 3), labels int64 (n,). Raises DataError if the archive cannot be read or lacks a file.
    """
    records: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                content = archive.extractfile(member)
                if content is not None and member.name.endswith(".bin"):
                    records[Path(member.name).stem] = content.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{path} cannot be read as an archive: {error}") from error
    batches = [f"data_batch_{number}" for number in range(1, 6)]
    missing = [name for name in (*batches, "test_batch") if name not in records]
    if missing:
        raise DataError(
            f"{path} should hold {', '.join(missing)}; it holds {', '.join(records) or 'nothing of the kind'}"
        )
    parts = []
    for names in (batches, ["test_batch"]):
        rows = np.frombuffer(b"".join(records[name] for name in names), np.uint8).reshape(-1, 1 + 3 * 32 * 32)
        images = np.ascontiguousarray(rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        parts.append(Split(images, rows[:, 0].astype(np.int64)))
    return parts[0], parts[1]


def stratified(x: Array, y: Array, *, valid: float, test: float, by: Array | None = None, seed: int = 0) -> Data:
    """Return rows split at random, so that each split has its share of every class, rounded to whole rows.

    ``valid`` and ``test`` are shares of all rows, in 0..1; train gets the rest. ``by`` (n,) holds the class of each row; without
    it, ``y`` (n,) does.
    """
    rng = np.random.default_rng(seed)
    classes = y if by is None else by
    chosen: list[list[Array]] = [[], [], []]
    for label in np.unique(classes):
        rows = rng.permutation(np.flatnonzero(classes == label))
        bounds = np.round(np.array([1 - valid - test, 1 - test]) * len(rows)).astype(int)
        for part, piece in zip(chosen, np.split(rows, bounds), strict=True):
            part.append(piece)
    index = [rng.permutation(np.concatenate(part)) for part in chosen]
    return Data(*(Split(x[rows], y[rows]) for rows in index))


def windows(series: Array, *, lookback: int, horizon: int, bounds: Sequence[int]) -> Data:
    """Return stride-1 forecasting windows of a series (t, variables), split by time.

    Inputs are float32 (n, lookback, variables), targets float32 (n, horizon, variables). ``bounds`` are the ends of train, valid
    and test, in steps. Targets lie wholly inside their split; a look-back may reach into the split before, as is usual. Raises
    DataError if the bounds do not fit the series or leave a split without a window.
    """
    series = np.asarray(series, dtype=np.float32)
    if (
        series.ndim != 2
        or len(bounds) != 3
        or not lookback + horizon <= bounds[0] < bounds[1] < bounds[2] <= len(series)
    ):
        raise DataError(
            f"windows() needs a series (t, variables) and three rising ends with lookback + horizon <= the first; got "
            f"{series.shape}, {list(bounds)}"
        )
    view = np.lib.stride_tricks.sliding_window_view(series, lookback + horizon, axis=0).transpose(0, 2, 1)
    starts = [0, bounds[0] - lookback, bounds[1] - lookback]
    parts = []
    for start, end in zip(starts, bounds, strict=True):
        part = view[start : end - lookback - horizon + 1]
        if len(part) == 0:
            raise DataError(f"no window of {lookback} + {horizon} steps fits between {start} and {end}; widen the part")
        parts.append(Split(part[:, :lookback], part[:, lookback:]))
    return Data(*parts)
