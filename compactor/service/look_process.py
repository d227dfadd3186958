"""A child process of the service that looks at tables: one order on stdin, a line per answer.

Usage: python -m compactor.service.look_process heads|health|find|plan
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping

from catalog.errors import CatalogError, ExplainedError
from catalog.heads import KnownHead, changed_heads
from catalog.open import expand
from compactor.garbage import spare_collections
from compactor.service.looking import look_into, planned
from compactor.service.orders import (
    Changed,
    FindOrder,
    Found,
    HeadsOrder,
    HealthOrder,
    Planned,
    PlanOrder,
    decode,
    encode,
)


def heads(order: bytes) -> Iterator[Changed]:
    """Yield the tables that are not as they were."""
    known = (KnownHead(*one) for one in decode(order, HeadsOrder).tables)
    for seen in changed_heads(known):
        trouble = f"{seen.error.code}: {seen.error}" if seen.error else ""
        yield Changed(seen.target, seen.head, trouble, seen.is_missing)


def health(order: bytes) -> Iterator[object]:
    """Yield what is found in each table."""
    wanted = decode(order, HealthOrder)
    for target, policy in wanted.tables:
        yield look_into(target, policy, kept=wanted.kept)


def find(order: bytes) -> Iterator[Found]:
    """Yield the tables that fit each pattern."""
    for pattern in decode(order, FindOrder).patterns:
        try:
            yield Found(pattern, tuple(expand(pattern)))
        except CatalogError as error:
            yield Found(pattern, trouble=f"{error.code}: {error}")


def plan(order: bytes) -> Iterator[Planned]:
    """Yield the plan of one table."""
    wanted = decode(order, PlanOrder)
    try:
        yield planned(wanted.target, wanted.policy, kept=wanted.kept)
    except ExplainedError as error:
        yield Planned(code=error.code, message=str(error), hint=error.hint)


_ANSWERS: Mapping[str, Callable[[bytes], Iterator[object]]] = {
    "heads": heads,
    "health": health,
    "find": find,
    "plan": plan,
}


def answers(kind: str, order: bytes) -> Iterator[object]:
    """Yield the answers to an order."""
    return _ANSWERS[kind](order)


def main(kind: str) -> None:
    """Answer the order on stdin."""
    spare_collections()
    for answer in answers(kind, sys.stdin.buffer.read()):
        sys.stdout.buffer.write(encode(answer))
        # A child that is killed over one table has told of those before it.
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(sys.argv[1])
