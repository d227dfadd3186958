"""A process that claims one table again and again: `claimants.py URL MARKER COUNT`.

It prints the fences it got. While it has the table it is alone: the marker is made and removed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from compactor.errors import TableBusyError
from compactor.jobs.lease import claim
from compactor.jobs.store import open_store


def main(url: str, marker: Path, count: int) -> None:
    fences: list[int] = []
    with open_store(url) as store:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        while len(fences) < count:
            try:
                with claim(store, "lake.t") as held:
                    marker.touch(exist_ok=False)
                    fences.append(held.fence)
                    marker.unlink()
            except TableBusyError:
                continue
    sys.stdout.write(json.dumps(fences))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
