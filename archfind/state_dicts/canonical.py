"""The state dicts inside a checkpoint, under the names that their networks use.

Unwrap, take training wrappers out of the keys, merge weight parametrisations, set aside what
belongs to no network. Every step is recorded, and `Canonical.origin` leads each key back to the
file. The prefix isn't decided here: matching/compare.py strips the one that makes a signature fit.
"""

from __future__ import annotations

from archfind.frozen import replace
from archfind.state_dicts.quantised import packed_place, seen_through
from archfind.types import Canonical, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archfind.types import Checkpoint, TensorSpec

# Wrappers that hold averaged weights, the ones that people mean when both are there.
AVERAGED = frozenset(
    "state_dict_ema model_ema ema_state_dict params_ema params-ema ema ema_model model_state_ema "
    "G_ema g_ema net_g_ema teacher target averaged swa".split()
)
# What holds the raw weights, in the order in which training scripts use it.
_RAW = (
    "state_dict model_state_dict model_state model module net network params weights weight".split()
)
_TRAINING = frozenset(
    "optimizer optimizers optim optimizer_state_dict optimizer_states optimizer_state opt_state "
    "scheduler lr_scheduler lr_schedulers scaler amp amp_scaler grad_scaler loss_scaler rng "
    "rng_state "
    "rng_states random_state callbacks loops message_hub optimizer_history".split()
)
# What a script was told, which may hold tensors (weights of classes, anchors): no network.
_SETTINGS = frozenset(
    "hyper_parameters datamodule_hyper_parameters hparams args config cfg meta opt options "
    "settings kwargs model_args model_kwargs history metrics".split()
)
_MOMENTS = frozenset(
    "exp_avg exp_avg_sq max_exp_avg_sq momentum_buffer square_avg step exp_avg_sq_row "
    "exp_avg_sq_col "
    "row_var col_var variance acc_delta exp_inf mu_product exp_avg_diff neg_pre_grad hessian "
    "step_size prev state1 state2 absmax1 absmax2 qmap1 qmap2 master_param grad_avg eta ax mu "
    "d old_dirs old_stps prev_flat_grad H_diag al ro sum z".split()
)
# Components that training wrappers put anywhere in a key; no network of a library has them.
_WRAPPERS = frozenset(
    "module _orig_mod _fsdp_wrapped_module _checkpoint_wrapped_module _forward_module "
    "_module".split()
)
# Tensors that torch or a profiler makes by itself: a file may have them or not.
DERIVED = frozenset(
    "num_batches_tracked relative_position_index relative_coords_table attn_mask position_ids "
    "attention_bias_idxs total_ops total_params n_averaged".split()
)
_LOSSES = frozenset("criterion loss loss_fn loss_func metric metrics".split())


def networks(checkpoint: Checkpoint) -> dict[str, Canonical]:
    """Every state dict in the file by its JSON Pointer, the one people mean first.

    Copies of one network (raw and averaged weights) count once, the averaged one; groups far
    smaller than the largest are set aside with the optimizer.
    """
    groups: dict[str, list[str]] = {}
    for pointer in checkpoint.index:
        groups.setdefault(packed_place(pointer.rpartition("/")[0]), []).append(pointer)
    aside = [p for place, held in groups.items() if _is_training(place, held) for p in held]
    groups = {place: held for place, held in groups.items() if not _is_training(place, held)}
    told = [place for place in groups if not _SETTINGS.isdisjoint(place.split("/"))]
    for place in told if len(told) < len(groups) else ():
        aside += groups.pop(place)
    groups = _joined(groups)
    largest = max(map(len, groups.values()), default=0)
    for place in [p for p, held in groups.items() if len(held) * 20 < largest]:
        aside += groups.pop(place)
    found: dict[str, Canonical] = {}
    copies: dict[frozenset[str], str] = {}
    for place in sorted(groups, key=lambda p: _rank(p, len(groups[p]))):
        held = groups[place]
        names = frozenset(_below(p, place) for p in held)
        if names in copies:
            aside += held
            kept = found[copies[names]]
            note = Step("prefer", f"{copies[names]} over {place or 'the top level'}")
            found[copies[names]] = replace(kept, steps=(*kept.steps, note))
            continue
        copies[names] = place
        found[place] = _canonicalize(checkpoint, place, held)
    rest = tuple(aside)
    return {
        place: replace(c, aside=(*c.aside, *rest), steps=(*c.steps, *_aside_steps(rest)))
        for place, c in found.items()
    }


def joined_state_dicts(checkpoint: Checkpoint) -> Canonical:
    """All the state dicts in the file as one, under their own names: modules that were saved
    apart."""
    groups: dict[str, list[str]] = {}
    for pointer in checkpoint.index:
        groups.setdefault(packed_place(pointer.rpartition("/")[0]), []).append(pointer)
    pointers = [p for place, held in groups.items() if not _is_training(place, held) for p in held]
    return _canonicalize(checkpoint, "", pointers)


def _joined(groups: dict[str, list[str]]) -> dict[str, list[str]]:
    """Groups whose places differ by a list index or a dict of modules are one network where no
    group is a state dict by its own name: {"model": {"body": {..}, "head": {..}}}."""
    joined: dict[str, list[str]] = {}
    for place, held in groups.items():
        top, _, below = place.partition("/")
        known = top in AVERAGED or top in _RAW
        inner = below.partition("/")[0]
        if known and below and inner not in AVERAGED and inner not in _RAW:
            joined.setdefault(top, []).extend(held)
        else:
            joined.setdefault(place, []).extend(held)
    return joined


def _is_training(place: str, held: list[str]) -> bool:
    words = place.split("/")
    if any(
        word in _TRAINING
        or word.startswith("optimizer")
        or word.rpartition(".")[2] in _TRAINING
        or "lr_scheduler" in word
        or _is_random(word)
        for word in words
    ):
        return True
    leaves = {pointer.rpartition("/")[2] for pointer in held}
    return bool(leaves) and (leaves <= _MOMENTS or all(map(_is_random, leaves)))


def _is_random(leaf: str) -> bool:
    """Whether a tensor is by its name a random generator's state."""
    return "rng_state" in leaf or "random_state" in leaf or leaf in ("rng", "cuda_rng", "torch_rng")


def _rank(place: str, size: int) -> tuple[object, ...]:
    words = place.split("/")
    averaged = any(word in AVERAGED for word in words)
    raw = min((_RAW.index(word) for word in words if word in _RAW), default=len(_RAW))
    return not averaged, raw, -size, place


def _below(pointer: str, place: str) -> str:
    """The dotted key of a pointer below a place."""
    inner = pointer[len(place) + 1 :] if place else pointer
    return (
        inner.replace("/", ".").replace("~1", "/").replace("~0", "~")
        if "/" in inner or "~" in inner
        else inner
    )


def _canonicalize(checkpoint: Checkpoint, place: str, pointers: list[str]) -> Canonical:
    steps = [Step("unwrap", word) for word in place.split("/") if word]
    origin = {_below(pointer, place): pointer for pointer in pointers}
    losses = [key for key in origin if key.partition(".")[0] in _LOSSES]
    if len(losses) * 10 > len(origin):
        losses = []
    if losses:
        steps.append(Step("set aside", f"{len(losses)} tensors of {losses[0].partition('.')[0]}"))
    aside = [origin.pop(key) for key in losses]
    aside += _flat_averages(origin, steps)
    aside = tuple(aside)
    index = {key: checkpoint.index[pointer] for key, pointer in origin.items()}
    return Canonical(checkpoint, index, origin, tuple(steps), aside)


def _flat_averages(origin: dict[str, str], steps: list[Step]) -> list[str]:
    """Averaged copies whose names lost their dots, put in place of the raw weights: latent
    diffusion's `model_ema.diffusion_modelinput_blocks00weight`. mmdetection's
    `ema_backbone_conv1_weight` are set aside: its hook saves the averaged weights under the
    network's own names and the raw ones there. Returns the file's keys that are set aside."""
    flat = [key for key in origin if key.startswith("model_ema.")]
    if len(flat) > 1 and len(flat) < len(origin):
        raw: dict[str, str] = {}
        for key in origin:
            if not key.startswith("model_ema."):
                raw[key.replace(".", "")] = key
                raw[key.partition(".")[2].replace(".", "")] = key
        pairs = {key: raw.get(key[10:].replace(".", "")) for key in flat}
        counters = [key for key in flat if key in ("model_ema.decay", "model_ema.num_updates")]
        if None not in [pairs[key] for key in flat if key not in counters]:
            steps.append(Step("prefer", f"model_ema over {len(flat) - len(counters)} raw weights"))
            aside = [origin.pop(key) for key in counters]
            for key in flat:
                place = pairs[key]
                if key not in counters and place is not None:
                    aside.append(origin[place])
                    origin[place] = origin.pop(key)
            return aside
    if not any(key.startswith("ema_") for key in origin):
        return []
    copies = [f"ema_{key.replace('.', '_')}" for key in origin]
    copies = [name for name in copies if name in origin]
    if len(copies) > 1:
        steps.append(Step("set aside", f"{len(copies)} copies named ema_"))
    return [origin.pop(name) for name in dict.fromkeys(copies)]


def _aside_steps(aside: tuple[str, ...]) -> list[Step]:
    places = dict.fromkeys(
        pointer.partition("/")[0] if "/" in pointer else pointer for pointer in aside
    )
    shown = ", ".join(list(places)[:4]) + (" ..." if len(places) > 4 else "")
    return [Step("set aside", f"{len(aside)} tensors in {shown}")] if aside else []


def strip(canonical: Canonical, prefix: str, keys: Iterable[str] | None = None) -> Canonical:
    """The part of a state dict below a prefix; the rest stays in `checkpoint`, not in `aside`.
    `keys` are those that have the prefix, where the caller knows them: of thousands of submodules
    each would be looked for among all keys else."""
    if not prefix:
        return canonical
    if keys is None:
        keys = [key for key in canonical.index if key.startswith(prefix)]
    cut = len(prefix)
    index, origin, merged = (
        {key[cut:]: values[key] for key in keys if key in values}
        for values in (canonical.index, canonical.origin, canonical.merged)
    )
    steps = (*canonical.steps, Step("strip", prefix))
    return replace(canonical, index=index, origin=origin, steps=steps, merged=merged, whole={})


def named_below(canonical: Canonical, prefix: str) -> Canonical:
    """A state dict in the names that it has below a prefix; `whole` keeps the rest."""
    if not prefix:
        return canonical
    return replace(strip(canonical, prefix), whole=canonical.whole or canonical.index)


def training_readings(canonical: Canonical) -> Iterator[Canonical]:
    """The ways to read the keys, the likeliest first: with what training adds to them taken out,
    then as they stand, since a few networks have such names of their own."""
    canonical = seen_through(canonical)
    bare = _unwrapped(canonical)
    for reading in (bare,) if bare is canonical else (bare, canonical):
        merged = merge_parametrisations(reading)
        yield merged
        if merged is not reading:
            yield reading


def _unwrapped(canonical: Canonical) -> Canonical:
    """Keys less the components that training wrappers add; itself where there are none, or where
    two keys would become one."""
    every = "\n".join(canonical.index)
    if not any(f"{word}." in every for word in _WRAPPERS):
        return canonical
    renamed: dict[str, str] = {}
    seen: dict[str, None] = {}
    for key in canonical.index:
        parts = key.split(".")
        words = [part for part in parts[:-1] if part in _WRAPPERS]
        seen.update(dict.fromkeys(words))
        renamed[key] = (
            ".".join(p for p in parts[:-1] if p not in _WRAPPERS) + f".{parts[-1]}"
            if words
            else key
        )
        renamed[key] = renamed[key].removeprefix(".")
    if not seen or len(set(renamed.values())) < len(renamed):
        return canonical
    return replace(
        canonical,
        index={renamed[key]: spec for key, spec in canonical.index.items()},
        origin={renamed[key]: at for key, at in canonical.origin.items()},
        steps=(*canonical.steps, *(Step("strip", f"{word}.") for word in seen)),
    )


# A parametrised weight as (suffixes in the file, the one with the weight's shape, how to merge).
_PARAMETRISED = (
    (("parametrizations.weight.original0", "parametrizations.weight.original1"), 1, "weight_norm"),
    (("weight_g", "weight_v"), 1, "weight_norm"),
    (("weight_orig", "weight_u", "weight_v"), 0, "spectral_norm"),
    (
        (
            "parametrizations.weight.original",
            "parametrizations.weight.0._u",
            "parametrizations.weight.0._v",
        ),
        0,
        "spectral_norm",
    ),
    # torch.nn.utils.prune
    (("weight_orig", "weight_mask"), 0, "mask"),
    (("bias_orig", "bias_mask"), 0, "mask"),
)


def merge_parametrisations(canonical: Canonical) -> Canonical:
    """The parts of weight_norm, spectral_norm and masks as the one weight that they stand for;
    itself where there are none. `merged` names the recipe and the file's keys, in the recipe's
    order."""
    every = "\n".join(canonical.index) + "\n"
    present = [row for row in _PARAMETRISED if f"{row[0][0]}\n" in every]
    if not present:
        return canonical
    index, origin = dict(canonical.index), dict(canonical.origin)
    merged: dict[str, tuple[str, ...]] = {}
    counts: dict[str, int] = {}
    for suffixes, full, recipe in present:
        for key in [k for k in index if k.endswith("." + suffixes[0]) or k == suffixes[0]]:
            base = key[: -len(suffixes[0])]
            parts = [base + suffix for suffix in suffixes]
            if any(part not in index for part in parts):
                continue
            spec = index[parts[full]]
            made = base + ("bias" if suffixes[0] == "bias_orig" else "weight")
            merged[made] = (recipe, *(origin[part] for part in parts))
            whole = origin[parts[full]]
            for part in parts:
                del index[part], origin[part]
            index[made], origin[made] = spec, whole
            counts[recipe] = counts.get(recipe, 0) + 1
    if not merged:
        return canonical
    steps = [Step("merge", f"{recipe} of {count} weights") for recipe, count in counts.items()]
    return replace(
        canonical, index=index, origin=origin, steps=(*canonical.steps, *steps), merged=merged
    )


def kind(spec: TensorSpec) -> str:
    """A tensor's kind of number as signatures write it: all floats are one."""
    return "float" if spec.dtype.startswith(("float", "bfloat")) else spec.dtype


def is_derived(key: str, kind: str) -> bool:
    """Counters, index tables and the like, which the library makes by itself."""
    return kind != "float" or key.rpartition(".")[2] in DERIVED


def is_table(key: str, kind: str) -> bool:
    """What a program needn't give: tables of indices and masks, and names that are derived always.
    Weights packed as integers are no such thing."""
    name = key.rpartition(".")[2]
    return name in DERIVED or (kind in ("int64", "bool") and name not in ("weight", "bias"))
