"""The structure of the package: rooms, arrows, sizes, names."""

import ast
from collections import Counter
from pathlib import Path

import pytest

import ganattn

PACKAGE = Path(ganattn.__file__).parent
FLAT = (
    "config", "errors", "state", "losses", "optimizers", "parallel", "processes", "memory",
    "latents",
)  # fmt: skip
# Top floor first: a room imports only rooms below it. Rooms of one line may not import each other.
FLOORS = (
    ("cli",),
    ("cluster",),
    ("training",),
    ("evaluation",),
    ("inference",),
    ("methods",),
    ("report",),
    ("figures",),
    ("runs",),
    ("data",),
    ("interop",),
    ("networks",),
    ("layers",),
    FLAT,
)
FLOOR = {room: -number for number, rooms in enumerate(FLOORS) for room in rooms}
LONGEST_FILE, LONGEST_FUNCTION = 400, 60
FILES = sorted(PACKAGE.rglob("*.py"))


def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def room(name):
    """ "ganattn.runs.storage" -> "runs"; the package itself is ""."""
    return ([*name.split("."), ""])[1]


def imported(path):
    """Modules of this package that a file imports, at its head or inside a function."""
    known = {".".join(f.relative_to(PACKAGE.parent).with_suffix("").parts) for f in FILES}
    names = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    names = {name for name in names if name.split(".")[0] == "ganattn"}
    modules = known | {name.removesuffix(".__init__") for name in known}
    return {name if name in modules else name.rsplit(".", 1)[0] for name in names}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_point_down(path):
    here = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if here == "__init__":
        return
    for name in imported(path):
        there = room(name)
        up = there and there != here and FLOOR[there] >= FLOOR[here] and here not in FLAT
        assert not up, f"{here} imports {name}"
        assert here not in FLAT or not there or there in FLAT, f"{here} imports {name}"


def test_every_room_is_known():
    rooms = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in FILES}
    assert rooms - {"__init__"} == set(FLOOR)


def test_no_paper_imports_another():
    """Only a variant imports the file of its paper, whose name it extends."""
    papers = {p.stem for p in (PACKAGE / "methods").glob("*.py")} - {"base", "__init__"}
    for path in (PACKAGE / "methods").glob("*.py"):
        for name in imported(path):
            paper = name.removeprefix("ganattn.methods.")
            if path.stem in papers and paper in papers - {path.stem}:
                variant = set(path.stem.split("_")) & set(paper.split("_"))  # DAGAN is SPADE
                assert variant or path.stem == "dagan", f"{path.stem} imports {paper}"


def test_files_and_functions_are_short():
    long = []
    for path in FILES:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        long += [f"{path.name}: {lines} lines"] if lines > LONGEST_FILE else []
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef):
                size = node.end_lineno - node.lineno + 1
                long += [f"{path.name}: {node.name}"] if size > LONGEST_FUNCTION else []
    assert not long


def test_class_names_are_unique():
    names = Counter(
        node.name for path in FILES for node in tree(path).body if isinstance(node, ast.ClassDef)
    )
    assert not [name for name, count in names.items() if count > 1]
