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
# # 03 · The student: what fits in a pocket, and the number to beat
#
# **After this notebook you will be able to**
#
# - **count** a network of 106,826 parameters, layer by layer, with a pencil;
# - **say** what shrank against the teacher, and why parameters and work do not shrink alike;
# - **train** the student on labels alone, with several seeds: the baseline;
# - **judge** whether a gap between two numbers can be blamed on luck;
# - **locate** where the student errs and the teacher does not: the room that distillation has.
#
# **Needs:** notebooks 01 and 02. **Time:** about 5 minutes on two cores (`class` profile), most of
# it training that you can watch. On images without a finished teacher, as long as notebook 02 on top.

# %% [markdown]
# ## The student of the table
#
# The student of the published table has 106,826 parameters. That number alone gives its
# architecture away: four blocks of convolution, batch norm, ReLU and max pooling, with 16, 32, 64
# and 128 channels, then an average over all pixels and two linear layers. We build exactly this
# one, so that our numbers can stand beside theirs.

# %%
from dataclasses import replace
from itertools import pairwise

import torch
from scipy.stats import chi2

import kdutils
from kdutils import metrics, models, train
from kdutils.course import experiments, plots
from kdutils.course.plots import show

kdutils.settings()

# %%
data = experiments.load_data()
data

# %%
student = models.build("student", seed=0, classes=len(data.classes))
show(
    plots.network_diagram(models.layer_table(student), name="student"),
    "The student as a row of blocks that get smaller and thicker; bars show what each costs.",
)

# %% [markdown]
# ## Counted with a pencil
#
# Three kinds of layers hold parameters:
#
# - a $3 \times 3$ convolution with bias: $9 \cdot c_{in} \cdot c_{out} + c_{out}$;
# - batch norm: a scale and a shift for each channel, $2 \cdot c$;
# - a linear layer: $n_{in} \cdot n_{out} + n_{out}$.
#
# Do the first block on paper before you run the cell: 3 channels in, 16 out.

# %%
# NBVAL_CHECK_OUTPUT
widths = (3, 16, 32, 64, 128)
counts = []
for c_in, c_out in pairwise(widths):
    counts += [9 * c_in * c_out + c_out, 2 * c_out]
    print(f"block {c_in:3} → {c_out:3}: convolution {counts[-2]:6,}, batch norm {counts[-1]:3,}")
for n_in, n_out in ((128, 64), (64, 10)):
    counts.append(n_in * n_out + n_out)
    print(f"linear {n_in:3} → {n_out:2}: {counts[-1]:6,}")
print(f"together: {sum(counts):,}")

# %%
# Self-check
assert sum(counts) == 106_826, "The student of the table has 106,826 parameters."
assert models.count_parameters(student) == 106_826, "Ours should have them too."
held = [row.parameters for row in models.layer_table(student) if row.parameters]
assert held == counts, "Layer by layer, pencil and network should agree."
print("✓ 106,826: by pencil, by PyTorch, in the table")

# %% [markdown]
# **Before you run this:** from block to block the weights grow about fourfold. Which of the four
# convolutions does the most *work*, the first, with its 1,024 pixels, or the last, with its 73,856
# parameters?

# %%
# NBVAL_CHECK_OUTPUT
for (c_in, c_out), side in zip(pairwise(widths), (32, 16, 8, 4), strict=True):
    work = 9 * c_in * c_out * side * side
    print(f"9 · {c_in:2} · {c_out:3} · {side:2}² = {work:9,} multiply-adds")
print(f"whole network: {models.count_macs(student):,}")

# %% [markdown]
# Neither! The last three do *exactly* the same: channels in and channels out both double (four
# times the weights), both sides of the image halve (a quarter of the pixels). That is good design:
# no layer is a bottleneck.
#
# ## What shrank, and by how much

# %%
big = models.build("teacher", classes=len(data.classes))
rows = [
    {
        "name": model.name,
        "parameters": models.count_parameters(model),
        "macs": models.count_macs(model),
        "size_mb": models.size_mb(model),
    }
    for model in (big, student)
]
bars = plots.size_bars(rows, data_name=f"one image of {data.name}")
show(bars, "Parameters, multiply-adds and megabytes of teacher and student.")

# %% [markdown]
# Compare the first panel with the second (their axes are logarithmic: a line
# joins the student to the teacher). Parameters and work shrink by different factors. *Size* decides
# whether a network fits on a device and how long it takes to download. *Work* decides, roughly, how
# long an image takes and what it does to the battery. Never quote one for the other. Real time is measured in notebook 06.
#
# By the way: the published table says 0.41 MB for this student, and our count is a little higher.
# Same bytes, another unit.

# %%
# NBVAL_CHECK_OUTPUT
size = round(models.size_mb(student) * 1e6)
print(f"{size:,} bytes, with batch norm's running averages")
print(f"= {size / 1e6:.2f} MB of 10^6 bytes = {size / 2**20:.2f} MiB of 2^20 bytes")

# %%
# Self-check
assert rows[1]["parameters"] * 20 < 4_664_970, "Far smaller than the published teacher."
assert rows[0]["macs"] / rows[1]["macs"] > 2, "The student should do less work."
assert round(size / 2**20, 2) == 0.41, "In units of 2^20 bytes it is the table's 0.41."
print("✓ small in parameters, in work and in bytes")

# %% [markdown]
# ## One training on labels alone
#
# Now the student learns from the labels, with the loop of notebook 02 and nothing else. First we
# need the teacher to compare with; it is loaded if it is there. (In the `smoke` profile both stay
# beginners, and the student may even be ahead. The text speaks of networks that have learned their
# trade.)

# %%
teacher = experiments.teacher(data)
print("teacher", teacher)
first = experiments.baseline(data, seed=0)
print("student", first)

# %%
curves = plots.learning_curves(
    {"teacher": teacher.history, "student, labels only": first.history},
    y=("train_accuracy", "val_accuracy"),
    data_name=data.name,
    title="Teacher and student, on labels alone",
)
show(curves, "Accuracy of teacher and student on training and validation images, epoch by epoch.")

# %% [markdown]
# Look at the right ends of the student's two lines. Is its training accuracy far above its
# validation accuracy? A small network has little room to learn images by heart. If the two ends are
# close, then the student's trouble is not that it *remembers too much*. It *cannot do enough*, or
# has not found out how. Keep that in mind: the teacher's help must be of a kind that a small
# network can use.
#
# (The two are given different numbers of epochs, so compare where the lines end, not where they
# start.)

# %% [markdown]
# ## One run is an anecdote
#
# So the student has an accuracy. *The* accuracy? Training starts from random weights, and shuffles
# images and views at random. All of that follows from one number, the **seed**. Same seed, same
# run, to the last bit. Another seed, another run, just as legitimate.
#
# Let us check both claims with four tiny trainings.
#
# **Before you run this:** which of the four will end in *exactly* the same weights?

# %%
few = replace(data, train=data.train.subset(512), val=data.val.subset(100))


def tiny(seed: int) -> torch.Tensor:
    """All weights of a student after one short epoch, as one long vector."""
    model = models.build("student", seed, classes=len(data.classes))
    train.fit(model, few, train.Recipe(epochs=1), seed=seed, progress=False)
    return torch.cat([p.detach().cpu().flatten() for p in model.parameters()])


ends = [tiny(seed) for seed in (0, 0, 1, 1)]
for i, j in ((0, 1), (2, 3), (0, 2)):
    print(f"run {i + 1} and run {j + 1}: largest difference {(ends[i] - ends[j]).abs().max():.3g}")

# %%
# Self-check
if kdutils.settings().device == "cpu":  # a GPU adds in any order, and rounds differently each time
    assert torch.equal(ends[0], ends[1]), "The same seed should give the same weights, bit for bit."
assert not torch.equal(ends[0], ends[2]), "Another seed should give another network."
print("✓ a seed names a run")

# %% [markdown]
# ## The same experiment, several times
#
# Now the real thing: the same training with other seeds. Nothing that we care about differs between
# these runs. Whatever differs in the results is **noise**.
#
# **Before you run this:** how far apart will the best and the worst seed be, in points of accuracy?
# The published table has 1.84 points between "labels only" and "distilled". Would you bet that one
# pair of runs of the *same* method never differs by that much?

# %%
seeds = experiments.budget(data).seeds
students = [experiments.baseline(data, seed=seed) for seed in seeds]
accuracy = [100 * run.history.last["val_accuracy"] for run in students]
for seed, run in zip(seeds, students, strict=True):
    print(f"seed {seed}:", run)
print("baseline on validation:", metrics.mean_std(accuracy))
print(f"best minus worst seed: {max(accuracy) - min(accuracy):.2f} points")

# %%
curves = plots.learning_curves(
    {"student, labels only": [run.history for run in students]},
    levels={"teacher": teacher.history.last["val_accuracy"]},
    data_name=data.name,
    title="The same student, several seeds",
)
show(curves, "Validation accuracy: a thin line for each seed, their mean, and the teacher's end.")

# %% [markdown]
# The thin lines are the same method, the same network, the same images. If you had trained only one
# of them, you would have taken its accuracy for *the* accuracy. **One run is an anecdote.**
#
# ## Is 1.84 points luck?
#
# Call the spread (standard deviation) of single runs $s$. Subtract one run from another run, and
# the spread of the *difference* is larger, because both are noisy:
#
# $$s_{\text{difference}} = \sqrt{s^2 + s^2} = \sqrt{2}\, s$$
#
# So divide the table's gap by $\sqrt{2}\,s$. Below 2, luck alone would often do. Above 3, luck is a
# poor excuse. (We assume that their runs are about as noisy as ours. The table does not say: it
# shows one number each.)

# %%
s = torch.tensor(accuracy, dtype=torch.float64).std(correction=1).item()
print(f"spread of single runs, s:       {s:.2f} points")
print(f"spread of a difference, √2 · s: {2**0.5 * s:.2f} points")
print(f"the table's gap:                {72.70 - 70.86:.2f} points")
print(f"gap / spread of a difference:   {1.84 / (2**0.5 * s) if s else float('inf'):.1f}")

# %% [markdown]
# Read the last line with one more doubt. Our $s$ itself comes from a handful of seeds. How well
# does a handful of runs know its own spread? Statistics has an exact answer, if the noise is
# bell-shaped: with $n$ runs, the true spread lies between these factors times the $s$ that we
# found, in 95 % of cases.
#
# **Before you run this:** with three runs, by what factor could the true spread be larger than it
# looks?

# %%
# NBVAL_CHECK_OUTPUT
for n in (2, 3, 5, 10, 30):
    low, high = (((n - 1) / chi2.ppf(q, n - 1)) ** 0.5 for q in (0.975, 0.025))
    print(f"{n:2} runs: true spread between {low:.2f} and {high:5.2f} times s")

# %% [markdown]
# Three runs can be off by a factor of six, two by more than thirty! That is why this course makes
# two demands: claims rest on several seeds, and the seeds are **paired**. Baseline and distilled
# student of the same seed share first weights, batches and views. So part of the noise cancels in
# the difference, and what is left tells how sure we can be. Notebook 05 does it.
#
# There is a second kind of luck: *which images* happened to be in the test set. For the table's two
# students and 10,000 test images, it comes to this:

# %%
# NBVAL_CHECK_OUTPUT
for name, percent in (("labels only", 72.70), ("distilled", 70.86)):
    low, high = metrics.wilson_interval(round(100 * percent), 10_000)
    print(f"{name:11}: {percent:.2f} %, 95 % interval {100 * low:.2f} to {100 * high:.2f} %")

# %% [markdown]
# These two intervals do not touch. So the choice of test images alone hardly explains the gap. What
# about seeds? That is what your ratio above says, for *our* noise. If it came out large, then
# probably something in that distillation really went *wrong*. Hold that thought until notebook 05.

# %%
# Self-check
assert len(accuracy) == len(seeds) >= 2, "A spread needs at least two runs."
assert max(accuracy) - min(accuracy) >= s, "Best minus worst is never less than the spread."
pairs = [(a - b) ** 2 for a in accuracy for b in accuracy]
n = len(accuracy)
assert abs(sum(pairs) / (n * (n - 1)) / 2 - s**2) < 1e-9, "Mean squared gap of two runs is 2 s²."
print("✓ two runs differ by √2 · s, in the sense of the mean square")

# %% [markdown]
# ## Where does the student err?
#
# Now class by class: the first student against the teacher, on validation.

# %%
truth = data.val.labels
said_teacher = train.predict(teacher.model, data.val)
said_student = train.predict(first.model, data.val)
per_class = [metrics.per_class_accuracy(said, truth) for said in (said_student, said_teacher)]
change = plots.per_class_change(
    *per_class,
    data.classes,
    names=("student, labels only", "teacher"),
    data_name=data.name,
    title="Where the teacher is ahead",
)
show(change, "Accuracy of each class for student and teacher; the teacher's greatest lead on top.")

# %% [markdown]
# The longer the line, the more the teacher has to offer in that class. Are the wide gaps at the
# classes that are hard for *both*? Often so: where classes resemble each other, a large network
# pays most.
#
# ## Who is right when?
#
# **Before you run this:** the teacher is the better network (or should be). Are there images that
# the *student* gets right and the teacher wrong? None? A few? Many?

# %%
teacher_right = said_teacher.argmax(1) == truth
student_right = said_student.argmax(1) == truth
cases = {
    "both right": teacher_right & student_right,
    "only the teacher right": teacher_right & ~student_right,
    "only the student right": ~teacher_right & student_right,
    "both wrong": ~teacher_right & ~student_right,
}
for name, where in cases.items():
    print(f"{name:22} {100 * where.float().mean():5.1f} %")
same = said_teacher.argmax(1) == said_student.argmax(1)
print(f"they name the same class on {100 * metrics.agreement(said_teacher, said_student):.1f} %")
echo = same[cases["both wrong"]].float().mean()
print(f"when both are wrong, they name the same class on {100 * echo:.0f} %")

# %% [markdown]
# The second line is what the student could gain by imitating the teacher. The third is what it
# would *lose*: a perfect copy makes the teacher's mistakes too. The difference of the two is
# exactly the gap between the networks.
#
# The last line is telling. There are nine ways to be wrong. If both networks erred blindly, they
# would agree on about one wrong answer in nine. If the number is far above 11 %, they are fooled by
# the *same* resemblances.

# %%
# Self-check
shares = {name: where.float().mean().item() for name, where in cases.items()}
assert abs(sum(shares.values()) - 1) < 1e-6, "Each image falls in one of the four cases."
gap = teacher_right.float().mean() - student_right.float().mean()
net = shares["only the teacher right"] - shares["only the student right"]
assert abs(gap.item() - net) < 1e-6, "The gap is what one gets right alone, minus the other."
print(f"✓ four cases; teacher minus student: {100 * net:+.1f} points on validation")

# %% [markdown]
# ## The number to beat

# %%
score = train.evaluate(first.model, data.val)
print(f"{data.name}, student on labels alone, {len(first.history.rows)} epochs")
print(f"validation accuracy {metrics.mean_std(accuracy)}")
print(f"first seed: {score}")

# %% [markdown]
# That is the **baseline**: this network, this many epochs, labels alone. A distilled student must
# beat it with the *same* network, epochs, first weights, batches and views. Anything else (longer
# training, more augmentation, the best of many tries) would improve the baseline as well, and prove
# nothing about distillation.
#
# ## Exercises
#
# **1. Half as wide.** With channels 8, 16, 32, 64 and linear layers $64 \to 64 \to 10$, how many
# parameters has the student? Use your pencil, then check.
#
# <details><summary>Solution</summary>
#
# ```python
# widths = (3, 8, 16, 32, 64)
# total = sum(9 * a * b + b + 2 * b for a, b in pairwise(widths))
# total += 64 * 64 + 64 + 64 * 10 + 10
# print(f"{total:,}")
# ```
#
# 29,578: a little more than a quarter of 106,826. The first convolution only halves (the image
# keeps its 3 colours), so does the first linear layer, and the last one stays as it is.
#
# </details>

# %% [markdown]
# **2. How many seeds?** Suppose paired differences have a spread of 0.4 points, and distillation
# truly gains 0.5 points. The 95 % interval of the mean over $n$ pairs reaches $\pm\, t_{n-1} \cdot
# 0.4/\sqrt{n}$. From which $n$ on is that less than 0.5?
#
# <details><summary>Solution</summary>
#
# ```python
# from scipy.stats import t
#
# for n in range(2, 11):
#     print(n, round(t.ppf(0.975, n - 1) * 0.4 / n**0.5, 3))
# ```
#
# From 5 pairs on (0.497: by a hair's breadth). With 2 pairs the reach is 3.6 points: hopeless. And
# with just enough pairs you would still miss the effect about half of the time, because the mean
# itself is noisy.
#
# </details>

# %% [markdown]
# **3. The lucky seed.** Somebody trains ten seeds of the baseline and ten of a "new method" that
# does nothing, and reports the *best* of each. Somebody else reports the best new one against the
# *first* baseline. Simulate both with normal noise of spread 0.3 points.
#
# <details><summary>Solution</summary>
#
# ```python
# dice = torch.Generator().manual_seed(0)
# baseline, method = 0.3 * torch.randn(2, 10_000, 10, generator=dice)
# print(f"best against best:  {(method.amax(1) - baseline.amax(1)).mean():+.2f} points")
# print(f"best against first: {(method.amax(1) - baseline[:, 0]).mean():+.2f} points")
# ```
#
# Best against best is fair on average (though it says little about a typical run). Best against
# first "gains" almost half a point, out of nothing. It is the champion of notebook 01 again.
#
# </details>

# %% [markdown]
# ## In three lines
#
# - The student has 106,826 parameters and 4 million multiply-adds; parameters and work shrink by
#   different factors, and neither is a time.
# - One run is an anecdote: report a mean and a spread over seeds, and compare in pairs.
# - The baseline is the same student on labels alone; the images that only the teacher gets right
#   are the room that distillation has.

# %% [markdown]
# ## References
#
# - J. Ba, R. Caruana, *Do Deep Nets Really Need to be Deep?*, 2014, arXiv:1312.6184: small networks
#   that imitate large ones.
# - G. Hinton, O. Vinyals, J. Dean, *Distilling the Knowledge in a Neural Network*, 2015,
#   arXiv:1503.02531.
# - X. Bouthillier et al., *Accounting for Variance in Machine Learning Benchmarks*, 2021,
#   arXiv:2103.03098: where the noise of an experiment comes from.
# - D. Picard, *torch.manual_seed(3407) is all you need*, 2021, arXiv:2109.08203: how far apart
#   seeds can be.
# - E. B. Wilson, *Probable Inference, the Law of Succession, and Statistical Inference*, 1927,
#   Journal of the American Statistical Association 22.
#
# **Next:** [04 · Soft targets](04_soft_targets.ipynb), what a teacher can say that a label cannot.
