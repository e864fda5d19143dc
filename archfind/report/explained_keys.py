"""By which line of a signature each key of an answer is."""

from __future__ import annotations

from archfind.database import entries

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from archfind.types import Guess


def explanation(guess: Guess) -> Callable[[str], str]:
    """A function from a key to the line of the registered network's signature that it is by, in
    the notation of signatures/: "num_classes 2048"; to the class whose rules give it; or to ""."""
    best = guess.matches[0] if guess.matches and guess.status != "unknown" else None
    if best is None:
        return lambda key: ""
    odd = {*best.unexpected, *(one.key for one in best.mismatched)}
    database, signature = entries.default(), None
    if best.variant is None and best.pretrained is None and best.trusted is None:
        for number in database.named(best.entry.id):
            if any(one.entry.id == best.entry.id for one in database.signature(number).members):
                signature = database.signature(number)

    def explain(key: str) -> str:
        if key in odd:
            return "nothing: it is not the network's"
        if signature is None:
            return best.entry.cls.rpartition(".")[2]
        line = signature.free.get(key)
        if line is not None:
            shape = " ".join(map(str, line.shape)) + f" if {line.condition}" * bool(line.condition)
            return f"{best.entry.id}: {shape}"
        fixed = signature.fixed.get(key)
        return f"{best.entry.id}: {' '.join(map(str, fixed))}" if fixed is not None else ""

    return explain
