"""Which objects of a table tell that it was committed to.

Data files come before their commit and say nothing; every format has one kind of object that only
a commit writes.
"""

from __future__ import annotations

import re

# Iceberg's metadata, a version of Delta Lake, a completed instant of Hudi in either timeline.
# https://iceberg.apache.org/spec/ https://github.com/delta-io/delta/blob/master/PROTOCOL.md
# https://hudi.apache.org/docs/timeline
_COMMITS = re.compile(
    r"/metadata/[^/]+\.metadata\.json$"
    r"|/_delta_log/\d{20}\.json$"
    r"|/\.hoodie/(?:timeline/)?\d{14,17}(?:_\d{14,17})?\.(?:commit|deltacommit|replacecommit)$"
)


def is_commit(key: str) -> bool:
    """Tell whether an object with this key appears when a table is committed to."""
    return _COMMITS.search(f"/{key}") is not None
