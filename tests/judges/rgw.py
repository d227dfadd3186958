"""A Ceph RGW on loopback: a real S3 server, started by hand from its Debian packages and stopped.

One monitor, one store, one copy of everything, no authentication between its parts; the S3 side is
as users have it, signatures included. It takes some 20 seconds and 500 MB of memory.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from catalog.location import Location
from catalog.storage.s3_identity import Address
from catalog.storage.s3_requests import Request, Sender
from catalog.storage.values import RetryPolicy
from tests.judges.ports import free_port

PROGRAMS = ("radosgw", "radosgw-admin", "ceph", "ceph-mon", "ceph-osd", "ceph-mgr", "monmaptool")
PACKAGES = "radosgw ceph-mon ceph-osd ceph-mgr ceph-common"
# Set where the judge has to be there: then its absence is a failure.
REQUIRED = "COMPACT_REQUIRE_RGW"
ACCESS_KEY, SECRET_KEY = "AKTEST", "SKTEST12"
# The store is one sparse file.
_STORE_BYTES = 20 << 30
_WAIT_SECONDS = 120
# Clients ask the monitor for the `secure` mode, which there is none of without authentication.
# The guards of disk space would refuse to run on a nearly full disk.
_CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = {monitor}
auth cluster required = none
auth service required = none
auth client required = none
public addr = 127.0.0.1
cluster addr = 127.0.0.1
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
mon data avail warn = 2
mon data avail crit = 1
run dir = {directory}/run
admin socket = {directory}/run/$name.asok
log file = {directory}/log/$name.log
mon data = {directory}/mon
mgr data = {directory}/mgr
osd data = {directory}/osd
osd objectstore = bluestore
bluestore block size = {store_bytes}
bluestore fsck on mount = false
osd memory target = 1610612736
osd op num shards = 2
[client]
ms mon client mode = crc
[client.rgw]
rgw data = {directory}/rgw
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw dns name = localhost
rgw enable usage log = false
rgw thread pool size = 64
"""


def missing_programs() -> list[str]:
    """Return which of its programs are not installed."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


@dataclass
class _Cluster:
    """The daemons of one server."""

    directory: Path
    port: int
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def configuration(self) -> str:
        return str(self.directory / "ceph.conf")

    def start(self) -> None:
        for name in ("run", "log", "mon", "mgr", "osd", "rgw"):
            (self.directory / name).mkdir()
        first, second = free_port(), free_port()
        monitor = f"[v2:127.0.0.1:{first}/0,v1:127.0.0.1:{second}/0]"
        fsid = str(uuid.uuid4())
        Path(self.configuration).write_text(
            _CONFIGURATION.format(
                fsid=fsid,
                monitor=monitor,
                directory=self.directory,
                store_bytes=_STORE_BYTES,
                port=self.port,
            )
        )
        monmap = str(self.directory / "monmap")
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", monitor, monmap)
        self._run("ceph-mon", "-i", "a", "--mkfs", "--monmap", monmap)
        self._spawn("ceph-mon", "-i", "a")
        self._await(lambda: self._succeeds("ceph", "mon", "stat"))
        store = str(uuid.uuid4())
        self._run("ceph", "osd", "new", store)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", store)
        self._spawn("ceph-osd", "-i", "0")
        self._spawn("ceph-mgr", "-i", "x")
        self._spawn("radosgw", "-n", "client.rgw")
        self._await(self._answers)
        user = ("--uid", "test", "--display-name", "test")
        keys = ("--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY)
        self._run("radosgw-admin", "user", "create", *user, *keys)

    def stop(self) -> None:
        for daemon in reversed(self.daemons):
            daemon.send_signal(signal.SIGTERM)
        for daemon in reversed(self.daemons):
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def _spawn(self, *command: str) -> None:
        with (self.directory / "log" / f"{command[0]}.out").open("wb") as log:
            self.daemons.append(
                subprocess.Popen(
                    [*command, "-c", self.configuration, "-f"],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, "CEPH_CONF": self.configuration},
                )
            )

    def _run(self, *command: str) -> None:
        options = [] if command[0] == "monmaptool" else ["-c", self.configuration]
        subprocess.run([*command, *options], check=True, capture_output=True, timeout=60)

    def _succeeds(self, *command: str) -> bool:
        with suppress(subprocess.SubprocessError):
            self._run(*command)
            return True
        return False

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}", timeout=2) as reply:
                return b"ListAllMyBuckets" in reply.read()
        except (OSError, urllib.error.URLError):
            return False

    def _await(self, is_ready) -> None:
        deadline = time.monotonic() + _WAIT_SECONDS
        while not is_ready():
            dead = [daemon.args for daemon in self.daemons if daemon.poll() is not None]
            if dead or time.monotonic() > deadline:
                raise RuntimeError(f"Ceph does not come up, see {self.directory}/log: {dead}")
            time.sleep(0.2)


@contextmanager
def rgw_server() -> Iterator[str]:
    """Run a server of its own; yields its endpoint."""
    directory = Path(tempfile.mkdtemp(prefix="compact-rgw-"))
    cluster = _Cluster(directory, free_port())
    try:
        cluster.start()
        yield f"http://127.0.0.1:{cluster.port}"
    finally:
        cluster.stop()
        shutil.rmtree(directory, ignore_errors=True)


def rgw_properties(endpoint: str) -> dict[str, str]:
    """Return the properties of a storage on it."""
    return {
        "s3.endpoint": endpoint,
        "s3.region": "us-east-1",
        "s3.access-key-id": ACCESS_KEY,
        "s3.secret-access-key": SECRET_KEY,
    }


def new_rgw_bucket(endpoint: str) -> Location:
    """Create a bucket of its own and return its root."""
    from botocore.credentials import ReadOnlyCredentials

    name = f"bucket-{uuid.uuid4().hex}"
    keys = ReadOnlyCredentials(ACCESS_KEY, SECRET_KEY, None)
    sender = Sender(lambda: keys, retry=RetryPolicy(), proxy_url=None)
    sender.send(Request("PUT", Address(f"{endpoint}/{name}", "us-east-1")))
    return Location.parse(f"s3://{name}")
