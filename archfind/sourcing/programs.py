"""The program that a file holds beside its tensors, where it holds one."""

from __future__ import annotations

import re

from archfind.errors import CheckpointError
from archfind.formats import PROGRAMS
from archfind.sourcing.program import FileProgram, Unfollowed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.sourcing.tree import Listing
    from archfind.types import Canonical

_OF_TORCH = re.compile(
    r"(torch\.nn\.modules\.[a-z]+\.\w+|torch\._utils\._rebuild_\w+|torch\.\w+Storage|"
    r"torch\.storage\.\w+|collections\.OrderedDict|(__builtin__|builtins)\.set|torch\._C\._nn\.\w+)\Z"
)


def program_of(canonical: Canonical, listing: Listing) -> FileProgram | None:
    """The operations of a TorchScript or torch.export file, or of a whole pickle that has the
    source of its classes; None for any other file, and where they aren't all known."""
    checkpoint = canonical.checkpoint
    if checkpoint.sources and listing and checkpoint.format not in PROGRAMS:
        return _embedded(canonical, listing)
    if checkpoint.format not in ("torchscript", "torch-export"):
        return None
    from archfind.formats.torch_files.program_texts import exported_graph, script_code

    try:
        if checkpoint.format == "torch-export":
            from archfind.sourcing.graph import graph_program

            return graph_program(exported_graph(checkpoint.path))
        from archfind.sourcing.script import script_program

        return script_program(script_code(checkpoint.path), checkpoint.objects.get("", ""))
    except (Unfollowed, CheckpointError):
        return None


def _embedded(canonical: Canonical, listing: Listing) -> FileProgram | None:
    from archfind.evidence.listed import root_class
    from archfind.sourcing.embedded import embedded_program

    checkpoint = canonical.checkpoint
    first = next(iter(canonical.origin.values()), "")
    place = first.rpartition("/")[0]
    start = f"{place}@"
    told = {
        key.removeprefix(start): value
        for key, value in checkpoint.metadata.items()
        if key.startswith(start)
    }
    root = root_class(canonical)
    own = {root, *(cls for cls, _ in listing.values())}
    # Something else that the pickle names might be a hook.
    if any(name not in own and not _OF_TORCH.match(name) for name in checkpoint.foreign):
        return None
    try:
        return embedded_program(checkpoint.sources, root, listing, canonical.index, told)
    except Unfollowed:
        return None
