"""What is said of a user's code: the classes that account for a state dict's tensors."""

from __future__ import annotations

from archfind.escape import escape, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from archfind.types import CodeClass, Match

_SHOWN = 3  # classes, and more that are as good as the first


def code_document(found: CodeClass) -> dict[str, object]:
    """A class of the user's code."""
    return {
        "file": found.file,
        "line": found.line,
        "class": found.name,
        "prefix": found.prefix,
        "known": found.known,
        "open": found.open,
        "lacking": found.lacking,
        "share": round(found.share, 4),
        "arguments": dict(found.arguments),
        "unsaid": list(found.unsaid),
    }


def code_lines(document: dict[str, Any]) -> list[str]:
    """A line for each of the best classes: where it stands, with the arguments that sizes tell."""
    found = document["code"]
    lines: list[str] = []
    for number, one in enumerate(found):
        if number >= _SHOWN and one["share"] < found[0]["share"]:
            break
        told = [f"{name}={value}" for name, value in one["arguments"].items()]
        told += [f"{name}=?" for name in one["unsaid"]]
        call = f"{one['class']}({', '.join(told)})"
        counts = f"{one['known']} of {document['tensors']} tensors"
        counts += f", {one['open']} more are open" if one["open"] else ""
        counts += f", {one['lacking']} modules aren't in the file" if one["lacking"] else ""
        place = f", below {one['prefix']}" if one["prefix"] else ""
        where = f"{one['file']}:{one['line']} {call}"
        lines.append(f"code      {escape(where)}: {counts}{escape(place)}")
    return lines


def trusted_document(found: Match | None) -> dict[str, object] | None:
    """The class of trusted code that a network is of: where it stands, and what is imported."""
    one = found.trusted if found is not None else None
    if one is None:
        return None
    return {"place": one.place, "file": one.file, "module": one.module, "class": one.name}


def trusted_words(document: dict[str, Any]) -> str:
    """What a command needs to build a class of trusted code; "" for a library's network."""
    one = document.get("trusted")
    if one and document.get("record"):
        return " --trust" * (not one["file"])  # of a class that was learnt here it isn't asked
    return f" --code {quoted(one['place'])} --trust" if one else ""
