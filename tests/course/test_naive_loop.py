"""kdutils.course.naive_loop: the usual pipeline, held against the batched one."""

from __future__ import annotations

import pytest
import torch

from kdutils.course.naive_loop import PADDING, TextbookDataset, textbook_loader, textbook_transform
from kdutils.data import Split
from kdutils.views import denormalise, normalise


@pytest.fixture
def split() -> Split:
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (20, 3, 32, 32), generator=random, dtype=torch.uint8)
    return Split(images, torch.arange(20) % 10)


def test_without_augmentation_it_gives_what_the_batched_way_gives(split: Split) -> None:
    dataset = TextbookDataset(split, textbook_transform(augment=False))
    one_by_one = torch.stack([dataset[i][0] for i in range(len(dataset))])
    torch.testing.assert_close(one_by_one, normalise(split.images, split.mean, split.std).contiguous())
    assert [dataset[i][1] for i in range(len(dataset))] == split.labels.tolist()


def test_channels_last_images_come_out_the_same(split: Split) -> None:
    other = Split(split.images.to(memory_format=torch.channels_last), split.labels)
    plain = textbook_transform(augment=False)
    assert torch.equal(TextbookDataset(split, plain)[3][0], TextbookDataset(other, plain)[3][0])


def test_crops_move_by_at_most_the_padding_and_show_black(split: Split) -> None:
    white = Split(torch.full((1, 3, 32, 32), 255, dtype=torch.uint8), torch.tensor([0]))
    torch.manual_seed(0)
    dataset = TextbookDataset(white)
    black = [(denormalise(dataset[0][0][None], white.mean, white.std)[0, 0] == 0) for _ in range(60)]
    rows = [int(b.all(1).sum()) for b in black]
    assert max(rows) == PADDING
    assert min(rows) == 0


def test_loader_gives_full_batches_in_an_order_that_the_seed_decides(split: Split) -> None:
    batches = list(textbook_loader(split, 8, seed=1))
    assert [tuple(images.shape) for images, _ in batches] == [(8, 3, 32, 32)] * 2
    assert batches[0][0].dtype == torch.float32
    assert batches[0][1].dtype == torch.int64

    def order(seed: int) -> list[int]:
        return torch.cat([labels for _, labels in textbook_loader(split, 8, seed=seed)]).tolist()

    assert order(1) == order(1) != order(2)


def test_each_image_comes_at_most_once_an_epoch(split: Split) -> None:
    numbered = Split(split.images, torch.arange(20))
    seen = torch.cat([labels for _, labels in textbook_loader(numbered, 5)])
    assert sorted(seen.tolist()) == list(range(20))


@pytest.mark.parametrize("batch_size", [0, 21])
def test_impossible_batch_size_is_explained(split: Split, batch_size: int) -> None:
    with pytest.raises(ValueError, match="choose a batch size from 1 to 20"):
        textbook_loader(split, batch_size)
