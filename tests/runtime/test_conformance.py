import pytest

import runtime
from tests.runtime.conformance import RuntimeConformance


class _Backend(RuntimeConformance):
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


class TestInline(_Backend):
    address = "inline"


class TestLocal(_Backend):
    address = "local"
