"""State dicts in older names: the rules of signatures/older.txt backwards, and what a library's own
loader makes of such a state dict."""

from __future__ import annotations

import re
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import timm
import torch
from torch import Tensor, nn
from torchvision.models import densenet

from archfind.providers.storage_bound import is_storageless, with_storage
from archfind.state_dicts.key_rules import Rule
from archfind.state_dicts.older_names import Row

State = dict[str, Tensor]


# --- a network's tensors in the names of a row ------------------------------------------------


def older(row: Row, own: Mapping[str, Tensor]) -> State | None:
    """The tensors as a row's rules take them; None where all of them keep their names and shapes,
    or where the row's signs aren't there."""
    lengths: dict[int, int] = {}
    for key in own if row.stage else ():
        found = re.match(r"stages\.(\d+)\.blocks\.(\d+)\.", key)
        if found:
            stage, block = map(int, found.groups())
            lengths[stage] = max(lengths.get(stage, 0), block + 1)
    starts = [sum(lengths[stage] for stage in range(n)) for n in range(len(lengths))]
    names = {key: _back(row.rules, key, one.dim(), starts, None) for key, one in own.items()}
    plain = {name for name, _ in names.values()}
    names = {key: _back(row.rules, key, one.dim(), starts, plain) for key, one in own.items()}
    made: State = {}
    parts: dict[str, list[tuple[int, int, int, Tensor]]] = {}
    changed = False
    for key, (name, ops) in names.items():
        changed = changed or name != key or bool(ops)
        tensor: Tensor | None = own[key]
        piece = re.match(r"piece \d of (\d)", ops[0]) if ops else None
        if piece and tensor is not None:
            count = int(piece[1])
            for number, part in enumerate(tensor.chunk(count)):
                made[_piece(row.rules, key, part, f"piece {number} of {count}", starts)] = part
            continue
        for op in ops:
            rows = re.match(r"rows (\d)\.\.(\d) of (\d)", op)
            if rows and tensor is not None:
                first, last, of = map(int, rows.groups())
                parts.setdefault(name, []).append((first, last, of, tensor))
                tensor = None
            elif tensor is not None:
                tensor = _value(op, tensor, made)
        if tensor is not None and name not in made:
            made[name] = tensor
    for name, rows in parts.items():
        made[name] = _rows(rows)
    for rule in row.rules:
        if not rule.right and not re.search(r"[*{]", rule.left) and rule.left not in own:
            made[rule.left] = torch.zeros(1, 1, 8)
            changed = True
    signs = any(all(_has(made, key) for key in sign) for sign in row.signs)
    return made if changed and signs else None


def _has(state: State, sign: str) -> bool:
    """Whether there is such a key below some prefix."""
    ends = tuple(f".{sign.replace('{i}', str(n))}" for n in range(8))
    return any(f".{key}".endswith(ends) for key in state)


def _back(
    rules: list[Rule], key: str, dim: int, starts: list[int], plain: set[str] | None
) -> tuple[str, list[str]]:
    """A key of a tensor with `dim` dimensions as it was before the rules, and what they did to the
    tensor, the last first; `plain` are all the names that there are before them, to which the
    rules' conditions go."""
    ops: list[str] = []
    for rule in reversed(rules):
        if not rule.right or (rule.needs and (plain is None or not rule.is_meant(plain))):
            continue
        if " = " in rule.op and len(rule.op.partition(" = ")[2].split()) != dim:
            continue
        if ":n}" in rule.right:
            before = _unstaged(rule, key, starts)
        else:
            before = _swapped(rule).key(key, [])
        if before and rule.key(before, starts) == key:
            key = before
            ops += [rule.op] if rule.op else []
            if " = " in rule.op:
                shape = rule.op.rpartition(" : ")[2].partition(" = ")[0]
                dim = len(re.findall(r"\([^)]*\)|\S+", shape))
    return key, ops


def _piece(rules: list[Rule], key: str, part: Tensor, op: str, starts: list[int]) -> str:
    """The name of one of the tensors that make up another."""
    some = [rule for rule in rules if not rule.op.startswith("piece") or rule.op == op]
    return _back(some, key, part.dim(), starts, None)[0]


def _swapped(rule: Rule) -> Rule:
    """The rule the other way round; a number that it drops is 0."""
    left = re.sub(r"\{([a-z])\}", lambda m: m[0] if f"{{{m[1]}" in rule.right else "0", rule.left)
    return Rule(f"{rule.right} -> {left}")


def _unstaged(rule: Rule, key: str, starts: list[int]) -> str | None:
    right = rule.right.replace("{s:n}", "{s}").replace("{j:n}", "{j}")
    found = Rule(f"{right} -> {{s}} {{j}}").key(key, [])
    if found is None:
        return None
    stage, block = map(int, found.split())
    numbered = rule.left.replace("{n}", str(starts[stage] + block))
    return Rule(f"{right} -> {numbered}").key(key, [])


def _value(op: str, tensor: Tensor, made: State) -> Tensor | None:
    words = op.partition(" : ")[0].split()
    if words[0] == "zeros":
        return None
    if "=" in words:
        return unshaped(tensor, *op.split(" = "))
    if op == "inverse_log":
        return 1 / tensor.exp()
    if op == "swap_halves":
        return torch.cat(tensor.chunk(2)[::-1])
    if op == "magnitude":
        return tensor.abs() - 1e-5
    if words[0] == "frames_added":
        return torch.stack([tensor / 2, tensor / 2], 2)
    if words[0] == "with_first_position":
        return tensor - 0.5
    raise ValueError(op)


def unshaped(tensor: Tensor, before: str, after: str) -> Tensor:
    """A tensor as it was before `shaped` made it what it is."""
    count = iter("uvwxyz")
    old: list[list[str]] = []
    gone = 0
    for word in re.findall(r"\([^)]*\)|\S+", before):
        skipped, _, word = word.rpartition("+")
        gone = int(skipped or gone)
        inner = word.strip("()").split()
        old.append([next(count) if n.isdigit() and n != "1" else n for n in inner])
    count = iter("uvwxyz")
    new = [next(count) if n.isdigit() and n != "1" else n for n in after.split()]
    sizes = {name: size for name, size in zip(new, tensor.shape, strict=True) if name != "1"}
    flat = [name for group in old for name in group if name != "1"]
    moved = tensor.reshape(list(sizes.values())).permute([list(sizes).index(n) for n in flat])
    made = moved.reshape([torch.Size([sizes.get(n, 1) for n in g]).numel() for g in old])
    if gone:
        axis = next(n for n, word in enumerate(before.split()) if "+" in word)
        first = torch.full_like(made.narrow(axis, 0, 1), 0.5)
        made = torch.cat([first] * gone + [made], axis)
    return made


def _rows(parts: list[tuple[int, int, int, Tensor]]) -> Tensor:
    """One tensor of its rows; those that no network has are zero."""
    parts = sorted(parts, key=lambda part: part[0])
    first, last, of, tensor = parts[0]
    size = tensor.shape[0] // (last - first)
    held: list[Tensor] = []
    at = 0
    for first, last, _, tensor in parts:
        held += [tensor.new_zeros((first - at) * size, *tensor.shape[1:]), tensor]
        at = last
    return torch.cat([*held, tensor.new_zeros((of - at) * size, *tensor.shape[1:])])


# --- the library's own loader -----------------------------------------------------------------


def filtered(name: str, **fields: Any) -> tuple[nn.Module, Any]:
    """A timm network, and the filter that its builder gives to the loader; None where it has
    none."""
    kept: list[Any] = [None]

    def held(model: nn.Module, *args: Any, filter_fn: Any = None, **others: Any) -> None:
        kept[0] = filter_fn

    with warnings.catch_warnings(), mock.patch("timm.models._builder.load_pretrained", held):
        warnings.simplefilter("ignore")
        return timm.create_model(name, pretrained=True, **fields), kept[0]


def on_meta(name: str) -> tuple[nn.Module, Any]:
    """The same without storage."""
    try:
        with torch.device("meta"):
            return filtered(name)
    except (RuntimeError, NotImplementedError) as error:
        if not is_storageless(error):
            raise
    return with_storage(lambda: filtered(name))


def upgraded(module: nn.Module, filter_fn: Any, state: Mapping[str, Tensor]) -> State:
    """What timm's filter makes of a state dict."""
    given = dict(state)
    try:
        return dict(filter_fn(given, module))
    except TypeError:  # some take no module, as timm's loader knows
        return dict(filter_fn(dict(state)))


def load_as_torchvision(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a state dict as torchvision loads its own older files. RuntimeError where it can't."""
    if isinstance(module, densenet.DenseNet):

        def published(**_: object) -> State:
            return dict(state)

        weights: Any = SimpleNamespace(get_state_dict=published)
        densenet._load_state_dict(module, weights, progress=False)  # pyright: ignore[reportPrivateUsage]
    else:
        module.load_state_dict(dict(state), strict=True)


@contextmanager
def quiet() -> Generator[None]:
    """timm prints and logs where a weight is resized."""
    import logging

    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
