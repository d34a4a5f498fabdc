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


def test_compare_covers_every_model() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    assert set(timing.compare({"a": model, "b": model}, 2, calls=3)) == {"a", "b"}


def test_compare_never_mixes_devices() -> None:
    here, there = nn.Linear(32, 2), nn.Linear(32, 2).to("meta")
    with pytest.raises(ValueError, match="one device.*a on cpu, b on meta"):
        timing.compare({"a": here, "b": there})
    assert timing.latency(there, calls=1).calls == 1  # images go where the model is


class Flat(nn.Module):
    """Relies on rows that lie one after another, as `view` does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8 * 1024, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return self.fc(x.view(len(x), -1))


@pytest.mark.filterwarnings("ignore")
def test_networks_of_every_kind_are_measured() -> None:
    assert timing.latency(Flat(), batch_size=2, calls=1, warmup=0).median_ms > 0
    assert timing.latency(Flat().double(), calls=1, warmup=0).median_ms > 0
    without_weights = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert timing.latency(without_weights, calls=1, warmup=0).median_ms > 0
    frozen = torch.jit.freeze(torch.jit.script(Flat().eval()))
    assert timing.latency(frozen, calls=1, warmup=0).median_ms > 0
    grey = nn.Conv2d(1, 2, 3)
    assert timing.latency(grey, input_shape=(1, 28, 28), calls=1, warmup=0).median_ms > 0


def test_a_frozen_batch_norm_stays_frozen() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout()).train()
    model[0].eval()
    timing.latency(model, calls=1, warmup=0)
    assert not model[0].training and model[1].training and model.training


@pytest.mark.parametrize("arguments", [(0, 1), (1, 0)])
def test_sizes_below_one_are_refused(arguments: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        timing.latency(nn.Identity(), *arguments)


def test_machine_names_processor_threads_and_version() -> None:
    text = timing.machine()
    assert "threads" in text and torch.__version__ in text


class Watched(nn.Module):
    """Notes how it is called: mode and threads."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[bool, int, bool]] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls.append(
            (self.training, torch.get_num_threads(), torch.is_inference_mode_enabled())
        )
        return images


def test_each_call_is_in_eval_mode_on_as_many_threads_as_asked_for_after_a_warm_up() -> None:
    before = torch.get_num_threads()
    one, two = Watched().train(), Watched().train()
    found = timing.compare({"one": one, "two": two}, threads=before + 2, calls=3, warmup=4)
    for model in (one, two):
        assert model.calls == [(False, before + 2, True)] * 7
        assert model.training
    assert {(each.calls, each.threads) for each in found.values()} == {(3, before + 2)}
    timing.latency(one, calls=1)  # by default ten, on one thread
    assert one.calls[7:] == [(False, 1, True)] * 11


def test_warm_up_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that a job moves: the first two calls take 100 s, later ones 1 s."""
    now, calls = [0.0], []

    def job() -> None:
        calls.append(1)
        now[0] += 100.0 if len(calls) <= 2 else 1.0

    def ready() -> None:
        now[0] += 7.0  # what is done before is not timed either

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    assert timing.interleave({"job": job}, 3, warmup=2, ready={"job": ready}) == {"job": [1.0] * 3}


def test_the_percentiles_are_deciles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eleven calls of 10, 20, …, 110 ms: the tenth percentile is 20 ms, the quarter 35 ms."""
    times = [0.01 * number for number in range(1, 12)]
    monkeypatch.setattr(timing, "interleave", lambda jobs, *_: {name: times for name in jobs})
    found = timing.latency(nn.Identity(), batch_size=3)
    assert (found.p10_ms, found.median_ms, found.p90_ms) == pytest.approx((20, 60, 100))
    assert found.images_per_second == pytest.approx(50) and found.calls == 11
