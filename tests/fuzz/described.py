"""A file as the fuzzer of `guess` sees it: keys, shapes and dtypes, and what it says beside them;
and the files that fuzzing starts from, none of which needs a model library."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from archfind.database import entries
from archfind.database.classes import families_beside as families_beside
from archfind.database.entries import Signature
from archfind.database.model_types import model_types_beside as types_beside
from archfind.database.notation import Size
from archfind.matching.compare import condition_holds

Tensor = tuple[str, tuple[int, ...], str]  # key, shape, dtype
Shapes = Mapping[str, tuple[tuple[int, ...], str]]

MOST = 100  # tensors of a seed: an execution should take a millisecond or a few
_COUNTED = ("layer", "depth", "block", "stage", "repeat", "num_res")


@dataclass(slots=True)
class File:
    """What is mutated. `config` is the config.json beside it, None where there is none; `choose`
    and `part` are the caller's arguments. `is_header`: it is written as a safetensors header and
    read."""

    tensors: list[Tensor]
    hints: dict[str, object] = field(default_factory=dict)
    config: object = None
    choose: str = ""
    part: str = ""
    is_header: bool = False
    is_tied: bool = False
    name: str = "x.safetensors"
    rules: int = -1  # the family or class that it is of, by its number in the database

    def copy(self) -> File:
        """Another with lists of its own; what is in them is never changed in place."""
        return File(
            list(self.tensors),
            dict(self.hints),
            self.config,
            self.choose,
            self.part,
            self.is_header,
            self.is_tied,
            self.name,
            self.rules,
        )


@functools.cache
def seeds(step: int = 1) -> tuple[File, ...]:
    """Small state dicts of every kind; with a `step` of more than one, every `step`th network of
    the databases."""
    made = [*_registered(step), *_with_other_arguments(step), *_of_transformers(step)]
    return tuple(made) + tuple(_pieces(step)) + tuple(written_by_hand())


# --- networks of libraries ---


def shapes_of(signature: Signature) -> Shapes:
    """A registered network's tensors, its fields at their defaults."""
    fields = signature.members[0].entry.fields
    made = {key: (shape, "float32") for key, shape in signature.fixed.items()}
    for key, line in signature.free.items():
        if condition_holds(line.condition, fields):
            sizes = tuple(n.value(fields) if isinstance(n, Size) else n for n in line.shape)
            made[key] = sizes, _dtype(line.dtype)
    return made


def _dtype(kind: str) -> str:
    return "float32" if kind == "float" else kind


def _file(shapes: Shapes) -> File:
    return File([(key, shape, dtype) for key, (shape, dtype) in shapes.items()])


def _registered(step: int) -> Iterator[File]:
    known = entries.default()
    for number in range(0, len(known), step):
        if known.sizes[number] <= MOST:
            yield _file(shapes_of(known.signature(number)))


def _pieces(step: int) -> Iterator[File]:
    """Runs of keys of larger networks."""
    known, draw = entries.default(), random.Random(step)
    for number in range(3, len(known), 24 * step):
        if known.sizes[number] > MOST:
            whole = _file(shapes_of(known.signature(number))).tensors
            length = draw.randrange(3, 60)
            start = draw.choice((0, len(whole) - length, draw.randrange(len(whole) - length)))
            yield File(whole[start : start + length])


def _with_other_arguments(step: int) -> Iterator[File]:
    """Networks of families, shallow, and with an argument or two as the class takes it as well."""
    families, draw = families_beside(entries.default().path), random.Random(step)
    assert families is not None
    for number in range(0, len(families), 2 * step):
        family = families.known(number).family
        name = draw.choice(list(family.presets))
        values = _shallow({**family.leaves, **family.presets[name]})
        for path in draw.sample(list(family.options), min(2, len(family.options))):
            moved = values | {path: draw.choice(family.options[path])}
            made = _expanded(family.program.tensors, moved)
            if made:
                file = _file(made)
                file.rules = number
                yield file


def _of_transformers(step: int) -> Iterator[File]:
    """Classes of every model type, shallow, some with the config that they have."""
    types, draw = types_beside(entries.default().path), random.Random(step)
    assert types is not None
    for number in range(0, len(types), 5 * step):
        block = types.block(number)
        values = _shallow(block.family.leaves)
        made = _expanded(block.family.program.tensors, values)
        if made:
            file = _file(made)
            file.rules = number
            if draw.random() < 0.3:
                file.config = {
                    "model_type": block.type.name,
                    "architectures": [block.cls],
                    **{path: value for path, value in values.items() if "." not in path},
                }
            yield file


def _shallow(values: Mapping[str, Any]) -> dict[str, Any]:
    """One of each block that is counted."""
    return {
        path: 1
        if type(value) is int and value > 1 and any(word in path for word in _COUNTED)
        else value
        for path, value in values.items()
    }


def _expanded(
    tensors: Callable[[Mapping[str, Any]], Iterable[tuple[str, tuple[int, ...], str]]],
    values: Mapping[str, Any],
) -> Shapes:
    """The tensors of values, nothing where they are too many or the rules refuse the values."""
    try:
        some = list(itertools.islice(tensors(values), MOST + 1))
    except Exception:  # a mixture that no network has
        return {}
    return {key: (shape, _dtype(d)) for key, shape, d in some} if len(some) <= MOST else {}


# --- other files ---


def _layers(pattern: str, shapes: Iterable[tuple[int, ...]], dtype: str = "float32") -> File:
    """`pattern` numbered, a tensor for each shape."""
    return File([(pattern.format(n), shape, dtype) for n, shape in enumerate(shapes)])


def written_by_hand() -> Iterator[File]:
    """Networks of nobody's library, adapters, optimizers, averages, packed layers, wrappers."""
    yield _layers("fc{}.weight", [(64, 784), (64, 64), (10, 64)])
    yield _layers("net.{}.weight", [(32, 3, 3, 3), (64, 32, 3, 3), (10, 64)])
    yield _layers("w{}", [(4, 4)] * 3)
    yield _layers("lstm.weight_ih_l{}", [(256, 64), (256, 64)])
    yield _layers("base_model.model.layers.{}.q_proj.lora_A.weight", [(8, 64)] * 4)
    yield _layers("lora_unet_down_blocks_{}_proj.lora_down.weight", [(8, 64)] * 4)
    yield _layers("optimizer/state/{}/exp_avg", [(64, 64), (64,)])
    yield _layers("blk.{}.attn_q.weight", [(64, 64)] * 3, "q4_0")
    yield _parts("parametrizations.weight.", original0=(64, 1), original1=(64, 64))
    yield _parts("", weight_g=(64, 1, 1, 1), weight_v=(64, 3, 3, 3), bias=(64,))
    yield _parts("", weight_orig=(64, 64), weight_u=(64,), weight_v=(64,))
    grouped = {"qweight": (8, 64), "qzeros": (1, 8), "scales": (1, 64)}
    yield _packed({**grouped, "g_idx": (64,)}, "int32")
    yield _packed({**grouped, "qweight": (64, 8)}, "int32")
    yield _packed({"weight": (64, 64), "SCB": (64,)}, "int8")
    state = {"absmax": (64,), "quant_map": (16,), "quant_state.bitsandbytes__nf4": (80,)}
    yield _packed({"weight": (2048, 1)} | {f"weight.{k}": s for k, s in state.items()}, "uint8")
    yield _packed({"weight": (64, 64), "weight_scale": (64, 1)}, "float8_e4m3fn")
    words = {"weight_packed": (64, 8), "weight_scale": (64, 1), "weight_shape": (2,)}
    yield _packed(words, "int32")
    yield _packed({"weight_packed": (64, 32), "weight_scale": (64, 4)}, "uint8")
    yield _packed({"_weight_qdata": (64, 64), "_weight_scale": (64,), "weight": (64, 64)}, "int8")
    yield _packed({"w_blocks": (4, 64, 2, 16), "w_scales": (4, 64, 2)}, "uint8")
    yield _packed({"weight": (64, 32), "weight_scale": (64, 4), "weight_scale_2": ()}, "uint8")
    wrapped = _layers("fc{}.weight", [(64, 784), (64, 64), (10, 64)]).tensors
    both = [(f"{top}/{k}", s, d) for top in ("params", "params_ema") for k, s, d in wrapped]
    yield File(both)
    yield File([*wrapped, *((f"model_ema.{k.replace('.', '')}", s, d) for k, s, d in wrapped)])
    yield File([*wrapped, *((f"ema_{k.replace('.', '_')}", s, d) for k, s, d in wrapped)])
    yield from _under_their_authors_names()


def _parts(above: str, **shapes: tuple[int, ...]) -> File:
    return File([(f"conv.{above}{name}", shape, "float32") for name, shape in shapes.items()])


def _packed(shapes: Mapping[str, tuple[int, ...]], dtype: str) -> File:
    """Two layers whose first tensor has the packed dtype."""
    first = next(iter(shapes))
    ints = ("qzeros", "g_idx", "weight_shape")
    kinds = {k: dtype if k == first else "int64" if k in ints else "float16" for k in shapes}
    kinds |= {k: dtype for k in ("qzeros",) if k in shapes}
    kinds |= {k: "uint8" for k in shapes if "quant_state" in k or k == "w_scales"}
    return File(
        [(f"model.layers.{n}.q_proj.{k}", s, kinds[k]) for n in (0, 1) for k, s in shapes.items()]
    )


def _under_their_authors_names() -> Iterator[File]:
    llama = {"tok_embeddings.weight": (100, 64), "norm.weight": (64,), "output.weight": (100, 64)}
    for own in ("wq", "wk", "wv", "wo"):
        llama[f"layers.0.attention.{own}.weight"] = (64, 64)
    for own, shape in (("w1", (96, 64)), ("w2", (64, 96)), ("w3", (96, 64))):
        llama[f"layers.0.feed_forward.{own}.weight"] = shape
    llama |= {"layers.0.attention_norm.weight": (64,), "layers.0.ffn_norm.weight": (64,)}
    yield File([(key, shape, "bfloat16") for key, shape in llama.items()])
    gpt = {"transformer.wte.weight": (100, 64), "transformer.wpe.weight": (32, 64)}
    for own, shape in (
        ("ln_1.weight", (64,)),
        ("attn.c_attn.weight", (192, 64)),
        ("attn.c_proj.weight", (64, 64)),
        ("ln_2.weight", (64,)),
        ("mlp.c_fc.weight", (256, 64)),
        ("mlp.c_proj.weight", (64, 256)),
    ):
        gpt[f"transformer.h.0.{own}"] = shape
    gpt |= {"transformer.ln_f.weight": (64,), "lm_head.weight": (100, 64)}
    yield File([(key, shape, "float32") for key, shape in gpt.items()])
    clip = {
        "visual.class_embedding": (64,),
        "visual.positional_embedding": (50, 64),
        "visual.proj": (64, 32),
        "visual.conv1.weight": (64, 3, 32, 32),
        "visual.transformer.resblocks.0.attn.in_proj_weight": (192, 64),
        "visual.transformer.resblocks.0.attn.in_proj_bias": (192,),
        "visual.transformer.resblocks.0.ln_1.weight": (64,),
        "transformer.resblocks.0.attn.in_proj_weight": (192, 64),
        "token_embedding.weight": (100, 64),
        "positional_embedding": (77, 64),
        "text_projection": (64, 32),
        "ln_final.weight": (64,),
        "logit_scale": (),
    }
    yield File([(key, shape, "float16") for key, shape in clip.items()])
