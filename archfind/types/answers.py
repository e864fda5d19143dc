"""Which network a state dict is of: Canonical -> Guess."""

from __future__ import annotations

from collections.abc import Mapping

from archfind.frozen import frozen
from archfind.types.files import NOTHING
from archfind.types.networks import (
    Assumed,
    Entry,
    Head,
    Mismatch,
    Pretrained,
    Record,
    Setting,
    TrustedClass,
    Twin,
    Variant,
    Verdict,
)
from archfind.types.shown import Shown
from archfind.types.sources import Source
from archfind.types.state_dicts import Canonical


@frozen
class Match:
    """How well one entry explains a canonical state dict. `missing` and `unexpected` are as torch
    words them; `tolerated` are derived buffers that one side lacks and that carry no training.
    `head` is there where everything but the head is the entry's own, `variant` where its class has
    other arguments, `pretrained` where it takes a config. `in_common`, of one that doesn't fit,
    counts its keys in the file whatever their shapes, and its shapes whatever their keys. `assumed`
    is what its outputs depend on without a trace: with such an item, no answer is exact. `resized`
    has the weights' shapes of layers, by their paths, that have other sizes than the entry's.
    `trusted` is there where the network is a class of a user's code, `written` where it's the
    module that archfind wrote for a network of no library, `record` where a signature of the user's
    own database names it."""

    entry: Entry
    config: Mapping[str, Setting]
    expected: int
    matched: int
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[Mismatch, ...] = ()
    tolerated: tuple[str, ...] = ()
    twins: tuple[Twin, ...] = ()
    reasons: tuple[str, ...] = ()
    head: Head | None = None
    variant: Variant | None = None
    pretrained: Pretrained | None = None
    in_common: tuple[int, int] = (0, 0)
    assumed: tuple[Assumed, ...] = ()
    resized: Mapping[str, tuple[int, ...]] = NOTHING
    trusted: TrustedClass | None = None
    written: Source | None = None
    record: Record | None = None

    @property
    def fits(self) -> bool:
        return not (self.missing or self.unexpected or self.mismatched)


@frozen
class Choice:
    """What the user decides: `choose` names a network among those that fit, `part` one of several
    in the file, `settings` tell what was assumed or override a config. `accept_ambiguous` takes the
    first of several networks that fit, `accept_assumed` what the outputs depend on as it is
    assumed. `code` is where a class of its own may be declared: a folder, a Python file, a wheel or
    the name of an installed package; it is read, and with `trust` imported. `accept_likely` takes
    the module that is written for a network of no library where its forward is likely.
    `signatures` is the folder of the user's own database, "" for the usual one."""

    choose: str = ""
    part: str = ""
    settings: Mapping[str, object] = NOTHING
    accept_ambiguous: bool = False
    accept_assumed: bool = False
    code: str = ""
    trust: bool = False
    accept_likely: bool = False
    signatures: str = ""


@frozen
class CodeClass:
    """A class of some Python code, and how much of a state dict it accounts for.

    `prefix` is the module of the file that the class is, "" for the whole. `known` of `tensors` are
    where the class has a layer of their shape; `open` more are in modules that the code alone
    doesn't say. `lacking` counts modules that the class has and the file hasn't. `arguments` are
    those of the constructor that sizes tell; `unsaid` those without a default that they don't.
    `share` is the part of the file's tensors that it accounts for, open ones in part, less what it
    lacks.
    """

    file: str
    line: int
    name: str
    prefix: str
    known: int
    open: int
    tensors: int
    lacking: int
    arguments: Mapping[str, object]
    unsaid: tuple[str, ...]
    share: float


@frozen
class Kind:
    """What a file is that holds tensors and no network: `name` is lora, textual-inversion,
    ip-adapter, t2i-adapter, controlnet, optimizer, zero-shard, fsdp-shard, averaged, gradients or
    object.
    `words` say it in one line, `details` what is known of it ({"rank": [8], "base": "..."}),
    `advice` what it's used with."""

    name: str
    words: str
    details: Mapping[str, object] = NOTHING
    advice: str = ""


@frozen
class Guess(Shown):
    """Which network a state dict is.

    `status` is exact (one function fits every key and shape), ambiguous (several do, and nothing
    chooses; or something that the outputs depend on was assumed), close (one fits but for the named
    tensors) or unknown. `chosen_by` says what made the first match stand out: only | prior | file |
    origin (whose names the keys are) | value | preset | user, and "" where nothing did. `parts` has
    a guess for each other network in the file, by name. `searched`: building classes with other
    arguments found nothing that fits, either. `kind` says what the file is where it's no network.
    `explained` has what each way of explaining the state dict said, in the order in which they are
    trusted: its name, the share that agreed, and the network, "" for none; the last one answered.
    `code` has the classes of a user's code that account for most of the tensors, the best first,
    where some was given. `weighed` has what was read from the values of the weights.
    """

    canonical: Canonical
    status: str
    matches: tuple[Match, ...]
    chosen_by: str = "only"
    part: str = ""
    parts: Mapping[str, Guess] = NOTHING
    warnings: tuple[str, ...] = ()
    searched: bool = False
    kind: Kind | None = None
    explained: tuple[tuple[str, float, str], ...] = ()
    code: tuple[CodeClass, ...] = ()
    weighed: tuple[Verdict, ...] = ()

    def __repr__(self) -> str:
        best = self.matches[0].entry.id if self.matches and self.status != "unknown" else ""
        said = self.kind.name if self.kind is not None else best
        path = self.canonical.checkpoint.path
        return f"<Guess {self.status}{f': {said}' if said else ''}, {path!r}>"

    @property
    def is_named(self) -> bool:
        """Whether one network stands out, whatever may be assumed about it."""
        return self.status == "exact" or self.is_assumed

    @property
    def is_assumed(self) -> bool:
        """Whether one network stands out, and the answer isn't exact for what was assumed alone."""
        return self.status == "ambiguous" and bool(self.chosen_by)

    @property
    def key_map(self) -> Mapping[str, str]:
        """The file's key -> the library's, where its names are others; empty where they aren't."""
        if not any(step.kind == "rename" for step in self.canonical.steps):
            return NOTHING
        return {at: key for key, at in self.canonical.origin.items()}
