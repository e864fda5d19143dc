"""Exact keys -> the fewest pattern lines that expand to them: the writing half of the notation."""

from __future__ import annotations

from archfind.key_names import number
from archfind.signature import Line

# A branch's lines, each as (pattern below the branch, what follows it): comparable, so that
# neighbours with equal bodies become one line.
_Body = tuple[tuple[str, str], ...]


def group(tensors: dict[str, Line]) -> list[str]:
    """Lines for `tensors` (key -> its own line). Only neighbours are merged, so the order of the
    keys can be recovered with `signature.ordered`."""
    tree: dict[str, dict] = {}  # pyright: ignore[reportMissingTypeArgument]
    for key in tensors:
        node = tree
        for part in key.split("."):
            node = node.setdefault(part, {})
    return [f"{pattern}  {rest}" for pattern, rest in _body(None, tree, tensors)]


def _body(path: str | None, node: dict, tensors: dict[str, Line]) -> _Body:  # pyright: ignore[reportMissingTypeArgument]
    if not node:
        _, _, rest = str(tensors[path or ""]).partition("  ")
        return (("", rest),)
    lines: list[tuple[str, str]] = []
    names: list[str] = []
    pending: _Body = ()
    for name, child in [*node.items(), ("", None)]:
        below = name if path is None else f"{path}.{name}"  # a name may be empty, and so a path
        body = () if child is None else _body(below, child, tensors)
        if names and body == pending and _neighbours(names[-1], name):
            names.append(name)
            continue
        if names:
            lines += [(_join(_choice(names), inner), rest) for inner, rest in pending]
        names, pending = [name], body
    return tuple(lines)


def _neighbours(last: str, name: str) -> bool:
    if last.isdecimal() and name.isdecimal():
        return number(name) == number(last) + 1 > 0
    return not (last.isdecimal() or name.isdecimal())


def _choice(names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    if names[0].isdecimal():
        return f"{{{names[0]}..{names[-1]}}}"
    return f"{{{'|'.join(names)}}}"


def _join(name: str, below: str) -> str:
    return f"{name}.{below}" if below else name
