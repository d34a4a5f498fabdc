# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: all,-scrolled,-collapsed,-execution,-trusted
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Distil it
#
# A big network has seen a lot. You are going to build, piece by piece, everything that a small
# network needs to learn from it. At the end you train one, and it has to beat its twin, which had
# labels and nothing else.
#
# **Time:** about two hours. **Points:** 40, of which 32 are given by tests and 8 by your teacher.
#
# | task | | points |
# |---|---|---|
# | 1 | temperature softmax | 4 |
# | 2 | soft-target loss | 7 |
# | 3 | mixed loss | 4 |
# | 4 | distillation step | 7 |
# | 5 | calibration error | 4 |
# | 6 | train a student, beat the baseline | 6 |
# | 7, 8 | explain it in words | 8 |
#
# **How it works**
#
# - Write your code where it says `YOUR CODE HERE`, and take the line with `NotImplementedError`
#   away. Keep the names of the functions and their arguments.
# - Below each task stands a **check**. Run it as often as you like. If something is wrong, it says
#   what was expected, what came, and what the reason may be.
# - Some cells below the checks look empty. When your work is graded, they hold **hidden tests**:
#   the same questions with other shapes, other numbers of classes, other temperatures. A function
#   that computes will pass them. A function that remembers the example will not.
# - Each task is graded on its own. If task 2 will not work, leave it and go on: later tasks are
#   tested with our version of the earlier ones where yours fails.
# - It is a closed book: `kdutils.losses` and `kdutils.metrics` have been told not to help you here.
#   `torch` and `torch.nn.functional` are yours to use.
# - Do not delete, move or copy the check cells. You may add cells of your own.
# - Before you hand it in: *Kernel → Restart and run all*, then save. Hand in the file
#   `distil_it.ipynb` under this very name.

# %% nbgrader={"grade": false, "grade_id": "setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
import torch
import torch.nn.functional as F

from checks import distil as check
from checks.classroom import EPOCHS, classroom, show

torch.manual_seed(0)
print("Ready.")

# %% [markdown]
# ---
# ## Task 1 · Temperature softmax (4 points)
#
# A softmax turns logits $z$ into probabilities. A temperature $T$ decides how bold they are:
#
# $$p_i = \frac{e^{z_i / T}}{\sum_j e^{z_j / T}}$$
#
# A high temperature flattens the distribution, a low one sharpens it. Write `soften`.
#
# - `logits` has shape (N, C): one row for each image, one column for each class. The result has the
#   same shape, and each **row** sums to one.
# - It has to survive the cold: with logits of a few hundred and $T = 0.001$, no `nan` may come out,
#   even if the logits are in half precision (`torch.float16`, whose largest number is 65,504). For
#   half-precision logits return `float32` or `float64`.

# %% nbgrader={"grade": false, "grade_id": "task1_solution", "locked": false, "schema_version": 3, "solution": true, "task": false}
def soften(logits, temperature):
    """Probabilities (N, C) of logits (N, C) at a temperature > 0."""
    ### BEGIN SOLUTION
    if logits.dtype == torch.float16:
        logits = logits.float()
    return F.softmax(logits / temperature, dim=-1)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "task1_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
from checks import distil as check

check.soften(soften)

# %% nbgrader={"grade": true, "grade_id": "task1_values", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Hidden tests stand here when it is graded: other shapes, classes and temperatures.
from checks import distil as check

### BEGIN HIDDEN TESTS
def hidden(soften, call):
    import math
    import random

    import torch

    for seed, (rows, classes, t) in enumerate([(1, 2, 1.0), (5, 3, 0.5), (7, 11, 3.0), (2, 40, 20.0)]):
        draw = random.Random(900 + seed)
        z = [[draw.gauss(0, 4) for _ in range(classes)] for _ in range(rows)]
        logits = torch.tensor(z, dtype=torch.float64)
        came = call(soften, logits, t)
        assert logits.tolist() == z, "the logits of the caller have changed"
        assert tuple(came.shape) == (rows, classes), f"shape {tuple(came.shape)} for ({rows}, {classes})"
        for got, row in zip(came.tolist(), z):
            e = [math.exp((x - max(row)) / t) for x in row]
            for a, b in zip(got, e):
                assert abs(a - b / sum(e)) < 1e-6, f"a wrong probability at T = {t}, {classes} classes"


hidden(soften, check.call)
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "task1_cold", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Hidden tests stand here when it is graded: large logits at a small temperature, half precision.
from checks import distil as check

### BEGIN HIDDEN TESTS
def hidden(soften, call):
    import torch

    for dtype in (torch.float32, torch.float16):
        for t in (0.001, 0.0005):
            # one winner in each row and each column: also right for a softmax over the wrong one
            z = torch.full((6, 6), -150.0) + 450.0 * torch.eye(6)
            came = call(soften, z.to(dtype), t)
            assert came.isfinite().all(), f"nan or infinity for {dtype} at T = {t}"
            assert (came.double() - torch.eye(6).double()).abs().max() < 1e-6, f"{dtype}, T = {t}"
            assert came.dtype in (torch.float32, torch.float64), f"{dtype} logits give {came.dtype}"


hidden(soften, check.call)
### END HIDDEN TESTS

# %% [markdown]
# ---
# ## Task 2 · Soft-target loss (7 points)
#
# The teacher's softened probabilities are the target, and the student is to match them. How far it
# is from that is measured by the Kullback-Leibler divergence:
#
# $$\mathcal{L}_\text{soft} = T^2 \cdot \frac{1}{N} \sum_{n=1}^{N} \sum_{i=1}^{C}
# p^\text{teacher}_{n,i} \, \log \frac{p^\text{teacher}_{n,i}}{p^\text{student}_{n,i}}$$
#
# Both sets of probabilities are taken at the same temperature $T$. Three things go wrong here so
# often that each is tested on its own:
#
# - the factor $T^2$, which keeps the gradients from fading as $T$ grows;
# - the **reduction**: *summed* over classes, *averaged* over images;
# - the **direction**: the teacher is the reference.
#
# And one more: the teacher does not learn. No gradient may flow back into `teacher_logits`.
#
# (Source: Hinton, Vinyals, Dean 2015, *Distilling the Knowledge in a Neural Network*, section 2.)

# %% nbgrader={"grade": false, "grade_id": "task2_solution", "locked": false, "schema_version": 3, "solution": true, "task": false}
def soft_target_loss(student_logits, teacher_logits, temperature):
    """T² times KL(teacher ‖ student) of logits (N, C), a scalar tensor."""
    ### BEGIN SOLUTION
    log_student = F.log_softmax(student_logits / temperature, dim=-1)
    log_teacher = F.log_softmax(teacher_logits.detach() / temperature, dim=-1)
    divergence = F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
    return temperature**2 * divergence
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "task2_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
from checks import distil as check

check.soft_target_loss(soft_target_loss)

# %% nbgrader={"grade": true, "grade_id": "task2_temperature", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Hidden tests stand here when it is graded: how the loss changes with the temperature.
from checks import distil as check

### BEGIN HIDDEN TESTS
def hidden(loss, call):
    import math
    import random

    import torch

    def divergence(z, v, t):  # of one row, plain arithmetic
        def log_soft(x):
            scaled = [a / t for a in x]
            top = max(scaled)
            total = math.log(sum(math.exp(a - top) for a in scaled))
            return [a - top - total for a in scaled]

        return sum(math.exp(p) * (p - q) for p, q in zip(log_soft(v), log_soft(z)))

    # Teacher and student nearly agree: then direction hardly matters, and a wrong constant factor
    # cancels in the ratio. What is left is the temperature.
    for seed, (rows, classes, t) in enumerate([(3, 4, 2.0), (6, 7, 6.0), (2, 25, 0.5)]):
        draw = random.Random(500 + seed)
        z = [[draw.gauss(0, 1.5) for _ in range(classes)] for _ in range(rows)]
        v = [[a + draw.gauss(0, 0.05) for a in row] for row in z]
        pair = torch.tensor(z, dtype=torch.float64), torch.tensor(v, dtype=torch.float64)
        came = float(call(loss, *pair, t)) / float(call(loss, *pair, 1.0))
        right = t * t * sum(map(divergence, z, v, [t] * rows)) / sum(map(divergence, z, v, [1.0] * rows))
        assert 0.8 < came / right < 1.25, f"from T = 1 to T = {t} the loss changes by {came:.3f}, not {right:.3f}"


check.forgiving(lambda: hidden(soft_target_loss, check.call), soften=check.LENT_SOFTEN)
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "task2_reduction", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Hidden tests stand here when it is graded: other numbers of images and classes.
from checks import distil as check

### BEGIN HIDDEN TESTS
def hidden(loss, call):
    import math
    import random

    import torch

    def log_soft(x):
        top = max(x)
        total = math.log(sum(math.exp(a - top) for a in x))
        return [a - top - total for a in x]

    for seed, (rows, classes) in enumerate([(1, 5), (8, 5), (3, 30), (16, 3)]):
        draw = random.Random(700 + seed)
        z = [[draw.gauss(0, 1.5) for _ in range(classes)] for _ in range(rows)]
        v = [[a + draw.gauss(0, 0.05) for a in row] for row in z]
        right = 0.0
        for one, other in zip(z, v):
            right += sum(math.exp(p) * (p - q) for p, q in zip(log_soft(other), log_soft(one))) / rows
        came = float(call(loss, torch.tensor(z, dtype=torch.float64), torch.tensor(v, dtype=torch.float64), 1.0))
        assert 0.8 < came / right < 1.25, f"{rows} images, {classes} classes: {came / right:.4f} times what it should be"


check.forgiving(lambda: hidden(soft_target_loss, check.call), soften=check.LENT_SOFTEN)
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "task2_direction", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Hidden tests stand here when it is graded: who is the reference, teacher or student.
from checks import distil as check

### BEGIN HIDDEN TESTS
def hidden(loss, call):
    import math
    import random

    import torch

    def log_soft(x):
        top = max(x)
        total = math.log(sum(math.exp(a - top) for a in x))
        return [a - top - total for a in x]

    def divergence(reference, other):
        return sum(math.exp(p) * (p - q) for p, q in zip(log_soft(reference), log_soft(other)))

    # The ratio of the two directions does not know of any constant factor.
    for seed, classes in enumerate((3, 6, 17)):
        draw = random.Random(300 + seed)
        z = [draw.gauss(0, 1) for _ in range(classes)]
        v = [3 * draw.gauss(0, 1) for _ in range(classes)]
        a, b = (torch.tensor([x], dtype=torch.float64) for x in (z, v))
        came = float(call(loss, a, b, 1.0)) / float(call(loss, b, a, 1.0))
        right = divergence(v, z) / divergence(z, v)
        assert abs(came / right - 1) < 1e-3, f"{classes} classes: ratio of directions {came:.4f}, not {right:.4f}"
        assert abs(float(call(loss, a, a.clone(), 3.0))) < 1e-5, "not zero when both agree"


check.forgiving(lambda: hidden(soft_target_loss, check.call), soften=check.LENT_SOFTEN)
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "task2_gradient", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Hidden tests stand here when it is graded: into whom the gradient flows.
from checks import distil as check

### BEGIN HIDDEN TESTS
def hidden(loss, call):
    import torch

    for rows, classes in ((4, 6), (9, 3)):
        generator = torch.Generator().manual_seed(rows)
        student = torch.randn(rows, classes, generator=generator).requires_grad_()
        teacher = torch.randn(rows, classes, generator=generator).requires_grad_()
        call(loss, student, teacher, 2.0).backward()
        assert student.grad is not None and student.grad.abs().sum() > 0, "the student gets no gradient"
        assert teacher.grad is None or not teacher.grad.any(), "the teacher gets a gradient"


check.forgiving(lambda: hidden(soft_target_loss, check.call), soften=check.LENT_SOFTEN)
### END HIDDEN TESTS

# %% [markdown]
# ---
# ## Task 3 · Mixed loss (4 points)
#
# Two voices: the teacher's and the label's.
#
# $$\mathcal{L} = w \cdot \mathcal{L}_\text{soft} + (1 - w) \cdot \mathcal{L}_\text{labels}$$
#
# $w$ is `soft_weight`; $\mathcal{L}_\text{labels}$ is the ordinary cross entropy of the student's
# logits with the labels, averaged over images. Labels are compared **at $T = 1$**: the temperature is
# a matter between teacher and student.

# %% nbgrader={"grade": false, "grade_id": "task3_solution", "locked": false, "schema_version": 3, "solution": true, "task": false}
def mixed_loss(student_logits, teacher_logits, labels, temperature, soft_weight):
    """soft_weight · soft-target loss + (1 - soft_weight) · cross entropy, a scalar tensor."""
    ### BEGIN SOLUTION
    soft = soft_target_loss(student_logits, teacher_logits, temperature)
    hard = F.cross_entropy(student_logits, labels)
    return soft_weight * soft + (1 - soft_weight) * hard
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "task3_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
from checks import distil as check

check.mixed_loss(mixed_loss)

# %% nbgrader={"grade": true, "grade_id": "task3_labels", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Hidden tests stand here when it is graded: what the label contributes.
from checks import distil as check

### BEGIN HIDDEN TESTS
def hidden(mixed, call):
    import math
    import random

    import torch

    for seed, (rows, classes, t) in enumerate([(2, 3, 1.0), (5, 12, 4.0), (9, 4, 0.5)]):
        draw = random.Random(100 + seed)
        z = [[draw.gauss(0, 2) for _ in range(classes)] for _ in range(rows)]
        labels = [draw.randrange(classes) for _ in range(rows)]
        right = sum(math.log(sum(map(math.exp, row))) - row[y] for row, y in zip(z, labels)) / rows
        logits = torch.tensor(z, dtype=torch.float64)
        teacher = torch.randn(rows, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        # with weight 0 only the label speaks; the teacher may say what it likes
        for other in (teacher, -teacher):
            came = float(call(mixed, logits, other, torch.tensor(labels), t, 0.0))
            assert abs(came - right) < 1e-5 * max(1, right), f"soft_weight 0, T = {t}: {came:.5f}, not {right:.5f}"


check.forgiving(
    lambda: hidden(mixed_loss, check.call), soften=check.LENT_SOFTEN, soft_target_loss=check.LENT_SOFT_TARGET_LOSS
)
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "task3_mix", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Hidden tests stand here when it is graded: other weights, temperatures and shapes.
from checks import distil as check

### BEGIN HIDDEN TESTS
def hidden(mixed, call):
    import math
    import random

    import torch

    def log_soft(x, t=1.0):
        top = max(x)
        total = math.log(sum(math.exp((a - top) / t) for a in x))
        return [(a - top) / t - total for a in x]

    for seed, (rows, classes, t, w) in enumerate([(3, 4, 1.0, 0.5), (6, 15, 5.0, 0.2), (4, 3, 2.5, 0.95), (2, 7, 8.0, 1.0)]):
        draw = random.Random(40 + seed)
        z = [[draw.gauss(0, 2) for _ in range(classes)] for _ in range(rows)]
        v = [[draw.gauss(0, 3) for _ in range(classes)] for _ in range(rows)]
        labels = [draw.randrange(classes) for _ in range(rows)]
        right = 0.0
        for one, other, y in zip(z, v, labels):
            soft = sum(math.exp(p) * (p - q) for p, q in zip(log_soft(other, t), log_soft(one, t)))
            right += (w * t * t * soft - (1 - w) * log_soft(one)[y]) / rows
        came = float(call(mixed, torch.tensor(z, dtype=torch.float64), torch.tensor(v, dtype=torch.float64), torch.tensor(labels), t, w))
        assert abs(came - right) < 1e-4 * max(1, right), f"T = {t}, weight {w}: {came:.5f}, not {right:.5f}"


check.forgiving(
    lambda: hidden(mixed_loss, check.call), soften=check.LENT_SOFTEN, soft_target_loss=check.LENT_SOFT_TARGET_LOSS
)
### END HIDDEN TESTS

# %% [markdown]
# ---
# ## Task 4 · One step of distillation (7 points)
#
# Now the teacher is a network. Write **one step**: ask the teacher, ask the student, compute the
# loss, update the student.
#
# - `loss` is a function that is handed to you. Call it as `loss(student_logits, teacher_logits, labels)`;
#   it gives a scalar tensor.
# - The student learns, so it is in **train mode**. The teacher answers, so it is in **eval mode**, in
#   whatever mode you find it.
# - The teacher must leave the step exactly as it came: same weights, same buffers (the running means of
#   batch norm), and no gradients, not even unused ones.
# - Each step starts from fresh gradients.
# - Return the loss as a plain Python number.

# %% nbgrader={"grade": false, "grade_id": "task4_solution", "locked": false, "schema_version": 3, "solution": true, "task": false}
def distil_step(student, teacher, images, labels, optimizer, loss):
    """Update `student` once from a batch; return the loss as a float."""
    ### BEGIN SOLUTION
    teacher.eval()
    student.train()
    with torch.no_grad():
        teacher_logits = teacher(images)
    value = loss(student(images), teacher_logits, labels)
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return value.item()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "task4_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
from checks import distil as check

check.distil_step(distil_step)

# %% nbgrader={"grade": true, "grade_id": "task4_update", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Hidden tests stand here when it is graded: the student after several steps.
from checks import distil as check

### BEGIN HIDDEN TESTS
def hidden(step, call):
    import copy

    import torch

    def loss(student_logits, teacher_logits, labels):
        return (student_logits - teacher_logits).pow(2).mean() + student_logits[torch.arange(len(labels)), labels].mean()

    for seed, classes in ((1, 3), (2, 8)):
        torch.manual_seed(seed)
        student = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.BatchNorm1d(7), torch.nn.ReLU(), torch.nn.Linear(7, classes)).double()
        teacher = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, classes)).double()
        twin = copy.deepcopy(student)
        student.eval()  # as after a look at validation images: the step itself goes back to train mode
        mine = torch.optim.SGD(twin.parameters(), lr=0.05, momentum=0.9)
        theirs = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9)
        for parameter in student.parameters():  # left over from something else
            parameter.grad = torch.full_like(parameter, 0.1)
        for batch in range(3):
            images = torch.randn(6 + batch, 5, dtype=torch.float64)
            labels = torch.randint(0, classes, (6 + batch,))
            twin.train()
            right = loss(twin(images), teacher(images).detach(), labels)
            for parameter in twin.parameters():
                parameter.grad = None
            right.backward()
            mine.step()
            came = call(step, student, teacher, images, labels, theirs, loss)
            assert isinstance(came, float), f"the loss came back as {type(came).__name__}, not as a float"
            assert abs(came - right.item()) < 1e-9, f"step {batch + 1}: loss {came:.6f}, not {right.item():.6f}"
        for a, b in zip(student.state_dict().values(), twin.state_dict().values()):
            assert (a - b).abs().max() < 1e-9, "the student's weights are not what three steps give"


hidden(distil_step, check.call)
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "task4_mode", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Hidden tests stand here when it is graded: the teacher's mode and its buffers.
from checks import distil as check

### BEGIN HIDDEN TESTS
def hidden(step, call):
    import torch

    for mode in (True, False):
        torch.manual_seed(7)
        student = torch.nn.Linear(4, 5)
        teacher = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.BatchNorm1d(6), torch.nn.Dropout(0.5), torch.nn.Linear(6, 5))
        with torch.no_grad():
            teacher[1].running_mean.fill_(0.7)
        teacher.train(mode)
        images, labels = torch.randn(10, 4), torch.randint(0, 5, (10,))
        scale, shift = (teacher[1].running_var + teacher[1].eps).sqrt(), teacher[1].running_mean.clone()
        right = teacher[3]((teacher[0](images) - shift) / scale).detach()
        heard, before = [], {k: v.clone() for k, v in teacher.state_dict().items()}

        def loss(student_logits, teacher_logits, labels):
            heard.append(teacher_logits.detach().clone())
            return student_logits.square().mean()

        call(step, student, teacher, images, labels, torch.optim.SGD(student.parameters(), lr=0.1), loss)
        assert heard and (heard[0] - right).abs().max() < 1e-5, "the teacher's logits are not those of eval mode"
        for key, value in teacher.state_dict().items():
            assert torch.equal(value, before[key]), f"the teacher's {key} has changed"


hidden(distil_step, check.call)
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "task4_gradient", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Hidden tests stand here when it is graded: gradients in the teacher.
from checks import distil as check

### BEGIN HIDDEN TESTS
def hidden(step, call):
    import torch

    for classes in (2, 9):
        student, teacher = torch.nn.Linear(4, classes), torch.nn.Linear(4, classes)
        images, labels = torch.randn(5, 4), torch.randint(0, classes, (5,))

        def loss(student_logits, teacher_logits, labels):
            return (student_logits - teacher_logits).square().mean()

        optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
        before = student.weight.detach().clone()
        call(step, student, teacher, images, labels, optimizer, loss)
        assert all(p.grad is None for p in teacher.parameters()), "the teacher has gradients"
        assert all(p.requires_grad for p in teacher.parameters()), "the teacher's requires_grad was switched off"
        assert not torch.equal(before, student.weight), "the student did not learn"


hidden(distil_step, check.call)
### END HIDDEN TESTS

# %% [markdown]
# ---
# ## Task 5 · Expected calibration error (4 points)
#
# A network that says "90 %" should be right nine times in ten. To measure whether it is, sort the
# images into bins by **confidence**, the largest probability of each row. In each bin compare mean
# confidence with accuracy, and average the gaps, each bin weighted by its share of the images:
#
# $$\text{ECE} = \sum_{b=1}^{B} \frac{n_b}{N} \, \bigl| \, \text{accuracy}_b - \text{confidence}_b \, \bigr|$$
#
# - The $B$ bins have equal width and cover 0 to 1. A confidence of exactly 1 belongs to the last bin.
#   On which side the other edges fall is not tested.
# - Empty bins contribute nothing (and must not contribute `nan`).
#
# (Source: Guo and others 2017, *On Calibration of Modern Neural Networks*, equation 3.)

# %% nbgrader={"grade": false, "grade_id": "task5_solution", "locked": false, "schema_version": 3, "solution": true, "task": false}
def calibration_error(probabilities, labels, bins=15):
    """ECE of probabilities (N, C) against labels (N,): a number from 0 to 1."""
    ### BEGIN SOLUTION
    confidence, prediction = probabilities.max(dim=-1)
    right = (prediction == labels).to(probabilities.dtype)
    which = (confidence * bins).long().clamp(max=bins - 1)
    error = 0.0
    for number in range(bins):
        inside = which == number
        if inside.any():
            gap = (right[inside].mean() - confidence[inside].mean()).abs().item()
            error += inside.double().mean().item() * gap
    return error
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "task5_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
from checks import distil as check

check.calibration_error(calibration_error)

# %% nbgrader={"grade": true, "grade_id": "task5_values", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Hidden tests stand here when it is graded: other images, classes and numbers of bins.
from checks import distil as check

### BEGIN HIDDEN TESTS
def hidden(error, call):
    import math
    import random

    import torch

    for seed, (n, classes, bins) in enumerate([(50, 2, 5), (400, 10, 15), (90, 4, 20), (33, 100, 10)]):
        draw = random.Random(60 + seed)
        rows, labels = [], []
        while len(rows) < n:
            e = [math.exp(draw.gauss(0, 2)) for _ in range(classes)]
            row = [x / sum(e) for x in e]
            place = max(row) * bins
            if abs(place - round(place)) > 1e-3:  # no image on an edge
                rows.append(row)
                labels.append(draw.randrange(classes) if draw.random() < 0.4 else row.index(max(row)))
        gaps = [0.0] * bins
        for row, y in zip(rows, labels):
            gaps[int(max(row) * bins)] += (row.index(max(row)) == y) - max(row)
        right = sum(map(abs, gaps)) / n
        came = float(call(error, torch.tensor(rows, dtype=torch.float64), torch.tensor(labels), bins))
        assert abs(came - right) < 1e-5, f"{n} images, {classes} classes, {bins} bins: {came:.5f}, not {right:.5f}"


hidden(calibration_error, check.call)
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "task5_edges", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Hidden tests stand here when it is graded: empty bins, full certainty, a single image.
from checks import distil as check

### BEGIN HIDDEN TESTS
def hidden(error, call):
    import torch

    sure = torch.eye(4, dtype=torch.float64)
    labels = torch.arange(4)
    for bins in (1, 7, 15):
        assert abs(float(call(error, sure, labels, bins))) < 1e-6, "all sure and all right: the error is 0"
        assert abs(float(call(error, sure, (labels + 1) % 4, bins)) - 1) < 1e-6, "all sure and all wrong: the error is 1"
    one = torch.tensor([[0.7, 0.3]], dtype=torch.float64)
    assert abs(float(call(error, one, torch.tensor([0]), 15)) - 0.3) < 1e-6, "one image: its own gap"


hidden(calibration_error, check.call)
### END HIDDEN TESTS

# %% [markdown]
# ---
# ## Task 6 · Beat the baseline (6 points)
#
# Time to put it together. A classroom of drawn shapes:
#
# - 1,500 training images. Whoever labelled them was careless: about **three labels in ten** were drawn
#   by lot.
# - A teacher that knows better. You do not get the network, only its answer for each training image:
#   `teacher_logits`.
# - 1,000 test images, with labels that are right.
#
# Your student is a tiny network, built afresh for every run. Your **budget** is six passes over the
# training images, and it is counted. Trained on the labels alone within this budget, it names about a
# third of the test images right (guessing gives a tenth). Do better: more than 37 % earns 3 of the 5
# hidden points, 40 % and more earns all of them.
#
# Below stands a loop that learns from labels alone. Where does the teacher come in? You may change
# anything: loss, temperature, weight, learning rate, batch size. A run takes a few seconds.
# The hidden test calls your function with **another classroom**, so nothing is gained by learning this
# one by heart.

# %% nbgrader={"grade": false, "grade_id": "classroom", "locked": true, "schema_version": 3, "solution": false, "task": false}
room = classroom(seed=0)
print(room)
show(room)


def train_on_labels(student, images, labels, batch_size=50):
    """The baseline: the budget spent on labels alone."""
    optimizer = torch.optim.Adam(student.parameters(), lr=0.01)
    steps = EPOCHS * (len(images) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.01, total_steps=steps)
    student.train()
    for epoch in range(EPOCHS):
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(epoch))
        for batch in order.split(batch_size):
            loss = F.cross_entropy(student(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


# %% nbgrader={"grade": false, "grade_id": "task6_solution", "locked": false, "schema_version": 3, "solution": true, "task": false}
def train_student(student, images, labels, teacher_logits):
    """Train `student` in place within the budget: EPOCHS passes over the images."""
    ### BEGIN SOLUTION
    optimizer = torch.optim.Adam(student.parameters(), lr=0.01)
    steps = EPOCHS * (len(images) // 50)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.01, total_steps=steps)
    student.train()
    for epoch in range(EPOCHS):
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(epoch))
        for batch in order.split(50):
            logits = student(images[batch])
            loss = mixed_loss(logits, teacher_logits[batch], labels[batch], 4.0, 0.9)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "task6_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
from checks import distil as check

check.train_student(train_student)

# %% nbgrader={"grade": true, "grade_id": "task6_beats", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
# Hidden tests stand here when it is graded: another classroom, another first network.
from checks import distil as check

### BEGIN HIDDEN TESTS
from checks.classroom import classroom as hidden_classroom

hidden_room = hidden_classroom(seed=41)
hidden_lent = dict(
    soften=check.LENT_SOFTEN,
    soft_target_loss=check.LENT_SOFT_TARGET_LOSS,
    mixed_loss=check.lent_mixed_loss,
)


def hidden(train, reach, room, baseline, clear):
    reached = reach(train, room, seed=3)
    print(f"{100 * reached:.1f} % of the test images in another classroom")
    assert reached > baseline, f"{100 * reached:.1f} % is not more than {100 * baseline:.0f} %"
    return 5 if reached >= clear else 3


check.most_points(
    lambda: hidden(train_student, check.classroom_accuracy, hidden_room, 0.37, 0.40), 5, **hidden_lent
)
### END HIDDEN TESTS

# %% [markdown]
# ---
# ## Task 7 · In your own words: the runner-up classes (4 points)
#
# A teacher looks at a hexagon and says: hexagon 90 %, pentagon 6 %, circle 3 %, triangle 0.01 %.
# **Why do the small numbers help the student, and what does the temperature have to do with it?**
# Five to ten sentences. You get
#
# - 1 point for saying what the small numbers contain that the label does not;
# - 1 point for an example of two wrong classes with different probabilities, and what follows from it;
# - 1 point for what a higher temperature does to these numbers in the loss or its gradient;
# - 1 point for what is lost if the temperature is far too high or far too low.

# %% [markdown] nbgrader={"grade": true, "grade_id": "task7_text", "locked": false, "points": 4, "schema_version": 3, "solution": true, "task": false}
# *A model answer.* A label says which class is right and nothing about the others. The teacher's small
# probabilities say which wrong classes resemble the right one, image by image: this hexagon looks a
# little like a pentagon (6 %) and not at all like a triangle (0.01 %). So the student hears about
# several classes from one image and learns where the classes lie to each other. At T = 1 the small
# numbers hardly count: the loss weighs every class by the teacher's probability. A higher
# temperature lifts them, so that their ratios enter the gradient. Far too high, all classes become
# nearly equal and what is left is matching raw logits, noise included; far too low, the target is the
# label again.

# %% [markdown]
# ---
# ## Task 8 · In your own words: when it hurts (4 points)
#
# Distillation does not always help. **Describe two situations in which a distilled student can end up
# no better, or worse, than one trained on labels alone. For each, say how you would find out.** You get,
# for each situation,
#
# - 1 point for a situation that can really happen, with its reason;
# - 1 point for an experiment, control or check that would show it.

# %% [markdown] nbgrader={"grade": true, "grade_id": "task8_text", "locked": false, "points": 4, "schema_version": 3, "solution": true, "task": false}
# *A model answer.* (1) The teacher is bad: trained on other data, or confidently wrong on some classes.
# Then the student copies the mistakes. I would measure the teacher on validation images first, class by
# class, and compare students trained with weights 0, 0.5 and 0.9 over several seeds. (2) The soft targets
# do not belong to the images: a cache in another order, or logits for another augmentation. Training
# runs without any error. I would ask the teacher again for some random images and compare with the
# cache. (Also good: the labels are clean and plentiful and the student has no room left; the
# capacity gap is too large; the term lost its T².)

# %% [markdown]
# ---
# Done? *Kernel → Restart and run all*, look through the checks once more, save, and hand in
# `distil_it.ipynb`.
