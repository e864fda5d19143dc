"""The parser of the command line: every command with its arguments and its help.

Each command is a function here, which adds the arguments, and a module beside this one, whose `run`
does the work.
"""

from __future__ import annotations

import argparse
import sys

from archfind.cli.exit_codes import epilog
from archfind.cli.options import (
    add_choice,
    add_code,
    add_danger,
    add_expansion,
    add_export,
    add_output,
    add_settings,
    add_signatures,
)
from archfind.cli.printing import print_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn


class _Help(argparse.HelpFormatter):
    """Of a fixed width: asking for the terminal's imports shutil, at every start, for help that is
    rarely shown."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=100)


class _Parser(argparse.ArgumentParser):
    """Its errors quote arguments, and those can be names of files."""

    def error(self, message: str) -> NoReturn:
        from archfind.escape import escape

        super().error(escape(message))

    def _print_message(self, message: str, file: Any = None) -> None:
        print_text(file or sys.stderr, message)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments of one command; `command` names the module that runs it."""
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:1] == ["convert"]:  # what other programs call it
        words[0] = "export"
    return parser(words[0] if words and words[0] in COMMANDS else "").parse_args(words)


def parser(only: str = "") -> argparse.ArgumentParser:
    """Every command with its help; or one alone, where it is known which is asked for: making all
    of them takes longer than naming a network."""
    from archfind.version import VERSION

    top = _Parser(
        prog="archfind",
        formatter_class=_Help,
        description="Name the network of a bare checkpoint, build it, load it strictly, export it.",
        epilog=epilog(),
    )
    top.add_argument("--version", action="version", version=f"archfind {VERSION}")
    # With `prog` given, argparse needn't format a usage line, for which it would import shutil.
    commands = top.add_subparsers(metavar="COMMAND", required=True, prog="archfind")
    for name, (help, add) in COMMANDS.items():
        if only in ("", name):
            one = commands.add_parser(name, help=help, description=help, formatter_class=_Help)
            add(one)
            one.set_defaults(command=name)
    return top


def _guess(one: argparse.ArgumentParser) -> None:
    one.add_argument("files", nargs="+", metavar="FILE")
    add_output(one)
    add_choice(one)
    add_settings(one)
    one.add_argument(
        "--search", action="store_true", help="where nothing fits, build classes until one does"
    )
    one.add_argument(
        "--code",
        default="",
        metavar="PLACE",
        help="find its class in a folder, Python file, wheel or package, which is read, not run",
    )
    one.add_argument(
        "--trust",
        action="store_true",
        help="import that code, in a process apart, to prove a class",
    )
    one.add_argument(
        "--format",
        choices=("text", "json", "jsonl", "csv", "table"),
        default="text",
        help="json: one array; jsonl: as --json; csv: the columns of scan; table: for people",
    )
    one.add_argument("-q", "--quiet", action="store_true", help="the first line only")
    one.add_argument("-v", "--verbose", action="store_true", help="what was tried, and the counts")
    add_signatures(one)
    add_danger(one)


def _scan(one: argparse.ArgumentParser) -> None:
    one.add_argument("places", nargs="+", metavar="PLACE", help="files, and folders with all below")
    one.add_argument("-o", "--out", default="", help="a table: .jsonl, .csv, .parquet or .html")
    one.add_argument("--force", action="store_true", help="replace OUT if it exists")
    one.add_argument("--hash", action="store_true", help="read all bytes, to tell copies")
    one.add_argument("--jobs", type=int, default=0, metavar="N", help="processes (one a core)")
    one.add_argument("--no-cache", action="store_true", help="read files again that were known")
    add_signatures(one)
    add_danger(one)


def _inspect(one: argparse.ArgumentParser) -> None:
    one.add_argument("files", nargs="+", metavar="FILE")
    add_output(one)
    add_danger(one)


def _export(one: argparse.ArgumentParser) -> None:
    one.add_argument("file", metavar="FILE")
    one.add_argument("out", metavar="OUT")
    add_output(one)
    add_choice(one)
    add_export(one)
    add_signatures(one)


def _source(one: argparse.ArgumentParser) -> None:
    one.add_argument("file", metavar="FILE")
    one.add_argument("-o", "--out", default="", help="write it there (model.py); else it is shown")
    one.add_argument("--part", default="", help="one of several networks in the file")
    one.add_argument(
        "--input", default="", metavar="NPY", help="what the network read, with --output: search"
    )
    one.add_argument("--output", default="", metavar="NPY", help="what it gave for --input")
    one.add_argument("--onnx", default="", metavar="FILE", help="an .onnx of the same network")
    one.add_argument(
        "--images", default="", metavar="DIR", help="pictures, one folder for each label: search"
    )
    one.add_argument("--force", action="store_true", help="replace OUT if it exists")
    add_output(one)
    add_settings(one)


def _repair(one: argparse.ArgumentParser) -> None:
    one.add_argument("file", metavar="FILE")
    one.add_argument("-o", "--out", default="", help="write the fixed copy (.safetensors, .pth)")
    one.add_argument("--allow-fill", action="store_true", help="invent weights that are missing")
    add_expansion(one)
    one.add_argument("--plan", default="", metavar="JSON", help="do the edits of this plan instead")
    one.add_argument("--base", default="", metavar="FILE", help="what an adapter is merged into")
    one.add_argument("--force", action="store_true", help="replace OUT if it exists")
    add_code(one)
    one.add_argument("--trust", action="store_true", help="import that code")
    add_output(one)
    add_choice(one)
    add_signatures(one)


def _signatures(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "action",
        choices=("list", "show", "learn", "add", "build", "families", "check", "compile"),
        help="list the entries, or those with each NAME in theirs; show the tensors of one; learn "
        "a network of your own; add a folder of others' signatures to yours; build a provider's "
        "entries anew; learn the families of classes; check a sample against the libraries; "
        "compile the index",
    )
    one.add_argument(
        "names", nargs="*", metavar="NAME", help="an entry, a provider, a folder, or a word"
    )
    one.add_argument("--from", dest="file", default="", metavar="FILE", help="learn: its tensors")
    one.add_argument("--name", default="", metavar="NAME", help="learn: what to call it, team/net")
    one.add_argument("--part", default="", help="learn: one of several networks in FILE")
    one.add_argument(
        "--args", default="", metavar="VALUES", help="learn: what a class is called with"
    )
    one.add_argument("--force", action="store_true", help="learn, add: replace what has its name")
    add_signatures(one)
    one.add_argument("--sample", type=int, default=30, metavar="N", help="check: how many (0: all)")
    one.add_argument("--seed", type=int, default=0, help="check: which sample")
    one.add_argument(
        "--only", default="", metavar="WORD", help="families: classes with it; build: types"
    )
    one.add_argument("--again", action="store_true", help="learn anew, keep the best")


def _demo(one: argparse.ArgumentParser) -> None:
    one.add_argument("--folder", default="archfind-demo", help="where to write (archfind-demo)")


def _completion(one: argparse.ArgumentParser) -> None:
    one.add_argument("shell", choices=("bash", "zsh", "tcsh", "man"), help="man: the man page")


def _schema(_: argparse.ArgumentParser) -> None:
    """Takes no arguments."""


def _report(one: argparse.ArgumentParser) -> None:
    one.add_argument("file", metavar="FILE")
    one.add_argument("-o", "--out", required=True, help="the page: page.html")
    one.add_argument("--force", action="store_true", help="replace OUT if it exists")
    add_choice(one)


COMMANDS = {
    "guess": ("which network is this", _guess),
    "scan": ("many files: a table of what each is, and what they have in common", _scan),
    "inspect": ("what is in the file, whatever network it is", _inspect),
    "export": ("write .onnx (loaded strictly), .safetensors or .pth (copied)", _export),
    "source": ("a readable nn.Module for a network that no library has", _source),
    "repair": ("what keeps it from loading strictly, and a fixed copy", _repair),
    "signatures": ("the database: list, show, learn, add, and how it is made", _signatures),
    "demo": ("the whole way on a small trained checkpoint", _demo),
    "completion": ("what a shell completes archfind's arguments by", _completion),
    "schema": ("the JSON Schema of what commands print with --json", _schema),
    "report": ("one page about a file: the answer, its evidence, the module tree", _report),
}
