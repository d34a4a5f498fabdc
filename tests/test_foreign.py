"""Other people's networks and images: torchvision's on 64 x 64 with 100 classes, and grey digits.

Nothing here is ours but the package: what a practitioner brings must work everywhere.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v3_small, resnet18

from kdutils import diagnose, pretrained, timing, train
from kdutils.data import ImageData, Split
from kdutils.losses import Distillation
from kdutils.soft_targets import SoftTargets

RECIPE = train.Recipe(epochs=1, batch_size=40, learning_rate=0.01)


def noise(n: int, channels: int, side: int, classes: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, channels, side, side), generator=generator)
    return Split(images.to(torch.uint8), torch.arange(n) % classes)


def data(channels: int, side: int, classes: int, n: int = 100) -> ImageData:
    parts = [noise(n, channels, side, classes, seed) for seed in range(3)]
    return ImageData(*parts, tuple(f"class {i}" for i in range(classes)), "noise")


@pytest.fixture(scope="module")
def hundred() -> ImageData:
    return data(3, 64, 100)


@pytest.fixture(scope="module")
def teacher() -> nn.Module:
    torch.manual_seed(0)
    return resnet18(num_classes=100).eval()


def test_the_whole_way_with_torchvisions_networks(
    hundred: ImageData, teacher: nn.Module, own_folders: Path
) -> None:
    student = mobilenet_v3_small(num_classes=100)
    layouts = [p.is_contiguous() for p in student.parameters()]
    targets = SoftTargets(teacher, hundred.train)
    history = train.fit(
        student, hundred, RECIPE, loss=Distillation(4, 0.9), soft_targets=targets, progress=False
    )
    assert len(history.rows) == 1 and history.last["train_loss"] > 0
    assert [p.is_contiguous() for p in student.parameters()] == layouts, "no layout is forced"
    measured = train.evaluate(student, hundred.val)
    assert measured.n == 100 and 0 <= measured.accuracy <= 1
    assert timing.latency(student, calls=2, warmup=1, input_shape=(3, 64, 64)).median_ms > 0


def test_a_live_teacher_gives_the_same_student(hundred: ImageData, teacher: nn.Module) -> None:
    students = []
    for how in ({"soft_targets": SoftTargets(teacher, hundred.train)}, {"teacher": teacher}):
        torch.manual_seed(1)
        student = mobilenet_v3_small(num_classes=100)
        train.fit(student, hundred, RECIPE, loss=Distillation(4, 0.9), progress=False, **how)
        students.append(train.predict(student, hundred.val))
    assert torch.allclose(*students, atol=0.05), "apart from float16 rounding"


def test_trained_once_and_loaded_into_a_network_one_brings(
    hundred: ImageData, own_folders: Path
) -> None:
    def run() -> pretrained.Trained:
        torch.manual_seed(2)
        return pretrained.train_or_load(
            "mine", mobilenet_v3_small(num_classes=100), hundred, RECIPE, progress=False
        )

    first, second = run(), run()
    assert not first.loaded and second.loaded
    same = zip(first.model.state_dict().values(), second.model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)


def test_diagnose_takes_them(hundred: ImageData, teacher: nn.Module) -> None:
    report = diagnose.run(
        mobilenet_v3_small(num_classes=100), teacher, hundred, Distillation(4, 0.9), images=32
    )
    assert not report.failed


class ViewNet(nn.Module):
    """Grey digits, flattened with `view`: it needs contiguous input."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(28 * 28, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.view(len(x), -1))


def test_two_classes_of_grey_digits_and_a_network_that_flattens_with_view() -> None:
    digits, net = data(1, 28, 2), ViewNet()
    targets = SoftTargets(ViewNet(), digits.train)
    train.fit(net, digits, RECIPE, loss=Distillation(), soft_targets=targets, progress=False)
    assert train.evaluate(net, digits.val).n == 100
    assert timing.latency(net, calls=2, warmup=1, input_shape=(1, 28, 28)).median_ms > 0
