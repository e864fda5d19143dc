"""numpy's archives (.npz, as JAX and MLX models use them) and single arrays (.npy)."""

from __future__ import annotations

from math import prod

from archfind.dtypes import ITEMSIZE, NUMPY
from archfind.errors import CheckpointError, LimitExceeded, NotACheckpoint, NoTensors
from archfind.escape import escape
from archfind.formats import limits
from archfind.formats.report import Report
from archfind.formats.source import ByteSource
from archfind.types import Checkpoint, Storage, TensorSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.formats.archives.zip_directory import ZipDirectory

MAGIC = b"\x93NUMPY"
_OBJECTS = "Python objects (a pickle, which is not run)"
_HEADER = 1 << 16  # numpy itself refuses headers of more than 10,000 characters


def read(source: ByteSource, report: Report) -> Checkpoint:
    """A single array: one tensor without a name."""
    spec, start, problem = _array(source.head(_HEADER), source.path, "", source.size)
    if spec is None:
        if problem == _OBJECTS:
            data = source.read(start, min(source.size - start, limits.PICKLE_BYTES))
            _look_into(data, source.path, "the array's objects", report)
        raise NoTensors(f"no tensors: a numpy array of {problem}", source.path)
    storage = Storage(source.path, "", start, source.size - start)
    return _checkpoint(source, report, {"": _with(spec, storage)}, "npy")


def read_archive(source: ByteSource, report: Report, directory: ZipDirectory) -> Checkpoint:
    """Each member's header; the arrays themselves stay where they are."""
    index: dict[str, TensorSpec] = {}
    for name, member in directory.members.items():
        if not name.endswith(".npy"):
            continue
        stored = member.method == 0
        start = directory.data_start(member) if stored else -1
        head = (
            source.read(start, min(member.size, _HEADER))
            if stored
            else directory.start_of(member, _HEADER)
        )
        spec, at, problem = _array(head, source.path, name, member.size)
        key = name[: -len(".npy")].replace("~", "~0")
        if spec is None:
            report.warnings.append(f"{escape(key)} is an array of {problem}, which is not read")
            if problem == _OBJECTS and member.size <= limits.PICKLE_BYTES:
                data = directory.read(member, limits.PICKLE_BYTES)
                _look_into(data[at:], source.path, name, report)
            continue
        nbytes = member.size - at
        storage = (
            Storage(source.path, name, start + at, nbytes)
            if stored
            else Storage(source.path, name, -1, nbytes, ("deflate", name, at))
        )
        index[key] = _with(spec, storage)
    if not index:
        raise NoTensors("no tensors: a numpy archive without arrays of numbers", source.path)
    return _checkpoint(source, report, index, "npz")


def _look_into(data: bytes, path: str, where: str, report: Report) -> None:
    """What the pickle of an array of objects would run: numpy loads it where it is asked to."""
    from archfind.formats.torch_files.inner_pickles import read_for_danger

    apart = Report(report)
    read_for_danger(data, path, where, apart)
    lines = [line.replace("torch.load", "numpy.load(allow_pickle=True)") for line in apart.danger()]
    report.doubts = [*report.doubts, *lines]


def _with(spec: TensorSpec, storage: Storage) -> TensorSpec:
    return TensorSpec(spec.dtype, spec.shape, storage, 0, spec.stride)


def _checkpoint(
    source: ByteSource, report: Report, index: dict[str, TensorSpec], kind: str
) -> Checkpoint:
    return Checkpoint(
        path=source.path,
        format=kind,
        index=index,
        danger=tuple(report.danger()),
        warnings=tuple(report.warnings),
        files=(source.path,),
        nbytes=source.size,
    )


def _array(head: bytes, path: str, name: str, size: int) -> tuple[TensorSpec | None, int, str]:
    """The array's spec without storage and where its data starts, or what else it holds."""
    what = f'"{escape(name)}"' if name else "its numpy header"
    if not head.startswith(MAGIC) or len(head) < 12 or head[6] not in (1, 2, 3):
        raise NotACheckpoint(f"damaged: {what} is not a numpy array", path)
    wide = 2 if head[6] == 1 else 4
    length = int.from_bytes(head[8 : 8 + wide], "little")
    at = 8 + wide + length
    if at > len(head):
        raise LimitExceeded(f"refused: {what} has a header of {length:,} bytes", path)
    fields = _fields(head[8 + wide : at].decode("latin-1"))
    code, shape = fields.get("descr"), fields.get("shape")
    if type(code) is not str or type(shape) is not tuple or len(shape) > limits.DIMENSIONS:
        if type(code) is str or "descr" not in fields:
            raise NotACheckpoint(f"damaged: {what} makes no sense", path)
        return None, at, "records"
    dtype = NUMPY.get(code.lstrip("<>|="))
    if dtype is None:
        kind = _OBJECTS if "O" in code else escape(code, 40)
        return None, at, kind
    if code.startswith(">") and ITEMSIZE[dtype] > 1:
        return None, at, f"big-endian {dtype}"
    if prod(shape) * ITEMSIZE[dtype] > size - at:
        raise CheckpointError(f"cut off: {what} is shorter than its shape says", path)
    stride = None
    if fields.get("fortran_order") is True and len(shape) > 1:
        steps, step = [], 1
        for dim in shape:
            steps.append(step)
            step *= dim
        stride = tuple(steps)
    return TensorSpec(dtype, shape, Storage(path, name, -1, 0), 0, stride), at, ""


def _fields(text: str) -> dict[str, object]:
    """A header's dict: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }. It is Python
    by its looks; only strings, booleans and a tuple of integers are taken from it."""
    found: dict[str, object] = {}
    for name in ("descr", "fortran_order", "shape"):
        at = text.find(f"'{name}'")
        if at < 0:
            continue
        rest = text[at + len(name) + 2 :].lstrip(": ")
        if rest.startswith("'"):
            found[name] = rest[1 : rest.find("'", 1)][:100]
        elif rest.startswith("("):
            inner = rest[1 : rest.find(")")].replace("L", "")
            sizes = [one.strip() for one in inner.split(",") if one.strip()]
            if len(sizes) <= limits.DIMENSIONS and all(
                one.isascii() and one.isdigit() and len(one) < 20 for one in sizes
            ):
                found[name] = tuple(map(int, sizes))
        elif rest.startswith(("True", "False")):
            found[name] = rest.startswith("True")
        else:
            found[name] = None
    return found
