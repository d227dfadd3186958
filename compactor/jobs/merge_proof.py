"""The full proof of a merge: everything is read again and compared with an independent model.

Changes are read from their sources once more, and the rows before and after from the table. Their
keys and hashes go into `merge_model`, which says what must be there and what is. Files that both
snapshots have are read once.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import types

from catalog.model import Inventory, Snapshot
from catalog.table import Table, TableFiles
from compactor.errors import VerificationError
from compactor.jobs.merge_changes import (
    Arrived,
    MergeRequest,
    News,
    as_stored,
    parts_of,
    read_deletes,
    rules_of,
)
from compactor.jobs.merge_model import Model, Shape
from compactor.jobs.report import JobReport
from compactor.jobs.spread import answer, spread
from compactor.jobs.verification import compare_files
from compactor.merge.arriving import Placed
from compactor.merge.changes import (
    FILE,
    KIND,
    ORDER_BY,
    ROW,
    STREAM,
    ChangeSet,
    Source,
    change_set,
    changeable,
)
from compactor.merge.deletes import KeyedDeletes
from compactor.merge.keys import whole
from compactor.merge.rounds import limited
from compactor.merge.rules import MergeRules
from compactor.merge.sources import ChangeSource
from compactor.planner.plan import ChangePlan
from compactor.planner.policy import MIB
from compactor.rewrite.fingerprint import combine, hash_array, mix
from compactor.rewrite.read import SliceReader
from runtime import Ref, Runtime

_TASK_BYTES = 64 * MIB
_TASK_MEMORY_BYTES = 256 * MIB
# Answers wait in the memory of the runtime until they are taken.
_IN_FLIGHT_MAX = 8
_PLACES = {KIND: "kind", STREAM: "stream", FILE: "file", ROW: "row"}


@dataclass(frozen=True, slots=True)
class Hashing:
    """What is taken of a row.

    Attributes:
        columns: the table's columns.
        named: those whose values are taken, each with its name in the model.
        apart: those that some changes lack: each is hashed by itself, the others together.
    """

    columns: pa.Schema
    named: tuple[tuple[str, str], ...]
    apart: tuple[str, ...]

    def take(self, rows: pa.Table | pa.RecordBatch) -> dict[str, pa.Array]:
        """Return the values and the hashes of rows by their names in the model."""
        common = [name for name in self.columns.names if name not in self.apart]
        parts = [hash_array(whole(rows.column(name))) for name in common]
        hashes = [mix(combine(parts, rows.num_rows, seed=0))]
        hashes += [hash_array(whole(rows.column(name))) for name in self.apart]
        values = {short: _plain(whole(rows.column(name))) for name, short in self.named}
        return values | {f"h{at}": pa.array(one) for at, one in enumerate(hashes)}


def taken_of_files(table: TableFiles, files: Inventory, hashing: Hashing) -> pa.Table:
    """Read some files and return what the model needs of their rows: what a worker runs.

    Raises:
        CatalogError: as reading the files raises it.
    """
    schema = replace(table.schema, arrow=hashing.columns)
    reader = SliceReader.of(table, files, schema)
    parts = [pa.table(hashing.take(hashing.columns.empty_table()))]
    for file in files.slices():
        parts += [pa.table(hashing.take(batch)) for batch in reader.batches(file)]
    return pa.concat_tables(parts)


@dataclass(frozen=True, slots=True)
class MergeProof:
    """Proves merges into a table.

    Attributes:
        table: the table.
        request: what was merged.
        runtime: runs the reading.
    """

    table: Table
    request: MergeRequest
    runtime: Runtime

    def holds(self, before: Snapshot | None, after: Snapshot, change: ChangePlan) -> bool:
        """Tell whether a snapshot holds what the one before and the changes make together.

        Args:
            before: the last snapshot without the changes; None where there was none.
            after: the first with all of them.
            change: what was merged.

        Raises:
            ChangesRefusedError: the changes are not there any more.
            CatalogError: the changes or the table cannot be read.
        """
        schema = self.table.files(after).schema
        request, arrived = as_stored(self.request, self._arrived(change), schema)
        columns, rules = changeable(schema), rules_of(request, arrived)
        deletes = read_deletes(request, arrived, columns, rules)
        parts = parts_of(arrived.changes, arrived.deletes)
        names = _names(rules, deletes)
        apart = tuple(sorted(set(columns.names) - _given(parts, columns)))
        hashing = Hashing(columns, tuple(names.items()), apart)
        with tempfile.TemporaryDirectory(prefix="compact-proof-") as directory:
            model = Model(Path(directory), _shape(rules, hashing, names))
            try:
                self._fill(model, hashing, before=before, after=after)
                for one in _sets(parts, columns, rules):
                    model.add("changes", _change_rows(one, hashing))
                for keyed in deletes:
                    by = [names[name] for name in keyed.columns]
                    model.add_deletes(_delete_rows(keyed, names), by)
                return model.expected() == model.found()
            finally:
                model.close()

    def _arrived(self, change: ChangePlan) -> Arrived:
        """Return what was new when it was merged."""
        since = {one.source: one.value for one in change.since}
        until = {one.source: one.value for one in change.watermarks}

        def news(source: ChangeSource | None) -> News | None:
            if source is None:
                return None
            arrivals = source.arrivals(since.get(source.name))
            if arrivals.watermark is not None and source.name not in until:
                arrivals = replace(arrivals, parts=())
            elif source.name in until:
                arrivals = limited(arrivals, until[source.name])
            return News(source.name, since.get(source.name), arrivals)

        return Arrived(news(self.request.changes), news(self.request.deletes))

    def _fill(
        self, model: Model, hashing: Hashing, *, before: Snapshot | None, after: Snapshot
    ) -> None:
        """Read the table before and after."""
        inventories = [
            Inventory.empty()
            if one is None
            else self.table.inventory(one, map_function=spread(self.runtime))
            for one in (before, after)
        ]
        compared = compare_files(inventories[0], inventories[1])
        sides = self.table.files(after if before is None else before), self.table.files(after)
        empty = pa.table(hashing.take(hashing.columns.empty_table()))
        model.add("own", empty)
        for side, files, is_shared in (
            (sides[0], Inventory.empty(), True),
            (sides[0], compared.shared, True),
            (sides[0], compared.own[0], False),
        ):
            model.add("base", _flagged(empty, is_shared))
            for rows in self._taken(side, files, hashing):
                model.add("base", _flagged(rows, is_shared))
        for rows in self._taken(sides[1], compared.own[1], hashing):
            model.add("own", rows)

    def _taken(self, side: TableFiles, files: Inventory, hashing: Hashing) -> Iterator[pa.Table]:
        """Yield what the model needs of files, which are read by a few tasks at once."""
        refs: deque[Ref[pa.Table]] = deque()
        for part in _parts(files):
            key = (self.table.name, "prove")
            refs.append(
                self.runtime.submit(
                    taken_of_files, side, part, hashing, memory=_TASK_MEMORY_BYTES, key=key
                )
            )
            if len(refs) >= _IN_FLIGHT_MAX:
                yield answer(self.runtime, refs.popleft())
        while refs:
            yield answer(self.runtime, refs.popleft())


def prove(proof: MergeProof, reports: Sequence[JobReport], combined: JobReport) -> JobReport:
    """Prove everything that one call has merged; return its report with what came of it.

    Args:
        proof: proves merges into the table.
        reports: what was done, in order.
        combined: the same in one.

    Raises:
        VerificationError: the table does not hold what it must; it was committed.
        CatalogError: the changes or the table cannot be read.
    """
    is_proved, warnings = combined.verified, set(combined.warnings)
    for rounds in _merges(proof, reports):
        snapshots = [proof.table.snapshot(one.snapshot_after) for one in rounds]
        parents = [one.parent_id for one in snapshots[1:]]
        if parents != [one.snapshot_id for one in snapshots[:-1]]:
            warnings.add("other writers committed between the rounds: they were not proved in full")
            is_proved = False
            continue
        parent = snapshots[0].parent_id
        before = None if parent is None else proof.table.snapshot(parent)
        change = rounds[-1].change
        if change is not None and not proof.holds(before, snapshots[-1], change):
            raise VerificationError(
                f"snapshot {snapshots[-1].snapshot_id} does not hold what snapshot {parent} and"
                " the changes make together; it was committed",
                hint=f"go back to snapshot {parent} with the means of the catalog, and report this",
            )
    return replace(combined, verified=is_proved, warnings=tuple(sorted(warnings)))


def _merges(proof: MergeProof, reports: Sequence[JobReport]) -> Iterator[list[JobReport]]:
    """Yield the merges that are done as a whole: the rounds of one began at the same watermarks."""
    names = {one.name for one in proof.request.sources}
    done = [one for one in reports if one.change is not None and one.groups.committed]
    for _, rounds in groupby(done, key=lambda one: one.change and one.change.since):
        some = list(rounds)
        marks = [] if some[-1].change is None else some[-1].change.watermarks
        if not marks or any(one.source in names for one in marks):
            yield some


def _parts(files: Inventory) -> Iterator[Inventory]:
    part = np.cumsum(files.files["size_bytes"].to_numpy()) // _TASK_BYTES
    for number in np.unique(part):
        yield files.take(np.flatnonzero(part == number))


def _flagged(rows: pa.Table, is_shared: bool) -> pa.Table:
    return rows.append_column("is_shared", pa.repeat(is_shared, rows.num_rows))


def _names(rules: MergeRules, deletes: list[KeyedDeletes]) -> dict[str, str]:
    """Return the columns whose values the model needs, with their names there."""
    names = {name: f"k{at}" for at, name in enumerate(rules.key)}
    others = [name for one in deletes for name in one.columns]
    for name in (*rules.order_by[: int(rules.is_event_time)], *others):
        names.setdefault(name, f"w{len(names)}")
    return names


def _given(parts: list[Placed], columns: pa.Schema) -> set[str]:
    """Return the columns that no part lacks; all pieces of a part have the same."""
    given = set(columns.names)
    for part in parts:
        for piece in part.read():
            given &= set(piece.rows.schema.names)
            break
    return given


def _sets(parts: list[Placed], columns: pa.Schema, rules: MergeRules) -> Iterator[ChangeSet]:
    """Yield the changes piece by piece; none of them where there are no parts."""
    if not parts:
        plain = replace(rules, op_column=None, order_by=(), is_event_time=False)
        yield change_set(Source(columns.empty_table(), "no changes"), columns, plain)
    for part in parts:
        for piece in part.read():
            yield change_set(piece, columns, rules)


def _change_rows(changes: ChangeSet, hashing: Hashing) -> pa.Table:
    taken = hashing.take(changes.table)
    for at, name in enumerate(hashing.apart, start=1):
        taken[f"h{at}"] = pa.array(taken[f"h{at}"].to_numpy(), mask=changes.lacks(name))
    return pa.table(taken | _places(changes.table))


def _delete_rows(deletes: KeyedDeletes, names: dict[str, str]) -> pa.Table:
    values = {names[name]: _plain(whole(deletes.table[name])) for name in deletes.columns}
    return pa.table(values | _places(deletes.table))


def _places(table: pa.Table) -> dict[str, pa.Array]:
    """Return what changes are ordered by."""
    orders = [name for name in table.schema.names if name.startswith(ORDER_BY)]
    short = _PLACES | {name: f"o{name.removeprefix(ORDER_BY)}" for name in orders}
    return {to: _plain(whole(table[name])) for name, to in short.items()}


def _shape(rules: MergeRules, hashing: Hashing, names: dict[str, str]) -> Shape:
    return Shape(
        keys=len(rules.key),
        hashes=1 + len(hashing.apart),
        orders=len(rules.order_by),
        mode=rules.mode,
        event_time=names[rules.order_by[0]] if rules.is_event_time else None,
        absent=int(hash_array(pa.nulls(1))[0]),
    )


def _plain(values: pa.Array) -> pa.Array:
    """Return values in a type that the database knows."""
    if isinstance(values.type, pa.BaseExtensionType):
        values = values.storage
    return values.dictionary_decode() if types.is_dictionary(values.type) else values
