"""What the two environment variables resolve to.

`KDUTILS_DATA` and `KDUTILS_PROFILE` are the only switches of the project. `settings()` reads them
anew at every call, so a test or a notebook cell may change them at any time.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PROFILE_NAMES = ("smoke", "class", "full")


@dataclass(frozen=True)
class Profile:
    """One of `smoke`, `class`, `full`; `kdutils.course.budgets` says how much work that is."""

    name: str


@dataclass(frozen=True, repr=False)
class Settings:
    """What `KDUTILS_PROFILE` and `KDUTILS_DATA` resolved to, and where things are kept."""

    profile: Profile
    data: str  # as asked for: "auto", "cifar10", "shapes" or a path
    cache: Path  # downloads and decoded images, shared by every checkout
    results: Path  # checkpoints, tables, executed notebooks
    device: str = "cpu"
    threads: int = 1

    def __repr__(self) -> str:
        return (
            f"profile {self.profile.name} · data {self.data_name} · "
            f"device {self.device} with {self.threads} threads"
        )

    @property
    def data_name(self) -> str:
        """What to show for `data`: a folder by its last part, so that nothing personal is shown."""
        return Path(self.data).name or self.data

    def _repr_html_(self) -> str:
        rows = {
            "profile": self.profile.name,
            "data": self.data_name,
            "device": f"{self.device}, {self.threads} threads",
        }
        cells = "".join(f"<tr><th>{k}</th><td>{v}</td></tr>" for k, v in rows.items())
        return f"<table>{cells}</table>"


def settings() -> Settings:
    """Read the environment and say what it means.

    Raises:
        ValueError: `KDUTILS_PROFILE` is not one of smoke, class, full.
    """
    name = os.environ.get("KDUTILS_PROFILE", "").strip() or "class"
    if name not in PROFILE_NAMES:
        raise ValueError(
            f"KDUTILS_PROFILE is {name!r}, which is no profile; "
            f"set it to one of {', '.join(PROFILE_NAMES)}."
        )
    return Settings(
        profile=Profile(name),
        data=os.environ.get("KDUTILS_DATA", "").strip() or "auto",
        cache=cache_folder(),
        results=results_folder(),
        device=_device(),
        threads=_threads(),
    )


def cache_folder() -> Path:
    """Where downloads and decoded images live: the user's cache folder, `kdutils` inside it."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("kdutils", appauthor=False))


def results_folder() -> Path:
    """`results/` in the checkout; for an installed package, the user's data folder."""
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "notebooks").is_dir() and (checkout / "pyproject.toml").is_file():
        return checkout / "results"
    import platformdirs

    return Path(platformdirs.user_data_dir("kdutils", appauthor=False))


@cache
def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _threads() -> int:
    import torch

    return torch.get_num_threads()
