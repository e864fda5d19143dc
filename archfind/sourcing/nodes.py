"""Expressions of the source that is written, as trees: what is printed, wrapped as ruff's formatter
wraps it."""

from __future__ import annotations

from archfind.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

WIDTH = 88  # of a line, as ruff and black have it where nobody sets another


@frozen
class Hole:
    """A value that may differ between instances of a class. `role` is its argument's name."""

    value: object
    role: str


@frozen
class Symbol:
    """A network-wide setting by the name of its constructor argument; `called` makes it a call."""

    name: str
    called: bool = False


@frozen
class ProgramCall:
    """A call, its arguments by keyword ("" for one that stands by its place)."""

    function: str
    arguments: tuple[tuple[str, object], ...]


@frozen
class Repeat:
    """The same expression several times: `*(item for _ in range(count))`."""

    item: object
    count: Hole


@frozen
class ProgramList:
    """What stands between brackets, as in a list."""

    start: str
    end: str
    items: tuple[object, ...]


def leaves_of_node(node: object) -> Iterator[Hole | Symbol]:
    """The holes and symbols of an expression, in the order in which they are printed."""
    if isinstance(node, Hole | Symbol):
        yield node
    elif isinstance(node, ProgramCall):
        for _, value in node.arguments:
            yield from leaves_of_node(value)
    elif isinstance(node, Repeat):
        yield from leaves_of_node(node.item)
        yield from leaves_of_node(node.count)
    elif isinstance(node, ProgramList):
        for item in node.items:
            yield from leaves_of_node(item)


def literal(value: object) -> str:
    """A number, a flag, or a tuple of them, as Python. Nothing else is ever written so."""
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and value - value == 0:
        return repr(value)
    if isinstance(value, tuple):
        ends = "," if len(value) == 1 else ""
        return f"({', '.join(map(literal, value))}{ends})"
    raise TypeError(f"no literal: {type(value).__name__}")


def quoted_name(name: str) -> str:
    """Any text as a string literal of ASCII."""
    text = ascii(name)
    if '"' not in name:
        body = text[1:-1].replace("\\'", "'")
        return f'"{body}"'
    return text


class Printer:
    """Prints expressions; `names` has the argument that stands for a hole, by its number among the
    expression's leaves, where it is no literal."""

    def __init__(self, names: Mapping[int, str]) -> None:
        self._names = names
        self._count = 0

    def flat(self, node: object) -> str:
        """The expression on one line."""
        if isinstance(node, str):
            return node
        if isinstance(node, Hole):
            name = self._names.get(self._count)
            self._count += 1
            return name if name is not None else literal(node.value)
        if isinstance(node, Symbol):
            self._count += 1
            return node.name + "()" * node.called
        if isinstance(node, ProgramCall):
            return f"{node.function}({', '.join(self._arguments(node))})"
        if isinstance(node, Repeat):
            item = self.flat(node.item)
            return f"*({item} for _ in range({self.flat(node.count)}))"
        assert isinstance(node, ProgramList)
        return node.start + ", ".join(map(self.flat, node.items)) + node.end

    def _arguments(self, node: ProgramCall) -> list[str]:
        return [(f"{key}=" if key else "") + self.flat(value) for key, value in node.arguments]

    def lines(self, node: object, indent: int, before: str = "", after: str = "") -> list[str]:
        """The expression between `before` and `after`, on one line where it fits, else with one
        line for what it holds, else with one for each."""
        start = self._count
        text = " " * indent + before + self.flat(node) + after
        if len(text) <= WIDTH or isinstance(node, Hole | Symbol | str):
            return [text]
        end, self._count = self._count, start
        if isinstance(node, Repeat):
            inner = self.lines(node.item, indent + 4)
            inner.append(" " * (indent + 4) + f"for _ in range({self.flat(node.count)})")
            return [" " * indent + before + "*(", *inner, " " * indent + ")" + after]
        opening, closing, items = _parts(node)
        if not items:
            self._count = end
            return [text]
        first, last = " " * indent + before + opening, " " * indent + closing + after
        spaces = " " * (indent + 4)
        joined = spaces + ", ".join(key + self.flat(value) for key, value in items)
        if len(joined) <= WIDTH and not any(isinstance(v, Repeat) for _, v in items):
            return [first, joined, last]
        self._count = start
        alone = len(items) == 1 and isinstance(items[0][1], Repeat)
        inner: list[str] = []
        for key, value in items:
            inner += self.lines(value, indent + 4, key, "" if alone else ",")
        return [first, *inner, last]


def _parts(node: object) -> tuple[str, str, list[tuple[str, object]]]:
    if isinstance(node, ProgramCall):
        held = [(f"{key}=" if key else "", value) for key, value in node.arguments]
        return f"{node.function}(", ")", held
    assert isinstance(node, ProgramList)
    return node.start, node.end, [("", item) for item in node.items]
