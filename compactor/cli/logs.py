"""Tells on stderr what is logged while a command runs: a line each, with tracebacks under -v."""

from __future__ import annotations

import logging

_FORMAT = "warning: %(message)s"


def tell_logs(*, with_tracebacks: bool) -> None:
    """Tell warnings that the packages and their libraries log."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(_FORMAT) if with_tracebacks else _Lines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


class _Lines(logging.Formatter):
    """Says of an exception what it is, not where it was raised."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        error = record.exc_info[1] if record.exc_info else None
        cause = f": {error}" if error else ""
        return " ".join(f"warning: {record.getMessage()}{cause}".split())
