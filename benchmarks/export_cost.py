"""What `archfind export` costs beside torch's own exporter and the same check, written by hand.

    python benchmarks/export_cost.py --draw 30 --seed 7 --jobs 2

Networks of timm and torchvision drawn by seed, with random weights made lively. Each is exported by
two new processes, one after the other: `archfind export FILE OUT.onnx --as NAME`, and a script that
builds the network, loads FILE, calls torch.onnx.export with a free batch, has onnx check the file
and onnxruntime run it beside the module on batches of two, three and one. What is compared is
processor time, of the whole processes, imports and all, on one thread. With --rows, a run that was
interrupted goes on where it ended.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path
from typing import Any

SECONDS = 400  # for each process
PREPARED = """
import sys, torch
sys.path.insert(0, {here!r})
from onnx_sweep import enliven
from archfind.exporters import parity
from archfind.providers import provider
library, _, name = {name!r}.partition("/")
torch.manual_seed(0)
module = provider(library).create(name)
example = provider(library).example(name, module)
enliven(module, example.args)
torch.save(module.state_dict(), "in.pth")
three = (3, 1) if example.dynamic_batch else (0,)
others = [parity.other(example.args, batch) for batch in three]
torch.save([list(example.names), example.dynamic_batch, example.args, *others], "inputs.pt")
"""
BY_HAND = """
import sys, torch, onnx, onnxruntime
library, _, name = {name!r}.partition("/")
names, batch, *inputs = torch.load("inputs.pt")
if library == "timm":
    import timm
    module = timm.create_model(name)
else:
    from torchvision import models
    extra = dict(weights_backbone=None) if "weights_backbone" in \\
        models.get_model_builder(name).__annotations__ else dict()
    module = models.get_model(name, weights=None, **extra)
module.load_state_dict(torch.load("in.pth", weights_only=True), strict=True)
module.eval()
shapes = tuple({{0: "batch"}} for _ in names) if batch else None
program = torch.onnx.export(module, tuple(inputs[0]), dynamo=True, verbose=False,
    dynamic_shapes=shapes, input_names=names)
program.save("hand.onnx")
onnx.checker.check_model("hand.onnx", full_check=True)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession("hand.onnx", options, providers=["CPUExecutionProvider"])
wanted = {{value.name for value in session.get_inputs()}}
def flat(value):
    if isinstance(value, torch.Tensor):
        return [value]
    items = value.values() if isinstance(value, dict) else value
    return [tensor for item in items for tensor in flat(item)]
for args in inputs:
    with torch.no_grad():
        expected = flat(module(*args))
    fed = {{n: t.numpy() for n, t in zip(names, flat(args)) if n in wanted}}
    for one, two in zip(expected, session.run(None, fed), strict=True):
        apart = float((torch.from_numpy(two) - one).abs().max()) if one.numel() else 0
        assert apart <= 1e-5 + 1e-3 * float(one.abs().max()), apart
"""


def drawn(count: int, seed: int, largest: float) -> list[str]:
    """Names of networks of up to `largest` parameters."""
    from archfind.database.entries import default

    database, names = default(), set[str]()
    for number in range(len(database)):
        signature = database.signature(number)
        if sum(prod(shape) for shape in signature.fixed.values()) <= largest:
            entries = [member.entry for member in signature.members]
            names |= {
                entry.id
                for entry in entries
                if entry.provider in ("timm", "torchvision") and not entry.name.startswith("test_")
            }
    return random.Random(seed).sample(sorted(names), count)


def cost(command: list[str], folder: str) -> tuple[float, str]:
    """Seconds of processor time that a command takes, and the end of what it says, if it fails."""
    log = Path(folder, "log")
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with log.open("w") as out:
        process = subprocess.Popen(
            ["timeout", str(SECONDS), *command], cwd=folder, env=env, stdout=out, stderr=out
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    said = log.read_text(errors="replace").strip().splitlines()
    return usage.ru_utime + usage.ru_stime, (said or [""])[-1] if process.returncode else ""


def measured(name: str) -> dict[str, Any]:
    """The row of one network."""
    python = sys.executable
    with tempfile.TemporaryDirectory() as folder:
        given = {"name": name, "here": str(Path(__file__).parent)}
        _, why = cost([python, "-c", PREPARED.format(**given)], folder)
        if why:
            return {"name": name, "skipped": f"not made: {why}"}
        by_hand, why = cost([python, "-W", "ignore", "-c", BY_HAND.format(**given)], folder)
        command = [python, "-m", "archfind", "export", "in.pth", "out.onnx", "--as", name, "--json"]
        seconds, failed = cost(command, folder)
        row = {"name": name, "by_hand": by_hand, "archfind": seconds}
        if why or failed:
            wrong = f"by hand: {why}" if why else f"archfind: {failed}"
            return {**row, "skipped": wrong}
        said = [line for line in Path(folder, "log").read_text().splitlines() if line[:1] == "{"]
        notes = json.loads(said[-1]).get("notes", {})
        return {**row, "free": notes.get("free", ""), "fallback": notes.get("fallback", "")}


def main() -> None:
    """A line for each network, and the sum."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draw", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--largest", type=float, default=40e6, help="parameters")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--rows", type=Path, help="where rows are kept as they come")
    parser.add_argument("names", nargs="*")
    given = parser.parse_args()
    names = given.names or drawn(given.draw, given.seed, given.largest)
    rows: list[dict[str, Any]] = []
    if given.rows and given.rows.exists():
        rows = [json.loads(line) for line in given.rows.read_text().splitlines()]
    done = {row["name"] for row in rows}
    with ThreadPoolExecutor(given.jobs) as pool:
        for row in pool.map(measured, [name for name in names if name not in done]):
            rows.append(row)
            if given.rows:
                with given.rows.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            print(shown(row), flush=True)
    counted = [row for row in rows if "skipped" not in row]
    ratios = [row["archfind"] / row["by_hand"] for row in counted]
    total = sum(row["archfind"] for row in counted) / sum(row["by_hand"] for row in counted)
    print(f"{len(counted)} networks: {total:.2f}x in all, at most {max(ratios):.2f}x")


def shown(row: dict[str, Any]) -> str:
    """A row as a line."""
    if "skipped" in row:
        return f"{row['name']}: not counted, {row['skipped']}"
    times = f"{row['archfind']:.1f} s against {row['by_hand']:.1f} s"
    ratio = row["archfind"] / row["by_hand"]
    more = f"; {row['fallback']}" if row["fallback"] else ""
    return f"{row['name']}: {ratio:.2f}x ({times}), free: {row['free'] or 'nothing'}{more}"


if __name__ == "__main__":
    main()
