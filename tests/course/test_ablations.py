"""The runner: one schema, nothing done twice, nothing unfinished recorded, side by side."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from small import TinyNet, tiny_data
from torch import Tensor

from kdutils import pretrained, train
from kdutils.course.ablations import AblationConfig, AblationRunner, Arm, default_jobs, history
from kdutils.course.comparisons import compare, markdown, seed_noise
from kdutils.losses import Distillation, LabelLoss
from kdutils.pretrained import SCHEMA, ArtifactError
from kdutils.soft_targets import ShuffledTargets
from kdutils.train import Recipe

RECIPE = Recipe(epochs=2, batch_size=50, learning_rate=0.05)
LABELS = Arm("labels", RECIPE, network=TinyNet, title="labels only")
TAUGHT = Arm("taught", RECIPE, Distillation(), "tiny", TinyNet)
SHUFFLED = replace(
    TAUGHT, name="shuffled", wrap=lambda targets, labels: ShuffledTargets(targets, labels, True)
)


def runner(folder: Path, **changes: object) -> AblationRunner:
    about = {"teachers": {"tiny": TinyNet(9)}, "command": "a test", "soft_targets": folder / "soft"}
    return AblationRunner(AblationConfig(tiny_data(200), folder, **about | changes))


@pytest.fixture
def said() -> list[str]:
    return []


def test_a_record_has_the_one_schema(tmp_path: Path, said: list[str]) -> None:
    labels, taught = runner(tmp_path).run([LABELS, TAUGHT], say=said.append)
    for record in (labels, taught):
        assert tuple(record)[: len(SCHEMA)] == SCHEMA
        assert record["curve"]["val_accuracy"][-1] * 100 == pytest.approx(record["val"])
        assert record["recipe"]["epochs"] == 2 and record["network"] == "TinyNet"
        assert record["data"] == "colours" and record["command"] == "a test"
        assert record["seconds"] > 0 and record["machine"] and record["version"]
    assert (labels["method"], taught["method"]) == ("labels", "soft targets")
    assert labels["loss"] != taught["loss"]
    assert said[0] == f"labels only, seed 0: test {labels['test']:.2f} %"
    kept = json.loads(runner(tmp_path).path(LABELS, 0).read_text())
    assert kept == labels, "the file holds what the caller gets"


def test_the_accuracies_are_those_of_a_plain_training(tmp_path: Path) -> None:
    (record,) = runner(tmp_path).run([LABELS], [3], say=lambda words: None)
    data, model = tiny_data(200), TinyNet(3)
    rows = train.fit(model, data, RECIPE, seed=3, progress=False).rows
    assert record["test"] == round(100 * train.evaluate(model, data.test).accuracy, 2)
    found = history(record)
    assert [row["epoch"] for row in found.rows] == [1, 2]
    assert found.column("val_accuracy") == pytest.approx([row["val_accuracy"] for row in rows])


def test_nothing_is_done_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    first = runner(tmp_path).run([LABELS, SHUFFLED], (0, 1), say=said.append)
    monkeypatch.setattr(AblationRunner, "run_one", lambda *a: pytest.fail("done already"))
    again = runner(tmp_path).run([LABELS, SHUFFLED], (0, 1), say=said.append)
    assert again == first and len(said) == 4
    assert [(one["name"], one["seed"]) for one in again] == [
        ("labels", 0), ("labels", 1), ("shuffled", 0), ("shuffled", 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [{"recipe": replace(RECIPE, epochs=1)}, {"loss": LabelLoss(0.1)}, {"teacher": "tiny"},
     {"after_epoch": lambda model, row: None}],
)  # fmt: skip
def test_another_arm_of_the_same_name_is_another_run(
    tmp_path: Path, change: dict[str, object]
) -> None:
    here = runner(tmp_path)
    assert here.path(replace(LABELS, **change), 0) != here.path(LABELS, 0)


def test_skipped_runs_and_untested_ones(tmp_path: Path) -> None:
    (record,) = runner(tmp_path, test=False).run(
        [LABELS], (0, 1), skip={("labels", 0)}, say=lambda words: None
    )
    assert record["seed"] == 1 and record["test"] is None and record["val"] > 0


def test_weights_are_kept_on_request(tmp_path: Path) -> None:
    here = runner(tmp_path, weights=True)
    (record,) = here.run([LABELS], say=lambda words: None)
    weights = here.path(LABELS, 0).with_suffix(".safetensors")
    model = pretrained.load_model(weights, TinyNet(5), here.config.data)
    score = 100 * train.evaluate(model, here.config.data.test).accuracy
    assert record["test"] == pytest.approx(score, abs=0.006)


def test_a_teacher_is_made_when_it_is_needed_and_an_unknown_one_is_named(tmp_path: Path) -> None:
    made: list[int] = []
    here = runner(tmp_path, teachers={"tiny": lambda: made.append(1) or TinyNet(9)})
    here.run([LABELS], say=lambda words: None)
    assert made == []
    here.run([TAUGHT, SHUFFLED], say=lambda words: None)
    assert made == [1], "once, for all arms"
    with pytest.raises(ArtifactError, match="no teacher 'strong' here; it is one of tiny"):
        here.run([replace(TAUGHT, teacher="strong")], say=lambda words: None)


@dataclass(frozen=True)
class Broken:
    """NaN from the first step on."""

    def __call__(self, student: Tensor, teacher: Tensor | None, labels: Tensor) -> Tensor:
        return student.sum() * math.nan


def test_a_run_that_diverges_is_a_result(tmp_path: Path) -> None:
    (record,) = runner(tmp_path).run([replace(LABELS, loss=Broken())], say=lambda words: None)
    assert "became nan" in record["diverged"] and record["val"] is None
    assert record["curve"] == {} and 0 <= record["test"] <= 100


# --- one Ctrl-C -----------------------------------------------------------------------------------


def test_an_interrupt_records_nothing_unfinished_and_is_gone_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = replace(LABELS, recipe=replace(RECIPE, epochs=4))
    real, looks = train.score, []

    def score(*arguments: object) -> object:
        looks.append(1)
        if len(looks) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(train, "score", score)
    with pytest.raises(KeyboardInterrupt):
        runner(tmp_path).run([long], (0, 1), say=lambda words: None)
    assert not list(tmp_path.rglob("*.json")), "neither the cut run, nor the one after it"
    assert len(list(tmp_path.rglob("*.ckpt"))) == 1
    looks.clear()
    monkeypatch.setattr(train, "score", lambda *a: looks.append(1) or real(*a))
    (record,) = runner(tmp_path).run([long], (0,), say=lambda words: None)
    assert len(record["curve"]["val_accuracy"]) == 4
    assert len(looks) == 2, "epochs 3 and 4 were missing"
    assert not list(tmp_path.rglob("*.ckpt"))
    (whole,) = runner(tmp_path / "other").run([long], (0,), say=lambda words: None)
    assert record["curve"]["train_loss"] == whole["curve"]["train_loss"], "as if never stopped"


SCRIPT = """
import sys
from test_ablations_script import LONG, runner
try:
    runner(sys.argv[1]).run([LONG], range(4), jobs=2)
except KeyboardInterrupt:
    sys.exit(130)
"""
SHARED = """
from dataclasses import replace
from pathlib import Path
from small import TinyNet, tiny_data
from kdutils.course.ablations import AblationConfig, AblationRunner, Arm
from kdutils.train import Recipe
LONG = Arm("long", Recipe(epochs=100_000, batch_size=50), network=TinyNet)
def runner(folder):
    return AblationRunner(AblationConfig(tiny_data(200), Path(folder), soft_targets=Path(folder)))
"""


@pytest.mark.skipif(os.name == "nt", reason="a console's Ctrl-C cannot be sent there")
def test_one_interrupt_stops_all_processes(tmp_path: Path, checkout: Path) -> None:
    (tmp_path / "test_ablations_script.py").write_text(SHARED)
    path = os.pathsep.join(map(str, (checkout, checkout / "tests", tmp_path)))
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "out")], start_new_session=True,
        env=os.environ | {"PYTHONPATH": path}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 300
        while len(list(tmp_path.glob("out/runs/*.ckpt"))) < 2 and time.monotonic() < deadline:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGINT)  # what a terminal does: all of the group get it
        _, errors = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130 and "Traceback" not in errors, errors
    assert not list(tmp_path.glob("out/runs/*.json"))
    assert len(list(tmp_path.glob("out/runs/*.ckpt"))) == 2, "each run goes on from here"
    before = {file: file.stat().st_mtime_ns for file in tmp_path.glob("out/runs/*.ckpt")}
    time.sleep(1)
    assert before == {f: f.stat().st_mtime_ns for f in before}, "no process is left at work"


# --- side by side ---------------------------------------------------------------------------------


def test_side_by_side_gives_what_one_after_the_other_gives(tmp_path: Path, said: list[str]) -> None:
    arms = [LABELS, TAUGHT]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the workers
    alone = runner(tmp_path / "a").run(arms, (0, 1, 2), say=lambda words: None)
    torch.set_num_threads(threads)
    together = runner(tmp_path / "b").run(arms, (0, 1, 2), jobs=2, say=said.append)
    facts = ("name", "seed", "val", "test", "loss")
    assert [[r[f] for f in facts] for r in together] == [[r[f] for f in facts] for r in alone]
    assert [r["curve"]["train_loss"] for r in together] == [r["curve"]["train_loss"] for r in alone]
    assert all(", 1 thread" in record["machine"] for record in together)
    assert len(said) == 6


def test_a_cluster_of_two_workers(tmp_path: Path, said: list[str]) -> None:
    from dask.distributed import LocalCluster

    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=str(tmp_path)
    )
    try:
        here = runner(tmp_path / "a")
        records = here.run(
            [LABELS, TAUGHT], (0, 1, 2), cluster=cluster.scheduler_address, say=said.append
        )
    finally:
        with contextlib.suppress(TimeoutError):  # a busy machine: workers end later than it waits
            cluster.close()
    assert [(one["name"], one["seed"]) for one in records] == [
        (arm, seed) for arm in ("labels", "taught") for seed in (0, 1, 2)
    ]
    assert len(said) == 6 and all(here.path(LABELS, seed).exists() for seed in (0, 1, 2))


def test_a_cluster_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*arguments: object, **more: object) -> None:
        raise OSError("Timed out")

    monkeypatch.setattr("dask.distributed.Client", nobody)
    with pytest.raises(ArtifactError, match="No dask scheduler answers at tcp://127.0.0.1:9"):
        runner(tmp_path).run([LABELS], cluster="tcp://127.0.0.1:9")


def test_smoke_runs_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_jobs() == 1
    monkeypatch.setenv("KDUTILS_PROFILE", "class")
    assert default_jobs() >= 1


# --- what the records say -------------------------------------------------------------------------


def test_compare_pairs_by_seed() -> None:
    records = [
        {"name": name, "seed": seed, "test": value}
        for name, values in {"a": (60, 61, 62), "b": (63, 64.1)}.items()
        for seed, value in enumerate(values)
    ]
    assert compare(records, "b", "a").mean == pytest.approx(3.05)
    with pytest.raises(ArtifactError, match="fewer than two seeds in common"):
        compare(records[:4], "b", "a")


def test_seed_noise_by_hand() -> None:
    noise = seed_noise([60.0, 61.0, 62.0])
    assert (noise.deviation, noise.runs) == (1.0, 3)
    # t = 1.84 / sqrt(2) = 1.301 with 2 degrees of freedom: p = 1 - t / sqrt(2 + t^2)
    t = 1.84 / math.sqrt(2)
    assert noise.chance(1.84) == pytest.approx(1 - t / math.sqrt(2 + t**2), rel=1e-6)
    assert noise.chance(0) == pytest.approx(1) and noise.chance(50) < 0.001
    with pytest.raises(ArtifactError, match="two runs or more"):
        seed_noise([60.0])


def test_a_table_in_markdown() -> None:
    assert markdown({"arm": "---", "points": "---:"}, [["a", "1"]]).splitlines() == [
        "| arm | points |", "|---|---:|", "| a | 1 |",
    ]  # fmt: skip
