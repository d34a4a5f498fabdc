"""The suspects: each switch does what it says and nothing else; runs resume; records are read."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small import TinyNet, tiny_data
from torch import nn

from kdutils import diagnose, models
from kdutils.__main__ import main
from kdutils.course import pitfalls, plots
from kdutils.course.pitfalls import (
    ARMS,
    ByBatchNumber,
    CleanTargets,
    Lab,
    Plan,
    SwitchedLoss,
    TrainModeTargets,
    arm,
    effects,
)
from kdutils.losses import Distillation
from kdutils.pretrained import ArtifactError
from kdutils.soft_targets import SoftTargets
from kdutils.train import Recipe, fit, predict
from kdutils.views import epoch_views

TINY = Plan(
    100, 2, 50, batch_size=20, teacher_epochs=1, cool_images=50, by_heart_epochs=1, weak_epochs=1
)
VIEWS = epoch_views(100, 0, 0)


@pytest.fixture
def tiny_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every network is a `TinyNet`: an arm takes a tenth of a second."""

    def build(name: str, seed: int | None = None, classes: int = 10) -> nn.Module:
        model = TinyNet(seed or 0)
        model.name = name
        return model

    monkeypatch.setattr(models, "build", build)


@pytest.fixture
def lab(tiny_networks: None, tmp_path: Path) -> Lab:
    return Lab(tiny_data(200), TINY, tmp_path / "lab")


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


def test_a_student_that_stays_in_eval_mode() -> None:
    model = TinyNet(0)
    modes: list[bool] = []
    model[3].register_forward_pre_hook(
        lambda layer, inputs: modes.append(layer.training) if torch.is_grad_enabled() else None
    )
    data = tiny_data(100)
    fit(
        model, data, Recipe(epochs=3, batch_size=50), progress=False,
        on_epoch=lambda row: pitfalls.stay_in_eval(model, row),
    )  # fmt: skip
    assert modes == [True, True, False, False, False, False]


def test_a_suspect_differs_in_one_thing_from_the_arm_that_does_it_right() -> None:
    assert len({each.name for each in ARMS}) == len(ARMS)
    parts = ("loss", "teacher", "wrap", "after_epoch", "share")
    for each in ARMS:
        right = arm(each.against)
        changed = [part for part in parts if getattr(each, part) != getattr(right, part)]
        if each.name not in pitfalls.CONTROLS:
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
    with pytest.raises(ArtifactError, match="no suspect 'no_t3'; choose from labels, distilled"):
        arm("no_t3")


# --- the laboratory -------------------------------------------------------------------------------


def test_runs_every_arm_and_resumes(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pitfalls.experiments, "teacher", lambda data, progress: _Trained())
    said: list[str] = []
    lab.run(seeds=(0,), say=said.append)
    assert len(said) == len(ARMS)
    assert {run["arm"] for run in lab.record()["runs"]} == {each.name for each in ARMS}
    before = {path: path.read_bytes() for path in lab.folder.glob("runs/*")}
    lab.run(seeds=(0,), say=said.append)
    assert len(said) == len(ARMS), "nothing is done twice"
    assert before == {path: path.read_bytes() for path in lab.folder.glob("runs/*")}
    known = lab.record()
    assert set(known["teachers"]) == {"good", "weak", "overfitted", "smoothed", "strong"}


class _Trained:
    model = TinyNet(7)


def test_a_run_says_what_it_is(lab: Lab) -> None:
    lab.run([arm("labels"), arm("both")], (0, 1), say=lambda words: None)
    first, *_, last = lab.record()["runs"]
    assert (first["arm"], first["seed"]) == ("labels", 0) and len(first["test_curve"]) == 2
    assert first["test_curve"][-1] == first["test_accuracy"]
    assert (last["arm"], last["seed"]) == ("both", 1) and "test_curve" not in last
    assert len(last["val_accuracy"]) == 2 and last["version"] and last["machine"] and last["date"]
    json.dumps(lab.record())


def test_the_same_seed_gives_the_same_run(lab: Lab) -> None:
    one, two = lab.run_one(arm("no_t2"), 3), lab.run_one(arm("no_t2"), 3)
    assert one["train_loss"] == two["train_loss"]
    assert lab.run_one(arm("no_t2"), 4)["train_loss"] != one["train_loss"]


def test_a_run_that_diverges_is_a_result(lab: Lab) -> None:
    broken = replace(arm("no_t2"), loss=lambda s, t, y: s.sum() * math.nan)
    record = lab.run_one(broken, 0)
    assert "became nan" in record["diverged"] and record["val_accuracy"] == []
    assert 0 <= record["test_accuracy"] <= 100


# --- reading the record ---------------------------------------------------------------------------


def made_up(**arms: list[float]) -> dict[str, Any]:
    """A record of runs with these test accuracies, seeds 0, 1, …"""
    runs = [
        {"arm": name, "seed": seed, "test_accuracy": value, "test_curve": [value + 0.5, value]}
        for name, values in arms.items()
        for seed, value in enumerate(values)
    ]
    return {"runs": runs, "data": "made up", "plan": {}, "teachers": {}}


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
    assert found["both"].verdict == "guilty: worse than labels only"
    assert found["no_t2"].cost.mean == pytest.approx(-1.0)
    assert found["no_t2"].verdict == "guilty: costs points"
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


def test_seed_noise_by_hand() -> None:
    noise = pitfalls.seed_noise([60.0, 61.0, 62.0])
    assert (noise.deviation, noise.runs) == (1.0, 3)
    # t = 1.84 / sqrt(2) = 1.301 with 2 degrees of freedom: p = 1 - t / sqrt(2 + t^2)
    t = 1.84 / math.sqrt(2)
    assert noise.chance(1.84) == pytest.approx(1 - t / math.sqrt(2 + t**2), rel=1e-6)
    assert noise.chance(0) == pytest.approx(1) and noise.chance(50) < 0.001
    with pytest.raises(ArtifactError, match="two runs or more"):
        pitfalls.seed_noise([60.0])


def test_saved_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "pitfalls.json"
    pitfalls.save_recorded(RECORD, path)
    assert pitfalls.load_recorded(path) == RECORD
    assert len(path.read_text().splitlines()) < len(RECORD["runs"]) + 15, "one run a line"
    path.write_text(path.read_text()[:100])
    with pytest.raises(ArtifactError, match="cut short or damaged"):
        pitfalls.load_recorded(path)
    with pytest.raises(ArtifactError, match="Nothing has been recorded yet"):
        pitfalls.load_recorded(tmp_path / "none.json")


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
    own_folders: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("kdutils.data.load", lambda: tiny_data(200))
    monkeypatch.setattr(pitfalls, "Plan", lambda: TINY)
    monkeypatch.setattr(pitfalls, "recorded_path", lambda: own_folders / "pitfalls.json")
    assert main(["suspects", "--list"]) == 2
    assert "Nothing has been recorded yet" in capsys.readouterr().err
    arms = ["--arms", "labels,distilled,no_t2", "--seeds", "0,1"]
    assert main(["suspects", *arms, "--record", "--out", str(own_folders / "out")]) == 0
    printed = capsys.readouterr().out
    assert "missing T², seed 1: test" in printed and "| missing T² |" in printed
    assert len(pitfalls.load_recorded()["runs"]) == 6
    assert main(["suspects", "--list"]) == 0
    assert main(["suspects", "--arms", "x"]) == 2
    assert "no suspect 'x'" in capsys.readouterr().err
    assert main(["suspects", "--seeds", "one"]) == 2
    assert "whole numbers" in capsys.readouterr().err


# --- what is recorded, and what the notebook says about it ----------------------------------------

CHECKOUT = Path(__file__).resolve().parents[2]
NOTEBOOK = CHECKOUT / "notebooks" / "07_when_distillation_hurts.ipynb"


@pytest.fixture
def recorded() -> dict[str, Any]:
    return pitfalls.load_recorded()


def test_the_record_says_how_it_was_made(recorded: dict[str, Any]) -> None:
    assert recorded["command"] == pitfalls.COMMAND and recorded["data"]
    assert recorded["plan"] == asdict(Plan()), "the plan of the code is another one"
    assert recorded["loss"] == asdict(SwitchedLoss())
    assert recorded["test_images"] == 10_000
    known = {each.name: each for each in ARMS}
    for run in recorded["runs"]:
        assert run["arm"] in known and run["machine"] and run["version"] and run["date"]
        assert 0 < run["test_accuracy"] < 100
        if "diverged" not in run:
            assert len(run["val_accuracy"]) == known[run["arm"]].epochs(Plan())
    used = {known[run["arm"]].teacher for run in recorded["runs"]} - {None}
    assert set(recorded["teachers"]) == used
    assert 82 < recorded["teachers"]["good"]["val_accuracy"] < 85, "the table's teacher: 83.13 %"


def test_every_recorded_arm_has_five_seeds(recorded: dict[str, Any]) -> None:
    for name in {run["arm"] for run in recorded["runs"]}:
        assert set(pitfalls.accuracies(recorded, name)) >= set(range(5)), name


def test_the_crime_is_recorded(recorded: dict[str, Any]) -> None:
    """What the story of the notebook rests on."""
    assert pitfalls.compare(recorded, "distilled", "labels").verdict == "higher"
    assert pitfalls.compare(recorded, "both", "labels").verdict == "lower"
    assert pitfalls.compare(recorded, "weak_labels", "labels").verdict == "lower"
    assert pitfalls.compare(recorded, "both", "weak_labels").verdict == "higher"


def test_the_second_look_is_recorded(recorded: dict[str, Any]) -> None:
    """Loudness explains the strong teacher, and more than half of what smoothing gains."""
    by = {(a, b): pitfalls.compare(recorded, a, b) for a, b in (
        ("quiet_strong", "strong"), ("quiet_strong", "distilled"), ("quiet_hot", "hot"),
        ("smoothed_hot", "hot"), ("smoothed_hot", "quiet_hot"),
    )}  # fmt: skip
    assert by["quiet_strong", "strong"].verdict == "higher"
    assert by["quiet_strong", "distilled"].verdict == "no difference"
    assert by["quiet_hot", "hot"].verdict == by["smoothed_hot", "quiet_hot"].verdict == "higher"
    assert by["quiet_hot", "hot"].mean > by["smoothed_hot", "hot"].mean / 2
    spread = {name: about["logit_spread"] for name, about in recorded["teachers"].items()}
    assert spread["smoothed"] < spread["good"] < spread["strong"]
    # The factor of the quiet teachers was chosen for this:
    assert 0.4 * spread["good"] == pytest.approx(spread["smoothed"], rel=0.1)


def prose() -> str:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def test_the_notebook_calls_guilty_who_is_guilty(recorded: dict[str, Any]) -> None:
    """The lists `**Worse than no teacher:**`, … name every suspect, each where its verdict is."""
    verdicts = {
        "Worse than no teacher": "guilty: worse than labels only",
        "It costs points": "guilty: costs points",
        "No difference": "no difference",
        "Better": "looks better",
    }
    said = {}
    for heading, verdict in verdicts.items():
        found = re.search(rf"\*\*{heading}:\*\*\s(.*?)\n\n", prose(), flags=re.DOTALL)
        names = re.split(r"\s*·\s*", found[1].replace("\n", " ").strip(" .")) if found else []
        said |= {name: verdict for name in names}
    assert said == {each.title: each.verdict for each in effects(recorded)}


def test_the_outputs_of_the_notebook_are_of_this_record(recorded: dict[str, Any]) -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    outputs = [out for cell in cells for out in cell.get("outputs", [])]
    tables = [
        "".join(o["data"]["text/markdown"]) for o in outputs if "text/markdown" in o.get("data", {})
    ]
    assert pitfalls.verdict_table(effects(recorded)) in tables, "python -m kdutils run --in-place"
