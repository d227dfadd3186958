"""Sweeps over real tables: what changed is looked into, and nothing else; and what is due."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import deltalake
import pyarrow as pa
import pytest
from pyiceberg.table import Table

from catalog.heads import KnownHead, changed_heads
from compactor.jobs.store import JobStore, now_ms
from compactor.service.config import ServiceConfig
from compactor.service.duties import end_duty, take_duty
from compactor.service.look_process import answers
from compactor.service.orders import HealthSeen, Looked, decode, encode
from compactor.service.registry import Registry
from compactor.service.scheduler import begin_due
from compactor.service.sweep import Sweeper, _Swept, cause_of
from compactor.service.views import Views
from tests.compactor.service.conftest import Configure
from tests.compactor.service.rows import change_table, row_of
from tests.iceberg_tables import catalog_properties, make_table

Value = TypeVar("Value")
HEALTHY = HealthSeen(100, 1, 0, 0, 10, 1, ())
ILL = HealthSeen(30, 9, 9, 0, 10, 9, ("small",))
KNOWN = _Swept(1, "head", "", "1", "", "", None)


@pytest.mark.parametrize(
    ("looked", "known", "cause"),
    [
        (Looked("t", "2", "", ILL), KNOWN, "changed since it was looked at last"),
        (Looked("t", "1", "", ILL), KNOWN, ""),
        (Looked("t", "", "", HEALTHY), KNOWN, ""),
        (Looked("t", trouble="gone"), KNOWN, ""),
    ],
)
def test_a_change_is_a_cause_where_nothing_else_is(
    looked: Looked, known: _Swept, cause: str
) -> None:
    assert cause_of(looked, known) == cause


@pytest.mark.parametrize(("health", "is_due"), [(ILL, True), (HEALTHY, False)])
def test_a_threshold_of_health_decides_alone(health: HealthSeen, is_due: bool) -> None:
    known = _Swept(1, "head", "", "1", "", "every 1h", 50)
    assert bool(cause_of(Looked("t", "2", "", health), known)) is is_due


def test_own_commits_and_schedules_are_no_cause() -> None:
    looked = Looked("t", "2", "", ILL)
    assert cause_of(looked, _Swept(1, "", "", "1", "2", "", 50)) == ""
    assert cause_of(looked, _Swept(1, "", "", "1", "", "every 1h", None)) == ""


def ask_here(
    kind: str, order: object, answer: type[Value], *, seconds_max: float
) -> Iterator[Value]:
    """Answer an order without the second that a process takes to start."""
    for one in answers(kind, encode(order)):
        yield decode(encode(one), answer)


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    """Make `lake.ns.t`, and tell this process and its children where the catalog is."""
    for key, value in catalog_properties(tmp_path).items():
        monkeypatch.setenv(f"PYICEBERG_CATALOG__LAKE__{key.upper()}", value)
    made = make_table(tmp_path, pa.schema([("id", pa.int64())]))
    made.append(pa.table({"id": [1]}))
    return made


def test_heads_change_with_their_tables_alone(lake: Table, tmp_path: Path) -> None:
    delta = str(tmp_path / "delta")
    deltalake.write_deltalake(delta, pa.table({"id": [1]}))
    targets = ["lake.ns.t", delta]
    heads = {one.target: one.head for one in changed_heads(KnownHead(t, "") for t in targets)}
    assert heads == {"lake.ns.t": lake.metadata_location, delta: "0"}
    assert list(changed_heads(KnownHead(*one) for one in heads.items())) == []
    lake.append(pa.table({"id": [2]}))
    deltalake.write_deltalake(delta, pa.table({"id": [2]}), mode="append")
    seen = [one.target for one in changed_heads(KnownHead(*one) for one in heads.items())]
    assert seen == targets


def test_what_cannot_be_looked_at_is_told(lake: Table, tmp_path: Path) -> None:
    targets = ["lake.ns.gone", "nowhere.ns.t", "no name", str(tmp_path / "gone")]
    seen = {one.target: one for one in changed_heads(KnownHead(t, "7") for t in targets)}
    assert [seen[target].is_missing for target in targets] == [True] * 4
    assert all(seen[target].error for target in targets)


def test_a_sweep_finds_what_changed_and_what_vanished(
    lake: Table, store: JobStore, configure: Configure
) -> None:
    config = configure(
        '[service]\ndebounce = "0s"\n[[tables]]\ntarget = "lake.ns.*"\n'
        '[[tables]]\ntarget = "lake.ns.gone"\n'
    )
    registry, views = Registry(store, config), Views(store, config.service, config.budget)
    registry.apply_configuration()
    sweeper = Sweeper(store, registry, config, ask=ask_here)
    assert sweeper.discover() == 1
    first = sweeper.sweep()
    assert (first.tables, first.changed, first.troubled, first.triggered) == (2, 1, 1, 1)
    seen, gone = views.table("lake.ns.t"), views.table("lake.ns.gone")
    assert seen is not None
    assert gone is not None
    assert (seen.health, seen.files, seen.state) == (100, 1, "pending")
    assert seen.location.endswith("/warehouse/ns/t")
    assert gone.is_missing
    assert "does not exist" in gone.why
    lake.append(pa.table({"id": [2]}))
    again = sweeper.sweep()
    assert (again.changed, again.troubled, again.triggered) == (1, 1, 1)
    assert [point.files for point in views.health_of("lake.ns.t")] == [1, 2]
    quiet = sweeper.sweep()
    assert (quiet.changed, quiet.triggered) == (0, 0)


def test_a_schedule_that_was_due_often_is_due_once(store: JobStore, configure: Configure) -> None:
    config = configure(
        '[[tables]]\ntarget = "lake.a.one"\nschedule = "every 1m"\n'
        '[[tables]]\ntarget = "lake.a.two"\nschedule = "every 1m"\nenabled = false\n'
    )
    registry, views = Registry(store, config), Views(store, config.service, config.budget)
    registry.apply_configuration()
    with store.transaction() as connection:
        assert begin_due(connection, config.service) == 0
        now = now_ms(connection)
    for target in ("lake.a.one", "lake.a.two"):
        change_table(store, target, due_at_ms=now - 3_600_000)
    with store.transaction() as connection:
        assert begin_due(connection, config.service) == 1
        assert begin_due(connection, config.service) == 0
    [view] = views.triggers()
    assert (view.target, view.source, view.hints) == ("lake.a.one", "schedule", 1)
    row = row_of(store, view.trigger_id)
    assert row.not_before_ms == row.first_at_ms
    table = views.table("lake.a.one")
    assert table is not None
    assert table.due_at_ms is not None
    assert table.due_at_ms > now


def test_a_duty_is_done_by_one_instance_at_a_time(
    store: JobStore, registered: ServiceConfig
) -> None:
    with store.transaction() as connection:
        assert take_duty(connection, "sweep", "one", every_seconds=3600)
        assert not take_duty(connection, "sweep", "two", every_seconds=3600)
        end_duty(connection, "sweep", "one", "all well")
        assert not take_duty(connection, "sweep", "two", every_seconds=3600)
        assert take_duty(connection, "sweep", "two", every_seconds=0)
    views = Views(store, registered.service, registered.budget)
    assert [(one.duty, one.result) for one in views.duties()] == [("sweep", "all well")]
