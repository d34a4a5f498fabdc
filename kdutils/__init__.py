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
from types import ModuleType
from typing import Any

from .settings import Settings, settings

__version__ = "0.1.0"

_MODULES = (
    "artifacts",
    "checks",
    "data",
    "losses",
    "metrics",
    "models",
    "notebooks",
    "numbers",
    "plots",
    "report",
    "series",
    "shapes",
    "shipped",
    "soft_targets",
    "suspect_plots",
    "suspects",
    "textbook",
    "timing",
    "train",
    "views",
    "widgets",
)

__all__ = ["Settings", "__version__", "load", "settings", *_MODULES]


def __getattr__(name: str) -> ModuleType | Any:
    """Import a module of the package when it is first asked for (PEP 562)."""
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name == "load":
        return importlib.import_module(".shipped", __name__).load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
