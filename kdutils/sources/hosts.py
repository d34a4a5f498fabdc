"""Hosts of one large file: which of them is quick, and one connection that starts anywhere in it."""

from __future__ import annotations

import http.client
import queue
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np

SAMPLE_BYTES = 2_000_000  # how much of the file a host is judged by, at most
LEAST_SAMPLE = 128_000
CHUNK = 1 << 16
AGENT = "kdutils (a course on knowledge distillation)"


class HostTrouble(Exception):
    """This host is of no use now; another may be. The message says what happened."""


@dataclass
class Sample:
    """What one host showed when it was tried for a few seconds."""

    url: str
    began: float = field(default_factory=time.monotonic)
    marks: list[tuple[float, int]] = field(default_factory=list)  # (time, bytes so far), from 0 on
    ended: bool = False  # the sample is complete
    problem: str = ""

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    @property
    def total(self) -> int:
        return self.marks[-1][1] if self.marks else 0

    def speed(self) -> float:
        """Bytes per second in the later half of the sample; 0 when the host is no use.

        The later half, because a connection starts slowly, and because a throttled host often
        lets the first few kilobytes through quickly.
        """
        marks = list(self.marks)  # the sampling thread may be adding to it
        if self.problem or not marks:
            return 0.0
        end = marks[-1][0] if self.ended else time.monotonic()
        middle = (marks[0][0] + end) / 2
        early = float(np.interp(middle, *zip(*marks, strict=True)))
        return (marks[-1][1] - early) / max(end - middle, 1e-6)

    def enough(self) -> bool:
        """Whether the sample is long enough to go by."""
        return self.ended or self.total >= LEAST_SAMPLE


def probe(
    hosts: Sequence[str], size: int, seconds: float, quick: float = float("inf")
) -> list[Sample]:
    """Try all hosts of a file of `size` bytes at once, for `seconds` at most; fastest first.

    Returns at once when a host proves faster than `quick` bytes per second, or all have failed.
    Each host has a thread that nobody waits for: looking a name up can hang for a minute, and
    Python cannot interrupt that.
    """
    deadline = time.monotonic() + seconds
    samples = [Sample(url) for url in hosts]
    finished: queue.SimpleQueue[Sample] = queue.SimpleQueue()
    stop = threading.Event()
    for sample in samples:
        arguments = (sample, size, deadline, stop, finished)
        threading.Thread(target=_take_sample, args=arguments, daemon=True).start()
    try:
        for _ in samples:
            sample = finished.get(timeout=max(0.0, deadline - time.monotonic()))
            if sample.speed() >= quick:
                break
    except queue.Empty:
        pass
    stop.set()
    return sorted(samples, key=Sample.speed, reverse=True)


def _take_sample(
    sample: Sample,
    size: int,
    deadline: float,
    stop: threading.Event,
    finished: queue.SimpleQueue[Sample],
) -> None:
    try:
        timeout = max(0.1, deadline - time.monotonic())
        with open_at(sample.url, size, 0, SAMPLE_BYTES, timeout) as response:
            sample.marks.append((time.monotonic(), 0))
            while sample.total < SAMPLE_BYTES and not stop.is_set():
                chunk = receive(response)
                if sample.total == 0:
                    check_start(chunk)
                if not chunk:
                    break
                sample.marks.append((time.monotonic(), sample.total + len(chunk)))
        sample.ended = True
    except HostTrouble as error:
        sample.problem = str(error)
    finally:
        finished.put(sample)


def open_at(url: str, size: int, start: int, length: int | None, timeout: float) -> Any:
    """An HTTP response with the archive from byte `start` on, checked to have `size` bytes in all.

    Raises:
        HostTrouble: no answer, or something else.
    """
    last = "" if length is None else str(start + length - 1)
    headers = {"User-Agent": AGENT, "Accept-Encoding": "identity"}
    if start or length:
        headers["Range"] = f"bytes={start}-{last}"
    try:
        response = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=timeout
        )
    except urllib.error.HTTPError as error:
        error.close()
        raise HostTrouble(f"answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise HostTrouble(_in_words(error)) from error
    if first_and_whole(response)[1] not in (None, size):
        response.close()
        raise HostTrouble("sends something that is not the archive")
    return response


def first_and_whole(response: Any) -> tuple[int, int | None]:
    """(first byte that this response brings, size of the whole file if the headers say it).

    A server that ignores the Range sends everything, from byte 0 on.
    """
    if response.status != 206:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdigit() else None
    piece, _, whole = response.headers.get("Content-Range", "").rpartition("/")
    first = piece.removeprefix("bytes ").partition("-")[0]
    return int(first) if first.isdigit() else -1, int(whole) if whole.isdigit() else None


def receive(response: Any) -> bytes:
    """The next bytes, as many as have come; empty at the end."""
    try:
        return response.read1(CHUNK)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise HostTrouble(_in_words(error)) from error


def check_start(chunk: bytes) -> None:
    if not chunk.startswith(b"\x1f\x8b"):  # what every gzip file begins with
        raise HostTrouble("sends something that is not the archive")


def _in_words(error: Exception) -> str:
    cause = getattr(error, "reason", error)
    if isinstance(cause, TimeoutError):
        return "does not answer"
    if isinstance(cause, socket.gaierror):
        return "cannot be found (is there a network?)"
    if isinstance(cause, ConnectionRefusedError):
        return "refuses the connection"
    return f"failed ({cause})"
