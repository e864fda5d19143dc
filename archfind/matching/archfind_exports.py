"""An .onnx that archfind wrote: its metadata says which network it was exported from, and its
constants, whose names exporters fold away, are held against that network's. On the cold path of
`archfind guess`."""

from __future__ import annotations

from archfind.database.notation import Size
from archfind.evidence.said import EXPORTED_AS
from archfind.formats.side_files import claimed_word, like, object_in
from archfind.frozen import replace
from archfind.matching.compare import condition_holds
from archfind.types import Assumed, Canonical, Entry, Guess, Match, Pretrained, Setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from archfind.database.entries import Database, Signature
    from archfind.types import Checkpoint

_AT = "metadata_props/"
_SHARE = 0.9  # of the numbers in the graph's matrices must be the network's


def exported(checkpoint: Checkpoint, database: Database) -> Guess | None:
    """The network that archfind exported the file from; None where it says nothing of it, or its
    constants aren't that network's."""
    name = claimed_word(checkpoint.hints.get(f"{_AT}{EXPORTED_AS}"))
    if checkpoint.format != "onnx" or not name:
        return None
    texts = (checkpoint.hints.get(f"{_AT}archfind.{part}") for part in ("config", "build"))
    config, build = (object_in(text) if isinstance(text, str) else {} for text in texts)
    settings = {
        place: Setting(one["value"], "file")
        for place, one in config.items()
        if isinstance(one, dict) and _is_plain(one.get("value"))
    }
    whole = Canonical(checkpoint, checkpoint.index, {key: key for key in checkpoint.index})
    if name.startswith("transformers/"):
        kind = claimed_word(checkpoint.hints.get(f"{_AT}archfind.model_type")) or ""
        match = _configured(name, kind, settings, build)
        return Guess(whole, "exact", (_unproven(match),), "file") if match is not None else None
    for number in database.named(name):
        signature = database.signature(number)
        entry = next(one.entry for one in signature.members if name in (one.entry.id,))
        fields = {
            k: one
            for k, one in settings.items()
            if k in entry.fields and like(one.value, entry.fields[k]) is not None
        }
        registered = build.get("callable") == entry.callable and len(fields) == len(settings)
        match = Match(entry, fields if registered else settings, 0, 0)
        if not registered:
            return Guess(whole, "exact", (_unproven(match),), "file")
        fitting, total = _fitting(checkpoint, signature, {**entry.fields, **_values(fields)})
        if total and fitting >= _SHARE * total:
            return Guess(whole, "exact", (match,), "file")
    return None


def _configured(
    name: str, kind: str, settings: Mapping[str, Setting], build: Mapping[str, object]
) -> Match | None:
    """A transformers class with the config that was written."""
    config = build.get("config")
    made = claimed_word(config.get("callable")) if isinstance(config, dict) else None
    cls = name.partition("/")[2]
    if not made or not cls.isidentifier() or not made.rpartition(".")[2].isidentifier():
        return None
    entry = Entry("transformers", cls, f"transformers.{cls}", f"transformers.{cls}", {}, {}, "")
    pretrained = Pretrained(kind, made.rpartition(".")[2])
    return Match(entry, settings, 0, 0, pretrained=pretrained)


def _unproven(match: Match) -> Match:
    what = "that its constants are this network's, as archfind noted when it wrote them:"
    return replace(match, assumed=(Assumed("said", what, match.entry.id),))


def _fitting(
    checkpoint: Checkpoint, signature: Signature, fields: Mapping[str, object]
) -> tuple[int, int]:
    """How many numbers of the graph's matrices and kernels are in some of the network's, turned
    perhaps; and how many there are."""
    held: dict[tuple[int, ...], int] = {}
    for shape in signature.fixed.values():
        held[tuple(sorted(shape))] = held.get(tuple(sorted(shape)), 0) + 1
    for line in signature.free.values():
        if condition_holds(line.condition, fields):  # pyright: ignore[reportArgumentType]
            sizes = (n.value(fields) if isinstance(n, Size) else n for n in line.shape)  # pyright: ignore[reportArgumentType]
            shape = tuple(sorted(sizes))
            held[shape] = held.get(shape, 0) + 1
    fitting = total = 0
    for spec in checkpoint.index.values():
        shape, count = tuple(sorted(spec.shape)), 1
        if len(shape) < 2 or "float" not in spec.dtype:
            continue
        for size in shape:
            count *= size
        total += count
        if held.get(shape):
            held[shape] -= 1
            fitting += count
    return fitting, total


def _values(fields: Mapping[str, Setting]) -> dict[str, object]:
    return {name: setting.value for name, setting in fields.items()}


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return len(value) <= 1_000 and all(_is_plain(item) for item in value)
    return value is None or like(value, None) is not None
