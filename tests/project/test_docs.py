"""Links and paths of the documentation: every relative link and every path in backticks leads to a file or folder."""

from __future__ import annotations

import re
from pathlib import Path

from conftest import REPOSITORY

FOLDERS = ("harness", "leaderboard", "tests", "benchmarks", "tasks", "baselines", "docs", ".github", ".ci")
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE_PATH = re.compile(rf"`((?:{'|'.join(map(re.escape, FOLDERS))})/[\w./*-]*)`")
FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
BUILT = {"harness/shipped/"}
"""Paths that exist in the wheel only."""


def pages() -> list[Path]:
    """Markdown files of the repository."""
    found = [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md"), *(REPOSITORY / ".github").rglob("*.md")]
    assert len(found) > 50
    return sorted(found)


def prose(page: Path) -> str:
    """Return the text of a page without its fenced blocks."""
    return FENCE.sub("", page.read_text())


def anchor(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_relative_links_exist() -> None:
    for page in pages():
        for link in LINK.findall(prose(page)):
            if link.startswith(("https://", "http://", "mailto:")):
                continue
            path, _, fragment = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), f"{page.relative_to(REPOSITORY)} links to {link}"
            if fragment:
                anchors = {anchor(heading) for heading in HEADING.findall(prose(target))}
                assert fragment in anchors, f"{page.relative_to(REPOSITORY)} links to {link}"


def test_paths_in_backticks_exist() -> None:
    for page in pages():
        for path in CODE_PATH.findall(prose(page)):
            if path not in BUILT:
                assert list(REPOSITORY.glob(path)), f"{page.relative_to(REPOSITORY)} names {path}"


def test_every_decision_is_listed_once() -> None:
    folder = REPOSITORY / "docs" / "decisions"
    listed = LINK.findall((folder / "README.md").read_text())
    for page in folder.glob("0*.md"):
        assert listed.count(page.name) == 1, page.name
        title = page.read_text().partition("\n")[0].removeprefix(f"# {page.name[:4]} ")
        assert f"({page.name}) {title}\n" in (folder / "README.md").read_text(), page.name
