"""ONNX: the graph's initializers, with the tensors' bytes left where they are."""

from __future__ import annotations

import os
import stat
from math import prod

from archfind.dtypes import ITEMSIZE
from archfind.errors import LimitExceeded, NoTensors
from archfind.escape import escape
from archfind.formats import limits
from archfind.formats.protobuf import SPAN, VARINT, Wire, signed
from archfind.formats.report import Report
from archfind.formats.source import ByteSource
from archfind.types import Checkpoint, Storage, TensorSpec

# TensorProto.DataType by number; "" is undefined
_DTYPES = (
    "",
    "float32",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "int32",
    "int64",
    "string",
    "bool",
    "float16",
    "float64",
    "uint32",
    "uint64",
    "complex64",
    "complex128",
    "bfloat16",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "uint4",
    "int4",
    "float4_e2m1",
    "float8_e8m0fnu",
    "uint2",
    "int2",
)
_RAW = 9
_FLOATS, _VARINTS = (4, 10), (5, 7, 11)
_TYPED = (4, 5, 6, 7, 10, 11)  # float, int32, string, int64, double, uint64 data


def read(source: ByteSource, report: Report) -> Checkpoint:
    """Reads the model's own description and its initializers."""
    model = _Model(source, report)
    model.read()
    if not model.index:
        raise NoTensors(
            f"no tensors: an ONNX graph of {model.nodes} nodes without initializers", source.path
        )
    return Checkpoint(
        path=source.path,
        format="onnx",
        index=model.index,
        metadata=model.metadata,
        hints=model.metadata,
        danger=tuple(model.danger),
        warnings=tuple(report.warnings),
        files=(source.path, *(path for path, size in model.external.items() if size >= 0)),
        nbytes=source.size,
    )


class _Model:
    def __init__(self, source: ByteSource, report: Report) -> None:
        self.source = source
        self.wire = Wire(source)
        self.warnings = report.warnings
        self.index: dict[str, TensorSpec] = {}
        self.metadata: dict[str, object] = {}
        self.danger: list[str] = []
        self.external: dict[str, int] = {}  # data files and their sizes, -1 where missing
        self.nodes = 0

    def note(self, pointer: str, value: object) -> None:
        if len(self.metadata) >= limits.METADATA_ENTRIES:
            raise LimitExceeded("refused: more metadata than an honest model has", self.source.path)
        self.metadata[pointer] = value[: limits.METADATA_TEXT] if type(value) is str else value

    def read(self) -> None:
        wire = self.wire
        names = {2: "producer_name", 3: "producer_version", 4: "domain"}
        for number, kind, start, end in wire.fields(0, self.source.size):
            if kind == VARINT and number in (1, 5):
                self.note("ir_version" if number == 1 else "model_version", start)
            elif kind == SPAN and number in names:
                self.note(names[number], wire.text(start, end))
            elif kind == SPAN and number == 7:
                self._graph(start, end)
            elif kind == SPAN and number == 8:
                domain, version = "", 0
                for field, how, first, last in wire.fields(start, end):
                    if field == 1 and how == SPAN:
                        domain = wire.text(first, last)
                    elif field == 2 and how == VARINT:
                        version = first
                self.note(f"opset_import/{_escaped(domain)}", version)
            elif kind == SPAN and number == 14:
                key, value = self._pair(start, end)
                self.note(f"metadata_props/{_escaped(key)}", value)
        self.metadata["nodes"] = self.nodes

    def _pair(self, start: int, end: int) -> tuple[str, str]:
        """A StringStringEntryProto."""
        found = {1: "", 2: ""}
        for number, kind, first, last in self.wire.fields(start, end):
            if number in found and kind == SPAN:
                found[number] = self.wire.text(first, last)
        return found[1], found[2]

    def _graph(self, start: int, end: int) -> None:
        values: list[tuple[str, int, int]] = []
        for number, kind, first, last in self.wire.fields(start, end):
            if kind != SPAN:
                continue
            if number == 1:
                self.nodes += 1
            elif number == 5:
                self._initializer(first, last)
            elif number == 15:
                self._sparse(first, last)
            elif number == 2:
                self.note("graph_name", self.wire.text(first, last))
            elif number in (11, 12):
                values.append(("inputs" if number == 11 else "outputs", first, last))
        for kind_of_value, first, last in values:
            name, shape = self._value(first, last)
            if name not in self.index:  # before version 4, initializers were inputs as well
                self.note(f"{kind_of_value}/{_escaped(name)}", shape)

    def _initializer(self, start: int, end: int) -> None:
        dims: list[int] = []
        code, name, raw, typed, outside = 0, "", None, 0, False
        packed: tuple[int, int] = ()  # pyright: ignore  (the one packed field: its number and start)
        entries: dict[str, str] = {}
        for number, kind, first, last in self.wire.fields(start, end):
            if number == 1 and kind == VARINT:
                dims.append(signed(first))
            elif number == 1 and kind == SPAN:
                while first < last and len(dims) <= limits.DIMENSIONS:
                    self.wire.count()
                    value, first = self.wire.varint(first, last)
                    dims.append(signed(value))
            elif number == 2 and kind == VARINT:
                code = first
            elif number == 8 and kind == SPAN:
                name = self.wire.text(first, last)
            elif number == _RAW and kind == SPAN:
                raw = (first, last - first)
            elif number in _TYPED:
                typed += last - first if kind == SPAN else 8
                packed = (number, first) if kind == SPAN and not packed else (0, 0)
            elif number == 13 and kind == SPAN and len(entries) < 100:
                key, value = self._pair(first, last)
                entries[key] = value
            elif number == 14 and kind == VARINT:
                outside = first == 1
            if len(dims) > limits.DIMENSIONS:
                raise self.wire.damaged()
        dtype = _DTYPES[code] if 0 < code < len(_DTYPES) else f"onnx_type_{code}"
        if name in self.index:
            self._doubt(name, "stands twice")
        elif len(self.index) >= limits.TENSORS:
            raise LimitExceeded(
                f"refused: more than {limits.TENSORS:,} initializers", self.source.path
            )
        if any(dim < 0 for dim in dims):
            self._doubt(name, "has an impossible shape")
            need = 0
        else:
            need = prod(dims) * ITEMSIZE.get(dtype, 0)
        if outside:
            storage = self._outside(name, entries, need)
        elif raw is not None:
            storage = Storage(self.source.path, name, *raw)
            if need and need != raw[1]:
                self._doubt(name, f"takes {raw[1]:,} bytes, its shape {need:,}")
        else:
            storage = self._typed(name, packed, typed)
        self.index[name] = TensorSpec(dtype, tuple(dims), storage)

    def _sparse(self, start: int, end: int) -> None:
        """A SparseTensorProto: some values, where they stand, and the whole tensor's shape."""
        dims: list[int] = []
        values: tuple[int, int] | None = None
        for number, kind, first, last in self.wire.fields(start, end):
            if number == 1 and kind == SPAN:
                values = (first, last)
            elif number == 3 and kind == VARINT:
                dims.append(signed(first))
            elif number == 3 and kind == SPAN:
                while first < last and len(dims) <= limits.DIMENSIONS:
                    self.wire.count()
                    value, first = self.wire.varint(first, last)
                    dims.append(signed(value))
            if len(dims) > limits.DIMENSIONS:
                raise self.wire.damaged()
        if values is None:
            raise self.wire.damaged()
        self._initializer(*values)
        name = next(reversed(self.index))
        if any(dim < 0 for dim in dims):
            self._doubt(name, "has an impossible shape")
        storage = Storage(self.source.path, name, -1, 0, ("absent", "it is sparse", 0))
        self.index[name] = TensorSpec(self.index[name].dtype, tuple(dims), storage)

    def _typed(self, name: str, packed: tuple[int, ...], nbytes: int) -> Storage:
        """Numbers in a field of their own kind: floats lie as they are, integers as varints."""
        path = self.source.path
        if packed and packed[0] in _FLOATS:
            return Storage(path, name, packed[1], nbytes)
        if packed and packed[0] in _VARINTS:
            return Storage(path, name, -1, nbytes, ("varint", "", packed[1]))
        return Storage(path, name, -1, nbytes)

    def _outside(self, name: str, entries: dict[str, str], need: int) -> Storage:
        """A storage in another file, which is named and not opened."""
        location = entries.get("location", "")
        parts = location.split("/")
        if (
            any(part in ("", "..") for part in parts)
            or any(char in location for char in "\\:\0")
            or len(location) > limits.NAME_LENGTH
        ):
            self._doubt(name, f'has its data in "{escape(location)}", outside the folder')
            return Storage(self.source.path, name, -1, need)
        path = os.path.join(os.path.dirname(self.source.path), location)
        if path not in self.external:
            self.external[path], problem = _size_outside(path, len(parts))
            if problem and len(self.warnings) < limits.DANGER_LINES:
                self.warnings.append(f'its data file "{escape(location)}" {problem}')
        start, length = 0, need
        for key in ("offset", "length"):
            digits = entries.get(key, "0")
            if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
                self._doubt(name, f"states an {key} that makes no sense")
            elif key == "offset":
                start = int(digits)
            elif key in entries:
                length = int(digits)
        if self.external[path] < 0:
            return Storage(self.source.path, location, -1, need)
        if start + length > self.external[path]:
            self._doubt(name, f'reaches beyond the end of its data file "{escape(location)}"')
        return Storage(path, location, start, length)

    def _doubt(self, name: str, problem: str) -> None:
        if len(self.danger) < limits.DANGER_LINES:
            self.danger.append(f'the tensor "{escape(name)}" {problem}')

    def _value(self, start: int, end: int) -> tuple[str, str]:
        """A ValueInfoProto: its name, and its type as "float32[n, 3, 224, 224]"."""
        name, code, dims = "", 0, []
        wire = self.wire
        for number, kind, first, last in wire.fields(start, end):
            if number == 1 and kind == SPAN:
                name = wire.text(first, last)
            elif number == 2 and kind == SPAN:
                for of_tensor in self._spans(first, last, 1):
                    for field, how, low, high in wire.fields(*of_tensor):
                        if field == 1 and how == VARINT:
                            code = low
                        elif field == 2 and how == SPAN:
                            dims = [self._dim(*span) for span in self._spans(low, high, 1)]
        dtype = _DTYPES[code] if 0 < code < len(_DTYPES) else "?"
        return name, f"{dtype}[{', '.join(dims[: limits.DIMENSIONS])}]"

    def _dim(self, start: int, end: int) -> str:
        for number, kind, first, last in self.wire.fields(start, end):
            if number == 1 and kind == VARINT:
                return str(signed(first))
            if number == 2 and kind == SPAN:
                return self.wire.text(first, last)[:100]
        return "?"

    def _spans(self, start: int, end: int, wanted: int) -> list[tuple[int, int]]:
        return [
            (first, last)
            for number, kind, first, last in self.wire.fields(start, end)
            if number == wanted and kind == SPAN
        ]


def _size_outside(path: str, parts: int) -> tuple[int, str]:
    """The size of a data file, or -1 and why it isn't read: a link in its name could lead out of
    the folder, a second name for it is how a hard link does."""
    try:
        for up in range(parts):
            above = path
            for _ in range(up):
                above = os.path.dirname(above)
            found = os.lstat(above)
            if stat.S_ISLNK(found.st_mode):
                return -1, "is behind a link, which is not followed: copy it beside the model"
            if not up and (not stat.S_ISREG(found.st_mode) or found.st_nlink != 1):
                return -1, "is not a plain file of one name: copy it beside the model"
        return os.lstat(path).st_size, ""
    except (OSError, ValueError):
        return -1, "is missing"


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
