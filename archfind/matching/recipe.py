"""How a person would build what was found: shared by the answer in JSON and by exported files."""

from __future__ import annotations

import os

from archfind.classes.usual_arguments import usual

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from archfind.types import Entry, Match, Source


def assumed_document(found: Match) -> list[dict[str, object]]:
    """What the outputs depend on without a trace, as in the answer's JSON."""
    return [
        {
            "place": item.place,
            "what": item.what,
            "value": item.value,
            "alternatives": list(item.alternatives),
        }
        for item in found.assumed
    ]


def arguments_of_match(found: Match) -> dict[str, object]:
    """The settings that are the library's, by field; those of a changed head are not."""
    own = {k: s.value for k, s in found.config.items()}
    if found.variant is not None:
        return dict(found.variant.moved)
    if found.head is None:
        return own
    given = {k: v for k, v in own.items() if k in found.entry.fields}
    if found.head.replaces and found.entry.fields.get("num_classes") == 0:
        given.setdefault("num_classes", 2)  # any head: it marks the place, and is replaced
    return given


def recipe(found: Match) -> dict[str, object] | None:
    """{"callable": "timm.create_model", "args": ["resnet50"], "kwargs": {"num_classes": 10}}: what
    differs from the library's defaults, and what keeps it from downloading weights. None for a
    user's record of keys and shapes, which nothing builds."""
    entry = found.entry
    if found.written is not None:
        return _written(found.written)
    if not entry.callable:
        return None
    if found.variant is not None:
        return _variant(found)
    if found.pretrained is not None:
        return _configured(found)
    moved = {k: v for k, v in arguments_of_match(found).items() if entry.fields.get(k) != v}
    return _call(entry, moved)


def _written(source: Source) -> dict[str, object]:
    """archfind's own call: the module is written anew, with what the user set."""
    told = {item.place: item.value for item in source.unseen if item.source == "user"}
    kwargs: dict[str, object] = {"accept_likely": True} if source.grade != "certain" else {}
    kwargs |= {"settings": told} if told else {}
    name = os.path.basename(source.canonical.checkpoint.path)
    return {"callable": "archfind.load", "args": [name], "kwargs": kwargs}


def _call(entry: Entry, moved: Mapping[str, object]) -> dict[str, object]:
    """The library's own builder, or the class itself with what makes it that network."""
    kwargs = {**usual(entry.provider, entry.name), **entry.fixed, **moved}
    return {"callable": entry.callable, "args": list(entry.args), "kwargs": kwargs}


def _variant(found: Match) -> dict[str, object]:
    """As the library's own builder takes it, where it does; else archfind's."""
    entry, variant = found.entry, found.variant
    assert variant is not None
    if entry.is_users:
        moved = {
            root: found.config[root].value if root in found.config else value
            for root, value in ((_root(p, found), v) for p, v in variant.moved.items())
        }
        return _call(entry, moved)
    roots = dict.fromkeys(path.partition(".")[0] for path in variant.moved)
    known = [name for name in roots if name in found.config or name in variant.moved]
    if not variant.direct or len(known) < len(roots):  # an argument that is known in parts only
        given: dict[str, object] = {}
        for path, value in variant.moved.items():
            root = path.partition(".")[0]
            whole = found.config.get(root)
            given[root if whole else path] = whole.value if whole else value
        args: list[object] = [entry.id, given]
        return {"callable": "archfind.variant", "args": args, "kwargs": {}}
    kwargs = {
        name: found.config[name].value if name in found.config else variant.moved[name]
        for name in roots
    }
    return _call(entry, kwargs)


def _root(path: str, found: Match) -> str:
    """The argument that a leaf is of, where the answer has all of it; else the leaf."""
    root = path.partition(".")[0]
    return root if root in found.config else path


def _configured(found: Match) -> dict[str, object]:
    """The class with its config's fields, nested ones as dicts; defaults that nothing showed are
    left to the library, unless they had to be others than its own."""
    assert found.pretrained is not None
    fields: dict[str, Any] = {}
    switches: dict[str, object] = {}
    for path, setting in found.config.items():
        *above, last = path.split(".")
        if above == ["init"]:
            switches[last] = setting.value
            continue
        if setting.source == "default" and not last.endswith("heads"):
            continue
        target = fields
        for part in above:
            if not isinstance(target.get(part), dict):
                target[part] = {}
            target = target[part]
        target[last] = setting.value
    config = {"callable": f"transformers.{found.pretrained.config}", "kwargs": fields}
    return {"callable": found.entry.callable, "args": [], "kwargs": switches, "config": config}
