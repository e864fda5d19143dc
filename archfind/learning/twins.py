"""Which entries with the same tensors also compute the same function: found by running them.

Members of a group get the same random weights and the same input, in float64, where rounding is far
below any difference that a setting makes (an epsilon of 1e-6 against 1e-5 included).
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

from archfind.database.compile import Text, groups, read_texts
from archfind.errors import BuildError
from archfind.progress import progress
from archfind.providers import PROVIDERS, provider
from archfind.providers.example import images
from archfind.providers.on_meta import create_on_meta
from archfind.writing import beside

_SAME = 1e-9  # of the largest output; float64 leaves about 1e-13 after a deep network
_LARGEST = 1_300_000_000  # parameters; above, 24 GB don't hold the float64 weights
_CLASSES = 5
_SIDE = 128  # large enough for every stride, small enough for hundreds of networks

_HEAD = """\
# Entries with the same keys and shapes. A block is a group, a line in it one function: all on a
# line gave the same outputs on the same random weights and input. Behind "  | " stands what differs
# from the first line, read off the module trees. Written by `archfind signatures build`.
"""


def write_twins(folder: Path) -> list[str]:
    """Write `folder`/twins.txt; return a line of counts. Groups of libraries whose versions are
    those that the file names are kept, and so are those of libraries that aren't installed."""
    path = folder / "twins.txt"
    text = path.read_text() if path.exists() else ""
    before = _versions(text)
    versions = {**before, **dict(_installed())}
    stamp = "# " + ", ".join(f"{name} {versions[name]}" for name in PROVIDERS if name in versions)
    known: dict[frozenset[str], str] = {}
    for block in text.split("\n\n")[1:]:
        ids = [i for line in block.split("\n") for i in line.partition("  | ")[0].split()]
        if all(before.get(name) == versions.get(name) for name in map(_library, ids)):
            known[frozenset(ids)] = block.strip("\n")
    found = [members for members in groups(list(read_texts(folder))) if len(members) > 1]
    blocks: list[str] = []
    for members in progress(found, len(found), "compare twins"):
        ids = frozenset(text.id for text in members)
        blocks.append(known[ids] if ids in known else _block(members))
        kept = [*blocks, *(block for block in known.values() if block not in blocks)]
        beside.write_small_file(path, f"{_HEAD}{stamp}\n\n" + "\n\n".join(kept) + "\n")
    beside.write_small_file(path, f"{_HEAD}{stamp}\n\n" + "\n\n".join(blocks) + "\n")
    apart = sum("\n" in block for block in blocks)
    return [f"twins: {len(blocks)} groups, in {apart} of them the functions differ"]


def _library(entry: str) -> str:
    return entry.partition("/")[0]


def _installed() -> Iterator[tuple[str, str]]:
    """The providers whose libraries are installed, with the libraries' versions."""
    for name in PROVIDERS:
        try:
            yield name, version(provider(name).LIBRARY)
        except BuildError:  # it is an extra
            continue


def _versions(text: str) -> dict[str, str]:
    """The versions of libraries that a file of twins was written with, by provider."""
    heads = text.partition("\n\n")[0].split("\n")
    words = [pair.split() for pair in heads[-1].removeprefix("# ").split(", ")]
    return {pair[0]: pair[1] for pair in words if len(pair) == 2}


def _block(members: list[Text]) -> str:
    """One group as text: a line a function, the plainest name's first."""
    members = sorted(members, key=lambda t: (t.id.startswith("timm"), len(t.id), t.id))
    lines: list[list[str]] = []
    outputs: list[torch.Tensor | None] = []
    for text, output in zip(members, _outputs(members), strict=True):
        same = next((n for n, other in enumerate(outputs) if _equal(other, output)), None)
        if same is None:
            lines.append([text.id])
            outputs.append(output)
        else:
            lines[same].append(text.id)
    first = _facts(members[0])
    words = [" ".join(lines[0])]
    for ids in lines[1:]:
        other = _facts(next(text for text in members if text.id == ids[0]))
        words.append(f"{' '.join(ids)}  | {_difference(first, other)}")
    return "\n".join(words)


def _outputs(members: list[Text]) -> Iterator[torch.Tensor | None]:
    """Each member's output, flattened; None where it couldn't be run, which makes it a function of
    its own. The size is small unless a member insists on its own."""
    for side in (_SIDE, 0):
        found: list[torch.Tensor | None] = []
        for text in members:
            output = _output(text, side)
            gc.collect()
            if output is None and side:
                break
            found.append(output)
        else:
            break
    yield from found


def _output(text: Text, side: int) -> torch.Tensor | None:
    library, _, name = text.id.partition("/")
    source = provider(library)
    classes = {"num_classes": _CLASSES} if "num_classes" in text.fields else {}
    shell = create_on_meta(source, name, **classes)
    if sum(p.numel() for p in shell.parameters()) > _LARGEST:
        return None
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            module = source.create(name, **classes)
            module.double().eval()
            randomise_seeded(module)
            args = source.example(name, module).args
            if side:
                args = tuple(_smaller(arg, side) for arg in args)
            args = tuple(_double(arg) for arg in args)
            return torch.cat([t.flatten() for t in tensors_of_output(module(*args))])
    except (RuntimeError, ValueError, AssertionError, IndexError, TypeError, NotImplementedError):
        return None
    except BuildError:  # nobody knows an input that it runs on
        return None


def randomise_seeded(module: nn.Module, seed: int = 0) -> None:
    """Seeded weights under which every layer matters: a fresh network's zero gammas and equal
    statistics would hide differences. The same keys and shapes get the same values."""
    random = torch.Generator().manual_seed(seed)
    state = module.state_dict()
    for key in sorted(state):
        tensor = state[key]
        if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
            continue
        if key.endswith("running_var"):
            values = torch.rand(tensor.shape, generator=random) + 0.5
        elif tensor.dim() >= 2:
            fan_in = max(1, tensor[0].numel())
            values = torch.randn(tensor.shape, generator=random) / fan_in**0.5
        elif key.endswith("weight") or "gamma" in key:
            values = torch.rand(tensor.shape, generator=random) * 0.5 + 0.5
        else:
            values = torch.randn(tensor.shape, generator=random) * 0.1
        tensor.copy_(values)


def tensors_of_output(output: object) -> Iterator[torch.Tensor]:
    """The float tensors in an output, in order, whatever it's nested in."""
    if isinstance(output, torch.Tensor):
        yield output.double()
    elif isinstance(output, dict):
        for value in output.values():  # pyright: ignore[reportUnknownVariableType]
            yield from tensors_of_output(value)  # pyright: ignore[reportUnknownArgumentType]
    elif isinstance(output, list | tuple):
        for value in output:  # pyright: ignore[reportUnknownVariableType]
            yield from tensors_of_output(value)  # pyright: ignore[reportUnknownArgumentType]


def _smaller(arg: object, side: int) -> object:
    if isinstance(arg, torch.Tensor) and arg.dim() == 4:
        return images((arg.shape[1], side, side), batch=1)
    return arg


def _double(arg: object) -> object:
    if isinstance(arg, list):
        return [_double(item) for item in arg]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(arg, dict):
        return {key: _double(item) for key, item in arg.items()}  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(arg, torch.Tensor) or not arg.is_floating_point():
        return arg
    return (arg[:1] if arg.dim() > 3 else arg).double()


def _equal(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    if one is None or other is None or one.shape != other.shape:
        return False
    scale = one.abs().max().clamp(min=1e-30)
    return bool(((one - other).abs().max() / scale) < _SAME)


def _facts(text: Text) -> dict[str, str]:
    """What a module tree says beyond its weights: classes, printed settings, plain attributes."""
    library, _, name = text.id.partition("/")
    found: dict[str, str] = {}
    classes = {"num_classes": _CLASSES} if "num_classes" in text.fields else {}
    module = create_on_meta(provider(library), name, **classes)
    for path, part in module.named_modules():
        found[path] = f"{type(part).__name__}({part.extra_repr()})"
        for key, value in vars(part).items():
            if (
                isinstance(value, bool | int | float | str)
                and not key.startswith("_")
                and key != "training"
            ):
                found[f"{path}.{key}"] = f"{value}"
    return found


def _difference(first: dict[str, str], other: dict[str, str]) -> str:
    """The first facts in which two module trees differ, in one line."""
    facts: dict[str, None] = {}
    for path, value in first.items():
        if path not in other or other[path] == value:
            continue
        leaf = path.rpartition(".")[2] or "the module"
        facts[f"{leaf}: {_contrast(other[path], value)}"] = None
    if not facts:
        added = [path for path in other if path not in first][:2]
        gone = [path for path in first if path not in other][:2]
        facts = {f"has {path}": None for path in added} | {f"lacks {path}": None for path in gone}
    return "; ".join(list(facts)[:2]) or "nothing in the module tree; the code itself"


def _contrast(text: str, first: str) -> str:
    """What of a printed module is unlike another: "stride=(2, 2), not (1, 1)"."""
    mine, others = _items(text), _items(first)
    gained = [item for item in mine if item not in others]
    lost = [item for item in others if item not in mine]
    shown = " ".join(gained[:2]) or "nothing"
    return f"{shown}, not {' '.join(lost[:2])}" if lost else shown


def _items(text: str) -> list[str]:
    """`Conv2d(3, 8, stride=(2, 2))` as Conv2d, 3, 8, stride=(2, 2)."""
    items, depth, item = [""], 0, 0
    for sign in " ".join(text.split()).replace("  ", " "):
        depth += (sign == "(") - (sign == ")")
        if (sign == "(" and not item) or (sign == "," and depth == 1):
            items.append("")
            item += 1
        elif not (sign == ")" and not depth):
            items[item] += sign
    return [i.strip() for i in items if i.strip()]
