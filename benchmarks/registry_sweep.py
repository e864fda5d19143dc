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
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from accuracy_report import Row, document, shown
from drawn_cases import Case, draw_cases, write
from outputs import CLOSE_TO, difference, round_through, run, run_original

import archfind
from archfind.errors import ArchfindError
from archfind.learning.twins import randomise_seeded
from archfind.providers import provider
from archfind.types import Guess

SECONDS = 240  # for one case
ALIAS_CLOSE_TO = 1e-4  # for a twin, which may do the same sums in another order


# --- one case ----------------------------------------------------------------------------------


def one(case: Case, folder: Path) -> Row:
    """Build, save, guess, load, compare."""
    row = Row(case)
    library, _, architecture = case.id.partition("/")
    source = provider(library)
    fields = {} if case.classes is None else {"num_classes": case.classes}
    module = source.create(architecture, **fields).eval()
    randomise_seeded(module)
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
