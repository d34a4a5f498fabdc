"""The two switches, what they resolve to, and what an import costs and prints."""

from __future__ import annotations

import subprocess
import sys

import pytest

import kdutils
from kdutils.course.budgets import BUDGETS
from kdutils.runtime.settings import PROFILE_NAMES


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KDUTILS_PROFILE", raising=False)
    monkeypatch.delenv("KDUTILS_DATA", raising=False)
    found = kdutils.settings()
    assert (found.profile.name, found.data) == ("class", "auto")
    assert "profile class" in str(found) and "class" in found._repr_html_()


def test_both_switches_are_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDUTILS_PROFILE", "smoke")
    monkeypatch.setenv("KDUTILS_DATA", "shapes")
    assert kdutils.settings().profile.name == "smoke"
    assert kdutils.settings().data == "shapes"
    monkeypatch.setenv("KDUTILS_PROFILE", "full")
    assert kdutils.settings().profile.name == "full"


def test_a_folder_is_shown_by_its_last_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDUTILS_DATA", "/somebody/private/pictures")
    found = kdutils.settings()
    assert found.data == "/somebody/private/pictures"
    assert "data pictures" in str(found) and "private" not in found._repr_html_() + repr(found)


def test_an_unknown_profile_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDUTILS_PROFILE", "fast")
    with pytest.raises(ValueError, match="'fast', which is no profile; set it to one of smoke"):
        kdutils.settings()


def test_every_profile_has_a_budget_for_every_kind_of_data() -> None:
    assert set(BUDGETS) == {(name, drawn) for name in PROFILE_NAMES for drawn in (False, True)}
    for budget in BUDGETS.values():
        assert len(set(budget.seeds)) == len(budget.seeds) >= 2  # a paired interval needs two


def test_importing_prints_nothing_and_leaves_torch_alone() -> None:
    code = "import sys, kdutils; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_modules_load_when_touched_and_unknown_names_fail() -> None:
    assert kdutils.losses.soft_target_loss
    assert "train" in dir(kdutils)
    with pytest.raises(AttributeError, match="has no attribute 'lossses'"):
        kdutils.lossses  # noqa: B018
