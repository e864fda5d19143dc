"""docs/accuracy.md, from what became of each case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from textwrap import fill

from drawn_cases import LARGEST, MOST_BOXED, Case
from outputs import CLOSE_TO

from archfind.database.entries import default
from archfind.escape import escape


@dataclass(frozen=True)
class Row:
    """What became of a case. `named` is the entry itself, or a twin, among the answers; `function`
    says whether an exact answer is an entry listed as computing what the true one computes, and
    `untold` whether what it loads does, to which nobody named the network."""

    case: Case
    status: str = ""
    named: bool = False
    function: bool | None = None
    classes: bool | None = None
    loaded: bool = False
    equal: bool | None = None
    untold: bool | None = None
    reason: str = ""
    seconds: float = 0.0


def table(title: str, key: Callable[[Row], str], found: list[Row]) -> list[str]:
    """Counts by one property of the cases."""
    lines = [
        f"| {title} | cases | named | exact | ambiguous | loaded | outputs equal |",
        "|---|---|---|---|---|---|---|",
    ]
    groups: dict[str, list[Row]] = {}
    for row in found:
        groups.setdefault(key(row), []).append(row)
    for name, held in sorted(groups.items()):
        counts = [
            len(held),
            sum(row.named for row in held),
            sum(row.named and row.status == "exact" for row in held),
            sum(row.named and row.status == "ambiguous" for row in held),
            sum(row.loaded for row in held),
            sum(row.equal is True for row in held),
        ]
        lines.append(f"| {name} | {' | '.join(map(str, counts))} |")
    return [*lines, ""]


def classes_of(row: Row) -> str:
    """How the case's class count was drawn."""
    named = {None: "the entry's own", 0: "none (no head)"}
    return named.get(row.case.classes, "any from 2 to 20,000")


def shown(row: Row) -> str:
    """A row as an item of a list."""
    case = row.case
    classes = "" if case.classes is None else f", {case.classes:,} classes"
    how = f"{case.format}, {case.wrapper}, {case.prefix or 'no prefix'}, {case.dtype}{classes}"
    return f"- `{case.id}` ({how}): {escape(row.reason, 300)}"


def document(found: list[Row], large: list[str], seed: int, minutes: float) -> str:
    """docs/accuracy.md."""
    count = len(found)
    named = [row for row in found if row.named]
    exact = [row for row in named if row.status == "exact"]
    other = [row for row in exact if row.function is False]
    read = [row for row in named if row.classes is not None]
    loaded = [row for row in found if row.loaded]
    compared = [row for row in loaded if row.equal is not None]
    equal = [row for row in compared if row.equal]
    untold = [row for row in found if row.untold is not None]
    failed = [
        row for row in found
        if not row.loaded or row.classes is False or row.equal is False or row.untold is False
    ]  # fmt: skip
    noted = [row for row in found if row.reason and row not in failed]
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchvision", "timm"))

    def share(some: list[Row], every: list[Row]) -> str:
        return f"{len(some)} of {len(every)} | {len(some) / max(1, len(every)):.1%} |"

    intro = (
        f"{count} networks drawn from the {entries():,} entries of the database ({versions}), each "
        "with random weights and saved in a way drawn from the wrappers, key prefixes, containers, "
        "dtypes and class counts below. archfind gets the file, which doesn't say what it holds. "
        "Then it loads the file strictly under the true name, and the loaded network must give the "
        f"original's outputs in float32 to {CLOSE_TO:g} of the largest. Where the answer is exact "
        "it is also loaded without the name. The files are made here, from the libraries that the "
        "signatures come from: this says what tensors reveal and whether the way from file to "
        "network holds, not how archfind fares with files found in the wild.",
        "- **named**: the entry itself is among the answers, or listed as a twin of one.",
        "- **exact**: one answer, because all entries that fit every key and shape compute the "
        "same function, or because one of them is the plain network and the others are rare "
        "variants of it (`signatures/prior.txt`).",
        "- **ambiguous**: entries that compute different functions fit every key and shape, and "
        "nothing in the file chooses. archfind lists them and loads none unasked; here it is told "
        "the name.",
    )
    command = f"registry_sweep.py --cases {count} --seed {seed} --out docs/accuracy.md"
    lines = [
        "# Accuracy", "",
        f"    python benchmarks/{command}",
        "", fill(intro[0], 100), "",
        *(fill(item, 100, subsequent_indent="  ") for item in intro[1:]),
        "", "## Totals", "",
        "| | count | share |", "|---|---|---|",
        f"| named | {share(named, found)}",
        f"| exact | {share(exact, found)}",
        f"| ambiguous | {share([row for row in named if row not in exact], found)}",
        f"| exact, but the file holds a rare variant with another function | {share(other, exact)}",
        f"| class count right, where the network has one | "
        f"{share([row for row in read if row.classes], read)}",
        f"| loaded strictly, told the name | {share(loaded, found)}",
        f"| outputs equal, where the original gives any | {share(equal, compared)}",
        f"| outputs equal, loaded without the name (exact, the same function) | "
        f"{share([row for row in untold if row.untold], untold)}", "",
        f"{len(large)} entries with more than {LARGEST // 10**6} million parameters were passed "
        f"over and others drawn. Detectors got {MOST_BOXED} classes at most.",
        f"The run took {minutes:.0f} minutes in one thread of a busy machine.", "",
        *table("library", lambda row: row.case.id.partition("/")[0], found),
        *table("wrapper", lambda row: row.case.wrapper, found),
        *table("prefix", lambda row: f"`{row.case.prefix}`" if row.case.prefix else "none", found),
        *table("container", lambda row: row.case.format, found),
        *table("dtype", lambda row: row.case.dtype, found),
        *table("classes", classes_of, found),
        f"## Failures: {len(failed)}", "", *map(shown, failed),
        *([""] if failed else []),
        f"## Exact, but a rare variant: {len(other)}", "",
        *(f"- `{row.case.id}`" for row in other), *([""] if other else []),
        f"## Not compared, or written otherwise: {len(noted)}", "", *map(shown, noted),
    ]  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"


def entries() -> int:
    """Entries of the database."""
    database = default()
    return sum(len(database.signature(number).members) for number in range(len(database)))
