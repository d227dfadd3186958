"""Z85 text (ZeroMQ RFC 32): four bytes as five printable characters, as deletion vectors use it."""

from __future__ import annotations

import numpy as np

from catalog.errors import CorruptTableError

_ALPHABET = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_CHARACTERS = np.frombuffer(_ALPHABET, np.uint8)
_NO_DIGIT = 255
_DIGITS = np.full(256, _NO_DIGIT, np.uint8)
_DIGITS[_CHARACTERS] = np.arange(85, dtype=np.uint8)
_POWERS = 85 ** np.arange(4, -1, -1, dtype=np.uint64)


def encode(data: bytes) -> str:
    """Return the text of bytes whose number is a multiple of four."""
    words = np.frombuffer(data, ">u4").astype(np.uint64)
    digits = words[:, None] // _POWERS % 85
    return _CHARACTERS[digits.astype(np.intp)].tobytes().decode("ascii")


def decode(text: str) -> bytes:
    """Return the bytes of a text.

    Raises:
        CorruptTableError: it is no Z85.
    """
    try:
        digits = _DIGITS[np.frombuffer(text.encode("ascii"), np.uint8)]
        words = digits.astype(np.uint64).reshape(-1, 5) @ _POWERS
    except ValueError:
        raise _not_z85(text) from None
    if np.any(digits == _NO_DIGIT) or np.any(words > np.uint64(0xFFFFFFFF)):
        raise _not_z85(text)
    return words.astype(">u4").tobytes()


def _not_z85(text: str) -> CorruptTableError:
    return CorruptTableError(f"{text[:40]!r} is no Z85 text")
