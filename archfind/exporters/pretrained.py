"""A folder that `from_pretrained` opens: config.json and model.safetensors, by the library's own
`save_pretrained`, in the file's own number format."""

from __future__ import annotations

import filecmp
import json
from pathlib import Path
from typing import Any

import torch

from archfind import formats
from archfind.building.from_config import quiet_library
from archfind.errors import ArchfindError, CheckpointError, ExportError
from archfind.escape import escape
from archfind.exporters.onnx import reason
from archfind.exporters.provenance import sha256
from archfind.types import Built, Exported
from archfind.writing import beside, target

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
# In this order `from_pretrained` looks for weights, after a config.json that may name others.
_WEIGHT_FILES = (
    _WEIGHTS,
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_ADAPTER = "adapter_config.json"  # what it is of is opened in place of the folder's own weights
# what config.json says that changes no output
_ASIDE = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version")
_CONFIG_BYTES = 10_000_000  # of an honest config.json there are fewer


def write_folder(built: Built, path: Path, force: bool) -> Exported:
    """Write the files aside, open them with `from_pretrained`, compare every tensor, and move each
    to its name in the folder `path`; `force` replaces files of these names; no other is
    touched. ExportError where that can't be done."""
    sources = target.sources_of(built)
    target.refuse_folder(path, sources, force)
    is_new = not path.exists()
    with beside.folder_beside(path, None if is_new else path) as made:
        notes = _write(built, made)
        weights = made / _WEIGHTS
        digest = sha256(weights) if weights.exists() else ""
        target.refuse_folder(path, sources, force)  # minutes may have passed
        if is_new:
            made.rename(path)  # onto a folder with files the system doesn't
        else:
            names = _ordered(made, path)
            _refuse_mix(made, path, names)
            beside.move([(made / name, path / name) for name in names], force)
    return Exported(built, str(path), "transformers folder", digest, 0.0, notes)


def _ordered(new: Path, old: Path) -> list[str]:
    """The names of the new files, last the one without which the folder doesn't open: config.json,
    or the weights where the folder has a config.json and no weights."""
    names = sorted(file.name for file in new.iterdir())
    # index.json names shards, so it comes behind them
    names.sort(key=lambda name: (name.endswith(".json"), name == _CONFIG))
    if (old / _CONFIG).exists() and not any((old / name).exists() for name in _WEIGHT_FILES):
        names.insert(0, names.pop())
    return names


def _refuse_mix(new: Path, old: Path, names: list[str]) -> None:
    """ExportError where the folder would open as something else than what is moved into it, or
    would, if the moves were cut short, join weights to another network's config without a word."""
    if (old / _ADAPTER).exists():
        raise ExportError(f"holds {_ADAPTER}, which from_pretrained follows: choose another folder")
    first = next(name for name in _WEIGHT_FILES if name in names)
    shadows = _WEIGHT_FILES[: _WEIGHT_FILES.index(first)]
    # Of several shards, some could be replaced and some not.
    shards = [name for name in names if name not in (_CONFIG, _WEIGHTS)]
    target.refuse_taken(old / name for name in (*shadows, *shards))
    if first == _WEIGHTS and _mixes(new, old):
        text = (
            f"a replacement cut short would join its {_CONFIG}, which differs, to the new weights"
        )
        raise ExportError(f"{text}: remove that file, or choose another folder")


def _mixes(new: Path, old: Path) -> bool:
    """Whether the old config.json would open the new weights without a word: it wants tensors of
    these names and shapes, and does something else with them."""
    before, after = _config(old), _config(new)
    held = next((name for name in _WEIGHT_FILES if (old / name).exists()), "")
    if before is None or before == after or not held:
        return False
    if held == _WEIGHTS and filecmp.cmp(old / held, new / held, shallow=False):
        return False
    try:
        had = {key: spec.shape for key, spec in formats.open(old / held).index.items()}
    except CheckpointError:
        return True
    return had == {key: spec.shape for key, spec in formats.open(new / _WEIGHTS).index.items()}


def _config(folder: Path) -> dict[str, Any] | None:
    """What config.json says that can change an output; None where it can't be opened."""
    try:
        if not (folder / _CONFIG).is_file() or (folder / _CONFIG).stat().st_size > _CONFIG_BYTES:
            return None
        said = json.loads((folder / _CONFIG).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return {k: v for k, v in said.items() if k not in _ASIDE} if isinstance(said, dict) else None


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
        with quiet_library():
            module.save_pretrained(folder, state_dict=_shared(module, state))
    except (ArchfindError, OSError):
        raise
    except Exception as error:  # safetensors' own, where the disk is full, say
        raise ExportError(f"transformers can't save it: {escape(reason(error), 160)}") from error
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
    with quiet_library():
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
