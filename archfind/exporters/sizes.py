"""What a network does with the sizes of its input, read off two runs on different sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from archfind.exporters import parity
from archfind.providers.example import Example

ANY = "any"  # the same calls of torch with the same numbers: a graph of one size is of every size
COMPUTED = "computed"  # some numbers, or even the calls, follow from the sizes
FIXED = "fixed"  # another size is refused: a table of positions has an end, a window doesn't fit


@dataclass(frozen=True)
class Sizes:
    """`kind` is one of the above; `larger` is the run on the other size, where there was one;
    `pads` says that something is padded, perhaps by what a size lacks."""

    kind: str
    larger: parity.Case | None = None
    pads: bool = False


class Calls(TorchFunctionMode):
    """Notes each call of torch in `made`: its name, and every argument that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[str, object]] = []

    def __torch_function__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = getattr(func, "__name__", str(func))
        if name != "__get__":  # of `shape` and the like, whose numbers show where they are used
            self.made.append((name, _numbers((args, kwargs))))
        return func(*args, **(kwargs or {}))


def observed(module: nn.Module, args: tuple[object, ...]) -> tuple[parity.Case, Calls]:
    """A run of the module, and its calls of torch."""
    with Calls() as calls:
        return parity.case(module, args), calls


def run_on_other_sizes(module: nn.Module, example: Example, calls: Calls) -> Sizes:
    """How the module takes inputs whose axes, those that `example` names, have other sizes. `calls`
    are those of its run on the example."""
    if not example.axes or not example.dynamic_batch:
        return Sizes(FIXED)
    try:
        larger, others = observed(module, parity.resized_inputs(example.args, example.axes))
    except Exception:  # most networks of patches are of one size
        return Sizes(FIXED)
    if calls.made != others.made:
        # A first run may fill a cache: only a later one shows what the size is the reason of.
        calls = observed(module, example.args)[1]
    pads = any("pad" in name for name, _ in calls.made)
    return Sizes(ANY if calls.made == others.made else COMPUTED, larger, pads)


def _numbers(value: object) -> object:
    """An argument without its tensors, to be compared."""
    match value:
        case Tensor():
            return "tensor"
        case bool() | int() | float() | str() | None:
            return value
        case slice():
            return "slice", _numbers((value.start, value.stop, value.step))
        case dict():
            return tuple((name, _numbers(item)) for name, item in value.items())  # pyright: ignore[reportUnknownVariableType]
        case list() | tuple():
            return tuple(map(_numbers, value))  # pyright: ignore[reportUnknownArgumentType]
        case _:
            return type(value).__name__
