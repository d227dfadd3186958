"""Carry out a splice: bytes copied by the kernel or by the store where they can, or streamed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from catalog.errors import NotComposableError
from catalog.location import Location
from catalog.storage import ByteRange, OutputFile, Storage
from catalog.storage.local import LocalOutputFile
from compactor.parquet.checking import check_copies
from compactor.parquet.composing import compose_splice, versions
from compactor.parquet.footer import MAGIC
from compactor.parquet.reading import read_page_indexes
from compactor.parquet.rendering import render_tail
from compactor.parquet.splice import Copy, SplicePlan

if TYPE_CHECKING:
    from concurrent.futures import Future

# A remote range is fetched in pieces; their product bounds the memory of a splice.
_PIECE_BYTES = 8 << 20
_PIECES_IN_FLIGHT_MAX = 4


@dataclass(frozen=True, slots=True)
class SplicedFile:
    """A complete output.

    Attributes:
        location: where it is.
        size_bytes: its length.
        row_counts: number of rows of each row group.
        copied_bytes: bytes of it that were copied, the rest being indexes and footer.
        composed_bytes: bytes of it that the store copied by itself.
        why_streamed: why all of them passed through this process; empty when they did not, and
            between local files.
    """

    location: Location
    size_bytes: int
    row_counts: tuple[int, ...]
    copied_bytes: int
    composed_bytes: int = 0
    why_streamed: str = ""


def write_splice(storage: Storage, plan: SplicePlan, output_location: Location) -> SplicedFile:
    """Write the file of a plan; nothing is left of it when it fails.

    Raises:
        CorruptTableError: a source is shorter than its footer says or has been replaced since, or
            a page index is damaged.
        ObjectNotFoundError, AccessDeniedError, StorageError: a source cannot be read.
        StorageFullError, ObjectExistsError: the output cannot be written.
        VerificationError: the store was to copy ranges and has copied others.
    """
    tail = render_tail(plan, read_page_indexes(storage, plan.sources))
    size_bytes = plan.body_end + len(tail)
    why_streamed = ""
    if not output_location.is_local:
        try:
            composed_bytes = compose_splice(storage, plan, tail, output_location)
        except NotComposableError as error:
            why_streamed = str(error)
        else:
            return SplicedFile(
                output_location, size_bytes, plan.row_counts, plan.copied_bytes, composed_bytes
            )
    _write(storage, plan, tail, output_location)
    with storage.removed_on_failure([output_location]):
        check_copies(storage, plan, output_location)
    return SplicedFile(
        output_location,
        size_bytes,
        plan.row_counts,
        plan.copied_bytes,
        why_streamed=why_streamed,
    )


def _write(storage: Storage, plan: SplicePlan, tail: bytes, output_location: Location) -> None:
    with storage.open_output(output_location) as output:
        output.write(MAGIC)
        locations = [one.footer.location for one in plan.sources]
        if isinstance(output, LocalOutputFile) and all(one.is_local for one in locations):
            _copy_files(output, plan.copies, locations)
        else:
            _stream(storage, output, plan.copies, locations)
        output.write(tail)
        storage.require_unchanged(one for one in versions(plan) if one.etag)


def _copy_files(output: LocalOutputFile, copies: Iterable[Copy], locations: list[Location]) -> None:
    for index, group in groupby(copies, lambda one: one.source):
        output.append_file(locations[index], [ByteRange(one.offset, one.length) for one in group])


def _stream(
    storage: Storage, output: OutputFile, copies: Iterable[Copy], locations: list[Location]
) -> None:
    """Read pieces ahead, some at once, and write them in order."""
    from concurrent.futures import ThreadPoolExecutor

    waiting: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(_PIECES_IN_FLIGHT_MAX) as readers:
        try:
            for index, piece in _pieces(copies):
                if len(waiting) == _PIECES_IN_FLIGHT_MAX:
                    output.write(waiting.popleft().result())
                wanted = (locations[index], piece.offset, piece.length)
                waiting.append(readers.submit(storage.read_range, *wanted))
            while waiting:
                output.write(waiting.popleft().result())
        finally:
            for left in waiting:
                left.cancel()


def _pieces(copies: Iterable[Copy]) -> Iterator[tuple[int, ByteRange]]:
    for one in copies:
        for start in range(0, one.length, _PIECE_BYTES):
            yield one.source, ByteRange(one.offset + start, min(_PIECE_BYTES, one.length - start))
