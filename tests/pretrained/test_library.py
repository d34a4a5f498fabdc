"""Weights that come with the package: what `load` gives, when notebooks use them, what they score."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small import tiny_data

import kdutils
from kdutils import data, models, pretrained, soft_targets, train
from kdutils.course import experiments, long_runs
from kdutils.pretrained import ArtifactError, Trained
from kdutils.pretrained.records import RESULTS
from kdutils.train import Recipe

CIFAR = dict(name="CIFAR-10 (JPEG copy)", classes=pretrained.CLASSES)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of kdutils/pretrained/."""
    monkeypatch.setattr("kdutils.pretrained.records.FOLDER", tmp_path / "pretrained")
    return tmp_path / "pretrained"


@pytest.fixture
def put_teacher(shelf: Path) -> Trained:
    """A barely trained "teacher" on the shelf: the small network, which is quicker."""
    images = replace(tiny_data(), **CIFAR)
    model, recipe = models.build("student", 0), Recipe(epochs=1, batch_size=16)
    history = train.fit(model, images, recipe, progress=False)
    run = Trained(model.eval(), history, loaded=False)
    pretrained.ship("teacher", run, images, recipe, seed=0)
    return run


def test_load_says_where_the_weights_come_from(
    put_teacher: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    model = kdutils.load("teacher")
    said = capsys.readouterr().out
    assert "CIFAR-10 (JPEG copy)" in said and "test accuracy" in said and "1 epochs" in said
    assert not model.training
    facts = model.metadata
    wanted = {"network", "data_name", "seed", "epochs", "test_accuracy", "date", "version"}
    assert wanted <= set(facts)
    kdutils.load("teacher", quiet=True)
    assert capsys.readouterr().out == ""


def test_the_noted_accuracy_is_that_of_the_weights_as_stored(put_teacher: Trained) -> None:
    images = replace(tiny_data(), **CIFAR)
    model = kdutils.load("teacher", quiet=True)
    score = 100 * train.evaluate(model, images.test).accuracy
    assert model.metadata["test_accuracy"] == pytest.approx(score, abs=0.006)
    for mine, theirs in zip(model.parameters(), put_teacher.model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


def test_filters_take_two_bytes_and_statistics_four(put_teacher: Trained, shelf: Path) -> None:
    from safetensors.torch import load_file

    for name, value in load_file(shelf / "teacher.safetensors").items():
        expected = torch.float16 if value.ndim > 1 else torch.float32
        assert value.dtype == expected or not value.is_floating_point(), name


def test_a_wrong_name_gets_the_names_there_are(put_teacher: Trained) -> None:
    with pytest.raises(ArtifactError, match="there are teacher. Did you mean 'teacher'"):
        kdutils.load("techer")


@pytest.mark.parametrize("profile, expected", [("class", True), ("smoke", False), ("full", False)])
def test_only_the_class_profile_takes_the_shipped_teacher(
    put_teacher: Trained, monkeypatch: pytest.MonkeyPatch, profile: str, expected: bool
) -> None:
    monkeypatch.setenv("KDUTILS_PROFILE", profile)
    assert experiments.uses_pretrained(replace(tiny_data(), **CIFAR)) is expected


def test_other_images_never_meet_the_shipped_teacher(
    put_teacher: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDUTILS_PROFILE", "class")
    assert not experiments.uses_pretrained(tiny_data())
    assert not experiments.uses_pretrained(replace(tiny_data(), classes=pretrained.CLASSES))
    assert not experiments.uses_pretrained(replace(tiny_data(), name="CIFAR-10"))


def test_the_shipped_teacher_brings_its_history_and_recipe(
    put_teacher: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDUTILS_PROFILE", "class")
    images = replace(tiny_data(), **CIFAR)
    teacher = experiments.teacher(images)
    assert teacher.loaded and teacher.history.rows == put_teacher.history.rows
    assert experiments.teacher_recipe(images) == Recipe(epochs=1, batch_size=16)
    assert "shipped weights" in str(teacher)


# --- what is really in the package ---------------------------------------------------------------

REAL = os.environ.get("KDUTILS_DATA", "")  # as the shell says; conftest sets it anew for each test


@pytest.fixture(scope="module")
def real_images() -> data.ImageData:
    if not (REAL == "cifar10" or Path(REAL).is_dir() and REAL):
        pytest.skip("no real images: set KDUTILS_DATA to cifar10 or a folder to check accuracies")
    return data.load(REAL)


@pytest.mark.parametrize("name", pretrained.names())
def test_shipped_files_are_small_and_complete(name: str) -> None:
    facts = pretrained.read_metadata(pretrained.path(name))
    assert pretrained.path(name).stat().st_size < 10e6
    for key in ("network", "data_name", "seed", "epochs", "recipe", "rows", "test_accuracy",
                "date", "version"):  # fmt: skip
        assert key in facts, f"{name}: {key} is missing"
    assert len(facts["rows"]) == facts["epochs"] == facts["recipe"]["epochs"]
    assert facts["data_name"].startswith(pretrained.FAMILY)


@pytest.mark.parametrize("name", pretrained.names())
def test_shipped_weights_score_what_they_say(name: str, real_images: data.ImageData) -> None:
    model = kdutils.load(name, quiet=True)
    facts = model.metadata
    if facts["data_name"] != real_images.name:
        pytest.skip(f"{name} was measured on {facts['data_name']}, here is {real_images.name}")
    score = 100 * train.evaluate(model, real_images.test).accuracy
    # Another processor rounds otherwise: a few of 10,000 images may change sides.
    assert score == pytest.approx(facts["test_accuracy"], abs=0.1)


@pytest.mark.parametrize("name", pretrained.names())
def test_weights_and_results_agree(name: str) -> None:
    facts = pretrained.read_metadata(pretrained.path(name))
    (record,) = (
        one for one in pretrained.results()
        if (one["arm"], one["data"], one["epochs"]) == (name, facts["data_name"], facts["epochs"])
    )  # fmt: skip
    assert record == pretrained.record(name), "what is shipped is the longest training"
    (run,) = (one for one in record["runs"] if one["seed"] == facts["seed"])
    assert run["test_accuracy"] == facts["test_accuracy"]
    assert run["epochs"] == facts["epochs"]


# --- the numbers ----------------------------------------------------------------------------------


def _run(arm: str, seed: int, accuracy: float, epochs: int = 50) -> long_runs.Record:
    return {
        "arm": arm, "seed": seed, "data": "CIFAR-10", "loss": "", "epochs": epochs,
        "val_accuracy": accuracy, "test_accuracy": accuracy, "train_seconds": 1.0, "curve": [],
        "machine": "here", "date": "2026-01-01", "version": "0",
    }  # fmt: skip


def test_runs_are_paired_by_seed_and_budget() -> None:
    runs = [_run("baseline", s, 80.0 + s) for s in range(3)]
    runs += [_run("distilled", s, 82.0 + s + 0.1 * s) for s in range(3)]
    runs += [_run("distilled", 3, 99.0), _run("baseline", 4, 10.0, epochs=7)]
    *_, record = long_runs.records(runs)
    assert record["role"] == "distilled" and record["pairs"] == 3
    assert record["difference"] == pytest.approx(2.1)
    half = 4.302653 * 0.1 / 3**0.5  # Student's t with two degrees of freedom
    assert record["interval"] == pytest.approx([2.1 - half, 2.1 + half], abs=2e-3)


def test_one_pair_makes_no_interval() -> None:
    runs = [_run("baseline", 0, 80.0), _run("distilled", 0, 82.0)]
    assert all("interval" not in record for record in long_runs.records(runs))


def test_budgets_are_kept_apart(shelf: Path) -> None:
    """A longer training adds a record; it neither replaces a shorter one nor is paired with it."""
    for arm, gain in (("baseline", 0.0), ("distilled", 1.0)):
        for epochs, level in ((7, 80.0), (50, 90.0)):
            for seed in range(2):
                long_runs.note(_run(arm, seed, level + seed + gain, epochs))
    records = pretrained.results()
    assert [(one["arm"], one["epochs"]) for one in records] == [
        ("baseline", 7), ("baseline", 50), ("distilled", 7), ("distilled", 50),
    ]  # fmt: skip
    assert [one.get("difference") for one in records] == [None, None, 1.0, 1.0]
    assert pretrained.record("distilled")["test_accuracy"] == [91.0, 92.0]
    with pytest.raises(ArtifactError, match="has no arm 'pocket'; it has baseline, distilled"):
        pretrained.record("pocket")


def test_results_hold_what_the_table_needs() -> None:
    (record,) = long_runs.records([_run("baseline", 1, 80.0)])
    wanted = {"name", "role", "data", "parameters", "macs", "size_mb", "epochs", "seeds",
              "test_accuracy", "train_seconds", "machine"}  # fmt: skip
    assert wanted <= set(record)
    assert record["parameters"] == 106_826


def test_a_finished_run_is_noted_once_and_not_done_again(shelf: Path) -> None:
    epochs = long_runs.ARMS["baseline"].recipe.epochs
    for accuracy in (70.0, 80.0):
        long_runs.note(_run("baseline", 0, accuracy, epochs))
    long_runs.note(_run("baseline", 1, 81.0, epochs))
    (record,) = pretrained.results()
    assert record["test_accuracy"] == [80.0, 81.0]
    left = long_runs.missing(["baseline"], [0, 1, 2], "CIFAR-10")
    assert [seed for _, seed in left] == [2]
    assert len(long_runs.missing(["teacher"], [0, 1, 2], "CIFAR-10")) == 1
    assert "80.50 ± 0.71 %" in long_runs.table()


def test_damaged_results_end_in_one_sentence(shelf: Path) -> None:
    shelf.mkdir()
    (shelf / RESULTS).write_text("[{")
    with pytest.raises(ArtifactError, match="cut short or damaged; .python -m kdutils numbers"):
        pretrained.results()


def test_arms_of_one_network_share_their_recipe() -> None:
    """Otherwise their difference would not be due to the lesson."""
    for arm in long_runs.ARMS.values():
        if arm.compare:
            other = long_runs.ARMS[arm.compare]
            assert (arm.recipe, arm.network) == (other.recipe, other.network)


def test_a_whole_run_from_training_to_the_shelf(put_teacher: Trained, own_folders: Path) -> None:
    images = replace(tiny_data(), **CIFAR)
    short = Recipe(epochs=1, batch_size=16)
    for name in ("baseline", "distilled", "smoothed", "exchanged", "shuffled"):
        arm = replace(long_runs.ARMS[name], recipe=short)
        found = long_runs.run(arm, 0, images, progress=False)
        assert 0 <= found["test_accuracy"] <= 100 and found["epochs"] == 1
    assert set(pretrained.names()) == {"teacher", "baseline", "distilled"}
    taught = kdutils.load("distilled", quiet=True).metadata
    assert taught["taught_by"] == "teacher" and "Distillation" in taught["loss"]
    folder = own_folders / "results" / "soft_targets"
    cached = [path.name for path in folder.iterdir()]
    stored = soft_targets.SoftTargets(kdutils.load("teacher", quiet=True), images.train)
    assert cached == [stored.fingerprint], "all arms ask the teacher as it is shipped"
