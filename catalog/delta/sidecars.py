"""Sidecars of Delta tables: Puffin files in a directory that readers and vacuums pass over."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from typing import Protocol

from catalog.delta.paths import Paths
from catalog.model import Snapshot
from catalog.puffin import Blob, encode
from catalog.sidecars import Sidecar
from catalog.storage import Storage

# What begins with an underscore is no part of the table: readers and vacuums pass over it.
_DIRECTORY = "_compact_index"
_OURS = re.compile(r"\d{20}-[0-9a-f]{32}\.puffin", re.ASCII)


class SidecarTarget(Protocol):
    """The table that blobs are kept beside."""

    @property
    def storage(self) -> Storage:
        """Where its files are."""

    @property
    def paths(self) -> Paths:
        """Where its files may lie."""


def sidecars(target: SidecarTarget) -> list[Sidecar]:
    """Return our files, in the order of their versions."""
    found = target.storage.list(target.paths.root.child(_DIRECTORY))
    ours = [one for one in found if _OURS.fullmatch(one.location.name)]
    ordered = sorted(ours, key=lambda one: one.location.name)
    return [Sidecar(one.location, one.size_bytes) for one in ordered]


def add_sidecar(target: SidecarTarget, snapshot: Snapshot, blobs: Sequence[Blob]) -> bool:
    """Write blobs beside the log; the log itself does not know of them."""
    version = snapshot.sequence_number
    file = encode(blobs, snapshot_id=version, sequence_number=version)
    name = f"{version:020}-{uuid.uuid4().hex}.puffin"
    target.storage.write(target.paths.root.child(_DIRECTORY, name), file.content)
    return True
