"""What of Hudi's features is handled, and how records with equal keys are merged.  Pure.

Whatever is not known is refused by its name: a table that was read wrongly would be written back
wrongly.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from catalog.errors import UnsupportedTableError
from catalog.hudi.config import LAYOUT_2_VERSION, TableConfig


class MergeMode(StrEnum):
    """Which of two records with the same key stays."""

    COMMIT_TIME = "COMMIT_TIME_ORDERING"
    EVENT_TIME = "EVENT_TIME_ORDERING"


@dataclass(frozen=True, slots=True)
class MergeRule:
    """How records with the same key are merged.

    Attributes:
        mode: the one that came last stays, or the one with the greatest ordering value, of equal
            ones the last.
        ordering: the columns of the ordering value; empty where all are equal.
        delete_field: a column in which `delete_marker` means that the record is gone.
        delete_marker: see there; both are empty for none.
        fills_nulls: whether nulls of the record that stays are filled from the other one.
    """

    mode: MergeMode
    ordering: tuple[str, ...] = ()
    delete_field: str = ""
    delete_marker: str = ""
    fills_nulls: bool = False


# What stands for nulls of a record is what the other one has; defaults of columns are null.
_FILLING = "IGNORE_DEFAULTS"
_PACKAGES = ("org.apache.hudi.common.model.", "com.uber.hoodie.common.model.")
_PAYLOADS = {
    "OverwriteWithLatestAvroPayload": MergeMode.COMMIT_TIME,
    "DefaultHoodieRecordPayload": MergeMode.EVENT_TIME,
    "EventTimeAvroPayload": MergeMode.EVENT_TIME,
}
_STRATEGIES = {
    "ce9acb64-bde0-424c-9b91-f6ebba25356d": MergeMode.COMMIT_TIME,
    "eeb8d96f-b1e4-49fd-bbf8-28ac514178e5": MergeMode.EVENT_TIME,
}
_MERGE_PROPERTY = "hoodie.record.merge.property."
_DELETE_FIELD = _MERGE_PROPERTY + "hoodie.payload.delete.field"
_DELETE_MARKER = _MERGE_PROPERTY + "hoodie.payload.delete.marker"
_KNOWN_MERGE_PROPERTIES = frozenset((_DELETE_FIELD, _DELETE_MARKER))


def require_readable(config: TableConfig) -> None:
    """Make sure that a table has no feature that changes what its files mean.

    Raises:
        UnsupportedTableError: it has; it is named.
    """
    _require(config.base_file_format == "parquet", f"base files of {config.base_file_format}")
    _require(not config.get("hoodie.bootstrap.base.path"), "bootstrapping from other files")
    several = config.get("hoodie.table.multiple.base.file.formats.enable").lower()
    _require(several != "true", "base files of several formats")
    _require(config.populates_meta_fields, "rows without meta columns (virtual keys)")
    _require(not config.drops_partition_columns, "data files without the partition columns")
    form = config.get("hoodie.table.format", "native").lower()
    _require(form == "native", f"the table format {form}")
    for name, value in config.properties:
        _require(".encryption." not in name or not value, f"encryption ({name})")
    if config.is_merge_on_read:
        merge_rule(config)


def merge_rule(config: TableConfig) -> MergeRule:
    """Return how logs are merged; before version 8, where no mode is set, the payload says it.

    Raises:
        UnsupportedTableError: records are merged in a way that is not known.
    """
    partial = config.partial_update_mode
    _require(partial in ("", _FILLING), f"partial updates ({partial})")
    for name, _ in config.properties:
        is_known = not name.startswith(_MERGE_PROPERTY) or name in _KNOWN_MERGE_PROPERTIES
        _require(is_known, f"merging by {name}")
    field, marker = config.get(_DELETE_FIELD), config.get(_DELETE_MARKER)
    _require(bool(field) == bool(marker), "a delete marker without its column, or the other way")
    mode = _mode(config)
    ordering = config.ordering_fields if mode is MergeMode.EVENT_TIME else ()
    return MergeRule(mode, ordering, field, marker, partial == _FILLING)


def _mode(config: TableConfig) -> MergeMode:
    if config.version >= LAYOUT_2_VERSION:
        return _declared(config)
    if config.payload_class or not config.merge_strategy_id:
        # What tables have that do not say is that of the default payload.
        payload = config.payload_class or _PACKAGES[0] + "DefaultHoodieRecordPayload"
        return _by_payload(payload)
    return _by_strategy(config.merge_strategy_id)


def _declared(config: TableConfig) -> MergeMode:
    text = config.merge_mode.upper()
    if text in set(MergeMode):
        return MergeMode(text)
    _require(not text, _named(config, text))
    if config.merge_strategy_id:
        return _by_strategy(config.merge_strategy_id)
    if config.payload_class:
        return _by_payload(config.payload_class)
    return MergeMode.EVENT_TIME if config.ordering_fields else MergeMode.COMMIT_TIME


def _by_payload(name: str) -> MergeMode:
    package, _, short = name.rpartition(".")
    _require(f"{package}." in _PACKAGES and short in _PAYLOADS, f"the payload class {name}")
    return _PAYLOADS[short]


def _by_strategy(strategy_id: str) -> MergeMode:
    _require(strategy_id in _STRATEGIES, f"the merge strategy {strategy_id}")
    return _STRATEGIES[strategy_id]


def _named(config: TableConfig, mode: str) -> str:
    reasons = (config.payload_class, config.merge_strategy_id)
    return f"the record merge mode {mode} ({', '.join(filter(None, reasons)) or 'not named'})"


def _require(is_handled: bool, feature: str) -> None:
    if not is_handled:
        raise UnsupportedTableError(f"the table has a feature that is not handled: {feature}")
