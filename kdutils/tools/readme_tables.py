"""The numbers in the README, from the recorded run: nothing in its tables is typed by hand.

`python -m kdutils run --in-place` leaves outputs in the notebooks and notes what it measured in
`notebooks/recorded.json`. `python -m kdutils readme` writes those numbers between the README's
markers, with the long runs and the speeds (`python -m kdutils bench --out
kdutils/pretrained/bench.json`); a test holds the two together.
"""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

from .. import pretrained
from ..metrics import mean_std
from ..runtime.files import recorded

# The published table that the course starts from: accuracy in percent.
STARTING_POINT = {"teacher": 83.13, "baseline": 72.70, "distilled": 70.86}

REMEDY = "run `python -m kdutils run --in-place` first"

Record = dict[str, Any]


def checkout() -> Path:
    """The folder that holds README.md and notebooks/."""
    return Path(__file__).resolve().parents[2]


def record_path() -> Path:
    return checkout() / "notebooks" / "recorded.json"


def collect(timings: Path) -> Record:
    """One record of a run: its timings file and the benchmark that its notebook 06 saved."""
    run = pretrained.read_json(timings, "That run left no timings", REMEDY)
    benchmark = pretrained.load_results("benchmark", run["data"])
    return {"date": date.today().isoformat(), **run, "benchmark": benchmark}


def load(path: Path | None = None) -> Record:
    """Read the record.

    Raises:
        ArtifactError: nothing has been recorded yet, or the file is damaged.
    """
    return pretrained.read_json(path or record_path(), "Nothing has been recorded yet", REMEDY)


def results_block(record: Record) -> str:
    """The comparison with the published table, and our own full table under it."""
    from ..course import long_runs

    rows = {row["role"]: row for row in record["benchmark"]}
    lines = ["| | published | here, in class | here, with patience |", "|---|---:|---:|---:|"]
    for role, published in STARTING_POINT.items():
        row, long_run = rows[role], long_runs.summary(role)
        ours = mean_std(row["test_accuracy"])
        patient = f"{mean_std(long_run['test_accuracy'])}, {long_run['epochs']} epochs"
        lines.append(f"| {row['name']} | {published:.2f} % | {ours} | **{patient}** |")
    return "\n".join(lines) + "\n\n" + pretrained.results_table(record["benchmark"])


def map_block(record: Record) -> str:
    """One line per notebook: its title and the minutes it took in the recorded run."""
    lines = ["| notebook | what happens in it | time |", "|---|---|---:|"]
    for row in record["notebooks"]:
        path = checkout() / "notebooks" / f"{row['name']}.ipynb"
        number, _, title = _title(path).partition(" · ")
        lines.append(
            f"| [{number}](notebooks/{row['name']}.ipynb) | {title} | {minutes(row['seconds'])} |"
        )
    total = sum(row["seconds"] for row in record["notebooks"])
    machine = f"{record['machine']}, {record['date']}"
    tail = (
        f"Times are from one recorded run of the `{record['profile']}` profile on "
        f"{record['data']}, with nothing trained before but the shipped teacher: "
        f"{minutes(total)} in all ({machine})."
    )
    return "\n".join([*lines, "", tail])


def numbers_block() -> str:
    """The long runs of `kdutils/pretrained/results.json`, and where they were made."""
    from ..course import long_runs

    _, runs = pretrained.load_records("results")
    data = " and ".join(sorted({run["data"] for run in runs}))
    machines = " and ".join(sorted({run["machine"] for run in runs}))
    tail = (
        f"Data: {data}. Every choice was made on validation; test was looked at once for each run, "
        f"after its last epoch. Trained on: {machines}. Curves and seconds of every run are in "
        "[results.json](kdutils/pretrained/results.json); `python -m kdutils long-runs` makes it."
    )
    return f"{long_runs.table()}\n\n{tail}"


def speed_block() -> str:
    """What the recorded `python -m kdutils bench` found: the comparisons, and how it was done."""
    from . import bench

    record = pretrained.read_json(
        recorded("bench.json"), "No speed was recorded yet", "run `python -m kdutils bench` first"
    )
    rounds = record["size"]["rounds"]
    how = f"Every job ran once in each of {rounds} rounds; a ratio is taken round by round."
    return f"{bench.comparisons(record)}\n\n{how} {bench.conditions(record)}"


def minutes(seconds: float) -> str:
    """`"40 s"`, `"3 min"`: as exact as a reader needs."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def fill(text: str, record: Record) -> str:
    """README text with fresh blocks between `<!-- NAME -->` and `<!-- /NAME -->`.

    Raises:
        ValueError: a marker is missing.
    """
    blocks = {
        "results": results_block(record),
        "map": map_block(record),
        "numbers": numbers_block(),
        "speed": speed_block(),
    }
    for name, block in blocks.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"README.md has no <!-- {name} --> … <!-- /{name} --> markers.")
        text = pattern.sub(lambda found, block=block: f"{found[1]}{block}\n{found[2]}", text)
    return text


def update_readme() -> bool:
    """Bring README.md in step with the record; says whether it changed."""
    path = checkout() / "README.md"
    old = path.read_text(encoding="utf-8")
    new = fill(old, load())
    if new != old:
        path.write_text(new, encoding="utf-8")
    return new != old


def _title(notebook: Path) -> str:
    """The first heading of a notebook, without its mark."""
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        for line in "".join(cell["source"]).splitlines():
            if cell["cell_type"] == "markdown" and line.startswith("# "):
                return line[2:]
    return notebook.stem
