"""Files parted by another partition spec than they were written with."""

from __future__ import annotations

from catalog.errors import UnsupportedTableError
from catalog.table import PartitionedFiles, TableFiles
from compactor.planner.plan import Plan
from compactor.planner.planning import TableState
from compactor.planner.policy import Policy
from compactor.planner.repartition import plan_repartition


def plan_partitions(state: TableState, files: TableFiles, policy: Policy, *, now_ms: int) -> Plan:
    """Plan the rewrite of the files of other specs.

    Raises:
        UnsupportedTableError: the format has no specs, or the table none of this name.
    """
    wanted = _partitioned(files).in_spec(policy.output_spec or "")
    keys = state.inventory.files["partition_key"].unique().to_pylist()
    foreign = [key for key in keys if wanted.spec_of(key) != wanted.spec_id]
    return plan_repartition(state, policy, foreign=foreign, spec=wanted.spec_id, now_ms=now_ms)


def in_spec(files: TableFiles, spec_id: int | None) -> TableFiles:
    """Return the workers' side of a table for a plan with an output spec, or without."""
    if spec_id is None:
        return files
    return _partitioned(files).in_spec(str(spec_id))  # type: ignore[return-value]  # it is both


def _partitioned(files: TableFiles) -> PartitionedFiles:
    if not isinstance(files, PartitionedFiles):
        raise UnsupportedTableError(
            "the table's format does not part files by several specs",
            hint="leave --output-spec out",
        )
    return files
