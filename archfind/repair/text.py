"""A repair plan as JSON or as lines of text."""

from __future__ import annotations

import json

from archfind.escape import escape, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.repair.edits import Edit, Plan
    from archfind.types import Exported


def repair_document(plan: Plan, written: Exported | None) -> dict[str, object]:
    """The plan itself, and where it was written."""
    found: dict[str, object] = json.loads(plan.to_json())
    found["written"] = None if written is None else written.path
    found["proof"] = {} if written is None else dict(written.notes)
    found["danger"] = []
    found["error"] = None
    found["report"] = None
    return found


def repair_lines(plan: Plan, out: str) -> list[str]:
    """Line 1 says what is wrong, then an edit a line, and the next command."""
    what = plan.target or (f"base {plan.base}" if plan.base else "no known network")
    count = len(plan.edits)
    edits = f"{count} edit{'s' * (count != 1)}"
    if plan.problems:
        answer = f"can't be brought to {what}"
    elif not count:
        answer = f"loads strictly into {what} as it is"
    else:
        answer = f"{edits} from {what}"
    path = escape(plan.source)
    lines = [f"{path}: {answer}"]
    for number, edit in enumerate(plan.edits, 1):
        lines.append(f"  {number}  {edit.kind:<10} {_said(edit)}")
    lines += [f"  note      {escape(note, 200)}" for note in plan.notes]
    lines += [f"  problem   {escape(text, 200)}" for text in plan.problems]
    if not out and count and not plan.problems:
        fill = " --allow-fill" if plan.invents else ""
        lines.append(
            f"  Write it:  archfind repair {quoted(plan.source)} -o fixed.safetensors{fill}"
        )
    return lines


def _said(edit: Edit) -> str:
    keys = _few(edit.keys)
    to = _few(edit.to)
    options = ", ".join(f"{k}={v}" for k, v in edit.options.items() if k not in ("invents",))
    middle = {"unwrap": str(edit.options.get("place"))}.get(edit.kind, "")
    if not middle:
        middle = f"{keys} -> {to}" if keys and to else keys or to
        middle += f"  {options}" if options else ""
    loss = "lossless" if edit.lossless else "loses"
    if edit.kind == "fill" or edit.options.get("invents"):
        loss = "invents weights, needs --allow-fill"
    note = f"  {escape(edit.note, 120)}" if edit.note else ""
    return f"{escape(middle, 160)}  {loss}{note}"


def _few(keys: tuple[str, ...]) -> str:
    more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
    return f"{keys[0]}{more}" if keys else ""
