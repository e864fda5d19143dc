"""Canonical -> Explained: a state dict's modules as a tree, with the forwards of its patterns."""

from __future__ import annotations

import re

from archfind.evidence.listed import listing
from archfind.frozen import frozen
from archfind.sourcing.flow import Flow
from archfind.sourcing.parts import CONTAINERS, ModulePart
from archfind.sourcing.patterns import PATTERNS
from archfind.sourcing.plan import planned_convolutions
from archfind.sourcing.stacks import torch_stacks
from archfind.sourcing.stated import stated_arguments
from archfind.sourcing.tree import is_writable, module_tree
from archfind.sourcing.unseen import Asked
from archfind.sourcing.values import Value
from archfind.types import NOTHING, Canonical

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from archfind.types import TensorSpec

_WRAPPERS = ("module", "_orig_mod", "model", "net", "network")
CERTAIN, LIKELY, PARTIAL = "certain", "likely", "partial"
# What the pickle of a whole network names for its layers and tensors: a hook would be another.
_OF_LAYERS = re.compile(
    r"(torch\.nn\.modules\.[a-z]+\.\w+|torch\._utils\._rebuild_\w+|torch\.\w+Storage|"
    r"torch\.storage\.\w+|collections\.OrderedDict|(__builtin__|builtins)\.set)\Z"
)
# Layers whose every argument is written as a whole pickle says it.
_WHOLLY_WRITTEN = frozenset(
    """Sequential Linear Conv1d Conv2d Conv3d BatchNorm1d BatchNorm2d BatchNorm3d ReLU LeakyReLU
    Tanh Sigmoid GELU ELU SiLU Dropout Flatten Identity""".split()
)


@frozen
class Explained:
    """A network's modules below `top`, with the forwards that patterns found; `given` is what the
    network gives, None where no pattern explains it. `prefix` is what its names lack of the
    file's."""

    top: ModulePart
    flow: Flow
    given: Value | None
    grade: str
    prefix: str


def explained(canonical: Canonical, settings: Mapping[str, object] = NOTHING) -> Explained | None:
    """The modules of a state dict, with the settings of a user; None where its names are no tree of
    modules. BuildError where a setting is for nothing that is assumed."""
    index, prefix = unprefixed(canonical.index)
    if not is_writable(index):
        return None
    asked = Asked(settings)
    listed = {path.removeprefix(prefix): row for path, row in listing(canonical).items()}
    if prefix:
        listed = (
            {}
            if not all(path.startswith(prefix[:-1]) for path in listing(canonical))
            else {path: row for path, row in listed.items() if path != prefix[:-1]}
        )
    top = module_tree(index, listed)
    stated_arguments(top, asked)
    torch_stacks(top, asked)
    flow = Flow(asked, bool(listed), PATTERNS)
    planned_convolutions(top, flow)
    given = _explained(top, flow)
    top.is_ordered = _is_ordered(top, flow)
    asked.refuse_idle(canonical.checkpoint.path)
    grade = _grade(top, given is not None, asked, canonical)
    return Explained(top, flow, given, grade, prefix)


def unprefixed(tensors: Mapping[str, TensorSpec]) -> tuple[dict[str, TensorSpec], str]:
    """The tensors under the names that the module has, and what they lack of the file's."""
    index = dict(tensors)
    prefix = ""
    while True:
        tops = {key.partition(".")[0] for key in index}
        word = next(iter(tops), "")
        if len(tops) != 1 or word not in _WRAPPERS or word in index:
            return index, prefix
        index = {key.partition(".")[2]: spec for key, spec in index.items()}
        prefix += f"{word}."


def _explained(top: ModulePart, flow: Flow) -> Value | None:
    """What the network gives; a tree that is one container becomes a block that holds nothing
    else."""
    top.kind = "Block" if top.kind not in CONTAINERS else top.kind
    if top.kind in CONTAINERS:
        given = flow.explain(top, Value("input"), True) if top.kind == "Sequential" else None
        if given is not None:
            return given
        top.kind = "Block"
        for part in top.walk():
            part.forward = None
    return flow.explain(top, Value("input"), True)


def _is_ordered(top: ModulePart, flow: Flow) -> bool:
    """Whether the layer with tensors that is registered first runs first, as far as that is known,
    and so with the last."""
    calls = [part for part in flow.calls if part.ins or part.kind == "Embedding"]
    layers = [part for part in top.walk() if part.ins or part.kind == "Embedding"]
    if len(calls) < 2 or len(layers) < 2 or "transformer" in flow.tags:
        return True
    return calls[0] is layers[0] and (calls[-1] is layers[-1] or "heads" in flow.tags)


def _grade(top: ModulePart, explained: bool, asked: Asked, canonical: Canonical) -> str:
    """Certain only where a whole pickle of torch's own Sequential says every number of layers that
    are written with all of their arguments, and names nothing else that could run: a hook, say."""
    if not explained:
        return PARTIAL
    checkpoint = canonical.checkpoint
    parts = [part for part in top.walk() if part.path]
    rooted = checkpoint.objects.get("", "") == "torch.nn.modules.container.Sequential"
    own = all(
        part.stated.startswith("torch.nn.modules.")
        and part.stated.rpartition(".")[2] == part.kind
        and part.kind in _WHOLLY_WRITTEN
        and not part.wrapped
        for part in parts
    )
    said = all(item.source == "file" for item in asked.unseen.values() if item.place != "final")
    default = "final" not in asked.unseen or asked.unseen["final"].value == "none"
    foreign = all(map(_OF_LAYERS.match, checkpoint.foreign))
    is_sequential = top.kind == "Sequential"
    sure = rooted and bool(parts) and own and said and default and foreign and is_sequential
    return CERTAIN if sure else LIKELY
