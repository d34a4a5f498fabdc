"""What a new user meets first: one list of dependencies, pinned, and a set-up that explains itself."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

OLD_PYTHON = '#!/bin/sh\n[ "$1" = -V ] && echo "Python 3.9.2" && exit 0\nexit 1\n'
NO_VENV = '#!/bin/sh\ncase "$2" in *venv*) exit 1;; *) exit 0;; esac\n'
BY_HAND = ("cluster", "mutants")  # extras for few: whoever wants them installs them


@pytest.fixture
def project(checkout: Path) -> dict[str, Any]:
    return tomllib.loads((checkout / "pyproject.toml").read_text())["project"]


@pytest.fixture
def requirements(project: dict[str, Any]) -> list[Requirement]:
    """Every direct dependency, of the package and of its extras."""
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    return [Requirement(text) for texts in lists for text in texts]


@pytest.fixture
def pins(checkout: Path) -> dict[str, str]:
    """name -> exact version, as constraints.txt has them."""
    lines = (checkout / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line.strip() and not line.startswith("#")]
    assert all(len(pair) == 2 for pair in pairs), "every line should be name==version"
    assert len({name for name, _ in pairs}) == len(pairs), "a name stands there twice"
    return {canonicalize_name(name): version for name, version in pairs}


# --- dependencies ---------------------------------------------------------------------------------


def test_every_dependency_is_pinned_to_a_version_it_allows(
    requirements: list[Requirement], pins: dict[str, str]
) -> None:
    for requirement in requirements:
        version = pins.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} is not in constraints.txt"
        assert requirement.specifier.contains(version), f"{requirement} does not allow {version}"


def test_every_dependency_says_what_it_is_for(
    checkout: Path, requirements: list[Requirement]
) -> None:
    text = (checkout / "pyproject.toml").read_text()
    for requirement in requirements:
        line = next(line for line in text.splitlines() if f'"{requirement}"' in line.strip())
        assert re.search(r"# *[A-Za-z]", line), f"{requirement}: add a comment that says why"


def test_conda_gets_the_same_from_the_same_list(checkout: Path, project: dict[str, Any]) -> None:
    """environment.yml names Python, pip and this project; anything more would be a second list."""
    conda = yaml.safe_load((checkout / "environment.yml").read_text())["dependencies"]
    named = [entry for entry in conda if isinstance(entry, str)]
    assert named == [f"python{project['requires-python']}", "pip"]
    (by_pip,) = [entry["pip"] for entry in conda if isinstance(entry, dict)]
    extras = ",".join(e for e in project["optional-dependencies"] if e not in BY_HAND)
    assert by_pip == ["-c constraints.txt", f"-e .[{extras}]"]


def test_make_installs_every_extra(checkout: Path, project: dict[str, Any]) -> None:
    makefile = (checkout / "Makefile").read_text()
    extras = ",".join(e for e in project["optional-dependencies"] if e not in BY_HAND)
    assert re.search(r"^EXTRAS\s*:=\s*(.+)$", makefile, re.MULTILINE)[1].strip() == extras


def test_python_is_asked_for_alike_everywhere(checkout: Path, project: dict[str, Any]) -> None:
    assert project["requires-python"] == ">=3.11"
    assert "sys.version_info < (3, 11)" in (checkout / "Makefile").read_text()


@pytest.mark.parametrize(
    "name", ["pyproject.toml", "constraints.txt", "environment.yml", "Makefile"]
)
def test_no_addresses(checkout: Path, name: str) -> None:
    text = (checkout / name).read_text()
    assert not re.search(r"://|index-url|find-links", text)


def test_version_is_said_alike(project: dict[str, Any]) -> None:
    import kdutils

    assert kdutils.__version__ == project["version"]


# --- the package ----------------------------------------------------------------------------------


def test_importing_is_silent_and_light() -> None:
    """PyTorch loads when first needed, so that `--help` and a typo answer at once."""
    code = "import kdutils, sys; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_module_can_be_reached(checkout: Path) -> None:
    import kdutils

    modules = {path.stem for path in (checkout / "kdutils").glob("*.py")} - {"__init__", "__main__"}
    for name in sorted(modules & set(kdutils.__all__)):
        assert getattr(kdutils, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        kdutils.nonsense  # noqa: B018


def test_style(checkout: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise", "."],
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout


# --- make -----------------------------------------------------------------------------------------

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *args], cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.fixture
def bare(checkout: Path, tmp_path: Path) -> Path:
    """A folder with what the set-up needs, and no .venv."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(checkout / name, tmp_path / name)
    return tmp_path


def interpreter(folder: Path, text: str) -> str:
    """A made-up Python: a shell script that answers as `text` says."""
    path = folder / "python"
    path.write_text(text)
    path.chmod(0o755)
    return f"PYTHON={path}"


@needs_make
def test_make_alone_lists_the_commands(checkout: Path) -> None:
    printed = make(checkout).stdout
    for target in ("run", "test", "lab", "setup", "clean"):
        assert f"make {target} " in printed


@needs_make
def test_an_old_python_is_refused(bare: Path) -> None:
    done = make(bare, "setup", interpreter(bare, OLD_PYTHON))
    assert done.returncode != 0
    assert "Python 3.11 or newer is needed" in done.stderr and "Python 3.9.2" in done.stderr
    assert not (bare / ".venv").exists()


@needs_make
def test_no_python_at_all(bare: Path) -> None:
    done = make(bare, "setup", f"PYTHON={bare / 'none'}")
    assert done.returncode != 0 and "Python 3.11 or newer is needed" in done.stderr


@needs_make
def test_a_python_without_venv_is_explained(bare: Path) -> None:
    done = make(bare, "setup", interpreter(bare, NO_VENV))
    assert done.returncode != 0
    assert "apt install python3-venv" in done.stderr


# A made-up interpreter that makes .venv, and in it a made-up `python` that notes what it is told.
# It fails to install the project as long as there is a file named `no_network`.
MAKES_VENV = """#!/bin/sh
here=$(dirname "$0")
if [ "$1 $2" = "-m venv" ]; then
  mkdir -p "$3/bin"; cp "$here/inner" "$3/bin/python"; echo "venv" >> "$here/log"
fi
"""
INNER = """#!/bin/sh
here={folder}
case "$*" in
  *"-e .["*) echo "install" >> $here/log; [ ! -e $here/no_network ];;
  *"import torch"*) echo "check" >> $here/log;;
esac
"""


@needs_make
def test_setup_once_again_when_needed_and_anew_after_an_interruption(bare: Path) -> None:
    python = interpreter(bare, MAKES_VENV)
    (bare / "inner").write_text(INNER.format(folder=bare))
    (bare / "inner").chmod(0o755)
    log = bare / "log"

    def told() -> list[str]:
        words = log.read_text().split() if log.exists() else []
        log.unlink(missing_ok=True)
        return words

    (bare / "no_network").touch()
    failed = make(bare, "setup", python)
    assert failed.returncode != 0 and "installation failed" in failed.stderr
    assert told() == ["venv", "install"]

    (bare / "no_network").unlink()
    again = make(bare, "setup", python)
    assert again.returncode == 0 and "starting it afresh" in again.stdout
    assert told() == ["venv", "install", "check"]

    assert make(bare, "setup", python).returncode == 0
    assert told() == [], "nothing to do the second time"

    (bare / "constraints.txt").write_text("# changed\n")
    assert make(bare, "setup", python).returncode == 0
    assert told() == ["install", "check"], "new pins: same .venv"

    moved = bare.parent / f"{bare.name}_moved"
    shutil.copytree(bare, moved)
    assert make(moved, "setup", python).returncode == 0
    assert told() == ["install", "check"], "a checkout that moved is installed anew"


def test_a_built_package_brings_its_weights_and_results(checkout: Path) -> None:
    """Every data file that the code opens is named in pyproject.toml; Python files come along."""
    setup = tomllib.loads((checkout / "pyproject.toml").read_text())["tool"]["setuptools"]
    kinds = {".json", ".safetensors", ".npz"}
    files = [f for f in (checkout / "kdutils").rglob("*") if f.suffix in kinds]
    assert len(files) > 5
    for file in files:
        package = ".".join(file.relative_to(checkout).parent.parts)
        patterns = setup["package-data"].get(package, [])
        assert any(file.match(pattern) for pattern in patterns), f"{file.name} would be left out"
