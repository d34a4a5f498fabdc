"""Several processes train one network together.

    torchrun --nproc-per-node 2 -m kdutils train student

`torchrun` starts the processes; inside `process_group()` they form a group, and in each `train.fit`
takes its share of every batch. Without `torchrun` there is one process and all of this does nothing.

What is shared how:

- Every process holds all images and the same weights. Of a global batch, process r of n takes every
  n-th image from the r-th on: the shares are disjoint and together the whole batch. Gradients are
  averaged over all images of the global batch by PyTorch's DistributedDataParallel, so a network
  without batch norm takes the steps that one process would take (up to rounding).
- Batch norm normalises with the mean and variance of the process's own share. The running ones are
  those of the first process: it hands them to the others before each step and after each epoch.
- The processes divide missing soft targets by block number, and each then reads what the others
  wrote (`soft_targets`). Only the first one writes checkpoints and results, and talks.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist

Value = TypeVar("Value")

# How long a process waits for another that lives but does not answer: the first may be downloading.
# One that has died is noticed at once.
PATIENCE = timedelta(hours=2)
LOST = ("gloo", "NCCL", "Connection closed", "Connection reset", "Broken pipe")


class ProcessLost(RuntimeError):
    """Another process of this training has died."""


def started_by_torchrun() -> bool:
    """Whether `torchrun` started this process with others beside it."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "MASTER_ADDR" in os.environ


def is_distributed() -> bool:
    """Whether this process is one of a group."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """The number of this process in its group, from 0."""
    return dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if is_distributed() else 1


def is_main_process() -> bool:
    """Whether this is the process that writes files and talks."""
    return rank() == 0


@contextlib.contextmanager
def process_group() -> Iterator[None]:
    """Be one of the processes that `torchrun` started: gloo on processors, NCCL on GPUs.

    Only the first one prints; errors of all are seen.

    Raises:
        ProcessLost: another process died, or `torchrun` was told to end.
    """
    if not started_by_torchrun():
        yield
        return
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE)
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(_last_words())
            if not is_main_process():
                silence = stack.enter_context(open(os.devnull, "w"))
                stack.enter_context(contextlib.redirect_stdout(silence))
            yield
    except RuntimeError as error:
        if any(word in str(error) for word in LOST):
            raise _lost() from error
        raise
    dist.destroy_process_group()


def _lost() -> ProcessLost:
    return ProcessLost(
        f"Process {rank() + 1} of {world_size()} stops, because another one has died or torchrun "
        "was told to end (it says which, above or below). The last finished epoch is kept: give the "
        "same command again to go on."
    )


@contextlib.contextmanager
def _last_words() -> Iterator[None]:
    """Let the word of `torchrun` to end be an error that is told, not a silent death.

    When one process dies, `torchrun` ends the others within a tenth of a second: often before they
    notice by themselves.
    """

    def leave(number: int, frame: object) -> None:
        raise _lost()

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    except RuntimeError:
        # On the way out already: nothing may cut the message short.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise
    signal.signal(signal.SIGTERM, before)


def barrier() -> None:
    """Wait until all processes are here."""
    if is_distributed():
        dist.barrier()


@contextlib.contextmanager
def main_process_first() -> Iterator[None]:
    """The first process does the work inside alone, the others after it: downloads, decoding."""
    if not is_main_process():
        barrier()
    yield
    if is_main_process():
        barrier()


def broadcast(value: Value) -> Value:
    """What the first process says, in all of them."""
    if not is_distributed():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0, device=_device())
    return box[0]


def all_reduce(values: Tensor) -> Tensor:
    """The sum of `values` over all processes."""
    if is_distributed():
        dist.all_reduce(values)
    return values


def shard(batch: Tensor) -> Tensor:
    """This process's part of a global batch: disjoint parts that together are all of it."""
    return batch[rank() :: world_size()]


def weight_by_shard(loss: Tensor, mine: int, all_: int) -> Tensor:
    """A share's mean loss, scaled so that the processes' average is the global batch's mean.

    Args:
        loss: scalar, the mean over this process's `mine` images.
        all_: images in the global batch.
    """
    return loss * (mine * world_size() / all_) if is_distributed() else loss


def wrap(model: nn.Module) -> nn.Module:
    """`model`, or a wrapper whose backward pass averages gradients over the processes."""
    return nn.parallel.DistributedDataParallel(model) if is_distributed() else model


def broadcast_tensors(tensors: Iterable[Tensor]) -> None:
    """Overwrite `tensors` with the first process's."""
    if is_distributed():
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace the gradients of what `wrap` does not hold by their mean over all processes."""
    if is_distributed():
        for parameter in parameters:
            if parameter.requires_grad:
                if parameter.grad is None:  # every process must take part
                    parameter.grad = torch.zeros_like(parameter)
                dist.all_reduce(parameter.grad)
                parameter.grad /= world_size()


@contextlib.contextmanager
def progress_bar(total: int, done: int, name: str, shown: bool) -> Iterator[Any]:
    """A bar of `total` batches, `done` of them already, that only the first process shows."""
    from tqdm.auto import tqdm

    with tqdm(
        total=total, initial=done, desc=name, unit="batch", leave=False,
        disable=not (shown and is_main_process()),
    ) as bar:  # fmt: skip
        yield bar


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Layers that draw random numbers (dropout) draw the same in a resumed run, and other ones in
    every process; the caller's random state is left alone."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed * world_size() + rank())
        yield


def _device() -> torch.device:
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
