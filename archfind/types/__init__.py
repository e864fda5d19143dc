"""What flows through archfind: each box is made by one module and never edited afterwards.

path -> Checkpoint -> Canonical -> Guess -> Built -> Exported
"""

from __future__ import annotations

from archfind.types.answers import Choice, CodeClass, Guess, Kind, Match
from archfind.types.files import NOTHING, Checkpoint, Piece, Quantiser, Storage, TensorSpec
from archfind.types.networks import (
    USERS,
    Assumed,
    Entry,
    Head,
    HeadLayer,
    Mismatch,
    Pretrained,
    Record,
    Setting,
    TrustedClass,
    Twin,
    Variant,
    Verdict,
)
from archfind.types.outputs import Built, Exported, Output
from archfind.types.sources import Source, Unseen
from archfind.types.state_dicts import Canonical, Quantisation, Step

__all__ = [
    "NOTHING",
    "USERS",
    "Assumed",
    "Built",
    "Canonical",
    "Checkpoint",
    "Choice",
    "CodeClass",
    "Entry",
    "Exported",
    "Guess",
    "Head",
    "HeadLayer",
    "Kind",
    "Match",
    "Mismatch",
    "Output",
    "Piece",
    "Pretrained",
    "Quantisation",
    "Quantiser",
    "Record",
    "Setting",
    "Source",
    "Step",
    "Storage",
    "TensorSpec",
    "TrustedClass",
    "Twin",
    "Unseen",
    "Variant",
    "Verdict",
]
