"""Versions out of logs: every form of checkpoint, against a replay of one action at a time."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.delta.table import DeltaTable
from catalog.errors import CorruptTableError
from catalog.location import Location
from catalog.model import Inventory
from catalog.table import MapFunction
from tests.catalog.delta.logs import PROTOCOL, Action, HandWritten, add, column, metadata, remove

ROOT_PARTS = (column("id"), column("k", "string"), column("day", "date"))
TABLE = metadata(*ROOT_PARTS, partitions=["k", "day"])


def vector(place: str, *, rows: int = 3, offset: int = 1) -> dict[str, Any]:
    return {
        "storageType": "u",
        "pathOrInlineDv": f"ab^-aqEH.-t@S}}K{{vb[{place}",
        "offset": offset,
        "sizeInBytes": 40,
        "cardinality": rows,
    }


def table_at(directory: Path) -> DeltaTable:
    return DeltaTable("t", Location.parse(str(directory)), {})


def inventory_of(
    directory: Path, version: int | None = None, map_function: MapFunction = map
) -> Inventory:
    table = table_at(directory)
    snapshot = table.snapshot(None if version is None else str(version))
    return table.inventory(snapshot, map_function=map_function)


def described(directory: Path, version: int | None = None) -> dict[str, tuple[Any, ...]]:
    """Return what the inventory says of each file, by its path below the table."""
    return {
        one.path.removeprefix(f"{directory}/"): (
            one.size_bytes,
            one.row_count,
            one.partition_key,
            one.first_row_id,
            one.row_version,
            tuple((delete.path, delete.row_count, delete.size_bytes) for delete in one.deletes),
        )
        for one in inventory_of(directory, version).slices()
    }


def expected_of(actions: Sequence[Action]) -> dict[str, tuple[Any, ...]]:
    """Replay actions one by one."""
    live: dict[tuple[str, str], Mapping[str, Any]] = {}
    for action in actions:
        for kind, raw in action.items():
            if kind in ("add", "remove"):
                live.pop(_identity(raw), None)
            if kind == "add":
                live[_identity(raw)] = raw
    return {raw["path"]: _facts(raw) for raw in live.values()}


def _identity(raw: Mapping[str, Any]) -> tuple[str, str]:
    found = raw.get("deletionVector")
    if not found:
        return raw["path"], ""
    return raw["path"], f"u{found['pathOrInlineDv']}@{found['offset']}"


def _facts(raw: Mapping[str, Any]) -> tuple[Any, ...]:
    values = [raw["partitionValues"].get(name) for name in ("k", "day")]
    found = raw.get("deletionVector")
    deletes = ((_identity(raw)[1], found["cardinality"], found["sizeInBytes"]),) if found else ()
    return (
        raw["size"],
        json.loads(raw["stats"])["numRecords"],
        json.dumps(values, ensure_ascii=False, separators=(",", ":")),
        raw.get("baseRowId"),
        raw.get("defaultRowCommitVersion"),
        deletes,
    )


FILES = [f"k=x/part-{number}.parquet" for number in range(4)]
VECTORS = [None, vector("aaaaa"), vector("bbbbb", rows=4), vector("bbbbb", offset=60)]


@st.composite
def histories(draw: st.DrawFn) -> list[list[dict[str, Any]]]:
    """Return the file actions of some versions: every file in one state at a time."""
    live: dict[str, dict[str, Any]] = {}
    versions = []
    sizes = itertools.count(1)
    for _ in range(draw(st.integers(1, 7))):
        actions = []
        for path in draw(st.sets(st.sampled_from(FILES))):
            before, chosen = live.pop(path, None), draw(st.sampled_from([*VECTORS, "gone"]))
            same = before is not None and before.get("deletionVector") == chosen
            if before is not None and not same:
                gone = (
                    {"deletionVector": before["deletionVector"]}
                    if before.get("deletionVector")
                    else {}
                )
                actions.append(remove(path, **gone))
            if chosen == "gone":
                continue
            values = {"k": draw(st.sampled_from(["x", "", None, "ü/ %"])), "day": "2026-01-01"}
            extra = {"deletionVector": chosen} if chosen else {}
            extra |= {"baseRowId": 7, "defaultRowCommitVersion": 2} if draw(st.booleans()) else {}
            live[path] = add(path, partitionValues=values, size=next(sizes), **extra)["add"]
            actions.append({"add": live[path]})
        versions.append(actions)
    return versions


FORMS = st.sampled_from(["classic", "parts", "json", "parquet", "whole json", "whole parquet"])


def _checkpoint(log: HandWritten, version: int, actions: Sequence[Action], form: str) -> None:
    if form == "classic":
        log.checkpoint(version, *actions)
    elif form == "parts":
        log.checkpoint(version, *actions, parts=3)
    else:
        sidecars = 0 if form.startswith("whole") else 2
        log.v2_checkpoint(version, *actions, form=form.split()[-1], sidecars=sidecars)


@settings(max_examples=40, deadline=None)
@given(history=histories(), forms=st.dictionaries(st.integers(0, 6), FORMS), data=st.data())
def test_every_form_of_a_log_says_the_same(
    history: list[list[dict[str, Any]]], forms: dict[int, str], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        log = HandWritten(Path(directory))
        for version, actions in enumerate(history):
            first = [PROTOCOL, TABLE] if not version else []
            log.commit(version, {"commitInfo": {"operation": "WRITE"}}, *first, *actions)
        for version in range(len(history)):
            said = [one for some in history[: version + 1] for one in some]
            if version in forms:
                _checkpoint(log, version, [PROTOCOL, TABLE, *_final(said)], forms[version])
        ends = st.integers(0, len(history) - 1)
        low, high = sorted((data.draw(ends), data.draw(ends)))
        if 0 < low < high:
            said = [one for some in history[low : high + 1] for one in some]
            log.compacted(low, high, *_final(said, with_removes=True))
        for version in range(len(history)):
            said = [one for some in history[: version + 1] for one in some]
            assert described(log.directory, version) == expected_of(said)


def _final(actions: Sequence[Action], *, with_removes: bool = False) -> list[Action]:
    """Return the last word on each file."""
    last: dict[tuple[str, str], Action] = {}
    for action in actions:
        ((_, raw),) = action.items()
        last[_identity(raw)] = action
    return [one for one in last.values() if with_removes or "add" in one]


def test_removes_in_a_checkpoint_remove_nothing_more(tmp_path: Path) -> None:
    log = HandWritten(tmp_path)
    log.checkpoint(3, PROTOCOL, TABLE, add("a"), remove("b"), add("c"))
    log.commit(4, add("b"), remove("a"))

    assert set(described(tmp_path)) == {"b", "c"}


def test_the_spelling_of_a_path_does_not_matter(tmp_path: Path) -> None:
    log = HandWritten(tmp_path)
    log.checkpoint(0, PROTOCOL, TABLE, add("k=a%2520b/x"), add("k=%C3%BC/y"), add("z"))
    log.commit(1, remove(f"{tmp_path}/k=a%2520b/x"), remove("k=ü/y"))

    assert set(described(tmp_path)) == {"z"}


def test_facts_are_the_last_word_of_each(tmp_path: Path) -> None:
    log = HandWritten(tmp_path)

    def domain(name: str, text: str, *, removed: bool = False) -> Action:
        return {"domainMetadata": {"domain": name, "configuration": text, "removed": removed}}

    def txn(name: str, version: int) -> Action:
        return {"txn": {"appId": name, "version": version}}

    log.v2_checkpoint(
        2, PROTOCOL, TABLE, domain("a", "1"), domain("b", "1"), txn("app", 1), add("x")
    )
    log.commit(3, {"commitInfo": {"operation": "WRITE"}}, domain("a", "2"), txn("app", 5))
    log.commit(4, domain("b", "", removed=True), txn("other", 1))
    log.commit(
        5,
        {"commitInfo": {"operation": "SET TBLPROPERTIES", "timestamp": 9, "txnId": "t"}},
        metadata(*ROOT_PARTS, partitions=["k", "day"], configuration={"p": "q"}),
        domain("delta.rowTracking", '{"rowIdHighWaterMark": 41}'),
    )
    state = table_at(tmp_path).load()[1]

    assert state.version == 5
    assert state.metadata.configuration == {"p": "q"}
    assert state.txns == {"app": 5, "other": 1}
    assert state.domain_metadata.keys() == {"a", "delta.rowTracking"}
    assert state.domain_metadata["a"] == "2"
    assert state.row_id_high_water_mark == 41
    assert (state.commit_info.operation, state.commit_info.txn_id) == ("SET TBLPROPERTIES", "t")


def test_facts_are_advanced_and_read_anew_to_the_same_end(tmp_path: Path) -> None:
    log = HandWritten(tmp_path)
    log.commit(0, PROTOCOL, TABLE)
    table = table_at(tmp_path)
    for version in range(1, 8):
        log.commit(version, {"txn": {"appId": f"app-{version % 3}", "version": version}})
        if version == 4:
            log.checkpoint(version, PROTOCOL, TABLE, {"txn": {"appId": "app-0", "version": 3}})
        assert table.load() == table_at(tmp_path).load()


def test_a_table_made_anew_at_the_same_place(tmp_path: Path) -> None:
    log = HandWritten(tmp_path)
    log.commit(0, PROTOCOL, TABLE)
    table = table_at(tmp_path)
    assert table.load()[1].metadata.partition_columns == ("k", "day")

    log.commit(0, PROTOCOL, metadata(), add("a"))
    log.commit(1, add("b"))

    assert table.load()[1].metadata.partition_columns == ()
    assert table.inventory(table.snapshot()).file_count == 2


def test_parts_are_read_in_other_processes(tmp_path: Path) -> None:
    log = HandWritten(tmp_path)
    log.v2_checkpoint(0, PROTOCOL, TABLE, *(add(f"f{number}") for number in range(20)), sidecars=4)
    log.commit(1, remove("f3"))
    with ProcessPoolExecutor(1) as pool:
        found = inventory_of(tmp_path, map_function=pool.map)

    assert found.files.equals(inventory_of(tmp_path).files)
    assert found.file_count == 19


@pytest.mark.parametrize("form", ["json", "checkpoint"])
def test_a_file_that_is_live_twice_is_refused(tmp_path: Path, form: str) -> None:
    log = HandWritten(tmp_path)
    twice = [add("a"), add("b"), add("a", deletionVector=vector("aaaaa"))]
    if form == "json":
        log.commit(0, PROTOCOL, TABLE, *twice)
    else:
        log.checkpoint(0, PROTOCOL, TABLE, *twice)
    with pytest.raises(CorruptTableError, match="/a is in the table more than once"):
        inventory_of(tmp_path)


def test_many_files_are_searched_for_doubles_in_shares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catalog.delta.inventory._SHARE_ROWS", 10)
    log = HandWritten(tmp_path)
    many = [add(f"part-{number:05}-{number * 7919 % 1000:03}.parquet") for number in range(200)]
    log.commit(0, PROTOCOL, TABLE, *many)
    assert inventory_of(tmp_path).file_count == 200
    log.commit(1, add(many[77]["add"]["path"], deletionVector=vector("aaaaa")))
    with pytest.raises(CorruptTableError, match="part-00077"):
        inventory_of(tmp_path)


def test_times_of_commits(tmp_path: Path) -> None:
    log = HandWritten(tmp_path)
    protocol = {
        "protocol": {
            "minReaderVersion": 1,
            "minWriterVersion": 7,
            "writerFeatures": ["inCommitTimestamp"],
        }
    }
    kept = metadata(configuration={"delta.enableInCommitTimestamps": "true"})
    log.commit(0, {"commitInfo": {"timestamp": 5}}, PROTOCOL, metadata())
    path = log.commit(1, {"commitInfo": {"inCommitTimestamp": 77, "timestamp": 5}}, protocol, kept)
    log.compacted(0, 1, protocol, kept)
    table = table_at(tmp_path)

    assert table.snapshot("1").timestamp_ms == 77
    at_ms = int((log.log / f"{0:020}.json").stat().st_mtime * 1000)
    assert abs(table.snapshot("0").timestamp_ms - at_ms) <= 1
    log.checkpoint(1, protocol, kept)
    path.unlink()
    (log.log / f"{0:020}.json").unlink()
    checkpointed = table.snapshot()
    assert (checkpointed.snapshot_id, checkpointed.operation) == ("1", "")
    assert checkpointed.timestamp_ms > 77
