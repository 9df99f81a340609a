"""Folders nested without end are measured and removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.execution.parent import limits
from harness.execution.shared.folders import TooDeep, disk_usage, remove_tree


def nest(folder: Path, levels: int) -> None:
    here = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("deeper", dir_fd=here)
        inside = os.open("deeper", os.O_RDONLY, dir_fd=here)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=inside))
        os.close(here)
        here = inside
    os.close(here)


def test_three_thousand_levels_are_too_deep_to_measure_and_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "scratch"
    folder.mkdir()
    nest(folder, 3000)
    with pytest.raises(TooDeep, match="nested more than"):
        disk_usage(folder)
    remove_tree(folder)
    assert not folder.exists()
    remove_tree(folder)


def test_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    kept, folder = tmp_path / "kept", tmp_path / "scratch"
    (kept / "below").mkdir(parents=True)
    (kept / "file").write_bytes(bytes(1 << 16))
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "link").symlink_to(kept)
    (folder / "a" / "b" / "file").write_bytes(bytes(1 << 12))
    assert 1 << 12 <= disk_usage(folder) < 1 << 16
    remove_tree(folder)
    assert not folder.exists() and (kept / "file").exists() and (kept / "below").exists()


def test_a_file_without_a_name_counts_while_it_is_open(tmp_path: Path) -> None:
    with (tmp_path / "gone").open("wb") as file:
        file.write(bytes(1 << 20))
        file.flush()
        (tmp_path / "gone").unlink()
        assert limits.unlinked_usage([os.getpid()], tmp_path) >= 1 << 20
    assert limits.unlinked_usage([os.getpid()], tmp_path) < 1 << 20
