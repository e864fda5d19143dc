"""What a file says of its own network, as JSON and as lines of text."""

from __future__ import annotations

from archfind.escape import escape, quoted
from archfind.evidence.said import said

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from archfind.types import Guess

_LONG = 160  # characters of a sentence


def said_document(guess: Guess) -> dict[str, object]:
    """`said` of every answer: the sentence, and what it's made of, null where the file says
    nothing; and `origin`, whose code writes such keys, null where it's the library's, or unknown.
    """
    is_open = guess.status != "exact" and guess.kind is None
    code = None
    if is_open:
        # late: whose names they are is no question of a known network
        from archfind.evidence.origins import origin_of_keys

        code = origin_of_keys(guess.canonical.checkpoint.index)
    return {"origin": code.name if code is not None else None, **_said(guess)}


def _said(guess: Guess) -> dict[str, object]:
    steps = guess.canonical.steps
    place = "/".join(step.detail for step in steps if step.kind == "unwrap")
    found = said(guess.canonical.checkpoint, place)
    if not (found.sentence or found.sources or found.program):
        return {"said": None}
    return {
        "said": {
            "sentence": found.sentence or None,
            "names": dict(found.names),
            "class": found.cls or None,
            "sources": list(found.sources),
            "program": found.program,
        }
    }


def said_lines(document: dict[str, Any], path: str) -> list[str]:
    """The sentence; that there is source to read, or a program to run, where no library's network
    is certain."""
    own, code = document["said"], document["origin"]
    lines = [f"names     are {code}"] if code else []
    if own is None:
        return lines
    if own["sentence"] and not said_first(document):
        places = ", ".join(escape(place, 40) for place in list(own["names"])[:3])
        lines.append(f"says      {escape(own['sentence'], _LONG)}" + f" ({places})" * bool(places))
    if own["sources"] and document["status"] != "exact":
        shown = ", ".join(escape(name, 60) for name in own["sources"][:3])
        lines.append(f"source    of {shown} is in the file:  archfind inspect {quoted(path)}")
    if own["program"] and document["status"] != "exact":
        text = "a program, which runs only where you trust it:"
        lines.append(f"holds     {text}  archfind export {quoted(path)} out.onnx --trust")
    return lines


def said_first(document: dict[str, Any]) -> str:
    """What follows `unknown` in the first line."""
    own = document["said"] if document["status"] == "unknown" else None
    sentence = own["sentence"] if own and document["kind"] == "network" else None
    return f"; the file says: {escape(sentence, _LONG)}" if sentence else ""
