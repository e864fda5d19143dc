"""Small inputs for a network of transformers, found by its `forward`'s names and by running it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from archfind.errors import BuildError
from archfind.providers.example import Axes, Example, images

_BATCH = 2
_TOKENS = 16
_SAMPLES = 4000  # of sound: a quarter of a second
_SIDE = 64  # of a picture, where the config has none
_FRAMES = 128  # of a spectrogram

# Text, and the mask that says which of it is there; the rest fills a batch up.
MASKS = {"input_ids": "attention_mask", "decoder_input_ids": "decoder_attention_mask"}

# What some make of the text or without it, though people feed it.
_OPTIONAL = ("bbox", "decoder_input_ids")

# a tensor of `forward`, and its axes that may be free beside the batch
Input = tuple[Tensor, Axes]


def example(name: str, module: nn.Module) -> Example:
    """The fewest inputs that the network runs on: its main one, then with others that its `forward`
    names; with what belongs to text, which people feed: its mask, its segments, and its positions
    where it's generated. Its cache for generating is turned off: that is an output of another kind;
    and experts are run by plain products, since no exporter knows the operator for groups of them.
    BuildError where it runs on none of them."""
    for layer in module.modules():
        config = getattr(layer, "config", None)
        if config is None:
            continue
        if getattr(config, "use_cache", False):
            config.use_cache = False
        if getattr(config, "_experts_implementation", None):
            config._experts_implementation = "batched_mm"
    known = _known(module)
    why = f"it takes {getattr(module, 'main_input_name', 'nothing known')}"
    for chosen in _choices(str(getattr(module, "main_input_name", "")), list(known)):
        own = {name: known[name] for name in chosen}
        why = _refusal(module, own)
        if why:
            continue
        for name in _OPTIONAL if "input_ids" in own else ():
            given = own | {name: known[name]} if name in known else own
            own = own if _refusal(module, given) else given
        beside = _beside(module, own)
        for fewer in range(len(beside) + 1):
            more = dict(list(beside.items())[: len(beside) - fewer])
            if not more or not _refusal(module, own | more):
                args, names, axes = _called(module, own | more)
                size = tuple(known[chosen[0]][0].shape)[1:]
                return Example(args, names, size, (), (), axes=axes)
    raise BuildError(f"{name}: no example input is known for it ({why})")


def _refusal(module: nn.Module, chosen: Mapping[str, Input]) -> str:
    """Why the network doesn't run on these inputs; "" where it does."""
    try:
        with torch.no_grad():
            output = module(*_called(module, chosen)[0])
    except Exception as error:  # the network is anyone's code
        return f"{type(error).__name__}: {error}".partition("\n")[0][:120]
    return "it gives nothing" if output is None else ""


def _beside(module: nn.Module, chosen: Mapping[str, Input]) -> dict[str, Input]:
    """What `forward` takes beside the text that is chosen, the most usual first."""
    takes = inspect.signature(module.forward).parameters
    config = getattr(module, "config", None)
    segments = next((n for c in _configs(config) if (n := getattr(c, "type_vocab_size", 0))), 0)
    found: dict[str, Input] = {}
    for ids, mask in MASKS.items():
        if ids in chosen and mask in takes:
            found[mask] = torch.ones_like(chosen[ids][0]), chosen[ids][1]
    if "input_ids" not in chosen:
        return found
    ids, axes = chosen["input_ids"]
    if "token_type_ids" in takes and segments > 1:
        halves = torch.arange(ids.shape[1]) * 2 // ids.shape[1]
        found["token_type_ids"] = halves.expand_as(ids).contiguous(), axes
    generates = getattr(module, "can_generate", lambda: False)()
    if "position_ids" in takes and generates and not getattr(config, "is_encoder_decoder", False):
        found["position_ids"] = torch.arange(ids.shape[1]).expand_as(ids).contiguous(), axes
    return found


def _choices(main: str, known: list[str]) -> Iterator[list[str]]:
    """The main input, with one more, two more, then all."""
    first = [main] if main in known else known[:1]
    others = [name for name in known if name not in first]
    if first:
        yield first
        yield from (sorted([*first, other], key=known.index) for other in others)
        for at, one in enumerate(others):
            yield from (sorted([*first, one, two], key=known.index) for two in others[at + 1 :])
        yield known


def _called(
    module: nn.Module, chosen: Mapping[str, Input]
) -> tuple[tuple[object, ...], tuple[str, ...], tuple[Axes, ...]]:
    """Arguments by place: defaults stand between those that are given."""
    parameters = inspect.signature(module.forward).parameters
    args: list[object] = []
    names: list[str] = []
    for name, parameter in parameters.items():
        if name in chosen:
            names.append(name)
            args.append(chosen[name][0])
        else:
            default = parameter.default
            args.append(None if default is inspect.Parameter.empty else default)
        if len(names) == len(chosen):
            break
    return tuple(args), tuple(names), tuple(chosen[name][1] for name in names)


def _known(module: nn.Module) -> dict[str, Input]:
    """An input for each name in `forward` that says what it is, in `forward`'s order."""
    configs = list(_configs(getattr(module, "config", None)))

    def first(*names: str) -> Any:
        found = (getattr(config, name, None) for name in names for config in configs)
        return next((value for value in found if value is not None), None)

    makers: dict[str, Callable[[], Input | None]] = {
        "input_ids": lambda: _ids(first, "sequence"),
        "decoder_input_ids": lambda: _ids(first, "decoder_sequence"),
        "pixel_values": lambda: _pixels(first),
        "input_values": lambda: _sound(first),
        "input_features": lambda: _spectrogram(first),
        "decoder_input_values": lambda: _spectrum(first),
        "qformer_input_ids": lambda: _ids(first, "query_sequence"),
        "query_embeds": lambda: _queries(first),
        "bbox": lambda: _boxes(first),
    }
    found: dict[str, Input] = {}
    for name in inspect.signature(module.forward).parameters:
        made = makers[name]() if name in makers else None
        if made is not None:
            found[name] = made
    return found


def _configs(config: Any) -> Iterator[Any]:
    """A config, then those inside it."""
    if config is None:
        return
    yield config
    for inner in vars(config).values():
        if hasattr(inner, "model_type"):
            yield from _configs(inner)


def _length(first: Callable[..., Any]) -> int:
    positions = first("max_position_embeddings", "n_positions", "max_target_positions")
    return max(2, min(_TOKENS, int(positions or _TOKENS + 2) - 2))


def _ids(first: Callable[..., Any], axis: str) -> Input | None:
    vocabulary = first("vocab_size")
    if not isinstance(vocabulary, int):
        return None
    count = _length(first)
    ids = torch.arange(_BATCH * count).reshape(_BATCH, count) % max(2, vocabulary - 1) + 1
    return ids, {1: axis}


def _boxes(first: Callable[..., Any]) -> Input:
    """Where words stand on a page: nowhere."""
    return torch.zeros(_BATCH, _length(first), 4, dtype=torch.int64), {1: "sequence"}


def _pixels(first: Callable[..., Any]) -> Input:
    channels = first("num_channels", "in_channels", "in_chans") or 3
    side = first("image_size", "img_size", "input_size") or _SIDE
    sides = side if isinstance(side, list | tuple) else (side, side)
    made = images((int(channels), int(sides[-2]), int(sides[-1])))
    return made, {2: "height", 3: "width"}


def _sound(first: Callable[..., Any]) -> Input:
    """A spectrogram for the types whose config says so, else a waveform."""
    random = torch.Generator().manual_seed(0)
    bins, frames = first("num_mel_bins"), first("max_length")
    channels = first("audio_channels")
    if channels:
        return torch.randn(_BATCH, int(channels), _SAMPLES, generator=random), {2: "samples"}
    if bins and frames and first("frequency_stride"):
        return torch.randn(_BATCH, int(frames), int(bins), generator=random), {}
    return torch.randn(_BATCH, _SAMPLES, generator=random), {1: "samples"}


def _spectrogram(first: Callable[..., Any]) -> Input:
    random = torch.Generator().manual_seed(0)
    bins = int(first("num_mel_bins", "input_feat_per_channel", "feature_size") or 80)
    if first("spec_size"):
        return torch.randn(_BATCH, 1, 2 * int(first("spec_size")), bins, generator=random), {}
    frames = 2 * int(first("max_source_positions") or _FRAMES // 2)
    return torch.randn(_BATCH, bins, frames, generator=random), {}


def _spectrum(first: Callable[..., Any]) -> Input:
    random = torch.Generator().manual_seed(0)
    bins = int(first("num_mel_bins") or 80)
    return torch.randn(_BATCH, _TOKENS, bins, generator=random), {1: "decoder_sequence"}


def _queries(first: Callable[..., Any]) -> Input | None:
    width = first("hidden_size")
    if not isinstance(width, int):
        return None
    random = torch.Generator().manual_seed(0)
    return torch.randn(_BATCH, _TOKENS, width, generator=random), {}
