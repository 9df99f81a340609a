"""Files that tasks are made of: their modules, what they read, and what they name. No submission may bring one of them along.

A task and a submission may lie in one folder. What the submission imports or names there is read by the parent and handed to the
submission's process, so that a task's file, or its labels, would be handed over as well.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.errors import PluginError

TASK_GROUP = "bakeoff.tasks"


class TaskReads:
    """Files that this process has opened while it imported or loaded a task, by device and inode."""

    def __init__(self) -> None:
        self.opened: set[tuple[int, int]] = set()
        self.watchers = 0
        self.hooked = False

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Remember the files that any thread opens meanwhile."""
        if not self.hooked:
            self.hooked = True
            sys.addaudithook(self.remember)  # once: a hook cannot be removed
        self.watchers += 1
        try:
            yield
        finally:
            self.watchers -= 1

    def remember(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Audit hook (PEP 578)."""
        if (
            self.watchers
            and event in ("open", "sqlite3.connect")
            and isinstance(arguments[0], (str, bytes, os.PathLike))
        ):
            with suppress(OSError, ValueError):
                found = os.stat(arguments[0])  # noqa: PTH116, bytes are paths too
                self.opened.add((found.st_dev, found.st_ino))


TASK_READS = TaskReads()


def refuse_task_files(name: str, paths: Iterable[Path]) -> None:
    """Raise PluginError if one of these files of a submission called ``name`` belongs to a task that this process has imported."""
    modules = _task_modules()
    for path in paths:
        found = path.stat()
        same = (found.st_dev, found.st_ino)
        if same in modules or same in TASK_READS.opened or any(_mentions(module, path) for module in modules.values()):
            raise PluginError(
                f"{name} would bring {path.name} along, which is a file of the task: labels may be in it; give the submission a "
                "copy of what it needs, in a module or file of its own"
            )


def _task_modules() -> dict[tuple[int, int], Path]:
    """Files of this process's modules, by device and inode. It never imports a submission, so those of a plug-in are a task's."""
    found = {}
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and file.endswith(".py"):
            with suppress(OSError):
                status = os.stat(file)  # noqa: PTH116, some hundred modules
                found[status.st_dev, status.st_ino] = Path(file)
    return found


def _mentions(module: Path, path: Path) -> bool:
    """Tell if a module in the folder of ``path``, or above it, names the file or a pattern for it.

    Some libraries open files in a way that no audit hook sees.
    """
    if not path.is_relative_to(module.parent) or path.suffix == ".py":
        return False
    parts = path.relative_to(module.parent).parts
    return any(
        text in (*parts, path.stem) or Path(text).name in parts or ("*" in text and fnmatch(path.name, Path(text).name))
        for text in _literals(module)
    )


@cache
def _literals(module: Path) -> frozenset[str]:
    """Return the strings that stand in a module, pieces of f-strings included."""
    with suppress(OSError, SyntaxError, ValueError, RecursionError):
        tree = ast.parse(module.read_bytes())
        return frozenset(
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value
        )
    return frozenset()


def installed_task_paths() -> list[Path]:
    """Return folders and files of installed packages that offer tasks, which a sandbox must not see. No package is imported."""
    paths: list[Path] = []
    for point in entry_points(group=TASK_GROUP):
        paths += _distribution_paths(point)
    return sorted(set(paths))


def task_parts(package: Path) -> list[Path]:
    """Return the parts of an installed package that no submission may see, not even one of the same package; none without tasks.

    They are the modules that its entry points name as tasks, and everything that is no module: labels may be in it.
    """
    package = package.resolve()
    modules = [_module_file(point.module, package) for point in entry_points(group=TASK_GROUP)]
    found = [path for path in modules if path is not None]
    found += [compiled for path in found for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc")]
    if found and package.is_dir():
        found += [path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    return sorted(set(found))


def _module_file(module: str, package: Path) -> Path | None:
    """Return the file of a module if it is in ``package``, a folder or a file; None otherwise."""
    top, *rest = module.split(".")
    if package.stem != top:
        return None
    if package.is_file():
        return package
    place = package.joinpath(*rest)
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


def _distribution_paths(point: EntryPoint) -> list[Path]:
    """Return the top folders and files of the distribution of an entry point, and those of its module."""
    found = []
    if point.dist is not None:
        for file in point.dist.files or ():
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not top.endswith((".dist-info", ".pth")):
                found.append(Path(str(point.dist.locate_file(top))))
    with suppress(ImportError, ValueError, AttributeError):
        spec = find_spec(point.module.partition(".")[0])
        if spec is not None:
            found += [Path(folder) for folder in spec.submodule_search_locations or ()]
            found += [Path(spec.origin)] if spec.origin and not spec.submodule_search_locations else []
    return [path.resolve() for path in found if path.exists()]
