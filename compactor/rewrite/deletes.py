"""Record the deletes of one file group anew, its data files left as they are: what a worker runs.

However rows are deleted (by keys, by many small files), afterwards their positions are in delete
files that were written at once. The data files are read as far as keys have to be compared.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from catalog.commits import OutputFile
from catalog.errors import UnsupportedTableError
from catalog.model import DELETE_FILES, Inventory, Selection
from catalog.table import DeleteRecorder
from compactor.errors import VerificationError
from compactor.rewrite.task import Proof, RewriteResult, RewriteTask
from compactor.rewrite.verify import check_digests, digest_slices
from compactor.rewrite.write import Destination


def record_group(task: RewriteTask) -> RewriteResult:
    """Write the positions of all rows that the deletes of a file group drop.

    On failure every output of the attempt has been removed; nothing else is ever touched.

    Raises:
        UnsupportedTableError: deletes of the format cannot be recorded apart from data.
        VerificationError: what was written does not drop just these rows.
        CatalogError: a file cannot be read or written.
    """
    before = task.table.storage.tally()
    recorder = recorder_of(task.table)
    selections = task.table.selections(task.files)
    destination = Destination(task.table, task.partition_key, task.attempt_id)
    recorded = recorder.record_deletes(selections, destination.location)
    outputs = tuple({one.path: one for one in recorded.values()}.values())
    with task.table.storage.removed_on_failure([task.table.locate(one.path) for one in outputs]):
        _prove(task, selections, recorded)
    used = task.table.storage.tally()
    return RewriteResult(
        outputs=outputs,
        rows_read=0,
        rows_dropped=0,
        rows_written=0,
        bytes_read=used.bytes_read - before.bytes_read,
        bytes_written=used.bytes_out - before.bytes_out,
        requests=used.requests - before.requests,
        digest=None,
        rows_marked=sum(len(one.dropped) for one in selections.values()),
    )


def recorder_of(table: object) -> DeleteRecorder:
    """Return what records the deletes of a table.

    Raises:
        UnsupportedTableError: its format keeps none apart from data files, or in one form only.
    """
    if not isinstance(table, DeleteRecorder):
        raise UnsupportedTableError(
            "the table's format has no delete files that could be recorded in another form",
            hint="compact it with the strategy binpack, which applies deletes",
        )
    return table


def _prove(
    task: RewriteTask, selections: Mapping[str, Selection], recorded: Mapping[str, OutputFile]
) -> None:
    """Read the outputs back as a reader would, and with full proof the rows that they leave."""
    files = _with_deletes(task.files, recorded)
    found = task.table.selections(files)
    for path, selection in selections.items():
        dropped = found[path].dropped if path in found else np.empty(0, np.int64)
        if not np.array_equal(dropped, selection.dropped):
            raise VerificationError(
                f"{len(selection.dropped)} rows of {path} are deleted,"
                f" the delete files written instead drop {len(dropped)} or others"
            )
    if task.proof is Proof.FULL:
        check_digests(
            inputs=digest_slices(task.table, task.files),
            outputs=digest_slices(task.table, files),
        )


def _with_deletes(files: Inventory, recorded: Mapping[str, OutputFile]) -> Inventory:
    """Return the same data files with the new delete files."""
    numbers: dict[str, int] = {}
    lists = []
    for path in files.files["path"].to_pylist():
        output = recorded.get(path)
        lists.append([numbers.setdefault(output.path, len(numbers))] if output else [])
    age = max(files.files["sequence_number"].to_pylist(), default=0) + 1
    outputs = {one.path: one for one in recorded.values()}
    rows = [
        {
            "path": path,
            "size_bytes": outputs[path].size_bytes,
            "row_count": outputs[path].row_count,
            "sequence_number": age,
        }
        for path in numbers
    ]
    position = files.files.schema.get_field_index("deletes")
    field = files.files.schema.field(position)
    return Inventory(
        files.files.set_column(position, field, pa.array(lists, field.type)),
        pa.Table.from_pylist(rows, DELETE_FILES),
    )
