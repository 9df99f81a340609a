"""Image generation boards: the matching metric exposes entries that copy, collapse or learn nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY, write

import harness

COLLAPSED = '''

class Collapsed(GAN):
    """The same network and losses, shown one image of each class: the one nearest to the mean."""

    def fit(self, train, valid, report):
        flat = train.labels.reshape(len(train), -1).astype(np.float32)
        rows = np.zeros(len(train), dtype=np.int64)
        for label in np.unique(train.x):
            own = np.flatnonzero(train.x == label)
            rows[own] = own[np.square(flat[own] - flat[own].mean(axis=0)).sum(axis=1).argmin()]
        super().fit(Split(train.x, train.labels[rows]), valid, report)
'''


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Rows of digit-images by submission, one seed each."""
    folder = tmp_path_factory.mktemp("generation")
    gan = (REPOSITORY / "baselines" / "image_generation" / "gan.py").read_text()
    collapsed = write(folder, "collapsed.py", gan + COLLAPSED)
    entries = ["noise", "copier", "mixture", "kernel-density", "gan", f"{collapsed}:Collapsed"]
    rows = harness.run("digit-images", entries, trials=0, seeds=1, workers=1, home=folder / "home")
    assert [row["status"] for row in rows] == ["complete"] * len(entries), [row["error"] for row in rows]
    return {Path(row["submission"]).stem.partition(":")[0]: row for row in rows}


@pytest.mark.slow
def test_the_copier_is_flagged_and_honest_entries_are_not(board: dict[str, Any]) -> None:
    """Copies have the best distance of all, so only memorisation can flag them."""
    memorisation = {name: row["metrics"]["memorisation"] for name, row in board.items()}
    assert memorisation["copier"] > 0.99
    assert "training images" in board["copier"]["remarks"][0]
    for name in ("mixture", "kernel-density", "gan"):
        assert memorisation[name] < 0.15 and not board[name]["remarks"], name
    assert board["copier"]["score"] == min(row["score"] for row in board.values())


@pytest.mark.slow
def test_mode_collapse_shows_as_recall(board: dict[str, Any]) -> None:
    collapsed, gan = (board[name]["metrics"] for name in ("collapsed", "gan"))
    assert collapsed["recall"] < gan["recall"] / 4
    assert collapsed["precision"] > gan["precision"] - 0.05


@pytest.mark.slow
def test_noise_is_worst(board: dict[str, Any]) -> None:
    """Noise has by far the worst ranking distance, and no image of it is near a real one."""
    ranked = sorted(board.values(), key=lambda row: row["rank"])
    assert ranked[-1]["submission"] == "noise" and ranked[-1]["score"] > 2 * ranked[-2]["score"]
    assert board["noise"]["metrics"]["precision"] < 0.3 and board["noise"]["metrics"]["memorisation"] == 0
