"""A registered network -> a family, from traces: one of the network itself, and one for every
switch turned. What differs between them says which lines stand under which condition.

What the program is wrong about is left out: the values of a switch that it doesn't hold for with
others.
"""

from __future__ import annotations

import itertools
import random
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from archfind.classes.program import Program
from archfind.learning.family import LearnedFamily, Preset
from archfind.learning.grown import Grown, program_gives
from archfind.learning.lines import Line
from archfind.learning.switches import Choice, Switches, Together, untraced
from archfind.learning.when import When
from archfind.probing.config import Config, Leaf, leaves_of_config, moved
from archfind.probing.probe import on_meta, shapes_of
from archfind.probing.proposals import COUNT
from archfind.probing.trace import Traced

_CHECKS = 8
_OPTIONS = 12
_CROSSED = 12  # numbers that are tried with each kind
_TOGETHER = 60  # pairs and triples of switches that are traced, of those that go wrong
_LAST = 0.3  # share of the time that is left to check what comes of them


def traced_family(
    base: Preset,
    cls: type[nn.Module],
    known: Mapping[str, list[Leaf]],
    others: Sequence[Preset],
    seconds: float,
) -> LearnedFamily | None:
    """The family around one preset with the others that its program explains; None where the
    class can't be traced, or the program doesn't give the preset itself."""
    end = time.process_time() + seconds
    grown = Grown(cls, base, end)
    if not grown.grow():
        return None
    switches = Switches(grown, known)
    beside: dict[Together, Traced | None] = {}  # None where the class refuses
    draw = random.Random(0)
    while True:
        lines = [_text(line) for line in When(grown, switches).lines(beside)]
        program = Program(lines)
        if not program_gives(program, base.values(), base.shapes) or not grown.lists_hold(program):
            beside = {}
            if grown.simplify():
                switches.find()
            elif switches.traces:
                switches.without(set(switches.traces))
            else:
                return None
            continue
        right, held, wrong, failed = _checked(grown, program, switches, draw)
        fresh = list(untraced(failed, switches.traces, beside))[: _TOGETHER - len(beside)]
        if fresh and time.process_time() < end - seconds * _LAST:
            beside |= {some: switches.traced(some) for some in fresh}
            continue
        if not wrong:
            break
        switches.without(wrong)
        beside = {some: one for some, one in beside.items() if not wrong.intersection(some)}
    options = _options(program, base.values(), switches, known)
    alike = [p for p in others if program_gives(program, p.values(), p.shapes)]
    return LearnedFamily(base.name, lines, options, [base, *alike], right, held)


def _text(line: Line) -> str:
    pattern, sizes, dtype, conditions = line
    kind = "" if dtype == "float" else f" {dtype}"
    when = f"  if {' and '.join(conditions)}" if conditions else ""
    return f"{pattern}  {' '.join(sizes) or '()'}{kind}{when}"


def _checked(
    grown: Grown, program: Program, switches: Switches, draw: random.Random
) -> tuple[int, int, set[Choice], list[Together]]:
    """How many drawn networks the program gives, of how many; the choices that it's wrong about,
    and those that were turned together where it was wrong."""
    values = grown.values
    choices = list(switches.traces)
    numbers = sorted(
        name
        for name in _names(program)
        if type(values.get(name)) in (int, float) and not name.endswith(".#")
    )
    right = held = 0
    blamed: dict[Choice, list[bool]] = {}
    failed: list[Together] = []
    wanted = _CHECKS + 2 * len(choices)
    drawn = (draw.sample(choices, min(len(choices), 1 + n % 3)) for n in range(wanted))
    for number, some in enumerate(itertools.chain(drawn, _crossed(switches))):
        if time.process_time() > grown.end and number >= _CHECKS:
            break
        turned = switches.moves(some)
        if turned is None:
            continue
        moves: dict[str, Any] = {**turned}
        for path in draw.sample(numbers, min(len(numbers), 2)):
            own: Any = values[path]
            moves.setdefault(path, own + 1 if own <= COUNT else own * draw.choice((2, 3)))
        try:
            config: Config = moved(grown.base.config, moves)
            drawn = leaves_of_config(config)  # before the class edits what it's given
            shapes = shapes_of(on_meta(grown.cls, config))
        except Exception:  # a library refuses values in its own ways
            continue
        if any(0 in shape for shape, _ in shapes.values()):
            continue
        good = program_gives(program, drawn, shapes)
        held += 1
        right += good
        for choice in some:
            blamed.setdefault(choice, []).append(good)
        if not good:
            failed.append(tuple(some))
    wrong = {choice for choice, marks in blamed.items() if not any(marks) and len(marks) > 1}
    if not wrong and blamed and right < held // 2:
        worst = min(blamed, key=lambda choice: sum(blamed[choice]) / len(blamed[choice]))
        wrong = {worst}
    return right, held, wrong, failed


_LEAF = re.compile(r"\{[^}]*\}")


def _names(program: Program) -> set[str]:
    """The leaves that a program reads; those of a repeat's items only by their list."""
    found: set[str] = set()
    for line in program.lines:
        bounds = [part.bound for part in line.parts if part.bound is not None]
        for expression in (*line.sizes, line.condition, *bounds):
            found |= set(expression.names if expression is not None else ())
    return {name for name in found if name[0] != "{"}


def _crossed(switches: Switches) -> Iterator[list[Choice]]:
    """Every kind with every number that switches: how often a layer is there may be said by both
    (to upscale by 4 in two steps), and few of the pairs are drawn."""
    kinds = [choice for choice in switches.traces if type(choice[1]) is str]
    numbers = [choice for choice in switches.traces if type(choice[1]) is int]
    yield from ([kind, number] for kind, number in itertools.product(kinds, numbers[:_CROSSED]))


def _options(
    program: Program,
    values: Mapping[str, Leaf],
    switches: Switches,
    known: Mapping[str, list[Leaf]],
) -> dict[str, list[Leaf]]:
    """For every leaf that the program reads, values beside the preset's."""
    found: dict[str, list[Leaf]] = {}
    named = _names(program)
    patterns = [
        re.compile(_LEAF.sub(r"\\d+", re.escape(n).replace(r"\{", "{").replace(r"\}", "}")))
        for n in named
        if "{" in n
    ]
    for path, value in values.items():
        if path not in named and not any(p.fullmatch(path) for p in patterns):
            continue
        own = switches.tried(path)
        more: Any = value
        if type(value) in (int, float) and (not own or type(value) is float):
            own = [*own, more + 1 if more <= COUNT else more * 2]
        elif type(value) is int:
            own = [*own, more + 1 if path.endswith(".#") else more * 2 or 1]
        own += [v for v in known.get(path, ()) if v not in own and v != value and own]
        if own:
            found[path] = own[:_OPTIONS]
    return found
