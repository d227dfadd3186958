"""Independent pieces of catalog work as tasks of a runtime."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from catalog.errors import CatalogError
from catalog.table import MapFunction
from runtime import Ref, Runtime, TaskError

T = TypeVar("T")

# Fewer items than this are done sooner than a worker process has started.
ITEMS_MIN = 24
# Per task: its answer is one object, and a task costs far less than reading this many manifests.
ITEMS_PER_TASK = 8


def spread(runtime: Runtime) -> MapFunction:
    """Return a `map` that runs many items in tasks, and few of them right here."""
    return spread_on(lambda: runtime)


def spread_on(opened: Callable[[], Runtime]) -> MapFunction:
    """Return the same for a runtime that is not open yet: it is asked for when there are many."""

    def run(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        items = list(items)
        if len(items) < ITEMS_MIN:
            yield from map(function, items)
            return
        runtime = opened()
        refs = deque(
            runtime.submit(_apply, function, items[start : start + ITEMS_PER_TASK])
            for start in range(0, len(items), ITEMS_PER_TASK)
        )
        while refs:
            # Nobody holds the answer any more once it has been handed on.
            yield from answer(runtime, refs.popleft())

    return run


def answer(runtime: Runtime, ref: Ref[T]) -> T:
    """Wait for a task of catalog work; an error of the catalog comes as itself.

    Raises:
        CatalogError: the task raised it.
        RuntimeFailure: the task failed otherwise.
    """
    try:
        return runtime.get(ref)
    except TaskError as failure:
        if isinstance(failure.cause, CatalogError):
            raise failure.cause from failure
        raise


def _apply(function: Callable[[Any], Any], items: list[Any]) -> list[Any]:
    return [function(item) for item in items]
