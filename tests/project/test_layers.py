"""The import rule, read off the source: layers, circles, the two sides of the sandbox, and the imports of plug-ins."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest
from conftest import REPOSITORY

LAYERS = (
    "cli",
    "commands",
    "evaluation",
    "search",
    "dispatch",
    "execution",
    "scoring plugins readymade",
    "kinds frameworks",
    "metrics datasets seeding",
    "contract",
    "errors deprecated",
)
"""Packages and modules of `harness`, from the top down. A module imports its own package and lower layers only."""
LEADERBOARD_LAYERS = ("site", "tables competition", "statistics", "store", "result errors formatting text")
"""Packages and modules of `leaderboard`, which imports nothing of `harness`."""
EXECUTION_LAYERS = ("cluster", "parent child", "shared")

PUBLIC = (
    *("harness", "harness.contract", "harness.datasets", "harness.errors", "harness.metrics", "harness.readymade"),
    *("harness.frameworks.sklearn", "harness.frameworks.torch", "harness.frameworks.keras"),
    *("harness.frameworks.arrays", "harness.frameworks.augment", "harness.frameworks.pooled"),
    *("harness.frameworks.recurrent", "harness.frameworks.encoder_decoder"),
    *("harness.kinds.image_classification", "harness.kinds.image_generation", "harness.kinds.sequence_prediction"),
    "leaderboard",
)
"""Modules that plug-ins and users may import. They stay where they are."""


@cache
def module_imports() -> dict[str, frozenset[str]]:
    """Modules of the two packages that each module imports, inside functions and under TYPE_CHECKING too."""
    paths = [path for package in ("harness", "leaderboard") for path in (REPOSITORY / package).rglob("*.py")]
    names = {module_name(path): path for path in paths}
    return {
        name: frozenset(target for target in imported_names(path) if target in names and target != name)
        for name, path in names.items()
    }


def module_name(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imported_names(path: Path) -> set[str]:
    """Names of modules that a file may import: ``from a import b`` counts as ``a.b`` if that is a module, else as ``a``."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                names.add(full if is_module(full) else node.module)
    return names


@cache
def is_module(name: str) -> bool:
    path = REPOSITORY / name.replace(".", "/")
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


@pytest.mark.parametrize(
    ("package", "layers"),
    [("harness", LAYERS), ("leaderboard", LEADERBOARD_LAYERS), ("harness.execution", EXECUTION_LAYERS)],
)
def test_each_layer_imports_lower_layers_only(package: str, layers: tuple[str, ...]) -> None:
    level = {name: depth for depth, names in enumerate(layers) for name in names.split()}
    depth_of = len(package.split("."))
    for module, targets in module_imports().items():
        if not module.startswith(package + "."):
            continue
        own = module.split(".")[depth_of]
        assert own in level, f"{module} has no layer"
        for target in targets:
            if target.startswith(package + "."):
                theirs = target.split(".")[depth_of]
                assert theirs == own or level[theirs] > level[own], f"{module} imports {target}"


def test_leaderboard_imports_nothing_of_harness() -> None:
    for module, targets in module_imports().items():
        if module.split(".")[0] == "leaderboard":
            assert not {target for target in targets if target.startswith("harness")}, module


def test_no_circle_of_imports() -> None:
    """Sort the modules so that each comes after all that it imports; what is left over forms circles."""
    left = {name: set(targets) for name, targets in module_imports().items()}
    while free := {name for name, targets in left.items() if not targets & left.keys()}:
        left = {name: targets for name, targets in left.items() if name not in free}
    assert not left, f"circles among {sorted(left)}"


def test_public_modules_stay() -> None:
    assert not [name for name in PUBLIC if not is_module(name)]


def test_shipped_plugins_import_public_modules_only() -> None:
    for path in (path for folder in ("tasks", "baselines") for path in (REPOSITORY / folder).rglob("*.py")):
        for name in imported_names(path):
            if name.split(".")[0] in ("harness", "leaderboard", "tasks"):
                assert name in PUBLIC, f"{path} imports {name}"
