"""`python -m kdutils train`: train one network to the end, however often it is stopped."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import (
    Stop,
    Subparsers,
    add_data_option,
    add_out,
    add_profile,
    apply,
    command,
    describe,
    output_folder,
    shown,
    whole,
)

if TYPE_CHECKING:
    from torch import nn

    from ..data import ImageData
    from ..losses import Loss
    from ..train import History, Recipe

CHECKPOINT, WEIGHTS, RECORD = "checkpoint.pt", "weights.safetensors", "record.json"


def add(commands: Subparsers) -> None:
    parser = command(
        commands,
        "train",
        "train one network, going on where it stopped",
        """
        Trains a network as the notebooks do: on labels, or with --teacher on a teacher's soft
        targets too. A checkpoint is kept after every epoch. Stopped in any way and started again
        with the same arguments it goes on, and ends in the same weights, bit for bit.

        The folder --out gets weights.safetensors and record.json (accuracies, history, machine).
        The test images are looked at once, at the end.
        """,
        """
        python -m kdutils train student                    # labels only
        python -m kdutils train student --teacher teacher  # distilled from the shipped teacher
        python -m kdutils train teacher --epochs 20 --out my-teacher
        python -m kdutils train student --teacher my-teacher --temperature 2
        torchrun --nproc-per-node 2 -m kdutils train student       # two processes together
        """,
    )
    parser.add_argument("name", metavar="NAME", help="the network: teacher, student, …")
    add_data_option(parser)
    add_profile(parser)
    add_out(parser, "DIR", "else a folder in results/train/")
    parser.add_argument(
        "--seed", metavar="S", type=whole(0, 2**32 - 1), default=0, help="first weights, batches"
    )
    _add_teaching(parser)
    _add_recipe(parser)
    parser.set_defaults(work=_train)


def _add_teaching(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what it learns from")
    group.add_argument(
        "--teacher",
        metavar="NAME",
        help="distil: the name of shipped weights, or what an earlier `train … --out` wrote "
        "(the folder or its .safetensors file)",
    )
    group.add_argument(
        "--temperature", metavar="T", type=float, help="softens the soft targets (4)"
    )
    group.add_argument(
        "--soft-weight", metavar="W", type=float, help="share of the soft targets, 0 to 1 (0.9)"
    )
    group.add_argument(
        "--label-smoothing", metavar="S", type=float, help="without --teacher: soften labels (0)"
    )


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how (else the recipe of the notebooks)")
    group.add_argument("--epochs", metavar="N", type=int, help="passes over the training images")
    group.add_argument("--batch-size", metavar="N", type=int, help="images in one step")
    group.add_argument("--learning-rate", metavar="R", type=float, help="the peak of the triangle")
    group.add_argument(
        "--muon", metavar="R", type=float, help="peak rate of Muon for filters; 0: SGD for all"
    )
    group.add_argument(
        "--ema", metavar="D", type=float, help="keep averaged weights, for example 0.99 (off)"
    )
    group.add_argument(
        "--cutout", metavar="PX", type=int, help="erase a square of this side; labels only (0)"
    )


def _train(args: argparse.Namespace) -> int:
    _check_options(args)
    chosen = apply(args)
    from ..runtime import distributed

    with distributed.process_group():
        print(chosen)
        return _work(args)


def _check_options(args: argparse.Namespace) -> None:
    """Options that would be ignored are refused."""
    if args.teacher is None and (args.temperature is not None or args.soft_weight is not None):
        raise Stop("--temperature and --soft-weight are for distilling; add --teacher NAME.")
    if args.teacher is not None and args.label_smoothing is not None:
        raise Stop("--label-smoothing is for training on labels only; leave out --teacher.")
    if args.teacher is not None and args.cutout:
        raise Stop("--cutout is for training on labels only: a teacher sees whole images.")


def _work(args: argparse.Namespace) -> int:
    from .. import models, pretrained
    from .. import train as engine
    from ..runtime import distributed

    try:
        loss = _loss(args)
        models.check_name(args.name)
        data = _load_data()
        model = models.build(args.name, args.seed, len(data.classes))
        recipe = _recipe(args, data)
    except ValueError as error:  # no such network, a bad weight, too few images, …
        raise Stop(str(error)) from None
    teacher = None if args.teacher is None else _teacher(args.teacher, data)
    targets = None if teacher is None else pretrained.soft_targets(teacher, data)
    identity = engine.identity(model, data, recipe, loss, targets, args.seed)
    out = _out_folder(args, data, identity)
    with _only_run_in(out):
        if (out / WEIGHTS).exists():
            _check_finished(out, identity)
            print("This training is finished already; nothing is left to do.")
            _tidy(out)
            return 0
        print(f"Training {args.name} for {recipe.epochs} epochs, {loss}, seed {args.seed}")
        try:
            history = engine.fit(
                model, data, recipe, loss=loss, soft_targets=targets, seed=args.seed,
                checkpoint=out / CHECKPOINT,
            )  # fmt: skip
        except KeyboardInterrupt:
            return _stopped(out)
        if distributed.is_main_process():
            facts = _facts(args.name, model, data, recipe, history, teacher, args.seed)
            pretrained.save_model(model, out / WEIGHTS, facts | {"identity": identity, "loss": repr(loss)})
            _tidy(out)
        distributed.barrier()
    return 0


def _load_data() -> ImageData:
    from ..course import experiments
    from ..runtime import distributed

    print("Looking for the data …", flush=True)
    with distributed.main_process_first():
        data = experiments.load_data()
    describe(data)
    return data


def _recipe(args: argparse.Namespace, data: ImageData) -> Recipe:
    from ..course import experiments

    budget = experiments.budget(data)
    epochs = budget.teacher_epochs if args.name == "teacher" else budget.student_epochs
    try:
        recipe = experiments.recipe(args.name, data, epochs)
    except KeyError:  # a network without a recipe of its own
        recipe = experiments.recipe("student", data, epochs)
    fields = ("epochs", "batch_size", "learning_rate", "muon", "ema", "cutout")
    asked = {name: getattr(args, name) for name in fields}
    return replace(recipe, **{name: value for name, value in asked.items() if value is not None})


def _loss(args: argparse.Namespace) -> Loss:
    from ..course import experiments
    from ..losses import LabelLoss

    if args.teacher is None:
        return LabelLoss(args.label_smoothing or 0.0)
    asked = {"temperature": args.temperature, "soft_weight": args.soft_weight}
    given = {name: value for name, value in asked.items() if value is not None}
    return replace(experiments.DISTILLATION, **given)


def _teacher(name: str, data: ImageData) -> nn.Module:
    """The teacher that `--teacher` names, in eval mode."""
    from .. import pretrained

    try:
        path = Path(name).expanduser()
        path = path / WEIGHTS if path.is_dir() else path
        is_file = path.is_file()
    except (OSError, RuntimeError):  # a name that is too long, a home that nobody has
        is_file = False
    if is_file:
        teacher = pretrained.load_model(path)
        print(f"Teacher: {teacher.metadata['network']} from {shown(path)}")
    elif pretrained.available(name, data):
        teacher = pretrained.load(name)
    else:
        raise Stop(_no_teacher(name, data))
    if (theirs := getattr(teacher, "classes", None)) != len(data.classes):
        raise Stop(f"The teacher knows {theirs} classes, but {data.name} has {len(data.classes)}.")
    if teacher.metadata.get("data") != data.fingerprint:
        print(f"Note: the teacher learned on {teacher.metadata.get('data_name', 'other data')}, "
              "not on exactly these images.")  # fmt: skip
    return teacher


def _no_teacher(name: str, data: ImageData) -> str:
    from .. import pretrained

    if name in pretrained.names():
        problem = f"The shipped {name!r} was made for {pretrained.FAMILY}, not for {data.name}"
    else:
        names = ", ".join(pretrained.names()) or "none yet"
        problem = f"There is no file {name!r}, and no weights of that name are shipped ({names})"
    return (
        f"{problem}. Train a teacher first, `python -m kdutils train teacher --out my-teacher`, "
        "then give --teacher my-teacher."
    )


def _out_folder(args: argparse.Namespace, data: ImageData, identity: dict[str, Any]) -> Path:
    """`--out`, or a folder that no other training has: its name follows from all that matters."""
    from .. import pretrained
    from ..runtime.settings import settings

    if args.out is not None:
        return args.out
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    kind = "labels" if args.teacher is None else "distilled"
    folder = f"{pretrained.slug(data.name)}-{settings().profile.name}"
    return settings().results / "train" / folder / f"{args.name}-{kind}-seed{args.seed}-{key}"


@contextmanager
def _only_run_in(out: Path) -> Iterator[None]:
    """Nobody else writes into `out` meanwhile; what a killed run left half-written is removed."""
    from filelock import FileLock, Timeout

    from ..runtime import distributed

    if not distributed.is_main_process():
        yield
        return
    output_folder(out)
    lock = FileLock(out / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise Stop(f"Another training is writing into {shown(out)}; wait, or stop it.", 1) from None
    try:
        for part in out.glob(".*.part"):
            part.unlink(missing_ok=True)
        print(f"Folder: {shown(out)}", flush=True)
        yield
    finally:
        lock.release()


def _check_finished(out: Path, identity: dict[str, Any]) -> None:
    """The finished weights in `out` are those of this very training."""
    from .. import pretrained

    theirs = pretrained.read_metadata(out / WEIGHTS).get("identity", {})
    other = [key for key in identity if theirs.get(key) != identity[key]]
    if other:
        raise Stop(
            f"{shown(out)} holds another finished training (another {' and '.join(other)}); choose "
            "another --out."
        )


def _facts(
    name: str,
    model: nn.Module,
    data: ImageData,
    recipe: Recipe,
    history: History,
    teacher: nn.Module | None,
    seed: int,
) -> dict[str, Any]:
    """What is noted beside the weights. Accuracies in percent; test is looked at here, once."""
    from .. import models, timing
    from ..runtime import distributed
    from ..runtime.settings import settings
    from ..train import score

    taught_by = None if teacher is None else teacher.metadata["network"]
    return {
        "network": name,
        "data": data.fingerprint,
        "data_name": data.name,
        "profile": settings().profile.name,
        "training_images": len(data.train),
        "seed": seed,
        "epochs": recipe.epochs,
        "recipe": asdict(recipe),
        "taught_by": taught_by,
        "parameters": models.count_parameters(model),
        "val_accuracy": 100 * history.last["val_accuracy"],
        "test_accuracy": 100 * score(model, data.test)[0],
        "train_seconds": history.last["seconds"],
        "processes": distributed.world_size(),
        "machine": timing.machine(),
        "date": date.today().isoformat(),
        "rows": history.rows,
    }


def _tidy(out: Path) -> None:
    """Write the record from what the weights say, drop the checkpoint, tell the result."""
    from .. import pretrained
    from ..runtime import distributed
    from ..runtime.files import atomic_path

    if not distributed.is_main_process():
        return
    facts = pretrained.read_metadata(out / WEIGHTS)
    with atomic_path(out / RECORD) as part:
        part.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    (out / CHECKPOINT).unlink(missing_ok=True)
    print(
        f"{facts['network']}: {facts['epochs']} epochs in {facts['train_seconds']:.0f} s, "
        f"validation {facts['val_accuracy']:.2f} %, test {facts['test_accuracy']:.2f} %"
    )
    print(f"Weights: {shown(out / WEIGHTS)}\nRecord:  {shown(out / RECORD)}")


def _stopped(out: Path) -> int:
    from ..train import read_checkpoint

    checkpoint = out / CHECKPOINT
    done = len(read_checkpoint(checkpoint)["rows"]) if checkpoint.exists() else 0
    kept = f"epoch {done} is kept in {shown(out / CHECKPOINT)}" if done else "no epoch was finished"
    print(f"\nStopped: {kept}. The same command goes on from there.", flush=True)
    return 130


__all__ = ["CHECKPOINT", "RECORD", "WEIGHTS", "add"]
