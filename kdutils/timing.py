"""Latency and throughput, measured the way a careful engineer would.

Warm-up first, a fixed number of threads, medians with the 10th and 90th percentile, models
alternated within one run so that a busy machine hits all of them alike, the processor named.
"""

from __future__ import annotations

import contextlib
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from .runtime.modes import device_of, layout_of


@dataclass(frozen=True)
class Latency:
    """Time for one call on a batch. Milliseconds."""

    median_ms: float
    p10_ms: float
    p90_ms: float
    batch_size: int
    threads: int
    calls: int

    @property
    def images_per_second(self) -> float:
        return 1000 * self.batch_size / self.median_ms

    def __str__(self) -> str:
        return (
            f"{self.median_ms:.2f} ms (p10 {self.p10_ms:.2f}, p90 {self.p90_ms:.2f}) for a batch "
            f"of {self.batch_size} on {self.threads} thread(s), {self.calls} calls"
        )


def latency(
    model: nn.Module,
    batch_size: int = 1,
    threads: int = 1,
    *,
    calls: int = 50,
    warmup: int = 10,
    input_shape: tuple[int, int, int] = (3, 32, 32),
) -> Latency:
    """How long one forward pass takes.

    Args:
        model: measured in eval mode under `inference_mode`, then left in the mode it was in.
        batch_size: images per call; 1 is what a phone does, 128 what a server does.
        threads: CPU threads; the global setting is put back afterwards.
        calls: timed calls after `warmup` untimed ones.
        input_shape: one image.

    Raises:
        ValueError: a size or count below one.
    """
    return compare({"model": model}, batch_size, threads, calls=calls, warmup=warmup,
                   input_shape=input_shape)["model"]  # fmt: skip


def throughput(
    model: nn.Module, batch_size: int = 128, threads: int = 1, *, calls: int = 20
) -> float:
    """Images per second in batches of `batch_size`: the inverse of the median latency."""
    return latency(model, batch_size, threads, calls=calls, warmup=3).images_per_second


def compare(
    models: Mapping[str, nn.Module],
    batch_size: int = 1,
    threads: int = 1,
    *,
    calls: int = 50,
    warmup: int = 10,
    input_shape: tuple[int, int, int] = (3, 32, 32),
) -> dict[str, Latency]:
    """`latency` of several models, interleaved: A B C, then C B A, and so on.

    A noisy neighbour or a processor that warms up then touches all models alike.
    """
    if min(batch_size, threads, calls) < 1 or warmup < 0:
        raise ValueError(
            f"Batch size, threads and calls must be at least 1, got {batch_size}, {threads} and "
            f"{calls}."
        )
    images = torch.randn(batch_size, *input_shape)
    with _quiet(models), _threads(threads), torch.inference_mode():
        times = interleave(
            {name: _caller(model, images) for name, model in models.items()}, calls, warmup
        )
    return {name: _latency(values, batch_size, threads) for name, values in times.items()}


def interleave(
    jobs: Mapping[str, Callable[[], object]],
    rounds: int,
    warmup: int = 1,
    ready: Mapping[str, Callable[[], object]] | None = None,
) -> dict[str, list[float]]:
    """Seconds of each job, `rounds` times, the order turned round every time.

    Args:
        jobs: what is timed, by name.
        warmup: untimed rounds at the start.
        ready: by the same names: what is done before each time, untimed.
    """
    ready = ready or {}
    for _ in range(warmup):
        for name, job in jobs.items():
            ready.get(name, _nothing)()
            job()
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(rounds):
        names = list(jobs) if number % 2 == 0 else list(reversed(jobs))
        for name in names:
            ready.get(name, _nothing)()
            began = time.perf_counter()
            jobs[name]()
            times[name].append(time.perf_counter() - began)
    return times


def _nothing() -> None:
    pass


def machine() -> str:
    """The processor in words: model, cores this process may use, precision it is fast in."""
    return f"{_processor()}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}"


def _latency(seconds: list[float], batch_size: int, threads: int) -> Latency:
    if len(seconds) == 1:
        low = high = seconds[0]
    else:
        deciles = statistics.quantiles(seconds, n=10, method="inclusive")
        low, high = deciles[0], deciles[-1]
    return Latency(
        1000 * statistics.median(seconds), 1000 * low, 1000 * high, batch_size, threads,
        len(seconds),
    )  # fmt: skip


def _caller(model: nn.Module, images: Tensor) -> Callable[[], object]:
    on_device = images.to(device_of(model), memory_format=layout_of(model))
    if on_device.device.type != "cuda":
        return lambda: model(on_device)

    def call() -> None:
        model(on_device)
        torch.cuda.synchronize()

    return call


@contextlib.contextmanager
def _quiet(models: Mapping[str, nn.Module]) -> Iterator[None]:
    """Every model in eval mode, and back."""
    modes = {name: model.training for name, model in models.items()}
    try:
        for model in models.values():
            model.eval()
        yield
    finally:
        for name, model in models.items():
            model.train(modes[name])


@contextlib.contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _processor() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.split(":", 1)[1].split())
    return platform.processor() or platform.machine()
