"""Renamed keys: aligned with a signature by order, or by tree and shapes; and what must not be."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

import archfind
from archfind.database.entries import default
from archfind.errors import AmbiguousError, BuildError
from archfind.frozen import replace
from archfind.learning.check import checkpoint_of
from archfind.learning.twins import randomise_seeded
from archfind.matching.identify import guess_checkpoint
from archfind.providers import provider
from archfind.providers.on_meta import create_on_meta
from archfind.report.answer import guess_document, guess_lines
from archfind.state_dicts.alignment import align
from archfind.state_dicts.key_names import by_number, by_words, own_order
from archfind.types import Guess

State = dict[str, torch.Tensor]
Token = tuple[str, tuple[int, ...]]
LEAVES = "weight bias running_mean running_var num_batches_tracked".split()


def network(name: str, **fields: object) -> nn.Module:
    library, _, architecture = name.partition("/")
    return provider(library).create(architecture, **fields)


def shapes_of(name: str, **fields: object) -> State:
    library, _, architecture = name.partition("/")
    return create_on_meta(provider(library), architecture, **fields).state_dict()


def guess_state(state: State, in_order: bool = True) -> Guess:
    if in_order:
        return guess_checkpoint(checkpoint_of(state), default())
    found = checkpoint_of({key: state[key] for key in sorted(state)})
    return guess_checkpoint(replace(found, format="safetensors"), default())


class Words:
    """Another word for each word, always the same; numbers and the names kept stay."""

    def __init__(self, seed: int, kept: list[str] | None = None, numbers: bool = True) -> None:
        self.draw = random.Random(seed)
        self.known = {name: name for name in kept or []}
        self.pattern = r"[a-zA-Z_]+" if numbers else r"\w+"

    def __call__(self, key: str) -> str:
        return ".".join(self._component(part) for part in key.split("."))

    def _component(self, part: str) -> str:
        return self.known.get(part) or re.sub(self.pattern, lambda m: self._word(m[0]), part)

    def _word(self, word: str) -> str:
        while word not in self.known:
            new = "".join(self.draw.choices("bcdfghjklmnprstvz", k=6))
            if new not in self.known.values():
                self.known[word] = new
        return self.known[word]


def right(found: Guess, renamed: Callable[[str], str], state: State) -> bool:
    """Whether every key is led back to the one it had."""
    return found.key_map == {renamed(key): key for key in state}


# --- the parts ---------------------------------------------------------------------------------


def test_numbers_count_in_step_or_not_at_all() -> None:
    assert by_number(["b.3", "b.1", "b.2"], ["x0", "x1", "x2"]) == {
        "b.1": "x0",
        "b.2": "x1",
        "b.3": "x2",
    }
    assert by_number(["b.7", "b.1", "b.2"], ["x0", "x1", "x2"]) == {}
    assert by_number(["a", "b"], ["x0", "x1"]) == {}
    assert by_number(["s.4", "s.5"], ["layer2.1", "layer2.2"]) == {
        "s.4": "layer2.1",
        "s.5": "layer2.2",
    }


def test_words_that_are_alike() -> None:
    found = by_words(["k_proj", "v_proj", "q_proj"], ["query", "key", "value"])
    assert found == {"k_proj": "key", "v_proj": "value", "q_proj": "query"}
    assert by_words(["alfa", "bravo"], ["query", "key"]) == {}


def test_order_of_the_alphabet_is_no_order() -> None:
    assert own_order(["stem", "blocks.0", "blocks.1"])
    assert not own_order(["blocks.0", "blocks.1", "stem"])
    assert not own_order(["blocks.1", "blocks.10", "blocks.2", "stem"])
    assert not own_order(["blocks.1", "blocks.2", "blocks.10", "stem"])


def tokens(text: str) -> dict[str, Token]:
    """`a.weight 3 4, a.bias 3` as keys with shapes."""
    rows = (row.split() for row in text.split(","))
    return {key: ("float", tuple(map(int, sizes))) for key, *sizes in rows}


def test_what_the_same_names_stand_for_elsewhere_decides() -> None:
    ours = tokens("p.x 8 8, p.y 8 8, q.x 8 9, q.y 9 8")
    theirs = tokens("0.one 8 8, 0.two 8 8, 1.one 8 9, 1.two 9 8")
    assert align(ours, theirs, False).pairs == dict(zip(ours, theirs, strict=True))
    # The order would say otherwise of p, and says nothing against names.
    ours = tokens("p.y 8 8, p.x 8 8, q.y 9 8, q.x 8 9")
    found = align(ours, theirs, True).pairs
    assert found == {"p.x": "0.one", "p.y": "0.two", "q.x": "1.one", "q.y": "1.two"}


def test_another_nesting_is_dissolved() -> None:
    ours = tokens("net.stem.c 3 1, net.stages.0.b 4 3, net.stages.0.c 4, net.stages.1.b 5, net.h 6")
    theirs = tokens("conv 3 1, layer1.x 4 3, layer1.y 4, layer2.x 5, fc 6")
    assert align(ours, theirs, False).pairs == dict(zip(ours, theirs, strict=True))


def test_equal_tensors_stay_undecided_without_order() -> None:
    ours, theirs = tokens("a.x 4, a.y 4, b 2 2"), tokens("n.weight 4, n.bias 4, fc 2 2")
    assert align(ours, theirs, False).pairs == {"b": "fc"}
    found = align(ours, theirs, True)
    assert found.pairs == dict(zip(ours, theirs, strict=True)) and found.by_order == 2


def test_order_never_overrules_names() -> None:
    theirs = tokens("in 9, q.weight 4 4, k.weight 4 4, v.weight 4 4, out 7")
    ours = tokens("a 9, k.w 4 4, v.w 4 4, q.w 4 4, z 7")
    assert align(ours, theirs, True).pairs == {"a": "in", "z": "out"}
    ours = tokens("a 9, k.weight 4 4, v.weight 4 4, q.weight 4 4, z 7")
    assert align(ours, theirs, True).pairs["k.weight"] == "k.weight"


def test_numbers_that_count_backwards_are_no_numbers() -> None:
    theirs = tokens("b0.a 2, b0.c 3, b1.a 2, b1.c 3, d0 5, d1 6")
    ours = tokens("b9.a 2, b9.c 3, b8.a 2, b8.c 3, d9 5, d8 6")
    assert set(align(ours, theirs, False).pairs) == {"d9", "d8"}


trees = st.recursive(
    st.tuples(st.integers(1, 3), st.integers(1, 2)),
    lambda below: st.dictionaries(
        st.sampled_from("conv norm attn fc q k v 0 1 2 3 10 layer1 layer2 a_b".split()),
        below,
        min_size=1,
        max_size=4,
    ),
    max_leaves=25,
).filter(lambda tree: isinstance(tree, dict))


def flat(tree: object, path: str = "") -> dict[str, Token]:
    if isinstance(tree, tuple):
        return {path: ("float", tree)}
    assert isinstance(tree, dict)
    return {
        key: token
        for name, below in tree.items()
        for key, token in flat(below, f"{path}.{name}" if path else str(name)).items()
    }


@settings(max_examples=150, deadline=None)
@given(trees, st.integers(0, 9), st.booleans())
def test_a_renaming_is_undone_where_the_order_is_kept(tree: object, seed: int, flats: bool) -> None:
    theirs = flat(tree)
    words = Words(seed, numbers=False)
    ours = {(words(key).replace(".", "_") if flats else words(key)): theirs[key] for key in theirs}
    assert align(ours, theirs, True).pairs == dict(zip(ours, theirs, strict=True))


@settings(max_examples=300, deadline=None)
@given(trees, st.integers(0, 9), st.booleans())
def test_what_is_decided_without_order_is_right(tree: object, seed: int, numbers: bool) -> None:
    theirs = flat(tree)
    words = Words(seed, numbers=numbers)
    ours = {words(key): key for key in theirs}
    found = align({new: theirs[ours[new]] for new in sorted(ours)}, theirs, False).pairs
    assert all(ours[new] == old for new, old in found.items())


# --- whole networks ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["torchvision/resnet18", "timm/vit_tiny_patch16_224", "timm/convnext_atto"]
)
@pytest.mark.parametrize("classes", [1000, 7, 0])
def test_any_names_in_the_order_of_modules(name: str, classes: int) -> None:
    if classes == 0 and name.startswith("torchvision"):
        return
    state = shapes_of(name, num_classes=classes)
    words = Words(classes, numbers=False)
    found = guess_state({words(key): tensor for key, tensor in state.items()})
    assert found.is_named and found.matches[0].entry.id == name
    assert found.matches[0].config["num_classes"].value == classes
    assert right(found, words, state)
    assert found.canonical.steps[-1].detail == f"renamed, {len(state)} of {len(state)}"


@pytest.mark.parametrize("name", ["torchvision/resnet50", "timm/vit_tiny_patch16_224"])
@pytest.mark.parametrize("flats", [False, True])
def test_other_words_without_order(name: str, flats: bool) -> None:
    state = shapes_of(name, num_classes=7)
    words = Words(5, LEAVES)

    def renamed(key: str) -> str:
        return words(key).replace(".", "_") if flats else words(key)

    found = guess_state({renamed(key): tensor for key, tensor in state.items()}, in_order=False)
    assert found.is_named, found.warnings
    assert found.matches[0].entry.id == name and right(found, renamed, state)


def reordered(state: State, first: str) -> list[str]:
    """Keys with those of a module before the others of its block."""
    blocks: dict[str, list[str]] = {}
    for key in state:
        block = re.match(r"layer\d\.\d+", key)
        blocks.setdefault(block[0] if block else key, []).append(key)
    return [
        key
        for held in blocks.values()
        for key in sorted(held, key=lambda key: f".{first}" not in key)
    ]


def test_a_shortcut_may_stand_anywhere() -> None:
    state = shapes_of("torchvision/resnet50")
    words = Words(3, LEAVES)
    found = guess_state({words(key): state[key] for key in reordered(state, "downsample")})
    assert found.is_named and right(found, words, state)


def test_a_shortcut_beside_equal_layers_is_left_undecided() -> None:
    """conv3 and the shortcut have equal shapes in the first block: only the order of the others
    tells that it isn't the library's."""
    state = shapes_of("torchvision/resnet50")
    words = Words(3, LEAVES, numbers=False)

    def renamed(key: str) -> str:
        return words(key.replace("downsample.0", "proj").replace("downsample.1", "projbn"))

    found = guess_state({renamed(key): state[key] for key in reordered(state, "downsample")})
    assert found.status == "close"
    assert found.warnings[0].startswith("the keys are renamed, and neither shapes nor names")
    truth = {renamed(key): key for key in state}
    decided = {at: key for at, key in found.key_map.items() if key != at}
    assert decided and all(truth[at] == key for at, key in decided.items())


def test_no_order_and_no_names_is_close(tmp_path: Path) -> None:
    module = network("torchvision/resnet18", num_classes=4)
    words = Words(1, numbers=False)
    path = tmp_path / "network.safetensors"
    save_file({words(key): tensor for key, tensor in module.state_dict().items()}, path)
    found = archfind.guess(path)
    assert found.status == "close" and found.matches[0].entry.id == "torchvision/resnet18"
    with pytest.raises(BuildError):
        archfind.load(path)
    with pytest.raises(BuildError):  # a name decides which network, not which tensor
        archfind.load(path, choose="torchvision/resnet18")


def test_two_networks_of_the_same_shapes_are_ambiguous(tmp_path: Path) -> None:
    state = shapes_of("torchvision/mobilenet_v2", num_classes=6)
    zeros = [torch.zeros(t.shape, dtype=t.dtype) for t in state.values()]
    ours = {f"tensor{number}": tensor for number, tensor in enumerate(zeros)}
    found = guess_state(ours)
    names = {match.entry.id for match in found.matches}
    assert found.status == "ambiguous" and len(names) == 2
    assert names == {"torchvision/mobilenet_v2", "timm/mobilenetv2_100"}
    path = tmp_path / "network.pth"
    torch.save(ours, path)
    with pytest.raises(AmbiguousError):
        archfind.load(path)
    for name in names:
        assert archfind.guess(path, choose=name).status == "exact"
        archfind.load(path, choose=name)


def test_order_and_spelling_tell_networks_of_the_same_shapes_apart() -> None:
    state = shapes_of("timm/vit_base_patch16_224", num_classes=6)
    words = Words(2, numbers=False)
    found = guess_state({words(key): tensor for key, tensor in state.items()})
    assert found.matches[0].entry.id == "timm/vit_base_patch16_224"
    assert any("torchvision/vit_b_16 has the same shapes" in note for note in found.warnings)
    state = shapes_of("torchvision/mobilenet_v2", num_classes=6)
    flats = {key.replace(".", "_"): tensor for key, tensor in state.items()}
    for in_order in (True, False):
        found = guess_state(flats, in_order)
        assert found.is_named and found.matches[0].entry.id == "torchvision/mobilenet_v2"


def test_an_order_that_differs_from_module_to_module_is_none() -> None:
    theirs = tokens("in 9, a.x 4, a.y 4, b.x 5, b.y 5, out 7")
    assert len(align(tokens("i 9, o 7, a.g 4, a.h 4, b.g 5, b.h 5"), theirs, True).pairs) == 6
    mixed = tokens("i 9, o 7, a.g 4, a.h 4, b.h 5, b.g 5")
    assert align(mixed, theirs, True).pairs == {"i": "in", "o": "out"}


def test_few_tensors_are_ambiguous() -> None:
    state = shapes_of("torchvision/alexnet")
    words = Words(2, numbers=False)
    found = guess_state({words(key): tensor for key, tensor in state.items()})
    assert found.status == "ambiguous" and len(found.matches) == 1
    assert "it fits all 16 tensors, which say too little" in guess_lines(guess_document(found))[0]


def test_buffers_that_a_file_lacks_are_made() -> None:
    state = shapes_of("torchvision/resnet18")
    words = Words(4, numbers=False)
    kept = {words(k): t for k, t in state.items() if not k.endswith("num_batches_tracked")}
    found = guess_state(kept)
    assert found.is_named and len(found.matches[0].tolerated) == 20


# --- what is none of them ----------------------------------------------------------------------


def changed(state: State, how: str, draw: random.Random) -> State:
    """A tensor of a fixed shape added, left out, or with one size changed."""
    out: State = {}
    weights = [key for key, tensor in state.items() if tensor.dim() > 1][:-2]
    victim = draw.choice(weights)
    for key, tensor in state.items():
        if key != victim or how != "removed":
            out[key] = tensor
        if key == victim and how == "inserted":
            out[key + "_extra"] = tensor
        if key == victim and how == "resized":
            out[key] = torch.empty((tensor.shape[0] + 1, *tensor.shape[1:]), device="meta")
    return out


@pytest.mark.parametrize("how", ["inserted", "removed", "resized"])
@pytest.mark.parametrize("name", ["torchvision/resnet18", "timm/vit_tiny_patch16_224"])
def test_a_changed_network_is_never_exact(name: str, how: str) -> None:
    state = shapes_of(name)
    for seed in range(3):
        words = Words(seed, numbers=seed > 1)
        ours = changed(state, how, random.Random(seed))
        renamed = {words(key): tensor for key, tensor in ours.items()}
        assert guess_state(renamed).status not in ("exact", "ambiguous")
        assert guess_state(renamed, in_order=False).status not in ("exact", "ambiguous")


def test_a_few_other_names_are_a_change_and_no_renaming() -> None:
    state = shapes_of("torchvision/resnet18")
    few = {key.replace("fc.", "head.linear."): tensor for key, tensor in state.items()}
    assert not guess_state(few).key_map


def test_networks_made_by_hand_are_never_exact() -> None:
    for seed in range(10):
        draw = random.Random(seed)
        layers: list[nn.Module] = []
        width = 3
        for _ in range(draw.randint(8, 20)):
            wide = draw.choice([16, 32, 64, 128])
            layers += [nn.Conv2d(width, wide, 3, bias=False), nn.BatchNorm2d(wide), nn.ReLU()]
            width = wide
        with torch.device("meta"):
            state = nn.Sequential(*layers, nn.Flatten(), nn.Linear(width, 10)).state_dict()
        assert guess_state(state).status not in ("exact", "ambiguous")


# --- the proof ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "container"),
    [("torchvision/shufflenet_v2_x0_5", "pth"), ("timm/test_vit", "safetensors")],
)
def test_loaded_outputs_are_the_originals(name: str, container: str, tmp_path: Path) -> None:
    module = network(name, num_classes=5).eval()
    with torch.no_grad():
        randomise_seeded(module)
    kept = container == "pth"
    words = Words(9, None if kept else LEAVES, numbers=not kept)
    state = {words(key): tensor.clone() for key, tensor in module.state_dict().items()}
    path = tmp_path / f"network.{container}"
    if kept:
        torch.save({"state_dict": state, "epoch": 3}, path)
    else:
        save_file(state, path)
    found = archfind.guess(path)
    assert found.is_named and len(found.key_map) == len(state)
    document = guess_document(found)
    assert document["key_map"] == found.key_map
    assert any("renamed, " in line for line in guess_lines(document))
    loaded = archfind.load(path)
    x = torch.randn(1, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(module(x), loaded(x))


# --- some names alone --------------------------------------------------------------------------


def partly(name: str, *changes: tuple[str, str]) -> tuple[State, dict[str, str]]:
    """A network with some names changed, and what each key is."""
    state: State = {}
    own: dict[str, str] = {}
    for key, tensor in shapes_of(name).items():
        new = key
        for pattern, other in changes:
            new = re.sub(pattern, other, new)
        state[new], own[new] = tensor, key
    return state, own


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        (
            "torchvision/resnet50",
            [(r"downsample\.0", "shortcut.conv"), (r"downsample\.1", "shortcut.bn")],
        ),
        ("torchvision/maskrcnn_resnet50_fpn", [("rpn.head", "rpn.rpn_head")]),
        ("timm/convnext_tiny", [("head.norm", "norm_head"), ("head.fc", "head.classifier")]),
        ("timm/swin_tiny_patch4_window7_224", [("downsample.reduction", "downsample.proj")]),
    ],
)
def test_what_is_missing_is_what_is_unexpected(name: str, changes: list[tuple[str, str]]) -> None:
    state, own = partly(name, *changes)
    found = guess_state(state)
    assert found.status == "ambiguous" and found.is_assumed
    assert [item.place for item in found.matches[0].assumed] == ["implementation"]
    assert all(own[at] == key for key, at in found.canonical.origin.items())
    count = sum(key != new for new, key in own.items())
    assert found.canonical.steps[-1].detail == f"renamed, {count} of {len(state)}"


def test_blocks_numbered_one_higher() -> None:
    """Eleven of twelve blocks have a name that another block of the network has."""
    state, own = {}, {}
    for key, tensor in shapes_of("timm/vit_tiny_patch16_224").items():
        new = re.sub(r"^blocks\.(\d+)", lambda found: f"blocks.{int(found[1]) + 1}", key)
        state[new], own[new] = tensor, key
    found = guess_state(state)
    assert found.status == "ambiguous"
    assert all(own[at] == key for key, at in found.canonical.origin.items())


def test_shapes_that_changed_places_are_no_other_names() -> None:
    state = shapes_of("torchvision/resnet50")
    one, other = "layer1.0.conv2.weight", "layer3.0.conv2.weight"
    state[one], state[other] = state[other], state[one]
    assert guess_state(state).status == "close"
