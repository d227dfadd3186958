"""The conformance suites on a real Ray cluster of one node."""

import pytest

import runtime
from tests.runtime.conformance import RuntimeConformance
from tests.runtime.ray_clusters import cluster
from tests.runtime.worker_conformance import WorkerConformance

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def address():
    """A cluster that this process stays connected to, so that workers serve several tests."""
    with cluster({"num_cpus": 2, "memory": 4 << 30}) as started:
        address = f"ray://{started.address}"
        with runtime.connect(address):
            yield address


class TestRay(RuntimeConformance, WorkerConformance):
    @pytest.fixture
    def profiles(self):
        return []

    @pytest.fixture
    def rt(self, address, profiles):
        with runtime.connect(address, profile_sink=profiles.append) as rt:
            yield rt
