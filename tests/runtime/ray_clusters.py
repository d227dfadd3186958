"""Ray clusters of several nodes on this machine, started with patience and ended for sure."""

import contextlib
import os
import secrets
import time
import warnings

STARTS_MAX = 4
STORE_BYTES = 120 << 20

# Death of a node is seen in seconds; objects of a node that is gone are asked for again soon.
ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_health_check_initial_delay_ms": "1000",
}


@contextlib.contextmanager
def cluster(*nodes):
    """Start a cluster, the first node being its head; gives the `ray.cluster_utils.Cluster`."""
    environment = ENVIRONMENT | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    _refresh()
    started = _started(nodes)
    try:
        yield started
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            started.shutdown()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        _refresh()


def add_node(started, node):
    """Add a node; one that does not register in time on a busy machine is tried again."""
    for attempt in range(1, STARTS_MAX + 1):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return started.add_node(object_store_memory=STORE_BYTES, **node)
        except Exception:
            if attempt == STARTS_MAX:
                raise
            time.sleep(attempt)
    raise AssertionError("unreachable")


def _started(nodes):
    from ray.cluster_utils import Cluster

    started = Cluster()
    try:
        for node in nodes:
            add_node(started, node)
    except BaseException:
        started.shutdown()
        raise
    return started


def _refresh():
    """Have Ray read its environment again: it remembers the token and the mode."""
    from ray._raylet import AuthenticationTokenLoader, Config

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()
