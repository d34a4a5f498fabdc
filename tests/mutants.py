"""Mutation tests: does a test turn red when the code is wrong?

    python tests/mutants.py planted                    # the bugs listed here, each with its test
    python tests/mutants.py score losses --sample 40   # mutmut's small changes, whoever sees them

A mutant runs in a fork of a process that has PyTorch loaded already, and its source is handed to
the import system: no file changes. `score` takes the operators of mutmut (mutmut's own runner leaves
functions with decorators out, Muon's step among them), all but those that change a string, since
wording is not behaviour.
"""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.machinery
import importlib.util
import os
import random
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCORED = ("losses", "metrics", "views", "timing", "soft_targets", "optim")
MOST_SECONDS = 300.0  # for one mutant on a busy machine; an endless loop counts as seen
PASSED, FAILED = 0, 1  # exit codes of pytest


@dataclass(frozen=True)
class Planted:
    """A bug: in `file` the text `old`, which stands there once, becomes `new`; `test` sees it."""

    what: str
    file: str
    old: str
    new: str
    test: str


PLANTED = (
    Planted(
        "augment=False ignored", "kdutils/batches.py",
        "epoch_views(len(self.images), VIEW_SEED, epoch) if augment else None",
        "epoch_views(len(self.images), VIEW_SEED, epoch)",
        "tests/test_train.py::test_an_epoch_shows_its_views_which_are_those_of_every_seed",
    ),
    Planted(
        "views follow the seed", "kdutils/batches.py",
        "        views = self.views(epoch)",
        "        views = epoch_views(len(self.images), seed, epoch)",
        "tests/test_train.py::test_an_epoch_shows_its_views_which_are_those_of_every_seed",
    ),
    Planted(
        "no views at all", "kdutils/batches.py",
        "epoch_views(len(self.images), VIEW_SEED, epoch) if augment else None",
        "None",
        "tests/test_train.py::test_an_epoch_shows_its_views_which_are_those_of_every_seed",
    ),
    Planted(
        "Muon without Nesterov", "kdutils/optim.py",
        'gradient.lerp(slow, group["momentum"])', "slow",
        "tests/test_optim.py::test_muon_looks_ahead_as_nesterov_does",
    ),
    Planted(
        "train_loss divided by all images", "kdutils/train.py",
        "totals.tolist()", "(*totals.tolist()[:2], len(self.data.train))",
        "tests/test_train.py::test_the_history_holds_mean_loss_share_right_and_last_rate_of_an_epoch",
    ),
    Planted(
        "training without autocast", "kdutils/train.py",
        "with autocast(self.device):", "if True:",
        "tests/test_train.py::test_training_computes_in_bfloat16_where_that_is_native",
    ),
    Planted(
        "the rate of the epoch's first step", "kdutils/train.py",
        "self.rate(self.steps * (epoch + 1) - 1)", "self.rate(self.steps * epoch)",
        "tests/test_train.py::test_the_history_holds_mean_loss_share_right_and_last_rate_of_an_epoch",
    ),
    Planted(
        "quartiles for deciles", "kdutils/timing.py", "n=10", "n=4",
        "tests/test_timing.py::test_the_percentiles_are_deciles",
    ),
    Planted(
        "no warm-up", "kdutils/timing.py", "for _ in range(warmup):", "for _ in range(0):",
        "tests/test_timing.py::test_warm_up_is_not_counted",
    ),
    Planted(
        "latency ignores threads", "kdutils/timing.py",
        "torch.set_num_threads(number)", "torch.set_num_threads(before)",
        "tests/test_timing.py::test_each_call_is_in_eval_mode_on_as_many_threads_as_asked_for_after_a_warm_up",
    ),
    Planted(
        "compare in train mode", "kdutils/timing.py",
        "eval_mode, layout_of", "restored_modes as eval_mode, layout_of",
        "tests/test_timing.py::test_each_call_is_in_eval_mode_on_as_many_threads_as_asked_for_after_a_warm_up",
    ),
    Planted(
        "ten bins of calibration", "kdutils/metrics.py", "n_bins=15", "n_bins=10",
        "tests/test_metrics.py::test_calibration_error_has_fifteen_bins",
    ),
    Planted(
        "ten bins of reliability", "kdutils/metrics.py", "bins: int = 15", "bins: int = 10",
        "tests/test_metrics.py::test_calibration_error_has_fifteen_bins",
    ),
    Planted(
        "matched smoothing is a constant", "kdutils/course/experiments.py",
        "smoothing = round(matched_smoothing(seen, part.train.labels, loss.soft_weight), 3)",
        "smoothing = 0.1",
        "tests/course/test_experiments.py::test_smoothing_is_matched_to_this_teacher",
    ),
    Planted(
        "no dirac initialisation", "kdutils/models.py",
        "nn.init.dirac_(widen.weight.data[:channels_in])", "pass",
        "tests/test_models.py::test_stages_start_as_a_copy_of_their_input",
    ),
    Planted(
        "another output scale", "kdutils/models.py", "Scale(0.125)", "Scale(0.25)",
        "tests/test_models.py::test_first_logits_are_an_eighth",
    ),
    Planted(
        "device: labels stay", "kdutils/batches.py",
        "self.labels = split.labels.to(device)", "self.labels = split.labels",
        "tests/test_devices.py::test_training_and_measuring_stay_on_one_device",
    ),
    Planted(
        "device: images stay when measured", "kdutils/evaluation.py",
        "normalise(images.to(device),", "normalise(images,",
        "tests/test_devices.py::test_training_and_measuring_stay_on_one_device",
    ),
    Planted(
        "device: images stay when timed", "kdutils/timing.py",
        "images.to(device, dtype", "images.to(dtype",
        "tests/test_devices.py::test_training_and_measuring_stay_on_one_device",
    ),
    Planted(
        "device: images stay when the teacher is asked", "kdutils/soft_targets.py",
        "split.images.to(device)", "split.images",
        "tests/test_devices.py::test_a_teacher_may_be_on_another_device_than_its_student",
    ),
)  # fmt: skip


class _Mutant(importlib.abc.MetaPathFinder, importlib.machinery.SourceFileLoader):
    """Imports one module from a text instead of its file."""

    def __init__(self, file: str, text: str) -> None:
        module = ".".join(Path(file).with_suffix("").parts)
        importlib.machinery.SourceFileLoader.__init__(self, module, str(ROOT / file))
        self.text = text

    def find_spec(self, name, path=None, target=None):  # noqa: ANN001, ANN201
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(name, self.path, loader=self)

    def get_code(self, fullname: str):  # noqa: ANN201
        return compile(self.text, self.path, "exec", dont_inherit=True)


def warm_up() -> None:
    """What every test needs and no mutant changes, loaded once."""
    for name in ("numpy", "scipy.stats", "torch", "torch.utils.flop_counter", "pytest", "tqdm.auto",
                 "torchmetrics.functional.classification", "safetensors.torch"):  # fmt: skip
        importlib.import_module(name)


def start(tests: Iterable[str], file: str = "", text: str = "") -> int:
    """Fork, plant, run the tests there; returns the child's process id."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    code = 99
    try:
        os.chdir(ROOT)
        sys.path.insert(0, str(ROOT))
        if file:
            sys.meta_path.insert(0, _Mutant(file, text))
        import pytest

        code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:nbval", *tests]))
    finally:
        os._exit(code)


def finish(child: int, seconds: float = MOST_SECONDS) -> int:
    """pytest's exit code; -1 when it took too long and was ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -1


def replay(only: str) -> int:
    """Plant each bug of the list that has `only` in its name; how many were not seen."""
    bugs = [bug for bug in PLANTED if only in bug.what]
    if finish(start({bug.test for bug in bugs}), 4 * MOST_SECONDS) != PASSED:
        sys.exit("The named tests are not green without any bug; run them first.")
    missed = 0
    for bug in bugs:
        text = (ROOT / bug.file).read_text(encoding="utf-8").replace(bug.old, bug.new)
        seen = finish(start([bug.test], bug.file, text)) == FAILED
        missed += not seen
        print(
            f"{'seen  ' if seen else 'MISSED'} {bug.what} ({bug.test.split('::')[1]})", flush=True
        )
    return missed


def mutants(source: str) -> Iterator[tuple[int, str]]:
    """(line, whole text with one small change) by mutmut's operators, strings left alone."""
    import libcst as cst
    from libcst.metadata import MetadataWrapper, PositionProvider
    from mutmut.mutation.mutators import mutation_operators, operator_string

    tree = MetadataWrapper(cst.parse_module(source), unsafe_skip_copy=True)
    lines = tree.resolve(PositionProvider)
    operators = [(kind, make) for kind, make in mutation_operators if make is not operator_string]

    def below(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        if isinstance(node, cst.Annotation | cst.Decorator | cst.ImportFrom | cst.Import):
            return
        yield node
        for child in node.children:
            yield from below(child)

    known = {source}
    for node in below(tree.module):
        for kind, make in operators:
            for other in make(node) if isinstance(node, kind) else ():
                text = tree.module.deep_replace(node, other).code
                if text not in known:
                    known.add(text)
                    yield (lines[node].start.line if node in lines else 0), text


def score(modules: Iterable[str], sample: int, seed: int) -> None:
    """Of each module's mutants (or a sample), how many its own file of tests sees."""
    total = seen = 0
    for module in modules:
        file, tests = f"kdutils/{module}.py", [f"tests/test_{module}.py"]
        source = (ROOT / file).read_text(encoding="utf-8")
        every = list(mutants(source))
        chosen = random.Random(seed).sample(every, min(sample or len(every), len(every)))
        if finish(start(tests), 4 * MOST_SECONDS) != PASSED:
            sys.exit(f"{tests[0]} is not green without any mutant; run it first.")
        alive = []
        for line, text in chosen:
            if finish(start(tests, file, text)) == PASSED:
                alive.append(line)
                changed = next(
                    new for old, new in zip(source.splitlines(), text.splitlines(), strict=False)
                    if old != new
                )  # fmt: skip
                print(f"  alive: {file}:{line}: {changed.strip()}", flush=True)
        killed = len(chosen) - len(alive)
        total, seen = total + len(chosen), seen + killed
        print(f"{module}: {killed} of {len(chosen)} mutants seen ({len(every)} exist), "
              f"{100 * killed / max(1, len(chosen)):.0f} %", flush=True)  # fmt: skip
    print(f"all: {seen} of {total}, {100 * seen / max(1, total):.1f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    planted = commands.add_parser("planted")
    planted.add_argument("only", nargs="?", default="")
    scored = commands.add_parser("score")
    scored.add_argument("modules", nargs="*", default=SCORED)
    scored.add_argument("--sample", type=int, default=0, help="mutants a module; 0: all")
    scored.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a fork must find no other threads
    warm_up()
    if arguments.command == "planted":
        sys.exit(1 if replay(arguments.only) else 0)
    score(arguments.modules, arguments.sample, arguments.seed)


if __name__ == "__main__":
    main()
