"""What tests of the service share: a store on either database, a configuration, tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from compactor.jobs.store import JobStore
from compactor.service.config import ServiceConfig, load_service_config
from compactor.service.registry import Registry
from compactor.service.store import open_service_store
from tests.judges import postgres

Configure = Callable[[str], ServiceConfig]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/jobs.db"
    server: postgres.Postgres = request.getfixturevalue("postgres_server")
    return server.new_database()


@pytest.fixture
def store(store_url: str) -> Iterator[JobStore]:
    with open_service_store(store_url) as opened:
        yield opened


@pytest.fixture
def configure(store_url: str, tmp_path: Path) -> Configure:
    def configured(text: str) -> ServiceConfig:
        path = tmp_path / "compact.toml"
        path.write_text(f'[store]\nurl = "{store_url}"\n{text}')
        return load_service_config(path, environment={"HOME": str(tmp_path)})

    return configured


@pytest.fixture
def registered(store: JobStore, configure: Configure) -> ServiceConfig:
    """Register four tables of two namespaces, with no debounce."""
    tables = "".join(
        f'[[tables]]\ntarget = "lake.{name}"\n' for name in ("a.one", "a.two", "b.one", "b.two")
    )
    config = configure(f'[service]\ndebounce = "0s"\nretry_delay = "0s"\n{tables}')
    Registry(store, config).apply_configuration()
    return config
