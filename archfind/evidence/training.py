"""What training left in a file beside the weights: optimizers, schedulers, counters, random states.

All of it is told by the names that torch.optim and others give to what they keep; values are read
where they are plain, or one number of a tensor.
"""

from __future__ import annotations

import struct

from archfind.types import Checkpoint, TensorSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# What each optimizer keeps per parameter, the most telling first; then, where others keep the same,
# what its groups have or lack.
_KEPT: tuple[tuple[str, frozenset[str], frozenset[str]], ...] = tuple(
    (name, frozenset(kept.split()), frozenset(groups.split()))
    for name, kept, groups in (
        ("Adafactor", "exp_avg_sq_row exp_avg_sq_col", ""),
        ("Adafactor", "row_var col_var", ""),
        ("Adafactor", "variance", ""),
        ("CAME", "exp_avg_res_row", ""),
        ("Adan", "exp_avg exp_avg_diff", ""),
        ("AdEMAMix", "exp_avg_fast exp_avg_slow", ""),
        ("AdaBelief", "exp_avg exp_avg_var", ""),
        ("SOAP", "exp_avg exp_avg_sq GG", ""),
        ("Prodigy", "exp_avg_sq s p0", ""),
        ("D-Adaptation", "exp_avg_sq s", ""),
        ("Sophia", "exp_avg hessian", ""),
        ("Shampoo", "preconditioners", ""),
        ("Shampoo", "precond_0", ""),
        ("NAdam", "exp_avg exp_avg_sq mu_product", ""),
        ("Adamax", "exp_avg exp_inf", ""),
        ("schedule-free AdamW", "z exp_avg_sq", ""),
        ("schedule-free SGD", "z", "train_mode"),
        ("Lamb", "exp_avg exp_avg_sq", "max_grad_norm"),
        ("Lamb", "exp_avg exp_avg_sq", "trust_clip"),
        ("FusedAdam", "exp_avg exp_avg_sq", "bias_correction"),
        ("Adam", "exp_avg exp_avg_sq", ""),
        ("Adadelta", "square_avg acc_delta", ""),
        ("RMSprop", "square_avg", ""),
        ("Adagrad", "sum", ""),
        ("Rprop", "prev step_size", ""),
        ("Rprop", "prev step_sizes", ""),
        ("ASGD", "eta mu ax", ""),
        ("LBFGS", "old_dirs old_stps", ""),
        ("LBFGS", "H_diag n_iter", ""),
        ("8-bit Adam", "state1 state2", ""),
        ("8-bit Lion or momentum", "state1", ""),
        ("Lion or signed momentum", "exp_avg", ""),
        ("Muon", "momentum_buffer", "ns_steps"),
        ("SGD with momentum", "momentum_buffer", ""),
    )
)
# What groups alone tell, before the first step.
_GROUPS = (
    ("SGD", {"nesterov", "dampening"}),
    ("Muon", {"ns_steps"}),
    ("NAdam", {"momentum_decay"}),
    ("Adadelta", {"rho"}),
    ("RMSprop", {"centered"}),
    ("Adagrad", {"initial_accumulator_value"}),
    ("Adagrad", {"lr_decay"}),
    ("Rprop", {"etas"}),
    ("ASGD", {"lambd"}),
    ("Adam", {"betas", "amsgrad"}),
)
_SCHEDULERS = (
    ("OneCycleLR", {"total_steps", "cycle_momentum"}),
    ("CosineAnnealingWarmRestarts", {"T_0", "T_mult"}),
    ("CosineAnnealingLR", {"T_max", "eta_min"}),
    ("ReduceLROnPlateau", {"patience", "num_bad_epochs"}),
    ("MultiStepLR", {"milestones", "gamma"}),
    ("CyclicLR", {"total_size", "max_lrs"}),
    ("StepLR", {"step_size", "gamma"}),
    ("LinearLR", {"start_factor", "end_factor"}),
    ("ConstantLR", {"factor", "total_iters"}),
    ("PolynomialLR", {"power", "total_iters"}),
    ("SequentialLR", {"_milestones"}),
    ("ExponentialLR", {"gamma"}),
    ("LambdaLR", {"lr_lambdas"}),
    ("a scheduler of timm", {"t_initial"}),
)
_COUNTERS = (
    "epoch start_epoch last_epoch current_epoch global_step global_steps step steps iter iteration "
    "iterations it n_iter num_updates niter train_steps num_timesteps"
).split()
_CODES = {
    "float32": "<f", "float64": "<d", "float16": "<e", "bfloat16": "<H",
    "int64": "<q", "int32": "<i",
}  # fmt: skip
_SHOWN = ("lr", "weight_decay", "betas", "momentum", "eps")


def optimizers(checkpoint: Checkpoint) -> list[dict[str, object]]:
    """Each optimizer in the file: its place, kind, how certain that is, step, parameter groups,
    and the settings of the first; `state` says whether it keeps anything per parameter."""
    state: dict[str, set[str]] = {}
    groups: dict[str, dict[str, dict[str, object]]] = {}
    steps: dict[str, list[object]] = {}
    for pointer in _both(checkpoint):
        place, _, below = _split(pointer, "param_groups/")
        if below:
            number, _, name = below.partition("/")
            held = groups.setdefault(place, {}).setdefault(number, {})
            value = checkpoint.metadata.get(pointer)
            held[name.partition("/")[0]] = value if "/" not in name else None
            continue
        place, found, below = _split(pointer, "state/")
        if not found:
            continue
        word = below.partition("/")[2].partition("/")[0]  # below the parameter's number or name
        if word and word != "param_groups":
            state.setdefault(place, set()).add(word)
            if below.endswith("/step"):
                steps.setdefault(place, []).append(_value(checkpoint, pointer))
    for place in [one for one in state if one not in groups and not _telling(one, state[one])]:
        del state[place]
    return [
        _optimizer(
            checkpoint, place, state.get(place, set()), groups.get(place, {}), steps.get(place, [])
        )
        for place in dict.fromkeys([*groups, *state])
    ]


def _both(checkpoint: Checkpoint) -> list[str]:
    return [
        one
        for held in (checkpoint.index, checkpoint.metadata)
        for one in held
        if "state/" in one or "param_groups/" in one
    ]


def _split(pointer: str, word: str) -> tuple[str, str, str]:
    """What is before and behind the last whole component of a pointer that is `word`."""
    before, found, after = pointer.rpartition("/" + word)
    if found:
        return before, found, after
    return ("", word, pointer[len(word) :]) if pointer.startswith(word) else (pointer, "", "")


def _telling(place: str, kept: set[str]) -> bool:
    return "optim" in place.lower() and any(need <= kept for _, need, _ in _KEPT)


def _optimizer(
    checkpoint: Checkpoint,
    place: str,
    kept: set[str],
    groups: dict[str, dict[str, object]],
    steps: list[object],
) -> dict[str, object]:
    first = next(iter(groups.values()), {})
    names = set().union(*groups.values()) if groups else set[str]()
    pickled = checkpoint.objects.get(place, "")
    kind, certain = _kind(kept, names, groups)
    if ".optim" in pickled:
        kind, certain = pickled.rpartition(".")[2], True
    # apex keeps it in the group
    counted = [one for one in [*steps, first.get("step")] if isinstance(one, int | float)]
    return {
        "place": place,
        "kind": kind,
        "certain": certain,
        "step": max(counted) if counted else None,
        "groups": len(groups),
        "settings": {name: first[name] for name in _SHOWN if first.get(name) is not None},
        "state": bool(kept),
    }


def _kind(
    kept: set[str], names: set[str], groups: Mapping[str, Mapping[str, object]]
) -> tuple[str, bool]:
    kind = next((name for name, need, has in _KEPT if need <= kept and has <= names), "")
    if not kind:
        kind = next((name for name, need in _GROUPS if need <= names), "")
        if kind == "SGD" and any(one.get("momentum") for one in groups.values()):
            kind = "SGD with momentum"
    if kind == "SGD with momentum" and any(one.get("nesterov") is True for one in groups.values()):
        kind = "SGD with Nesterov momentum"
    if kind == "RMSprop" and "momentum_buffer" in kept:
        kind = "RMSprop with momentum"
    if kind == "Lion or signed momentum" and "betas" in names:
        kind = "Lion"
    if kind != "Adam":
        return kind or "unknown", bool(kind)
    if names and "amsgrad" not in names and "betas" in names:
        # torch's RAdam has the newer switches; older optimizers of others have neither
        return ("RAdam", True) if "decoupled_weight_decay" in names else ("Adam or RAdam", False)
    flag = "decoupled_weight_decay"
    flags = [one[flag] for one in groups.values() if flag in one]
    if flags:
        return ("AdamW" if any(flags) else "Adam"), True
    # before torch 2.7 nothing says it: AdamW is the one that people give a decay of 0.01 or more
    decays = [one.get("weight_decay") for one in groups.values()]
    decoupled = any(isinstance(one, float) and one >= 0.01 for one in decays)
    return ("AdamW" if decoupled else "Adam"), False


def _value(checkpoint: Checkpoint, pointer: str) -> object:
    spec = checkpoint.index.get(pointer)
    return checkpoint.metadata.get(pointer) if spec is None else scalar_in_place(spec)


def scalar_in_place(spec: TensorSpec) -> float | None:
    """The value of a tensor of one number, where its bytes can be read in place."""
    code = _CODES.get(spec.dtype)
    if code is None or any(size != 1 for size in spec.shape):
        return None
    if spec.applied:
        return None
    size = struct.calcsize(code)
    data = spec.storage.data or b""
    if spec.storage.data is not None:
        data = data[spec.offset * size :][:size]
    elif spec.storage.start >= 0:
        try:
            with open(spec.storage.file, "rb") as file:
                file.seek(spec.storage.start + spec.offset * size)
                data = file.read(size)
        except OSError:
            return None
    if len(data) != size:
        return None
    value = struct.unpack(code, data)[0]
    # the upper half of a float32
    return struct.unpack("<f", struct.pack("<I", value << 16))[0] if code == "<H" else value


def counters(checkpoint: Checkpoint) -> dict[str, object]:
    """How far training got: {"epoch": 7, "global_step": 9000}, by pointer."""
    found: dict[str, object] = {}
    for pointer, value in checkpoint.metadata.items():
        words = pointer.split("/")
        named = words[-1] in _COUNTERS and len(words) <= 3 and type(value) in (int, float)
        if named and not any("sched" in word or "optim" in word for word in words):
            found[pointer] = value
    for pointer, spec in checkpoint.index.items():
        if pointer in _COUNTERS:
            value = scalar_in_place(spec)
            if value is not None:
                found[pointer] = value
    return found


def schedulers(checkpoint: Checkpoint) -> list[dict[str, object]]:
    """Learning rate schedules: {"place", "kind", "last_epoch"}."""
    held: dict[str, dict[str, object]] = {}
    for pointer, value in checkpoint.metadata.items():
        words = pointer.split("/")
        at = next((i for i, word in enumerate(words[:-1]) if "sched" in word.lower()), -1)
        if at < 0:
            continue
        end = at + 2 if words[at + 1].isdecimal() and len(words) > at + 2 else at + 1
        held.setdefault("/".join(words[:end]), {})[words[end]] = value
    return [
        {
            "place": place,
            "kind": checkpoint.objects.get(place, "").rpartition(".")[2]
            or next((name for name, need in _SCHEDULERS if need <= values.keys()), "unknown"),
            "last_epoch": values.get("last_epoch"),
        }
        for place, values in held.items()
    ]


def random_states(checkpoint: Checkpoint) -> list[str]:
    """The places of random number generators' states."""
    found: dict[str, None] = {}
    for held in (checkpoint.index, checkpoint.metadata):
        for pointer in held:
            low = pointer.lower()
            if "rng" not in low and "random" not in low:
                continue
            words = pointer.split("/")
            for at, word in enumerate(words):
                part = word.lower()
                if "random_state" in part or part.startswith("rng") or part.endswith("rng"):
                    found["/".join(words[: at + 1])] = None
                    break
                if "rng_state" in part:
                    found["/".join(words[: at + 1])] = None
                    break
    return list(found)
