"""What no tensor shows of a solved config: from the file's own claims, the public model with the
same sizes, else the type's defaults. On the cold path of `archfind guess`."""

from __future__ import annotations

from archfind.classes.score import keeps_tensors
from archfind.classes.shown_values import leaves_by_source
from archfind.classes.templates import DEFAULT
from archfind.formats.side_files import plausible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from archfind.classes.configured import Configured
    from archfind.classes.notation import Family
    from archfind.classes.score import Solution
    from archfind.types import TensorSpec

    Index = Mapping[str, TensorSpec]

# What people change in a public model without making it another one.
_RESIZED = frozenset(("num_labels", "vocab_size", "tie_word_embeddings", "init.add_pooling_layer"))
_MANY = 4_000  # tensors: of more, what isn't it anyway isn't worth its time
_HEAD_SIZES = (64, 128, 80, 96, 256, 32, 112, 160, 72, 48, 40, 16, 8)


def completed_leaves(
    index: Index, block: Configured, solution: Solution, claims: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str], str]:
    """Every leaf with its value and where that is from; the public model whose sizes these are."""
    family = block.family
    values = dict(solution.values)
    solution.solved = leaves_by_source(index, family, solution)
    sources = dict.fromkeys(solution.solved, "shape")
    preset = same_public_model(block, solution)
    facts = family.presets.get(preset, {}) if preset else {}
    stated = block.type.presets.get(preset, {})
    told = {p: v for p, v in stated.items() if p not in solution.solved and p != "class"}
    claimed = plausible(claims, {**stated, **family.leaves})
    claimed = {p: v for p, v in claimed.items() if _divides(p, v, values)}
    claimed = _with_head_sizes(claimed, values)
    for source, some in (("default", facts), ("preset", told), ("file", claimed)):
        # Heads and what each has of a width are one size: neither can be said without the other.
        free = {p: v for p, v in some.items() if p not in solution.solved and p != "class"}
        if free and _keep(family, solution, values, free):
            values |= free
            sources |= dict.fromkeys(free, source)
            continue
        for path, value in free.items():
            if _keep(family, solution, values, {path: value}):
                values[path], sources[path] = value, source
    for path in values:
        sources.setdefault(path, "default")
    if not preset and (solution.score == 1 or len(index) <= _MANY):
        _divided(block, values, sources, solution)
    return values, sources, preset


def _divides(path: str, value: object, values: Mapping[str, Any]) -> bool:
    """Whether a claimed count of heads may be one, where heads have no size of their own."""
    root, dot, name = path.rpartition(".")
    if name not in _HEADS or f"{root}{dot}head_dim" in values:
        return True
    widths = (values.get(f"{root}{dot}{width}") for width in _WIDTHS)
    return (
        type(value) is int
        and value > 0
        and not any(width % value for width in widths if type(width) is int)
    )


def _with_head_sizes(claimed: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Claims with the head sizes that they leave to the library, which divides a width by them."""
    more: dict[str, Any] = {}
    for path, heads in claimed.items():
        root, name = path[: path.rfind(".") + 1], path.rpartition(".")[2]
        width, size = values.get(f"{root}hidden_size"), f"{root}head_dim"
        if name != "num_attention_heads" or size not in values or size in claimed:
            continue
        if type(width) is int and type(heads) is int and heads > 0 and width % heads == 0:
            more[size] = width // heads
    return {**claimed, **more}


def _keep(
    family: Family, solution: Solution, values: Mapping[str, Any], some: Mapping[str, Any]
) -> bool:
    """Whether values leave the tensors as they are."""
    if all(
        path not in family.options
        or (values.get(path) == value and type(values.get(path)) is type(value))
        for path, value in some.items()
    ):
        return True
    if not solution.rows:
        return False
    return keeps_tensors(family, solution, {**values, **some}, some) is True


def same_public_model(block: Configured, solution: Solution) -> str:
    """The public model with every size that the file shows, its vocabulary and labels aside; of
    several, one whose vocabulary is the file's, then one of the same class."""
    best, most = "", (-1, False)
    for name, facts in block.family.presets.items():
        if name == DEFAULT:
            continue
        wrong = [
            path
            for path in solution.solved
            if path in facts and facts[path] != solution.values[path] and path not in _RESIZED
        ]
        agreeing = sum(facts.get(path) == solution.values[path] for path in solution.solved)
        stated = block.type.presets[name].get("class")
        if not wrong and (agreeing, stated == block.cls) > most:
            best, most = name, (agreeing, stated == block.cls)
    return best


def _divided(
    block: Configured, values: dict[str, Any], sources: dict[str, str], solution: Solution
) -> None:
    """Head counts that no tensor shows, as many as the usual head sizes give."""
    family = block.family
    for path in [p for p in values if p.rpartition(".")[2] in _WIDTHS]:
        root = path.rpartition(".")[0]
        dot = f"{root}." if root else ""
        width = values[path]
        for name in _HEADS:
            heads = f"{dot}{name}"
            if heads not in values or sources.get(heads) in ("shape", "file"):
                continue
            if sources.get(path) != "shape" or type(width) is not int:
                continue
            default = family.leaves.get(path), family.leaves.get(heads)
            if width == default[0] or type(default[1]) is not int or not default[1]:
                continue
            usual = [default[0] // default[1] if type(default[0]) is int else 64, *_HEAD_SIZES]
            for size in usual:
                if size and width % size == 0 and width // size > 0:
                    value = width // size
                    grouped = f"{dot}num_key_value_heads"
                    both = {heads: value}
                    if sources.get(grouped) == "default" and grouped in values:
                        both[grouped] = value
                    fitting = [
                        m for m in (both, {heads: value}) if _keep(family, solution, values, m)
                    ]
                    if fitting:
                        values |= fitting[0]
                        break


_WIDTHS = ("hidden_size", "d_model", "n_embd", "dim", "embed_dim")
_HEADS = (
    "num_attention_heads encoder_attention_heads decoder_attention_heads n_head n_heads num_heads"
).split()
