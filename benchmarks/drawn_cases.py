"""Networks of the database saved the ways that people save them: cases drawn, and their files."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from archfind.database.entries import Signature, SignatureMember, default
from archfind.database.notation import Size

LARGEST = 120_000_000  # parameters
MOST, MOST_BOXED = 20_000, 100  # classes, and those of detectors

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


# --- the cases ---------------------------------------------------------------------------------


def draw_cases(count: int, seed: int) -> tuple[list[Case], list[str]]:
    """The first `count` entries of a seeded order that aren't too large, and those passed over."""
    draw = random.Random(seed)
    database = default()
    known: dict[str, tuple[Signature, SignatureMember]] = {}
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


def draw_classes(member: SignatureMember, draw: random.Random) -> int | None:
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
