"""What is said of a file that no network fits: what it is if it's no network, else what kind of
network, and those that it resembles."""

from __future__ import annotations

from archfind.escape import escape, quoted
from archfind.report.counted import about, count_words
from archfind.report.parts import part_choice, part_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from archfind.types import Guess

_EXPLAINED = 250  # tensors: the words for more would take over a fifth of the answer's time


def kind_document(guess: Guess, *, is_brief: bool) -> dict[str, object]:
    """`kind` of every answer, and what is known of a file that no network fits."""
    if guess.kind is not None:
        details = {**guess.kind.details, "advice": guess.kind.advice}
        return {"kind": guess.kind.name, "details": details, "described": guess.kind.words}
    if guess.status != "unknown" or is_brief:
        return {"kind": "network", "details": {}, "described": None}
    from archfind.evidence.anatomy import Anatomy, anatomy  # late: most files hold known networks
    from archfind.matching.torch_quantised import float_tensors
    from archfind.state_dicts.quantised import is_by_torch

    indexes = about(guess)
    if len(indexes) == 1 and is_by_torch(indexes[0]):
        indexes = [float_tensors(indexes[0])]
    found = anatomy(indexes[0]) if len(indexes) == 1 else Anatomy("")
    described = str(found) if found.family else None
    if found.family and guess.canonical.index is indexes[0] and len(indexes[0]) <= _EXPLAINED:
        from archfind.sourcing.explained import explained
        from archfind.sourcing.words import network_words

        described = network_words(explained(guess.canonical), indexes[0])
    return {"kind": "network", "details": vars(found), "described": described}


def no_network_lines(document: dict[str, Any], path: str) -> tuple[str, list[str]]:
    """The answer for a file that is no network."""
    rest = [_shape(document)]
    advice = document["details"]["advice"]
    if advice:
        rest.append(f"use       {advice.replace('{path}', quoted(path))}")
    tensors = document["tensors"]
    return f"{document['described']}; {tensors} tensor{'s' * (tensors != 1)}", rest


def unknown_lines(document: dict[str, Any], path: str) -> tuple[str, list[str]]:
    """The answer for a network that is in no library."""
    rest = [_shape(document)]
    if document["described"]:
        rest.append(f"kind      {document['described']}")
    rest += [f"nearest   {near_words(one)}" for one in document["candidates"]]
    rest += part_lines(document) + part_choice(document, path) + search_hint(document, path)
    if document["described"]:
        rest.append(f"Write its module:  archfind source {quoted(path)} -o model.py")
    return "unknown, no signature fits", rest


def _shape(document: dict[str, Any]) -> str:
    """The counts; where more is in the file, what they are of."""
    place = "/".join(escape(d) for kind, d in document["steps"] if kind == "unwrap")
    of = f" in {place}" if place else ""
    whole = document["in_file"] > document["tensors"]
    more = f" (the file holds {document['in_file']})" if whole else ""
    return (
        f"shape     {document['tensors']} tensors{of}{more}, "
        f"{count_words(document['parameters'])} numbers, {document['dtype']}"
    )


def near_words(one: dict[str, Any]) -> str:
    """How a network that doesn't fit resembles the file: the share of tensors with its keys and
    shapes, or with its keys or its shapes alone where those say more."""
    said = _resemblance(one)
    doubts = [reason for reason in one["reasons"] if "kernels" in reason]
    return "; ".join([f"{one['provider']}/{one['architecture']}: {said}", *doubts])


def _resemblance(one: dict[str, Any]) -> str:
    total = max(one["expected"], one["matched"] + one["mismatched"] + one["unexpected"], 1)
    matched, keys, shapes = one["matched"], one["keys"], one["shapes"]
    counts = (
        f"{one['missing']} missing, {one['unexpected']} unexpected, {one['mismatched']} mismatched"
    )
    if 2 * matched >= total or max(keys, shapes) <= matched:
        return f"{_share(matched, total)} of the tensors ({matched} of {total}); {counts}"
    if keys >= shapes:
        return (
            f"{_share(keys, total)} of the keys ({keys} of {total}), "
            f"{_share(matched, total)} with its shapes ({matched})"
        )
    return f"{_share(shapes, total)} of the shapes ({shapes} of {total}), under other names"


def _share(part: int, total: int) -> str:
    return f"{100 * part // max(total, 1)} %"


def search_hint(document: dict[str, Any], path: str) -> list[str]:
    """How to go on, where a class with other arguments may have the file's tensors."""
    sought = document["searched"] or not document["candidates"] or document["part"]
    return [] if sought else [f"Build its likes:  archfind guess --search {quoted(path)}"]
