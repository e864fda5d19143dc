"""What no tensor shows: each such value is asked for here, and kept with its reason."""

from __future__ import annotations

from archfind.errors import BuildError
from archfind.types import Unseen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# Activations by the words that settings take.
ACTIVATIONS = {
    "relu": "nn.ReLU", "leaky_relu": "nn.LeakyReLU", "gelu": "nn.GELU", "elu": "nn.ELU",
    "silu": "nn.SiLU", "tanh": "nn.Tanh", "sigmoid": "nn.Sigmoid", "selu": "nn.SELU",
    "mish": "nn.Mish", "relu6": "nn.ReLU6", "softplus": "nn.Softplus", "none": "nn.Identity",
    "hardswish": "nn.Hardswish", "softmax": "lambda: nn.Softmax(dim=-1)",
    "log_softmax": "lambda: nn.LogSoftmax(dim=-1)",
    "leaky_relu_0.2": "lambda: nn.LeakyReLU(0.2)", "leaky_relu_0.1": "lambda: nn.LeakyReLU(0.1)",
}  # fmt: skip


class Asked:
    """The values that a network's source was made with. `settings` are the user's, by place."""

    def __init__(self, settings: Mapping[str, object]) -> None:
        self._settings = dict(settings)
        self.unseen: dict[str, Unseen] = {}
        self.questions: list[str] = []

    def value(
        self,
        place: str,
        value: Any,
        reason: str,
        alternatives: tuple[object, ...] = (),
        source: str = "convention",
    ) -> Any:
        """The value at a place: the user's, else `value`."""
        if place in self._settings:
            value, reason, source = _checked(place, self._settings[place], value), "set", "user"
        self.unseen[place] = Unseen(place, value, source, reason, alternatives)
        return value

    def file_says(self, place: str, value: Any) -> Any:
        """A value that a pickled module tells, unless the user sets another."""
        return self.value(place, value, "the pickled module says so", source="file")

    def refuse_idle(self, path: str) -> None:
        """BuildError where a setting is for nothing that was asked."""
        idle = [place for place in self._settings if place not in self.unseen]
        if idle:
            places = ", ".join(list(self.unseen)[:20]) or "nothing"
            text = f"nothing is assumed at {', '.join(map(str, idle))}; what is: {places}"
            raise BuildError(text, path)


def _checked(place: str, given: object, usual: object) -> object:
    """A user's value of the kind that belongs there: numbers are never text, and words are those
    that are known."""
    if isinstance(usual, str):
        if given is None:
            given = "none"
        if isinstance(given, str) and (given in ACTIVATIONS or given in WORDS):
            return given
        known = ", ".join((*ACTIVATIONS, *WORDS))
        raise BuildError(f"--set {place} wants one of {known}, not {given!r}")
    if isinstance(given, list):
        given = tuple(given)
    numbers = given if isinstance(given, tuple) else (given,)
    if all(isinstance(n, int | float) and n - n == 0 and abs(n) < 2**31 for n in numbers):
        return given
    raise BuildError(f"--set {place} wants a number, not {given!r}")


# What settings say of anything else than activations.
WORDS = tuple(
    """max avg mean last first flatten nearest bilinear none add cat activation max_pool avg_pool
    global_pool dropout upsample skip_first up_first cls""".split()
)
