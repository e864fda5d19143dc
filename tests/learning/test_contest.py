"""Which of several families of a class are kept."""

from __future__ import annotations

from torch import nn

from archfind.classes.notation import family_text
from archfind.learning.contest import kept
from archfind.learning.family import Preset
from archfind.probing.config import leaves_of_config
from archfind.probing.probe import on_meta, shapes_of


class Pair(nn.Module):
    def __init__(self, width: int = 8, bias: bool = True, twice: bool = False) -> None:
        super().__init__()
        self.one = nn.Linear(width, 2 * width, bias=bias)
        if twice:
            self.two = nn.Linear(width, width)


ALL = [
    "one.weight  2*width width",
    "one.bias  2*width  if bias",
    "two.weight  width width  if twice",
    "two.bias  width  if twice",
]
OPTIONS = {"width": [16, 12], "bias": [False], "twice": [True]}


def text(number: int, lines: list[str], options: dict[str, list[object]]) -> str:
    presets = {f"own/{p.name}": p.values() for p in presets_of()}
    return family_text(f"{__name__}.Pair/{number}", "own/a", (1, 1), [], options, presets, lines)


def presets_of() -> list[Preset]:
    found: list[Preset] = []
    for name, width in (("a", 8), ("b", 24)):
        config = {"width": width, "bias": True, "twice": False}
        found.append(Preset(name, config, shapes_of(on_meta(Pair, config))))
        assert leaves_of_config(config) == config
    return found


def test_what_gives_most_is_kept_and_what_adds_nothing_is_not() -> None:
    whole = text(1, ALL, {**OPTIONS})
    plain = text(2, [*ALL[:1], "one.bias  2*width"], {"width": [16, 12]})
    for texts in ([plain, whole], [whole, plain]):
        assert kept(Pair, presets_of(), texts, 20) == [whole]


def test_a_family_that_gives_what_another_doesn_t_stays_behind_it() -> None:
    biased = text(1, [*ALL[:1], "one.bias  2*width", *ALL[2:]], {**OPTIONS})
    single = text(2, ALL[:2], {**OPTIONS})
    assert set(kept(Pair, presets_of(), [biased, single], 20)) == {biased, single}


def test_the_only_family_of_a_preset_stays_whatever_it_gives() -> None:
    wrong = text(1, ["one.weight  3*width width", "one.bias  2*width"], {**OPTIONS})
    assert kept(Pair, presets_of(), [wrong], 20) == [wrong]
