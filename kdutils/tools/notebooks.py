"""Run the notebooks without a browser, and keep them in step with their scripts.

    from kdutils.tools import notebooks
    notebooks.sync(notebooks.scripts())                       # scripts/NN_name.py -> NN_name.ipynb
    notebooks.execute(notebooks.find(["01"]), Path("out"))    # run, and write executed copies

Each notebook has a partner in `notebooks/scripts/`, in jupytext's py:percent format. The script is
what people edit and review; the notebook is the same cells with their outputs.
"""

from __future__ import annotations

import copy
import json
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.files import atomic_path

if TYPE_CHECKING:
    from nbclient import NotebookClient
    from nbformat import NotebookNode

SCRIPT_FORMAT = "py:percent"
PAIRING = {
    "formats": f"ipynb,scripts//{SCRIPT_FORMAT}",
    "cell_metadata_filter": "all,-scrolled,-collapsed,-execution",
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


class NotebookError(ValueError):
    """A notebook that was asked for cannot be found, read or committed."""


class NotebookFailed(RuntimeError):
    """A notebook stopped before its end; the message shows the cell and what went wrong in it."""


@dataclass(frozen=True)
class Timing:
    """What one notebook cost. `peak_memory_mb` (1e6 bytes) is None where the system keeps none."""

    name: str
    cells: int
    seconds: float
    peak_memory_mb: float | None


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


# --- running ------------------------------------------------------------------------------------


def execute(
    paths: Sequence[Path],
    out_dir: Path,
    *,
    environment: Mapping[str, str] | None = None,
    timeout: float | None = None,
    in_place: bool = False,
    html: bool = True,
    about: Mapping[str, Any] | None = None,
) -> list[Timing]:
    """Run notebooks one after the other, each in a kernel of its own, and stop at the first error.

    A notebook runs in its own folder, with the Python that runs this function (whatever kernels
    are registered on the machine). For each one `out_dir` gets the executed notebook, the same as
    HTML, and a row in `timings.json`. A notebook that fails is written too, as far as it came.

    Args:
        paths: notebooks, in the order to run them.
        out_dir: made when missing; rows of other notebooks in its `timings.json` stay.
        environment: variables to set for the kernels, on top of the present ones.
        timeout: seconds a single cell may take; None is no limit.
        in_place: bring each notebook in step with its script first, and afterwards write the
            outputs into the notebook itself, tidied (see `tidy`).
        html: also write HTML.
        about: further entries for `timings.json`, for example the profile and the machine.

    Raises:
        NotebookFailed: a cell raised an error or took too long, or its kernel died.
        NotebookError: a notebook cannot be read; or, in place, an output shows an absolute path.
    """
    if in_place:
        sync([script_of(path) for path in paths])
    out_dir.mkdir(parents=True, exist_ok=True)
    timings = []
    for path in paths:
        timing, notebook = _run_one(path, out_dir, environment or {}, timeout)
        timings.append(timing)
        _record(out_dir / "timings.json", timing, about or {})
        if html:
            _write_html(notebook, out_dir / f"{path.stem}.html")
        if in_place:
            tidy(notebook)
            refuse_absolute_paths(notebook, path.name)
            write(notebook, path)
    return timings


def _run_one(
    path: Path, out_dir: Path, environment: Mapping[str, str], timeout: float | None
) -> tuple[Timing, NotebookNode]:
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    notebook = read(path)
    n_code = sum(cell.cell_type == "code" for cell in notebook.cells)
    progress = _Progress(path.stem, n_code)
    client = _client(notebook, path.parent, timeout, progress)
    began = time.perf_counter()
    try:
        client.execute(env=_kernel_environment(environment))
    except CellExecutionError as error:
        raise _failure(
            path, out_dir, notebook, progress, f"{error.ename}: {error.evalue}"
        ) from None
    except CellTimeoutError:
        reason = f"the cell took longer than {timeout:.0f} s"
        raise _failure(path, out_dir, notebook, progress, reason) from None
    except (DeadKernelError, NoSuchKernel) as error:
        reason = f"its Python process ended by itself, perhaps for lack of memory ({error})"
        raise _failure(path, out_dir, notebook, progress, reason) from None
    finally:
        progress.end()
    timing = Timing(path.stem, n_code, round(time.perf_counter() - began, 1), progress.peak_mb)
    progress.say(f"{timing.seconds:7.1f} s" + _memory(timing.peak_memory_mb))
    write(notebook, out_dir / path.name)
    return timing, notebook


def _client(
    notebook: NotebookNode, cwd: Path, timeout: float | None, progress: _Progress
) -> NotebookClient:
    from nbclient import NotebookClient

    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        kernel_manager_class=_manager_class(),
        resources={"metadata": {"path": str(cwd)}},
        # Not its remark that a kernel on this machine is talked to without encryption.
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
        coalesce_streams=True,  # a progress bar becomes its last line
        record_timing=False,  # the times would change every file at every run
    )
    client.on_cell_execute = progress.cell_starts
    client.on_cell_executed = lambda **_: progress.note_memory(client.km)
    return client


@cache
def _manager_class() -> type:
    """A kernel manager whose only kernel is this very interpreter.

    A kernel named "python3" that is installed elsewhere on the machine would otherwise run the
    notebook without this project's packages.
    """
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    class ThisInterpreter(AsyncKernelManager):
        @property
        def kernel_spec(self) -> KernelSpec:
            return KernelSpec(resource_dir="", **get_kernel_dict())

    return ThisInterpreter


def _kernel_environment(extra: Mapping[str, str]) -> dict[str, str]:
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    quiet = {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}  # else the debugger warns in the output
    return {**os.environ, **quiet, "PATH": programs, **extra}


class _Progress:
    """One line per notebook; on a terminal it also counts the cells while they run."""

    def __init__(self, name: str, n_code: int) -> None:
        self.name, self.n_code = name, n_code
        self.done = 0
        self.cell: NotebookNode | None = None  # the cell that runs, or ran last
        self.peak_mb: float | None = None
        self.live = sys.stdout.isatty()

    def cell_starts(self, cell: NotebookNode, cell_index: int) -> None:
        if cell.cell_type != "code":
            return
        self.done, self.cell = self.done + 1, cell
        if self.live:
            print(f"\r  {self.name:<20} cell {self.done} of {self.n_code} ", end="", flush=True)

    def note_memory(self, manager: Any) -> None:
        peak = _peak_memory_mb(getattr(getattr(manager, "provisioner", None), "pid", None))
        self.peak_mb = max(peak, self.peak_mb or 0.0) if peak is not None else self.peak_mb

    def end(self) -> None:
        if self.live:
            print("\r" + " " * 60 + "\r", end="")

    def say(self, text: str) -> None:
        print(f"  {self.name:<20} {text}", flush=True)


def _memory(peak_mb: float | None) -> str:
    return "" if peak_mb is None else f"   {peak_mb / 1000:.1f} GB at most"


def _peak_memory_mb(pid: int | None) -> float | None:
    """Largest resident size so far of a process, in 1e6 bytes; None where the system keeps none."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return round(int(found[1]) * 1024 / 1e6, 1) if found else None


def _record(path: Path, timing: Timing, about: Mapping[str, Any]) -> None:
    """Add or replace one notebook's row in `timings.json`."""
    try:
        rows = json.loads(path.read_text())["notebooks"]
    except (OSError, ValueError, KeyError, TypeError):
        rows = []
    rows = [row for row in rows if row["name"] != timing.name] + [asdict(timing)]
    rows.sort(key=lambda row: row["name"])
    with atomic_path(path) as part:
        part.write_text(json.dumps({**about, "notebooks": rows}, indent=1) + "\n")


def _write_html(notebook: NotebookNode, path: Path) -> None:
    import logging

    from nbconvert import HTMLExporter

    # It warns of images without a description at every page; `plots.show` puts one below each.
    logging.getLogger("traitlets").setLevel(logging.ERROR)
    body, _ = HTMLExporter().from_notebook_node(
        copy.deepcopy(notebook), {"metadata": {"name": path.stem}}
    )
    with atomic_path(path) as part:
        part.write_text(body, encoding="utf-8")


def _failure(
    path: Path, out_dir: Path, notebook: NotebookNode, progress: _Progress, reason: str
) -> NotebookFailed:
    """The error to raise, after writing the notebook as far as it came."""
    progress.end()
    copied = out_dir / path.name
    write(notebook, copied)
    cell = progress.cell
    lines = [] if cell is None else cell.source.splitlines()
    source = "\n".join(f"  {number:>3} | {line}" for number, line in enumerate(lines, 1))
    outputs = [] if cell is None else cell.get("outputs", [])
    frames = [line for out in outputs if out.output_type == "error" for line in out.traceback]
    parts = [
        f"{path.name} stopped in code cell {progress.done} of {progress.n_code}: {reason}.",
        source,
        _without_colour("\n".join(frames)),
        f"As far as it came it is in {copied}",
    ]
    return NotebookFailed("\n\n".join(part for part in parts if part))


def _without_colour(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


# --- reading, writing, tidying --------------------------------------------------------------------


def read(path: Path) -> NotebookNode:
    """Read a notebook.

    Raises:
        NotebookError: it does not exist or is no notebook.
    """
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except FileNotFoundError as error:
        raise NotebookError(f"There is no notebook {path.name} in {path.parent}.") from error
    except (ValueError, KeyError, AttributeError) as error:  # includes broken JSON
        raise NotebookError(f"{path.name} cannot be read as a notebook: {error}") from error


def write(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook, atomically."""
    import nbformat

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


_ABSOLUTE = re.compile(
    r"(?<![\w.+/:-])(?:/(?:home|Users|root|work|tmp|opt|usr|var|private|mnt|media|srv|content)/"
    r"|[A-Za-z]:\\{1,2}(?:Users|Windows|Program))[^\s\"'<>]*"
)


def absolute_paths(notebook: NotebookNode) -> list[str]:
    """Paths of somebody's machine in sources or text outputs, in order; images are not read."""
    home, checkout = str(Path.home()), str(Path(__file__).resolve().parents[2])
    found = []
    for text in _texts(notebook):
        found += _ABSOLUTE.findall(text)
        found += [path for path in (home, checkout) if len(path) > 5 and path in text]
    return list(dict.fromkeys(found))


def _texts(notebook: NotebookNode) -> list[str]:
    texts = []
    for cell in notebook.cells:
        texts.append(cell.source)
        for output in cell.get("outputs", []):
            texts += [output.get("text", ""), *output.get("traceback", [])]
            data = output.get("data", {})
            texts += [v for k, v in data.items() if k.startswith("text/") or k.endswith("svg+xml")]
    return ["".join(text) for text in texts]


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
    import jupytext

    if not script.is_file():
        raise NotebookError(f"There is no script {script.name} in {script.parent}.")
    notebook = jupytext.read(script, fmt=SCRIPT_FORMAT)
    tidy(notebook)
    return notebook


def sync(paths: Sequence[Path]) -> list[Path]:
    """Bring notebooks in step with their scripts; gives the notebooks that changed.

    Cells that are the same keep their id and outputs. A cell whose source changed keeps its id and
    loses its outputs: they would show what some other code did.
    """
    changed = []
    for script in paths:
        target = notebook_of(script)
        fresh = from_script(script)
        old = read(target) if target.exists() else None
        new = fresh if old is None else _keep_outputs(fresh, old)
        if old != new:
            write(new, target)
            changed.append(target)
    return changed


def _keep_outputs(fresh: NotebookNode, old: NotebookNode) -> NotebookNode:
    from jupytext.combine import combine_inputs_with_outputs

    sources = {cell.get("id"): cell.source for cell in old.cells}
    new = combine_inputs_with_outputs(fresh, copy.deepcopy(old), fmt=SCRIPT_FORMAT)
    new.metadata = copy.deepcopy(fresh.metadata)
    for cell in new.cells:
        if cell.cell_type == "code" and sources.get(cell.get("id")) != cell.source:
            cell.outputs, cell.execution_count = [], None
    return new


def out_of_step(notebook: Path) -> str:
    """How a notebook differs from its script, in a few lines; empty when they are the same."""
    from jupytext.compare import NotebookDifference, compare_notebooks

    expected, actual = from_script(script_of(notebook)), read(notebook)
    tidy(actual)
    try:
        compare_notebooks(actual, expected, fmt=SCRIPT_FORMAT)
    except NotebookDifference as difference:
        return str(difference)
    return ""
