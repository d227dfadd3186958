"""What runs in the worker of an actor: ordinary tasks around one object that stays."""

from collections.abc import Callable

_instances: list[object] = []
"""The actor of this process, if it has one."""


def start(cls: Callable[..., object], *args: object) -> None:
    """Make the object that the calls of this worker are about."""
    _instances[:] = [cls(*args)]


def call(method: str, *args: object) -> object:
    """Call a method of it."""
    return getattr(_instances[0], method)(*args)
