"""What recorded runs say: accuracies, paired differences, the noise of seeds, tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..metrics import PairedDifference, paired_interval
from ..pretrained import ArtifactError

Record = dict[str, Any]  # see `pretrained.SCHEMA`


def accuracies(records: Sequence[Record], name: str) -> dict[int, float]:
    """Seed -> test accuracy in per cent, of the runs of an arm."""
    return {one["seed"]: one["test"] for one in records if one["name"] == name}


def minus(a: Mapping[int, float], b: Mapping[int, float]) -> dict[int, float]:
    """Seed -> difference, over the seeds that both have."""
    return {seed: a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())}


def interval(differences: Mapping[int, float]) -> PairedDifference:
    """The paired 95 % interval of differences, seed by seed."""
    return paired_interval(list(differences.values()), [0.0] * len(differences))


def compare(records: Sequence[Record], name: str, other: str) -> PairedDifference:
    """`name` minus `other`, over the seeds that both have.

    Raises:
        ArtifactError: fewer than two seeds in common.
    """
    differences = minus(accuracies(records, name), accuracies(records, other))
    if len(differences) < 2:
        raise ArtifactError(f"{name} and {other} have fewer than two seeds in common.")
    return interval(differences)


def markdown(head: Mapping[str, str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table. `head` gives each column its rule, `---` or, for numbers, `---:`."""
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join(head.values()) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


@dataclass(frozen=True)
class SeedNoise:
    """How far two runs of one recipe lie apart."""

    deviation: float  # standard deviation of one run, points
    runs: int

    def chance(self, points: float) -> float:
        """How often two runs of one recipe, differing in the seed alone, lie `points` or more
        apart in either direction.

        The difference of two independent runs has sqrt(2) times the deviation of one. The
        deviation is an estimate from few runs, so the tail is Student's t with `runs` - 1 degrees
        of freedom, a little heavier than the normal one.
        """
        from scipy.stats import t

        return float(2 * t.sf(points / (math.sqrt(2) * self.deviation), self.runs - 1))


def seed_noise(percent: Sequence[float]) -> SeedNoise:
    """The noise of one recipe, from two or more runs with different seeds.

    Raises:
        ArtifactError: fewer than two runs.
    """
    if len(percent) < 2:
        raise ArtifactError("Seed noise needs two runs or more of one recipe.")
    values = torch.tensor(percent, dtype=torch.float64)
    return SeedNoise(values.std(correction=1).item(), len(values))
