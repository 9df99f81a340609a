"""Files of a submission, read once: hashed, kept with the result, and handed to the process that runs the submission."""

from __future__ import annotations

import ast
import hashlib
import importlib.machinery
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from harness.errors import PluginError
from harness.plugins.reading import MAX_CODE_BYTES, MAX_FILE_BYTES, read_plain_file
from harness.plugins.source import Source
from harness.plugins.task_files import task_parts


@dataclass(frozen=True)
class Bundle:
    """Code and files of a submission, read once, so that the content that is hashed, kept with the result and run is the same.

    ``files`` are pairs of a path, relative to the plug-in's folder, and its content; the plug-in's own file is first. ``object`` is
    the name of its class, None for the only one; ``module`` is the module to import, if the submission is installed.
    """

    name: str
    files: tuple[tuple[str, bytes], ...]
    object: str | None = None
    module: str | None = None
    package: Path | None = None
    """Folder or file of the top package, for an installed ``module``."""
    folder: Path = Path()
    """Folder that the files were read from."""

    @property
    def paths(self) -> list[Path]:
        """Paths that the files were read from."""
        return [self.folder / name for name, _ in self.files]

    @property
    def sha256(self) -> str:
        """SHA-256, in hex, of the content of the plug-in's file; if it has further files, of the names and hashes of all."""
        hashes = [(name, hashlib.sha256(content).hexdigest()) for name, content in self.files]
        if len(hashes) == 1:
            return hashes[0][1]
        return hashlib.sha256(repr([hashes[0], *sorted(hashes[1:])]).encode()).hexdigest()

    def manifest(self) -> dict[str, Any]:
        """Return the names and sizes (bytes) of the files, and the object and module to load, for the child's first message."""
        sizes = [(name, len(content)) for name, content in self.files]
        return {"files": sizes, "object": self.object, "module": self.module}

    def content(self) -> IO[bytes]:
        """Return an unnamed open file with the contents of all files, one after another. The caller closes it."""
        file = tempfile.TemporaryFile()  # noqa: SIM115, the caller closes it
        for _, content in self.files:
            file.write(content)
        file.seek(0)
        return file


def bundle(source: Source) -> Bundle:
    """Read a submission's file, the modules beside it that it imports, and its ``files``, and return them as a `Bundle`.

    For an installed submission only its own file is read. Raises PluginError for a file that is unreadable or outside the folder.
    """
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
            limit = MAX_CODE_BYTES if name.endswith(".py") else MAX_FILE_BYTES
            contents.append((name, read_plain_file(place, limit)))
        except OSError as error:
            raise PluginError(f"{place}, which {source.name} needs, cannot be read: {error.strerror}") from error
    package = None
    if source.module is not None:
        depth = source.module.count(".") + (source.path.name == "__init__.py")
        package = source.path.parents[depth - 1] if depth else source.path
        if source.path.resolve() in task_parts(package):
            raise PluginError(
                f"{source.name} is in the module {source.module}, which offers a task too: no submission may see it; put the "
                "submission into a module of its own"
            )
    return Bundle(source.name, tuple(contents), source.object, source.module, package, folder.resolve())


def _helpers(folder: Path, path: Path) -> list[str]:
    """Return the paths of the modules in ``folder`` that the file ``path`` imports, relative to ``folder``.

    Installed modules take precedence, as in Python. A file that cannot be parsed imports none.
    """
    try:
        tree = ast.parse(read_plain_file(path, MAX_CODE_BYTES))
    except (OSError, PluginError, SyntaxError, ValueError, MemoryError, RecursionError):
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
    """Tell whether the top-level module ``top`` can be imported without the plug-in's folder."""
    if top in sys.stdlib_module_names:
        return True
    places = [place for place in sys.path if place and Path(place).resolve() != folder.resolve()]
    return importlib.machinery.PathFinder.find_spec(top, places) is not None
