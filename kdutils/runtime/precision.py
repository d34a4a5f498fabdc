"""In which precision networks compute: bfloat16 where the processor has it natively, else float32.

Training and the teacher's answers use it. Validation and test are always float32, so that an
accuracy does not depend on the machine.
"""

from __future__ import annotations

import contextlib
from functools import cache
from typing import Any

import torch


@cache
def native_bfloat16(device: str | None = None) -> bool:
    """Whether a kind of device ("cpu", "cuda"; None: where we train by default) computes bfloat16
    in hardware; else it is slower there than float32."""
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and any(
        getattr(torch.cpu, name, lambda: False)()
        for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )


def working_dtype(device: torch.device | None = None) -> torch.dtype:
    """What `autocast` computes in on `device`: `torch.bfloat16` or `torch.float32`."""
    native = native_bfloat16() if device is None else native_bfloat16(device.type)
    return torch.bfloat16 if native else torch.float32


def working_precision(device: torch.device | None = None) -> str:
    """`working_dtype` in a word: "bfloat16" or "float32"."""
    return str(working_dtype(device)).removeprefix("torch.")


def autocast(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """bfloat16 autocast where the device has it natively, nothing elsewhere."""
    if native_bfloat16(device.type):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()
