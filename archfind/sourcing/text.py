"""The tree and its forwards as Python that imports only torch, in the form of ruff's formatter."""

from __future__ import annotations

from archfind.sourcing.classes import WrittenClass, written_classes
from archfind.sourcing.nodes import WIDTH, Hole, Printer, literal
from archfind.sourcing.parts import ModulePart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_OPEN = "how its modules are called is open"
_TEXT = WIDTH - 4  # of a comment's or docstring's line


def source_text(
    top: ModulePart, symbols: Mapping[str, object], about: Sequence[str], notes: Sequence[str]
) -> str:
    """The whole file: `about` is what its docstring says, `notes` the comment block on top, one
    paragraph each; `symbols` has network-wide settings by name, each with its default as Python
    text, or as a number."""
    written = written_classes(top, symbols)
    body: list[str] = []
    for one in written:
        body += ["", "", *_class(one)]
    lines = ['"""' + (wrapped(about[0], "") or [""])[0]]
    lines += wrapped(about[0], "")[1:]
    for paragraph in about[1:]:
        lines += ["", *(wrapped(paragraph, "") if not paragraph.startswith(" ") else [paragraph])]
    lines += ['"""', ""]
    for note in notes:
        lines += wrapped(note, "# ")
    lines += [""] if notes else []
    lines += _imports("\n".join(body))
    return "\n".join([*lines, *body]) + "\n"


def wrapped(text: str, start: str) -> list[str]:
    """Text in lines of at most the width, each beginning with `start`; a list's lines are moved in
    where they go on."""
    lines: list[str] = []
    line, more = start, start + "  " * text.startswith("- ")
    for word in text.split(" "):
        longer = f"{line} {word}" if line.strip("# ") else f"{line}{word}"
        if len(longer) > _TEXT and line.strip("# "):
            lines.append(line.rstrip())
            longer = more + word
        line = longer
    return [*lines, line.rstrip()]


def _imports(body: str) -> list[str]:
    lines: list[str] = []
    if "OrderedDict(" in body:
        lines.append("from collections import OrderedDict")
    if "Callable[" in body:
        lines.append("from collections.abc import Callable")
    if lines:
        lines.append("")
    if "torch." in body:
        lines.append("import torch")
    lines.append("from torch import Tensor, nn" if "Tensor" in body else "from torch import nn")
    if "F." in body:
        lines.append("from torch.nn import functional as F")
    return lines


def _class(one: WrittenClass) -> list[str]:
    is_module = one.part.is_block
    lines = [f"class {one.name}(nn.{'Module' if is_module else 'Sequential'}):"]
    if one.part.about:
        lines += [f'    """{one.part.about}"""', ""]
    lines += _signature(one.parameters)
    if is_module:
        lines.append("        super().__init__()")
    for (start, node, end), names in zip(one.statements, one.names, strict=True):
        lines += Printer(names).lines(node, 8, start, end)
    if "_extra_state" in one.part.tensors:
        lines += _extra_state(one.part)
    if not is_module:
        return lines
    inputs = "".join(f", {name}: Tensor" for name in one.part.takes)
    lines += ["", *_definition("forward", inputs, one.part.gives)]
    if one.part.forward is None:
        return [*lines, f'        raise NotImplementedError("{_OPEN}")']
    lines += [f"        {line}" for line in one.part.forward]
    for name, arguments, body in one.part.methods:
        lines += ["", f"    def {name}(self, {arguments}:", *(f"        {line}" for line in body)]
    return lines


def _definition(name: str, inputs: str, gives: str) -> list[str]:
    line = f"    def {name}(self{inputs}) -> {gives}:"
    if len(line) <= WIDTH:
        return [line]
    start, end = f"    def {name}(", f"    ) -> {gives}:"
    if len(inputs) + 12 <= WIDTH:
        return [start, f"        self{inputs}", end]
    return [start, *(f"        {word}," for word in f"self{inputs}".split(", ")), end]


def _signature(parameters: Sequence[tuple[str, object]]) -> list[str]:
    words = ["self"]
    for name, default in parameters:
        if name in WIDE:
            kind = WIDE[name]
            words.append(f"{name}: {kind}" + (f" = {default}" if default is not None else ""))
        else:
            kind = f": {type(default).__name__} = {literal(default)}" if default is not None else ""
            words.append(name + kind)
    text = f"    def __init__({', '.join(words)}) -> None:"
    if len(text) <= WIDTH:
        return [text]
    inner = " " * 8 + ", ".join(words)
    if len(inner) <= WIDTH:
        return ["    def __init__(", inner, "    ) -> None:"]
    return ["    def __init__(", *(f"        {word}," for word in words), "    ) -> None:"]


_MAKES = "Callable[[], nn.Module]"
# The types of network-wide settings.
WIDE = {"activation": _MAKES, "final": _MAKES, "gate": _MAKES, "num_heads": "int"}


def _extra_state(part: ModulePart) -> list[str]:
    """A tensor of this name is what torch asks a module's own method for."""
    zeros = Printer({}).flat(Hole(tuple(part.tensors["_extra_state"].shape), ""))
    return [
        "",
        "    def get_extra_state(self) -> Tensor:",
        f"        return torch.zeros({zeros})",
        "",
        "    def set_extra_state(self, state: Tensor) -> None:",
        "        pass",
    ]
