"""`python -m kdutils`: what it prints, what it writes, and its exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdutils import pretrained
from kdutils.__main__ import build_parser, main
from kdutils.cli import shown
from kdutils.tools import execution, notebooks
from kdutils.tools.execution import NotebookFailed
from kdutils.tools.notebooks import NotebookError

BENCHMARK = [
    {
        "name": "teacher",
        "test_accuracy": [90.0, 91.0],
        "parameters": 1_000_000,
        "macs": 2_000_000,
        "size_mb": 4.0,
        "latency_ms": 3.0,
        "data": "shapes",
    }
]

PARSERS = build_parser()._subparsers._group_actions[0].choices
NAMES = tuple(PARSERS)


@pytest.fixture(autouse=True)
def course(own_folders: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two made-up notebooks take the place of the series; results go to a folder of their own."""
    folder = own_folders / "course" / "notebooks"
    (folder / "scripts").mkdir(parents=True)
    (folder / "scripts" / "01_one.py").write_text(
        "# %%\nimport os\nprint(os.environ['KDUTILS_PROFILE'], os.environ['KDUTILS_DATA'])\n"
    )
    (folder / "scripts" / "02_two.py").write_text("# %%\n1 / 0\n")
    monkeypatch.setattr(notebooks, "folder", lambda: folder)
    notebooks.sync(notebooks.scripts())
    monkeypatch.setattr("kdutils.cli.run.describe_data", lambda: "made-up data")
    return folder


def output_of(path: Path) -> str:
    return notebooks.read(path).cells[0].outputs[0].text.strip()


def test_run_says_what_it_wrote(
    course: Path, own_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrained.save_results("benchmark", BENCHMARK, "made-up data")
    assert main(["run", "--only", "01"]) == 0
    out = own_folders / "results" / "run" / "shapes-smoke"
    assert output_of(out / "01_one.ipynb") == "smoke shapes"
    assert (out / "01_one.html").exists() and (out / "timings.json").exists()
    table = (own_folders / "results" / "made-up-data-smoke" / "benchmark.md").read_text()
    assert "| teacher | 90.50" in table
    printed = capsys.readouterr().out
    assert "from an earlier one" in printed, "the table is not of this run"
    for piece in (table, str(out), "timings.json", "benchmark.md", "01_one"):
        assert piece in printed


def test_run_without_results_says_where_they_come_from(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["run", "--only", "01"]) == 0
    assert "notebook 06 makes it" in capsys.readouterr().out


def test_options_reach_the_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A relative folder too, though kernels run elsewhere."""
    (tmp_path / "My set").mkdir()
    monkeypatch.chdir(tmp_path)
    args = ["run", "--only", "01", "--profile", "class", "--data", "My set", "--out", "there"]
    assert main(args) == 0
    assert output_of(tmp_path / "there" / "01_one.ipynb") == f"class {tmp_path / 'My set'}"


def test_run_stops_at_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run"]) == 1
    error = capsys.readouterr().err
    assert "02_two.ipynb stopped in code cell 1 of 1: ZeroDivisionError" in error


def test_run_in_place(course: Path) -> None:
    assert main(["run", "--only", "01", "--in-place"]) == 0
    assert output_of(course / "01_one.ipynb") == "smoke shapes"


def test_sync(course: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (course / "scripts" / "02_two.py").write_text("# %%\n1 / 1\n")
    assert main(["notebooks", "sync"]) == 0
    assert notebooks.read(course / "02_two.ipynb").cells[0].source == "1 / 1"
    printed = capsys.readouterr().out
    assert "02_two.ipynb" in printed and "01_one.ipynb" not in printed


@pytest.mark.parametrize("args", [["run", "--only", "09"], ["notebooks", "sync", "--only", "09"]])
def test_a_notebook_that_is_not_there(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args) == 2
    assert "There is no notebook '09'; choose from 01_one, 02_two" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [(NotebookError("asked wrongly"), 2), (NotebookFailed("broke"), 1), (KeyboardInterrupt(), 130)],
)
def test_errors_end_in_a_sentence_and_a_code(
    error: BaseException,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(execution, "execute", fail)
    assert main(["run"]) == code
    assert capsys.readouterr().err.startswith("kdutils: ")


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise ValueError("a bug, not a wrong argument")

    monkeypatch.setattr(execution, "execute", fail)
    with pytest.raises(ValueError, match="a bug"):
        main(["run"])


@pytest.mark.parametrize("command", ["", *NAMES])
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help"] if command else ["--help"])
    printed = capsys.readouterr().out
    assert exit_.value.code == 0
    assert "python -m kdutils" in printed
    assert all(len(line) <= 100 for line in printed.splitlines())


def test_every_command_has_work_to_do() -> None:
    """A command without a function of its own would fail only when somebody calls it."""
    assert set(NAMES) == {
        "run", "data", "train", "bench", "notebooks", "readme", "long-runs", "pitfalls"
    }  # fmt: skip
    for parser in PARSERS.values():
        assert callable(parser.get_default("work"))


def program(*args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run it as a person does, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "kdutils", *args],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize(
    ("args", "variables", "said"),
    [
        (["run", "--profile", "big"], {}, "no profile 'big'; take one of smoke, class, full"),
        (["run"], {"KDUTILS_PROFILE": "big"}, "KDUTILS_PROFILE is 'big'"),
        (["run", "--data", "cifar11"], {}, "no data set named 'cifar11'"),
        (["data", "--data", "./not/there"], {}, "not/there"),
    ],
)
def test_what_is_not_there_is_one_sentence(
    args: list[str], variables: dict[str, str], said: str
) -> None:
    done = program(*args, **variables)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_no_command_is_a_usage_error() -> None:
    done = program()
    assert done.returncode == 2 and "usage" in done.stderr


def test_shown_is_relative_where_it_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shown(tmp_path / "a" / "b") == os.path.join("a", "b")
    assert shown(Path("/elsewhere")) == str(Path("/elsewhere"))
