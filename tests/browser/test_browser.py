"""The interactive figures in a real browser: JupyterLab and Voilà, mouse and keyboard.

The system's Chromium is driven through Playwright. Where either is missing these tests are skipped
and say so; with `--require-browser`, as CI runs them, they fail instead.

    pytest tests/browser/test_browser.py                               # some minutes
    pytest tests/browser/test_browser.py --screenshots /tmp/pictures   # and keep what was seen
    make picture                                               # the README's picture anew
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import live_page
import pytest
from live_page import Live, no_error, open_and_run, wait_for

CHECKOUT = Path(__file__).resolve().parents[2]
APP = CHECKOUT / "notebooks" / "app" / "app.ipynb"
PATIENCE = 400  # seconds for a whole notebook in the smoke profile on a busy machine
ENTROPY = r"Teacher: entropy ([\d.]+) nats"
TEMPERATURE = r"T = ([\d.]+)"

pytestmark = [pytest.mark.timeout(900)]


@pytest.fixture(scope="session")
def executable(request: pytest.FixtureRequest) -> str:
    """The browser, or a skip that says what is missing."""
    found = live_page.chromium()
    if found is None:
        why = (
            "there is no Chromium with Playwright here, so the browser tests do not run "
            "(apt-get install chromium; pip install playwright)"
        )
        assert not request.config.getoption("--require-browser"), why
        pytest.skip(why)
    return found


@pytest.fixture(scope="session")
def env(request: pytest.FixtureRequest) -> dict[str, str]:
    """What the servers see: the smoke profile, the drawn shapes."""
    data = request.config.getoption("--pictured-data")
    return {"KDUTILS_PROFILE": "smoke", "KDUTILS_DATA": data, "PYTHONPATH": str(CHECKOUT)}


@pytest.fixture
def page(executable: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    folder = Path(request.config.getoption("--screenshots") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    with live_page.browser(executable) as page:
        yield page
        page.screenshot(path=str(folder / f"{request.node.name}_end.png"))  # where it got to


@pytest.fixture(scope="module")
def lab(
    executable: str, env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """JupyterLab on a copy of the notebooks; gives the address of its start page."""
    home = tmp_path_factory.mktemp("lab")
    folder = home / "notebooks"
    folder.mkdir()
    for name in ("04_soft_targets.ipynb", "05_distillation.ipynb"):
        live_page.unrun(CHECKOUT / "notebooks" / name, folder)
    with live_page.lab(folder, home, env) as address:
        yield address


@pytest.fixture(scope="module")
def app(
    executable: str, env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The app, served by Voilà; gives its address."""
    with live_page.voila(APP, tmp_path_factory.mktemp("voila"), env) as address:
        yield address


@pytest.fixture
def snapshot(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str, Any], None]:
    """snapshot(name, page or part of it): a PNG in the folder of `--screenshots`."""
    folder = Path(request.config.getoption("--screenshots") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)

    def save(name: str, what: Any) -> None:
        path = folder / f"{name}.png"
        what.screenshot(path=str(path))
        assert path.stat().st_size > 10_000, f"{name} looks empty"

    return save


# --- what must happen, wherever the figure stands -----------------------------------------------


def check_mouse(live: Live) -> None:
    """Dragging right warms: temperature and entropy rise at every step, pictures differ."""
    live.button("T = 1").click()
    live.until(r"T = 1\.00")
    before, drawn = live.source, live.pixels()
    cold = live.number(ENTROPY)
    seen = live.drag("Temperature", 110)
    warm = live.number(ENTROPY)
    assert live.number(TEMPERATURE) > 3 and warm > cold, live.text
    assert len(set(seen)) >= 4, "the picture must follow while the mouse is down"
    assert live.source != before and live.pixels() != drawn
    live.drag("Temperature", -150)
    assert live.number(TEMPERATURE) < 1 and live.number(ENTROPY) < warm


def check_keyboard(live: Live) -> None:
    """Arrow keys move the slider by one step, a twelfth of an octave; the text follows."""
    live.button("T = 4").click()
    live.until(r"T = 4\.00")
    drawn = live.pixels()
    live.handle("Temperature").focus()
    for _ in range(3):
        live.page.keyboard.press("ArrowRight")
    live.until(rf"T = {4 * 2 ** (3 / 12):.2f}")
    assert live.pixels() != drawn
    for _ in range(3):
        live.page.keyboard.press("ArrowLeft")
    live.until(r"T = 4\.00")
    live.page.keyboard.press("End")
    live.until(r"T = 20\.00")


def check_presets_and_play(live: Live) -> None:
    for name in ("T = 2", "T = 8", "T = 20"):
        live.button(name).click()
        live.until(rf"{name}\.00")
    before = live.number(TEMPERATURE)
    live.button("▶ sweep").click()
    wait_for(
        lambda: live.number(TEMPERATURE) < before - 5, 20, "the sweep to start at the cold end"
    )
    early = live.number(TEMPERATURE)
    wait_for(lambda: live.number(TEMPERATURE) > early + 0.05, 20, "the sweep to move")
    live.button("T = 4").click()  # who moves the slider has it
    live.until(r"T = 4\.00")
    live.page.wait_for_timeout(1000)
    assert live.number(TEMPERATURE) == 4 and live.button("▶ sweep").is_visible()


def check_typing(live: Live) -> None:
    """What is typed is taken, with a comma too. (Between two steps the browser's slider would take
    the nearest one.)"""
    field = live.box.get_by_label("T", exact=True)
    for typed, temperature in (("8", "8.00"), ("2,83", "2.83")):
        field.fill(typed)
        field.press("Enter")
        live.until(rf"T = {temperature}")
        live.page.wait_for_timeout(500)
        assert field.input_value() == temperature and f"T = {temperature}" in live.text


def check_picker(live: Live) -> None:
    """Another choice, another image: number, label and picture change."""
    texts = live.box.locator("select option").all_inner_texts()
    options = [text.replace("\xa0", " ") for text in texts]
    apart = options.index("teacher and student disagree")  # a sure teacher has one more before it
    assert options[apart - 1] == "most confused"
    live.box.locator("select").select_option(index=apart)
    first = r"(?s)Teacher: .*?nats; ([\w -]+) first.*Student: .*?nats; ([\w -]+) first"
    wait_for(lambda: len(set(re.findall(first, live.text)[0])) == 2, 20, "two opinions")
    drawn = live.pixels()
    live.box.locator("select").select_option(index=apart + 3)
    live.until(f"label {options[apart + 3]}")
    assert live.pixels() != drawn


def check_mixer(live: Live) -> None:
    """T² keeps the balance: without it, the soft push is smaller by T², here 64 times."""
    length = r"soft targets ([\d.]+)"
    live.button("T = 8").click()
    live.until(r"T = 8\.00")
    kept, drawn = live.number(length), live.pixels()
    live.box.get_by_label("multiply the soft loss by T²").click()
    live.until("without T²")
    assert math.isclose(kept / live.number(length), 64, rel_tol=0.02)
    assert live.pixels() != drawn
    weighed = live.number(length)
    live.handle("Soft weight").focus()
    live.page.keyboard.press("Home")
    live.until(r"soft weight 0\.00")
    assert weighed > 0 == live.number(length)


def check_map(live: Live) -> None:
    drawn = live.pixels()
    average = r"([\d.]+) on average"
    live.button("T = 1").click()
    live.until(r"T = 1\.00")
    cold = live.number(average)
    live.drag("Temperature", 120)
    assert live.number(average) > cold and live.pixels() != drawn


def check_true_map(live: Live) -> None:
    assert "Rank agreement with the truth" in live.text
    check_map(live)


def check_training(live: Live) -> None:
    """Train, watch it move, cancel, train to the end: the table keeps both."""
    finished = live.box.locator("table tr", has_text="finished").count()
    live.handle("Epochs").focus()
    live.page.keyboard.press("End")  # long enough to be cancelled
    live.until(r", \d+ epochs on", 20)
    live.button("train").click()
    live.until(r"Training .*: epoch \d+ of \d+, batch", 120)
    assert live.button("train").is_disabled() and live.button("cancel").is_enabled()
    drawn, batch = live.pixels(), live.text
    wait_for(lambda: live.text != batch and live.pixels() != drawn, 60, "the live curve to grow")
    live.button("cancel").click()
    live.until(r"was cancelled (before it began, )?after \d+ of \d+ epochs", 30)
    both = "before it began" in live.text  # labels only, which came first, has a row of its own
    assert live.button("train").is_enabled() and live.button("cancel").is_disabled()
    live.handle("Epochs").focus()
    live.page.keyboard.press("Home")  # one epoch
    live.until(r", 1 epochs? on", 20)
    live.button("train").click()
    live.until(r"finished in [\d.]+ s: [\d.]+ %, labels only [\d.]+ %", 180)
    rows = live.box.locator("table tr")
    assert rows.filter(has_text="cancelled").count() == 1 + both
    assert rows.filter(has_text="finished").count() == finished + 1


# --- JupyterLab -----------------------------------------------------------------------------------


def test_notebook_04(lab: str, page: Any, snapshot: Callable[[str, Any], None]) -> None:
    open_and_run(page, lab, "04_soft_targets.ipynb", PATIENCE)
    explorer = Live(page, "Teacher: entropy")
    check_mouse(explorer)
    check_keyboard(explorer)
    check_presets_and_play(explorer)
    check_picker(explorer)
    explorer.box.scroll_into_view_if_needed()
    snapshot("explorer_in_lab", page)
    check_true_map(Live(page, "Rank agreement with the truth"))
    snapshot("map_in_lab", page)
    no_error(page)


def test_notebook_05(lab: str, page: Any, snapshot: Callable[[str, Any], None]) -> None:
    open_and_run(page, lab, "05_distillation.ipynb", PATIENCE)
    mixer = Live(page, "Length of the push")
    check_mixer(mixer)
    mixer.box.scroll_into_view_if_needed()
    snapshot("mixer_in_lab", page)
    lesson = Live(page, "Next run:")
    lesson.box.scroll_into_view_if_needed()
    check_training(lesson)
    snapshot("distiller_in_lab", page)
    check_kernel_is_usable(page, lesson)
    no_error(page)


def check_kernel_is_usable(page: Any, lesson: Live) -> None:
    """While a run goes on, another cell is run and answers; then the run is cancelled."""
    lesson.handle("Epochs").focus()
    page.keyboard.press("End")
    lesson.button("train").click()
    lesson.until(r"Training|Asking", 60)
    cell = page.locator(".jp-CodeCell", has_text="experiments.DISTILLATION").filter(
        has_not_text="import"
    )
    prompt = cell.first.locator(".jp-InputPrompt")
    number = prompt.inner_text()
    cell.first.locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    wait_for(lambda: prompt.inner_text() not in (number, "[*]:"), 60, "the cell to be run again")
    assert lesson.button("cancel").is_enabled(), "the run was over before the cell: no proof"
    lesson.button("cancel").click()
    lesson.until("was cancelled", 60)


# --- Voilà ----------------------------------------------------------------------------------------


def test_app(app: str, page: Any, snapshot: Callable[[str, Any], None]) -> None:
    page.goto(app, timeout=1000 * PATIENCE)  # the page comes when its kernel has run
    page.get_by_role("tab", name="Temperature").wait_for()
    assert "validation" in page.locator("[role=note]").inner_text()
    assert "app.page()" not in page.content(), "a page without code"
    check_names(page)
    checks: dict[str, tuple[str, Callable[[Live], None]]] = {
        "Temperature": ("Teacher: entropy", check_explorer),
        "Two losses": ("Length of the push", check_mixer),
        "Class map": ("Most alike", check_map),
        "Distil it yourself": ("Next run:", check_training),
    }
    tab = "Map and truth" if page.get_by_role("tab", name="Map and truth").count() else "Class map"
    checks[tab] = ("Rank agreement", check_true_map)  # photographs have no known truth
    for number, (name, (words, check)) in enumerate(checks.items()):
        page.get_by_role("tab", name=name).click()
        live = Live(page, words)
        snapshot(f"app_{number}", page)
        check(live)
        snapshot(f"app_{number}_after", page)
    no_error(page)
    page.get_by_role("tab", name="Temperature").click()
    explorer = Live(page, "Teacher: entropy")
    explorer.box.locator("select").select_option(index=2)  # a quarrel: much to see
    explorer.button("T = 2").click()
    explorer.until(r"T = 2\.00")
    page.mouse.move(0, 0)
    snapshot("temperature_slider", explorer.box)


def check_explorer(live: Live) -> None:
    check_mouse(live)
    check_keyboard(live)
    check_presets_and_play(live)
    check_typing(live)
    check_picker(live)


def check_names(page: Any) -> None:
    """A screen reader hears names and T itself; the page has a title and one heading of rank 1."""
    assert page.title() == "Knowledge distillation, hands on"
    assert page.locator("h1").count() == 1
    handles = page.locator(".noUi-handle").filter(visible=True)
    slider = page.get_by_role("slider", name="Temperature").filter(visible=True)
    assert slider.get_attribute("aria-valuetext") == "T = 1.00"
    assert all(one.get_attribute("aria-label") for one in handles.all())
    for button in page.get_by_role("button").filter(visible=True).all():
        assert button.inner_text().strip()
    assert all(one.get_attribute("alt") is not None for one in page.locator("img").all())


# --- without a browser --------------------------------------------------------------------------


def test_a_missing_browser_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, *rest: None)
    assert live_page.chromium() is None
