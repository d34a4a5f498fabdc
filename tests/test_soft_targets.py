"""Memoised teacher logits: exact, lazy, aligned, never stale."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small import TinyNet, split

from kdutils import soft_targets, views
from kdutils.runtime import precision
from kdutils.runtime.files import load_arrays, save_arrays
from kdutils.runtime.precision import autocast
from kdutils.soft_targets import MisalignedTargets, SoftTargets, fingerprint

IMAGES = split(1500, 0)  # two blocks: 1024 and 476


def live(teacher: torch.nn.Module, view: int) -> torch.Tensor:
    with torch.no_grad(), autocast(torch.device("cpu")):
        images = views.apply_view(IMAGES.images, view)
        logits = teacher.eval()(views.normalise(images, IMAGES.mean, IMAGES.std)).float()
    return logits - logits.mean(1, keepdim=True)


def test_values_are_what_the_teacher_says_about_each_view() -> None:
    teacher = TinyNet()
    targets = SoftTargets(teacher, IMAGES)
    logits = targets.epoch([7, 30])
    assert logits.shape == (1500, 10) and logits.dtype == torch.float16
    torch.testing.assert_close(logits[:1024].float(), live(teacher, 7)[:1024], rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(
        logits[1024:].float(), live(teacher, 30)[1024:], rtol=2e-3, atol=2e-3
    )
    torch.testing.assert_close(
        targets.clean().float(), live(teacher, views.IDENTITY_VIEW), rtol=2e-3, atol=2e-3
    )


def test_each_block_is_asked_for_at_most_once(tmp_path: Path) -> None:
    targets = SoftTargets(TinyNet(), IMAGES, tmp_path)
    assert targets.missing([7, 30]) == 2
    targets.epoch([7, 30]), targets.epoch([7, 31])
    assert targets.teacher_calls == 3 and targets.missing([7, 30]) == 0
    again = SoftTargets(TinyNet(), IMAGES, tmp_path)
    assert again.missing([7, 30]) == 0
    assert torch.equal(again.epoch([7, 30]), targets.epoch([7, 30]))
    assert again.teacher_calls == 0


def test_a_value_does_not_depend_on_who_asked_first() -> None:
    one, other = SoftTargets(TinyNet(), IMAGES), SoftTargets(TinyNet(), IMAGES)
    one.epoch([3, 4]), one.epoch([5, 6])
    other.epoch([5, 6])
    assert torch.equal(one.block(1, 6), other.block(1, 6))


def test_teacher_is_provably_unchanged_and_in_its_mode() -> None:
    teacher = TinyNet().train()
    before = fingerprint(teacher)
    SoftTargets(teacher, IMAGES).clean()
    assert fingerprint(teacher) == before and teacher.training
    assert all(p.grad is None for p in teacher.parameters())


def test_a_changed_teacher_or_other_images_never_meet_a_stale_cache(tmp_path: Path) -> None:
    first = SoftTargets(TinyNet(0), IMAGES, tmp_path)
    first.clean()
    changed = TinyNet(0)
    with torch.no_grad():
        changed[2].weight[0, 0] += 1e-6
    other_images = split(1500, 1)
    relabelled = type(IMAGES)(IMAGES.images, IMAGES.labels.flip(0))
    for fresh in (
        SoftTargets(changed, IMAGES, tmp_path),
        SoftTargets(TinyNet(0), other_images, tmp_path),
        SoftTargets(TinyNet(0), relabelled, tmp_path),
    ):
        assert fresh.missing(None) == 2


def test_another_precision_is_another_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bfloat16 rounds otherwise than float32: the two never mix."""
    monkeypatch.setattr(precision, "native_bfloat16", lambda *_: False)
    exact = SoftTargets(TinyNet(), IMAGES, tmp_path)
    values = exact.clean()
    assert exact.fingerprint.endswith("-float32")
    monkeypatch.setattr(precision, "native_bfloat16", lambda *_: True)
    rounded = SoftTargets(TinyNet(), IMAGES, tmp_path)
    assert rounded.fingerprint.endswith("-bfloat16") and rounded.missing(None) == 2
    assert not torch.equal(rounded.clean(), values), "bfloat16 was not used"


def test_fingerprint_sees_buffers_and_layers() -> None:
    model, other = TinyNet(), TinyNet()
    assert fingerprint(model) == fingerprint(other)
    other[3].running_mean += 1
    assert fingerprint(model) != fingerprint(other)


def keep(path: Path, targets: SoftTargets, logits: np.ndarray) -> None:
    assert save_arrays(path, targets.fingerprint, {"logits": logits})


def test_alignment_check_passes_and_catches_a_shuffled_cache(tmp_path: Path) -> None:
    targets = SoftTargets(TinyNet(), IMAGES, tmp_path)
    targets.epoch([7, 30])
    targets.check_alignment()
    for planted in ("block000*", "block001*"):
        path = next(targets.folder.glob(planted))
        honest = load_arrays(path, targets.fingerprint)["logits"]
        keep(path, targets, np.roll(honest, 1, axis=0))  # each image has its neighbour's answer
        shuffled = SoftTargets(TinyNet(), IMAGES, tmp_path)
        shuffled.epoch([7, 30])
        with pytest.raises(MisalignedTargets, match="shuffled or belongs to other images"):
            shuffled.check_alignment()
        keep(path, targets, honest)


def test_alignment_check_catches_another_view(tmp_path: Path) -> None:
    """Right images, right order, but each seen otherwise than the file's name says."""
    images = split(300, 0)
    ramp = torch.linspace(0, 120, 32).to(torch.uint8)  # left and right differ
    tilted = type(images)(images.images // 2 + ramp, images.labels)
    targets = SoftTargets(TinyNet(), tilted, tmp_path)
    flipped = views.IDENTITY_VIEW + 1
    targets.epoch([flipped])
    targets.check_alignment()
    targets._known[0, views.IDENTITY_VIEW] = targets._known.pop((0, flipped))
    with pytest.raises(MisalignedTargets):
        targets.check_alignment()


@pytest.mark.parametrize("damage", ["cut", "empty", "shape", "dtype", "unwritten rows"])
def test_damaged_files_are_made_again(tmp_path: Path, damage: str) -> None:
    first = SoftTargets(TinyNet(), IMAGES, tmp_path)
    expected = first.clean()
    path = next(first.folder.glob("block000*"))
    if damage == "shape":
        keep(path, first, np.ones((3, 10), np.float16))
    elif damage == "dtype":
        keep(path, first, np.ones((1024, 10), np.float64))
    elif damage == "unwritten rows":
        whole = path.read_bytes()  # a power cut leaves zeros where bytes were not written yet
        path.write_bytes(whole[:9000] + bytes(2000) + whole[11000:])
    else:
        path.write_bytes(path.read_bytes()[: 100 if damage == "cut" else 0])
    again = SoftTargets(TinyNet(), IMAGES, tmp_path)
    assert torch.equal(again.clean(), expected)
    assert again.teacher_calls == 1


def test_wrong_number_of_views_is_refused() -> None:
    with pytest.raises(ValueError, match="3 views were given for 2 blocks"):
        SoftTargets(TinyNet(), IMAGES).epoch([1, 2, 3])


def test_repr_says_how_full_it_is() -> None:
    targets = SoftTargets(TinyNet(), IMAGES)
    targets.clean()
    assert "1,500 images x 50 views, 2 of 100 blocks" in repr(targets)
    assert soft_targets.CHUNK == 256  # changing it changes rounding: caches must be remade


def test_a_teacher_that_is_trained_on_cannot_change_what_it_said(tmp_path: Path) -> None:
    teacher = TinyNet()
    targets = SoftTargets(teacher, IMAGES, tmp_path)
    expected = SoftTargets(TinyNet(), IMAGES).clean()
    with torch.no_grad():
        teacher[2].weight += 1
    assert torch.equal(targets.clean(), expected)
    assert SoftTargets(teacher, IMAGES, tmp_path).missing(None) == 2


def test_other_preprocessing_is_another_cache(tmp_path: Path) -> None:
    SoftTargets(TinyNet(), IMAGES, tmp_path).clean()
    shifted = replace(IMAGES, mean=(0.5, 0.5, 0.5))
    assert SoftTargets(TinyNet(), shifted, tmp_path).missing(None) == 2
    assert fingerprint(TinyNet(), (0.5,), (0.2,)) != fingerprint(TinyNet(), (0.5,), (0.3,))


def test_a_setting_that_repr_does_not_show_is_another_teacher() -> None:
    class Scaled(TinyNet):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = factor

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.factor * super().forward(x)

    assert fingerprint(Scaled(2.0)) != fingerprint(Scaled(3.0))
    assert fingerprint(Scaled(2.0)) == fingerprint(Scaled(2.0))


class Shifted(TinyNet):
    """A teacher whose logits all lie around 1,000."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + 1000


class Masked(TinyNet):
    """A teacher that rules out the last class, in one of the two ways."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = super().forward(x).clone()
        logits[:, -1] = self.value
        return logits


def test_logits_are_centred_before_they_are_rounded() -> None:
    """float16 at 1,000 has steps of 0.5 and would change first choices."""
    shifted = SoftTargets(Shifted(), IMAGES).clean().float()
    plain = SoftTargets(TinyNet(), IMAGES).clean().float()
    torch.testing.assert_close(shifted, plain, atol=2e-3, rtol=0)
    assert plain.mean(1).abs().max() < 1e-3


@pytest.mark.parametrize("value", [-float("inf"), -1e9])
def test_masked_logits_stay_masked_and_leave_the_others_alone(value: float) -> None:
    targets = SoftTargets(Masked(value), IMAGES)
    logits = targets.clean().float()
    targets.check_alignment()
    assert torch.equal(logits[:, -1], torch.full((1500,), -torch.inf))
    with torch.no_grad():
        said = Masked(value).eval()(views.normalise(IMAGES.images, IMAGES.mean, IMAGES.std))
    torch.testing.assert_close(logits.softmax(1), said.softmax(1), atol=1e-3, rtol=0)


def test_a_folder_that_cannot_be_written_is_warned_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    targets = SoftTargets(TinyNet(), IMAGES, tmp_path)
    with pytest.warns(UserWarning, match="could not be kept in .*next start makes it again") as said:
        logits = targets.epoch([7, 30])
    assert len(said) == 1 and torch.equal(logits, SoftTargets(TinyNet(), IMAGES).epoch([7, 30]))
    (tmp_path / "file").write_text("")
    blocked = SoftTargets(TinyNet(), IMAGES, tmp_path / "file" / "folder")  # cannot be made
    with pytest.warns(UserWarning, match="could not be kept"):
        assert torch.equal(blocked.epoch([7, 30]), logits)


def test_a_teacher_that_returns_no_logits_is_named() -> None:
    class Pair(TinyNet):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
            return super().forward(x), None

    with pytest.raises(ValueError, match="Pair returns a tuple for a batch of 256 images"):
        SoftTargets(Pair(), IMAGES).clean()


def test_a_double_teacher_and_a_frozen_layer_are_left_as_they_are() -> None:
    teacher = TinyNet().double().train()
    teacher[3].eval()
    logits = SoftTargets(teacher, IMAGES).clean()
    torch.testing.assert_close(
        logits.float(), live(TinyNet(), views.IDENTITY_VIEW), rtol=2e-3, atol=2e-3
    )
    assert teacher.training and not teacher[3].training
    assert all(p.dtype == torch.float64 and p.requires_grad for p in teacher.parameters())
