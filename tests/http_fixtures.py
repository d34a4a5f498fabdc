"""A web server on this machine that behaves as badly as a test asks, and a tiny CIFAR-10."""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@dataclass
class Server:
    """What the server serves and what it was asked. The path of an address is the behaviour."""

    archive: bytes
    port: int = 0
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def url(self, behaviour: str) -> str:
        """fast, norange, cut, slow, burst, fading, wrong, tampered, silent, missing."""
        return f"http://127.0.0.1:{self.port}/{behaviour}/cifar-10-python.tar.gz"

    def asked(self, behaviour: str) -> list[str | None]:
        """The Range headers of the requests to one behaviour."""
        return [given for path, given in self.requests if path.startswith(f"/{behaviour}/")]


class _Handler(BaseHTTPRequestHandler):
    server: Any

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        state: Server = self.server.state
        behaviour = self.path.split("/")[1]
        given = self.headers.get("Range")
        state.requests.append((self.path, given))
        if behaviour == "silent":
            state.closing.wait(60)
            return
        if behaviour == "missing":
            self.send_error(404)
            return
        body = state.archive
        if behaviour == "tampered":
            body = body[:-40] + bytes(40)
        if behaviour == "wrong":
            body = b"<html>Please log in to this network.</html>"
        start, stop = 0, len(body)
        if given and behaviour not in ("norange", "wrong"):
            first, _, last = given.removeprefix("bytes=").partition("-")
            start = int(first)
            stop = min(stop, int(last) + 1) if last else stop
            if start >= len(body):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(body)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        try:
            self._send(body[start:stop], behaviour, state)
        except OSError:
            pass  # the client hung up

    def _send(self, body: bytes, behaviour: str, state: Server) -> None:
        quick = {"slow": 0, "burst": 130_000, "fading": 200_000}.get(behaviour, len(body))
        if behaviour == "cut":
            body = body[: max(1, len(body) // 2)]
        self.wfile.write(body[:quick])
        for at in range(quick, len(body), 1000):  # 20 kB/s
            if state.closing.wait(0.05):
                return
            self.wfile.write(body[at : at + 1000])


def tiny_archive(images_per_batch: int = 30) -> tuple[bytes, dict[str, str]]:
    """(a tar.gz laid out as CIFAR-10's, the MD5 of each file in it). About 540 kB."""
    rng = np.random.default_rng(0)
    files: dict[str, bytes] = {}
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        pixels = rng.integers(0, 256, (images_per_batch, 3072), dtype=np.uint8)
        labels = [i % 10 for i in range(images_per_batch)]
        pixels[:, 0] = labels  # the first red pixel tells the class
        files[name] = pickle.dumps({"data": pixels, "labels": labels})
    files["batches.meta"] = pickle.dumps({"label_names": CLASSES})
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue(), {name: hashlib.md5(c).hexdigest() for name, c in files.items()}


@pytest.fixture(scope="module")
def tiny() -> tuple[bytes, dict[str, str]]:
    return tiny_archive()


@pytest.fixture
def server(tiny: tuple[bytes, dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A running server; `kdutils.sources.cifar10` and torchvision take its archive for the real one."""
    from torchvision.datasets import CIFAR10

    from kdutils.sources import cifar10

    archive, sums = tiny
    monkeypatch.setattr(cifar10, "SIZE", len(archive))
    monkeypatch.setattr(cifar10, "MD5", hashlib.md5(archive).hexdigest())
    batches = [[name, digest] for name, digest in sums.items() if name.startswith("data")]
    monkeypatch.setattr(CIFAR10, "train_list", batches)
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": sums["batches.meta"]})
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    state = Server(archive)
    web = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    web.daemon_threads = True
    web.state = state  # type: ignore[attr-defined]
    state.port = web.server_port
    thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield state
    state.closing.set()
    web.shutdown()
    web.server_close()
    thread.join(5)
