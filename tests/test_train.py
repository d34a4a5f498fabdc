"""The training loop: it learns, repeats, resumes bit for bit, and fails in clear words."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small import TinyNet, Viewing, split, tiny_data
from torch import nn

from kdutils import train, views
from kdutils.losses import Distillation, LabelLoss
from kdutils.runtime import precision
from kdutils.runtime.identity import NoIdentity
from kdutils.soft_targets import ShuffledTargets, SoftTargets, centred
from kdutils.train import CheckpointMismatch, History, Recipe, TrainingDiverged, fit

QUICK = Recipe(epochs=3, batch_size=64, learning_rate=0.1)
HERE = Path(__file__).parent


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def run(model: nn.Module, recipe: Recipe = QUICK, **more: object) -> History:
    return fit(model, tiny_data(), recipe, progress=False, **more)


def test_it_learns_and_records_every_epoch() -> None:
    model = TinyNet()
    history = run(model)
    assert [row["epoch"] for row in history.rows] == [1, 2, 3]
    assert history.last["val_accuracy"] > 0.7
    assert history.last["train_loss"] < history.rows[0]["train_loss"]
    assert history.last["seconds"] >= history.rows[0]["seconds"] > 0
    assert list(history.frame().index) == [1, 2, 3]
    assert "validation accuracy" in str(history)


def test_the_same_seed_gives_the_same_weights_and_another_does_not() -> None:
    first, second, third = TinyNet(), TinyNet(), TinyNet()
    run(first, seed=1), run(second, seed=1), run(third, seed=2)
    assert same(weights(first), weights(second))
    assert not same(weights(first), weights(third))


def test_callers_random_state_is_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    run(TinyNet())
    assert torch.equal(torch.rand(1), expected)


def test_distillation_pulls_towards_the_teacher_and_leaves_it_unchanged() -> None:
    data, teacher = tiny_data(), TinyNet(9)
    run(teacher)
    for parameter in teacher.train().parameters():
        parameter.grad = None
    before = weights(teacher)
    student = TinyNet(1)
    targets = SoftTargets(teacher, data.train)
    fit(student, data, QUICK, loss=Distillation(4.0, 1.0), soft_targets=targets, progress=False)
    assert same(before, weights(teacher))
    assert teacher.training  # left in the mode it was found in
    assert all(parameter.grad is None for parameter in teacher.parameters())
    agree = train.predict(student, data.val).argmax(1) == train.predict(teacher, data.val).argmax(1)
    assert agree.float().mean() > 0.8


def test_student_sees_exactly_the_view_that_the_teacher_saw() -> None:
    """A loss that compares: an identical twin of the teacher must find no difference."""
    data, teacher = tiny_data(), TinyNet(9)
    twin = TinyNet(9).eval()
    seen: list[float] = []

    def compare(student_logits, teacher_logits, labels):
        seen.append((centred(student_logits) - teacher_logits).abs().max().item())
        return student_logits.sum() * 0

    frozen = Recipe(epochs=2, batch_size=64, weight_decay=0.0)
    twin.train = lambda mode=True: twin  # stay in eval mode, as the teacher does
    fit(twin, data, frozen, loss=compare, soft_targets=SoftTargets(teacher, data.train),
        progress=False)  # fmt: skip
    assert max(seen) < 5e-3  # float16 rounding
    seen.clear()
    fit(twin, data, frozen, loss=compare,
        soft_targets=_Shuffled(SoftTargets(teacher, data.train)), progress=False)  # fmt: skip
    assert max(seen) > 0.05


class _Shuffled:
    """A planted bug: logits in another order than the images."""

    fingerprint = "shuffled"

    def __init__(self, targets: SoftTargets) -> None:
        self.targets = targets

    def epoch(self, views: list[int] | None) -> torch.Tensor:
        return self.targets.epoch(views).flip(0)


def test_resuming_is_bit_identical(tmp_path: Path) -> None:
    whole = TinyNet()
    straight = run(whole, seed=5)
    halted = TinyNet()
    run(halted, seed=5, checkpoint=tmp_path / "c", on_epoch=lambda row: row["epoch"] == 2)
    fresh = TinyNet(77)  # its weights must come from the checkpoint
    resumed = run(fresh, seed=5, checkpoint=tmp_path / "c")
    assert same(weights(whole), weights(fresh))
    drop = {"seconds"}
    assert [{k: v for k, v in r.items() if k not in drop} for r in straight.rows] == [
        {k: v for k, v in r.items() if k not in drop} for r in resumed.rows
    ]


def test_averaged_weights_are_what_is_measured_and_kept() -> None:
    """The model handed back is the average; it differs from, and lies near, the live weights."""
    plain, averaged = TinyNet(), TinyNet()
    run(plain)
    history = run(averaged, replace(QUICK, ema=0.9))
    assert not same(weights(plain), weights(averaged))
    found = train.evaluate(averaged, tiny_data().val)
    assert found.accuracy == pytest.approx(history.last["val_accuracy"])
    assert found.nll == pytest.approx(history.last["val_nll"], rel=1e-5)


def test_the_average_is_the_sum_that_it_should_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blend by hand what the optimizer left after every fifth step."""
    recipe = replace(QUICK, ema=0.6, epochs=2)  # nine batches an epoch: updates cross its end
    model, seen = TinyNet(), []
    before = weights(model)
    step = torch.optim.SGD.step

    def noting(self, *args):
        step(self, *args)
        seen.append(weights(model))

    monkeypatch.setattr(torch.optim.SGD, "step", noting)
    run(model, recipe)
    expected = before["2.weight"]
    for number, state in enumerate(seen[4::5], start=1):
        kept = min(0.6, number / (number + 9))
        expected = kept * expected + (1 - kept) * state["2.weight"]
    assert len(seen) == 18
    torch.testing.assert_close(model[2].weight.detach(), expected)


def test_averaged_weights_resume_bit_identically(tmp_path: Path) -> None:
    recipe = replace(QUICK, ema=0.9)
    whole, halted, fresh = TinyNet(), TinyNet(), TinyNet(77)
    run(whole, recipe, seed=5)
    run(halted, recipe, seed=5, checkpoint=tmp_path / "c", on_epoch=lambda row: row["epoch"] == 2)
    run(fresh, recipe, seed=5, checkpoint=tmp_path / "c")
    assert same(weights(whole), weights(fresh))


def test_ctrl_c_rolls_back_to_the_average() -> None:
    model, kept = TinyNet(), {}
    calls = iter(range(1000))

    def loss(student_logits, teacher_logits, labels):
        if next(calls) == 22:
            raise KeyboardInterrupt
        return LabelLoss()(student_logits, teacher_logits, labels)

    with pytest.raises(KeyboardInterrupt):
        run(
            model,
            replace(QUICK, ema=0.9),
            loss=loss,
            on_epoch=lambda r: kept.update(weights(model)),
        )
    assert same(kept, weights(model))


def test_cutout_changes_training_resumes_and_is_not_for_soft_targets(tmp_path: Path) -> None:
    recipe = replace(QUICK, cutout=16)
    plain, whole, halted, fresh = TinyNet(), TinyNet(), TinyNet(), TinyNet(77)
    run(plain), run(whole, recipe)
    assert not same(weights(plain), weights(whole))
    run(halted, recipe, checkpoint=tmp_path / "c", on_epoch=lambda row: row["epoch"] == 2)
    run(fresh, recipe, checkpoint=tmp_path / "c")
    assert same(weights(whole), weights(fresh))
    with pytest.raises(ValueError, match="Cutout and soft targets do not go together"):
        run(TinyNet(), recipe, soft_targets=SoftTargets(TinyNet(), tiny_data().train))


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    model = TinyNet()
    run(model, checkpoint=tmp_path / "c")
    calls: list[object] = []
    run(model, checkpoint=tmp_path / "c", on_epoch=calls.append)
    assert calls == []


def test_killed_at_any_moment_it_ends_in_the_same_weights(tmp_path: Path) -> None:
    """Real SIGKILLs to a real process, until one start gets through to the end."""
    whole = TinyNet()
    run(whole, Recipe(epochs=12, batch_size=64, learning_rate=0.1), seed=5)
    script = HERE / "kill_me.py"
    out, checkpoint = tmp_path / "final.pt", tmp_path / "c"
    kills = 0
    for attempt in range(30):
        worker = subprocess.Popen([sys.executable, str(script), str(checkpoint), str(out)])
        began, start = time.monotonic(), checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        while worker.poll() is None and time.monotonic() - began < 60:
            moved = checkpoint.exists() and checkpoint.stat().st_mtime_ns != start
            writing = any(tmp_path.glob(".c.*.part"))
            if kills < 3 and (moved if attempt % 2 else writing):
                os.kill(worker.pid, signal.SIGKILL)
                kills += 1
            time.sleep(0.001)
        worker.wait()
        if out.exists():
            break
    assert kills >= 2, "the run was over before it could be killed"
    assert same(weights(whole), torch.load(out, weights_only=True))


def test_ctrl_c_keeps_the_last_finished_epoch_and_is_handed_on(tmp_path: Path) -> None:
    model, kept = TinyNet(), {}

    def note(row: dict[str, float]) -> None:
        kept.clear()
        kept.update(weights(model))

    calls = iter(range(1000))

    def loss(student_logits, teacher_logits, labels):
        if next(calls) == 22:  # epoch 3: nine batches an epoch
            raise KeyboardInterrupt
        return LabelLoss()(student_logits, teacher_logits, labels)

    loss.fingerprint = "interrupted"  # `calls` has no identity
    with pytest.raises(KeyboardInterrupt):
        run(model, Recipe(epochs=5, batch_size=64), loss=loss, on_epoch=note,
            checkpoint=tmp_path / "c")  # fmt: skip
    assert same(kept, weights(model))
    assert len(train.read_checkpoint(tmp_path / "c")["rows"]) == 2


def test_a_teacher_is_asked_live_on_the_very_pixels_and_left_alone() -> None:
    """An untrained twin in eval mode finds no difference; the teacher keeps weights and modes."""
    data, teacher, twin = tiny_data(), TinyNet(9), TinyNet(9).eval()
    teacher[3].eval()  # a frozen batch norm stays frozen
    before, seen = weights(teacher), []

    def compare(student_logits, teacher_logits, labels):
        assert not teacher_logits.requires_grad and not teacher_logits.is_inference()
        seen.append((student_logits - teacher_logits).abs().max().item())
        return student_logits.sum() * 0

    twin.train = lambda mode=True: twin
    fit(twin, data, replace(QUICK, cutout=8, weight_decay=0.0), loss=compare,
        teacher=teacher, progress=False)  # fmt: skip
    assert max(seen) < 1e-6 and same(before, weights(teacher))
    assert teacher.training and not teacher[3].training


def test_soft_targets_of_other_images_are_refused_before_the_first_step() -> None:
    """More images, fewer, as many others; also through a wrapper, and without a fingerprint."""
    teacher, small, large = TinyNet(9), tiny_data(100), tiny_data(200)
    part = replace(large, train=large.train.subset(100))
    model = TinyNet()
    before = weights(model)
    for data, other in [(part, large.train), (large, part.train), (small, part.train)]:
        targets = SoftTargets(teacher, other)
        for given in (targets, ShuffledTargets(targets, other.labels, within_class=True)):
            with pytest.raises(ValueError, match="about other images than data.train"):
                fit(model, data, QUICK, loss=Distillation(), soft_targets=given, progress=False)
    nameless = _Shuffled(targets)
    nameless.targets, nameless.epoch = None, lambda views: torch.zeros(200, 10)
    with pytest.raises(ValueError, match="for 200 images, but 100 training images"):
        fit(model, small, QUICK, loss=Distillation(), soft_targets=nameless, progress=False)
    assert same(before, weights(model))


def test_soft_targets_and_a_live_teacher_are_one_too_many() -> None:
    with pytest.raises(ValueError, match="pass one of them"):
        run(TinyNet(), soft_targets=SoftTargets(TinyNet(), tiny_data().train), teacher=TinyNet())


def test_nan_loss_stops_names_the_epoch_and_keeps_the_last_good_one(tmp_path: Path) -> None:
    model, kept = TinyNet(), {}
    calls = iter(range(1000))

    def loss(student_logits, teacher_logits, labels):
        bad = float("nan") if next(calls) == 12 else 1.0
        return bad * LabelLoss()(student_logits, teacher_logits, labels)

    loss.fingerprint = "bad in epoch 2"  # `calls` has no identity
    with pytest.raises(TrainingDiverged, match="in epoch 2; the model is back at epoch 1"):
        run(
            model,
            loss=loss,
            checkpoint=tmp_path / "c",
            on_epoch=lambda r: kept.update(weights(model)),
        )
    assert same(kept, weights(model))
    assert len(train.read_checkpoint(tmp_path / "c")["rows"]) == 1


def test_checkpoints_of_other_runs_are_refused(tmp_path: Path) -> None:
    run(TinyNet(), checkpoint=tmp_path / "c")
    for more, word in [
        ({"seed": 1}, "seed"),
        ({"loss": LabelLoss(0.1)}, "loss"),
        ({"recipe": Recipe(epochs=9)}, "recipe"),
    ]:
        recipe = more.pop("recipe", QUICK)
        with pytest.raises(CheckpointMismatch, match=f"another {word}"):
            run(TinyNet(), recipe, checkpoint=tmp_path / "c", **more)
    with pytest.raises(CheckpointMismatch, match="another data"):
        fit(TinyNet(), tiny_data(seed=8), QUICK, checkpoint=tmp_path / "c", progress=False)
    with pytest.raises(CheckpointMismatch, match="another network"):
        other = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
        run(other, checkpoint=tmp_path / "c")


def test_a_loss_of_ones_own_is_known_by_what_it_is(tmp_path: Path) -> None:
    """A closure with another temperature is another run; the same one, written anew, goes on."""

    def made(temperature: float):
        return lambda student, teacher, labels: LabelLoss()(student / temperature, None, labels)

    stop = {"checkpoint": tmp_path / "c", "on_epoch": lambda row: row["epoch"] == 1}
    run(TinyNet(), loss=made(2.0), **stop)
    with pytest.raises(CheckpointMismatch, match="another loss; choose another file name"):
        run(TinyNet(), loss=made(8.0), **stop)
    assert len(run(TinyNet(), loss=made(2.0), checkpoint=tmp_path / "c").rows) == 3


def test_what_has_no_identity_is_refused_before_the_work_where_it_is_needed(tmp_path: Path) -> None:
    calls = iter(range(1000))

    def loss(student_logits, teacher_logits, labels):
        next(calls)
        return LabelLoss()(student_logits, teacher_logits, labels)

    with pytest.raises(NoIdentity, match="range_iterator, which has no identity"):
        run(TinyNet(), loss=loss, checkpoint=tmp_path / "c")
    assert next(calls) == 0
    run(TinyNet(), loss=loss)


@pytest.mark.parametrize("keep", [0, 10, 500, -1])
def test_a_checkpoint_cut_short_is_refused(tmp_path: Path, keep: int) -> None:
    run(TinyNet(), checkpoint=tmp_path / "c")
    content = (tmp_path / "c").read_bytes()
    (tmp_path / "c").write_bytes(content[:keep])
    with pytest.raises(CheckpointMismatch, match="cut short or damaged|not a checkpoint"):
        run(TinyNet(), checkpoint=tmp_path / "c")


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"identity": print}, tmp_path / "c")
    with pytest.raises(CheckpointMismatch):
        run(TinyNet(), checkpoint=tmp_path / "c")


def test_small_sets_and_ragged_batches_train() -> None:
    data = tiny_data(50)
    history = fit(TinyNet(), data, Recipe(epochs=1, batch_size=64), progress=False)
    assert len(history.rows) == 1


def test_test_split_is_never_touched() -> None:
    data = tiny_data()
    data.test.images.fill_(255)
    first = TinyNet()
    fit(first, data, QUICK, progress=False)
    second = TinyNet()
    run(second)
    # Only the fingerprint may differ: the weights must not.
    assert same(weights(first), weights(second))


class Recorder(TinyNet):
    """Keeps what it is shown in training: the first pixel rows of each image, and autocast."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.shown: list[torch.Tensor] = []
        self.autocast: list[bool] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.shown.append(images.detach().contiguous().flatten(1)[:, :96].clone())
            self.autocast.append(torch.is_autocast_enabled(images.device.type))
        return super().forward(images)


@pytest.mark.parametrize("augment", [True, False])
@pytest.mark.parametrize("seed", [0, 5])
def test_an_epoch_shows_its_views_which_are_those_of_every_seed(augment: bool, seed: int) -> None:
    data = replace(tiny_data(), train=split(1100, 0))  # two blocks, two views
    model = Recorder()
    fit(model, data, Recipe(epochs=2, batch_size=100, augment=augment), seed=seed, progress=False)
    for epoch in range(2):
        order = views.epoch_views(1100, train.VIEW_SEED, epoch) if augment else None
        pixels = views.epoch_images(data.train.images, order)
        wanted = views.normalise(pixels, data.train.mean, data.train.std).flatten(1)[:, :96]
        shown = torch.cat(model.shown[11 * epoch : 11 * epoch + 11])
        assert {row.numpy().tobytes() for row in shown} == {
            row.contiguous().numpy().tobytes() for row in wanted
        }


def test_the_history_holds_mean_loss_share_right_and_last_rate_of_an_epoch() -> None:
    losses: list[float] = []
    right: list[float] = []

    def noting(logits: torch.Tensor, teacher: torch.Tensor | None, labels: torch.Tensor):
        loss = LabelLoss()(logits, teacher, labels)
        losses.append(loss.item())
        right.append((logits.argmax(1) == labels).float().mean().item())
        return loss

    recipe = Recipe(epochs=2, batch_size=50, learning_rate=0.5, warmup=0.25)
    data = replace(tiny_data(), train=split(220, 0))  # 20 wait for the next epoch
    first, second = fit(TinyNet(), data, recipe, loss=noting, progress=False).rows
    assert first["train_loss"] == pytest.approx(sum(losses[:4]) / 4, rel=1e-6)
    assert second["train_loss"] == pytest.approx(sum(losses[4:]) / 4, rel=1e-6)
    assert second["train_accuracy"] == pytest.approx(sum(right[4:]) / 4, rel=1e-6)
    # Eight steps, the peak after two: step 3 is the last of epoch 1, step 7 that of epoch 2.
    assert first["learning_rate"] == pytest.approx(0.5 * train.triangular(3, 8, 0.25))
    assert second["learning_rate"] == pytest.approx(0.5 * train.triangular(7, 8, 0.25))
    assert 0.5 > first["learning_rate"] > second["learning_rate"] > 0


def test_training_computes_in_bfloat16_where_that_is_native(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = Recorder()
    run(model, Recipe(epochs=1, batch_size=300))
    assert set(model.autocast) == {precision.native_bfloat16("cpu")}
    monkeypatch.setattr(precision, "native_bfloat16", lambda device=None: True)
    model = Recorder()
    run(model, Recipe(epochs=1, batch_size=300))
    assert set(model.autocast) == {True}


@pytest.mark.parametrize("make", [Viewing, lambda: TinyNet().double()])
def test_foreign_networks_are_trained_as_they_are(make: Callable[[], nn.Module]) -> None:
    model, twin = make(), make()
    before = [p.dtype for p in model.parameters()]
    history = run(model, replace(QUICK, epochs=1), teacher=twin)
    assert len(history.rows) == 1 and [p.dtype for p in model.parameters()] == before


def test_a_network_without_anything_to_train_is_refused() -> None:
    with pytest.raises(ValueError, match="no weights to train .*requires_grad_"):
        run(TinyNet().requires_grad_(False))
    with pytest.raises(ValueError, match="no weights to train"):
        run(nn.Flatten())


def test_a_network_that_returns_no_tensor_is_named() -> None:
    class Pair(TinyNet):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
            return super().forward(x), None

    with pytest.raises(ValueError, match="Pair returns a tuple for a batch of 64 images"):
        run(Pair())


def test_modes_are_those_from_before() -> None:
    model = TinyNet().train()
    model[3].eval()
    run(model, replace(QUICK, epochs=1))
    assert model.training and not model[3].training


def test_a_network_whose_validation_is_nan_has_diverged() -> None:
    """The loss may look well in training mode while the running statistics are no numbers."""
    model = TinyNet()

    def poison(logits, teacher, labels):
        if model[3].num_batches_tracked == 12:  # epoch 2: nine batches an epoch
            model[3].running_var = torch.full((16,), float("nan"))
        return LabelLoss()(logits, teacher, labels)

    with pytest.raises(TrainingDiverged, match="in epoch 2; the model is back at epoch 1"):
        run(model, loss=poison)
    assert not model[3].running_var.isnan().any()


def test_a_checkpoint_of_an_older_version_is_refused_in_words(tmp_path: Path) -> None:
    torch.save({"identity": {}, "model": {}, "optimizer": [], "rows": []}, tmp_path / "c")
    with pytest.raises(CheckpointMismatch, match="another version of kdutils; choose another file"):
        run(TinyNet(), checkpoint=tmp_path / "c")
