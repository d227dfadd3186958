"""Whether others have added rows since the base of a change: then it might have found these, too.

The commits between base and head are read. Those that only rewrote files say of each that its data
does not change. Rows that were removed are no matter: either the file is one that the change
replaces, and the head tells, or the change has found nothing in it. A file that comes back with
other deletes counts as added: it may have got rows back.
"""

from __future__ import annotations

from catalog.delta.actions import Add, parse_commit
from catalog.delta.head import commit_location
from catalog.delta.json_actions import blocks
from catalog.errors import ObjectNotFoundError
from catalog.location import Location
from catalog.storage import Storage


class SinceReader:
    """Reads what came between the base of one change and one head after another."""

    def __init__(self, storage: Storage, root: Location, base: int) -> None:
        self._storage = storage
        self._root = root
        self._checked = base

    def why_not(self, version: int) -> str:
        """Say by which version rows were added, up to one; empty for none.

        Raises:
            CorruptTableError: a commit cannot be read.
        """
        for one in range(self._checked + 1, version + 1):
            if reason := self._added_by(one):
                return reason
            self._checked = one
        return ""

    def _added_by(self, version: int) -> str:
        location = commit_location(self._root, version)
        try:
            some = blocks(self._storage, location, self._storage.size(location))
            for block in some:
                for action in parse_commit(block, name=str(location)):
                    if isinstance(action, Add) and action.is_data_change:
                        return f"rows were added by version {version} in {action.path}"
        except ObjectNotFoundError:
            return f"the commit of version {version} was cleaned from the log"
        return ""
