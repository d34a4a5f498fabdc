"""KL the other way round, and both ways: what language models often use.

    forward   = T^2 · KL(teacher ‖ student)     cover all that the teacher finds possible
    reverse   = T^2 · KL(student ‖ teacher)     say nothing that the teacher finds impossible
    symmetric = (1 - share) · forward + share · reverse

A small student cannot match every bump of its teacher's distribution. Forward KL makes it spread
over all of them; reverse KL lets it choose some and be right about those.

Source: Y. Gu and others, "MiniLLM: Knowledge Distillation of Large Language Models", ICLR 2024,
arXiv:2306.08543, section 2.1 (there on sequences that the student wrote; here on classes).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..losses import LabelLoss, at_least_float32, check_same_shape, check_temperature
from .parts import required


def reverse_kl_loss(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float = 4.0, share: float = 1.0
) -> Tensor:
    """T^2 · KL, the share `share` of it reversed; summed over classes, averaged over the batch.

    Args:
        student_logits, teacher_logits: float (N, C). A class that the teacher gives -inf makes the
            reverse part infinite unless the student rules it out too.
        temperature: T > 0.
        share: in [0, 1]; 1 is the reverse KL alone, 0.5 the symmetric one.

    Returns:
        Scalar >= 0, zero exactly where both agree.

    Raises:
        ValueError: a bad temperature or share, or different shapes.
    """
    check_temperature(temperature)
    check_same_shape(student_logits, teacher_logits)
    if not 0 <= share <= 1:
        raise ValueError(f"The reversed share is {share}; choose from 0 (forward) to 1 (reverse).")
    log_q = (at_least_float32(student_logits) / temperature).log_softmax(1)
    log_p = (at_least_float32(teacher_logits).detach() / temperature).log_softmax(1)
    # (1 - share) KL(p‖q) + share KL(q‖p), in one sum
    rows = (((1 - share) * log_p.exp() - share * log_q.exp()) * (log_p - log_q)).sum(1)
    return temperature**2 * rows.mean()


@dataclass(frozen=True)
class ReverseKL:
    """soft_weight · reverse_kl_loss + (1 - soft_weight) · cross entropy, for `train.fit`."""

    temperature: float = 4.0
    soft_weight: float = 0.9
    share: float = 1.0

    def __call__(self, logits: Tensor, teacher_logits: Tensor | None, labels: Tensor) -> Tensor:
        teacher_logits = required(teacher_logits, self)
        soft = reverse_kl_loss(logits, teacher_logits, self.temperature, self.share)
        return self.soft_weight * soft + (1 - self.soft_weight) * LabelLoss()(logits, None, labels)
