"""The list of planted bugs stays true: each can be planted, and the test that it names exists."""

from __future__ import annotations

import re

import pytest
from mutants import PLANTED, ROOT, Planted


@pytest.mark.parametrize("bug", PLANTED, ids=lambda bug: bug.what)
def test_a_planted_bug_fits_the_code_and_names_a_test(bug: Planted) -> None:
    assert (ROOT / bug.file).read_text(encoding="utf-8").count(bug.old) == 1
    file, name = bug.test.split("::")
    assert re.search(rf"^def {name}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
