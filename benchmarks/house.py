"""What archfind's own code is made of: modules, lines, rooms, imports, names.

    python benchmarks/house.py [CHECKOUT]

A room is a folder of archfind/ with the folders below it, or a file directly in it;
evidence/weights/ is one, too. An import between rooms counts once for each pair of rooms, wherever
in a file it stands. A circle is a set of rooms each of which imports the next. Public names are
those of functions and classes at the top of a module, without an underscore; those that a contract
asks for, of every provider, reader, exporter, command and of the face, may be written several
times.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import networkx

LONGEST = 60  # lines of a function
CONTRACTS = {
    "providers": frozenset(
        "call create create_on_meta example fields label load_as_published names".split()
    ),
    "formats": frozenset(("read",)),
    "repair": frozenset(("read",)),
    "exporters": frozenset(("write",)),
    "cli": frozenset(("run",)),
}
WITHIN = "evidence.weights"  # a room in another's folder
FACE = ("__init__", "pipeline", "onnx")  # the face hands on to the pipeline, under the same names


def trees(package: Path) -> Iterator[tuple[str, ast.Module, int]]:
    """Each module's dotted name below the package, its tree and its lines."""
    for path in sorted(package.rglob("*.py")):
        text = path.read_text()
        name = ".".join(path.relative_to(package).with_suffix("").parts)
        yield name, ast.parse(text), text.count("\n")


def room(module: str) -> str:
    module = module.removeprefix("archfind.")
    return WITHIN if module.startswith(WITHIN) else module.partition(".")[0]


def defined_twice(package: Path) -> dict[str, list[str]]:
    """Public names with the modules that define them, of those that several do."""
    where: dict[str, list[str]] = {}
    for module, tree, _ in trees(package):
        allowed = CONTRACTS.get(room(module), frozenset())
        for node in tree.body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            if node.name not in allowed and not (module in FACE[1:] or module == FACE[0]):
                where.setdefault(node.name, []).append(module)
    return {name: modules for name, modules in where.items() if len(modules) > 1}


def figures(package: Path) -> dict[str, int]:
    """What the table of docs/how-it-works.md shows."""
    count: Counter[str] = Counter()
    arrows = networkx.DiGraph()
    for module, tree, lines in trees(package):
        count["modules"] += 1
        count["lines"] += lines
        here = room(module)
        arrows.add_node(here)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                count[f"functions over {LONGEST} lines"] += (
                    node.end_lineno or 0
                ) - node.lineno >= LONGEST
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
                if node.module == "archfind":
                    names = [f"archfind.{alias.name}" for alias in node.names]
            for name in names:
                if name.startswith("archfind.") and room(name) != here:
                    arrows.add_edge(here, room(name))
    loops = [part for part in networkx.strongly_connected_components(arrows) if len(part) > 1]
    return {
        "modules": count["modules"],
        "lines": count["lines"],
        "rooms": arrows.number_of_nodes(),
        "imports between rooms": arrows.number_of_edges(),
        "rooms in a circle": sum(map(len, loops)),
        "public names defined twice": len(defined_twice(package)),
        f"functions over {LONGEST} lines": count[f"functions over {LONGEST} lines"],
    }


if __name__ == "__main__":
    checkout = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1]
    for what, number in figures(checkout / "archfind").items():
        print(f"{number:7,}  {what}")
    for name, modules in sorted(defined_twice(checkout / "archfind").items()):
        print(f"         {name}: {', '.join(modules)}", file=sys.stderr)
