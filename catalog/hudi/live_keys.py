"""The record keys of the rows that file slices have, for indexes that tell where rows are.

What a log has deleted may have come again elsewhere: it is no row of its slice any more, although
the base file still stores it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.commits import Commit
from catalog.hudi.files import HudiFiles
from catalog.hudi.layout import file_layout
from catalog.hudi.reading import Source
from catalog.hudi.schema import RECORD_KEY, table_schema
from catalog.model import KEEP_ALL, FileSlice, Inventory


def keys_before(
    source: Source, schema: str, commit: Commit
) -> Mapping[str, Callable[[], Iterator[pa.Array]]]:
    """Return what yields the keys of each slice with logs that a change writes anew, by its path.

    Args:
        source: the table as it is before the change.
        schema: of its rows.
        commit: the change.
    """
    files = HudiFiles(
        storage=source.storage,
        schema=table_schema(schema),
        layout=file_layout(source.config, source.storage, source.root),
        root=source.root,
        config=source.config,
        timeline=source.timeline,
    )
    return {
        one.path: partial(_keys, files, rewrite.files, one)
        for rewrite in commit.rewrites
        for one in rewrite.files.slices()
        if one.deletes
    }


def _keys(files: HudiFiles, inventory: Inventory, file: FileSlice) -> Iterator[pa.Array]:
    selection = files.selections(inventory).get(file.path, KEEP_ALL)
    if file.size_bytes:
        location, start = files.locate(file.path), 0
        with files.storage.open_input(location, size_bytes=file.size_bytes) as stored:
            for batch in pq.ParquetFile(stored).iter_batches(columns=[RECORD_KEY]):
                kept = selection.kept(start, batch.num_rows)
                start += batch.num_rows
                keys = batch.column(0).cast(pa.string())
                yield keys if kept is None else keys.filter(pa.array(kept))
    for batch in selection.tail.batches([RECORD_KEY]):
        yield batch.column(0)
