"""What goes between the grader and a submission's process.

A message is a JSON object and the tensors that it names (safetensors). Reading one never runs code,
so the grader may read what comes from a student. A call of a function can be differentiated: who
asked gets the value, and asks once more, with the gradient of the value, on the way back.
"""

from __future__ import annotations

import json
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

MOST_BYTES = 64_000_000  # of one message
KEPT = 64  # answers that can still be differentiated
Message = dict[str, Any]
Back = Callable[[Tensor], list[Any]]  # gradient of a value -> those of its inputs


class Broken(RuntimeError):
    """The other side is gone, or what it says cannot be read."""


class Foreign:
    """Stands for an object that was not taken over; it knows only the name of its type."""


def foreign(type_name: str) -> Foreign:
    """A `Foreign` whose type bears this name, so that messages can say what came."""
    name = type_name if type_name.isidentifier() and len(type_name) < 60 else "object"
    return type(name, (Foreign,), {})()


# --- frames -------------------------------------------------------------------------------------


def send(stream: BinaryIO, message: Message, blob: bytes | None = None) -> None:
    """Write one message; its tensors, or the `blob` in their place, follow the JSON."""
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_plain(message, tensors)).encode()
    data = blob if blob is not None else save(tensors) if tensors else b""
    stream.write(struct.pack("<QQ", len(text), len(data)) + text + data)
    stream.flush()


def receive(stream: BinaryIO) -> tuple[Message, bytes]:
    """Read one message and its raw blob; `{}` when the stream has ended.

    Raises:
        Broken: it is cut short, or too large.
    """
    head = stream.read(16)
    if not head:
        return {}, b""
    if len(head) < 16:
        raise Broken("the message is cut short")
    sizes = struct.unpack("<QQ", head)
    if sum(sizes) > MOST_BYTES:
        raise Broken("more came back than fits")
    text, blob = (stream.read(size) for size in sizes)
    if (len(text), len(blob)) != sizes:
        raise Broken("the message is cut short")
    try:
        return json.loads(text), blob
    except (ValueError, RecursionError) as error:
        raise Broken("the message cannot be read") from error


def values(message: Message, blob: bytes) -> Message:
    """The message with its values rebuilt.

    Raises:
        Broken: they do not fit together.
    """
    try:
        return _rebuilt(message, load(blob) if blob else {})
    except Exception as error:
        raise Broken(f"the message cannot be read: {type(error).__name__}") from error


# --- values -------------------------------------------------------------------------------------


def _plain(value: Any, tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON; tensors go into `tensors`. Never raises: what is unknown becomes foreign."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, np.generic):
        return _plain(value.item(), tensors)
    for kind in (int, float):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, Tensor | np.ndarray):
        return _tensor(value, tensors)
    for kind in (list, tuple):
        if isinstance(value, kind):
            return {kind.__name__: [_plain(one, tensors) for one in value]}
    if isinstance(value, dict):
        return {"dict": [[_plain(k, tensors), _plain(v, tensors)] for k, v in value.items()]}
    return {"foreign": type(value).__name__}


def _tensor(value: Tensor | np.ndarray, tensors: dict[str, Tensor]) -> Any:
    try:
        tensor = torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        own = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        save({"0": own[:0] if own.ndim else own})  # a kind that the format does not know raises
    except Exception:
        return {"foreign": type(value).__name__}
    key = str(len(tensors))
    tensors[key] = own
    return {"array" if isinstance(value, np.ndarray) else "tensor": key,
            "grad": isinstance(value, Tensor) and value.requires_grad}  # fmt: skip


def _rebuilt(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # half an emoji fits into no file
    if not isinstance(value, dict):
        return value
    if "list" in value or "tuple" in value:
        kind = list if "list" in value else tuple
        return kind(_rebuilt(one, tensors) for one in value[kind.__name__])
    if "dict" in value:
        return {_rebuilt(k, tensors): _rebuilt(v, tensors) for k, v in value["dict"]}
    if "foreign" in value:
        return foreign(str(value["foreign"]))
    if "array" in value:
        return tensors[value["array"]].numpy()
    tensor = tensors[value["tensor"]]
    return tensor.requires_grad_() if value["grad"] and tensor.is_floating_point() else tensor


# --- calls --------------------------------------------------------------------------------------


class _Bridge(torch.autograd.Function):
    """A value computed elsewhere, and the way back of its gradient."""

    @staticmethod
    def forward(ctx: Any, back: Back, value: Tensor, *inputs: Tensor) -> Tensor:
        ctx.back, ctx.like = back, [(one.shape, one.dtype) for one in inputs]
        return value.detach().clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        grads = ctx.back(gradient)
        for grad, (shape, dtype) in zip(grads, ctx.like, strict=True):
            if grad is not None and (grad.shape, grad.dtype) != (shape, dtype):
                raise Broken("a gradient of another shape came back")
        return None, None, *(g.detach() if g is not None else None for g in grads)


def learning(args: Any) -> Iterator[Tensor]:
    """The tensors in arguments that want a gradient, in order."""
    if isinstance(args, Tensor):
        if args.requires_grad:
            yield args
    elif isinstance(args, list | tuple):
        for one in args:
            yield from learning(one)
    elif isinstance(args, dict):
        yield from learning(list(args.values()))


def bridged(value: Any, args: Any, back: Back) -> Any:
    """What came back of a call, joined to the arguments where it is to be differentiated."""
    if isinstance(value, Tensor) and value.requires_grad:
        return _Bridge.apply(back, value, *learning(args))
    return value


class Answers:
    """The last answers of a side, kept so that the other can differentiate them."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, tuple[Tensor, list[Tensor]]] = OrderedDict()
        self._count = 0

    def keep(self, value: Any, args: Any) -> int:
        self._count += 1
        if isinstance(value, Tensor) and value.requires_grad:
            self._kept[self._count] = value, list(learning(args))
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return self._count

    def gradients(self, number: int, gradient: Tensor) -> list[Tensor | None]:
        value, inputs = self._kept[number]
        return list(
            torch.autograd.grad(
                value, inputs, gradient.detach(), allow_unused=True, retain_graph=True
            )
        )
