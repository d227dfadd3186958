"""The local backend as its callers see it: ships values, waits for refs, posts events.

All decisions are the dispatcher's, in a thread of its own; what is done here is done in the
thread of the caller, so a caller pays for the values that it ships.
"""

import atexit
import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from operator import index
from pathlib import Path
from typing import Any, TypeVar

from runtime.api import Actor, Gather, Key, Profile, Ref, Resources, Retry, Runtime, Stats
from runtime.attempt import encode_for_task, name_of, required
from runtime.errors import Cancelled
from runtime.handing import Functions, own, parted
from runtime.ledger import Ledger
from runtime.local import actor as in_worker
from runtime.local.dispatcher import Dispatcher
from runtime.local.process import DESCRIPTORS_PER_WORKER, SLOTS_MAX, workers_max
from runtime.local.refs import LocalRef, settle, wait_for
from runtime.local.session import Session
from runtime.local.splitting import join_in_worker, split_in_worker
from runtime.local.store import Stored, pack
from runtime.local.task import (
    ActorState,
    Argument,
    Gathered,
    Input,
    LocalTask,
    RefArgument,
    ShippedFunction,
    SplitHook,
)
from runtime.predictor import BASE_BYTES
from runtime.scheduler import require_feasible

T = TypeVar("T")

_ONCE = Retry(attempts=1)
_RETRY = Retry()
_NOTHING = Resources()


class LocalRuntime(Runtime):
    """Worker processes of this machine as a runtime."""

    def __init__(
        self, total: Resources, ledger: Ledger, spill_directory: str | Path | None = None
    ) -> None:
        if total.cpus > workers_max():
            raise ValueError(
                f"workers must be at most {workers_max()} here, not {total.cpus}: each takes"
                f" {DESCRIPTORS_PER_WORKER} file descriptors (ulimit -n), and a node has at most"
                f" {SLOTS_MAX} slots"
            )
        self._total = total
        self._session = Session(spill_directory)
        self._ids = itertools.count(1)
        self._dispatcher = Dispatcher(total, self._session, ledger=ledger, ids=self._ids)
        self._functions = Functions(self._ship)
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
        wanted = required(memory, cpus, returns, key=key)
        self._check(wanted, self._total)
        segments = [None] if returns is None else range(returns)
        refs: tuple[LocalRef[Any], ...] = tuple(
            [LocalRef(next(self._ids), segment, owner=self._session) for segment in segments]
        )
        self._post(
            LocalTask(
                refs=refs,
                function=self._functions.shipped(fn),
                inputs=[self._argument(arg) for arg in args],
                memory=wanted.memory_bytes or memory,
                key=key,
                cpus=wanted.cpus,
                labels=wanted.labels,
                retry=retry or _RETRY,
                returns=returns,
                hook=None if retry is None or retry.split is None else self._hook(retry),
            )
        )
        return refs[0] if returns is None else list(refs)

    def put(self, value: T) -> Ref[T]:
        """See `Runtime.put`."""
        self._check(_NOTHING, self._total)
        ref: LocalRef[T] = LocalRef(next(self._ids), owner=self._session)
        stored = self._pack(value, what="the value")
        ref.hold(stored.packed, stored.file)
        self._dispatcher.objects.require_room(self._total.memory_bytes)
        settle(ref)
        return ref

    def get(self, refs: Any, timeout_seconds: float | None = None) -> Any:
        """See `Runtime.get`."""
        wanted = [self._own(refs)] if isinstance(refs, Ref) else [self._own(ref) for ref in refs]
        if not wait_for(wanted, len(wanted), timeout_seconds):
            pending = sum(not ref.has_ended for ref in wanted)
            raise TimeoutError(f"{pending} of {len(wanted)} tasks have not ended in time")
        values = [ref.value() for ref in wanted]
        return values[0] if isinstance(refs, Ref) else values

    def wait(
        self, refs: Sequence[Ref[T]], count: int = 1, timeout_seconds: float | None = None
    ) -> tuple[list[Ref[T]], list[Ref[T]]]:
        """See `Runtime.wait`."""
        wanted = [self._own(ref) for ref in refs]
        wait_for(wanted, min(count, len(wanted)), timeout_seconds)
        return parted(refs, lambda ref: self._own(ref).has_ended)

    def actor(self, cls: Callable[..., object], *args: object, memory: int | None = None) -> Actor:
        """See `Runtime.actor`."""
        granted_bytes = index(memory or BASE_BYTES)
        left_bytes = self._total.memory_bytes - self._dispatcher.placing.actor_bytes
        self._check(Resources(1, granted_bytes), replace(self._total, memory_bytes=left_bytes))
        state = ActorState(next(self._ids), next(self._ids), granted_bytes)
        start = self._call(state, LocalRef(state.start_id), in_worker.start, [cls, *args])
        self._dispatcher.post(lambda: self._dispatcher.start_actor(state, start))
        return _LocalActor(self, state)

    def call_actor(self, state: ActorState, method: str, args: Sequence[object]) -> Ref[object]:
        """Queue a call of an actor of this runtime."""
        self._check(_NOTHING, self._total)
        ref: LocalRef[object] = LocalRef(next(self._ids), owner=self._session)
        self._post(self._call(state, ref, in_worker.call, [method, *args]))
        return ref

    def _call(
        self,
        state: ActorState,
        ref: LocalRef[Any],
        function: Callable[..., object],
        args: Sequence[object],
    ) -> LocalTask:
        return LocalTask(
            refs=(ref,),
            function=self._functions.shipped(function),
            inputs=[self._argument(value) for value in args],
            memory=state.granted_bytes,
            retry=_ONCE,
            actor=state,
            predicted_bytes=state.granted_bytes,
            granted_bytes=state.granted_bytes,
        )

    def stop_actor(self, state: ActorState) -> None:
        """End an actor of this runtime."""
        reason = Cancelled("the actor was stopped")
        self._dispatcher.post(lambda: self._dispatcher.end_actor(state, reason))

    def cancel(self, ref: Ref[object]) -> bool:
        """See `Runtime.cancel`; returns when the task is sure not to run any more."""
        wanted = self._own(ref)
        task = wanted.task
        if task is None or wanted.has_ended:
            return False
        self._dispatcher.post(partial(self._dispatcher.cancel, task))
        wait_for([wanted], 1, None)
        return isinstance(wanted.failure, Cancelled)

    def profile(self, ref: Ref[object]) -> Profile | None:
        """See `Runtime.profile`."""
        return self._own(ref).profile

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

    def _own(self, ref: Ref[T]) -> LocalRef[T]:
        found: LocalRef[T] = own(ref, LocalRef)
        if found.owner is not self._session:
            raise TypeError(f"{ref!r} was not made by this runtime")
        return found

    def _check(self, request: Resources, node: Resources) -> None:
        if self._is_closed:
            raise Cancelled("the runtime was shut down")
        require_feasible(request, node)

    def _post(self, task: LocalTask) -> None:
        for ref in task.refs:
            ref.task = task
        self._dispatcher.post(partial(self._dispatcher.submit, task))

    def _pack(self, value: object, *, what: str) -> Argument:
        encoded = encode_for_task(value, what=what)
        packed = pack([encoded], self._session.path(f"v{next(self._ids)}"))
        if isinstance(packed, Stored):
            return Argument(packed, self._dispatcher.objects.hold(packed))
        return Argument(packed, None)

    def _argument(self, arg: object) -> Input:
        if isinstance(arg, Ref):
            return RefArgument(self._own(arg))
        if isinstance(arg, Gather):
            return Gathered([self._own(ref) for ref in arg.refs], arg.segment, frees=arg.frees)
        return self._pack(arg, what=f"an argument of type {type(arg).__qualname__}")

    def _ship(self, fn: Callable[..., object]) -> ShippedFunction:
        name = name_of(fn)
        return ShippedFunction(next(self._ids), name, self._pack(fn, what=f"the function {name}"))

    def _hook(self, retry: Retry) -> SplitHook:
        return SplitHook(
            self._functions.shipped(split_in_worker),
            self._pack(retry.split, what="the split function"),
            self._functions.shipped(join_in_worker),
            self._pack(retry.join, what="the join function"),
        )


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
