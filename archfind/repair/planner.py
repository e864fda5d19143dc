"""Guess -> Plan: which edits lead from a file's tensors to those of the network closest to it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from archfind.building.instantiate import matched_on_meta
from archfind.database import entries
from archfind.errors import ArchfindError
from archfind.escape import escape, quoted
from archfind.frozen import replace
from archfind.matching.identify import nearest_registered
from archfind.providers import example_of
from archfind.repair.edits import Edit, Plan
from archfind.repair.leftovers import pair_leftovers
from archfind.repair.shapes import append_shape_edits
from archfind.repair.structure import rearranged
from archfind.repair.unfolded import unfolded
from archfind.repair.work import RepairWork, Want, key_without_numbers
from archfind.state_dicts.canonical import DERIVED, networks
from archfind.types import Guess, Match, Setting, TensorSpec
from archfind.values.older_values import RECIPES

# Trained, and of no use afterwards: what stands for hidden patches, a queue of keys, a centre.
_TRAINING_ONLY = frozenset("mask_token queue queue_ptr center".split())
_DROPPED = 0.2  # share of the file's tensors that may have no place in the network


def likeliest_plan(guess: Guess, choose: str = "") -> Plan:
    """The plan for the likeliest network that the file can be brought to: of the candidates, the
    one that needs no invention, with the fewest edits that lose something."""
    source = guess.canonical.checkpoint.path
    whole = Plan(source, tuple(opening(guess)), part=guess.part, status=guess.status)
    if len(guess.parts) > 1 and not guess.is_named and guess.status != "close":
        names = ", ".join(guess.parts)
        return _with(whole, f"holds {len(guess.parts)} networks; choose one with --part: {names}")
    if guess.status in ("exact", "ambiguous"):
        found = guess.matches[0]
        if not found.expected:  # a graph, recognised by what is noted in it
            text = (
                f"its tensors have lost their names; {found.entry.id} is led back by a conversion"
            )
            return _with(whole, f"{text}:  archfind export {quoted(source)} out.safetensors")
        changed = _other_views(guess)
        if changed:
            return _with(whole, changed)
        return Plan(
            source,
            (*opening(guess), *_stray(guess, found)),
            found.entry.id,
            part=guess.part,
            status=guess.status,
            tensors=found.expected,
            notes=_twins(guess),
        )
    tried: list[tuple[tuple[object, ...], Plan]] = []
    for place, match in _candidates(guess, choose):
        try:
            one = _towards(place, match)
        except ArchfindError as error:
            one = _with(whole, f"{match.entry.id} can't be built: {error.message}")
        tried.append((_badness(one, match), one))
    if not tried:
        return _with(whole, "no known network shares a tensor with it; --as names one")
    tried.sort(key=lambda pair_leftovers: pair_leftovers[0])
    score, best = tried[0]
    rivals = [one.target for other, one in tried[1:] if other == score]
    rivals = [name for name in dict.fromkeys(rivals) if name != best.target]
    if rivals and best.complete and not choose:
        return _with(best, f"as likely is {', '.join(rivals)}; choose with --as")
    if not (choose or guess.matches or best.complete):
        return _with(whole, "no known network resembles it; --as names one")
    return best if choose else _as_named(guess, best)


def _other_views(guess: Guess) -> str:
    """What is to be said where names of other code stand for other shapes or values, which no edit
    makes; "" where they don't."""
    canonical, index = guess.canonical, guess.canonical.checkpoint.index
    moved = [
        at
        for key, at in canonical.origin.items()
        if (canonical.index[key] != index[at] and key not in canonical.merged)
        or canonical.merged.get(key, ("",))[0] in RECIPES
    ]
    if not moved or not any(step.kind == "rename" for step in canonical.steps):
        return ""
    some = f"{len(moved)} tensors have other shapes or values in the library, as {escape(moved[0])}"
    return (
        f"{some}: archfind export {quoted(canonical.checkpoint.path)} out.safetensors writes them"
    )


def _as_named(guess: Guess, plan: Plan) -> Plan:
    """The plan, which ends at a network that the guess named, or says that it doesn't. Where the
    way there loses something, the user has to choose it."""
    shown = guess.matches[:1] if guess.status == "close" else guess.matches
    named = [one.entry.id for one in shown]
    named += [f"{t.provider}/{t.architecture}" for one in shown for t in one.twins]
    if not plan.complete or plan.target in named or not named:
        return plan
    note = f"guess names {named[0]}; {plan.target} needs fewer changes"
    if all(edit.lossless for edit in plan.edits):
        return Plan(
            plan.source, plan.edits, plan.target, plan.base, plan.part, plan.status, plan.tensors,
            plan.problems, (*plan.notes, note),
        )  # fmt: skip
    return _with(plan, f"{note}, some of which lose something; if it is: --as {plan.target}")


def _candidates(guess: Guess, choose: str) -> list[tuple[Guess, Match]]:
    """What the file may be: the guess's own matches, and the registered networks nearest to it,
    each with as many classes as it may have."""
    places = [(guess, match) for match in guess.matches]
    found = networks(guess.canonical.checkpoint)
    if not choose and len(found) == 1:
        other = nearest_registered(next(iter(found.values())), entries.default())
        places += [(other, match) for match in other.matches]
    out: dict[tuple[object, ...], tuple[Guess, Match]] = {}
    for place, match in places:
        for one in _sized(place, match):
            config = tuple((k, str(s.value)) for k, s in one.config.items())
            out.setdefault((one.entry.id, config, one.variant is None), (place, one))
    return list(out.values())


def _sized(guess: Guess, match: Match) -> list[Match]:
    """The match, and where its own reading has no head, the match with one."""
    classes = match.config.get("num_classes")
    if match.head or match.variant or match.trusted or classes is None or classes.value:
        return [match]
    index = guess.canonical.checkpoint.index
    sizes = [match.entry.fields["num_classes"]]
    sizes += [s.shape[0] for s in index.values() if len(s.shape) == 2][-2:]
    return [match] + [
        replace(match, config={**match.config, "num_classes": Setting(size, "shape")})
        for size in dict.fromkeys(sizes)
        if size
    ]


def _badness(plan: Plan, match: Match) -> tuple[object, ...]:
    """What is invented, then other arguments than a library's own, then what is lost, count."""
    lossy = sum(max(1, len(e.keys)) for e in plan.edits if not e.lossless)
    touched = sum(len(e.keys) for e in plan.edits if e.kind != "unwrap")
    other = match.variant is not None
    return bool(plan.problems), plan.invents, len(plan.problems), other, lossy, touched


def _with(plan: Plan, problem: str) -> Plan:
    return Plan(
        plan.source, plan.edits, plan.target, plan.base, plan.part, plan.status, plan.tensors,
        (*plan.problems, problem), plan.notes,
    )  # fmt: skip


def _twins(guess: Guess) -> tuple[str, ...]:
    others = [f"{t.provider}/{t.architecture}" for t in guess.matches[0].twins]
    return (f"{', '.join(others[:4])} would load it as well",) if others else ()


def opening(guess: Guess) -> list[Edit]:
    """The edits that the guess itself amounts to: unwrapped, stripped, renamed, merged, and what
    was set aside dropped."""
    canonical = guess.canonical
    pointers = list(canonical.checkpoint.index)
    used = {*canonical.origin.values(), *(p for _, *ps in canonical.merged.values() for p in ps)}
    place = _place(used)
    edits: list[Edit] = []
    names = {pointer: pointer for pointer in pointers}
    if place:
        left = [p for p in pointers if not p.startswith(f"{place}/")]
        note = f"{len(left)} tensors elsewhere are left" if left else ""
        edits.append(Edit("unwrap", options={"place": place}, note=note))
        names = {p: _dotted(p[len(place) + 1 :]) for p in pointers if p not in set(left)}
    parts = {p for _, *ps in canonical.merged.values() for p in ps}
    single = {names[at]: key for key, at in canonical.origin.items() if key not in canonical.merged}
    own = "" if _is_flat(canonical.checkpoint.format) else "/"
    gone = [
        name for p, name in names.items() if p not in used and own and _is_aside(p, canonical.aside)
    ]
    if gone:
        edits.append(Edit("drop", tuple(gone), note="set aside: no part of a network"))
    edits += _renames(single, len(names) - len(gone) - len(parts))
    for key, (how, *ps) in canonical.merged.items():
        edits.append(_merge(key, how, [names[p] for p in ps], canonical.index[key]))
    return edits


def _merge(key: str, how: str, parts: list[str], spec: TensorSpec) -> Edit:
    if how in ("weight_norm", "spectral_norm", "mask"):
        return Edit("merge", tuple(parts), (key,), {"how": how})
    options = {"scheme": how, "shape": list(spec.shape)}
    return Edit("dequantise", tuple(parts), (key,), options, lossless=False)


def _is_flat(name: str) -> bool:
    return name.startswith(("safetensors", "onnx"))


def _is_aside(pointer: str, aside: tuple[str, ...]) -> bool:
    return pointer in set(aside)


def _place(used: set[str]) -> str:
    """The deepest container that holds them all."""
    parents = {p.rpartition("/")[0] for p in used}
    return parents.pop() if len(parents) == 1 else ""


def _dotted(pointer: str) -> str:
    return pointer.replace("/", ".").replace("~1", "/").replace("~0", "~")


def _renames(single: Mapping[str, str], total: int) -> list[Edit]:
    """One pattern where a prefix goes from all, else each name."""
    moved = {old: new for old, new in single.items() if old != new}
    if not moved:
        return []
    prefixes = {old[: -len(new)] if old.endswith(new) else None for old, new in single.items()}
    only = prefixes.pop() if len(prefixes) == 1 else None
    if only and total == len(single):
        return [Edit("rename", (f"{only}*",), ("*",), note=f"{len(moved)} keys")]
    return [Edit("rename", tuple(moved), tuple(moved.values()), note=f"{len(moved)} keys")]


def _stray(guess: Guess, found: Match) -> list[Edit]:
    """Buffers in the file that this library's network hasn't, and outside keys."""
    wanted = {key for key in found.tolerated if key in guess.canonical.index}
    blanked = matched_on_meta(found) if wanted else None
    own = blanked.state_dict() if blanked is not None else {}
    gone = tuple(key for key in wanted if key not in own)
    return [Edit("drop", gone, note="buffers that the network makes by itself")] if gone else []


def _towards(guess: Guess, match: Match) -> Plan:
    """The plan that ends at one candidate, its problems included."""
    module = matched_on_meta(match)
    want = wanted(module)
    canonical = guess.canonical
    work = RepairWork(dict(canonical.index), want, opening(guess))
    # what stands beside a stripped prefix is still to be placed
    used = {*canonical.origin.values(), *(p for _, *ps in canonical.merged.values() for p in ps)}
    place = _place(used)
    for pointer, spec in canonical.checkpoint.index.items():
        inside = pointer.startswith(f"{place}/") if place else True
        if pointer not in used and pointer not in canonical.aside and inside:
            name = _dotted(pointer[len(place) + 1 :] if place else pointer)
            if name not in work.have:
                work.have[name] = spec
    total = len(work.have)
    unfolded(work, module, lambda: example_of(match, module).args)
    pair_leftovers(work)
    rearranged(work)
    pair_leftovers(work, by_shape=True)
    append_shape_edits(work, chosen=guess.chosen_by == "user")
    _tied(work)
    problems = _ended(work, total)
    return Plan(
        canonical.checkpoint.path,
        tuple(work.edits),
        match.entry.id,
        part=guess.part,
        status=guess.status,
        tensors=len(want),
        problems=tuple(problems),
        notes=tuple(work.notes),
    )


def wanted(module: nn.Module) -> dict[str, Want]:
    """What the network's state dict holds, and which layer holds it."""
    owners: dict[str, str] = {}
    for name, layer in module.named_modules():
        for key in layer._parameters.keys() | layer._buffers.keys():  # pyright: ignore
            owners[f"{name}.{key}" if name else key] = type(layer).__name__
    trained = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    found: dict[str, Want] = {}
    first: dict[int, str] = {}
    for key, value in module.state_dict(keep_vars=True).items():
        if isinstance(value, torch.Tensor):
            tied = first.setdefault(id(value), key)
            dtype = str(value.dtype).removeprefix("torch.")
            found[key] = Want(
                tuple(value.shape), dtype, owners.get(key, ""), key in trained,
                "" if tied == key else tied,
            )  # fmt: skip
    return found


def _tied(work: RepairWork) -> None:
    """A missing key that the network ties to one that is there."""
    for key in work.missing():
        want = work.want[key]
        group = [k for k, w in work.want.items() if (w.tied or k) == (want.tied or key)]
        held = next((k for k in group if k in work.have), None)
        if held is not None and want.shape == work.have[held].shape:
            work.edits.append(Edit("copy", (held,), (key,), note="tied"))
            work.have[key] = work.have[held]


def _ended(work: RepairWork, total: int) -> list[str]:
    """The last edits: what is left over is dropped, what is missing filled; and what can't be."""
    problems: list[str] = []
    extra = [key for key in work.have if key not in work.want]
    harmless = [k for k in extra if k.rpartition(".")[2] in DERIVED]
    others = [k for k in extra if k not in set(harmless)]
    templates = {key_without_numbers(key) for key in work.want}
    more = [key for key in others if key_without_numbers(key) in templates]
    if more:
        problems.append(f"{len(more)} tensors look like more layers of it, as {more[0]}")
    elif len(others) > max(4, _DROPPED * total):
        problems.append(f"{len(others)} of {total} tensors have no place in it, as {others[0]}")
    homes = {key.rpartition(".")[0] for key in work.want} | {""}
    lost = [
        k for k in others if k.rpartition(".")[0] in homes and _is_trained(k, work.have[k].shape)
    ]
    if lost:
        problems.append(
            f"{len(lost)} trained tensors belong to modules that the network has without them, as "
            f"{lost[0]}: it computes something else"
        )
    if harmless:
        note = "buffers that the network makes by itself"
        work.edits.append(Edit("drop", tuple(harmless), note=note))
    if others:
        note = f"no place in the network, as {others[0]}"
        work.edits.append(Edit("drop", tuple(others), lossless=False, note=note))
    missing = [k for k in work.want if k not in work.have and not _is_made(k, work.want[k])]
    wrong = [k for k, w in work.want.items() if k in work.have and work.have[k].shape != w.shape]
    wrong += [
        k
        for k, w in work.want.items()
        if k in work.have and _kind(work.have[k].dtype) != _kind(w.dtype) and k not in wrong
    ]
    gaps = [*missing, *wrong]
    if len(gaps) > max(2, _DROPPED * len(work.want)):
        problems.append(f"{len(gaps)} of its {len(work.want)} tensors are missing, as {gaps[0]}")
        return problems
    for key in gaps:
        want = work.want[key]
        value = "ones" if key.endswith(("running_var", "norm.weight")) else "zeros"
        value = "random" if len(want.shape) > 1 else value
        options = {"shape": list(want.shape), "dtype": want.dtype, "value": value}
        note = "missing" if key in missing else f"was {list(work.have[key].shape)}"
        work.edits.append(Edit("fill", (), (key,), options, lossless=False, note=note))
    return problems


def _is_trained(key: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor is more than a single number, as a decay or a count is, and of use after
    training."""
    return any(size > 1 for size in shape) and key.rpartition(".")[2] not in _TRAINING_ONLY


def _is_made(key: str, want: Want) -> bool:
    """Whether the library makes the tensor by itself, so that a file may lack it."""
    return not want.trained and (key.rpartition(".")[2] in DERIVED or _kind(want.dtype) != "float")


def _kind(dtype: str) -> str:
    return "float" if dtype.startswith(("float", "bfloat")) else dtype
