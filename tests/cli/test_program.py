"""How every command ends: in one sentence and a code, on any terminal, at any moment."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from kdutils.__main__ import main
from kdutils.cli import Stop, output_file, output_folder, program
from kdutils.tools import execution

NAMES = ("", *program.build_parser()._subparsers._group_actions[0].choices)
SIGNS = "… – − · ± × → µ é 学 █"


class Terminal(io.TextIOWrapper):
    """A terminal that knows only the signs of `encoding`."""

    def __init__(self, encoding: str) -> None:
        super().__init__(io.BytesIO(), encoding=encoding)

    @property
    def text(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode(self.encoding)


# --- encodings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437", "cp932", "utf-8"])
def test_signs_that_a_terminal_lacks_become_plain_ones(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, err = Terminal(encoding), Terminal(encoding)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)

    def work() -> int:
        print(SIGNS)
        raise Stop(SIGNS)

    assert program.as_program(work) == 2
    assert err.text.strip() == f"kdutils: {out.text.strip()}"
    written = out.text.split()
    assert len(written) == len(SIGNS.split())
    for sign, shown in zip(SIGNS.split(), written, strict=True):
        try:
            sign = sign.encode(encoding).decode(encoding)
        except UnicodeEncodeError:
            assert re.fullmatch(r"[\x20-\x7e]+", shown), shown
        else:
            assert shown == sign
    if encoding == "ascii":
        assert written == ["...", "-", "-", "-", "+/-", "x", "->", "?", "e", "?", "#"]


@pytest.mark.parametrize("name", NAMES)
def test_help_of_every_command_on_a_poor_terminal(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Terminal("ascii")
    monkeypatch.setattr(sys, "stdout", out)
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"] if name else ["--help"])
    assert ended.value.code == 0 and "usage" in out.text


def test_a_command_in_a_process_of_its_own_on_a_poor_terminal() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kdutils", "run", "--profile", "größer…"],
        env={**os.environ, "PYTHONIOENCODING": "cp932"}, capture_output=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2 and b"Traceback" not in done.stderr
    assert "no profile 'groser…'" in done.stderr.decode("cp932").replace("?", "s")


# --- Ctrl-C ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loaded", ["argparse", "kdutils.cli.program", "torch.version", "torch.nn.functional"]
)
def test_ctrl_c_while_it_starts_is_one_word(loaded: str, tmp_path: Path) -> None:
    """SIGINT at the moment when a module has been imported: PyTorch takes seconds to load."""
    command = [sys.executable, "-X", "importtime", "-m", "kdutils", "train", "student", "--out"]
    lines = []
    with subprocess.Popen(
        [*command, str(tmp_path)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # nohup ignores it
    ) as process:  # fmt: skip
        for line in process.stderr:
            lines.append(line)
            if line.rstrip().endswith(f" {loaded}"):
                process.send_signal(signal.SIGINT)
                loaded = "(sent)"
    assert process.returncode == 130
    said = [line for line in lines if not line.startswith("import time:")]
    assert loaded == "(sent)" and len(said) == 1 and said[0].startswith("kdutils: Stopped")


def test_ctrl_c_in_a_cell_ends_the_kernel_and_says_one_word(tmp_path: Path) -> None:
    """As from a terminal: the kernel is in a group of its own and gets no SIGINT itself."""
    cell = tmp_path / "pid"
    code = f"import os, time; open({str(cell)!r}, 'w').write(str(os.getpid())); time.sleep(300)"
    notebook = tmp_path / "01_sleep.ipynb"
    notebook.write_text(
        '{"cells": [{"cell_type": "code", "execution_count": null, "id": "a", "metadata": {},'
        f' "outputs": [], "source": "{code}"}}], "metadata": {{}}, "nbformat": 4,'
        ' "nbformat_minor": 5}'
    )
    script = (
        "import sys; from pathlib import Path; from kdutils.cli import program\n"
        "from kdutils.tools import execution\n"
        "here = Path(sys.argv[1])\n"
        "work = lambda: execution.execute([here / '01_sleep.ipynb'], here / 'out')\n"
        "sys.exit(program.as_program(work))"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)],
                               stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # fmt: skip
    try:
        wait_until(lambda: cell.exists() and cell.read_text())
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert error.startswith("kdutils: Stopped") and error.count("\n") == 1, error
    wait_until(lambda: not alive(int(cell.read_text())))


def wait_until(true, seconds: float = 60) -> None:
    import time

    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# --- output that cannot be written ----------------------------------------------------------------


def refused(*args: object, **kwargs: object) -> None:
    raise PermissionError(13, "Permission denied", "somewhere")


@pytest.mark.parametrize("command", ["run", "train student", "bench"])
def test_output_is_checked_before_the_work(
    command: str,
    own_folders: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On a file, in a file, and where nothing may be written."""
    from kdutils import train
    from kdutils.tools import bench

    for place in (train, "fit"), (bench, "run"), (execution, "execute"):
        monkeypatch.setattr(*place, lambda *args, **more: pytest.fail("it worked before it looked"))
    monkeypatch.setattr("kdutils.cli.run.describe_data", lambda: "made-up data")
    file = own_folders / "README.md"
    file.write_text("here before")
    assert main([*command.split(), "--out", str(file / "x.json")]) == 2
    if command != "bench":
        assert main([*command.split(), "--out", str(file)]) == 2
    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    assert main(command.split()) == 2  # results/
    assert file.read_text() == "here before"
    for line in capsys.readouterr().err.strip().splitlines():
        assert re.match("kdutils: Nothing can be written into .*; choose another --out", line), line


def test_an_output_file_that_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(Stop, match="is a folder; give --out the name of a file"):
        output_file(tmp_path)
    assert output_folder(tmp_path / "a" / "b").is_dir()
    assert not list((tmp_path / "a" / "b").iterdir()), "looking leaves nothing"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (PermissionError(13, "Permission denied", "notes.md"), 2, "notes.md: Permission denied"),
        (NotADirectoryError(20, "Not a directory", "a/b"), 2, "a/b: Not a directory"),
        (OSError(28, "No space left on device"), 1, "The disk is full"),
        (ModuleNotFoundError("no", name="nbclient"), 2, "The package 'nbclient' is missing"),
    ],
)
def test_errors_of_the_system_are_one_sentence(
    error: Exception, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> int:
        raise error

    assert program.as_program(work) == code
    assert capsys.readouterr().err.startswith(f"kdutils: {said}")


def test_bugs_of_ours_keep_their_traceback() -> None:
    for error in (ModuleNotFoundError("no", name="kdutils.nowhere"), KeyError("x"), OSError("?")):

        def work(error: Exception = error) -> int:
            raise error

        with pytest.raises(type(error)):
            program.as_program(work)


def test_errors_are_known_by_the_names_that_they_have() -> None:
    from kdutils.pretrained import ArtifactError
    from kdutils.runtime.distributed import ProcessLost
    from kdutils.runtime.files import DataError, DiskFull
    from kdutils.tools.execution import NotebookFailed
    from kdutils.tools.notebooks import NotebookError
    from kdutils.train import CheckpointMismatch, TrainingDiverged

    kinds = (ArtifactError, CheckpointMismatch, DataError, NotebookError, DiskFull, NotebookFailed,
             ProcessLost, TrainingDiverged)  # fmt: skip
    assert {kind.__name__ for kind in kinds} == set(program.SENTENCES)
    for kind in kinds:
        message, code = program.told(kind("why"))
        assert code == program.SENTENCES[kind.__name__] and "why" in message


# --- a busy machine -------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), [(None, "passive"), ("active", "active")])
def test_waiting_threads_sleep_unless_somebody_wants_otherwise(
    before: str | None, after: str
) -> None:
    """OpenMP reads it when PyTorch loads, so it must stand there before."""
    env = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    env |= {} if before is None else {"OMP_WAIT_POLICY": before}
    code = "import kdutils, os, sys; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True,
                          timeout=60)  # fmt: skip
    assert done.stdout.split() == [after, "False"], done.stderr
