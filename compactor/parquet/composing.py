"""Carry out a splice inside an object store: it copies the ranges, we send what is new.

The output begins like its first source, so that a first range from behind the magic is taken from
byte 0, magic and all. Once the object is there, its end and a page of every source are read back:
a store that copies other bytes than it was asked for must not get away with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from zlib import crc32

from catalog.errors import CatalogError, CorruptTableError
from catalog.location import Location
from catalog.storage import Storage
from catalog.storage.parts import CopiedPart, NewPiece, Piece, Source, StoredPiece, plan_parts
from compactor.errors import VerificationError
from compactor.parquet import scan as s
from compactor.parquet.footer import MAGIC, Footer
from compactor.parquet.splice import SplicePlan
from compactor.parquet.thrift import fields, read_signed, skip_struct

# What is read back of the end, and of a page whose checksum is to be computed, at most.
_TAIL_BYTES_MAX = 64 << 10
_PAGE_BYTES_MAX = 16 << 10
# What is compared with the source where a page has no checksum or is longer.
_COMPARED_BYTES = 4 << 10
_REQUESTS_IN_FLIGHT = 8
# Fields of a page header.
_COMPRESSED_SIZE, _CHECKSUM = 3, 4


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
    try:
        _check(storage, plan, tail, target)
    except BaseException:
        with suppress(CatalogError):
            storage.delete([target])
        raise
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


def _check(storage: Storage, plan: SplicePlan, tail: bytes, target: Location) -> None:
    end = tail[-_TAIL_BYTES_MAX:]
    offset = plan.body_end + len(tail) - len(end)
    if storage.read_range(target, offset, len(end)) != end:
        raise VerificationError(f"the store has written another end of {target} than it was sent")
    samples = [
        (plan.sources[index].footer, *sample)
        for index in range(len(plan.sources))
        if not plan.sources[index].footer.location.is_local and (sample := _sample(plan, index))
    ]
    with ThreadPoolExecutor(_REQUESTS_IN_FLIGHT) as readers:
        checks = [readers.submit(_check_page, storage, target, *sample) for sample in samples]
        for check in checks:
            check.result()


def _sample(plan: SplicePlan, index: int) -> tuple[int, int, int] | None:
    """Return where the shortest chunk of a source is, how long, and how far it has moved."""
    source, shifts = plan.sources[index], plan.placed[index].chunks
    chunks = source.footer.chunks
    rows = [at for group in source.row_groups for at in source.chunk_rows(group)]
    if not rows:
        return None
    length, offset, shift = min(
        (chunks[at + s.COMPRESSED], chunks[at + s.START], shift)
        for at, shift in zip(rows, shifts, strict=True)
    )
    return offset, length, shift


def _check_page(
    storage: Storage, target: Location, footer: Footer, offset: int, *where: int
) -> None:
    length, shift = where
    found = storage.read_range(target, offset + shift, min(length, _PAGE_BYTES_MAX))
    if has_right_checksum(found):
        return
    compared = found[:_COMPARED_BYTES]
    if storage.read_range(footer.location, offset, len(compared)) != compared:
        raise VerificationError(
            f"the store has copied other bytes of {footer.location} into {target}"
        )


def has_right_checksum(chunk: bytes) -> bool:
    """Tell whether a column chunk begins with a whole page whose bytes agree with its checksum."""
    with suppress(CorruptTableError, IndexError):
        numbers = {
            one.number: read_signed(chunk, one.start)[0]
            for one in fields(chunk, 0)
            if one.number in (_COMPRESSED_SIZE, _CHECKSUM)
        }
        begin = skip_struct(chunk, 0)
        page = chunk[begin : begin + numbers.get(_COMPRESSED_SIZE, 0)]
        if len(page) == numbers.get(_COMPRESSED_SIZE) and _CHECKSUM in numbers:
            return crc32(page) == numbers[_CHECKSUM] & 0xFFFF_FFFF
    return False
