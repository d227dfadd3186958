"""What the drivers of all backends do alike with refs they handed out and functions they ship."""

from collections.abc import Callable, Iterable
from types import FunctionType
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

R = TypeVar("R")
F = TypeVar("F")


def own(ref: object, kind: type[R]) -> R:
    """Return a ref that a backend made.

    Raises:
        TypeError: Another one made it.
    """
    if not isinstance(ref, kind):
        raise TypeError(f"{ref!r} was not made by this runtime")
    return ref


def parted(refs: Iterable[R], has_ended: Callable[[R], bool]) -> tuple[list[R], list[R]]:
    """Return the refs that have ended and those that have not, each asked once."""
    done: list[R] = []
    pending: list[R] = []
    for ref in refs:
        (done if has_ended(ref) else pending).append(ref)
    return done, pending


class Functions(Generic[F]):
    """Plain functions are shipped once; what else can be called may change between calls.

    Args:
        ship: Makes of a function what workers get.
    """

    def __init__(self, ship: Callable[[Callable[..., Any]], F]) -> None:
        self._ship = ship
        self._shipped: WeakKeyDictionary[FunctionType, F] = WeakKeyDictionary()

    def shipped(self, fn: Callable[..., Any]) -> F:
        """Return a function as it was shipped."""
        if not isinstance(fn, FunctionType):
            return self._ship(fn)
        found = self._shipped.get(fn)
        if found is None:
            found = self._shipped[fn] = self._ship(fn)
        return found

    def clear(self) -> None:
        """Let go of all."""
        self._shipped.clear()
