"""What a loss or a network *is*, in 16 hexadecimal digits: names, fields, state and source.

`repr()` would not do: it leaves out what a class does not print (the T of a loss of one's own), and
for a function it is an address, another in every process. Two things of one identity are taken for
the same; so in doubt identities differ, and what has none is refused in words.
"""

from __future__ import annotations

import dis
import enum
import functools
import hashlib
import inspect
import sysconfig
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

# Code from here is known by its name: its source changes with a version, not with a setting.
LIBRARIES = tuple({sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib")})
OURS = (__name__.split(".")[0], "builtins")
PLAIN = (type(None), bool, str, bytes, complex, slice, range, types.EllipsisType, Path, enum.Enum,
         torch.dtype, torch.device)  # fmt: skip
CONTAINERS = (list, tuple, dict, set, frozenset)
NOT_STATE = {*nn.Module().__dict__, "metadata"}  # hooks, mode; what a weights file said


class NoIdentity(ValueError):
    """Nothing says what this is, so that a saved run of it could never be told from another."""


def identity_of(thing: Any, weights: bool = False, frozen: bool = False) -> str:
    """The class or function's name and 16 digits that change when any part of `thing` does.

    Args:
        thing: a function, lambda, partial, dataclass, module, … of numbers, text and tensors.
            One with a `fingerprint` (text) is what that says.
        weights: whether modules count with all weights and buffers, or their names and shapes.
        frozen: whether what is not trained counts with its values: buffers, except those of
            batch norm, and weights that need no gradient.

    Raises:
        NoIdentity: a part of it has no identity, for example a lock, or a file.
    """
    digest, seen = hashlib.sha256(), {}  # things seen once need no second look: they may be circles

    def add(part: Any) -> None:
        number = isinstance(part, (int, float, np.generic)) and not isinstance(part, bool)
        digest.update(f"\0{'number' if number else type(part).__qualname__} ".encode())
        if isinstance(part, PLAIN):
            digest.update(repr(part).encode())
        elif number:
            value = part.item() if isinstance(part, np.generic) else part
            whole = isinstance(value, float) and value.is_integer()  # 4 and 4.0 are one setting
            digest.update(repr(int(value) if whole else value).encode())
        elif id(part) in seen:
            digest.update(f"again {list(seen).index(id(part))}".encode())
        elif isinstance(part, (Tensor, np.ndarray)):
            array = torch.as_tensor(part).detach().cpu().contiguous()
            digest.update(f"{array.dtype} {tuple(array.shape)} ".encode())
            digest.update(array.flatten().view(torch.uint8).numpy())
        else:
            if not isinstance(part, CONTAINERS):
                seen[id(part)] = part
            for child in _children(part, weights, frozen):
                add(child)

    add(thing)
    return f"{getattr(thing, '__qualname__', type(thing).__qualname__)} {digest.hexdigest()[:16]}"


def _children(thing: Any, weights: bool, frozen: bool) -> Iterator[Any]:
    """What `thing` consists of."""
    if isinstance(thing, dict):
        yield from thing.items()
    elif isinstance(thing, (set, frozenset)):
        yield from sorted(identity_of(each, weights, frozen) for each in thing)
    elif isinstance(thing, CONTAINERS):
        yield from thing
    elif isinstance(getattr(thing, "fingerprint", None), str):
        yield thing.fingerprint
    elif isinstance(thing, types.ModuleType):
        yield thing.__name__
    elif isinstance(thing, types.CodeType):
        yield from (thing.co_code, thing.co_names, thing.co_consts)
    elif isinstance(thing, (type, types.FunctionType)):
        yield f"{thing.__module__}.{thing.__qualname__}"
        if not _from_library(thing):
            yield from _class(thing) if isinstance(thing, type) else _function(thing)
    elif isinstance(thing, nn.Module):
        yield from _module(getattr(thing, "_orig_mod", thing), weights, frozen)
    elif isinstance(thing, functools.partial):
        yield from (thing.func, thing.args, thing.keywords)
    elif isinstance(thing, property):
        yield thing.fget
    elif isinstance(thing, types.MethodType):
        yield from (thing.__func__, thing.__self__)
    elif hasattr(thing, "__wrapped__") or isinstance(thing, functools.cached_property):
        yield getattr(thing, "__wrapped__", None) or thing.func  # static and cached ones
    elif hasattr(thing, "__dict__"):
        yield from (type(thing), vars(thing))
    elif callable(thing) and hasattr(thing, "__qualname__"):  # written in C
        yield f"{thing.__module__}.{thing.__qualname__}"
    elif hasattr(type(thing), "__slots__"):
        slots = [name for name in type(thing).__slots__ if hasattr(thing, name)]
        yield from (type(thing), {name: getattr(thing, name) for name in slots})
    else:
        raise NoIdentity(
            f"A part of this loss or network is a {type(thing).__qualname__}, which has no "
            "identity by which a saved run could be found again; use functions, numbers, text and tensors, "
            "give the object a text `fingerprint`, or train without a checkpoint."
        )


def _from_library(thing: type | types.FunctionType) -> bool:
    """Whether PyTorch, Python, another installed package or this one wrote it."""
    home = str(thing.__module__).split(".")[0]
    if home in OURS or home == "__main__":
        return home in OURS
    try:
        return inspect.getfile(thing).startswith(LIBRARIES)
    except (TypeError, OSError):  # written in a notebook
        return False


def _class(kind: type) -> Iterator[Any]:
    """A class of the user's: what it builds on and what it defines."""
    yield kind.__bases__
    for name, value in sorted(vars(kind).items()):
        written = isinstance(value, types.FunctionType) and not (
            "__dataclass_fields__" in vars(kind) and value.__code__.co_filename == "<string>"
        )
        descriptor = isinstance(value, (types.MemberDescriptorType, types.GetSetDescriptorType))
        if written or not (name.startswith("__") or name == "_abc_impl" or descriptor):
            yield from (name, value)


def _function(function: types.FunctionType) -> Iterator[Any]:
    """A function of the user's: its source, and the values that it takes from around it."""
    code = function.__code__
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        source = ""
    yield source
    if not source or function.__name__ == "<lambda>":
        yield code  # the line of a lambda may hold others
    yield from (function.__defaults__, function.__kwdefaults__)
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        yield from (name, cell.cell_contents)
    for name in sorted(_globals(code) & function.__globals__.keys()):
        yield from (name, function.__globals__[name])


def _globals(code: types.CodeType) -> set[str]:
    """The global names that a function, and those within it, read."""
    names = {each.argval for each in dis.get_instructions(code) if each.opname == "LOAD_GLOBAL"}
    return names.union(*(_globals(c) for c in code.co_consts if isinstance(c, types.CodeType)))


def _module(module: nn.Module, weights: bool, frozen: bool) -> Iterator[Any]:
    """A network: its class, its settings, its weights' names and shapes, and so on downwards."""
    yield type(module)
    if isinstance(getattr(module, "code", None), str):  # made by torch.jit or torch.fx
        yield module.code
    else:
        yield {key: value for key, value in sorted(vars(module).items()) if key not in NOT_STATE}
    for name, value in [*module._parameters.items(), *module._buffers.items()]:
        still = frozen and value is not None and not value.requires_grad
        counts = value is None or weights or (still and not isinstance(module, _NormBase))
        yield from (name, value if counts else (str(value.dtype), tuple(value.shape)))
    yield from module.named_children()
