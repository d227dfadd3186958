"""Two streams of changes, an appender and a compaction race on one table: it ends exact."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count

from catalog.commits import CommitResult, Rewrite, Watermark
from catalog.errors import CommitConflictError
from catalog.model import Snapshot
from catalog.table import Table
from tests.catalog.changes import Change, Row, plan_change
from tests.catalog.conformance import Lake, expected
from tests.catalog.groups import make_commit, partitions, rewrite

# Both streams are about these keys.
_KEYS = 30
# Others leave the table alone from then on: changes that lose every race end anyway.
_CROWDED_SECONDS = 12.0


@dataclass
class ChangeRace:
    """What the writers were told had been done.

    Attributes:
        handle: gives a thread a lake of its own.
        append: appends rows of a partition as another writer; whether they are in the table.
        target: changes that each stream makes.
    """

    handle: Callable[[], Lake]
    append: Callable[[Lake, range, str], bool]
    target: int = 5
    made: list[tuple[int, str, Change]] = field(default_factory=list)
    appended: list[Row] = field(default_factory=list)
    conflicts: int = 0
    compactions: int = 0
    errors: list[BaseException] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Race until both streams are done; then everything must add up."""
        start = expected(range(_KEYS))
        assert self.append(self.handle(), range(_KEYS), "a")
        streams = [self._thread(self._stream(name)) for name in ("orders", "refunds")]
        others = [self._thread(self._appending()), self._thread(self._compacting())]
        for thread in (*streams, *others):
            thread.start()
        for thread in streams:
            thread.join()
        self.is_over.set()
        for thread in others:
            thread.join()
        self._check(start)

    def _check(self, start: list[Row]) -> None:
        assert self.errors == []
        rows = start
        for _, _, change in sorted(self.made, key=lambda one: one[0]):
            rows = change.apply(rows)
        lake = self.handle()
        assert lake.rows() == sorted([*rows, *self.appended])
        for name in ("orders", "refunds"):
            assert lake.table.watermark(name) == str(self.target - 1)
        numbers = [number for number, *_ in self.made]
        assert len(set(numbers)) == len(numbers) == 2 * self.target

    def _thread(self, steps: Iterator[None]) -> threading.Thread:
        def work() -> None:
            try:
                for _ in steps:
                    time.sleep(random.uniform(0, 0.05))
            except BaseException as error:  # noqa: BLE001 - reported by the test
                self.errors.append(error)

        return threading.Thread(target=work)

    def _stream(self, source: str) -> Iterator[None]:
        for number in range(self.target):
            ids = random.sample(range(_KEYS), 6)
            change = Change(
                [(one, "ab"[one % 2], f"{source} {number}") for one in ids[:4]],
                deletes=ids[4:],
                watermarks=(Watermark(source, str(number)),),
            )
            while (snapshot := self._try(change)) is None:
                self.conflicts += 1
                yield
            self.made.append((snapshot.sequence_number, source, change))
            yield

    def _try(self, change: Change) -> Snapshot | None:
        table = self.handle().table
        marks = table.can_mark and random.random() < 0.5
        commit = plan_change(table, change, marks=marks)
        result = CommitResult(None, (), ())
        with suppress(CommitConflictError):
            result = table.commit(commit)
        found = table.find_commit(commit)
        assert (None if found is None else found.snapshot) == result.snapshot
        if found is None:
            table.clean_commit(commit)
        return result.snapshot

    def _others(self) -> Iterator[Lake]:
        """Yield a lake now and then, until the race is over or has been crowded for long enough."""
        deadline = time.monotonic() + _CROWDED_SECONDS
        lake = self.handle()
        while not self.is_over.wait(random.uniform(0.2, 0.8)) and time.monotonic() < deadline:
            yield lake

    def _appending(self) -> Iterator[None]:
        for first, lake in zip(count(1_000_000, 5), self._others(), strict=False):
            part = random.choice("ab")
            if self.append(lake, range(first, first + 5), part):
                self.appended += expected(range(first, first + 5), part)
            yield

    def _compacting(self) -> Iterator[None]:
        for lake in self._others():
            self.compactions += self._compact(lake.table)
            yield

    def _compact(self, table: Table) -> int:
        snapshot = table.snapshot()
        groups = partitions(table.inventory(snapshot))
        rewrites: list[Rewrite] = [
            rewrite(table, snapshot, group, key)
            for key, group in groups.items()
            if group.file_count > 1
        ]
        with suppress(CommitConflictError):
            return len(table.commit(make_commit(snapshot, *rewrites)).committed)
        return 0
