"""Import of one file as a module: a task in the parent, a submission in the child."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from harness.errors import PluginError


def import_file(path: Path, name: str = "") -> ModuleType:
    """Import a file and return the module. The file can import modules beside it, which take precedence over no other.

    Without a ``name`` the module's name depends on the content, so that a task edited during a long session (a notebook) is
    imported anew. A module that is loaded already is not imported again. Raises PluginError if there is no file or it is no .py
    file, and any error that the file raises.
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


def error_with_line(error: BaseException, path: Path) -> str:
    """Return an error as ``ValueError: message (line 3)``: the deepest line of its traceback inside the file ``path``, if any."""
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path.resolve())
    ]
    where = f" (line {lines[-1]})" if lines else ""
    return f"{type(error).__name__}: {error}{where}"
