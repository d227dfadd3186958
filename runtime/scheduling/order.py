"""The order of jobs: the one that holds the least, among those that have a task for the room.

Jobs lie in heaps by the octave of the least that any of their tasks needs, so those whose tasks
are all too large are not even looked at: a round costs the same with ten jobs and with thousands.
"""

import heapq
import itertools
from collections import OrderedDict
from collections.abc import Callable

from runtime.scheduling.nodes import STEPS_PER_OCTAVE, step
from runtime.scheduling.queues import Job

Entry = tuple[float, int, str, float]

SPARE_ENTRIES = 64


class Order:
    """Jobs with waiting tasks, by share. An entry is void once its job was listed again."""

    def __init__(self, share: Callable[[Job], float]) -> None:
        self._share = share
        self._jobs: dict[str, Job] = {}
        self._heaps: dict[int, list[Entry]] = {}
        self._entries = 0
        self._stamps = itertools.count()
        self._visits: OrderedDict[str, int] = OrderedDict()

    def put(self, job: Job, least_bytes: float, *, turn: int) -> None:
        """List a job where its share and the least need of its tasks belong."""
        job.stamp = next(self._stamps)
        self._jobs[job.name] = job
        self._visits.setdefault(job.name, turn)
        entry = (self._share(job), job.stamp, job.name, least_bytes)
        heapq.heappush(self._heaps.setdefault(_octave(least_bytes), []), entry)
        self._entries += 1
        if self._entries > SPARE_ENTRIES + 4 * len(self._jobs):
            self._tidy()

    def drop(self, job: Job) -> None:
        """Take a job off the list."""
        job.stamp = -1
        self._jobs.pop(job.name, None)
        self._visits.pop(job.name, None)

    def next(self, room_bytes: float) -> Job | None:
        """Take the job with the least share whose least task may fit into the room."""
        best: list[Entry] | None = None
        highest = _octave(room_bytes)
        for octave in [octave for octave in self._heaps if octave <= highest]:
            heap = self._valid(octave)
            if heap and heap[0][3] <= room_bytes and (best is None or heap[0] < best[0]):
                best = heap
        if best is None:
            return None
        self._entries -= 1
        return self._take(heapq.heappop(best)[2])

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
        heaps = [self._valid(octave) for octave in list(self._heaps)]
        return min((heap[0][0] for heap in heaps if heap), default=float("inf"))

    def _take(self, name: str) -> Job:
        """Void the entry of a job that has its turn; it is listed again, or dropped, after it."""
        job = self._jobs[name]
        job.stamp = next(self._stamps)
        return job

    def _valid(self, octave: int) -> list[Entry]:
        """Return a heap with a valid entry on top, or empty."""
        heap = self._heaps[octave]
        while heap and not self._is_valid(heap[0]):
            heapq.heappop(heap)
            self._entries -= 1
        if not heap:
            del self._heaps[octave]
        return heap

    def _is_valid(self, entry: Entry) -> bool:
        job = self._jobs.get(entry[2])
        return job is not None and job.stamp == entry[1]

    def _tidy(self) -> None:
        heaps = {o: [e for e in heap if self._is_valid(e)] for o, heap in self._heaps.items()}
        self._heaps = {octave: heap for octave, heap in heaps.items() if heap}
        for heap in self._heaps.values():
            heapq.heapify(heap)
        self._entries = sum(map(len, self._heaps.values()))


def _octave(size_bytes: float) -> int:
    return step(size_bytes) // STEPS_PER_OCTAVE
