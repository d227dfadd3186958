"""Tasks of a merge: one for each partition that loses or gains rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from catalog.model import Inventory
from catalog.table import TableFiles
from compactor.clustering import Clustering
from compactor.merge.completing import as_stored
from compactor.merge.group import MergeTask
from compactor.merge.keys import Rows
from compactor.merge.outcome import Outcome
from compactor.rewrite.task import Proof, RewriteTask
from compactor.splicing import SpliceLimits


@dataclass(frozen=True, slots=True)
class MergeOptions:
    """How the groups of a merge are written.

    Attributes:
        attempt_id: beginning of the names of outputs; the number of the group follows.
        target_file_size_bytes: size of the outputs.
        proof: what is checked of each group.
        splice: which row groups may be copied as they are; None for none.
        clustering: the order of rows within a group; None to keep it.
    """

    attempt_id: str
    target_file_size_bytes: int
    proof: Proof
    splice: SpliceLimits | None = None
    clustering: Clustering | None = None


def merge_tasks(
    table: TableFiles, files: Inventory, outcome: Outcome, rows: pa.Table, *, options: MergeOptions
) -> Iterator[MergeTask]:
    """Yield the tasks that bring an outcome about.

    Files without a row that goes are in none. A row that comes in where it belongs now drops the
    one that it replaces where that was: these may be two tasks.

    Args:
        table: the workers' side of the snapshot.
        files: those that were matched.
        outcome: what was made of them.
        rows: the rows that come in, completed.
        options: how groups are written.

    Raises:
        ChangesRefusedError: a required column cannot have a value.
        UnsupportedTableError: a value cannot be told from another one in its partition.
    """
    touched = [path in outcome.dropped for path in files.files["path"].to_pylist()]
    files = files.take(np.flatnonzero(np.array(touched, np.bool_)))
    stored = as_stored(rows, table.schema)
    keys = [files.files["partition_key"].combine_chunks(), table.partition_keys(rows)]
    both = pa.concat_arrays([one.cast(pa.string()) for one in keys]).dictionary_encode()
    of_files, of_rows = np.split(np.asarray(both.indices), [files.file_count])
    parts = zip(_members(of_files, both), _members(of_rows, both), strict=True)
    for number, (key, (some, members)) in enumerate(
        zip(both.dictionary.to_pylist(), parts, strict=True)
    ):
        group = files.take(some)
        rewrite = RewriteTask(
            table=table,
            partition_key=key,
            files=group,
            attempt_id=f"{options.attempt_id}-{number}",
            target_file_size_bytes=options.target_file_size_bytes,
            proof=options.proof,
            splice=options.splice,
            added=stored.take(pa.array(members)) if len(members) else None,
        )
        replaced = {path: outcome.dropped[path] for path in group.files["path"].to_pylist()}
        yield MergeTask(rewrite, replaced, options.clustering)


def _members(codes: Rows, keys: pa.DictionaryArray) -> list[Rows]:
    """Return the places of each code, one list per key."""
    order = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[order], np.arange(1, len(keys.dictionary)))
    return np.split(order, bounds) if len(keys.dictionary) else []
