"""How many families export to ONNX and agree with torch: the tables in docs/export.md.

    nice python benchmarks/onnx_sweep.py --rows rows.json --into docs/export.md

One network of each family that timm and torchvision define (a family is a module of the library;
the smallest by parameters, timm's test_* aside), with random weights from a fixed seed. Each goes
the public way in a process of its own: a .pth, opened, guessed, built, exported, checked.

And small networks, two layers and narrow, of --types model types of transformers, drawn at random:
their modules go to the exporter as they are, since their sizes are invented. With --rows, a run
that was interrupted goes on where it ended.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Mapping
from importlib import import_module
from math import prod
from multiprocessing.connection import Connection
from pathlib import Path

import small_configs
import torch
from torch import Tensor, nn

import archfind
from archfind.database.entries import default
from archfind.errors import ArchfindError, BuildError
from archfind.escape import escape
from archfind.exporters.job import Job
from archfind.exporters.onnx import write_module
from archfind.providers import provider
from archfind.types import Entry

SECONDS = 400
MARK = "<!-- below: written by benchmarks/onnx_sweep.py -->\n"
LARGEST = {"timm": 32e6, "torchvision": 100e6}  # parameters; torchvision's detectors start at 32 M


def members(types: int) -> list[str]:
    """The smallest network of each family, by id, and a seeded sample of transformers' types."""
    best: dict[str, tuple[int, str]] = {}
    database = default()
    for number in range(len(database)):
        signature = database.signature(number)
        for member in signature.members:
            entry = member.entry
            count = sum(prod(shape) for shape in signature.fixed.values())
            if entry.name.startswith("test_") or count > LARGEST.get(entry.provider, 0):
                continue
            family = f"{entry.provider} {_family(entry)}"
            best[family] = min(best.get(family, (count, entry.id)), (count, entry.id))
    found = [best[family][1] for family in sorted(best)]
    known = small_configs.types()
    random.Random(0).shuffle(known)
    return found + [f"transformers/{name}" for name in known[:types]]


def _family(entry: Entry) -> str:
    if entry.provider == "timm":
        return import_module("timm").models.model_entrypoint(entry.name).__module__
    return import_module("torchvision").models.get_model_builder(entry.name).__module__


def enliven(module: nn.Module, args: tuple[object, ...]) -> None:
    """Random weights that act like trained ones. Fresh from a constructor, many networks compute
    nearly nothing: gates and layer scales start at zero, and normalisation by statistics that were
    never taken lets activations die out, so that any two exports would agree."""
    source = torch.Generator().manual_seed(0)

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=source)

    with torch.no_grad():
        for name, value in module.named_parameters():
            if value.dim() <= 1:
                value += 0.1 * noise(value)
            elif not value.any():
                value += 0.02 * noise(value)
            if "cls" in name and value.dim() > 1 and "token" not in name:
                value *= 30  # a detector's scores must pass its threshold, or it finds nothing
        hooks = [
            layer.register_forward_pre_hook(_settle)
            for layer in module.modules()
            if isinstance(layer, nn.modules.batchnorm._BatchNorm)
        ]
        module.eval()(*args)
        for hook in hooks:
            hook.remove()


def _settle(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Running statistics from what arrives, as training would leave them."""
    assert isinstance(layer.running_mean, Tensor) and isinstance(layer.running_var, Tensor)
    axes = [axis for axis in range(inputs[0].dim()) if axis != 1]
    layer.running_mean.copy_(inputs[0].mean(axes))
    layer.running_var.copy_(inputs[0].var(axes, unbiased=False) + 1e-3)


def one(name: str) -> dict[str, object]:
    """The row of one network."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    library, _, architecture = name.partition("/")
    if library == "transformers":
        return typed(architecture)
    source = provider(library)
    module = source.create(architecture)
    enliven(module, source.example(architecture, module).args)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.pth")
        torch.save(module.state_dict(), path)
        del module
        start = time.perf_counter()
        try:
            done = archfind.export(path, Path(folder, "network.onnx"), choose=name)
        except ArchfindError as error:
            why = error.message
            return {"status": "refused", "seconds": time.perf_counter() - start, "reason": why}
        seconds = time.perf_counter() - start
    return passed(done.notes, done.max_abs_diff, seconds)


def passed(notes: Mapping[str, str], difference: float, seconds: float) -> dict[str, object]:
    """The row of a network whose file agrees."""
    why = "; ".join(notes.get(kind, "") for kind in ("warning", "fallback")).strip("; ")
    return {"status": "passes", "exporter": notes["exporter"], "free": notes.get("free", ""),
            "difference": difference, "seconds": seconds, "reason": why}  # fmt: skip


def typed(model_type: str) -> dict[str, object]:
    """The row of a model type of transformers."""
    try:
        cls, module = small_configs.small(model_type)
    except BuildError as error:
        return {"status": "not built", "reason": error.message}
    example = provider("transformers").example(cls, module)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = write_module(module, Job(Path(folder, "network.onnx"), {}, example))
        except ArchfindError as error:
            why = f"{cls}: {error.message}"
            return {"status": "refused", "seconds": time.perf_counter() - start, "reason": why}
    return passed(done.notes, done.max_abs_diff, time.perf_counter() - start)


def apart(name: str) -> dict[str, object]:
    """`one` in a process of its own, which may crash or hang."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["torch.onnx", "timm", "torchvision", "transformers", "onnxscript"]
    )
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(name, there))
    start = time.perf_counter()
    process.start()
    there.close()
    row: dict[str, object] = {"status": "too slow", "reason": f"over {SECONDS} s"}
    if here.poll(SECONDS):
        try:
            row = here.recv()
        except EOFError:
            process.join()
            row = {"status": "crashes", "reason": f"the process ends with {process.exitcode}"}
        process.join(SECONDS)
    process.kill()  # where it is still there
    process.join()
    return {"seconds": time.perf_counter() - start, **row}


def _send(name: str, there: Connection) -> None:
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            there.send(one(name))
        except Exception as error:  # a row like any other
            there.send({"status": "crashes", "reason": f"{type(error).__name__}: {error}"})


def table(rows: dict[str, dict[str, object]]) -> str:
    """Totals for each library, then a row each."""
    lines: list[str] = []
    for library in ("timm", "torchvision", "transformers"):
        own = [row for name, row in rows.items() if name.startswith(f"{library}/")]
        built = [row for row in own if row["status"] != "not built"]
        passing = [row for row in built if row["status"] == "passes"]
        if not built:
            continue
        ways = Counter(str(row["exporter"]) for row in passing)
        free = Counter(str(row["free"]) or "nothing" for row in passing)
        what = "model types" if library == "transformers" else "families"
        lines.append(
            f"- {library}: {len(passing)} of {len(built)} {what} pass "
            f"({len(passing) / len(built):.0%}), "
            + ", ".join(f"{count} by {way}" for way, count in ways.most_common())
            + ". Free: "
            + "; ".join(f"{word} in {count}" for word, count in free.most_common())
            + "."
            + (f" {len(own) - len(built)} not built." if len(own) > len(built) else "")
        )
    lines += ["", "| network | status | exporter | free | max abs diff | seconds | reason |",
              "|---|---|---|---|---|---|---|"]  # fmt: skip
    for name, row in rows.items():
        difference = f"{row['difference']:.1e}" if "difference" in row else ""
        reason = escape(str(row["reason"]), 300).replace("|", "\\|")
        cells = [name, row["status"], row.get("exporter", ""), row.get("free", ""), difference,
                 f"{row['seconds']:.0f}", f"`{reason}`" if reason else ""]  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main() -> None:
    """The table on stdout or into a file, progress on stderr."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="ids such as timm/resnet50; all families if none")
    parser.add_argument("--types", type=int, default=100, help="how many of transformers'")
    parser.add_argument("--into", type=Path, help="replace what stands below the mark in this file")
    parser.add_argument("--rows", type=Path, help="keep the rows here, and go on from them")
    given = parser.parse_args()
    names: list[str] = given.names or members(given.types)
    kept: dict[str, dict[str, object]] = {}
    if given.rows and given.rows.exists():
        kept = json.loads(given.rows.read_text())
    for number, name in enumerate(names, 1):
        if name in kept:
            continue
        kept[name] = row = apart(name)
        sys.stderr.write(f"{number}/{len(names)} {name}: {json.dumps(row)}\n")
        if given.rows:
            given.rows.write_text(json.dumps(kept, indent=1))
    rows = {name: kept[name] for name in names}
    if given.into:
        above, mark, _ = given.into.read_text().partition(MARK)
        given.into.write_text(f"{above.rstrip()}\n\n{mark or MARK}\n{table(rows)}\n")
    else:
        sys.stdout.write(table(rows) + "\n")


if __name__ == "__main__":
    main()
