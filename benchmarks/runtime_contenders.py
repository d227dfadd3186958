"""One contender of a runtime case, alone in its process; prints what it took as JSON.

Usage: python -m benchmarks.runtime_contenders CASE CONTENDER SIZE
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import psutil
import pyarrow as pa

from runtime.partition import concatenated
from runtime.shuffle import Shuffle, map_task, shuffle

WORKERS = 2
MAPS = BUCKETS = 16
ROW_BYTES = 16
ROUNDS = 7
SYNCHRONOUS_TASKS = 300


def nothing() -> None:
    """Be the smallest task."""


def nap() -> None:
    """Keep a worker busy until the others have started too."""
    time.sleep(0.2)


def make_rows(part: tuple[int, int]) -> pa.Table:
    """Make the rows of one map task from (seed, rows)."""
    seed, rows = part
    random = np.random.default_rng(seed)
    return pa.table({"k": random.integers(0, 1 << 62, rows), "v": random.random(rows)})


def digest(table: pa.Table) -> tuple[int, int]:
    """Sort a bucket, as a compaction would, and return its rows and the sum of its keys."""
    keys = table.sort_by("k")["k"].to_numpy()
    return table.num_rows, int(keys.view(np.uint64).sum(dtype=np.uint64))


PLAN = Shuffle(("k",), BUCKETS, read=make_rows, reduce=digest)


def cut(part: tuple[int, int]) -> list[pa.Table | None]:
    """Run the map task of the library, without its last segment."""
    return list(map_task(PLAN, part).values)[:BUCKETS]  # type: ignore[arg-type]


def reduced(*parts: pa.Table | None) -> tuple[int, int]:
    """Run its reduce task."""
    return digest(concatenated([part for part in parts if part is not None]))


def parts_of(size_bytes: int) -> list[tuple[int, int]]:
    """Return the inputs of the map tasks."""
    return [(seed, size_bytes // MAPS // ROW_BYTES) for seed in range(MAPS)]


def to_bytes(table: pa.Table) -> bytes:
    """Write a table as an IPC stream: what a careful user of a process pool does."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def cut_to_bytes(part: tuple[int, int]) -> list[bytes]:
    return [to_bytes(table) for table in cut(part) if table is not None]


def reduced_bytes(parts: list[bytes]) -> tuple[int, int]:
    return reduced(*(pa.ipc.open_stream(part).read_all() for part in parts))


@contextmanager
def local(size: int, case: str) -> Iterator[Callable[[], Any]]:
    import runtime

    with runtime.connect("local", workers=WORKERS, memory_bytes=8 << 30) as rt:
        rt.get([rt.submit(nap) for _ in range(WORKERS)])
        if case == "shuffle":
            yield lambda: rt.get(shuffle(rt, parts_of(size), PLAN))
        elif case == "overhead":
            yield lambda: rt.get([rt.submit(nothing) for _ in range(size)])
        else:
            yield lambda: rt.get(rt.submit(nothing))


@contextmanager
def ray(size: int, case: str) -> Iterator[Callable[[], Any]]:
    import ray

    # Not one that happens to run on this machine.
    ray.init("local", num_cpus=WORKERS, include_dashboard=False, logging_level="ERROR")
    empty = ray.remote(nothing)
    map_remote = ray.remote(cut).options(num_returns=BUCKETS)
    reduce_remote = ray.remote(reduced)
    ray.get([ray.remote(nap).remote() for _ in range(WORKERS)])

    def run() -> Any:
        cuts = [map_remote.remote(part) for part in parts_of(size)]
        return ray.get([reduce_remote.remote(*bucket) for bucket in zip(*cuts, strict=True)])

    if case == "shuffle":
        yield run
    elif case == "overhead":
        yield lambda: ray.get([empty.remote() for _ in range(size)])
    else:
        yield lambda: ray.get(empty.remote())
    ray.shutdown()


@contextmanager
def dask(size: int, case: str) -> Iterator[Callable[[], Any]]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.gather([client.submit(time.sleep, 0.2, pure=False) for _ in range(WORKERS)])

        def run() -> Any:
            cuts = client.map(cut, parts_of(size), pure=False)
            buckets = range(BUCKETS)
            segments = [[client.submit(list.__getitem__, c, b) for c in cuts] for b in buckets]
            return client.gather([client.submit(reduced, *some) for some in segments])

        if case == "shuffle":
            yield run
        elif case == "overhead":
            yield lambda: client.gather([client.submit(nothing, pure=False) for _ in range(size)])
        else:
            yield lambda: client.submit(nothing, pure=False).result()


@contextmanager
def processes(size: int, case: str) -> Iterator[Callable[[], Any]]:
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(WORKERS) as pool:
        list(pool.map(time.sleep, [0.2] * WORKERS))

        def run() -> Any:
            cuts = list(pool.map(cut_to_bytes, parts_of(size)))
            return list(pool.map(reduced_bytes, map(list, zip(*cuts, strict=True))))

        if case == "shuffle":
            yield run
        elif case == "overhead":
            yield lambda: [f.result() for f in [pool.submit(nothing) for _ in range(size)]]
        else:
            yield lambda: pool.submit(nothing).result()


@contextmanager
def threads(size: int, case: str) -> Iterator[Callable[[], Any]]:
    from concurrent.futures import ThreadPoolExecutor

    pa.set_cpu_count(1)
    with ThreadPoolExecutor(WORKERS) as pool:

        def run() -> Any:
            cuts = list(pool.map(cut, parts_of(size)))
            return list(pool.map(lambda bucket: reduced(*bucket), zip(*cuts, strict=True)))

        if case != "shuffle":
            raise ValueError("threads only take part in the shuffle")
        yield run


CONTENDERS = {f.__name__: f for f in (local, threads, processes, dask, ray)}


def tree_cpu_seconds() -> float:
    """Return the CPU time of this process and all that descend from it."""
    own = psutil.Process()
    total = 0.0
    for process in [own, *own.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def timed(run: Callable[[], Any]) -> dict[str, Any]:
    """Run once; return wall time, CPU time and the result."""
    cpu, started = tree_cpu_seconds(), time.perf_counter()
    result = run()
    wall = time.perf_counter() - started
    return {"wall_seconds": wall, "cpu_seconds": tree_cpu_seconds() - cpu, "result": result}


def zero_copy(size_bytes: int) -> dict[str, Any]:
    """Put a table; return what getting it takes, in time and in resident memory."""
    import runtime

    with runtime.connect("local", workers=1, memory_bytes=8 << 30) as rt:
        ref = rt.put(pa.table({"n": np.zeros(size_bytes // 8)}))
        rt.get(rt.put(pa.table({"n": np.zeros(1 << 20)})))
        before = psutil.Process().memory_info().rss
        times = []
        for _ in range(9):
            started = time.perf_counter()
            table = rt.get(ref)
            times.append(time.perf_counter() - started)
        grown = psutil.Process().memory_info().rss - before
        return {
            "get_seconds": min(times),
            "median_seconds": sorted(times)[4],
            "resident_bytes": grown,
            "table_bytes": table.nbytes,
        }


def main(case: str, name: str, size: int) -> None:
    """Run a contender in a case."""
    if case == "zero-copy":
        print(json.dumps(zero_copy(size)))
        return
    if case == "overhead":
        with CONTENDERS[name](size, case) as run:
            best = min((timed(run) for _ in range(ROUNDS)), key=lambda t: t["wall_seconds"])
        with CONTENDERS[name](1, "synchronous") as run:
            started = time.perf_counter()
            for _ in range(SYNCHRONOUS_TASKS):
                run()
            one = (time.perf_counter() - started) / SYNCHRONOUS_TASKS
        print(
            json.dumps(
                {
                    "asynchronous_us": best["wall_seconds"] / size * 1e6,
                    "cpu_us": best["cpu_seconds"] / size * 1e6,
                    "synchronous_us": one * 1e6,
                }
            )
        )
        return
    with CONTENDERS[name](size, case) as run:
        used = timed(run)
    rows = sum(rows for rows, _ in used["result"])
    checksum = sum(keys for _, keys in used["result"]) % (1 << 64)
    print(json.dumps({**used, "result": [rows, checksum]}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(float(sys.argv[3])))
