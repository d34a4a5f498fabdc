"""SIGKILL, SIGTERM and SIGINT at random moments: nothing lost, nothing unfinished recorded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from http_fixtures import Server, server, tiny  # noqa: F401
from safetensors.torch import load_file
from small import TinyNet, tiny_data
from storm import SIGNALS, run, storm

from kdutils import pretrained, train
from kdutils.__main__ import main
from kdutils.course.ablations import AblationConfig, AblationRunner, Arm
from kdutils.losses import Distillation
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


@by_signal
def test_the_ablation_runner(number: int, tmp_path: Path) -> None:
    """Six runs of six epochs: a record is there with all of its epochs, or not at all."""
    recipe = train.Recipe(epochs=6, batch_size=20)
    arms = [Arm("labels", recipe, network=TinyNet),
            Arm("taught", recipe, Distillation(), "tiny", TinyNet)]  # fmt: skip
    seeds = (0, 1, 2)

    def runner(folder: Path) -> AblationRunner:
        about = {"teachers": {"tiny": TinyNet(9)}, "soft_targets": folder / "soft"}
        return AblationRunner(AblationConfig(tiny_data(400), folder, **about))

    def work(folder: Path = tmp_path / "out") -> int:
        try:
            runner(folder).run(arms, seeds)
        except KeyboardInterrupt:
            print("Stopped.")  # as `python -m kdutils` says it
            return 130
        return 0

    def facts(folder: Path) -> list[dict]:
        gone = ("seconds", "curve")  # the curve holds seconds too
        return [
            {k: v for k, v in one.items() if k not in gone} | {"val": one["curve"]["val_accuracy"]}
            for one in runner(folder).records(arms, seeds)
        ]

    ended = run(lambda: work(tmp_path / "reference"))
    assert ended.code == 0, ended.said
    reference = facts(tmp_path / "reference")
    assert len(reference) == 6

    def unharmed() -> None:
        for path in (tmp_path / "out").rglob("*.json"):
            record = pretrained.read_json(path, "gone", "none")
            assert len(record["curve"]["epoch"]) == 6, "nothing unfinished is recorded"

    def finished() -> None:
        assert facts(tmp_path / "out") == reference
        assert not list((tmp_path / "out").rglob("*.ckpt"))
        shutil.rmtree(tmp_path / "out")

    storm(work, number, ended.seconds, unharmed, finished)
