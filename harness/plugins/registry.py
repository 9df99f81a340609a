"""Lookup of tasks and submissions by name, ``path.py``, ``path.py:Object`` or entry point.

Tasks are trusted: their files are imported here. Submissions are not: the parent only *reads* their files (`Source`), and the
child that will run one is the only process that imports it (`load_submission`). That is why ``kind`` should be a literal.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Protocol, TypeVar

from harness.contract import Task
from harness.errors import BakeoffError, PluginError, UsageError
from harness.plugins.importing import error_with_line, import_file
from harness.plugins.source import Source, TaskSource, read_submission, title
from harness.plugins.task_files import TASK_GROUP, TASK_READS

SUBMISSION_GROUP = "bakeoff.submissions"
Warn = Callable[[str], None]


class Named(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def path(self) -> Path: ...


N = TypeVar("N", bound=Named)


def shipped(room: str) -> Path:
    """Return the folder of the plug-ins that ship with Bakeoff; ``room`` is "tasks" or "baselines".

    It lies inside the installed package, or beside it in a checkout.
    """
    inside = Path(__file__).parent.parent / "shipped" / room
    return inside if inside.is_dir() else Path(__file__).parent.parent.parent / room


def warn_on_stderr(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)


# Submissions: read, not run -------------------------------------------------------------------------------------------------


def submissions(warn: Warn = warn_on_stderr) -> dict[str, Source]:
    """Return the sources of all shipped and installed submissions by name. A broken one is skipped, with a message to ``warn``.

    Raises PluginError if two have the same name.
    """
    found = []
    for path in sorted(shipped("baselines").rglob("*.py")):
        found += _tried(lambda path=path: read_submission(path), warn)  # type: ignore[misc]
    for point in entry_points(group=SUBMISSION_GROUP):
        found += _tried(lambda point=point: _installed(point), warn)  # type: ignore[misc]
    return _by_name(found)


def _installed(point: EntryPoint) -> Source:
    module, _, attribute = point.value.partition(":")
    return read_submission(
        _module_file(module, point.name), attribute.strip() or None, module=module.strip(), name=point.name
    )


def _module_file(module: str, entry: str) -> Path:
    """Return the file of an installed module, found without an import of its packages.

    Raises PluginError, which names the entry point ``entry``, if the module is not installed.
    """
    top, *rest = module.strip().split(".")
    spec = importlib.util.find_spec(top)
    if spec is not None and not rest and spec.origin:
        return Path(spec.origin)
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        for candidate in (Path(folder, *rest).with_suffix(".py"), Path(folder, *rest, "__init__.py")):
            if candidate.is_file():
                return candidate
    raise PluginError(f"the entry point {entry!r} names the module {module!r}, which is not installed")


def find_submission(reference: str, warn: Warn = warn_on_stderr) -> Source:
    """Return the source of the submission for a name, ``path.py`` or ``path.py:Class``.

    Raises UsageError for an unknown name, PluginError for a wrong file. Broken plug-ins found on the way are told to ``warn``.
    """
    path, object_name = as_path(reference)
    if path is not None:
        return read_submission(path, object_name)
    return _named(reference, submissions(warn), "submission")


# Tasks: trusted, imported ---------------------------------------------------------------------------------------------------


def read_tasks(path: Path) -> list[TaskSource]:
    """Import a task file and return the Task objects at its top level. Raises PluginError if the import fails or there is none."""
    try:
        with TASK_READS.watch():
            module = import_file(path, for_itself=True)
    except BakeoffError as error:
        raise error if isinstance(error, PluginError) else PluginError(f"{path}: {error}") from error
    except (Exception, SystemExit) as error:
        raise PluginError(f"{path} could not be imported: {error_with_line(error, path)}") from error
    found = list({id(value): value for value in vars(module).values() if isinstance(value, Task)}.values())
    if not found:
        raise PluginError(f"{path} holds no Task; a task file has a module-level `Task(...)` (see `bakeoff new task`)")
    return [TaskSource(task, path.resolve()) for task in found]


def tasks(warn: Warn = warn_on_stderr) -> dict[str, TaskSource]:
    """Return all shipped and installed tasks by name. A broken one is skipped, with a message to ``warn``.

    Raises PluginError if two have the same name.
    """
    found: list[TaskSource] = []
    for path in sorted(shipped("tasks").rglob("*.py")):
        found += [task for group in _tried(lambda path=path: read_tasks(path), warn) for task in group]  # type: ignore[misc]
    for point in entry_points(group=TASK_GROUP):
        found += _tried(lambda point=point: _installed_task(point), warn)  # type: ignore[misc]
    return _by_name(found)


def _installed_task(point: EntryPoint) -> TaskSource:
    try:
        with TASK_READS.watch():
            value = point.load()
    except Exception as error:
        raise PluginError(f"the entry point {point.name!r} ({point.value}) could not be loaded: {error}") from error
    if not isinstance(value, Task):
        raise PluginError(
            f"the entry point {point.name!r} ({point.value}) is a {type(value).__name__}; it should be a harness.Task"
        )
    return TaskSource(value, Path(sys.modules[point.module].__file__ or point.module))


def find_task(reference: str, warn: Warn = warn_on_stderr) -> TaskSource:
    """Import and return the task for a name, ``path.py`` or ``path.py:OBJECT``, with its file.

    Raises UsageError for an unknown name, PluginError for a wrong file. Broken plug-ins found on the way are told to ``warn``.
    """
    path, object_name = as_path(reference)
    if path is None:
        return _named(reference, tasks(warn), "task")
    found = read_tasks(path)
    if object_name is not None:
        module = import_file(path, for_itself=True)
        value = getattr(module, object_name, None)
        if not isinstance(value, Task):
            raise PluginError(f"{path} holds no Task called {object_name}")
        return TaskSource(value, path.resolve())
    if len(found) > 1:
        raise PluginError(
            f"{path} holds {len(found)} tasks ({', '.join(task.name for task in found)}); say which with {path}:OBJECT"
        )
    return found[0]


# Shared ---------------------------------------------------------------------------------------------------------------------


def as_path(reference: str) -> tuple[Path | None, str | None]:
    """Return the file and the object name in a reference such as ``path.py:Object``, or (None, None) if it is a name and no path.

    The object name is None for a path without one.
    """
    file, colon, object_name = reference.rpartition(":")
    if colon and file.endswith(".py"):
        return Path(file), object_name
    if reference.endswith(".py") or "/" in reference or "\\" in reference:
        return Path(reference), None
    return None, None


T = TypeVar("T")


def _tried(look: Callable[[], T], warn: Warn) -> list[T]:
    try:
        return [look()]
    except PluginError as error:
        warn(f"{error}; skipped")
        return []


def _by_name(found: Iterable[N]) -> dict[str, N]:
    known: dict[str, N] = {}
    for plugin in found:
        if plugin.name in known:
            raise PluginError(
                f"two plug-ins are called {plugin.name}: {known[plugin.name].path} and {plugin.path}; rename one"
            )
        known[plugin.name] = plugin
    return known


def _named(name: str, known: dict[str, N], what: str) -> N:
    if name in known:
        return known[name]
    close = difflib.get_close_matches(title(name), known, n=3, cutoff=0.5)
    file = Path(f"{name}.py")
    if file.is_file():
        close = [str(file)]
    hint = f"did you mean {' or '.join(close)}?" if close else f"`bakeoff list {what}s` shows what there is"
    raise UsageError(f"there is no {what} called {name!r}; {hint}")
