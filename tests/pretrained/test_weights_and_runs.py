"""Saved networks and results: found again by what they are, refused in clear words."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small import TinyNet, tiny_data

from kdutils import models, pretrained, settings
from kdutils.losses import LabelLoss
from kdutils.pretrained import ArtifactError
from kdutils.runtime.files import DiskFull
from kdutils.train import Recipe

RECIPE = Recipe(epochs=1, batch_size=64)
DATA = tiny_data(128)


@pytest.fixture(autouse=True)
def own_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a results folder of its own."""
    mine = replace(settings(), results=tmp_path / "results")
    for module in ("records", "runs"):
        monkeypatch.setattr(f"kdutils.pretrained.{module}.settings", lambda: mine)
    return mine.results


def test_weights_and_facts_come_back(tmp_path: Path) -> None:
    student = models.build("student", 3)
    pretrained.save_model(student, tmp_path / "s.safetensors", {"seed": 3})
    loaded = pretrained.load_model(tmp_path / "s.safetensors", models.build("student"))
    assert not loaded.training
    for name, value in student.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name])
    assert loaded.metadata["seed"] == 3 and loaded.metadata["network"] == "student"


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    with pytest.raises(ArtifactError, match="no weights file s.safetensors"):
        pretrained.load_model(path)
    pretrained.save_model(models.build("student"), path, {"data": "1", "data_name": "other images"})
    with pytest.raises(ArtifactError, match="holds a 'student', not a 'teacher'"):
        pretrained.load_model(path, models.build("teacher"))
    with pytest.raises(ArtifactError, match="trained on other images"):
        pretrained.load_model(path, models.build("student"), DATA)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ArtifactError, match="cut short or damaged"):
        pretrained.load_model(path)


def test_weights_of_another_version_are_refused(tmp_path: Path) -> None:
    strange = torch.nn.Linear(2, 2)
    strange.name = "student"
    pretrained.save_model(strange, tmp_path / "s.safetensors")
    with pytest.raises(ArtifactError, match="does not fit the network 'student'"):
        pretrained.load_model(tmp_path / "s.safetensors")


def _foreign(path: Path, kind: str) -> Path:
    """A file, or a folder, that somebody might take for weights."""
    from safetensors.torch import save_file

    state = TinyNet().state_dict()
    if kind == "pytorch":
        torch.save(state, path := path / "net.pt")
    elif kind == "pytorch under our suffix":
        torch.save(state, path := path / "net.safetensors")
    elif kind == "safetensors":
        save_file(state, path := path / "net.safetensors", metadata={"format": "pt"})
    elif kind == "text":
        (path := path / "README.md").write_text("# Weights\n")
    elif kind == "nothing":
        (path := path / "net.safetensors").write_bytes(b"")
    else:
        (path := path / "my-teacher").mkdir()
        pretrained.save_model(TinyNet(), path / "weights.safetensors")
    return path


@pytest.mark.parametrize(
    "kind, remedy",
    [
        ("pytorch", r"torch\.load\(path, weights_only=True\)"),
        ("pytorch under our suffix", r"torch\.load\(path, weights_only=True\)"),
        ("safetensors", r"safetensors\.torch\.load_file"),
        ("text", "save_model wrote"),
        ("nothing", "save_model wrote"),
        ("folder", "give the file in it, weights.safetensors"),
    ],
)
def test_files_from_elsewhere_are_refused_and_kept(tmp_path: Path, kind: str, remedy: str) -> None:
    """Somebody's only copy: no word of deleting it, and the way to use it where there is one."""
    path = _foreign(tmp_path, kind)
    with pytest.raises(ArtifactError, match="not a weights file of kdutils.*" + remedy) as found:
        pretrained.load_model(path)
    assert "delete" not in str(found.value).lower() and "\n" not in str(found.value)
    assert path.exists()


def test_the_way_shown_for_foreign_weights_works(tmp_path: Path) -> None:
    path, model = _foreign(tmp_path, "pytorch"), TinyNet(seed=9)
    model.load_state_dict(torch.load(path, weights_only=True))
    pretrained.save_model(model, tmp_path / "mine.safetensors")
    again = pretrained.load_model(tmp_path / "mine.safetensors", TinyNet(seed=5))
    assert torch.equal(again[2].weight, TinyNet()[2].weight)


def test_a_network_of_ones_own_needs_to_be_brought(tmp_path: Path) -> None:
    pretrained.save_model(TinyNet(seed=4), tmp_path / "t.safetensors")
    with pytest.raises(ArtifactError, match=r"'TinyNet'.*load_model\(path, model\)"):
        pretrained.load_model(tmp_path / "t.safetensors")
    mine = TinyNet(seed=5)
    assert pretrained.load_model(tmp_path / "t.safetensors", mine) is mine
    assert torch.equal(mine[2].weight, TinyNet(seed=4)[2].weight) and not mine.training


@pytest.mark.parametrize("place", [b"", b"TinyNet", b"colours", b"F32", b"2.weight", 0.5, 0.999])
def test_a_flipped_bit_is_noticed(tmp_path: Path, place: bytes | float) -> None:
    path = tmp_path / "t.safetensors"
    pretrained.save_model(TinyNet(), path, {"data_name": "colours"})
    content = bytearray(path.read_bytes())
    spot = content.index(place) if isinstance(place, bytes) else int(place * len(content))
    content[spot] ^= 4
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="damaged|not a weights file|does not fit|holds a"):
        pretrained.load_model(path, TinyNet())


def test_a_full_disk_keeps_the_older_weights(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "s.safetensors"
    pretrained.save_model(models.build("student", 1), path)
    before = path.read_bytes()

    def full(*arguments, **more):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(DiskFull, match="disk is full"):
        pretrained.save_model(models.build("student", 2), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["s.safetensors"]


def train(**changes: object) -> pretrained.Trained:
    arguments = {"recipe": RECIPE, "seed": 0, "loss": LabelLoss(), **changes}
    recipe = arguments.pop("recipe")
    model = models.build("student", arguments["seed"])
    return pretrained.train_or_load("b", model, DATA, recipe, progress=False, **arguments)


def test_trained_once_then_loaded() -> None:
    first, second = train(), train()
    assert (first.loaded, second.loaded) == (False, True)
    assert first.history.rows == second.history.rows and first.seconds == second.seconds
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name])
    assert str(first).startswith("trained") and str(second).startswith("loaded")


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"loss": LabelLoss(0.1)}, {"recipe": replace(RECIPE, weight_decay=0.0)}]
)
def test_any_change_trains_anew(change: dict[str, object]) -> None:
    train()
    assert not train(**change).loaded


def test_an_unfinished_run_is_not_taken_for_a_finished_one(own_results: Path) -> None:
    train(recipe=replace(RECIPE, epochs=2), on_epoch=lambda row: True)
    assert list(own_results.glob("models/*.ckpt")) and not list(own_results.glob("models/*.safe*"))
    done = train(recipe=replace(RECIPE, epochs=2))
    assert not done.loaded and len(done.history.rows) == 2
    assert not list(own_results.glob("models/*.ckpt"))


def test_a_network_of_ones_own_is_trained_once() -> None:
    def run(model: torch.nn.Module) -> pretrained.Trained:
        return pretrained.train_or_load("mine", model, DATA, RECIPE, progress=False)

    first, again, other = run(TinyNet(1)), run(TinyNet(1)), run(TinyNet(2))
    assert (first.loaded, again.loaded, other.loaded) == (False, True, False), "first weights count"
    assert torch.equal(first.model[2].weight, again.model[2].weight)


def test_results_come_back_and_missing_ones_say_so(own_results: Path) -> None:
    with pytest.raises(ArtifactError, match="no results 'x' on My images yet"):
        pretrained.load_results("x", "My images")
    path = pretrained.save_results("x", [{"a": 1.5}], "My images")
    assert path == own_results / "my-images-smoke" / "x.json"
    assert pretrained.load_results("x", "My images") == [{"a": 1.5}]
    path.write_text("[{")
    with pytest.raises(ArtifactError, match="cut short or damaged"):
        pretrained.load_results("x", "My images")


def test_slug() -> None:
    assert pretrained.slug("CIFAR-10 (JPEG copy)") == "cifar-10-jpeg-copy"
    assert pretrained.slug("/") == "data"
