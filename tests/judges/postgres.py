"""A PostgreSQL server on a Unix socket: Debian's programs, a cluster of its own.

The server refuses to run as root: there it runs as nobody, in a directory that is nobody's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

PACKAGE = "postgresql"
# Set where the server has to be there: then its absence is a failure.
REQUIRED = "COMPACT_REQUIRE_POSTGRES"
USER = "compact"
_NOBODY = 65534
_OPTIONS = {
    "listen_addresses": "''",
    "max_connections": "60",
    "shared_buffers": "16MB",
    "autovacuum": "off",
    # Its processes die here, the machine does not.
    "fsync": "off",
}


def programs() -> Path | None:
    """Return the directory of the newest server that is installed; Debian keeps it off the path."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    installed = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(installed, key=lambda path: int(path.parts[4]), default=None)
    return newest.parent if newest else None


@dataclass(frozen=True)
class Postgres:
    """A running server.

    Attributes:
        programs: where its programs are.
        directory: of its data and its socket.
    """

    programs: Path
    directory: Path

    def new_database(self) -> str:
        """Return the URL of an empty database."""
        name = f"d{uuid4().hex[:12]}"
        self._run("createdb", "--host", str(self.directory), "--username", USER, name)
        return f"postgresql://{USER}@/{name}?host={self.directory}"

    def start(self) -> None:
        """Start it; the socket answers when this returns."""
        options = " ".join(f"-c {name}={value}" for name, value in _OPTIONS.items())
        self._control("start", "-o", f"-k {self.directory} {options}", "-l", self.directory / "log")

    def stop(self) -> None:
        """Stop it as a crash does, connections and all."""
        self._control("stop", "-m", "immediate")

    def restart(self) -> None:
        """Let it crash and come back."""
        self.stop()
        self.start()

    def init(self) -> None:
        """Make the cluster."""
        self._run(
            *("initdb", "--pgdata", self.directory / "data", "--username", USER),
            *("--auth", "trust", "--no-sync", "--encoding", "UTF8", "--locale", "C.UTF-8"),
        )

    def _control(self, *arguments: str | Path) -> None:
        self._run("pg_ctl", "-D", self.directory / "data", "-w", *arguments)

    def _run(self, program: str, *arguments: str | Path) -> None:
        is_root = os.geteuid() == 0
        # Its log goes to a file: a pipe that the server inherits would never end.
        with tempfile.TemporaryFile() as told:
            done = subprocess.run(
                [self.programs / program, *arguments],
                cwd=self.directory,
                stdout=told,
                stderr=told,
                user=_NOBODY if is_root else None,
                group=_NOBODY if is_root else None,
                extra_groups=[] if is_root else None,
                timeout=90,
            )
            told.seek(0)
            assert done.returncode == 0, told.read().decode()


@contextmanager
def postgres_server(programs: Path) -> Iterator[Postgres]:
    """Run a server with an empty cluster."""
    # A socket's path is short: not below the directory of a test.
    directory = Path(tempfile.mkdtemp(prefix="compact-pg-"))
    if os.geteuid() == 0:
        os.chown(directory, _NOBODY, _NOBODY)
    server = Postgres(programs, directory)
    try:
        server.init()
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory)
