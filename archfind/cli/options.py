"""Options that several commands share."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def add_signatures(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--signatures", default="", metavar="DIR", help="your own signatures, if not the usual ones"
    )


def add_output(one: argparse.ArgumentParser) -> None:
    one.add_argument("--json", action="store_true", help="one JSON object a file, on one line")
    one.add_argument(
        "--detailed-exit-codes",
        dest="is_detailed",
        action="store_true",
        help="tell ambiguous, close, unknown, unreadable and a missing library apart",
    )


def add_danger(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--fail-on-danger", action="store_true", help="exit 3 where loading the file is dangerous"
    )


def add_choice(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--as", dest="choose", default="", metavar="NAME", help="choose among what fits"
    )
    one.add_argument("--part", default="", help="one of several networks in the file")


def add_code(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--code", default="", metavar="PLACE", help="code with its class; needs --trust, to run it"
    )


def add_expansion(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--allow-expansion", action="store_true", help="let OUT be over 32 times as large as FILE"
    )


def add_settings(one: argparse.ArgumentParser) -> None:
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


def add_export(one: argparse.ArgumentParser) -> None:
    add_expansion(one)
    add_settings(one)
    one.add_argument(
        "--accept-ambiguous", action="store_true", help="take the first that fits, as assumed"
    )
    one.add_argument(
        "--accept-likely",
        action="store_true",
        help="where no library has it, take the module that `source` writes, as likely as it is",
    )
    one.add_argument("--force", action="store_true", help="replace OUT if it exists")
    one.add_argument("--opset", type=int, help="ONNX opset (the exporter's default)")
    one.add_argument("--half", action="store_true", help="float16 inside the .onnx")
    add_code(one)
    one.add_argument(
        "--trust",
        action="store_true",
        help="import that code; without --code, run FILE's TorchScript or torch.export program",
    )
    one.add_argument(
        "--input", dest="inputs", action="append", default=[], metavar="SHAPE",
        help="what a program, class or written module runs on: 1x3x224x224, or 1x128:int64",
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
