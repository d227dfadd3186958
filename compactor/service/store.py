"""Opening the store of the service: the job store with the tables of the service beside its own."""

from __future__ import annotations

from compactor.jobs.migrations import JOB_STORE
from compactor.jobs.store import JobStore, open_store
from compactor.service.schema import LINEAGE


def open_service_store(url: str) -> JobStore:
    """Open the store at a SQLAlchemy URL.

    Raises:
        SettingsError: the URL cannot be used, or the store belongs to a later program.
    """
    return open_store(url, (JOB_STORE, LINEAGE))
