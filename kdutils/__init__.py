"""kdutils: the small package behind the knowledge-distillation notebooks.

Importing it is instant: the heavy modules (PyTorch among them) load when first touched.

    import kdutils
    kdutils.settings()                      # which profile, which data, which folders
    data = kdutils.data.load()              # images in memory
    student = kdutils.models.build("student")
    teacher = kdutils.load("teacher")       # weights that come with the package
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import Any

from .runtime.settings import Settings, settings

__version__ = "0.1.0"

# Read by OpenMP when PyTorch loads, and inherited by every kernel and worker that is started from
# here: threads that wait for each other then sleep. Spinning, as is their habit, they take the
# processor from the very thread they wait for as soon as anything else runs on the machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# name -> where it lies
_MODULES = {
    **{name: name for name in (
        "data", "losses", "metrics", "models", "optim", "soft_targets", "timing", "train", "views",
        "diagnose", "pretrained",
    )},
    "plots": "course.plots",
    "widgets": "course.widgets",
}  # fmt: skip

__all__ = ["Settings", "__version__", "load", "settings", *_MODULES]


def __getattr__(name: str) -> ModuleType | Any:
    """Import a module of the package when it is first asked for (PEP 562)."""
    if name in _MODULES:
        return importlib.import_module(f".{_MODULES[name]}", __name__)
    if name == "load":
        return importlib.import_module(".pretrained", __name__).load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
