"""What joining files costs beside copying their bytes: `python -m benchmarks.splice`.

All contenders copy the same files, in turn, in a process that has done so before: start-up is in
no figure. `cp` leaves what it wrote to the cache; `copy, fsync` is the kernel's copy made durable,
as a splice is.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.data import lineitem, nested
from benchmarks.measure import measure
from benchmarks.provenance import commit
from benchmarks.tables import Input, cached_files
from catalog.location import Location
from catalog.storage import Storage
from compactor.parquet import SpliceSource, plan_splice, read_footer, write_splice

RESULTS = Path(__file__).resolve().parent / "results" / "splice"
MIB, GIB = 1 << 20, 1 << 30
INPUTS = (
    Input("lineitem", lineitem, 100, 88_000),
    Input("lineitem", lineitem, 20, 880_000, row_groups=10),
    Input("lineitem", lineitem, 10, 880_000),
    Input("nested", nested, 100, 9_500),
    Input("nested", nested, 10, 95_000),
)


@dataclass(frozen=True, slots=True)
class Copied:
    """What one contender took for one input.

    Attributes:
        rows: what the rows are like.
        files: number of files.
        file_bytes: mean size of one.
        row_groups: of one.
        contender: its name.
        cpu_seconds: of this process and its children, median over rounds.
        of_cp: median over rounds of that, of `cp`'s in the same round.
        peak_bytes: anonymous memory of a process that does nothing else; None of all but splices.
    """

    rows: str
    files: int
    file_bytes: float
    row_groups: int
    contender: str
    cpu_seconds: float
    of_cp: float
    peak_bytes: int | None


def splice(paths: list[Path], output: Path) -> None:
    """Join files as `compact` does: footers read, bytes copied, pages checked, made durable."""
    storage = Storage()
    sources = []
    for path in paths:
        footer = read_footer(storage, Location.parse(str(path)), path.stat().st_size)
        sources.append(SpliceSource(footer, range(footer.row_group_count)))
    write_splice(storage, plan_splice(sources), Location.parse(str(output / "joined.parquet")))


def cp(paths: list[Path], output: Path) -> None:
    """Copy by the system's program."""
    subprocess.run(["cp", *map(str, paths), str(output)], check=True)


def copy_durably(paths: list[Path], output: Path) -> None:
    """Copy into one file by the kernel, and wait until it is on the disk."""
    with (output / "copied").open("wb") as target:
        for path in paths:
            with path.open("rb") as source:
                left = path.stat().st_size
                while left > 0:
                    left -= os.copy_file_range(source.fileno(), target.fileno(), left)
        os.fsync(target.fileno())


CONTENDERS: dict[str, Callable[[list[Path], Path], None]] = {
    "splice": splice,
    "copy, fsync": copy_durably,
    "cp": cp,
}


def compare(source: Input, directory: Path, rounds: int) -> Iterator[Copied]:
    """Yield what each contender takes."""
    paths = sorted(cached_files(source, directory / "made").iterdir())
    taken: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for _ in range(rounds + 1):
        for name, contender in CONTENDERS.items():
            taken[name].append(_cpu_seconds(contender, paths, directory / "output"))
    for name, all_seconds in taken.items():
        # The first round fills the cache.
        pairs = list(zip(all_seconds, taken["cp"], strict=True))[1:]
        yield Copied(
            rows=source.name,
            files=len(paths),
            file_bytes=statistics.mean(path.stat().st_size for path in paths),
            row_groups=source.row_groups,
            contender=name,
            cpu_seconds=statistics.median(own for own, _ in pairs),
            of_cp=statistics.median(own / other for own, other in pairs),
            peak_bytes=_peak_bytes(paths[0].parent, directory) if name == "splice" else None,
        )


def _peak_bytes(made: Path, directory: Path) -> int:
    command = [sys.executable, "-m", "benchmarks.splice", "--join", str(made), str(directory)]
    return measure(command, {})[0].peak_process_bytes


def _cpu_seconds(
    contender: Callable[[list[Path], Path], None], paths: list[Path], output: Path
) -> float:
    output.mkdir()
    before = sum(os.times()[:4])
    contender(paths, output)
    used = sum(os.times()[:4]) - before
    shutil.rmtree(output)
    return used


def markdown(found: list[Copied]) -> str:
    """Return a table: a row for each input and contender."""
    lines = [
        "| rows | files | MiB a file | row groups a file | | CPU s / GiB | of cp's | peak MiB |",
        "|---|---:|---:|---:|---|---:|---:|---:|",
    ]
    for one in found:
        per_gib = one.cpu_seconds / (one.files * one.file_bytes) * GIB
        cells = [one.rows, str(one.files), f"{one.file_bytes / MIB:.1f}", str(one.row_groups)]
        peak = "-" if one.peak_bytes is None else f"{one.peak_bytes / MIB:.0f}"
        cells += [one.contender, f"{per_gib:.2f}", f"{one.of_cp:.2f}", peak]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run everything and save the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.splice", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--join", type=Path, nargs=2, help="join the files of a directory, once")
    chosen = parser.parse_args()
    if chosen.join:
        made, output = chosen.join
        splice(sorted(made.iterdir()), output)
        return
    found: list[Copied] = []
    for source in INPUTS:
        with tempfile.TemporaryDirectory() as temporary:
            found += compare(source, Path(temporary), chosen.rounds)
    chosen.output.mkdir(parents=True, exist_ok=True)
    document = {"commit": commit(), "rounds": chosen.rounds, "runs": [asdict(one) for one in found]}
    (chosen.output / "results.json").write_text(json.dumps(document, indent=1) + "\n")
    (chosen.output / "results.md").write_text(markdown(found))
    print(markdown(found))


if __name__ == "__main__":
    main()
