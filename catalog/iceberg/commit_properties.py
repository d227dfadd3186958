"""What a table's properties ask of its commits.  Pure.

A value that cannot be read is as good as none: a commit of finished work does not fail over it.
"""

from __future__ import annotations

from collections.abc import Mapping

from catalog.attempts import Pace

Properties = Mapping[str, str]

# What the property calls them, what Avro does.
_AVRO_CODECS = {"gzip": "deflate", "zstd": "zstandard", "uncompressed": "null", "none": "null"}


def pace(properties: Properties) -> Pace:
    """Return the limits of attempts; the defaults are those of the specification."""
    return Pace(
        retries_max=_count(properties, "commit.retry.num-retries", 4),
        wait_min_seconds=_count(properties, "commit.retry.min-wait-ms", 100) / 1000,
        wait_max_seconds=_count(properties, "commit.retry.max-wait-ms", 60_000) / 1000,
        timeout_seconds=_count(properties, "commit.retry.total-timeout-ms", 1_800_000) / 1000,
    )


def manifest_size_bytes(properties: Properties) -> int:
    """Return how large a manifest should become."""
    return _count(properties, "commit.manifest.target-size-bytes", 8 << 20)


def avro_codec(properties: Properties) -> str:
    """Return how manifests are compressed, as Avro calls it."""
    name = properties.get("write.avro.compression-codec", "gzip").lower()
    return _AVRO_CODECS.get(name, "deflate")


def partition_summaries_max(properties: Properties) -> int:
    """Return how many partitions a snapshot summary may count one by one."""
    return _count(properties, "write.summary.partition-limit", 0)


def inferred_metrics_max(properties: Properties) -> int:
    """Return how many columns have metrics without being asked for."""
    return _count(properties, "write.metadata.metrics.max-inferred-column-defaults", 100)


def _count(properties: Properties, name: str, default: int) -> int:
    try:
        return max(0, int(properties.get(name, default)))
    except ValueError:
        return default
