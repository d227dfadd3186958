"""Planning what another writer has announced and nobody has begun, before work of our own."""

from __future__ import annotations

import logging
from dataclasses import replace

from catalog.errors import UnsupportedTableError
from catalog.table import MapFunction, TableFiles
from compactor.jobs.clustering import read_facts
from compactor.planner.carrying import carried_policy
from compactor.planner.plan import Plan
from compactor.planner.planning import TableState, make_plan
from compactor.planner.policy import Policy

_LOG = logging.getLogger(__name__)


def plan_work(
    state: TableState, files: TableFiles, policy: Policy, *, now_ms: int, read: MapFunction
) -> Plan | None:
    """Plan announced work that replaces slices; None where there is none that can be planned.

    Args:
        state: what is planned against, and what stands announced.
        files: the workers' side of it.
        policy: what the owner of the table wants of work of ours.
        now_ms: milliseconds since the epoch.
        read: runs the reading of footers.
    """
    standing = state.standing
    if standing is None or not standing.groups:
        return None
    policy = carried_policy(policy, standing)
    try:
        facts = read_facts(files, standing.files, policy, now_ms=now_ms, read=read)
    except UnsupportedTableError as error:
        _LOG.warning("the work %s is left to others: %s", standing.work_id, error)
        return None
    return make_plan(replace(state, clusters=facts), policy, now_ms=now_ms)
