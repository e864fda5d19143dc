"""Mutations that know what a state dict is: numbers and levels of keys, layers, sizes, dtypes, and
claims beside them. Each changes a File in place."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

from .described import File, Tensor

Mutation = Callable[[File, random.Random, Sequence[File]], None]

LONGEST = 400  # tensors of a mutated file
_PIECES = 0.4  # of the files are a few tensors in a row, before anything else: they cost the least
_NUMBER = re.compile(r"(?<=[.a-z_])\d+|^\d+", re.ASCII)
_NUMBERS = (
    *("00", "007", "-1", "1e9", "0x1", "1_0", "+1", " 1", "²", "٣", "३", "᠐", "\uff11", ""),
    *(str((1 << n) + d) for n in (7, 8, 15, 16, 31, 32, 63, 64) for d in (-1, 0)),
    *("9" * n for n in (6, 9, 18, 19, 100, 1900)),
)
_SIZES = (0, 1, 2, 3, 5, 7, 8, 16, 31, 48, 64, 97, 127, 192, 255, 256, 768, 1000, 1024, 4095, 65537)
_HUGE = (10**15, 10**40, *((1 << n) + d for n in (31, 32, 53, 62, 63) for d in (-1, 0)))
_SEGMENTS = (
    *("", ".", "..", "/", "~", "~0", "~1", "#", "{i}", "{i<3}", "?", "0", "00", "-1", " ", "\t\n"),
    *(
        "\x1b[31m",
        "\ud800",
        "\u202e",
        "é",
        "x" * 300,
        "x" * 2_100,
        "0" * 300,
        "a." * 150,
        "a/" * 150,
    ),
    *("weight", "bias", "module", "_orig_mod", "parametrizations", "original0", "qweight", "SCB"),
    *("encoder", "layer", "blocks", "head", "fc", "model", "conv1", "bn1", "norm", "embeddings"),
)
_LEAVES = (
    *("weight", "bias", "running_mean", "running_var", "num_batches_tracked", "gamma", "beta"),
    *("weight_g", "weight_v", "weight_orig", "weight_u", "qweight", "qzeros", "scales", "g_idx"),
    *("SCB", "absmax", "weight_scale", "weight_packed", "weight_shape", "scale_weight", "lora_A"),
    *("parametrizations.weight.original0", "parametrizations.weight.original1", "_weight_qdata"),
    *("position_ids", "attn_mask", "relative_position_index", "inv_freq", "exp_avg", "step", ""),
)
_PREFIXES = (
    *("module.", "model.", "net.", "backbone.", "_orig_mod.", "state_dict/", "model/", "ema/"),
    *("params_ema/", "optimizer/state/", "generator.", "0.", "encoder.", "transformer.", ".", "/"),
    *("a.b.c.d.", "teacher.", "student.", "criterion.", "model_ema.", "ema_", "bert.", "vit."),
    *("base_model.model.", "diffusion_model.", "module.module.module.", "\x1b."),
)
_DTYPES = (
    *("float32", "float16", "bfloat16", "float64", "int64", "int32", "int8", "uint8", "bool"),
    *("complex64", "float8_e4m3fn", "qint8", "f99", "", "float", "q4_0", "object"),
)
_VALUES = (
    *(None, True, False, 0, 1, -1, 2, 12, 1 << 40, 10**400, 0.5, -0.0, 1e308, float("inf")),
    *("", "gelu", "\x1b[31m", "\ud800", "9" * 5000, [], {}, [[]], [1, 2], [None], ["x"]),
    *({"a": {"b": {}}}, {"#": 1}, {"0": 0}, [{"a": 1}], {"": ""}, [0] * 300),
)
_NAMES = (
    *("arch", "model", "model_name", "name", "architecture", "model_type", "architectures"),
    *("config", "hidden_size", "num_attention_heads", "num_hidden_layers", "vocab_size"),
    *("id2label", "num_labels", "num_classes", "head_dim", "layer_types", "rope_theta"),
    *("intermediate_size", "hidden_act", "image_size", "patch_size", "text_config", "backbone"),
    *("tie_word_embeddings", "quantization_config", "general.architecture", "args/arch"),
)
_FILES = (
    *("x.safetensors", "model-00002-of-00005.safetensors", "m-²-of-³.pth", "m-1-of-" + "9" * 99),
    *("\x1b[31m.pth", "\ud800.bin", "a b.pt", "-of-", "pytorch_model.bin", "x" * 200),
)
_CLAIMED = ("bert", "resnet50", "timm/resnet18", "llama", "vit", "BertModel", "vgg11", "nothing")


def mutated(file: File, draw: random.Random, others: Sequence[File]) -> File:
    """A copy with a few things changed."""
    made = file.copy()
    if draw.random() < _PIECES:
        _keep(made, draw, others)
    for _ in range(1 + int(draw.expovariate(0.9))):
        if made.tensors:
            draw.choices(_MUTATIONS, _WEIGHTS)[0](made, draw, others)
    del made.tensors[LONGEST:]
    return made


def _some(file: File, draw: random.Random) -> range | list[int]:
    """Places of the tensors that change together: one, a few, a run, or all of one module."""
    count, how = len(file.tensors), draw.randrange(4)
    at = draw.randrange(count)
    if how == 0:
        return [at]
    if how == 1:
        return sorted(draw.sample(range(count), min(count, 1 + draw.randrange(4))))
    if how == 2:
        return range(at, min(count, at + 1 + draw.randrange(12)))
    above = file.tensors[at][0].rpartition(".")[0].rpartition(".")[0]
    return [n for n, one in enumerate(file.tensors) if one[0].startswith(above)]


def _rename(file: File, some: Sequence[int], change: Callable[[str], str]) -> None:
    for at in some:
        key, shape, dtype = file.tensors[at]
        file.tensors[at] = change(key), shape, dtype


# --- keys ---


def _number(file: File, draw: random.Random, _: Sequence[File]) -> None:
    """A number in some keys becomes another."""
    to = draw.choice(_NUMBERS) if draw.random() < 0.4 else str(draw.randrange(40))
    _rename(file, _some(file, draw), lambda key: _NUMBER.sub(lambda _: to, key, count=1))


def _renumber(file: File, draw: random.Random, _: Sequence[File]) -> None:
    """All numbers of the keys move: gaps, shifts, the other way round."""
    how = draw.choice((lambda n: n + 1, lambda n: 2 * n, lambda n: 9 - n, lambda n: n // 2))
    _rename(
        file,
        range(len(file.tensors)),
        lambda key: _NUMBER.sub(lambda m: str(how(int(m[0]))) if len(m[0]) < 9 else m[0], key),
    )


def _level(file: File, draw: random.Random, _: Sequence[File]) -> None:
    """A level of keys is added, dropped, doubled or renamed."""
    how, at, word = draw.randrange(4), draw.randrange(5), draw.choice(_SEGMENTS)

    def change(key: str) -> str:
        parts = key.split(".")
        place = min(at, len(parts) - 1)
        if how == 0:
            parts.insert(place, word)
        elif how == 1:
            del parts[place]
        elif how == 2:
            parts.insert(place, parts[place])
        else:
            parts[place] = word
        return ".".join(parts)

    _rename(file, _some(file, draw), change)


def _word(file: File, draw: random.Random, _: Sequence[File]) -> None:
    """A word of one key is replaced wherever it stands."""
    old = draw.choice(draw.choice(file.tensors)[0].split("."))
    new = draw.choice(draw.choice(file.tensors)[0].split(".")) if draw.random() < 0.5 else "x"
    if old:
        _rename(file, range(len(file.tensors)), lambda key: key.replace(old, new))


def _prefix(file: File, draw: random.Random, _: Sequence[File]) -> None:
    """A prefix before all keys, or some, once or many times; or what all begin with taken away."""
    if draw.random() < 0.2:
        cut = file.tensors[0][0].find(".") + 1
        _rename(file, range(len(file.tensors)), lambda key: key[cut:])
        return
    head = draw.choice(_PREFIXES) * draw.choice((1, 1, 1, 1, 2, 3, 20))
    some = range(len(file.tensors)) if draw.random() < 0.7 else _some(file, draw)
    _rename(file, some, lambda key: head + key)


def _leaf(file: File, draw: random.Random, _: Sequence[File]) -> None:
    """The last word of some keys becomes another."""
    word = draw.choice(_LEAVES)
    _rename(file, _some(file, draw), lambda key: f"{key.rpartition('.')[0]}.{word}")


def _slash(file: File, draw: random.Random, _: Sequence[File]) -> None:
    """A dot becomes a level of a dict."""
    count = draw.choice((1, 1, 2, -1))
    _rename(file, _some(file, draw), lambda key: key.replace(".", "/", count))


# --- tensors ---


def _drop(file: File, draw: random.Random, _: Sequence[File]) -> None:
    gone = set(_some(file, draw))
    kept = [one for at, one in enumerate(file.tensors) if at not in gone]
    file.tensors[:] = kept or file.tensors[:1]


def _keep(file: File, draw: random.Random, _: Sequence[File]) -> None:
    """A few of the tensors, in a row."""
    at = draw.randrange(len(file.tensors))
    file.tensors[:] = file.tensors[at : at + 1 + draw.randrange(8)]


def _double(file: File, draw: random.Random, _: Sequence[File]) -> None:
    """Layers again, under numbers of their own."""
    some, by = [file.tensors[at] for at in _some(file, draw)], draw.choice((1, 1, 2, 5, 100))
    for key, shape, dtype in some[:60]:
        made = _NUMBER.sub(lambda m: str(int(m[0]) + by) if len(m[0]) < 9 else m[0], key)
        file.tensors.append((made, shape, dtype))


def _order(file: File, draw: random.Random, _: Sequence[File]) -> None:
    how = draw.randrange(3)
    if how == 0:
        file.tensors.reverse()
    elif how == 1:
        file.tensors.sort()
    else:
        draw.shuffle(file.tensors)


def _splice(file: File, draw: random.Random, others: Sequence[File]) -> None:
    """Another network beside it, below a prefix or not; or half of it."""
    other = draw.choice(others).tensors[:60]
    head = draw.choice(("", "", "decoder.", "model.", "b/", "head."))
    if draw.random() < 0.5:
        file.tensors[draw.randrange(len(file.tensors)) :] = []
    file.tensors += [(head + key, shape, dtype) for key, shape, dtype in other]


def _swap_names(file: File, draw: random.Random, others: Sequence[File]) -> None:
    """The names of another network on these shapes."""
    other = draw.choice(others).tensors
    for at, (one, name) in enumerate(zip(file.tensors, other, strict=False)):
        file.tensors[at] = name[0], one[1], one[2]


# --- shapes and dtypes ---


def _reshape(file: File, some: Sequence[int], change: Callable[[Tensor], tuple[int, ...]]) -> None:
    for at in some:
        one = file.tensors[at]
        file.tensors[at] = one[0], change(one), one[2]


def _size(file: File, draw: random.Random, _: Sequence[File]) -> None:
    """One size becomes another wherever it stands: a wider network, or equations that coincide."""
    sizes = draw.choice(file.tensors)[1]
    if sizes:
        old, new = draw.choice(sizes), draw.choice(_HUGE if draw.random() < 0.1 else _SIZES)
        by = draw.choice((0, 0, 2, 3))  # its multiples along with it
        _reshape(
            file,
            range(len(file.tensors)),
            lambda one: tuple(
                new if n == old else n // old * new if by and old and n == by * old else n
                for n in one[1]
            ),
        )


def _shape(file: File, draw: random.Random, _: Sequence[File]) -> None:
    """Some tensors have another shape."""
    how = draw.randrange(7)
    size = draw.choice(_HUGE if draw.random() < 0.2 else _SIZES)
    rank = draw.choice((0, 1, 2, 3, 4, 5, 7, 64))

    def change(one: Tensor) -> tuple[int, ...]:
        sizes = one[1]
        if how == 0:
            return sizes[::-1]
        if how == 1:
            return (*sizes, size)[:64]
        if how == 2:
            return sizes[:-1]
        if how == 3:
            return (size,) * rank
        if how == 4:
            return (size,) * len(sizes)
        if how == 5 and sizes:
            return (size, *sizes[1:])
        return tuple(max(0, n + draw.choice((-1, 1))) for n in sizes)

    _reshape(file, _some(file, draw), change)


def _swap_shapes(file: File, draw: random.Random, _: Sequence[File]) -> None:
    one, two = (draw.randrange(len(file.tensors)) for _ in range(2))
    (k1, s1, d1), (k2, s2, d2) = file.tensors[one], file.tensors[two]
    file.tensors[one], file.tensors[two] = (k1, s2, d1), (k2, s1, d2)


def _dtype(file: File, draw: random.Random, _: Sequence[File]) -> None:
    dtype = draw.choice(_DTYPES)
    some = range(len(file.tensors)) if draw.random() < 0.3 else _some(file, draw)
    for at in some:
        key, shape, _old = file.tensors[at]
        file.tensors[at] = key, shape, dtype


# --- what is said beside them ---


def _hint(file: File, draw: random.Random, _: Sequence[File]) -> None:
    value = draw.choice(_CLAIMED) if draw.random() < 0.3 else draw.choice(_VALUES)
    file.hints[draw.choice(("", "config/", "hyper_parameters/")) + draw.choice(_NAMES)] = value


def _claim(file: File, draw: random.Random, _: Sequence[File]) -> None:
    """A field of the config.json beside it, or the whole of it, is something else."""
    if not isinstance(file.config, dict) or draw.random() < 0.1:
        file.config = draw.choice(({}, {}, {}, *_VALUES))
    if isinstance(file.config, dict):
        name = draw.choice((*_NAMES, *file.config))
        value = draw.choice(_CLAIMED) if draw.random() < 0.2 else draw.choice(_VALUES)
        file.config = {**file.config, name: value}


def _argument(file: File, draw: random.Random, _: Sequence[File]) -> None:
    """What the caller asks for; a choice takes long to look up, so it's rarely made."""
    if draw.random() < 0.02:
        file.choose = draw.choice((*_CLAIMED, "", "\x1b", "transformers/BertModel"))
    else:
        file.part = draw.choice(("", "model", "decoder", "b", "encoder.", "/", "params", "\x1b"))


def _way(file: File, draw: random.Random, _: Sequence[File]) -> None:
    file.is_header = draw.random() < 0.7
    file.is_tied = draw.random() < 0.3
    file.name = draw.choice(_FILES)


_CHOICES: dict[Mutation, int] = {
    _number: 12,
    _renumber: 5,
    _level: 10,
    _word: 6,
    _prefix: 10,
    _leaf: 8,
    _slash: 3,
    _drop: 10,
    _keep: 14,
    _double: 6,
    _order: 5,
    _splice: 5,
    _swap_names: 3,
    _size: 14,
    _shape: 12,
    _swap_shapes: 4,
    _dtype: 6,
    _hint: 5,
    _claim: 3,
    _argument: 3,
    _way: 4,
}
_MUTATIONS, _WEIGHTS = list(_CHOICES), list(_CHOICES.values())
