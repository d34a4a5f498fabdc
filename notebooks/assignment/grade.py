"""The classroom assignment, for the instructor: release it, grade it. Thin wraps of nbgrader.

    make assignment           python notebooks/assignment/grade.py assignment
    make grade DIR=folder     python notebooks/assignment/grade.py grade folder [--again] ...

The assignment is written in `notebooks/assignment/scripts` (jupytext's py:percent format) and
generated into `notebooks/assignment/source`, where nbgrader expects it:

                              python notebooks/assignment/grade.py sync
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from release import GradingError, api_of, check, course_folder, release, sync
from sandbox.namespaces import walled
from submissions import Submission, find_submissions, readable

from kdutils.runtime.settings import settings
from kdutils.tools import notebooks

if TYPE_CHECKING:
    from nbformat import NotebookNode
    from nbgrader.apps.api import NbGraderAPI

WALLS = (
    "Each submission runs in namespaces of its own: no network, none of your files, limits on all."
)
NO_WALLS = (
    "WARNING: this system has no namespaces, so students' code runs as you, with your files and "
    "your network; see notebooks/assignment/README.md."
)
NOT_GRADED = "could not be graded; problems.txt beside marks.csv says why"


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


# --- grading ------------------------------------------------------------------------------------


def grade(
    where: Path, out: Path, *, timeout: int | None = None, again: bool = False
) -> tuple[list[Mark], list[str]]:
    """Grade all submissions in `where`. This RUNS the students' code, in `sandbox`.

    `out` gets `marks.csv`, `points.csv`, `feedback/<student>/<assignment>.html`, and `course`, an
    nbgrader course with the gradebook. What has not changed since the last time is not run again.

    Args:
        timeout: seconds of processor time for one cell; None is what `nbgrader_config.py` says.
        again: run everything anew. Marks that were given by hand stay.

    Returns:
        The marks, and what there is to say about files that were not graded.

    Raises:
        GradingError: there is nothing to grade, or nbgrader cannot go on.
    """
    found, problems = find_submissions(where)
    course = course_folder(out / "course")
    (out / "problems.txt").unlink(missing_ok=True)
    api = api_of(course, timeout)
    marks: list[Mark] = []
    try:
        for submission in found:
            began = time.perf_counter()
            notebook, note = readable(submission)
            try:
                ran = _autograde(api, course, submission, notebook, f"{timeout}", again)
                mark = _mark(api, submission, note)
                _copy_feedback(course, submission, out / "feedback")
            except Exception as error:  # one submission must not hold up a class
                with (out / "problems.txt").open("a", encoding="utf-8", errors="replace") as file:
                    file.write(f"{submission.path}\n{error}\n\n")
                problems.append(f"{submission.student}: {submission.assignment} {NOT_GRADED}")
                ran, mark = True, _unmarked(submission, NOT_GRADED)
            marks.append(mark)
            spent = f"{time.perf_counter() - began:.0f} s" if ran else "unchanged"
            print(f"  {len(marks):>3} of {len(found)}  {_line(mark)}  ({spent})", flush=True)
    finally:  # also when it is stopped: nobody vanishes from the tables
        waiting = [_waiting(api, submission) for submission in found[len(marks) :]]
        _write_marks([*marks, *waiting], out)
    return marks, problems


def _waiting(api: NbGraderAPI, submission: Submission) -> Mark:
    """The mark of somebody whose turn did not come: the one from before, if there is one."""
    try:
        return _mark(api, submission, "as marked before; grading was stopped before its turn")
    except Exception:
        return _unmarked(submission, "not graded yet: grading was stopped before its turn")


def _unmarked(submission: Submission, note: str) -> Mark:
    return Mark(submission.student, submission.assignment, 0.0, 0.0, 0, {}, note)


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
    stamp.unlink(missing_ok=True)
    notebooks.write(notebook, target)
    who = f"{student}, {assignment}"
    check(api.autograde(assignment, student), f"Autograding failed: {who}")
    check(api.generate_feedback(assignment, student), f"There is no feedback: {who}")
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
    parser = argparse.ArgumentParser(prog="grade.py", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("sync", help="write the source notebooks anew from their scripts")
    zero = commands.add_parser("course", help="make a course folder for nbgrader's own commands")
    zero.add_argument("folder", type=Path)
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
        elif given.command == "course":
            print(f"A course for nbgrader: {course_folder(given.folder.resolve())}")
        elif given.command == "assignment":
            _say_released(given.out or settings().results / "assignment")
        else:
            where = given.dir.resolve()
            out = given.out or where.with_name(f"{where.name}_graded")
            _say_graded(where, out, given.timeout, given.again)
    except (GradingError, notebooks.NotebookError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped. The marks so far are written; the same command goes on.", file=sys.stderr)
        return 130
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
    print(WALLS if walled() else NO_WALLS)
    _, problems = grade(where, out, timeout=timeout, again=again)
    for problem in problems:
        print(f"  ! {problem}")
    print(f"Marks: {out / 'marks.csv'} (by cell: points.csv)\nFeedback: {out / 'feedback'}")
    print(f"Answers in words are marked in formgrader: cd {out / 'course'} and run jupyter lab")


if __name__ == "__main__":
    from kdutils.cli.program import as_program  # Ctrl-C is one word, any terminal will do

    sys.exit(as_program(main))
