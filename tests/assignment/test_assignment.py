"""The classroom assignment: what is handed out, what the checks say, and what each mistake costs.

Grading is tested through nbgrader itself, with every wrong submission in a few runs, because each
run of a notebook costs seconds.
"""

from __future__ import annotations

import csv
import json
import os
import re
import zipfile
from pathlib import Path

import nbformat
import pytest
from assignment_faults import DISTIL_IT, FIND_THE_BUG, HANGS, Wrong, find
from grade import Mark, grade, main
from nbformat import NotebookNode
from release import ASSIGNMENTS, GradingError, api_of, check, folder, from_script, release
from submissions import Submission, find_submissions, readable

from kdutils.tools import notebooks

# One test pays for all of the grading: some three minutes on a free core, more on a busy one.
pytestmark = pytest.mark.timeout(1500)
HANG_SECONDS = 20
BY_HAND = {"distil_it": {"task7_text", "task8_text"}, "find_the_bug": {"alarm_text"}}


def reference(assignment: str) -> NotebookNode:
    return notebooks.read(folder() / "source" / assignment / f"{assignment}.ipynb")


def hand_in(where: Path, student: str, assignment: str, notebook: NotebookNode) -> None:
    notebooks.write(notebook, where / student / f"{assignment}.ipynb")


# --- sources --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_source_and_script_are_in_step(name: str) -> None:
    fresh = from_script(folder() / "scripts" / f"{name}.py")
    assert reference(name) == fresh, "run: python notebooks/assignment/grade.py sync"


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_points_add_up_to_what_the_students_are_told(name: str) -> None:
    notebook = reference(name)
    cells = [cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade")]
    points = sum(cell.metadata.nbgrader.points for cell in cells)
    by_hand = sum(c.metadata.nbgrader.points for c in cells if c.cell_type == "markdown")
    told = re.search(r"\*\*Points:\*\* (\d+), of which (\d+) .* (\d+)", notebook.cells[0].source)
    assert told and [int(group) for group in told.groups()] == [points, points - by_hand, by_hand]
    readme = (folder() / "README.md").read_text()
    assert f"{points} points" in readme


# --- release --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("released")
    release(out)
    return out


def secrets(notebook: NotebookNode) -> set[str]:
    """The lines between the marks of solutions and hidden tests, and model answers."""
    lines: set[str] = set()
    for cell in notebook.cells:
        inside = cell.cell_type == "markdown" and "nbgrader" in cell.metadata
        for line in cell.source.splitlines():
            if re.search(r"BEGIN (SOLUTION|HIDDEN TESTS)", line):
                inside = True
            elif re.search(r"END (SOLUTION|HIDDEN TESTS)", line):
                inside = False
            elif inside:
                lines.add(line.strip())
    return lines


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_no_solution_and_no_hidden_test_is_released(released: Path, name: str) -> None:
    given = {
        line.strip()
        for cell in reference(name).cells
        for line in re.sub(
            r"### BEGIN (SOLUTION|HIDDEN TESTS).*?### END \1", "", cell.source, flags=re.DOTALL
        ).splitlines()
        if not (cell.cell_type == "markdown" and "nbgrader" in cell.metadata)
    }
    hidden = {line for line in secrets(reference(name)) - given if len(line) > 12}
    assert len(hidden) > 60, "this test should have found the secrets"
    notebook = notebooks.read(released / name / f"{name}.ipynb")
    lines = {line.strip() for cell in notebook.cells for line in cell.source.splitlines()}
    assert not hidden & lines
    text = (released / name / f"{name}.ipynb").read_text()
    for word in ("BEGIN SOLUTION", "HIDDEN TESTS", "model answer"):
        assert word not in text
    assert "jupytext" not in notebook.metadata, "a release notebook must not be paired"


def test_the_package_that_students_get_holds_no_hidden_test(released: Path) -> None:
    hidden = set().union(*(secrets(reference(name)) for name in ASSIGNMENTS))
    tests = {line for line in hidden if line.startswith("assert ") and len(line) > 30}
    assert len(tests) > 20
    with zipfile.ZipFile(released / "kdutils.zip") as archive:
        names = archive.namelist()
        text = "\n".join(archive.read(n).decode() for n in names if n.endswith(".py"))
    assert "kdutils/pyproject.toml" in names and "kdutils/kdutils/losses.py" in names
    for name in ASSIGNMENTS:
        beside = sorted((released / name / "checks").glob("*.py"))
        assert "distil.py" in {path.name for path in beside}, "checks travel with the notebook"
        text += "\n".join(path.read_text() for path in beside)
    assert not any(name.endswith(".ipynb") for name in names)
    assert not [line for line in tests if line in text]


# --- grading --------------------------------------------------------------------------------------

Marks = dict[tuple[str, str], Mark]


def by_name(marks: list[Mark]) -> Marks:
    return {(mark.student, mark.assignment): mark for mark in marks}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, released: Path) -> tuple[Path, Path]:
    """What a class hands in, and where its marks go."""
    where = tmp_path_factory.mktemp("monday")
    for name in ASSIGNMENTS:
        hand_in(where, "reference", name, reference(name))
        hand_in(where, "untouched", name, notebooks.read(released / name / f"{name}.ipynb"))
    (where / "broken_file").mkdir()
    (where / "broken_file" / "find_the_bug.ipynb").write_text('{"cells": [{"cell_ty')
    for name, wrongs in (("distil_it", DISTIL_IT), ("find_the_bug", FIND_THE_BUG)):
        for wrong in wrongs:
            hand_in(where, wrong.student, name, wrong.of(reference(name)))
    return where, where.with_name("marks")


@pytest.fixture(scope="module")
def marks(folders: tuple[Path, Path]) -> Marks:
    where, out = folders
    with pytest.MonkeyPatch.context() as patch:
        # As after `make`: nbgrader's helpers are found although .venv/bin is not on PATH.
        patch.setenv("PATH", os.defpath)
        graded, problems = grade(where, out)
    assert problems == []
    return by_name(graded)


def automatic(mark: Mark) -> dict[str, tuple[float, float]]:
    return {k: v for k, v in mark.cells.items() if k not in BY_HAND[mark.assignment]}


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_the_reference_earns_every_point(marks: Marks, name: str) -> None:
    mark = marks["reference", name]
    assert all(points == most for points, most in automatic(mark).values()), mark
    assert mark.open_answers == len(BY_HAND[name]), "answers in words wait for a person"
    assert mark.note == ""


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_the_reference_runs_without_an_error(
    marks: Marks, folders: tuple[Path, Path], name: str
) -> None:
    course = folders[1] / "course"
    ran = notebooks.read(course / "autograded" / "reference" / name / f"{name}.ipynb")
    outputs = [out for cell in ran.cells for out in cell.get("outputs", [])]
    assert [out for out in outputs if out.output_type == "error"] == []
    pictures = [out for out in outputs if "image/png" in out.get("data", {})]
    assert len(pictures) == (1 if name == "distil_it" else 0)


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_an_untouched_submission_earns_nothing(marks: Marks, name: str) -> None:
    mark = marks["untouched", name]
    assert (mark.points, mark.open_answers) == (0, 0)
    assert set(mark.cells) == set(marks["reference", name].cells)


def test_a_file_that_is_no_notebook_earns_nothing_and_says_so(marks: Marks) -> None:
    mark = marks["broken_file", "find_the_bug"]
    assert mark.points == 0 and "no readable notebook" in mark.note
    assert set(mark.cells) == set(marks["reference", "find_the_bug"].cells)


def check_losses(wrong: Wrong, mark: Mark) -> None:
    cells = automatic(mark)
    lost = {cell for cell, (points, _) in cells.items() if points == 0}
    partial = {c: (p, m) for c, (p, m) in cells.items() if 0 < p < m}
    assert wrong.lost <= set(cells), "a fault names a cell that does not exist"
    assert lost == wrong.lost, f"{wrong.student}: {[fault.name for fault in wrong.faults]}"
    assert not partial


@pytest.mark.parametrize("wrong", DISTIL_IT, ids=lambda wrong: wrong.student)
def test_mistakes_cost_their_points_and_no_others(marks: Marks, wrong: Wrong) -> None:
    check_losses(wrong, marks[wrong.student, "distil_it"])


@pytest.mark.parametrize("wrong", FIND_THE_BUG, ids=lambda wrong: wrong.student)
def test_loops_are_judged_by_behaviour(marks: Marks, wrong: Wrong) -> None:
    check_losses(wrong, marks[wrong.student, "find_the_bug"])


def test_a_cell_that_hangs_costs_only_its_task(tmp_path: Path) -> None:
    (wrong,) = HANGS
    hand_in(tmp_path / "in", wrong.student, "distil_it", wrong.of(reference("distil_it")))
    graded, _ = grade(tmp_path / "in", tmp_path / "out", timeout=HANG_SECONDS)
    check_losses(wrong, graded[0])
    page = (tmp_path / "out" / "feedback" / wrong.student / "distil_it.html").read_text()
    assert f"stopped after {HANG_SECONDS} seconds" in page
    assert len(page) < 3_000_000, "endless printing is cut off"


def test_tables_and_feedback(marks: Marks, folders: tuple[Path, Path]) -> None:
    _, out = folders
    rows = list(csv.DictReader((out / "marks.csv").read_text().splitlines()))
    assert {(row["student"], row["assignment"]) for row in rows} == set(marks)
    for row in rows:
        mark = marks[row["student"], row["assignment"]]
        assert float(row["points"]) == mark.points == sum(p for p, _ in mark.cells.values())
        assert float(row["most"]) == mark.most
        page = (out / "feedback" / row["student"] / f"{row['assignment']}.html").read_text()
        text = re.sub(r"<[^>]*>", "", page)
        for word in ("BEGIN HIDDEN", "END HIDDEN", ".strip().lower() =="):
            assert word not in text, f"{word} in the feedback of {mark.student}"
    points = list(csv.DictReader((out / "points.csv").read_text().splitlines()))
    assert len(points) == sum(len(mark.cells) for mark in marks.values())


def test_again_gives_the_same_marks_and_keeps_those_given_by_hand(
    marks: Marks, folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where, out = folders
    few = tmp_path / "few"
    for student in ("reference", "ben"):
        hand_in(few, student, "distil_it", notebooks.read(where / student / "distil_it.ipynb"))
    with api_of(out / "course").gradebook as gradebook:
        text = gradebook.find_grade("task7_text", "distil_it", "distil_it", "reference")
        text.manual_score, text.needs_manual_grade = 3, False
        gradebook.db.commit()
    capsys.readouterr()
    grade(few, out)
    assert capsys.readouterr().out.count("(unchanged)") == 2, "nothing changed, nothing is run"
    again = by_name(grade(few, out, again=True)[0])
    for key, mark in again.items():
        assert automatic(mark) == automatic(marks[key])
    assert again["reference", "distil_it"].cells["task7_text"] == (3, 4)
    assert again["reference", "distil_it"].points == marks["reference", "distil_it"].points + 3


# --- what is taken as a submission ----------------------------------------------------------------


def test_both_layouts_are_taken_and_everything_else_is_named(tmp_path: Path) -> None:
    for path in (
        "ada/distil_it.ipynb",
        "ben/find_the_bug/find_the_bug.ipynb",
        "cleo/distil_it.ipynb",
        "cleo/distil_it/distil_it.ipynb",
        "dan/distil_it (1).ipynb",
        "eve.ipynb",
        "ada/.ipynb_checkpoints/distil_it-checkpoint.ipynb",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    found, problems = find_submissions(tmp_path)
    assert [(one.student, one.assignment) for one in found] == [
        ("ada", "distil_it"),
        ("ben", "find_the_bug"),
        ("cleo", "distil_it"),
    ]
    told = "\n".join(problems)
    for words in (
        "cleo: distil_it was handed in twice",
        "dan: distil_it (1).ipynb is not graded; its name should be distil_it.ipynb",
        "dan: handed in nothing that can be graded",
        "eve.ipynb: lies beside the students' folders",
    ):
        assert words in told
    assert len(problems) == 4


def test_one_odd_file_does_not_end_the_class(tmp_path: Path) -> None:
    """Half an emoji is mended, metadata that is a list dropped; what is beyond help is empty."""
    text = json.dumps(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("HERE")]))
    for name, odd in (
        ("half", text.replace("HERE", "\\ud83d")),
        ("list", text.replace('"metadata": {}', '"metadata": [1]')),
        ("latin", text.replace("HERE", "\xe9")),
        ("deep", "[" * 100_000),
        ("number", "17"),
        ("cells", '{"cells": [3], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'),
    ):
        path = tmp_path / f"{name}.ipynb"
        path.write_bytes(odd.encode("latin-1"))
        notebook, note = readable(Submission("ada", "distil_it", path))
        notebooks.write(notebook, tmp_path / "again.ipynb")
        assert note
        assert len(notebook.cells) == (1 if name in ("half", "list", "latin") else 0), name


@pytest.mark.parametrize(
    "error", [RuntimeError("no"), KeyboardInterrupt()], ids=["fails", "stopped"]
)
def test_nobody_vanishes_from_the_marks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    for student in ("ada", "ben", "cleo"):
        hand_in(tmp_path / "in", student, "distil_it", nbformat.v4.new_notebook())

    def autograde(api: object, course: object, submission: Submission, *rest: object) -> bool:
        if submission.student == "ben":
            raise error
        return True

    monkeypatch.setattr("grade._autograde", autograde)
    monkeypatch.setattr("grade._copy_feedback", lambda *_: None)
    monkeypatch.setattr(
        "grade._mark", lambda api, one, note: Mark(one.student, one.assignment, 5, 40, 0, {}, note)
    )
    out = tmp_path / "out"
    code = main(["grade", str(tmp_path / "in"), "--out", str(out)])
    rows = list(csv.DictReader((out / "marks.csv").read_text().splitlines()))
    assert [row["student"] for row in rows] == ["ada", "ben", "cleo"]
    stopped = isinstance(error, KeyboardInterrupt)
    assert code == (130 if stopped else 0)
    assert ("stopped before its turn" if stopped else "could not be graded") in rows[1]["note"]


def test_nbgrader_does_not_keep_ctrl_c_to_itself() -> None:
    with pytest.raises(KeyboardInterrupt):
        check({"success": False, "error": "Traceback ...\nKeyboardInterrupt\n"}, "grading failed")
    with pytest.raises(GradingError, match="grading failed"):
        check({"success": False, "error": "ValueError: 3"}, "grading failed")


def test_nothing_to_grade(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["grade", str(tmp_path / "nowhere")]) == 1
    assert "There is no folder" in capsys.readouterr().err
    assert main(["grade", str(tmp_path)]) == 1
    assert "Expected is student/NAME.ipynb or student/NAME/NAME.ipynb" in capsys.readouterr().err
    with pytest.raises(GradingError, match="Nothing to grade"):
        find_submissions(tmp_path)
    with pytest.raises(SystemExit):
        main(["grade", str(tmp_path), "--timeout", "0"])
    assert "not a number of seconds" in capsys.readouterr().err


def test_the_broken_files_helper_breaks_what_it_says() -> None:
    """Each fault changes the reference, and only in the cells that it names."""
    for name, wrongs in (("distil_it", (*DISTIL_IT, *HANGS)), ("find_the_bug", FIND_THE_BUG)):
        for wrong in wrongs:
            for fault in wrong.faults:
                notebook = reference(name)
                fault.apply(notebook)
                nbformat.validate(notebook)
                assert notebook != reference(name), fault.name
    assert find(reference("distil_it"), "setup")
