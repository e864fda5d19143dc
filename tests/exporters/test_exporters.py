"""Exported files, run and read back; what is refused; what a failed check leaves behind."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

import archfind
from archfind.errors import ExportError
from archfind.exporters import parity, torch_onnx
from archfind.providers import provider
from archfind.providers.example import images
from archfind.types import Built

SMALL = ("timm/test_vit", "timm/test_resnet")
CONFIG_KEYS = {"architecture", "provider", "config", "build", "version", "source"}
CONFIG_KEYS |= {"source_sha256", "input_size", "mean", "std", "chosen_by", "assumed", "model_type"}


def saved(name: str, path: Path, change: Callable[[Tensor], Tensor] = lambda t: t) -> Path:
    """A state dict of `name` with random weights, BatchNorm statistics too."""
    torch.manual_seed(0)
    library, _, architecture = name.partition("/")
    module = provider(library).create(architecture)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None:
            layer.running_mean.normal_(0, 0.1)
    torch.save({key: change(value) for key, value in module.state_dict().items()}, path)
    return path


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Built]:
    """Networks of half a million parameters, each built from its file."""
    folder = tmp_path_factory.mktemp("small")
    paths = {name: saved(name, folder / f"{name[5:]}.pth") for name in SMALL}
    return {name: archfind.build(path, choose=name) for name, path in paths.items()}


def with_module(built: Built, module: nn.Module) -> Built:
    """Another network in place of the built one, behind the same file."""
    return Built(built.guess, built.match, module.eval(), built.loaded, built.tensors)


def run(path: Path, *inputs: Tensor) -> list[Tensor]:
    """An .onnx as anyone would run it."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    fed = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
    return [torch.from_numpy(array) for array in session.run(None, fed)]


def expect_metadata(found: Mapping[str, str], built: Built) -> None:
    source = Path(built.guess.canonical.checkpoint.path)
    got = {k.removeprefix("archfind."): v for k, v in found.items() if k.startswith("archfind.")}
    assert set(got) == CONFIG_KEYS
    assert got["architecture"] == built.match.entry.id
    assert got["provider"] == built.match.entry.provider
    assert got["source"] == source.name
    assert got["source_sha256"] == sha256(source.read_bytes()).hexdigest()
    config = {k: {"value": s.value, "source": s.source} for k, s in built.match.config.items()}
    assert json.loads(got["config"]) == config
    assert json.loads(got["build"])["args"] == [built.match.entry.name]
    example = provider(got["provider"]).example(built.match.entry.name, built.module)
    assert json.loads(got["input_size"]) == list(example.size)
    assert json.loads(got["mean"]) == list(example.mean)
    assert json.loads(got["std"]) == list(example.std)


@pytest.mark.parametrize("name", SMALL)
def test_an_onnx_file_agrees_on_a_new_input_of_another_size(
    name: str, small: dict[str, Built], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    built = small[name]
    done = archfind.export(built, tmp_path / "network.onnx")
    assert capfd.readouterr().out == ""
    assert (done.notes["exporter"], done.notes["batch"]) == ("dynamo", "dynamic")
    assert done.notes["free"] == "batch, height, width"
    assert done.sha256 == sha256(Path(done.path).read_bytes()).hexdigest()
    fresh = torch.randn(3, 3, 128, 240, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        expected = built.module(fresh)
    (found,) = run(Path(done.path), fresh)
    assert done.max_abs_diff < 1e-4
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    model = onnx.load(done.path)
    expect_metadata({p.key: p.value for p in model.metadata_props}, built)
    assert [value.name for value in model.graph.input] == ["input"]
    assert [value.name for value in model.graph.output] == ["output"]
    assert {p.key: p.value for p in model.metadata_props}["archfind.mean"] == "[0.5, 0.5, 0.5]"
    # torch writes a stack trace, with this machine's paths, into every node
    # of which only the modules that it is of are kept
    said = {p.key for node in model.graph.node for p in node.metadata_props}
    assert said <= {"pkg.torch.onnx.name_scopes"}
    assert str(Path(__file__).parents[2]) not in Path(done.path).read_bytes().decode("latin-1")
    assert [path.name for path in tmp_path.iterdir()] == ["network.onnx"]


def test_published_weights_go_all_the_way(mobilenet: Path, tmp_path: Path) -> None:
    built = archfind.build(mobilenet)
    done = archfind.export(built, tmp_path / "mobilenet.onnx", opset=18)
    assert done.max_abs_diff < 1e-4
    assert done.notes["opset"] == "18"
    assert done.notes["free"] == "batch, height, width"
    assert "warning" not in done.notes
    fresh = images((3, 224, 224), batch=1, seed=9)
    with torch.no_grad():
        expected = built.module(fresh)
    torch.testing.assert_close(run(Path(done.path), fresh)[0], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_safetensors_hold_the_values_and_the_metadata(
    name: str, small: dict[str, Built], tmp_path: Path
) -> None:
    built = small[name]
    done = archfind.export(built, tmp_path / "network.safetensors")
    assert done.max_abs_diff == 0
    own = built.module.state_dict()
    with safe_open(done.path, "pt") as file:
        expect_metadata(file.metadata(), built)
        assert set(file.keys()) == set(own)
        assert all(torch.equal(file.get_tensor(key), own[key]) for key in own)
    again = archfind.guess(done.path)
    assert built.match.entry.id in {m.entry.id for m in again.matches}


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".PTH"])
def test_a_pth_is_a_plain_state_dict(suffix: str, small: dict[str, Built], tmp_path: Path) -> None:
    built = small["timm/test_resnet"]
    done = archfind.export(built, tmp_path / f"network{suffix}")
    assert done.format == "pth"
    state = torch.load(done.path, weights_only=True)
    assert all(isinstance(value, Tensor) for value in state.values())
    expect_metadata(state._metadata["archfind"], built)
    module = copy.deepcopy(built.module)
    for parameter in module.parameters():
        parameter.data.zero_()
    module.load_state_dict(state, strict=True)
    own = built.module.state_dict()
    assert all(torch.equal(value, own[key]) for key, value in module.state_dict().items())
    # versions are torch's own way of knowing how old a state dict is: they must stay
    assert state._metadata["bn1"] == {"version": 2}


def halves(value: Tensor) -> Tensor:
    return value.half() if value.is_floating_point() else value


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_half_weights_stay_half(suffix: str, tmp_path: Path) -> None:
    name = "timm/test_resnet"
    built = archfind.build(saved(name, tmp_path / "half.pth", halves), choose=name)
    assert built.module.conv1[0].weight.dtype == torch.float32
    done = archfind.export(built, tmp_path / f"out{suffix}")
    index = archfind.open(done.path).index
    assert {spec.dtype for spec in index.values()} == {"float16", "int64"}
    again = archfind.build(done.path, choose=name).module.state_dict()
    own = built.module.state_dict()
    assert all(torch.equal(again[key], own[key]) for key in own)


def test_values_that_no_half_holds_are_not_rounded(tmp_path: Path) -> None:
    name = "timm/test_resnet"
    built = archfind.build(saved(name, tmp_path / "half.pth", halves), choose=name)
    with torch.no_grad():
        built.module.fc.bias += 1e-7
    done = archfind.export(built, tmp_path / "out.safetensors")
    index = archfind.open(done.path).index
    assert index["fc.bias"].dtype == "float32"
    assert index["fc.weight"].dtype == "float16"


class Tied(nn.Module):
    """The two weights are one tensor; the third is half of another's memory, and transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
        self.two.weight = self.one.weight
        self.register_buffer("part", torch.randn(8, 4).t()[:, :4])


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_tied_tensors_are_all_written(suffix: str, small: dict[str, Built], tmp_path: Path) -> None:
    built = with_module(small["timm/test_vit"], Tied())
    done = archfind.export(built, tmp_path / f"tied{suffix}")
    assert done.notes["tied"] == "one.weight = two.weight"
    index = archfind.open(done.path).index
    shared = index["one.weight"].storage == index["two.weight"].storage
    assert shared == (suffix == ".pth")
    assert set(index) == set(built.module.state_dict())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "network.xyz",
            "no exporter writes .xyz; known: .onnx, .safetensors, .pth, .pt, .bin, .ts, .pt2",
        ),
        ("network", "no exporter writes a name without a suffix; known: .onnx"),
        ("missing/network.pth", "there is no folder "),
        ("taken.pth", "exists; --force overwrites"),
        ("folder.pth", "is a folder"),
    ],
)
def test_what_is_refused(name: str, message: str, small: dict[str, Built], tmp_path: Path) -> None:
    (tmp_path / "taken.pth").write_text("mine")
    (tmp_path / "folder.pth").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ExportError) as caught:
        archfind.export(small["timm/test_vit"], tmp_path / name)
    assert message in str(caught.value)
    assert caught.value.path == str(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "taken.pth").read_text() == "mine"


def test_force_overwrites(small: dict[str, Built], tmp_path: Path) -> None:
    out = tmp_path / "taken.safetensors"
    out.write_text("mine")
    archfind.export(small["timm/test_vit"], out, force=True)
    assert archfind.open(out).format == "safetensors"


def test_the_checkpoint_itself_is_never_written_to(tmp_path: Path) -> None:
    path = saved("timm/test_vit", tmp_path / "in.pth")
    built = archfind.build(path, choose="timm/test_vit")
    before = path.read_bytes()
    (tmp_path / "link.pth").symlink_to(path)
    (tmp_path / "hard.onnx").hardlink_to(path)
    for name in ("in.pth", "link.pth", "hard.onnx"):
        with pytest.raises(ExportError, match="is the checkpoint itself"):
            archfind.export(built, tmp_path / name, force=True)
    assert path.read_bytes() == before


def test_an_opset_is_for_onnx(small: dict[str, Built], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"opset are for \.onnx alone"):
        archfind.export(small["timm/test_vit"], tmp_path / "a.pth", opset=18)


@pytest.mark.parametrize("suffix", [".ts", ".pt2"])
def test_programs_run_without_the_library(
    suffix: str, small: dict[str, Built], tmp_path: Path
) -> None:
    built = small["timm/test_resnet"]
    out = tmp_path / f"network{suffix}"
    done = archfind.export(built, out)
    assert done.notes["batch"] == "dynamic" and done.max_abs_diff < 1e-4
    fresh = torch.randn(5, 3, 160, 160)
    program = torch.jit.load(out) if suffix == ".ts" else torch.export.load(out).module()
    with torch.no_grad():
        torch.testing.assert_close(program(fresh), built.module(fresh), rtol=1e-3, atol=1e-4)
    if suffix == ".ts":
        assert set(archfind.open(out).index) == set(built.module.state_dict())
    with pytest.raises(ExportError):
        archfind.export(with_module(built, Noisy()), tmp_path / f"noisy{suffix}")
    assert [p.name for p in tmp_path.iterdir()] == [out.name]


class Noisy(nn.Module):
    """Never the same twice, so that no export can agree with it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = self.conv(x).mean((2, 3))
        return mean + torch.randn_like(mean)


def test_a_failed_check_leaves_nothing(small: dict[str, Built], tmp_path: Path) -> None:
    built = with_module(small["timm/test_vit"], Noisy())
    with pytest.raises(ExportError) as caught:
        archfind.export(built, tmp_path / "noisy.onnx")
    assert "output differs by " in str(caught.value)
    assert " from the module" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_check_is_kept_on_request(small: dict[str, Built], tmp_path: Path) -> None:
    built = with_module(small["timm/test_vit"], Noisy())
    done = archfind.export(built, tmp_path / "noisy.onnx", keep_unchecked=True)
    assert done.max_abs_diff > 0.01
    assert "differs by" in done.notes["unchecked"]
    assert [path.name for path in tmp_path.iterdir()] == ["noisy.onnx"]


class Branching(nn.Module):
    """Chooses by a value, which torch.export doesn't follow and tracing bakes in."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.limit = limit

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        if x.mean() > self.limit:
            x = x * 2
        found = self.conv(x)
        return {"out": found, "aux": found.mean((2, 3))}


def test_the_older_exporter_takes_what_the_newer_cannot(
    small: dict[str, Built], tmp_path: Path
) -> None:
    built = with_module(small["timm/test_vit"], Branching(limit=100))
    done = archfind.export(built, tmp_path / "branching.onnx")
    assert (done.notes["exporter"], done.notes["batch"]) == ("torchscript", "dynamic")
    assert done.notes["fallback"].startswith("dynamo, free sizes: GuardOnDataDependent")
    assert "\n" not in done.notes["fallback"]
    fresh = torch.randn(3, 3, 224, 224)
    with torch.no_grad():
        expected = built.module(fresh)
    out, aux = run(Path(done.path), fresh)
    torch.testing.assert_close(out, expected["out"], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(aux, expected["aux"], rtol=1e-3, atol=1e-4)
    model = onnx.load(done.path)
    assert [value.name for value in model.graph.output] == ["out", "aux"]
    expect_metadata({p.key: p.value for p in model.metadata_props}, built)


def test_a_branch_that_tracing_baked_in_is_caught(small: dict[str, Built], tmp_path: Path) -> None:
    built = small["timm/test_vit"]
    example = provider("timm").example("test_vit", Branching(0)).args
    means = [float(args[0].mean()) for args in (example, parity.other(example))]
    assert abs(means[0] - means[1]) > 1e-3
    limit = sum(means) / 2  # the traced input goes one way, the check's own the other
    with pytest.raises(ExportError, match="differs by"):
        archfind.export(with_module(built, Branching(limit)), tmp_path / "branching.onnx")
    assert list(tmp_path.iterdir()) == []


class Patched(nn.Module):
    """Computes something else for wide pictures, which a trace of a square one doesn't show."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).mean((2, 3)) * (1 if x.shape[-1] == x.shape[-2] else 2)


def test_a_size_that_tracing_baked_in_stays_fixed(small: dict[str, Built], tmp_path: Path) -> None:
    """The graph that is written must not offer the sizes in which it is wrong."""
    built = with_module(small["timm/test_resnet"], Patched())
    done = archfind.export(built, tmp_path / "patched.onnx")
    assert done.notes["free"] == "batch"
    shape = onnx.load(done.path).graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in shape] == ["batch", 3, 224, 224]


class OneBatch(nn.Module):
    """Written for a batch of two."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 5, stride=5)
        self.register_buffer("signs", torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * self.signs


def test_a_batch_that_cannot_vary_is_said(small: dict[str, Built], tmp_path: Path) -> None:
    done = archfind.export(with_module(small["timm/test_vit"], OneBatch()), tmp_path / "two.onnx")
    assert (done.notes["exporter"], done.notes["batch"]) == ("dynamo", "static")
    assert "dynamo, dynamic batch: " in done.notes["fallback"]


class Wide(nn.Module):
    """Enough weights to fill a second file."""

    def __init__(self, then: nn.Module) -> None:
        super().__init__()
        self.up, self.down = nn.Conv2d(3, 64, 5, stride=4), nn.Conv2d(64, 3, 5)
        self.then = then

    def forward(self, x: Tensor) -> object:
        return self.then(self.down(self.up(x)))


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_a_large_network_is_two_files(
    exporter: str, small: dict[str, Built], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_onnx, "ONE_FILE", 1000)
    module = Wide(nn.Identity() if exporter == "dynamo" else Branching(limit=100))
    built = with_module(small["timm/test_vit"], module)
    out, data = tmp_path / "wide.onnx", tmp_path / "wide.onnx.data"
    done = archfind.export(built, out)
    assert done.notes["exporter"] == exporter
    assert data.stat().st_size >= 4 * 2 * 64 * 3 * 25 > out.stat().st_size
    assert set(tmp_path.iterdir()) == {out, data}
    fresh = torch.randn(3, 3, 224, 224)
    assert not parity.compare(parity.case(module, (fresh,)).outputs, run(out, fresh)).why
    before = {p: p.read_bytes() for p in (out, data)}
    with pytest.raises(ExportError, match=r"belongs to wide\.onnx, and two files can't"):
        archfind.export(built, out, force=True)
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before
    # another graph must not be joined to these tensors
    out.unlink()
    with pytest.raises(ExportError, match=r"wide\.onnx\.data: exists; --force overwrites"):
        archfind.export(built, out)
    assert set(tmp_path.iterdir()) == {data}


class TestCompare:
    """The comparison itself."""

    def test_wrong_counts_and_shapes(self) -> None:
        one = {"a": torch.zeros(2)}
        assert "outputs" in parity.compare(one, []).why
        assert parity.compare(one, [torch.zeros(3)]).why == "a is [3], the module's [2]"
        assert "is torch.int64" in parity.compare(one, [torch.zeros(2, dtype=torch.int64)]).why

    def test_small_outputs_get_a_small_tolerance(self) -> None:
        probabilities = torch.full((1, 1000), 1e-3)
        assert parity.compare({"p": probabilities}, [probabilities * 1.1]).why
        assert not parity.compare({"p": probabilities}, [probabilities + 1e-6]).why

    def test_nan_and_infinities_must_stand_in_the_same_places(self) -> None:
        nan, inf = float("nan"), float("inf")
        for one, two, same in (
            ([nan, 1], [nan, 1], True),
            ([nan, 1], [0.0, 1], False),
            ([inf, 1], [-inf, 1], False),
            ([inf, 1], [nan, 1], False),
            ([inf, 1], [inf, 1], True),
        ):
            found = parity.compare({"a": torch.tensor(one)}, [torch.tensor(two)])
            assert (not found.why) == same, (one, two)

    def test_whole_numbers_must_be_equal(self) -> None:
        assert parity.compare({"a": torch.tensor([1000])}, [torch.tensor([1001])]).why

    def test_detections_of_equal_score_may_change_places(self) -> None:
        boxes = torch.tensor([[0.0, 0, 9, 9], [5, 5, 99, 99], [7, 7, 8, 8]])
        expected = {
            "boxes": boxes,
            "scores": torch.tensor([0.9, 0.50001, 0.5]),
            "labels": torch.tensor([1, 2, 3]),
        }
        order = [0, 2, 1]
        found = [value[order] for value in expected.values()]
        assert not parity.compare(expected, found).why
        # but a box that went with another label is wrong
        found[2] = expected["labels"]
        assert parity.compare(expected, found).why


def test_outputs_are_named_for_their_places() -> None:
    one, two = torch.zeros(1), torch.ones(1)
    assert list(parity.flatten_outputs(one)) == ["output"]
    assert list(parity.flatten_outputs((one,))) == ["output"]
    assert list(parity.flatten_outputs([one, two])) == ["output_0", "output_1"]
    assert list(parity.flatten_outputs({"out": one, "aux": two})) == ["out", "aux"]
    assert list(parity.flatten_outputs([{"boxes": one, "scores": two}])) == ["boxes", "scores"]


def test_an_output_that_no_input_changes_is_said(small: dict[str, Built], tmp_path: Path) -> None:
    class Dead(OneBatch):
        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x * 0)

    done = archfind.export(with_module(small["timm/test_vit"], Dead()), tmp_path / "dead.onnx")
    assert "the same for every input" in done.notes["warning"]


def test_every_part_of_torchvision_has_inputs() -> None:
    for name, size in (
        ("squeezenet1_1", (3, 224, 224)),
        ("quantized_shufflenet_v2_x0_5", (3, 224, 224)),
        ("lraspp_mobilenet_v3_large", (3, 256, 256)),
        ("ssdlite320_mobilenet_v3_large", (3, 320, 320)),
    ):
        source = provider("torchvision")
        module = source.create(name).eval()
        example = source.example(name, module)
        assert example.size == size
        assert parity.case(module, example.args).outputs
