"""The program that a file holds beside its tensors, where it holds one."""

from __future__ import annotations

from archfind.errors import CheckpointError
from archfind.sourcing.program import Program, Unfollowed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.types import Checkpoint


def program_of(checkpoint: Checkpoint) -> Program | None:
    """The operations of a TorchScript or torch.export file; None for any other file, and where they
    aren't all known."""
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
