"""Zips without torch's data.pkl: other torch containers, numpy's, zips of checkpoints, or named."""

from __future__ import annotations

from archfind.errors import NotACheckpoint
from archfind.escape import escape
from archfind.formats.report import Report
from archfind.formats.source import ByteSource
from archfind.types import Checkpoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.formats.archives.zip_directory import ZipDirectory


def read(source: ByteSource, report: Report, directory: ZipDirectory) -> Checkpoint:
    """Reads what holds tensors; NotACheckpoint names the rest."""
    names = list(directory.members)
    ends = {name.split("/", 1)[-1] for name in names} | set(names)
    if any(name.endswith("_weights_config.json") for name in names) or any(
        name.startswith("serialized_state_dict.") for name in ends
    ):
        from archfind.formats.torch_files import exported

        return exported.read(source, report, directory)
    if "model.json" in ends and any(name.startswith("tensors/") for name in ends):
        from archfind.formats.torch_files import torch_json

        return torch_json.read(source, report, directory)
    if ".data/version" in ends and "archive_format" not in ends:
        from archfind.formats.torch_files import torch_package

        return torch_package.read(source, report, directory)
    if any(name.endswith(".npy") for name in names) and all(
        name.endswith((".npy", "/")) for name in names
    ):
        from archfind.formats import npz

        return npz.read_archive(source, report, directory)
    named = _named(names, ends)
    if named:
        raise NotACheckpoint(named, source.path)
    from archfind.formats import read_section
    from archfind.formats.archives import nested

    if nested.models(names):
        return nested.read(nested.ZipContainer(source, directory), report, read_section)
    raise NotACheckpoint(f"a zip that contains {escape(names[0])}, not a checkpoint", source.path)


def _named(names: list[str], ends: set[str]) -> str:
    if not names:
        return "an empty zip"
    if "archive_format" in ends:
        return "a compiled torch.export package, which is not supported: give the weights"
    if "model.weights.h5" in ends:
        return "a Keras model (.keras), which is not supported"
    if any(name.endswith("coremldata.bin") or name.endswith(".mlmodel") for name in names):
        return "a Core ML model, which is not supported"
    if "[Content_Types].xml" in ends:
        return "an Office document, not a checkpoint"
    if "AndroidManifest.xml" in ends or any(name.endswith(".class") for name in names):
        return "a Java or Android archive, not a checkpoint"
    if any(name.startswith("META-INF/") for name in names):
        return "a Java or Android archive, not a checkpoint"
    return ""
