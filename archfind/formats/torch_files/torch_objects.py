"""What is known of torch's own pickled calls and of Python's plain types, by name.

A closed table: each entry turns the recorded arguments of one function into a `Tensor`, a plain
value or a record. No entry calls what it names, and every entry accepts any arguments at all.
"""

from __future__ import annotations

from archfind.errors import LimitExceeded
from archfind.formats import limits
from archfind.formats.pickles import numpy_objects
from archfind.formats.pickles.dict_keys import put_items
from archfind.formats.pickles.nodes import Bytes, Global, Group, PickledCall, StorageRef
from archfind.formats.pickles.numpy_objects import padded_arguments
from archfind.formats.torch_files import rebuilt
from archfind.formats.torch_files.rebuilt import dtype_of, first

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from archfind.formats.pickles.machine import Machine
    from archfind.formats.report import Report


class Reader:
    """Reads one file's calls and storages. Equal storage keys are the same storage.

    A pickle can name one long list a million times, so whatever is copied is counted.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.by_key: dict[str, StorageRef] = {}
        self.dtypes: dict[Global, str | None] = {}
        self.copied = 0
        self.sources: dict[str, str] = {}  # of classes, as torch kept them until 1.x
        self.machine: Machine | None = None  # that reads now, and where its pickle lies
        self.report: Report | None = None
        self.base = -1
        self.depth, self.name = 0, ""  # of a pickle in another one's bytes
        self.inner: dict[tuple[int, bool], tuple[object, object]] = {}
        self.calls: Mapping[str, Callable[[object], object]] = _Calls(self)

    def _dtype(self, value: object) -> str | None:
        if type(value) is not Global:
            return None
        if value not in self.dtypes:
            self.dtypes[value] = dtype_of(value)
        return self.dtypes[value]

    def _charge(self, count: int) -> None:
        self.copied += count
        if self.copied > limits.PICKLE_OBJECTS:
            raise LimitExceeded("refused: the pickle copies one value over and over", self.path)

    def keep_source(self, cls: object, text: object) -> None:
        """Remembers the source of a class, for people to read."""
        if type(cls) is Global and type(text) is str and len(self.sources) < limits.SOURCES:
            self.sources[cls.name] = text[: limits.METADATA_TEXT]

    def mapping(self, args: object) -> object:
        made: dict[object, object] = {}
        if not args:
            return made  # nearly always: the backward hooks of every tensor
        pairs = padded_arguments(args, 1)[0]
        if type(pairs) is dict:
            self._charge(len(pairs))  # pyright: ignore
            made.update(pairs)  # pyright: ignore
        elif type(pairs) in (list, tuple):
            self._charge(len(pairs))  # pyright: ignore
            for pair in pairs:  # pyright: ignore
                if type(pair) in (list, tuple) and len(pair) == 2:
                    put_items(made, list(pair))
        return made

    def default_mapping(self, args: object) -> object:
        return self.mapping(padded_arguments(args, 2)[1:2])

    def members(self, args: object) -> list[object]:
        found = padded_arguments(args, 1)[0]
        if type(found) not in (list, tuple):
            return []
        self._charge(len(found))  # pyright: ignore
        return list(found)  # pyright: ignore

    def group(self, args: object) -> object:
        return Group(self.members(args))

    def encode(self, args: object) -> object:
        """Bytes from a text and the name of its encoding, or from bytes."""
        text, given = padded_arguments(args, 2)[:2]
        if type(text) is bytes or not args:
            return text or b""
        encoding = given.lower().replace("_", "-") if type(given) is str else "utf-8"
        encoding = "latin-1" if encoding in _LATIN else encoding
        if type(text) is Bytes:
            return text if encoding == "latin-1" or not text.text else PickledCall(_ENCODE, args)
        if type(text) is not str or encoding not in ("latin-1", "utf-8", "utf8", "ascii"):
            return PickledCall(_ENCODE, args)
        self._charge(len(text) // 64)
        try:
            return text.encode(encoding)
        except UnicodeEncodeError:
            return PickledCall(_ENCODE, args)

    def load(self, key: object) -> object:
        """A persistent id, ("storage", class, key, location, numel[, view]), as a StorageRef."""
        if type(key) is not tuple or len(key) < 5 or key[0] != "storage":
            return self._class(key)
        name, numel = key[2], key[4]
        if type(name) is not str:
            if type(name) is not int:
                return PickledCall(None, key)
            name = str(name)
        if type(numel) is not int:
            numel = -1
        cls = key[1]
        dtype = self.dtypes[cls] if type(cls) is Global and cls in self.dtypes else self._dtype(cls)
        ref = self.by_key.get(name)
        if ref is None:
            ref = self.by_key[name] = StorageRef(name, dtype or "uint8", numel)
            if dtype is None or key[3] == "meta":
                kind = "an unknown kind" if dtype is None else "the meta device, without values"
                self._empty(ref, f"its storage is of {kind}")
        elif dtype is not None and (ref.dtype != dtype or ref.numel != numel):
            root = ref.root  # one storage under two dtypes
            ref = StorageRef(name, dtype, numel)
            ref.root = root
        view = key[5] if len(key) > 5 else None
        if type(view) is tuple and len(view) == 3 and type(view[1]) is int:
            root = ref.root  # a slice of a storage, as torch 0.1 to 1.x saved it
            ref = StorageRef(name, ref.dtype, ref.numel, view[1])
            ref.root = root
        return ref

    @staticmethod
    def _empty(ref: StorageRef, reason: str) -> None:
        from archfind.formats.pickles.tensor_changes import empty

        empty(ref, reason)

    def storages(
        self, names: list[str], classes: list[object], counts: list[int]
    ) -> list[object] | None:
        """What `load` gives for plain ids of storages that are all new; None where they aren't."""
        fresh = set(names)
        if len(fresh) < len(names) or not self.by_key.keys().isdisjoint(fresh):
            return None
        if not set(map(type, classes)) <= {Global}:
            return None
        dtypes = {cls: self._dtype(cls) for cls in set(classes)}
        if None in dtypes.values():
            return None
        refs = list(map(StorageRef, names, map(dtypes.__getitem__, classes), counts))  # pyright: ignore
        self.by_key.update(zip(names, refs, strict=True))
        return refs  # pyright: ignore

    def _class(self, key: object) -> object:
        """The persistent id of a class, ("module", class, file, source for a human to compare)."""
        if type(key) is not tuple:
            return PickledCall(None, (key,))
        if len(key) < 2 or key[0] != "module":
            return PickledCall(None, key)
        if len(key) > 3:
            self.keep_source(key[1], key[3])
        return key[1]


class _Calls(dict[str, "Callable[[object], object]"]):
    """The table of calls; those that would unpickle their argument join it when they are named."""

    def __init__(self, reader: Reader) -> None:
        super().__init__(CALLS)
        self.update((name, getattr(reader, method)) for name, method in _COPYING)
        self._reader = reader

    def get(self, name: str, default: object = None) -> Any:
        found = super().get(name)
        if found is None and name.rpartition(".")[2] in _UNPICKLING:
            from archfind.formats.torch_files.inner_pickles import calls

            self.update(calls(self._reader))
            found = super().get(name)
        return found


def _size(args: object) -> object:
    sizes = padded_arguments(args, 1)[0]
    if type(sizes) is list and len(sizes) < 1000:  # pyright: ignore
        return tuple(sizes)  # pyright: ignore
    return sizes if type(sizes) is tuple else args  # pyright: ignore


def _device(args: object) -> object:
    parts = padded_arguments(args, 1)[:2]
    return ":".join(str(part)[:100] for part in parts if type(part) in (str, int))


def _reconstructed(args: object) -> object:
    cls, _, state = padded_arguments(args, 3)[:3]
    return PickledCall(cls, () if state is None else (state,))


def _newobj(args: object) -> object:
    found = padded_arguments(args, 1)
    return PickledCall(found[0], found[1:] if len(found) < 100 else found)


def _path(args: object) -> object:
    parts = [part[:1000] for part in padded_arguments(args, 1)[:100] if type(part) is str]
    return "/".join(parts).replace("//", "/")


def _complex(args: object) -> object:
    real, imaginary = padded_arguments(args, 2)[:2]
    if type(real) is float and type(imaginary) is float:
        return complex(real, imaginary)
    return None


def _calls() -> dict[str, Callable[[object], object]]:
    known: dict[str, Callable[[object], object]] = {
        **rebuilt.CALLS,
        "torch.jit._pickle.restore_type_tag": first,
        "torch.jit._pickle.build_intlist": first,
        "torch.jit._pickle.build_doublelist": first,
        "torch.jit._pickle.build_boollist": first,
        "torch.jit._pickle.build_tensorlist": first,
        "torch.serialization._get_layout": first,
        "torch.Size": _size,
        "torch.device": _device,
        "copyreg._reconstructor": _reconstructed,
        "copy_reg._reconstructor": _reconstructed,
        "copyreg.__newobj__": _newobj,
        "copy_reg.__newobj__": _newobj,
        "numpy.dtype": numpy_objects.numpy_dtype,
        "numpy.core.multiarray.scalar": numpy_objects.numpy_scalar,
        "numpy._core.multiarray.scalar": numpy_objects.numpy_scalar,
        "numpy.core.numeric._frombuffer": numpy_objects.buffered_array,
        "numpy._core.numeric._frombuffer": numpy_objects.buffered_array,
    }
    for module in ("builtins", "__builtin__"):
        known[f"{module}.complex"] = _complex
    for kind in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path"):
        known[f"pathlib.{kind}"] = known[f"pathlib._local.{kind}"] = _path
    return known


CALLS = _calls()
_UNPICKLING = ("_load_from_bytes", "load", "loads", "read_pickle")
_LATIN = ("latin1", "latin-1", "iso-8859-1", "iso8859-1", "l1")
_ENCODE = Global("_codecs.encode", None, 0)

_COPYING = (
    ("collections.OrderedDict", "mapping"),
    ("collections.defaultdict", "default_mapping"),
    ("collections.Counter", "mapping"),
    ("_codecs.encode", "encode"),
    *(
        (f"{module}.{name}", method)
        for module in ("builtins", "__builtin__")
        for name, method in (
            ("dict", "mapping"),
            ("list", "members"),
            ("bytes", "encode"),
            ("bytearray", "encode"),
            ("set", "group"),
            ("frozenset", "group"),
        )
    ),
)
