"""Several nodes: labels, the largest one, one that dies under a job."""

import time

import numpy as np
import pyarrow as pa
import pytest

import runtime
from runtime import Resources
from runtime import shuffle as orchestration
from runtime.shuffle import Shuffle, shuffle
from tests.runtime import tasks
from tests.runtime.ray_clusters import add_node, cluster

pytestmark = pytest.mark.ray

HEAD = {"num_cpus": 2, "memory": 1 << 30, "labels": {"zone": "a"}}
ROWS = 8 << 20
LARGE = {"num_cpus": 1, "memory": 3 << 30, "labels": {"zone": "b", "disk": "nvme"}}


def node_labels():
    import ray

    return ray.get_runtime_context().get_node_labels()


def node_and_table(rows, seconds):
    import ray

    time.sleep(seconds)
    return ray.get_runtime_context().get_node_id(), tasks.make_table(rows)


def ray_nodes():
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def make_numbers(seed):
    return pa.table({"n": np.random.default_rng(seed).integers(0, 1 << 40, ROWS)})


def node_rows_and_total(table):
    import ray

    time.sleep(0.5)
    return ray.get_runtime_context().get_node_id(), table.num_rows, tasks.total(table)


def total_of(pair):
    return tasks.total(pair[1])


@pytest.fixture(scope="module")
def nodes():
    with cluster(HEAD, LARGE) as started:
        yield started


@pytest.fixture(scope="module")
def rt(nodes):
    with runtime.connect(f"ray://{nodes.address}") as rt:
        yield rt


def test_all_nodes_are_one_budget(rt):
    assert rt.stats().total == Resources(3, 4 << 30)


def test_labels_are_honoured(rt):
    for zone in ("b", "a", "b"):
        refs = [rt.submit(node_labels, cpus=Resources(labels={"zone": zone})) for _ in range(3)]
        assert {labels["zone"] for labels in rt.get(refs)} == {zone}


def test_what_only_the_largest_node_can_grant_runs_there(rt):
    labels = rt.get(rt.submit(node_labels, memory=2 << 30))
    assert labels["disk"] == "nvme"


def test_what_no_node_can_grant_is_refused(rt):
    with pytest.raises(runtime.Infeasible, match=r"at most 3,072\.0 MiB") as caught:
        rt.submit(tasks.nothing, memory=(3 << 30) + 1)
    assert caught.value.budget_bytes == 3 << 30
    with pytest.raises(runtime.Infeasible, match=r"at most 1,024\.0 MiB"):
        rt.submit(tasks.nothing, cpus=Resources(1, 2 << 30, {"zone": "a"}))
    with pytest.raises(runtime.Infeasible, match="3 CPU slots, there are"):
        rt.submit(tasks.nothing, cpus=3)
    with pytest.raises(runtime.Infeasible, match="no node has the label zone=c"):
        rt.submit(tasks.nothing, cpus=Resources(labels={"zone": "c"}))


def test_a_predicted_grant_is_capped_by_the_node_it_needs(rt):
    ref = rt.submit(
        tasks.nothing, memory=900 << 20, key=("t", "cold"), cpus=Resources(labels={"zone": "a"})
    )
    rt.get(ref)
    assert rt.profile(ref).granted_bytes == 1 << 30


@pytest.mark.parametrize("groups_max", [64, 2])
def test_a_shuffle_between_nodes(nodes, rt, monkeypatch, groups_max):
    """Twice as much as all stores hold; each bucket is moved to where it is reduced, alone."""
    monkeypatch.setattr(orchestration, "GROUPS_MAX", groups_max)
    assert rt.stats().nodes == 2
    plan = Shuffle(("n",), 6, read=make_numbers, reduce=node_rows_and_total)
    refs = shuffle(rt, range(8), plan, memory=200 << 20)
    found = rt.get(refs, timeout_seconds=100)
    assert sum(rows for _, rows, _ in found) == 8 * ROWS
    assert sum(total for *_, total in found) == sum(tasks.total(make_numbers(n)) for n in range(8))
    assert {node for node, *_ in found} == {node["NodeID"] for node in ray_nodes()}
    sizes = [rt.profile(ref).input_bytes for ref in refs]
    assert sum(sizes) < 1.1 * 8 * ROWS * 8


def test_a_killed_node_costs_time_but_no_result(nodes, rt):
    doomed = add_node(nodes, {"num_cpus": 2, "memory": 1 << 30})
    deadline = time.monotonic() + 30
    while rt.stats().total.cpus < 5 and time.monotonic() < deadline:
        rt.get(rt.submit(tasks.nothing))
        time.sleep(0.2)
    made = [rt.submit(node_and_table, 200_000 + i, 0.3) for i in range(10)]
    assert rt.wait(made, len(made), 60)[1] == []
    running = [rt.submit(node_and_table, 300_000 + i, 2.0) for i in range(6)]
    time.sleep(1.0)
    nodes.remove_node(doomed, allow_graceful=False)

    sums = [rt.submit(total_of, ref) for ref in [*made, *running]]

    expected = [sum(range(200_000 + i)) for i in range(10)]
    expected += [sum(range(300_000 + i)) for i in range(6)]
    assert rt.get(sums, timeout_seconds=90) == expected
    assert doomed.node_id not in {node for node, _ in rt.get([*made, *running])}


def test_what_waits_for_a_node_that_died_is_refused(nodes, rt):
    doomed = add_node(nodes, {"num_cpus": 1, "memory": 1 << 30, "labels": {"zone": "d"}})
    where = Resources(labels={"zone": "d"})
    started = rt.submit(tasks.sleep_then, 60, 1, cpus=where, retry=runtime.Retry(1))
    waiting = [rt.submit(tasks.nothing, cpus=where) for _ in range(3)]
    time.sleep(3)
    nodes.remove_node(doomed, allow_graceful=False)
    with pytest.raises(runtime.Lost):
        rt.get(started, timeout_seconds=60)
    for ref in waiting:
        with pytest.raises(runtime.Infeasible, match="no node has the label zone=d"):
            rt.get(ref, timeout_seconds=60)
    with pytest.raises(runtime.Infeasible, match="no node has the label zone=d"):
        rt.submit(tasks.nothing, cpus=where)
