"""Bytes to `Checkpoint`: one reader per container, chosen by content and never by extension.

Nothing in a file is run, imported or resolved, tensor data is not read, and a reader that fails is
a refusal: no other one is tried.
"""

from __future__ import annotations

import gc
import os
import struct
from importlib import import_module

from archfind.errors import CheckpointError, LimitExceeded, NotACheckpoint
from archfind.formats.magic import is_legacy
from archfind.formats.report import Report
from archfind.formats.source import ByteSource
from archfind.frozen import replace
from archfind.types import Checkpoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAMS = ("torchscript", "torchscript-1.0", "torch-export")  # formats that hold code to run
_LOOK = 4096  # bytes that the sniffers see


def _is_zip(head: bytes, source: ByteSource) -> bool:
    return head.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def _is_legacy(head: bytes, source: ByteSource) -> bool:
    return is_legacy(head)


def _is_tar(head: bytes, source: ByteSource) -> bool:
    return head[257:262] == b"ustar"


def _is_safetensors(head: bytes, source: ByteSource) -> bool:
    # a header's length below 2**40, and the start of an object; no pickle can begin like this
    return head[5:9] == b"\0\0\0{" and head[9:10] in (b'"', b"}", b" ", b"\t", b"\r", b"\n")


def _is_sharded(head: bytes, source: ByteSource) -> bool:
    text = head.lstrip()
    return text.startswith(b"{") and (b'"weight_map"' in text or b'"metadata"' in text[:200])


def is_pickle(head: bytes, source: ByteSource | None = None) -> bool:
    """Whether a file or a member begins like a pickle."""
    if head[:1] == b"\x80" and head[1:2] and head[1] <= 5:
        return True
    # protocols 0 and 1 have no header: what a dict, a list and an object start with
    return head.startswith(
        (b"(dp", b"(lp", b"(tp", b"}q", b"]q", b"(ip", b"ccopy_reg\n", b"ccopyreg\n", b"cnumpy")
    ) or (head[:1] in (b"c", b"(") and _names_a_global(head))


def _names_a_global(head: bytes) -> bool:
    at = head.find(b"c", 0, 3)
    first, _, rest = head[at + 1 : at + 200].partition(b"\n")
    second = rest.partition(b"\n")[0]
    return all(
        part.isascii() and part.decode().replace(".", "_").isidentifier()
        for part in (first, second)
    )


def _is_gguf(head: bytes, source: ByteSource) -> bool:
    return head.startswith(b"GGUF")


def _is_npy(head: bytes, source: ByteSource) -> bool:
    return head.startswith(b"\x93NUMPY")


def _is_onnx(head: bytes, source: ByteSource) -> bool:
    from archfind.formats.protobuf import looks_like_onnx

    return looks_like_onnx(head, source)


# name, sniffer, module: the first whose sniffer agrees reads the file
FORMATS: tuple[tuple[str, Callable[[bytes, ByteSource], bool], str], ...] = (
    ("torch-zip", _is_zip, "torch_files.torch_zip"),
    ("safetensors", _is_safetensors, "safetensors"),
    ("torch-legacy", _is_legacy, "torch_files.torch_legacy"),
    ("torch-tar", _is_tar, "torch_files.torch_tar"),
    ("sharded", _is_sharded, "many_files.sharded"),
    ("pickle", is_pickle, "torch_files.bare_pickle"),
    ("gguf", _is_gguf, "gguf"),
    ("npy", _is_npy, "npz"),
    ("onnx", _is_onnx, "onnx"),
)


# the suffixes that promise a container, to be mentioned when the content is another
_SUFFIXES = {
    ".safetensors": ("safetensors",),
    ".onnx": ("onnx",),
    ".pth": ("torch", "pickle"),
    ".pt": ("torch", "pickle"),
    ".ckpt": ("torch", "pickle"),
    ".bin": ("torch", "pickle"),
    ".pkl": ("torch", "pickle"),
    ".json": ("sharded",),
}


def open(path: str | os.PathLike[str]) -> Checkpoint:
    """Reads the header of the checkpoint at `path`; ArchfindError says why it can't."""
    name = os.fsdecode(os.fspath(path))
    try:
        if os.path.isdir(name):
            from archfind.formats.many_files import folder

            return replace(folder.read(name), path=name)
        with ByteSource(name) as source:
            return _read(source)
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        struct.error,
        RecursionError,
        MemoryError,
    ) as error:
        # a file that no reader foresaw; the readers' own tests run without this net
        raise CheckpointError(
            f"damaged: its structure can't be followed ({type(error).__name__})", name
        ) from error


def _read(source: ByteSource) -> Checkpoint:
    """What `open` does, without its net."""
    return read_section(source, Report())


def read_section(source: ByteSource, report: Report) -> Checkpoint:
    """The checkpoint in `source`, which may be a part of a file; what is found goes to `report`."""
    head = source.head(_LOOK)
    if source.path.endswith(".distcp") and type(source) is ByteSource:
        raise NotACheckpoint(
            "one part of a distributed checkpoint; give its folder, which has .metadata",
            source.path,
        )
    claimed = next((one for one in FORMATS if one[1](head, source)), None)
    if claimed is None:
        from archfind.formats.notes import not_a_checkpoint

        raise not_a_checkpoint(head, source)
    kind, _, module = claimed
    if type(source) is ByteSource:
        _check_suffix(source, kind, report)
    reader = import_module(f"{__name__}.{module}")
    collecting = gc.isenabled()
    gc.disable()  # a tree of a million nodes holds no garbage to look for
    try:
        found = reader.read(source, report)
        _check_keys(found)
        return found
    except CheckpointError as error:
        danger = report.danger()
        if not danger:
            raise
        # whatever broke the file, what it would have run must be said
        said = f"{error.message.rstrip('.')}. DANGER: {'; '.join(danger[:5])}"
        refused = type(error)(said, error.path)
        refused.danger = tuple(danger)
        raise refused from None
    finally:
        if collecting:
            gc.enable()


def _check_keys(found: Checkpoint) -> None:
    """Names that no module has: what walks them as a tree must not be walked to exhaustion."""
    from archfind.formats import limits

    for key in found.index:
        if len(key) <= limits.KEY_DEPTH:
            continue
        if len(key) > limits.KEY_LENGTH:
            raise LimitExceeded(
                f"refused: a key of {len(key):,} characters (limit {limits.KEY_LENGTH:,})",
                found.path,
            )
        if key.count(".") + key.count("/") > limits.KEY_DEPTH:
            raise LimitExceeded(f"refused: a key of more than {limits.KEY_DEPTH} parts", found.path)


def _check_suffix(source: ByteSource, kind: str, report: Report) -> None:
    suffix = os.path.splitext(source.path)[1].lower()
    promised = _SUFFIXES.get(suffix)
    if promised is not None and not kind.startswith(promised):
        report.warnings.append(f"named {suffix} but is {kind}")
    if "-of-" in source.path:
        from archfind.formats.many_files.folder import single_shard_note

        note = single_shard_note(source.path)
        report.warnings.extend([note] if note else [])
