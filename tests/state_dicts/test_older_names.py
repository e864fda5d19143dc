"""Older names of a library's networks, as its own loader takes them: a sample of
benchmarks/older_names.py, and torchvision's hooks asked for the names that they know."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from older_files import older, on_meta, quiet, unshaped
from older_names import accepted, loaded, named, ways, written
from torch import nn

import archfind
from archfind.database.entries import default, signatures_folder
from archfind.learning.check import checkpoint_of
from archfind.matching.identify import guess_checkpoint
from archfind.providers import provider
from archfind.providers.on_meta import create_on_meta
from archfind.state_dicts.canonical import networks
from archfind.state_dicts.key_rules import Made, Rule, applied, reshaped_tensor
from archfind.state_dicts.older_names import _shown, older_readings, rows_of_older_names
from archfind.types import Guess, Storage, TensorSpec
from archfind.work import Work

ROWS = {row.name: row for row in rows_of_older_names(signatures_folder())}
State = dict[str, torch.Tensor]


def guess_state(state: State) -> Guess:
    return guess_checkpoint(checkpoint_of(state), default())


def spec(*shape: int) -> TensorSpec:
    return TensorSpec("float32", shape, Storage("", "", 0, 0))


# --- the notation -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "key", "becomes"),
    [
        ("layers.{i}.down.* -> layers.{i+1}.down.*", "layers.0.down.norm.weight", "layers.1."),
        ("network.{2i}.{j}.* -> stages.{i}.{j}.*", "network.4.7.bias", "stages.2.7.bias"),
        ("network.{2i}.{j}.* -> stages.{i}.{j}.*", "network.3.7.bias", None),
        ("mask_fcn{i+1}.* -> {i}.0.*", "mask_fcn0.bias", None),
        ("*.w{1|2|3}.* -> *.{fc1_g|fc1_x|fc2}.*", "blocks.3.mlp.w2.bias", "blocks.3.mlp.fc1_x."),
        ("mask_token ->", "mask_token", ""),
        ("blocks.{n}.* -> stages.{s:n}.blocks.{j:n}.*", "blocks.4.norm.bias", "stages.1.blocks.1."),
    ],
)
def test_a_rule_writes_a_key(rule: str, key: str, becomes: str | None) -> None:
    found = Rule(rule).key(key, [0, 3])
    assert found == becomes if not becomes else (found or "").startswith(becomes)


@pytest.mark.parametrize(
    ("before", "after", "shape"),
    [
        ("a b", "b a", (3, 5)),
        ("1 1 1 c", "c", (1, 1, 1, 7)),
        ("n d", "1 n d", (4, 6)),
        ("o (c 2 3)", "o c 2 3", (4, 30)),
        ("1 (4 4) c", "1 c 4 4", (1, 16, 5)),
        ("2+n d", "1 n d", (9, 4)),
    ],
)
def test_shapes_are_views_of_the_file(before: str, after: str, shape: tuple[int, ...]) -> None:
    made = reshaped_tensor(spec(*shape), before, after)
    assert made is not None and made.stride is not None
    flat = torch.arange(torch.Size(shape).numel())
    value = flat.as_strided(made.shape, made.stride, made.offset)
    gone = 2 if "+" in before else 0
    assert torch.equal(unshaped(value, before, after)[gone:], flat.reshape(shape)[gone:])


def test_a_shape_of_another_kind_is_left_alone() -> None:
    assert reshaped_tensor(spec(3, 4), "1 1 1 c", "c") is None
    assert reshaped_tensor(spec(3, 10), "o (c 7 7)", "o c 7 7") is None
    assert reshaped_tensor(spec(2, 4), "2+n d", "n d") is None


def test_rows_and_pieces() -> None:
    rules = [Rule("qkv -> q : rows 0..1 of 3"), Rule("qkv -> v : rows 2..3 of 3")]
    made = {one.key: one.spec for one in applied(rules, [Made("qkv", spec(6, 5))], [])}
    assert made["q"].shape == made["v"].shape == (2, 5)
    assert (made["q"].offset, made["v"].offset) == (0, 20)
    kept = applied(rules, [Made("qkv", spec(7, 5))], [])
    assert [one.key for one in kept] == ["qkv"]


# --- torchvision's hooks ----------------------------------------------------------------------


class _Asked(dict[str, torch.Tensor]):
    """A state dict that notes which keys it's asked for and hasn't."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    def __contains__(self, key: object) -> bool:
        self.asked.add(str(key))
        return super().__contains__(key)


def hooks_names(module: nn.Module) -> dict[str, str]:
    """Own key -> the older one that a module's hook makes it of, by asking each hook."""
    own = set(module.state_dict())
    found: dict[str, str] = {}
    for prefix, part in module.named_modules():
        if type(part)._load_from_state_dict is nn.Module._load_from_state_dict:
            continue
        if not type(part).__module__.startswith("torchvision"):
            continue
        start = f"{prefix}." if prefix else ""
        state = _Asked()
        part._load_from_state_dict(state, start, {}, False, [], [], [])
        for asked in state.asked - own:
            one = _Asked()
            one[asked] = torch.zeros(0)
            part._load_from_state_dict(one, start, {}, False, [], [], [])
            found.update((key, asked) for key in one.keys() & own)
    return found


@pytest.mark.parametrize(
    "name",
    [
        "fasterrcnn_mobilenet_v3_large_fpn",
        "fasterrcnn_resnet50_fpn_v2",
        "fcos_resnet50_fpn",
        "keypointrcnn_resnet50_fpn",
        "maskrcnn_resnet50_fpn",
        "retinanet_resnet50_fpn",
        "vit_b_32",
    ],
)
def test_names_that_a_hook_knows(name: str) -> None:
    module = create_on_meta(provider("torchvision"), name)
    before = hooks_names(module)
    assert before
    state = {before.get(key, key): tensor for key, tensor in module.state_dict().items()}
    found = guess_state(state)
    assert found.status in ("exact", "ambiguous")
    twins = {twin.architecture for match in found.matches for twin in match.twins}
    assert name in {match.entry.name for match in found.matches} | twins
    assert not any(match.assumed for match in found.matches)
    assert found.matches[0].expected == found.matches[0].matched


def test_another_head_and_other_counts_in_older_names(tmp_path: Path) -> None:
    """A detector of three classes is loaded, also by its name alone."""
    from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn as make

    module = make(weights=None, weights_backbone=None, num_classes=3).eval()
    state = {
        key.replace("_blocks.0.0.", "_blocks.0.").replace("_blocks.1.0.", "_blocks.1."): tensor
        for key, tensor in module.state_dict().items()
    }
    assert state.keys() != module.state_dict().keys()
    path = tmp_path / "old.pth"
    torch.save(state, path)
    name = "torchvision/fasterrcnn_mobilenet_v3_large_320_fpn"
    ours = archfind.load(str(path), choose=name).state_dict()
    assert all(torch.equal(ours[key], tensor) for key, tensor in module.state_dict().items())


# --- timm's filters ---------------------------------------------------------------------------


def every_way(name: str) -> Iterator[tuple[str, State]]:
    module, filter_fn = on_meta(name)
    for row, state in ways(f"timm/{name}", module, filter_fn):
        yield row.name, state


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("convnextv2_atto", 1),
        ("crossvit_tiny_240", 1),
        ("davit_tiny", 1),
        ("efficientformer_l1", 1),
        ("fastvit_sa12", 1),
        ("mvitv2_tiny", 1),
        ("poolformer_s12", 1),
        ("pvt_v2_b0", 1),
        ("resnet50_clip", 1),
        ("samvit_base_patch16", 1),
        ("swin_tiny_patch4_window7_224", 1),
        ("swinv2_cr_tiny_224", 1),
        ("vit_small_patch14_reg4_dinov2", 2),
    ],
)
def test_names_that_a_filter_takes(name: str, least: int) -> None:
    tried = 0
    for row, state in every_way(name):
        case = named(f"timm/{name}", ROWS[row], state)
        assert case["named"], case
        tried += 1
    assert tried >= least


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("xcit_nano_12_p16_224", "timm: names of XCiT"),  # rows of a tensor
        ("convnextv2_atto", "timm: names of ConvNeXt"),  # other shapes
        ("swinv2_cr_tiny_ns_224", "timm: Swin V2 of mixed resolutions before 0.8"),  # values
    ],
)
def test_values_are_those_of_the_librarys_loader(name: str, row: str, tmp_path: Path) -> None:
    case = loaded(f"timm/{name}", ROWS[row], tmp_path)
    assert case["loaded"] and case["equal"], case


def test_registers_are_led_to_positions_without_them(tmp_path: Path) -> None:
    """DINOv2's class token has a position in its own names, and none in timm's."""
    import timm

    small = {"img_size": 56, "depth": 2, "embed_dim": 96, "num_heads": 3}
    module = timm.create_model("vit_small_patch14_reg4_dinov2", **small)
    own = module.state_dict()
    state = older(ROWS["timm: names of DINOv2"], own)
    assert state is not None and state["pos_embed"].shape[1] == own["pos_embed"].shape[1] + 1
    torch.save(state, tmp_path / "hub.pth")
    name = "timm/vit_small_patch14_reg4_dinov2"
    ours = archfind.load(str(tmp_path / "hub.pth"), choose=name).state_dict()
    theirs = on_meta("vit_small_patch14_reg4_dinov2")[1](state, module)
    assert all(torch.equal(ours[key], tensor) for key, tensor in theirs.items())


def test_other_arguments_and_heads_in_older_names() -> None:
    """Rules go for a class, not for the networks that a library has names for."""
    with torch.device("meta"), quiet():
        import timm

        module = timm.create_model(
            "swin_tiny_patch4_window7_224", img_size=448, num_classes=7, depths=(2, 2, 4, 2)
        )
    state = older(ROWS["timm: Swin before 0.8"], module.state_dict())
    assert state is not None
    state = {f"module.backbone.{key}": tensor for key, tensor in state.items()}
    found = guess_state(state)
    assert found.status in ("exact", "ambiguous")
    best = found.matches[0]
    assert best.entry.name == "swin_tiny_patch4_window7_224"
    assert best.config["depths"].value == [2, 2, 4, 2] and best.config["num_classes"].value == 7


def test_what_training_adds_is_set_aside_and_said(tmp_path: Path) -> None:
    module, _ = on_meta("vit_small_patch14_dinov2")
    state = {**module.state_dict(), "mask_token": torch.empty(1, 384, device="meta")}
    found = guess_state(state)
    assert found.status == "exact"
    assert found.matches[0].entry.name == "vit_small_patch14_dinov2"
    assert found.canonical.aside == ("mask_token",)
    assert any("mask_token" in step.detail for step in found.canonical.steps)


def test_a_part_in_older_names(tmp_path: Path) -> None:
    """SAM as its authors publish it: the image's encoder in their names, beside what timm has
    not."""
    module, _ = on_meta("samvit_base_patch16")
    own = module.state_dict()
    state = written(ROWS["timm: names of SAM"], own)
    assert state is not None
    with torch.device("meta"):
        beside = nn.Sequential(*(nn.Linear(31, 31) for _ in range(12)))
    state |= {f"mask_decoder.{key}": tensor for key, tensor in beside.state_dict().items()}
    found = guess_state(state)
    part = found.parts["image_encoder"]
    assert part.status == "exact" and part.matches[0].entry.name == "samvit_base_patch16"
    assert found.parts["mask_decoder"].status == "unknown"


def test_a_damaged_file_in_older_names() -> None:
    module, _ = on_meta("swin_tiny_patch4_window7_224")
    state = older(ROWS["timm: Swin before 0.8"], module.state_dict())
    assert state is not None
    state["layers.2.blocks.1.mlp.fc1.weight"] = torch.empty(1535, 384, device="meta")
    found = guess_state(state)
    assert found.status == "close"
    assert [one.key for one in found.matches[0].mismatched] == ["layers.2.blocks.1.mlp.fc1.weight"]
    assert not found.matches[0].missing and not found.matches[0].unexpected


def test_blocks_in_chunks() -> None:
    """DINOv2 trains with its blocks in a few lists, numbered through."""
    module, _ = on_meta("vit_small_patch14_dinov2")
    state: State = {"mask_token": torch.empty(1, 384, device="meta")}
    for key, tensor in module.state_dict().items():
        words = key.split(".")
        if words[0] == "blocks":
            words.insert(1, str(int(words[1]) // 3))
        state[".".join(words)] = tensor
    found = guess_state(state)
    assert found.status == "exact"
    assert found.matches[0].entry.name == "vit_small_patch14_dinov2"


# --- what isn't ours --------------------------------------------------------------------------


def test_a_sign_alone_is_no_network() -> None:
    for row in ROWS.values():
        draw = random.Random(row.name)
        state = {
            key.replace("{i}", "0"): torch.empty(draw.randint(2, 9), 5, device="meta")
            for sign in row.signs
            for key in sign
        }
        assert guess_state(state).status in ("unknown", "close")


def test_names_made_twice_are_left_alone() -> None:
    module, _ = on_meta("swin_tiny_patch4_window7_224")
    state = older(ROWS["timm: Swin before 0.8"], module.state_dict())
    assert state is not None
    state["head.fc.weight"] = torch.empty(1000, 768, device="meta")
    assert guess_state(state).status not in ("exact", "ambiguous")


@pytest.mark.parametrize(
    ("name", "row", "alone"),
    [
        ("convnextv2_atto", "timm: names of ConvNeXt", False),
        ("pit_ti_224", "timm: names of PiT", True),
    ],
)
def test_repair_renames_and_says_where_it_can_not(
    name: str, row: str, alone: bool, tmp_path: Path
) -> None:
    """Another name is an edit; another shape isn't, and export writes that."""
    module = provider("timm").create(name)
    state = older(ROWS[row], module.state_dict())
    path, out = tmp_path / "old.pth", tmp_path / "new.safetensors"
    torch.save(state, path)
    plan = archfind.repair.plan(str(path))
    assert plan.complete == alone
    if alone:
        archfind.repair.apply(plan, str(out))
    else:
        assert "archfind export" in plan.problems[0]
        archfind.export(str(path), str(out))
    fixed = archfind.load(str(out)).state_dict()
    assert all(torch.equal(fixed[key], tensor) for key, tensor in module.state_dict().items())


def test_what_is_read_is_bounded() -> None:
    """Many keys that show signs cost no more than the work that a file has; keys as long as a page
    are read by no rule."""
    canonical = networks(checkpoint_of(many_signs(40)))[""]
    assert list(older_readings(canonical, signatures_folder(), Work(len(canonical.index))))
    spent = Work(0)
    spent.allows(10**9)
    assert not list(older_readings(canonical, signatures_folder(), spent))
    state = many_signs(1) | {".ghost" * 2000 + "bn.": torch.empty(3, device="meta")}
    assert not list(
        older_readings(networks(checkpoint_of(state))[""], signatures_folder(), Work(10))
    )


def many_signs(count: int) -> State:
    places = [f"part{n}." for n in range(count)]
    keys = [place + sign[0] for place in places for row in ROWS.values() for sign in row.signs]
    return {key.replace("{i}", "٣"): torch.empty(2, 3, device="meta") for key in keys} | {
        key.replace("{i}", "0"): torch.empty(2, 3, device="meta") for key in keys
    }


def test_every_row_is_taken_by_a_loader_or_has_none() -> None:
    """A row says whose loader knows it, and its signs are names that its rules change."""
    for row in ROWS.values():
        assert row.signs and row.rules, row.name
        assert row.loaders or "training" in row.name, row.name


def test_swin_is_accepted_as_it_is_written() -> None:
    module, filter_fn = on_meta("swin_tiny_patch4_window7_224")
    state = written(ROWS["timm: Swin before 0.8"], module.state_dict())
    assert state is not None and accepted(module, filter_fn, state)
    del state["patch_embed.norm.weight"]
    assert not accepted(module, filter_fn, state)


def test_signs_are_seen_below_any_prefix():
    """As a slow plain look at every tail of every key sees them."""
    known = list(ROWS.values())
    signs = {sign[0] for row in known for sign in row.signs}
    draw = random.Random(11)
    for _ in range(40):
        drawn = draw.sample(sorted(signs), 3)
        keys = [
            draw.choice(("", "m.", "student.backbone.", "a.0.")) + key.replace("{i}", "1")
            for key in [*drawn, "blocks.0.other.weight", "weight"]
        ]
        index = {key: spec(1) for key in keys}
        plain = {
            (row.name, key[: len(key) - len(end)])
            for row in known
            for sign in row.signs
            for key in keys
            for end in [sign[0].replace("{i}", "1")]
            if (key == end or key.endswith(f".{end}"))
            and all(
                any(
                    key[: len(key) - len(end)] + other.replace("{i}", str(n)) in index
                    for n in range(8)
                )
                for other in sign
            )
        }
        seen = {(row.name, prefix) for row, prefixes in _shown(index, known) for prefix in prefixes}
        assert seen == plain
