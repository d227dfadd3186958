"""A job API on a store of its own, for tests of the server, the client and the command line."""

from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
from deltalake import write_deltalake

from compactor.jobs.store import JobStore
from compactor.service.auth import Authenticator
from compactor.service.config import ServiceConfig, load_service_config
from compactor.service.executor import Executor
from compactor.service.operations import Operations
from compactor.service.registry import Registry
from compactor.service.rpc.server import Parts, serve
from compactor.service.store import open_service_store
from compactor.service.views import Views


@dataclass
class Served:
    """A running API.

    Attributes:
        address: for clients.
        store: what it stands on.
        config: what it was told.
        registry: the registered tables.
        config_file: where that stands.
    """

    address: str
    store: JobStore
    config: ServiceConfig
    registry: Registry
    config_file: str

    def work(self):
        """Do what waits, to the end."""
        executor = Executor(self.store, self.config, self.registry, instance="test")
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
        views = Views(store, config.service, config.budget)
        operations = Operations(store, config, registry)
        parts = Parts(store, registry, views, operations, Authenticator.of(auth or {}))
        server, port = serve("127.0.0.1:0", parts)
        try:
            address = f"http://127.0.0.1:{port}"
            yield Served(address, store, config, registry, str(file))
        finally:
            server.stop(0).wait()
