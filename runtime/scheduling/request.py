"""What goes into the scheduler and what comes out: requests, needs, placements."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from runtime.api import Key
from runtime.predictor import DATA_SHARE_MIN, GRANT_SIGMAS, Rates

POOL_SIGMAS = GRANT_SIGMAS
"""Deviations of the pooled sum that a node keeps free: as safe as a single grant is."""

NOTHING: Mapping[str, str] = MappingProxyType({})
NOWHERE: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Request:
    """A task that could run now: all its inputs are there.

    Attributes:
        id: The caller's number for it; unique among those that wait or run.
        base_bytes: What the rates of its key multiply; without a key, its memory.
        key: (table, operation) whose rates apply; None: `base_bytes` is granted as it is, as for
            an attempt whose grant was escalated, or an actor.
        job: Whose share it counts against; "" means the table of the key.
        cpus: CPU slots; 0 for what only holds memory.
        labels: All of them must be the node's.
        located: Bytes of its inputs by the name of the node that holds them.
    """

    id: int
    base_bytes: int
    key: Key | None = None
    job: str = ""
    cpus: int = 1
    labels: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    located: Mapping[str, int] = field(default_factory=lambda: NOWHERE)

    @property
    def owner(self) -> str:
        """The job whose share it counts against."""
        return self.job or (self.key[0] if self.key is not None else "")


class Placement(NamedTuple):
    """A task to start now: where, its expected peak and its grant, in bytes."""

    id: int
    node: str
    predicted_bytes: int
    granted_bytes: int


class Need(NamedTuple):
    """What a task is charged: CPU slots, the mean of its peak and its deviation, in bytes."""

    cpus: int
    mean_bytes: int
    spread_bytes: int
    granted_bytes: int

    @property
    def alone_bytes(self) -> int:
        """What it takes of an empty node."""
        return pooled_bytes(self.mean_bytes, self.spread_bytes**2)


def pooled_bytes(mean_bytes: int, variance: int) -> int:
    """Return what a set of tasks is charged: the sum of means and slack for all of them.

    They seldom reach their grants together: the deviations add up as their squares do, so a
    node of k like tasks keeps sqrt(k) single margins free, not k.
    """
    return mean_bytes + math.ceil(POOL_SIGMAS * math.sqrt(variance))


def need(cpus: int, base_bytes: float, *, rates: Rates, cap_bytes: int) -> Need:
    """Return what a task is charged, at most a whole node of `cap_bytes`.

    What is predicted to need more than the largest node gets all of it, to fail there or not.
    """
    mean_bytes = math.ceil(rates.mean_bytes(base_bytes))
    spread_bytes = math.ceil(rates.spread_bytes(base_bytes))
    granted_bytes = min(math.ceil(rates.grant_bytes(base_bytes)), cap_bytes)
    if mean_bytes + POOL_SIGMAS * spread_bytes + 1 > cap_bytes:
        mean_bytes, spread_bytes = _capped(mean_bytes, spread_bytes, cap_bytes)
    return Need(cpus, mean_bytes, spread_bytes, granted_bytes)


def _capped(mean_bytes: int, spread_bytes: int, cap_bytes: int) -> tuple[int, int]:
    """Return the mean and the deviation that take no byte more than a whole node."""
    mean_bytes = min(mean_bytes, cap_bytes)
    spread_bytes = min(spread_bytes, math.floor((cap_bytes - mean_bytes) / POOL_SIGMAS))
    while spread_bytes and pooled_bytes(mean_bytes, spread_bytes**2) > cap_bytes:
        spread_bytes -= 1
    return mean_bytes, spread_bytes


def base_limit(rates: Rates, room_bytes: int, variance: int) -> float:
    """Return the largest base that fits beside what runs.

    A base is a process and data, or data by a fixed share where it is small.
    """
    process_bytes, share = rates.process_bytes, DATA_SHARE_MIN
    room_bytes -= rates.beside_bytes
    if not process_bytes:
        return _data_limit(rates, room_bytes, variance)
    small = Rates(1 + share * (rates.mean - 1), share * rates.spread)
    limit = _data_limit(small, room_bytes, variance)
    if limit * (1 - share) < process_bytes:
        return limit
    return process_bytes + _data_limit(rates, room_bytes - process_bytes, variance)


def _data_limit(rates: Rates, room_bytes: int, variance: int) -> float:
    """Return the largest data that fits: solves x m + z sqrt(V + (x d)^2) = B for x.

    B is the memory less the means of what runs, V the variance of what runs.
    """
    slack = room_bytes**2 - POOL_SIGMAS**2 * variance
    if room_bytes < 0 or slack < 0:
        return -1.0
    square = rates.mean**2 - (POOL_SIGMAS * rates.spread) ** 2
    linear = room_bytes * rates.mean
    root = linear + math.sqrt(max(0.0, linear**2 - square * slack))
    return slack / root if root else 0.0
