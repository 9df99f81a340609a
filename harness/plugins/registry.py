"""From what a user types (a name, ``path.py``, ``path.py:Object``) or an installed package offers to a Task or a Submission.

Tasks are trusted: their files are imported here. Submissions are not: the parent only *reads* their files (`Source`), and the
child that will run one is the only process that imports it (`load_submission`). That is why ``kind`` should be a literal.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib
import importlib.machinery
import importlib.util
import inspect
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import IO, Any, Protocol, TypeVar

from harness.contract import Submission, Task
from harness.errors import BakeoffError, PluginError, UsageError

TASK_GROUP, SUBMISSION_GROUP = "bakeoff.tasks", "bakeoff.submissions"
Warn = Callable[[str], None]


class Named(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def path(self) -> Path: ...


N = TypeVar("N", bound=Named)


@dataclass(frozen=True)
class Source:
    """A submission's code, read and not run. ``kinds`` is empty where it is not written as a literal."""

    name: str
    path: Path
    object: str | None = None
    module: str | None = None
    kinds: tuple[str, ...] = ()
    help: str = ""
    files: tuple[str, ...] = ()
    """What its ``files`` names, beside the modules that it imports from its own folder."""


@dataclass(frozen=True)
class TaskSource:
    """A task and the file that it comes from."""

    task: Task
    path: Path

    @property
    def name(self) -> str:
        return self.task.name


def shipped(room: str) -> Path:
    """The folder of ``tasks`` or ``baselines``: inside the installed package, or beside it in a checkout."""
    inside = Path(__file__).parent.parent / "shipped" / room
    return inside if inside.is_dir() else Path(__file__).parent.parent.parent / room


def title(name: str) -> str:
    """``some_file`` and ``SomeClass`` as plug-ins are called: ``some-file``, ``some-class``."""
    spaced = "".join(
        f"-{letter}" if letter.isupper() and before.islower() else letter for before, letter in zip(" " + name, name)
    )
    return spaced.replace("_", "-").lower()


def warn_on_stderr(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)


@dataclass(frozen=True)
class Bundle:
    """A submission's own code and files, read once: what is hashed, kept with the result and run is the same.

    ``files`` are pairs of a path relative to the plug-in's folder and its content, the plug-in itself first.
    """

    name: str
    files: tuple[tuple[str, bytes], ...]
    object: str | None = None
    module: str | None = None
    package: Path | None = None
    """Where the top package of an installed ``module`` is."""

    @property
    def sha256(self) -> str:
        """Of the plug-in's content; with further files, of all their names and hashes."""
        hashes = [(name, hashlib.sha256(content).hexdigest()) for name, content in self.files]
        if len(hashes) == 1:
            return hashes[0][1]
        return hashlib.sha256(repr([hashes[0], *sorted(hashes[1:])]).encode()).hexdigest()

    def told(self) -> dict[str, Any]:
        """What a child is told beside the content."""
        sizes = [(name, len(content)) for name, content in self.files]
        return {"files": sizes, "object": self.object, "module": self.module}

    def content(self) -> IO[bytes]:
        """All contents one after another, in an open file that has no name."""
        file = tempfile.TemporaryFile()  # noqa: SIM115, the caller closes it
        for _, content in self.files:
            file.write(content)
        file.seek(0)
        return file


# Submissions: read, not run -------------------------------------------------------------------------------------------------


def read_submission(
    path: Path, object_name: str | None = None, module: str | None = None, name: str | None = None
) -> Source:
    """Look at a submission's file without running it. Raises PluginError where there is nothing to run."""
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except FileNotFoundError:
        raise PluginError(f"there is no file {path}") from None
    except OSError as error:
        raise PluginError(f"{path} cannot be read: {error.strerror}") from error
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        where = f" (line {error.lineno})" if isinstance(error, SyntaxError) and error.lineno else ""
        why = error.args[0] if error.args else type(error).__name__
        raise PluginError(f"{path} is not valid Python{where}: {why}") from error
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    if not classes:
        raise PluginError(
            f"{path} defines no class; a submission is a subclass of harness.Submission (see `bakeoff new submission`)"
        )
    if object_name is not None and object_name not in classes:
        raise PluginError(f"{path} defines no class {object_name}; it defines {', '.join(classes)}")
    kinds = {known: _literal_kinds(node) for known, node in classes.items()}
    chosen = [object_name] if object_name else [known for known in classes if kinds[known]] or list(classes)[-1:]
    doc = (ast.get_docstring(tree) or ast.get_docstring(classes[chosen[0]]) or "").partition("\n")[0]
    default = title(object_name) if object_name else title(path.stem)
    files = _literal(classes[chosen[0]], "files")
    return Source(name or default, path.resolve(), object_name, module, kinds[chosen[0]], doc, files)


def _literal_kinds(node: ast.ClassDef) -> tuple[str, ...]:
    return _literal(node, "kind")


def _literal(node: ast.ClassDef, name: str) -> tuple[str, ...]:
    """A class attribute that is a name or several, where it is written as a literal; else nothing."""
    for statement in node.body:
        targets: Sequence[ast.expr] = ()
        if isinstance(statement, ast.Assign):
            targets = statement.targets
        elif isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            try:
                value = ast.literal_eval(statement.value)  # type: ignore[attr-defined]
            except ValueError:
                return ()
            names = (value,) if isinstance(value, str) else value
            return (
                tuple(names) if isinstance(names, (tuple, list)) and all(isinstance(one, str) for one in names) else ()
            )
    return ()


def submissions(warn: Warn = warn_on_stderr) -> dict[str, Source]:
    """Every submission that ships or is installed, by name. A broken one is warned about and left out."""
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
    """The file of an installed module, found without importing its packages."""
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
    """The submission that a user means by a name, ``path.py`` or ``path.py:Class``."""
    path, object_name = as_path(reference)
    if path is not None:
        return read_submission(path, object_name)
    return _named(reference, submissions(warn), "submission")


def bundle(source: Source) -> Bundle:
    """Read a submission's file, the modules beside it that it imports, and the ``files`` that it names. Raises PluginError."""
    folder = source.path.parent
    names = [source.path.name]
    if source.module is None:
        for name in names:  # grows while it is read: helpers may import helpers
            if name.endswith(".py"):
                names += [helper for helper in _helpers(folder, folder / name) if helper not in names]
        for name in source.files:
            names += [name] if name not in names else []
    contents = []
    for name in names:
        place = (folder / name).resolve()
        if not place.is_relative_to(folder.resolve()):
            raise PluginError(
                f"{source.name} names the file {name}, which is outside its folder; put it beside the plug-in"
            )
        try:
            contents.append((name, place.read_bytes()))
        except OSError as error:
            raise PluginError(f"{place}, which {source.name} needs, cannot be read: {error.strerror}") from error
    package = None
    if source.module is not None:
        depth = source.module.count(".") + (source.path.name == "__init__.py")
        package = source.path.parents[depth - 1] if depth else source.path
    return Bundle(source.name, tuple(contents), source.object, source.module, package)


def _helpers(folder: Path, path: Path) -> list[str]:
    """The modules in a folder that a file of it imports. What is installed goes first, as Python itself would have it."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imported = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.ImportFrom) and node.level == 1 and path.parent != folder:  # inside a package
            package = ".".join(path.parent.relative_to(folder).parts)
            stem = f"{package}.{node.module}" if node.module else package
            imported = [stem, *(f"{stem}.{alias.name}" for alias in node.names)]
        else:
            continue
        for module in imported:
            parts = module.split(".")
            if _is_installed(parts[0], folder):
                continue
            for depth in range(1, len(parts) + 1):
                place = Path(*parts[:depth])
                found += [
                    str(one) for one in (place.with_suffix(".py"), place / "__init__.py") if (folder / one).is_file()
                ]
    return list(dict.fromkeys(found))


def _is_installed(top: str, folder: Path) -> bool:
    """Whether a module is found without looking into the plug-in's folder."""
    if top in sys.stdlib_module_names:
        return True
    places = [place for place in sys.path if place and Path(place).resolve() != folder.resolve()]
    return importlib.machinery.PathFinder.find_spec(top, places) is not None


def load_submission(path: Path, object_name: str | None = None, module_name: str | None = None) -> type[Submission]:
    """Import a submission: this runs its code, so only the child calls it. Raises PluginError for an ambiguous or empty file.

    The module's name comes from the file's alone, so that a model pickled in one process is known in another.
    """
    module = importlib.import_module(module_name) if module_name else _import(path, f"bakeoff_submission_{path.stem}")
    if object_name:
        chosen = getattr(module, object_name, None)
        classes = [chosen] if inspect.isclass(chosen) and issubclass(chosen, Submission) else []
    else:
        classes = [
            value
            for value in vars(module).values()
            if inspect.isclass(value)
            and issubclass(value, Submission)
            and value.__module__ == module.__name__
            and not value.__name__.startswith("_")
            and hasattr(value, "kind")
        ]
    if not classes:
        raise PluginError(f"{path.name} holds no subclass of harness.Submission with a `kind`")
    if len(classes) > 1:
        names = " or ".join(f"{path.name}:{found.__name__}" for found in classes)
        raise PluginError(f"{path.name} holds several submissions; say {names}")
    if inspect.isabstract(classes[0]):
        missing = ", ".join(sorted(classes[0].__abstractmethods__))
        raise PluginError(f"{classes[0].__name__} in {path.name} still has to define {missing}")
    return classes[0]


# Tasks: trusted, imported ---------------------------------------------------------------------------------------------------


def read_tasks(path: Path) -> list[TaskSource]:
    """The Task objects at the top of a file. Raises PluginError where the file cannot be imported or has none."""
    try:
        module = _import(path)
    except BakeoffError as error:
        raise error if isinstance(error, PluginError) else PluginError(f"{path}: {error}") from error
    except (Exception, SystemExit) as error:
        raise PluginError(f"{path} could not be imported: {_last_line(error, path)}") from error
    found = list({id(value): value for value in vars(module).values() if isinstance(value, Task)}.values())
    if not found:
        raise PluginError(f"{path} holds no Task; a task file has a module-level `Task(...)` (see `bakeoff new task`)")
    return [TaskSource(task, path.resolve()) for task in found]


def tasks(warn: Warn = warn_on_stderr) -> dict[str, TaskSource]:
    """Every task that ships or is installed, by name. A broken one is warned about and left out."""
    found: list[TaskSource] = []
    for path in sorted(shipped("tasks").rglob("*.py")):
        found += [task for group in _tried(lambda path=path: read_tasks(path), warn) for task in group]  # type: ignore[misc]
    for point in entry_points(group=TASK_GROUP):
        found += _tried(lambda point=point: _installed_task(point), warn)  # type: ignore[misc]
    return _by_name(found)


def _installed_task(point: EntryPoint) -> TaskSource:
    try:
        value = point.load()
    except Exception as error:
        raise PluginError(f"the entry point {point.name!r} ({point.value}) could not be loaded: {error}") from error
    if not isinstance(value, Task):
        raise PluginError(
            f"the entry point {point.name!r} ({point.value}) is a {type(value).__name__}; it should be a harness.Task"
        )
    return TaskSource(value, Path(sys.modules[point.module].__file__ or point.module))


def find_task(reference: str, warn: Warn = warn_on_stderr) -> TaskSource:
    """The task that a user means by a name, ``path.py`` or ``path.py:OBJECT``."""
    path, object_name = as_path(reference)
    if path is None:
        return _named(reference, tasks(warn), "task")
    found = read_tasks(path)
    if object_name is not None:
        module = _import(path)
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
    """A reference as (file, object) where it is a path, (None, None) where it is a name."""
    file, colon, object_name = reference.rpartition(":")
    if colon and file.endswith(".py"):
        return Path(file), object_name
    if reference.endswith(".py") or "/" in reference or "\\" in reference:
        return Path(reference), None
    return None, None


def _import(path: Path, name: str = "") -> ModuleType:
    """A file as a module under a name of its own; helper modules beside it can be imported, but shadow nothing.

    The name tells the content too: who edits a task in a long session (a notebook) gets the task as it now stands.
    """
    if not path.is_file():
        raise PluginError(f"there is no file {path}")
    path = path.resolve()
    digest = hashlib.sha256(str(path).encode() + b"\0" + path.read_bytes()).hexdigest()
    name = name or f"bakeoff_plugin_{path.stem}_{digest[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{path} should be a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _last_line(error: BaseException, path: Path) -> str:
    """``ValueError: message (line 3)``, the line being the deepest one inside the plug-in's own file."""
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path.resolve())
    ]
    where = f" (line {lines[-1]})" if lines else ""
    return f"{type(error).__name__}: {error}{where}"


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
