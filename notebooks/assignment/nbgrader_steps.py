"""What the course adds to nbgrader's autograder (see `notebooks/assignment`).

nbgrader loses a whole submission when a kernel dies or when a cell was deleted together with the
one before it. Here such things cost the points of the task they belong to, and no others:

    RestoreCells   puts back what a student deleted, and every cell's grading data as it was released
    ExecuteTasks   runs the cells; one that hangs or kills its kernel fails alone

    ClearTestsFromFeedback   keeps hidden tests out of what students get back

They are named in `nbgrader_config.py`, so that plain `nbgrader autograde` and formgrader use them too.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat.notebooknode import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output
from nbgrader import utils
from nbgrader.api import Gradebook
from nbgrader.nbgraderformat import MetadataValidator
from nbgrader.preprocessors import ClearHiddenTests, Execute, NbGraderPreprocessor
from traitlets import Integer

from kdutils.tools.execution import ThisPython

SCHEMA = MetadataValidator.schema_version
MOST_TEXT = 200_000  # characters of printed text kept of one cell

# `exit()` would end the kernel a moment later, and the next cell would be blamed for it.
_PRELUDE = """
def _no_exit(*_):
    raise SystemExit("exit")
get_ipython().ask_exit = _no_exit
del _no_exit
"""

# Before each test: its tools as they are on disk, whatever the notebook has done to them.
_FRESH_CHECKS = """
def _fresh():
    import sys
    for name in [name for name in sys.modules if name.partition(".")[0] == "checks"]:
        del sys.modules[name]
_fresh()
del _fresh
"""


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
        order = self._order(about["assignment"], about["notebook"])
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

    def _order(self, assignment: str, notebook: str) -> list[str]:
        """The names of the cells as they follow each other; the gradebook does not keep that."""
        course = self.parent.parent.coursedir  # of the exporter of the autograder
        folder = course.format_path(course.source_directory, ".", assignment)
        cells = nbformat.read(Path(folder) / f"{notebook}.ipynb", as_version=4).cells
        return [cell.metadata.nbgrader.grade_id for cell in cells if "nbgrader" in cell.metadata]


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


class ExecuteTasks(Execute):
    """Runs a notebook so that no cell can take others down with it.

    A cell that takes longer than `timeout` seconds, or whose kernel dies, gets an error as its
    output. Then a new kernel is started, and the cells before it are run once more (tests and
    such killers left out), so that the next cell finds what it needs.
    """

    timeout = Integer(120, allow_none=True, help="Seconds that one cell may take.").tag(config=True)
    iopub_timeout = Integer(60, help="Seconds to wait for a cell's last output.").tag(config=True)

    def preprocess(
        self, nb: NotebookNode, resources: Any = None, km: Any = None
    ) -> tuple[NotebookNode, Any]:
        self.kernel_manager_class = ThisPython  # this Python, whatever "python3" names here
        self.interrupt_on_timeout = False  # a loop can swallow an interrupt; a kill it cannot
        self.shutdown_kernel = "immediate"
        # Not its remark that a kernel on this machine is talked to without encryption.
        self.extra_arguments = ["--IPKernelApp.log_level=ERROR"]
        self._ready, self._kernels = False, 0
        self._deadly: set[int] = set()  # cells that no later kernel should meet
        return super().preprocess(nb, resources, km)

    def preprocess_cell(
        self, cell: NotebookNode, resources: Any, index: int
    ) -> tuple[NotebookNode, Any]:
        if cell.cell_type != "code":
            return cell, resources
        self._printed = 0
        try:
            self._prepare(index)
            if utils.is_grade(cell):
                self._say(_FRESH_CHECKS, None)
            cell, resources = super().preprocess_cell(cell, resources, index)
        except (DeadKernelError, CellTimeoutError) as error:
            self._deadly.add(index)
            self._ready = False
            name, reason = _what_happened(error, self.timeout)
            cell.outputs = [
                *cell.outputs,
                new_output("error", ename=name, evalue=reason, traceback=[f"{name}: {reason}"]),
            ]
        if utils.is_grade(cell):
            _tidy_graded(cell)
        return cell, resources

    def process_message(self, msg: dict[str, Any], cell: NotebookNode, cell_index: int) -> Any:
        """As in nbclient, but a cell that prints without end does not fill the memory."""
        if msg["msg_type"] == "stream":
            room = max(0, MOST_TEXT - self._printed)
            self._printed += len(msg["content"]["text"])
            msg["content"]["text"] = msg["content"]["text"][:room]
            if not room:
                return None
        return super().process_message(msg, cell, cell_index)

    def _prepare(self, index: int) -> None:
        """See that a kernel is there which knows what the cells before `index` define.

        The first kernel starts before the first code cell, when there is nothing to repeat.
        """
        while not self._ready:
            if self._kernels:
                self._new_kernel()
            self._kernels += 1
            self._ready = self._say(_PRELUDE, None) and all(
                self._replay(number) for number in range(index)
            )

    def _replay(self, number: int) -> bool:
        """Run an earlier cell, silently. False: it killed the kernel, and is left out from now on."""
        cell = self.nb.cells[number]
        if cell.cell_type != "code" or utils.is_grade(cell) or number in self._deadly:
            return True
        if self._say(cell.source, cell):
            return True
        self._deadly.add(number)
        return False

    def _say(self, source: str, cell: NotebookNode | None) -> bool:
        try:
            self.wait_for_reply(self.kc.execute(source, store_history=False), cell)
        except (DeadKernelError, CellTimeoutError):
            return False
        return True

    def _new_kernel(self) -> None:
        self._cleanup_kernel()
        self.km = self.create_kernel_manager()
        self.start_new_kernel()
        self.start_new_kernel_client()


def _what_happened(error: Exception, timeout: int | None) -> tuple[str, str]:
    if isinstance(error, CellTimeoutError):
        return (
            "TimeLimit",
            f"this cell was stopped after {timeout} seconds. Is there an endless loop?",
        )
    return "KernelDied", (
        "this cell ended the Python process: by os._exit, a crash, or for lack of memory. The cells "
        "after it ran in a new one."
    )


def _tidy_graded(cell: NotebookNode) -> None:
    """Keep hidden tests out of tracebacks, and warnings from costing points.

    nbgrader takes any text on the error stream for a failed test; a warning or a progress bar is
    none. Nothing is hidden that way: the text stays, as ordinary output.
    """
    hidden = _hidden_lines(cell.source)
    for output in cell.outputs:
        if output.output_type == "stream":
            output.name = "stdout"
        elif output.output_type == "error":
            said = f"{output.ename}: {output.evalue}"
            # A frame of the test shows the lines around it; those of the student's code may stay.
            frames = [] if output.ename in ("AssertionError", "NotYet") else output.traceback[:-1]
            output.traceback = [*(f for f in frames if not _shows(f, hidden)), said]


def _hidden_lines(source: str) -> list[str]:
    """The lines of a test that students must not read, its marks among them."""
    parts = re.findall(r"### BEGIN HIDDEN TESTS.*?### END HIDDEN TESTS", source, flags=re.DOTALL)
    lines = [line.strip() for part in parts for line in part.splitlines()]
    return [line for line in lines if len(line) > 10]


def _shows(frame: str, lines: list[str]) -> bool:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", frame)
    return any(line in plain for line in lines)
