"""How much is proved of a rewrite: the words that settings, jobs and workers share."""

from __future__ import annotations

from enum import StrEnum


class Proof(StrEnum):
    """How a rewrite is proved before it may be committed."""

    COUNTS = "counts"
    FULL = "full"
