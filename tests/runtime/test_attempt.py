"""What an attempt raises, as the failure that it stands for."""

import pytest

from runtime.attempt import run_attempt
from runtime.errors import OutOfMemory, TaskError
from runtime.memory import Meter

MIB = 1 << 20


def failure_of(error):
    def body():
        raise error

    return run_attempt(body, meter=Meter(), granted_bytes=100 * MIB).failure


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("can't start new thread"),
        OSError("Failed to launch worker thread: Resource temporarily unavailable"),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_a_stack_that_is_refused_is_a_lack_of_memory(error):
    failure = failure_of(error)
    assert isinstance(failure, OutOfMemory)
    assert "granted 100.0 MiB" in str(failure)


def test_other_errors_are_the_task_s_own():
    assert isinstance(failure_of(RuntimeError("no such thread")), TaskError)
