"""Work that a table is told of before its files are written, so that other writers make way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from catalog.model import Inventory, Snapshot


class WorkKind(StrEnum):
    """What a table is told of a rewrite before it begins, where it wants to be told.

    Folding brings the rows of logs into data files: one new file for each slice, in its place.
    Replacing puts new files in the place of several slices. A change is no rewrite: rows come and
    go, in one new file for each slice that has some of them, and in files of their own.
    """

    FOLD = "fold"
    REPLACE = "replace"
    CHANGE = "change"


@dataclass(frozen=True, slots=True)
class Announced:
    """How a plan is announced.

    Attributes:
        kind: what it does.
        work_id: announced work of another writer that it carries out as it is; empty for none.
    """

    kind: WorkKind
    work_id: str = ""


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a table is told before the files of a rewrite are written.

    Attributes:
        job_id: of the job; the same job is announced once.
        base: the snapshot that it was planned from.
        announced: what it does.
        groups: the slices of each file group, by its id.
        is_sorted: whether rows are put in another order.
    """

    job_id: str
    base: Snapshot
    announced: Announced
    groups: Mapping[str, Inventory]
    is_sorted: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands announced on a table, and what that means for the next plan.

    Attributes:
        work_id: work that is to be carried out before any other; empty for none.
        files: the slices of that work as they were announced: logs that came since do not count.
        planned: slices of all announced work: nobody else may touch them.
        bound: slices that an index binds to their place: their logs can be folded, no more.
        slices_max: slices of one announcement at most.
        groups: how many slices of the work, in their order, are replaced together; empty where each
            has its logs folded.
        sort_by: columns that rows are then put in order by; empty where they keep theirs.
        target_bytes: size of the files that come of it, where slices are replaced.
    """

    work_id: str = ""
    files: Inventory = field(default_factory=Inventory.empty)
    planned: frozenset[str] = frozenset()
    bound: frozenset[str] = frozenset()
    slices_max: int = 1000
    groups: tuple[int, ...] = ()
    sort_by: tuple[str, ...] = ()
    target_bytes: int = 0
