"""Guess -> Plan -> a new file that loads strictly.

    plan(guess) -> Plan           the edits as values; reads headers only
    apply(plan, out) -> Exported  does them, loads the result strictly, moves it to `out`

A plan is JSON (`Plan.to_json`, `Plan.from_json`), which other programs can make and edit.
"""

from __future__ import annotations

from archfind.escape import escape
from archfind.repair.edits import Edit, Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from os import PathLike

    from archfind.types import Exported, Guess

__all__ = ["Edit", "Plan", "apply", "plan", "read_plan"]


def plan(
    guess: Guess | str | PathLike[str],
    *,
    choose: str = "",
    part: str = "",
    base: str | PathLike[str] | None = None,
    code: str = "",
    trust: bool = False,
    signatures: str = "",
) -> Plan:
    """What keeps a file from loading strictly into the network that it is closest to, and the edits
    that would mend it. `choose` names the network, `base` the file that an adapter belongs to.
    `code` and `trust` are as of `archfind.guess`: the network may be a class of that code.
    `signatures` is a folder of signatures of the user's own, in place of the usual one.

    A plan is always returned: `Plan.problems` says what no edit can mend without inventing weights.
    """
    if signatures:
        from archfind.database.entries import with_signatures

        with with_signatures(signatures):
            return plan(guess, choose=choose, part=part, base=base, code=code, trust=trust)
    from archfind import pipeline
    from archfind.types import Choice

    choice = Choice(choose, part, code=code, trust=trust)
    found = pipeline.guess(guess, choice)  # pyright: ignore[reportArgumentType]
    if base is not None:
        from archfind.repair.adapters import merge_plan

        return merge_plan(found, base)
    if found.kind is not None and found.kind.name == "lora":
        from archfind.evidence.adapters import low_rank
        from archfind.repair.adapters import adapter_plan

        adapter = low_rank(found.canonical.checkpoint)
        assert adapter is not None
        return adapter_plan(found, adapter)
    if found.kind is not None:
        path, words = found.canonical.checkpoint.path, found.kind.words
        return Plan(path, (), status=found.status, problems=(f"it is {words}: no network",))
    from archfind.repair.planner import likeliest_plan

    return likeliest_plan(found, choose)


def read_plan(
    path: str | PathLike[str],
    source: str | PathLike[str],
    base: str | PathLike[str] | None = None,
) -> Plan:
    """The plan in the JSON file at `path`, for the file `source` and, if it merges an adapter, its
    `base`. RepairError where it is no plan, or is one for other files: whoever wrote it doesn't say
    which files are opened."""
    import os

    from archfind.errors import CheckpointError, RepairError
    from archfind.formats import limits, side_files

    place = os.fspath(path)
    try:
        found = Plan.from_json(side_files.read_bytes(place, limits.PLAN_BYTES))
    except (CheckpointError, RepairError) as error:
        raise RepairError(error.message, place) from error
    for role, named, given in (("source", found.source, source), ("base", found.base, base)):
        if bool(named) != bool(given) or (given and not _is_same(named, os.fspath(given))):
            said = f"its {role} is {escape(named)}" if named else f"it has no {role}"
            wanted = f", not {escape(os.fspath(given))}" if given else "; name it with --base"
            raise RepairError(f"the plan is for another file: {said}{wanted}", place)
    return found


def _is_same(one: str, other: str) -> bool:
    """Whether two paths lead to one file."""
    import os

    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):
        return False


def apply(
    plan: Plan,
    out: str | PathLike[str],
    *,
    allow_fill: bool = False,
    force: bool = False,
    allow_expansion: bool = False,
    code: str = "",
    trust: bool = False,
    signatures: str = "",
) -> Exported:
    """Write the repaired file to `out` (.safetensors or .pth). `allow_fill` lets it invent what is
    missing, `allow_expansion` write more than 32 times the file's bytes. A plan for a class of the
    user's code wants that `code`, and `trust` in it; one for a network of other `signatures` than
    the usual ones wants these. RepairError where the plan can't be finished,
    or its result doesn't load strictly; then nothing is written. The source is never touched."""
    from archfind.database.entries import with_signatures
    from archfind.writing import target

    target.refuse_repair(out, [plan.source, *([plan.base] if plan.base else [])], force)
    from archfind.repair.perform import perform

    with with_signatures(signatures):
        place = code if trust else ""
        return perform(plan, out, allow_fill, force, allow_expansion, place, trust)
