"""Spark makes tables of every kind, we compact them, and Spark goes on with them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.types import IntegerType, StringType

from catalog.location import Location
from tests.acceptance.spark_house import LINEAGE, House
from tests.acceptance.spark_tables import RECIPES, WORN, WORN_KEYS, WORN_SINCE
from tests.iceberg_tables import commit_deletes, data_files, write_key_deletes
from tests.orphans import unreferenced_files

pytestmark = [pytest.mark.slow, pytest.mark.interop, pytest.mark.timeout(900)]

BINPACK = ("--min-input-files", "2", "--delete-ratio", "0")
METADATA = (
    "files", "entries", "partitions", "manifests", "snapshots", "history", "refs", "all_files",
    "all_entries", "all_manifests", "position_deletes",
)  # fmt: skip
# Every column of every metadata table is read, in one query.
READABLE = " union all ".join(f"select to_json(struct(*)) from {{t}}.{one}" for one in METADATA)
MERGE = (
    "merge into {t} as t using (select * from {t} where id in (0, 2, 6) union all"
    " select id + 100000L as id, * except (id) from {t} where id in (3, 4)) as s on t.id = s.id"
    " when matched and s.id = 6 then delete when matched then update set text = 'merged'"
    " when not matched then insert *"
)


@dataclass(frozen=True)
class Kept:
    """A table of Spark's, and what was in it before we came."""

    house: House
    name: str
    version: int
    snapshot_id: int
    rows: tuple[str, ...]

    def now(self, at: int | None = None) -> tuple[str, ...]:
        return told(self.house, self.name, self.version, at)

    def call(self, procedure: str, options: str = "", **arguments: str) -> dict[str, Any]:
        """Return what a procedure of Spark's says that it has done."""
        given = [f"table => 'ns.{self.name}'", *([f"options => map({options})"] if options else [])]
        given += [f"{key} => {value}" for key, value in arguments.items()]
        statement = f"call rest.system.{procedure}({', '.join(given)})"
        (row,) = self.house.spark.rows(statement).to_pylist()
        return dict(row)

    def compact(self, *options: str) -> dict[str, Any]:
        report = self.house.run("run", self.name, *options, "--verify", "full", "--yes")
        assert (report["status"], report["verified"]) == ("succeeded", True)
        return report

    def is_unchanged(self) -> None:
        """Spark reads the same rows, also as of the snapshot before, and all metadata tables."""
        assert self.now() == self.rows
        assert self.now(self.snapshot_id) == self.rows
        readable = self.house.spark.rows(READABLE.replace("{t}", f"rest.ns.{self.name}"))
        assert readable.num_rows > len(METADATA)

    def has_nothing_to_do(self) -> None:
        for procedure in ("rewrite_data_files", "rewrite_position_delete_files"):
            done = self.call(procedure, "'min-input-files', '2'")
            assert done[f"rewritten_{'data' if 'data' in procedure else 'delete'}_files_count"] == 0

    def is_merged_into(self) -> dict[int, Any]:
        """Let Spark merge changes into it; return the rows that there must be then, by id."""
        found = {row["id"]: row for row in map(json.loads, self.now())}
        self.house.spark.run(MERGE.replace("{t}", f"rest.ns.{self.name}"))
        found |= {
            one + 100_000: {**found[one], "id": one + 100_000} for one in (3, 4) if one in found
        }
        found |= {one: {**found[one], "text": "merged"} for one in (0, 2) if one in found}
        del found[6]
        return found

    def holds(self, expected: dict[int, Any]) -> None:
        rows = [json.loads(row) for row in self.now()]
        assert len(rows) == len(expected)
        for row in rows:
            wanted = expected[row["id"]]
            lost = {"_last_updated_sequence_number", *(("_row_id",) if row["id"] > 100_000 else ())}
            assert {k: v for k, v in row.items() if k not in lost} == {
                k: v for k, v in wanted.items() if k not in lost
            }

    def is_maintained(self, *, deletes: bool = True) -> None:
        if deletes:
            self.call("rewrite_position_delete_files", "'rewrite-all', 'true'")
        self.call("rewrite_data_files", "'rewrite-all', 'true'")
        self.call("rewrite_manifests")


def told(house: House, name: str, version: int, at: int | None = None) -> tuple[str, ...]:
    columns = f"*, {LINEAGE}" if version == 3 else "*"
    found = house.rows(name, columns, at)
    return tuple(sorted(json.dumps(row, default=str, sort_keys=True) for row in found))


def kept(house: House, name: str) -> Kept:
    metadata = house.table(name).metadata
    assert metadata.current_snapshot_id is not None
    version = metadata.format_version
    return Kept(house, name, version, metadata.current_snapshot_id, told(house, name, version))


def build(house: House, kind: str, version: int) -> str:
    name = f"m_{kind}_{version}"
    for one in RECIPES[kind].statements(name, version, str(house.scratch)):
        house.spark.run(one)
    return name


CASES = [
    pytest.param(
        kind,
        version,
        marks=[] if version == one.versions[at % len(one.versions)] else pytest.mark.thorough,
    )
    for at, (kind, one) in enumerate(RECIPES.items())
    for version in one.versions
]


@pytest.mark.parametrize(("kind", "version"), CASES)
def test_spark_goes_on(house: House, kind: str, version: int) -> None:
    table = kept(house, build(house, kind, version))
    place = house.table(table.name).metadata_location
    table.compact(*BINPACK)
    table.is_unchanged()
    assert unreferenced(house, table) == []
    if kind != "specs_evolved":
        house.catalog.register_table(f"ns.{table.name}_theirs", place)
        theirs = kept(house, f"{table.name}_theirs")
        theirs.call("rewrite_data_files", "'rewrite-all', 'true'")
        is_described_alike(files(table), files(theirs))
    else:
        # Spark puts files of older specs together whatever their partitions are.
        table.compact("--output-spec", "current")
        table.compact(*BINPACK)
        table.is_unchanged()
    table.has_nothing_to_do()
    expected = table.is_merged_into()
    table.holds(expected)
    table.compact(*BINPACK)
    table.holds(expected)
    house.spark.run(f"update rest.ns.{table.name} set text = 'again' where id in (5, 7)")
    expected |= {one: {**expected[one], "text": "again"} for one in (5, 7)}
    # Spark's own loses deletes there, whether we have been there or not.
    table.is_maintained(deletes=kind != "identity_of_every_type")
    table.call("expire_snapshots", older_than="timestamp'2100-01-01'", retain_last="1")
    table.holds(expected)
    assert house.run("plan", table.name, *BINPACK, "--check")["groups"] == []


def files(table: Kept) -> list[dict[str, Any]]:
    """Return what the metadata tell of the data files, in the order of their partitions."""
    query = f"select * from rest.ns.{table.name}.files where content = 0"
    found = table.house.spark.rows(query).to_pylist()
    return sorted(found, key=lambda one: str(one.get("partition")))


def is_described_alike(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """Readers are told of our outputs what they are told of Spark's of the same rows."""
    for own, other in zip(ours, theirs, strict=True):
        for name in ("spec_id", "partition", "record_count", "key_metadata", "equality_ids"):
            assert str(own.get(name)) == str(other.get(name))
        for column, told in own["readable_metrics"].items():
            wanted = other["readable_metrics"][column]
            # Where a NaN is, statistics say nothing of a column.
            if wanted["nan_value_count"]:
                assert told["lower_bound"] is told["upper_bound"] is None
                continue
            for bound in ("lower_bound", "upper_bound"):
                assert told[bound] == wanted[bound], column
            if wanted["value_count"] is not None:
                assert _values(told) == _values(wanted), column
        path = Path(Location.parse(own["file_path"]).path)
        footer = pq.read_metadata(path)
        starts = (footer.row_group(at).column(0) for at in range(footer.num_row_groups))
        assert own["split_offsets"] == [
            one.dictionary_page_offset or one.data_page_offset for one in starts
        ]
        assert own["file_size_in_bytes"] == path.stat().st_size
        place = Path(Location.parse(other["file_path"]).path)
        assert _columns(footer) == _columns(pq.read_metadata(place))


def _values(told: dict[str, int]) -> int:
    """How many values there are; those in structs that are null are counted by some as null."""
    return told["value_count"] - (told["null_value_count"] or 0)


def _columns(footer: pq.FileMetaData) -> set[tuple[Any, ...]]:
    leaves = [footer.schema.column(at) for at in range(len(footer.schema))]
    return {
        (
            one.path, one.physical_type, one.logical_type.to_json(), one.length,
            one.max_definition_level, one.max_repetition_level,
        )
        for one in leaves
    } | {str(footer.schema.to_arrow_schema().remove_metadata())}  # fmt: skip


def unreferenced(house: House, table: Kept) -> list[str]:
    found = unreferenced_files(house.table(table.name))
    return [path for path in found if not path.endswith((".crc", "_SUCCESS"))]


@pytest.fixture(scope="session")
def worn(house: House) -> dict[int, str]:
    """Where the metadata of a worn table are, by its format version; the house lives as long."""
    name = "m_worn"
    for one in WORN.statements(name, 2, str(house.scratch)):
        house.spark.run(one)
    table = house.table(name)
    like = {file.partition[0]: file for file in data_files(table)}
    for part, ids in WORN_KEYS.items():
        keys = pa.table({"old": [f"text {one}" for one in ids]})
        commit_deletes(table, write_key_deletes(table, keys, like=like[part]))
    for one in WORN_SINCE:
        house.spark.run(one.replace("{t}", f"rest.ns.{name}"))
    places = {2: house.table(name).metadata_location}
    house.spark.run(f"alter table rest.ns.{name} set tblproperties ('format-version'='3')")
    house.spark.run(f"delete from rest.ns.{name} where id in (10, 34)")
    places[3] = house.table(name).metadata_location
    return places


SETTLED = {
    "binpack": BINPACK,
    "threshold": ("--min-input-files", "2", "--delete-file-threshold", "1"),
    "deep": ("--effort", "deep", *BINPACK),
    "all": ("--rewrite-all",),
    "sort": ("--strategy", "sort"),
    "zorder": ("--strategy", "zorder", "--sort-by", "id, key"),
    "hilbert": ("--strategy", "hilbert", "--sort-by", "id, key"),
    "auto": ("--strategy", "auto", *BINPACK),
}
UNSETTLED = {
    "convert": ("--strategy", "convert-deletes"),
    "positions": ("--strategy", "rewrite-position-deletes"),
}
STRATEGIES = SETTLED | UNSETTLED
TRIED = [
    pytest.param(
        one,
        version,
        # Of each strategy one version; those of deletes write files for them in version 2.
        marks=[] if version == (2 if one in UNSETTLED else 2 + at % 2) else pytest.mark.thorough,
    )
    for at, one in enumerate(STRATEGIES)
    for version in (2, 3)
]


@pytest.mark.parametrize(("strategy", "version"), TRIED)
def test_spark_goes_on_after_each_strategy(
    house: House, worn: dict[int, str], strategy: str, version: int
) -> None:
    name = f"m_worn_{strategy}_{version}"
    house.catalog.register_table(f"ns.{name}", worn[version])
    table = kept(house, name)
    assert len(table.rows) == (26 if version == 2 else 24)
    table.compact(*STRATEGIES[strategy])
    table.is_unchanged()
    if strategy in SETTLED:
        table.has_nothing_to_do()
    expected = table.is_merged_into()
    table.holds(expected)
    table.compact(*STRATEGIES[strategy])
    table.holds(expected)
    table.is_maintained()
    table.holds(expected)


def test_what_is_not_handled_is_refused_whatever_is_asked_for(house: House) -> None:
    """Columns of the type variant, and files that are not Parquet's, beside such as are."""
    house.create("m_variant", "id bigint, v variant")
    for first in (0, 10):
        house.spark.run(
            "insert into rest.ns.m_variant select id, parse_json(concat('{\"a\":', id, '}'))"
            f" from range({first}, {first + 10}, 1, 1)"
        )
    for kind in ("orc", "avro"):
        house.create(f"m_{kind}", "id bigint, part string, text string", version=2)
        house.insert(f"m_{kind}", 0, 10)
        for name in (kind, "parquet"):
            house.spark.run(
                f"alter table rest.ns.m_{kind} set tblproperties ('write.format.default'='{name}')"
            )
            house.insert(f"m_{kind}", 20 if name == kind else 30, 10)
    asked = {
        "m_variant": ("binpack", "sort", "auto", "convert", "positions"),
        "m_orc": ("binpack", "positions"),
        "m_avro": ("sort", "convert"),
    }
    for name, strategies in asked.items():
        log = f"select * from rest.ns.{name}.metadata_log_entries"
        before = house.spark.rows(log)
        for options in map(STRATEGIES.__getitem__, strategies):
            error = house.run("run", name, *options, "--yes", code=1)["error"]
            assert error["code"] == "unsupported-table"
            assert name.removeprefix("m_") in error["message"].lower()
        assert house.spark.rows(log) == before
        assert len(house.rows(name, "id")) in (20, 30)


def test_a_branch_is_compacted_and_spark_goes_on_with_it(house: House) -> None:
    house.create("m_branched", "id bigint, part string, text string", version=2)
    house.insert("m_branched", 0, 10)
    house.spark.run("alter table rest.ns.m_branched create branch side")
    for first in (10, 20):
        house.insert("m_branched.branch_side", first, 10)
    house.spark.run("delete from rest.ns.m_branched.branch_side where id in (3, 11, 25)")
    main, side = house.rows("m_branched", "*"), house.rows("m_branched.branch_side", "*")
    assert (len(main), len(side)) == (10, 27)
    report = house.run("run", "m_branched", "--branch", "side", *BINPACK, "--yes")
    assert report["files_after"] == 1
    assert house.rows("m_branched", "*") == main
    assert house.rows("m_branched.branch_side", "*") == side
    house.spark.run("update rest.ns.m_branched.branch_side set text = 'new' where id = 12")
    house.spark.run("call rest.system.fast_forward('ns.m_branched', 'main', 'side')")
    found = {row["id"]: row["text"] for row in house.rows("m_branched", "*")}
    assert found == {row["id"]: row["text"] for row in side} | {12: "new"}


def test_defaults_of_columns_are_spark_s(house: House) -> None:
    """What files lack and what is stored of it instead are the same to Spark."""
    house.create("m_defaults", "id bigint, part string, text string")
    house.insert("m_defaults", 0, 10)
    with house.table("m_defaults").update_schema() as update:
        update.add_column("number", IntegerType(), default_value=7)
        update.add_column("word", StringType(), default_value="w")
    house.spark.run("refresh table rest.ns.m_defaults")
    house.spark.run(
        "insert into rest.ns.m_defaults select id, 'a', 'text', 8, null from range(10, 20)"
    )
    table = kept(house, "m_defaults")
    assert {row["number"] for row in map(json.loads, table.rows)} == {7, 8}
    table.compact(*BINPACK)
    table.is_unchanged()
    expected = table.is_merged_into()
    table.holds(expected)
    table.compact(*BINPACK)
    table.holds(expected)
