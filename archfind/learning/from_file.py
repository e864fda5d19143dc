"""A checkpoint -> its keys and shapes as a signature of the user's own. No code is run, and neither
torch nor numpy is imported."""

from __future__ import annotations

import os

from archfind import formats
from archfind.database.grouping import group
from archfind.database.notation import CLASSES, Line, Size
from archfind.database.user_text import UserText, check_name, parsed_signature
from archfind.errors import SignatureError
from archfind.escape import escape
from archfind.evidence.other_files import kind_of_checkpoint, missing_shards_note
from archfind.matching.parts import common_prefix, resolve_part
from archfind.state_dicts.canonical import DERIVED, kind, networks, strip, training_readings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from archfind.types import Canonical, Checkpoint, TensorSpec

    Index = Mapping[str, TensorSpec]

_FEWEST = 8  # tensors beside a head for its size to be left open: fewer are any network's
_HEADS = frozenset(
    "fc head heads classifier linear last_linear logits output out output_layer fc_out".split()
)
_NAMED = 20  # parts


def record_of(path: str, name: str, part: str = "") -> UserText:
    """The signature of the state dict in a file, wrappers and prefixes aside. SignatureError where
    the file holds no network or several, or keys that a signature can't say."""
    check_name(name)
    checkpoint = formats.open(path)
    canonical = _network(checkpoint, part)
    canonical = strip(canonical, common_prefix(canonical.index))
    index = canonical.index
    head = _head(index)
    lines: dict[str, Line] = {}
    classes = 0
    for key, spec in index.items():
        size: tuple[int | Size, ...] = spec.shape
        if head and key.startswith(f"{head}."):
            classes = spec.shape[0]
            size = (Size({(CLASSES,): 1}), *spec.shape[1:])
        condition = CLASSES if head and key.startswith(f"{head}.") else ""
        lines[key] = Line(key, size, kind(spec), condition)
    fields = {CLASSES: classes} if head else {}
    source = escape(os.path.basename(path), 100)
    text = UserText(name, tuple(group(lines)), source, fields=fields)
    try:
        made = parsed_signature(text.written().encode())
    except SignatureError as error:
        raise SignatureError(f"no signature can be made of it: {error.message}", path) from error
    shapes = {key: (spec.shape, kind(spec)) for key, spec in index.items()}
    if made.tensors() != shapes:
        odd = next(key for key in index if made.tensors().get(key) != shapes[key])
        raise SignatureError(f"a signature can't say the key {escape(odd, 80)!r}", path)
    return text


def _network(checkpoint: Checkpoint, part: str) -> Canonical:
    path = checkpoint.path
    what = kind_of_checkpoint(checkpoint)
    if what is not None:
        raise SignatureError(f"it is {what.words}: no network to record", path)
    if missing_shards_note(checkpoint):
        raise SignatureError(missing_shards_note(checkpoint), path)
    held = networks(checkpoint)
    if not held:
        raise SignatureError("it holds no state dict", path)
    wanted = resolve_part(part, held) if part else next(iter(held)) if len(held) == 1 else ""
    if wanted not in held:
        names = ", ".join(escape(name, 80) for name in list(held)[:_NAMED])
        problem = f"it has no part {escape(part, 80)!r}" if part else "it holds several networks"
        raise SignatureError(f"{problem}; --part chooses one of {names}", path)
    return next(iter(training_readings(held[wanted])))


def _head(index: Index) -> str:
    """The module that makes the outputs, where one can be told: a Linear, or a convolution of one
    pixel, that stands last in the module's order or alone has a head's name. "" for none."""
    floats = {k: s for k, s in index.items() if kind(s) == "float" and not _is_derived(k)}
    modules = dict.fromkeys(key.rpartition(".")[0] for key in floats)
    last = next(reversed(modules), "")
    if list(floats) == sorted(floats):  # a format that sorts keys says nothing of their order
        named = [name for name in modules if name.rpartition(".")[2] in _HEADS]
        last = named[0] if len(named) == 1 else ""
    held = {key: spec for key, spec in floats.items() if key.startswith(f"{last}.")}
    weight = held.get(f"{last}.weight")
    bias = held.get(f"{last}.bias")
    if not last or weight is None or len(held) != 1 + (bias is not None):
        return ""
    is_matrix = len(weight.shape) >= 2 and all(size == 1 for size in weight.shape[2:])
    fits = bias is None or bias.shape == weight.shape[:1]
    return last if is_matrix and fits and len(floats) - len(held) >= _FEWEST else ""


def _is_derived(key: str) -> bool:
    return key.rpartition(".")[2] in DERIVED
