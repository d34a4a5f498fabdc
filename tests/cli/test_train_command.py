"""`python -m kdutils train`: what it writes, how it goes on after a kill, what it refuses."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pictures import draw
from safetensors.torch import load_file

from kdutils import models, pretrained, train
from kdutils.__main__ import main
from kdutils.train import TrainingDiverged

HERE = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def pictures(own_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = draw(own_folders / "pictures")
    monkeypatch.setenv("KDUTILS_DATA", str(folder))
    monkeypatch.setenv("KDUTILS_PROFILE", "class")  # smoke would cut 500 images for validation
    monkeypatch.setenv("XDG_CACHE_HOME", str(own_folders / "cache"))  # of other processes


def program(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, args)], capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
    )  # fmt: skip


def test_it_writes_weights_a_record_and_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["train", "student", "--epochs", "2", "--seed", "3", "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        ".lock", "record.json", "weights.safetensors",
    ]  # fmt: skip
    record = json.loads((out / "record.json").read_text())
    facts = pretrained.load_model(out / "weights.safetensors", models.build("student")).metadata
    assert record == facts
    assert (record["network"], record["epochs"], record["seed"]) == ("student", 2, 3)
    assert record["parameters"] == 106_826 and len(record["rows"]) == 2
    for key in ("data", "data_name", "val_accuracy", "test_accuracy", "date", "version", "machine"):
        assert record[key] or record[key] == 0, key
    assert record["val_accuracy"] == 100 * record["rows"][-1]["val_accuracy"]
    printed = capsys.readouterr().out
    assert f"test {record['test_accuracy']:.2f} %" in printed and str(out) in printed


def test_test_images_are_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    score = train.score

    def noting(model, split):
        looks.append(len(split))
        return score(model, split)

    monkeypatch.setattr(train, "score", noting)
    assert main(["train", "student", "--epochs", "2", "--out", str(tmp_path / "run")]) == 0
    assert looks == [20, 20, 30]  # validation after each epoch, test at the end


def test_a_finished_training_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["train", "student", "--epochs", "1", "--out", str(tmp_path / "run")]
    assert main(args) == 0
    weights = tmp_path / "run" / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    assert main(args) == 0
    assert "finished already" in capsys.readouterr().out
    assert weights.stat().st_mtime_ns == before
    assert main([*args, "--seed", "1"]) == 2
    assert "holds another finished training (another seed)" in capsys.readouterr().err
    assert weights.stat().st_mtime_ns == before


def test_without_out_each_training_has_a_folder_of_its_own(own_folders: Path) -> None:
    for seed in ("0", "1"):
        assert main(["train", "student", "--epochs", "1", "--seed", seed]) == 0
    found = sorted((own_folders / "results" / "train").glob("*/*/weights.safetensors"))
    assert [path.parent.name.rsplit("-", 1)[0] for path in found] == [
        "student-labels-seed0", "student-labels-seed1",
    ]  # fmt: skip


def test_distilling_from_what_was_trained_before(
    tmp_path: Path, own_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The teacher by its folder or by its file; temperature and weight arrive."""
    teacher = tmp_path / "my-teacher"
    assert main(["train", "student", "--epochs", "1", "--out", str(teacher)]) == 0
    seen = []
    fit = train.fit

    def noting(*args, **more):
        seen.append(more)
        return fit(*args, **more)

    monkeypatch.setattr(train, "fit", noting)
    for number, name in enumerate((teacher, teacher / "weights.safetensors")):
        out = tmp_path / f"student{number}"
        args = ["--teacher", str(name), "--temperature", "2", "--soft-weight", "0.5"]
        assert main(["train", "student", "--epochs", "1", "--out", str(out), *args]) == 0
        assert json.loads((out / "record.json").read_text())["taught_by"] == "student"
    assert repr(seen[0]["loss"]) == "Distillation(temperature=2.0, soft_weight=0.5)"
    assert seen[0]["soft_targets"].fingerprint == seen[1]["soft_targets"].fingerprint
    assert seen[0]["soft_targets"].teacher_calls == 1 and seen[1]["soft_targets"].teacher_calls == 0
    first, second = (load_file(tmp_path / f"student{n}" / "weights.safetensors") for n in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_recipe_options_arrive(tmp_path: Path) -> None:
    out = tmp_path / "run"
    args = ["--epochs", "1", "--batch-size", "50", "--learning-rate", "0.05", "--ema", "0.5",
            "--cutout", "8", "--muon", "0.02", "--label-smoothing", "0.1"]  # fmt: skip
    assert main(["train", "student", "--out", str(out), *args]) == 0
    record = json.loads((out / "record.json").read_text())
    asked = {"epochs": 1, "batch_size": 50, "learning_rate": 0.05, "ema": 0.5, "cutout": 8,
             "muon": 0.02}  # fmt: skip
    assert {key: record["recipe"][key] for key in asked} == asked
    assert record["loss"] == "LabelLoss(smoothing=0.1)"
    assert record["identity"]["loss"].startswith("LabelLoss ")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["studnt"], "There is no network 'studnt'; choose from .* Did you mean 'student'"),
        (["student", "--teacher", "nobody"], "no file 'nobody', .* Train a teacher first"),
        (["student", "--temperature", "2"], "add --teacher NAME"),
        (["student", "--teacher", "t", "--label-smoothing", "0.1"], "leave out --teacher"),
        (["student", "--teacher", "t", "--cutout", "8"], "a teacher sees whole images"),
        (["student", "--label-smoothing", "2"], "Label smoothing is 2.0"),
        (["student", "--epochs", "0"], "at least one epoch"),
        (["student", "--learning-rate", "-1"], "learning rate above zero, .* got -1.0"),
        (["student", "--learning-rate", "nan"], "learning rate above zero, .* got nan"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(
    args: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *args]) == 2
    error = capsys.readouterr().err
    assert error.count("kdutils: ") == 1 and error.rstrip().count("\n") == 0
    assert re.search(said, error)


def test_divergence_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def diverge(*args: object, **more: object) -> None:
        raise TrainingDiverged("The loss became nan in epoch 1.")

    monkeypatch.setattr(train, "fit", diverge)
    assert main(["train", "student", "--out", str(tmp_path / "run")]) == 1
    assert capsys.readouterr().err.endswith("kdutils: The loss became nan in epoch 1.\n")


def test_ctrl_c_keeps_the_last_finished_epoch_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    score, looks = train.score, iter(range(10))

    def interrupted(model, split):
        if next(looks) == 1:
            raise KeyboardInterrupt
        return score(model, split)

    monkeypatch.setattr(train, "score", interrupted)
    args = ["train", "student", "--epochs", "3", "--out", str(out)]
    assert main(args) == 130
    assert "Stopped: epoch 1 is kept" in capsys.readouterr().out
    assert len(train.read_checkpoint(out / "checkpoint.pt")["rows"]) == 1
    assert main(args) == 0
    assert len(json.loads((out / "record.json").read_text())["rows"]) == 3


def test_two_trainings_cannot_share_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from filelock import FileLock

    with FileLock(tmp_path / ".lock"):
        assert main(["train", "student", "--epochs", "1", "--out", str(tmp_path)]) == 1
    assert "Another training is writing" in capsys.readouterr().err


def test_killed_at_several_moments_it_ends_in_the_same_weights(tmp_path: Path) -> None:
    """Real SIGKILLs: in an epoch, in the checkpoint's write, before its rename, after the end."""
    args = ["train", "student", "--epochs", "4", "--seed", "2", "--ema", "0.9", "--out"]
    assert main([*args, str(tmp_path / "whole")]) == 0
    out = tmp_path / "killed"
    epochs = []
    for moment in ("in_an_epoch", "in_the_write", "before_the_rename", "before_the_record"):
        done = program(HERE / "killed_train.py", moment, *args, out)
        assert done.returncode == -signal.SIGKILL, (moment, done.stdout, done.stderr)
        if moment != "before_the_record":
            epochs.append(len(train.read_checkpoint(out / "checkpoint.pt")["rows"]))
            assert not (out / "weights.safetensors").exists()
    assert epochs == [1, 1, 1]
    assert not (out / "record.json").exists()
    done = program(HERE / "killed_train.py", "never", *args, out)
    assert done.returncode == 0 and "finished already" in done.stdout, done.stderr
    assert (out / "record.json").exists()
    assert not list(out.glob(".*.part")), "what was half-written is gone"
    whole, killed = (
        load_file(folder / "weights.safetensors") for folder in (tmp_path / "whole", out)
    )
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
