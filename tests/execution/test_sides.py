"""The two sides of the sandbox, `harness.execution.parent` and `harness.execution.child`, never import each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import harness.execution

ROOT = Path(harness.execution.__file__).parent
OTHER = {"parent": "child", "child": "parent"}


def imported(source: str, package: str) -> Iterator[str]:
    """Yield the absolute name of every module, or name in a module, that a source imports anywhere, also inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def of_side(names: Iterator[str], side: str) -> list[str]:
    package = f"harness.execution.{side}"
    return [name for name in names if name == package or name.startswith(f"{package}.")]


@pytest.mark.parametrize("side", OTHER)
def test_the_sides_never_import_each_other(side: str) -> None:
    files = sorted((ROOT / side).rglob("*.py"))
    assert len(files) > 3
    found = {}
    for file in files:
        package = ".".join(["harness.execution", *file.parent.relative_to(ROOT).parts])
        if names := of_side(imported(file.read_text(), package), OTHER[side]):
            found[file.name] = names
    assert not found


@pytest.mark.parametrize("side", OTHER)
def test_what_both_sides_share_imports_neither(side: str) -> None:
    for file in sorted((ROOT / "shared").rglob("*.py")):
        assert not of_side(imported(file.read_text(), "harness.execution.shared"), side), file.name


@pytest.mark.parametrize(
    "source",
    [
        "import harness.execution.child",
        "import harness.execution.child.server as server",
        "from harness.execution import child",
        "from harness.execution.child import server",
        "from harness.execution.child.server import main",
        "from .. import child",
        "from ..child import server",
        "from ..child.server import main",
        "def late():\n    from harness.execution import child",
        "if True:\n    def late():\n        import harness.execution.child.probe",
    ],
)
def test_every_way_to_import_is_seen(source: str) -> None:
    assert of_side(imported(source, "harness.execution.parent"), "child")
    assert not of_side(imported(source, "harness.execution.parent"), "parent")
