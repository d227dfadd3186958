"""Planning tables of very many files: for the first time, and after one more commit."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from benchmarks.cases import Case, Contender, peer
from benchmarks.many_manifests import append_one_file, prepare_many_manifests
from benchmarks.tables import Prepared

_MANIFESTS = 500
_FILES_PER_MANIFEST = 2000
_COLD, _WARM = "cold", "warm"
# What nothing is wrong with needs no work: the table as it is between two commits.
_CALM = ("--target-file-size", "2.6MB")


def _prepare(cache: Path, directory: Path, scale: float) -> Prepared:
    """Make the table once; before each run forget what the first plan kept, and commit a file."""
    del cache
    files = max(1, round(_FILES_PER_MANIFEST * scale))
    prepared = prepare_many_manifests(directory, _MANIFESTS, files)
    shutil.rmtree(directory / _COLD, ignore_errors=True)
    append_one_file(prepared)
    return prepared


def _plan(name: str, state: str, *arguments: str) -> Contender:
    program = str(Path(sys.executable).with_name("compact"))

    def command(prepared: Prepared) -> list[str]:
        place = f"XDG_STATE_HOME={prepared.directory / state}"
        return ["env", place, program, "plan", prepared.target, *arguments, "--json"]

    return Contender(name, command)


PLANNING_CASES = (
    Case(
        "many-manifests",
        "plan 1,000,000 data files in 500 manifests, 20 columns with statistics, 1,000 partitions",
        _prepare,
        (
            _plan("compact plan", _COLD),
            _plan("compact plan, on one machine's own", _COLD, "--runtime", "inline"),
            # The first of its runs finds nothing that was kept.
            _plan("compact plan, after one commit", _WARM, "--runtime", "inline"),
            _plan("compact plan, after one commit, calm", _WARM, "--runtime", "inline", *_CALM),
            peer("pyiceberg-plan"),
        ),
        "pyiceberg-plan",
    ),
)
