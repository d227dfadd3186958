"""The local backend as its callers see it: ships values, waits for refs, posts events.

All decisions are the dispatcher's, in a thread of its own; what is done here is done in the
thread of the caller, so a caller pays for the values that it ships.
"""

import atexit
import itertools
import os
from collections.abc import Callable, Sequence
from types import FunctionType, TracebackType
from typing import Any, Self, TypeVar
from weakref import WeakKeyDictionary

from runtime.api import Actor, Key, Profile, Ref, Resources, Retry, Runtime, Stats
from runtime.attempt import encode_for_task, name_of
from runtime.errors import Cancelled
from runtime.ledger import Ledger, base_bytes
from runtime.local import actor as in_worker
from runtime.local.dispatcher import Dispatcher
from runtime.local.refs import LocalRef, settle, wait_for
from runtime.local.session import Session
from runtime.local.store import Packed, pack
from runtime.local.task import ActorState, Argument, LocalTask, ShippedFunction
from runtime.predictor import BASE_BYTES
from runtime.scheduler import require_feasible

T = TypeVar("T")

_ONCE = Retry(attempts=1)


class LocalRuntime(Runtime):
    """Worker processes of this machine as a runtime."""

    def __init__(self, total: Resources, ledger: Ledger) -> None:
        self._total = total
        self._session = Session()
        self._dispatcher = Dispatcher(total, self._session, ledger)
        self._ids = itertools.count(1)
        self._functions: WeakKeyDictionary[FunctionType, ShippedFunction] = WeakKeyDictionary()
        self._is_closed = False
        self._pid = os.getpid()
        atexit.register(self.shutdown)

    def submit(
        self,
        fn: Callable[..., T],
        *args: object,
        memory: int | None = None,
        key: Key | None = None,
        cpus: int = 1,
        retry: Retry | None = None,
    ) -> Ref[T]:
        """See `Runtime.submit`."""
        self._check(Resources(cpus, memory or 0), self._total)
        inputs = [self._argument(arg) for arg in args]
        shipped_bytes = sum(a.packed.size_bytes for a in inputs if a.packed is not None)
        ref: LocalRef[T] = LocalRef(next(self._ids))
        self._post(
            LocalTask(
                ref=ref,
                function=self._function(fn),
                inputs=inputs,
                base_bytes=base_bytes(memory, shipped_bytes),
                key=key,
                cpus=cpus,
                retry=retry or Retry(),
            )
        )
        return ref

    def put(self, value: T) -> Ref[T]:
        """See `Runtime.put`."""
        self._check(Resources(), self._total)
        ref: LocalRef[T] = LocalRef(next(self._ids))
        ref.hold(self._pack(value, what="the value"))
        settle(ref)
        return ref

    def get(self, refs: Any, timeout_seconds: float | None = None) -> Any:
        """See `Runtime.get`."""
        wanted = [_own(refs)] if isinstance(refs, Ref) else [_own(ref) for ref in refs]
        if not wait_for(wanted, len(wanted), timeout_seconds):
            pending = sum(not ref.has_ended for ref in wanted)
            raise TimeoutError(f"{pending} of {len(wanted)} tasks have not ended in time")
        values = [ref.value() for ref in wanted]
        return values[0] if isinstance(refs, Ref) else values

    def wait(
        self, refs: Sequence[Ref[T]], count: int = 1, timeout_seconds: float | None = None
    ) -> tuple[list[Ref[T]], list[Ref[T]]]:
        """See `Runtime.wait`."""
        own = [_own(ref) for ref in refs]
        wait_for(own, min(count, len(own)), timeout_seconds)
        done: list[Ref[T]] = []
        pending: list[Ref[T]] = []
        for ref in own:
            (done if ref.has_ended else pending).append(ref)
        return done, pending

    def actor(self, cls: Callable[..., object], *args: object, memory: int | None = None) -> Actor:
        """See `Runtime.actor`."""
        granted_bytes = memory or BASE_BYTES
        left_bytes = self._total.memory_bytes - self._dispatcher.actor_bytes
        self._check(Resources(1, granted_bytes), Resources(self._total.cpus, left_bytes))
        state = ActorState()
        start = LocalTask(
            ref=LocalRef(next(self._ids)),
            function=self._function(in_worker.start),
            inputs=[self._argument(value) for value in (cls, *args)],
            base_bytes=granted_bytes,
            retry=_ONCE,
            actor=state,
            is_actor_start=True,
            predicted_bytes=granted_bytes,
            granted_bytes=granted_bytes,
        )
        state.start = start
        self._post(start)
        return _LocalActor(self, state)

    def call_actor(self, state: ActorState, method: str, args: Sequence[object]) -> Ref[object]:
        """Queue a call of an actor of this runtime."""
        self._check(Resources(), self._total)
        granted_bytes = state.start.granted_bytes if state.start is not None else 0
        ref: LocalRef[object] = LocalRef(next(self._ids))
        self._post(
            LocalTask(
                ref=ref,
                function=self._function(in_worker.call),
                inputs=[self._argument(value) for value in (method, *args)],
                base_bytes=granted_bytes,
                retry=_ONCE,
                actor=state,
                predicted_bytes=granted_bytes,
                granted_bytes=granted_bytes,
            )
        )
        return ref

    def stop_actor(self, state: ActorState) -> None:
        """End an actor of this runtime."""
        reason = Cancelled("the actor was stopped")
        self._dispatcher.post(lambda: self._dispatcher.end_actor(state, reason))

    def cancel(self, ref: Ref[object]) -> bool:
        """See `Runtime.cancel`; returns when the task is sure not to run any more."""
        own = _own(ref)
        task = own.task
        if task is None or own.has_ended:
            return False
        self._dispatcher.post(lambda: self._dispatcher.cancel(task))
        wait_for([own], 1, None)
        return isinstance(own.failure, Cancelled)

    def profile(self, ref: Ref[object]) -> Profile | None:
        """See `Runtime.profile`."""
        return _own(ref).profile

    def stats(self) -> Stats:
        """See `Runtime.stats`."""
        return self._dispatcher.stats()

    def shutdown(self) -> None:
        """See `Runtime.shutdown`."""
        if self._is_closed or os.getpid() != self._pid:
            return  # the copy in a forked child owns nothing
        self._dispatcher.stop()
        self._session.close()
        self._is_closed = True
        atexit.unregister(self.shutdown)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown()

    def _check(self, request: Resources, node: Resources) -> None:
        if self._is_closed:
            raise Cancelled("the runtime was shut down")
        require_feasible(request, node)

    def _post(self, task: LocalTask) -> None:
        task.ref.task = task
        self._dispatcher.post(lambda: self._dispatcher.submit(task))

    def _pack(self, value: object, *, what: str) -> Packed:
        return pack(encode_for_task(value, what=what), self._session.path(f"v{next(self._ids)}"))

    def _argument(self, arg: object) -> LocalRef[Any] | Argument:
        if isinstance(arg, Ref):
            return _own(arg)
        return Argument(self._pack(arg, what=f"an argument of type {type(arg).__qualname__}"))

    def _function(self, fn: Callable[..., object]) -> ShippedFunction:
        """Ship a plain function once; what else can be called may change between calls."""
        if not isinstance(fn, FunctionType):
            return self._ship(fn)
        shipped = self._functions.get(fn)
        if shipped is None:
            shipped = self._functions[fn] = self._ship(fn)
        return shipped

    def _ship(self, fn: Callable[..., object]) -> ShippedFunction:
        name = name_of(fn)
        packed = self._pack(fn, what=f"the function {name}")
        return ShippedFunction(next(self._ids), name, packed)


class _LocalActor:
    """The driver's handle of an actor."""

    def __init__(self, runtime: LocalRuntime, state: ActorState) -> None:
        self._runtime = runtime
        self._state = state

    def call(self, method: str, *args: object) -> Ref[object]:
        """See `Actor.call`."""
        return self._runtime.call_actor(self._state, method, args)

    def stop(self) -> None:
        """See `Actor.stop`."""
        self._runtime.stop_actor(self._state)


def _own(ref: Ref[T]) -> LocalRef[T]:
    if not isinstance(ref, LocalRef):
        raise TypeError(f"{ref!r} was not made by this runtime")
    return ref
