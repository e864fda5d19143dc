"""Write the completions of shells and the man page, all made of archfind's parser.

uv run python .ci/shell_files.py
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import shtab
from argparse_manpage.manpage import Manpage

from archfind.cli.parser import parser
from archfind.cli.shell import FILES

_PATHS = ("FILE", "OUT", "PLACE", "JSON")  # metavars of arguments that are paths
_PATH_OPTIONS = ("out", "folder", "signatures")


def _parsers(top: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield top
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()


def texts() -> dict[str, str]:
    """What each file has in it, by the name of the shell, or "man"."""
    top = parser()
    for one in _parsers(top):
        for action in one._actions:
            if action.metavar in _PATHS or action.dest in _PATH_OPTIONS:
                action.complete = shtab.FILE  # pyright: ignore
    data = {"date": "2026", "project_name": "archfind", "manual_title": "archfind"}
    made = {"man": str(Manpage(parser(), data))}
    made |= {shell: shtab.complete(top, shell) for shell in FILES if shell != "man"}
    return {name: text.rstrip() + "\n" for name, text in made.items()}


def main() -> None:
    from archfind.cli import shell

    for name, text in texts().items():
        path = Path(shell.__file__).with_name(FILES[name])
        path.write_text(text)
        print(f"{path}: {len(text):,} bytes")


if __name__ == "__main__":
    main()
