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
    """Import a file as a module under a unique name. It can import helper modules beside it, which shadow nothing.

    The name depends on the content, so that a task edited during a long session (a notebook) is imported anew.
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
    """Return ``ValueError: message (line 3)``, with the deepest line inside the plug-in's own file."""
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path.resolve())
    ]
    where = f" (line {lines[-1]})" if lines else ""
    return f"{type(error).__name__}: {error}{where}"
