"""Canonical -> Explained, from the program that a file holds beside its tensors. Apart from
`explained`, which `archfind guess` imports: it has no time for this."""

from __future__ import annotations

from archfind.evidence.listed import listing
from archfind.formats import PROGRAMS
from archfind.sourcing.explained import CERTAIN, LIKELY, Explained
from archfind.sourcing.flow import Flow
from archfind.sourcing.followed import follow, weights
from archfind.sourcing.patterns import PATTERNS
from archfind.sourcing.program import Unfollowed
from archfind.sourcing.programs import program_of
from archfind.sourcing.stated import stated_arguments
from archfind.sourcing.tree import is_writable, module_tree
from archfind.sourcing.unseen import Asked
from archfind.sourcing.values import settled_layers
from archfind.types import NOTHING, Canonical

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def followed(canonical: Canonical, settings: Mapping[str, object] = NOTHING) -> Explained | None:
    """The modules with the forwards of the program that the file holds beside its tensors; None
    where it holds none that is known. BuildError for any setting, since nothing is assumed."""
    index = dict(canonical.index)
    listed = listing(canonical)
    program = program_of(canonical, listed)
    if program is None or not is_writable(index) or not weights(program) <= set(index):
        return None
    is_whole = canonical.checkpoint.format not in PROGRAMS
    top = module_tree(index, listed if is_whole else {})
    flow = Flow(Asked(settings), True, PATTERNS)
    if is_whole:
        stated_arguments(top, flow.asked)
        settled_layers(top, flow.asked)
        flow.asked.value("names", "torch, nn, F", "a class's source in a pickle has no imports")
    try:
        follow(top, program)
    except Unfollowed:
        return None
    flow.asked.refuse_idle(canonical.checkpoint.path)
    return Explained(top, flow, None, LIKELY if is_whole else CERTAIN, "")
