"""A known network below a prefix: a transformers class that is this network and nothing else is
named beside it. On the cold path of `archfind guess`."""

from __future__ import annotations

from archfind.classes.templates import templates_of
from archfind.database.model_types import model_types_beside
from archfind.database.table import hashed
from archfind.frozen import replace
from archfind.matching.model_types import configured
from archfind.types import Guess, Twin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.database.entries import Database
    from archfind.types import Canonical
    from archfind.work import Work


def with_wrapper(
    answer: Guess, reading: Canonical, prefix: str, database: Database, choose: str, work: Work
) -> Guess:
    """The answer with the class among its twins, or the class where `choose` names it."""
    types = model_types_beside(database.path)
    if types is None or any(types.holders(hashed(one)) < 0 for one in templates_of(reading.index)):
        return answer
    other = configured(reading, database, choose, work)
    if other is None or other.canonical is not reading:
        return answer
    if other.chosen_by == "user":
        return other
    first, best = other.matches[0], answer.matches[0]
    kind = first.pretrained.model_type if first.pretrained else ""
    twin = Twin("transformers", first.entry.name, True, f"{kind}: holds it below {prefix}")
    best = replace(best, twins=(*best.twins, twin))
    return replace(answer, matches=(best, *answer.matches[1:]))
