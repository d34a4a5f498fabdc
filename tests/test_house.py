"""The house holds: arrows of imports point down only, no circle, few floors, small files.

Imports are read with `ast`, those inside functions too. What stands under `if TYPE_CHECKING:` is
exempt: it never runs, it only names types for a reader.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PURE = ("models", "losses", "metrics", "views", "optim", "timing", "features", "recipe")
# From the ground up; who stands on one floor knows nothing of the others there.
FLOORS = (
    ("runtime",),
    PURE,
    ("sources",),
    ("data",),
    ("soft_targets", "batches", "evaluation"),
    ("train",),
    ("diagnose", "methods", "pretrained", "edge"),
    ("course",),
    ("tools",),
    ("cli",),
    ("__main__",),
)
ROOF = ("tools", "cli", "__main__")  # commands and what they run: one floor for who counts them
HEART = (*PURE, "data", "soft_targets", "batches", "evaluation", "train")
MOST = {"floors": 7, "heart": 1600, "package": 9000, "file": 400, "function": 60}
NOT_MIRRORED = {"assignment", "browser", "hostile"}  # tests of what is no folder of the package

# Offenders that we know of. The list only shrinks: one that no longer offends must leave it.
KNOWN: dict[str, set[str]] = {
    "homeless": set(),
    "arrows": set(),
    "circles": set(),
    "floors": set(),
    "files": set(),
    "functions": set(),
    "sums": {"heart", "package"},
    "mirror": set(),
}

Graph = dict[str, set[str]]


def modules(root: Path) -> dict[str, ast.Module]:
    """Dotted name without the package's own -> syntax tree; `__init__` is its folder's name."""
    found = {}
    for path in sorted((root / "kdutils").rglob("*.py")):
        parts = path.relative_to(root / "kdutils").with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def running(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below `node`, but not what only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from running(child)


def imports(name: str, tree: ast.Module, package: bool, known: set[str]) -> set[str]:
    """The modules of the package that module `name` imports."""
    here = name.split(".") if name else []
    found = set()
    for node in running(tree):
        if isinstance(node, ast.Import):
            found |= {a.name.removeprefix("kdutils.") for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module.split(".") if node.module else []
            if node.level:
                up = node.level - package
                base = [*here[: len(here) - up], *base]
            elif base[:1] == ["kdutils"]:
                base = base[1:]
            else:
                continue
            for alias in node.names:
                inner = ".".join([*base, alias.name])
                found.add(inner if inner in known else ".".join(base))
    return found & known - {name, ""}


def graph(root: Path) -> Graph:
    """module -> the modules that it imports."""
    trees = modules(root)
    packages = {
        n for n in trees if (root / "kdutils" / Path(*n.split("."), "__init__.py")).exists()
    }
    return {n: imports(n, tree, n in packages, set(trees)) for n, tree in trees.items()}


def unit(module: str) -> str:
    return module.split(".")[0]


def upward(arrows: Graph) -> set[str]:
    """Imports that do not point down, as "from -> to"."""
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    return {
        f"{one} -> {two}"
        for one, others in arrows.items()
        for two in others
        if unit(one) != unit(two)
        and {unit(one), unit(two)} <= set(floor)
        and floor[unit(one)] <= floor[unit(two)]
    }


def circles(arrows: Graph) -> set[str]:
    """Modules that can be reached from themselves."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        todo = list(arrows[start])
        while todo:
            if (at := todo.pop()) not in seen:
                seen.add(at)
                todo += arrows[at]
        return seen

    return {name for name in arrows if name in reached(name)}


def height(arrows: Graph) -> int:
    """How many floors the longest chain of units has; the roof is one of them."""

    def part(module: str) -> str:
        return "roof" if unit(module) in ROOF else unit(module)

    units: Graph = {part(name): set() for name in arrows if name}
    for one, others in arrows.items():
        units.get(part(one), set()).update(part(two) for two in others if part(two) != part(one))
    floors: dict[str, int] = {}
    for name in [*(name for names in FLOORS for name in names if name not in ROOF), "roof"]:
        floors[name] = 1 + max((floors.get(two, 0) for two in units.get(name, ())), default=0)
    return max(floors.values())


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def sources() -> list[Path]:
    return sorted((ROOT / "kdutils").rglob("*.py"))


@pytest.fixture(scope="module")
def house() -> Graph:
    return graph(ROOT)


def test_every_part_of_the_package_has_a_floor(house: Graph) -> None:
    named = {name for names in FLOORS for name in names}
    assert {unit(name) for name in house if name} - named == KNOWN["homeless"]


def test_arrows_point_down_only(house: Graph) -> None:
    assert upward(house) == KNOWN["arrows"]


def test_there_is_no_circle(house: Graph) -> None:
    assert circles(house) == KNOWN["circles"]


def test_the_house_is_not_high(house: Graph) -> None:
    high = {"kdutils"} if height(house) > MOST["floors"] else set()
    assert high == KNOWN["floors"]


def test_no_file_is_long() -> None:
    long = {str(p.relative_to(ROOT)) for p in sources() if lines(p) > MOST["file"]}
    assert long == KNOWN["files"]


def test_no_function_is_long() -> None:
    long = {
        f"{path.relative_to(ROOT / 'kdutils')}: {node.name}"
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno + 1 > MOST["function"]
    }
    assert long == KNOWN["functions"]


def test_the_heart_and_the_whole_are_small() -> None:
    heart = [ROOT / "kdutils" / f"{name}.py" for name in HEART]
    sums = {
        "heart": sum(lines(path) for path in heart if path.exists()),
        "package": sum(lines(path) for path in sources()),
    }
    assert {name for name, total in sums.items() if total > MOST[name]} == KNOWN["sums"], sums


def test_tests_mirror_the_package() -> None:
    """Every module of the heart has a file of tests, every folder a folder, and no other."""
    tests, package = ROOT / "tests", ROOT / "kdutils"
    tested = {p.parent.relative_to(tests) for p in tests.rglob("test_*.py")}
    folders = {p.parent.relative_to(package) for p in sources() if p.name != "__init__.py"}
    missing = {str(folder) for folder in folders - tested}
    missing |= {n for n in HEART if not (tests / f"test_{n}.py").exists()}
    strays = {f"tests/{f}" for f in tested - folders if f.parts[0] not in NOT_MIRRORED}
    assert missing | strays == KNOWN["mirror"]


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A house with an arrow up inside a function, a circle, and a type that may point anywhere."""
    files = {
        "__init__.py": "",
        "losses.py": "def late():\n    from . import train\n",
        "train.py": "from .losses import late\nfrom kdutils.views import x\nimport torch\n",
        "tools/x.py": "from ..cli import y\n",
        "cli/y.py": "from ..tools import x\n",
        "views.py": "if TYPE_CHECKING:\n    from .train import fit\n",
        "course/__init__.py": "from . import arms\nfrom .arms import run\n",
        "course/arms.py": "import kdutils.train\nfrom ..views import x\n",
    }
    for name, text in files.items():
        path = tmp_path / "kdutils" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_a_crooked_house_is_seen(toy: Path) -> None:
    arrows = graph(toy)
    assert arrows["course"] == {"course.arms"} and arrows["course.arms"] == {"train", "views"}
    assert upward(arrows) == {"losses -> train", "tools.x -> cli.y"}
    assert circles(arrows) == {"losses", "train", "tools.x", "cli.y"}
    (toy / "kdutils/losses.py").write_text("")
    (toy / "kdutils/tools/x.py").write_text("")
    assert upward(graph(toy)) == circles(graph(toy)) == set()
    assert height(graph(toy)) == 3
