"""Small configs of transformers' model types as people's own tests have them: widths of 32 to 64
that coincide, inner ones of 37, 99 words, 2 to 5 layers, 2 to 8 heads, 4 to 8 experts, images of 18
to 40 pixels, switches off their defaults. Built on meta, and their keys written as today's library
writes them, as the module has them, and as older files do that `from_pretrained` still takes."""

from __future__ import annotations

import contextlib
import copy
import io
import random
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from transformers import conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    rename_source_key,
    revert_weight_conversion,
)

from archfind.database.entries import signatures_folder
from archfind.learning.configs.bench import _unfilled, shrunk  # pyright: ignore
from archfind.learning.configs.harvest import Harvest
from archfind.probing.config import leaves_of_config, moved
from archfind.probing.probe import Moves, Shapes, on_meta
from archfind.probing.proposals import leaf_name
from archfind.providers import transformers as library

_HARVEST = Harvest(Path(signatures_folder()) / "transformers" / "types")
_TRIES = 10
_SECONDS = 10.0
_KEYS = 4_000
_SILENT = re.compile(
    r"drop|cache|output|return|token|init|loss|prob|scale|eps|std|gradient|tie_|is_encoder"
    r"|is_decoder|add_cross|deterministic|torch|fuse|amp|freeze|label|chunk|sampling|theta"
)
_HELD = re.compile(r"token|(^|_)ids?$|seed|version|interval|period|every|channels|stride|kernel")
_WIDTH = re.compile(
    r"hidden_size|d_model|embed_dim|n_embd|hidden_dim$|^dim$|^width$|model_dim|embedding_size"
)
_INNER = re.compile(r"intermediate|ffn|d_ff|d_inner|mlp_dim|feed_forward|n_inner")


def drawn(model_type: str, cls: str, draw: random.Random) -> tuple[Moves, Any] | None:
    """What of the type's config is moved, and the class built of that; None where the library
    refuses whatever is drawn. After a refusal less is moved: sizes that belong together stay."""
    base = base_of(model_type, cls)
    whole = leaves_of_config(base)
    made = library.classes(model_type)[cls]
    for tries in range(_TRIES + 1):
        moves = _moves(whole, draw, tries)
        if tries == _TRIES:  # the same few layers and experts as where its rules were learned
            small = leaves_of_config(shrunk(f"{model_type}/{cls}", base))
            moves = {p: v for p, v in small.items() if whole.get(p, ...) != v}
        try:
            config = library.config_of(model_type, moved(base, moves))
            if not library.is_divided(config):
                continue
            with _unfilled():
                module: Any = on_meta(partial(made, config), {}, _SECONDS)
            if not 0 < len(module.state_dict()) <= _KEYS:
                continue
            return moves, module
        except Exception:  # a library refuses values in its own ways
            continue
    return None


def base_of(model_type: str, cls: str) -> Any:
    """The type's default config, with what it lacks for a class to be built."""
    with contextlib.redirect_stdout(io.StringIO()):
        return _HARVEST.complete(model_type, cls, library.default_config(model_type))


def _moves(whole: dict[str, Any], draw: random.Random, tries: int) -> Moves:
    """New values for a config's leaves. Each nested config has a width of its own, which many of
    its sizes coincide with."""
    moves: Moves = {}
    shared = draw.choice((32, 32, 40, 48, 64))
    widths: dict[str, int] = {}
    heads: dict[str, int] = {}
    bold = tries < 6
    for path, value in whole.items():
        parts = path.split(".")
        root = ".".join(p for p in parts[:-1] if not p.isdigit() and p != parts[-1])
        name = leaf_name(path)
        if path.endswith("#") or _HELD.search(name):
            continue
        if isinstance(value, bool):
            if tries < 4 and not _SILENT.search(name) and draw.random() < 0.15:
                moves[path] = not value
            continue
        if type(value) is not int or value <= 1:
            continue
        width = widths.setdefault(root, shared if draw.random() < 0.7 else draw.choice((32, 64)))
        many = heads.setdefault(root, draw.choice((2, 4, 4, 8)))
        in_list = parts[-1].isdigit()
        new = _drawn(name, value, width, many, draw, in_list, bold)
        if new is not None and (tries < 8 or "layer" in name):
            moves[path] = new
    for path in [p for p in moves if leaf_name(p) == "image_size"]:
        patch = moves.get(f"{path[: -len('image_size')]}patch_size")
        if type(patch) is int:
            moves[path] = patch * draw.randint(-(-18 // patch), 40 // patch)
    return moves


def _drawn(
    name: str, value: int, width: int, heads: int, draw: random.Random, in_list: bool, bold: bool
) -> int | None:
    if name == "axial_pos_embds_dim":
        return width // 2
    if name == "axial_pos_shape":
        return draw.choice((4, 8))
    if "shared_layers" in name:
        return 1
    if "vocab" in name and value > 99:
        return 99
    if "per_tok" in name or "top_k" in name or "topk" in name:
        return min(value, 2)
    if "expert" in name and not re.search("size|dim|hidden|shared", name):
        return draw.choice((4, 6, 8)) if value >= 4 else None
    if "first_k_dense" in name:
        return 1
    if re.search(r"layer|depth|blocks?$|stages$", name) and "size" not in name and value < 200:
        return draw.randint(1, 2) if in_list else draw.randint(2, 5) if value > 1 else None
    if re.search(r"key_value_heads|kv_heads|num_groups", name):
        return draw.choice([n for n in (1, 2, 4, 8) if heads % n == 0]) if value > 1 else None
    if re.search(r"heads?$", name) and "head_dim" not in name and not in_list:
        return heads
    if re.search(r"head_dim|head_size", name):
        return max(8, width // heads)
    if "rank" in name:
        return draw.choice((8, 16, 32)) if value >= 16 else None
    if name == "image_size" or name.endswith("_image_size"):
        return draw.choice((18, 24, 30, 32, 36, 40)) if value >= 64 else None
    if name.endswith("patch_size"):
        return draw.choice((2, 4)) if value >= 4 else None
    if _INNER.search(name) and value >= 64:
        return draw.choice((37, 37, 37, 2 * width, width))
    if _WIDTH.search(name) and value >= 64 and not in_list:
        return width
    if _WIDTH.search(name) and in_list and value >= 32:
        return max(16, value // 8 // 8 * 8) if bold else None
    if "position" in name and value >= 128:
        return draw.choice((64, 128, 512))
    if bold and value >= 64 and not in_list and draw.random() < 0.5:
        return max(16, value // 8)
    return None


def written(module: Any, draw: random.Random) -> Iterator[tuple[str, Shapes]]:
    """Its keys and shapes as files have them, tied ones once: "module", the module's own;
    "published", as `save_pretrained` writes it today; "older", with all that the loading rules take
    away or rename; "based", with the prefix that its base network has inside of others."""
    tied = library.tied(module)
    state = module.state_dict()
    own = {k: t for k, t in state.items() if not (k in tied and tied[k] in state)}
    plain = _shapes(own)
    yield "module", plain
    today = _shapes(library.published(module, own))
    if today.keys() != plain.keys():
        yield "published", today
    if module.config.model_type == "timm_wrapper":
        return  # what is older are timm's own files
    older = _older(module, own)
    if older.keys() not in (plain.keys(), today.keys()) and _is_taken(module, older):
        yield "older", older
    prefix = str(getattr(module, "base_model_prefix", ""))
    if prefix and not hasattr(module, prefix) and draw.random() < 0.5:
        based = {f"{prefix}.{key}": spec for key, spec in plain.items()}
        if _is_taken(module, based):
            yield "based", based


def older(module: Any, own: dict[str, Any]) -> dict[str, Any]:
    """A state dict under the names that the loading rules take, every rule reversed."""
    with library._quiet():  # pyright: ignore[reportPrivateUsage]
        rules = conversion_mapping.get_model_conversion_mapping(module, add_legacy=False)
        module._weight_conversions = copy.deepcopy(rules) or None
        try:
            found = revert_weight_conversion(module, dict(own)) if rules else dict(own)
        finally:
            del module._weight_conversions
    return {_legacy(key): value for key, value in found.items()}


def _older(module: Any, own: dict[str, Any]) -> Shapes:
    try:
        return _shapes(older(module, own))
    except Exception:  # rules that can't be reversed
        return {}


def _legacy(key: str) -> str:
    for new, old in (
        ("LayerNorm.weight", "LayerNorm.gamma"),
        ("LayerNorm.bias", "LayerNorm.beta"),
        (".parametrizations.weight.original0", ".weight_g"),
        (".parametrizations.weight.original1", ".weight_v"),
    ):
        if key.endswith(new):
            return key[: -len(new)] + old
    return key


def _is_taken(module: Any, shapes: Shapes) -> bool:
    """Whether the library's loader finds a place in the module for every key."""
    rules = conversion_mapping.get_model_conversion_mapping(module)
    renamings = [r for r in rules if isinstance(r, WeightRenaming)]
    converters = [r for r in rules if isinstance(r, WeightConverter)]
    there: Any = module.state_dict()
    reached: set[str] = set()
    for key in shapes:
        new, pattern = rename_source_key(
            key, renamings, converters, module.base_model_prefix, there
        )
        if pattern is None and new not in there:
            return False
        reached.add(new)
    return bool(reached)


def _shapes(state: dict[str, Any]) -> Shapes:
    return {
        key: (tuple(t.shape), "float" if t.is_floating_point() else str(t.dtype)[6:])
        for key, t in state.items()
    }


def public_types() -> dict[str, list[str]]:
    """Every model type that has classes which can be imported, with these."""
    found: dict[str, list[str]] = {}
    for model_type in library.type_names():
        try:
            classes = sorted(library.classes(model_type))
        except Exception:  # one that needs another package
            continue
        if classes:
            found[model_type] = classes
    return found
