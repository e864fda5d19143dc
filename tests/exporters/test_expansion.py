"""What is written or loaded stands in a stated relation to the file's bytes."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hostile.archives import gguf
from hostile.build import mapping, pickled, tensor, torch_zip
from onnx import TensorProto, helper, numpy_helper

import archfind
from archfind import repair
from archfind.cli import main
from archfind.errors import ArchfindError
from archfind.formats import expansion
from archfind.repair.edits import Edit, Plan

_HUGE = 1 << 40


def stride_0(folder: Path) -> Path:
    """One float, shown as a trillion."""
    (folder / "x.pth").write_bytes(
        torch_zip(pickled(mapping(weight=tensor(numel=6, size=(_HUGE,), stride=(0,)))))
    )
    return folder / "x.pth"


def many_views(folder: Path) -> Path:
    """A megabyte, shown a thousand times over."""
    base = torch.zeros(1 << 18)
    torch.save(
        {f"w{n}": base[n:].as_strided((1 << 18,), (0,)) for n in range(1000)}, folder / "x.pth"
    )
    return folder / "x.pth"


def deflated(folder: Path) -> Path:
    """400 MB of zeros in a deflated archive of numpy's."""
    with zipfile.ZipFile(folder / "x.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:
        header = str({"descr": "<f4", "fortran_order": False, "shape": (100_000_000,)}).encode()
        header += b" " * (117 - len(header)) + b"\n"
        with made.open("w.npy", "w") as file:
            file.write(b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header)
            for _ in range(100):
                file.write(bytes(4_000_000))
    return folder / "x.npz"


@pytest.mark.parametrize("write", [stride_0, many_views, deflated])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".onnx"])
def test_more_than_so_many_times_is_refused(
    tmp_path: Path, write, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:  # type: ignore[no-untyped-def]
    source, out = write(tmp_path), tmp_path / f"o{suffix}"
    assert main(["export", str(source), str(out)]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "--allow-expansion" in said and "32 times" in said, said
    assert not out.exists()
    with pytest.raises(ArchfindError, match="allow_expansion"):
        archfind.load(source)
    with pytest.raises(ArchfindError, match="allow_expansion"):
        repair.apply(Plan(str(source), ()), tmp_path / "fixed.safetensors")


def test_a_plan_that_makes_too_much(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2, 2)}, tmp_path / "x.pth")
    fill = Edit("fill", (), ("v",), {"shape": [1 << 20, 1 << 20]})
    with pytest.raises(ArchfindError, match="allow_expansion"):
        repair.apply(Plan(str(tmp_path / "x.pth"), (fill,)), tmp_path / "o.pth", allow_fill=True)


def test_who_means_it_may(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1).expand(1 << 25)}, tmp_path / "x.pth")  # 128 MB of 4 bytes
    with pytest.raises(ArchfindError, match=r"134\.2 MB"):
        archfind.export(tmp_path / "x.pth", tmp_path / "o.safetensors")
    assert (
        main(["export", str(tmp_path / "x.pth"), str(tmp_path / "o.pth"), "--allow-expansion"]) == 0
    )
    back = torch.load(tmp_path / "o.pth", weights_only=True)["w"]
    assert back.shape == (1 << 25,) and bool((back == 1).all())


def test_what_is_honest_passes(tmp_path: Path) -> None:
    """Small ones always; large ones to 32 times their bytes, as those of two bits need."""
    assert expansion.excess(expansion.FLOOR, ()) == ""
    (tmp_path / "x").write_bytes(bytes(10_000_000))
    assert expansion.excess(16 * 10_000_000, [str(tmp_path / "x")]) == ""
    assert expansion.excess(400_000_000, [str(tmp_path / "x")])
    assert "over 10**21 bytes" in expansion.excess(10**400, [str(tmp_path / "gone")])


def graph(folder: Path, nodes: list[onnx.NodeProto], more=(), sparse=(), shape=(1, 4)) -> Path:  # type: ignore[no-untyped-def]
    """A graph that multiplies by a matrix, and does what `nodes` say."""
    matrix = numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    first = helper.make_node("MatMul", ["x", "w"], ["m"])
    made = helper.make_graph(
        [first, *nodes],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [matrix, *(numpy_helper.from_array(np.array(v, np.int64), k) for k, v in more)],
        sparse_initializer=sparse,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, folder / "x.onnx")
    return folder / "x.onnx"


def node(kind: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), [output], **attributes)


_REST = [node("ReduceMax", "c", "r", keepdims=0), node("Add", "m r", "y")]
_GRAPHS = {
    "ConstantOfShape": ([node("ConstantOfShape", "s", "c"), *_REST], (("s", [1 << 33]),)),
    "ConstantOfShape, many": (
        [
            *(node("ConstantOfShape", "s", f"c{n}") for n in range(40)),
            node("Sum", " ".join(f"c{n}" for n in range(40)), "c"),
            *_REST,
        ],
        (("s", [1 << 20]),),
    ),
    "Range": (
        [node("Range", "a b d", "i"), node("Cast", "i", "c", to=1), *_REST],
        (("a", 0), ("b", 1 << 33), ("d", 1)),
    ),
    "Expand of the input": ([node("Expand", "m s", "c"), *_REST], (("s", [1 << 33, 1, 4]),)),
    "Tile of the input": ([node("Tile", "m s", "c"), *_REST], (("s", [1, 1 << 31]),)),
    "Pad": ([node("Pad", "m s", "c"), *_REST], (("s", [0, 0, 0, 1 << 32]),)),
}


@pytest.mark.parametrize("name", _GRAPHS)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".onnx"])
def test_graphs_that_make_much_of_a_shape(tmp_path: Path, name: str, suffix: str) -> None:
    nodes, more = _GRAPHS[name]
    path = graph(tmp_path, nodes, more)
    with pytest.raises(ArchfindError, match="allow_expansion"):
        archfind.export(path, tmp_path / f"o{suffix}")
    with pytest.raises(ArchfindError, match="allow_expansion"):
        archfind.load(path)


def test_sparse_initializers_and_inputs(tmp_path: Path) -> None:
    value = numpy_helper.from_array(np.array([1.0], np.float32), "c")
    place = numpy_helper.from_array(np.array([3], np.int64), "i")
    sparse = helper.make_sparse_tensor(value, place, [1 << 20, 1 << 20])
    path = graph(tmp_path, _REST, sparse=[sparse])
    assert formats_shape(path, "c") == (1 << 20, 1 << 20)
    with pytest.raises(ArchfindError, match="allow_expansion"):
        archfind.export(path, tmp_path / "o.safetensors")
    path = graph(tmp_path, [node("Relu", "m", "y")], shape=(1 << 34, 4))
    with pytest.raises(ArchfindError, match="allow_expansion"):
        archfind.load(path)


def formats_shape(path: Path, key: str) -> tuple[int, ...]:
    return archfind.open(path).index[key].shape


def test_a_trusted_programs_inputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.jit.script(torch.nn.Linear(4, 2)).save(tmp_path / "x.pt")
    command = ["export", str(tmp_path / "x.pt"), str(tmp_path / "o.onnx"), "--trust", "--input"]
    assert main([*command, "999999999x4"]) == 2
    assert "--allow-expansion" in capsys.readouterr().err
    assert main([*command, "3x4"]) == 0


def test_gguf_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(gguf())
    archfind.export(tmp_path / "x.gguf", tmp_path / "o.safetensors")
    assert (tmp_path / "o.safetensors").stat().st_size < 10_000


@pytest.mark.parametrize("name", _GRAPHS)
def test_outputs_that_lie_about_their_shape(tmp_path: Path, name: str) -> None:
    nodes, more = _GRAPHS[name]
    path = graph(tmp_path, nodes[:-2], more)
    model = onnx.load(path)
    del model.graph.output[:]
    said = helper.make_tensor_value_info(nodes[-3].output[0], TensorProto.FLOAT, ())
    model.graph.output.append(said)
    onnx.save(model, path)
    with pytest.raises(ArchfindError, match="allow_expansion"):
        archfind.load(path)


def test_joins_of_joins(tmp_path: Path) -> None:
    joins = [node("Concat", f"c{n} c{n}", f"c{n + 1}", axis=0) for n in range(45)]
    last = [node("ReduceMax", "c45", "r", keepdims=0), node("Cast", "r", "f", to=1)]
    path = graph(tmp_path, [*joins, *last, node("Add", "m f", "y")], (("c0", [1] * 6),))
    with pytest.raises(ArchfindError, match="allow_expansion"):
        archfind.load(path)
