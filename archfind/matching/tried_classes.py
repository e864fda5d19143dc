"""The classes of transformers whose key templates a state dict has, solved one by one. On the cold
path of `archfind guess`."""

from __future__ import annotations

from archfind.classes.notation import numbered_template, template_of
from archfind.classes.older_keys import Views
from archfind.classes.templates import is_stale, state_dict_templates
from archfind.frozen import replace
from archfind.matching.rank import rank
from archfind.matching.solved_class import solve_class
from archfind.state_dicts.canonical import strip

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from archfind.classes.configured import Configured
    from archfind.classes.templates import StateDict
    from archfind.database.model_types import ModelTypes
    from archfind.evidence.claims import Claims
    from archfind.matching.solved_class import Solved
    from archfind.types import Canonical
    from archfind.work import Work

_HOPEFUL = 0.8  # share of tensors
_SHARE = 0.6  # of a file's key templates must be a class's for it to be tried
_TRIED = 40  # classes solved for one reading
_MORE = 1.75  # times the key templates of the first class that fits: others have too many then
_FAILED = 12  # classes in a row that don't fit, once one does: those to come have more of their own
_LARGE = 64  # a size that every network of a class has is seldom so large
_OUTSIDE = 0.5  # share of a file's tensors outside a class that is tried for the whole of it
_NEARLY = 6  # ... where nothing has all of the file's keys


def tried(
    reading: Canonical, types: ModelTypes, claims: Claims, work: Work
) -> tuple[list[Solved], list[Configured]]:
    """Classes solved, those that fit first, then by how much of the file they give; and those with
    all of the file's keys that may fit although their rules don't, or weren't tried."""
    whole = state_dict_templates(reading.index, work)
    counted = [t for t, key in whole.templates.items() if not is_stale(key, reading.index[key])]
    found: list[Solved] = []
    missed: list[Configured] = []
    for prefix in types.prefixes(counted):
        if prefix and any(one.match.fits for one in found):
            break  # the whole of it is known already
        own = [t[len(prefix) :] for t in counted if t.startswith(prefix)]
        alike = types.alike(own)
        literal = whole.literal(prefix)
        if literal is None or not alike or alike[0][1] < _SHARE * len(own):
            continue
        views = Views(strip(reading, literal)) if literal else Views(reading, whole)
        outside = len(reading.index) - len(views.under(())[0].index)
        if outside > _OUTSIDE * len(reading.index):
            continue  # what lies there is a part, which is asked about by itself
        prints: dict[int, float] = {}
        tries = failed = least = 0
        for number, common, size in alike:
            if common < _SHARE * len(own) or tries >= _TRIED:
                break
            if common < len(own) and (tries >= _NEARLY or any(o.match.fits for o in found)):
                break
            mark = types.print(number)
            like = next((other for other in found if other.match.fits), None)
            if like is not None and (types.needed(number) > common or size > _MORE * least):
                continue
            if prints.get(mark, 1) < _HOPEFUL and common < len(own):
                continue  # the same lines didn't fit, and other defaults won't help
            block = types.block(number)
            if outside and block.older:
                continue
            below, held = views.under(block.older)
            if like is not None and not _has(block, held.templates):
                continue
            if prints.get(mark, 1) < _HOPEFUL:
                missed += [block] * (_has(block, held.templates) and _may_fit(block, held))
                continue
            if not work.allows(len(held.some) + len(block.templates)):
                missed += [block] * _has(block, held.templates)
                break
            one = solve_class(held, block, claims.fields, like, work)
            tries += 1
            if (one is None or not one.match.fits) and common == len(own):
                missed += [block] * (_has(block, held.templates) and _may_fit(block, held))
            if one is None:
                prints[mark] = 0.0
                failed += like is not None
                if failed > _FAILED:
                    break
                continue
            failed = 0
            prints[mark] = one.score
            least = least or size * one.match.fits
            one.canonical = reading if outside else below
            if outside:
                one.score *= len(below.index) / len(reading.index)
                extra = tuple(k for k in reading.index if not k.startswith(literal))
                one.match = replace(one.match, unexpected=(*one.match.unexpected, *extra))
            found.append(one)
    found.sort(key=lambda one: (not one.match.fits, -one.score, *rank(one, claims)))
    return found, missed


def _may_fit(block: Configured, held: StateDict) -> bool:
    """Whether a class that doesn't fit may do so, its rules being doubtful, or knowing a size only
    as one number where the file has another."""
    if block.is_doubtful:
        return True
    for line in block.family.program.lines:
        key = held.templates.get(template_of(line))
        if key is None or key not in held.index or len(held.index[key].shape) != len(line.sizes):
            continue
        for size, number in zip(line.sizes, held.index[key].shape, strict=True):
            if not size.names and size.text.isdigit() and _LARGE <= int(size.text) != number:
                return True
    return False


def _has(block: Configured, present: Mapping[str, str]) -> bool:
    """Whether a file has all key templates that every network of a class has."""
    return block.needed <= present.keys() | {numbered_template(key) for key in block.tied}
