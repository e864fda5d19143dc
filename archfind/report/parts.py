"""A changed head and the parts of a file, as JSON and as text."""

from __future__ import annotations

from archfind.escape import escape, quoted, shell_word
from archfind.matching.recipe import assumed_document
from archfind.report.pipelines import pipeline_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.types import Guess, Match


def head_document(found: Match) -> list[dict[str, object]]:
    """The layers that stand where the library has its own head, in the order in which they run;
    `assumed` ones have no tensors. A head that is left out is one Identity."""
    head = found.head
    if head is None:
        return []
    if not head.layers:
        return [{"name": head.replaces, "kind": "Identity", "sizes": [], "assumed": False}]
    return [
        {
            "name": layer.name or None,
            "kind": layer.kind,
            "sizes": list(layer.sizes),
            "assumed": layer.assumed,
            **({"branch": layer.branch} if layer.branch else {}),
            **({"bias": layer.bias} if layer.kind == "Linear" else {}),
        }
        for layer in head.layers
    ]


def head_words(document: dict) -> str:  # pyright: ignore
    """What follows the library's call where the head isn't its own."""
    own = [str(name) for name in document["config"] if name not in document["build"]["kwargs"]]
    if document["variant"] is not None:  # whose config has all that its class takes
        layers = [str(layer["name"]) for layer in document["head"]]
        places = {name: name.partition("[")[0] for name in own}
        own = [n for n in own if any(f"{one}.".startswith(f"{places[n]}.") for one in layers)]
    return f", then its head: {escape(', '.join(own))}" if document["head"] else ""


def part_document(one: Guess, *, is_brief: bool) -> dict[str, object]:
    """One network of several: what it is, and what it lacks."""
    best = one.matches[0] if one.matches and one.status != "unknown" else None
    return {
        "status": one.status,
        "architecture": best.entry.id if best else None,
        "assumed": assumed_document(best) if best and one.is_assumed else [],
        "described": described(one) if one.status == "unknown" and not is_brief else None,
        "tensors": len(one.canonical.whole or one.canonical.index),
        "missing": list(best.missing) if best else [],
        "unexpected": list(best.unexpected) if best else [],
        "mismatched": [m.key for m in best.mismatched] if best else [],
    }


def described(one: Guess) -> str | None:
    """What kind of network a state dict is of that no library has."""
    from archfind.evidence.anatomy import anatomy  # late: most files hold known networks

    found = anatomy(one.canonical.whole or one.canonical.index)
    return str(found) if found.family else None


def part_lines(document: dict) -> list[str]:  # pyright: ignore
    """Every part with its answer, and the modules in which it differs."""
    together = pipeline_words(document["parts"])
    lines = [f"together  {together}"] if together else []
    for name, one in document["parts"].items():
        answer = {"exact": "", "ambiguous": "ambiguous, perhaps ", "close": "close to "}
        said = answer.get(one["status"], "") + (one["architecture"] or "unknown")
        if one["assumed"]:
            said = f"{one['architecture']}, with assumptions"
        said += f", {one['described']}" if one["described"] else ""
        counts = [f", {one['tensors']} tensors"]
        for kind in ("missing", "unexpected", "mismatched"):
            tops = list(dict.fromkeys(str(key).partition(".")[0] for key in one[kind]))
            shown = ", ".join(tops[:4]) + (" ..." if len(tops) > 4 else "")
            counts += [f", {len(one[kind])} {kind} in {escape(shown)}"] * bool(tops)
        lines.append(f"part      {escape(name or 'the whole')}: {said}{''.join(counts)}")
    return lines


def _part(name: str) -> str:
    """The option that names a part, whatever the part is called."""
    return shell_word(f"--part={name}") if name.startswith("-") else f"--part {shell_word(name)}"


def part_choice(document: dict, path: str) -> list[str]:  # pyright: ignore
    """How to work on a part, where it is a network by itself and the whole is none. Where the whole
    is nearly one, its backbone alone would be half of it."""
    parts = document["parts"].items()
    known = [name for name, one in parts if name and (one["status"] == "exact" or one["assumed"])]
    if not known or document["status"] == "close":
        return []
    return [f"Choose:  archfind export {quoted(path)} out.onnx {_part(known[0])}"]
