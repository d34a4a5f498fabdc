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
# # 01 · The data: small images, three splits, fifty views
#
# **After this notebook you will be able to**
#
# - **say** what a network really receives when it "sees" an image, and how much of it there is;
# - **explain** why there are three splits, and show with dice what goes wrong with only two;
# - **predict** what augmentation does to an image, and why ours has exactly fifty versions;
# - **check** that every image meets all fifty before it meets one twice;
# - **measure** two input pipelines fairly, and say which part of the time each one wastes.
#
# **Needs:** Python you can read; no deep learning yet. **Time:** half a minute on two cores
# (`class` profile).

# %% [markdown]
# ## A mystery to begin with
#
# A large network (the **teacher**) can help to train a small one (the **student**). The student
# learns from the teacher's *opinions* as well as from the labels. That is **knowledge
# distillation**. It is meant to make the student better. Now look at this published result:
#
# | network | accuracy | parameters |
# |---|---:|---:|
# | teacher | 83.13 % | 4,664,970 |
# | student, trained on labels only | 72.70 % | 106,826 |
# | student, distilled | **70.86 %** | 106,826 |
#
# Distillation made that student *worse*. Was it a mistake? Bad luck? Is distillation a myth? By
# notebook 06 you will have a better student, numbers you can trust, and an idea of what went wrong.
#
# Every answer starts with the data. That is where most mistakes hide, too.

# %%
import torch

import kdutils
from kdutils import timing, views
from kdutils.course import experiments
from kdutils.course.naive_loop import textbook_loader
from kdutils.course.plots import class_balance, pixel_histogram, sample_sheet, show, view_grid
from kdutils.train import take

kdutils.settings()

# %% [markdown]
# The table above says how this notebook will run. `data` names the images, `profile` says how much
# work is done (`smoke`, `class` or `full`). Two environment variables decide them, `KDUTILS_DATA`
# and `KDUTILS_PROFILE`. There are no other switches.
#
# One call loads everything. If CIFAR-10 is not to be had, a set of drawn shapes stands in. Then a
# banner says so here, and every figure carries the name.

# %%
data = experiments.load_data()
data

# %% [markdown]
# ## What an image is
#
# To a network an image is a block of numbers: 3 colour channels, each 32 rows of 32 pixels. A pixel
# is a whole number from 0 (dark) to 255 (bright), which fits in one byte. The label is a number
# too. It is an index into the list of class names.

# %%
image, label = data.train.images[0], int(data.train.labels[0])
print(f"{data.name}: {data.train.images.dtype}, shape {tuple(data.train.images.shape)}")
print(f"label {label} means {data.classes[label]!r}")
print("the top left corner of the red channel:")
print(image[0, :4, :6])

# %% [markdown]
# How much is that? Count before you read on: $3 \times 32 \times 32$ bytes for one image, and then
# all images together. A 12-megapixel photograph from a phone has more than ten thousand times as
# many pixels as one of ours.

# %%
# NBVAL_CHECK_OUTPUT
bytes_each = 3 * 32 * 32
print(f"one image: {bytes_each:,} bytes")
print(f"50,000 images: {50_000 * bytes_each / 1e6:.1f} MB")

# %% [markdown]
# All of it fits in memory many times over. So this course keeps it there, as bytes, and never
# opens a file again. Remember that when we come to speed.

# %%
# Self-check
for name, split in data.splits.items():
    assert split.images.shape[1:] == (3, 32, 32), f"{name}: images should be 3 x 32 x 32."
    assert split.images.dtype == torch.uint8, f"{name}: pixels should be bytes, 0 to 255."
    assert len(split.images) == len(split.labels), f"{name}: every image needs one label."
assert data.train.images.nbytes == len(data.train) * bytes_each, "Recount the bytes."
print("✓ bytes, one label for each image, nothing lost")

# %% [markdown]
# ## What the classes look like
#
# Always look at your data before you train on it. Each row below is a class, each picture one of
# its training images.

# %%
sheet = sample_sheet(data.train.images, data.train.labels, data.classes, data_name=data.name)
show(sheet, "Ten training images of each class, one class a row.")

# %% [markdown]
# Read along a row: how different can two images of *one* class be? Then read down a column: are
# there two classes that you mix up yourself? Note them. In notebook 02 you will see whether the
# teacher mixes up the same ones, and in notebook 04 that such mix-ups are worth gold.

# %% [markdown]
# ## Three splits
#
# - **train** is learned from.
# - **val** (validation) is what *we* look at when we choose: a learning rate, a temperature, when
#   to stop tinkering.
# - **test** is looked at once, at the very end, to report a number.
#
# The validation images are cut from the training images. The test images are never touched by any
# choice. The cut is *stratified*: each split gets the same mix of classes.

# %%
balance = class_balance(data.splits, data.classes, data_name=data.name)
show(balance, "Images of each class, one bar a class, in pieces for the three splits: bars of "
     "nearly equal length.")  # fmt: skip

# %% [markdown]
# The bars should be about equally long. Then plain accuracy is an honest measure, and blind
# guessing among ten classes is right one time in ten. If one class held 90 % of the images,
# a network that always names it would score 90 % and know nothing.

# %%
# Self-check
shares = {
    name: torch.bincount(split.labels, minlength=len(data.classes)) / len(split)
    for name, split in data.splits.items()
}
assert torch.allclose(shares["train"], shares["val"], atol=0.01), (
    "Train and val should mix classes alike."
)
pixels = {name: {i.numpy().tobytes() for i in s.images} for name, s in data.splits.items()}
shared = len(pixels["test"] & (pixels["train"] | pixels["val"]))
assert shared <= 0.01 * len(data.test), f"{shared} test images are in training, too."
print(f"✓ same mix of classes; {shared} test images occur, pixel for pixel, among the others")

# %% [markdown]
# ## Why not two?
#
# A thousand players each roll dice instead of looking at the image. We let all of them answer 500
# validation questions and crown the best one. Nobody here knows anything, so each is right one time
# in ten on average.
#
# **Before you run this:** how good will the *champion* look on validation? And how good will the
# same champion be on 500 test images?

# %%
dice = torch.Generator().manual_seed(0)
val_labels, test_labels = data.val.labels[:500], data.test.labels[:500]
classes = len(data.classes)
on_val = torch.randint(classes, (1000, len(val_labels)), generator=dice).eq(val_labels)
on_test = torch.randint(classes, (1000, len(test_labels)), generator=dice).eq(test_labels)
on_val, on_test = on_val.float().mean(1), on_test.float().mean(1)
champion = int(on_val.argmax())
print(f"all players, validation: {100 * on_val.mean():5.1f} % on average")
print(f"champion, validation:    {100 * on_val[champion]:5.1f} %")
print(f"champion, test:          {100 * on_test[champion]:5.1f} %")

# %% [markdown]
# The champion's lead on validation is pure luck, and luck does not travel. Choosing the best of
# many *always* flatters the winner on the images that chose it. This is called the **winner's
# curse**.
#
# The same happens when a paper reports "the best epoch on the test set", or tries forty
# temperatures and keeps the one with the best test accuracy. So: choose on validation, report on
# test, once. In this course the test split sleeps until notebook 06.

# %%
# Self-check
assert abs(on_val.mean() - 1 / classes) < 0.01, "On average dice are right one time in ten."
assert on_val[champion] > on_test[champion], "The champion's lead should melt on fresh images."
print("✓ the lead was luck")

# %% [markdown]
# ## Augmentation: one image, fifty views
#
# Shift a ship by two pixels and it is still a ship. Mirror it and it is still a ship. A network
# does not know that until it has seen it. So in each epoch (each pass over the training images)
# every image is shown slightly changed. That is **augmentation**.
#
# Usually the changes are drawn at random, without end. Ours are a small finite set, the **views**:
# a shift of up to 2 pixels each way, with or without a flip.
#
# $$\underbrace{5}_{\text{down}} \times \underbrace{5}_{\text{right}} \times
# \underbrace{2}_{\text{flip}} = 50 \text{ views}$$
#
# **Before you run this:** a shift leaves a gap at the border. What should fill it?

# %%
grid = view_grid(data.train.images[3], data_name=data.name)
show(grid, "One training image in all fifty views: 25 shifts as it is, 25 shifts mirrored.")

# %% [markdown]
# The unchanged image is the framed one. Look closely at the edges, which are tinted here:
# the gap is filled with the image's own reflection, so no black bar tells the network how far the
# image was shifted.
#
# Why finite? Because of the teacher. In notebook 05 it must give its opinion on *exactly* the
# pixels that the student sees. With fifty views we can ask it once for each and keep the answer.
# With endless random crops every answer would be used once and thrown away. (Beyer et al. 2022 show
# how much it matters that both see the same view.)

# %%
# Self-check
everything = {views.apply_view(image, v).numpy().tobytes() for v in range(views.N_VIEWS)}
assert views.N_VIEWS == 5 * 5 * 2 == 50, "Five shifts down, five to the right, flipped or not."
assert torch.equal(views.apply_view(image, views.IDENTITY_VIEW), image), "One view changes nothing."
mirrored = views.apply_view(image, views.IDENTITY_VIEW + 1)
assert torch.equal(mirrored.flip(-1), image), "Mirroring twice gives the image back."
print(f"✓ fifty views, {len(everything)} of them different for this image")

# %% [markdown]
# ## The schedule: all fifty before any twice
#
# Which view when? The training images are cut into blocks of 1,024. In epoch $e$ all images of
# block $k$ take view number $\text{order}_k[e \bmod 50]$, where $\text{order}_k$ is a shuffled list
# of the fifty. It is like dealing cards from a deck: none comes back until the deck is used up.
#
# Here is what the first image meets in the first ten epochs. The words say how it was changed.

# %%
epochs = range(2 * views.N_VIEWS)
plan = torch.tensor([views.epoch_views(len(data.train), seed=0, epoch=e) for e in epochs])
print(f"{plan.shape[0]} epochs, {plan.shape[1]} blocks")
meets = view_grid(data.train.images[0], plan[:10, 0].tolist(), data_name=data.name)
show(meets, "The first training image as ten epochs show it, each time in another view.")

# %% [markdown]
# **Before you run this:** suppose views were *drawn at random* instead. How many of the fifty would
# an image have met after fifty epochs? (All of them? Most? Half?)

# %%
drawn = torch.randint(views.N_VIEWS, (1000, 50), generator=torch.Generator().manual_seed(0))
met_random = sum(len(row.unique()) for row in drawn) / len(drawn)
met_dealt = len(plan[:50, 0].unique())
print(f"drawn at random: {met_random:.1f} different views in fifty epochs, on average")
print(f"dealt by us:     {met_dealt} different views in fifty epochs")

# %% [markdown]
# Drawing at random repeats itself. An image would miss about $(1 - 1/50)^{50} \approx 1/e \approx
# 37\%$ of its views. Dealing wastes nothing. Different blocks have differently shuffled decks, so
# one mini-batch, whose images come from many blocks, still mixes many views.

# %%
# Self-check
deck = torch.arange(views.N_VIEWS).unsqueeze(1).expand(-1, plan.shape[1])
first, second = plan[:50].sort(0).values, plan[50:].sort(0).values
assert torch.equal(first, deck), "In epochs 1 to 50 every block should meet every view once."
assert torch.equal(second, deck), "And once again in epochs 51 to 100."
again = torch.tensor(views.epoch_views(len(data.train), seed=0, epoch=7))
assert torch.equal(again, plan[7]), "The same seed and epoch must always give the same views."
print(f"✓ {plan.shape[1]} blocks: each image meets all 50 views once before it meets one twice")

# %% [markdown]
# ## From bytes to numbers a network likes
#
# Networks train best on inputs with a mean near 0 and a spread near 1. So we subtract a mean and
# divide by a standard deviation, one pair for each colour channel:
#
# $$x = \frac{\text{pixel}/255 - \mu}{\sigma}$$

# %%
show(
    pixel_histogram(data.train.images[:5000], data_name=data.name),
    "How often each brightness occurs in the red, green and blue channel.",
)
batch = views.normalise(data.train.images[:1000], data.mean, data.std)
print("mean of each channel:  ", [round(v, 2) for v in batch.mean((0, 2, 3)).tolist()])
print("spread of each channel:", [round(v, 2) for v in batch.std((0, 2, 3)).tolist()])

# %% [markdown]
# The printed means are near 0 and the spreads near 1, though rarely exact: $\mu$ and $\sigma$
# belong to the data set. Sets of 32 x 32 colour images share those of CIFAR-10's training images, so
# that weights trained on one set see another as they saw their own. Nothing is lost on the way. We can go back.

# %%
# Self-check
there_and_back = views.denormalise(batch, data.mean, data.std)
assert torch.equal(there_and_back, data.train.images[:1000]), "Normalising must lose nothing."
print("✓ bytes → numbers → the same bytes")

# %% [markdown]
# ## A mini-batch, two ways
#
# Training takes a few images at a time, a **mini-batch**. The textbook way is a `Dataset` that
# prepares *one image per call* and a `DataLoader` that stacks them. For each image Python makes a
# PIL picture, pads, crops, perhaps flips it, turns it into a tensor and normalises it.
# `kdutils.course.naive_loop` holds that pipeline, so that we can measure against it.

# %%
sample = data.train.subset(min(1024, len(data.train)))
loader = textbook_loader(sample, batch_size=128)
print(loader.dataset.transform)

# %% [markdown]
# Our way does the same job for *many images per call*: the views of a whole epoch at once, then
# each mini-batch is picked and normalised. It is so short that it fits in a cell.


# %%
def batched(epoch: int = 0):
    """Mini-batches of 128: float (128, 3, 32, 32) and labels (128,)."""
    shown = views.epoch_images(pixels_last, views.epoch_views(len(sample), seed=0, epoch=epoch))
    for index in torch.randperm(len(sample)).split(128):
        yield views.normalise(take(shown, index), data.mean, data.std), sample.labels[index]


pixels_last = sample.images.to(memory_format=torch.channels_last)  # colours of a pixel side by side
images, labels = next(batched())
print(tuple(images.shape), images.dtype, tuple(labels.shape), labels.dtype)

# %% [markdown]
# Now the race. A fair race has rules: the same images, the same batch size, everything in memory,
# one thread and no worker processes on either side. Both run once to warm up. Then they **take
# turns**, and the order flips each round, so that a busy moment of the machine hits both. We
# compare medians.
#
# **Before you run this:** the arithmetic on the pixels is nearly the same. How many times faster
# can the second way be? Write down a number.

# %%
jobs = {"textbook": lambda: list(loader), "batched": lambda: list(batched())}
threads = torch.get_num_threads()
torch.set_num_threads(1)
seconds = timing.interleave(jobs, rounds=5)
torch.set_num_threads(threads)
each = {n: 1e6 * torch.tensor(s).median().item() / len(sample) for n, s in seconds.items()}
for name, microseconds in each.items():
    print(f"{name:9} {microseconds:7.1f} µs an image (median of 5)")
print(f"batched is {each['textbook'] / each['batched']:.1f} times as fast")

# %% [markdown]
# The pixels cost next to nothing. What costs is asking for them one image at a time: a dozen Python
# calls, a PIL picture and several small tensors for each. A batch shares a few calls among 128
# images.
#
# Does it matter? On the machines that we tried, training our small student on an image took about
# as long as *preparing* one the textbook way. So that pipeline alone would double the length of an
# experiment. The usual remedy is worker processes, which bring troubles of their own. Here we do
# not need any.
#
# One honest footnote: the two are not the same augmentation. The textbook crop shifts by up to 4
# pixels and fills with black; ours shifts by up to 2 and reflects.

# %%
# Self-check
theirs, ours = next(iter(loader)), next(batched())
assert theirs[0].shape == ours[0].shape, "Both should give 128 images of 3 x 32 x 32."
assert theirs[0].dtype == ours[0].dtype == torch.float32, "Both should give float32."
seen = torch.cat([labels for _, labels in batched()]).sort().values
assert torch.equal(seen, sample.labels.sort().values), "Each image should come once an epoch."
print("✓ two ways, the same kind of mini-batch; each image comes once an epoch")

# %% [markdown]
# ## Exercises
#
# **1. Room for opinions.** A teacher's answer to one view of one image is ten numbers of 2 bytes.
# How many megabytes are all answers for 45,000 training images and 50 views? And with the
# textbook's crop (shifts of up to 4 pixels each way, with or without a flip)?
#
# <details><summary>Solution</summary>
#
# ```python
# for shifts in (5, 9):
#     n_views = shifts * shifts * 2
#     print(n_views, "views:", 45_000 * n_views * 10 * 2 / 1e6, "MB")
# ```
#
# 50 views: 45 MB. 162 views: 146 MB, and 162 epochs before the first answer is used twice. Both
# would fit on a disk. The price is the *teacher's time*: each answer must be computed once.
#
# </details>

# %% [markdown]
# **2. The simplest classifier.** Average all training images of a class: that is its *mean image*.
# Call a validation image by the class whose mean image is nearest. How often is that right? (More
# often than dice?)
#
# <details><summary>Solution</summary>
#
# ```python
# flat = lambda split: split.images.flatten(1).float()
# means = torch.stack([
#     flat(data.train)[data.train.labels == c].mean(0) for c in range(len(data.classes))
# ])
# nearest = torch.cdist(flat(data.val), means).argmin(1)
# print(f"{100 * (nearest == data.val.labels).float().mean():.1f} % right")
# ```
#
# On photographs it beats dice clearly, because ships swim in blue and frogs sit in brown. On drawn
# shapes, where colour and place say nothing, it hardly does. A network has to do better than
# colour. Notebook 02 builds one.
#
# </details>

# %% [markdown]
# **3. When a flip lies.** Name a data set for which mirroring would *change* the right answer.
#
# <details><summary>Solution</summary>
#
# Text and digits (b and d, 2 and its mirror image), traffic signs (turn left, turn right), X-rays
# (the heart has a side). Augmentation is knowledge about the world that *you* put in. It must be
# true.
#
# </details>

# %% [markdown]
# ## In three lines
#
# - An image is 3,072 bytes; all of them fit in memory, and batched work on them is many times
#   faster than one call for each image.
# - Train to learn, validation to choose, test to report once: the best of many is always flattered.
# - Augmentation is fifty views, dealt like cards: every image meets all of them before one comes
#   twice, and a teacher can be asked about each exactly once.

# %% [markdown]
# ## References
#
# - A. Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009, technical report,
#   University of Toronto: CIFAR-10.
# - B. Barz, J. Denzler, *Do We Train on Test Data? Purging CIFAR of Near-Duplicates*, 2020,
#   arXiv:1902.00423: pixel-for-pixel is not the only way in which two images can be the same.
# - C. Shorten, T. M. Khoshgoftaar, *A survey on Image Data Augmentation for Deep Learning*, 2019,
#   Journal of Big Data 6, 60.
# - G. C. Cawley, N. L. C. Talbot, *On Over-fitting in Model Selection and Subsequent Selection Bias
#   in Performance Evaluation*, 2010, Journal of Machine Learning Research 11: the winner's curse.
# - L. Beyer, X. Zhai, A. Royer, L. Markeeva, R. Anil, A. Kolesnikov, *Knowledge Distillation: A
#   Good Teacher Is Patient and Consistent*, 2022, arXiv:2106.05237.
#
# **Next:** [02 · The teacher](02_teacher.ipynb), the large network whose opinions we are after.
