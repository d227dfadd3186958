"""The conformance suite of worker processes on this machine; that on Ray has its own module."""

import pytest

import runtime
from tests.runtime.worker_conformance import WorkerConformance


class TestLocal(WorkerConformance):
    @pytest.fixture
    def profiles(self):
        return []

    @pytest.fixture
    def rt(self, profiles):
        with runtime.connect(
            "local", workers=2, memory_bytes=4 << 30, profile_sink=profiles.append
        ) as rt:
            yield rt
