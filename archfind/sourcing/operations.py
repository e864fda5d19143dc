"""The operations that a program may hold, as Python: a closed list, each written as the function of
torch that computes it."""

from __future__ import annotations

from archfind.frozen import frozen
from archfind.sourcing.nodes import literal
from archfind.sourcing.program import Op, ProgramWeight, Ref, Unfollowed, Word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Tensors = Callable[[str], str]

# Functions of torch whose arguments are those of the operation, in its order.
_TORCH = frozenset(
    """relu sigmoid tanh matmul bmm mm addmm baddbmm cat stack softmax log_softmax mean sum amax
    amin flatten unsqueeze squeeze transpose permute reshape chunk split unbind select sqrt rsqrt
    exp log abs clamp clamp_min clamp_max where tril triu zeros ones zeros_like ones_like full
    arange cumsum
    square var std prod argmax argmin topk sort roll flip sin cos erf minimum maximum reciprocal
    logsumexp norm outer dot einsum masked_fill index_select gather relu_ sigmoid_ tanh_ max min
    floor ceil round sign movedim floor_divide remainder bitwise_not logical_not isnan selu selu_
    celu pixel_shuffle pixel_unshuffle""".split()
)
# Functions of torch.nn.functional, likewise.
_FUNCTIONAL = frozenset(
    """linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d max_pool1d
    max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d
    adaptive_avg_pool3d silu silu_ mish hardswish hardsigmoid softplus logsigmoid elu leaky_relu
    hardtanh relu6 glu prelu softsign scaled_dot_product_attention pad unfold
    interpolate normalize adaptive_max_pool2d""".split()
)
_METHODS = frozenset(
    """view expand contiguous repeat clone detach type_as view_as expand_as mul_ add_ sub_ div_
    masked_fill_ unfold_""".split()
)
_BINARY = {"add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "**", "lt": "<", "le": "<=",
           "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}  # fmt: skip
_SAME_VALUE = ("alias", "lift_fresh_copy")
_SAME = ("dropout", "feature_dropout", "alpha_dropout")
_END = 9223372036854775807  # of a slice without an end


@frozen
class PythonTemplate:
    """Python with places for references: a piece is text, or a reference and whether it has to be
    one that nothing beside it takes apart."""

    pieces: tuple[str | tuple[Ref, bool], ...]
    is_atom: bool = True


def expression(op: Op, tensors: Tensors) -> PythonTemplate:
    """An operation as Python; `tensors` gives how a tensor of the state dict is called. Unfollowed
    where it isn't on the list."""
    name, args = op.name, list(op.args)
    kwargs = dict(op.kwargs)
    if name in _BINARY and len(args) >= 2:
        alpha = args[2] if len(args) > 2 else kwargs.pop("alpha", 1)
        if alpha == 1 and not kwargs and any(isinstance(a, Ref | ProgramWeight) for a in args[:2]):
            pair = [_text(value, tensors, True) for value in args[:2]]
            return PythonTemplate((*pair[0], f" {_BINARY[name]} ", *pair[1]), False)
    if name in _SAME_VALUE and len(args) == 1:
        return PythonTemplate(_text(args[0], tensors, False))
    if name == "neg" and len(args) == 1:
        return PythonTemplate(("-", *_text(args[0], tensors, True)), False)
    if name in _SAME and (len(args) < 3 or args[2] is False):
        return PythonTemplate(_text(args[0], tensors, False))
    special = _special(name, args, kwargs, tensors)
    if special is not None:
        return special
    if name in _TORCH or name in _FUNCTIONAL:
        module = "torch" if name in _TORCH else "F"
        return _call(f"{module}.{name}", args, kwargs, tensors)
    if name in _METHODS and args and isinstance(args[0], Ref | ProgramWeight):
        return _method(name, args[0], args[1:], kwargs, tensors)
    raise Unfollowed(f"an operation {name[:40]}")


def _special(
    name: str, args: list[object], kwargs: dict[str, object], tensors: Tensors
) -> PythonTemplate | None:
    """Operations whose function of torch takes other arguments."""
    call = _Call(tensors)
    if name in ("size", "sym_size") and len(args) == 2 and isinstance(args[0], Ref):
        return PythonTemplate(((args[0], True), f".shape[{literal(args[1])}]"))
    if name == "gelu":
        how = kwargs.get("approximate", args[1] if len(args) > 1 else "none")
        more: dict[str, object] = {"approximate": "tanh"} if how == "tanh" else {}
        return call("F.gelu", args[:1], more)
    if name == "slice" and 3 <= len(args) <= 5 and isinstance(args[0], Ref):
        return _sliced(args, tensors)
    if name == "embedding":
        return call("F.embedding", [args[1], args[0]], {})
    if name in ("layer_norm", "group_norm") and len(args) >= 4:
        more = {"eps": args[4]} if len(args) > 4 else {}
        return call(f"F.{name}", args[:4], more)
    if name == "batch_norm" and len(args) >= 8:
        more = {"eps": args[7]} | ({"training": True} if args[5] else {})
        return call("F.batch_norm", [args[0], args[3], args[4], args[1], args[2]], more)
    if name == "_convolution" and len(args) >= 9:
        return _convolution(args, call)
    if name == "constant_pad_nd":
        return call("F.pad", args[:2], {"value": args[2]} if len(args) > 2 and args[2] else {})
    if name.startswith(("upsample_nearest", "upsample_bilinear")) and len(args) >= 2:
        return _resized(name, args, call)
    if name == "rsub" and len(args) == 2 and not kwargs:
        pair = [_text(value, tensors, True) for value in args]
        return PythonTemplate((*pair[1], " - ", *pair[0]), False)
    if name == "linalg_vector_norm":
        return call("torch.linalg.vector_norm", args, kwargs)
    if name == "index" and isinstance(args[0], Ref) and isinstance(args[1], list):
        whole = (None, None, None)
        return _indexed(args[0], [whole if one is None else one for one in args[1]], tensors)
    if name == "getitem" and isinstance(args[0], Ref) and isinstance(args[1], list):
        return _indexed(args[0], args[1], tensors)
    if name == "dropout" and kwargs.pop("training", False) is False:
        return PythonTemplate(_text(args[0], tensors, False))
    if name == "unpack":
        return PythonTemplate(_text(args[0], tensors, False))
    if name in ("to", "_to_copy"):
        told = [value for value in (*args[1:], *kwargs.values()) if isinstance(value, Word)]
        rest = [
            value for value in (*args[1:], *kwargs.values()) if value not in (*told, None, False)
        ]
        if len(told) == 1 and not rest:
            return _method("to", args[0], [told[0]], {}, tensors)
    return None


class _Call:
    def __init__(self, tensors: Tensors) -> None:
        self.tensors = tensors

    def __call__(
        self, function: str, args: list[object], kwargs: dict[str, object]
    ) -> PythonTemplate:
        return _call(function, args, kwargs, self.tensors)


def _convolution(args: list[object], call: _Call) -> PythonTemplate:
    """(input, weight, bias, stride, padding, dilation, transposed, output_padding, groups)"""
    dims = len(args[3]) if isinstance(args[3], list) else 0
    if dims not in (1, 2, 3):
        raise Unfollowed("a convolution of unknown dimensions")
    if args[6]:
        given = [*args[:5], args[7], args[8], args[5]]
        return call(f"F.conv_transpose{dims}d", given, {})
    return call(f"F.conv{dims}d", [*args[:6], args[8]], {})


def _sliced(args: list[object], tensors: Tensors) -> PythonTemplate:
    axis, start, end = args[1], args[2], args[3] if len(args) > 3 else None
    step = args[4] if len(args) > 4 else 1
    if type(axis) is not int or not 0 <= axis < 8 or type(step) is not int:
        raise Unfollowed("a slice along an unknown axis")
    begin = () if start in (0, None) else _text(start, tensors, False)
    stop = () if end is None or end == _END else _text(end, tensors, False)
    if not begin and not stop and step == 1:
        return PythonTemplate(_text(args[0], tensors, False))
    steps = (f":{step}",) if step != 1 else ()
    before = ":, " * axis
    return PythonTemplate(
        (*_text(args[0], tensors, True), f"[{before}", *begin, ":", *stop, *steps, "]")
    )


def _indexed(holder: Ref, parts: list[object], tensors: Tensors) -> PythonTemplate:
    """An index of numbers, Nones and slices, which are rows of three."""
    pieces: list[str | tuple[Ref, bool]] = [(holder, True), "["]
    for number, part in enumerate(parts):
        pieces += [", "] if number else []
        if not isinstance(part, tuple):
            pieces += _text(part, tensors, False)
            continue
        start, end, step = part
        pieces += [] if start is None else _text(start, tensors, False)
        pieces += [":"] + ([] if end is None else list(_text(end, tensors, False)))
        pieces += [] if step is None else [":", *_text(step, tensors, False)]
    return PythonTemplate((*pieces, "]"))


def _resized(name: str, args: list[object], call: _Call) -> PythonTemplate:
    """Both forms: (input, size, factors) and (input, size, align_corners, factors ...)."""
    linear = "bilinear" in name
    aligned = args[2] if linear and len(args) > 2 else None
    factors = args[3:] if linear else args[2:]
    kwargs: dict[str, object] = {}
    if args[1] is not None:
        kwargs["size"] = args[1]
        if factors and all(isinstance(factor, float) for factor in factors):
            alike = len(set(map(str, factors))) == 1
            kwargs = {"scale_factor": factors[0] if alike else factors}
    elif factors and isinstance(factors[0], list):
        same = len({str(f) for f in factors[0]}) == 1
        kwargs["scale_factor"] = factors[0][0] if same else factors[0]
    else:
        raise Unfollowed("a size of another form")
    kwargs["mode"] = "bilinear" if linear else "nearest"
    if linear:
        kwargs["align_corners"] = aligned
    return call("F.interpolate", args[:1], kwargs)


def _call(
    function: str, args: list[object], kwargs: dict[str, object], tensors: Tensors
) -> PythonTemplate:
    pieces: list[str | tuple[Ref, bool]] = [f"{function}("]
    for number, (key, value) in enumerate([*(("", a) for a in args), *kwargs.items()]):
        pieces += [", "] if number else []
        pieces += [f"{_keyword(key)}="] if key else []
        pieces += _text(value, tensors, False)
    return PythonTemplate((*pieces, ")"))


def _method(
    name: str, holder: object, args: list[object], kwargs: dict[str, object], tensors: Tensors
) -> PythonTemplate:
    called = _call(f".{name}", args, kwargs, tensors)
    return PythonTemplate((*_text(holder, tensors, True), *called.pieces))


_KEYWORDS = frozenset(
    """dim keepdim dtype value training eps size scale_factor mode align_corners scale approximate
    alpha is_causal enable_gqa dropout_p correction kernel_size stride padding groups negative_slope
    output_size start_dim end_dim""".split()
)


def _keyword(name: str) -> str:
    if name not in _KEYWORDS:
        raise Unfollowed(f"an argument {name[:40]}")
    return name


_STRINGS = frozenset("nearest bilinear tanh none mean sum same valid floor trunc".split())


def _text(value: object, tensors: Tensors, tight: bool) -> tuple[str | tuple[Ref, bool], ...]:
    """An argument as pieces: numbers as literals, words that are known, names that are checked."""
    if isinstance(value, Ref):
        return ((value, tight),)
    if isinstance(value, ProgramWeight):
        return (tensors(value.key),)
    if isinstance(value, Word):
        return (value.text,)
    if isinstance(value, str):
        if value not in _STRINGS:
            raise Unfollowed("a word that isn't known")
        return (f'"{value}"',)
    if isinstance(value, list | tuple):
        pieces: list[str | tuple[Ref, bool]] = ["["]
        for number, item in enumerate(value):  # pyright: ignore
            pieces += [", "] if number else []
            pieces += _text(item, tensors, False)
        return (*pieces, "]")
    try:
        return (literal(value),)
    except TypeError as error:
        raise Unfollowed("a number that Python hasn't") from error
