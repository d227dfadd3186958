"""Brings the rows of many tables together by key: a hash shuffle on the programming model.

    refs = shuffle(rt, inputs, Shuffle(by=("id",), buckets=16, read=read_file, reduce=merge))

Each input is read, combined and cut into buckets by one task, which returns one object with a
segment per bucket; each bucket is reduced by one task, which maps its segments and gives their
memory back when it is done. Rows of one key keep their order: that of the inputs, then of rows.
Objects beyond the memory budget are spilled by the backend like any other.

Between machines a whole object would be moved for the sake of one segment. There each input is cut
into objects of their own, `GROUPS_MAX` at most, each of consecutive buckets. Where those are
several, tasks of a second level take one group of as many inputs as there are groups, about as many
bytes as one input has, and cut it into buckets, while other inputs are still being read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa

from runtime.api import Gather, Key, Ref, Runtime, Segments
from runtime.partition import concatenated, partition

GROUPS_MAX = 64
"""Objects per input between machines. Those up to 100 KiB stay in the memory of the driver, which
keeps account of all: 6 MiB for an input at most."""

_BUCKETS_MAX = 1 << 16

Blocks = list[pa.Table]
"""The rows of some consecutive buckets."""


def identity(value: Any) -> Any:
    """Return what was given."""
    return value


@dataclass(frozen=True, slots=True)
class Shuffle:
    """How to bring rows together.

    Attributes:
        by: Key columns: rows that are equal in them meet in one bucket.
        buckets: How many; a power of two lets buckets be split and joined by hash prefix later.
        read: Makes the table of an input, in the map task.
        combine: Shrinks that table before it is cut, as by keeping the last row of each key.
        reduce: Makes the result of a bucket from all its rows.
        key: (table, operation) of the profiles; the operation gets `-map` and `-reduce` added.
    """

    by: tuple[str, ...]
    buckets: int
    read: Callable[[Any], pa.Table] = identity
    combine: Callable[[pa.Table], pa.Table] = identity
    reduce: Callable[[pa.Table], Any] = identity
    key: Key | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.buckets <= _BUCKETS_MAX:
            raise ValueError(f"buckets must be 1 to {_BUCKETS_MAX}, not {self.buckets}")
        if not self.by:
            raise ValueError("a shuffle needs at least one key column")


def shuffle(
    rt: Runtime, inputs: Sequence[object], plan: Shuffle, *, memory: int | None = None
) -> list[Ref[Any]]:
    """Queue a shuffle; returns the results of the buckets, in their order.

    Args:
        rt: Where it runs.
        inputs: What `plan.read` makes tables of; refs as well. At least one.
        plan: How.
        memory: Expected peak of a task in bytes; None: it is predicted from its inputs.

    Raises:
        ValueError: There are no inputs.
    """
    if not inputs:
        raise ValueError("a shuffle needs at least one input")
    steps = _Steps(rt, plan, memory)
    return steps.on_one_machine(inputs) if rt.stats().nodes == 1 else steps.on_many(inputs)


@dataclass(frozen=True, slots=True)
class _Steps:
    """The tasks of one shuffle."""

    rt: Runtime
    plan: Shuffle
    memory: int | None

    def on_one_machine(self, inputs: Sequence[object]) -> list[Ref[Any]]:
        """Cut each input into the segments of one object; these are read where they lie."""
        plan, key = self.plan, self._key("map")
        maps = [
            self.rt.submit(map_task, plan, each, memory=self.memory, key=key) for each in inputs
        ]
        empty = Gather(maps[:1], plan.buckets)
        return [
            self._reduce(reduce_task, Gather(maps, bucket, frees=True), empty)
            for bucket in range(plan.buckets)
        ]

    def on_many(self, inputs: Sequence[object]) -> list[Ref[Any]]:
        """Cut each input into an object per group of buckets, and groups of many into buckets."""
        groups = group_sizes(self.plan.buckets)
        cuts = [self._cut("map", groups, cut_task, self.plan, each, groups) for each in inputs]
        if len(groups) == self.plan.buckets:
            return [self._reduce(reduce_blocks, Gather(some)) for some in zip(*cuts, strict=True)]
        waves = [cuts[start : start + len(groups)] for start in range(0, len(cuts), len(groups))]
        return [
            self._reduce(reduce_blocks, Gather(some))
            for group, buckets in enumerate(groups)
            for some in zip(*(self._regroup(wave, group, buckets) for wave in waves), strict=True)
        ]

    def _regroup(
        self, wave: Sequence[Sequence[Ref[Blocks]]], group: int, buckets: int
    ) -> list[Ref[Blocks]]:
        """Cut one group of some inputs into its buckets."""
        some = Gather([cut[group] for cut in wave])
        return self._cut("regroup", [1] * buckets, regroup_task, some)

    def _cut(
        self, step: str, groups: Sequence[int], fn: Callable[..., list[Blocks]], *args: object
    ) -> list[Ref[Blocks]]:
        return self.rt.submit(
            fn, *args, memory=self.memory, key=self._key(step), returns=len(groups)
        )

    def _reduce(self, fn: Callable[..., Any], *args: object) -> Ref[Any]:
        reduce = self.plan.reduce
        return self.rt.submit(fn, reduce, *args, memory=self.memory, key=self._key("reduce"))

    def _key(self, step: str) -> Key | None:
        key = self.plan.key
        return None if key is None else (key[0], f"{key[1]}-{step}")


def group_sizes(buckets: int) -> list[int]:
    """Return how many buckets each group has: few groups, and all about alike."""
    count = min(buckets, GROUPS_MAX)
    return [buckets * (place + 1) // count - buckets * place // count for place in range(count)]


def map_task(plan: Shuffle, each: object) -> Segments:
    """Read one input and cut it: a segment per bucket (None if it is empty), then no rows."""
    table = plan.combine(plan.read(each))
    parts = partition(table, plan.by, plan.buckets)
    return Segments([*(part if part.num_rows else None for part in parts), table.slice(0, 0)])


def reduce_task(
    reduce: Callable[[pa.Table], Any], parts: list[pa.Table | None], empty: list[pa.Table]
) -> Any:
    """Reduce one bucket."""
    tables = [part for part in parts if part is not None]
    return reduce(concatenated(tables or empty))


def cut_task(plan: Shuffle, each: object, groups: Sequence[int]) -> list[Blocks]:
    """Read one input and cut it: the tables of each group of buckets."""
    table = plan.combine(plan.read(each))
    parts = iter(partition(table, plan.by, plan.buckets))
    return [list(islice(parts, count)) for count in groups]


def regroup_task(cuts: Sequence[Blocks]) -> list[Blocks]:
    """Bring one group of several inputs together, bucket by bucket."""
    return [[concatenated(tables)] for tables in zip(*cuts, strict=True)]


def reduce_blocks(reduce: Callable[[pa.Table], Any], blocks: Sequence[Blocks]) -> Any:
    """Reduce one bucket, the only one of these blocks."""
    return reduce(concatenated([table for some in blocks for table in some]))
