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
# # 04 · Soft targets: what a teacher knows and a label does not say
#
# A label is one word: *cat*. A teacher's output is a whole sentence: *a cat, surely; a little
# like a dog; nothing like a lorry*. Distillation trains a student on that sentence. This notebook
# is about the sentence itself, and about the formula that compares two of them.
#
# **After this notebook you will be able to**
#
# - **soften** the outputs of a network with a temperature, and say what happens to every number;
# - **read** the "dark knowledge" in a teacher's second and third choices;
# - **derive** the distillation loss, factor $T^2$ included, and check each step with numbers;
# - **recognise** two silent mistakes that weaken the loss by a factor you can name in advance.
#
# **Needs:** notebooks 02 and 03, or just an idea of what a logit is. **Time:** half a minute on
# two cores (`class` profile) when notebook 03 has run before; else a student is trained first,
# which takes a minute or two (and a teacher, on images for which none comes with the course).

# %%
import warnings

import numpy as np
import torch

import kdutils
from kdutils import losses, metrics, models, train
from kdutils.course import experiments, plots, widgets
from kdutils.course.plots import show
from kdutils.course.widgets import demo

kdutils.settings()

# %%
data = experiments.load_data()
data

# %% [markdown]
# We need a teacher and its **logits**: the ten raw numbers that come out before the softmax. All
# figures here use *validation* images. The teacher has never trained on them, and the test images
# stay in their envelope until notebook 06.

# %%
teacher = experiments.teacher(data)
logits = train.predict(teacher.model, data.val)
labels, classes = data.val.labels, data.classes
print(teacher)
print(f"{len(logits):,} validation images, {logits.shape[1]} logits each")

# %% [markdown]
# ## 1 · A temperature for the softmax
#
# Softmax turns logits $z$ into probabilities. Hinton, Vinyals and Dean (2015) put one number into
# it, the **temperature** $T$:
#
# $$p_i = \frac{e^{z_i / T}}{\sum_j e^{z_j / T}}$$
#
# $T = 1$ is the softmax you know. Take three logits by hand first: 5 for *cat*, 3 for *dog*, $-2$
# for *lorry*.
#
# **Before you run this:** at $T = 1$ the cat has 88 %. What do you expect at $T = 4$: will the dog
# overtake it? Will dog and lorry grow by the same factor?

# %%
# NBVAL_CHECK_OUTPUT
by_hand = torch.tensor([5.0, 3.0, -2.0])
for temperature in (0.5, 1, 4, 20):
    cat, dog, lorry = losses.softened(by_hand, temperature).tolist()
    print(f"T = {temperature:>4}:  cat {cat:6.1%}   dog {dog:6.1%}   lorry {lorry:6.1%}")

# %% [markdown]
# Nobody overtakes anybody. Dividing by $T$ keeps the *order* of the logits, and so the
# prediction. What changes is the *spread*: warm outputs move towards "all alike", cold ones
# towards "all on one". And the smallest probability grows most. Temperature is a loudspeaker for
# whispers.

# %%
# Self-check
soft = losses.softened(logits, 4.0)
assert torch.allclose(soft.sum(-1), torch.ones(len(soft))), "each row must sum to one"
same = soft.argmax(-1) == losses.softened(logits, 1.0).argmax(-1)
assert same.all(), "a temperature must never change the prediction"
print("Right: every row sums to one, and no prediction has changed.")

# %% [markdown]
# Now a real image. The code picks one on which the teacher is right and sure, and yet has a clear
# second choice. The yellow band marks the label.

# %%
telling = plots.dark_knowledge_examples(logits, labels, count=8)
telling = telling or [*range(8)]  # a teacher of the smoke profile may be sure of nothing yet
first = telling[0]
figure = plots.softmax_temperature_bars(
    logits[first], (1, 4, 20), classes, label=int(labels[first]), image=data.val.images[first],
    data_name=data.name,
)  # fmt: skip
show(figure, "One image and the teacher's probabilities for it at T = 1, 4 and 20: the bars even "
     "out as the temperature rises, and keep their order.")  # fmt: skip

# %% [markdown]
# A well-trained teacher shows one tall bar at $T = 1$: little to learn beyond the label. At $T = 4$
# the rivals stand up, in an order of their own. At $T = 20$ the order is still there, but the
# differences are small.

# %% [markdown]
# ## 2 · Drag it yourself
#
# The slider below holds real outputs: the teacher's, and those of the student that notebook 03
# trained on labels. Drag the temperature, press a preset, or *sweep*. The first images are
# those of which the teacher seems quite sure at $T = 1$ and has more to say when warm. Choose "most
# confused" to meet the images that it found hardest, or "teacher and student disagree". Watch the
# bars, the entropy, and the last column: which classes the student would have to learn about from this
# image, if it were taught by these soft targets.

# %%
student = experiments.baseline(data)
student_logits = train.predict(student.model, data.val)
explorer = widgets.temperature_explorer(
    data.val.images, labels, logits, classes, student_logits, data_name=data.name
)
explorer

# %% [markdown]
# Reading this on a web page, without a running kernel? Here is one of the
# images, held still at three temperatures.

# %%
show(explorer.still(), "Three stills of the temperature slider: the same image at a low, a middle "
     "and a high temperature; the student's bars stand under the teacher's.")  # fmt: skip

# %% [markdown]
# ## 3 · Dark knowledge
#
# Hinton's name for what lies in the wrong answers is *dark knowledge*. The label says nothing about
# them. The teacher says: this one is a bit like that one. No label ever told it so. It found out by
# itself, because things that look alike stir the same features.
#
# **Before you run this:** eight images follow on which the teacher is right. For which classes do
# you expect a strong second choice, and which one?

# %%
figure = plots.dark_knowledge_gallery(
    data.val.images, labels, logits, classes, indices=telling, data_name=data.name
)
show(figure, "Eight images, each over the teacher's four favourite classes at T = 4. The dark bar "
     "is the label, the light ones are what else the teacher sees.")  # fmt: skip

# %% [markdown]
# Look at each second choice and ask: *what in this picture earned it?* A colour, a background, a
# pose? Two images of one class can have different second choices. That is information about the
# **image**, and no label of any kind carries it.
#
# Let the code count it: for each class, the most frequent runner-up over all its validation images.

# %%
ranking = logits.argsort(-1, descending=True)
second = torch.where(ranking[:, 0] == labels, ranking[:, 1], ranking[:, 0])  # best wrong class
for number, name in enumerate(classes):
    counts = torch.bincount(second[labels == number], minlength=len(classes))
    share, rival = counts.max().item() / counts.sum().item(), counts.argmax().item()
    print(f"{name:>12}: its rival is most often {classes[rival]} ({share:.0%} of the images)")

# %%
# Self-check
assert (second != labels).all(), "a rival is never the label itself"
assert torch.bincount(second, minlength=len(classes)).sum() == len(labels), "one rival an image"
print("Right: one rival for every image, and it is never the true class.")

# %% [markdown]
# ## 4 · How much is in a soft target? Entropy
#
# **Entropy** measures how undecided a distribution is, in nats:
#
# $$H(p) = -\sum_i p_i \log p_i$$
#
# It is 0 for a one-hot label, and $\log C$ when all $C$ classes are equally likely. Between these
# two ends lies everything that a soft target can add.

# %%
figure = plots.entropy_curve(logits, data_name=data.name)
show(figure, "Entropy of the teacher's softened outputs against temperature, median and middle 80 "
     "% of images: it climbs towards log C.")  # fmt: skip

# %% [markdown]
# The curve can only climb. In fact $\frac{dH}{dT} = \frac{\operatorname{Var}(z)}{T^3}$, with the
# variance taken under $p$ itself, and a variance is never negative. The *useful* temperatures are
# in the middle: far enough from 0 that the rivals can be heard, far enough from $\log C$ that
# they can still be told apart.

# %%
# Self-check
grid = (0.5, 1, 2, 4, 8, 20)
curves = torch.stack([metrics.entropy(losses.softened(logits.double(), t)) for t in grid])
assert (curves.diff(dim=0) > -1e-9).all(), "entropy must not fall when T rises"
assert (curves <= torch.tensor(len(classes)).log() + 1e-6).all(), "log C is the ceiling"
print("Right: entropy rises with T for every image, and stays below log C.")

# %% [markdown]
# ## 5 · Which classes look alike?
#
# Average the softened outputs over all images of a class, and each class gets a row: how much do
# its images look like every other class? The map below makes that symmetric and scales it, so
# that two classes score 1 when the teacher cannot tell them apart at all. The diagonal is left
# out.
#
# **Before you run this:** at which temperature do you expect the clearest map: 1, 4 or 20?

# %%
figure = plots.similarity_heatmaps(
    logits, labels, classes, (1, 4, 20), truth=data.similarity, data_name=data.name
)
show(figure, "Maps of class similarity according to the teacher at T = 1, 4 and 20; a last panel "
     "shows the known truth where there is one.")  # fmt: skip

# %% [markdown]
# When it is too cold, a good teacher leaves most cells nearly empty: it is too sure of itself to
# say who resembles whom. When it is too warm, everything resembles everything. All maps share one
# colour scale, so you can see both happen. The list names the pairs; see whether they make sense
# to you.

# %%
alike = plots.relative_similarity(logits, labels, 4.0)
pairs = [(alike[i, j], classes[i], classes[j]) for i in range(len(classes)) for j in range(i)]
for value, one, other in sorted(pairs, reverse=True)[:5]:
    print(f"{one} and {other}: {value:.2f}")
print("least alike:", " and ".join(min(pairs)[1:]))

# %% [markdown]
# For photographs nobody knows the true similarity. For the drawn set `shapes` we built it
# ourselves, so the teacher's map can be *marked* like an exam. The score is the rank correlation
# over all pairs: 1 is the same order as the truth, 0 is chance.

# %%
above = np.triu_indices(len(classes), 1)  # each pair of classes once
for temperature in (1, 4, 20):
    found = plots.relative_similarity(logits, labels, temperature)[above]
    if data.similarity is None:
        print(f"T = {temperature}: no truth to compare with; spread over pairs {found.std():.3f}")
    else:
        score = metrics.rank_correlation(found, data.similarity.numpy()[above])
        print(f"T = {temperature}: rank correlation with the truth {score:+.2f}")

# %% [markdown]
# Now compare the three lines. A map can be pale and still have the right *order*. If its score
# (or, for photographs, its ranking of pairs) hardly depends on $T$, the knowledge was there all
# along. Heat does not create it. Heat makes it loud enough to learn from.
#
# The same map, live: press *sweep* and watch it go from empty to full.

# %%
class_map = widgets.class_map(logits, labels, classes, truth=data.similarity, data_name=data.name)
class_map

# %%
show(class_map.still((0.5, 2, 8)), "The class map at T = 0.5, 2 and 8, in between the "
     "temperatures above: the warmer, the fuller and the more even.")  # fmt: skip

# %% [markdown]
# Does the teacher get the family right? For photographs nobody knows the true likeness of a cat
# and a dog. For the drawn shapes we do: they were generated from it. So here is the same figure
# for the shapes, with a teacher whose answers come with the course, beside the truth.

# %%
drawn = demo.shapes()
true_map = widgets.class_map(
    drawn.teacher_logits, drawn.labels, drawn.classes, truth=drawn.truth, data_name=drawn.name
)
true_map

# %%
show(true_map.still((1, 4, 20)), "The class map of the drawn shapes at T = 1, 4 and 20, and on the "
     "right the likeness that they were generated from.")  # fmt: skip

# %%
# Self-check
cold, warm = (plots.relative_similarity(logits, labels, t)[above] for t in (0.5, 1000))
assert warm.min() > 0.9, "at T = 1000 every class must look like every other"
assert cold.mean() < warm.mean(), "a cold map must be emptier than a warm one"
print("Right: the map fills up as the temperature rises.")

# %% [markdown]
# ## 6 · The loss, step by step
#
# ### Step 1: a distance between two sentences
#
# The student has logits $z$, the teacher $v$. Soften both with the *same* $T$, and compare with the
# Kullback-Leibler divergence:
#
# $$\mathrm{KL}(q \,\|\, p) = \sum_i q_i \log\frac{q_i}{p_i}, \qquad
# q = \mathrm{softmax}(v/T), \quad p = \mathrm{softmax}(z/T)$$
#
# Read it as *the surprise of somebody who expects $p$ while $q$ is true*. The teacher $q$ comes
# first, since it is our truth. The student here is a fresh one with random weights.

# %%
some = data.val.subset(min(1000, len(data.val)))
z = train.predict(models.build("student", 0, classes=len(data.classes)), some).double()
v = train.predict(teacher.model, some).double()
q, p = losses.softened(v, 4.0), losses.softened(z, 4.0)
print(f"KL(teacher ‖ student) = {metrics.kl_divergence(q, p).mean():.6f} nats")
print(f"KL(student ‖ teacher) = {metrics.kl_divergence(p, q).mean():.6f} nats: not the same")
print(f"KL(teacher ‖ teacher) = {metrics.kl_divergence(q, q).mean():.6f} nats: nothing to learn")

# %% [markdown]
# Three facts to hold on to. The divergence is never negative. It is zero exactly when student and
# teacher agree. And it differs from the cross entropy with soft targets, $-\sum_i q_i \log p_i$,
# only by the teacher's entropy $H(q)$, which does not depend on the student: *both have the same
# gradient*.

# %%
# Self-check
cross_entropy = -(q * p.log()).sum(-1)
gap = cross_entropy - metrics.kl_divergence(q, p) - metrics.entropy(q)
assert gap.abs().max() < 1e-9, "cross entropy must equal KL plus the teacher's entropy"
assert losses.soft_target_loss(v, v, 4.0) < 1e-12, "a perfect copy must have no loss"
assert losses.soft_target_loss(v + 7, v, 4.0).abs() < 1e-9, "a shift of all logits is invisible"
print("Right: and adding 7 to all ten logits changes nothing; softmax cannot see it.")

# %% [markdown]
# ### Step 2: the gradient
#
# Training feels a loss only through its gradient. Differentiate with respect to the student's
# logits. The chain rule gives one factor $1/T$ from $z/T$, and the rest is the classic result for
# softmax:
#
# $$\frac{\partial\,\mathrm{KL}}{\partial z_i} = \frac{1}{T}\,(p_i - q_i)$$
#
# *Student minus teacher*, class by class. Autograd should say the same.


# %%
def gradient(temperature: float, keep_t2: bool) -> torch.Tensor:
    """Gradient of the KL term on each image's student logits, by autograd."""
    leaf = z.clone().requires_grad_()
    loss = losses.soft_target_loss(leaf, v, temperature) * len(z)  # undo the mean over images
    (grad,) = torch.autograd.grad(loss, leaf)
    return grad if keep_t2 else grad / temperature**2


for temperature in (1.0, 4.0, 20.0):
    p, q = losses.softened(z, temperature), losses.softened(v, temperature)
    error = (gradient(temperature, keep_t2=False) - (p - q) / temperature).abs().max()
    print(f"T = {temperature:4.0f}: formula and autograd differ by at most {error:.0e}")

# %% [markdown]
# ### Step 3: why there is a $T^2$
#
# There is a second $1/T$ hidden in $p - q$: two warm distributions are both nearly even, so their
# difference is small as well. Together the gradient shrinks like $1/T^2$.
#
# **Before you run this:** on a double-logarithmic plot a law $1/T^2$ is a straight line of slope
# $-2$. From which temperature on do you expect the measured points to follow it? And what will the
# line with the factor $T^2$ do?

# %%
temperatures = [1, 2, 4, 8, 16, 32, 64]
measured = {
    "KL alone": [gradient(t, keep_t2=False).norm(dim=-1).mean() for t in temperatures],
    "T² · KL": [gradient(t, keep_t2=True).norm(dim=-1).mean() for t in temperatures],
}
figure = plots.gradient_scale_plot(temperatures, measured, data_name=data.name)
show(figure, "Mean size of the gradient against temperature, both axes logarithmic. The KL alone "
     "falls along the dotted 1/T² line; multiplied by T² it goes level.")  # fmt: skip

# %% [markdown]
# At small $T$ the law is only roughly true; the softmax is far from even there. At large $T$ it is
# exact. So Hinton and colleagues multiply the soft term by $T^2$:
#
# $$\mathcal{L}_\text{soft} = T^2\;\mathrm{KL}\big(\mathrm{softmax}(v/T)\,\|\,\mathrm{softmax}(z/T)\big),
# \qquad \frac{\partial \mathcal{L}_\text{soft}}{\partial z_i} = T\,(p_i - q_i)$$
#
# Now turning the temperature changes *what* the student hears, not *how loudly*.

# %%
# Self-check
for temperature in (1.0, 4.0, 20.0):
    formula = temperature * (losses.softened(z, temperature) - losses.softened(v, temperature))
    error = (gradient(temperature, keep_t2=True) - formula).abs().max()
    assert error < 1e-9, f"autograd and T (p - q) differ at T = {temperature}"
ratio = (gradient(256, keep_t2=False).norm() / gradient(128, keep_t2=False).norm()).item()
assert abs(ratio - 1 / 4) < 0.02, "twice the temperature must mean a quarter of the gradient"
print(f"Right: from T = 128 to 256 the bare gradient shrinks to {ratio:.3f} of its size.")

# %% [markdown]
# ### Step 4: what forgetting $T^2$ does to the weight
#
# The full loss mixes both teachers, the network and the label:
#
# $$\mathcal{L} = w \, \mathcal{L}_\text{soft} + (1 - w)\,\bigl(-\log \mathrm{softmax}(z)_y\bigr)$$
#
# We call $w$ the **soft weight**. (Papers call it $\alpha$, or use $\alpha$ for the *other* half;
# look twice when you copy one.) You set $w = 0.9$ and mean: 90 % teacher. How much of the push on
# the student's logits really comes from the teacher?

# %%
weight, one_hot = 0.9, torch.eye(len(classes)).double()[some.labels]
hard = (1 - weight) * (losses.softened(z, 1.0) - one_hot).norm(dim=-1).mean()
for temperature in (1, 2, 4, 10, 20):
    shares = []
    for keep_t2 in (True, False):
        soft = weight * gradient(temperature, keep_t2).norm(dim=-1).mean()
        shares.append((soft / (soft + hard)).item())
    print(f"T = {temperature:>2}: teacher's share {shares[0]:4.0%}, without T² {shares[1]:4.0%}")

# %% [markdown]
# With $T^2$ the teacher's share settles as $T$ gets warm. It is not simply 90 %: how hard each
# voice pushes also depends on how far the student is from what it says. Without $T^2$ the teacher
# fades away as $T$ grows, though the code still says 0.9. And something else happens: the hard
# term keeps its weight of 0.1. So the whole push becomes weak, as if somebody had secretly turned
# down the learning rate. *Nothing crashes. The student just learns less.* Keep this in mind for
# the table that this series sets out to beat.

# %% [markdown]
# ### Step 5: at high temperature, distillation is logit matching
#
# What does the student chase when $T$ is large? Expand the exponentials to first order, and the
# divergence turns into something plain:
#
# $$T^2\,\mathrm{KL} \;\longrightarrow\; \frac{1}{2C}\sum_i \big((z_i - \bar z) - (v_i - \bar v)\big)^2
# \qquad (T \to \infty)$$
#
# Half the mean squared distance between the logits, each first freed of its own mean. That is the
# loss which Ba and Caruana (2014) had used before anybody spoke of temperature.

# %%
# NBVAL_CHECK_OUTPUT
mine = torch.tensor([[2.0, -1.0, 0.5]], dtype=torch.float64)
theirs = torch.tensor([[4.0, 1.0, -2.0]], dtype=torch.float64)
limit = losses.logit_matching_loss(mine, theirs)
for temperature in (1, 4, 20, 100, 1000):
    loss = losses.soft_target_loss(mine, theirs, temperature)
    print(f"T = {temperature:>4}: T²·KL = {loss:.4f}, logit matching {limit:.4f}")

# %% [markdown]
# So temperature is a dial between two losses. Small $T$: only the top few classes matter, and a
# logit far below them is ignored. Large $T$: all ten logits count alike, the very unlikely ones
# too. Which is better? That is a question for an experiment, and notebook 05 runs it.

# %%
# Self-check
distances = [(losses.soft_target_loss(z, v, t) - losses.logit_matching_loss(z, v)).abs().item()
             for t in (100, 1000)]  # fmt: skip
assert distances[0] > distances[1], "the limit must come nearer as T grows"
assert distances[1] < 0.03 * losses.logit_matching_loss(z, v), "T = 1000 is as good as infinity"
print("Right: on real logits, too, a hot soft-target loss is logit matching.")

# %% [markdown]
# ### Step 6: sum over classes, average over images
#
# One more trap, and PyTorch itself lays it. The divergence is a *sum* over classes. We want the
# *average* over the images of a batch. In `torch.nn.functional.kl_div` that is called
# `reduction="batchmean"`. The **default** is `"mean"`, which averages over classes as well.
#
# **Before you run this:** with ten classes, what do you expect the default to give: about the same,
# or something else?

# %%
log_p, log_q = (z / 4).log_softmax(-1), (v / 4).log_softmax(-1)
kl_div = torch.nn.functional.kl_div
right = kl_div(log_p, log_q, reduction="batchmean", log_target=True)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    wrong = kl_div(log_p, log_q, reduction="mean", log_target=True)
print(f"batchmean / mean = {right / wrong:.4f}")
print("PyTorch warns:", str(caught[0].message).split(".")[0] if caught else "not in this version")

# %% [markdown]
# Exactly $C$ times weaker. It is a plausible number of the right sign, and it falls during training
# as a loss should. Put both mistakes together and you can say in advance what they cost.

# %%
# NBVAL_CHECK_OUTPUT
for temperature in (2, 4, 10):
    print(f"T = {temperature:>2}, 10 classes: no T² and reduction 'mean' make the soft term "
          f"{temperature**2 * 10:>4} times weaker")  # fmt: skip

# %%
# Self-check
assert torch.isclose(right, len(classes) * wrong), "the two reductions differ by the class count"
ours = losses.soft_target_loss(z, v, 4.0)
assert torch.isclose(ours, 16 * right), "our loss is T² times the batchmean"
by_label = torch.nn.functional.cross_entropy(z, some.labels)
whole = losses.distillation_loss(z, v, some.labels, temperature=4.0, soft_weight=0.9)
assert torch.isclose(whole, 0.9 * ours + 0.1 * by_label), "the full loss is the weighted sum"
print("Right: the loss of the package is the one derived here, piece by piece.")

# %% [markdown]
# ## Exercises
#
# **1. A thermometer.** Find the temperature at which the teacher's *average* entropy over the
# validation images is exactly half of $\log C$. Entropy rises with $T$, so you can bisect.
#
# <details><summary>Solution</summary>
#
# ```python
# low, high, goal = 0.01, 100.0, 0.5 * torch.tensor(len(classes)).log()
# for _ in range(40):
#     middle = (low * high) ** 0.5
#     warm = metrics.entropy(losses.softened(logits, middle)).mean() > goal
#     low, high = (low, middle) if warm else (middle, high)
# print(f"T = {middle:.2f}")
# ```
#
# The answer depends on the teacher. A network that is very sure of itself needs more heat: the
# number tells you what "warm" means *for this teacher*, which no paper can.
# </details>
#
# **2. The cold end.** What does $\mathcal{L}_\text{soft} / T$ tend to as $T \to 0$? Work it out on
# paper for one image on which student and teacher have different favourites, then check with
# `losses.soft_target_loss(mine, theirs, 0.01)`.
#
# <details><summary>Solution</summary>
#
# A cold $q$ is one-hot on the teacher's favourite $k$, with entropy zero. So $\mathrm{KL} \to
# -\log p_k = (\max_j z_j - z_k)/T$, and $\mathcal{L}_\text{soft} / T = T\,\mathrm{KL} \to \max_j
# z_j - z_k$. Here both favourites are class 0, so the limit is 0; try `theirs.flip(-1)`, whose
# favourite is class 2: the limit is $2 - 0.5 = 1.5$. A cold soft target is nothing but a label
# that the teacher wrote.
# </details>
#
# **3. Turn it round.** Train towards $\mathrm{KL}(p \,\|\, q)$ instead, student first. For one
# image, print both divergences for a student that spreads over two classes where the teacher has
# one favourite, and the other way round. Which mistake does each of them punish?
#
# <details><summary>Solution</summary>
#
# ```python
# peaked, spread = torch.tensor([0.98, 0.01, 0.01]), torch.tensor([0.495, 0.495, 0.01])
# print(metrics.kl_divergence(peaked, spread), metrics.kl_divergence(spread, peaked))
# ```
#
# KL(teacher ‖ student) punishes a student that gives *too little* to something the teacher deems
# possible; it wants every whisper heard. The reverse punishes a student that believes in things
# which the teacher rules out; it is happy to copy the loudest voice only.
# </details>

# %% [markdown]
# ## In three lines
#
# - A temperature keeps a teacher's order and lifts its whispers; the whispers say what resembles
#   what.
# - The loss is $T^2$ times a KL divergence, summed over classes and averaged over images; $T^2$
#   keeps the soft weight honest.
# - Forget $T^2$, or take the default reduction, and nothing crashes: the teacher just falls silent.
#
# ## References
#
# - G. Hinton, O. Vinyals, J. Dean (2015), *Distilling the Knowledge in a Neural Network*,
#   arXiv:1503.02531.
# - L. J. Ba, R. Caruana (2014), *Do Deep Nets Really Need to be Deep?*, arXiv:1312.6184.
# - C. Buciluǎ, R. Caruana, A. Niculescu-Mizil (2006), *Model Compression*, KDD 2006.
# - T. Kim, J. Oh, N. Kim, S. Cho, S.-Y. Yun (2021), *Comparing Kullback-Leibler Divergence and Mean
#   Squared Error Loss in Knowledge Distillation*, arXiv:2105.08919.
# - Next: notebook 05 trains a student on these targets.
