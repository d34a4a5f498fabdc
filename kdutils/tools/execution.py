"""Run the notebooks without a browser: nbclient runs the cells, nbconvert makes the pages.

    execution.execute(notebooks.find(["01"]), Path("out"))    # run, and write executed copies
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec, NoSuchKernel
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter
from nbconvert.filters import strip_ansi
from nbformat import NotebookNode
from tqdm import tqdm

from ..runtime.files import atomic_path
from .notebooks import read, refuse_absolute_paths, script_of, sync, tidy, write


class NotebookFailed(RuntimeError):
    """A notebook stopped before its end; the message shows the cell and what went wrong in it."""


@dataclass(frozen=True)
class Timing:
    """What one notebook cost. `peak_memory_mb` (1e6 bytes) is None where the system keeps none."""

    name: str
    cells: int
    seconds: float
    peak_memory_mb: float | None

    def __str__(self) -> str:
        memory = self.peak_memory_mb
        peak = "" if memory is None else f"   {memory / 1000:.1f} GB at most"
        return f"{self.name:<20} {self.seconds:7.1f} s{peak}"


def execute(
    paths: Sequence[Path],
    out_dir: Path,
    *,
    timeout: float | None = None,
    in_place: bool = False,
    about: Mapping[str, Any] | None = None,
) -> list[Timing]:
    """Run notebooks one after the other, each in a kernel of its own, and stop at the first error.

    A notebook runs in its own folder, with the Python that runs this function (whatever kernels
    are registered on the machine). For each one `out_dir` gets the executed notebook, the same as
    HTML, and a row in `timings.json`. A notebook that fails is written too, as far as it came.

    Args:
        paths: notebooks, in the order to run them.
        out_dir: made when missing; rows of other notebooks in its `timings.json` stay.
        timeout: seconds a single cell may take; None is no limit.
        in_place: bring each notebook in step with its script first, and afterwards write the
            outputs into the notebook itself, tidied (see `notebooks.tidy`).
        about: further entries for `timings.json`, for example the profile and the machine.

    Raises:
        NotebookFailed: a cell raised an error or took too long, or its kernel died.
        NotebookError: a notebook cannot be read; or, in place, an output shows an absolute path.
        KeyboardInterrupt: Ctrl-C; the kernel has been ended.
    """
    if in_place:
        sync([script_of(path) for path in paths])
    out_dir.mkdir(parents=True, exist_ok=True)
    timings = []
    for path in paths:
        timing, notebook = _run_one(path, out_dir, timeout)
        print(f"  {timing}", flush=True)
        timings.append(timing)
        _record(out_dir / "timings.json", timing, about or {})
        _write_html(notebook, out_dir / f"{path.stem}.html")
        if in_place:
            tidy(notebook)
            refuse_absolute_paths(notebook, path.name)
            write(notebook, path)
    return timings


def _run_one(path: Path, out_dir: Path, timeout: float | None) -> tuple[Timing, NotebookNode]:
    notebook = read(path)
    n_code = sum(cell.cell_type == "code" for cell in notebook.cells)
    client = _client(notebook, path.parent, timeout)
    began, reason = time.perf_counter(), ""
    # Shown only on a terminal: which cell runs, and what the ones before it took.
    with tqdm(total=n_code, desc=f"  {path.stem}", unit="cell", leave=False, disable=None) as bar:
        client.on_cell_executed = lambda **_: bar.update()
        try:
            client.execute(env=_kernel_environment())
        except CellExecutionError as error:
            reason = f"{error.ename}: {error.evalue}.\n\n{strip_ansi(str(error))}"
        except CellTimeoutError as error:
            reason = f"the cell took longer than {timeout:.0f} s.\n\n{error}"
        except (DeadKernelError, NoSuchKernel) as error:
            reason = f"its Python process ended by itself, perhaps for lack of memory ({error})."
    seconds = round(time.perf_counter() - began, 1)
    write(notebook, out_dir / path.name)
    if reason:
        raise NotebookFailed(
            f"{path.name} stopped in code cell {client.code_cells_executed} of {n_code}: {reason}"
            f"\n\nAs far as it came it is in {out_dir / path.name}"
        )
    return Timing(path.stem, n_code, seconds, client.peak_memory_mb), notebook


class _Client(NotebookClient):
    """nbclient's runner with Ctrl-C that ends the run, and a look at the kernel's memory."""

    peak_memory_mb: float | None = None
    interrupted = False

    def execute(self, **kwargs: Any) -> NotebookNode:
        try:
            return super().execute(**kwargs)
        except (asyncio.CancelledError, DeadKernelError):
            if self.km is not None:  # cut off while the kernel was starting
                self._cleanup_kernel()
            if self.interrupted:
                raise KeyboardInterrupt from None
            raise

    async def async_start_new_kernel(self, **kwargs: Any) -> None:
        # In place of nbclient's own handler, which ends the kernel and then calls it dead.
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(signal.SIGINT, self._leave, task)
        await super().async_start_new_kernel(**kwargs)

    def _leave(self, task: asyncio.Task[Any]) -> None:
        self.interrupted, self.shutdown_kernel = True, "immediate"
        task.cancel()

    async def _async_cleanup_kernel(self) -> None:
        provisioner = getattr(self.km, "provisioner", None)
        self.peak_memory_mb = peak_memory_mb(getattr(provisioner, "pid", None))
        await super()._async_cleanup_kernel()


def _client(notebook: NotebookNode, cwd: Path, timeout: float | None) -> _Client:
    return _Client(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        kernel_manager_class=ThisPython,
        resources={"metadata": {"path": str(cwd)}},
        # Not its remark that a kernel on this machine is talked to without encryption.
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
        coalesce_streams=True,  # a progress bar becomes its last line
        record_timing=False,  # the times would change every file at every run
    )


class ThisPython(AsyncKernelManager):
    """A kernel manager whose only kernel is this very interpreter.

    A kernel named "python3" that is installed elsewhere on the machine would otherwise run the
    notebook without this project's packages.
    """

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(resource_dir="", **get_kernel_dict())


def _kernel_environment() -> dict[str, str]:
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    quiet = {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}  # else the debugger warns in the output
    return {**os.environ, **quiet, "PATH": programs}


def peak_memory_mb(pid: int | str | None = "self") -> float | None:
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
    # It warns of images without a description at every page; `plots.show` puts one below each.
    logging.getLogger("traitlets").setLevel(logging.ERROR)
    body, _ = HTMLExporter().from_notebook_node(
        copy.deepcopy(notebook), {"metadata": {"name": path.stem}}
    )
    with atomic_path(path) as part:
        part.write_text(body, encoding="utf-8")
