"""The long runs: paired by seed and recipe, appended and never overwritten, shipped when asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small import TinyNet, tiny_data

import kdutils
from kdutils import models, pretrained, train
from kdutils.__main__ import main
from kdutils.course import long_runs
from kdutils.pretrained import ArtifactError, Trained
from kdutils.train import Recipe

CIFAR = dict(name="CIFAR-10 (JPEG copy)", classes=pretrained.CLASSES)
SHORT = Recipe(epochs=1, batch_size=50)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of kdutils/pretrained/."""
    monkeypatch.setattr("kdutils.pretrained.records.FOLDER", tmp_path / "pretrained")
    return tmp_path / "pretrained"


def _run(arm: str, seed: int, accuracy: float, epochs: int = 50) -> dict[str, Any]:
    return {
        "name": arm, "role": "", "network": "student", "method": "", "data": "CIFAR-10",
        "recipe": {"epochs": epochs}, "loss": "", "seed": seed, "curve": {}, "val": accuracy,
        "test": accuracy, "seconds": 1.0, "machine": "here", "version": "0", "command": "",
    }  # fmt: skip


def test_runs_are_paired_by_seed_and_budget() -> None:
    runs = [_run("baseline", s, 80.0 + s) for s in range(3)]
    runs += [_run("distilled", s, 82.0 + s + 0.1 * s) for s in range(3)]
    runs += [_run("distilled", 3, 99.0), _run("baseline", 4, 10.0, epochs=7)]
    *_, record = long_runs.summaries(runs)
    assert record["role"] == "distilled" and record["pairs"] == 3
    assert record["difference"] == pytest.approx(2.1)
    half = 4.302653 * 0.1 / 3**0.5  # Student's t with two degrees of freedom
    assert record["interval"] == pytest.approx([2.1 - half, 2.1 + half], abs=2e-3)


def test_one_pair_makes_no_interval() -> None:
    runs = [_run("baseline", 0, 80.0), _run("distilled", 0, 82.0)]
    assert all("interval" not in record for record in long_runs.summaries(runs))


def test_budgets_are_kept_apart(shelf: Path) -> None:
    """A longer training adds a summary; it neither replaces a shorter one nor is paired with it."""
    for arm, gain in (("baseline", 0.0), ("distilled", 1.0)):
        for epochs, level in ((7, 80.0), (50, 90.0)):
            for seed in range(2):
                pretrained.add_records("results", [_run(arm, seed, level + seed + gain, epochs)])
    records = long_runs.summaries()
    assert [(one["arm"], one["epochs"]) for one in records] == [
        ("baseline", 7), ("baseline", 50), ("distilled", 7), ("distilled", 50),
    ]  # fmt: skip
    assert [one.get("difference") for one in records] == [None, None, 1.0, 1.0]
    assert long_runs.summary("distilled")["test_accuracy"] == [91.0, 92.0]
    with pytest.raises(ArtifactError, match="no long runs of 'pocket'; there are baseline, dist"):
        long_runs.summary("pocket")


def test_summaries_hold_what_the_table_needs() -> None:
    (record,) = long_runs.summaries([_run("baseline", 1, 80.0)])
    wanted = {"name", "role", "data", "parameters", "macs", "size_mb", "epochs", "seeds",
              "test_accuracy", "train_seconds", "machine"}  # fmt: skip
    assert wanted <= set(record)
    assert record["parameters"] == 106_826


def test_a_recorded_run_is_never_overwritten(shelf: Path) -> None:
    epochs = long_runs.ARMS["baseline"].recipe.epochs
    first = _run("baseline", 0, 80.0, epochs)
    assert pretrained.add_records("results", [first]) == 1
    again = [_run("baseline", 0, 70.0, epochs), _run("baseline", 1, 81.0, epochs)]
    assert pretrained.add_records("results", again) == 1, "one was there"
    (record,) = long_runs.summaries()
    assert record["test_accuracy"] == [80.0, 81.0]
    arms = [long_runs.ARMS["baseline"]]
    assert long_runs.recorded(arms, "CIFAR-10") == {("baseline", 0), ("baseline", 1)}
    assert long_runs.recorded(arms, "other images") == set()
    shorter = [replace(arms[0], recipe=replace(arms[0].recipe, epochs=1))]
    assert long_runs.recorded(shorter, "CIFAR-10") == set(), "another budget is another run"
    assert "80.50 ± 0.71 %" in long_runs.table()


def test_damaged_results_end_in_one_sentence_and_stay(shelf: Path) -> None:
    shelf.mkdir()
    (shelf / "results.json").write_text("[{")
    for reader in (long_runs.table, lambda: pretrained.add_records("results", [])):
        with pytest.raises(ArtifactError, match="cut short or damaged"):
            reader()
    assert (shelf / "results.json").read_text() == "[{"


def test_arms_of_one_network_share_their_recipe() -> None:
    """Otherwise their difference would not be due to the lesson."""
    for arm in long_runs.ARMS.values():
        if arm.against:
            other = long_runs.ARMS[arm.against]
            assert (arm.recipe, arm.network) == (other.recipe, other.network)


# --- from training to the shelf -------------------------------------------------------------------


@pytest.fixture
def short_arms(own_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every network is tiny, every recipe one epoch."""

    def build(name: str, seed: int | None = None, classes: int = 10) -> TinyNet:
        model = TinyNet(seed or 0)
        model.name, model.classes = name, classes
        return model

    monkeypatch.setattr(models, "build", build)
    monkeypatch.setattr(models, "count_macs", lambda model: 1)
    arms = {name: replace(arm, recipe=SHORT) for name, arm in long_runs.ARMS.items()}
    monkeypatch.setattr(long_runs, "ARMS", arms)


def test_a_whole_run_from_training_to_the_shelf(short_arms: None, shelf: Path) -> None:
    images = replace(tiny_data(200), **CIFAR)
    runs = long_runs.runner(images)
    names = ("teacher", "baseline", "distilled", "smoothed", "shuffled_within_class", "shuffled")
    arms = [long_runs.ARMS[name] for name in names]
    found = long_runs.run(runs, arms, (0, 1), ship=True, say=lambda words: None)
    assert [(one["name"], one["seed"]) for one in found][:3] == [
        ("teacher", 0), ("baseline", 0), ("baseline", 1),
    ]  # fmt: skip
    assert set(pretrained.names()) == {"teacher", "baseline", "distilled"}
    taught = kdutils.load("distilled", quiet=True)
    assert taught.metadata["taught_by"] == "teacher" and "Distillation" in taught.metadata["loss"]
    (record,) = (
        one for one in pretrained.load_records("results")[1]
        if (one["name"], one["seed"]) == ("distilled", 0)
    )  # fmt: skip
    score = 100 * train.evaluate(taught, images.test).accuracy
    assert record["test"] == taught.metadata["test_accuracy"] == round(score, 2), "as stored"
    smoothed = next(one for one in found if one["name"] == "smoothed")
    assert smoothed["loss"].startswith("LabelLoss(smoothing=0.")
    asked = {run.fingerprint for run in (pretrained.soft_targets(kdutils.load(quiet=True), images),)}
    cached = {path.name for path in runs.config.soft_targets.iterdir()}
    assert cached == asked, "all arms ask the teacher as it is shipped"
    done = len(list(runs.folder.glob("runs/*.json")))
    assert long_runs.run(runs, arms, (0, 1), ship=True, say=pytest.fail) is not None
    assert len(list(runs.folder.glob("runs/*.json"))) == done


def test_nothing_reaches_the_package_unless_asked_for(short_arms: None, shelf: Path) -> None:
    images = replace(tiny_data(200), **CIFAR)
    runs = long_runs.runner(images)
    long_runs.run(runs, [long_runs.ARMS["baseline"]], (0,), say=lambda words: None)
    assert not shelf.exists() and len(list(runs.folder.glob("runs/*.json"))) == 1


def test_other_images_never_reach_the_package(short_arms: None, shelf: Path) -> None:
    """Not a folder of ten classes, and not `shapes` where `auto` fell back to them."""
    shelf.mkdir()
    (shelf / "teacher.safetensors").write_bytes(b"of CIFAR-10")
    runs = long_runs.runner(tiny_data(200))
    with pytest.raises(ArtifactError, match="Only runs on CIFAR-10 .* not those on colours"):
        long_runs.run(runs, list(long_runs.ARMS.values()), (0,), ship=True)
    assert not list(runs.folder.rglob("*.json")), "said before any work"
    long_runs.run(runs, list(long_runs.ARMS.values()), (0,), say=lambda words: None)
    assert [path.name for path in shelf.iterdir()] == ["teacher.safetensors"]
    assert (shelf / "teacher.safetensors").read_bytes() == b"of CIFAR-10"


def test_students_need_a_teacher_of_their_images(short_arms: None, shelf: Path) -> None:
    runs = long_runs.runner(tiny_data(200))
    with pytest.raises(ArtifactError, match="No teacher has been trained on colours yet; .*--arms"):
        long_runs.run(runs, [long_runs.ARMS["distilled"]], (0,), say=lambda words: None)
    again = long_runs.runner(tiny_data(200))
    found = long_runs.run(
        again, [long_runs.ARMS["distilled"], long_runs.ARMS["teacher"]], (0,),
        say=lambda words: None,
    )  # fmt: skip
    assert [one["name"] for one in found] == ["teacher", "distilled"], "the teacher comes first"


def test_the_command(
    short_arms: None,
    shelf: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("kdutils.data.load", lambda: tiny_data(200))
    assert main(["long-runs", "--list"]) == 2
    assert "long-runs --ship" in capsys.readouterr().err
    assert main(["long-runs", "--arms", "baseline", "--seeds", "0,1"]) == 0
    printed = capsys.readouterr().out
    assert "student, labels only, seed 1: test" in printed and "(2 seeds)" in printed
    assert main(["long-runs", "--arms", "nothing"]) == 2
    assert "no arm 'nothing'; choose from teacher, baseline" in capsys.readouterr().err
    assert main(["long-runs", "--arms", "baseline", "--ship"]) == 2
    assert "leave out --ship" in capsys.readouterr().err
    assert not shelf.exists()


def test_a_shipped_run_keeps_its_history(short_arms: None, shelf: Path) -> None:
    images = replace(tiny_data(200), **CIFAR)
    runs = long_runs.runner(images)
    long_runs.run(runs, [long_runs.ARMS["baseline"]], (0,), ship=True, say=lambda words: None)
    trained: Trained = pretrained.trained("baseline")
    assert len(trained.history.rows) == 1 and trained.loaded
