"""The code of a TorchScript file, and the graph of a torch.export program, as text: read as data,
never run."""

from __future__ import annotations

from archfind.errors import CheckpointError
from archfind.formats.archives.zip_directory import ZipDirectory
from archfind.formats.source import ByteSource

_CODE_BYTES = 4 << 20  # of all code together
_GRAPH_BYTES = 32 << 20
_FILES = 20_000


def script_code(path: str) -> dict[str, str]:
    """The files below `code/` of a TorchScript zip, by their dotted module: {"__torch__.nets":
    "class Net(Module): ..."}. Empty where there are none, or too much. CheckpointError as in
    reading the file."""
    with ByteSource(path) as source:
        directory = ZipDirectory(source)
        held: dict[str, str] = {}
        left = _CODE_BYTES
        for name, member in directory.members.items():
            _, found, inner = name.partition("/code/")
            if not found or not inner.endswith(".py") or "/" in name.partition("/code/")[0]:
                continue
            left -= member.size
            if left < 0 or len(held) >= _FILES:
                return {}
            text = directory.read(member, _CODE_BYTES).decode("utf-8", "replace")
            held[inner[:-3].replace("/", ".")] = text
        return held


def exported_graph(path: str) -> object:
    """The JSON of the one program in a .pt2; None where there is none, or several."""
    from archfind.formats.safetensors import parse_json

    with ByteSource(path) as source:
        directory = ZipDirectory(source)
        names = [
            name
            for name in directory.members
            if ("/models/" in f"/{name}" and name.endswith(".json"))
            or name.rpartition("/")[2] == "serialized_exported_program.json"
        ]
        if len(names) != 1 or directory.members[names[0]].size > _GRAPH_BYTES:
            return None
        data = directory.read(directory.members[names[0]], _GRAPH_BYTES)
        try:
            return parse_json(data, names[0], path)
        except CheckpointError:
            return None
