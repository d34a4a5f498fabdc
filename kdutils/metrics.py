"""Measures of a classifier and of the difference between two: pure functions of tensors.

Accuracy and calibration error are fractions in [0, 1], likelihoods and entropies are in nats.
What torchmetrics keeps well (confusion matrix, calibration error) is taken from there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Metrics:
    """How well logits fit labels."""

    accuracy: float  # fraction right
    nll: float  # mean negative log-likelihood of the label, nats
    ece: float  # expected calibration error, 15 bins, fraction
    n: int  # images measured

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the accuracy: what another test set of this size might say."""
        return wilson_interval(round(self.accuracy * self.n), self.n)

    def __str__(self) -> str:
        return (
            f"accuracy {100 * self.accuracy:.2f} %, NLL {self.nll:.3f}, "
            f"ECE {100 * self.ece:.2f} % ({self.n:,} images)"
        )


def summarise(logits: Tensor, labels: Tensor) -> Metrics:
    """Accuracy, NLL and ECE of float logits (N, C) against whole labels (N,), N >= 1, C >= 2.

    ECE: Guo et al. 2017, arXiv:1706.04599, 15 equal bins, L1 norm.

    Raises:
        ValueError: there are no images, shapes do not fit, logits are NaN, a label names no class.
    """
    labels = _check(logits, labels)
    from torchmetrics.functional.classification import multiclass_calibration_error

    logits = logits.float().cpu()
    ece = multiclass_calibration_error(
        logits.softmax(-1), labels, num_classes=logits.shape[1], n_bins=15, norm="l1"
    )
    return Metrics(
        accuracy=(logits.argmax(-1) == labels).float().mean().item(),
        nll=F.cross_entropy(logits, labels).item(),
        ece=ece.item(),
        n=len(labels),
    )


def _check(logits: Tensor, labels: Tensor) -> Tensor:
    """The labels as int64 on the CPU, once these can be scored."""
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or len(labels) == 0:
        raise ValueError(
            f"Logits of shape {tuple(logits.shape)} and labels of shape {tuple(labels.shape)} "
            "cannot be scored; they must be (N, C) and (N,), with at least one image."
        )
    wrong = int(logits.float().softmax(-1).isnan().any(-1).sum())
    if wrong:
        raise ValueError(
            f"The logits of {wrong:,} of {len(logits):,} images are NaN or infinite, so they "
            "cannot be scored; the network diverged or was given broken weights or images."
        )
    whole = labels.dtype != torch.bool and not labels.is_floating_point()
    if not whole or labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(
            f"Labels must be whole numbers from 0 to {logits.shape[1] - 1}; they are "
            f"{labels.dtype} from {labels.min().item()} to {labels.max().item()}."
        )
    return labels.long().cpu()


def confusion_matrix(logits: Tensor, labels: Tensor) -> Tensor:
    """(C, C) counts: rows are true classes, columns predictions."""
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    labels = _check(logits, labels)
    predicted = logits.argmax(-1).cpu()
    return multiclass_confusion_matrix(predicted, labels, num_classes=logits.shape[1])


def per_class_accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """(C,) fraction of each true class that is predicted right; NaN for a class without images."""
    matrix = confusion_matrix(logits, labels).double()
    return matrix.diag() / matrix.sum(1)


@dataclass(frozen=True)
class ReliabilityBin:
    """One bin of a reliability diagram; `confidence` and `accuracy` are means over its images."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def reliability(logits: Tensor, labels: Tensor, bins: int = 15) -> list[ReliabilityBin]:
    """Bins of equal width in the top probability; empty bins are left out.

    The ECE is the count-weighted mean of |accuracy - confidence| (Guo et al. 2017, eq. 3).
    """
    labels = _check(logits, labels)
    confidence, prediction = logits.float().cpu().softmax(-1).max(-1)
    right = (prediction == labels).float()
    edges = torch.linspace(0, 1, bins + 1)
    which = torch.bucketize(confidence, edges[1:-1].contiguous(), right=True)
    found = []
    for number in range(bins):
        inside = which == number
        if inside.any():
            low, high = edges[number].item(), edges[number + 1].item()
            count = int(inside.sum())
            mean_confidence = confidence[inside].mean().item()
            found.append(
                ReliabilityBin(low, high, count, mean_confidence, right[inside].mean().item())
            )
    return found


def entropy(probabilities: Tensor) -> Tensor:
    """-sum p log p over the last dimension, in nats: 0 when certain, log C when clueless."""
    return torch.special.entr(probabilities).sum(-1)


def kl_divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(p ‖ q) = sum p log(p / q) over the last dimension, in nats; p and q are probabilities."""
    return (torch.xlogy(p, p) - torch.xlogy(p, q)).sum(-1)


def agreement(first: Tensor, second: Tensor) -> float:
    """The fraction of images on which two sets of logits (N, C) name the same class."""
    return (first.argmax(-1) == second.argmax(-1)).float().mean().item()


def class_similarity(logits: Tensor, labels: Tensor, temperature: float = 4.0) -> Tensor:
    """(C, C) mean softened probability that images of class `row` give to class `column`.

    Rows sum to one. Read off-diagonal entries as "how much does a row look like a column".
    """
    labels = _check(logits, labels)
    probabilities = (logits.cpu().double() / temperature).softmax(-1)
    classes = logits.shape[1]
    totals = torch.zeros(classes, classes, dtype=torch.float64)
    totals.index_add_(0, labels, probabilities)
    return totals / torch.bincount(labels, minlength=classes).clamp(min=1).unsqueeze(1)


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's rank correlation in [-1, 1]: do two lists of numbers have the same order?

    Args:
        a, b: (n,) numbers, tensors or arrays; ties share their mean rank.

    Raises:
        ValueError: lengths differ, or there are fewer than two numbers.
    """
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(
            f"A rank correlation needs two or more pairs, got {len(a)} and {len(b)} numbers."
        )
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic)


def mean_std(percent: Sequence[float]) -> str:
    """Mean ± standard deviation over seeds: `"81.20 ± 0.30 % (3 seeds)"`; one seed is said."""
    values = torch.tensor(percent, dtype=torch.float64)
    if len(values) == 1:
        return f"{values.item():.2f} % (1 seed)"
    return f"{values.mean():.2f} ± {values.std(correction=1):.2f} % ({len(values)} seeds)"


def wilson_interval(right: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Interval for a proportion (Wilson 1927): honest also near 0 and 1.

    Args:
        right: successes, 0..n.
        n: trials, > 0.
        level: coverage, 0..1.

    Returns:
        (low, high), fractions.
    """
    from scipy.stats import binomtest

    ci = binomtest(right, n).proportion_ci(confidence_level=level, method="wilson")
    return ci.low, ci.high


@dataclass(frozen=True)
class PairedDifference:
    """Mean of `a - b` over paired seeds with its t-interval. Units are those of the inputs."""

    mean: float
    low: float
    high: float
    deviation: float  # standard deviation of the paired differences
    n: int

    @property
    def verdict(self) -> str:
        """`"higher"`, `"lower"`, or `"no difference"` when the interval holds zero."""
        if self.low > 0:
            return "higher"
        return "lower" if self.high < 0 else "no difference"

    def __str__(self) -> str:
        return (
            f"{self.mean:+.2f} [{self.low:+.2f}, {self.high:+.2f}] "
            f"over {self.n} paired seeds: {self.verdict}"
        )


def paired_interval(
    a: Sequence[float], b: Sequence[float], level: float = 0.95
) -> PairedDifference:
    """Student's t-interval of the mean of a - b, seed by seed.

    Raises:
        ValueError: lengths differ, or fewer than two pairs (no spread to judge by).
    """
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(
            f"A paired interval needs two or more pairs, got {len(a)} and {len(b)} values."
        )
    from scipy.stats import t

    differences = torch.tensor(a, dtype=torch.float64) - torch.tensor(b, dtype=torch.float64)
    n, mean = len(differences), differences.mean().item()
    deviation = differences.std(correction=1).item()
    half = t.ppf((1 + level) / 2, n - 1) * deviation / math.sqrt(n)
    return PairedDifference(mean, mean - half, mean + half, deviation, n)
