"""A network that a library offers, and what differs from it: parts of a Match."""

from __future__ import annotations

from collections.abc import Mapping

from archfind.frozen import frozen
from archfind.types.files import NOTHING

USERS = "-"  # the version of what a user's own database has


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

    @property
    def is_users(self) -> bool:
        """Whether it's a network of a user's own database, of no library's version."""
        return self.version == USERS


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
class Record:
    """A signature of a user's own database: the file that says it, in words what it was learnt
    from, and of a class's what tells it from all others."""

    path: str
    source: str
    stamp: str = ""


@frozen
class TrustedClass:
    """A class of a user's code, which is imported where the network is built: its user said that
    the code is trusted.

    `module` and `name` are what is imported, once the folders or archives `paths` are looked in
    first; `file` is where that module must come from. `objects` are arguments that are no plain
    values, at the code's default, in words: {"act": "torch.nn.GELU"}. `arguments` are what the
    class is called with but for what differs in the file. A class that a signature names and its
    user hasn't spoken for isn't allowed: nothing imports it.
    """

    place: str
    paths: tuple[str, ...]
    module: str
    name: str
    file: str
    objects: Mapping[str, str] = NOTHING
    arguments: Mapping[str, object] = NOTHING
    is_allowed: bool = True

    @property
    def dotted(self) -> str:
        return f"{self.module}.{self.name}"
