"""The process in which a submission runs. Nothing in it is secret: no test, no answer, no mark.

Started as `python inside.py LIMITS`, it speaks `wire` over its standard streams, which the student's
code does not get to see. It runs cells as Jupyter would, and calls functions that they define.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]  # the kit: checks, the closed package, this folder
sys.path.insert(0, str(HERE))

import torch  # noqa: E402
from IPython.core.displaypub import DisplayPublisher  # noqa: E402
from IPython.core.interactiveshell import InteractiveShell  # noqa: E402
from IPython.core.displayhook import CapturingDisplayHook  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from traitlets.config import Config  # noqa: E402

from sandbox import wire  # noqa: E402

MOST_TEXT = 200_000  # characters of printed text kept of one cell
MOST_OUTPUTS = 200
SHOWN = ("text/plain", "image/png")  # nothing that a browser would run


class Remote:
    """A function of the grader's: it runs there, and can be differentiated through."""

    def __init__(self, ask: Callable[..., wire.Message], number: int, name: str) -> None:
        self._ask, self._number, self.__name__ = ask, number, name

    def __call__(self, *args: Any, **kw: Any) -> Any:
        reply = self._ask({"callback": self._number, "args": args, "kw": kw})

        def back(gradient: Tensor) -> list[Any]:
            return self._ask({"back": reply["number"], "gradient": gradient})["gradients"]

        return wire.bridged(reply["value"], [args, kw], back)


class _Printed(io.TextIOBase):
    """A standard stream that goes into the outputs, and does not fill the memory."""

    def __init__(self, outputs: list[Any]) -> None:
        self._outputs, self._room = outputs, MOST_TEXT

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        kept = text[: max(0, self._room)]
        self._room -= len(text)
        if kept:
            if not (self._outputs and "text" in self._outputs[-1]):
                self._outputs.append({"text": ""})
            self._outputs[-1]["text"] += kept
        return len(text)


class _Displayed(DisplayPublisher):
    """`display(...)` as outputs."""

    outputs: list[Any]

    def publish(self, data: Any, metadata: Any = None, **_: Any) -> None:
        self.outputs.append({"data": data})

    def clear_output(self, wait: bool = False) -> None:
        pass


class Worker:
    """Answers the grader's questions, one after the other."""

    def __init__(self, come: Any, go: Any) -> None:
        self._come, self._go = come, go
        self._answers = wire.Answers()
        self._before: dict[str, Any] = {}
        self._absent: list[str] = []
        config = Config({"HistoryManager": {"enabled": False}})
        self.shell = InteractiveShell.instance(config=config)
        self.shell.colors = "nocolor"
        self.shell.ask_exit = self._no_exit
        self.shell.system = self._system
        self.names = self.shell.user_ns

    @staticmethod
    def _no_exit(*_: Any) -> None:
        raise SystemExit("exit")

    @staticmethod
    def _system(program: str) -> None:
        """`!program`, without the terminal that there is none of in here."""
        done = subprocess.run(program, shell=True, capture_output=True, text=True, errors="replace")
        print(done.stdout + done.stderr, end="")

    def serve(self) -> None:
        while True:
            message, blob = wire.receive(self._come)
            if not message:
                os._exit(0)
            try:
                message = wire.values(message, b"" if message_is_call(message) else blob)
                answer = getattr(self, f"on_{message['op']}")(message, blob)
            except BaseException as error:
                answer = {"error": _told(error)}
            wire.send(self._go, answer)

    def ask(self, message: wire.Message) -> wire.Message:
        wire.send(self._go, message)
        answer = wire.values(*wire.receive(self._come))
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    # --- what may be asked ---

    def on_run(self, message: wire.Message, _: bytes) -> wire.Message:
        """Run one cell."""
        outputs: list[Any] = []
        shell, streams = self.shell, (sys.stdout, sys.stderr)
        shell.display_pub = _Displayed()
        shell.display_pub.outputs = outputs
        shell.display_trap.hook = CapturingDisplayHook(shell=shell, outputs=outputs)
        shell._showtraceback = lambda kind, value, lines: outputs.append(
            {"error": [getattr(kind, "__name__", "Error"), str(value), [str(s) for s in lines]]}
        )
        try:
            sys.stdout = sys.stderr = _Printed(outputs)
            shell.run_cell(message["source"], store_history=False)
        except SystemExit:
            outputs.append({"error": ["SystemExit", "exit", ["SystemExit: exit"]]})
        finally:
            sys.stdout, sys.stderr = streams
        return {"outputs": [_shown(one) for one in outputs[:MOST_OUTPUTS]]}

    def on_names(self, message: wire.Message, _: bytes) -> wire.Message:
        """What these names stand for; a function is told as such."""
        found = {name: self.names[name] for name in message["wanted"] if name in self.names}
        functions = [name for name, value in found.items() if callable(value)]
        return {"functions": functions,
                "values": {k: v for k, v in found.items() if k not in functions}}  # fmt: skip

    def on_call(self, message: wire.Message, blob: bytes) -> wire.Message:
        """Call a function with what was pickled by the grader."""
        unpickler = pickle.Unpickler(io.BytesIO(blob))
        unpickler.persistent_load = self._found
        function, args, kw, gradients, random_state = unpickler.load()
        networks = [one for one in args if isinstance(one, nn.Module)]
        for network, kept in zip(networks, gradients, strict=True):
            for parameter, gradient in zip(network.parameters(), kept, strict=True):
                parameter.grad = gradient
        before = [one.detach().clone() if isinstance(one, Tensor) else None for one in args]
        streams = sys.stdout, sys.stderr
        try:
            sys.stdout = sys.stderr = _Printed([])  # it would tell what the tests ask
            torch.set_rng_state(random_state)
            value = function(*args, **kw)
        finally:
            sys.stdout, sys.stderr = streams
        after = [_after(*pair) for pair in zip(args, before, strict=True)]
        return {"value": value, "number": self._answers.keep(value, [args, kw]), "after": after}

    def on_backward(self, message: wire.Message, _: bytes) -> wire.Message:
        return {"gradients": self._answers.gradients(message["number"], message["gradient"])}

    def on_lend(self, message: wire.Message, _: bytes) -> wire.Message:
        """Put the grader's functions in the place of the student's; `{}` puts those back."""
        for name in self._absent:
            self.names.pop(name, None)
        self.names.update(self._before)
        lent = message["names"]
        self._before = {name: self.names[name] for name in lent if name in self.names}
        self._absent = [name for name in lent if name not in self.names]
        self.names.update({name: Remote(self.ask, number, name) for name, number in lent.items()})
        return {}

    def _found(self, reference: tuple[str, Any]) -> Any:
        kind, which = reference
        if kind == "callback":
            return Remote(self.ask, which, "function")
        if which not in self.names:
            raise NameError(f"name '{which}' is not defined")
        return self.names[which]


def message_is_call(message: wire.Message) -> bool:
    """Whether pickled arguments of the grader's follow, rather than tensors."""
    return ["op", "call"] in message.get("dict", [])


def _after(argument: Any, before: Tensor | None) -> Any:
    """What has become of an argument that may have changed in place."""
    if isinstance(argument, nn.Module):
        parameters = dict(argument.named_parameters())
        return {
            "state": dict(argument.state_dict()),
            "training": {name: module.training for name, module in argument.named_modules()},
            "learns": {name: p.requires_grad for name, p in parameters.items()},
            "gradients": {name: p.grad for name, p in parameters.items()},
        }
    if isinstance(argument, torch.optim.Optimizer):
        return {"optimizer": argument.state_dict()}
    if before is not None and not torch.equal(argument, before):
        return {"tensor": argument.detach()}
    return None


def _shown(output: Any) -> Any:
    if "data" not in output:
        return output
    data = {kind: output["data"].get(kind) for kind in SHOWN if output["data"].get(kind)}
    picture = data.get("image/png")
    if isinstance(picture, bytes):
        import base64

        data["image/png"] = base64.b64encode(picture).decode()
    return {"data": data}


def _told(error: BaseException) -> wire.Message:
    """An exception in words; of its way only the student's own lines."""
    here = str(HERE)
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((here, "<frozen"))
    ]
    lines = traceback.format_list(frames[-8:])
    return {"type": type(error).__name__, "text": str(error)[:2000], "trace": lines}


def _limit(limits: dict[str, int]) -> None:
    """Lower what this process may use, for good."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return
    for name, most in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}", None)
        if kind is not None:
            hard = resource.getrlimit(kind)[1]
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(kind, (most, most))


def main() -> None:
    come, go = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    torch.set_num_threads(1)
    os.chdir(os.environ["HOME"])
    worker = Worker(come, go)
    _limit(json.loads(sys.argv[1]))
    wire.send(go, {"ready": True})
    worker.serve()


if __name__ == "__main__":
    main()
