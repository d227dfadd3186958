"""What is due on a table whose owner leaves the choice to us: one kind of work after the other.

    put rows in order, or pack files     where the table has an order of its own, or has none
    convert equality deletes             that many readers would have to look up
    rewrite position deletes             of files that have several delete files

Each plan is the first kind of work that has any; a job goes on with the next. It comes to an end:
packing leaves files that it would not pack again, and conversion leaves no keys; what conversion
shows to be deleted may be worth packing once more, which leaves nothing to convert.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from catalog.table import DeleteRecorder, TableFiles
from compactor.planner.plan import Considered, Plan
from compactor.planner.planning import TableState
from compactor.planner.policy import Policy
from compactor.sort_keys import Strategy

PlanFor = Callable[[TableState, TableFiles, Policy], Plan]
_NOTHING = "nothing to do"
_NEVER = 1 << 31


def plan_due(state: TableState, files: TableFiles, policy: Policy, plan_for: PlanFor) -> Plan:
    """Plan the first kind of work that is due; the plan says what was considered.

    Args:
        state: what is planned against.
        files: the workers' side of it.
        policy: what its owner wants, but for the strategy.
        plan_for: plans one strategy.
    """
    considered: list[Considered] = []
    for one, why in _policies(state, files, policy):
        plan = plan_for(state, files, one)
        groups = len(plan.groups)
        considered.append(Considered(one.strategy, groups, why if groups else _NOTHING))
        if groups:
            break
    return replace(plan, considered=tuple(considered))


def _policies(state: TableState, files: TableFiles, policy: Policy) -> Iterator[tuple[Policy, str]]:
    many, can_record = policy.delete_files_min, isinstance(files, DeleteRecorder)
    if can_record:
        # What has many delete files, but lost few rows, gets fewer delete files: that is cheaper.
        policy = replace(policy, delete_files_min=_NEVER)
    if state.layout.sort_order:
        why = "the table has a sort order, and files out of it"
        yield replace(policy, strategy=Strategy.SORT), why
    else:
        why = "files are not of the wanted size, or have lost many rows"
        yield replace(policy, strategy=Strategy.BINPACK), why
    if can_record:
        many = max(many, policy.convert_delete_files_min)
        why = f"readers look up keys of {many} delete files or more in files not worth rewriting"
        converting = replace(policy, strategy=Strategy.CONVERT_DELETES)
        yield replace(converting, convert_delete_files_min=many), why
        why = "data files have several delete files each"
        yield replace(policy, strategy=Strategy.POSITION_DELETES), why
