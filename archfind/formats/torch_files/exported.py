"""torch.export programs (.pt2): the weights beside the graph, which is only named."""

from __future__ import annotations

from archfind.errors import CheckpointError, NoTensors
from archfind.escape import escape
from archfind.formats import limits
from archfind.formats.archives.nested import ZipContainer
from archfind.formats.pickles.nodes import StorageRef, Tensor
from archfind.formats.report import Report
from archfind.formats.source import ByteSource
from archfind.formats.torch_files.tensor_specs import Specs
from archfind.frozen import replace
from archfind.types import Checkpoint, Storage, TensorSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.formats.archives.zip_directory import ZipDirectory

# torch._export.serde.schema.ScalarType
_DTYPES = {
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "float16",
    7: "float32",
    8: "float64",
    9: "complex32",
    10: "complex64",
    11: "complex128",
    12: "bool",
    13: "bfloat16",
    28: "uint16",
    29: "float8_e4m3fn",
    30: "float8_e5m2",
    31: "float8_e4m3fnuz",
    32: "float8_e5m2fnuz",
}
_CONFIGS = ("_weights_config.json", "_constants_config.json")


def read(source: ByteSource, report: Report, directory: ZipDirectory) -> Checkpoint:
    """The archives of torch 2.8 and later, and the earlier ones with a whole state dict inside."""
    container = ZipContainer(source, directory)
    configs = [name for name in container.names if name.endswith(_CONFIGS)]
    made = (
        _by_config(source, report, directory, container, configs)
        if configs
        else _earlier(source, report, container)
    )
    facts: dict[str, object] = {}
    for name in container.names:
        short = name.rpartition("/")[2]
        if short in ("archive_version", "version") and directory.members[name].size < 100:
            facts["version"] = container.text(name).decode("utf-8", "replace").strip()
        elif short.endswith(".json") and "/models/" in f"/{name}":
            facts.setdefault("programs", []).append(short[:-5])  # pyright: ignore
    return replace(made, container=facts)


def _by_config(
    source: ByteSource,
    report: Report,
    directory: ZipDirectory,
    container: ZipContainer,
    configs: list[str],
) -> Checkpoint:
    from archfind.formats.safetensors import parse_json

    def resolve(ref: StorageRef) -> Storage:
        member = directory.members.get(ref.key)
        if member is None:
            raise CheckpointError(f'damaged: "{escape(ref.key)}" is missing', source.path)
        if member.method != 0:
            return Storage(source.path, ref.key, -1, member.size, ("deflate", ref.key, 0))
        return Storage(source.path, ref.key, directory.data_start(member), member.size)

    specs = Specs(source.path, resolve)
    index: dict[str, TensorSpec] = {}
    danger: list[str] = []
    models = len({name.rpartition("/")[2].rsplit("_", 2)[0] for name in configs})
    for name in configs:
        data = directory.read(directory.members[name], limits.JSON_BYTES)
        found = parse_json(data, escape(name), source.path)
        entries = found.get("config") if type(found) is dict else None  # pyright: ignore
        folder = name.rpartition("/")[0] + "/"
        head = "" if models < 2 else name[len(folder) :].rsplit("_", 2)[0] + "/"
        for key, entry in entries.items() if type(entries) is dict else ():  # pyright: ignore
            pointer = head + key.replace("~", "~0").replace("/", "~1")
            path = entry.get("path_name") if type(entry) is dict else None
            meta = entry.get("tensor_meta") if type(entry) is dict else None
            if type(path) is not str:
                raise CheckpointError(f"damaged: {escape(name)} makes no sense", source.path)
            if entry.get("use_pickle") is True:
                danger += _pickled(container, folder + path, pointer, index, report)
                continue
            if type(meta) is not dict:
                continue  # an object that is no tensor
            code = meta.get("dtype")
            dtype = _DTYPES.get(code, "float32") if type(code) is int else "float32"
            sizes, strides = _ints(meta.get("sizes")), _ints(meta.get("strides"))
            offset = _int(meta.get("storage_offset"))
            ref = StorageRef(folder + path, dtype, 0)
            spec = specs.of(Tensor(ref, offset, sizes, strides, dtype), pointer)
            if spec is not None:
                index[pointer] = spec
    report.doubts = [*specs.danger, *danger]
    if not index:
        raise NoTensors("no tensors: a torch.export program without weights", source.path)
    return Checkpoint(
        path=source.path,
        format="torch-export",
        index=index,
        danger=tuple(report.danger()),
        warnings=tuple(report.warnings),
        files=(source.path,),
        nbytes=source.size,
    )


def _pickled(
    container: ZipContainer,
    name: str,
    pointer: str,
    index: dict[str, TensorSpec],
    report: Report,
) -> list[str]:
    """A weight saved by torch.save: a subclass, or one that isn't on a plain device."""
    from archfind.formats import read_section

    if name not in container.names:
        raise CheckpointError(f'damaged: "{escape(name)}" is missing', container.source.path)
    section, moved = container.section(name)
    own = Report(report)
    try:
        found = moved.checkpoint(read_section(section, own))
    except NoTensors:
        return own.danger()
    for key, spec in found.index.items():
        index[f"{pointer}/{key}" if key else pointer] = spec
    return list(found.danger)


def _earlier(source: ByteSource, report: Report, container: ZipContainer) -> Checkpoint:
    from archfind.formats import read_section

    held = [
        name
        for name in container.names
        if name.rpartition("/")[2].startswith(("serialized_state_dict.", "serialized_constants."))
    ]
    index: dict[str, TensorSpec] = {}
    foreign: dict[str, None] = {}
    danger: list[str] = []
    for name in held:
        own = Report(report)
        section, moved = container.section(name)
        try:
            found = moved.checkpoint(read_section(section, own))
        except NoTensors:
            danger += own.danger()
            continue
        head = "constants/" if "constants" in name else ""
        index.update((head + key, spec) for key, spec in found.index.items())
        foreign.update(dict.fromkeys(found.foreign))
        danger += [f"{escape(name)}: {line}" for line in found.danger]
        report.warnings.extend(found.warnings)
    report.doubts = danger
    if not index:
        raise NoTensors("no tensors: a torch.export program without weights", source.path)
    return Checkpoint(
        path=source.path,
        format="torch-export",
        index=index,
        foreign=tuple(foreign),
        danger=tuple(danger),
        warnings=tuple(report.warnings),
        files=(source.path,),
        nbytes=source.size,
    )


def _int(value: object) -> object:
    return value.get("as_int") if type(value) is dict else None  # pyright: ignore


def _ints(values: object) -> tuple[object, ...]:
    return tuple(map(_int, values)) if type(values) is list else ()  # pyright: ignore
