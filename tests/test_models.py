"""The networks: exact counts, shapes, repeatable weights, and counting against other counters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdutils import models


def test_student_is_the_network_of_the_starting_table() -> None:
    student = models.build("student")
    assert models.count_parameters(student) == 106_826
    assert models.count_macs(student) == 3_990_144  # by hand: 442,368 + 3 x 1,179,648 + 8,832


def test_student_layers_in_order() -> None:
    kinds = [row.kind for row in models.layer_table(models.build("student"))]
    block = ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"]
    head = ["AdaptiveAvgPool2d", "Flatten", "Linear", "ReLU", "Linear"]
    assert kinds == 4 * block + head


def test_teacher_is_no_bigger_than_the_tables() -> None:
    assert models.count_parameters(models.build("teacher")) == 2_490_296 <= 4_664_970


def test_published_networks_are_those_of_the_published_table() -> None:
    teacher, student = (models.build(f"published_{who}") for who in ("teacher", "student"))
    assert models.count_parameters(teacher) == 4_664_970
    assert models.count_parameters(student) == 106_826
    assert models.size_mib(student) == pytest.approx(0.41, abs=0.005)
    shapes = {row.output_shape for row in models.layer_table(teacher) if row.kind == "Conv2d"}
    assert shapes == {(64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)}
    kinds = [row.kind for row in models.layer_table(student)]
    block, head = ["Conv2d", "BatchNorm2d", "ReLU"], ["AdaptiveAvgPool2d", "Flatten"]
    linear = ["Dropout", "Linear", "ReLU", "Dropout", "Linear"]
    assert kinds == 3 * [*block, "MaxPool2d"] + block + head + linear
    assert [m.p for m in student.modules() if isinstance(m, nn.Dropout)] == [0.5, 0.3]
    assert all(m.bias is not None for m in teacher.modules() if isinstance(m, nn.Conv2d))


def test_a_teacher_with_another_stem_and_activation() -> None:
    widths = (24, 64, 256, 256)
    model = models.Teacher(widths, stem=2, activation=nn.GELU).eval()
    rows = models.layer_table(model)
    assert rows[0].output_shape == (24, 31, 31) and not any(row.kind == "ReLU" for row in rows)
    assert sum(row.kind == "GELU" for row in rows) == 8
    assert {"0.0.weight", "1.4.norm.weight", "3.5.conv.weight"} <= set(model.state_dict())
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_pocket_is_no_bigger_than_the_student() -> None:
    pocket = models.build("pocket")
    assert models.count_parameters(pocket) == 102_912 <= 106_826
    assert models.count_macs(pocket) == 2 * 22_662_704


def test_pocket_looks_at_the_mirror_image_too_but_not_in_training() -> None:
    pocket, images = models.build("pocket", seed=0), torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        one, mirrored = pocket.eval()(images), pocket(images.flip(-1))
        trained = [models.Teacher.forward(pocket, x) for x in (images, images.flip(-1))]
        torch.testing.assert_close(one, mirrored)
        torch.testing.assert_close(one, (trained[0] + trained[1]) / 2)
        pocket.train()
        assert not torch.allclose(pocket(images), pocket(images.flip(-1)))


def test_filters_used_twice_count_once_but_work_twice() -> None:
    rows = models.layer_table(models.Residual(16, 2), input_shape=(1, 16, 8, 8))
    first, second = (row for row in rows if row.kind == "Conv2d")
    assert (first.parameters, second.parameters) == (9 * 16 * 16, 0)
    assert first.macs == second.macs == 9 * 16 * 16 * 8 * 8


def test_two_repeats_are_two_residual_layers_with_the_same_filters() -> None:
    twice = models.Residual(16, 2).eval()
    once = models.Residual(16).eval()
    with torch.no_grad():
        once.conv.weight.copy_(twice.conv.weight)
    images = torch.randn(2, 16, 8, 8)
    torch.testing.assert_close(twice(images), once(once(images)))


@pytest.mark.parametrize("name", models.names())
def test_every_network_gives_ten_finite_logits(name: str) -> None:
    model = models.build(name, seed=0).eval()
    out = model(torch.randn(2, 3, 32, 32))
    assert out.shape == (2, 10) and torch.isfinite(out).all()
    assert model.name == name and str(model)


@pytest.mark.parametrize("name", models.names())
def test_layer_table_adds_up_to_the_whole(name: str) -> None:
    model = models.build(name)
    rows = models.layer_table(model)
    assert sum(row.parameters for row in rows) == models.count_parameters(model)
    assert sum(row.macs for row in rows) == models.count_macs(model)


def test_counting_leaves_modes_alone_also_after_an_error() -> None:
    model = models.build("student").train()
    model[0][1].eval()  # a frozen batch norm
    before = [module.training for module in model.modules()]
    models.count_macs(model)
    models.layer_table(model)
    with pytest.raises(RuntimeError):
        models.layer_table(model, (1, 4, 32, 32))
    assert [module.training for module in model.modules()] == before
    assert not nn.modules.module._global_forward_hooks


def test_counting_networks_that_flatten_and_that_have_no_weights() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8 * 1024, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.conv(x)
            return self.fc(x.view(len(x), -1))

    assert models.count_macs(Flat()) == 3 * 9 * 8 * 1024 + 8 * 1024 * 10
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert models.count_macs(pool) == 0 and len(models.layer_table(pool)) == 2
    assert models.size_mb(pool) == 0
    assert models.count_macs(nn.Conv2d(1, 4, 3), (1, 1, 28, 28)) == 9 * 4 * 26 * 26


@pytest.mark.filterwarnings("ignore")
def test_size_of_an_int8_network() -> None:
    linear = nn.Sequential(nn.Linear(100, 10))
    eight = torch.ao.quantization.quantize_dynamic(linear, {nn.Linear}, dtype=torch.qint8)
    bias, scale_and_zero_point = 10 * 4, 12
    size = 1e6 * models.size_mb(eight)
    assert size == pytest.approx(1000 + bias + scale_and_zero_point, abs=16)


def test_size_mb_counts_bytes_of_weights_and_buffers() -> None:
    assert models.size_mb(nn.Linear(10, 10, bias=False)) == 400 / 1e6
    buffers = 2 * (16 + 32 + 64 + 128) * 4 + 4 * 8  # running means and variances, step counters
    expected = (106_826 * 4 + buffers) / 1e6
    assert models.size_mb(models.build("student")) == pytest.approx(expected)


def test_seed_makes_weights_repeatable_and_leaves_the_global_state() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second = models.build("student", 1), models.build("student", 1)
    assert torch.equal(torch.rand(1), expected)
    other = models.build("student", 2)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters()))
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


def test_unknown_network_is_refused_with_a_hint() -> None:
    with pytest.raises(ValueError, match="Did you mean 'student'"):
        models.build("studnet")


def test_whitened_filters_decorrelate_patches_and_stay_fixed() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(240, 3, 34, 34, generator=generator)
    images = nn.functional.avg_pool2d(images, 3, stride=1)  # neighbours alike, as in photographs
    layer = models.WhitenedConv(3, 24)
    layer.prepare(images)
    out = nn.functional.conv2d(images, layer.weight[:12]).transpose(0, 1).flatten(1)
    moments = out @ out.T / out.shape[1]
    off = moments - moments.diag().diag()
    assert off.abs().max() < 1e-2  # different axes
    assert (moments.diag() <= 1).all() and moments.diag()[0] > 0.9  # unit variance, noise damped
    assert torch.equal(layer.weight[:12], -layer.weight[12:])
    whole = nn.functional.unfold(images[:130], 3)  # in one piece, as it says
    other = models.WhitenedConv(3, 24)
    other.prepare(images[:130])
    patches = whole.transpose(1, 2).reshape(-1, 27).double()
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    first = (vectors[:, -1] / (values[-1] + 0.01).sqrt()).float()
    torch.testing.assert_close(other.weight[0].flatten().abs(), first.abs())
    before = layer.weight.clone()
    layer.prepare(2 * images)  # set once
    assert torch.equal(layer.weight, before) and not layer.weight.requires_grad


@pytest.mark.parametrize("classes", [2, 100, 1000])
def test_any_number_of_classes(classes: int) -> None:
    for name in models.names():
        model = models.build(name, seed=0, classes=classes).eval()
        assert model(torch.zeros(1, 3, 32, 32)).shape == (1, classes)


@pytest.mark.parametrize("classes", [1, 1001])
def test_no_classifier_of_one_class_or_of_thousands(classes: int) -> None:
    with pytest.raises(ValueError, match="2 to 1,000"):
        models.build("student", classes=classes)


@pytest.mark.parametrize("name", ["teacher", "pocket"])
def test_stages_start_as_a_copy_of_their_input(name: str) -> None:
    for stage in list(models.build(name, seed=3))[1:4]:
        weight = stage[0].weight.detach()
        n = weight.shape[1]
        copy = torch.zeros(n, n, 3, 3)
        copy[range(n), range(n), 1, 1] = 1
        assert torch.equal(weight[:n], copy), "the middle pixel of its own channel"
        rest = weight[n:]
        assert rest.std() > 0.01 and rest.abs().max() < 0.5, "the others are random"


def test_first_logits_are_an_eighth() -> None:
    """The scale of the output, 1/8, is part of what was trained: another is another teacher."""
    model = models.build("teacher", seed=3).eval()
    features = torch.nn.Sequential(*list(model)[:-2])
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = features(images) @ model[-2].weight.T / 8
        torch.testing.assert_close(model(images), wanted)
