"""The source for a state dict whose keys are no tree that Python could hold: one class that has the
tensors by their whole names."""

from __future__ import annotations

from archfind.sourcing.nodes import literal, quoted_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from archfind.types import TensorSpec

_CLASS = '''
class Model(nn.Module):
    """The tensors, each under its whole name."""

    def __init__(self) -> None:
        super().__init__()
        for number, shape in enumerate(SHAPES.values()):
            self.register_buffer(f"tensor_{number}", torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError("how its modules are called is open")

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        for number, key in enumerate(SHAPES):
            destination[prefix + key] = self.get_buffer(f"tensor_{number}")

    def _load_from_state_dict(
        self, state_dict, prefix, local_metadata, strict, missing, unexpected, errors
    ):
        for number, key in enumerate(SHAPES):
            if prefix + key not in state_dict:
                missing.append(prefix + key)
            elif state_dict[prefix + key].shape != SHAPES[key]:
                errors.append(f"size mismatch for {key}")
            else:
                setattr(self, f"tensor_{number}", state_dict[prefix + key])
        if strict:
            unexpected += [key for key in state_dict if key not in SHAPES]
'''


def flat_text(index: Mapping[str, TensorSpec], about: str) -> str:
    """The whole file, for the tensors of `index`."""
    rows = [f"    {quoted_name(key)}: {literal(tuple(spec.shape))}," for key, spec in index.items()]
    start = f'"""{about}"""\n\nimport torch\nfrom torch import Tensor, nn\n\nSHAPES = {{\n'
    return start + "\n".join(rows) + "\n}\n\n" + _CLASS
