"""What every source delivers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Pixels:
    """Training and test images in memory, before validation is cut off the training images.

    Attributes:
        train_images, test_images: uint8 (N, C, H, W), one size for both.
        train_labels, test_labels: int64 (N,).
        classes: names; a label is an index into them.
        name: display name.
        val_size: how many training images to validate on; None: a tenth, at most 5,000.
        notice: what to tell whoever asked for other images.
        similarity: float32 (C, C) in [0, 1], where it is known.
        is_synthetic: True for drawn images.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]
    name: str
    val_size: int | None = None
    notice: str = ""
    similarity: np.ndarray | None = None
    is_synthetic: bool = False
