"""What students handed in: which files are submissions, and what is said about all others."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from release import ASSIGNMENTS, GradingError

if TYPE_CHECKING:
    from nbformat import NotebookNode


@dataclass(frozen=True)
class Submission:
    """One file that was handed in."""

    student: str
    assignment: str
    path: Path


def find_submissions(where: Path) -> tuple[list[Submission], list[str]]:
    """The files in `where` that are submissions, and a sentence on each thing that is not.

    Taken are `student/assignment.ipynb` and `student/assignment/assignment.ipynb`.

    Raises:
        GradingError: there is no such folder, or nothing to grade in it.
    """
    if not where.is_dir():
        raise GradingError(
            f"There is no folder {where}; DIR should hold one folder for each student."
        )
    found: list[Submission] = []
    problems: list[str] = []
    for entry in sorted(where.iterdir()):
        if entry.name.startswith((".", "__MACOSX")):
            continue
        if not entry.is_dir():
            problems.append(
                f"{entry.name}: lies beside the students' folders; put it into the folder of one."
            )
            continue
        mine, wrong = _of_student(entry)
        found += mine
        problems += wrong
    if not found:
        tree = " or ".join(f"student/{form}" for form in ("NAME.ipynb", "NAME/NAME.ipynb"))
        told = "".join(f"\n  {problem}" for problem in problems)
        raise GradingError(
            f"Nothing to grade in {where}. Expected is {tree}, where NAME is one of "
            f"{', '.join(ASSIGNMENTS)}.{told}"
        )
    return found, problems


def _of_student(entry: Path) -> tuple[list[Submission], list[str]]:
    found, problems, known = [], [], set()
    for name in ASSIGNMENTS:
        forms = [entry / f"{name}.ipynb", entry / name / f"{name}.ipynb"]
        there = [path for path in forms if path.is_file()]
        known.update(forms)
        if len(there) == 2:
            problems.append(
                f"{entry.name}: {name} was handed in twice; graded is {name}.ipynb, not "
                f"{name}/{name}.ipynb."
            )
        if there:
            found.append(Submission(entry.name, name, there[0]))
    for path in sorted(entry.rglob("*.ipynb")):
        if path not in known and ".ipynb_checkpoints" not in path.parts:
            problems.append(
                f"{entry.name}: {path.relative_to(entry)} is not graded; its name should be "
                f"{' or '.join(f'{name}.ipynb' for name in ASSIGNMENTS)}."
            )
    if not found:
        problems.append(f"{entry.name}: handed in nothing that can be graded.")
    return found, problems


def readable(submission: Submission) -> tuple[NotebookNode, str]:
    """The notebook that was handed in, and a note; what cannot be read is graded as empty."""
    import nbformat

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # copied cells have ids twice; that is mended here
            text = submission.path.read_text(encoding="utf-8", errors="replace")
            notebook = nbformat.reads(json.dumps(_mended(json.loads(text))), as_version=4)
            _, notebook = nbformat.validator.normalize(notebook)
            nbformat.validate(notebook)
    except Exception as error:  # whatever somebody made of a file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return nbformat.v4.new_notebook(), f"no readable notebook, graded as empty: {reason}"
    if not any("nbgrader" in cell.metadata for cell in notebook.cells):
        return notebook, (
            "no cell carries nbgrader's marks: it is empty, or a program removed them; graded as "
            "empty"
        )
    return notebook, ""


def _mended(part: Any, key: str = "") -> Any:
    """JSON without half emojis, and with dictionaries where a notebook has metadata."""
    if key in ("metadata", "nbgrader") and not isinstance(part, dict):
        return {}
    if isinstance(part, dict):
        return {_mended(name): _mended(value, name) for name, value in part.items()}
    if isinstance(part, list):
        return [_mended(value) for value in part]
    return part.encode("utf-8", "replace").decode() if isinstance(part, str) else part
