"""Seeds of the simulation: invariants at every step, and the figures that the rules must reach."""

import json
import math

import pytest

from runtime.api import Profile, Resources
from runtime.profiles import ProfileStore
from runtime.simulation.__main__ import main
from runtime.simulation.cluster import Faults, Simulation
from runtime.simulation.nodes import Size, nodes
from runtime.simulation.population import GIB, Shape, SimulatedTask, recorded, synthetic, tasks_of
from runtime.simulation.replay import replay
from runtime.simulation.rules import Factor, Predicted, file_bytes, tuned

SMALL = Shape(tables=6, jobs=3, tasks=24, median_bytes=4 * GIB)


def run(seed, shape=SMALL, check_every=1):
    size = Size(48, 384 * GIB)
    simulation = Simulation(synthetic(seed, shape), Predicted(), nodes(seed, size), seed=seed)
    return simulation.run(Faults(3, 300.0, 100.0), check_every=check_every)


def assert_ended_well(outcome, shape=SMALL):
    assert outcome.placements >= shape.tables * shape.jobs * shape.tasks
    assert outcome.figures.p_oom < 0.04
    assert outcome.node_utilisation > 0.70
    assert outcome.makespan_seconds < 2.2 * outcome.bound_seconds


@pytest.mark.parametrize("seed", range(4))
def test_a_cluster_that_loses_nodes_ends_all_tasks(seed):
    assert_ended_well(run(seed))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(100, 160))
def test_many_seeds(seed):
    assert_ended_well(run(seed))


def test_a_seed_replays():
    assert run(11) == run(11)
    assert run(11) != run(12)


def test_nodes_add_up_to_the_cluster_asked_for():
    size = Size(26_846, 210 << 40)
    totals = list(nodes(5, size).values())
    assert sum(total.cpus for total in totals) == size.cpus
    assert sum(total.memory_bytes for total in totals) == size.memory_bytes
    assert len({total.cpus for total in totals}) > 3


def test_predictions_beat_fixed_factors():
    history = synthetic(1, Shape(tables=20, jobs=15))
    ours = replay(history, Predicted(), seed=1)
    best = replay(history, tuned(history, file_bytes), seed=1)
    fixed = replay(history, Factor(2, file_bytes), seed=1)
    assert ours.p_oom < 0.003
    assert ours.utilisation > max(0.7, 2 * best.utilisation)
    assert best.p_oom <= 0.001
    assert fixed.p_oom > 0.9


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_whole_population(seed):
    ours = replay(synthetic(seed, Shape()), Predicted(), seed=seed)
    assert ours.utilisation > 0.78
    assert ours.p_oom <= 0.0012


def test_a_fresh_store_does_not_serialise_a_small_machine():
    """64 tasks that need half of what was asked, 8 slots, 4 GiB: most slots from the start."""
    base = 131 << 20
    job = tuple(
        SimulatedTask(("t", "rewrite"), base, base, base, base // 2, 10.0) for _ in range(64)
    )
    machine = {"here": Resources(8, 4 * GIB)}
    outcome = Simulation(((job,),), Predicted(), machine, seed=1).run(Faults(), check_every=1)
    assert outcome.figures.p_oom == 0
    assert outcome.makespan_seconds <= 90


def test_what_fits_no_node_is_split():
    task = SimulatedTask(("t", "rewrite"), GIB, GIB, GIB, 20 * GIB, 10.0)
    machine = {"here": Resources(4, 8 * GIB)}
    outcome = Simulation((((task,),),), Predicted(), machine, seed=1).run(Faults(), check_every=1)
    assert outcome.figures.p_oom == 1
    assert outcome.placements >= 5


def test_recorded_profiles_replay_in_their_order(tmp_path):
    store = ProfileStore(tmp_path / "profiles.db")
    store.append(
        Profile((f"t{n % 2}", "rewrite"), 1, "done", GIB, GIB, GIB, GIB + n, duration_seconds=1.0)
        for n in range(200)
    )
    history = recorded(tmp_path / "profiles.db")
    assert [len(jobs) for jobs in history] == [2, 2]
    assert [task.peak_bytes - GIB for task in tasks_of(history)][:3] == [0, 2, 4]
    assert replay(history, Predicted(), seed=1).p_oom == 0


def test_the_command_prints_figures(capsys, tmp_path):
    assert main(["--seed", "4", "--tables", "2", "--jobs", "2", "--tasks", "8"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["placements"] >= 32
    assert math.isclose(told["over_bound"], told["makespan_seconds"] / told["bound_seconds"])
