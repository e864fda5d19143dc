"""What a guess costs against the number of signatures in the database.

    nice python benchmarks/retrieval.py

Databases of 100, 1,000 and 10,000 signatures, compiled by archfind's own step from text: the same
real ones in each, and others made from real ones with other widths and depths, which share most of
their keys. The same files are guessed against each, in turn, so that a busy machine slows all;
every answer must be right. Then whole processes with the largest index against `python -c pass`.
The exit code is 1 where 10,000 cost more than 1.5 times what 1,000 do, or the process too much.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from safetensors.torch import save_file

from archfind.database.compile import Text, compile_index, groups, read_texts
from archfind.database.entries import Database, signatures_folder
from archfind.learning.check import checkpoint_of
from archfind.matching.identify import guess_checkpoint
from archfind.progress import progress
from archfind.providers import provider
from archfind.providers.on_meta import create_on_meta
from archfind.types import Checkpoint, Guess

SIZES = (100, 1_000, 10_000)
REAL = 100
MOST_GROWTH, MOST_COLD = 1.5, 6.0
COLD = """
import sys, archfind.database.entries as database
database.folder = lambda: sys.argv[2]
from archfind.cli import main
sys.exit(main(["guess", "-q", sys.argv[1]]))
"""


def variant(text: Text, number: int, draw: random.Random) -> Text:
    """The same layers at another width, and at another depth where the keys have a range."""
    factor, blocks = draw.uniform(0.3, 2.5), draw.randint(-2, 3)
    offset = draw.choice((0, 8, 24))

    def wider(found: re.Match[str]) -> str:
        size = int(found[0])
        return str(max(8, round(size * factor / 8) * 8 + offset)) if size >= 16 else found[0]

    def deeper(found: re.Match[str]) -> str:
        return f"{{{found[1]}..{max(int(found[1]) + 1, int(found[2]) + blocks)}}}"

    lines: list[str] = []
    for line in text.lines:
        pattern, _, rest = line.partition("  ")
        pattern = re.sub(r"\{(\d+)\.\.(\d+)\}", deeper, pattern)
        lines.append(f"{pattern}  {re.sub(r'(?<![a-z0-9_])[0-9]+(?![a-z0-9_])', wider, rest)}")
    name = f"{text.id}_variant_{number}"
    return Text(name, text.cls, text.build, text.fields, text.version, tuple(lines))


def write(texts: list[Text], where: Path) -> None:
    """A signatures folder with its index."""
    for library in {text.id.partition("/")[0] for text in texts}:
        own = [text for text in texts if text.id.startswith(f"{library}/")]
        rows = [f"# {library} {own[0].version}\n"]
        for text in own:
            heads = [f"class   {text.cls}", f"build   {text.build}"]
            heads += [f"fields  {text.fields}"] * bool(text.fields)
            rows.append("\n".join([f"[{text.id}]", *heads, *text.lines, ""]))
        (where / library).mkdir(parents=True)
        (where / library / "all.txt").write_text("\n".join(rows))
    (where / "index.bin").write_bytes(compile_index(where))


def databases(place: Path, draw: random.Random) -> tuple[dict[int, Path], list[str]]:
    """Signatures -> the folder with as many, and the real entries that all of them have."""
    every = groups(list(read_texts(Path(signatures_folder()))))
    draw.shuffle(every)
    real = [group[0] for group in every[:REAL]]
    made = [variant(draw.choice(every)[0], n, draw) for n in range(max(SIZES) - REAL)]
    found: dict[int, Path] = {}
    for size in progress(list(SIZES), len(SIZES), "compile"):
        found[size] = place / str(size)
        write(real + made[: size - REAL], found[size])
    return found, [text.id for text in real]


def header(name: str, draw: random.Random) -> Checkpoint:
    """What a file of the network would say it holds."""
    library, _, architecture = name.partition("/")
    source = provider(library)
    fields = {"num_classes": draw.randint(2, 9_000)}
    given = fields if "num_classes" in source.fields(architecture) else {}
    state = create_on_meta(source, architecture, **given).state_dict()
    prefix = draw.choice(("", "module.", "net.backbone."))
    return checkpoint_of({prefix + key: tensor for key, tensor in state.items()})


def right(found: Guess, name: str) -> bool:
    """Whether the answer is the entry, or has it as a twin."""
    ids = {match.entry.id for match in found.matches}
    ids |= {f"{t.provider}/{t.architecture}" for m in found.matches for t in m.twins}
    return found.status in ("exact", "ambiguous") and name in ids


def cold(place: Path, name: str, pairs: int) -> float:
    """Whole processes with the index in `place` against Python alone, in turn."""
    library, _, architecture = name.partition("/")
    state = provider(library).create(architecture).state_dict()
    path = place / "x.safetensors"
    save_file({k: t.contiguous().clone() for k, t in state.items()}, path)
    one = [sys.executable, "-c", COLD, str(path), str(place)]
    done = subprocess.run(one, capture_output=True, text=True, env=os.environ, check=False)
    assert f": {name} (" in done.stdout, done.stdout + done.stderr
    times: list[tuple[float, float]] = []
    for _ in range(pairs):
        took: list[float] = []
        for command in (one, [sys.executable, "-c", "pass"]):
            start = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
            took.append(time.perf_counter() - start)
        times.append((took[0], took[1]))
    return median(t[0] for t in times) / median(t[1] for t in times)


def main() -> int:
    """Plain lines on stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    draw = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as name:
        places, names = databases(Path(name), draw)
        opened = {size: Database(str(place / "index.bin")) for size, place in places.items()}
        files = {entry: header(entry, draw) for entry in names[: given.files]}
        for entry, file in files.items():  # also expands the signatures that are met
            for size, database in opened.items():
                found = guess_checkpoint(file, database)
                assert right(found, entry), (size, entry, found.status, found.matches[:1])
        took: dict[int, list[float]] = {size: [] for size in SIZES}
        for _ in range(given.rounds):
            for size, database in opened.items():
                start = time.perf_counter()
                for file in files.values():
                    guess_checkpoint(file, database)
                took[size].append((time.perf_counter() - start) / len(files))
        print(f"{len(files)} files, {given.rounds} rounds in turn; every answer right")
        base = median(took[SIZES[1]])
        for size in SIZES:
            index = (places[size] / "index.bin").stat().st_size / 1e6
            each = median(took[size])
            print(
                f"{len(opened[size]):>6} signatures, index {index:5.1f} MB: {each / base:.2f}x "
                f"of {SIZES[1]:,}  ({each * 1e3:.2f} ms a guess)"
            )
        growth = median(took[SIZES[2]]) / base
        small = min(
            (entry for entry, file in files.items() if len(file.index) >= 150),
            key=lambda entry: sum(torch.Size(s.shape).numel() for s in files[entry].index.values()),
        )
        process = cold(places[SIZES[2]], small, given.pairs)
        print(f"cold process, {SIZES[2]:,}, {small}: {process:.2f}x of `python -c pass`")
    return int(growth > MOST_GROWTH or process > MOST_COLD)


if __name__ == "__main__":
    raise SystemExit(main())
