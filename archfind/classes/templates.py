"""A state dict as every class of transformers that is held against it sees it: read once. On the
cold path of `archfind guess`."""

from __future__ import annotations

import re

from archfind.classes.notation import numbered_template
from archfind.classes.numbered import joined_key
from archfind.classes.thinned import thinned
from archfind.state_dicts.canonical import DERIVED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from archfind.types import TensorSpec
    from archfind.work import Work

    Index = Mapping[str, TensorSpec]

DEFAULT = "(default)"  # the type's own defaults, as a preset
_NUMBER = re.compile(r"\d+")

# Buffers that older versions of the library saved, and newer ones make by themselves.
STALE = frozenset(
    "position_ids token_type_ids inv_freq original_inv_freq masked_bias cos_cached sin_cached "
    "rotary_emb embed_positions".split()
)
MANY = 4_000  # tensors, from which on a class is solved from some of them only


def is_stale(key: str, spec: TensorSpec) -> bool:
    """Whether a tensor is one that the library once saved: a mask, a table of positions."""
    last = key.rpartition(".")[2]
    if last in STALE or last in DERIVED:
        return True
    # GPT-2's causal masks: `h.0.attn.bias` [1, 1, 1024, 1024].
    return last == "bias" and len(spec.shape) == 4 and spec.shape[:2] == (1, 1)


class StateDict:
    """Tensors by key; `templates` are those of its keys, each with the first key that has it, and
    `some` is the index without those amid its `rows`: layers that are alike, and in a large file
    what repeats within layers."""

    __slots__ = ("_stale", "index", "rows", "some", "templates")

    def __init__(self, index: Index) -> None:
        self.index = index
        self.some, self.rows = thinned(index, len(index) > MANY)
        self.templates = templates_of(self.some)
        stale = {found for found, key in self.templates.items() if is_stale(key, index[key])}
        self._stale = (
            {key: found for key in index if (found := numbered_template(key)) in stale}
            if stale
            else {}
        )

    def literal(self, prefix: str) -> str | None:
        """The prefix that keys have whose templates start with one ("owlv#."); None where they have
        several."""
        if "#" not in prefix:
            return prefix
        depth = prefix.count(".")
        some = (key for found, key in self.templates.items() if found.startswith(prefix))
        names = {".".join(key.split(".")[:depth]) for key in some}
        return f"{names.pop()}." if len(names) == 1 else None

    def without_stale(self, templates: Collection[str]) -> dict[str, TensorSpec]:
        """Its tensors, stale ones only where a class has them itself."""
        left = {key for key, found in self._stale.items() if found not in templates}
        if not left:
            return dict(self.index)
        return {key: spec for key, spec in self.index.items() if key not in left}


def state_dict_templates(index: Index, work: Work) -> StateDict:
    """The tensors as a StateDict, made once for a file that is asked about again."""
    asked_for = "state dict", id(index)  # which it keeps
    held: StateDict | None = work.kept.get(asked_for)
    if held is None:
        held = work.kept[asked_for] = StateDict(index)
    return held


def templates_of(index: Mapping[str, TensorSpec]) -> dict[str, str]:
    """The key templates of a state dict, each with the first key that has it."""
    found: dict[str, str] = {}
    for key in index:
        found.setdefault(_NUMBER.sub("#", joined_key(key)), key)
    return found
