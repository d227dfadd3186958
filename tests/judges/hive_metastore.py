"""Hive's metastore over Derby in a process of its own."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.judges.engines import ROOT
from tests.judges.ports import free_port

_JARS = ROOT / ".venv-judges" / "hive"
_PACKAGE = "org.apache.hadoop.hive.metastore"
_WAIT_SECONDS = 120
# How long a lock outlives a client that says nothing more.
LOCK_SECONDS = 10


@contextmanager
def hive_metastore(directory: Path) -> Iterator[int]:
    """Run a server and wait until it listens; yield its port."""
    assert _JARS.exists(), "the judges are not installed: run `make judges`"
    port = free_port()
    settings = {
        "javax.jdo.option.ConnectionURL": f"jdbc:derby:;databaseName={directory}/derby;create=true",
        "javax.jdo.option.ConnectionDriverName": "org.apache.derby.jdbc.EmbeddedDriver",
        "datanucleus.schema.autoCreateAll": "true",
        "metastore.schema.verification": "false",
        "metastore.expression.proxy": f"{_PACKAGE}.DefaultPartitionExpressionProxy",
        "metastore.warehouse.dir": f"file://{directory}/warehouse",
        "metastore.thrift.bind.host": "127.0.0.1",
        "metastore.txn.timeout": f"{LOCK_SECONDS}s",
        # Takes the locks of the dead away; others of its tasks are not in the jar.
        "metastore.task.threads.always": f"{_PACKAGE}.txn.AcidHouseKeeperService",
        "metastore.task.threads.remote": "",
        "metastore.timedout.txn.reaper.start": "1s",
        "metastore.timedout.txn.reaper.interval": "2s",
    }
    content = "".join(
        f"<property><name>{name}</name><value>{value}</value></property>"
        for name, value in settings.items()
    )
    (directory / "conf").mkdir()
    (directory / "conf" / "metastore-site.xml").write_text(
        f"<configuration>{content}</configuration>"
    )
    with (directory / "hive.log").open("w") as log:
        server = subprocess.Popen(
            [
                "java",
                "-Xmx512m",
                "-XX:TieredStopAtLevel=1",
                f"-Dderby.stream.error.file={directory}/derby.log",
                "--class-path",
                f"{directory}/conf:{_JARS}/*",
                str(ROOT / "tests" / "judges" / "HiveMetastore.java"),
                str(port),
            ],
            cwd=directory,
            stdout=log,
            stderr=log,
        )
        with server:
            try:
                _await(server, port, directory)
                yield port
            finally:
                server.kill()


def _await(server: subprocess.Popen[bytes], port: int, directory: Path) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=2):
                return
        except OSError:
            is_over = server.poll() is not None or time.monotonic() > deadline
            assert not is_over, (directory / "hive.log").read_text()
            time.sleep(0.2)
