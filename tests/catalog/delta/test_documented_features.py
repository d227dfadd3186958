"""The table of features in the documentation is the one in the code, and names what tests them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from catalog.delta.log import list_segment
from catalog.delta.protocol import FEATURES, features_of
from catalog.delta.replay import read_state
from catalog.location import Location
from catalog.storage import Storage
from tests.judges.make_delta_fixtures import unpack

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "delta.md"
ROW = re.compile(
    r"^\| `([\w-]+)` \| (handled|tolerated|refused) \| (.+) \| (table )?`([\w.]+)` \|$",
    re.MULTILINE,
)
ROWS = ROW.findall(DOCUMENT.read_text(encoding="utf-8"))
OF_SPARK = [(name, table) for name, _, _, is_table, table in ROWS if is_table]


def test_every_feature_has_its_row_and_every_row_its_feature() -> None:
    documented = {name: (verdict, reason) for name, verdict, reason, *_ in ROWS}
    assert len(ROWS) == len(documented)
    assert documented == {name: (str(one.verdict), one.reason) for name, one in FEATURES.items()}


@pytest.mark.parametrize(("feature", "table"), OF_SPARK, ids=[name for name, _ in OF_SPARK])
def test_the_table_that_is_to_test_a_feature_has_it(
    feature: str, table: str, tmp_path: Path
) -> None:
    root = Location.parse(str(unpack(table, tmp_path)))
    state = read_state(Storage(), list_segment(Storage(), root))
    assert feature in features_of(state.protocol)


def test_other_features_are_in_the_test_of_the_protocol() -> None:
    others = {test for *_, is_table, test in ROWS if not is_table}
    assert others == {"test_protocol.py"}
    assert (Path(__file__).parent / "test_protocol.py").exists()
