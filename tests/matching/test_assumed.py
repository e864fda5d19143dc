"""What the outputs depend on without a trace: never exact, named, told by settings, and then the
function of the file's author."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from safetensors import safe_open
from torch import nn

import archfind
from archfind.cli import main
from archfind.errors import AmbiguousError, BuildError
from archfind.learning.twins import randomise_seeded
from archfind.providers import provider

WIDE = 512  # what the head of a resnet18 takes
TRUTHS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": nn.LeakyReLU,
    "leaky_relu(0.2)": lambda: nn.LeakyReLU(0.2),
    "elu": nn.ELU,
    "hardswish": nn.Hardswish,
    "none": nn.Identity,
    "relu": nn.ReLU,
}


def backbone(name: str = "torchvision/resnet18", **fields: object) -> nn.Module:
    library, _, architecture = name.partition("/")
    return provider(library).create(architecture, **fields)


def saved(module: nn.Module, path: Path, prefix: str = "") -> nn.Module:
    with torch.no_grad():
        randomise_seeded(module)
    torch.save({prefix + k: t for k, t in module.state_dict().items()}, path)
    return module.eval()


def with_head(head: nn.Module) -> nn.Module:
    module = backbone()
    module.fc = head
    return module


def places(path: Path, **options: object) -> list[str]:
    found = archfind.guess(path, **options)  # pyright: ignore
    return [item.place for item in found.matches[0].assumed]


def same(module: nn.Module, loaded: nn.Module) -> bool:
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(7))
    with torch.inference_mode():
        return torch.allclose(module(x), loaded(x), rtol=1e-4, atol=1e-5)


def check_told(path: Path, module: nn.Module, truth: dict[str, object]) -> None:
    """All that is assumed and isn't told is as it is assumed: then exact, and the same function."""
    found = archfind.guess(path)
    assert found.status == "ambiguous" and found.chosen_by
    items = found.matches[0].assumed
    assert truth.keys() <= {item.place for item in items}
    for item in items:
        said = truth.get(item.place, item.value)
        named = [str(one) for one in (item.value, *item.alternatives)]
        assert str(said) in named or "(" in str(said)
    settings = {item.place: truth.get(item.place, item.value) for item in items}
    answer = archfind.guess(path, settings=settings)
    assert (answer.status, answer.chosen_by) == ("exact", "user")
    assert answer.matches[0].assumed == ()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(module, archfind.load(path, settings=settings))


@pytest.mark.parametrize("word", TRUTHS)
def test_an_activation_between_two_linears(word: str, tmp_path: Path) -> None:
    layers = [nn.Linear(WIDE, 24), TRUTHS[word](), nn.Dropout(), nn.Linear(24, 5)]
    module = saved(with_head(nn.Sequential(*layers)), tmp_path / "x.pth")
    check_told(tmp_path / "x.pth", module, {"fc.1": word})


@pytest.mark.parametrize("word", ["sigmoid", "tanh", "softmax", "log_softmax", "gelu"])
def test_one_linear_with_a_function_behind_it(word: str, tmp_path: Path) -> None:
    made = {"softmax": nn.Softmax(-1), "log_softmax": nn.LogSoftmax(-1)}
    last = made.get(word) or TRUTHS[word]()
    module = saved(with_head(nn.Sequential(nn.Linear(WIDE, 3), last)), tmp_path / "x.pth")
    check_told(tmp_path / "x.pth", module, {"fc.1": word})


def test_a_function_before_the_linear_where_a_dropout_usually_is(tmp_path: Path) -> None:
    module = saved(with_head(nn.Sequential(nn.Tanh(), nn.Linear(WIDE, 3))), tmp_path / "x.pth")
    check_told(tmp_path / "x.pth", module, {"fc.0": "tanh"})


@pytest.mark.parametrize("first", [True, False])
def test_the_order_of_norm_and_activation(first: bool, tmp_path: Path) -> None:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.bn = nn.Linear(WIDE, 16), nn.BatchNorm1d(16, eps=1e-3)
            self.two = nn.Linear(16, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.one(x)
            return self.two(self.bn(torch.tanh(x)) if first else torch.tanh(self.bn(x)))

    module = saved(with_head(Head()), tmp_path / "x.pth")
    tanh, none = ("fc.one.after", "fc.bn.after")[:: 1 if first else -1]
    check_told(tmp_path / "x.pth", module, {tanh: "tanh", none: "none", "fc.bn.eps": 1e-3})


def test_a_norm_without_statistics_may_be_one_of_groups(tmp_path: Path) -> None:
    layers = [nn.Linear(WIDE, 64), nn.GroupNorm(8, 64), nn.ReLU(), nn.Linear(64, 4)]
    module = saved(with_head(nn.Sequential(*layers)), tmp_path / "x.pth")
    check_told(tmp_path / "x.pth", module, {"fc.1": "group_norm(8)"})


def test_a_residual_head_is_not_exact(tmp_path: Path) -> None:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(WIDE, 64), nn.Linear(64, WIDE)
            self.out = nn.Linear(WIDE, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(x + self.two(torch.relu(self.one(x))))

    saved(with_head(Head()), tmp_path / "x.pth")
    assert "fc.wiring" in places(tmp_path / "x.pth")


def test_rows_of_length_one_before_a_weight_normalised_layer(tmp_path: Path) -> None:
    """DINO's head: GELU between the Linears, and the rows are normalised before the last."""

    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            gelus = [nn.Linear(WIDE, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU()]
            self.mlp = nn.Sequential(*gelus, nn.Linear(64, 32))
            self.last = nn.utils.weight_norm(nn.Linear(32, 100, bias=False))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(nn.functional.normalize(self.mlp(x), dim=-1))

    module = saved(with_head(Head()), tmp_path / "x.pth")
    truth = {"fc.mlp.1": "gelu", "fc.mlp.3": "gelu", "fc.mlp.4.after": "l2_norm"}
    check_told(tmp_path / "x.pth", module, truth)


def test_a_linear_beside_a_backbone_may_take_something_else(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = backbone("timm/resnet18", num_classes=0)
            self.classifier = nn.Linear(WIDE, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.classifier(self.features.forward_features(x).amax((2, 3)))

    saved(Net(), tmp_path / "x.pth")
    assert places(tmp_path / "x.pth") == ["features", "classifier.after"]


def test_several_outputs_are_returned_as_they_are_told(tmp_path: Path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(WIDE, 2), nn.Linear(WIDE, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([self.a(x), self.b(x)], dim=-1)

    module = saved(with_head(Two()), tmp_path / "x.pth")
    check_told(tmp_path / "x.pth", module, {"outputs": "concatenated"})


def test_other_classes_in_the_library_s_own_place_are_exact(tmp_path: Path) -> None:
    saved(with_head(nn.Linear(WIDE, 7)), tmp_path / "x.pth")
    assert archfind.guess(tmp_path / "x.pth").status == "exact"
    module = backbone("torchvision/mobilenet_v3_small")
    module.classifier = nn.Linear(576, 7)  # pyright: ignore
    saved(module, tmp_path / "y.pth")
    assert archfind.guess(tmp_path / "y.pth").status == "exact"


# --- what an assumption does -------------------------------------------------------------------


@pytest.fixture
def mlp(tmp_path: Path) -> Path:
    layers = [nn.Linear(WIDE, 24), nn.GELU(), nn.Dropout(), nn.Linear(24, 5)]
    saved(with_head(nn.Sequential(*layers)), tmp_path / "001.pth")
    return tmp_path / "001.pth"


def test_the_answer_names_it(mlp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["guess", str(mlp)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        f"{mlp}: ambiguous: torchvision/resnet18 with another head (ResNet); "
        "what no tensor shows is assumed"
    )
    assert lines[1].startswith("  assumed   activation after fc.0: relu ")
    assert lines[1].endswith("gelu, silu, tanh, sigmoid ... would fit as well; --set fc.1=gelu")
    assert lines[-1].endswith("--accept-ambiguous")
    assert main(["guess", "--json", str(mlp)]) == 1
    first = json.loads(capsys.readouterr().out)["assumed"][0]
    assert (first["place"], first["what"]) == ("fc.1", "activation after fc.0")
    assert first["value"] == "relu" and {"gelu", "none"} <= set(first["alternatives"])
    told = ["--set", "fc.1=gelu", "--set", "fc.4=none"]
    assert main(["guess", "--json", str(mlp), *told]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["status"], answer["chosen_by"], answer["assumed"]) == ("exact", "user", [])
    assert answer["config"]["fc"] == {
        "value": "Linear(512, 24), GELU, Dropout, Linear(24, 5)",
        "source": "user",
    }


def test_load_warns_and_export_asks(mlp: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"fc\.1=relu \(or gelu"):
        archfind.load(mlp)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        archfind.load(mlp, accept_ambiguous=True)
    out = tmp_path / "x.onnx"
    with pytest.raises(AmbiguousError, match="--accept-ambiguous") as caught:
        archfind.export(mlp, out)
    assert {"fc.1=relu", "fc.1=gelu", "fc.4=none"} <= set(caught.value.choices)
    assert not out.exists()
    with pytest.raises(AmbiguousError):
        archfind.build(mlp)


def test_what_was_assumed_is_in_the_exported_file(mlp: Path, tmp_path: Path) -> None:
    def noted(path: Path) -> list[dict[str, object]]:
        found = {p.key: p.value for p in onnx.load(path).metadata_props}
        return json.loads(found["archfind.assumed"])

    assert main(["export", str(mlp), str(tmp_path / "a.onnx"), "--accept-ambiguous"]) == 0
    assert [item["place"] for item in noted(tmp_path / "a.onnx")] == ["fc.1", "fc.4"]
    told = {"fc.1": "gelu", "fc.4": "none"}
    archfind.export(mlp, tmp_path / "b.onnx", settings=told)
    assert noted(tmp_path / "b.onnx") == []
    archfind.export(mlp, tmp_path / "c.safetensors")  # a copy computes nothing
    with safe_open(tmp_path / "c.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["archfind.architecture"] == "torchvision/resnet18"
    assert [item["place"] for item in json.loads(metadata["archfind.assumed"])] == ["fc.1", "fc.4"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"fc.1": "gely"}, "it may be relu, gelu"), ({"fc.7": "gelu"}, "nothing is assumed at fc.7")],
)
def test_what_can_not_be_told(mlp: Path, settings: dict[str, object], said: str) -> None:
    with pytest.raises(BuildError, match=said):
        archfind.guess(mlp, settings=settings)


# --- classes with other arguments, transformers, other names -----------------------------------


def test_a_variant_s_invisible_arguments(tmp_path: Path) -> None:
    moves = {"depth": 2, "embed_dim": 96, "num_heads": 2, "img_size": 64}
    module = saved(archfind.variant("timm/vit_tiny_patch16_224", moves), tmp_path / "x.pth")
    path = tmp_path / "x.pth"
    found = archfind.guess(path)
    items = {item.place: item for item in found.matches[0].assumed}
    assert found.status == "ambiguous" and {"num_heads", "arguments"} <= items.keys()
    assert 2 in (items["num_heads"].value, *items["num_heads"].alternatives)
    entry = found.matches[0].entry.id
    assert places(path, choose=entry) == ["num_heads"]  # the name tells all but what goes by width
    answer = archfind.guess(path, choose=entry, settings={"num_heads": 2})
    assert answer.status == "exact" and answer.matches[0].config["num_heads"].source == "user"
    assert same(module, archfind.load(path, choose=entry, settings={"num_heads": 2}))


def test_other_colours_and_classes_leave_a_network_the_library_s_own(tmp_path: Path) -> None:
    module = backbone("timm/resnet18", in_chans=1, num_classes=3)
    saved(module, tmp_path / "x.pth")
    found = archfind.guess(tmp_path / "x.pth")
    assert found.status == "exact" and not found.matches[0].assumed


def test_fields_of_a_small_transformer(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 64, "intermediate_size": 100, "num_hidden_layers": 2}
    config = transformers.LlamaConfig(
        **sizes, num_attention_heads=4, num_key_value_heads=2, vocab_size=200
    )
    model = transformers.LlamaForCausalLM(config).eval()
    path = tmp_path / "x.pth"
    torch.save(model.state_dict(), path)
    assert archfind.guess(path).status != "exact"
    found = archfind.guess(path, choose="LlamaForCausalLM")
    items = {item.place: item for item in found.matches[0].assumed}
    assert found.status == "ambiguous"
    assert {"num_attention_heads", "rms_norm_eps", "hidden_act", "config"} <= items.keys()
    # The size of a head and the shared keys follow from the number: their products are shown.
    told = {"num_attention_heads": 4}
    loaded = archfind.load(path, choose="LlamaForCausalLM", settings=told)
    tokens = torch.arange(12).reshape(1, 12)
    with torch.inference_mode():
        assert torch.allclose(model(tokens).logits, loaded(tokens).logits, atol=1e-5)
    every = {place: item.value for place, item in items.items()} | told
    every = {k: v for k, v in every.items() if k not in ("head_dim", "num_key_value_heads")}
    assert archfind.guess(path, choose="LlamaForCausalLM", settings=every).status == "exact"
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict(), default=str))
    beside = archfind.guess(path, choose="LlamaForCausalLM")
    assert beside.status == "exact" and not beside.matches[0].assumed


def test_other_code_has_another_activation(tmp_path: Path) -> None:
    """nanoGPT's names, GPT-2's sizes: its code has the exact GELU, the library's class hasn't."""
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        state = transformers.GPT2LMHeadModel(transformers.GPT2Config()).state_dict()
    words = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    turned = {
        k: torch.zeros(
            t.shape[::-1] if k.endswith(tuple(f"{w}.weight" for w in words)) else t.shape
        )
        for k, t in state.items()
    }
    torch.save({f"_orig_mod.{k}": t for k, t in turned.items()}, tmp_path / "ckpt.pt")
    found = archfind.guess(tmp_path / "ckpt.pt", choose="GPT2LMHeadModel")
    (item,) = found.matches[0].assumed
    assert (found.status, item.place, item.value) == ("ambiguous", "activation_function", "gelu")
    assert item.alternatives == ("gelu_new",)
    assert found.matches[0].pretrained is not None
    assert found.matches[0].pretrained.preset == "openai-community/gpt2"


def test_names_of_other_code_assume_its_implementation(tmp_path: Path) -> None:
    state = backbone().state_dict()
    renamed = {
        f"net.{k.replace('layer', 'stage').replace('bn', 'n_')}": t for k, t in state.items()
    }
    torch.save(renamed, tmp_path / "x.pth")
    assert places(tmp_path / "x.pth") == ["implementation"]
    assert archfind.guess(tmp_path / "x.pth", choose="torchvision/resnet18").status == "exact"
    torch.save({k.replace(".", "_"): t for k, t in state.items()}, tmp_path / "y.pth")
    assert archfind.guess(tmp_path / "y.pth").status == "exact"  # the library's own names, flat
