"""What an order of rows spares readers: files and row groups that predicates on its keys touch."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from compactor.planner.cluster import ClusterFacts
from compactor.planner.columns import Flags, Ints
from compactor.planner.expect import ROW_GROUP_BYTES
from compactor.planner.plan import FileGroup, Pruning, Touched

PROBES = 9
# Values that stand for the rows of a row group: evenly between its minimum and maximum.
_POINTS = 16
_NUMBER_BYTES = 8


def choose_probes(facts: ClusterFacts) -> tuple[tuple[bytes, ...], ...]:
    """Return the deciles of each key column, as the frame has them or row groups suggest them."""
    frame = facts.clustering.frame
    if frame is not None:
        return tuple(_spread(boundaries) for boundaries in frame.boundaries)
    rows = facts.row_groups["rows"].to_numpy()
    return tuple(
        _deciles(facts.row_groups[f"lower_{i}"], facts.row_groups[f"upper_{i}"], rows, is_text)
        for i, is_text in enumerate(facts.is_text)
    )


def _spread(values: tuple[bytes, ...]) -> tuple[bytes, ...]:
    places = ((np.arange(PROBES) + 1) * len(values)) // (PROBES + 1)
    return tuple(dict.fromkeys(values[place] for place in places)) if values else ()


def _deciles(
    lower: pa.ChunkedArray, upper: pa.ChunkedArray, rows: Ints, is_text: bool
) -> tuple[bytes, ...]:
    is_known = (pc.is_valid(lower).to_numpy()) & (pc.is_valid(upper).to_numpy()) & (rows > 0)
    if not is_known.any():
        return ()
    known = pa.array(is_known)
    ends = [lower.filter(known).to_pylist(), upper.filter(known).to_pylist()]
    weights = rows[is_known]
    if is_text:
        points = np.array(ends[0] + ends[1], dtype=object)
        weights = np.tile(weights, 2)
    else:
        points = _between(*(np.array([int.from_bytes(one, "big") for one in end], np.uint64)
                            for end in ends))  # fmt: skip
        weights = np.tile(weights, _POINTS)
    order = np.argsort(points, kind="stable")
    reached = np.cumsum(weights[order])
    wanted = reached[-1] * (np.arange(PROBES) + 1) // (PROBES + 1)
    chosen = points[order][np.searchsorted(reached, wanted)].tolist()
    return tuple(
        dict.fromkeys(one if is_text else one.to_bytes(_NUMBER_BYTES, "big") for one in chosen)
    )


def _between(low: npt.NDArray[np.uint64], high: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    step = (high - low) // np.uint64(2 * _POINTS)
    return np.concatenate([low + step * np.uint64(2 * i + 1) for i in range(_POINTS)])


def touched(facts: ClusterFacts, probes: tuple[tuple[bytes, ...], ...], files: Flags) -> Touched:
    """Return what the probes touch of some files, by the bounds of row groups."""
    some = facts.row_groups.filter(pa.array(files[facts.row_groups["file"].to_numpy()]))
    file = some["file"].to_numpy()
    hits = [
        file[is_hit]
        for i, values in enumerate(probes)
        for is_hit in _hits(some[f"lower_{i}"], some[f"upper_{i}"], values)
    ]
    count = max(len(hits), 1)
    return Touched(
        files=sum(len(np.unique(hit)) for hit in hits) / count,
        row_groups=sum(len(hit) for hit in hits) / count,
    )


def _hits(
    lower: pa.ChunkedArray, upper: pa.ChunkedArray, values: tuple[bytes, ...]
) -> Iterable[Flags]:
    """Yield, for each value, the row groups that may hold it; unknown bounds exclude nothing."""
    for value in values:
        probe = pa.scalar(value, pa.binary())
        above = pc.fill_null(pc.less_equal(lower, probe), True)
        below = pc.fill_null(pc.greater_equal(upper, probe), True)
        yield pc.and_(above, below).to_numpy()


def expect_touched(facts: ClusterFacts, groups: Iterable[FileGroup]) -> Touched:
    """Estimate what a predicate on one of the columns touches of the outputs of groups.

    Rows of one value of the first column of a sort are in one file, those of another column in
    all. Along a curve of k columns, half of one column are one k-th root of the half of the files.
    """
    clustering = facts.clustering
    columns = len(clustering.fields)

    def hit(count: float) -> float:
        if clustering.strategy.is_curve:
            return float(math.ceil(count ** ((columns - 1) / columns)))
        return (min(count, 1.0) + (columns - 1) * count) / columns

    total = Touched()
    for group in groups:
        files = group.output_files_estimate
        row_groups = max(files, math.ceil(group.price.output_bytes_estimate / ROW_GROUP_BYTES))
        total += Touched(hit(files), hit(row_groups))
    return total


def make_pruning(facts: ClusterFacts, is_rewritten: Flags, groups: Iterable[FileGroup]) -> Pruning:
    """Measure what a plan starts from and estimate what it will leave."""
    probes = choose_probes(facts)
    kept = touched(facts, probes, ~is_rewritten)
    gained = expect_touched(facts, groups)
    return Pruning(
        probes=probes,
        before=touched(facts, probes, np.ones_like(is_rewritten)),
        kept=kept,
        after_estimate=kept + gained,
    )
