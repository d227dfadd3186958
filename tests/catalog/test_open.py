"""Targets: names, paths and globs are opened, or refused with what to do next."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from catalog.errors import (
    AccessDeniedError,
    CatalogError,
    StorageError,
    TableNotFoundError,
    UnsupportedTableError,
)
from catalog.open import expand, open_table, suggestions
from tests.iceberg_tables import catalog_properties, sql_catalog

SCHEMA = pa.schema([pa.field("id", pa.int64())])
NAMES = ["sales.orders", "sales.order_items", "sales.returns", "ops.orders", "ops.eu.events"]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog with namespaces of one and two levels, configured in a `.pyiceberg.yaml`."""
    directory = tmp_path_factory.mktemp("lake")
    catalog = sql_catalog(directory)
    for name in NAMES:
        catalog.create_namespace_if_not_exists(name.rpartition(".")[0])
        catalog.create_table(name, SCHEMA)
    lines = [f"      {key}: {value}" for key, value in catalog_properties(directory).items()]
    (directory / ".pyiceberg.yaml").write_text("catalog:\n  lake:\n" + "\n".join(lines) + "\n")
    return directory


@pytest.fixture
def configured(lake: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYICEBERG_HOME", str(lake))
    return lake


def _refusal(target: str, kind: type[CatalogError], **properties: str) -> CatalogError:
    with pytest.raises(kind) as caught:
        open_table(target, properties or None)
    return caught.value


# --- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_tables_by_name(configured: Path, name: str) -> None:
    for target in (f"lake.{name}", f"iceberg:lake.{name}"):
        table = open_table(target)

        assert table.name == target
        assert table.format == "iceberg v2"
        assert table.snapshot().snapshot_id == ""


def test_configuration_from_the_environment(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in catalog_properties(lake).items():
        monkeypatch.setenv(f"PYICEBERG_CATALOG__LAKE__{key.upper()}", value)

    assert open_table("lake.sales.orders").format == "iceberg v2"


def test_a_file_interface_of_the_user_is_kept(
    configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from catalog.iceberg.catalog_io import CatalogFileIO
    from catalog.iceberg.table import IcebergTable

    ours = open_table("lake.sales.orders")
    theirs = open_table(
        "lake.sales.orders",
        {**catalog_properties(configured), "py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO"},
    )

    assert isinstance(ours, IcebergTable)
    assert isinstance(theirs, IcebergTable)
    assert isinstance(ours.current().io, CatalogFileIO)
    assert type(theirs.current().io).__name__ == "PyArrowFileIO"


def test_what_does_not_exist(configured: Path) -> None:
    assert "lake.sales.order" in str(_refusal("lake.sales.order", TableNotFoundError))
    assert "lake.sale.orders" in str(_refusal("lake.sale.orders", TableNotFoundError))
    unknown = _refusal("pond.sales.orders", TableNotFoundError)
    assert "`pond`" in str(unknown)
    assert "lake" in unknown.hint
    assert "PYICEBERG_CATALOG__POND__URI" in unknown.hint
    for odd in ("orders", "sales.orders", "lake..orders", "lake.sales."):
        assert "catalog.namespace.table" in _refusal(odd, TableNotFoundError).hint


def test_a_table_that_is_dropped_while_open(lake: Path) -> None:
    catalog = sql_catalog(lake)
    catalog.create_table("ops.brief", SCHEMA)
    table = open_table("lake.ops.brief", catalog_properties(lake))
    catalog.drop_table("ops.brief")

    with pytest.raises(TableNotFoundError, match="does not exist"):
        table.snapshot()


# --- catalogs that cannot be reached -----------------------------------------------------------


def test_a_database_that_is_missing_is_not_created(tmp_path: Path) -> None:
    path = tmp_path / "missing.db"
    error = _refusal("lake.a.b", StorageError, type="sql", uri=f"sqlite:///{path}")

    assert str(path) in str(error)
    assert not path.exists()


def test_a_database_that_is_no_catalog(tmp_path: Path) -> None:
    path = tmp_path / "empty.db"
    path.touch()
    error = _refusal("lake.a.b", CatalogError, type="sql", uri=f"sqlite:///{path}")

    assert "\n" not in str(error)
    assert path.stat().st_size == 0


def test_a_catalog_that_does_not_answer() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{unused.getsockname()[1]}"
    error = _refusal("lake.a.b", StorageError, type="rest", uri=uri)

    assert error.retryable
    assert "the catalog lake" in str(error)


@contextmanager
def _server(status: int) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"error": {"message": "no", "type": "Refused", "code": %d}}' % status
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "kind"), [(401, AccessDeniedError), (403, AccessDeniedError), (500, StorageError)]
)
def test_a_catalog_that_refuses(status: int, kind: type[CatalogError]) -> None:
    with _server(status) as uri:
        _refusal("lake.a.b", kind, type="rest", uri=uri)


def test_settings_that_make_no_catalog() -> None:
    error = _refusal("lake.a.b", CatalogError, type="filing-cabinet")

    assert "filing-cabinet" in str(error)
    assert "type" in error.hint


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"type": "sql", "uri": "no uri"}, "no uri"),
        ({"type": "sql", "uri": "oracle://host/db"}, "not installed"),
        ({"type": "sql"}, "uri"),
        ({"uri": "gopher://x"}, "gopher"),
        ({"py-catalog-impl": "no.such.Catalog"}, "no.such.Catalog"),
    ],
)
def test_settings_of_which_one_is_wrong(settings: dict[str, str], said: str) -> None:
    error = _refusal("lake.a.b", CatalogError, **settings)

    assert said in str(error)
    assert error.hint


def test_a_configuration_that_is_malformed(tmp_path: Path) -> None:
    (tmp_path / ".pyiceberg.yaml").write_text("catalog: [")
    program = (
        "from catalog.errors import CatalogError\n"
        "from catalog.open import open_table\n"
        "try:\n"
        "    open_table('lake.a.b')\n"
        "except CatalogError as error:\n"
        "    print(error.hint)\n"
    )

    assert ".pyiceberg.yaml" in _run(program, PYICEBERG_HOME=str(tmp_path))


# --- paths -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("marker", "content", "said"),
    [
        (".hoodie/hoodie.properties", "hoodie.table.version=5", "hoodie.table.version is 5"),
        ("metadata/v1.metadata.json", "{}", "path of an Iceberg table"),
    ],
)
def test_tables_at_paths_are_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, marker: str, content: str, said: str
) -> None:
    path = tmp_path / "orders" / marker
    path.parent.mkdir(parents=True)
    path.write_text(content)
    monkeypatch.chdir(tmp_path)
    for target in ("orders", "./orders", f"{tmp_path}/orders", f"file://{tmp_path}/orders"):
        assert said in str(_refusal(target, UnsupportedTableError))


def test_a_forced_format_needs_no_look(tmp_path: Path) -> None:
    assert "_delta_log" in str(_refusal(f"delta:{tmp_path}/x", TableNotFoundError))
    assert "no Hudi table" in str(_refusal(f"hudi:{tmp_path}/x", TableNotFoundError))
    assert "Iceberg" in str(_refusal(f"iceberg:{tmp_path}/x", UnsupportedTableError))


def test_a_delta_table_by_every_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_deltalake(str(tmp_path / "orders"), pa.table({"id": [1, 2]}))
    monkeypatch.chdir(tmp_path)
    for target in ("orders", "./orders", f"file://{tmp_path}/orders", f"delta:{tmp_path}/orders"):
        table = open_table(target)

        assert table.name == str(tmp_path / "orders")
        assert table.format == "delta v1/2"
        assert table.inventory(table.snapshot()).row_count == 2


def test_a_path_without_a_table(tmp_path: Path) -> None:
    assert str(tmp_path) in str(_refusal(str(tmp_path), TableNotFoundError))
    assert "/nowhere/at/all" in str(_refusal("/nowhere/at/all", TableNotFoundError))


# --- did you mean, and globs -------------------------------------------------------------------


def test_suggestions(configured: Path) -> None:
    assert suggestions("lake.sales.order")[0] == "lake.sales.orders"
    assert suggestions("lake.ops.eu.evnts")[0] == "lake.ops.eu.events"
    assert suggestions("lke.sales.returns")[0] == "lake.sales.returns"
    assert suggestions("LAKE.Sales.Returns")[0] == "lake.sales.returns"
    assert suggestions("zzz.yyy.xxx") == []
    assert suggestions("/some/path") == []
    assert suggestions("lake.a.b", {"type": "sql", "uri": "sqlite:////nowhere/x.db"}) == []


def test_globs(configured: Path) -> None:
    every = sorted(f"lake.{name}" for name in NAMES)

    assert sorted(expand("lake.*.*") + expand("lake.*.*.*")) == every
    assert expand("lake.sales.*") == [name for name in every if ".sales." in name]
    assert expand("l*.sales.order*") == ["lake.sales.order_items", "lake.sales.orders"]
    assert expand("lake.[so]*.orders") == ["lake.ops.orders", "lake.sales.orders"]
    assert expand("lake.sales.orders") == ["lake.sales.orders"]
    assert expand("lake.no.such") == ["lake.no.such"]
    assert expand("./a*/b") == ["./a*/b"]
    for nothing in ("lake.none.*", "pond*.a.b"):
        with pytest.raises(TableNotFoundError, match="no table matches"):
            expand(nothing)
    with pytest.raises(TableNotFoundError, match="`pond`"):
        expand("pond.sales.*")


# --- what it costs -----------------------------------------------------------------------------


def test_opening_a_table_loads_neither_arrow_files_nor_parquet(lake: Path) -> None:
    program = (
        "import sys\n"
        "from catalog.open import open_table\n"
        f"table = open_table('lake.sales.orders', {catalog_properties(lake)!r})\n"
        "table.inventory(table.snapshot())\n"
        "table.files(table.snapshot())\n"
        "print([name for name in ('pyiceberg.io.pyarrow', 'pyarrow.parquet', 'pandas')"
        " if name in sys.modules])\n"
    )

    assert _run(program).strip() == "[]"


def _run(program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        text=True,
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[2],
    )
    return done.stdout
