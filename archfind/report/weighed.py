"""What was read from the values of the weights, as a document and as lines of text."""

from __future__ import annotations

from archfind.escape import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from archfind.types import Verdict


def weighed_document(verdict: Verdict) -> dict[str, object]:
    """A verdict by its names in the contract."""
    return {
        "source": "value",
        "statistic": verdict.statistic,
        "place": verdict.place,
        "value": verdict.value,
        "margin": round(verdict.margin, 2),
        "needed": verdict.needed,
    }


def weighed_lines(document: dict[str, Any]) -> list[str]:
    """A line for each verdict: the value, the statistic with its margin, and the tensors."""
    return [
        f"weights   {escape(str(one['value']))}, by {one['statistic']}: "
        f"margin {one['margin']:.3g}, "
        f"{one['needed']:g} needed; {escape(one['place'])}"
        for one in document["weighed"]
    ]
