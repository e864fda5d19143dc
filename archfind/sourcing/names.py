"""Names in the source that is written: which of a file's are written as they are."""

from __future__ import annotations

import keyword
import re

from archfind.sourcing.nodes import quoted_name

_LONGEST = 60
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")
# Attributes that every nn.Module has, and what the written source calls by these names.
_TAKEN = frozenset(
    """T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda
    double dump_patches eval extra_repr float forward get_buffer get_extra_state get_parameter
    get_submodule half ipu load_state_dict modules mtia named_buffers named_children named_modules
    named_parameters parameters register_backward_hook register_buffer register_forward_hook
    register_forward_pre_hook register_full_backward_hook register_full_backward_pre_hook
    register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module
    register_parameter register_state_dict_post_hook register_state_dict_pre_hook requires_grad_
    set_extra_state set_submodule share_memory state_dict to to_empty train training type xpu
    zero_grad append extend insert pop keys values items clear update""".split()
)
_CLASSES = frozenset("Tensor Callable Model None True False".split())


def is_plain(name: str) -> bool:
    """Whether a module or tensor of this name is written as an attribute."""
    return (
        len(name) <= _LONGEST
        and _IDENTIFIER.match(name) is not None
        and not keyword.iskeyword(name)
        and name not in _TAKEN
    )


def attribute(name: str, held: str = "_modules") -> str:
    """How a forward calls a module's child or tensor: `self.conv1`, `self._modules["type"]`."""
    return f"self.{name}" if is_plain(name) else f"self.{held}[{quoted_name(name)}]"


def class_name(name: str, parent: str) -> str:
    """A class's name for a block that a file calls `name`: "Encoder", or for number 3 of `blocks`
    "Block"."""
    for word in (name, parent):
        letters = re.sub(r"[^A-Za-z0-9]+", " ", word if len(word) <= _LONGEST else "")
        camel = "".join(part[:1].upper() + part[1:] for part in letters.split())
        camel = re.sub(r"\d+$", "", camel)
        if word is parent:
            camel = camel[:-1] if camel.endswith("s") and not camel.endswith("ss") else camel
        if camel[:1].isalpha():
            return camel + "Part" if camel in _CLASSES or keyword.iskeyword(camel) else camel
    return "Block"


def unused(wanted: str, taken: set[str]) -> str:
    """`wanted`, or it with a number, whichever nothing is called."""
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted}_{number}", number + 1
    return name
