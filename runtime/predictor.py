"""Predicts the memory of a task from those of its kind. Pure: values in, values out.

What is learned is y = ln(peak / base): the ratio varies far less than the peak. Beliefs about a
(table, operation) are shrunk towards those about the operation on all tables, so a new table is
granted what the operation usually needs, and its first wave of attempts replaces that guess.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runtime.api import Key

BASE_BYTES = 150 << 20
"""An interpreter with its libraries: the least that a task is thought to need."""

GRANT_SIGMAS = 3.5
"""Simulated: 0.1 % of first attempts out of memory at a utilisation of 80 %; more buys nothing."""

COLD_GRANT_SIGMAS = 2.5
"""For a key without attempts: its spread is that between tables, which is wide already."""

ATTEMPTS_REMEMBERED = 96
"""Weight of the past at most: what changed is believed after about as many attempts."""

TABLES_MIN = 5
"""Fewer tables say little about the next one."""

_COLD_MEAN, _COLD_VARIANCE = math.log(2.0), 0.25
_WITHIN_SD, _WITHIN_WEIGHT, _SD_MIN = 0.12, 4, 0.04
_CLIP_MADS, _MAD_TO_SD, _BETWEEN_VARIANCE_MIN = 4.0, 1.48, 0.01


@dataclass(frozen=True, slots=True)
class Belief:
    """What is known of one key: count, mean and variance of y, and the mean of its first wave."""

    count: int = 0
    mean: float = 0.0
    variance: float = 0.0
    first_mean: float = 0.0


@dataclass(frozen=True, slots=True)
class Prior:
    """What an operation does on tables in general: mean and variance of their first waves."""

    mean: float = _COLD_MEAN
    variance: float = _COLD_VARIANCE


@dataclass(frozen=True, slots=True)
class Prediction:
    """The expected peak and the grant that covers all but the rarest attempts, in bytes."""

    predicted_bytes: int
    granted_bytes: int


def learn(belief: Belief, wave: Sequence[float]) -> Belief:
    """Update a belief with the log ratios of one wave of attempts.

    They are clipped to 4 deviations first: one hot key must not inflate everybody's grant.
    """
    middle = statistics.median(wave)
    mad = max(_SD_MIN, _MAD_TO_SD * statistics.median(abs(y - middle) for y in wave))
    reach = _CLIP_MADS * mad
    clipped = [min(max(y, middle - reach), middle + reach) for y in wave]
    weight, added = min(belief.count, ATTEMPTS_REMEMBERED), len(wave)
    mean = (belief.mean * weight + sum(clipped)) / (weight + added)
    spread = sum((y - mean) ** 2 for y in clipped)
    variance = (belief.variance * weight + spread) / (weight + added)
    first = belief.first_mean if belief.count else mean
    return Belief(belief.count + added, mean, variance, first)


def prior(first_means: Iterable[float]) -> Prior:
    """Return the prior of an operation from the first waves of its tables."""
    means = list(first_means)
    if len(means) < TABLES_MIN:
        return Prior()
    return Prior(statistics.fmean(means), statistics.pvariance(means) + _BETWEEN_VARIANCE_MIN)


def predict(belief: Belief, prior: Prior, base_bytes: int) -> Prediction:
    """Return the expected peak and the grant for a task of this base."""
    within = (belief.variance * belief.count + _WITHIN_WEIGHT * _WITHIN_SD**2) / (
        belief.count + _WITHIN_WEIGHT
    )
    within = max(within, _SD_MIN**2)
    precision = belief.count / within + 1 / prior.variance
    mean = (belief.mean * belief.count / within + prior.mean / prior.variance) / precision
    variance = within + 1 / precision
    sigmas = GRANT_SIGMAS if belief.count else COLD_GRANT_SIGMAS
    return Prediction(
        predicted_bytes=int(base_bytes * math.exp(mean + variance / 2)),
        granted_bytes=int(base_bytes * math.exp(mean + sigmas * math.sqrt(variance))),
    )


class Predictor:
    """The beliefs about all keys seen so far."""

    def __init__(self) -> None:
        self._beliefs: dict[Key, Belief] = {}
        self._priors: dict[str, Prior] = {}

    def learn(self, key: Key, wave: Sequence[float]) -> None:
        """Take in the log ratios of one wave of attempts of a key."""
        known = self._beliefs.get(key, Belief())
        self._beliefs[key] = learn(known, wave)
        if not known.count:
            self._priors.pop(key[1], None)

    def predict(self, key: Key, base_bytes: int) -> Prediction:
        """Return the prediction for a task of this key and base."""
        return predict(self._beliefs.get(key, Belief()), self._prior(key[1]), base_bytes)

    def count(self, key: Key) -> int:
        """Return how many attempts of a key have been learned."""
        return self._beliefs.get(key, Belief()).count

    def _prior(self, operation: str) -> Prior:
        if operation not in self._priors:
            known = (b.first_mean for key, b in self._beliefs.items() if key[1] == operation)
            self._priors[operation] = prior(known)
        return self._priors[operation]
