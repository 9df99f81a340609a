"""Import of a submission, which runs its code. Only the child process does it."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

from harness.contract import Submission
from harness.errors import PluginError
from harness.plugins.importing import import_file


def load_submission(path: Path, object_name: str | None = None, module_name: str | None = None) -> type[Submission]:
    """Import a submission and return its class. This runs its code, so only the child process calls it.

    ``object_name`` chooses a class; without it the file must have one subclass of Submission with a ``kind``. An installed
    submission is imported by ``module_name``. Otherwise the module's name comes from the file's name alone, so that a model pickled
    in one process is known in another. Raises PluginError for no class, several classes, or an abstract one.
    """
    module = (
        importlib.import_module(module_name) if module_name else import_file(path, f"bakeoff_submission_{path.stem}")
    )
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
