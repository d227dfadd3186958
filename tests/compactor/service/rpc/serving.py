"""A job API on a store of its own, for tests of the server, the client and the command line."""

from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
from deltalake import write_deltalake

from compactor.service.auth import Authenticator
from compactor.service.config import load_service_config
from compactor.service.executor import Executor
from compactor.service.parts import Parts
from compactor.service.registry import Registry
from compactor.service.rpc.server import serve
from compactor.service.store import open_service_store


@dataclass
class Served:
    """A running API.

    Attributes:
        address: for clients.
        parts: what it stands on.
        config_file: where what it was told stands.
    """

    address: str
    parts: Parts
    config_file: str

    def work(self):
        """Do what waits, to the end."""
        parts = self.parts
        executor = Executor(parts.store, parts.config, parts.registry, instance="test")
        assert executor.fill()
        executor.drain(wait_seconds=60)


def make_table(path, files=6):
    """Make a Delta table of small files; return its path as a target."""
    for number in range(files):
        rows = pa.table({"id": pa.array(range(number * 10, number * 10 + 10), pa.int64())})
        write_deltalake(path, rows, mode="append")
    return str(path)


@contextmanager
def served(directory, targets, auth=None):
    """Serve the tables of a directory."""
    tables = "".join(f'[[tables]]\ntarget = "{one}"\n' for one in targets)
    file = directory / "compact.toml"
    file.write_text(
        f'[store]\nurl = "sqlite:///{directory}/jobs.db"\n'
        f'[runtime]\nurl = "inline"\nprofiles = "{directory}/profiles.db"\n'
        f'[service]\nlogs = "{directory}/logs"\n{tables}'
    )
    config = load_service_config(file, environment={})
    with open_service_store(config.settings.store.url) as store:
        registry = Registry(store, config)
        registry.apply_configuration()
        authenticator = Authenticator.of(auth or {})
        parts = Parts.of(config, store, registry=registry, authenticator=authenticator)
        server, port = serve("127.0.0.1:0", parts)
        try:
            address = f"http://127.0.0.1:{port}"
            yield Served(address, parts, str(file))
        finally:
            server.stop(0).wait()
