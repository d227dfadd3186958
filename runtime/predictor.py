"""Predicts the memory of a task from those of its kind. Pure: values in, values out.

A base is what a task is expected to take: the process, which is the same for all tasks, and data.
What is learned is y = ln(data held / data expected): the ratio varies far less than the peak, and
the process has no part in it. What tasks of a key hold beside their data differs a little from
the process: a line through their peaks tells by how much. Beliefs about a (table, operation) are
shrunk towards those about the operation on all tables, so a new table is granted what the
operation usually needs, and its first attempts replace that guess.

An operation may name the version of the engine that runs it, as `rewrite@26.0`: each version is a
key of its own, and what was known of the one before is where the next one starts.

How it goes: `Predictor.observe` collects attempts into waves and `learn`s them; `Predictor.rates`
is asked when a task is placed, not when it is submitted, so the first attempts of a job teach the
rest of it. Rates multiply the data of a base: `mean` for the expected peak, `spread` for its
deviation (both for pooled admission), `grant` to cover all but the rarest attempts.
"""

import functools
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

PROCESS_BYTES = 44 << 20
"""The part of a base that is the process: it does not grow with the data. Measured: 33 MiB in a
worker with Arrow before its first task, 36 to 50 once Parquet's reader and writer are at work."""

BESIDE_BYTES_MAX = 16 << 20
"""By so much may the process of a key be another one."""

NOISE_BYTES = 40 << 20
"""Data by which peaks deviate as much as by what allocators keep, which does not grow with it.
Measured: residuals of 1 to 4 MiB from the smallest tasks to the largest, and 3 to 6 % of data."""

DATA_SHARE_MIN = 1 / 8
"""Of a base that is hardly more than a process, so much is data."""

GRANT_SIGMAS = 3.65
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
_WITHIN_SD, _WITHIN_WEIGHT, _SD_MIN = 0.08, 4, 0.03
_CLIP_MADS, _MAD_TO_SD, _BETWEEN_VARIANCE_MIN = 4.0, 1.48, 0.01

# What is as small as this is lost beside the process.
_RATIO_MIN = 0.3

# Deviations from the line through the peaks of a key: in MiB, and as a share of the data; and
# those of what is held beside the data, in MiB, and of its slope, while no attempt is known.
_LINE_SD_MIB, _LINE_SD_SHARE = 4.0, 0.1
_BESIDE_SD_MIB, _SLOPE, _SLOPE_SD = 4.0, 0.9, 0.3
_MIB = 1 << 20

# A new version of an engine rarely moves a table's ratio by more than a fifth.
_VERSION_VARIANCE = 0.04

# An attempt this small beside the others of its key says little, but never nothing.
_WEIGHT_MIN = 0.01


class Observation(NamedTuple):
    """A finished attempt: the peak it reached and the base its prediction multiplied, in bytes."""

    peak_bytes: int
    base_bytes: int

    def log_ratio(self, beside_bytes: float = 0.0) -> float:
        """Return the logarithm of the data held, by the data expected.

        Args:
            beside_bytes: Held beside the data and the usual process.
        """
        data = max(1.0, data_bytes(self.base_bytes))
        held = self.peak_bytes - (self.base_bytes - data) - beside_bytes
        return math.log(max(held / data, _RATIO_MIN))


@dataclass(frozen=True, slots=True)
class Line:
    """A line through peaks by their data, in MiB and without the process: weighted sums.

    Attributes:
        weight: Of all.
        data: Sum of the data.
        squares: Sum of its squares.
        held: Sum of what was held.
        products: Sum of data by what was held.
    """

    weight: float = 0.0
    data: float = 0.0
    squares: float = 0.0
    held: float = 0.0
    products: float = 0.0

    def through(self, seen: Observation) -> "Line":
        """Return the line that takes one more attempt into account."""
        expected = data_bytes(seen.base_bytes)
        held = (seen.peak_bytes - (seen.base_bytes - expected)) / _MIB
        data = expected / _MIB
        weight = 1 / (_LINE_SD_MIB**2 + (_LINE_SD_SHARE * data) ** 2)
        return Line(
            weight=self.weight + weight,
            data=self.data + weight * data,
            squares=self.squares + weight * data**2,
            held=self.held + weight * held,
            products=self.products + weight * data * held,
        )

    def faded(self, share: float) -> "Line":
        """Return the line with its attempts counting as this share of what they did."""
        sums = self.weight, self.data, self.squares, self.held, self.products
        return Line(*(share * one for one in sums))

    @property
    def beside_bytes(self) -> float:
        """What is held where there is no data, beside the usual process."""
        weight = self.weight + _BESIDE_SD_MIB**-2
        squares = self.squares + _SLOPE_SD**-2
        products = self.products + _SLOPE * _SLOPE_SD**-2
        determinant = weight * squares - self.data**2
        found = (squares * self.held - self.data * products) / determinant * _MIB
        return min(max(found, -BESIDE_BYTES_MAX), BESIDE_BYTES_MAX)


@dataclass(frozen=True, slots=True)
class Belief:
    """What is known of one key.

    Attributes:
        count: Attempts learned, those small beside the others counted in part.
        mean: Mean of y.
        variance: Variance of y where there is much data.
        first_mean: Mean of y in its first wave, which is what a new table looks like.
        data_bytes: The usual data, for the weights of those to come.
        line: Through the peaks: what is held beside the data.
    """

    count: float = 0.0
    mean: float = 0.0
    variance: float = 0.0
    first_mean: float = 0.0
    data_bytes: float = 0.0
    line: Line = Line()


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
        beside_bytes: Held beside a base, or less than it.
        margin_bytes: Of the grant where there is next to no data.
    """

    mean: float = 1.0
    spread: float = 0.0
    grant: float = 1.0
    process_bytes: int = 0
    beside_bytes: int = 0
    margin_bytes: int = 0

    def mean_bytes(self, base_bytes: float) -> float:
        """Return the expected peak for a base."""
        data = data_bytes(base_bytes, self.process_bytes)
        return max(0.0, base_bytes + self.beside_bytes + (self.mean - 1) * data)

    def spread_bytes(self, base_bytes: float) -> float:
        """Return the deviation of the peak for a base."""
        return self.spread * data_bytes(base_bytes, self.process_bytes)

    def grant_bytes(self, base_bytes: float) -> float:
        """Return the grant for a base."""
        data = data_bytes(base_bytes, self.process_bytes)
        above = math.hypot(self.margin_bytes, (self.grant - self.mean) * data)
        return self.mean_bytes(base_bytes) + math.copysign(above, self.grant - self.mean)


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
    data = [data_bytes(seen.base_bytes) for seen in wave]
    usual_bytes = max(belief.data_bytes, statistics.fmean(data), 1.0)
    weights = [min(1.0, max(_WEIGHT_MIN, size / usual_bytes)) for size in data]
    past, added = min(belief.count, ATTEMPTS_REMEMBERED), math.fsum(weights)
    line = _line(belief, wave, weights)
    clipped = _clipped(wave, weights, line.beside_bytes)
    mean = (belief.mean * past + _dot(clipped, weights)) / (past + added)
    # By what noise there is anyway, small attempts tell as much of it as large ones.
    noise = statistics.fmean(
        ((y - mean) / _noise(size)) ** 2 for y, size in zip(clipped, data, strict=True)
    )
    return Belief(
        count=belief.count + added,
        mean=mean,
        variance=(belief.variance * past + noise * added) / (past + added),
        first_mean=belief.first_mean if belief.count else mean,
        data_bytes=(belief.data_bytes * past + _dot(data, weights)) / (past + added),
        line=line,
    )


def _noise(data: float) -> float:
    """Return the deviation of y where there is so much data, by what it is where there is much."""
    return math.hypot(1, NOISE_BYTES / max(data, 1.0))


def _line(belief: Belief, wave: Sequence[Observation], weights: Sequence[float]) -> Line:
    """Return the line through what is remembered and a wave, its hot attempts left out."""
    beside_bytes = belief.line.beside_bytes
    usual = zip(wave, _clipped(wave, weights, beside_bytes), strict=True)
    calm = [seen for seen, most in usual if seen.log_ratio(beside_bytes) <= most]
    is_full = belief.count >= ATTEMPTS_REMEMBERED
    share = ATTEMPTS_REMEMBERED / (ATTEMPTS_REMEMBERED + len(wave)) if is_full else 1.0
    return functools.reduce(Line.through, calm, belief.line.faded(share))


def _clipped(
    wave: Sequence[Observation], weights: Sequence[float], beside_bytes: float
) -> list[float]:
    """Return each y, those far off pulled in to what the others and their data let expect."""
    ratios = [seen.log_ratio(beside_bytes) for seen in wave]
    noises = [_noise(data_bytes(seen.base_bytes)) for seen in wave]
    middle = _median(ratios, weights)
    apart = [abs(y - middle) / noise for y, noise in zip(ratios, noises, strict=True)]
    mad = max(_SD_MIN, _MAD_TO_SD * _median(apart, weights))
    reaches = [_CLIP_MADS * mad * noise for noise in noises]
    return [
        min(max(y, middle - reach), middle + reach)
        for y, reach in zip(ratios, reaches, strict=True)
    ]


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
        beside_bytes=round(belief.line.beside_bytes),
        margin_bytes=round(sigmas * math.sqrt(within) * math.exp(mean) * NOISE_BYTES),
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
