"""Filters of keys beside a table: asked before a merge reads files, kept for what it leaves behind.

They are a help only: a merge that could not use or keep any has merged all the same.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog.errors import CatalogError
from catalog.model import Inventory
from catalog.table import MapFunction, Table
from compactor.merge.key_filters import KeyFilters, filters_of, keep_filters
from compactor.merge.rules import MergeRules, Mode
from runtime import RuntimeFailure

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Filtering:
    """What a merge knows of filters.

    Attributes:
        filters: those that were there.
        before: the files of the table.
        looked_at: those of them that metadata did not rule out.
    """

    filters: KeyFilters
    before: Inventory
    looked_at: Inventory


def filters_for(table: Table, rules: MergeRules, schema: pa.Schema) -> KeyFilters | None:
    """Return the filters that a merge can use; None where there can be none."""
    try:
        return None if rules.mode is Mode.APPEND else filters_of(table, rules.key, schema)
    except CatalogError as error:
        _LOG.warning("filters of keys were not found: %s", error)
        return None


def keep_new_filters(table: Table, filtering: Filtering, *, map_function: MapFunction) -> None:
    """Make filters of the files that were written, and then of those that were looked at."""
    try:
        snapshot = table.snapshot()
        files = table.inventory(snapshot, map_function=map_function)
        paths = _paths(files)
        is_new = pc.invert(pc.is_in(paths, _paths(filtering.before)))
        known = pa.array([*filtering.filters.places], pa.string())
        is_looked_at = pc.is_in(paths, _paths(filtering.looked_at))
        lacks_one = pc.and_(is_looked_at, pc.invert(pc.is_in(paths, known)))
        rows = [np.flatnonzero(one.to_numpy(False)) for one in (is_new, lacks_one)]
        wanted = files.take(np.concatenate(rows))
        names = filtering.filters.columns.names
        keep_filters(table, snapshot, wanted, names, map_function=map_function)
    except (CatalogError, RuntimeFailure) as error:
        _LOG.warning("filters of keys were not kept: %s", error)


def _paths(files: Inventory) -> pa.Array:
    return files.files["path"].combine_chunks()
