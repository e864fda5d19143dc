"""Plan -> a new file: edits on tensors that are read only when they are written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from archfind import formats, pipeline
from archfind.errors import ArchfindError, RepairError
from archfind.escape import escape
from archfind.exporters.convert import write
from archfind.exporters.pieces import TensorToWrite, piece
from archfind.formats import expansion
from archfind.frozen import replace
from archfind.repair.edits import Plan
from archfind.repair.kinds import DO, Lazy, State, matching, read
from archfind.trusted.learnt import permitted
from archfind.types import Choice, Exported, TensorSpec
from archfind.writing import beside, target

# what torch and Python make of options that don't fit a tensor
_WRONG = (
    KeyError, ValueError, TypeError, IndexError, AttributeError, RuntimeError, ArithmeticError
)  # fmt: skip
_WORK = 4 * 10**9  # each edit walks over every tensor


def perform(
    plan: Plan,
    out: str | os.PathLike[str],
    allow_fill: bool,
    force: bool,
    allow_expansion: bool = False,
    code: str = "",
    trust: bool = False,
) -> Exported:
    """What `archfind.repair.apply` does."""
    path = Path(os.fspath(out))
    kind = target.STATE_DICTS[path.suffix.lower()]
    if plan.target.startswith("code/") and not code:
        text = f"{plan.target} is a class of somebody's code, which proves the result"
        raise RepairError(f"{text}: say where it is, and that it is trusted", plan.source)
    if plan.problems:
        raise RepairError(f"can't be finished: {'; '.join(plan.problems[:3])}", plan.source)
    if plan.invents and not allow_fill:
        raise RepairError(
            "the plan fills in weights that the file doesn't have; --allow-fill lets it",
            plan.source,
        )
    sources = [*target.sources_of(formats.open(plan.source))]
    if plan.base:
        sources += target.sources_of(formats.open(plan.base))
    target.refuse_file(out, sources, force)
    state = _edited(plan)
    nbytes = sum(one.like.numel() * one.like.dtype.itemsize for one in state.values())
    too_much = expansion.excess(nbytes, sources)
    if too_much and not allow_expansion:
        raise RepairError(too_much, plan.source)
    with beside.folder_beside(path) as folder:
        made = folder / path.name
        pieces = [_piece(key, lazy) for key, lazy in state.items()]
        metadata = {"format": "pt", "archfind.source": escape(Path(plan.source).name)}
        metadata["archfind.repair"] = ", ".join(dict.fromkeys(edit.kind for edit in plan.edits))
        try:
            write(str(made), kind, pieces, metadata)
        except _WRONG as error:
            text = f"an edit fails on the values: {escape(str(error), 120)}"
            raise RepairError(text, plan.source) from error
        notes = _proof(plan, str(made), code, trust)
        target.refuse_file(out, sources, force)
        beside.move([(made, path)], force)
    return Exported(None, str(path), kind, "", 0.0, notes)


def _edited(plan: Plan) -> State:
    """The tensors after every edit, none of them read yet."""
    checkpoint = formats.open(plan.source)
    state: State = {key: read(spec) for key, spec in checkpoint.index.items()}
    if plan.base:
        base = pipeline.guess(plan.base, Choice()).canonical
        state = {f"adapter/{key}": lazy for key, lazy in state.items()}
        state |= {key: read(spec) for key, spec in base.index.items()}
    if len(plan.edits) * len(state) > _WORK:
        raise RepairError(
            f"{len(plan.edits):,} edits of {len(state):,} tensors: too many", plan.source
        )
    for edit in plan.edits:
        missing = [key for key in edit.keys if not any(k in state for k in matching(state, [key]))]
        if missing:
            text = f"the plan's {edit.kind} wants {escape(missing[0])}, which isn't there"
            raise RepairError(text, plan.source)
        try:
            state = DO[edit.kind](state, edit, plan)
        except _WRONG as error:
            text = f"the plan's {edit.kind} of {escape(str(edit.keys[:1] or edit.to[:1]))} is wrong"
            raise RepairError(f"{text}: {escape(str(error), 120)}", plan.source) from error
    return state


def _piece(key: str, lazy: Lazy) -> TensorToWrite:
    if lazy.spec is not None:
        return piece(key, lazy.spec)
    dtype = str(lazy.like.dtype).removeprefix("torch.")
    return TensorToWrite(
        key, dtype, tuple(lazy.like.shape), lazy, make=lambda: lazy.make().contiguous()
    )


def _proof(plan: Plan, made: str, code: str, trust: bool) -> dict[str, str]:
    """The strict load into the target, or into the base's names and shapes."""
    if plan.target:
        try:
            is_coded = plan.target.startswith("code/")
            choice = Choice(plan.target, code=code if is_coded else "", trust=is_coded)
            found = permitted(pipeline.guess(made, choice), trust)
            built = pipeline.build(replace(found, searched=True), Choice())
        except ArchfindError as error:
            raise RepairError(f"the result doesn't load strictly: {error.message}") from error
        return {"network": plan.target, "load": f"strict, {built.loaded} of {built.tensors}"}
    if plan.base:
        base = pipeline.guess(plan.base, Choice()).canonical.index
        index: Mapping[str, TensorSpec] = formats.open(made).index
        own = {key for edit in plan.edits if edit.kind == "rename" for key in edit.to}
        odd = (set(base) | own) ^ set(index)
        odd |= {k for k in set(base) - own if k in index and base[k].shape != index[k].shape}
        if odd:
            raise RepairError(f"the result and the base differ in {escape(min(odd))}")
        whole = f", {len(own)} of them the adapter's own" if own else ""
        return {"load": f"{len(index)} tensors, the names and shapes of the base{whole}"}
    return {"load": "not proven: no network is known that loads it"}
