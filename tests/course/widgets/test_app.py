"""The app's data and page: shipped logits that fit the shapes, and a line that says what is shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import ipywidgets
import nbformat
import pytest
import torch
import widget_bench

from kdutils import data, metrics, pretrained, train
from kdutils.course.widgets import LiveFigure, app, demo
from kdutils.data import ImageData
from kdutils.views import epoch_views


@pytest.fixture(scope="module")
def shown() -> demo.Demo:
    return demo.shapes("for a test")


def test_shipped_logits_fit_the_shapes(shown: demo.Demo) -> None:
    """Logits that belong to other images would be right one time in ten."""
    teacher = metrics.summarise(shown.teacher_logits, shown.labels).accuracy
    student = metrics.summarise(shown.student_logits, shown.labels).accuracy
    assert teacher > 0.9 and 0.6 < student < teacher
    soft = shown.soft_targets.epoch(epoch_views(len(shown.part.train), train.VIEW_SEED, 0))
    assert metrics.summarise(soft.float(), shown.part.train.labels).accuracy > 0.9


def test_soft_targets_are_there_for_every_epoch(shown: demo.Demo) -> None:
    n = len(shown.part.train)
    first, *others = (
        shown.soft_targets.epoch(epoch_views(n, train.VIEW_SEED, epoch))
        for epoch in range(shown.most_epochs)
    )
    assert first.shape == (n, 10) and first.dtype == torch.float16
    assert all(not torch.equal(first, other) for other in others)
    with pytest.raises(demo.DemoError, match="first 6 epochs"):
        shown.soft_targets.epoch(epoch_views(n, train.VIEW_SEED, shown.most_epochs))


def test_every_length_has_its_baseline(shown: demo.Demo) -> None:
    assert sorted(shown.baselines) == list(range(1, shown.most_epochs + 1))
    assert all(len(rows) == n for n, rows in shown.baselines.items())
    assert shown.recipe is not None and shown.recipe(3).epochs == 3


def test_the_file_is_small_and_says_where_it_is_from() -> None:
    assert demo.FILE.stat().st_size < 500_000
    _, about = demo._read(demo.FILE)
    assert about["made_by"] == demo.COMMAND and about["teacher"]["epochs"] > 0


def test_other_images_are_noticed(shown: demo.Demo) -> None:
    other = data.load("shapes").val.subset(demo.SHOWN, seed=1)
    means = demo._means(data.load("shapes").val.subset(demo.SHOWN))
    demo._check_same(data.load("shapes").val.subset(demo.SHOWN), means)
    with pytest.raises(demo.DemoError, match="other shapes"):
        demo._check_same(other, means)


@pytest.mark.parametrize("content", [None, b"", b"not a zip file"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "shapes.npz"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(demo.DemoError, match="shapes.npz is missing or damaged.*makes it again"):
        demo._read(file)


def test_it_says_why_shapes(monkeypatch: pytest.MonkeyPatch, own_folders: Path) -> None:
    monkeypatch.setattr(demo.cifar10, "local", lambda cache: None)
    monkeypatch.setattr(demo.data_module, "load", lambda *a, **k: pytest.fail("it must not load"))
    for asked, reason in (("auto", "no copy of CIFAR-10"), ("shapes", "KDUTILS_DATA asks")):
        monkeypatch.setenv("KDUTILS_DATA", asked)
        found, why = demo._photographs()
        assert found is None and reason in why


def photographs() -> ImageData:
    """The drawn shapes under the names of CIFAR-10."""
    return replace(
        data.load("shapes"), classes=pretrained.CLASSES, name="CIFAR-10 (made up)",
        is_synthetic=False, similarity=None,
    )  # fmt: skip


def _names(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Weights of these names, and no others, come with the package."""
    for module in ("kdutils.pretrained", "kdutils.pretrained.library"):
        monkeypatch.setattr(f"{module}.names", lambda: names)


def test_photographs_with_shipped_weights_are_preferred(
    monkeypatch: pytest.MonkeyPatch, own_folders: Path
) -> None:
    from kdutils import models

    made_up = photographs()
    monkeypatch.setenv("KDUTILS_DATA", "/somewhere")
    monkeypatch.setattr(demo.data_module, "load", lambda *a, **k: made_up)
    _names(monkeypatch)
    found, why = demo._photographs()
    assert found is None and "no weights for CIFAR-10 (made up)" in why
    _names(monkeypatch, "baseline", "teacher")
    monkeypatch.setattr(pretrained, "load", lambda name, quiet: models.build("student", 0).eval())
    shown = demo.demo()
    assert shown.name == "CIFAR-10 (made up)" and "shipped teacher" in shown.note
    assert shown.teacher_logits.shape == (demo.SHOWN, 10) and shown.truth is None
    monkeypatch.setattr(demo, "predict", lambda *a: pytest.fail("logits must be remembered"))
    again = demo.demo()
    assert torch.equal(again.teacher_logits, shown.teacher_logits)


def test_page_holds_all_figures_and_says_what_it_shows(shown: demo.Demo) -> None:
    page = app.page(shown)
    note, tabs = page.children
    assert isinstance(tabs, ipywidgets.Tab) and tabs.titles == tuple(app.TABS)
    assert "drawn shapes" in note.value and "for a test" in note.value
    figures = [box.children[-1] for box in tabs.children]
    assert all(isinstance(one, LiveFigure) and one.image.value for one in figures)


def test_photographs_get_a_map_of_the_shapes_beside_the_truth(shown: demo.Demo) -> None:
    _, tabs = app.page(replace(shown, truth=None)).children
    assert tabs.titles == (*app.TABS, app.TRUTH_TAB)
    without, beside = tabs.children[2].children[-1], tabs.children[-1].children[-1]
    assert "truth" not in without.text.value and "agreement with the truth" in beside.text.value


def test_the_mixer_shows_an_image_worth_mixing(shown: demo.Demo) -> None:
    row = app.furthest_apart(shown)
    assert int(shown.teacher_logits[row].argmax()) == int(shown.labels[row])
    assert int(shown.student_logits[row].argmax()) != int(shown.labels[row])


def test_bench_takes_the_time_of_every_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    found = widget_bench.change_times(changes=3)
    assert [one.figure for one in found] == list(app.TABS)
    assert all(0 < one.median_ms <= one.p90_ms * 1.001 and one.changes == 3 for one in found)
    assert "Target 60 ms" in widget_bench.report(found)
    slow = replace(found[0], median_ms=61.0)
    assert f"too slow: {slow.figure}" in widget_bench.report([slow])


def test_the_app_has_no_outputs_to_go_stale(checkout: Path) -> None:
    notebook = nbformat.read(checkout / "notebooks" / "app" / "app.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) == 1 and code[0].outputs == []
    assert code[0].source.endswith("app.page()")
    found: dict[str, object] = {}
    exec(code[0].source.removesuffix("app.page()"), found)
    assert found["app"] is app
