"""Which equality delete files may leave a table: those that no data file needs any more."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa
from pyiceberg.manifest import DataFile

from catalog.iceberg.head import Head, LiveEntry, partition_text
from catalog.iceberg.key_bounds import can_hit

# Pairs of files whose bounds are compared; a delete file that is not through by then stays.
_COMPARED_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class Remaining:
    """A data file that is there after a commit.

    Attributes:
        file: its entry.
        sequence_number: its age.
        recorded: delete files that hit it no more: the commit records anew which rows they drop.
    """

    file: DataFile
    sequence_number: int
    recorded: frozenset[str] = frozenset()


def dangling(
    head: Head,
    remaining: Iterable[Remaining],
    *,
    kinds: Mapping[int, pa.DataType],
) -> list[LiveEntry]:
    """Return the equality delete files that hit no data file any more.

    Args:
        head: the state before the commit.
        remaining: the data files after it, our own included; those that no equality delete of
            `head` can apply to may be left out.
        kinds: types of the columns that rows may be deleted by.
    """
    # What else there is of delete files lies in partitions that have not been looked into.
    touched = {None, *(partition_text(one.file) for one in head.files.values())}
    left: dict[str | None, list[LiveEntry]] = {}
    for one in head.deletes:
        if one.is_equality and (partition := head.scope(one).partition) in touched:
            left.setdefault(partition, []).append(one)
    compared = 0
    for data in remaining:
        if not left:
            break
        for key in (partition_text(data.file), None):
            candidates = left.get(key, ())
            compared += len(candidates)
            still = [
                one
                for one in candidates
                if not _may_hit(one, data)
                or (compared <= _COMPARED_MAX and not can_hit(one.file, data.file, kinds))
            ]
            if still:
                left[key] = still
            else:
                left.pop(key, None)
    return [one for some in left.values() for one in some]


def _may_hit(delete: LiveEntry, data: Remaining) -> bool:
    """Whether a delete applies to a data file in its scope, as far as their numbers tell."""
    is_younger = data.sequence_number < delete.sequence_number
    return is_younger and delete.file.name not in data.recorded


def has_equality(deletes: Collection[LiveEntry]) -> bool:
    """Whether some delete files name rows by their values."""
    return any(one.is_equality for one in deletes)
