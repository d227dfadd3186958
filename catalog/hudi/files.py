"""The workers' side of one state of a Hudi table: plain values that can be pickled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from catalog.errors import CorruptTableError
from catalog.hudi.config import TableConfig
from catalog.hudi.file_names import AttemptName
from catalog.hudi.markers import mark
from catalog.hudi.schema import PARTITION_PATH
from catalog.hudi.timeline import Timeline
from catalog.layout import FileLayout
from catalog.location import Confinement, Location
from catalog.model import FileSlice, Filling, Inventory, Selection
from catalog.partitioning import keys_of_rows
from catalog.schema import TableSchema
from catalog.storage import Storage

MIB = 1 << 20
# What merges of the slices of one group hold in memory together, about.
MERGE_BYTES = 192 * MIB
_MERGE_BYTES_MIN = 16 * MIB


@dataclass(frozen=True, slots=True)
class Outputs:
    """What files of announced work are named by.

    Attributes:
        instant: of the work.
        file_ids: file groups that go on, by the group of the plan; others are new.
        makes_partitions: whether they may be the first of their partition.
    """

    instant: str
    file_ids: Mapping[str, str]
    makes_partitions: bool = False


@dataclass(frozen=True, slots=True)
class HudiFiles:
    """Enough to read the file slices of one state and to write new files.

    Attributes:
        storage: where the files are.
        schema: the columns, meta columns among them.
        layout: how base files are written.
        root: of the table.
        config: of the table.
        timeline: what makes blocks of logs count.
        outputs: how new files are named; None while nothing is announced.
    """

    storage: Storage
    schema: TableSchema
    layout: FileLayout
    root: Location
    config: TableConfig
    timeline: Timeline
    outputs: Outputs | None = None

    def locate(self, path: str) -> Location:
        """Return the location of a path of the inventory."""
        return Confinement((self.root,)).parse(path)

    def selections(self, files: Inventory) -> Mapping[str, Selection]:
        """Merge the logs: the rows that each base file loses, and those that come behind."""
        logged = [one for one in files.slices() if one.deletes]
        if not logged:
            return {}
        from catalog.hudi.log_scan import LogScope  # lazy: many tables have no logs
        from catalog.hudi.merging import Merging, SliceFiles, merge_slice
        from catalog.hudi.open_logs import StoredFile
        from catalog.hudi.protocol import merge_rule

        memory_bytes = max(_MERGE_BYTES_MIN, MERGE_BYTES // len(logged))
        scope = LogScope("", self.timeline, is_write_atomic=not self.root.is_local)
        merging = Merging(self.schema.arrow, merge_rule(self.config), scope, memory_bytes)

        def one(file: FileSlice) -> Selection:
            base = StoredFile(self.locate(file.path), file.size_bytes) if file.size_bytes else None
            logs = [StoredFile(self.locate(log.path), log.size_bytes) for log in file.deletes]
            return merge_slice(self.storage, SliceFiles(base, tuple(logs)), merging)

        return {file.path: one(file) for file in logged}

    def fillings(self, file: FileSlice) -> Mapping[int, Filling]:
        """Return nothing: what a file lacks is null."""
        del file
        return {}

    def partition_keys(self, rows: pa.Table) -> pa.Array:
        """Return the partition that each new row belongs to: its path stands in the row."""
        return keys_of_rows(
            [rows[PARTITION_PATH].combine_chunks()],
            lambda values: str(values[0]),
            rows=rows.num_rows,
        )

    def arriving(self, rows: pa.Table, files: Inventory) -> pa.Table:
        """Return rows that come in with their record keys and partition paths.

        Raises:
            UnsupportedTableError: these cannot be told, or a row stands for a delete.
        """
        from catalog.hudi.new_rows import keyed  # lazy: only for changes

        return keyed(self, rows, files)

    def check_new(self, files: Inventory) -> None:
        """Make sure that no index binds keys to file groups.

        Raises:
            UnsupportedTableError: one does.
        """
        from catalog.hudi.new_rows import require_unbound  # lazy: only for changes

        require_unbound(self, files)

    def written(self, rows: pa.Table, attempt_id: str) -> pa.Table:
        """Return such rows with the instant that brings them, and their numbers in it."""
        from catalog.hudi.new_rows import stamped  # lazy: only for changes

        if self.outputs is None:
            raise ValueError("the rows of a change are written once it is announced")
        return stamped(rows, self.outputs.instant, attempt_id)

    def new_location(self, partition_key: str, file_name: str) -> Location:
        """Return where a new base file of the partition belongs.

        While nothing is announced no file can have been written: the place is one that nobody has.
        """
        if self.outputs is None:
            return self.root.child(".hoodie", ".temp", file_name)
        named = AttemptName.parse(file_name)
        file_id = self.outputs.file_ids.get(named.group_id)
        if file_id is not None and named.index:
            # Asked for when leftovers are looked for, too: no such file is ever written.
            file_id = f"{file_id.rpartition('-')[0]}-{named.index}"
        name = named.base_name(self.outputs.instant, file_id)
        return self.root.child(*filter(None, partition_key.split("/")), name)

    def mark_output(self, location: Location) -> None:
        """Put a marker for a base file that is about to be written."""
        if self.outputs is not None:
            mark(self.storage, self.root, self.outputs.instant, location)
            if self.outputs.makes_partitions:
                from catalog.hudi.partitions import mark_partition  # lazy: only for changes

                mark_partition(self.storage, self.root, location, self.outputs.instant)


def require_one_output(group_id: str, count: int) -> None:
    """Make sure that the logs of a slice were folded into one file.

    Raises:
        CorruptTableError: they were not.
    """
    if count != 1:
        raise CorruptTableError(f"group {group_id} folds a slice into {count} files")
