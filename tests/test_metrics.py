"""Metrics against hand-made cases and written-out formulas."""

from __future__ import annotations

import math

import pytest
import torch

from kdutils import metrics


def sure(classes: list[int], n_classes: int = 3, confidence: float = 0.9) -> torch.Tensor:
    """Logits whose softmax gives `confidence` to the named class."""
    rest = (1 - confidence) / (n_classes - 1)
    p = torch.full((len(classes), n_classes), rest)
    p[torch.arange(len(classes)), torch.tensor(classes)] = confidence
    return p.log()


def test_summarise_on_a_case_by_hand() -> None:
    m = metrics.summarise(sure([0, 1, 2, 0]), torch.tensor([0, 1, 2, 1]))
    assert m.accuracy == 0.75 and m.n == 4
    assert m.nll == pytest.approx(-(3 * math.log(0.9) + math.log(0.05)) / 4, abs=1e-6)
    assert m.ece == pytest.approx(0.15, abs=1e-6)
    assert "75.00 %" in str(m)


def test_summarise_refuses_what_cannot_be_scored() -> None:
    with pytest.raises(ValueError, match="cannot be scored"):
        metrics.summarise(sure([0]), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="cannot be scored"):
        metrics.summarise(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_network_that_diverged_is_not_scored(bad: float) -> None:
    logits, labels = torch.zeros(8, 10), torch.arange(8) % 3
    logits[2, 4], logits[5] = bad, bad
    for measure in (metrics.summarise, metrics.confusion_matrix, metrics.reliability):
        with pytest.raises(ValueError, match="2 of 8 images are NaN or infinite"):
            measure(logits, labels)


def test_masked_classes_are_scored() -> None:
    logits = sure([0, 1, 2, 2])
    logits[:, 0] = torch.tensor([0.0, -torch.inf, -torch.inf, -1e9])
    assert metrics.summarise(logits, torch.tensor([0, 1, 2, 1])).accuracy == 0.75
    assert metrics.summarise(logits, torch.tensor([0, 0, 0, 0])).nll == math.inf


@pytest.mark.parametrize("classes", [2, 3, 100, 1000])
@pytest.mark.parametrize("n", [1, 7])
def test_one_image_and_any_number_of_classes(classes: int, n: int) -> None:
    logits = sure([classes - 1] * n, classes, confidence=0.99)
    labels = torch.full((n,), classes - 1, dtype=torch.int32)
    found = metrics.summarise(logits, labels)
    assert (found.accuracy, found.n) == (1.0, n)
    assert found.nll == pytest.approx(-math.log(0.99), abs=1e-5)
    assert found.ece == pytest.approx(0.01, abs=1e-5)
    assert metrics.confusion_matrix(logits, labels)[-1, -1] == n
    assert metrics.class_similarity(logits, labels).shape == (classes, classes)
    assert len(metrics.reliability(logits, labels)) == 1


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0], [0.0, 1.0], [False, True]])
def test_labels_that_name_no_class_are_refused(labels: list[float]) -> None:
    with pytest.raises(ValueError, match="from 0 to 2"):
        metrics.summarise(sure([0, 1]), torch.tensor(labels))


def test_ece_is_the_weighted_gap_of_the_reliability_bins() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(500, 10, generator=generator)
    labels = torch.randint(10, (500,), generator=generator)
    bins = metrics.reliability(logits, labels)
    assert sum(b.count for b in bins) == 500
    by_bins = sum(b.count * abs(b.accuracy - b.confidence) for b in bins) / 500
    assert metrics.summarise(logits, labels).ece == pytest.approx(by_bins, abs=1e-5)


def test_confusion_matrix_has_true_classes_in_rows() -> None:
    matrix = metrics.confusion_matrix(sure([1, 1, 2]), torch.tensor([0, 1, 2]))
    assert matrix.tolist() == [[0, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert metrics.per_class_accuracy(sure([1, 1, 2]), torch.tensor([0, 1, 2])).tolist() == [
        0.0,
        1.0,
        1.0,
    ]


def test_entropy_and_kl() -> None:
    uniform, certain = torch.full((4,), 0.25), torch.tensor([1.0, 0, 0, 0])
    assert metrics.entropy(uniform).item() == pytest.approx(math.log(4))
    assert metrics.entropy(certain).item() == 0
    assert metrics.kl_divergence(certain, uniform).item() == pytest.approx(math.log(4))
    assert metrics.kl_divergence(uniform, uniform).item() == 0


def test_agreement() -> None:
    assert metrics.agreement(sure([0, 1, 2, 0]), sure([0, 1, 1, 1])) == 0.5


def test_class_similarity_rows_sum_to_one_and_find_the_twin() -> None:
    logits = torch.tensor([[5.0, 4.0, 0.0], [4.0, 5.0, 0.0], [0.0, 0.0, 5.0]])
    table = metrics.class_similarity(logits, torch.arange(3), temperature=2.0)
    torch.testing.assert_close(table.sum(1), torch.ones(3, dtype=torch.float64))
    assert table[0, 1] > table[0, 2]


def test_rank_correlation_sees_order_only() -> None:
    assert metrics.rank_correlation([1, 2, 3, 4], [1, 10, 100, 1000]) == pytest.approx(1)
    assert metrics.rank_correlation([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    # one swap of neighbours among four: 1 - 6 * (1 + 1) / (4 * 15)
    assert metrics.rank_correlation([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(0.8)
    with pytest.raises(ValueError, match="got 2 and 3 numbers"):
        metrics.rank_correlation([1, 2], [1, 2, 3])


def test_wilson_interval_against_the_formula() -> None:
    right, n, z = 80, 100, 1.959963984540054
    p = right / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    assert metrics.wilson_interval(right, n) == pytest.approx((centre - half, centre + half))
    low, high = metrics.Metrics(0.8, 0.5, 0.1, 100).interval
    assert low < 0.8 < high


def test_paired_interval_against_the_t_table() -> None:
    found = metrics.paired_interval([3.0, 4.0, 5.0, 6.0, 7.0], [1.0, 1.0, 1.0, 1.0, 1.0])
    half = 2.776445 * math.sqrt(2.5) / math.sqrt(5)  # t(0.975, 4) from a table
    assert found.mean == 4
    assert (found.low, found.high) == pytest.approx((4 - half, 4 + half), abs=1e-5)
    assert found.verdict == "higher"
    assert metrics.paired_interval([1.0, 1.0], [3.0, 3.1]).verdict == "lower"
    assert metrics.paired_interval([1.0, 3.0], [3.0, 1.0]).verdict == "no difference"
    assert "no difference" in str(metrics.paired_interval([1.0, 3.0], [3.0, 1.0]))


def test_paired_interval_needs_pairs() -> None:
    with pytest.raises(ValueError, match="two or more pairs"):
        metrics.paired_interval([1.0], [1.0])
    with pytest.raises(ValueError, match="two or more pairs"):
        metrics.paired_interval([1.0, 2.0], [1.0])


def test_mean_std_says_how_many_seeds() -> None:
    assert metrics.mean_std([80.0, 82.0]) == "81.00 ± 1.41 % (2 seeds)"
    assert metrics.mean_std([80.0]) == "80.00 % (1 seed)"


def test_calibration_error_has_fifteen_bins() -> None:
    """0.61 sure and right, 0.69 sure and wrong: one bin of ten, where the two gaps cancel out."""
    logits = torch.tensor([[0.61, 0.39], [0.69, 0.31]]).log()
    right_and_wrong = torch.tensor([0, 1])
    wanted = ((1 - 0.61) + 0.69) / 2
    assert metrics.summarise(logits, right_and_wrong).ece == pytest.approx(wanted, abs=1e-6)
    found = metrics.reliability(logits, right_and_wrong)
    assert [(b.count, round(b.low * 15), round(b.high * 15)) for b in found] == [
        (1, 9, 10),
        (1, 10, 11),
    ]


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.1, 0.3, "higher"), (-0.3, -0.1, "lower"), (-0.1, 0.3, "no difference"),
     (0.0, 0.3, "no difference"), (-0.3, 0.0, "no difference")],
)  # fmt: skip
def test_a_verdict_is_where_the_interval_lies(low: float, high: float, verdict: str) -> None:
    assert metrics.PairedDifference(0.0, low, high, 1.0, 5).verdict == verdict


def test_agreement_counts_the_same_and_two_pairs_are_enough() -> None:
    assert metrics.agreement(sure([0, 1, 2, 0]), sure([0, 1, 2, 1])) == 0.75
    assert metrics.rank_correlation([1.0, 2.0], [5.0, 7.0]) == pytest.approx(1)
