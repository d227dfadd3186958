"""Makes the standard streams fit for whatever is printed: closed ones, those short of letters."""

from __future__ import annotations

import codecs
import os
import sys
from typing import TextIO, cast

# What our own texts have beyond ASCII, for terminals and pipes that cannot show it.
_PLAIN = {"→": "->", "…": "...", "·": "-"}
_ERRORS = "compactor.plain"


def prepare_streams() -> None:
    """Open what the caller closed, and replace letters that a stream has no code for.

    A closed descriptor would be given to the next file that is opened, such as the job store, and
    then be printed to.
    """
    _open_closed_descriptors()
    codecs.register_error(_ERRORS, _plain)
    for stream in (sys.stdout, sys.stderr):
        # In tests and embedded in other programs the streams may be anything.
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors=_ERRORS)


def _open_closed_descriptors() -> None:
    sys.stdin = sys.stdin or _opened(0, os.O_RDONLY, "r")
    sys.stdout = sys.stdout or _opened(1, os.O_WRONLY, "w")
    sys.stderr = sys.stderr or _opened(2, os.O_WRONLY, "w")


def _opened(descriptor: int, flags: int, mode: str) -> TextIO:
    """Put the null device where a standard stream was closed."""
    null = os.open(os.devnull, flags)
    if null != descriptor:
        os.dup2(null, descriptor)
        os.close(null)
    return cast(TextIO, os.fdopen(descriptor, mode, encoding="utf-8", closefd=False))


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    return "".join(_PLAIN.get(letter, "?") for letter in lost), error.end
