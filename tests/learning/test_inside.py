"""Rules of a class taken from another that holds its network."""

from __future__ import annotations

from archfind.classes.blocks import Block
from archfind.learning.configs.bench import Bench
from archfind.learning.configs.inside import inner_block_rules
from archfind.probing.config import leaves_of_config
from archfind.providers import transformers as library

_LINES = [
    "model.embed_tokens.weight  vocab_size hidden_size",
    "model.norm.weight  hidden_size",
    "lm_head.weight  vocab_size hidden_size",
]


def test_the_lines_below_a_prefix_are_the_class_within() -> None:
    config = {**library.default_config("llama"), "num_hidden_layers": 0}
    bench = Bench("llama/LlamaModel", config)
    bench.build({"hidden_size": 64})
    bench.build({"vocab_size": 40, "hidden_size": 128})
    head = Block("llama/LlamaForCausalLM", "", [], _LINES, leaves_of_config(config), prefix="model")
    found = inner_block_rules(bench, "", [head])
    assert found is not None
    assert found.block.lines == [line.removeprefix("model.") for line in _LINES[:2]]
    assert (found.right, found.held) == (3, 3)


def test_a_class_that_holds_something_else_is_no_source() -> None:
    config = {**library.default_config("llama"), "num_hidden_layers": 0}
    bench = Bench("llama/LlamaModel", config)
    lines = ["model.embed_tokens.weight  hidden_size vocab_size", "model.norm.weight  hidden_size"]
    other = Block("llama/LlamaForCausalLM", "", [], lines, leaves_of_config(config), prefix="model")
    bare = Block("llama/LlamaForCausalLM", "", [], _LINES, leaves_of_config(config), prefix="")
    assert inner_block_rules(bench, "", [other, bare]) is None
    assert inner_block_rules(bench, "published", [other]) is None
