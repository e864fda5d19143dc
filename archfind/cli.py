"""The command line: the only file that prints or exits."""

from __future__ import annotations

import argparse
import sys

from archfind import streams
from archfind.errors import (
    ArchfindError,
    BuildError,
    CheckpointError,
    CodeError,
    ExportError,
)
from archfind.internal_errors import OwnErrors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn, TextIO

    from archfind.scan.rows import Row
    from archfind.types import Guess

EXIT_EXACT, EXIT_ANSWERED, EXIT_FAILED, EXIT_DANGER, EXIT_INTERRUPTED = 0, 1, 2, 3, 130
EXIT_PARTIAL = 4
_EXIT_CODES = """exit codes: 0 exact, certain, or done; 1 answered, but not exact; 2 refused or
failed, also where standard output is full or nobody reads it any more; 3 dangerous, with
--fail-on-danger; 4 a source that is partial; 130 interrupted. A signal such as SIGTERM ends
archfind as it ends any program (128 and its number)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the return value is the exit code."""
    streams.prepare()
    try:
        arguments = parser().parse_args(argv)
        with OwnErrors(getattr(arguments, "file", "")):
            return arguments.run(arguments)
    except ArchfindError as error:
        return _fail(error)
    except KeyboardInterrupt:
        _fail(ArchfindError("interrupted"))
        return EXIT_INTERRUPTED


class _Help(argparse.HelpFormatter):
    """Of a fixed width: asking for the terminal's imports shutil, at every start, for help that is
    rarely shown."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=100)


class _Parser(argparse.ArgumentParser):
    """Its errors quote arguments, and those can be names of files."""

    def error(self, message: str) -> NoReturn:
        from archfind.escape import escape

        super().error(escape(message))

    def _print_message(self, message: str, file: Any = None) -> None:
        _put(file or sys.stderr, message)


def parser() -> argparse.ArgumentParser:
    """Every command with its help."""
    from archfind.version import VERSION

    top = _Parser(
        prog="archfind",
        formatter_class=_Help,
        description="Name the network of a bare checkpoint, build it, load it strictly, export it.",
        epilog=_EXIT_CODES,
    )
    top.add_argument("--version", action="version", version=f"archfind {VERSION}")
    # With `prog` given, argparse needn't format a usage line, for which it would import shutil.
    commands = top.add_subparsers(metavar="COMMAND", required=True, prog="archfind")

    def add(name: str, help: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=help, description=help, formatter_class=_Help)

    one = add("guess", help="which network is this")
    one.add_argument("files", nargs="+", metavar="FILE")
    _add_output(one)
    _add_choice(one)
    _add_settings(one)
    one.add_argument(
        "--search", action="store_true", help="where nothing fits, build classes until one does"
    )
    one.add_argument(
        "--code",
        default="",
        metavar="PLACE",
        help="find its class in a folder, Python file, wheel or package, which is read, not run",
    )
    one.add_argument(
        "--trust",
        action="store_true",
        help="import that code, in a process apart, to prove a class",
    )
    one.add_argument("-q", "--quiet", action="store_true", help="the first line only")
    one.add_argument("-v", "--verbose", action="store_true", help="what was tried, and the counts")
    _add_danger(one)
    one.set_defaults(run=_guess)

    one = add("scan", help="many files: a table of what each is, and what they have in common")
    one.add_argument("places", nargs="+", metavar="PLACE", help="files, and folders with all below")
    one.add_argument("-o", "--out", default="", help="a table: .jsonl, .csv, .parquet or .html")
    one.add_argument("--force", action="store_true", help="replace OUT if it exists")
    one.add_argument("--hash", action="store_true", help="read all bytes, to tell copies")
    one.add_argument("--jobs", type=int, default=0, metavar="N", help="processes (one a core)")
    one.add_argument("--no-cache", action="store_true", help="read files again that were known")
    _add_danger(one)
    one.set_defaults(run=_scan)

    one = add("inspect", help="what is in the file, whatever network it is")
    one.add_argument("files", nargs="+", metavar="FILE")
    _add_output(one)
    _add_danger(one)
    one.set_defaults(run=_inspect)

    one = add("export", help="write .onnx (loaded strictly), .safetensors or .pth (copied)")
    one.add_argument("file", metavar="FILE")
    one.add_argument("out", metavar="OUT")
    _add_output(one)
    _add_choice(one)
    _add_export(one)
    one.set_defaults(run=_export)

    one = add("source", help="a readable nn.Module for a network that no library has")
    one.add_argument("file", metavar="FILE")
    one.add_argument("-o", "--out", default="", help="write it there (model.py); else it is shown")
    one.add_argument("--part", default="", help="one of several networks in the file")
    one.add_argument("--force", action="store_true", help="replace OUT if it exists")
    _add_output(one)
    _add_settings(one)
    one.set_defaults(run=_source)

    one = add("repair", help="what keeps it from loading strictly, and a fixed copy")
    one.add_argument("file", metavar="FILE")
    one.add_argument("-o", "--out", default="", help="write the fixed copy (.safetensors, .pth)")
    one.add_argument("--allow-fill", action="store_true", help="invent weights that are missing")
    _add_expansion(one)
    one.add_argument("--plan", default="", metavar="JSON", help="do the edits of this plan instead")
    one.add_argument("--base", default="", metavar="FILE", help="what an adapter is merged into")
    one.add_argument("--force", action="store_true", help="replace OUT if it exists")
    _add_code(one)
    one.add_argument("--trust", action="store_true", help="import that code")
    _add_output(one)
    _add_choice(one)
    one.set_defaults(run=_repair)

    one = add("signatures", help="the database: list, show, build, families, check, compile")
    one.add_argument(
        "action",
        choices=("list", "show", "build", "families", "check", "compile"),
        help="list the entries; show the tensors of one; build a provider's entries anew; learn "
        "the families of classes; check a sample against the libraries; compile the index",
    )
    one.add_argument("names", nargs="*", metavar="NAME", help="an entry, or a provider to build")
    one.add_argument("--sample", type=int, default=30, metavar="N", help="check: how many (0: all)")
    one.add_argument("--seed", type=int, default=0, help="check: which sample")
    one.add_argument(
        "--only", default="", metavar="WORD", help="families: classes with it; build: types"
    )
    one.add_argument("--again", action="store_true", help="learn anew, keep the best")
    one.set_defaults(run=_signatures)

    one = add("demo", help="the whole way on a small trained checkpoint")
    one.add_argument("--folder", default="archfind-demo", help="where to write (archfind-demo)")
    one.set_defaults(run=_demo)
    return top


def _add_output(one: argparse.ArgumentParser) -> None:
    one.add_argument("--json", action="store_true", help="one JSON object a file, on one line")


def _add_danger(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--fail-on-danger", action="store_true", help="exit 3 where loading the file is dangerous"
    )


def _add_choice(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--as", dest="choose", default="", metavar="NAME", help="choose among what fits"
    )
    one.add_argument("--part", default="", help="one of several networks in the file")


def _add_code(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--code", default="", metavar="PLACE", help="code with its class; needs --trust, to run it"
    )


def _add_expansion(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--allow-expansion", action="store_true", help="let OUT be over 32 times as large as FILE"
    )


def _add_settings(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="PLACE=VALUE",
        help="tell what is assumed, as in fc.1=gelu",
    )
    one.add_argument(
        "--no-values", action="store_true", help="decide nothing by the values of the weights"
    )


def _add_export(one: argparse.ArgumentParser) -> None:
    _add_expansion(one)
    _add_settings(one)
    one.add_argument(
        "--accept-ambiguous", action="store_true", help="take the first that fits, as assumed"
    )
    one.add_argument("--force", action="store_true", help="replace OUT if it exists")
    one.add_argument("--opset", type=int, help="ONNX opset (the exporter's default)")
    one.add_argument("--half", action="store_true", help="float16 inside the .onnx")
    _add_code(one)
    one.add_argument(
        "--trust",
        action="store_true",
        help="import that code; without --code, run FILE's TorchScript or torch.export program",
    )
    one.add_argument(
        "--input", dest="inputs", action="append", default=[], metavar="SHAPE",
        help="what a trusted program or class runs on: 1x3x224x224, or 1x128:int64",
    )  # fmt: skip
    one.add_argument(
        "--dtype", default="", metavar="fp16|bf16|fp32", help="cast floats (.safetensors, .pth)"
    )
    one.add_argument(
        "--max-shard-size", default="", metavar="SIZE", help="several files of up to 5GB, say"
    )
    one.add_argument(
        "--keep-unchecked", action="store_true", help="keep OUT though its check failed"
    )


def _guess(arguments: argparse.Namespace) -> int:
    from archfind import guess
    from archfind.report.answer import guess_document, guess_lines

    codes: list[int] = []
    for path in arguments.files:
        try:
            with OwnErrors(path) as own:
                found: Guess = guess(
                    path,
                    choose=arguments.choose,
                    part=arguments.part,
                    search=arguments.search,
                    settings=_settings(arguments.settings),
                    code=arguments.code,
                    values=not arguments.no_values,
                    trust=arguments.trust,
                )
                own.checkpoint = found.canonical.checkpoint
                is_brief = arguments.quiet and not arguments.json
                document = guess_document(found, is_brief=is_brief)
                lines = (
                    _json(document)
                    if arguments.json
                    else guess_lines(document, quiet=arguments.quiet, verbose=arguments.verbose)
                )
        except ArchfindError as error:
            codes.append(_refused(path, error, arguments))
            continue
        _print(lines)
        if not arguments.json:
            _print_danger(found.canonical.checkpoint.path, found.canonical.checkpoint.danger)
        danger = arguments.fail_on_danger and found.canonical.checkpoint.danger
        codes.append(EXIT_DANGER if danger else int(found.status != "exact"))
    return max(codes)


def _scan(arguments: argparse.Namespace) -> int:
    from archfind.scan import scan
    from archfind.scan.rows import row_line

    if arguments.jobs < 0:
        raise ArchfindError(f"--jobs is a number of processes, not {arguments.jobs}")

    def show(row: Row) -> None:
        if not arguments.out:
            _print([row_line(row)])

    summary = scan(
        arguments.places,
        arguments.out,
        show=show,
        force=arguments.force,
        jobs=arguments.jobs,
        is_hashed=arguments.hash,
        is_cached=not arguments.no_cache,
    )
    _print(summary.lines())
    return EXIT_DANGER if arguments.fail_on_danger and summary.dangerous else EXIT_EXACT


def _inspect(arguments: argparse.Namespace) -> int:
    from archfind import formats
    from archfind.report.inspection import inspect_document
    from archfind.report.inspection_text import inspect_lines

    codes: list[int] = []
    for path in arguments.files:
        try:
            with OwnErrors(path) as own:
                checkpoint = own.checkpoint = formats.open(path)
                document = inspect_document(checkpoint)
                lines = _json(document) if arguments.json else inspect_lines(document)
        except ArchfindError as error:
            codes.append(_refused(path, error, arguments))
            continue
        _print(lines)
        if not arguments.json:
            _print_danger(path, checkpoint.danger)
        danger = arguments.fail_on_danger and checkpoint.danger
        codes.append(EXIT_DANGER if danger else EXIT_EXACT)
    return max(codes)


def _export(arguments: argparse.Namespace) -> int:
    from archfind import guess
    from archfind.matching.assumed import settled
    from archfind.writing import target

    if arguments.trust and not arguments.code:
        return _export_program(arguments)
    if arguments.inputs and not arguments.trust:
        raise ExportError("--input is for a program that --trust runs", arguments.out)
    _refuse_untrusted(arguments)
    settings = _settings(arguments.settings)
    options: dict[str, Any] = {
        "force": arguments.force,
        "opset": arguments.opset,
        "half": arguments.half,
        "dtype": arguments.dtype,
        "max_shard_size": _size(arguments.max_shard_size),
    }
    target.refuse_export(arguments.out, [arguments.file], copied=not settings, **options)
    from archfind import exporters
    from archfind.report.answer import export_document, export_lines, guess_document, guess_lines

    values = not arguments.no_values
    choice = {"choose": arguments.choose, "part": arguments.part, "code": arguments.code}
    found = guess(arguments.file, **choice, trust=arguments.trust, values=values)
    target.refuse_network(found, arguments.out)
    copied = exporters.copies(arguments.out) and not settings
    graph = found.canonical.checkpoint.format == "onnx"
    if not graph and (not copied or not exporters.convertible(found, arguments.choose)):
        trusted = bool(found.matches) and found.matches[0].trusted is not None
        found = found if trusted else guess(found, choose=arguments.choose, search=True)
    found, _ = settled(found, settings)  # told before it is shown; told again, it is the same
    if not arguments.json:
        _print(guess_lines(guess_document(found)))
        _print_danger(arguments.file, found.canonical.checkpoint.danger)
    from archfind import export

    exported = export(
        found,
        arguments.out,
        choose=arguments.choose,
        settings=settings,
        accept_ambiguous=arguments.accept_ambiguous,
        keep_unchecked=arguments.keep_unchecked,
        allow_expansion=arguments.allow_expansion,
        inputs=arguments.inputs,
        **options,
    )
    if arguments.json:
        _print_json(export_document(exported))
    else:
        _print(export_lines(exported))
    return EXIT_EXACT


def _refuse_untrusted(arguments: argparse.Namespace) -> None:
    """Code that a network is to be built of runs, which only --trust allows."""
    if arguments.code and not arguments.trust:
        text = "building a class of --code runs that code; add --trust if you trust it"
        raise CodeError(text, arguments.code)


def _export_program(arguments: argparse.Namespace) -> int:
    from archfind import export_program

    if arguments.settings or arguments.dtype or arguments.max_shard_size:
        text = "--set, --dtype and --max-shard-size are not for a program that --trust runs"
        raise ExportError(text, arguments.out)
    exported = export_program(
        arguments.file,
        arguments.out,
        inputs=arguments.inputs,
        force=arguments.force,
        opset=arguments.opset,
        keep_unchecked=arguments.keep_unchecked,
        half=arguments.half,
        allow_expansion=arguments.allow_expansion,
    )
    from archfind.report.answer import export_document, export_lines

    if arguments.json:
        _print_json(export_document(exported))
    else:
        _print(export_lines(exported))
    return EXIT_EXACT


_APPLY = ("allow_fill", "force", "allow_expansion", "code", "trust")


def _repair(arguments: argparse.Namespace) -> int:
    from archfind.writing import target

    if arguments.out:
        sources = [name for name in (arguments.file, arguments.base, arguments.plan) if name]
        target.refuse_repair(arguments.out, sources, arguments.force)
    from archfind import repair
    from archfind.repair.text import repair_document, repair_lines

    if arguments.plan:
        plan = repair.read_plan(arguments.plan, arguments.file, arguments.base)
    else:
        _refuse_untrusted(arguments)
        place = {"code": arguments.code, "trust": arguments.trust}
        choice = {"choose": arguments.choose, "part": arguments.part, **place}
        plan = repair.plan(arguments.file, **choice, base=arguments.base or None)
    written = None
    if not arguments.json:
        _print(repair_lines(plan, arguments.out))
    if arguments.out:
        options = {name: getattr(arguments, name) for name in _APPLY}
        written = repair.apply(plan, arguments.out, **options)
    if arguments.json:
        _print_json(repair_document(plan, written))
    elif written is not None:
        _print([f"{written.path}: written"])
        _print([f"  {name:<9} {text}" for name, text in written.notes.items()])
    done = written is not None or (plan.complete and not plan.invents)
    return EXIT_EXACT if done else EXIT_ANSWERED


def _source(arguments: argparse.Namespace) -> int:
    from archfind import source
    from archfind.report.source import source_document, source_lines, write_source

    with OwnErrors(arguments.file):
        written = source(
            arguments.file, settings=_settings(arguments.settings), part=arguments.part
        )
    if arguments.out:
        write_source(written, arguments.out, force=arguments.force)
    if arguments.json:
        _print_json(source_document(written, arguments.out))
    elif arguments.out:
        _print(source_lines(written, arguments.out))
    else:
        _print(written.text.splitlines())
    return {"certain": EXIT_EXACT, "likely": EXIT_ANSWERED}.get(written.grade, EXIT_PARTIAL)


def _signatures(arguments: argparse.Namespace) -> int:
    from archfind.learning import commands as commands

    if arguments.action == "list":
        _print(commands.list_lines(arguments.names))
    elif arguments.action == "show":
        _print(commands.show_lines(arguments.names))
    elif arguments.action == "compile":
        _print(commands.compile_lines())
    elif arguments.action == "build":
        lines, failed = commands.build_lines(arguments.names, arguments.only, arguments.again)
        _print(lines)
        return EXIT_FAILED if failed else EXIT_EXACT
    elif arguments.action == "families":
        _print(commands.families_lines(arguments.names, arguments.only, arguments.again))
    elif arguments.sample < 0:
        raise ArchfindError(f"--sample wants a number of entries, not {arguments.sample}")
    else:
        lines, failed = commands.check_lines(arguments.names, arguments.sample, arguments.seed)
        _print(lines)
        return EXIT_FAILED if failed else EXIT_EXACT
    return EXIT_EXACT


def _demo(arguments: argparse.Namespace) -> int:
    from archfind.demo import write_checkpoint

    path, out = write_checkpoint(arguments.folder)
    _print([f"$ archfind export {path} {out}"])
    return _export(parser().parse_args(["export", path, out, "--force"]))


def _size(text: str) -> int:
    """Bytes of "5GB" or "700MB", as the hub's libraries count them: in thousands."""
    number, unit = text.rstrip("bB"), 1
    for letter, factor in (("k", 10**3), ("m", 10**6), ("g", 10**9), ("t", 10**12)):
        if number[-1:].lower() == letter:
            number, unit = number[:-1], factor
    try:
        size = float(number) * unit if number else 0
    except ValueError:
        size = -1
    if not (1 <= size < 2**63 or not text):
        raise ExportError(f"--max-shard-size wants a size like 5GB, not {text!r}")
    return int(size)


def _settings(pairs: list[str]) -> dict[str, object]:
    found: dict[str, object] = {}
    if not pairs:
        return found
    import ast  # late: it takes as long as a file's keys

    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name or name != "".join(name.split()):
            raise BuildError(f"--set wants PLACE=VALUE, not {pair!r}")
        try:
            found[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            found[name] = text  # no literal, or one that Python can't make: a word
    return found


def _print(lines: list[str]) -> None:
    """Lines for a terminal: whatever a file says, it stays within its line."""
    from archfind.escape import visible

    _put(sys.stdout, "\n".join(map(visible, lines)) + "\n")


def _json(document: object) -> list[str]:
    import json

    try:
        text = json.dumps(document, allow_nan=False)
    except ValueError:  # JSON has no NaN, and checkpoints do: a loss that diverged
        text = json.dumps(_finite(document))
    return [text.replace("\x7f", "\\u007f")]


def _print_json(document: object) -> None:
    _print(_json(document))


def _finite(value: object) -> object:
    """The document with words for the numbers that JSON hasn't."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return str(value) if isinstance(value, float) and value - value != 0 else value


def _put(stream: TextIO, text: str) -> None:
    """Print `text`. Where nothing can be printed, an answer is of no use: the process ends."""
    error = streams.write(stream, text)
    if error is None or stream is sys.stderr:
        return
    if not isinstance(error, BrokenPipeError):  # there (`| head`) nothing is wrong
        _fail(ArchfindError(f"standard output: {error.strerror}"))
    raise SystemExit(EXIT_FAILED)


def _print_danger(path: str, danger: tuple[str, ...]) -> None:
    from archfind.escape import escape

    for line in danger:
        advice = (
            "archfind did not run it. Do not load it; ask for a .safetensors."
            if "would call" in line or "would import" in line
            else "Loaders that believe it may crash."
        )
        _put(sys.stderr, f"{escape(path)}: DANGER: {line}. {advice}\n")


def _refused(path: str, error: ArchfindError, arguments: argparse.Namespace) -> int:
    """Says why a file of several can't be read; the others are read all the same."""
    from archfind.report.answer import error_document

    code = _fail(error, error_document(path, error) if arguments.json else None)
    dangerous = arguments.fail_on_danger and isinstance(error, CheckpointError) and error.danger
    return EXIT_DANGER if dangerous else code


def _fail(error: ArchfindError, document: object = None) -> int:
    from archfind.escape import escape, visible

    if document is not None:
        _print_json(document)
    where = f"{escape(error.path)}: " if error.path else "archfind: "
    _put(sys.stderr, f"{where}error: {visible(error.message)}\n")
    return EXIT_FAILED
