"""A folder that `from_pretrained` opens: config.json and model.safetensors, by the library's own
`save_pretrained`, in the file's own number format."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from archfind.errors import ExportError
from archfind.exporters.provenance import sha256
from archfind.formats.escape import escape
from archfind.from_config import quiet
from archfind.types import Built, Exported

_WEIGHTS = "model.safetensors"


def write_folder(built: Built, path: Path, force: bool) -> Exported:
    """Write the folder beside its place, open it with `from_pretrained`, compare every tensor, and
    move it there. ExportError where it exists, unless it's empty or `force` replaces it."""
    name = escape(str(path))
    if path.exists() and not path.is_dir():
        raise ExportError("is a file; a transformers model is written as a folder", name)
    if path.exists() and any(path.iterdir()) and not force:
        raise ExportError("exists; --force overwrites", name)
    checkpoint = built.guess.canonical.checkpoint
    if any(
        Path(f).resolve().parent == path.resolve() for f in (checkpoint.path, *checkpoint.files)
    ):
        raise ExportError("holds the checkpoint itself, which is never written to", name)
    try:
        folder = Path(tempfile.mkdtemp(prefix=".archfind-", dir=path.absolute().parent))
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ExportError(f"can't be written: {escape(why)}", name) from error
    try:
        notes = _write(built, folder)
        weights = folder / _WEIGHTS
        digest = sha256(weights) if weights.exists() else ""
        if path.exists():
            shutil.rmtree(path)
        folder.chmod(0o755)
        folder.rename(path)
        return Exported(built, str(path), "transformers folder", digest, 0.0, notes)
    except OSError as error:
        why = error.strerror or str(error) or type(error).__name__
        raise ExportError(f"can't be written: {escape(why)}", name) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(built: Built, folder: Path) -> dict[str, str]:
    module: Any = built.module
    dtype = _dtype(built)
    module.config.architectures = [type(module).__name__]
    state = {
        key: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for key, tensor in module.state_dict().items()
    }
    before = module.config.dtype
    module.config.dtype = dtype
    try:
        with quiet():
            module.save_pretrained(folder, state_dict=_shared(module, state))
    finally:
        module.config.dtype = before
    # The library's defaults for generating text, which no checkpoint holds.
    left = folder / "generation_config.json"
    left.unlink(missing_ok=True)
    again = _opened(module, folder)
    own = module.state_dict()
    for key, tensor in again.state_dict().items():
        if key not in own or not torch.equal(own[key].to(tensor.dtype), tensor):
            raise ExportError(f"the folder gives another {escape(key)} when it's opened again")
    return {
        "opens": f"with transformers.{type(module).__name__}.from_pretrained",
        "left out": "generation_config.json: no checkpoint holds generation defaults; "
        "the tokenizer: no checkpoint holds one",
        "dtype": str(dtype).removeprefix("torch."),
    }


def _opened(module: Any, folder: Path) -> Any:
    with quiet():
        return type(module).from_pretrained(folder, dtype=torch.float32)


def _shared(module: Any, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors that the module shares stay shared: each is converted once."""
    own = module.state_dict()
    seen: dict[int, torch.Tensor] = {}
    return {key: seen.setdefault(own[key].data_ptr(), state[key]) for key in state}


def _dtype(built: Built) -> torch.dtype:
    """The number format that most of the file's float tensors have."""
    counts: dict[str, int] = {}
    for spec in built.guess.canonical.index.values():
        if spec.dtype in ("float32", "float16", "bfloat16"):
            counts[spec.dtype] = counts.get(spec.dtype, 0) + 1
    return getattr(torch, max(counts, key=lambda d: counts[d]) if counts else "float32")
