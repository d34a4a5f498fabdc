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
def native_bfloat16() -> bool:
    """Whether this machine computes bfloat16 in hardware (else it is slower than float32)."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return any(
        getattr(torch.cpu, name, lambda: False)()
        for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )


def working_precision() -> str:
    """What `autocast` computes in: "bfloat16" or "float32"."""
    return "bfloat16" if native_bfloat16() else "float32"


def autocast(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """bfloat16 autocast where the processor has it natively, nothing elsewhere."""
    if native_bfloat16():
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()
