"""The command line over made-up arguments: whatever is asked for, never a traceback.

The work itself is left out: what is tried is everything before it.
"""

from __future__ import annotations

import io
import string
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from small import tiny_data

from kdutils.__main__ import build_parser, main
from kdutils.cli import Stop

WORDS = st.sampled_from(
    ["", "-1", "0", "1", "3", "0.5", "1e400", "nan", "-inf", "1e-9", "9" * 30, "teacher", "student",
     "pocket", "shapes", "cifar10", "auto", "class", "smoke", "big", "~nobody/x", "~", "..", "/",
     "README.md/x.json", "/proc/nothing/x", "x" * 300, "01", "01,99", ",", "labels", "all", "é…学"]
)  # fmt: skip
TEXT = st.text(string.printable.replace("/", "") + "é…学\udc80", max_size=8)
OPTIONS = st.sampled_from(
    ["--data", "--profile", "--out", "--seed", "--seeds", "--arms", "--only", "--teacher",
     "--temperature", "--soft-weight", "--label-smoothing", "--epochs", "--batch-size",
     "--learning-rate", "--muon", "--ema", "--cutout", "--jobs", "--cluster", "--ship", "--quick",
     "--in-place", "--list", "--help", "--nonsense", "-x"]
)  # fmt: skip
COMMANDS = st.sampled_from([*build_parser()._subparsers._group_actions[0].choices, "nothing"])
ARGUMENTS = st.builds(
    lambda command, parts: [command, *(word for part in parts for word in part)],
    COMMANDS,
    st.lists(st.one_of(st.tuples(OPTIONS, WORDS | TEXT), st.tuples(WORDS | TEXT)), max_size=5),
)


@pytest.fixture(scope="module")
def no_work(tmp_path_factory: pytest.TempPathFactory):
    """Where the work would begin, it ends."""
    here = tmp_path_factory.mktemp("fuzz")

    def reached(*args: object, **more: object) -> None:
        raise Stop("reached", 0)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        patch.setattr("kdutils.runtime.settings.cache_folder", lambda: here / "cache")
        patch.setattr("kdutils.runtime.settings.results_folder", lambda: here / "results")
        patch.setattr("kdutils.data.load", lambda *args, **more: tiny_data())
        for place in (
            "kdutils.train.fit", "kdutils.tools.execution.execute", "kdutils.tools.bench.run",
            "kdutils.data.download", "kdutils.tools.notebooks.sync",
            "kdutils.tools.readme_tables.update_readme", "kdutils.course.long_runs.run",
            "kdutils.course.pitfalls.measure",
        ):  # fmt: skip
            patch.setattr(place, reached, raising=False)
        yield here


@settings(
    max_examples=150, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(arguments=ARGUMENTS)
@example(arguments=["train", "student", "--learning-rate", "-1"])
@example(arguments=["train", "student", "--learning-rate=nan"])
@example(arguments=["train", "student", "--seed", "99999999999999999999999"])
@example(arguments=["train", "student", "--teacher", "x" * 300])
@example(arguments=["train", "student", "--teacher", "~nobody/x"])
@example(arguments=["run", "--data", "~nobody/x"])
@example(arguments=["run", "--data", "x" * 300])
@example(arguments=["bench", "--out", "~nobody/x"])
@example(arguments=["bench", "--out", "x" * 300])
def test_never_a_traceback(arguments: list[str], no_work: Path) -> None:
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setenv("KDUTILS_PROFILE", "smoke")
        patch.setenv("KDUTILS_DATA", "shapes")
        try:
            code = main(arguments)
        except SystemExit as ended:  # argparse: a wrong option, or --help
            code = ended.code
    assert code in (0, 1, 2), (arguments, code)
    if code and code != 130:
        assert err.getvalue().startswith("kdutils: "), (arguments, err.getvalue())


@pytest.mark.parametrize("command", ["bench", "run", "train student", "data"])
def test_an_unknown_profile_in_the_environment(
    command: str, no_work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KDUTILS_PROFILE", "CLASS")
    assert main(command.split()) == 2
    said = capsys.readouterr().err
    assert said.startswith("kdutils: KDUTILS_PROFILE is 'CLASS'") and said.count("\n") == 1
