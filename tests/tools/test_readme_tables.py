"""The README's tables: made from a record, and in step with the one in the repository."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kdutils import pretrained
from kdutils.course import long_runs
from kdutils.pretrained import ArtifactError
from kdutils.runtime.files import recorded
from kdutils.tools import bench, readme_tables


def benchmark_row(role: str, accuracy: list[float]) -> dict[str, object]:
    return {
        "name": f"the {role}", "role": role, "data": "made-up data", "parameters": 1000,
        "macs": 2_000_000, "size_mb": 0.5, "test_accuracy": accuracy, "latency_ms": 1.0,
    }  # fmt: skip


RECORD = {
    "date": "2026-01-02",
    "data": "made-up data",
    "profile": "class",
    "machine": "an abacus",
    "notebooks": [{"name": "01_data", "seconds": 50.0}, {"name": "02_teacher", "seconds": 600.0}],
    "benchmark": [
        benchmark_row("teacher", [90.0]),
        benchmark_row("baseline", [80.0, 81.0]),
        benchmark_row("distilled", [82.0, 83.0]) | {"difference": 2.0, "interval": [1.5, 2.5]},
    ],
}


def test_results_block_puts_ours_beside_the_published_numbers() -> None:
    block = readme_tables.results_block(RECORD)
    assert "| the teacher | 83.13 % | 90.00 % (1 seed) | **" in block
    assert "| the distilled | 70.86 % | 82.50 ± 0.71 % (2 seeds) | **" in block
    assert "| 1,000 | 2.0 M |" in block
    assert "**+2.00 points**" in block


def test_results_block_shows_the_longest_training_of_each_network() -> None:
    block = readme_tables.results_block(RECORD)
    for role in readme_tables.STARTING_POINT:
        longest = max(row["epochs"] for row in long_runs.summaries() if row["arm"] == role)
        (line,) = (line for line in block.splitlines() if f"the {role} | " in line and "**" in line)
        assert f", {longest} epochs** |" in line


def test_speed_block_shows_every_comparison_of_the_recorded_benchmark() -> None:
    block = readme_tables.speed_block()
    record = json.loads(recorded("bench.json").read_text())
    assert set(bench.RATIOS) <= set(record["ratios"])
    for name, (_, _, aim) in bench.RATIOS.items():
        measured = f"{record['ratios'][name]['median']:.2f}x ("
        (line,) = (line for line in block.splitlines() if line.startswith(f"| {name} | "))
        assert measured in line and line.endswith(f"aim {aim:g}x |")
    assert record["machine"] in block and "7 rounds" in block


def test_map_block_takes_titles_from_the_notebooks_and_times_from_the_record() -> None:
    block = readme_tables.map_block(RECORD)
    assert "| [01](notebooks/01_data.ipynb) |" in block and "| 50 s |" in block
    assert "| 10 min |" in block and "11 min in all (an abacus, 2026-01-02)" in block


def test_fill_replaces_only_what_is_between_the_markers() -> None:
    text = "a\n<!-- results -->\nstale\n<!-- /results -->\nb\n<!-- map -->\n<!-- /map -->\n"
    text += "<!-- numbers -->\n<!-- /numbers -->\n<!-- speed -->\n<!-- /speed -->\nc\n"
    filled = readme_tables.fill(text, RECORD)
    assert filled.startswith("a\n") and filled.endswith("c\n") and "\nb\n" in filled
    assert "stale" not in filled
    assert readme_tables.fill(filled, RECORD) == filled


def test_fill_wants_its_markers() -> None:
    with pytest.raises(ValueError, match="no <!-- results -->"):
        readme_tables.fill("nothing", RECORD)


def test_record_comes_back_and_a_missing_one_says_so(tmp_path: Path) -> None:
    pretrained.write_json(tmp_path / "r.json", RECORD)
    assert readme_tables.load(tmp_path / "r.json") == RECORD
    with pytest.raises(ArtifactError, match="Nothing has been recorded yet"):
        readme_tables.load(tmp_path / "none.json")


def test_readme_is_in_step_with_the_recorded_run() -> None:
    """Every number in the README's tables is the recorded one: `python -m kdutils readme`."""
    text = (readme_tables.checkout() / "README.md").read_text(encoding="utf-8")
    assert readme_tables.fill(text, readme_tables.load()) == text


def test_the_record_is_of_the_real_images_in_the_class_profile() -> None:
    record = json.loads(readme_tables.record_path().read_text())
    assert record["profile"] == "class" and record["data"].startswith("CIFAR-10")
    assert {row["role"] for row in record["benchmark"]} == {"teacher", "baseline", "distilled"}
    for row in record["benchmark"]:
        assert row["data"] == record["data"] and len(row["test_accuracy"]) == len(row["seeds"])
