"""What is handled, and what is refused by its name."""

import pytest

from catalog.errors import UnsupportedTableError
from catalog.hudi.config import table_config
from catalog.hudi.protocol import MergeMode, MergeRule, merge_rule, require_readable

MODEL = "org.apache.hudi.common.model."


def config(version=9, **more):
    found = {"hoodie.table.version": str(version), "hoodie.table.type": "MERGE_ON_READ"}
    named = {name.replace("__", "."): value for name, value in more.items()}
    return table_config(found | {f"hoodie.{name}": value for name, value in named.items()})


@pytest.mark.parametrize(
    ("found", "mode"),
    [
        (config(record__merge__mode="COMMIT_TIME_ORDERING"), MergeMode.COMMIT_TIME),
        (config(8, record__merge__mode="EVENT_TIME_ORDERING"), MergeMode.EVENT_TIME),
        (config(), MergeMode.COMMIT_TIME),
        (config(table__ordering__fields="ts"), MergeMode.EVENT_TIME),
        (config(6), MergeMode.EVENT_TIME),
        (config(6, compaction__payload__class=MODEL + "DefaultHoodieRecordPayload"),
         MergeMode.EVENT_TIME),
        (config(6, compaction__payload__class=MODEL + "OverwriteWithLatestAvroPayload"),
         MergeMode.COMMIT_TIME),
        (config(6, compaction__payload__class="com.uber.hoodie.common.model.EventTimeAvroPayload"),
         MergeMode.EVENT_TIME),
        (config(record__merge__strategy__id="ce9acb64-bde0-424c-9b91-f6ebba25356d"),
         MergeMode.COMMIT_TIME),
    ],
)  # fmt: skip
def test_ways_of_merging_are_told(found, mode):
    require_readable(found)
    assert merge_rule(found).mode is mode


def test_by_event_time_there_are_ordering_fields():
    ordering = {"table__ordering__fields": "a,b"}
    event = config(record__merge__mode="EVENT_TIME_ORDERING", **ordering)
    assert merge_rule(event).ordering == ("a", "b")
    commit = config(record__merge__mode="COMMIT_TIME_ORDERING", **ordering)
    assert merge_rule(commit).ordering == ()


def test_nulls_may_be_filled():
    assert merge_rule(config(table__partial__update__mode="IGNORE_DEFAULTS")).fills_nulls
    assert not merge_rule(config()).fills_nulls


def test_deletes_may_have_a_mark_of_their_own():
    name = "record__merge__property__hoodie__payload__delete__"
    marks = {f"{name}field": "Op", f"{name}marker": "D"}
    assert merge_rule(config(**marks)) == MergeRule(MergeMode.COMMIT_TIME, (), "Op", "D")
    with pytest.raises(UnsupportedTableError, match="delete marker without"):
        merge_rule(config(**{f"{name}field": "Op"}))


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (config(record__merge__mode="CUSTOM", record__merge__strategy__id="x-y"),
         r"merge mode CUSTOM \(x-y\)"),
        (config(6, compaction__payload__class=MODEL + "PartialUpdateAvroPayload"),
         "payload class .*PartialUpdateAvroPayload"),
        (config(6, compaction__payload__class="my.DefaultHoodieRecordPayload"), "payload class my"),
        (config(record__merge__strategy__id="x-y"), "merge strategy x-y"),
        (config(table__partial__update__mode="FILL_UNAVAILABLE"), "FILL_UNAVAILABLE"),
        (config(record__merge__property__other="1"), r"merging by hoodie\.record"),
        (config(table__base__file__format="ORC"), "base files of orc"),
        (config(table__base__file__format="HFILE"), "base files of hfile"),
        (config(table__base__file__format="LANCE"), "base files of lance"),
        (config(bootstrap__base__path="/elsewhere"), "bootstrapping"),
        (config(populate__meta__fields="false"), "virtual keys"),
        (config(datasource__write__drop__partition__columns="true"), "partition columns"),
        (config(table__multiple__base__file__formats__enable="true"), "several formats"),
        (config(table__format="iceberg"), "table format iceberg"),
        (config(parquet__encryption__kms="x"), r"encryption \(hoodie\.parquet"),
    ],
)  # fmt: skip
def test_what_is_not_handled_is_refused_by_its_name(found, reason):
    with pytest.raises(UnsupportedTableError, match=reason):
        require_readable(found)


def test_tables_without_logs_may_be_merged_in_any_way():
    require_readable(config(record__merge__mode="CUSTOM", table__type="COPY_ON_WRITE"))
