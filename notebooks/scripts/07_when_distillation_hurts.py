# ---
# jupyter:
#   jupytext:
#     formats: ipynb,scripts//py:percent
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
# # 07 · When distillation hurts: a detective story
#
# In the table that this course starts from, a teacher made its student *worse*: 70.86 % in place
# of 72.70 %. Such tables are everywhere, and "why is my distilled student below its baseline?" is
# what users of every distillation project ask. Here we look for the culprit: by experiment,
# suspect by suspect, with the innocent named as well. And you get a method that finds such a bug
# in a minute, in your own code too.
#
# **After this notebook you will be able to**
#
# - **say** how often chance alone makes a gap of 1.84 points;
# - **reproduce** a distillation that hurts, and explain what really hurt in it;
# - **tell** the guilty mistakes from the harmless ones, with measured costs;
# - **find** a planted bug in a training loop with `kdutils.diagnose`, in a minute.
#
# **Needs:** the loss of notebook 04 and the paired seeds of notebook 05. **Time:** about 2 minutes
# on two cores (`class` profile): the long experiments were recorded, one suspect is redone live.

# %%
from dataclasses import asdict, replace

import torch
import torch.nn.functional as F

import kdutils
from kdutils import losses, metrics
from kdutils.course import experiments, long_runs, pitfalls, plots
from kdutils.course.plots import show

profile = kdutils.settings().profile.name
kdutils.settings()

# %% [markdown]
# The experiments below are many: each suspect is a training of its own, repeated with five seeds.
# `python -m kdutils pitfalls` makes them all, and the results are kept beside the code. In the
# `full` profile this cell measures everything anew, on your images; that takes an hour or
# two, and can be stopped and continued.

# %%
data = experiments.load_data()
if profile == "full":
    about, records = pitfalls.measure(data)
else:
    about, records = pitfalls.recorded()
budget, where = about["budget"], about["data"]
print(f"Measured on {where}: {len(records)} runs, each {budget['train_images']:,} training "
      f"images for {budget['epochs']} epochs, tested on {about['test_images']:,}.")  # fmt: skip
print(f"With `{about['command']}` on {records[0]['machine']}.")

# %% [markdown]
# The budget is small: a ninth of the images, six epochs. That is the price for measuring so
# many suspects so often. All arms share it, and a student of one seed has the same first weights,
# batches and views in every arm. What we learn is the *order* of the suspects; the exact points
# belong to this budget.
#
# ## 1 · The crime
#
# The table, as it was published:

# %%
for row in experiments.PUBLISHED:
    print(f"{row['name']:<22} {row['accuracy']:5.2f} %   {row['parameters']:>9,} parameters")
teacher_row, baseline_row, distilled_row = experiments.PUBLISHED
gap = distilled_row["accuracy"] - baseline_row["accuracy"]
print(f"\ndistilled minus labels only: {gap:+.2f} points, one run each")

# %% [markdown]
# One run each. So the first suspect is **chance**. Two runs of *one* recipe, with different seeds,
# never end at the same accuracy. How far apart do they lie?
#
# We have such runs: students that learned from labels alone, and differ in nothing but the seed.
# If the accuracy of one run has standard deviation $s$, the difference of two has $\sqrt 2\,s$. As
# $s$ itself is estimated from a few runs, we read the chance from Student's $t$ distribution,
# which has heavier tails than the bell curve.
#
# **Before you run this:** take two runs of the same recipe. How often, do you think, will they
# differ by 1.84 points or more: one time in two, in ten, in a hundred?

# %%
accuracy = list(pitfalls.accuracies(records, "labels").values())
noise = pitfalls.seed_noise(accuracy)
chance = noise.chance(abs(gap))
print(f"{noise.runs} runs with labels only: {torch.tensor(accuracy).mean():.2f} %, "
      f"standard deviation {noise.deviation:.2f} points")  # fmt: skip
print(f"Two runs of this recipe differ by {abs(gap):.2f} points or more {100 * chance:.0f} % of "
      "the time.")  # fmt: skip
show(plots.seed_noise(accuracy, noise, abs(gap), data_name=where),
     "Left: the test accuracies of runs that differ in the seed alone. Right: how the differences "
     "of two such runs spread; the red tails lie beyond the published gap.")  # fmt: skip

# %% [markdown]
# That is at our small budget, where a student ends far from what it could reach. The long runs
# behind the README's table give a second estimate: all images, many more epochs.

# %%
long = long_runs.summary("baseline")
calm = pitfalls.seed_noise(long["test_accuracy"])
print(f"Long runs, {long['epochs']} epochs: {metrics.mean_std(long['test_accuracy'])}")
print(f"Two of those differ by {abs(gap):.2f} points or more {100 * calm.chance(abs(gap)):.1f} % "
      "of the time.")  # fmt: skip

# %%
# Self-check
assert noise.chance(0) > 0.999, "any two runs differ by zero points or more"
assert noise.chance(10) < noise.chance(1), "a large gap is rarer than a small one"
print("Right: one run each is no evidence until you know how far runs of one recipe lie apart.")

# %% [markdown]
# So it depends on the training. In a short one, chance alone makes such a gap about one time in ten;
# in a long one it hardly ever does. The published student, at 72.70 %, lies between our short runs
# and our long ones. Chance is not cleared, and not convicted: single runs cannot tell. From here on we use five seeds for everything, and compare them in pairs.
#
# ### The scene, set again
#
# Can we make a student worse by teaching it? We take a teacher as good as the one in the table,
# and a loss as you find it in many tutorials:
#
# ```python
# soft = F.kl_div(F.log_softmax(student / T, -1), F.softmax(teacher / T, -1), reduction="mean")
# loss = 0.9 * soft + 0.1 * F.cross_entropy(student, labels)
# ```
#
# It runs, it falls, nothing looks wrong. Two things are missing, though. `kdutils.course.pitfalls` has
# the distillation loss with its usual mistakes as *switches*, so that this one is the correct loss
# with two switches thrown:

# %%
print("teacher of the story: validation accuracy", about["teachers"]["good"]["val_accuracy"], "%")
correct, crime = pitfalls.arm("distilled").loss, pitfalls.arm("both").loss
thrown = {name: value for name, value in asdict(crime).items() if value != asdict(correct)[name]}
print("the correct loss: temperature", correct.temperature, "and soft weight", correct.soft_weight)
print("switches thrown in the crime:", thrown)

# %% [markdown]
# **Before you run this:** the soft term of the crime is $10 \times 4^2 = 160$ times too weak, so
# the teacher is hardly heard. Will the student then be as good as with labels only?

# %%
def seed_by_seed(names, against="labels"):
    """Differences of arms to another arm, one number a seed, with their intervals."""
    base = pitfalls.accuracies(records, against)
    runs = {pitfalls.arm(name).title: pitfalls.accuracies(records, name) for name in names}
    dots = {title: [run[s] - base[s] for s in sorted(run.keys() & base.keys())]
            for title, run in runs.items()}  # fmt: skip
    return dots, {t: metrics.paired_interval(d, [0.0] * len(d)) for t, d in dots.items()}


dots, intervals = seed_by_seed(["distilled", "both"])
show(plots.paired_difference_plot(dots, intervals, data_name=where),
     "Test accuracy minus that of labels only, seed by seed: the correct loss helps, the one from "
     "the tutorial hurts.")  # fmt: skip

# %%
# Self-check
crime_gap = pitfalls.compare(records, "both", "labels")
assert profile == "full" or crime_gap.high < 0, "in the recorded runs the crime is below labels only"
print(f"The crime, reproduced: {crime_gap} (against labels only)")

# %% [markdown]
# The student with a teacher is worse than the one without: the crime is reproduced. But *why*? A
# teacher that is hardly heard should do no harm.
#
# ### The accomplice
#
# Look at what is left of that loss when its soft term is gone: $0.1 \times$ cross entropy. With
# plain gradient descent, a tenth of the loss is a tenth of the learning rate. Perhaps the student
# is not misled by its teacher at all, and just learns too slowly.
#
# That can be tested without any teacher: train on labels only, with the loss times 0.1.
#
# **Before you run this:** we train that student live, and a normal one beside it, at the budget of
# the record (`smoke`: a tiny one). If the suspicion is right, how much of the damage will it show?

# %%
arms = [pitfalls.arm(name) for name in ("labels", "weak_labels")]
budget = pitfalls.TINY if profile == "smoke" else None
_, now = pitfalls.measure(data, arms, seeds=(0,), budget=budget, say=lambda words: None)
for each in arms:
    here = pitfalls.accuracies(now, each.name)[0]
    there = pitfalls.accuracies(records, each.name)[0]
    print(f"{each.title:<24} live on {data.name}: {here:.2f} %   recorded on {where}: {there:.2f} %")

# %%
dots, intervals = seed_by_seed(["both", "weak_labels"])
show(plots.paired_difference_plot(dots, intervals, data_name=where),
     "Test accuracy minus that of labels only: the tutorial's loss with its teacher, and a tenth "
     "of the labels' loss without any teacher.")  # fmt: skip
difference = pitfalls.compare(records, "both", "weak_labels")
print(f"What the teacher of the crime changes: {difference}")

# %% [markdown]
# So the teacher was innocent: it was gagged, and the little that came through even *helped*.
# Whoever multiplies the labels' term by 0.1, and then loses the soft term on the way, trains at a
# tenth of the learning rate. This is why such bugs hurt most with plain SGD and a short training.
# Behind Adam, which hardly cares how large a loss is, they can hide for long.
#
# That our gap comes so near to the published one is a coincidence, with another budget and
# another teacher. What made *that* student worse we cannot know from its table. But we know now
# that a plausible recipe does, and that chance could have helped.

# %% [markdown]
# ## 2 · The line-up
#
# Now all the usual suspects, each the correct recipe with *one* thing wrong. The best known:
#
# - **Cached, read by batch number.** Teacher logits are computed in one shuffled pass and stored in
#   a list; the training shuffles anew and takes entry $k$ for its batch $k$. Every image gets the
#   answer for another one. This happened in a widely used repository
#   (haitongli/knowledge-distillation-pytorch, pull request 17).
# - **Mean reduction.** `F.kl_div` averages over classes too, unless told `"batchmean"`.
# - **Missing T².** Softening shrinks the gradient by $1/T^2$ (notebook 04).
# - **Swapped.** The arguments of `kl_div`: input is the student, target the teacher. (Swapping the
#   *networks* happens as well: keras-team/keras-io, issue 257.)
# - **Softmax twice.** A network that ends in softmax, and a loss that expects logits.
#
# **Before you run this:** which three will cost most? Which will turn out harmless?

# %%
found = pitfalls.effects(records)
correct_gain = pitfalls.compare(records, "distilled", "labels")
show(plots.pitfall_effects(found, correct_gain, data_name=where),
     "One row for each suspect. Left: test accuracy against labels only, with the gain of the "
     "correct recipe as a band. Right: against the arm that does it right. Bars are 95 % intervals "
     "over five paired seeds. Triangles pointing down: worse than labels only; diamonds: costs "
     "points; circles: no difference; triangles pointing up: better.")  # fmt: skip

# %%
from IPython.display import Markdown

Markdown(pitfalls.verdict_table(found))

# %% [markdown]
# What was recorded, in words:
#
# **Worse than no teacher:** cached, read by batch number · student stays in eval mode · weak teacher ·
# mean reduction and no T² · softmax twice
#
# **It costs points:** very strong teacher · too few epochs · arguments of kl_div swapped ·
# missing T²
#
# **No difference:** cached on unaugmented images · mean reduction · teacher in train mode ·
# over-fitted teacher · best epoch picked on test
#
# **Better:** label-smoothed teacher at T = 20
#
# ### The guilty
#
# - **Read by batch number** leaves the student at chance. Most of the loss now asks for the same
#   average answer, whatever the image is. Notebook 05 met this in its control with exchanged
#   answers.
# - **The student in eval mode** is normalised with statistics that no longer follow it. Its
#   activations drift away, and the loss becomes NaN in the second epoch: the accuracy shown is
#   that of the first. With a gentler learning rate it might go wrong more quietly.
# - **A weak teacher** drags its student down to its own level: nine tenths of the loss ask for it.
# - **Softmax twice** makes the targets of all images nearly the same and nearly flat. What is left
#   is, once more, a tenth of the labels' loss.
# - **A very strong teacher** (90 % on validation; the one that came with the course when this was
#   recorded) is worse than one of 83 %, though still better than none. Cho and Hariharan, and
#   Mirzadeh and others, describe such a *capacity gap*. Is it one? See below.
# - **Too few epochs:** after two epochs the gain is not even certain, after six it is. A teacher is
#   an investment. (Here the cost is the gain after two epochs minus the gain after six.)
# - **Missing $T^2$** and **swapped arguments** cost a point or so each. Whoever has them still sees
#   a gain over labels only, and never looks for the bug.
#
# ### The innocent, here
#
# - **Mean reduction alone** does nothing at all: $0.9 \times T^2 / 10 = 1.44$ is still much more
#   than the 0.1 of the labels. Two factors happen to cancel, 10 classes and $T^2 = 16$. Take away
#   $T^2$ as well, and it is the crime of section 1. A bug can hide behind another factor for
#   years; with 100 classes, this one might come out.
# - **The unaugmented cache** has an interval from two points lost to half a point won. So "no
#   difference" means that five seeds cannot tell, not that it is harmless. Our views are gentle, two
#   pixels and a flip; with strong augmentation Beyer and others find that it matters.
# - **The teacher in train mode** answers from the statistics of a batch of 64 images, which are
#   nearly those of all. With small batches that would not hold, and its running statistics are
#   spoiled in any case.
# - **The over-fitted teacher** knows the student's images by heart (99 % of them), and on other
#   images it is as good as before. That alone does no harm here.
# - **The best epoch on test** is the last one in every run, because our learning rate falls to zero.
#   With a constant rate, the best of many noisy epochs would flatter everybody.
#
# ### A surprise, and a second look
#
# Müller and others found that teachers trained with **label smoothing** teach badly. Ours teaches
# *better*, by far, at $T = 20$. And the best teacher of the course teaches worse than a mediocre
# one. Perhaps both have to do with something else: the *size* of the logits.

# %%
for name, facts in about["teachers"].items():
    print(f"{name:<11} validation {facts['val_accuracy']:.2f} %, on the student's images "
          f"{facts['train_accuracy']:.2f} %, logits spread by {facts['logit_spread']:.2f}")  # fmt: skip

# %% [markdown]
# Training with smoothed labels keeps logits small; a long training makes them large. That can be
# tested: take the *same* teachers and multiply their logits by 0.4. What they think stays, the
# order of the classes too; they only say it less loudly.
#
# **Before you run this:** if size is all there is to it, what will the quiet versions do?

# %%
pairs = [("scaled_logits_T20", "T20"), ("smoothed_T20", "T20"),
         ("smoothed_T20", "scaled_logits_T20"), ("scaled_logits_strong", "strong"),
         ("scaled_logits_strong", "distilled")]  # fmt: skip
for name, other in pairs:
    one, two = pitfalls.arm(name).title, pitfalls.arm(other).title
    print(f"{one}, minus {two}:\n    {pitfalls.compare(records, name, other)}")

# %% [markdown]
# The quiet strong teacher is as good as the usual one: here the gap was no matter of capacity, only
# of loudness. Our guess is that a student of six epochs cannot reach such large logits, and that
# the attempt costs it its early epochs. And more than half of what smoothing gained is gained without
# any smoothing. The rest we cannot explain with these experiments, and it is no contradiction
# to Müller and others: their trainings were long, and ours smoothed only at the end.
#
# So before you blame your teacher, look at the spread of its logits, and choose the temperature for
# *them*.

# %%
# Self-check
by_name = {effect.name: effect for effect in found}
assert len(found) >= 10 and all(effect.cost.n >= 5 or profile == "full" for effect in found), (
    "five paired seeds for every suspect"
)
assert all(e.cost.low <= e.cost.mean <= e.cost.high for e in found), "a mean lies in its interval"
guilty = [effect.title for effect in found if effect.verdict.startswith("hurts")]
print(f"Guilty: {len(guilty)} of {len(found)}: {', '.join(guilty)}.")

# %% [markdown]
# ## 3 · The method: checks instead of guesses
#
# A training that hurts takes hours to repeat. Most of the culprits can be caught *without* any
# training to the end, by asking what reaches the loss, and what the loss does with it.
#
# | check | how it works |
# |---|---|
# | `zero` | where student and teacher agree, a soft term is at rest: only the labels pull |
# | `direction`, `softmax`, `temperature` | the gradient with one teacher, minus that with another, is the soft term's alone; which divergence does it look like? |
# | `reduction` | twice the classes, or twice the images: does the pull change? |
# | `scale` | the gradients of both terms: is the soft one as strong as you said, $T^2$ included? |
# | `learner` | fingerprints of all weights, before and after: who learns? |
# | `teacher_mode`, `student_mode` | in which mode is each network, at each step? |
# | `alignment`, `views` | ask the teacher again about the pixels that the student was shown |
# | `control` | does the honest teacher beat one whose answers are shuffled? (trains for a moment) |
#
# `diagnose.run(student, teacher, data, loss, loop)` does all of it. It probes the loss with made-up
# logits, and runs your loop for a moment on *copies* of the networks, watching from outside. It
# does not need to know your code: a loss is anything called as
# `loss(student_logits, teacher_logits, labels)`.
#
# For a check the teacher need not be good. Ours is a student's network, trained for seconds.

# %%
from kdutils import diagnose, models, train, views

few = replace(data, train=data.train.subset(512), val=data.val.subset(200))
student, teacher = (models.build("student", seed, len(data.classes)) for seed in (0, 1))
recipe = train.Recipe(epochs=3, batch_size=32, learning_rate=0.05)
print(train.fit(teacher, few, recipe, progress=False))
teacher.eval()
print(diagnose.run(student, teacher, few, losses.Distillation(4, 0.9)))

# %% [markdown]
# All well. And the crime of section 1?

# %%
# NBVAL_CHECK_OUTPUT
report_on_crime = diagnose.run(student, teacher, few, crime, soft_weight=0.9)
for name in report_on_crime.failed:
    print(report_on_crime[name])

# %% [markdown]
# Two findings, and where to look. It took seconds, not five trainings.

# %%
# Self-check
assert diagnose.run(student, teacher, few, correct).failed == [], "the correct loss passes"
assert report_on_crime.failed == ["reduction", "scale"], "both bugs are named"
print("Right: two bugs in, two findings out.")

# %% [markdown]
# ## 4 · Find the bug
#
# Your turn. Six short training loops, each with **one** planted bug. First the two helpers that
# they share; these are fine.

# %%
def epoch_of(data, epoch):
    """Shuffled batches of an epoch: (normalised views, labels, numbers of the images)."""
    shown = views.epoch_images(data.train.images, views.epoch_views(len(data.train), 0, epoch))
    for numbers in torch.randperm(len(shown)).split(64):
        images = views.normalise(shown[numbers], data.mean, data.std)
        yield images, data.train.labels[numbers], numbers


def update(optimizer, value):
    """One step downhill."""
    optimizer.zero_grad()
    value.backward()
    optimizer.step()


good_loss = losses.Distillation(temperature=4.0, soft_weight=0.9)

# %%
def loss_1(student_logits, teacher_logits, labels, T=4.0, w=0.9):
    log_p = F.log_softmax(student_logits / T, dim=-1)
    q = F.softmax(teacher_logits / T, dim=-1)
    soft = F.kl_div(log_p, q, reduction="batchmean")
    return w * soft + (1 - w) * F.cross_entropy(student_logits, labels)


def loop_1(student, teacher, data, loss):
    teacher.eval()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.02)
    for epoch in range(2):
        student.train()
        for images, labels, _ in epoch_of(data, epoch):
            with torch.no_grad():
                answers = teacher(images)
            update(optimizer, loss(student(images), answers, labels))

# %%
def loop_2(student, teacher, data, loss):
    teacher.eval()
    with torch.no_grad():
        kept = [teacher(images) for images, *_ in epoch_of(data, 0)]
    optimizer = torch.optim.SGD(student.parameters(), lr=0.02)
    for epoch in range(2):
        student.train()
        for k, (images, labels, _) in enumerate(epoch_of(data, epoch)):
            update(optimizer, loss(student(images), kept[k], labels))


loss_2 = good_loss

# %%
def loop_3(student, teacher, data, loss):
    optimizer = torch.optim.SGD(student.parameters(), lr=0.02)
    for model in (student, teacher):
        model.train()
    for epoch in range(2):
        for images, labels, _ in epoch_of(data, epoch):
            with torch.no_grad():
                answers = teacher(images)
            update(optimizer, loss(student(images), answers, labels))


loss_3 = good_loss

# %%
def loop_4(student, teacher, data, loss):
    teacher.eval()
    student.train()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.02)
    for epoch in range(2):
        for images, labels, _ in epoch_of(data, epoch):
            with torch.no_grad():
                answers = teacher(images)
            update(optimizer, loss(student(images), answers, labels))
        student.eval()
        with torch.no_grad():
            images = views.normalise(data.val.images, data.mean, data.std)
            said = student(images).argmax(-1)
        print(f"validation: {(said == data.val.labels).float().mean():.2f}")


loss_4 = good_loss

# %%
def loss_5(student_logits, teacher_logits, labels, T=4.0, w=0.9):
    log_p = F.log_softmax(student_logits / T, dim=-1)
    log_q = F.log_softmax(teacher_logits / T, dim=-1)
    soft = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
    return w * T**2 * soft + (1 - w) * F.cross_entropy(student_logits, labels)


loop_5 = loop_1

# %%
def loop_6(student, teacher, data, loss):
    answers = train.predict(teacher, data.train)  # in eval mode, one row for each image
    optimizer = torch.optim.SGD(student.parameters(), lr=0.02)
    for epoch in range(2):
        student.train()
        for images, labels, numbers in epoch_of(data, epoch):
            update(optimizer, loss(student(images), answers[numbers], labels))


loss_6 = good_loss

# %% [markdown]
# Read a loop first, and write down your guess. Then let the checks speak:

# %%
LOOPS = {1: loop_1, 2: loop_2, 3: loop_3, 4: loop_4, 5: loop_5, 6: loop_6}
LOSSES = {1: loss_1, 2: loss_2, 3: loss_3, 4: loss_4, 5: loss_5, 6: loss_6}


def examine(number):
    """The checks of one loop."""
    return diagnose.run(student, teacher, few, LOSSES[number], LOOPS[number])


print(examine(1))

# %%
# Self-check: the name of the check that each loop fails; fill in your guesses, e.g. {2: "views"}
guesses = {1: "scale"}
for number, guess in guesses.items():
    failed = examine(number).failed
    assert failed == [guess], f"loop {number}: look again, it is not {guess!r}"
print(f"{len(guesses)} of {len(LOOPS)} found.")

# %% [markdown]
# <details><summary>Solutions</summary>
#
# 1. `scale`: $T^2$ is missing, the soft term is 16 times too weak. `w * T**2 * soft`.
# 2. `alignment`: logits of one shuffled pass are read by batch number in another. Keep them by
#    image number: `kept[numbers]`.
# 3. `teacher_mode`: `model.train()` for both. The teacher belongs in eval mode.
# 4. `student_mode`: `student.train()` stands before the loop, so that the first validation leaves
#    the student in eval mode for good. It belongs at the start of every epoch.
# 5. `direction`: `kl_div(log_q, log_p)` is KL(student ‖ teacher).
# 6. `views`: the answers are for the unchanged images, the student sees shifted and flipped ones.
#
# How bad is each? Section 2 has measured all six.
# </details>

# %% [markdown]
# ## Exercises
#
# **1. Your own loss.** Write a distillation loss from memory, and check it with
# `diagnose.check_loss(my_loss, temperature=4.0)`.
#
# <details><summary>Solution</summary>
#
# ```python
# def my_loss(student_logits, teacher_logits, labels, T=4.0, w=0.9):
#     log_p = F.log_softmax(student_logits / T, dim=-1)
#     log_q = F.log_softmax(teacher_logits / T, dim=-1)
#     soft = F.kl_div(log_p, log_q, reduction="batchmean", log_target=True)
#     return w * T**2 * soft + (1 - w) * F.cross_entropy(student_logits, labels)
#
# print(*diagnose.check_loss(my_loss, temperature=4.0), sep="\n")
# ```
# </details>
#
# **2. How many seeds for a small crime?** A bug costs half a point, and the paired differences
# have a standard deviation of 0.6 points. How many seeds until the 95 % interval excludes zero?
#
# <details><summary>Solution</summary>
#
# The half width is $t\,s/\sqrt n$ and must be below 0.5. Try some $n$:
#
# ```python
# from scipy.stats import t
# for n in range(3, 12):
#     print(n, round(t.ppf(0.975, n - 1) * 0.6 / n**0.5, 2))
# ```
#
# About nine on average, and more to be safe. With five seeds, "no difference" means "less than about
# 0.7 points", not "none".
# </details>
#
# **3. A bug of your own.** Plant another one in `loop_1` (an optimiser that was given the wrong
# parameters, a temperature on one side only, …). Which check fires? Is there a bug that none of
# them sees?
#
# <details><summary>Solution</summary>
#
# For example: images normalised twice, or labels that belong to other images. The checks compare
# student and teacher with each other; a mistake that both share stays invisible to them. The
# accuracy of the teacher, measured through *your* loop's own data, would show both.
# </details>

# %% [markdown]
# ## In three lines
#
# - Two runs of one recipe can differ by more than the gap in a table: first ask how far, then look
#   for a culprit.
# - Our students fell below their baseline when they were hardly taught (a soft term lost on the way),
#   taught about other images or by a weak teacher, or in the wrong mode; some famous mistakes cost
#   nothing here.
# - Probe the loss, watch the loop, and let each check say one thing: that takes a minute, and no
#   training.
#
# ## References
#
# - G. Hinton, O. Vinyals, J. Dean (2015), *Distilling the Knowledge in a Neural Network*,
#   arXiv:1503.02531.
# - R. Müller, S. Kornblith, G. Hinton (2019), *When Does Label Smoothing Help?*, arXiv:1906.02629:
#   teachers trained with label smoothing.
# - J. H. Cho, B. Hariharan (2019), *On the Efficacy of Knowledge Distillation*, arXiv:1910.01348:
#   teachers that are too good for their student.
# - S. I. Mirzadeh and others (2020), *Improved Knowledge Distillation via Teacher Assistant*,
#   arXiv:1902.03393.
# - L. Beyer and others (2022), *Knowledge Distillation: A Good Teacher is Patient and Consistent*,
#   arXiv:2106.05237: the same view for both networks, and long trainings.
# - S. Stanton and others (2021), *Does Knowledge Distillation Really Work?*, arXiv:2106.05945.
