"""Networks that the library has a class for, under their authors' own names: OpenAI's CLIP and
Whisper, LLaMA's consolidated files, nanoGPT. A reading renames the keys; a weight that is another
way round, or three in one, becomes views of the file's.

What the names stand for was read off both networks' definitions: github.com/openai/CLIP
(clip/model.py), openai/whisper (whisper/model.py), meta-llama/llama (llama/model.py),
karpathy/nanoGPT (model.py). On the cold path of `archfind guess`.
"""

from __future__ import annotations

import re

from archfind.evidence.said import fields_said, words_said
from archfind.frozen import replace
from archfind.types import Piece, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from archfind.types import Canonical, TensorSpec

    Index = Mapping[str, TensorSpec]

FOREIGN = "keys -> the library's"  # in the step that says whose names were led back
_HEADS = 1024  # of one layer; the largest networks have 128

Rules = tuple[tuple[str, str, str], ...]  # what a key is, what it becomes, how; first that fits

_CLIP_BLOCK: Rules = (
    (r"ln_(\d)\.", r"layer_norm\1.", ""),
    (r"mlp\.c_fc\.", "mlp.fc1.", ""),
    (r"mlp\.c_proj\.", "mlp.fc2.", ""),
    (r"attn\.out_proj\.", "self_attn.out_proj.", ""),
    (r"attn\.in_proj_(weight|bias)", r"self_attn.{}_proj.\1", "qkv"),
)
_CLIP: Rules = (
    (r"visual\.class_embedding", "vision_model.embeddings.class_embedding", ""),
    (r"visual\.conv1\.", "vision_model.embeddings.patch_embedding.", ""),
    (r"visual\.positional_embedding", "vision_model.embeddings.position_embedding.weight", ""),
    (r"visual\.ln_pre\.", "vision_model.pre_layrnorm.", ""),
    (r"visual\.ln_post\.", "vision_model.post_layernorm.", ""),
    (r"visual\.proj$", "visual_projection.weight", "turned"),
    *(
        (rf"{head}transformer\.resblocks\.(\d+)\.{own}", rf"{tower}.encoder.layers.\1.{to}", how)
        for head, tower in ((r"visual\.", "vision_model"), ("", "text_model"))
        for own, to, how in ((own, to.replace(r"\1", r"\2"), how) for own, to, how in _CLIP_BLOCK)
    ),
    (r"token_embedding\.", "text_model.embeddings.token_embedding.", ""),
    (r"positional_embedding", "text_model.embeddings.position_embedding.weight", ""),
    (r"ln_final\.", "text_model.final_layer_norm.", ""),
    (r"text_projection$", "text_projection.weight", "turned"),
    (r"logit_scale$", "logit_scale", ""),
    (r"(input_resolution|context_length|vocab_size)$", "", ""),
)
_WHISPER: Rules = (
    (r"(encoder|decoder)\.positional_embedding", r"model.\1.embed_positions.weight", ""),
    (r"decoder\.token_embedding\.", "model.decoder.embed_tokens.", ""),
    (r"encoder\.(conv\d)\.", r"model.encoder.\1.", ""),
    (r"encoder\.ln_post\.", "model.encoder.layer_norm.", ""),
    (r"decoder\.ln\.", "model.decoder.layer_norm.", ""),
    *(
        (rf"(\w+)\.blocks\.(\d+)\.{own}\.", rf"model.\1.layers.\2.{to}.", "")
        for own, to in (
            *(
                (rf"{own}\.{part}", f"{to}.{name}_proj")
                for own, to in (("attn", "self_attn"), ("cross_attn", "encoder_attn"))
                for part, name in (("query", "q"), ("key", "k"), ("value", "v"), ("out", "out"))
            ),
            ("attn_ln", "self_attn_layer_norm"),
            ("cross_attn_ln", "encoder_attn_layer_norm"),
            (r"mlp\.0", "fc1"),
            (r"mlp\.2", "fc2"),
            ("mlp_ln", "final_layer_norm"),
        )
    ),
)
_LLAMA: Rules = (
    (r"tok_embeddings\.", "model.embed_tokens.", ""),
    (r"norm\.", "model.norm.", ""),
    (r"output\.", "lm_head.", ""),
    (r"rope\.freqs", "", ""),
    *(
        (rf"layers\.(\d+)\.{own}\.", rf"model.layers.\1.{to}.", how)
        for own, to, how in (
            (r"attention\.wq", "self_attn.q_proj", "rotary"),
            (r"attention\.wk", "self_attn.k_proj", "rotary"),
            (r"attention\.wv", "self_attn.v_proj", ""),
            (r"attention\.wo", "self_attn.o_proj", ""),
            (r"feed_forward\.w1", "mlp.gate_proj", ""),
            (r"feed_forward\.w2", "mlp.down_proj", ""),
            (r"feed_forward\.w3", "mlp.up_proj", ""),
            ("attention_norm", "input_layernorm", ""),
            ("ffn_norm", "post_attention_layernorm", ""),
        )
    ),
)
_NANOGPT: Rules = (
    (r"(transformer\.h\.\d+\.(?:attn|mlp)\.c_\w+\.weight)", r"\1", "turned"),
    (r"(transformer\..*|lm_head\.weight)", r"\1", ""),
)


def dialect(canonical: Canonical) -> Canonical | None:
    """The state dict under the library's names where it has those of another source."""
    index = canonical.index
    for name, there, fits, rules in _DIALECTS:
        if all(key in index for key in there) and fits(index):
            return _renamed(canonical, name, rules)
    return None


def _renamed(canonical: Canonical, name: str, rules: Rules) -> Canonical | None:
    compiled = [(re.compile(own), to, how) for own, to, how in rules]
    made: dict[str, TensorSpec] = {}
    origin: dict[str, str] = {}
    aside = list(canonical.aside)
    size = _told_size(canonical) or _head_size(canonical.index)
    for key, spec in canonical.index.items():
        found = next(((m, to, how) for own, to, how in compiled if (m := own.match(key))), None)
        if found is None or key in canonical.merged:
            return None
        matched, to, how = found
        if not to:
            aside.append(canonical.origin[key])
            continue
        whole = matched.expand(to) + key[matched.end() :]
        for new, view in _views(whole, spec, how, size):
            made[new], origin[new] = view, canonical.origin[key]
    step = Step("rename", f"{name} {FOREIGN}")
    return replace(
        canonical,
        index=made,
        origin=origin,
        aside=tuple(aside),
        steps=(*canonical.steps, step),
    )


def _views(key: str, spec: TensorSpec, how: str, size: int) -> Iterator[tuple[str, TensorSpec]]:
    """What one tensor of the file is in the library's network."""
    if how == "turned" and len(spec.shape) == 2:
        stride = _strides(spec)
        yield key, replace(spec, shape=spec.shape[::-1], stride=stride[::-1])
    elif how == "qkv" and spec.shape:
        rows = spec.shape[0] // 3
        for number, name in enumerate("qkv"):
            yield key.format(name), _rows(spec, number * rows, rows, 1)
    elif how == "rotary" and size and spec.shape and _are_heads(spec.shape[0], size):
        yield key, _halved(spec, size)
    else:
        yield key, spec


def _are_heads(rows: int, size: int) -> bool:
    """Whether the rows are those of so many heads as a network may have: each becomes pieces."""
    return rows % size == 0 and rows <= _HEADS * size


def _strides(spec: TensorSpec) -> tuple[int, ...]:
    if spec.stride is not None:
        return spec.stride
    found: list[int] = []
    step = 1
    for size in reversed(spec.shape):
        found.append(step)
        step *= size
    return tuple(reversed(found))


def _rows(spec: TensorSpec, first: int, count: int, every: int) -> TensorSpec:
    """`count` rows of a matrix from `first` on, each `every`th."""
    stride = _strides(spec)
    return replace(
        spec,
        shape=(count, *spec.shape[1:]),
        offset=spec.offset + first * stride[0],
        stride=(stride[0] * every, *stride[1:]),
    )


def _halved(spec: TensorSpec, size: int) -> TensorSpec:
    """Heads whose rows turn in pairs, as the library has them: the first of all pairs, then the
    second."""
    parts = spec.pieces or (Piece((0,) * len(spec.shape), spec),)
    made: list[Piece] = []
    for piece in parts:
        if piece.spec.shape[0] % size or len(piece.at) != len(spec.shape):
            return spec
        for row in range(0, piece.spec.shape[0], size):
            for odd in (0, 1):
                at = (piece.at[0] + row + odd * (size // 2), *piece.at[1:])
                made.append(Piece(at, _rows(piece.spec, row + odd, size // 2, 2)))
    return replace(spec, pieces=tuple(made), stride=None, offset=0, applied=())


def _told_size(canonical: Canonical) -> int:
    """Rows of one of LLaMA's heads by the count of heads that the file, or the params.json beside
    it, says; 0 where none does."""
    rows = _first_size(canonical.index, "layers.0.attention.wq.weight")
    count = fields_said(words_said(canonical.checkpoint)).get("n_heads") if rows else None
    return rows // count if type(count) is int and 0 < count <= rows and not rows % count else 0


def _head_size(index: Index) -> int:
    """Rows of one of LLaMA's heads: twice its frequencies; where the file has none, a model with
    fewer heads of keys has eight, and the others' heads are of 128."""
    freqs = _first_size(index, "rope.freqs")
    if freqs:
        return 2 * freqs
    keys, queries = (_first_size(index, f"layers.0.attention.{n}.weight") for n in ("wk", "wq"))
    if not keys or not queries:
        return 0
    return keys // 8 if keys < queries else 128


def _first_size(index: Index, key: str) -> int:
    """0 where there is no such tensor, or it's a single number."""
    return index[key].shape[0] if key in index and index[key].shape else 0


def _always(index: Index) -> bool:
    return True


def _is_turned(index: Index) -> bool:
    shape = index["transformer.h.0.attn.c_attn.weight"].shape
    return len(shape) == 2 and shape[0] == 3 * shape[1]


_DIALECTS: tuple[tuple[str, tuple[str, ...], Callable[[Index], bool], Rules], ...] = (
    (
        "OpenAI CLIP's",
        ("visual.transformer.resblocks.0.attn.in_proj_weight", "token_embedding.weight"),
        _always,
        _CLIP,
    ),
    (
        "OpenAI Whisper's",
        ("encoder.blocks.0.attn.query.weight", "decoder.blocks.0.cross_attn.query.weight"),
        _always,
        _WHISPER,
    ),
    (
        "LLaMA's own",
        ("tok_embeddings.weight", "layers.0.attention.wq.weight", "layers.0.attention.wk.weight"),
        _always,
        _LLAMA,
    ),
    ("nanoGPT's", ("transformer.h.0.attn.c_attn.weight",), _is_turned, _NANOGPT),
)
