"""From outside: start a submission's process, run cells, call functions, stop it in time."""

from __future__ import annotations

import io
import pickle
import queue
import subprocess
import threading
import time
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import torch
from checks.calling import Elsewhere, NotYet
from torch import Tensor, nn

from sandbox import wire
from sandbox.namespaces import command

POLL = 0.05  # seconds between two looks at the clock
START_SECONDS = 120.0  # of processor time, to import PyTorch
PATIENCE = 4.0  # real time may be so many times the processor time, and half a minute more


class Stopped(RuntimeError):
    """The process is gone: its time was up (`timeout`), or it ended."""

    def __init__(self, timeout: bool) -> None:
        self.timeout = timeout
        super().__init__("its time was up" if timeout else "it ended")


class StudentError(RuntimeError):
    """What the student's function raised; `trace` are its own lines."""

    def __init__(self, kind: str, text: str, trace: list[str]) -> None:
        self.kind, self.text, self.trace = kind, text, trace
        super().__init__(f"{kind}: {text}" if text else kind)


class Function(Elsewhere):
    """A function of the submission: calling it calls it there."""

    def __init__(self, box: Box, name: str) -> None:
        self._box, self.__name__ = box, name

    def __call__(self, *args: Any, **kw: Any) -> Any:
        return self.within(60.0, args, kw)

    def within(
        self, seconds: float, args: tuple[Any, ...], kw: Mapping[str, Any], through: Any = None
    ) -> Any:
        function = (through, (self, *args)) if through else (self, args)
        return self._box.call(self.__name__, *function, dict(kw), seconds)


class Box:
    """One submission's process, started when it is needed, and anew after it was stopped.

    Attributes:
        running: whether there is a process; one that was just started knows no cell yet.
        endless: functions that did not come back; they are not called again.
    """

    def __init__(self, kit: Path) -> None:
        self._kit = kit
        self._process: subprocess.Popen[bytes] | None = None
        self._callbacks: list[Callable[..., Any]] = []
        self._answers = wire.Answers()
        self.endless: set[str] = set()

    @property
    def running(self) -> bool:
        return self._process is not None

    # --- what can be asked ---

    def start(self) -> None:
        program, environment = command(self._kit)
        self._process = subprocess.Popen(
            program,
            env=environment,
            cwd=self._kit,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for us; we stop it
        )
        self._come: queue.Queue[Any] = queue.Queue(maxsize=2)
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()
        self._used = 0.0
        self._await(START_SECONDS)

    def run(self, source: str, seconds: float) -> list[Any]:
        """Run a cell; its outputs."""
        outputs = self._ask({"op": "run", "source": source}, seconds).get("outputs")
        return outputs if isinstance(outputs, list) else []

    def names(self, wanted: list[str]) -> dict[str, Any]:
        """What the notebook has under these names: values, and a `Function` for what is one."""
        answer = self._ask({"op": "names", "wanted": wanted}, 60.0)
        values = {k: v for k, v in dict(answer["values"]).items() if k in wanted}
        functions = {name: Function(self, name) for name in answer["functions"] if name in wanted}
        return {**values, **functions}

    def call(
        self, name: str, function: Any, args: tuple[Any, ...], kw: dict[str, Any], seconds: float
    ) -> Any:
        """Call a function there; arguments that it changes in place are changed here as well."""
        if name in self.endless:
            raise NotYet(too_long(name, seconds))
        lent = len(self._callbacks)
        try:  # functions among the arguments are added to those that may be called back
            parts = function, args, kw, _gradients(args), torch.get_rng_state()
            blob = _pickled(parts, self._callbacks)
            answer = self._ask({"op": "call"}, seconds, blob)
        except Stopped as stopped:
            self.endless.add(name)
            raise NotYet(too_long(name, seconds) if stopped.timeout else DIED) from None
        finally:
            del self._callbacks[lent:]
        _raise_error(name, answer.get("error"))
        for argument, after in zip(args, answer["after"], strict=True):
            _renew(argument, after)

        def back(gradient: Tensor) -> list[Any]:
            asked = {"op": "backward", "number": answer["number"], "gradient": gradient}
            return self._ask(asked, seconds)["gradients"]

        return wire.bridged(answer["value"], [args, kw], back)

    def hangs(self, name: str) -> bool:
        """Whether this function has not come back before."""
        return name in self.endless

    @contextmanager
    def lend(self, functions: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
        """Within the block the notebook's names are these functions of ours, which run here."""
        self._callbacks = list(functions.values())
        self._ask({"op": "lend", "names": {n: i for i, n in enumerate(functions)}}, 60.0)
        try:
            yield
        finally:
            self._callbacks = []
            with suppress(Stopped, wire.Broken):
                self._ask({"op": "lend", "names": {}}, 60.0)

    def close(self) -> None:
        """End the process and all that it has started."""
        process, self._process = self._process, None
        if process is None:
            return
        for one in _family(process.pid):
            with suppress(psutil.Error):
                one.kill()
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            with suppress(OSError):
                stream.close()

    # --- talking ---

    def _ask(self, message: wire.Message, seconds: float, blob: bytes | None = None) -> Any:
        if not self.running:
            raise Stopped(timeout=False)
        self._say(message, blob)
        while True:
            answer = self._await(seconds)
            if "callback" in answer or "back" in answer:
                self._say(self._serve(answer))
            else:
                return answer

    def _say(self, message: wire.Message, blob: bytes | None = None) -> None:
        """In a thread: a process that does not listen must not hold us up."""

        def write(stream: Any) -> None:
            with suppress(OSError, ValueError):
                wire.send(stream, message, blob)

        threading.Thread(target=write, args=(self._process.stdin,), daemon=True).start()

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        try:
            while True:
                message, blob = wire.receive(process.stdout)
                self._come.put((message, blob))
                if not message:
                    return
        except (wire.Broken, OSError, ValueError) as error:
            self._come.put(error)

    def _await(self, seconds: float) -> wire.Message:
        """The next message, or `Stopped` when `seconds` of processor time have gone by."""
        began, used = time.monotonic(), self._used
        patience = PATIENCE * seconds + 30
        while True:
            try:
                come = self._come.get(timeout=POLL)
            except queue.Empty:
                self._used = max(self._used, _cpu_seconds(self._process.pid))
                if self._used - used > seconds or time.monotonic() - began > patience:
                    self.close()
                    raise Stopped(timeout=True) from None
                continue
            if isinstance(come, Exception) or not come[0]:
                self.close()
                raise Stopped(timeout=False)
            try:
                message = wire.values(*come)
                if isinstance(message, dict):
                    return message
            except wire.Broken:
                pass
            self.close()
            raise Stopped(timeout=False)

    def _serve(self, message: wire.Message) -> wire.Message:
        """Answer a call of one of our functions; it learns nothing from one that fails."""
        try:
            if "back" in message:
                numbers = self._answers.gradients(message["back"], message["gradient"])
                return {"gradients": numbers}
            number = message["callback"]
            if not (isinstance(number, int) and 0 <= number < len(self._callbacks)):
                raise ValueError(number)
            args, kw = message["args"], message["kw"]
            value = self._callbacks[number](*args, **kw)
            return {"value": value, "number": self._answers.keep(value, [args, kw])}
        except Exception as error:
            return {"error": f"this call of a function of the test failed: {type(error).__name__}"}


DIED = (
    "this call ended the Python process: by os._exit, a crash, or for lack of memory. The cells "
    "after it ran in a new one."
)


def too_long(name: str, seconds: float) -> str:
    return (
        f"`{name}` had not come back after {seconds:.0f} seconds of processor time. Is there a "
        "loop without an end?"
    )


def _raise_error(name: str, error: Any) -> None:
    if error is None:
        return
    kind, text = str(error["type"])[:80], str(error["text"])[:2000]
    if kind == "NotImplementedError":
        raise NotYet(f"`{name}` is not written yet; replace `raise NotImplementedError()`.")
    if kind == "SystemExit":
        raise NotYet(f"`{name}` ends the whole program. Let it return a value instead.")
    if kind == "BudgetSpent":
        raise NotYet(text)
    raise StudentError(kind, text, [str(line)[:500] for line in list(error["trace"])[:20]])


class _Pickler(pickle.Pickler):
    """For the way in: functions of the tests stay here, and are called from there."""

    def __init__(self, file: Any, callbacks: list[Any]) -> None:
        super().__init__(file, protocol=5)
        self._callbacks = callbacks

    def persistent_id(self, value: Any) -> Any:
        if isinstance(value, Function):
            return "name", value.__name__
        if isinstance(value, types.FunctionType | types.MethodType) and not _importable(value):
            self._callbacks.append(value)
            return "callback", len(self._callbacks) - 1
        return None


def _importable(function: Any) -> bool:
    package = function.__module__.partition(".")[0]
    return package in ("torch", "checks") and function.__qualname__.isidentifier()


def _pickled(value: Any, callbacks: list[Any]) -> bytes:
    file = io.BytesIO()
    _Pickler(file, callbacks).dump(value)
    return file.getvalue()


def _gradients(args: tuple[Any, ...]) -> list[list[Tensor | None]]:
    """Of the parameters of the networks among the arguments, which pickle leaves behind."""
    networks = [one for one in args if isinstance(one, nn.Module)]
    return [[p.grad for p in network.parameters()] for network in networks]


def _renew(argument: Any, after: Any) -> None:
    """Bring an argument into the state that came back."""
    if isinstance(argument, nn.Module):
        argument.load_state_dict(after["state"])
        for name, module in argument.named_modules():
            module.training = bool(after["training"][name])
        for name, parameter in argument.named_parameters():
            parameter.requires_grad_(bool(after["learns"][name]))
            gradient = after["gradients"][name]
            parameter.grad = None if gradient is None else gradient.detach()
    elif isinstance(argument, torch.optim.Optimizer):
        argument.load_state_dict(after["optimizer"])
    elif isinstance(argument, Tensor) and after is not None:
        argument.data.copy_(after["tensor"])


def _family(pid: int) -> list[psutil.Process]:
    with suppress(psutil.Error):
        parent = psutil.Process(pid)
        return [*parent.children(recursive=True), parent]
    return []


def _cpu_seconds(pid: int) -> float:
    total = 0.0
    for one in _family(pid):
        with suppress(psutil.Error):
            times = one.cpu_times()
            total += times.user + times.system
            total += getattr(times, "children_user", 0) + getattr(times, "children_system", 0)
    return total
