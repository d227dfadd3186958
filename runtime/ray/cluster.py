"""Starts a cluster on this machine or joins one, and leaves it as it was found."""

import contextlib
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

# Before the import, which reads it: an attempt that its node killed for memory comes back to us,
# and the next one is granted more. Ray itself would repeat the same request for ever.
os.environ.setdefault("RAY_task_oom_retries", "0")

import ray
from ray._raylet import AuthenticationTokenLoader, Config, GcsClient

from runtime.api import Resources

_log = logging.getLogger(__name__)

STARTS_MAX = 3
"""A node waits a fixed 30 s for its registration, which is not enough on a loaded machine."""

REACH_TIMEOUT_SECONDS = 5.0
PROBE_TIMEOUT_SECONDS = 60.0

STORE_SHARE = 0.2
"""Of the memory of a cluster that we start, for objects; tasks may be granted the rest."""

STORE_BYTES_MIN = 100 << 20

NODE_ID_LABEL = "ray.io/node-id"

_CLIENT_SCHEME = "ray://"

_TOKEN, _TOKEN_PATH, _AUTH_MODE = "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"


class Connection(NamedTuple):
    """What leaving has to undo.

    Attributes:
        is_ours: Whether we opened it: a connection that the process had before is left alone.
        secrets: Environment variables that were set for it.
    """

    is_ours: bool
    secrets: tuple[str, ...] = ()


def start(total: Resources) -> Connection:
    """Start a cluster of one node on this machine, or use the one the process is connected to.

    With RAY_ADDRESS in the environment, as in a job that was submitted to a cluster, that one is
    joined.

    Raises:
        ConnectionError: It did not start, or what is there is Ray Client.
    """
    _refuse_client(os.environ.get("RAY_ADDRESS", ""))
    if ray.is_initialized():
        return Connection(is_ours=False)
    if os.environ.get("RAY_ADDRESS"):
        return join(os.environ["RAY_ADDRESS"])
    store_bytes = max(STORE_BYTES_MIN, int(STORE_SHARE * total.memory_bytes))
    names = _own_token()
    for attempt in range(1, STARTS_MAX + 1):
        try:
            _init(
                "local",
                {
                    "num_cpus": total.cpus,
                    "_memory": total.memory_bytes,
                    "object_store_memory": min(store_bytes, _shared_memory_bytes()),
                    "labels": dict(total.labels) or None,
                    "include_dashboard": False,
                    "_system_config": {"task_oom_retries": 0},
                },
            )
            return Connection(is_ours=True, secrets=names)
        except Exception as error:
            # What comes up when processes start too slowly has no type of its own.
            ray.shutdown()
            if attempt == STARTS_MAX:
                _forget(names)
                raise ConnectionError(f"Ray did not start: {_first_line(error)}") from error
            _log.warning("Ray did not start in attempt %d: %s", attempt, error)
    raise AssertionError("unreachable")


def join(address: str) -> Connection:
    """Connect to the cluster whose GCS listens on `host:port`, from one of its nodes.

    Raises:
        ConnectionError: There is no such cluster, it wants a token, or its nodes have other
            versions of Python or pyarrow.
    """
    _refuse_client(address)
    if ray.is_initialized():
        connected = ray.get_runtime_context().gcs_address
        if not _is_same(address, connected):
            raise ConnectionError(f"this process is connected to another cluster, {connected}")
        return Connection(is_ours=False)
    _reach(address)
    try:
        _init(address, {})
    except Exception as error:
        # Ray raises whatever its processes say; all of it means that there is no connection.
        ray.shutdown()
        raise _refusal(address, error) from error
    try:
        _require_likeness()
    except BaseException:  # interruptions too: nobody else would end the connection
        ray.shutdown()
        raise
    return Connection(is_ours=True)


def leave(connection: Connection) -> None:
    """Disconnect; a cluster that we started ends. Values that were got stay valid."""
    if connection.is_ours and ray.is_initialized():
        ray.shutdown()
    _forget(connection.secrets)


def nodes() -> dict[str, Resources]:
    """Return what the living nodes have, by their ids."""
    return {
        node["NodeID"]: Resources(
            cpus=int(node["Resources"].get("CPU", 0)),
            memory_bytes=int(node["Resources"].get("memory", 0)),
            labels=dict(node["Labels"]),
        )
        for node in ray.nodes()
        if node["Alive"]
    }


def _init(address: str, options: Mapping[str, Any]) -> None:
    """Connect, with the process left as it is: its signal handlers, its loggers, its warnings."""
    logging.getLogger("ray").setLevel(logging.ERROR)
    with _kept_signals(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.init(
            address=address,
            configure_logging=False,
            log_to_driver=False,  # standard output is the caller's
            **options,
        )


@contextlib.contextmanager
def _kept_signals() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


def _own_token() -> tuple[str, ...]:
    """Give a new cluster a token of its own; returns the variables to unset in the end.

    Without one Ray would keep one in the home directory, readable by everybody on the machine.
    """
    if os.environ.get(_AUTH_MODE, "token").lower() != "token":
        return ()
    if os.environ.get(_TOKEN) or os.environ.get(_TOKEN_PATH):
        return ()
    os.environ[_TOKEN] = secrets.token_hex(32)
    AuthenticationTokenLoader.instance().reset_cache()
    return (_TOKEN,) if _AUTH_MODE in os.environ else (_TOKEN, _AUTH_MODE)


def _forget(names: tuple[str, ...]) -> None:
    for name in names:
        os.environ.pop(name, None)
    if names:
        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()


def _shared_memory_bytes() -> int:
    """Return how large a store may be: Ray refuses one that its file system cannot hold."""
    try:
        free = os.statvfs("/dev/shm")  # noqa: S108 - where Ray keeps objects
    except OSError:
        return STORE_BYTES_MIN
    return max(STORE_BYTES_MIN, int(0.9 * free.f_bavail * free.f_frsize))


def _refuse_client(address: str) -> None:
    """Refuse Ray Client: there objects are copied through a proxy, and deaths are not told.

    Raises:
        ConnectionError: This process is connected through it, or the address is one of its.
    """
    from ray.util.client import ray as client

    if client.is_connected() or address.startswith(_CLIENT_SCHEME):
        raise ConnectionError(
            "Ray Client is not supported: run on a node of the cluster and give the address of its"
            " GCS, ray://host:6379 as a rule (in RAY_ADDRESS: host:6379)"
        )


def _reach(address: str) -> None:
    """Find out soon whether a GCS answers: Ray tries for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConnectionError(f"{address!r} is no address of a Ray cluster: it is host:port")
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH_TIMEOUT_SECONDS).close()
    except OSError as error:
        raise ConnectionError(f"no Ray cluster answers at {address}: {error}") from error
    try:
        GcsClient(address=address)
    except Exception as error:
        # Its errors differ by what answered instead.
        raise _refusal(address, error) from error


def _refusal(address: str, error: BaseException) -> ConnectionError:
    hint = (
        "is it the port of the GCS (6379 as a rule; 10001 is Ray Client's, which is not supported),"
        " and does this machine belong to the cluster?"
    )
    if os.environ.get(_AUTH_MODE) is None or "oken" in str(error):
        hint += f" A cluster with a token needs {_AUTH_MODE}=token and {_TOKEN} or {_TOKEN_PATH}"
    return ConnectionError(f"cannot use the Ray cluster at {address}: {_first_line(error)}; {hint}")


def _is_same(address: str, connected: str) -> bool:
    def resolved(text: str) -> tuple[str, str]:
        host, _, port = text.rpartition(":")
        host = socket.gethostbyname(host)
        return (
            socket.gethostbyname(socket.gethostname()) if host.startswith("127.") else host
        ), port

    return address == connected or resolved(address) == resolved(connected)


def _require_likeness() -> None:
    """Refuse nodes on which our tasks would not run as they do here."""
    own = _probe()()
    probe = ray.remote(num_cpus=0, max_retries=0)(_probe())
    asked = {probe.options(label_selector={NODE_ID_LABEL: node}).remote(): node for node in nodes()}
    answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=PROBE_TIMEOUT_SECONDS)
    for ref in silent:
        _log.warning("node %s has not told its versions in time", asked[ref])
    for ref in answered:
        theirs: Mapping[str, str] = ray.get(ref)
        unlike = [
            f"{name} {theirs[name]}, here {own[name]}" for name in own if theirs[name] != own[name]
        ]
        if unlike:
            raise ConnectionError(f"node {asked[ref]} of the cluster has {'; '.join(unlike)}")


def _probe() -> Any:
    """Return a function that is shipped by value: a node without this package runs it too."""

    def probe() -> dict[str, str]:
        from importlib import metadata

        found = {"python": f"{sys.version_info[0]}.{sys.version_info[1]}"}
        for name in ("pyarrow", "lake-compactor"):
            try:
                found[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                found[name] = "missing"
        return found

    return probe


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
