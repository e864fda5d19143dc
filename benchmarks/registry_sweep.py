"""How often archfind names, loads and reproduces networks saved the ways that people save them.

    nice python benchmarks/registry_sweep.py --cases 300 --seed 0 --out docs/accuracy.md

Each case is another entry of the database with random weights, and draws a wrapper, a key prefix, a
container, a dtype and a class count. The file is guessed, then loaded strictly under its true name,
and the loaded network's outputs are compared with the original's. Cases run one after another in a
process that is started again where one crashes or hangs. Progress on stderr.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from textwrap import fill

import torch
from drawn_cases import LARGEST, MOST_BOXED, Case, draw_cases, write
from outputs import CLOSE_TO, difference, round_through, run, run_original

import archfind
from archfind.database import default
from archfind.errors import ArchfindError
from archfind.formats.escape import escape
from archfind.providers import provider
from archfind.twins import randomise
from archfind.types import Guess

SECONDS = 240  # for one case
ALIAS_CLOSE_TO = 1e-4  # for a twin, which may do the same sums in another order


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


# --- one case ----------------------------------------------------------------------------------


def one(case: Case, folder: Path) -> Row:
    """Build, save, guess, load, compare."""
    row = Row(case)
    library, _, architecture = case.id.partition("/")
    source = provider(library)
    fields = {} if case.classes is None else {"num_classes": case.classes}
    module = source.create(architecture, **fields).eval()
    randomise(module)
    round_through(module, getattr(torch, case.dtype))
    inputs, expected, why = run_original(source.example(architecture, module).args, module)
    try:
        path = write(case, module, folder)
    except Exception as error:  # torch can't pickle every module
        if case.wrapper != "module":
            raise
        row = replace(row, reason=f"written as a state dict, the module can't be pickled: {error}")
        path = write(replace(case, wrapper="none"), module, folder)
    del module

    guess = archfind.guess(path)
    own = source.fields(architecture).get("num_classes")
    row = judge(row, guess, own if case.classes is None else case.classes)
    if not row.named:
        return row
    try:
        loaded = archfind.load(path, choose=case.id)
    except ArchfindError as error:
        return replace(row, reason=f"{type(error).__name__}: {error.message}")
    row = replace(row, loaded=True)
    if expected is None:
        return replace(row, reason=why)
    found = run(loaded, inputs)
    worst = difference(expected, found)
    if worst > CLOSE_TO:
        return replace(row, equal=False, reason=f"outputs differ by {worst:.1e} of the largest")
    row = replace(row, equal=True)
    if not row.function:
        return row
    name = guess.matches[0].entry.id
    worst = difference(expected, run(archfind.load(path), inputs)) if name != case.id else 0.0
    if worst > ALIAS_CLOSE_TO:
        reason = f"loaded untold as {name}, outputs differ by {worst:.1e} of the largest"
        return replace(row, untold=False, reason=reason)
    return replace(row, untold=True)


def judge(row: Row, guess: Guess, wanted: object) -> Row:
    """The guess against the truth."""
    name = row.case.id
    functions: dict[str, bool] = {}
    for match in guess.matches:
        functions.setdefault(match.entry.id, match is guess.matches[0])
        for twin in match.twins:
            same = match is guess.matches[0] and twin.same_function
            functions.setdefault(f"{twin.provider}/{twin.architecture}", same)
    named = guess.status in ("exact", "ambiguous") and name in functions
    row = replace(row, status=guess.status, named=named)
    best = guess.matches[0] if guess.matches else None
    if not named or best is None:
        near = f"{best.entry.id}, {best.matched}/{best.expected}" if best else "nothing near"
        return replace(row, reason=f"{guess.status}: {near}")
    if guess.status == "exact":
        row = replace(row, function=functions[name])
    if "num_classes" in best.config:
        read = best.config["num_classes"].value
        row = replace(row, classes=read == wanted)
        if read != wanted:
            row = replace(row, reason=f"read num_classes={read}, built with {wanted}")
    return row


# --- all of them -------------------------------------------------------------------------------


def work(cases: list[Case], first: int) -> None:
    """Cases from `first` on, a line of JSON each; the alarm kills a hanging process."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for number in range(first, len(cases)):
        signal.alarm(SECONDS)
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            try:
                row = one(cases[number], Path(folder))
            except Exception as error:  # a failing case is a row
                row = Row(cases[number], reason=f"{type(error).__name__}: {error}")
        found = vars(replace(row, seconds=time.perf_counter() - start)) | {"case": None}
        sys.stdout.write(json.dumps({"number": number, **found}) + "\n")
        sys.stdout.flush()


def rows(cases: list[Case], arguments: list[str]) -> Iterator[Row]:
    """A row for each case, from processes that may die."""
    done = 0
    while done < len(cases):
        command = [sys.executable, "-W", "ignore", __file__, *arguments, "--first", str(done)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if not line.startswith('{"number"'):
                    continue
                found = json.loads(line)
                assert found.pop("number") == done
                found["case"] = cases[done]
                done += 1
                yield Row(**found)
        if done < len(cases):
            died = process.returncode == -signal.SIGALRM
            why = f"over {SECONDS} s" if died else f"the process ended with {process.returncode}"
            yield Row(cases[done], reason=why)
            done += 1


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


def main() -> None:
    """The document in --out, or on stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--first", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    cases, large = draw_cases(given.cases, given.seed)
    if given.first is not None:
        work(cases, given.first)
        return
    start = time.perf_counter()
    found: list[Row] = []
    arguments = ["--cases", str(given.cases), "--seed", str(given.seed)]
    for row in rows(cases, arguments):
        found.append(row)
        state = "equal" if row.equal else "loaded" if row.loaded else "FAILED"
        what = f"{state} {row.status or '-'} {row.seconds:.1f} s {shown(row)[2:]}"
        sys.stderr.write(f"{len(found)}/{len(cases)} {what}\n")
    text = document(found, large, given.seed, (time.perf_counter() - start) / 60)
    if given.out:
        # What other benchmarks measured stands below, and stays.
        old = given.out.read_text() if given.out.exists() else ""
        given.out.write_text(text.rstrip() + "\n" + "".join(old.partition("\n# Changed heads")[1:]))
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
