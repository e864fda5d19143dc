"""Canonical -> Source: the module that is written for a state dict."""

from __future__ import annotations

import os

from archfind.escape import escape
from archfind.sourcing.explained import CERTAIN, LIKELY, PARTIAL, explained
from archfind.sourcing.flat import flat_text
from archfind.sourcing.flow import Flow
from archfind.sourcing.from_program import followed
from archfind.sourcing.notes import about_lines, note_lines
from archfind.sourcing.parts import ModulePart
from archfind.sourcing.text import source_text
from archfind.sourcing.values import Value
from archfind.sourcing.words import network_words
from archfind.types import NOTHING, Canonical, Source, Unseen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def written(
    canonical: Canonical,
    settings: Mapping[str, object] = NOTHING,
    *,
    judged: Callable[[Unseen], Unseen] | None = None,
    is_proven: bool = False,
) -> Source:
    """The module for a state dict, with the settings of a user. BuildError where a setting is for
    nothing that is assumed. `judged` gives what is known of a place where the settings were
    searched for; the module is certain then where it `is_proven`, and else likely."""
    name = escape(os.path.basename(canonical.checkpoint.path))
    network = followed(canonical, settings) or explained(canonical, settings)
    words = network_words(network, canonical.index)
    if network is None:
        index = canonical.index
        text = flat_text(index, "The tensors of a checkpoint, written by archfind: partial.")
        question = "its names are no modules of a network"
        return Source(text, PARTIAL, words, canonical, "", (), (question,))
    top, flow, grade, prefix = network.top, network.flow, network.grade, network.prefix
    questions = tuple(_questions(top)) if grade == PARTIAL else ()
    if grade == PARTIAL:
        _settle_rest(top, flow)
    unseen = tuple(flow.asked.unseen.values())
    if judged is not None and grade != PARTIAL:
        unseen = tuple(map(judged, unseen))
        grade = CERTAIN if is_proven else LIKELY
    about = about_lines(name, words, grade, canonical, prefix)
    text = source_text(top, flow.symbols, about, note_lines(grade, unseen, questions))
    return Source(text, grade, words, canonical, prefix, unseen, questions)


def _questions(top: ModulePart) -> list[str]:
    """What is open: the blocks whose forward no pattern explains."""
    held: list[str] = []
    for part in top.walk():
        if part.is_block and part.forward is None:
            where = escape(part.path[:80]) or "the network"
            names = ", ".join(escape(name[:40]) for name in list(part.children)[:8])
            held.append(f"in which order {where} calls {names or 'its tensors'}")
    return held[:12]


def _settle_rest(top: ModulePart, flow: Flow) -> None:
    """Forwards for the blocks below what no pattern explains, each by itself."""
    waiting = [top]
    while waiting:
        part = waiting.pop()
        is_open = part is not top and part.forward is None and bool(part.children)
        if is_open and flow.explain(part, Value("input"), False) is not None:
            continue
        waiting += [child for child in part.children.values() if child.children]
    for part in top.walk():
        if part.kind == "Sequential" and not part.stated and not part.extras:
            names = list(part.children)
            if names == [str(n) for n in range(len(names))]:
                part.kind = "ModuleList"
