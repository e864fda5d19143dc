"""Model libraries -> signatures/: the only writer of that folder.

Every name that a library registers is built on the meta device, once with its defaults and once for
each field moved; what moved with the field becomes an expression or a condition in the text.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

from archfind.database.grouping import group, with_likes
from archfind.database.notation import CLASSES, Line, Size, usual_args
from archfind.errors import SignatureError
from archfind.probing.probe import NoValues
from archfind.progress import progress
from archfind.providers import provider
from archfind.providers.building import without_sockets
from archfind.providers.on_meta import create_on_meta
from archfind.writing import beside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.providers import Provider

Shapes = dict[str, tuple[tuple[int, ...], str]]  # key -> shape, dtype


_PROBE = (7, 1000)  # class counts: unlike each other, and unlike any width
_MORE = 4  # by which another number is moved: one that is large may be refused


_ANY_MODULE = ("model", "models", "modeling")  # says nothing of what is in it


@dataclass(frozen=True)
class Harvested:
    """One entry as text, and the file of signatures/ that it belongs in."""

    name: str
    family: str
    text: str


def build_signatures(name: str, folder: Path, only: str = "") -> tuple[int, list[str]]:
    """Write `folder`/`name`/*.txt for the provider `name`; return how many entries were written and
    one line for each that couldn't be built. Stopped work is resumed from `.partial`."""
    source = provider(name)
    release = version(source.LIBRARY)
    names = [entry for entry in source.names() if only in entry]
    out = folder / name
    out.mkdir(parents=True, exist_ok=True)
    partial = out / f".partial-{release}.jsonl"
    done: dict[str, Harvested] = {}
    lines = partial.read_text().splitlines(keepends=True) if partial.exists() else []
    whole = [line for line in lines if line.endswith("\n")]  # the last one may be cut short
    for line in whole:
        entry = Harvested(**json.loads(line))
        done[entry.name] = entry
    failed: list[str] = []
    with partial.open("a") as log:
        log.truncate(len("".join(whole)))
        for entry in progress(names, len(names), f"harvest {name}"):
            if entry in done:
                continue
            try:
                with without_sockets(), NoValues(math.inf):
                    done[entry] = harvest(source, name, entry)
            except Exception as error:  # a library may raise anything; one bad entry isn't the end
                failed.append(f"{name}/{entry}: {type(error).__name__}: {error}")
                continue
            log.write(json.dumps(done[entry].__dict__) + "\n")
            log.flush()
    families: dict[str, list[Harvested]] = {}
    for entry in names:
        if entry in done:
            families.setdefault(done[entry].family, []).append(done[entry])
    holders: dict[tuple[str, ...], str] = {}
    for family, entries in families.items():
        text = "\n".join(with_likes(entry.text, holders) for entry in entries)
        beside.write_small_file(out / f"{family}.txt", f"# {source.LIBRARY} {release}\n\n{text}")
    if not only:
        for stale in {*out.glob("*.txt")} - {out / f"{family}.txt" for family in families}:
            stale.unlink()
    partial.unlink()
    return sum(map(len, families.values())), failed


def harvest(source: Provider, library: str, name: str) -> Harvested:
    """The signature of one entry, as text."""
    fields = dict(source.fields(name))
    # Feature extractors come without a head by default: give them one, to see what it would be.
    headless = fields.get(CLASSES) == 0
    base = create_on_meta(source, name, **({CLASSES: _PROBE[1]} if headless else {}))
    lines = _scale(source, name, fields, _shapes(base), {})
    for field, default in list(fields.items()):
        if isinstance(default, bool):
            moved: dict[str, object] = {field: not default}
        elif field == CLASSES:
            moved = {field: 0}
        else:
            continue
        variant = _variant(source, name, fields, moved)
        merged = variant and _merge(lines, variant, field, bool(default))
        if merged:
            lines = merged
        elif isinstance(default, bool):
            del fields[field]  # it moves no key, or moves shapes too
    used = {
        f
        for line in lines.values()
        for size in line.shape
        if isinstance(size, Size)
        for f in size.fields
    }
    used |= {line.condition.removeprefix("not ") for line in lines.values()}
    kept = {field: value for field, value in fields.items() if field in used}
    cls = type(base)
    head = [f"[{library}/{name}]", f"class   {cls.__module__}.{cls.__qualname__}"]
    callable, given, fixed = source.call(name)
    usual = usual_args(callable, name)
    words = [_word(value) for value in given] or ["()"] if given != usual else []
    words += [f"{k}={_word(v)}" for k, v in fixed.items()]
    head.append(" ".join(["build  ", callable, *words]))
    if kept:
        head.append("fields  " + " ".join(f"{k}={v!r}" for k, v in kept.items()))
    *above, family = cls.__module__.split(".")
    if family in _ANY_MODULE:
        family = above[-1]
    return Harvested(name, family, "\n".join([*head, *group(lines)]) + "\n")


def _word(value: object) -> str:
    """An argument without spaces, which part the words of a line."""
    return repr(value).replace(", ", ",")


def _shapes(module: nn.Module) -> Shapes:
    found: Shapes = {}
    for key, tensor in module.state_dict().items():
        if not isinstance(tensor, torch.Tensor):
            raise SignatureError(f"{key} is a {type(tensor).__name__}, not a tensor")
        real = tensor.is_floating_point()
        found[key] = (
            tuple(tensor.shape),
            "float" if real else str(tensor.dtype).removeprefix("torch."),
        )
    return found


def _scale(
    source: Provider, name: str, fields: dict[str, object], base: Shapes, fixed: dict[str, object]
) -> dict[str, Line]:
    """`base` with each size that moves with a number among the fields as an expression of it."""
    lines: dict[str, Line] = {
        key: Line(key, tuple(shape), dtype) for key, (shape, dtype) in base.items()
    }
    for field, default in fields.items():
        if type(default) is not int:
            continue
        is_head = field == source.HEAD
        usual = (default or _PROBE[1]) if field == CLASSES else default
        count = _PROBE[0] if is_head else usual + _MORE
        other = _shapes(create_on_meta(source, name, **fixed, **{field: count}))
        for key, (shape, _) in base.items():
            moved = other.get(key, base[key])[0]
            if len(moved) != len(shape):
                continue
            sizes = [
                _sized(size, changed, field, usual, count)
                for size, changed in zip(shape, moved, strict=True)
            ]
            line = lines[key]
            both = [
                old if type(new) is int else new for old, new in zip(line.shape, sizes, strict=True)
            ]
            lines[key] = Line(key, tuple(both), line.dtype)
    return lines


def _sized(size: int, changed: int, field: str, usual: int, count: int) -> int | Size:
    """A size that is `changed` where a field is `count` in place of what it `usual`ly is."""
    factor, rest = divmod(size - changed, usual - count)
    constant = size - factor * usual
    if size == changed or factor <= 0 or rest or constant < 0:
        return size
    return Size({(field,): factor} | ({(): constant} if constant else {}))


def _variant(
    source: Provider, name: str, fields: dict[str, object], moved: dict[str, object]
) -> dict[str, Line] | None:
    """The lines with one field moved, or None where the library refuses the value."""
    try:
        shapes = _shapes(create_on_meta(source, name, **moved))
        if CLASSES in moved:
            return _scale(source, name, {}, shapes, {})
        return _scale(source, name, fields, shapes, moved)
    except Exception:  # libraries refuse values in their own ways: the field isn't one to move
        return None


def _merge(
    lines: dict[str, Line], variant: dict[str, Line], field: str, default: bool
) -> dict[str, Line] | None:
    """`lines` with conditions where `variant` lacks or adds keys; None where a flip moves nothing,
    or more than the presence of keys."""
    common = lines.keys() & variant.keys()
    if len(common) == len(lines) == len(variant) or not common:
        return None
    for key in common:
        if field != CLASSES and lines[key].shape != variant[key].shape:
            return None
    on, off = (field, f"not {field}") if default or field == CLASSES else (f"not {field}", field)
    merged: dict[str, Line] = {}
    for key, line in lines.items():
        if key not in variant and line.condition:
            return None  # two switches on one key: no notation for that yet
        condition = line.condition if key in variant else on
        merged[key] = Line(key, line.shape, line.dtype, condition)
    for key, line in variant.items():
        if key not in lines:
            merged[key] = Line(key, line.shape, line.dtype, off)
    return merged
