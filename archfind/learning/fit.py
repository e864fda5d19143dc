"""Numbers as expressions of the values that they move with, found from examples.

Each search proposes a text and checks it on every row; the first that holds on all of them is the
simplest one there is in the order of trying: a constant, a value, a multiple, sums of products of
values with small rational factors, then roundings and bounds.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from archfind.classes.expression import parse_expression

Row = Mapping[str, Any]
Numbers = np.ndarray[Any, np.dtype[np.float64]]
Term = tuple[str, Numbers]

_ENOUGH = 10  # different rows, from which every search here would believe what it finds
_SAMPLE = 40  # rows that a proposal is made from; all rows check it
_ROUNDINGS = ("floor", "ceil", "near", "round8", "round16", "round4", "round32", "round2")
_STEPS = {"floor": 1, "ceil": 1, "near": 1, "round2": 2, "round4": 4, "round8": 8, "round16": 16}


def expression_holds(text: str, rows: Sequence[Row], targets: Sequence[int]) -> bool:
    """Whether an expression gives every target."""
    value = parse_expression(text).value
    try:
        return all(value(row) == target for row, target in zip(rows, targets, strict=True))
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return False


class Failed:
    """Searches that found nothing. What can't be said of some rows can't be said of more, as long
    as the same values differ in them: most of a learner's time goes into looking again."""

    def __init__(self) -> None:
        self._many: dict[object, list[frozenset[object]]] = {}
        self._few: set[object] = set()  # refused for being few, maybe: more rows could be enough

    def covers(self, key: object, examples: frozenset[object]) -> bool:
        if (key, examples) in self._few:
            return True
        return any(known <= examples for known in self._many.get(key, ()))

    def add(self, key: object, examples: frozenset[object]) -> None:
        if len(examples) < _ENOUGH:
            self._few.add((key, examples))
        else:
            self._many.setdefault(key, []).append(examples)


def fit(
    rows: Sequence[Row],
    targets: Sequence[int],
    names: Sequence[str],
    pool: Sequence[str] = (),
    quick: bool = False,
    failed: Failed | None = None,
) -> str | None:
    """The simplest expression in `names` (and, as they stand, those of `pool`) that gives every
    target, or None. `quick` leaves out the searches that are long when they find nothing; `failed`
    has those that found nothing before, and gets those that do."""
    first = targets[0]
    if all(target == first for target in targets):
        return str(first)
    for text in pool:
        if expression_holds(text, rows, targets):
            return text
    distinct = _distinct(rows, targets, names)
    if distinct is None:
        return None
    chosen = _spread(list(distinct.values()))
    few = [rows[n] for n in chosen]
    y = np.array([targets[n] for n in chosen], dtype=float)
    columns = _columns(few, names, pool)
    key = quick, tuple(names), tuple([name for name, _ in columns])
    examples = frozenset((values, targets[n]) for values, n in distinct.items())
    if failed is not None and failed.covers(key, examples):
        return None
    end = time.process_time() + (0.15 if quick else 1.5)
    for number, text in enumerate(_proposals(columns, y, quick)):
        if text and expression_holds(text, rows, targets):
            return text
        if number % 20 == 19 and time.process_time() > end:  # the clock is slow to read
            return None
    if failed is not None:
        failed.add(key, examples)
    return None


def _distinct(
    rows: Sequence[Row], targets: Sequence[int], names: Sequence[str]
) -> dict[tuple[object, ...], int] | None:
    """The named values -> the first row that has them; None where another has a different target,
    which no expression can give."""
    seen: dict[tuple[object, ...], int] = {}
    for number, row in enumerate(rows):
        values = tuple([row[name] if name in row else _get(row, name) for name in names])
        first = seen.setdefault(values, number)
        if targets[first] != targets[number]:
            return None
    return seen


def _spread(found: list[int]) -> list[int]:
    """At most `_SAMPLE` of some rows."""
    return found if len(found) <= _SAMPLE else found[:: len(found) // _SAMPLE + 1]


def _get(row: Row, name: str) -> object:
    try:
        return parse_expression(name).value(row)
    except (KeyError, TypeError, ValueError, ArithmeticError, IndexError):
        return None


def _columns(rows: Sequence[Row], names: Sequence[str], pool: Sequence[str]) -> list[Term]:
    """Numeric values by name, those that are the same in all rows left out."""
    found: list[Term] = []
    for name in [*pool[:3], *names]:
        values = [_get(row, name) for row in rows]
        if not all(isinstance(v, int | float) for v in values):
            continue
        try:
            column = np.array(values, dtype=float)
        except OverflowError:  # a power of a leaf that isn't an exponent
            continue
        if (column == column[0]).all() or any((column == c).all() for _, c in found):
            continue
        found.append((name, column))
    return found


def _derived(columns: list[Term]) -> Iterator[Term]:
    """Values made from one or two others that libraries use inside products."""
    for name, column in columns:
        if (column == column.round()).all() and "//" not in name:
            if column.max() <= 64:
                yield f"(2*{name}-1)", 2 * column - 1
            if (name[0] == "{" and column.max() < 12) or (column.max() < 12 and "{" not in name):
                yield f"2**{name}", 2.0**column
    for (one, a), (two, b) in itertools.permutations(columns, 2):
        if b.min() > 0 and a.min() >= 0 and (a == a.round()).all() and (b == b.round()).all():
            quotient = a // b
            if quotient.min() > 0 and not (quotient == quotient[0]).all():
                yield f"({one}//{two})", quotient
                if not (one + two).count("("):
                    yield f"(2*({one}//{two})-1)", 2 * quotient - 1
                if (quotient * b != a).any():
                    yield f"ceil({one}/{two})", np.ceil(a / b)


def _proposals(columns: list[Term], y: Numbers, quick: bool) -> Iterator[str]:
    for name, column in columns:
        if (column == y).all():
            yield name
    base = columns[:9]
    derived = [item for item in _derived(base) if not any((item[1] == c).all() for _, c in base)]
    monomials = _monomials(base, derived[:16])
    one = ("", np.ones(len(y)))
    for rest in ([], [one]):
        yield ""
        for number in _alike(monomials, rest, y):
            yield from _linear([monomials[number], *rest], y)
    few = monomials[: 30 if quick else 60]
    for added in base:
        yield from _sums(few, [added], y, one)
    yield from _rounded(few, y)
    yield from _bounded(base, few, y)
    for added in base:
        yield from _halved(few[:40], added, y)
    for added in itertools.combinations(base, 2):
        yield from _sums(monomials[: 16 if quick else 60], [*added], y, one)
    if quick:
        return
    for number, product in enumerate(few):
        yield from _sums(few[number + 1 :], [product], y, one)


def _sums(products: list[Term], added: list[Term], y: Numbers, one: Term) -> Iterator[str]:
    """y as a sum of one of the products and what is added, and a constant maybe. Which products may
    do is seen for all of them at once: what is left of each and of y beside the rest is alike."""
    yield ""
    found: dict[int, list[list[Term]]] = {}
    for rest in (added, [*added, one]):
        for number in _alike(products, rest, y):
            found.setdefault(number, []).append(rest)
    for number in sorted(found):
        for rest in found[number]:
            yield from _linear([products[number], *rest], y)


def _alike(products: Sequence[Term], rest: Sequence[Term], y: Numbers) -> list[int]:
    if not products or (rest and len(y) < _least(len(rest) + 1)):
        return []
    left, target = np.array([column for _, column in products]), y
    least = 1e-18 * np.einsum("ij,ij->i", left, left)
    if rest:
        fixed = np.linalg.qr(np.array([column for _, column in rest]).T)[0]
        left = left - (left @ fixed) @ fixed.T
        target = y - fixed @ (fixed.T @ y)
    square = np.einsum("ij,ij->i", left, left)
    free = square > least  # else it is the rest's own sum
    factors = np.divide(left @ target, square, out=np.zeros(len(products)), where=free)
    far = abs(left * factors[:, None] - target).max(axis=1)
    return [int(n) for n in np.flatnonzero(free & (far <= 2 * _slack(y)))]


def _least(terms: int) -> int:
    """How many examples a sum of that many terms is believed from."""
    return terms + 2 if terms == 2 else 2 * terms + 2


def _slack(y: Numbers) -> float:
    return 1e-4 * max(1.0, float(abs(y).max()) * 1e-2)


def _halved(products: list[Term], added: Term, y: Numbers) -> Iterator[str]:
    """y as a product and the half of a value, rounded: widths that a transition halves."""
    yield ""
    found: dict[int, list[tuple[str, Numbers]]] = {}
    for rounding, halve in (("floor", np.floor), ("ceil", np.ceil)):
        rest = y - halve(added[1] / 2)
        for number in _alike(products, [], rest):
            found.setdefault(number, []).append((rounding, rest))
    for number in sorted(found):
        for rounding, rest in found[number]:
            for text in _linear([products[number]], rest):
                yield text and f"{text}+{rounding}({added[0]}/2)"


def _monomials(base: list[Term], derived: list[Term]) -> list[Term]:
    """Values, products of two or three, and quotients, the simplest first."""
    found = [*base, *derived]
    quotients = [item for item in derived if "/" in item[0]]
    others = [item for item in derived if "/" not in item[0]]
    atoms = [*quotients, *base, *others]
    pairs = [
        *itertools.combinations_with_replacement(quotients[:8], 2),
        *itertools.combinations_with_replacement(base, 2),
        *itertools.combinations_with_replacement(atoms, 2),
    ]
    for (a, x), (b, y) in pairs:
        found.append((f"{a}*{b}", x * y))
    for (a, x), (b, y) in itertools.permutations(base, 2):
        if (y != 0).all():
            found.append((f"{a}/{b}", x / y))
    if len(base) >= 2:
        for (a, x), (b, y), (c, z) in itertools.permutations(base, 3):
            if a < b and (z != 0).all():
                found.append((f"{a}*{b}/{c}", x * y / z))
        few = (base + derived)[:8]
        for (a, x), (b, y), (c, z) in itertools.combinations_with_replacement(few, 3):
            found.append((f"{a}*{b}*{c}", x * y * z))
    unique: list[Term] = []
    seen: set[bytes] = set()
    for name, column in found:
        if column.tobytes() not in seen and np.isfinite(column).all():
            seen.add(column.tobytes())
            unique.append((name, column))
    return unique


def _linear(terms: list[Term], y: Numbers) -> Iterator[str]:
    """y as a sum of the terms with rational factors; "" where it isn't: time is looked at there."""
    yield ""
    if len(terms) > 1 and len(y) < _least(len(terms)):
        return
    if len(terms) == 1:
        column = terms[0][1]
        if not column[0]:
            return
        factors = np.array([y[0] / column[0]])
        if abs(column * factors[0] - y).max() > 1e-6 * max(1.0, abs(y).max()):
            return
    else:
        matrix = np.stack([column for _, column in terms], axis=1)
        gram = matrix.T @ matrix
        try:
            factors = np.linalg.solve(gram, matrix.T @ y)
        except np.linalg.LinAlgError:
            return
        if not np.isfinite(factors).all():
            return
        if abs(matrix @ factors - y).max() > _slack(y):
            return
    words: list[str] = []
    for (name, _), factor in zip(terms, factors, strict=True):
        rational = Fraction(float(factor)).limit_denominator(64)
        if abs(float(rational) - factor) > 1e-3 * max(1.0, abs(factor)) or not rational:
            return
        if len(terms) > 2 and name and max(abs(rational.numerator), rational.denominator) > 16:
            return  # many terms with odd factors can be drawn through any few points
        words.append(_term(rational, name))
    text = "+".join(words).replace("+-", "-")
    yield text


def _term(factor: Fraction, name: str) -> str:
    if not name:
        return str(factor.numerator) if factor.denominator == 1 else f"{factor}"
    text = name if factor.numerator == 1 else f"{factor.numerator}*{name}"
    if factor == -1:
        text = f"-1*{name}"
    return text if factor.denominator == 1 else f"{text}/{factor.denominator}"


def _rounded(monomials: list[Term], y: Numbers) -> Iterator[str]:
    """y as a product, rounded to a whole number or to a multiple of some step."""
    for name, column in monomials[:60]:
        if (column <= 0).any():
            continue
        yield ""
        for rounding in _ROUNDINGS:
            step = _STEPS.get(rounding, 32)
            if (y % step).any():
                continue
            slack = {"floor": (0, 1), "ceil": (-1, 0), "near": (-0.5, 0.5)}.get(
                rounding, (-step / 2, step * 0.6)
            )
            low, high = ((y + slack[0]) / column).max(), ((y + slack[1]) / column).min()
            if low > high or high <= 0:
                continue
            factor = simplest(max(low, 1e-9), high)
            if factor is not None:
                yield f"{rounding}({_term(factor, name)})"


def simplest(low: float, high: float) -> Fraction | None:
    """The fraction of smallest denominator, up to 64, in an interval; whole numbers first."""
    for denominator in range(1, 65):
        numerator = -int(-low * denominator // 1)
        for n in (numerator, numerator + 1):
            if n > 0 and low <= n / denominator <= high:
                return Fraction(n, denominator)
    return None


def _bounded(base: list[Term], monomials: list[Term], y: Numbers) -> Iterator[str]:
    """y as the smaller or larger of two values, or of a product and a constant."""
    for (one, a), (two, b) in itertools.combinations(base, 2):
        if (np.minimum(a, b) == y).all():
            yield f"min({one},{two})"
        if (np.maximum(a, b) == y).all():
            yield f"max({one},{two})"
    for function, bound in (("max", y.min()), ("min", y.max())):
        free = y != bound
        if free.sum() < 2:
            continue
        products = [(name, column[free]) for name, column in monomials[:40]]
        for text in _sums(products, [], y[free], ("", np.ones(int(free.sum())))):
            yield text and f"{function}({text},{int(bound)})"
