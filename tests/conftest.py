"""What every test shares: small work on the drawn shapes, and folders of its own on request."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-browser",
        action="store_true",
        help="fail, instead of skipping, where there is no Chromium for the browser tests",
    )
    parser.addoption(
        "--screenshots", metavar="FOLDER", help="where the browser tests put their pictures"
    )
    parser.addoption(
        "--pictured-data", default="shapes", help="KDUTILS_DATA of what the browser tests open"
    )


@pytest.fixture(autouse=True)
def smoke_on_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test sees the `smoke` profile and `shapes`, whatever the shell of the developer says."""
    monkeypatch.setenv("KDUTILS_PROFILE", "smoke")
    monkeypatch.setenv("KDUTILS_DATA", "shapes")


@pytest.fixture
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`settings().cache` and `.results` lie in `tmp_path`: nothing is read from, or left in, the
    checkout and the user's cache. For tests that train, load data or save results."""
    module = importlib.import_module("kdutils.runtime.settings")
    monkeypatch.setattr(module, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(module, "results_folder", lambda: tmp_path / "results")
    return tmp_path


@pytest.fixture
def checkout() -> Path:
    """The root of the repository."""
    return Path(__file__).resolve().parent.parent
