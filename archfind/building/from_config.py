"""Guess -> Built for a transformers class: its config made from the settings, the weights put in by
the library's own `from_pretrained`, which replays how published keys become the module's."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from archfind.building.claimed_size import refuse_larger
from archfind.errors import BuildError
from archfind.evidence.claims import claims_of
from archfind.frozen import replace
from archfind.matching.stated_fields import more
from archfind.providers import provider
from archfind.types import Built, Guess, Match
from archfind.values.reader import TensorReader, merged_weight


def built_from_config(guess: Guess, found: Match, settings: Mapping[str, object]) -> Built:
    """The class with every tensor of the file in it. Raises BuildError with `.missing`,
    `.unexpected` and `.mismatched` where the library leaves one out, or isn't installed."""
    state = _state(guess, found)
    found = _stated(guess, found)
    module = class_with_state(found, state, settings, guess.canonical.checkpoint.path)
    return Built(guess, found, module, len(state), len(state))


def _stated(guess: Guess, found: Match) -> Match:
    """The match with all that a config.json of its type says and the library has a field for."""
    library: Any = provider("transformers")
    claims = claims_of(guess.canonical.checkpoint)
    assert found.pretrained is not None
    model_type = found.pretrained.model_type
    if claims.model_type != model_type:
        return found
    told = more(found.config, claims, lambda path, value: library.declares(model_type, path, value))
    return replace(found, config={**found.config, **told})


def class_with_state(
    found: Match, state: Mapping[str, torch.Tensor], settings: Mapping[str, object], path: str
) -> nn.Module:
    """The class of a match with these tensors in it."""
    config, cls, switches = config_and_class(found, settings, path)
    if any(s.source == "file" for name, s in found.config.items() if name not in settings):
        held = sum(tensor.numel() for tensor in state.values())
        refuse_larger(lambda: cls(copy.deepcopy(config), **switches), held, path)
    with quiet_library():
        try:
            module, info = cls.from_pretrained(
                None,
                config=config,
                state_dict=dict(state),
                output_loading_info=True,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                **switches,
            )
        except Exception as error:  # a library may raise anything on a config that it refuses
            text = f"{found.entry.id} can't be built: {type(error).__name__}: {error}"
            raise BuildError(text.splitlines()[0], path) from error
    _check(module, info, found, path)
    _untie(module, state)
    _own(module, state)
    module.eval()
    for parameter in module.parameters():
        parameter.requires_grad_(True)
    return module


def config_and_class(
    found: Match, settings: Mapping[str, object], path: str
) -> tuple[Any, Any, Any]:
    """The config, the class, and what its constructor takes beside the config."""
    library: Any = provider("transformers")
    assert found.pretrained is not None
    model_type = found.pretrained.model_type
    _, cls = library.resolve_class(f"{model_type}/{found.entry.name}")
    arguments = library.default_config(model_type)
    switches: dict[str, object] = {}
    given = {name: setting.value for name, setting in found.config.items()}
    for name, value in {**given, **settings}.items():
        *above, last = name.split(".")
        target: Any = switches if above == ["init"] else arguments
        for part in above if above != ["init"] else ():
            if not isinstance(target.get(part), dict):
                target[part] = {}
            target = target[part]
        target[last] = value
    _within(arguments, set(settings))
    try:
        return library.config_of(model_type, arguments), cls, switches
    except Exception as error:  # strict configs raise errors of their own kinds
        text = f"{found.entry.id} refuses the config: {str(error).splitlines()[-1].strip()}"
        raise BuildError(text, path) from error


def _within(arguments: dict[str, Any], given: set[str]) -> None:
    """A default's padding that a smaller vocabulary doesn't have is left out."""
    count, padding = arguments.get("vocab_size"), arguments.get("pad_token_id")
    if isinstance(count, int) and isinstance(padding, int) and "pad_token_id" not in given:
        arguments["pad_token_id"] = padding if padding < count else None
    for value in arguments.values():
        if isinstance(value, dict):
            _within(value, set())


def _state(guess: Guess, found: Match) -> dict[str, torch.Tensor]:
    """The file's tensors; what is tolerated stays out."""
    reader = TensorReader()
    canonical = guess.canonical
    left = set(found.tolerated)
    state: dict[str, torch.Tensor] = {}
    for key, spec in canonical.index.items():
        if key in left:
            continue
        if key in canonical.merged:
            how, *parts = canonical.merged[key]
            whole = [reader.read(canonical.checkpoint.index[part], part) for part in parts]
            state[key] = merged_weight(how, whole)
        else:
            state[key] = reader.read(spec, key)
    return state


def _check(module: nn.Module, info: Mapping[str, Any], found: Match, path: str) -> None:
    """Nothing may be left out, but what is tied to what is there."""
    library: Any = provider("transformers")
    tied = library.tied(module)
    shared = {*tied, *tied.values()}
    missing = tuple(sorted(k for k in info["missing_keys"] if k not in shared))
    unexpected = tuple(sorted(info["unexpected_keys"]))
    mismatched = tuple(sorted(str(m[0]) for m in info["mismatched_keys"]))
    if missing or unexpected or mismatched or info["error_msgs"]:
        text = (
            f"{found.entry.id} doesn't load strictly: {len(missing)} missing, {len(unexpected)} "
            f"unexpected, {len(mismatched)} mismatched"
        )
        raise BuildError(text, path, missing, unexpected, mismatched)
    left = [k for k, t in [*module.named_parameters(), *module.named_buffers()] if t.is_meta]
    if left:
        raise BuildError(f"{len(left)} tensors have no values after loading: {left[0]} ...", path)


def _untie(module: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Two tensors that the library ties and the file has apart, with other values, stay apart."""
    library: Any = provider("transformers")
    for key, source in library.tied(module).items():
        if key not in state or source not in state or torch.equal(state[key], state[source]):
            continue
        for name in (key, source):
            owner, _, last = name.rpartition(".")
            value = nn.Parameter(state[name].detach().clone().to(torch.float32))
            setattr(module.get_submodule(owner), last, value)
        config: Any = module.config
        config.tie_word_embeddings = False


def _own(module: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Tensors that share the memory of what was read become copies, one at a time."""
    read = {tensor.untyped_storage().data_ptr() for tensor in state.values()}
    taken: set[int] = set()
    for tensor in (*module.parameters(), *module.buffers()):
        storage = tensor.untyped_storage()
        place = storage.data_ptr()
        if place in read and (place in taken or storage.nbytes() > tensor.nbytes):
            tensor.data = tensor.data.clone()
        taken.add(place)


@contextlib.contextmanager
def quiet_library() -> Any:
    """No bars and no advice from the library inside."""
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    level = logging.get_verbosity()
    logging.set_verbosity(50)  # critical
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
