"""What an answer says of a transformers class: its type, its config by source, the classes with the
same tensors."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from archfind.types import Match

_SHOWN = 14  # fields of one source on a line
_ALSO = 12  # twins
_SOURCES = {
    "shape": "config    {} read from shapes",
    "file": "claimed   {} by the file or the config.json beside it",
    "value": "config    {} read from weights",
    "preset": "preset    {} as in {preset}",
    "user": "config    {} as asked for",
}


def pretrained_document(found: Match | None) -> dict[str, object]:
    """The fields of the JSON answer that only a transformers class has."""
    if found is None or found.pretrained is None:
        return {"model_type": None, "keys_of": None, "preset": None}
    own = found.pretrained
    return {
        "model_type": own.model_type,
        "keys_of": own.keys or "module",
        "preset": own.preset or None,
    }


def pretrained_lines(document: dict[str, Any]) -> list[str]:
    """The config, a line for each source."""
    lines: list[str] = []
    for source, words in _SOURCES.items():
        own = {k: v["value"] for k, v in document["config"].items() if v["source"] == source}
        if not own:
            continue
        shown = [f"{k}={v}" for k, v in own.items()]
        more = [f"and {len(shown) - _SHOWN} more,"] * (len(shown) > _SHOWN)
        text = " ".join([*shown[:_SHOWN], *more])
        lines.append(words.format(f"{text:<42}", preset=document["preset"]))
    return lines


def also_lines(document: dict[str, Any]) -> list[str]:
    """The classes with the same tensors, and what chose among them."""
    names = [f"{t['architecture']}" for t in document["twins"]]
    if not names:
        return []
    more = f" and {len(names) - _ALSO} more" if len(names) > _ALSO else ""
    why = {
        "preset": f"chosen by the sizes of {document.get('preset')}",
        "file": "the file names this one",
        "origin": "the keys are of code that has this one",
        "user": "chosen by you",
    }.get(str(document["chosen_by"]), "")
    return [f"also fits {', '.join(names[:_ALSO])}{more}" + (f"; {why}" if why else "")]


def config_words(document: dict[str, Any]) -> list[str]:
    """The config as it is written in the call that builds the class."""
    config = document["build"].get("config") if document["build"] else None
    if not config:
        return []
    words = ", ".join(f"{k}={v!r}" for k, v in config["kwargs"].items())
    return [f"{config['callable']}({words})"]
