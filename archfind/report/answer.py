"""One document per result, drawn as JSON or as lines of text: both say the same things."""

from __future__ import annotations

from archfind.escape import escape, quoted, shell_word
from archfind.matching.recipe import assumed_document, recipe
from archfind.report.assumed import (
    assumed_choice,
    assumed_lines,
    quantisation_document,
    sizes_words,
)
from archfind.report.code import code_document, code_lines, trusted_document, trusted_words
from archfind.report.counted import count_words, tensor_counts
from archfind.report.model_type import (
    also_lines,
    config_words,
    pretrained_document,
    pretrained_lines,
)
from archfind.report.parts import head_document, head_words, part_choice, part_document, part_lines
from archfind.report.record import record_document, record_lines
from archfind.report.said import said_document, said_first, said_lines
from archfind.report.unknown import kind_document, no_network_lines, search_hint, unknown_lines
from archfind.report.weighed import weighed_document, weighed_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.types import Exported, Guess, Match

SCHEMA = 1
_EXAMPLES = 3  # keys named for each count of a candidate


def guess_document(guess: Guess, *, is_brief: bool = False) -> dict[str, object]:
    """Schema 1 of `archfind guess --json`. Without a match, what only a match has is null or
    empty. A brief document is for the first line alone: it leaves out what kind of network an
    unknown one is, which takes as long as the answer."""
    checkpoint = guess.canonical.checkpoint
    counts = tensor_counts(guess)
    best = guess.matches[0] if guess.matches and guess.status != "unknown" else None
    document: dict[str, object] = {
        "schema": SCHEMA,
        "path": checkpoint.path,
        "format": checkpoint.format,
        "status": guess.status,
        **kind_document(guess, is_brief=is_brief),
        **said_document(guess),
        "provider": best.entry.provider if best else None,
        "architecture": best.entry.name if best else None,
        "class": (best.entry.cls or None) if best else None,
        **pretrained_document(best),
        "build": recipe(best) if best else None,
        "variant": dict(best.variant.moved) if best and best.variant else None,
        "config": {k: {"value": s.value, "source": s.source} for k, s in best.config.items()}
        if best
        else {},
        "assumed": assumed_document(best) if best else [],
        "keys": _keys(best) if best else {},
        "head": head_document(best) if best else [],
        "resized": {k: list(v) for k, v in best.resized.items()} if best else {},
        "chosen_by": guess.chosen_by or None,
        "twins": _twins(best) if best else [],
        "key_map": dict(guess.key_map),
        **quantisation_document(guess),
        "steps": [[step.kind, step.detail] for step in guess.canonical.steps],
        "trusted": trusted_document(best),
        "record": record_document(best),
        "candidates": [_candidate(found) for found in guess.matches],
        "explained": [
            {"explainer": name, "share": share, "architecture": network or None}
            for name, share, network in guess.explained
        ],
        "searched": guess.searched,
        "weighed": [weighed_document(verdict) for verdict in guess.weighed],
        "code": [code_document(found) for found in guess.code],
        "parts": {n: part_document(one, is_brief=is_brief) for n, one in guess.parts.items()},
        "part": guess.part or None,
        "tensors": counts.tensors,
        "parameters": counts.parameters,
        "dtype": counts.dtype,
        "in_file": counts.in_file,
        "warnings": [*checkpoint.warnings, *guess.warnings],
        "danger": list(checkpoint.danger),
        "error": None,
        "report": None,
    }
    return document


def _keys(found: Match) -> dict[str, object]:
    return {
        "matched": found.matched,
        "expected": found.expected,
        "missing": list(found.missing),
        "unexpected": list(found.unexpected),
        "mismatched": [
            {"key": m.key, "found": m.found, "expected": m.expected} for m in found.mismatched
        ],
        "tolerated": list(found.tolerated),
    }


def _twins(found: Match) -> list[dict[str, object]]:
    return [
        {
            "provider": twin.provider,
            "architecture": twin.architecture,
            "same_function": twin.same_function,
            **({"differs": twin.differs} if twin.differs else {}),
        }
        for twin in found.twins
    ]


def _candidate(found: Match) -> dict[str, object]:
    return {
        "provider": found.entry.provider,
        "architecture": found.entry.name,
        "matched": found.matched,
        "expected": found.expected,
        "missing": len(found.missing),
        "unexpected": len(found.unexpected),
        "mismatched": len(found.mismatched),
        "keys": found.in_common[0],
        "shapes": found.in_common[1],
        "examples": {
            "missing": list(found.missing[:_EXAMPLES]),
            "unexpected": list(found.unexpected[:_EXAMPLES]),
            "mismatched": [m.key for m in found.mismatched[:_EXAMPLES]],
        },
        "reasons": list(found.reasons),
    }


def guess_lines(
    document: dict[str, object], quiet: bool = False, verbose: bool = False
) -> list[str]:
    """Text for people: line 1 is `path: answer`, the evidence is indented below it."""
    status = document["status"]
    path = str(document["path"])
    answers = {"exact": _exact, "ambiguous": _ambiguous, "close": _close, "unknown": unknown_lines}
    answer = no_network_lines if document["kind"] != "network" else answers[str(status)]
    if status == "ambiguous" and document["chosen_by"]:
        answer = _assumed
    first, rest = answer(document, path)
    first += said_first(document)
    rest = [*said_lines(document, path), *rest]
    if verbose:  # the nearest stand among what was tried, with more said of them
        rest = [line for line in rest if not line.startswith("nearest   ")]
    lines = [f"{escape(path)}: {first}"]
    if quiet:
        return lines
    lines += [f"  {line}" for line in [*code_lines(document), *rest, *weighed_lines(document)]]
    if verbose:
        for one in document["candidates"]:  # pyright: ignore
            lines.append(f"  tried     {_counts(one)}")
        for one in document["explained"]:  # pyright: ignore
            said = (
                f"{one['architecture']}, {one['share']:.0%}" if one["architecture"] else "nothing"
            )
            lines.append(f"  asked     {one['explainer'].replace('_', ' '):<26}{escape(said)}")
    lines += [f"  warning   {escape(str(text))}" for text in document["warnings"]]  # pyright: ignore
    return lines


def _exact(document: dict, path: str) -> tuple[str, list[str]]:  # pyright: ignore
    rest: list[str] = []
    config = document["config"]
    if document.get("model_type"):
        rest += pretrained_lines(document)
    elif config:
        moved = document["variant"] or {}
        # Leaves of nested arguments may be hundreds: those that differ from the entry's are named.
        shown = " ".join(
            f"{k}={v['value']}" for k, v in config.items() if "." not in k or k in moved
        )
        rest.append(f"config    {shown:<42} read from {_sources(config)}")
    rest.append(_evidence(document))
    rest += _twin_lines(document) if not document.get("model_type") else also_lines(document)
    rest += part_lines(document)
    rest += record_lines(document, path)
    build = document["build"]
    if build is None:
        return _title(document), rest
    words = [repr(a) for a in build["args"]] + [f"{k}={v!r}" for k, v in build["kwargs"].items()]
    words = [*config_words(document), *words]
    after = head_words(document) + sizes_words(document)
    rest.append(f"build     {build['callable']}({', '.join(words)}){after}")
    return _title(document), rest


def _assumed(document: dict, path: str) -> tuple[str, list[str]]:  # pyright: ignore
    """One network that stands out, with what is assumed about it."""
    title, rest = _exact(document, path)
    rest = [*assumed_lines(document), *rest]
    if document["build"] is None:
        return f"ambiguous: {title}; what it computes is known by name alone", rest
    rest.append(assumed_choice(path) + trusted_words(document))
    places = {item["place"] for item in document["assumed"]}
    why = "the file says another" if places == {"said"} else "what no tensor shows is assumed"
    return f"ambiguous: {title}; {why}", rest


def _title(document: dict) -> str:  # pyright: ignore
    cls = str(document["class"] or "").rpartition(".")[2]
    other = " with other arguments" if document["variant"] else ""
    if document["resized"]:
        other += " with layers of other sizes"
    if document["head"]:
        other += " and another head" if other else " with another head"
    if document.get("model_type"):
        return f"{document['provider']}/{document['architecture']} ({document['model_type']})"
    named = f" ({cls})" if cls else ", as recorded"
    return f"{document['provider']}/{document['architecture']}{other}{named}"


def _sources(config: dict) -> str:  # pyright: ignore
    words: dict[str, str] = {
        "shape": "shapes",
        "file": "the file",
        "value": "weights",
        "origin": "names",
        "default": "defaults",
        "assumed": "assumptions",
        "user": "settings",
    }
    sources = [str(value["source"]) for value in config.values()]
    return ", ".join(dict.fromkeys(words.get(source, source) for source in sources))


def _evidence(document: dict) -> str:  # pyright: ignore
    keys = document["keys"]
    where = "; ".join(
        escape(detail) if kind == "rename" else f"{kind} {escape(detail)}"
        for kind, detail in document["steps"]
    )
    size = f"{count_words(document['parameters'])} parameters, {document['dtype']}"
    counted = f"{keys['matched']}/{keys['expected']} keys and shapes"
    counted = counted if keys["expected"] else "as archfind noted when it wrote the file"
    tolerated = len(keys["tolerated"])
    if tolerated:
        counted += f" (and {tolerated} derived buffers)"
    return f"evidence  {counted:<42} {size}" + (f"; {where}" if where else "")


def _twin_lines(document: dict) -> list[str]:  # pyright: ignore
    lines: list[str] = []
    same = [f"{t['provider']}/{t['architecture']}" for t in document["twins"] if t["same_function"]]
    if same:
        lines.append(f"same as   {', '.join(same)}")
    for twin in document["twins"]:
        if not twin["same_function"]:
            name = f"{twin['provider']}/{twin['architecture']}"
            chosen = {
                "prior": "the plain one is chosen",
                "file": "the file names this one",
                "origin": "the keys are of code that has this one",
                "value": "the weights are of this one",
            }
            why = chosen.get(str(document["chosen_by"]), "")
            differs = twin.get("differs") or "another function"
            lines.append(
                f"not       {name}: the same tensors, but {differs}" + (f"; {why}" if why else "")
            )
    return lines


def _ambiguous(document: dict, path: str) -> tuple[str, list[str]]:  # pyright: ignore
    parts = document["parts"]
    if len(parts) > 1:
        rest = part_lines(document) + part_choice(document, path)
        return f"ambiguous, {sum(map(bool, parts))} networks in one file", rest
    first = {"provider": document["provider"], "architecture": document["architecture"]}
    others = [t for t in document["twins"] if not t["same_function"]]
    others += document["candidates"][1:]
    choices = [first, *others]
    width = max(len(f"{c['provider']}/{c['architecture']}") for c in choices)
    rest = []
    for number, choice in enumerate(choices, 1):
        name = f"{choice['provider']}/{choice['architecture']}"
        differs = choice.get("differs", "")
        rest.append(f"{number}  {name:<{width}}  {differs}".rstrip())
    same = [f"{t['provider']}/{t['architecture']}" for t in document["twins"] if t["same_function"]]
    if same:
        rest.append(f"same as 1: {', '.join(same)}")
    rest.append(_evidence(document))
    if document.get("model_type"):
        rest += pretrained_lines(document)
    rest += assumed_lines(document)
    name = f"{first['provider']}/{first['architecture']}"
    rest.append(
        f"Choose:  archfind export {quoted(path)} out.onnx "
        f"--as {shell_word(name)}{trusted_words(document)}"
    )
    fitting = f"all {document['keys']['matched']} tensors"
    if len(choices) == 1:
        title = f"ambiguous, perhaps {_title(document)}: it fits {fitting}, which say too little"
        return title, rest
    return f"ambiguous, {len(choices)} networks fit {fitting}", rest


def _close(document: dict, path: str) -> tuple[str, list[str]]:  # pyright: ignore
    keys = document["keys"]
    rest = [f"missing     {escape(key)}" for key in keys["missing"][:8]]
    rest += [f"unexpected  {escape(key)}" for key in keys["unexpected"][:8]]
    rest += [
        f"mismatched  {escape(m['key'])}  {m['found']}, expected {m['expected']}"
        for m in keys["mismatched"][:8]
    ]
    left = sum(max(0, len(keys[kind]) - 8) for kind in ("missing", "unexpected", "mismatched"))
    if left:
        rest.append(f"... and {left} more; --json lists them all")
    rest += part_lines(document) + search_hint(document, path)
    counts = [
        f"{len(keys[kind])} {kind}"
        for kind in ("missing", "unexpected", "mismatched")
        if keys[kind]
    ]
    title = f"close to {_title(document)}: {keys['matched']}/{keys['expected']} tensors fit, "
    return title + ", ".join(counts), rest


def _counts(one: dict) -> str:  # pyright: ignore
    """What fits and what doesn't, with a few keys of each kind."""
    words: list[str] = []
    for kind in ("missing", "unexpected", "mismatched"):
        keys = [escape(key) for key in one["examples"][kind]]
        more = ["..."] * (len(keys) < one[kind])
        words.append(f"{one[kind]} {kind}" + (f": {' '.join(keys + more)}" if keys else ""))
    return (
        f"{one['provider']}/{one['architecture']}: {one['matched']}/{one['expected']} tensors fit; "
        + ", ".join(words)
        + f"; {one['shapes']} of its shapes are in the file, under any name"
        + "".join(f"; {reason}" for reason in one["reasons"])
    )


def export_lines(exported: Exported) -> list[str]:
    """What was written, what was proven, and what the network expects to be fed."""
    built = exported.built
    lines = [
        f"{escape(exported.path)}: {built.match.entry.id if built else 'converted'}, "
        f"{exported.format}"
    ]
    if built:
        lines.append(f"  load      strict, {built.loaded} of {built.tensors} tensors from the file")
    notes = dict(exported.notes)
    relative = notes.pop("relative", "")
    if built or "ran" in exported.notes:
        against = f": {relative}" if relative else ""
        lines.append(f"  check     max |diff| {exported.max_abs_diff:.1e}{against}")
    else:
        lines.append("  check     every key, dtype and shape read back")
    lines += [f"  {name:<9} {text}" for name, text in notes.items()]
    if exported.sha256:
        lines.append(f"  sha256    {exported.sha256}")
    return lines


def export_document(exported: Exported) -> dict[str, object]:
    """The export's facts for --json."""
    built = exported.built
    return {
        "schema": SCHEMA,
        "path": exported.path,
        "format": exported.format,
        "sha256": exported.sha256,
        "max_abs_diff": exported.max_abs_diff,
        "notes": dict(exported.notes),
        "loaded": built.loaded if built else None,
        "tensors": built.tensors if built else None,
        "guess": guess_document(built.guess) if built else None,
        "danger": list(built.guess.canonical.checkpoint.danger) if built else [],
        "error": None,
        "report": None,
    }
