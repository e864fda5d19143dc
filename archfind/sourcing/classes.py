"""Blocks that differ in their sizes alone share a class: the sizes become its arguments."""

from __future__ import annotations

from archfind.frozen import frozen
from archfind.sourcing.expressions import module_expression, tensor_statement
from archfind.sourcing.names import class_name, is_plain, unused
from archfind.sourcing.nodes import Hole, Printer, ProgramCall, Symbol, leaves_of_node, quoted_name
from archfind.sourcing.parts import ModulePart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    Statement = tuple[str, object, str]

_IN = frozenset(("in_channels", "in_features", "num_features", "num_channels", "input_size"))
_BOTH = {"in_channels": "channels", "in_features": "features", "num_features": "channels"}
_TAKEN = ("in_channels", "in_features", "num_embeddings", "input_size")
_GIVEN = ("out_channels", "out_features")


@frozen
class WrittenClass:
    """A class of the source: its name, the arguments of its constructor with their defaults (None
    for those without), its statements, which leaf of which statement is which argument, and the
    block that its forward is taken from."""

    name: str
    parameters: tuple[tuple[str, object], ...]
    statements: tuple[Statement, ...]
    names: tuple[Mapping[int, str], ...]
    part: ModulePart


def written_classes(top: ModulePart, symbols: Mapping[str, object]) -> list[WrittenClass]:
    """The classes for every block of a tree, those first that others hold. `symbols` has the
    network-wide settings with the text or number that each has by default."""
    heights: dict[int, list[ModulePart]] = {}
    _height(top, heights)
    if not top.is_block:
        heights[max(heights, default=0) + 1] = [top]
    made: dict[str, object] = {}
    written: list[WrittenClass] = []
    taken = {"Model", "Tensor", "Callable", "OrderedDict", "F"}
    for height in sorted(heights):
        groups: dict[object, list[tuple[ModulePart, list[Statement]]]] = {}
        for part in heights[height]:
            statements = _statements(part, made)
            groups.setdefault(_key(part, statements), []).append((part, statements))
        for members in groups.values():
            part = members[0][0]
            if part is top:
                name = "Model"
            else:
                parent = part.path.rpartition(".")[0].rpartition(".")[2]
                stated = part.stated.rpartition(".")[2]
                stated = stated if is_plain(stated) else ""
                name = unused(stated or part.words or class_name(part.name, parent), taken)
            taken.add(name)
            written.append(_class(name, members, made, symbols if part is top else None))
    return written


def _height(part: ModulePart, heights: dict[int, list[ModulePart]]) -> int:
    """How many classes stand below and in a part."""
    height = max((_height(child, heights) for child in part.children.values()), default=0)
    if part.is_block:
        height += 1
        heights.setdefault(height, []).append(part)
    return height


def _statements(part: ModulePart, made: Mapping[str, object]) -> list[Statement]:
    if not part.is_block:
        whole = module_expression(part, made)
        assert isinstance(whole, ProgramCall)
        return [("", ProgramCall("super().__init__", whole.arguments), "")]
    held: list[Statement] = []
    for name, spec in part.tensors.items():
        if name != "_extra_state":
            held.append(tensor_statement(name, spec, name not in part.children))
    for name, child in part.children.items():
        free = is_plain(name) and name not in part.tensors
        start = f"self.{name}" if free else f"self._modules[{quoted_name(name)}]"
        held.append((f"{start} = ", module_expression(child, made), ""))
    for name, (kind, arguments) in part.extras.items():
        extra = ModulePart(name, "")
        extra.kind, extra.arguments = kind, dict(arguments)
        held.append((f"self.{name} = ", module_expression(extra, made), ""))
    return held


def _key(part: ModulePart, statements: list[Statement]) -> object:
    """What all blocks of one class have in common."""
    blank = [(start, _blank(node), end) for start, node, end in statements]
    return (tuple(blank), tuple(part.forward or ()), part.takes, part.words, part.forward is None)


def _blank(node: object) -> str:
    count = list(leaves_of_node(node))
    names = {
        number: f"{leaf.role}:{type(leaf.value).__name__}"
        for number, leaf in enumerate(count)
        if isinstance(leaf, Hole)
    }
    return Printer(names).flat(node)


def _class(
    name: str,
    members: list[tuple[ModulePart, list[Statement]]],
    made: dict[str, object],
    symbols: Mapping[str, object] | None,
) -> WrittenClass:
    part, statements = members[0]
    every = [[list(leaves_of_node(node)) for _, node, _ in held] for _, held in members]
    names: list[dict[int, str]] = [{} for _ in statements]
    vectors: dict[tuple[object, ...], str] = {}
    roles = _roles(every)
    differing: list[tuple[str, tuple[object, ...]]] = []
    used: dict[str, None] = {}
    taken = {"self", "nn", "torch", *(symbols or ())}
    for at, row in enumerate(every[0]):
        for number, leaf in enumerate(row):
            if isinstance(leaf, Symbol):
                used[leaf.name] = None
                continue
            vector = tuple(held[at][number].value for held in every)  # pyright: ignore
            if len({(type(value), value) for value in vector}) == 1:
                continue
            if vector not in vectors:
                wanted = _wanted(roles[vector], leaf.role)
                vectors[vector] = unused(wanted, taken)
                taken.add(vectors[vector])
                differing.append((vectors[vector], vector))
            names[at][number] = vectors[vector]
    for number, (member, _) in enumerate(members):
        values = [("", Hole(vector[number], word)) for word, vector in differing]
        made[member.path] = ProgramCall(name, (*values, *((key, Symbol(key)) for key in used)))
    parameters: list[tuple[str, object]]
    if symbols is None:
        parameters = [(word, None) for word in (*(name for name, _ in differing), *used)]
    else:
        sizes = _sizes(every[0], names) if part.is_ordered else []
        parameters = sizes + [(key, symbols[key]) for key in symbols if key in used]
    return WrittenClass(name, tuple(parameters), tuple(statements), tuple(names), part)


def _roles(every: list[list[list[Hole | Symbol]]]) -> dict[tuple[object, ...], set[str]]:
    roles: dict[tuple[object, ...], set[str]] = {}
    for at, row in enumerate(every[0]):
        for number, leaf in enumerate(row):
            if isinstance(leaf, Hole):
                vector = tuple(held[at][number].value for held in every)  # pyright: ignore
                roles.setdefault(vector, set()).add(leaf.role)
    return roles


def _wanted(roles: set[str], role: str) -> str:
    """An argument's name: what it is of the layers that take it; a width that goes in and comes out
    again is neither's."""
    outs = {one.replace("in_", "out_") for one in roles if one.startswith("in_")}
    if role in _BOTH and outs & roles:
        return _BOTH[role]
    return {
        "num_features": "channels",
        "num_channels": "channels",
        "normalized_shape": "width",
        "input_size": "in_features",
        "embed_dim": "width",
    }.get(role, role)


def _sizes(
    rows: list[list[Hole | Symbol]], names: list[dict[int, str]]
) -> list[tuple[str, object]]:
    """The whole network's first and last width, as arguments with their values as defaults."""
    places = [
        (at, number, leaf)
        for at, row in enumerate(rows)
        for number, leaf in enumerate(row)
        if isinstance(leaf, Hole)
    ]
    held: list[tuple[str, object]] = []
    outs = [place for place in places if place[2].role in (*_GIVEN, "num_features")]
    if outs and outs[-1][2].role not in _GIVEN:
        outs = []  # a norm comes after it: it isn't what the network gives
    ends = [place for place in places[:1] if place[2].role in _TAKEN] + outs[-1:]
    for at, number, leaf in ends:
        if number not in names[at] and leaf.role not in (word for word, _ in held):
            names[at][number] = leaf.role
            held.append((leaf.role, leaf.value))
    return held
