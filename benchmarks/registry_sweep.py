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
import random
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from math import prod
from pathlib import Path
from textwrap import fill

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import archfind
from archfind.database import Member, Signature, default
from archfind.errors import ArchfindError
from archfind.formats.escape import escape
from archfind.providers import provider
from archfind.providers.example import images
from archfind.signature import Size
from archfind.twins import randomise, tensors
from archfind.types import Guess

LARGEST = 120_000_000  # parameters
SECONDS = 240  # for one case
CLOSE_TO = 1e-5  # of the largest output
ALIAS_CLOSE_TO = 1e-4  # for a twin, which may do the same sums in another order
MOST, MOST_BOXED = 20_000, 100  # classes, and those of detectors
SIDE = 128  # of the image, where a network doesn't insist on its own

WRAPPERS = ("none", "state_dict", "model", "params_ema", "lightning", "module", "nested")
PREFIXES = ("", "module.", "model.", "net.backbone.", "_orig_mod.", "module.model.", "student_net.")
FORMATS = {"torch zip": 3, "torch legacy": 2, "safetensors": 1, "safetensors sharded": 1}  # weights
DTYPES = ("float32", "float16", "bfloat16")
State = dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """One file to be written; `classes` None keeps the entry's own count."""

    id: str
    wrapper: str
    prefix: str
    format: str
    dtype: str
    classes: int | None


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


# --- the cases ---------------------------------------------------------------------------------


def draw_cases(count: int, seed: int) -> tuple[list[Case], list[str]]:
    """The first `count` entries of a seeded order that aren't too large, and those passed over."""
    draw = random.Random(seed)
    database = default()
    known: dict[str, tuple[Signature, Member]] = {}
    for number in range(len(database)):
        signature = database.signature(number)
        known |= {member.entry.id: (signature, member) for member in signature.members}
    order = sorted(known)
    draw.shuffle(order)
    cases: list[Case] = []
    large: list[str] = []
    for name in order:
        if len(cases) == count:
            break
        signature, member = known[name]
        if parameters(signature) > LARGEST:
            large.append(name)
            continue
        kind = draw.choices(list(FORMATS), list(FORMATS.values()))[0]
        # safetensors has no nesting: the only wrapper is the file.
        wrapper = draw.choice(WRAPPERS) if kind.startswith("torch") else "none"
        classes = draw_classes(member, draw)
        cases.append(Case(name, wrapper, draw.choice(PREFIXES), kind, draw.choice(DTYPES), classes))
    return cases, large


def draw_classes(member: Member, draw: random.Random) -> int | None:
    """The entry's own count, none at all where the library can leave the head out, or any."""
    chance = draw.random()
    if "num_classes" not in member.entry.fields or chance < 0.35:
        return None
    if member.headless and chance < 0.5:
        return 0
    # A detector has a box for every class and proposal, and random weights reject none of them.
    return draw.randint(2, MOST_BOXED if ".detection." in member.entry.cls else MOST)


def parameters(signature: Signature) -> int:
    """Of the first member with its own class count."""
    fields = signature.members[0].entry.fields
    total = sum(map(prod, signature.fixed.values()))
    for line in signature.free.values():
        total += prod(n.value(fields) if isinstance(n, Size) else n for n in line.shape)
    return total


# --- the files ---------------------------------------------------------------------------------


def write(case: Case, module: nn.Module, folder: Path) -> Path:
    """The module as the case's file; it is left in the case's dtype."""
    module.to(getattr(torch, case.dtype))
    state = {case.prefix + key: tensor for key, tensor in module.state_dict().items()}
    if case.format == "safetensors sharded":
        return write_shards(state, folder)
    if case.format == "safetensors":
        path = folder / "network.safetensors"
        save_file(separate(state), path)
        return path
    path = folder / "network.pth"
    held = hold(module, case.prefix) if case.wrapper == "module" else wrap(case.wrapper, state)
    torch.save(held, path, _use_new_zipfile_serialization=case.format == "torch zip")
    return path


def wrap(wrapper: str, state: State) -> object:
    """A state dict inside what training scripts put around one."""
    if wrapper == "none":
        return state
    if wrapper == "params_ema":
        raw = {key: tensor + tensor.new_ones(()) for key, tensor in state.items()}
        return {"params": raw, "params_ema": state}
    if wrapper == "lightning":
        moments = {n: {"step": torch.tensor(9.0), "momentum_buffer": torch.zeros_like(tensor)}
                   for n, tensor in enumerate(state.values())}  # fmt: skip
        group = {"lr": 0.1, "momentum": 0.9, "params": list(range(len(state)))}
        return {
            "epoch": 3,
            "global_step": 1200,
            "pytorch-lightning_version": "2.4.0",
            "state_dict": state,
            "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.7)}},
            "optimizer_states": [{"state": moments, "param_groups": [group]}],
            "lr_schedulers": [{"last_epoch": 3, "_last_lr": [0.1]}],
            "hyper_parameters": {"lr": 0.1, "batch_size": 64, "data": "/data/train"},
        }
    if wrapper == "nested":
        return {"checkpoint": {"model": state, "epoch": 7}, "date": "2024-05-01"}
    return {wrapper: state, "epoch": 12, "best_acc1": 71.3}


def hold(module: nn.Module, prefix: str) -> nn.Module:
    """The module below attributes that give its keys the prefix."""
    for name in reversed(prefix.split(".")[:-1]):
        outer = nn.Module()
        outer.add_module(name, module)
        module = outer
    return module


def separate(state: State) -> State:
    """Copies: safetensors refuses tied and strided tensors."""
    return {key: tensor.detach().clone().contiguous() for key, tensor in state.items()}


def write_shards(state: State, folder: Path, count: int = 3) -> Path:
    """Shards and their index, as Hugging Face names them."""
    names = [f"model-{n + 1:05}-of-{count:05}.safetensors" for n in range(count)]
    where = {key: names[n * count // len(state)] for n, key in enumerate(state)}
    for name in names:
        save_file(separate({k: t for k, t in state.items() if where[k] == name}), folder / name)
    path = folder / "model.safetensors.index.json"
    size = sum(tensor.nbytes for tensor in state.values())
    path.write_text(json.dumps({"metadata": {"total_size": size}, "weight_map": where}))
    return path


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


def round_through(module: nn.Module, dtype: torch.dtype) -> None:
    """Give the module the values that its file will hold."""
    for tensor in module.state_dict().values():
        if isinstance(tensor, Tensor) and tensor.is_floating_point():
            tensor.copy_(tensor.to(dtype))


def run_original(
    args: tuple[object, ...], module: nn.Module
) -> tuple[tuple[object, ...], list[Tensor] | None, str]:
    """Inputs, what the module makes of them, and why not where it makes nothing comparable. The
    inputs are small ones where the module takes them."""
    why = ""
    for smaller in (True, False):
        inputs = tuple(shrink(arg) for arg in args) if smaller else args
        try:
            found = run(module, inputs)
        except Exception as error:  # networks refuse sizes in their own ways
            why = f"outputs not compared, the original fails: {type(error).__name__}: {error}"
            continue
        if not sum(tensor.numel() for tensor in found):
            why = "outputs not compared, the original's are empty"
        elif not all(bool(tensor.isfinite().all()) for tensor in found):
            why = "outputs not compared, the original's aren't finite"
        elif not any(bool(tensor.any()) for tensor in found):
            why = "outputs not compared, the original's are all zero"
        else:
            return inputs, found, ""
    return args, None, why


def shrink(arg: object) -> object:
    """One small image of a batch; anything else as it is."""
    if isinstance(arg, Tensor) and arg.dim() == 4 and min(arg.shape[2:]) > SIDE:
        return images((arg.shape[1], SIDE, SIDE), batch=1)
    return arg[:1] if isinstance(arg, Tensor) and arg.dim() > 3 else arg


def run(module: nn.Module, inputs: tuple[object, ...]) -> list[Tensor]:
    """The module's float outputs."""
    for part in module.modules():
        # Random weights score no box above a detector's threshold.
        if isinstance(getattr(part, "score_thresh", None), float):
            vars(part)["score_thresh"] = -1.0
    torch.manual_seed(0)
    with torch.inference_mode():
        return list(tensors(module(*inputs)))


def difference(one: list[Tensor], other: list[Tensor]) -> float:
    """The largest difference as a share of the largest output; infinite where shapes differ."""
    if [t.shape for t in one] != [t.shape for t in other]:
        return float("inf")
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if a.numel()]
    scale = max(a.abs().max().item() for a, _ in pairs)
    worst = max((a - b).abs().max().item() for a, b in pairs)
    return worst / scale if worst == worst else float("inf")


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
