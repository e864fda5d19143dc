"""What each kind of edit does: tensors by name in, tensors by name out, nothing read yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor
from torch.nn import functional as F

from archfind.errors import RepairError
from archfind.escape import escape
from archfind.repair.edits import Edit, Plan
from archfind.types import TensorSpec
from archfind.values.reader import TensorReader, merged_weight


@dataclass(frozen=True)
class Lazy:
    """A tensor to come: `make` gives it, `like` is it without data. `spec` is there while it is the
    file's own, untouched."""

    make: Callable[[], Tensor]
    like: Tensor
    spec: TensorSpec | None = None


State = dict[str, Lazy]


def read(spec: TensorSpec) -> Lazy:
    """A tensor of a file. RepairError where torch hasn't its dtype."""
    dtype = getattr(torch, spec.dtype, None)
    if not isinstance(dtype, torch.dtype):
        raise RepairError(f"holds {escape(spec.dtype)} tensors, which torch hasn't")
    try:
        like = torch.empty(spec.shape, dtype=dtype, device="meta")
    except (RuntimeError, TypeError) as error:
        raise RepairError(
            "holds a tensor larger than torch can count", spec.storage.file
        ) from error
    return Lazy(lambda: TensorReader().read(spec), like, spec)


def _then(lazy: Sequence[Lazy], do: Callable[..., Tensor]) -> Lazy:
    """What `do` makes of some tensors."""
    like = do(*(one.like for one in lazy))
    return Lazy(lambda: do(*(one.make() for one in lazy)), like)


def _each(state: State, edit: Edit, do: Callable[[Tensor], Tensor]) -> State:
    wanted = set(matching(state, edit.keys))
    return {k: _then([one], do) if k in wanted else one for k, one in state.items()}


def matching(state: Mapping[str, object], keys: Sequence[str]) -> list[str]:
    """Keys by name; a `*` in one stands for any text."""
    found: list[str] = []
    for key in keys:
        if key in state or "*" not in key:
            found.append(key)
        else:
            found += [name for name in state if fnmatchcase(name, key.replace("[", "[[]"))]
    return found


def _unwrap(state: State, edit: Edit, plan: Plan) -> State:
    place = f"{edit.options['place']}/"
    inner = {k[len(place) :]: one for k, one in state.items() if k.startswith(place)}
    return {_dotted(key): one for key, one in inner.items()}


def _dotted(pointer: str) -> str:
    return pointer.replace("/", ".").replace("~1", "/").replace("~0", "~")


def _rename(state: State, edit: Edit, plan: Plan) -> State:
    names: dict[str, str] = {}
    for old, new in zip(edit.keys, edit.to, strict=True):
        if "*" in old and old not in state:
            before, _, after = old.partition("*")
            for key in matching(state, [old]):
                names[key] = new.replace("*", key[len(before) : len(key) - len(after) or None])
        else:
            names[old] = new
    out = {names.get(key, key): one for key, one in state.items()}
    if len(out) < len(state):
        raise RepairError("a rename gives two tensors one name", plan.source)
    return out


def _drop(state: State, edit: Edit, plan: Plan) -> State:
    gone = set(matching(state, edit.keys))
    return {key: one for key, one in state.items() if key not in gone}


def _copy(state: State, edit: Edit, plan: Plan) -> State:
    return {**state, edit.to[0]: state[edit.keys[0]]}


def _reshape(state: State, edit: Edit, plan: Plan) -> State:
    return _each(state, edit, lambda t: t.reshape(edit.options["shape"]))


def _transpose(state: State, edit: Edit, plan: Plan) -> State:
    return _each(state, edit, lambda t: t.permute(edit.options["axes"]))


def _cast(state: State, edit: Edit, plan: Plan) -> State:
    dtype = getattr(torch, edit.options["dtype"])

    def cast(value: Tensor) -> Tensor:
        out = value.to(dtype)
        if value.is_meta or not value.is_floating_point():
            return out
        if not dtype.is_floating_point and not torch.equal(out.to(value.dtype), value):
            raise RepairError(f"a cast to {edit.options['dtype']} would round", plan.source)
        if dtype.is_floating_point and not torch.equal(out.isfinite(), value.isfinite()):
            text = f"holds values too large for {edit.options['dtype']}"
            raise RepairError(text, plan.source)
        return out

    return _each(state, edit, cast)


def _parts(state: State, edit: Edit, do: Callable[..., Tensor]) -> State:
    """One tensor where the first of several stood."""
    made = _then([state[key] for key in edit.keys], do)
    return _replaced(state, edit.keys, {edit.to[0]: made})


def _replaced(state: State, keys: Sequence[str], made: Mapping[str, Lazy]) -> State:
    out: State = {}
    gone = set(keys)
    placed = False
    for key, one in state.items():
        if key in gone and not placed:
            out |= made
            placed = True
        if key not in gone:
            out[key] = one
    return out if placed else out | dict(made)


def _merge(state: State, edit: Edit, plan: Plan) -> State:
    how = edit.options["how"]
    if how == "lora":
        from archfind.repair.adapters import weight_with_adapter

        def adapted(*parts: Tensor) -> Tensor:
            return weight_with_adapter(list(parts), edit.options)

        return _parts(state, edit, adapted)

    def whole(*parts: Tensor) -> Tensor:
        return merged_weight(how, list(parts))

    return _parts(state, edit, whole)


def _dequantise(state: State, edit: Edit, plan: Plan) -> State:
    from archfind.values.quantised import dequantised

    scheme, shape = edit.options["scheme"], edit.options["shape"]
    like = torch.empty(shape, dtype=torch.float32, device="meta")
    parts = [state[key] for key in edit.keys]
    made = Lazy(lambda: dequantised(scheme, [one.make() for one in parts], shape), like)
    return _replaced(state, edit.keys, {edit.to[0]: made})


def _split(state: State, edit: Edit, plan: Plan) -> State:
    whole = state[edit.keys[0]]
    if edit.options.get("how") == "weight_norm":
        axes = [n for n, size in enumerate(edit.options["g"]) if size == 1]

        def length(value: Tensor) -> Tensor:
            return torch.linalg.vector_norm(value, dim=axes, keepdim=True)

        g = _then([whole], length)
        return _replaced(state, edit.keys, {edit.to[0]: g, edit.to[1]: whole})
    if edit.options.get("how") == "batch_norm":
        root = (1 + edit.options["eps"]) ** 0.5  # times 1/sqrt(variance + eps) is one

        def factor(bias: Tensor) -> Tensor:
            return torch.full_like(bias, root)

        values = (factor, torch.clone, torch.zeros_like, torch.ones_like)
        norm = {key: _then([whole], do) for key, do in zip(edit.to, values, strict=True)}
        return _replaced(state, edit.keys, norm)
    axis, sizes = edit.options["axis"], edit.options["sizes"]

    def part(number: int) -> Callable[[Tensor], Tensor]:
        return lambda t: torch.split(t, sizes, axis)[number]

    made = {key: _then([whole], part(number)) for number, key in enumerate(edit.to)}
    return _replaced(state, edit.keys, made)


def _fuse(state: State, edit: Edit, plan: Plan) -> State:
    def joined(*parts: Tensor) -> Tensor:
        return torch.cat(parts, edit.options["axis"])

    return _parts(state, edit, joined)


def _resize(state: State, edit: Edit, plan: Plan) -> State:
    shape, how = tuple(edit.options["shape"]), edit.options["how"]
    start = int(edit.options.get("prefix", 0))

    def table(value: Tensor) -> Tensor:
        return resized_table(value, shape, how, start)

    return _each(state, edit, table)


def resized_table(value: Tensor, shape: tuple[int, ...], how: str, prefix: int = 0) -> Tensor:
    """A table of another size.

    `how`: "grid" interpolates rows that lie on a square, the first `prefix` rows aside (class
    tokens), bicubic as in Dosovitskiy et al. 2020 (arXiv:2010.11929); "line" rows that lie on a
    line, linearly; "rows" cuts the first axis; "sum" adds input channels up into fewer, "repeat"
    repeats them into more, scaled so that equal channels give what the one gave.
    """
    if how in ("grid", "line"):
        axis = next(n for n, (a, b) in enumerate(zip(value.shape, shape, strict=True)) if a != b)
        rows = value.movedim(axis, 0).flatten(1)
        kept, rows = rows[:prefix], rows[prefix:]
        wanted = shape[axis] - prefix
        if how == "grid":
            old, new = round(len(rows) ** 0.5), round(wanted**0.5)
            image = rows.float().T.reshape(1, -1, old, old)
            image = F.interpolate(image, (new, new), mode="bicubic", antialias=new < old)
            moved = image.reshape(-1, wanted).T
        else:
            line = F.interpolate(rows.float().T[None], wanted, mode="linear", align_corners=False)
            moved = line[0].T
        out = torch.cat([kept, moved.to(value.dtype)])
        rest = [n for i, n in enumerate(value.shape) if i != axis]
        return out.reshape(shape[axis], *rest).movedim(0, axis).contiguous()
    if how == "rows":
        return value[: shape[0]]
    old, new = value.shape[1], shape[1]
    if how == "sum":
        if new == 1:
            return value.sum(1, keepdim=True)
        raise ValueError("channels are summed into one")
    return value.repeat(1, -(-new // old), *[1] * (value.dim() - 2))[:, :new] * (old / new)


def _fill(state: State, edit: Edit, plan: Plan) -> State:
    shape = tuple(edit.options["shape"])
    dtype = getattr(torch, edit.options.get("dtype", "float32"))
    value = edit.options.get("value", "zeros")
    like = torch.empty(shape, dtype=dtype, device="meta")

    def make() -> Tensor:
        if value == "ones":
            return torch.ones(shape, dtype=dtype)
        if value == "zeros":
            return torch.zeros(shape, dtype=dtype)
        random = torch.Generator().manual_seed(0)
        return (torch.randn(shape, generator=random) * 0.02).to(dtype)

    out = {key: one for key, one in state.items() if key not in edit.to}
    return {**out, edit.to[0]: Lazy(make, like)}


DO: Mapping[str, Callable[[State, Edit, Plan], State]] = {
    "unwrap": _unwrap,
    "rename": _rename,
    "drop": _drop,
    "copy": _copy,
    "reshape": _reshape,
    "transpose": _transpose,
    "cast": _cast,
    "dequantise": _dequantise,
    "merge": _merge,
    "split": _split,
    "fuse": _fuse,
    "resize": _resize,
    "fill": _fill,
}
