"""Tasks, actors and objects within a memory budget; knows nothing of tables.

`connect` gives a `Runtime`; `runtime.api` documents the programming model.
"""

from runtime.api import (
    Actor,
    Gather,
    Key,
    Profile,
    Ref,
    Resources,
    Retry,
    Runtime,
    Segments,
    Stats,
)
from runtime.connect import connect
from runtime.errors import Cancelled, Infeasible, Lost, OutOfMemory, RuntimeFailure, TaskError

__all__ = [
    "Actor",
    "Cancelled",
    "Gather",
    "Infeasible",
    "Key",
    "Lost",
    "OutOfMemory",
    "Profile",
    "Ref",
    "Resources",
    "Retry",
    "Runtime",
    "RuntimeFailure",
    "Segments",
    "Stats",
    "TaskError",
    "connect",
]
