"""A second device without one: tensors are tagged as being there, and mixing the two is an error.

    with TwoDevices() as there:
        fit(model, data, device=there.device)

All numbers are computed on the CPU. `.to(...)` moves (and copies), `.device` tells, and every call
of PyTorch that is handed tensors of both raises RuntimeError, as a GPU would: that is what shows,
where there is no GPU, that nothing mixes devices. Allowed as there: numbers without dimensions,
`copy_`, and CPU indices into a tensor on the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

READS = {Tensor.numpy, Tensor.__array__}  # what only works on the CPU
MAY_MIX = {
    Tensor.copy_, Tensor.__getitem__, Tensor.data.__set__, Tensor.grad.__set__,
    torch._has_compatible_shallow_copy_type,
}  # fmt: skip
MOVES = {Tensor.to, Tensor.cpu}


class TwoDevices(TorchFunctionMode):
    """The mode; `device` is the name of the other device, `moved` counts moves to and from it."""

    device = torch.device("mps")  # one that our code does not treat in a special way

    def __init__(self) -> None:
        super().__init__()
        self._there: dict[int, Tensor] = {}  # storage -> a tensor that keeps it alive
        self.moved = {"there": 0, "back": 0}

    def there(self, tensor: Tensor) -> bool:
        with torch._C.DisableTorchFunction():
            return tensor.untyped_storage().data_ptr() in self._there

    def _tag(self, value: Any) -> Any:
        with torch._C.DisableTorchFunction():
            if isinstance(value, Tensor) and value.numel():
                self._there[value.untyped_storage().data_ptr()] = value.detach()
        return value

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
        there = [self.there(x) for x in tensors]
        if func == Tensor.device.__get__:
            return self.device if there[0] else torch.device("cpu")
        if func in MOVES:
            return self._move(func, there, args, kwargs)
        if func == Tensor.__deepcopy__:  # its second argument holds whatever was copied before
            made = func(*args, **kwargs)
            return self._tag(made) if there[0] else made
        if func in READS and any(there):
            raise RuntimeError(f"{func.__name__}: the tensor is on {self.device}; use .cpu() first")
        sizes = [on for x, on in zip(tensors, there, strict=True) if x.ndim]
        indexed = func == Tensor.__getitem__ and not there[0] and any(there)
        if indexed or (func not in MAY_MIX and len(set(sizes)) > 1):
            name = getattr(func, "__qualname__", func)
            raise RuntimeError(f"{name} mixes devices: {there} for cpu and {self.device}")
        wanted = kwargs.pop("device", None)
        made = func(*args, **kwargs)
        here = there[0] if func in (Tensor.__getitem__, Tensor.copy_) else any(there)
        if here or (wanted is not None and torch.device(wanted) == self.device):
            tree_map(self._tag, made)
        return made

    def _move(self, func: Any, there: list[bool], args: tuple, kwargs: dict[str, Any]) -> Tensor:
        """`x.to(device, dtype)`, `x.to(other)`, `x.to(dtype)`, `x.cpu()`."""
        target, rest = there[0], []
        if func == Tensor.cpu:
            target = False
        for each in (*args[1:], *([kwargs.pop("device")] if "device" in kwargs else ())):
            if isinstance(each, Tensor):
                target = there[-1]
                rest.append(each.dtype)
            elif isinstance(each, str | torch.device):
                target = torch.device(each) == self.device
            elif isinstance(each, torch.dtype):
                rest.append(each)
        kwargs.pop("memory_format", None) if func == Tensor.cpu else None
        moved = args[0].to(*rest, **kwargs) if rest or kwargs else args[0]
        if target == there[0]:
            return self._tag(moved) if target else moved
        self.moved["there" if target else "back"] += 1
        copied = moved.detach().clone() if not moved.requires_grad else moved.clone()
        return self._tag(copied) if target else copied
