"""Opens a runtime by the name of its backend."""

import os
from dataclasses import replace
from pathlib import Path

from runtime.api import Resources, Runtime
from runtime.ledger import Experience, Ledger, ProfileSink
from runtime.memory import available_bytes

BACKENDS = ("inline", "local", "ray")
"""What addresses begin with."""

BUDGET_SHARE = 0.8
"""Of the memory available at connect; the rest is for the driver, page cache and neighbours."""


def connect(
    address: str = "local",
    *,
    workers: int | None = None,
    memory_bytes: int | None = None,
    profile_sink: ProfileSink | None = None,
    profiles: str | Path | Experience | None = None,
    spill_directory: str | Path | None = None,
) -> Runtime:
    """Open a runtime.

    Args:
        address: "local" (worker processes on this machine), "inline" (the calling thread), "ray"
            (a Ray cluster started on this machine for as long as the runtime lives; the one that
            RAY_ADDRESS names or the process is connected to, if there is one) or
            "ray://host:port" (the Ray cluster whose GCS listens there, from one of its nodes).
        workers: CPU slots; None: the CPUs this process may run on. Processes are started when
            there is work for them.
        memory_bytes: What all running tasks together may be granted; None: 80 % of the memory
            available now.
        profile_sink: Called with the `Profile` of each attempt, from a thread of the runtime.
        profiles: SQLite file in which profiles are kept and from which grants are learned; None:
            learn from this runtime's own tasks only. An `Experience` adds priors to it.
        spill_directory: Where "local" makes its directory for objects that the budget has no
            room for; None: the temporary directory.

    Raises:
        ValueError: The address names no backend, or a limit is not positive, or there are more
            workers than one process can have.
        ConnectionError: There is no such cluster, or it cannot be used.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    if memory_bytes is not None and memory_bytes < 1:
        raise ValueError(f"memory_bytes must be positive, not {memory_bytes}")
    total = Resources(
        cpus=workers or len(os.sched_getaffinity(0)),
        memory_bytes=memory_bytes or int(BUDGET_SHARE * available_bytes()),
    )
    experience = profiles if isinstance(profiles, Experience) else Experience(profiles)
    ledger = Ledger(profile_sink, experience.profiles, experience.priors)
    match address.partition("://")[0]:
        case "inline":
            from runtime.inline import InlineRuntime

            return InlineRuntime(total, ledger)
        case "local":
            from runtime.local.driver import LocalRuntime
            from runtime.local.process import workers_max

            if workers is None:
                total = replace(total, cpus=min(total.cpus, workers_max()))
            return LocalRuntime(total, ledger, spill_directory)
        case "ray":
            limit = Resources(workers or 0, memory_bytes or 0)
            return _open_ray(address, limit, started=total, ledger=ledger)
        case _:
            raise ValueError(f"unknown runtime {address!r}: use 'local', 'inline' or 'ray'")


def _open_ray(address: str, limit: Resources, *, started: Resources, ledger: Ledger) -> Runtime:
    try:
        from runtime.ray.driver import open_ray
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise ValueError(
            f"runtime {address!r} needs Ray: pip install 'lake-compactor[ray]',"
            " or use 'local' to run on this machine"
        ) from error
    return open_ray(address, limit, started=started, ledger=ledger)
