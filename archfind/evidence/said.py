"""What a file says of its own network, in its metadata, its classes, or a config.json beside it:
read as data, shown, and believed only where tensors leave something open. On the cold path of
`archfind guess`.

The words have places, as JSON Pointers: {"hyper_parameters/arch": "Unet"}, {"args/model": ...}.
OmegaConf's and pickled settings have the same words deeper, which the places leave out; text of a
config (JSON in safetensors, mmcv's Python) is read by what stands in it, and never run.
"""

from __future__ import annotations

import os

from archfind.errors import CheckpointError
from archfind.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from archfind.types import Checkpoint

Words = dict[str, object]

# What names a network, the plainest first; then what names the network inside of it.
_WHOLE = (
    "arch architecture model_name model_arch model architecture_name arch_name network net "
    "model_class _target_ class_path _class_name policy_class"
).split()
_INNER = "encoder_name backbone backbone_name encoder".split()
_FAMILY = ("model_family", "model_type")  # of which there are many networks
_PARENTS = frozenset((*_WHOLE, *_INNER, "generator", "module"))  # of a `name` or `type`
# Containers of settings that libraries pickle, which are no words of the file.
_BOXES = frozenset(("_content", "_val", "_dict", "_store"))
_PRIVATE = frozenset(("_metadata", "_parent", "_flags_cache", "_flags", "_re_parent"))
# What timm keeps of the weights that a network began with, which may have had other classes.
_BEGINNING = frozenset(("pretrained_cfg", "default_cfg", "@pretrained_cfg", "@default_cfg"))
# A word that one library alone has in its settings.
_WRITERS = {"encoder_name": "smp"}
_LIMIT = 2_000  # words of one file that are looked at
_SHOWN = 80  # characters of a name
_TEXTS = ("config", "cfg", "model_config", "hparams", "hyper_parameters", "args", "archfind.hints")
# What archfind writes into its exports, and of that what names and settles.
_EXPORT = "archfind."
EXPORTED_AS = "archfind.architecture"
ASSUMED = "archfind.assumed"
_OWN_CONFIG = "archfind.config"
_READ = (EXPORTED_AS, ASSUMED, "archfind.hints")
_CONFIG = "config.json"
_PARAMS = "params.json"  # beside Meta's consolidated files


@frozen
class Said:
    """A file's words of its network: `names` with their places, `cls` the class that was pickled or
    compiled, `sentence` all of it on one line ("" where it says nothing), `sources` the classes
    whose Python source is in the file, `program` whether it holds code that runs it."""

    sentence: str = ""
    names: tuple[tuple[str, str], ...] = ()
    cls: str = ""
    sources: tuple[str, ...] = ()
    program: bool = False


def said(checkpoint: Checkpoint, place: str = "") -> Said:
    """The words of a checkpoint about the network at `place` ("state_dict", "" for the top)."""
    from archfind.formats import PROGRAMS

    own = words_said(checkpoint)
    found = names_said(own)
    cls = _class(checkpoint, place)
    return Said(
        _sentence(found, cls),
        tuple(found),
        cls,
        tuple(checkpoint.sources)[:8],
        checkpoint.format in PROGRAMS,
    )


def words_said(checkpoint: Checkpoint) -> Words:
    """All words by place, those of the file first, then those of a config.json beside it."""
    found: Words = {}
    for pointer, value in checkpoint.hints.items():
        if len(found) >= _LIMIT:
            break
        if checkpoint.format == "onnx" and not pointer.startswith("metadata_props/"):
            continue
        place = _place(pointer)
        if place is None:
            continue
        last = place.rpartition("/")[2]
        if isinstance(value, str) and last == _OWN_CONFIG:
            found.update(_own_config(place, value))
        elif last.startswith(_EXPORT) and last not in _READ:
            continue
        elif isinstance(value, str) and last in _TEXTS:
            found.update(_in_text(place, value))
        elif value is not None:
            found[place] = value
    for name in (_CONFIG, _PARAMS):
        for place, value in _flat(name, config_beside(checkpoint, name)[0]):
            if len(found) < _LIMIT:
                found.setdefault(place, value)
    return found


def names_in(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    """The names that a checkpoint gives its network, each after its place."""
    return names_said(words_said(checkpoint))


def config_beside(checkpoint: Checkpoint, name: str = _CONFIG) -> tuple[Mapping[str, object], str]:
    """The config.json beside a checkpoint, {} where there is none; and why it can't be read."""
    folder = os.path.isdir(checkpoint.path)
    home = checkpoint.path if folder else os.path.dirname(checkpoint.path)
    path = os.path.join(home, name)
    if not os.path.lexists(path):
        return {}, ""
    from archfind.formats.side_files import read_object

    try:
        return read_object(path), ""
    except CheckpointError as error:
        return {}, f"the {name} beside it is left aside: {error.message}"


def fields_said(own: Words) -> Words:
    """Values by the last name of their places, where that is one alone; as JSON has it, those of
    several places must agree."""
    found: Words = {}
    doubted: set[str] = set()
    for place, value in own.items():
        above, _, name = place.rpartition("/")
        if above.rpartition("/")[2] in _BEGINNING:
            continue
        if name in found and found[name] != value:
            doubted.add(name)
        found.setdefault(name, value)
    return {name: value for name, value in found.items() if name not in doubted}


def bare_model_name(name: str) -> str:
    """A name as libraries write theirs: "timm/resnet50.a1_in1k" and "ResNet-50" differ from it in
    what comes before, behind, or between."""
    last = name.lower().replace("-", "_").rpartition("/")[2].rpartition(":")[2]
    return last.partition(".")[0]


def _place(pointer: str) -> str | None:
    """A hint's place less what pickled settings put around a word; None for what is no word."""
    if "_" not in pointer:
        return pointer
    parts = pointer.split("/")
    if not _PRIVATE.isdisjoint(parts):
        return None
    return "/".join(part for part in parts if part not in _BOXES)


def _own_config(place: str, text: str) -> Words:
    """The config that archfind wrote into an export, less what it had only assumed."""
    from archfind.formats.side_files import object_in

    return {
        f"{place}/{name}": one["value"]
        for name, one in object_in(text).items()
        if isinstance(one, dict)
        and one.get("value") is not None
        and one.get("source") in ("user", "file", "value", "preset", "origin")
    }


def _in_text(place: str, text: str) -> Words:
    """The words in a text that is a config: JSON, or Python as mmcv writes it."""
    if text.lstrip()[:1] == "{":
        from archfind.formats.side_files import object_in

        inner = object_in(text)
        if place.endswith("archfind.hints"):
            return {key: value for key, value in inner.items() if not isinstance(value, dict)}
        return dict(_flat(place, inner))
    found: Words = {}
    if "dict(" in text:
        for part in ("model", "backbone"):
            cut = text.find(f"{part}=dict(")
            cut = cut if cut >= 0 else text.find(f"{part} = dict(")
            if cut >= 0:
                inner = text[cut : cut + 2_000]
                for name in ("type", "depth", "style"):
                    value = _literal(inner, name)
                    if value and (name == "type" or part == "backbone"):
                        found[f"{place}/{part}/{name}"] = value
        kind, depth = (found.get(f"{place}/backbone/{name}") for name in ("type", "depth"))
        if kind and depth:
            found[f"{place}/backbone/type"] = f"{kind}-{depth}"
    elif len(text) <= _SHOWN:
        found[place] = text
    return found


def _literal(text: str, name: str) -> str:
    """The first `name='...'` or `name=50` in Python's text of a config."""
    cut = text.find(f"{name}=")
    if cut < 0:
        return ""
    value = text[cut + len(name) + 1 : cut + len(name) + 1 + _SHOWN].lstrip()
    quote = value[:1]
    if quote in ("'", '"'):
        return value[1:].partition(quote)[0]
    return value[: len(value) - len(value.lstrip("0123456789"))]


def _flat(place: str, config: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """The scalars and lists of a JSON object by place."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _flat(f"{place}/{key}", value)
        else:
            yield f"{place}/{key}", value


def names_said(own: Words) -> list[tuple[str, str]]:
    """The places of names, and the names: the whole's first, then the inner ones'."""
    ranked: list[tuple[int, str, str]] = []
    for place, value in own.items():
        name = _name(value)
        rank = _rank(place) if name else -1
        if rank >= 0:
            ranked.append((rank, place, name))
    return [(place, name) for _, place, name in sorted(ranked, key=lambda one: one[0])]


def _rank(place: str) -> int:
    """How plainly a place names a network; -1 for other words."""
    above, _, last = place.rpartition("/")
    last = last.rpartition(".")[2]  # general.architecture
    parent = above.rpartition("/")[2]
    if last == "architectures":
        return 0
    if last in ("name", "type", "__module__") and parent in _PARENTS:
        last = parent
    elif last == "name" and not above:
        last = "arch"
    if last in _WHOLE:
        return _WHOLE.index(last)
    if last in _FAMILY:
        return 50
    return 100 + _INNER.index(last) if last in _INNER else -1


def _name(value: object) -> str:
    """A short name that a terminal can show; "" for anything else."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str) or not 1 < len(value) <= _SHOWN or not value.isprintable():
        return ""
    # A path says where something was, a sentence is no name.
    if value.count("/") > 1 or value.count(" ") > 2 or value.isdigit():
        return ""
    return value


def _class(checkpoint: Checkpoint, place: str) -> str:
    """The class of the object at a place, where its author named it."""
    cls = checkpoint.objects.get(place, "")
    plain = ("torch.nn.", "collections.", "builtins.", "argparse.", "types.", "omegaconf.")
    return "" if cls.startswith(plain) or not cls.isprintable() else cls[:200]


def _sentence(named: list[tuple[str, str]], cls: str) -> str:
    whole = [(place, name) for place, name in named if _rank(place) < 100]
    inner = [(place, name) for place, name in named if _rank(place) >= 100]
    writer = next(
        (_WRITERS[last] for place, _ in named if (last := place.rpartition("/")[2]) in _WRITERS), ""
    )
    for place, name in named:
        if place.rpartition("/")[2] == EXPORTED_AS:
            return f"exported by archfind from {name}"
    parts = [cls] if cls else []
    names = dict.fromkeys(name for _, name in whole if name != cls)
    if names:
        first, *others = names
        parts.append(f"{writer} {first}".strip())
        if others:
            parts[-1] += f" ({', '.join(others[:3])})"
    text = ", ".join(parts)
    on = ", ".join(dict.fromkeys(name for _, name in inner))
    if on:
        text = f"{text} on {on}" if text else f"{writer} on {on}".strip()
    return text
