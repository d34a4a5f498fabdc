"""A submission in one process, with some of its tests: what the tests of the sandbox share."""

from __future__ import annotations

import copy

import nbgrader_steps
import pytest
from assignment_faults import find
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from nbgrader.utils import determine_grade, is_grade
from release import folder

from kdutils.tools import notebooks


def reference(assignment: str = "distil_it") -> NotebookNode:
    """The instructor's notebook, with solutions and hidden tests."""
    return notebooks.read(folder() / "source" / assignment / f"{assignment}.ipynb")


def solved(solutions: dict[str, str], *tests: str, before: str = "") -> NotebookNode:
    """A notebook with these solutions (cell -> source) and tests; `before` is a cell at its top."""
    notebook = reference()
    wanted = {"setup", *solutions, *tests}
    notebook.cells = [
        cell
        for cell in notebook.cells
        if cell.metadata.get("nbgrader", {}).get("grade_id") in wanted
    ]
    for name, source in solutions.items():
        find(notebook, name).source = source
    if before:
        notebook.cells.insert(1, new_code_cell(before))
    return notebook


def run(notebook: NotebookNode, timeout: int = 20, assignment: str = "distil_it") -> NotebookNode:
    """The notebook as the grader's step leaves it."""
    ran = copy.deepcopy(notebook)
    cells = [cell for cell in reference(assignment).cells if "nbgrader" in cell.metadata]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nbgrader_steps, "source_cells", lambda *_: cells)
        step = nbgrader_steps.ExecuteTasks(timeout=timeout)
        step.preprocess(ran, {"nbgrader": {"assignment": assignment, "notebook": assignment}})
    return ran


def points(ran: NotebookNode) -> dict[str, float]:
    """What each test of a notebook that was run earned."""
    graded = [cell for cell in ran.cells if is_grade(cell) and cell.cell_type == "code"]
    return {cell.metadata.nbgrader.grade_id: determine_grade(cell)[0] for cell in graded}


def said(ran: NotebookNode) -> str:
    """All text of all outputs."""
    parts = []
    for cell in ran.cells:
        for one in cell.get("outputs", []):
            parts += [one.get("text", ""), one.get("evalue", ""), *one.get("traceback", [])]
            parts += [str(value) for value in one.get("data", {}).values()]
    return "\n".join(parts)
