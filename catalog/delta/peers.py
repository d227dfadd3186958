"""Other writers of a table that are known to do harm: what people should be told of them.  Pure.

`deltalake` 1.6.6 lets two concurrent compactions commit: the later one does not see that the files
it rewrote are gone, and their rows are in the table twice. Nothing that we commit can prevent it.
"""

from __future__ import annotations

from collections.abc import Iterable

from catalog.delta.actions import CommitInfo
from catalog.delta.deeds import OPTIMIZE

_FAULTY_ENGINES = frozenset(("delta-rs:py-1.6.6",))


def warnings(infos: Iterable[CommitInfo]) -> tuple[str, ...]:
    """Return a sentence for each faulty program that has compacted the table lately."""
    engines = {one.engine_info for one in infos if one.operation == OPTIMIZE}
    return tuple(
        f"{engine} compacts this table, too: when it commits after another compaction of the same"
        " files, their rows are doubled; compare the table with `compact verify`, and leave"
        " compaction to one program"
        for engine in sorted(engines & _FAULTY_ENGINES)
    )
