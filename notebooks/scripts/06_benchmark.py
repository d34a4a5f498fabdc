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
# # 06 · The benchmark: what it costs, what it buys
#
# Three networks, one table: teacher, student with labels only, student distilled. For each we
# want the accuracy, the size, and the time for one image. Three numbers are quickly printed. The
# craft lies in knowing what each of them is worth, so this notebook measures twice and asks how
# far to trust it.
#
# **After this notebook you will be able to**
#
# - **report** a test accuracy with its two uncertainties, and say which one is which;
# - **tell** parameters, megabytes, multiply-adds and milliseconds apart, and predict one from
#   another;
# - **time** a network so that a second person gets the same answer;
# - **read** somebody else's results table like a detective.
#
# **Needs:** notebooks 02, 03 and 05, whose networks are loaded here (or trained, if they are
# missing). **Time:** under a minute on two cores (`class` profile) once they are there.

# %%
import pandas as pd
from IPython.display import Markdown

import kdutils
from kdutils import metrics, models, pretrained, timing, train
from kdutils.course import experiments, long_runs, plots
from kdutils.course.plots import show

kdutils.settings()

# %%
data = experiments.load_data()
data

# %%
teacher = experiments.teacher(data)
targets = experiments.soft_targets(teacher, data)
seeds = experiments.budget(data).seeds
runs = {
    "teacher": [teacher],
    "student, labels only": [experiments.baseline(data, seed) for seed in seeds],
    "student, distilled": [experiments.distilled(data, targets, seed) for seed in seeds],
}
for name, many in runs.items():
    print(f"{name:<22}", many[0])

# %% [markdown]
# ## 1 · The table to beat
#
# This is the published table that the series began with.

# %%
# NBVAL_CHECK_OUTPUT
published = pd.DataFrame(experiments.PUBLISHED).set_index("name")
print(published.to_string())

# %% [markdown]
# Read it like a detective before you believe it. Four things can be checked without any data.
#
# **Before you run this:** a parameter takes four bytes. What size do you expect for the two
# networks?

# %%
# NBVAL_CHECK_OUTPUT
macs, seconds = models.count_macs(models.build("student")), 27.76e-3
for name, count in (("teacher", 4_664_970), ("student", 106_826)):
    size = 4 * count
    print(f"{name}: {count:,} parameters, {size / 1e6:.2f} MB or {size / 2**20:.2f} MiB")
rate = macs / seconds / 1e9
print(f"student: {macs / 1e6:.1f} M multiply-adds in 27.76 ms are {rate:.2f} G a second")
print(f"parameters {4_664_970 / 106_826:.0f} x fewer, yet time only {111.29 / 27.76:.1f} x less")

# %% [markdown]
# - **Size.** Their "MB" are really MiB ($2^{20}$ bytes). The last hundredth of the teacher's
#   17.81 is most likely batch-norm statistics, which are stored but not trained. We count $10^6$
#   bytes a megabyte.
# - **Time.** Even one slow processor core does billions of multiply-adds a second on such a network
#   (section 4 measures yours). A seventh of *one* billion means that most of the 27.76 ms went into
#   something other than the network's arithmetic, or that it was not one image.
# - **The same network, twice.** The two students have the same layers, so the same speed. The
#   table has 27.76 ms and 25.82 ms. The gap of 7 % is *noise*, and tells you how much noise is in
#   it.
# - **Accuracy.** One run each. On 10,000 test images, what is a gap of 1.84 points worth?

# %%
# NBVAL_CHECK_OUTPUT
for name, accuracy in (("labels only", 72.70), ("distilled", 70.86)):
    low, high = metrics.wilson_interval(round(100 * accuracy), 10_000)
    print(f"{name:<12} {accuracy:.2f} %, 95 % interval {100 * low:.2f} to {100 * high:.2f} %")

# %% [markdown]
# The intervals do not overlap. So it was not the luck of the test images: *that* distilled
# network really is worse than *that* baseline. But a different seed gives a different network,
# and an interval over images says nothing about seeds. For a claim about the **method** we need
# several.

# %%
# Self-check
student = models.build("student")
assert models.count_parameters(student) == 106_826, "the student of the table, to the last weight"
assert models.count_parameters(teacher.model) <= 4_664_970, "our teacher must not be larger"
gap = experiments.PUBLISHED[2]["accuracy"] - experiments.PUBLISHED[1]["accuracy"]
assert round(gap, 2) == -1.84, "the gap that the series sets out to explain"
print(f"Right: same student, and a gap of {gap:+.2f} points to beat.")

# %% [markdown]
# ## 2 · What shrank
#
# Three sizes that are often mixed up. **Parameters** are the numbers that training adjusts.
# **Megabytes** are what you download. **Multiply-adds** are the work for one image; a convolution
# uses each weight many times, so few weights can still mean much work.

# %%
sizes = [
    {
        "name": name,
        "parameters": models.count_parameters(many[0].model),
        "macs": models.count_macs(many[0].model),
        "size_mb": models.size_mb(many[0].model),
    }
    for name, many in runs.items()
]
figure = plots.size_bars(sizes, data_name=data.name)
show(figure, "Parameters, multiply-adds and size of the three networks on log axes; the labels say "
     "how many times smaller than the teacher each one is.")  # fmt: skip

# %%
# Self-check
assert sizes[1]["parameters"] == sizes[2]["parameters"], "distillation changes no layer"
assert sizes[1]["macs"] == sizes[2]["macs"], "and adds no work when the student is used"
assert abs(sizes[1]["size_mb"] - 4 * sizes[1]["parameters"] / 1e6) < 0.01, "four bytes a number"
print("Right: the distilled student costs exactly what its baseline costs.")

# %% [markdown]
# ## 3 · Opening the envelope
#
# Until now nothing in this series has looked at a test image. Every choice was made on
# validation. So the test set is still what it should be: images that could not influence
# anything. We look **once**, at final networks, at their last epoch. Nothing will be changed
# afterwards.
#
# **Before you run this:** do you expect the test accuracies to be above or below the validation
# accuracies of notebook 05? And how wide is the interval that comes from the number of images
# alone?

# %%
tested = {
    name: [train.evaluate(run.model, data.test) for run in many] for name, many in runs.items()
}
percent = {name: [100 * one.accuracy for one in many] for name, many in tested.items()}
for name, many in tested.items():
    low, high = (100 * end for end in many[0].interval)
    print(f"{name:<22} {metrics.mean_std(percent[name]):<28} first seed, from images: "
          f"{low:.2f} to {high:.2f} %")  # fmt: skip

# %% [markdown]
# There are **two uncertainties**, and they answer different questions.
#
# - *What if we had drawn other test images?* That is the Wilson interval of one network. It
#   shrinks with the number of images only.
# - *What if we had trained again?* That is the standard deviation over seeds. More images do
#   nothing for it; only more seeds do.
#
# The comparison of two *methods* on the *same* images and seeds is a third question. Since both
# share the images and, pair by pair, the seed, much of the luck cancels. That is why we look at
# differences.

# %%
after, before = percent["student, distilled"], percent["student, labels only"]
interval = metrics.paired_interval(after, before)
differences = [a - b for a, b in zip(after, before, strict=True)]
figure = plots.paired_difference_plot(
    differences, interval, data_name=data.name, title="Test accuracy: distilled minus labels only"
)
show(figure, "Difference in test accuracy between distilled student and baseline, one dot a seed, "
     "with mean and 95 % interval; the dotted line is zero.")  # fmt: skip
print("points:", interval)
print(f"published, one pair: {gap:+.2f}")

# %%
# Self-check
for many in tested.values():
    assert all(one.n == len(data.test) for one in many), "every network saw every test image"
    inside = [one.interval[0] <= one.accuracy <= one.interval[1] for one in many]
    assert all(inside), "an interval holds the accuracy that it belongs to"
assert len(after) == len(before) == len(seeds), "one pair for each seed"
print(f"Right: {len(data.test):,} test images, {len(seeds)} pairs, one look.")

# %% [markdown]
# ## 4 · Taking the time
#
# Timing is easy to get wrong. What we do about it:
#
# - **Warm up.** The first calls fetch code and memory; they are not counted.
# - **Fix the threads.** One thread, as on a busy phone. More threads are another measurement.
# - **Take turns.** The networks are timed alternately: A B C, C B A, A B C … A slow moment of the
#   machine hits all of them.
# - **Median and p10-p90**, not the mean: one hiccup must not move the result.
# - **Name the machine.** A millisecond without a processor is not a fact.
#
# **Before you run this:** the student needs many times fewer multiply-adds than the teacher
# (section 2). Do you expect the same ratio in milliseconds, at batch 1? At batch 128?

# %%
networks = {name: many[0].model for name, many in runs.items()}
one = timing.compare(networks, batch_size=1, threads=1, calls=100)
many = timing.compare(networks, batch_size=128, threads=1, calls=10, warmup=2)
print(timing.machine())
for name in networks:
    print(f"{name:<22} {one[name]}\n{'':<22} {many[name]}")

# %%
big, small = "teacher", "student, labels only"
work = sizes[0]["macs"] / sizes[1]["macs"]
print(f"multiply-adds: {work:5.1f} x fewer")
print(f"batch   1:     {one[big].median_ms / one[small].median_ms:5.1f} x faster")
print(f"batch 128:     {many[big].median_ms / many[small].median_ms:5.1f} x faster")
for name in (big, small):
    rate = models.count_macs(networks[name]) / one[name].median_ms / 1e6
    print(f"{name}: {rate:.1f} G multiply-adds a second at batch 1")

# %% [markdown]
# The three ratios hardly ever agree. Two tolls stand between work and time. *One:* every layer
# costs a fixed amount just for being called. With a single image that is a large part of the
# student's time; in a batch it is shared. *Two:* multiply-adds leave out what does not multiply.
# Batch norm, ReLU and pooling move numbers through memory, and for thin layers on large pictures
# that can cost as much as the convolution. So multiply-adds tell the direction, not the gain. If
# you distil in order to save time, measure on the device that you mean.
#
# And now a test of our own clock. Baseline and distilled student are the same network with other
# weights. Whatever difference we find between them is noise.

# %%
noise = one["student, distilled"].median_ms / one["student, labels only"].median_ms - 1
batch_noise = many["student, distilled"].median_ms / many["student, labels only"].median_ms - 1
print(f"the same network, twice: {noise:+.1%} at batch 1, {batch_noise:+.1%} at batch 128")
print(f"in the published table:  {25.82 / 27.76 - 1:+.1%}")

# %%
# Self-check
for found in (*one.values(), *many.values()):
    assert found.p10_ms <= found.median_ms <= found.p90_ms, "percentiles are in order"
    assert found.threads == 1, "everything was timed on one thread"
assert all(many[name].median_ms > one[name].median_ms for name in networks), "128 images are more"
alone, together = one[small].median_ms, many[small].median_ms / 128
print(f"Right: alone {alone:.2f} ms, in a batch of 128 {together:.3f} ms an image.")

# %% [markdown]
# ## 5 · One picture
#
# Up is better, left is faster. A method is worth having if it moves a point up *without* moving
# it to the right.

# %%
rows = []
for size in sizes:
    name = size["name"]
    mean = sum(percent[name]) / len(percent[name]) / 100
    low, high = metrics.wilson_interval(round(mean * len(data.test)), len(data.test))
    time = one[name]
    rows.append({"name": name, "accuracy": mean, "low": low, "high": high,
                 "latency_ms": time.median_ms, "p10_ms": time.p10_ms, "p90_ms": time.p90_ms,
                 "size_mb": size["size_mb"]})  # fmt: skip
figure = plots.accuracy_latency_scatter(rows, data_name=data.name, machine=timing.machine())
show(figure, "Test accuracy against the latency of one image, with whiskers for both; the area of "
     "a dot is the size of the network.")  # fmt: skip

# %% [markdown]
# The two students stand on one vertical line, up to noise: distillation is paid for in
# *training*, once, and never again. What it buys is the step between them. What it leaves is the
# step that remains up to the teacher: no loss function makes a small network large.

# %% [markdown]
# ## 6 · The table
#
# Now write the records down. The README's table is made from this file, so nobody copies numbers by
# hand.

# %%
roles = ("teacher", "baseline", "distilled")
records = [
    experiments.record(name, role, data, found, seeds[: len(found)],
                  [test.accuracy for test in tested[name]], {1: one[name], 128: many[name]})
    for role, (name, found) in zip(roles, runs.items(), strict=True)
]  # fmt: skip
records[-1] |= {"difference": interval.mean, "interval": [interval.low, interval.high]}
pretrained.save_results("benchmark", records, data.name)
Markdown(pretrained.results_table(records))

# %% [markdown]
# And beside it the table that we began with. Two columns of accuracy, one student.

# %%
ours = pd.DataFrame(records).set_index("name")
side = pd.DataFrame({
    "accuracy there, %": published["accuracy"],
    "accuracy here, %": ours["test_accuracy"].map(lambda values: sum(values) / len(values)),
    "parameters there": published["parameters"],
    "parameters here": ours["parameters"],
    "latency there, ms": published["latency_ms"],
    "latency here, ms": ours["latency_ms"],
}).loc[list(runs)]  # fmt: skip
side.style.format(precision=2, thousands=",").set_caption(f"here: {data.name}, {timing.machine()}")

# %% [markdown]
# Mind what such a table can and cannot say. The accuracies belong together only if the images are
# the same: a copy that was saved as JPEG, or a drawn stand-in, is another exam. Milliseconds from
# two machines cannot be compared at all. What *can* be compared is the **sign** of the difference
# between the two students, in each table by itself.
#
# What made the published student worse? Notebook 04 named two suspects, and section 4 of notebook
# 05 a third. Finding the culprit takes experiments of its own:
# [07 · When distillation hurts](07_when_distillation_hurts.ipynb).

# %%
# Self-check
again = pretrained.load_results("benchmark", data.name)
assert again == records, "what was saved must come back unchanged"
assert [record["role"] for record in again] == list(roles), "three models, in order"
assert all(record["data"] == data.name for record in again), "every number names its data"
low, high = again[-1]["interval"]
assert low <= again[-1]["difference"] <= high, "the mean lies in its interval"
print(f"Right: saved, and every number says that it comes from {data.name}.")

# %% [markdown]
# ## 7 · What patience buys
#
# All of this was trained within a lesson. The course also comes with **long runs**: the same
# student for many more epochs, five seeds each, and its controls. They are recorded in
# `kdutils/pretrained/results.json`, run by run; the figure and the table are made from it. The
# minutes are those of the quickest seed, and the soft targets lay in the cache: asking the teacher
# for all 50 views of all images costs 45 minutes of one core, once.
#
# There are two budgets, a short one (dashed) and a long one. Look at the bend near the end of each
# line: there the learning rate falls to zero. So the short training is *ahead* for a while.
#
# **Before you run this:** labels-only training falls behind at first. Will it catch up, given time?

# %%
recorded = long_runs.summaries()
students = [row for row in recorded if row["arm"] in ("baseline", "distilled")]
figure = plots.accuracy_over_time(students, data_name=recorded[0]["data"])
show(figure, "Validation accuracy of the student against minutes of training, with both lessons.")

# %%
Markdown(long_runs.table())

# %% [markdown]
# Given time, labels come closer, but they do not catch up: the interval in the table says so.
#
# Look at the **controls**, too. Label smoothing makes targets as soft as the teacher's, without any
# knowledge in them, and gains little or nothing. And answers that belong to *another* image leave
# the student at chance: it learns the average answer, and nothing about images. So softness is not
# the point. What helps is what the teacher knows about *this* image. (The controls have one seed
# each: enough for a gap like the second one, not for small differences.)
#
# Then the **pocket student**. It has fewer parameters than the student and does eleven times the
# work with them: it uses each filter three times, and it looks at every image twice, once in a
# mirror. Parameters, work, time: three different prices, and the best network depends on which of
# them you pay. (It has one seed, too: take its lead over labels only as a hint.)

# %%
# Self-check
pocket, student = models.build("pocket"), models.build("student")
assert models.count_parameters(pocket) <= models.count_parameters(student), "the same pocket"
assert models.count_macs(pocket) > 3 * models.count_macs(student), "but more work"
print("Right: no more parameters, several times the work.")

# %% [markdown]
# ## Exercises
#
# **1. How many seeds?** Take the standard deviation of your paired differences. How many seeds
# would it take until the 95 % interval of the mean is only $\pm 0.2$ points wide?
#
# <details><summary>Solution</summary>
#
# The half width is $t \cdot s / \sqrt{n}$, with $t \approx 2$ for many seeds, so
# $n \approx (2 s / 0.2)^2$:
#
# ```python
# print(interval.deviation, (2 * interval.deviation / 0.2) ** 2)
# ```
#
# Half the width needs four times the seeds. Many published gains are smaller than the interval that
# their authors could have drawn.
# </details>
#
# **2. Two threads.** Time all three networks on two threads, at batch 1 and at batch 128. Who
# profits?
#
# <details><summary>Solution</summary>
#
# ```python
# for size in (1, 128):
#     for name, found in timing.compare(networks, size, threads=2, calls=20).items():
#         print(name, found)
# ```
#
# At batch 1 the student has too little work to share, and may even become slower: handing out
# work costs time too. In large batches both networks profit.
# </details>
#
# **3. Half the bytes, free of charge?** Round all weights to 16 bits (`bfloat16`) and back. How
# much *validation* accuracy does the distilled student lose?
#
# <details><summary>Solution</summary>
#
# ```python
# import copy
#
# rounded = copy.deepcopy(networks["student, distilled"]).bfloat16().float()
# print(train.evaluate(networks["student, distilled"], data.val))
# print(train.evaluate(rounded, data.val))
# ```
#
# The size falls from 0.43 MB to 0.21 MB and the accuracy hardly moves: networks bear rounding well.
# Validation, not test: the envelope has been opened, and it should not become a habit.
# </details>

# %% [markdown]
# ## In three lines
#
# - A test accuracy has two uncertainties, images and seeds; a claim about a method needs the
#   second.
# - Fewer multiply-adds are not proportionally fewer milliseconds; time it, taking turns, and name
#   the machine.
# - The distilled student costs what its baseline costs in use; the paired interval says what it
#   gains.
#
# ## References
#
# - G. Hinton, O. Vinyals, J. Dean (2015), *Distilling the Knowledge in a Neural Network*,
#   arXiv:1503.02531.
# - E. B. Wilson (1927), *Probable Inference, the Law of Succession, and Statistical Inference*,
#   Journal of the American Statistical Association 22.
# - X. Bouthillier and others (2021), *Accounting for Variance in Machine Learning Benchmarks*,
#   MLSys 2021, arXiv:2103.03098.
# - B. Recht, R. Roelofs, L. Schmidt, V. Shankar (2019), *Do ImageNet Classifiers Generalize to
#   ImageNet?*, arXiv:1902.10811: what happens when a test set is looked at for years.
