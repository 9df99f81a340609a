"""Larger real data sets, if BAKEOFF_DATA has them: entries that fit in seconds reach published figures."""

import json
import os

import pytest
from conftest import Command

import harness
from harness.evaluation.task_data import load_data
from harness.plugins import registry

needs_data = pytest.mark.skipif(
    not os.environ.get("BAKEOFF_DATA"), reason="BAKEOFF_DATA is not set: the larger data are not here"
)

SHAPES = {
    "fashion-mnist": ((55_000, 28, 28, 1), (5_000,), (10_000, 28, 28, 1)),
    "fashion-images": ((55_000,), (5_000, 28, 28, 1), (10_000,)),
    "etth1-96": ((8_209, 336, 7), (2_785, 96, 7), (2_785, 336, 7)),
    "etth1-720": ((7_585, 336, 7), (2_161, 720, 7), (2_161, 336, 7)),
}


@needs_data
@pytest.mark.parametrize("name", SHAPES)
def test_splits_are_the_published_ones(name: str) -> None:
    data = load_data(registry.find_task(name).task)
    assert (data.train.x.shape, data.valid.labels.shape, data.test.x.shape) == SHAPES[name]


@needs_data
@pytest.mark.parametrize(
    ("task", "submission", "worst"),
    [
        ("etth1-96", "ridge", 0.375),
        ("etth1-96", "seasonal-naive", 0.513),
        ("etth1-96", "last-value", 1.296),
        ("tiny-shakespeare", "kneser-ney", 1.53),
    ],
)
def test_published_figures_are_reached(task: str, submission: str, worst: float, bakeoff: Command) -> None:
    done = bakeoff("run", task, "-s", submission, "--trials", 1, "--seeds", 1, "--json")
    (row,) = json.loads(done.stdout)["rows"]
    assert row["status"] == "complete" and row["score"] <= worst


@needs_data
@pytest.mark.long
@pytest.mark.parametrize(("submission", "least"), [("svm", 0.895), ("random-forest", 0.872), ("cnn-torch", 0.91)])
def test_fashion_mnist(submission: str, least: float, bakeoff: Command) -> None:
    done = bakeoff("run", "fashion-mnist", "-s", submission, "--trials", 1, "--seeds", 1, "--json")
    (row,) = json.loads(done.stdout)["rows"]
    assert row["score"] >= least


@pytest.mark.slow
def test_digits_svm_is_as_good_as_it_should_be(bakeoff: Command) -> None:
    (row,) = json.loads(bakeoff("run", "digits", "-s", "svm", "--trials", 5, "--json").stdout)["rows"]
    assert row["score"] >= 0.98


def test_without_network_and_file_one_error_says_what_to_do(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused download is an error with the address, the hash and the place for the file."""
    monkeypatch.delenv("BAKEOFF_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(
        harness.DataError,
        match=r"task etth1-96: https://.*ETTh1\.csv could not be downloaded.*SHA-256 f18de3ad.* at .*etth1",
    ):
        harness.run("etth1-96", ["last-value"], home=str(tmp_path))
