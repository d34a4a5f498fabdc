"""nbgrader's settings for this course. JupyterHub's formgrader reads this file too."""

import os
import sys
from pathlib import Path

from nbgrader.preprocessors import (
    AssignLatePenalties,
    CheckCellMetadata,
    ClearOutput,
    DeduplicateIds,
    GetGrades,
    IgnorePattern,
    LimitOutput,
    OverwriteCells,
    OverwriteKernelspec,
    SaveAutoGrades,
)
from nbconvert.preprocessors import ClearMetadataPreprocessor, CSSHTMLHeaderPreprocessor

sys.path.append(str(Path(__file__).parent))
from nbgrader_steps import ClearTestsFromFeedback, ExecuteTasks, PlainText, RestoreCells

c = get_config()  # noqa: F821  (nbgrader defines it)

c.CourseDirectory.course_id = "distillation"

# Seconds of processor time that one cell may take: `make grade DIR=... TIMEOUT=60`, or change it here.
c.ExecuteTasks.timeout = int(os.environ.get("KDUTILS_GRADE_TIMEOUT", "120"))

# nbgrader's own steps, and three of ours: text stays text, a deleted cell is put back, and the cells
# run in a process of their own, behind walls, where one that hangs fails alone.
c.Autograde.sanitize_preprocessors = [
    ClearOutput,
    PlainText,
    RestoreCells,
    DeduplicateIds,
    OverwriteKernelspec,
    OverwriteCells,
    CheckCellMetadata,
]
c.Autograde.autograde_preprocessors = [
    ExecuteTasks,
    IgnorePattern,
    ClearMetadataPreprocessor,
    LimitOutput,
    SaveAutoGrades,
    AssignLatePenalties,
    CheckCellMetadata,
]
# Feedback without the hidden tests, so that they serve next year's class as well.
c.GenerateFeedback.preprocessors = [GetGrades, ClearTestsFromFeedback, CSSHTMLHeaderPreprocessor]
