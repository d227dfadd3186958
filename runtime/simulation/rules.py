"""The rules that are compared: ours, a fixed factor, and the best fixed factor in hindsight."""

import math
from collections.abc import Callable, Mapping
from typing import Protocol

from runtime.api import Key
from runtime.predictor import AS_ASKED, NOTHING_KNOWN, Observation, Predictor, Prior, Rates
from runtime.simulation.population import History, SimulatedTask, tasks_of

P_OOM_TUNED = 0.001
"""Share of first attempts that a tuned factor may lose: the same as ours may."""

Size = Callable[[SimulatedTask], int]


class Rule(Protocol):
    """Decides what a task is granted."""

    def ask(self, task: SimulatedTask) -> tuple[Key | None, int]:
        """Return the key and the base with which the task is submitted."""
        ...

    def rates(self, key: Key | None) -> Rates:
        """Return what a base is multiplied by."""
        ...

    def learn(self, task: SimulatedTask) -> None:
        """Take in an attempt that succeeded."""
        ...


class Predicted:
    """What the runtime does: the log ratios of what ran before."""

    def __init__(self, priors: Mapping[str, Prior] = NOTHING_KNOWN) -> None:
        self._predictor = Predictor(priors)
        self.rates = self._predictor.rates

    def ask(self, task: SimulatedTask) -> tuple[Key | None, int]:
        """Return its own key and base."""
        return task.key, task.base_bytes

    def learn(self, task: SimulatedTask) -> None:
        """Let the predictor learn."""
        self._predictor.observe(task.key, Observation(task.peak_bytes, task.base_bytes))


class Factor:
    """A fixed multiple of a size that is known beforehand."""

    def __init__(self, factor: float, size: Size) -> None:
        self.factor = factor
        self._size = size

    def ask(self, task: SimulatedTask) -> tuple[Key | None, int]:
        """Return the multiple as it is."""
        return None, math.ceil(self.factor * self._size(task))

    def rates(self, key: Key | None) -> Rates:
        """Return ones."""
        return AS_ASKED

    def learn(self, task: SimulatedTask) -> None:
        """Learn nothing."""


def file_bytes(task: SimulatedTask) -> int:
    """Return the size of a task's input files."""
    return task.file_bytes


def footer_bytes(task: SimulatedTask) -> int:
    """Return the uncompressed size that the footers tell."""
    return task.footer_bytes


def tuned(history: History, size: Size) -> Factor:
    """Return the smallest factor that loses no more first attempts than we may, in hindsight."""
    ratios = sorted((task.peak_bytes / size(task) for task in tasks_of(history)), reverse=True)
    return Factor(ratios[int(P_OOM_TUNED * len(ratios))], size)
