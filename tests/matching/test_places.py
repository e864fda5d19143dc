"""Lists that say at which places of a row something is: learned, solved and written back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import save_file

import archfind
from archfind.classes.expression import parse_expression
from archfind.database.entries import default
from archfind.learning import conditions
from archfind.learning.check import checkpoint_of
from archfind.matching.identify import guess_checkpoint

LAYERS = 9


def sam(places: list[int], window: int = 10) -> transformers.SamModel:
    vision = {
        "hidden_size": 48,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 3,
        "mlp_dim": 60,
        "window_size": window,
        "image_size": 512,
        "global_attn_indexes": places,
    }
    prompts = {"image_size": 512}
    config = transformers.SamConfig(vision_config=vision, prompt_encoder_config=prompts)
    return transformers.SamModel(config)


def test_an_index_is_in_a_list_or_not() -> None:
    expression = parse_expression("case({i} in config.places,7,9)")
    assert expression.names == ("config.places.{i}?",)
    values = {"config.places.#": 2, "config.places.0": 1, "config.places.1": 4}
    # The item beyond the list's length isn't one.
    values |= {"config.places.2": 3}
    assert [expression.value({**values, "{i}": i}) for i in range(5)] == [9, 7, 9, 9, 7]
    assert expression.value({**values, "{i}": 1, "config.places.1?": False}) == 9


def test_the_list_explains_more_than_a_chance_rule() -> None:
    rows = [
        {"{i}": i, "{i#}": 6, "at.#": 2, "at.0": first, "at.1": 5}
        for first in (1, 3)
        for i in range(6)
    ]
    known = conditions.tests(rows, ["at.0", "{i}"])
    truth = known["{i} in at"]
    assert truth.tolist() == [row["{i}"] in (row["at.0"], 5) for row in rows]
    assert conditions.decide(truth, known) == "{i} in at"


@pytest.mark.parametrize("places", [[0, 4, 7, 8], [3, 7], [1, 2, 3, 4, 5, 6], [2, 5], []])
def test_the_layers_say_which_are_in_the_list(places: list[int]) -> None:
    with torch.device("meta"):
        module = sam(places)
    found = guess_checkpoint(checkpoint_of(dict(module.state_dict())), default())
    assert found.is_named  # what no tensor shows of it, epsilons say, is assumed
    config = found.matches[0].config
    assert config["vision_config.global_attn_indexes"].value == places
    assert config["vision_config.global_attn_indexes"].source == "shape"
    assert config["vision_config.window_size"].value == 10


def test_what_no_layer_shows_is_not_said_to_be_shown() -> None:
    with torch.device("meta"):
        module = sam([2, 5], window=512 // 16)  # a window is the whole picture: all layers alike
    best = guess_checkpoint(checkpoint_of(dict(module.state_dict())), default()).matches[0]
    assert best.config["vision_config.global_attn_indexes"].source != "shape"


def test_the_network_is_built_with_the_list(tmp_path: Path) -> None:
    module = sam([1, 6])
    tensors = {key: tensor.contiguous() for key, tensor in module.state_dict().items()}
    path = tmp_path / "sam.safetensors"
    save_file({key: tensor.clone() for key, tensor in tensors.items()}, path)
    built = archfind.load(path)
    assert isinstance(built, transformers.SamModel)
    assert built.config.to_dict()["vision_config"]["global_attn_indexes"] == [1, 6]
    own = built.state_dict()
    assert own.keys() == tensors.keys()
    assert all(torch.equal(own[key], tensor) for key, tensor in tensors.items())
