"""Vectorized searches: the results equal those of single fits, and a lying process gains nothing."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY_MODEL, TINY_TASK, table, write

from harness.commands.tune import tune
from harness.search import blocks, coordinator
from leaderboard import Store

PLUGIN = """
from torch import nn
from harness import Float
from harness.frameworks.torch import TorchSubmission

class Small(TorchSubmission):
    kind = "image-classification"
    space = {"learning_rate": Float(1e-4, 0.1, log=True), "dropout": Float(0, 0.5)}
    epochs = 1

    def build(self, train):
        return nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Dropout(self.params["dropout"]), nn.Linear(8, 3))
"""
NOT_VECTORIZED = "\n    @classmethod\n    def supports_fit_many(cls):\n        return False\n"


def fits_of(home: Path) -> list[Any]:
    store = Store(home)
    fits = store.fits(str(table(home, "study")[0][0]), "search")
    store.close()
    return fits


def test_a_vectorized_search_equals_one_of_single_fits(tiny: Path) -> None:
    """Suggestions and results are the same with any number of slots and with single fits."""
    write(tiny, "small.py", PLUGIN)
    write(tiny, "single.py", PLUGIN + NOT_VECTORIZED)
    found = {}
    for name, plugin, workers in (("one", "small", 1), ("two", "small", 2), ("single", "single", 1)):
        tune(str(tiny / "tiny.py"), str(tiny / f"{plugin}.py"), trials=10, workers=workers, home=tiny / name)
        found[name] = fits_of(tiny / name)
    for fits in found.values():
        assert [fit.params for fit in fits] == [fit.params for fit in found["single"]]
        np.testing.assert_allclose(
            [fit.facts["losses"] for fit in fits], [fit.facts["losses"] for fit in found["single"]], rtol=1e-5
        )
        assert [fit.value for fit in fits] == [fit.value for fit in found["single"]]


def test_a_block_in_pieces_makes_the_same_suggestions(tiny: Path) -> None:
    write(tiny, "small.py", PLUGIN)
    for home, budgets in (("pieces", (4, 9)), ("whole", (9,))):
        for trials in budgets:
            tune(str(tiny / "tiny.py"), str(tiny / "small.py"), trials=trials, workers=1, home=tiny / home)
    assert [fit.params for fit in fits_of(tiny / "pieces")] == [fit.params for fit in fits_of(tiny / "whole")]


def test_slow_trials_are_suggested_in_small_chunks(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first block each slot gets its own chunk; every trial is there once, and later ones are better."""
    monkeypatch.setattr(coordinator, "SLOW_FIT_SECONDS", 0.0)
    monkeypatch.setattr(blocks, "MAX_CHUNK", 8)
    write(tiny, "small.py", PLUGIN)
    tune(str(tiny / "tiny.py"), str(tiny / "small.py"), trials=51, workers=2, home=tiny / "home")
    fits = fits_of(tiny / "home")
    assert [fit.number for fit in fits] == list(range(51)) and {fit.status for fit in fits} == {"complete"}
    sizes = [fit.facts.get("together") for fit in fits]
    assert sizes == [6] * 12 + [8] * 32 + [7] * 7
    rates = [fit.params["learning_rate"] for fit in fits]
    assert np.median(rates[32:]) > np.median(rates[:12]), "later suggestions are no better"


def test_deferring_every_member_gains_nothing(tiny: Path) -> None:
    """Deferred trials come again, and the first trial of a chunk always runs, vectorized or single."""
    text = (tiny / "nearest.py").read_text()
    write(tiny, "idle.py", text + LIE.format("return {}, {}, range(len(makers))"))
    tune(str(tiny / "tiny.py"), str(tiny / "idle.py"), trials=20, workers=1, home=tiny / "idle")
    fits = fits_of(tiny / "idle")
    assert [fit.number for fit in fits] == list(range(20)) and {fit.status for fit in fits} == {"complete"}


FAILS = """
        if self.params["dropout"] > 0.3:
            raise ValueError("too much")
"""


def test_a_failing_member_does_not_harm_the_others(tiny: Path) -> None:
    """If building a batch fails, all members get single fits, and only the faulty one fails."""
    write(tiny, "small.py", PLUGIN.replace("    def build(self, train):\n", "    def build(self, train):" + FAILS))
    tune(str(tiny / "tiny.py"), str(tiny / "small.py"), trials=8, workers=1, home=tiny / "home")
    fits = fits_of(tiny / "home")
    assert {fit.status for fit in fits} == {"complete", "failed"}
    for fit in fits:
        assert (fit.status == "failed") == (fit.params["dropout"] > 0.3)
        assert fit.status == "complete" or "too much (small.py line" in fit.facts["error"]


LIARS = {
    "reports of an unknown member": "report({99: 0.5})",
    "reports that are no numbers": "report({0: float('nan')}); report({True: 0.1})",
    "missing fits": "return {}, {}, ()",
    "fits of unknown members": "return {number: makers[0]() for number in range(99)}, {}, ()",
    "postponed unknown members": "return {}, {}, (99, -1, True)",
    "too many reports": "[report({0: 0.5}) for _ in range(11_000)]",
    "a silent exit": "import os; os._exit(0)",
    "an error": "raise KeyError('together')",
    "a hang": "import time; time.sleep(9999)",
    "a kill": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
}
LIE = """
    @classmethod
    def supports_fit_many(cls):
        return True

    @classmethod
    def fit_many(cls, makers, train, valid, report, max_members):
        {}
        return {{}}, dict.fromkeys(range(len(makers)), "it did not want to"), ()
"""


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Results of three trials of the honest submission."""
    folder = tmp_path_factory.mktemp("honest")
    for name, text in (("tiny.py", TINY_TASK), ("nearest.py", TINY_MODEL)):
        write(folder, name, text)
    tune(str(folder / "tiny.py"), str(folder / "nearest.py"), trials=3, workers=1, home=folder / "home")
    return [(fit.params["shrink"], fit.status, fit.value) for fit in fits_of(folder / "home")]


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param(lie, marks={"too many reports": pytest.mark.long, "a hang": pytest.mark.slow}.get(lie, ()))
        for lie in LIARS
    ],
)
def test_a_lying_batch_gains_nothing(lie: str, honest: list[Any], tiny: Path) -> None:
    """With any false claim about its members, each member gets a single fit in the end."""
    text = (tiny / "nearest.py").read_text()
    write(tiny, "liar.py", text + LIE.format(LIARS[lie]))
    tune(
        str(tiny / "tiny.py"),
        str(tiny / "liar.py"),
        trials=3,
        workers=1,
        home=tiny / "liar",
        isolation_tier="process",
        time_limit=6,
    )
    assert [(fit.params["shrink"], fit.status, fit.value) for fit in fits_of(tiny / "liar")] == honest


def test_a_plugin_needs_no_code_for_vectorized_fits() -> None:
    assert "fit_many" not in PLUGIN and len(inspect.cleandoc(PLUGIN).splitlines()) < 15
