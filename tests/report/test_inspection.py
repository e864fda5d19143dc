"""`archfind inspect`: what training left in a file, and what the file is good for."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn, optim

import archfind
from archfind.cli import main
from archfind.errors import NoTensors
from archfind.evidence.training import optimizers, schedulers
from archfind.report.inspection import inspect_document
from archfind.report.inspection_text import inspect_lines

OPTIMIZERS = [
    (lambda p: optim.SGD(p, lr=0.1), "SGD"),
    (lambda p: optim.SGD(p, lr=0.1, momentum=0.9), "SGD with momentum"),
    (lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True), "SGD with Nesterov momentum"),
    (lambda p: optim.Adam(p), "Adam"),
    (lambda p: optim.Adam(p, amsgrad=True, weight_decay=0.1), "Adam"),
    (lambda p: optim.AdamW(p, weight_decay=0.0), "AdamW"),
    (lambda p: optim.NAdam(p), "NAdam"),
    (lambda p: optim.RAdam(p), "RAdam"),
    (lambda p: optim.Adamax(p), "Adamax"),
    (lambda p: optim.Adadelta(p), "Adadelta"),
    (lambda p: optim.Adagrad(p), "Adagrad"),
    (lambda p: optim.Adafactor(p), "Adafactor"),
    (lambda p: optim.RMSprop(p), "RMSprop"),
    (lambda p: optim.RMSprop(p, momentum=0.9), "RMSprop with momentum"),
    (lambda p: optim.Rprop(p), "Rprop"),
    (lambda p: optim.ASGD(p), "ASGD"),
    (lambda p: optim.Muon(p), "Muon"),
    (lambda p: optim.LBFGS(p), "LBFGS"),
]


def trained(make: object, steps: int = 3) -> tuple[nn.Module, optim.Optimizer]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 3, bias=False), nn.Linear(3, 2, bias=False))
    made = make(network.parameters())  # pyright: ignore

    def loss() -> torch.Tensor:
        made.zero_grad()
        value = network(torch.ones(1, 4)).square().sum()
        value.backward()
        return value

    for _ in range(steps):
        made.step(loss)
    return network, made


@pytest.mark.parametrize("place", ["optimizer", "optimizers/0", "state/optim_g", ""])
@pytest.mark.parametrize(("make", "kind"), OPTIMIZERS, ids=[one[1] for one in OPTIMIZERS])
def test_optimizers_by_their_state(tmp_path: Path, make: object, kind: str, place: str) -> None:
    network, made = trained(make)
    value: object = made.state_dict()
    for word in reversed(place.split("/") if place else []):
        value = [value] if word == "0" else {word: value}
    if place:
        value |= {"model": network.state_dict(), "epoch": 2}  # pyright: ignore
    torch.save(value, tmp_path / "x.pth")
    if kind == "SGD" and not place:  # it keeps nothing, and there are no weights beside it
        with pytest.raises(NoTensors):
            archfind.open(tmp_path / "x.pth")
        return
    (found,) = optimizers(archfind.open(tmp_path / "x.pth"))
    assert (found["kind"], found["place"]) == (kind, place)
    assert found["step"] in (3, None, 60) and found["certain"]
    assert found["settings"]["lr"] == made.param_groups[0]["lr"]  # pyright: ignore


def test_an_older_adamw_is_only_likely(tmp_path: Path) -> None:
    network, made = trained(lambda p: optim.AdamW(p, weight_decay=0.05))
    value = made.state_dict()
    for one in value["param_groups"]:
        del one["decoupled_weight_decay"]
    torch.save({"model": network.state_dict(), "optimizer": value}, tmp_path / "x.pth")
    document = inspect_document(archfind.open(tmp_path / "x.pth"))
    assert document["optimizers"][0]["certain"] is False  # pyright: ignore
    assert "AdamW (likely), step 3" in "\n".join(inspect_lines(document))


def test_optimizers_of_others(tmp_path: Path) -> None:
    """Names as Lion, 8-bit Adam, fairseq's Adafactor and two optimizers of a GAN keep them."""
    group = {"lr": 1e-4, "betas": (0.9, 0.99), "weight_decay": 0.0, "params": [0]}
    moment = torch.zeros(3)
    states = {
        "Lion": {"exp_avg": moment},
        "8-bit Adam": {"state1": moment.byte(), "state2": moment.byte(), "step": 9},
        "Adafactor": {"exp_avg_sq_row": moment, "exp_avg_sq_col": moment, "step": 9},
        "Adan": {"exp_avg": moment, "exp_avg_sq": moment, "exp_avg_diff": moment},
    }
    for kind, state in states.items():
        both = {f"optimizer_{one}": {"state": {0: state}, "param_groups": [group]} for one in "gd"}
        torch.save({"g": {"w": moment}, **both}, tmp_path / "x.pth")
        found = optimizers(archfind.open(tmp_path / "x.pth"))
        assert [(one["kind"], one["place"]) for one in found] == [
            (kind, "optimizer_g"),
            (kind, "optimizer_d"),
        ]


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda o: optim.lr_scheduler.StepLR(o, 3), "StepLR"),
        (lambda o: optim.lr_scheduler.MultiStepLR(o, [3, 5]), "MultiStepLR"),
        (lambda o: optim.lr_scheduler.ExponentialLR(o, 0.9), "ExponentialLR"),
        (lambda o: optim.lr_scheduler.CosineAnnealingLR(o, 10), "CosineAnnealingLR"),
        (
            lambda o: optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 10),
            "CosineAnnealingWarmRestarts",
        ),
        (lambda o: optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=9), "OneCycleLR"),
        (lambda o: optim.lr_scheduler.LinearLR(o), "LinearLR"),
        (lambda o: optim.lr_scheduler.PolynomialLR(o), "PolynomialLR"),
        (lambda o: optim.lr_scheduler.ReduceLROnPlateau(o), "ReduceLROnPlateau"),
        (lambda o: optim.lr_scheduler.LambdaLR(o, lambda _: 0.5), "LambdaLR"),
    ],
)
def test_schedulers_by_their_state(tmp_path: Path, make: object, kind: str) -> None:
    network, made = trained(lambda p: optim.SGD(p, lr=0.1))
    plan = make(made)  # pyright: ignore
    value = {"state_dict": network.state_dict(), "lr_schedulers": [plan.state_dict()]}
    torch.save(value, tmp_path / "x.ckpt")
    (found,) = schedulers(archfind.open(tmp_path / "x.ckpt"))
    assert found == {"place": "lr_schedulers/0", "kind": kind, "last_epoch": 0}


def uses(path: Path) -> dict[str, str]:
    return inspect_document(archfind.open(path))["uses"]  # pyright: ignore


def test_what_a_file_is_good_for(tmp_path: Path) -> None:
    network, made = trained(lambda p: optim.AdamW(p))
    path = tmp_path / "x.pth"
    states = {"rng_state": torch.get_rng_state(), "numpy_rng_state": np.random.get_state()}
    whole = {"model": network.state_dict(), "optimizer": made.state_dict(), "epoch": 4, **states}
    torch.save({**whole, "python_random_state": random.getstate()}, path)
    found = uses(path)
    assert found["resume"].startswith("yes") and "AdamW state, epoch 4" in found["resume"]
    assert "random states; without scheduler" in found["resume"]
    assert found["fine_tune"].startswith("yes") and "2 matrices" in found["lora"]
    assert found["run"].startswith("no: weights alone")
    document = inspect_document(archfind.open(path))
    assert document["random_states"] == ["rng_state", "numpy_rng_state", "python_random_state"]
    assert [one["place"] for one in document["wrappers"]] == ["model"]  # pyright: ignore

    torch.save(network.state_dict(), path)
    assert uses(path)["resume"].startswith("no: no optimizer state")
    torch.save(made.state_dict(), path)
    found = uses(path)
    assert found["resume"].startswith("only beside its weights")
    assert found["fine_tune"].startswith("no") and found["lora"].startswith("no")
    fresh = optim.AdamW(network.parameters()).state_dict()
    torch.save({"model": network.state_dict(), "optimizer": fresh}, path)
    assert uses(path)["resume"].startswith("in part")
    torch.save({k: v.half() for k, v in network.state_dict().items()}, path)
    assert "float16 is widened" in uses(path)["fine_tune"]
    torch.save(network, path)
    assert uses(path)["run"].startswith("only by unpickling")
    torch.jit.save(torch.jit.script(network), path)
    assert "runs its code" in uses(path)["run"]
    torch.save({"a": torch.zeros(3, 4).to("meta")}, path)
    assert uses(path)["fine_tune"].startswith("no: the values")


def test_adapters_and_packed_weights(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    adapter = {
        "base_model.model.q.lora_A.weight": torch.zeros(8, 64),
        "base_model.model.q.lora_B.weight": torch.zeros(64, 8),
    }
    torch.save(adapter, path)
    found = uses(path)
    assert "rank 8" in found["lora"] and found["fine_tune"].startswith("with its base model")
    packed = {"q.qweight": torch.zeros(8, 64, dtype=torch.int32), "q.scales": torch.zeros(2, 64)}
    torch.save(packed, path)
    assert "qweight" in uses(path)["fine_tune"] and "QLoRA" in uses(path)["lora"]


def test_onnx_runs_as_it_is(tmp_path: Path) -> None:
    weight = onnx.numpy_helper.from_array(np.ones((3, 4), "f4"), "w")
    graph = onnx.helper.make_graph([], "g", [], [], [weight])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "x.onnx")
    found = uses(tmp_path / "x.onnx")
    assert found["run"].startswith("yes, as it is") and found["resume"].startswith("no")
    assert found["fine_tune"].startswith("not as it is")


class Harmless:
    def __reduce__(self) -> tuple[object, ...]:
        import os

        return os.getenv, ("HOME",)


def test_globals_ties_damage_and_both_outputs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weight = torch.ones(3, 4)
    value = {
        "model": {"a.weight": weight, "b.weight": weight, "gone": torch.zeros(2).to("meta")},
        "args": {"arch": "mine", "lr": 0.1},
        "extra": Harmless(),
    }
    path = tmp_path / "x.pth"
    torch.save(value, path)
    assert main(["inspect", "--json", str(path)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["globals"]["danger"] == ["os.getenv"]
    assert "torch._utils._rebuild_tensor_v2" in document["globals"]["harmless"]
    assert document["tied"] == [["model/a.weight", "model/b.weight"]]
    assert document["damage"] == ["1 of 3 tensors have no values in this file"]
    assert document["container"]["version"] == 3 and document["hints"]["args/arch"] == "mine"
    assert [one["name"] for one in document["siblings"]] == ["model", "args", "extra"]
    assert main(["inspect", str(path)]) == 0
    printed, errors = capsys.readouterr()
    for text in (
        "tied      model/a.weight = model/b.weight",
        "names     DANGER: os.getenv",
        "damage    1 of 3",
        "hint      args/arch = mine",
        "resume    no",
        "fine-tune yes",
        "LoRA      yes",
        "run       no",
    ):
        assert text in printed, text
    assert "DANGER" in errors
