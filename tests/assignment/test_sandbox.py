"""The process in which a submission runs, and what goes between it and the grader."""

from __future__ import annotations

import io
import signal
import struct

import numpy as np
import pytest
import torch
from checks import calling
from checks.calling import NotYet
from sandbox import wire
from sandbox.box import Box, Stopped, StudentError
from sandbox.judge import judge
from sandbox.kit import kit

pytestmark = pytest.mark.timeout(900)


def over(value: object) -> object:
    """`value` as the other side gets it."""
    stream = io.BytesIO()
    wire.send(stream, {"value": value})
    stream.seek(0)
    return wire.values(*wire.receive(stream))["value"]


def test_values_go_over_as_plain_data() -> None:
    assert over([1, 2.5, "a", None, True, (1, {"b": 3})]) == [
        1,
        2.5,
        "a",
        None,
        True,
        (1, {"b": 3}),
    ]
    assert over(np.float32(0.5)) == 0.5 and isinstance(over(np.float32(0.5)), float)
    for dtype in (torch.float16, torch.float32, torch.float64, torch.int64, torch.bool):
        tensor = torch.ones(2, 3, dtype=dtype).t()
        assert torch.equal(over(tensor), tensor) and over(tensor).dtype == dtype
    assert isinstance(over(np.zeros(2)), np.ndarray)
    assert over("half \ud83d") == "half ?"
    for strange in (object(), lambda: 1, torch.zeros(2).to_sparse(), torch.zeros(2, device="meta")):
        assert isinstance(over(strange), wire.Foreign)


@pytest.mark.parametrize(
    "frame",
    [b"\x00" * 5, struct.pack("<QQ", 10**12, 0), struct.pack("<QQ", 3, 0) + b"{]}",
     struct.pack("<QQ", 9, 0) + b'{"dict":1'],
)  # fmt: skip
def test_a_broken_message_is_refused(frame: bytes) -> None:
    with pytest.raises(wire.Broken):
        wire.values(*wire.receive(io.BytesIO(frame)))


@pytest.fixture(scope="module")
def box() -> Box:
    one = Box(kit())
    one.start()
    one.run(
        "import torch\n"
        "def product(a, b): return (a * b).sum()\n"
        "def rows(z): return z.softmax(-1)\n"
        "def train(model, loss, x, optimizer):\n"
        "    value = loss(model(x)); value.backward(); optimizer.step(); return value.item()\n"
        "def halve(x): x /= 2; return x\n"
        "def fails(): return 1 / 0\n"
        "def stubborn():\n"
        "    while True:\n"
        "        try: pass\n"
        "        except BaseException: pass\n"
        "word, sum, hidden = 'b', None, 3\n",
        60,
    )
    yield one
    one.close()


def test_a_call_can_be_differentiated_through(box: Box) -> None:
    product, rows = box.names(["product", "rows"]).values()
    a = torch.randn(3, dtype=torch.float64, requires_grad=True)
    b = torch.randn(3, dtype=torch.float64)
    product(a, b).backward()
    assert torch.equal(a.grad, b)
    z = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 3, dtype=torch.float64)
    (came,) = torch.autograd.grad((rows(z) * weights).sum(), z)
    (right,) = torch.autograd.grad((z.softmax(-1) * weights).sum(), z)
    assert torch.allclose(came, right)


def test_arguments_change_in_place_as_in_an_ordinary_call(box: Box) -> None:
    """A network trained there, with a loss of ours and an optimizer that remembers."""
    train, halve = box.names(["train", "halve"]).values()
    torch.manual_seed(0)
    model, twin = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    twin.load_state_dict(model.state_dict())
    optimizers = [torch.optim.SGD(one.parameters(), lr=0.1, momentum=0.9) for one in (model, twin)]
    x, heard = torch.randn(5, 3), []

    def loss(y: torch.Tensor) -> torch.Tensor:
        heard.append(y.detach())
        return y.square().mean()

    for _ in range(3):  # no zero_grad on either side: gradients must pile up alike
        train(model, loss, x, optimizers[0])
        loss(twin(x)).backward()
        optimizers[1].step()
    assert torch.allclose(model.weight, twin.weight, atol=1e-6)
    assert torch.allclose(model.weight.grad, twin.weight.grad, atol=1e-6)
    assert len(heard) == 6
    halve(x)
    assert torch.equal(x * 2, x + x)


def test_lent_functions_run_here_and_only_in_their_block(box: Box) -> None:
    calls = []

    def lent(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return (a + b).sum()

    box.run("def user(a, b):\n    global kept\n    kept = product\n    return product(a, b)", 60)
    user = box.names(["user"])["user"]
    one = torch.ones(2)
    with box.lend({"product": lent}):
        assert user(one, one) == 4
    assert user(one, one) == 2 and calls == [1]
    box.run("def later(a): return old(a, a)\n", 60)
    with box.lend({"product": lent}):
        user(one, one)
        box.run("old = kept", 60)
    with pytest.raises(StudentError, match="failed"):
        box.names(["later"])["later"](one)


def test_a_test_lives_in_a_namespace_of_its_own(box: Box) -> None:
    """An honest helper named `hidden`, or a bent `sum`, costs nothing."""
    test = "def hidden(w):\n    assert w == 'b' and sum([1, 2]) == 3\n\n\nhidden(word)\n2 + 1"
    (output,) = judge(box, test)
    assert output.output_type == "execute_result" and output.data["text/plain"] == "3"
    (output,) = judge(box, "assert word == 'c', 'another'")
    assert output.ename == "AssertionError" and output.evalue == "another"
    assert isinstance(calling.notebook, calling.Here)


def test_errors_come_with_the_student_s_own_lines(box: Box) -> None:
    with pytest.raises(StudentError, match="ZeroDivisionError") as caught:
        box.names(["fails"])["fails"]()
    assert any("return 1 / 0" in line for line in caught.value.trace)
    assert not any("inside.py" in line for line in caught.value.trace)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no such alarm")
def test_what_cannot_be_interrupted_is_ended() -> None:
    box = Box(kit())
    box.start()
    box.run(
        "def stubborn():\n    while True:\n        try: pass\n        except BaseException: pass",
        60,
    )
    stubborn = box.names(["stubborn"])["stubborn"]
    for _ in range(2):  # the second time without waiting
        with pytest.raises(NotYet, match="had not come back after 1 second"):
            stubborn.within(1.0, (), {})
    assert not box.running and box.hangs("stubborn")
    with pytest.raises(Stopped):
        box.run("1", 5)
