"""What is committed to a table, and what became of it: rewrites, and changes with watermarks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from catalog.layout import Curve, SortField
from catalog.model import Inventory, Selection, Snapshot


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A data file that a worker has written and that no snapshot refers to yet.

    Attributes:
        path: where it is.
        size_bytes: its length.
        row_count: its rows.
        partition_key: of the partition it belongs to, where that is not the one of its group.
    """

    path: str
    size_bytes: int
    row_count: int
    partition_key: str = ""


@dataclass(frozen=True, slots=True)
class Rewrite:
    """The replacement of the file slices of one file group by new files.

    Attributes:
        group_id: the group in its plan.
        files: the replaced slices exactly as planned; a slice that has changed since is a conflict.
        added: the new files: rows of the replaced files less those that are dropped, and the rows
            that come in.
        rows_dropped: rows of the replaced files that are in no file of `added`, be it that their
            deletes drop them or that a change does.
        sort_order: the order that the rows of every added file are in; empty when `added` keeps
            that of `files`.
        keeps_order: whether the rows of `added`, one file after the other, come in the order of
            those of `files`: then deletes that come meanwhile can be carried over to them.
        curve: the curve that the rows of `added` lie along; None for none.
        rows_added: rows of `added` that no slice of `files` had. Only a change has such rows.
        rows_tail: rows of `added` that came behind the stored ones of `files`, see `Tail`.
        marks: by path, those of `files` that stay in the table, and the rows they lose: live ones,
            ascending. Only a change has marks, where `Table.can_mark`.
        partition_key: of the added files where `files` is empty, as only a change has it.
        records_deletes: whether `files` stay, and what is added are no data files but delete files
            that drop just the rows of them that their deletes drop: these are needed no longer.
    """

    group_id: str
    files: Inventory
    added: tuple[OutputFile, ...]
    rows_dropped: int
    sort_order: tuple[SortField, ...] = ()
    keeps_order: bool = False
    curve: Curve | None = None
    rows_added: int = 0
    marks: Mapping[str, Selection] = field(default_factory=dict)
    partition_key: str = ""
    records_deletes: bool = False
    rows_tail: int = 0

    @property
    def replaced(self) -> Inventory:
        """The files that leave the table."""
        if self.records_deletes:
            return Inventory.empty()
        if not self.marks:
            return self.files
        is_replaced = [path not in self.marks for path in self.files.files["path"].to_pylist()]
        return self.files.take(np.flatnonzero(is_replaced))

    @property
    def target_key(self) -> str:
        """The key of the partition of the added files."""
        keys = self.files.files["partition_key"]
        return keys[0].as_py() if len(keys) else self.partition_key


class CommitKind(StrEnum):
    """What a commit means for the rows of a table.

    A rewrite leaves them as they are. Its groups are independent of each other: one may be dropped
    and the others committed. A change is made as a whole or not at all, as if nothing had happened
    since its base: it conflicts with whoever has added rows since, but for rewrites.
    """

    REWRITE = "rewrite"
    CHANGE = "change"


@dataclass(frozen=True, slots=True)
class Watermark:
    """How far a source of changes has been merged into a table.

    Attributes:
        source: names it; any text.
        value: opaque; whoever merges compares it.
    """

    source: str
    value: str


@dataclass(frozen=True, slots=True)
class ChangeScope:
    """What changes will do, as far as a table may object to it.

    Attributes:
        adds_rows: whether rows may come in.
        removes_rows: whether rows may go.
        lacking: names of the columns that some of the rows that come in are not given a value for.
        key: names of the columns by which rows are told apart; empty where rows are only appended.
    """

    adds_rows: bool
    removes_rows: bool
    lacking: frozenset[str] = frozenset()
    key: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Commit:
    """A batch of rewrites to be committed together.

    Attributes:
        commit_id: unique; written into the snapshot, so that the commit can be found again.
        base: the snapshot that the rewrites were planned from.
        rewrites: what is replaced; a change that only records watermarks has none.
        properties: pairs recorded with the snapshot (job id, version of the program).
        kind: what it means for the rows of the table.
        watermarks: of a change, recorded together with it; it conflicts with a commit since its
            base that has recorded another value for the same source.
        partitions: of a change, keys of the partitions that the rows that it has looked for can be
            in: rows that others add elsewhere are no conflict. None for everywhere.
    """

    commit_id: str
    base: Snapshot
    rewrites: tuple[Rewrite, ...]
    properties: tuple[tuple[str, str], ...] = ()
    kind: CommitKind = CommitKind.REWRITE
    watermarks: tuple[Watermark, ...] = ()
    partitions: frozenset[str] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to commit."""
        return not self.rewrites and not self.watermarks


@dataclass(frozen=True, slots=True)
class Conflict:
    """Another writer's commit has invalidated one group; its outputs are not in the table."""

    group_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class CommitResult:
    """What became of a commit.

    Attributes:
        snapshot: the new snapshot, or the one that the groups were found in; None when nothing was
            committed: every group was dropped, or a watermark was no longer what it had been.
        committed: ids of the groups that are in the table now.
        conflicts: the others.
        warnings: what people should know of other writers of the table, a sentence each.
    """

    snapshot: Snapshot | None
    committed: tuple[str, ...]
    conflicts: tuple[Conflict, ...]
    warnings: tuple[str, ...] = field(default=(), compare=False)
