"""What kind of network a state dict is of, where no library has it: from keys and shapes alone."""

from __future__ import annotations

from collections import Counter

import torch
from drawn_nets import drawn
from torch import nn

from archfind.database.entries import default
from archfind.evidence.anatomy import CLASSIFIER, FULLY, MLP, Anatomy, anatomy
from archfind.evidence.layers import layers
from archfind.learning.check import checkpoint_of
from archfind.matching.identify import guess_checkpoint

State = dict[str, torch.Tensor]


def of(state: State) -> Anatomy:
    return anatomy(checkpoint_of(state).index)


def test_kinds_inputs_and_outputs_of_drawn_networks() -> None:
    """Twenty kinds in the files' order and with sorted keys, under names of many codes."""
    wrong: Counter[str] = Counter()
    said: list[str] = []
    count = 0
    for kind, state, right in drawn(seed=41, each=4):
        found = of(state)
        count += 1
        for field in ("family", "dims", "takes", "inputs", "outputs", "cell", "bidirectional"):
            if getattr(found, field) != getattr(right, field):
                wrong[field] += 1
                said.append(f"{kind}: {field} {getattr(found, field)!r}")
    assert count >= 60
    assert wrong["family"] <= count // 20, said
    assert wrong["inputs"] <= count // 10 and wrong["outputs"] <= count // 10, said


def test_kernels_of_any_rank_are_told_apart() -> None:
    for dims, conv in ((1, nn.Conv1d), (2, nn.Conv2d), (3, nn.Conv3d)):
        net = nn.Sequential(conv(5, 8, 3), nn.ReLU(), conv(8, 2, 1))
        assert of(net.state_dict()) == Anatomy(FULLY, dims, "channels", 5, 2)


def test_a_transposed_convolution_puts_out_its_second_size() -> None:
    for bias in (True, False):
        layer = nn.ConvTranspose2d(24, 3, 4, bias=bias)
        net = nn.Sequential(nn.Conv2d(7, 24, 3), layer)
        assert of(net.state_dict()).outputs == 3


def test_a_first_convolution_of_one_channel_is_not_depthwise() -> None:
    net = nn.Sequential(nn.Conv2d(1, 16, 3), nn.Conv2d(16, 16, 3, groups=16), nn.Conv2d(16, 9, 1))
    first, second, _ = layers(checkpoint_of(net.state_dict()).index)
    assert (first.ins, first.depthwise) == (1, False)
    assert (second.ins, second.outs, second.depthwise) == (16, 16, True)


def test_bare_parameters_are_layers_where_nothing_else_is() -> None:
    state = {"w1": torch.zeros(12, 30), "b1": torch.zeros(12), "w2": torch.zeros(4, 12)}
    assert of(state) == Anatomy(MLP, 0, "features", 30, 4)


def test_tensors_of_no_layer_have_no_kind() -> None:
    assert of({"mean": torch.zeros(4), "steps": torch.zeros(())}).family == ""
    assert of({}).family == "" and str(Anatomy("")) == "its tensors are of no known layer"


def test_words() -> None:
    assert str(Anatomy(CLASSIFIER, 3, "channels", 1, 10)) == (
        "a convolutional network with a classifier (3-D): 1 channel in, 10 out"
    )
    lstm = nn.LSTM(6, 20, 2, bidirectional=True)
    assert str(of(lstm.state_dict())) == (
        "a recurrent network (LSTM, bidirectional, 2 layers of width 20): 6 features in, 40 out"
    )


def test_an_unknown_network_is_described_in_the_answer() -> None:
    from archfind.report.answer import guess_document, guess_lines

    net = nn.Sequential(nn.Linear(17, 33), nn.Tanh(), nn.Linear(33, 5))
    document = guess_document(
        guess_checkpoint(checkpoint_of(net.state_dict(), "net.pth"), default())
    )
    assert document["status"] == "unknown" and document["kind"] == "network"
    assert document["details"]["inputs"] == 17  # pyright: ignore
    assert "  kind      an MLP 17 -> 33 -> 5" in guess_lines(document)
