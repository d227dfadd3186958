"""Places where a test can kill the process: `COMPACT_FAILPOINT=name` or `name:nth`.

A job must survive its driver's death at any moment. The moments that matter have names here, and a
test kills the process at each of them, runs the same command again and looks at the table.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from enum import StrEnum

VARIABLE = "COMPACT_FAILPOINT"


class Failpoint(StrEnum):
    """Every place, in the order in which a job passes them."""

    TABLE_CLAIMED = "table-claimed"
    PLAN_JOURNALED = "plan-journaled"
    ATTEMPT_JOURNALED = "attempt-journaled"
    ATTEMPT_SUBMITTED = "attempt-submitted"
    RESULT_RECEIVED = "result-received"
    RESULT_JOURNALED = "result-journaled"
    BATCH_JOURNALED = "batch-journaled"
    BATCH_COMMITTED = "batch-committed"
    BATCH_ABSENT = "batch-absent"
    BATCH_SETTLED = "batch-settled"
    DISCARD_BEGUN = "discard-begun"
    DISCARD_DONE = "discard-done"
    JOB_ENDING = "job-ending"
    JOB_ENDED = "job-ended"


class MergeFailpoint(StrEnum):
    """Places that only merges pass, before their plan is journaled."""

    CHANGES_READ = "changes-read"
    CHANGES_MATCHED = "changes-matched"


_passed: Counter[str] = Counter()


def hit(place: Failpoint | MergeFailpoint) -> None:
    """Die here, without any clean-up, when the environment asks for it."""
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    name, _, nth = wanted.partition(":")
    if name != place:
        return
    _passed[name] += 1
    if _passed[name] == int(nth or 1):
        os.kill(os.getpid(), signal.SIGKILL)
