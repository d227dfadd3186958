"""Remove what an instant left in the metadata table, finished or not, without a trace.

Only ever an instant that is not completed in the table itself: readers pass over it, so nobody
misses what is removed. The files go first and the instant last, its request at the very end, so
that a removal that dies is found and finished.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from catalog.errors import UnsupportedTableError
from catalog.hudi.log_blocks import BlockKind, read_blocks
from catalog.hudi.metadata_table.table import MetadataTable
from catalog.hudi.timeline import Action, State, timeline_folder
from catalog.location import Location
from catalog.storage.values import ObjectInfo

# Local files of Hadoop have others with checksums beside them.
_LOG_NAME = re.compile(r"\.log\.\d+_[0-9-]+$")


def remove_instant(table: MetadataTable, instant: str) -> None:
    """Remove an instant and the log files that it wrote; nothing when there is none.

    Raises:
        UnsupportedTableError: a log file has blocks of other instants, too.
    """
    commits = (Action.DELTACOMMIT,)
    timeline = table.timeline()
    known = (*timeline.completed(*commits), *timeline.pending(*commits))
    found = next((one for one in known if one.time == instant), None)
    if found is None:
        return
    table.storage.delete(list(_logs(table, instant)))
    folder = timeline_folder(table.root, table.config)
    if found.is_completed:
        table.storage.delete([folder.child(found.file_name)])
    for state in (State.INFLIGHT, State.REQUESTED):
        table.storage.delete([folder.child(found.named(state))])


def _logs(table: MetadataTable, instant: str) -> Iterator[Location]:
    """Yield the log files of an instant: by their name, or in layout 1 by their content."""
    for partition in table.partitions:
        for one in table.storage.list(table.root.child(partition)):
            if table.config.layout > 1:
                if f"_{instant}.log." in one.location.name:
                    yield one.location
            elif _LOG_NAME.search(one.location.name) and _is_of(table, one, instant):
                yield one.location


def _is_of(table: MetadataTable, one: ObjectInfo, instant: str) -> bool:
    """Whether an instant wrote a log file."""
    with table.storage.open_input(one.location, size_bytes=one.size_bytes) as file:
        blocks = [block for block in read_blocks(file) if block.kind is not BlockKind.CORRUPT]
    writers = {block.instant_time for block in blocks}
    if instant in writers and len(writers) > 1:
        raise UnsupportedTableError(
            f"{one.location} has what {instant} wrote together with what others did"
        )
    return instant in writers
