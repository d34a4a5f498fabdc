"""What test_parallel.py starts with torchrun, and also alone: a few trainings, noted in a file.

python parallel_worker.py FOLDER        writes FOLDER/rank0.pt; with torchrun, one for each rank
"""

import os
import sys
from pathlib import Path

import torch
from small import TinyNet, split, tiny_data
from torch import nn

from kdutils import train
from kdutils.losses import LabelLoss
from kdutils.runtime import distributed, precision
from kdutils.soft_targets import SoftTargets
from kdutils.train import Recipe, fit

IMAGES = 150


class NumberedImages:
    """Soft targets that say which image they belong to."""

    fingerprint = "numbers"

    def epoch(self, views: list[int] | None) -> torch.Tensor:
        return torch.arange(IMAGES).float()[:, None].expand(IMAGES, 10)


def plain_net() -> nn.Module:
    """No batch norm, no dropout: two processes must do just what one does."""
    torch.manual_seed(0)
    return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 16), nn.Tanh(),
                         nn.Linear(16, 10))  # fmt: skip


def trained(epochs: int, batch_size: int, seen: list[list[int]]) -> nn.Module:
    def loss(logits, numbers, labels):
        seen.append(numbers[:, 0].int().tolist())
        return LabelLoss()(logits, None, labels)

    model, recipe = plain_net(), Recipe(epochs=epochs, batch_size=batch_size, learning_rate=0.1)
    fit(model, tiny_data(IMAGES), recipe, loss=loss, soft_targets=NumberedImages(), progress=False)
    return model


class Hint(nn.Module):
    """A method with an adapter; each process starts it otherwise: the first one's counts."""

    student_layers, teacher_layers = ("2",), ("2",)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(distributed.rank())
        self.adapter = nn.Linear(16, 16)

    def forward(self, logits, teacher_logits, labels, student, teacher):
        hint = (self.adapter(student["2"]) - teacher["2"]).square().mean()
        return LabelLoss()(logits, None, labels) + hint


def adapted() -> dict[str, torch.Tensor]:
    """Weights of student and adapter after two epochs, the second batch of each of odd size."""
    method, model = Hint(), plain_net()
    recipe = Recipe(epochs=2, batch_size=75, learning_rate=0.1)
    fit(model, tiny_data(IMAGES), recipe, loss=method, teacher=plain_net(), progress=False)
    return {**model.state_dict(), **{f"adapter {k}": v for k, v in method.state_dict().items()}}


def work(folder: Path) -> dict[str, object]:
    noted: dict[str, object] = {"seen": []}
    one_step = trained(1, IMAGES - 1, [])  # an odd batch: shares of 75 and 74
    noted["gradients"] = [p.grad.clone() for p in one_step.parameters()]
    noted["weights"] = trained(3, 50, noted["seen"]).state_dict()
    noted["adapted"] = adapted()

    images = split(4 * 1024 + 10, 0)  # five blocks
    targets = SoftTargets(TinyNet(), images, folder / "targets")
    noted["targets"] = targets.epoch([3, 1, 4, 1, 5])
    noted["asked"] = targets.teacher_calls

    saves = []
    save = torch.save
    torch.save = lambda *args: saves.append(1) or save(*args)
    model, rows = TinyNet(distributed.rank()), []  # other first weights: the first process's count
    fit(model, tiny_data(IMAGES), Recipe(epochs=2, batch_size=50, ema=0.5), progress=False,
        checkpoint=folder / "checkpoint", on_epoch=rows.append)  # fmt: skip
    torch.save = save
    noted |= {"saves": len(saves), "rows": rows, "with batch norm": model.state_dict()}
    noted["val"] = train.evaluate(model, tiny_data(IMAGES).val).accuracy
    return noted


if __name__ == "__main__":
    precision.native_bfloat16 = lambda *_: False  # equal up to the rounding of float32
    with distributed.process_group():
        found = work(Path(sys.argv[1]))
        torch.save(found, Path(sys.argv[1]) / f"rank{os.environ.get('RANK', 0)}.pt")
