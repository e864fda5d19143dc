"""A user's own database: signatures written into it, merged, listed, as lines for people."""

from __future__ import annotations

import os
from pathlib import Path

from archfind.database.user_folder import content, listed, texts, user_signatures_folder
from archfind.database.user_text import UserText, parsed_signature
from archfind.errors import SignatureError
from archfind.writing import beside


def learn_file_lines(
    path: str, name: str, part: str = "", signatures: str = "", force: bool = False
) -> list[str]:
    """Record a file's keys and shapes as the network `name`."""
    from archfind.learning.from_file import record_of

    if not name:
        raise SignatureError("--from wants --name, what the network is to be called: team/net")
    text = record_of(path, name, part)
    where, is_new = keep_signature(text, text.written(), _known(signatures), signatures, force)
    count = len(text.tensors())
    head = "".join(f", {field} {value} in this file" for field, value in text.fields.items())
    verb = "recorded" if is_new else "known already"
    return [f"{name}: {verb}, {count} tensors{head}", f"  record    {where}"]


def learn_class_lines(
    target: str, name: str, arguments: str = "", signatures: str = "", force: bool = False
) -> list[str]:
    """Record a class of the user's own code, which is imported in a process apart."""
    from archfind.learning.from_class import signature_of
    from archfind.trusted.learnt import noted

    text, way, refusals = signature_of(target, name, arguments)
    where, is_new = keep_signature(text, text.written(), _known(signatures), signatures, force)
    noted(text, way)
    verb = "recorded" if is_new else "known already"
    given = ", ".join(f"{key}={value!r}" for key, value in text.arguments.items())
    free = list(dict.fromkeys(leaf.partition(".")[0] for leaf in _moved(text)))
    others = f"any {', '.join(free)}" if free else "these arguments alone"
    return [
        f"{text.name}: {verb}, {len(text.tensors())} tensors",
        f"  class     {text.cls}({given})",
        f"  known for {others}",
        f"  record    {where}",
        *(f"  warning   {line}" for line in refusals),
    ]


def _moved(text: UserText) -> list[str]:
    """The leaves of a class's arguments that its rules hold for with other values."""
    from archfind.classes.notation import Family

    known = [path for family in text.families for path in Family(family).options]
    return known or [*text.fields]


def add_lines(
    folders: list[str], signatures: str = "", force: bool = False
) -> tuple[list[str], bool]:
    """Merge the signatures in `folders` into the user's own: a line for each that is new, replaced
    or refused, and whether one was refused. Each file is added whole or not at all."""
    if not folders:
        raise SignatureError("add wants a folder of signatures, or a file")
    lines: list[str] = []
    known = _known(signatures)
    counts = {"added": 0, "known already": 0, "refused": 0}
    for folder in folders:
        if not os.path.exists(folder):
            raise SignatureError("no folder of signatures", folder)
        rows = listed(folder) if os.path.isdir(folder) else [(folder, 0, 0)]
        if not rows:
            raise SignatureError("it has no signatures: no file below it ends in .txt", folder)
        for path, _, _ in rows:
            try:
                data = content(path)
                text = parsed_signature(data, path)
                _, is_new = keep_signature(text, data, known, signatures, force)
            except SignatureError as error:
                counts["refused"] += 1
                lines.append(f"{path}: refused: {error.message}")
                continue
            counts["added" if is_new else "known already"] += 1
            if is_new:
                code = f", the class {text.cls}" if text.cls else ""
                lines.append(f"{path}: {text.name}, {len(text.tensors())} tensors{code}")
    total = ", ".join(f"{count} {word}" for word, count in counts.items())
    return [*lines, f"{user_signatures_folder(signatures)}: {total}"], counts["refused"] > 0


def _known(signatures: str) -> dict[str, UserText]:
    """The signatures of the user's database, by name."""
    place = user_signatures_folder(signatures)
    own, _ = texts(listed(place)) if os.path.isdir(place) else ([], [])
    return {one.name: one for one in own}


def keep_signature(
    text: UserText,
    data: str | bytes,
    own: dict[str, UserText],
    signatures: str = "",
    force: bool = False,
) -> tuple[Path, bool]:
    """Write a signature into the user's database, which has `own`, and gets it; its file, and
    whether it's new there. SignatureError where another signature has its name, unless `force`
    replaces that one."""
    place = Path(user_signatures_folder(signatures))
    known = own.get(text.name)
    path = Path(known.path) if known is not None else place / f"{text.name}.txt"
    if known is not None and _is_same(known, text):
        return path, False
    if (known is not None or path.exists()) and not force:
        other = "has other tensors, or another class" if known is not None else "can't be read"
        raise SignatureError(
            f"{text.name} is recorded already, and {other}: --force replaces it, --name takes "
            "another name",
            str(path),
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SignatureError(f"can't be made: {error.strerror}", str(path.parent)) from error
    beside.write_small_file(path, data)
    text.path = str(path)
    own[text.name] = text
    return path, True


def _is_same(one: UserText, other: UserText) -> bool:
    """Whether two signatures say the same network; where they were learnt is no part of that."""
    said = [(t.cls, t.arguments, t.fields, t.tensors(), t.families) for t in (one, other)]
    return said[0] == said[1]
