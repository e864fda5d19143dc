"""What flows through archfind: each box is made by one module and never edited afterwards.

path -> Checkpoint -> Canonical -> Guess -> Built -> Exported
"""

from __future__ import annotations

from types import MappingProxyType

from archfind.frozen import frozen, row

TYPE_CHECKING = False  # typing.TYPE_CHECKING without importing typing: `archfind guess` starts cold
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from torch import nn

NOTHING: Mapping[str, Any] = MappingProxyType({})


@row
class Storage:
    """A run of bytes in a file. Tensors with equal storages share memory, so they are tied.

    `start` is the byte offset in `file`, or -1 where the bytes can't be mapped (a deflated zip
    member, or a tensor saved without data). There `inside` says how they are kept, in which zip
    member, and from where on: "deflate" (the offset counts inflated bytes), "torch.save" (a whole
    file of its own), "swap" (big-endian), "latin-1" (bytes written as text), "varint" (protobuf);
    `data` has bytes that the header itself holds. "absent" has in place of a member's name the
    reason why there are no values to be had.
    """

    file: str
    name: str
    start: int
    nbytes: int
    inside: tuple[str, str, int] | None = None
    data: bytes | None = None


@row
class Quantiser:
    """What a number of a quantised tensor stands for: (number - zero_point) * scale. One of each
    for the tensor, or tensors with one for each place along `axis`."""

    scale: float | TensorSpec
    zero_point: int | TensorSpec
    axis: int = -1  # of a tensor that has one for all


@row
class TensorSpec:
    """A tensor known by its header. `offset` and `stride` count elements; stride None =
    contiguous. A tensor that is kept in several parts (shards of one weight) has `pieces`, and a
    storage without bytes. `applied` is what loading does to the numbers as they are stored, in this
    order: "conj", "neg", or "from float32", a cast of what is stored as float32. `quantiser` is
    there for torch's quantised tensors ("qint8")."""

    dtype: str  # torch's own name: "float32", "bfloat16", "int64", "qint8" ...
    shape: tuple[int, ...]
    storage: Storage
    offset: int = 0
    stride: tuple[int, ...] | None = None
    pieces: tuple[Piece, ...] = ()
    applied: tuple[str, ...] = ()
    quantiser: Quantiser | None = None


@frozen
class Piece:
    """A part of a tensor, and where it goes: one offset for each dimension, or a single one into
    the flattened tensor, for a piece that is flat itself."""

    at: tuple[int, ...]
    spec: TensorSpec


@frozen
class Checkpoint:
    """A file's contents, from its header alone.

    `index`, `metadata` and `objects` are keyed by JSON Pointers (RFC 6901) without the leading
    slash: a flat state dict has keys like `layer1.0.conv1.weight`, one inside a wrapper
    `state_dict/layer1.0.conv1.weight`. `metadata` holds scalars, `objects` the class name of each
    pickled object that isn't a plain container, `foreign` every global that the pickle names,
    `danger` one line for each call that loading by unpickling would make to unexpected code.
    `container` says what wraps the tensors ({"version": 3}), `sources` has the Python source that
    the file carries, by name; neither is ever run. `versions` are those of layers, as torch notes
    them beside a state dict.
    """

    path: str
    format: str
    index: Mapping[str, TensorSpec]
    metadata: Mapping[str, object] = NOTHING
    hints: Mapping[str, object] = NOTHING
    objects: Mapping[str, str] = NOTHING
    foreign: tuple[str, ...] = ()
    danger: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    nbytes: int = 0
    container: Mapping[str, object] = NOTHING
    sources: Mapping[str, str] = NOTHING
    versions: Mapping[str, int] = NOTHING


@frozen
class Step:
    """One thing done between the file's keys and the network's: ("unwrap", "state_dict")."""

    kind: str  # unwrap | strip | set aside | tolerate | rename
    detail: str


@frozen
class Quantisation:
    """What torch's own quantisation did to a network: `kind` is static, dynamic or training (fake
    quantisation), `style` eager or fx. `layers` are those that it changed, by their paths below
    `prefix`; `by_channel`: weights have a scale for each output. `keys` has the file's keys by
    the names in the state dict; `folded` are pairs of a layer and the norm that went into it;
    `halves`: weights are floats of half precision, not integers."""

    kind: str
    style: str
    layers: tuple[str, ...]
    by_channel: bool
    prefix: str
    keys: Mapping[str, str]
    folded: tuple[tuple[str, str], ...] = ()
    halves: bool = False


@frozen
class Canonical:
    """The state dict inside a checkpoint, under the names its network would use.

    `index` maps canonical keys to specs; `origin` maps each back to its key in the file; `aside`
    holds the file's keys that belong to no network (optimizer state, raw weights beside averaged).
    `merged` has, for a weight stored as a parametrisation, how to compute it and from which keys.
    `whole` is the state dict under its own names where `index` has only what is below a prefix, and
    the answer is about all of it; else it's empty. `quantisation` is there where the tensors are
    those that the network had before torch quantised it.
    """

    checkpoint: Checkpoint
    index: Mapping[str, TensorSpec]
    origin: Mapping[str, str]
    steps: tuple[Step, ...] = ()
    aside: tuple[str, ...] = ()
    merged: Mapping[str, tuple[str, ...]] = NOTHING
    whole: Mapping[str, TensorSpec] = NOTHING
    quantisation: Quantisation | None = None


@frozen
class Setting:
    """A config value and where it came from: shape | value | file | origin | preset | default |
    user | assumed."""

    value: object
    source: str


@frozen
class Twin:
    """Another entry with the same keys and shapes; `differs` says in what, "" for an alias."""

    provider: str
    architecture: str
    same_function: bool
    differs: str = ""


@frozen
class Entry:
    """One network that a library offers by name."""

    provider: str
    name: str
    cls: str  # dotted path of the module's class
    callable: str  # what builds it: "timm.create_model"
    fixed: Mapping[str, object]  # keywords that keep the call from downloading weights
    fields: Mapping[str, object]  # the call's fields that the signature knows, with their defaults
    version: str  # of the library the entry was harvested from
    args: tuple[object, ...] = ()  # what stands before the keywords: the entry's name, mostly

    @property
    def id(self) -> str:
        return f"{self.provider}/{self.name}"


@frozen
class Mismatch:
    """A tensor whose key fits and whose shape, or kind of number, doesn't."""

    key: str
    found: str
    expected: str


@frozen
class HeadLayer:
    """One layer of a head that isn't the library's own.

    `name` is the layer's path in the state dict, "" for a function that has none. `sizes` are the
    constructor's: (in, out) of a Linear, the width of a norm, the slope of a LeakyReLU. `branch`
    names the output that the layer belongs to where there are several, "" for what they share.
    `assumed` layers have no tensors: their place, or what must stand between two others, says that
    they are there; an Identity is a place where nothing is assumed to stand.
    """

    name: str
    kind: str  # Linear | BatchNorm1d | LayerNorm | GroupNorm | PReLU | one of head_functions.py
    sizes: tuple[float, ...] = ()
    bias: bool = True
    branch: str = ""
    assumed: bool = False
    eps: float = 1e-5  # of a norm


@frozen
class Head:
    """What stands where a library's network has its own last layers. No `layers`: nothing does.

    `replaces` is the path of the library's module that gives way, in a Sequential from its child
    number `start` on; "" where the library itself leaves its head out (num_classes=0). `beside`:
    the layers have names of their own, and run on what the network gives, which stands at
    `backbone` ("" where its keys and theirs are on one level). `outputs` says how those of several
    branches are returned: dict | tuple | list | concatenated.
    """

    layers: tuple[HeadLayer, ...]
    replaces: str = ""
    start: int = 0
    beside: bool = False
    backbone: str = ""
    outputs: str = "dict"


@frozen
class Assumed:
    """Something that the outputs depend on, and that neither the tensors show, nor the file says,
    nor a network that a library offers by name fixes.

    `place` is what a setting names ("fc.1"), `what` says it in words ("activation after fc.0").
    `value` holds until another is set; `alternatives` would fit as well (empty: no few values).
    """

    place: str
    what: str
    value: object
    alternatives: tuple[object, ...] = ()


@frozen
class Verdict:
    """What the values of the weights show.

    `statistic` names how it was read, `place` the tensors, `margin` is by how much the value
    explains them better than the next one does, in units of the statistic, and `needed` is the
    margin from which on it is believed.
    """

    statistic: str
    place: str
    value: object
    margin: float
    needed: float


@frozen
class Unseen:
    """Something about a network that no tensor shows, in the source that is written for it.

    `place` is what a setting names ("conv1.stride", "activation"), `value` what the source has
    there, `reason` why. `source` is file (a pickled module says it), sizes (other sizes force it),
    user (a setting) or convention; `alternatives` are other values that are common.
    """

    place: str
    value: object
    source: str
    reason: str
    alternatives: tuple[object, ...] = ()


@frozen
class Source:
    """A module that was written for a state dict, as Python that imports only torch.

    `text` is the file. It loads the state dict strictly, `prefix` taken off its keys. `grade` says
    how much of its forward is known: certain (the file's own words force it), likely (a pattern
    explains every dimension, and `unseen` lists what it assumes) or partial (`questions` are
    open, and the forward raises NotImplementedError). `words` say what network it is.
    """

    text: str
    grade: str
    words: str
    canonical: Canonical
    prefix: str = ""
    unseen: tuple[Unseen, ...] = ()
    questions: tuple[str, ...] = ()


@frozen
class Variant:
    """A library's class with other arguments than a registered entry's.

    `moved` are the leaves that differ from the entry's arguments: {"depths.2": 9, "embed_dim": 72,
    "depths.#": 4} (`#` is a list's length). `direct`: the library's own builder takes them too.
    `function` numbers what the entry computes among all. `doubtful`: the rules that gave the answer
    were wrong about many networks of the class, and it turns switches or moves a lot. `oblong`
    names an argument that the entry has as a square, and that was read as anything else. `instead`
    has arguments that may have been moved in place of others, with what each may be then, and
    the leaves of those: {"stride": ((14,), ("img_size.0", "img_size.1"))}.
    """

    cls: str
    moved: Mapping[str, object]
    direct: bool = False
    function: tuple[int, int] = (-1, 0)
    plain: bool = False  # the entry is one that the prior names
    doubtful: bool = False
    oblong: str = ""
    instead: Mapping[str, tuple[tuple[object, ...], tuple[str, ...]]] = NOTHING


@frozen
class Pretrained:
    """A transformers class with its config.

    `keys` says whose names the tensors have: "published", those that `save_pretrained` writes, or
    "" for the module's own. `tied` are keys that the file leaves out, with the key whose tensor
    each shares; `prefix` is where the class keeps its base network; `preset` names the public
    model whose sizes the file has, "" for none.
    """

    model_type: str
    config: str  # the config's class
    keys: str = ""
    tied: Mapping[str, str] = NOTHING
    prefix: str = ""
    preset: str = ""


@frozen
class TrustedClass:
    """A class of a user's code, which is imported where the network is built: its user said that
    the code is trusted.

    `module` and `name` are what is imported, once the folders or archives `paths` are looked in
    first; `file` is where that module must come from. `objects` are arguments that are no plain
    values, at the code's default, in words: {"act": "torch.nn.GELU"}.
    """

    place: str
    paths: tuple[str, ...]
    module: str
    name: str
    file: str
    objects: Mapping[str, str] = NOTHING

    @property
    def dotted(self) -> str:
        return f"{self.module}.{self.name}"


@frozen
class Match:
    """How well one entry explains a canonical state dict. `missing` and `unexpected` are as torch
    words them; `tolerated` are derived buffers that one side lacks and that carry no training.
    `head` is there where everything but the head is the entry's own, `variant` where its class has
    other arguments, `pretrained` where it takes a config. `in_common`, of one that doesn't fit,
    counts its keys in the file whatever their shapes, and its shapes whatever their keys. `assumed`
    is what its outputs depend on without a trace: with such an item, no answer is exact. `resized`
    has the weights' shapes of layers, by their paths, that have other sizes than the entry's.
    `trusted` is there where the network is a class of a user's code."""

    entry: Entry
    config: Mapping[str, Setting]
    expected: int
    matched: int
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[Mismatch, ...] = ()
    tolerated: tuple[str, ...] = ()
    twins: tuple[Twin, ...] = ()
    reasons: tuple[str, ...] = ()
    head: Head | None = None
    variant: Variant | None = None
    pretrained: Pretrained | None = None
    in_common: tuple[int, int] = (0, 0)
    assumed: tuple[Assumed, ...] = ()
    resized: Mapping[str, tuple[int, ...]] = NOTHING
    trusted: TrustedClass | None = None

    @property
    def fits(self) -> bool:
        return not (self.missing or self.unexpected or self.mismatched)


@frozen
class Choice:
    """What the user decides: `choose` names a network among those that fit, `part` one of several
    in the file, `settings` tell what was assumed or override a config. `accept_ambiguous` takes the
    first of several networks that fit, `accept_assumed` what the outputs depend on as it is
    assumed. `code` is where a class of its own may be declared: a folder, a Python file, a wheel or
    the name of an installed package; it is read, and with `trust` imported."""

    choose: str = ""
    part: str = ""
    settings: Mapping[str, object] = NOTHING
    accept_ambiguous: bool = False
    accept_assumed: bool = False
    code: str = ""
    trust: bool = False


@frozen
class Output:
    """What is to be written where: `path` tells the format by its suffix. `dtype` casts floats
    ("fp16", "bf16", "fp32") and `max_shard_size`, in bytes, makes several files of what is copied
    between .pth and .safetensors; `opset`, `half` (float16 inside) and `keep_unchecked` are for
    .onnx. `force` replaces what exists; more than 32 times the file's bytes are only written with
    `allow_expansion`. `inputs` are shapes that a class of a user's code runs on ("1x3x64x64")."""

    path: str
    force: bool = False
    opset: int | None = None
    keep_unchecked: bool = False
    dtype: str = ""
    max_shard_size: int = 0
    half: bool = False
    allow_expansion: bool = False
    inputs: tuple[str, ...] = ()


@frozen
class CodeClass:
    """A class of some Python code, and how much of a state dict it accounts for.

    `prefix` is the module of the file that the class is, "" for the whole. `known` of `tensors` are
    where the class has a layer of their shape; `open` more are in modules that the code alone
    doesn't say. `lacking` counts modules that the class has and the file hasn't. `arguments` are
    those of the constructor that sizes tell; `unsaid` those without a default that they don't.
    `share` is the part of the file's tensors that it accounts for, open ones in part, less what it
    lacks.
    """

    file: str
    line: int
    name: str
    prefix: str
    known: int
    open: int
    tensors: int
    lacking: int
    arguments: Mapping[str, object]
    unsaid: tuple[str, ...]
    share: float


@frozen
class Kind:
    """What a file is that holds tensors and no network: `name` is lora, textual-inversion,
    ip-adapter, t2i-adapter, controlnet, optimizer, zero-shard, fsdp-shard, averaged, gradients or
    object.
    `words` say it in one line, `details` what is known of it ({"rank": [8], "base": "..."}),
    `advice` what it's used with."""

    name: str
    words: str
    details: Mapping[str, object] = NOTHING
    advice: str = ""


@frozen
class Guess:
    """Which network a state dict is.

    `status` is exact (one function fits every key and shape), ambiguous (several do, and nothing
    chooses; or something that the outputs depend on was assumed), close (one fits but for the named
    tensors) or unknown. `chosen_by` says what made the first match stand out: only | prior | file |
    origin (whose names the keys are) | value | preset | user, and "" where nothing did. `parts` has
    a guess for each other network in the file, by name. `searched`: building classes with other
    arguments found nothing that fits, either. `kind` says what the file is where it's no network.
    `explained` has what each way of explaining the state dict said, in the order in which they are
    trusted: its name, the share that agreed, and the network, "" for none; the last one answered.
    `code` has the classes of a user's code that account for most of the tensors, the best first,
    where some was given. `weighed` has what was read from the values of the weights.
    """

    canonical: Canonical
    status: str
    matches: tuple[Match, ...]
    chosen_by: str = "only"
    part: str = ""
    parts: Mapping[str, Guess] = NOTHING
    warnings: tuple[str, ...] = ()
    searched: bool = False
    kind: Kind | None = None
    explained: tuple[tuple[str, float, str], ...] = ()
    code: tuple[CodeClass, ...] = ()
    weighed: tuple[Verdict, ...] = ()

    @property
    def is_named(self) -> bool:
        """Whether one network stands out, whatever may be assumed about it."""
        return self.status == "exact" or self.is_assumed

    @property
    def is_assumed(self) -> bool:
        """Whether one network stands out, and the answer isn't exact for what was assumed alone."""
        return self.status == "ambiguous" and bool(self.chosen_by)

    @property
    def key_map(self) -> Mapping[str, str]:
        """The file's key -> the library's, where its names are others; empty where they aren't."""
        if not any(step.kind == "rename" for step in self.canonical.steps):
            return NOTHING
        return {at: key for key, at in self.canonical.origin.items()}


@frozen
class Built:
    """A live module in eval mode, with the weights loaded strictly; `loaded` of `tensors` came
    from the file, the rest are derived buffers that the library made."""

    guess: Guess
    match: Match
    module: nn.Module
    loaded: int
    tensors: int

    def odd_tables(self) -> list[str]:
        """Derived tensors of the file that have another shape in the module."""
        own, index = self.module.state_dict(), self.guess.canonical.index
        both = (k for k in self.match.tolerated if k in own and k in index)
        return [key for key in both if tuple(own[key].shape) != index[key].shape]


@frozen
class Exported:
    """A file that was written and checked. `max_abs_diff` compares its outputs with the
    module's."""

    built: Built | None
    path: str
    format: str
    sha256: str
    max_abs_diff: float
    notes: Mapping[str, str] = NOTHING
