"""Views against torchvision's own padding, crop and flip; the schedule against its promise."""

from __future__ import annotations

import pytest
import torch
import torchvision.transforms.functional as TF

from kdutils import views


def images(n: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 3, 32, 32), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("view", range(views.N_VIEWS))
def test_every_view_is_what_torchvision_makes(view: int) -> None:
    down, right, flipped = views.decode_view(view)
    padded = TF.pad(images(), [2, 2, 2, 2], padding_mode="reflect")
    expected = TF.crop(padded, 2 - down, 2 - right, 32, 32)
    if flipped:
        expected = TF.hflip(expected)
    assert torch.equal(views.apply_view(images(), view), expected)


def test_identity_view_changes_nothing() -> None:
    assert torch.equal(views.apply_view(images(), views.IDENTITY_VIEW), images())
    assert views.describe_view(views.IDENTITY_VIEW) == "unchanged"
    assert views.describe_view(0) == "2 up, 2 left"
    assert views.describe_view(49) == "2 down, 2 right, flipped"


@pytest.mark.parametrize("view", [-1, 50])
def test_unknown_views_are_refused(view: int) -> None:
    with pytest.raises(ValueError, match="numbered 0 to 49"):
        views.decode_view(view)


def test_every_image_meets_every_view_once_before_one_twice() -> None:
    schedule = [views.epoch_views(5000, seed=3, epoch=e) for e in range(50)]
    for block in range(5):
        assert sorted(epoch[block] for epoch in schedule) == list(range(50))
    assert views.epoch_views(5000, 3, 50) == schedule[0]
    assert views.epoch_views(5000, 4, 0) != schedule[0]


def test_blocks_cover_all_images_once() -> None:
    covered = [i for part in views.block_slices(2500) for i in range(part.start, part.stop)]
    assert covered == list(range(2500))


def test_epoch_images_gives_each_block_its_view() -> None:
    many = images(1500).contiguous(memory_format=torch.channels_last)
    out = views.epoch_images(many, [7, 30])
    assert torch.equal(out[:1024], views.apply_view(many[:1024], 7))
    assert torch.equal(out[1024:], views.apply_view(many[1024:], 30))
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert views.epoch_images(many, None) is many


def test_normalise_is_torchvisions_and_comes_back() -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    pixels = views.normalise(images(), mean, std)
    expected = TF.normalize(images().float() / 255, list(mean), list(std))
    torch.testing.assert_close(pixels, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(views.denormalise(pixels, mean, std), images())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_memory_layout_stays(layout: torch.memory_format) -> None:
    before = images().contiguous(memory_format=layout)
    for after in (
        views.normalise(before, (0.5,) * 3, (0.2,) * 3),
        views.apply_view(before, 3),
        views.epoch_images(before, [8]),
    ):
        assert after.is_contiguous(memory_format=layout)


def test_normalising_leaves_its_input_alone() -> None:
    floats = images().float()
    views.normalise(floats, (0.5,) * 3, (0.2,) * 3)
    assert torch.equal(floats, images().float())


@pytest.mark.parametrize("shape", [(1, 28, 28), (4, 5, 7), (1, 1, 1), (2, 2, 3), (3, 1, 9)])
def test_any_channels_and_any_size(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(1)
    some = torch.randint(0, 256, (2, *shape), generator=generator, dtype=torch.uint8)
    for view in range(views.N_VIEWS):
        assert views.apply_view(some, view).shape == some.shape
    mean, std = (0.4,) * shape[0], (0.3,) * shape[0]
    assert torch.equal(views.denormalise(views.normalise(some, mean, std), mean, std), some)
    with pytest.raises(ValueError, match="one for each channel"):
        views.normalise(some, (*mean, 0.1), std)


def test_cutout_erases_one_square_of_each_image() -> None:
    torch.manual_seed(0)
    pixels = torch.ones(200, 3, 32, 32)
    views.erase_squares(pixels, 8)
    holes = pixels[:, 0] == 0
    assert torch.equal(pixels == 0, holes.unsqueeze(1).expand_as(pixels)), "all channels alike"
    areas = holes.sum((1, 2))
    assert areas.max() == 64 and areas.min() >= 16  # its centre is inside: a quarter at least
    heights, widths = holes.any(2).sum(1), holes.any(1).sum(1)
    assert torch.equal(areas, heights * widths), "a rectangle"
    assert len(areas.unique()) > 3 and not torch.equal(holes[0], holes[1])


def test_take_keeps_the_layout() -> None:
    images = torch.randint(0, 256, (20, 3, 32, 32)).byte().contiguous(memory_format=torch.channels_last)
    index = torch.tensor([3, 1, 19])
    taken = views.take(images, index)
    assert torch.equal(taken, images[index])
    assert taken.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 12, 20)])
def test_a_batch_is_what_the_epoch_shows(layout: torch.memory_format, shape: tuple[int, ...]) -> None:
    images = torch.randint(0, 256, (1500, *shape)).byte().contiguous(memory_format=layout)
    index = torch.tensor([0, 1499, 3, 1024, 1023, 3])
    for order in ([7, 30], None):
        batch = views.batch_images(images, index, order)
        assert torch.equal(batch, views.epoch_images(images, order)[index])
        assert batch.is_contiguous(memory_format=layout)
