"""The assignment as it is kept, released and given to nbgrader: scripts, notebooks, courses."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdutils.tools import notebooks

if TYPE_CHECKING:
    from nbformat import NotebookNode
    from nbgrader.apps.api import NbGraderAPI

ASSIGNMENTS = ("distil_it", "find_the_bug")
CONFIG = "nbgrader_config.py"
STEPS = "nbgrader_steps.py"  # what the config adds to nbgrader; the two lie side by side
IGNORED = shutil.ignore_patterns("__pycache__")
CHECKS = "checks"  # beside each notebook, whoever has it


class GradingError(RuntimeError):
    """Releasing or grading cannot go on; the message says why and what to do."""


def folder() -> Path:
    """`notebooks/assignment` of this checkout."""
    return Path(__file__).resolve().parent


def from_script(script: Path) -> NotebookNode:
    """The source notebook of an assignment's script, without outputs; cell ids count from 0."""
    import jupytext

    notebook = jupytext.read(script, fmt=notebooks.SCRIPT_FORMAT)
    # Not paired: a notebook that is handed out must not grow a script beside it.
    notebook.metadata = type(notebook)(
        {key: value for key, value in notebooks.METADATA.items() if key != "jupytext"}
    )
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"{script.stem.replace('_', '-')}-{number}"
    return notebook


def sync() -> list[Path]:
    """Write the source notebooks anew from their scripts. Returns what changed."""
    changed = []
    for name in ASSIGNMENTS:
        fresh = from_script(folder() / "scripts" / f"{name}.py")
        path = folder() / "source" / name / f"{name}.ipynb"
        if not path.exists() or notebooks.read(path) != fresh:
            notebooks.write(fresh, path)
            changed.append(path)
    return changed


def release(out: Path) -> list[Path]:
    """Write what students get into `out`: a folder for each assignment, and the package to install.

    Returns:
        The release notebooks. Solutions and hidden tests are cut out by nbgrader.

    Raises:
        GradingError: nbgrader refuses the source.
    """
    course = course_folder(out / ".course")
    released = []
    for name in ASSIGNMENTS:
        shutil.copytree(course / "release" / name, out / name, dirs_exist_ok=True)
        released.append(out / name / f"{name}.ipynb")
    shutil.rmtree(course)
    _pack(out / "kdutils.zip")
    shutil.copyfile(folder() / "FOR_STUDENTS.md", out / "README.md")
    return released


def _pack(path: Path) -> None:
    """The package as one file that `pip install` takes. It holds no solution notebook and no test."""
    root = notebooks.folder().parent
    files = [root / name for name in ("pyproject.toml", "LICENSE")]
    files += [
        path
        for path in sorted((root / "kdutils").rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".lock"
    ]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, Path("kdutils") / file.relative_to(root))


def course_folder(root: Path) -> Path:
    """A course folder as nbgrader wants it, in which both assignments are generated.

    A gradebook that is there already stays, with all marks that were given by hand.
    """
    root.mkdir(parents=True, exist_ok=True)
    for name in (CONFIG, STEPS):
        shutil.copyfile(folder() / name, root / name)
    for name in (CHECKS, "sandbox"):
        shutil.copytree(folder() / name, root / name, ignore=IGNORED, dirs_exist_ok=True)
    for name in ASSIGNMENTS:
        for part in ("source", "release"):
            shutil.rmtree(root / part / name, ignore_errors=True)
        shutil.copytree(folder() / "source" / name, root / "source" / name)
        here = root / "source" / name / CHECKS
        shutil.copytree(folder() / CHECKS, here, ignore=IGNORED)
        check(api_of(root).generate_assignment(name), f"nbgrader did not accept {name}")
    return root


def api_of(root: Path, timeout: int | None = None) -> NbGraderAPI:
    """nbgrader's own interface to the course in `root`."""
    # It calls `alembic` by name; that lies beside this Python, which need not be on PATH.
    programs = str(Path(sys.executable).parent)
    if programs not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([programs, os.environ.get("PATH", "")])
    try:
        from nbgrader.apps.api import NbGraderAPI
        from nbgrader.coursedir import CourseDirectory
        from sqlalchemy.exc import SAWarning
        from traitlets.config import PyFileConfigLoader
        from traitlets.log import get_logger
    except ModuleNotFoundError as error:
        raise GradingError(
            "nbgrader is not installed: run `make setup`, or pip install 'kdutils[assignment]'."
        ) from error
    # What it has to say it returns as well. SQLAlchemy 2 remarks on objects that nbgrader touches
    # before their session; nothing is lost.
    log = get_logger()
    log.propagate = False
    log.addHandler(logging.NullHandler())
    warnings.filterwarnings("ignore", module="nbgrader", category=SAWarning)
    config = PyFileConfigLoader(CONFIG, path=str(root)).load_config()
    if timeout is not None:
        config.ExecuteTasks.timeout = timeout
    config.CourseDirectory.root = str(root)
    return NbGraderAPI(CourseDirectory(config=config), config=config)


def check(result: dict[str, Any], what: str) -> None:
    if not result["success"]:
        if result.get("error", "").rstrip().endswith("KeyboardInterrupt"):
            raise KeyboardInterrupt  # nbgrader keeps it to itself
        raise GradingError(f"{what}:\n{result.get('log', '')}\n{result.get('error', '')}".strip())
