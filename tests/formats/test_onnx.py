"""ONNX: initializers raw, typed and external, and what the graph says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from layout_files import same, values
from test_torch import values_of

from archfind import formats
from archfind.errors import BuildError, Truncated
from archfind.values.reader import TensorReader

onnx = pytest.importorskip("onnx")


def write_onnx(path: Path, tensors: list[object], **options: object) -> None:
    helper = onnx.helper
    inputs = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 3])]
    outputs = [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 4])]
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"])
    graph = helper.make_graph([node], "small", inputs, outputs, tensors)
    model = helper.make_model(
        graph, producer_name="tests", opset_imports=[helper.make_opsetid("", 18)]
    )
    helper.set_model_props(model, {"stage": "one"})
    onnx.save(model, path, **options)


def test_onnx(tmp_path: Path) -> None:
    from onnx import numpy_helper

    values = {
        "w": torch.arange(12.0).reshape(3, 4).numpy(),
        "b": torch.ones(4).numpy(),
        "k": torch.arange(3).numpy(),
        "h": torch.ones(2, 2).half().numpy(),
    }
    path = tmp_path / "small.onnx"
    write_onnx(path, [numpy_helper.from_array(value, key) for key, value in values.items()])
    found = formats.open(path)
    assert found.format == "onnx" and list(found.index) == list(values)
    for key, value in values.items():
        assert torch.equal(values_of(found.index[key]), torch.from_numpy(value))
    assert found.metadata["producer_name"] == "tests"
    assert found.metadata["opset_import/"] == 18
    assert found.metadata["graph_name"] == "small"
    assert found.metadata["metadata_props/stage"] == "one"
    assert found.metadata["nodes"] == 1
    assert found.metadata["inputs/x"] == "float32[n, 3]"
    assert found.metadata["outputs/y"] == "float32[n, 4]"
    assert found.hints == found.metadata and found.warnings == () and found.danger == ()


def test_onnx_typed_data_and_every_dtype(tmp_path: Path) -> None:
    helper, proto = onnx.helper, onnx.TensorProto
    tensors = [
        helper.make_tensor("w", proto.FLOAT, [2, 2], [1.0, 2.0, 3.0, 4.0]),
        helper.make_tensor("b", proto.INT64, [3], [1, 2, 3]),
        helper.make_tensor("s", proto.DOUBLE, [], [1.0]),
        helper.make_tensor("bf", proto.BFLOAT16, [2], [1.0, 2.0]),
        helper.make_tensor("f8", proto.FLOAT8E4M3FN, [2], [1.0, 2.0]),
        helper.make_tensor("i4", proto.INT4, [3], [1, 2, 3]),
    ]
    path = tmp_path / "typed.onnx"
    write_onnx(path, tensors)
    found = formats.open(path)
    assert {key: (spec.dtype, spec.shape) for key, spec in found.index.items()} == {
        "w": ("float32", (2, 2)),
        "b": ("int64", (3,)),
        "s": ("float64", ()),
        "bf": ("bfloat16", (2,)),
        "f8": ("float8_e4m3fn", (2,)),
        "i4": ("int4", (3,)),
    }
    reader = TensorReader()
    for one in tensors[:5]:
        value = reader.read(found.index[one.name])
        expected = onnx.numpy_helper.to_array(one).astype("float64").reshape(value.shape)
        assert (value.double().numpy() == expected).all()
    with pytest.raises(BuildError, match="int4"):
        reader.read(found.index["i4"])


def test_onnx_external_data(tmp_path: Path) -> None:
    from onnx import numpy_helper

    value = torch.arange(600.0).reshape(3, 200)
    path = tmp_path / "big.onnx"
    write_onnx(
        path,
        [numpy_helper.from_array(value.numpy(), "w")],
        save_as_external_data=True,
        location="big.data",
        size_threshold=0,
    )
    found = formats.open(path)
    assert torch.equal(values_of(found.index["w"]), value)
    assert found.files == (str(path), str(tmp_path / "big.data"))
    (tmp_path / "big.data").unlink()
    assert formats.open(path).warnings == ('its data file "big.data" is missing',)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../b", "", "c:\\x"])
def test_onnx_external_data_outside_the_folder(tmp_path: Path, location: str) -> None:
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[2], data_location=1)
    tensor.external_data.add(key="location", value=location)
    path = tmp_path / "evil.onnx"
    write_onnx(path, [tensor])
    found = formats.open(path)
    assert found.index["w"].storage.file == str(path) and found.index["w"].storage.start == -1
    assert len(found.danger) == 1 and "outside the folder" in found.danger[0]


def test_cut_onnx(tmp_path: Path) -> None:
    from onnx import numpy_helper

    path = tmp_path / "cut.onnx"
    write_onnx(path, [numpy_helper.from_array(torch.zeros(500).numpy(), "w")])
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(Truncated, match="the file has 1,000"):
        formats.open(path)


def test_onnx_external_values(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((30, 40)).astype("f4")
    tensor = onnx.numpy_helper.from_array(weight, "w")
    small = onnx.helper.make_tensor("s", onnx.TensorProto.FLOAT16, [3], [1.0, 2.5, -3.0])
    graph = onnx.helper.make_graph([], "g", [], [], [tensor, small])
    onnx.save(
        onnx.helper.make_model(graph),
        tmp_path / "x.onnx",
        save_as_external_data=True,
        location="x.onnx.data",
        size_threshold=100,
    )
    same(
        values(tmp_path / "x.onnx"),
        {"w": torch.from_numpy(weight), "s": torch.tensor([1.0, 2.5, -3.0]).half()},
    )
    (tmp_path / "x.onnx.data").unlink()
    assert "missing" in formats.open(tmp_path / "x.onnx").warnings[0]
