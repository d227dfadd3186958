"""The table of features in the documentation is the one in the code."""

from __future__ import annotations

import re
from pathlib import Path

from catalog.delta.protocol import FEATURES

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "delta.md"
ROW = re.compile(r"^\| `([\w-]+)` \| (handled|tolerated|refused) \| (.+) \|$", re.MULTILINE)


def test_every_feature_has_its_row_and_every_row_its_feature() -> None:
    rows = ROW.findall(DOCUMENT.read_text(encoding="utf-8"))
    documented = {name: (verdict, reason) for name, verdict, reason in rows}
    assert len(rows) == len(documented)
    assert documented == {name: (str(one.verdict), one.reason) for name, one in FEATURES.items()}
