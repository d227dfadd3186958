"""Which Delta table features are understood: one table, mirrored by the documentation.

A feature that is not in the table is refused: whatever it asks of a reader or writer is not known.

Specification: https://github.com/delta-io/delta/blob/master/PROTOCOL.md#table-features
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from catalog.delta.actions import Metadata, Protocol
from catalog.delta.properties import is_set
from catalog.errors import UnsupportedTableError

_READER_FEATURES_VERSION, _WRITER_FEATURES_VERSION = 3, 7


class Verdict(StrEnum):
    """What we make of a table feature."""

    HANDLED = "handled"
    TOLERATED = "tolerated"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Feature:
    """A table feature, and why it is treated as it is."""

    verdict: Verdict
    reason: str


def _handled(reason: str) -> Feature:
    return Feature(Verdict.HANDLED, reason)


def _tolerated(reason: str) -> Feature:
    return Feature(Verdict.TOLERATED, reason)


def _refused(reason: str) -> Feature:
    return Feature(Verdict.REFUSED, reason)


# Asked for by tables of `deltalake` that have no such column.
_VARIANT = _tolerated("tables may ask for it without a variant column; a column is refused")
_FOR_ICEBERG = _handled("outputs hold partition columns and the ids of nested ones, too")
_TOO_NEW_FOR_ICEBERG = _refused("its outputs might lack what Iceberg's readers ask for")
_BY_CATALOG = _refused("its commits belong to a catalog, not to its log")
_REDIRECTED = _refused("it has been replaced by a table at another place")
_WIDENING = _handled("files with the narrower type are read as the wider one")

FEATURES: Mapping[str, Feature] = {
    "appendOnly": _tolerated("a rewrite removes no rows"),
    "invariants": _tolerated("rows that were valid stay as they were"),
    "checkConstraints": _tolerated("rows that were valid stay as they were"),
    "changeDataFeed": _tolerated("a rewrite changes no data, and so records no changes"),
    "generatedColumns": _tolerated("values that were generated are copied"),
    "identityColumns": _tolerated("values that were given out are copied"),
    "allowColumnDefaults": _tolerated("defaults concern new rows only"),
    "columnMapping": _handled("columns are found and written by physical names and ids"),
    "deletionVectors": _handled("deleted rows are left out, and vectors are part of a file"),
    "timestampNtz": _handled("timestamps without time zone are a type like others"),
    "typeWidening": _WIDENING,
    "typeWidening-preview": _WIDENING,
    "domainMetadata": _handled("domains are kept as they are"),
    "rowTracking": _handled("ids and versions of rows are kept in the rewritten files"),
    "inCommitTimestamp": _handled("commits carry their time, later than the one before"),
    "v2Checkpoint": _handled("checkpoints are read with their sidecars"),
    "clustering": _handled("clustered files stay, or are clustered anew and marked as such"),
    "vacuumProtocolCheck": _tolerated("whoever cleans up must have read the protocol; we have"),
    "checkpointProtection": _tolerated("only the removal of old commits is restricted"),
    "materializePartitionColumns": _handled("outputs hold the partition columns, too"),
    "icebergCompatV1": _FOR_ICEBERG,
    "icebergCompatV2": _FOR_ICEBERG,
    "icebergCompatV3": _TOO_NEW_FOR_ICEBERG,
    "icebergWriterCompatV1": _TOO_NEW_FOR_ICEBERG,
    "icebergWriterCompatV3": _TOO_NEW_FOR_ICEBERG,
    "variantType": _VARIANT,
    "variantType-preview": _VARIANT,
    "variantShredding": _VARIANT,
    "variantShredding-preview": _VARIANT,
    "collations": _refused("text is compared by rules that are not known here"),
    "collations-preview": _refused("text is compared by rules that are not known here"),
    "geospatial": _refused("columns of geographic types are not understood"),
    "catalogManaged": _BY_CATALOG,
    "catalogOwned-preview": _BY_CATALOG,
    "coordinatedCommits-preview": _BY_CATALOG,
    "managedCommit-preview": _BY_CATALOG,
    "redirectReaderWriter-preview": _REDIRECTED,
    "redirectWriterOnly-preview": _REDIRECTED,
}
# Features that versions stand for, before there were names for them.
_BY_READER_VERSION = {2: ("columnMapping",)}
_BY_WRITER_VERSION = {
    2: ("appendOnly", "invariants"),
    3: ("checkConstraints",),
    4: ("changeDataFeed", "generatedColumns"),
    5: ("columnMapping",),
    6: ("identityColumns",),
}
_ICEBERG_SWITCHES = ("delta.enableIcebergCompatV1", "delta.enableIcebergCompatV2")
_COORDINATORS = (
    "delta.coordinatedCommits.commitCoordinator-preview",
    "delta.managedCommits.commitOwner",
)


def features_of(protocol: Protocol) -> frozenset[str]:
    """Return the features that a protocol asks for by name or by version.

    Raises:
        UnsupportedTableError: a version is not known.
    """
    reader, writer = protocol.reader_version, protocol.writer_version
    if reader > _READER_FEATURES_VERSION or writer > _WRITER_FEATURES_VERSION:
        raise UnsupportedTableError(
            f"the table asks for reader version {reader} and writer version {writer};"
            f" {_READER_FEATURES_VERSION} and {_WRITER_FEATURES_VERSION} are the last known",
            hint="compact it with the engine that wrote it; it was not touched",
        )
    named = (protocol.reader_features or frozenset()) | (protocol.writer_features or frozenset())
    legacy = [
        feature
        for versions, found, named_from in (
            (_BY_READER_VERSION, reader, _READER_FEATURES_VERSION),
            (_BY_WRITER_VERSION, writer, _WRITER_FEATURES_VERSION),
        )
        if found < named_from
        for version, features in versions.items()
        if version <= found
        for feature in features
    ]
    return named.union(legacy)


def refuse_unsupported(protocol: Protocol, metadata: Metadata) -> None:
    """Refuse a table that asks for what we do not do.

    Raises:
        UnsupportedTableError: naming the feature or property, and why.
    """
    for name in sorted(features_of(protocol)):
        feature = FEATURES.get(name, _refused("what it asks for is not known here"))
        if feature.verdict is Verdict.REFUSED:
            raise UnsupportedTableError(
                f"the table feature {name} is not supported: {feature.reason}",
                hint="compact it with an engine that has the feature; it was not touched",
            )
    coordinator = next((one for one in _COORDINATORS if metadata.configuration.get(one)), None)
    if coordinator is not None:
        raise UnsupportedTableError(
            f"the table's commits belong to a coordinator ({coordinator})",
            hint="compact it with an engine that has the coordinator; it was not touched",
        )
    if metadata.file_format != "parquet":
        raise UnsupportedTableError(
            f"the table has {metadata.file_format} files; only Parquet is supported"
        )


def tracks_rows(protocol: Protocol, metadata: Metadata) -> bool:
    """Tell whether every row has an id that must be kept."""
    is_on = is_set(metadata.configuration, "delta.enableRowTracking")
    return is_on and "rowTracking" in features_of(protocol)


def has_in_commit_timestamps(protocol: Protocol, metadata: Metadata) -> bool:
    """Tell whether the time of a commit is what the commit itself says."""
    is_on = is_set(metadata.configuration, "delta.enableInCommitTimestamps")
    return is_on and "inCommitTimestamp" in features_of(protocol)


def stores_partitions(protocol: Protocol, metadata: Metadata) -> bool:
    """Tell whether data files must hold the partition columns."""
    is_for_iceberg = any(is_set(metadata.configuration, name) for name in _ICEBERG_SWITCHES)
    return is_for_iceberg or "materializePartitionColumns" in features_of(protocol)
