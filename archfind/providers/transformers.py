"""transformers: every model type with its public classes, built from a config.

An entry's name is "type/Class": `bert/BertModel`. Its arguments are the config's fields, nested
configs as dicts, and under `init` the switches of the class's own constructor.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import inspect
import itertools
import textwrap
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from importlib import import_module
from typing import Any

import transformers
from torch import nn
from transformers.models.auto.configuration_auto import (
    CONFIG_MAPPING,
    CONFIG_MAPPING_NAMES,  # pyright: ignore[reportPrivateImportUsage]
)

from archfind.errors import BuildError
from archfind.providers.transformers_inputs import example as example

LIBRARY = "transformers"
INIT = "init"  # constructor switches, beside the config's fields

transformers.logging.set_verbosity_error()

Config = dict[str, Any]
_SHARED = frozenset(f.name for f in dataclasses.fields(transformers.PreTrainedConfig))
_LABELS = "num_labels"


def type_names() -> list[str]:
    """Every model type that has a config."""
    return list(CONFIG_MAPPING_NAMES)


@cache
def config_class(model_type: str) -> type[transformers.PreTrainedConfig]:
    """The config class of a type; BuildError where the installed library has none."""
    if model_type not in CONFIG_MAPPING_NAMES:
        text = f"transformers {transformers.__version__} has no model type {model_type!r}"
        raise BuildError(f"{text}: pip install -U transformers")
    with _quiet():
        return CONFIG_MAPPING[model_type]


@cache
def classes(model_type: str) -> Mapping[str, type[transformers.PreTrainedModel]]:
    """The public classes that take the type's config, by name; none for a type that is another's
    alias. ModuleNotFoundError where it has no code of its own or needs another package."""
    config = config_class(model_type)
    if config.model_type != model_type and config.model_type in CONFIG_MAPPING_NAMES:
        return {}
    module = import_module(config.__module__.replace("configuration_", "modeling_"))
    public = getattr(module, "__all__", ())
    return {
        name: cls
        for name, cls in vars(module).items()
        if name in public
        and inspect.isclass(cls)
        and issubclass(cls, transformers.PreTrainedModel)
        and cls.config_class is config
        and cls.__module__ == module.__name__
        and not _is_abstract(cls)
    }


def _is_abstract(cls: type) -> bool:
    return "pretrained" in cls.__name__.lower() and "__init__" not in vars(cls)


def names() -> list[str]:
    """Every type with each of its classes; types that can't be imported are left out."""
    found: list[str] = []
    for model_type in type_names():
        try:
            found += [f"{model_type}/{name}" for name in classes(model_type)]
        except ImportError:
            continue
    return sorted(found)


def resolve_class(name: str) -> tuple[type[transformers.PreTrainedConfig], type[nn.Module]]:
    """Config class and model class of "bert/BertModel"."""
    model_type, _, cls = name.partition("/")
    config = config_class(model_type)
    found = classes(model_type).get(cls)
    if found is None:
        text = f"transformers {transformers.__version__} has no class {cls!r} of {model_type}"
        raise BuildError(f"{text}: pip install -U transformers")
    return config, found


def call(name: str) -> tuple[str, list[object], dict[str, object]]:
    """What a person would write to build `name`: the class, with its config's fields."""
    return f"transformers.{name.partition('/')[2]}", [], {}


def label(name: str, module: nn.Module) -> None:
    """Nothing: a module has all of it from its class."""


def fields(name: str) -> Mapping[str, object]:
    """None: which of a config's fields move a tensor is found by moving them."""
    return {}


def config_of(model_type: str, fields: Mapping[str, Any]) -> transformers.PreTrainedConfig:
    """The type's config with these fields; nested ones given as dicts. Kinds of layers that are
    given as runs are as many as the layers."""
    more: dict[str, Any] = {
        name: [[list(itertools.islice(itertools.cycle(kinds), fields[count])), 1]]
        for name, kinds, count in _runs(model_type)
        if name not in fields and type(fields.get(count)) is int and fields[count] != len(kinds)
    }
    with _quiet():
        return config_class(model_type)(**{**fields, **more})


@cache
def _runs(model_type: str) -> list[tuple[str, list[str], str]]:
    """Fields that say by runs, `[[["global", "local"], 12]]`, what each layer is: name, what each
    is by default, and the field that counts the layers."""
    made: object = None
    with _quiet(), contextlib.suppress(Exception):  # not every type has defaults for all
        made = config_class(model_type)()
    own = vars(made) if made is not None else {}
    found: list[tuple[str, list[str], str]] = []
    for name, value in own.items():
        match value:
            case [[[str(), *_], int()], *_]:
                kinds = [kind for some, times in value for kind in some * times]
                counts = [n for n, v in own.items() if v == len(kinds) and "layers" in n]
                found += [(name, kinds, count) for count in counts[:1]]
            case _:
                pass
    return found


def create(name: str, **fields: Any) -> nn.Module:
    """The module with fresh weights."""
    config, cls = resolve_class(name)
    switches = fields.pop(INIT, None) or {}
    with _quiet():
        return cls(config(**fields), **switches)


def maker(name: str) -> Callable[..., nn.Module]:
    """`create` for one name."""
    return partial(create, name)


def constructor(name: str) -> type[nn.Module]:
    """The class as one that takes its config's fields."""
    _, cls = resolve_class(name)
    model_type = name.partition("/")[0]

    def make(self: Any, **fields: Any) -> None:
        switches = fields.pop(INIT, {})
        cls.__init__(self, config_of(model_type, fields), **switches)

    return type(cls.__name__, (cls,), {"__init__": make, "__module__": cls.__module__})


def default_config(model_type: str) -> Config:
    """The type's default config as the constructor's arguments. Sizes that the library derives from
    others are written out, so that each can be moved; lists that it derives are left to it."""
    with _quiet():
        made = config_class(model_type)()
    own = {name: value for name, value in undeclared(type(made)).items() if not hasattr(made, name)}
    return {**own, **_arguments(made), _LABELS: made.num_labels or 2}


def _arguments(config: transformers.PreTrainedConfig) -> Config:
    found: Config = {}
    for field in dataclasses.fields(config):
        name = field.name
        if (name in _SHARED and name != "tie_word_embeddings") or name[0] == "_":
            continue
        value = _read(config, name)
        if value is None and isinstance(field.default, bool | int | float | str):
            continue  # it's another in every layer
        if isinstance(value, transformers.PreTrainedConfig):
            # Some were named differently in the past and are looked up by their type.
            found[name] = {"model_type": value.model_type, **_arguments(value)}
        elif value is None or isinstance(value, bool | int | float | str):
            found[name] = value
        elif isinstance(value, list | tuple) and field.default is not None and _is_plain(value):
            found[name] = list(value)
    is_usual = "hidden_size" in found and "num_attention_heads" in found
    if not found.get("head_dim") and is_usual and _has_head_dim(type(config)):
        heads, width = _read(config, "num_attention_heads"), _read(config, "hidden_size")
        if isinstance(heads, int) and isinstance(width, int) and heads:
            found["head_dim"] = _read(config, "head_dim") or width // heads
    return found


@cache
def undeclared(config: type) -> dict[str, bool | int | float | str]:
    """Fields that a type's code looks for and its config doesn't declare, each with what the code
    takes where there is none: `getattr(config, "norm_rel_ebd", "none")`."""
    try:
        module = import_module(config.__module__.replace("configuration_", "modeling_"))
        tree = ast.parse(inspect.getsource(module))
    except (ImportError, OSError, SyntaxError):
        return {}
    found: dict[str, bool | int | float | str] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Name("getattr"),
                args=[ast.Name("config"), ast.Constant(str(name)), usual],
            ) if name[0] != "_":
                with contextlib.suppress(ValueError):  # what isn't a literal, with its sign
                    value = ast.literal_eval(usual)
                    if isinstance(value, bool | int | float | str):
                        found[name] = value
            case _:
                pass
    return found


# Parts of the names of fields by which a config asks for other code, other weights or the hub.
_FOREIGN = ("backbone", "pretrained", "timm", "path", "quanti", "kernel", "implementation", "dtype",
            "code", "auto", "hub")  # fmt: skip


def declares(model_type: str, path: str, value: object) -> bool:
    """Whether a config's field, dotted within nested configs, is the type's own, takes a value of
    this type, and names neither code nor weights."""
    cls, *parts = config_class(model_type), *path.split(".")
    usual: Any = default_config(model_type)
    if any(word in part for part in parts for word in _FOREIGN):
        return False
    for at, part in enumerate(parts):
        own = {field.name for field in dataclasses.fields(cls)} - _SHARED | undeclared(cls).keys()
        if part not in own or part[:1] == "_":
            return False
        inner = (getattr(cls, "sub_configs", None) or {}).get(part)
        usual = usual.get(part) if isinstance(usual, dict) else None
        if inner is None:
            nested = at + 1 < len(parts)
            return isinstance(usual, dict | None) if nested else _takes(usual, value)
        cls = inner
    return False


def _takes(usual: object, value: object) -> bool:
    """Whether a value is of the kind of a field's default: any, where that is None."""
    if usual is None or value is None or type(usual) is type(value):
        return True
    numbers = type(usual) in (int, float) and type(value) in (int, float)
    return numbers or (isinstance(usual, tuple) and type(value) is list)


@cache
def derived_from(config: type) -> frozenset[str]:
    """Fields that a config makes others from as it is built: `first_k_dense_replace`."""
    made = vars(config).get("__post_init__")
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(made))) if made else None
    except (OSError, SyntaxError, TypeError):
        return frozenset()
    return frozenset(
        node.attr
        for node in ast.walk(tree or ast.Module([], []))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
        and isinstance(node.ctx, ast.Load)
    )


def _read(config: transformers.PreTrainedConfig, name: str) -> Any:
    """A field's value; None where it has none, or others for each layer."""
    try:
        return getattr(config, name, None)
    except Exception:  # of configs that differ between layers
        return None


@cache
def _has_head_dim(config: type) -> bool:
    """Whether a head size of their own can be given to a type's heads: declared by its config, or
    looked for by its code."""
    if isinstance(getattr(config, "head_dim", None), property):
        return False
    if any(field.name == "head_dim" for field in dataclasses.fields(config)):
        return True
    try:
        module = import_module(config.__module__.replace("configuration_", "modeling_"))
        return 'getattr(config, "head_dim"' in inspect.getsource(module)
    except (ImportError, OSError):
        return False


def is_divided(config: Any) -> bool:
    """Whether widths are multiples of head counts, as every network that works has them."""
    width, heads = _read(config, "hidden_size"), _read(config, "num_attention_heads")
    groups = _read(config, "num_key_value_heads")
    if isinstance(heads, int) and isinstance(groups, int) and groups and heads % groups:
        return False
    if isinstance(width, int) and isinstance(heads, int) and heads and width % heads:
        return bool(_read(config, "head_dim"))
    inner = [c for c in vars(config).values() if isinstance(c, transformers.PreTrainedConfig)]
    return all(is_divided(c) for c in inner)


def _is_plain(items: Sequence[object]) -> bool:
    return all(isinstance(item, bool | int | float | str) for item in items)


def switches(cls: type[nn.Module]) -> dict[str, bool]:
    """The boolean arguments of a class's constructor: `add_pooling_layer`."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(cls.__init__).parameters.items()
        if isinstance(parameter.default, bool)
    }


def published(module: nn.Module, state: Mapping[str, Any]) -> dict[str, Any]:
    """A module's state dict under the keys that `save_pretrained` writes."""
    from transformers.core_model_loading import revert_weight_conversion

    with _quiet():
        return revert_weight_conversion(module, dict(state))  # pyright: ignore[reportArgumentType]


def tied(module: nn.Module) -> dict[str, str]:
    """Keys that the module ties -> the key whose tensor they share, by its own module's names."""
    found = getattr(module, "all_tied_weights_keys", None) or {}
    return {str(key): str(other) for key, other in found.items()}


def tieable(module: nn.Module) -> dict[str, str]:
    """Keys that the module would tie if its config said so."""
    config: Any = getattr(module, "config", None)
    expand = getattr(module, "get_expanded_tied_weights_keys", None)
    if config is None or expand is None:
        return {}
    before = getattr(config, "tie_word_embeddings", False)
    try:
        config.tie_word_embeddings = True
        found = expand(all_submodels=False) or {}
    except Exception:  # of classes that tie in ways of their own
        found = {}
    finally:
        config.tie_word_embeddings = before
    return {**tied(module), **{str(key): str(other) for key, other in found.items()}}


@contextmanager
def reads() -> Generator[dict[tuple[str, str], None]]:
    """The config fields that are read inside, each with its config's class, in their order; copies
    of a config count as it does."""
    found: dict[tuple[str, str], None] = {}
    cls = transformers.PreTrainedConfig
    original = cls.__getattribute__

    def record(self: transformers.PreTrainedConfig, key: str) -> Any:
        if key[0] != "_" and key != "attribute_map":
            mapped = original(self, "attribute_map").get(key, key)
            place = type(self).__name__, mapped
            found.pop(place, None)
            found[place] = None
        return original(self, key)

    cls.__getattribute__ = record  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield found
    finally:
        cls.__getattribute__ = original  # pyright: ignore[reportAttributeAccessIssue]


@contextmanager
def _quiet() -> Generator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
