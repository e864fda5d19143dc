"""A constructor's arguments: the code's defaults, and values to start with for those that have
none."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any

from torch import nn

from archfind.probing.config import Config, copied_leaves, with_inherited
from archfind.probing.probe import Shapes, on_meta
from archfind.probing.proposals import literals

_TRIES = 240  # calls until a class takes some arguments
_SECONDS = 5.0  # of one such call
_CHOICES = (9, 7, 5, 4, 3)  # values of an argument that are tried, where there are 1, 2 ... of them
_USUAL = (8, 4, 16, 64, 2, 1, 3, 32, 12)
_LENGTHS = (3, 4, 2, 5, 1)
_SIZES = 8  # of the file's, the commonest, that an argument may be
_WORDS = 200  # characters of a refusal
_LISTS = "Sequence", "list", "List", "tuple", "Tuple", "Iterable"


class Unsolved(Exception):
    """No values are known for these arguments, with which the class could be called."""


def default_arguments(cls: type[nn.Module]) -> tuple[Config, dict[str, inspect.Parameter]]:
    """The constructor's arguments with the code's defaults, and those without one."""
    config: Config = {}
    required: dict[str, inspect.Parameter] = {}
    for parameter in list(_signature(cls).parameters.values())[1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.default is parameter.empty:
            required[parameter.name] = parameter
        else:
            config[parameter.name] = copied_leaves(parameter.default)
    return config, required


def _inherited(cls: type[nn.Module]) -> dict[str, inspect.Parameter]:
    """What parents want that get all that is left over, **kwargs, and have no default for."""
    found: dict[str, inspect.Parameter] = {}
    for one in [one for one in cls.__mro__ if "__init__" in vars(one) and one is not nn.Module]:
        parameters = list(_signature(one).parameters.values())[1:]
        plain = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        found |= {p.name: p for p in plain if p.default is p.empty}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return found


def _signature(cls: type) -> inspect.Signature:
    try:  # annotations that are kept as text are evaluated, where they can be
        return inspect.signature(cls.__init__, eval_str=True)
    except Exception:  # names that are there for type checkers alone
        return inspect.signature(cls.__init__)


def started(cls: type[nn.Module], told: Mapping[str, object], target: Shapes, end: float) -> Config:
    """Arguments with which the class can be called: `told` ones first, the code's defaults, and
    values of the likeliest kind for the others. Unsolved names those for which none are known."""
    own, required = default_arguments(cls)
    optional = {k: _alike(v, own[k]) for k, v in told.items() if k in own}
    inherited = _inherited(cls)
    last: Unsolved | None = None
    for wanted in [inherited, required] if inherited.keys() - required.keys() else [required]:
        try:
            return _called(cls, own, optional, _choices(cls, wanted, told, target), end)
        except Unsolved as error:
            last = error
    assert last is not None
    raise last


def _choices(
    cls: type[nn.Module],
    required: Mapping[str, inspect.Parameter],
    told: Mapping[str, object],
    target: Shapes,
) -> dict[str, list[Any]]:
    """Values to try for each argument without a default."""
    hints = literals(cls)
    counts = Counter(size for shape, _ in target.values() for size in shape)
    sizes = [size for size, _ in counts.most_common(_SIZES)]
    choices: dict[str, list[Any]] = {}
    for name, parameter in required.items():
        some = guesses(parameter, hints.get(name, ()), sizes)
        choices[name] = [told[name], *some] if name in told else some
    unknown = [name for name, some in choices.items() if not some]
    if unknown:
        raise Unsolved(f"no value is known for {', '.join(unknown)}")
    return choices


def _called(
    cls: type[nn.Module], own: Config, told: Config, choices: dict[str, list[Any]], end: float
) -> Config:
    """The first values with which the class can be called."""
    last: Exception | None = None
    most = _CHOICES[min(len(choices), len(_CHOICES)) - 1] if choices else 1
    for number, values in enumerate(_products([some[:most] for some in choices.values()])):
        given = dict(zip(choices, values, strict=True))
        for more in (told, {}) if told else ({},):
            config = {**own, **more, **given}
            try:
                on_meta(cls, copied_leaves(config), _SECONDS)
            except Exception as error:  # code refuses values in its own ways
                last = error
                continue
            with contextlib.suppress(Exception):
                return with_inherited(cls, config)
            return config
        if number > _TRIES or time.monotonic() > end:
            break
    why = f"{type(last).__name__}: {' '.join(str(last).split())[:_WORDS]}"
    names = f" for {', '.join(choices)}" if choices else ""
    raise Unsolved(f"no values{names} were taken; the last refusal was {why}")


def _products(choices: Sequence[Sequence[Any]]) -> Iterator[tuple[Any, ...]]:
    """One value of each, the first of all first, then what departs least from that."""
    places = itertools.product(*(range(len(some)) for some in choices))
    few = itertools.islice(places, 60_000)
    for at in sorted(few, key=lambda at: (sum(at), max(at, default=0))):
        yield tuple(some[n] for some, n in zip(choices, at, strict=True))


def _alike(value: object, default: object) -> object:
    """A told list as the tuple that the default is."""
    return tuple(value) if isinstance(default, tuple) and isinstance(value, list) else value


def guesses(
    parameter: inspect.Parameter, hints: Iterable[object], sizes: Iterable[int]
) -> list[Any]:
    """Values to call with for an argument without a default, by its annotation, its name and the
    constants that the code compares it with; none where it may be anything."""
    kind, name = parameter.annotation, parameter.name
    if isinstance(kind, type) and is_dataclass(kind):
        try:
            return [kind()]
        except Exception:  # it has fields without a default
            return []
    text = getattr(kind, "__name__", "") if isinstance(kind, type) else str(kind)
    is_bare = kind is parameter.empty
    words = [hint for hint in hints if isinstance(hint, str)]
    numbers = [hint for hint in hints if type(hint) is int]
    lists: list[Any] = []
    if any(word in text for word in _LISTS) or (is_bare and name.endswith("s") and not numbers):
        lists = [[size] * length for length in _LENGTHS for size in (8, 2)]
    if "bool" in text:
        return [False, True]
    if "str" in text or (is_bare and words):
        return [*words, *numbers] or (["relu", "batch"] if "str" in text else [])
    if "float" in text and "int" not in text:
        return [0.1, 0.5, 1.0]
    if "int" in text or is_bare:
        if is_bare and ("drop" in name or "prob" in name or "rate" in name):
            return [0.1, 2, 1]
        scalars = [2, 3, 1] if "dim" in name.split("_") and "spatial" in name else []
        found = list(dict.fromkeys([*scalars, *numbers, *_USUAL, *sizes]))
        return [*found[:4], *lists[:3], *found[4:], *lists[3:]] if lists else found
    return lists
