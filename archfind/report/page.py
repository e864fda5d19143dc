"""A guess -> one page that needs nothing else: the answer, its evidence, and the module tree.

All that a file says is text in it: escaped in the markup, and in the data of the tree, which the
page's script sets as text alone.
"""

from __future__ import annotations

import json
import os
from html import escape as html_escape
from string import Template

from archfind.escape import escape
from archfind.report.answer import guess_document, guess_lines
from archfind.report.module_tree import tree_with_signatures

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from archfind.types import Guess

_TEMPLATE = os.path.join(os.path.dirname(__file__), "page.html")
_SHOWN = 200  # rows of a table, and keys of a list


def page(guess: Guess, explain: Callable[[str], str]) -> str:
    """The page of an answer. `explain` says by which line of a signature a key of the network is,
    "" for none."""
    document: dict[str, Any] = guess_document(guess)
    lines = guess_lines(document)
    tree = tree_with_signatures(guess.canonical.whole or guess.canonical.index, explain)
    data = json.dumps(tree, separators=(",", ":")).replace("<", "\\u003c")
    body = "".join(_sections(document, lines, tree["left"]))
    with open(_TEMPLATE, encoding="utf-8") as file:
        template = Template(file.read())
    title = f"{_text(os.path.basename(document['path']))}: archfind"
    return template.substitute(title=title, body=body, data=data)


def _text(value: object, clip: int = 2000) -> str:
    return html_escape(escape(str(value), clip))


def _sections(document: dict[str, Any], lines: Sequence[str], left: int) -> Iterable[str]:
    status = document["status"]
    path, _, answer = lines[0].partition(": ")
    yield f"<h1><code>{_text(path)}</code></h1>"
    yield f'<p><span class="status {status}">{status}</span> <b>{_text(answer)}</b></p>'
    if document["danger"]:
        yield _list("Dangers: loading the file by unpickling", document["danger"], "danger")
    yield f"<pre>{chr(10).join(_text(line) for line in lines[1:])}</pre>"
    assumed = [
        [item["place"], item["what"], item["value"], ", ".join(map(str, item["alternatives"]))]
        for item in document["assumed"]
    ]
    yield _table("Assumed: what no tensor shows", ("place", "what", "value", "or"), assumed)
    config = [[k, s["value"], s["source"]] for k, s in document["config"].items()]
    yield _table("Config", ("name", "value", "from"), config)
    yield _table("What was done to the keys", ("step", "detail"), document["steps"])
    weighed = [[one["place"], one["value"], one["statistic"]] for one in document["weighed"]]
    yield _table("What the weights show", ("tensors", "value", "statistic"), weighed)
    yield _candidates(document)
    keys = document["keys"]
    for kind in ("missing", "unexpected") if keys else ():
        yield _list(f"{kind.capitalize()} keys", keys[kind])
    wrong = [[one["key"], one["found"], one["expected"]] for one in keys.get("mismatched", ())]
    yield _table("Mismatched", ("key", "in the file", "expected"), wrong)
    parts = [
        [name or "the whole", one["status"], one["architecture"] or one["described"] or ""]
        for name, one in document["parts"].items()
    ]
    yield _table("Networks in the file", ("part", "status", "network"), parts)
    yield _list("Warnings", document["warnings"])
    if left:
        yield f"<p>The tree has no room for {left:,} tensors more.</p>"


def _candidates(document: dict[str, Any]) -> str:
    """What was compared, and why it isn't the answer, or isn't the only one."""
    rows = [
        [
            f"{one['provider']}/{one['architecture']}",
            f"{one['matched']} of {one['expected']}",
            *(one[kind] for kind in ("missing", "unexpected", "mismatched")),
            "; ".join(one["reasons"]),
        ]
        for one in document["candidates"]
    ]
    rows += [
        [
            f"{twin['provider']}/{twin['architecture']}",
            "all",
            0,
            0,
            0,
            "the same function"
            if twin["same_function"]
            else f"the same tensors, but {twin.get('differs') or 'another function'}",
        ]
        for twin in document["twins"]
    ]
    heads = ("network", "tensors that fit", "missing", "unexpected", "mismatched", "why")
    return _table("Candidates, and why not", heads, rows)


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    if not rows:
        return ""
    mark = ' class="assumed"' if title.startswith("Assumed") else ""
    top = "".join(f'<th scope="col">{head}</th>' for head in heads)
    body = "".join(
        f"<tr>{''.join(f'<td>{_text(cell, 400)}</td>' for cell in row)}</tr>"
        for row in rows[:_SHOWN]
    )
    more = f"<p>and {len(rows) - _SHOWN:,} more</p>" if len(rows) > _SHOWN else ""
    table = f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
    return f"<section{mark}><h2>{title}</h2>{table}{more}</section>"


def _list(title: str, items: Sequence[str], mark: str = "") -> str:
    if not items:
        return ""
    body = "".join(f"<li><code>{_text(item, 400)}</code></li>" for item in items[:_SHOWN])
    more = f"<p>and {len(items) - _SHOWN:,} more</p>" if len(items) > _SHOWN else ""
    return f'<section class="{mark}"><h2>{title}</h2><ul>{body}</ul>{more}</section>'
