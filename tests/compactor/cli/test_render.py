"""What people read: plans, summaries, job history, laid out from values."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from catalog.model import DATA_FILES, DELETE_FILES, Inventory, Snapshot
from compactor.cli import console as consoles
from compactor.cli.outcome import report_document, splice_lines, summary
from compactor.cli.render_plan import render_plan
from compactor.jobs.report import GroupCounts, GroupProblem, JobReport
from compactor.jobs.state import JobState
from compactor.planner.document import plan_document
from compactor.planner.plan import FileGroup, Plan, Price, Rung, Skipped
from compactor.rewrite.task import NOT_SPLICED, Spliced

MIB = 1 << 20


def inventory(partition: str, files: int, deletes: int) -> Inventory:
    """Return files of one partition; the first of them has all the deletes."""
    count = np.zeros(files, dtype=np.int32)
    table = pa.table(
        {
            "path": [f"s3://lake/{partition}/{number}.parquet" for number in range(files)],
            "size_bytes": [10 * MIB] * files,
            "row_count": [1000] * files,
            "partition_key": pa.DictionaryArray.from_arrays(pa.array(count), [partition]),
            "partition": pa.DictionaryArray.from_arrays(pa.array(count), [partition]),
            "sequence_number": [1] * files,
            "written_at_ms": [0] * files,
            "first_row_id": [None] * files,
            "row_version": [None] * files,
            "is_clustered": [None] * files,
            "deletes": [list(range(deletes))] + [[]] * (files - 1),
        },
        schema=DATA_FILES,
    )
    delete_files = pa.table(
        {
            "path": [
                f"s3://lake/{partition}/{number}-deletes.parquet" for number in range(deletes)
            ],
            "size_bytes": [1000] * deletes,
            "row_count": [10] * deletes,
            "sequence_number": [2] * deletes,
            "target": [None] * deletes,
            "equality_ids": [None] * deletes,
        },
        schema=DELETE_FILES,
    )
    return Inventory(table, delete_files)


def group(group_id: str, partition: str, *, files: int, deletes: int, reason: str) -> FileGroup:
    slices = inventory(partition, files, deletes)
    price = Price(
        input_bytes=slices.size_bytes,
        delete_bytes=1000 * deletes,
        output_bytes_estimate=slices.size_bytes * 9 // 10,
        memory_bytes_estimate=300 * MIB,
        cpu_seconds_estimate=75.0,
        requests_estimate=1200,
    )
    return FileGroup(
        group_id, partition, partition, Rung.TRANSCODE, slices, max(1, files // 50), reason, price
    )


PLAN = Plan(
    table="lake.sales.orders",
    format="iceberg v2",
    snapshot=Snapshot("8123345", 7, 0, None, "append"),
    target_file_size_bytes=512 * MIB,
    groups=(
        group("g1", "day=2026-11-20", files=4812, deletes=31, reason="4,812 files are small"),
        group("g2", "day=2026-11-20", files=20, deletes=0, reason="20 files are small"),
        group("g3", "day=[red]21", files=100, deletes=0, reason="100 files are small"),
    ),
    kept_files=300,
    kept_bytes=150 * 1024 * MIB,
    skipped=(Skipped("day=2026-11-22", 210, 400 * MIB, "written 4m 0s ago"),),
)


def rendered(plan: Plan, **options: bool) -> str:
    stream = io.StringIO()
    render_plan(consoles._console(stream), plan, **options)
    return stream.getvalue()


def test_a_plan_is_shown_per_partition() -> None:
    assert rendered(PLAN) == (
        "lake.sales.orders  iceberg v2  snapshot 8123345\n"
        "\n"
        "Partition       Groups  Data files  Deletes       Size     After  Why\n"
        "day=2026-11-20       2  4,832 → 97   31 → 0   47.2 GiB  42.5 GiB  "
        "4,812 files are small; 20 files are small\n"
        "day=[red]21          1     100 → 2        0  1,000 MiB   900 MiB  100 files are small\n"
        "day=2026-11-22       -         210        -    400 MiB         -  "
        "skipped: written 4m 0s ago\n"
        "\n"
        "Plan: 3 file groups. 4,932 data files → 99, 31 delete files → 0; "
        "read 48.2 GiB, write 43.3 GiB.\n"
        "Price: 3m 45s of CPU time, 300 MiB of memory per worker, 3,600 storage requests.\n"
        "Kept: 300 data files, 150 GiB, by reference.\n"
    )


def test_names_and_figures_stay_whole_where_there_is_no_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    lines = rendered(PLAN).splitlines()
    assert lines[2] == ("Partition       Groups  Data files  Deletes       Size     After  Why")
    assert lines[3].startswith("day=2026-11-20       2  4,832 → 97   31 → 0   47.2 GiB  42.5 GiB")
    assert lines[4].strip() == "files are small"
    monkeypatch.setenv("COLUMNS", "many")
    assert rendered(PLAN).splitlines()[4].startswith("day=[red]21   ")


def test_a_plan_without_work_says_so() -> None:
    idle = replace(PLAN, groups=(), skipped=())
    assert rendered(idle) == (
        "lake.sales.orders  iceberg v2  snapshot 8123345\n"
        "\n"
        "Nothing to do: 300 data files, 150 GiB, all stay.\n"
    )


def test_long_plans_are_cut_unless_all_is_asked_for() -> None:
    skipped = tuple(Skipped(f"day={day}", 3, MIB, "too few files") for day in range(100))
    long = replace(PLAN, skipped=skipped)
    assert "… and 62 more rows; -v shows all" in rendered(long)
    assert rendered(long, shows_all=True).count("skipped: too few files") == 100


def test_the_plan_document_has_what_the_contract_names() -> None:
    document = plan_document(PLAN)
    assert {"table", "format", "snapshot", "groups", "kept", "skipped", "totals"} <= set(document)
    assert {
        "id",
        "partition",
        "rung",
        "files",
        "deletes",
        "input_bytes",
        "output_bytes_estimate",
        "memory_estimate",
        "reason",
    } <= set(document["groups"][0])
    assert set(document["kept"]) == {"files", "bytes"}
    assert {"partition", "files", "reason"} <= set(document["skipped"][0])


REPORT = JobReport(
    job="01JDA9M3Z7",
    table="lake.sales.orders",
    status=JobState.SUCCEEDED,
    reason="",
    snapshot_before="8123345",
    snapshot_after="8123349",
    files_before=10_832,
    files_after=208,
    bytes_read=104 * 1024 * MIB,
    bytes_written=102 * 1024 * MIB,
    bytes_spliced=0,
    bytes_kept=3 * 1024 * MIB,
    rows_before=1_200_000,
    rows_after=1_200_000,
    verified=True,
    conflicts=0,
    cpu_seconds=4000.0,
    peak_memory_bytes=312 * MIB,
    seconds=348.0,
    groups=GroupCounts(committed=26),
)


def test_a_summary_says_what_was_saved() -> None:
    assert list(summary(REPORT)) == [
        "Compacted `lake.sales.orders` in 5m 48s: 10,832 data files → 208, average now 517 MiB",
        "Moved: read 104 GiB, wrote 102 GiB, kept 3.0 GiB by reference; 1h 6m of CPU time, "
        "peak 312 MiB per worker",
        "Proved: 1,200,000 rows before and after",
        "Job 01JDA9M3Z7 · 26 groups committed",
    ]


def test_a_summary_says_what_the_store_copied_by_itself() -> None:
    splice = Spliced(
        copied_bytes=90 * MIB, row_groups=3, composed_bytes=80 * MIB, streamed=(("no copies", 2),)
    )
    report = replace(REPORT, bytes_spliced=90 * MIB, splice=splice)
    assert "copied 90.0 MiB (80.0 MiB of them inside the store), kept" in list(summary(report))[1]
    assert list(splice_lines(splice)) == [
        "Copied as they are: 3 row groups, 90.0 MiB",
        "Copied inside the store: 80.0 MiB",
        "Copied through a worker: 2 outputs: no copies",
    ]


def test_a_summary_with_its_plan_says_what_was_before() -> None:
    planned = replace(REPORT, files_before=5_232)
    assert next(iter(summary(planned, PLAN))) == (
        "Compacted `lake.sales.orders` in 5m 48s: 5,232 data files → 208, "
        "average 38.8 MiB → 517 MiB, 31 delete files applied"
    )


def test_a_partial_summary_says_what_was_lost() -> None:
    partial = replace(
        REPORT,
        status=JobState.PARTIAL,
        groups=GroupCounts(committed=24, dropped=1, failed=1),
        conflicts=1,
        rows_after=1_200_500,
        problems=(GroupProblem("g7", "day=1", True, "a newer delete"),),
        is_resumed=True,
    )
    lines = list(summary(partial))
    assert lines[0].startswith("Compacted in part `lake.sales.orders` in 5m 48s")
    assert lines[2].startswith("Proved: 1,200,000 rows before, 1,200,500 after")
    assert lines[3] == (
        "Job 01JDA9M3Z7 · 24 groups committed · 1 lost to other writers · 1 failed"
        " · 1 conflict · resumed"
    )


@pytest.mark.parametrize(
    ("status", "start"), [(JobState.FAILED, "Failed on"), (JobState.CANCELLED, "Interrupted on")]
)
def test_a_failure_is_named(status: JobState, start: str) -> None:
    failed = replace(REPORT, status=status, groups=GroupCounts(failed=2))
    lines = list(summary(failed))
    assert lines[0].startswith(f"{start} `lake.sales.orders`")
    assert not any(line.startswith(("Moved", "Proved")) for line in lines)


def test_the_run_document_has_what_the_contract_names() -> None:
    document = report_document(REPORT)
    assert {
        "job",
        "status",
        "snapshot_before",
        "snapshot_after",
        "files_before",
        "files_after",
        "bytes_read",
        "bytes_written",
        "bytes_spliced",
        "bytes_kept",
        "rows_before",
        "rows_after",
        "verified",
        "conflicts",
        "cpu_seconds",
        "peak_memory_bytes",
        "seconds",
        "groups",
    } <= set(document)
    assert document["groups"] == {"committed": 26, "dropped": 0, "failed": 0}
    assert document["status"] == "succeeded"


def test_what_was_copied_is_told_with_the_row_groups_that_were_copied_in_part() -> None:
    assert list(splice_lines(NOT_SPLICED)) == []
    whole = Spliced(copied_bytes=3 * MIB, unchecked_bytes=MIB, row_groups=2)
    assert list(splice_lines(whole)) == [
        "Copied as they are: 2 row groups, 3.0 MiB, 1.0 MiB of them without page checksums"
    ]
    parts = Spliced(copied_bytes=3 * MIB, row_groups_patched=2)
    assert list(splice_lines(parts)) == [
        "Copied as they are: 0 row groups and most columns of 2 others, 3.0 MiB"
    ]
