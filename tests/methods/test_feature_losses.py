"""Losses on features and relations, against their papers' formulas in float64 NumPy loops."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from kdutils.methods.nst import nst_loss
from kdutils.methods.parts import FeatureMethod
from kdutils.methods.pkt import PKT, pkt_loss
from kdutils.methods.rkd import rkd_loss
from kdutils.methods.sp import SP, sp_loss
from kdutils.methods.vid import VID, vid_loss

N = 4
Loss = Callable[[Tensor, Tensor], Tensor]


def maps(seed: int = 0, sizes: tuple[int, int] = (3, 3)) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    student, teacher = (rng.normal(size=(N, c, s, s)) for c, s in zip((2, 3), sizes, strict=True))
    return torch.tensor(student), torch.tensor(teacher)


def test_sp() -> None:
    student, teacher = maps()

    def rows(x: Tensor) -> np.ndarray:
        flat = x.numpy().reshape(N, -1)
        return np.array([(r := flat @ one) / np.sqrt((r**2).sum()) for one in flat])

    expected = ((rows(student) - rows(teacher)) ** 2).sum() / N
    assert sp_loss(student, teacher).item() == pytest.approx(expected)


def test_nst() -> None:
    student, teacher = maps()

    def unit(x: np.ndarray) -> np.ndarray:
        return x.ravel() / np.sqrt((x**2).sum())

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.mean([(unit(x) @ unit(y)) ** 2 for x in a for y in b]))

    pairs = list(zip(student.numpy(), teacher.numpy(), strict=True))
    expected = np.mean([kernel(t, t) + kernel(s, s) - 2 * kernel(t, s) for s, t in pairs])
    assert nst_loss(student, teacher).item() == pytest.approx(expected)


def huber(a: float, b: float) -> float:
    d = abs(a - b)
    return 0.5 * d * d if d <= 1 else d - 0.5


def test_rkd() -> None:
    student, teacher = maps()
    s, t = (x.numpy().mean((2, 3)) for x in (student, teacher))

    def far(x: np.ndarray) -> np.ndarray:
        d = np.array([[np.linalg.norm(a - b) for b in x] for a in x])
        return d / (d.sum() / (N * (N - 1)))

    def cosine(x: np.ndarray, i: int, j: int, k: int) -> float:
        a, b = x[i] - x[j], x[k] - x[j]
        size = np.linalg.norm(a) * np.linalg.norm(b)
        return float(a @ b / size) if size else 0.0

    every = range(N)
    distance = np.mean([huber(far(s)[i, j], far(t)[i, j]) for i in every for j in every])
    angle = np.mean([huber(cosine(s, i, j, k), cosine(t, i, j, k))
                     for i in every for j in every for k in every])  # fmt: skip
    assert rkd_loss(student, teacher).item() == pytest.approx(distance + 2 * angle)


def test_pkt() -> None:
    student, teacher = maps()

    def neighbours(x: Tensor, i: int) -> np.ndarray:
        flat = x.numpy().reshape(N, -1)
        k = np.array([(1 + flat[i] @ b / np.linalg.norm(flat[i]) / np.linalg.norm(b)) / 2
                      for j, b in enumerate(flat) if j != i])  # fmt: skip
        return k / k.sum()

    rows = [(neighbours(teacher, i), neighbours(student, i)) for i in range(N)]
    expected = np.mean([(p * np.log(p / q)).sum() for p, q in rows])
    assert pkt_loss(student, teacher).item() == pytest.approx(expected)


def test_vid() -> None:
    mean, _ = maps()
    teacher = mean + torch.tensor([0.5, -1.0], dtype=torch.float64).view(1, 2, 1, 1)
    variance = torch.tensor([0.25, 4.0], dtype=torch.float64)
    expected = np.mean([np.log(0.5) + 0.25 / 0.5, np.log(2.0) + 1 / 8])
    assert vid_loss(mean, teacher, variance).item() == pytest.approx(expected)


PURE: dict[str, Loss] = {"sp": sp_loss, "nst": nst_loss, "rkd": rkd_loss, "pkt": pkt_loss}


@pytest.mark.parametrize("name", PURE)
def test_gradient_by_finite_differences(name: str) -> None:
    student, teacher = maps()
    assert torch.autograd.gradcheck(lambda s: PURE[name](s, teacher), student.requires_grad_())


@pytest.mark.parametrize("name", PURE)
def test_zero_where_student_is_teacher_scaled_and_above_elsewhere(name: str) -> None:
    student, teacher = maps()
    assert abs(PURE[name](2.5 * teacher, teacher).item()) < 1e-10
    assert PURE[name](student, teacher).item() > 1e-4


@pytest.mark.parametrize("name", PURE)
def test_the_order_of_images_does_not_matter_but_pairing_does(name: str) -> None:
    student, teacher = maps()
    order = torch.tensor([2, 0, 3, 1])
    loss = PURE[name]
    assert torch.isclose(loss(student[order], teacher[order]), loss(student, teacher))
    assert not torch.isclose(loss(student[order], teacher), loss(student, teacher))


@pytest.mark.parametrize("name", PURE)
def test_one_image_equal_images_and_half_precision_stay_finite(name: str) -> None:
    student, teacher = maps()
    loss = PURE[name]
    for s in (student[:1], student[:1].expand(N, -1, -1, -1), torch.zeros_like(student)):
        s = s.clone().requires_grad_()
        value = loss(s, teacher[: len(s)])
        value.backward()
        assert torch.isfinite(value) and torch.isfinite(s.grad).all()
    half = loss(student.half(), teacher.half())
    assert half.item() == pytest.approx(loss(student, teacher).item(), rel=3e-2, abs=1e-3)


def test_maps_of_different_sizes_meet_at_the_smaller() -> None:
    student, teacher = maps(sizes=(2, 4))
    pooled = torch.nn.functional.avg_pool2d(teacher, 2)
    assert torch.isclose(nst_loss(student, teacher), nst_loss(student, pooled))


def call(method: FeatureMethod, student: Tensor, teacher: Tensor) -> Tensor:
    logits, labels = torch.zeros(N, 2), torch.zeros(N, dtype=torch.int64)
    return method(logits, None, labels, {"a": student.float()}, {"b": teacher.float()})


def test_a_method_adds_its_weighted_term_to_the_cross_entropy() -> None:
    student, teacher = maps()
    plain = torch.tensor(2.0).log()
    for weight in (0.0, 3.0):
        found = call(SP(["a"], ["b"], weight), student, teacher)
        expected = plain + weight * sp_loss(student.float(), teacher.float())
        assert torch.isclose(found, expected)
    twice = PKT(["a", "a"], ["b", "b"])
    assert torch.isclose(call(twice, student, teacher) - plain, 2 * pkt_loss(student, teacher).float())


def test_layers_come_in_pairs() -> None:
    with pytest.raises(ValueError, match="compared in pairs; got 1 of the student and 2"):
        SP(["a"], ["b", "c"])
    with pytest.raises(ValueError, match="compared in pairs"):
        SP([], [])


def test_vid_learns_to_predict_and_its_adapters_are_its_own() -> None:
    torch.manual_seed(0)
    student, _ = maps()
    teacher = torch.cat([student, -student], 1)
    method = VID(("a",), ("b",), ((2, 4),), first_variance=1.0)
    assert {name.split(".")[0] for name, _ in method.named_parameters()} == {"predictors", "alphas"}
    optimizer = torch.optim.Adam(method.parameters(), 0.03)
    values = []
    for _ in range(60):
        optimizer.zero_grad()
        value = call(method, student, teacher)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < values[0] - 0.3
