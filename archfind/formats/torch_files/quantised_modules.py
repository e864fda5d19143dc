"""What torch's quantised layers keep outside of parameters and buffers, in whole pickles and in
state dicts: packed weights as the tensors that they hold, and layers whose pickled state is a tuple
as the attributes that any other module has. All under the names of `state_dict()`."""

from __future__ import annotations

import struct

from archfind.formats.pickles.nodes import PickledCall, Tensor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.formats.torch_files.modules import State

_LAYERS = (
    "torch.ao.nn.quantized.", "torch.ao.nn.intrinsic.quantized.",
    "torch.nn.quantized.", "torch.nn.intrinsic.quantized.",
)  # fmt: skip
# The order in which a quantised convolution hands its attributes over.
_CONVOLUTION = (
    "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "transposed",
    "output_padding", "groups", "padding_mode", "weight", "bias", "scale", "zero_point", "training",
)  # fmt: skip


def layer_state(name: str, state: object) -> State | None:
    """The attributes of a quantised layer, its scales among its buffers; None for any other."""
    if not name.startswith(_LAYERS):
        return None
    if type(state) is tuple and len(state) == len(_CONVOLUTION):
        held: State = dict(zip(_CONVOLUTION, state, strict=True))
        tensors = {key: held.pop(key) for key in ("weight", "bias")}
        state = held | {"_parameters": {}, "_buffers": tensors, "_modules": {}}
    if type(state) is not dict or type(state.get("_buffers")) is not dict:
        return None
    scale, zero = state.get("scale"), state.get("zero_point")
    if type(scale) is not float or type(zero) is not int or not -(2**31) <= zero < 2**31:
        return state  # a layer that quantises inputs has both as buffers already
    numbers = {
        "scale": Tensor(struct.pack("<f", _single(scale)), 0, (), None, "float32"),
        "zero_point": Tensor(struct.pack("<q", zero), 0, (), None, "int64"),
    }
    return {**state, "_buffers": {**state["_buffers"], **numbers}}  # pyright: ignore


def _single(number: float) -> float:
    """A number that a float of 32 bits can hold; infinite where it can't."""
    return number if abs(number) < 3.4e38 else float("inf")


def packed(value: object) -> tuple[list[object], object] | None:
    """The tensors in torch's packed weights, a Linear's (weight, bias) or those of one direction
    of a recurrent layer (two weights, two biases), and what else is kept with them."""
    if type(value) is not PickledCall or value.name != "torch.ScriptObject":
        return None
    pair = _of_class(value, "quantized.LinearPackedParamsBase", 2)
    if pair:
        return [*pair], None
    parts = _of_class(value, "rnn.CellParamsBase", 5)
    if not parts:
        return None
    kind, biases, _, numbers, weights = parts
    linears = weights[:2] if type(weights) is list else []
    pairs = [_of_class(one, "quantized.LinearPackedParamsBase", 2) for one in linears]
    if len(pairs) != 2 or not all(pairs):
        return None
    (first, bias), (second, other) = pairs
    if type(biases) is not list or len(biases) != 2:
        biases = [bias, other]  # of half precision, they stand in the Linears alone
    return [first, second, *biases], [kind, *(numbers if type(numbers) is list else [])]


def _of_class(value: object, name: str, count: int) -> tuple[object, ...]:
    """The parts of an object of one of torch's own classes; () where it's none."""
    state = value.state if type(value) is PickledCall else None
    if type(state) is not tuple or len(state) != 2 or state[1] != f"__torch__.torch.classes.{name}":
        return ()
    return state[0] if type(state[0]) is tuple and len(state[0]) == count else ()
