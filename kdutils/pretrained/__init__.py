"""The one door to weights and results: what comes with the package, and what was trained here.

    teacher = pretrained.load("teacher")                            # comes with the package
    run = pretrained.train_or_load("mine", model, data, recipe)     # trained once, then loaded
    pretrained.save_model(model, "mine.safetensors")
    model = pretrained.load_model("mine.safetensors", model)

Weights are safetensors, results JSON; nothing from outside is ever unpickled.
"""

from .library import CLASSES, FAMILY, available, fits, load, names, path, rounded, ship, trained
from .records import (
    SCHEMA,
    add_records,
    has_records,
    load_records,
    load_results,
    read_json,
    results_path,
    results_table,
    save_results,
    slug,
    write_json,
)
from .runs import Trained, soft_targets, train_or_load
from .weights import ArtifactError, load_model, read_metadata, save_model

__all__ = [
    "CLASSES", "FAMILY", "SCHEMA", "ArtifactError", "Trained", "add_records", "available", "fits", "has_records",
    "load", "load_model", "load_records", "load_results", "names", "path", "read_json",
    "read_metadata", "results_path", "results_table", "rounded", "save_model", "save_results",
    "ship", "slug", "soft_targets", "train_or_load", "trained", "write_json",
]  # fmt: skip
