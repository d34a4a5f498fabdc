"""Saving in JupyterLab marks cells as trusted; the paired script must not change by it."""

from __future__ import annotations

from pathlib import Path

import jupytext
import nbformat
import pytest

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
SERIES = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


@pytest.mark.parametrize("path", SERIES, ids=lambda path: path.stem)
def test_trust_in_one_reader_stays_out_of_the_script(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.metadata["trusted"] = True
    assert "trusted=" not in jupytext.writes(notebook, "py:percent")
