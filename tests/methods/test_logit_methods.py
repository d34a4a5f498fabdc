"""Methods on logits, against their papers' formulas written out in float64 NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from kdutils.losses import logit_matching_loss, soft_target_loss
from kdutils.methods.dist import DIST, dist_loss
from kdutils.methods.dkd import DKD, dkd_loss
from kdutils.methods.logit_mse import LogitMSE, logit_mse_loss
from kdutils.methods.reverse_kl import ReverseKL, reverse_kl_loss
from kdutils.methods.standardised import StandardisedDistillation, standardised_loss
from kdutils.methods.teacher_free import TeacherFree, virtual_teacher_logits

N, C, T = 7, 5, 3.0
Loss = Callable[[Tensor, Tensor], Tensor]


def draw(seed: int = 0, n: int = N) -> tuple[Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    student, teacher = rng.normal(0, 2, (2, n, C))
    return torch.tensor(student), torch.tensor(teacher), torch.tensor(rng.integers(0, C, n))


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def kl(p: np.ndarray, q: np.ndarray) -> float:
    return float(sum(a * np.log(a / b) for a, b in zip(p, q, strict=True) if a > 0))


def by_hand_dkd(student: np.ndarray, teacher: np.ndarray, labels: np.ndarray) -> float:
    rows = []
    for z, v, y in zip(student, teacher, labels, strict=True):
        p, q = softmax(v / T), softmax(z / T)
        target = kl(np.array([p[y], 1 - p[y]]), np.array([q[y], 1 - q[y]]))
        other = kl(np.delete(p, y) / (1 - p[y]), np.delete(q, y) / (1 - q[y]))
        rows.append(T**2 * (1.5 * target + 6 * other))
    return float(np.mean(rows))


def test_dkd() -> None:
    student, teacher, labels = draw()
    expected = by_hand_dkd(student.numpy(), teacher.numpy(), labels.numpy())
    assert dkd_loss(student, teacher, labels, T, 1.5, 6.0).item() == pytest.approx(expected)


def test_dkd_with_the_weights_of_plain_distillation_is_plain_distillation() -> None:
    """Zhao et al., eq. 5: KL = target + (1 - p_y) · non-target; for one image that is a check."""
    student, teacher, labels = draw(n=1)
    p = torch.softmax(teacher / T, 1)[0, labels[0]].item()
    found = dkd_loss(student, teacher, labels, T, 1.0, 1 - p)
    assert found.item() == pytest.approx(soft_target_loss(student, teacher, T).item())


def test_dist() -> None:
    student, teacher, _ = draw()
    q = np.array([softmax(z / T) for z in student.numpy()])
    p = np.array([softmax(v / T) for v in teacher.numpy()])
    inter = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(q, p, strict=True)])
    intra = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(q.T, p.T, strict=True)])
    found = dist_loss(student, teacher, T)
    assert [x.item() for x in found] == pytest.approx([inter, intra])


def test_standardised() -> None:
    student, teacher, _ = draw()
    rows = []
    for z, v in zip(student.numpy(), teacher.numpy(), strict=True):
        p, q = (softmax((x - x.mean()) / x.std() / T) for x in (v, z))
        rows.append(T**2 * kl(p, q))
    assert standardised_loss(student, teacher, T).item() == pytest.approx(np.mean(rows))


def test_standardised_does_not_hear_loudness() -> None:
    student, teacher, _ = draw()
    plain = standardised_loss(student, teacher, T)
    assert torch.isclose(standardised_loss(student, 0.4 * teacher - 3, T), plain)
    assert not torch.isclose(standardised_loss(student, -teacher, T), plain)


def test_logit_mse() -> None:
    student, teacher, _ = draw()
    expected = np.mean((student.numpy() - teacher.numpy()) ** 2) / 2
    assert logit_mse_loss(student, teacher).item() == pytest.approx(expected)
    centred = [x - x.mean(1, keepdim=True) for x in (student, teacher)]
    assert torch.isclose(logit_mse_loss(*centred), logit_matching_loss(student, teacher))
    assert logit_mse_loss(student + 1, student).item() == pytest.approx(0.5), "not centred"


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_reverse_kl(share: float) -> None:
    student, teacher, _ = draw()
    rows = []
    for z, v in zip(student.numpy(), teacher.numpy(), strict=True):
        p, q = softmax(v / T), softmax(z / T)
        rows.append(T**2 * ((1 - share) * kl(p, q) + share * kl(q, p)))
    assert reverse_kl_loss(student, teacher, T, share).item() == pytest.approx(np.mean(rows))
    if share == 0:
        assert rows and np.mean(rows) == pytest.approx(soft_target_loss(student, teacher, T).item())


def test_teacher_free() -> None:
    student, _, labels = draw()
    rows = []
    for z, y in zip(student.numpy(), labels.numpy(), strict=True):
        p = np.full(C, 0.2 / (C - 1))
        p[y] = 0.8
        softened = p ** (1 / T) / (p ** (1 / T)).sum()
        hard = -np.log(softmax(z)[y])
        rows.append(0.7 * hard + 0.3 * T**2 * kl(softened, softmax(z / T)))
    found = TeacherFree(T, soft_weight=0.3, sureness=0.8)(student, None, labels)
    assert found.item() == pytest.approx(np.mean(rows))
    with pytest.raises(ValueError, match="sureness lies between chance and 1"):
        virtual_teacher_logits(labels, C, 0.1)


PURE: dict[str, Loss] = {
    "dkd": lambda z, v: dkd_loss(z, v, torch.arange(len(z)) % C, T),
    "dist": lambda z, v: sum(dist_loss(z, v, T), torch.zeros(())),
    "standardised": lambda z, v: standardised_loss(z, v, T),
    "mse": logit_mse_loss,
    "reverse": lambda z, v: reverse_kl_loss(z, v, T),
    "symmetric": lambda z, v: reverse_kl_loss(z, v, T, 0.5),
}


@pytest.mark.parametrize("name", PURE)
def test_gradient_by_finite_differences(name: str) -> None:
    student, teacher, _ = draw()
    assert torch.autograd.gradcheck(
        lambda z: PURE[name](z, teacher), student.requires_grad_(), atol=1e-6
    )


@pytest.mark.parametrize("name", PURE)
def test_zero_at_the_teacher_and_above_elsewhere(name: str) -> None:
    student, teacher, _ = draw()
    assert abs(PURE[name](teacher, teacher).item()) < 1e-12
    assert PURE[name](student, teacher).item() > 1e-3


@pytest.mark.parametrize("name", PURE)
def test_the_teacher_gets_no_gradient(name: str) -> None:
    student, teacher, _ = draw()
    PURE[name](student.requires_grad_(), teacher.requires_grad_()).backward()
    assert teacher.grad is None and student.grad is not None


@pytest.mark.parametrize("name", PURE)
def test_one_image_large_logits_and_half_precision_stay_finite(name: str) -> None:
    student, teacher, _ = draw(n=1)
    loss = PURE[name]
    assert torch.isfinite(loss(student, teacher))
    assert torch.isfinite(loss(200 * student, 200 * teacher))
    many, others, _ = draw()
    half = loss(many.half(), others.half())
    assert half.item() == pytest.approx(loss(many, others).item(), rel=2e-2)


@pytest.mark.parametrize("name", PURE)
def test_other_shapes_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="shape"):
        PURE[name](torch.zeros(4, C), torch.zeros(4, C + 1))


@pytest.mark.parametrize("method", [DKD(), DIST(), LogitMSE(), ReverseKL(),
                                    StandardisedDistillation()])  # fmt: skip
def test_each_method_asks_for_its_teacher(method: object) -> None:
    student, teacher, labels = draw()
    assert torch.isfinite(method(student, teacher, labels))  # type: ignore[operator]
    with pytest.raises(ValueError, match=f"{type(method).__name__} needs teacher logits"):
        method(student, None, labels)  # type: ignore[operator]
