"""Weights on disk: safetensors with what is to be known about them in the same file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from .. import __version__, models
from ..runtime.files import atomic_path

if TYPE_CHECKING:
    from ..data import ImageData


class ArtifactError(ValueError):
    """A saved file is missing, cut short, or not what was asked for."""


def save_model(
    model: nn.Module,
    path: Path | str,
    metadata: dict[str, Any] | None = None,
    half: bool = False,
) -> None:
    """Write weights as safetensors, atomically, with `metadata` (anything JSON can hold).

    The network's name, the package version and a checksum are added. `half` stores
    matrices and filters as float16 (see `halved`), which halves the file.

    Raises:
        DiskFull: no room; an older file stays as it was.
    """
    from safetensors.torch import save_file

    weights = {
        name: (halved(value) if half else value).detach().cpu().contiguous().clone()
        for name, value in model.state_dict().items()
    }
    facts = {"network": _name(model), "version": __version__, **(metadata or {})}
    if hasattr(model, "classes"):
        facts["classes"] = model.classes
    facts["checksum"] = _checksum(weights, facts)
    with atomic_path(Path(path)) as part:
        save_file(weights, part, metadata={"kdutils": json.dumps(facts)})


def halved(value: Tensor) -> Tensor:
    """float16 for matrices and filters. Vectors stay: a running variance may be too small for it."""
    return value.half() if value.is_floating_point() and value.ndim > 1 else value


def read_metadata(path: Path | str) -> dict[str, Any]:
    """What `save_model` noted beside the weights.

    Raises:
        ArtifactError: no such file, cut short, or not written by `save_model`.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.exists():
        raise ArtifactError(f"There is no weights file {path.name}.")
    try:
        with safe_open(str(path), framework="pt") as file:
            facts = json.loads((file.metadata() or {})["kdutils"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ArtifactError(_refusal(path)) from error
    if not isinstance(facts, dict) or not {"network", "version"} <= facts.keys():
        raise ArtifactError(_refusal(path))
    return facts


def _refusal(path: Path) -> str:
    """Why `path` is not read, and what to do. Never to delete it: it may be somebody's only copy."""
    if path.is_dir():
        found = sorted(each.name for each in path.glob("*.safetensors"))
        hint = f"give the file in it, {found[0]}" if found else "give a .safetensors file"
        return f"{path.name} is a folder, so it is not a weights file of kdutils; {hint}."
    try:
        with open(path, "rb") as file:
            start = file.read(1 << 20)
    except OSError as error:
        return f"The weights file {path.name} cannot be read ({error.strerror}); check its rights."
    into = "then model.load_state_dict(...) and kdutils.pretrained.save_model(model, path)"
    if b"kdutils" in start and b'{"' in start[:16]:
        return (
            f"The weights file {path.name} is cut short or damaged; copy it again from where it "
            "came from, or train again under another name."
        )
    if start[:4] == b"PK\3\4" or start[:1] == b"\x80" or path.suffix in (".pt", ".pth", ".bin"):
        how = f"PyTorch's own kind is loaded by torch.load(path, weights_only=True), {into}"
    elif b'{"' in start[:16]:
        how = f"other safetensors are loaded by safetensors.torch.load_file(path), {into}"
    else:
        how = "give a .safetensors file that kdutils.pretrained.save_model wrote"
    return f"{path.name} is not a weights file of kdutils; {how}."


def load_model(
    path: Path | str, model: nn.Module | None = None, data: ImageData | None = None
) -> nn.Module:
    """A network with the weights of `path`, in eval mode; `.metadata` holds the facts.

    Args:
        path: a file that `save_model` wrote.
        model: receives the weights in place and is handed back; any `nn.Module`. None builds the
            network that the file names, one of `models.build`.
        data: insist on weights trained on this data set.

    Raises:
        ArtifactError: missing, cut short, another network, data set or version.
    """
    facts, name = read_metadata(path), Path(path).name
    if model is not None and facts["network"] != _name(model):
        raise ArtifactError(
            f"{name} holds a {facts['network']!r}, not a {_name(model)!r}; choose another file."
        )
    if data is not None and facts.get("data") != data.fingerprint:
        raise ArtifactError(
            f"{name} was trained on {facts.get('data_name', 'other data')}, not on these images of "
            f"{data.name}; train it again."
        )
    if model is None:
        try:
            model = models.build(facts["network"], classes=facts.get("classes", models.CLASSES))
        except ValueError as error:
            raise ArtifactError(
                f"{name} holds a {facts['network']!r}, which is no network of kdutils; build it "
                "and give it: load_model(path, model)."
            ) from error
    weights = _tensors(Path(path), facts)
    try:
        model.load_state_dict({key: value.float() if value.is_floating_point() else value
                               for key, value in weights.items()})  # fmt: skip
    except RuntimeError as error:
        raise ArtifactError(
            f"{name} does not fit the network {facts['network']!r} of kdutils {__version__} (it was "
            f"written by {facts['version']}); train it again."
        ) from error
    model.metadata = facts
    return model.eval()


def _tensors(path: Path, facts: dict[str, Any]) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(str(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise ArtifactError(_refusal(path)) from error
    if "checksum" in facts and facts["checksum"] != _checksum(weights, facts):
        raise ArtifactError(_refusal(path))
    return weights


def _checksum(weights: dict[str, Tensor], facts: dict[str, Any]) -> str:
    """16 hex digits: safetensors itself would not notice a flipped bit."""
    noted = {key: value for key, value in facts.items() if key != "checksum"}
    digest = hashlib.sha256(json.dumps(noted, sort_keys=True).encode())
    for name in sorted(weights):
        digest.update(name.encode() + weights[name].flatten().numpy().tobytes())
    return digest.hexdigest()[:16]


def _name(model: nn.Module) -> str:
    return getattr(model, "name", "") or type(model).__name__
