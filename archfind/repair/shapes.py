"""Tensors under the right key in another shape or dtype: transposed, squeezed, resized, cast."""

from __future__ import annotations

from archfind.repair.edits import Edit
from archfind.repair.leftovers import orders
from archfind.repair.work import RepairWork
from archfind.types import TensorSpec

_TABLES = ("pos_embed", "pos_embedding", "position_embedding", "position_embeddings")
_FLOATS = ("float64", "float32", "float16", "bfloat16")


def append_shape_edits(work: RepairWork, chosen: bool) -> None:
    """Append the edits that make shapes and dtypes fit. `chosen`: the user named the network, so
    that tables and channels may be resized to it."""
    _transposed(work)  # first: [1, 1, n, n] would be squeezed into [n, n, 1, 1] just as well
    _squeezed(work)
    _resized(work, chosen)
    _cast(work)


def _wrong(work: RepairWork) -> list[str]:
    return [
        key
        for key, want in work.want.items()
        if key in work.have and _shape(work, key) != want.shape
    ]


def _shape(work: RepairWork, key: str) -> tuple[int, ...]:
    return work.have[key].shape


def _squeezed(work: RepairWork) -> None:
    """Sizes of one come and go without moving a value; so does a vector's number of axes."""
    for key in _wrong(work):
        ours, theirs = _shape(work, key), work.want[key].shape
        bare = [n for n in ours if n != 1]
        if bare == [n for n in theirs if n != 1]:
            work.become(Edit("reshape", (key,), (), {"shape": list(theirs)}), {key: theirs})


def _transposed(work: RepairWork) -> None:
    """Axes in another framework's order. One order must do for all tensors of a kind of layer that
    have the wrong shape; where it does for every one that shows it, those that look the same either
    way are turned, too."""
    groups: dict[tuple[str, int], list[str]] = {}
    for key, want in work.want.items():
        if key in work.have and len(_shape(work, key)) == len(want.shape) > 1:
            groups.setdefault((want.owner, len(want.shape)), []).append(key)
    for (_, rank), keys in groups.items():
        wrong = [key for key in keys if _shape(work, key) != work.want[key].shape]
        wrong = [k for k in wrong if sorted(_shape(work, k)) == sorted(work.want[k].shape)]
        if not wrong:
            continue
        done: set[str] = set()
        for axes in orders(rank):
            fits = [k for k in wrong if k not in done and _turns(work, k, axes)]
            if not fits:
                continue
            told = [k for k in keys if _turned(_shape(work, k), axes) != _shape(work, k)]
            every = set(fits) == {k for k in told if k not in done}
            blind = [k for k in keys if k not in told and k not in fits]
            inverse = [0] * rank
            for to, at in enumerate(axes):
                inverse[at] = to
            symmetric = [k for k in blind if not done and _shape(work, k) == work.want[k].shape]
            turned = [*fits, *(symmetric if every else [])]
            if symmetric and not every:
                work.notes.append(
                    f"{len(fits)} tensors are transposed and others aren't; of {len(symmetric)} "
                    f"with equal sides, as {symmetric[0]}, nothing tells: they stay"
                )
            shapes = {k: work.want[k].shape for k in turned}
            note = f"{len(turned)} tensors" + (
                f", {len(symmetric)} of them with equal sides" if symmetric and every else ""
            )
            order = tuple(k for k in work.have if k in set(turned))
            work.edits.append(Edit("transpose", order, (), {"axes": list(axes)}, note=note))
            for key, shape in shapes.items():
                work.have[key] = _with_shape(work.have[key], shape)
            done |= set(turned)


def _turned(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(shape[axis] for axis in axes)


def _turns(work: RepairWork, key: str, axes: tuple[int, ...]) -> bool:
    return _turned(_shape(work, key), axes) == work.want[key].shape


def _with_shape(spec: TensorSpec, shape: tuple[int, ...]) -> TensorSpec:
    from archfind.frozen import replace

    return replace(spec, shape=shape)


def _resized(work: RepairWork, chosen: bool) -> None:
    """Flattened kernels; position tables, vocabularies and input channels of another size."""
    for key in _wrong(work):
        ours, theirs = _shape(work, key), work.want[key].shape
        owner = work.want[key].owner
        options: dict[str, object] = {"shape": list(theirs)}
        if _size(ours) == _size(theirs) and ours[:1] == theirs[:1]:
            edit = Edit("reshape", (key,), (), options, note="flattened: [out, in, h, w]")
            work.become(edit, {key: theirs})
            continue
        differ = [n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b]
        if len(ours) != len(theirs) or len(differ) != 1:
            continue
        (axis,) = differ
        old, new = ours[axis], theirs[axis]
        leaf = key.removesuffix(".weight").rpartition(".")[2]
        if leaf in _TABLES:
            prefix = next((n for n in (1, 0, 2, 5) if _square(old - n) and _square(new - n)), None)
            options |= {"how": "line" if prefix is None else "grid", "prefix": prefix or 0}
            note = f"{old} positions to {new}"
        elif owner == "Embedding" and axis == 0 and new < old:
            options |= {"how": "rows"}
            note = f"the first {new} of {old} rows"
        elif owner.startswith("Conv") and axis == 1 and chosen and (new == 1 or old < new):
            options |= {"how": "sum" if new == 1 else "repeat"}
            note = f"{old} input channels to {new}"
        else:
            continue
        edit = Edit("resize", (key,), (), options, lossless=False, note=note)
        work.become(edit, {key: theirs})


def _square(number: int) -> bool:
    return number > 0 and round(number**0.5) ** 2 == number


def _size(shape: tuple[int, ...]) -> int:
    count = 1
    for n in shape:
        count *= n
    return count


def _cast(work: RepairWork) -> None:
    """Numbers of another kind; and floats of another width than all the others."""
    groups: dict[str, list[str]] = {}
    floats = [s.dtype for k, s in work.have.items() if k in work.want and s.dtype in _FLOATS]
    usual = max(set(floats), key=floats.count) if floats else "float32"
    for key, want in work.want.items():
        spec = work.have.get(key)
        if spec is None or spec.shape != want.shape:
            continue
        if want.dtype in _FLOATS:
            odd = usual == "float64" or spec.dtype not in (usual, "float32")
            if (spec.dtype in _FLOATS or spec.dtype.startswith("float8")) and odd:
                wanted = "float32" if usual == "float64" else usual
                if spec.dtype != wanted:
                    groups.setdefault(wanted, []).append(key)
        elif spec.dtype != want.dtype and _is_number(spec.dtype):
            groups.setdefault(want.dtype, []).append(key)
    for dtype, keys in groups.items():
        widths = {work.have[key].dtype for key in keys}
        lossless = all(_holds(dtype, one) for one in widths)
        note = f"{len(keys)} tensors, {', '.join(sorted(widths))}"
        work.edits.append(Edit("cast", tuple(keys), (), {"dtype": dtype}, lossless, note))
        from archfind.frozen import replace

        for key in keys:
            work.have[key] = replace(work.have[key], dtype=dtype)


def _is_number(dtype: str) -> bool:
    return dtype in _FLOATS or dtype.startswith(("int", "uint", "bool"))


def _holds(wide: str, narrow: str) -> bool:
    """Whether every value of one dtype is one of the other; whole numbers are checked one by one
    when they are cast."""
    if wide not in _FLOATS:
        return True
    order = {"float8_e4m3fn": 0, "float8_e5m2": 0, "float16": 1, "bfloat16": 1, "float32": 2}
    return order.get(narrow, 3) < order.get(wide, 3)
