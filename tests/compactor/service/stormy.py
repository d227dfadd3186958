"""A worker of the storm: claims and ends rows, and now and then dies or sleeps past its claim.

Usage: python -m tests.compactor.service.stormy CONFIG SEED
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from sqlalchemy import insert

from compactor.jobs.schema import FENCES
from compactor.jobs.store import JobStore
from compactor.service import queue
from compactor.service.config import ServiceConfig, load_service_config
from compactor.service.duties import show_up
from compactor.service.queue import Claim, Outcome, claim, finish, reap
from compactor.service.store import open_service_store

CLAIM_SECONDS = 0.6


def work(store: JobStore, config: ServiceConfig, name: str, dice: random.Random) -> None:
    """Do one round: nothing where no row may start."""
    with store.transaction() as connection:
        show_up(connection, name, config.service, is_draining=False)
        reap(connection, config.service)
        held = claim(connection, name, config.service, config.budget)
    if held is None:
        time.sleep(0.02)
        return
    time.sleep(dice.random() * 0.02)
    if dice.random() < 0.05:
        os.kill(os.getpid(), signal.SIGKILL)
    if dice.random() < 0.03:
        time.sleep(2 * CLAIM_SECONDS)
    _end(store, config, held)


def _end(store: JobStore, config: ServiceConfig, held: Claim) -> None:
    """End a row together with its commit: a row of another table, with the same fate."""
    with store.transaction() as connection:
        outcome = Outcome("succeeded", job_id=f"{held.trigger_id}-{held.fence}")
        if finish(connection, held, outcome, config.service):
            commit = {"table_name": f"commit-{held.trigger_id}-{held.fence}", "fence": held.fence}
            connection.execute(insert(FENCES).values(commit))


def main(config_path: Path, seed: int) -> None:
    """Work until killed."""
    queue.CLAIM_SECONDS = CLAIM_SECONDS
    config = load_service_config(config_path, environment={"HOME": str(config_path.parent)})
    dice = random.Random(seed)
    with open_service_store(config.settings.store.url) as store:
        while True:
            work(store, config, f"{os.getpid()}-{seed}", dice)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
