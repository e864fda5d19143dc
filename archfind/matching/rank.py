"""Which of several classes that fit is named first: the one with the file's own claim, then that of
a public model, then the type that most public models are of, then the plainest class."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from archfind.evidence.claims import Claims
    from archfind.matching.solved_class import Solved

# Heads with the same tensors, the commonest first.
_HEADS = (
    "Model ForCausalLM ForMaskedLM LMHeadModel ForConditionalGeneration ForPreTraining "
    "ForImageClassification ForSequenceClassification ForCTC ForTokenClassification "
    "ForQuestionAnswering"
).split()


def rank(one: Solved, claims: Claims) -> tuple[object, ...]:
    """Smaller comes first."""
    block = one.block
    ends = _HEADS[1:] if "Head" in block.cls else _HEADS
    head = next((_HEADS.index(end) for end in ends if block.cls.endswith(end)), len(_HEADS))
    return (
        not claims.names(block.type.name, block.cls),
        not one.is_public,
        not one.preset,
        -len(block.type.presets),
        len(block.type.name),
        block.type.name,
        one.stated != block.cls,
        head,
        block.cls,
        block.dialect,
    )
