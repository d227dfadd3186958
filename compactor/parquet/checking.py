"""Check a finished splice as storage has it: its end, and a page of every file it was made of.

A page is checked by its own checksum where it has one, else against the source. That costs a few
kilobytes for each source, whoever has copied: the kernel, a store, or this process. Every byte is
checked when the rows are proved, not here.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from zlib import crc32

from catalog.errors import CorruptTableError
from catalog.location import Location
from catalog.storage import Storage
from compactor.errors import VerificationError
from compactor.parquet import scan as s
from compactor.parquet.footer import Footer
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


def check_end(storage: Storage, plan: SplicePlan, tail: bytes, target: Location) -> None:
    """Compare the end of a file with what it was to be.

    Raises:
        VerificationError: it is another.
    """
    end = tail[-_TAIL_BYTES_MAX:]
    offset = plan.body_end + len(tail) - len(end)
    if storage.read_range(target, offset, len(end)) != end:
        raise VerificationError(f"the end of {target} is not what was sent to the store")


def check_copies(storage: Storage, plan: SplicePlan, target: Location) -> None:
    """Check a page of every file that was copied from, as it is in the output.

    Raises:
        VerificationError: other bytes were copied.
        CatalogError: the output or a source cannot be read.
    """
    samples = list(_samples(plan, is_local=target.is_local))
    if target.is_local:
        for sample in samples:
            _check_page(storage, target, *sample)
        return
    with ThreadPoolExecutor(_REQUESTS_IN_FLIGHT) as readers:
        checks = [readers.submit(_check_page, storage, target, *sample) for sample in samples]
        for check in checks:
            check.result()


def _samples(plan: SplicePlan, *, is_local: bool) -> Iterator[tuple[Footer, int, int, int]]:
    """Yield a chunk of each file; of local ones only for a local output, else they were sent."""
    seen: set[Location] = set()
    for index, source in enumerate(plan.sources):
        footer = source.footer
        if footer.location in seen or footer.location.is_local != is_local:
            continue
        sample = _sample(plan, index)
        if sample is not None:
            seen.add(footer.location)
            yield (footer, *sample)


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
            f"other bytes than those of {footer.location} were copied into {target}"
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
