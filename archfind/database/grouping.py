"""Exact keys -> the fewest pattern lines that expand to them: the writing half of the notation."""

from __future__ import annotations

from itertools import groupby

from archfind.database.notation import Line
from archfind.state_dicts.key_names import number_in_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

HEADS = ("[", "class ", "build ", "fields ")  # how the lines begin that aren't of tensors

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


_FEWEST = 4  # lines of a submodule that are written as another entry's


def with_likes(text: str, holders: dict[tuple[str, ...], str]) -> str:
    """An entry's text with each submodule whose lines an entry before it has too as one line,
    `like` and that entry, with the submodule's prefix. `holders` has the first entry with each
    submodule's lines, and gets those of this one."""
    heads, lines = [], text.rstrip("\n").split("\n")
    while lines and lines[0].startswith(HEADS):
        heads.append(lines.pop(0))
    entry = heads[0].strip("[]")
    written: list[str] = []
    runs = [(p, tuple(run)) for p, run in groupby(lines, lambda line: line.partition(".")[0] + ".")]
    prefixes = [prefix for prefix, _ in runs]
    for prefix, block in runs:
        if len(block) < _FEWEST or "{" in prefix or prefixes.count(prefix) > 1:
            written += block
            continue
        holder = holders.setdefault(block, entry)
        written += block if holder == entry else [f"like  {holder} {prefix}"]
    return "\n".join([*heads, *written]) + "\n"


def without_likes(lines: Iterable[str], known: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """The lines of an entry with those that stand for another's spelled out; `known` has the lines
    of all entries of its provider. KeyError where there is no such entry."""
    for line in lines:
        if not line.startswith("like "):
            yield line
            continue
        _, holder, prefix = line.split()
        yield from (other for other in known[holder] if other.startswith(prefix))


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
        return number_in_key(name) == number_in_key(last) + 1 > 0
    return not (last.isdecimal() or name.isdecimal())


def _choice(names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    if names[0].isdecimal():
        return f"{{{names[0]}..{names[-1]}}}"
    return f"{{{'|'.join(names)}}}"


def _join(name: str, below: str) -> str:
    return f"{name}.{below}" if below else name
