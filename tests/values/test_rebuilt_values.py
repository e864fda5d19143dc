"""Every argument of torch's rebuild functions: the value that loading gives, or a refusal in one
line that names the key. Each file is written here by torch and loaded by torch, too."""

from __future__ import annotations

import operator
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import _utils as rebuild

import archfind
from archfind import formats
from archfind.cli import main
from archfind.errors import ArchfindError, BuildError
from archfind.values.reader import TensorReader

HOOKS = OrderedDict()
BASE = torch.arange(1.0, 13.0)
COMPLEX = torch.complex(BASE, BASE.flip(0))


class Made:
    """Pickled as a call of `fn`, then BUILD with `state`, APPENDS, SETITEMS."""

    def __init__(self, fn: Any, *args: Any, state: Any = None, items: Any = ()) -> None:
        self.fn, self.args, self.state, self.items = fn, args, state, items

    def __reduce__(self) -> Any:
        if self.items:
            return self.fn, self.args, self.state, None, iter(self.items)
        return (self.fn, self.args) + ((self.state,) if self.state is not None else ())


class Array:
    """An array that is written into after it was made."""

    def __init__(self, value: np.ndarray) -> None:
        self.value = value

    def __reduce__(self) -> Any:
        return *self.value.__reduce__(), None, iter([(0, 7.0)])


class Wrapped(torch.nn.Parameter):
    """A subclass whose instances keep attributes."""


def stored(tensor: torch.Tensor) -> Any:
    return tensor._typed_storage()


def v2(*more: Any, base: torch.Tensor = BASE, size: Any = (3, 4), stride: Any = (4, 1)) -> Made:
    return Made(rebuild._rebuild_tensor_v2, stored(base), 0, size, stride, False, HOOKS, *more)


def v3(dtype: torch.dtype, *more: Any) -> Made:
    raw = torch.arange(24, dtype=torch.int16)
    args = (raw.untyped_storage(), 2, (2, 3), (3, 1), False, HOOKS, dtype)
    return Made(rebuild._rebuild_tensor_v3, *args, *more)


def quantised(*parameters: Any, dtype: Any = torch.qint8) -> Made:
    base = torch.quantize_per_tensor(BASE, 0.5, 0, dtype) if dtype else BASE
    args = (stored(base), 0, (3, 4), (4, 1), parameters, False, HOOKS)
    return Made(rebuild._rebuild_qtensor, *args)


def then(fn: Any, *args: Any, tensor: torch.Tensor) -> list[Any]:
    """The tensor, and a call that is handed it and whose result nobody keeps."""
    return [tensor, Made(fn, tensor, *args)]


def cases() -> dict[str, Any]:
    """What is pickled, by what is odd in it."""
    other = torch.full((3, 4), 9.0)
    scales, zeros = torch.tensor([0.5, 1, 2], dtype=torch.double), torch.tensor([1, 2, 3])
    numbers = BASE.reshape(3, 4)
    array = numbers.numpy().copy()
    sparse = torch.eye(3).to_sparse()
    tied = torch.arange(1.0, 5.0)
    return {
        "plain": v2(),
        "metadata none": v2(None),
        "neg": v2({"neg": True}),
        "neg false": v2({"neg": False}),
        "other metadata": v2({"other": True}),
        "conj": v2({"conj": True}, base=COMPLEX),
        "conj neg": v2({"neg": True, "conj": True}, base=COMPLEX),
        "conj of floats": v2({"conj": True}),
        "neg of whole numbers": v2({"neg": True}, base=BASE.to(torch.int32)),
        "neg of bytes": v2({"neg": True}, base=BASE.to(torch.uint8)),
        "neg of bools": v2({"neg": True}, base=BASE > 5),
        "neg of a view": v2({"neg": True}, size=(4, 3), stride=(1, 4)),
        "neg of one, expanded": v2({"neg": True}, size=(3, 4), stride=(0, 0)),
        "metadata of text": v2("neg"),
        "metadata of numbers": v2({1: True}),
        "requires grad": Made(
            rebuild._rebuild_tensor_v2, stored(BASE), 0, (3,), (1,), True, HOOKS
        ),
        "v1": Made(rebuild._rebuild_tensor, stored(BASE), 2, (2, 3), (3, 1)),
        "v3": v3(torch.uint16),
        "v3 as another": v3(torch.bfloat16),
        "v3 of complex": v3(torch.complex64),
        "v3 neg": v3(torch.int16, {"neg": True}),
        "v3 conj": v3(torch.complex32, {"conj": True}),
        "v3 of an odd dtype": v3(torch.uint4),
        "real neg": COMPLEX.conj()[:6].imag,
        "real conj": COMPLEX.reshape(3, 4).conj().t(),
        "imag of conj": COMPLEX.conj().imag,
        "parameter": Made(rebuild._rebuild_parameter, numbers, True, HOOKS),
        "parameter with a bit": Made(rebuild._rebuild_parameter, v2({"neg": 1}), True, HOOKS),
        "state": Made(rebuild._rebuild_parameter_with_state, numbers, False, HOOKS, {"note": 1}),
        "state in slots": Made(
            rebuild._rebuild_parameter_with_state, numbers, False, HOOKS, (None, {"note": 1})
        ),
        "state sets data": Made(
            rebuild._rebuild_parameter_with_state, numbers, False, HOOKS, {"data": other}
        ),
        "slots set data": Made(
            rebuild._rebuild_parameter_with_state, numbers, False, HOOKS, (None, {"data": other})
        ),
        "state sets real": Made(
            rebuild._rebuild_parameter_with_state,
            COMPLEX.clone(), False, HOOKS, {"real": torch.zeros(12)},
        ),
        "subclass": Made(
            torch._tensor._rebuild_from_type_v2,
            rebuild._rebuild_tensor_v2, Wrapped,
            (stored(BASE), 0, (3,), (1,), False, HOOKS), {"note": 1},
        ),
        "subclass with a bit": Made(
            torch._tensor._rebuild_from_type_v2,
            rebuild._rebuild_tensor_v2, Wrapped,
            (stored(BASE), 0, (3,), (1,), False, HOOKS, {"neg": True}), {},
        ),
        "subclass sets data": Made(
            torch._tensor._rebuild_from_type_v2,
            rebuild._rebuild_tensor_v2, Wrapped,
            (stored(BASE), 0, (3, 4), (4, 1), False, HOOKS), {"data": other},
        ),
        "subclass v1": Made(
            torch._tensor._rebuild_from_type,
            rebuild._rebuild_tensor_v2, Wrapped,
            (stored(BASE), 0, (3,), (1,), False, HOOKS, {"neg": True}), {"data": other},
        ),
        "subclass by a stranger": Made(
            torch._tensor._rebuild_from_type_v2, torch.neg, torch.Tensor, (numbers,), {}
        ),
        "from numpy": Made(
            rebuild._rebuild_device_tensor_from_numpy, array, torch.float32, "cpu", False
        ),
        "from numpy, bfloat16": Made(
            rebuild._rebuild_device_tensor_from_numpy, array / 3, torch.bfloat16, "cpu", False
        ),
        "from numpy, whole": Made(
            rebuild._rebuild_device_tensor_from_numpy, array * 1.5, torch.int8, "cpu", False
        ),
        "from cpu": Made(
            rebuild._rebuild_device_tensor_from_cpu_tensor, numbers, torch.float32, "cpu", False
        ),
        "from cpu, half": Made(
            rebuild._rebuild_device_tensor_from_cpu_tensor, numbers / 3, torch.half, "cpu", False
        ),
        "from cpu, double": Made(
            rebuild._rebuild_device_tensor_from_cpu_tensor,
            v2({"neg": True}), torch.float64, "cpu", False,
        ),
        "from cpu, real": Made(
            rebuild._rebuild_device_tensor_from_cpu_tensor,
            v2({"conj": True}, base=COMPLEX), torch.float32, "cpu", False,
        ),
        "from cpu twice": Made(
            rebuild._rebuild_device_tensor_from_cpu_tensor,
            Made(
                rebuild._rebuild_device_tensor_from_cpu_tensor,
                numbers / 3, torch.bfloat16, "cpu", False,
            ),
            torch.float32, "cpu", False,
        ),
        "from cpu to meta": Made(
            rebuild._rebuild_device_tensor_from_cpu_tensor, numbers, torch.float32, "meta", False
        ),
        "meta": torch.empty(2, 3, device="meta"),
        "meta by hand": Made(
            rebuild._rebuild_meta_tensor_no_storage, torch.float32, (2, 3), (3, 1), False
        ),
        "quantised": quantised(torch.per_tensor_affine, 0.5, 3),
        "quantised by channels": quantised(torch.per_channel_affine, scales, zeros, 0),
        "quantised by floats": quantised(
            torch.per_channel_affine_float_qparams, scales.float(), zeros.float(), 0,
            dtype=torch.quint8,
        ),
        "quantised, wide": quantised(torch.per_tensor_affine, 0.5, 3, dtype=torch.qint32),
        "quantised floats": quantised(torch.per_tensor_affine, 0.5, 3, dtype=None),
        "sparse": sparse,
        "sparse, old": Made(
            rebuild._rebuild_sparse_tensor,
            torch.sparse_coo, (sparse._indices(), sparse._values(), (3, 3)),
        ),
        "csr": torch.eye(3).to_sparse_csr(),
        "csc": torch.eye(3).to_sparse_csc(),
        "bsr": torch.eye(4).to_sparse_bsr((2, 2)),
        "bsc": torch.eye(4).to_sparse_bsc((2, 2)),
        "nested": torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(1, 3)]),
        "nested in strips": torch.nested.nested_tensor(
            [torch.ones(2, 3), torch.ones(1, 3)], layout=torch.jagged
        ),
        "built again, grad and hooks": Made(
            torch.nn.Parameter, numbers, False, state=(False, False, HOOKS)
        ),
        "built again, other numbers": Made(
            rebuild._rebuild_tensor_v2, stored(BASE), 0, (3, 4), (4, 1), False, HOOKS,
            state=(stored(BASE), 3, (2, 2), (2, 1)),
        ),
        "built again, old variable": Made(
            rebuild._rebuild_tensor_v2, stored(BASE), 0, (3, 4), (4, 1), False, HOOKS,
            state=(other, None, HOOKS, False, False),
        ),
        "written into": Made(
            rebuild._rebuild_tensor_v2, stored(BASE.clone()), 0, (3, 4), (4, 1), False, HOOKS,
            items=[(0, 7.0)],
        ),
        "array written into": Array(array),
        "changed by a call": then(torch.Tensor.mul_, 2, tensor=BASE.clone()),
        "changed by an operator": then(operator.setitem, 0, 5.0, tensor=BASE.clone()),
        "a tie changed by a call": [tied[:2], Made(torch.Tensor.zero_, tied), tied],
        "changed by name": then(setattr, "data", other, tensor=BASE.clone()),
        "a storage changed": [tied[1:], Made(torch.storage.TypedStorage.fill_, stored(tied), 3)],
        "arrays": [array, array.T, np.asfortranarray(array), array.astype(">f4"), np.float32(3)],
    }  # fmt: skip


CASES = cases()


def flat(value: Any, name: str = "w") -> dict[str, Any]:
    """The tensors and arrays that loading gives, under archfind's pointers."""
    if isinstance(value, list | tuple):
        parts = [flat(one, f"{name}/{at}") for at, one in enumerate(value)]
        return {key: one for part in parts for key, one in part.items()}
    return {name: torch.from_numpy(value) if type(value) is np.ndarray else value}


def compared(path: Path, expected: dict[str, Any]) -> tuple[int, list[str]]:
    """How many values are given, each as loading gives it, and why the others are refused."""
    index, given, refused = formats.open(path).index, 0, []
    for key, spec in index.items():
        try:
            found = TensorReader().read(spec, key)
        except BuildError as error:
            refused.append(error.message)
            assert key in error.message and "\n" not in error.message
            continue
        given += 1
        if key not in expected:
            continue  # a part of something whose class is not known
        wanted = expected[key]
        assert isinstance(wanted, torch.Tensor), f"{key} has values that loading doesn't give"
        assert wanted.layout == torch.strided and not wanted.is_meta
        assert found.dtype == wanted.dtype and found.shape == wanted.shape
        wanted = wanted.detach().resolve_conj().resolve_neg().as_subclass(torch.Tensor)
        if wanted.is_quantized:  # of which torch views no bytes
            assert found.qscheme() == wanted.qscheme()
            assert torch.equal(found.dequantize(), wanted.dequantize())
            found, wanted = found.int_repr(), wanted.int_repr()
        raw = [one.contiguous().reshape(-1).view(torch.uint8) for one in (found, wanted)]
        assert torch.equal(*raw), key
    return given, refused


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", CASES)
def test_what_loading_gives_or_a_refusal(tmp_path: Path, name: str, zipped: bool) -> None:
    path = tmp_path / "x.pth"
    torch.save({"w": CASES[name]}, path, _use_new_zipfile_serialization=zipped)
    try:
        expected = flat(torch.load(path, weights_only=False)["w"])
    except Exception:  # torch itself refuses what the case makes up: then nobody needs a value
        expected = {}
    if not zipped and name.startswith("from cpu"):
        expected = {}  # torch casts before it has read the numbers, and gives anything
    given, refused = compared(path, expected)
    assert given or refused
    packed = getattr(expected.get("w"), "is_quantized", False)  # its scale is in no .pth of tensors
    if given == 1 and not refused and "w" in expected and not packed:
        out = tmp_path / "out.pth"
        archfind.export(path, out)
        assert compared(out, expected) == (1, [])
        assert flat(torch.load(out, weights_only=True)["w"])["w"].dtype == expected["w"].dtype
    elif refused or packed:
        with pytest.raises(ArchfindError):
            archfind.export(path, tmp_path / "out.pth")


APPLIED = ("neg", "conj", "conj neg", "from cpu, half", "from numpy, bfloat16", "real conj")
REFUSED = (
    "conj of floats", "state sets data", "subclass sets data", "sparse", "csr", "nested", "meta",
    "quantised floats", "written into", "changed by a call", "a tie changed by a call",
    "built again, other numbers", "from cpu to meta", "a storage changed",
)  # fmt: skip


@pytest.mark.parametrize("name", APPLIED)
def test_what_can_be_given_is_given(tmp_path: Path, name: str) -> None:
    torch.save({"w": CASES[name]}, tmp_path / "x.pth")
    expected = flat(torch.load(tmp_path / "x.pth", weights_only=False)["w"])
    assert compared(tmp_path / "x.pth", expected) == (len(expected), [])


@pytest.mark.parametrize("name", REFUSED)
def test_what_cant_is_refused_and_its_shape_is_shown(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"w": CASES[name]}, tmp_path / "x.pth")
    assert not compared(tmp_path / "x.pth", {})[0]
    assert main(["inspect", str(tmp_path / "x.pth")]) == 0
    capsys.readouterr()
    assert main(["export", str(tmp_path / "x.pth"), str(tmp_path / "o.safetensors")]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len([line for line in said if "error" in line]) == 1 and 'tensor "' in said[-1], said
    assert not (tmp_path / "o.safetensors").exists()
