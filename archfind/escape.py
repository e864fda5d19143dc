"""Foreign text, made fit for one line of a terminal."""

from __future__ import annotations

CLIP = 200
_ZERO_WIDTH_AND_BIDI = frozenset(
    (0x00AD, 0x034F, 0x061C, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2028, 0x2029, 0x3164, 0xFEFF, 0xFFA0)
) | frozenset(
    (
        *range(0x180B, 0x1810),
        *range(0x200B, 0x2010),
        *range(0x202A, 0x202F),
        *range(0x2060, 0x2070),
        *range(0xFFF0, 0xFFFC),
        *range(0x1BCA0, 0x1BCA4),
        *range(0x1D173, 0x1D17B),
    )
)  # what Unicode calls default ignorable, and the marks of notes between lines


def escape(text: str, clip: int = CLIP) -> str:
    """`text` without control, bidirectional or invisible characters, at most `clip` long."""
    clipped = len(text) > clip
    text = visible(text[:clip] if clipped else text)
    return text + "..." if clipped else text


def visible(text: str) -> str:
    """`text` whole, its control, bidirectional and invisible characters written out: what has been
    escaped stays as it is."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_visible, text))


def quoted(path: str) -> str:
    """A path as a shell takes it, for commands that are shown to be pasted."""
    return shell_word(f"./{path}" if path.startswith("-") else path)


def shell_word(text: str) -> str:
    """A word as a shell takes it, quoted where it must be."""
    if text and all(char.isalnum() or char in "@%+=:,./_-" for char in text) and text.isascii():
        return text
    if escape(text, len(text)) == text:
        return "'" + text.replace("'", "'\"'\"'") + "'"
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a pair that no file system gives: only JSON can write it
        data = text.encode("utf-8", "surrogatepass")
    plain = b"@%+=:,./_- ()[]{}"
    shown = (chr(b) if bytes((b,)).isalnum() or b in plain else f"\\x{b:02x}" for b in data)
    return "$'" + "".join(shown) + "'"


def _visible(char: str) -> str:
    code = ord(char)
    if code < 0x20 or 0x7F <= code < 0xA0:
        return f"\\x{code:02x}"
    is_variant = 0xE0000 <= code < 0xE1000 or 0xFE00 <= code < 0xFE10  # or a tag
    if code in _ZERO_WIDTH_AND_BIDI or 0xD800 <= code < 0xE000 or is_variant:
        return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return char
