"""How much work each profile does on each kind of data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..runtime.settings import settings

if TYPE_CHECKING:
    from ..data import ImageData


@dataclass(frozen=True)
class Budget:
    """How much work one profile does on one kind of data. Sizes are images, lengths are epochs."""

    train_size: int | None  # images kept of the training split; None keeps all
    val_size: int | None  # None: a tenth of the training images, at most 5,000
    test_size: int | None
    teacher_epochs: int
    student_epochs: int
    seeds: tuple[int, ...]  # paired: baseline and distilled share each seed
    sweep_epochs: int
    sweep_train_size: int | None
    sweep_temperatures: tuple[float, ...]
    sweep_weights: tuple[float, ...]


_SMOKE = Budget(2000, 500, 1000, 1, 2, (0, 1), 1, 512, (1.0, 4.0), (0.5, 0.9))
_GRID = dict(sweep_temperatures=(1.0, 4.0, 10.0), sweep_weights=(0.5, 0.9, 1.0))

# (profile, is the data synthetic?) -> budget. Lengths were set from runs on two cores.
BUDGETS: dict[tuple[str, bool], Budget] = {
    ("smoke", False): _SMOKE,
    ("smoke", True): _SMOKE,
    ("class", False): Budget(None, None, None, 8, 7, (0, 1, 2), 3, 8_000, **_GRID),
    # Eight seeds: on so few images runs differ by 1.5 points, and five could not tell.
    ("class", True): Budget(None, None, None, 5, 6, tuple(range(8)), 2, 4_000, **_GRID),
    ("full", False): Budget(None, None, None, 28, 80, (0, 1, 2, 3, 4), 10, None, **_GRID),
    ("full", True): Budget(None, None, None, 20, 30, (0, 1, 2, 3, 4), 10, None, **_GRID),
}


def budget(data: ImageData | None) -> Budget:
    """How much work the current profile does on `data`; None: images of unknown kind."""
    synthetic = data is not None and data.is_synthetic
    return BUDGETS[settings().profile.name, synthetic]
