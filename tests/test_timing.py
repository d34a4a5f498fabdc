"""Timing: what it returns and leaves behind. How fast things are belongs in benchmarks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdutils import timing


def test_latency_fields_are_ordered_and_named() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    found = timing.latency(model, batch_size=4, threads=1, calls=11, warmup=1)
    assert 0 < found.p10_ms <= found.median_ms <= found.p90_ms
    assert (found.batch_size, found.threads, found.calls) == (4, 1, 11)
    assert found.images_per_second == pytest.approx(4000 / found.median_ms)
    assert "batch of 4 on 1 thread" in str(found)


def test_threads_and_modes_are_put_back() -> None:
    before = torch.get_num_threads()
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10), nn.Dropout()).train()
    timing.latency(model, threads=before + 1, calls=2, warmup=0)
    assert torch.get_num_threads() == before
    assert model.training


def test_modes_are_put_back_after_an_error_too() -> None:
    model = nn.Linear(5, 5).train()  # cannot take images
    with pytest.raises(RuntimeError):
        timing.latency(model, calls=1)
    assert model.training


def test_interleave_turns_the_order_round() -> None:
    seen: list[str] = []
    jobs = {name: (lambda name=name: seen.append(name)) for name in "abc"}
    times = timing.interleave(jobs, rounds=2, warmup=0)
    assert "".join(seen) == "abccba"
    assert {name: len(values) for name, values in times.items()} == {"a": 2, "b": 2, "c": 2}


def test_a_slower_job_measures_slower() -> None:
    import time

    times = timing.interleave({"quick": lambda: None, "slow": lambda: time.sleep(0.02)}, rounds=3)
    assert min(times["slow"]) >= 0.02 > min(times["quick"])


def test_compare_covers_every_model_and_throughput_is_positive() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    assert set(timing.compare({"a": model, "b": model}, 2, calls=3)) == {"a", "b"}
    assert timing.throughput(model, 8, calls=2) > 0


@pytest.mark.parametrize("arguments", [(0, 1), (1, 0)])
def test_sizes_below_one_are_refused(arguments: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        timing.latency(nn.Identity(), *arguments)


def test_machine_names_processor_threads_and_version() -> None:
    text = timing.machine()
    assert "threads" in text and torch.__version__ in text
