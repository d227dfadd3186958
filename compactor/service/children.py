"""Starting child processes: in sessions of their own, so that they outlive a service that dies."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from compactor.errors import JobFailedError
from compactor.service.orders import decode, encode

_LOG = logging.getLogger(__name__)
_Value = TypeVar("_Value")
_STDERR_CHARACTERS_MAX = 2000


class Ask(Protocol):
    """Has an order answered, in a child process or, in tests, right here."""

    def __call__(
        self, kind: str, order: object, answer: type[_Value], *, seconds_max: float
    ) -> Iterator[_Value]:
        """See `ask_child`."""
        ...


def ask_child(
    kind: str, order: object, answer: type[_Value], *, seconds_max: float
) -> Iterator[_Value]:
    """Run a process that looks at tables and yield its answers.

    Args:
        kind: what it is to do: `heads`, `health`, `find` or `plan`.
        order: the order.
        answer: the type of an answer.
        seconds_max: it is killed after so long.

    Raises:
        JobFailedError: it died, or was killed, before it had told everything.
    """
    command = [sys.executable, "-m", "compactor.service.look_process", kind]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            told, errors = process.communicate(encode(order), timeout=seconds_max)
        except subprocess.TimeoutExpired:
            process.kill()
            told, errors = process.communicate()
    complete = told[: told.rfind(b"\n") + 1]
    for line in complete.splitlines():
        try:
            yield decode(line, answer)
        except msgspec.DecodeError as error:
            raise JobFailedError(f"a process that looks at tables wrote: {line[:200]!r}") from error
    if process.returncode != 0:
        said = errors.decode(errors="replace").strip()[-_STDERR_CHARACTERS_MAX:]
        _LOG.warning("a process that looks at tables ended with %s: %s", process.returncode, said)
        raise JobFailedError(f"a process that looks at tables ended with {process.returncode}")


def start_job(order: object, log: Path) -> subprocess.Popen[bytes]:
    """Start the process of a job; what it says goes to a file.

    Raises:
        OSError: it cannot be started, or the file not be made.
    """
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with log.open("ab") as told:
        process = subprocess.Popen(
            [sys.executable, "-m", "compactor.service.job_process"],
            stdin=subprocess.PIPE,
            stdout=told,
            stderr=told,
            start_new_session=True,
        )
    if process.stdin is not None:
        with process.stdin as orders:
            orders.write(encode(order))
    return process
