"""The service under load: `python -m benchmarks.service [hooks|sweep|idle] [--tables N] …`.

hooks   signed deliveries by HTTP at a steady rate; then the service is killed at once, and every
        delivery that was answered must be in its store.
sweep   a sweep over tables none of which has changed: CPU-seconds of all processes.
idle    memory and CPU time of a service that has nothing to do.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import hmac
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from sqlalchemy import text

from compactor.service.config import load_service_config
from compactor.service.registry import Registry
from compactor.service.store import open_service_store
from compactor.service.sweep import Sweeper
from tests.iceberg_tables import catalog_properties, sql_catalog

ROOT = Path(__file__).resolve().parent.parent
KEY = b"k" * 32
MIB = 1 << 20


@dataclass(slots=True)
class Answers:
    """What the client saw.

    Attributes:
        latencies_seconds: of each request, from the moment it was due: waiting counts.
        accepted: ids of the deliveries that were taken in.
        others: statuses that were not 202.
    """

    latencies_seconds: list[float] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    others: list[int] = field(default_factory=list)


def request(number: int, tables: int) -> tuple[str, bytes]:
    """Return the id of a signed delivery and the request that carries it."""
    delivery_id, now = f"d{number}", int(time.time())
    data = {"table": f"lake.ns{number % 100}.t{number % tables}", "operation": "append"}
    body = json.dumps({"type": "table.committed", "data": data}).encode()
    signed = f"{delivery_id}.{now}.".encode() + body
    signature = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    head = (
        f"POST /webhooks/standard HTTP/1.1\r\nHost: localhost\r\ncontent-length: {len(body)}\r\n"
        f"webhook-id: {delivery_id}\r\nwebhook-timestamp: {now}\r\n"
        f"webhook-signature: v1,{signature}\r\ncontent-type: application/json\r\n\r\n"
    )
    return delivery_id, head.encode() + body


async def send(port: int, arguments: argparse.Namespace) -> tuple[Answers, float]:
    """Send at the rate over some connections; return the answers and the time it took."""
    answers, numbers = Answers(), iter(range(arguments.rate * arguments.seconds))
    begun_at = time.monotonic() + 0.2

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            due_at = begun_at + number / arguments.rate
            delivery_id, message = request(number, arguments.tables)
            await asyncio.sleep(max(0.0, due_at - time.monotonic()))
            writer.write(message)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            answers.latencies_seconds.append(time.monotonic() - due_at)
            status = int(head[9:12])
            if status == 202:
                answers.accepted.append(delivery_id)
            else:
                answers.others.append(status)
        writer.close()

    await asyncio.gather(*(connection() for _ in range(arguments.connections)))
    return answers, time.monotonic() - begun_at


@contextmanager
def served(directory: Path, extra: str = "") -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run `compact serve` and yield its process and its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    secret = "whsec_" + base64.b64encode(KEY).decode()
    config = directory / "compact.toml"
    config.write_text(
        f'[store]\nurl = "sqlite:///{directory}/jobs.db"\n'
        f'[service]\nlisten = "127.0.0.1:{port}"\n'
        f'grpc_listen = "127.0.0.1:0"\nrate_max = 0\n{extra}'
        f'[webhooks.standard]\nsecrets = ["{secret}"]\n'
    )
    environment = {**os.environ, "XDG_STATE_HOME": str(directory), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "compactor.cli.main", "serve", "--config", str(config)],
        env=environment,
        stderr=(directory / "log").open("wb"),
    )
    try:
        _wait_until_ready(process, port)
        yield process, port
    finally:
        process.kill()
        process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    while process.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz").close()
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    raise OSError(f"the service ended with {process.returncode}: its log says why")


def _wait_until_swept(directory: Path) -> None:
    """Wait for the first sweep, which notes of every table that it is not there."""
    is_done = "SELECT 1 FROM duties WHERE duty = 'sweep' AND done_at_ms > 0"
    with closing(sqlite3.connect(directory / "jobs.db")) as database:
        while database.execute(is_done).fetchone() is None:
            time.sleep(0.1)


def hooks(directory: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """Measure the taking in of deliveries, then kill the service and look for what it answered."""
    register(directory, arguments.tables)
    # Jobs of tables that do not exist would only be in the way.
    with served(directory, 'debounce = "1h"\ndebounce_max = "1h"\nsweep_every = "1d"\n') as (
        process,
        port,
    ):
        _wait_until_swept(directory)
        before = psutil.Process(process.pid).cpu_times()
        answers, seconds = asyncio.run(send(port, arguments))
        after = psutil.Process(process.pid).cpu_times()
        memory = psutil.Process(process.pid).memory_info().rss
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with sqlite3.connect(directory / "jobs.db") as database:
        kept = {row[0] for row in database.execute("SELECT delivery_id FROM deliveries")}
    latencies = sorted(answers.latencies_seconds)
    used = after.user + after.system - before.user - before.system
    return {
        "deliveries_per_second": round(len(answers.accepted) / seconds),
        "accepted": len(answers.accepted),
        "other_statuses": sorted(set(answers.others)),
        "p50_ms": round(1000 * latencies[len(latencies) // 2], 1),
        "p99_ms": round(1000 * latencies[int(len(latencies) * 0.99)], 1),
        "max_ms": round(1000 * latencies[-1], 1),
        "cpu_seconds_per_1000": round(1000 * used / len(answers.accepted), 3),
        "memory_mib": memory // MIB,
        "lost_by_kill": len(set(answers.accepted) - kept),
    }


def register(directory: Path, count: int) -> None:
    """Register tables that are in no catalog."""
    (directory / "c.toml").write_text(f'[store]\nurl = "sqlite:///{directory}/jobs.db"\n')
    config = load_service_config(directory / "c.toml", environment={"HOME": str(directory)})
    with open_service_store(config.settings.store.url) as store:
        targets = (f"lake.ns{number % 100}.t{number}" for number in range(count))
        Registry(store, config).register(targets)
        with store.transaction() as connection:
            connection.execute(text("UPDATE tables SET debounce_ms = 3600000"))
            connection.execute(text("UPDATE tables SET debounce_max_ms = 3600000"))


def sweep(directory: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """Measure a sweep over tables of one SQL catalog, none of which has changed."""
    where = f"file://{directory}/wh/"
    rows = [
        {"n": f"ns{number % 100}", "t": f"t{number}", "m": f"{where}{number}.metadata.json"}
        for number in range(arguments.tables)
    ]
    with sql_catalog(directory).engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name,"
                " metadata_location, iceberg_type) VALUES ('lake', :n, :t, :m, 'TABLE')"
            ),
            rows,
        )
    for key, value in catalog_properties(directory).items():
        os.environ[f"PYICEBERG_CATALOG__LAKE__{key.upper()}"] = value
    register(directory, arguments.tables)
    config = load_service_config(directory / "c.toml", environment={"HOME": str(directory)})
    with open_service_store(config.settings.store.url) as store:
        with store.transaction() as connection:
            heads = [{"t": f"lake.{row['n']}.{row['t']}", "m": row["m"]} for row in rows]
            connection.execute(text("UPDATE tables SET head = :m WHERE target = :t"), heads)
        before = os.times()
        told = Sweeper(store, Registry(store, config), config).sweep()
        after = os.times()
    return {
        "tables": told.tables,
        "changed": told.changed,
        "cpu_seconds": round(sum(after[:4]) - sum(before[:4]), 2),
        "seconds": round(told.seconds, 1),
    }


def idle(directory: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """Measure a service with registered tables that has nothing to do."""
    register(directory, arguments.tables)
    with served(directory, 'sweep_every = "1d"\n') as (process, port):
        # What pages load when they are shown first counts as well.
        urllib.request.urlopen(f"http://127.0.0.1:{port}/").close()
        time.sleep(5)
        before = psutil.Process(process.pid).cpu_times()
        time.sleep(arguments.seconds)
        after = psutil.Process(process.pid).cpu_times()
        used = after.user + after.system - before.user - before.system
        memory = psutil.Process(process.pid).memory_full_info()
    return {
        "tables": arguments.tables,
        "resident_mib": memory.rss // MIB,
        "proportional_mib": memory.pss // MIB,
        "cpu_share": round(used / arguments.seconds, 4),
    }


CASES = {"hooks": hooks, "sweep": sweep, "idle": idle}


def main() -> None:
    """Run one case and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--tables", type=int, default=1000)
    parser.add_argument("--rate", type=int, default=2000)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--connections", type=int, default=64)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        told = CASES[arguments.case](Path(directory), arguments)
    load = [round(one, 1) for one in os.getloadavg()]
    print(json.dumps({"case": arguments.case, "load": load, **told}, indent=1))


if __name__ == "__main__":
    main()
