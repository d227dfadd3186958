"""The right to work on a table: one process at a time, judged by the clock of the job store.

A lease is a row that its owner renews from a thread. It may be taken over once it has expired, or
at once when its owner ran on this machine and is dead. Every claim raises the table's fence.

The lease saves work, it does not make commits safe: that is the table's own commit protocol.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, text, update

from compactor.errors import JobFailedError, TableBusyError
from compactor.jobs.failpoints import Failpoint, hit
from compactor.jobs.owner import Owner
from compactor.jobs.schema import FENCES, JOBS, LEASES
from compactor.jobs.state import JobState
from compactor.jobs.store import JobStore, now_ms

TTL_SECONDS = 30.0
# Three renewals may be missed before anybody else can take the table.
RENEWALS_PER_TTL = 3
# The owner stops trusting its lease this long before others may take it.
MARGIN_SECONDS = 5.0
_LOG = logging.getLogger(__name__)
FINAL_STATES = [state.value for state in JobState if state.is_final]


class Lease:
    """A claimed table; made by `claim`.

    Attributes:
        table: the table's name.
        job_id: the unfinished job found with the table, or the id of the job to be made.
        is_resumable: whether that job was found.
        fence: grows with every claim of the table; recorded with every commit.
    """

    def __init__(self, store: JobStore, table: str, *, owner: Owner) -> None:
        self.table = table
        self.fence, self.job_id, self.is_resumable = _take(store, table, owner)
        self._store = store
        self._renewed_at = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew_until_ended, daemon=True)
        self._thread.start()

    @property
    def is_held(self) -> bool:
        """Whether nobody else can have taken the table yet, by this process's own clock."""
        return time.monotonic() - self._renewed_at < TTL_SECONDS - MARGIN_SECONDS

    def check(self) -> None:
        """Make sure of the lease before something is begun that relies on it.

        Raises:
            JobFailedError: it could not be renewed in time.
        """
        if not self.is_held:
            raise JobFailedError(
                f"lost the claim on `{self.table}`: the job store did not answer in time",
                hint="the same command continues the job",
            )

    def next_job(self) -> str:
        """Return the id of another job under the same claim."""
        self.job_id, self.is_resumable = new_job_id(), False
        with self._store.transaction() as connection:
            connection.execute(update(LEASES).where(*self._ours()).values(job_id=self.job_id))
        return self.job_id

    def release(self) -> None:
        """Give the table back; where the store does not answer, the claim ends by itself."""
        self._ended.set()
        self._thread.join()
        try:
            with self._store.transaction() as connection:
                connection.execute(delete(LEASES).where(*self._ours()))
        except JobFailedError as error:
            _LOG.warning("the claim on `%s` could not be given back: %s", self.table, error)

    def _ours(self) -> tuple[Any, ...]:
        return LEASES.c.table_name == self.table, LEASES.c.fence == self.fence

    def _renew_until_ended(self) -> None:
        while not self._ended.wait(TTL_SECONDS / RENEWALS_PER_TTL):
            try:
                self._renew()
            except JobFailedError:
                # `is_held` turns false when this goes on; a moment's trouble is not a loss.
                continue

    def _renew(self) -> None:
        begun_at = time.monotonic()
        with self._store.transaction() as connection:
            expires_at_ms = now_ms(connection) + int(TTL_SECONDS * 1000)
            renewal = update(LEASES).where(*self._ours()).values(expires_at_ms=expires_at_ms)
            is_renewed = connection.execute(renewal).rowcount == 1
        if is_renewed:
            self._renewed_at = begun_at


@contextmanager
def claim(store: JobStore, table: str) -> Iterator[Lease]:
    """Hold a table while the block runs.

    Raises:
        TableBusyError: another job holds it; the message names the job and its process.
    """
    lease = Lease(store, table, owner=Owner.current())
    hit(Failpoint.TABLE_CLAIMED)
    try:
        yield lease
    finally:
        lease.release()


def new_job_id() -> str:
    """Return a new id: later ones sort after earlier ones, and no two are ever equal."""
    return f"{job_id_beginning(int(time.time() * 1000))}{secrets.token_hex(4)}"


def job_id_beginning(at_ms: int) -> str:
    """Return what the ids made at a time begin with; it sorts after those made before."""
    return f"{at_ms:011x}"


def _take(store: JobStore, table: str, owner: Owner) -> tuple[int, str, bool]:
    with store.transaction() as connection:
        # First of all: of two processes, the second one waits here until the first has its lease.
        fence = raise_fence(connection, table)
        now = now_ms(connection)
        held = connection.execute(select(LEASES).where(LEASES.c.table_name == table)).first()
        if held is not None:
            _refuse_unless_free(held, now)
            connection.execute(delete(LEASES).where(LEASES.c.table_name == table))
        unfinished = connection.execute(
            select(JOBS.c.job_id)
            .where(JOBS.c.table_name == table, JOBS.c.state.not_in(FINAL_STATES))
            .order_by(JOBS.c.created_at_ms.desc())
        ).scalar()
        job_id = unfinished or new_job_id()
        connection.execute(
            insert(LEASES).values(
                table_name=table,
                job_id=job_id,
                fence=fence,
                host=owner.host,
                pid=owner.pid,
                process_started_at=owner.started_at,
                expires_at_ms=now + int(TTL_SECONDS * 1000),
            )
        )
        return fence, job_id, unfinished is not None


def _refuse_unless_free(held: Row[Any], now: int) -> None:
    holder = Owner(held.host, held.pid, held.process_started_at)
    if held.expires_at_ms > now and not holder.is_known_dead():
        raise TableBusyError(
            f"`{held.table_name}` is being compacted by job {held.job_id}"
            f" (process {held.pid} on {held.host.split()[0]})",
            hint=f"wait for it, or see `compact jobs show {held.job_id}`",
        )


# In the words of SQLite and PostgreSQL alike. The row stays locked until the claim is made.
_RAISE_FENCE = text(
    "INSERT INTO fences (table_name, fence) VALUES (:table_name, 1)"
    " ON CONFLICT (table_name) DO UPDATE SET fence = fences.fence + 1"
)


def raise_fence(connection: Connection, table: str) -> int:
    """Raise the fence of a table and return it; others wait until the transaction has ended."""
    connection.execute(_RAISE_FENCE, {"table_name": table})
    fence = select(FENCES.c.fence).where(FENCES.c.table_name == table)
    return int(connection.execute(fence).scalar_one())
