"""What the two environment variables resolve to, and how much work each profile does.

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
class Budget:
    """How much work one profile does on one kind of data. Sizes are images, lengths are epochs."""

    train_size: int | None  # images kept of the training split; None keeps all
    val_size: int | None  # None: a tenth of the training images, at most 5,000
    test_size: int | None
    teacher_epochs: int
    student_epochs: int
    seeds: tuple[int, ...]  # paired: baseline and distilled share each seed
    sweep_epochs: int
    sweep_train_size: int | None
    sweep_temperatures: tuple[float, ...]
    sweep_weights: tuple[float, ...]


_SMOKE = Budget(2000, 500, 1000, 1, 2, (0, 1), 1, 512, (1.0, 4.0), (0.5, 0.9))
_GRID = dict(sweep_temperatures=(1.0, 4.0, 10.0), sweep_weights=(0.5, 0.9, 1.0))

# (profile, is the data synthetic?) -> budget. Lengths were set from runs on two cores.
BUDGETS: dict[tuple[str, bool], Budget] = {
    ("smoke", False): _SMOKE,
    ("smoke", True): _SMOKE,
    ("class", False): Budget(None, None, None, 8, 7, (0, 1, 2), 3, 8_000, **_GRID),
    # Eight seeds: on so few images runs differ by 1.5 points, and five could not tell.
    ("class", True): Budget(None, None, None, 5, 6, tuple(range(8)), 2, 4_000, **_GRID),
    ("full", False): Budget(None, None, None, 28, 80, (0, 1, 2, 3, 4), 10, None, **_GRID),
    ("full", True): Budget(None, None, None, 20, 30, (0, 1, 2, 3, 4), 10, None, **_GRID),
}


@dataclass(frozen=True)
class Profile:
    """One of `smoke`, `class`, `full`. `budget(data)` gives the sizes for a data set."""

    name: str

    def budget(self, data: object) -> Budget:
        """The budget for `data` (an `ImageData`; only its `is_synthetic` matters)."""
        return BUDGETS[self.name, bool(getattr(data, "is_synthetic", False))]


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
