"""A library's network quantised as its file was, by torch itself: the file's own tensors then load
strictly, and the integers are computed with as they were."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.ao import quantization as ao

from archfind.errors import BuildError

_PRINTED = 300  # of what torch says
from archfind.providers import provider
from archfind.quantised import PACKED
from archfind.tensors import TensorReader
from archfind.types import Built, Guess, Match, Quantisation

State = OrderedDict[str, Any]
Create = Callable[[str, str], nn.Module]  # of a library's name, and one of its networks


def build_quantised(guess: Guess, found: Match, create: Create) -> Built:
    """The matched network, quantised, in eval mode. Where several entries compute the same, the
    one whose quantised form has the file's keys: torch.fx names edges after modules. BuildError
    where none has."""
    made = guess.canonical.quantisation
    assert made is not None
    state = _state(guess, made)
    backend = _backend(found, made)
    refused: list[str] = []
    for library, name in _names(found, made):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what isn't calibrated, and is replaced
                module = _quantised(create(library, name), made, backend, library, name)
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


def _backend(found: Match, made: Quantisation) -> str:
    """torch's name for the ranges and scales that it takes by default."""
    told = found.config.get("qconfig")
    return str(told.value) if told else "x86" if made.by_channel else "qnnpack"


def _quantised(
    module: nn.Module, made: Quantisation, backend: str, library: str, name: str
) -> nn.Module:
    """The float network as torch's quantisation changes it; scales are those of no data."""
    training = made.kind == "training"
    module.train(training)
    if made.kind == "dynamic":
        return ao.quantize_dynamic(module, {*made.layers}, dtype=torch.qint8, inplace=True)
    if made.style == "fx":
        return _traced(module, training, backend, library, name)
    if made.folded:
        module.fuse_model(is_qat=training)  # pyright: ignore[reportCallIssue]
    if training:
        vars(module)["qconfig"] = ao.get_default_qat_qconfig(backend)
        return ao.prepare_qat(module, inplace=True)
    vars(module)["qconfig"] = ao.get_default_qconfig(backend)
    return ao.convert(ao.prepare(module, inplace=True), inplace=True)


def _traced(module: nn.Module, training: bool, backend: str, library: str, name: str) -> nn.Module:
    """The same by torch.fx, which traces the network."""
    from torch.ao.quantization import quantize_fx

    inputs: Any = provider(library).example(name, module).args
    if training:
        mapping = ao.get_default_qat_qconfig_mapping(backend)
        return quantize_fx.prepare_qat_fx(module, mapping, inputs)
    mapping = ao.get_default_qconfig_mapping(backend)
    return quantize_fx.convert_fx(quantize_fx.prepare_fx(module, mapping, inputs))


def _state(guess: Guess, made: Quantisation) -> State:
    """The file's own state dict, with packed weights and biases as torch packs them."""
    checkpoint = guess.canonical.checkpoint
    reader = TensorReader()
    state: State = OrderedDict()
    for key, pointer in made.keys.items():
        if not key.startswith(made.prefix):
            continue
        value = reader.read(checkpoint.index[pointer], key)
        name, _, number = key[len(made.prefix) :].rpartition(".")
        if not name.endswith(PACKED):
            state[key[len(made.prefix) :]] = value
            continue
        pair = state.setdefault(name, [None, None])
        pair[number == "1"] = value
    for key in [key for key in state if key.endswith(PACKED)]:
        weight, bias = state[key]
        state[key] = weight, bias
        dtype = torch.qint8 if weight.is_quantized else torch.float16
        state[f"{key.removesuffix(PACKED)}_packed_params.dtype"] = dtype
    return state
