"""Latency, measured the way a careful engineer would.

Warm-up first, a fixed number of threads, medians with the 10th and 90th percentile, models
alternated within one run so that a busy machine hits all of them alike, the processor named.
(`torch.utils.benchmark.Timer` warms up before every measurement, so alternating single calls with
it would take three times as long.)
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

from .runtime.modes import device_of, eval_mode, layout_of


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
    input_shape: tuple[int, ...] = (3, 32, 32),
) -> Latency:
    """How long one forward pass takes, on the device that the model is on.

    Args:
        model: measured in eval mode under `inference_mode`; every module is then put back into the
            mode it was in.
        batch_size: images per call; 1 is what a phone does, 128 what a server does.
        threads: CPU threads; the global setting is put back afterwards.
        calls: timed calls after `warmup` untimed ones.
        input_shape: one image, in the type of the model's weights.

    Raises:
        ValueError: a size or count below one.
    """
    return compare({"model": model}, batch_size, threads, calls=calls, warmup=warmup,
                   input_shape=input_shape)["model"]  # fmt: skip


def compare(
    models: Mapping[str, nn.Module],
    batch_size: int = 1,
    threads: int = 1,
    *,
    calls: int = 50,
    warmup: int = 10,
    input_shape: tuple[int, ...] = (3, 32, 32),
) -> dict[str, Latency]:
    """`latency` of several models, interleaved: A B C, then C B A, and so on.

    A noisy neighbour or a processor that warms up then touches all models alike.

    Raises:
        ValueError: a size or count below one, or models on different devices.
    """
    if min(batch_size, threads, calls) < 1 or warmup < 0:
        raise ValueError(
            f"Batch size, threads and calls must be at least 1 and warm-up 0, got {batch_size}, "
            f"{threads}, {calls} and {warmup}."
        )
    devices = {name: str(device_of(model)) for name, model in models.items()}
    if len(set(devices.values())) > 1:
        places = ", ".join(f"{name} on {device}" for name, device in devices.items())
        raise ValueError(f"Only models on one device can be compared, but there is {places}.")
    images = torch.randn(batch_size, *input_shape)
    jobs = {name: _caller(model, images) for name, model in models.items()}
    with eval_mode(*models.values()), _threads(threads), torch.inference_mode():
        times = interleave(jobs, calls, warmup)
    return {name: _latency(seconds, batch_size, threads) for name, seconds in times.items()}


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
    times: dict[str, list[float]] = {name: [] for name in jobs}

    def once(name: str) -> float:
        if ready and name in ready:
            ready[name]()
        began = time.perf_counter()
        jobs[name]()
        return time.perf_counter() - began

    for _ in range(warmup):
        for name in jobs:
            once(name)
    for number in range(rounds):
        for name in list(jobs) if number % 2 == 0 else list(reversed(jobs)):
            times[name].append(once(name))
    return times


def machine(device: torch.device | str | None = None) -> str:
    """In words: processor or GPU, threads that PyTorch uses, version of PyTorch.

    Args:
        device: what was measured on; None is the GPU where there is one.
    """
    kind = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")).type
    name = torch.cuda.get_device_name(device) if kind == "cuda" else _processor()
    return f"{name}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}"


def _latency(seconds: list[float], batch_size: int, threads: int) -> Latency:
    many = seconds if len(seconds) > 1 else 2 * seconds
    deciles = statistics.quantiles(many, n=10, method="inclusive")
    low, middle, high = (1000 * s for s in (deciles[0], statistics.median(many), deciles[-1]))
    return Latency(middle, low, high, batch_size, threads, len(seconds))


def _caller(model: nn.Module, images: Tensor) -> Callable[[], object]:
    types = [weight.dtype for weight in model.parameters() if weight.is_floating_point()]
    device, dtype = device_of(model), types[0] if types else torch.float32
    batch = images.to(device, dtype, memory_format=layout_of(model))

    def call() -> None:
        model(batch)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return call


@contextlib.contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.split(":", 1)[1].split())
    return platform.processor() or platform.machine()
