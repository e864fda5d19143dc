"""When a key is there, and where one rule gives way to another: conditions found from examples."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from archfind.classes.expression import parse_expression

Row = Mapping[str, Any]
Truth = np.ndarray[Any, np.dtype[np.bool_]]


def tests(rows: Sequence[Row], names: Iterable[str]) -> dict[str, Truth]:
    """Simple conditions on the named values that hold in some of the rows and not in others."""
    found: dict[str, Truth] = {}
    seen: set[bytes] = set()
    names = list(dict.fromkeys(names))
    columns: dict[str, list[Any]] = {name: [_value(row, name) for row in rows] for name in names}

    def add(text: str, truth: Sequence[bool]) -> None:
        vector = np.array(truth, dtype=bool)
        if vector.all() or not vector.any():
            return
        if vector.tobytes() in seen or (~vector).tobytes() in seen:
            return
        seen.add(vector.tobytes())
        found[text] = vector

    indices = [name for name in names if name[0] == "{" and name[-2] != "#"]
    for root in dict.fromkeys(name.rpartition(".")[0] for name in names) if indices else ():
        if _is_of_places(root, rows[0]):
            for name in indices:
                text = f"{name} in {root}"
                add(text, [bool(parse_expression(text).value(row)) for row in rows])
    numeric: list[str] = []
    for name in names:
        column = columns[name]
        kinds = {type(value) for value in column}
        if bool in kinds:
            add(name, [bool(value) for value in column])
        if type(None) in kinds:
            add(f"{name} != None", [value is not None for value in column])
        words = sorted({v for v in column if isinstance(v, str)})
        for count in (1, 2, 3):
            for some in (
                itertools.combinations(words, count) if len(words) < 9 or count == 1 else ()
            ):
                text = " or ".join(f"{name} == '{word}'" for word in some)
                add(text if count == 1 else f"({text})", [v in some for v in column])
        numbers = [v for v in column if isinstance(v, int | float) and not isinstance(v, bool)]
        if not numbers:
            continue
        if len(numbers) == len(column):
            numeric.append(name)
        if name[0] == "{" and name[-2] != "#":
            _indices(name, rows, add)
            continue
        for value in sorted(set(numbers))[:6]:
            if isinstance(value, int):
                add(f"{name} == {value}", [v == value for v in column])
                add(f"{name} > {value}", [_number(v) and v > value for v in column])
            elif value == 0:
                add(f"{name} > 0", [_number(v) and v > 0 for v in column])
    for one, two in itertools.combinations(numeric[:10], 2):
        pairs = list(zip(columns[one], columns[two], strict=True))
        add(f"{one} == {two}", [a == b for a, b in pairs])
        add(f"{one} < {two}", [a < b for a, b in pairs])
        add(f"{one} > {two}", [a > b for a, b in pairs])
        if one[0] != "{" and two[0] == "{" and two[-2] != "#":
            one, two, pairs = two, one, [(b, a) for a, b in pairs]
        if one[0] == "{" and one[-2] != "#" and two[0] != "{":  # every second layer, every third
            whole = all(isinstance(b, int) and b > 0 for _, b in pairs)
            for rest in (0, 1) if whole else ():
                add(f"{one}%{two} == {rest}", [a % b == rest for a, b in pairs])
            if whole:
                add(f"({one}+1)%{two} == 0", [(a + 1) % b == 0 for a, b in pairs])
    return found


def _is_of_places(root: str, row: Row) -> bool:
    """Whether a list may say at which places of a row something is: whole numbers that rise."""
    length = row.get(f"{root}.#")
    items = [row.get(f"{root}.{n}") for n in range(length)] if type(length) is int else []
    whole = [item for item in items if type(item) is int]
    return bool(items) and whole == items and whole == sorted(set(whole))


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _indices(name: str, rows: Sequence[Row], add: Any) -> None:
    """What can be said of a repeat's index: first, last, parity."""
    count = f"{name[:-1]}#}}"
    values = [(row[name], row[count]) for row in rows]
    for n in (0, 1, 2):
        add(f"{name} == {n}", [i == n for i, _ in values])
    add(f"{name} > 1", [i > 1 for i, _ in values])
    for back in (1, 2, 3):
        add(f"{name} == {count}-{back}", [i == c - back for i, c in values])
    add(f"{name} < {count}-2", [i < c - 2 for i, c in values])
    add(f"{name} < {count}-3", [i < c - 3 for i, c in values])
    for divisor in (2, 3, 4):
        for rest in range(divisor):
            add(f"{name}%{divisor} == {rest}", [i % divisor == rest for i, _ in values])


def _value(row: Row, name: str) -> object:
    try:
        return parse_expression(name).value(row)
    except (KeyError, TypeError):
        return None


def decide(truth: Truth, known: Mapping[str, Truth]) -> str | None:
    """The shortest condition made of up to three of the tests that is true exactly where `truth`
    is; "" for always, None where there is none."""
    if truth.all():
        return ""
    table = np.unique(np.stack([truth, *known.values()]), axis=1)  # equal rows say the same once
    every = (1 << table.shape[1]) - 1
    wanted, *vectors = [_bits(row) for row in table]
    tests = dict(zip(known, vectors, strict=True))
    literals: list[tuple[str, int]] = []
    for text, bits in tests.items():
        literals += [(text, bits), (negated(text), bits ^ every)]
    for text, bits in literals:
        if bits == wanted:
            return text
    # `a and b` needs literals that hold wherever the truth does; `a or b` those that hold nowhere
    # else.
    wider = [(t, v) for t, v in literals if wanted & v == wanted]
    within = [(t, v) for t, v in literals if v | wanted == wanted]
    for (a, x), (b, y) in itertools.combinations(wider, 2):
        if x & y == wanted:
            return f"{_side(a)} and {_side(b)}"
    for (a, x), (b, y) in itertools.combinations(within, 2):
        if x | y == wanted:
            return f"{a} or {b}"
    for (a, x), (b, y), (c, z) in itertools.combinations(wider[:30], 3):
        if x & y & z == wanted:
            return f"{_side(a)} and {_side(b)} and {_side(c)}"
    for (a, x), (b, y), (c, z) in itertools.combinations(within[:30], 3):
        if x | y | z == wanted:
            return f"{a} or {b} or {c}"
    for a, x in wider[:20]:  # a and (b or c)
        rest = [(t, v) for t, v in literals if v & x | wanted == wanted]
        for (b, y), (c, z) in itertools.combinations(rest[:30], 2):
            if x & (y | z) == wanted:
                return f"{_side(a)} and ({b} or {c})"
    return _tree(wanted, tests, every, 4)


def _bits(row: Truth) -> int:
    """A vector as a number with a bit for each item: a hundred tests take a moment that way."""
    return int.from_bytes(np.packbits(row, bitorder="little").tobytes(), "little")


def _tree(truth: int, known: Mapping[str, int], rows: int, depth: int) -> str | None:
    """A condition as a decision tree over some of the rows, each test the one that leaves the least
    doubt."""
    truth &= rows
    if truth in (0, rows):
        return "True" if truth else "False"
    if not depth or not known:
        return None

    def doubt(bits: int) -> float:
        total = 0.0
        for side in (bits & rows, rows & ~bits):
            count, held = side.bit_count(), (side & truth).bit_count()
            total += held * (count - held) / count if count else 0.0
        return total

    for text, bits in sorted(known.items(), key=lambda item: doubt(item[1]))[:3]:
        if bits & rows in (0, rows):
            continue
        sides: list[str] = []
        for side in (bits & rows, rows & ~bits):
            inner = {t: v for t, v in known.items() if v & side not in (0, side)}
            words = _tree(truth, inner, side, depth - 1)
            if words is None:
                break
            sides.append(words)
        if len(sides) < 2:
            continue
        yes, no = sides
        other = negated(text)
        words = {
            ("True", "False"): text,
            ("False", "True"): other,
        }.get((yes, no))
        if words is None:
            one = {"True": _side(text), "False": ""}.get(yes, f"{_side(text)} and ({yes})")
            two = {"True": _side(other), "False": ""}.get(no, f"{_side(other)} and ({no})")
            words = " or ".join(filter(None, (one, two)))
        return words
    return None


def negated(text: str) -> str:
    """The opposite of a simple condition."""
    if " or " in text or " and " in text:
        return f"not {text}" if _bracketed(text) else f"not ({text})"
    for one, other in ((" == ", " != "), (" != ", " == ")):
        if one in text:
            return text.replace(one, other)
    return f"not ({text})" if " " in text else f"not {text}"


def _side(text: str) -> str:
    return f"({text})" if " or " in text and not _bracketed(text) else text


def both(one: str, two: str) -> str:
    """The condition that both hold; "" is always."""
    if not one or not two:
        return one or two
    return f"{_side(one)} and {_side(two)}"


def _bracketed(text: str) -> bool:
    """Whether one pair of brackets holds the whole text."""
    level = 0
    for at, char in enumerate(text):
        level += (char == "(") - (char == ")")
        if not level and at < len(text) - 1:
            return False
    return text[:1] == "("
