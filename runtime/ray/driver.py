"""The Ray backend as its callers see it: ships values, waits for refs, posts events.

All decisions are the dispatcher's, in a thread of its own; what is done here is done in the
thread of the caller, so a caller pays for the values that it ships.
"""

import atexit
import itertools
import os
import sys
import sysconfig
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED
from concurrent.futures import wait as wait_for
from dataclasses import replace
from operator import index
from typing import Any, TypeVar, cast

import ray
from ray import exceptions

from runtime.api import Actor, Gather, Key, Profile, Ref, Resources, Retry, Runtime, Stats
from runtime.attempt import name_of, rebuild, required
from runtime.errors import Cancelled, TaskError
from runtime.handing import Functions, own, parted
from runtime.ledger import Ledger
from runtime.local.splitting import join_in_worker, split_in_worker
from runtime.predictor import BASE_BYTES
from runtime.ray import cluster
from runtime.ray.dispatcher import Dispatcher
from runtime.ray.failures import translate
from runtime.ray.launcher import START
from runtime.ray.objects import Payload, pack, unpack
from runtime.ray.task import (
    ActorState,
    Argument,
    Hook,
    Object,
    RayRef,
    RayTask,
    Result,
    ShippedFunction,
)
from runtime.ray.worker import Size, is_inside_attempt

T = TypeVar("T")

IN_SPEC_BYTES_MAX = 64 << 10
"""Values up to this size are shipped with the task; larger ones go through the store, once."""

_ONCE = Retry(attempts=1)


class RayRuntime(Runtime):
    """A Ray cluster as a runtime; `limit` is what of it may be used, 0 meaning all."""

    def __init__(self, connection: cluster.Connection, limit: Resources, ledger: Ledger) -> None:
        self._connection = connection
        self._dispatcher = Dispatcher(limit, ledger, _own_paths())
        self._ids = itertools.count(1)
        self._functions = Functions(_ship)
        self._is_closed = False
        self._pid = os.getpid()
        atexit.register(self.shutdown)

    def submit(
        self,
        fn: Callable[..., Any],
        *args: object,
        memory: int | None = None,
        key: Key | None = None,
        cpus: int | Resources = 1,
        retry: Retry | None = None,
        returns: int | None = None,
    ) -> Any:
        """See `Runtime.submit`."""
        request = required(memory, cpus, returns, key=key)
        self._check(request)
        results = tuple(Result() for _ in range(returns or 1))
        self._post(
            RayTask(
                results=results,
                function=self._functions.shipped(fn),
                arguments=[self._argument(arg) for arg in args],
                request=request,
                key=key,
                retry=retry or Retry(),
                returns=returns,
                hook=None if retry is None or retry.split is None else self._hook(retry),
            )
        )
        refs: list[RayRef[Any]] = [RayRef(next(self._ids), result) for result in results]
        return refs[0] if returns is None else refs

    def put(self, value: T) -> Ref[T]:
        """See `Runtime.put`."""
        self._check(None)
        return RayRef(next(self._ids), self._made(value, what="the value"))

    def get(self, refs: Any, timeout_seconds: float | None = None) -> Any:
        """See `Runtime.get`."""
        wanted = [_own(refs)] if isinstance(refs, Ref) else [_own(ref) for ref in refs]
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        _, pending = wait_for([ref.result.ended for ref in wanted], timeout_seconds)
        if pending:
            raise TimeoutError(f"{len(pending)} of {len(wanted)} tasks have not ended in time")
        for ref in wanted:
            ref.result.raise_failure()
        payloads = _fetch([ref.result for ref in wanted], deadline)
        values = [
            rebuild(lambda: unpack(payload))  # noqa: B023 - called at once
            for payload in payloads
        ]
        return values[0] if isinstance(refs, Ref) else values

    def wait(
        self, refs: Sequence[Ref[T]], count: int = 1, timeout_seconds: float | None = None
    ) -> tuple[list[Ref[T]], list[Ref[T]]]:
        """See `Runtime.wait`."""
        results = [_own(ref).result for ref in refs]
        _wait_for_some(results, min(count, len(results)), timeout_seconds)
        return parted(refs, lambda ref: _own(ref).result.has_ended)

    def actor(self, cls: Callable[..., object], *args: object, memory: int | None = None) -> Actor:
        """See `Runtime.actor`."""
        granted_bytes = index(memory or BASE_BYTES)
        self._check(Resources(1, granted_bytes), for_actor=True)
        state = ActorState(granted_bytes)
        self.call_actor(state, START, self._functions.shipped(cls), args)
        return _RayActor(self, state)

    def call_actor(
        self, state: ActorState, method: str, function: ShippedFunction, args: Sequence[object]
    ) -> Ref[object]:
        """Queue a call of an actor of this runtime."""
        self._check(None)
        result = Result()
        self._post(
            RayTask(
                results=(result,),
                function=function,
                arguments=[self._argument(arg) for arg in args],
                request=Resources(0, 0),
                retry=_ONCE,
                actor=state,
                method=method,
            )
        )
        return RayRef(next(self._ids), result)

    def stop_actor(self, state: ActorState) -> None:
        """End an actor of this runtime."""
        reason = Cancelled("the actor was stopped")
        self._dispatcher.post(lambda: self._dispatcher.end_actor(state, reason))

    def cancel(self, ref: Ref[object]) -> bool:
        """See `Runtime.cancel`; returns when the task is sure not to run any more."""
        result = _own(ref).result
        task = result.task
        if task is None or result.has_ended:
            return False
        self._dispatcher.post(lambda: self._dispatcher.cancel(task))
        result.ended.result()
        return isinstance(result.failure, Cancelled)

    def profile(self, ref: Ref[object]) -> Profile | None:
        """See `Runtime.profile`."""
        return _own(ref).result.profile

    def stats(self) -> Stats:
        """See `Runtime.stats`."""
        return self._dispatcher.stats()

    def shutdown(self) -> None:
        """See `Runtime.shutdown`."""
        if self._is_closed or os.getpid() != self._pid:
            return  # the copy in a forked child owns nothing
        self._is_closed = True
        self._dispatcher.stop()
        self._functions.clear()
        cluster.leave(self._connection)
        atexit.unregister(self.shutdown)

    def _check(self, request: Resources | None, *, for_actor: bool = False) -> None:
        if self._is_closed:
            raise Cancelled("the runtime was shut down")
        if request is not None:
            self._dispatcher.require_feasible(request, for_actor=for_actor)

    def _post(self, task: RayTask) -> None:
        for result in task.results:
            result.task = task
        self._dispatcher.post(lambda: self._dispatcher.submit(task))

    def _argument(self, arg: object) -> Argument:
        if isinstance(arg, Ref):
            return Argument((_own(arg).result,))
        if isinstance(arg, Gather):
            return Argument(tuple(_own(ref).result for ref in arg.refs), arg.segment, is_list=True)
        return Argument((self._made(arg, what=f"an argument of type {type(arg).__qualname__}"),))

    def _made(self, value: object, *, what: str) -> Result:
        """Return a value that is there already."""
        payload = _packed(value, what=what)
        result = Result()
        size = Size(payload.size_bytes)
        result.hold(_stored(payload), size, self._dispatcher.account.stored_bytes)
        result.ended.set_result(None)
        return result

    def _hook(self, retry: Retry) -> Hook:
        return Hook(
            split_function=self._functions.shipped(split_in_worker),
            split=Argument((self._made(retry.split, what="the split function"),)),
            join_function=self._functions.shipped(join_in_worker),
            join=Argument((self._made(retry.join, what="the join function"),)),
        )


class _RayActor:
    """The driver's handle of an actor."""

    def __init__(self, runtime: RayRuntime, state: ActorState) -> None:
        self._runtime = runtime
        self._state = state

    def call(self, method: str, *args: object) -> Ref[object]:
        """See `Actor.call`."""
        named = ShippedFunction("", method, pack(method))
        return self._runtime.call_actor(self._state, method, named, args)

    def stop(self) -> None:
        """See `Actor.stop`."""
        self._runtime.stop_actor(self._state)


def open_ray(address: str, limit: Resources, *, started: Resources, ledger: Ledger) -> RayRuntime:
    """Open the runtime that `ray` or `ray://host:port` names.

    Args:
        address: As given to `connect`.
        limit: What of the cluster may be used, 0 meaning all.
        started: The resources of a cluster that has to be started.
        ledger: Where grants come from and profiles go.

    Raises:
        ConnectionError: There is no such cluster, or it cannot be used.
    """
    if is_inside_attempt():
        raise RuntimeError("a task cannot start tasks: it returns what is to be done instead")
    if not limit.memory_bytes:
        # All of it is a share of this machine: objects must fit into that, too.
        room_bytes = int((1 - cluster.STORE_SHARE) * started.memory_bytes)
        started = replace(started, memory_bytes=room_bytes)
    place = address.partition("://")[2]
    connection = cluster.join(place) if place else cluster.start(started)
    try:
        return RayRuntime(connection, limit, ledger)
    except BaseException:  # interruptions too: nobody else would end the connection
        cluster.leave(connection)
        raise


def _own(ref: Ref[T]) -> RayRef[T]:
    return own(ref, RayRef)


def _ship(fn: Callable[..., object]) -> ShippedFunction:
    name = name_of(fn)
    kind = "class" if isinstance(fn, type) else "function"
    return ShippedFunction(uuid.uuid4().hex, name, _stored(_packed(fn, what=f"the {kind} {name}")))


def _packed(value: object, *, what: str) -> Payload:
    try:
        return pack(value)
    except Exception as error:  # pickling runs the value's own code, which may raise anything
        message = f"cannot ship {what}: {type(error).__name__}: {error}"
        raise TaskError(message, cause=error) from error


def _stored(payload: Payload) -> Object:
    if payload.size_bytes <= IN_SPEC_BYTES_MAX:
        return payload
    try:
        return ray.put(payload)
    except (exceptions.ObjectStoreFullError, exceptions.OutOfDiskError) as error:
        failure = translate(error, name="put", granted_bytes=0)
        raise cast("BaseException", failure.__cause__) from error


def _fetch(results: Sequence[Result], deadline: float | None) -> list[Payload]:
    """Return the payloads of results; one that was lost with its node is made again."""
    remote = [r.value for r in results if isinstance(r.value, ray.ObjectRef)]
    timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
    try:
        fetched = iter(ray.get(remote, timeout=timeout))
    except exceptions.GetTimeoutError as error:
        raise TimeoutError("the values could not be fetched in time") from error
    except exceptions.RayError as error:
        raise translate(error, name="the task", granted_bytes=0) from error
    return [r.value if isinstance(r.value, Payload) else next(fetched) for r in results]


def _wait_for_some(results: Sequence[Result], count: int, timeout_seconds: float | None) -> None:
    """Wait until `count` of the results have ended, or the time is over."""
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    while True:
        pending = [result.ended for result in results if not result.has_ended]
        missing = count - (len(results) - len(pending))
        left = None if deadline is None else deadline - time.monotonic()
        if missing <= 0 or (left is not None and left <= 0):
            return
        mode = ALL_COMPLETED if missing == len(pending) else FIRST_COMPLETED
        wait_for(pending, left, return_when=mode)


def _own_paths() -> tuple[str, ...]:
    """Return where this process imports from, beyond what every installation has."""
    installed = {
        sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")
    }
    return tuple(
        path
        for path in (os.path.abspath(entry) for entry in sys.path)  # noqa: PTH100 - "" is here
        if path not in installed and os.path.isdir(path)  # noqa: PTH112
    )
