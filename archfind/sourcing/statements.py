"""The operations of a block as the lines of its forward: calls are put into one another where what
they give is read once, and what is read again gets a name."""

from __future__ import annotations

from archfind.frozen import frozen
from archfind.sourcing.operations import PythonTemplate
from archfind.sourcing.program import Ref, Unfollowed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_INLINE = 56  # characters of a call that is put into another
_LINE = 80
_NAMES = ("x", "y", "z", *(f"x{number}" for number in range(1, 60)))


@frozen
class Item:
    """One step of a forward: what is computed, the names of what it gives, whether that is
    unpacked, and whether it changes what it reads."""

    expression: PythonTemplate
    outs: tuple[str, ...]
    multiple: bool = False
    changes: bool = False


def forward_lines(
    items: Sequence[Item], inputs: Sequence[str], outputs: object, names: Sequence[str]
) -> list[str]:
    """The lines; `names` are those of the arguments for `inputs`, `outputs` is what is returned: a
    reference, or several. Unfollowed where too many things live at once."""
    wanted = [ref.name for ref in _outputs(outputs)]
    read: dict[str, int] = {}
    for name in [*(ref.name for item in items for ref, _ in _refs(item.expression)), *wanted]:
        read[name] = read.get(name, 0) + 1
    changes = any(item.changes for item in items)
    inlined: dict[str, PythonTemplate] = {}
    statements: list[tuple[Item, PythonTemplate]] = []
    for item in items:
        made = _substituted(item.expression, inlined)
        if not any(out in read for out in item.outs) and not item.changes:
            continue  # nothing reads it
        once = len(item.outs) == 1 and not item.multiple and read.get(item.outs[0]) == 1
        if once and not changes and _length(made) <= _INLINE:
            inlined[item.outs[0]] = made
        else:
            statements.append((item, made))
    ending = _returned(outputs, inlined)
    return _named(statements, ending, dict(zip(inputs, names, strict=True)))


def _outputs(outputs: object) -> list[Ref]:
    if isinstance(outputs, Ref):
        return [outputs]
    if isinstance(outputs, list | tuple) and outputs and all(isinstance(o, Ref) for o in outputs):  # pyright: ignore
        return list(outputs)  # pyright: ignore
    raise Unfollowed("what it gives has another form")


def _refs(made: PythonTemplate) -> Iterator[tuple[Ref, bool]]:
    for piece in made.pieces:
        if not isinstance(piece, str):
            yield piece


def _length(made: PythonTemplate) -> int:
    return sum(len(piece) if isinstance(piece, str) else 1 for piece in made.pieces)


def _substituted(made: PythonTemplate, inlined: dict[str, PythonTemplate]) -> PythonTemplate:
    pieces: list[str | tuple[Ref, bool]] = []
    atom = made.is_atom
    for piece in made.pieces:
        if isinstance(piece, str) or piece[0].name not in inlined:
            pieces.append(piece)
            continue
        inner = inlined[piece[0].name]
        tight = piece[1] and not inner.is_atom
        pieces += ["(", *inner.pieces, ")"] if tight else inner.pieces
        if len(made.pieces) == 1:
            atom = inner.is_atom
    return PythonTemplate(tuple(pieces), atom)


def _returned(outputs: object, inlined: dict[str, PythonTemplate]) -> PythonTemplate:
    if isinstance(outputs, Ref):
        return _substituted(PythonTemplate(((outputs, False),)), inlined)
    pieces: list[str | tuple[Ref, bool]] = ["["] if isinstance(outputs, list) else []
    for number, ref in enumerate(_outputs(outputs)):
        pieces += [", "] if number else []
        pieces += _substituted(PythonTemplate(((ref, False),)), inlined).pieces
    pieces += ["]"] if isinstance(outputs, list) else []
    return PythonTemplate(tuple(pieces))


def _named(
    statements: list[tuple[Item, PythonTemplate]], ending: PythonTemplate, names: dict[str, str]
) -> list[str]:
    """The statements with a name for everything that lives: one that isn't needed any more is used
    again."""
    last: dict[str, int] = {}
    rows = [made for _, made in statements] + [ending]
    for number, made in enumerate(rows):
        for ref, _ in _refs(made):
            last[ref.name] = number
    lines: list[str] = []
    for number, (item, made) in enumerate(statements):
        text = _printed(made, names)
        read = [ref.name for ref, _ in _refs(made)]
        freed = [names[name] for name in dict.fromkeys(read) if last[name] == number]
        for name in [name for name in names if last.get(name, -1) <= number]:
            del names[name]
        targets: list[str] = []
        for out in item.outs:
            if out not in last:
                targets.append("_")
                continue
            taken = set(names.values())
            usable = [name for name in (*freed, *_NAMES) if name not in taken]
            if not usable:
                raise Unfollowed("too many values at once")
            names[out] = usable[0]
            targets.append(usable[0])
        lines += broken(f"{', '.join(targets)} = {text}")
    return [*lines, *broken(f"return {_printed(ending, names)}")]


def _printed(made: PythonTemplate, names: dict[str, str]) -> str:
    words: list[str] = []
    for piece in made.pieces:
        if isinstance(piece, str):
            words.append(piece)
        elif piece[0].name in names:
            words.append(names[piece[0].name])
        else:
            raise Unfollowed("something is read before it is there")
    return "".join(words)


def broken(line: str) -> list[str]:
    """A statement in lines that are short enough: broken at the last brackets, as ruff does it."""
    if len(line) <= _LINE or line[-1] not in ")]":
        return [line]
    depth, at = 0, len(line)
    for at in range(len(line) - 1, -1, -1):
        depth += (line[at] in ")]") - (line[at] in "([")
        if depth == 0:
            break
    inner = line[at + 1 : -1]
    if len(inner) + 4 <= _LINE:
        return [line[: at + 1], f"    {inner}", line[-1]]
    parts: list[str] = []
    depth = start = 0
    for number, letter in enumerate(inner):
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and depth == 0:
            parts.append(inner[start:number].strip())
            start = number + 1
    parts.append(inner[start:].strip())
    rows = [f"    {row}" for part in parts for row in broken(f"{part}")]
    closed: list[str] = []
    for part in parts:
        made = broken(part)
        made[-1] += ","
        closed += [f"    {row}" for row in made]
    return [line[: at + 1], *(closed if rows else []), line[-1]]
