"""Calls that end the process: the places in the middle of a commit where a test kills it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from compactor.jobs.failpoints import VARIABLE

# All of a commit is written but what makes it part of the table; and it is part of the table.
COMMIT_STAGED, COMMIT_ANSWERED = "commit-staged", "commit-answered"


def die_if_wanted(name: str) -> None:
    """Die here, without any clean-up, when the environment asks for it."""
    if os.environ.get(VARIABLE) == name:
        os.kill(os.getpid(), signal.SIGKILL)


def dying_before(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Return the function, behind a place to die."""

    def call(*args: Any, **options: Any) -> Any:
        die_if_wanted(name)
        return function(*args, **options)

    return call


def dying_after(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Return the function, before a place to die."""

    def call(*args: Any, **options: Any) -> Any:
        answer = function(*args, **options)
        die_if_wanted(name)
        return answer

    return call


def refusing(function: Callable[..., Any], name: str, error: Exception) -> Callable[..., Any]:
    """Return the function; where the place is wanted, it fails and does nothing."""

    def call(*args: Any, **options: Any) -> Any:
        if os.environ.get(VARIABLE) == name:
            raise error
        return function(*args, **options)

    return call
