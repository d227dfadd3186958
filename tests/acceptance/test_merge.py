"""Any changes merged into committed tables of both formats give what a dictionary gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from compactor.jobs import merge_rounds
from compactor.jobs.state import JobState
from compactor.jobs.store import JobStore, open_store
from compactor.merge.choice import WriteMode
from compactor.merge.rules import MergeRules
from runtime import Runtime
from runtime.connect import connect
from tests.acceptance.merges import Lake, fits, merge
from tests.compactor.merge import drawn, model

FORMATS = ("iceberg", "delta")
RELAXED = settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobStore]:
    with open_store(f"sqlite:///{tmp_path_factory.mktemp('jobs')}/jobs.db") as opened:
        yield opened


@pytest.fixture(scope="module")
def runtime(request: pytest.FixtureRequest) -> Iterator[Runtime]:
    with connect(request.param, workers=2) as opened:
        yield opened


def hold(data: st.DataObject, lake: Lake, runtime: Runtime, store: JobStore) -> None:
    """Draw a table and changes of it, merge these in a few steps, and compare."""
    schema = data.draw(drawn.schemas())
    assume(fits(lake.kind, schema))
    key = drawn.key_of(schema)
    records = data.draw(st.lists(drawn.rows(schema), max_size=12))
    unique = {repr([model.canonical(row[name]) for name in key]): row for row in records}
    base = pa.Table.from_pylist(list(unique.values()), schema)
    cut = data.draw(st.integers(0, base.num_rows))
    lake.make(schema, [part for part in (base.slice(0, cut), base.slice(cut)) if part.num_rows])
    is_timed, is_ordered = data.draw(st.sampled_from([(False, False), (False, True), (True, True)]))
    lacking = data.draw(st.booleans()) and not is_timed
    rules = MergeRules(key, ("at",) if is_ordered else (), op_column="op", is_event_time=is_timed)
    files = data.draw(drawn.files_of_changes(schema, lacking=lacking))
    steps = sorted(data.draw(st.integers(0, 2)) for _ in files)
    rows = base.to_pylist()
    for step in sorted(set(steps)):
        changes = []
        for number, ((source, some), at) in enumerate(zip(files, steps, strict=True)):
            if at == step:
                lake.arrive(f"{number:03}", source.rows)
                changes += [replace(one, stream=step, file=number) for one in some]
        mode = data.draw(st.sampled_from(WriteMode))
        with pytest.MonkeyPatch.context() as patch:
            rounds = data.draw(st.sampled_from([1, 1, 3]))
            patch.setattr(merge_rounds, "rounds_needed", lambda *_, rounds=rounds: rounds)
            report = merge(lake, rules, runtime=runtime, store=store, mode=mode)
        assert (report.status, report.verified) == (JobState.SUCCEEDED, True)
        rows = model.merged(
            rows,
            changes,
            columns=schema.names,
            key=key,
            order_by=rules.order_by,
            is_event_time=is_timed,
        )
        assert model.as_bag(lake.rows()) == model.as_bag(rows)
    assert merge(lake, rules, runtime=runtime, store=store, mode=WriteMode.AUTO).rows_added == 0


@pytest.mark.parametrize("runtime", ["inline"], indirect=True)
@pytest.mark.parametrize("kind", FORMATS)
@settings(RELAXED, max_examples=4)
@given(data=st.data())
def test_any_changes_give_what_a_dictionary_gives(
    kind: str,
    data: st.DataObject,
    runtime: Runtime,
    store: JobStore,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    hold(data, Lake(kind, tmp_path_factory.mktemp("lake")), runtime, store)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("runtime", ["inline", "local"], indirect=True)
@pytest.mark.parametrize("kind", FORMATS)
@settings(RELAXED, max_examples=60)
@given(data=st.data())
def test_a_lot_of_changes_give_what_a_dictionary_gives(
    kind: str,
    data: st.DataObject,
    runtime: Runtime,
    store: JobStore,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    hold(data, Lake(kind, tmp_path_factory.mktemp("lake")), runtime, store)


@pytest.mark.ray
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("runtime", ["ray"], indirect=True)
@pytest.mark.parametrize("kind", FORMATS)
@settings(RELAXED, max_examples=4)
@given(data=st.data())
def test_any_changes_give_what_a_dictionary_gives_on_ray(
    kind: str,
    data: st.DataObject,
    runtime: Runtime,
    store: JobStore,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    hold(data, Lake(kind, tmp_path_factory.mktemp("lake")), runtime, store)
