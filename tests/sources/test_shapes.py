"""The embedded data set: what `generate` promises, and that its likeness is really there."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from kdutils.sources import shapes

PAIRS = np.triu_indices(len(shapes.CLASSES), 1)


def place(name: str) -> int:
    return shapes.CLASSES.index(name)


@pytest.fixture(scope="module")
def sample() -> tuple[np.ndarray, np.ndarray]:
    return shapes.generate(2000, seed=5)


def test_arrays_are_as_documented(sample):
    images, labels = sample
    assert images.shape == (2000, 3, 32, 32) and images.dtype == np.uint8
    assert labels.shape == (2000,) and labels.dtype == np.int64
    assert len(shapes.CLASSES) == len(set(shapes.CLASSES)) == 10


@pytest.mark.parametrize("n", [1, 7, 10, 64, 65, 237])
def test_any_size_is_balanced(n):
    images, labels = shapes.generate(n, seed=0)
    counts = np.bincount(labels, minlength=10)
    assert len(images) == len(labels) == n
    assert counts.max() - counts.min() <= 1


def test_labels_are_shuffled():
    labels = shapes.generate(200, seed=0)[1]
    assert not np.array_equal(labels, np.sort(labels))
    assert not np.array_equal(labels, np.arange(200) % 10)


def test_the_same_seed_draws_the_same_images():
    first, second = shapes.generate(150, seed=3), shapes.generate(150, seed=3)
    assert np.array_equal(first[0], second[0]) and np.array_equal(first[1], second[1])


def test_the_global_seed_of_numpy_is_neither_read_nor_touched():
    np.random.seed(0)
    first = shapes.generate(20, seed=3)[0]
    after = np.random.random()
    np.random.seed(0)
    assert after == np.random.random()
    np.random.seed(1)
    assert np.array_equal(first, shapes.generate(20, seed=3)[0])


def test_splits_with_their_own_seeds_share_no_image():
    seen = [{image.tobytes() for image in shapes.generate(300, seed)[0]} for seed in (0, 1, 2)]
    assert all(len(group) == 300 for group in seen)  # nor does one split repeat an image
    assert len(set.union(*seen)) == 900


@pytest.mark.parametrize("n", [0, -1, 2.5, "10", True, None])
def test_a_bad_n_is_one_clear_sentence(n):
    with pytest.raises(ValueError, match="at least 1"):
        shapes.generate(n, seed=0)


@pytest.mark.parametrize("seed", [-1, 0.5, None])
def test_a_bad_seed_is_one_clear_sentence(seed):
    with pytest.raises(ValueError, match="0 or more"):
        shapes.generate(10, seed=seed)


def test_images_are_varied_and_use_the_whole_range(sample):
    images, labels = sample
    assert images.min() == 0 and images.max() == 255
    mean = images.reshape(len(images), -1).mean(1)
    assert mean.std() > 20  # light and dark images
    for kind in range(10):  # no class can be told by its colour
        colour = images[labels == kind].mean((0, 2, 3))
        assert np.abs(colour - images.mean((0, 2, 3))).max() < 25


def test_similarity_is_a_similarity():
    table = shapes.SIMILARITY
    assert table.shape == (10, 10) and table.dtype == np.float32
    assert np.array_equal(table, table.T)
    assert np.array_equal(np.diag(table), np.ones(10))
    assert table.min() > 0 and table[PAIRS].max() < 1
    assert len(np.unique(table[PAIRS].round(3))) > 15  # graded, not just pairs


def test_similarity_follows_from_the_map():
    by_hand = np.exp(-np.linalg.norm(shapes.POSITIONS[2] - shapes.POSITIONS[6]))
    assert shapes.SIMILARITY[2, 6] == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize(
    "name, near, far",
    [
        ("hexagon", "pentagon", "square"),
        ("circle", "hexagon", "triangle"),
        ("square", "pentagon", "circle"),
        ("5-point star", "6-point star", "triangle"),
        ("rhombus", "ellipse", "circle"),
        ("ring", "circle", "square"),
    ],
)
def test_similarity_has_the_documented_order(name, near, far):
    row = shapes.SIMILARITY[place(name)]
    assert row[place(near)] > row[place(far)]


def test_points_are_clouds_around_the_class_positions():
    points, labels = shapes.draw_points(20_000, seed=1)
    assert points.shape == (20_000, len(shapes.AXES)) and points.dtype == np.float32
    for kind in range(10):
        cloud = points[labels == kind]
        assert np.allclose(cloud.mean(0), shapes.POSITIONS[kind], atol=0.03)
        assert np.allclose(cloud.std(0), shapes.SPREAD, atol=0.02)


def test_points_belong_to_the_images_of_the_same_seed():
    assert np.array_equal(shapes.draw_points(90, 4)[1], shapes.generate(90, 4)[1])


def test_posterior_is_calibrated_and_knows_the_doubtful_images():
    points, labels = shapes.draw_points(20_000, seed=1)
    truth = shapes.posterior(points)
    assert truth.shape == (20_000, 10) and np.allclose(truth.sum(1), 1, atol=1e-5)
    right = truth.argmax(1) == labels
    assert right.mean() == pytest.approx(truth.max(1).mean(), abs=0.005)
    assert 0.95 < right.mean() < 0.999  # some images truly lie between two classes
    half_way = shapes.POSITIONS[[place("pentagon"), place("hexagon")]].mean(0, keepdims=True)
    row = shapes.posterior(half_way)[0]
    assert row[place("pentagon")] == pytest.approx(row[place("hexagon")], rel=1e-3)


@pytest.mark.parametrize("points", [np.zeros(4), np.zeros((3, 5))])
def test_posterior_refuses_other_shapes(points):
    with pytest.raises(ValueError, match="must be"):
        shapes.posterior(points)


def test_the_bare_outlines_overlap_as_the_map_says():
    """No nuisance at all: the ten silhouettes, upright, and how much of their area they share."""

    class Upright:
        def random(self, shape, dtype):
            return np.full(shape, 0.5, dtype)

    blank = np.zeros((10, 1), np.float32)
    radius = blank + 11
    edge = shapes._outline(
        shapes.POSITIONS, shapes._X + blank, shapes._Y + blank, radius, Upright()
    )
    inside = np.clip(0.5 - edge, 0, 1)
    solid = [k for k, name in enumerate(shapes.CLASSES) if name != "ring"]
    assert np.allclose(inside[solid].sum(1), np.pi * 11**2, rtol=0.04)  # equal areas: no size cue
    shared = np.minimum(inside[:, None], inside[None]).sum(-1)
    shared /= np.maximum(inside[:, None], inside[None]).sum(-1)
    assert spearmanr(shared[PAIRS], shapes.SIMILARITY[PAIRS])[0] > 0.5


def test_look_alikes_are_nearer_in_the_images_themselves(sample):
    """Mean distance from the border's colour, pixel by pixel: blurred silhouettes of each class."""
    images, labels = sample
    images = images.astype(np.float32)
    sides = [images[:, :, 0], images[:, :, -1], images[:, :, :, 0], images[:, :, :, -1]]
    border = np.median(np.concatenate(sides, axis=2), axis=2)[..., None, None]
    stands_out = np.sqrt(((images - border) ** 2).sum(1)).reshape(len(images), -1)
    stands_out /= stands_out.mean(1, keepdims=True)
    centre = np.stack([stands_out[labels == kind].mean(0) for kind in range(10)])
    distance = np.linalg.norm(centre[:, None] - centre[None], axis=-1)[PAIRS]
    alike = shapes.SIMILARITY[PAIRS]
    assert spearmanr(-distance, alike)[0] > 0.4
    assert distance[alike > 0.4].max() < np.median(distance[alike < 0.1])
    shuffled = shapes.SIMILARITY[np.ix_(p := np.random.default_rng(0).permutation(10), p)][PAIRS]
    assert spearmanr(-distance, shuffled)[0] < 0.4  # the test can fail
