"""`archfind inspect` as lines of text, drawn from its document."""

from __future__ import annotations

from archfind.escape import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_SHOWN = 40  # groups, hints and scalars listed in text; --json has them all
_USES = (("resume", "resume"), ("fine_tune", "fine-tune"), ("lora", "LoRA"), ("run", "run"))


def inspect_lines(document: dict[str, Any]) -> list[str]:
    """Text for people, the same facts."""
    dtypes = ", ".join(
        f"{escape(name)}" + f" x{n}" * (len(document["dtypes"]) > 1)
        for name, n in document["dtypes"].items()
    )
    lines = [
        f"{escape(document['path'])}: {escape(document['format'])}, {_bytes(document['bytes'])}, "
        f"{document['tensors']} tensors, "
        f"{document['parameters'] / 1e6:.2f} M numbers, {dtypes}"
    ]
    facts = [f"{k} {v}" for k, v in document["container"].items() if v not in ("", None, [])]
    lines += [_line("container", ", ".join(facts))] if facts else []
    for one in document["wrappers"]:
        place = escape(one["place"]) or "top level"
        mark = ", averaged weights" if one["averaged"] else ""
        lines.append(
            f"  in        {place}: {one['tensors']} tensors, {one['parameters'] / 1e6:.2f} M{mark}"
        )
        lines += [f"    {escape(line)}" for line in one["groups"][:_SHOWN]]
        if len(one["groups"]) > _SHOWN:
            lines.append(
                f"    ... {len(one['groups']) - _SHOWN} more groups; --json lists them all"
            )
        lines += _layers(one["layers"])
    lines += _beside(document["siblings"])
    lines += [_optimizer(one) for one in document["optimizers"]]
    for one in document["schedulers"]:
        at = f", last epoch {one['last_epoch']}" if one["last_epoch"] is not None else ""
        lines.append(_line("scheduler", f"{one['kind']}{at}"))
    if document["random_states"]:
        lines.append(_line("random", ", ".join(document["random_states"][:8])))
    for name, label in (("hints", "hint"), ("scalars", "scalar")):
        lines += _pairs(label, document[name].items())
    lines += _objects(document["objects"])
    for name, text in list(document["sources"].items())[:8]:
        count = text.count("\n") + 1
        first = next((one.strip() for one in text.splitlines() if one.strip()), "")
        lines.append(_line("source", f"{name}: {count} lines ({first[:60]})"))
    lines += [_line("tied", " = ".join(names[:4])) for names in document["tied"][:8]]
    for kind, label in (("danger", "DANGER"), ("other", "unknown"), ("harmless", "harmless")):
        names = document["globals"][kind]
        if names:
            more = f" and {len(names) - 12} more" if len(names) > 12 else ""
            lines.append(_line("names", f"{label}: {', '.join(names[:12])}{more}"))
    lines += [_line("file", name) for name in document["files"][1:]]
    lines += [_line("damage", text) for text in document["damage"][:_SHOWN]]
    lines += [_line("warning", text) for text in document["warnings"][:_SHOWN]]
    lines += [f"  {label:<9} {escape(document['uses'][name])}" for name, label in _USES]
    return lines


def _layers(tops: dict[str, list[str]]) -> list[str]:
    """The modules at the top of a network, each with the layers below it; nothing where the layers
    are those of one module, or of very many."""
    from archfind.sourcing.outline import counted_layers

    if not 1 < len(tops) <= _SHOWN:
        return []
    wide = min(max(map(len, tops)), 24)
    rows = ((escape(name[:60]), escape(counted_layers(layers))) for name, layers in tops.items())
    cut = ((name, text if len(text) <= 100 else f"{text[:97]}...") for name, text in rows)
    return [f"  layers    {name:<{wide}}  {text}" for name, text in cut]


def _line(label: str, text: str) -> str:
    return f"  {label:<9} {escape(text)}"


def _beside(siblings: list[dict[str, Any]]) -> list[str]:
    """What stands beside the networks; nothing where the file is one state dict."""
    others = [one for one in siblings if not one["network"]]
    if not others or len(siblings) < 2:
        return []
    shown = [
        escape(one["name"], 60) + (f" ({one['tensors']} tensors)" if one["tensors"] else "")
        for one in others[:_SHOWN]
    ]
    more = f", and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
    return [f"  beside    {', '.join(shown)}{more}"]


def _optimizer(one: dict[str, Any]) -> str:
    step = one["step"]
    at = f", step {step:g}" if isinstance(step, int | float) else ""
    kind = one["kind"] if one["certain"] else f"{one['kind']} (likely)"
    settings = ", ".join(f"{name} {value}" for name, value in one["settings"].items())
    groups = f"{one['groups']} groups" if one["groups"] > 1 else ""
    state = "" if one["state"] else "no state kept"
    place = f"in {one['place']}" if one["place"] not in ("", "optimizer") else ""
    rest = ", ".join(filter(None, (settings, groups, state, place)))
    return _line("optimizer", f"{kind}{at}" + (f" ({rest})" if rest else ""))


def _pairs(label: str, pairs: Iterable[tuple[str, object]]) -> list[str]:
    # Hyper-parameters of every parameter group, and of every submodule, would bury the rest.
    shown = [
        (k, v) for k, v in pairs if "param_groups/" not in k and "@" not in k and "state/" not in k
    ]
    lines = [f"  {label:<9} {escape(k)} = {escape(_short(v))}" for k, v in shown[:_SHOWN]]
    if len(shown) > _SHOWN:
        lines.append(f"  ... {len(shown) - _SHOWN} more; --json lists them all")
    return lines


def _objects(objects: dict[str, str]) -> list[str]:
    """The outermost objects, and how many modules of each class are inside them."""
    outer: dict[str, str] = {}
    counts: dict[str, int] = {}
    for place, name in objects.items():
        parents = {place.rpartition(".")[0], place.rpartition("/")[0]}
        if place and not parents.isdisjoint(objects):
            counts[name] = counts.get(name, 0) + 1
        else:
            outer[place or "top level"] = name
    lines = _pairs("object", outer.items())
    common = sorted(counts, key=lambda name: -counts[name])
    shown = [f"{name.removeprefix('torch.nn.modules.')} x{counts[name]}" for name in common[:12]]
    more = f" and {len(common) - 12} more classes" if len(common) > 12 else ""
    return [*lines, *([_line("modules", ", ".join(shown) + more)] if shown else [])]


def _short(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _bytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count:,} bytes"
