"""Z85 by the example of its RFC, there and back again, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.delta import z85
from catalog.errors import CorruptTableError


def test_the_example_of_the_rfc() -> None:
    assert z85.encode(bytes.fromhex("864fd26fb559f75b")) == "HelloWorld"
    assert z85.decode("HelloWorld").hex() == "864fd26fb559f75b"


@given(st.binary(max_size=200))
def test_bytes_come_back(data: bytes) -> None:
    data += bytes(-len(data) % 4)
    assert z85.decode(z85.encode(data)) == data


@pytest.mark.parametrize("text", ["Hell", "Hell\x7f", "Hell~", "Hellö", "#####", "Hello Worl"])
def test_what_is_no_z85_is_refused(text: str) -> None:
    with pytest.raises(CorruptTableError, match="no Z85"):
        z85.decode(text)
