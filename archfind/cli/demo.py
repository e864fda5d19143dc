"""`archfind demo`: the whole way on a small trained checkpoint."""

from __future__ import annotations

from archfind.cli import export
from archfind.cli.parser import parse_arguments
from archfind.cli.printing import print_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def run(arguments: argparse.Namespace) -> int:
    """Go the whole way on a checkpoint of archfind's; the return value is the exit code."""
    from archfind.demo import write_checkpoint

    path, out = write_checkpoint(arguments.folder)
    print_lines([f"$ archfind export {path} {out}"])
    return export.run(parse_arguments(["export", path, out, "--force"]))
