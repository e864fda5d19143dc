"""What a transformers class computes with, and no tensor shows: on the cold path of
`archfind guess`.

A public model with just the file's sizes fixes it, and so does a config with its type, since the
library fills in what such a config leaves out. Else the type's defaults stand for it, which other
people's models needn't have.
"""

from __future__ import annotations

from archfind.evidence.origins import origin_of_keys
from archfind.matching.dialects import FOREIGN
from archfind.types import Assumed, Setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from archfind.evidence.claims import Claims
    from archfind.evidence.origins import Origin
    from archfind.matching.solved_class import Solved

_ACTIVATIONS = ("gelu", "gelu_new", "relu", "silu", "quick_gelu", "tanh")
_EPS = (1e-12, 1e-6, 1e-5)
_THETA = (10000.0, 500000.0, 1000000.0)
_HEAD_SIZES = (64, 32, 128, 80, 96, 16, 8)
_WIDTHS = ("hidden_size", "d_model", "n_embd", "dim", "embed_dim")
_WORDS = ("head", "_act", "activation", "theta", "window", "eps", "scale", "stride")
_SILENT = ("init", "summary", "drop", "num_labels")
_FEW = 6  # alternatives that are named


def assumed_of_class(one: Solved, claims: Claims) -> tuple[Assumed, ...]:
    """What is assumed about a class that fits, the fields first that its tensors would show of
    other networks."""
    code = foreign_code(one)
    found = _of_other_code(one, code)
    refused = claims.refused(one.block.family.leaves)  # what can't be read isn't told
    refused += _not_taken(one.match.config, claims)
    is_told = claims.model_type == one.block.type.name and not refused
    if one.preset or is_told:
        return tuple(found)
    confirmed = code.confirms if code is not None else ()
    named = {item.place for item in found}.union(confirmed)
    config = one.match.config
    for path, setting in config.items():
        words = path.rpartition(".")[2]
        if setting.source != "default" or setting.value is None or path in named:
            continue
        if any(word in words for word in _WORDS) and not any(w in path for w in _SILENT):
            found.append(Assumed(path, path, setting.value, _others(config, path, setting.value)))
    assert one.match.pretrained is not None
    what = f"fields of {one.match.pretrained.config} that no tensor shows"
    if "config" not in confirmed:
        found.append(Assumed("config", what, "defaults"))
    return tuple(found)


def _not_taken(config: Mapping[str, Setting], claims: Claims) -> list[str]:
    """Claims in whose place a default had to stand, as the tensors are of other sizes with them."""
    return [
        path
        for path, value in claims.fields.items()
        if path in config and config[path].source == "default" and config[path].value != value
        if path.rpartition(".")[2] != "num_labels"
    ]


def told_by_dialect(one: Solved) -> dict[str, Setting]:
    """Fields that the code computes with from which the file's names are."""
    items = _of_other_code(one, foreign_code(one))
    return {item.place: Setting(item.value, "assumed") for item in items}


def foreign_code(one: Solved) -> Origin | None:
    """Whose names a file has that were led back to the library's."""
    canonical = one.canonical
    if canonical is None or not any(FOREIGN in step.detail for step in canonical.steps):
        return None
    return origin_of_keys(canonical.checkpoint.index)


def _of_other_code(one: Solved, code: Origin | None) -> list[Assumed]:
    """What a project's configs decide of the class that it wrote itself."""
    if code is None:
        return []
    return [
        Assumed(place, f"{place} in {code.name} code", value, others)
        for place, value, others in code.fields
        if one.match.config.get(place) is None or one.match.config[place].source != "file"
    ]


def _others(config: Mapping[str, Setting], path: str, value: object) -> tuple[object, ...]:
    """Other values of a field that a class is known to be used with."""
    name = path.rpartition(".")[2]
    if isinstance(value, bool):
        return (not value,)
    if "_act" in name or "activation" in name:
        return tuple(other for other in _ACTIVATIONS if other != value)
    if "eps" in name:
        return tuple(other for other in _EPS if other != value)
    if "theta" in name:
        return tuple(other for other in _THETA if other != value)
    root = path[: len(path) - len(name)]
    widths = [config[root + w].value for w in _WIDTHS if root + w in config]
    width = next((one for one in widths if type(one) is int), 0)
    if not name.endswith("heads") and not name.endswith("n_head"):
        return ()
    assert isinstance(width, int)
    counts = dict.fromkeys(width // size for size in _HEAD_SIZES if width and width % size == 0)
    return tuple(count for count in counts if count and count != value)[:_FEW]
