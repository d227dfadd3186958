"""moto's server with a Glue that compares the version of a table, as Glue itself does.

Its token service lends for two minutes longer than asked: Nessie wants the whole time to be left
when the answer arrives, which on a busy machine is late.

Usage: moto_with_versions.py --host HOST --port PORT

Glue gives every change of a table a new version, and refuses an update that names another one than
the current one. moto counts versions and takes every update.
"""

from __future__ import annotations

import sys
import threading
from datetime import timedelta

from moto.core.exceptions import JsonRESTError
from moto.core.responses import ActionResult
from moto.glue.responses import GlueResponse
from moto.server import main
from moto.sts.models import AssumedRole

_update = GlueResponse.update_table
_lock = threading.Lock()


class ConcurrentModificationError(JsonRESTError):
    """Somebody else has changed the table."""

    code = 400

    def __init__(self) -> None:
        super().__init__(
            "ConcurrentModificationException",
            "Update table failed due to concurrent modifications.",
        )


def update_table(self: GlueResponse) -> ActionResult:
    """Refuse what was made from another version."""
    name = self.parameters.get("TableInput", {}).get("Name")
    with _lock:
        table = self.glue_backend.get_table(self.parameters.get("DatabaseName"), name)
        wanted = self.parameters.get("VersionId")
        current = max((int(one) for one in table.versions), default=0)
        if wanted is not None and int(wanted) != current:
            raise ConcurrentModificationError
        return _update(self)


GlueResponse.update_table = update_table
_assume = AssumedRole.__init__


def assume(self: AssumedRole, *arguments: object, **named: object) -> None:
    """Lend for longer."""
    _assume(self, *arguments, **named)
    self.expiration += timedelta(minutes=2)


AssumedRole.__init__ = assume
main(sys.argv[1:])
