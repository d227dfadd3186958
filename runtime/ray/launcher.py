"""Hands attempts to Ray: as tasks, or as calls of an actor, with what is to be asked for them."""

from typing import Any

import ray

from runtime.ray import worker
from runtime.ray.capacity import Capacity
from runtime.ray.task import ActorState, RayTask

START = "__init__"
"""The call of an actor that makes its object."""

REMOTES_MAX = 256


class Launcher:
    """Starts attempts.

    Args:
        capacity: What the nodes have.
        paths: Where workers import from too.
    """

    def __init__(self, capacity: Capacity, paths: tuple[str, ...]) -> None:
        self._capacity = capacity
        self._paths = paths
        self._remotes: dict[tuple[object, ...], Any] = {}

    def launch(self, task: RayTask) -> tuple[list["ray.ObjectRef"], "ray.ObjectRef"]:
        """Start an attempt; returns where its results and its report will be.

        Raises:
            RayError, ValueError, TypeError: Ray does not take it.
        """
        remote = self._remote(task) if task.actor is None else _method(task.actor, task)
        *values, report = remote.remote(
            task.work(self._paths), task.function.value, *(each.value for each in task.inputs())
        )
        return values, report

    def _remote(self, task: RayTask) -> Any:
        """Return the Ray function for an attempt; Ray keeps leases per kind of request."""
        retries = max(0, task.retry.attempts - task.attempt)
        memory_bytes = self._capacity.asked_bytes(
            task.request,
            expected_bytes=task.granted_bytes if task.is_escalated else task.predicted_bytes,
            granted_bytes=task.granted_bytes,
        )
        labels = tuple(task.request.labels.items())
        kind = (len(task.results), task.request.cpus, memory_bytes, retries, labels)
        if kind not in self._remotes:
            if len(self._remotes) >= REMOTES_MAX:
                self._remotes.clear()
            self._remotes[kind] = ray.remote(worker.run).options(
                num_returns=len(task.results) + 1,
                num_cpus=task.request.cpus,
                memory=memory_bytes or None,
                # Deaths of workers are Ray's to retry: without, it would forget the lineage too.
                max_retries=retries,
                label_selector=dict(labels) or None,
            )
        return self._remotes[kind]


def _method(actor: ActorState, task: RayTask) -> Any:
    if task.method != START:
        return actor.handle.call.options(num_returns=2)
    host = ray.remote(worker.Host).options(
        num_cpus=0,
        memory=actor.granted_bytes,
        max_restarts=0,
        max_task_retries=0,
    )
    actor.handle = host.remote()
    return actor.handle.start.options(num_returns=2)
