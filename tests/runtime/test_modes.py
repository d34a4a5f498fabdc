"""kdutils.runtime.modes: nothing that was frozen wakes up."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdutils import models
from kdutils.runtime.modes import device_of, eval_mode, layout_of


def test_each_module_returns_to_its_own_mode_also_after_an_error() -> None:
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2)).train()
    model[1].eval()  # frozen
    with pytest.raises(RuntimeError, match="half-way"), eval_mode(model):
        assert not any(module.training for module in model.modules())
        raise RuntimeError("half-way")
    assert [module.training for module in model.modules()] == [True, True, False]


def test_layout_and_device_are_those_of_the_network() -> None:
    ours = models.build("student", 0)
    foreign = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten())
    assert layout_of(ours) is torch.channels_last
    assert layout_of(foreign) is torch.contiguous_format
    assert layout_of(nn.Flatten()) is torch.contiguous_format
    assert device_of(foreign.to("meta")).type == "meta"
    assert device_of(nn.BatchNorm2d(3, affine=False).to("meta")).type == "meta"
    assert device_of(nn.Flatten()).type == "cpu"
