"""The embedded data set: ten classes of drawn 32x32 images whose likeness is known.

Photographs come without a key: nobody can say how much a cat *truly* resembles a dog. Here we can.
Every image starts as a point on a small map with four axes:

    corners   triangle, square, pentagon, hexagon, circle, in that order along the axis
    spikes    from a flat-sided polygon to a star
    length    from as long as wide to stretched
    hole      from solid to a ring

Each class has a place on this map (`POSITIONS`). An image of the class is drawn at that place plus a
normal step of size `SPREAD` along every axis. So classes are clouds, and neighbouring clouds
overlap: about one image in seventy is likelier to be of another class. The axes are scaled so that
equal distances look about equally far: the less area two bare outlines share, the further apart
they stand (a test holds this). Two truths follow from the map alone:

    SIMILARITY         how alike two classes are: exp(-distance between their places)
    posterior(points)  the exact probability of each class at a point: the soft target that a
                       perfect teacher would give if it could read the point off the image

The rest is what makes a picture hard to read: pose, size, colour, texture, clutter, light, a shadow,
something in front, noise. None of it depends on the class.

Outlines are signed distances (Quilez, "2D distance functions", iquilezles.org): negative inside, zero
on the edge, in pixels, so an edge is smoothed by one clip. Everything is float32 NumPy over a chunk
of images at a time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# Name of the class -> its place: corners, spikes, length, hole.
_MAP: dict[str, tuple[float, float, float, float]] = {
    "triangle": (0.0, 0.0, 0.0, 0.0),
    "square": (1.4, 0.0, 0.0, 0.0),
    "rhombus": (1.4, 0.0, 1.8, 0.0),
    "pentagon": (2.2, 0.0, 0.0, 0.0),
    "hexagon": (2.8, 0.0, 0.0, 0.0),
    "circle": (3.4, 0.0, 0.0, 0.0),
    "ellipse": (3.4, 0.0, 1.8, 0.0),
    "ring": (3.4, 0.0, 0.0, 2.4),
    "5-point star": (2.2, 1.6, 0.0, 0.0),
    "6-point star": (2.8, 1.6, 0.0, 0.0),
}
CLASSES: tuple[str, ...] = tuple(_MAP)
AXES: tuple[str, ...] = ("corners", "spikes", "length", "hole")
POSITIONS: Floats = np.array(list(_MAP.values()), dtype=np.float32)
SPREAD: float = 0.15


def _similarity(positions: Floats) -> Floats:
    """exp(-Euclidean distance) between all pairs of places. (C, A) -> (C, C)."""
    step = positions[:, None, :] - positions[None, :, :]
    return np.exp(-np.sqrt((step**2).sum(-1))).astype(np.float32)


SIMILARITY: Floats = _similarity(POSITIONS)

_SIDE = 32
_CHUNK = 64  # images drawn at a time: the temporaries stay in the processor's cache
_AXIS = np.arange(_SIDE, dtype=np.float32) - (_SIDE - 1) / 2
_X = np.tile(_AXIS, _SIDE)[None]  # (1, 1024): pixels from the centre, to the right
_Y = np.repeat(_AXIS, _SIDE)[None]  # and down
# Outlines along the axis `corners`: where each stands and how many corners it has. With 48 corners
# nobody sees any: that is the circle. In between, two outlines are blended.
_STOPS: Floats = np.array([0.0, 1.4, 2.2, 2.8, 3.4], dtype=np.float32)
_CORNERS: Floats = np.array([3, 4, 5, 6, 48], dtype=np.float32)


def generate(n: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw `n` images. The same `n` and `seed` give the same images; seeds are independent draws.

    Args:
        n: how many images, at least 1. Class counts differ by at most one.
        seed: a whole number, 0 or more. Give each split a seed of its own.

    Returns:
        images uint8 (n, 3, 32, 32), RGB; labels int64 (n,), shuffled, indices into `CLASSES`.

    Raises:
        ValueError: `n` or `seed` is not such a number.
    """
    points, labels = draw_points(n, seed)
    images = np.empty((n, 3, _SIDE, _SIDE), dtype=np.uint8)
    for k, start in enumerate(range(0, n, _CHUNK)):
        part = slice(start, start + _CHUNK)
        images[part] = _draw(points[part], np.random.default_rng([seed, 1, k]))
    return images, labels


def draw_points(n: int, seed: int) -> tuple[Floats, NDArray[np.int64]]:
    """The places on the map behind the images of `generate(n, seed)`, in the same order.

    Returns:
        points float32 (n, 4), columns as in `AXES`; labels int64 (n,).

    Raises:
        ValueError: as `generate`.
    """
    if not _is_whole(n) or n < 1:
        raise ValueError(f"n is {n!r}; ask for a whole number of images, at least 1.")
    if not _is_whole(seed) or seed < 0:
        raise ValueError(f"seed is {seed!r}; give a whole number, 0 or more.")
    rng = np.random.default_rng([seed, 0])
    labels = rng.permutation(np.arange(n, dtype=np.int64) % len(CLASSES))
    step = rng.standard_normal((n, len(AXES)), dtype=np.float32)
    return POSITIONS[labels] + np.float32(SPREAD) * step, labels


def posterior(points: Floats) -> Floats:
    """Probability of each class given a place on the map (Bayes' rule, equal class sizes).

    Args:
        points: (n, 4), as `draw_points` returns them.

    Returns:
        float32 (n, 10), rows sum to one.

    Raises:
        ValueError: `points` has another shape.
    """
    points = np.asarray(points, dtype=np.float32)
    if points.ndim != 2 or points.shape[1] != len(AXES):
        raise ValueError(f"points has shape {points.shape}; it must be (n, {len(AXES)}).")
    squared = ((points[:, None, :] - POSITIONS[None]) ** 2).sum(-1)
    logits = -(squared - squared.min(1, keepdims=True)) / (2 * SPREAD**2)
    likelihood = np.exp(logits)
    return (likelihood / likelihood.sum(1, keepdims=True)).astype(np.float32)


def _is_whole(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


# --- One chunk of images. Per-image numbers are (n, 1), per-pixel numbers (n, 1024), colours
# --- (n, 3, 1) in [0, 1], so that everything broadcasts.


def _draw(points: Floats, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Points (n, 4) -> images uint8 (n, 3, 32, 32)."""
    n = len(points)
    radius = _uniform(rng, n, 7.5, 11)  # pixels; of a circle of the same area
    room = 0.6 * (_SIDE / 2 - radius)
    x = _X - room * _uniform(rng, n, -1, 1)
    y = _Y - room * _uniform(rng, n, -1, 1)
    edge = _outline(points, x, y, radius, rng)
    edge += 0.3 * _smooth(rng, n, 10)  # an unsteady hand
    cover = _clip01(0.5 - edge / _uniform(rng, n, 0.8, 2.0))

    back, ink = _colours(rng, n)
    scene = back + _uniform(rng, n, 0.0, 0.08)[..., None] * _smooth(rng, 3 * n, 5).reshape(n, 3, -1)
    scene += _grain(rng, n, 0.11)
    scene += _stripe(rng, n, share=0.6, wide=(4.0, 12.0)) * _tint(rng, n, 0.175)  # clutter behind
    # Light comes from one of four sides: shading, rim and shadow agree about it.
    lx, ly = rng.choice([-1, 1], size=(2, n))
    scene *= 1 - _uniform(rng, n, 0.0, 0.6)[..., None] * _shifted(cover, 2 * lx, 2 * ly)[:, None]

    rim = _clip01(1 + edge / 3.0)  # 1 on the edge, 0 from three pixels inside
    slope = (np.float32(lx)[:, None] * x + np.float32(ly)[:, None] * y) / radius
    shade = 1 - _uniform(rng, n, 0.0, 0.25) * slope * (0.5 + rim)
    body = (ink + _grain(rng, n, 0.11)) * shade[:, None]
    scene += cover[:, None] * (body - scene)

    front = _stripe(rng, n, share=0.21, wide=(0.8, 2.5))  # something in the way
    scene += front * (_colours(rng, n)[0] - scene)
    slant = _uniform(rng, n, -0.012, 0.012) * _X + _uniform(rng, n, -0.012, 0.012) * _Y
    scene *= (1 + slant)[:, None]
    noise = rng.standard_normal((n, 1, _SIDE**2), dtype=np.float32)
    scene += _uniform(rng, n, 0.01, 0.042)[..., None] * noise
    return (_clip01(scene) * 255 + 0.5).astype(np.uint8).reshape(n, 3, _SIDE, _SIDE)


def _outline(
    points: Floats, x: Floats, y: Floats, radius: Floats, rng: np.random.Generator
) -> Floats:
    """Signed distance to the outline in pixels, (n, 1024), for places (n, 4) on the map."""
    corners, spikes, length, hole = (points[:, [k]] for k in range(4))
    angle = _uniform(rng, len(points), -0.7 * np.pi, -0.3 * np.pi)  # upright, tilted up to 36 deg
    stretch = np.sqrt(1 + 0.45 * np.maximum(length, 0))  # area stays: one way longer, one narrower
    along = (np.cos(angle) * x + np.sin(angle) * y) / (radius * stretch)
    across = (np.cos(angle) * y - np.sin(angle) * x) * (stretch / radius)
    distance = np.sqrt(along**2 + across**2)
    turn = np.arctan2(across, along)

    place = np.interp(corners, _STOPS, np.arange(len(_STOPS))).astype(np.float32)
    low = np.minimum(place.astype(np.int64), len(_STOPS) - 2)
    blend = place - low
    edge = (1 - blend) * _star(distance, turn, _CORNERS[low], spikes)
    edge += blend * _star(distance, turn, _CORNERS[low + 1], spikes)
    # A hole has the outline of the object, smaller. Below 0.6 on its axis there is none.
    inner = np.where(hole > 0.6, 0.3 * (hole - 0.6), -2.0).astype(np.float32)
    return (np.maximum(edge, inner - 1 - edge) * radius).astype(np.float32)


def _star(distance: Floats, turn: Floats, corners: Floats, spikes: Floats) -> Floats:
    """Signed distance to a star of area pi, in polar coordinates. spikes = 0 is a flat polygon.

    By symmetry one edge is enough: the line from a tip at angle 0 to a notch at angle pi / corners.
    """
    half = np.pi / corners
    notch = np.cos(half) * (1 - 0.28 * np.where(corners < 40, spikes, 0))  # radius, of a tip's 1
    tip = np.sqrt(half / (notch * np.sin(half)))  # makes the area pi
    scale = np.sqrt(1 + notch**2 - 2 * notch * np.cos(half))  # length of that edge
    a, b = (1 - notch * np.cos(half)) / scale, notch * np.sin(half) / scale
    fold = turn / (2 * half).astype(np.float32)
    fold -= np.rint(fold)
    fold = np.abs(fold) * (2 * half).astype(np.float32)
    line = np.sin(fold) * a.astype(np.float32) + np.cos(fold) * b.astype(np.float32)
    return distance * line - (b * tip).astype(np.float32)


def _colours(rng: np.random.Generator, n: int) -> tuple[Floats, Floats]:
    """Two colours (n, 3, 1) each, for background and object, between hard and easy to tell apart."""
    back = _uniform(rng, n, 0.2, 0.8)[..., None] + _uniform(rng, 3 * n, -0.2, 0.2).reshape(n, 3, 1)
    ink = back + _tint(rng, n, 1.0) * _uniform(rng, n, 0.4, 0.9)[..., None]
    return back, _clip01(ink)


def _tint(rng: np.random.Generator, n: int, size: float) -> Floats:
    """A random direction in colour space, (n, 3, 1), of length `size`."""
    way = rng.standard_normal((n, 3, 1), dtype=np.float32)
    way += 1.5 * rng.standard_normal((n, 1, 1), dtype=np.float32)  # light against dark is likelier
    return size * way / np.sqrt((way**2).sum(1, keepdims=True) + 1e-6)


def _grain(rng: np.random.Generator, n: int, size: float) -> Floats:
    """A coloured texture (n, 3, 1024): plain, waves, stripes or marble, by chance."""
    angle, pitch = _uniform(rng, n, 0, np.pi), _uniform(rng, n, 0.35, 1.6)  # radians a pixel
    phase = (np.cos(angle) * _X + np.sin(angle) * _Y) * pitch + _uniform(rng, n, 0, 2 * np.pi)
    phase += _uniform(rng, n, 0.0, 4.0) * _smooth(rng, n, 5)
    wave = np.clip(_uniform(rng, n, 1.0, 4.0) * np.cos(phase), -1, 1)
    strength = np.maximum(_uniform(rng, n, -0.5, 1.0), 0)  # a third has none
    return (strength * wave)[:, None] * _tint(rng, n, size)


def _stripe(rng: np.random.Generator, n: int, share: float, wide: tuple[float, float]) -> Floats:
    """Cover (n, 1, 1024) of a straight band of half-width `wide` pixels; a `share` has one."""
    angle = _uniform(rng, n, 0, 2 * np.pi)
    off = np.cos(angle) * _X + np.sin(angle) * _Y - _uniform(rng, n, -12, 12)
    band = _clip01(0.5 + _uniform(rng, n, *wide) - np.abs(off))
    return (band * (_uniform(rng, n, 0, 1) < share))[:, None]


def _shifted(cover: Floats, dx: NDArray[np.int64], dy: NDArray[np.int64]) -> Floats:
    """Each image (n, 1024) moved by its own (dx, dy) pixels; wraps round, which nobody sees."""
    grid = cover.reshape(-1, _SIDE, _SIDE)
    rows = (np.arange(_SIDE) - dy[:, None])[:, :, None] % _SIDE
    columns = (np.arange(_SIDE) - dx[:, None])[:, None, :] % _SIDE
    return grid[np.arange(len(grid))[:, None, None], rows, columns].reshape(len(grid), -1)


def _smooth(rng: np.random.Generator, n: int, cells: int) -> Floats:
    """Smooth noise (n, 1024): normal numbers on a coarse grid, blended by a cosine in between."""
    where = np.linspace(0, cells - 1, _SIDE)
    low = np.minimum(where.astype(int), cells - 2)
    part = (1 - np.cos(np.pi * (where - low))) / 2
    weights = np.zeros((_SIDE, cells), dtype=np.float32)
    weights[np.arange(_SIDE), low] = 1 - part
    weights[np.arange(_SIDE), low + 1] += part
    grid = rng.standard_normal((n, cells, cells), dtype=np.float32)
    return (weights @ grid @ weights.T).reshape(n, -1)


def _uniform(rng: np.random.Generator, n: int, low: float, high: float) -> Floats:
    """One number per image, (n, 1)."""
    return (low + (high - low) * rng.random((n, 1), dtype=np.float32)).astype(np.float32)


def _clip01(values: Floats) -> Floats:
    return np.clip(values, 0, 1)
