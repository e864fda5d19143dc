"""What a row of `zoo_networks` says: a call, its arguments, and inputs. Importing it imports no
library."""

from __future__ import annotations

from dataclasses import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Input:
    """One input of a network: its name, its size without the batch, and what is in it.

    `kind` is "image" (smooth), "wave" (a quiet waveform), "noise" (normal), "positive" (0..1),
    "whole" (numbers below `value`), "lengths" (`value`, once for each of the batch),
    "dictionaries" (a list of one: an image below its name, and its height and width below
    "original_size") or "value" (`value` itself, no tensor).
    """

    name: str
    size: tuple[int, ...]
    kind: str
    value: object = None


@dataclass(frozen=True)
class ZooNetwork:
    """A dotted path that is called, with what, and the inputs of what it gives; `fields` are the
    keywords that the harvest moves, with their defaults."""

    call: str
    inputs: tuple[Input, ...]
    args: tuple[object, ...] = ()
    kwargs: Mapping[str, object] = field(default_factory=dict)
    fields: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Package:
    """A package: the module that is imported, the distribution that pip installs, its networks.

    `unopened` lists packages whose own files aren't run, as they import what fetches, reads and
    draws; `install` is what pip is told where that isn't the distribution's name alone.
    """

    module: str
    distribution: str
    networks: Mapping[str, ZooNetwork]
    unopened: tuple[str, ...] = ()
    install: str = ""
