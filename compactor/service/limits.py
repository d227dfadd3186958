"""How often one source may send: a bucket of tokens for each.  Pure: time comes from outside."""

from __future__ import annotations

from dataclasses import dataclass, field

# A source may send what it has saved up in so long at once.
_BURST_SECONDS = 2.0


@dataclass(slots=True)
class RateLimit:
    """Requests per second and source.

    Attributes:
        rate_max: requests per second; 0 for no limit.
    """

    rate_max: float
    _buckets: dict[str, tuple[float, float]] = field(default_factory=dict)

    def admits(self, source: str, *, now_seconds: float) -> bool:
        """Whether a request may come in now, and count it if so."""
        if not self.rate_max:
            return True
        most = max(1.0, self.rate_max * _BURST_SECONDS)
        tokens, filled_at = self._buckets.get(source, (most, now_seconds))
        tokens = min(most, tokens + (now_seconds - filled_at) * self.rate_max)
        is_admitted = tokens >= 1
        self._buckets[source] = (tokens - 1 if is_admitted else tokens, now_seconds)
        return is_admitted
