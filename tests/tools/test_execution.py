"""The runner does what it says: this Python, that folder, one clear end for what goes wrong."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from kdutils.tools import execution, notebooks
from kdutils.tools.execution import NotebookFailed
from kdutils.tools.notebooks import NotebookError


@pytest.fixture
def course(tmp_path: Path) -> Path:
    folder = tmp_path / "course" / "notebooks"
    (folder / "scripts").mkdir(parents=True)
    return folder


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def write_script(course: Path, *cells: str, name: str = "01_made_up") -> Path:
    script = course / "scripts" / f"{name}.py"
    script.write_text("\n\n".join(f"# %%\n{cell}" for cell in cells))
    notebooks.sync([script])
    return notebooks.notebook_of(script)


def test_runs_with_this_python_in_the_folder_of_the_notebook(
    course: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MADE_UP", "yes")
    path = write_script(
        course,
        "import os, sys\nsys.executable",
        "os.getcwd()",
        "os.environ['MADE_UP']",
        "for i in range(3):\n    print(f'\\r{i}', end='')",
    )
    before = path.read_bytes()
    (timing,) = execution.execute(
        [path], tmp_path / "out", about={"profile": "smoke"}
    )
    done = code_cells(notebooks.read(tmp_path / "out" / path.name))
    shown = [ast.literal_eval(cell.outputs[0].data["text/plain"]) for cell in done[:3]]
    assert shown == [sys.executable, str(course), "yes"]
    assert done[3].outputs[0].text.strip() == "2"
    assert path.read_bytes() == before, "the notebook itself must stay as it was"

    assert timing.cells == 4 and timing.seconds > 0
    written = json.loads((tmp_path / "out" / "timings.json").read_text())
    assert written["profile"] == "smoke"
    assert [row["name"] for row in written["notebooks"]] == ["01_made_up"]
    if sys.platform == "linux":
        assert 10 < timing.peak_memory_mb < 2000
    assert "<html" in (tmp_path / "out" / "01_made_up.html").read_text()


def test_stops_at_the_first_error_and_shows_the_cell(course: Path, tmp_path: Path) -> None:
    first = write_script(course, "x = 1", "y = 0\nx / y", "print('not reached')")
    second = write_script(course, "print('never')", name="02_later")
    with pytest.raises(NotebookFailed) as failure:
        execution.execute([first, second], tmp_path / "out")
    message = str(failure.value)
    assert message.startswith("01_made_up.ipynb stopped in code cell 2 of 3: ZeroDivisionError")
    assert "\nx / y\n" in message and "\x1b[" not in message
    assert (tmp_path / "out" / first.name).exists(), "as far as it came"
    assert not (tmp_path / "out" / second.name).exists()


def test_a_cell_that_takes_too_long(course: Path, tmp_path: Path) -> None:
    path = write_script(course, "import time\ntime.sleep(60)")
    with pytest.raises(NotebookFailed, match="took longer than 1 s"):
        execution.execute([path], tmp_path / "out", timeout=1)


def test_a_kernel_that_dies(course: Path, tmp_path: Path) -> None:
    path = write_script(course, "import os\nos._exit(3)")
    with pytest.raises(NotebookFailed, match="ended by itself"):
        execution.execute([path], tmp_path / "out")


def test_in_place_follows_the_script_and_keeps_the_outputs(course: Path, tmp_path: Path) -> None:
    path = write_script(course, "1 + 1")
    ids = [cell.id for cell in notebooks.read(path).cells]
    notebooks.script_of(path).write_text("# %%\n1 + 2\n")
    execution.execute([path], tmp_path / "out", in_place=True)
    (cell,) = notebooks.read(path).cells
    assert (cell.source, cell.outputs[0].data["text/plain"]) == ("1 + 2", "3")
    assert [cell.id] == ids
    assert notebooks.out_of_step(path) == ""
    nbformat.validate(notebooks.read(path))


def test_in_place_refuses_a_path_of_this_machine(course: Path, tmp_path: Path) -> None:
    path = write_script(course, "print('/ho' + 'me/ada/model')")
    before = path.read_bytes()
    with pytest.raises(NotebookError, match="/home/ada/model"):
        execution.execute([path], tmp_path / "out", in_place=True)
    assert path.read_bytes() == before
