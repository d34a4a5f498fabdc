"""Results as JSON: the one place that reads and writes them, and the table of the comparison."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from filelock import FileLock

from ..metrics import mean_std
from ..runtime.files import atomic_path
from ..runtime.settings import settings
from .weights import ArtifactError

FOLDER = Path(__file__).resolve().parent  # weights and results that come with the package
SCHEMA = (  # of one recorded run; accuracies in per cent, the curve has the columns of a `History`
    "name", "role", "network", "method", "data", "recipe", "loss", "seed", "curve", "val", "test",
    "seconds", "machine", "version", "command",
)  # fmt: skip


def read_json(path: Path, missing: str, remedy: str) -> Any:
    """What a JSON file holds.

    Args:
        path: the file.
        missing: what to say when it is not there, for example "Nothing has been recorded yet".
        remedy: what to do about it, for example "run `make run` first".

    Raises:
        ArtifactError: it is not there, or it is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtifactError(f"{missing}; {remedy}.") from error
    except (ValueError, OSError) as error:
        raise ArtifactError(f"{path.name} is cut short or damaged; {remedy}.") from error


def write_json(path: Path, value: Any) -> Path:
    """Write `value` as JSON, atomically; returns the path.

    Raises:
        DiskFull: no room; an older file stays as it was.
    """
    with atomic_path(path) as part:
        part.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def slug(text: str) -> str:
    """A name fit for a folder: `"CIFAR-10 (JPEG copy)"` becomes `"cifar-10-jpeg-copy"`."""
    return "-".join(re.findall(r"[a-z0-9]+", text.lower())) or "data"


def results_path(name: str, data_name: str) -> Path:
    """Where results lie: a folder per data set and profile, so that none overwrites another's."""
    folder = f"{slug(data_name)}-{settings().profile.name}"
    return settings().results / folder / f"{name}.json"


def save_results(name: str, records: Any, data_name: str) -> Path:
    """Write results of the current profile on `data_name`; returns the path."""
    return write_json(results_path(name, data_name), records)


def load_results(name: str, data_name: str) -> Any:
    """Read what `save_results` wrote.

    Raises:
        ArtifactError: nothing was saved under this name, or the file is damaged.
    """
    missing = f"There are no results {name!r} on {data_name} yet"
    return read_json(results_path(name, data_name), missing, "run notebook 06 or `make run` first")


def load_records(name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The runs that come with the package: `"results"` (long runs) or `"pitfalls"`.

    Returns:
        What is to be known of all of them, and one record (`SCHEMA`) for each run.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    path = FOLDER / f"{name}.json"
    what = {"results": "long-runs"}.get(name, name)
    found = read_json(
        path,
        "Nothing has been recorded yet",
        f"`python -m kdutils {what} --ship` makes {path.name}",
    )
    return found["about"], found["records"]


def has_records(name: str) -> bool:
    """Whether runs of this name come with the package."""
    return (FOLDER / f"{name}.json").is_file()


def add_records(
    name: str, records: list[dict[str, Any]], about: dict[str, Any] | None = None
) -> int:
    """Append runs to those of the package; returns how many were new.

    A run that is there already (same arm, network, data, recipe, loss and seed) stays as it is.
    Several processes may do so at once: they wait for each other.
    """
    path = FOLDER / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        old_about, old = load_records(name) if has_records(name) else ({}, [])
        known = [_same(one) for one in old]
        new = [one for one in records if _same(one) not in known]
        lines = ",\n  ".join(json.dumps(one, ensure_ascii=False) for one in [*old, *new])
        head = json.dumps({"about": old_about | (about or {}), "records": []}, indent=1,
                          ensure_ascii=False)  # fmt: skip
        text = head.replace('"records": []', f'"records": [\n  {lines}\n ]')  # one run a line
        with atomic_path(path) as part:
            part.write_text(text + "\n", encoding="utf-8")
    return len(new)


def _same(record: dict[str, Any]) -> list[Any]:
    return [record[key] for key in ("name", "network", "data", "recipe", "loss", "seed")]


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
            mean_std(record["test_accuracy"]),
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
