"""Catalogs that fail on purpose, at the one moment that matters: around the swap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitStateUnknownException

Swap = Callable[[], Any]
Fault = Callable[[Swap], Any]


class FaultyCatalog(SqlCatalog):
    """A catalog whose commits go through the next of the planned faults, if there is one."""

    faults: list[Fault]
    is_down = False

    def commit_table(self, table: Any, requirements: Any, updates: Any) -> Any:
        fault = self.faults.pop(0) if self.faults else None
        swap = lambda: super(FaultyCatalog, self).commit_table(table, requirements, updates)  # noqa: E731
        return swap() if fault is None else fault(swap)

    def load_table(self, identifier: Any) -> Any:
        if self.is_down:
            raise ConnectionError("the catalog does not answer")
        return super().load_table(identifier)


def lose_reply(error: Exception) -> Fault:
    """Do it, then answer with an error."""

    def fault(swap: Swap) -> Any:
        swap()
        raise error

    return fault


def fail(error: BaseException) -> Fault:
    """Answer with an error, having done nothing."""

    def fault(_: Swap) -> Any:
        raise error

    return fault


def lose_race(writer: Callable[[], Any]) -> Fault:
    """Let another writer commit first."""

    def fault(swap: Swap) -> Any:
        writer()
        return swap()

    return fault


UNKNOWN = CommitStateUnknownException("502")
