"""`archfind repair`: what keeps a file from loading strictly, and a copy that does."""

from __future__ import annotations

from archfind.cli.exit_codes import EXIT_ANSWERED, EXIT_EXACT
from archfind.cli.printing import print_answer, print_json, print_lines
from archfind.cli.values import refuse_untrusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

_APPLY = ("allow_fill", "force", "allow_expansion", "code", "trust", "signatures")


def run(arguments: argparse.Namespace) -> int:
    """Say what keeps a file from loading, and write a copy that does; returns the exit code."""
    from archfind.writing import target

    if arguments.out:
        sources = [name for name in (arguments.file, arguments.base, arguments.plan) if name]
        target.refuse_repair(arguments.out, sources, arguments.force)
    from archfind import repair
    from archfind.repair.text import repair_document, repair_lines

    if arguments.plan:
        plan = repair.read_plan(arguments.plan, arguments.file, arguments.base)
    else:
        refuse_untrusted(arguments)
        place = {"code": arguments.code, "trust": arguments.trust}
        place["signatures"] = arguments.signatures
        choice = {"choose": arguments.choose, "part": arguments.part, **place}
        plan = repair.plan(arguments.file, **choice, base=arguments.base or None)
    written = None
    if not arguments.json:
        print_answer(repair_lines(plan, arguments.out))
    if arguments.out:
        options = {name: getattr(arguments, name) for name in _APPLY}
        written = repair.apply(plan, arguments.out, **options)
    if arguments.json:
        print_json(repair_document(plan, written))
    elif written is not None:
        print_lines([f"{written.path}: written"])
        print_lines([f"  {name:<9} {text}" for name, text in written.notes.items()])
    done = written is not None or (plan.complete and not plan.invents)
    return EXIT_EXACT if done else EXIT_ANSWERED
