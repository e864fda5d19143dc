"""Which network: wrappers, prefixes, class counts, damage, several networks, and honest
refusals."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch import nn

import archfind
from archfind.database.entries import Database, default
from archfind.errors import UnknownError
from archfind.learning.check import checkpoint_of
from archfind.matching.compare import match
from archfind.matching.identify import guess_checkpoint
from archfind.providers import provider
from archfind.providers.on_meta import create_on_meta
from archfind.types import Checkpoint, Guess

State = dict[str, torch.Tensor]


def state_of(name: str, **fields: object) -> State:
    library, _, architecture = name.partition("/")
    return create_on_meta(provider(library), architecture, **fields).state_dict()


def guess_state(state: State) -> Guess:
    return guess_checkpoint(checkpoint_of(state), default())


def names_of(found: Guess) -> set[str]:
    names = {m.entry.id for m in found.matches}
    return names | {f"{t.provider}/{t.architecture}" for m in found.matches for t in m.twins}


def test_the_published_mobilenet_is_exact(mobilenet: Path) -> None:
    found = archfind.guess(mobilenet)
    assert (found.status, found.matches[0].entry.id) == ("exact", "torchvision/mobilenet_v2")
    assert found.matches[0].matched == found.matches[0].expected == 314


def test_a_bert_is_a_transformers_class(minilm: Path) -> None:
    guess = archfind.guess(minilm)
    assert (guess.status, guess.matches[0].entry.id) == ("exact", "transformers/BertModel")


def test_class_counts_are_read_from_the_head() -> None:
    found = guess_state(state_of("timm/resnet50", num_classes=10))
    assert found.status == "exact" and found.chosen_by == "prior"
    assert found.matches[0].config["num_classes"].value == 10
    assert {"timm/resnet50", "timm/resnetaa50"} <= names_of(found)


def test_a_head_of_four_values_a_class_gives_the_class_count() -> None:
    state = state_of("torchvision/fasterrcnn_resnet50_fpn", num_classes=7)
    found = guess_state(state)
    assert found.matches[0].config["num_classes"].value == 7


def test_a_switch_is_read_from_the_keys_it_adds() -> None:
    found = guess_state(state_of("torchvision/fcn_resnet50", aux_loss=True, num_classes=4))
    assert found.status == "exact"
    assert {k: s.value for k, s in found.matches[0].config.items()} == {
        "num_classes": 4,
        "aux_loss": True,
    }


def test_a_headless_backbone_is_num_classes_0() -> None:
    found = guess_state(state_of("timm/resnet50", num_classes=0))
    assert found.status == "exact" and found.matches[0].entry.provider == "timm"
    assert found.matches[0].config["num_classes"].value == 0


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "net.backbone_2.", "_orig_mod.module.", "a.b.c.d.e."]
)
def test_any_prefix_is_found(prefix: str) -> None:
    state = {prefix + k: t for k, t in state_of("timm/convnext_tiny", num_classes=3).items()}
    found = guess_state(state)
    assert found.status == "exact" and "timm/convnext_tiny" in names_of(found)
    assert all(found.canonical.origin[k].endswith(k) for k in found.canonical.index)


def test_a_wrapper_in_the_middle_of_keys_is_taken_out() -> None:
    state = state_of("torchvision/alexnet")
    parallel = {k.replace("features.", "features.module."): t for k, t in state.items()}
    found = guess_state(parallel)
    assert found.status == "exact" and found.matches[0].entry.name == "alexnet"
    assert found.canonical.origin["features.0.weight"] == "features.module.0.weight"


def test_a_network_with_a_module_of_that_name_keeps_it() -> None:
    state = {f"module.{k}": t for k, t in state_of("timm/iformer_s").items()}
    assert any(".module." in key for key in state)
    assert guess_state(state).status == "exact"


def test_one_wrong_tensor_is_one_mismatch() -> None:
    state = dict(state_of("torchvision/resnet152"))
    key = "layer3.20.conv2.weight"
    state[key] = state[key][:100]
    found = guess_state(state)
    assert found.status == "close"
    assert [m.key for m in found.matches[0].mismatched] == [key]
    assert not found.matches[0].missing and not found.matches[0].unexpected


def test_a_damaged_head_is_the_one_that_is_named() -> None:
    state = dict(state_of("torchvision/resnet18"))
    state["fc.bias"] = state["fc.bias"][:999]
    found = guess_state(state)
    assert found.status == "close"
    assert [m.key for m in found.matches[0].mismatched] == ["fc.bias"]


def test_missing_and_unexpected_are_named() -> None:
    state = dict(state_of("timm/vit_tiny_patch16_224"))
    del state["blocks.3.mlp.fc1.bias"]
    state["extra.weight"] = torch.empty(3, device="meta")
    found = guess_state(state)
    assert found.status == "close"
    assert found.matches[0].missing == ("blocks.3.mlp.fc1.bias",)
    assert found.matches[0].unexpected == ("extra.weight",)


def test_integers_where_floats_belong_are_a_mismatch() -> None:
    state = dict(state_of("torchvision/resnet18"))
    state["layer1.0.conv1.weight"] = state["layer1.0.conv1.weight"].to(torch.int8)
    assert [m.key for m in guess_state(state).matches[0].mismatched] == ["layer1.0.conv1.weight"]


def test_counters_may_be_absent() -> None:
    state = {k: t for k, t in state_of("torchvision/resnet18").items() if "num_batches" not in k}
    found = guess_state(state)
    assert found.status == "exact" and len(found.matches[0].tolerated) == 20


def test_averaged_weights_are_preferred_and_said_so(tmp_path: Path) -> None:
    state = provider("timm").create("test_resnet").state_dict()
    path = tmp_path / "both.pth"
    torch.save({"model": state, "model_ema": {k: t + 1 for k, t in state.items()}}, path)
    found = archfind.guess(path)
    assert found.status == "exact"
    assert ("prefer", "model_ema over model") in [(s.kind, s.detail) for s in found.canonical.steps]
    assert all(at.startswith("model_ema/") for at in found.canonical.origin.values())


def test_optimizer_state_is_set_aside(tmp_path: Path) -> None:
    network = provider("timm").create("test_vit", num_classes=4)
    optimizer = torch.optim.AdamW(network.parameters())
    sum(p.sum() for p in network.parameters()).backward()
    optimizer.step()
    path = tmp_path / "training.ckpt"
    torch.save(
        {"epoch": 3, "state_dict": network.state_dict(), "optimizer": optimizer.state_dict()}, path
    )
    found = archfind.guess(path)
    assert found.status == "exact" and found.matches[0].entry.name == "test_vit"
    assert any(step.kind == "set aside" for step in found.canonical.steps)


def test_two_networks_in_a_file_are_both_listed(tmp_path: Path) -> None:
    one = {f"generator.{k}": t for k, t in state_of("torchvision/alexnet").items()}
    two = {f"critic.{k}": t for k, t in state_of("torchvision/squeezenet1_1").items()}
    checkpoint = checkpoint_of({**one, **two})
    found = guess_checkpoint(checkpoint, default())
    assert found.status == "ambiguous"
    assert {m.entry.name for m in found.matches} == {"alexnet", "squeezenet1_1"}
    chosen = guess_checkpoint(checkpoint, default(), part="critic")
    assert (chosen.status, chosen.matches[0].entry.name) == ("exact", "squeezenet1_1")
    with pytest.raises(UnknownError, match="generator, critic"):
        guess_checkpoint(checkpoint, default(), part="encoder")


def test_a_backbone_in_a_larger_net_is_not_the_whole() -> None:
    state = {f"encoder.{k}": t for k, t in state_of("timm/resnet18", num_classes=0).items()}
    state["decoder.0.weight"] = torch.empty(64, 512, 3, 3, device="meta")
    state["decoder.0.bias"] = torch.empty(64, device="meta")
    found = guess_state(state)
    assert found.status == "close"
    assert set(found.matches[0].unexpected) == {"decoder.0.weight", "decoder.0.bias"}
    assert found.parts["encoder"].status == "exact"


def test_the_file_may_name_a_twin_and_the_user_overrides() -> None:
    state = state_of("timm/resnetaa50")
    plain = checkpoint_of(state)
    said = Checkpoint(plain.path, plain.format, plain.index, hints={"arch": "resnetaa50"})
    found = guess_checkpoint(said, default())
    assert (found.chosen_by, found.matches[0].entry.name) == ("file", "resnetaa50")
    found = guess_checkpoint(said, default(), choose="timm/resnetblur50")
    assert (found.chosen_by, found.matches[0].entry.name) == ("user", "resnetblur50")


def test_a_name_that_does_not_fit_is_not_exact() -> None:
    plain = checkpoint_of({f"net.{k}": t for k, t in state_of("torchvision/resnet18").items()})
    for name in ("timm/vgg11", "vgg11", "timm/resnet34"):
        found = guess_checkpoint(plain, default(), choose=name)
        assert found.status in ("close", "unknown") and found.chosen_by == "user"
        best = found.matches[0]
        assert name in (best.entry.id, best.entry.name) and not best.fits
        assert "without that choice: torchvision/resnet18" in found.warnings[-1]
        assert len({m.entry.id for m in found.matches}) == len(found.matches)
    with pytest.raises(UnknownError, match="no network is called"):
        guess_checkpoint(plain, default(), choose="timm/no_such_net")


def test_a_name_that_differs_in_a_tensor_names_it() -> None:
    state = dict(state_of("timm/resnet50"))
    state["conv1.weight"] = torch.empty(64, 3, 5, 7, device="meta")
    found = guess_checkpoint(checkpoint_of(state), default(), choose="timm/resnetaa50")
    assert (found.status, found.matches[0].entry.name) == ("close", "resnetaa50")
    assert [m.key for m in found.matches[0].mismatched] == ["conv1.weight"]


def test_a_name_goes_for_a_changed_head_too() -> None:
    state = dict(state_of("timm/resnet50"))
    del state["fc.weight"], state["fc.bias"]
    state["fc.1.weight"], state["fc.1.bias"] = torch.empty(5, 2048), torch.empty(5)
    assert guess_checkpoint(checkpoint_of(state), default(), choose="timm/resnetaa50").is_named
    assert not guess_checkpoint(checkpoint_of(state), default(), choose="timm/resnet101").is_named


@pytest.mark.parametrize("seed", range(10))
def test_one_resized_tensor_of_any_network_is_one_mismatch(seed: int) -> None:
    draw = random.Random(seed)
    database = default()
    signature = database.signature(draw.randrange(len(database)))
    member = draw.choice(signature.members)
    state = dict(state_of(member.entry.id))
    key = draw.choice([k for k, t in state.items() if k in signature.fixed and t.dim()])
    at = draw.randrange(state[key].dim())
    shape = list(state[key].shape)
    shape[at] += draw.choice((1, 8, shape[at]))
    state[key] = torch.empty(shape, device="meta")
    found = guess_state(state)
    best = found.matches[0]
    assert found.status == "close" and member.entry.id in names_of(found)
    assert [m.key for m in best.mismatched] == [key]
    assert not best.missing and not best.unexpected


def test_a_hint_that_does_not_fit_changes_nothing() -> None:
    plain = checkpoint_of(state_of("torchvision/resnet18"))
    said = Checkpoint(plain.path, plain.format, plain.index, hints={"arch": "resnet50"})
    assert guess_checkpoint(said, default()).matches[0].entry.name == "resnet18"


def test_twins_of_another_function_are_ambiguous_without_a_prior() -> None:
    found = guess_state(state_of("timm/vit_base_patch16_clip_quickgelu_224"))
    assert found.status == "ambiguous" and found.chosen_by == ""
    assert {
        "timm/vit_base_patch16_clip_224",
        "timm/vit_base_patch16_clip_quickgelu_224",
    } <= names_of(found)


def _random_network(draw: random.Random) -> nn.Module:
    layers: list[nn.Module] = []
    width = 3
    for _ in range(draw.randint(1, 12)):
        out = draw.choice([8, 16, 32, 64, 96])
        layers += [
            nn.Conv2d(width, out, draw.choice([1, 3, 5])),
            draw.choice([nn.PReLU, nn.ReLU])(),
        ]
        if draw.random() < 0.5:
            layers.append(nn.BatchNorm2d(out))
        width = out
    name = draw.choice(["features", "body", "layer1", "conv1", "backbone"])
    return nn.ModuleDict({name: nn.Sequential(*layers), "fc": nn.Linear(width, 10)})


@pytest.mark.parametrize("seed", range(40))
def test_a_random_network_is_never_exact(seed: int) -> None:
    state = _random_network(random.Random(seed)).state_dict()
    assert guess_state(state).status == "unknown"


@pytest.mark.parametrize("seed", range(12))
def test_a_library_network_with_a_layer_more_or_less_is_never_exact(seed: int) -> None:
    draw = random.Random(seed)
    state = dict(
        state_of(
            draw.choice(
                ["torchvision/vgg11_bn", "timm/vit_tiny_patch16_224", "torchvision/resnet34"]
            )
        )
    )
    leaf = draw.choice([k for k, t in state.items() if t.is_floating_point()])
    if draw.random() < 0.5:
        del state[leaf]
    else:
        state[leaf.rpartition(".")[0] + "_extra.weight"] = state[leaf]
    assert guess_state(state).status == "close"


def _slowly(state: State, database: Database) -> set[str]:
    """Every entry that fits, found by holding the state dict against each signature."""
    index = checkpoint_of(state).index
    found: set[str] = set()
    for number in range(len(database)):
        signature = database.signature(number)
        tried = match(index, signature)
        if tried.fits:
            found |= {tried.entry.id} | {f"{t.provider}/{t.architecture}" for t in tried.twins}
    return found


@pytest.mark.parametrize("seed", range(6))
def test_the_index_finds_what_the_slow_search_finds(seed: int) -> None:
    draw = random.Random(seed)
    database = default()
    member = draw.choice(database.signature(draw.randrange(len(database))).members)
    state = state_of(member.entry.id)
    found = guess_checkpoint(checkpoint_of(state), database)
    assert names_of(found) == _slowly(state, database)
    assert member.entry.id in names_of(found)


def test_guessing_twice_gives_the_same_answer(mobilenet: Path) -> None:
    assert archfind.guess(mobilenet) == archfind.guess(mobilenet)


def test_an_unknown_network_beside_a_known_one_is_not_hidden(tmp_path: Path) -> None:
    known = provider("timm").create("test_resnet").state_dict()
    other = _random_network(random.Random(3)).state_dict()
    torch.save(
        {"netG": known, "netD": {**other, **{f"more.{k}": t for k, t in other.items()}}},
        tmp_path / "x.pth",
    )
    found = archfind.guess(tmp_path / "x.pth")
    assert found.status == "ambiguous" and set(found.parts) == {"netG", "netD"}
    assert archfind.guess(tmp_path / "x.pth", part="netG").status == "exact"
    assert archfind.guess(tmp_path / "x.pth", part="netD").status == "unknown"


def test_modules_saved_apart_are_one_network(tmp_path: Path) -> None:
    network = provider("torchvision").create("squeezenet1_1")
    parts = {name: child.state_dict() for name, child in network.named_children()}
    torch.save(parts, tmp_path / "apart.pth")
    found = archfind.guess(tmp_path / "apart.pth")
    assert (found.status, found.matches[0].entry.name) == ("exact", "squeezenet1_1")


def test_a_student_and_a_teacher_with_something_else_are_not_one_answer() -> None:
    state = state_of("timm/test_resnet")
    both = {f"{who}.{k}": t for who in ("student", "teacher") for k, t in state.items()}
    found = guess_state(both)
    assert (found.status, found.part) == ("exact", "teacher")
    assert any("--part" in warning for warning in found.warnings)
    both["projector.weight"] = torch.empty(7, 5, device="meta")
    assert guess_state(both).status == "ambiguous"
