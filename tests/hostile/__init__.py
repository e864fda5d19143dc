"""Hostile and damaged files over all formats, each with what has to come of it.

The payloads that would run code only leave a file in the folder that ARCHFIND_MARKERS names, or act
on nothing at all. `archfind` must run none of them; the folder stays empty.
"""

from __future__ import annotations

from .archives import ARCHIVES
from .bombs import BOMBS
from .case import Case
from .found import FOUND
from .headers import HEADERS
from .inner import INNER
from .keys import KEYS
from .old_torch import OLD_TORCH
from .onnx_files import ONNX
from .others import OTHERS
from .pickles import PICKLES
from .tricks import TRICKS
from .zips import ZIPS

CASES: list[Case] = [
    *PICKLES,
    *ZIPS,
    *OLD_TORCH,
    *HEADERS,
    *KEYS,
    *ONNX,
    *OTHERS,
    *BOMBS,
    *ARCHIVES,
    *FOUND,
    *INNER,
    *TRICKS,
]
