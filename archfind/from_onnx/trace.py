"""A constant of an exported graph led back to the module's own tensors.

The module gets random weights, no two alike, and is exported; each constant of that graph is then
a tensor of the module as it stands, with its axes in another order, or times a BatchNorm's scale.
What it is shows in the values, whatever the exporter did.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from archfind.from_onnx.slots import Array, Slot

Float = NDArray[np.float64]
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_TABLE = 1 << 18  # elements; in more, random values are no longer all different


@dataclass(frozen=True)
class ConstantOrigin:
    """The module's tensor `key`, its axes in the order `axes`, then in the slot's shape."""

    key: str
    axes: tuple[int, ...]
    shape: tuple[int, ...]  # of the tensor itself

    def back(self, array: Array) -> Array:
        """A slot's value as the module's tensor."""
        turned = array.reshape([self.shape[axis] for axis in self.axes])
        return turned.transpose(np.argsort(self.axes))


@dataclass(frozen=True)
class Gathered:
    """Elements of the module's tensor `key`, at `places`: a table looked up while exporting."""

    key: str
    places: NDArray[np.int64]

    def back(self, array: Array, own: Array) -> Array:
        """The table, where the slot shows it; elsewhere as it was."""
        out = own.astype(array.dtype).flatten()
        out[self.places.flatten()] = array.flatten()
        return out.reshape(own.shape)


@dataclass(frozen=True)
class Folded:
    """A layer's weight times the scale of the BatchNorm after it; the next bias is BatchNorm's."""

    weight: ConstantOrigin
    norm: str


def randomise_uniquely(module: nn.Module) -> None:
    """Values that no two tensors share, nor two places in one, in the range of trained ones;
    statistics positive. Of values drawn one by one, two of some 4,000 are the same float32."""
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, value in module.state_dict().items():
            if isinstance(value, Tensor) and value.is_floating_point() and value.numel():
                count = value.numel()
                each = torch.randperm(count, generator=random).double()
                each += torch.rand(count, generator=random, dtype=torch.float64)
                drawn = (each / count).reshape(value.shape)
                spread = 0.5 + drawn if value.dim() < 2 or key.endswith("var") else drawn - 0.5
                value.copy_(spread.to(value.dtype))


class ConstantTracer:
    """Finds where constants come from, in a module with random weights."""

    def __init__(self, module: nn.Module) -> None:
        self.state: dict[str, Float] = {
            k: v.detach().double().numpy()
            for k, v in module.state_dict().items()
            if isinstance(v, Tensor) and v.is_floating_point() and v.numel()
        }
        self.prints: dict[tuple[int, float], list[str]] = {}
        for key, value in self.state.items():
            for mark in _prints(value):
                self.prints.setdefault(mark, []).append(key)
        self.norms: dict[str, tuple[Float, float]] = {}
        for name, layer in module.named_modules():
            if isinstance(layer, NORMS) and layer.running_var is not None:
                scale = (layer.running_var.double() + layer.eps).rsqrt()
                if layer.weight is not None:
                    scale = scale * layer.weight.detach().double()
                self.norms[name] = scale.numpy(), layer.eps
        self.kernels = {
            key: value for key, value in self.state.items() if value.ndim > 1 and "." in key
        }

    def origin(self, slot: Slot) -> ConstantOrigin | Folded | Gathered | None:
        """Where the slot's constant comes from; None where it is computed in another way."""
        array = slot.array.astype(np.float64)
        for key in self.prints.get(_prints(array)[0], []):
            found = _layout(key, self.state[key], array)
            if found is not None:
                return found
        if array.ndim < 2:
            return None
        return self._folded(slot, array) or self._gathered(slot)

    def _gathered(self, slot: Slot) -> Gathered | None:
        values = np.unique(slot.array)
        for key, own in self.state.items():
            flat = own.astype(slot.array.dtype).flatten()
            if not 1 < flat.size <= _TABLE or len(values) > flat.size:
                continue
            order = np.argsort(flat)
            at = np.searchsorted(flat[order], slot.array).clip(0, flat.size - 1)
            places = order[at]
            if np.array_equal(flat[places], slot.array):
                return Gathered(key, places)
        return None

    def _folded(self, slot: Slot, array: Float) -> Folded | None:
        for key, value in self.kernels.items():
            turned = array.T if slot.kind == "linear" else array
            if value.shape != turned.shape:
                continue
            for axis in (0, 1):
                rows = np.moveaxis(turned, axis, 0).reshape(turned.shape[axis], -1)
                own = np.moveaxis(value, axis, 0).reshape(rows.shape)
                ratio = rows[:, :1] / own[:, :1]
                if not np.allclose(own * ratio, rows, rtol=1e-3, atol=1e-6):
                    continue
                for name, (scale, _) in self.norms.items():
                    if scale.shape == ratio[:, 0].shape and np.allclose(
                        scale, ratio[:, 0], rtol=1e-3
                    ):
                        axes = (1, 0) if slot.kind == "linear" else tuple(range(value.ndim))
                        return Folded(ConstantOrigin(key, axes, value.shape), name)
        return None


def _prints(array: Float) -> list[tuple[int, float]]:
    """Marks that don't depend on the order of the values."""
    return [(array.size, float(f"{np.sort(array, axis=None)[: 1 << 12].sum():.4e}"))]


def _layout(key: str, own: Float, array: Float) -> ConstantOrigin | None:
    plain = tuple(range(own.ndim))
    for axes in permutations(plain) if own.ndim < 6 else [plain]:
        turned = own.transpose(axes)
        if turned.size == array.size and np.allclose(
            turned.reshape(array.shape), array, rtol=1e-5, atol=1e-7
        ):
            return ConstantOrigin(key, tuple(axes), own.shape)
    return None


def assigned(
    pairs: list[tuple[Slot, Slot]], tracer: ConstantTracer, module: nn.Module
) -> tuple[dict[str, Tensor], int]:
    """The module's tensors from a file's slots, each beside the reference's; and how many weights
    were freed of a BatchNorm that had been folded in."""
    found: dict[str, Tensor] = {}
    layers: Mapping[str, nn.Module] = dict(module.named_modules())
    own = module.state_dict()
    folded = 0
    pending: str | None = None
    for theirs, ours in pairs:
        origin = tracer.origin(ours)
        if isinstance(origin, Folded):
            layer = layers[origin.norm]
            assert isinstance(layer, NORMS)
            found[origin.weight.key] = _tensor(origin.weight.back(theirs.array))
            count = layer.num_features
            variance = torch.ones(count)
            found[f"{origin.norm}.running_var"] = variance
            found[f"{origin.norm}.running_mean"] = torch.zeros(count)
            if layer.affine:
                found[f"{origin.norm}.weight"] = (variance + layer.eps).sqrt()
                found[f"{origin.norm}.bias"] = torch.zeros(count)
            bias = f"{origin.weight.key.removesuffix('weight')}bias"
            if bias in own:
                found[bias] = torch.zeros_like(own[bias])
            pending = f"{origin.norm}.bias" if layer.affine else None
            folded += 1
        elif isinstance(origin, Gathered):
            held = found.get(origin.key, own[origin.key])
            assert isinstance(held, Tensor)
            known = held.numpy()
            found[origin.key] = _tensor(origin.back(theirs.array, known))
            pending = None
        elif isinstance(origin, ConstantOrigin):
            found[origin.key] = _tensor(origin.back(theirs.array))
            pending = None
        elif pending is not None and theirs.array.ndim == 1:
            found[pending] = _tensor(theirs.array)  # what the norm adds, all of it
            pending = None
    return found, folded


def _tensor(array: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array).astype(np.float32))
