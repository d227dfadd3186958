"""The outputs of a commit, read back from storage: a table names nothing that was not seen.

The coordinator opens the footer of every file that workers say they wrote, so that one that is
missing, short or wrong is found before the commit and not by a reader after it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from catalog.commits import Commit, CommitKind, OutputFile, Rewrite
from catalog.errors import CorruptTableError, ObjectNotFoundError
from catalog.location import Confinement
from catalog.storage import Storage

# Footers are small and far away: a few requests in flight hide the latency.
_READERS = 8

Described = TypeVar("Described")
# Makes what a format records of an output, from its `pyarrow.parquet.FileMetaData`.
Describe = Callable[[OutputFile, Any], Described]
# Reads the footer of an output that is as long as announced; None where it is no Parquet file.
ReadFooter = Callable[[OutputFile], Any]


def read_outputs(
    commit: Commit,
    storage: Storage,
    *,
    confinement: Confinement,
    describe: Describe[Described],
    other_footer: ReadFooter = lambda _: None,
) -> dict[str, Described]:
    """Return what there is to record of the outputs of a commit, by path.

    Args:
        commit: the commit.
        storage: where they are.
        confinement: where they may be.
        describe: makes of a footer what is recorded.
        other_footer: reads the footers of what is not Parquet.

    Raises:
        CorruptTableError: one is missing, short, or not what was announced; or a group's outputs
            do not hold the number of rows that its inputs keep.
    """
    outputs = distinct_outputs(commit)

    def one(output: OutputFile) -> tuple[str, Described]:
        try:
            footer = other_footer(output) or _footer(output, storage, confinement)
            return output.path, describe(output, footer)
        except ObjectNotFoundError as error:
            raise CorruptTableError(f"the output {output.path} does not exist") from error
        except pa.ArrowException as error:
            raise CorruptTableError(f"cannot read the output {output.path}: {error}") from error

    with ThreadPoolExecutor(_READERS) as readers:
        return dict(readers.map(one, outputs))


def _footer(output: OutputFile, storage: Storage, confinement: Confinement) -> Any:
    location = confinement.parse(output.path)
    size_bytes = storage.size(location)
    _require(output, "bytes", announced=output.size_bytes, found=size_bytes)
    with storage.open_input(location, size_bytes=size_bytes) as source:
        footer = pq.read_metadata(source)
    _require(output, "rows", announced=output.row_count, found=footer.num_rows)
    return footer


def _require(output: OutputFile, what: str, *, announced: int, found: int) -> None:
    if announced != found:
        raise CorruptTableError(
            f"the output {output.path} has {found} {what}, {announced} were announced"
        )


def distinct_outputs(commit: Commit) -> list[OutputFile]:
    """Return the outputs of a commit that agrees with itself.

    Raises:
        CorruptTableError: a group's outputs do not hold the number of rows that its inputs keep,
            rows are marked that do not exist, or a file is named twice.
    """
    outputs = [output for rewrite in commit.rewrites for output in rewrite.added]
    inputs = [path for one in commit.rewrites for path in one.files.files["path"].to_pylist()]
    paths = {output.path for output in outputs}
    if len(paths) != len(outputs) or not paths.isdisjoint(inputs):
        raise CorruptTableError(f"commit {commit.commit_id} names a file twice")
    for rewrite in commit.rewrites:
        if commit.kind is not CommitKind.CHANGE and (rewrite.rows_added or rewrite.marks):
            raise CorruptTableError(f"group {rewrite.group_id} is no change, and changes rows")
        if rewrite.records_deletes:
            continue
        _require_row_arithmetic(rewrite)
        _require_marked_rows(rewrite)
    return outputs


def _require_row_arithmetic(rewrite: Rewrite) -> None:
    gained = rewrite.rows_added + rewrite.rows_tail
    expected = rewrite.replaced.row_count - rewrite.rows_dropped + gained
    written = sum(output.row_count for output in rewrite.added)
    least = min(rewrite.rows_dropped, rewrite.rows_added, rewrite.rows_tail)
    if written != expected or least < 0:
        raise CorruptTableError(
            f"group {rewrite.group_id} wrote {written} rows where there were to be {expected}"
        )


def _require_marked_rows(rewrite: Rewrite) -> None:
    if not rewrite.marks:
        return
    columns = rewrite.files.files.select(["path", "row_count"]).to_pydict()
    row_counts = dict(zip(columns["path"], columns["row_count"], strict=True))
    for path, selection in rewrite.marks.items():
        rows = selection.dropped
        if not len(rows) or rows[0] < 0 or rows[-1] >= row_counts.get(path, 0):
            raise CorruptTableError(f"rows of {path} are marked that the group does not have")
        if (np.diff(rows) <= 0).any():
            raise CorruptTableError(f"the marked rows of {path} are not in order")
