"""Nothing mixes devices: training, measuring and asking a teacher on a device that only seems one."""

from __future__ import annotations

import pytest
import torch
from small import TinyNet, tiny_data
from two_devices import TwoDevices

from kdutils import diagnose, timing
from kdutils.losses import Distillation
from kdutils.soft_targets import SoftTargets
from kdutils.train import Recipe, evaluate, fit, predict

RECIPE = Recipe(epochs=1, batch_size=50, learning_rate=0.1)


def test_the_other_device_behaves_like_one() -> None:
    here = torch.ones(3)
    with TwoDevices() as two:
        there = here.to(two.device)
        assert there.device == two.device and here.device.type == "cpu"
        assert (there * 2 + 1).relu().device == two.device
        assert there.cpu().device.type == "cpu" and there.cpu().numpy().sum() == 3
        assert torch.zeros(2, device=two.device).device == two.device
        assert here.to(there).device == two.device
        assert there[torch.tensor([0, 1])].device == two.device
        for mixed in (
            lambda: here + there,
            lambda: torch.cat([here, there]),
            lambda: here[there.long()],
        ):
            with pytest.raises(RuntimeError, match="mixes devices"):
                mixed()
        with pytest.raises(RuntimeError, match="use .cpu"):
            there.numpy()
        linear = torch.nn.Linear(3, 1).to(two.device)
        linear(there).sum().backward()
        assert linear.weight.grad.device == two.device
        with pytest.raises(RuntimeError, match="mixes devices"):
            linear(here)


def test_training_and_measuring_stay_on_one_device() -> None:
    data, model = tiny_data(200), TinyNet(1)
    reference = TinyNet(1)
    fit(reference, data, RECIPE, progress=False)
    with TwoDevices() as two:
        fit(model, data, RECIPE, device=two.device, progress=False)
        assert two.moved["there"] > 2, "weights, images, labels"
        for name, value in model.state_dict().items():
            assert value.device.type == "cpu", "the model goes back to where it came from"
            assert torch.equal(value, reference.state_dict()[name])
        model.to(two.device)
        assert evaluate(model, data.val).accuracy == evaluate(reference, data.val).accuracy
        assert predict(model, data.val).device.type == "cpu"
        assert timing.latency(model, calls=2, warmup=0).median_ms > 0


def test_a_teacher_may_be_on_another_device_than_its_student() -> None:
    data, student, teacher = tiny_data(200), TinyNet(1), TinyNet(2)
    with TwoDevices() as two:
        for one, other in ((student, teacher), (teacher, student)):
            one.to(two.device), other.to("cpu")
            fit(student, data, RECIPE, loss=Distillation(), teacher=teacher, progress=False)
            targets = SoftTargets(teacher, data.train)
            assert targets.epoch(None).shape == (200, 10)
            fit(student, data, RECIPE, loss=Distillation(), soft_targets=targets, progress=False)
            diagnose.run(student, teacher, data, Distillation(), images=64)
            with pytest.raises(ValueError, match="on one device"):
                timing.compare({"one": student, "other": teacher})
