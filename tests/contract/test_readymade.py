"""Tasks in one line from a folder of images, a table of images and a CSV file: runs, and errors for unreadable data."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import write
from PIL import Image

import harness
from harness.contract import Array, Data
from harness.datasets import read_cifar
from harness.errors import DataError
from harness.plugins import registry

COLOURS = {"blue": (40, 60, 220), "red": (220, 50, 40), "green": (30, 200, 60)}


def picture(rng: np.random.Generator, colour: tuple[int, int, int], side: int = 12) -> Image.Image:
    noise = rng.integers(-30, 30, size=(side, side, 3))
    return Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "png") -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def folder(root: Path, each: int = 20, side: int = 12) -> Path:
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        for _ in range(each):
            picture(rng, colour, side).save(root / name / f"{rng.integers(1 << 40):x}.png")
    return root


def loaded(place: Path, line: str) -> tuple[harness.Task, Data]:
    """Write a task file of one line; load its task and its checked data."""
    file = f"own{len(list(place.glob('own*.py')))}.py"  # a new name, because a file is imported once
    task = registry.find_task(str(write(place, file, f"import harness\nTASK = {line}\n"))).task
    data = task.load()
    task.kind.check(data)
    return task, data


def test_a_folder_of_images_is_a_task_in_one_line(tmp_path: Path) -> None:
    folder(tmp_path / "colours")
    task, data = loaded(tmp_path, 'harness.image_folder("colours")')
    assert task.name == "colours" and task.kind.settings() == {"classes": 3}
    assert [len(part) for part in (data.train, data.valid, data.test)] == [42, 6, 12]
    assert data.train.x.shape[1:] == (12, 12, 3) and data.train.x.dtype == np.uint8
    strongest = {"blue": 2, "green": 1, "red": 0}
    for number, name in enumerate(sorted(COLOURS)):
        assert (data.test.x[data.test.labels == number].mean(axis=(1, 2)).argmax(axis=1) == strongest[name]).all()
    assert task.load().sha256() == data.sha256()
    assert set(data.train.metadata) == {"file_name", "file_size", "modified"}
    (row,) = harness.run(task, ["svm"], trials=0, seeds=1, home=tmp_path / "home")
    assert row["status"] == "complete" and row["score"] == 1.0


def test_splits_that_are_there_are_kept(tmp_path: Path) -> None:
    folder(tmp_path / "c" / "train")
    folder(tmp_path / "c" / "test", each=7)
    _, data = loaded(tmp_path, 'harness.image_folder("c", name="colours")')
    assert [len(part) for part in (data.train, data.valid, data.test)] == [54, 6, 21]
    assert (np.bincount(data.test.labels) == 7).all()


def test_images_of_several_sizes_and_modes_become_uniform(tmp_path: Path) -> None:
    folder(tmp_path / "c")
    Image.new("L", (90, 40), 128).save(tmp_path / "c" / "red" / "grey.jpg")
    Image.new("RGBA", (30, 50), (1, 2, 3, 4)).save(tmp_path / "c" / "red" / "clear.webp")
    _, data = loaded(tmp_path, 'harness.image_folder("c")')
    assert data.train.x.shape[1:] == (64, 64, 3)
    _, data = loaded(tmp_path, 'harness.image_folder("c", size=10)')
    assert data.train.x.shape[1:] == (10, 10, 3)


def test_grey_images_have_one_channel(tmp_path: Path) -> None:
    for name, shade in (("dark", 20), ("light", 220)):
        (tmp_path / "c" / name).mkdir(parents=True)
        for number in range(10):
            Image.new("L", (8, 8), shade + number).save(tmp_path / "c" / name / f"{number}.png")
    _, data = loaded(tmp_path, 'harness.image_folder("c")')
    assert data.train.x.shape[1:] == (8, 8, 1)


@pytest.mark.parametrize("labels", [list(COLOURS), [3, 5, 9]], ids=["words", "numbers"])
@pytest.mark.parametrize("struct", [True, False], ids=["hub's struct", "plain bytes"])
def test_a_table_of_images_is_a_task_in_one_line(labels: list[object], struct: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, each in (("train", 20), ("test", 6)):
        images = [encoded(picture(rng, colour), "jpeg") for colour in COLOURS.values() for _ in range(each)]
        column = [{"bytes": image, "path": f"{rng.integers(1 << 40):x}.jpg"} for image in images] if struct else images
        own = [label for label in labels for _ in range(each)]
        pq.write_table(pa.table({"extra": range(len(own)), "img": column, "label": own}), tmp_path / f"{name}.parquet")
    task, data = loaded(tmp_path, 'harness.image_table("train.parquet", "test.parquet", name="colours")')
    assert task.kind.settings() == {"classes": 3}
    assert [len(part) for part in (data.train, data.valid, data.test)] == [54, 6, 18]
    assert ("file_name" in data.train.metadata) == struct
    _, data = loaded(tmp_path, 'harness.image_table("train.parquet", label="label")')
    assert [len(part) for part in (data.train, data.valid, data.test)] == [42, 6, 12]


def test_a_csv_file_is_a_forecasting_task_in_one_line(tmp_path: Path) -> None:
    steps = np.arange(600)
    days = np.datetime64("2020-01-01") + steps
    rows = "\n".join(f"{day},{np.sin(step / 6):.5f},{step % 12},x" for day, step in zip(days, steps))
    write(tmp_path, "load.csv", f"date,wave,saw,note\n{rows}\n")
    task, data = loaded(tmp_path, 'harness.csv_series("load.csv", horizon=6, lookback=24, season=12)')
    assert task.name == "load" and data.train.x.shape == (420 - 29, 24, 2) and len(data.test) == 120 - 5
    seen = np.concatenate([data.train.x[0], *data.train.labels[:, -1:]])
    assert np.allclose(seen.mean(axis=0), 0, atol=0.05) and np.allclose(seen.std(axis=0), 1, atol=0.05)
    _, data = loaded(tmp_path, 'harness.csv_series("load.csv", horizon=6, lookback=24, columns=["saw"])')
    assert data.train.x.shape[2] == 1
    (row,) = harness.run(task, ["ridge"], trials=0, seeds=1, home=tmp_path / "home")
    assert row["status"] == "complete" and row["score"] < 1e-3


CSV = "date,a,b\n2020-01-01,1,2\n2020-01-02,2,3\n"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            'harness.image_folder("nowhere")',
            "there is no .*nowhere; a relative path starts from the file that names it",
        ),
        ('harness.image_folder("/nowhere/at/all")', "there is no /nowhere/at/all; a relative path starts"),
        ('harness.image_folder("text.csv")', "text.csv should be a folder of images; image_table reads"),
        ('harness.image_folder("flat")', "should hold a folder of images for each class, two at least"),
        ('harness.image_folder("empty")', "holds no image"),
        ('harness.image_folder("broken")', "broken/red/bad.png cannot be read as an image"),
        ('harness.image_folder("few")', r"should have 5 images .*fewer: blue \(2\)"),
        ('harness.image_table("text.csv")', "text.csv cannot be read as a Parquet table"),
        ('harness.image_table("numbers.parquet")', "should have a column of images; it has a, label"),
        ('harness.image_table("good.parquet", label="kind")', "should have a column of labels kind; it has img, label"),
        ('harness.csv_series("text.csv", horizon=1, lookback=1)', "windows|lookback"),
        ('harness.csv_series("gap.csv", horizon=1, lookback=1)', "has a gap at row 1, column b"),
        ('harness.csv_series("back.csv", horizon=1, lookback=1)', "date goes back in time at row 1"),
        ('harness.csv_series("words.csv", horizon=1, lookback=1)', "should have columns of numbers; it has w"),
        ('harness.csv_series("text.csv", horizon=1, lookback=1, columns=["c"])', "has no column c; it has date, a, b"),
    ],
)
def test_unreadable_data_says_why(line: str, words: str, tmp_path: Path) -> None:
    folder(tmp_path / "broken", each=6)
    write(tmp_path / "broken" / "red", "bad.png", "no picture")
    folder(tmp_path / "few", each=6)
    for file in sorted((tmp_path / "few" / "blue").iterdir())[2:]:
        file.unlink()
    for name in ("empty/a", "empty/b", "flat"):
        (tmp_path / name).mkdir(parents=True)
    write(tmp_path, "text.csv", CSV)
    write(tmp_path, "gap.csv", "date,a,b\n2020-01-01,1,2\n2020-01-02,2,\n")
    write(tmp_path, "back.csv", "date,a\n2020-01-02,1\n2020-01-01,2\n")
    write(tmp_path, "words.csv", "w\nx\ny\n")
    pq.write_table(pa.table({"a": [1], "label": [1]}), tmp_path / "numbers.parquet")
    pq.write_table(pa.table({"img": [b"x"], "label": [1]}), tmp_path / "good.parquet")
    with pytest.raises((DataError, harness.PluginError), match=words):
        loaded(tmp_path, line)


def archive(path: Path, names: list[str]) -> tuple[Array, Array]:
    """Write an archive in the format of CIFAR-10 with three images a batch; return its images and labels."""
    rng = np.random.default_rng(0)
    images, labels = (
        rng.integers(0, 256, (len(names), 3, 3, 32, 32), np.uint8),
        rng.integers(0, 10, (len(names), 3), np.uint8),
    )
    with tarfile.open(path, "w:gz") as out:
        for name, some, own in zip(names, images, labels):
            content = b"".join(bytes([label]) + image.tobytes() for label, image in zip(own, some))
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            member.size = len(content)
            out.addfile(member, io.BytesIO(content))
    return images, labels


def test_the_archive_of_cifar10(tmp_path: Path) -> None:
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    images, labels = archive(tmp_path / "c.tar.gz", names)
    train, test = read_cifar(tmp_path / "c.tar.gz")
    assert train.x.shape == (15, 32, 32, 3) and test.x.shape == (3, 32, 32, 3)
    assert np.array_equal(test.x[1, 4, 5], images[5, 1, :, 4, 5]) and np.array_equal(test.labels, labels[5])
    archive(tmp_path / "d.tar.gz", names[1:])
    with pytest.raises(DataError, match="should hold data_batch_1; it holds data_batch_2"):
        read_cifar(tmp_path / "d.tar.gz")
    write(tmp_path, "e.tar.gz", "nothing")
    with pytest.raises(DataError, match="cannot be read as an archive"):
        read_cifar(tmp_path / "e.tar.gz")
