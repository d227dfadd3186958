"""Position delete files as bytes, and those that workers write; no worker imports PyIceberg.

Specification: https://iceberg.apache.org/spec/#position-delete-files
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from itertools import count

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from catalog.commits import OutputFile
from catalog.location import Location
from catalog.model import Selection
from catalog.storage import Storage

# Reserved field ids of the specification.
FILE_PATH_ID = 2147483546
POSITION_ID = 2147483545
POSITION_DELETES = pa.schema(
    [
        pa.field(name, kind, False, {b"PARQUET:field_id": str(field_id).encode()})
        for name, kind, field_id in (
            ("file_path", pa.string(), FILE_PATH_ID),
            ("pos", pa.int64(), POSITION_ID),
        )
    ]
)
# The same with each path in memory once.
_PATH_ONCE = POSITION_DELETES.field(0).with_type(pa.dictionary(pa.int32(), pa.string()))
_SCHEMA = POSITION_DELETES.set(0, _PATH_ONCE)
# Rows of a delete file of many data files: encoded they are in memory, 12 bytes each and the rest.
_FILE_ROWS_MAX = 4 << 20
_Positions = npt.NDArray[np.int64]


def encode(positions: Mapping[str, _Positions]) -> bytes:
    """Return the delete file of ascending positions by path, in the order that is demanded."""
    paths = sorted(positions, key=str.encode)
    counts = [len(positions[path]) for path in paths]
    numbers = pa.array(np.repeat(np.arange(len(paths), dtype=np.int32), counts))
    columns = [
        pa.DictionaryArray.from_arrays(numbers, pa.array(paths)),
        np.concatenate([positions[path] for path in paths]),
    ]
    sink = BytesIO()
    # Readers know the columns as plain text and numbers, whatever they were in memory.
    pq.write_table(pa.table(columns, schema=_SCHEMA), sink, store_schema=False, compression="zstd")
    return sink.getvalue()


def write_position_deletes(
    selections: Mapping[str, Selection],
    storage: Storage,
    *,
    locate: Callable[[int], Location],
    is_per_file: bool,
) -> dict[str, OutputFile]:
    """Write the dropped rows of data files of one partition as position delete files.

    What was written is removed again where one cannot be. Returned is the delete file of each data
    file that loses rows.

    Args:
        selections: by path of the data file.
        storage: where they go.
        locate: names them by number, counted from 0.
        is_per_file: whether each data file gets one of its own, which leaves the table with it.
    """
    outputs: dict[str, OutputFile] = {}
    written: list[Location] = []
    numbers = count()
    with storage.removed_on_failure(written):
        for some in _divided(selections, is_per_file):
            location, content = locate(next(numbers)), encode(some)
            storage.put_if_absent(location, content)
            written.append(location)
            rows = sum(map(len, some.values()))
            outputs |= dict.fromkeys(some, OutputFile(str(location), len(content), rows))
    return outputs


def _divided(
    selections: Mapping[str, Selection], is_per_file: bool
) -> Iterator[dict[str, _Positions]]:
    """Yield what goes into each file: neighbours by path, so that bounds part the files."""
    some: dict[str, _Positions] = {}
    rows = 0
    for path in sorted(selections, key=str.encode):
        positions = selections[path].dropped
        if not len(positions):
            continue
        if some and (is_per_file or rows + len(positions) > _FILE_ROWS_MAX):
            yield some
            some, rows = {}, 0
        some[path] = positions
        rows += len(positions)
    if some:
        yield some
