"""The tables of the service beside those of the job store: made once, by many, and versioned."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import insert, inspect, text, update

from compactor.errors import SettingsError
from compactor.jobs.schema import FENCES
from compactor.jobs.store import JobStore, open_store
from compactor.service.schema import LINEAGE, VERSION
from compactor.service.store import open_service_store
from compactor.service.views import Views
from tests.compactor.service.conftest import Configure


def test_a_job_store_becomes_that_of_a_service_and_stays_a_job_store(
    store_url: str, configure: Configure
) -> None:
    with open_store(store_url) as store, store.transaction() as connection:
        connection.execute(insert(FENCES).values(table_name="lake.a.one", fence=7))
    with ThreadPoolExecutor(4) as pool:
        for opened in pool.map(open_service_store, [store_url] * 4):
            config = configure("")
            assert Views(opened, config.service, config.budget).tables() == ()
            opened.close()
    with open_store(store_url) as store, store.reading() as connection:
        assert connection.execute(FENCES.select()).one() == ("lake.a.one", 7)


def test_a_store_of_the_first_services_gets_the_indexes_of_later_ones(store_url: str) -> None:
    with open_service_store(store_url) as store:
        wanted = indexes(store)
        with store.transaction() as connection:
            for statement in (
                "DROP INDEX tables_figures",
                "DROP INDEX triggers_ended",
                "DROP INDEX triggers_by_state",
                "CREATE INDEX tables_by_health ON tables (health)",
                "CREATE INDEX triggers_finished ON triggers (finished_at_ms)",
                "UPDATE compactor_service SET version = 1",
            ):
                connection.execute(text(statement))
    with open_service_store(store_url) as store:
        assert indexes(store) == wanted


def indexes(store: JobStore) -> set[tuple[str, ...]]:
    with store.engine.connect() as connection:
        looked = inspect(connection)
        return {
            (table, str(one["name"]), *map(str, one["column_names"]))
            for table in looked.get_table_names()
            for one in looked.get_indexes(table)
        }


def test_tables_of_a_later_service_are_left_alone(store_url: str) -> None:
    with open_service_store(store_url) as store, store.transaction() as connection:
        connection.execute(update(VERSION).values(version=LINEAGE.version + 1))
    with pytest.raises(SettingsError, match="belongs to a later version"):
        open_service_store(store_url)
    # Whoever runs `compact run` has nothing to do with them.
    open_store(store_url).close()
