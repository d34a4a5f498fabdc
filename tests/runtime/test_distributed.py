"""Two real processes, started by torchrun, train one network."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pictures import draw
from safetensors.torch import load_file
from torch import Tensor

from kdutils import train
from kdutils.runtime import distributed

HERE = Path(__file__).parents[1]
TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]  # torchrun


def program(*args: object, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, args)], capture_output=True, text=True, timeout=400,
        env={**os.environ, "PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1", **variables},
    )  # fmt: skip


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, dict, dict]:
    """What one process noted that worked alone, and what each of two noted."""
    alone, two = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("two")
    for done in (
        program(HERE / "parallel_worker.py", alone),
        program(*TWO, HERE / "parallel_worker.py", two),
    ):
        assert done.returncode == 0, done.stderr
    paths = (alone / "rank0.pt", two / "rank0.pt", two / "rank1.pt")
    return tuple(torch.load(path, weights_only=True) for path in paths)


def close(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-4, atol=1e-6)


def test_shares_are_disjoint_and_together_the_whole_epoch(notes: tuple[dict, dict, dict]) -> None:
    alone, first, second = (note["seen"] for note in notes)
    assert len(alone) == len(first) == len(second) == 9
    for whole, one, other in zip(alone, first, second, strict=True):
        assert sorted(one + other) == sorted(whole) and len(set(one + other)) == len(whole)
    assert sorted(sum(first[:3] + second[:3], [])) == list(range(150))


def test_gradients_are_those_of_one_process(notes: tuple[dict, dict, dict]) -> None:
    """Also where the shares are of different size; and so are the weights after nine steps."""
    alone, first, second = notes
    for a, b, c in zip(*(note["gradients"] for note in notes), strict=True):
        assert torch.equal(b, c)
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)
    close(alone["weights"], first["weights"])
    close(first["weights"], second["weights"])


def test_adapters_of_a_method_are_averaged_too(notes: tuple[dict, dict, dict]) -> None:
    alone, first, second = (note["adapted"] for note in notes)
    close(alone, first)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_the_work_on_soft_targets_is_divided(notes: tuple[dict, dict, dict]) -> None:
    alone, first, second = notes
    assert (alone["asked"], first["asked"], second["asked"]) == (5, 3, 2)
    assert torch.equal(alone["targets"], first["targets"])
    assert torch.equal(alone["targets"], second["targets"])


def test_only_the_first_writes_and_both_end_with_the_same(notes: tuple[dict, dict, dict]) -> None:
    _, first, second = notes
    assert (first["saves"], second["saves"]) == (2, 0)
    assert len(first["rows"]) == 2 and second["rows"] == []
    for name, value in first["with batch norm"].items():
        assert torch.equal(value, second["with batch norm"][name]), name
    assert first["val"] == second["val"] == first["rows"][-1]["val_accuracy"]


def test_the_command_under_torchrun(tmp_path: Path) -> None:
    """A process that dies ends the run in clear words; started again, the end is the same."""
    variables = {
        "KDUTILS_DATA": str(draw(tmp_path / "pictures")),
        "KDUTILS_PROFILE": "class",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    args = ["train", "student", "--epochs", "3", "--out"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = program(*TWO, "-m", "kdutils", *args, whole, **variables)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Training student for 3 epochs") == 1, "only the first one talks"
    record = json.loads((whole / "record.json").read_text())
    assert record["processes"] == 2 and len(record["rows"]) == 3

    done = program(*TWO, HERE / "killed_train.py", "one_of_two", *args, killed, **variables)
    assert done.returncode == 1
    assert "Process 1 of 2 stops, because another one has died" in done.stderr
    assert len(train.read_checkpoint(killed / "checkpoint.pt")["rows"]) == 1
    alone = program("-m", "kdutils", *args, killed, **variables)
    assert alone.returncode == 2 and "another number of processes" in alone.stderr

    done = program(*TWO, "-m", "kdutils", *args, killed, **variables)
    assert done.returncode == 0, done.stderr
    first, second = (load_file(folder / "weights.safetensors") for folder in (whole, killed))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_word_to_end_is_an_error_that_is_told() -> None:
    """torchrun ends the survivors at once, often before they notice that one is missing."""
    before = signal.getsignal(signal.SIGTERM)
    with distributed._last_words():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
    try:
        told = pytest.raises(distributed.ProcessLost, match="another one has died")
        with told, distributed._last_words():
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN, "nothing cuts the message short"
    finally:
        signal.signal(signal.SIGTERM, before)


def test_without_torchrun_there_is_one_process() -> None:
    batch = torch.arange(5)
    with distributed.process_group():
        assert (distributed.rank(), distributed.world_size(), distributed.is_main_process()) == (0, 1, True)
        assert torch.equal(distributed.shard(batch), batch)
        assert distributed.broadcast("yes") == "yes"
        distributed.barrier()


def test_an_error_of_ones_own_is_not_blamed_on_others(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="a bug"), distributed.process_group():
        raise RuntimeError("a bug")
