"""Demo catalogs, and a place of its own for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalog.iceberg.demo import DemoCatalog, make_demo_catalog


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep settings and state of this machine out, and what is written in one directory."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("COMPACT_RUNTIME__URL", "inline")
    for name in ("NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoCatalog:
    """Return the tables of the demo, for tests that only read them."""
    return make_demo_catalog(tmp_path_factory.mktemp("demo"))


def use(catalog: DemoCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in catalog.properties:
        monkeypatch.setenv(f"PYICEBERG_CATALOG__DEMO__{key.upper()}", value)


@pytest.fixture
def demo_catalog(demo: DemoCatalog, monkeypatch: pytest.MonkeyPatch) -> DemoCatalog:
    """Configure the demo's catalog."""
    use(demo, monkeypatch)
    return demo


@pytest.fixture
def own_catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DemoCatalog:
    """Configure a demo catalog that a test may change."""
    catalog = make_demo_catalog(tmp_path / "own")
    use(catalog, monkeypatch)
    return catalog
