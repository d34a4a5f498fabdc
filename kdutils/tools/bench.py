"""How fast the engine is, held against a textbook loop on the same machine in the same minutes.

    python -m kdutils bench

Each *job* is a steady-state piece of work, some seconds long. Rounds run all jobs one after the
other, forwards and backwards in turn, so that a busy machine slows them all alike. A ratio compares
two jobs round by round. The textbook loop is `kdutils.course.naive_loop`; ours is what `train.fit` runs.
Images are random pixels: no job is faster for a picture than for noise. One row is measured beside
processes that keep the machine busy, as a class on a hub or a video call does.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from .. import __version__, models, timing
from ..course import naive_loop
from ..data import ImageData, Split
from ..losses import Distillation, LabelLoss
from ..runtime.precision import working_precision
from ..runtime.settings import settings
from ..soft_targets import SoftTargets
from ..train import VIEW_SEED, Recipe, Trainer
from ..views import epoch_images, epoch_views, normalise, take
from . import execution

WORKERS = 2  # of the textbook's DataLoader
BUSY = 2  # processes beside us, in the row for a busy machine
MEMORY_IMAGES = 50_000
STUDENT_BATCH, TEACHER_BATCH = 64, 256  # the house recipes


@dataclass(frozen=True)
class Size:
    """How much each job does in a round, in images, and how many rounds there are."""

    rounds: int = 7
    ours: int = 4096
    textbook: int = 1024
    textbook_distilling: int = 256
    teacher: int = 512
    textbook_teacher: int = 128
    textbook_images: int = 50_000
    memory_steps: int = 40


QUICK = Size(rounds=3, ours=1024, textbook=256, textbook_distilling=64, teacher=256,
             textbook_teacher=64, memory_steps=5)  # fmt: skip


@dataclass(frozen=True)
class Rate:
    """Images per second, or a ratio of two such: median, 10th and 90th percentile."""

    median: float
    p10: float
    p90: float

    @classmethod
    def of(cls, values: list[float]) -> Rate:
        deciles = statistics.quantiles(values, n=10, method="inclusive") if values[1:] else values
        return cls(statistics.median(values), deciles[0], deciles[-1])

    def __str__(self) -> str:
        return f"{self.median:,.0f} ({self.p10:,.0f}–{self.p90:,.0f})"


@dataclass(frozen=True)
class Job:
    """A piece of work that is timed, and what comes before it, untimed.

    Attributes:
        work: does it.
        amount: the images that it gets through.
        ready: brings it into its steady state before each piece.
    """

    work: Callable[[], object]
    amount: float
    ready: Callable[[], object] = field(default=lambda: None)


Jobs = dict[str, Job]

# name -> (faster job, slower job, aim)
RATIOS: dict[str, tuple[str, str, float]] = {
    "distillation, warm cache / textbook": ("distil, warm cache", "textbook distil", 20),
    "distillation, warm cache / labels only": ("distil, warm cache", "labels only", 0.95),
    "distillation, cold cache / live teacher": ("distil, cold cache", "distil, live teacher", 1),
    "labels only / textbook": ("labels only", "textbook labels only", 2.5),
    "data pipeline / textbook": ("data pipeline", "textbook data pipeline", 6),
    "teacher training / textbook": ("teacher training", "textbook teacher training", 1),
}
# The same for the row that is measured by itself, last. Its aim is a fair share of two cores.
BESIDE = f"labels only, beside {BUSY} busy processes"
BUSY_RATIO = {f"{BESIDE} / alone": (BESIDE, "labels only", 0.5)}


def run(size: Size | None = None, say: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Measure everything once.

    Args:
        size: how much; default `Size()`, some minutes on two cores.
        say: told what is being done.

    Returns:
        A record fit for JSON, see `table`.
    """
    size = size or Size()
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng():
        torch.manual_seed(0)
        say("Preparing …")
        jobs = _jobs(size, Path(folder))
        say(f"{len(jobs)} jobs, {size.rounds} rounds …")
        seconds = timing.interleave(
            {name: job.work for name, job in jobs.items()},
            size.rounds,
            ready={name: job.ready for name, job in jobs.items()},
        )
        say(f"Once more beside {BUSY} busy processes …")
        with busy(BUSY):
            seconds |= timing.interleave({BESIDE: jobs["labels only"].work}, size.rounds)
    jobs[BESIDE] = jobs["labels only"]
    rates = {name: [jobs[name].amount / each for each in times] for name, times in seconds.items()}
    say(f"Peak memory of training on {MEMORY_IMAGES:,} images …")
    memory = peak_memory_mb(size.memory_steps)
    return _record(rates, memory, size)


def _record(rates: dict[str, list[float]], memory: float, size: Size) -> dict[str, Any]:
    pairs = {**RATIOS, **BUSY_RATIO}
    return {
        "machine": timing.machine(),
        "threads": torch.get_num_threads(),
        "precision": working_precision(),
        "date": date.today().isoformat(),
        "version": __version__,
        "size": asdict(size),
        "images_per_second": {name: asdict(Rate.of(values)) for name, values in rates.items()},
        "ratios": {
            name: asdict(_ratio(rates[fast], rates[slow])) | {"aim": aim}
            for name, (fast, slow, aim) in pairs.items()
        },
        "peak_memory_mb": memory,
    }


def _ratio(fast: list[float], slow: list[float]) -> Rate:
    return Rate.of([a / b for a, b in zip(fast, slow, strict=True)])


@contextlib.contextmanager
def busy(number: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Meanwhile so many processes do nothing but keep a core busy each."""
    code = "while True: pass"
    others = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(number)]
    try:
        yield others
    finally:
        for other in others:
            other.kill()
            other.wait()


def table(record: dict[str, Any]) -> str:
    """The record of `run` as Markdown tables."""
    lines = ["| job | images per second, median (p10–p90) |", "|---|---:|"]
    lines += [f"| {name} | {Rate(**rate)} |" for name, rate in record["images_per_second"].items()]
    return "\n".join([*lines, "", comparisons(record), "", conditions(record)])


def comparisons(record: dict[str, Any]) -> str:
    """How many times faster one job is than another, as a Markdown table."""
    lines = ["| comparison | median (p10–p90), and the aim |", "|---|---:|"]
    for name, ratio in record["ratios"].items():
        value = f"{ratio['median']:.2f}x ({ratio['p10']:.2f}–{ratio['p90']:.2f})"
        lines.append(f"| {name} | {value}, aim {ratio['aim']:g}x |")
    return "\n".join(lines)


def conditions(record: dict[str, Any]) -> str:
    """Memory, machine and date of a record, in two lines."""
    return (
        f"Peak memory, student training on {MEMORY_IMAGES:,} images: "
        f"{record['peak_memory_mb']:,.0f} MB.\n"
        f"Machine: {record['machine']}, {record['date']}."
    )


# --- the jobs -------------------------------------------------------------------------------------


def _jobs(size: Size, folder: Path) -> Jobs:
    data = random_data(size.ours)
    many = random_data(size.textbook_images)  # so that its epochs end, and stutter, rarely
    return {
        **_pipelines(data, many, size),
        **_students(data, many, size),
        **_distilling(data, many, size, folder),
        **_teachers(many, size),
    }


def random_data(n: int) -> ImageData:
    """`n` training images of noise in channels_last layout, and a handful of others."""

    def split(count: int) -> Split:
        images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8)
        return Split(images.to(memory_format=torch.channels_last), torch.arange(count) % 10)

    return ImageData(split(n), split(10), split(10), tuple("0123456789"), "noise")


def _pipelines(data: ImageData, many: ImageData, size: Size) -> Jobs:
    """Batches made ready, and thrown away."""
    images = data.train.images.to(settings().device)
    epochs = iter(range(10**9))

    def ours() -> None:
        shown = epoch_images(images, epoch_views(len(images), VIEW_SEED, next(epochs)))
        order = torch.randperm(len(images)).to(images.device)
        for start in range(0, len(images), STUDENT_BATCH):
            normalise(take(shown, order[start : start + STUDENT_BATCH]), data.mean, data.std)
        _wait()

    batches = _endless(many, STUDENT_BATCH)
    return {
        "data pipeline": Job(ours, len(images)),
        "textbook data pipeline": Job(
            lambda: _draw(batches, size.textbook), size.textbook, _emptying(batches)
        ),
    }


def _students(data: ImageData, many: ImageData, size: Size) -> Jobs:
    return {
        "labels only": Job(_epochs("student", data), size.ours),
        "textbook labels only": _textbook("student", many, size.textbook, STUDENT_BATCH),
    }


def _distilling(data: ImageData, many: ImageData, size: Size, folder: Path) -> Jobs:
    teacher = models.build("teacher", 0).eval()
    cold = SoftTargets(teacher, data.train, folder / "cold")
    warm = _FromDisk(teacher, data.train, folder / "warm")
    return {
        "distil, warm cache": Job(
            _epochs("student", data, soft_targets=warm, repeat=True), size.ours, warm.forget
        ),
        "distil, cold cache": Job(_epochs("student", data, soft_targets=cold), size.ours),
        "distil, live teacher": Job(_epochs("student", data, teacher=teacher), size.ours),
        "textbook distil": _textbook(
            "student", many, size.textbook_distilling, STUDENT_BATCH, distilling=True
        ),
    }  # fmt: skip


def _teachers(many: ImageData, size: Size) -> Jobs:
    part = random_data(size.teacher)
    return {
        "teacher training": Job(
            _epochs("teacher", part, batch_size=min(TEACHER_BATCH, size.teacher)), size.teacher
        ),
        "textbook teacher training": _textbook(
            "teacher", many, size.textbook_teacher, size.textbook_teacher
        ),
    }


class _FromDisk(SoftTargets):
    """A full cache as a second training finds it: on disk, nothing in memory yet."""

    def forget(self) -> None:
        self.epoch(epoch_views(len(self.images), VIEW_SEED, 0))
        self._known.clear()


def _epochs(
    network: str,
    data: ImageData,
    batch_size: int = STUDENT_BATCH,
    repeat: bool = False,
    **teaching: Any,
) -> Callable[[], None]:
    """Our loop: each call trains one more epoch (`repeat`: shows the views of the first again)."""
    recipe = Recipe(epochs=10**6, batch_size=batch_size, learning_rate=0.01)
    loss = Distillation() if teaching else LabelLoss()
    trainer = Trainer(models.build(network, 0), data, recipe, loss, **teaching)
    trainer.prepare()
    numbers, bar = iter(range(10**6)), tqdm(disable=True)

    def epoch() -> None:
        trainer.epoch(0 if repeat else next(numbers), bar)
        _wait()

    return epoch


def _textbook(
    network: str, data: ImageData, images: int, batch_size: int, distilling: bool = False
) -> Job:
    """The textbook loop: float32, contiguous, a live teacher under no_grad."""
    model = _contiguous(models.build(network, 0))
    taught_by = _contiguous(models.build("teacher", 0)).eval() if distilling else None
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    batches, few = _endless(data, batch_size), min(images, 2 * batch_size)

    def train(count: int) -> None:
        naive_loop.train_steps(model, optimizer, batches, count // batch_size, taught_by)
        _wait()

    return Job(lambda: train(images), images, lambda: train(few))


def _contiguous(model: nn.Module) -> nn.Module:
    return model.to(settings().device, memory_format=torch.contiguous_format)


def _endless(data: ImageData, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    loader = naive_loop.textbook_loader(data.train, batch_size, workers=WORKERS)
    while True:
        yield from loader


def _draw(batches: Iterator[object], images: int) -> None:
    for _ in range(images // STUDENT_BATCH):
        next(batches)


def _emptying(batches: Iterator[object]) -> Callable[[], None]:
    """Take what the workers have made while others were measured: two batches each, and theirs."""
    return lambda: _draw(batches, 3 * WORKERS * STUDENT_BATCH)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


# --- memory ---------------------------------------------------------------------------------------


def peak_memory_mb(steps: int) -> float:
    """Most memory (10^6 bytes, resident) of a process that trains the student on 50,000 images."""
    code = f"from kdutils.tools import bench; print(bench.train_and_weigh({steps}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=1800
    )
    return float(done.stdout.split()[-1])


def train_and_weigh(steps: int) -> float:
    """Train for a few steps on 50,000 images; returns the peak memory of this process in MB."""
    data = random_data(MEMORY_IMAGES)
    recipe = Recipe(batch_size=STUDENT_BATCH)
    trainer = Trainer(models.build("student", 0), data, recipe)
    trainer.steps = steps  # memory does not grow after the first few
    trainer.epoch(0, tqdm(disable=True))
    peak = execution.peak_memory_mb()
    if peak is None:  # a system without /proc
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # macOS counts in bytes
    return peak
