"""The ways of explaining a state dict, in the order in which they are trusted: EXPLAINERS.

Each is a function of the question: what the state dict is, and what was tried before. It yields
explanations, the first of which with all of the file settles the question. A file with a known
network, as most have, is settled by the first two. On the cold path of `archfind guess`.
"""

from __future__ import annotations

import os

from archfind.frozen import replace, row
from archfind.matching import shortlist
from archfind.matching.code_origin import code_of
from archfind.matching.decided import by_code, decided
from archfind.matching.nearest import CLOSE, Fit, is_close, near, other_kernels
from archfind.matching.parts import known_submodules, parts_below
from archfind.matching.registered import compared_signatures, is_whole, with_another_head
from archfind.state_dicts.canonical import strip, training_readings
from archfind.state_dicts.quantised import is_by_torch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from archfind.database.entries import Database
    from archfind.types import Canonical, Guess
    from archfind.work import Work

    Explainer = Callable[["Question"], Iterator["Explanation"]]

_SURE = ("exact", "ambiguous")
_NAMED = 0.9  # of the names of a class of transformers, on both sides, are the whole file's
_NEAR = 2  # compared signatures whose families are tried first


@row
class Explanation:
    """What an explainer says of a state dict: an answer for each network in it by prefix, "" for
    the whole, and the `share` of the state dict, and of the network, that agree. `is_settled`: it's
    the answer to the question. `is_older`: it's of the state dict in today's names."""

    answers: dict[str, Guess]
    share: float = 1.0
    is_settled: bool = True
    is_older: bool = False


class Question:
    """A state dict that is to be explained, and what has been said of it so far. `tries` are its
    readings, each with the signatures compared; `said` what each explainer that settled nothing
    said, in order, and `trace` the same as names: explainer, share, network."""

    __slots__ = ("canonical", "choose", "database", "said", "trace", "tries", "work")

    def __init__(self, canonical: Canonical, database: Database, choose: str, work: Work) -> None:
        self.canonical = canonical
        self.database = database
        self.choose = choose
        self.work = work
        self.tries: list[tuple[Canonical, list[Fit]]] = []
        self.said: list[Explanation] = []
        self.trace: list[tuple[str, float, str]] = []

    def again(self, canonical: Canonical, choose: str | None = None) -> dict[str, Guess]:
        """The answers for another reading, or for a part, of the state dict."""
        chosen = self.choose if choose is None else choose
        return in_state_dict(canonical, self.database, chosen, self.work)

    def best(self) -> tuple[Canonical, list[Fit]]:
        """The reading that a registered network is nearest to."""
        best: tuple[Canonical, list[Fit]] = self.canonical, []
        for reading, fits in self.tries:
            if fits and (not best[1] or fits[0].share > best[1][0].share):
                best = reading, fits
        return best

    def near(self, fits: list[Fit]) -> list[str]:
        """The entries whose families are tried first."""
        return [member.entry.id for fit in fits[:_NEAR] for member in fit.signature.members]

    def close(self) -> list[tuple[float, Guess]]:
        """The answers for the whole that are close, each with its share."""
        whole = [(one.share, one.answers[""]) for one in self.said if not one.is_older]
        return [pair for pair in whole if _is_close(*pair)]

    def nearest(self) -> tuple[float, Guess] | None:
        """The closest of them."""
        return max(self.close(), key=lambda pair: pair[0], default=None)

    def is_cut(self) -> bool:
        """Whether a registered network only has tensors that the file lacks: it's cut from that
        one, not made with other arguments."""
        fits = self.best()[1]
        return bool(fits) and not (fits[0].match.unexpected or fits[0].match.mismatched)


def in_state_dict(
    canonical: Canonical, database: Database, choose: str, work: Work
) -> dict[str, Guess]:
    """The networks in one state dict by prefix; "" for the whole of it. Beyond registered networks
    only as much is tried as the work allows."""
    question = Question(canonical, database, choose, work)
    for explainer in EXPLAINERS:
        for explanation in explainer(question):
            if explanation.is_settled:
                return _with_trace(explanation.answers, question, explainer)
            question.said.append(explanation)
            question.trace.append((explainer.__name__, *_nearest_of(explanation)))
    raise AssertionError("the last explainer always has an answer")


def _with_trace(answers: dict[str, Guess], question: Question, last: Explainer) -> dict[str, Guess]:
    """The answers, that for the whole with what each explainer said of it."""
    whole = answers.get("")
    if whole is None:
        return answers
    names = [explainer.__name__ for explainer in EXPLAINERS]
    said = {name for name, _, _ in question.trace}
    silent = [(n, 0.0, "") for n in names[: names.index(last.__name__)] if n not in said]
    trace = sorted([*question.trace, *silent], key=lambda item: names.index(item[0]))
    best = whole.matches[0].entry.id if whole.matches and whole.status != "unknown" else ""
    trace.append((last.__name__, 1.0 if best else 0.0, best))
    return {**answers, "": replace(whole, explained=tuple(trace))}


def _nearest_of(explanation: Explanation) -> tuple[float, str]:
    """The share and the network of what an explainer said that settled nothing."""
    whole = explanation.answers.get("")
    if whole is None or not whole.matches:
        return 0.0, ""
    return explanation.share, whole.matches[0].entry.id


def _settled(answer: Guess) -> Explanation:
    return Explanation({"": answer})


def quantised(question: Question) -> Iterator[Explanation]:
    """The network that torch quantised, by the tensors that it had before."""
    canonical = question.canonical
    if canonical.quantisation is not None or not is_by_torch(canonical.index):
        return
    from archfind.matching import torch_quantised  # late: of few files

    for plain in torch_quantised.unquantised(canonical, question.database):
        whole = question.again(plain).get("")
        if whole is not None and whole.status in _SURE:

            def of_entry(name: str, plain: Canonical = plain) -> Guess | None:
                return question.again(plain, name).get("")

            yield _settled(
                torch_quantised.guess_with_quantisation(whole, of_entry, question.choose)
            )


def registered(question: Question) -> Iterator[Explanation]:
    """A network that a library offers by name."""
    database, choose, work = question.database, question.choose, question.work
    for reading in training_readings(question.canonical):
        fits = compared_signatures(reading, database)
        question.tries.append((reading, fits))
        whole = [fit for fit in fits if is_whole(fit)]
        if not whole:
            continue
        prefix = whole[0].prefix
        answer = decided(strip(reading, prefix), whole, choose)
        if prefix:
            from archfind.matching.wrapper import with_wrapper  # late: of few files

            answer = with_wrapper(by_code(answer), reading, prefix, database, choose, work)
        yield _settled(answer)


def single_file(question: Question) -> Iterator[Explanation]:
    """A pipeline's networks, each below the prefix that its code gives it."""
    from archfind.matching.single_file import networks_of

    answers = networks_of(question.tries[0][0], question.again)
    if answers:
        yield Explanation(answers)


def model_types(question: Question) -> Iterator[Explanation]:
    """A class of transformers whose rules give every tensor."""
    from archfind.matching.model_types import configured

    for reading, _ in question.tries:
        answer = configured(reading, question.database, question.choose, question.work)
        if answer is not None:
            yield _settled(answer)


def older_names(question: Question) -> Iterator[Explanation]:
    """Any of this for the state dict in today's names, where its names are older; a registered
    network before another one with other arguments."""
    from archfind.state_dicts.older_names import older_readings

    database = question.database
    folder = os.path.dirname(database.path)
    ways = list(older_readings(question.tries[0][0], folder, question.work))
    others: list[dict[str, Guess]] = []
    for way in sorted(ways, key=lambda w: not any(map(is_whole, compared_signatures(w, database)))):
        answers = question.again(way)
        if any(map(_is_misread, answers.values())):
            continue
        if len(answers) == 1 and all(map(_is_fixed, answers.values())):
            yield Explanation(answers, is_older=True)
        others.append(answers)
    for answers in others:
        if any(one.status in _SURE for one in answers.values()):
            yield Explanation(answers, is_older=True)
    for answers in others:
        yield Explanation(answers, 0.0, is_settled=False, is_older=True)


def other_arguments(question: Question) -> Iterator[Explanation]:
    """A library's class with other arguments than a registered network's."""
    from archfind.matching.variants import varied

    for reading, fits in question.tries:
        ids = question.near(fits)
        share, answer = varied(reading, question.database, question.choose, ids, question.work)
        if answer is not None:
            yield Explanation({"": answer}, share, share == 1)


def _with_own_head(question: Question) -> list[tuple[Canonical, list[Fit]]]:
    """The readings that may have a head in rows: not those whose code says that it's one Linear."""
    code = code_of(question.canonical)
    return [] if code is not None and code.head else question.tries


def another_head(question: Question) -> Iterator[Explanation]:
    """A registered network whose last layers are others."""
    for reading, fits in _with_own_head(question):
        answer = with_another_head(reading, fits, question.choose)
        if answer is not None:
            yield _settled(answer)


def other_arguments_and_head(question: Question) -> Iterator[Explanation]:
    """Both at once."""
    from archfind.matching.variant_heads import headed_variant

    database, choose, work = question.database, question.choose, question.work
    for reading, fits in _with_own_head(question):
        answer = headed_variant(reading, database, choose, question.near(fits), work)
        if answer is not None:
            yield _settled(answer)


def other_sizes(question: Question) -> Iterator[Explanation]:
    """A registered network with layers of other sizes each: pruned."""
    from archfind.matching.resized import resized_network

    for reading, _ in question.tries:
        answer = resized_network(reading, question.database, question.choose, question.work)
        if answer is not None:
            yield _settled(answer)


def key_names(question: Question) -> Iterator[Explanation]:
    """A class of transformers by its key names, where its rules don't give every tensor; the
    answer, where it is of the whole file and nothing else is nearer."""
    from archfind.matching.model_types import named_class

    for reading, _ in question.tries:
        share, answer = named_class(reading, question.database, question.choose, question.work)
        if answer is not None:
            yield Explanation({"": answer}, share, answer.status in _SURE)
    nearest, fits = question.nearest(), question.best()[1]
    # What only lacks tensors is cut from the network, not made with other arguments.
    lost = question.is_cut() and nearest is not None and fits[0].share >= nearest[0]
    if nearest and nearest[0] >= _NAMED and nearest[1].matches[0].pretrained and not lost:
        yield _settled(nearest[1])  # what it is made of is said of the class, not of its parts


def renamed_keys(question: Question) -> Iterator[Explanation]:
    """A registered network under other names, told by order and shapes."""
    from archfind.matching.renamed_guess import guess_of_renamed

    is_alone = not question.close()
    for reading, fits in question.tries:
        if is_alone or (fits and fits[0].share >= CLOSE):
            answer = guess_of_renamed(reading, fits, question.database, question.choose)
            if answer is not None:
                yield _settled(answer)


def parts(question: Question) -> Iterator[Explanation]:
    """Known networks within the state dict, or what it is nearest to."""
    from archfind.matching.larger_network import (
        beside_others,
        overlap,
        rest_of,
        under_other_names,
        with_rest,
    )

    database, choose, work = question.database, question.choose, question.work
    best, fits = question.best()
    found: dict[str, list[Fit]] = {}
    for fit in fits:
        others = (prefix for prefix in found if prefix != fit.prefix)
        if fit.match.fits and not any(overlap(fit.prefix, other) for other in others):
            found.setdefault(fit.prefix, []).append(fit)
    order = {p: n for n, p in enumerate(dict.fromkeys(_head(k, found) for k in best.index))}
    guesses = {
        p: by_code(decided(strip(best, p), found[p], choose))
        for p in sorted(found, key=order.__getitem__)
    }
    # Where the nearest is all below one prefix, and there is more, it may stand there otherwise.
    inner = [fits[0].prefix] if fits and fits[0].outside and fits[0].prefix else []
    if not fits or fits[0].share < CLOSE:
        inner += known_submodules(best.index, database)
    for prefix in dict.fromkeys(inner):
        if any(overlap(prefix, other) for other in guesses):
            continue
        part = strip(best, prefix)
        if shortlist.is_nested(part.index, prefix, best.index):
            continue  # all of it was asked about with the whole
        if work.allows_part(len(part.index)):
            guesses.update(parts_below(prefix, question.again(part)))
    guesses.update(beside_others(rest_of(best, guesses), fits, choose))
    rest = rest_of(best, guesses)
    guesses.update(under_other_names(rest, guesses, database, choose, work))
    known = sum(one.status in _SURE for one in guesses.values())
    if known > 1:
        yield Explanation(with_rest(guesses, best))
    nearest = question.nearest()
    is_nearer = nearest is not None and nearest[0] > (fits[0].share if fits else 0.0)
    if nearest is not None and is_nearer and not known and not question.is_cut():
        yield _settled(nearest[1])
    # One known network within an unknown whole is a part of it, not the answer.
    within = with_rest(guesses, best) if guesses else {}
    within = {place.rstrip("."): one for place, one in within.items()}
    answer = replace(near(best, fits, choose, database), parts=within)
    older = [one.answers for one in question.said if one.is_older]
    yield Explanation(max([{"": answer}, *older], key=lambda found: _told(found.get(""))))


EXPLAINERS: tuple[Explainer, ...] = (
    quantised,
    registered,
    single_file,
    model_types,
    older_names,
    other_arguments,
    another_head,
    other_arguments_and_head,
    other_sizes,
    key_names,
    renamed_keys,
    parts,
)


def _told(found: Guess | None) -> tuple[int, int]:
    """How much of a state dict is known: parts, and tensors of the network that it is close to."""
    if found is None:
        return 0, 0
    parts = sum(one.status in _SURE for one in found.parts.values())
    return parts, found.matches[0].matched if found.status == "close" else 0


def _is_misread(found: Guess) -> bool:
    """Whether only a picture that's no square explains older names: it's not these names, then."""
    return any(one.variant is not None and bool(one.variant.oblong) for one in found.matches)


def _is_fixed(found: Guess) -> bool:
    """Whether a library's network fits, and nothing was assumed for it."""
    return found.status in _SURE and not any(one.assumed for one in found.matches)


def _head(key: str, prefixes: Iterable[str]) -> str:
    """The prefix of these that a key has, or ""."""
    return next((prefix for prefix in prefixes if key.startswith(prefix)), "")


def _is_close(share: float, found: Guess) -> bool:
    """A class of transformers is told by its keys, of which it has few in common with another."""
    best = found.matches[0]
    if best.pretrained is not None:
        return not other_kernels(best)
    return share >= CLOSE and is_close(best, found.canonical.index)
