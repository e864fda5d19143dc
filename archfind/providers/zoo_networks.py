"""The packages of `zoo`, as data. Importing it imports no library.

To add a package: its name on import, what pip calls it, and a row for each network that can be
built without a download. `archfind signatures build PACKAGE` does the rest.
"""

from __future__ import annotations

from archfind.providers.zoo_audio import DEMUCS, ENCODEC, OPENUNMIX, SNAC, TORCHAUDIO
from archfind.providers.zoo_row import Package
from archfind.providers.zoo_vision import (
    EASYOCR,
    FACENET,
    FACEXLIB,
    FACEXLIB_PARTS,
    LPIPS,
    SEGMENT_ANYTHING,
)

_FACEXLIB_OWN = ("facexlib", *(f"facexlib.{part}" for part in FACEXLIB_PARTS))
PACKAGES = {
    "torchaudio": Package("torchaudio", "torchaudio", TORCHAUDIO),
    "facenet_pytorch": Package(
        "facenet_pytorch",
        "facenet-pytorch",
        FACENET,
        ("facenet_pytorch", "facenet_pytorch.models"),
        "--no-deps facenet-pytorch",  # it asks for a torch of 2024
    ),
    "lpips": Package("lpips", "lpips", LPIPS),
    "demucs": Package("demucs", "demucs", DEMUCS),
    "encodec": Package("encodec", "encodec", ENCODEC),
    "snac": Package("snac", "snac", SNAC),
    "openunmix": Package("openunmix", "openunmix", OPENUNMIX, ("openunmix",)),
    "segment_anything": Package("segment_anything", "segment-anything", SEGMENT_ANYTHING),
    "easyocr": Package("easyocr", "easyocr", EASYOCR, ("easyocr",)),
    "facexlib": Package("facexlib", "facexlib", FACEXLIB, _FACEXLIB_OWN),
}
