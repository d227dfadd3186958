"""Puffin files of deletion vectors: those that are written, and what their footers say.

Specification: https://iceberg.apache.org/puffin-spec/#deletion-vector-v1-blob-type
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count

from catalog.commits import OutputFile
from catalog.deletion_vectors import Positions, encode, framed
from catalog.errors import CorruptTableError
from catalog.location import Location
from catalog.model import Selection
from catalog.puffin import Blob, PlacedBlob, PuffinFile, decode_footer, footer_bytes
from catalog.puffin import encode as encode_puffin
from catalog.storage import Storage

ENDING = ".puffin"
TARGET, CARDINALITY = "referenced-data-file", "cardinality"
# The reserved id of the position of rows, which vectors are about.
_ROW_POSITION_ID = 2147483645
_BLOB_KIND = "deletion-vector-v1"
# Files are written before their snapshot has its numbers.
_UNKNOWN = -1
# The footer of a file of one vector is smaller, unless its data file has a very long path.
_TAIL_BYTES = 4 << 10


def file_of_vectors(positions: Mapping[str, Positions]) -> PuffinFile:
    """Put vectors into a file: ascending positions by path of their data file."""
    blobs = [_blob(path, some) for path, some in sorted(positions.items())]
    return encode_puffin(blobs, snapshot_id=_UNKNOWN, sequence_number=_UNKNOWN)


def _blob(path: str, positions: Positions) -> Blob:
    properties = {TARGET: path, CARDINALITY: str(len(positions))}
    return Blob(_BLOB_KIND, (_ROW_POSITION_ID,), properties, framed(encode(positions)))


def placed_in(file: PuffinFile, name: str) -> tuple[PlacedBlob, ...]:
    """Return where the vectors of a file that was made here are."""
    return tuple(decode_footer(file.content[-file.footer_bytes :], name=name))


def beside(location: Location) -> Location:
    """Return where a file of vectors goes that is to have the name of a data file."""
    return location.parent.child(location.name.rpartition(".")[0] + ENDING)


def write_vectors(
    selections: Mapping[str, Selection], storage: Storage, *, locate: Callable[[int], Location]
) -> dict[str, OutputFile]:
    """Write the dropped rows of data files, each into a file of its own, which leaves with it.

    What was written is removed again where one cannot be. The arguments are those of
    `write_position_deletes`, as is what is returned.
    """
    outputs: dict[str, OutputFile] = {}
    written: list[Location] = []
    numbers = count()
    with storage.removed_on_failure(written):
        for path, selection in sorted(selections.items()):
            if not len(selection.dropped):
                continue
            location = beside(locate(next(numbers)))
            content = file_of_vectors({path: selection.dropped}).content
            storage.put_if_absent(location, content)
            written.append(location)
            outputs[path] = OutputFile(str(location), len(content), len(selection.dropped))
    return outputs


def the_vector_in(location: Location, storage: Storage) -> PlacedBlob:
    """Return the only vector of a file, by its footer.

    Raises:
        CorruptTableError: it is no such file.
        ObjectNotFoundError: it does not exist.
    """
    size_bytes, name = storage.size(location), str(location)
    tail_bytes = min(size_bytes, _TAIL_BYTES)
    tail = storage.read_range(location, size_bytes - tail_bytes, tail_bytes)
    length = footer_bytes(tail, name=name)
    if length > tail_bytes:
        tail = storage.read_range(location, size_bytes - length, length)
    placed = [one for one in decode_footer(tail[-length:], name=name) if one.kind == _BLOB_KIND]
    if len(placed) != 1 or not placed[0].properties.keys() >= {TARGET, CARDINALITY}:
        raise CorruptTableError(f"{name} does not hold one deletion vector")
    return placed[0]
