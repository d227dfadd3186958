"""Catalogs of every kind behind one description: how to open them, and where to stop a commit."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]
import yaml  # type: ignore[import-untyped]
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog

from catalog.iceberg.catalogs import open_catalog
from tests.judges import hive_metastore, nessie
from tests.judges.identity_provider import CLIENT, SECRET, IdentityProvider, identity_provider
from tests.judges.moto_process import moto_server
from tests.judges.postgres import USER, Postgres
from tests.judges.wire import to_port, to_unix

NAME = "site"
_MOTO_WITH_VERSIONS = Path(nessie.__file__).with_name("moto_with_versions.py")
_KEYS = {
    "s3.access-key-id": "k",
    "s3.secret-access-key": "s",
    "s3.region": "us-east-1",
    "glue.access-key-id": "k",
    "glue.secret-access-key": "s",
    "glue.region": "us-east-1",
}


@dataclass(frozen=True, slots=True)
class Site:
    """One catalog server.

    Attributes:
        settings: what the catalog is opened with.
        through: the settings that lead through a port of this machine to the server.
        dial: connects to the server.
        request_sign: bytes in the message that begins the swap.
        reply_sign: bytes in the message whose answer says that it is done.
        spark: settings of a catalog of Spark's that reads through the same server.
        provider: whose tokens it wants to see; None for no one's.
        opened: the catalogs that are open.
    """

    settings: Mapping[str, str]
    through: Callable[[int], Mapping[str, str]]
    dial: Callable[[], socket.socket]
    request_sign: bytes
    reply_sign: bytes
    spark: Mapping[str, str] = field(default_factory=dict)
    provider: IdentityProvider | None = None
    opened: list[Catalog] = field(default_factory=list)

    def open(self) -> Catalog:
        """Open the catalog as we do."""
        self.opened.append(open_catalog(NAME, dict(self.settings)))
        return self.opened[-1]

    def close(self) -> None:
        """Close what was opened."""
        while self.opened:
            self.opened.pop().close()

    def configure(self, directory: Path, port: int | None = None) -> dict[str, str]:
        """Write the configuration of programs; return the variables under which they find it."""
        settings = {**self.settings, **(self.through(port) if port else {})}
        content: dict[str, Any] = {"catalog": {NAME: settings}}
        place = directory / f"through-{port or 'nothing'}"
        place.mkdir(exist_ok=True)
        (place / ".pyiceberg.yaml").write_text(yaml.safe_dump(content))
        return {"PYICEBERG_HOME": str(place)}


@contextmanager
def postgres_site(directory: Path, server: Postgres) -> Iterator[Site]:
    """Serve a SQL catalog."""
    url = server.new_database().replace("postgresql://", "postgresql+psycopg://")
    database = url.partition("@/")[2].partition("?")[0]
    settings = {"type": "sql", "uri": url, "warehouse": f"file://{directory}/warehouse"}
    with closing(SqlCatalog(NAME, **settings)) as first:
        first.create_tables()
    yield Site(
        settings,
        lambda port: {"uri": f"postgresql+psycopg://{USER}@127.0.0.1:{port}/{database}"},
        to_unix(f"{server.directory}/.s.PGSQL.5432"),
        b"UPDATE iceberg_tables",
        b"COMMIT",
    )


@contextmanager
def hive_site(directory: Path) -> Iterator[Site]:
    """Serve a metastore of Hive's."""
    with hive_metastore.hive_metastore(directory) as port:
        uri = f"thrift://127.0.0.1:{port}"
        yield Site(
            {"type": "hive", "uri": uri, "warehouse": f"file://{directory}/warehouse"},
            lambda through: {"uri": f"thrift://127.0.0.1:{through}"},
            to_port(port),
            _thrift("lock"),
            _thrift("alter_table_with_environment_context"),
            {"type": "hive", "uri": uri},
        )


@contextmanager
def glue_site(directory: Path, *, compares_versions: bool) -> Iterator[Site]:
    """Serve a Glue that compares versions, as Glue does, or one that takes every update."""
    with moto_server(_MOTO_WITH_VERSIONS if compares_versions else None) as endpoint:
        sign = b"AWSGlue.UpdateTable"
        yield Site(
            {
                "type": "glue",
                "glue.endpoint": endpoint,
                "warehouse": f"file://{directory}/warehouse",
                **_KEYS,
            },
            lambda port: {"glue.endpoint": f"http://127.0.0.1:{port}"},
            to_port(int(endpoint.rpartition(":")[2])),
            sign,
            sign,
        )


@contextmanager
def nessie_site(directory: Path, *, life_seconds: int) -> Iterator[Site]:
    """Serve Nessie's REST catalog; tokens and lent credentials last for so many seconds."""
    with ExitStack() as stack:
        s3 = stack.enter_context(moto_server(_MOTO_WITH_VERSIONS))
        client = boto3.client(
            "s3",
            endpoint_url=s3,
            region_name="us-east-1",
            aws_access_key_id="k",
            aws_secret_access_key="s",
        )
        client.create_bucket(Bucket=nessie.BUCKET)
        provider = stack.enter_context(identity_provider(life_seconds))
        port = stack.enter_context(
            nessie.nessie(directory, s3, life_seconds=life_seconds, provider=provider)
        )
        uri, token = f"http://127.0.0.1:{port}/iceberg/", f"{provider.address}/token"
        sign = b"POST /iceberg/v1/main/namespaces/ns/tables/t "
        yield Site(
            {
                "type": "rest",
                "uri": uri,
                "credential": f"{CLIENT}:{SECRET}",
                "oauth2-server-uri": token,
                "scope": "catalog",
            },
            lambda through: {"uri": f"http://127.0.0.1:{through}/iceberg/"},
            to_port(port),
            sign,
            sign,
            {
                "type": "rest",
                "uri": uri,
                "credential": f"{CLIENT}:{SECRET}",
                "oauth2-server-uri": token,
                "scope": "catalog",
                "io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
                "header.X-Iceberg-Access-Delegation": "vended-credentials",
            },
            provider,
        )


def _thrift(method: str) -> bytes:
    """Return how a call of a method begins: the length of its name, and the name."""
    return len(method).to_bytes(4) + method.encode()
