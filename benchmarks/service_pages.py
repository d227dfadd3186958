"""Pages over a large history: `python -m benchmarks.service_pages [--tables N] [--jobs N] …`.

Fills a store with tables, past jobs, rows of the queue, deliveries and an audit log, then asks a
running service for each of its pages, one request at a time, as somebody at a browser does.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psutil
from sqlalchemy import Connection, Table, insert, text

from benchmarks.service import register, served
from compactor.jobs.schema import ATTEMPTS, BATCHES, GROUPS, JOBS
from compactor.service.config import load_service_config
from compactor.service.schema import AUDIT, DELIVERIES, HEALTH, TOTALS, TRIGGERS
from compactor.service.store import open_service_store

CHUNK = 20_000
DAY_MS = 86_400_000
FAILED_SHARE = 0.002
HISTORY_DAYS = 180


def target_of(number: int) -> str:
    return f"lake.ns{number % 100}.t{number}"


def job_of(number: int) -> str:
    return f"{number:012x}{number % 65_521:08x}"


def fill(directory: Path, arguments: argparse.Namespace) -> None:
    """Fill the store as years of work would."""
    register(directory, arguments.tables)
    config = load_service_config(directory / "c.toml", environment={"HOME": str(directory)})
    now_ms = time.time_ns() // 1_000_000
    with open_service_store(config.settings.store.url) as store, store.transaction() as connection:
        connection.execute(
            text(
                "UPDATE tables SET format = 'iceberg', health = abs(random()) % 101,"
                " health_at_ms = :now, seen_at_ms = :now, head = 'h', snapshot_id = '1',"
                " files = abs(random()) % 5000, small_files = abs(random()) % 900,"
                " size_bytes = abs(random()) % 1000000000000, rows = abs(random()) % 1000000000,"
                " location = 's3://lake/warehouse/' || target,"
                " health_reasons = '[\"412 of 1,204 files are small\"]'"
            ),
            {"now": now_ms},
        )
        put(connection, JOBS, jobs(arguments, now_ms))
        put(connection, GROUPS, groups(arguments))
        put(connection, ATTEMPTS, attempts(arguments, now_ms))
        put(connection, BATCHES, batches(arguments, now_ms))
        put(connection, TRIGGERS, triggers(arguments, now_ms))
        put(connection, HEALTH, health(arguments, now_ms))
        put(connection, AUDIT, audit(arguments, now_ms))
        put(connection, DELIVERIES, deliveries(arguments, now_ms))
        put(connection, TOTALS, iter([{"name": "jobs", "label": "succeeded x", "value": 1e6}]))


def put(connection: Connection, table: Table, rows: Iterator[dict[str, object]]) -> None:
    chunk: list[dict[str, object]] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == CHUNK:
            connection.execute(insert(table), chunk)
            chunk.clear()
    if chunk:
        connection.execute(insert(table), chunk)


def moment(number: int, arguments: argparse.Namespace, now_ms: int) -> int:
    """Return when a job ended: evenly over the history, the last of them just now."""
    age = (arguments.jobs - number) / arguments.jobs
    return now_ms - int(age * HISTORY_DAYS * DAY_MS)


def jobs(arguments: argparse.Namespace, now_ms: int) -> Iterator[dict[str, object]]:
    for number in range(arguments.jobs):
        ended_ms = moment(number, arguments, now_ms)
        yield {
            "job_id": job_of(number),
            "table_name": target_of(number % arguments.tables),
            "format": "iceberg",
            "state": "succeeded",
            "reason": "",
            "proof": "counts",
            "fence": 1 + number // arguments.tables,
            "snapshot_before": str(number),
            "files_before": 1204,
            "rows_before": 10_000_000,
            "group_count": 1,
            "input_bytes": 512 << 20,
            "report": "{}",
            "created_at_ms": ended_ms - 30_000,
            "updated_at_ms": ended_ms,
            "finished_at_ms": ended_ms,
        }


def groups(arguments: argparse.Namespace) -> Iterator[dict[str, object]]:
    for number in range(arguments.jobs):
        yield {
            "job_id": job_of(number),
            "group_id": "g0",
            "position": 0,
            "partition": "day=2026-11-23",
            "input_files": 412,
            "input_bytes": 512 << 20,
            "state": "committed",
            "attempts": 1,
            "attempt_id": f"{job_of(number)}-g0-1",
            "output_bytes": 500 << 20,
            "batch_id": f"{job_of(number)}-b1",
            "reason": "",
        }


def attempts(arguments: argparse.Namespace, now_ms: int) -> Iterator[dict[str, object]]:
    for number in range(arguments.jobs):
        ended_ms = moment(number, arguments, now_ms)
        yield {
            "attempt_id": f"{job_of(number)}-g0-1",
            "job_id": job_of(number),
            "group_id": "g0",
            "number": 1,
            "state": "written",
            "cpu_seconds": 11.5,
            "predicted_bytes": 400 << 20,
            "granted_bytes": 500 << 20,
            "peak_memory_bytes": 380 << 20,
            "started_at_ms": ended_ms - 25_000,
            "finished_at_ms": ended_ms - 3_000,
        }


def batches(arguments: argparse.Namespace, now_ms: int) -> Iterator[dict[str, object]]:
    for number in range(arguments.jobs):
        ended_ms = moment(number, arguments, now_ms)
        yield {
            "batch_id": f"{job_of(number)}-b1",
            "job_id": job_of(number),
            "number": 1,
            "state": "settled",
            "group_ids": '["g0"]',
            "snapshot": '{"snapshot_id":"%d"}' % (number + 1),  # noqa: UP031
            "started_at_ms": ended_ms - 3_000,
            "finished_at_ms": ended_ms - 1_000,
        }


def triggers(arguments: argparse.Namespace, now_ms: int) -> Iterator[dict[str, object]]:
    failed_every = int(1 / FAILED_SHARE)
    for number in range(arguments.jobs):
        ended_ms = moment(number, arguments, now_ms)
        is_failed = number % failed_every == 0
        yield trigger(number % arguments.tables, ended_ms - 90_000) | {
            "state": "failed" if is_failed else "done",
            "status": "failed" if is_failed else "succeeded",
            "reason": "storage: the disk is full" if is_failed else "",
            "attempts": 1,
            "fence": 1,
            "job_id": job_of(number),
            "claimed_at_ms": ended_ms - 30_000,
            "finished_at_ms": ended_ms,
            "bytes_moved": 1012 << 20,
            "cpu_seconds": 12.0,
        }
    some = random.Random(1).sample(range(arguments.tables), k=arguments.tables // 50)
    for table in some:
        yield trigger(table, now_ms) | {"state": "pending", "not_before_ms": now_ms + DAY_MS}


def trigger(table: int, at_ms: int) -> dict[str, object]:
    empty = {"status": "", "reason": "", "attempts": 0, "fence": None, "job_id": ""}
    unended = {"claimed_at_ms": None, "finished_at_ms": None, "bytes_moved": 0, "cpu_seconds": 0.0}
    return {
        "table_id": table + 1,
        "rank_ms": at_ms,
        "priority": 5,
        "not_before_ms": at_ms,
        "latest_ms": at_ms,
        "first_at_ms": at_ms,
        "last_at_ms": at_ms,
        "source": "standard",
        "cause": "a commit",
        **empty,
        **unended,
    }


def health(arguments: argparse.Namespace, now_ms: int) -> Iterator[dict[str, object]]:
    for number in range(arguments.jobs):
        yield {
            "table_id": number % arguments.tables + 1,
            "at_ms": moment(number, arguments, now_ms),
            "score": number % 101,
            "files": 1204,
            "small_files": 412,
            "delete_files": 3,
            "size_bytes": 1 << 40,
        }


def audit(arguments: argparse.Namespace, now_ms: int) -> Iterator[dict[str, object]]:
    for number in range(arguments.jobs // 10):
        yield {
            "at_ms": now_ms - number,
            "actor": "ada",
            "action": "job-submitted",
            "subject": target_of(number % arguments.tables),
        }


def deliveries(arguments: argparse.Namespace, now_ms: int) -> Iterator[dict[str, object]]:
    for number in range(arguments.jobs):
        yield {
            "source": "standard",
            "delivery_id": f"d{number}",
            "received_at_ms": now_ms - (arguments.jobs - number),
            "kind": "accepted",
            "trigger_ids": f"[{number + 1}]",
        }


def pages(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the pages by what they show."""
    middle, last = arguments.jobs // 2, arguments.jobs - 1
    table = quote(target_of(arguments.tables // 2), safe="")
    return {
        "overview": "/",
        "tables": "/tables",
        "tables, in the middle": f"/tables?after={target_of(arguments.tables // 2)}",
        "tables, by text": f"/tables?q=t{arguments.tables - 1}",
        "tables, by text that none has": "/tables?q=nothing-like-it",
        "tables, poor ones": "/tables?poor=true",
        "one table": f"/tables/{table}",
        "queue": "/queue",
        "queue, in the middle": f"/queue?before={middle}",
        "queue, waiting": "/queue?state=pending",
        "queue, failed": "/queue?state=failed",
        "queue, dead (none)": "/queue?state=dead",
        "queue, done": "/queue?state=done",
        "one job": f"/jobs/{job_of(last)}",
        "a job that is none": "/jobs/nothing",
        "sources": "/sources",
        "settings": "/settings",
        "metrics": "/metrics",
    }


def measure(port: int, path: str, *, repeats: int, process: psutil.Process) -> dict[str, float]:
    """Return how long a page takes, the first time and then, and the CPU time of the service."""
    seconds, cpu_before = [], 0.0
    for number in range(1 + repeats):
        if number == 1:
            cpu_before = used(process)
        begun_at = time.perf_counter()
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
        try:
            with urllib.request.urlopen(request) as answer:
                answer.read()
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            error.close()
        seconds.append(time.perf_counter() - begun_at)
    first, *others = (1000 * one for one in seconds)
    return {
        "first_ms": round(first, 1),
        "median_ms": round(statistics.median(others), 1),
        "max_ms": round(max(others), 1),
        "cpu_ms": round(1000 * (used(process) - cpu_before) / repeats, 1),
    }


def used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def main() -> None:
    """Fill a store, or take one that was filled, and print what its pages take."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", type=int, default=100_000)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--directory", type=Path, help="where a store is, or is to be, kept")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = arguments.directory or Path(temporary)
        if not (directory / "jobs.db").exists():
            directory.mkdir(parents=True, exist_ok=True)
            fill(directory, arguments)
        with served(directory, 'sweep_every = "1d"\n') as (process, port):
            watched = psutil.Process(process.pid)
            taken = {
                name: measure(port, path, repeats=arguments.repeats, process=watched)
                for name, path in pages(arguments).items()
            }
            memory = watched.memory_info().rss
    told = {
        "tables": arguments.tables,
        "jobs": arguments.jobs,
        "load": [round(one, 1) for one in os.getloadavg()],
        "memory_mib": memory >> 20,
        "pages": taken,
    }
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
