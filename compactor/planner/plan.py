"""A plan: which file groups are to be rewritten against one snapshot, at what price, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import pyarrow as pa

from catalog.announcing import Announced, WorkKind
from catalog.commits import Watermark
from catalog.model import Inventory, Selection, Snapshot
from compactor.clustering import Clustering, Strategy
from compactor.splicing import SpliceLimits


class Rung(StrEnum):
    """How far down the cost ladder a group has to climb."""

    COMPOSE = "splice, server side"
    SPLICE = "splice"
    MIXED = "splice+transcode"
    TRANSCODE = "transcode"
    CLUSTER = "cluster"
    MERGE = "merge"
    DELETES = "deletes"
    REPARTITION = "repartition"


@dataclass(frozen=True, slots=True)
class Price:
    """What rewriting costs.

    Attributes:
        input_bytes: bytes of the data files read.
        delete_bytes: bytes of the delete files read.
        output_bytes_estimate: bytes of the data files written.
        memory_bytes_estimate: peak of the one worker that runs a group.
        cpu_seconds_estimate: CPU time of all processes.
        requests_estimate: calls to the storage.
        splice_bytes_estimate: the part of the input that is copied without being decoded.
        compose_bytes_estimate: the part of that which the store copies by itself.
    """

    input_bytes: int
    delete_bytes: int
    output_bytes_estimate: int
    memory_bytes_estimate: int
    cpu_seconds_estimate: float
    requests_estimate: int
    splice_bytes_estimate: int = 0
    compose_bytes_estimate: int = 0

    @property
    def transcode_bytes_estimate(self) -> int:
        """The part of the input that is decoded and encoded anew."""
        return self.input_bytes - self.splice_bytes_estimate


@dataclass(frozen=True, slots=True)
class FileGroup:
    """File slices of one partition that one task rewrites together.

    Attributes:
        group_id: unique within the plan, and the same whenever the same plan is made.
        partition_key: the key that all its slices share.
        partition: the same for people.
        rung: how its bytes move.
        files: the slices, in the order their rows keep.
        output_files_estimate: how many files it is expected to become.
        reason: why it is worth rewriting.
        price: what that costs.
        rows_added: rows of a merge that come in beside those that survive.
        marks: by path, rows that go from files which stay: deletes are recorded for them.
        delete_files_estimate: delete files that it is expected to have afterwards.
    """

    group_id: str
    partition_key: str
    partition: str
    rung: Rung
    files: Inventory
    output_files_estimate: int
    reason: str
    price: Price
    rows_added: int = 0
    marks: Mapping[str, Selection] = field(default_factory=dict)
    delete_files_estimate: int = 0


@dataclass(frozen=True, slots=True)
class Skipped:
    """Files of a partition that stay although they are not as the policy wants them."""

    partition: str
    files: int
    size_bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class Touched:
    """What a reader has to open for a predicate on one key column: means over several of them.

    Attributes:
        files: data files.
        row_groups: row groups.
    """

    files: float = 0.0
    row_groups: float = 0.0

    def __add__(self, other: Touched) -> Touched:
        """Return what is touched in both sets of files."""
        return Touched(self.files + other.files, self.row_groups + other.row_groups)


@dataclass(frozen=True, slots=True)
class Pruning:
    """What readers are spared by the order of rows, as far as minima and maxima tell.

    Attributes:
        probes: for each key column values of it in comparable form, evenly from all rows:
            `column = value` are the predicates.
        before: what they touch of all files looked at.
        kept: what they touch of those that the plan keeps.
        after_estimate: what they are expected to touch once the plan is carried out.
    """

    probes: tuple[tuple[bytes, ...], ...]
    before: Touched
    kept: Touched
    after_estimate: Touched


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """How the rows of every group are put in order.

    Attributes:
        clustering: the order.
        memory_bytes: rows that a task holds in memory while it sorts.
        pruning: what it is good for.
    """

    clustering: Clustering
    memory_bytes: int
    pruning: Pruning


@dataclass(frozen=True, slots=True)
class ChangeCounts:
    """Changes by what they do to a table.

    Attributes:
        upserts: upserts as they were read.
        deletes: deletes as they were read, those that are keyed on other columns included.
        superseded: changes that a later one of the same key, or a later delete, made void.
        inserted: rows with keys that the table did not have; all rows when they are appended.
        updated: rows in place of stored ones.
        deleted: stored rows that are gone and that no other replaces.
        unchanged: changes that left the table as it was: deletes of keys that it did not have, and
            what is older than the stored row by event time.
    """

    upserts: int = 0
    deletes: int = 0
    superseded: int = 0
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    unchanged: int = 0

    def __add__(self, other: ChangeCounts) -> ChangeCounts:
        """Return the changes of both."""
        return ChangeCounts(
            self.upserts + other.upserts,
            self.deletes + other.deletes,
            self.superseded + other.superseded,
            self.inserted + other.inserted,
            self.updated + other.updated,
            self.deleted + other.deleted,
            self.unchanged + other.unchanged,
        )


@dataclass(frozen=True, slots=True)
class SearchStage:
    """What was left to look at after one stage of the search for stored rows.

    Attributes:
        name: by what the others were ruled out.
        files: data files.
        row_groups: row groups of them; None while no file has been opened.
        rows: rows stored in these; in the last stage, those that changes hit.
    """

    name: str
    files: int
    row_groups: int | None
    rows: int


@dataclass(frozen=True, slots=True)
class ChangePlan:
    """What a plan has that brings changes into a table: it changes which rows there are.

    Attributes:
        watermarks: how far the sources of changes are merged once it is committed.
        counts: the changes by what they do.
        stages: how the stored rows were found.
        row_groups_hit: row groups of the files that are rewritten in which a row goes.
        row_groups_free: the other row groups of these files: they are copied if they can be.
        files_marked: files that stay and have deletes recorded for them.
        since: how far the sources were merged before.
        partitions: keys of all partitions that rows with the changed keys can be in, whoever adds
            them; None for everywhere.
    """

    watermarks: tuple[Watermark, ...]
    counts: ChangeCounts
    stages: tuple[SearchStage, ...]
    row_groups_hit: int = 0
    row_groups_free: int = 0
    files_marked: int = 0
    since: tuple[Watermark, ...] = ()
    partitions: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Considered:
    """A strategy that was looked at, and why it is due or not.

    Attributes:
        strategy: the strategy.
        groups: file groups that it would rewrite.
        reason: why, or why not.
    """

    strategy: Strategy
    groups: int
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """An immutable decision; made from values alone, so equal inputs give equal plans.

    Attributes:
        table: the target.
        format: the table's format, for people.
        snapshot: the snapshot it was made from and is valid against.
        target_file_size_bytes: size of the files to be written.
        groups: in the order of work.
        kept_files: data files that stay by reference, the skipped ones included.
        kept_bytes: their bytes.
        skipped: the files that would be candidates but for a reason.
        splice: which row groups may be copied as they are; None for none.
        cluster: the order that rows are put in; None where they keep theirs.
        change: what it changes; None where all rows stay. Its groups stand or fall together.
        announced: what the table is told before it begins; None where it need not be told. Its
            groups stand or fall together, too.
        considered: of a plan that chose its strategy itself: those that it looked at, the last one
            being what it does.
        output_spec: the partition spec that outputs are parted by, where it is not that of the
            inputs.
    """

    table: str
    format: str
    snapshot: Snapshot
    target_file_size_bytes: int
    groups: tuple[FileGroup, ...]
    kept_files: int
    kept_bytes: int
    skipped: tuple[Skipped, ...]
    splice: SpliceLimits | None = None
    cluster: ClusterPlan | None = None
    change: ChangePlan | None = None
    announced: Announced | None = None
    considered: tuple[Considered, ...] = ()
    output_spec: int | None = None

    @property
    def is_atomic(self) -> bool:
        """Whether its groups stand or fall together."""
        return self.change is not None or self.announced is not None

    @property
    def folds_logs(self) -> bool:
        """Whether each group is a slice that becomes one file, whatever its size."""
        return self.announced is not None and self.announced.kind is WorkKind.FOLD

    def totals(self) -> Totals:
        """Add up the groups."""
        deletes = (group.files.delete_files for group in self.groups)
        chunks = [chunk for one in deletes if one.num_rows for chunk in one["path"].chunks]
        return Totals(
            groups=len(self.groups),
            files=sum(group.files.file_count for group in self.groups),
            output_files_estimate=sum(group.output_files_estimate for group in self.groups),
            delete_files=len(pa.chunked_array(chunks, pa.string()).unique()),
            delete_files_estimate=sum(group.delete_files_estimate for group in self.groups),
            price=_total_price([group.price for group in self.groups]),
        )


@dataclass(frozen=True, slots=True)
class Totals:
    """The groups of a plan together.

    Attributes:
        groups: how many there are.
        files: data files that they replace.
        output_files_estimate: data files that they are expected to become.
        delete_files: different delete files that they apply.
        price: what all of them cost; its memory is that of the largest one.
        delete_files_estimate: delete files that these are expected to become.
    """

    groups: int
    files: int
    output_files_estimate: int
    delete_files: int
    price: Price
    delete_files_estimate: int = 0


def _total_price(prices: list[Price]) -> Price:
    return Price(
        input_bytes=sum(price.input_bytes for price in prices),
        delete_bytes=sum(price.delete_bytes for price in prices),
        output_bytes_estimate=sum(price.output_bytes_estimate for price in prices),
        memory_bytes_estimate=max((price.memory_bytes_estimate for price in prices), default=0),
        cpu_seconds_estimate=round(math.fsum(price.cpu_seconds_estimate for price in prices), 3),
        requests_estimate=sum(price.requests_estimate for price in prices),
        splice_bytes_estimate=sum(price.splice_bytes_estimate for price in prices),
        compose_bytes_estimate=sum(price.compose_bytes_estimate for price in prices),
    )
