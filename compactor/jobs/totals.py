"""Row arithmetic of a job: per group, and over the snapshots around its commits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow.compute as pc

from catalog.model import Inventory, Snapshot
from compactor.planner.plan import FileGroup, Rung
from compactor.rewrite.task import Proof, RewriteResult


@dataclass(frozen=True, slots=True)
class TableTotals:
    """A snapshot added up.

    Attributes:
        files: number of data files.
        rows: rows stored in them, before deletes.
    """

    files: int
    rows: int

    @staticmethod
    def of(inventory: Inventory) -> TableTotals:
        """Add up an inventory."""
        return TableTotals(inventory.file_count, inventory.row_count)


def visible_rows(inventory: Inventory) -> int | None:
    """Return how many rows readers see; None where the metadata does not tell exactly."""
    deletes = inventory.files["deletes"]
    used = pc.list_flatten(deletes)
    is_exact = (
        (pc.max(pc.list_value_length(deletes)).as_py() or 0) <= 1
        and pc.count_distinct(used).as_py() == len(used)
        and inventory.delete_files["target"].null_count == 0
    )
    if not is_exact:
        return None
    dropped = inventory.delete_files["row_count"].take(used)
    return inventory.row_count - int(pc.sum(dropped, min_count=0).as_py())


@dataclass(frozen=True, slots=True)
class CommittedBatch:
    """What a commit did to the rows stored in data files.

    Attributes:
        snapshot: its own.
        rows_dropped: what its groups lost.
        rows_added: what came in.
    """

    snapshot: Snapshot
    rows_dropped: int
    rows_added: int = 0


@dataclass(frozen=True, slots=True)
class TotalsCheck:
    """Whether the totals agree, and those of the last snapshot."""

    agrees: bool
    after: TableTotals


def result_mistake(group: FileGroup, result: RewriteResult, proof: Proof) -> str:
    """Say what is wrong with the answer of an attempt; empty when its arithmetic holds."""
    if group.rung is Rung.DELETES:
        return _recording_mistake(result)
    stored_rows = _rows_to_read(group)
    output_rows = sum(output.row_count for output in result.outputs)
    if result.rows_read != stored_rows:
        return f"read {result.rows_read} rows where the table lists {stored_rows}"
    if result.rows_added != group.rows_added:
        return f"took in {result.rows_added} rows where {group.rows_added} were to come"
    came = result.rows_added + result.rows_tail
    if result.rows_read - result.rows_dropped + came != result.rows_written:
        added = f" and took in {came}" if came else ""
        return (
            f"read {result.rows_read} rows, dropped {result.rows_dropped}{added},"
            f" but wrote {result.rows_written}"
        )
    if output_rows != result.rows_written:
        return f"wrote {result.rows_written} rows, but its files list {output_rows}"
    if proof is Proof.FULL and result.digest is None:
        return "gave no digest although a full proof was asked for"
    if result.digest is not None and result.digest.row_count != result.rows_written:
        return f"wrote {result.rows_written} rows, but proved {result.digest.row_count}"
    return ""


def _recording_mistake(result: RewriteResult) -> str:
    output_rows = sum(output.row_count for output in result.outputs)
    if result.rows_marked != output_rows:
        return f"marked {result.rows_marked} rows, but its files list {output_rows}"
    if result.rows_dropped or result.rows_added or result.rows_written:
        return "recorded deletes, and says that it wrote rows"
    return ""


def _rows_to_read(group: FileGroup) -> int:
    """Return the rows stored in the files of a group; those that are marked stay unread."""
    if not group.marks:
        return group.files.row_count
    files = group.files.files
    rows = zip(files["path"].to_pylist(), files["row_count"].to_pylist(), strict=True)
    return sum(count for path, count in rows if path not in group.marks)


def check_totals(
    base: Snapshot,
    before: TableTotals,
    batches: Sequence[CommittedBatch],
    *,
    totals_of: Callable[[str], TableTotals],
    visible_of: Callable[[str], int | None],
) -> TotalsCheck:
    """Compare the rows stored before and after each run of our commits.

    Outputs may hold rows of files that other writers have replaced, deleted like there. Then the
    rows that readers see must be equally many.

    Commits of ours that follow each other directly are compared as one; where another writer
    came in between, its own snapshot is the next starting point.

    Args:
        base: the snapshot planned against.
        before: its totals.
        batches: our commits, in order.
        totals_of: adds up a snapshot by its id.
        visible_of: counts the rows that readers see of a snapshot; None where that cannot be told.
    """
    known = {base.snapshot_id: before}

    def totals(snapshot_id: str) -> TableTotals:
        if snapshot_id not in known:
            known[snapshot_id] = totals_of(snapshot_id)
        return known[snapshot_id]

    agrees = True
    for start, run in _runs(batches):
        gained = sum(batch.rows_added - batch.rows_dropped for batch in run)
        end = run[-1].snapshot.snapshot_id
        is_equal = totals(start).rows + gained == totals(end).rows
        agrees = agrees and (is_equal or _are_equal(visible_of(start), visible_of(end)))
    last = batches[-1].snapshot.snapshot_id if batches else base.snapshot_id
    return TotalsCheck(agrees, totals(last))


def _are_equal(before: int | None, after: int | None) -> bool:
    return before is not None and before == after


def _runs(batches: Sequence[CommittedBatch]) -> list[tuple[str, list[CommittedBatch]]]:
    """Return the runs of commits that follow each other directly, each with its start."""
    runs: list[tuple[str, list[CommittedBatch]]] = []
    last = None
    for batch in batches:
        parent = batch.snapshot.parent_id
        if runs and parent == last:
            runs[-1][1].append(batch)
        else:
            runs.append((parent or "", [batch]))
        last = batch.snapshot.snapshot_id
    return runs
