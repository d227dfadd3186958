"""What holds for all tests: those on Ray run where Ray is, and wherever they are asked for."""

import os
import signal
from collections.abc import Iterator
from importlib.util import find_spec

import pytest
from hypothesis import HealthCheck, settings

from tests.judges import postgres

# How long an example takes says how busy the machine is.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_configure(config):
    # What a script starts in the background ignores interrupts, and so would all that tests start.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config, items):
    if find_spec("ray") is not None or "ray" in config.option.markexpr:
        return
    chosen = [item for item in items if "ray" not in item.keywords]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Postgres]:
    programs = postgres.programs()
    if programs is None and postgres.REQUIRED not in os.environ:
        pytest.skip(f"{postgres.PACKAGE} is not installed (`make test-postgres` installs it)")
    assert programs is not None, f"it has to be there: apt-get install {postgres.PACKAGE}"
    with postgres.postgres_server(programs) as running:
        yield running
