"""The door for features: taps, adapters, and what a method may rely on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small import TinyNet, tiny_data
from torch import Tensor, nn

from kdutils import train
from kdutils.features import Taps
from kdutils.losses import LabelLoss
from kdutils.models import count_parameters
from kdutils.soft_targets import SoftTargets
from kdutils.train import CheckpointMismatch, Recipe, fit

RECIPE = Recipe(epochs=3, batch_size=64, learning_rate=0.1)
DATA = tiny_data(300)


class Hint(nn.Module):
    """A small method: a linear adapter from the student's hidden layer to the teacher's."""

    student_layers, teacher_layers = ("4",), ("2", "4")

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.adapter = nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16))
        self.seen: list[tuple[set[str], set[str]]] = []

    def forward(
        self,
        logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor,
        student_features: dict[str, Tensor],
        teacher_features: dict[str, Tensor],
    ) -> Tensor:
        assert all(not each.requires_grad for each in teacher_features.values())
        difference = self.adapter(student_features["4"]) - teacher_features["4"]
        return LabelLoss()(logits, None, labels) + difference.square().mean()


def state(*modules: nn.Module) -> list[Tensor]:
    return [value.clone() for module in modules for value in module.state_dict().values()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def test_taps_give_what_a_layer_gives_and_are_closed_whatever_happens() -> None:
    model, x = TinyNet().eval(), torch.randn(5, 3, 32, 32)
    with Taps(model, ["2", "4"]) as features:
        model(x)
        assert torch.equal(features["2"], nn.Sequential(*list(model)[:3])(x))
        assert features["4"].requires_grad
        assert set(features) == {"2", "4"} and hooks(model) == 2
    assert hooks(model) == 0 and not features
    with pytest.raises(RuntimeError, match="shape"), Taps(model, ["2"]):
        model(torch.randn(5, 7, 32, 32))
    assert hooks(model) == 0


def test_unknown_layers_and_layers_that_give_no_tensor_are_named() -> None:
    with pytest.raises(ValueError, match="TinyNet has no layer '22'; the nearest are '2'"):
        fit(TinyNet(), DATA, RECIPE, loss=_named("22"), teacher=TinyNet(9), progress=False)

    class Pair(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    model = nn.Sequential(Pair())
    with pytest.raises(ValueError, match="Layer '0' gives a tuple"), Taps(model, ["0"]):
        model(torch.zeros(1))


def _named(layer: str) -> Hint:
    method = Hint()
    method.student_layers = (layer,)
    return method


def test_adapters_are_trained_with_the_student_and_do_not_count_as_its_own() -> None:
    student, teacher, method = TinyNet(), TinyNet(9).train(), Hint()
    teacher[3].eval()
    student.eval()
    before, taught, size = state(method), state(teacher), count_parameters(student)
    plain = TinyNet()
    fit(plain, DATA, RECIPE, progress=False)
    fit(student, DATA, RECIPE, loss=method, teacher=teacher, progress=False)
    assert not same(before, state(method)) and not same(state(plain), state(student))
    assert count_parameters(student) == size and same(taught, state(teacher))
    assert teacher.training and not teacher[3].training and not student.training
    assert method.training and hooks(student) == hooks(teacher) == 0


def test_student_adapters_and_their_momentum_resume_bit_identically(tmp_path: Path) -> None:
    teacher, file = TinyNet(9), tmp_path / "c"
    whole, method = TinyNet(), Hint()
    fit(whole, DATA, RECIPE, loss=method, teacher=teacher, progress=False)
    halted, half = TinyNet(), Hint()
    fit(halted, DATA, RECIPE, loss=half, teacher=teacher, progress=False, checkpoint=file,
        on_epoch=lambda row: row["epoch"] == 2)  # fmt: skip
    assert not same(state(method), state(half))
    fresh, again = TinyNet(5), Hint(5)  # all must come from the checkpoint
    fit(fresh, DATA, RECIPE, loss=again, teacher=teacher, progress=False, checkpoint=file)
    assert same(state(whole, method), state(fresh, again))
    with pytest.raises(CheckpointMismatch, match="another teacher"):
        fit(TinyNet(), DATA, RECIPE, loss=Hint(), teacher=TinyNet(8), progress=False,
            checkpoint=file)  # fmt: skip


def test_ctrl_c_rolls_adapters_back_and_closes_the_hooks() -> None:
    student, teacher, method, kept = TinyNet(), TinyNet(9), Hint(), []

    class Interrupted(Hint):
        calls = 0

        def forward(self, *args) -> Tensor:
            self.calls += 1
            if self.calls == 7:  # epoch 2: four batches an epoch
                raise KeyboardInterrupt
            return super().forward(*args)

    method = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        fit(student, DATA, RECIPE, loss=method, teacher=teacher, progress=False,
            on_epoch=lambda row: kept.extend(state(student, method)))  # fmt: skip
    assert same(kept, state(student, method)) and hooks(student) == hooks(teacher) == 0


def test_kept_logits_go_with_live_features() -> None:
    teacher, told = TinyNet(9), []

    class Both(Hint):
        def forward(self, logits, teacher_logits, labels, student, taught) -> Tensor:
            told.append(teacher_logits.clone())
            return super().forward(logits, teacher_logits, labels, student, taught)

    targets = SoftTargets(teacher, DATA.train)
    plan = replace(RECIPE, epochs=1)
    fit(TinyNet(), DATA, plan, loss=Both(), teacher=teacher, soft_targets=targets, progress=False)
    kept = targets.epoch(train.Trainer(TinyNet(), DATA).batches.views(0)).float()
    assert all((row == kept).all(1).any() for batch in told for row in batch[:3])


def test_a_method_on_layers_without_a_teacher_is_one_clear_error() -> None:
    for targets in (None, SoftTargets(TinyNet(9), DATA.train)):
        with pytest.raises(ValueError, match="Hint compares layers.*pass teacher=... to fit"):
            fit(TinyNet(), DATA, RECIPE, loss=Hint(), soft_targets=targets, progress=False)
