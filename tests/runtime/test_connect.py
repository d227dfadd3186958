import copy
import pickle
import sys

import pytest

import runtime
from runtime import memory


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ray", "needs Ray: pip install 'lake-compactor\\[ray\\]'"),
        ("ray://head:6379", "use 'local' to run on this machine"),
        ("dask", "unknown runtime 'dask'"),
    ],
)
def test_what_there_is_not_is_refused_with_a_hint(address, message, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=message):
        runtime.connect(address)


def test_limits_are_positive():
    with pytest.raises(ValueError, match="workers"):
        runtime.connect("local", workers=0)
    with pytest.raises(ValueError, match="memory_bytes"):
        runtime.connect("local", memory_bytes=0)


def test_more_workers_than_one_process_can_have():
    with pytest.raises(ValueError, match=r"workers must be at most \d+ here, not 1000000"):
        runtime.connect("local", workers=1_000_000)


def test_the_budget_is_a_share_of_what_is_available():
    with runtime.connect() as rt:
        budget = rt.stats().total.memory_bytes
        assert 0.5 * memory.available_bytes() < budget < memory.available_bytes()


FAILURES = [
    runtime.TaskError("m", cause=ValueError("c"), remote_traceback="t"),
    runtime.OutOfMemory("m", granted_bytes=1, used_bytes=2),
    runtime.Lost("m", hint="own hint"),
    runtime.Infeasible("m", requested_bytes=1, budget_bytes=2),
    runtime.Cancelled("m"),
]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda f: f.code)
def test_errors_keep_what_they_carry(failure):
    for twin in (pickle.loads(pickle.dumps(failure)), copy.copy(failure)):
        assert type(twin) is type(failure)
        assert (str(twin), twin.code, twin.retryable) == ("m", failure.code, failure.retryable)
        assert twin.hint == failure.hint
        for name in ("remote_traceback", "granted_bytes", "used_bytes", "requested_bytes"):
            assert getattr(twin, name, None) == getattr(failure, name, None)
        assert repr(twin.__cause__) == repr(failure.__cause__)


def test_codes_are_distinct():
    assert len({failure.code for failure in FAILURES}) == len(FAILURES)
