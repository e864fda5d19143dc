"""The flow through a network: each pattern in the order of trust is asked whether it explains a
block, and what it gives is what flows on."""

from __future__ import annotations

from archfind.sourcing.parts import ModulePart
from archfind.sourcing.unseen import ACTIVATIONS
from archfind.sourcing.values import MAP, Value, is_activation, layer_output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from archfind.sourcing.unseen import Asked

    Pattern = Callable[[ModulePart, Value, "Flow", bool], Value | None]


class Flow:
    """What holds for the whole network while its blocks are explained.

    `listed`: the file names every module, activations too. `symbols` are the network-wide settings
    that the source has so far, as Python text or numbers. `patterns` explain blocks. `pools` has
    the paths of layers that a pooling follows.
    """

    def __init__(self, asked: Asked, listed: bool, patterns: tuple[Pattern, ...]) -> None:
        self.asked = asked
        self.listed = listed
        self.patterns = patterns
        self.symbols: dict[str, object] = {}
        self.pools: set[str] = set()
        self.plain: set[tuple[object, ...]] = set()  # structures that can't be residual
        self.usual_activation = "relu"
        self.tags: list[str] = []  # what patterns recognised, for words
        self.input_side = 0  # of the maps that a network reads, where sizes force it
        self.calls: list[
            ModulePart
        ] = []  # the layers that are explained, in the order in which they run
        self.heads: list[ModulePart] = []  # that read one trunk, or one input
        self.levels: tuple[int, int] = 0, 0  # of a U-Net: how many, and the first one's width

    def explain(self, part: ModulePart, value: Value, last: bool) -> Value | None:
        """What `part` gives when `value` is fed to it, its forward written on the way; None where
        no pattern explains it. `last`: nothing with tensors comes after it."""
        if not part.is_block and part.kind not in ("Sequential", "ModuleList"):
            fits = layer_output(part, value, self.asked)
            self.calls += [part] if fits is not None else []
            return fits
        for pattern in self.patterns:
            before, called = len(self.tags), len(self.calls)
            part.forward, part.extras, part.words = None, {}, ""
            given = pattern(part, value, self, last)
            if given is not None:
                return given
            del self.tags[before:], self.calls[called:]
        part.forward, part.extras, part.words = None, {}, ""
        return None

    def activation(self, name: str = "activation") -> str:
        """The name of the activation's constructor argument, which is asked for now."""
        if name not in self.symbols:
            word = self.usual_activation if name == "activation" else name
            reason = "the usual one for this kind of network"
            common = ("relu", "leaky_relu", "gelu", "elu", "silu", "tanh")
            word = self.asked.value("activation", word, reason, common)
            self.symbols[name] = ACTIVATIONS.get(word, "nn.ReLU")
        return name

    def activate(self, part: ModulePart) -> str:
        """How a block's forward calls its activation."""
        shared = shared_activation(part)
        if shared:
            return f"self.{shared}"
        name = "activation"
        while name in part.children or name in part.tensors:
            name += "_"
        part.extras[name] = (self.activation(), {})
        return f"self.{name}"

    def has_activations(self, part: ModulePart) -> bool:
        """Whether the file shows a block's activations among its modules."""
        return any(is_activation(child.kind) for child in part.children.values())

    def pool(self, part: ModulePart, value: Value, name: str = "pool") -> str:
        """How a block's forward calls a pooling that halves."""
        while name in part.children or name in part.tensors:
            name += "_"
        word = self.asked.value("pool", "max", "the usual one", ("max", "avg"))
        kind = "AvgPool" if word == "avg" else "MaxPool"
        part.extras[name] = (f"{kind}{value.dims}d", {"kernel_size": 2})
        return f"self.{name}"


def shared_activation(part: ModulePart) -> str:
    """The child that is an activation which several layers of a block use; "" for none."""
    acts = [name for name, child in part.children.items() if is_activation(child.kind)]
    weights = [child for child in part.children.values() if child.is_weight]
    return acts[0] if len(acts) == 1 and len(weights) > 1 and acts[0].isidentifier() else ""


class Body:
    """The lines of a forward: calls are put into one another until they get long."""

    def __init__(self, indent: str = "") -> None:
        self.lines: list[str] = []
        self.x = "x"
        self.indent = indent

    def call(self, function: str) -> None:
        if len(self.x) + len(function) > 64:
            self.flush()
        self.x = f"{function}({self.x})"

    def flush(self) -> None:
        if self.x != "x":
            self.lines.append(f"{self.indent}x = {self.x}")
            self.x = "x"

    def step(self, line: str) -> None:
        self.flush()
        self.lines.append(self.indent + line)

    def done(self) -> list[str]:
        return [*self.lines, f"return {self.x}"]


def entry(part: ModulePart) -> ModulePart | None:
    """The first layer with weights in a part: what it reads tells what the part reads."""
    for child in part.walk():
        if child.ins or child.kind == "Embedding":
            return child
    return None


def adapted(body: Body, value: Value, member: ModulePart, flow: Flow) -> Value | None:
    """`value` as the part's first layer reads it, with the line that makes it so: a map is averaged
    or flattened for a Linear, a vector becomes a map. None where sizes can't agree."""
    first = entry(member)
    if first is None or value.kind == "input":
        return value
    wanted = first.ins
    axes = tuple(range(2, 2 + value.dims))
    if first.kind == "Linear" and value.kind == MAP:
        if member is not first and _flattens_itself(member, first):
            return value
        if wanted == value.width:
            how = flow.asked.value("global_pool", "avg", "one number a channel", ("avg", "max"))
            axis = axes if len(axes) > 1 else 2
            word = f"x.mean(dim={axis})" if how == "avg" else f"x.amax(dim={axis})"
            body.step(f"x = {word}")
            return Value("vector", wanted)
        if wanted % value.width == 0:
            body.flush()
            body.step("x = torch.flatten(x, 1)")
            return Value("vector", wanted)
        return None
    if first.is_conv and value.kind == "vector":
        return _unflattened(body, value, first)
    if first.kind in ("LSTM", "GRU", "RNN") and value.kind == MAP:
        return _as_sequence(body, value, wanted)
    if first.kind.startswith("Conv1d") and value.kind == "sequence" and value.width == wanted:
        body.step("x = x.transpose(1, 2)")
        return Value(MAP, wanted, 1)
    return value


def _flattens_itself(member: ModulePart, first: ModulePart) -> bool:
    """Whether a Sequential has a place before its first Linear for what flattens."""
    number = first.name
    if member.kind != "Sequential" or first.path != f"{member.path}.{number}":
        return False
    names = list(member.children)
    flat = any(child.kind == "Flatten" for child in member.children.values())
    return flat or (number.isdecimal() and int(number) > 0 and names[0] == number)


def _unflattened(body: Body, value: Value, first: ModulePart) -> Value | None:
    dims = first.dims
    if first.ins == value.width:
        body.step(f"x = x[:, :{', None' * dims}]")
        first.usual, first.reason = (1, 0), "it spreads a vector"
        return Value(MAP, value.width, dims)
    if value.width % first.ins:
        return None
    cells = value.width // first.ins
    side = round(cells ** (1 / dims))
    if side**dims != cells:
        return None
    body.step(f"x = x.view(-1, {first.ins}{f', {side}' * dims})")
    return Value(MAP, first.ins, dims)


def _as_sequence(body: Body, value: Value, wanted: int) -> Value | None:
    if value.dims == 1 and wanted == value.width:
        body.step("x = x.transpose(1, 2)")
        return Value("sequence", wanted)
    if value.dims == 2 and wanted % value.width == 0:
        body.step("x = x.permute(0, 3, 1, 2).flatten(2)")
        return Value("sequence", wanted)
    return None
