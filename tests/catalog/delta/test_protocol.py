"""Table features: what versions stand for, and that nothing unknown gets through."""

from __future__ import annotations

import pytest

from catalog.delta.actions import Metadata, Protocol, parse_action
from catalog.delta.protocol import (
    FEATURES,
    Verdict,
    features_of,
    has_in_commit_timestamps,
    refuse_unsupported,
    stores_partitions,
    tracks_rows,
)
from catalog.errors import UnsupportedTableError
from tests.catalog.delta.logs import features, metadata

REFUSED = [name for name, feature in FEATURES.items() if feature.verdict is Verdict.REFUSED]
ACCEPTED = [name for name in FEATURES if name not in REFUSED]


def protocol_of(reader: int, writer: int) -> Protocol:
    return Protocol(reader, writer)


def named(*names: str) -> Protocol:
    found = parse_action("protocol", features(*names)["protocol"])
    assert isinstance(found, Protocol)
    return found


def table(**configuration: str) -> Metadata:
    properties = {key.replace("_", "."): value for key, value in configuration.items()}
    found = parse_action("metaData", metadata(configuration=properties)["metaData"])
    assert isinstance(found, Metadata)
    return found


@pytest.mark.parametrize(
    ("reader", "writer", "expected"),
    [
        (1, 1, set()),
        (1, 2, {"appendOnly", "invariants"}),
        (1, 3, {"appendOnly", "invariants", "checkConstraints"}),
        (2, 5, {"columnMapping", "changeDataFeed", "generatedColumns", "checkConstraints"}),
        (2, 6, {"columnMapping", "identityColumns"}),
        (3, 7, set()),
        (2, 7, {"columnMapping"}),
    ],
)
def test_features_of_versions(reader: int, writer: int, expected: set[str]) -> None:
    found = features_of(protocol_of(reader, writer))
    assert expected <= found
    assert (writer == 7) == ("appendOnly" not in found) or writer == 1
    refuse_unsupported(protocol_of(reader, writer), table())


@pytest.mark.parametrize(("reader", "writer"), [(4, 7), (3, 8), (1, 99)])
def test_versions_to_come_are_refused(reader: int, writer: int) -> None:
    with pytest.raises(UnsupportedTableError, match=f"version {reader} and writer version"):
        refuse_unsupported(protocol_of(reader, writer), table())


@pytest.mark.parametrize("name", REFUSED)
def test_refused_features_are_named_with_a_reason(name: str) -> None:
    with pytest.raises(UnsupportedTableError, match=name) as caught:
        refuse_unsupported(named("deletionVectors", name), table())
    assert FEATURES[name].reason in str(caught.value)


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted_features_pass(name: str) -> None:
    refuse_unsupported(named(name), table())


def test_unknown_features_are_refused() -> None:
    with pytest.raises(UnsupportedTableError, match="timeMachine"):
        refuse_unsupported(named("timeMachine"), table())


def test_commits_of_a_coordinator_are_refused() -> None:
    owned = table(**{"delta_coordinatedCommits_commitCoordinator-preview": "dynamodb"})
    with pytest.raises(UnsupportedTableError, match="coordinator"):
        refuse_unsupported(named(), owned)


def test_other_file_formats_are_refused() -> None:
    raw = {**metadata()["metaData"], "format": {"provider": "orc", "options": {}}}
    orc = parse_action("metaData", raw)
    assert isinstance(orc, Metadata)
    with pytest.raises(UnsupportedTableError, match="orc"):
        refuse_unsupported(protocol_of(1, 2), orc)


def test_features_are_used_when_they_are_switched_on() -> None:
    rows, times = named("rowTracking", "domainMetadata"), named("inCommitTimestamp")
    assert tracks_rows(rows, table(delta_enableRowTracking="true"))
    assert not tracks_rows(rows, table())
    assert not tracks_rows(times, table(delta_enableRowTracking="true"))
    assert has_in_commit_timestamps(times, table(delta_enableInCommitTimestamps="TRUE"))
    assert not has_in_commit_timestamps(times, table())


def test_partition_columns_are_stored_for_readers_of_iceberg() -> None:
    assert stores_partitions(named("materializePartitionColumns"), table())
    for_iceberg = named("icebergCompatV2", "columnMapping")
    assert stores_partitions(for_iceberg, table(delta_enableIcebergCompatV2="true"))
    assert not stores_partitions(for_iceberg, table())
