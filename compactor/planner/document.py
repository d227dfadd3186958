"""A plan as the JSON document that `compact plan --json` prints."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from compactor.planner.plan import ClusterPlan, FileGroup, Plan, Price, Rung, Skipped


def plan_document(plan: Plan) -> dict[str, Any]:
    """Return the document; its keys are a contract and are only ever added to."""
    return {
        "table": plan.table,
        "format": plan.format,
        "snapshot": plan.snapshot.snapshot_id,
        "target_file_size_bytes": plan.target_file_size_bytes,
        "groups": [_group_document(group) for group in plan.groups],
        "kept": {"files": plan.kept_files, "bytes": plan.kept_bytes},
        "skipped": [_skipped_document(skipped) for skipped in plan.skipped],
        "totals": _totals_document(plan),
        "order": None if plan.cluster is None else _order_document(plan.cluster),
        "considered": [asdict(one) for one in plan.considered],
    }


def _order_document(cluster: ClusterPlan) -> dict[str, Any]:
    pruning = cluster.pruning
    return {
        "strategy": cluster.clustering.strategy.value,
        "columns": [field.name for field in cluster.clustering.fields],
        "text": str(cluster.clustering),
        "sort_memory_bytes": cluster.memory_bytes,
        "touched_before": asdict(pruning.before),
        "touched_after_estimate": asdict(pruning.after_estimate),
    }


def _group_document(group: FileGroup) -> dict[str, Any]:
    return {
        "id": group.group_id,
        "partition": group.partition,
        "rung": group.rung.value,
        "files": group.files.file_count,
        "deletes": group.files.delete_files.num_rows,
        "deletes_after_estimate": group.delete_files_estimate,
        "output_files_estimate": group.output_files_estimate,
        "reason": group.reason,
        **_price_document(group.price),
    }


def _price_document(price: Price) -> dict[str, Any]:
    return {
        "input_bytes": price.input_bytes,
        "delete_bytes": price.delete_bytes,
        "output_bytes_estimate": price.output_bytes_estimate,
        "memory_estimate": price.memory_bytes_estimate,
        "cpu_seconds_estimate": price.cpu_seconds_estimate,
        "requests_estimate": price.requests_estimate,
        "bytes_by_rung": {
            Rung.COMPOSE.value: price.compose_bytes_estimate,
            Rung.SPLICE.value: price.splice_bytes_estimate - price.compose_bytes_estimate,
            Rung.TRANSCODE.value: price.transcode_bytes_estimate,
        },
    }


def _skipped_document(skipped: Skipped) -> dict[str, Any]:
    return {
        "partition": skipped.partition,
        "files": skipped.files,
        "bytes": skipped.size_bytes,
        "reason": skipped.reason,
    }


def _totals_document(plan: Plan) -> dict[str, Any]:
    totals = plan.totals()
    return {
        "groups": totals.groups,
        "files": totals.files,
        "output_files_estimate": totals.output_files_estimate,
        "deletes": totals.delete_files,
        "deletes_after_estimate": totals.delete_files_estimate,
        **_price_document(totals.price),
    }
