"""What of foreign text reaches a terminal."""

from __future__ import annotations

import unicodedata

import pytest

from archfind.escape import visible

pytestmark = pytest.mark.light

# Signs that stand before a number, and the joints of hieroglyphs: they are drawn.
_DRAWN = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
_HIEROGLYPHS = {*range(0x13430, 0x13440)}


def test_what_isnt_seen_is_written_out() -> None:
    unseen = {
        code
        for code in range(0x110000)
        if unicodedata.category(chr(code)) in ("Cc", "Cf", "Zl", "Zp", "Cs")
    }
    variants = {*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0), *range(0x180B, 0x1810)}
    fillers = {0x115F, 0x1160, 0x3164, 0xFFA0, 0x034F}
    every = (unseen - _DRAWN - _HIEROGLYPHS) | variants | fillers
    assert not {hex(code) for code in every if visible(chr(code))[0] != "\\"}
