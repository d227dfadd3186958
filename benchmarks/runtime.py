"""Compare task runtimes: `python -m benchmarks.runtime [--size-mib N] [--python PATH]`.

Overhead per task, a shuffle, and the cost of getting a large table, beside Ray, dask.distributed,
ProcessPoolExecutor and, for the shuffle, threads of one process that call the same functions. The
contenders alternate, each in a process of its own. Those that are not installed are left out by
name; PATH names an interpreter that has them, and `make bench-runtime` makes one. Then what one
core does alone: keys hashed and cut, tasks placed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks import keys, placement, provenance

HERE = Path(__file__).resolve().parent
MIB = 1 << 20
SAMPLE_SECONDS = 0.05
OVERHEAD_TASKS = {"local": 10_000, "processes": 10_000, "dask": 1_000, "ray": 2_000}
LIBRARIES = ("numpy", "pyarrow", "distributed", "ray")
SHUFFLE = ("threads", "local", "processes", "dask", "ray")
IMPORTED = {"dask": "distributed", "ray": "ray"}
NAMES = {
    "local": "local",
    "threads": "threads, in process",
    "processes": "ProcessPoolExecutor",
    "dask": "dask.distributed",
    "ray": "Ray",
}


class Memory:
    """Samples the memory of a process tree: private pages and shared objects, each once."""

    def __init__(self, pid: int) -> None:
        self.peak_bytes = 0
        self._root = psutil.Process(pid)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        self._stopped.set()
        self._thread.join()
        return self.peak_bytes

    def _watch(self) -> None:
        while not self._stopped.wait(SAMPLE_SECONDS):
            try:
                tree = [self._root, *self._root.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            rollups = [_rollup(process.pid) for process in tree]
            private = sum(r.get("Pss_Anon", 0) for r in rollups)
            mapped = sum(r.get("Pss_Shmem", 0) for r in rollups)
            # Objects that nobody maps at the moment are in no process.
            self.peak_bytes = max(self.peak_bytes, private + max(mapped, _stored(self._root.pid)))


def _rollup(pid: int) -> dict[str, int]:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return {}
    pairs = (line.split()[:2] for line in lines)
    return {name.rstrip(":"): int(kib) * 1024 for name, kib in pairs}


def _stored(pid: int) -> int:
    total = 0
    for path in Path("/dev/shm").glob(f"lake-runtime-{pid}-*/*"):
        try:
            total += path.stat().st_blocks * 512 if path.is_file() else 0
        except OSError:
            continue
    return total


def is_installed(python: str, name: str) -> bool:
    """Tell whether an interpreter can import what a contender needs."""
    if name not in IMPORTED:
        return True
    code = f"import importlib.util, sys; sys.exit(not importlib.util.find_spec({IMPORTED[name]!r}))"
    return subprocess.run([python, "-c", code], check=False).returncode == 0


def run(python: str, case: str, name: str, size: int) -> dict[str, Any]:
    """Run one contender in a process of its own."""
    process = subprocess.Popen(
        [python, "-m", "benchmarks.runtime_contenders", case, name, str(size)],
        cwd=HERE.parent,
        stdout=subprocess.PIPE,
        text=True,
    )
    memory = Memory(process.pid)
    printed = process.communicate()[0]
    peak_bytes = memory.stop()
    if process.returncode:
        raise RuntimeError(f"{case} {name} ended with {process.returncode}")
    print(f"{case} {name}: {printed.strip()[:150]} {peak_bytes / MIB:.0f} MiB", file=sys.stderr)
    return {**json.loads(printed.splitlines()[-1]), "peak_bytes": peak_bytes}


def alternate(
    python: str, case: str, sizes: dict[str, int], runs: int
) -> dict[str, list[dict[str, Any]]]:
    """Run all contenders of a case in turn, so that the machine's moods hit all of them."""
    present = [name for name in sizes if is_installed(python, name)]
    for name in [name for name in sizes if name not in present]:
        print(f"{NAMES[name]} is not installed: left out", file=sys.stderr)
    measured: dict[str, list[dict[str, Any]]] = {name: [] for name in present}
    for _ in range(runs):
        for name in present:
            measured[name].append(run(python, case, name, sizes[name]))
    return measured


def median(runs: Sequence[dict[str, Any]], figure: str) -> float:
    return statistics.median(run[figure] for run in runs)


def markdown(document: dict[str, Any]) -> str:
    """Return the tables of all cases."""
    lines = ["**Overhead of one task** (microseconds, median of runs, alternating)", ""]
    lines += ["| | asynchronous | CPU | synchronous |", "|---|---:|---:|---:|"]
    for name, runs in document["overhead"].items():
        figures = ("asynchronous_us", "cpu_us", "synchronous_us")
        cells = " | ".join(f"{median(runs, figure):,.0f}" for figure in figures)
        lines.append(f"| {NAMES[name]} | {cells} |")
    size = document["size_mib"]
    lines += ["", f"**Shuffle of {size:,} MiB** (hash, group, sort; 16 x 16, 2 workers)", ""]
    lines += ["| | CPU s | of threads' | wall s | peak MiB |", "|---|---:|---:|---:|---:|"]
    threads = median(document["shuffle"]["threads"], "cpu_seconds")
    for name, runs in document["shuffle"].items():
        cpu = median(runs, "cpu_seconds")
        lines.append(
            f"| {NAMES[name]} | {cpu:.2f} | {cpu / threads:.2f} "
            f"| {median(runs, 'wall_seconds'):.2f} | {median(runs, 'peak_bytes') / MIB:,.0f} |"
        )
    lines += ["", *verdicts(document), "", keys.markdown(document["keys"])]
    return "\n".join(lines)


def verdicts(document: dict[str, Any]) -> list[str]:
    """Return what was measured beside what is wanted."""
    shuffle = document["shuffle"]
    peers = [name for name in shuffle if name in IMPORTED or name == "processes"]
    cpu = {name: median(runs, "cpu_seconds") for name, runs in shuffle.items()}
    peak_mib = {name: median(runs, "peak_bytes") / MIB for name, runs in shuffle.items()}
    got = document["zero_copy"]
    overhead_us = median(document["overhead"]["local"], "asynchronous_us")
    rows = [
        ("overhead of a task, asynchronous, us", overhead_us, "<= 60"),
        ("shuffle: CPU, of threads'", cpu["local"] / cpu["threads"], "<= 1.10"),
        *((f"shuffle: CPU, of {NAMES[n]}'s", cpu["local"] / cpu[n], "< 1") for n in peers),
        (
            "shuffle: peak memory, of the leanest peer's",
            peak_mib["local"] / min(peak_mib[n] for n in peers),
            "<= 1",
        ),
        ("getting 1 GiB, ms", got["median_seconds"] * 1e3, "< 2"),
        ("getting 1 GiB: resident memory of its own, MiB", got["resident_bytes"] / MIB, "about 0"),
        *(
            (f"placements a second, 10,000 nodes, short of {short}, {phase}", rate, ">= 20,000")
            for short, rates in document["placements"].items()
            for phase, rate in rates.items()
        ),
    ]
    lines = ["**What is wanted**", "", "| | measured | wanted |", "|---|---:|---:|"]
    return lines + [f"| {what} | {_short(value)} | {wanted} |" for what, value, wanted in rows]


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2f}"


def placements() -> dict[str, dict[str, float]]:
    """Return placements per second by what nodes are short of, and when."""
    found = {}
    for short, slot_gib in (("slots", placement.SLOT_GIB), ("memory", placement.SLOT_GIB_SCARCE)):
        rate = placement.measure(nodes=10_000, jobs=200, placements=100_000, slot_gib=slot_gib)
        found[short] = {"filling": rate.fill_per_second, "steady": rate.steady_per_second}
    return found


def chart(document: dict[str, Any], path: Path) -> None:
    """Draw overhead, CPU and memory of all contenders."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(3, 1, figsize=(9, 7), layout="constrained")
    drawn = [
        ("overhead", "asynchronous_us", 1.0, "microseconds per task, asynchronous (log)"),
        ("shuffle", "cpu_seconds", 1.0, f"shuffle of {document['size_mib']} MiB: CPU-seconds"),
        ("shuffle", "peak_bytes", 1.0 / MIB, "the same: peak MiB, private and shared"),
    ]
    for panel, (case, figure_name, scale, title) in zip(panels, drawn, strict=True):
        names = list(document[case])
        values = [median(document[case][name], figure_name) * scale for name in names]
        colours = ["#1f6f8b" if name == "local" else "#b8c4cc" for name in names]
        panel.barh([NAMES[name] for name in names], values, color=colours)
        if case == "overhead":
            panel.set_xscale("log")
            panel.set_xlim(left=10)
        panel.invert_yaxis()
        panel.set_title(title, fontsize=10, loc="left")
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


def save(document: dict[str, Any], directory: Path) -> None:
    """Write `runtime.json`, `runtime.md` and `runtime.png`."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "runtime.json").write_text(json.dumps(document, indent=1) + "\n")
    (directory / "runtime.md").write_text(markdown(document))
    chart(document, directory / "runtime.png")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all cases and save their results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.runtime", description=__doc__)
    parser.add_argument("--size-mib", type=int, default=2048, help="bytes of the shuffle")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--python", default=sys.executable, help="interpreter with the peers")
    parser.add_argument("--without", action="append", choices=list(IMPORTED), default=[])
    parser.add_argument("--output", type=Path, default=HERE / "results")
    chosen = parser.parse_args(arguments)
    tasks = {name: n for name, n in OVERHEAD_TASKS.items() if name not in chosen.without}
    sizes = {name: chosen.size_mib * MIB for name in SHUFFLE if name not in chosen.without}
    load = os.getloadavg()[1]
    document: dict[str, Any] = {
        "commit": provenance.commit(),
        "versions": provenance.versions(LIBRARIES),
        "size_mib": chosen.size_mib,
        "overhead": alternate(chosen.python, "overhead", tasks, chosen.runs),
        "shuffle": alternate(chosen.python, "shuffle", sizes, chosen.runs),
        "zero_copy": run(chosen.python, "zero-copy", "local", 1 << 30),
        "keys": keys.measure(1 << 22),
        "placements": placements(),
    }
    document["load"] = [load, os.getloadavg()[1]]
    results = {tuple(r["result"]) for runs in document["shuffle"].values() for r in runs}
    if len(results) != 1:
        raise RuntimeError(f"the shuffles disagree: {results}")
    save(document, chosen.output)
    print(markdown(document))


if __name__ == "__main__":
    main()
