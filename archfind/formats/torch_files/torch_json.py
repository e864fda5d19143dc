"""TorchScript of torch 1.0 and 1.1: model.json lists modules, `tensors/N` their tensors' bytes."""

from __future__ import annotations

from archfind.errors import CheckpointError, LimitExceeded, NoTensors
from archfind.escape import escape
from archfind.formats import limits
from archfind.formats.pickles.nodes import StorageRef, Tensor
from archfind.formats.report import Report
from archfind.formats.source import ByteSource
from archfind.formats.torch_files.tensor_specs import Specs
from archfind.types import Checkpoint, Storage, TensorSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.formats.archives.zip_directory import ZipDirectory

# caffe2's TensorProto.DataType, by the names that protobuf writes into JSON
_DTYPES = {
    "FLOAT": "float32",
    "DOUBLE": "float64",
    "FLOAT16": "float16",
    "BFLOAT16": "bfloat16",
    "INT64": "int64",
    "INT32": "int32",
    "INT16": "int16",
    "INT8": "int8",
    "BYTE": "uint8",
    "UINT8": "uint8",
    "BOOL": "bool",
}


def read(source: ByteSource, report: Report, directory: ZipDirectory) -> Checkpoint:
    """The module tree's parameters and buffers, as `state_dict()` would name them."""
    from archfind.formats.safetensors import parse_json

    members = directory.members
    name = next(one for one in members if one.endswith("model.json") and one.count("/") <= 1)
    root = name[: -len("model.json")]
    model = _object(
        parse_json(directory.read(members[name], limits.JSON_BYTES), "model.json", source.path)
    )
    tensors = model.get("tensors")

    def resolve(ref: StorageRef) -> Storage:
        member = members.get(root + ref.key)
        if member is None:
            raise CheckpointError(f'damaged: "{escape(ref.key)}" is missing', source.path)
        if member.method != 0:
            return Storage(
                source.path, root + ref.key, -1, member.size, ("deflate", root + ref.key, 0)
            )
        return Storage(source.path, root + ref.key, directory.data_start(member), member.size)

    specs = Specs(source.path, resolve)
    described = [_tensor(one) for one in (tensors if type(tensors) is list else ())]
    index: dict[str, TensorSpec] = {}
    objects: dict[str, str] = {}
    waiting: list[tuple[str, dict[str, object]]] = [("", _object(model.get("mainModule")))]
    seen = 0
    while waiting:
        prefix, module = waiting.pop(0)
        seen += 1
        if seen > limits.WALK_VISITS or len(prefix) > limits.METADATA_TEXT:
            raise LimitExceeded("refused: modules without end", source.path)
        objects[prefix[:-1]] = "torch.jit.ScriptModule"
        for one in _objects(module.get("parameters")):
            at = _int(one.get("tensorId"))
            if not 0 <= at < len(described):
                raise CheckpointError("damaged: it names a tensor that isn't there", source.path)
            key = prefix + _name(one)
            spec = specs.of(described[at], key)
            if spec is not None:
                index[key] = spec
        waiting.extend(
            (f"{prefix}{_name(one)}.", one) for one in _objects(module.get("submodules"))
        )
    report.doubts = specs.danger
    report.warnings.append("contains TorchScript code that runs when loaded")
    if not index:
        raise NoTensors("no tensors: its model.json lists none", source.path)
    producer = {"version": model.get("producerVersion"), "protocol": model.get("protoVersion")}
    return Checkpoint(
        path=source.path,
        format="torchscript-1.0",
        index=index,
        objects=objects,
        danger=tuple(report.danger()),
        warnings=tuple(report.warnings),
        files=(source.path,),
        nbytes=source.size,
        container={key: value for key, value in producer.items() if type(value) in (str, int)},
    )


def _tensor(found: object) -> Tensor:
    one = _object(found)
    data = _object(one.get("data")).get("key")
    dtype = one.get("dataType")
    dtype = _DTYPES.get(dtype, "float32") if type(dtype) is str else "float32"
    ref = StorageRef(data if type(data) is str else "", dtype, 0)
    return Tensor(
        ref, _int(one.get("offset")), _ints(one.get("dims")), _ints(one.get("strides")), dtype
    )


def _object(value: object) -> dict[str, object]:
    return value if type(value) is dict else {}  # pyright: ignore


def _objects(value: object) -> list[dict[str, object]]:
    return [_object(one) for one in value] if type(value) is list else []  # pyright: ignore


def _name(one: dict[str, object]) -> str:
    name = one.get("name")
    return str(name if type(name) is str else "").replace("~", "~0").replace("/", "~1")


def _int(value: object) -> int:
    """protobuf writes 64-bit numbers as text, and leaves zeros out."""
    if type(value) is str and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    return value if type(value) is int else 0


def _ints(value: object) -> tuple[int, ...]:
    return tuple(map(_int, value)) if type(value) is list else ()  # pyright: ignore
