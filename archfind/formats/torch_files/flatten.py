"""The tree that a pickle describes, laid out flat under JSON Pointers."""

from __future__ import annotations

from itertools import chain

from archfind.errors import LimitExceeded
from archfind.formats import limits
from archfind.formats.pickles.nodes import (
    Bytes,
    DType,
    Global,
    Group,
    Key,
    Packed,
    PickledCall,
    StorageRef,
    Tensor,
)
from archfind.formats.pickles.numpy_objects import array_of
from archfind.formats.torch_files.quantised_modules import packed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archfind.formats.torch_files.tensor_specs import Specs
    from archfind.types import TensorSpec

SCALARS = frozenset((str, int, float, bool, type(None)))


class Flat:
    """What was found, filled in by `flatten`; refuses trees that grow without end."""

    def __init__(self, path: str, specs: Specs) -> None:
        self.path = path
        self.specs = specs
        self.index: dict[str, TensorSpec] = {}
        self.metadata: dict[str, object] = {}
        self.objects: dict[str, str] = {}
        self.warnings: list[str] = []
        self.sources: dict[str, str] = {}
        self.visits = 0
        self.text = 0
        self.attributes = 0
        self.tensors = 0

    def count(self, visits: int, text: int = 0) -> None:
        """Charges the budgets: one shared list can stand in a tree a million times."""
        self.visits += visits
        self.text += text
        if self.visits > limits.WALK_VISITS or self.text > limits.WALK_TEXT:
            raise LimitExceeded(
                f"refused: its tree has more than {limits.WALK_VISITS:,} entries", self.path
            )

    def tensor(self, pointer: str, tensor: Tensor) -> None:
        """Adds a tensor to the index."""
        spec = self.specs.of(tensor, pointer)
        if spec is not None:
            self.index[pointer] = spec
            self.tensors += 1

    def packed(self, pointer: str, value: Packed) -> None:
        """Adds a tensor of a class of its own, and what it is made of under torchao's names for a
        file without classes: `layer._weight_qdata` beside `layer.weight`."""
        self.tensor(pointer, value.whole)
        self.note(pointer, value.cls)
        cut = max(pointer.rfind("."), pointer.rfind("/")) + 1
        for name, part in value.parts.items():
            place = f"{pointer[:cut]}_{pointer[cut:]}_{name}"
            self.count(1, len(place))
            if "/" not in name and "~" not in name and place not in self.index:
                self.tensor(place, part)

    def in_a_row(self, pointer: str, value: object) -> bool:
        """Adds the tensors that a packed weight holds, numbered; False where it is none."""
        found = packed(value)
        if found is None:
            return False
        tensors, beside = found
        for number, one in enumerate(tensors):
            if type(one) is Tensor:
                self.tensor(f"{pointer}/{number}", one)
        if beside is not None:
            self.plain(pointer, beside)
        return True

    def note(self, pointer: str, value: object) -> None:
        """Adds a plain value to the metadata."""
        if len(self.metadata) >= limits.METADATA_ENTRIES:
            if self.metadata and pointer not in self.metadata:
                line = f"only the first {limits.METADATA_ENTRIES:,} plain values are kept"
                if line not in self.warnings:
                    self.warnings.append(line)
            return
        if type(value) is str and len(value) > limits.METADATA_TEXT:
            value = value[: limits.METADATA_TEXT]
            self.count(0, len(value))
        self.metadata[pointer] = value

    def source(self, name: str, text: object) -> None:
        """Keeps a piece of Python source that the file carries, for people to read."""
        if (
            type(text) is str
            and text
            and name not in self.sources
            and len(self.sources) < limits.SOURCES
        ):
            self.count(0, len(text[: limits.TEXT_BYTES]))
            self.sources[name] = text[: limits.METADATA_TEXT]

    def plain(self, pointer: str, value: object) -> bool:
        """Notes `value` if it is a scalar, a class or a run of scalars; otherwise False."""
        kind = type(value)
        if kind in SCALARS:
            self.note(pointer, value)
        elif kind is list or kind is tuple:
            return self._run(pointer, value, kind.__name__)  # pyright: ignore
        elif kind is Group:
            return self._run(pointer, value.members, "set")  # pyright: ignore
        elif kind is Global:
            self.note(pointer, value.name)  # pyright: ignore
        elif kind is bytes or kind is Bytes:
            size = len(value) if kind is bytes else value.length  # pyright: ignore
            self.note(pointer, f"{size} bytes")
        elif kind is DType:
            self.note(pointer, f"numpy.dtype {value.code}"[:100])  # pyright: ignore
        elif kind is complex:
            self.note(pointer, str(value))
        else:
            return False
        return True

    def _run(self, pointer: str, values: list[object] | tuple[object, ...], name: str) -> bool:
        self.count(len(values) // 64)
        kinds = set(map(type, values))
        if not SCALARS.issuperset(kinds):
            return False
        if len(values) <= limits.SHORT_LIST:
            self.note(pointer, [v[: limits.METADATA_TEXT] if type(v) is str else v for v in values])
        else:
            what = kinds.pop().__name__ if len(kinds) == 1 else "values"
            self.note(pointer, f"{name} of {len(values)} {what}")
        return True


def flatten_pickle(root: object, flat: Flat) -> None:
    """Walks `root` in its own order, without recursion, and each cycle once."""
    from archfind.formats.torch_files.modules import add_module, module_state

    walked: set[int] = set()  # objects; plain containers may stand in several places
    path: list[tuple[str, Iterator[tuple[object, object]], int]] = []
    open_ids: set[int] = set()

    def enter(pointer: str, value: object) -> None:
        """Adds a leaf, or pushes a container to be walked next."""
        kind = type(value)
        if kind is StorageRef:
            flat.tensor(pointer, Tensor(value, 0, (value.numel,), None, value.dtype))  # pyright: ignore
            return
        if kind is Packed:
            flat.packed(pointer, value)  # pyright: ignore
            return
        if id(value) in open_ids:
            return  # a cycle
        children: Iterable[tuple[object, object]]
        if kind is dict:
            if _tensors(pointer + "/" if path else "", value, flat):  # pyright: ignore
                return
            children = value.items()  # pyright: ignore
        elif flat.plain(pointer, value):
            return
        elif kind is list or kind is tuple:
            children = enumerate(value)  # pyright: ignore
        elif kind is Group:
            children = enumerate(value.members)  # pyright: ignore
        elif kind is PickledCall:
            array = array_of(value)  # pyright: ignore
            if array is not None:
                flat.tensor(pointer, array)
                return
            if flat.in_a_row(pointer, value):
                return
            if module_state(value) is not None:  # pyright: ignore
                add_module(pointer, value, flat)  # pyright: ignore
                return
            if id(value) in walked:
                return
            walked.add(id(value))
            children = _object(pointer, value, flat)  # pyright: ignore
        else:
            return
        if len(path) >= limits.WALK_DEPTH:
            raise LimitExceeded(
                f"refused: nested deeper than {limits.WALK_DEPTH:,} levels", flat.path
            )
        open_ids.add(id(value))
        path.append((pointer + "/" if path else "", iter(children), id(value)))

    if type(root) is Tensor:
        flat.tensor("", root)
        return
    index, spec_of, count = flat.index, flat.specs.of, flat.count
    visits = text = 0  # not charged yet
    enter("", root)
    while path:
        prefix, children, identity = path[-1]
        for key, value in children:
            name = key if type(key) is str else _key(key)
            if "/" in name or "~" in name:
                name = name.replace("~", "~0").replace("/", "~1")
            pointer = prefix + name
            visits += 1
            text += len(pointer)
            if visits >= 256 or text > 100_000:
                count(visits, text)
                visits = text = 0
            if type(value) is Tensor:
                spec = spec_of(value, pointer)
                if spec is not None:
                    index[pointer] = spec
                    flat.tensors += 1
            elif type(value) in SCALARS:
                flat.note(pointer, value)
            else:
                depth = len(path)
                enter(pointer, value)
                if len(path) > depth:
                    break
        else:
            path.pop()
            open_ids.discard(identity)
    count(visits, text)
    _say_alike(flat)


def _say_alike(flat: Flat) -> None:
    """Keys that are no text, `1` beside `"1"`, can have one pointer: its tensor is the last one."""
    hidden = flat.tensors - len(flat.index)
    if hidden > 0:
        text = f"{hidden} tensors are under keys that are written like others'; they aren't shown"
        flat.warnings.append(text)


def _tensors(prefix: str, values: dict[object, object], flat: Flat) -> bool:
    """Adds the values of a plain state dict, all of them tensors, in one go; False for any other
    dict, nothing done."""
    if set(map(type, values.values())) != {Tensor} or set(map(type, values)) != {str}:
        return False
    names = "".join(values)  # pyright: ignore
    if "/" in names or "~" in names:
        return False
    flat.count(len(values), len(names) + len(values) * len(prefix))
    named = {prefix + name: one for name, one in values.items()} if prefix else values  # pyright: ignore
    made = flat.specs.of_all(named)  # pyright: ignore
    flat.index.update(made)
    flat.tensors += len(made)
    return True


def _object(pointer: str, call: PickledCall, flat: Flat) -> Iterator[tuple[object, object]]:
    """What there is to see of an object of an unknown class."""
    flat.objects[pointer] = call.name
    args = call.args if type(call.args) is tuple else ()
    state = call.state
    bare = state is None and not call.items and not call.appended
    if bare and len(args) == 1 and flat.plain(pointer, args[0]):
        return iter(())  # an enum's value, a date's digits
    parts: list[Iterable[tuple[object, object]]] = [enumerate(args)]
    if call.items:
        parts.append(call.items)
    if call.appended:
        parts.append(enumerate(call.appended))
    states = state if type(state) is tuple and len(state) == 2 else (state,)
    for one in states:
        if type(one) is dict:
            parts.append(one.items())
        elif one is not None:
            parts.append((("state", one),))
    return chain.from_iterable(parts)


def _key(key: object) -> str:
    kind = type(key)
    if kind is int or kind is float or kind is bool or key is None:
        return str(key)
    if kind is bytes:
        return key.decode("utf-8", "backslashreplace")  # pyright: ignore
    if kind is Key:
        inner = key.value  # pyright: ignore
        if type(inner) is Global or type(inner) is PickledCall:
            return inner.name
        return f"<{type(inner).__name__}>"
    return "<key>"
