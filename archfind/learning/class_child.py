"""The process in which a user's class is imported and learnt: JSON on stdin, a line of JSON with
what its signature says on stdout.

    python -m archfind.learning.class_child
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from archfind.database.plain import decoded
from archfind.errors import ArchfindError
from archfind.trusted.child import Teller
from archfind.trusted.confined import limited, watched, without_network
from archfind.types import TrustedClass


def learn_asked_class() -> None:
    question = json.loads(sys.stdin.buffer.read())
    teller = Teller()
    silent = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):  # the code's own output is nobody's
        os.dup2(silent, number)
    teller.say(stage="starting", network=not without_network())
    limited()
    from archfind.learning.class_lines import said_of  # torch: of what it does nothing is refused
    from archfind.trusted.imported import error_in_words, imported_class

    watched(os.getcwd(), teller.event)
    teller.say(stage="importing")
    way: dict[str, Any] = {**question["way"], "paths": tuple(question["way"]["paths"])}
    try:
        cls = imported_class(TrustedClass(**way))
        teller.say(stage="probing")
        told = {name: decoded(value) for name, value in question["arguments"].items()}
        teller.say(
            answer=said_of(cls, question["dotted"], question["name"], told, question["seconds"])
        )
    except ArchfindError as error:
        teller.say(refused=error.message)
    except BaseException as error:  # whatever somebody's code raises, SystemExit among it
        teller.say(refused=f"building it failed: {error_in_words(error)}")


if __name__ == "__main__":
    learn_asked_class()
