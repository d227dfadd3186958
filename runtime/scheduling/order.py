"""The order of jobs: the one that holds the least, among those that have a task for the room.

Jobs lie in heaps by the step of the least that any of their tasks needs, so those whose tasks
are all too large are not even looked at: a round costs the same with ten jobs and with thousands.
Those that were refused lie apart: only a node that got room since can be of use to them.
"""

import heapq
import itertools
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping

from runtime.scheduling.nodes import step
from runtime.scheduling.queues import Job

Entry = tuple[float, int, str, float]

SPARE_ENTRIES = 64


class Order:
    """Jobs with waiting tasks, by share. An entry is void once its job was listed again."""

    def __init__(self, share: Callable[[Job], float]) -> None:
        self._share = share
        self._jobs: dict[str, Job] = {}
        self._open = _Heaps(self._jobs)
        self._refused = _Heaps(self._jobs)
        self._stamps = itertools.count()
        self._visits: OrderedDict[str, int] = OrderedDict()

    def put(self, job: Job, least_bytes: float, *, turn: int) -> None:
        """List a job where its share and the least need of its tasks belong."""
        self._add(job, least_bytes, self._open)
        self._visits.setdefault(job.name, turn)

    def put_refused(self, job: Job, least_bytes: float, *, turn: int) -> None:
        """List a job none of whose tasks fitted when they were last looked at."""
        self._add(job, least_bytes, self._refused)
        self._visits.setdefault(job.name, turn)

    def drop(self, job: Job) -> None:
        """Take a job off the list."""
        job.stamp = -1
        self._jobs.pop(job.name, None)
        self._visits.pop(job.name, None)

    def next(self, room_bytes: float, *, grown_bytes: float) -> Job | None:
        """Take the job with the least share whose least task may fit into the room.

        Args:
            room_bytes: no node has more.
            grown_bytes: none of those that got room lately has more; counts for refused jobs.
        """
        best = self._open.best(room_bytes)
        if grown_bytes:
            refused = self._refused.best(grown_bytes)
            if refused and (not best or refused[0] < best[0]):
                best = refused
        return self._take(best[0][2]) if best else None

    def unvisited(self, before: int, turn: int) -> Job | None:
        """Take the job that was not looked at for longest, if that was before some turn."""
        if not self._visits:
            return None
        name, visited = next(iter(self._visits.items()))
        if visited >= before:
            return None
        self._visits[name] = turn
        self._visits.move_to_end(name)
        return self._take(name)

    def least_share(self) -> float:
        """Return the least share of any job with waiting tasks."""
        heaps = (each.best(math.inf) for each in (self._open, self._refused))
        return min((heap[0][0] for heap in heaps if heap), default=math.inf)

    def _add(self, job: Job, least_bytes: float, heaps: "_Heaps") -> None:
        job.stamp = next(self._stamps)
        self._jobs[job.name] = job
        heaps.push((self._share(job), job.stamp, job.name, least_bytes))

    def _take(self, name: str) -> Job:
        """Void the entry of a job that has its turn; it is listed again, or dropped, after it."""
        job = self._jobs[name]
        job.stamp = next(self._stamps)
        return job


class _Heaps:
    """Entries in heaps by the step of the least need."""

    def __init__(self, jobs: Mapping[str, Job]) -> None:
        self._jobs = jobs
        self._heaps: dict[int, list[Entry]] = {}
        self._entries = 0

    def push(self, entry: Entry) -> None:
        """Add an entry."""
        heapq.heappush(self._heaps.setdefault(step(entry[3]), []), entry)
        self._entries += 1
        if self._entries > SPARE_ENTRIES + 4 * len(self._jobs):
            self._tidy()

    def best(self, room_bytes: float) -> list[Entry]:
        """Return the heap whose first entry has the least share, or an empty one.

        On the step of the room itself a need may be larger than that by less than a step.
        """
        best: list[Entry] = []
        jobs, highest = self._jobs, step(room_bytes)
        for place in [place for place in self._heaps if place <= highest]:
            heap = self._heaps[place]
            # Written out: this is the innermost of loops.
            while heap and ((job := jobs.get(heap[0][2])) is None or job.stamp != heap[0][1]):
                heapq.heappop(heap)
                self._entries -= 1
            if not heap:
                del self._heaps[place]
            elif not best or heap[0] < best[0]:
                best = heap
        return best

    def _is_valid(self, entry: Entry) -> bool:
        job = self._jobs.get(entry[2])
        return job is not None and job.stamp == entry[1]

    def _tidy(self) -> None:
        heaps = {p: [e for e in heap if self._is_valid(e)] for p, heap in self._heaps.items()}
        self._heaps = {place: heap for place, heap in heaps.items() if heap}
        for heap in self._heaps.values():
            heapq.heapify(heap)
        self._entries = sum(map(len, self._heaps.values()))
