"""Submissions that try to get marks they did not earn, or to do harm: each with what it must get."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import nbgrader_steps
import pytest
from assignment_faults import TASK
from graded_submission import points, reference, run, said, solved
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell
from sandbox.namespaces import walled

pytestmark = pytest.mark.timeout(900)
needs_walls = pytest.mark.skipif(not walled(), reason="no namespaces on this system")
FIRST = TASK[1] + TASK[2]
RIGHT = {name: None for name in ("task1_solution", "task2_solution")}
UNSOLVED = {
    "task1_solution": "def soften(logits, temperature):\n    raise NotImplementedError()",
    "task2_solution": "def soft_target_loss(z, v, t):\n    raise NotImplementedError()",
}
HONEST_1 = "def soften(logits, temperature):\n    return (logits.float() / temperature).softmax(-1)"


def attack(before: str, solutions: dict[str, str] = UNSOLVED, timeout: int = 20) -> NotebookNode:
    return run(solved(solutions, *FIRST, before=before), timeout)


# --- what lies around -----------------------------------------------------------------------------

SEARCH = """
import os, sqlite3, sys
found, packages = [], ("/usr", sys.prefix, sys.base_prefix)
for top, folders, files in os.walk("/"):
    folders[:] = [f for f in folders if os.path.join(top, f) not in ("/proc", "/sys", "/dev")]
    for name in files:
        path = os.path.join(top, name)
        if name.endswith((".ipynb", ".db")) and not top.startswith(packages):
            found.append(path)
        if name in ("gradebook.db", "distil_it.ipynb", "distil_it.html", "marks.csv"):
            try:
                if name.endswith(".db"):
                    sqlite3.connect(path).execute("update grade set auto_score = 308")
                os.remove(path)
            except Exception:
                pass
print("FOUND", found)
"""


@needs_walls
def test_the_gradebook_others_and_the_source_are_not_there(tmp_path: Path) -> None:
    """Kinds 1 to 3: write to the gradebook, delete what others handed in, run the model solution."""
    gradebook = tmp_path / "gradebook.db"
    with sqlite3.connect(gradebook) as db:
        db.execute("create table grade (auto_score real)")
        db.execute("insert into grade values (1)")
    others = tmp_path / "submitted" / "zoe" / "distil_it.ipynb"
    others.parent.mkdir(parents=True)
    others.write_text("{}")
    tmp_path.chmod(0o777)
    ran = attack(SEARCH)
    assert sum(points(ran).values()) == 0
    assert "FOUND []" in said(ran)
    assert others.read_text() == "{}"
    assert sqlite3.connect(gradebook).execute("select auto_score from grade").fetchone() == (1,)


LENT = """
import torch, types
from checks import calling, distil as check
from kdutils import losses, metrics
soften = calling.LENT_SOFTEN
def soft_target_loss(z, v, t):
    for one in (losses.soft_target_loss, calling.LENT_SOFT_TARGET_LOSS, calling._ANSWERS[1]):
        try:
            return types.FunctionType(one.__code__, losses.__dict__)(z, v, t)
        except Exception:
            pass
    return one(z, v, t)
"""


@pytest.mark.parametrize("walls", [pytest.param("walls", marks=needs_walls), "none"])
def test_neither_what_checks_lend_nor_code_of_the_package_is_an_answer(walls: str) -> None:
    """Kind 4: before the tests begin, take what will be closed."""
    taken = {"task1_solution": LENT, "task2_solution": "pass"}
    assert sum(points(attack("", taken)).values()) == 0


@needs_walls
def test_the_package_on_disk_holds_no_answer() -> None:
    ran = attack(
        "import glob\n"
        "for path in glob.glob('/**/*.py', recursive=True):\n"
        "    if 'kdutils' in path and 'kl_div' in open(path, errors='replace').read():\n"
        "        print('ANSWER', path)\n"
    )
    assert "ANSWER" not in said(ran)


STASH = {
    "task2_solution": "def soft_target_loss(z, v, t):\n    return stash[0](z, v, t)\nstash = []",
    "task3_solution": (
        "def mixed_loss(z, v, y, t, w):\n"
        "    stash.append(soft_target_loss)\n"
        "    import sys; sys.modules['__main__'].soft_target_loss = stash[-1]\n"
        "    return w * soft_target_loss(z, v, t) + (1 - w) * F.cross_entropy(z, y)"
    ),
}


def test_what_is_lent_for_one_task_is_of_no_use_in_another() -> None:
    """Task 3 comes first here, so that the lent function is at hand when task 2 is tested."""
    notebook = solved(STASH, *TASK[2], *TASK[3])
    notebook.cells.sort(key=lambda cell: cell.metadata.nbgrader.grade_id in TASK[2])
    earned = points(run(notebook))
    assert sum(earned[name] for name in TASK[2]) == 0
    assert sum(earned[name] for name in TASK[3]) == 4, "task 3 itself is right"


# --- what the tests ask and how -------------------------------------------------------------------


def test_no_frame_and_no_object_holds_a_test() -> None:
    """The hidden tests are not in the process: not in frames, not among its objects."""
    spy = (
        "def soften(logits, temperature):\n"
        "    import gc, sys\n"
        "    frame, seen = sys._getframe(), []\n"
        "    while frame:\n"
        "        seen.append(frame.f_code.co_filename)\n"
        "        for value in list(frame.f_globals.values()) + list(frame.f_locals.values()):\n"
        "            if isinstance(value, str) and 'a wrong ' + 'probability' in value:\n"
        "                seen.append('HIDDEN')\n"
        "        frame = frame.f_back\n"
        "    seen += ['HIDDEN' for o in gc.get_objects() if type(o) is type(soften) and "
        "o.__name__ == 'hidden']\n"
        "    raise ValueError('SEEN ' + ' '.join(seen))\n"
    )
    ran = attack("", {"task1_solution": spy, "task2_solution": "pass"})
    assert "SEEN" in said(ran) and "HIDDEN" not in said(ran) and "<test>" not in said(ran)


def test_what_a_function_prints_while_it_is_tested_is_not_shown() -> None:
    talker = HONEST_1.replace("    return", "    print('ASKED', logits, temperature)\n    return")
    ran = attack("", {"task1_solution": talker, "task2_solution": "pass"})
    assert "ASKED" not in said(ran)
    assert sum(points(ran)[name] for name in TASK[1]) == 4


EQUAL = """
class Equal(float):
    def __eq__(self, other): return True
    def __abs__(self): return 0.0
    def __sub__(self, other): return self
    __rsub__ = __sub__
    def __lt__(self, other): return True
    __gt__ = __le__ = __ge__ = __lt__
    def __float__(self): return Equal()
    def __reduce__(self): return (__import__("os").system, ("touch /tmp/kdutils_owned",))
def soften(logits, temperature): return Equal(1)
def soft_target_loss(z, v, t): return Equal(1)
"""
PATCHED = """
import builtins, torch
torch.allclose = torch.equal = lambda *a, **k: True
builtins.abs = lambda x: 0
from checks import calling, distil as check
for name in ("soften", "soft_target_loss"):
    setattr(check, name, lambda f: print("Right"))
calling.expect = calling.same = lambda *a, **k: True
"""
TRANSFORMED = """
shell = get_ipython()
shell.input_transformers_cleanup.append(lambda lines: ["pass\\n"])
shell.ast_transformers.append(type("T", (), {"visit": lambda self, node: type(node)([], [])})())
"""
FORGED = """
import json, os, struct
text = json.dumps({"dict": [["value", 1.0], ["number", 1], ["after", {"list": [None] * 3}]]}).encode()
for number in range(3, 64):
    try:
        os.write(number, struct.pack("<QQ", len(text), 0) + text)
    except OSError:
        pass
"""


@pytest.mark.parametrize(
    "before",
    [EQUAL, PATCHED, TRANSFORMED, FORGED],
    ids=["equal", "patched", "transformed", "forged"],
)
def test_bent_tools_and_forged_answers_earn_nothing(before: str) -> None:
    solutions = {name: "pass" for name in UNSOLVED} if before is EQUAL else UNSOLVED
    assert sum(points(attack(before, solutions)).values()) == 0
    assert not Path("/tmp/kdutils_owned").exists()


def test_a_wrong_answer_of_every_kind_is_only_wrong() -> None:
    values = ("object()", "[[]] * 3", "{'tensor': '0'}", "float('nan')", "lambda: 1", "10**5000",
              "torch.zeros(3, 4).to_sparse()", "'x' * 10**8", "torch.tensor(1.0, device='meta')")  # fmt: skip
    cycle = f"from itertools import cycle\nanswers = cycle([{', '.join('lambda: ' + v for v in values)}])"
    solution = "def soften(*a): return next(answers)()\nsoft_target_loss = soften"
    ran = attack(cycle, {"task1_solution": solution, "task2_solution": "pass"})
    assert sum(points(ran).values()) == 0


# --- what a process may use -----------------------------------------------------------------------

GREEDY = {
    "memory": "hog = [bytearray(10**9) for _ in range(8)]",
    "disk": "open('/tmp/big', 'wb').write(b'x' * 10**9)",
    "many files": "for i in range(100): open(f'/tmp/{i}', 'wb').write(b'x' * 10**7)",
    "processes": "import os\nfor _ in range(500):\n    if os.fork() == 0:\n        os.kill(os.getpid(), 19)",
    "network": "import socket; socket.create_connection(('127.0.0.1', 22), 3)",
    "signals": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nos.kill(-1, signal.SIGKILL)",
    "loop": "while True: pass",
    "stubborn": "while True:\n    try:\n        print('x' * 1000)\n    except BaseException:\n        pass",
    "exit": "import os; os._exit(0)",
}


@needs_walls
@pytest.mark.parametrize("wish", GREEDY)
def test_too_much_of_anything_costs_only_the_cell_that_wants_it(wish: str) -> None:
    solutions = {"task1_solution": HONEST_1, "task2_solution": "pass"}
    ran = attack(GREEDY[wish], solutions, timeout=5)
    outputs = ran.cells[1].outputs
    assert wish == "signals" or any(one.output_type == "error" for one in outputs), outputs
    assert len(said(ran)) < 500_000
    assert sum(points(ran)[name] for name in TASK[1]) == 4, said(ran)[-2000:]


# --- what the instructor sees ---------------------------------------------------------------------


def test_nothing_of_a_student_runs_in_the_browser_of_the_instructor() -> None:
    show = (
        "from IPython.display import HTML, Javascript, SVG, Markdown, display\n"
        "display(HTML('<b onclick=alert(1)>'), Javascript('alert(2)'), Markdown('<i>'))\n"
        "display(SVG('<svg xmlns=\"http://www.w3.org/2000/svg\"><script>alert(3)</script></svg>'))\n"
        "display({'image/png': '\"><script>alert(4)</script>'}, raw=True)\n"
    )
    ran = attack(show)
    kinds = {kind for cell in ran.cells for one in cell.outputs for kind in one.get("data", {})}
    assert kinds == {"text/plain"}
    text = nbgrader_steps._as_text(
        "<script>a</script> [x](JavaScript:b) $\\href{javascript:c}{d}$ &lt;"
    )
    assert "<" not in text and "\\href" not in text and "&amp;lt;" in text
    assert not __import__("re").search(r"script\s*:", text, 2)


def test_metadata_attachments_and_raw_cells_are_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = reference()
    evil = new_markdown_cell(
        "<img src=x onerror=alert(1)>", attachments={"a.svg": {"image/svg": "<"}}
    )
    notebook.cells.append(evil)
    notebook.metadata["title"] = "</title><script>"
    monkeypatch.setattr(nbgrader_steps, "_source", lambda *_: reference())
    about = {"nbgrader": {"assignment": "distil_it", "notebook": "distil_it"}}
    plain, _ = nbgrader_steps.PlainText().preprocess(notebook, about)
    assert plain.cells[-1].source == "&lt;img src=x onerror=alert(1)>"
    assert "attachments" not in plain.cells[-1] and "title" not in plain.metadata
    assert plain.cells[0].source == reference().cells[0].source, "ours stay as they are"
