"""Pages of tables and rows as somebody may see them: what is hidden leaves neither gap nor name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Protocol, TypeVar

from compactor.service.auth import Principal
from compactor.service.views import PAGE_MAX


class _Named(Protocol):
    @property
    def target(self) -> str: ...


_One = TypeVar("_One", bound=_Named)
_Key = TypeVar("_Key", str, int)


def seen_page(
    principal: Principal,
    read: Callable[[_Key, int], Sequence[_One]],
    *,
    after: _Key,
    key: Callable[[_One], _Key],
    limit: int,
) -> tuple[list[_One], _Key | None]:
    """Return a page, and what the next one comes after; None behind the last.

    Args:
        principal: who may see it.
        read: reads so many at most that come after a key.
        after: what the page before has ended with.
        key: of one that was read.
        limit: of the page.
    """
    if principal.sees_everything:
        found = list(read(after, limit))
        return found, key(found[-1]) if len(found) == limit else None
    seen: list[_One] = []
    while True:
        found = list(read(after, PAGE_MAX))
        theirs = (one for one in found if principal.may_see(one.target))
        seen += islice(theirs, limit - len(seen))
        if len(seen) == limit:
            return seen, key(seen[-1])
        if len(found) < PAGE_MAX:
            return seen, None
        after = key(found[-1])
