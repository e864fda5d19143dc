"""Answers on a terminal: what stands out in colour, lines as wide as it is.

Colour is never alone in what it means: without it every line says the same. Lines are whole here,
which foreign text can't break out of; only this module adds escape sequences.
"""

from __future__ import annotations

from shutil import get_terminal_size
from textwrap import wrap

_BOLD, _DIM, _RED, _GREEN, _YELLOW, _CYAN = "1", "2", "31", "32", "33", "36"
_OF_STATUS = {"exact": _GREEN, "ambiguous": _YELLOW, "close": _YELLOW, "unknown": _RED}
# The words that lines begin with, and their colours; all others are dim labels.
_OF_LABEL = {
    "assumed": _YELLOW,
    "warning": _YELLOW,
    "fallback": _YELLOW,
    "unchecked": _RED,
    "missing": _RED,
    "unexpected": _RED,
    "mismatched": _RED,
    "problem": _RED,
}
_COLUMN = 12  # where what a line says begins, behind its label
_NARROWEST = 40


def styled(lines: list[str], status: str = "") -> list[str]:
    """Lines of an answer as a terminal shows them: the first is `path: answer`."""
    width = max(get_terminal_size().columns, _NARROWEST)
    colour = _OF_STATUS.get(status, "")
    found: list[str] = []
    for number, line in enumerate(lines):
        if number == 0 and not line.startswith(" "):
            found.append(_first(line, colour))
        else:
            found += _rest(line, width)
    return found


def alarming(word: str) -> str:
    """A word that nobody may overlook."""
    return _painted(word, f"{_BOLD};{_RED}")


def _painted(text: str, codes: str) -> str:
    return f"\x1b[{codes}m{text}\x1b[0m" if codes and text else text


def _first(line: str, colour: str) -> str:
    """The path plain, for it is pasted; the answer bold, and of its status's colour."""
    path, colon, answer = line.partition(": ")
    bold = f"{_BOLD};{colour}" if colour else _BOLD
    return f"{path}{colon}{_painted(answer, bold)}" if colon else _painted(line, bold)


def _rest(line: str, width: int) -> list[str]:
    """A line below the answer, wrapped below what it says. Commands stay whole: a terminal breaks
    them itself, and they can still be pasted."""
    words = line.strip()
    said, marks, command = line.partition(":  archfind ")
    if marks:
        return [f"{said}:  {_painted(f'archfind {command}', _CYAN)}"]
    label, _, _ = words.partition(" ")
    if not line.startswith("  ") or line[2:3] == " " or label not in line[:_COLUMN]:
        return _wrapped(line, "", width)
    codes = _OF_LABEL.get(label, _DIM)
    first, *others = _wrapped(line, " " * _COLUMN, width)
    at = first.find(label)
    loud = label in ("assumed", "warning", "unchecked", "problem")
    if loud:
        painted = _painted(first[at:], codes)
        return [first[:at] + painted, *(_painted(other, codes) for other in others)]
    return [first[:at] + _painted(label, codes) + first[at + len(label) :], *others]


def _wrapped(line: str, indent: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    start = line[: len(line) - len(line.lstrip())]
    # Runs of spaces are columns, and stay; words are never broken, for they are names.
    return wrap(
        line.lstrip(),
        width,
        initial_indent=start,
        subsequent_indent=indent or start,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )
