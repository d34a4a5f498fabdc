"""What the course adds to nbgrader's autograder (see `notebooks/assignment`).

nbgrader loses a whole submission when a kernel dies or when a cell was deleted together with the
one before it. Here such things cost the points of the task they belong to, and no others:

    PlainText      what students wrote stays text in the browser of whoever marks it
    RestoreCells   puts back what a student deleted, and every cell's grading data as released
    ExecuteTasks   runs the cells in a process of their own (see `sandbox`)

    ClearTestsFromFeedback   keeps hidden tests out of what students get back

They are named in `nbgrader_config.py`, so that plain `nbgrader autograde` and formgrader use them too.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
from nbformat.notebooknode import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell
from nbgrader import utils
from nbgrader.api import Gradebook
from nbgrader.nbgraderformat import MetadataValidator
from nbgrader.preprocessors import ClearHiddenTests, NbGraderPreprocessor
from sandbox.box import Box, Stopped
from sandbox.judge import judge, outputs_of, stopped
from sandbox.kit import kit
from traitlets import Integer

SCHEMA = MetadataValidator.schema_version


class PlainText(NbGraderPreprocessor):
    """Leaves nothing in a submission that would run in the browser of whoever marks it.

    HTML and JavaScript in text cells become text; attachments, outputs and everything that other
    programs wrote into the metadata go. The instructor's own text cells stay as they are.
    """

    def preprocess(
        self, nb: NotebookNode, resources: dict[str, Any]
    ) -> tuple[NotebookNode, dict[str, Any]]:
        about = resources["nbgrader"]
        source = _source(self, about["assignment"], about["notebook"])
        ours = {cell.source for cell in source.cells if cell.cell_type == "markdown"}
        nb.metadata = source.metadata
        for number, cell in enumerate(nb.cells):
            name = (cell.metadata.get("nbgrader") or {}).get("grade_id")
            kept = {"nbgrader": {"grade_id": name}} if isinstance(name, str) else {}
            cell.metadata = NotebookNode(kept)
            cell["id"] = f"cell-{number}"
            cell.pop("attachments", None)
            if cell.cell_type != "code":
                cell.cell_type = "markdown"
                if cell.source not in ours:
                    cell.source = _as_text(cell.source)
        return nb, resources


def _as_text(markdown: str) -> str:
    """Markdown in which HTML, scripts in links and MathJax's ways to make them are plain text."""
    text = markdown.replace("&", "&amp;").replace("<", "&lt;")
    text = re.sub(r"(script|data)(?=\s*:)", "\\1\u200b", text, flags=re.IGNORECASE)
    return re.sub(r"\\(?=href|url|style|class|cssId|require|html|data|mmlToken)", r"\\ ", text)


class RestoreCells(NbGraderPreprocessor):
    """Makes a submission complete again: every cell of the release is there once, graded as released.

    A deleted cell comes back as it was handed out, after the released cell that stood before it.
    What `nbgrader` wrote into a cell's metadata is taken from the gradebook, not from the student.
    """

    def preprocess(
        self, nb: NotebookNode, resources: dict[str, Any]
    ) -> tuple[NotebookNode, dict[str, Any]]:
        about = resources["nbgrader"]
        with Gradebook(about["db_url"]) as gradebook:
            released = _released_cells(gradebook, about["notebook"], about["assignment"])
        cells = source_cells(self, about["assignment"], about["notebook"])
        order = [cell.metadata.nbgrader.grade_id for cell in cells]
        released.sort(key=lambda cell: order.index(cell.metadata.nbgrader.grade_id))
        wanted = {cell.metadata.nbgrader.grade_id: cell for cell in released}
        here: set[str] = set()
        for cell in reversed(nb.cells):  # of two copies the last one counts, as nbgrader has it
            name = (cell.metadata.pop("nbgrader", None) or {}).get("grade_id")
            if name in wanted and name not in here:
                cell.metadata["nbgrader"] = wanted[name].metadata.nbgrader
                here.add(name)
        place = 0
        for cell in released:
            name = cell.metadata.nbgrader.grade_id
            if name in here:
                place = 1 + next(
                    number
                    for number, other in enumerate(nb.cells)
                    if other.metadata.get("nbgrader", {}).get("grade_id") == name
                )
            else:
                self.log.warning("The cell %s is missing; it is put back as released", name)
                nb.cells.insert(place, cell)
                place += 1
        return nb, resources


def _source(step: NbGraderPreprocessor, assignment: str, notebook: str) -> NotebookNode:
    """The instructor's notebook."""
    course = step.parent.parent.coursedir  # of the exporter of the autograder
    folder = course.format_path(course.source_directory, ".", assignment)
    return nbformat.read(Path(folder) / f"{notebook}.ipynb", as_version=4)


def source_cells(step: NbGraderPreprocessor, assignment: str, notebook: str) -> list[NotebookNode]:
    """The instructor's cells that nbgrader knows of, as they follow each other."""
    return [c for c in _source(step, assignment, notebook).cells if "nbgrader" in c.metadata]


def _released_cells(gradebook: Gradebook, notebook: str, assignment: str) -> list[NotebookNode]:
    """Fresh copies of the cells that nbgrader knows of, hidden tests included, in any order."""
    known = gradebook.find_notebook(notebook, assignment)
    graded = {cell.name: cell.max_score for cell in known.grade_cells}
    solutions = {cell.name for cell in known.solution_cells}
    fresh = []
    for source in known.source_cells:
        make = new_code_cell if source.cell_type == "code" else new_markdown_cell
        cell = make(source.source)
        about = {
            "grade_id": source.name,
            "grade": source.name in graded,
            "solution": source.name in solutions,
            "locked": source.locked,
            "task": False,
            "schema_version": SCHEMA,
            "cell_type": source.cell_type,
            "checksum": source.checksum,
        }
        if source.name in graded:
            about["points"] = graded[source.name]
        cell.metadata["nbgrader"] = NotebookNode(about)
        fresh.append(cell)
    return fresh


class ClearTestsFromFeedback(ClearHiddenTests):
    """As nbgrader's for the release, but it looks only at the tests: in the cells of a student the
    words that mark a hidden test mean nothing."""

    def preprocess_cell(
        self, cell: NotebookNode, resources: Any, cell_index: int
    ) -> tuple[NotebookNode, Any]:
        if utils.is_grade(cell) and utils.is_locked(cell):
            return super().preprocess_cell(cell, resources, cell_index)
        return cell, resources


class ExecuteTasks(NbGraderPreprocessor):
    """Runs the student's cells in a process of their own, and the tests here, against that process.

    What a test is, is read from the course's source, never from what was handed in. A cell that takes
    longer than `timeout` seconds of processor time, or whose process dies, gets an error as its
    output. Then a new process is started, and the cells before it are run once more (such killers left
    out), so that the next cell finds what it needs.
    """

    timeout = Integer(120, help="Seconds of processor time that one cell may take.").tag(
        config=True
    )

    def preprocess(
        self, nb: NotebookNode, resources: dict[str, Any]
    ) -> tuple[NotebookNode, dict[str, Any]]:
        about = resources["nbgrader"]
        tests = {
            cell.metadata.nbgrader.grade_id: cell.source
            for cell in source_cells(self, about["assignment"], about["notebook"])
            if utils.is_grade(cell) and cell.cell_type == "code"
        }
        self._deadly: set[int] = set()  # cells that no later process should meet
        self._box = Box(kit())
        try:
            for number, cell in enumerate(nb.cells):
                if cell.cell_type == "code":
                    cell.execution_count = None
                    cell.outputs = self._outputs(nb, number, tests)
        finally:
            self._box.close()
        return nb, resources

    def _outputs(self, nb: NotebookNode, number: int, tests: dict[str, str]) -> list[NotebookNode]:
        cell = nb.cells[number]
        test = tests.get(cell.metadata.get("nbgrader", {}).get("grade_id"))
        try:
            self._prepare(nb, number, tests)
            if test is not None:
                return judge(self._box, test)
            return outputs_of(self._box.run(cell.source, self.timeout))
        except Stopped as error:
            self._deadly.add(number)
            return [stopped(error, self.timeout)]

    def _prepare(self, nb: NotebookNode, number: int, tests: dict[str, str]) -> None:
        """See that a process is there which knows what the cells before this one define."""
        while not self._box.running:
            self._box.start()
            for earlier, cell in enumerate(nb.cells[:number]):
                graded = cell.metadata.get("nbgrader", {}).get("grade_id") in tests
                if cell.cell_type != "code" or graded or earlier in self._deadly:
                    continue
                try:
                    self._box.run(cell.source, self.timeout)
                except Stopped:
                    self._deadly.add(earlier)
                    break
