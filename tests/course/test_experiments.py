"""The sweep, the controls and the records of the benchmark, on a data set of ten colours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from small import tiny_data
from torch import Tensor

from kdutils import models, pretrained, timing
from kdutils.course import experiments
from kdutils.losses import Distillation
from kdutils.pretrained import Trained
from kdutils.soft_targets import ShuffledTargets
from kdutils.train import History
from kdutils.views import epoch_views


class Numbered:
    """Soft targets that say which image they belong to: row i is all i."""

    fingerprint = "numbered"

    def __init__(self, n: int) -> None:
        self.n = n

    def epoch(self, views: list[int] | None) -> Tensor:
        return torch.arange(self.n).unsqueeze(1).expand(self.n, 10).half()


@pytest.mark.parametrize("within_class", [True, False])
def test_shuffled_targets_give_everyone_another_answer(within_class: bool) -> None:
    labels = torch.arange(600) % 10
    shuffled = ShuffledTargets(Numbered(600), labels, within_class, seed=3)
    donor = shuffled.epoch(None)[:, 0].long()
    assert torch.equal(donor, shuffled.donor)
    assert torch.equal(donor.sort().values, torch.arange(600)), "each answer goes to one image"
    assert (donor != torch.arange(600)).all()
    share = (labels[donor] == labels).float().mean()
    assert share == 1 if within_class else share < 0.2


def test_shuffled_targets_are_known_by_their_kind_and_seed() -> None:
    labels, honest = torch.arange(20) % 10, Numbered(20)
    kinds = [(True, 0), (False, 0), (True, 1)]
    prints = {ShuffledTargets(honest, labels, *kind).fingerprint for kind in kinds}
    assert len(prints | {honest.fingerprint}) == 4, "a checkpoint must not mistake one for another"


def test_matched_smoothing_by_hand() -> None:
    """The label has probability 0.7: its rivals share 0.3, of which smoothing s gives 0.9 s."""
    probabilities = torch.full((4, 10), 0.3 / 9, dtype=torch.float64)
    probabilities[:, 2] = 0.7
    labels = torch.full((4,), 2)
    found = experiments.matched_smoothing(probabilities.log(), labels, soft_weight=0.5)
    assert found == pytest.approx(0.5 * 0.3 / 0.9)
    assert experiments.matched_smoothing(probabilities.log(), labels, soft_weight=0.0) == 0
    wrong = torch.zeros(4, dtype=torch.int64)
    assert experiments.matched_smoothing(100 * probabilities, wrong, soft_weight=1.0) == 0.9


@pytest.fixture
def teacher() -> Trained:
    """A student in the teacher's place: quick to ask."""
    row = {"epoch": 1, "seconds": 2.5, "val_accuracy": 0.5}
    return Trained(models.build("student", 7).eval(), History([row]), loaded=False)


def short_runs(folder: Path) -> set[Path]:
    return set((folder / "results" / "short_runs").rglob("*.json"))


def test_sweep_is_done_once(own_folders: Path, teacher: Trained) -> None:
    data = tiny_data(600)
    first = experiments.sweep(data, teacher, progress=False)
    files = short_runs(own_folders)
    assert first.accuracy.shape == (len(first.temperatures), len(first.weights)) == (2, 2)
    assert len(files) == 5, "four cells and labels only"
    assert first.images == 512 and first.epochs == 1
    row, column = divmod(int(first.accuracy.argmax()), 2)
    assert first.best == Distillation(first.temperatures[row], first.weights[column])
    again = experiments.sweep(data, teacher, progress=False)
    assert torch.equal(again.accuracy, first.accuracy) and again.baseline == first.baseline
    assert short_runs(own_folders) == files


def test_each_cell_of_the_sweep_is_its_own_setting(own_folders: Path, teacher: Trained) -> None:
    data = tiny_data(600)
    found = experiments.sweep(data, teacher, progress=False)
    part = experiments.sweep_data(data)
    targets = experiments.soft_targets(teacher, part)
    run = experiments.short_run(part, Distillation(4.0, 0.5), targets, progress=False)
    cell = found.accuracy[found.temperatures.index(4.0), found.weights.index(0.5)]
    assert cell.item() == pytest.approx(run.history.last["val_accuracy"])


def test_controls_share_what_the_sweep_has_trained(own_folders: Path, teacher: Trained) -> None:
    data = tiny_data(600)
    experiments.sweep(data, teacher, progress=False)
    before = short_runs(own_folders)
    curves = experiments.controls(data, teacher, progress=False)
    assert len(short_runs(own_folders) - before) == 3, "labels only and distilled were there"
    assert list(curves)[0] == "labels only" and list(curves)[1].startswith("label smoothing 0.")
    assert all(0 <= one.last["val_accuracy"] <= 1 for one in curves.values())
    records = [json.loads(path.read_text()) for path in short_runs(own_folders)]
    assert all(record["test"] is None for record in records), "judged on validation alone"


def latency(batch_size: int, median: float) -> timing.Latency:
    return timing.Latency(median, 0.9 * median, 1.2 * median, batch_size, 1, 50)


def test_records_survive_json_and_fill_the_table(teacher: Trained) -> None:
    record = experiments.record(
        "student, distilled", "distilled", tiny_data(), [teacher, teacher], (0, 1),
        [0.80, 0.82], {1: latency(1, 1.5), 128: latency(128, 60.0)},
    )  # fmt: skip
    assert record["parameters"] == 106_826 and record["test_accuracy"] == [80.0, 82.0]
    assert record["train_seconds"] == [2.5, 2.5] and record["test_images"] == 100
    record |= {"difference": 1.25, "interval": [0.5, 2.0]}
    record = json.loads(json.dumps(record))
    table = pretrained.results_table([record])
    lines = table.splitlines()
    assert len({line.count("|") for line in lines[:3]}) == 1, "as many cells as headings"
    for words in ("81.00 ± 1.41 % (2 seeds)", "0.43 MB", "1.50 ms (1.35–1.80)", "60.0 ms"):
        assert words in lines[2]
    assert "**+1.25 points**" in table and "+0.50 to +2.00 over 2 paired seeds: higher" in table
    assert "Data: colours, `smoke` profile." in lines[-1] and "machine:" in lines[-1]


def test_the_published_table_is_the_one_of_the_design() -> None:
    teacher, labels, distilled = experiments.PUBLISHED
    assert round(distilled["accuracy"] - labels["accuracy"], 2) == -1.84
    assert labels["parameters"] == models.count_parameters(models.build("student"))
    assert teacher["parameters"] == 4_664_970


def test_the_full_profile_runs_the_long_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the notebooks' long runs and `python -m kdutils long-runs` would not be the same."""
    from kdutils.course.budgets import BUDGETS

    plan = BUDGETS["full", False]
    assert plan.teacher_epochs == experiments.LONG_RECIPES["teacher"].epochs
    assert plan.student_epochs == experiments.LONG_RECIPES["student"].epochs
    monkeypatch.setenv("KDUTILS_PROFILE", "full")
    photographs = tiny_data()
    assert (
        experiments.recipe("student", photographs, plan.student_epochs)
        == experiments.LONG_RECIPES["student"]
    )


@pytest.mark.parametrize("loudness", [0.2, 5.0])
def test_smoothing_is_matched_to_this_teacher(own_folders: Path, loudness: float) -> None:
    """A loud teacher is sure, so that little smoothing matches it; no constant does for both."""
    data = tiny_data(600)
    loud = Trained(models.build("student", 7).eval(), History([]), loaded=False)
    loud.model[-1].weight.data.mul_(loudness)
    part = experiments.sweep_data(data)
    targets = experiments.soft_targets(loud, part)
    seen = targets.epoch(epoch_views(len(part.train), 0, 0))
    wanted = experiments.matched_smoothing(seen, part.train.labels, 0.5)
    runs = experiments.controls(data, loud, Distillation(4.0, 0.5), progress=False)
    assert list(runs)[1] == f"label smoothing {wanted:.2f}"


def test_sizes_follow_a_set_that_is_smaller_than_the_profile_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_folders: Path
) -> None:
    from PIL import Image

    for part, count in (("train", 40), ("test", 5)):
        for number, name in enumerate("abc"):
            (tmp_path / "pets" / part / name).mkdir(parents=True)
            for i in range(count):
                picture = Image.new("RGB", (20, 16), (80 * number, i, 0))
                picture.save(tmp_path / "pets" / part / name / f"{i}.png")
    monkeypatch.setenv("KDUTILS_DATA", str(tmp_path / "pets"))
    data = experiments.load_data()
    assert [len(split) for split in data.splits.values()] == [108, 12, 15]
    assert data.train.images.shape[1:] == (3, 16, 20)
