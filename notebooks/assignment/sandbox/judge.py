"""The tests run here, outside; what they and the student's cells gave becomes outputs for nbgrader.

A test is exec'd in a namespace of its own, in which the names of the notebook that it asks for are
values that came over, or functions that are called in the other process.
"""

from __future__ import annotations

import ast
import base64
import builtins
import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

from checks import calling
from nbformat import NotebookNode
from nbformat.v4 import new_output

from sandbox.box import Box, Stopped, StudentError

MOST_TEXT = 200_000
PNG = b"\x89PNG\r\n\x1a\n"


def judge(box: Box, test: str) -> list[NotebookNode]:
    """Run one test against the notebook in `box`; no output means that it passed in silence."""
    tree = ast.parse(test)
    printed = io.StringIO()
    outputs: list[NotebookNode] = []
    try:
        with _of(box), redirect_stdout(printed), redirect_stderr(printed):
            points = _execute(tree, {"__name__": "test", **box.names(_asked_for(tree))})
        if isinstance(points, int | float):
            value = {"text/plain": f"{points}"}
            outputs.append(new_output("execute_result", value, execution_count=1))
    except StudentError as error:
        said = f"{error.kind}: {error.text}"
        outputs.append(_error(error.kind, error.text, [*error.trace, said]))
    except calling.NotYet as error:
        outputs.append(_error("NotYet", str(error), [f"Not yet: {error}"]))
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        outputs.append(_error(type(error).__name__, str(error), [said]))
    if printed.getvalue():
        outputs.insert(0, new_output("stream", text=printed.getvalue()[:MOST_TEXT]))
    return outputs


def _asked_for(tree: ast.Module) -> list[str]:
    """The names that a test takes from the notebook; nobody bends its `sum` or `len`."""
    found = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return sorted(name for name in found if not hasattr(builtins, name) and name[0] != "_")


def _execute(tree: ast.Module, names: dict[str, Any]) -> Any:
    """Run all statements; the value of the last, if it is an expression."""
    *body, last = tree.body
    if not isinstance(last, ast.Expr):
        body, last = tree.body, None
    exec(compile(ast.Module(body, []), "<test>", "exec", dont_inherit=True), names)
    if last is None:
        return None
    return eval(compile(ast.Expression(last.value), "<test>", "eval", dont_inherit=True), names)


@contextmanager
def _of(box: Box) -> Iterator[None]:
    """Within the block the checks lend to the notebook in `box`."""
    before, calling.notebook = calling.notebook, box
    try:
        yield
    finally:
        calling.notebook = before


# --- outputs of the student's own cells ---------------------------------------------------------


def outputs_of(came: list[Any]) -> list[NotebookNode]:
    """What a cell gave, as outputs: text, errors and PNG pictures, whatever was sent."""
    outputs, room = [], MOST_TEXT
    for one in came:
        if not isinstance(one, dict) or room <= 0:
            continue
        if isinstance(one.get("text"), str):
            outputs.append(new_output("stream", text=one["text"][:room]))
            room -= len(one["text"])
        elif isinstance(one.get("error"), list) and len(one["error"]) == 3:
            name, value, lines = one["error"]
            kept = [str(line)[:2000] for line in list(lines)[:40]]
            outputs.append(_error(str(name)[:80], str(value)[:2000], kept))
        elif isinstance(one.get("data"), dict):
            data = _displayed(one["data"], room)
            room -= len(data.get("text/plain", ""))
            outputs.append(new_output("display_data", data))
    return outputs


def _displayed(data: dict[str, Any], room: int) -> dict[str, str]:
    kept = {"text/plain": str(data.get("text/plain", ""))[:room]}
    try:
        picture = base64.b64decode(str(data.get("image/png", "")), validate=True)
    except ValueError:
        return kept
    if picture.startswith(PNG):
        kept["image/png"] = base64.b64encode(picture).decode()
    return kept


def stopped(error: Stopped, seconds: float) -> NotebookNode:
    """The output of a cell that was stopped, or that ended its process."""
    if error.timeout:
        reason = f"this cell was stopped after {seconds:g} seconds. Is there an endless loop?"
        return _error("TimeLimit", reason, [f"TimeLimit: {reason}"])
    reason = (
        "this cell ended the Python process: by os._exit, a crash, or for lack of memory. The "
        "cells after it ran in a new one."
    )
    return _error("KernelDied", reason, [f"KernelDied: {reason}"])


def _error(name: str, value: str, trace: list[str]) -> NotebookNode:
    return new_output("error", ename=name, evalue=value, traceback=trace)
