"""The module and its export, run on the same inputs and compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from archfind.errors import ExportError
from archfind.providers.example import Axes, Example, tensors_of_call

# An export sums in another order than torch, which moves a float32 output by some 1e-6 of its size
# for each layer on the way; a wrong operator moves it by percents. RELATIVE is between the two, in
# units of an output's largest value; ABSOLUTE matters to outputs that are zero nearly everywhere.
RELATIVE = 1e-3
ABSOLUTE = 1e-5

_PADDED = 3  # places in a text of which a third may be padding
_LARGER = {"height": 32, "width": 64}

Outputs = dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """Inputs, and what the module makes of them. `there` is a mask of what of a text isn't padding:
    outputs of the rest mean nothing, and aren't compared."""

    args: tuple[object, ...]
    outputs: Outputs
    there: Tensor | None = None

    def compared(self, outputs: list[Tensor]) -> list[Tensor]:
        """Outputs with zeros where the text is padded."""
        return outputs if self.there is None else [_where(t, self.there) for t in outputs]


@dataclass(frozen=True)
class Difference:
    """The largest |difference| over all outputs, and as a share of the output's largest value.
    `why` is "" where each is within tolerance."""

    largest: float
    why: str = ""
    share: float = 0.0

    def note(self, relative: float = RELATIVE) -> dict[str, str]:
        """The share beside the limit that it was held to, for `Exported.notes`."""
        return {"relative": f"{self.share:.1e} of the largest output, limit {relative:g}"}


def case(module: nn.Module, args: tuple[object, ...]) -> Case:
    """Runs the module, on copies: some networks scale the image in its place."""
    copies = [arg.clone() if isinstance(arg, Tensor) else arg for arg in args]
    # not inference_mode, whose tensors can't be trained on: a network may keep some in a cache
    with torch.no_grad():
        return Case(args, flatten_outputs(module(*copies)))


def padded(module: nn.Module, example: Example) -> Case | None:
    """The module on the example with a text that is shorter than the others of its batch, as its
    mask says; None where it takes no mask."""
    given = iter(example.names)
    args: list[object] = []
    there: Tensor | None = None
    for arg in example.args:
        if isinstance(arg, Tensor) and next(given).endswith("attention_mask") and arg.dim() == 2:
            there = arg = arg.clone()
            arg[-1, -(arg.shape[1] // 3) :] = 0
        args.append(arg)
    if there is None or there.shape[1] < _PADDED:
        return None
    with torch.no_grad():
        outputs = flatten_outputs(module(*args))
    return Case(tuple(args), {name: _where(t, there) for name, t in outputs.items()}, there)


def _where(output: Tensor, there: Tensor) -> Tensor:
    """An output with zeros where a text is padded, if it has a row for each place of the text."""
    if output.shape[:2] != there.shape or not output.is_floating_point():
        return output
    mask = there.reshape(*there.shape, *[1] * (output.dim() - 2)).bool()
    return torch.where(mask, output, torch.zeros_like(output))


def flatten_outputs(output: object) -> Outputs:
    """Tensors in dicts, lists and tuples, in order. One alone is "output"; others are named for
    their place: "out", "boxes", "output_3"."""
    found: list[tuple[str, Tensor]] = []
    _collect(output, "", found)
    if len(found) == 1 and found[0][0].isdigit():
        return {"output": found[0][1]}
    named: Outputs = {}
    for place, tensor in found:
        name = f"output_{place}" if place[:1].isdigit() or not place else place
        named["output" if name == "output_" else name] = tensor
    return named


def _collect(value: object, place: str, found: list[tuple[str, Tensor]]) -> None:
    if isinstance(value, Tensor):
        found.append((place, value))
    elif isinstance(value, Mapping):
        for key, item in value.items():  # pyright: ignore[reportUnknownVariableType]
            _collect(item, f"{place}_{key}".strip("_"), found)
    elif isinstance(value, list | tuple):
        items: list[object] = list(value)  # pyright: ignore[reportUnknownArgumentType]
        for number, item in enumerate(items):
            # detection gives a list with a dict for each image, here one
            alone = len(items) == 1 and isinstance(item, Mapping)
            _collect(item, place if alone else f"{place}_{number}".strip("_"), found)


def other(args: tuple[object, ...], batch: int = 0) -> tuple[object, ...]:
    """Inputs that differ from `args` and have the same range: mirrored and negative pictures,
    `batch` of them (0: as many as there are).

    An exporter that follows one run of the network may bake in what held for that input alone, so
    the input that it followed proves little.
    """
    changed: list[object] = []
    for arg in args:
        if isinstance(arg, list):
            changed.append([_negative(item) for item in tensors_of_call((arg,))])
        elif isinstance(arg, Tensor):
            changed.append(_batch(_negative(arg), batch) if batch else _negative(arg))
        else:
            changed.append(arg)
    return tuple(changed)


def resized_inputs(args: tuple[object, ...], axes: Sequence[Axes]) -> tuple[object, ...]:
    """Inputs whose named axes have another size, the same for the same name: pictures somewhat
    larger, and no square any more; sequences shorter, since tables of positions end."""
    given = iter(axes)
    changed: list[object] = []
    for arg in args:
        if isinstance(arg, Tensor):
            for axis, name in next(given, {}).items():
                old = arg.shape[axis]
                size = old + _LARGER[name] if name in _LARGER else old - max(1, old // 4)
                arg = arg.index_select(axis, torch.arange(size) * old // size)
        changed.append(arg)
    return tuple(changed)


def odd(args: tuple[object, ...], axes: Sequence[Axes], step: int = 1) -> tuple[object, ...]:
    """Inputs whose named axes are somewhat shorter, and odd multiples of `step`: what pads up to
    even sizes, or rounds halves, shows there alone."""
    given = iter(axes)
    changed: list[object] = []
    for arg in args:
        if isinstance(arg, Tensor):
            for axis, name in next(given, {}).items():
                old = arg.shape[axis]
                size = (old * 5 // 8 // step // 2 * 2 + (3 if name == "width" else 1)) * step
                arg = arg.index_select(axis, torch.arange(size) * old // size)
        changed.append(arg)
    return tuple(changed)


def _negative(image: Tensor) -> Tensor:
    if not image.is_floating_point():
        return image
    return (image.amax() + image.amin() - image).flip(-1)


def _batch(images: Tensor, batch: int) -> Tensor:
    """`batch` images, no two alike: an export that mixes up images must show."""
    rows = [images.roll(turn, dims=-1) for turn in range(-(-batch // len(images)))]
    return torch.cat(rows)[:batch].contiguous()


def compare(expected: Outputs, found: list[Tensor], relative: float = RELATIVE) -> Difference:
    """Outputs in the same order, each within tolerance; whole numbers and shapes must be equal."""
    if len(found) != len(expected):
        return Difference(float("inf"), f"it has {len(found)} outputs, the module {len(expected)}")
    largest, why, share = 0.0, "", 0.0
    for (name, one), two in zip(expected.items(), _in_order(expected, found), strict=True):
        if one.shape != two.shape:
            text = f"{name} is {list(two.shape)}, the module's {list(one.shape)}"
            return Difference(float("inf"), text)
        if one.dtype != two.dtype:
            return Difference(float("inf"), f"{name} is {two.dtype}, the module's {one.dtype}")
        difference, allowed = _apart(one, two, relative)
        if difference > allowed and not why:
            why = f"{name} differs by {difference:.2g} (allowed {allowed:.2g}) from the module"
        largest, share = max(largest, difference), max(share, _share(difference, one))
    return Difference(largest, why, share)


def _in_order(expected: Outputs, found: list[Tensor]) -> list[Tensor]:
    """Detections as the module lists them. They are sorted by score, and of two scores that are
    equal but for rounding either may come first: each row is compared with the one nearest to it,
    where that pairs them off."""
    pairs = list(zip(expected.values(), found, strict=True))
    count = expected["scores"].numel() if "scores" in expected else 0
    if not count or any(a.shape != b.shape or a.shape[:1] != (count,) for a, b in pairs):
        return found
    distance = torch.zeros(count, count, dtype=torch.float64)
    for one, two in pairs:
        if one.numel() > 100 * count:
            continue  # masks, which follow their boxes
        rows, columns = (t.reshape(count, -1).double() for t in (one, two))
        unit = _allowed(rows) if one.is_floating_point() else 0.5
        distance = distance.maximum(torch.cdist(rows, columns, p=float("inf")) / unit)
    nearest = distance.argmin(dim=1)
    return [t[nearest] for t in found] if len(nearest.unique()) == count else found


def _allowed(values: Tensor, relative: float = RELATIVE) -> float:
    return ABSOLUTE + relative * float(values.abs().max())


def _apart(one: Tensor, two: Tensor, relative: float) -> tuple[float, float]:
    """The largest |difference| and how much is allowed. NaN and infinities must stand in the same
    places, whatever they mean."""
    if not one.numel():
        return 0.0, 0.0
    if not one.is_floating_point():
        return float((one.double() - two.double()).abs().max()), 0.0
    a, b = one.double(), two.double()
    finite = a.isfinite()
    if not torch.equal(finite, b.isfinite()):
        return float("inf"), 0.0
    if not torch.equal(a[~finite].nan_to_num(), b[~finite].nan_to_num()):
        return float("inf"), 0.0
    a, b = a[finite], b[finite]
    if not a.numel():
        return 0.0, 0.0
    return float((a - b).abs().max()), _allowed(a, relative)


def _share(difference: float, output: Tensor) -> float:
    """A difference in units of an output's largest value; ABSOLUTE's where the output is zero."""
    values = output.double()
    values = values[values.isfinite()]
    size = float(values.abs().max()) if values.numel() else 0.0
    return difference / max(size, ABSOLUTE / RELATIVE)


def expect_numbers(case: Case) -> None:
    """ExportError where the module gives not one number: any two exports of it would agree."""
    floats = [t for t in case.outputs.values() if t.is_floating_point() and t.numel()]
    if floats and not any(bool(t.isfinite().any()) for t in floats):
        text = "the network gives nothing but NaN or infinities, so that no check means anything"
        raise ExportError(f"{text}; --keep-unchecked writes it")


def doubts(tried: list[Case]) -> dict[str, str]:
    """What makes a passed check mean less than it seems, for `Exported.notes`."""
    notes: dict[str, str] = {}
    floats = [(n, t) for case in tried for n, t in case.outputs.items() if t.is_floating_point()]
    odd = [name for name, tensor in floats if not bool(tensor.isfinite().all())]
    if odd:
        notes["warning"] = f"the network's {odd[0]} has NaN or infinite values"
    elif all(not tensor.numel() for case in tried for tensor in case.outputs.values()):
        notes["warning"] = "the network's outputs are empty on example inputs: little is checked"
    elif _alike(tried):
        notes["warning"] = "the network's outputs are the same for every input: little is checked"
    return notes


def _alike(tried: list[Case]) -> bool:
    """Whether the first image of each batch came out the same, of inputs that are as large."""
    first, *rest = [[t[:1] for t in one.outputs.values() if t.dim()] for one in tried]
    shapes = [tensor.shape for tensor in first]
    rest = [one for one in rest if [tensor.shape for tensor in one] == shapes]
    return bool(rest) and all(
        torch.equal(a, b) for one in rest for a, b in zip(first, one, strict=True)
    )
