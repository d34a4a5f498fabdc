"""The benchmark measures what it says. How fast things are is for a quiet machine to tell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from kdutils.__main__ import main
from kdutils.course import naive_loop
from kdutils.tools import bench
from kdutils.tools.bench import Rate, Size

TINY = Size(rounds=2, ours=128, textbook=64, textbook_distilling=64, teacher=64,
            textbook_teacher=64, textbook_images=256, memory_steps=1)  # fmt: skip


@pytest.fixture(scope="module")
def record() -> dict:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "peak_memory_mb", lambda steps: 1234.0)
        return bench.run(TINY)


def test_every_job_and_comparison_is_there(record: dict) -> None:
    jobs = record["images_per_second"]
    assert len(jobs) == 11 and bench.BESIDE in jobs
    for fast, slow, _ in bench.RATIOS.values():
        assert fast in jobs and slow in jobs
    for rate in jobs.values():
        assert 0 < rate["p10"] <= rate["median"] <= rate["p90"]
    assert set(record["ratios"]) == {*bench.RATIOS, *bench.BUSY_RATIO}
    assert record["size"]["rounds"] == 2 and record["machine"] and record["date"]


def test_table_shows_it_all(record: dict) -> None:
    table = bench.table(json.loads(json.dumps(record)))
    for name in (*record["images_per_second"], *record["ratios"]):
        assert f"| {name} |" in table
    assert "1,234 MB" in table and record["machine"] in table


def test_ratios_are_taken_round_by_round() -> None:
    """A machine that slows down in one round does not move the ratio."""
    ratio = bench._ratio([100.0, 10.0, 100.0], [50.0, 5.0, 50.0])
    assert (ratio.median, ratio.p10, ratio.p90) == (2.0, 2.0, 2.0)
    assert Rate.of([3.0]).p10 == 3.0
    assert Rate.of([float(n) for n in range(11)]) == Rate(5.0, 1.0, 9.0)


def test_a_busy_machine_is_quiet_again_afterwards() -> None:
    with pytest.raises(KeyError), bench.busy(2) as others:
        assert len(others) == 2 and all(other.poll() is None for other in others)
        raise KeyError
    assert all(other.poll() is not None for other in others)


def test_memory_is_measured_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    found = bench.peak_memory_mb(1)
    assert 400 < found < 2000  # 50,000 images as bytes are 154 MB; PyTorch is the rest


def test_cold_cache_is_cold_and_warm_is_warm(tmp_path: Path) -> None:
    jobs = bench._distilling(bench.random_data(128), bench.random_data(128), TINY, tmp_path)
    warm, cold = jobs["distil, warm cache"], jobs["distil, cold cache"]
    for _ in range(3):
        warm.ready(), warm.work(), cold.ready(), cold.work()
    assert len(list((tmp_path / "warm").rglob("*.npz"))) == 1
    assert len(list((tmp_path / "cold").rglob("*.npz"))) == 3


def test_the_textbook_loop_learns() -> None:
    """It is a fair opponent: it does train."""
    from small import TinyNet, tiny_data

    model, data = TinyNet(), tiny_data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def batches():
        while True:
            yield from naive_loop.textbook_loader(data.train, 64, augment=False)

    source = batches()
    before = naive_loop.train_steps(model, optimizer, source, 5)
    for teacher in (TinyNet(1).eval(), None):
        naive_loop.train_steps(model, optimizer, source, 30, teacher)
    assert naive_loop.train_steps(model, optimizer, source, 5) < before / 2


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: dict, capsys) -> None:
    sizes = []
    monkeypatch.setattr(bench, "run", lambda size, say: sizes.append(size) or record)
    assert main(["bench", "--quick", "--out", str(tmp_path / "b.json")]) == 0
    assert sizes == [bench.QUICK]
    assert json.loads((tmp_path / "b.json").read_text()) == record
    printed = capsys.readouterr().out
    assert "| labels only |" in printed and "b.json" in printed
