"""The conformance suites on this machine; those on Ray have a module of their own."""

import pytest

import runtime
from tests.runtime.conformance import RuntimeConformance
from tests.runtime.worker_conformance import WorkerConformance


class _Backend:
    address: str

    @pytest.fixture
    def profiles(self):
        return []

    @pytest.fixture
    def rt(self, profiles):
        with runtime.connect(
            self.address, workers=2, memory_bytes=4 << 30, profile_sink=profiles.append
        ) as rt:
            yield rt


class TestInline(_Backend, RuntimeConformance):
    address = "inline"


class TestLocal(_Backend, RuntimeConformance, WorkerConformance):
    address = "local"
