"""Submissions and tasks as their files describe them. A submission is read with `ast` and never run here."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.contract import Task
from harness.errors import PluginError
from harness.plugins.reading import MAX_CODE_BYTES, read_plain_file


@dataclass(frozen=True)
class Source:
    """Submission as its file describes it, read without running it. ``kinds`` is empty unless the file has them as a literal.

    ``object`` is the name of its class if the reference gives one; ``module`` is its module if it is installed.
    """

    name: str
    path: Path
    object: str | None = None
    module: str | None = None
    kinds: tuple[str, ...] = ()
    help: str = ""
    files: tuple[str, ...] = ()
    """Names of further files, from the ``files`` attribute of the class. Modules beside it that it imports need no mention."""


@dataclass(frozen=True)
class TaskSource:
    """Task and the file that defines it."""

    task: Task
    path: Path

    @property
    def name(self) -> str:
        return self.task.name


def title(name: str) -> str:
    """Return the plug-in name of a file or class: ``some-file`` for ``some_file``, ``some-class`` for ``SomeClass``."""
    spaced = "".join(
        f"-{letter}" if letter.isupper() and before.islower() else letter for before, letter in zip(" " + name, name)
    )
    return spaced.replace("_", "-").lower()


def read_submission(
    path: Path, object_name: str | None = None, module: str | None = None, name: str | None = None
) -> Source:
    """Read a submission's file, without running it, and return its source.

    ``object_name`` chooses a class, ``name`` replaces the name made from the file or class. Raises PluginError if the file cannot
    be read, is not valid Python or has no such class.
    """
    try:
        tree = ast.parse(read_plain_file(path, MAX_CODE_BYTES), filename=str(path))
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
    """Return the strings in the class attribute ``name`` if it is a literal string, or tuple or list of strings; () otherwise."""
    for statement in node.body:
        targets: Sequence[ast.expr] = ()
        if isinstance(statement, ast.Assign):
            targets = statement.targets
        elif isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            try:
                value = ast.literal_eval(statement.value)  # type: ignore[attr-defined]
            except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                return ()
            names = (value,) if isinstance(value, str) else value
            return (
                tuple(names) if isinstance(names, (tuple, list)) and all(isinstance(one, str) for one in names) else ()
            )
    return ()
