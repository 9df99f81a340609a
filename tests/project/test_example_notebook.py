"""The example notebook runs from its first cell to its last in an empty folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import REPOSITORY

nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: pip install 'bakeoff[dev]'")
nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed: pip install 'bakeoff[dev]'")
pytest.importorskip("ipykernel", reason="ipykernel is not installed: pip install 'bakeoff[dev]'")


@pytest.mark.slow
def test_the_example_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    notebook = nbformat.read(REPOSITORY / "docs" / "example.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs are not kept: clear them before a commit"
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output.data for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    board, frame, difference, picture, loaded = shown
    assert "<caption>digits: accuracy" in board["text/html"] and "svm" in board["text/html"]
    assert "rank_low" in frame["text/html"] and "random-forest" in loaded["text/html"]
    assert "svm minus random-forest" in difference["text/markdown"] and "image/png" in picture
    assert (tmp_path / "site" / "index.html").exists() and (tmp_path / ".bakeoff" / "bakeoff.sqlite").exists()
