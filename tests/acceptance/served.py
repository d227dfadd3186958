"""Run `compact serve` as its users do, send it signed hooks, kill it, and look into its store."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
from sqlalchemy import text
from standardwebhooks import Webhook

from compactor.jobs.database import make_engine
from tests.acceptance.program import environment

SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes, yes").decode()
START_SECONDS = 60.0


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@dataclass
class Served:
    """One instance, its configuration and its store in a directory."""

    directory: Path
    options: str
    tables: str
    store_url: str = ""
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def store(self) -> str:
        return self.store_url or f"sqlite:///{self.directory}/jobs.db"

    def start(self) -> None:
        """Start it; it is ready when this returns."""
        path = self.directory / f"compact-{self.port}.toml"
        path.write_text(
            f'[store]\nurl = "{self.store}"\n'
            f'[service]\nlisten = "127.0.0.1:{self.port}"\n'
            f'grpc_listen = "127.0.0.1:0"\n{self.options}\n'
            f'[webhooks.standard]\nsecrets = ["{SECRET}"]\n{self.tables}'
        )
        with (self.directory / f"serve-{self.port}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "compactor.cli.main", "serve", "--config", str(path)],
                env=environment(self.directory),
                cwd=self.directory,
                stderr=log,
                start_new_session=True,
            )
        wait_for(self.is_ready, START_SECONDS, "the service is ready")

    def is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        try:
            return httpx.get(f"{self.url}/readyz", timeout=10).status_code == 200
        except httpx.TransportError:
            return False

    def log(self) -> str:
        return (self.directory / f"serve-{self.port}.log").read_text()

    def hook(self, table: str, delivery_id: str) -> httpx.Response:
        """Tell of a commit to a table, as a signed Standard Webhook."""
        body = json.dumps({"type": "table.committed", "data": {"table": table}})
        now = datetime.now(UTC)
        headers = {
            "webhook-id": delivery_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(SECRET).sign(delivery_id, now, body),
        }
        url = f"{self.url}/webhooks/standard"
        return httpx.post(url, content=body, headers=headers, timeout=60)

    def kill(self) -> None:
        """End it as a crash does; its jobs run on."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """Ask it to end, and return its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=120)

    def jobs_running(self) -> list[psutil.Process]:
        """Return the processes of jobs of this store, whoever started them."""
        found = []
        for pid in self.rows("SELECT pid FROM triggers WHERE state = 'running' AND pid > 0"):
            try:
                process = psutil.Process(pid[0])
                if "compactor.service.job_process" in process.cmdline():
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return found

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the store."""
        engine = make_engine(self.store)
        try:
            with engine.connect() as connection:
                return [tuple(row) for row in connection.execute(text(query))]
        finally:
            engine.dispose()


def wait_for(condition: Any, seconds: float, what: str) -> None:
    """Wait until something holds."""
    ends_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends_at, f"not within {seconds}s: {what}"
        time.sleep(0.1)
