"""Large networks, solved from some of their tensors."""

from __future__ import annotations

import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from archfind.classes.program import Program
from archfind.classes.templates import MANY
from archfind.classes.thinned import thinned
from archfind.database.entries import default
from archfind.learning.check import checkpoint_of
from archfind.matching.identify import guess_checkpoint
from archfind.probing.probe import on_meta
from archfind.providers import transformers as library
from archfind.types import Storage, TensorSpec

NOWHERE = Storage("", "", -1, 0)

LINES = (
    "embed.weight  vocabulary width",
    "layers.{i<depth}.norm.weight  width",
    "layers.{i<depth}.moe.gate.weight  experts width  if {i} > dense",
    "layers.{i<depth}.moe.experts.{j<experts}.up.weight  hidden width  if {i} > dense",
    "layers.{i<depth}.moe.experts.{j<experts}.low.{k<parts}.weight  {j}+{k} width",
    "layers.{i<depth}.mlp.up.weight  4*width width  if not {i} > dense",
    "stage~.{i<parts}.{j<depth}.weight  {j}+width",
    "row.{i<experts}.bias  width",
)
VALUES = st.fixed_dictionaries(
    {
        "depth": st.integers(0, 14),
        "experts": st.integers(0, 11),
        "parts": st.integers(0, 9),
        "dense": st.integers(0, 3),
        "width": st.integers(1, 8),
        "hidden": st.just(5),
        "vocabulary": st.just(7),
    }
)


@given(VALUES)
def test_a_thin_expansion_is_the_whole_one_thinned(values: dict[str, int]) -> None:
    program = Program(LINES)
    every = {
        key: TensorSpec("float32", shape, NOWHERE)
        for key, (shape, _) in program.expand(values).items()
    }
    for within in (False, True):
        some, rows = thinned(every, within)
        thin = {key: shape for key, shape, _ in program.tensors(values, rows)}
        assert thin == {key: spec.shape for key, spec in some.items()}


@given(VALUES)
def test_lines_expand_as_their_repeats_say(values: dict[str, int]) -> None:
    expected: dict[str, tuple[int, ...]] = {"embed.weight": (7, values["width"])}
    width, experts, dense = values["width"], values["experts"], values["dense"]
    for i in range(values["depth"]):
        expected[f"layers.{i}.norm.weight"] = (width,)
        if i > dense:
            expected[f"layers.{i}.moe.gate.weight"] = (experts, width)
        else:
            expected[f"layers.{i}.mlp.up.weight"] = (4 * width, width)
        for j in range(experts):
            if i > dense:
                expected[f"layers.{i}.moe.experts.{j}.up.weight"] = (5, width)
            for k in range(values["parts"]):
                expected[f"layers.{i}.moe.experts.{j}.low.{k}.weight"] = (j + k, width)
    for i in range(values["parts"]):
        expected |= {f"stage{i}.{j}.weight": (j + width,) for j in range(values["depth"])}
    expected |= {f"row.{i}.bias": (width,) for i in range(experts)}
    found = Program(LINES).expand(values)
    assert {key: shape for key, (shape, _) in found.items()} == expected


def test_a_wrong_tensor_amid_a_layers_experts_is_one_mismatch() -> None:
    config = transformers.Qwen3MoeConfig(
        vocab_size=320,
        hidden_size=64,
        num_hidden_layers=24,
        num_experts=64,
        moe_intermediate_size=48,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
    )
    module = on_meta(lambda: transformers.Qwen3MoeForCausalLM(config), {})
    state = library.published(module, module.state_dict())
    assert len(state) > MANY
    whole = guess_checkpoint(checkpoint_of(state), default())
    assert whole.status in ("exact", "ambiguous") and whole.matches[0].fits
    key = "model.layers.11.mlp.experts.30.up_proj.weight"
    state[key] = torch.empty(47, 64, device="meta")
    wrong = guess_checkpoint(checkpoint_of(state), default())
    assert wrong.status == "close"
    assert [one.key for one in wrong.matches[0].mismatched] == [key]
    assert not wrong.matches[0].missing and not wrong.matches[0].unexpected
