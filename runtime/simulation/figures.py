"""What a run is judged by: utilisation, memory failures, lost time, waste.

* utilisation: sum(peak x duration) / sum(grant x duration), failed attempts included
* p_oom: first attempts that failed for memory / first attempts
* jobs_hit: share of jobs with at least one such attempt
* lost_time: seconds of attempts failed for memory / useful seconds
* wastage: (granted - used) GiB-seconds, failed grants included / useful GiB-seconds
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one rule, as defined above."""

    utilisation: float
    p_oom: float
    jobs_hit: float
    lost_time: float
    wastage: float


@dataclass(slots=True)
class Books:
    """Sums up attempts."""

    first: int = 0
    first_failed: int = 0
    jobs: int = 0
    jobs_hit: int = 0
    useful: float = 0.0
    granted: float = 0.0
    useful_seconds: float = 0.0
    lost_seconds: float = 0.0

    def succeeded(self, peak_bytes: int, granted_bytes: int, seconds: float) -> None:
        """Count an attempt that ended well."""
        self.useful += peak_bytes * seconds
        self.granted += granted_bytes * seconds
        self.useful_seconds += seconds

    def failed(self, granted_bytes: int, seconds: float) -> None:
        """Count an attempt that ended for memory."""
        self.granted += granted_bytes * seconds
        self.lost_seconds += seconds

    def figures(self) -> Figures:
        """Return the figures of all that was counted."""
        return Figures(
            utilisation=self.useful / self.granted,
            p_oom=self.first_failed / self.first,
            jobs_hit=self.jobs_hit / self.jobs,
            lost_time=self.lost_seconds / self.useful_seconds,
            wastage=(self.granted - self.useful) / self.useful,
        )
