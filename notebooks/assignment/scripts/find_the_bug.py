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
# # Find the bug
#
# Six loops. Each runs from end to end without a single error message, and each is wrong. You will meet
# every one of them in real code, some of them in published code.
#
# **Time:** about an hour. **Points:** 35, of which 30 are given by tests and 5 by your teacher.
#
# For each loop you see the broken code and a symptom that somebody noticed. Then
#
# 1. **diagnose** it: pick one letter from the list below (1 point);
# 2. **mend** it: copy the loop into the cell marked `YOUR CODE HERE` and change as little as you can.
#    Often it is one line. The check below tells you a symptom (1 point), and hidden tests with other
#    networks and numbers judge how your loop *behaves* (3 points).
#
# Keep the names and the arguments. Each loop is graded on its own; the order does not matter.
# `kdutils.losses` will not help you here. Before you hand in `find_the_bug.ipynb`:
# *Kernel → Restart and run all*, then save.
#
# ### The ailments
#
# Some of them do not occur below.
#
# | | |
# |---|---|
# | **a** | The teacher's answers are paired with the wrong images. |
# | **b** | Gradients of earlier batches are still there. |
# | **c** | A choice is made on the test images. |
# | **d** | Probabilities are given where their logarithms are expected. |
# | **e** | The learning rate is too high. |
# | **f** | Student and teacher are softened by different temperatures. |
# | **g** | The labels are wrong. |
# | **h** | Layers that behave differently in training are in the wrong mode. |
# | **i** | The loss is averaged over classes as well. |
# | **j** | The optimizer holds the teacher's parameters. |

# %% nbgrader={"grade": false, "grade_id": "setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
import torch
import torch.nn.functional as F

from checks import bugs as check

torch.manual_seed(0)
print("Ready.")

# %% [markdown]
# ---
# ## Loop 1 · It starts well and then it dances
#
# *"The first step is always good. Then the loss jumps about, and the more batches there are in an epoch
# the worse it gets. With a tenth of the learning rate it almost works."*

# %% nbgrader={"grade": false, "grade_id": "broken_1", "locked": true, "schema_version": 3, "solution": false, "task": false}
def broken_1(student, images, labels, epochs):
    """Train with cross entropy on batches of four, SGD with learning rate 0.1."""
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for epoch in range(epochs):
        for start in range(0, len(images), 4):
            logits = student(images[start : start + 4])
            loss = F.cross_entropy(logits, labels[start : start + 4])
            loss.backward()
            optimizer.step()


# %% nbgrader={"grade": false, "grade_id": "diagnosis_1_solution", "locked": false, "schema_version": 3, "solution": true, "task": false}
# One letter, in quotes: diagnosis_1 = "..."
### BEGIN SOLUTION
diagnosis_1 = "b"
### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "diagnosis_1_test", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
assert isinstance(diagnosis_1, str) and len(diagnosis_1.strip()) == 1, "one letter, please"
### BEGIN HIDDEN TESTS
assert diagnosis_1.strip().lower() == "b", "another ailment fits this symptom better"
### END HIDDEN TESTS

# %% nbgrader={"grade": false, "grade_id": "mended_1_solution", "locked": false, "schema_version": 3, "solution": true, "task": false}
def mended_1(student, images, labels, epochs):
    ### BEGIN SOLUTION
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for epoch in range(epochs):
        for start in range(0, len(images), 4):
            logits = student(images[start : start + 4])
            loss = F.cross_entropy(logits, labels[start : start + 4])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "mended_1_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
from checks import bugs as check

check.training(mended_1)

# %% nbgrader={"grade": true, "grade_id": "mended_1_test", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Hidden tests stand here when it is graded.
from checks import calling as check

### BEGIN HIDDEN TESTS
def hidden(loop, call):
    import copy

    import torch

    for seed, (n, classes, epochs) in enumerate([(4, 2, 3), (22, 5, 2), (16, 3, 4)]):
        torch.manual_seed(80 + seed)
        student = torch.nn.Sequential(torch.nn.Linear(7, 6), torch.nn.Tanh(), torch.nn.Linear(6, classes)).double()
        twin = copy.deepcopy(student)
        images, labels = torch.randn(n, 7).double(), torch.randint(0, classes, (n,))
        call(loop, student, images, labels, epochs)
        for epoch in range(epochs):
            for start in range(0, n, 4):
                logits = twin(images[start : start + 4])
                picked = logits[torch.arange(len(logits)), labels[start : start + 4]]
                loss = (logits.logsumexp(-1) - picked).mean()
                for p, g in zip(twin.parameters(), torch.autograd.grad(loss, list(twin.parameters()))):
                    p.data -= 0.1 * g
        for a, b in zip(student.parameters(), twin.parameters()):
            assert (a - b).abs().max() < 1e-8, "the weights are not those of plain gradient descent"


hidden(mended_1, check.call)
### END HIDDEN TESTS

# %% [markdown]
# ---
# ## Loop 2 · A teacher that was asked only once
#
# To save time, the teacher's logits were computed beforehand, one row for each image, in the order of the
# data set.
#
# *"The teacher gets 95 %. My student gets what you get by guessing, and its loss stays where it started.
# Without the shuffling it is better!"*

# %% nbgrader={"grade": false, "grade_id": "broken_2", "locked": true, "schema_version": 3, "solution": false, "task": false}
def broken_2(student, images, teacher_logits, epochs):
    """Distil from kept logits (N, C), in shuffled batches of eight, T = 2."""
    optimizer = torch.optim.SGD(student.parameters(), lr=0.2)
    for epoch in range(epochs):
        order = torch.randperm(len(images))
        for start in range(0, len(images), 8):
            batch = order[start : start + 8]
            log_student = F.log_softmax(student(images[batch]) / 2, dim=-1)
            target = F.softmax(teacher_logits[start : start + 8] / 2, dim=-1)
            loss = 4 * F.kl_div(log_student, target, reduction="batchmean")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


# %% nbgrader={"grade": false, "grade_id": "diagnosis_2_solution", "locked": false, "schema_version": 3, "solution": true, "task": false}
# One letter, in quotes: diagnosis_2 = "..."
### BEGIN SOLUTION
diagnosis_2 = "a"
### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "diagnosis_2_test", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
assert isinstance(diagnosis_2, str) and len(diagnosis_2.strip()) == 1, "one letter, please"
### BEGIN HIDDEN TESTS
assert diagnosis_2.strip().lower() == "a", "another ailment fits this symptom better"
### END HIDDEN TESTS

# %% nbgrader={"grade": false, "grade_id": "mended_2_solution", "locked": false, "schema_version": 3, "solution": true, "task": false}
def mended_2(student, images, teacher_logits, epochs):
    ### BEGIN SOLUTION
    optimizer = torch.optim.SGD(student.parameters(), lr=0.2)
    for epoch in range(epochs):
        order = torch.randperm(len(images))
        for start in range(0, len(images), 8):
            batch = order[start : start + 8]
            log_student = F.log_softmax(student(images[batch]) / 2, dim=-1)
            target = F.softmax(teacher_logits[batch] / 2, dim=-1)
            loss = 4 * F.kl_div(log_student, target, reduction="batchmean")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "mended_2_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
from checks import bugs as check

check.order(mended_2)

# %% nbgrader={"grade": true, "grade_id": "mended_2_test", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Hidden tests stand here when it is graded.
from checks import calling as check

### BEGIN HIDDEN TESTS
def hidden(loop, call):
    import torch

    for seed, (n, classes) in enumerate([(100, 3), (59, 7)]):
        torch.manual_seed(20 + seed)
        images = torch.randn(n, 9)
        teacher = 3 * images @ torch.randn(9, classes)
        student = torch.nn.Linear(9, classes)
        torch.manual_seed(5)
        call(loop, student, images, teacher, 60)
        agree = (student(images).argmax(-1) == teacher.argmax(-1)).double().mean().item()
        assert agree > 0.9, f"{n} images: the student agrees with the teacher on {100 * agree:.0f} % of them"


hidden(mended_2, check.call)
### END HIDDEN TESTS

# %% [markdown]
# ---
# ## Loop 3 · The moving accuracy
#
# *"My accuracy depends on the batch size. When I evaluate twice, the second number is another one. And
# a model that I had saved before evaluating differs from the one that I saved after it."*

# %% nbgrader={"grade": false, "grade_id": "broken_3", "locked": true, "schema_version": 3, "solution": false, "task": false}
def broken_3(model, images, labels, batch_size):
    """The accuracy of `model`, a float from 0 to 1."""
    right = 0
    with torch.no_grad():
        for start in range(0, len(images), batch_size):
            logits = model(images[start : start + batch_size])
            right += (logits.argmax(-1) == labels[start : start + batch_size]).sum().item()
    return right / len(images)


# %% nbgrader={"grade": false, "grade_id": "diagnosis_3_solution", "locked": false, "schema_version": 3, "solution": true, "task": false}
# One letter, in quotes: diagnosis_3 = "..."
### BEGIN SOLUTION
diagnosis_3 = "h"
### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "diagnosis_3_test", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
assert isinstance(diagnosis_3, str) and len(diagnosis_3.strip()) == 1, "one letter, please"
### BEGIN HIDDEN TESTS
assert diagnosis_3.strip().lower() == "h", "another ailment fits this symptom better"
### END HIDDEN TESTS

# %% nbgrader={"grade": false, "grade_id": "mended_3_solution", "locked": false, "schema_version": 3, "solution": true, "task": false}
def mended_3(model, images, labels, batch_size):
    ### BEGIN SOLUTION
    was_training = model.training
    model.eval()
    right = 0
    with torch.no_grad():
        for start in range(0, len(images), batch_size):
            logits = model(images[start : start + batch_size])
            right += (logits.argmax(-1) == labels[start : start + batch_size]).sum().item()
    model.train(was_training)
    return right / len(images)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "mended_3_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
from checks import bugs as check

check.evaluation(mended_3)

# %% nbgrader={"grade": true, "grade_id": "mended_3_test", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Hidden tests stand here when it is graded.
from checks import calling as check

### BEGIN HIDDEN TESTS
def hidden(loop, call):
    import torch

    for seed, (n, classes, size) in enumerate([(50, 4, 7), (31, 6, 31), (64, 3, 1)]):
        torch.manual_seed(10 + seed)
        model = torch.nn.Sequential(
            torch.nn.Linear(5, 12), torch.nn.BatchNorm1d(12), torch.nn.Dropout(0.5), torch.nn.Linear(12, classes)
        )
        with torch.no_grad():
            model[1].running_mean.normal_()
            model[1].running_var.uniform_(0.2, 3)
        images, labels = torch.randn(n, 5), torch.randint(0, classes, (n,))
        first, norm, last = model[0], model[1], model[3]
        middle = (first(images) - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
        right = (last(middle).argmax(-1) == labels).double().mean().item()
        before = {key: value.clone() for key, value in model.state_dict().items()}
        model.train()
        came = float(call(loop, model, images, labels, size))
        assert abs(came - right) < 1e-9, f"{n} images in batches of {size}: {came:.3f}, not {right:.3f}"
        for key, value in model.state_dict().items():
            assert torch.equal(value, before[key]), f"{key} has changed"


hidden(mended_3, check.call)
### END HIDDEN TESTS

# %% [markdown]
# ---
# ## Loop 4 · Better than perfect
#
# *"My loss is below zero, so my student is better than perfect. Should I publish?"*

# %% nbgrader={"grade": false, "grade_id": "broken_4", "locked": true, "schema_version": 3, "solution": false, "task": false}
def broken_4(student, images, teacher_logits, temperature, steps):
    """Distil on all images at once; return the list of losses, one for each step."""
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05)
    history = []
    for step in range(steps):
        ours = F.softmax(student(images) / temperature, dim=-1)
        theirs = F.softmax(teacher_logits / temperature, dim=-1)
        loss = temperature**2 * F.kl_div(ours, theirs, reduction="batchmean")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    return history


# %% nbgrader={"grade": false, "grade_id": "diagnosis_4_solution", "locked": false, "schema_version": 3, "solution": true, "task": false}
# One letter, in quotes: diagnosis_4 = "..."
### BEGIN SOLUTION
diagnosis_4 = "d"
### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "diagnosis_4_test", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
assert isinstance(diagnosis_4, str) and len(diagnosis_4.strip()) == 1, "one letter, please"
### BEGIN HIDDEN TESTS
assert diagnosis_4.strip().lower() == "d", "another ailment fits this symptom better"
### END HIDDEN TESTS

# %% nbgrader={"grade": false, "grade_id": "mended_4_solution", "locked": false, "schema_version": 3, "solution": true, "task": false}
def mended_4(student, images, teacher_logits, temperature, steps):
    ### BEGIN SOLUTION
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05)
    history = []
    for step in range(steps):
        ours = F.log_softmax(student(images) / temperature, dim=-1)
        theirs = F.softmax(teacher_logits / temperature, dim=-1)
        loss = temperature**2 * F.kl_div(ours, theirs, reduction="batchmean")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    return history
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "mended_4_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
from checks import bugs as check

check.logarithm(mended_4)

# %% nbgrader={"grade": true, "grade_id": "mended_4_test", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Hidden tests stand here when it is graded.
from checks import calling as check

### BEGIN HIDDEN TESTS
def hidden(loop, call):
    import copy

    import torch

    for seed, (n, classes, t) in enumerate([(20, 3, 1.0), (40, 8, 5.0)]):
        torch.manual_seed(30 + seed)
        images = torch.randn(n, 4).double()
        teacher = 2 * torch.randn(n, classes).double()
        student = torch.nn.Linear(4, classes).double()
        twin = copy.deepcopy(student)
        came = call(loop, student, images, teacher, t, 15)
        p = torch.exp(teacher / t) / torch.exp(teacher / t).sum(-1, keepdim=True)
        for step in range(15):
            e = torch.exp(twin(images) / t)
            q = e / e.sum(-1, keepdim=True)
            loss = t * t * (p * (p.log() - q.log())).sum() / n
            assert abs(float(came[step]) - loss.item()) < 1e-6, f"step {step + 1}: loss {came[step]:.4f}, not {loss.item():.4f}"
            for w, g in zip(twin.parameters(), torch.autograd.grad(loss, list(twin.parameters()))):
                w.data -= 0.05 * g
        assert len(came) == 15, "one loss for each step"


hidden(mended_4, check.call)
### END HIDDEN TESTS

# %% [markdown]
# ---
# ## Loop 5 · The shy student
#
# *"My student names the same classes as its teacher, but it is never sure of anything. The teacher says
# 97 %, the student says 50 %. More training does not change that, and a higher temperature makes it
# worse."*

# %% nbgrader={"grade": false, "grade_id": "broken_5", "locked": true, "schema_version": 3, "solution": false, "task": false}
def broken_5(student, images, teacher_logits, temperature, steps):
    """Distil on all images at once."""
    optimizer = torch.optim.Adam(student.parameters(), lr=0.1)
    for step in range(steps):
        log_student = F.log_softmax(student(images), dim=-1)
        target = F.softmax(teacher_logits / temperature, dim=-1)
        loss = temperature**2 * F.kl_div(log_student, target, reduction="batchmean")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


# %% nbgrader={"grade": false, "grade_id": "diagnosis_5_solution", "locked": false, "schema_version": 3, "solution": true, "task": false}
# One letter, in quotes: diagnosis_5 = "..."
### BEGIN SOLUTION
diagnosis_5 = "f"
### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "diagnosis_5_test", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
assert isinstance(diagnosis_5, str) and len(diagnosis_5.strip()) == 1, "one letter, please"
### BEGIN HIDDEN TESTS
assert diagnosis_5.strip().lower() == "f", "another ailment fits this symptom better"
### END HIDDEN TESTS

# %% nbgrader={"grade": false, "grade_id": "mended_5_solution", "locked": false, "schema_version": 3, "solution": true, "task": false}
def mended_5(student, images, teacher_logits, temperature, steps):
    ### BEGIN SOLUTION
    optimizer = torch.optim.Adam(student.parameters(), lr=0.1)
    for step in range(steps):
        log_student = F.log_softmax(student(images) / temperature, dim=-1)
        target = F.softmax(teacher_logits / temperature, dim=-1)
        loss = temperature**2 * F.kl_div(log_student, target, reduction="batchmean")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "mended_5_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
from checks import bugs as check

check.temperature(mended_5)

# %% nbgrader={"grade": true, "grade_id": "mended_5_test", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Hidden tests stand here when it is graded.
from checks import calling as check

### BEGIN HIDDEN TESTS
def hidden(loop, call):
    import torch

    for seed, (classes, t) in enumerate([(3, 2.0), (5, 6.0), (4, 0.5)]):
        torch.manual_seed(60 + seed)
        images = torch.randn(40, 5)
        teacher = 2 * images @ torch.randn(5, classes)
        student = torch.nn.Linear(5, classes)
        call(loop, student, images, teacher, t, 400)
        gap = (student(images).softmax(-1) - teacher.softmax(-1)).abs().amax(-1).mean().item()
        assert gap < 0.05, f"{classes} classes, T = {t}: at T = 1 student and teacher differ by {gap:.2f}"

    def trained(images, teacher, t):
        twin = torch.nn.Linear(5, teacher.shape[1])
        optimizer = torch.optim.Adam(twin.parameters(), lr=0.1)
        for _ in range(400):
            ours, theirs = (twin(images) / t).log_softmax(-1), (teacher / t).softmax(-1)
            optimizer.zero_grad()
            (-(t**2) * (theirs * ours).sum(-1).mean()).backward()
            optimizer.step()
        return twin(images).softmax(-1).detach()

    # A teacher that the student cannot match: what it settles for depends on the temperature.
    for seed, (classes, t) in enumerate([(3, 4.0), (5, 6.0)]):
        torch.manual_seed(160 + seed)
        images = torch.randn(40, 5)
        teacher = 2 * images @ torch.randn(5, classes) + 4 * torch.randn(40, classes)
        student = torch.nn.Linear(5, classes)
        call(loop, student, images, teacher, t, 400)
        came = student(images).softmax(-1).detach()
        near, far = ((came - trained(images, teacher, one)).abs().mean() for one in (t, 1.0))
        assert near < 0.5 * far, f"the student is not the one that T = {t} makes"


hidden(mended_5, check.call)
### END HIDDEN TESTS

# %% [markdown]
# ---
# ## Loop 6 · The proud report
#
# *"I tried twenty temperatures, and the best student got 2 points more than the teacher! When a
# colleague tried my temperature on new images, nothing was left of it."*
#
# `train(t)` gives a model trained at temperature `t`, and `score(model, split)` its accuracy, where
# `split` is `"val"` or `"test"`. The loop is to choose a temperature and return it **together with the
# test accuracy to report**.

# %% nbgrader={"grade": false, "grade_id": "broken_6", "locked": true, "schema_version": 3, "solution": false, "task": false}
def broken_6(train, score, temperatures):
    """(the temperature chosen, the accuracy to report)"""
    best_t, best_accuracy = None, -1.0
    for t in temperatures:
        accuracy = score(train(t), "test")
        if accuracy > best_accuracy:
            best_t, best_accuracy = t, accuracy
    return best_t, best_accuracy


# %% nbgrader={"grade": false, "grade_id": "diagnosis_6_solution", "locked": false, "schema_version": 3, "solution": true, "task": false}
# One letter, in quotes: diagnosis_6 = "..."
### BEGIN SOLUTION
diagnosis_6 = "c"
### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "diagnosis_6_test", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
assert isinstance(diagnosis_6, str) and len(diagnosis_6.strip()) == 1, "one letter, please"
### BEGIN HIDDEN TESTS
assert diagnosis_6.strip().lower() == "c", "another ailment fits this symptom better"
### END HIDDEN TESTS

# %% nbgrader={"grade": false, "grade_id": "mended_6_solution", "locked": false, "schema_version": 3, "solution": true, "task": false}
def mended_6(train, score, temperatures):
    ### BEGIN SOLUTION
    best_t, best_accuracy, best_model = None, -1.0, None
    for t in temperatures:
        model = train(t)
        accuracy = score(model, "val")
        if accuracy > best_accuracy:
            best_t, best_accuracy, best_model = t, accuracy, model
    return best_t, score(best_model, "test")
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "mended_6_check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
from checks import bugs as check

check.choice(mended_6)

# %% nbgrader={"grade": true, "grade_id": "mended_6_test", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Hidden tests stand here when it is graded.
from checks import calling as check

### BEGIN HIDDEN TESTS
def hidden(choose, call):
    import random

    for seed, n in enumerate((1, 3, 8)):
        draw = random.Random(seed)
        grid = draw.sample([0.5, 1, 2, 3, 4, 5, 8, 10, 16, 20], n)
        table = {t: {"val": draw.random(), "test": draw.random()} for t in grid}
        looks = []

        def score(model, split):
            looks.append(split)
            return table[model["trained at"]][split]

        came = call(choose, lambda t: {"trained at": t}, score, grid)
        best = max(grid, key=lambda t: table[t]["val"])
        assert tuple(came) == (best, table[best]["test"]), f"{n} temperatures: {came} came back"
        assert looks.count("test") == 1, f"the test images were looked at {looks.count('test')} times"


hidden(mended_6, check.call)
### END HIDDEN TESTS

# %% [markdown]
# ---
# ## A smoke alarm (5 points)
#
# None of the six gave an error message. **Choose two of them. For each, write a line or two of Python that
# would have raised the alarm in your own training script, and say in a sentence why it would have
# gone off.** You get
#
# - 2 points for each alarm that goes off for the broken loop and keeps quiet for the mended one;
# - 1 point if what you write would not slow training down noticeably.

# %% [markdown] nbgrader={"grade": true, "grade_id": "alarm_text", "locked": false, "points": 5, "schema_version": 3, "solution": true, "task": false}
# *A model answer.* Loop 4: `assert loss.item() > -1e-6`. A divergence is never negative, and this one
# became negative after a few steps. Loop 3: `assert not model.training` at the top of every evaluation.
# It goes off at the first call, before the running means have moved. Both cost nothing next to a
# training step. (Also good: for loop 2, ask the teacher again for sixteen random images, once in an epoch.)
