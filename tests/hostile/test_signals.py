"""SIGKILL, SIGTERM and SIGINT at random moments: nothing lost, nothing unfinished recorded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from http_fixtures import Server, server, tiny  # noqa: F401
from safetensors.torch import load_file
from storm import SIGNALS, run, storm

from kdutils import train
from kdutils.__main__ import main
from kdutils.sources import cifar10

pytestmark = [pytest.mark.hostile, pytest.mark.timeout(3600)]
by_signal = pytest.mark.parametrize("number", SIGNALS, ids=lambda one: one.name)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # a process that forks must have no others


@by_signal
def test_train(number: int, own_folders: Path) -> None:
    out = own_folders / "out"

    def work(folder: Path = out) -> int:
        return main(["train", "student", "--epochs", "4", "--seed", "2", "--out", str(folder)])

    assert run(work).code == 0  # not timed: it draws the shapes
    shutil.rmtree(out)
    ended = run(lambda: work(own_folders / "reference"))
    assert ended.code == 0, ended.said
    reference = load_file(own_folders / "reference" / "weights.safetensors")

    def unharmed() -> None:
        checkpoint = out / "checkpoint.pt"
        if checkpoint.exists():
            assert 1 <= len(train.read_checkpoint(checkpoint)["rows"]) <= 4
        if (out / "weights.safetensors").exists():
            assert len(load_file(out / "weights.safetensors")) == len(reference)

    def finished() -> None:
        weights = load_file(out / "weights.safetensors")
        assert all(torch.equal(weights[name], value) for name, value in reference.items())
        assert (out / "record.json").exists()
        assert not list(out.glob(".*.part")), "what was half-written is gone"
        shutil.rmtree(out)

    storm(work, number, ended.seconds, unharmed, finished)


@by_signal
def test_download(
    number: int,
    own_folders: Path,
    server: Server,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cifar10, "HOSTS", (server.url("burst"),))
    cache = own_folders / "cache"

    def work() -> int:
        return main(["data"])

    def unharmed() -> None:
        pass  # whatever is there, the next call goes on from it: `finished` looks

    def finished() -> None:
        pixels = cifar10.local(cache)
        assert pixels is not None and len(pixels.train_labels) == 150
        shutil.rmtree(cache)

    storm(work, number, 4.0, unharmed, finished)
    resumed = [given for given in server.asked("burst") if given]
    assert resumed, "no download went on where it was"
