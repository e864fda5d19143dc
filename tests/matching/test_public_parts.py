"""Known networks inside of larger ones, as people save them: a Sequential of children, another
project's names, a projector in the head's place, a decoder beside the encoder's own modules."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

import archfind
from archfind.database.entries import default
from archfind.learning.check import checkpoint_of
from archfind.learning.twins import randomise_seeded
from archfind.matching.identify import guess_checkpoint
from archfind.providers import provider
from archfind.providers.on_meta import create_on_meta
from archfind.types import Guess

State = dict[str, torch.Tensor]


def blank(name: str, **fields: object) -> nn.Module:
    library, _, architecture = name.partition("/")
    return create_on_meta(provider(library), architecture, **fields)


def below(prefix: str, module: nn.Module | State) -> State:
    state = module.state_dict() if isinstance(module, nn.Module) else module
    return {f"{prefix}.{key}": tensor for key, tensor in state.items()}


def decoder(width: int = 512) -> nn.Module:
    with torch.device("meta"):
        return nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(width >> n, width >> n + 1, 3), nn.BatchNorm2d(width >> n + 1)
                )
                for n in range(4)
            )
        )


def mlp(*widths: int, affine: bool = True) -> nn.Module:
    layers: list[nn.Module] = []
    with torch.device("meta"):
        for one, other in pairwise(widths):
            layers += [nn.Linear(one, other, bias=False), nn.BatchNorm1d(other), nn.ReLU()]
        layers[-2:] = [nn.BatchNorm1d(widths[-1], affine=affine)]
        return nn.Sequential(*layers)


def guess_state(state: State) -> Guess:
    return guess_checkpoint(checkpoint_of(state), default())


def children(name: str, without: int) -> nn.Module:
    """The first children of a network in a row, as people cut off its end."""
    return nn.Sequential(*list(blank(name).children())[:-without])


def names(guess: Guess) -> set[str]:
    found = {match.entry.name for match in guess.matches}
    return found | {twin.architecture for match in guess.matches for twin in match.twins}


@pytest.mark.parametrize("place", ["encoder", "net.encoder", "model.backbone.body"])
@pytest.mark.parametrize("name", ["torchvision/resnet18", "torchvision/mobilenet_v2"])
def test_children_in_a_row_beside_a_decoder(place: str, name: str) -> None:
    root = place.partition(".")[0] if "." in place else ""
    other = f"{root}.up" if root else "up"
    state = below(place, children(name, 1 if "mobile" in name else 2)) | below(other, decoder())
    found = guess_state(state)
    assert found.status in ("unknown", "close")
    (part,) = [one for where, one in found.parts.items() if place.startswith(where)]
    assert names(part) & {"resnet18", "mobilenet_v2", "mobilenetv2_100"}
    assert part.matches[0].fits and any(
        item.place == "implementation" for item in part.matches[0].assumed
    )
    rest = [one for where, one in found.parts.items() if where == other]
    assert [one.status for one in rest] == ["unknown"]


def test_a_part_in_a_row_is_loaded_as_it_is(tmp_path: Path) -> None:
    module = provider("timm").create("resnet18", num_classes=0)
    randomise_seeded(module)
    row = nn.Sequential(*list(module.children())[:-2])
    up = nn.Sequential(*(nn.Conv2d(32, 32, 3) for _ in range(9)))
    path = tmp_path / "net.pth"
    torch.save(below("encoder", row) | below("decoder", up), path)
    with pytest.warns(UserWarning, match="implementation"):
        part = archfind.load(str(path), part="encoder")
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.allclose(part(x), module.eval()(x), atol=1e-5)


def test_another_projects_names_beside_a_decoder() -> None:
    """efficientnet_pytorch's, for an encoder."""
    state: State = {}
    blocks: dict[tuple[str, str], int] = {}
    words = {"conv_pwl": "_project_conv", "conv_pw": "_expand_conv", "conv_dw": "_depthwise_conv"}
    for key, tensor in blank("timm/tf_efficientnet_b0", num_classes=0).state_dict().items():
        found = re.match(r"blocks\.(\d+)\.(\d+)\.(.*)", key)
        if found:
            number = blocks.setdefault((found[1], found[2]), len(blocks))
            rest = found[3].replace("se.conv_", "_se_").replace("bn", "_bn")
            for word, other in words.items():
                rest = rest.replace(word, other)
            key = f"_blocks.{number}.{rest}"
        state[f"encoder.{key if key[0] == '_' else f'_{key}'}"] = tensor
    found = guess_state(state | below("decoder", decoder()))
    assert {"efficientnet_b0", "tf_efficientnet_b0"} <= names(found.parts["encoder"])


def test_a_projector_in_the_heads_place() -> None:
    """SimSiam's encoder with its projector, whose last norm has no weights, and a predictor."""
    net = {k: v for k, v in blank("torchvision/resnet18").state_dict().items() if k[:2] != "fc"}
    state = below("encoder", net) | below("encoder.fc", mlp(512, 512, 2048, affine=False))
    found = guess_state(state | below("predictor", mlp(2048, 512, 2048)))
    assert found.status == "close"
    assert found.parts["encoder"].status == "exact" and "resnet18" in names(found.parts["encoder"])
    assert found.parts["encoder"].matches[0].config["num_classes"].value == 0
    assert found.parts["encoder.fc"].status == found.parts["predictor"].status == "unknown"


def masked_autoencoder() -> State:
    """MAE: a ViT's own names at the top, and beside them those of a decoder."""
    with torch.device("meta"):
        inner = nn.ModuleDict(
            {
                "decoder_embed": nn.Linear(192, 128),
                "decoder_norm": nn.LayerNorm(128),
                "decoder_pred": nn.Linear(128, 768),
            }
        )
        tokens = {
            "mask_token": torch.empty(1, 1, 128),
            "decoder_pos_embed": torch.empty(1, 197, 128),
        }
    blocks = blank("timm/test_vit").state_dict()
    blocks = {f"decoder_{k}": v for k, v in blocks.items() if k.startswith("blocks.")}
    own = blank("timm/vit_tiny_patch16_224", num_classes=0).state_dict()
    return {**own, **tokens, **inner.state_dict(), **blocks}


def test_an_encoder_at_the_top_beside_its_decoder(tmp_path: Path) -> None:
    found = guess_state(masked_autoencoder())
    part = found.parts["vit_tiny_patch16_224"]
    assert part.status == "exact" and part.matches[0].config["num_classes"].value == 0
    assert len(part.canonical.index) == 150
    assert found.parts["decoder_blocks"].status == "unknown"
    state = {key: torch.rand(tensor.shape) for key, tensor in masked_autoencoder().items()}
    path = tmp_path / "mae.pth"
    torch.save({"model": state}, path)
    loaded = archfind.load(str(path), part="vit_tiny_patch16_224").state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in loaded.items())


def test_a_backbone_in_training_is_a_part_by_its_own_kind() -> None:
    """DINOv2's student: layer scale, patches of 16, pictures of 224, and the mask's token."""
    import timm

    with torch.device("meta"):
        net = timm.create_model("vit_small_patch14_dinov2", patch_size=16, img_size=224)
        token = {"mask_token": torch.empty(1, 384)}
    state: State = {}
    for side in ("student", "teacher"):
        state |= below(f"{side}.backbone", {**net.state_dict(), **token})
        state |= below(f"{side}.dino_head", mlp(384, 512, 256))
    state["dino_loss.center"] = torch.empty(1, 256, device="meta")
    found = guess_state(state)
    parts = [one for where, one in found.parts.items() if where.startswith("student")]
    assert "vit_small_patch14_dinov2" in {match.entry.name for match in parts[0].matches}
    assert parts[0].matches[0].config["patch_size"].value == 16


@pytest.mark.parametrize("without", [2, 3])
def test_the_first_children_of_a_network(without: int) -> None:
    """ShuffleNetV2 whose last stages are cut off."""
    row = children("torchvision/shufflenet_v2_x1_0", without)
    found = guess_state(row.state_dict())
    best = found.matches[0]
    assert found.status == "close" and best.entry.name == "shufflenet_v2_x1_0"
    assert best.missing and not best.unexpected and not best.mismatched
    inside = guess_state(below("encoder", row) | below("decoder", decoder()))
    assert inside.parts["encoder"].matches[0].entry.name == "shufflenet_v2_x1_0"


def test_blocks_alone_are_no_network() -> None:
    """A row of blocks has no network's shapes, whatever it's called."""
    net = blank("timm/vit_tiny_patch16_224").state_dict()
    blocks = {
        k.replace("attn", "a").replace("mlp", "m"): v for k, v in net.items() if "blocks" in k
    }
    found = guess_state({**below("encoder", blocks), **below("decoder", decoder())})
    assert "encoder" not in found.parts or found.parts["encoder"].status == "unknown"
