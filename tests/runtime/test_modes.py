"""kdutils.runtime.modes: nothing that was frozen wakes up."""

from __future__ import annotations

import pytest
from torch import nn

from kdutils.runtime.modes import eval_mode


def test_each_module_returns_to_its_own_mode_also_after_an_error() -> None:
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2)).train()
    model[1].eval()  # frozen
    with pytest.raises(RuntimeError, match="half-way"), eval_mode(model):
        assert not any(module.training for module in model.modules())
        raise RuntimeError("half-way")
    assert [module.training for module in model.modules()] == [True, True, False]
