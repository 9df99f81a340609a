"""Import of one file as a module: a task in the parent, a submission in the child."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from harness.errors import PluginError


class FolderFinder:
    """Finder of modules in a folder for the modules of that folder alone.

    On `sys.path` the folder would serve everybody: pandas looks for optional packages, and would run a stranger's file of that
    name.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        """Return the spec of a module of the folder, None if a module from elsewhere asks."""
        if path is not None or not self._is_asked_from_inside():
            return None
        return PathFinder.find_spec(name, [self.folder])

    def _is_asked_from_inside(self) -> bool:
        frame = sys._getframe(1)
        while frame is not None:
            file = frame.f_code.co_filename
            if file not in (__file__, importlib.__file__) and not file.startswith("<frozen importlib"):
                return file.startswith(self.folder + os.sep)
            frame = frame.f_back  # type: ignore[assignment]
        return False


def import_file(path: Path, name: str = "", *, for_itself: bool = False) -> ModuleType:
    """Import a file as a module under a unique name. It can import helper modules beside it, which shadow nothing.

    The name depends on the content, so that a task edited during a long session (a notebook) is imported anew. With ``for_itself``
    nothing but the modules of its folder can import the helpers.
    """
    if not path.is_file():
        raise PluginError(f"there is no file {path}")
    path = path.resolve()
    digest = hashlib.sha256(str(path).encode() + b"\0" + path.read_bytes()).hexdigest()
    name = name or f"bakeoff_plugin_{path.stem}_{digest[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    if for_itself:
        if not any(isinstance(finder, FolderFinder) and finder.folder == str(path.parent) for finder in sys.meta_path):
            sys.meta_path.append(FolderFinder(path.parent))
    elif str(path.parent) not in sys.path:
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


def error_with_line(error: BaseException, path: Path) -> str:
    """Return an error as ``ValueError: message (line 3)``: the deepest line of its traceback inside the file ``path``, if any."""
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path.resolve())
    ]
    where = f" (line {lines[-1]})" if lines else ""
    return f"{type(error).__name__}: {error}{where}"
