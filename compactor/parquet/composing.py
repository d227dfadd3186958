"""Carry out a splice inside an object store: it copies the ranges, we send what is new.

The output begins like its first source, so that a first range from behind the magic is taken from
byte 0, magic and all. Once the object is there, its end and a page of every source are read back:
a store that copies other bytes than it was asked for must not get away with it.
"""

from __future__ import annotations

from collections.abc import Iterator

from catalog.location import Location
from catalog.storage import Storage
from catalog.storage.parts import CopiedPart, NewPiece, Piece, Source, StoredPiece, plan_parts
from compactor.parquet.checking import check_copies, check_end
from compactor.parquet.footer import MAGIC
from compactor.parquet.splice import SplicePlan


def compose_splice(storage: Storage, plan: SplicePlan, tail: bytes, target: Location) -> int:
    """Let the store make the file of a plan; return how many bytes of it the store copied.

    Args:
        storage: where sources and target are.
        plan: the layout.
        tail: what follows the copied ranges.
        target: an unused name.

    Raises:
        NotComposableError: the store does not do that; nothing was stored.
        CorruptTableError: a source has been replaced; it is named.
        VerificationError: the store has copied other bytes; nothing is left of them.
    """
    parts = plan_parts(list(pieces(plan, tail)))
    storage.compose(target, parts)
    with storage.removed_on_failure([target]):
        check_end(storage, plan, tail, target)
        check_copies(storage, plan, target)
    return sum(part.length for part in parts if isinstance(part, CopiedPart))


def pieces(plan: SplicePlan, tail: bytes) -> Iterator[Piece]:
    """Yield what the file of a plan is made of, in its order."""
    sources = versions(plan)
    first = plan.copies[0] if plan.copies else None
    is_like_first = first is not None and first.offset == len(MAGIC)
    if not is_like_first:
        yield NewPiece(MAGIC)
    for one in plan.copies:
        # Both begin behind the magic: the range is made longer by it.
        lead = len(MAGIC) if is_like_first and one is first else 0
        yield StoredPiece(sources[one.source], one.offset - lead, one.length + lead)
    yield NewPiece(tail)


def versions(plan: SplicePlan) -> list[Source]:
    """Return the sources of a plan as they were when their footers were read."""
    footers = [one.footer for one in plan.sources]
    return [Source(one.location, one.size_bytes, one.etag) for one in footers]
