"""What students really hand in: each fault changes the reference solution and names what it costs.

Several faults go into one submission, as in life, as long as they lie in different tasks. A
submission then has to lose the sum of what its faults cost, and nothing else.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell


@dataclass(frozen=True)
class Fault:
    """In the cell `cell`, `old` is replaced by `new`; the graded cells `lost` then earn nothing."""

    name: str
    cell: str
    old: str
    new: str
    lost: tuple[str, ...] = ()

    def apply(self, notebook: NotebookNode) -> None:
        cell = find(notebook, self.cell)
        assert self.old in cell.source, f"{self.name}: {self.old!r} is not in {self.cell}"
        cell.source = cell.source.replace(self.old, self.new)


@dataclass(frozen=True)
class Deleted:
    """Cells that somebody cut out."""

    name: str
    cells: tuple[str, ...]
    lost: tuple[str, ...] = ()

    def apply(self, notebook: NotebookNode) -> None:
        for cell in self.cells:
            notebook.cells.remove(find(notebook, cell))


@dataclass(frozen=True)
class Added:
    """A cell of the student's own, after `after`."""

    name: str
    after: str
    source: str
    lost: tuple[str, ...] = ()

    def apply(self, notebook: NotebookNode) -> None:
        place = notebook.cells.index(find(notebook, self.after))
        notebook.cells.insert(place + 1, new_code_cell(self.source))


@dataclass(frozen=True)
class Other:
    """Anything else that can happen to a notebook."""

    name: str
    change: Callable[[NotebookNode], None]
    lost: tuple[str, ...] = ()

    def apply(self, notebook: NotebookNode) -> None:
        self.change(notebook)


@dataclass(frozen=True)
class Wrong:
    """A submission: the reference with these faults."""

    student: str
    faults: tuple[Fault | Deleted | Added | Other, ...]
    lost: set[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lost", {cell for fault in self.faults for cell in fault.lost})

    def of(self, reference: NotebookNode) -> NotebookNode:
        notebook = copy.deepcopy(reference)
        for fault in self.faults:
            fault.apply(notebook)
        return notebook


def find(notebook: NotebookNode, grade_id: str) -> NotebookNode:
    """The cell with this nbgrader name."""
    return next(
        cell
        for cell in notebook.cells
        if cell.metadata.get("nbgrader", {}).get("grade_id") == grade_id
    )


TASK = {
    1: ("task1_check", "task1_values", "task1_cold"),
    2: ("task2_check", "task2_temperature", "task2_reduction", "task2_direction", "task2_gradient"),
    3: ("task3_check", "task3_labels", "task3_mix"),
    4: ("task4_check", "task4_update", "task4_mode", "task4_gradient"),
    5: ("task5_check", "task5_values", "task5_edges"),
    6: ("task6_check", "task6_beats"),
}
UNSOLVED = "raise NotImplementedError()\n    "
UNSOLVED_6 = Fault(
    "task 6 left out, which saves time", "task6_solution", "optimizer = ", UNSOLVED + "optimizer = ",
    TASK[6],
)  # fmt: skip


def _copy_a_check(notebook: NotebookNode) -> None:
    """Copied with its metadata, as JupyterLab does, and without the tests that no student has."""
    double = copy.deepcopy(find(notebook, "task3_mix"))
    double.source = double.source.partition("### BEGIN HIDDEN TESTS")[0]
    double["id"] = "double"
    notebook.cells.insert(0, double)


def _tamper(notebook: NotebookNode) -> None:
    """A test that is emptied, and one that declares itself ungraded and worth 100 points."""
    find(notebook, "task2_direction").source = "print('all fine')"
    about = find(notebook, "task1_values").metadata.nbgrader
    about["grade"], about["points"] = False, 100


WRONG_LOSS = "    return soft_weight * soft + (1 - soft_weight) * hard"
DISTIL_IT = (
    Wrong(
        "ada",
        (
            Fault("no T squared", "task2_solution", "temperature**2 * divergence", "divergence",
                  ("task2_check", "task2_temperature")),
            Fault("softmax over the batch", "task1_solution", "dim=-1", "dim=0",
                  ("task1_check", "task1_values")),
            Fault("teacher in train mode", "task4_solution", "teacher.eval()", "teacher.train()",
                  ("task4_check", "task4_mode")),
            Fault("bins weigh the same", "task5_solution", "    return error\n",
                  "    n = [(which == b).any() for b in range(bins)]\n"
                  "    gaps = [(right[which == b].mean() - confidence[which == b].mean()).abs()\n"
                  "            for b in range(bins) if n[b]]\n"
                  "    return sum(gaps).item() / len(gaps)\n",
                  ("task5_check", "task5_values")),
        ),
    ),
    Wrong(
        "ben",
        (
            Fault("averaged over classes", "task2_solution", '"batchmean"', '"mean"',
                  ("task2_check", "task2_reduction")),
            Fault("float16 overflows", "task1_solution", "logits = logits.float()", "pass",
                  ("task1_cold",)),
            Fault("gradients in the teacher", "task4_solution", "with torch.no_grad():", "if True:",
                  ("task4_check", "task4_gradient")),
            Fault("labels at T", "task3_solution", "F.cross_entropy(student_logits",
                  "F.cross_entropy(student_logits / temperature", TASK[3]),
            UNSOLVED_6,
        ),
    ),
    Wrong(
        "cleo",
        (
            Fault("student and teacher swapped", "task2_solution", "F.kl_div(log_student, log_teacher",
                  "F.kl_div(log_teacher, log_student", ("task2_check", "task2_direction")),
            Fault("weights swapped", "task3_solution", WRONG_LOSS,
                  "    return soft_weight * hard + (1 - soft_weight) * soft", TASK[3]),
            Fault("gradients pile up", "task4_solution", "optimizer.zero_grad()", "pass",
                  ("task4_update",)),
            Fault("sys.exit", "task5_solution", "    error = 0.0", "    import sys; sys.exit()",
                  TASK[5]),
            Fault("labels only", "task6_solution",
                  "loss = mixed_loss(logits, teacher_logits[batch], labels[batch], 4.0, 0.9)",
                  "loss = F.cross_entropy(logits, labels[batch])", TASK[6]),
        ),
    ),
    Wrong(
        "dan",
        (
            Fault("a hard-coded loss", "task2_solution", "return temperature**2 * divergence",
                  "return 0 * divergence + 12.38787",
                  ("task2_temperature", "task2_reduction", "task2_direction", "task2_gradient")),
            Fault("a hard-coded calibration error", "task5_solution", "return error", "return 0.25",
                  ("task5_values", "task5_edges")),
            Fault("talks on the error stream", "task1_solution", "    if logits.dtype",
                  "    import sys; print('here', file=sys.stderr)\n    if logits.dtype"),
            Fault("the answer taken from kdutils", "task3_solution", WRONG_LOSS,
                  "    from kdutils import losses\n"
                  "    return losses.distillation_loss(student_logits, teacher_logits, labels,"
                  " temperature, soft_weight)", TASK[3]),
            Fault("budget overdrawn", "task6_solution", "range(EPOCHS)", "range(2 * EPOCHS)", TASK[6]),
        ),
    ),
    Wrong(
        "eve",
        (
            Fault("an infinite loop", "task1_solution", "    if logits.dtype",
                  "    while True: pass\n    if logits.dtype", TASK[1]),
            Deleted("a deleted solution", ("task5_solution",), TASK[5]),
            Deleted("a solution and its tests deleted",
                    ("task4_solution", "task4_check", "task4_update"), TASK[4]),
            Deleted("set-up deleted", ("setup", "classroom")),
            Fault("a learning teacher", "task2_solution", "teacher_logits.detach()", "teacher_logits",
                  ("task2_gradient",)),
            UNSOLVED_6,
        ),
    ),
    Wrong(
        "finn",
        (
            Fault("a renamed function", "task2_solution", "def soft_target_loss", "def soft_loss",
                  TASK[2]),
            Fault("os._exit", "task5_solution", "    error = 0.0", "    import os; os._exit(1)",
                  TASK[5]),
            Added("exit in a cell of one's own", "task1_solution", "exit()"),
            Added("builtins shadowed, torch bent", "task1_check",
                  "sum = max = len = abs = range = 0\n"
                  "torch.allclose = lambda *a, **k: True\n"
                  "from checks import distil as check\n"
                  "check.calibration_error = check.soft_target_loss = lambda f: print('Right')\n"
                  "check.alone = lambda f: (lambda *a: None)\n"),
            Other("tests changed", _tamper),
            Other("a test copied", _copy_a_check),
            UNSOLVED_6,
        ),
    ),
)  # fmt: skip
# Graded with a short time limit, in a run of its own: each of these is stopped by it.
HANGS = (
    Wrong(
        "gus",
        (
            Added("prints for ever and takes no interrupt", "task1_check",
                  "while True:\n    try:\n        print('round')\n"
                  "    except BaseException:\n        pass\n"),
            Fault("the cell itself never ends", "task5_solution", "def calibration_error",
                  "while True:\n    pass\n\n\ndef calibration_error", TASK[5]),
            UNSOLVED_6,
        ),
    ),
)  # fmt: skip


def _pasted(number: int, notebook: NotebookNode) -> None:
    """The broken loop handed in as the mended one."""
    broken = find(notebook, f"broken_{number}").source
    find(notebook, f"mended_{number}_solution").source = broken.replace("broken_", "mended_")


def _paste_all(notebook: NotebookNode) -> None:
    for number in range(1, 7):
        _pasted(number, notebook)


def _mend_differently(notebook: NotebookNode) -> None:
    """Other ways to mend a loop that behave as they should."""
    two = find(notebook, "mended_2_solution")
    two.source = two.source.replace("torch.randperm(len(images))", "torch.arange(len(images))")
    one = find(notebook, "mended_1_solution")
    one.source = one.source.replace("optimizer.zero_grad()", "student.zero_grad(set_to_none=False)")
    four = find(notebook, "mended_4_solution")
    four.source = four.source.replace("F.log_softmax(student(images) / temperature, dim=-1)",
                                      "F.softmax(student(images) / temperature, dim=-1).log()")  # fmt: skip


MENDED = tuple(f"mended_{n}_{part}" for n in range(1, 7) for part in ("check", "test"))
FIND_THE_BUG = (
    Wrong("ada", (Other("all loops as they were", _paste_all, MENDED),)),
    Wrong(
        "ben",
        (
            Other("mended in other ways", _mend_differently),
            Fault("a wrong letter", "diagnosis_4_solution", '"d"', '"e"', ("diagnosis_4_test",)),
            Fault("a capital letter", "diagnosis_1_solution", '"b"', '"B"'),
            Fault("two letters", "diagnosis_2_solution", '"a"', '"ab"', ("diagnosis_2_test",)),
            Fault("chosen on val, test looked at for each", "mended_6_solution",
                  'accuracy = score(model, "val")',
                  'accuracy = score(model, "val"); score(model, "test")',
                  ("mended_6_check", "mended_6_test")),
        ),
    ),
)  # fmt: skip
