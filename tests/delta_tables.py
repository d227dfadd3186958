"""Local Delta tables under test: what their logs name, read without our own reader."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

_BASE85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


def actions(table: Path) -> Iterator[dict[str, Any]]:
    """Yield the actions of every commit in the log."""
    for path in sorted((table / "_delta_log").glob("*[0-9].json")):
        yield from map(json.loads, path.read_text().splitlines())


def unreferenced_files(table: Path) -> list[str]:
    """Return the files of a table that no commit in its log names."""
    known = set()
    for action in actions(table):
        for kind in ("add", "remove", "cdc"):
            if kind in action:
                known |= set(_files(action[kind]))
    on_disk = {path for path in table.rglob("*") if path.is_file()}
    return sorted(
        str(path.relative_to(table))
        for path in on_disk
        if "_delta_log" not in path.parts and str(path.relative_to(table)) not in known
    ) + sorted(str(path) for path in (table / "_delta_log").glob("*.tmp*"))


def _files(file: dict[str, Any]) -> Iterator[str]:
    yield unquote(file["path"])
    vector = file.get("deletionVector")
    if vector and vector["storageType"] == "u":
        *prefix, name = vector["pathOrInlineDv"][:-20], vector["pathOrInlineDv"][-20:]
        yield "/".join([*filter(None, prefix), f"deletion_vector_{_uuid(name)}.bin"])


def _uuid(text: str) -> uuid.UUID:
    """Decode the Z85 of a UUID."""
    words = []
    for start in range(0, len(text), 5):
        word = 0
        for letter in text[start : start + 5]:
            word = word * 85 + _BASE85.index(letter)
        words.append(word.to_bytes(4, "big"))
    return uuid.UUID(bytes=b"".join(words))
