"""How long a catalog asks to be left alone for, when it answers that it is busy."""

from __future__ import annotations

# The longest that it may ask for: it is a request to come back, not to stay away.
RETRY_AFTER_SECONDS_MAX = 120


def retry_after_seconds(error: BaseException) -> float:
    """Return how long the server has asked to wait in the answer that an error came from."""
    from urllib3 import Retry  # lazy: only where something has failed
    from urllib3.exceptions import InvalidHeader

    response = getattr(error.__cause__, "response", None)
    asked = response.headers.get("Retry-After", "") if response is not None else ""
    try:
        seconds = Retry().parse_retry_after(asked) if asked else 0.0
    except InvalidHeader:
        return 0.0
    return min(max(0.0, seconds), RETRY_AFTER_SECONDS_MAX)
