"""The numbered notebooks keep the house form, and the runner does what it says.

A rule is a function from a notebook to complaints, a list of sentences that is empty when all is
well. Each rule is applied to every notebook, and each is shown a notebook that breaks it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from kdutils.tools import notebooks
from kdutils.tools.notebooks import PAIRING, WIDGET_VIEW, NotebookError

Complaints = list[str]
CHECKOUT = Path(__file__).resolve().parents[2]
SERIES = sorted((CHECKOUT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
SCRIPTS = sorted((CHECKOUT / "notebooks" / "scripts").glob("[0-9][0-9]_*.py"))
LONGEST_CELL = 15  # lines of code, blank lines and comments not counted
LARGEST_FILE = 1_500_000  # bytes
SELF_CHECK = re.compile(r"#\s*Self-check\b")

# --- looking into a notebook ----------------------------------------------------------------------


def prose(notebook: NotebookNode) -> str:
    """All Markdown as one text, without fenced code (a comment there is no heading)."""
    text = "\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    return re.sub(r"^(```|~~~).*?^\1", "", text, flags=re.MULTILINE | re.DOTALL)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def section(notebook: NotebookNode, title: str) -> str | None:
    """What stands under the heading `## title`, up to the next heading of its level."""
    found = re.search(
        rf"^## {re.escape(title)}[ \t]*\n(.*?)(?=^##? |\Z)",
        prose(notebook) + "\n",
        flags=re.MULTILINE | re.DOTALL,
    )
    return None if found is None else found[1]


def items(text: str) -> list[str]:
    """The list items of a Markdown text (the first line of each)."""
    return re.findall(r"^(?:[-*]|\d+\.) (.+)", text, flags=re.MULTILINE)


def lines_of_code(source: str) -> int:
    return sum(
        bool(line.strip()) and not line.lstrip().startswith("#") for line in source.splitlines()
    )


def pictures(cell: NotebookNode) -> list[tuple[int, NotebookNode]]:
    """(index, output) of the pictures that a cell shows."""
    return [
        (index, output)
        for index, output in enumerate(cell.outputs)
        if any(kind.startswith("image/") for kind in output.get("data", {}))
    ]


# --- the rules ------------------------------------------------------------------------------------


def has_one_title(notebook: NotebookNode) -> Complaints:
    titles = re.findall(r"^# .+", prose(notebook), flags=re.MULTILINE)
    first = notebook.cells[0] if notebook.cells else None
    if first is None or first.cell_type != "markdown" or not first.source.startswith("# "):
        return ["the first cell should begin with the title, `# …`"]
    return [] if len(titles) == 1 else [f"one title, not {len(titles)}: {titles}"]


def says_what_you_learn(notebook: NotebookNode) -> Complaints:
    found = re.search(r"you will be able to\b.*?\n((?:\n|[-*\d ].*\n?)+)", prose(notebook) + "\n")
    if found is None:
        return ["it should say 'After this notebook you will be able to', and a list"]
    n = len(items(found[1]))
    return [] if 3 <= n <= 5 else [f"3 to 5 things you will be able to, not {n}"]


def says_needs_and_time(notebook: NotebookNode) -> Complaints:
    text = prose(notebook)
    complaints = [f"it should say **{w}:** …" for w in ("Needs", "Time") if f"**{w}:**" not in text]
    if not complaints and not re.search(r"\*\*Time:\*\*[^.]*\b(minutes?|seconds?|hour)\b", text):
        complaints.append("**Time:** should be in minutes")
    return complaints


def has_self_checks(notebook: NotebookNode) -> Complaints:
    checks = [c.source for c in code_cells(notebook) if SELF_CHECK.match(c.source)]
    if len(checks) < 3:
        return [f"at least 3 code cells that begin with `# Self-check`, not {len(checks)}"]
    complaints = []
    for source in checks:
        asserts = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assert)]
        if not asserts:
            complaints.append(f"a self-check without an assert: {source[:60]!r}")
        if any(node.msg is None for node in asserts):
            complaints.append(f"an assert without a friendly message: {source[:60]!r}")
    return complaints


def asks_before_it_shows(notebook: NotebookNode) -> Complaints:
    asked = [
        index
        for index, cell in enumerate(notebook.cells)
        if cell.cell_type == "markdown" and "**Before you run this" in cell.source
    ]
    if not asked:
        return ["it should ask `**Before you run this:** what do you expect?` at least once"]
    return [
        f"cell {i} asks 'Before you run this', but no code cell follows"
        for i in asked
        if i + 1 >= len(notebook.cells) or notebook.cells[i + 1].cell_type != "code"
    ]


def folds_its_solutions(notebook: NotebookNode) -> Complaints:
    text = prose(notebook)
    opened, closed = text.count("<details>"), text.count("</details>")
    if not re.search(r"^## .*Exercises?\b", text, flags=re.MULTILINE):
        return ["it should have a section `## Exercises`"]
    if opened == 0 or text.count("<summary>") < opened:
        return ["exercises need solutions in <details><summary>Solution</summary> … </details>"]
    return [] if opened == closed else [f"{opened} <details>, but {closed} </details>"]


def ends_in_three_lines(notebook: NotebookNode) -> Complaints:
    text = section(notebook, "In three lines")
    if text is None:
        return ["it should have a section `## In three lines`"]
    n = len(items(text))
    return [] if n == 3 else [f"`## In three lines` should be a list of three, not {n}"]


def has_references(notebook: NotebookNode) -> Complaints:
    text = section(notebook, "References")
    return [] if text and items(text) else ["it should have a section `## References` with a list"]


def has_short_cells(notebook: NotebookNode) -> Complaints:
    return [
        f"a code cell of {lines_of_code(cell.source)} lines (at most {LONGEST_CELL}): "
        f"{cell.source[:60]!r}"
        for cell in code_cells(notebook)
        if lines_of_code(cell.source) > LONGEST_CELL
    ]


def describes_its_pictures(notebook: NotebookNode) -> Complaints:
    complaints = []
    for cell in code_cells(notebook):
        shown = pictures(cell)
        for place, (index, output) in enumerate(shown):
            kinds = [kind for kind in output.data if kind.startswith("image/")]
            if not any(output.metadata.get(kind, {}).get("alt", "").strip() for kind in kinds):
                complaints.append(f"a picture without alt text: {cell.source[:60]!r}")
            end = shown[place + 1][0] if place + 1 < len(shown) else len(cell.outputs)
            below = (out.get("data", {}) for out in cell.outputs[index + 1 : end])
            if not any("text/html" in data or "text/markdown" in data for data in below):
                complaints.append(f"a picture without a sentence below it: {cell.source[:60]!r}")
    return complaints


def was_run(notebook: NotebookNode) -> Complaints:
    missing = sum(cell.execution_count is None for cell in code_cells(notebook) if cell.source)
    if not missing:
        return []
    return [f"{missing} cells were not run: python -m kdutils run --in-place"]


def has_no_errors(notebook: NotebookNode) -> Complaints:
    return [
        f"a cell ended in an error: {output.ename}: {output.evalue}"
        for cell in code_cells(notebook)
        for output in cell.outputs
        if output.output_type == "error"
    ]


def shows_no_absolute_path(notebook: NotebookNode) -> Complaints:
    return [f"a path of somebody's machine: {path}" for path in notebooks.absolute_paths(notebook)]


def has_no_widget_state(notebook: NotebookNode) -> Complaints:
    complaints = ["metadata.widgets: GitHub refuses it"] if "widgets" in notebook.metadata else []
    views = sum(WIDGET_VIEW in o.get("data", {}) for c in code_cells(notebook) for o in c.outputs)
    return complaints + ([f"{views} dead widget views among the outputs"] if views else [])


def calls_nothing_that_hangs(notebook: NotebookNode) -> Complaints:
    """`interact` and `Output` hang headless kernels; `plt.show` shows no alt text."""
    banned = r"\bplt\.show\b|\binteract(?:ive|ive_output|_manual)?\s*\(|\bwidgets\.Output\b"
    return [
        f"it calls {found[0]!r}; use kdutils.plots.show, and kdutils.widgets for controls"
        for cell in code_cells(notebook)
        if (found := re.search(banned, cell.source))
    ]


def is_paired(notebook: NotebookNode) -> Complaints:
    if notebook.metadata.get("jupytext") == PAIRING:
        return []
    return ["its metadata do not pair it with a script: python -m kdutils notebooks sync"]


RULES: list[Callable[[NotebookNode], Complaints]] = [
    has_one_title,
    says_what_you_learn,
    says_needs_and_time,
    has_self_checks,
    asks_before_it_shows,
    folds_its_solutions,
    ends_in_three_lines,
    has_references,
    has_short_cells,
    describes_its_pictures,
    was_run,
    has_no_errors,
    shows_no_absolute_path,
    has_no_widget_state,
    calls_nothing_that_hangs,
    is_paired,
]


# --- the series -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", SERIES, ids=lambda path: path.stem)
def test_house_form(path: Path, rule: Callable[[NotebookNode], Complaints]) -> None:
    complaints = rule(notebooks.read(path))
    assert not complaints, "\n".join([path.name, *complaints])


@pytest.mark.parametrize("path", SERIES, ids=lambda path: path.stem)
def test_in_step_with_its_script(path: Path) -> None:
    difference = notebooks.out_of_step(path)
    assert not difference, f"{path.name}: python -m kdutils notebooks sync\n{difference}"


@pytest.mark.parametrize("path", SERIES, ids=lambda path: path.stem)
def test_is_small(path: Path) -> None:
    assert path.stat().st_size < LARGEST_FILE


def test_each_script_has_its_notebook() -> None:
    assert [path.stem for path in SCRIPTS] == [path.stem for path in SERIES]


def test_numbers_have_no_gap() -> None:
    numbers = [int(path.stem[:2]) for path in SERIES]
    assert numbers == list(range(1, len(numbers) + 1))


# --- every rule can fail --------------------------------------------------------------------------

SCRIPT = """\
# %% [markdown]
# # 01 · A made-up notebook
#
# **After this notebook you will be able to**
#
# - **add** two numbers;
# - **explain** the sum, in words
#   that need two lines;
# - **check** it.
#
# **Needs:** fingers. **Time:** about 1 minute on two cores.

# %%
total = 1 + 1

# %%
# Self-check
assert total == 2, "one and one are two"

# %%
# Self-check
assert total > 1, "more than one"

# %%
# Self-check
assert total < 3, "less than three"

# %% [markdown]
# **Before you run this:** what do you expect?

# %%
total * 2

# %% [markdown]
# ## Exercises
#
# Add three.
#
# <details><summary>Solution</summary>
#
# ```python
# # a comment in code is no title
# total + 3
# ```
#
# </details>

# %% [markdown]
# ## In three lines
#
# - One, which goes on
#   in a second line.
# - Two.
# - Three.
#
# ## References
#
# - Euclid, *Elements*.
"""


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of notebooks with one script, `01_made_up`, in step with its notebook."""
    folder = tmp_path / "course" / "notebooks"
    (folder / "scripts").mkdir(parents=True)
    (folder / "scripts" / "01_made_up.py").write_text(SCRIPT)
    monkeypatch.setattr(notebooks, "folder", lambda: folder)
    notebooks.sync(notebooks.scripts())
    return folder


@pytest.fixture
def good(course: Path) -> NotebookNode:
    """A notebook of the house form, with the outputs of a run."""
    notebook = notebooks.read(course / "01_made_up.ipynb")
    for count, cell in enumerate(code_cells(notebook), 1):
        cell.execution_count = count
    picture = new_output(
        "display_data", {"image/png": "iVBORw0KGgo="}, metadata={"image/png": {"alt": "a dot"}}
    )
    caption = new_output("display_data", {"text/html": "<p>A dot.</p>", "text/plain": "A dot."})
    code_cells(notebook)[0].outputs = [picture, caption]
    return notebook


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rules_accept_a_good_notebook(
    good: NotebookNode, rule: Callable[[NotebookNode], Complaints]
) -> None:
    assert rule(good) == []


def replace(notebook: NotebookNode, old: str, new: str) -> None:
    hits = [cell for cell in notebook.cells if old in cell.source]
    assert hits, f"{old!r} is not in the made-up notebook"
    for cell in hits:
        cell.source = cell.source.replace(old, new)


def swap(old: str, new: str) -> Callable[[NotebookNode], None]:
    return lambda notebook: replace(notebook, old, new)


def output(*outputs: NotebookNode) -> Callable[[NotebookNode], None]:
    def put(notebook: NotebookNode) -> None:
        code_cells(notebook)[1].outputs = list(outputs)

    return put


def stream(text: str) -> Callable[[NotebookNode], None]:
    return output(new_output("stream", name="stdout", text=text))


def bare_picture(notebook: NotebookNode) -> None:
    code_cells(notebook)[0].outputs[0].metadata = {}


def no_caption(notebook: NotebookNode) -> None:
    code_cells(notebook)[0].outputs.pop()


def one_caption_for_two(notebook: NotebookNode) -> None:
    outputs = code_cells(notebook)[0].outputs
    outputs.insert(0, outputs[0])


def never_run(notebook: NotebookNode) -> None:
    code_cells(notebook)[2].execution_count = None


def with_widget_state(notebook: NotebookNode) -> None:
    notebook.metadata["widgets"] = {}


def unpaired(notebook: NotebookNode) -> None:
    del notebook.metadata["jupytext"]


def add_code(source: str) -> Callable[[NotebookNode], None]:
    return lambda notebook: notebook.cells.append(new_code_cell(source, execution_count=99))


def long_cell(notebook: NotebookNode) -> None:
    add_code("\n".join(f"x{i} = {i}" for i in range(LONGEST_CELL + 1)))(notebook)


ERROR = new_output("error", ename="ValueError", evalue="no", traceback=["ValueError: no"])
VIEW = new_output("display_data", {WIDGET_VIEW: {"model_id": "1"}, "text/plain": "FloatSlider()"})

BREAKS: list[tuple[Callable[[NotebookNode], Complaints], Callable[[NotebookNode], None]]] = [
    (has_one_title, swap("## In three", "# In three")),
    (has_one_title, swap("# 01 ·", "## 01 ·")),
    (says_what_you_learn, swap("you will be able to", "there is more")),
    (says_what_you_learn, swap("- **check** it.", "")),
    (says_needs_and_time, swap("**Needs:**", "Needs:")),
    (says_needs_and_time, swap("about 1 minute on", "not long on")),
    (has_self_checks, swap("# Self-check\nassert total < 3", "assert total < 3")),
    (has_self_checks, swap(', "more than one"', "")),
    (has_self_checks, swap('assert total < 3, "less than three"', "total < 3")),
    (asks_before_it_shows, swap("**Before you run this:**", "Now.")),
    (asks_before_it_shows, lambda notebook: notebook.cells.pop(6)),
    (folds_its_solutions, swap("## Exercises", "## More")),
    (folds_its_solutions, swap("</details>", "")),
    (folds_its_solutions, swap("<details><summary>", "")),
    (ends_in_three_lines, swap("- Two.\n", "")),
    (ends_in_three_lines, swap("## In three lines", "## Summary")),
    (has_references, swap("## References", "References")),
    (has_references, swap("- Euclid", "Euclid")),
    (has_short_cells, long_cell),
    (describes_its_pictures, bare_picture),
    (describes_its_pictures, no_caption),
    (describes_its_pictures, one_caption_for_two),
    (was_run, never_run),
    (has_no_errors, output(ERROR)),
    (shows_no_absolute_path, stream("saved in /home/ada/distil/model.safetensors")),
    (shows_no_absolute_path, stream("saved in C:\\Users\\ada")),
    (shows_no_absolute_path, stream(f"saved in {CHECKOUT}")),
    (shows_no_absolute_path, add_code("open('/tmp/x')")),
    (has_no_widget_state, with_widget_state),
    (has_no_widget_state, output(VIEW)),
    (calls_nothing_that_hangs, add_code("plt.show()")),
    (calls_nothing_that_hangs, add_code("interact(draw, t=4)")),
    (calls_nothing_that_hangs, add_code("out = widgets.Output()")),
    (is_paired, unpaired),
]


@pytest.mark.parametrize(("rule", "damage"), BREAKS)
def test_rules_refuse_a_bad_notebook(
    good: NotebookNode,
    rule: Callable[[NotebookNode], Complaints],
    damage: Callable[[NotebookNode], None],
) -> None:
    damage(good)
    assert rule(good), "the rule saw nothing wrong"


def test_every_rule_is_shown_to_fail() -> None:
    assert {rule for rule, _ in BREAKS} == set(RULES)


def test_web_addresses_and_ratios_are_no_paths() -> None:
    cells = [new_markdown_cell("https://example.org/home/x, 1/2, teacher/student, and/or/tmp")]
    assert shows_no_absolute_path(new_notebook(cells=cells)) == []


# --- in step ----------------------------------------------------------------------------------


def test_sync_keeps_outputs_and_ids_of_cells_that_did_not_change(course: Path) -> None:
    path, script = course / "01_made_up.ipynb", course / "scripts" / "01_made_up.py"
    before = notebooks.read(path)
    for cell in code_cells(before):
        cell.outputs = [new_output("stream", name="stdout", text="kept")]
    notebooks.write(before, path)

    script.write_text(SCRIPT.replace("total = 1 + 1", "total = 2"))
    assert "total" in notebooks.out_of_step(path)
    assert notebooks.sync([script]) == [path]

    after = notebooks.read(path)
    assert [c.id for c in after.cells] == [c.id for c in before.cells]
    assert [len(c.outputs) for c in code_cells(after)] == [0, 1, 1, 1, 1]
    assert notebooks.out_of_step(path) == ""
    assert notebooks.sync([script]) == []


def test_sync_of_a_missing_script(course: Path) -> None:
    with pytest.raises(NotebookError, match="no script 09_gone.py"):
        notebooks.sync([course / "scripts" / "09_gone.py"])


def test_cell_metadata_travel_from_the_script(course: Path) -> None:
    script = course / "scripts" / "01_made_up.py"
    script.write_text(SCRIPT.replace("# %%\ntotal = 1", '# %% tags=["hide-input"]\ntotal = 1'))
    notebooks.sync([script])
    assert code_cells(notebooks.read(course / "01_made_up.ipynb"))[0].metadata.tags == [
        "hide-input"
    ]


def test_find_by_number_or_name(course: Path) -> None:
    assert notebooks.find(["01"]) == notebooks.find(["01_made_up"]) == notebooks.find()
    with pytest.raises(NotebookError, match="no notebook '07'.*01_made_up"):
        notebooks.find(["07"])


# --- tidying ----------------------------------------------------------------------------------


def test_tidy_leaves_nothing_of_the_machine(good: NotebookNode) -> None:
    bar = new_output(
        "display_data", {WIDGET_VIEW: {"model_id": "2"}, "text/plain": "  0%|    | 0/9 [00:00<?]"}
    )
    output(VIEW, bar)(good)
    good.metadata["widgets"] = {}
    good.metadata["language_info"]["version"] = "3.11.7"
    code_cells(good)[0].metadata["execution"] = {"iopub.status.busy": "now"}
    notebooks.tidy(good)
    assert "widgets" not in good.metadata
    assert "version" not in good.metadata.language_info
    assert "execution" not in code_cells(good)[0].metadata
    assert [out.data for out in code_cells(good)[1].outputs] == [
        {"text/plain": notebooks.NO_WIDGET}
    ]
    assert len(code_cells(good)[0].outputs) == 2


# --- reading ----------------------------------------------------------------------------------


def test_a_notebook_cut_short(course: Path) -> None:
    path = course / "01_made_up.ipynb"
    path.write_text(path.read_text()[:100])
    with pytest.raises(NotebookError, match="01_made_up.ipynb cannot be read"):
        notebooks.read(path)
