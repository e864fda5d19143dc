"""What an answer says is so: counts are the file's, close is close, a choice is never ignored, and
commands can be pasted."""

from __future__ import annotations

import json
import random
import shlex
import subprocess
from pathlib import Path

import pytest
import torch
from torch import nn

import archfind
from archfind.cli import main
from archfind.database.entries import default
from archfind.escape import quoted
from archfind.learning.check import checkpoint_of
from archfind.matching.identify import guess_checkpoint
from archfind.providers import provider
from archfind.providers.on_meta import create_on_meta
from archfind.report.answer import guess_document, guess_lines
from archfind.types import Guess

State = dict[str, torch.Tensor]


def of(name: str, **fields: object) -> State:
    library, _, architecture = name.partition("/")
    return dict(create_on_meta(provider(library), architecture, **fields).state_dict())


def guessed(state: State) -> Guess:
    return guess_checkpoint(checkpoint_of(state, "x.pth"), default())


def empty(*shape: int) -> torch.Tensor:
    return torch.empty(shape, device="meta")


def count(state: State) -> tuple[int, int]:
    return len(state), sum(tensor.numel() for tensor in state.values())


def inside(seed: int) -> State:
    """A few tensors that a library's network has, too, among many that none has."""
    draw = random.Random(seed)
    own = [(k, t) for k, t in of("torchvision/resnet18").items() if "layer1.0" in k]
    place = draw.choice(("", "encoder.", "net.body."))
    state = {place + key: tensor for key, tensor in draw.sample(own, draw.randint(1, 6))}
    for number in range(draw.randint(30, 120)):
        wide = draw.randint(3, 99)
        state[f"rows.{number}.mix.weight"] = empty(wide, draw.randint(3, 99))
        state[f"rows.{number}.mix.bias"] = empty(wide)
    return state


@pytest.mark.parametrize("seed", range(12))
def test_an_unknown_file_shows_its_own_counts(seed: int) -> None:
    state = inside(seed)
    found = guessed(state)
    document = guess_document(found)
    assert found.status == "unknown"
    assert (document["tensors"], document["parameters"]) == count(state)
    assert f"{len(state)} tensors" in guess_lines(document)[1]


def test_a_close_answer_counts_what_is_outside() -> None:
    """The nearest stands below a prefix, with something beside it."""
    state = {f"body.{k}": t for k, t in of("torchvision/resnet18").items()}
    state |= {"head.weight": empty(4, 4), "head.bias": empty(4)}
    del state["body.layer1.0.conv1.weight"]
    document = guess_document(guessed(state))
    assert document["status"] == "close"
    assert (document["tensors"], document["parameters"]) == count(state)


def test_several_networks_count_together_and_each_alone(tmp_path: Path) -> None:
    one, other = of("torchvision/resnet18"), of("torchvision/squeezenet1_1")
    both = {f"a.{k}": t for k, t in one.items()} | {f"b.{k}": t for k, t in other.items()}
    document = guess_document(guessed(both))
    assert (document["tensors"], document["parameters"]) == count(both)
    parts = document["parts"]
    assert parts["a"]["tensors"] == len(one) and parts["b"]["tensors"] == len(other)  # pyright: ignore
    part = guess_checkpoint(checkpoint_of(both), default(), part="b")
    assert guess_document(part)["tensors"] == len(other)


def test_more_in_the_file_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = nn.Sequential(nn.Linear(6, 9), nn.Linear(9, 2))
    adam = torch.optim.Adam(net.parameters())
    net(torch.zeros(1, 6)).sum().backward()
    adam.step()
    torch.save({"net": net.state_dict(), "optim": adam.state_dict()}, tmp_path / "x.pt")
    main(["guess", str(tmp_path / "x.pt")])
    assert "4 tensors in net (the file holds 16)" in capsys.readouterr().out


def flattened(state: State, dims: int) -> State:
    """The kernels of another number of dimensions."""

    def turned(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dim() != 4:
            return tensor
        return tensor[..., 0] if dims == 1 else tensor[:, :, None].repeat(1, 1, 3, 1, 1)

    return {key: turned(tensor) for key, tensor in state.items()}


@pytest.mark.parametrize("dims", [1, 3])
@pytest.mark.parametrize("name", ["torchvision/resnet18", "timm/resnet50", "torchvision/vgg11_bn"])
def test_kernels_of_other_ranks_are_not_close(name: str, dims: int) -> None:
    found = guessed(flattened(of(name), dims))
    document = guess_document(found)
    assert found.status == "unknown" and f"({dims}-D)" in str(document["described"])
    near = [line for line in guess_lines(document) if "nearest" in line and name in line]
    assert all("another number of dimensions" in line for line in near)


def test_a_volume_network_is_nearest_to_one_of_its_shapes() -> None:
    """A 3-D ResNet under a 2-D one's names resembles the one whose shapes it has."""
    names = {"stem.0": "conv1", "stem.1": "bn1"}
    state: State = {}
    for key, tensor in of("torchvision/r3d_18").items():
        for old, new in names.items():
            key = key.replace(old, new)
        key = key.replace("conv1.0.", "conv1.").replace("conv1.1.", "bn1.")
        key = key.replace("conv2.0.", "conv2.").replace("conv2.1.", "bn2.")
        state[key] = tensor
    state["conv1.weight"] = empty(64, 3, 7, 7, 7)
    found = guessed(state)
    assert found.status == "unknown" and found.matches[0].entry.id == "torchvision/r3d_18"


def cifar(blocks: int) -> State:
    """The ResNets of CIFAR-10 as they are written: three stages, no projection, `linear`."""
    state: State = {"conv1.weight": empty(16, 3, 3, 3)}

    def norm(key: str, wide: int) -> None:
        for name in ("weight", "bias", "running_mean", "running_var"):
            state[f"{key}.{name}"] = empty(wide)

    norm("bn1", 16)
    width = 16
    for stage, wide in enumerate((16, 32, 64), 1):
        for block in range(blocks):
            for number, ins in ((1, width), (2, wide)):
                state[f"layer{stage}.{block}.conv{number}.weight"] = empty(wide, ins, 3, 3)
                norm(f"layer{stage}.{block}.bn{number}", wide)
            width = wide
    state |= {"linear.weight": empty(10, 64), "linear.bias": empty(10)}
    return {f"module.{key}": tensor for key, tensor in state.items()}


@pytest.mark.parametrize("blocks", [3, 5, 9])
def test_another_stem_stage_and_head_are_not_close(blocks: int) -> None:
    assert guessed(cifar(blocks)).status == "unknown"


def test_norms_dont_make_a_network_close() -> None:
    """Four of five tensors of a ResNet are its norms': with other kernels it's another one."""
    state = of("torchvision/resnet50")
    kernels = [key for key, tensor in state.items() if tensor.dim() == 4 and "conv2" in key]
    kernels += [key for key in state if key.startswith("layer3") and "conv1" in key]
    state |= {key: empty(*state[key].shape[:2], 5, 5) for key in kernels}
    assert guessed(state).status == "unknown"


def test_networks_that_only_share_a_few_tensors_are_not_named() -> None:
    for seed in range(6):
        document = guess_document(guessed(inside(seed)))
        assert document["candidates"] == []


def test_what_stands_beside_two_encoders_is_no_third_network() -> None:
    one = of("torchvision/resnet18", num_classes=128)
    both = {f"module.encoder_{w}.{k}": t for w in "qk" for k, t in one.items()}
    both |= {"module.queue": empty(128, 65536), "module.queue_ptr": empty(1)}
    found = guessed(both)
    assert found.status == "ambiguous" and sorted(found.parts) == ["encoder_k", "encoder_q"]
    assert any("queue, queue_ptr" in text for text in found.warnings)
    assert guess_lines(guess_document(found))[0] == "x.pth: ambiguous, 2 networks in one file"


def test_a_choice_that_decides_nothing_is_said_to() -> None:
    one = of("torchvision/resnet18")
    both = {f"{name}.{k}": t for name in "ab" for k, t in one.items()}
    found = guess_checkpoint(checkpoint_of(both), default(), choose="torchvision/resnet18")
    assert any("--as torchvision/resnet18 decides nothing" in text for text in found.warnings)
    other = guess_checkpoint(checkpoint_of(one), default(), choose="BertModel")
    assert other.status == "unknown"
    assert any("BertModel doesn't fit" in text for text in other.warnings)


@pytest.mark.parametrize(
    "name",
    ["plain.pth", "with space.pth", "it's.pth", "a$(id).pth", "-q.pth", "é.pth", "tab\t.pth"],
)
def test_commands_that_are_shown_can_be_pasted(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = subprocess.run(
        ["bash", "-c", f"printf %s {quoted(name)}"], capture_output=True, check=True
    ).stdout.decode()
    assert shown.removeprefix("./") == name
    monkeypatch.chdir(tmp_path)
    one, other = of("torchvision/resnet18"), of("torchvision/squeezenet1_1")
    both = {f"a.{k}": t for k, t in one.items()} | {f"b.{k}": t for k, t in other.items()}
    lines = guess_lines(guess_document(guess_checkpoint(checkpoint_of(both, name), default())))
    command = next(line for line in lines if "Choose:" in line).partition("Choose:  ")[2]
    if name.isprintable():
        assert shlex.split(command)[2].removeprefix("./") == name


def test_half_of_a_network_is_not_offered() -> None:
    """Beside a detector that is nearly known, its backbone alone isn't the way."""
    state = of("torchvision/fasterrcnn_resnet50_fpn")
    gone = [key for key in state if key.startswith("rpn.head.conv")]
    state = {key: tensor for key, tensor in state.items() if key not in gone}
    document = guess_document(guessed(state))
    assert document["status"] == "close"
    assert not any("Choose:" in line for line in guess_lines(document))


def test_repair_keeps_what_computes(tmp_path: Path) -> None:
    """Registers are part of what a network computes: it isn't one without them."""
    state = dict(provider("timm").create("test_vit").state_dict())
    state["register_tokens"] = torch.zeros(1, 4, state["cls_token"].shape[-1])
    torch.save(state, tmp_path / "x.pth")
    plan = archfind.repair.plan(tmp_path / "x.pth", choose="timm/test_vit")
    assert any("register_tokens" in text for text in plan.problems)
    state["mask_token"] = state.pop("register_tokens")[:, :1]
    torch.save(state, tmp_path / "x.pth")
    assert not archfind.repair.plan(tmp_path / "x.pth", choose="timm/test_vit").problems


def test_json_has_the_counts_of_the_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = nn.Sequential(nn.Conv1d(4, 9, 3), nn.Conv1d(9, 2, 3))
    torch.save({"model": net.state_dict()}, tmp_path / "x.pth")
    main(["guess", "--json", str(tmp_path / "x.pth")])
    document = json.loads(capsys.readouterr().out)
    assert (document["tensors"], document["in_file"], document["kind"]) == (4, 4, "network")
    assert document["details"]["dims"] == 1 and document["details"]["outputs"] == 2


def test_a_difference_is_said_relative_to_the_output() -> None:
    """Outputs of thousands may differ by a tenth, those of thousandths may not."""
    from archfind.exporters import parity

    for size, moved in ((5000.0, 0.12), (2.0, 1e-4), (1e-3, 1e-7)):
        expected = {"output": torch.linspace(-size, size, 50)}
        difference = parity.compare(expected, [expected["output"] + moved])
        assert difference.share == pytest.approx(moved / max(size, 1e-2), rel=0.01)
        assert not difference.why and "limit 0.001" in difference.note()["relative"]
    zero = {"output": torch.zeros(4)}
    assert parity.compare(zero, [torch.full((4,), 1e-6)]).share == pytest.approx(1e-4, rel=0.01)
