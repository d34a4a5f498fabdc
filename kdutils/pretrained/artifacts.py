"""Named checkpoints and results on disk: save, load, "load it or train it", tables from JSON.

Everything lies under `settings().results`. A trained network is found again by *what it is*
(network, recipe, loss, seed, data, teacher), never by its file name alone: change any of these and
it is trained anew. Weights are safetensors; nothing from outside is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .. import __version__, models
from ..losses import LabelLoss, Loss
from ..runtime.files import atomic_path
from ..runtime.settings import settings
from ..soft_targets import SoftTargets
from ..train import History, Recipe, Row, TeacherLogits, fit, identity

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

    The network's name and the package version are added. `half` stores matrices and filters as
    float16 (see `halved`), which halves the file.

    Raises:
        DiskFull: no room; an older file stays as it was.
    """
    from safetensors.torch import save_file

    facts = {"network": getattr(model, "name", ""), "version": __version__, **(metadata or {})}
    weights = {
        name: (halved(value) if half else value).detach().cpu().contiguous()
        for name, value in model.state_dict().items()
    }
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

    try:
        with safe_open(str(path), framework="pt") as file:
            facts = file.metadata() or {}
    except FileNotFoundError as error:
        raise ArtifactError(f"There is no weights file {Path(path).name}.") from error
    except (SafetensorError, OSError) as error:
        raise ArtifactError(
            f"The weights file {Path(path).name} is cut short or damaged; delete it and train "
            "again."
        ) from error
    if "kdutils" not in facts:
        raise ArtifactError(f"{Path(path).name} was not written by kdutils; its facts are missing.")
    return json.loads(facts["kdutils"])


def load_model(
    path: Path | str, network: str | None = None, data: ImageData | None = None
) -> nn.Module:
    """A network with the weights of `path`, in eval mode; `.metadata` holds the facts.

    Args:
        path: a file that `save_model` wrote.
        network: insist on this network.
        data: insist on weights trained on this data set.

    Raises:
        ArtifactError: missing, cut short, another network, data set or version.
    """
    from safetensors.torch import load_file

    facts, name = read_metadata(path), Path(path).name
    if network is not None and facts["network"] != network:
        raise ArtifactError(
            f"{name} holds a {facts['network']!r}, not a {network!r}; choose another file."
        )
    if data is not None and facts.get("data") != data.fingerprint:
        raise ArtifactError(
            f"{name} was trained on {facts.get('data_name', 'other data')}, not on these images of "
            f"{data.name}; train it again."
        )
    model = models.build(facts["network"])
    weights = load_file(str(path))
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


@dataclass(frozen=True)
class Trained:
    """A trained network and how it came to be."""

    model: nn.Module
    history: History
    loaded: bool  # True: it was found on disk
    origin: str = ""  # of weights that come with the package: one sentence on where from

    @property
    def seconds(self) -> float:
        """Training time, also when it was loaded: as recorded then."""
        return self.history.last["seconds"]

    def __str__(self) -> str:
        return self.origin or f"{'loaded' if self.loaded else 'trained'}: {self.history}"


def train_or_load(
    name: str,
    network: str,
    data: ImageData,
    recipe: Recipe,
    *,
    loss: Loss | None = None,
    soft_targets: TeacherLogits | None = None,
    seed: int = 0,
    progress: bool = True,
    on_epoch: Callable[[Row], bool | None] | None = None,
) -> Trained:
    """The network that this training gives: from disk if it was done before, else trained now.

    A training that was cut off continues from its last finished epoch.

    Args:
        name: what to call it, for example "baseline"; used in the file name and progress bar.
        network: a name for `models.build`; its first weights follow from `seed`.
        data, recipe, loss, soft_targets, seed: as for `train.fit`.

    Returns:
        The network in eval mode, with its history.
    """
    loss = loss or LabelLoss()
    model = models.build(network, seed)
    facts = identity(model, data, recipe, loss, soft_targets, seed)
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    folder = settings().results / "models"
    path = folder / f"{name}-seed{seed}-{key}.safetensors"
    if path.exists():
        model = load_model(path, network, data)
        return Trained(model, History(model.metadata["rows"]), loaded=True)
    checkpoint = path.with_suffix(".ckpt")
    history = fit(
        model, data, recipe, loss=loss, soft_targets=soft_targets, seed=seed,
        checkpoint=checkpoint, progress=progress, on_epoch=on_epoch, label=f"{name}, seed {seed}",
    )  # fmt: skip
    if len(history.rows) == recipe.epochs:
        facts |= {"network": network, "data_name": data.name, "rows": history.rows,
                  "epochs": recipe.epochs, "date": date.today().isoformat()}  # fmt: skip
        save_model(model, path, facts)
        checkpoint.unlink(missing_ok=True)
    return Trained(model.eval(), history, loaded=False)


def soft_targets(teacher: nn.Module, data: ImageData) -> SoftTargets:
    """`SoftTargets` for `data.train`, kept under the results folder."""
    return SoftTargets(teacher, data.train, settings().results / "soft_targets")


# --- results ----------------------------------------------------------------------------------


def results_path(name: str, data_name: str) -> Path:
    """Where results lie: a folder per data set and profile, so that none overwrites another's."""
    folder = f"{slug(data_name)}-{settings().profile.name}"
    return settings().results / folder / f"{name}.json"


def slug(text: str) -> str:
    """A name fit for a folder: `"CIFAR-10 (JPEG copy)"` becomes `"cifar-10-jpeg-copy"`."""
    return "-".join(re.findall(r"[a-z0-9]+", text.lower())) or "data"


def save_results(name: str, records: list[dict[str, Any]] | dict[str, Any], data_name: str) -> Path:
    """Write results of the current profile on `data_name` as JSON, atomically; gives the path."""
    path = results_path(name, data_name)
    with atomic_path(path) as part:
        part.write_text(json.dumps(records, indent=1) + "\n")
    return path


def load_results(name: str, data_name: str) -> Any:
    """Read what `save_results` wrote.

    Raises:
        ArtifactError: nothing was saved under this name, or the file is damaged.
    """
    path = results_path(name, data_name)
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ArtifactError(
            f"There are no results {name!r} on {data_name} yet; run notebook 06 or `make run` first."
        ) from error
    except json.JSONDecodeError as error:
        raise ArtifactError(
            f"{path.name} is cut short or damaged; run notebook 06 again."
        ) from error


def results_table(records: list[dict[str, Any]]) -> str:
    """The comparison of teacher, baseline and distilled student as a Markdown table.

    Args:
        records: as notebook 06 saves them under "benchmark". Keys: `name`,
            `test_accuracy` (percent, one per seed), `parameters`, `macs`, `size_mb`,
            `latency_ms` (batch 1, median), `data`. Shown when there: `latency_p10_ms`,
            `latency_p90_ms`, `latency_128_ms`; `difference` and `interval` (paired, 95 %, points;
            of the distilled student); `profile`, `threads` and `machine` (the line underneath).
    """
    head = ["model", "test accuracy", "size", "parameters", "multiply-adds", "latency, batch 1",
            "latency, batch 128"]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for record in records:
        cells = [
            record["name"],
            spread(record["test_accuracy"]),
            f"{record['size_mb']:.2f} MB",
            f"{record['parameters']:,}",
            f"{record['macs'] / 1e6:.1f} M",
            _latency_cell(record),
            f"{record['latency_128_ms']:.1f} ms" if "latency_128_ms" in record else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *(_difference_line(record) for record in records
                                    if "difference" in record), _origin_line(records)])  # fmt: skip


def _latency_cell(record: dict[str, Any]) -> str:
    words = f"{record['latency_ms']:.2f} ms"
    if "latency_p10_ms" in record:
        words += f" ({record['latency_p10_ms']:.2f}–{record['latency_p90_ms']:.2f})"
    return words


def _difference_line(record: dict[str, Any]) -> str:
    low, high = record["interval"]
    verdict = "higher" if low > 0 else "lower" if high < 0 else "no difference"
    return (
        f"Distilled minus labels only: **{record['difference']:+.2f} points**, 95 % interval "
        f"{low:+.2f} to {high:+.2f} over {len(record['test_accuracy'])} paired seeds: {verdict}.\n"
    )


def _origin_line(records: list[dict[str, Any]]) -> str:
    """Where the numbers come from, in one sentence or two."""
    first = records[0]
    words = f"Data: {first['data']}"
    words += f", `{first['profile']}` profile." if "profile" in first else "."
    if "machine" in first:
        threads = first.get("threads", 1)
        words += (
            f" Latency: median (p10–p90), {threads} thread{'s' if threads > 1 else ''} at work; "
            f"machine: {first['machine']}."
        )
    return words


def spread(percent: list[float]) -> str:
    """Mean ± standard deviation over seeds: `"81.20 ± 0.30 % (3 seeds)"`; one seed is said."""
    values = torch.tensor(percent, dtype=torch.float64)
    if len(values) == 1:
        return f"{values.item():.2f} % (1 seed)"
    return f"{values.mean():.2f} ± {values.std(correction=1):.2f} % ({len(values)} seeds)"


def clear() -> None:
    """Forget every trained network, cached soft target and result of this checkout."""
    shutil.rmtree(settings().results, ignore_errors=True)
