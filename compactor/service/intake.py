"""Durable acceptance of deliveries: many of them in one transaction, each answered when it is safe.

A delivery is judged by what is registered: it becomes part of the rows that wait for its tables, or
is ignored with a reason. One that was seen before has the answer of then. Nothing is acted upon
but the choice of a table, and no table is looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue as queues
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

import msgspec
from sqlalchemy import Connection, insert, select, tuple_
from sqlalchemy.dialects import postgresql

from compactor.errors import CompactorError
from compactor.jobs.schema import JOBS
from compactor.jobs.store import JobStore, now_ms
from compactor.service.config import ServiceOptions
from compactor.service.hints import Acceptance, AcceptanceKind, Delivery, Hint
from compactor.service.places import enclosing_places
from compactor.service.queue import Wanted, enqueue
from compactor.service.schema import DELIVERIES, TABLES

# Deliveries of one transaction: about 20 ms of work, which the last of them waits for.
_BATCH_MAX = 200
# What they tell of together: a single one can name as many tables as all others do.
_BATCH_HINTS_MAX = 2000
# What a first delivery waits for others to share its transaction: that costs 2 ms of work and a
# write to the disk, however many they are.
_GATHER_SECONDS = 0.008
# Those that wait for their transaction; a sender beyond is asked to come back.
_WAITING_MAX = 5000
# What formats call the work of a service like this one, ours or another's.
_UPKEEP = frozenset(
    (
        "replace",
        "compaction",
        "clustering",
        "logcompaction",
        "replacecommit",
        "clean",
        "optimize",
        "vacuum start",
        "vacuum end",
    )
)
# Names are longer nowhere, and a page shows less.
_NAME_CHARACTERS_MAX = 1024
_SHOWN_CHARACTERS_MAX = 200
# Databases take so many values in one statement, and not many more.
_VALUES_MAX = 1000
_Key = tuple[str, str]


class IntakeFullError(CompactorError):
    """More deliveries wait to be made durable than can be; none of this one was kept."""

    code = "intake-full"
    retryable = True


@dataclass(frozen=True, slots=True)
class _Table:
    table_id: int
    target: str
    own_snapshot_id: str
    is_enabled: bool
    is_missing: bool


@dataclass(frozen=True, slots=True)
class _Known:
    """What the hints of a batch are judged by."""

    by_target: Mapping[str, _Table]
    by_place: Mapping[str, _Table]
    job_ids: frozenset[str]

    def judge(self, hint: Hint) -> tuple[_Table | None, str]:
        """Return the table to be compacted, or why there is none."""
        table = self._table(hint)
        named = hint.target or hint.location
        if table is None:
            return None, f"no registered table: {_shown(named or '')}"
        if hint.job_id and hint.job_id in self.job_ids:
            return None, f"`{table.target}`: made by job {hint.job_id} of this store"
        if hint.operation and hint.operation.lower() in _UPKEEP:
            return None, f"`{table.target}`: {hint.operation} is itself upkeep of the table"
        if hint.snapshot_id and hint.snapshot_id == table.own_snapshot_id:
            return None, f"`{table.target}`: snapshot {hint.snapshot_id} is of a job of this store"
        if not table.is_enabled:
            return None, f"`{table.target}` is disabled by its configuration"
        if table.is_missing:
            return None, f"`{table.target}` did not exist when it was looked at last"
        return table, ""

    def _table(self, hint: Hint) -> _Table | None:
        if hint.target is not None:
            return self.by_target.get(hint.target)
        places = enclosing_places(hint.location or "")
        return next((self.by_place[one] for one in places if one in self.by_place), None)


class Intake:
    """Takes deliveries from coroutines and makes them durable in a thread of its own."""

    def __init__(self, store: JobStore, options: ServiceOptions) -> None:
        self._store = store
        self._options = options
        self._waiting: queues.SimpleQueue[_Waiting | None] = queues.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="intake", daemon=True)
        self._received: Counter[tuple[str, AcceptanceKind]] = Counter()

    def __enter__(self) -> Intake:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.put(None)
        self._thread.join()

    @property
    def received(self) -> Mapping[tuple[str, AcceptanceKind], int]:
        """Deliveries that were answered since the start, by source and answer."""
        return dict(self._received)

    async def accept(self, delivery: Delivery) -> Acceptance:
        """Keep a delivery; it is durable when this returns.

        Raises:
            IntakeFullError: too many are waiting.
            JobFailedError: the store cannot be written now; nothing was kept.
        """
        if self._waiting.qsize() >= _WAITING_MAX:
            raise IntakeFullError("too many deliveries at once", hint="send it again later")
        answer: asyncio.Future[Acceptance] = asyncio.get_running_loop().create_future()
        self._waiting.put(_Waiting(delivery, answer))
        return await answer

    def accept_now(self, delivery: Delivery) -> Acceptance:
        """Keep a delivery from a thread; it is durable when this returns.

        Raises:
            JobFailedError: the store cannot be written now; nothing was kept.
        """
        [answer] = accept_all(self._store, [delivery], self._options)
        self._received[delivery.source, answer.kind] += 1
        return answer

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch, is_over, hints = [first], False, len(first.delivery.hints)
            time.sleep(_GATHER_SECONDS)
            with contextlib.suppress(queues.Empty):
                while len(batch) < _BATCH_MAX and hints < _BATCH_HINTS_MAX and not is_over:
                    following = self._waiting.get_nowait()
                    is_over = following is None
                    if following is not None:
                        batch.append(following)
                        hints += len(following.delivery.hints)
            self._settle(batch)
            if is_over:
                return

    def _settle(self, batch: Sequence[_Waiting]) -> None:
        deliveries = [one.delivery for one in batch]
        answers: Sequence[Acceptance | BaseException]
        try:
            answers = accept_all(self._store, deliveries, self._options)
        except Exception as error:  # noqa: BLE001 - told to each sender; the thread must go on
            answers = [error] * len(batch)
        for delivery, answer in zip(deliveries, answers, strict=True):
            if isinstance(answer, Acceptance):
                self._received[delivery.source, answer.kind] += 1
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
            batch[0].answer.get_loop().call_soon_threadsafe(_tell, batch, answers)


@dataclass(frozen=True, slots=True)
class _Waiting:
    delivery: Delivery
    answer: asyncio.Future[Acceptance]


def _tell(batch: Sequence[_Waiting], answers: Sequence[Acceptance | BaseException]) -> None:
    for one, answer in zip(batch, answers, strict=True):
        if one.answer.done():
            continue
        if isinstance(answer, Acceptance):
            one.answer.set_result(answer)
        else:
            one.answer.set_exception(answer)


def accept_all(
    store: JobStore, deliveries: Sequence[Delivery], options: ServiceOptions
) -> list[Acceptance]:
    """Keep deliveries in one transaction and return the answer to each.

    Of two that are equal, also within the batch, the second is a duplicate.

    Raises:
        JobFailedError: the store cannot be written; nothing was kept.
    """
    with store.transaction() as connection:
        answers = _seen(connection, deliveries)
        new = {key: one for one in deliveries if (key := _key(one)) not in answers}
        known = _read_known(connection, [hint for one in new.values() for hint in one.hints])
        judged = {key: [known.judge(hint) for hint in one.hints] for key, one in new.items()}
        rows = enqueue(connection, _wanted(new, judged), options)
        fresh = {key: _answer(found, rows) for key, found in judged.items()}
        _keep(connection, fresh)
    result = []
    for delivery in deliveries:
        key = _key(delivery)
        if key in answers:
            result.append(replace(answers[key], kind=AcceptanceKind.DUPLICATE))
        else:
            result.append(fresh[key])
            answers[key] = fresh[key]
    return result


def _key(delivery: Delivery) -> _Key:
    return delivery.source, delivery.delivery_id


def _seen(connection: Connection, deliveries: Iterable[Delivery]) -> dict[_Key, Acceptance]:
    columns = DELIVERIES.c.source, DELIVERIES.c.delivery_id
    keys = {_key(one) for one in deliveries}
    found = connection.execute(select(DELIVERIES).where(tuple_(*columns).in_(keys)))
    return {
        (row.source, row.delivery_id): Acceptance(
            AcceptanceKind(row.kind), tuple(msgspec.json.decode(row.trigger_ids)), row.reason
        )
        for row in found
    }


def _read_known(connection: Connection, hints: Sequence[Hint]) -> _Known:
    targets = {hint.target for hint in hints if _is_name(hint.target)}
    places = {place for hint in hints for place in enclosing_places(hint.location or "")}
    job_ids = {hint.job_id for hint in hints if _is_name(hint.job_id)}
    return _Known(
        by_target={table.target: table for _, table in _tables(connection, "target", targets)},
        by_place=dict(_tables(connection, "location", places)),
        job_ids=frozenset(_jobs(connection, job_ids)),
    )


def _tables(connection: Connection, column: str, values: set[str]) -> Iterator[tuple[str, _Table]]:
    names = ("table_id", "target", "own_snapshot_id", "is_enabled", "is_missing", "location")
    query = select(*(TABLES.c[name] for name in names))
    for some in _some(values):
        for row in connection.execute(query.where(TABLES.c[column].in_(some))):
            yield row.location, _Table(*row[:-1])


def _jobs(connection: Connection, job_ids: set[str]) -> Iterator[str]:
    for some in _some(job_ids):
        query = select(JOBS.c.job_id).where(JOBS.c.job_id.in_(some))
        yield from connection.execute(query).scalars()


def _some(values: set[str]) -> Iterator[list[str]]:
    ordered = sorted(values)
    for begin in range(0, len(ordered), _VALUES_MAX):
        yield ordered[begin : begin + _VALUES_MAX]


def _is_name(text: str | None) -> TypeGuard[str]:
    """Tell whether something may be the name of a table or a job; databases refuse some texts."""
    return bool(text) and len(text or "") <= _NAME_CHARACTERS_MAX and "\0" not in (text or "")


def _shown(text: str) -> str:
    """Return a text as it is kept: of bounded length, and such as every database takes."""
    return text[:_SHOWN_CHARACTERS_MAX].replace("\0", "\ufffd")


_Judged = Mapping[_Key, Sequence[tuple[_Table | None, str]]]


def _wanted(new: Mapping[_Key, Delivery], judged: _Judged) -> Iterator[Wanted]:
    wanted: dict[int, Wanted] = {}
    for key, delivery in new.items():
        for hint, (table, _) in zip(delivery.hints, judged[key], strict=True):
            if table is None:
                continue
            before = wanted.get(table.table_id)
            count = 1 + (before.hints if before else 0)
            wanted[table.table_id] = Wanted(table.table_id, key[0], _shown(hint.reason), count)
    return iter(wanted.values())


def _answer(judged: Sequence[tuple[_Table | None, str]], rows: Mapping[int, int]) -> Acceptance:
    ids = [rows[table.table_id] for table, _ in judged if table is not None]
    reasons = list(dict.fromkeys(reason for _, reason in judged if reason))
    kind = AcceptanceKind.ACCEPTED if ids else AcceptanceKind.IGNORED
    if not judged:
        reasons = ["it asks for nothing"]
    return Acceptance(kind, tuple(dict.fromkeys(ids)), "; ".join(reasons[:_REASONS_MAX]))


_REASONS_MAX = 5


def _keep(connection: Connection, answers: Mapping[_Key, Acceptance]) -> None:
    if not answers:
        return
    now = now_ms(connection)
    rows: list[dict[str, Any]] = [
        {
            "source": source,
            "delivery_id": delivery_id,
            "received_at_ms": now,
            "kind": answer.kind.value,
            "trigger_ids": msgspec.json.encode(answer.trigger_ids).decode(),
            "reason": answer.reason,
        }
        for (source, delivery_id), answer in answers.items()
    ]
    if connection.dialect.name == "postgresql":
        # Another instance may have been handed the same delivery at the same moment.
        connection.execute(postgresql.insert(DELIVERIES).on_conflict_do_nothing(), rows)
    else:
        connection.execute(insert(DELIVERIES), rows)
