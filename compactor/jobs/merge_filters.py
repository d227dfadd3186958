"""Filters of keys kept beside a table: found before a merge, made after it for what is new."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from catalog.errors import CatalogError
from catalog.table import MapFunction, Table
from compactor.jobs.merge_planning import PlannedMerge
from compactor.jobs.report import JobReport
from compactor.merge.key_filters import keep_filters


def with_filters(
    table: Table, planned: PlannedMerge, report: JobReport, *, map_function: MapFunction
) -> JobReport:
    """Make filters of the files that a merge has written or looked at; they are a help only.

    Returns:
        The report, with a warning where they could not be made.
    """
    reading = planned.reading
    if reading is None or not report.groups.committed:
        return report
    try:
        base = table.inventory(planned.plan.snapshot, map_function=map_function)
        snapshot = table.snapshot(report.snapshot_after)
        after = table.inventory(snapshot, map_function=map_function)
        old = set(base.files["path"].to_pylist()) - planned.unfiltered
        is_wanted = np.array([one not in old for one in after.files["path"].to_pylist()], np.bool_)
        files = after.take(np.flatnonzero(is_wanted))
        if files.file_count:
            keep_filters(table, snapshot, files, reading.rules.key, map_function=map_function)
    except CatalogError as error:
        warning = f"no filters of keys were made: {error}"
        return replace(report, warnings=tuple(sorted({*report.warnings, warning})))
    return report
