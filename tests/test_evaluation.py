"""Asking a network about a split: its mode, layout and type, and answers that are no numbers."""

from __future__ import annotations

import pytest
import torch
from small import TinyNet, Viewing, tiny_data
from torch import nn

from kdutils import train


def test_evaluate_and_predict_leave_the_model_in_its_mode() -> None:
    model = TinyNet().train()
    data = tiny_data()
    logits = train.predict(model, data.test)
    assert logits.shape == (100, 10) and logits.dtype == torch.float32
    assert model.training and not logits.is_inference()
    assert torch.equal(logits, train.predict(model, data.test, batch_size=7)) or torch.allclose(
        logits, train.predict(model, data.test, batch_size=7), atol=1e-5
    )
    assert train.evaluate(model, data.test).n == 100


class Flat(nn.Module):
    """No weights at all."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, :10]


@pytest.mark.parametrize("make", [Viewing, Flat, lambda: TinyNet().double()])
def test_foreign_networks_are_evaluated_as_they_are(make) -> None:
    assert 0 <= train.evaluate(make(), tiny_data().test).accuracy <= 1


def test_a_frozen_layer_stays_frozen_also_after_an_error() -> None:
    model = TinyNet().train()
    model[3].eval()
    train.evaluate(model, tiny_data().test)
    assert model.training and not model[3].training
    model[6] = nn.Linear(3, 10)  # does not fit
    with pytest.raises(RuntimeError):
        train.predict(model, tiny_data().test)
    assert model.training and not model[3].training


def test_nan_has_no_accuracy() -> None:
    model = TinyNet()
    with torch.no_grad():
        model[6].weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="TinyNet gives NaN for 100 of 100 images"):
        train.evaluate(model, tiny_data().test)


@pytest.mark.parametrize(
    ("said", "found"),
    [(lambda x: (x, None), "a tuple"), (lambda x: {"logits": x}, "a dict"),
     (lambda x: x[:, :, None], r"a tensor of shape \(100, 10, 1\)")],
)  # fmt: skip
def test_what_is_no_tensor_of_logits_is_named(said, found: str) -> None:
    class Odd(TinyNet):
        def forward(self, x: torch.Tensor) -> object:
            return said(super().forward(x))

    with pytest.raises(ValueError, match=f"Odd returns {found} for a batch of 100 images"):
        train.evaluate(Odd(), tiny_data().test)
