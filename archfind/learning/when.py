"""Traces of a network with its switches turned -> lines with the conditions that they stand under:
a line's absence from a trace says which switch takes it away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from archfind.learning.grown import Grown
from archfind.learning.lines import Line
from archfind.learning.switches import Choice, Switches, Together
from archfind.probing.config import Leaf
from archfind.probing.trace import Traced


class When:
    """The lines of all traces of a network."""

    def __init__(self, grown: Grown, switches: Switches) -> None:
        self._grown = grown
        self._switches = switches

    def lines(self, beside: Mapping[Together, Traced | None]) -> list[Line]:
        """The lines of all traces, each under the conditions that its absence elsewhere says."""
        assert self._grown.first is not None
        choices = self._switches.traces
        traces = {
            (): self._grown.first,
            **{(choice,): one for choice, one in choices.items()},
            **beside,
        }
        lines = {
            some: dict.fromkeys(self._grown.lines(one))
            for some, one in traces.items()
            if one is not None
        }
        found: list[Line] = []
        for line in dict.fromkeys(line for some in lines.values() for line in some):
            there = {some: line in own for some, own in lines.items()}
            clauses = [self._when((), there)]
            pattern, sizes, dtype, conditions = line
            if conditions and " or " in clauses[0]:
                clauses = [f"({clauses[0]})"]
            found.append((pattern, sizes, dtype, (*conditions, *filter(None, clauses))))
        return found

    def _when(self, at: Together, there: Mapping[Together, bool]) -> str:
        """When a line is there, given that these switches are turned and it is so or isn't in the
        trace of them: "" for always, or what the nearest traces of more switches say."""
        turned = set(at)
        more = [some for some in there if turned < set(some) and there[some] != there[at]]
        nearest = [some for some in more if not any(set(one) < set(some) for one in more)]
        clauses: list[str] = []
        gone: dict[str, set[Leaf]] = {}
        for some in nearest:
            switches = [choice for choice in some if choice not in turned]
            rest = self._when(some, there)
            if not there[at]:
                every = [*map(self._is, switches), *(([_brackets(rest)]) if rest else [])]
                clauses.append(" and ".join(every))
            elif rest or len(switches) > 1:
                one = [*map(self._isn_t, switches), *([rest] if rest else [])]
                clauses.append(f"({' or '.join(one)})" if len(one) > 1 else one[0])
            else:
                gone.setdefault(switches[0][0], set()).add(switches[0][1])
        every_value: dict[str, set[Leaf]] = {}
        for some in there:
            for path, item in some if len(some) == 1 else ():
                every_value.setdefault(path, set()).add(item)
        for path, items in gone.items():
            if path in self._switches.zero:
                clauses.append(self._isn_t((path, next(iter(items)))))
            else:
                clauses += _isn_t(path, items, every_value[path], self._switches.own(path))
        if not there[at]:
            return " or ".join(dict.fromkeys(clauses))
        return " and ".join(clauses)

    def _is(self, choice: Choice) -> str:
        path, item = choice
        own = self._switches.own(path)
        return f"{path} != {own}" if path in self._switches.zero else _is(path, item, own)

    def _isn_t(self, choice: Choice) -> str:
        path, item = choice
        own = self._switches.own(path)
        if path in self._switches.zero:
            return f"{path} == {own}"
        if own is None and not isinstance(item, str):
            return f"{path} == None"
        if isinstance(item, bool):
            return f"not {path}" if item else path
        return f"{path} != {_constant(item)}"


def _is(path: str, item: Leaf, own: Leaf) -> str:
    if isinstance(item, bool):
        return path if item else f"not {path}"
    if own is None and not isinstance(item, str):
        return f"{path} != None"  # any number
    return f"{path} == {_constant(item)}"


def _isn_t(path: str, items: set[Leaf], every: set[Leaf], own: Leaf) -> Iterator[str]:
    """The condition for a line of the preset's own that these values of a leaf take away."""
    if isinstance(own, bool) and len(items) == 1:
        yield path if own else f"not {path}"
    elif own is None and not any(isinstance(item, str) for item in items):
        yield f"{path} == None"
    elif items == every and len(items) > 2:
        yield f"{path} == {_constant(own)}"
    else:
        for item in items:
            yield f"{path} != {_constant(item)}"


def _brackets(text: str) -> str:
    return f"({text})" if " or " in text and text[0] != "(" else text


def _constant(item: Leaf) -> str:
    return f"'{item}'" if isinstance(item, str) else repr(item)
