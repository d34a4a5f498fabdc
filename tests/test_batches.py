"""Batches from a DataLoader: with a live teacher, resumed bit for bit, refused where senseless."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small import TinyNet, tiny_data
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from kdutils import models, train
from kdutils.batches import FromLoader
from kdutils.losses import Distillation
from kdutils.soft_targets import SoftTargets
from kdutils.train import Recipe, fit
from kdutils.views import normalise

RECIPE = Recipe(epochs=2, batch_size=64, learning_rate=0.1)
DATA = tiny_data(200)


def loader(part: str, uint8: bool = False, **more: object) -> DataLoader:
    split = getattr(DATA, part)
    images = split.images if uint8 else normalise(split.images, split.mean, split.std)
    return DataLoader(TensorDataset(images, split.labels), batch_size=64, **more)


def shuffled(**more: object) -> FromLoader:
    return FromLoader(loader("train", shuffle=True, **more), loader("val"))


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(
        torch.equal(a, b)
        for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_it_trains_with_a_live_teacher_on_the_loaders_pixels() -> None:
    seen: list[float] = []

    def compare(logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> Tensor:
        seen.append((logits - teacher_logits).abs().max().item())
        return logits.sum() * 0

    twin = TinyNet(9).eval()
    twin.train = lambda mode=True: twin
    still = Recipe(epochs=1, batch_size=64, weight_decay=0.0)
    fit(twin, shuffled(), still, loss=compare, teacher=TinyNet(9), progress=False)
    assert len(seen) == 4 and max(seen) < 1e-5
    model = models.build("teacher", 0)  # its stem is prepared from the loader's pixels
    soft = {"loss": Distillation(), "teacher": TinyNet(9)}
    history = fit(model, shuffled(), RECIPE, **soft, progress=False)
    assert len(history.rows) == 2 and bool(model[0][0].prepared)
    found = train.evaluate(model, FromLoader(loader("train"), loader("val")).val)
    assert found.accuracy == pytest.approx(history.last["val_accuracy"]) and found.n == 100


@pytest.mark.parametrize("own", [True, False])
def test_it_resumes_bit_identically(tmp_path: Path, own: bool) -> None:
    """Also where the loader draws its order from a generator of its own."""

    def data() -> FromLoader:
        return shuffled(generator=torch.Generator()) if own else shuffled()

    whole, halted, fresh = TinyNet(), TinyNet(), TinyNet(5)
    fit(whole, data(), RECIPE, progress=False)
    file = tmp_path / "c"
    fit(halted, data(), RECIPE, progress=False, checkpoint=file, on_epoch=lambda row: True)
    fit(fresh, data(), RECIPE, progress=False, checkpoint=file)
    assert same(whole, fresh) and not same(whole, halted)


def test_uint8_images_are_normalised_here() -> None:
    ours = FromLoader(loader("train", uint8=True), loader("val"), DATA.train.mean, DATA.train.std)
    pixels, labels = next(iter(ours.train.batches()))
    expected = normalise(DATA.train.images[:64], DATA.train.mean, DATA.train.std)
    assert torch.equal(pixels, expected) and labels.dtype == torch.int64
    with pytest.raises(ValueError, match="uint8 images; pass mean and std"):
        next(iter(FromLoader(loader("train", uint8=True), loader("val")).train.batches()))


def test_what_does_not_go_with_a_loader_is_refused() -> None:
    with pytest.raises(ValueError, match="DataLoader have no fixed order and views"):
        fit(TinyNet(), shuffled(), RECIPE, soft_targets=SoftTargets(TinyNet(), DATA.train))


@pytest.mark.parametrize(
    ("columns", "said"),
    [([torch.zeros(4, 3, 8, 8)], "pairs of images"), ([torch.zeros(4, 8), torch.zeros(4)], "pairs"),
     ([torch.zeros(4, 3, 8, 8), torch.zeros(4)], "whole numbers, not torch.float32"),
     ([torch.zeros(4, 3, 8, 8), torch.zeros(4).bool()], "whole numbers, not torch.bool")],
)  # fmt: skip
def test_batches_of_something_else_are_refused(columns: list[Tensor], said: str) -> None:
    data = DataLoader(TensorDataset(*columns), batch_size=2)
    with pytest.raises(ValueError, match=said):
        fit(TinyNet(), FromLoader(data, loader("val")), RECIPE, progress=False)


def test_int32_labels_count_as_labels() -> None:
    images = normalise(DATA.train.images, DATA.train.mean, DATA.train.std)
    data = DataLoader(TensorDataset(images, DATA.train.labels.int()), batch_size=64)
    assert len(fit(TinyNet(), FromLoader(data, loader("val")), RECIPE, progress=False).rows) == 2


def test_another_data_set_is_another_run() -> None:
    one, same_again = shuffled(), shuffled()
    other = FromLoader(DataLoader(TensorDataset(*loader("val").dataset.tensors)), loader("val"))
    assert one.fingerprint == same_again.fingerprint != other.fingerprint
