"""Guess -> Built: the library's own constructor, then a strict load, which is the proof."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import version
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from archfind.building.from_config import built_from_config, config_and_class
from archfind.building.rebuild_head import rebuilt
from archfind.errors import AmbiguousError, ArchfindError, BuildError, UnknownError
from archfind.formats import PROGRAMS
from archfind.matching import recipe
from archfind.matching.assumed import open_settings, question, settled_by_settings
from archfind.probing.config import (
    Config,
    captured_call,
    constructor_arguments,
    leaves_of_config,
    moved,
    with_inherited,
)
from archfind.probing.probe import on_meta
from archfind.providers import example_of, provider
from archfind.providers.on_meta import create_on_meta
from archfind.steps import done
from archfind.trusted import imported as code
from archfind.types import Built, Canonical, Guess, Match
from archfind.values.reader import TensorReader, computed


class _Unfilled(TorchFunctionMode):
    """Parameters aren't given random values, which the file's replace: most of the time that a
    large network takes to be built."""

    def __torch_function__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        # torch.nn.init hands its tensor on by name
        tensor = args[0] if args else (kwargs or {}).get("tensor")
        if name in ("normal_", "uniform_") and isinstance(tensor, nn.Parameter):
            return tensor
        return func(*args, **(kwargs or {}))


def build_guess(
    guess: Guess,
    settings: Mapping[str, object] | None = None,
    accept_ambiguous: bool = False,
    accept_assumed: bool = False,
) -> Built:
    """Instantiate the guessed network and load its weights strictly.

    The module is in eval mode, in its library's own dtype (float32: half weights are widened), with
    nothing on the meta device. `settings` tell what was assumed, or are the constructor's;
    `accept_assumed` takes what is left as it is assumed. Raises AmbiguousError, UnknownError, or
    BuildError with `.missing`, `.unexpected` and `.mismatched`.
    """
    if guess.is_named:
        _refuse_record(guess.matches[0], guess.canonical.checkpoint.path)
    guess, rest = settled_by_settings(guess, settings or {})
    found = _match(guess, accept_ambiguous, accept_assumed)
    config = {**recipe.arguments_of_match(found), **rest}
    path = guess.canonical.checkpoint.path
    _refuse_record(found, path)
    if found.pretrained is not None:
        return built_from_config(guess, found, rest)
    if guess.canonical.quantisation is not None and found.head is None:
        from archfind.building.rebuild_quantised import build_quantised  # late: of few files

        own = ("qconfig", "quantize")  # torch's, once the float network is made
        plain = {name: value for name, value in config.items() if name not in own}

        def create(library: str, name: str) -> nn.Module:
            if (library, name) == (found.entry.provider, found.entry.name):
                return _create(found, plain, path)
            return provider(library).create(name, **plain)

        return build_quantised(guess, found, create)
    module = _create(found, config, path)
    if found.head is not None:
        module = rebuilt(module, found.head)
    done("built")
    index = guess.canonical.index
    if found.resized:
        from archfind.building.resize_layers import resize
        from archfind.evidence.listed import listing  # late: of few files

        listed = listing(guess.canonical)
        resize(module, {key: spec.shape for key, spec in index.items()}, listed)
    own = module.state_dict()
    # Masks and tables that both have are the file's: they may tell what no argument was seen to.
    alike = {
        k for k in found.tolerated if k in own and k in index and own[k].shape == index[k].shape
    }
    state = read_state(guess.canonical, drop=set(found.tolerated) - alike)
    loaded = len(state)
    for key in found.tolerated:
        if key in own:
            state.setdefault(key, own[key])
    load_strictly(module, state, found, path)
    left = [k for k, t in [*module.named_parameters(), *module.named_buffers()] if t.is_meta]
    if left:
        raise BuildError(f"{len(left)} tensors have no values after loading: {left[0]} ...", path)
    if found.resized:
        from archfind.building.resize_layers import flows

        why = flows(module.eval(), example_of(found, module).args)
        if why:
            raise BuildError(f"{found.entry.id} can't have the file's sizes: {why}", path)
    return Built(guess, found, module.eval(), loaded, loaded)


def matched_with_initial_weights(found: Match) -> nn.Module:
    """The matched network with its library's initial weights, in eval mode."""
    if found.pretrained is not None:
        config, cls, switches = config_and_class(found, {}, "")
        return cls(config, **switches).eval()
    _refuse_record(found, "")
    module = _create(found, recipe.arguments_of_match(found), "")
    return (rebuilt(module, found.head) if found.head is not None else module).eval()


def _refuse_record(found: Match, path: str) -> None:
    """What a user recorded of keys and shapes alone is a name; nothing can be made of it."""
    if not found.entry.callable:
        text = (
            f"{found.entry.id} is a record of keys and shapes, and no code stands behind it: "
            "archfind source writes a module, .safetensors and .pth are written without one, and "
            "archfind signatures learn PACKAGE.MODULE:CLASS records a class"
        )
        raise BuildError(text, path)


def matched_on_meta(found: Match) -> nn.Module:
    """The matched network on the meta device, without weights: its names and shapes."""
    _refuse_record(found, "")
    config = recipe.arguments_of_match(found)
    entry = found.entry
    try:
        if found.trusted is not None:
            return code.class_on_meta(found.trusted, config)
        if found.variant is not None or any("." in path for path in config):
            module = blank_variant(entry.id, config, entry.cls)
        else:
            module = create_on_meta(provider(entry.provider), entry.name, **config)
    except ArchfindError:
        raise
    except Exception as error:  # a constructor may raise anything on settings that it refuses
        raise BuildError(f"{entry.id} can't be built: {error}") from error
    return rebuilt(module, found.head) if found.head is not None else module


def read_state(canonical: Canonical, drop: set[str] | None = None) -> dict[str, torch.Tensor]:
    """The state dict under canonical keys: views of the file, parametrised weights merged."""
    reader = TensorReader()
    checkpoint = canonical.checkpoint
    state: dict[str, torch.Tensor] = {}
    for key, spec in canonical.index.items():
        if drop and key in drop:
            continue
        if key in canonical.merged:
            how, *parts = canonical.merged[key]
            read = [reader.read(checkpoint.index[part], part) for part in parts]
            state[key] = computed(how, read, spec.shape)
        else:
            state[key] = reader.read(spec, key)
    return state


def _match(guess: Guess, accept_ambiguous: bool, accept_assumed: bool) -> Match:
    path = guess.canonical.checkpoint.path
    several = len(guess.parts) > 1 and not guess.is_assumed
    if guess.status == "exact" or (
        guess.status == "ambiguous" and accept_ambiguous and not several
    ):
        return guess.matches[0]
    names = tuple(m.entry.id for m in guess.matches)
    if guess.is_assumed:
        if accept_assumed:
            return guess.matches[0]
        raise AmbiguousError(question(guess.matches[0]), path, open_settings(guess.matches[0]))
    if guess.status == "ambiguous":
        if several:
            parts = tuple(guess.parts)
            text = f"holds {len(parts)} networks; choose one with --part: {', '.join(parts)}"
            raise AmbiguousError(text, path, parts)
        names = tuple(
            dict.fromkeys([*names, *(t_id for m in guess.matches for t_id in _others(m))])
        )
        if len(guess.matches) == len(names) == 1 and _is_doubtful(guess.matches[0]):
            return guess.matches[0]  # whether it is right is what building it says
        text = f"{len(names)} networks fit every tensor; choose one with --as: {', '.join(names)}"
        if len(names) == 1:
            text = f"fits {names[0]}, but says too little to be sure; if it is: --as {names[0]}"
        raise AmbiguousError(text, path, names)
    if guess.status == "close":
        near = guess.matches[0]
        text = (
            f"close to {near.entry.id}, but not it: {len(near.missing)} missing, "
            f"{len(near.unexpected)} unexpected, {len(near.mismatched)} mismatched tensors"
        )
        mismatched = tuple(m.key for m in near.mismatched)
        raise BuildError(text, path, near.missing, near.unexpected, mismatched)
    if guess.kind is not None:
        raise UnknownError(f"is {guess.kind.words}: no network", path, ())
    nearest = f"; nearest: {', '.join(names)}" if names else ""
    program = guess.canonical.checkpoint.format in PROGRAMS
    more = "guess --search builds its likes; .safetensors and .pth are written without a network"
    if program:
        more = "--trust exports the program in the file"
    raise UnknownError(f"unknown, no signature fits{nearest}; {more}", path, names)


def _is_doubtful(found: Match) -> bool:
    return found.variant is not None and found.variant.doubtful


def _others(found: Match) -> list[str]:
    return [
        f"{twin.provider}/{twin.architecture}" for twin in found.twins if not twin.same_function
    ]


def _create(found: Match, config: Mapping[str, object], path: str) -> nn.Module:
    import warnings

    entry = found.entry
    try:
        with warnings.catch_warnings(), _Unfilled():
            warnings.simplefilter("ignore")  # advice on initial weights, which are replaced
            if found.trusted is not None:
                return code.created(found.trusted, config)
            if found.variant is not None or any("." in path for path in config):
                return variant_of_entry(entry.id, config, entry.cls)
            return provider(entry.provider).create(entry.name, **config)
    except ArchfindError:
        raise
    except Exception as error:  # a constructor may raise anything on settings that it refuses
        given = ", ".join(f"{k}={v!r}" for k, v in config.items())
        raise BuildError(f"{entry.id}({given}) can't be built: {error}", path) from error


def variant_of_entry(entry: str, moves: Mapping[str, Any], cls: str = "") -> nn.Module:
    """The class of an entry ("timm/resnet50") with its arguments, some leaves of them moved:
    {"layers.2": 9, "num_classes": 10}; an argument that is a list may be given whole. Fresh
    weights. `cls` is the class's dotted path, where it is known. BuildError where there is no such
    entry or argument."""
    library, _, name = entry.partition("/")
    made, config = _with_arguments(entry, moves, cls)
    module = made(**config)
    provider(library).label(name, module)
    return module


def blank_variant(entry: str, moves: Mapping[str, Any], cls: str = "") -> nn.Module:
    """The same without storage, where the class allows."""
    made, config = _with_arguments(entry, moves, cls)
    return on_meta(made, config)


def _with_arguments(
    entry: str, moves: Mapping[str, Any], dotted: str
) -> tuple[type[nn.Module], Config]:
    """The entry's class, and the arguments to call it with."""
    library, _, name = entry.partition("/")
    source = provider(library)
    cls = _imported(dotted)
    config = None if cls is None else constructor_arguments(lambda: source.create(name), cls)
    if cls is None or config is None:
        _, cls, config = captured_call(lambda: on_meta(lambda: source.create(name), {}))
    if any(path.partition(".")[0] not in config for path in moves):
        config = with_inherited(cls, config)
    base = leaves_of_config(config)
    leaf_moves: dict[str, Any] = {}
    for path, value in moves.items():
        if path.partition(".")[0] not in config:
            raise BuildError(f"{entry} has no argument {path!r}; it has {', '.join(config)}")
        given = leaves_of_config({path: value}) if path not in base else {path: value}
        leaf_moves |= given
    return cls, moved(config, leaf_moves)


def _imported(dotted: str) -> type[nn.Module] | None:
    """The class at a dotted path, None where this release of its library has none there."""
    module, _, name = dotted.rpartition(".")
    try:
        return getattr(import_module(module), name) if module else None
    except (ImportError, AttributeError):
        return None


def _other_version(found: Match) -> str:
    """What is to be done where the library is another release than its signature is of."""
    entry = found.entry
    library = provider(entry.provider).LIBRARY
    installed = version(library)
    if installed == entry.version:
        return ""
    return (
        f"; its signature is of {library} {entry.version}, not the installed {installed}: "
        f"run `archfind signatures build {entry.provider}`"
    )


def load_strictly(
    module: nn.Module, state: dict[str, torch.Tensor], found: Match, path: str
) -> None:
    """The state dict in the module, under its own keys. BuildError with those that don't fit."""
    own = module.state_dict()
    missing = tuple(k for k in own if k not in state)
    unexpected = tuple(k for k in state if k not in own)
    mismatched = tuple(k for k, t in state.items() if k in own and own[k].shape != t.shape)
    if missing or unexpected or mismatched:
        why = _other_version(found) if found.trusted is found.written is None else ""
        text = (
            f"{found.entry.id} doesn't load strictly: {len(missing)} missing, {len(unexpected)} "
            f"unexpected, {len(mismatched)} mismatched{why}"
        )
        raise BuildError(text, path, missing, unexpected, mismatched)
    # The tensors have this module's own keys and shapes, so they're of its own layout version;
    # without a version, BatchNorm and MNASNet would convert them from an older one.
    versioned = OrderedDict(state)
    versioned._metadata = getattr(own, "_metadata", None)  # pyright: ignore[reportAttributeAccessIssue]
    module.load_state_dict(versioned, strict=True)
