"""Saved networks and results: found again by what they are, refused in clear words."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small import tiny_data

from kdutils import models, settings
from kdutils.losses import LabelLoss
from kdutils.pretrained import artifacts
from kdutils.pretrained.artifacts import ArtifactError
from kdutils.runtime.files import DiskFull
from kdutils.train import Recipe

RECIPE = Recipe(epochs=1, batch_size=64)
DATA = tiny_data(128)


@pytest.fixture(autouse=True)
def own_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a results folder of its own."""
    mine = replace(settings(), results=tmp_path / "results")
    monkeypatch.setattr(artifacts, "settings", lambda: mine)
    return mine.results


def test_weights_and_facts_come_back(tmp_path: Path) -> None:
    student = models.build("student", 3)
    artifacts.save_model(student, tmp_path / "s.safetensors", {"seed": 3})
    loaded = artifacts.load_model(tmp_path / "s.safetensors", "student")
    assert not loaded.training
    for name, value in student.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name])
    assert loaded.metadata["seed"] == 3 and loaded.metadata["network"] == "student"


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    with pytest.raises(ArtifactError, match="no weights file s.safetensors"):
        artifacts.load_model(path)
    artifacts.save_model(models.build("student"), path, {"data": "1", "data_name": "other images"})
    with pytest.raises(ArtifactError, match="holds a 'student', not a 'teacher'"):
        artifacts.load_model(path, "teacher")
    with pytest.raises(ArtifactError, match="trained on other images"):
        artifacts.load_model(path, "student", DATA)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ArtifactError, match="cut short or damaged"):
        artifacts.load_model(path)


def test_weights_of_another_version_are_refused(tmp_path: Path) -> None:
    strange = torch.nn.Linear(2, 2)
    strange.name = "student"
    artifacts.save_model(strange, tmp_path / "s.safetensors")
    with pytest.raises(ArtifactError, match="does not fit the network 'student'"):
        artifacts.load_model(tmp_path / "s.safetensors")


def test_weights_from_elsewhere_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(1)}, tmp_path / "s.safetensors")
    with pytest.raises(ArtifactError, match="not written by kdutils"):
        artifacts.load_model(tmp_path / "s.safetensors")


def test_a_full_disk_keeps_the_older_weights(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "s.safetensors"
    artifacts.save_model(models.build("student", 1), path)
    before = path.read_bytes()

    def full(*arguments, **more):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(DiskFull, match="disk is full"):
        artifacts.save_model(models.build("student", 2), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["s.safetensors"]


def train(**changes: object) -> artifacts.Trained:
    arguments = {"recipe": RECIPE, "seed": 0, "loss": LabelLoss(), **changes}
    recipe = arguments.pop("recipe")
    return artifacts.train_or_load("b", "student", DATA, recipe, progress=False, **arguments)


def test_trained_once_then_loaded() -> None:
    first, second = train(), train()
    assert (first.loaded, second.loaded) == (False, True)
    assert first.history.rows == second.history.rows and first.seconds == second.seconds
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name])
    assert str(first).startswith("trained") and str(second).startswith("loaded")


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"loss": LabelLoss(0.1)}, {"recipe": replace(RECIPE, weight_decay=0.0)}]
)
def test_any_change_trains_anew(change: dict[str, object]) -> None:
    train()
    assert not train(**change).loaded


def test_an_unfinished_run_is_not_taken_for_a_finished_one(own_results: Path) -> None:
    train(recipe=replace(RECIPE, epochs=2), on_epoch=lambda row: True)
    assert list(own_results.glob("models/*.ckpt")) and not list(own_results.glob("models/*.safe*"))
    done = train(recipe=replace(RECIPE, epochs=2))
    assert not done.loaded and len(done.history.rows) == 2
    assert not list(own_results.glob("models/*.ckpt"))


def test_results_come_back_and_missing_ones_say_so(own_results: Path) -> None:
    with pytest.raises(ArtifactError, match="no results 'x' on My images yet"):
        artifacts.load_results("x", "My images")
    path = artifacts.save_results("x", [{"a": 1.5}], "My images")
    assert path == own_results / "my-images-smoke" / "x.json"
    assert artifacts.load_results("x", "My images") == [{"a": 1.5}]
    path.write_text("[{")
    with pytest.raises(ArtifactError, match="cut short or damaged"):
        artifacts.load_results("x", "My images")


def test_spread_says_how_many_seeds() -> None:
    assert artifacts.spread([80.0, 82.0]) == "81.00 ± 1.41 % (2 seeds)"
    assert artifacts.spread([80.0]) == "80.00 % (1 seed)"


def test_clear_forgets_everything(own_results: Path) -> None:
    train()
    artifacts.clear()
    assert not own_results.exists()
    assert not train().loaded


def test_slug() -> None:
    assert artifacts.slug("CIFAR-10 (JPEG copy)") == "cifar-10-jpeg-copy"
    assert artifacts.slug("/") == "data"
