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
# # 02 · The teacher: a network worth listening to
#
# **After this notebook you will be able to**
#
# - **read** a network as a list of layers, and **count** its parameters and its work by hand;
# - **write** the training loop in eight lines, and **read** a learning curve;
# - **find** out which classes a network takes for one another, from its mistakes and from its
#   doubts;
# - **judge** whether a network is as right as it is sure, with a reliability diagram and the ECE;
# - **explain** why we do all this on validation images, and leave the test images alone.
#
# **Needs:** notebook 01 (splits, views). **Time:** about 2 minutes on two cores (`class` profile) on
# CIFAR-10, where a finished teacher comes with the course. On other images the teacher is trained
# here, which takes longer, once.

# %% [markdown]
# ## Why have a teacher at all?
#
# A teacher is a network that is allowed to be large. It will never run on the phone. Its one job is
# to be *good*, and then to give its opinion on every training image. In the table of notebook 01
# the teacher had 4,664,970 parameters. Is that what it takes?

# %%
import torch

import kdutils
from kdutils import metrics, models, train, views
from kdutils.course import experiments, plots
from kdutils.course.plots import show

kdutils.settings()

# %%
data = experiments.load_data()
data

# %% [markdown]
# ## The network, drawn
#
# Each block below is what a layer puts out. Height and depth show how many pixels are left,
# thickness how many **channels** there are: how many different things are looked for at each place.
# Under the drawing stand two bar charts: how many parameters each layer holds, and how many
# multiplications it makes for one image.
#
# **Before you run this:** the image gets smaller and the channels get more. Where will most
# *parameters* sit: early or late? And where will most of the *work* be done?

# %%
blank = models.build("teacher", seed=0, classes=len(data.classes))
layers = models.layer_table(blank)
drawing = plots.network_diagram(layers, name="teacher")
show(drawing, "The teacher: blocks get smaller and thicker; bars show what each layer costs.")

# %% [markdown]
# Parameters pile up late, work is done all along. Each time the image is halved, its pixels are
# quartered, and the channels are doubled. A layer then has four times the weights, but uses each
# of them on a quarter of the pixels.
#
# Three more things to know. **Max pooling** halves the image: of each 2 x 2 pixels it keeps the
# largest. A **residual** layer computes $x + f(x)$: it adds a correction to what it was given, so
# that a signal (and, in training, a gradient) can always take the straight way (He et al. 2015).
#
# And the first layer is **whitened**: it is computed, not learned. Neighbouring pixels are nearly
# equal, so filters that start at random all report much the same. We take the main directions in
# which 3 x 3 patches of the training images differ, scale each to the same strength, and use them
# as filters from the first step on (Page 2018; Jordan 2024). The layers behind it find their feet
# sooner.

# %% [markdown]
# ## Counting one layer by hand
#
# A convolution slides a small window over the image. For each of its $c_{out}$ output channels it
# has a filter of $3 \times 3$ weights for each of its $c_{in}$ input channels:
#
# $$\text{parameters} = 3 \cdot 3 \cdot c_{in} \cdot c_{out}$$
#
# It uses every weight once for each output pixel:
#
# $$\text{multiply-adds} = \text{parameters} \cdot \text{height} \cdot \text{width}$$
#
# Take the second convolution that is learned, look up its shapes, and do the sum.

# %%
convolutions = [row for row in layers if row.kind == "Conv2d"]
before, layer = convolutions[0], convolutions[1]
c_in, (c_out, height, width) = before.output_shape[0], layer.output_shape
by_hand = 3 * 3 * c_in * c_out
print(f"{c_in} channels in, {c_out} out, {height} x {width} pixels")
print(f"parameters:    3 · 3 · {c_in} · {c_out} = {by_hand:,}")
print(f"multiply-adds: {by_hand:,} · {height} · {width} = {by_hand * height * width:,}")

# %%
# Self-check
assert by_hand == layer.parameters, "Recount the weights: 3 x 3 for each pair of channels."
assert by_hand * height * width == layer.macs, "Each weight works once for each output pixel."
assert sum(row.parameters for row in layers) == models.count_parameters(blank), "Some are missing."
assert sum(row.macs for row in layers) == models.count_macs(blank), "Two ways of counting disagree."
print("✓ counted by hand, by us and by PyTorch: the same")

# %% [markdown]
# Now the whole network. A parameter is stored as a float of 4 bytes, so the size in megabytes is
# nearly $4 \cdot \text{parameters} / 10^6$. (Batch norm keeps a few running averages besides.)

# %%
total, work = models.count_parameters(blank), models.count_macs(blank)
print(f"parameters:    {total:,}  (the published teacher: 4,664,970)")
print(f"multiply-adds: {work:,} for one image")
print(f"size:          {models.size_mb(blank):.2f} MB")
assert total <= 4_664_970, "Our teacher should not be larger than the published one."

# %% [markdown]
# ## Training in eight lines
#
# Training is a loop: *guess, measure, correct*. The network guesses **logits**, one number for each
# class. The **softmax** turns them into probabilities. The **loss** (cross entropy) measures how
# little of that was given to the right class, $-\log p_{\text{label}}$. The gradient says in which
# direction each weight should move to make the loss smaller, and the optimiser takes a small step.
#
# Here it is, on one mini-batch, again and again.
#
# **Before you run this:** a network that knows nothing gives each of ten classes 10 %. What is its
# loss? ($-\log 0.1 = {?}$) And how low can it get on 64 images in twelve steps?

# %%
batch = views.normalise(data.train.images[:64], data.mean, data.std)
labels = data.train.labels[:64]
optimizer = torch.optim.SGD(blank.parameters(), lr=0.1, momentum=0.9)
losses = []
for step in range(12):
    logits = blank(batch)  # guess
    loss = torch.nn.functional.cross_entropy(logits, labels)  # measure
    optimizer.zero_grad()
    loss.backward()  # which way?
    optimizer.step()  # correct
    losses.append(loss.item())
print(" → ".join(f"{value:.2f}" for value in losses))

# %% [markdown]
# It starts near $\log 10 \approx 2.30$, the loss of a guesser, and falls. But 64 images learned by
# heart are not knowledge. All that a real training adds is *all the images*, a new view of each in
# every epoch, and a step size (the **learning rate**) that grows first and then shrinks to zero.

# %%
# Self-check
assert abs(losses[0] - 2.3026) < 0.7, "A fresh network should start near the loss of a guesser."
assert min(losses) < 0.7 * losses[0], "Twelve steps on the same 64 images should cut the loss."
print("✓ from guessing towards learning by heart")

# %% [markdown]
# ## Training for real
#
# There is one training loop in this course, `kdutils.train.fit`: the eight lines above, plus a
# progress bar and a checkpoint after each epoch. Its settings are a **recipe**. Here are the
# teacher's recipe and its learning rate over time: a triangle. Small at first, because early
# gradients point everywhere. Small at last, so that the weights settle down.

# %%
recipe = experiments.teacher_recipe(data)
print(recipe)
steps, rate = 500, []
for step in range(steps):
    value = recipe.learning_rate * train.triangular(step, steps, recipe.warmup)
    rate.append({"epoch": recipe.epochs * (step + 1) / steps, "learning_rate": value})
triangle = plots.learning_curves(
    {"teacher": rate}, y="learning_rate", data_name=data.name, title="The learning rate's triangle"
)
show(triangle, "The learning rate rises in one straight line and falls to zero in another.")

# %% [markdown]
# Watch the loop at work first: a rehearsal of two epochs on a part of the images. A bar shows how
# far it is.
#
# **Before you run this:** two rounds through a few thousand images take well under a minute. How
# much better than a guesser (10 %) will the network be afterwards?

# %%
rehearsal = experiments.demo_teacher(data)
for row in rehearsal.history.rows:
    print(f"epoch {row['epoch']:.0f}: validation accuracy {100 * row['val_accuracy']:.1f} %")

# %% [markdown]
# Now the real thing: all images, many epochs. On CIFAR-10 it has been done for you: finished
# weights come with the course, and the next cell says when and how they were made. (They were
# trained with two more tricks. `cutout` erases a random square from each image, so that no single
# part of it can be learned by heart; DeVries and Taylor 2017. And `muon` is another way to step: it
# turns *all* directions of a layer's filters by the same amount, also those for which the gradient
# is faint; Jordan and others 2024. It needs fewer epochs. `kdutils/optim.py` has it on one screen.)
#
# On other images the teacher is trained right here. If the very same training was done before
# (same network, recipe, images), it is loaded instead. If it is cut off, it goes on from the last
# finished epoch next time.
#
# (In the `smoke` profile the teacher sees 2,000 images once and stays a beginner. Everything below
# runs, but the figures show a beginner. The text speaks of a teacher that has learned its trade.)

# %%
teacher = experiments.teacher(data)
print(teacher)

# %% [markdown]
# ## Reading the learning curve
#
# Training accuracy is measured *while* training, on shifted and mirrored images (with a square
# missing, where the recipe has `cutout`), with weights that change all the time. Validation accuracy
# is measured after each epoch, on unchanged images.
#
# **Before you run this:** in an early epoch, which of the two will be higher?

# %%
curves = {
    f"{split} images": [
        {"epoch": row["epoch"], "accuracy": row[f"{key}_accuracy"]} for row in teacher.history.rows
    ]
    for split, key in (("training", "train"), ("validation", "val"))
}
figure = plots.learning_curves(
    curves, y="accuracy", data_name=data.name, title="The teacher learns"
)
show(figure, "The teacher's accuracy on training and on validation images, epoch by epoch.")
step = max(1, recipe.epochs // 8)  # eight lines of the table will do, the last epoch among them
teacher.history.frame().round(3)[::-step][::-1]

# %% [markdown]
# Compare the two lines, or the two columns of the table. Validation is often *ahead* at first:
# training accuracy is an average over the epoch, and the network was worse at its beginning. Later
# training takes over, because those images have been seen before. How far the two end up apart is
# the **generalisation gap**: what was learned by heart.
#
# The last epoch counts, whatever it brought. We never pick the best one. (Why? Notebook 01: the
# champion.)

# %%
# Self-check
assert len(teacher.history.rows) == recipe.epochs, "One row for each epoch."
assert len(rehearsal.history.rows) == experiments.DEMO.epochs, "A rehearsal has its epochs, too."
logits, truth = train.predict(teacher.model, data.val), data.val.labels
score = metrics.summarise(logits, truth)
last = teacher.history.last["val_accuracy"]
assert abs(score.accuracy - last) < 0.005, "The network at hand is not the one in the curve."
print(f"✓ on validation: {score}")

# %% [markdown]
# ## Which classes does it mix up?
#
# The **confusion matrix** counts each pair: rows are true classes, columns are what the teacher
# said. The colour shows mistakes only.
#
# **Before you run this:** think of the sheet of samples in notebook 01. Which pair of classes will
# be mixed up most?

# %%
matrix = metrics.confusion_matrix(logits, truth)
show(
    plots.confusion(matrix, data.classes, data_name=data.name, model="teacher"),
    "Confusion matrix of the teacher: dark cells off the diagonal are its typical mistakes.",
)

# %% [markdown]
# Is the picture symmetric? If many A are called B, are many B called A? Now both directions added,
# the worst pairs first.

# %%
both_ways = torch.triu(matrix + matrix.T, diagonal=1)
for cell in both_ways.flatten().argsort(descending=True)[:5].tolist():
    a, b = divmod(cell, len(data.classes))
    print(f"{data.classes[a]} and {data.classes[b]}: mixed up {both_ways[a, b]} times")
share = both_ways.flatten().sort(descending=True).values[:5].sum() / both_ways.sum()
print(f"these 5 of 45 pairs make {100 * share:.0f} % of all mistakes")

# %% [markdown]
# Mistakes are not spread evenly. If they were, five pairs would make $5/45 \approx 11\,\%$ of them.
# A network that errs has still understood *something*: it goes wrong towards things that look
# alike.

# %%
# Self-check
right = int(matrix.diag().sum())
assert matrix.sum() == len(data.val), "Each validation image belongs in one cell."
assert abs(right / len(data.val) - score.accuracy) < 1e-6, "The diagonal is what is right."
assert both_ways.sum() == len(data.val) - right, "All the rest are mistakes."
assert share >= 5 / 45, "The five worst pairs hold at least their even share."
print("✓ every image in one cell, the diagonal is the accuracy")

# %% [markdown]
# ## Doubts say more than mistakes
#
# A mistake is all or nothing. The teacher's probabilities say more: a picture may be 80 % one class
# and 19 % another. Average these probabilities over all images of a class, and you get a map of
# **which classes resemble each other** in the teacher's eyes, even where it makes no mistake.
#
# For the drawn shapes we know the truth, since we made it. Then it stands beside the map.

# %%
similar = plots.similarity_heatmaps(
    logits, truth, data.classes, temperatures=(1,), truth=data.similarity, data_name=data.name
)
show(similar, "How alike the teacher finds each pair of classes, from 0 (pale) to 1 (dark).")

# %% [markdown]
# Compare it with the confusion matrix: the same pairs should stand out. A good teacher is sure
# nearly everywhere, so the rest of its map stays almost empty. In notebook 04 a single knob, the
# *temperature*, will make it visible. (That is what $T = 1$ above the map means: the knob is not
# turned yet.)
#
# **Before you run this:** when the teacher's first choice is wrong, how often is its *second*
# choice right? Blind guessing among the other nine would be right in 11 % of these cases.

# %%
ranked = logits.argsort(dim=1, descending=True)
hits = (ranked == truth.unsqueeze(1)).float().mean(0).cumsum(0)  # top-1, top-2, …, top-10
rescued = (hits[1] - hits[0]) / (1 - hits[0])
print(f"right with the first guess:      {100 * hits[0]:.1f} %")
print(f"right with one of two guesses:   {100 * hits[1]:.1f} %")
print(f"right with one of three guesses: {100 * hits[2]:.1f} %")
print(f"when the first is wrong, the second is right in {100 * rescued:.0f} % of cases")

# %% [markdown]
# Compare the last number with 11 %. For a teacher that has learned its trade the runner-up is far
# from a guess. So there is knowledge in the small probabilities, and a label, which names one class
# and is silent about the others, has none of it. Remember this number. It is why distillation can
# work at all.

# %%
# Self-check
assert abs(hits[0].item() - score.accuracy) < 1e-6, "Top-1 is the accuracy."
assert (hits.diff() >= -1e-6).all(), "More guesses can only help."
assert abs(hits[-1].item() - 1) < 1e-5, "With ten guesses of ten nobody fails."
print("✓ first, second, third guesses add up")

# %% [markdown]
# ## Its surest mistakes
#
# Look at the images on which the teacher was *most sure and wrong*. The dark bar is the label's.

# %%
sure, said = logits.softmax(-1).max(-1)
wrong = (said != truth).nonzero().flatten()
surest = wrong[sure[wrong].argsort(descending=True)][:8].tolist()
mistakes = plots.dark_knowledge_gallery(
    data.val.images, truth, logits, data.classes, temperature=1, indices=surest, data_name=data.name
)
show(mistakes, "The validation images on which the teacher was most sure and wrong.")

# %% [markdown]
# Would you have known better? Sometimes yes. Sometimes the picture is hard for anybody. With
# photographs you may now and then doubt the *label*: about half a per cent of CIFAR-10's test
# labels are thought to be wrong (Northcutt et al. 2021). With drawn shapes the label is never
# wrong, but some pictures truly lie between two classes. Either way, one hard label says more than
# anybody can know.

# %% [markdown]
# ## Is it as right as it is sure?
#
# When the teacher says "90 %", is it right nine times in ten? Then it is **calibrated**. We check
# by sorting images into bins of confidence. In each bin we compare the mean confidence with the
# accuracy. On the dotted line both agree. Below it the network is too sure, above it too modest.
#
# This matters more for a teacher than for others: its *probabilities* are what the student will
# learn.

# %%
bins = metrics.reliability(logits, truth, bins=15)
show(
    plots.reliability_diagram({"teacher": bins}, data_name=data.name),
    "Accuracy against confidence for the teacher, above a chart of how often each confidence occurs.",
)

# %% [markdown]
# Look at the lower panel first: where do most images lie? A point far from the line matters little
# if few images are in its bin. The **expected calibration error** weighs each bin by its share of
# the images:
#
# $$\text{ECE} = \sum_{\text{bins } b} \frac{n_b}{n}\,
# \bigl|\text{accuracy}_b - \text{confidence}_b\bigr|$$
#
# An ECE of 5 % means: on average, the stated confidence is 5 points off. Let us compute it by hand.

# %%
ece = sum(b.count / len(truth) * abs(b.accuracy - b.confidence) for b in bins)
mean_sure = sure.mean().item()
print(f"ECE by hand: {100 * ece:.2f} %")
print(f"on average {100 * mean_sure:.1f} % sure, {100 * score.accuracy:.1f} % right")

# %%
# Self-check
assert sum(b.count for b in bins) == len(truth), "Each image belongs in one bin."
assert abs(ece - score.ece) < 1e-3, "Our sum and torchmetrics should agree."
assert ece >= abs(mean_sure - score.accuracy) - 1e-3, "ECE is at least the gap of the averages."
print("✓ our ECE is torchmetrics' ECE")

# %% [markdown]
# A warning: a low ECE does not make a network good. One that says "10 % each" to everything, on ten
# equally frequent classes, is perfectly calibrated, and useless. Accuracy and calibration are two
# questions.
#
# ## Why we have not looked at the test images
#
# We have looked at validation from five sides, and what we saw will shape what we do: which recipe,
# which temperature, which pairs to study. Each look is a choice that fits a little too well to
# these images. One set must stay unseen, so that the last number is not flattered. Notebook 06
# opens it: once, for the final networks.

# %%
# Self-check
assert not any("test" in key for key in teacher.history.last), "Nobody measured on test."
assert score.n == len(data.val), "All numbers above are from validation."
low, high = (100 * end for end in score.interval)
print(f"✓ validation: {100 * score.accuracy:.1f} %, 95 % interval {low:.1f} to {high:.1f} %")

# %% [markdown]
# ## Exercises
#
# **1. Twice as wide.** Suppose each layer has twice as many channels. By what factor will the
# parameters grow? And the multiply-adds? Decide first, then count.
#
# <details><summary>Solution</summary>
#
# ```python
# wide = models.Teacher(widths=(48, 128, 256, 512))
# print(models.count_parameters(wide) / models.count_parameters(blank))
# print(models.count_macs(wide) / models.count_macs(blank))
# ```
#
# Nearly 4 both times: a convolution has $9 \cdot c_{in} \cdot c_{out}$ weights, and *both* channel
# counts double. (The first layer only doubles, since the image keeps its 3 colours.)
#
# </details>

# %% [markdown]
# **2. One number that calibrates.** Divide all logits by one number $T$ before the softmax. Which
# $T$ between 0.5 and 3 gives the lowest loss (NLL) on validation? What happens to accuracy and ECE?
#
# <details><summary>Solution</summary>
#
# ```python
# temperatures = torch.linspace(0.5, 3, 51)
# scores = [metrics.summarise(logits / t, truth) for t in temperatures]
# best = min(range(51), key=lambda i: scores[i].nll)
# print(f"T = {temperatures[best]:.2f}: {scores[best]}")
# print(f"T = 1.00: {score}")
# ```
#
# Accuracy cannot change, because dividing keeps the order of the logits. The NLL falls (or stays),
# and the ECE usually falls with it. A best $T$ above 1 means that the teacher was too sure. This is
# *temperature scaling* (Guo et al. 2017), and the same $T$ is the heart of distillation.
#
# </details>

# %% [markdown]
# **3. A perfectly calibrated fool.** Make logits that are all zero, and let `metrics.summarise`
# score them. Explain all three numbers.
#
# <details><summary>Solution</summary>
#
# ```python
# print(metrics.summarise(torch.zeros_like(logits), truth))
# ```
#
# It says 10 % to every class, so its top class (the first) is right as often as that class occurs:
# with equally frequent classes 10 %. Confidence 10 %, accuracy 10 %, so the ECE is about 0. The NLL
# is $\log 10 = 2.303$.
#
# </details>

# %% [markdown]
# ## In three lines
#
# - A convolution has $9 \cdot c_{in} \cdot c_{out}$ weights and uses each once for every output
#   pixel: parameters sit late, work is done everywhere.
# - The teacher's mistakes and doubts have a pattern: it errs towards classes that look alike, and
#   its second choice is far better than a guess.
# - ECE asks if it is as right as it is sure; we ask it on validation, for the test images wait
#   until notebook 06.

# %% [markdown]
# ## References
#
# - K. He, X. Zhang, S. Ren, J. Sun, *Deep Residual Learning for Image Recognition*, 2015,
#   arXiv:1512.03385.
# - D. Page, *How to train your ResNet*, 2018, and K. Jordan, *94% on CIFAR-10 in 3.29 Seconds on a
#   Single GPU*, 2024, arXiv:2404.00498: the whitened first layer.
# - S. Ioffe, C. Szegedy, *Batch Normalization: Accelerating Deep Network Training by Reducing
#   Internal Covariate Shift*, 2015, arXiv:1502.03167.
# - L. N. Smith, *Cyclical Learning Rates for Training Neural Networks*, 2015, arXiv:1506.01186: the
#   triangle.
# - K. Jordan and others, *Muon: An optimizer for hidden layers in neural networks*, 2024,
#   [kellerjordan.github.io/posts/muon](https://kellerjordan.github.io/posts/muon/)
# - T. DeVries, G. W. Taylor, *Improved Regularization of Convolutional Neural Networks with Cutout*,
#   2017, arXiv:1708.04552.
# - C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, *On Calibration of Modern Neural Networks*, 2017,
#   arXiv:1706.04599: reliability diagrams, ECE, temperature scaling.
# - C. G. Northcutt, A. Athalye, J. Mueller, *Pervasive Label Errors in Test Sets Destabilize
#   Machine Learning Benchmarks*, 2021, arXiv:2103.14749.
# - G. Hinton, O. Vinyals, J. Dean, *Distilling the Knowledge in a Neural Network*, 2015,
#   arXiv:1503.02531.
#
# **Next:** [03 · The student](03_student.ipynb), the network that must fit in a pocket.
