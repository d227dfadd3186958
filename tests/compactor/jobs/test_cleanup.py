"""What the table refers to is never removed, however its format names files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from catalog.hudi.file_names import read_name
from catalog.hudi.files import Outputs
from compactor.errors import JobFailedError
from compactor.jobs.cleanup import Cleaner, LiveFiles
from compactor.jobs.compaction import compact_table
from compactor.jobs.journal import Journal
from compactor.jobs.options import JobOptions
from compactor.jobs.runner import JobEnvironment
from runtime.connect import connect
from tests.compactor.jobs.lake import PARTITIONS, POLICY, lake_of, open_jobs


def test_files_that_bear_no_name_of_an_attempt_are_known(tmp_path: Path) -> None:
    lake = lake_of("hudi", tmp_path)
    lake.make()
    table = lake.open()
    with open_jobs(tmp_path) as store, connect("inline") as runtime:
        compact_table(
            table, POLICY, environment=JobEnvironment(runtime, store), options=JobOptions()
        )
        (done,) = store.jobs()
        journal = Journal(store, done.job)
        groups = {one.group_id: one for one in journal.plan().groups}
        attempts = journal.attempts()
    slices = list(table.inventory(table.snapshot()).slices())
    head = {one.partition_key: read_name(one.path) for one in slices}
    before = lake.contents()
    assert len(attempts) == PARTITIONS
    for attempt in attempts:
        partition = groups[attempt.group_id].partition_key
        outputs = Outputs(head[partition].instant, {attempt.group_id: head[partition].file_id})
        files = replace(table.files(table.snapshot()), outputs=outputs)
        with pytest.raises(JobFailedError, match="the table refers to them"):
            Cleaner(files, LiveFiles(table, map)).discard(attempt.attempt_id, partition)
    assert lake.contents() == before
