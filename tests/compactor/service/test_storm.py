"""A storm over the queue: workers die and oversleep, triggers come twice, and nothing is lost."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import func, select

from compactor.jobs.schema import FENCES
from compactor.jobs.store import JobStore
from compactor.service.hints import AcceptanceKind
from compactor.service.registry import Registry
from compactor.service.schema import TABLES, TRIGGERS
from tests.compactor.service.conftest import Configure
from tests.compactor.service.rows import deliver, hint

ROOT = Path(__file__).resolve().parents[3]
WORKERS, TABLES_COUNT, SECONDS, PATIENCE_SECONDS = 4, 30, 12.0, 240.0


@pytest.mark.slow
def test_no_trigger_is_lost_and_no_row_is_ended_twice(
    store: JobStore, configure: Configure, tmp_path: Path
) -> None:
    tables = "".join(f'[[tables]]\ntarget = "lake.a.t{n}"\n' for n in range(TABLES_COUNT))
    config = configure(
        '[service]\njobs_max = 100\ndebounce = "50ms"\ndebounce_max = "1s"\nretry_delay = "50ms"\n'
        f"attempts_max = 50\n{tables}"
    )
    Registry(store, config).apply_configuration()
    seeds = iter(range(10_000))
    command = [sys.executable, "-m", "tests.compactor.service.stormy", tmp_path / "compact.toml"]

    def started() -> subprocess.Popen[bytes]:
        return subprocess.Popen([*command, str(next(seeds))], cwd=ROOT)

    workers, dice, kinds, deaths = [started() for _ in range(WORKERS)], random.Random(7), [], 0
    try:
        begun, sent, is_over = time.monotonic(), 0, False
        while not is_over or _is_busy(store):
            elapsed = time.monotonic() - begun
            assert elapsed < PATIENCE_SECONDS, "rows are stuck"
            # On a busy machine it takes longer until the first dies.
            is_over = elapsed > SECONDS and deaths > 0
            if not is_over:
                sent += 1
                target = f"lake.a.t{dice.randrange(TABLES_COUNT)}"
                key = str(dice.randrange(sent, sent + 10))
                kinds.append(deliver(store, config, hint(target), key=key).kind)
            time.sleep(0.01)
            for number, worker in enumerate(workers):
                if worker.poll() is not None:
                    deaths += 1
                    workers[number] = started()
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert Counter(kinds)[AcceptanceKind.DUPLICATE] > 0
    with store.reading() as connection:
        done = select(TRIGGERS.c.job_id).where(TRIGGERS.c.state == "done")
        jobs = [f"commit-{job}" for job in connection.execute(done).scalars()]
        commits = select(FENCES.c.table_name).where(FENCES.c.table_name.startswith("commit-"))
        assert sorted(jobs) == sorted(connection.execute(commits).scalars())
        hints = connection.execute(select(func.sum(TRIGGERS.c.hints))).scalar_one()
        assert hints >= Counter(kinds)[AcceptanceKind.ACCEPTED]
        # Triggers go into the newest row of a table: that it was done is what followed all of them.
        newest = select(func.max(TRIGGERS.c.trigger_id)).group_by(TRIGGERS.c.table_id)
        ends = select(TRIGGERS.c.state).where(TRIGGERS.c.trigger_id.in_(newest))
        assert set(connection.execute(ends).scalars()) == {"done"}
        assert connection.execute(select(func.count()).select_from(TABLES)).scalar() == TABLES_COUNT


def _is_busy(store: JobStore) -> bool:
    with store.reading() as connection:
        waiting = TRIGGERS.c.state.in_(("pending", "running"))
        return connection.execute(select(TRIGGERS.c.trigger_id).where(waiting)).first() is not None
