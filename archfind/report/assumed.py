"""What an answer assumes, as lines of text."""

from __future__ import annotations

from archfind.escape import escape, quoted, shell_word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from archfind.types import Guess

_SHOWN = 12  # assumptions
_ALSO = 4  # alternatives of one


def assumed_lines(document: dict[str, Any]) -> list[str]:
    """A line for each: what it is, what else would fit, and how to tell it."""
    items = document["assumed"]
    lines = [f"assumed   {_line(item)}" for item in items[:_SHOWN]]
    if len(items) > _SHOWN:
        lines.append(f"assumed   and {len(items) - _SHOWN} more; --json lists them all")
    return lines


def _line(item: dict[str, Any]) -> str:
    others = [str(value) for value in item["alternatives"]]
    said = f"{escape(item['what'])}: {escape(str(item['value']))}"
    example = others[0] if others else str(item["value"]).replace(" ", "")
    fits = ", ".join(others[:_ALSO]) + (" ..." if len(others) > _ALSO else "")
    also = f"{fits} would fit as well; " if others else ""
    told = shell_word(f"{item['place']}={example}")
    return f"{said:<42} {also}--set {told}"


def quantisation_document(guess: Guess) -> dict[str, object]:
    """What torch's own quantisation did to the network; null where it did nothing."""
    made = guess.canonical.quantisation
    if made is None:
        return {"quantisation": None}
    layers = {"layers": list(made.layers), "folded": [list(pair) for pair in made.folded]}
    return {"quantisation": {"kind": made.kind, "style": made.style, **layers}}


def sizes_words(document: dict[str, Any]) -> str:
    """Which layers get the file's sizes once the network is built; "" for none."""
    layers = [escape(path) for path in document["resized"]]
    shown = ", ".join(layers[:_ALSO]) + (" ..." if len(layers) > _ALSO else "")
    return f", then the file's sizes for {shown} ({len(layers)} layers)" if layers else ""


def assumed_choice(path: str) -> str:
    """How to go on with what is assumed."""
    return f"Take it so:  archfind export {quoted(path)} out.onnx --accept-ambiguous"
