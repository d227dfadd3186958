"""File groups in a bucket: the store copies what it can, beside what is encoded here."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.location import Location
from catalog.schema import TableSchema
from compactor.rewrite.group import rewrite_group
from compactor.rewrite.leftovers import leftovers
from compactor.rewrite.task import Proof, RewriteResult
from compactor.splicing import SpliceLimits
from tests.catalog.storage.fault_proxy import Fault, faulty
from tests.catalog.storage.s3_server import new_bucket, s3_server, s3_storage
from tests.catalog.storage.test_s3_faults import unfinished_uploads
from tests.compactor.rewrite.tables import LocalTable, described, make_task, with_ids, write_file

MIB = 1 << 20
ROWS = 1_500_000
ANYTHING = SpliceLimits(0, 0, 1 << 40, 1000, 1 << 30, keeps_layout=False)
SCHEMA = with_ids(pa.schema([pa.field("x", pa.int64())]))


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file of three row groups of 4 MB of noise."""
    noise = np.random.default_rng(1).integers(0, 1 << 62, ROWS)
    path = tmp_path_factory.mktemp("data") / "a.parquet"
    write_file(path, pa.table([noise], SCHEMA), row_group_size=ROWS // 3, compression="zstd")
    return path.read_bytes()


def rewritten(
    endpoint: str, data: bytes, dropped: list[int], proof: Proof = Proof.FULL
) -> tuple[LocalTable, RewriteResult]:
    """Rewrite three such files, the second of which loses rows."""
    storage, root = s3_storage(endpoint), new_bucket(endpoint)
    files = []
    for index in range(3):
        storage.write(root.child(f"{index}.parquet"), data)
        files.append((f"{root}/{index}.parquet", len(data), ROWS))
    table = LocalTable(str(root), TableSchema(SCHEMA), storage=storage)
    table = table.dropping(files[1][0], dropped)
    task = make_task(table, [], files=described(files), proof=proof)
    return table, rewrite_group(replace(task, splice=ANYTHING))


def rows_of(table: LocalTable, result: RewriteResult) -> pa.Table:
    (output,) = result.outputs
    return pq.read_table(io.BytesIO(table.storage.read(Location.parse(output.path))))


def test_copied_and_encoded_row_groups_are_composed(endpoint: str, data: bytes) -> None:
    middle = ROWS // 2
    table, result = rewritten(endpoint, data, [middle])
    whole = pq.read_table(io.BytesIO(data))
    kept = pa.concat_tables([whole.slice(0, middle), whole.slice(middle + 1)])
    assert rows_of(table, result).equals(pa.concat_tables([whole, kept, whole]))
    # Two files, but for what joins the short ranges around the row group that was encoded anew.
    assert result.splice.composed_bytes > 1.9 * len(data)
    assert result.splice.streamed == ()
    assert result.splice.row_groups == 8


def test_the_bytes_that_pass_are_counted_apart(endpoint: str, data: bytes) -> None:
    _, result = rewritten(endpoint, data, [], Proof.COUNTS)
    (output,) = result.outputs
    assert result.bytes_written == output.size_bytes
    assert result.bytes_read < 1 * MIB
    assert result.bytes_written - result.splice.composed_bytes < 10_000


def test_what_a_killed_attempt_was_uploading_is_given_up(
    endpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    storage, root = s3_storage(endpoint), new_bucket(endpoint)
    table = LocalTable(str(root), TableSchema(SCHEMA), storage=storage)
    storage.write(table.new_location("p", "job-1-a-00000.parquet"), b"complete")
    killed = storage.open_output(table.new_location("p", "job-1-a-00001.parquet"))
    killed.write(bytes(20 * MIB))
    assert unfinished_uploads(endpoint, root) == 1
    with faulty(endpoint, "^GET .*uploads=", Fault.FORBIDDEN, hits=3) as proxy:
        denied = replace(table, storage=s3_storage(proxy.endpoint))
        with caplog.at_level(logging.WARNING):
            assert len(leftovers(denied, "p", "job-1-a")) == 1
    assert "left to the rules of the bucket" in caplog.text
    assert unfinished_uploads(endpoint, root) == 1
    assert len(leftovers(table, "p", "job-1-a")) == 1
    assert unfinished_uploads(endpoint, root) == 0
