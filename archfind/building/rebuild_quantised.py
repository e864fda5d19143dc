"""A library's network quantised as its file was, by torch itself: the file's own tensors then load
strictly, and the integers are computed with as they were."""

from __future__ import annotations

# pyright: reportDeprecated=false
# torch means to move its quantisation elsewhere; until then files that it made need it.
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.ao import quantization as ao

from archfind.errors import BuildError
from archfind.frozen import replace
from archfind.providers import provider
from archfind.state_dicts.quantised import PACKED, is_direction
from archfind.types import Built, Guess, Match, Quantisation
from archfind.values.reader import TensorReader

_PRINTED = 300  # of what torch says
State = OrderedDict[str, Any]
Create = Callable[[str, str], nn.Module]  # of a library's name, and one of its networks


def build_quantised(guess: Guess, found: Match, create: Create) -> Built:
    """The matched network, quantised, in eval mode. Where several entries compute the same, the
    one whose quantised form has the file's keys: torch.fx names edges after modules. BuildError
    where none has."""
    made = guess.canonical.quantisation
    assert made is not None
    prefix = "" if _is_wrapped(made) else _prefix(guess, made)
    state = state_of(guess, made, prefix)
    made = replace(made, layers=tuple(layer.removeprefix(prefix) for layer in made.layers))
    qconfig = _ranges(found, made)
    refused: list[str] = []
    for library, name in _names(found, made):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what isn't calibrated, and is replaced
                module = _quantised(create(library, name), made, qconfig, library, name)
                # The layers' own versions: without, packed weights are taken for older ones.
                versions = getattr(module.state_dict(), "_metadata", None)
                vars(state)["_metadata"] = versions
                module.load_state_dict(state, strict=True)
        except Exception as error:  # torch refuses graphs and keys in its own ways
            refused.append(f"{library}/{name}: {str(error).splitlines()[-1].strip()}")
            continue
        return Built(guess, found, module.eval(), len(state), len(state))
    path = guess.canonical.checkpoint.path
    raise BuildError(f"can't be quantised as the file was: {refused[0][:_PRINTED]}", path)


def _names(found: Match, made: Quantisation) -> Iterator[tuple[str, str]]:
    """The entry and those that compute the same; for eager mode torchvision's quantisable ones, as
    a network must be written for that."""
    every = [(found.entry.provider, found.entry.name)]
    every += [(t.provider, t.architecture) for t in found.twins if t.same_function]
    if made.style == "eager" and made.kind != "dynamic":
        every.sort(key=lambda pair: not pair[1].startswith("quantized_"))
    else:
        every = [pair for pair in every if not pair[1].startswith("quantized_")] or every
    yield from every


def _quantised(
    module: nn.Module, made: Quantisation, qconfig: ao.QConfig | None, library: str, name: str
) -> nn.Module:
    """The float network as torch's quantisation changes it; scales are those of no data. `qconfig`
    says with what ranges it was trained, None where it wasn't."""
    training = made.kind == "training"
    module.train(training)
    if made.kind == "dynamic":
        dtype = torch.float16 if made.halves else torch.qint8
        return ao.quantize_dynamic(module, {*made.layers}, dtype=dtype, inplace=True)
    if made.style == "fx":
        return _traced(module, made, qconfig, library, name)
    if made.folded and hasattr(module, "fuse_model"):
        module.fuse_model(is_qat=training)  # pyright: ignore[reportCallIssue]
    elif made.folded:
        fuse = ao.fuse_modules_qat if training else ao.fuse_modules
        fuse(module, [list(pair) for pair in made.folded], inplace=True)
    if _is_wrapped(made):
        module = ao.QuantWrapper(module)
    vars(module)["qconfig"] = qconfig or ao.get_default_qconfig(_backend(made))
    if training:
        return ao.prepare_qat(module, inplace=True)
    return ao.convert(ao.prepare(module, inplace=True), inplace=True)


def _traced(
    module: nn.Module, made: Quantisation, qconfig: ao.QConfig | None, library: str, name: str
) -> nn.Module:
    """The same by torch.fx, which traces the network."""
    from torch.ao.quantization import quantize_fx

    inputs: Any = provider(library).example(name, module).args
    if qconfig is not None:
        mapping = ao.get_default_qat_qconfig_mapping(_backend(made)).set_global(qconfig)
        return quantize_fx.prepare_qat_fx(module, mapping, inputs)
    mapping = ao.get_default_qconfig_mapping(_backend(made))
    return quantize_fx.convert_fx(quantize_fx.prepare_fx(module, mapping, inputs))


def _backend(made: Quantisation) -> str:
    """torch's name for the way in which it quantises weights by default."""
    return "x86" if made.by_channel else "qnnpack"


def _ranges(found: Match, made: Quantisation) -> ao.QConfig | None:
    """The weights' fake quantisation as the file has it, the activations' with the ranges that are
    assumed or told."""
    if made.kind != "training":
        return None
    told = found.config.get("qconfig")
    weights = ao.get_default_qat_qconfig(_backend(made))
    others = ao.get_default_qat_qconfig(str(told.value) if told else _backend(made))
    return ao.QConfig(activation=others.activation, weight=weights.weight)


def _is_wrapped(made: Quantisation) -> bool:
    """Whether the network stands in torch's QuantWrapper, beside what quantises its input."""
    return made.prefix == "module." and any(key.startswith("quant.") for key in made.keys)


def _prefix(guess: Guess, made: Quantisation) -> str:
    """What stands before the network's own names in the state dict."""
    names = {at: key for key, at in made.keys.items()}
    for key, at in guess.canonical.origin.items():
        name = names.get(at, "")
        if name.endswith(f".{key}"):
            return name[: -len(key)]
    return made.prefix


def state_of(guess: Guess, made: Quantisation, prefix: str) -> State:
    """The file's own state dict, with packed weights and biases as torch packs them."""
    checkpoint = guess.canonical.checkpoint
    reader = TensorReader()
    state: State = OrderedDict()
    pairs: dict[str, list[torch.Tensor | None]] = {}
    directions: dict[str, dict[str, torch.Tensor]] = {}
    for key, pointer in made.keys.items():
        if not key.startswith(prefix):
            continue
        value = reader.read(checkpoint.index[pointer], key)
        name, _, number = key[len(prefix) :].rpartition(".")
        if name.endswith(PACKED):
            pairs.setdefault(name, [None, None])[number == "1"] = value
        elif is_direction(name):
            directions.setdefault(name, {})[number] = value
        else:
            state[key[len(prefix) :]] = value
    for layer in [key.removesuffix(".weight") for key, value in state.items() if _is_weight(value)]:
        state.setdefault(f"{layer}.bias", None)  # torch keeps that there is none
    for key, (weight, bias) in pairs.items():
        state[key] = weight, bias
        quantised = weight is not None and weight.is_quantized
        dtype = torch.qint8 if quantised else torch.float16
        state[f"{key.removesuffix(PACKED)}_packed_params.dtype"] = dtype
    for key, tensors in directions.items():
        noted = checkpoint.metadata.get(made.keys[f"{prefix}{key}.0"].rpartition("/")[0])
        state[key] = _direction(tensors, not isinstance(noted, list) or noted[1:] != [0])
    return state


def _direction(tensors: dict[str, torch.Tensor], reduced: bool) -> Any:
    """The packed weights of one direction of a recurrent layer; `reduced` is whether its inputs are
    quantised to seven bits, as torch does it by default."""
    first, second = (tensors[number] for number in ("0", "1"))
    biases = [tensors.get(number) for number in ("2", "3")]
    ops = torch.ops.quantized
    pack = ops.linear_prepack if first.is_quantized else ops.linear_prepack_fp16
    pair = [pack(weight, bias) for weight, bias in zip((first, second), biases, strict=True)]
    if first.is_quantized:
        return ops.make_quantized_cell_params_dynamic(*pair, *biases, reduced)
    return ops.make_quantized_cell_params_fp16(*pair)


def _is_weight(value: torch.Tensor) -> bool:
    return value.is_quantized and value.dim() > 1
