"""The pitfalls: each switch does what it says and nothing else; runs resume; records are read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from small import TinyNet, tiny_data
from torch import nn

from kdutils import diagnose, models, pretrained
from kdutils.__main__ import main
from kdutils.course import pitfalls, plots
from kdutils.course.faults import (
    ByBatchNumber,
    CleanTargets,
    ScaledLogits,
    SwitchedLoss,
    TrainModeTargets,
    stay_in_eval,
)
from kdutils.course.pitfalls import ARMS, Budget, arm, effects
from kdutils.losses import Distillation
from kdutils.pretrained import ArtifactError, Trained
from kdutils.soft_targets import SoftTargets
from kdutils.train import Recipe, fit, predict
from kdutils.views import epoch_views

TINY = Budget(
    100, 2, 50, batch_size=20, teacher_epochs=1, cool_images=50, by_heart_epochs=1, weak_epochs=1
)
VIEWS = epoch_views(100, 0, 0)
Measure = Callable[..., tuple[dict[str, Any], list[dict[str, Any]]]]


@pytest.fixture
def tiny_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every network is a `TinyNet`: an arm takes a tenth of a second."""

    def build(name: str, seed: int | None = None, classes: int = 10) -> nn.Module:
        model = TinyNet(seed or 0)
        model.name = name
        return model

    monkeypatch.setattr(models, "build", build)


@pytest.fixture
def measure(tiny_networks: None, own_folders: Path) -> Measure:
    """`pitfalls.measure` with everything tiny, in a folder of its own."""
    return partial(
        pitfalls.measure, tiny_data(200), budget=TINY, folder=own_folders / "out",
        say=lambda words: None,
    )  # fmt: skip


@pytest.fixture
def targets() -> SoftTargets:
    return SoftTargets(TinyNet(1), tiny_data(100).train)


# --- the switches ---------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_at_rest_it_is_the_loss_of_the_course(temperature: float) -> None:
    student, teacher = torch.randn(2, 8, 10, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(8)
    ours = SwitchedLoss(temperature)(student, teacher, labels)
    assert torch.allclose(ours, Distillation(temperature)(student, teacher, labels))


def test_mean_reduction_is_what_kl_div_does_by_default() -> None:
    student, teacher = torch.randn(2, 8, 10, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(8)
    with pytest.warns(UserWarning, match="batchmean"):
        default = nn.functional.kl_div(
            (student / 4).log_softmax(-1), (teacher / 4).softmax(-1), reduction="mean"
        )
    loss = SwitchedLoss(soft_weight=1.0, reduction="mean")
    assert torch.allclose(loss(student, teacher, labels), 16 * default, rtol=1e-4)


def test_read_by_batch_number_is_a_permutation_that_changes(targets: SoftTargets) -> None:
    wrong = ByBatchNumber(targets)
    first, honest = wrong.epoch(VIEWS), targets.epoch(VIEWS)
    assert not torch.equal(first, honest)
    assert torch.equal(first.sort(0).values, honest.sort(0).values)
    assert torch.equal(first, wrong.epoch(VIEWS)), "the same in every run"
    again = wrong.epoch(epoch_views(100, 0, 1))
    assert not torch.equal(first.argmax(-1), again.argmax(-1)), "another in the next epoch"


def test_clean_targets_are_of_the_unchanged_images(targets: SoftTargets) -> None:
    assert torch.equal(CleanTargets(targets).epoch(VIEWS), targets.epoch(None))


def test_a_teacher_in_train_mode_depends_on_its_batch_and_is_put_back(targets: SoftTargets) -> None:
    before = predict(targets.teacher, tiny_data(100).train)
    small, large = TrainModeTargets(targets, 10), TrainModeTargets(targets, 50)
    assert not torch.allclose(small.epoch(VIEWS), large.epoch(VIEWS), atol=1e-2)
    assert small.epoch(VIEWS) is small.epoch(VIEWS), "asked once"
    assert not targets.teacher.training
    assert torch.equal(predict(targets.teacher, tiny_data(100).train), before)
    assert small.fingerprint != large.fingerprint


def test_a_frozen_layer_of_the_teacher_stays_frozen(targets: SoftTargets) -> None:
    targets.teacher.train()
    targets.teacher[3].eval()
    TrainModeTargets(targets, 10).epoch(VIEWS)
    assert targets.teacher.training and not targets.teacher[3].training


def test_scaled_logits_are_known_by_their_factor(targets: SoftTargets) -> None:
    assert torch.equal(ScaledLogits(targets, 0.5).epoch(VIEWS), 0.5 * targets.epoch(VIEWS))
    assert ScaledLogits(targets, 0.5).fingerprint != ScaledLogits(targets, 0.4).fingerprint


def test_a_student_that_stays_in_eval_mode() -> None:
    model = TinyNet(0)
    modes: list[bool] = []
    model[3].register_forward_pre_hook(
        lambda layer, inputs: modes.append(layer.training) if torch.is_grad_enabled() else None
    )
    data = tiny_data(100)
    fit(
        model, data, Recipe(epochs=3, batch_size=50), progress=False,
        on_epoch=lambda row: stay_in_eval(model, row),
    )  # fmt: skip
    assert modes == [True, True, False, False, False, False]


def test_a_pitfall_differs_in_one_thing_from_the_arm_that_does_it_right() -> None:
    assert len({each.name for each in ARMS}) == len(ARMS)
    parts = ("loss", "teacher", "wrap", "after_epoch", "share")
    for each in ARMS:
        right = arm(each.against)
        changed = [part for part in parts if getattr(each, part) != getattr(right, part)]
        if each.role == "pitfall":
            assert len(changed) == 1, f"{each.name}: {changed}"


def test_the_wrong_losses_are_those_that_the_checks_name() -> None:
    found = {
        each.name: diagnose.Report(tuple(diagnose.check_loss(each.loss))).failed
        for each in ARMS
        if isinstance(each.loss, SwitchedLoss) and each.loss.temperature == 4
    }
    assert {name: failed for name, failed in found.items() if failed} == {
        "both": ["reduction", "scale"],
        "mean": ["reduction"],
        "no_t2": ["scale"],
        "swapped": ["direction"],
        "double_softmax": ["softmax"],
    }


def test_an_unknown_arm() -> None:
    with pytest.raises(ArtifactError, match="no pitfall 'no_t3'; choose from labels, distilled"):
        arm("no_t3")


# --- the runs -------------------------------------------------------------------------------------


def test_every_arm_runs_and_nothing_twice(
    measure: Measure, own_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "kdutils.course.experiments.teacher", lambda data, progress: Trained(TinyNet(7), None, True)
    )
    said: list[str] = []
    about, records = measure(seeds=(0,), say=said.append)
    assert len(said) == len(ARMS)
    assert [one["name"] for one in records] == [each.name for each in ARMS]
    assert set(about["teachers"]) == {"good", "weak", "overfitted", "smoothed", "strong"}
    assert about["budget"] == asdict(TINY) and about["data"] == "colours"
    before = {path: path.read_bytes() for path in own_folders.glob("out/**/*.json")}
    assert measure(seeds=(0,), say=said.append) == (about, records)
    assert len(said) == len(ARMS), "nothing is done twice"
    assert before == {path: path.read_bytes() for path in own_folders.glob("out/**/*.json")}


def test_a_run_says_what_it_is(measure: Measure) -> None:
    _, records = measure([arm("labels"), arm("both")], (0, 1))
    first, *_, last = records
    assert (first["name"], first["seed"]) == ("labels", 0)
    test_curve = first["curve"]["test_accuracy"]
    assert len(test_curve) == 2 and round(100 * test_curve[-1], 2) == first["test"]
    assert (last["name"], last["seed"]) == ("both", 1) and "test_accuracy" not in last["curve"]
    assert last["recipe"]["epochs"] == 2 and last["train_images"] == 100
    assert "squared=False" in last["loss"] and last["teacher"] == "good"


def test_the_same_seed_gives_the_same_run(measure: Measure, own_folders: Path) -> None:
    def losses(seed: int, folder: str) -> list[float]:
        _, (record,) = measure([arm("no_t2")], (seed,), folder=own_folders / folder)
        return record["curve"]["train_loss"]

    assert losses(3, "a") == losses(3, "b") != losses(4, "a")


def test_what_an_arm_brings_along_travels_to_other_processes(own_folders: Path) -> None:
    """The real student; functions too, and a teacher that is trained here first."""
    small = Budget(64, 1, 20, batch_size=32, weak_epochs=1)
    chosen = [replace(arm(name), teacher="weak") for name in ("by_batch_number", "student_eval")]
    _, records = pitfalls.measure(
        tiny_data(64), chosen, (0,), budget=small, folder=own_folders, jobs=2,
        say=lambda words: None,
    )  # fmt: skip
    assert [one["name"] for one in records] == ["by_batch_number", "student_eval"]


# --- reading the record ---------------------------------------------------------------------------


def made_up(**arms: list[float]) -> list[dict[str, Any]]:
    """Runs with these test accuracies, seeds 0, 1, …"""
    return [
        {"name": name, "seed": seed, "test": value, "network": "student", "data": "CIFAR-10",
         "recipe": {"epochs": 2}, "loss": "",
         "curve": {"test_accuracy": [(value + 0.5) / 100, value / 100]}}
        for name, values in arms.items()
        for seed, value in enumerate(values)
    ]  # fmt: skip


RECORD = made_up(
    labels=[60, 61, 62],
    distilled=[63, 64.1, 65],
    both=[57, 58, 59.1],
    no_t2=[62, 63.1, 64],
    mean=[63.5, 64, 64.5],
    labels_short=[50, 51, 52.1],
    distilled_short=[51, 52.1, 53],
)


def test_effects_are_paired_and_judged() -> None:
    found = {each.name: each for each in effects(RECORD)}
    assert list(found) == ["both", "mean", "no_t2", "distilled_short", "best_on_test"]
    assert found["both"].gain.mean == pytest.approx(-2.97, abs=0.01)
    assert found["both"].verdict == "hurts: worse than labels only"
    assert found["no_t2"].cost.mean == pytest.approx(-1.0)
    assert found["no_t2"].verdict == "hurts: costs points"
    assert found["mean"].verdict == "no difference"
    assert found["best_on_test"].cost.mean == pytest.approx(0.5)
    assert found["best_on_test"].verdict == "looks better"
    short = found["distilled_short"]
    assert short.gain.mean == pytest.approx(1.0), "against labels only for as long"
    assert short.cost.mean == pytest.approx(1.0 - 3.03, abs=0.01), "against the usual gain"
    assert found["both"].costs == pytest.approx((-6, -6.1, -5.9))


def test_only_seeds_that_both_have_are_compared() -> None:
    record = made_up(labels=[60, 61, 62], distilled=[63, 64, 65], no_t2=[62, 63])
    (found, _) = effects(record)
    assert found.cost.n == 2
    assert pitfalls.compare(record, "no_t2", "labels").mean == pytest.approx(2)
    with pytest.raises(ArtifactError, match="fewer than two seeds"):
        pitfalls.compare(made_up(labels=[60.0, 61], no_t2=[62.0]), "no_t2", "labels")


def test_the_table_shows_every_arm_with_runs() -> None:
    table = pitfalls.table(RECORD)
    assert table.count("\n") == 1 + 7 + 1
    assert "| missing T² | 63.03 ± 1.00 % (3 seeds) | -1.00 [-1.00, -1.00] |" in table


@pytest.fixture
def shelf(own_folders: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of kdutils/pretrained/."""
    monkeypatch.setattr("kdutils.pretrained.records.FOLDER", own_folders / "pretrained")
    return own_folders / "pretrained"


ABOUT = {"command": "made up", "data": "CIFAR-10", "budget": {"epochs": 2}}


def test_shipped_and_read_again(shelf: Path) -> None:
    with pytest.raises(ArtifactError, match="Nothing has been recorded yet.*pitfalls --ship"):
        pitfalls.recorded()
    pitfalls.ship(ABOUT, RECORD)
    assert pitfalls.recorded() == (ABOUT, RECORD)
    path = shelf / "pitfalls.json"
    assert len(path.read_text().splitlines()) < len(RECORD) + 20, "one run a line"
    path.write_text(path.read_text()[:100])
    with pytest.raises(ArtifactError, match="cut short or damaged"):
        pitfalls.recorded()


def test_runs_of_another_budget_never_join_the_recorded_ones(shelf: Path) -> None:
    pitfalls.ship(ABOUT, RECORD)
    before = (shelf / "pitfalls.json").read_bytes()
    with pytest.raises(ArtifactError, match="are of another budget"):
        pitfalls.ship(ABOUT | {"budget": {"epochs": 3}}, RECORD)
    assert (shelf / "pitfalls.json").read_bytes() == before


def test_figures_take_effects() -> None:
    found = effects(RECORD)
    correct = pitfalls.compare(RECORD, "distilled", "labels")
    figure = plots.pitfall_effects(found, correct, data_name="made up")
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert sorted(labels) == sorted(each.title for each in found)
    assert labels[0] == "mean reduction and no T²", "the worst on top"
    accuracy = [60.0, 61.0, 62.0]
    noise = plots.seed_noise(accuracy, pitfalls.seed_noise(accuracy), 1.84)
    assert len(noise.axes) == 2


# --- the command ----------------------------------------------------------------------------------


def test_the_command_runs_lists_and_refuses(
    tiny_networks: None,
    shelf: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    images = replace(tiny_data(200), name="CIFAR-10", classes=pretrained.CLASSES)
    monkeypatch.setattr("kdutils.data.load", lambda: images)
    monkeypatch.setattr(pitfalls, "Budget", lambda: TINY)
    assert main(["pitfalls", "--list"]) == 2
    assert "Nothing has been recorded yet" in capsys.readouterr().err
    arms = ["--arms", "labels,distilled,no_t2", "--seeds", "0,1"]
    assert main(["pitfalls", *arms]) == 0
    printed = capsys.readouterr().out
    assert "missing T², seed 1: test" in printed and "| missing T² |" in printed
    assert not shelf.exists(), "nothing is put into the package unless asked for"
    assert main(["pitfalls", *arms, "--ship"]) == 0
    assert len(pitfalls.recorded()[1]) == 6
    assert main(["pitfalls", "--list"]) == 0
    for wrong, words in (
        (["--arms", "x"], "no arm 'x'; choose from labels, distilled"),
        (["--seeds", "one"], "whole numbers"), (["--seeds", "-1"], "whole numbers"),
    ):  # fmt: skip
        assert main(["pitfalls", *wrong]) == 2
        assert words in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["pitfalls", "--jobs", "-2"])
    assert "no whole number from 0" in capsys.readouterr().err


def test_only_cifar10_goes_into_the_package(
    tiny_networks: None,
    shelf: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A folder, or `shapes` in place of a download, is refused before any work."""
    monkeypatch.setattr("kdutils.data.load", lambda: tiny_data(200))
    monkeypatch.setattr(pitfalls, "measure", lambda *a, **k: pytest.fail("refused first"))
    assert main(["pitfalls", "--ship"]) == 2
    assert "Only runs on CIFAR-10 go into the package" in capsys.readouterr().err
    assert not shelf.exists()


def test_one_interrupt_ends_the_command(
    tiny_networks: None, own_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdutils.data.load", lambda: tiny_data(200))
    monkeypatch.setattr(pitfalls, "Budget", lambda: TINY)

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kdutils.train.score", stop)
    assert main(["pitfalls", "--arms", "labels,weak_labels"]) == 130
    assert not list(own_folders.rglob("runs/*.json"))


# --- what is recorded, and what the notebook says about it ----------------------------------------

CHECKOUT = Path(__file__).resolve().parents[2]
NOTEBOOK = CHECKOUT / "notebooks" / "07_when_distillation_hurts.ipynb"


@pytest.fixture
def about() -> dict[str, Any]:
    return pitfalls.recorded()[0]


@pytest.fixture
def recorded() -> list[dict[str, Any]]:
    return pitfalls.recorded()[1]


def test_the_record_says_how_it_was_made(
    about: dict[str, Any], recorded: list[dict[str, Any]]
) -> None:
    assert about["command"] == pitfalls.COMMAND and about["data"]
    assert about["budget"] == asdict(Budget()), "the budget of the code is another one"
    assert about["loss"] == asdict(SwitchedLoss())
    assert about["test_images"] == 10_000
    known = {each.name: each for each in ARMS}
    for run in recorded:
        assert set(pretrained.SCHEMA) <= set(run)
        each = known[run["name"]]
        assert run["loss"] == repr(each.loss) and run["machine"] and run["version"] and run["date"]
        assert 0 < run["test"] < 100
        if "diverged" not in run:
            epochs = max(1, round(each.share * Budget().epochs))
            assert len(run["curve"]["val_accuracy"]) == run["recipe"]["epochs"] == epochs
    used = {known[run["name"]].teacher for run in recorded} - {""}
    assert set(about["teachers"]) == used
    assert 82 < about["teachers"]["good"]["val_accuracy"] < 85, "the table's teacher: 83.13 %"


def test_every_recorded_arm_has_five_seeds(recorded: list[dict[str, Any]]) -> None:
    for name in {run["name"] for run in recorded}:
        assert set(pitfalls.accuracies(recorded, name)) >= set(range(5)), name


def test_the_crime_is_recorded(recorded: list[dict[str, Any]]) -> None:
    """What the story of the notebook rests on."""
    assert pitfalls.compare(recorded, "distilled", "labels").verdict == "higher"
    assert pitfalls.compare(recorded, "both", "labels").verdict == "lower"
    assert pitfalls.compare(recorded, "weak_labels", "labels").verdict == "lower"
    assert pitfalls.compare(recorded, "both", "weak_labels").verdict == "higher"


def test_the_second_look_is_recorded(
    about: dict[str, Any], recorded: list[dict[str, Any]]
) -> None:
    """Loudness explains the strong teacher, and more than half of what smoothing gains."""
    by = {(a, b): pitfalls.compare(recorded, a, b) for a, b in (
        ("scaled_logits_strong", "strong"), ("scaled_logits_strong", "distilled"), ("scaled_logits_T20", "T20"),
        ("smoothed_T20", "T20"), ("smoothed_T20", "scaled_logits_T20"),
    )}  # fmt: skip
    assert by["scaled_logits_strong", "strong"].verdict == "higher"
    assert by["scaled_logits_strong", "distilled"].verdict == "no difference"
    assert by["scaled_logits_T20", "T20"].verdict == by["smoothed_T20", "scaled_logits_T20"].verdict == "higher"
    assert by["scaled_logits_T20", "T20"].mean > by["smoothed_T20", "T20"].mean / 2
    spread = {name: about["logit_spread"] for name, about in about["teachers"].items()}
    assert spread["smoothed"] < spread["good"] < spread["strong"]
    # The factor of the quiet teachers was chosen for this:
    assert 0.4 * spread["good"] == pytest.approx(spread["smoothed"], rel=0.1)


def prose() -> str:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def test_the_notebook_names_what_hurts(recorded: list[dict[str, Any]]) -> None:
    """The lists `**Worse than no teacher:**`, … name every pitfall, each where its verdict is."""
    verdicts = {
        "Worse than no teacher": "hurts: worse than labels only",
        "It costs points": "hurts: costs points",
        "No difference": "no difference",
        "Better": "looks better",
    }
    said = {}
    for heading, verdict in verdicts.items():
        found = re.search(rf"\*\*{heading}:\*\*\s(.*?)\n\n", prose(), flags=re.DOTALL)
        names = re.split(r"\s*·\s*", found[1].replace("\n", " ").strip(" .")) if found else []
        said |= {name: verdict for name in names}
    assert said == {each.title: each.verdict for each in effects(recorded)}


def test_the_outputs_of_the_notebook_are_of_this_record(recorded: list[dict[str, Any]]) -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    outputs = [out for cell in cells for out in cell.get("outputs", [])]
    tables = [
        "".join(o["data"]["text/markdown"]) for o in outputs if "text/markdown" in o.get("data", {})
    ]
    assert pitfalls.verdict_table(effects(recorded)) in tables, "python -m kdutils run --in-place"
