"""From .onnx back: weights under lost names, transposed, with BatchNorm folded in; graphs that no
library knows; and that what comes out trains."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
import pytest
import repair_sweep
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

import archfind
from archfind.errors import ArchfindError, BuildError, ExportError, UnknownError
from archfind.exporters.onnx import quiet_exporters
from archfind.from_onnx import build_from_graph, graph_module
from archfind.from_onnx.slots import paired
from archfind.from_onnx.trace import randomise_uniquely


def written(module: nn.Module, path: Path, dynamo: bool, side: int = 160) -> Path:
    """As people export: with torch alone."""
    image = torch.randn(2, 3, side, side)
    with quiet_exporters():
        if dynamo:
            program = torch.onnx.export(module, (image,), dynamo=True, verbose=False)
            assert program is not None
            program.save(path)
        else:
            torch.onnx.export(module, (image,), path, dynamo=False, verbose=False)
    return path


@pytest.mark.parametrize(("name", "dynamo"), [("timm/test_vit", True), ("timm/test_resnet", False)])
def test_a_network_comes_back_and_trains(name: str, dynamo: bool, tmp_path: Path) -> None:
    module = repair_sweep.lively(name, 1)
    path = written(module, tmp_path / "net.onnx", dynamo)
    model = onnx.load(path)
    for number, tensor in enumerate(model.graph.initializer):  # no name is left
        for node in model.graph.node:
            node.input[:] = [f"w{number}" if i == tensor.name else i for i in node.input]
        tensor.name = f"w{number}"
    onnx.save(model, path)
    image = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = module(image)
    archfind.export(path, tmp_path / "net.safetensors")
    found = archfind.load(tmp_path / "net.safetensors", choose=name)
    with torch.no_grad():
        torch.testing.assert_close(found(image), expected, rtol=1e-3, atol=1e-4)
    assert falls(found, image)


def test_random_tables_show_every_place() -> None:
    """A table is led back by its values: of two places with the same one, one would stay unset."""
    table = nn.Embedding(700, 32)
    randomise_uniquely(table)
    assert len(table.weight.unique()) == table.weight.numel()


def falls(module: nn.Module, image: Tensor) -> bool:
    """Whether a LoRA of rank 4 on every linear layer learns a few labels."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    trained: list[nn.Parameter] = []
    for layer in [m for m in module.modules() if isinstance(m, nn.Linear)]:
        down = nn.Parameter(torch.randn(4, layer.in_features) * 0.1)
        up = nn.Parameter(torch.zeros(layer.out_features, 4))
        trained += [down, up]
        layer.register_forward_hook(lambda _, i, o, a=down, b=up: o + i[0] @ a.T @ b.T)
    labels = torch.arange(len(image))
    optimizer = torch.optim.Adam(trained, lr=0.01)
    losses: list[float] = []
    for _ in range(10):
        loss = F.cross_entropy(module(image).flatten(1), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    return losses[-1] < 0.8 * losses[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One network as .pth, .safetensors and .onnx."""
    place = tmp_path_factory.mktemp("three")
    torch.save(repair_sweep.lively("timm/test_vit", 1).state_dict(), place / "net.pth")
    for suffix in (".safetensors", ".onnx"):
        archfind.export(place / "net.pth", place / f"net{suffix}", choose="timm/test_vit")
    return place


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".onnx"])
def test_a_lora_learns_on_what_each_format_gives(suffix: str, folder: Path) -> None:
    found = archfind.load(folder / f"net{suffix}", choose="timm/test_vit")
    images = torch.randn(3, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    assert falls(found, images)


class Own(nn.Module):
    """In no library."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 7, 3), nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.gelu(self.a(x)).mean((2, 3)))


@pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "torchscript"])
def test_an_unknown_graph_is_a_module_that_trains(dynamo: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Own().eval()
    path = written(module, tmp_path / "own.onnx", dynamo, side=20)
    with pytest.raises(UnknownError, match="no network recovered"):
        build_from_graph(archfind.guess(path))
    with pytest.warns(UserWarning, match="the graph itself"):
        found = archfind.load(path)
    image = torch.randn(2, 3, 20, 20)
    torch.testing.assert_close(found(image), module(image), rtol=1e-3, atol=1e-5)
    optimizer = torch.optim.SGD(found.parameters(), lr=0.5)
    losses: list[float] = []
    for _ in range(8):
        loss = F.cross_entropy(found(image), torch.tensor([1, 2]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.9 * losses[0]
    done = archfind.export(path, tmp_path / "own.safetensors")
    held = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    index = archfind.open(done.path).index
    assert set(index) == set(held)
    again = archfind.export(path, tmp_path / "again.onnx")
    assert again.max_abs_diff == 0


def test_an_operator_that_nobody_knows_is_named(tmp_path: Path) -> None:
    node = onnx.helper.make_node("NonMaxSuppressionOfMine", ["x", "w"], ["y"], domain="mine")
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node], "g", [value("x", 1, [1, 2])], [value("y", 1, [1, 2])],
        [numpy_helper.from_array(np.ones((2, 2), np.float32), "w")],
    )  # fmt: skip
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("mine", 1)]
    path = tmp_path / "odd.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets), path)
    with pytest.raises(BuildError, match="NonMaxSuppressionOfMine"):
        graph_module(str(path), (str(path),))
    with pytest.raises(ArchfindError):
        archfind.export(path, tmp_path / "out.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["odd.onnx"]


class Branches(nn.Module):
    """Two branches, either of which may be written first."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(F.relu(self.a(x))) + self.c(self.b(x).sigmoid()) * 2


def test_graphs_are_paired_whatever_the_order_of_their_branches(tmp_path: Path) -> None:
    class Other(Branches):
        def forward(self, x: Tensor) -> Tensor:
            late = self.c(self.b(x).sigmoid()) * 2
            return self.c(F.relu(self.a(x))) + late

    torch.manual_seed(0)
    one = Branches().eval()
    other = Other().eval()
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    paths = [written(m, tmp_path / f"{n}.onnx", False, 8) for n, m in enumerate((one, other))]
    pairs = paired(*(onnx.load(path) for path in paths))
    assert pairs is not None
    assert all(a.array.shape == b.array.shape for a, b in pairs)


def test_a_bare_state_dict_is_exported(tmp_path: Path) -> None:
    module = repair_sweep.lively("timm/test_resnet", 1)
    out = tmp_path / "out.onnx"
    done = archfind.onnx.export({"model": module.state_dict()}, out, opset_version=18, dynamo=False)
    assert (done.notes["exporter"], done.notes["opset"]) == ("torchscript", "18")
    torch.save(module.state_dict(), tmp_path / "in.pth")
    done = archfind.export(tmp_path / "in.pth", tmp_path / "half.onnx", half=True)
    kinds = {t.data_type for t in onnx.load(done.path).graph.initializer if t.dims}
    assert onnx.TensorProto.FLOAT16 in kinds
    assert done.max_abs_diff > 0 and "half" in done.notes
    with pytest.raises(ExportError, match="is set from the network"):
        archfind.onnx.export({"a": torch.ones(2)}, out, input_names=["x"])
    with pytest.raises(ExportError, match="is a module already"):
        archfind.onnx.export(module, tmp_path / "module.onnx")  # pyright: ignore
