"""A table of a SQLite catalog is looked up as PyIceberg's catalog does, and committed to by it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField

from catalog.errors import StorageError
from catalog.iceberg.catalogs import catalog_errors, open_catalog, open_tables
from catalog.iceberg.sqlite import SqliteTables, database_of

SCHEMA = Schema(NestedField(1, "id", LongType(), required=False))


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    return {
        "type": "sql",
        "uri": f"sqlite:///{tmp_path}/a catalog.db",
        "warehouse": f"file://{tmp_path}/warehouse",
    }


@pytest.fixture
def whole(settings: dict[str, str]) -> Catalog:
    made = SqlCatalog("lake", **settings)
    made.create_namespace("ns")
    made.create_table("ns.t", SCHEMA)
    return open_catalog("lake", settings)


def execute(settings: dict[str, str], *statements: str) -> None:
    path = database_of(settings)
    with closing(sqlite3.connect(str(path))) as database, database:
        for statement in statements:
            database.execute(statement)


def test_a_table_is_what_the_catalog_itself_loads(whole: Catalog, settings: dict[str, str]) -> None:
    light = open_tables("lake", settings)
    assert isinstance(light, SqliteTables)
    found, expected = light.load_table(("ns", "t")), whole.load_table(("ns", "t"))
    assert found == expected
    assert found.io.properties == expected.io.properties


def test_what_it_does_not_do_itself_the_catalog_does(
    whole: Catalog, settings: dict[str, str]
) -> None:
    light = open_tables("lake", settings)
    with light.load_table(("ns", "t")).transaction() as change:
        change.set_properties(owner="somebody")
    assert whole.load_table(("ns", "t")).properties["owner"] == "somebody"
    assert light.list_tables("ns") == [("ns", "t")]


def test_views_are_no_tables_and_old_catalogs_have_none(
    whole: Catalog, settings: dict[str, str]
) -> None:
    light = open_tables("lake", settings)
    execute(settings, "update iceberg_tables set iceberg_type = 'VIEW'")
    for catalog in (light, whole):
        with pytest.raises(NoSuchTableError):
            catalog.load_table(("ns", "t"))
    execute(settings, "alter table iceberg_tables drop column iceberg_type")
    light = open_tables("lake", settings)
    assert light.load_table(("ns", "t")).schema() == SCHEMA
    with pytest.raises(NoSuchTableError):
        light.load_table(("ns", "other"))


@pytest.mark.parametrize(
    "odd",
    [
        {"type": "rest"},
        {"uri": "sqlite:///{path}?timeout=5"},
        {"uri": "sqlite://"},
        {"uri": "postgresql://host/db"},
        {"echo": "true"},
        {"py-catalog-impl": "some.Catalog"},
    ],
)
def test_any_other_catalog_is_left_to_the_library(
    tmp_path: Path, settings: dict[str, str], odd: dict[str, str]
) -> None:
    path = tmp_path / "a catalog.db"
    path.touch()
    assert database_of(settings) == path
    assert database_of(settings | {key: one.format(path=path) for key, one in odd.items()}) is None
    path.unlink()
    assert database_of(settings) is None


def test_what_a_dead_writer_left_is_rolled_back_by_the_library(
    whole: Catalog, settings: dict[str, str]
) -> None:
    expected = whole.load_table(("ns", "t"))
    path = database_of(settings)
    journal = path.with_name(f"{path.name}-journal")
    with closing(sqlite3.connect(str(path), isolation_level=None)) as database:
        database.execute("pragma cache_size = 1")
        database.execute("begin exclusive")
        database.execute("update iceberg_tables set metadata_location = 'file:///nowhere'")
        database.execute("create table bulk (value)")
        database.executemany("insert into bulk values (?)", [("x" * 900,)] * 100)
        left = {one: one.read_bytes() for one in (path, journal)}
        database.rollback()
    for one, content in left.items():
        one.write_bytes(content)
    assert open_tables("lake", settings).load_table(("ns", "t")) == expected


@pytest.mark.parametrize("name", ["we'ird", 'q"uote', "ünï", "x; drop table t", "per%cent", "a.b"])
def test_odd_names_are_names(whole: Catalog, settings: dict[str, str], name: str) -> None:
    place = f"{settings['warehouse']}/{name.encode().hex()}"
    SqlCatalog("lake", **settings).create_table(("ns", name), SCHEMA, location=place)
    light = open_tables("lake", settings)
    assert light.load_table(("ns", name)) == whole.load_table(("ns", name))
    assert light.load_table(("ns", name)).location() == place


@pytest.mark.parametrize("content", [b"", b"not a database" * 100])
def test_what_is_no_catalog_is_complained_of_by_the_library(
    settings: dict[str, str], content: bytes
) -> None:
    Path(settings["uri"].removeprefix("sqlite:///")).write_bytes(content)
    with pytest.raises(StorageError), catalog_errors("the table"):
        open_tables("lake", settings).load_table(("ns", "t"))
