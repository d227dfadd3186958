"""Bytes through the process when a store joins files by itself: `python -m benchmarks.server_side`.

A table in a bucket is compacted against a Ceph RGW and moto, each a server of its own on loopback.
All traffic of the measured process goes through a proxy that counts it. The contenders alternate on
the same table: its catalog is put back after each run, and its data files are never changed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import provenance
from benchmarks.measure import measure
from catalog.location import Location
from tests.acceptance.bucket_table import TARGET, BucketLake, append_file, make_bucket_lake
from tests.catalog.storage.s3_server import new_bucket, s3_properties
from tests.iceberg_tables import data_files
from tests.judges.counting_proxy import CountingProxy
from tests.judges.moto_process import moto_server
from tests.judges.rgw import new_rgw_bucket, rgw_properties, rgw_server

MIB = 1 << 20
RESULTS = Path(__file__).resolve().parent / "results" / "server-side"
_COMPACT = [sys.executable, "-m", "compactor.cli.main", "run", TARGET, "--yes", "--json"]
CONTENDERS = {
    "compact run": [*_COMPACT, "--min-input-files", "2"],
    "compact run --effort deep": [*_COMPACT, "--min-input-files", "2", "--effort", "deep"],
    "get and put": [sys.executable, "-m", "benchmarks.get_and_put", TARGET],
}


@dataclass(frozen=True, slots=True)
class Server:
    """A server of S3's protocol: how to run it, and what its clients need."""

    name: str
    run: Callable[[], AbstractContextManager[str]]
    properties: Callable[[str], Mapping[str, str]]
    new_bucket: Callable[[str], Location]


SERVERS = (
    Server("Ceph RGW", rgw_server, rgw_properties, new_rgw_bucket),
    Server("moto", moto_server, s3_properties, new_bucket),
)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one contender.

    Attributes:
        server: what it ran against.
        contender: its name.
        moved_bytes: of the data files that were joined.
        sent_bytes: from the process to the server, counted by the proxy.
        received_bytes: from the server to the process.
        tallied_bytes: what `compact` itself says has passed; None of others.
        composed_bytes: what the store copied by itself, as `compact` says.
        cpu_seconds: of the process and its workers, start-up included.
        wall_seconds: from start to exit.
        peak_process_bytes: largest anonymous memory of any one process.
    """

    server: str
    contender: str
    moved_bytes: int
    sent_bytes: int
    received_bytes: int
    tallied_bytes: int | None
    composed_bytes: int
    cpu_seconds: float
    wall_seconds: float
    peak_process_bytes: int

    @property
    def share(self) -> float:
        """Bytes over the wire per byte moved."""
        return (self.sent_bytes + self.received_bytes) / self.moved_bytes


def run_server(server: Server, chosen: argparse.Namespace) -> Iterator[Run]:
    """Yield the runs of every contender, in turn."""
    with server.run() as endpoint, tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        bucket = server.new_bucket(endpoint)
        lake = make_bucket_lake(directory, str(bucket), server.properties(endpoint))
        for number in range(chosen.files):
            append_file(lake, number, chosen.file_mib * MIB)
        moved = sum(file.file_size_in_bytes for file in data_files(lake.table()))
        shutil.copy(directory / "catalog.db", directory / "before.db")
        for _ in range(chosen.runs):
            for name in CONTENDERS:
                shutil.copy(directory / "before.db", directory / "catalog.db")
                yield _run(server, lake, name, moved)


def _run(server: Server, lake: BucketLake, name: str, moved: int) -> Run:
    with CountingProxy(lake.properties["s3.endpoint"]) as proxy:
        used, printed = measure(CONTENDERS[name], lake.through(proxy.endpoint))
        sent, received = proxy.bytes_sent, proxy.bytes_received
    said = json.loads(printed) if printed.startswith("{") else None
    composed = said["splice"]["composed_bytes"] if said else 0
    run = Run(
        server=server.name,
        contender=name,
        moved_bytes=moved,
        sent_bytes=sent,
        received_bytes=received,
        tallied_bytes=said["bytes_read"] + said["bytes_written"] - composed if said else None,
        composed_bytes=composed,
        cpu_seconds=used.cpu_seconds,
        wall_seconds=used.wall_seconds,
        peak_process_bytes=used.peak_process_bytes,
    )
    print(f"{server.name}, {name}: {run.share:.2%}, {run.cpu_seconds:.2f} CPU s", file=sys.stderr)
    return run


def markdown(runs: list[Run]) -> str:
    """Return a table of medians per server and contender."""
    lines = [
        "| server | contender | moved MiB | sent MiB | received MiB | of the bytes moved |"
        " tallied MiB | CPU s | peak MiB, one process |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for key in dict.fromkeys((run.server, run.contender) for run in runs):
        some = [run for run in runs if (run.server, run.contender) == key]
        mib = [
            statistics.median(getattr(run, name) for run in some) / MIB
            for name in ("moved_bytes", "sent_bytes", "received_bytes")
        ]
        tallied = some[0].tallied_bytes
        share = statistics.median(run.share for run in some)
        cpu = statistics.median(run.cpu_seconds for run in some)
        peak = statistics.median(run.peak_process_bytes for run in some) / MIB
        figures = [f"{mib[0]:,.0f}", f"{mib[1]:,.2f}", f"{mib[2]:,.2f}", f"{share:.2%}"]
        figures += [
            "-" if tallied is None else f"{tallied / MIB:,.2f}",
            f"{cpu:.2f}",
            f"{peak:.0f}",
        ]
        lines.append(f"| {' | '.join([*key, *figures])} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run everything and save the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.server_side", description=__doc__)
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--file-mib", type=int, default=60)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    runs = [run for server in SERVERS for run in run_server(server, chosen)]
    chosen.output.mkdir(parents=True, exist_ok=True)
    document = {
        "commit": provenance.commit(),
        "processors": os.cpu_count(),
        "runs": [asdict(run) for run in runs],
    }
    (chosen.output / "results.json").write_text(json.dumps(document, indent=1) + "\n")
    (chosen.output / "results.md").write_text(markdown(runs))
    print(markdown(runs))


if __name__ == "__main__":
    main()
