"""Helpers of the browser tests: a server in folders of its own, and Chromium through Playwright."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nbformat

TOKEN = "for-this-test-only"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
SIZE = {"width": 1280, "height": 800}
ERRORS = re.compile(r"Traceback|Error displaying widget|Error creating widget|ModuleNotFound")


def chromium() -> str | None:
    """The system's Chromium, where it and Playwright are installed."""
    try:
        import playwright  # noqa: F401
    except ImportError:
        return None
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next(filter(None, map(shutil.which, names)), None)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextlib.contextmanager
def running(command: list[str], url: str, home: Path, env: dict[str, str]) -> Iterator[str]:
    """A server from its first answer until its whole process group is ended; gives `url`."""
    home.mkdir(parents=True, exist_ok=True)
    folders = {
        name: str(home / name.lower())
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")
    }
    log = home / "server.log"
    with open(log, "w") as out:
        server = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            env=os.environ | folders | env, start_new_session=True,
        )  # fmt: skip
    try:
        wait_for(lambda: answers(url, server, log), 120, f"an answer of {command[2]}")
        yield url
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(10)


def answers(url: str, server: subprocess.Popen[bytes], log: Path) -> bool:
    """Whether the server listens; AssertionError with its log when it has ended."""
    assert server.poll() is None, f"the server ended:\n{log.read_text()[-3000:]}"
    parts = urlsplit(url)
    with contextlib.suppress(OSError), socket.create_connection((parts.hostname, parts.port), 5):
        return True
    return False


def lab(folder: Path, home: Path, env: dict[str, str]) -> contextlib.AbstractContextManager[str]:
    """JupyterLab on `folder`; gives the address of its start page."""
    settings = home / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    # Else cells outside the window are not in the page, and cannot be looked for.
    apputils = settings.parent / "apputils-extension"
    apputils.mkdir()
    (apputils / "notification.jupyterlab-settings").write_text(json.dumps({"fetchNews": "false"}))
    (settings / "tracker.jupyterlab-settings").write_text(json.dumps({"windowingMode": "none"}))
    port = free_port()
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root",
        f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--ServerApp.ip=127.0.0.1",
        f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder}",
        f"--LabApp.user_settings_dir={home / 'settings'}", "--LabApp.news_url=",
    ]  # fmt: skip
    return running(command, f"http://127.0.0.1:{port}/lab?token={TOKEN}", home, env)


def voila(
    notebook: Path, home: Path, env: dict[str, str]
) -> contextlib.AbstractContextManager[str]:
    """The app, as `make app` starts it; gives its address."""
    port = free_port()
    command = [
        sys.executable, "-m", "voila", str(notebook), "--no-browser", f"--port={port}",
        "--Voila.ip=127.0.0.1", f"--Voila.config_file_paths={notebook.parent}",
    ]  # fmt: skip
    return running(command, f"http://127.0.0.1:{port}/", home, env)


@contextlib.contextmanager
def browser(executable: str) -> Iterator[Any]:
    """A Playwright page of 1280 x 800 that collects what goes wrong in `page.troubles`."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chrome = play.chromium.launch(executable_path=executable, args=list(FLAGS))
        page = chrome.new_page(viewport=SIZE)
        page.set_default_timeout(60_000)
        page.troubles = []
        page.on("pageerror", lambda error: page.troubles.append(str(error)))
        try:
            yield page
        finally:
            chrome.close()


def wait_for(question: Callable[[], Any], seconds: float, what: str) -> Any:
    """Ask until the answer is true; AssertionError naming `what` after `seconds`."""
    until = time.monotonic() + seconds
    while True:
        found = question()
        if found:
            return found
        assert time.monotonic() < until, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.2)


# --- a notebook in JupyterLab -------------------------------------------------------------------


def open_and_run(page: Any, start: str, notebook: str, seconds: float) -> None:
    """Open a notebook, run all its cells by the menu, wait until the kernel is idle again."""
    # A workspace of its own: else JupyterLab opens again what an earlier test had open.
    name = notebook.removesuffix(".ipynb")
    page.goto(start.replace("/lab?", f"/lab/workspaces/{name}/tree/{notebook}?"))
    page.locator(".jp-Notebook .jp-Cell").first.wait_for()
    page.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']").wait_for()
    for _ in range(3):  # a menu that is pressed before the kernel listens does nothing
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.wait_for_timeout(3000)
        if started(page):
            break
    cells = page.locator(".jp-CodeCell")
    wait_for(lambda: numbered(page) == cells.count(), seconds, f"{notebook} to run")


def unrun(notebook: Path, folder: Path) -> None:
    """A copy of a notebook in `folder`, as if it had never been run."""
    cells = nbformat.read(notebook, as_version=4)
    for cell in cells.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(cells, folder / notebook.name)


def started(page: Any) -> bool:
    """Whether any cell is waiting, running or done."""
    prompts = page.locator(".jp-CodeCell .jp-InputPrompt").all_inner_texts()
    return any(re.search(r"[*\d]", text) for text in prompts)


def numbered(page: Any) -> int:
    """How many code cells have been run to their end: `[7]:`, neither `[ ]:` nor `[*]:`."""
    prompts = page.locator(".jp-CodeCell .jp-InputPrompt").all_inner_texts()
    return sum(bool(re.fullmatch(r"\[\d+\]:", text.strip())) for text in prompts)


# --- a live figure in the page ------------------------------------------------------------------


class Live:
    """One interactive figure in the page, found by words that only its text holds."""

    def __init__(self, page: Any, words: str, kind: str = "Temperature") -> None:
        self.page = page
        boxes = page.locator(".widget-vbox").filter(has=page.locator(".widget-image"))
        self.box = boxes.filter(has_text=words).filter(visible=True).last
        self.box.wait_for()

    @property
    def text(self) -> str:
        """What stands beside the picture, then the short line that a screen reader says."""
        return "\n".join(
            self.box.locator(one).inner_text() for one in (".kd-text", "[role=status]")
        )

    @property
    def source(self) -> str:
        """The address of the picture that is drawn; a new one for each new picture."""
        return self.box.locator(".widget-image").get_attribute("src")

    def pixels(self) -> bytes:
        """The picture as the browser has drawn it."""
        return self.box.locator(".widget-image").screenshot()

    def button(self, name: str) -> Any:
        return self.box.get_by_role("button", name=name, exact=True)

    def handle(self, label: str) -> Any:
        """The handle of the slider with this label."""
        row = self.box.locator(".widget-slider").filter(has_text=label)
        return row.locator(".noUi-handle")

    def drag(self, label: str, pixels: float, steps: int = 8) -> list[str]:
        """Drag a slider's handle sideways by mouse; gives the text after every step."""
        handle = self.handle(label)
        handle.scroll_into_view_if_needed()
        box = handle.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        mouse, seen = self.page.mouse, []
        mouse.move(x, y)
        mouse.down()
        for step in range(1, steps + 1):
            mouse.move(x + pixels * step / steps, y)
            self.page.wait_for_timeout(150)
            seen.append(self.text)
        mouse.up()
        return seen

    def number(self, pattern: str) -> float:
        """The first number in the text that `pattern` captures."""
        found = re.search(pattern, self.text)
        assert found, f"no {pattern!r} in {self.text!r}"
        return float(found[1])

    def until(self, pattern: str, seconds: float = 30) -> str:
        """Wait until the text matches."""
        wait_for(lambda: re.search(pattern, self.text), seconds, f"{pattern!r}, not {self.text!r}")
        return self.text


def no_error(page: Any) -> None:
    """Nothing on the page says that something went wrong."""
    shown = page.locator("body").inner_text()
    found = ERRORS.search(shown)
    assert not found, shown[max(0, found.start() - 200) : found.start() + 800]
    outputs = page.locator(".jp-OutputArea-output[data-mime-type*='stderr'], .jp-mod-error")
    assert outputs.count() == 0, outputs.first.inner_text()
    assert not page.troubles, page.troubles
