"""The notebooks as files: find them, read and write them, keep them in step with their scripts.

Each notebook has a partner in `notebooks/scripts/`, in jupytext's py:percent format. The script is
what people edit and review; the notebook is the same cells with their outputs.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from pathlib import Path

import jupytext
import nbformat
from jupytext.combine import combine_inputs_with_outputs
from jupytext.compare import NotebookDifference, compare_notebooks
from nbformat import NotebookNode

from ..runtime.files import atomic_path

SCRIPT_FORMAT = "py:percent"
PAIRING = {
    "formats": f"ipynb,scripts//{SCRIPT_FORMAT}",
    "cell_metadata_filter": "all,-scrolled,-collapsed,-execution,-trusted",
}
METADATA = {
    "jupytext": PAIRING,
    "kernelspec": {
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "name": "python3",
    },
    # No version here: it would change with everybody who runs the notebook.
    "language_info": {
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "pygments_lexer": "ipython3",
    },
}
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
NO_WIDGET = "[A live control stands here when you run this cell in Jupyter.]"
ABSOLUTE = re.compile(
    r"(?<![\w.+/:-])(?:/(?:home|Users|root|work|tmp|opt|usr|var|private|mnt|media|srv|content)/"
    r"|[A-Za-z]:\\{1,2}(?:Users|Windows|Program))[^\s\"'<>]*"
)


class NotebookError(ValueError):
    """A notebook that was asked for cannot be found, read or committed."""


# --- which notebooks ----------------------------------------------------------------------------


def folder() -> Path:
    """`notebooks/` of this checkout.

    Raises:
        NotebookError: the package is installed without its checkout.
    """
    path = Path(__file__).resolve().parents[2] / "notebooks"
    if not path.is_dir():
        raise NotebookError(
            "The notebooks are not part of the installed package; clone the repository and run "
            "this there."
        )
    return path


def find(only: Sequence[str] = ()) -> list[Path]:
    """The numbered notebooks in order, or those whose number (or name) is in `only`.

    Raises:
        NotebookError: there are none, or one asked for does not exist.
    """
    return _pick(sorted(folder().glob("[0-9][0-9]_*.ipynb")), only)


def scripts(only: Sequence[str] = ()) -> list[Path]:
    """The jupytext scripts of the numbered notebooks, chosen as in `find`."""
    return _pick(sorted((folder() / "scripts").glob("[0-9][0-9]_*.py")), only)


def notebook_of(script: Path) -> Path:
    """`notebooks/scripts/NN_name.py` -> `notebooks/NN_name.ipynb`."""
    return script.parent.parent / f"{script.stem}.ipynb"


def script_of(notebook: Path) -> Path:
    """`notebooks/NN_name.ipynb` -> `notebooks/scripts/NN_name.py`."""
    return notebook.parent / "scripts" / f"{notebook.stem}.py"


def _pick(paths: list[Path], only: Sequence[str]) -> list[Path]:
    if not paths:
        raise NotebookError("There are no numbered notebooks (NN_name) here.")
    by_name = {word: path for path in paths for word in (path.stem[:2], path.stem)}
    unknown = [word for word in only if word not in by_name]
    if unknown:
        raise NotebookError(
            f"There is no notebook {unknown[0]!r}; choose from "
            f"{', '.join(path.stem for path in paths)} (the number is enough)."
        )
    chosen = {by_name[word] for word in only} or set(paths)
    return [path for path in paths if path in chosen]


# --- reading, writing, tidying --------------------------------------------------------------------


def read(path: Path) -> NotebookNode:
    """Read a notebook.

    Raises:
        NotebookError: it does not exist or is no notebook.
    """
    try:
        return nbformat.read(path, as_version=4)
    except FileNotFoundError as error:
        raise NotebookError(f"There is no notebook {path.name} in {path.parent}.") from error
    except (ValueError, KeyError, AttributeError) as error:  # includes broken JSON
        raise NotebookError(f"{path.name} cannot be read as a notebook: {error}") from error


def write(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook, atomically."""
    with atomic_path(path) as part:
        part.write_text(nbformat.writes(notebook, version=4) + "\n", encoding="utf-8")


def tidy(notebook: NotebookNode) -> None:
    """Remove, in place, what would change at every run or on every machine. Outputs stay.

    Widget state goes (GitHub refuses half of it, and it is dead there anyway). A live control
    becomes a line that says so; a finished progress bar disappears.
    """
    notebook.metadata = type(notebook)(copy.deepcopy(METADATA))
    for cell in notebook.cells:
        for key in ("execution", "ExecuteTime", "collapsed", "scrolled"):
            cell.metadata.pop(key, None)
        if cell.cell_type == "code":
            cell.outputs = [out for out in map(_tidy_output, cell.outputs) if out is not None]


def _tidy_output(output: NotebookNode) -> NotebookNode | None:
    data = output.get("data", {})
    if WIDGET_VIEW not in data:
        return output
    if re.search(r"\d+%\|", data.get("text/plain", "")):  # how tqdm's bar describes itself
        return None
    output = copy.deepcopy(output)
    del output.data[WIDGET_VIEW]
    output.data["text/plain"] = NO_WIDGET
    return output


def absolute_paths(notebook: NotebookNode) -> list[str]:
    """Paths of somebody's machine in sources or text outputs, in order; images are not read."""
    texts = []
    for cell in notebook.cells:
        texts.append(cell.source)
        for output in cell.get("outputs", []):
            texts += [output.get("text", ""), *output.get("traceback", [])]
            data = output.get("data", {})
            texts += [v for k, v in data.items() if k.startswith("text/") or k.endswith("svg+xml")]
    home, checkout = str(Path.home()), str(Path(__file__).resolve().parents[2])
    found = []
    for text in map("".join, texts):
        found += ABSOLUTE.findall(text)
        found += [path for path in (home, checkout) if len(path) > 5 and path in text]
    return list(dict.fromkeys(found))


def refuse_absolute_paths(notebook: NotebookNode, name: str) -> None:
    """Raise when an output shows a path of this machine.

    Raises:
        NotebookError: it does; the message quotes the first one.
    """
    if found := absolute_paths(notebook):
        raise NotebookError(
            f"{name} shows a path of this machine, {found[0]!r}, so it was not written back; "
            "print the path's name instead."
        )


# --- in step with the scripts ---------------------------------------------------------------------


def from_script(script: Path) -> NotebookNode:
    """The notebook that a script describes, without outputs.

    Raises:
        NotebookError: there is no such script.
    """
    if not script.is_file():
        raise NotebookError(f"There is no script {script.name} in {script.parent}.")
    notebook = jupytext.read(script, fmt=SCRIPT_FORMAT)
    tidy(notebook)
    return notebook


def sync(paths: Sequence[Path]) -> list[Path]:
    """Bring notebooks in step with their scripts; returns the notebooks that changed.

    Cells that are the same keep their id and outputs, as with `jupytext --update`. A cell whose
    source changed keeps its id and loses its outputs: they would show what some other code did.
    """
    changed = []
    for script in paths:
        target = notebook_of(script)
        new = from_script(script)
        old = read(target) if target.exists() else None
        if old is not None:
            sources = {cell.get("id"): cell.source for cell in old.cells}
            metadata = new.metadata
            new = combine_inputs_with_outputs(new, copy.deepcopy(old), fmt=SCRIPT_FORMAT)
            new.metadata = metadata
            for cell in new.cells:
                if cell.cell_type == "code" and sources.get(cell.get("id")) != cell.source:
                    cell.outputs, cell.execution_count = [], None
        if old != new:
            write(new, target)
            changed.append(target)
    return changed


def out_of_step(notebook: Path) -> str:
    """How a notebook differs from its script, in a few lines; empty when they are the same."""
    expected, actual = from_script(script_of(notebook)), read(notebook)
    tidy(actual)
    try:
        compare_notebooks(actual, expected, fmt=SCRIPT_FORMAT)
    except NotebookDifference as difference:
        return str(difference)
    return ""
