"""What is in a file, whatever network it belongs to."""

from __future__ import annotations

from archfind.canonical import AVERAGED, networks
from archfind.formats.escape import escape
from archfind.grouping import group
from archfind.signature import Line
from archfind.types import Checkpoint, TensorSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# What each optimizer keeps per parameter; torch.optim's own names, the most telling first.
_OPTIMIZERS = (
    ("NAdam", {"exp_avg", "exp_avg_sq", "mu_product"}),
    ("Adamax", {"exp_avg", "exp_inf"}),
    ("Adam", {"exp_avg", "exp_avg_sq"}),
    ("Adadelta", {"square_avg", "acc_delta"}),
    ("RMSprop", {"square_avg"}),
    ("Adagrad", {"sum"}),
    ("Rprop", {"prev", "step_size"}),
    ("Lion or signed momentum", {"exp_avg"}),
    ("SGD with momentum", {"momentum_buffer"}),
)
_SHOWN = 40  # groups, hints and scalars listed in text; --json has them all


def inspect_document(checkpoint: Checkpoint) -> dict[str, object]:
    """Container, wrappers, tensors grouped by repeats, optimizer, scalars, metadata, dangers."""
    found = networks(checkpoint)
    dtypes: dict[str, int] = {}
    for spec in checkpoint.index.values():
        dtypes[spec.dtype] = dtypes.get(spec.dtype, 0) + 1
    ties: dict[object, list[str]] = {}
    for pointer, spec in checkpoint.index.items():
        ties.setdefault((spec.storage, spec.offset, spec.shape), []).append(pointer)
    return {
        "schema": 1,
        "path": checkpoint.path,
        "format": checkpoint.format,
        "bytes": checkpoint.nbytes,
        "tensors": len(checkpoint.index),
        "parameters": sum(numel(spec) for spec in checkpoint.index.values()),
        "dtypes": dtypes,
        "wrappers": [
            {
                "place": place,
                "tensors": len(one.index),
                "parameters": sum(numel(spec) for spec in one.index.values()),
                "averaged": any(word in AVERAGED for word in place.split("/")),
                "groups": _groups(one.index),
            }
            for place, one in found.items()
        ],
        "tied": [names for names in ties.values() if len(names) > 1 and _real(checkpoint, names)],
        "optimizer": optimizer(checkpoint),
        "scalars": {k: v for k, v in checkpoint.metadata.items() if k not in checkpoint.hints},
        "hints": dict(checkpoint.hints),
        "objects": dict(checkpoint.objects),
        "foreign": list(checkpoint.foreign),
        "files": list(checkpoint.files),
        "danger": list(checkpoint.danger),
        "warnings": list(checkpoint.warnings),
        "error": None,
    }


def _real(checkpoint: Checkpoint, names: list[str]) -> bool:
    return numel(checkpoint.index[names[0]]) > 0 and checkpoint.index[names[0]].storage.start >= 0


def numel(spec: TensorSpec) -> int:
    """How many numbers a tensor holds."""
    count = 1
    for size in spec.shape:
        count *= size
    return count


def _groups(index: Mapping[str, TensorSpec]) -> list[str]:
    lines = {
        k: Line(k, s.shape, "float" if "float" in s.dtype else s.dtype) for k, s in index.items()
    }
    return group(lines)


def optimizer(checkpoint: Checkpoint) -> dict[str, object] | None:
    """Which optimizer's state the file holds, from what it keeps per parameter, and how far it got;
    None where there is none."""
    places = ("optimizer", "optim", "opt_state")
    state: set[str] = set()
    step: object = None
    for pointer in [*checkpoint.index, *checkpoint.metadata]:
        words = pointer.split("/")
        if not any(place in word for word in words[:-1] for place in places):
            continue
        state.add(words[-1])
        if words[-1] == "step" and step is None:
            spec = checkpoint.index.get(pointer)
            step = checkpoint.metadata.get(pointer) if spec is None else _scalar(spec)
    if not state:
        return None
    name = next((name for name, kept in _OPTIMIZERS if kept <= state), "")
    if not name and {"nesterov", "dampening"} <= state:
        name = "SGD"
    if name == "Adam" and _decoupled(checkpoint):
        name = "AdamW"
    return {"kind": name or "unknown", "step": step}


def _decoupled(checkpoint: Checkpoint) -> bool:
    """torch writes the flag since 2.7; before, AdamW is told by its default weight decay of
    0.01."""
    flags = [v for k, v in checkpoint.metadata.items() if k.endswith("/decoupled_weight_decay")]
    if flags:
        return any(flags)
    decays = [v for k, v in checkpoint.metadata.items() if k.endswith("/weight_decay")]
    return any(isinstance(v, float) and v >= 0.01 for v in decays)


def _scalar(spec: TensorSpec) -> float | None:
    import struct

    code = {"float32": "<f", "float64": "<d", "int64": "<q", "int32": "<i"}.get(spec.dtype)
    if code is None or spec.storage.start < 0 or numel(spec) != 1:
        return None
    size = struct.calcsize(code)
    with open(spec.storage.file, "rb") as file:
        file.seek(spec.storage.start + spec.offset * size)
        data = file.read(size)
    return struct.unpack(code, data)[0] if len(data) == size else None


def inspect_lines(document: dict) -> list[str]:  # pyright: ignore
    """Text for people, the same facts."""
    size = document["bytes"]
    dtypes = ", ".join(
        f"{name}" + f" x{n}" * (len(document["dtypes"]) > 1)
        for name, n in document["dtypes"].items()
    )
    lines = [
        f"{escape(document['path'])}: {document['format']}, {_bytes(size)}, "
        f"{document['tensors']} tensors, "
        f"{document['parameters'] / 1e6:.2f} M numbers, {dtypes}"
    ]
    for one in document["wrappers"]:
        place = escape(one["place"]) or "top level"
        mark = ", averaged weights" if one["averaged"] else ""
        lines.append(
            f"  in        {place}: {one['tensors']} tensors, {one['parameters'] / 1e6:.2f} M{mark}"
        )
        lines += [f"    {escape(line)}" for line in one["groups"][:_SHOWN]]
        if len(one["groups"]) > _SHOWN:
            lines.append(
                f"    ... {len(one['groups']) - _SHOWN} more groups; --json lists them all"
            )
    if document["optimizer"]:
        step = document["optimizer"]["step"]
        at = f", step {step:g}" if isinstance(step, int | float) else ""
        lines.append(f"  optimizer {document['optimizer']['kind']}{at}")
    for name, label in (("hints", "hint"), ("scalars", "scalar"), ("objects", "object")):
        lines += _pairs(label, document[name].items())
    lines += [f"  tied      {escape(' = '.join(names[:4]))}" for names in document["tied"][:8]]
    if document["foreign"]:
        lines.append(f"  names     {escape(', '.join(document['foreign'][:12]))}")
    lines += [f"  file      {escape(name)}" for name in document["files"][1:]]
    lines += [f"  warning   {escape(text)}" for text in document["warnings"]]
    return lines


def _pairs(label: str, pairs: Iterable[tuple[str, object]]) -> list[str]:
    # Hyper-parameters of every parameter group, and of every submodule, would bury the rest.
    shown = [
        (k, v)
        for k, v in pairs
        if "/param_groups/" not in k and "@" not in k and "/state/" not in k
    ]
    lines = [f"  {label:<9} {escape(k)} = {escape(_short(v))}" for k, v in shown[:_SHOWN]]
    if len(shown) > _SHOWN:
        lines.append(f"  ... {len(shown) - _SHOWN} more; --json lists them all")
    return lines


def _short(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _bytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count:,} bytes"
