"""Values of options that are more than a word: settings, sizes, code that must be trusted."""

from __future__ import annotations

from archfind.errors import BuildError, CodeError, ExportError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def settings_of(pairs: list[str]) -> dict[str, object]:
    """The settings that PLACE=VALUE say, their values read as Python's literals where they are.
    BuildError for anything else."""
    found: dict[str, object] = {}
    if not pairs:
        return found
    import ast  # late: it takes as long as a file's keys

    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name or name != "".join(name.split()):
            raise BuildError(f"--set wants PLACE=VALUE, not {pair!r}")
        try:
            found[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            found[name] = text  # no literal, or one that Python can't make: a word
    return found


def size_of(text: str) -> int:
    """Bytes of "5GB" or "700MB", as the hub's libraries count them: in thousands."""
    number, unit = text.rstrip("bB"), 1
    for letter, factor in (("k", 10**3), ("m", 10**6), ("g", 10**9), ("t", 10**12)):
        if number[-1:].lower() == letter:
            number, unit = number[:-1], factor
    try:
        size = float(number) * unit if number else 0
    except ValueError:
        size = -1
    if not (1 <= size < 2**63 or not text):
        raise ExportError(f"--max-shard-size wants a size like 5GB, not {text!r}")
    return int(size)


def refuse_untrusted(arguments: argparse.Namespace) -> None:
    """Code that a network is to be built of runs, which only --trust allows."""
    if arguments.code and not arguments.trust:
        text = "building a class of --code runs that code; add --trust if you trust it"
        raise CodeError(text, arguments.code)
