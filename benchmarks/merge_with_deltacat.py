"""What DeltaCAT takes to merge the same changes; runs in an environment of its own.

Usage: merge_with_deltacat.py BASE_DIRECTORY CHANGES_DIRECTORY CATALOG_DIRECTORY ROWS_EXPECTED

It merges into its own table, which is filled first: that warms its workers. Prints, as JSON, what
the merge alone took of the whole process tree.
"""

import json
import sys
import threading
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray
from deltacat.catalog import CatalogProperties
from deltacat.compute.compactor.model.compact_partition_params import CompactPartitionParams
from deltacat.compute.compactor_v2.compaction_session import compact_partition
from deltacat.storage import metastore
from deltacat.storage.model.manifest import EntryParams
from deltacat.storage.model.types import DeltaType
from deltacat.types.media import ContentType

BUCKETS = 8
base, changes, root, rows_expected = sys.argv[1:]


def tree():
    me = psutil.Process()
    return [me, *me.children(recursive=True)]


def cpu_seconds():
    total = 0.0
    for process in tree():
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


class Memory(threading.Thread):
    """Samples the memory that the processes of the tree have to themselves, and share."""

    def __init__(self):
        super().__init__(daemon=True)
        self.peak_bytes, self.is_done = 0, threading.Event()

    def run(self):
        while not self.is_done.wait(0.1):
            total = 0
            for process in tree():
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:
                    continue
            self.peak_bytes = max(self.peak_bytes, total)


ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=3 << 30)
catalog = CatalogProperties(root=root)


def table(name):
    metastore.create_namespace(namespace=name, catalog=catalog)
    stream = metastore.create_table_version(namespace=name, table_name="t", catalog=catalog)[2]
    partition = metastore.stage_partition(stream=stream, catalog=catalog)
    return stream, metastore.commit_partition(partition=partition, catalog=catalog)


def commit(rows, partition, kind=DeltaType.UPSERT, keyed_on=None):
    staged = metastore.stage_delta(
        data=rows,
        partition=partition,
        catalog=catalog,
        content_type=ContentType.PARQUET,
        delta_type=kind,
        entry_params=None if keyed_on is None else EntryParams.of(keyed_on),
    )
    return metastore.commit_delta(delta=staged, catalog=catalog)


def compact(source, target, last, names, rebase=None):
    compact_partition(
        CompactPartitionParams.of(
            {
                "catalog": catalog,
                "compacted_file_content_type": ContentType.PARQUET,
                "dd_max_parallelism_ratio": 1.0,
                "deltacat_storage": metastore,
                "deltacat_storage_kwargs": {"catalog": catalog},
                "destination_partition_locator": target.locator,
                "drop_duplicates": True,
                "hash_bucket_count": BUCKETS,
                "last_stream_position_to_compact": last.stream_position,
                "list_deltas_kwargs": {"catalog": catalog, "equivalent_table_types": []},
                "primary_keys": ["id"],
                "all_column_names": names,
                "original_fields": set(names),
                "rebase_source_partition_locator": rebase and rebase.partition_locator,
                "rebase_source_partition_high_watermark": rebase and rebase.stream_position,
                "source_partition_locator": source.locator,
            }
        )
    )


stored = pa.concat_tables(pq.read_table(path) for path in sorted(Path(base).glob("*.parquet")))
stored = stored.replace_schema_metadata(None)
stored = stored.cast(pa.schema([pa.field(one.name, one.type) for one in stored.schema]))
given = pa.concat_tables(pq.read_table(path) for path in sorted(Path(changes).glob("*.parquet")))
is_delete = pc.equal(given["op"], "D")
upserts = given.filter(pc.invert(is_delete)).drop(["op"])
deletes = given.filter(is_delete).select(["id"])

names = stored.schema.names
_, source = table("source")
target_stream, target = table("target")
filled = commit(stored, source)
del stored
compact(source, target, filled, names, rebase=filled)

commit(upserts, source)
last = commit(deletes, source, DeltaType.DELETE, ["id"])
memory = Memory()
memory.start()
started, before = time.monotonic(), cpu_seconds()
compact(source, target, last, names)
used, took = cpu_seconds() - before, time.monotonic() - started
memory.is_done.set()
memory.join()
partition = metastore.get_partition(
    stream_locator=target_stream.locator, partition_values=None, catalog=catalog
)
deltas = metastore.list_partition_deltas(
    partition_like=partition, include_manifest=True, catalog=catalog
)
rows = sum(delta.meta.record_count for delta in deltas.all_items())
assert rows == int(rows_expected), (rows, rows_expected)
print(
    "MEASURED "
    + json.dumps({"cpu_seconds": used, "wall_seconds": took, "peak_tree_bytes": memory.peak_bytes})
)
ray.shutdown()
