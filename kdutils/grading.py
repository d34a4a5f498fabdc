"""The classroom assignment, for the instructor: release it, grade it. Thin wraps of nbgrader.

    make assignment           python -m kdutils.grading assignment
    make grade DIR=folder     python -m kdutils.grading grade folder [--timeout SECONDS] [--again]

The assignment is written in `notebooks/assignment/scripts` (jupytext's py:percent format) and
generated into `notebooks/assignment/source`, where nbgrader expects it:

                              python -m kdutils.grading sync
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import logging
import os
import shutil
import sys
import time
import warnings
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .runtime.settings import settings
from .tools import notebooks

if TYPE_CHECKING:
    from nbformat import NotebookNode
    from nbgrader.apps.api import NbGraderAPI

ASSIGNMENTS = ("distil_it", "find_the_bug")
CONFIG = "nbgrader_config.py"
NOT_GRADED = "could not be graded; problems.txt beside marks.csv says why"


class GradingError(RuntimeError):
    """Releasing or grading cannot go on; the message says why and what to do."""


@dataclass(frozen=True)
class Mark:
    """What one student got in one assignment.

    `cells` is grade cell -> (points, most points), in the order of the notebook; `open_answers` the
    number of text answers that nobody has marked yet (they count 0 until then); `note` says what
    was wrong with the file, if anything.
    """

    student: str
    assignment: str
    points: float
    most: float
    open_answers: int
    cells: dict[str, tuple[float, float]]
    note: str = ""


@dataclass(frozen=True)
class Submission:
    """One file that was handed in."""

    student: str
    assignment: str
    path: Path


# --- the assignment itself ----------------------------------------------------------------------


def folder() -> Path:
    """`notebooks/assignment` of this checkout."""
    return notebooks.folder() / "assignment"


def from_script(script: Path) -> NotebookNode:
    """The source notebook of an assignment's script, without outputs; cell ids count from 0."""
    import jupytext

    notebook = jupytext.read(script, fmt=notebooks.SCRIPT_FORMAT)
    # Not paired: a notebook that is handed out must not grow a script beside it.
    notebook.metadata = type(notebook)(
        {key: value for key, value in notebooks.METADATA.items() if key != "jupytext"}
    )
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"{script.stem.replace('_', '-')}-{number}"
    return notebook


def sync() -> list[Path]:
    """Write the source notebooks anew from their scripts. Returns what changed."""
    changed = []
    for name in ASSIGNMENTS:
        fresh = from_script(folder() / "scripts" / f"{name}.py")
        path = folder() / "source" / name / f"{name}.ipynb"
        if not path.exists() or notebooks.read(path) != fresh:
            notebooks.write(fresh, path)
            changed.append(path)
    return changed


# --- releasing ----------------------------------------------------------------------------------


def release(out: Path) -> list[Path]:
    """Write what students get into `out`: a folder for each assignment, and the package to install.

    Returns:
        The release notebooks. Solutions and hidden tests are cut out by nbgrader.

    Raises:
        GradingError: nbgrader refuses the source.
    """
    course = _course(out / ".course")
    released = []
    for name in ASSIGNMENTS:
        there = course / "release" / name / f"{name}.ipynb"
        target = out / name / there.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(there, target)
        released.append(target)
    shutil.rmtree(course)
    _pack(out / "kdutils.zip")
    shutil.copyfile(folder() / "FOR_STUDENTS.md", out / "README.md")
    return released


def _pack(path: Path) -> None:
    """The package as one file that `pip install` takes. It holds no solution notebook and no test."""
    root = notebooks.folder().parent
    files = [root / name for name in ("pyproject.toml", "LICENSE")]
    files += [
        path
        for path in sorted((root / "kdutils").rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".lock"
    ]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, Path("kdutils") / file.relative_to(root))


def _course(root: Path) -> Path:
    """A course folder as nbgrader wants it, in which both assignments are generated.

    A gradebook that is there already stays, with all marks that were given by hand.
    """
    root.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder() / CONFIG, root / CONFIG)
    for name in ASSIGNMENTS:
        for part in ("source", "release"):
            shutil.rmtree(root / part / name, ignore_errors=True)
        shutil.copytree(folder() / "source" / name, root / "source" / name)
        _check(_api(root).generate_assignment(name), f"nbgrader did not accept {name}")
    return root


def _api(root: Path, timeout: int | None = None) -> NbGraderAPI:
    """nbgrader's own interface to the course in `root`."""
    # It calls `alembic` by name; that lies beside this Python, which need not be on PATH.
    programs = str(Path(sys.executable).parent)
    if programs not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([programs, os.environ.get("PATH", "")])
    try:
        from nbgrader.apps.api import NbGraderAPI
        from nbgrader.coursedir import CourseDirectory
        from sqlalchemy.exc import SAWarning
        from traitlets.config import PyFileConfigLoader
        from traitlets.log import get_logger
    except ModuleNotFoundError as error:
        raise GradingError(
            "nbgrader is not installed: run `make setup`, or pip install 'kdutils[assignment]'."
        ) from error
    # What it has to say it returns as well. SQLAlchemy 2 remarks on objects that nbgrader touches
    # before their session; nothing is lost.
    log = get_logger()
    log.propagate = False
    log.addHandler(logging.NullHandler())
    warnings.filterwarnings("ignore", module="nbgrader", category=SAWarning)
    config = PyFileConfigLoader(CONFIG, path=str(root)).load_config()
    if timeout is not None:
        config.ExecuteTasks.timeout = timeout
    config.CourseDirectory.root = str(root)
    return NbGraderAPI(CourseDirectory(config=config), config=config)


def _check(result: dict[str, Any], what: str) -> None:
    if not result["success"]:
        raise GradingError(f"{what}:\n{result.get('log', '')}\n{result.get('error', '')}".strip())


# --- what was handed in -------------------------------------------------------------------------


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


def _readable(submission: Submission) -> tuple[NotebookNode, str]:
    """The notebook that was handed in, and a note; what cannot be read is graded as empty."""
    import nbformat

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # copied cells have ids twice; that is mended here
            notebook = notebooks.read(submission.path)
            _, notebook = nbformat.validator.normalize(notebook)
            nbformat.validate(notebook)
    except (notebooks.NotebookError, nbformat.ValidationError, OSError) as error:
        reason = str(error).splitlines()[0]
        return nbformat.v4.new_notebook(), f"no readable notebook, graded as empty: {reason}"
    if not any("nbgrader" in cell.metadata for cell in notebook.cells):
        return notebook, (
            "no cell carries nbgrader's marks: it is empty, or a program removed them; graded as "
            "empty"
        )
    return notebook, ""


# --- grading ------------------------------------------------------------------------------------


def grade(
    where: Path, out: Path, *, timeout: int | None = None, again: bool = False
) -> tuple[list[Mark], list[str]]:
    """Grade all submissions in `where`. This RUNS the students' code, as the user who calls it.

    `out` gets `marks.csv`, `points.csv`, `feedback/<student>/<assignment>.html`, and `course`, an
    nbgrader course with the gradebook. What has not changed since the last time is not run again.

    Args:
        timeout: seconds for one cell; None is what `nbgrader_config.py` says.
        again: run everything anew. Marks that were given by hand stay.

    Returns:
        The marks, and what there is to say about files that were not graded.

    Raises:
        GradingError: there is nothing to grade, or nbgrader cannot go on.
    """
    found, problems = find_submissions(where)
    course = _course(out / "course")
    (out / "problems.txt").unlink(missing_ok=True)
    api = _api(course, timeout)
    marks = []
    for number, submission in enumerate(found, 1):
        began = time.perf_counter()
        notebook, note = _readable(submission)
        try:
            ran = _autograde(api, course, submission, notebook, f"{timeout}", again)
        except GradingError as error:  # one submission must not hold up a class
            with (out / "problems.txt").open("a", encoding="utf-8") as file:
                file.write(f"{error}\n\n")
            problems.append(f"{submission.student}: {submission.assignment} {NOT_GRADED}")
            continue
        mark = _mark(api, submission, note)
        marks.append(mark)
        _copy_feedback(course, submission, out / "feedback")
        spent = f"{time.perf_counter() - began:.0f} s" if ran else "unchanged"
        print(f"  {number:>3} of {len(found)}  {_line(mark)}  ({spent})", flush=True)
    _write_marks(marks, out)
    return marks, problems


def _autograde(
    api: NbGraderAPI,
    course: Path,
    submission: Submission,
    notebook: NotebookNode,
    setting: str,
    again: bool,
) -> bool:
    """Run nbgrader's autograde and feedback, unless this very file has been graded before."""
    student, assignment = submission.student, submission.assignment
    target = course / "submitted" / student / assignment / f"{assignment}.ipynb"
    stamp = course / "graded" / student / assignment
    source = course / "source" / assignment / f"{assignment}.ipynb"
    digest = _digest([repr(notebook), source.read_text(encoding="utf-8"), setting])
    if not again and stamp.exists() and stamp.read_text() == digest:
        return False
    notebooks.write(notebook, target)
    who = f"{student}, {assignment}"
    _check(api.autograde(assignment, student), f"Autograding failed: {who}")
    _check(api.generate_feedback(assignment, student), f"There is no feedback: {who}")
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(digest)
    return True


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def _mark(api: NbGraderAPI, submission: Submission, note: str) -> Mark:
    with api.gradebook as gradebook:
        graded = gradebook.find_submission(submission.assignment, submission.student)
        grades = {grade.name: grade for book in graded.notebooks for grade in book.grades}
        source = api.coursedir.format_path("source", ".", submission.assignment)
        cells = notebooks.read(Path(source) / f"{submission.assignment}.ipynb").cells
        order = [cell.metadata.get("nbgrader", {}).get("grade_id") for cell in cells]
        names = [name for name in order if name in grades]
        return Mark(
            submission.student,
            submission.assignment,
            graded.score,
            graded.max_score,
            sum(grade.needs_manual_grade for grade in grades.values()),
            {name: (grades[name].score, grades[name].max_score) for name in names},
            note,
        )


def _copy_feedback(course: Path, submission: Submission, to: Path) -> None:
    student, assignment = submission.student, submission.assignment
    there = course / "feedback" / student / assignment / f"{assignment}.html"
    (to / student).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(there, to / student / there.name)


def _write_marks(marks: Sequence[Mark], out: Path) -> None:
    """`marks.csv`: a row for each student and assignment; `points.csv`: for each graded cell."""
    with (out / "marks.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["student", "assignment", "points", "most", "answers_to_mark", "note"])
        for m in marks:
            writer.writerow([m.student, m.assignment, m.points, m.most, m.open_answers, m.note])
    with (out / "points.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["student", "assignment", "cell", "points", "most"])
        for m in marks:
            for cell, (points, most) in m.cells.items():
                writer.writerow([m.student, m.assignment, cell, points, most])


def _line(mark: Mark) -> str:
    open_answers = f", {mark.open_answers} answers to mark" if mark.open_answers else ""
    note = f" ({mark.note})" if mark.note else ""
    name = f"{mark.student}, {mark.assignment}"
    return f"{name:<36} {mark.points:g} of {mark.most:g}{open_answers}{note}"


# --- commands -----------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m kdutils.grading", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("sync", help="write the source notebooks anew from their scripts")
    one = commands.add_parser("assignment", help="generate what students get")
    one.add_argument("--out", type=Path, help="where to (default: results/assignment)")
    two = commands.add_parser("grade", help="grade a folder of submissions (runs students' code)")
    two.add_argument("dir", type=Path, help="holds student/assignment.ipynb")
    two.add_argument("--out", type=Path, help="where to (default: DIR with _graded at its end)")
    two.add_argument("--timeout", type=_seconds, help="seconds that one cell may take")
    two.add_argument("--again", action="store_true", help="also what has not changed")
    given = parser.parse_args(arguments)
    try:
        if given.command == "sync":
            for path in sync():
                print(f"written: {path.name}")
        elif given.command == "assignment":
            _say_released(given.out or settings().results / "assignment")
        else:
            where = given.dir.resolve()
            out = given.out or where.with_name(f"{where.name}_graded")
            _say_graded(where, out, given.timeout, given.again)
    except (GradingError, notebooks.NotebookError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _seconds(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, 1 or more")
    return int(text)


def _say_released(out: Path) -> None:
    for path in release(out):
        print(f"  {path.relative_to(out)}")
    print(f"Without solutions and hidden tests, ready to hand out: {out}")


def _say_graded(where: Path, out: Path, timeout: int | None, again: bool) -> None:
    print("This runs the students' code as you: see the warning in notebooks/assignment/README.md.")
    _, problems = grade(where, out, timeout=timeout, again=again)
    for problem in problems:
        print(f"  ! {problem}")
    print(f"Marks: {out / 'marks.csv'} (by cell: points.csv)\nFeedback: {out / 'feedback'}")
    print(f"Answers in words are marked in formgrader: cd {out / 'course'} and run jupyter lab")


if __name__ == "__main__":
    sys.exit(main())
