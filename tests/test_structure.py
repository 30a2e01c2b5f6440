"""The limits of the layout: sizes of files and functions, directions of imports, unique names."""

import ast
import collections
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "ganattn"
MAX_FILE, MAX_FUNCTION = 400, 60

# Imports go from a room to the rooms after it, never back.
ROOMS = (
    ("cli", "__main__"),
    ("cluster",),
    ("training",),
    ("evaluation",),
    ("inference",),
    ("methods",),
    ("report", "figures"),
    ("runs",),
    ("data",),
    ("interop",),
    ("networks",),
    ("layers",),
    (
        *("config", "errors", "latents", "losses", "memory", "optimizers", "parallel"),
        *("processes", "state", "__init__"),
    ),
)
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}

# A paper's file imports no other paper's file, unless it is that paper's variant.
VARIANTS = {("dagan", "spade"), ("guidance_supervised", "guidance")}


def sources(*folders):
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


MODULES = {module_name(path): path for path in sources("ganattn")}


def statements(node):
    """All nodes but those for the type checker alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from statements(child)


def imports(path):
    """Names of the package's modules that a file imports, also inside functions."""
    for node in statements(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("ganattn"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ganattn"):
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                yield module if module in MODULES else node.module


def functions(path):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in ast.walk(parse(path)) if isinstance(node, kinds)]


@pytest.mark.parametrize("folder", ["ganattn", "configs", "launch", "tests"])
def test_files_are_short(folder):
    lengths = {p: len(p.read_text(encoding="utf-8").splitlines()) for p in sources(folder)}
    too_long = {str(p.relative_to(ROOT)): n for p, n in lengths.items() if n > MAX_FILE}
    assert not too_long


@pytest.mark.parametrize("folder", ["ganattn", "configs", "launch"])
def test_functions_are_short(folder):
    lengths = {
        f"{path.relative_to(ROOT)}:{node.name}": node.end_lineno - node.lineno + 1
        for path in sources(folder)
        for node in functions(path)
    }
    assert not {name: length for name, length in lengths.items() if length > MAX_FUNCTION}


def test_every_module_has_a_room():
    assert not {module for module in MODULES if room_of(module) not in LEVEL}


def test_imports_go_down():
    upward = {
        f"{module} imports {imported}"
        for module, path in MODULES.items()
        for imported in imports(path)
        if LEVEL[room_of(imported)] < LEVEL[room_of(module)]
    }
    assert not upward


def test_no_circle_of_imports():
    graph = {
        module: {found for found in imports(path) if found != module}
        for module, path in MODULES.items()
    }
    while leaves := {module for module, found in graph.items() if not found & graph.keys()}:
        graph = {module: found for module, found in graph.items() if module not in leaves}
    assert not graph


def test_no_paper_imports_another():
    papers = {p.stem for p in (PACKAGE / "methods").glob("*.py")} - {"__init__", "base"}
    pairs = {
        (paper, imported.split(".")[2])
        for paper in papers
        for imported in imports(PACKAGE / "methods" / f"{paper}.py")
        if imported.startswith("ganattn.methods.")
    }
    assert not {pair for pair in pairs if pair[1] in papers} - VARIANTS


def test_class_names_are_unique():
    found = collections.defaultdict(list)
    for module, path in MODULES.items():
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(module)
    assert not {name: modules for name, modules in found.items() if len(modules) > 1}
