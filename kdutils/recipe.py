"""How a network is trained, and what came of it: `Recipe` in, `History` out."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from torch import nn

from .runtime.identity import identity_of

if TYPE_CHECKING:
    import pandas as pd

    from .batches import FromLoader
    from .data import ImageData
    from .losses import Loss
    from .soft_targets import TeacherLogits

Row = dict[str, float]
COLUMNS = ("epoch", "train_loss", "train_accuracy", "val_accuracy", "val_nll", "learning_rate",
           "seconds")  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """How to train: SGD with Nesterov momentum and a triangular learning rate.

    The rate climbs linearly to its peak over the first `warmup` share of all steps, then falls
    linearly to zero. Weight decay acts on weight matrices and filters, not on biases and norms.
    With `muon` the filters are turned by Muon instead, see `kdutils.optim`; SGD has the rest.

    With `ema` the network that is measured and handed back has an average of the weights along
    the way, which is steadier than the last ones (Polyak & Juditsky 1992). `cutout` erases a
    random square (DeVries & Taylor 2017, arXiv:1708.04552); not with soft targets, because the
    teacher would have seen other pixels.
    """

    epochs: int = 8
    batch_size: int = 128
    learning_rate: float = 0.25  # the peak, of SGD
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.2  # share of all steps, 0..1
    augment: bool = True  # show views; False shows every image unchanged
    muon: float = 0.0  # the peak of Muon's rate, for filters; 0: SGD for all
    ema: float = 0.0  # averaged weights: share kept at each update, every 5 steps; 0: no average
    cutout: int = 0  # side of the square erased from each training image, in pixels; 0: none

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError(
                f"A recipe needs at least one epoch and one image a batch, got {self.epochs} and "
                f"{self.batch_size}."
            )
        rates = (self.learning_rate, self.momentum, self.weight_decay)
        if not (0 < rates[0] < math.inf and 0 <= rates[1] < 1 and 0 <= rates[2] < math.inf):
            raise ValueError(
                "A recipe needs a learning rate above zero, a momentum from 0 up to, not 1, and a "
                f"weight decay of at least zero, got {', '.join(map(str, rates))}."
            )
        if not 0 <= self.warmup < 1:
            raise ValueError(f"Warm-up is {self.warmup}; it is a share of all steps, 0 up to 1.")
        if not 0 <= self.muon < 1:
            raise ValueError(
                f"Muon's rate is {self.muon}; it is how far filters turn in a step, 0 up to 1."
            )
        if not 0 <= self.ema < 1 or self.cutout < 0:
            raise ValueError(
                f"Averaged weights keep a share of 0 up to, not 1, and cutout is a side in pixels; "
                f"got {self.ema} and {self.cutout}."
            )


@dataclass
class History:
    """What happened in training: one row per epoch.

    Row keys: epoch (from 1), train_loss, train_accuracy, val_accuracy, val_nll, learning_rate and
    seconds (since the start, resumed runs added up). Accuracies are fractions.
    """

    rows: list[Row] = field(default_factory=list)

    @property
    def last(self) -> Row:
        """The last epoch's row. We never pick the best epoch: that would be choosing by luck.

        Raises:
            ValueError: no epoch was finished.
        """
        if not self.rows:
            raise ValueError("This history has no row: no epoch of the training was finished.")
        return self.rows[-1]

    def column(self, name: str) -> list[float]:
        return [row[name] for row in self.rows]

    def frame(self) -> pd.DataFrame:
        """The rows as a pandas DataFrame, indexed by epoch."""
        import pandas as pd

        return pd.DataFrame(self.rows, columns=None if self.rows else COLUMNS).set_index("epoch")

    def __str__(self) -> str:
        if not self.rows:
            return "no epoch finished"
        last = self.last
        return (
            f"{len(self.rows)} epochs in {last['seconds']:.0f} s: loss {last['train_loss']:.3f}, "
            f"validation accuracy {100 * last['val_accuracy']:.2f} %"
        )


def triangular(step: int, total: int, warmup: float) -> float:
    """The share of the peak learning rate at `step` (0-based) of `total`: up, then down."""
    position = (step + 1) / (total + 1)
    if position < warmup:
        return position / warmup
    return (1 - position) / (1 - warmup)


def identity(
    model: nn.Module,
    data: ImageData | FromLoader,
    recipe: Recipe,
    loss: Loss | nn.Module,
    soft_targets: TeacherLogits | None,
    seed: int,
    teacher: nn.Module | None = None,
) -> dict[str, Any]:
    """What makes a run this run: a checkpoint, or a saved network, must match all of it."""
    taught_by = None if soft_targets is None else soft_targets.fingerprint
    live = None
    if teacher is not None:
        live = identity_of((teacher, data.mean, data.std), weights=True).split()[-1]
    return {
        "network": identity_of(model),
        "recipe": _said(recipe),
        "loss": identity_of(loss, frozen=True),
        "seed": int(seed),
        "data": data.fingerprint,
        "teacher": taught_by if live is None else f"{taught_by or ''} live {live}".strip(),
    }


def _said(recipe: Recipe) -> dict[str, Any]:
    """The recipe's fields; those that came later only where used, so that older runs stay known."""
    later = ("ema", "cutout", "muon")
    return {name: value for name, value in asdict(recipe).items() if value or name not in later}
