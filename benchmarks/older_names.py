"""How many networks archfind names and loads where a file has older names that the library's own
loader takes.

    python benchmarks/older_names.py --each 4 --seed 0 --out cases.jsonl

Each network of torchvision, and each of timm whose builder has a filter for checkpoints (with
--each, so many of each of timm's modules, drawn), is written in every way of signatures/older.txt
that its own loader accepts: the loader must make of it all that the network has, keys and shapes.
archfind gets keys and shapes, and must name the network. Of each way the smallest (--loads,
of at most 40 million parameters) are written with values, too: archfind loads the file, told the
name, and every tensor must be what the library's loader made of the same file, and the outputs the
same. What --out holds already isn't tried again, so that a run may be cut off. Progress on stderr;
the table on stdout.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from older_files import (
    filtered,
    load_as_torchvision,
    older,
    on_meta,
    quiet,
    upgraded,
)
from outputs import CLOSE_TO, difference, run, run_original
from torch import nn

import archfind
from archfind.database.entries import default, signatures_folder
from archfind.errors import ArchfindError
from archfind.learning.check import checkpoint_of
from archfind.learning.twins import randomise_seeded
from archfind.matching.identify import guess_checkpoint
from archfind.progress import progress
from archfind.providers import provider
from archfind.providers.on_meta import create_on_meta
from archfind.state_dicts.older_names import Row, rows_of_older_names

LARGEST = 40e6  # parameters of a network that is loaded
Case = dict[str, Any]


# --- which networks, in which names -----------------------------------------------------------


def entries(only: str, each: int, seed: int) -> list[str]:
    """Every entry of torchvision, and those of timm, at most `each` of a module."""
    names = [f"torchvision/{name}" for name in provider("torchvision").names()]
    by_module: dict[str, list[str]] = {}
    for name in timm.list_models():
        by_module.setdefault(made_in(name), []).append(f"timm/{name}")
    draw = random.Random(seed)
    for some in by_module.values():
        names += draw.sample(some, min(each or len(some), len(some)))
    return [name for name in names if only in name]


def networks(names: list[str]) -> Iterator[tuple[str, nn.Module, Any]]:
    """The networks on meta, each with the filter that timm's builder has for its checkpoints."""
    for entry in progress(names, len(names), "older names"):
        library, _, name = entry.partition("/")
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if library == "torchvision":
                module, filter_fn = create_on_meta(provider(library), name), None
            else:
                module, filter_fn = on_meta(name)
        yield entry, module, filter_fn


def ways(entry: str, module: nn.Module, filter_fn: Any) -> Iterator[tuple[Row, Any]]:
    """The rows of older names that the entry's own loader takes, with a state dict each."""
    for row in rows_of_older_names(signatures_folder()):
        if entry.startswith("timm/"):
            if filter_fn is None:
                return
            plain = filter_fn.func if isinstance(filter_fn, functools.partial) else filter_fn
            if not {type(module).__module__, plain.__module__} & set(row.loaders):
                continue
        elif not any(name.startswith("torchvision") for name in row.loaders):
            continue
        state = written(row, module.state_dict())
        if state is not None and accepted(module, filter_fn, state):
            yield row, state


def written(row: Row, own: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor] | None:
    """A state dict in a row's names, below the prefix that the loader looks for."""
    state = older(row, own)
    if state is None:
        return None
    # What OpenCLIP has beside the tower has its own prefix already.
    return {k if k.startswith("visual.") else row.below + k: v for k, v in state.items()}


def accepted(module: nn.Module, filter_fn: Any, state: Mapping[str, torch.Tensor]) -> bool:
    """Whether the library's loader makes of a state dict all of the network."""
    own = module.state_dict()
    try:
        with quiet():
            if filter_fn is None:
                load_as_torchvision(module, state)
                return True
            made = upgraded(module, filter_fn, state)
    except Exception:  # a filter may fail on what isn't meant for it in any way
        return False
    return not (made.keys() - own.keys()) and all(
        key in made and made[key].shape == tensor.shape
        for key, tensor in own.items()
        if tensor.is_floating_point()
    )


# --- one case ---------------------------------------------------------------------------------


def named(entry: str, row: Row, state: Mapping[str, torch.Tensor]) -> Case:
    """What archfind says of the keys and shapes."""
    found = guess_checkpoint(checkpoint_of({k: v.to("meta") for k, v in state.items()}), default())
    ids: list[str] = []
    if found.status in ("exact", "ambiguous"):
        for match in found.matches:
            ids += [match.entry.id, *(f"{t.provider}/{t.architecture}" for t in match.twins)]
    return {
        "entry": entry,
        "row": row.name,
        "named": entry in ids,
        "status": found.status,
        "first": [match.entry.id for match in found.matches[:1]],
    }


def loaded(entry: str, row: Row, folder: Path) -> Case:
    """Whether a file with values loads as the library loads it."""
    library, _, name = entry.partition("/")
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if library == "timm":
            module, filter_fn = filtered(name)
        else:
            module, filter_fn = provider(library).create(name), None
    module = module.eval()
    randomise_seeded(module)
    state = written(row, module.state_dict())
    assert state is not None
    state = {key: tensor.clone() for key, tensor in state.items()}
    randomise_seeded(module, seed=1)  # what isn't loaded differs
    if filter_fn is None:
        load_as_torchvision(module, state)
    else:
        with quiet():
            made = upgraded(module, filter_fn, state)
        missing = module.load_state_dict(made, strict=False).missing_keys
        own = module.state_dict()
        assert not [key for key in missing if own[key].is_floating_point()], missing
    path = folder / "older.pth"
    torch.save({"state_dict": state}, path)
    source = provider(library)
    inputs, expected, why = run_original(source.example(name, module).args, module)
    try:
        ours = archfind.load(str(path), choose=entry, accept_ambiguous=True)
    except ArchfindError as error:
        return {"loaded": False, "equal": False, "reason": f"{error.message}"[:160]}
    theirs = module.state_dict()
    apart = [
        key
        for key, tensor in ours.state_dict().items()
        if tensor.is_floating_point() and not torch.equal(tensor, theirs[key])
    ]
    if apart:
        return {"loaded": True, "equal": False, "reason": f"{len(apart)} differ: {apart[0]}"}
    if expected is None:
        return {"loaded": True, "equal": True, "reason": why}
    worst = difference(expected, run(ours, inputs))
    reason = "" if worst <= CLOSE_TO else f"outputs differ by {worst:.1e}"
    return {"loaded": True, "equal": not reason, "reason": reason}


# --- all of them ------------------------------------------------------------------------------


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument(
        "--out", type=Path, help="cases, to which those that aren't in it are added"
    )
    arguments.add_argument("--only", default="", help="entries whose name has this")
    arguments.add_argument("--each", type=int, default=0, help="networks of a module; 0: all")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--loads", type=int, default=1, help="networks loaded for each row")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    out = given.out or Path(os.devnull)
    cases: list[Case] = list(map(json.loads, out.read_text().splitlines())) if out.exists() else []
    names = entries(given.only, given.each, given.seed)
    with out.open("a", buffering=1) as lines:
        for case in name_all([name for name in names if name not in {c["entry"] for c in cases}]):
            cases.append(case)
            lines.write(json.dumps(case) + "\n")
    wanted = [case for case in cases if case["entry"] in set(names)]
    load_some(wanted, given.loads)
    if given.out:
        out.write_text("".join(json.dumps(case) + "\n" for case in cases))
    report(wanted)


def name_all(names: list[str]) -> Iterator[Case]:
    """A case for each way of each network, and one without a row where there is no way."""
    for entry, module, filter_fn in networks(names):
        size = sum(tensor.numel() for tensor in module.state_dict().values())
        count = 0
        for row, state in ways(entry, module, filter_fn):
            yield named(entry, row, state) | {"size": size}
            count += 1
        if not count:
            yield {"entry": entry, "row": "", "filter": filter_fn is not None}


def load_some(cases: list[Case], loads: int) -> None:
    """Load the smallest networks of each row, and note in their cases what came of it."""
    known = {row.name: row for row in rows_of_older_names(signatures_folder())}
    some: list[Case] = []
    for name in known:
        of = [case for case in cases if case["row"] == name and case["size"] < LARGEST]
        some += sorted(of, key=lambda case: case["size"])[:loads]
    with tempfile.TemporaryDirectory() as place:
        for case in progress(some, len(some), "loads"):
            if "loaded" not in case:
                case |= loaded(case["entry"], known[case["row"]], Path(place))


def report(cases: list[Case]) -> None:
    """The table, the misses, and the networks that no row is for."""
    unknown = [case["entry"] for case in cases if case.get("filter")]
    cases = [case for case in cases if case["row"]]
    print("| names | networks | named | exact | loaded as the library does |")
    print("|---|---|---|---|---|")
    for row in dict.fromkeys(case["row"] for case in cases):
        of = [case for case in cases if case["row"] == row]
        tried = [case for case in of if "loaded" in case]
        right = sum(case["equal"] for case in tried)
        exact = sum(case["named"] and case["status"] == "exact" for case in of)
        yes = sum(case["named"] for case in of)
        print(f"| {row} | {len(of)} | {yes} | {exact} | {right} of {len(tried)} |")
    yes = sum(case["named"] for case in cases)
    tried = [case for case in cases if "loaded" in case]
    print(f"| all | {len(cases)} | {yes} | | {sum(c['equal'] for c in tried)} of {len(tried)} |")
    for case in cases:
        if not case["named"]:
            print(f"- `{case['entry']}`, {case['row']}: {case['status']} {case['first']}")
        if not case.get("equal", True):
            print(f"- `{case['entry']}`, {case['row']}: {case['reason']}")
    modules = Counter(made_in(entry.partition("/")[2]) for entry in unknown)
    print(f"No row of theirs: {len(unknown)}: {dict(modules)}", file=sys.stderr)


def made_in(name: str) -> str:
    """The module of timm that a network is made in."""
    return timm.model_entrypoint(name).__module__.rpartition(".")[2]


if __name__ == "__main__":
    main()
