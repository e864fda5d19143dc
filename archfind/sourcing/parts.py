"""A module of the network that is written: a layer of torch.nn, a container, or a block that gets a
class with a forward of its own."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from archfind.types import TensorSpec

CONTAINERS = ("Sequential", "ModuleList")
BLOCK = "Block"
NORMS = ("BatchNorm", "LayerNorm", "GroupNorm", "InstanceNorm", "RMSNorm")
RECURRENT = ("LSTM", "GRU", "RNN")
# torch.nn's layers without tensors: a file may name any class, and only these are written.
WITHOUT_TENSORS = frozenset(
    """Identity Dropout Dropout1d Dropout2d Dropout3d AlphaDropout FeatureAlphaDropout ReLU ReLU6
    LeakyReLU ELU CELU SELU GELU SiLU Mish Softplus Softsign Tanh Sigmoid LogSigmoid Hardtanh
    Hardswish Hardsigmoid Hardshrink Softshrink Tanhshrink GLU Softmax Softmax2d Softmin
    LogSoftmax MaxPool1d MaxPool2d MaxPool3d AvgPool1d AvgPool2d AvgPool3d AdaptiveAvgPool1d
    AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d
    Flatten Upsample UpsamplingNearest2d UpsamplingBilinear2d PixelShuffle PixelUnshuffle
    ZeroPad1d ZeroPad2d ZeroPad3d ReflectionPad1d ReflectionPad2d ReflectionPad3d
    ReplicationPad1d ReplicationPad2d ReplicationPad3d
    InstanceNorm1d InstanceNorm2d InstanceNorm3d""".split()
)


class ModulePart:
    """One module: its `name` below its parent, its `path` from the top, its `kind` (the name of a
    torch.nn class, or Block), the `arguments` of its constructor by name, and what is in it.

    `tensors` are those that it holds itself, `raw` says that they are written as parameters of a
    class. `said` has the attributes that a whole pickled module tells of it, `stated` its class
    there. `ins` and `outs` are the widths that a layer takes and gives, 0 where it keeps them.
    `forward` has the lines of a block's forward once a pattern explained it; `takes` its inputs.
    """

    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self.path = path
        self.kind = BLOCK
        self.arguments: dict[str, Any] = {}
        self.children: dict[str, ModulePart] = {}
        self.tensors: dict[str, TensorSpec] = {}
        self.said: Mapping[str, object] = {}
        self.stated = ""
        self.wrapped = ""  # the function that puts weight or spectral norm on it
        self.ins = 0
        self.outs = 0
        self.dims = 0  # that a convolution runs over
        self.forward: list[str] | None = None
        self.takes: tuple[str, ...] = ("x",)
        self.extras: dict[str, tuple[str, dict[str, Any]]] = {}  # layers without tensors
        self.words = ""  # what the block is called: ResidualBlock
        self.is_ordered = True  # what is registered first runs first, and what is last, last
        self.about = ""  # what its docstring says
        self.gives = "Tensor"
        self.usual: tuple[int, int] | None = None  # a convolution's stride and padding, planned
        self.reason = ""
        # Further methods: the name, arguments and result as Python, and the lines.
        self.methods: list[tuple[str, str, list[str]]] = []

    @property
    def is_block(self) -> bool:
        return self.kind == BLOCK

    @property
    def is_norm(self) -> bool:
        return self.kind.startswith(NORMS)

    @property
    def is_conv(self) -> bool:
        return self.kind.startswith("Conv")

    @property
    def is_weight(self) -> bool:
        """A layer that an activation may follow."""
        return self.is_conv or self.kind == "Linear"

    def walk(self) -> Iterator[ModulePart]:
        """The part and all below it, parents first."""
        waiting: list[ModulePart] = [self]
        while waiting:
            part = waiting.pop()
            yield part
            waiting.extend(reversed(part.children.values()))

    def structure(self) -> tuple[object, ...]:
        """The part's kind and its children's, without sizes: equal for blocks of one class."""
        held = tuple((name, *child.structure()) for name, child in self.children.items())
        return (self.kind, held, tuple(self.tensors) if self.is_block else ())
