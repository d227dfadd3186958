"""A driver that is killed at one moment of a commit to a Delta table."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

from catalog.commits import Commit
from catalog.location import Location

_DRIVER = """
    import os, pickle, signal, sys
    from catalog.delta import checkpoint
    from catalog.delta.table import DeltaTable
    from catalog.location import Location
    from catalog.storage import durable, storage

    commit, root, moment = pickle.loads(sys.stdin.buffer.read())

    def die(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    if moment == "before the vectors":
        storage.Storage.write = die
    elif moment == "before the put":
        storage.Storage.put_if_absent = die
    elif moment == "while it is staged":
        durable.os.link = die
    elif moment == "after the put":
        put = storage.Storage.put_if_absent
        def after(self, location, data):
            put(self, location, data)
            die()
        storage.Storage.put_if_absent = after
    elif moment == "before it is tidied":
        storage.Storage.delete = die
    elif moment == "before the checkpoint is there":
        storage.Storage.copy = die
    elif moment == "before the checkpoint is pointed to":
        checkpoint._point_to = die
    DeltaTable("lake", Location.parse(root), {}).commit(commit)
    print("not killed")
"""


def die_committing(commit: Commit, root: Location, moment: str) -> None:
    """Commit in another process, which is killed at the moment."""
    driver = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_DRIVER)],
        input=pickle.dumps((commit, str(root), moment)),
        capture_output=True,
        cwd=Path.cwd(),
        check=False,
    )
    assert driver.returncode == -signal.SIGKILL, driver.stderr.decode()
