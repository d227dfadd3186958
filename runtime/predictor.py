"""Predicts the memory of a task from those of its kind. Pure: values in, values out.

A base is what a task is expected to take: the process, which is the same for all tasks, and data.
What is learned is y = ln(data held / data expected): the ratio varies far less than the peak, and
the process has no part in it. Beliefs about a (table, operation) are shrunk towards those about
the operation on all tables, so a new table is granted what the operation usually needs, and its
first attempts replace that guess.

An operation may name the version of the engine that runs it, as `rewrite@26.0`: each version is a
key of its own, and what was known of the one before is where the next one starts.

How it goes: `Predictor.observe` collects attempts into waves and `learn`s them; `Predictor.rates`
is asked when a task is placed, not when it is submitted, so the first attempts of a job teach the
rest of it. Rates multiply the data of a base: `mean` for the expected peak, `spread` for its
deviation (both for pooled admission), `grant` to cover all but the rarest attempts.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from runtime.api import Key

BASE_BYTES = 150 << 20
"""An interpreter with its libraries: the least that a task is thought to need."""

PROCESS_BYTES = 32 << 20
"""The part of a base that is the process: it does not grow with the data. Measured: 33 MiB in a
worker with Arrow before its first task. What is loaded later counts as data."""

DATA_SHARE_MIN = 1 / 8
"""Of a base that is hardly more than a process, so much is data."""

GRANT_SIGMAS = 3.6
"""Simulated: 0.1 % of first attempts out of memory at a utilisation of 80 %; more buys nothing."""

COLD_GRANT_SIGMAS = 2.5
"""For a key without attempts: its spread is that between tables, which is wide already."""

ATTEMPTS_REMEMBERED = 96
"""Weight of the past at most: what changed is believed after about as many attempts."""

WAVE_ATTEMPTS_MAX = 8
"""Attempts of a key that are learned together, so that an outlier can be told from the others."""

TABLES_MIN = 5
"""Fewer tables say little about the next one."""

VERSION_MARK = "@"
"""What follows it in an operation is the version of its engine."""

_COLD_MEAN, _COLD_VARIANCE = math.log(2.0), 0.25
_WITHIN_SD, _WITHIN_WEIGHT, _SD_MIN = 0.08, 4, 0.04
_CLIP_MADS, _MAD_TO_SD, _BETWEEN_VARIANCE_MIN = 4.0, 1.48, 0.01

# What is as small as this is lost beside the process.
_RATIO_MIN = 0.5

# A new version of an engine rarely moves a table's ratio by more than a fifth.
_VERSION_VARIANCE = 0.04

# An attempt this small beside the others of its key says little, but never nothing.
_WEIGHT_MIN = 0.01


class Observation(NamedTuple):
    """A finished attempt: the peak it reached and the base its prediction multiplied, in bytes."""

    peak_bytes: int
    base_bytes: int

    @property
    def log_ratio(self) -> float:
        """The logarithm of the data held, by the data expected."""
        data = max(1.0, data_bytes(self.base_bytes))
        held = self.peak_bytes - (self.base_bytes - data)
        return math.log(max(held / data, _RATIO_MIN))


@dataclass(frozen=True, slots=True)
class Belief:
    """What is known of one key.

    Attributes:
        count: Attempts learned, those small beside the others counted in part.
        mean: Mean of y.
        variance: Variance of y.
        first_mean: Mean of y in its first wave, which is what a new table looks like.
        data_bytes: The usual data, for the weights of those to come.
    """

    count: float = 0.0
    mean: float = 0.0
    variance: float = 0.0
    first_mean: float = 0.0
    data_bytes: float = 0.0


@dataclass(frozen=True, slots=True)
class Prior:
    """What a key without attempts is thought to do.

    Attributes:
        mean: Of its y.
        variance: Of that mean, between tables.
        within: Deviation of y within a table, while few attempts are known.
    """

    mean: float = _COLD_MEAN
    variance: float = _COLD_VARIANCE
    within: float = _WITHIN_SD


def data_bytes(base_bytes: float, process_bytes: int = PROCESS_BYTES) -> float:
    """Return the part of a base that is data."""
    return max(base_bytes - process_bytes, base_bytes * DATA_SHARE_MIN)


class Rates(NamedTuple):
    """What the data of a task is multiplied by: for its expected peak, the deviation, the grant.

    Attributes:
        mean: For the expected peak.
        spread: For its deviation.
        grant: For what covers all but the rarest attempts.
        process_bytes: The part of a base that is not multiplied.
    """

    mean: float = 1.0
    spread: float = 0.0
    grant: float = 1.0
    process_bytes: int = 0

    def mean_bytes(self, base_bytes: float) -> float:
        """Return the expected peak for a base."""
        return base_bytes + (self.mean - 1) * data_bytes(base_bytes, self.process_bytes)

    def spread_bytes(self, base_bytes: float) -> float:
        """Return the deviation of the peak for a base."""
        return self.spread * data_bytes(base_bytes, self.process_bytes)

    def grant_bytes(self, base_bytes: float) -> float:
        """Return the grant for a base."""
        return base_bytes + (self.grant - 1) * data_bytes(base_bytes, self.process_bytes)


AS_ASKED = Rates()
"""The rates of a task without a key: its base is taken at its word."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The expected peak and the grant that covers all but the rarest attempts, in bytes."""

    predicted_bytes: int
    granted_bytes: int


def learn(belief: Belief, wave: Sequence[Observation]) -> Belief:
    """Update a belief with one wave of attempts.

    They are clipped to 4 deviations first: one hot key must not inflate everybody's grant. They
    count by their bytes: a one-row increment teaches nothing about a large one.
    """
    ratios = [seen.log_ratio for seen in wave]
    data = [data_bytes(seen.base_bytes) for seen in wave]
    usual_bytes = max(belief.data_bytes, statistics.fmean(data), 1.0)
    weights = [min(1.0, max(_WEIGHT_MIN, size / usual_bytes)) for size in data]
    middle = _median(ratios, weights)
    mad = max(_SD_MIN, _MAD_TO_SD * _median([abs(y - middle) for y in ratios], weights))
    reach = _CLIP_MADS * mad
    clipped = [min(max(y, middle - reach), middle + reach) for y in ratios]
    past, added = min(belief.count, ATTEMPTS_REMEMBERED), math.fsum(weights)
    mean = (belief.mean * past + _dot(clipped, weights)) / (past + added)
    spread = _dot([(y - mean) ** 2 for y in clipped], weights)
    return Belief(
        count=belief.count + added,
        mean=mean,
        variance=(belief.variance * past + spread) / (past + added),
        first_mean=belief.first_mean if belief.count else mean,
        data_bytes=(belief.data_bytes * past + _dot(data, weights)) / (past + added),
    )


def prior(first_means: Iterable[float], known: Prior | None = None) -> Prior:
    """Return the prior of an operation from the first waves of its tables.

    Args:
        first_means: Of each of them.
        known: What holds while they are few.
    """
    means = list(first_means)
    if len(means) < TABLES_MIN:
        return known or Prior()
    within = _WITHIN_SD if known is None else known.within
    variance = statistics.pvariance(means) + _BETWEEN_VARIANCE_MIN
    return Prior(statistics.fmean(means), variance, within)


def rates(belief: Belief, prior: Prior) -> Rates:
    """Return what the bases of tasks of this kind are multiplied by."""
    within = (belief.variance * belief.count + _WITHIN_WEIGHT * prior.within**2) / (
        belief.count + _WITHIN_WEIGHT
    )
    within = max(within, _SD_MIN**2)
    precision = belief.count / within + 1 / prior.variance
    mean = (belief.mean * belief.count / within + prior.mean / prior.variance) / precision
    variance = within + 1 / precision
    deviation = math.sqrt(variance)
    sigmas = GRANT_SIGMAS if belief.count else COLD_GRANT_SIGMAS
    return Rates(
        mean=math.exp(mean + variance / 2),
        spread=math.exp(mean) * math.expm1(deviation),
        grant=math.exp(mean + sigmas * deviation),
        process_bytes=PROCESS_BYTES,
    )


def predict(belief: Belief, prior: Prior, base_bytes: int) -> Prediction:
    """Return the expected peak and the grant for a task of this base."""
    return prediction(rates(belief, prior), base_bytes)


def prediction(rates: Rates, base_bytes: int) -> Prediction:
    """Return the expected peak and the grant for a task of this base."""
    return Prediction(int(rates.mean_bytes(base_bytes)), int(rates.grant_bytes(base_bytes)))


NOTHING_KNOWN: Mapping[str, Prior] = MappingProxyType({})


class Predictor:
    """The beliefs about all keys seen so far.

    Args:
        priors: What is known of operations before they have run on a few tables.
    """

    def __init__(self, priors: Mapping[str, Prior] = NOTHING_KNOWN) -> None:
        self._shipped = priors
        self._beliefs: dict[Key, Belief] = {}
        self._waves: defaultdict[Key, list[Observation]] = defaultdict(list)
        self._priors: dict[str, Prior] = {}
        self._rates: dict[Key, Rates] = {}
        self._newest: dict[Key, Key] = {}

    def observe(self, key: Key, seen: Observation) -> None:
        """Take in one attempt: a new key learns from its first, then from growing waves."""
        wave = self._waves[key]
        wave.append(seen)
        if len(wave) >= min(WAVE_ATTEMPTS_MAX, max(1, int(self.count(key)))):
            self.learn(key, wave)
            wave.clear()

    def learn(self, key: Key, wave: Sequence[Observation]) -> None:
        """Take in one wave of attempts of a key."""
        known = self._beliefs.get(key, Belief())
        self._beliefs[key] = learn(known, wave)
        self._newest[_family(key)] = key
        self._rates.pop(key, None)
        if not known.count:
            self._priors.pop(key[1], None)
            self._rates.clear()

    def rates(self, key: Key | None) -> Rates:
        """Return what the base of a task of this key is multiplied by, as known by now."""
        if key is None:
            return AS_ASKED
        found = self._rates.get(key)
        if found is None:
            found = rates(self._beliefs.get(key, Belief()), self._prior(key))
            self._rates[key] = found
        return found

    def predict(self, key: Key, base_bytes: int) -> Prediction:
        """Return the prediction for a task of this key and base."""
        return prediction(self.rates(key), base_bytes)

    def count(self, key: Key) -> float:
        """Return how many attempts of a key have been learned."""
        return self._beliefs.get(key, Belief()).count

    def _prior(self, key: Key) -> Prior:
        before = self._newest.get(_family(key), key)
        if before != key and key not in self._beliefs:
            known = self._beliefs[before]
            variance = known.variance / known.count + _VERSION_VARIANCE
            return Prior(known.mean, variance, self._within(key))
        operation = key[1]
        if operation not in self._priors:
            means = (b.first_mean for other, b in self._beliefs.items() if other[1] == operation)
            self._priors[operation] = prior(means, self._shipped.get(_operation(operation)))
        return self._priors[operation]

    def _within(self, key: Key) -> float:
        shipped = self._shipped.get(_operation(key[1]))
        return _WITHIN_SD if shipped is None else shipped.within


def _family(key: Key) -> Key:
    """Return the key without the version of its engine."""
    return key[0], _operation(key[1])


def _operation(name: str) -> str:
    return name.partition(VERSION_MARK)[0]


def _dot(values: Sequence[float], weights: Sequence[float]) -> float:
    return math.fsum(value * weight for value, weight in zip(values, weights, strict=True))


def _median(values: Sequence[float], weights: Sequence[float]) -> float:
    """Return the weighted median: with equal weights, the median."""
    ordered = sorted(zip(values, weights, strict=True))
    half, below = math.fsum(weights) / 2, 0.0
    for place, (value, weight) in enumerate(ordered):
        below += weight
        if math.isclose(below, half) and place + 1 < len(ordered):
            return (value + ordered[place + 1][0]) / 2
        if below > half:
            return value
    return ordered[-1][0]
