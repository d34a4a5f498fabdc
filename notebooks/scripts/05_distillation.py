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
# # 05 · Distillation: one student, two educations
#
# Somebody published a table in which a student taught by labels reached 72.70 %, and the same
# student taught by a teacher 70.86 %. Distillation had made it *worse*, by 1.84 points. Here we
# run that comparison again: same student, same first weights, same images in the same order, same
# number of epochs. Only the loss differs. Then we look at what the student has learned, and why.
#
# **After this notebook you will be able to**
#
# - **train** a student on soft targets, and say exactly what it shares with its baseline;
# - **judge** a difference by paired seeds and an interval, with "no difference" as a possible
#   verdict;
# - **choose** a temperature and a weight on validation images, and know how far to trust the
#   choice;
# - **test** with controls what the soft targets contribute beyond softness;
# - **compare** two students by class, by agreement with the teacher, and by calibration.
#
# **Needs:** the loss of notebook 04. **Time:** about 9 minutes on two cores the first time
# (`class` profile), most of it training that you can watch; a minute when it is done again.

# %%
from dataclasses import replace

import torch

import kdutils
from kdutils import losses, metrics, models, pretrained, train, views
from kdutils.course import experiments, plots
from kdutils.course.plots import show
from kdutils.course.widgets import distil_it_yourself, loss_mixer
from kdutils.soft_targets import ShuffledTargets, SoftTargets

kdutils.settings()

# %%
data = experiments.load_data()
data

# %% [markdown]
# The teacher comes from notebook 02 and the baselines from notebook 03: the student trained on
# labels alone, once for each seed. What has been trained before is loaded; what has not is
# trained now.

# %%
teacher = experiments.teacher(data)
seeds, classes = experiments.budget(data).seeds, data.classes
recipe = experiments.recipe("student", data, experiments.budget(data).student_epochs)


def student(name, seed, loss, soft_targets=None):
    """One student. The seed decides its first weights and its batches, the loss what it learns."""
    return pretrained.train_or_load(
        name, models.build("student", seed, len(classes)), data, recipe,
        loss=loss, soft_targets=soft_targets, seed=seed,
    )  # fmt: skip


baselines = [student("baseline", seed, losses.LabelLoss()) for seed in seeds]
print("teacher    ", teacher)
for seed, run in zip(seeds, baselines, strict=True):
    print(f"seed {seed}     ", run)

# %% [markdown]
# ## 1 · What the loss asks for
#
# $$\mathcal{L} = w\,T^2\,\mathrm{KL}\big(\mathrm{softmax}(v/T)\,\|\,\mathrm{softmax}(z/T)\big)
# + (1-w)\,\bigl(-\log \mathrm{softmax}(z)_y\bigr)$$
#
# Two voices: the teacher's, softened, with weight $w$, and the label's with weight $1 - w$. The
# mixer shows both for one image, and the push that each class gets from them. Try three things:
# move the weight to 0 and to 1; raise the temperature; then take away the factor $T^2$ and raise
# it again.

# %%
teacher_logits = train.predict(teacher.model, data.val)
student_logits = train.predict(baselines[0].model, data.val)
labels = data.val.labels
distance = metrics.kl_divergence(
    losses.softened(teacher_logits, 4.0), losses.softened(student_logits, 4.0)
)
distance[teacher_logits.argmax(-1) != labels] = 0  # an image on which the teacher is right
row = int(distance.argmax())
mixer = loss_mixer(
    teacher_logits[row], student_logits[row], int(labels[row]), classes, data_name=data.name,
    image=data.val.images[row],
)  # fmt: skip
mixer

# %%
show(mixer.still(), "How hard each voice pushes on this image's logits, against temperature: soft "
     "targets with T², soft targets without it, and the label.")  # fmt: skip

# %% [markdown]
# The still picture shows the third experiment for all temperatures at once. Without $T^2$ the
# teacher's voice dies away as it gets warm, and what is left is the label's.
#
# Our house setting is printed below. Section 5 shows the sweep behind it.

# %%
# NBVAL_CHECK_OUTPUT
experiments.DISTILLATION

# %%
# Self-check
loss, few = experiments.DISTILLATION, slice(0, 100)
soft = losses.soft_target_loss(student_logits[few], teacher_logits[few], loss.temperature)
hard = torch.nn.functional.cross_entropy(student_logits[few], labels[few])
both = loss(student_logits[few], teacher_logits[few], labels[few])
by_hand = loss.soft_weight * soft + (1 - loss.soft_weight) * hard
assert torch.isclose(both, by_hand, rtol=1e-4), "the loss is the weighted sum of its two voices"
w = loss.soft_weight
print(f"Right: {both:.3f} = {w} x {soft:.3f} + {1 - w:.1f} x {hard:.3f}")

# %% [markdown]
# ## 2 · Asking the teacher once
#
# A distilled student needs the teacher's answer for every image that it sees, in every epoch. The
# teacher is many times the student's size, so asking it costs more than the training itself.
#
# But the student sees only 50 **views** of each image (notebook 01: shifts of up to two pixels,
# with or without a flip). So there are only 50 answers an image, and they can be *kept*.
# `SoftTargets` does that. It asks for a whole block of 1,024 images in one view, writes the
# logits to disk in half precision, and never asks for them again. They belong to exactly the
# pixels that the student sees. The folder is named after the teacher's weights and the images, so
# that another teacher can never be mistaken for this one.
#
# **Before you run this:** we train for one epoch on a small part of the data, three ways: on
# labels; distilled with an empty cache; distilled once more. How many times longer do you expect
# the second to take than the first? And the third?

# %%
n_train, n_val = min(2048, len(data.train)), min(500, len(data.val))
part = replace(data, train=data.train.subset(n_train), val=data.val.subset(n_val))
kept = SoftTargets(teacher.model, part.train)  # no folder: it starts empty


def seconds(loss: losses.Loss, targets: SoftTargets | None = None) -> float:
    """Time of one epoch of a fresh student."""
    student, plan = models.build("student", 0, len(classes)), experiments.recipe("student", data, 1)
    history = train.fit(student, part, plan, loss=loss, soft_targets=targets, progress=False)
    return history.last["seconds"]


_ = seconds(losses.LabelLoss())  # not counted: the first run of anything is slower

# %%
plain = seconds(losses.LabelLoss())
cold = seconds(experiments.DISTILLATION, kept)
asked = kept.teacher_calls
warm = seconds(experiments.DISTILLATION, kept)
again = kept.teacher_calls - asked
print(f"labels only            {plain:6.2f} s")
print(f"distilled, first time  {cold:6.2f} s ({cold / plain:.1f} x), blocks asked for: {asked}")
print(f"distilled, again       {warm:6.2f} s ({warm / plain:.1f} x), blocks asked for: {again}")

# %% [markdown]
# The first run pays for the teacher. The second pays next to nothing for it: distilling costs
# about as much as training on labels. That is what makes a sweep over temperatures and weights
# affordable, since neither changes what the teacher says. Seeds are cheap for the same reason: all
# of them walk through the views in one order, so a new seed asks for nothing new.
#
# A cache is only worth having if it is *right*. A shuffled one would still train, and train
# badly. So the check asks the teacher again, for random images and views, and compares.

# %%
# Self-check
blocks = len(views.block_slices(len(part.train)))
assert asked == blocks, "one epoch must ask for every block exactly once"
assert kept.teacher_calls == blocks, "the second run must not ask at all"
kept.check_alignment(samples=16)
print(f"Right: {asked} blocks asked for once, and 16 random answers are what the teacher says.")

# %% [markdown]
# ## 3 · Two educations, seed by seed
#
# Now the real thing. For each seed, the distilled student starts from the *same* random weights
# as its baseline, and meets the same images, in the same batches, under the same views. Compare the
# call below with the one for the baselines at the top: the loss and the teacher's answers are all
# that differs.
#
# **Before you run this:** the published pair differed by $-1.84$ points. What do you expect here:
# better, worse, or no difference? Write down a number, so that you can be surprised.

# %%
targets = pretrained.soft_targets(teacher.model, data)
distilled = [student("distilled", s, losses.Distillation(4.0, 0.9), targets) for s in seeds]
for seed, run in zip(seeds, distilled, strict=True):
    print(f"seed {seed}     ", run)

# %%
histories = {
    "labels only": [run.history for run in baselines],
    "distilled": [run.history for run in distilled],
}
figure = plots.learning_curves(histories, ("val_accuracy", "val_nll"), data_name=data.name)
show(figure, "Validation accuracy and validation loss of both students by epoch, thin lines for "
     "seeds and a thick line for their mean.")  # fmt: skip

# %% [markdown]
# The figure leaves the training losses out on purpose. The two students minimise *different*
# losses, so the numbers cannot be compared. Validation accuracy and the validation loss on plain
# labels can.
#
# We compare the **last** epoch of every run. Picking each run's best epoch would reward luck.

# %%
before = [100 * run.history.last["val_accuracy"] for run in baselines]
after = [100 * run.history.last["val_accuracy"] for run in distilled]
interval = metrics.paired_interval(after, before)
for seed, b, a in zip(seeds, before, after, strict=True):
    print(f"seed {seed}: labels only {b:.2f} %, distilled {a:.2f} %, difference {a - b:+.2f}")
print(f"mean difference and 95 % interval, points: {interval}")

# %%
differences = [a - b for a, b in zip(after, before, strict=True)]
figure = plots.paired_difference_plot(differences, interval, data_name=data.name)
show(figure, "Difference in validation accuracy between the distilled student and its baseline, "
     "one dot a seed, with mean and 95 % interval. The dotted line is zero.")  # fmt: skip

# %% [markdown]
# How to read it. Each dot is one pair. Pairing takes out the luck that both share: a kind seed is
# kind to both. The bar is the 95 % interval of the mean difference. If it lies right of zero, the
# verdict is *higher*; left, *lower*; and if it holds zero, *no difference* has been shown,
# whatever the mean says. With few seeds the interval is wide. That is not a flaw of the method;
# it is what few seeds are worth.

# %%
# Self-check
for seed in seeds:
    one, other = (models.build("student", seed, len(classes)) for _ in range(2))
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs), "the two must start from the same weights"
assert abs(interval.mean - sum(differences) / len(seeds)) < 1e-9, "the mean of the differences"
holds_zero = interval.low <= 0 <= interval.high
assert holds_zero == (interval.verdict == "no difference"), "the verdict follows from the interval"
print(f"Right: {len(seeds)} fair pairs, and the verdict follows from the interval.")

# %% [markdown]
# ## 4 · Where does the help come from? Three controls
#
# Suppose the distilled student is better. There are dull explanations too. Perhaps *any* softer
# target would do. Perhaps it is enough to know what a typical cat resembles. A **control** keeps
# one part of the treatment and takes another away:
#
# | control | keeps | takes away |
# |---|---|---|
# | label smoothing of matched strength | softness | all knowledge |
# | answer for another image of the same class | softness, class similarity | what is special about *this* image |
# | answer for any other image | softness | even the class |
#
# These are short runs on part of the images, one seed each. They are hints, not proofs.
#
# **Before you run this:** put the five students in the order that you expect.

# %%
curves = experiments.controls(data, teacher)
figure = plots.learning_curves(curves, data_name=data.name, title="What is left without …")
show(figure, "Validation accuracy by epoch of five short runs: labels only, label smoothing, the "
     "real teacher, and the teacher's answers given to the wrong images.")  # fmt: skip

# %%
for name, curve in curves.items():
    gain = 100 * (curve.last["val_accuracy"] - curves["labels only"].last["val_accuracy"])
    print(f"{name:<38} {100 * curve.last['val_accuracy']:6.2f} %  {gain:+6.2f} points")
spread = torch.tensor(before).std().item()
print(f"\nfor scale: standard deviation of full baselines over seeds {spread:.2f} points")

# %% [markdown]
# Read it from the bottom. With the answer for *any* image the student hears mostly noise, and the
# small voice of the label has to do the work. That is also what a **misaligned cache** looks
# like: one shuffled file, no error message, a worse student. Next, what separates *same class*
# from the real teacher is knowledge about single images. And what separates smoothing from *same
# class* is knowledge about classes. Take a difference seriously only where it is clear of the
# spread in the last line.

# %%
# Self-check
small = experiments.sweep_data(data).train
for within_class in (True, False):
    donor = ShuffledTargets(targets, small.labels, within_class).donor
    assert (donor != torch.arange(len(donor))).all(), "nobody may keep its own answer"
    same = (small.labels[donor] == small.labels).float().mean().item()
    assert not within_class or same == 1, "within a class, the donor has the same label"
print(f"Right: exchanged among all images, {same:.0%} still get an answer for their own class.")

# %% [markdown]
# ## 5 · Which temperature, which weight?
#
# The loss has two dials. We try a small grid of both on a part of the images, for a few epochs,
# and judge by **validation** accuracy. Choosing on test images would make the test a second
# validation set, and there is no third one to fall back on.
#
# **Before you run this:** do you expect one sharp peak, or a broad plateau? Which cells might be
# *worse* than labels only?

# %%
result = experiments.sweep(data, teacher)
figure = plots.sweep_heatmap(
    result.accuracy, result.temperatures, result.weights, baseline=result.baseline,
    data_name=data.name,
)  # fmt: skip
show(figure, "Heat map of validation accuracy for each temperature and soft weight, coloured by "
     "the gain over labels only; the best cell is framed.")  # fmt: skip
print(result)

# %% [markdown]
# Two warnings come with every such map. *One:* each cell is one seed, so neighbours that differ
# by less than the spread of seeds are a tie. *Two:* the best of many cells is partly the luckiest
# of many cells. Its number is too high on average; measured again, it tends to be lower. So look
# for a **region** that is good, pick a sensible point in it, and leave the frame to the lucky.
# Short runs also have a taste of their own: patient training tends to make more of soft targets
# (Beyer and others 2022).

# %%
# Self-check
grid = (len(result.temperatures), len(result.weights))
assert result.accuracy.shape == grid, "one accuracy for each temperature and weight"
best = 100 * result.accuracy.max().item()
assert best >= 100 * result.accuracy.mean().item(), "the best cell is at least the average"
assert ((result.accuracy >= 0) & (result.accuracy <= 1)).all(), "accuracies are fractions"
print(f"Right: {grid[0]} temperatures x {grid[1]} weights, none of them seen by a test image.")

# %% [markdown]
# ### Distil it yourself
#
# Now you. Choose a temperature, a weight and a number of epochs, and press *train*. The curve grows
# next to that of the student on labels only, which had the same first weights, batches and views.
# For as many epochs as in the sweep the teacher has been asked already, so a run takes seconds; for
# more, it is asked first. *Cancel* stops a run within a batch, and the notebook stays usable
# meanwhile: the training has a thread of its own. The table keeps all your runs.
#
# **Before you run this:** which setting will you try first, and what would convince you that it is
# better and not just lucky?

# %%
part = experiments.sweep_data(data)
recorded = {len(curves["labels only"].rows): curves["labels only"]}
kept = experiments.soft_targets(teacher, part)
lesson = distil_it_yourself(part, kept, recorded, most_epochs=10)
lesson

# %%
run = lesson.train(wait=True)  # as if the button had been pressed
show(lesson.still(), "Learning curves: the recorded student on labels only, and a first run at the "
     "house setting, distilled in this notebook.")  # fmt: skip
print(f"run {run.number}: {run.state} after {len(run.rows)} epochs")

# %%
# Self-check
assert run.state == "finished" and not lesson.busy, "the run must have come to its end"
expected = curves["distilled"].last["val_accuracy"]
assert abs(run.accuracy - expected) < 0.05, "the same setting must give about the same student"
print(f"Right: {run.accuracy:.1%} here, {expected:.1%} in section 4: the same student.")

# %% [markdown]
# ## 6 · Which classes changed?
#
# An average can hide a trade. Here is the accuracy on each class before and after, averaged over
# seeds.

# %%
val_before = [train.predict(run.model, data.val) for run in baselines]
val_after = [train.predict(run.model, data.val) for run in distilled]
by_class = [
    torch.stack([metrics.per_class_accuracy(one, labels) for one in many]).mean(0)
    for many in (val_before, val_after)
]
figure = plots.per_class_change(*by_class, classes, data_name=data.name)
show(figure, "Accuracy on each class for labels only and distilled, joined by a line; the class "
     "that gained most is on top, and the change in points stands on the right.")  # fmt: skip

# %% [markdown]
# See whether the classes with a close rival (notebook 04) moved more than the others. Each class
# has a tenth of the images only, so a point or two here may be chance.

# %% [markdown]
# ## 7 · Does it take after its teacher?
#
# Accuracy asks: is the student right? **Agreement** asks: does it say what the teacher says? And
# there is a sharper question. On the images that the *teacher gets wrong*, does the student make
# the very same mistake?
#
# **Before you run this:** which of the two students do you expect to repeat more of the teacher's
# mistakes?

# %%
wrong = teacher_logits.argmax(-1) != labels
for name, many in (("labels only", val_before), ("distilled", val_after)):
    alike = [metrics.agreement(one, teacher_logits) for one in many]
    copied = [metrics.agreement(one[wrong], teacher_logits[wrong]) for one in many]
    print(f"{name:>12}: agrees with the teacher on {metrics.mean_std([100 * a for a in alike])}")
    print(f"{'':>12}  repeats its mistakes on     {metrics.mean_std([100 * c for c in copied])}")

# %% [markdown]
# Agreement alone can rise just because a student is right more often, as its teacher is. The
# second line cannot: these are images on which the teacher is *wrong*. If the distilled student
# repeats clearly more of its mistakes, it has taken over a way of being wrong. Soft targets pass
# on a view of the world, errors included. That is why the teacher's quality matters.

# %%
# Self-check
truth = metrics.summarise(teacher_logits, labels).accuracy
for one in (*val_before, *val_after):
    mine, alike = metrics.summarise(one, labels).accuracy, metrics.agreement(one, teacher_logits)
    assert alike >= mine + truth - 1 - 1e-6, "where both are right, they agree"
    assert alike <= 1 - abs(mine - truth) + 1e-6, "where only one is right, they cannot agree"
print("Right: agreement stays between the two bounds that the accuracies set.")

# %% [markdown]
# ## 8 · Is it as right as it is sure?
#
# A network is **calibrated** when 80 % of its "80 % sure" answers are right. The *expected
# calibration error* (ECE) is the average gap. Soft targets change how sure a student is: it no
# longer chases 100 % on every training image, but what its teacher would say.
#
# Note that a student is trained at temperature $T$ and used at temperature 1. Nothing in the loss
# promises that it will be calibrated there.
#
# **Before you run this:** do you expect the distilled student to be more sure of itself than the
# baseline, or less? And will it be better calibrated?

# %%
pooled = {"labels only": val_before, "distilled": val_after}
every = labels.repeat(len(seeds))
bins = {name: metrics.reliability(torch.cat(many), every) for name, many in pooled.items()}
bins = {"teacher": metrics.reliability(teacher_logits, labels)} | bins
figure = plots.reliability_diagram(bins, data_name=data.name)
show(figure, "Reliability diagram of teacher, baseline and distilled student: accuracy against "
     "confidence, the diagonal of perfect calibration, and how often each occurs.")  # fmt: skip

# %%
for name, many in ({"teacher": [teacher_logits]} | pooled).items():
    found = metrics.summarise(torch.cat(many), labels.repeat(len(many)))
    sure = torch.cat(many).softmax(-1).amax(-1).mean().item()
    lean = "too sure" if sure > found.accuracy else "too modest"
    print(f"{name:>12}: sure {sure:.1%}, right {found.accuracy:.1%} ({lean}), "
          f"ECE {found.ece:.1%}, NLL {found.nll:.3f}")  # fmt: skip

# %% [markdown]
# A curve **above** the diagonal means too modest, **below** it too sure. Compare the student with
# its teacher: confidence is inherited like everything else, but a small student cannot follow the
# teacher everywhere. Whatever the verdict for your run, a lower ECE is not the same as a better
# student: you can repair calibration afterwards with one number (Guo et al. 2017), but not
# accuracy.

# %%
# Self-check
for name, found in bins.items():
    total = sum(one.count for one in found)
    ece = sum(one.count * abs(one.confidence - one.accuracy) for one in found) / total
    many = torch.cat(pooled[name]) if name in pooled else teacher_logits
    kept_ece = metrics.summarise(many, every if name in pooled else labels).ece
    assert abs(ece - kept_ece) < 2e-3, f"the ECE of {name} must follow from its bins"
print("Right: the ECE is the average gap to the diagonal, weighted by how many images are there.")

# %% [markdown]
# ## Exercises
#
# **1. A student without labels.** Set the soft weight to 1: the student never sees a label. How
# much does it lose, or gain, on a short run?
#
# <details><summary>Solution</summary>
#
# ```python
# part = experiments.sweep_data(data)
# kept = experiments.soft_targets(teacher, part)
# for weight in (0.9, 1.0):
#     print(weight, experiments.short_run(part, losses.Distillation(4.0, weight), kept))
# ```
#
# In most settings the gap is small: the teacher was trained on those labels and repeats them,
# mistakes included. So distillation also works on images for which nobody has labels, as long as
# there is a teacher.
# </details>
#
# **2. From hint to claim.** Section 4 compared one seed. Run *label smoothing* and *distilled* on
# five paired seeds, and print the paired interval.
#
# <details><summary>Solution</summary>
#
# ```python
# part = experiments.sweep_data(data)
# kept = experiments.soft_targets(teacher, part)
# runs = {"smooth": (losses.LabelLoss(0.1), None), "distilled": (experiments.DISTILLATION, kept)}
# ends = {name: [100 * experiments.short_run(part, loss, source, seed).history.last["val_accuracy"]
#                for seed in range(5)] for name, (loss, source) in runs.items()}
# print(metrics.paired_interval(ends["distilled"], ends["smooth"]))
# ```
#
# The interval decides, not the best-looking seed. If it holds zero, run more seeds or say so.
# </details>
#
# **3. Born again.** Let a *baseline student* be the teacher of a new student of the same size.
# Can it teach anything?
#
# <details><summary>Solution</summary>
#
# ```python
# part = experiments.sweep_data(data)
# twin = experiments.soft_targets(baselines[0], part)
# print(experiments.short_run(part, experiments.DISTILLATION, twin))
# print(experiments.short_run(part))
# ```
#
# Furlanello and others (2018) found that a twin can be a useful teacher. But mind the unfair
# help: here the twin was trained on *all* images and for longer, so its pupil hears of data it
# never sees. A fair test trains the twin on the same part. Try that as well.
# </details>

# %% [markdown]
# ## In three lines
#
# - Same weights, batches, views and epochs, two losses: the paired interval says whether soft
#   targets helped.
# - Controls tell what helped: softness, knowledge of classes, or knowledge of this very image.
# - A student inherits more than accuracy: its teacher's rivals, its mistakes, and its confidence.
#
# ## References
#
# - G. Hinton, O. Vinyals, J. Dean (2015), *Distilling the Knowledge in a Neural Network*,
#   arXiv:1503.02531.
# - R. Müller, S. Kornblith, G. Hinton (2019), *When Does Label Smoothing Help?*, arXiv:1906.02629.
# - L. Yuan, F. Tay, G. Li, T. Wang, J. Feng (2020), *Revisiting Knowledge Distillation via Label
#   Smoothing Regularization*, arXiv:1909.11723: why the smoothing control is needed.
# - L. Beyer, X. Zhai, A. Royer, L. Markeeva, R. Anil, A. Kolesnikov (2022), *Knowledge
#   Distillation: A Good Teacher Is Patient and Consistent*, arXiv:2106.05237: why both must see
#   the same view.
# - S. Stanton, P. Izmailov, P. Kirichenko, A. Alemi, A. G. Wilson (2021), *Does Knowledge
#   Distillation Really Work?*, arXiv:2106.05945: agreement between student and teacher.
# - T. Furlanello, Z. Lipton, M. Tschannen, L. Itti, A. Anandkumar (2018), *Born-Again Neural
#   Networks*, arXiv:1805.04770.
# - C. Guo, G. Pleiss, Y. Sun, K. Weinberger (2017), *On Calibration of Modern Neural Networks*,
#   arXiv:1706.04599.
# - Next: notebook 06 opens the test set, once, and takes the time.
