"""What a tensor's sizes are, as expressions, after an operation on tensors whose sizes are known:
how masks and index tables keep the numbers that they were made with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from archfind.probing.numbers import ATOM, is_number, text_of, traced_number, untraced_value

_SIZED = frozenset("empty zeros ones rand randn full new_zeros new_ones new_empty new_full".split())
_RESHAPED = frozenset("view reshape expand".split())
_SHAPE = torch.Tensor.shape.__get__  # pyright: ignore[reportAttributeAccessIssue]

Sizes = list[str]


def known_sizes(tensor: object) -> Sizes | None:
    """The expressions of a tensor's sizes, if they are known."""
    return getattr(tensor, "_traced", (None,))[0]


def traced_shape(func: Any, args: Sequence[Any], found: Any) -> Any:
    """What `tensor.shape` and `tensor.size()` give, with the expressions of the sizes."""
    name = getattr(func, "__name__", "")
    if not (name == "size" or func == _SHAPE) or (sizes := known_sizes(args[0])) is None:
        return found
    if isinstance(found, int):  # size(dim)
        return _number(found, sizes[args[1]]) if len(args) > 1 else found
    return torch.Size(map(_number, found, sizes))


def unmet(func: Any, args: Sequence[Any]) -> str:
    """What an operation asks of its numbers and doesn't get, as a comparison: as many elements as
    the tensor has; "" where it gets all, or it can't be told."""
    if getattr(func, "__name__", "") not in ("view", "reshape") or not (
        own := known_sizes(args[0])
    ):
        return ""
    given = args[1] if isinstance(args[1], list | tuple) else args[1:]
    sizes = [size for size in given if is_number(size) and untraced_value(size) != -1]
    count, wanted = args[0].numel(), math.prod(map(untraced_value, sizes))
    open_ends = len(given) - len(sizes)
    if open_ends > 1 or (count == wanted if not open_ends else wanted and count % wanted == 0):
        return ""
    has = "*".join(map(_tight, own))
    asks = "*".join(_tight(text_of(size, 0)) for size in sizes) or "1"
    return f"{has} % ({asks}) == 0" if open_ends else f"{has} == {asks}"


def _number(value: int, text: str) -> Any:
    level = ATOM if _is_name(text) else 0
    return value if text.isdigit() else traced_number(value, text, level)


def result_sizes(func: Any, args: Sequence[Any], kwargs: Any, found: torch.Tensor) -> Sizes | None:
    """The expressions of a result's sizes; None where they can't be told."""
    name = getattr(func, "__name__", "").strip("_")
    try:
        sizes = _sizes(name, args, kwargs or {}, found)
    except (IndexError, TypeError, ValueError):  # called in a way that isn't foreseen here
        return None
    if sizes is None or len(sizes) != found.dim():
        return None
    for size, own in zip(sizes, found.shape, strict=True):
        if not isinstance(size, str) and not (
            isinstance(size, int) and untraced_value(size) == own
        ):
            return None
    return [size if isinstance(size, str) else text_of(size, 0) for size in sizes]


def _sizes(
    name: str, args: Sequence[Any], kwargs: dict[str, Any], found: torch.Tensor
) -> list[Any] | None:
    if name in _SIZED:
        rest = args[1:] if name.startswith("new_") else args
        given = rest[0] if rest else kwargs.get("size", ())
        if isinstance(given, list | tuple):
            return list(given)
        return None if name in ("full", "new_full") else list(rest)
    if name == "arange":
        return [args[0]] if len(args) == 1 and is_number(args[0]) else None
    if name in _RESHAPED:
        given = args[1] if isinstance(args[1], list | tuple) else args[1:]
        return _reshaped(known_sizes(args[0]), list(given), found, name == "expand")
    own = known_sizes(args[0]) if args else None
    if own is not None:
        if name == "permute":
            order = args[1] if isinstance(args[1], list | tuple) else args[1:]
            return [own[at] for at in order]
        if name == "transpose":
            one, two = args[1] % len(own), args[2] % len(own)
            swapped = list(own)
            swapped[one], swapped[two] = own[two], own[one]
            return swapped
        if name == "unsqueeze":
            at = args[1] % (len(own) + 1)
            return [*own[:at], "1", *own[at:]]
        if name == "flatten":
            first = (args[1] if len(args) > 1 else 0) % len(own)
            last = (args[2] if len(args) > 2 else -1) % len(own)
            return [*own[:first], "*".join(map(_tight, own[first : last + 1])), *own[last + 1 :]]
        if name == "norm_except_dim" and args[2] >= 0:
            return [size if at == args[2] else "1" for at, size in enumerate(own)]
        if name == "getitem":
            return _taken(own, args[1])
    return _broadcast([a for a in args if isinstance(a, torch.Tensor)], found)


def _reshaped(
    own: Sizes | None, given: list[Any], found: torch.Tensor, expanded: bool
) -> list[Any] | None:
    """The sizes that were asked for; -1 is the size that was there, or what's left of all."""
    if -1 not in map(untraced_value, given):
        return given
    if own is None:
        return None
    at = [untraced_value(size) for size in given].index(-1)
    if expanded:
        return (
            [*given[:at], own[at - len(given)], *given[at + 1 :]] if given.count(-1) == 1 else None
        )
    left = [factor for size in own for factor in _factors(size)]
    below: list[str] = []
    for size in [*given[:at], *given[at + 1 :]]:
        for factor in _factors(text_of(size, 0)):
            if factor in left:
                left.remove(factor)
            else:
                below.append(factor)
    above = [factor for factor in left if factor != "1"]
    text = "*".join(map(_tight, above)) or "1"
    if below:
        text = f"{text}//({'*'.join(map(_tight, below))})"
    return [*given[:at], text, *given[at + 1 :]]


def _factors(text: str) -> Iterator[str]:
    """The factors of a product, "1" for none."""
    depth, start = 0, 0
    parts: list[str] = []
    for at, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if depth == 0 and char in "+-/% ":
            return iter([text])
        if depth == 0 and char == "*":
            if text[at - 1 : at + 2].count("*") > 1:  # a power
                return iter([text])
            parts.append(text[start:at])
            start = at + 1
    return (part for part in [*parts, text[start:]] if part != "1")


def _tight(text: str) -> str:
    """A factor that can stand in a product."""
    return text if _is_name(text) else f"({text})"


def _is_name(text: str) -> bool:
    return text.replace(".", "").replace("_", "").isalnum()


def _taken(own: Sizes, index: Any) -> list[Any] | None:
    """What `tensor[:, None]` and the like leave."""
    items = list(index) if isinstance(index, tuple) else [index]
    given = sum(item is not None and item is not Ellipsis for item in items)
    left = list(own)
    sizes: list[Any] = []
    for item in items:
        if item is None:
            sizes.append("1")
        elif item is Ellipsis:
            more = len(own) - given
            sizes += left[:more]
            del left[:more]
        elif isinstance(item, slice) and item == slice(None):
            sizes.append(left.pop(0))
        elif is_number(item):
            left.pop(0)
        else:
            return None
    return [*sizes, *left]


def _broadcast(tensors: Sequence[torch.Tensor], found: torch.Tensor) -> list[Any] | None:
    """The sizes of an elementwise result: of each place, that of a tensor that has the result's."""
    sizes: list[Any] = []
    for at in range(-found.dim(), 0):
        texts = [
            own[at]
            for tensor in tensors
            if (own := known_sizes(tensor)) is not None
            and tensor.dim() >= -at
            and tensor.shape[at] == found.shape[at]
        ]
        if not texts:
            return None
        sizes.append(next((text for text in texts if not text.isdigit()), texts[0]))
    wide = any(tensor.shape == found.shape for tensor in tensors)
    return sizes if wide or len(tensors) > 1 else None
