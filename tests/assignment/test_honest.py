"""Right answers in unusual styles earn everything; a mistake costs its own task once."""

from __future__ import annotations

import pytest
from assignment_faults import TASK, find
from graded_submission import points, reference, run, said, solved

pytestmark = pytest.mark.timeout(900)

PRECISE = {
    "task1_solution": """
def soften(logits, temperature):
    z = logits.double() / temperature
    e = (z - z.max(dim=-1, keepdim=True).values).exp()
    return e / e.sum(dim=-1, keepdim=True)
""",
    "task2_solution": """
def soft_target_loss(student_logits, teacher_logits, temperature):
    q = F.log_softmax(student_logits.float() / temperature, dim=1)
    p = F.softmax(teacher_logits.float().detach() / temperature, dim=1)
    return F.kl_div(q, p, reduction="sum") / len(q) * temperature * temperature
""",
    "task3_solution": """
def mixed_loss(student_logits, teacher_logits, labels, temperature, soft_weight):
    z = student_logits.float()
    hard = torch.logsumexp(z, 1) - torch.einsum("nc,nc->n", z, F.one_hot(labels, z.shape[1]).float())
    return torch.lerp(hard.mean(), soft_target_loss(z, teacher_logits, temperature).float(), soft_weight)
""",
    "task4_solution": """
def distil_step(student, teacher, images, labels, optimizer, loss_function):
    student.train(True)
    teacher.train(False)
    with torch.no_grad():
        theirs = teacher(images)
    student.zero_grad(set_to_none=False)
    value = loss_function(student(images), theirs, labels)
    value.backward()
    optimizer.step()
    return float(value.detach())
""",
    "task5_solution": """
import numpy as np

def calibration_error(probabilities, labels, bins=15):
    p, y = probabilities.numpy().astype(np.float32), labels.numpy()
    confidence, right = p.max(1), (p.argmax(1) == y).astype(np.float32)
    edges = np.linspace(0, 1, bins + 1)
    which = np.clip(np.digitize(confidence, edges, right=True) - 1, 0, bins - 1)
    gaps = [abs((right - confidence)[which == b].sum()) for b in range(bins)]
    return np.float32(sum(gaps) / len(y))
""",
}
OTHER = {
    "task1_solution": """
def hidden(z, t):
    return F.log_softmax(z.float() / t, dim=-1)

random, math, hidden_lent, check = 1, 2, 3, 4

def soften(logits, temperature):
    return hidden(logits, temperature).exp()
""",
    "task2_solution": """
def soft_target_loss(student_logits, teacher_logits, temperature):
    p = soften(teacher_logits, temperature).detach()
    q = soften(student_logits, temperature)
    return ((p * (p.log() - q.log())).sum(dim=-1).mean() * temperature**2).double()
""",
    "task3_solution": """
def mixed_loss(student_logits, teacher_logits, labels, temperature, soft_weight):
    hard = F.nll_loss(student_logits.log_softmax(1), labels)
    return (1 - soft_weight) * hard + soft_weight * soft_target_loss(student_logits, teacher_logits, temperature)
""",
    "task4_solution": """
@torch.no_grad()
def ask(teacher, images):
    mode = teacher.training
    teacher.eval()
    answer = teacher(images)
    teacher.train(mode)
    return answer

def distil_step(student, teacher, images, labels, optimizer, loss_function):
    student.train()
    for parameter in student.parameters():
        parameter.grad = None
    loss = loss_function(student(images), ask(teacher, images), labels)
    loss.backward()
    optimizer.step()
    return loss.item()
""",
    "task5_solution": """
def calibration_error(probabilities, labels, bins=15):
    confidence, first = probabilities.max(1)
    where = torch.bucketize(confidence, torch.linspace(0, 1, bins + 1)[1:-1].to(confidence))
    gaps = torch.zeros(bins, dtype=confidence.dtype)
    gaps.index_add_(0, where, (first == labels).to(confidence) - confidence)
    return gaps.abs().sum() / len(labels)
""",
}
TESTS = [test for task in range(1, 6) for test in TASK[task]]


@pytest.mark.parametrize("solutions", [PRECISE, OTHER], ids=["precise", "other"])
def test_unusual_but_right_answers_earn_every_point(solutions: dict[str, str]) -> None:
    """Float64, float32, NumPy's floats, right-closed bins, a helper named `hidden`, einsum ..."""
    ran = run(solved(solutions, *TESTS))
    lost = [name for name, earned in points(ran).items() if earned == 0]
    assert lost == [], said(ran)[-3000:]


def test_a_mistake_costs_its_own_task_once() -> None:
    """`soften` over the wrong dimension, in place as well; gradients are emptied too late."""
    wrong = {
        **OTHER,
        "task1_solution": """
def soften(logits, temperature):
    logits = logits.float()
    logits /= temperature
    return logits.softmax(0)
""",
        "task4_solution": OTHER["task4_solution"].replace(
            "    for parameter in student.parameters():\n        parameter.grad = None\n", ""
        ).replace("    optimizer.step()\n", "    optimizer.step()\n    optimizer.zero_grad()\n"),
    }  # fmt: skip
    ran = run(solved(wrong, *TESTS))
    lost = {name for name, earned in points(ran).items() if earned == 0}
    assert lost == {"task1_check", "task1_values", "task4_update"}, said(ran)[-3000:]


def test_in_place_division_is_seen() -> None:
    in_place = "def soften(logits, temperature):\n    logits.div_(temperature)\n    return logits.float().softmax(-1)"
    ran = run(solved({"task1_solution": in_place}, *TASK[1]))
    assert points(ran)["task1_values"] == 0 and "have changed" in said(ran)


@pytest.mark.parametrize(
    ("mend", "lost"),
    [
        ("temperature = 1\n    ", {"mended_5_test"}),
        ("teacher_logits = teacher_logits * 1.0\n    ", set()),
    ],
    ids=["without T", "with T"],
)
def test_loop_5_mended_by_leaving_the_temperature_out(mend: str, lost: set[str]) -> None:
    notebook = reference("find_the_bug")
    wanted = {"setup", "mended_5_solution", "mended_5_check", "mended_5_test"}
    notebook.cells = [
        cell
        for cell in notebook.cells
        if cell.metadata.get("nbgrader", {}).get("grade_id") in wanted
    ]
    cell = find(notebook, "mended_5_solution")
    cell.source = cell.source.replace("optimizer = torch", f"{mend}optimizer = torch")
    ran = run(notebook, assignment="find_the_bug")
    assert {name for name, earned in points(ran).items() if earned == 0} == lost, said(ran)
